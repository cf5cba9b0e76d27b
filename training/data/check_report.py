"""What `lprnet data check` prints, and its contact sheet."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence

from training.data.check import SetFacts, lookalike_clashes
from training.data.duplicates import Pair
from training.data.records import Record
from training.data.suspects import Suspect
from training.evaluation.report import data_uri
from training.evaluation.tables import text_table

SHOWN = 5
MEANINGFUL = 50  # characters; fewer tell nothing about a source's habit
SHEET = 300


def _some(records: Sequence[Record]) -> str:
    names = ", ".join(f"{r.path.name} ({r.text})" for r in records[:SHOWN])
    return names + (f", and {len(records) - SHOWN} more" if len(records) > SHOWN else "")


def set_lines(facts: SetFacts) -> Iterator[str]:
    """One set, line by line."""
    yield (
        f"{facts.name}: {len(facts.records)} crops, {facts.two_lines} two-line, "
        f"{facts.untrusted} pseudo-labels"
    )
    for record, reason in facts.unreadable[:SHOWN]:
        yield f"  unreadable: {record.path}: {reason}"
    if len(facts.unreadable) > SHOWN:
        yield f"  unreadable: and {len(facts.unreadable) - SHOWN} more"
    for fault in facts.label_faults[:SHOWN]:
        yield f"  label: {fault.picture.name}: {fault.reason}"
    if len(facts.label_faults) > SHOWN:
        yield f"  label: and {len(facts.label_faults) - SHOWN} more"
    if facts.empty:
        yield f"  without text: {len(facts.empty)}: {_some(facts.empty)}"
    for character, records in facts.unknown.items():
        yield f"  outside the charset: {character!r} in {len(records)}: {_some(records)}"
    if facts.infeasible:
        yield f"  too long for the network: {len(facts.infeasible)}: {_some(facts.infeasible)}"
    if facts.orphans:
        names = ", ".join(path.name for path in facts.orphans[:SHOWN])
        yield f"  labels without a picture: {len(facts.orphans)}: {names}"
    yield "  lengths: " + _counts({str(k): n for k, n in facts.lengths.items()})
    yield "  regions: " + _counts(facts.regions)
    yield "  sources: " + _counts(facts.sources)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{key or 'unknown'} {n}" for key, n in counts.items())


def lookalike_lines(sets: Sequence[SetFacts]) -> Iterator[str]:
    """O/0 and I/1: by source, and texts that clash."""
    rows = [
        (
            source,
            facts.name,
            str(c.zeros),
            str(c.os),
            str(c.ones),
            str(c.is_),
            _verdict(c.zeros, c.os),
        )
        for facts in sets
        for source, c in facts.lookalikes.items()
        if c.zeros + c.os + c.ones + c.is_ >= MEANINGFUL
    ]
    if rows:
        yield "O/0 and I/1 by source (a serial grammar may forbid a letter as well)"
        yield text_table(("source", "set", "0", "O", "1", "I", ""), rows)
    clashes = lookalike_clashes([record for facts in sets for record in facts.records])
    yield f"plates that are labelled in two ways, O/0 or I/1: {len(clashes)}"
    for group in clashes[:SHOWN]:
        yield "  " + " | ".join(f"{r.text} ({r.path.name})" for r in group)


def _verdict(zeros: int, os: int) -> str:
    if zeros >= MEANINGFUL and os * 50 < zeros:
        return "no O at all? written as 0" if os == 0 else "hardly any O"
    return ""


def pair_lines(title: str, pairs: Sequence[Pair]) -> Iterator[str]:
    """Duplicates, those across sets first."""
    across = [p for p in pairs if p.across]
    yield f"{title}: {len(pairs)}, {len(across)} across sets"
    for pair in (across + [p for p in pairs if not p.across])[:SHOWN]:
        (a, first), (b, second) = pair.first, pair.second
        yield (
            f"  {pair.similarity:.2f} {a}/{first.path.name} ({first.text}) = "
            f"{b}/{second.path.name} ({second.text})"
        )


def suspect_lines(suspects: Sequence[Suspect], total: int) -> Iterator[str]:
    """Labels in doubt."""
    folded = sum(s.lookalike for s in suspects)
    yield f"suspicious labels: {len(suspects)} of {total}, {folded} of them O/0 or I/1 only"
    for s in suspects[:SHOWN]:
        yield f"  {s.confidence:.3f} {s.record.path} labelled {s.record.text}, read {s.read}"


_STYLE = (
    "body{font:13px system-ui,sans-serif;display:flex;flex-wrap:wrap;gap:.8rem}"
    "h1{width:100%;font-size:1.2rem}figure{margin:0;width:11rem}"
    "img{width:100%;height:5.5rem;object-fit:contain;background:#eee}"
    "b{font-family:ui-monospace,monospace}"
)


def _figure(suspect: Suspect) -> str:
    label, read = html.escape(suspect.record.text), html.escape(suspect.read)
    place = html.escape(f"{suspect.set_name} {suspect.record.path.name}")
    return (
        f'<figure><img src="{data_uri(suspect.picture.pixels)}" alt="{label}"><figcaption>'
        f"label <b>{label}</b><br>read <b>{read}</b> {suspect.confidence:.3f}<br>"
        f"<small>{place}</small></figcaption></figure>"
    )


def contact_sheet(suspects: Sequence[Suspect], count: int = SHEET) -> str:
    """HTML text with the pictures of the most certain suspects embedded."""
    figures = "\n".join(map(_figure, suspects[:count]))
    shown = min(count, len(suspects))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>Suspicious labels</title><style>{_STYLE}</style></head><body>"
        f"<h1>{len(suspects)} suspicious labels, the {shown} most certain shown</h1>"
        f"{figures}</body></html>\n"
    )
