"""Files, folders and patterns -> file paths in the order in which a person would list them."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator
from typing import TextIO

_DIGITS = re.compile(r"\d+")


def natural_key(name: str) -> str:
    """Key that sorts `car9` before `car10`.

    A run of digits is preceded by its length, so that plain comparison of strings compares
    numbers by size. One string a name keeps the sorting of a million names small.
    """
    return _DIGITS.sub(_measured, name.casefold())


def _measured(run: re.Match[str]) -> str:
    digits = run[0].lstrip("0")
    # A digit first, so that numbers still sort before letters; their length can be two digits.
    return f"0{len(digits):04d}{digits}"


def expand(arguments: Iterable[str], *, recursive: bool = False) -> Iterator[str]:
    """Every file that the arguments name, lazily; nothing is opened.

    * A file, or a name that does not exist, stands for itself: reading tells what is wrong.
    * A folder stands for its files in natural order, hidden ones left out; with `recursive`
      those of its sub-folders follow, in natural order too. Links to folders are not followed.
      A folder that may not be listed stands for itself.
    * A name with `*`, `?` or `[` that is no file is a pattern, for shells that did not expand
      it; it does not descend (`recursive` does). One without a match stands for itself.
    """
    for argument in arguments:
        if os.path.isdir(argument):
            yield from _folder(argument, recursive)
        elif glob.has_magic(argument) and not os.path.lexists(argument):
            matches = sorted(glob.iglob(argument), key=natural_key)
            if not matches:
                yield argument
            for match in matches:
                if os.path.isdir(match):
                    yield from _folder(match, recursive)
                else:
                    yield match
        else:
            yield argument


def _folder(path: str, recursive: bool) -> Iterator[str]:
    names: list[str] = []
    folders: list[str] = []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if not _is_folder(entry):
                    names.append(entry.name)
                elif recursive and not entry.is_symlink():
                    folders.append(entry.name)
    except OSError:
        yield path  # not to be listed: reading tells why, and the other folders are read
        return
    names.sort(key=natural_key)
    for name in names:
        yield os.path.join(path, name)
    del names
    folders.sort(key=natural_key)
    for name in folders:
        yield from _folder(os.path.join(path, name), recursive)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself: reading tells
        return False


def is_file(path: str, known: os.stat_result) -> bool:
    """Whether there is the very file under this name that `known` describes."""
    try:
        return os.path.samestat(os.stat(path), known)
    except (OSError, ValueError):  # none, or no name of a file
        return False


def lines_of(stream: TextIO) -> Iterator[str]:
    """Paths from a list, one a line; empty lines are passed over."""
    for line in stream:
        path = line.rstrip("\r\n")
        if path:
            yield path
