"""The ONNX files of a model repository: which ones may enter it, and their records."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from lprnet import contract
from lprnet.ctc import decode
from lprnet.errors import LprnetError, SpecError
from lprnet.image import load_crop
from lprnet.model_file import ModelError, ModelFacts, require_spec, verify_file

ROOT = Path(__file__).resolve().parent.parent
REPOSITORY = ROOT / "model_repository"
PROBE_PICTURE = ROOT / "serving" / "probe.png"


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
class Part:
    """One ONNX on its way into the repository.

    Attributes:
        source: file to take it from.
        name: its file name in the repository.
        facts: what it is.
        record: what its record will hold.
    """

    source: Path
    name: str
    facts: ModelFacts
    record: dict[str, Any]


def read_part(source: Path, name: str) -> Part:
    """Check one ONNX and run it on the probe picture.

    Args:
        name: that it will have in the repository.

    Raises:
        LprnetError: when it is refused.
    """
    facts = verify_file(source)
    if facts.io != "lprnet":
        raise SpecError(
            f"{source.name} was exported with --io {facts.io}, the server needs the default: "
            "export it again without --io"
        )
    wanted = name == contract.INT8_MODEL_FILE
    if (facts.precision == "int8") is not wanted:
        option, instead = ("--int8", "--onnx") if wanted else ("--onnx", "--int8")
        raise ModelError(
            f"{source.name} is {facts.precision}: name it with {instead}, not {option}"
        )
    return Part(source, name, facts, _record(facts, source))


def check_pair(fp32: Part, int8: Part) -> None:
    """Raise ModelError unless the INT8 form is of these weights and reads the probe alike."""
    if int8.facts.metadata.get(contract.META_SOURCE) != fp32.facts.weights_digest:
        raise ModelError(
            f"{int8.source.name} was not made from {fp32.source.name}: "
            f"run `lprnet quantize {fp32.source.name}` again"
        )
    require_spec(int8.facts, fp32.facts.spec, int8.source.name)
    wanted, found = fp32.record["probe"], int8.record["probe"]
    difference = abs(wanted["confidence"] - found["confidence"])
    if found["plate"] != wanted["plate"] or difference > contract.PROBE_TOLERANCE:
        raise ModelError(
            f"{int8.source.name} reads the probe picture as {found['plate']!r} "
            f"({found['confidence']:.3f}), {fp32.source.name} as {wanted['plate']!r} "
            f"({wanted['confidence']:.3f}): quantize it again with other --data"
        )


def record_file(onnx: Path) -> Path:
    """Where the record of an ONNX lies."""
    return onnx.with_suffix(Path(contract.MODEL_RECORD_FILE).suffix)


def _parity(facts: ModelFacts, source: Path) -> dict[str, Any]:
    """The record that lies beside an ONNX.

    Raises:
        LprnetError: unless it says that `lprnet parity` has passed this very file.
    """
    command = f"lprnet parity {source} --data SET..."
    if facts.precision == "int8":
        command = f"lprnet parity FP32.onnx --int8 {source} --data SET..."
    beside = record_file(source)
    values: Any = {}
    if beside.is_file():
        try:
            values = json.loads(beside.read_text(encoding="utf-8"))
        except ValueError as error:
            raise SpecError(f"{beside.name} beside {source.name} is not JSON: {error}") from error
    figures = values.get("parity") if isinstance(values, dict) else None
    if not isinstance(figures, dict) or values.get("onnx_sha256") != facts.file_digest:
        raise ModelError(f"{source.name} is not proven yet: run `{command}`")
    if figures.get("passed") is not True:
        raise ModelError(f"{source.name} failed the last `{command}`: export it again")
    proven: dict[str, Any] = values
    return proven


def _record(facts: ModelFacts, source: Path) -> dict[str, Any]:
    """What export, quantize and parity recorded, and the answer to the probe picture.

    What the ONNX answers here, the server must answer too.
    """
    proven = _parity(facts, source)
    engine_module = _engine_module("lprnet_engine")
    engine = engine_module.load_engine(
        source, facts.spec, engine_module.EngineOptions(warmup_batches=())
    )
    picture = PROBE_PICTURE.read_bytes()
    crop = load_crop(picture, facts.spec.height_px, facts.spec.width_px)
    ids, probs = engine.infer(crop[np.newaxis])
    probe = decode(ids, probs, facts.spec)
    return {
        **proven,
        "onnx_sha256": facts.file_digest,
        "plate_spec_digest": facts.spec.digest,
        "weights_digest": facts.weights_digest,
        "version": facts.version,
        "network": facts.network,
        "precision": facts.precision,
        "probe": _probe_record(
            hashlib.sha256(picture).hexdigest(),
            probe.plates[0],
            float(probe.confidence[0]),
            proven.get("probe"),
        ),
    }


def _probe_record(picture: str, plate: str, confidence: float, known: Any) -> dict[str, Any]:
    """The answer to the probe picture; the one that is recorded already, where it holds here too.

    INT8 answers differ a little between CPUs: a file that is under version control must not change
    with the machine that it is served on.
    """
    found = {"picture_sha256": picture, "plate": plate, "confidence": round(confidence, 4)}
    if not isinstance(known, dict) or known.keys() != found.keys():
        return found
    kept = known["confidence"]
    close = isinstance(kept, float) and abs(kept - confidence) <= contract.PROBE_TOLERANCE
    return known if close and {**found, "confidence": kept} == known else found
