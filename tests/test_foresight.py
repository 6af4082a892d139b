"""The early alarm: what will be held when grace ends is told when it begins."""

from dataclasses import replace
from datetime import timedelta

import pytest

from reconciler.diff import Decision
from reconciler.foresight import foresee
from reconciler.model import Snapshot, Status, User
from reconciler.plan import Kind, NoticeKind
from reconciler.policy import FirstRun, Limit, Limits, OutOfScope, Pilot, Policy, TeamPolicy
from reconciler.safety import Allowance, Consent, Judged, Past, judge
from tests.world import MEMBER, NOW, account, decide, directory, group, snapshot, team, user

HALF_AN_HOUR = timedelta(minutes=30)


def told(decision: Decision, past: tuple[Past, ...] = (), limits: Limits | None = None, **consent: object) -> Judged:
    arguments = (decision.snapshot, past, limits or Limits(), TeamPolicy(), Consent(**consent))  # type: ignore[arg-type]
    return foresee(judge(decision.plan, *arguments), decision.upcoming, *arguments)


def alarms(judged: Judged) -> dict[str, str]:
    return {n.subject.name: n.message for n in judged.plan.notices if n.kind is NoticeKind.WILL_BE_HELD}


def leaving(count: int, of: int = 100, policy: Policy | None = None) -> Decision:
    """So many people leave the scope without being suspended."""
    people = [user(n, direct=n > count) for n in range(1, of + 1)]
    return decide(directory(people), snapshot([account(p) for p in people]), policy)


def test_a_limit_that_will_hold_when_grace_ends_is_told_at_once() -> None:
    judged = told(leaving(40))
    assert judged.plan.held == () and not judged.plan.operations
    assert list(alarms(judged)) == ["max_deactivations"]
    assert [notice.size for notice in judged.plan.notices if notice.kind is NoticeKind.WILL_BE_HELD] == [40]
    message = alarms(judged)["max_deactivations"]
    assert "40 people would be locked of 100 active; allowed are 3 (2%, but always 3)" in message
    assert "which ends at 2026-11-24 12:30 UTC" in message
    assert "reconciler allow --deactivations 40 --for 4h" in message


def test_nothing_is_told_within_the_limits_or_where_nothing_will_be_sent() -> None:
    assert not alarms(told(leaving(3)))
    assert not alarms(told(leaving(40, policy=Policy(out_of_scope=OutOfScope.KEEP))))
    assert not alarms(told(leaving(40, policy=Policy(only=Pilot(groups=frozenset({"IT"}))))))
    everybody = frozenset(f"u{n}@example.com" for n in range(1, 101))
    assert not alarms(told(leaving(40, policy=Policy(protect=everybody))))


def test_an_application_that_loses_everybody_is_told_at_once() -> None:
    people = [user(n) for n in range(1, 11)]
    held = snapshot([account(p, memberships={"t0009": MEMBER}) for p in people], [team(group(9))])
    found = alarms(told(decide(directory(people), held)))
    assert set(found) == {"empty_scope", "max_deactivations"}
    assert "nobody at all is in scope any more" in found["empty_scope"]
    assert "reconciler release" in found["empty_scope"]


def test_a_team_that_will_be_emptied_is_told_at_once() -> None:
    people = [user(n, direct=True) for n in range(1, 201)]
    held = snapshot(
        [account(p, memberships={"t0009": MEMBER} if n < 8 else {}) for n, p in enumerate(people)], [team(group(9))]
    )
    judged = told(decide(directory(people), held))
    assert "the team Group 9 would lose 8 of 8 members" in alarms(judged)["max_team_loss"]


def test_what_was_announced_is_no_alarm_as_long_as_it_lasts() -> None:
    ends = {"early": NOW + timedelta(minutes=29), "late": NOW + timedelta(minutes=31)}
    allowances = {name: (Allowance("allow:1", 40, until),) for name, until in ends.items()}
    assert not alarms(told(leaving(40), allowances=allowances["late"]))
    assert alarms(told(leaving(40), allowances=allowances["early"]))


def test_locks_of_the_window_count_until_it_ends() -> None:
    locks = tuple(Past(op) for op in locked(3).plan.operations)
    recent = tuple(replace(one, at=NOW - timedelta(hours=23)) for one in locks)
    old = tuple(replace(one, at=NOW - timedelta(hours=23, minutes=45)) for one in locks)
    assert alarms(told(later(2), recent))
    assert not alarms(told(later(2), old))  # they will have left the window by then


def locked(count: int) -> Decision:
    people = [user(n, direct=True, status=Status.SUSPENDED) for n in range(101, 101 + count)]
    return decide(directory(people), snapshot([account(p) for p in people]))


def later(count: int) -> Decision:
    return leaving(count)


def test_a_long_grace_does_not_add_up_what_no_window_counts() -> None:
    policy = Policy(grace=timedelta(days=9))
    people = [user(n) if n <= 12 else user(n, direct=True) for n in range(1, 101)]

    def left(hours: int) -> Snapshot:
        return snapshot(
            [account(p, left_at=NOW - timedelta(hours=n * hours) if n < 12 else None) for n, p in enumerate(people)]
        )

    assert not alarms(told(decide(directory(people), left(12), policy)))
    found = alarms(told(decide(directory(people), left(6), policy)))["max_deactivations"]
    assert "4 people would be locked" in found


def test_each_window_is_judged_and_each_limit_told_once() -> None:
    """Ten people leave one day, which is no loss of a team for most; two days later a team loses all seven."""
    staff, sales = group(8, "Staff"), group(9, "Sales")
    members = {"t0008": MEMBER, "t0009": MEMBER}
    people = [user(n, 8) if n <= 27 else user(n) for n in range(1, 38)]
    accounts = [account(p, memberships=members if n < 7 else {"t0008": MEMBER}) for n, p in enumerate(people)]
    accounts = [replace(a, left_at=NOW - timedelta(days=2)) if n >= 27 else a for n, a in enumerate(accounts)]
    held = snapshot(accounts, [team(staff), team(sales, left_at=NOW)])
    limits = Limits(max_deactivations=Limit(percent=50), max_removals=Limit(percent=90))
    policy = Policy(grace=timedelta(days=5))
    found = alarms(told(decide(directory(people, [staff]), held, policy), limits=limits))
    assert list(found) == ["max_team_loss"]
    assert "the team Sales would lose 7 of 7 members" in found["max_team_loss"]
    assert "ends at 2026-11-29 12:00 UTC" in found["max_team_loss"]
    found = alarms(told(decide(directory(people, [staff]), held, policy), limits=replace(limits, at_most=6)))
    assert set(found) == {"max_deactivations", "max_removals", "max_team_loss"}
    assert "10 people would be locked" in found["max_deactivations"]
    assert "ends at 2026-11-27 12:00 UTC" in found["max_deactivations"]
    assert "7 people would lose a team" in found["max_removals"]


def test_a_limit_is_told_of_the_window_that_is_over_it_most() -> None:
    """Whatever falls out of a window, or is announced for it, between one end of grace and the next."""
    policy = Policy(grace=timedelta(days=9))
    people = [user(n) if n <= 20 else user(n, direct=True) for n in range(1, 101)]

    def left(*days: int) -> Decision:
        """So many people, an hour after each other, on each of these days."""
        at = [NOW - timedelta(days=8.5 - day, hours=-hour) for day, count in enumerate(days) for hour in range(count)]
        gone = zip(people, [*at, *[None] * (100 - len(at))], strict=True)
        rows = [account(p, left_at=moment) for p, moment in gone]
        here = [replace(p, direct=True) if row.left_at is None else p for p, row in zip(people, rows, strict=True)]
        return decide(directory(here), snapshot(rows), policy)

    assert not alarms(told(left(3, 0, 3, 0, 3, 0, 3)))
    found = alarms(told(left(5, 0, 8, 0, 4)))
    assert "8 people would be locked" in found["max_deactivations"]
    assert "ends at 2026-11-27 07:00 UTC" in found["max_deactivations"]
    # Two locks of an hour ago count for the first day only, which is not the fullest.
    locks = tuple(Past(op, at=NOW - timedelta(hours=1)) for op in locked(2).plan.operations)
    found = alarms(told(left(2, 0, 3), locks))
    assert "2 people would be locked of 100 active, 2 before in the last 24 hours" in found["max_deactivations"]
    # An announcement that covers the fullest day covers no later one.
    allowances = (Allowance("allow:1", 8, NOW + timedelta(days=4)),)
    found = alarms(told(left(5, 0, 8, 0, 4), allowances=allowances))
    assert "4 people would be locked" in found["max_deactivations"]


def test_a_lock_that_undoes_an_unlock_counts_once_that_is_out_of_the_window() -> None:
    late = leaving(4)
    unlock = replace(late.upcoming[0].operation, kind=Kind.REACTIVATE_USER)
    unlocked = Past(unlock, gave_access=frozenset({True}), at=NOW - timedelta(hours=1))
    assert alarms(told(late)) and not alarms(told(late, (unlocked,)))
    # It falls out between what is due today, which no limit counts, and the four locks.
    today = (replace(one, operation=replace(one.operation, kind=Kind.UPDATE_USER)) for one in leaving(5).upcoming)
    later = (replace(one, at=one.at + timedelta(days=2)) for one in late.upcoming)
    assert alarms(told(replace(late, upcoming=(*today, *later)), (unlocked,)))


@pytest.mark.parametrize(("leavers", "alarm"), [(9, False), (40, True)])
def test_a_limit_that_holds_already_is_an_alarm_where_it_will_hold_more_and_a_first_plan_is_none(
    leavers: int, alarm: bool
) -> None:
    gone = [user(n, direct=True, status=Status.SUSPENDED) for n in range(1, 11)]
    left = [user(n) for n in range(11, 11 + leavers)]
    people: list[User] = [*gone, *left, *(user(n, direct=True) for n in range(11 + leavers, 101))]
    held = snapshot([account(p) for p in people])
    judged = told(decide(directory(people), held))
    assert [hold.limit for hold in judged.plan.held] == ["max_deactivations"]
    assert ["40 people would be locked" in words for words in alarms(judged).values()] == ([True] if alarm else [])
    first = told(decide(directory(people), replace(held, reviewed=False)))
    assert [hold.limit for hold in first.plan.held] == ["first_run"] and not alarms(first)


@pytest.mark.parametrize("first_run", FirstRun)
def test_a_first_plan_that_is_sent_tells_what_the_limits_will_hold_later(first_run: FirstRun) -> None:
    decision = leaving(40)
    decision = replace(decision, snapshot=replace(decision.snapshot, reviewed=False))
    assert alarms(told(decision, limits=Limits(first_run=first_run)))


def test_a_plan_about_one_person_raises_no_alarm() -> None:
    people = [user(1), user(2)]
    held = snapshot([account(person) for person in people])
    decision = decide(directory(people), held, focus=frozenset({people[0].id}))
    assert [one.operation.subject.key for one in decision.upcoming] == [people[0].id]
    assert not alarms(told(decision))
