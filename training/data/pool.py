"""Synthetic plates on disk, a generation at a time, rendered ahead of the trainer.

Generation g holds the plates of seeds (seed, g, 0..n-1), drawn again where the charset cannot write
them, so it is the same whenever and wherever it is rendered, and runs of one seed may share it.
Step s draws from the newest `generations` ones up to s // refresh_steps: a killed run resumes with
exactly the plates it would have seen.
"""

from __future__ import annotations

import fcntl
import hashlib
import multiprocessing
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from lprnet.charset import Charset
from lprnet.contract import MAX_CHARACTERS
from lprnet.image import UInt8Array
from training.config import DataSection
from training.data.cache import unusable
from training.synthetic import PlateGenerator
from training.synthetic.fonts import FontError, FontLibrary
from training.synthetic.generator import undrawable
from training.synthetic.spec import load_families

LONG_NAME: Final = 40
"""Characters of a list of regions that still stand in a folder's name."""


@dataclass(frozen=True)
class PooledPlate:
    """One rendered plate as the trainer needs it.

    Attributes:
        image: UINT8 [H, W, 3] RGB, a view that must not be written to.
        text: label.
        quad: FP32 [4, 2], plate corners in pixels of `image`.
        centres: FP32 [L, 2], middle of each character in pixels of `image`.
        rows: UINT8 [L], 0 = top or only line, 1 = bottom line.
    """

    image: UInt8Array
    text: str
    quad: npt.NDArray[np.float32]
    centres: npt.NDArray[np.float32]
    rows: npt.NDArray[np.uint8]


class Generation:
    """One rendered generation, memory-mapped."""

    def __init__(self, path: Path) -> None:
        self._pixels = np.memmap(path / "pixels.bin", dtype=np.uint8, mode="r")
        with np.load(path / "index.npz") as index:
            self._offset = index["offset"]
            self._shape = index["shape"]
            self._text = index["text"]
            self._quad = index["quad"]
            self._centres = index["centres"]
            self._rows = index["rows"]

    def __len__(self) -> int:
        return len(self._offset)

    def __getitem__(self, index: int) -> PooledPlate:
        height, width = self._shape[index]
        start = self._offset[index]
        text = str(self._text[index])
        return PooledPlate(
            self._pixels[start : start + height * width * 3].reshape(height, width, 3),
            text,
            self._quad[index],
            self._centres[index, : len(text)],
            self._rows[index, : len(text)],
        )


def _generator(data: DataSection, charset: Charset) -> PlateGenerator:
    return PlateGenerator(regions=data.synthetic_regions or None, charset=charset)


def render_generation(
    path: Path, data: DataSection, charset: Charset, seed: int, number: int
) -> None:
    """Render generation `number` into `path`, which appears only when complete.

    Raises:
        CacheError: when it cannot be written.
    """
    generator = _generator(data, charset)
    try:
        _render(generator, path, data, seed, number)
    except OSError as error:
        raise unusable(path.parent, error) from error


def _render(
    generator: PlateGenerator, path: Path, data: DataSection, seed: int, number: int
) -> None:
    count = data.synthetic_plates
    staged = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    offset = np.zeros(count, np.int64)
    shape = np.zeros((count, 2), np.int32)
    quad = np.zeros((count, 4, 2), np.float32)
    centres = np.zeros((count, MAX_CHARACTERS, 2), np.float32)
    rows = np.zeros((count, MAX_CHARACTERS), np.uint8)
    texts, at = [], 0
    with (staged / "pixels.bin").open("wb") as file:
        bar = tqdm(range(count), desc=f"plates of generation {number}", disable=None, leave=False)
        for index in bar:
            rng = np.random.default_rng([seed, number, index])
            generator.photography = bool(rng.random() < data.synthetic_photography)
            plate = generator.sample(rng)
            length = len(plate.text)
            if length > MAX_CHARACTERS:
                raise ValueError(
                    f"generator wrote {plate.text!r}: over {MAX_CHARACTERS} characters"
                )
            offset[index], shape[index] = at, plate.image.shape[:2]
            quad[index] = plate.plate_quad
            boxes = plate.char_boxes
            centres[index, :length] = (boxes[:, :2] + boxes[:, 2:]) / 2
            rows[index, :length] = plate.char_rows
            texts.append(plate.text)
            at += file.write(plate.image.tobytes())
    np.savez(
        staged / "index.npz",
        offset=offset,
        shape=shape,
        text=np.array(texts),
        quad=quad,
        centres=centres,
        rows=rows,
    )
    try:
        staged.replace(path)
    except OSError:  # another process finished the same generation first; both are equal
        shutil.rmtree(staged)
        if not path.is_dir():
            raise


def _render_in_background(
    path: Path, data: DataSection, charset: Charset, seed: int, number: int
) -> None:
    os.nice(5)  # the next generation must not slow the present step
    render_generation(path, data, charset, seed, number)


class SyntheticPool:
    """The generations that a run draws from.

    Args:
        data: sizes and cache folder.
        charset: what the network can write; plates hold nothing else.
        seed: the run's seed.
        revision: digest of the generator's sources and fonts, so that an edited generator
            does not serve yesterday's plates.

    Raises:
        RegionError: when the charset can write hardly any plate of the regions.
    """

    def __init__(self, data: DataSection, charset: Charset, seed: int, revision: str) -> None:
        missing = undrawable(charset)
        if missing:
            _generator(data, charset)  # a charset that fits no plate is told before the work
        self._data = data
        self._charset = charset
        self._seed = seed
        regions = "-".join(data.synthetic_regions) or "all"
        if len(regions) > LONG_NAME:  # cut off, two lists that begin alike would share plates
            digest = hashlib.sha256(regions.encode()).hexdigest()[:12]
            regions = f"{len(data.synthetic_regions)}regions-{digest}"
        self._folder = Path(data.cache).expanduser() / "synthetic"
        share = f"{data.synthetic_photography:g}"
        self._name = f"{revision}-{regions}-{data.synthetic_plates}-{share}-{seed}"
        if missing:  # charsets that can write all of A-Z and 0-9 share plates
            self._name += f"-without{missing}"
        self._open: dict[int, Generation] = {}
        self._held: dict[int, int] = {}  # generation -> its folder, open and locked
        self._renderer: multiprocessing.process.BaseProcess | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Opened anew by each process; locks stay with the one that calls `ensure`.
        return {**self.__dict__, "_open": {}, "_held": {}, "_renderer": None}

    def _path(self, number: int) -> Path:
        return self._folder / f"{self._name}-{number:04d}"

    def _recipe(self, number: int) -> tuple[DataSection, Charset, int, int]:
        """What decides the plates of a generation."""
        return self._data, self._charset, self._seed, number

    def numbers_at(self, step: int) -> range:
        """Generations that step `step` draws from."""
        newest = step // self._data.synthetic_refresh_steps
        return range(max(0, newest - self._data.synthetic_generations + 1), newest + 1)

    def ensure(self, step: int) -> None:
        """Have every generation of `step` on disk (blocks) and the next one on its way."""
        for number in self.numbers_at(step):
            while not self._hold(number):
                if self._renderer is not None:
                    self._renderer.join()
                if not self._path(number).is_dir():
                    render_generation(self._path(number), *self._recipe(number))
        upcoming = self.numbers_at(step).stop
        busy = self._renderer is not None and self._renderer.is_alive()
        if not self._hold(upcoming) and not busy:
            context = multiprocessing.get_context("spawn")
            self._renderer = context.Process(
                target=_render_in_background,
                args=(self._path(upcoming), *self._recipe(upcoming)),
                daemon=True,
            )
            self._renderer.start()
        for old in range(self.numbers_at(step).start - 1):
            self._remove(old)

    def _hold(self, number: int) -> bool:
        """Keep other runs from removing a generation; False when there is none."""
        if number in self._held:
            return True
        try:
            folder = os.open(self._path(number), os.O_RDONLY)
        except (FileNotFoundError, NotADirectoryError):  # rendering tells of the latter
            return False
        except OSError as error:
            raise unusable(self._folder, error) from error
        fcntl.flock(folder, fcntl.LOCK_SH)
        try:
            removed = not os.path.samestat(os.fstat(folder), self._path(number).stat())
        except FileNotFoundError:
            removed = True
        if removed:  # while we waited
            os.close(folder)
            return False
        self._held[number] = folder
        return True

    def _remove(self, number: int) -> None:
        """Remove a generation unless another run still draws from it."""
        if number in self._held:
            os.close(self._held.pop(number))
        try:
            folder = os.open(self._path(number), os.O_RDONLY)
        except FileNotFoundError:
            return
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            gone = self._path(number).with_name(f"{self._path(number).name}.{os.getpid()}.old")
            self._path(number).replace(gone)  # at once: nobody opens half of one
            shutil.rmtree(gone)
        except BlockingIOError:
            pass  # whoever draws from it removes it
        finally:
            os.close(folder)

    def generations(self, step: int) -> list[Generation]:
        """Opened generations of `step`; `ensure` must have been called."""
        wanted = self.numbers_at(step)
        for number in [n for n in self._open if n not in wanted]:
            del self._open[number]
        for number in wanted:
            if number not in self._open:
                self._open[number] = Generation(self._path(number))
        return [self._open[number] for number in wanted]


def generator_revision() -> str:
    """Digest of the generator's sources, region files and fonts, 12 hexadecimal digits.

    Raises:
        FontError: when there are no fonts, or one cannot be read.
    """
    import training.synthetic

    folder = Path(training.synthetic.__file__).parent
    hasher = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".py", ".toml"):
            hasher.update(path.relative_to(folder).as_posix().encode())
            hasher.update(path.read_bytes())
    for font in sorted(FontLibrary(load_families()).files, key=lambda path: path.name):
        hasher.update(font.name.encode())  # not its folder: the same fonts may lie elsewhere
        try:
            hasher.update(font.read_bytes())
        except OSError as error:
            raise FontError(f"cannot read font {font}: {error.strerror}") from error
    return hasher.hexdigest()[:12]
