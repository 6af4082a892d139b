"""What nobody manages and Keeper does not have any more: remembered, and counted nowhere."""

from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.cycle import look_back
from reconciler.decisions import adopt
from reconciler.metrics import measure
from reconciler.model import Membership, Snapshot, Standing
from reconciler.person import in_snapshot
from reconciler.policy import Policy, TeamPolicy
from reconciler.reading import _ids_of_interest
from reconciler.report.teams import document
from reconciler.standing import Standing as Stands
from reconciler.store import Store
from tests.world import MEMBER, NOW, account, decide, directory, group, jc, snapshot, team, user

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
    assert set(_ids_of_interest(remembering(OURS))) == set(_ids_of_interest(OURS))
    found = in_snapshot(remembering(OURS), "lost@example.com", None)
    assert found.key == "" and not found.snapshot.accounts
    joins = in_snapshot(remembering(OURS), "lost@example.com", user(3, email="lost@example.com"))
    assert joins.snapshot.accounts and not joins.there.accounts


def test_a_person_can_not_adopt_it_nor_sees_it(tmp_path: Path) -> None:
    with Store.open(tmp_path / "reconciler.db", write=True) as store:
        store.save(remembering(OURS), store.snapshot())
        assert "not in the snapshot" in adopt(store, NOW, "root", "", email="lost@example.com")
        assert "0 Keeper users will be taken over" in adopt(store, NOW, "root", "")
        assert "0 Keeper teams that we do not manage" in adopt(store, NOW, "root", "", team="Group 8")
        assert not look_back(store, "lost@example.com", "offline").snapshot.accounts
