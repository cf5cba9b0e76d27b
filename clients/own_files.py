"""The files into which `lprnet read` writes: never pictures, never two programs' at a time."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from clients import parquet
from clients.errors import ConfigurationError
from clients.output import redirected_stdout
from lprnet.errors import ImageError
from lprnet.image_header import read_header

try:
    import fcntl
except ModuleNotFoundError:  # not a POSIX system: nobody is kept from writing along
    fcntl = None  # type: ignore[assignment]

_HEADER_BYTES = 65536


def real_output(path: Path | None) -> Path | None:
    """The file that --output names, behind links; pipes and devices by the name they have.

    Raises:
        ConfigurationError: for what is no name of a file, or a folder.
    """
    if path is None:
        return None
    if not path.name or os.path.isdir(path):
        raise ConfigurationError(f"cannot write {str(path)!r}: it is a folder")
    if os.path.exists(path) and not os.path.isfile(path):
        return path  # /dev/stdout leads to no name that could be opened
    return Path(os.path.realpath(path))


class OwnFiles:
    """What is written, and what lies beside it while a Parquet file is made.

    Args:
        output: of `real_output`; None: stdout, which the shell may send to a file.
    """

    def __init__(self, output: Path | None) -> None:
        self._names: set[str] = set()
        self._redirected = redirected_stdout() if output is None else None
        if output is not None:
            self._names = {str(path) for path in (output, *parquet.beside(output))}
        self._last_parts = {os.path.basename(name) for name in self._names}

    def __contains__(self, file: str) -> bool:
        if os.path.basename(file) in self._last_parts or os.path.islink(file):
            return os.path.realpath(file) in self._names
        return self._redirected is not None and _is_file(file, self._redirected)

    def check_inputs(self, paths: list[str]) -> None:
        """A shell's pattern may name the rows of an earlier run; they are passed over.

        Raises:
            ConfigurationError: where a picture would be overwritten, or nothing else is named.
        """
        for path in paths:
            if path in self and (len(paths) == 1 or _is_picture(path)):
                where = "the --output" if self._redirected is None else "where the rows go"
                raise ConfigurationError(f"{path} is to be read and is {where}: choose another")


@contextmanager
def held(path: Path | None) -> Iterator[Callable[[int], None]]:
    """Keep other programs of ours from writing the same file, if it is there.

    Yields what `clients.output.Output` calls with the file that it has opened: where there was no
    file to hold, that one is.

    Raises:
        ConfigurationError: where another program writes it, or it cannot be opened.
    """
    kept: list[int] = []  # a lock lasts as long as a descriptor of the opened file

    def hold(file: int) -> None:
        if path is not None and not kept:
            kept.append(os.dup(file))
            _hold(kept[0], path)

    try:
        if path is not None and os.path.isfile(path):
            try:
                earlier = os.open(path, os.O_WRONLY)
            except OSError as error:
                raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error
            kept.append(earlier)
            _hold(earlier, path)
        yield hold
    finally:
        for descriptor in kept:
            os.close(descriptor)


def _hold(file: int, path: Path) -> None:
    if fcntl is None or not stat.S_ISREG(os.fstat(file).st_mode):
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ConfigurationError(
            f"another `lprnet read` is writing {path}: wait for it, or choose another --output"
        ) from error
    except OSError:
        pass  # a file system without locks


def _is_file(path: str, known: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), known)
    except (OSError, ValueError):  # none, or no name of a file
        return False


def _is_picture(path: str) -> bool:
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return False
        with open(path, "rb") as file:
            read_header(file.read(_HEADER_BYTES))
    except ImageError as error:
        return error.reason not in ("empty", "not_an_image")
    except OSError:
        return False
    return True
