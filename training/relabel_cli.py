"""Find wrong labels with a recogniser, or label pictures that have none.

Examples:
  lprnet data relabel my_plates --weights best.pt --out wrong.tsv --html wrong.html
  lprnet train --config small --train my_plates --set 'data.exclude=["wrong.tsv"]'
  lprnet data relabel --pseudo my_unlabelled --weights best.pt --out my_pseudo

A crop is read plainly, and where the answer counts, again under mild changes of view and light.
A label is listed when the answers agree with one another, confidently, and contradict it. Look at
some of the pictures (--html) before you train without them: a recogniser that is new to a kind of
plate is wrong more often than its labels. Labels that differ in O/0 or I/1 only are left alone.

With --pseudo, pictures without labels get those answers, as a set in TAO layout whose manifest
marks them as pseudo-labels: training draws them less often than given ones (data.trusted_boost).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from lprnet.errors import LprnetError
from lprnet.image import decode_image
from training.checkpoint import load_checkpoint
from training.data.check_report import SHOWN, contact_sheet
from training.data.convert import convert_to_tao
from training.data.records import Record, read_set, unlabelled
from training.data.relabel import (
    Jury,
    Opinion,
    Thresholds,
    pseudo_labels,
    write_exclusions,
    wrong_labels,
)
from training.data.suspects import Suspect
from training.evaluation.options import positive, set_names
from training.evaluation.pictures import Picture
from training.evaluation.result import write_text
from training.shipped import named_weights


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `lprnet data relabel`."""
    defaults = Thresholds()
    parser.add_argument("sets", nargs="+", type=Path, metavar="SET", help="labelled sets")
    parser.add_argument(
        "--weights",
        type=named_weights,
        required=True,
        metavar="CKPT",
        help="what reads; 'shipped' for our own",
    )
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="FILE",
        help="list of contradicted labels (TSV); with --pseudo a new folder",
    )
    parser.add_argument(
        "--pseudo", action="store_true", help="the sets are folders of pictures without labels"
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="the listed crops as pictures")
    parser.add_argument(
        "--min-confidence",
        type=float,
        default=defaults.confidence,
        metavar="C",
        help="mean confidence of the agreeing answers, 0..1 (default: %(default)s)",
    )
    parser.add_argument(
        "--min-agreement",
        type=float,
        default=defaults.agreement,
        metavar="A",
        help="share of the views that give one answer, 0..1 (default: %(default)s)",
    )
    parser.add_argument(
        "--min-margin",
        type=float,
        default=defaults.margin,
        metavar="M",
        help="ln P(answer) - ln P(label), mean over the views (default: %(default)s)",
    )
    parser.add_argument(
        "--views",
        type=positive,
        default=8,
        metavar="N",
        help="how often a crop is asked about, the plain view included (default: %(default)s)",
    )
    parser.add_argument(
        "--lookalikes", action="store_true", help="list labels wrong in O/0 or I/1 only as well"
    )
    parser.add_argument(
        "--threads", type=positive, default=1, metavar="N", help="CPU threads (default: 1)"
    )


def run(args: argparse.Namespace) -> int:
    """List or label; returns 0."""
    import cv2
    import torch

    for name in ("min_confidence", "min_agreement"):
        if not 0 <= getattr(args, name) <= 1:
            raise LprnetError(f"--{name.replace('_', '-')} must be within 0..1")
    if args.pseudo and args.html is not None:
        raise LprnetError("--html shows contradicted labels: with --pseudo there are none")
    thresholds = Thresholds(args.min_agreement, args.min_confidence, args.min_margin)
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    jury = Jury(load_checkpoint(args.weights), args.views)
    return _pseudo(args, jury, thresholds) if args.pseudo else _wrong(args, jury, thresholds)


def _wrong(args: argparse.Namespace, jury: Jury, thresholds: Thresholds) -> int:
    names, records = _labelled(args.sets)
    found = wrong_labels(jury, records, thresholds, lookalikes=args.lookalikes)
    write_exclusions(found, args.out)
    print(f"{len(found)} of {len(records)} labels contradicted: {args.out}")
    for o in found[:SHOWN]:
        print(f"  {o.confidence:.3f} {o.record.path} labelled {o.record.text}, read {o.read}")
    if args.html is not None:
        write_text(args.html, contact_sheet([_suspect(names, o) for o in found]))
    return 0


def _labelled(roots: Sequence[Path]) -> tuple[dict[Path, str], list[Record]]:
    """Set name by folder, and all records."""
    by_set = [read_set(root) for root in roots]
    return dict(zip(roots, set_names(roots), strict=True)), [r for s in by_set for r in s]


def _suspect(names: dict[Path, str], opinion: Opinion) -> Suspect:
    path = opinion.record.path
    name = next(name for root, name in names.items() if root in path.parents)
    picture = Picture(decode_image(path.read_bytes()))
    return Suspect(name, opinion.record, picture, opinion.read, opinion.confidence)


def _pseudo(args: argparse.Namespace, jury: Jury, thresholds: Thresholds) -> int:
    records = [record for root in args.sets for record in unlabelled(root)]
    found = pseudo_labels(jury, records, thresholds)
    if not found:
        raise LprnetError(
            f"not one of {len(records)} pictures was read with enough certainty: look at some of "
            "them, or lower --min-confidence"
        )
    labelled = [
        Record(o.record.path, o.read, region="", source=o.record.source, trusted=False)
        for o in found
    ]
    convert_to_tao(labelled, args.out, jury.spec.charset)
    print(f"{len(labelled)} of {len(records)} pictures labelled: {args.out}")
    return 0
