"""Files, folders and patterns -> file paths in the order in which a person would list them."""

from __future__ import annotations

import glob
import os
import re
import select
from collections.abc import Iterable, Iterator
from typing import TextIO

from clients.errors import ConfigurationError

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
    waiting = [path]
    while waiting:  # no recursion: folders may be nested deeper than Python's stack
        folder = waiting.pop()
        names: list[str] = []
        folders: list[str] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if not _is_folder(entry):
                        names.append(entry.name)
                    elif recursive and not entry.is_symlink():
                        folders.append(entry.name)
        except OSError:
            yield folder  # not to be listed: reading tells why, and the other folders are read
            continue
        names.sort(key=natural_key)
        for name in names:
            yield os.path.join(folder, name)
        folders.sort(key=natural_key, reverse=True)
        waiting.extend(os.path.join(folder, name) for name in folders)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself: reading tells
        return False


def lines_of(stream: TextIO, end: bytes = b"\n") -> Iterator[str]:
    """Entries of a list as they come, one a line; empty lines are passed over.

    They are read past the stream's own buffer: whoever waits there holds a lock that Python wants
    when it ends.

    Args:
        stream: of which the descriptor is read; nothing may have been read from it.
        end: what ends an entry, NUL for `find -print0`.

    Raises:
        ConfigurationError: for a list without line ends but with NULs, which is meant for --null,
            and for a stream that cannot be read.
    """
    rest, many = b"", False
    while chunk := _chunk(stream):
        *lines, rest = (rest + chunk).split(end)
        many = many or bool(lines)
        yield from filter(None, (_entry(line, end) for line in lines))
    if not many and b"\0" in rest:
        raise ConfigurationError("the list is separated by NULs, not by line ends: give --null")
    if rest:
        yield _entry(rest, end)


def _chunk(stream: TextIO) -> bytes:
    """What comes next, empty at the end; waits also for a pipe that a parent made non-blocking."""
    descriptor = stream.fileno()
    while True:
        try:
            return os.read(descriptor, 65536)
        except BlockingIOError:
            select.select([descriptor], [], [])
        except OSError as error:
            raise ConfigurationError(f"cannot read {stream.name}: {error.strerror}") from error


def _entry(line: bytes, end: bytes) -> str:
    return (line.removesuffix(b"\r") if end == b"\n" else line).decode("utf-8", "surrogateescape")
