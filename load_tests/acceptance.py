"""The ratios that speed is judged by, computed from one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from load_tests import cases as names
from load_tests.cases import MANY, Case
from load_tests.figures import Figures
from lprnet import contract

LPR, LPR_IMAGE = contract.CROP_ENSEMBLE, contract.IMAGE_ENSEMBLE


@dataclass(frozen=True)
class Verdict:
    """One demand.

    Attributes:
        what: in words.
        value: measured, or None where a part was not measured.
        floor: must be reached; a most where `at_most`.
        goal: is hoped for.
        unit: "x" for a ratio, "%" or "ms".
    """

    what: str
    value: float | None
    floor: float
    goal: float
    unit: str
    at_most: bool = False

    @property
    def word(self) -> str:
        """ "not measured", "below the floor", "floor" or "goal"."""
        if self.value is None:
            return "not measured"
        sign = -1 if self.at_most else 1
        if sign * self.value < sign * self.floor:
            return "misses the floor"
        return "goal reached" if sign * self.value >= sign * self.goal else "floor reached"


def judge(
    figures: Mapping[Case, Figures], accuracy: Mapping[str, tuple[int, int]]
) -> list[Verdict]:
    """All demands.

    Args:
        figures: of the cases that were run.
        accuracy: target -> (plates read right, plates with a label).
    """
    bare_batch = figures.get(Case(names.ENGINE, names.IN_PROCESS, MANY, 1))
    bare_one = figures.get(Case(names.ENGINE, names.IN_PROCESS, 1, 1))
    peer = [f for case, f in figures.items() if case.target == names.PEER_SERVER]

    def percent(case: Case) -> float | None:
        if bare_batch is None or case not in figures:
            return None
        return 100 * figures[case].plates_per_s / bare_batch.plates_per_s

    def above(case: Case) -> float | None:
        if bare_one is None or case not in figures:
            return None
        return figures[case].p50_ms - bare_one.p50_ms

    verdicts = [
        Verdict(
            f"`lpr`, {names.SHARED_MEMORY}, batch {MANY}, 2 at a time: of the bare engine's rate",
            percent(Case(LPR, names.SHARED_MEMORY, MANY, 2)),
            85,
            90,
            "%",
        ),
        Verdict(
            f"`lpr`, {names.LIBRARY}, batch {MANY}, 2 at a time: of the bare engine's rate",
            percent(Case(LPR, names.LIBRARY, MANY, 2)),
            75,
            80,
            "%",
        ),
        Verdict(
            f"`lpr`, {names.LIBRARY}, one picture: p50 above the bare engine's",
            above(Case(LPR, names.LIBRARY, 1, 1)),
            0.9,
            0.9,
            "ms",
            at_most=True,
        ),
        Verdict(
            f"`lpr_image`, {names.LIBRARY}, one picture: p50 above the bare engine's",
            above(Case(LPR_IMAGE, names.LIBRARY, 1, 1)),
            2.0,
            2.0,
            "ms",
            at_most=True,
        ),
    ]
    best = _best_of_singles(LPR, figures)
    verdicts.append(
        Verdict(
            f"`lpr`, {'' if best is None else best.way + ', '}{MANY} single crops at a time: of "
            "the bare engine's rate",
            None if best is None else percent(best),
            50,
            60,
            "%",
        )
    )
    best = _best_of_singles(LPR_IMAGE, figures)
    ours = None if best is None else figures[best]
    theirs = max(peer, key=lambda f: f.plates_per_s, default=None)
    many_theirs = figures.get(Case(names.PEER_SERVER, names.HTTP, 1, MANY))
    verdicts.append(
        Verdict(
            f"`lpr_image`, {'' if best is None else best.way + ', '}{MANY} single pictures at a "
            f"time: of the best rate of {names.PEER_SERVER}",
            None if ours is None or theirs is None else ours.plates_per_s / theirs.plates_per_s,
            4,
            4,
            "x",
        )
    )
    verdicts.append(
        Verdict(
            f"the same: p99 of {names.PEER_SERVER} over ours, {MANY} at a time both",
            None if ours is None or many_theirs is None else many_theirs.p99_ms / ours.p99_ms,
            1,
            1,
            "x",
        )
    )
    if accuracy.get(LPR_IMAGE, (0, 0))[1] and names.PEER in accuracy:
        right, count = accuracy[LPR_IMAGE]
        gain = 100 * (right - accuracy[names.PEER][0]) / count
    else:
        gain = None
    verdicts.append(
        Verdict(f"the same: exact match above {names.PEER}'s, points", gain, 0, 0, "points")
    )
    return verdicts


def _best_of_singles(model: str, figures: Mapping[Case, Figures]) -> Case | None:
    """The way in which MANY single pictures at a time are read fastest."""
    ways = [
        case for case in figures if (case.target, case.batch, case.concurrency) == (model, 1, MANY)
    ]
    return max(ways, key=lambda case: figures[case].plates_per_s, default=None)
