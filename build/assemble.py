"""Assemble the Triton model repository around an exported ONNX.

Checks the ONNX and its INT8 form (metadata, digests, tensors against the plate spec, and that
`lprnet parity` has passed both), puts them in place with a record each, writes the plate spec
beside every model that needs it, and copies the package `lprnet` into the Python models, so that
the folder serves by itself. Without --int8 an INT8 form of other weights is taken away.

Examples:
  lprnet repository
  lprnet repository --onnx runs/eu/model.onnx
  lprnet repository --onnx runs/eu/model.onnx --int8 runs/eu/model_int8.onnx --out /srv/plates
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repository_parts import REPOSITORY, Part, check_pair, read_part, record_file

import lprnet
from lprnet import contract
from lprnet.engine_record import EngineRecordError, read_record, record_path
from lprnet.errors import LprnetError
from lprnet.plate_spec import PlateSpec

PLAN_NAME = "model.plan"
PYTHON_MODELS = (contract.ENGINE_MODEL, contract.DECODER_MODEL, contract.IMAGE_DECODER_MODEL)
GENERATED = ("__pycache__", ".*", "*.json", "*.onnx", "*.plan", "*.part")


@dataclass(frozen=True)
class Assembled:
    """What `assemble` made.

    Attributes:
        folder: the repository.
        spec: plate spec in it.
        record: of its FP32 ONNX.
        int8_record: of its INT8 ONNX; None without one.
    """

    folder: Path
    spec: PlateSpec
    record: dict[str, Any]
    int8_record: dict[str, Any] | None = None


def assemble(
    onnx: Path | None = None, out: Path | None = None, int8: Path | None = None
) -> Assembled:
    """Check the ONNX files and build the repository around them.

    Args:
        onnx: exported file; None takes what the repository holds, its INT8 form too.
        out: folder to write; None completes model_repository in place.
        int8: INT8 form of `onnx`, made by `lprnet quantize`.

    Raises:
        LprnetError: when an ONNX is refused (nothing has been written then) or a folder cannot
            be written.
    """
    folder = REPOSITORY if out is None else out.resolve()
    if REPOSITORY in folder.parents:
        raise LprnetError(f"{out} lies in the repository that is copied: name a folder elsewhere")
    shipped = REPOSITORY / contract.ENGINE_MODEL / "1"
    if onnx is None:
        onnx = shipped / contract.MODEL_FILE
        if int8 is None and (shipped / contract.INT8_MODEL_FILE).is_file():
            int8 = shipped / contract.INT8_MODEL_FILE
    parts = [read_part(onnx, contract.MODEL_FILE)]
    if int8 is not None:
        parts.append(read_part(int8, contract.INT8_MODEL_FILE))
        check_pair(*parts)
    spec = parts[0].facts.spec
    try:
        if folder != REPOSITORY:
            _copy_repository(folder)
        _place(parts, folder / contract.ENGINE_MODEL / "1")
        for name in PYTHON_MODELS:
            version_folder = folder / name / "1"
            _replace(version_folder / contract.SPEC_FILE, _json_bytes(spec.to_dict()))
            vendor(version_folder)
        _fit_configs(folder, spec, parts[-1].name)
    except OSError as error:
        raise LprnetError(
            f"cannot write the model repository: {error.strerror}: {error.filename}"
        ) from error
    return Assembled(folder, spec, *(part.record for part in parts))


def _place(parts: Sequence[Part], engine_folder: Path) -> None:
    """Put the ONNX files and their records in place; take away what belongs to others."""
    for part in parts:
        target = engine_folder / part.name
        _replace(target, part.source.read_bytes())
        _replace(record_file(target), _json_bytes(part.record))
    if len(parts) == 1:
        stale = engine_folder / contract.INT8_MODEL_FILE
        for path in (stale, record_file(stale)):
            path.unlink(missing_ok=True)
    _drop_stale_plan(engine_folder / PLAN_NAME, {part.facts.file_digest for part in parts})


def _copy_repository(folder: Path) -> None:
    """config.pbtxt files and Python models, without anything that is made or put there."""
    generated = shutil.ignore_patterns(*GENERATED)

    def ignored(path: str, names: list[str]) -> set[str]:
        # The engine's model folder is called lprnet as well: only the vendored package goes.
        vendored = {lprnet.__name__} if Path(path).name == "1" else set()
        return set(generated(path, names)) | (vendored & set(names))

    shutil.copytree(REPOSITORY, folder, ignore=ignored, dirs_exist_ok=True)


def _drop_stale_plan(plan: Path, digests: Collection[str]) -> None:
    """A TensorRT plan belongs to the ONNX it was built from: other weights, no plan."""
    try:
        if plan.is_file() and read_record(plan).onnx_sha256 in digests:
            return
    except EngineRecordError:
        pass  # nobody can tell what it was built from, so it is never served
    for path in (plan, record_path(plan)):
        path.unlink(missing_ok=True)


def vendor(version_folder: Path) -> None:
    """Copy the package `lprnet` into a Python model's version folder."""
    package = Path(lprnet.__file__).parent
    target = version_folder / package.name
    if package == target:
        return
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(package, target, ignore=shutil.ignore_patterns("__pycache__", "py.typed"))


def _fit_configs(folder: Path, spec: PlateSpec, fastest: str) -> None:
    """Write the spec's sizes into the `dims` of every config.pbtxt.

    Args:
        fastest: ONNX for the OpenVINO backend, which runs INT8 well.
    """
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
        if path.name == "openvino.pbtxt":
            text = re.sub(r'(default_model_filename: )"[^"]*"', rf'\g<1>"{fastest}"', text)
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
        "--int8",
        type=Path,
        metavar="FILE",
        help="its INT8 form, which the CPU engine prefers (default: none beside --onnx)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="folder to write (default: complete model_repository in place)",
    )


def run(args: argparse.Namespace) -> int:
    """Assemble and say what was assembled."""
    done = assemble(args.onnx, args.out, args.int8)
    record, spec = done.record, done.spec
    int8 = "" if done.int8_record is None else " and int8"
    print(
        f"{done.folder}: {record['network']} {record['precision']}{int8}, "
        f"{len(spec.charset)} characters, T = {spec.time_steps}, "
        f"probe plate {record['probe']['plate']} ({record['probe']['confidence']:.3f})"
    )
    if not record["probe"]["plate"]:
        print(
            "warning: these weights read nothing on the known plate, so that the watchdog and "
            "`lprnet health` prove only that an answer comes: see `lprnet evaluate`, and train on",
            file=sys.stderr,
        )
    return 0
