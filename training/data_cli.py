"""Check, clean and convert labelled sets.

Examples:
  lprnet data check ../shared/data/train/* --against ../shared/data/val/*
  lprnet data check my_plates --onnx out/model.onnx --tsv out/suspects.tsv --html out/suspects.html
  lprnet data relabel my_plates --weights shipped --out out/wrong.tsv --html out/wrong.html
  lprnet data convert autoriaNumberplateOcrEu-2020-10-09 out/eu_tao

`check` names unreadable pictures, labels that are missing, unreadable or shared by two pictures,
characters outside the charset, empty and over-long texts, duplicates within and across the sets,
and mixed-up O/0 and I/1. With a recogniser it also lists the labels that it contradicts with
confidence. It exits with 1 when training could not use a record, or when a set shares a picture
with one that is held out (--against).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from lprnet.charset import Charset
from lprnet.errors import LprnetError
from lprnet.plate_spec import DEFAULT_SPEC, PlateSpec
from training import relabel_cli
from training.data import check_report
from training.data.check import SetFacts, check_set
from training.data.convert import convert_to_tao
from training.data.duplicates import Item, Pair, near_duplicates, same_bytes, shared_plates
from training.data.records import read_set, read_with_faults
from training.data.suspects import find_suspects, write_tsv
from training.evaluation.options import add_model_arguments, load_sets, open_models, set_names
from training.evaluation.result import write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `lprnet data`."""
    verbs = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = verbs.add_parser(
        "check",
        help="find what is wrong with labelled sets",
        epilog="example:\n  lprnet data check train/eu --against val/eu --weights best.pt",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument("sets", nargs="+", type=Path, metavar="SET", help="labelled sets")
    check.add_argument(
        "--against",
        nargs="+",
        type=Path,
        default=[],
        metavar="SET",
        help="held-out sets: checked too, and no picture of theirs may be in the others",
    )
    check.add_argument(
        "--characters", type=Path, metavar="FILE", help="TAO characters file (default: 0-9 A-Z)"
    )
    check.add_argument(
        "--no-similar", action="store_true", help="find identical files only, not similar looks"
    )
    add_model_arguments(check)
    check.add_argument(
        "--min-confidence",
        type=float,
        default=0.9,
        metavar="C",
        help="a label is suspicious when it is contradicted with at least this (default: 0.9)",
    )
    check.add_argument("--tsv", type=Path, metavar="FILE", help="write the suspicious labels")
    check.add_argument("--html", type=Path, metavar="FILE", help="the same with their pictures")
    relabel_cli.add_arguments(
        verbs.add_parser(
            "relabel",
            help="find wrong labels with a recogniser, or label pictures that have none",
            epilog=relabel_cli.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
    )
    convert = verbs.add_parser(
        "convert",
        help="write a set in TAO layout with a manifest",
        epilog="example:\n  lprnet data convert autoriaNumberplateOcrEu-2020-10-09 out/eu_tao",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    convert.add_argument("set", type=Path, metavar="SET", help="a labelled set of any layout")
    convert.add_argument("out", type=Path, metavar="OUT", help="a new folder")
    convert.add_argument(
        "--characters", type=Path, metavar="FILE", help="TAO characters file (default: 0-9 A-Z)"
    )


def run(args: argparse.Namespace) -> int:
    """Check, relabel or convert; returns 1 when a check found faults."""
    if args.action == "relabel":
        return relabel_cli.run(args)
    if args.action == "convert":
        charset = _charset(args.characters)
        records = read_set(args.set)
        convert_to_tao(records, args.out, charset)
        print(f"{len(records)} crops in {args.out}")
        return 0
    return _check(args)


def _charset(path: Path | None) -> Charset:
    return DEFAULT_SPEC.charset if path is None else Charset.from_file(path)


def _check(args: argparse.Namespace) -> int:
    wants_model = bool(args.weights or args.onnx)
    if (args.tsv is not None or args.html is not None) and not wants_model:
        raise LprnetError("--tsv and --html list suspicious labels: name --weights or --onnx too")
    if len(args.weights) + len(args.onnx) > 1:
        raise LprnetError("one recogniser judges the labels: name one --weights or one --onnx")
    spec = PlateSpec(charset=_charset(args.characters))
    roots = [*args.sets, *args.against]
    names = set_names(roots)
    held_out = set(names[len(args.sets) :])
    facts = [_facts(name, root, spec) for name, root in zip(names, roots, strict=True)]
    for found in facts:
        print(*check_report.set_lines(found), sep="\n")
    print(*check_report.lookalike_lines(facts), sep="\n")
    pairs = _duplicates(facts, similar=not args.no_similar)
    if wants_model:
        _suspects(args, roots)
    faults = sum(found.faults for found in facts)
    leaks = sum((p.first[0] in held_out) != (p.second[0] in held_out) for p in pairs)
    print(f"{faults} fault(s), {leaks} picture(s) shared with held-out sets")
    return 1 if faults or leaks else 0


def _facts(name: str, root: Path, spec: PlateSpec) -> SetFacts:
    records, label_faults = read_with_faults(root)
    return check_set(name, root, records, spec, label_faults)


def _duplicates(facts: Sequence[SetFacts], *, similar: bool) -> list[Pair]:
    """Print duplicates; returns those that are certain."""
    items = [
        Item(found.name, record, digest, look)
        for found in facts
        for record, digest, look in zip(
            found.records, found.digests, found.fingerprints, strict=True
        )
    ]
    pairs = same_bytes(items)
    print(*check_report.pair_lines("identical files", pairs), sep="\n")
    if similar:
        near = near_duplicates(items)
        sure = [pair for pair in near if pair.certain]
        print(*check_report.pair_lines("pictures that look the same", sure), sep="\n")
        doubtful = [pair for pair in near if not pair.certain]
        title = "look the same, labels one character apart"
        print(*check_report.pair_lines(title, doubtful), sep="\n")
        pairs += sure
    for (first, second), plates in shared_plates(items).items():
        shown = ", ".join(plates[: check_report.SHOWN])
        print(f"texts in both {first} and {second}: {len(plates)}: {shown}")
    return pairs


def _suspects(args: argparse.Namespace, roots: Sequence[Path]) -> None:
    sets = load_sets(roots)
    total = sum(len(labelled.records) for labelled in sets)
    (reader,) = open_models(args)
    suspects = find_suspects(reader, sets, args.min_confidence)
    print(f"{reader.name} ({reader.description})")
    print(*check_report.suspect_lines(suspects, total), sep="\n")
    if args.tsv is not None:
        write_tsv(suspects, args.tsv)
    if args.html is not None:
        write_text(args.html, check_report.contact_sheet(suspects))
