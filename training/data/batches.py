"""Batches as a pure function of (seed, step, rank): nothing to save, nothing to lose.

A batch mixes real and synthetic crops. Real ones are drawn with weights that level the sizes of
(source, region) groups; every crop has a random generator of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from lprnet.image import UInt8Array
from lprnet.plate_spec import PlateSpec
from training.augment import corners, cut_out, photograph, view_transform
from training.config import TrainConfig
from training.data.cache import CropCache
from training.data.pool import PooledPlate, SyntheticPool
from training.data.records import Record
from training.losses import FRAME_IGNORED, frame_targets


@dataclass
class Batch:
    """What one step learns from.

    Attributes:
        images: UINT8 [N, 3, 48, 96] RGB.
        targets: INT64 [sum of lengths], class ids of all texts one after another.
        lengths: INT64 [N].
        frames: INT64 [N, T], class of each time step where it is known, else `FRAME_IGNORED`.
    """

    images: torch.Tensor
    targets: torch.Tensor
    lengths: torch.Tensor
    frames: torch.Tensor


def sampling_weights(
    records: Sequence[Record], balance: float, trusted_boost: float
) -> npt.NDArray[np.float64]:
    """Probability of each record, [len(records)], summing to 1.

    A group is a (source, region) pair; a group of n records weighs n ** (1 - balance) in all.
    """
    groups = Counter((r.source, r.region) for r in records)
    weights = np.array(
        [
            groups[r.source, r.region] ** -balance * (trusted_boost if r.trusted else 1.0)
            for r in records
        ]
    )
    share: npt.NDArray[np.float64] = weights / weights.sum()
    return share


class Batches(Dataset[Batch]):
    """Item `step` is the batch of that step for one process of a run."""

    def __init__(
        self,
        config: TrainConfig,
        spec: PlateSpec,
        records: Sequence[Record],
        crops: CropCache | None,
        pool: SyntheticPool | None,
        *,
        rank: int = 0,
    ) -> None:
        self._config = config
        self._spec = spec
        self._texts = [spec.encode(r.text) for r in records]
        self._crops = crops
        self._pool = pool
        self._rank = rank
        self._augmentation = config.augment
        data = config.data
        if records:
            weights = sampling_weights(records, data.balance, data.trusted_boost)
            self._cumulative = np.cumsum(weights)
        real_share = data.real_share if pool is not None else 1.0
        self._real = round(config.optim.batch * real_share) if records else 0

    def __len__(self) -> int:
        return self._config.optim.steps

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng([self._config.seed, 1, step, self._rank])
        images, ids, frames = [], [], []
        for position in range(self._config.optim.batch):
            made = self._real_crop(rng) if position < self._real else self._drawn_crop(rng, step)
            images.append(made[0])
            ids.append(made[1])
            frames.append(made[2])
        stacked = np.stack(images).transpose(0, 3, 1, 2)
        return Batch(
            torch.from_numpy(np.ascontiguousarray(stacked)),
            torch.from_numpy(np.concatenate(ids).astype(np.int64)),
            torch.tensor([len(i) for i in ids], dtype=torch.int64),
            torch.from_numpy(np.stack(frames)),
        )

    def _finish(
        self, rng: np.random.Generator, image: UInt8Array, transform: npt.NDArray[np.float64]
    ) -> UInt8Array:
        crop = cut_out(rng, image, transform, self._augmentation)
        return photograph(rng, crop, self._augmentation)

    def _real_crop(
        self, rng: np.random.Generator
    ) -> tuple[UInt8Array, npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        assert self._crops is not None
        index = int(np.searchsorted(self._cumulative, rng.random() * self._cumulative[-1]))
        image = self._crops[index]
        transform = view_transform(rng, corners(image), self._augmentation, own_margin=True)
        unknown = np.full(self._spec.time_steps, FRAME_IGNORED, np.int64)
        return self._finish(rng, image, transform), self._texts[index], unknown

    def _drawn_crop(
        self, rng: np.random.Generator, step: int
    ) -> tuple[UInt8Array, npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        assert self._pool is not None
        generations = self._pool.generations(step)
        generation = generations[int(rng.integers(len(generations)))]
        plate: PooledPlate = generation[int(rng.integers(len(generation)))]
        keep = outer_points(plate.centres, plate.rows)
        transform = view_transform(rng, plate.quad, self._augmentation, own_margin=False, keep=keep)
        ids = self._spec.encode(plate.text)
        spot = np.c_[plate.centres, np.ones(len(plate.centres))] @ transform.T
        across = spot[:, 0] / spot[:, 2]  # 0..1 of the crop's width
        frames = frame_targets(ids, across, plate.rows, self._spec)
        return self._finish(rng, plate.image, transform), ids, frames


def outer_points(
    centres: npt.NDArray[np.float32], rows: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float64]:
    """What a tight crop must not cut away, [K, 2] pixels: most of each line's outer characters.

    A label stays fair while a reader could still name the shaved character, so that at most about
    a third of its width may go: a fifth of the pitch outside its middle stays.

    Args:
        centres: middles of the characters, FP32 [L, 2]. rows: line of each, UINT8 [L].
    """
    points = []
    for row in np.unique(rows):
        line = centres[rows == row].astype(np.float64)
        across = (line[-1] - line[0]) / max(1, len(line) - 1)
        points += [line[0] - 0.2 * across, line[-1] + 0.2 * across]
    return np.array(points).reshape(-1, 2)
