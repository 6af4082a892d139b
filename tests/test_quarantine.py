"""An unreadable part of one subject changes nothing for any other, and takes nothing from the subject itself."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.alerts import AlertKind, Situation, facts
from reconciler.diff_quarantine import HIDDEN_FOR
from reconciler.model import Account, Directory, Group, Membership, Quarantined, Snapshot, Status, User
from reconciler.plan import Cause, Kind, NoticeKind, Operation, Rule
from reconciler.policy import Limits, Pilot, Policy, TeamOutOfScope, TeamPolicy
from reconciler.safety import Consent, judge
from tests.world import MEMBER, NOW, account, decide, directory, group, jc, snapshot, team, user

GROUPS = [group(90), group(91), group(92)]
TAKING = {Kind.DEACTIVATE_USER, Kind.DELETE_TEAM, Kind.RENAME_TEAM}


@st.composite
def organisations(draw: st.DrawFn) -> tuple[Directory, Snapshot]:
    """People and groups that change all the time, and a Keeper that is behind."""
    people: list[User] = []
    accounts: list[Account] = []
    for number in range(1, 6):
        status = draw(st.sampled_from([Status.ACTIVE, Status.ACTIVE, Status.SUSPENDED, Status.STAGED]))
        one = user(number, *draw(st.sets(st.integers(90, 92))), status=status, direct=draw(st.booleans()))
        people.append(one)
        if draw(st.booleans()):
            held = {f"t{jc(g)[-4:]}": MEMBER for g in draw(st.sets(st.integers(90, 92)))}
            active = draw(st.booleans())
            name = draw(st.sampled_from(["", "Former name"]))
            known = account(one, memberships=held, active=active, locked_by_us=not active)
            accounts.append(replace(known, shown={**known.shown, "displayName": name}) if name else known)
    bound = draw(st.lists(st.sampled_from(GROUPS), unique=True, min_size=1))
    named = [replace(one, name=draw(st.sampled_from([one.name, f"{one.name} renamed"]))) for one in bound]
    return directory(people, named), snapshot(accounts, [team(one) for one in GROUPS if draw(st.booleans())])


def without(op: Operation, group_id: str) -> Operation | None:
    """The operation without what it does to the group's team; None where that is all."""
    add = tuple(one for one in op.add if one.jumpcloud_id != group_id)
    remove = tuple(one for one in op.remove if one.jumpcloud_id != group_id)
    empty = op.kind is Kind.UPDATE_USER and not (op.changes or add or remove)
    return None if empty else replace(op, add=add, remove=remove, reason="", rule=Rule.CHANGED, cause=Cause.JUMPCLOUD)


BREAKS = {
    "state": lambda one: replace(one, status=Status.UNKNOWN),
    "paths": lambda one: replace(one, teams_unknown=True),
    "scope": lambda one: replace(one, unsure=True),
    "email": lambda one: replace(one, email=""),
    "displayname": lambda one: replace(one, display_name="", given_name="", family_name=""),
}


@given(world=organisations(), number=st.integers(1, 5), way=st.sampled_from(sorted(BREAKS)))
def test_with_one_user_broken_everybody_elses_plan_is_the_same(
    world: tuple[Directory, Snapshot], number: int, way: str
) -> None:
    wanted, held = world
    broken = BREAKS[way](wanted.users[jc(number)])
    record = Quarantined("user", broken.id, way, "is not as documented")
    odd = replace(wanted, users={**wanted.users, broken.id: broken}, quarantined=(record,))
    before, after = decide(wanted, held).plan.operations, decide(odd, held).plan.operations
    assert [op for op in after if op.subject.key != broken.id] == [op for op in before if op.subject.key != broken.id]
    mine = [op for op in after if op.subject.key == broken.id]
    if broken.status is not Status.SUSPENDED and broken.bound:
        assert not [op for op in mine if op.kind in TAKING]
        assert way == "displayname" or way == "email" or not any(op.remove for op in mine)


@given(
    world=organisations(),
    number=st.integers(90, 92),
    out_of_scope=st.sampled_from(list(TeamOutOfScope)),
)
def test_with_one_group_broken_all_other_teams_and_people_are_as_planned(
    world: tuple[Directory, Snapshot], number: int, out_of_scope: TeamOutOfScope
) -> None:
    wanted, held = world
    broken, policy = jc(number), Policy(teams=TeamPolicy(out_of_scope=out_of_scope))
    others = {group_id: one for group_id, one in wanted.groups.items() if group_id != broken}
    odd = replace(wanted, groups=others, unclear_groups=frozenset({broken}))
    before, after = (decide(one, held, policy).plan.operations for one in (wanted, odd))
    expected = [without(op, broken) for op in before if op.subject.key != broken]
    assert [without(op, broken) for op in after] == [op for op in expected if op is not None]
    assert not any(ref.jumpcloud_id == broken for op in after for ref in (*op.add, *op.remove))


def test_a_namesake_takes_no_team_over_whose_group_is_unclear() -> None:
    old, new = group(90, "Sales"), group(91, "Sales")
    ada = user(1, 90)
    held = snapshot([account(ada, memberships={"t005a": MEMBER})], [team(old)])
    odd = replace(directory([ada], [new]), unclear_groups=frozenset({old.id}))
    decision = decide(odd, held)
    assert not decision.plan.operations
    assert [notice.kind for notice in decision.plan.notices] == [NoticeKind.CONFLICT]
    assert decision.snapshot.teams == held.teams


def test_the_pilot_stays_the_pilot_while_its_group_is_unclear() -> None:
    ada, pilot = user(1, 90), Policy(only=Pilot(groups=frozenset({"Group 90"})))
    held = snapshot([account(ada, pilot=frozenset({"group:Group 90"}))], [team(group(90))])
    odd = replace(directory([ada], []), unclear_groups=frozenset({jc(90)}))
    learnt = decide(odd, held, pilot).snapshot
    gone = replace(ada, groups=frozenset(), status=Status.SUSPENDED)
    [lock] = decide(directory([gone], [group(90)]), learnt, pilot).plan.operations
    assert lock.kind is Kind.DEACTIVATE_USER and lock.sent


def test_somebody_new_whose_paths_cannot_be_read_is_created_without_a_team() -> None:
    ada = user(1, 90, teams_unknown=True)
    [op] = decide(directory([ada], [group(90)]), snapshot([], [team(group(90))])).plan.operations
    assert op.kind is Kind.CREATE_USER and not op.add


@pytest.mark.parametrize("shown", [True, False])
def test_grace_goes_on_while_it_is_not_sure_whether_somebody_is_bound(shown: bool) -> None:
    ada = user(1, 90, unsure=True)
    left = NOW - timedelta(minutes=5) if shown else None
    held = snapshot([account(ada, left_at=left)], [team(group(90))])
    assert decide(directory([ada], [group(90)]), held).snapshot.accounts["k0001"].left_at == left


@pytest.mark.parametrize("status", [Status.UNKNOWN, Status.STAGED])
@pytest.mark.parametrize("left", [NOW - timedelta(days=1), None])
def test_a_state_that_does_not_tell_is_no_return_and_no_departure(status: Status, left: datetime | None) -> None:
    """A suspended person is bound still: "has come back" was said of whoever had one unreadable state."""
    ada = user(1, 90, status=status)
    held = snapshot([account(ada, active=left is None, locked_by_us=left is not None, left_at=left)], [team(group(90))])
    known = decide(directory([ada], [group(90)]), held).snapshot.accounts["k0001"]
    assert (known.left_at, known.locked_by_us) == (left, left is not None)


def test_whoever_is_suspended_has_left_though_it_is_not_sure_whether_they_are_bound() -> None:
    ada = user(1, 90, status=Status.SUSPENDED, unsure=True)
    decision = decide(directory([ada], [group(90)]), snapshot([account(ada)], [team(group(90))]))
    assert [op.rule for op in decision.plan.operations] == [Rule.SUSPENDED]
    assert decision.snapshot.accounts["k0001"].left_at == NOW


def hidden(person: User, others: list[User] | None = None, groups: list[Group] | None = None) -> Directory:
    unknown = replace(person, email="", status=Status.UNKNOWN, display_name="", given_name="", family_name="")
    record = Quarantined("user", person.id, "record", "shows no record")
    return replace(directory([unknown, *(others or [])], groups or [group(90)]), quarantined=(record,))


def test_a_hidden_record_is_told_at_once_alerted_after_an_hour_and_waits_for_a_person_after_a_day() -> None:
    ada, eve = user(1, 90), user(2, 90)
    held = snapshot([account(ada, memberships={"t005a": MEMBER}), account(eve)], [team(group(90))])
    at, seen = NOW, []
    for hours in (0, 1, 23, 24):
        now = NOW + timedelta(hours=hours)
        decision = decide(hidden(ada, [eve]), held, now=now)
        held = decision.snapshot
        about = [n.kind for n in decision.plan.notices if n.subject.key == ada.id]
        assert about == [NoticeKind.STATE_UNKNOWN, NoticeKind.QUARANTINED]
        alerted = [f for f in facts(Situation(now, held, Policy(), timedelta(hours=4))) if f.name == ada.email]
        assert [fact.kind for fact in alerted] == ([AlertKind.QUARANTINED] if hours else [])
        seen.append([op.rule for op in decision.plan.operations if op.subject.key == ada.id])
    assert seen == [[], [], [], [Rule.HIDDEN]]
    judged = judge(decision.plan, held, [], Limits(), TeamPolicy(), Consent())
    assert [(one.limit, len(one.operations)) for one in judged.plan.held] == [("hidden", 1)]
    assert {one.since for one in held.unclear.values()} == {at}
    assert not decide(directory([ada, eve], [group(90)]), held).snapshot.unclear
    assert timedelta(days=1) == HIDDEN_FOR


@pytest.mark.parametrize("way", ["by turns", "no list"])
def test_a_hidden_record_is_hidden_still_while_nobody_asks_for_it(way: str) -> None:
    ada, eve = user(1, 90), user(2, 90)
    held = snapshot([account(ada), account(eve)], [team(group(90))])
    missing = hidden(ada, [eve])
    odd = Quarantined("user", ada.id, "own record", "was not read")
    if way == "no list":
        odd = Quarantined("list", "users", "list", "the list can't be read")
    unread = replace(missing, quarantined=(odd,))
    for minutes in range(0, 24 * 60, 30):
        read = unread if minutes % 60 else missing
        held = decide(read, held, now=NOW + timedelta(minutes=minutes)).snapshot
        assert [one.since for key, one in held.unclear.items() if key == f"{ada.id} record"] == [NOW]
        assert f"{ada.id} own record" not in held.unclear
    decision = decide(missing, held, now=NOW + timedelta(days=1))
    assert [op.rule for op in decision.plan.operations if op.subject.key == ada.id] == [Rule.HIDDEN]
    assert not decide(directory([ada, eve], [group(90)]), decision.snapshot).snapshot.unclear


@pytest.mark.parametrize("way", ["by turns", "no list"])
def test_what_is_wrong_with_a_record_is_wrong_still_while_it_is_not_read(way: str) -> None:
    """An odd state was said to be so since the newest break, and told anew an hour after each."""
    ada, eve = user(1, 90), user(2, 90)
    held = snapshot([account(ada), account(eve)], [team(group(90))])
    state, paths = (Quarantined("user", ada.id, field, "it is odd") for field in ("state", "paths"))
    odd = directory([replace(ada, status=Status.UNKNOWN, teams_unknown=True), eve], [group(90)])
    known = decide(replace(odd, quarantined=(state, paths)), held).snapshot
    assert {one.since for one in known.unclear.values()} == {NOW}
    why = Quarantined("user", ada.id, "own record", "was not read")
    if way == "no list":
        why = Quarantined("list", "users", "list", "the list can't be read")
    unread = replace(hidden(ada, [eve]), quarantined=(why,))
    later = decide(unread, known, now=NOW + timedelta(minutes=50)).snapshot
    assert {key: one.since for key, one in later.unclear.items() if key != why.key} == {state.key: NOW}
    again = decide(replace(odd, quarantined=(state,)), later, now=NOW + timedelta(hours=1)).snapshot
    assert {key: one.since for key, one in again.unclear.items()} == {state.key: NOW}
    assert not decide(directory([ada, eve], [group(90)]), again).snapshot.unclear


def test_a_record_that_a_search_shows_is_not_hidden_though_its_state_is_odd_and_there_is_no_list() -> None:
    ada, eve = user(1, 90), user(2, 90)
    held = snapshot([account(ada), account(eve)], [team(group(90))])
    known = decide(hidden(ada, [eve]), held).snapshot
    assert list(known.unclear) == [f"{ada.id} record"]
    odd = (Quarantined("list", "users", "list", "it can't be read"), Quarantined("user", ada.id, "state", "it is odd"))
    shown = replace(directory([replace(ada, status=Status.UNKNOWN), eve], [group(90)]), quarantined=odd)
    assert list(decide(shown, known).snapshot.unclear) == [f"{ada.id} state", "users list"]


def test_nobody_is_said_to_have_no_address_whose_record_was_not_read() -> None:
    ada = user(1, 90)
    gone = account(ada, gone=True, active=False)
    notices = decide(hidden(ada), snapshot([gone], [team(group(90))])).plan.notices
    assert NoticeKind.NO_ADDRESS not in {one.kind for one in notices}
    assert NoticeKind.STATE_UNKNOWN in {one.kind for one in notices}


def test_nobody_is_said_to_have_no_address_whose_account_another_one_may_be() -> None:
    taken_over = replace(account(user(2)), jumpcloud_id="", left_at=NOW, review_lock=True)
    decision = decide(hidden(user(1, 90)), snapshot([taken_over], [team(group(90))]))
    [said] = [one.message for one in decision.plan.notices if one.kind is NoticeKind.CONFLICT]
    assert not decision.plan.operations
    assert "no usable address is known" in said and "in scope without" not in said


def test_somebody_hidden_who_is_locked_already_is_left_so() -> None:
    ada = user(1, 90)
    first = decide(hidden(ada), snapshot([account(ada, active=False, locked_by_us=True)], [team(group(90))]))
    later = decide(hidden(ada), first.snapshot, now=NOW + timedelta(days=2))
    assert not [op for op in (*first.plan.operations, *later.plan.operations) if op.subject.key == ada.id]


def test_what_is_odd_about_somebody_nobody_manages_and_who_is_not_in_scope_is_not_told() -> None:
    stranger = user(1, status=Status.UNKNOWN)
    odd = replace(directory([stranger]), quarantined=(Quarantined("user", stranger.id, "state", "is odd"),))
    decision = decide(odd, snapshot([]))
    assert not decision.plan.notices and not decision.snapshot.unclear


def test_without_the_list_of_users_one_notice_is_enough() -> None:
    people = [user(number, 90) for number in range(1, 6)]
    odd = directory([replace(one, status=Status.UNKNOWN) for one in people], [group(90)])
    odd = replace(odd, quarantined=(Quarantined("list", "users", "list", "the list can't be read"),))
    held = snapshot([account(one, memberships={"t005a": MEMBER}) for one in people], [team(group(90))])
    plan = decide(odd, held).plan
    assert not plan.operations
    assert [(notice.kind, notice.subject.type) for notice in plan.notices] == [(NoticeKind.QUARANTINED, "list")]


def test_who_left_has_not_come_back_while_their_state_can_t_be_read() -> None:
    ada, left = user(1, 90, status=Status.UNKNOWN), NOW - timedelta(hours=1)
    gone = account(ada, left_at=left, review_lock=True)
    after = decide(directory([ada], [group(90)]), snapshot([gone], [team(group(90))])).snapshot
    assert (after.accounts["k0001"].left_at, after.accounts["k0001"].review_lock) == (left, True)
    back = decide(directory([replace(ada, status=Status.ACTIVE)], [group(90)]), after).snapshot
    assert (back.accounts["k0001"].left_at, back.accounts["k0001"].review_lock) == (None, False)


def test_memberships_in_an_unclear_team_are_neither_drift_nor_given_by_hand() -> None:
    ada = user(1, 90)
    lost = Membership(ours=True, seen=True, shown=False)
    given_by_hand = Membership(ours=False, seen=True, shown=True)
    for one in (lost, given_by_hand):
        held = snapshot([account(ada, memberships={"t005a": one})], [team(group(90))])
        odd = replace(directory([ada], []), unclear_groups=frozenset({jc(90)}))
        plan = decide(odd, held, Policy()).plan
        assert not plan.operations and not plan.notices
