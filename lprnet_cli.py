"""The console command `lprnet`: finds the verb, loads its module, prints errors in one line.

It stands above every package, so that `lprnet/` itself imports nothing of ours. A verb's module
is imported only when the verb is used: serving and clients never load torch.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

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
    """

    target: str
    summary: str
    extra: str


VERBS = {
    "read": Verb("clients.read", "read plates from pictures through a server", "clients"),
    "serve": Verb("serving.serve", "start tritonserver with the model repository", "serve"),
    "health": Verb("clients.health", "ask a running server for a plate it must know", "clients"),
    "train": Verb("training.train", "train or fine-tune a recogniser", "train"),
    "average": Verb("training.average", "average checkpoints, or strip one", "train"),
    "evaluate": Verb("training.evaluate", "measure accuracy on labelled sets", "train"),
    "synth": Verb("training.synthetic.cli", "draw a labelled set of synthetic plates", "train"),
    "data": Verb("training.data_cli", "check labelled sets", "train"),
    "export": Verb("build/export_onnx.py", "write the ONNX of a checkpoint", "build"),
    "quantize": Verb("build/quantize.py", "make the INT8 ONNX", "build"),
    "parity": Verb("build/check_parity.py", "prove that two forms of a model agree", "build"),
    "engine": Verb("build/build_engine.py", "build a TensorRT plan", "build"),
    "repository": Verb("build/assemble.py", "assemble the Triton model repository", "serve"),
    "bench": Verb("load_tests.bench", "measure engine, ensembles and peers in one run", "load"),
}


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
        or an error told in one line, 130 after Ctrl-C.
    """
    arguments = sys.argv[1:] if argv is None else argv
    top = _top_parser()
    name = top.parse_args(arguments[:1] or ["--help"]).verb
    try:
        module = load_verb(VERBS[name])
        summary, _, rest = (module.__doc__ or VERBS[name].summary).partition("\n")
        parser = argparse.ArgumentParser(
            prog=f"lprnet {name}",
            description=summary,
            epilog=rest.strip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(parser)
        code: int = module.run(parser.parse_args(arguments[1:]))
        return code
    except LprnetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `lprnet read ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


if __name__ == "__main__":
    sys.exit(main())
