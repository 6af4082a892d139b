"""Which alerts are due: each fact once, what lasts again every four hours, what is over forgotten."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from reconciler.alert_text import document, harmless, text
from reconciler.alerts import (
    TOLD_WHEN_DONE,
    Alert,
    AlertKind,
    Fact,
    Failing,
    Key,
    Situation,
    due,
    ended,
    facts,
    merely_left,
    silent,
)
from reconciler.apply import Result
from reconciler.model import (
    Failure,
    Inventory,
    InventoryTeam,
    Membership,
    Quarantined,
    Snapshot,
    Standing,
    Status,
    User,
)
from reconciler.plan import (
    Cause,
    Change,
    Held,
    Kind,
    Notice,
    NoticeKind,
    Operation,
    Plan,
    Rule,
    Scope,
    Subject,
    TeamRef,
)
from reconciler.policy import Mode, OutOfScope, Pilot, Policy, Reactivate
from reconciler.rows import JournalRow, State
from tests.world import NOW, SOURCE, account, decide, directory, group, snapshot, team, user

ADA, BOB = user(1), user(2)
HOUR = timedelta(hours=1)


def plan(*operations: Operation, held: tuple[Held, ...] = (), notices: tuple[Notice, ...] = ()) -> Plan:
    return Plan("cycle", NOW, SOURCE, Scope(5, 1, 5), operations, held=held, notices=notices)


def lock(number: int, rule: Rule = Rule.LEFT, *, sent: bool = True) -> Operation:
    held = account(user(number))
    subject = Subject("user", held.email, held.jumpcloud_id, held.keeper_id)
    return Operation(Kind.DEACTIVATE_USER, subject, Cause.JUMPCLOUD, rule, "left the scope", sent=sent)


def after(held: Snapshot | None = None, **more: object) -> Situation:
    base = Situation(NOW, held or snapshot([]), Policy(), timedelta(hours=4), plan=plan())
    return replace(base, **more)  # type: ignore[arg-type]


def tell(now: Situation, told: Mapping[Key, datetime] | None = None) -> list[Alert]:
    return due(facts(now), told or {}, now)


def taken(alerts: list[Alert], at: datetime) -> dict[Key, datetime]:
    return {key: at for alert in alerts for key in alert.remember}


def only(alerts: list[Alert]) -> Alert:
    assert len(alerts) == 1, alerts
    return alerts[0]


HELD = (Held("max_deactivations", (0,), 3, 9, "9 people would be locked"),)


def test_a_hold_is_told_at_once_again_after_four_hours_and_when_it_is_over() -> None:
    now = after(plan=plan(lock(1, sent=False), held=HELD))
    first = only(tell(now))
    assert first.kind is AlertKind.HELD
    assert "reconciler release" in first.facts[0].text
    told = taken([first], NOW)
    assert tell(replace(now, at=NOW + 3 * HOUR), told) == []
    assert only(tell(replace(now, at=NOW + 4 * HOUR), told)).kind is AlertKind.HELD
    over = only(tell(after(at=NOW + HOUR), told))
    assert over.kind is AlertKind.RECOVERED
    assert over.forget == tuple(told)


def test_a_second_limit_is_told_beside_the_first_and_its_end_without_a_word() -> None:
    both = (*HELD, Held("max_removals", (0,), 3, 9, "9 people would lose a team"))
    told = taken(tell(after(plan=plan(lock(1), held=HELD))), NOW)
    alert = only(tell(after(plan=plan(lock(1), held=both)), told))
    assert [fact.name for fact in alert.facts] == ["max_deactivations", "max_removals"]
    told |= taken([alert], NOW)
    now = after(plan=plan(lock(1), held=HELD))
    assert tell(now, told) == []
    over = ended(facts(now), told, now)
    assert over == silent(over, facts(now)) == [("held", alert.facts[1].key)]
    told = {key: at for key, at in told.items() if key not in over}
    assert tell(after(plan=plan(lock(1), held=both)), told), "the second limit is told anew when it holds again"


def test_a_hold_or_an_early_alarm_that_doubles_is_told_at_once() -> None:
    def held(number: int) -> Situation:
        return after(plan=plan(lock(1), held=(replace(HELD[0], planned=number),)))

    def foreseen(number: int) -> Situation:
        words = f"{number} people would be locked of 900"
        alarm = Notice(NoticeKind.WILL_BE_HELD, Subject("limit", "max_deactivations"), words, number)
        return after(plan=plan(notices=(alarm,)))

    for situation in (held, foreseen):
        told = taken(tell(situation(4)), NOW)
        assert tell(situation(5), told) == []
        assert only(tell(situation(63), told)).facts[0].name == "max_deactivations"
        assert ended(facts(situation(63)), told, situation(63)) == []
        told |= taken(tell(situation(63), told), NOW)
        assert ended(facts(situation(4)), told, situation(4)) == [], "what shrinks and grows again is no news"


@pytest.mark.parametrize(
    ("limit", "way"), [("first_run", "apply --plan"), ("paused", "reconciler resume"), ("max_removals", "release")]
)
def test_a_hold_says_how_it_goes_on(limit: str, way: str) -> None:
    held = (Held(limit, (0,), 0, 1, "because"),)
    assert way in only(tell(after(plan=plan(lock(1), held=held)))).facts[0].text


def test_one_person_or_a_failed_cycle_says_nothing_of_a_hold() -> None:
    told = taken(tell(after(plan=plan(lock(1), held=HELD))), NOW)
    one = after(plan=plan(), whole=False, decides=False)
    for now in (one, after(complete=False), after(plan=None, failing=Failing(1, NOW, "down"))):
        assert tell(now, told) == []
        assert ended(facts(now), told, now) == []
    assert tell(after(plan=plan(lock(1), held=HELD), whole=False, decides=False)) == []


def test_an_early_alarm_about_teams_lasts_while_a_list_of_groups_cannot_be_read() -> None:
    for limit, over in (("max_deactivations", True), ("max_removals", False)):
        alarm = Notice(NoticeKind.WILL_BE_HELD, Subject("limit", limit), "9 people would be concerned", 9)
        told = taken(tell(after(plan=plan(notices=(alarm,)))), NOW)
        unread = after(plan=plan(), complete=False)
        assert bool(ended(facts(unread), told, unread)) is over
        assert ended(facts(after(plan=plan())), told, after(plan=plan()))


def test_what_the_leaver_lane_holds_is_told_until_a_whole_cycle_holds_nothing() -> None:
    lane = after(plan=plan(lock(1), held=HELD), whole=False)
    alert = only(tell(lane))
    assert alert.kind is AlertKind.HELD
    told = taken([alert], NOW)
    assert tell(after(plan=plan(), whole=False), told) == []
    assert only(tell(after(plan=plan()), told)).kind is AlertKind.RECOVERED


def test_failures_are_told_from_the_second_in_a_row_once_and_their_end() -> None:
    assert tell(after(plan=None, failing=Failing(1, NOW, "JumpCloud is down"))) == []
    second = after(plan=None, failing=Failing(2, NOW, "JumpCloud is down"))
    alert = only(tell(second))
    assert alert.kind is AlertKind.FAILING
    assert "JumpCloud is down" in alert.facts[0].text
    told = taken([alert], NOW)
    assert tell(after(whole=False), told) == []
    assert tell(replace(second, failing=Failing(90, NOW, "still down"), at=NOW + 24 * HOUR), told) == []
    assert only(tell(after(), told)).kind is AlertKind.RECOVERED


def test_cycles_that_work_again_without_a_list_end_the_alert_so_that_the_next_failures_are_told() -> None:
    failing = after(plan=None, failing=Failing(2, NOW, "JumpCloud is down"))
    told = taken(tell(failing), NOW)
    without = after(complete=False)
    over = only(tell(without, told))
    assert (over.kind, over.forget) == (AlertKind.RECOVERED, tuple(told))
    assert over.facts[0].text == "cycles work again, as far as they can without what was not read"
    assert tell(after(complete=False, failing=Failing(3, NOW, "Keeper could not be listed")), told) == []


def row(number: int, op: Operation, at: datetime = NOW) -> JournalRow:
    return JournalRow(number, 1, State.DONE, op, "", at, at, at, "done", "")


def test_each_lock_is_told_once_many_as_one_message() -> None:
    rows = [row(n, lock(n)) for n in range(1, 9)]
    alert = only(tell(after(done=rows)))
    words = text(alert, "ACME")
    assert words.startswith("[ACME] 8 people were locked in Keeper:")
    assert "u1@example.com" in words and "u8@" in words
    told = taken([alert], NOW)
    assert tell(after(done=rows), told) == []
    assert [fact.name for fact in only(tell(after(done=[*rows, row(9, lock(9))]), told)).facts] == ["u9@example.com"]
    assert len(ended([], told, after())) == 8  # once out of the history they need not be remembered


KEEP, LONG = Policy(out_of_scope=OutOfScope.KEEP), Policy(grace=timedelta(days=7))
KEPT = Notice(NoticeKind.KEPT, lock(1).subject, "left the scope and is kept")
IN_GRACE = Notice(NoticeKind.IN_GRACE, lock(1).subject, "left the scope; will be locked")


@pytest.mark.parametrize(
    ("said", "since", "policy", "told"),
    [
        (lock(1), HOUR + timedelta(minutes=30), Policy(), True),
        (lock(1), HOUR + timedelta(minutes=29), Policy(), False),
        (IN_GRACE, 9 * HOUR, LONG, False),
        (KEPT, 9 * HOUR, KEEP, False),
        (lock(1, Rule.SUSPENDED), HOUR, Policy(), True),
        (lock(1, Rule.SUSPENDED), timedelta(minutes=59), Policy(), False),
        (lock(1, Rule.SUSPENDED), HOUR, KEEP, True),
        (lock(1, Rule.DELETED), HOUR, LONG, True),
        (None, HOUR, KEEP, True),  # unlocked by hand, and only reported (policy.drift)
    ],
)
def test_a_leaver_who_is_active_an_hour_past_grace_is_told_of_while_cycles_work_and_while_they_fail(
    said: Operation | Notice | None, since: timedelta, policy: Policy, told: bool
) -> None:
    held = snapshot([account(ADA, left_at=NOW - since), account(BOB)])
    works = plan(
        *[replace(said, sent=False)] if isinstance(said, Operation) else [],
        notices=(said,) if isinstance(said, Notice) else (),
    )
    working = after(held, plan=works, policy=policy, merely_left=merely_left(works))
    failing = replace(working, plan=None, failing=Failing(1, NOW, "Keeper is down"))
    for now in (working, failing):
        assert [alert.kind for alert in tell(now)] == ([AlertKind.LEAVER_ACTIVE] if told else [])


def test_whoever_was_adopted_out_of_scope_is_told_of_before_grace_would_end() -> None:
    """Their lock is due at once, and held for a person."""
    held = snapshot([account(ADA, left_at=NOW - HOUR, review_lock=True)])
    made = decide(directory([ADA, BOB]), held, LONG).plan
    assert [op.rule for op in made.operations if op.kind is Kind.DEACTIVATE_USER] == [Rule.LEFT]
    now = after(held, plan=made, policy=LONG, merely_left=merely_left(made))
    assert [fact.name for fact in facts(now) if fact.kind is AlertKind.LEAVER_ACTIVE] == [ADA.email]
    failing = replace(now, plan=None, failing=Failing(2, NOW, "Keeper is down"))
    assert ADA.email in next(fact.text for fact in facts(failing) if fact.kind is AlertKind.FAILING)


def test_who_merely_left_is_known_of_the_others_after_a_look_at_one_person_or_without_a_list() -> None:
    everybody = merely_left(plan(lock(1), lock(2), lock(3, Rule.SUSPENDED)))
    assert everybody == {lock(1).subject.keeper_id, lock(2).subject.keeper_id}
    one = replace(plan(lock(2, Rule.SUSPENDED)), focus=frozenset({lock(2).subject.key}))
    assert merely_left(one, everybody) == {lock(1).subject.keeper_id}
    assert merely_left(plan(), everybody) == set()
    unread = plan(lock(2, Rule.SUSPENDED))
    unread = replace(unread, scope=replace(unread.scope, unread=("users",)))
    assert merely_left(unread, everybody) == {lock(1).subject.keeper_id}


@pytest.mark.parametrize("policy", [Policy(grace=timedelta(days=7)), Policy(out_of_scope=OutOfScope.KEEP)])
@pytest.mark.parametrize("odd", [{"unsure": True}, {"status": Status.UNKNOWN}])
@pytest.mark.parametrize("focus", [None, frozenset({BOB.id})])
def test_one_odd_reading_ends_no_grace(policy: Policy, odd: dict[str, Any], focus: frozenset[str] | None) -> None:
    """Bob left two days ago and is in grace, or kept: that one read does not tell his state is no reason for alarm."""
    held = snapshot([account(BOB, left_at=NOW - timedelta(days=2))], [team(group(90))])
    known = merely_left(decide(directory([BOB], [group(90)]), held, policy).plan)
    assert known == {account(BOB).keeper_id}
    made = decide(directory([user(2, 90, **odd)], [group(90)]), held, policy, focus=focus).plan
    known = merely_left(made, known)
    assert known == {account(BOB).keeper_id}
    found = facts(after(held, plan=made, policy=policy, merely_left=known))
    assert AlertKind.LEAVER_ACTIVE not in {fact.kind for fact in found}
    suspended = decide(directory([user(2, 90, status=Status.SUSPENDED)], [group(90)]), held, policy).plan
    assert merely_left(suspended, known) == set()


def test_why_a_leaver_is_still_active_is_said() -> None:
    held = snapshot([account(ADA, left_at=NOW - 9 * HOUR)])
    op = lock(1, sent=False)
    by_limit = [alert for alert in tell(after(held, plan=plan(op, held=HELD))) if alert.kind is AlertKind.LEAVER_ACTIVE]
    assert "held (max_deactivations)" in by_limit[0].facts[0].text
    unconfirmed = Notice(NoticeKind.UNCONFIRMED, op.subject, "bound to the application when read alone")
    assert "read alone" in only(tell(after(held, plan=plan(op, notices=(unconfirmed,))))).facts[0].text
    failed = Result(op, State.FAILED, "x", "Keeper is down")
    assert "Keeper is down" in only(tell(after(held, plan=plan(op), results=[failed]))).facts[0].text
    down = after(held, plan=None, failing=Failing(1, NOW, "JumpCloud is down"))
    assert "JumpCloud is down" in only(tell(down)).facts[0].text


def test_how_far_it_is_known_that_a_leaver_is_active_is_said() -> None:
    held = snapshot([account(ADA, left_at=NOW - 9 * HOUR)])
    unclear = replace(held, own_locks=frozenset({"k0001"}))
    down = Failing(1, NOW, "JumpCloud is down")
    for found, failing, words in (
        (held, None, ", still active"),
        (held, down, ", active when last read"),
        (unclear, None, ", not known to be locked"),
        (unclear, down, ", not known to be locked"),
    ):
        for works in (plan(lock(1)), None):
            if failing is not None or works is not None:
                alert = only(tell(after(found, plan=works, failing=failing)))
                assert words in alert.facts[0].text


def test_leavers_are_told_again_every_four_hours_all_in_one_message() -> None:
    held = snapshot([account(ADA, left_at=NOW - 9 * HOUR)])
    told = taken(tell(after(held)), NOW)
    assert tell(after(held, at=NOW + 3 * HOUR), told) == []
    assert only(tell(after(held, at=NOW + 4 * HOUR), told)).kind is AlertKind.LEAVER_ACTIVE
    more = snapshot([account(ADA, left_at=NOW - 9 * HOUR), account(BOB, left_at=NOW - 2 * HOUR)])
    assert len(only(tell(after(more), told)).facts) == 2


def test_whom_it_keeps_failing_for_is_told_once_as_long_as_it_is_due() -> None:
    op = lock(1, sent=False)

    def failed(count: int) -> Snapshot:
        return snapshot([account(ADA)], failures={ADA.id: Failure(count, NOW, "no licence is free")})

    assert tell(after(failed(2), plan=plan(op))) == []
    alert = only(tell(after(failed(3), plan=plan(op))))
    assert (alert.kind, alert.facts[0].name) == (AlertKind.STUCK, ADA.email)
    assert "no licence is free" in alert.facts[0].text
    told = taken([alert], NOW)
    for same in (
        after(failed(9), plan=plan(op)),
        after(failed(3), plan=None),
        after(failed(3), plan=plan(), whole=False),
        after(failed(3), plan=plan(), complete=False),
    ):
        assert tell(same, told) == []
        assert ended(facts(same), told, same) == []
    done = snapshot([account(ADA)])
    for over in (after(done, plan=plan(op)), after(done, plan=plan(), complete=False), after(failed(3), plan=plan())):
        assert tell(over, told) == []
        assert ended(facts(over), told, over) == list(told)


def test_whom_nothing_is_tried_for_any_more_is_not_said_to_keep_failing() -> None:
    """It was said to be tried again with growing pauses, and to be tried at once by a command past a hold."""
    held = snapshot([account(ADA)], failures={ADA.id: Failure(3, NOW - HOUR, "Keeper refuses it")})
    assert [fact.kind for fact in facts(after(held, plan=plan(lock(1))))] == [AlertKind.STUCK]
    waits = plan(lock(1, sent=False), held=HELD)
    assert [fact.kind for fact in facts(after(held, plan=waits))] == [AlertKind.HELD]
    for policy in (Policy(mode=Mode.OBSERVE), Policy(only=Pilot(users=frozenset({BOB.email})))):
        made = decide(directory([BOB]), replace(held, teams={}), policy).plan
        assert [op.sent for op in made.operations if op.subject.key == ADA.id] == [False]
        assert AlertKind.STUCK not in {fact.kind for fact in facts(after(held, plan=made, policy=policy))}


def test_a_protected_leaver_is_told_once_and_not_as_a_leaver() -> None:
    held = snapshot([account(ADA, left_at=NOW - 9 * HOUR, protected_as=ADA.email)])
    alert = only(tell(after(held)))
    assert alert.kind is AlertKind.PROTECTED
    assert tell(after(held, at=NOW + 9 * HOUR), taken([alert], NOW)) == []


def test_changed_and_recycled_addresses() -> None:
    subject = Subject("user", ADA.email, ADA.id, "k1")
    change = Notice(NoticeKind.ADDRESS_CHANGE, subject, "the address in JumpCloud is now a@example.com")
    clash = Notice(NoticeKind.CONFLICT, subject, "the address belongs to a Keeper user who is tied to another id")
    of_team = Notice(NoticeKind.CONFLICT, Subject("team", "Sales", "g1"), "a Keeper team that is not ours")
    alerts = tell(after(plan=plan(notices=(change, clash, of_team))))
    assert [alert.kind for alert in alerts] == [AlertKind.ADDRESS_CONFLICT, AlertKind.ADDRESS_CHANGE]
    assert text(alerts[0], "").startswith("1 conflict of addresses waits for a person:")
    assert [fact.name for alert in alerts for fact in alert.facts] == [ADA.email] * 2
    again = replace(change, message="the address in JumpCloud is now b@example.com")
    told = taken(alerts, NOW)
    assert only(tell(after(plan=plan(notices=(again, clash))), told)).kind is AlertKind.ADDRESS_CHANGE
    without = after(plan=plan(), complete=False)  # a list of groups may be refused for good
    assert ended(facts(without), told, without) == list(told)
    sent = Operation(
        Kind.UPDATE_USER,
        subject,
        Cause.JUMPCLOUD,
        Rule.CHANGED,
        "changed",
        (Change("userName", ADA.email, "a@example.com"),),
    )
    assert only(tell(after(done=[row(1, sent)]))).kind is AlertKind.ADDRESS_CHANGE


def test_a_stopped_kind_is_told_once_until_it_passes_or_is_not_needed() -> None:
    op = lock(1)
    notice = Notice(NoticeKind.KEEPER_DISAGREES, op.subject, "Keeper shows the user as active")
    stopped = after(plan=plan(op, notices=(notice,)), stopped_kinds={Kind.DEACTIVATE_USER: notice.message})
    alert = only(tell(stopped))
    assert (alert.kind, alert.facts[0].key) == (AlertKind.KIND_STOPPED, "deactivate_user")
    assert tell(replace(stopped, stopped_kinds={})) == []  # it merely does not show yet
    told = taken([alert], NOW)
    resting = after(plan=plan(replace(op, sent=False)))
    assert ended(facts(resting), told, resting) == []
    assert tell(stopped, told) == []
    passed = replace(resting, passed=[Kind.DEACTIVATE_USER])
    assert ended(facts(passed), told, passed) == list(told)
    assert ended(facts(after()), told, after()) == list(told)


def test_what_waits_too_long_is_told_exactly_where_the_inventory_knows() -> None:
    sales = group(7, "Sales")
    queued = team(sales, seen=False, queued_at=NOW - 5 * HOUR)
    member = Membership(ours=True, seen=False, shown=False, asked_at=NOW - 5 * HOUR)
    held = snapshot([account(ADA, memberships={queued.keeper_id: member})], [queued])
    alert = only(tell(after(held)))
    assert [fact.name for fact in alert.facts] == ["Sales", ADA.email]
    assert "approval not visible" in alert.facts[0].text
    assert tell(after(held, queue_age=timedelta(hours=6))) == []

    def told_by(inventory: Inventory) -> list[str]:
        return [f.text for a in tell(after(replace(held, inventory=inventory))) for f in a.facts]

    entry = InventoryTeam(queued.keeper_id, "Sales", "", True, frozenset({ADA.email}), frozenset())
    both = told_by(Inventory(NOW, {entry.id: entry}))
    assert len(both) == 2
    assert not any("not visible" in words for words in both)
    approved = replace(entry, queued=False, pending=frozenset(), members=frozenset({ADA.email}))
    assert told_by(Inventory(NOW, {entry.id: approved})) == []
    invited = Inventory(NOW, {entry.id: replace(entry, queued=False)}, frozenset({ADA.email}))
    assert told_by(invited) == []  # no approval helps before they join
    too_old = Inventory(NOW - 6 * HOUR, {entry.id: approved})
    assert len(told_by(too_old)) == 2


def test_what_is_only_listed_is_told_by_team_and_day_and_again_after_a_week() -> None:
    asked = NOW - 5 * HOUR
    sales = team(group(7, "Sales"), queued_at=asked)
    member = Membership(ours=True, seen=True, shown=True, asked_at=asked)
    people = [account(user(n), memberships={sales.keeper_id: member}) for n in range(1, 9)]
    held = snapshot(people, [sales])
    alert = only(tell(after(held)))
    assert [fact.text for fact in alert.facts] == [
        "the team was asked for on 2026-11-24 07:00 UTC, approval not visible",
        "8 memberships asked for on 2026-11-24, approval not visible: u1@example.com, u2@example.com, u3@example.com, "
        "u4@example.com, u5@example.com and 3 more",
    ]
    told = taken([alert], NOW)
    joined = replace(member, asked_at=NOW + 2 * 24 * HOUR)
    more = snapshot([*people, account(user(9), memberships={sales.keeper_id: joined})], [sales])
    new = only(tell(after(more, at=NOW + 3 * 24 * HOUR), told))
    assert [fact.name for fact in new.facts] == ["u9@example.com"], "what was told before waits for its week"
    told |= taken([new], NOW + 3 * 24 * HOUR)
    assert tell(after(more, at=NOW + 6 * 24 * HOUR), told) == []
    assert len(only(tell(after(more, at=NOW + 7 * 24 * HOUR), told)).facts) == 3


# -- by the promise -------------------------------------------------------------------------------------------------


def unlock(number: int, *, sent: bool = True) -> Operation:
    return replace(lock(number, sent=sent), kind=Kind.REACTIVATE_USER, rule=Rule.RETURNED, reason="back in scope")


def test_people_in_scope_who_are_locked_are_told_once_by_who_locked_them() -> None:
    locked = account(ADA, active=False, locked_by_us=True)
    others = account(BOB, active=False)
    left_alone = Notice(NoticeKind.LOCKED_IN_KEEPER, lock(2).subject, "locked in Keeper by somebody else")
    staged = Notice(NoticeKind.STATE_UNKNOWN, lock(3).subject, "still staged in JumpCloud")
    held = snapshot([locked, others, account(user(3), active=False, locked_by_us=True)])
    now = after(held, plan=plan(unlock(1, sent=False), held=HELD, notices=(left_alone, staged)))
    found = {alert.kind: alert for alert in tell(now)}
    assert [fact.name for fact in found[AlertKind.LOCKED].facts] == [ADA.email]
    assert "the unlock is held (max_deactivations)" in found[AlertKind.LOCKED].facts[0].text
    assert [fact.name for fact in found[AlertKind.LOCKED_BY_OTHERS].facts] == [BOB.email]
    told = taken([*found.values()], NOW)
    assert AlertKind.LOCKED not in {alert.kind for alert in tell(replace(now, at=NOW + 5 * HOUR), told)}
    for blind in (replace(now, plan=None), replace(now, whole=False)):
        assert not [key for key in ended(facts(blind), told, blind) if key[0].startswith("locked")]
    well = after(snapshot([account(ADA), others]), plan=plan(notices=(left_alone,)))
    for complete in (True, False):  # a list of groups may be refused for good
        well = replace(well, complete=complete)
        assert [key[0] for key in ended(facts(well), told, well) if key[0].startswith("locked")] == ["locked_in_scope"]
    blind = replace(well, people=False)
    assert not [key for key in ended(facts(blind), told, blind) if key[0].startswith("locked")]


def test_what_was_told_of_somebody_is_not_over_while_their_state_is_not_known() -> None:
    """It was told once more after each odd reading."""
    subject = lock(1).subject
    locked = snapshot([account(ADA, active=False, locked_by_us=True)])
    twice = Notice(NoticeKind.CONFLICT, subject, "more than one JumpCloud user in scope has the address")
    told = taken(tell(after(locked, plan=plan(unlock(1, sent=False), notices=(twice,)))), NOW)
    assert {kind for kind, _ in told} == {"locked_in_scope", "address_conflict"}
    odd = after(locked, plan=plan(notices=(Notice(NoticeKind.STATE_UNKNOWN, subject, "not as documented"),)))
    assert tell(odd, told) == [] == ended(facts(odd), told, odd)
    well = after(snapshot([account(ADA)]))
    assert set(ended(facts(well), told, well)) == told.keys()


def test_nobody_is_said_to_be_in_scope_whom_no_list_of_jumpcloud_showed() -> None:
    """They were in scope when last read, and may be suspended by now, with a lock that somebody else set for that."""
    cy, group_90 = user(3, 90), group(90)
    people = [account(ADA, active=False, locked_by_us=True), account(BOB, active=False)]
    held = snapshot([*people, account(cy, active=False, locked_by_us=True)], [team(group_90)])
    unread = (Quarantined("list", "users", "list", "the list can't be read"),)
    unknown = [User(one.id, "", Status.UNKNOWN, groups=cy.groups) for one in (ADA, BOB)]
    made = decide(replace(directory([*unknown, cy], [group_90]), quarantined=unread), held)
    assert made.plan.scope.unread
    now = after(made.snapshot, plan=made.plan, people=False, complete=False)
    assert [fact.name for fact in facts(now) if fact.kind.value.startswith("locked")] == [cy.email]


def test_a_lock_of_somebody_else_on_an_account_that_is_gone_is_told_like_any() -> None:
    lost, subject = account(BOB, active=False, gone=True, others_lock=True), lock(2).subject
    conflict = Notice(NoticeKind.CONFLICT, subject, "two people have the address")
    for notices in ((), (conflict,)):
        assert AlertKind.LOCKED_BY_OTHERS not in {
            a.kind for a in tell(after(snapshot([lost]), plan=plan(notices=notices)))
        }
    told = Notice(NoticeKind.LOCKED_IN_KEEPER, subject, "locked by somebody else, then vanished")
    for ours in (True, False):
        [alert] = tell(after(snapshot([replace(lost, locked_by_us=ours)]), plan=plan(notices=(told,))))
        assert alert.kind is AlertKind.LOCKED_BY_OTHERS and alert.facts[0].text == told.message


def test_an_unlock_that_fails_is_no_lock_of_somebody_elses() -> None:
    held = snapshot([account(ADA, active=False)])
    failed = Result(unlock(1), State.FAILED, "refused", "Keeper refused it")
    alert = only(tell(after(held, plan=plan(unlock(1)), results=[failed], policy=Policy(reactivate=Reactivate.ANY))))
    assert (alert.kind, alert.facts[0].text) == (AlertKind.LOCKED, "Keeper refused it")


OUTSIDE = Policy(only=Pilot(users=frozenset({"x@example.com"})))


@pytest.mark.parametrize(("policy", "ours"), [(Policy(mode=Mode.OBSERVE), True), (OUTSIDE, False)])
def test_nobody_outside_our_part_is_told_of(policy: Policy, ours: bool) -> None:
    held = snapshot([account(ADA, active=False, locked_by_us=ours)])
    assert tell(after(held, policy=policy)) == []


@pytest.mark.parametrize("gone", [False, True])
def test_whom_our_own_lock_keeps_out_since_the_pilot_gives_them_nothing_is_told_of(gone: bool) -> None:
    locked = account(ADA, active=False, locked_by_us=True, gone=gone)
    made = decide(directory([user(1, direct=True)]), snapshot([locked]), OUTSIDE)
    assert [op.sent for op in made.plan.operations] == [False]
    alert = only(tell(after(made.snapshot, plan=made.plan, policy=OUTSIDE)))
    assert alert.kind is AlertKind.LOCKED and alert.facts[0].name == ADA.email
    assert "our own lock keeps them out of Keeper" in alert.facts[0].text
    assert "add their address to policy.only, or end the pilot" in alert.facts[0].text
    left = snapshot([replace(made.snapshot.accounts["k0001"], left_at=NOW - HOUR)])
    assert tell(after(left, policy=OUTSIDE)) == []


def test_who_is_unlocked_although_the_pilot_names_somebody_else_is_told_of_as_long_as_that_fails() -> None:
    held = snapshot([account(ADA, active=False, locked_by_us=True, pilot=frozenset({"group:IT"}))])
    failed = Result(unlock(1), State.FAILED, "refused", "Keeper refused it")
    misspelt = Policy(only=Pilot(groups=frozenset({"I T"})))
    alert = only(tell(after(held, plan=plan(unlock(1)), results=[failed], policy=misspelt)))
    assert (alert.kind, alert.facts[0].text) == (AlertKind.LOCKED, "Keeper refused it")


def test_a_leaver_outside_the_pilot_is_none_of_ours() -> None:
    outside = Policy(only=Pilot(groups=frozenset({"IT"})))
    held = snapshot(
        [account(ADA, left_at=NOW - 9 * HOUR), account(BOB, left_at=NOW - 9 * HOUR, pilot=frozenset({"group:IT"}))]
    )
    assert [fact.name for fact in only(tell(after(held, policy=outside))).facts] == [BOB.email]


def test_a_leaver_who_is_not_in_this_node_is_told_of_until_an_inventory_or_a_person_answers() -> None:
    moved = account(ADA, active=False, gone=True, left_at=NOW - HOUR / 2)
    held = snapshot([moved, account(BOB)])
    fact = only(tell(after(held))).facts[0]
    assert (fact.kind, fact.name) == (AlertKind.LEAVER_ACTIVE, ADA.email)
    assert "not verifiable: not in this node" in fact.text
    assert f"reconciler disown {ADA.email}" in fact.text

    def told_by(read_at: datetime = NOW, **users: str) -> list[str]:
        ids = {account(user(int(who[1:]))).keeper_id: status for who, status in users.items()}
        inventory = Inventory(read_at, users={f"{who}@example.com": s for who, s in users.items()}, ids=ids)
        return [fact.text for alert in tell(after(replace(held, inventory=inventory))) for fact in alert.facts]

    [text] = told_by(u1="Active", u2="Active")
    assert "Keeper's inventory shows them as active outside this node" in text
    assert told_by(u1="Locked", u2="Active") == []
    assert told_by(u1="Disabled") == []
    assert told_by(u2="Active") == [], "nowhere in the enterprise"
    assert len(told_by(u9="Active")) == 1, "it lacks people of ours: it proves nothing"
    assert len(told_by(NOW - HOUR, u2="Active")) == 1, "it is older than the departure"
    assert tell(after(snapshot([replace(moved, locked_by_us=True), account(BOB)]))) == [], "locked before it went"


def test_unlocks_and_lost_teams_are_told_once_each() -> None:
    lost = TeamRef("Sales", "g7", "t7")
    removal = replace(lock(2), kind=Kind.UPDATE_USER, reason="changed in JumpCloud", remove=(lost,))
    gained = replace(lock(3), kind=Kind.UPDATE_USER, add=(lost,))
    both = replace(unlock(4), remove=(lost,))
    rows = [row(1, unlock(1)), row(2, removal), row(3, gained), row(4, both)]
    found = {alert.kind: [fact.name for fact in alert.facts] for alert in tell(after(done=rows))}
    assert found == {
        AlertKind.UNLOCKED: ["u1@example.com", "u4@example.com"],
        AlertKind.LOST_TEAM: ["u2@example.com", "u4@example.com"],
    }
    assert tell(after(done=rows), taken(tell(after(done=rows)), NOW)) == []
    assert {row.operation.kind for row in rows} <= TOLD_WHEN_DONE


def test_a_new_account_that_undoes_a_lock_is_told_as_an_unlock() -> None:
    """The lock had withdrawn the invitation; whoever joins is told to nobody."""
    subject = Subject("user", ADA.email, ADA.id)
    back = Operation(Kind.CREATE_USER, subject, Cause.JUMPCLOUD, Rule.RETURNED, "back in scope by a direct binding")
    rows = [row(1, back), row(2, replace(back, rule=Rule.JOINED)), row(3, replace(back, rule=Rule.UNLOCK_ASKED))]
    alert = only(tell(after(done=rows)))
    assert alert.kind is AlertKind.UNLOCKED
    assert [fact.text for fact in alert.facts] == ["invited anew: back in scope by a direct binding"] * 2
    assert back.kind in TOLD_WHEN_DONE
    locked = snapshot([account(ADA, active=False)])
    assert tell(after(locked, done=rows, plan=None)) == [], "Keeper has linked an account that somebody had locked"
    later = row(4, replace(lock(1), subject=replace(subject, keeper_id="k0001")))
    held = snapshot([account(ADA, active=False, locked_by_us=True, left_at=NOW)])
    then = after(held, done=[*rows, later], plan=None)
    assert ended(facts(then), taken([alert], NOW), then) == [], "a later lock of ours: else it would be told once more"
    opened = row(4, replace(unlock(1), subject=replace(subject, keeper_id="k0001")))
    alert = only(tell(after(done=[*rows, opened])))
    assert [fact.key for fact in alert.facts] == ["done:4"], "the account was locked until our unlock"


@pytest.mark.parametrize(
    ("made", "whole", "goes_on"), [(plan(), True, True), (plan(), False, False), (None, True, False)]
)
def test_a_look_at_a_few_people_does_not_show_that_cycles_go_on(made: Plan | None, whole: bool, goes_on: bool) -> None:
    """As of the leaver lane, where the receiver took nothing after the cycle that failed."""
    failing = after(plan=made, whole=whole, failing=Failing(2, NOW, "JumpCloud's list of groups can't be read"))
    assert ("Cycles go on" in only(tell(failing)).facts[0].text) is goes_on


@pytest.mark.parametrize("resync", [True, False])
def test_resyncs_that_fail_are_not_said_to_fail_in_a_row(resync: bool) -> None:
    """One each night, say, and hundreds of cycles between that need not ask Keeper for anything."""
    failing = after(failing=Failing(2, NOW, "Keeper could not be listed", resync=resync))
    assert ("in a row" in only(tell(failing)).facts[0].text) is not resync


def test_the_alert_that_cycles_fail_names_who_is_still_active() -> None:
    people = [account(user(n), left_at=NOW - HOUR / 2) for n in range(1, 8)]
    people += [account(user(8), left_at=NOW - HOUR / 2, protected_as="u8@example.com")]
    failing = Failing(2, NOW, "JumpCloud is down")
    alert, protected = tell(after(snapshot(people), plan=None, failing=failing, policy=Policy(grace=timedelta(0))))
    assert (alert.kind, protected.kind) == (AlertKind.FAILING, AlertKind.PROTECTED)
    assert "They left, and are not known to be locked: u1@example.com, u2@example.com" in alert.facts[0].text
    assert alert.facts[0].text.endswith("and 2 more")
    in_grace = after(snapshot(people), plan=None, failing=failing, merely_left=[one.keeper_id for one in people])
    assert "Still active" not in tell(replace(in_grace, policy=LONG))[0].facts[0].text


def test_a_queueing_without_an_answer_waits_too() -> None:
    held = snapshot([], unsettled_teams={"g1": NOW - 5 * HOUR})
    assert only(tell(after(held))).kind is AlertKind.WAITING


def test_hooks_that_fail_are_told_once_each_as_long_as_they_do() -> None:
    both = {"keeper.inventory_command": "ended with exit code 3", "teams.approve_command": "did not end"}
    now = after(hooks=both)
    alert = only(tell(now))
    assert {fact.key for fact in alert.facts} == set(both)
    told = taken([alert], NOW)
    for later in (now, replace(now, plan=None), replace(now, whole=False)):
        assert tell(later, told) == []
        assert ended(facts(later), told, later) == []
    assert sorted(ended([], told, after())) == sorted(told)


def test_recoveries_wait_for_their_message_and_the_rest_is_forgotten_silently() -> None:
    assert silent([("held", "x"), ("failing", "y"), ("protected", "z")], []) == [("protected", "z")]


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("<!channel> now", "\u2039!channel\u203a now"),
        ("<https://evil.example|click>", "\u2039https:// evil.example|click\u203a"),
        ("[click](https://evil.example)", "[click] (https:// evil.example)"),
        ("`code`", "'code'"),
        ("hello @here", "hello @ here"),
        ("ada@all.example", "ada@all.example"),
        ("two\nlines \x1b[31m", "two lines \\x1b[31m"),
    ],
)
def test_names_are_no_markup_in_a_chat(hostile: str, shown: str) -> None:
    assert harmless(hostile) == shown


def test_the_document_has_a_text_for_chats_and_fields_for_machines() -> None:
    many = tuple(Fact(AlertKind.DEACTIVATED, f"done:{n}", f"u{n}@example.com", "left", NOW) for n in range(300))
    found = document(Alert(AlertKind.DEACTIVATED, many), "ACME", NOW)
    assert (found["kind"], found["tenant"], found["count"], len(found["facts"])) == ("deactivated", "ACME", 300, 100)
    assert found["text"].count("\n") == 12
    assert "290 more, see `reconciler leavers`" in found["text"]
    assert found["facts"][0] == {"about": "u0@example.com", "text": "left", "since": "2026-11-24T12:00:00Z"}


def test_every_kind_has_words() -> None:
    for kind in AlertKind:
        assert text(Alert(kind, (Fact(kind, "k", "n", "t", NOW),) * 2), "")


def test_somebody_who_is_kept_out_by_a_lock_on_an_account_that_vanished_is_told_of() -> None:
    gone = account(BOB, standing=Standing.UNMANAGED, jumpcloud_id="", active=False, gone=True, missed_at=NOW)
    made = decide(directory([replace(BOB, direct=True)]), snapshot([gone]))
    alert = only(tell(after(made.snapshot, plan=made.plan)))
    assert (alert.kind, alert.facts[0].name) == (AlertKind.LOCKED_BY_OTHERS, BOB.email)
