"""Mutated pictures and requests. Every one must be answered, shortly, without the server's insides.

Seen to fail: with the `except Exception` of a model.py taken out, `leaks` finds the traceback.
"""

from __future__ import annotations

import math
import random
import re
import socket
import struct
import time
from collections import Counter
from dataclasses import dataclass, field

import cv2
import grpc
import numpy as np
import tritonclient.grpc as grpcclient
from onnx_samples import paint
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from lprnet import contract
from lprnet.plate_spec import DEFAULT_SPEC

SLOW_S = 1.0
GOOD_EVERY = 25
"""A good request among so many bad ones, whose answer must be right."""
_INSIDES = re.compile(r"Traceback|\.py\b|0x[0-9a-f]{6,}|/(?:home|tmp|opt|usr|root|srv|work)/")


def leaks(message: str) -> bool:
    """Whether a client's error tells of files, addresses or code."""
    return _INSIDES.search(message) is not None


@dataclass
class Findings:
    """What went wrong, and the count of what did not."""

    sent: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    leaks: list[str] = field(default_factory=list)
    slow_s: list[float] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    slowest_s: float = 0.0

    def note(self, answer: str, message: str, began: float) -> None:
        """One answer."""
        taken = time.monotonic() - began
        self.sent += 1
        self.answers[answer] += 1
        self.slowest_s = max(self.slowest_s, taken)
        if taken > SLOW_S:
            self.slow_s.append(round(taken, 3))
        if leaks(message):
            self.leaks.append(message[:300])
        if answer in ("INTERNAL", "UNKNOWN", "UNAVAILABLE", "DEADLINE_EXCEEDED"):
            self.broken.append(f"{answer}: {message[:200]}")

    @property
    def good(self) -> bool:
        """Nothing to complain of."""
        return not (self.leaks or self.slow_s or self.broken)

    def figures(self) -> dict[str, object]:
        """For the report."""
        return {
            "sent": self.sent,
            "answers": dict(self.answers),
            "slowest_ms": round(self.slowest_s * 1000, 1),
            "over_1_s": self.slow_s[:5],
            "leaks": self.leaks[:5],
            "broken": self.broken[:5],
        }


def seeds(rng: random.Random) -> list[bytes]:
    """Pictures of every format, depth and kind, to be mutated."""
    noise = np.random.default_rng(rng.randrange(2**32)).integers(0, 256, (32, 80, 3), np.uint8)
    alpha = np.dstack([noise, noise[:, :, 0]])
    made = [
        (".jpg", noise, [cv2.IMWRITE_JPEG_QUALITY, 80]),
        (".jpg", noise, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
        (".jpg", noise[:, :, 0], []),
        (".png", noise, []),
        (".png", noise[:, :, 0], []),
        (".png", noise.astype(np.uint16) * 257, []),
        (".png", alpha, []),
        (".webp", noise, [cv2.IMWRITE_WEBP_QUALITY, 70]),
        (".webp", noise, [cv2.IMWRITE_WEBP_QUALITY, 101]),
        (".webp", alpha, []),
        (".bmp", noise, []),
    ]
    return [bytes(cv2.imencode(kind, image, options)[1]) for kind, image, options in made]


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One to eight damages: bits, bytes, numbers, cuts, repeats, swaps, foreign parts."""
    broken = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(max(1, len(broken)))
        # Headers are short and decide most: every second damage hits them.
        if rng.random() < 0.5:
            at = rng.randrange(max(1, min(64, len(broken))))
        kind = rng.randrange(8)
        if kind == 0 and broken:
            broken[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and broken:
            broken[at] = rng.randrange(256)
        elif kind == 2:
            number = rng.choice([0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF])
            broken[at : at + 4] = struct.pack(rng.choice(["<I", ">I"]), number)
        elif kind == 3:
            del broken[at:]
        elif kind == 4:
            del broken[at : at + rng.randint(1, 40)]
        elif kind == 5:
            broken[at:at] = broken[at : at + rng.randint(1, 200)]
        elif kind == 6:
            broken[at:at] = rng.randbytes(rng.randint(1, 60))
        else:
            broken += rng.randbytes(rng.randint(1, 400))
    return bytes(broken)


def pictures(url: str, count: int, seed: int) -> Findings:
    """Send mutated pictures, each on its own or in a batch, good ones between them."""
    rng = random.Random(seed)
    originals = seeds(rng)
    findings = Findings()
    good = bytes(cv2.imencode(".png", paint("GOOD1").transpose(1, 2, 0))[1])
    with grpcclient.InferenceServerClient(url) as client:
        for number in range(count):
            data = mutate(rng.choice(originals), rng)
            began = time.monotonic()
            status, message, _ = _read(client, data)
            findings.note(status, message, began)
            if number % GOOD_EVERY == 0:
                status, message, plate = _read(client, good)
                if plate != "GOOD1":
                    findings.broken.append(f"good picture: {status} {message} {plate}")
    return findings


def _read(client: grpcclient.InferenceServerClient, data: bytes) -> tuple[str, str, str | None]:
    tensor = grpcclient.InferInput(contract.ENCODED, [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[data]], dtype=np.object_))
    try:
        answer = client.infer(contract.IMAGE_ENSEMBLE, [tensor], client_timeout=30)
    except InferenceServerException as error:
        return str(error.status()).removeprefix("StatusCode."), str(error.message()), None
    return "OK", "", answer.as_numpy(contract.PLATE)[0, 0].decode()


def requests(url: str, count: int, seed: int) -> Findings:
    """gRPC requests that are well-formed protobuf and nonsense, and some that are not even that."""
    rng = random.Random(seed)
    findings = Findings()
    channel = grpc.insecure_channel(url)
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    raw = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    names = ("lpr", "lpr_image", "lprnet", "ctc_decoder", "image_decoder", "", "../x", "a" * 3000)
    with grpcclient.InferenceServerClient(url) as client:
        for number in range(count):
            began = time.monotonic()
            try:
                if number % 4 == 0:
                    raw(mutate(_request(rng, names).SerializeToString(), rng), timeout=30)
                else:
                    stub.ModelInfer(_request(rng, names), timeout=30)
                status, message = "OK", ""
            except grpc.RpcError as error:
                status, message = error.code().name, str(error.details())
            if status == "UNAVAILABLE" and "not available" in message.lower():
                status = "NOT_AVAILABLE_MODEL"
            findings.note("UNPARSED" if "arse" in message else status, message, began)
            if number % GOOD_EVERY == 0:
                good = bytes(cv2.imencode(".png", paint("GOOD2").transpose(1, 2, 0))[1])
                if _read(client, good)[2] != "GOOD2":
                    findings.broken.append(f"good request after {number}")
    channel.close()
    return findings


def _request(rng: random.Random, names: tuple[str, ...]) -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(model_name=rng.choice(names))
    request.model_version = rng.choice(["", "", "", "1", "2", "-1", "x"])
    if rng.random() < 0.5:
        _fill(request, rng)
        return request
    for _ in range(rng.choice([0, 1, 1, 1, 2, 5])):
        tensor = request.inputs.add()
        tensor.name = rng.choice(["image", "encoded", "char_ids", "char_probs", "", "x"])
        tensor.datatype = rng.choice(["UINT8", "BYTES", "FP32", "INT32", "", "FP128", "BOOL"])
        size = rng.choice([0, 1, 3, 48, 96, 2**31, 2**62, -1])
        tensor.shape.extend(rng.choice([[1, 3, 48, 96], [1, 1], [1, 48], [], [size], [size] * 4]))
        if rng.random() < 0.2:
            tensor.parameters["shared_memory_region"].string_param = "nobody"
            tensor.parameters["shared_memory_byte_size"].int64_param = rng.choice([-1, 0, 2**62])
        if rng.random() < 0.8:
            length = rng.choice([0, 3, 4, 192, 13824, 13824])
            prefix = struct.pack("<I", rng.choice([0, 4, 0xFFFFFFFF]))
            request.raw_input_contents.append((prefix + rng.randbytes(length))[:length])
    if rng.random() < 0.2:
        request.outputs.add(name=rng.choice(["plate", "nothing", ""]))
    return request


def _fill(request: service_pb2.ModelInferRequest, rng: random.Random) -> None:
    """Inputs as the model wants them, of nonsense: these get through Triton's parser."""
    steps, shape = DEFAULT_SPEC.time_steps, DEFAULT_SPEC.image_shape
    picture = mutate(b"\x89PNG\r\n\x1a\n" + rng.randbytes(60), rng)
    probs = rng.choices([0.0, -1.0, 0.5, 1e38, float("nan"), float("inf")], k=steps)
    ids = [rng.choice([0, 1, 35, 36, 37, -1, 2**31 - 1, -(2**31)]) for _ in range(steps)]
    image = (contract.IMAGE, "UINT8", [1, *shape], rng.randbytes(math.prod(shape)))
    encoded = (contract.ENCODED, "BYTES", [1, 1], struct.pack("<I", len(picture)) + picture)
    inputs = {
        contract.CROP_ENSEMBLE: [image],
        contract.ENGINE_MODEL: [image],
        contract.IMAGE_ENSEMBLE: [encoded],
        contract.IMAGE_DECODER_MODEL: [encoded],
        contract.DECODER_MODEL: [
            (contract.CHAR_IDS, "INT32", [1, steps], struct.pack(f"<{steps}i", *ids)),
            (contract.CHAR_PROBS, "FP32", [1, steps], struct.pack(f"<{steps}f", *probs)),
        ],
    }
    request.model_version = ""
    for name, datatype, size, data in inputs.get(request.model_name, []):
        request.inputs.add(name=name, datatype=datatype, shape=size)
        request.raw_input_contents.append(data)


def http_bodies(address: tuple[str, int], count: int, seed: int) -> Findings:
    """Raw bytes at the HTTP port: broken JSON, lengths and requests, long and nested ones."""
    rng = random.Random(seed)
    findings = Findings()
    body = b'{"inputs":[{"name":"encoded","shape":[1,1],"datatype":"BYTES","data":["abc"]}]}'
    for number in range(count):
        content = mutate(body, rng)
        if number % 50 == 0:  # what no thread's stack of 8 MiB holds, see serving/guard.py
            content = rng.choice([b"[" * 200_000, body + bytes(5_000_000)])
        length = len(content) if number % 3 else rng.choice([0, 1, len(content)])
        binary = b"Inference-Header-Content-Length: " + str(rng.choice([0, 5, 2**63])).encode()
        head = b"POST /v2/models/lpr_image/infer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        head += binary + b"\r\n" if number % 5 == 0 else b""
        message = head + f"Content-Length: {length}\r\n\r\n".encode() + content
        if number % 7 == 0:
            message = mutate(message, rng) + b"\r\n\r\n"
        began = time.monotonic()
        with socket.create_connection(address, timeout=10) as connection:
            try:
                connection.sendall(message)  # the server may have seen enough before its end
                # Some of these are not complete: then the server waits for the rest, as it should.
                connection.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda c=connection: c.recv(65536), b""))
            except (BrokenPipeError, ConnectionResetError):
                answer = b""
        text = answer.decode(errors="replace")
        findings.note(text.split(" ", 2)[1] if text.startswith("HTTP/") else "closed", text, began)
    return findings
