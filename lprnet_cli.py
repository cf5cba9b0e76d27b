"""The console command `lprnet`: finds the verb, loads its module, prints errors in one line.

It stands above every package, so that `lprnet/` itself imports nothing of ours. A verb's module
is imported only when the verb is used: serving and clients never load torch.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Final, NoReturn, TextIO, cast

from lprnet import __version__
from lprnet.errors import LprnetError

ROOT = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Verb:
    """One verb.

    Attributes:
        target: dotted module, or a script path for the folder build/, which is no package.
        summary: one line for `lprnet --help`.
        extra: the extra of pyproject.toml that the verb needs, and the make target that adds it.
        prints: what it finds goes to stdout. A closed one is then an error; the others only tell
            how it goes there.
        unwinds: SIGTERM and SIGHUP end it as Ctrl-C does.
        environment: variables that its modules read when they are imported. One that is set already
            is left alone.
    """

    target: str
    summary: str
    extra: str
    prints: bool = False
    unwinds: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


CALLERS_POLL: Final = {"GRPC_EXPERIMENTS": "-event_engine_client"}
"""gRPC's blocking calls poll for their answers themselves, as before gRPC 1.80. Its "event engine"
hands each answer through three threads of its own, which makes a lone picture 0.05 to 0.15 ms
later (load_tests/NOTES.md). Only for programs that ask one by one: asyncio gains nothing by it, and
then says "timeout" where a server refuses."""

QUIET_GRPC: Final = {"GRPC_VERBOSITY": "NONE"}
"""gRPC's own log lines on stderr tell nothing that the one line of an error does not."""

VERBS = {
    "read": Verb(
        "clients.read",
        "read plates from pictures through a server",
        "clients",
        prints=True,
        unwinds=True,
        environment=QUIET_GRPC,
    ),
    "serve": Verb("serving.serve", "start tritonserver with the model repository", "serve"),
    "health": Verb(
        "clients.health",
        "ask a running server for a plate it must know",
        "clients",
        environment=QUIET_GRPC,
    ),
    "train": Verb("training.train", "train or fine-tune a recogniser", "train"),
    "average": Verb("training.average", "average checkpoints, or strip one", "train"),
    "evaluate": Verb(
        "training.evaluate", "measure accuracy on labelled sets", "train", prints=True
    ),
    "synth": Verb("training.synthetic.cli", "draw a labelled set of synthetic plates", "train"),
    "data": Verb("training.data_cli", "check labelled sets", "train", prints=True),
    "export": Verb("build/export_onnx.py", "write the ONNX of a checkpoint", "build"),
    "quantize": Verb("build/quantize.py", "make the INT8 ONNX", "build"),
    "parity": Verb("build/check_parity.py", "prove that two forms of a model agree", "build"),
    "engine": Verb("build/build_engine.py", "build a TensorRT plan", "build"),
    "repository": Verb("build/assemble.py", "assemble the Triton model repository", "serve"),
    "bench": Verb(
        "load_tests.bench",
        "measure engine, ensembles and peers in one run",
        "load",
        environment=CALLERS_POLL,
    ),
}

_END_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)
_CLEANING_S: Final = 5.0
"""Signals that come so soon after the first must not cut the cleaning short. Later ones count
again: Python drops what a handler raises while some object is being finalised."""


class Ended(KeyboardInterrupt):
    """SIGTERM or SIGHUP came: blocks are left as after Ctrl-C, so that they clean up.

    Args:
        number: the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Raise Ended in the block when SIGTERM or SIGHUP comes.

    One that somebody else looks after is left alone: `nohup` ignores SIGHUP.
    """
    if threading.current_thread() is not threading.main_thread():  # nobody else may set handlers
        yield
        return
    taken = [number for number in _END_SIGNALS if signal.getsignal(number) == signal.SIG_DFL]

    latest_s = -_CLEANING_S

    def end(number: int, _: object) -> None:
        nonlocal latest_s
        now_s = time.monotonic()
        if now_s - latest_s >= _CLEANING_S:
            latest_s = now_s
            raise Ended(number)

    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def interrupts_put_off() -> Iterator[None]:
    """Ctrl-C during the block takes effect at its end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class ClosedStream(io.TextIOBase):
    """Stands for stdin or stdout that was closed from the beginning (`<&-`, `>&-`).

    Every use but `flush`, `close` and `isatty`, with which Python ends, raises LprnetError.

    Args:
        sentence: what is wrong and what to do.
    """

    def __init__(self, sentence: str) -> None:
        self._sentence = sentence

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise LprnetError(self._sentence)

    read = readline = write = fileno = reconfigure = _refuse


def stand_in_for_closed_streams() -> None:
    """Put something where Python, finding a standard stream closed, left None.

    The descriptors are filled, too: a file or socket that got number 1 or 2 would be written to by
    libraries that print there.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest that is free, which is this number.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stderr is None:
        sys.stderr = _nowhere()  # as Python itself does: messages that nobody wants to see
    if sys.stdin is None:
        sys.stdin = cast(TextIO, ClosedStream("stdin is closed: there is nothing to read from it"))
    if sys.stdout is None:
        sys.stdout = cast(
            TextIO, ClosedStream("stdout is closed: send it to a file, or to /dev/null")
        )


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")


def load_verb(verb: Verb) -> ModuleType:
    """Import the module behind a verb.

    Raises:
        LprnetError: when a package that the verb needs is not installed.
    """
    try:
        if not verb.target.endswith(".py"):
            return importlib.import_module(verb.target)
        path = ROOT / verb.target
        name = path.stem
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None or not path.is_file():
            raise LprnetError(f"{verb.target} is missing: run lprnet from a full checkout")
        sys.path.insert(0, str(path.parent))  # scripts of build/ import their neighbours
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module
    except ModuleNotFoundError as error:
        raise LprnetError(
            f"the package {error.name!r} is not installed: run `make setup-{verb.extra}` "
            f"(or pip install '.[{verb.extra}]')"
        ) from error


def _top_parser() -> argparse.ArgumentParser:
    width = max(map(len, VERBS)) + 2
    verbs = "\n".join(f"  {name:<{width}}{verb.summary}" for name, verb in VERBS.items())
    parser = argparse.ArgumentParser(
        prog="lprnet",
        description="Licence-plate recognition: train, export, serve, read.",
        epilog=f"verbs:\n{verbs}\n\nexample:\n  lprnet read plates/ --format tsv\n"
        "\n`lprnet VERB --help` tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lprnet {__version__}")
    parser.add_argument("verb", metavar="VERB", choices=sorted(VERBS), help="what to do")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run `lprnet VERB ...`.

    Returns:
        The exit code: 0 well done, 1 done with failures that the verb has printed, 2 wrong use
        or an error told in one line, 130 after Ctrl-C, 128 + its number after a signal that
        `lprnet read` was ended by.
    """
    arguments = sys.argv[1:] if argv is None else argv
    stand_in_for_closed_streams()
    try:
        name = _top_parser().parse_args(arguments[:1] or ["--help"]).verb
        verb = VERBS[name]
        if isinstance(sys.stdout, ClosedStream) and not verb.prints:
            sys.stdout = _nowhere()
        with ended_by_signals() if verb.unwinds else contextlib.nullcontext():
            return _run(name, arguments[1:])
    except LprnetError as error:
        _tell(f"error: {error}")
        return 2
    except Ended as end:
        _tell(f"ended by {signal.Signals(end.number).name}")
        return 128 + end.number
    except KeyboardInterrupt:
        _tell("interrupted")
        return 130
    except BrokenPipeError:  # `lprnet read ... | head`
        with contextlib.suppress(LprnetError):  # closed: it was stderr
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(name: str, arguments: list[str]) -> int:
    for variable, value in VERBS[name].environment.items():
        os.environ.setdefault(variable, value)
    with interrupts_put_off():  # NumPy, for one, does not survive one while it is imported
        module = load_verb(VERBS[name])
    summary, _, rest = (module.__doc__ or VERBS[name].summary).partition("\n")
    parser = argparse.ArgumentParser(
        prog=f"lprnet {name}",
        description=summary,
        epilog=rest.strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    code: int = module.run(parser.parse_args(arguments))
    return code


def _tell(line: str) -> None:
    with contextlib.suppress(OSError):  # its terminal may be gone: that is what SIGHUP says
        print(line, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
