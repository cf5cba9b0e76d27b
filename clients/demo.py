"""Start a server, read the sample plates and whatever else is named, and end the server.

Prints a table, writes a contact sheet, and exits with 0 only when every sample was read right
and every other file could be read.

Examples:
  python -m clients.demo
  python -m clients.demo car.jpg plates/ --sheet out/demo.png
"""

from __future__ import annotations

import argparse
import csv
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clients.client import PlateClient
from clients.errors import ConfigurationError
from clients.files import load
from clients.options import ClientOptions
from clients.paths import expand
from clients.result import FileReading
from clients.sheet import Card, thumbnail, write_sheet
from clients.writers import printable
from lprnet.errors import LprnetError
from lprnet.image import DEFAULT_LIMITS, decode_image
from serving import ServerOptions, TritonServer
from serving.options import DEFAULT_REPOSITORY
from serving.signals import ending_signals

ROOT: Final = Path(__file__).resolve().parents[1]
SAMPLES: Final = ROOT / "samples"
MAX_CARDS: Final = 240
"""Pictures on the contact sheet; the table holds all."""


@dataclass(frozen=True)
class Sample:
    """A picture whose text is known.

    Attributes:
        file: its path.
        text: what must be read.
        region: country or state, for the eye.
    """

    file: str
    text: str
    region: str


def load_samples(folder: Path) -> list[Sample]:
    """Read `labels.tsv` (columns file, text, region, lines) of a folder.

    Raises:
        ConfigurationError: when there is none.
    """
    try:
        with (folder / "labels.tsv").open(encoding="utf-8", newline="") as stream:
            return [
                Sample(os.path.relpath(folder / row["file"]), row["text"], row["region"])
                for row in csv.DictReader(stream, delimiter="\t")
            ]
    except (OSError, KeyError) as error:
        raise ConfigurationError(f"no sample plates in {folder}: {error}") from error


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the demo."""
    add = parser.add_argument
    add("images", nargs="*", metavar="PATH", help="more files, folders or patterns to read")
    add(
        "--sheet",
        type=Path,
        default=Path("out/demo.png"),
        metavar="FILE",
        help="PNG to write (default: %(default)s)",
    )
    add(
        "--samples",
        type=Path,
        default=SAMPLES,
        metavar="FOLDER",
        help="plates with their texts in labels.tsv (default: the project's own)",
    )
    add(
        "--repository",
        type=Path,
        default=DEFAULT_REPOSITORY,
        metavar="FOLDER",
        help="model repository (default: the shipped one)",
    )


def run(args: argparse.Namespace) -> int:
    """Read everything.

    Returns:
        0, or 1 when a sample was read wrong or a file not at all.

    Raises:
        LprnetError: when the server does not start or fails.
    """
    samples = load_samples(args.samples)
    # Free ports: a server that runs already stays as it is.
    options = ServerOptions(args.repository, grpc_port=0, http_port=0, metrics_port=0)
    print("starting tritonserver ...", flush=True)
    with TritonServer(options) as server:
        print(f"ready after {server.start_s:.1f} s on {server.grpc_url}: {server.engine}\n")
        with PlateClient(server.grpc_url, ClientOptions(in_flight=4)) as client:
            begin_s = time.monotonic()
            sheet = _Sheet()
            right = _show_samples(client, samples, sheet)
            count, errors = _show_others(client, args.images, sheet)
            elapsed_s = time.monotonic() - begin_s
    heading = f"{right} of {len(samples)} samples read right"
    if count:
        heading += f", {count - errors:,} of {count:,} other pictures read"
    write_sheet(args.sheet, f"lprnet: {heading}", sheet.cards)
    print(f"\n{heading}, in {elapsed_s:.1f} s")
    shown = f" (the first {MAX_CARDS} pictures)" if sheet.left_out else ""
    print(f"contact sheet: {args.sheet}{shown}")
    return 0 if right == len(samples) and errors == 0 else 1


class _Sheet:
    """Collects cards until there are enough."""

    def __init__(self) -> None:
        self.cards: list[Card] = []
        self.left_out = 0

    def add(self, row: FileReading, expected: str | None = None) -> None:
        if len(self.cards) >= MAX_CARDS:
            self.left_out += 1
            return
        name = os.path.basename(row.file)
        if row.reading is None:
            self.cards.append(Card(row.error or "", "not read", "", name, good=False))
            return
        good = None if expected is None else row.reading.plate == expected
        score = f"{row.reading.confidence:.3f}"
        note = f"wrong ({score}): {expected}" if good is False else f"confidence {score}"
        picture = thumbnail(decode_image(load(row.file, DEFAULT_LIMITS)))
        self.cards.append(Card(picture, row.reading.plate or "(no plate)", note, name, good))


def _show_samples(client: PlateClient, samples: list[Sample], sheet: _Sheet) -> int:
    """Table with verdicts; returns how many are right."""
    print(f"{'sample':<28}{'region':<8}{'plate':<12}{'confidence':<12}{'expected':<12}")
    right = 0
    rows = client.iter_files(sample.file for sample in samples)
    for sample, row in zip(samples, rows, strict=True):
        good = row.reading is not None and row.reading.plate == sample.text
        right += good
        verdict = "OK" if good else "WRONG"
        print(f"{row.file:<28}{sample.region:<8}{_columns(row):<24}{sample.text:<12}{verdict}")
        sheet.add(row, sample.text)
    return right


def _show_others(client: PlateClient, images: list[str], sheet: _Sheet) -> tuple[int, int]:
    """Table of the user's own pictures; returns their number and that of errors."""
    count = errors = 0
    for row in client.iter_files(expand(images)):
        if count == 0:
            print(f"\n{'plate':<12}{'confidence':<12}picture")
        count += 1
        errors += row.error is not None
        print(f"{_columns(row):<24}{printable(row.file)}")
        sheet.add(row)
    return count, errors


def _columns(row: FileReading) -> str:
    if row.reading is None:
        return f"{row.error} "
    return f"{row.reading.plate:<11} {row.reading.confidence:<12.4f}"


def _interrupt(*_: object) -> None:
    for number in ending_signals():  # a second Ctrl-C must not leave a half-stopped server
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main(argv: list[str] | None = None) -> int:
    """Run the demo as a program: errors in one line, no process left after Ctrl-C or SIGTERM."""
    summary, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog="python -m clients.demo",
        description=summary,
        epilog=rest.strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    for number in ending_signals():
        signal.signal(number, _interrupt)
    try:
        return run(parser.parse_args(argv))
    except LprnetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
