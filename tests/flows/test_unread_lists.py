"""A list of JumpCloud that can't be had: the cycle goes on, and nobody takes what it lacks for gone, through the real
command line."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from reconciler.simulator.faults import close, rewrite_rows, status
from reconciler.simulator.service import Request, Response
from tests.flows.hidden import Answered
from tests.flows.test_telling import beats, filled, notifying
from tests.inside import accept, account, fill
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
    made = world.run("plan", "--format", "json", "--detailed-exitcode", expect=5)
    assert json.loads(made.stdout)["scope"]["unread"] == ["users"]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (USERS, "In scope: an unknown number of people, 1 group."),
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


# -- what is due, and not seen ----------------------------------------------------------------------------------------


def at_work(world: World) -> list[str]:
    ids = filled(world)
    accept(world)
    world.run("apply", "--resync")
    return ids


def suspended(world: World) -> list[str]:
    """Four people are to be locked, and that is held."""
    ids = at_work(world)
    world.safety |= {"max_deactivations": "1", "always_allow": "0"}
    world.write_settings()
    for one in ids[:4]:
        world.jumpcloud.suspend(one)
    return ids


def active(world: World) -> int:
    return sum(world.keeper.account(f"p{n}@example.com").active for n in range(4))


def releases(world: World) -> list[Any]:
    return [one for one in state(world)["decisions"] if one["kind"] == "release"]


def refuse_locks(world: World) -> None:
    world.back.faults.add(status(400), method="PATCH", target="/Users")


def test_what_is_held_stays_held(world: World, receiver: Receiver) -> None:
    suspended(world)
    notifying(world, receiver)
    world.run("apply", expect=4)
    held = state(world)["held"]
    refuse(world, USERS)
    for _ in range(2):
        world.run("apply", expect=5)
    assert receiver.kinds() == ["held"]
    assert state(world)["held"] == held
    assert world.run("leavers").stdout.count(held["plan"]) == 1
    world.front.faults.clear()
    world.run("release", held["plan"])
    assert active(world) == 0
    assert receiver.kinds() == ["held", "deactivated", "recovered"]


def test_a_release_outlasts_it(world: World) -> None:
    suspended(world)
    world.run("apply", expect=4)
    refuse_locks(world)
    world.run("release", "--reason", "they left", expect=5)
    world.back.faults.clear()
    refuse(world, USERS)
    world.run("apply", expect=5)
    assert len(releases(world)) == 1
    assert state(world)["failing_now"]
    world.front.faults.clear()
    world.run("apply")
    assert (active(world), releases(world)) == (0, [])


@pytest.mark.parametrize("target", [GROUPS, GROUP_NAMES])
def test_a_release_of_teams_outlasts_it(world: World, target: str) -> None:
    at_work(world)
    world.teams = {"review": '["Finance"]'}
    world.write_settings()
    finance = world.group("Finance")
    world.person("eve", finance)
    world.run("apply", expect=4)
    refuse_locks(world)
    world.run("release", "--reason", "she may", expect=5)
    before = releases(world)
    world.back.faults.clear()
    refuse(world, target)
    world.run("apply", expect=5)
    assert releases(world) == before != []


def test_an_odd_record_drops_nothing_of_its_own_from_a_release(world: World) -> None:
    """There are four people: one is unreadable for a cycle, and another one comes back."""
    odd, back, *others = suspended(world)[:4]
    world.run("apply", expect=4)
    refuse_locks(world)
    world.run("release", "--reason", "they left", expect=5)
    world.jumpcloud.oddities.spoil(odd, state=[])
    world.jumpcloud.activate(back)
    world.run("apply", expect=5)
    with world.state() as store:
        [left] = store.open_requests(datetime.now(UTC), "release")
    assert sorted(who for _, who in left.arguments["effects"]) == sorted([odd, *others])


def test_a_saved_plan_is_not_said_to_be_no_longer_due(world: World) -> None:
    suspended(world)
    world.run("plan", "--save", str(world.folder / "plan.json"))
    refuse(world, USERS)
    done = world.run("apply", "--plan", str(world.folder / "plan.json"), expect=5)
    assert "no longer due" not in flat(done.stdout)
    world.front.faults.clear()
    world.run("apply")
    assert active(world) == 0


@pytest.mark.parametrize("doubt", ["an odd record", "an unlock without an answer"])
def test_a_saved_plan_is_not_said_to_be_done_where_a_part_of_it_can_not_be_told(world: World, doubt: str) -> None:
    one = suspended(world)[0]
    if doubt == "an odd record":
        world.run("plan", "--save", "plan.json")
        world.jumpcloud.oddities.spoil(one, state=[], suspended=[])
        done = world.run("apply", "--plan", "plan.json", expect=5)
    else:
        world.run("plan", "--save", "plan.json")
        world.run("apply", "--plan", "plan.json")
        world.jumpcloud.activate(one)
        world.run("plan", "--save", "plan.json")
        world.back.faults.add(close(), method="PATCH", target="/Users")
        world.run("apply", "--plan", "plan.json", expect=5)
        world.back.faults.clear()
        done = world.run("apply", "--plan", "plan.json", expect=5)
    assert "1 change of the saved plan is still due cannot be told now" in flat(done.stdout)
    assert "no longer due" not in flat(done.stdout)


def test_a_list_that_stays_refused_keeps_nobody_from_reviewing_the_first_plan(world: World) -> None:
    """A role may lack the right to it for good: whoever left then waited for another review each time."""
    world.safety["first_run"] = '"review"'
    world.write_settings()
    world.front.faults.add(status(403), target="/api/v2/usergroups")
    _, ids = fill(world, 12)
    world.run("plan", "--save", "first.json")
    world.run("apply", "--plan", "first.json", expect=5)
    accept(world)
    world.jumpcloud.suspend(ids[1])
    world.run("apply", expect=5)
    assert not account(world, ids[1]).active


def test_the_limits_on_giving_count_while_a_list_stays_refused(world: World) -> None:
    world.safety |= {"max_creations": "1", "always_allow": "1"}
    world.write_settings()
    world.front.faults.add(status(403), target="/api/v2/usergroups")
    fill(world, 12)
    world.run("apply", expect=5)
    group = world.group("New")
    for number in range(20):
        world.person(f"q{number}", group)
    assert "max_creations" in world.run("apply", expect=4).stdout


def first_plan_without_groups(world: World, first_run: str) -> tuple[str, list[str]]:
    """A first plan that somebody lets through while a list of groups is down, beside an existing Keeper team."""
    world.safety |= {"first_run": f'"{first_run}"', "max_grants": "2", "max_deactivations": "1", "always_allow": "0"}
    world.write_settings()
    world.front.faults.add(status(403), target="/api/v2/usergroups")
    _, ids = fill(world, 12)
    team = world.keeper.add_team("Engineering")
    if first_run == "review":
        said = flat(world.run("apply", expect=4).stdout)
        assert (
            "JumpCloud's list of user groups could not be read, so existing Keeper teams of these groups are not"
            in said
        )
        world.run("plan", "--save", "first.json")
        world.run("apply", "--plan", "first.json", expect=5)
    else:
        world.run("apply", expect=5)
    accept(world)
    assert state(world)["first_plan_reviewed"] and state(world)["first_plan_lacked_teams"]
    return team, ids


def members(world: World, team: str) -> int:
    return len({*world.keeper.members(team), *world.keeper.pending_members(team)})


def test_the_teams_that_the_first_plan_lacked_are_looked_at_once_they_can_be(world: World) -> None:
    """Each had to be named with `adopt --team` before; and nobody gets what is shared with them unseen."""
    team, ids = first_plan_without_groups(world, "review")
    world.front.faults.clear()
    world.jumpcloud.suspend(ids[1])
    for _ in range(2):
        out = flat(world.run("apply", expect=4).stdout)
        assert "adopted_teams" in out and "left out these existing Keeper teams; they are taken over" in out
        assert not account(world, ids[1]).active, "a leaver waits for nothing"
        assert (members(world, team), world.keeper.teams()[team].external_id) == (0, None)
    assert "The first plan that was looked at lacked groups" in flat(world.run("status").stdout)
    world.run("release", "--reason", "it is theirs")
    assert members(world, team) == 6
    assert not state(world)["first_plan_lacked_teams"]
    world.jumpcloud.activate(ids[1])
    world.run("apply")
    assert world.differences() == []
    later = world.keeper.add_team("Later")
    world.jumpcloud.add_member(world.group("Later"), ids[0])
    world.jumpcloud.settle_graph()
    assert "a Keeper team that is not ours has this name" in flat(world.run("apply", "--resync").stdout)
    assert members(world, later) == 0


def test_where_nobody_looks_at_the_first_plan_the_limits_look_at_the_teams_that_it_lacked(world: World) -> None:
    team, _ = first_plan_without_groups(world, "apply")
    world.front.faults.clear()
    out = flat(world.run("apply", expect=4).stdout)
    assert "max_grants" in out and "adopted_teams" not in out
    assert (members(world, team), world.keeper.teams()[team].external_id is None) == (0, False)
    world.run("release", "--reason", "it is theirs")
    assert members(world, team) == 6
    assert not state(world)["first_plan_lacked_teams"]
    world.run("apply")
    assert world.differences() == []


def test_a_pilot_takes_over_the_teams_that_the_first_plan_lacked_once_it_is_about_them(world: World) -> None:
    team, _ = first_plan_without_groups(world, "review")
    world.front.faults.clear()
    world.policy["only"] = '{ groups = ["Sales"] }'
    world.write_settings()
    world.run("apply")
    assert state(world)["first_plan_lacked_teams"]
    del world.policy["only"]
    world.write_settings()
    assert "adopted_teams" in world.run("apply", expect=4).stdout
    assert (members(world, team), world.keeper.teams()[team].external_id) == (0, None)
    world.run("release", "--reason", "it is theirs")
    assert members(world, team) == 6


def test_check_says_what_to_do_where_nobody_is_bound(world: World) -> None:
    said = world.run("check").stdout
    assert "In scope: 0 people, 0 groups.\n" in said
    assert "Nobody is bound to the application: in JumpCloud, bind groups to it" in said
    one = world.person("p0", world.group("Engineering"))
    world.jumpcloud.suspend(one)
    said = world.run("check").stdout
    assert "In scope: 0 people, 1 group.\n" in said
    assert "Nobody is bound" not in said, "somebody is, and suspended"


def test_check_does_not_say_that_nobody_is_bound_where_rows_could_not_be_read(world: World) -> None:
    people = 8
    fill(world, people)

    def odd(handle: Callable[[Request], Response], request: Request) -> Response:
        return rewrite_rows(handle(request), lambda rows: [{**row, "type": "person"} for row in rows])

    world.front.faults.add(Answered(odd), target=r"/api/v2/applications/[0-9a-f]+/users")
    done = world.run("check", expect=1)
    assert "Nobody is bound" not in done.stdout
    words = f"JumpCloud's list of users in scope: {people} rows have no usable id, or another type than belongs there."
    assert f"{words} Whoever they are about may be missing." in flat(done.stderr)


@pytest.mark.parametrize("way", ["no names", "no groups", "no name"])
def test_who_is_not_read_in_full_is_not_certified(world: World, way: str) -> None:
    groups, people = fill(world)
    other = world.group("Support")
    world.jumpcloud.add_member(other, people[0])
    world.jumpcloud.settle_graph()
    world.run("apply")
    if way == "no name":
        world.jumpcloud.oddities.spoil(groups[1], name=7)
    else:
        refuse(world, GROUP_NAMES if way == "no names" else rf"/applications/[0-9a-f]+{GROUPS}")
    if way == "no groups":
        # Whether the group is still in scope, which had nobody else, only the refused list tells.
        world.jumpcloud.remove_member(other, people[0])
    else:
        world.jumpcloud.add_member(groups[1], people[0])
    world.jumpcloud.settle_graph()
    for command in ("resync", "explain"):
        said = flat(world.run(command, "p0@example.com", expect=None).stdout)
        assert "othing that could be read is due" in said and "in line" not in said.lower(), said
        assert "stay as they are" in said and ("Correct the record" if way == "no name" else "reads again") in said
    if way == "no name":
        assert "The group Sales: the group has no usable name" in said
        assert "In line: both sides agree" in flat(world.run("explain", "p2@example.com").stdout)


def test_who_lacks_a_team_that_is_in_conflict_is_not_certified(world: World) -> None:
    _, people = fill(world)
    world.run("apply")
    accept(world)
    world.keeper.add_team("Support")
    world.run("apply", "--resync")
    world.jumpcloud.add_member(world.group("Support"), people[0])
    world.jumpcloud.settle_graph()
    world.run("apply", expect=None)
    said = flat(world.run("explain", "p0@example.com").stdout)
    assert "Nothing else is due. The group Support: a Keeper team that is not ours has this name" in said
    assert "In line: both sides agree" in flat(world.run("explain", "p1@example.com").stdout)


def test_what_teams_will_lose_is_not_over_while_the_list_of_groups_cannot_be_read(world: World) -> None:
    """Else the early alarm ended with one refused request, and was told as a new one by the next cycle."""
    people = at_work(world)
    world.policy["grace"] = '"2h"'
    world.write_settings()
    for one in people:
        world.jumpcloud.bind_user(world.application, one)
    world.jumpcloud.unbind_group(world.application, next(iter(world.jumpcloud.groups_in_scope(world.application))))
    world.jumpcloud.settle_graph()
    world.run("apply")
    assert state(world)["will_be_held"] == 2
    refuse(world, GROUPS)
    world.run("apply", expect=5)
    assert state(world)["will_be_held"] == 2


@pytest.mark.parametrize("target", [GROUPS, GROUP_NAMES])
def test_what_is_over_for_people_is_over_without_a_list_of_groups(world: World, target: str) -> None:
    """A role may lack the right to it for good, and status told for ever of what was repaired."""
    ids = at_work(world)
    world.policy["grace"] = '"2h"'
    world.write_settings()
    refuse(world, target)
    refuse_locks(world)
    world.jumpcloud.suspend(ids[11])
    group = next(iter(world.jumpcloud.groups_in_scope(world.application)))
    for one in ids[:7]:
        world.jumpcloud.remove_member(group, one)
    world.jumpcloud.settle_graph()
    world.run("apply", expect=5)
    assert state(world)["will_be_held"] == 1 and "out of scope" in state(world)["failing_now"]
    world.jumpcloud.activate(ids[11])
    for one in ids[:7]:
        world.jumpcloud.add_member(group, one)
    world.jumpcloud.settle_graph()
    world.run("apply", expect=5)
    assert state(world)["will_be_held"] == 0 and not state(world)["failing_now"]
