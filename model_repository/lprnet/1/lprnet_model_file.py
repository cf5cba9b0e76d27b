"""Whether the ONNX, its record and the plate spec that stand beside one another are of one kin.

`lprnet repository` has checked the ONNX in full (metadata, seal, tensors) and has written its
SHA-256 and the digest of the plate spec in its metadata into the record: an ONNX that still has
that SHA-256 needs no second parser here.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from lprnet import contract
from lprnet.errors import SpecError
from lprnet.plate_spec import PlateSpec


@dataclass(frozen=True)
class ModelFile:
    """A checked ONNX.

    Attributes:
        path: the file.
        spec: how to decode its output.
        description: network, precision and version, for logs.
    """

    path: Path
    spec: PlateSpec
    description: str


def read_model_file(path: Path) -> ModelFile:
    """Check an ONNX against its record (`model.onnx` -> `model.json`) and the plate spec.

    Raises:
        SpecError: when one of the three is missing, damaged or another one's.
    """
    advice = "run `lprnet repository`"
    record_file = path.with_suffix(Path(contract.MODEL_RECORD_FILE).suffix)
    try:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        record = json.loads(record_file.read_text(encoding="utf-8"))
        recorded_sha256, recorded_spec = record["onnx_sha256"], record["plate_spec_digest"]
        description = f"{record['network']} {record['precision']} {record['version']}"
    except OSError as error:
        raise SpecError(f"cannot read {Path(error.filename).name}: {advice}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise SpecError(f"{record_file.name} is no record of a model: {advice}") from error
    if recorded_sha256 != sha256:
        raise SpecError(f"{path.name} is not the file that {record_file.name} names: {advice}")
    spec = PlateSpec.from_file(path.with_name(contract.SPEC_FILE))
    if recorded_spec != spec.digest:
        raise SpecError(f"{contract.SPEC_FILE} is not the plate spec of {path.name}: {advice}")
    return ModelFile(path, spec, description)
