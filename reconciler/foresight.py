"""The early alarm: which limits will hold the plan once grace ends. Pure.

An administrator has the time of grace to repair a mistake, if it is reported when it is made.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from reconciler.model import Snapshot
from reconciler.plan import Held, Notice, NoticeKind, Operation, Plan, Subject, Upcoming
from reconciler.policy import Limits, TeamPolicy
from reconciler.safety import HOLDS_ALL, Consent, Judged, Past, judge, sizes

_MOST_JUDGED = 200
"""So many windows are judged, the fullest first: the event loop stands meanwhile."""
_NO_LIMIT = frozenset({"first_run", "paused"})
_ANNOUNCED_FOR = timedelta(hours=4)
_LONGEST = timedelta(days=7)


def foresee(
    judged: Judged,
    upcoming: Sequence[Upcoming],
    snapshot: Snapshot,
    past: Sequence[Past],
    limits: Limits,
    teams: TeamPolicy,
    consent: Consent,
) -> Judged:
    """Add a notice for each limit that would hold the whole plan if everybody in grace were due.

    The arguments are those of `judge`. A limit that holds the plan already has one if more will be due then than it
    holds now; a first plan that waits for a person has none.
    """
    plan = judged.plan
    holding = {held.limit for held in plan.held}
    if not upcoming or plan.focus is not None or "first_run" in holding:
        return judged
    found = _Windows(plan, upcoming, replace(snapshot, reviewed=True), past, limits, teams, consent).worst()
    notices = tuple(
        Notice(NoticeKind.WILL_BE_HELD, Subject("limit", limit), _words(plan, held, at), held.planned)
        for limit, (at, held) in found.items()
    )
    return replace(judged, plan=replace(plan, notices=(*plan.notices, *notices))) if notices else judged


class _Windows:
    """The windows in which what is due will be counted. A grace of many days holds more people than one of them."""

    def __init__(
        self,
        plan: Plan,
        upcoming: Sequence[Upcoming],
        snapshot: Snapshot,
        past: Sequence[Past],
        limits: Limits,
        teams: TeamPolicy,
        consent: Consent,
    ) -> None:
        self.plan = plan
        self.due = sorted(upcoming, key=lambda one: one.at)
        self.snapshot = snapshot
        self.past = past
        self.limits = limits
        self.teams = teams
        self.consent = consent
        self.sizes = sizes(snapshot)
        self.held = {held.limit: held.planned for held in plan.held}
        self.found: dict[str, tuple[datetime, Held]] = {}
        self.judged = 0

    def worst(self) -> Mapping[str, tuple[datetime, Held]]:
        """Find for each limit that will hold the plan the window that is over it most, and when that ends."""
        ends, window = self._ends(), self.limits.window
        fullest = max(ends, key=lambda end: len(self._within(end - window, end)))
        self._search([fullest])  # most others are then known to be no worse
        self._search(ends)
        return self.found

    def _search(self, ends: Sequence[datetime]) -> None:
        if self.judged >= _MOST_JUDGED:
            return
        self.judged += 1
        # What is within the limits together is so in each window. Only one window tells what undoes a recent change.
        several = len(ends) > 1
        past = [replace(entry, gave_access=frozenset()) for entry in self.past] if several else self.past
        over = self._over(ends[0] - self.limits.window, ends[-1], past)
        if over and several:
            self._search(ends[: len(ends) // 2])
            self._search(ends[len(ends) // 2 :])
        else:
            self.found |= over

    def _over(self, begins: datetime, at: datetime, past: Sequence[Past]) -> dict[str, tuple[datetime, Held]]:
        """Judge what is due between these times; return the limits that would hold more than is known yet."""
        now = [op for op in self.plan.operations if op.sent] if begins < self.plan.generated_at else []
        allowances = tuple(a for a in self.consent.allowances if a.until is None or a.until >= at)
        then = judge(
            replace(self.plan, operations=(*now, *self._within(begins, at)), held=(), notices=()),
            self.snapshot,
            [entry for entry in past if entry.at is None or entry.at > begins],
            self.limits,
            self.teams,
            replace(self.consent, allowances=allowances),
            self.sizes,
        ).plan
        known = self.held | {limit: held.planned for limit, (_, held) in self.found.items()}
        over = (held for held in then.held if held.limit in HOLDS_ALL - _NO_LIMIT)
        return {held.limit: (at, held) for held in over if held.planned > known.get(held.limit, -1)}

    def _within(self, begins: datetime, at: datetime) -> list[Operation]:
        first, last = (bisect_right(self.due, moment, key=lambda one: one.at) for moment in (begins, at))
        return [one.operation for one in self.due[first:last]]

    def _ends(self) -> list[datetime]:
        """List where the windows end that no other one contains: before the next end, something falls out of them."""
        ends = sorted({one.at for one in self.due})
        sent = [entry.at for entry in self.past if entry.at is not None]
        times = sorted([*(one.at for one in self.due), *sent, self.plan.generated_at])
        out = [bisect_right(times, end - self.limits.window) for end in ends]
        return [end for end, mine, following in zip(ends, out, [*out[1:], None], strict=True) if mine != following]


def _words(plan: Plan, held: Held, at: datetime) -> str:
    lasts = min(max(_ANNOUNCED_FOR, at - plan.generated_at + timedelta(hours=1)), _LONGEST)
    if held.limit == "max_deactivations":
        hours = math.ceil(lasts / timedelta(hours=1))
        right = f"announce it: reconciler allow --deactivations {held.planned} --for {hours}h --reason TEXT"
    else:
        right = "let it through when it is held: reconciler release"
    return (
        f"{held.reason}. They are in grace, which ends at {at:%Y-%m-%d %H:%M} UTC; then the whole plan will be held. "
        f"If it is a mistake, repair it in JumpCloud before then; if it is right, {right}"
    )
