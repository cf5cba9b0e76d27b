"""Odd pictures and failing models through a real server: one clear answer each, no insides.

Seen to fail: with `try` taken out of a model.py's `execute`, the client gets a traceback with file
names; with `check_size` taken out of `decode_image`, the pixel and the line are read as plates and
only OpenCV's own limit stands before the bomb.
"""

from __future__ import annotations

import io
import shutil
import struct
import sys
import time
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.grpc as grpcclient
from conftest import options_for
from onnx_samples import paint
from PIL import Image
from tritonclient.utils import InferenceServerException

from lprnet import contract
from serving import TritonServer

sys.path.append(str(Path(__file__).resolve().parents[1]))
from chaos.fuzz import leaks
from chaos.load import png

pytestmark = pytest.mark.integration

TIMEOUT_S = 60
TEXT = "ODD123"
CROP = paint(TEXT)
RGB = np.ascontiguousarray(CROP.transpose(1, 2, 0))
WIDE = np.zeros((4, 4000, 3), np.uint8)


def encode(kind: str, image: npt.NDArray[np.generic], *options: int) -> bytes:
    return bytes(cv2.imencode(kind, image, list(options))[1])


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def animated_png() -> bytes:
    """Two frames of which the first is the picture."""
    data = png(CROP)
    first = data.index(b"IDAT") - 4
    control = chunk(b"acTL", struct.pack(">II", 2, 0))
    frame = struct.pack(">IIIIIHHBB", 0, 96, 48, 0, 0, 1, 1, 0, 0)
    second = struct.pack(">IIIIIHHBB", 1, 96, 48, 0, 0, 1, 1, 0, 0)
    size = struct.unpack(">I", data[first : first + 4])[0]
    pixels = data[first + 8 : first + 8 + size]
    end = data[first + 12 + size :]
    frames = chunk(b"fcTL", second) + chunk(b"fdAT", struct.pack(">I", 2) + pixels)
    return (
        data[:first]
        + control
        + chunk(b"fcTL", frame)
        + data[first : first + 12 + size]
        + (frames + end)
    )


def animated_webp() -> bytes:
    """Two frames of which the first is the picture."""
    made = io.BytesIO()
    second = [Image.new("RGB", (96, 48), "white")]
    Image.fromarray(RGB).save(
        made, "WEBP", lossless=True, save_all=True, append_images=second, duration=100
    )
    data = made.getvalue()
    assert data.count(b"ANMF") == 2
    return data


def cmyk_jpeg() -> bytes:
    """Four inks, inverted, with Adobe's marker: what print programs write."""
    made = io.BytesIO()
    Image.fromarray(RGB).convert("CMYK").save(made, "JPEG", quality=100, subsampling=0)
    data = made.getvalue()
    assert data[data.index(b"\xff\xc0") + 9] == 4
    return data


def bomb() -> bytes:
    """A PNG of a few hundred bytes that says it has 3.6 thousand million pixels."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(10_000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def gif() -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", 96, 48, 0, 0, 0) + b";"


READ = {
    "plain": png(CROP),
    "16 bit": encode(".png", RGB.astype(np.uint16) * 257),
    "gray": encode(".png", RGB[:, :, 0]),
    "gray 16 bit": encode(".png", RGB[:, :, 0].astype(np.uint16) * 257),
    "alpha 16 bit": encode(
        ".png", np.dstack([RGB, np.full((48, 96), 255, np.uint8)]).astype(np.uint16) * 257
    ),
    "alpha": encode(".png", np.dstack([RGB, np.full((48, 96), 255, np.uint8)])),
    "animated": animated_png(),
    "webp": encode(".webp", RGB, cv2.IMWRITE_WEBP_QUALITY, 101),
    "animated webp": animated_webp(),
    "cmyk jpeg": cmyk_jpeg(),
    "bmp": encode(".bmp", RGB),
}


def endless_png() -> bytes:
    """No image data, and behind the end what OpenCV takes for a chunk of 4 GB.

    Seen to fail where OpenCV is handed the bytes behind the end: no answer for 15 s.
    """
    data = png(CROP).replace(b"IDAT", b"IDmT")
    return data + b"\xff\xff\xff\xf0IDAT" + bytes(400)


REFUSED = {
    "endless": (endless_png(), "corrupt"),
    "empty": (b"", "empty"),
    "bomb": (bomb(), "too_large"),
    "gif": (gif(), "not_an_image"),
    "text": (b"\xef\xbb\xbfhello", "not_an_image"),
    "one pixel": (encode(".png", np.zeros((1, 1, 3), np.uint8)), "too_small"),
    "absurd aspect": (encode(".png", WIDE), "bad_shape"),
    "zero size": (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 0, 8, 2, 0, 0, 0)),
        "",
    ),
    "cut": (png(CROP)[:-30], "truncated"),
    "large file": (b"\xff\xd8\xff" + bytes(17 * 2**20), "too_large"),
}


def ask(client: grpcclient.InferenceServerClient, *files: bytes) -> list[str]:
    tensor = grpcclient.InferInput(contract.ENCODED, [len(files), 1], "BYTES")
    tensor.set_data_from_numpy(np.array(files, dtype=np.object_)[:, np.newaxis])
    answer = client.infer(contract.IMAGE_ENSEMBLE, [tensor], client_timeout=TIMEOUT_S)
    return [plate.decode() for plate in answer.as_numpy(contract.PLATE)[:, 0]]


def refusal(client: grpcclient.InferenceServerClient, *files: bytes) -> tuple[str, str]:
    with pytest.raises(InferenceServerException) as caught:
        ask(client, *files)
    return str(caught.value.status()), str(caught.value.message())


@pytest.mark.parametrize("kind", READ)
def test_every_kind_of_picture_is_read(client: grpcclient.InferenceServerClient, kind: str) -> None:
    assert ask(client, READ[kind]) == [TEXT]


@pytest.mark.parametrize("kind", REFUSED)
def test_a_picture_that_is_none_gets_its_reason(
    client: grpcclient.InferenceServerClient, kind: str
) -> None:
    data, reason = REFUSED[kind]
    status, message = refusal(client, data)
    assert status == "StatusCode.INVALID_ARGUMENT"
    assert f"{reason}: " in message
    assert not leaks(message)
    assert "\n" not in message
    assert ask(client, READ["plain"]) == [TEXT]


def test_a_jpeg_that_claims_a_fourth_ink_is_refused(
    client: grpcclient.InferenceServerClient,
) -> None:
    data = bytearray(encode(".jpg", RGB, cv2.IMWRITE_JPEG_QUALITY, 100))
    frame = data.index(b"\xff\xc0")
    data[frame + 9] = 4
    status, message = refusal(client, bytes(data))
    assert status == "StatusCode.INVALID_ARGUMENT"
    assert not leaks(message)


def test_refusals_are_counted_by_reason(
    client: grpcclient.InferenceServerClient, sample_server: TritonServer
) -> None:
    refusal(client, b"nothing of the kind")
    assert counted(sample_server, "lprnet_rejected_pictures_total", 'reason="not_an_image"', 1) >= 1


def test_plates_are_counted_with_their_confidence(
    client: grpcclient.InferenceServerClient, sample_server: TritonServer
) -> None:
    last = ("lprnet_confidence_bucket", 'le="+Inf"')  # of those that are sent together
    before = counted(sample_server, *last, 0)
    for _ in range(3):
        assert ask(client, READ["plain"]) == [TEXT]
    filled = counted(sample_server, *last, before + 3)
    assert filled >= before + 3
    plates, empty, count, total = (
        counted(sample_server, f"lprnet_{name}", "", 0)
        for name in ("plates_total", "empty_plates_total", "confidence_count", "confidence_sum")
    )
    assert plates - empty == count == filled  # plates with characters have a confidence
    assert 0 < total <= count


def counted(server: TritonServer, name: str, label: str, least: float) -> float:
    """Sum of a counter over the processes; models send theirs once a second."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while True:
        with urllib.request.urlopen(server.metrics_url, timeout=TIMEOUT_S) as answer:
            lines = answer.read().decode().splitlines()
        found = [line for line in lines if line.startswith(f"{name}{{") and label in line]
        total = sum(float(line.split()[-1]) for line in found)
        if total >= least or time.monotonic() > deadline_s:
            return total
        time.sleep(0.2)


# --- models that fail ----------------------------------------------------------------------

FAILURE = 'raise RuntimeError(f"secret {__file__} {hex(id(object()))}")'


@pytest.fixture(scope="module")
def failing(sample_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server whose models raise on white crops and on one picture; its gRPC address."""
    repository = tmp_path_factory.mktemp("failing") / "repository"
    shutil.copytree(sample_repository, repository)
    engine = repository / contract.ENGINE_MODEL / "1" / "model.py"
    text = engine.read_text()
    marked = text.replace(
        "        ids, probs = self._engine.infer(batch)\n",
        f"        if batch.min() == 255:\n            {FAILURE}\n"
        "        ids, probs = self._engine.infer(batch)\n",
    )
    assert marked != text
    engine.write_text(marked)
    decoder = repository / contract.IMAGE_DECODER_MODEL / "1" / "model.py"
    text = decoder.read_text()
    marked = text.replace(
        "            return load_crop(",
        f'            if data == b"raise":\n                {FAILURE}\n'
        "            return load_crop(",
    )
    assert marked != text
    decoder.write_text(marked)
    with TritonServer(options_for(repository, log_level="error")) as server:
        yield server.grpc_url


def test_a_failing_engine_tells_nothing_of_itself(failing: str) -> None:
    white = np.full((1, *CROP.shape), 255, np.uint8)
    with grpcclient.InferenceServerClient(failing) as client:
        tensor = grpcclient.InferInput(contract.IMAGE, list(white.shape), "UINT8")
        tensor.set_data_from_numpy(white)
        with pytest.raises(InferenceServerException) as caught:
            client.infer(contract.CROP_ENSEMBLE, [tensor], client_timeout=TIMEOUT_S)
        message = str(caught.value.message())
        assert "lprnet failed; the reason is in the server's log" in message
        assert "secret" not in message
        assert not leaks(message)
        assert ask(client, READ["plain"]) == [TEXT]


def test_a_picture_that_breaks_the_decoder_is_named_and_its_neighbours_are_read(
    failing: str,
) -> None:
    with grpcclient.InferenceServerClient(failing) as client:
        status, message = refusal(client, READ["plain"], b"raise")
        assert status == "StatusCode.INVALID_ARGUMENT"
        assert "picture 1: corrupt: the picture does not decode" in message
        assert "secret" not in message
        assert ask(client, READ["plain"]) == [TEXT]
