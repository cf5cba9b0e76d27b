"""Edit distance and the character confusions behind it. Standard library only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

GAP = ""
"""Stands for no character: ("", "A") was written but is not there, ("A", "") was missed."""


def _costs(label: str, plate: str) -> list[list[int]]:
    rows = [list(range(len(plate) + 1))]
    for i, expected in enumerate(label, 1):
        above, row = rows[-1], [i]
        for j, written in enumerate(plate, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (expected != written)))
        rows.append(row)
    return rows


def edit_distance(label: str, plate: str) -> int:
    """Insertions, deletions and substitutions from one text to the other (Levenshtein 1966)."""
    return 0 if label == plate else _costs(label, plate)[-1][-1]


def align(label: str, plate: str) -> list[tuple[str, str]]:
    """Cheapest alignment as (label character, written character) pairs, `GAP` where one lacks.

    Of several cheapest ones, substitutions are preferred to gaps, from the right end on.
    """
    costs = _costs(label, plate)
    i, j = len(label), len(plate)
    pairs: list[tuple[str, str]] = []
    while i or j:
        here = costs[i][j]
        if i and j and here == costs[i - 1][j - 1] + (label[i - 1] != plate[j - 1]):
            i, j = i - 1, j - 1
            pairs.append((label[i], plate[j]))
        elif i and here == costs[i - 1][j] + 1:
            i -= 1
            pairs.append((label[i], GAP))
        else:
            j -= 1
            pairs.append((GAP, plate[j]))
    return pairs[::-1]


def confusions(pairs: Iterable[tuple[str, str]]) -> Counter[tuple[str, str]]:
    """Errors of (label, plate) texts: how often each (expected, written) pair occurs."""
    found: Counter[tuple[str, str]] = Counter()
    for label, plate in pairs:
        if label != plate:
            found.update(pair for pair in align(label, plate) if pair[0] != pair[1])
    return found
