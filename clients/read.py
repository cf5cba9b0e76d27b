"""Read plates from picture files through a running server.

Each file gets one row, in the order given; folders are listed in natural order (car9 before
car10), all their files but hidden ones. A file that is no readable picture has its reason in the
column `error`, and the exit code is 1 at the end. An empty plate is a picture without a plate.

Examples:
  lprnet read plate.jpg
  lprnet read plates/ 'more/*.png' --format tsv > plates.tsv
  lprnet read archive/ --recursive --output plates.csv
  lprnet read archive/ --recursive --output plates.csv --resume    (after an interruption)
  find . -name '*.jpg' -print0 | lprnet read - --null --format jsonl
  lprnet read gate.mp4 --boxes boxes.jsonl    (one row a vehicle: frames are fused)
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Final

from clients import parquet
from clients.arguments import add_server_arguments, client_from, fraction, whole
from clients.errors import ClientError, ConfigurationError, ServerUnavailable
from clients.output import Output, abandon_stdout
from clients.own_files import OwnFiles, held, real_output
from clients.paths import expand, lines_of
from clients.progress import Progress
from clients.result import FileReading
from clients.resume import RESUMABLE, Done, recover
from clients.tracks import TRACK_ROWS, fuse, parse_boxes
from clients.video import read_boxes
from clients.writers import FILE_ROWS, FORMATS, Row, open_writer

STDIN: Final = "-"
_ALL_FORMATS: Final = (*FORMATS, parquet.KIND)
_RESUMABLE: Final = (*RESUMABLE, parquet.KIND)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `lprnet read`."""
    add = parser.add_argument
    add("paths", nargs="+", metavar="PATH", help="file, folder or pattern; - for a list on stdin")
    add("--recursive", "-r", action="store_true", help="take the sub-folders of folders, too")
    add("--null", "-0", action="store_true", help="the list on stdin is separated by NULs")
    add(
        "--format",
        "-f",
        choices=_ALL_FORMATS,
        help="of the rows (default: by the suffix of --output, else table)",
    )
    add("--output", "-o", type=Path, metavar="FILE", help="write there instead of to stdout")
    add(
        "--resume",
        action="store_true",
        help="keep the rows that --output already holds and add the missing ones; files are known "
        "by the names under which they were given",
    )
    add(
        "--min-confidence",
        type=fraction,
        default=0.0,
        metavar="0..1",
        help="leave the plate empty where the confidence is lower (it is still shown)",
    )
    add(
        "--boxes",
        metavar="FILE",
        help="PATH is a video or camera: read the plates at these boxes, JSON lines like "
        '{"frame": 3, "track": "7", "box": [x, y, width, height]} (- for stdin), one row a track; '
        '{"frame": 4} tells that there is no box in that frame, so that tracks end in time',
    )
    add(
        "--patience",
        type=whole,
        default=50,
        metavar="FRAMES",
        help="a track without a box for so many frames is over (default: %(default)s)",
    )
    add("--quiet", "-q", action="store_true", help="no progress bar and no summary")
    add_server_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Read and write rows.

    Returns:
        0, or 1 when a row has an error.

    Raises:
        ClientError: for wrong use, or when the server is not there or fails.
    """
    kind = _format(args)
    args.output = real_output(args.output)
    if args.boxes is not None:
        return _read_video(args, kind)
    own = OwnFiles(args.output)
    own.check_inputs(args.paths)
    path = args.output
    if kind == parquet.KIND:
        path = _journal(args)
    hint = "; go on with --resume" if path is not None and kind in _RESUMABLE else ""
    with _told_of_a_full_disk(args.output, hint), held(path) as opened:
        if kind == parquet.KIND:
            kind = "jsonl"
            if args.resume:
                parquet.reopen(args.output)
        done = _earlier_rows(args, kind, path)
        errors = _read_files(args, own, done, kind, path, opened)
        if path != args.output:
            parquet.finish(args.output)
    return 1 if errors else 0


def _read_files(
    args: argparse.Namespace,
    own: OwnFiles,
    done: Done,
    kind: str,
    path: Path | None,
    opened: Callable[[int], None],
) -> int:
    """Write the rows that are missing; returns how many of all have an error."""
    files = done.remaining(_files(args, own))
    first = next(files, None)
    if first is None and done.count == 0:
        deeper = "" if args.recursive else " (sub-folders are read with --recursive)"
        raise ConfigurationError(f"no file to read in {' '.join(args.paths)}{deeper}")
    if first is None:
        return done.errors
    hint = "; go on with --resume" if path is not None and kind in RESUMABLE else ""
    with ExitStack() as stack:
        client = stack.enter_context(client_from(args))
        source = stack.enter_context(closing(client.iter_files(chain([first], files))))
        begin_s = time.monotonic()
        rows = _started(source)  # before a file is emptied for nothing: there may be no server
        output = stack.enter_context(Output(path, append=args.resume, opened=opened))
        writer = open_writer(kind, output.stream, FILE_ROWS, heading=done.size_bytes == 0)
        stack.callback(writer.close)
        progress = stack.enter_context(_progress(args, begin_s, done.count))
        try:
            for row in rows:
                writer.write(_above(row, args.min_confidence))
                progress.add(failed=row.error is not None)
        except ClientError as error:
            raise ClientError(f"{error} ({progress.count:,} rows written{hint})") from error
    return progress.errors + done.errors


@contextmanager
def _told_of_a_full_disk(path: Path | None, hint: str) -> Iterator[None]:
    """OSErrors of pictures are rows: what arrives here is about the output."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        where = "the rows" if path is None else path
        if path is None:
            abandon_stdout()
        raise ClientError(f"cannot write {where}: {error.strerror}{hint}") from error


def _read_video(args: argparse.Namespace, kind: str) -> int:
    if len(args.paths) != 1 or args.resume or kind == parquet.KIND:
        raise ConfigurationError("--boxes takes one video, and neither --resume nor parquet")
    own = OwnFiles(args.output)
    for source in (args.boxes, args.paths[0]):
        own.check_inputs([source])
    with (
        _told_of_a_full_disk(args.output, ""),
        held(args.output) as opened,
        ExitStack() as stack,
    ):
        stream = sys.stdin
        if args.boxes != STDIN:
            try:
                stream = stack.enter_context(open(args.boxes, encoding="utf-8"))
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                raise ConfigurationError(f"cannot read {args.boxes}: {reason}") from error
        client = stack.enter_context(client_from(args))
        begin_s = time.monotonic()
        readings = read_boxes(client, args.paths[0], parse_boxes(lines_of(stream)))
        rows = _started(fuse(readings, patience_frames=args.patience))
        output = stack.enter_context(Output(args.output, opened=opened))
        writer = open_writer(kind, output.stream, TRACK_ROWS)
        stack.callback(writer.close)
        progress = stack.enter_context(_progress(args, begin_s, 0, "track"))
        try:
            for row in rows:
                sure = row.confidence >= args.min_confidence
                writer.write(row if sure else replace(row, plate=""))
                progress.add()
        except ClientError as error:
            raise ClientError(f"{error} ({progress.count:,} tracks written)") from error
    return 0


def _format(args: argparse.Namespace) -> str:
    if args.format is not None:
        return str(args.format)
    suffix = "" if args.output is None else args.output.suffix.lower().removeprefix(".")
    return suffix if suffix in _ALL_FORMATS else "table"


def _journal(args: argparse.Namespace) -> Path:
    """Path of the rows that become the Parquet file in the end."""
    if args.output is None:
        raise ConfigurationError("parquet needs --output FILE")
    parquet.require_pyarrow()
    if os.path.exists(args.output) and not os.path.isfile(args.output):
        raise ConfigurationError(f"cannot write {args.output} as parquet: it is no regular file")
    return parquet.journal_of(args.output)


def _earlier_rows(args: argparse.Namespace, kind: str, path: Path | None) -> Done:
    if not args.resume:
        return Done()
    if path is None or kind not in RESUMABLE:
        raise ConfigurationError(
            f"--resume needs --output FILE in one of the formats {', '.join(_RESUMABLE)}"
        )
    return recover(path, kind)


def _files(args: argparse.Namespace, own: OwnFiles) -> Iterator[str]:
    """All pictures; not the rows themselves, which may grow in the folder that is read."""
    for path in args.paths:
        if path == STDIN:
            files = lines_of(sys.stdin, b"\0" if args.null else b"\n")
        else:
            files = expand([path], recursive=args.recursive)
        yield from (file for file in files if file not in own)


def _started(rows: Iterator[Row]) -> Iterator[Row]:
    """The same rows, the first one already read."""
    try:
        return chain(list(islice(rows, 1)), rows)
    except ServerUnavailable as error:
        raise ServerUnavailable(
            f"{error}. Start a server with `make serve`, or name one with --url HOST:PORT"
        ) from error


def _progress(args: argparse.Namespace, begin_s: float, done: int, unit: str = "file") -> Progress:
    """A bar, unless the rows themselves run over the same screen or nobody looks."""
    shown = not args.quiet and sys.stderr.isatty()
    bar = shown and (args.output is not None or not sys.stdout.isatty())
    total = None
    if bar and args.boxes is None and STDIN not in args.paths:
        total = sum(1 for _ in expand(args.paths, recursive=args.recursive))
    return Progress(begin_s, total=total, done=done, bar=bar, summary=shown, unit=unit)


def _above(row: FileReading, min_confidence: float) -> FileReading:
    if row.reading is None or row.reading.confidence >= min_confidence:
        return row
    return replace(row, reading=replace(row.reading, plate="", char_confidences=()))
