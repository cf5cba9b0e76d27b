"""Rows of `lprnet read` in every format, written as they come."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TextIO, TypeVar

from clients.result import FileReading

FORMATS: Final = ("table", "tsv", "csv", "json", "jsonl")
"""Those that need no more than a stream; `clients.parquet` is another one."""

Row = TypeVar("Row")
Taken = TypeVar("Taken", contravariant=True)

_TSV_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_TABLE_HEAD_ROWS: Final = 200
_DECIMALS: Final = 4


@dataclass(frozen=True)
class Layout(Generic[Row]):
    """What a kind of row looks like.

    Attributes:
        columns: names of the cells.
        cells: a row as text, one a column.
        as_object: a row as JSON values.
    """

    columns: tuple[str, ...]
    cells: Callable[[Row], tuple[str, ...]]
    as_object: Callable[[Row], dict[str, Any]]


class Writer(Protocol[Taken]):
    """Takes rows in order; `close` ends the document, not the stream."""

    def write(self, row: Taken) -> None: ...
    def close(self) -> None: ...


def open_writer(
    kind: str, stream: TextIO, layout: Layout[Row], *, heading: bool = True
) -> Writer[Row]:
    """Writer of a format in FORMATS.

    Args:
        kind: the format.
        layout: of the rows.
        stream: where to; opened with newline="" and errors="surrogateescape", since a file
            name may be no valid UTF-8.
        heading: begin with the column names (tsv, csv); off when rows are added to a file.
    """
    if kind == "table":
        return TableWriter(stream, layout)
    if kind == "json":
        return JsonWriter(stream, layout)
    line = {"tsv": tsv_line, "csv": csv_line}.get(kind)
    if line is None:
        return LineWriter(stream, lambda row: _json(layout.as_object(row)) + "\n", "")
    head = line(layout.columns) if heading else ""
    return LineWriter(stream, lambda row: line(layout.cells(row)), head)


def tsv_line(cells: Iterable[str]) -> str:
    """Backslash, tab and line ends within a cell are written as `\\\\`, `\\t`, `\\n`, `\\r`."""
    return "\t".join(cell.translate(_TSV_ESCAPES) for cell in cells) + "\n"


def csv_line(cells: Iterable[str]) -> str:
    """RFC 4180 quoting, lines ended by LF."""
    line = io.StringIO()
    csv.writer(line).writerow(cells)  # told to end lines by CR LF, it quotes a CR in a name too
    return line.getvalue().removesuffix("\r\n") + "\n"


class LineWriter(Generic[Row]):
    """A line a row, after a heading."""

    def __init__(self, stream: TextIO, line: Callable[[Row], str], heading: str) -> None:
        self._stream = stream
        self._line = line
        stream.write(heading)

    def write(self, row: Row) -> None:
        """Append a row."""
        self._stream.write(self._line(row))

    def close(self) -> None:
        """Nothing ends such a document."""


class JsonWriter(Generic[Row]):
    """A JSON array, one object a line."""

    def __init__(self, stream: TextIO, layout: Layout[Row]) -> None:
        self._stream = stream
        self._layout = layout
        self._separator = "[\n"

    def write(self, row: Row) -> None:
        """Append a row."""
        self._stream.write(self._separator + _json(self._layout.as_object(row)))
        self._separator = ",\n"

    def close(self) -> None:
        """End the array."""
        self._stream.write("[]\n" if self._separator == "[\n" else "\n]\n")


class TableWriter(Generic[Row]):
    """Columns for the eye; their width follows from the first rows, which wait until then."""

    def __init__(self, stream: TextIO, layout: Layout[Row]) -> None:
        self._stream = stream
        self._layout = layout
        self._head: list[tuple[str, ...]] | None = [layout.columns]
        self._widths: list[int] = []

    def write(self, row: Row) -> None:
        """Append a row."""
        cells = tuple(map(printable, self._layout.cells(row)))
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


def _json(values: dict[str, Any]) -> str:
    # JSON must be valid UTF-8: a file name that is not keeps its bytes as \udcXX escapes.
    text = json.dumps(values, ensure_ascii=False)
    if any("\ud800" <= c <= "\udfff" for c in text):
        return json.dumps(values)
    return text


def printable(text: str) -> str:
    """Text with escapes for characters that a terminal would act upon or cannot show."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _file_cells(row: FileReading) -> tuple[str, ...]:
    if row.reading is None:
        return row.file, "", "", row.error or ""
    return row.file, row.reading.plate, decimals(row.reading.confidence), row.error or ""


def _file_object(row: FileReading) -> dict[str, Any]:
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


def decimals(value: float) -> str:
    """A confidence as text."""
    return f"{value:.{_DECIMALS}f}"


FILE_ROWS: Final = Layout(("file", "plate", "confidence", "error"), _file_cells, _file_object)
"""One row a picture file."""
