"""A refusal about one person keeps nothing else from them, and nobody else waiting."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from reconciler import apply, cycle
from reconciler.simulator.faults import status
from reconciler.simulator.service import Request, Response
from tests.inside import Inside, accept, account, fill
from tests.stage import World

LIMITS = ("max_deactivations", "max_removals", "max_creations", "max_grants", "max_reactivations")
Handle = Callable[[Request], Any]


@dataclass(frozen=True)
class Answered:
    """A fault that answers in the service's place."""

    by: Callable[[Handle, Request], Any]

    def run(self, handle: Handle, request: Request) -> Any:
        return self.by(handle, request)


def refusing(words: bytes) -> Answered:
    """Keeper refuses every request that says these words."""

    def answer(handle: Handle, request: Request) -> Any:
        if words in request.body.replace(b'": "', b'":"'):
            return Response.of_json(400, {"detail": "no"})
        return handle(request)

    return Answered(answer)


def at_work(world: World, people: int = 8, **policy: str) -> tuple[list[str], list[str]]:
    """Groups and people who have accepted; everybody is in both groups, and nothing is limited."""
    world.safety |= dict.fromkeys(LIMITS, "1000")
    world.policy |= policy
    world.write_settings()
    groups, ids = fill(world, people)
    for one in ids:
        for group in groups:
            world.jumpcloud.add_member(group, one)
    world.jumpcloud.settle_graph()
    world.run("apply")
    accept(world)
    world.keeper.approve_all()
    world.run("resync")
    return groups, ids


def is_in(world: World, jumpcloud_id: str, name: str) -> bool:
    (team,) = (key for key, one in world.keeper.teams().items() if one.name == name)
    return account(world, jumpcloud_id).id in world.keeper.members(team)


def test_a_refused_address_keeps_nobody_locked_out(world: World) -> None:
    """Keeper is reported to refuse addresses of domains that are not reserved."""
    _, ids = at_work(world, address_change='"send"')
    world.jumpcloud.suspend(ids[1])
    world.run("apply")
    world.jumpcloud.update_user(ids[1], email="p1@elsewhere.org")
    world.jumpcloud.activate(ids[1])
    world.run("apply", expect=0)
    assert account(world, ids[1]).active
    said = world.run("apply", expect=5).stdout
    assert "p1@elsewhere.org" in said, "the address is asked for by itself, and told"


def test_a_taken_address_keeps_nobody_in_a_team(world: World) -> None:
    groups, ids = at_work(world, address_change='"send"')
    world.keeper.take_elsewhere("new1@example.com")
    world.jumpcloud.update_user(ids[1], email="new1@example.com")
    world.jumpcloud.remove_member(groups[1], ids[1])
    world.jumpcloud.settle_graph()
    world.run("apply", expect=0)
    assert not is_in(world, ids[1], "Sales") and is_in(world, ids[1], "Engineering")


@pytest.mark.parametrize("what", ["return", "removal", "addition", "creation"])
def test_a_refused_name_keeps_nothing_else_back(world: World, what: str) -> None:
    groups, ids = at_work(world)
    world.back.faults.add(refusing(b'"Refused"'))
    if what == "return":
        world.jumpcloud.suspend(ids[1])
    if what in ("removal", "addition"):
        world.jumpcloud.remove_member(groups[1], ids[1])
        world.jumpcloud.settle_graph()
    if what in ("return", "addition"):
        world.run("apply")
    if what == "return":
        world.jumpcloud.activate(ids[1])
    if what == "addition":
        world.jumpcloud.add_member(groups[1], ids[1])
    person = world.person("zoe", groups[0]) if what == "creation" else ids[1]
    world.jumpcloud.update_user(person, lastname="Refused")
    world.jumpcloud.settle_graph()
    world.run("apply", expect=0)
    assert account(world, person).active
    if what in ("removal", "addition"):
        assert is_in(world, person, "Sales") is (what == "addition")
    for _ in range(2):  # a newcomer's teams follow, and then the name by itself
        world.run("apply", expect=None)
    told = json.loads(world.run("status", "--json").stdout)["failing"]
    assert account(world, person).email in json.dumps(told)
    if what == "creation":
        assert is_in(world, person, "Engineering") or account(world, person).pending_teams


def test_a_link_is_undone_though_keeper_refuses_one_of_the_names(world: World) -> None:
    groups, _ = at_work(world)
    world.keeper.set_dialect(links_aliases=True, link_unlocks=True)
    key = world.keeper.add_user("zoe@example.com")
    world.keeper.accept_invitation(key)
    world.keeper.change_email(key, "old.zoe@example.com", keep_alias=True)
    world.keeper.lock(key)
    world.run("resync")
    before = world.keeper.account(key)
    world.back.faults.add(refusing(b'Name":""'), method="PATCH")
    world.person("zoe", groups[0])
    world.run("apply", expect=None)
    after = world.keeper.account(key)
    assert (after.active, after.external_id or None, after.teams) == (False, before.external_id or None, before.teams)
    assert after.pending_teams == before.pending_teams


@pytest.mark.parametrize("lane", [False, True])
def test_leavers_whom_keeper_forbids_keep_no_other_back(world: World, lane: bool) -> None:
    """Three in a row make the kind rest; in the next cycle they come last."""
    _, ids = at_work(world, 12)
    for one in ids[:3]:
        world.back.faults.add(status(403), method="PATCH", target=f"/Users/{account(world, one).id}")
    for one in ids[:6]:
        world.jumpcloud.suspend(one)
    for _ in range(2):
        active = frozenset(one for one in ids[:6] if account(world, one).active)
        Inside(world).run(cycle.Order(leavers=active if lane else frozenset()))
    assert [account(world, one).active for one in ids[:6]] == [True] * 3 + [False] * 3


def test_leavers_whom_keeper_does_not_lock_keep_no_other_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As owners of a node may be: Keeper takes the lock, and they stay active. The kind was not opened yet."""
    monkeypatch.setattr(apply, "LOOK_AGAIN", (0.01,))
    _, ids = at_work(world)
    ignored = Answered(lambda handle, request: handle(Request("GET", request.target, request.headers)))
    for one in ids[:2]:
        world.back.faults.add(ignored, method="PATCH", target=f"/Users/{account(world, one).id}")
    for one in ids[:4]:
        world.jumpcloud.suspend(one)
    inside = Inside(world)
    for _ in range(3):
        inside.run()
        inside.later(minutes=5)
    assert [account(world, one).active for one in ids[:4]] == [True, True, False, False]


def test_newcomers_whom_keeper_never_shows_keep_nobody_else_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeper answers their creation with 201, and shows neither account. The kind was not opened yet."""
    monkeypatch.setattr(apply, "LOOK_AGAIN", (0.01,))
    world.safety |= dict.fromkeys(LIMITS, "1000")
    world.write_settings()
    group = world.group("Engineering")
    for name in ("a0", "a1", "p0", "p1"):
        world.person(name, group)

    def answer(handle: Handle, request: Request) -> Any:
        asked = json.loads(request.body)
        if asked["userName"].startswith("a"):
            return Response.of_json(201, asked | {"id": f"99{asked['userName'][1]}"})
        return handle(request)

    world.back.faults.add(Answered(answer), target="/Users", method="POST")
    inside = Inside(world)
    states = {one.operation.subject.name: one.state.value for one in inside.run().results.values()}
    assert states["a0@example.com"] == states["a1@example.com"] == "unknown"
    for _ in range(2):
        inside.later(minutes=5)
        inside.run()
    assert {"p0@example.com", "p1@example.com"} <= {one.email for one in world.keeper.accounts().values()}


def test_an_unlocking_that_is_refused_with_404_while_the_account_is_listed_is_told(world: World) -> None:
    """Only of whoever is gone it is no failure: they are created anew."""
    _, ids = at_work(world)
    world.jumpcloud.suspend(ids[1])
    world.run("apply")
    world.jumpcloud.activate(ids[1])
    world.back.faults.add(status(404), target=f"/Users/{account(world, ids[1]).id}", method="PATCH")
    for _ in range(2):
        world.run("apply", expect=5)
    assert account(world, ids[1]).email in json.dumps(json.loads(world.run("status", "--json").stdout)["failing"])


@pytest.mark.parametrize("code", [404, 410])
def test_a_creation_that_is_answered_as_if_there_were_no_such_node_stops_nothing_else(world: World, code: int) -> None:
    """A proxy may refuse one kind of request so: nobody else may wait for that, and no cycle counts as failed."""
    groups, ids = at_work(world)
    world.person("joiner", groups[0])
    world.jumpcloud.remove_member(groups[0], ids[1])
    world.jumpcloud.update_user(ids[2], firstname="Changed")
    world.jumpcloud.settle_graph()
    refused = world.back.faults.add(status(code), method="POST", target="/Users")
    done = world.run("apply", expect=5)
    assert "though it knows the node" in " ".join(done.stdout.split())
    assert not is_in(world, ids[1], "Engineering") and account(world, ids[2]).given_name == "Changed"
    world.back.faults.remove(refused)
    world.run("resync", "joiner@example.com")
    assert world.differences() == []


def test_no_node_at_all_stops_everything(world: World) -> None:
    groups, ids = at_work(world)
    world.person("joiner", groups[0])
    world.jumpcloud.update_user(ids[2], firstname="Changed")
    world.back.faults.add(status(404), method="POST", target="/Users")
    world.back.faults.add(status(404), target="/ServiceProviderConfig")
    done = world.run("apply", expect=None)
    assert "Keeper knows no SCIM method at this address" in " ".join((done.stdout + done.stderr).split())
