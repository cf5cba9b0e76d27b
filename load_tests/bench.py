"""Measure engine, ensembles and peers in one run on this machine.

Every case is measured for a short spell, round after round; figures are medians over the rounds.
In each round one picture at a time comes first, before batches and floods.
Writes report.html, report.json, README_tables.md and curves as PNG. The peer (fast-plate-ocr,
in-process and behind FastAPI) takes part where --peer-dir holds its model. Real plates are read
where --pictures or the environment variable LPRNET_DATA names some, else the samples.

Examples:
  lprnet bench
  lprnet bench --quick --out out/quick
  lprnet bench --pictures my_plates --rounds 9 --seconds 2
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Final

from tqdm import tqdm

from load_tests import cases as names
from load_tests import peer
from load_tests.acceptance import judge
from load_tests.bench_report import Result, machine, print_summary, write_report
from load_tests.cases import Case, all_cases, in_turn
from load_tests.figures import Spell, summarise
from load_tests.local_server import bench_server
from load_tests.measure import Bench
from load_tests.pictures import ROOT, PictureSet, find_pictures
from lprnet import contract
from lprnet.errors import LprnetError

QUICK_S: Final = 0.15
QUICK_BURSTS: Final = 5
MIN_PICTURES: Final = 8
REST_S: Final = 1.0
"""A flood slows what comes alone behind it for so long (load_tests/NOTES.md)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `lprnet bench`."""
    add = parser.add_argument
    add("--out", type=Path, default=ROOT / "out" / "bench", help="folder of the report")
    add("--pictures", type=Path, metavar="FOLDER", help="plates to read (see above)")
    add("--count", type=int, default=1000, help="pictures at most (default: %(default)s)")
    add("--seconds", type=float, default=0.8, help="of one spell (default: %(default)g)")
    add("--rounds", type=int, default=5, help="spells of each case (default: %(default)s)")
    add(
        "--bursts",
        type=int,
        default=200,
        metavar="N",
        help="bursts of single pictures for each size; 0: none (default: %(default)s)",
    )
    add("--repository", type=Path, metavar="FOLDER", help="model repository (default: shipped)")
    add("--profile", default="auto", help="engine, as for `lprnet serve` (default: %(default)s)")
    add("--peer-dir", type=Path, default=peer.DEFAULT_DIR, help="folder of the peer's model")
    add("--no-peer", action="store_true", help="leave the peer out")
    add("--quick", action="store_true", help="one short round without the curves' middle")


def run(args: argparse.Namespace) -> int:
    """Measure and write the report.

    Raises:
        LprnetError: for wrong use, found before anything is measured, or when the server fails.
    """
    if not 0 < args.seconds < math.inf or args.rounds < 1:  # nan is not above 0 either
        raise LprnetError("--seconds must be above 0 and finite, and --rounds at least 1")
    if args.bursts < 0:
        raise LprnetError("--bursts takes 0 or more")
    if args.count < MIN_PICTURES:
        raise LprnetError(f"--count takes {MIN_PICTURES} or more")
    _prepare(args.out)
    with_peer = not args.no_peer and peer.present(args.peer_dir)
    pictures = find_pictures(64 if args.quick else args.count, args.pictures)
    seconds, rounds = (QUICK_S, 1) if args.quick else (args.seconds, args.rounds)
    with (
        bench_server(args.repository, args.profile) as server,
        Bench(server, pictures, args.peer_dir if with_peer else None) as bench,
    ):
        engine = bench.engine_parameters is not None
        accuracy = _accuracy(bench, pictures, with_peer)
        cases = all_cases(engine=engine, peer=with_peer, quick=args.quick)
        spells = _measure(bench, cases, seconds, rounds, 0.0 if args.quick else REST_S)
        result = Result(
            machine=machine(),
            engine=server.engine,
            pictures=pictures.source,
            picture_count=len(pictures.pictures),
            picture_bytes=pictures.mean_bytes,
            seconds=seconds,
            rounds=rounds,
            figures={case: summarise(spells[case]) for case in cases},
            stages=bench.stages,
            bursts=bench.bursts(min(args.bursts, QUICK_BURSTS) if args.quick else args.bursts),
            accuracy=accuracy,
            verdicts=[],
        )
    result.verdicts.extend(judge(result.figures, accuracy))
    write_report(result, args.out)
    print_summary(result)
    print(f"report: {args.out / 'report.html'}")
    return 0


def _prepare(folder: Path) -> None:
    """Make the folder and write to it once: the report comes after minutes of measuring."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"report")
    except OSError as error:
        raise LprnetError(f"cannot write into --out {folder}: {error.strerror}") from error


def _accuracy(bench: Bench, pictures: PictureSet, with_peer: bool) -> dict[str, tuple[int, int]]:
    labels = [picture.label for picture in pictures.pictures]
    targets = [contract.IMAGE_ENSEMBLE, *([names.PEER] if with_peer else [])]
    return {
        target: (
            sum(text == label for text, label in zip(bench.texts(target), labels, strict=True)),
            sum(label is not None for label in labels),
        )
        for target in targets
    }


def _measure(
    bench: Bench, cases: list[Case], seconds: float, rounds: int, rest_s: float
) -> dict[Case, list[Spell]]:
    spells: dict[Case, list[Spell]] = defaultdict(list)
    hidden = not sys.stderr.isatty()
    with tqdm(total=rounds * len(cases), desc="bench", unit="spell", disable=hidden) as bar:
        for number in range(rounds):
            time.sleep(rest_s)  # after the last round's floods
            for case in in_turn(cases, number):
                spells[case].append(bench.spell(case, seconds))
                bar.update()
    return spells
