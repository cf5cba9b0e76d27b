"""Labelled sets whose text the sample ONNX reads exactly, because it is painted into the pixels."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

sys.path.append(str(Path(__file__).resolve().parents[1]))
from onnx_samples import paint


def pixels(text: str) -> npt.NDArray[np.uint8]:
    """UINT8 [48, 96, 3] RGB that is read as `text`."""
    return np.ascontiguousarray(paint(text).transpose(1, 2, 0))


def write_tao(root: Path, plates: Mapping[str, tuple[str, str]]) -> Path:
    """TAO set of file stem -> (painted text, label)."""
    (root / "image").mkdir(parents=True)
    (root / "label").mkdir()
    for stem, (painted, label) in plates.items():
        assert cv2.imwrite(str(root / "image" / f"{stem}.png"), pixels(painted))
        (root / "label" / f"{stem}.txt").write_text(f"{label}\n", encoding="utf-8")
    return root
