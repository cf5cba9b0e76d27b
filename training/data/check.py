"""What is wrong, odd or worth knowing about a labelled set, without a recogniser."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from lprnet.charset import fold_lookalikes
from lprnet.errors import ImageError
from lprnet.image import decode_image
from lprnet.plate_spec import PlateSpec
from training.data.duplicates import Fingerprint, fingerprint
from training.data.records import LabelFault, Record


@dataclass(frozen=True)
class LookalikeCounts:
    """How often a source writes each of the characters that labellers mix up."""

    zeros: int
    os: int
    ones: int
    is_: int


@dataclass(frozen=True)
class SetFacts:
    """One set.

    Attributes:
        name: as reports call it.
        records: all of them.
        digests: SHA-256 of each picture's bytes; "" where it cannot be read from disk.
        fingerprints: of each picture's look; None where it cannot be decoded.
        unreadable: (record, reason) of pictures that cannot be decoded.
        empty: records without text.
        unknown: character outside the charset -> records that hold it.
        infeasible: records whose text needs more time steps than the network has.
        orphans: label files that no picture goes with.
        label_faults: pictures whose label file is missing, unreadable or shared.
        lengths: text length -> records.
        regions, sources: name -> records; "" = unknown.
        two_lines, untrusted: how many.
        lookalikes: by source.
    """

    name: str
    records: tuple[Record, ...]
    digests: tuple[str, ...]
    fingerprints: tuple[Fingerprint | None, ...]
    unreadable: tuple[tuple[Record, str], ...]
    empty: tuple[Record, ...]
    unknown: dict[str, tuple[Record, ...]]
    infeasible: tuple[Record, ...]
    orphans: tuple[Path, ...]
    label_faults: tuple[LabelFault, ...]
    lengths: dict[int, int]
    regions: dict[str, int]
    sources: dict[str, int]
    two_lines: int
    untrusted: int
    lookalikes: dict[str, LookalikeCounts]

    @property
    def faults(self) -> int:
        """Records and files that training cannot use."""
        unknown = {id(record) for records in self.unknown.values() for record in records}
        return (
            len(self.unreadable)
            + len(self.empty)
            + len(unknown)
            + len(self.infeasible)
            + len(self.orphans)
            + len(self.label_faults)
        )


def check_set(
    name: str,
    root: Path,
    records: Sequence[Record],
    spec: PlateSpec,
    label_faults: Sequence[LabelFault] = (),
) -> SetFacts:
    """Read every picture and label of a set.

    Args:
        name: as reports call it.
        root: its folder.
        records, label_faults: what was read of it, see `read_with_faults`.
        spec: what the network can write.
    """
    digests: list[str] = []
    fingerprints: list[Fingerprint | None] = []
    unreadable = []
    for record in tqdm(records, desc=f"checking {name}", unit="crop", disable=None, leave=False):
        digest, look = "", None
        try:
            data = record.path.read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            look = fingerprint(decode_image(data))
        except OSError as error:
            unreadable.append((record, str(error.strerror)))
        except ImageError as error:
            unreadable.append((record, str(error)))
        digests.append(digest)
        fingerprints.append(look)
    pictures = [record.path for record in records] + [fault.picture for fault in label_faults]
    unknown: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        for character in spec.charset.unknown(record.text):
            unknown[character].append(record)
    return SetFacts(
        name=name,
        records=tuple(records),
        digests=tuple(digests),
        fingerprints=tuple(fingerprints),
        unreadable=tuple(unreadable),
        empty=tuple(r for r in records if not r.text),
        unknown={c: tuple(found) for c, found in sorted(unknown.items())},
        infeasible=tuple(r for r in records if spec.min_time_steps(r.text) > spec.time_steps),
        orphans=tuple(_orphans(root, pictures)),
        label_faults=tuple(label_faults),
        lengths=dict(sorted(Counter(len(r.text) for r in records).items())),
        regions=dict(Counter(r.region for r in records).most_common()),
        sources=dict(Counter(r.source for r in records).most_common()),
        two_lines=sum(r.two_lines is True for r in records),
        untrusted=sum(not r.trusted for r in records),
        lookalikes=_lookalikes(records),
    )


def _orphans(root: Path, pictures: Sequence[Path]) -> list[Path]:
    """Labels that lost their picture, in the layouts that keep labels in files."""
    stems = {(picture.parent.parent, picture.stem) for picture in pictures}
    return [
        label
        for pattern in ("label/*.txt", "ann/*.json", "*/ann/*.json")
        for label in sorted(root.glob(pattern))
        if not label.name.startswith(".") and (label.parent.parent, label.stem) not in stems
    ]


def _lookalikes(records: Sequence[Record]) -> dict[str, LookalikeCounts]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        counts[record.source].update(record.text)
    return {
        source: LookalikeCounts(c["0"], c["O"], c["1"], c["I"])
        for source, c in sorted(counts.items())
    }


def lookalike_clashes(records: Sequence[Record]) -> list[list[Record]]:
    """Groups of records whose texts differ in O/0 or I/1 only: one of each is labelled wrong.

    Of a group, one record of each spelling.
    """
    groups: dict[str, dict[str, Record]] = defaultdict(dict)
    for record in records:
        groups[fold_lookalikes(record.text)].setdefault(record.text, record)
    return [list(spellings.values()) for spellings in groups.values() if len(spellings) > 1]
