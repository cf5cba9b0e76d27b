"""One bad picture must not lose its neighbours, though the server answers a request as a whole."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Final

from clients.errors import InvalidPicture
from clients.result import Outcome, PlateReading
from clients.wire import check_picture
from lprnet.image import ImageLimits

MAX_DROPS: Final = 4
"""After so many refusals a batch is sent picture by picture: each refusal costs a full request,
in which the server has decoded the good pictures for nothing."""

Plan = Generator[list[bytes], "list[PlateReading] | InvalidPicture", list[Outcome]]


def plan(pictures: Sequence[bytes], limits: ImageLimits) -> Plan:
    """What to send, in turn, until every picture of a batch has its outcome.

    Yields the pictures of the next request, is sent its readings or its refusal, and returns an
    outcome for each picture. Headers are checked here first, so that a refusal is rare: pixels
    that do not decode behind a sound header. The server names the first bad picture; the rest
    go again without it.
    """
    outcomes: list[Outcome | None] = [check_picture(data, limits) for data in pictures]
    pending = [i for i, outcome in enumerate(outcomes) if outcome is None]
    drops = 0
    while len(pending) > 1:
        answer = yield [pictures[i] for i in pending]
        if not isinstance(answer, InvalidPicture):
            for i, reading in zip(pending, answer, strict=True):
                outcomes[i] = reading
            pending = []
        elif answer.index is None or answer.index >= len(pending) or drops == MAX_DROPS:
            break
        else:
            outcomes[pending.pop(answer.index)] = _plain(answer)
            drops += 1
    for i in pending:
        answer = yield [pictures[i]]
        outcomes[i] = _plain(answer) if isinstance(answer, InvalidPicture) else answer[0]
    return [outcome for outcome in outcomes if outcome is not None]


def read_each(
    pictures: Sequence[bytes],
    limits: ImageLimits,
    send: Callable[[list[bytes]], list[PlateReading]],
) -> list[Outcome]:
    """Run `plan` with a blocking `send`, which raises InvalidPicture when it is refused."""
    steps = plan(pictures, limits)
    try:
        request = next(steps)
        while True:
            try:
                answer: list[PlateReading] | InvalidPicture = send(request)
            except InvalidPicture as refusal:
                answer = refusal
            request = steps.send(answer)
    except StopIteration as stop:
        outcomes: list[Outcome] = stop.value
        return outcomes


def _plain(refusal: InvalidPicture) -> InvalidPicture:
    """Without the position in a request that the caller never saw."""
    return InvalidPicture(refusal.reason, str(refusal))
