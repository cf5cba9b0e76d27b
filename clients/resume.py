"""What an interrupted `lprnet read` has already written, so that it can go on from there."""

from __future__ import annotations

import csv
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from clients.errors import ConfigurationError
from clients.writers import FILE_ROWS, csv_line, tsv_line

COLUMNS: Final = FILE_ROWS.columns
RESUMABLE: Final = ("tsv", "csv", "jsonl")
_LONGEST_FIELD: Final = 2**31 - 1  # characters; a name from a list may have any number

_UNESCAPED: Final = {"\\\\": "\\", "\\t": "\t", "\\n": "\n", "\\r": "\r"}
_ESCAPE: Final = re.compile(r"\\[\\tnr]")


class _Row(NamedTuple):
    file: str
    has_error: bool


class Done:
    """Files that have their row. Holds 16 bytes of hash a file, not its name.

    Attributes:
        count, errors: rows, and those with an error.
        size_bytes: of the file up to the end of the last complete row; 0 when it has no heading.
    """

    def __init__(self) -> None:
        self._rows: Counter[bytes] = Counter()
        self.count = 0
        self.errors = 0
        self.size_bytes = 0

    def add(self, row: _Row) -> None:
        """A file has one row more."""
        self._rows[_key(row.file)] += 1
        self.count += 1
        self.errors += row.has_error

    def remaining(self, files: Iterable[str]) -> Iterator[str]:
        """Those of `files` without a row. A file that is named twice needs two rows."""
        for file in files:
            key = _key(file)
            left = self._rows.get(key, 0)
            if left == 0:
                yield file
            elif left == 1:
                del self._rows[key]
            else:
                self._rows[key] = left - 1


def recover(path: Path, kind: str) -> Done:
    """Read the complete rows of an output file and cut off a row that was not written in full.

    Args:
        path: the file; it may be missing.
        kind: one of RESUMABLE.

    Raises:
        ConfigurationError: when it is no output of that format.
    """
    done = Done()
    if not os.path.exists(path):
        return done
    try:
        with path.open("r+b") as stream:
            for row, end in _ROWS[kind](stream):
                done.size_bytes = end
                if row is not None:
                    done.add(row)
            if done.size_bytes == 0:
                stream.seek(0)
                begun = stream.read(len(_BEGINNINGS[kind]))
                if not _BEGINNINGS[kind].startswith(begun):  # somebody else's: not ours to cut
                    raise ValueError("no row")
            stream.truncate(done.size_bytes)
    except OSError as error:
        reason = error.strerror or error  # of a pipe: it is not seekable
        raise ConfigurationError(f"cannot go on with {path}: {reason}") from error
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise ConfigurationError(
            f"cannot go on with {path}: it holds no {kind} rows of this program"
        ) from error
    return done


def _key(file: str) -> bytes:
    return blake2b(os.fsencode(file), digest_size=16).digest()


def _text(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape")


def _whole_lines(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """(line, offset of its end); stops before a line without its line end."""
    end = 0
    for line in stream:
        if not line.endswith(b"\n"):
            return
        end += len(line)
        yield line, end


def _tsv_rows(stream: BinaryIO) -> Iterator[tuple[_Row | None, int]]:
    for number, (line, end) in enumerate(_whole_lines(stream)):
        if number == 0:
            if _text(line) != tsv_line(COLUMNS):
                raise ValueError("another heading")
            yield None, end
            continue
        fields = _text(line).rstrip("\n").split("\t")
        if len(fields) != len(COLUMNS):
            raise ValueError("another number of columns")
        file = _ESCAPE.sub(lambda found: _UNESCAPED[found[0]], fields[0])
        yield _Row(file, bool(fields[-1])), end


def _csv_rows(stream: BinaryIO) -> Iterator[tuple[_Row | None, int]]:
    end = 0

    def lines() -> Iterator[str]:
        nonlocal end
        for line, at in _whole_lines(stream):
            end = at
            yield _text(line)

    torn = False
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_FIELD))
    for number, fields in enumerate(csv.reader(lines())):
        if torn or (number == 0 and tuple(fields) != COLUMNS):
            raise ValueError("other columns")
        if len(fields) != len(COLUMNS):
            torn = True  # right only for the last one: cut within a quoted line end
        else:
            yield (None if number == 0 else _Row(fields[0], bool(fields[-1]))), end


def _jsonl_rows(stream: BinaryIO) -> Iterator[tuple[_Row | None, int]]:
    for line, end in _whole_lines(stream):
        values = json.loads(_text(line))
        if not isinstance(values["file"], str):
            raise TypeError("no name of a file")
        yield _Row(values["file"], values["error"] is not None), end


_BEGINNINGS: Final = {
    "tsv": tsv_line(COLUMNS).encode(),
    "csv": csv_line(COLUMNS).encode(),
    "jsonl": b'{"file": "',
}
"""What a file of each format starts with, as far as it was written."""

_ROWS: Final[dict[str, Callable[[BinaryIO], Iterator[tuple[_Row | None, int]]]]] = {
    "tsv": _tsv_rows,
    "csv": _csv_rows,
    "jsonl": _jsonl_rows,
}
