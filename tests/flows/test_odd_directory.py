"""One record or list of JumpCloud that can't be read: everybody else is served, through the real command line."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from reconciler.simulator.faults import Rewrite, rewrite_rows, status
from reconciler.simulator.service import Request, Response
from reconciler.store import Store
from tests.flows.hidden import Answered
from tests.inside import accept
from tests.stage import World


def fill(world: World, people: int = 8) -> tuple[list[str], list[str]]:
    groups = [world.group("Engineering"), world.group("Sales")]
    found = [world.person(f"p{number}", groups[number % 2]) for number in range(people)]
    world.run("apply")
    return found, groups


def notices(world: World, kind: str = "quarantined") -> list[dict[str, Any]]:
    document = json.loads(world.run("plan", "--format", "json").stdout)
    return [one for one in document["notices"] if one["kind"] == kind]


def active(world: World) -> set[str]:
    return {one.email for one in world.keeper.accounts().values() if one.active}


def spoil(**values: Any) -> Callable[[World, str, str], None]:
    return lambda world, person, _: world.jumpcloud.oddities.spoil(person, **values)


def spoil_node(**values: Any) -> Callable[[World, str, str], None]:
    return lambda world, person, _: world.jumpcloud.oddities.spoil_node(person, **values)


def down(route: str, status: int) -> Callable[[World, str, str], None]:
    return lambda world, person, _: world.jumpcloud.oddities.take_down(route.replace("PERSON", person), status)


ODD: dict[str, tuple[Callable[[World, str, str], None], set[tuple[str, str]]]] = {
    "a number for the first name": (spoil(firstname=5), {("user", "p0@example.com")}),
    "a list for the state": (spoil(state=[]), {("user", "p0@example.com")}),
    "no state at all": (spoil(state=None, suspended=None), {("user", "p0@example.com")}),
    "no id in the list": (spoil(_id=None), {("list", "users"), ("user", "p0@example.com")}),
    "paths that are none": (spoil_node(paths=7), {("user", "p0@example.com")}),
    "a group without a name": (
        lambda world, _, group: world.jumpcloud.oddities.spoil(group, name=""),
        {("team", "Engineering")},
    ),
    "a hidden record": (lambda world, person, _: world.jumpcloud.hide_user(person), {("user", "p0@example.com")}),
    "no names of groups": (
        down("/api/v2/usergroups", 403),
        {("list", "user groups")},
    ),
    "no list of groups": (down("/api/v2/applications/[^/]+/usergroups", 403), {("list", "groups in scope")}),
    "no list of users": (down("/api/systemusers", 403), set()),
    "a firewall for one person": (down(".*/PERSON.*", 403), set()),
}

UNREAD = frozenset({"no names of groups", "no list of groups"})
"""The ways in which a list could not be had at all: whatever it would tell is missing."""


@pytest.mark.parametrize("way", ODD)
def test_everybody_else_is_served(world: World, way: str) -> None:
    people, groups = fill(world)
    before = world.keeper.accounts()
    spoiled, expected = ODD[way]
    spoiled(world, people[0], groups[0])
    world.jumpcloud.suspend(people[1])
    world.person("joiner", groups[1])
    code = 5 if way in UNREAD else 0
    world.run("apply", expect=code)
    assert active(world) == {f"p{number}@example.com" for number in range(8) if number != 1} | {"joiner@example.com"}
    assert {key: one for key, one in world.keeper.accounts().items() if one.email == "p0@example.com"} == {
        key: one for key, one in before.items() if one.email == "p0@example.com"
    }
    said = notices(world)
    assert expected <= {(one["subject"]["type"], one["subject"]["name"]) for one in said}
    assert all(". " in one["message"] for one in said)
    writes = world.writes()
    world.run("apply", expect=code)
    assert world.writes() == writes


def test_rows_of_the_scope_that_cannot_be_used_hold_nothing_and_lock_nobody_out(world: World) -> None:
    """Each looks like somebody who has left: so many locks would be over a limit, and nobody is let in by a list."""
    people, groups = fill(world, 12)
    accept(world)
    world.jumpcloud.suspend(people[0])
    world.run("apply")
    for one in people[:6]:
        world.jumpcloud.oddities.spoil_node(one, id=one.upper())
    world.jumpcloud.activate(people[0])
    world.jumpcloud.remove_member(groups[1], people[11])
    world.person("joiner", groups[1])
    world.run("apply")
    assert active(world) == {f"p{number}@example.com" for number in range(11)} | {"joiner@example.com"}
    assert world.differences() == []


def test_lists_that_tell_nobodys_state_are_lists_that_cannot_be_read(world: World) -> None:
    people, _ = fill(world, 14)
    world.jumpcloud.suspend(people[0])

    def stateless(handle: Callable[[Request], Response], request: Request) -> Response:
        return rewrite_rows(handle(request), lambda rows: [row | {"state": None, "suspended": None} for row in rows])

    world.front.faults.add(Answered(stateless), target=r"/api/systemusers\?|/api/search/")
    writes = world.writes()
    assert "NOT READ: JumpCloud's list of users" in " ".join(world.run("apply", expect=5).stdout.split())
    assert world.writes() == writes
    assert [one["subject"]["name"] for one in notices(world)] == ["users"]
    assert not notices(world, "state_unknown")


def test_a_deleted_group_that_the_graph_still_names_stops_nobody(world: World) -> None:
    people, groups = fill(world)
    world.jumpcloud.assumptions = replace(world.jumpcloud.assumptions, graph_lag=1e9)
    world.jumpcloud.delete_group(groups[0])
    world.jumpcloud.suspend(people[1])
    world.run("apply")
    assert active(world) == {f"p{number}@example.com" for number in range(8) if number != 1}
    assert [one["subject"]["name"] for one in notices(world)] == ["Engineering"]


def test_pages_and_totals_that_lie_lock_nobody(world: World) -> None:
    people, _ = fill(world, 12)
    world.jumpcloud.assumptions = replace(world.jumpcloud.assumptions, page_rows=5, totals="page")
    world.jumpcloud.suspend(people[1])
    world.run("apply")
    assert active(world) == {f"p{number}@example.com" for number in range(12) if number != 1}
    assert not notices(world)


def test_somebody_hidden_whose_own_list_is_empty_is_not_taken_for_deleted(world: World) -> None:
    people, _ = fill(world)
    world.jumpcloud.hide_user(people[0])
    world.front.faults.add(Rewrite(keep=0, total=0), target=f"/api/v2/users/{people[0]}/applications")
    world.jumpcloud.delete_user(people[1])
    writes = world.writes()
    world.run("resync", "p0@example.com")
    assert world.writes() == writes
    world.run("apply")
    assert active(world) == {f"p{number}@example.com" for number in range(8) if number != 1}
    assert ("user", "p0@example.com") in {(one["subject"]["type"], one["subject"]["name"]) for one in notices(world)}


@pytest.mark.parametrize("code", [404, 410])
def test_somebody_of_whom_only_the_application_knows_is_not_taken_for_deleted(world: World, code: int) -> None:
    people, _ = fill(world)
    world.jumpcloud.hide_user(people[0])
    world.front.faults.add(status(code), target=f"/api/v2/users/{people[0]}/")
    writes = world.writes()
    for command in (["apply"], ["resync", "p0@example.com"], ["apply", "--resync"]):
        world.run(*command)
        assert world.writes() == writes
    assert ("user", "p0@example.com") in {(one["subject"]["type"], one["subject"]["name"]) for one in notices(world)}
    # One reading of the application's list that lacks them is no proof either.
    readings: list[str] = []

    def lacks(handle: Callable[[Request], Response], request: Request) -> Response:
        readings.extend(start for start in request.query["skip"] if start == "0")
        lacking = rewrite_rows(handle(request), lambda rows: [row for row in rows if row["id"] != people[0]], 7)
        return lacking if len(readings) == 1 else handle(request)

    world.front.faults.add(Answered(lacks), target=r"/api/v2/applications/[^/]+/users\?")
    assert "in the application's list when that is read again" in " ".join(world.run("apply", expect=5).stdout.split())
    assert world.writes() == writes


@pytest.mark.parametrize("command", [["apply"], ["resync", "p0@example.com"]], ids=["apply", "resync"])
def test_somebody_deleted_is_locked_once_the_application_lists_them_no_more(world: World, command: list[str]) -> None:
    people, _ = fill(world)
    accept(world)
    world.jumpcloud.assumptions = replace(world.jumpcloud.assumptions, graph_lag=1e9)
    world.jumpcloud.delete_user(people[0])
    world.run(*command)
    assert "p0@example.com" in active(world)
    world.jumpcloud.settle_graph()
    assert "deleted in JumpCloud" in world.run(*command).stdout
    assert "p0@example.com" not in active(world)


def test_a_first_plan_calls_nobody_out_of_scope_whom_the_application_lists(world: World) -> None:
    group = world.group("Engineering")
    for number in range(4):
        one = world.person(f"p{number}", group)
        world.keeper.add_user(f"p{number}@example.com", external_id=one)
    world.jumpcloud.hide_user(one)
    world.front.faults.add(status(404), target=f"/api/v2/users/{one}/")
    told = " ".join(world.run("plan").stdout.split())
    assert "not in scope" not in told and "reconciler adopt" not in told
    assert "JumpCloud's application lists them" in told


def test_nobody_is_shown_without_an_address_whose_record_is_hidden(world: World) -> None:
    people, _ = fill(world)
    world.jumpcloud.hide_user(people[0])
    shown = world.run("explain", "p0@example.com").stdout
    assert "(no address)" not in shown and "(no known address)" in shown


def test_somebody_hidden_for_a_day_waits_for_a_person(world: World) -> None:
    people, _ = fill(world)
    world.jumpcloud.hide_user(people[0])
    world.run("apply")
    with Store.open(world.folder / "state" / "reconciler.db", write=True) as store:
        held = store.snapshot()
        aged = {key: replace(one, since=one.since - timedelta(days=1)) for key, one in held.unclear.items()}
        store.save(replace(held, unclear=aged), held)
    writes = world.writes()
    done = world.run("apply", expect=4)
    assert "shows no record of them" in " ".join((done.stdout + done.stderr).split())
    assert world.writes() == writes and len(active(world)) == 8
    world.jumpcloud.show_user(people[0])
    world.run("apply")
    with world.state() as store:
        assert not store.snapshot().unclear


@pytest.mark.parametrize("field", ["displayLabel", "organization"])
def test_a_field_of_the_application_that_cannot_be_read_stops_nothing(world: World, field: str) -> None:
    people, groups = fill(world)
    world.jumpcloud.oddities.spoil(world.application, **{field: 5})
    world.jumpcloud.suspend(people[1])
    world.person("joiner", groups[0])
    world.run("apply")
    assert active(world) == {f"p{number}@example.com" for number in range(8) if number != 1} | {"joiner@example.com"}


def test_records_that_are_missing_while_lists_show_everybody_keep_nobody_waiting(world: World) -> None:
    people, groups = fill(world)
    accept(world)
    world.jumpcloud.suspend(people[1])
    world.run("apply")
    world.front.faults.add(status(404), target="/api/systemusers/")
    world.jumpcloud.activate(people[1])
    world.jumpcloud.remove_member(groups[0], people[2])
    world.jumpcloud.settle_graph()
    world.person("joiner", groups[0])
    world.run("apply")
    assert active(world) == {f"p{number}@example.com" for number in range(8) if number != 2} | {"joiner@example.com"}


def test_somebody_who_was_listed_and_seems_deleted_is_locked_by_the_cycle_that_does_not_list_them(world: World) -> None:
    people, _ = fill(world)
    accept(world)
    world.front.faults.add(status(404), target=f"/api/systemusers/{people[0]}")
    world.front.faults.add(status(404), target=f"/api/v2/users/{people[0]}/")
    world.front.faults.add(Rewrite(drop=[people[0]]), target="/api/v2/applications/[^/]+/users")
    for _ in range(2):
        world.run("apply", expect=None)
        assert len(active(world)) == 8
    world.jumpcloud.delete_user(people[0])
    world.run("apply")
    assert active(world) == {f"p{number}@example.com" for number in range(1, 8)}


def test_a_null_row_of_the_scope_about_somebody_who_lives_keeps_nobody_out(world: World) -> None:
    """Deleted users leave such rows behind too: as many as there are of them are looked up, and no more."""
    people, _ = fill(world)
    accept(world)
    world.jumpcloud.suspend(people[0])
    world.run("apply")
    world.jumpcloud.activate(people[0])

    def nulled(handle: Callable[[Request], Response], request: Request) -> Response:
        return rewrite_rows(handle(request), lambda rows: [None if row["id"] in people[:2] else row for row in rows])

    world.front.faults.add(Answered(nulled), target="/api/v2/applications/[^/]+/users")
    writes = world.writes()
    for number in (1, 1, 0):
        world.run("apply")
        assert len(active(world)) == 8 and world.writes() == writes + 1
        alone = [one for one in world.front.requests if re.search("/users/[^/]+/applications", one.target)]
        assert len(alone) <= 2 + number
        world.front.requests.clear()


def test_the_organisation_that_the_settings_name_is_believed_where_the_application_names_none(world: World) -> None:
    """An administrator of several may be shown all of them, whichever the request names."""
    home, other = world.jumpcloud.organization().id, "f" * 24
    world.jumpcloud.assumptions = replace(world.jumpcloud.assumptions, application_organization=False)

    def also_another(handle: Callable[[Request], Response], request: Request) -> Response:
        return rewrite_rows(handle(request), lambda rows: [*rows, *({"_id": other} for _ in rows)], 2)

    world.front.faults.add(Answered(also_another), target="/api/organizations")
    refused = world.run("check", expect=1).stderr
    assert "2 organisations" in refused and "jumpcloud.organization" in refused
    settings = world.folder / "config.toml"
    settings.write_text(settings.read_text().replace("[jumpcloud]", f'[jumpcloud]\norganization = "{home}"', 1))
    assert f"organisation {home}," in world.run("check").stdout


@pytest.mark.parametrize("route", ["/api/search/", r"/api/v2/usergroups\?"])
def test_a_refusal_of_one_route_stops_only_what_needs_it(world: World, route: str) -> None:
    """The key is accepted: other routes answer."""
    people, groups = fill(world, 12)
    accept(world)
    world.safety["max_creations"] = "100"
    world.write_settings()
    world.front.faults.add(status(401), target=route)
    world.jumpcloud.delete_user(people[0])
    for number in range(12):
        world.person(f"j{number}", groups[0])
    world.run("apply", expect=5 if "groups" in route else 0)
    joiners = {f"j{number}@example.com" for number in range(12)}
    assert active(world) == {f"p{number}@example.com" for number in range(1, 12)} | joiners


def of_two(handle: Callable[[Request], Response], request: Request) -> Response:
    return rewrite_rows(handle(request), lambda rows: [*rows, *({"_id": "f" * 24} for _ in rows)], 2)


@pytest.mark.parametrize("fault", [status(403), Answered(of_two)], ids=["refused", "of two organisations"])
def test_the_list_of_organisations_is_not_needed_once_the_application_is_on_record(world: World, fault: Any) -> None:
    world.jumpcloud.assumptions = replace(world.jumpcloud.assumptions, application_organization=False)
    people, _ = fill(world)
    world.front.faults.add(fault, target="/api/organizations")
    world.jumpcloud.delete_user(people[0])
    world.jumpcloud.delete_user(people[1])
    world.run("resync", "p0@example.com")
    assert "p0@example.com" not in active(world)
    world.run("apply")
    assert active(world) == {f"p{number}@example.com" for number in range(2, 8)}


@pytest.mark.parametrize("odd", [{"state": "PENDING", "suspended": True}, {"state": "SUSPENDED", "suspended": "maybe"}])
def test_a_suspended_person_is_not_said_to_keep_access_for_another_odd_field(world: World, odd: dict[str, Any]) -> None:
    people, _ = fill(world)
    accept(world)
    world.jumpcloud.oddities.spoil(people[0], **odd)
    assert notices(world) == []
    world.run("apply")
    assert "p0@example.com" not in active(world)


def test_what_a_refused_confirmation_says_ends_in_one_sentence_after_the_other(world: World) -> None:
    people, groups = fill(world)
    accept(world)
    world.jumpcloud.remove_member(groups[0], people[0])
    world.front.faults.add(status(403), target=f"/api/v2/users/{people[0]}/applications")
    told = " ".join(world.run("apply", expect=5).stdout.split())
    assert ". Put off until the next cycle" in told
    assert ".;" not in told


def test_locks_that_wait_because_accounts_were_gone_say_what_comes_next(world: World) -> None:
    """Nobody has accepted the invitation: each lock withdraws one."""
    people, _ = fill(world, 15)
    for one in people[:4]:
        world.jumpcloud.suspend(one)
    world.safety["max_deactivations"] = "10"
    world.write_settings()
    told = " ".join(world.run("apply", expect=5).stdout.split())
    assert "the next cycle holds more of these locks for a release" in told
    assert "reconciler release " in world.run("apply", expect=4).stdout


def test_one_known_person_is_served_where_nobody_may_look_for_an_address(world: World) -> None:
    people, _ = fill(world)
    accept(world)
    world.jumpcloud.suspend(people[0])
    world.jumpcloud.update_user(people[1], email="other@example.com")
    world.jumpcloud.oddities.take_down("/api/(search/)?systemusers", 403)
    assert '"status": "suspended"' in world.run("explain", "p0@example.com", "--json").stdout
    world.run("resync", "p0@example.com")
    assert "p0@example.com" not in active(world)
    writes = world.writes()
    for nobody_sure in ("p1@example.com", "other@example.com"):
        world.run("resync", nobody_sure, expect=1)
    assert world.writes() == writes
