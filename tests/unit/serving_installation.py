"""An installation of Triton and packages beside it, as the tests of `serving` imagine them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from serving.find import Installation
from serving.python_environment import Packages

WITH_OPENVINO = Packages(
    numpy="1.26.4", openvino="2026.4.1", onnxruntime=None, simplejpeg="1.9.0", cv2="yes"
)
WITHOUT_RUNTIME = dataclasses.replace(WITH_OPENVINO, openvino=None)


def installation(folder: Path, *backends: str, origin: str = "container") -> Installation:
    for name in backends:
        (folder / "backends" / name).mkdir(parents=True)
    return Installation(
        binary=folder / "bin" / "tritonserver",
        backends=folder / "backends",
        caches=folder / "caches",
        stub=None,
        origin=origin,  # type: ignore[arg-type]
    )
