"""What a run leaves for a person: a JSON line per event, TensorBoard, the progress bar."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import torch
from tqdm import tqdm

from lprnet.errors import LprnetError
from training.config import TrainConfig

if TYPE_CHECKING:
    from training.loop import StepLosses

EVERY = 50
"""Steps between two lines of losses."""


class JournalError(LprnetError):
    """A run's folder that cannot be written to."""


def require_writable(run: Path) -> None:
    """See before any work is done that a run's folder is one, or can be made.

    Raises:
        JournalError: when it is a file or lies in one, or may not be written to.
    """
    place = run.resolve()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise JournalError(f"the run cannot lie in {run}: {place} is a file: name another --run")
    if not os.access(place, os.W_OK | os.X_OK):
        raise JournalError(f"{place} may not be written to: name another --run")


class Journal:
    """Writes `log.jsonl` and TensorBoard events of a run's folder; silent unless enabled."""

    def __init__(self, run: Path, *, enabled: bool, tensorboard: bool) -> None:
        self._file: TextIO | None = None
        self._board: Any = None
        self._since = time.perf_counter()
        self._crops = 0
        if not enabled:
            return
        try:
            self._open(run, tensorboard)
        except OSError as error:
            raise JournalError(
                f"cannot write the run's folder {run}: {error.strerror}: name another --run"
            ) from error

    def _open(self, run: Path, tensorboard: bool) -> None:
        run.mkdir(parents=True, exist_ok=True)
        self._file = (run / "log.jsonl").open("a", encoding="utf-8")
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(run / "tensorboard"))

    def _write(self, event: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(event) + "\n")
            self._file.flush()

    def network_options(self, config: TrainConfig, bf16: bool) -> None:
        """First line: the configuration."""
        self._write({"event": "start", "config": config.to_dict(), "bf16": bf16})

    def step(self, step: int, losses: StepLosses, rate: float, crops: int, bar: tqdm[Any]) -> None:
        """Losses of a step; every `EVERY` steps they are written."""
        self._crops += crops
        if step % EVERY:
            return
        now = time.perf_counter()
        per_second = self._crops / (now - self._since)
        self._since, self._crops = now, 0
        values = {
            "loss": losses.total,
            "ctc": losses.ctc,
            "frame": losses.frame,
            "gradient_norm": losses.gradient_norm,
            "learning_rate": rate,
            "crops_per_s": per_second,
        }
        bar.set_postfix(loss=f"{losses.total:.3f}", crops_per_s=f"{per_second:.0f}", refresh=False)
        self._write({"event": "step", "step": step, **values})
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"train/{name}", value, step)

    def pictures(self, step: int, images: torch.Tensor) -> None:
        """The first crops of a batch, UINT8 [N, 3, 48, 96], as the network sees them."""
        if self._board is not None:
            self._board.add_images("train/crops", images[:48], step)

    def evaluation(self, step: int, metrics: dict[str, Any]) -> None:
        """Exact match by set."""
        self._write({"event": "evaluation", **metrics})
        shares = metrics["exact_match"]
        text = "  ".join(f"{name} {100 * value:.1f} %" for name, value in shares.items())
        if self._file is not None:
            tqdm.write(f"step {step}: {text}")
        if self._board is not None:
            for name, value in shares.items():
                self._board.add_scalar(f"validation/{name}", value, step)

    def close(self) -> None:
        """Flush and close."""
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()
