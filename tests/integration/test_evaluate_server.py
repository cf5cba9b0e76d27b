"""`lprnet evaluate --url` measures a real server and the ONNX behind it alike."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from lprnet_cli import main
from serving import TritonServer

sys.path.append(str(Path(__file__).resolve().parents[1]))
from onnx_samples import paint, write_onnx

pytestmark = pytest.mark.integration

PLATES = {
    "a": ("AB12", "AB12"),
    "b": ("DAUE514", "DAUE514"),
    "c": ("XY0", "XYO"),
    "d": ("Q1", "Z1"),
}


def test_server_and_onnx_agree(
    sample_server: TritonServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "set"
    for part in ("image", "label"):
        (root / part).mkdir(parents=True)
    for stem, (painted, label) in PLATES.items():
        pixels = np.ascontiguousarray(paint(painted).transpose(1, 2, 0))
        assert cv2.imwrite(str(root / "image" / f"{stem}.png"), pixels)
        (root / "label" / f"{stem}.txt").write_text(label)
    (root / "image" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (root / "label" / "broken.txt").write_text("X1")
    out = tmp_path / "r.json"
    onnx = write_onnx(tmp_path / "sample.onnx")
    url = sample_server.grpc_url
    arguments = [str(root), "--url", url, "--onnx", str(onnx), "--json", str(out), "--robustness"]
    assert main(["evaluate", *arguments]) == 0
    local, server = json.loads(out.read_text())["readers"]
    assert server["name"] == url
    assert server["all"] == local["all"]
    assert server["robustness"] == local["robustness"]
    assert (server["all"]["strict"]["right"], server["all"]["folded"]["right"]) == (2, 3)
    assert server["all"]["n"] == 5
    assert server["speed"]["batch1_p50_ms"] > 0


def test_no_server_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "set"
    root.mkdir()
    assert cv2.imwrite(str(root / "AB12.png"), np.zeros((48, 96, 3), np.uint8))
    assert main(["evaluate", str(root), "--url", "127.0.0.1:1"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "127.0.0.1:1" in error
