"""Faults that the simulated JumpCloud can play and that a client must survive."""

import json
from typing import Any

import pytest

from reconciler.simulator.jumpcloud import JumpCloud, controlled
from reconciler.simulator.jumpcloud_assumptions import Assumptions
from reconciler.simulator.service import Request, Response

KEY = "jca_oddities"


def organisation(**reading: Any) -> tuple[JumpCloud, str, list[str], str]:
    """Five people in one bound group; the application, the people and the group."""
    simulator = JumpCloud(Assumptions(**reading))
    simulator.add_api_key(KEY)
    application, group = simulator.add_application("Keeper"), simulator.add_group("Team")
    simulator.bind_group(application, group)
    people = [simulator.add_user(f"user{number}@example.com") for number in range(5)]
    for one in people:
        simulator.add_member(group, one)
    return simulator, application, sorted(people), group


def ask(simulator: JumpCloud, target: str) -> Response:
    return simulator.handle(Request("GET", target, {"x-api-key": KEY}))


def rows(response: Response) -> list[Any]:
    document = json.loads(response.body)
    found: list[Any] = document["results"] if isinstance(document, dict) else document
    return found


def test_pages_hold_fewer_rows_and_totals_count_the_page() -> None:
    simulator, application, _, _ = organisation(page_rows=2, totals="page")
    users = ask(simulator, "/api/systemusers?limit=100&sort=_id")
    assert (len(rows(users)), json.loads(users.body)["totalCount"]) == (2, 2)
    scope = ask(simulator, f"/api/v2/applications/{application}/users?limit=100&skip=4")
    assert (len(rows(scope)), scope.headers["x-total-count"]) == (1, "1")


def test_rows_shift_with_each_request() -> None:
    simulator, application, people, _ = organisation(shifting_rows=True)
    target = f"/api/v2/applications/{application}/users?limit=100"
    first, second = ([row["id"] for row in rows(ask(simulator, target))] for _ in range(2))
    assert first != second and sorted(first) == sorted(second) == people


def test_a_hidden_record_is_nowhere_but_in_the_graph() -> None:
    simulator, application, people, _ = organisation()
    simulator.hide_user(people[0])
    listed = [row["_id"] for row in rows(ask(simulator, "/api/systemusers?limit=100&sort=_id"))]
    assert listed == people[1:]
    assert ask(simulator, f"/api/systemusers/{people[0]}").status == 404
    assert len(rows(ask(simulator, f"/api/v2/applications/{application}/users?limit=100"))) == 5
    simulator.show_user(people[0])
    assert ask(simulator, f"/api/systemusers/{people[0]}").status == 200


def test_what_is_gone_may_be_answered_410() -> None:
    simulator, _, people, group = organisation(gone_status=410)
    simulator.delete_user(people[0])
    simulator.delete_group(group)
    paths = (f"/api/systemusers/{people[0]}", f"/api/v2/usergroups/{group}", f"/api/v2/users/{people[0]}/applications")
    assert [ask(simulator, path).status for path in paths] == [410, 410, 410]


@pytest.mark.parametrize(("reading", "found"), [("heeded", 1), ("ignored", 5), ("refused", None)])
def test_filters_by_state(reading: str, found: int | None) -> None:
    simulator, _, people, _ = organisation(state_filter=reading)
    simulator.suspend(people[0])
    reply = ask(simulator, "/api/systemusers?filter[or][0]=state:$eq:SUSPENDED&filter[or][1]=suspended:$eq:true")
    assert (len(rows(reply)) if reply.status == 200 else None) == found


def test_odd_records_and_nodes_until_they_are_healed() -> None:
    simulator, application, people, group = organisation()
    scope, groups = f"/api/v2/applications/{application}/users?limit=100", "/api/v2/usergroups?limit=100"
    simulator.oddities.spoil(people[0], email=5, nonsense=1)
    simulator.oddities.spoil(group, name=None)
    simulator.oddities.spoil_node(people[0], paths=7)
    record = json.loads(ask(simulator, f"/api/systemusers/{people[0]}").body)
    assert record["email"] == 5 and "nonsense" not in record
    assert [row["name"] for row in rows(ask(simulator, groups))] == [None]
    assert [row["id"] for row in rows(ask(simulator, scope)) if row["paths"] == 7] == [people[0]]
    simulator.oddities.heal(people[0])
    assert all(row["paths"] != 7 for row in rows(ask(simulator, scope)))


def test_a_route_that_is_down() -> None:
    simulator, _, people, _ = organisation()
    controls = controlled(simulator).controls
    controls["take_down"](route="/api/v2/usergroups", status=403)
    assert ask(simulator, "/api/v2/usergroups?limit=100").status == 403
    assert ask(simulator, f"/api/systemusers/{people[0]}").status == 200
    controls["put_up"](route="/api/v2/usergroups")
    assert ask(simulator, "/api/v2/usergroups?limit=100").status == 200
