"""Labels that a recogniser contradicts with confidence: most of them are wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lprnet.charset import fold_lookalikes
from training.data.records import Record
from training.evaluation.measure import read_all
from training.evaluation.pictures import LabelledSet, Picture
from training.evaluation.readers import Reader
from training.evaluation.result import write_text


@dataclass(frozen=True)
class Suspect:
    """A label in doubt.

    Attributes:
        set_name, record, picture: where it is.
        read: what the recogniser reads instead.
        confidence: its own, 0..1.
    """

    set_name: str
    record: Record
    picture: Picture
    read: str
    confidence: float

    @property
    def lookalike(self) -> bool:
        """Whether the two differ in O/0 or I/1 only."""
        return fold_lookalikes(self.record.text) == fold_lookalikes(self.read)


def find_suspects(
    reader: Reader, sets: Sequence[LabelledSet], min_confidence: float
) -> list[Suspect]:
    """Plates read otherwise than labelled with at least `min_confidence`, most certain first."""
    found = []
    for labelled in sets:
        answers = read_all(reader, labelled.pictures, f"{reader.name} on {labelled.name}")
        rows = zip(
            labelled.records, labelled.pictures, answers.plates, answers.confidences, strict=True
        )
        found += [
            Suspect(labelled.name, record, picture, plate, float(confidence))
            for record, picture, plate, confidence in rows
            if picture is not None and plate != record.text and confidence >= min_confidence
        ]
    return sorted(found, key=lambda suspect: -suspect.confidence)


def write_tsv(suspects: Sequence[Suspect], path: Path) -> None:
    """One suspect a line, ready to be worked through in a spreadsheet."""
    lines = ["set\tfile\tlabel\tread\tconfidence\tlookalike_only\tregion\tsource"]
    lines += [
        "\t".join(
            (
                s.set_name,
                str(s.record.path),
                s.record.text,
                s.read,
                f"{s.confidence:.4f}",
                str(int(s.lookalike)),
                s.record.region,
                s.record.source,
            )
        )
        for s in suspects
    ]
    write_text(path, "\n".join(lines) + "\n")
