"""The same picture twice: by its bytes, or by its look after resizing and compression.

A look is the crop's local contrast at 32 x 16, so that light and blur count little. Among 20,000
real crops the closest two of different plates reached 0.954 (overexposed plates of one template
and camera); above 0.80 nearly all pairs with equal labels are one car in one series of pictures.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from lprnet.image import UInt8Array
from training.data.records import Record
from training.evaluation.alignment import edit_distance

SURE = 0.97
LIKELY = 0.80  # enough where the labels are equal; one edit apart, worth a look
_BLOCK = 1024

Fingerprint = npt.NDArray[np.float32]


def fingerprint(pixels: UInt8Array) -> Fingerprint:
    """UINT8 [H, W, 3] RGB -> FP32 [512] of length 1 (0 for a blank picture)."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (32, 16), interpolation=cv2.INTER_AREA).astype(np.float32)
    contrast = np.asarray(small - cv2.GaussianBlur(small, (0, 0), 3), dtype=np.float32).ravel()
    contrast -= contrast.mean()
    length = float(np.linalg.norm(contrast))
    return contrast / length if length > 1e-3 else np.zeros_like(contrast)


@dataclass(frozen=True)
class Pair:
    """Two pictures that are one, or seem to be.

    Attributes:
        first, second: (set name, record).
        similarity: of their looks, up to 1.
        same_bytes: whether the files are identical.
    """

    first: tuple[str, Record]
    second: tuple[str, Record]
    similarity: float
    same_bytes: bool

    @property
    def certain(self) -> bool:
        """False where labels differ by one character: one plate read in two ways, or two plates
        of neighbouring serials."""
        return self.similarity >= SURE or not self.labels_differ

    @property
    def across(self) -> bool:
        """Whether they lie in two sets: a leak when one is for training, one for validation."""
        return self.first[0] != self.second[0]

    @property
    def labels_differ(self) -> bool:
        """Whether the texts differ; if it is one plate, one of them is wrong."""
        return self.first[1].text != self.second[1].text


@dataclass(frozen=True)
class Item:
    """One picture of one set, see `check.SetFacts`."""

    set_name: str
    record: Record
    digest: str
    look: Fingerprint | None


def same_bytes(items: Sequence[Item]) -> list[Pair]:
    """Identical files; each is paired with the first one like it."""
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        if item.digest:
            groups[item.digest].append(item)
    return [
        Pair((g[0].set_name, g[0].record), (other.set_name, other.record), 1.0, True)
        for g in groups.values()
        for other in g[1:]
    ]


def near_duplicates(items: Sequence[Item]) -> list[Pair]:
    """Different files of (perhaps) one picture, most similar first.

    Cost: N * N / 2 products of 512 numbers; 22,000 crops take a quarter of a minute.
    """
    seen: set[str] = set()
    kept: list[tuple[Item, Fingerprint]] = []
    for item in items:
        if item.look is not None and item.digest not in seen and item.look.any():
            seen.add(item.digest)
            kept.append((item, item.look))
    if not kept:
        return []
    looks = np.stack([look for _, look in kept])
    pairs = []
    starts = range(0, len(kept), _BLOCK)
    for start in tqdm(starts, desc="comparing", unit="block", disable=None, leave=False):
        close = looks[start : start + _BLOCK] @ looks[start:].T
        for i, j in zip(*np.nonzero(close >= LIKELY), strict=True):
            if j <= i:
                continue
            first, second = kept[start + i][0], kept[start + j][0]
            similarity = float(close[i, j])
            if similarity >= SURE or edit_distance(first.record.text, second.record.text) <= 1:
                pairs.append(
                    Pair(
                        (first.set_name, first.record),
                        (second.set_name, second.record),
                        min(similarity, 1.0),
                        False,
                    )
                )
    return sorted(pairs, key=lambda pair: -pair.similarity)


def shared_plates(items: Sequence[Item]) -> dict[tuple[str, str], list[str]]:
    """(set, other set) -> texts that occur in both: perhaps the same car in another picture."""
    texts: dict[str, set[str]] = defaultdict(set)
    for item in items:
        if item.record.text:
            texts[item.set_name].add(item.record.text)
    names = list(texts)
    found = {
        (a, b): sorted(texts[a] & texts[b]) for i, a in enumerate(names) for b in names[i + 1 :]
    }
    return {pair: plates for pair, plates in found.items() if plates}
