"""Makes a failing history short: what can be left out while the same invariant still breaks, is."""

import time
from collections.abc import Callable, Sequence

from tests.campaign.history import Played, Step, muted, play, without

MOST_SECONDS = 90
"""After so long the shortest history that was found is good enough."""


def shrink(seed: int, steps: Sequence[Step], letter: str, *, tries: int = 400) -> tuple[list[Step], Played]:
    """The shortest history found within so many tries, and what it came to."""
    left = [tries]
    until = time.monotonic() + MOST_SECONDS

    def fails(candidate: Sequence[Step]) -> bool:
        if left[0] <= 0 or time.monotonic() > until:
            return False
        left[0] -= 1
        return letter in play(seed, candidate).letters

    best = _fewer(list(steps), fails)
    best = _calmer(seed, best, fails)
    best = _fewer(best, fails)
    return best, play(seed, best)


def _fewer(steps: list[Step], fails: Callable[[Sequence[Step]], bool]) -> list[Step]:
    size = max(1, len(steps) // 2)
    while size:
        start = len(steps)
        while start > 0:
            candidate = without(steps, range(max(0, start - size), start))
            if len(candidate) < len(steps) and fails(candidate):
                steps = candidate
            start -= size
        size //= 2
    return steps


def _calmer(seed: int, steps: list[Step], fails: Callable[[Sequence[Step]], bool]) -> list[Step]:
    """Without the faults that don't matter, all of a cycle at once where possible."""
    happened = play(seed, steps).happened
    for number, entries in happened.items():
        names = [entry.partition(" ")[2] for entry in entries]
        if not names:
            continue
        candidate = muted(steps, number, names)
        if fails(candidate):
            steps = candidate
            continue
        for name in names:
            candidate = muted(steps, number, [name])
            if fails(candidate):
                steps = candidate
    return steps
