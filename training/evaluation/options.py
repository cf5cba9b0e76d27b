"""Command-line options that name readers, and the readers that they name."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2

from lprnet.errors import LprnetError
from training.data.records import read_set
from training.evaluation.peers import DEFAULT_PEER_DIR, PeerReader
from training.evaluation.pictures import LabelledSet, load_pictures
from training.evaluation.readers import (
    RUNTIMES,
    SHIPPED_ONNX,
    TLS_FILES,
    CheckpointReader,
    OnnxReader,
    Reader,
    ServerReader,
)
from training.shipped import named_weights


def positive(text: str) -> int:
    """argparse type: a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """--weights, --onnx, --runtime and --threads."""
    group = parser.add_argument_group("readers")
    group.add_argument(
        "--weights",
        type=named_weights,
        action="append",
        default=[],
        metavar="CKPT",
        help="a training checkpoint, through PyTorch; 'shipped' for our own (repeatable)",
    )
    group.add_argument(
        "--onnx",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="an exported ONNX (repeatable)",
    )
    group.add_argument(
        "--runtime", choices=RUNTIMES, default=RUNTIMES[0], help="of --onnx (default: %(default)s)"
    )
    group.add_argument(
        "--threads",
        type=positive,
        default=1,
        metavar="N",
        help="CPU threads of readers in this process (default: %(default)s)",
    )


def add_other_arguments(parser: argparse.ArgumentParser) -> None:
    """--url with its certificates, --peer and --peer-dir."""
    group = parser.add_argument_group("other readers")
    group.add_argument(
        "--url",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="a running server's gRPC port (repeatable)",
    )
    # The names of `clients.arguments`, which cannot be imported where training alone is installed.
    group.add_argument("--tls", action="store_true", help="encrypted connection to --url")
    for option, metavar, what in (
        ("--ca-file", "PEM", "who signs the server's certificate"),
        ("--cert-file", "PEM", "own certificate, for mutual TLS"),
        ("--key-file", "PEM", "its private key"),
        ("--server-name", "NAME", "name in the server's certificate"),
    ):
        kind = Path if metavar == "PEM" else str
        group.add_argument(option, type=kind, metavar=metavar, help=f"{what} (implies --tls)")
    group.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="NAME",
        help="a fast-plate-ocr model, e.g. cct_xs_v2_global (repeatable)",
    )
    group.add_argument(
        "--peer-dir",
        type=Path,
        default=DEFAULT_PEER_DIR,
        metavar="DIR",
        help="folder of NAME.onnx and NAME_plate_config.yaml (default: "
        "../shared/peers/fast-plate-ocr beside the checkout)",
    )


def _unique(name: str, taken: list[str]) -> str:
    """best, best-2, best-3, ...: two runs' best.pt must not share a row of the report."""
    number, made = 1, name
    while made in taken:
        number += 1
        made = f"{name}-{number}"
    return made


def open_models(args: argparse.Namespace) -> list[CheckpointReader | OnnxReader]:
    """Readers of --weights and --onnx; the shipped ONNX where nothing at all is named.

    Raises:
        ReaderError, CheckpointError: when one cannot be opened.
    """
    cv2.setNumThreads(args.threads)
    made: list[CheckpointReader | OnnxReader] = []
    for path in args.weights:
        name = _unique(path.stem, [r.name for r in made])
        made.append(CheckpointReader(path, args.threads, name))
    named = args.weights or args.onnx or getattr(args, "url", []) or getattr(args, "peer", [])
    for path in args.onnx if named else [SHIPPED_ONNX]:
        name = _unique("shipped" if path == SHIPPED_ONNX else path.stem, [r.name for r in made])
        made.append(OnnxReader(path, args.runtime, args.threads, name))
    return made


def open_others(args: argparse.Namespace) -> list[Reader]:
    """Readers of --url and --peer.

    Raises:
        ReaderError: when one cannot be opened.
        ConfigurationError: for an address or certificates that cannot be used.
    """
    files = {name: getattr(args, name) for name in TLS_FILES}
    tls = files if args.tls or any(file is not None for file in files.values()) else None
    made: list[Reader] = [ServerReader(url, tls=tls) for url in dict.fromkeys(args.url)]
    made += [PeerReader(n, args.peer_dir, args.threads) for n in dict.fromkeys(args.peer)]
    return made


def set_names(roots: Sequence[Path]) -> list[str]:
    """Folder names, told apart by their parents where they are equal (train/eu, val/eu)."""
    folders = [root.resolve() for root in roots]
    count = Counter(folder.name for folder in folders)
    names: list[str] = []
    for folder in folders:
        alone = count[folder.name] == 1
        name = folder.name if alone else f"{folder.parent.name}/{folder.name}"
        names.append(_unique(name, names))
    return names


def load_sets(roots: Sequence[Path]) -> tuple[LabelledSet, ...]:
    """Read sets with their pictures.

    Raises:
        DatasetError: for a folder that is no labelled set.
        LprnetError: when not one picture can be read.
    """
    sets = tuple(
        load_pictures(name, read_set(root))
        for name, root in zip(set_names(roots), roots, strict=True)
    )
    for labelled in sets:
        if not labelled.readable:
            raise LprnetError(
                f"not one of the {len(labelled.pictures)} pictures of {labelled.name} can be read: "
                f"{labelled.unreadable[0][1]}"
            )
    return sets
