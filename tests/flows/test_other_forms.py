"""Replies in forms that nobody has seen yet, and that say the same: the outcome is the same, without a word of it."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from reconciler.cycle import Order
from reconciler.simulator.faults import Instead, Rewrite
from reconciler.simulator.server import Server
from reconciler.simulator.service import Request, Response
from tests.flows.hidden import Answered
from tests.inside import Inside, accept, account, fill
from tests.stage import World

Change = Callable[[Any], Any]


def rewrite(server: Server, change: Change, target: str, method: str | None = None) -> None:
    """Have every JSON document of a service changed on its way."""

    def run(handle: Callable[[Request], Response], request: Request) -> Response:
        response = handle(request)
        if not isinstance(response, Response) or not 200 <= response.status < 300 or not response.body:
            return response
        headers = {name: value for name, value in response.headers.items() if name != "content-length"}
        return Response.of_json(response.status, change(json.loads(response.body)), headers)

    server.faults.add(Answered(run), method=method, target=target)


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


def changed(attribute: str, change: Callable[[str], str]) -> Change:
    def row(document: Any) -> Any:
        return document | {attribute: change(document[attribute])} if document.get(attribute) else document

    return of_users(row)


@pytest.mark.parametrize(
    ("attribute", "form"),
    [("displayName", lambda name: name[:4]), ("displayName", str.upper), ("externalId", str.upper)],
)
def test_what_keeper_shows_in_another_form_than_it_answers_is_put_right_once(
    world: World, attribute: str, form: Callable[[str], str]
) -> None:
    """Each resync would send everybody's value once more, for ever, and call that a change behind our back."""
    groups, people = fill(world)
    rewrite(world.back, changed(attribute, form), "/(Users|Groups)", "GET")
    inside = Inside(world)
    inside.run()
    accept(world)

    def resync() -> int:
        inside.later(hours=1)
        return len(inside.run(Order(resync=True)).results)

    assert resync() == len(people) + len(groups)
    assert resync() == 0
    world.jumpcloud.update_user(people[0], displayname="Another Name")
    world.jumpcloud.rename_group(groups[0], "Research")
    assert resync() == 2
    resync()
    assert resync() == 0 and world.differences() == []


def test_a_name_that_somebody_changes_again_once_keeper_has_shown_ours_is_put_back_again(world: World) -> None:
    _, people = fill(world)
    inside = Inside(world)
    inside.run()
    accept(world)
    ada = account(world, people[0])
    for _ in range(2):
        world.keeper.rename_user(ada.id, display_name="Somebody Else")
        for sent in (1, 0):
            inside.later(hours=1)
            assert len(inside.run(Order(resync=True)).results) == sent
        assert account(world, people[0]).display_name == ada.display_name
