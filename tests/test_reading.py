"""Both sides are read at the same time."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from reconciler.jumpcloud import UnexpectedReply
from reconciler.keeper import BadToken
from reconciler.model import Application, OddRecord, Snapshot, Standing, Status
from reconciler.plan import Change, Kind
from reconciler.policy import TeamPolicy
from reconciler.reading import Read, Reader, as_resync
from reconciler.rows import State
from reconciler.settle import REPEATED, Settled
from tests.fakes import Keeper
from tests.operations import op, ref, shown, shown_team, team_op, unsettled
from tests.world import NOW, account, directory, group, listing, snapshot, team, user


def test_a_read_that_fails_ends_the_others_and_is_the_one_error() -> None:
    """Else Keeper would be asked on, page after page, in the pause that follows a failed cycle."""
    ended: list[str] = []

    async def listed(*_: object, **__: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("the list of Keeper")

    async def read_scope(*_: object) -> None:
        raise UnexpectedReply("JumpCloud: the scope can't be read")

    services: Any = SimpleNamespace(
        jumpcloud=SimpleNamespace(read_scope=read_scope),
        keeper=SimpleNamespace(listing=listed),
        scim_url="https://keeper.example/1",
        inventory=None,
    )
    reader = Reader(services, "o" * 24, Application("a" * 24, "Keeper"), Snapshot(), (), NOW)

    async def read() -> None:
        with pytest.raises(UnexpectedReply, match="the scope can't be read"):
            await reader.everybody(TeamPolicy(), reviewed=True, resync=True)
        assert ended == ["the list of Keeper"]

    asyncio.run(read())


def test_what_only_the_inventory_told_is_said_so_also_where_keeper_is_listed_after_it() -> None:
    told = Settled(State.DONE, "found queued in Keeper's inventory")
    row = unsettled(team_op(Kind.QUEUE_TEAM, group(9)), State.UNKNOWN)
    held = snapshot([], [team(group(9), seen=False)])
    read = Read(directory([], [group(9)]), held, held, "cycle", unknown=[row], outcomes={1: told})

    async def listed(*_: object, **__: object) -> Any:
        return listing([])

    after = asyncio.run(as_resync(SimpleNamespace(listing=listed), read, NOW, None))  # type: ignore[arg-type]
    assert after.kind == "resync" and after.outcomes == {1: told}


def test_an_account_that_could_not_be_read_again_tells_nothing_of_what_was_sent() -> None:
    """A lock that arrived, and was said to have failed: the account stood in the snapshot as it had been before."""
    ada = user(1, status=Status.SUSPENDED)

    async def record(*_: object) -> Any:
        return ada

    async def refused(*_: object) -> None:
        raise BadToken("a user", "read")

    services: Any = SimpleNamespace(jumpcloud=SimpleNamespace(record=record), keeper=SimpleNamespace(user=refused))
    row = unsettled(op(Kind.DEACTIVATE_USER, ada), State.SENT)
    held = snapshot([account(ada)])
    reader = Reader(services, "o" * 24, Application("a" * 24, "Keeper"), held, [row], NOW + timedelta(hours=1))
    found = asyncio.run(reader.suspended([ada.id]))
    assert found.snapshot.accounts == held.accounts
    assert not found.outcomes


def test_a_former_account_whose_state_is_hidden_hides_nothing_of_the_one_that_is_there() -> None:
    ada = user(1, status=Status.SUSPENDED)
    memory = account(ada, keeper_id="k9", standing=Standing.UNMANAGED, jumpcloud_id="", gone=True)

    async def record(*_: object) -> Any:
        return ada

    keeper = Keeper([shown(account(ada), active=False)])
    services: Any = SimpleNamespace(jumpcloud=SimpleNamespace(record=record), keeper=keeper)
    row = unsettled(op(Kind.DEACTIVATE_USER, ada), State.SENT)
    odd = OddRecord("user", "", "k9", fields=("active",))
    held = snapshot([account(ada), memory], odd=(odd,))
    reader = Reader(services, "o" * 24, Application("a" * 24, "Keeper"), held, [row], NOW + timedelta(hours=1))
    assert asyncio.run(reader.suspended([ada.id])).outcomes


def test_what_a_repetition_has_done_does_not_prove_the_first_request() -> None:
    """A membership that hides was counted on, although the request for it had never arrived."""
    ada, sales = user(1, 8), group(8)
    names = (Change("displayName", "", "Ada"),)
    first = op(Kind.UPDATE_USER, ada, changes=names, add=(ref(sales),))
    row = unsettled(first, State.UNKNOWN, repeated=True)
    held = snapshot([account(ada)], [team(sales)])
    read = Read(directory([ada], [sales]), held, held, "cycle", unknown=[row])

    async def listed(*_: object, **__: object) -> Any:
        return listing([replace(shown(account(ada)), attributes={**account(ada).shown, "displayName": "Ada"})])

    after = asyncio.run(as_resync(SimpleNamespace(listing=listed), read, NOW, None))  # type: ignore[arg-type]
    assert after.outcomes[1] == REPEATED
    assert not after.snapshot.accounts[account(ada).keeper_id].memberships


def test_a_team_that_shows_is_that_of_the_first_request_also_after_a_repetition() -> None:
    """Else it would pass for given by hand, and be left to whoever has left the group."""
    ada, sales = user(1, 8), group(8)
    first = op(Kind.UPDATE_USER, ada, changes=(Change("displayName", "", "Ada"),), add=(ref(sales),))
    row = unsettled(first, State.UNKNOWN, repeated=True)
    held = snapshot([account(ada)], [team(sales)])
    read = Read(directory([ada], [sales]), held, held, "cycle", unknown=[row])

    async def listed(*_: object, **__: object) -> Any:
        return listing([shown(account(ada), sales)], [shown_team(sales)])

    after = asyncio.run(as_resync(SimpleNamespace(listing=listed), read, NOW, None))  # type: ignore[arg-type]
    assert after.outcomes[1].state is State.DONE
    assert after.snapshot.accounts[account(ada).keeper_id].memberships[team(sales).keeper_id].ours


def test_what_keeper_took_with_an_effect_that_nobody_asked_for_is_not_said_to_have_failed() -> None:
    ada, sales = user(1, 8), group(8)
    row: Any = SimpleNamespace(
        id=1,
        operation=op(Kind.UPDATE_USER, ada, add=(ref(sales),)),
        state=State.UNKNOWN,
        sent_at=NOW,
        planned_at=NOW,
        repeated=False,
        undone=False,
        outcome="unasked_effect",
    )
    held = snapshot([account(ada)], [team(sales)])
    read = Read(directory([ada], [sales]), held, held, "cycle", unknown=[row])

    async def listed(*_: object, **__: object) -> Any:
        return listing([shown(account(ada))], [shown_team(sales)])

    after = asyncio.run(as_resync(SimpleNamespace(listing=listed), read, NOW, None))  # type: ignore[arg-type]
    assert after.outcomes[1].state is State.PUT_OFF and "Keeper took it" in after.outcomes[1].words
