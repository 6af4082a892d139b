"""Rules of the diff and of the limits that are easily broken together: takeovers, twins, focus, pilot, releases."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import cast

import pytest

from reconciler.confirm import Confirmation, preview
from reconciler.diff import Decision
from reconciler.jumpcloud import JumpCloud, Paths
from reconciler.model import (
    Account,
    Directory,
    Group,
    KeeperUser,
    Membership,
    Snapshot,
    Standing,
    Status,
    Takeover,
    Team,
    by_group,
)
from reconciler.plan import Change, Kind, NoticeKind, Rule
from reconciler.policy import Drift, Limit, Limits, OutOfScope, Pilot, Policy, Reactivate, TeamOutOfScope, TeamPolicy
from reconciler.safety import Consent, Judged, Release, judge
from reconciler.snapshot import after_user
from tests.world import MEMBER, NOW, account, decide, directory, group, jc, snapshot, team, user

LIMITS = Limits()


def kinds(d: Decision) -> list[Kind]:
    return [op.kind for op in d.plan.operations]


def unmanaged(number: int, external: str = "", **values: object) -> Account:
    u = user(number)
    shown = {"userName": u.email, **({"externalId": external} if external else {})}
    return account(
        u, **{"standing": Standing.UNMANAGED, "jumpcloud_id": "", "shown": shown, "asked": {}, "settled": {}, **values}
    )


NOBODY = Consent()


def judged(d: Decision, consent: Consent = NOBODY) -> Judged:
    return judge(d.plan, d.snapshot, (), LIMITS, TeamPolicy(), consent)


def test_duplicate_account_taken_over_never_makes_the_real_one_a_leaver() -> None:
    """A second Keeper account that carries the id of an in-scope person is adopted (adopt --ghosts)."""
    p = user(1, direct=True)
    real = account(p)  # k0001
    twin = unmanaged(5, external=p.id, keeper_id="k0005", takeover=Takeover.AS_GHOST)
    first = decide(directory([p]), snapshot([real, twin]))
    owners = [a.jumpcloud_id for a in first.snapshot.accounts.values() if a.managed and a.jumpcloud_id]
    locks1 = [op.subject for op in first.plan.operations if op.kind is Kind.DEACTIVATE_USER]
    second = decide(directory([p]), first.snapshot)
    locks2 = [op.subject for op in second.plan.operations if op.kind is Kind.DEACTIVATE_USER]
    assert len(owners) == len(set(owners))
    assert not locks1
    assert "k0001" not in {s.keeper_id for s in locks2}


def test_duplicate_second_cycle_locks_the_real_account_unheld() -> None:
    p = user(1, direct=True)
    d = decide(
        directory([p]),
        snapshot([account(p), unmanaged(5, external=p.id, keeper_id="k0005", takeover=Takeover.AS_GHOST)]),
    )
    second = decide(directory([p]), d.snapshot)
    sent = [op for op in judged(second).plan.operations if op.sent and op.kind is Kind.DEACTIVATE_USER]
    assert not sent, [(op.subject, op.reason) for op in sent]


def test_taking_over_the_account_of_a_shared_address_does_not_lock_someone_in_scope() -> None:
    people = [user(1, direct=True), user(2, direct=True, email="u1@example.com")]
    d = decide(directory(people), snapshot([unmanaged(1, takeover=Takeover.AS_GHOST)]))
    assert Kind.DEACTIVATE_USER not in kinds(d), d.plan.operations


def test_taking_over_the_account_of_a_staged_person_changes_nothing_about_access() -> None:
    p = user(1, direct=True, status=Status.STAGED)
    for held in (unmanaged(1, takeover=Takeover.AS_GHOST), unmanaged(1, external=p.id, takeover=Takeover.AS_GHOST)):
        d = decide(directory([p]), snapshot([held]))
        assert Kind.DEACTIVATE_USER not in kinds(d), d.plan.operations


def test_the_account_of_a_staged_person_is_taken_over_for_them_and_locked_once_they_are_gone() -> None:
    p = user(1, direct=True, status=Status.STAGED)
    for asked in Takeover.BY_ADDRESS, Takeover.AS_GHOST:
        for held in (unmanaged(1, takeover=asked), unmanaged(1, external=p.id, takeover=asked)):
            learnt = decide(directory([p]), snapshot([held])).snapshot
            assert learnt.accounts["k0001"].managed and learnt.accounts["k0001"].jumpcloud_id == p.id
            assert kinds(decide(directory([]), learnt)) == [Kind.DEACTIVATE_USER]


def test_a_staged_person_gets_no_vault_that_is_tied_to_another_but_by_name() -> None:
    p = user(1, direct=True, status=Status.STAGED)
    held = unmanaged(1, external=jc(77), takeover=Takeover.AS_GHOST)
    assert not decide(directory([p]), snapshot([held])).snapshot.accounts["k0001"].managed
    named = decide(directory([p]), snapshot([replace(held, takeover=Takeover.BY_ADDRESS)]))
    assert named.snapshot.accounts["k0001"].jumpcloud_id == p.id


def test_whoever_was_taken_over_as_unknown_is_not_locked_while_somebody_in_scope_has_the_address() -> None:
    held = unmanaged(1, external=jc(77), takeover=Takeover.AS_GHOST)
    learnt = decide(directory([]), snapshot([held])).snapshot
    for status in Status.ACTIVE, Status.STAGED:
        again = decide(directory([user(5, direct=True, email="U1@example.com", status=status)]), learnt)
        assert kinds(again) == []
        assert (NoticeKind.CONFLICT, "k0001") in {(n.kind, n.subject.keeper_id) for n in again.plan.notices}
    assert kinds(decide(directory([]), learnt)) == [Kind.DEACTIVATE_USER]


def test_of_two_accounts_a_staged_person_gets_the_one_that_bears_their_id() -> None:
    p = user(1, direct=True, status=Status.STAGED)
    other = unmanaged(1, takeover=Takeover.AS_GHOST)
    bearing = unmanaged(5, external=p.id, takeover=Takeover.AS_GHOST)
    learnt = decide(directory([p]), snapshot([other, bearing])).snapshot.accounts
    assert [key for key, one in learnt.items() if one.managed] == ["k0005"]


def test_an_administrators_lock_on_a_staged_person_stays_theirs() -> None:
    p = user(1, direct=True, status=Status.STAGED)
    held = unmanaged(1, active=False, takeover=Takeover.BY_ADDRESS)
    learnt = decide(directory([p]), snapshot([held])).snapshot
    active = decide(directory([replace(p, status=Status.ACTIVE)]), learnt).plan
    assert learnt.accounts["k0001"].managed and not active.operations
    assert [notice.kind for notice in active.notices] == [NoticeKind.LOCKED_IN_KEEPER]


def test_taking_over_the_account_at_the_new_address_of_someone_in_scope() -> None:
    p = user(1, direct=True, email="new@example.com")
    old = account(user(1))
    new = unmanaged(7, keeper_id="k0007", takeover=Takeover.AS_GHOST, shown={"userName": "new@example.com"})
    d = decide(directory([p]), snapshot([old, new]))
    assert Kind.DEACTIVATE_USER not in kinds(d), d.plan.operations


def test_a_taken_over_ghost_who_exists_in_jumpcloud_is_not_called_deleted_nor_covered_over_keep() -> None:
    p = user(1)
    held = snapshot([unmanaged(1, external=p.id, takeover=Takeover.AS_GHOST)])
    d = decide(directory([p]), held, Policy(out_of_scope=OutOfScope.KEEP))
    assert kinds(d) == [], d.plan.operations  # "keep" covers who merely left


def test_takeover_mark_on_a_managed_account_does_not_link_a_later_hire_silently() -> None:
    p = user(1, direct=True)
    marked = replace(account(p), takeover=Takeover.BY_ADDRESS)  # what decisions.adopt writes for a managed account
    learnt = decide(directory([p]), snapshot([marked])).snapshot
    # months later: 1 is deleted, a new hire gets the address
    hire = user(2, direct=True, email="u1@example.com")
    d = decide(directory([hire]), learnt, now=NOW + timedelta(days=200))
    assert not [op for op in d.plan.operations if op.subject.jumpcloud_id == hire.id], d.plan.operations


def test_an_account_that_was_given_up_and_is_adopted_again_is_its_owners_under_a_new_address_too() -> None:
    p = user(1, direct=True, email="new@example.com")
    given_up = account(user(1), shown={"userName": "u1@example.com"}, asked={}, settled={})
    marked = replace(given_up, standing=Standing.UNMANAGED, takeover=Takeover.BY_ADDRESS)
    d = decide(directory([p]), snapshot([marked]))
    assert kinds(d) == [Kind.UPDATE_USER] and d.snapshot.accounts["k0001"].jumpcloud_id == p.id
    hire = user(2, direct=True, email="u1@example.com")
    recycled = decide(directory([hire, user(1)]), snapshot([marked]))
    assert recycled.snapshot.accounts["k0001"].jumpcloud_id == hire.id
    suspended = decide(directory([replace(p, status=Status.SUSPENDED)]), snapshot([marked]))
    assert [op.rule for op in suspended.plan.operations] == [Rule.SUSPENDED]
    twice = decide(directory([p]), snapshot([marked, account(p, keeper_id="k0005")]))
    assert twice.snapshot.accounts["k0005"].jumpcloud_id == p.id
    assert twice.snapshot.accounts["k0001"].jumpcloud_id == ""


def test_focus_does_not_lose_the_adoption_of_an_unmanaged_account() -> None:
    p = user(1, direct=True)
    held = snapshot([unmanaged(1)])
    d = decide(directory([p]), held, focus=frozenset({p.id}))
    assert d.plan.operations
    assert d.snapshot.accounts["k0001"].managed


def test_resync_of_one_before_the_review_adopts_no_team_by_name() -> None:
    p, g = user(1, 9), group(9)
    namesake = team(
        g,
        standing=Standing.UNMANAGED,
        jumpcloud_id="",
        shown={"displayName": g.name},
        asked={},
        settled={},
        queued_at=None,
    )
    d = decide(directory([p], [g]), snapshot([account(p)], [namesake], reviewed=False), focus=frozenset({p.id}))
    j = judged(d, consent=Consent(person="person:u1"))
    given = [t.keeper_id for op in j.plan.operations if op.sent for t in op.add]
    assert not given, (given, d.snapshot.teams[namesake.keeper_id].standing)


def test_only_our_own_locks_are_undone_through_a_hold() -> None:
    people = [user(n, direct=True) for n in range(1, 101)]
    accounts = [account(p) for p in people]
    accounts[99] = account(people[99], active=False)  # locked by an administrator
    d = decide(directory(people[50:]), snapshot(accounts), Policy(reactivate=Reactivate.ANY))
    j = judged(d)
    assert j.plan.held
    assert not [op for op in j.plan.operations if op.sent], [op for op in j.plan.operations if op.sent]


def test_what_is_divided_from_a_released_creation_is_not_sent_without_an_id() -> None:
    people = [user(n, direct=True) for n in range(1, 101)]
    joiner = user(200, 8)
    groups = [group(8), group(9)]
    teams = [team(g) for g in groups]
    base = [account(p) for p in people]
    released = decide(directory([*people, joiner], groups), snapshot(base, teams)).plan.effects
    later = decide(
        directory([*people, replace(joiner, groups=frozenset({jc(8), jc(9)}))], groups), snapshot(base, teams)
    )
    j = judged(later, consent=Consent((Release("release:1", released),)))
    bad = [op for op in j.plan.operations if op.sent and op.kind is Kind.UPDATE_USER and not op.subject.keeper_id]
    assert not bad, bad


def test_a_released_grant_goes_though_a_name_changed_meanwhile() -> None:
    people = [user(n, 9) for n in range(1, 31)]
    g = group(9)
    held = snapshot([account(user(n)) for n in range(1, 31)], [team(g)])
    first = decide(directory(people, [g]), held)
    release = Release("release:1", first.plan.effects)
    changed = decide(directory([replace(p, given_name="Ada") for p in people], [g]), held)
    j = judged(changed, consent=Consent((release,)))
    gained = {op.subject.key for op in j.plan.operations if op.sent and op.add}
    assert len(gained) == 30, len(gained)


def test_resync_of_one_person_more_is_judged_by_the_ordinary_limits() -> None:
    people = [user(n, direct=True) for n in range(1, 1001)]
    whole = snapshot([account(p) for p in people])
    d = decide(directory([]), snapshot([whole.accounts["k0001"]]), focus=frozenset({jc(1)}))  # deleted, read alone
    d = replace(d, snapshot=replace(whole, accounts={**whole.accounts, **d.snapshot.accounts}))
    j = judged(d, consent=Consent(person="person:u1", persons_before=frozenset({jc(7), jc(8), jc(9)})))
    assert [op for op in j.plan.operations if op.sent], j.plan.held  # 1 of 20 allowed


def test_protect_covers_the_disowned() -> None:
    u = user(1, direct=True)
    given_up = account(u, standing=Standing.DISOWNED, former_external_id="okta-1")
    d = decide(directory([u]), snapshot([given_up]), Policy(protect=frozenset({u.email})))
    assert kinds(d) == []


def test_adopting_a_team_only_adds_and_keeps_whom_it_finds_even_under_repair() -> None:
    g = group(9)
    inside, outside = user(1, 9), user(2, direct=True)
    found = Membership(ours=False, seen=True, shown=True)
    made = team(
        g,
        standing=Standing.UNMANAGED,
        jumpcloud_id="",
        shown={"displayName": g.name},
        asked={},
        settled={},
        queued_at=None,
    )
    held = snapshot([account(inside), account(outside, memberships={made.keeper_id: found})], [made], reviewed=False)
    d = decide(directory([inside, outside], [g]), held, Policy(drift=Drift.REPAIR))
    assert not [op for op in d.plan.operations if op.remove], [op for op in d.plan.operations if op.remove]


def test_a_lock_found_in_the_first_plan_is_ours_also_outside_the_pilot() -> None:
    pilot = Policy(only=Pilot(groups=frozenset({"IT"})))
    p = user(1, status=Status.SUSPENDED, direct=True)
    held = snapshot([unmanaged(1, external=p.id, active=False)], reviewed=False, fresh=frozenset({"k0001"}))
    first = decide(directory([p]), held, pilot)
    back = decide(directory([user(1, direct=True)]), replace(first.snapshot, reviewed=True))  # pilot over, person back
    assert Kind.REACTIVATE_USER in kinds(back), [n.message for n in back.plan.notices]


def test_leavers_outside_the_pilot_are_not_lost_as_ghosts() -> None:
    pilot = Policy(only=Pilot(groups=frozenset({"IT"})))
    p = user(1, status=Status.SUSPENDED)
    first = decide(directory([p]), snapshot([unmanaged(1, external=p.id)], reviewed=False), pilot)
    assert [op.sent for op in first.plan.operations] == [False]
    later = decide(directory([p]), replace(first.snapshot, reviewed=True))
    assert kinds(later) == [Kind.DEACTIVATE_USER], [n.kind for n in later.plan.notices]


def test_a_group_renamed_beyond_what_keeper_takes_is_not_sent() -> None:
    d = decide(directory([], [group(9, "x" * 1000)]), snapshot([], [team(group(9))]))
    assert kinds(d) == []


def test_a_group_made_again_takes_its_team_whatever_keeper_made_of_the_name() -> None:
    g = group(9, "Sales  EU")
    made = team(
        g,
        shown={"displayName": "Sales EU", "externalId": g.id},
        settled={"displayName": "Sales EU", "externalId": g.id},
    )
    assert kinds(decide(directory([], [g]), snapshot([], [made]))) == []  # in line
    d = decide(directory([], [group(5, "Sales  EU")], gone=[g]), snapshot([], [made]))
    assert kinds(d) == [Kind.RENAME_TEAM], kinds(d)


def test_protection_sticks_to_a_shielded_person() -> None:
    policy = Policy(protect=frozenset({"bg@example.com"}))
    held = snapshot([unmanaged(1, external=jc(1))])
    first = decide(directory([user(1, direct=True, email="bg@example.com")]), held, policy)
    assert kinds(first) == []
    later = decide(directory([user(1, direct=True, email="other@example.com")]), first.snapshot, policy)
    assert kinds(later) == [] and not later.snapshot.accounts["k0001"].managed


def test_a_gone_disowned_account_is_nobodys_vault() -> None:
    p = user(1, direct=True, email="new@example.com")
    gone = account(user(2, email="new@example.com"), standing=Standing.DISOWNED, gone=True, active=False)
    d = decide(directory([p]), snapshot([account(user(1), active=False, locked_by_us=True), gone]))
    assert kinds(d) == [Kind.REACTIVATE_USER], [n.message for n in d.plan.notices]


def test_an_unknown_state_out_of_scope_changes_nothing_about_access() -> None:
    for status in (Status.STAGED, Status.UNKNOWN):
        u = user(1, status=status)
        d = decide(directory([u]), snapshot([account(u, left_at=NOW - timedelta(days=1))]))
        assert kinds(d) == [], (status, kinds(d))


@pytest.mark.parametrize("pilot", [None, "Sales", "IT"])
def test_a_team_that_is_not_the_pilots_is_not_deleted(pilot: str | None) -> None:
    only = Pilot(frozenset({pilot}), frozenset({"u1@example.com"})) if pilot else None
    policy = Policy(only=only, teams=TeamPolicy(out_of_scope=TeamOutOfScope.DELETE), grace=timedelta(0))
    emptied = snapshot([account(user(1))], [team(group(5, "Sales"), queued_at=NOW)])
    d = decide(directory([user(1, direct=True)]), emptied, policy)
    assert [(op.kind, op.sent) for op in d.plan.operations] == [(Kind.DELETE_TEAM, pilot != "IT")]


def test_a_team_is_not_deleted_while_the_removal_of_its_members_is_in_doubt() -> None:
    """The list of groups lacks a group; the members' own records say that it is still in scope."""

    class Own:
        async def groups_of(self, _: str) -> frozenset[str]:
            return frozenset({jc(9)})

        async def application_paths(self, _: str) -> Paths:
            return Paths(True, True, frozenset({jc(9)}))

        async def groups_in_scope(self) -> dict[str, Group]:
            return {jc(9): group(9)}

        async def status_of(self, _: str) -> Status:
            return Status.ACTIVE

    u, g = user(1, direct=True), group(9)
    policy = Policy(teams=TeamPolicy(out_of_scope=TeamOutOfScope.DELETE), grace=timedelta(0))
    member = snapshot([account(u, memberships={"t0009": MEMBER})], [team(g)])
    assert Kind.DELETE_TEAM not in kinds(decide(directory([u]), member, policy))
    d = decide(directory([u]), snapshot([account(u)], [team(g)]), policy)
    assert kinds(d) == [Kind.DELETE_TEAM]
    j = judged(d, consent=Consent((Release("release:1", d.plan.effects),)))
    sure = asyncio.run(preview(j, Confirmation(cast(JumpCloud, Own()), {}, {})))
    sent = [op.kind for op in sure.plan.operations if op.sent]
    assert Kind.DELETE_TEAM not in sent, sent


def test_a_team_is_the_one_group_s_whose_id_it_bears_whatever_its_name() -> None:
    one, other = group(5, "IT"), group(9, "IT")
    held = team(other, standing=Standing.UNMANAGED, jumpcloud_id="", asked={}, settled={}, queued_at=None)
    member, newcomer = user(1, 9), user(2, 5)
    there = account(member, memberships={held.keeper_id: Membership(ours=False, seen=True, shown=True)})
    first = decide(directory([member, newcomer], [one, other]), snapshot([there], [held], reviewed=False))
    assert first.snapshot.teams[held.keeper_id].jumpcloud_id == other.id
    assert not [op for op in first.plan.operations if op.remove or (op.kind is Kind.CREATE_USER and op.add)]


def test_a_group_that_comes_back_has_its_team_again_unless_its_namesake_has_it_by_then() -> None:
    former, new = group(9, "IT"), group(5, "IT")
    member = user(1, 9)
    there = account(member, memberships={"t0009": MEMBER})
    away = decide(directory([user(1, direct=True)], [new], gone=[former]), snapshot([there], [team(former)]))
    assert kinds(away) == [Kind.RENAME_TEAM, Kind.UPDATE_USER] and away.plan.operations[1].remove
    back = decide(directory([member], [new, former]), away.snapshot)
    assert kinds(back) == [] and [n.kind for n in back.plan.notices] == [NoticeKind.CONFLICT]
    assert back.snapshot.teams["t0009"].jumpcloud_id == former.id

    renamed = replace(team(new), keeper_id="t0009")
    late = decide(directory([member], [new, former]), snapshot([there], [renamed]))
    assert late.snapshot.teams["t0009"].jumpcloud_id == new.id


def test_a_team_stays_its_groups_though_somebody_gave_it_the_id_of_another() -> None:
    one, other = group(9), group(5)
    moved = replace(team(one), shown={"displayName": one.name, "externalId": other.id})
    d = decide(directory([], [one]), snapshot([], [moved]))
    assert d.snapshot.teams["t0009"].jumpcloud_id == one.id
    both = decide(directory([], [one, other]), snapshot([], [moved]))
    assert both.snapshot.teams["t0009"].jumpcloud_id == one.id


def test_a_team_is_that_of_the_group_to_which_it_was_tied_before_an_old_copy_was_restored() -> None:
    """A second team was queued for the group that was made again, and the first was emptied."""
    former, again = group(9, "Sales"), group(5, "IT 2")
    tied = replace(team(former), shown={"displayName": "Sales", "externalId": again.id})
    member = user(1, 5)
    there = account(member, memberships={"t0009": MEMBER})
    d = decide(directory([member], [again], gone=[former]), snapshot([there], [tied]))
    assert d.snapshot.teams["t0009"].jumpcloud_id == again.id
    assert kinds(d) == [Kind.RENAME_TEAM]


def test_a_changed_address_makes_no_second_account_while_the_first_creation_is_open() -> None:
    p = user(1, direct=True, email="new@example.com")
    open_ = snapshot([], unsettled_users={p.id: "old@example.com"})
    waits = decide(directory([p]), open_)
    assert kinds(waits) == [] and [n.kind for n in waits.plan.notices] == [NoticeKind.ADDRESS_CHANGE]
    same = decide(directory([p]), replace(open_, unsettled_users={p.id: "New@example.com"}))
    assert kinds(same) == [Kind.CREATE_USER]


def test_nobody_is_created_under_an_address_for_which_somebody_elses_creation_is_open() -> None:
    p = user(1, direct=True, email="Ada@example.com")
    open_ = snapshot([], unsettled_users={jc(2): "ada@example.com"})
    waits = decide(directory([p]), open_)
    assert kinds(waits) == [] and [n.kind for n in waits.plan.notices] == [NoticeKind.CONFLICT]
    assert kinds(decide(directory([p]), replace(open_, unsettled_users={jc(2): "bob@example.com"}))) == [
        Kind.CREATE_USER
    ]


IT = Policy(only=Pilot(groups=frozenset({"IT"})), grace=timedelta(0))
SALES = replace(IT, only=Pilot(groups=frozenset({"Sales"})))
PILOTS = [group(9, "IT"), group(8, "Sales")]


def locks(wanted: Directory, held: Snapshot, policy: Policy) -> dict[str, bool]:
    """List the people to be locked, and whether that is sent."""
    operations = decide(wanted, held, policy).plan.operations
    return {op.subject.name: op.sent for op in operations if op.kind is Kind.DEACTIVATE_USER}


def test_nobody_is_in_a_pilot_because_we_created_them() -> None:
    u = user(1, 8)
    (op,) = decide(directory([u], PILOTS), snapshot([], [team(g) for g in PILOTS])).plan.operations
    reply = KeeperUser("k1", {c.attribute: c.after for c in op.changes}, True)
    made = after_user(None, op, {jc(8): "t0008"}, reply, NOW)
    held = snapshot([made], [team(g) for g in PILOTS])
    assert locks(directory([user(1)], PILOTS), held, IT) == {u.email: False}
    # Nor by a read that found them outside it.
    read = decide(directory([u], PILOTS), held, IT).snapshot
    assert locks(directory([user(1)], PILOTS), read, IT) == {u.email: False}


def test_a_leaver_of_one_pilot_is_not_in_another_one_but_in_a_larger_one() -> None:
    u = user(1, 9)
    read = decide(directory([u], PILOTS), snapshot([account(u)]), IT).snapshot
    gone = directory([user(1)], PILOTS)
    assert locks(gone, read, IT) == {u.email: True}
    assert locks(gone, read, SALES) == {u.email: False}
    both = replace(IT, only=Pilot(groups=frozenset({"IT", "Sales"})))
    assert locks(gone, read, both) == {u.email: True}
    # Who was read in scope without that pilot, or under another one, was not in it when last in scope.
    for policy in (Policy(), SALES):
        assert locks(gone, decide(directory([u], PILOTS), read, policy).snapshot, IT) == {u.email: False}
    suspended = directory([user(1, 8, status=Status.SUSPENDED)], PILOTS)  # and moved to another group meanwhile
    assert locks(suspended, decide(suspended, read, IT).snapshot, IT) == {u.email: True}
    back = decide(directory([u], PILOTS), decide(gone, read, IT).snapshot, SALES).snapshot
    assert locks(gone, back, IT) == {u.email: False}


def test_a_lock_of_the_pilot_is_undone_also_for_whoever_comes_back_outside_of_it() -> None:
    u = user(1, 9)
    read = decide(directory([u], PILOTS), snapshot([account(u)]), IT).snapshot
    left = decide(directory([user(1, 9, status=Status.SUSPENDED)], PILOTS), read, IT).snapshot
    locked = replace(left.accounts["k0001"], active=False, locked_by_us=True)
    back = directory([user(1, 8)], PILOTS)

    def unlocks(one: Account, policy: Policy) -> tuple[list[bool], Account]:
        made = decide(back, snapshot([one]), policy)
        sent = [op.sent for op in made.plan.operations if op.kind is Kind.REACTIVATE_USER]
        return sent, made.snapshot.accounts["k0001"]

    sent, remembered = unlocks(locked, IT)
    assert sent == [True] and unlocks(remembered, IT)[0] == [True], "held for some cycles, for instance"
    (unlock,) = decide(back, snapshot([locked], [team(g) for g in PILOTS]), IT).plan.operations
    assert (unlock.changes, unlock.add, unlock.remove) == ((Change("active", "false", "true"),), (), ())
    (unlock,) = decide(back, snapshot([locked], [team(g) for g in PILOTS]), SALES).plan.operations
    assert [team.jumpcloud_id for team in unlock.add] == [jc(8)]
    assert unlocks(locked, SALES)[0] == [True], "in it now"
    assert unlocks(replace(locked, pilot=frozenset()), IT)[0] == [False], "never in that pilot"
    never = decide(back, snapshot([replace(locked, pilot=frozenset())]), IT).plan.notices
    assert "our own lock keeps them out of Keeper" in next(n.message for n in never if n.subject.type == "user")
    said = [n.message for n in decide(back, snapshot([locked]), IT).plan.notices if n.subject.type == "setting"]
    assert "nothing is sent to Keeper for anybody in scope, but to undo a lock of ours" in said[0]
    again = unlocks(replace(remembered, active=True, locked_by_us=False), IT)[1]
    assert locks(directory([user(1)], PILOTS), snapshot([again]), IT) == {u.email: False}


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (Pilot(groups=frozenset({"I T"})), PILOTS),
        (Pilot(groups=frozenset({"I T", "Sales"})), PILOTS),
        (Pilot(users=frozenset({"nobody@example.com"})), PILOTS),
        (IT.only, [group(8, "Sales"), group(9, "Informatics")]),
    ],
    ids=["misspelt", "one of two misspelt", "an address of nobody", "renamed"],
)
def test_a_pilot_that_is_misnamed_for_a_while_forgets_nobody(wrong: Pilot, named: list[Group]) -> None:
    u = user(1, 9)
    read = decide(directory([u], PILOTS), snapshot([account(u)]), IT).snapshot
    meanwhile = replace(IT, only=wrong)
    held = decide(directory([u], named), read, meanwhile).snapshot
    gone = directory([user(1)], named)
    assert locks(gone, held, meanwhile) == {u.email: meanwhile == IT}  # a leaver of the group by its old name
    held = decide(gone, held, meanwhile).snapshot
    name = next(group.name for group in named if group.id == jc(9))
    assert locks(gone, held, replace(IT, only=Pilot(groups=frozenset({name})))) == {u.email: True}
    # Once the pilot is right again, whoever is in scope and outside it is forgotten.
    elsewhere = decide(directory([user(1, 8)], PILOTS), held, IT).snapshot
    assert locks(directory([user(1)], PILOTS), elsewhere, IT) == {u.email: False}


@pytest.mark.parametrize("only", [Pilot(frozenset({"I T"})), Pilot(frozenset({"I T", "Sales"}))])
def test_a_pilot_that_is_misnamed_leaves_nobody_locked_who_was_locked_as_one_of_a_pilot(only: Pilot) -> None:
    u, other = user(1, 9), user(2, 9)
    read = decide(directory([u, other], PILOTS), snapshot([account(u), account(other)]), IT).snapshot
    locked = [replace(read.accounts[k], active=False, locked_by_us=True) for k in ("k0001", "k0002")]
    locked[1] = replace(locked[1], pilot=frozenset())
    plan = decide(directory([u, other], PILOTS), snapshot(locked), replace(IT, only=only)).plan
    sent = {op.subject.name: op.sent for op in plan.operations if op.kind is Kind.REACTIVATE_USER}
    assert sent == {u.email: True, other.email: False}, "never in a pilot"
    again = decide(directory([u, other], PILOTS), snapshot(locked), SALES).plan
    assert not any(op.sent for op in again.operations if op.kind is Kind.REACTIVATE_USER), "another pilot"


def test_a_pilot_whose_group_can_not_be_read_is_not_called_wrong() -> None:
    unread = replace(directory([user(1, 9)], [group(8, "Sales")]), unclear_groups=frozenset({jc(9)}))
    read = decide(directory([user(1, 9)], PILOTS), snapshot([account(user(1))]), IT).snapshot
    changed = replace(unread, users={jc(1): user(1, 9, given_name="Ada")})
    plan = decide(changed, read, IT).plan
    assert [op.sent for op in plan.operations if op.subject.type == "user"] == [True]
    (notice,) = [n for n in plan.notices if n.subject.type == "setting"]
    assert notice.message == (
        "no group in scope is named IT as far as groups can be read now; whoever was in the pilot through one that "
        "can't stays in it. If the names in policy.only are right, nothing is to be corrected there"
    )


def test_a_team_is_queued_for_who_is_in_the_pilot_by_a_group_that_can_not_be_read() -> None:
    read = decide(directory([user(1, 9)], PILOTS), snapshot([account(user(1))], [team(PILOTS[0])]), IT).snapshot
    unread = directory([user(1, 7, 9)], [group(7, "New")])
    plan = decide(replace(unread, unclear_groups=frozenset({jc(9)})), read, IT).plan
    assert {op.kind: op.sent for op in plan.operations} == {Kind.QUEUE_TEAM: True, Kind.UPDATE_USER: True}


def test_whoever_moved_out_of_the_pilot_is_out_of_it_though_an_entry_is_misspelt() -> None:
    it, sales = group(9, "IT"), group(8, "Sales")
    policy = Policy(only=Pilot(groups=frozenset({"IT", "Typo"})))
    ada, other = user(1, 9), user(2, 9)
    held = snapshot([account(ada), account(other)], [team(it), team(sales)])
    known = decide(directory([ada, other], [it, sales]), held, policy).snapshot
    assert known.accounts["k0001"].pilot
    moved = decide(directory([user(1, 8), other], [it, sales]), known, policy).snapshot
    assert not moved.accounts["k0001"].pilot and moved.accounts["k0002"].pilot


def test_a_leaver_stays_in_the_pilot_whose_group_is_renamed_later() -> None:
    u = user(1, 9)
    read = decide(directory([u], PILOTS), snapshot([account(u)]), IT).snapshot
    gone = directory([user(1)], [group(8, "Sales"), group(9, "Informatics")])
    renamed = replace(IT, only=Pilot(groups=frozenset({"Informatics"})))
    assert locks(gone, read, renamed) == {u.email: True}
    assert locks(gone, read, SALES) == {u.email: False}


def test_who_is_in_the_pilot_by_an_address_is_so_under_the_next_one_until_somebody_else_has_it() -> None:
    policy = Policy(only=Pilot(users=frozenset({"u1@example.com", "u3@example.com"})), grace=timedelta())
    before, other = user(1, direct=True), user(3, direct=True)
    held = decide(directory([before, other]), snapshot([account(before), account(other)]), policy).snapshot
    renamed = replace(before, email="new@example.com", given_name="Ada")
    shown = {**held.accounts["k0001"].shown, "userName": "new@example.com"}
    held = replace(held, accounts={**held.accounts, "k0001": replace(held.accounts["k0001"], shown=shown)})
    made = decide(directory([renamed, other]), held, policy)
    assert [op.sent for op in made.plan.operations] == [True], "their new name"
    left = decide(directory([replace(renamed, status=Status.SUSPENDED), other]), made.snapshot, policy)
    assert [(op.kind, op.sent) for op in left.plan.operations] == [(Kind.DEACTIVATE_USER, True)]
    heir = user(4, direct=True, email="u1@example.com")
    taken = decide(directory([renamed, other, heir]), held, policy)
    assert {op.subject.name: op.sent for op in taken.plan.operations} == {
        "new@example.com": False,
        "u1@example.com": True,
    }


def test_a_pilot_lists_people_by_address_also_once_they_have_left() -> None:
    u = user(1)
    ada = Policy(only=Pilot(users=frozenset({u.email})), grace=timedelta(0))
    assert locks(directory([u]), snapshot([account(u)]), ada) == {u.email: True}
    assert locks(directory([]), snapshot([account(u)]), ada) == {u.email: True}
    assert locks(directory([]), snapshot([account(user(2))]), ada) == {"u2@example.com": False}


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        (
            [group(9, "I T"), group(8, "Sales")],
            "names nobody in scope (no group in scope is named IT): nothing is sent",
        ),
        ([group(9, "IT"), group(8, "Sales")], "names nobody in scope: nothing is sent"),
    ],
)
def test_a_pilot_that_names_nobody_is_told(groups: list[Group], said: str) -> None:
    plan = decide(directory([user(1, 8)], groups), snapshot([account(user(1))]), IT).plan
    (notice,) = [n for n in plan.notices if n.subject.type == "setting"]
    assert (notice.kind, notice.subject.name) == (NoticeKind.OUTSIDE_PILOT, "policy.only")
    assert said in notice.message
    assert all(not op.sent for op in plan.operations)


def test_an_entry_of_the_pilot_that_names_nobody_is_told_beside_others() -> None:
    policy = replace(IT, only=Pilot(frozenset({"IT", "Ops"}), frozenset({"nobody@example.com"})))
    plan = decide(directory([user(1, 9)], PILOTS), snapshot([account(user(1))]), policy).plan
    (notice,) = [n for n in plan.notices if n.subject.type == "setting"]
    assert notice.message == (
        "no group in scope is named Ops, nobody in scope has the address nobody@example.com: "
        "correct the names in policy.only"
    )
    assert not [n for n in decide(directory([user(1, 9)], PILOTS), snapshot([]), IT).plan.notices if not n.subject.key]


def test_the_pilot_covers_who_was_created_in_it_and_left_before_the_next_read() -> None:

    policy = Policy(only=Pilot(groups=frozenset({"IT"})), grace=timedelta(0))
    u, g = user(1, 9), group(9, "IT")
    first = decide(directory([u], [g]), snapshot([], [team(g)]), policy)
    (op,) = first.plan.operations
    assert op.sent
    made = after_user(
        None, op, {jc(9): "t0009"}, KeeperUser("k1", {c.attribute: c.after for c in op.changes}, True), NOW
    )
    later = decide(directory([user(1)], [g]), snapshot([made], [team(g)]), policy)
    assert [op.sent for op in later.plan.operations if op.kind is Kind.DEACTIVATE_USER] == [True], later.plan.operations


def test_the_former_external_id_survives_a_resync_of_one() -> None:

    u = user(1, direct=True)
    d = decide(directory([u]), snapshot([unmanaged(1, external="okta-1")]), focus=frozenset({u.id}))
    (op,) = d.plan.operations
    row = d.snapshot.accounts["k0001"]
    after = after_user(row, op, {}, None, NOW)
    again = decide(directory([u]), snapshot([after])).snapshot.accounts["k0001"]
    assert again.managed and again.former_external_id == "okta-1", again


# -- a lock of somebody else, on an account that is gone ------------------------------------------------------------


def returned(held: Account, person: int = 1, **more: object) -> Decision:
    return decide(directory([user(person, direct=True)]), snapshot([held]), **more)  # type: ignore[arg-type]


LOST = account(user(1), active=False, gone=True, others_lock=True)
LOST_TOO = unmanaged(1, active=False, gone=True)


@pytest.mark.parametrize("left", [None, NOW - timedelta(days=2)])
@pytest.mark.parametrize("held", [LOST, LOST_TOO, unmanaged(5, external=jc(1), active=False, gone=True)])
def test_who_was_locked_by_somebody_else_before_they_vanished_is_not_created(held: Account, left: None) -> None:
    held = replace(held, left_at=left, locked_by_us=left is not None and held.managed)
    made = returned(held)
    assert kinds(made) == []
    [notice] = made.plan.notices
    assert notice.kind is NoticeKind.LOCKED_IN_KEEPER and "resync u1@example.com --unlock" in notice.message
    again = decide(directory([user(1, direct=True)]), made.snapshot)
    assert (kinds(again), again.plan.notices) == ([], made.plan.notices)
    wanted = ({"policy": Policy(reactivate=Reactivate.ANY)}, {"unlock": {jc(1)}, "focus": frozenset({jc(1)})})
    for more in wanted:
        assert kinds(returned(held, **more)) == [Kind.CREATE_USER]


def test_who_was_not_locked_by_somebody_else_before_they_vanished_is_created_anew() -> None:
    ours = replace(LOST, others_lock=False, locked_by_us=True)
    for held in (
        replace(LOST, others_lock=False),
        ours,
        unmanaged(1, gone=True),
        unmanaged(5, active=False, gone=True),
    ):
        assert kinds(returned(held)) == [Kind.CREATE_USER]


# -- a team that vanished, and shows again --------------------------------------------------------------------------


ENG = group(9)
NEWER = team(ENG, keeper_id="t0010", queued_at=NOW)


def held_by(*teams: Team, **values: object) -> Snapshot:
    """Ada and Bob are members of all of these teams."""
    memberships = {one.keeper_id: MEMBER for one in teams}
    return snapshot([account(user(n), memberships=memberships, **values) for n in (1, 2)], list(teams))


@pytest.mark.parametrize("drift", list(Drift))
def test_nothing_is_sent_about_a_team_that_one_cycle_did_not_find(drift: Drift) -> None:
    held = held_by(team(ENG, missed_at=NOW))
    gone = replace(held, accounts={k: replace(a, memberships={ENG.id: MEMBER}) for k, a in held.accounts.items()})
    lost = {team(ENG).keeper_id: replace(MEMBER, shown=False)}
    unseen = replace(held, accounts={k: replace(a, memberships=lost) for k, a in held.accounts.items()})
    policy = Policy(drift=drift)
    for now_held in (held, unseen):
        for scope in ([user(1, 9), user(2, 9)], [user(1, 9), user(2, direct=True)], [user(n, 9) for n in (1, 2, 3)]):
            made = decide(directory(scope, [group(9, "Renamed")]), now_held, policy)
            assert {op.subject.key for op in made.plan.operations} <= {jc(3)}
            assert not [op for op in made.plan.operations if op.add or op.remove]
            assert [n.kind for n in made.plan.notices] == [NoticeKind.DRIFT]
    left = decide(directory([user(1, direct=True), user(2, direct=True)]), gone, Policy(grace=timedelta()))
    assert not left.plan.operations


def test_a_team_that_two_cycles_did_not_find_is_queued_again_with_its_members() -> None:
    held = held_by(team(ENG, gone=True, missed_at=NOW))
    made = decide(directory([user(1, 9), user(2, 9)], [ENG]), held)
    assert sorted(kinds(made)) == [Kind.QUEUE_TEAM, Kind.UPDATE_USER, Kind.UPDATE_USER]


def test_a_team_that_shows_again_is_its_groups_and_who_leaves_is_taken_out_of_both() -> None:
    both = held_by(team(ENG), NEWER)
    stays = decide(directory([user(1, 9), user(2, 9)], [ENG]), both)
    assert not stays.plan.operations
    [notice] = stays.plan.notices
    assert notice.kind is NoticeKind.CONFLICT and notice.subject.keeper_id == "t0010"
    leaves = decide(directory([user(1, 9), user(2, direct=True)], [ENG]), both)
    [op] = leaves.plan.operations
    assert op.subject.key == jc(2) and {ref.keeper_id for ref in op.remove} == {"t0009", "t0010"}
    assert len({ref.key for ref in op.remove}) == 2
    joins = decide(directory([user(1, 9), user(2, 9), user(3, 9)], [ENG]), both)
    assert [ref.keeper_id for op in joins.plan.operations for ref in op.add] == ["t0009"]
    unbound = decide(directory([user(1, direct=True), user(2, direct=True)]), both, Policy(grace=timedelta()))
    assert [len(op.remove) for op in unbound.plan.operations] == [2, 2]


def test_while_the_older_team_is_gone_the_newer_one_is_the_groups() -> None:
    held = held_by(team(ENG, gone=True), NEWER)
    made = decide(directory([user(1, 9), user(2, 9), user(3, 9)], [ENG]), held)
    assert [ref.keeper_id for op in made.plan.operations for ref in op.add] == ["t0010"]
    assert not made.plan.notices and by_group(held.teams.values()) == {ENG.id: NEWER}


def test_a_limit_counts_a_person_in_two_teams_of_one_group_once() -> None:
    held = snapshot(
        [account(user(n), memberships={"t0009": MEMBER, "t0010": MEMBER}) for n in range(1, 9)], [team(ENG), NEWER]
    )
    scope = [user(n, *([9] if n > 5 else []), direct=True) for n in range(1, 9)]
    made = decide(directory(scope, [ENG]), held)
    limits = Limits(max_removals=Limit(count=1000))
    [hold] = judge(made.plan, made.snapshot, (), limits, TeamPolicy(), NOBODY).plan.held
    assert hold.limit == "max_team_loss" and "would lose 5 of 8 members" in hold.reason
