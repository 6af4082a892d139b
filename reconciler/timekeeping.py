"""The time by which a run decides and records: the median of this machine's clock and the services' clocks. Pure.

A clock that is wrong for one run must not leave a mark. A time that was recorded too late is corrected later, since it
lies in the future then. A time that was recorded too early passes for right for ever. So in doubt the later time is
recorded, and nothing ends.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

KEY = "clock"
"""The key in `meta` under which the state file keeps what the last run found (`Known`)."""
APART = timedelta(minutes=2)
"""Clocks that differ by more than this contradict each other. Below it this machine's clock is used as it is: the
services tell whole seconds, and times in the journal must not move by fractions of seconds from run to run."""
STEADY = timedelta(seconds=5)
"""An offset that differs from the former one by no more than this is the former one, for the same reason."""

_NONE = timedelta()


@dataclass(frozen=True, slots=True)
class Known:
    """The findings of the last run about the time.

    `offset` is added to this machine's clock. `at` is the time of the newest run whose clock was certain, `before` that
    of the one before it. `back_at` is this machine's time when it was first seen to have gone back without another
    clock as a witness. `certain`: whether the last run's clock was. `found` is the offset that the services, or
    the only one of them that told the time, told last: a wrong clock stays wrong while neither tells it.
    """

    offset: timedelta = _NONE
    at: datetime | None = None
    before: datetime | None = None
    back_at: datetime | None = None
    certain: bool = True
    found: timedelta = _NONE

    def prunes_by(self, at: datetime) -> datetime | None:
        """The time by which old records may be deleted at this time; None where nothing may be deleted.

        It is never later than the time of the run before: so the first run after a jump forward deletes nothing that
        was not old before the jump.
        """
        if not self.certain:
            return None
        if self.at is None:
            return at
        return None if self.before is None else min(at, self.before)


@dataclass(frozen=True, slots=True)
class Now:
    """The time of a run, and how far it can be relied on.

    `offset` is what has to be added to this machine's clock. `earliest` is the earliest time that any clock shows.
    While the time is not `certain`, no grace ends, nothing is pruned and nothing leaves the limits' window. Stored
    times later than `at` are set to `correct_to`, or left as they are where that is None. `problem` tells an
    administrator what is wrong with the clocks, "" for nothing. `back_at`, `found`: see `Known`.
    """

    at: datetime
    offset: timedelta
    certain: bool
    earliest: datetime
    correct_to: datetime | None
    problem: str = ""
    back_at: datetime | None = None
    found: timedelta = _NONE


def judge(machine: datetime, services: Mapping[str, float], known: Known) -> Now:
    """Determine the time from this machine's clock and those of the services.

    `services`: by name, the seconds by which a service's clock is ahead of this machine's. A service whose clock is not
    known is left out.
    """
    apart = {name: timedelta(seconds=seconds) for name, seconds in services.items()}
    if not apart:
        return _alone(machine, known)
    if len(apart) == 1:
        [(name, offset)] = apart.items()
        if abs(offset) > APART:
            return _contradicted(machine, name, offset, known)
        return Now(machine, _NONE, True, machine, machine)
    offset = sorted([_NONE, *apart.values()])[(len(apart) + 1) // 2]
    if abs(offset) <= APART:
        return Now(machine, _NONE, True, machine, machine)
    if abs(offset - known.offset) <= STEADY:
        offset = known.offset
    at = machine + offset
    way = "behind" if offset > _NONE else "ahead of"
    problem = (
        f"this machine's clock is {spoken(offset)} {way} the clocks of {' and '.join(sorted(apart))}. All times are "
        "corrected by that. Set the clock of this machine right, for instance with NTP (timedatectl)"
    )
    return Now(at, offset, True, at, at, problem)


def following(known: Known, now: Now) -> Known:
    """The findings to keep after a run at this time."""
    if now.certain:
        return Known(now.offset, now.at, min(known.at, now.at) if known.at else None, found=now.offset)
    offset = now.offset if now.back_at is None else _NONE
    return replace(known, offset=offset, back_at=now.back_at, certain=False, found=now.found)


def estimate(machine: datetime, known: Known) -> datetime:
    """The time where no service is asked: by this machine's clock, with the last run's offset or without it.

    Time goes on: of both it is the earlier one that is not before the last run. So a clock that was set right since is
    believed at once.
    """
    candidates = {machine, machine + known.offset}
    possible = [at for at in candidates if known.at is None or at >= known.at - APART]
    return min(possible) if possible else max(candidates)


def _alone(machine: datetime, known: Known) -> Now:
    """The time without any service's clock. The last runs are the only witnesses, of a clock that was put back.

    Where it is not before the run before the last, that one's clock alone was ahead. Else either the last runs' was, or
    this one is behind. The next run shows which: by then it has gone on from here, or is back where it was.
    """
    if known.found and (known.at is None or machine + known.found >= known.at - APART):
        return _found_wrong(machine, known)
    if known.at is None or machine >= known.at - APART:
        return Now(machine, _NONE, True, machine, machine)
    if known.before is not None and machine >= known.before - STEADY:
        return Now(machine, _NONE, True, machine, machine)
    if known.back_at is not None and machine >= known.back_at - STEADY:
        return Now(machine, _NONE, True, machine, min(known.back_at, machine))
    problem = (
        f"this machine's clock is {spoken(known.at - machine)} behind that of the last run, and neither service tells "
        f"the time. {_STOPPED} until the next run shows which is right. Look at the clock of this machine (timedatectl)"
    )
    return Now(known.at, known.at - machine, False, machine, None, problem, machine, known.found)


def _found_wrong(machine: datetime, known: Known) -> Now:
    """The time without any service's clock, on a machine whose clock was not theirs when one of them told it last.

    Unless it shows a time before the last run, it may have been set right since.
    """
    offset = known.found
    likely = machine + offset
    if known.certain and known.at is not None and machine < known.at - APART:
        problem = (
            f"this machine's clock was {spoken(offset)} behind the services' clocks when they told the time last, and "
            "now neither does. All times are corrected by that. Set the clock of this machine right (timedatectl)"
        )
        return Now(likely, offset, True, likely, likely, problem)
    problem = (
        f"this machine's clock and that of a service differed by {spoken(offset)} when one told the time last, and now "
        f"neither does. {_STOPPED} until they agree. Look at the clock of this machine (timedatectl)"
    )
    latest = max(likely, machine)
    return Now(latest, latest - machine, False, min(likely, machine), None, problem, found=offset)


def _contradicted(machine: datetime, name: str, offset: timedelta, known: Known) -> Now:
    latest = max(offset, _NONE)
    earliest = min(filter(None, (machine, machine + offset, known.at)))
    problem = (
        f"this machine's clock and that of {name} differ by {spoken(offset)}, and no third clock tells which is right. "
        f"{_STOPPED} until they agree. Set the clock of this machine right, for instance with NTP (timedatectl)"
    )
    return Now(machine + latest, latest, False, earliest, None, problem, found=offset)


_STOPPED = "Nobody's grace ends, no record is pruned, and nothing leaves the window of the limits"


def spoken(length: timedelta) -> str:
    """A length of time in its largest unit, for a sentence; its sign is left out."""
    seconds = abs(length.total_seconds())
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def to_json(known: Known) -> str:
    """The findings for the state file."""

    def text(at: datetime | None) -> str | None:
        return at.isoformat() if at else None

    return json.dumps(
        {
            "offset": known.offset.total_seconds(),
            "at": text(known.at),
            "before": text(known.before),
            "back_at": text(known.back_at),
            "certain": known.certain,
            "found": known.found.total_seconds(),
        }
    )


def from_json(text: str | None) -> Known:
    """The findings from the state file; none where there are none, or where they can't be read: the next run makes
    them anew."""

    def time(value: str | None) -> datetime | None:
        at = datetime.fromisoformat(value) if value else None
        if at is not None and at.tzinfo is None:
            raise ValueError("a time without its zone")
        return at

    try:
        found: dict[str, Any] = json.loads(text or "{}")
        return Known(
            timedelta(seconds=float(found.get("offset", 0))),
            time(found.get("at")),
            time(found.get("before")),
            time(found.get("back_at")),
            found.get("certain", True) is True,
            timedelta(seconds=float(found.get("found", 0))),
        )
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError):
        return Known()
