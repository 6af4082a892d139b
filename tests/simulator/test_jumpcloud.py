"""The simulated JumpCloud, asked without sockets."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import pytest

from reconciler.simulator.jumpcloud import JumpCloud, controlled
from reconciler.simulator.jumpcloud_v1 import PRIVATE_KEY
from reconciler.simulator.sample import API_KEY, organisation
from reconciler.simulator.service import Request, Response

UNKNOWN = "f" * 24


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class World:
    """A JumpCloud with Ann (direct and in Ops), Bob (in Ops and Dev) and Cid (in nothing)."""

    jumpcloud: JumpCloud
    clock: Clock
    key: str
    app: str
    ann: str
    bob: str
    cid: str
    ops: str
    dev: str

    def ask(
        self, target: str, *, method: str = "GET", body: Any = None, headers: dict[str, str] | None = None
    ) -> Response:
        sent = {"x-api-key": self.key} if headers is None else headers
        if body is not None:
            sent = {"content-type": "application/json", **sent}
        data = b"" if body is None else json.dumps(body).encode()
        return self.jumpcloud.handle(Request(method, target, sent, data))

    def get(self, target: str) -> Any:
        response = self.ask(target)
        assert response.status == 200, response.body
        return json.loads(response.body)

    def search(self, body: Any, query: str = "") -> Any:
        response = self.ask(f"/api/search/systemusers{query}", method="POST", body=body)
        assert response.status == 200, response.body
        return json.loads(response.body)

    def assume(self, **readings: Any) -> None:
        self.jumpcloud.assumptions = replace(self.jumpcloud.assumptions, **readings)


@pytest.fixture
def world() -> World:
    clock = Clock()
    jumpcloud = JumpCloud(clock=clock)
    ann, bob, cid = (jumpcloud.add_user(f"{name}@example.com") for name in ("ann", "bob", "cid"))
    ops, dev = jumpcloud.add_group("Ops"), jumpcloud.add_group("Dev")
    app = jumpcloud.add_application("Keeper")
    for group in (ops, dev):
        jumpcloud.bind_group(app, group)
    jumpcloud.add_member(ops, ann)
    jumpcloud.add_member(ops, bob)
    jumpcloud.add_member(dev, bob)
    jumpcloud.bind_user(app, ann)
    return World(jumpcloud, clock, jumpcloud.add_api_key(), app, ann, bob, cid, ops, dev)


def ids(rows: list[Any]) -> set[str]:
    return {row.get("id") or row.get("_id") or row["to"]["id"] for row in rows}


def nodes(element: dict[str, Any]) -> list[list[str]]:
    return [[step["to"]["id"] for step in path] for path in element["paths"]]


def paged(world: World, target: str, limit: int) -> Iterator[list[Any]]:
    skip = 0
    while page := world.get(f"{target}{'&' if '?' in target else '?'}limit={limit}&skip={skip}"):
        yield page
        skip += limit


# Applications and organisations (V1)


def test_an_application_is_found_by_id_without_its_private_key(world: World) -> None:
    fields = quote("name displayLabel active organization")
    reply = world.get(f"/api/applications?filter=_id:$eq:{world.app}&fields={fields}")
    assert reply["totalCount"] == 1
    organization = world.jumpcloud.organization().id
    assert reply["results"] == [
        {
            "_id": world.app,
            "name": "keepersecurity",
            "displayLabel": "Keeper",
            "active": True,
            "organization": organization,
        }
    ]


@pytest.mark.parametrize("target", ["/api/applications", "/api/applications/{app}"])
def test_whole_applications_hold_the_private_key(world: World, target: str) -> None:
    assert PRIVATE_KEY in world.ask(target.format(app=world.app)).body.decode()


def test_the_single_application_takes_no_fields(world: World) -> None:
    target = f"/api/applications/{world.app}?fields=name"
    assert world.ask(target).status == 400
    world.assume(unknown_parameters="ignored")
    assert PRIVATE_KEY in world.ask(target).body.decode()


def test_applications_may_lack_their_organization(world: World) -> None:
    world.assume(application_organization=False)
    assert "organization" not in world.get(f"/api/applications/{world.app}")


def test_organizations_are_those_of_the_key(world: World) -> None:
    world.jumpcloud.add_organization("Other")
    own = world.jumpcloud.organization().id
    reply = world.get("/api/organizations")
    assert (reply["totalCount"], ids(reply["results"])) == (1, {own})
    assert world.get(f"/api/organizations/{own}")["displayName"] == "Example"


# Users (V1)


def test_a_user_shows_its_fields(world: World) -> None:
    world.jumpcloud.update_user(world.ann, firstname="Ann", department="Ops")
    user = world.get(f"/api/systemusers/{world.ann}")
    assert user["_id"] == user["id"] == world.ann
    assert (user["firstname"], user["lastname"], user["state"]) == ("Ann", "", "ACTIVATED")


def test_fields_bring_the_id_and_nothing_else(world: World) -> None:
    assert world.get(f"/api/systemusers/{world.ann}?fields=email%20state") == {
        "_id": world.ann,
        "email": "ann@example.com",
        "state": "ACTIVATED",
    }


@pytest.mark.parametrize(("unset", "shown"), [("empty", ""), ("null", None), ("absent", "no such field")])
def test_fields_without_a_value_follow_the_assumption(world: World, unset: str, shown: object) -> None:
    world.assume(unset=unset)
    assert world.get(f"/api/systemusers/{world.ann}").get("lastname", "no such field") == shown


def test_old_replies_have_no_state(world: World) -> None:
    world.assume(user_state=False)
    world.jumpcloud.suspend(world.ann)
    user = world.get(f"/api/systemusers/{world.ann}")
    assert "state" not in user
    assert user["suspended"] is True


def test_suspension_and_activation_show(world: World) -> None:
    world.jumpcloud.suspend(world.ann)
    assert world.get(f"/api/systemusers/{world.ann}")["state"] == "SUSPENDED"
    world.jumpcloud.activate(world.ann)
    user = world.get(f"/api/systemusers/{world.ann}")
    assert (user["state"], user["suspended"]) == ("ACTIVATED", False)


def test_a_deleted_user_is_gone_everywhere(world: World) -> None:
    world.jumpcloud.delete_user(world.bob)
    assert world.ask(f"/api/systemusers/{world.bob}").status == 404
    assert world.search({"filter": {"or": [{"_id": world.bob}]}})["totalCount"] == 0
    assert ids(world.get(f"/api/v2/applications/{world.app}/users")) == {world.ann}
    assert world.ask(f"/api/v2/users/{world.bob}/memberof").status == 404


def test_users_in_order_of_id_are_paged_completely(world: World) -> None:
    for number in range(20):
        world.jumpcloud.add_user(f"user{number}@example.com")
    pages = [world.get(f"/api/systemusers?sort=_id&limit=10&skip={skip}") for skip in (0, 10, 20, 30)]
    assert [page["totalCount"] for page in pages] == [23] * 4
    listed = [row["_id"] for page in pages for row in page["results"]]
    assert listed == sorted(listed)
    assert len(set(listed)) == 23


def test_pages_without_sort_miss_rows_and_repeat_others(world: World) -> None:
    for number in range(20):
        world.jumpcloud.add_user(f"user{number}@example.com")
    listed = [row["_id"] for skip in (0, 10, 20) for row in world.get(f"/api/systemusers?skip={skip}")["results"]]
    assert len(listed) == 23
    assert len(set(listed)) < 23


def test_descending_sort(world: World) -> None:
    emails = [row["email"] for row in world.get("/api/systemusers?sort=-email&fields=email")["results"]]
    assert emails == ["cid@example.com", "bob@example.com", "ann@example.com"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("filter=email:$eq:ann@example.com", {"ann"}),
        ("filter=email:$ne:ann@example.com&sort=_id", {"bob", "cid"}),
        ("filter=email:$gt:ann@example.com&filter=email:$lt:cid@example.com", {"bob"}),
        ("filter[0]=email:$gte:bob@example.com&filter[1]=suspended:$eq:false", {"bob", "cid"}),
        ("filter[or][0]=username:$eq:ann&filter[or][1]=username:$eq:cid", {"ann", "cid"}),
        ("filter=suspended:$eq:true", set()),
    ],
)
def test_filters_in_the_query(world: World, query: str, found: set[str]) -> None:
    assert {row["username"] for row in world.get(f"/api/systemusers?{query}")["results"]} == found


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"or": [{"username": "ann"}, {"username": "cid"}]}, {"ann", "cid"}),
        ({"and": [{"username": "ann"}, {"email": "cid@example.com"}]}, set()),
        ([{"username": "ann"}, {"suspended": False}], {"ann"}),
        ({"and": [{"email": {"$regex": "^(ann|bob)@"}}]}, {"ann", "bob"}),
        ({"and": [{"or": [{"username": "ann"}, {"username": "bob"}]}, {"username": {"$ne": "bob"}}]}, {"ann"}),
        ({"email": {"$gt": "ann@example.com", "$lt": "cid@example.com"}}, {"bob"}),
    ],
)
def test_filters_in_the_body(world: World, wanted: Any, found: set[str]) -> None:
    reply = world.search({"filter": wanted, "fields": "username", "sort": "_id", "limit": 100, "skip": 0})
    assert {row["username"] for row in reply["results"]} == found
    assert reply["totalCount"] == len(found)


def test_many_ids_are_searched_at_once(world: World) -> None:
    wanted = {"or": [{"_id": one} for one in (world.ann, world.cid, UNKNOWN)]}
    assert ids(world.search({"filter": wanted})["results"]) == {world.ann, world.cid}


def test_the_in_operator_is_not_documented(world: World) -> None:
    body = {"filter": [{"_id": {"$in": [world.ann, UNKNOWN]}}]}
    assert world.ask("/api/search/systemusers", method="POST", body=body).status == 400
    world.assume(search_in_operator=True)
    assert ids(world.search(body)["results"]) == {world.ann}


def test_the_search_filter_matches_parts(world: World) -> None:
    reply = world.search({"searchFilter": {"searchTerm": ["AN", "bo"], "fields": ["username"]}})
    assert ids(reply["results"]) == {world.ann, world.bob}


@pytest.mark.parametrize(("reading", "rows"), [("both", 1), ("body", 1), ("query", 2)])
def test_where_search_reads_its_page_is_an_assumption(world: World, reading: str, rows: int) -> None:
    world.assume(search_paging=reading)
    assert len(world.search({"limit": 1}, "?limit=2")["results"]) == rows


def test_body_paging_ignores_the_query_where_only_the_body_counts(world: World) -> None:
    world.assume(search_paging="body")
    assert len(world.search({}, "?limit=2")["results"]) == 3


# The graph (V2)


def test_the_users_of_an_application_come_with_their_ways_in(world: World) -> None:
    rows = {row["id"]: row for row in world.get(f"/api/v2/applications/{world.app}/users")}
    assert set(rows) == {world.ann, world.bob}
    assert nodes(rows[world.ann]) == [[world.ops, world.ann], [world.ann]]
    assert sorted(nodes(rows[world.bob])) == sorted([[world.ops, world.bob], [world.dev, world.bob]])
    assert rows[world.ann]["compiledAttributes"] == {"ldapGroups": [{"name": "Ops"}]}
    assert rows[world.ann]["paths"][0][0] == {
        "attributes": None,
        "to": {"attributes": {"ldapGroups": [{"name": "Ops"}]}, "id": world.ops, "type": "user_group"},
    }


def test_the_groups_of_an_application_include_empty_ones(world: World) -> None:
    empty = world.jumpcloud.add_group("Empty")
    world.jumpcloud.bind_group(world.app, empty)
    rows = world.get(f"/api/v2/applications/{world.app}/usergroups")
    assert ids(rows) == {world.ops, world.dev, empty}
    assert all(nodes(row) == [[row["id"]]] for row in rows)


@pytest.mark.parametrize(("targets", "names"), [("user", ("ann",)), ("user_group", ("ops", "dev"))])
def test_associations_are_the_direct_bindings(world: World, targets: str, names: tuple[str, ...]) -> None:
    rows = world.get(f"/api/v2/applications/{world.app}/associations?targets={targets}")
    assert ids(rows) == {getattr(world, name) for name in names}
    assert {row["to"]["type"] for row in rows} == {targets}


def test_point_reads_of_one_user(world: World) -> None:
    assert ids(world.get(f"/api/v2/users/{world.bob}/memberof")) == {world.ops, world.dev}
    (application,) = world.get(f"/api/v2/users/{world.ann}/applications")
    assert nodes(application) == [[world.ops, world.app], [world.app]]
    assert ids(world.get(f"/api/v2/users/{world.ann}/associations?targets=application")) == {world.app}
    assert world.get(f"/api/v2/users/{world.bob}/associations?targets=application") == []
    assert world.get(f"/api/v2/users/{world.cid}/applications") == []


def test_point_reads_of_one_group(world: World) -> None:
    assert ids(world.get(f"/api/v2/usergroups/{world.ops}/members")) == {world.ann, world.bob}
    rows = world.get(f"/api/v2/usergroups/{world.ops}/membership?sort=-id")
    assert [row["id"] for row in rows] == sorted((world.ann, world.bob), reverse=True)
    assert ids(world.get(f"/api/v2/usergroups/{world.ops}/applications")) == {world.app}
    assert world.get(f"/api/v2/usergroups/{world.ops}/associations?targets=system") == []


def test_user_groups_are_listed_sorted_and_filtered(world: World) -> None:
    assert [row["name"] for row in world.get("/api/v2/usergroups?sort=name&fields=id,name")] == ["Dev", "Ops"]
    assert ids(world.get("/api/v2/usergroups?filter=name:eq:O*")) == {world.ops}
    group = world.get(f"/api/v2/usergroups/{world.ops}")
    assert (group["id"], group["name"], group["type"]) == (world.ops, "Ops", "user_group")


def test_graph_lists_keep_the_old_name_after_a_rename(world: World) -> None:
    world.jumpcloud.rename_group(world.ops, "Operations")
    assert world.get(f"/api/v2/usergroups/{world.ops}")["name"] == "Operations"
    rows = world.get(f"/api/v2/applications/{world.app}/usergroups?filter=id:eq:{world.ops}")
    assert rows[0]["compiledAttributes"] == {"ldapGroups": [{"name": "Ops"}]}


@pytest.mark.parametrize("change", ["remove_member", "unbind_group", "delete_group"])
def test_a_lost_way_in_is_no_longer_shown(world: World, change: str) -> None:
    arguments = {
        "remove_member": (world.ops, world.ann),
        "unbind_group": (world.app, world.ops),
        "delete_group": (world.ops,),
    }
    getattr(world.jumpcloud, change)(*arguments[change])
    rows = {row["id"]: row for row in world.get(f"/api/v2/applications/{world.app}/users")}
    assert nodes(rows[world.ann]) == [[world.ann]]
    assert world.jumpcloud.in_scope(world.app)[world.ann] == set()


def test_graph_pages_are_complete_stable_and_unsorted(world: World) -> None:
    for number in range(48):
        world.jumpcloud.add_member(world.ops, world.jumpcloud.add_user(f"user{number}@example.com"))
    target = f"/api/v2/applications/{world.app}/users"
    assert world.ask(f"{target}?skip=1000").headers["x-total-count"] == "50"
    listed = [row["id"] for page in paged(world, target, 10) for row in page]
    assert listed == [row["id"] for page in paged(world, target, 25) for row in page]
    assert set(listed) == set(world.jumpcloud.in_scope(world.app))
    assert len(listed) == 50
    assert listed != sorted(listed)


def test_the_total_count_header_is_an_assumption(world: World) -> None:
    world.assume(total_count_header=False)
    assert "x-total-count" not in world.ask("/api/v2/usergroups").headers


def test_suspended_users_stay_listed_or_not(world: World) -> None:
    world.jumpcloud.suspend(world.bob)
    target = f"/api/v2/applications/{world.app}/users"
    assert ids(world.get(target)) == {world.ann, world.bob}
    world.assume(inactive_users_listed=False)
    assert ids(world.get(target)) == {world.ann}
    world.jumpcloud.activate(world.bob)
    assert ids(world.get(target)) == {world.ann, world.bob}


def test_paths_may_be_cut(world: World) -> None:
    world.assume(paths_limit=1)
    assert [len(row["paths"]) for row in world.get(f"/api/v2/applications/{world.app}/users")] == [1, 1]


def test_the_graph_lags_behind_the_truth(world: World) -> None:
    world.assume(graph_lag=60.0)
    world.jumpcloud.delete_user(world.bob)
    world.jumpcloud.add_member(world.dev, world.cid)
    target = f"/api/v2/applications/{world.app}/users"
    assert set(world.jumpcloud.in_scope(world.app)) == {world.ann, world.cid}
    assert ids(world.get(target)) == {world.ann, world.bob}
    world.clock.now += 60
    assert ids(world.get(target)) == {world.ann, world.cid}


def test_the_graph_can_be_settled_at_once(world: World) -> None:
    world.assume(graph_lag=60.0)
    world.jumpcloud.unbind_user(world.app, world.ann)
    world.jumpcloud.settle_graph()
    assert world.get(f"/api/v2/applications/{world.app}/associations?targets=user") == []


@pytest.mark.parametrize(
    ("reading", "rows", "total"), [("gone", 1, "1"), ("counted", 1, "2"), ("uncounted", 1, "1"), ("null", 2, "2")]
)
def test_what_a_deleted_user_leaves_in_the_graph(world: World, reading: str, rows: int, total: str) -> None:
    world.assume(dead_entries=reading)
    world.jumpcloud.delete_user(world.bob)
    response = world.ask(f"/api/v2/applications/{world.app}/users")
    shown = json.loads(response.body)
    assert (len(shown), response.headers["x-total-count"]) == (rows, total)
    assert [row["id"] for row in shown if row] == [world.ann]


def test_dead_entries_shorten_pages_before_the_end(world: World) -> None:
    world.assume(dead_entries="counted")
    users = [world.jumpcloud.add_user(f"user{number}@example.com") for number in range(30)]
    for user in users:
        world.jumpcloud.add_member(world.ops, user)
    first = ids(world.get(f"/api/v2/usergroups/{world.ops}/members?limit=10"))
    for user in sorted(first & set(users))[:5]:
        world.jumpcloud.delete_user(user)
    sizes = [
        len(world.get(f"/api/v2/usergroups/{world.ops}/members?limit=10&skip={skip}")) for skip in range(0, 40, 10)
    ]
    assert sizes == [5, 10, 10, 2]


@pytest.mark.parametrize(
    "target", ["applications/{}/users", "applications/{}/usergroups", "usergroups/{}/members", "users/{}/memberof"]
)
def test_unknown_ids_in_the_graph(world: World, target: str) -> None:
    path = "/api/v2/" + target.format(UNKNOWN)
    assert world.ask(path).status == 404
    world.assume(unknown_in_graph="empty")
    assert world.get(path) == []


# Strictness


@pytest.mark.parametrize(
    "target",
    [
        "/api/systemusers?limit=101",
        "/api/systemusers?limit=0",
        "/api/systemusers?limit=many",
        "/api/systemusers?limit=1&limit=2",
        "/api/systemusers?skip=-1",
        "/api/systemusers?page=2",
        "/api/systemusers?fields=email,state",
        "/api/systemusers?sort=nonsense",
        "/api/systemusers?filter=email:ann@example.com",
        "/api/systemusers?filter=email:eq:ann@example.com",
        "/api/systemusers?filter=nonsense:$eq:x",
        "/api/systemusers?filter[nor][0]=email:$eq:x",
        "/api/v2/usergroups?fields=id%20name",
        "/api/v2/usergroups?filter=name:$eq:Ops",
        "/api/v2/usergroups?filter=id:eq:{app}",
        "/api/v2/usergroups?limit=101",
        "/api/v2/applications/{app}/users?sort=id",
        "/api/v2/applications/{app}/users?fields=id",
        "/api/v2/applications/{app}/users?limit=101",
        "/api/v2/applications/{app}/associations",
        "/api/v2/applications/{app}/associations?targets=system",
        "/api/v2/applications/{app}/associations?targets=user&filter=id:eq:1",
        "/api/v2/usergroups/{ops}/members?filter=id:eq:1",
    ],
)
def test_what_is_not_documented_is_refused(world: World, target: str) -> None:
    response = world.ask(target.format(app=world.app, ops=world.ops))
    assert response.status == 400
    assert json.loads(response.body)["message"].startswith("Bad Request: ")


def test_too_large_a_limit_is_refused_in_the_documented_words(world: World) -> None:
    reply = json.loads(world.ask("/api/v2/usergroups?limit=1000").body)
    assert reply == {"message": 'Bad Request: request parameter "limit" exceeds maximum value of 100'}


def test_user_lists_may_allow_larger_pages(world: World) -> None:
    world.assume(users_limit=1000)
    assert world.ask("/api/systemusers?limit=1000").status == 200
    assert world.ask("/api/applications?limit=1000").status == 400


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"filter": "email"},
        {"filter": {"nor": []}},
        {"filter": {"or": ["x"]}},
        {"filter": [{"nonsense": 1}]},
        {"filter": [{"email": {"$where": "1"}}]},
        {"filter": [{"email": {"$regex": "("}}]},
        {"searchFilter": {"searchTerm": "a"}},
        {"limit": "100"},
        {"limit": 101},
        {"fields": ["email"]},
        {"page": 1},
    ],
)
def test_malformed_searches_are_refused(world: World, body: Any) -> None:
    assert world.ask("/api/search/systemusers", method="POST", body=body).status == 400


def test_a_search_must_be_sent_as_json(world: World) -> None:
    headers = {"x-api-key": world.key, "content-type": "text/plain"}
    assert world.jumpcloud.handle(Request("POST", "/api/search/systemusers", headers, b"{}")).status == 400
    assert world.ask("/api/search/systemusers", method="GET").status == 405


@pytest.mark.parametrize("target", ["/", "/api/v2/applications", "/api/systemusers/", "/api/v2/users", "/api/nothing"])
def test_unknown_routes(world: World, target: str) -> None:
    assert world.ask(target).status == 404


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "/api/systemusers"),
        ("PUT", "/api/systemusers/{ann}"),
        ("DELETE", "/api/systemusers/{ann}"),
        ("POST", "/api/v2/usergroups/{ops}/members"),
        ("DELETE", "/api/v2/usergroups/{ops}"),
        ("POST", "/api/v2/applications/{app}/associations"),
    ],
)
def test_nothing_is_written_over_http(world: World, method: str, target: str) -> None:
    before = world.jumpcloud.dump()
    path = target.format(ann=world.ann, ops=world.ops, app=world.app)
    assert world.ask(path, method=method, body={}).status == 405
    assert world.jumpcloud.dump() == before


# Who may ask


@pytest.mark.parametrize("headers", [{}, {"x-api-key": "wrong"}, {"authorization": "Bearer wrong"}])
def test_strangers_are_refused(world: World, headers: dict[str, str]) -> None:
    assert world.ask("/api/systemusers", headers=headers).status == 401


def test_a_revoked_key_is_refused_in_the_documented_words(world: World) -> None:
    world.jumpcloud.revoke_api_key(world.key)
    reply = json.loads(world.ask("/api/systemusers").body)
    assert reply == {"error": "Unauthorized", "message": "Unauthorized: api key user not found"}


def test_a_key_without_a_role_is_forbidden(world: World) -> None:
    world.jumpcloud.deny(world.key)
    assert world.ask("/api/systemusers").status == 403
    world.jumpcloud.allow(world.key)
    assert world.ask("/api/systemusers").status == 200


def test_an_administrator_of_several_organisations_must_choose_one(world: World) -> None:
    first = world.jumpcloud.organization().id
    other = world.jumpcloud.add_organization("Other")
    key = {"x-api-key": world.jumpcloud.add_api_key(multi_tenant=True)}
    nobody = world.ask("/api/systemusers", headers=key)
    assert (nobody.status, json.loads(nobody.body)) == (401, {"message": "Unauthorized: no organization selected"})
    assert world.ask("/api/systemusers", headers={**key, "x-org-id": "x"}).status == 400
    assert world.ask("/api/systemusers", headers={**key, "x-org-id": UNKNOWN}).status == 404
    chosen = json.loads(world.ask("/api/systemusers", headers={**key, "x-org-id": other}).body)
    assert chosen["totalCount"] == 0
    every = json.loads(world.ask("/api/organizations", headers=key).body)
    assert ids(every["results"]) == {first, other}
    mismatch = world.ask(f"/api/organizations/{first}", headers={**key, "x-org-id": other})
    assert mismatch.status == 400


def test_organisations_do_not_see_each_other(world: World) -> None:
    other = world.jumpcloud.add_organization("Other")
    stranger = world.jumpcloud.add_user("dan@example.com", organization=other)
    assert world.ask(f"/api/systemusers/{stranger}").status == 404
    assert world.ask(f"/api/v2/users/{stranger}/memberof").status == 404
    assert world.ask("/api/systemusers", headers={"x-api-key": world.key, "x-org-id": other}).status == 404
    with pytest.raises(LookupError):
        world.jumpcloud.add_member(world.ops, stranger)


def ask_token(world: World, client: str, secret: str, form: str) -> Response:
    basic = base64.b64encode(f"{client}:{secret}".encode()).decode()
    headers = {"authorization": f"Basic {basic}", "content-type": "application/x-www-form-urlencoded"}
    return world.jumpcloud.handle(Request("POST", "/oauth2/token", headers, form.encode()))


GRANT = "grant_type=client_credentials&scope=api"


def test_a_service_account_reads_with_a_token_until_it_expires(world: World) -> None:
    account = world.jumpcloud.add_service_account()
    reply = json.loads(ask_token(world, account["client_id"], account["client_secret"], GRANT).body)
    assert reply["expires_in"] == 3600
    headers = {"authorization": f"Bearer {reply['access_token']}"}
    assert world.ask("/api/systemusers", headers=headers).status == 200
    world.assume(account_needs_organization=True)
    assert world.ask("/api/systemusers", headers=headers).status == 401
    headers["x-org-id"] = world.jumpcloud.organization().id
    assert world.ask("/api/systemusers", headers=headers).status == 200
    world.clock.now += 3600
    assert world.ask("/api/systemusers", headers=headers).status == 401


def test_tokens_end_with_their_account(world: World) -> None:
    account = world.jumpcloud.add_service_account()
    reply = json.loads(ask_token(world, account["client_id"], account["client_secret"], GRANT).body)
    world.jumpcloud.revoke_service_account(account["client_id"])
    headers = {"authorization": f"Bearer {reply['access_token']}"}
    assert world.ask("/api/systemusers", headers=headers).status == 401
    assert ask_token(world, account["client_id"], account["client_secret"], GRANT).status == 401


@pytest.mark.parametrize(
    ("secret", "form", "status", "error"),
    [
        ("wrong", GRANT, 401, "invalid_client"),
        (None, "grant_type=password&scope=api", 400, "unsupported_grant_type"),
        (None, "grant_type=client_credentials", 400, "invalid_scope"),
    ],
)
def test_token_errors(world: World, secret: str | None, form: str, status: int, error: str) -> None:
    account = world.jumpcloud.add_service_account()
    response = ask_token(world, account["client_id"], secret or account["client_secret"], form)
    assert (response.status, json.loads(response.body)["error"]) == (status, error)


def test_the_rate_limit_fills_up_again(world: World) -> None:
    world.assume(requests_per_second=2.0, retry_after=1)
    answers = [world.ask("/api/systemusers") for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[2].headers["retry-after"] == "1"
    world.clock.now += 0.5
    assert [world.ask("/api/systemusers").status for _ in range(2)] == [200, 429]


# Changing it, loading and dumping


def test_unknown_ids_and_fields_are_errors(world: World) -> None:
    with pytest.raises(LookupError):
        world.jumpcloud.suspend(UNKNOWN)
    with pytest.raises(ValueError, match="nickname"):
        world.jumpcloud.update_user(world.ann, nickname="A")
    with pytest.raises(LookupError):
        world.jumpcloud.find_user("nobody@example.com")


def test_a_dump_loads_into_the_same(world: World) -> None:
    document = json.loads(json.dumps(world.jumpcloud.dump()))
    other = JumpCloud()
    other.load(document)
    assert other.dump() == document
    assert other.in_scope(world.app) == world.jumpcloud.in_scope(world.app)
    assert other.add_user("new@example.com") == world.jumpcloud.add_user("new@example.com")


def test_a_document_written_by_hand_needs_no_ids() -> None:
    jumpcloud = JumpCloud()
    jumpcloud.load(
        {
            "organizations": [
                {
                    "name": "Hand",
                    "users": [{"email": "ann@example.com"}],
                    "groups": [{"name": "Ops", "members": ["ann@example.com"]}],
                    "applications": [{"displayLabel": "Keeper", "groups": ["Ops"]}],
                }
            ]
        }
    )
    (application,) = jumpcloud.organization().applications
    assert set(jumpcloud.in_scope(application)) == {jumpcloud.find_user("ann@example.com")}
    assert list(jumpcloud.groups_in_scope(application).values()) == ["Ops"]


@pytest.mark.parametrize(
    "document",
    [
        {"organizations": [{}]},
        {"organizations": [{"name": "A", "users": [{"email": "a@b", "nickname": "A"}]}]},
        {"organizations": [{"name": "A", "groups": [{"name": "G", "members": ["nobody"]}]}]},
        {"api_keys": [{"key": "k", "organization": UNKNOWN}]},
    ],
)
def test_a_document_that_does_not_fit_is_an_error(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="seed document"):
        JumpCloud().load(document)


def test_the_control_route_changes_it_while_it_runs(world: World) -> None:
    service = controlled(world.jumpcloud)

    def post(name: str, body: Any) -> Response:
        return service.handle(Request("POST", f"/_simulator/{name}", {}, json.dumps(body).encode()))

    made = json.loads(post("add_user", {"email": "dan@example.com", "firstname": "Dan"}).body)
    assert world.jumpcloud.user(made["result"]).firstname == "Dan"
    assert post("suspend", {"user": UNKNOWN}).status == 400
    wrong = post("suspend", {"who": UNKNOWN})
    assert wrong.status == 400
    assert json.loads(wrong.body) == {"error": "suspend: missing a required argument: 'user'", "takes": "user"}
    listed = service.handle(Request("GET", "/_simulator/", {}))
    assert listed.status == 200
    assert json.loads(listed.body)["add_user"] == "email, [organization], [username], values ..."
    assert post("suspend", []).status == 400
    assert post("handle", {}).status == 404
    assert service.handle(Request("GET", "/_simulator/suspend", {})).status == 405
    dumped = service.handle(Request("GET", "/_simulator/dump", {}))
    assert json.loads(dumped.body) == world.jumpcloud.dump()
    assert service.handle(Request("GET", "/api/systemusers", {"x-api-key": world.key})).status == 200


# The sample organisation


def test_the_sample_is_the_same_for_the_same_seed() -> None:
    assert organisation(50, 10, 3) == organisation(50, 10, 3)
    assert organisation(50, 10, 3) != organisation(50, 10, 4)


def test_the_sample_has_people_of_every_kind() -> None:
    jumpcloud = JumpCloud()
    document = organisation(1000, 30, 1)
    jumpcloud.load(document)
    (home,) = document["organizations"]
    application = home["applications"][0]["id"]
    scope = jumpcloud.in_scope(application)
    emails = [user["email"].lower() for user in home["users"]]
    assert len(set(emails)) == 1000
    assert {user.get("state", "ACTIVATED") for user in home["users"]} == {"ACTIVATED", "SUSPENDED", "STAGED"}
    assert 500 < len(scope) < 1000
    assert set() in scope.values()
    assert len({group["name"] for group in home["groups"]}) == 30
    assert any(not group["members"] for group in home["groups"])
    assert 20 < len(jumpcloud.groups_in_scope(application)) < 30
    target = f"/api/v2/applications/{application}/users"
    assert jumpcloud.handle(Request("GET", target, {"x-api-key": API_KEY})).status == 200


@pytest.mark.parametrize(("users", "groups"), [(0, 0), (1, 0), (5, 1), (3, 2)])
def test_small_samples_load(users: int, groups: int) -> None:
    jumpcloud = JumpCloud()
    jumpcloud.load(organisation(users, groups))
    assert len(jumpcloud.organization().users) == users
