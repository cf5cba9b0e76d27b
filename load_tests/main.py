"""Runs a module of this package that has `add_arguments` and `run` as a program."""

from __future__ import annotations

import argparse
import sys
from types import ModuleType
from typing import NoReturn

from lprnet.errors import LprnetError


def run_main(program: str, module: ModuleType) -> NoReturn:
    """Parse the arguments, run, exit: errors in one line with code 2."""
    summary, _, rest = (module.__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog=program,
        description=summary,
        epilog=rest.strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    try:
        sys.exit(module.run(parser.parse_args()))
    except LprnetError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
