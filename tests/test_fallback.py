"""A cycle whose list of Keeper could not be had goes on from the snapshot, with less."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from reconciler.fallback import NOT_ADOPTED
from reconciler.keeper import BadToken, IncompleteRead, KeeperError
from reconciler.model import Application, Snapshot, Standing, Status, Takeover
from reconciler.plan import Kind, NoticeKind
from reconciler.policy import Policy, TeamOutOfScope, TeamPolicy
from reconciler.reading import Read, Reader
from reconciler.rows import State
from tests.operations import op, unsettled
from tests.world import MEMBER, NOW, account, decide, directory, group, snapshot, team, user

ADA, BOB, ZOE = user(1, 9), user(2, 9), user(3, 9)
GROUP, NEW = group(9), group(8)
TEAM = team(GROUP)
DOWN = IncompleteRead("Keeper's list of teams", "read", problem="it does not add up")


def held(*more: Any) -> Snapshot:
    return snapshot([account(ADA, memberships={TEAM.keeper_id: MEMBER}), *more], [TEAM])


def kinds(decision: Any) -> list[Kind]:
    return [one.kind for one in decision.plan.operations]


def test_nobody_is_created_and_no_team_is_queued_but_leavers_are_locked() -> None:
    bob = replace(BOB, status=Status.SUSPENDED)
    ada = replace(ADA, groups=frozenset({GROUP.id, NEW.id}), given_name="Augusta")
    wanted = directory([ada, bob, ZOE], [GROUP, NEW])
    before = held(account(BOB, memberships={TEAM.keeper_id: MEMBER}))
    assert Kind.CREATE_USER in kinds(decide(wanted, before)) and Kind.QUEUE_TEAM in kinds(decide(wanted, before))
    decision = decide(wanted, before, from_list=False)
    assert kinds(decision) == [Kind.DEACTIVATE_USER, Kind.UPDATE_USER]
    assert not decision.plan.operations[1].add


def test_nobody_is_adopted_and_a_wish_for_it_waits() -> None:
    stranger = account(ZOE, standing=Standing.UNMANAGED, jumpcloud_id="", takeover=Takeover.BY_ADDRESS)
    before = held(stranger)
    wanted = directory([ADA, ZOE], [GROUP])
    assert decide(wanted, before).plan.adopts
    decision = decide(wanted, before, from_list=False)
    assert not decision.plan.adopts and not decision.plan.operations
    assert decision.snapshot.accounts[stranger.keeper_id] == stranger
    told = {n.message for n in decision.plan.notices if n.subject.keeper_id == stranger.keeper_id}
    assert NOT_ADOPTED in told and not any("not in scope" in words for words in told)


def test_an_account_is_not_taken_over_from_its_owner_and_not_locked_for_it() -> None:
    old = account(BOB, takeover=Takeover.BY_ADDRESS, shown={**account(BOB).shown, "userName": ZOE.email})
    bob = replace(BOB, groups=frozenset())
    before = held(replace(old, left_at=None))
    decision = decide(directory([ADA, bob, ZOE], [GROUP]), before, from_list=False)
    assert Kind.CREATE_USER not in kinds(decision) and not decision.plan.adopts
    assert decision.snapshot.accounts[old.keeper_id].jumpcloud_id == BOB.id


def test_an_account_that_gets_another_owner_once_keeper_is_listed_is_neither_locked_nor_changed() -> None:
    """A person has named it for whoever has its address now; of its former owner nothing is left in JumpCloud."""
    given = account(BOB, takeover=Takeover.BY_ADDRESS, shown={**account(BOB).shown, "userName": ZOE.email})
    decision = decide(directory([ADA, ZOE], [GROUP]), held(given), from_list=False)
    assert not decision.plan.operations
    assert any(n.subject.keeper_id == given.keeper_id and "is not locked" in n.message for n in decision.plan.notices)
    # An old copy of the state file knows another account of theirs, which is somebody else's by now.
    former = account(ZOE, shown={"userName": "x@example.com"}, active=False, locked_by_us=True)
    theirs = replace(account(ZOE), keeper_id="k9", standing=Standing.UNMANAGED, jumpcloud_id="")
    decision = decide(directory([ADA, ZOE], [GROUP]), held(former, theirs), from_list=False)
    assert not decision.plan.operations


def test_a_team_is_not_taken_over_by_a_group_of_its_name() -> None:
    again = group(7, GROUP.name)
    before = held()
    wanted = replace(directory([user(1, 7)], [again]), gone_groups=frozenset({GROUP.id}))
    assert decide(wanted, before).snapshot.teams[TEAM.keeper_id].jumpcloud_id == again.id
    decision = decide(wanted, before, from_list=False)
    assert decision.snapshot.teams == before.teams
    assert Kind.QUEUE_TEAM not in kinds(decision)


def test_a_team_that_gets_another_group_once_keeper_is_listed_stays_as_it_is() -> None:
    """Nobody loses what it holds, or gets it; neither is it deleted, nor given the name and id of either group."""
    again = group(7, GROUP.name)
    policy = Policy(grace=timedelta(0), teams=TeamPolicy(out_of_scope=TeamOutOfScope.DELETE))
    wanted = replace(directory([user(1, 7)], [again]), gone_groups=frozenset({GROUP.id}))
    locked = account(ADA, memberships={TEAM.keeper_id: MEMBER}, active=False, locked_by_us=True)
    for before in (held(), snapshot([locked], [TEAM])):
        kinds_due = kinds(decide(wanted, before, policy, from_list=False))
        assert not {Kind.UPDATE_USER, Kind.DELETE_TEAM, Kind.RENAME_TEAM} & {*kinds_due}
    # It was to be that of the group that was made again, and the former one is back before that has arrived.
    tied = replace(TEAM, jumpcloud_id=again.id, asked={}, settled={})
    before = snapshot([account(BOB), account(user(3, 7))], [tied])
    back = decide(directory([BOB, user(3, 7)], [again, GROUP]), before, policy, from_list=False)
    assert not back.plan.operations


def test_whoever_has_an_operation_without_a_known_outcome_is_locked_at_most() -> None:
    ada = replace(ADA, given_name="Augusta")
    bob = replace(BOB, status=Status.SUSPENDED)
    before = held(account(BOB))
    uncertain = frozenset({ADA.id, BOB.id})
    decision = decide(directory([ada, bob], [GROUP]), before, from_list=False, uncertain=uncertain)
    assert kinds(decision) == [Kind.DEACTIVATE_USER]


# The reading.


def read(before: Snapshot, error: Exception, unknown: Any = (), **options: Any) -> Read:
    async def listed(*_: object, **__: object) -> None:
        raise error

    async def scope(*_: object) -> None:
        return None

    async def found(*_: object) -> Any:
        return directory([ADA], [GROUP])

    services: Any = SimpleNamespace(
        jumpcloud=SimpleNamespace(read_scope=scope, read_directory=found),
        keeper=SimpleNamespace(listing=listed, user=listed),
        scim_url="https://keeper.example/1",
        inventory=None,
    )
    reader = Reader(services, "o" * 24, Application("a" * 24, "Keeper"), before, unknown, NOW)
    return asyncio.run(reader.everybody(TeamPolicy(), resync=True, **{"reviewed": True, **options}))


def test_a_resync_without_a_list_is_a_cycle_from_the_snapshot_and_settles_nothing_without_a_record() -> None:
    row = unsettled(op(Kind.REACTIVATE_USER, ADA), State.UNKNOWN)
    found = read(held(), DOWN, [row])
    assert (found.kind, found.fallback, found.outcomes) == ("cycle", str(DOWN), {})
    assert found.snapshot.accounts == held().accounts
    assert found.uncertain == {ADA.id}
    (told,) = found.notices
    assert told.kind is NoticeKind.QUARANTINED
    for words in ("Keeper's list of teams was not read", "nobody was created or adopted", "lists Keeper again"):
        assert words in told.message


@pytest.mark.parametrize(
    ("before", "error", "options"),
    [
        pytest.param(Snapshot(), DOWN, {}, id="there is no snapshot"),
        pytest.param(held(), DOWN, {"reviewed": False}, id="the first plan is not reviewed"),
        pytest.param(held(), DOWN, {"may_fall_back": False}, id="a saved plan"),
        pytest.param(held(), BadToken("Keeper's list of users", "read"), {}, id="a refused token"),
    ],
)
def test_it_fails_where_there_is_nothing_to_fall_back_on(
    before: Snapshot, error: KeeperError, options: dict[str, Any]
) -> None:
    with pytest.raises(type(error)):
        read(before, error, **options)
