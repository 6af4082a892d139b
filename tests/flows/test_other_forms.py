"""Replies in forms that nobody has seen yet, and that say the same: the outcome is the same, without a word of it."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from reconciler.simulator.faults import Instead, Rewrite
from reconciler.simulator.server import Server
from reconciler.simulator.service import Request, Response
from tests.flows.hidden import Answered
from tests.inside import Inside, accept, fill
from tests.stage import World

Change = Callable[[Any], Any]


def rewrite(server: Server, change: Change, target: str) -> None:
    """Have every JSON document of a service changed on its way."""

    def run(handle: Callable[[Request], Response], request: Request) -> Response:
        response = handle(request)
        if not isinstance(response, Response) or not 200 <= response.status < 300 or not response.body:
            return response
        headers = {name: value for name, value in response.headers.items() if name != "content-length"}
        return Response.of_json(response.status, change(json.loads(response.body)), headers)

    server.faults.add(Answered(run), target=target)


def of_users(change: Change) -> Change:
    def everywhere(document: Any) -> Any:
        if "Resources" in document:
            return document | {"Resources": [change(row) for row in document["Resources"]]}
        return change(document)

    return everywhere


def totals_in_digits(document: Any) -> Any:
    found = {key: str(value) if key in ("totalResults", "totalCount") else value for key, value in document.items()}
    if found.get("Resources") == []:
        del found["Resources"]
    return found


def bare_empty_page(document: Any) -> Any:
    return document if document.get("Resources") else {"schemas": document["schemas"]}


def null_for_an_empty_list(document: Any) -> Any:
    if isinstance(document, dict):
        return document | ({"results": None} if document.get("results") == [] else {})
    return document or None


def without(*keys: str) -> Change:
    return of_users(lambda row: {key: value for key, value in row.items() if key not in keys})


KEEPER: dict[str, tuple[str, Change]] = {
    "totals in digits": (r"/(Users|Groups)\?", totals_in_digits),
    "an empty page without anything": (r"/(Users|Groups)\?startIndex", bare_empty_page),
    "no userName": ("/Users", without("userName")),
    "no emails": ("/Users", without("emails")),
    "no members": ("/Groups", without("members")),
    "no groups": ("/Users", without("groups")),
    "lists without memberships": (r"/(Users|Groups)\?", without("groups", "members")),
    "no memberships at all": ("/(Users|Groups)", without("groups", "members")),
}
JUMPCLOUD: dict[str, tuple[str, Change]] = {
    "totals in digits": ("/api/(applications|systemusers|search)", totals_in_digits),
    "null for an empty list": ("/api/", null_for_an_empty_list),
}


@pytest.mark.parametrize(
    ("service", "form"), [*(("keeper", form) for form in KEEPER), *(("jumpcloud", form) for form in JUMPCLOUD)]
)
def test_a_history(world: World, service: str, form: str) -> None:
    groups, people = fill(world)
    target, change = KEEPER[form] if service == "keeper" else JUMPCLOUD[form]
    rewrite(world.back if service == "keeper" else world.front, change, target)
    inside = Inside(world)
    assert inside.run().result == "done"
    accept(world)
    world.jumpcloud.suspend(people[1])
    world.jumpcloud.update_user(people[3], firstname="Changed")
    for one in (people[2], people[4]):
        world.jumpcloud.remove_member(groups[0], one)
    world.jumpcloud.add_member(groups[1], people[2])
    world.person("joiner", groups[1])
    for _ in range(2):
        inside.later(hours=2)
        inside.run()
    assert world.differences() == []
    writes = world.writes()
    inside.later(hours=2)
    outcome = inside.run()
    assert outcome.good and world.writes() == writes
    assert "quarantined" not in {notice.kind.value for notice in outcome.plan.notices}


@pytest.mark.parametrize("headers", [{}, {"x-total-count": "1"}])
def test_null_in_place_of_a_list_proves_nothing(world: World, headers: dict[str, str]) -> None:
    _, people = fill(world)
    inside = Inside(world)
    inside.run()
    accept(world)
    world.front.faults.add(Rewrite(drop=people[:1]), target="/api/v2/applications/[^/]+/users")
    for of_person in ("applications", "memberof"):
        null = Instead(Response.of_json(200, None, headers))
        world.front.faults.add(null, target=f"/api/v2/users/{people[0]}/{of_person}")
    writes = world.writes()
    for _ in range(2):
        inside.later(hours=2)
        outcome = inside.run()
        assert [notice.subject.name for notice in outcome.plan.notices if notice.kind.value == "unconfirmed"] == [
            "p0@example.com"
        ]
    assert world.writes() == writes and world.differences() == []
