"""The simulated Keeper, asked without sockets."""

import json
import re
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest

from reconciler.simulator.keeper import Keeper
from reconciler.simulator.keeper_dialect import Dialect
from reconciler.simulator.keeper_records import Account, Change, Team
from reconciler.simulator.service import Controlled, Request, Response

OTHER_NODE = "222"
LIST = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"
USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"


class World:
    """A Keeper with two nodes, and a client with the token of the first."""

    def __init__(self, **dialect: Any) -> None:
        self.now = 0.0
        self.keeper = Keeper(("111", OTHER_NODE), dialect=Dialect(**dialect), clock=lambda: self.now)

    def play(self, **dialect: Any) -> None:
        self.keeper.dialect = replace(self.keeper.dialect, **dialect)

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        node: str = "111",
        token: str | None = None,
        content_type: str | None = "application/scim+json",
    ) -> Response:
        headers = {"authorization": f"Bearer {token or self.keeper.token(node)}"}
        if content_type is not None:
            headers["content-type"] = content_type
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return self.keeper.handle(Request(method, f"/api/rest/scim/v2/{node}{path}", headers, data))

    def get(self, path: str, **options: Any) -> Any:
        response = self.ask("GET", path, **options)
        assert response.status == 200, response
        return json.loads(response.body)

    def post_user(self, email: str, **attributes: Any) -> Response:
        return self.ask("POST", "/Users", {"schemas": [USER], "userName": email, **attributes})

    def invite(self, email: str, **attributes: Any) -> str:
        response = self.post_user(email, **attributes)
        assert response.status == 201, response
        return str(json.loads(response.body)["id"])

    def queue(self, name: str, **attributes: Any) -> str:
        response = self.ask("POST", "/Groups", {"schemas": [GROUP], "displayName": name, **attributes})
        assert response.status in (200, 201), response
        return str(json.loads(response.body)["id"])

    def patch(self, path: str, *operations: Any) -> Response:
        return self.ask("PATCH", path, {"Operations": list(operations)})

    def patch_user(self, user: str, *operations: Any) -> Response:
        return self.patch(f"/Users/{user}", *operations)

    def set_user(self, user: str, **values: Any) -> Response:
        return self.patch_user(user, {"op": "replace", "value": values})

    def groups_of(self, user: str) -> list[str]:
        return [group["value"] for group in self.get(f"/Users/{user}")["groups"]]

    def members_of(self, team: str) -> list[str]:
        return [member["value"] for member in self.get(f"/Groups/{team}")["members"]]

    def effects(self) -> list[str]:
        return [change.what for change in self.keeper.changes]


@pytest.fixture
def world() -> World:
    return World()


def membership(op: str, *teams: str, path: str = "groups") -> dict[str, Any]:
    return {"op": op, "path": path, "value": [{"value": team} for team in teams]}


# The endpoint.


def test_a_good_token_reads_the_service_provider_config(world: World) -> None:
    config = world.get("/ServiceProviderConfig")
    assert world.keeper.base_path() == "/api/rest/scim/v2/111"
    assert config["patch"] == {"supported": True}
    assert config["authenticationSchemes"][0]["type"] == "oauthbearertoken"


@pytest.mark.parametrize("header", [{}, {"authorization": "Bearer wrong"}, {"authorization": "Basic {}"}])
def test_without_a_valid_bearer_token_nothing_is_answered(world: World, header: dict[str, str]) -> None:
    headers = {name: value.format(world.keeper.token()) for name, value in header.items()}
    response = world.keeper.handle(Request("GET", "/api/rest/scim/v2/111/Users", headers))
    assert response.status == 401
    assert response.headers["www-authenticate"] == "Bearer"


def test_a_token_is_valid_for_its_own_node_only(world: World) -> None:
    assert world.ask("GET", "/Users", token=world.keeper.token(OTHER_NODE)).status == 403
    assert world.ask("GET", "/Users", node=OTHER_NODE).status == 200


def test_a_new_token_kills_the_old_one_and_a_revoked_one_is_dead(world: World) -> None:
    old = world.keeper.token()
    new = world.keeper.new_token()
    assert world.ask("GET", "/Users", token=old).status == 401
    assert world.ask("GET", "/Users", token=new).status == 200
    world.keeper.revoke_token()
    assert world.ask("GET", "/Users", token=new).status == 401
    with pytest.raises(ValueError, match="revoked"):
        world.keeper.token()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/Bulk", 404),
        ("GET", "/Users/1/more", 404),
        ("GET", "/ServiceProviderConfig/1", 404),
        ("GET", "/Users/1", 404),
        ("GET", "/Groups/x", 404),
        ("DELETE", "/Users", 405),
        ("PUT", "/Groups/x", 405),
        ("POST", "/Users/1", 405),
        ("POST", "/ServiceProviderConfig", 405),
    ],
)
def test_unknown_paths_and_methods_are_refused(world: World, method: str, path: str, status: int) -> None:
    assert world.ask(method, path).status == status


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/scim+json", 201),
        ("application/json; charset=utf-8", 201),
        (None, 201),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
    ],
)
def test_content_types(world: World, content_type: str | None, status: int) -> None:
    body = {"userName": "ann@example.com"}
    assert world.ask("POST", "/Users", body, content_type=content_type).status == status


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[]", b'"text"'])
def test_a_body_that_is_no_json_object_is_refused(world: World, body: bytes) -> None:
    assert world.ask("POST", "/Users", body).status == 400


def test_the_style_of_errors_can_be_any_of_four(world: World) -> None:
    bodies = {}
    for style in ("scim", "keeper", "empty", "html"):
        world.play(error_body=style)
        response = world.ask("GET", "/Users/1")
        assert response.status == 404
        bodies[style] = response
    assert json.loads(bodies["scim"].body) == {"schemas": [ERROR], "status": "404", "detail": "User not found"}
    assert json.loads(bodies["keeper"].body) == {"error": "not_found", "message": "User not found"}
    assert bodies["empty"].body == b""
    assert bodies["html"].headers["content-type"] == "text/html"


# Reading.


def test_a_user_looks_exactly_so_in_every_reply(world: World) -> None:
    response = world.post_user("john@example.com", name={"givenName": "John", "familyName": "Doe"})
    user = json.loads(response.body)
    assert response.status == 201
    assert re.fullmatch(r"[0-9]{15,16}", user["id"])
    assert user == {
        "schemas": [USER],
        "userName": "john@example.com",
        "displayName": "john@example.com",
        "name": {"givenName": "John", "familyName": "Doe"},
        "id": user["id"],
        "emails": [{"primary": True, "value": "john@example.com", "type": "work"}],
        "groups": [],
        "active": True,
    }
    assert world.get(f"/Users/{user['id']}") == user
    assert world.get("/Users") == {
        "schemas": [LIST],
        "totalResults": 1,
        "startIndex": 1,
        "itemsPerPage": 1,
        "Resources": [user],
    }


def test_a_group_looks_exactly_so_in_every_reply(world: World) -> None:
    ann = world.invite("ann@example.com")
    response = world.ask("POST", "/Groups", {"displayName": "Dev", "externalId": "g1", "members": [{"value": ann}]})
    group = json.loads(response.body)
    assert response.status == 201
    assert re.fullmatch(r"[A-Za-z0-9_-]{22}", group["id"])
    assert group == {
        "schemas": [GROUP],
        "id": group["id"],
        "displayName": "Dev",
        "externalId": "g1",
        "members": [{"value": ann}],
    }
    assert world.get(f"/Groups/{group['id']}") == group
    assert world.get("/Groups")["Resources"] == [group]
    del group["members"]
    assert world.get("/Groups?excludedAttributes=members")["Resources"] == [group]


def test_unset_names_are_empty_or_absent(world: World) -> None:
    ann = world.invite("ann@example.com", name={"givenName": "Ann"})
    assert world.get(f"/Users/{ann}")["name"] == {"givenName": "Ann", "familyName": ""}
    world.play(shows_unset_names=False)
    assert world.get(f"/Users/{ann}")["name"] == {"givenName": "Ann"}


def test_teams_made_in_the_console_are_listed_without_an_external_id(world: World) -> None:
    world.keeper.add_team("Board")
    (group,) = world.get("/Groups")["Resources"]
    assert group["displayName"] == "Board"
    assert "externalId" not in group


def test_another_node_is_not_seen(world: World) -> None:
    user = world.keeper.add_user("bob@example.com", node=OTHER_NODE)
    team = world.keeper.add_team("There", node=OTHER_NODE)
    assert world.get("/Users")["totalResults"] == 0
    assert world.get("/Groups")["totalResults"] == 0
    for path in (f"/Users/{user}", f"/Groups/{team}"):
        assert world.ask("GET", path).status == 404
        assert world.patch(path, {"op": "replace", "value": {"displayName": "X"}}).status == 404
        assert world.ask("DELETE", path).status == 404


def test_pages_are_cut_by_count_and_by_the_cap(world: World) -> None:
    ids = [world.keeper.add_user(f"u{number}@example.com") for number in range(7)]

    def page(query: str) -> tuple[int, int, int, list[str]]:
        found = world.get(f"/Users?{query}")
        listed = [user["id"] for user in found["Resources"]]
        return found["totalResults"], found["startIndex"], found["itemsPerPage"], listed

    assert page("startIndex=1&count=3") == (7, 1, 3, ids[:3])
    assert page("startIndex=7&count=3") == (7, 7, 1, ids[6:])
    assert page("startIndex=8&count=3") == (7, 8, 0, [])
    assert page("startIndex=0&count=-1") == (7, 1, 0, [])
    assert page("") == (7, 1, 7, ids)
    world.play(page_cap=2)
    assert page("startIndex=3&count=500") == (7, 3, 2, ids[2:4])
    assert world.ask("GET", "/Users?count=many").status == 400


def test_without_a_count_a_page_holds_a_thousand(world: World) -> None:
    for number in range(1001):
        world.keeper.add_team(f"T{number}")
    found = world.get("/Groups?excludedAttributes=members")
    assert (found["totalResults"], found["itemsPerPage"]) == (1001, 1000)
    assert world.get("/Groups?count=2000&excludedAttributes=members")["itemsPerPage"] == 1001


def test_changes_keep_the_order_of_the_list(world: World) -> None:
    ids = [world.keeper.add_user(f"u{number}@example.com") for number in range(3)]
    world.set_user(ids[0], displayName="Moved?")
    assert [user["id"] for user in world.get("/Users")["Resources"]] == ids


def test_filters_by_equality(world: World) -> None:
    ann = world.keeper.add_user("Ann@example.com", display_name="Ann")
    bob = world.keeper.add_user("bob@example.com")
    dev = world.keeper.add_team("Dev")

    def found(resource: str, text: str) -> list[str]:
        resources = world.get(f"/{resource}?filter={quote(text)}")["Resources"]
        return [item["id"] for item in resources]

    assert found("Users", f'id eq "{bob}"') == [bob]
    assert found("Users", 'userName eq "ann@EXAMPLE.com"') == [ann]
    assert found("Users", 'displayName eq "Ann"') == [ann]
    assert found("Users", 'userName eq "nobody@example.com"') == []
    assert found("Groups", 'displayName eq "Dev"') == [dev]
    assert found("Groups", f'id eq "{dev}"') == [dev]


@pytest.mark.parametrize(
    ("resource", "text"),
    [
        ("Users", 'externalId eq "x"'),
        ("Users", 'userName sw "a"'),
        ("Users", "userName eq a@example.com"),
        ("Users", 'userName eq "a" and active eq true'),
        ("Users", r'userName eq "\x"'),
        ("Users", ""),
        ("Groups", 'userName eq "a"'),
    ],
)
def test_other_filters_are_refused(world: World, resource: str, text: str) -> None:
    assert world.ask("GET", f"/{resource}?filter={quote(text)}").status == 400


# Creating users.


def test_a_new_user_is_invited_and_takes_all_that_is_sent(world: World) -> None:
    dev = world.keeper.add_team("Dev")
    ann = world.invite(
        "ann@example.com",
        externalId="jc1",
        displayName="Ann B",
        name={"givenName": "Ann", "familyName": "B", "formatted": "Ann B"},
        emails=[{"value": "ann@example.com", "type": "work", "primary": True}],
        active=True,
        groups=[{"value": dev}],
        roles=[{"value": "admin"}],
        nickName="A",
    )
    account = world.keeper.account(ann)
    assert account == Account(
        ann, "111", "ann@example.com", "jc1", "Ann B", "Ann", "B", invited=True, pending_teams=(dev,)
    )


@pytest.mark.parametrize(
    "attributes",
    [
        {"userName": "no-address"},
        {"userName": " ann@example.com"},
        {"userName": "ann@example"},
        {"userName": None},
        {"userName": 7},
        {"emails": [{"value": "other@example.com"}]},
        {"emails": [{"value": "ann@example.com"}, {"value": "other@example.com", "primary": True}]},
        {"emails": []},
        {"emails": "ann@example.com"},
        {"displayName": 7},
        {"name": "Ann"},
        {"name": {"givenName": ["Ann"]}},
        {"active": "yes"},
        {"groups": ["id"]},
        {"groups": [{"value": 7}]},
        {"groups": [{"value": "AAAAAAAAAAAAAAAAAAAAAA"}]},
    ],
)
def test_a_user_that_is_not_well_formed_is_refused(world: World, attributes: dict[str, Any]) -> None:
    world.play(requires_reserved_domain=False)
    body = {"userName": "ann@example.com", **attributes}
    assert world.ask("POST", "/Users", body).status == 400
    assert world.keeper.accounts() == {}


def test_a_user_needs_a_user_name(world: World) -> None:
    assert world.ask("POST", "/Users", {"displayName": "Ann"}).status == 400


def test_dotted_names_are_for_patch(world: World) -> None:
    ann = world.invite("ann@example.com", **{"name.givenName": "Ann"})
    assert world.keeper.account(ann).given_name is None


def test_an_address_is_unique_in_all_of_keeper(world: World) -> None:
    world.keeper.add_user("bob@example.com", node=OTHER_NODE)
    world.keeper.take_elsewhere("Cid@example.com")
    for email in ("BOB@example.com", "cid@example.com"):
        response = world.post_user(email)
        assert (response.status, json.loads(response.body)["detail"]) == (409, "Email already taken")
    world.play(taken_status=403)
    assert world.post_user("bob@example.com").status == 403


def test_the_domain_must_be_reserved(world: World) -> None:
    assert world.post_user("ann@other.org").status == 400
    world.play(unreserved_domain_status=403)
    assert world.post_user("ann@other.org").status == 403
    world.keeper.reserve_domain("Other.org")
    assert world.post_user("ann@other.org").status == 201
    world.play(requires_reserved_domain=False)
    assert world.post_user("ann@third.net").status == 201


def test_seats_end_creation_but_nothing_else(world: World) -> None:
    ann = world.keeper.add_user("ann@example.com", locked=True)
    world.invite("bob@example.com")
    world.keeper.set_seats(2)
    response = world.post_user("cid@example.com")
    assert (response.status, json.loads(response.body)["detail"]) == (428, "Number of licensed seats was exceeded")
    assert world.set_user(ann, active=True).status == 200
    assert world.post_user("bob@example.com").status == 200
    world.keeper.delete_user(ann)
    assert world.post_user("cid@example.com").status == 201


def test_posting_a_member_of_this_node_links(world: World) -> None:
    ann = world.keeper.add_user("ann@example.com", display_name="Ann", locked=True)
    response = world.post_user("ANN@example.com", externalId="jc1", active=True)
    assert (response.status, json.loads(response.body)["id"]) == (200, ann)
    account = world.keeper.account(ann)
    assert (account.email, account.external_id, account.locked) == ("ann@example.com", "jc1", True)
    assert world.effects() == ["link_user"]


def test_linking_forgives_memberships_that_exist(world: World) -> None:
    ann, dev = world.keeper.add_user("ann@example.com"), world.keeper.add_team("Dev")
    world.keeper.add_member(ann, dev)
    world.play(refuses_duplicate_membership=True)
    assert world.post_user("ann@example.com", groups=[{"value": dev}]).status == 200


def test_other_readings_of_linking(world: World) -> None:
    ann = world.keeper.add_user("ann@example.com", locked=True)
    world.play(link_updates=False, link_unlocks=True, link_status=201)
    response = world.post_user("ann@example.com", externalId="jc1")
    account = world.keeper.account(ann)
    assert (response.status, account.external_id, account.locked) == (201, None, False)


def test_an_alias_is_taken_or_links(world: World) -> None:
    ann = world.keeper.add_user("ann@example.com")
    world.keeper.change_email(ann, "ann.b@example.com")
    named = quote('userName eq "ann@example.com"')
    assert world.get(f"/Users?filter={named}")["totalResults"] == 0
    assert world.post_user("ann@example.com").status == 409
    world.play(links_aliases=True)
    response = world.post_user("ann@example.com")
    assert json.loads(response.body)["userName"] == "ann.b@example.com"


# What a later release might do.


def test_a_lock_that_deletes(world: World) -> None:
    ann = world.keeper.add_user("ann@example.com")
    world.play(locks_delete=True)
    assert world.patch_user(ann, {"op": "replace", "value": {"active": False}}).status == 200
    assert ann not in world.keeper.accounts()


def test_an_addition_that_replaces(world: World) -> None:
    ann = world.keeper.add_user("ann@example.com")
    former, new = world.keeper.add_team("Former"), world.keeper.add_team("New")
    world.keeper.add_member(ann, former)
    world.play(add_replaces_groups=True)
    world.patch_user(ann, {"op": "add", "path": "groups", "value": [{"value": new}]})
    assert world.keeper.account(ann).teams == (new,)


# Changing users.


@pytest.mark.parametrize("op", ["add", "Add", "replace", "REPLACE"])
def test_patch_takes_the_path_form_and_the_value_form(world: World, op: str) -> None:
    ann = world.keeper.add_user("ann@example.com")
    world.patch_user(ann, {"op": op, "path": "name.givenName", "value": "Ann"}, {"op": op, "value": {"active": False}})
    world.patch_user(ann, {"op": op, "value": {"externalId": "jc1", "displayName": "A", "name.familyName": "B"}})
    account = world.keeper.account(ann)
    assert (account.given_name, account.locked) == ("Ann", True)
    assert (account.external_id, account.display_name, account.family_name) == ("jc1", "A", "B")


@pytest.mark.parametrize(("value", "active"), [("false", False), ("False", False), (False, False), ("true", True)])
def test_active_is_a_boolean_or_a_string(world: World, value: Any, active: bool) -> None:
    ann = world.keeper.add_user("ann@example.com")
    world.patch_user(ann, {"op": "Replace", "path": "active", "value": value})
    assert world.get(f"/Users/{ann}")["active"] is active


@pytest.mark.parametrize("empty", ["", None])
def test_an_empty_value_unsets(world: World, empty: str | None) -> None:
    ann = world.keeper.add_user("ann@example.com", external_id="jc1", display_name="Ann")
    world.set_user(ann, externalId=empty, displayName=empty)
    user = world.get(f"/Users/{ann}")
    assert "externalId" not in user
    assert user["displayName"] == "ann@example.com"


def test_remove_unsets(world: World) -> None:
    ann = world.keeper.add_user("ann@example.com", external_id="jc1")
    assert world.patch_user(ann, {"op": "remove", "path": "externalId"}).status == 200
    assert world.keeper.account(ann).external_id is None


@pytest.mark.parametrize(
    "operations",
    [
        None,
        [],
        {"op": "replace", "value": {"active": False}},
        ["replace"],
        [{"value": {"displayName": "X"}}],
        [{"op": "move", "value": {"displayName": "X"}}],
        [{"op": "replace"}],
        [{"op": "replace", "value": "X"}],
        [{"op": "replace", "path": "shoeSize", "value": "X"}],
        [{"op": "replace", "path": "", "value": "X"}],
        [{"op": "replace", "path": 1, "value": "X"}],
        [{"op": "replace", "value": {"givenName": "X"}}],
        [{"op": "replace", "value": {"id": "1"}}],
        [{"op": "replace", "path": "userName", "value": "no-address"}],
        [{"op": "replace", "value": {"userName": "a@example.com", "emails": [{"value": "b@example.com"}]}}],
        [{"op": "remove"}],
        [{"op": "remove", "path": "userName"}],
        [{"op": "remove", "path": "active"}],
        [{"op": "add", "path": "groups", "value": {"value": "x"}}],
        [{"op": "add", "path": "groups", "value": ["x"]}],
        [{"op": "add", "path": "groups"}],
        [{"op": "remove", "path": "groups"}],
        [{"op": "replace", "path": "groups", "value": []}],
        [{"op": "add", "value": {"groups": []}}],
    ],
)
def test_a_patch_that_is_not_well_formed_is_refused(world: World, operations: Any) -> None:
    ann = world.keeper.add_user("ann@example.com")
    before = world.keeper.dump()
    assert world.ask("PATCH", f"/Users/{ann}", {"Operations": operations}).status == 400
    assert world.keeper.dump() == before


def test_a_refused_patch_has_no_effect_at_all(world: World) -> None:
    ann = world.keeper.add_user("ann@example.com")
    good = {"op": "replace", "value": {"displayName": "X", "active": False}}
    assert world.patch_user(ann, good, membership("add", "AAAAAAAAAAAAAAAAAAAAAA")).status == 400
    assert world.keeper.account(ann) == Account(ann, "111", "ann@example.com", invited=False)
    assert world.keeper.changes == []


def test_attributes_without_use_are_ignored(world: World) -> None:
    ann = world.keeper.add_user("ann@example.com")
    values = {"title": "Dr", "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {"department": "X"}}
    assert world.set_user(ann, **values).status == 200
    assert world.keeper.changes == []


def test_inactive_locks_who_is_active_and_deletes_who_is_invited(world: World) -> None:
    ann = world.keeper.add_user("ann@example.com")
    bob = world.invite("bob@example.com")
    assert json.loads(world.set_user(ann, active=False).body)["active"] is False
    assert world.set_user(bob, active=False).status == 200
    assert world.keeper.account(ann).locked
    assert list(world.keeper.accounts()) == [ann]
    assert world.ask("GET", f"/Users/{bob}").status == 404
    assert world.set_user(bob, active=True).status == 404
    assert world.invite("bob@example.com") != bob
    world.set_user(ann, active=True)
    assert world.effects() == ["create_user", "lock_user", "delete_user", "create_user", "unlock_user"]


def test_delete_locks_who_is_active_and_deletes_who_is_invited(world: World) -> None:
    ann = world.keeper.add_user("ann@example.com")
    bob = world.invite("bob@example.com")
    assert world.ask("DELETE", f"/Users/{ann}").status == 204
    assert world.ask("DELETE", f"/Users/{bob}").status == 204
    assert world.get(f"/Users/{ann}")["active"] is False
    assert world.ask("GET", f"/Users/{bob}").status == 404


def test_who_accepted_the_invitation_is_locked_instead(world: World) -> None:
    ann = world.invite("ann@example.com")
    world.keeper.accept_invitation(ann)
    world.set_user(ann, active="false")
    assert world.get(f"/Users/{ann}")["active"] is False


def test_put_clears_what_it_does_not_name(world: World) -> None:
    dev = world.keeper.add_team("Dev")
    ann = world.keeper.add_user("ann@example.com", external_id="jc1", given_name="Ann", display_name="Ann")
    world.keeper.add_member(ann, dev)
    body = {"userName": "ann@example.com", "displayName": "A"}
    assert world.ask("PUT", f"/Users/{ann}", body).status == 200
    account = world.keeper.account(ann)
    assert (account.display_name, account.given_name, account.external_id) == ("A", None, None)
    assert account.teams == (dev,)
    world.play(put_clears_missing=False)
    world.ask("PUT", f"/Users/{ann}", {"userName": "ann@example.com"})
    assert world.keeper.account(ann).display_name == "A"


def test_put_can_deactivate(world: World) -> None:
    ann = world.invite("ann@example.com")
    assert world.ask("PUT", f"/Users/{ann}", {"userName": "ann@example.com", "active": False}).status == 200
    assert world.keeper.accounts() == {}


@pytest.mark.parametrize(
    ("reading", "status", "email", "aliases"),
    [
        ("rename", 200, "new@example.com", ()),
        ("alias", 200, "new@example.com", ("old@example.com",)),
        ("ignore", 200, "old@example.com", ()),
        ("refuse", 400, "old@example.com", ()),
    ],
)
@pytest.mark.parametrize("attribute", ["userName", 'emails[type eq "work"].value'])
def test_readings_of_a_changed_user_name(
    world: World, attribute: str, reading: str, status: int, email: str, aliases: tuple[str, ...]
) -> None:
    ann = world.keeper.add_user("old@example.com")
    world.play(username_change=reading)
    operation = {"op": "replace", "path": attribute, "value": "new@example.com"}
    assert world.patch_user(ann, operation).status == status
    account = world.keeper.account(ann)
    assert (account.email, account.aliases) == (email, aliases)
    user = world.get(f"/Users/{ann}")
    assert (user["userName"], user["emails"][0]["value"]) == (email, email)


def test_a_changed_user_name_must_be_free_and_of_a_reserved_domain(world: World) -> None:
    ann = world.keeper.add_user("ann@example.com")
    world.keeper.add_user("bob@example.com")
    assert world.set_user(ann, userName="BOB@example.com").status == 409
    assert world.set_user(ann, userName="ann@other.org").status == 400
    assert world.set_user(ann, userName="Ann@example.com").status == 200
    assert world.keeper.account(ann).email == "Ann@example.com"


def test_attributes_can_be_silently_ignored(world: World) -> None:
    ann = world.keeper.add_user("ann@example.com")
    dev = world.keeper.add_team("Dev")
    world.play(ignored_attributes=frozenset({"externalId", "active", "groups"}))
    values = {"externalId": "jc1", "active": False, "displayName": "Ann"}
    response = world.patch_user(ann, {"op": "replace", "value": values}, membership("add", dev))
    assert response.status == 200
    account = world.keeper.account(ann)
    assert (account.external_id, account.locked, account.teams) == (None, False, ())
    assert account.display_name == "Ann"


def test_stored_values_can_differ_from_what_was_sent() -> None:
    world = World(trims_names=True, lowercases_usernames=True, truncates_at=5)
    ann = world.invite("Ann@Example.com", displayName="  Annabelle ", externalId=" jc1-long ")
    account = world.keeper.account(ann)
    assert (account.email, account.display_name, account.external_id) == ("ann@example.com", "Annab", " jc1-long ")


@pytest.mark.parametrize(("reading", "status"), [("body", 200), ("none", 204)])
def test_a_patch_replies_with_a_body_or_without(world: World, reading: str, status: int) -> None:
    ann = world.keeper.add_user("ann@example.com")
    world.play(patch_reply=reading)
    response = world.set_user(ann, displayName="Ann")
    assert (response.status, bool(response.body)) == (status, status == 200)


def test_a_user_deleted_meanwhile_is_gone(world: World) -> None:
    ann = world.keeper.add_user("ann@example.com")
    world.keeper.delete_user(ann)
    again = world.keeper.add_user("ann@example.com")
    assert again != ann
    assert world.set_user(ann, active=False).status == 404
    world.play(gone_status=400)
    assert world.set_user(ann, active=False).status == 400
    assert world.ask("GET", f"/Users/{ann}").status == 404


# Memberships.


def test_memberships_of_an_active_user_in_approved_teams_hold_at_once(world: World) -> None:
    ann = world.keeper.add_user("ann@example.com")
    dev, ops = world.keeper.add_team("Dev"), world.keeper.add_team("Ops")
    world.patch_user(ann, membership("add", dev, ops), {"op": "replace", "value": {"displayName": "Ann"}})
    assert world.groups_of(ann) == [dev, ops]
    world.patch_user(ann, membership("Remove", dev))
    assert world.keeper.members(ops) == (ann,)
    assert world.keeper.members(dev) == ()


def test_memberships_of_another_nodes_team_are_refused(world: World) -> None:
    ann = world.keeper.add_user("ann@example.com")
    there = world.keeper.add_team("There", node=OTHER_NODE)
    assert world.patch_user(ann, membership("add", there)).status == 400
    world.keeper.add_member(ann, there)
    assert world.groups_of(ann) == [there]
    assert world.patch_user(ann, membership("remove", there)).status == 400


def test_a_membership_waits_for_the_team_and_for_the_user(world: World) -> None:
    ann, bob = world.keeper.add_user("ann@example.com"), world.invite("bob@example.com")
    cid = world.keeper.add_user("cid@example.com")
    dev = world.queue("Dev")
    for user in (ann, bob, cid):
        world.patch_user(user, membership("add", dev))
    world.keeper.lock(cid)
    assert world.keeper.pending_members(dev) == (ann, bob, cid)
    world.keeper.approve_all(members=False)
    assert world.keeper.members(dev) == ()
    world.keeper.approve_all()
    assert world.keeper.members(dev) == (ann,)
    world.keeper.accept_invitation(bob)
    assert world.keeper.members(dev) == (ann,)
    world.keeper.unlock(cid)
    world.keeper.approve_team(dev)
    assert (world.keeper.members(dev), world.keeper.pending_members(dev)) == ((ann, bob, cid), ())


def test_a_pending_membership_is_shown_or_not(world: World) -> None:
    ann = world.keeper.add_user("ann@example.com")
    dev = world.queue("Dev")
    world.patch_user(ann, membership("add", dev))
    assert (world.groups_of(ann), world.members_of(dev)) == ([dev], [ann])
    world.play(shows_pending_memberships=False)
    assert (world.groups_of(ann), world.members_of(dev)) == ([], [])
    world.keeper.approve_all()
    assert (world.groups_of(ann), world.members_of(dev)) == ([dev], [ann])


def test_every_membership_may_have_to_be_approved(world: World) -> None:
    world.play(queues_every_membership=True)
    ann = world.keeper.add_user("ann@example.com")
    dev = world.keeper.add_team("Dev")
    world.patch_user(ann, membership("add", dev))
    assert world.keeper.account(ann).pending_teams == (dev,)


@pytest.mark.parametrize("queued", [False, True])
def test_repeated_memberships_are_no_effect_or_400(world: World, queued: bool) -> None:
    ann = world.keeper.add_user("ann@example.com")
    dev = world.keeper.add_team("Dev", approved=not queued)
    assert world.patch_user(ann, membership("remove", dev)).status == 200
    world.patch_user(ann, membership("add", dev))
    assert world.patch_user(ann, membership("add", dev, dev)).status == 200
    assert len(world.keeper.changes) == 1
    world.play(refuses_duplicate_membership=True, refuses_absent_membership=True)
    assert world.patch_user(ann, membership("add", dev)).status == 400
    assert world.patch_user(ann, membership("remove", dev)).status == 200
    assert world.patch_user(ann, membership("remove", dev)).status == 400


def test_a_locked_user_keeps_the_memberships(world: World) -> None:
    ann = world.keeper.add_user("ann@example.com")
    dev = world.keeper.add_team("Dev")
    world.keeper.add_member(ann, dev)
    world.set_user(ann, active=False)
    assert world.members_of(dev) == [ann]


# Groups.


def test_a_posted_group_is_queued_with_an_id_that_outlives_approval(world: World) -> None:
    dev = world.queue("Dev", externalId="g1")
    assert world.keeper.teams()[dev] == Team(dev, "111", "Dev", "g1", approved=False)
    world.keeper.approve_team("Dev")
    assert world.keeper.teams()[dev].approved
    assert world.get("/Groups")["Resources"][0]["id"] == dev


def test_a_queued_team_may_be_hidden_but_is_there_by_its_id(world: World) -> None:
    world.play(shows_queued_teams=False)
    dev = world.queue("Dev")
    ann = world.keeper.add_user("ann@example.com")
    assert world.get("/Groups")["totalResults"] == 0
    named = quote('displayName eq "Dev"')
    assert world.get(f"/Groups?filter={named}")["totalResults"] == 0
    assert world.ask("GET", f"/Groups/{dev}").status == 404
    assert world.patch_user(ann, membership("add", dev)).status == 200
    assert world.patch(f"/Groups/{dev}", {"op": "replace", "value": {"displayName": "D"}}).status == 200
    world.play(gets_hidden_teams=True)
    assert world.get(f"/Groups/{dev}")["displayName"] == "D"
    world.keeper.approve_all()
    assert world.get("/Groups")["totalResults"] == 1


def test_duplicates_are_accepted_unless_names_are_unique(world: World) -> None:
    dev = world.queue("Dev")
    other = world.queue("Dev")
    assert dev != other
    world.play(unique_group_names=True)
    assert world.ask("POST", "/Groups", {"displayName": "Dev"}).status == 409
    world.queue("Ops")
    assert world.patch(f"/Groups/{dev}", {"op": "replace", "value": {"displayName": "Ops"}}).status == 409


def test_prefixed_groups_become_roles_without_approval(world: World) -> None:
    world.play(role_prefix="role-")
    bob = world.invite("bob@example.com")
    role, team = world.queue("role-Admins"), world.queue("Admins")
    world.patch_user(bob, membership("add", role, team))
    account = world.keeper.account(bob)
    assert (account.teams, account.pending_teams) == ((role,), (team,))
    assert [row["name"] for row in world.keeper.inventory()["teams"]] == ["Admins"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"displayName": ""},
        {"displayName": "  "},
        {"displayName": None},
        {"displayName": 7},
        {"displayName": "x" * 186},
        {"displayName": "Dev", "externalId": 7},
        {"displayName": "Dev", "members": {"value": "1"}},
        {"displayName": "Dev", "members": [{"value": "1"}]},
    ],
)
def test_a_group_that_is_not_well_formed_is_refused(world: World, body: Any) -> None:
    assert world.ask("POST", "/Groups", body).status == 400
    assert world.keeper.teams() == {}


def test_the_longest_team_name(world: World) -> None:
    world.queue("x" * 185)
    world.play(team_name_limit=255)
    world.queue("x" * 255)
    world.play(group_post_status=200)
    assert world.ask("POST", "/Groups", {"displayName": "Dev"}).status == 200


def test_a_group_is_renamed(world: World) -> None:
    dev = world.queue("Dev")
    operation = {"op": "replace", "value": {"displayName": "Development", "externalId": "g1"}}
    assert world.patch(f"/Groups/{dev}", operation).status == 200
    team = world.keeper.teams()[dev]
    assert (team.name, team.external_id) == ("Development", "g1")
    world.patch(f"/Groups/{dev}", {"op": "remove", "path": "externalId"})
    assert "externalId" not in world.get(f"/Groups/{dev}")
    world.play(ignored_group_attributes=frozenset({"displayName"}))
    world.patch(f"/Groups/{dev}", {"op": "Replace", "path": "displayName", "value": "X"})
    assert world.keeper.teams()[dev].name == "Development"


def test_members_through_the_group(world: World) -> None:
    ann, bob = world.keeper.add_user("ann@example.com"), world.keeper.add_user("bob@example.com")
    there = world.keeper.add_user("there@example.com", node=OTHER_NODE)
    dev = world.keeper.add_team("Dev")
    world.patch(f"/Groups/{dev}", membership("Add", ann, bob, path="members"))
    assert world.members_of(dev) == [ann, bob]
    world.patch(f"/Groups/{dev}", membership("remove", ann, path="members"))
    assert world.members_of(dev) == [bob]
    assert world.patch(f"/Groups/{dev}", membership("add", ann, there, path="members")).status == 400
    assert world.members_of(dev) == [bob]
    assert world.patch(f"/Groups/{dev}", membership("replace", path="members")).status == 400
    assert world.patch(f"/Groups/{dev}", {"op": "remove", "path": "displayName"}).status == 400
    assert world.patch(f"/Groups/{dev}", {"op": "add", "path": "owners", "value": []}).status == 400


def test_deleting_a_group_takes_its_memberships(world: World) -> None:
    ann = world.keeper.add_user("ann@example.com")
    bob = world.invite("bob@example.com")
    dev = world.keeper.add_team("Dev")
    for user in (ann, bob):
        world.patch_user(user, membership("add", dev))
    assert world.ask("DELETE", f"/Groups/{dev}").status == 204
    assert world.ask("GET", f"/Groups/{dev}").status == 404
    assert world.groups_of(ann) == world.groups_of(bob) == []
    assert world.patch_user(ann, membership("remove", dev)).status == 400


# Throttling.


@pytest.mark.parametrize("as_403", [True, False])
def test_throttling_by_count(world: World, as_403: bool) -> None:
    world.keeper.throttle(2, seconds=90, as_403=as_403)
    assert [world.ask("GET", "/Users").status for _ in range(3)] == [200, 200, 403 if as_403 else 429]
    world.now = 30.0
    assert b"1 minute." in world.ask("GET", "/Users").body
    world.now = 60.0
    response = world.ask("GET", "/Users")
    assert json.loads(response.body)["error"] == "throttled"
    assert "30 seconds" in json.loads(response.body)["message"]
    assert response.headers.get("retry-after") == (None if as_403 else "30")
    world.now = 90.0
    assert [world.ask("GET", "/Users").status for _ in range(3)] == [200, 200, 403 if as_403 else 429]
    world.keeper.throttle(None)
    assert world.ask("GET", "/Users").status == 200


# Looking at it.


def test_every_effect_is_logged_with_its_request_and_what_was_before(world: World) -> None:
    ann = world.keeper.add_user("ann@example.com")
    world.get("/Users")
    world.set_user(ann, displayName="Ann")
    world.set_user(ann, displayName="Ann")
    dev = world.queue("Dev")
    world.patch_user(ann, membership("add", dev))
    world.ask("DELETE", f"/Groups/{dev}")
    log = [(change.request, change.what, change.subject) for change in world.keeper.changes]
    assert log == [
        (2, "update_user", ann),
        (4, "create_team", dev),
        (5, "update_user", ann),
        (6, "update_user", ann),
        (6, "delete_team", dev),
    ]
    renamed = world.keeper.changes[0]
    assert isinstance(renamed.before, Account)
    assert renamed.after == replace(renamed.before, display_name="Ann")
    assert (world.keeper.changes[1].before, world.keeper.changes[-1].after) == (None, None)


def test_the_observer_is_called_once_for_each_changing_request(world: World) -> None:
    seen: list[tuple[str, ...]] = []
    known: list[int] = []

    def observe(changes: Sequence[Change]) -> None:
        seen.append(tuple(change.what for change in changes))
        known.append(len(world.keeper.accounts()))

    world.keeper.on_change = observe
    ann = world.invite("ann@example.com")
    world.get("/Users")
    world.post_user("no-address")
    world.keeper.add_user("bob@example.com")
    world.set_user(ann, active=False)
    assert seen == [("create_user",), ("delete_user",)]
    assert known == [1, 1]


def test_the_inventory_tells_queued_teams_and_invited_users(world: World) -> None:
    ann = world.keeper.add_user("ann@example.com")
    world.invite("bob@example.com")
    world.keeper.add_user("cid@example.com", locked=True)
    dev = world.queue("Dev")
    world.patch_user(ann, membership("add", dev))
    world.keeper.add_team("Ops")
    inventory = world.keeper.inventory()
    assert [(team["team_uid"] == dev, team["restricts"]) for team in inventory["teams"]] == [
        (True, "Queued"),
        (False, ""),
    ]
    assert inventory["teams"][0]["queued_users"] == ["ann@example.com"]
    assert [user["status"] for user in inventory["users"]] == ["Active", "Invited", "Locked"]


# The administrator.


def test_what_the_administrator_does_shows_in_scim_but_not_in_the_log(world: World) -> None:
    ann = world.keeper.add_user("ann@example.com", given_name="Ann", state="invited")
    dev = world.keeper.add_team("Dev", external_id="g1")
    world.keeper.accept_invitation("ann@example.com")
    world.keeper.add_member("ann@example.com", "Dev")
    world.keeper.change_email(ann, "ann.b@example.com")
    world.keeper.rename_user(ann, display_name="Ann B", given_name="")
    world.keeper.rename_team("Dev", "Development")
    world.keeper.lock(ann)
    user = world.get(f"/Users/{ann}")
    assert (user["userName"], user["displayName"], user["name"]["givenName"]) == ("ann.b@example.com", "Ann B", "")
    assert (user["active"], user["groups"]) == (False, [{"value": dev}])
    assert world.get(f"/Groups/{dev}")["displayName"] == "Development"
    world.keeper.unlock(ann)
    world.keeper.remove_member(ann, dev)
    assert (world.get(f"/Users/{ann}")["active"], world.groups_of(ann)) == (True, [])
    world.keeper.delete_team(dev)
    world.keeper.move_user_to_other_node(ann, OTHER_NODE)
    assert world.ask("GET", f"/Users/{ann}").status == 404
    assert world.get(f"/Users/{ann}", node=OTHER_NODE)["id"] == ann
    assert world.keeper.changes == []


def test_locking_who_is_only_invited_deletes(world: World) -> None:
    world.keeper.lock(world.invite("ann@example.com"))
    assert world.keeper.accounts() == {}


def test_the_administrator_cannot_do_the_impossible(world: World) -> None:
    world.keeper.add_user("ann@example.com")
    world.keeper.add_team("Dev")
    world.keeper.add_team("Dev")
    with pytest.raises(ValueError, match=r"ANN@example\.com is taken"):
        world.keeper.add_user("ANN@example.com")
    with pytest.raises(ValueError, match="no user nobody"):
        world.keeper.lock("nobody")
    with pytest.raises(ValueError, match="2 teams are named Dev"):
        world.keeper.rename_team("Dev", "Ops")
    with pytest.raises(ValueError, match="no node 333"):
        world.keeper.add_team("Ops", node="333")
    with pytest.raises(ValueError, match="cannot be locked"):
        world.keeper.add_user("bob@example.com", state="invited", locked=True)


# Documents.


def test_a_dump_loads_into_the_same_enterprise(world: World) -> None:
    ann = world.invite("ann@example.com", externalId="jc1", displayName="Ann")
    dev = world.queue("Dev", externalId="g1")
    world.patch_user(ann, membership("add", dev))
    world.keeper.change_email(world.keeper.add_user("old@example.com", locked=True), "new@example.com")
    world.keeper.take_elsewhere("taken@example.com")
    world.play(page_cap=3, ignored_attributes=frozenset({"active"}))
    document = json.loads(json.dumps(world.keeper.dump()))
    copy = Keeper()
    copy.load(document)
    assert copy.dump() == document
    assert (copy.accounts(), copy.teams(), copy.dialect) == (
        world.keeper.accounts(),
        world.keeper.teams(),
        world.keeper.dialect,
    )
    assert copy.token("111") == world.keeper.token("111")
    assert copy.add_user("x@example.com") == world.keeper.add_user("x@example.com")


def test_a_seed_written_by_hand_needs_little(world: World) -> None:
    token = world.keeper.token()
    world.keeper.load({"teams": [{"name": "Dev"}], "users": [{"email": "ann@example.com", "teams": ["Dev"]}]})
    (account,) = world.keeper.accounts().values()
    (team,) = world.keeper.teams().values()
    assert account.teams == (team.id,)
    assert world.keeper.token() == token


@pytest.mark.parametrize(
    "document",
    [
        {"user": []},
        {"users": [{"email": "bob@example.com", "teams": ["Nowhere"]}]},
        {"users": [{"email": "bob@example.com"}, {"email": "BOB@example.com"}]},
        {"teams": [{"id": "1", "name": "Dev"}, {"id": "1", "name": "Ops"}]},
        {"users": [{"id": "1", "email": "bob@example.com"}, {"id": "1", "email": "cid@example.com"}]},
        {"dialect": {"page_caps": 1}},
        {"dialect": {"error_body": "xml"}},
    ],
)
def test_a_faulty_seed_leaves_everything_as_it_was(world: World, document: Any) -> None:
    world.invite("ann@example.com")
    before = world.keeper.dump()
    with pytest.raises(ValueError, match=r".+"):
        world.keeper.load(document)
    assert world.keeper.dump() == before
    assert world.post_user("ann@example.com").status == 200


def test_the_controls_work_over_http(world: World) -> None:
    front = Controlled(world.keeper, world.keeper.controls, world.keeper.dump)

    def control(name: str, **arguments: Any) -> Response:
        return front.handle(Request("POST", f"/_simulator/{name}", {}, json.dumps(arguments).encode()))

    ann = json.loads(control("add_user", email="ann@example.com").body)["result"]
    assert control("lock", user=ann).status == 200
    assert world.keeper.account(ann).locked
    assert control("set_dialect", ignored_attributes=["externalId"], page_cap=1).status == 200
    assert world.keeper.dialect.ignored_attributes == {"externalId"}
    assert control("set_dialect", page_cap="many").status == 400
    assert control("lock", user="nobody").status == 400
    assert json.loads(control("inventory").body)["result"]["users"][0]["status"] == "Locked"


def test_every_control_is_callable_and_says_what_it_does(world: World) -> None:
    assert all(callable(control) and control.__doc__ for control in world.keeper.controls.values())


def test_the_same_requests_give_the_same_replies() -> None:
    def story() -> list[bytes]:
        world = World()
        ann = world.invite("ann@example.com")
        dev = world.queue("Dev")
        return [world.patch_user(ann, membership("add", dev)).body, json.dumps(world.keeper.dump()).encode()]

    assert story() == story()


def test_it_may_be_asked_from_several_threads(world: World) -> None:
    def invite(thread: int) -> None:
        for number in range(50):
            world.post_user(f"u{thread}-{number}@example.com")
            world.post_user(f"shared-{number}@example.com")

    threads = [threading.Thread(target=invite, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(world.keeper.accounts()) == 4 * 50 + 50
    assert world.keeper.requests == 4 * 100
    assert world.effects().count("create_user") == 250
