"""Rows of `lprnet read` in every format, written as they come."""

from __future__ import annotations

import csv
import io
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, TextIO

from clients.errors import ConfigurationError
from clients.result import FileReading

COLUMNS: Final = ("file", "plate", "confidence", "error")
FORMATS: Final = ("table", "tsv", "csv", "json", "jsonl")

_TSV_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_TABLE_HEAD_ROWS: Final = 200
_DECIMALS: Final = 4
_FLUSH_S: Final = 0.2


class Output:
    """A file, or stdout, as a stream that `open_writer` takes.

    Args:
        path: the file, or None for stdout.
        append: keep what the file holds.

    Raises:
        ConfigurationError: when the file cannot be written.
    """

    stream: TextIO

    def __init__(self, path: Path | None, *, append: bool = False) -> None:
        self._path = path
        if path is None:
            self.stream = sys.stdout
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape", newline="")
        else:
            try:
                self.stream = open(  # noqa: SIM115 - closed by __exit__
                    path,
                    "a" if append else "w",
                    encoding="utf-8",
                    errors="surrogateescape",
                    newline="",
                )
            except OSError as error:
                raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error
        self._flushed_s = time.monotonic()

    def flush_in_time(self) -> None:
        """Hand on what was written, at most a few times a second."""
        now_s = time.monotonic()
        if now_s - self._flushed_s > _FLUSH_S:
            self.stream.flush()
            self._flushed_s = now_s

    def __enter__(self) -> Output:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._path is None:
            self.stream.flush()
        else:
            self.stream.close()


class Writer(Protocol):
    """Takes rows in order; `close` ends the document, not the stream."""

    def write(self, row: FileReading) -> None: ...
    def close(self) -> None: ...


def open_writer(kind: str, stream: TextIO, *, heading: bool = True) -> Writer:
    """Writer of a format in FORMATS.

    Args:
        kind: the format.
        stream: where to; opened with newline="" and errors="surrogateescape", since a file
            name may be no valid UTF-8.
        heading: begin with the column names (tsv, csv); off when rows are added to a file.
    """
    if kind == "table":
        return TableWriter(stream)
    if kind == "json":
        return JsonWriter(stream)
    line, head = {"tsv": (tsv_line, tsv_head()), "csv": (csv_line, csv_head())}.get(
        kind, (json_line, "")
    )
    return LineWriter(stream, line, head if heading else "")


def tsv_head() -> str:
    """First line of a TSV."""
    return "\t".join(COLUMNS) + "\n"


def csv_head() -> str:
    """First line of a CSV."""
    return _csv(COLUMNS)


def tsv_line(row: FileReading) -> str:
    """Backslash, tab and line ends within a field are written as `\\\\`, `\\t`, `\\n`, `\\r`."""
    return "\t".join(field.translate(_TSV_ESCAPES) for field in _fields(row)) + "\n"


def csv_line(row: FileReading) -> str:
    """RFC 4180 quoting, lines ended by LF."""
    return _csv(_fields(row))


def json_line(row: FileReading) -> str:
    """One JSON object and LF."""
    return _json(row) + "\n"


class LineWriter:
    """A line a row, after a heading."""

    def __init__(self, stream: TextIO, line: Callable[[FileReading], str], heading: str) -> None:
        self._stream = stream
        self._line = line
        stream.write(heading)

    def write(self, row: FileReading) -> None:
        """Append a row."""
        self._stream.write(self._line(row))

    def close(self) -> None:
        """Nothing ends such a document."""


class JsonWriter:
    """A JSON array, one object a line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._separator = "[\n"

    def write(self, row: FileReading) -> None:
        """Append a row."""
        self._stream.write(self._separator + _json(row))
        self._separator = ",\n"

    def close(self) -> None:
        """End the array."""
        self._stream.write("[]\n" if self._separator == "[\n" else "\n]\n")


class TableWriter:
    """Columns for the eye; their width follows from the first rows, which wait until then."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._head: list[tuple[str, ...]] | None = [COLUMNS]
        self._widths: list[int] = []

    def write(self, row: FileReading) -> None:
        """Append a row."""
        cells = tuple(map(printable, _fields(row)))
        if self._head is None:
            self._put(cells)
            return
        self._head.append(cells)
        if len(self._head) > _TABLE_HEAD_ROWS:
            self.close()

    def close(self) -> None:
        """Write what waits."""
        rows, self._head = self._head, None
        if rows is None:
            return
        self._widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for cells in rows:
            self._put(cells)

    def _put(self, cells: tuple[str, ...]) -> None:
        padded = (cell.ljust(width) for cell, width in zip(cells, self._widths, strict=True))
        self._stream.write("  ".join(padded).rstrip() + "\n")


def _fields(row: FileReading) -> tuple[str, str, str, str]:
    if row.reading is None:
        return row.file, "", "", row.error or ""
    return row.file, row.reading.plate, f"{row.reading.confidence:.{_DECIMALS}f}", row.error or ""


def _csv(fields: Iterable[str]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(fields)  # told to end lines by CR LF, it quotes a CR in a name too
    return line.getvalue().removesuffix("\r\n") + "\n"


def as_object(row: FileReading) -> dict[str, Any]:
    """A row as JSON values; without a reading its fields are null."""
    reading = row.reading
    return {
        "file": row.file,
        "plate": None if reading is None else reading.plate,
        "confidence": None if reading is None else round(reading.confidence, _DECIMALS),
        "char_confidences": None
        if reading is None
        else [round(value, _DECIMALS) for value in reading.char_confidences],
        "error": row.error,
    }


def _json(row: FileReading) -> str:
    # JSON must be valid UTF-8: a file name that is not keeps its bytes as \udcXX escapes.
    is_utf8 = not any("\udc80" <= c <= "\udcff" for c in row.file)
    return json.dumps(as_object(row), ensure_ascii=not is_utf8)


def printable(text: str) -> str:
    """Text with escapes for characters that a terminal would act upon or cannot show."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
