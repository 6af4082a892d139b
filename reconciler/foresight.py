"""The early alarm: which limits will hold the plan once grace ends. Pure.

An administrator has the time of grace to repair a mistake, if it is reported when it is made.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from reconciler.model import Snapshot
from reconciler.plan import Held, Notice, NoticeKind, Plan, Subject, Upcoming
from reconciler.policy import Limits, TeamPolicy
from reconciler.safety import HOLDS_ALL, Consent, Judged, Past, judge

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

    The arguments are those of `judge`. A limit that holds the plan already has no notice, nor has a first plan that
    waits for a person.
    """
    plan = judged.plan
    holding = {held.limit for held in plan.held}
    if not upcoming or plan.focus is not None or "first_run" in holding:
        return judged
    at, due = _fullest(upcoming, limits.window)
    begins = at - limits.window
    now = [op for op in plan.operations if op.sent] if begins < plan.generated_at else []
    then = judge(
        replace(plan, operations=(*now, *(one.operation for one in due)), held=(), notices=()),
        replace(snapshot, reviewed=True),
        [entry for entry in past if entry.at is None or entry.at > begins],
        limits,
        teams,
        replace(consent, allowances=tuple(a for a in consent.allowances if a.until is None or a.until >= at)),
    ).plan
    notices = tuple(
        Notice(NoticeKind.WILL_BE_HELD, Subject("limit", held.limit), _words(plan, held, at))
        for held in then.held
        if held.limit in HOLDS_ALL - _NO_LIMIT - holding
    )
    return replace(judged, plan=replace(plan, notices=(*plan.notices, *notices))) if notices else judged


def _fullest(upcoming: Sequence[Upcoming], window: timedelta) -> tuple[datetime, Sequence[Upcoming]]:
    """Find the window in which most is due: a grace of many days holds more people than one window counts."""
    ordered = sorted(upcoming, key=lambda one: one.at)
    first, best = 0, (0, 0)
    for last, one in enumerate(ordered):
        while ordered[first].at <= one.at - window:
            first += 1
        if last + 1 - first > best[1] - best[0]:
            best = first, last + 1
    found = ordered[slice(*best)]
    return found[-1].at, found


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
