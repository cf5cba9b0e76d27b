"""Exact match on validation sets while training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from lprnet.ctc import decode
from lprnet.errors import ImageError
from lprnet.image import load_crop
from lprnet.plate_spec import PlateSpec
from training.data.records import Record, read_set, unreadable

BATCH = 128


class ValidationSet:
    """A labelled set, its crops held in memory: about 14 kB each."""

    def __init__(self, root: Path, spec: PlateSpec, name: str | None = None) -> None:
        self.name = root.resolve().name if name is None else name
        self.records: Sequence[Record] = read_set(root)
        self.crops: npt.NDArray[np.uint8] = np.stack([_crop(r, spec) for r in self.records])


def _crop(record: Record, spec: PlateSpec) -> npt.NDArray[np.uint8]:
    try:
        return load_crop(record.path.read_bytes(), spec.height_px, spec.width_px)
    except (OSError, ImageError) as error:
        raise unreadable(record.path, error) from error


@torch.no_grad()
def read_crops(
    network: nn.Module,
    crops: npt.NDArray[np.uint8],
    spec: PlateSpec,
    device: torch.device,
    temperature: float = 1.0,
) -> tuple[list[str], npt.NDArray[np.float32]]:
    """Plates and confidences that an eval-mode network reads.

    Args:
        crops: UINT8 [N, 3, 48, 96] RGB.

    Returns:
        N texts, and their confidences FP32 [N] in 0..1.
    """
    plates: list[str] = []
    confidences = []
    for start in range(0, len(crops), BATCH):
        batch = torch.from_numpy(crops[start : start + BATCH]).to(device)
        logits = network(batch.float() / 255).float() / temperature
        probs, ids = logits.softmax(-1).max(-1)
        decoded = decode(ids.cpu().numpy(), probs.cpu().numpy(), spec)
        plates += decoded.plates
        confidences.append(decoded.confidence)
    return plates, np.concatenate(confidences) if confidences else np.zeros(0, np.float32)


def exact_match(records: Sequence[Record], plates: Sequence[str]) -> float:
    """Share of plates with every character right, 0..1."""
    right = sum(r.text == p for r, p in zip(records, plates, strict=True))
    return right / len(records)
