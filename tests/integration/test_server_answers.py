"""The ensembles' answers through gRPC on a real tritonserver."""

from __future__ import annotations

import json
import random
import struct
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import psutil  # type: ignore[import-untyped]
import pytest
import tritonclient.grpc as grpcclient
from onnx_samples import paint
from tritonclient.utils import InferenceServerException

from lprnet import contract
from lprnet.charset import DEFAULT_CHARSET
from lprnet.plate_spec import DEFAULT_SPEC
from serving import TritonServer
from serving.launch import KEY_HEADER
from serving.watchdog_stubs import find_stubs

pytestmark = pytest.mark.integration

TIMEOUT_S = 60.0
Client = grpcclient.InferenceServerClient
ENSEMBLE_OUTPUTS = (
    contract.PLATE,
    contract.CONFIDENCE,
    contract.CHAR_CONFIDENCES,
    contract.PLATE_IDS,
)


def infer(
    client: Client, model: str, inputs: dict[str, npt.NDArray[Any]]
) -> grpcclient.InferResult:
    tensors = []
    for name, array in inputs.items():
        datatype = {"uint8": "UINT8", "int32": "INT32", "float32": "FP32"}.get(
            array.dtype.name, "BYTES"
        )
        tensor = grpcclient.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array)
        tensors.append(tensor)
    return client.infer(model, tensors, client_timeout=TIMEOUT_S)


def read_crops(client: Client, crops: npt.NDArray[np.uint8]) -> list[str]:
    plates = infer(client, contract.CROP_ENSEMBLE, {contract.IMAGE: crops}).as_numpy(contract.PLATE)
    return [plate.decode() for plate in plates[:, 0]]


def read_files(client: Client, files: list[bytes]) -> list[str]:
    encoded = np.array(files, dtype=np.object_)[:, np.newaxis]
    answer = infer(client, contract.IMAGE_ENSEMBLE, {contract.ENCODED: encoded})
    return [plate.decode() for plate in answer.as_numpy(contract.PLATE)[:, 0]]


def png(crop: npt.NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".png", cv2.cvtColor(crop.transpose(1, 2, 0), cv2.COLOR_RGB2BGR))[1])


def random_texts(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    characters = DEFAULT_CHARSET.characters
    return ["".join(rng.choices(characters, k=rng.randint(0, 10))) for _ in range(count)]


@pytest.mark.parametrize("count", [1, 2, 7, contract.MAX_BATCH_CPU])
def test_crops_are_read_in_order(client: Client, count: int) -> None:
    texts = random_texts(count, seed=count)
    assert read_crops(client, np.stack([paint(text) for text in texts])) == texts


@pytest.mark.parametrize("count", [1, 7, contract.MAX_BATCH_CPU])
def test_picture_files_are_read_in_order(client: Client, count: int) -> None:
    texts = random_texts(count, seed=count)
    assert read_files(client, [png(paint(text)) for text in texts]) == texts


def test_all_outputs_have_the_contract_s_types_and_shapes(client: Client) -> None:
    text = "AB11CD2"
    crops = np.stack([paint(text), paint("")])
    for model, inputs in (
        (contract.CROP_ENSEMBLE, {contract.IMAGE: crops}),
        (
            contract.IMAGE_ENSEMBLE,
            {contract.ENCODED: np.array([[png(crop)] for crop in crops], dtype=np.object_)},
        ),
    ):
        answer = infer(client, model, inputs)
        arrays = {name: answer.as_numpy(name) for name in ENSEMBLE_OUTPUTS}
        assert arrays[contract.PLATE].tolist() == [[text.encode()], [b""]]
        confidence, per_character = arrays[contract.CONFIDENCE], arrays[contract.CHAR_CONFIDENCES]
        assert (confidence.dtype, confidence.shape) == (np.float32, (2, 1))
        assert (per_character.dtype, per_character.shape) == (np.float32, (2, 16))
        ids = arrays[contract.PLATE_IDS]
        assert (ids.dtype, ids.shape) == (np.int32, (2, 16))
        assert ids[0].tolist() == [*DEFAULT_SPEC.encode(text), *[-1] * (16 - len(text))]
        assert confidence[0, 0] == pytest.approx(per_character[0, : len(text)].prod(), abs=1e-6)
        assert confidence[1, 0] == 0
        assert not per_character[0, len(text) :].any()


def test_answers_do_not_depend_on_what_others_ask_at_the_same_time(
    sample_server: TritonServer,
) -> None:
    def ask(seed: int) -> tuple[list[str], list[str]]:
        texts = random_texts(1 + seed % 9, seed=seed)
        with Client(sample_server.grpc_url) as own:
            if seed % 2:
                return texts, read_crops(own, np.stack([paint(text) for text in texts]))
            return texts, read_files(own, [png(paint(text)) for text in texts])

    with ThreadPoolExecutor(8) as pool:
        for expected, found in pool.map(ask, range(64)):
            assert found == expected


GOOD = png(paint("GOOD1"))
BAD_FILES = {
    "empty": b"",
    "not_an_image": b"%PDF-1.7 not a picture",
    "truncated": GOOD[:-20],
    "too_small": bytes(cv2.imencode(".png", np.zeros((1, 1, 3), np.uint8))[1]),
    "bad_shape": bytes(cv2.imencode(".png", np.zeros((8, 4000, 3), np.uint8))[1]),
    "too_large": bytes(cv2.imencode(".png", np.zeros((8000, 8000), np.uint8))[1]),
}


def error_of(client: Client, files: list[bytes]) -> InferenceServerException:
    with pytest.raises(InferenceServerException) as caught:
        read_files(client, files)
    return caught.value


@pytest.mark.parametrize("reason", BAD_FILES)
def test_a_bad_picture_gets_a_short_reason(client: Client, reason: str) -> None:
    error = error_of(client, [BAD_FILES[reason]])
    assert error.status() == "StatusCode.INVALID_ARGUMENT"
    assert f" {reason}: " in error.message()
    for secret in ("Traceback", "/", ".py", "0x", "line "):
        assert secret not in error.message()


def test_a_bad_picture_among_others_of_its_request_is_named_by_its_place(client: Client) -> None:
    error = error_of(client, [GOOD, GOOD, BAD_FILES["truncated"], b""])
    assert "picture 2: truncated: " in error.message()
    assert error.status() == "StatusCode.INVALID_ARGUMENT"


def test_neighbours_of_a_bad_picture_get_their_answers(sample_server: TritonServer) -> None:
    bad = list(BAD_FILES.values())

    def ask(number: int) -> str:
        with Client(sample_server.grpc_url) as own:
            if number % 3:
                return read_files(own, [GOOD])[0]
            return error_of(own, [bad[number % len(bad)]]).status()

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, range(60)))
    for number, answer in enumerate(answers):
        assert answer == ("GOOD1" if number % 3 else "StatusCode.INVALID_ARGUMENT")


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        ("lpr", {"image": np.zeros((1, 3, 48, 96), np.float32)}),
        ("lpr", {"image": np.zeros((1, 3, 48, 95), np.uint8)}),
        ("lpr", {"image": np.zeros((65, 3, 48, 96), np.uint8)}),
        ("lpr", {"picture": np.zeros((1, 3, 48, 96), np.uint8)}),
        ("lpr_image", {"encoded": np.zeros((1, 1), np.uint8)}),
        (
            "ctc_decoder",
            {
                "char_ids": np.full((1, DEFAULT_SPEC.time_steps), 99, np.int32),
                "char_probs": np.zeros((1, DEFAULT_SPEC.time_steps), np.float32),
            },
        ),
    ],
    ids=["float", "shape", "batch", "name", "type", "class id"],
)
def test_a_wrong_request_is_refused_and_the_server_goes_on(
    client: Client, model: str, inputs: dict[str, npt.NDArray[Any]]
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        infer(client, model, inputs)
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert "Traceback" not in caught.value.message()
    assert read_crops(client, paint("OK1")[np.newaxis]) == ["OK1"]


def test_the_server_states_the_contract(client: Client) -> None:
    for model in (contract.CROP_ENSEMBLE, contract.IMAGE_ENSEMBLE):
        metadata = client.get_model_metadata(model, client_timeout=TIMEOUT_S)
        assert {tensor.name for tensor in metadata.outputs} == set(ENSEMBLE_OUTPUTS)
        config = client.get_model_config(model, client_timeout=TIMEOUT_S).config
        assert config.max_batch_size == contract.MAX_BATCH_CPU


def test_protected_protocols_need_the_server_s_key(
    sample_server: TritonServer, client: Client
) -> None:
    for refused in (
        client.get_model_repository_index,
        client.get_system_shared_memory_status,
        client.get_trace_settings,
        client.get_log_settings,
        lambda: client.unload_model(contract.ENGINE_MODEL),
    ):
        with pytest.raises(InferenceServerException, match="restricted"):
            refused()
    key = {f"triton-grpc-protocol-{KEY_HEADER}": sample_server.launched.key}
    assert len(client.get_model_repository_index(headers=key).models) == 5
    request = urllib.request.Request(
        f"{sample_server.http_url}/v2/repository/models/lprnet/unload", data=b"{}", method="POST"
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=TIMEOUT_S)
    assert caught.value.code == 403
    assert read_crops(client, paint("OK2")[np.newaxis]) == ["OK2"]


def test_what_comes_alone_stays_with_one_process(server: TritonServer) -> None:
    """Its caches are warm. Seen to fail without --rate-limit: shares of a third."""
    stubs = find_stubs(server.launched.pid, server.launched.shm_prefix)
    try:
        engines = [
            psutil.Process(stub.pid) for stub in stubs if stub.model == contract.ENGINE_MODEL
        ]
        assert len(engines) > 1

        def taken() -> npt.NDArray[np.float64]:
            return np.array([sum(engine.cpu_times()[:2]) for engine in engines])

        before = taken()
        with server.connect() as client:
            for _ in range(200):
                read_crops(client, np.zeros((1, *DEFAULT_SPEC.image_shape), np.uint8))
        used = taken() - before
        assert used.max() > 0.9 * used.sum() > 0, used
    finally:
        for stub in stubs:
            stub.close()


def post(server: TritonServer, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
    request = urllib.request.Request(f"{server.http_url}{path}", data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize("size", [5_000_000, 16_000_000])
def test_http_takes_pictures_of_megabytes(sample_server: TritonServer, size: int) -> None:
    """Seen to fail: with the usual 8 MiB of stack a body of 4.2 MB ended the server."""
    picture = png(paint("ABC12"))
    picture += bytes(size - len(picture))  # readers of pictures ignore what follows one
    header = json.dumps(
        {
            "inputs": [
                {
                    "name": contract.ENCODED,
                    "shape": [1, 1],
                    "datatype": "BYTES",
                    "parameters": {"binary_data_size": size + 4},
                }
            ],
            "outputs": [{"name": contract.PLATE}],
        }
    ).encode()
    code, answer = post(
        sample_server,
        f"/v2/models/{contract.IMAGE_ENSEMBLE}/infer",
        header + struct.pack("<I", size) + picture,
        {"Inference-Header-Content-Length": str(len(header))},
    )
    assert code == 200, answer
    assert json.loads(answer)["outputs"][0]["data"] == ["ABC12"]


def test_http_refuses_deeply_nested_json(sample_server: TritonServer) -> None:
    """Seen to fail: with the usual 8 MiB of stack 120,000 brackets ended the server."""
    code, answer = post(
        sample_server, f"/v2/models/{contract.CROP_ENSEMBLE}/infer", b"[" * 200_000, {}
    )
    assert code >= 400
    assert "failed to parse" in answer
