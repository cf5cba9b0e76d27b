"""The training loop: batches in, checkpoints out, resumable at every one of them."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from lprnet.errors import LprnetError
from training.checkpoint import Checkpoint, code_revision, load_checkpoint, save_checkpoint
from training.config import ConfigError, TrainConfig
from training.data.batches import Batch, Batches
from training.data.pool import SyntheticPool
from training.distributed import World
from training.ema import WeightAverage
from training.journal import Journal
from training.losses import ctc_loss, frame_loss
from training.schedule import frame_loss_weight, learning_rate
from training.validation import ValidationSet, exact_match, read_crops

MAX_BAD_STEPS = 25


class TrainingError(LprnetError):
    """A run that cannot go on."""


@dataclass
class StepLosses:
    """Losses of one step, as plain numbers."""

    total: float
    ctc: float
    frame: float
    gradient_norm: float


def uses_bf16(amp: str, device: torch.device) -> bool:
    """Whether bfloat16 autocast pays on this device; "auto" asks the hardware."""
    if amp != "auto":
        return amp == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


class Trainer:
    """One run in one folder: `last.pt`, `best.pt`, `log.jsonl`, TensorBoard events."""

    def __init__(
        self,
        config: TrainConfig,
        network: nn.Module,
        batches: Batches,
        pool: SyntheticPool | None,
        validation: list[ValidationSet],
        run: Path,
        world: World,
    ) -> None:
        self.config = config
        self.spec = config.spec()
        self.world = world
        self.run = run
        self.batches = batches
        self.pool = pool
        self.validation = validation
        network = network.to(world.device)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = WeightAverage(self.network, config.optim.ema_decay)
        self._freeze()
        self.optimizer = self._make_optimizer()
        self.step = 0
        self.best = -1.0
        self.since_best = 0
        self.metrics: dict[str, Any] = {}
        self.bf16 = uses_bf16(config.optim.amp, world.device)

    def _freeze(self) -> None:
        """Hold the parameters that the configuration names."""
        held = tuple(self.config.optim.freeze)
        names = [name for name, _ in self.network.named_parameters()]
        unknown = [prefix for prefix in held if not any(n.startswith(prefix) for n in names)]
        if unknown:
            parts = ", ".join(dict.fromkeys(name.split(".")[0] for name in names))
            raise ConfigError(f"optim.freeze: {unknown} names no parameter; parts are {parts}")
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(not name.startswith(held))

    def _learning_mode(self) -> None:
        """Training mode, but for what is frozen: statistics would drift from held weights."""
        self.network.train()
        held = tuple(self.config.optim.freeze)
        for name, module in self.network.named_modules():
            if name and name.startswith(held):
                module.eval()

    def _make_optimizer(self) -> torch.optim.Optimizer:
        decay: list[nn.Parameter] = []
        plain: list[nn.Parameter] = []
        for parameter in self.network.parameters():
            if parameter.requires_grad:
                # Scales and offsets must not be pulled to zero.
                (decay if parameter.ndim > 1 else plain).append(parameter)
        groups = [
            {"params": decay, "weight_decay": self.config.optim.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98))

    def resume(self) -> bool:
        """Go on from `last.pt` of this run's folder, if there is one."""
        path = self.run / "last.pt"
        if not path.is_file():
            return False
        saved = load_checkpoint(path)
        if not _same(saved.config, self.config):
            raise TrainingError(
                f"{path} was trained with another configuration: go on with the same one, "
                "or start a new run (--run) from it with --init-from"
            )
        state = saved.resume
        self.network.load_state_dict(state["network"])
        self.average.network.load_state_dict(saved.network.state_dict())
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.best = saved.step, state["best"]
        self.since_best, self.metrics = state["since_best"], saved.metrics
        return True

    def save_best(self) -> None:
        """Write the averaged weights alone to `best.pt`: small enough to ship."""
        self._save("best.pt", {})

    def save_last(self) -> None:
        """Write the averaged weights and all that resuming needs to `last.pt`."""
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
            "since_best": self.since_best,
        }
        self._save("last.pt", state)

    def _save(self, name: str, resume: dict[str, Any]) -> None:
        save_checkpoint(
            Checkpoint(
                network=self.average.network,
                network_name=self.config.network.name,
                options=self.config.network.options,
                spec=self.spec,
                revision=code_revision(),
                metrics=self.metrics,
                config=self.config.to_dict(),
                step=self.step,
                resume=resume,
            ),
            self.run / name,
        )

    def train(self, stop_at: int | None = None) -> dict[str, Any]:
        """Run to the configured number of steps.

        Args:
            stop_at: leave after this step instead, with a checkpoint; the schedule stays that
                of the whole run.

        Returns:
            Metrics of the last evaluation.

        Raises:
            TrainingError: when losses stay non-finite.
        """
        optim, log = self.config.optim, self.config.log
        end = optim.steps if stop_at is None else min(stop_at, optim.steps)
        journal = Journal(self.run, enabled=self.world.leads, tensorboard=log.tensorboard)
        journal.network_options(self.config, self.bf16)
        model = self._parallel_model()
        bar = tqdm(
            total=optim.steps,
            initial=self.step,
            desc="training",
            unit="step",
            disable=None if self.world.leads else True,
            dynamic_ncols=True,
        )
        bad = 0
        try:
            for batch in self._loader(end):
                losses = self._learn(model, batch)
                bad = bad + 1 if losses is None else 0
                if bad >= MAX_BAD_STEPS:
                    raise TrainingError(
                        f"the loss was not finite for {bad} steps before step {self.step}: lower "
                        "optim.learning_rate or look at the data with `lprnet data check`"
                    )
                self.step += 1
                bar.update()
                if losses is not None:
                    crops = optim.batch * self.world.size
                    rate = learning_rate(optim, self.step - 1)
                    journal.step(self.step, losses, rate, crops, bar)
                if self.step == 1:
                    journal.pictures(self.step, batch.images)
                if self.step % log.evaluate_every == 0 or self.step == optim.steps:
                    if self._evaluate(journal):
                        break
                elif self.step % log.checkpoint_every == 0 and self.world.leads:
                    self.save_last()
        finally:
            bar.close()
            journal.close()
        if self.world.leads:
            self.save_last()
            if not self.validation:  # nothing to choose by: the last weights are the best ones
                self.save_best()
        return self.metrics

    def _parallel_model(self) -> nn.Module:
        self._learning_mode()
        model: nn.Module = self.network
        if self.config.optim.compile:
            if self.world.device.type == "cpu" and shutil.which("g++") is None:
                raise TrainingError("optim.compile needs g++ on a CPU: install it or turn it off")
            model = torch.compile(model)  # type: ignore[assignment]
        if self.world.size > 1:
            devices = [self.world.device] if self.world.device.type == "cuda" else None
            model = DistributedDataParallel(model, device_ids=devices)
        return model

    def _loader(self, end: int) -> DataLoader[Batch]:
        if self.pool is not None and self.step < end:
            # Of this step and of what the workers ask for before the first step is made.
            self.pool.ensure(self.step)
            self.pool.ensure(self._ahead())
        workers = self.config.optim.workers
        return DataLoader(
            Subset(self.batches, range(self.step, end)),
            batch_size=None,
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            multiprocessing_context="spawn" if workers else None,
            worker_init_fn=_quiet_worker,
            # Its own, else opening the loader would shift the generator that dropout draws from.
            generator=torch.Generator(),
        )

    def _ahead(self) -> int:
        """Step up to which plates must be on disk: workers run ahead of us by their queue."""
        optim = self.config.optim
        return min(self.step + 8 * (1 + optim.workers), optim.steps - 1)

    def _learn(self, model: nn.Module, batch: Batch) -> StepLosses | None:
        """One optimiser step; None when the loss or gradient was not finite and none was made."""
        optim, device = self.config.optim, self.world.device
        if self.pool is not None and self.world.leads_machine:
            self.pool.ensure(self._ahead())
        # Dropout's masks belong to the step, on every device: a resumed run draws them again.
        own = np.random.SeedSequence([self.config.seed, self.step, self.world.rank])
        torch.manual_seed(int(own.generate_state(1)[0]))
        rate = learning_rate(optim, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        images = batch.images.to(device, memory_format=torch.channels_last, non_blocking=True)
        autocast = (
            torch.autocast(device.type, torch.bfloat16) if self.bf16 else contextlib.nullcontext()
        )
        with autocast:
            logits = model(images.float() / 255)
        ctc = ctc_loss(logits, batch.targets, batch.lengths, self.spec.blank)
        frame = frame_loss(logits, batch.frames.to(device), optim.label_smoothing)
        total = ctc + frame_loss_weight(optim, self.step) * frame
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), optim.clip_norm)
        if not (torch.isfinite(total) and torch.isfinite(norm)):
            self.average.heal(self.network)
            return None
        self.optimizer.step()
        self.average.update(self.network, self.step)
        return StepLosses(*(float(value.detach()) for value in (total, ctc, frame, norm)))

    def _evaluate(self, journal: Journal) -> bool:
        """Measure the averaged weights; save `last.pt`, and `best.pt` if it is; True to stop.

        The leader's figures count: normalisation statistics differ between processes.
        """
        stop = False
        if self.validation and self.world.leads:
            scores = {}
            for chosen in self.validation:
                plates, _ = read_crops(
                    self.average.network, chosen.crops, self.spec, self.world.device
                )
                scores[chosen.name] = exact_match(chosen.records, plates)
            mean = sum(scores.values()) / len(scores)
            self.metrics = {"exact_match": scores, "mean_exact_match": mean, "step": self.step}
            journal.evaluation(self.step, self.metrics)
            better = mean > self.best
            self.best = max(mean, self.best)
            self.since_best = 0 if better else self.since_best + 1
            if better:
                self.save_best()
            patience = self.config.optim.early_stop_evaluations
            stop = 0 < patience <= self.since_best
        if self.world.leads:
            self.save_last()
        return self.world.follow(stop)


def _same(saved: dict[str, Any], config: TrainConfig) -> bool:
    """Whether a checkpoint's configuration is this one; keys that came later had their defaults."""
    try:
        return TrainConfig.from_dict(saved) == config
    except ConfigError:
        return False


def _quiet_worker(_: int) -> None:
    """One thread a data process: the network needs the cores."""
    import cv2

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
