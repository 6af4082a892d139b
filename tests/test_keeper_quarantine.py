"""One record of Keeper that cannot be read concerns its own subject only, and is told."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from reconciler.keeper_quarantine import from_json, to_json
from reconciler.model import Account, KeeperTeam, KeeperUser, Listing, Membership, OddRecord, Snapshot, Standing, Status
from reconciler.plan import Kind, NoticeKind
from reconciler.rows import State
from reconciler.settle import settle
from reconciler.snapshot import observed
from tests.operations import op
from tests.world import MEMBER, NOW, account, decide, directory, group, jc, listing, snapshot, team, user

ADA, BOB, ZOE = user(1, 9), user(2, 9), user(3)
GROUP = group(9)
TEAM = team(GROUP)


def shown(held: Any, **changes: Any) -> KeeperUser:
    base = KeeperUser(held.keeper_id, dict(held.shown), held.active, frozenset(held.memberships))
    return replace(base, **changes)


def team_shown(**changes: Any) -> KeeperTeam:
    return replace(KeeperTeam(TEAM.keeper_id, dict(TEAM.shown)), **changes)


def read(before: Snapshot, users: list[KeeperUser], teams: list[KeeperTeam] | None = None) -> Snapshot:
    return observed(before, listing(users, teams if teams is not None else [team_shown()]), NOW)


def held(*people: Any) -> Snapshot:
    return snapshot([account(one, memberships={TEAM.keeper_id: MEMBER}) for one in people], [TEAM])


@pytest.mark.parametrize("active", [True, False])
def test_an_unreadable_state_is_as_in_the_snapshot(active: bool) -> None:
    before = snapshot([account(ADA, active=active, memberships={TEAM.keeper_id: MEMBER})], [TEAM])
    odd = shown(before.accounts["k0001"], active=None, unreadable=("active",))
    after = read(before, [odd])
    assert after.accounts == before.accounts
    (one,) = after.odd
    assert (one.keeper_id, one.fields) == ("k0001", ("active",))


def test_unreadable_teams_and_names_are_as_in_the_snapshot_and_no_drift() -> None:
    before = held(ADA)
    attributes = {**before.accounts["k0001"].shown, "displayName": "", "userName": "", "externalId": ""}
    odd = KeeperUser("k0001", attributes, True, None, ("userName", "externalId", "displayName", "groups"))
    after = read(before, [odd])
    assert after.accounts == before.accounts
    decision = decide(directory([ADA], [GROUP]), after)
    assert not decision.plan.operations
    (told,) = decision.plan.notices
    assert (
        told.kind is NoticeKind.QUARANTINED and told.subject.name == ADA.email and told.subject.jumpcloud_id == ADA.id
    )
    for word in ("userName, externalId, displayName, groups", "as it was last read", "Admin Console"):
        assert word in told.message


def test_a_leaver_whose_state_cannot_be_read_is_locked_all_the_same() -> None:
    gone = replace(ADA, status=Status.SUSPENDED)
    after = read(held(ADA), [shown(held(ADA).accounts["k0001"], active=None, unreadable=("active",))])
    assert [o.kind for o in decide(directory([gone], [GROUP]), after).plan.operations] == [Kind.DEACTIVATE_USER]


def test_members_that_cannot_be_read_take_nobody_out_of_the_team() -> None:
    """Keeper may show a membership on the team's side only."""
    before = held(ADA, BOB)
    users = [shown(one, teams=frozenset()) for one in before.accounts.values()]
    after = read(before, users, [team_shown(members=None, unreadable=("members",))])
    assert after.accounts == before.accounts
    assert not decide(directory([ADA, BOB], [GROUP]), after).plan.operations


def test_an_unreadable_name_of_a_team_is_as_in_the_snapshot() -> None:
    before = held(ADA)
    odd = team_shown(attributes={"displayName": "", "externalId": ""}, unreadable=("displayName", "externalId"))
    after = read(before, [shown(before.accounts["k0001"])], [odd])
    assert after.teams == before.teams
    assert not decide(directory([ADA], [GROUP]), after).plan.operations


@pytest.mark.parametrize("by", ["address", "externalId"])
@pytest.mark.parametrize("field", ["active", "groups", "externalId", "userName"])
@pytest.mark.parametrize("reviewed", [True, False])
@pytest.mark.parametrize("remembered", [True, False])
def test_nobody_is_created_or_adopted_where_a_new_record_cannot_be_read(
    by: str, field: str, reviewed: bool, remembered: bool
) -> None:
    """Nor where all that is known of the account is how it was before it went away."""
    if (by, field) in (("address", "userName"), ("externalId", "externalId")):
        pytest.skip("nothing is known by what cannot be read")
    attributes = {"userName": "", "externalId": "", "displayName": "", "name.givenName": "", "name.familyName": ""}
    attributes |= {"userName": ZOE.email.upper()} if by == "address" else {"externalId": ZOE.id}
    odd = KeeperUser(
        "kx", attributes, None if field == "active" else True, None if field == "groups" else frozenset(), (field,)
    )
    zoe = replace(ZOE, direct=True)
    before = replace(held(ADA), reviewed=reviewed)
    lost = Account("kx", Standing.UNMANAGED, True, shown={"userName": "x@example.com"}, gone=True, missed_at=NOW)
    before = replace(before, accounts={**before.accounts, **({"kx": lost} if remembered else {})})
    after = read(before, [shown(held(ADA).accounts["k0001"]), odd])
    assert after.accounts.get("kx") == (lost if remembered else None)
    decision = decide(directory([ADA, zoe], [GROUP]), after)
    assert not decision.plan.operations and not decision.plan.adopts
    told = {n.kind: n for n in decision.plan.notices}
    assert told[NoticeKind.CONFLICT].subject.name == ZOE.email and field in told[NoticeKind.CONFLICT].message
    assert told[NoticeKind.QUARANTINED].subject.keeper_id == "kx"
    assert "counts as it was last read" not in told[NoticeKind.QUARANTINED].message


def test_the_odd_record_of_a_stranger_changes_nothing_for_others() -> None:
    odd = KeeperUser("kx", {"userName": "stranger@example.com"}, None, frozenset(), ("active",))
    joiner = replace(ZOE, direct=True)
    row = OddRecord("user", "user without a readable id 1", "", fields=("id",))
    before = held(ADA)
    after = observed(
        before,
        Listing({"k0001": shown(before.accounts["k0001"]), "kx": odd}, {"t0009": team_shown()}, unread=(row,)),
        NOW,
    )
    decision = decide(directory([ADA, joiner], [GROUP]), after)
    assert [(o.kind, o.subject.name) for o in decision.plan.operations] == [(Kind.CREATE_USER, ZOE.email)]
    assert [n.kind for n in decision.plan.notices] == [NoticeKind.QUARANTINED] * 2


def test_a_row_without_an_id_blocks_its_address() -> None:
    row = OddRecord("user", ZOE.email, "", fields=("id",))
    after = observed(
        held(ADA), Listing({"k0001": shown(held(ADA).accounts["k0001"])}, {"t0009": team_shown()}, unread=(row,)), NOW
    )
    decision = decide(directory([ADA, replace(ZOE, direct=True)], [GROUP]), after)
    assert not decision.plan.operations
    assert {n.kind for n in decision.plan.notices} == {NoticeKind.CONFLICT, NoticeKind.QUARANTINED}


@pytest.mark.parametrize("by", ["displayName", "externalId"])
def test_no_team_is_queued_or_linked_where_a_new_one_cannot_be_read(by: str) -> None:
    attributes = {"displayName": "", "externalId": ""} | {by: GROUP.name if by == "displayName" else GROUP.id}
    odd = KeeperTeam("tx", attributes, None, ("members",))
    after = observed(snapshot([account(ADA)]), listing([shown(account(ADA))], [odd]), NOW)
    assert "tx" not in after.teams
    decision = decide(directory([ADA], [GROUP]), after)
    assert not decision.plan.operations
    assert {(n.kind, n.subject.type) for n in decision.plan.notices} == {
        (NoticeKind.CONFLICT, "team"),
        (NoticeKind.QUARANTINED, "team"),
    }


def test_whoever_could_not_be_read_alone_stays_as_in_the_snapshot() -> None:
    before = held(ADA, BOB)
    unread = OddRecord("user", "", "k0001", problem="Keeper user k0001 was not read: (HTTP 403).")
    after = observed(
        before, Listing({"k0002": shown(before.accounts["k0002"])}, {"t0009": team_shown()}, unread=(unread,)), NOW
    )
    assert after.accounts == before.accounts
    (told,) = decide(directory([ADA, BOB], [GROUP]), after).plan.notices
    assert told.subject.name == ADA.email and "HTTP 403" in told.message


def test_it_is_told_since_when_and_kept_over_the_state_file() -> None:
    before = held(ADA)
    odd = shown(before.accounts["k0001"], active=None, unreadable=("active",))
    first = decide(directory([ADA], [GROUP]), read(before, [odd])).snapshot
    later = NOW + timedelta(hours=1)
    second = decide(
        directory([ADA], [GROUP]), observed(first, listing([odd], [team_shown()]), later), now=later
    ).snapshot
    assert [one.since for one in second.unclear.values()] == [NOW] and second.unclear == first.unclear
    assert from_json(to_json(second.odd)) == second.odd == first.odd
    third = observed(second, listing([shown(before.accounts["k0001"])], [team_shown()]), NOW)
    assert third.odd == ()
    assert not decide(directory([ADA], [GROUP]), third).snapshot.unclear


@pytest.mark.parametrize("row", [True, False])
@pytest.mark.parametrize("kind", [Kind.CREATE_USER, Kind.DEACTIVATE_USER, Kind.REACTIVATE_USER])
def test_what_cannot_be_read_settles_nothing(kind: Kind, row: bool) -> None:
    if row == (kind is Kind.CREATE_USER):
        pytest.skip("a creation has no row yet, all others have one")
    before = held(ADA) if row else snapshot([])
    odd = KeeperUser("k0001", dict(account(ADA).shown), None, frozenset(), ("active",))
    after = read(before, [odd])
    outcomes, settled = settle([(1, op(kind, ADA), NOW)], after, after, NOW)
    assert outcomes[1].state is State.UNKNOWN
    assert settled.accounts == after.accounts


@pytest.mark.parametrize("doubtful", [True, False])
@pytest.mark.parametrize("fields", [("active",), ()])
def test_whose_lock_may_have_taken_effect_unseen_is_let_in_again(fields: tuple[str, ...], doubtful: bool) -> None:
    before = held(ADA)
    (row,) = before.accounts
    odd = OddRecord("user", ADA.email, row, ADA.id, fields, "" if fields else "Keeper answered with HTTP 403")
    after = replace(before, odd=(odd,), own_locks=frozenset({row} if doubtful else ()))
    planned = decide(directory([ADA], [GROUP]), after).plan.operations
    assert [one.kind for one in planned] == [Kind.REACTIVATE_USER] * doubtful
    suspended = replace(ADA, status=Status.SUSPENDED)
    (lock,) = decide(directory([suspended], [GROUP]), after).plan.operations
    assert lock.kind is Kind.DEACTIVATE_USER, "nor does it count as locked for whoever has left"


def test_a_team_with_unreadable_fields_that_nobody_manages_is_no_team_of_ours() -> None:
    odd = KeeperTeam("tx", {"displayName": "Other", "externalId": ""}, None, ("members",))
    before = held(ADA)
    after = read(
        before, [shown(before.accounts["k0001"], teams=frozenset({TEAM.keeper_id, "tx"}))], [team_shown(), odd]
    )
    assert after.accounts["k0001"].memberships["tx"] == Membership(ours=False, seen=True, shown=True)
    assert not decide(directory([ADA], [GROUP]), after).plan.operations
    assert Standing.UNMANAGED not in {one.standing for one in after.teams.values()} and jc(9) == GROUP.id


def test_a_record_that_turns_readable_was_there_before() -> None:
    """Else a creation that Keeper links to it would pass for its birth."""
    odd = KeeperUser("kx", dict(account(ZOE).shown), None, frozenset(), ("active",))
    first = read(held(ADA), [shown(held(ADA).accounts["k0001"]), odd])
    assert first.fresh == frozenset()
    second = read(first, [replace(odd, active=True, unreadable=())])
    assert "kx" in second.accounts and second.fresh == frozenset()
