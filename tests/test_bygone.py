"""Accounts and teams that nobody manages and Keeper does not have any more: remembered, and counted nowhere."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.births import owners
from reconciler.cycle import look_back
from reconciler.decisions import NothingDecided, adopt
from reconciler.metrics import measure
from reconciler.model import Account, Directory, KeeperUser, Membership, Snapshot, Standing, Status, Takeover
from reconciler.person import in_snapshot
from reconciler.plan import Kind, NoticeKind
from reconciler.policy import Policy, TeamPolicy
from reconciler.report.teams import document
from reconciler.snapshot import given_up, observed, superseded
from reconciler.standing import Standing as Stands
from reconciler.store import Store
from tests.world import MEMBER, NOW, account, decide, directory, group, jc, listing, snapshot, team, user

ENG = group(9)
ADA, EVE = user(1, 9), user(2)
OURS = snapshot([account(ADA, memberships={team(ENG).keeper_id: MEMBER})], [team(ENG)])
LOST = account(
    EVE,
    standing=Standing.UNMANAGED,
    jumpcloud_id="",
    gone=True,
    missed_at=NOW,
    shown={"userName": "lost@example.com", "externalId": jc(77)},
    memberships={team(ENG).keeper_id: Membership(ours=False, seen=True, shown=True)},
)
LOST_TEAM = team(group(8), standing=Standing.UNMANAGED, jumpcloud_id="", gone=True, missed_at=NOW)


def remembering(held: Snapshot) -> Snapshot:
    return replace(
        held,
        accounts={**held.accounts, LOST.keeper_id: LOST},
        teams={**held.teams, LOST_TEAM.keeper_id: LOST_TEAM},
    )


@pytest.mark.parametrize("reviewed", [True, False])
@pytest.mark.parametrize("scope", [[], [ADA], [ADA, user(3, 9)]])
def test_a_plan_is_the_same(scope: list, reviewed: bool) -> None:  # type: ignore[type-arg]
    wanted, held = directory(scope, [ENG]), replace(OURS, reviewed=reviewed)
    made, other = decide(wanted, held), decide(wanted, remembering(held))
    assert made.plan == other.plan
    assert other.snapshot.accounts[LOST.keeper_id] == LOST and other.snapshot.teams[LOST_TEAM.keeper_id] == LOST_TEAM


def test_the_metrics_and_the_report_of_teams_are_the_same() -> None:
    for held in (OURS, Snapshot()):
        policy = Policy()
        assert measure("", remembering(held), Stands(), policy, 0) == measure("", held, Stands(), policy, 0)
        assert document(remembering(held), TeamPolicy(), NOW) == document(held, TeamPolicy(), NOW)


def test_nothing_is_asked_about_it_and_nobody_is_found_by_it() -> None:
    assert set(owners(remembering(OURS))) == set(owners(OURS))
    found = in_snapshot(remembering(OURS), "lost@example.com", None)
    assert found.key == "" and not found.snapshot.accounts
    joins = in_snapshot(remembering(OURS), "lost@example.com", user(3, email="lost@example.com"))
    assert joins.snapshot.accounts and not joins.there.accounts


def test_a_person_can_not_adopt_it_nor_sees_it(tmp_path: Path) -> None:
    with Store.open(tmp_path / "reconciler.db", write=True) as store:
        store.save(remembering(OURS), store.snapshot())
        for words, whom in (
            ("not in the snapshot", {"email": "lost@example.com"}),
            ("Keeper has no user whom we do not manage", {}),
            ("0 Keeper teams that we do not manage", {"team": "Group 8"}),
        ):
            with pytest.raises(NothingDecided, match=words):
                adopt(store, NOW, "root", "", **whom)
        assert not look_back(store, "lost@example.com").snapshot.accounts


# -- the former account of somebody who has another ------------------------------------------------------------------

ZOE = user(4, direct=True)
BACK = replace(superseded(account(ADA, keeper_id="k9", gone=True, active=False), NOW), gone=False, missed_at=None)
OTHER = account(ADA, gone=True, active=False, locked_by_us=True, left_at=NOW)


def locks(wanted: Directory, *held: Account) -> list[tuple[str, str]]:
    made = decide(wanted, snapshot([*held, account(ZOE)]))
    return [(one.kind.value, one.subject.keeper_id) for one in made.plan.operations]


@pytest.mark.parametrize("address", ["ada@example.com", ZOE.email])
@pytest.mark.parametrize("shown_id", [ADA.id, ""])
def test_the_former_account_of_a_leaver_is_locked_once_it_is_back(address: str, shown_id: str) -> None:
    """Under an address that is by now that of somebody in scope a person agrees to it, who may have been given it."""
    back = replace(BACK, shown={**BACK.shown, "userName": address, "externalId": shown_id})
    for wanted in (directory([ZOE]), directory([ZOE, user(1, status=Status.SUSPENDED)])):
        assert locks(wanted, back, OTHER) == [("deactivate_user", "k9")]
        learnt = decide(wanted, snapshot([back, OTHER, account(ZOE)])).snapshot.accounts
        assert learnt["k9"].managed and learnt["k9"].jumpcloud_id == ADA.id
        assert learnt["k9"].review_lock is (address == ZOE.email)
        assert learnt[OTHER.keeper_id].bygone and learnt[OTHER.keeper_id].locked_by_us


def test_it_is_given_back_under_their_former_address_too_which_somebody_else_has_by_now() -> None:
    learnt = decide(directory([user(1, status=Status.SUSPENDED)]), snapshot([BACK, OTHER])).snapshot.accounts["k9"]
    swapped = directory([replace(ADA, email="ada.new@example.com"), user(7, direct=True, email=ADA.email)])
    made = decide(swapped, snapshot([replace(learnt, active=False, locked_by_us=True)]))
    assert [op.kind for op in made.plan.operations if op.subject.keeper_id == "k9"] == [Kind.REACTIVATE_USER]


def test_it_stays_whosever_it_is_where_its_owner_is_in_scope_or_has_the_other_account() -> None:
    staged = user(1, status=Status.STAGED)
    for wanted, held in (
        (directory([ZOE]), [BACK, replace(OTHER, gone=False)]),
        (directory([ZOE]), [replace(BACK, gone=True), OTHER]),
        (directory([ZOE, replace(staged, direct=True)]), [BACK, OTHER]),
        (directory([ZOE]), [replace(BACK, shown={**BACK.shown, "externalId": jc(7)}), OTHER]),
        (directory([ZOE]), [replace(BACK, asked={}), OTHER]),
        (directory([ZOE]), [replace(BACK, takeover=Takeover.BY_ADDRESS, shown={"userName": ZOE.email}), OTHER]),
    ):
        assert not [one for one in locks(wanted, *held) if one[1] == "k9"]


@pytest.mark.parametrize("keeper_id", ["k9", "k0"])
def test_of_two_accounts_of_a_leaver_the_one_that_is_there_is_locked_whichever_id_it_has(keeper_id: str) -> None:
    """A cycle has kept the row of the former one, beside which somebody else's look had created the other."""
    gone = account(ADA, gone=True, active=False, left_at=NOW - timedelta(hours=1))
    there = account(ADA, keeper_id=keeper_id, left_at=NOW - timedelta(hours=1))
    for wanted, rule in ((directory([ZOE]), "deleted"), (directory([ZOE, user(1)]), "left")):
        made = decide(wanted, snapshot([gone, there, account(ZOE)]))
        assert [(op.subject.keeper_id, op.rule.value) for op in made.plan.operations] == [(keeper_id, rule)]
        assert made.snapshot.accounts[gone.keeper_id].bygone
        assert made.snapshot.accounts[gone.keeper_id].owned_once == ADA.id
    protected = snapshot([replace(gone, protected_as="boss@example.com"), there, account(ZOE)])
    kept = decide(directory([ZOE]), protected, Policy(protect=frozenset({"boss@example.com"})))
    assert not kept.plan.operations, "whoever is protected stays so"


def test_it_is_given_to_nobody_else_whose_address_it_has() -> None:
    back = replace(BACK, shown={"userName": ZOE.email, "externalId": ""})
    made = decide(directory([ADA, ZOE]), snapshot([back, account(ADA)]))
    assert not made.plan.operations and not made.snapshot.accounts["k9"].managed
    assert [one.kind for one in made.plan.notices if one.subject.jumpcloud_id == ZOE.id] == [NoticeKind.CONFLICT]


@pytest.mark.parametrize(
    ("held", "active", "locked_by_us"),
    [
        (account(ADA, gone=True, active=False), True, False),
        (account(ADA, gone=True, active=False, others_lock=True), False, False),
        (account(ADA, gone=True, active=False, locked_by_us=True), False, True),
    ],
)
def test_what_is_left_of_an_account_stands_as_it_was_last_shown(
    held: Account, active: bool, locked_by_us: bool
) -> None:
    left = superseded(held, NOW)
    assert left.bygone and (left.active, left.locked_by_us) == (active, locked_by_us) and left.missed_at == NOW
    assert left.locked_by_others == held.locked_by_others and left.owned_once == ADA.id


FOUND = account(ADA, keeper_id="k9", standing=Standing.UNMANAGED, jumpcloud_id="", asked={}, found_for=ADA.id)
UNTIED = replace(FOUND, shown={**FOUND.shown, "externalId": ""})
TIED = replace(UNTIED, standing=Standing.MANAGED, jumpcloud_id=ADA.id, left_at=NOW, review_lock=True)


@pytest.mark.parametrize("held", [[], [OTHER]])
def test_a_person_agrees_to_the_lock_of_an_account_that_an_unreviewed_plan_found(held: list[Account]) -> None:
    learnt = decide(directory([ZOE]), snapshot([FOUND, *held, account(ZOE)])).snapshot.accounts
    assert learnt["k9"].managed and learnt["k9"].review_lock
    assert not given_up(learnt["k9"]).found_for


@pytest.mark.parametrize("held", [[], [OTHER]])
def test_such_an_account_is_no_leavers_where_somebody_in_scope_has_its_address(held: list[Account]) -> None:
    back = replace(UNTIED, shown={**UNTIED.shown, "userName": ZOE.email})
    made = decide(directory([ZOE]), snapshot([back, *held, account(ZOE)]))
    assert not made.plan.operations and not made.snapshot.accounts["k9"].managed


def told(wanted: Directory, held: Account, focus: frozenset[str] | None = None) -> list[NoticeKind]:
    """The kinds of notices about an account that is not locked."""
    made = decide(wanted, snapshot([held, account(ZOE)]), focus=focus)
    assert bool(made.plan.operations) is not bool(made.plan.notices)
    return [one.kind for one in made.plan.notices]


def test_that_it_was_found_is_told_where_its_person_comes_back_and_somebody_else_has_its_address() -> None:
    """It carries no id of theirs."""
    moved = replace(ADA, email="ada.new@example.com")
    both = directory([moved, ZOE, user(7, direct=True, email=ADA.email)])
    made = decide(both, snapshot([replace(TIED, settled={}), account(ZOE)]))
    told = {one.subject.jumpcloud_id: one.message for one in made.plan.notices}
    assert f"{ADA.email} was found for this person, but has the address of" in told[ADA.id]


def test_nor_is_it_locked_once_somebody_in_scope_has_its_address() -> None:
    assert not told(directory([ZOE]), TIED)
    moved = KeeperUser("k9", {**TIED.shown, "userName": ZOE.email}, active=True, teams=frozenset())
    seen = observed(snapshot([TIED]), listing([moved]), NOW).accounts["k9"]
    assert told(directory([ZOE]), seen) == [NoticeKind.CONFLICT]
    assert told(directory([]), TIED, frozenset({ADA.id})) == [NoticeKind.UNCONFIRMED]
    by_id = {"externalId": ADA.id}
    for tied in (replace(seen, asked=by_id), replace(seen, shown={**seen.shown, **by_id})):
        assert not told(directory([ZOE]), tied)
