"""Faults of reading that reviews have found, each as a short history."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import pytest

from reconciler import inventory
from reconciler.cycle import Order
from reconciler.model import Inventory
from reconciler.plan import Plan
from reconciler.simulator.service import Response
from tests.campaign import decisions
from tests.campaign.scenes import (
    SCIM,
    activate,
    adopt,
    cycle,
    group,
    joined,
    person,
    suspend,
    team_deleted_without_answer,
    teams_of,
)
from tests.campaign.seams import Weather
from tests.campaign.world import World


def active(world: World, name: str) -> bool:
    return any(one.email == f"{name}@example.com" and one.active for one in world.keeper.accounts().values())


@pytest.mark.parametrize("number", [15, 25])
def test_whoever_the_lists_hide_is_read_alone_however_many_they_are(world: World, number: int) -> None:
    people = {person(world, f"p{n:02}"): f"p{n:02}" for n in range(30)}
    cycle(world)
    cycle(world, resync=True)
    ids = sorted(people)
    hidden = {*ids[: number - 1], ids[-1]}

    def hide(reply: Response) -> Response:
        found = json.loads(reply.body)
        rows = [row for row in found["results"] if row["_id"] not in hidden]
        return Response.of_json(200, found | {"results": rows, "totalCount": 30 - number}, reply.headers)

    edits = {"JumpCloud GET /api/systemusers?": hide, "JumpCloud POST /api/search/systemusers": hide}
    suspend(world, ids[-1])
    for n in range(8):
        world.time.elapsed += 6 * 3600
        world.say(world.lane(Weather(1, edits=edits)))
        world.say(world.cycle(Order(by="schedule", resync=n % 2 == 0), Weather(1, edits=edits)))
        assert world.plan is not None
        assert not any(op.reason.startswith("JumpCloud shows no record") for op in world.plan.operations)  # untrue
        decisions.consent_to_held(world)
    assert not active(world, people[ids[-1]])


def test_a_leaver_whom_the_list_of_users_lacks_is_read_alone(world: World) -> None:
    ada, _ = joined(world, "ada")
    joined(world, "bob")
    cycle(world, resync=True)
    world.jumpcloud.unbind_user(world.application, ada)
    world.admin_changed()

    def hide(reply: Response) -> Response:
        found = json.loads(reply.body)
        rows = [row for row in found["results"] if row["_id"] != ada]
        return Response.of_json(200, found | {"results": rows, "totalCount": 1}, reply.headers)

    edits = {"JumpCloud GET /api/systemusers?": hide, "JumpCloud POST /api/search/systemusers": hide}
    for _ in range(2):
        world.time.elapsed += 3600
        world.say(world.cycle(Order(by="schedule"), Weather(1, edits=edits)))
    assert not active(world, "ada") and active(world, "bob")


def test_a_record_that_cannot_be_read_is_not_called_missing(world: World) -> None:
    people = [person(world, name) for name in ("ada", "bob", "cy", "dan")]
    cycle(world)
    cycle(world, resync=True)

    def hide(reply: Response) -> Response:
        found = json.loads(reply.body)
        rows = [row for row in found["results"] if row["_id"] != people[0]]
        return Response.of_json(200, found | {"results": rows, "totalCount": 3}, reply.headers)

    world.jumpcloud.oddities.take_down(f"/api/systemusers/{people[0]}", 500)
    edits = {"JumpCloud GET /api/systemusers?": hide, "JumpCloud POST /api/search/systemusers": hide}
    for _ in range(6):
        world.time.elapsed += 6 * 3600
        world.say(world.cycle(Order(by="schedule"), Weather(1, edits=edits)))
        assert world.plan is not None
        assert not any(op.reason.startswith("JumpCloud shows no record") for op in world.plan.operations)


@pytest.mark.parametrize("status", [403, 500, 401, 429])
def test_one_record_that_keeper_refuses_stops_nobody_else(world: World, status: int) -> None:
    _, account = joined(world, "ada")
    person(world, "bob")
    cycle(world)
    cycle(world, resync=True)
    world.keeper.refuse(account, status)

    def less(reply: Response) -> Response:  # Keeper's list overlooks ada's account, so that it is read alone
        found = json.loads(reply.body)
        kept = [row for row in found["Resources"] if row["id"] != account]
        kept = kept if found.get("startIndex", 1) == 1 else []
        return Response.of_json(
            200, found | {"Resources": kept, "totalResults": found["totalResults"] - 1}, reply.headers
        )

    weather = Weather(1, edits={f"Keeper GET {SCIM}/Users?": less})
    person(world, "new")
    for _ in range(3):
        world.time.elapsed += 25 * 3600
        world.say(world.cycle(Order(by="schedule"), weather))
    assert active(world, "new")


@pytest.mark.parametrize("state", [7, "ODD"])
def test_a_suspended_person_whose_own_record_does_not_tell_the_state_is_locked(world: World, state: object) -> None:
    joined(world, "bob")
    ada, _ = joined(world, "ada")
    cycle(world, resync=True)
    suspend(world, ada)

    def odd(reply: Response) -> Response:
        return Response.of_json(200, json.loads(reply.body) | {"state": state, "suspended": None}, reply.headers)

    edits = {f"JumpCloud GET /api/systemusers/{ada}": odd}
    for _ in range(2):
        world.time.elapsed += 1800
        world.say(world.lane(Weather(1, edits=edits)))
        world.say(world.cycle(Order(by="schedule"), Weather(1, edits=edits)))
    assert not active(world, "ada") and active(world, "bob")


@pytest.mark.parametrize("way", ["back", "left", "new"])
def test_somebody_whose_own_record_does_not_tell_the_state_is_served_as_a_search_says(world: World, way: str) -> None:
    joined(world, "bob")
    ada = ""
    if way == "new":
        ada = person(world, "ada")
    else:
        ada, _ = joined(world, "ada")
        cycle(world, resync=True)
    if way == "back":
        suspend(world, ada)
        cycle(world)
        activate(world, ada)
    elif way == "left":
        world.jumpcloud.unbind_user(world.application, ada)
        world.admin_changed()

    def odd(reply: Response) -> Response:
        return Response.of_json(200, json.loads(reply.body) | {"state": 7, "suspended": None}, reply.headers)

    edits = {f"JumpCloud GET /api/systemusers/{ada}": odd}
    for _ in range(2):
        world.time.elapsed += 3600
        world.say(world.cycle(Order(by="schedule"), Weather(1, edits=edits)))
    assert active(world, "ada") is (way != "left")


def test_a_lock_is_sent_though_keeper_asks_to_wait_at_each_look_at_the_account(world: World) -> None:
    joined(world, "bob")
    ada, _ = joined(world, "ada")
    cycle(world, resync=True)
    suspend(world, ada)
    wait = Response.of_json(403, {"error": "throttled", "message": "Please wait 5 minutes."})
    for _ in range(2):
        world.time.elapsed += 600
        world.say(world.lane(Weather(1, edits={f"Keeper GET {SCIM}/Users/": lambda _: wait})))
    assert not active(world, "ada")


def six_people(world: World) -> dict[str, str]:
    """Ada and Cy are deleted, Bob has left, Dan is back, and a new person joins."""
    limits = ("max_deactivations", "max_creations", "max_reactivations", "always_allow")
    world.rules.safety = dict.fromkeys(limits, 50)
    people = {name: person(world, name) for name in ("ada", "bob", "cy", "dan", "eve")}
    cycle(world)
    for name in people:
        world.keeper.accept_invitation(f"{name}@example.com")
    world.admin_changed()
    suspend(world, people["dan"])
    cycle(world)
    cycle(world, resync=True)
    world.jumpcloud.activate(people["dan"])
    for name in ("ada", "cy"):
        world.jumpcloud.delete_user(people[name])
    world.jumpcloud.unbind_user(world.application, people["bob"])
    people["new"] = person(world, "new")
    return people


SERVED = {"bob": False, "cy": False, "dan": True, "new": True}


@pytest.mark.parametrize("status", [403, 401])
def test_one_account_whose_changes_are_refused_stops_nobody_else(world: World, status: int) -> None:
    six_people(world)
    world.keeper.refuse(world.keeper.account("ada@example.com").id, status)
    for _ in range(6):
        world.time.elapsed += 1800
        world.say(world.cycle(Order(by="schedule"), Weather(1)))
    assert {name: active(world, name) for name in SERVED} == SERVED


@pytest.mark.parametrize("refused", [False, True])
def test_a_group_whose_record_is_refused_keeps_no_other_from_its_team(world: World, refused: bool) -> None:
    first = group(world, "Archive")
    sales = group(world, "Sales")
    ada, _ = joined(world, "ada", sales)
    person(world, "bob", first)
    cycle(world, resync=True)
    world.jumpcloud.delete_group(sales)
    again = group(world, "Sales")  # made again under the same name
    world.jumpcloud.add_member(again, ada)
    world.admin_changed()
    if refused:
        world.jumpcloud.oddities.take_down(f"/api/v2/usergroups/{min(first, again)}", 403)
    for _ in range(5):
        world.time.elapsed += 3600
        world.say(world.cycle(Order(by="schedule", resync=True), Weather(1)))
    assert teams_of(world, "ada") == {"Sales"}


def test_an_odd_text_in_the_inventory_stops_no_cycle(world: World) -> None:
    row = {"team_uid": "x" * 22, "name": "Sales", "restricts": "", "node": "Root \ud800", "users": []}

    async def ask(now: datetime) -> Inventory:
        return inventory.parse(json.dumps([row]).encode(), now)

    person(world, "ada")
    cycle(world)
    world._services = replace(world._both(), inventory=ask)
    person(world, "bob")
    cycle(world, resync=True)
    assert active(world, "bob")


@pytest.mark.parametrize("kind", ["unreachable", "redirected"])
def test_a_keeper_that_redirects_everything_is_nobodys_failure(world: World, kind: str) -> None:
    sales, ops = group(world, "Sales"), group(world, "Ops")
    ada = person(world, "ada", sales)
    person(world, "bob", ops)
    cycle(world)
    cycle(world, resync=True)
    world.jumpcloud.add_member(ops, ada)
    world.admin_changed()
    for _ in range(36):  # three hours of maintenance
        world.time.elapsed += 300
        world.say(world.cycle(Order(by="schedule"), Weather(1, script={"Keeper": kind}))[:100])
    world.time.elapsed += 300
    world.say(world.cycle(Order(by="schedule"), Weather(1)))
    assert teams_of(world, "ada") == {"Sales", "Ops"}


@pytest.mark.parametrize("status", [503, 429])
@pytest.mark.parametrize("seconds", ["", "25", "200"])
def test_one_record_that_asks_to_wait_stops_nobody_else(world: World, status: int, seconds: str) -> None:
    people = six_people(world)
    reply = Response(status, {"retry-after": seconds} if seconds else {}, b"oops")
    edits = {f"JumpCloud GET /api/systemusers/{people['ada']}": lambda _: reply}
    for _ in range(6):
        world.time.elapsed += 1800
        world.say(world.cycle(Order(by="schedule"), Weather(1, edits=edits)))
    assert {name: active(world, name) for name in SERVED} == SERVED


@pytest.mark.parametrize("restarts", [False, True])
def test_one_account_that_asks_to_wait_stops_nobody_else(world: World, restarts: bool) -> None:
    people = six_people(world)
    world.jumpcloud.delete_user(people["eve"])
    suspend(world, people["bob"])
    his = f"{SCIM}/Users/{world.keeper.account('bob@example.com').id}"
    for _ in range(6):
        world.time.elapsed += 1800
        world.say(world.cycle(Order(by="schedule"), Weather(1, script={f"Keeper PATCH {his}": "throttled_minute"})))
        if restarts:
            world.restart()
    assert {name for name in ("ada", "cy", "dan", "eve", "new") if active(world, name)} == {"dan", "new"}


@pytest.mark.parametrize("everybody", [False, True])
@pytest.mark.parametrize("headers", [{}, {"retry-after": "25"}])
def test_a_suspended_person_whose_record_asks_to_wait_is_locked(
    world: World, headers: dict[str, str], everybody: bool
) -> None:
    people = [person(world, name) for name in ("ada", "bob", "cy", "dan")]
    cycle(world)
    cycle(world, resync=True)
    suspend(world, people[0])
    wait = lambda _: Response(503, headers, b"oops")  # noqa: E731
    edits = {f"JumpCloud GET /api/systemusers/{one}": wait for one in people[: 4 if everybody else 1]}
    for _ in range(6):
        world.time.elapsed += 1800
        world.say(world.lane(Weather(1, edits=edits)))
        world.say(world.cycle(Order(by="schedule"), Weather(1, edits=edits)))
    assert not active(world, "ada")


@pytest.mark.parametrize("lane", [False, True])
@pytest.mark.parametrize("status", [503, 429])
def test_a_process_that_is_new_locks_a_suspended_person_whose_record_asks_to_wait(
    world: World, status: int, lane: bool
) -> None:
    people = [person(world, name) for name in ("ada", "bob", "cy", "dan")]
    cycle(world)
    cycle(world, resync=True)
    suspend(world, people[0])
    world.restart()
    world.time.elapsed += 1800
    wait = lambda _: Response(status, {"retry-after": "25"}, b"oops")  # noqa: E731
    weather = Weather(1, edits={f"JumpCloud GET /api/systemusers/{one}": wait for one in people})
    world.say(world.lane(weather) if lane else world.cycle(Order(by="schedule"), weather))
    assert not active(world, "ada")


@pytest.mark.parametrize("status", [503, 429])
def test_a_jumpcloud_that_asks_to_wait_is_not_asked_meanwhile(world: World, status: int) -> None:
    world.rules.safety = dict.fromkeys(("max_deactivations", "max_creations"), 500)
    people = [person(world, f"p{n:02}") for n in range(30)]
    cycle(world)
    cycle(world, resync=True)
    for one in people[:10]:
        world.jumpcloud.unbind_user(world.application, one)
    world.admin_changed()
    cycle(world)
    world.time.elapsed += 3600
    asked: list[float] = []
    began = world.time.elapsed

    def throttle(reply: Response) -> Response:
        if world.time.elapsed - began > 3600:
            return reply
        asked.append(world.time.elapsed)
        return Response(status, {"retry-after": "60"}, b"slow down")

    points = ("JumpCloud GET /api/systemusers/", "JumpCloud GET /api/v2/users/", "JumpCloud POST /api/search")
    while world.time.elapsed - began < 3600:  # lists are answered all the time
        world.time.elapsed += 60
        world.say(world.lane(Weather(1, edits=dict.fromkeys(points, throttle))))
        world.say(world.cycle(Order(by="schedule"), Weather(1, edits=dict.fromkeys(points, throttle)))[:100])
    assert len(asked) <= 61


def noting(seen: list[float], world: World) -> Callable[[Response], Response]:
    def note(reply: Response) -> Response:
        seen.append(world.time.elapsed)
        return reply

    return note


def test_a_slow_jumpcloud_is_not_asked_twice(world: World) -> None:
    world.rules.safety = dict.fromkeys(("max_deactivations", "max_creations"), 500)
    people = [person(world, f"p{n:02}") for n in range(30)]
    cycle(world)
    cycle(world, resync=True)
    for one in people[:10]:
        world.jumpcloud.delete_user(one)
    world.admin_changed()
    asked: list[float] = []
    slow = dict.fromkeys(("JumpCloud GET /api/v2/users/", "JumpCloud GET /api/systemusers/", "JumpCloud POST"), "slow")
    for _ in range(2):
        weather = Weather(1, script=slow, edits={"JumpCloud": noting(asked, world)})
        world.say(world.cycle(Order(by="schedule"), weather))
    assert len(asked) <= 2 * 61  # as many as if each had been answered at once


@pytest.mark.parametrize("number", [1, 10])
def test_leavers_whose_reads_hang_keep_nobody_else_waiting(world: World, number: int) -> None:
    world.rules.safety = {"max_deactivations": 50, "max_creations": 50}
    people = [person(world, f"p{n:02}") for n in range(24)]
    cycle(world)
    cycle(world, resync=True)
    for one in people[:number]:
        world.jumpcloud.unbind_user(world.application, one)
    world.admin_changed()
    cycle(world)
    person(world, "new")
    script = {f"JumpCloud GET /api/v2/users/{one}/applications": "timeout" for one in people[:number]}
    world.time.elapsed += 3600  # grace is over
    for _ in range(6):
        world.say(world.cycle(Order(by="schedule"), Weather(1, script=script))[:100])
    assert active(world, "new")


def test_a_suspended_person_and_a_newcomer_do_not_wait_for_ten_leavers_whose_reads_hang(world: World) -> None:
    world.rules.safety = {"max_deactivations": 50, "max_creations": 50}
    people = [person(world, f"p{n:02}") for n in range(24)]
    cycle(world)
    for n in range(24):
        world.keeper.accept_invitation(f"p{n:02}@example.com")
    world.admin_changed()
    cycle(world, resync=True)
    for one in people[:10]:
        world.jumpcloud.unbind_user(world.application, one)
    world.admin_changed()
    cycle(world)
    world.time.elapsed += 3600
    script = {f"JumpCloud GET /api/v2/users/{one}/applications": "timeout" for one in people[:10]}
    world.say(world.cycle(Order(by="schedule"), Weather(1, script=script)))
    suspend(world, people[20])
    person(world, "new")
    began, when = world.time.elapsed, dict[str, float]()

    def look(reply: Response) -> Response:
        for name, is_open in (("p20", False), ("new", True)):
            if active(world, name) is is_open:
                when.setdefault(name, world.time.elapsed - began)
        return reply

    world.say(world.cycle(Order(by="schedule"), Weather(1, script=script, edits={"Keeper": look})))
    assert when["p20"] < 300 and when["new"] < 300
    world.say(world.cycle(Order(by="schedule"), Weather(1)))
    assert not any(active(world, f"p{n:02}") for n in range(10))


@pytest.mark.parametrize("kind", ["death_before", "timeout", "throttled_minute"])
def test_a_leaver_who_was_in_doubt_once_is_locked_before_forty_creations(world: World, kind: str) -> None:
    world.rules.safety = dict.fromkeys(("max_deactivations", "max_creations", "always_allow"), 500)
    sales, ops = group(world, "Sales"), group(world, "Ops")
    ada, account = joined(world, "ada", sales)
    person(world, "bob", ops)
    cycle(world)
    world.time.elapsed += 9 * 86400
    cycle(world, resync=True)
    world.jumpcloud.remove_member(sales, ada)
    world.admin_changed()
    cycle(world)
    world.time.elapsed += 3 * 3600  # grace is over
    hang = (f"GET /api/systemusers/{ada}", "POST /api/search", f"GET /api/v2/users/{ada}")
    world.say(world.cycle(Order(by="schedule"), Weather(1, script={f"JumpCloud {one}": "timeout" for one in hang})))
    for n in range(40):
        person(world, f"n{n}")
    world.time.elapsed += 600
    locks: list[float] = []
    began = world.time.elapsed
    edits = {f"Keeper PATCH {SCIM}/Users/{account}": noting(locks, world)}
    world.say(world.cycle(Order(by="schedule"), Weather(1, script={f"Keeper POST {SCIM}/Users": kind}, edits=edits)))
    assert locks and locks[0] - began < 60


@pytest.mark.parametrize("then", ["suspended", "deleted", "not reached"])
def test_an_unlock_without_an_answer_is_settled_though_keeper_cannot_be_listed(world: World, then: str) -> None:
    """It arrives, and the person leaves again; or it does not, and they belong. Their account can be read alone."""
    joined(world, "cy")
    ada, account = joined(world, "ada")
    suspend(world, ada)
    cycle(world)
    activate(world, ada)
    down = {f"Keeper GET {SCIM}/Users?": "error"}
    lost = {f"Keeper PATCH {SCIM}/Users": "timeout" if then == "not reached" else "late_timeout"}
    world.cycle(Order(by="schedule"), Weather(1, script=down | lost))
    if then == "suspended":
        suspend(world, ada)
    if then == "deleted":
        world.jumpcloud.delete_user(ada)
        world.admin_changed()
    for _ in range(2):
        world.time.elapsed += 300
        world.say(world.cycle(Order(by="schedule"), Weather(1, script=down)))
    assert world.keeper.account(account).locked is (then != "not reached")


def test_a_record_that_hides_a_lock_tells_the_lane_nothing_of_it(world: World) -> None:
    joined(world, "cy")
    ada, account = joined(world, "ada")
    cycle(world, resync=True)
    suspend(world, ada)
    down = {f"Keeper GET {SCIM}/Users?": "error"}
    for _ in range(4):  # the first has no answer, and the others see a record without a readable state
        world.say(world.lane(Weather(1, script=down | {f"Keeper PATCH {SCIM}/Users": "late_timeout"})))
        world.keeper.show_oddly(account, {"active": "perhaps"})
        world.time.elapsed += 180
    with world.open() as store:
        states = {row["state"] for row in store.journal_rows() if row["kind"] == "deactivate_user"}
    world.store = None
    assert world.keeper.account(account).locked and states == {"unknown"}


def test_the_lane_locks_whoever_may_have_been_unlocked_though_no_cycle_tells(world: World) -> None:
    """The answer to the unlock was lost, and since then JumpCloud's list of the scope cannot be had."""
    joined(world, "cy")
    ada, account = joined(world, "ada")
    suspend(world, ada)
    cycle(world)
    activate(world, ada)
    lost = {f"Keeper PATCH {SCIM}/Users": "late_timeout", f"Keeper GET {SCIM}/Users?": "error"}
    world.cycle(Order(by="schedule"), Weather(1, script=lost))
    suspend(world, ada)
    down = {f"JumpCloud GET /api/v2/applications/{world.application}/users": "error"}
    for _ in range(3):
        world.time.elapsed += 60
        world.say(world.cycle(Order(by="schedule"), Weather(1, script=down))[:60])
        world.say(world.lane(Weather(0)))
    assert world.keeper.account(account).locked


def test_an_account_of_nobody_is_not_locked_for_somebody_whom_lists_still_call_suspended(world: World) -> None:
    joined(world, "cy")
    ada = world.jumpcloud.add_user("ada@example.com", state="ACTIVATED", firstname="ada", lastname="Test")
    suspend(world, ada)
    account = world.keeper.add_user("ada@example.com")
    world.keeper.accept_invitation(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    adopt(world, "ada@example.com")
    cycle(world)
    decisions.consent_to_held(world)

    def behind(reply: Response) -> Response:
        found = json.loads(reply.body)
        for row in found["results"]:
            row.update({"state": "SUSPENDED", "suspended": True} if row["_id"] == ada else {})
        return Response.of_json(200, found, reply.headers)

    activate(world, ada)
    world.jumpcloud.bind_user(world.application, ada)
    world.admin_changed()
    world.time.elapsed += 60
    edits = {"JumpCloud GET /api/systemusers?": behind, "JumpCloud POST /api/search/systemusers": behind}
    world.say(world.cycle(Order(by="schedule"), Weather(1, edits=edits)))
    assert not world.keeper.account(account).locked


def test_a_lock_that_a_record_hid_and_an_unlock_undid_is_not_said_to_be_not_arrived(world: World) -> None:
    joined(world, "cy")
    ada, account = joined(world, "ada")
    suspend(world, ada)
    world.keeper.show_oddly(account, {"active": "perhaps"})
    cycle(world, {f"PATCH {SCIM}/Users": "late_timeout"})
    activate(world, ada)
    cycle(world)
    world.keeper.show_oddly(account, {})
    cycle(world, resync=True)
    with world.open() as store:
        states = {row["kind"]: row["state"] for row in store.journal_rows() if row["keeper_id"] == account}
    world.store = None
    assert (states["deactivate_user"], states["reactivate_user"]) == ("put_off", "done")


@pytest.mark.parametrize("grace", ["30m", "0s"])
def test_nobody_loses_the_team_of_a_group_that_was_made_again_while_keeper_cannot_be_listed(
    world: World, grace: str
) -> None:
    """Their new group gets it once Keeper is listed; until then nothing shows that it is not somebody else's."""
    world.rules.policy["grace"] = grace
    world.rules.safety = {"max_removals": "100%", "max_team_loss": "100%"}
    sales = group(world, "Sales")
    people = [joined(world, name, sales)[0] for name in ("ada", "bob")]
    for one in people:
        world.jumpcloud.bind_user(world.application, one)
    world.admin_changed()
    cycle(world, resync=True)
    world.jumpcloud.unbind_group(world.application, sales)
    world.admin_changed()
    if grace != "0s":
        cycle(world)  # with which grace begins
    world.jumpcloud.delete_group(sales)
    again = group(world, "Sales")
    for one in people:
        world.jumpcloud.add_member(again, one)
    world.admin_changed()
    for _ in range(5):
        cycle(world, {f"GET {SCIM}/Groups?": "error"}, resync=True)
        assert teams_of(world, "ada") == {"Sales"}
    cycle(world, resync=True)
    assert [one.external_id for one in world.keeper.teams().values()] == [again]


def without_team(team: str) -> Callable[[Response], Response]:
    """Keeper's list of teams, from before this one was made, or while it overlooks it."""

    def less(reply: Response) -> Response:
        found = json.loads(reply.body)
        rows = [row for row in found["Resources"] if row["id"] != team]
        return Response.of_json(200, found | {"Resources": rows, "totalResults": len(rows)}, reply.headers)

    return less


def nothing_of(team: str) -> dict[str, Callable[[Response], Response]]:
    """Keeper's answers from before this team was made, or while it overlooks it."""
    return {
        f"Keeper GET {SCIM}/Groups?": without_team(team),
        f"Keeper GET {SCIM}/Groups/{team}": lambda reply: Response.of_json(404, {"status": "404"}, reply.headers),
    }


def test_a_team_whose_queueing_is_open_is_known_by_its_name_though_a_list_in_between_has_shown_it(world: World) -> None:
    """Keeper keeps no ids of teams, and that list was for another operation without an answer, of a later run."""
    world.keeper.set_dialect(ignored_group_attributes=["externalId"])
    zoe = person(world, "zoe", group(world, "Old"))
    cycle(world)
    world.keeper.approve_all()
    cycle(world, resync=True)
    person(world, "ada", group(world, "Sales"))
    after = {f"GET {SCIM}/Groups?startIndex=1&count=500#{n}": "error" for n in range(2, 9)}
    cycle(world, {f"POST {SCIM}/Groups": "late_timeout", **after})
    world.jumpcloud.update_user(zoe, firstname="Zed")
    world.admin_changed()
    behind = without_team(next(one.id for one in world.keeper.teams().values() if one.name == "Sales"))
    sent: list[bool] = []
    weather = Weather(
        1,
        script={f"Keeper PATCH {SCIM}/Users": "timeout"},
        then=lambda: sent.append(True),
        edits={f"Keeper GET {SCIM}/Groups?": lambda reply: reply if sent else behind(reply)},
    )
    world.time.elapsed += 600
    world.say(world.cycle(Order(by="schedule"), weather))
    cycle(world, resync=True)
    assert sent and teams_of(world, "ada") == {"Sales"}


def test_a_team_that_a_list_overlooks_is_asked_for_before_its_group_gets_another(world: World) -> None:
    """The state file is lost, so that nothing but the id on the team tells whose it is, and the first plan waits."""
    joined(world, "ada", group(world, "Sales"))
    cycle(world, resync=True)
    decisions.lost(world, random.Random(1))
    [team] = world.keeper.teams()
    world.cycle(Order(by="schedule"), Weather(1))
    world.time.elapsed += 600

    def agrees(plan: Plan) -> bool:
        world.observer.agreed(plan.effects)
        return True

    person(world, "bob")
    weather = Weather(1, edits={f"Keeper GET {SCIM}/Groups?": without_team(team)})
    world.say(world.cycle(Order(by="root", reviewed=agrees, resync=True), weather))
    cycle(world, resync=True)
    assert [*world.keeper.teams()] == [team] and teams_of(world, "ada") == {"Sales"}


def test_a_removal_that_emptied_the_last_team_is_not_said_to_have_never_arrived(world: World) -> None:
    """Keeper leaves out what is empty, so that its lists name no team and no member any more."""

    def leaves_out(reply: Response) -> Response:
        if reply.status != 200:
            return reply
        found = json.loads(reply.body)
        for row in found.get("Resources", [found]):
            for name in ("groups", "members"):
                if row.get(name) == []:
                    del row[name]
        return Response.of_json(200, found, reply.headers)

    sales = group(world, "Sales")
    ada, _ = joined(world, "ada", sales)
    world.jumpcloud.bind_user(world.application, ada)
    world.admin_changed()
    cycle(world, resync=True)
    world.jumpcloud.remove_member(sales, ada)
    world.admin_changed()
    lost = {f"Keeper PATCH {SCIM}/Users": "late_timeout"}
    for script in (lost, {}, {}, {}):
        world.time.elapsed += 600
        weather = Weather(1, script=script, edits={"Keeper GET": leaves_out})
        world.say(world.cycle(Order(by="schedule", resync=True), weather))
    with world.open() as store:
        states = [row["state"] for row in store.journal_rows() if row["kind"] == "update_user"]
    world.store = None
    assert not teams_of(world, "ada") and states == ["done", "put_off"]


def as_open(account: str) -> Callable[[Response], Response]:
    """Lists and records show this account as it was before its lock."""

    def edit(reply: Response) -> Response:
        found = json.loads(reply.body)
        for row in found.get("Resources", [found]):
            row["active"] = row["active"] or row["id"] == account
        return Response.of_json(reply.status, found, reply.headers)

    return edit


@pytest.mark.parametrize("back", ["in scope", "out of scope, and drift is only reported"])
def test_a_look_that_is_behind_does_not_make_our_lock_somebody_elses(world: World, back: str) -> None:
    """The request of one person reads their own account as it was before our lock."""
    if back != "in scope":
        world.rules.policy = {"drift": "report"}
    person(world, "zoe")
    ada, account = joined(world, "ada")
    suspend(world, ada)
    cycle(world)
    if back == "in scope":
        activate(world, ada)
    behind = Weather(1, edits={f"Keeper GET {SCIM}/Users/{account}": as_open(account)})
    world.time.elapsed += 30
    world.say(world.cycle(Order(by="root", person="ada@example.com", resync=True), behind))
    cycle(world, resync=True)
    activate(world, ada)
    cycle(world)
    assert world.keeper.account(account).active


def test_what_is_read_after_an_apply_is_older_than_its_answers(world: World) -> None:
    """A creation has no answer, so that Keeper is listed at once, as it was before a lock of the same apply."""
    person(world, "zoe")
    ada, account = joined(world, "ada")
    suspend(world, ada)
    person(world, "bob")
    world.time.elapsed += 30
    begin, behind = world.time.elapsed, as_open(account)
    weather = Weather(
        1,
        script={f"Keeper POST {SCIM}/Users": "late_timeout"},
        edits={f"Keeper GET {SCIM}/Users": lambda reply: behind(reply) if world.time.elapsed > begin + 60 else reply},
    )
    world.say(world.cycle(Order(by="schedule"), weather))
    assert world.keeper.account(account).locked
    cycle(world, resync=True)
    activate(world, ada)
    cycle(world)
    assert world.keeper.account(account).active


def test_two_lists_that_are_behind_take_no_team_for_gone(world: World) -> None:
    """A fresh list has shown the team that was queued just now; the two after it are from before that."""
    person(world, "ada", group(world, "Sales"))
    cycle(world)
    [team] = world.keeper.teams()
    for edits in ({}, nothing_of(team), nothing_of(team)):
        world.time.elapsed += 15
        world.say(world.cycle(Order(by="root", resync=True), Weather(1, edits=edits)))
    assert [*world.keeper.teams()] == [team]


@pytest.mark.parametrize("deleted", [True, False])
def test_a_new_name_of_a_team_that_does_not_show_is_not_said_to_have_never_arrived(world: World, deleted: bool) -> None:
    """Somebody deletes it, or one list overlooks it."""
    sales = group(world, "Sales")
    joined(world, "ada", sales)
    cycle(world, resync=True)
    [team] = world.keeper.teams()
    world.jumpcloud.rename_group(sales, "Retail")
    world.admin_changed()
    unlisted = {f"GET {SCIM}/Groups?": "error"}
    cycle(world, {f"PATCH {SCIM}/Groups/{team}": "late_cut", **unlisted})
    assert world.keeper.teams()[team].name == "Retail"
    if deleted:
        world.keeper.delete_team(team)
        world.admin_changed(team)
    for edits in (nothing_of(team), {}):
        world.time.elapsed += 600
        world.say(world.cycle(Order(by="root", resync=True), Weather(1, edits=edits)))
    with world.open() as store:
        states = [row["state"] for row in store.journal_rows() if row["kind"] == "rename_team"]
    world.store = None
    assert states == ["put_off" if deleted else "done"]
    assert [one.name for one in world.keeper.teams().values()] == ["Retail"]


def test_what_became_of_a_deletion_is_open_until_the_team_is_sure_to_be_gone(world: World) -> None:
    team_deleted_without_answer(world)
    states = []
    for seconds in (20, 20, 120):
        world.time.elapsed += seconds
        world.say(world.cycle(Order(by="root", resync=True), Weather(1)))
        with world.open() as store:
            states += [row["state"] for row in store.journal_rows() if row["kind"] == "delete_team"]
        world.store = None
    assert not world.keeper.teams() and states == ["unknown", "unknown", "done"]


def test_a_look_that_is_behind_tells_of_no_lock_where_something_else_has_no_outcome(world: World) -> None:
    person(world, "zoe")
    ada, account = joined(world, "ada")
    cycle(world)
    world.jumpcloud.update_user(ada, lastname="Byron")
    world.admin_changed()
    cycle(world, {f"PATCH {SCIM}/Users/{account}": "timeout", f"GET {SCIM}/Users": "error"})
    suspend(world, ada)
    world.time.elapsed += 60
    world.say(world.lane(Weather(0)))
    assert not active(world, "ada")
    activate(world, ada)
    world.time.elapsed += 30
    behind = Weather(1, edits={f"Keeper GET {SCIM}/Users/{account}": as_open(account)})
    world.say(world.cycle(Order(by="root", person="ada@example.com", resync=True), behind))
    cycle(world, resync=True)
    cycle(world)
    assert active(world, "ada")


def test_whom_an_administrator_has_let_in_is_not_said_to_be_locked_after_a_look_at_them(world: World) -> None:
    person(world, "zoe")
    _, account = joined(world, "ada")
    world.keeper.lock(account)
    world.admin_changed(account)
    cycle(world, resync=True)
    world.keeper.unlock(account)
    world.admin_changed(account)
    cycle(world, person="ada@example.com", resync=True)
    cycle(world)
    assert world.plan is not None
    assert [notice.kind for notice in world.plan.notices] == []


def test_a_list_that_is_behind_does_not_show_a_lock_on_an_account_that_went_since(world: World) -> None:
    """It shows our lock, which we have undone: the account was deleted just after that."""
    joined(world, "zoe")
    ada, account = joined(world, "ada")
    suspend(world, ada)
    cycle(world)
    before: list[Response] = []

    def noted(reply: Response) -> Response:
        before.append(reply)
        return reply

    lists = f"Keeper GET {SCIM}/Users?"
    world.say(world.cycle(Order(by="root", resync=True), Weather(1, edits={lists: noted})))
    activate(world, ada)
    cycle(world)
    world.keeper.delete_user(account)
    world.admin_changed(account)
    world.time.elapsed += 60
    behind = Weather(1, edits={lists: lambda reply: before.pop(0) if before else reply})
    world.say(world.cycle(Order(by="root", resync=True), behind))
    cycle(world, resync=True)
    assert active(world, "ada")
