"""A Keeper that behaves otherwise once its canaries have passed: not everybody meets with what the first people met."""

import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from reconciler.simulator.faults import Answer, Handler
from reconciler.simulator.keeper import Keeper
from reconciler.simulator.service import Request
from tests.inside import accept, account, fill
from tests.stage import World

PEOPLE = 12


@dataclass(frozen=True)
class Also:
    """Does something else besides what each change of a user asks for."""

    keeper: Keeper
    effect: Callable[[Keeper, str, list[str]], None]

    def run(self, handle: Handler, request: Request) -> Answer:
        user = request.target.rsplit("/", 1)[1]
        answer = handle(request)
        self.effect(self.keeper, user, _added(json.loads(request.body)))
        return answer


def _added(document: dict[str, list[dict[str, list[dict[str, str]]]]]) -> list[str]:
    adds = [one["value"] for one in document["Operations"] if str(one["op"]).lower() == "add"]
    return [team["value"] for teams in adds for team in teams]


def replaces(keeper: Keeper, user: str, added: list[str]) -> None:
    for team in keeper.teams() if added else ():
        if team not in added and user in keeper.members(team):
            keeper.remove_member(user, team)


def locks(keeper: Keeper, user: str, _: list[str]) -> None:
    keeper.lock(user)


def deletes(keeper: Keeper, user: str, _: list[str]) -> None:
    keeper.delete_user(user)


def gives(keeper: Keeper, user: str, added: list[str]) -> None:
    for team in keeper.teams() if added else ():
        keeper.add_member(user, team)
        keeper.approve_all()


@dataclass(frozen=True)
class Empties:
    """Takes every member out of a team that is renamed, as if the change named no members to keep."""

    keeper: Keeper

    def run(self, handle: Handler, request: Request) -> Answer:
        handle(request)
        team = request.target.rsplit("/", 1)[1]
        for member in self.keeper.members(team):
            self.keeper.remove_member(member, team)
        return handle(Request("GET", request.target, request.headers))


def at_work(world: World) -> list[str]:
    world.safety |= dict.fromkeys(("max_deactivations", "max_removals", "max_creations", "max_grants"), "1000")
    world.write_settings()
    _groups, ids = fill(world, PEOPLE)
    world.group("Extra")
    world.run("apply")
    accept(world)
    world.keeper.approve_all()
    world.run("resync")
    return ids


def joins_extra(world: World, people: list[str]) -> None:
    extra = next(g.id for g in world.jumpcloud.organization().groups.values() if g.name == "Extra")
    for one in people:
        world.jumpcloud.add_member(extra, one)
    world.jumpcloud.settle_graph()


def without_team(world: World, people: list[str]) -> int:
    """How many of these people, each of whom belongs to two teams, lack one."""
    keeper = world.keeper
    teams = [sum(account(world, one).id in keeper.members(team) for team in keeper.teams()) for one in people]
    return sum(number < 2 for number in teams)


@pytest.mark.parametrize("reply", ["body", "none"])
def test_additions_that_replace_are_not_repeated_by_each_resync(world: World, reply: str) -> None:
    ids = at_work(world)
    joins_extra(world, ids[:1])
    world.run("apply")  # the canary
    world.keeper.set_dialect(patch_reply=reply)
    world.back.faults.add(Also(world.keeper, replaces), method="PATCH", target="/Users/")
    joins_extra(world, ids[1:])
    world.run("apply")
    lost = without_team(world, ids)
    assert lost
    for command in ("resync", "apply", "apply"):
        done = world.run(command, expect=5)
        assert "out of 1 other team" in " ".join(done.stdout.split())
    assert without_team(world, ids) == lost
    world.back.faults.clear()
    world.run("apply")
    world.run("apply")
    assert world.differences() == []


@pytest.mark.parametrize("reply", ["body", "none"])
def test_additions_that_give_another_team_too_are_not_repeated_by_a_resync(world: World, reply: str) -> None:
    ids = at_work(world)
    world.keeper.set_dialect(patch_reply=reply)
    world.back.faults.add(Also(world.keeper, gives), method="PATCH", target="/Users/")
    joins_extra(world, ids)
    out = " ".join(world.run("apply", expect=5).stdout.split())
    assert "into 1 team that nobody asked for" in out and "No further update_user is sent" in out
    for number in (2, 3):
        out = " ".join(world.run("resync", expect=5).stdout.split())
        assert "into 1 team that nobody asked for" in out and "given by hand" not in out
        assert sum(len(one.teams) == 3 for one in world.keeper.accounts().values()) == number
    world.back.faults.clear()
    world.run("apply", expect=None)
    world.run("resync")
    assert all(len(one.teams) >= 2 for one in world.keeper.accounts().values())


def test_an_update_that_locks_stops_the_updates(world: World) -> None:
    ids = at_work(world)
    joins_extra(world, ids[:1])
    world.run("apply")
    world.keeper.set_dialect(patch_reply="none")
    world.back.faults.add(Also(world.keeper, locks), method="PATCH", target="/Users/")
    joins_extra(world, ids[1:3])
    world.run("apply")
    joins_extra(world, ids[3:])
    done = world.run("resync", expect=5)
    assert "locked the user" in " ".join(done.stdout.split())
    assert sum(not account(world, one).active for one in ids) == 3


def test_locks_that_delete_reach_three_people_however_many_are_sent_at_once(world: World) -> None:
    ids = at_work(world)
    world.jumpcloud.suspend(ids[0])
    world.run("apply")
    world.back.faults.add(Also(world.keeper, deletes), method="PATCH", target="/Users/")
    for one in ids[1:]:
        world.jumpcloud.suspend(one)
    world.run("apply", expect=5)
    assert len(world.keeper.accounts()) == PEOPLE - 3
    held = " ".join(world.run("apply", expect=4).stdout.split())
    assert "Check in Keeper's Admin Console whether the accounts that are gone" in held
    assert len(world.keeper.accounts()) == PEOPLE - 3


def test_a_rename_that_empties_the_team_reaches_one_team(world: World) -> None:
    at_work(world)
    world.back.faults.add(Empties(world.keeper), method="PATCH", target="/Groups/")
    for group in list(world.jumpcloud.organization().groups.values()):
        # The team without members goes first: it could lose none, and tells nothing.
        world.jumpcloud.rename_group(group.id, f"{'A' if group.name == 'Extra' else 'The'} {group.name}")
    out = " ".join(world.run("apply", expect=5).stdout.split())
    assert f"took {PEOPLE // 2} members out of the team" in out and "No further rename_team is sent" in out
    held = sorted(len(world.keeper.members(team)) for team in world.keeper.teams())
    assert held == [0, 0, PEOPLE // 2]
    world.back.faults.clear()
    world.run("apply")
    world.keeper.approve_all()
    world.run("apply", "--resync")
    assert world.differences() == []
