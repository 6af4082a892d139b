"""A list of JumpCloud that can't be had: the cycle goes on, and nobody takes what it lacks for gone, through the real
command line."""

import json
from typing import Any

import pytest

from reconciler.simulator.faults import status
from tests.flows.test_telling import beats, filled, notifying
from tests.receiver import Receiver
from tests.stage import World

USERS, GROUPS, GROUP_NAMES = "systemusers", "/usergroups", "/api/v2/usergroups"


def refuse(world: World, target: str) -> None:
    world.front.faults.add(status(403), target=target)


def flat(text: str) -> str:
    return " ".join(text.split())


def state(world: World) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(world.run("status", "--json").stdout)
    return found


@pytest.mark.parametrize(
    ("target", "said", "unsaid"),
    [
        (USERS, "NOT READ: JumpCloud's list of users. Nothing to do: 1 team in scope; ", "0 people"),
        (GROUPS, "list of user groups. Nothing to do: 12 people in scope; ", "0 teams"),
        (GROUP_NAMES, "NOT READ: JumpCloud's list of user groups. Nothing to do: 12 people in scope; ", "0 teams"),
    ],
)
def test_it_is_no_good_cycle(world: World, receiver: Receiver, target: str, said: str, unsaid: str) -> None:
    filled(world)
    notifying(world, receiver)
    world.run("apply")
    before = beats(receiver), state(world)["last_good_cycle_at"]
    refuse(world, target)
    done = world.run("apply", expect=5)
    assert said in flat(done.stdout)
    assert unsaid not in flat(done.stdout)
    after = state(world)
    assert (beats(receiver), after["last_good_cycle_at"]) == before
    assert after["runs"][0]["result"] == "partial"
    assert "could not be read" in after["runs"][0]["error"]
    world.front.faults.clear()
    world.run("apply")
    assert beats(receiver) == before[0] + 1


def test_a_plan_names_what_its_numbers_lack(world: World) -> None:
    filled(world)
    refuse(world, USERS)
    assert json.loads(world.run("plan", "--format", "json").stdout)["scope"]["unread"] == ["users"]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (USERS, "In scope: an unknown number of people, 1 groups."),
        (GROUPS, "In scope: 12 people, an unknown number of groups."),
        (GROUP_NAMES, "In scope: 12 people, an unknown number of groups."),
    ],
)
def test_check_fails(world: World, target: str, said: str) -> None:
    filled(world)
    refuse(world, target)
    done = world.run("check", expect=1)
    assert said in done.stdout
    assert "the list can't be read" in flat(done.stderr)
