"""Real plates through gRPC with the shipped weights: the text of the in-process runtime, exactly.

The pictures are kept outside the repository; `LPRNET_DATA` names their folder.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpcclient

from lprnet import contract
from lprnet.ctc import DecodedBatch, decode
from lprnet.image import load_crop
from lprnet.plate_spec import PlateSpec
from serving import TritonServer

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("LPRNET_DATA", ROOT.parent / "shared" / "data"))
PLATES = DATA / "val" / "eu" / "image"
COUNT = 96
TIMEOUT_S = 120.0

pytestmark = [
    pytest.mark.integration,
    pytest.mark.real_plates,
    pytest.mark.skipif(not PLATES.is_dir(), reason=f"no real plates in {DATA}: set LPRNET_DATA"),
]


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    return [path.read_bytes() for path in sorted(PLATES.glob("*.jpg"))[:COUNT]]


@pytest.fixture(scope="module")
def in_process(server: TritonServer, files: list[bytes]) -> DecodedBatch:
    """The served ONNX on the served runtime, in this process, one plate at a time."""
    folder = server.options.repository / contract.ENGINE_MODEL / "1"
    sys.path.insert(0, str(folder))
    try:
        from lprnet_engine import EngineOptions, choose_runtime, load_engine  # as Triton does
        from lprnet_model_file import AUTO, model_path
    finally:
        sys.path.remove(str(folder))
    spec = PlateSpec.from_file(folder / contract.SPEC_FILE)
    served = model_path(folder, AUTO, choose_runtime("auto"))
    engine = load_engine(served, spec, EngineOptions(warmup_batches=()))
    rows = [
        engine.infer(load_crop(data, spec.height_px, spec.width_px)[np.newaxis]) for data in files
    ]
    ids = np.concatenate([row[0] for row in rows])
    return decode(ids, np.concatenate([row[1] for row in rows]), spec)


@pytest.mark.parametrize("batch", [1, 32])
@pytest.mark.parametrize("model", [contract.CROP_ENSEMBLE, contract.IMAGE_ENSEMBLE])
def test_the_server_reads_what_the_runtime_reads(
    server: TritonServer, files: list[bytes], in_process: DecodedBatch, model: str, batch: int
) -> None:
    plates: list[str] = []
    confidences: list[float] = []
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        for begin in range(0, len(files), batch):
            part = files[begin : begin + batch]
            if model == contract.CROP_ENSEMBLE:
                crops = np.stack([load_crop(data) for data in part])
                tensor = grpcclient.InferInput(contract.IMAGE, list(crops.shape), "UINT8")
                tensor.set_data_from_numpy(crops)
            else:
                encoded = np.array(part, dtype=np.object_)[:, np.newaxis]
                tensor = grpcclient.InferInput(contract.ENCODED, list(encoded.shape), "BYTES")
                tensor.set_data_from_numpy(encoded)
            answer = client.infer(model, [tensor], client_timeout=TIMEOUT_S)
            plates += [plate.decode() for plate in answer.as_numpy(contract.PLATE)[:, 0]]
            confidences += answer.as_numpy(contract.CONFIDENCE)[:, 0].tolist()
    assert plates == list(in_process.plates)
    np.testing.assert_allclose(confidences, in_process.confidence, atol=1e-6)
    assert len(set(plates)) > len(files) // 2  # it reads different plates, not one answer


def test_the_shipped_weights_read_the_probe_picture(server: TritonServer) -> None:
    folder = server.options.repository / contract.ENGINE_MODEL / "1"
    record = json.loads((folder / contract.MODEL_RECORD_FILE).read_text())
    assert record["probe"]["plate"] == "BKL2479"  # as it is drawn in serving/probe.png
