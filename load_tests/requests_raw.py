"""Requests that are serialised before the clock starts: the load generator's own cost is small."""

from __future__ import annotations

import http.client
import json
import struct
from collections.abc import Sequence
from typing import Any, Final

import grpc  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt
from tritonclient.grpc import service_pb2

from load_tests.drive import Ask
from lprnet import contract
from lprnet.errors import LprnetError

METHOD: Final = "/inference.GRPCInferenceService/ModelInfer"
TIMEOUT_S: Final = 60.0
OUTPUTS: Final = {contract.ENGINE_MODEL: (contract.CHAR_IDS, contract.CHAR_PROBS)}
PLATE_OUTPUTS: Final = (contract.PLATE, contract.CONFIDENCE, contract.CHAR_CONFIDENCES)
DISTINCT: Final = 64
"""Different requests that are made; then they repeat."""


Content = tuple[str, str, list[int], bytes]
"""Name, datatype, shape and content of a request's only input."""


def tensors(
    model: str, files: Sequence[bytes], crops: npt.NDArray[np.uint8], batch: int
) -> list[Content]:
    """Name, datatype, shape and content of each request's only input."""
    count = min(DISTINCT, -(-len(files) // batch) if batch > 1 else len(files))
    made = []
    for number in range(count):
        indices = [(number * batch + at) % len(files) for at in range(batch)]
        if model == contract.IMAGE_ENSEMBLE:
            content = b"".join(struct.pack("<I", len(files[i])) + files[i] for i in indices)
            made.append((contract.ENCODED, "BYTES", [batch, 1], content))
        else:
            chosen = crops[indices]
            made.append((contract.IMAGE, "UINT8", list(chosen.shape), chosen.tobytes()))
    return made


def serialise(model: str, inputs: Sequence[Content]) -> list[bytes]:
    """Inputs -> ModelInferRequests."""
    requests = []
    for name, datatype, shape, content in inputs:
        request = service_pb2.ModelInferRequest(model_name=model, raw_input_contents=[content])
        request.inputs.add(name=name, datatype=datatype, shape=shape)
        for output in OUTPUTS.get(model, PLATE_OUTPUTS):
            request.outputs.add(name=output)
        requests.append(request.SerializeToString())
    return requests


def grpc_asks(
    url: str, model: str, inputs: Sequence[Content], workers: int
) -> tuple[list[Ask], grpc.Channel]:
    """One `Ask` per worker, all on one channel, and the channel to close."""
    requests = serialise(model, inputs)
    batch = inputs[0][2][0]
    channel = grpc.insecure_channel(url, [("grpc.max_send_message_length", -1)])
    call = channel.unary_unary(METHOD)

    def ask(index: int) -> int:
        answer = service_pb2.ModelInferResponse.FromString(
            call(requests[index % len(requests)], timeout=TIMEOUT_S)
        )
        _check(answer.outputs[0].shape[0], batch)
        return batch

    return [ask] * workers, channel


class HttpAsk:
    """One kept-alive connection.

    Args:
        address: HOST:PORT.
        path: of the resource.
        bodies: content and headers of the requests.
        plates: of one answer.
    """

    def __init__(
        self, address: str, path: str, bodies: list[tuple[bytes, dict[str, str]]], plates: int
    ) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S)
        self._path, self._bodies, self._plates = path, bodies, plates

    def __call__(self, index: int) -> int:
        """Post one body and read the answer."""
        body, headers = self._bodies[index % len(self._bodies)]
        self._connection.request("POST", self._path, body, headers)
        response = self._connection.getresponse()
        content = response.read()
        if response.status != http.HTTPStatus.OK:
            raise LprnetError(f"{self._path} answered {response.status}: {content[:200]!r}")
        length = response.headers.get("Inference-Header-Content-Length")
        answer: dict[str, Any] = json.loads(content if length is None else content[: int(length)])
        if length is not None:
            _check(answer["outputs"][0]["shape"][0], self._plates)
        return self._plates

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def triton_bodies(model: str, inputs: Sequence[Content]) -> list[tuple[bytes, dict[str, str]]]:
    """Bodies of KServe v2 with the binary extension, both ways."""
    outputs = [
        {"name": name, "parameters": {"binary_data": True}}
        for name in OUTPUTS.get(model, PLATE_OUTPUTS)
    ]
    made = []
    for name, datatype, shape, content in inputs:
        tensor = {
            "name": name,
            "datatype": datatype,
            "shape": shape,
            "parameters": {"binary_data_size": len(content)},
        }
        head = json.dumps({"inputs": [tensor], "outputs": outputs}).encode()
        headers = {
            "Content-Type": "application/octet-stream",
            "Inference-Header-Content-Length": str(len(head)),
        }
        made.append((head + content, headers))
    return made


def _check(plates: int, batch: int) -> None:
    if plates != batch:
        raise LprnetError(f"the server answered {plates} plates for {batch} pictures")
