"""Assemble the Triton model repository around an exported ONNX.

Checks the ONNX (metadata, digests, tensors against its plate spec), puts it in place, writes the
plate spec beside every model that needs it and the record beside the ONNX, and copies the package
`lprnet` into the Python models, so that the folder serves by itself.

Examples:
  lprnet repository
  lprnet repository --onnx runs/eu/model.onnx
  lprnet repository --onnx runs/eu/model.onnx --out /srv/plates
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import lprnet
from lprnet import contract
from lprnet.ctc import decode
from lprnet.errors import LprnetError, SpecError
from lprnet.image import load_crop
from lprnet.model_file import ModelFacts, verify_file
from lprnet.plate_spec import PlateSpec

ROOT = Path(__file__).resolve().parent.parent
REPOSITORY = ROOT / "model_repository"
PROBE_PICTURE = ROOT / "serving" / "probe.png"
ONNX_NAME = "model.onnx"
PYTHON_MODELS = (contract.ENGINE_MODEL, contract.DECODER_MODEL, contract.IMAGE_DECODER_MODEL)
GENERATED = ("__pycache__", ".*", "*.json", "*.onnx", "*.plan", "*.part")


def _engine_module(name: str) -> ModuleType:
    """A module that lies beside the engine's model.py, where Triton imports it from."""
    path = REPOSITORY / contract.ENGINE_MODEL / "1" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise LprnetError(f"{path.name} is missing in model_repository: use a full checkout")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Assembled:
    """What `assemble` made: the folder, the plate spec in it, and the record of its ONNX."""

    folder: Path
    spec: PlateSpec
    record: dict[str, Any]


def assemble(onnx: Path | None = None, out: Path | None = None) -> Assembled:
    """Check an ONNX and build the repository around it.

    Args:
        onnx: exported file; None takes the one that the repository holds.
        out: folder to write; None completes model_repository in place.

    Raises:
        LprnetError: when the ONNX is refused (nothing has been written then) or a folder cannot
            be written.
    """
    folder = REPOSITORY if out is None else out.resolve()
    source = REPOSITORY / contract.ENGINE_MODEL / "1" / ONNX_NAME if onnx is None else onnx
    facts = verify_file(source)
    if facts.io != "lprnet":
        raise SpecError(
            f"{source.name} was exported with --io {facts.io}, the server needs the default: "
            "export it again without --io"
        )
    record = _record(facts, source)
    try:
        if folder != REPOSITORY:
            _copy_repository(folder)
        engine_folder = folder / contract.ENGINE_MODEL / "1"
        target = engine_folder / ONNX_NAME
        if _replace(target, source.read_bytes()):
            _drop_plan(engine_folder)
        for name in PYTHON_MODELS:
            version_folder = folder / name / "1"
            _replace(version_folder / contract.SPEC_FILE, _json_bytes(facts.spec.to_dict()))
            vendor(version_folder)
        _fit_configs(folder, facts.spec)
        _replace(engine_folder / contract.MODEL_RECORD_FILE, _json_bytes(record))
    except OSError as error:
        raise LprnetError(
            f"cannot write the model repository: {error.strerror}: {error.filename}"
        ) from error
    return Assembled(folder, facts.spec, record)


def _record(facts: ModelFacts, source: Path) -> dict[str, Any]:
    """The export's own record, if it lies beside, and the answer to the probe picture.

    What the ONNX answers here, the server must answer too.
    """
    engine_module = _engine_module("lprnet_engine")
    engine = engine_module.load_engine(
        source, facts.spec, engine_module.EngineOptions(warmup_batches=())
    )
    picture = PROBE_PICTURE.read_bytes()
    crop = load_crop(picture, facts.spec.height_px, facts.spec.width_px)
    ids, probs = engine.infer(crop[np.newaxis])
    probe = decode(ids, probs, facts.spec)
    record = {
        "onnx_sha256": facts.file_digest,
        "plate_spec_digest": facts.spec.digest,
        "weights_digest": facts.weights_digest,
        "version": facts.version,
        "network": facts.network,
        "precision": facts.precision,
        "probe": {
            "picture_sha256": hashlib.sha256(picture).hexdigest(),
            "plate": probe.plates[0],
            "confidence": round(float(probe.confidence[0]), 4),
        },
    }
    beside = source.with_suffix(".json")  # what export and parity wrote of the same file
    if beside.is_file():
        try:
            previous = json.loads(beside.read_text(encoding="utf-8"))
        except ValueError as error:
            raise SpecError(f"{beside.name} beside {source.name} is not JSON: {error}") from error
        if previous.get("onnx_sha256") == facts.file_digest:
            return {**previous, **record}
    return record


def _copy_repository(folder: Path) -> None:
    """config.pbtxt files and Python models, without anything that is made or put there."""
    generated = shutil.ignore_patterns(*GENERATED)

    def ignored(path: str, names: list[str]) -> set[str]:
        # The engine's model folder is called lprnet as well: only the vendored package goes.
        vendored = {lprnet.__name__} if Path(path).name == "1" else set()
        return set(generated(path, names)) | (vendored & set(names))

    shutil.copytree(REPOSITORY, folder, ignore=ignored, dirs_exist_ok=True)


def _drop_plan(engine_folder: Path) -> None:
    """A TensorRT plan belongs to the ONNX it was built from: other weights, no plan."""
    for name in ("model.plan", "model.plan.json"):
        (engine_folder / name).unlink(missing_ok=True)


def vendor(version_folder: Path) -> None:
    """Copy the package `lprnet` into a Python model's version folder."""
    package = Path(lprnet.__file__).parent
    target = version_folder / package.name
    if package == target:
        return
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(package, target, ignore=shutil.ignore_patterns("__pycache__", "py.typed"))


def _fit_configs(folder: Path, spec: PlateSpec) -> None:
    """Write the spec's sizes into the `dims` of every config.pbtxt."""
    sizes = {
        contract.IMAGE: spec.image_shape,
        contract.CHAR_IDS: (spec.time_steps,),
        contract.CHAR_PROBS: (spec.time_steps,),
    }
    for path in sorted(folder.glob("*/**/*.pbtxt")):
        before = text = path.read_text(encoding="utf-8")
        for name, shape in sizes.items():
            dims = ", ".join(map(str, shape))
            text = re.sub(
                rf'(name: "{name}"\s+data_type: \w+\s+dims: )\[[^\]]*\]', rf"\g<1>[ {dims} ]", text
            )
        if text != before:
            _replace(path, text.encode("utf-8"))


def _json_bytes(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, indent=2, ensure_ascii=True) + "\n").encode("ascii")


def _replace(path: Path, data: bytes) -> bool:
    """Write a file so that a server that starts meanwhile sees the old or the new one, whole.

    Returns:
        Whether the file was another one before.
    """
    if path.is_file() and path.read_bytes() == data:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.replace(path)
    return True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `lprnet repository`."""
    parser.add_argument(
        "--onnx",
        type=Path,
        metavar="FILE",
        help="exported ONNX (default: the one in model_repository/lprnet/1)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="folder to write (default: complete model_repository in place)",
    )


def run(args: argparse.Namespace) -> int:
    """Assemble and say what was assembled."""
    done = assemble(args.onnx, args.out)
    record, spec = done.record, done.spec
    print(
        f"{done.folder}: {record['network']} {record['precision']}, "
        f"{len(spec.charset)} characters, T = {spec.time_steps}, "
        f"probe plate {record['probe']['plate']} ({record['probe']['confidence']:.3f})"
    )
    return 0
