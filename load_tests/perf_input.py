"""Input files for perf_analyzer: real pictures and their crops, in its JSON."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path

from load_tests.pictures import PictureSet
from lprnet import contract


def write_inputs(pictures: PictureSet, folder: Path) -> dict[str, Path]:
    """Write the files; model name -> its file."""
    crops = [crop.tobytes() for crop in pictures.crops()]
    # perf_analyzer sends these bytes as they are: Triton's BYTES begin with their length.
    strings = [struct.pack("<I", len(data)) + data for data in pictures.files]
    encoded = _write(folder / "encoded.json", contract.ENCODED, strings)
    image = _write(folder / "image.json", contract.IMAGE, crops)
    return {
        contract.IMAGE_ENSEMBLE: encoded,
        contract.CROP_ENSEMBLE: image,
        contract.ENGINE_MODEL: image,
    }


def _write(path: Path, tensor: str, values: list[bytes]) -> Path:
    data = [{tensor: {"b64": base64.b64encode(value).decode("ascii")}} for value in values]
    path.write_text(json.dumps({"data": data}), encoding="ascii")
    return path
