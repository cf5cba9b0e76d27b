"""CTC, and a framewise loss for synthetic plates, whose characters' places are known.

CTC alone sits for long on its all-blank plateau; telling some time steps their class breaks it
at once.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from lprnet.plate_spec import PlateSpec

FRAME_IGNORED = -100


def frame_targets(
    ids: npt.NDArray[np.int32],
    across: npt.NDArray[np.float64],
    rows: npt.NDArray[np.uint8],
    spec: PlateSpec,
) -> npt.NDArray[np.int64]:
    """Class of each time step, INT64 [T].

    The step nearest to a character's middle is that character, the step nearest to the middle
    between two neighbours is blank, and so is everything well outside of the text and every
    step of a row without text. Steps in doubt are `FRAME_IGNORED`.

    Args:
        ids: class ids [L] in reading order.
        across: middles of the characters, 0..1 of the crop's width, [L].
        rows: line of each character, [L]; a network of one row gets no targets for two lines.
    """
    columns = spec.time_steps // spec.rows
    targets = np.full((spec.rows, columns), FRAME_IGNORED, np.int64)
    if rows.size and rows.max() >= spec.rows:
        return targets.ravel()
    for row in range(spec.rows):
        mine = rows == row
        if not mine.any():
            targets[row] = spec.blank
            continue
        place = across[mine] * columns - 0.5  # in steps
        centre = np.rint(place).astype(int)
        pitch = float(np.diff(place).min()) if len(place) > 1 else 2.0
        outside = np.arange(columns)
        blank = (outside < place[0] - 1.2 * pitch) | (outside > place[-1] + 1.2 * pitch)
        targets[row, blank] = spec.blank
        between = (place[:-1] + place[1:]) / 2
        for at, gap in zip(np.rint(between).astype(int), np.diff(place), strict=True):
            if gap >= 1.6 and 0 <= at < columns:
                targets[row, at] = spec.blank
        inside = (centre >= 0) & (centre < columns)
        targets[row, centre[inside]] = ids[mine][inside]
    return targets.ravel()


def ctc_loss(logits: Tensor, targets: Tensor, lengths: Tensor, blank: int) -> Tensor:
    """Mean over plates of the CTC loss divided by the text's length (Graves et al. 2006).

    Args:
        logits: [N, T, classes].
        targets: INT64 [sum of lengths].
        lengths: INT64 [N].
    """
    log_probs = logits.float().log_softmax(-1).transpose(0, 1)
    steps = torch.full_like(lengths, logits.shape[1])
    return F.ctc_loss(log_probs, targets, steps, lengths, blank=blank, zero_infinity=True)


def frame_loss(logits: Tensor, frames: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy over the time steps whose class is known; 0 when there is none.

    Args:
        logits: [N, T, classes].
        frames: INT64 [N, T].
        smoothing: label smoothing, 0..1.
    """
    known = (frames != FRAME_IGNORED).sum()
    total = F.cross_entropy(
        logits.float().flatten(0, 1),
        frames.flatten(),
        ignore_index=FRAME_IGNORED,
        label_smoothing=smoothing,
        reduction="sum",
    )
    return total / known.clamp(min=1)
