"""What a recogniser thinks of crops when asked several times: wrong labels, and new ones.

A crop is read plainly and, where that reading is of interest, under a few mild changes of view
and light. A network that was taught a wrong label half remembers it; under another view it falls
back on what it sees, so answers that hold under every view are worth more than one confident
answer (test-time consistency, as in FixMatch, Sohn et al. 2020).
"""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F
from tqdm import tqdm

from lprnet.charset import fold_lookalikes
from lprnet.ctc import decode
from lprnet.errors import ImageError
from lprnet.image import UInt8Array, decode_image, to_crop
from lprnet.plate_spec import PlateSpec
from training.augment import NO_AUGMENTATION, corners, cut_out, photograph, view_transform
from training.checkpoint import Checkpoint
from training.data.records import DatasetError, Record
from training.evaluation.result import write_text

BATCH = 64
MILD = dataclasses.replace(
    NO_AUGMENTATION, rotation_deg=2.0, perspective=0.012, margin_loose=0.12, tone=0.5, jpeg=0.3
)
"""Changes that leave every character of a crop readable."""

COLUMNS = ("file", "label", "read", "confidence", "margin", "agreement", "region", "source")


@dataclass(frozen=True)
class Opinion:
    """What the recogniser says about one crop, over all its views.

    Attributes:
        record: the crop; its text is the label, "" where there is none.
        read: the answer of most views.
        agreement: share of the views with that answer, 0..1.
        confidence: mean confidence of those views, 0..1.
        margin: mean over the views of ln P(read) - ln P(label) by CTC; infinite where the network
            cannot write the label or there is none.
    """

    record: Record
    read: str
    agreement: float
    confidence: float
    margin: float


class Jury:
    """A checkpoint on the CPU that reads crops under several views.

    Args:
        checkpoint: what reads.
        views: how often a crop is read, the plain view included.
        seed: of the views.
    """

    def __init__(self, checkpoint: Checkpoint, views: int, seed: int = 1) -> None:
        self.spec: PlateSpec = checkpoint.spec
        network = checkpoint.network.eval()
        self._network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._temperature = checkpoint.temperature
        self._views = views
        self._seed = seed

    def plain(self, records: Sequence[Record], title: str) -> list[tuple[str, float]]:
        """Text and confidence of each crop; ("", 0) where the picture cannot be read."""
        read: list[tuple[str, float]] = [("", 0.0)] * len(records)
        bar = tqdm(total=len(records), desc=title, unit="crop", disable=None, leave=False)
        with bar:
            for start in range(0, len(records), BATCH):
                part = records[start : start + BATCH]
                loaded = [
                    (start + i, pixels)
                    for i, record in enumerate(part)
                    if (pixels := _pixels(record)) is not None
                ]
                if loaded:
                    logits = self._logits(np.stack([self._crop(p) for _, p in loaded]))
                    plates, confidences = self._decode(logits)
                    for (at, _), plate, c in zip(loaded, plates, confidences, strict=True):
                        read[at] = (plate, float(c))
                bar.update(len(part))
        return read

    def opinions(self, records: Sequence[Record], title: str) -> Iterator[Opinion]:
        """Opinion on each readable crop, in order."""
        for index, record in enumerate(
            tqdm(records, desc=title, unit="crop", disable=None, leave=False)
        ):
            pixels = _pixels(record)
            if pixels is not None:
                yield self._opinion(index, record, pixels)

    def _opinion(self, index: int, record: Record, pixels: UInt8Array) -> Opinion:
        rng = np.random.default_rng([self._seed, index])
        crops = [self._crop(pixels)]
        crops += [self._crop(_mild_view(rng, pixels)) for _ in range(self._views - 1)]
        logits = self._logits(np.stack(crops))
        plates, confidences = self._decode(logits)
        # Of two answers given equally often the plain view's wins: it is counted first.
        read, votes = Counter(plates).most_common(1)[0]
        agreeing = [c for p, c in zip(plates, confidences, strict=True) if p == read]
        margin = math.inf
        if record.text and self._writable(record.text):
            margin = float((self._log_p(logits, read) - self._log_p(logits, record.text)).mean())
        return Opinion(record, read, votes / len(plates), float(np.mean(agreeing)), margin)

    def _writable(self, text: str) -> bool:
        spec = self.spec
        return not spec.charset.unknown(text) and spec.min_time_steps(text) <= spec.time_steps

    def _crop(self, pixels: UInt8Array) -> UInt8Array:
        return to_crop(pixels, self.spec.height_px, self.spec.width_px)

    @torch.no_grad()
    def _logits(self, crops: UInt8Array) -> torch.Tensor:
        """UINT8 [N, 3, H, W] -> calibrated logits FP32 [N, T, classes]."""
        images = torch.from_numpy(crops).to(memory_format=torch.channels_last).float() / 255
        logits: torch.Tensor = self._network(images).float() / self._temperature
        return logits

    def _decode(self, logits: torch.Tensor) -> tuple[tuple[str, ...], npt.NDArray[np.float32]]:
        probs, ids = logits.softmax(-1).max(-1)
        batch = decode(ids.numpy(), probs.numpy(), self.spec)
        return batch.plates, batch.confidence

    def _log_p(self, logits: torch.Tensor, text: str) -> torch.Tensor:
        """ln P(text) by CTC's forward sum, [N]."""
        count, steps = logits.shape[:2]
        ids = torch.from_numpy(self.spec.encode(text).astype(np.int64)).repeat(count, 1)
        return -F.ctc_loss(
            logits.log_softmax(-1).transpose(0, 1),
            ids,
            torch.full((count,), steps),
            torch.full((count,), len(text)),
            blank=self.spec.blank,
            reduction="none",
        )


def _mild_view(rng: np.random.Generator, pixels: UInt8Array) -> UInt8Array:
    transform = view_transform(rng, corners(pixels), MILD, own_margin=True)
    return photograph(rng, cut_out(rng, pixels, transform, MILD), MILD)


def _pixels(record: Record) -> UInt8Array | None:
    """Pixels of a crop; None where it cannot be read, of which `lprnet data check` tells why."""
    try:
        return decode_image(record.path.read_bytes())
    except (OSError, ImageError):
        return None


@dataclass(frozen=True)
class Thresholds:
    """When the jury is believed. All bounds are inclusive.

    Attributes:
        agreement: least share of the views with one answer, 0..1.
        confidence: least mean confidence of these views, 0..1.
        margin: least ln P(read) - ln P(label).
    """

    agreement: float = 1.0
    confidence: float = 0.75
    margin: float = 5.0

    def met(self, opinion: Opinion) -> bool:
        """Whether an opinion is certain enough."""
        return (
            opinion.agreement >= self.agreement
            and opinion.confidence >= self.confidence
            and opinion.margin >= self.margin
        )


def wrong_labels(
    jury: Jury, records: Sequence[Record], thresholds: Thresholds, *, lookalikes: bool = False
) -> list[Opinion]:
    """Labels that the jury contradicts, largest margin first.

    Args:
        lookalikes: also those that differ in O/0 and I/1 only, where labels follow a rule that
            the picture need not show.
    """
    plain = jury.plain(records, "reading")
    contested = [
        record
        for record, (read, _) in zip(records, plain, strict=True)
        if read
        and read != record.text
        and (lookalikes or fold_lookalikes(read) != fold_lookalikes(record.text))
    ]
    found = [
        opinion
        for opinion in jury.opinions(contested, "asking again")
        if opinion.read
        and opinion.read != opinion.record.text
        and (lookalikes or fold_lookalikes(opinion.read) != fold_lookalikes(opinion.record.text))
        and thresholds.met(opinion)
    ]
    return sorted(found, key=lambda o: -o.margin)


def pseudo_labels(jury: Jury, records: Sequence[Record], thresholds: Thresholds) -> list[Opinion]:
    """Readings of unlabelled crops that are certain enough to learn from, in order."""
    plain = jury.plain(records, "reading")
    # Milder than the mean over the views will be held to: one view may be unlucky.
    hopeful = [
        record
        for record, (read, confidence) in zip(records, plain, strict=True)
        if read and confidence >= 0.8 * thresholds.confidence
    ]
    return [o for o in jury.opinions(hopeful, "asking again") if o.read and thresholds.met(o)]


def write_exclusions(opinions: Sequence[Opinion], path: Path) -> None:
    """TSV of contradicted labels; `data.exclude` of a training configuration takes it."""
    lines = ["\t".join(COLUMNS)]
    lines += [
        "\t".join(
            (
                str(o.record.path.resolve()),
                o.record.text,
                o.read,
                f"{o.confidence:.4f}",
                f"{o.margin:.2f}",
                f"{o.agreement:.2f}",
                o.record.region,
                o.record.source,
            )
        )
        for o in opinions
    ]
    write_text(path, "\n".join(lines) + "\n")


def read_exclusions(path: Path) -> set[Path]:
    """Pictures that a TSV names in its column `file`; a line taken out of it keeps the crop.

    Relative names count from the TSV's folder.

    Raises:
        DatasetError: when the file is missing or has no such column.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"cannot read the list of excluded crops {path}: {error}") from error
    rows = csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE)
    if "file" not in (rows.fieldnames or ()):
        raise DatasetError(f"{path} has no column `file`: `lprnet data relabel` writes such lists")
    return {(path.parent / row["file"]).resolve() for row in rows if row["file"]}
