"""Rows as a Parquet file, by way of JSON lines: a Parquet file that is cut off cannot be read.

Needs pyarrow (`pip install '.[parquet]'`), which is imported only here.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, Final

from clients.errors import ConfigurationError

KIND: Final = "parquet"
_ROWS_PER_GROUP: Final = 50_000
_PART, _REOPEN = ".part", ".reopen"
COLUMNS: Final = ("file", "plate", "confidence", "char_confidences", "error")
_ESCAPED: Final = re.compile(r"\\u(dc[89a-f][0-9a-f]|005c)")
"""A byte of a name that is no UTF-8, or a backslash of a name that would look like the escape."""
_LOOKS_ESCAPED: Final = re.compile(r"\\(?=u(?:dc[89a-f][0-9a-f]|005c))")


def journal_of(path: Path) -> Path:
    """The JSON lines that grow while the reading goes on."""
    return path.with_name(path.name + ".part.jsonl")


def beside(path: Path) -> list[Path]:
    """The journal, and files that lie there for a moment, or after a program that was killed."""
    return [journal_of(path), *(path.with_name(path.name + end) for end in (_PART, _REOPEN))]


def require_pyarrow() -> tuple[Any, Any]:
    """The modules pyarrow and pyarrow.parquet.

    Raises:
        ConfigurationError: when they are not installed.
    """
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise ConfigurationError(
            "Parquet needs pyarrow: pip install '.[parquet]', or take another --format"
        ) from error


def reopen(path: Path) -> None:
    """Make a finished file a journal again, so that rows can be added."""
    pyarrow, files = require_pyarrow()

    if os.path.exists(journal_of(path)) or not os.path.exists(path):
        return
    temporary = path.with_name(path.name + _REOPEN)
    try:
        with files.ParquetFile(path) as source:
            if tuple(source.schema_arrow.names) != COLUMNS:
                raise ConfigurationError(
                    f"cannot go on with {path}: it holds no rows of this program"
                )
            with temporary.open("w", encoding="utf-8") as journal:
                for batch in source.iter_batches(_ROWS_PER_GROUP):
                    for values in batch.to_pylist():
                        values["file"] = unescaped(values["file"])
                        journal.write(json.dumps(values) + "\n")
        temporary.replace(journal_of(path))
    except pyarrow.ArrowException as error:
        raise ConfigurationError(f"cannot go on with {path}: it is no Parquet file") from error
    finally:
        temporary.unlink(missing_ok=True)


def finish(path: Path) -> None:
    """Journal -> Parquet file; the journal goes when the file is complete."""
    pyarrow, files = require_pyarrow()

    text, number = pyarrow.string(), pyarrow.float32()
    kinds = (text, text, number, pyarrow.list_(number), text)
    schema = pyarrow.schema(dict(zip(COLUMNS, kinds, strict=True)))
    temporary = path.with_name(path.name + _PART)
    try:
        with (
            journal_of(path).open(encoding="utf-8") as journal,
            files.ParquetWriter(temporary, schema, compression="zstd") as writer,
        ):
            for rows in _groups(journal):
                writer.write_table(pyarrow.Table.from_pylist(rows, schema))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    journal_of(path).unlink()


def _groups(journal: Iterator[str]) -> Iterator[list[dict[str, Any]]]:
    while lines := list(islice(journal, _ROWS_PER_GROUP)):
        rows = [json.loads(line) for line in lines]
        for row in rows:  # Parquet holds UTF-8 only: other bytes of a name become escapes
            row["file"] = escaped(row["file"])
        yield rows


def escaped(name: str) -> str:
    """A file's name in UTF-8; `unescaped` gives it back."""
    plain = _LOOKS_ESCAPED.sub(r"\\u005c", name)
    return plain.encode("utf-8", "backslashreplace").decode()


def unescaped(name: str) -> str:
    """See `escaped`."""
    return _ESCAPED.sub(lambda at: chr(int(at[1], 16)), name)
