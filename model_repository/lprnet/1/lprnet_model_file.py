"""Whether the ONNX, its record and the plate spec that stand beside one another are of one kin."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from lprnet import contract
from lprnet.errors import SpecError
from lprnet.model_file import ModelFacts, read_model_file, verify
from lprnet.plate_spec import PlateSpec

AUTO = "auto"


def model_path(folder: Path, wanted: str, runtime: str) -> Path:
    """The ONNX to serve from a version folder.

    Args:
        wanted: a file name, or "auto": INT8 where it is there and OpenVINO runs it, else FP32.
            ONNX Runtime is no faster on INT8: it fuses only some of the signed Q/DQ pairs.
        runtime: that will run it.
    """
    if wanted != AUTO:
        return folder / wanted
    int8 = folder / contract.INT8_MODEL_FILE
    return int8 if runtime == "openvino" and int8.is_file() else folder / contract.MODEL_FILE


def check_model_file(path: Path) -> ModelFacts:
    """Check an ONNX in full, its record (`model.onnx` -> `model.json`) and the plate spec.

    Raises:
        SpecError: when one of the three is missing, damaged or another one's.
        ModelError: when the ONNX is not ours or was changed.
    """
    advice = "run `lprnet repository`"
    record_file = path.with_suffix(Path(contract.MODEL_RECORD_FILE).suffix)
    try:
        recorded = json.loads(record_file.read_text(encoding="utf-8"))["onnx_sha256"]
    except OSError as error:
        raise SpecError(f"cannot read {record_file.name}: {advice}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise SpecError(f"{record_file.name} is no record of a model: {advice}") from error
    data = read_model_file(path)
    if recorded != hashlib.sha256(data).hexdigest():
        raise SpecError(f"{path.name} is not the file that {record_file.name} names: {advice}")
    facts = verify(data, path.name)
    if facts.spec.digest != PlateSpec.from_file(path.with_name(contract.SPEC_FILE)).digest:
        raise SpecError(f"{contract.SPEC_FILE} is not the plate spec of {path.name}: {advice}")
    return facts
