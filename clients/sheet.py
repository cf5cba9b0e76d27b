"""A contact sheet: pictures with the text read under each, as one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from clients.errors import ConfigurationError

UInt8Array = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

COLUMNS: Final = 6
_CELL_WIDTH_PX: Final = 230
_PICTURE_HEIGHT_PX: Final = 120
_CAPTION_HEIGHT_PX: Final = 72
_GAP_PX: Final = 14
_HEAD_HEIGHT_PX: Final = 64
_INNER_PX: Final = 10

# Colours are BGR.
_PAGE: Final[Colour] = (242, 240, 238)
_CARD: Final[Colour] = (255, 255, 255)
_MAT: Final[Colour] = (226, 222, 218)
_INK: Final[Colour] = (40, 34, 30)
_FAINT: Final[Colour] = (135, 125, 118)
_GOOD: Final[Colour] = (70, 140, 40)
_BAD: Final[Colour] = (50, 50, 200)
_FONT: Final = cv2.FONT_HERSHEY_DUPLEX


@dataclass(frozen=True)
class Card:
    """One picture of the sheet.

    Attributes:
        picture: what `thumbnail` gave, or a text that takes its place.
        title: the text read, in large letters.
        note: a second, small line.
        name: the file's name.
        good: True draws a green edge, False a red one, None neither.
    """

    picture: UInt8Array | str
    title: str
    note: str
    name: str
    good: bool | None = None


def thumbnail(picture: UInt8Array) -> UInt8Array:
    """UINT8 [H, W, 3] RGB of any size -> the same as it will stand on the sheet."""
    height, width = picture.shape[:2]
    box_width, box_height = _CELL_WIDTH_PX - 2 * _INNER_PX, _PICTURE_HEIGHT_PX - 2 * _INNER_PX
    scale = min(box_width / width, box_height / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small: UInt8Array = cv2.resize(picture, size, interpolation=way)  # type: ignore[assignment]
    return small


def write_sheet(path: Path, heading: str, cards: Sequence[Card]) -> None:
    """Draw all cards in rows of COLUMNS and write the file.

    Raises:
        ConfigurationError: when it cannot be written.
    """
    columns = min(COLUMNS, max(1, len(cards)))
    rows = -(-len(cards) // columns)
    step_x = _CELL_WIDTH_PX + _GAP_PX
    step_y = _PICTURE_HEIGHT_PX + _CAPTION_HEIGHT_PX + _GAP_PX
    shape = (_HEAD_HEIGHT_PX + rows * step_y, _GAP_PX + columns * step_x, 3)
    sheet: UInt8Array = np.full(shape, _PAGE, np.uint8)
    _write(sheet, heading, (_GAP_PX + 2, 41), 0.8, _INK, shape[1] - 2 * _GAP_PX)
    for number, card in enumerate(cards):
        x = _GAP_PX + number % columns * step_x
        y = _HEAD_HEIGHT_PX + number // columns * step_y
        _draw(sheet[y : y + step_y - _GAP_PX, x : x + _CELL_WIDTH_PX], card)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", sheet)[1].tobytes())
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error


def _draw(cell: UInt8Array, card: Card) -> None:
    cell[:] = _CARD
    cell[:_PICTURE_HEIGHT_PX] = _MAT
    if isinstance(card.picture, str):
        for number, line in enumerate(wrap(card.picture, 30)[:4]):
            _write(cell, line, (_INNER_PX, 30 + 20 * number), 0.42, _INK, _CELL_WIDTH_PX)
    else:
        small = cv2.cvtColor(card.picture, cv2.COLOR_RGB2BGR)
        height, width = small.shape[:2]
        top, left = (_PICTURE_HEIGHT_PX - height) // 2, (_CELL_WIDTH_PX - width) // 2
        cell[top : top + height, left : left + width] = small
    edge = {True: _GOOD, False: _BAD, None: None}[card.good]
    if edge is not None:
        cell[_PICTURE_HEIGHT_PX : _PICTURE_HEIGHT_PX + 4] = edge
    room = _CELL_WIDTH_PX - 2 * _INNER_PX
    base = _PICTURE_HEIGHT_PX
    _write(cell, card.title, (_INNER_PX, base + 30), 0.75, _INK, room)
    _write(cell, card.note, (_INNER_PX, base + 48), 0.42, edge or _FAINT, room)
    _write(cell, card.name, (_INNER_PX, base + 65), 0.38, _FAINT, room)


def _write(
    image: UInt8Array, text: str, at: tuple[int, int], scale: float, colour: Colour, room_px: int
) -> None:
    """One line of text, shortened in its middle where it does not fit."""
    line = "".join(c if " " <= c <= "~" else "?" for c in text)  # all that OpenCV's fonts hold
    kept = len(line)
    while kept > 4 and cv2.getTextSize(line, _FONT, scale, 1)[0][0] > room_px:
        kept -= 1
        line = f"{line[: kept // 2]}..{line[len(line) - kept // 2 :]}"
    cv2.putText(image, line, at, _FONT, scale, colour, 1, cv2.LINE_AA)
