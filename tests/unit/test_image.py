"""Pictures of every kind become one crop, and damaged ones one clear error."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from lprnet.errors import ImageError
from lprnet.image import ImageLimits, decode_image, load_crop, to_crop, to_rgb
from lprnet.image_header import read_header


def picture(width: int = 120, height: int = 40) -> np.ndarray:
    """RGB with a red left half, a blue right half and a white top stripe."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2, 0] = 220
    image[:, width // 2 :, 2] = 220
    image[: height // 4] = 255
    return image


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)  # type: ignore[arg-type]
    return file.getvalue()


PIL_PICTURE = Image.fromarray(picture())
RGBA = PIL_PICTURE.convert("RGBA")
RGBA.putpixel((119, 39), (0, 0, 0, 0))  # Pillow leaves out an alpha channel that hides nothing
FORMATS = {
    "JPEG": encode(PIL_PICTURE, "JPEG", quality=95),
    "progressive JPEG": encode(PIL_PICTURE, "JPEG", quality=95, progressive=True),
    "PNG": encode(PIL_PICTURE, "PNG"),
    "WebP lossless": encode(PIL_PICTURE, "WEBP", lossless=True),
    "WebP lossy": encode(PIL_PICTURE, "WEBP", quality=95),
    "BMP": encode(PIL_PICTURE, "BMP"),
    "palette PNG": encode(PIL_PICTURE.quantize(16), "PNG"),
    "RGBA PNG": encode(RGBA, "PNG"),
    "RGBA WebP": encode(RGBA, "WEBP", lossless=True),
    "CMYK JPEG": encode(PIL_PICTURE.convert("CMYK"), "JPEG", quality=95),
}


@pytest.mark.parametrize("name", FORMATS)
def test_colours_survive(name: str) -> None:
    image = decode_image(FORMATS[name])
    assert image.shape == (40, 120, 3)
    assert image.dtype == np.uint8
    for at, colour in (((30, 20), (220, 0, 0)), ((30, 100), (0, 0, 220)), ((4, 60), (255,) * 3)):
        assert np.abs(image[at].astype(int) - colour).max() <= 24, (name, at, image[at])


@pytest.mark.parametrize("name", FORMATS)
def test_header_states_format_and_size(name: str) -> None:
    header = read_header(FORMATS[name])
    assert (header.width_px, header.height_px) == (120, 40)
    assert header.format.upper() == name.split(" ")[-1 if name[0] != "W" else 0].upper()
    assert header.has_alpha == name.startswith("RGBA")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.98])
def test_truncated(name: str, share: float) -> None:
    data = FORMATS[name]
    with pytest.raises(ImageError) as caught:
        decode_image(data[: int(len(data) * share)])
    assert caught.value.reason == "truncated"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = PIL_PICTURE
    undo = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    stored = upright
    for step in undo.get(orientation, []):
        stored = stored.transpose(step)
    image = decode_image(encode(stored, kind, exif=exif, quality=95))
    assert image.shape == (40, 120, 3)
    assert np.abs(image[30, 20].astype(int) - (220, 0, 0)).max() <= 24


def test_sixteen_bit_and_grayscale() -> None:
    deep = (picture().astype(np.uint16) << 8)[:, :, ::-1]
    done, data = cv2.imencode(".png", deep)
    assert done
    assert np.array_equal(decode_image(data.tobytes()), picture())
    gray = Image.fromarray(picture()).convert("L")
    image = decode_image(encode(gray, "PNG"))
    assert image.shape == (40, 120, 3)
    assert (image[:, :, 0] == image[:, :, 2]).all()


def test_transparency_lies_over_white() -> None:
    clear = Image.new("RGBA", (60, 30), (0, 0, 0, 0))
    assert (decode_image(encode(clear, "PNG")) == 255).all()


def test_first_frame_of_an_animation() -> None:
    frames = [PIL_PICTURE, Image.new("RGB", PIL_PICTURE.size, (0, 255, 0))]
    data = encode(
        frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True, duration=50
    )
    image = decode_image(data)
    assert np.abs(image[30, 20].astype(int) - (220, 0, 0)).max() <= 24


def huge_png() -> bytes:
    """A PNG of 20,000 x 20,000 in a few kilobytes: a decompression bomb."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(100_000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"plate: AB 123 CD", "not_an_image"),
        (b"GIF89a" + bytes(40), "not_an_image"),
        (b"\xff\xd8\xff", "truncated"),
        (b"\xff\xd8\xff\xd9", "corrupt"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (b"RIFF\x10\x00\x00\x00WEBPVP8 ", "truncated"),
        (b"BM", "truncated"),
        (huge_png(), "too_large"),
        (encode(Image.new("RGB", (1, 1)), "PNG"), "too_small"),
        (encode(Image.new("RGB", (2000, 10)), "PNG"), "bad_shape"),
    ],
)
def test_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode_image(data)
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)


def test_nothing_behind_the_end_of_a_png_is_read() -> None:
    data = FORMATS["PNG"]
    assert read_header(data + b"anything").end == len(data)
    assert np.array_equal(decode_image(data + bytes(100)), decode_image(data))
    header_only = data[:33] + data[-12:]
    with pytest.raises(ImageError) as caught:
        decode_image(header_only + b"\xff" * 4000)
    assert caught.value.reason == "corrupt"


def test_garbled_pixels_are_an_error_not_a_crash() -> None:
    data = bytearray(FORMATS["PNG"])
    middle = data.index(b"IDAT") + 8
    data[middle : middle + 12] = bytes(12)
    with pytest.raises(ImageError) as caught:
        decode_image(bytes(data))
    assert caught.value.reason == "corrupt"


def opencv_rgb(data: bytes) -> np.ndarray:
    stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return cv2.cvtColor(stored, cv2.COLOR_BGR2RGB)


@pytest.mark.parametrize("garbled", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"subsampling": "4:4:4"},
        {"subsampling": "4:2:2"},
        {"subsampling": "4:2:0"},
        {"subsampling": "4:1:1"},
        {"progressive": True},
        {"restart_marker_blocks": 2},
        {"quality": 5},
    ],
    ids=str,
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpegs_are_opencvs_pixels(mode: str, options: dict[str, object], garbled: bool) -> None:
    """Two decoders share the work: who is asked must not matter, damaged files included."""
    noise = np.random.default_rng(7).integers(0, 256, (41, 97, 3), np.uint8)
    data = bytearray(encode(Image.fromarray(noise).convert(mode), "JPEG", **options))
    if garbled:
        data[len(data) // 2] ^= 0x55
    elif mode != "CMYK":  # of which OpenCV reads some alone; else two decoders are compared here
        simplejpeg.decode_jpeg(bytes(data), strict=False)
    assert np.array_equal(decode_image(bytes(data)), opencv_rgb(bytes(data)))


def test_a_jpeg_that_only_opencv_reads() -> None:
    data = bytearray(FORMATS["JPEG"])
    data[data.index(b"JFIF\0") + 5] = 184  # a revision of JFIF that nobody knows
    with pytest.raises(ValueError, match="revision"):
        simplejpeg.decode_jpeg(bytes(data), strict=False)
    assert np.array_equal(decode_image(bytes(data)), opencv_rgb(bytes(data)))


def test_limits() -> None:
    with pytest.raises(ImageError, match="bytes") as caught:
        decode_image(FORMATS["PNG"], ImageLimits(max_bytes=100))
    assert caught.value.reason == "too_large"
    with pytest.raises(ImageError, match="120 x 40"):
        decode_image(FORMATS["PNG"], ImageLimits(max_pixels=1000))


def test_geometry_is_the_reference_rule() -> None:
    image = np.random.default_rng(1).integers(0, 256, (77, 210, 3), dtype=np.uint8)
    crop = to_crop(image)
    assert crop.shape == (3, 48, 96)
    assert crop.flags["C_CONTIGUOUS"]
    expected = cv2.resize(image, (96, 48), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(crop, expected.transpose(2, 0, 1))
    same = image[:48, :96]
    assert np.array_equal(to_crop(same), same.transpose(2, 0, 1))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((48, 96, 3), np.float32),
        np.zeros((48, 96, 3), np.uint16),
        np.zeros((48, 96), np.uint8),
        np.zeros((48, 96, 4), np.uint8),
    ],
    ids=["float", "16 bits", "gray", "alpha"],
)
def test_a_crop_is_made_of_rgb_bytes_only(image: np.ndarray) -> None:
    with pytest.raises(ImageError, match="to_rgb"):
        to_crop(image)


@pytest.mark.parametrize("name", FORMATS)
def test_both_ways_to_a_crop_agree(name: str) -> None:
    assert np.array_equal(load_crop(FORMATS[name]), to_crop(decode_image(FORMATS[name])))


def test_load_crop() -> None:
    crop = load_crop(FORMATS["PNG"])
    assert crop.shape == (3, 48, 96)
    assert crop[0, 36, 10] == 220  # red stands in the first channel


@pytest.mark.parametrize(
    "image",
    [
        np.full((8, 9), 255, np.uint8),
        np.full((8, 9, 1), 65535, np.uint16),
        np.full((8, 9), True),
        np.full((8, 9, 3), 1.0, np.float32),
        np.full((8, 9, 4), 255, np.uint8),
    ],
)
def test_arrays_of_every_depth(image: np.ndarray) -> None:
    assert np.array_equal(to_rgb(image), np.full((8, 9, 3), 255, np.uint8))


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.zeros((3, 48, 96), np.uint8), "bad_shape"),
        (np.zeros((0, 5, 3), np.uint8), "bad_shape"),
        (np.zeros((5, 5, 3), np.int32), "bad_dtype"),
        (np.full((5, 5), np.nan), "bad_dtype"),
        (np.full((5, 5), 255.0), "bad_dtype"),
    ],
)
def test_arrays_that_are_no_pictures(image: np.ndarray, reason: str) -> None:
    with pytest.raises(ImageError) as caught:
        to_rgb(image)
    assert caught.value.reason == reason
