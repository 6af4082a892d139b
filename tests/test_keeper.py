import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import pytest
from loguru import logger

from reconciler import keeper as scim
from reconciler.http import Clock, Http, Limits, Pace
from reconciler.keeper import Keeper, KeeperError
from reconciler.model import USER_ATTRIBUTES, KeeperTeam, KeeperUser, Listing
from reconciler.simulator import faults
from reconciler.simulator import keeper as simulated
from reconciler.simulator.keeper_dialect import Dialect
from reconciler.simulator.server import Server
from reconciler.simulator.service import Request, Response, Service

T = TypeVar("T")
TOKEN = "not-to-be-seen"
STYLES = ("scim", "keeper", "empty", "html")
ADA = {
    "userName": "ada@example.com",
    "externalId": "jc-1",
    "displayName": "Ada Lovelace",
    "name.givenName": "Ada",
    "name.familyName": "Lovelace",
}


@dataclass
class World:
    """A service on loopback and how to speak to it; nobody waits in real time."""

    server: Server
    base_path: str = ""
    token: str = TOKEN
    slept: list[float] = field(default_factory=list)

    def run(self, action: Callable[[Keeper], Awaitable[T]], *, attempts: int = 3, url: str = "") -> T:
        now = 0.0

        async def sleep(seconds: float) -> None:
            nonlocal now
            self.slept.append(seconds)
            now += seconds
            await asyncio.sleep(0)

        async def go() -> T:
            clock = Clock(monotonic=lambda: now, sleep=sleep)
            async with Http(
                service="Keeper",
                base_url=url or self.server.url + self.base_path,
                headers=scim.headers(self.token),
                pace=Pace(10, 50, clock=clock),
                in_flight=4,
                limits=Limits(attempts=attempts),
                clock=clock,
            ) as http:
                return await action(Keeper(http))

        return asyncio.run(go())

    def fails(self, action: Callable[[Keeper], Awaitable[object]], **options: Any) -> KeeperError:
        with pytest.raises(KeeperError) as caught:
            self.run(action, **options)
        assert self.token not in str(caught.value) + repr(caught.value)
        return caught.value

    @property
    def sent(self) -> list[tuple[str, str]]:
        """Method and target below the SCIM URL."""
        return [(e.method, e.target.removeprefix(self.base_path)) for e in self.server.requests]


@contextmanager
def world(service: Service, *, base_path: str = "", token: str = TOKEN) -> Iterator[World]:
    with Server(service) as server:
        stage = World(server, base_path, token)
        yield stage
        for method, target in stage.sent:
            assert method != "PUT"
            assert method != "DELETE" or not target.startswith("/Users")


@contextmanager
def node(enterprise: simulated.Keeper) -> Iterator[World]:
    with world(enterprise, base_path=enterprise.base_path(), token=enterprise.token()) as stage:
        yield stage


@pytest.fixture
def enterprise() -> simulated.Keeper:
    return simulated.Keeper()


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    said: list[str] = []
    sink = logger.add(lambda message: said.append(message.record["message"]), level="WARNING")
    yield said
    logger.remove(sink)


class Pages:
    """A service with one list, of which `page` makes the answer to (startIndex, count); groups are none."""

    def __init__(self, page: Callable[[int, int], Any]) -> None:
        self.page = page

    def handle(self, request: Request) -> Response:
        start, count = (int(request.query[name][0]) for name in ("startIndex", "count"))
        document = self.page(start, count) if request.path == "/Users" else page([], 0)
        return Response.of_json(200, document)


class Says:
    """A service with one answer to everything."""

    def __init__(self, status: int, body: bytes | Mapping[str, Any] = b"", content_type: str = "text/plain") -> None:
        self.answer = (
            Response(status, {"content-type": content_type}, body)
            if isinstance(body, bytes)
            else Response.of_json(status, body)
        )

    def handle(self, _: Request) -> Response:
        return self.answer


def page(resources: list[Any], total: int) -> dict[str, Any]:
    return {"totalResults": total, "startIndex": 1, "itemsPerPage": len(resources), "Resources": resources}


def person(number: int, **changes: Any) -> dict[str, Any]:
    return {"id": str(number), "userName": f"u{number}@example.com", "active": True, **changes}


def people(count: int) -> list[dict[str, Any]]:
    return [person(number) for number in range(1, count + 1)]


async def listing(keeper: Keeper) -> Listing:
    return await keeper.listing()


# Probing, and the refusals that concern everything.


def test_probe_accepts_a_good_token_and_node_and_changes_nothing(enterprise: simulated.Keeper) -> None:
    with node(enterprise) as stage:
        stage.run(lambda keeper: keeper.probe())
        assert stage.sent == [("GET", "/ServiceProviderConfig")]


CALLS: Mapping[str, Callable[[Keeper], Awaitable[object]]] = {
    "probe": lambda keeper: keeper.probe(),
    "listing": lambda keeper: keeper.listing(),
    "user": lambda keeper: keeper.user("1"),
    "team": lambda keeper: keeper.team("t"),
    "create_user": lambda keeper: keeper.create_user(ADA, ()),
    "patch_user": lambda keeper: keeper.patch_user("1", {"active": False}),
    "queue_team": lambda keeper: keeper.queue_team("Engineering", "g-1"),
    "patch_team": lambda keeper: keeper.patch_team("t", {"displayName": "Engineers"}),
    "delete_team": lambda keeper: keeper.delete_team("t"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("style", STYLES)
def test_a_bad_token_has_its_own_outcome_everywhere(call: str, style: str) -> None:
    enterprise = simulated.Keeper(dialect=Dialect(error_body=style))  # type: ignore[arg-type]
    with node(enterprise) as stage:
        enterprise.new_token()
        error = stage.fails(CALLS[call])
    assert isinstance(error, scim.BadToken)
    assert (error.name, error.stops_apply, error.uncertain, error.status) == ("bad_token", True, False, 401)
    for advice in ("saved", "scim edit", "restart the service", "keeper.token", "Provisioning"):
        assert advice in str(error)
    assert "systemd" not in str(error), "a service under anything else has read its token as early"


@pytest.mark.parametrize("style", STYLES)
def test_a_403_that_is_not_throttling_is_forbidden(style: str) -> None:
    enterprise = simulated.Keeper(["1", "2"], dialect=Dialect(error_body=style))  # type: ignore[arg-type]
    with world(enterprise, base_path=enterprise.base_path("2"), token=enterprise.token("1")) as stage:
        error = stage.fails(listing)
        assert len(stage.sent) == 1
    assert isinstance(error, scim.Forbidden)
    assert (error.name, error.stops_apply, error.uncertain) == ("forbidden", False, False)


@pytest.mark.parametrize("call", ["probe", "listing", "create_user", "queue_team"])
def test_an_unknown_node_is_not_an_empty_one(enterprise: simulated.Keeper, call: str) -> None:
    with world(enterprise, base_path="/api/rest/scim/v1/9", token=enterprise.token()) as stage:
        error = stage.fails(CALLS[call])
    assert isinstance(error, scim.UnknownNode)
    assert error.name == "unknown_node"
    assert "keeper.scim_url" in str(error)


@pytest.mark.parametrize("as_403", [False, True])
@pytest.mark.parametrize("call", ["create_user", "listing", "patch_user"])
def test_throttling_in_both_forms_is_one_outcome_without_effect(
    enterprise: simulated.Keeper, as_403: bool, call: str
) -> None:
    enterprise.throttle(0, seconds=40, as_403=as_403)
    with node(enterprise) as stage:
        error = stage.fails(CALLS[call])
        assert len(stage.sent) == 3
    assert isinstance(error, scim.Throttled)
    assert (error.name, error.stops_apply, error.uncertain) == ("throttled", False, False)
    assert max(stage.slept) >= 39
    assert not enterprise.changes


def test_a_throttled_creation_is_sent_again(enterprise: simulated.Keeper) -> None:
    with node(enterprise) as stage:
        stage.server.faults.add(faults.keeper_throttle(), method="POST", times=1)
        user = stage.run(lambda keeper: keeper.create_user(ADA, ()))
    assert [account.id for account in enterprise.accounts().values()] == [user.id]


@pytest.mark.parametrize("call", CALLS)
def test_nobody_listening_is_unavailable_and_certain(enterprise: simulated.Keeper, call: str) -> None:
    with Server(enterprise) as closed:
        url = closed.url
    with node(enterprise) as stage:
        error = stage.fails(CALLS[call], url=url)
    assert isinstance(error, scim.Unavailable)
    assert (error.name, error.uncertain) == ("unavailable", False)


def test_a_read_that_is_never_answered_is_unavailable(enterprise: simulated.Keeper) -> None:
    with node(enterprise) as stage:
        stage.server.faults.add(faults.status(502))
        error = stage.fails(listing)
        assert len(stage.sent) == 3
    assert isinstance(error, scim.Unavailable)
    assert str(error).startswith("Keeper's list of users was not read: the service failed with status 502")


@pytest.mark.parametrize("fault", [faults.close(effect=True), faults.status(503, effect=True), faults.Truncate()])
@pytest.mark.parametrize(("call", "method"), [("create_user", "POST"), ("queue_team", "POST")])
def test_a_creation_without_an_answer_is_sent_once_and_uncertain(
    enterprise: simulated.Keeper, fault: faults.Action, call: str, method: str
) -> None:
    with node(enterprise) as stage:
        stage.server.faults.add(fault, method=method)
        error = stage.fails(CALLS[call])
        assert [sent for sent, _ in stage.sent] == ["POST"]
    assert isinstance(error, scim.Unanswered)
    assert (error.name, error.uncertain, error.stops_apply) == ("unanswered", True, False)
    assert "may or may not have been" in str(error)
    assert len(enterprise.changes) == 1


def test_a_patch_without_an_answer_is_repeated(enterprise: simulated.Keeper) -> None:
    id = enterprise.add_user("ada@example.com")
    with node(enterprise) as stage:
        rule = stage.server.faults.add(faults.close(effect=True), method="PATCH", times=1)
        user = stage.run(lambda keeper: keeper.patch_user(id, {"active": False}))
        assert user
        assert not user.active
        stage.server.faults.remove(rule)
        stage.server.faults.add(faults.close(), method="PATCH")
        error = stage.fails(lambda keeper: keeper.patch_user(id, {"active": True}))
    assert isinstance(error, scim.Unanswered)
    assert error.uncertain
    assert "unlocked" in str(error)


@pytest.mark.parametrize(
    ("call", "body"),
    [
        *(
            (call, body)
            for call in ("probe", "user", "team", "listing")
            for body in (b"", b"<html>Sign in</html>", b"[]")
        ),
        *((call, body) for call in ("user", "team", "listing") for body in (b"{}", b'{"id": "2"}')),
    ],
)
def test_a_read_with_a_reply_of_something_else_has_failed(call: str, body: bytes) -> None:
    with world(Says(200, body)) as stage:
        error = stage.fails(CALLS[call])
    assert isinstance(error, scim.UnexpectedReply)
    assert (error.name, error.uncertain) == ("unexpected_reply", False)


def test_another_user_than_the_one_asked_for_is_not_returned() -> None:
    with world(Says(200, person(2))) as stage:
        assert isinstance(stage.fails(CALLS["user"]), scim.UnexpectedReply)


def test_a_redirect_is_an_unexpected_reply_and_not_followed() -> None:
    with world(Says(302)) as stage:
        assert isinstance(stage.fails(CALLS["probe"]), scim.UnexpectedReply)
        assert len(stage.sent) == 1


# Users: creating.


def test_a_created_user_arrives_whole(enterprise: simulated.Keeper) -> None:
    teams = [enterprise.add_team("One"), enterprise.add_team("Two")]
    with node(enterprise) as stage:
        user = stage.run(lambda keeper: keeper.create_user(ADA, teams))
        assert stage.sent == [("POST", "/Users")]
    assert user == KeeperUser(user.id, ADA, True, frozenset(teams))
    account = enterprise.account(user.id)
    assert (account.email, account.external_id, account.display_name) == ("ada@example.com", "jc-1", "Ada Lovelace")
    assert (account.given_name, account.family_name, account.invited) == ("Ada", "Lovelace", True)


def test_without_names_the_address_is_the_display_name(enterprise: simulated.Keeper) -> None:
    with node(enterprise) as stage:
        user = stage.run(lambda keeper: keeper.create_user({"userName": "a@example.com", "name.givenName": ""}, ()))
    assert user.attributes == {**dict.fromkeys(USER_ATTRIBUTES, ""), "userName": "a@example.com"} | {
        "displayName": "a@example.com"
    }
    assert enterprise.account(user.id).display_name == "a@example.com"


def test_the_creation_is_in_the_form_that_keeper_documents() -> None:
    bodies: list[Any] = []

    class Keeps:
        def handle(self, request: Request) -> Response:
            bodies.append((request.json(), request.headers["content-type"], request.headers["authorization"]))
            return Response.of_json(201, person(1))

    with world(Keeps()) as stage:
        stage.run(lambda keeper: keeper.create_user(ADA, ["t2", "t1"]))
    document = {
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
        "userName": "ada@example.com",
        "emails": [{"value": "ada@example.com"}],
        "displayName": "Ada Lovelace",
        "externalId": "jc-1",
        "name": {"givenName": "Ada", "familyName": "Lovelace"},
        "active": True,
        "groups": [{"value": "t1"}, {"value": "t2"}],
    }
    assert bodies == [(document, "application/scim+json", f"Bearer {TOKEN}")]


def test_a_linked_account_is_returned_as_it_is(enterprise: simulated.Keeper) -> None:
    enterprise.set_dialect(link_updates=False)
    id = enterprise.add_user("Ada@Example.com", external_id="other", locked=True)
    with node(enterprise) as stage:
        user = stage.run(lambda keeper: keeper.create_user(ADA, ()))
    assert (user.id, user.active) == (id, False)
    assert (user.attributes["userName"], user.attributes["externalId"]) == ("Ada@Example.com", "other")


def test_a_reply_about_another_address_is_left_to_the_caller() -> None:
    with world(Says(201, person(7))) as stage:
        user = stage.run(CALLS["create_user"])
    assert isinstance(user, KeeperUser)
    assert user.attributes["userName"] == "u7@example.com"


@pytest.mark.parametrize("status", [200, 201, 202])
@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"<html></html>", b'{"id": ""}', b'{"id": "1/2", "userName": "a@b.c", "active": true}', b"[1]"],
)
@pytest.mark.parametrize("call", ["create_user", "queue_team"])
def test_a_creation_that_does_not_show_what_was_made_is_uncertain(call: str, status: int, body: bytes) -> None:
    with world(Says(status, body)) as stage:
        error = stage.fails(CALLS[call])
        assert len(stage.sent) == 1
    assert isinstance(error, scim.UnexpectedReply)
    assert error.uncertain
    assert "may or may not have been" in str(error)


@dataclass(frozen=True)
class Case:
    """One refusal: how to bring it about, and what must come of it."""

    prepare: Callable[[simulated.Keeper], object]
    call: Callable[[Keeper], Awaitable[object]]
    outcome: type[KeeperError]
    status: int
    subject: str
    words: str
    advice: str


REFUSALS = {
    "address_taken": Case(
        lambda e: e.take_elsewhere("ADA@example.com"),
        lambda k: k.create_user(ADA, ()),
        scim.AddressTaken, 409, "ada@example.com was not created", "Email already taken", "Admin > Users",
    ),
    "address_taken on a change": Case(
        lambda e: (e.load({"users": [{"email": "u@example.com", "id": "1"}]}), e.take_elsewhere("ada@example.com")),
        lambda k: k.patch_user("1", {"userName": "ada@example.com"}),
        scim.AddressTaken, 409, "Keeper user 1 was not changed", "Email already taken", "Admin > Users",
    ),
    "seats_exceeded": Case(
        lambda e: e.set_seats(0),
        lambda k: k.create_user(ADA, ()),
        scim.SeatsExceeded, 428, "ada@example.com was not created", "Number of licensed seats", "Buy seats",
    ),
    "domain not reserved": Case(
        lambda _: None,
        lambda k: k.create_user({**ADA, "userName": "ada@elsewhere.example"}, ()),
        scim.Refused, 400, "ada@elsewhere.example was not created", "is not reserved", "domain reserved",
    ),
    "unknown team": Case(
        lambda _: None,
        lambda k: k.create_user(ADA, ["none"]),
        scim.Refused, 400, "ada@example.com was not created", "No team none in this node", "teams must be",
    ),
    "user gone": Case(
        lambda _: None,
        lambda k: k.patch_user("1", {"active": False}),
        scim.NotFound, 404, "Keeper user 1 was not locked", "User not found", "gone once locked",
    ),
    "team name taken": Case(
        lambda e: (e.set_dialect(unique_group_names=True), e.add_team("Engineering")),
        lambda k: k.queue_team("Engineering", "g-1"),
        scim.TeamNameTaken, 409, "The team “Engineering” was not queued", "", "adopt --team",
    ),
    "team name too long": Case(
        lambda _: None,
        lambda k: k.queue_team("N" * 186, "g-1"),
        scim.Refused, 400, f"The team “{'N' * 186}” was not queued", "max=185", "185 characters",
    ),
    "team gone": Case(
        lambda _: None,
        lambda k: k.patch_team("t", {"displayName": "Engineering"}),
        scim.TeamNotFound, 404, "Keeper team t was not changed", "Group not found", "rejected it in the Pending Queue",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
@pytest.mark.parametrize("style", STYLES)
def test_each_refusal_is_an_outcome_of_its_own_in_every_style(
    enterprise: simulated.Keeper, name: str, style: str
) -> None:
    case = REFUSALS[name]
    case.prepare(enterprise)
    enterprise.set_dialect(error_body=style)
    with node(enterprise) as stage:
        error = stage.fails(case.call)
        assert len(stage.sent) == 1
    assert type(error) is case.outcome
    assert (error.status, error.uncertain, error.stops_apply) == (case.status, False, False)
    text = str(error)
    assert text.startswith(case.subject)
    assert case.advice in text
    assert f"HTTP {case.status}" in text
    assert "<" not in text
    if style in ("scim", "keeper"):
        assert case.words in error.detail
        assert error.detail in text
    else:
        assert not error.detail
    assert not enterprise.changes


def test_a_404_for_a_creation_with_teams_may_be_about_a_team() -> None:
    with world(Says(404)) as stage:
        error = stage.fails(lambda keeper: keeper.create_user(ADA, ["t"]))
        assert type(error) is scim.Refused
        assert "teams must be of the same node" in str(error)
        assert type(stage.fails(lambda keeper: keeper.create_user(ADA, ()))) is scim.UnknownNode


def test_a_409_that_is_about_neither_address_nor_name_is_refused() -> None:
    with world(Says(409, b"conflict")) as stage:
        assert type(stage.fails(lambda keeper: keeper.patch_user("1", {}, add=["t"]))) is scim.Refused
        assert type(stage.fails(lambda keeper: keeper.patch_team("t", {"externalId": "g"}))) is scim.Refused
        assert type(stage.fails(listing)) is scim.Refused


@pytest.mark.parametrize("status", [400, 402, 405, 412, 422, 451, 501])
def test_whatever_else_is_refused_in_keepers_words(status: int) -> None:
    with world(Says(status, {"detail": "No."})) as stage:
        error = stage.fails(CALLS["patch_user"])
    assert (type(error), error.status, error.detail) == (scim.Refused, status, "No.")


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"detail": "one", "message": "two", "error": "three"}, "one"),
        ({"detail": " ", "message": "two", "error": "three"}, "two"),
        ({"error": "three", "message": None}, "three"),
        ({"detail": {"deep": 1}}, ""),
        (b'"text"', ""),
        (b"Email already taken\n", "Email already taken"),
        (b" <!doctype html>Oops", ""),
        (b"\xff\xfe plain", "\ufffd\ufffd plain"),
        ({"detail": "a\x1b[31m\r\nb\u202e\u0000c"}, "a [31m b c"),
        ({"detail": "x " * 500}, ("x " * 100)[:-1] + "…"),
        ({"message": f"bad token {'aB3_-' * 8}!"}, "bad token […]!"),
        ({"message": "No team AAAAAAAAAAAAAAAAAAAAAA here"}, "No team AAAAAAAAAAAAAAAAAAAAAA here"),
    ],
)
def test_keepers_words_are_one_short_line_without_controls_or_credentials(body: Any, detail: str) -> None:
    with world(Says(400, body)) as stage:
        error = stage.fails(CALLS["create_user"])
    assert error.detail == detail
    assert len(error.detail) <= 200


def test_a_hostile_name_does_not_reach_the_terminal() -> None:
    with world(Says(400)) as stage:
        error = stage.fails(lambda keeper: keeper.queue_team("Ops\x1b]0;x\x07\n\u202eTeam", "g"))
    assert str(error).startswith("The team “Ops ]0;x Team” was not queued")


def test_every_outcome_has_a_name_and_an_explanation_of_its_own() -> None:
    outcomes = KeeperError.__subclasses__()
    names = [outcome.name for outcome in outcomes]
    assert len(outcomes) == 14
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[a-z_]+", name) for name in names)
    assert {outcome.name for outcome in outcomes if outcome.stops_apply} == {"bad_token", "unknown_node"}


# Users: changing.


def test_one_patch_changes_attributes_and_teams(enterprise: simulated.Keeper) -> None:
    old, kept, new = (enterprise.add_team(name) for name in ("Old", "Kept", "New"))
    id = enterprise.add_user("ada@example.com", locked=True)
    for team in (old, kept):
        enterprise.add_member(id, team)
    names = {"externalId": "jc-1", "displayName": "Ada", "name.givenName": "Ada", "name.familyName": "L"}
    with node(enterprise) as stage:
        user = stage.run(lambda keeper: keeper.patch_user(id, {**names, "active": True}, add=[new], remove=[old]))
        assert stage.sent == [("PATCH", f"/Users/{id}")]
    assert user == KeeperUser(id, {**names, "userName": "ada@example.com"}, True, frozenset({kept, new}))
    account = enterprise.account(id)
    assert (set(account.teams), account.locked, account.family_name) == ({kept, new}, False, "L")


def test_the_patch_is_in_the_value_form() -> None:
    bodies: list[Any] = []

    class Keeps:
        def handle(self, request: Request) -> Response:
            bodies.append(request.json())
            return Response(204)

    with world(Keeps()) as stage:
        stage.run(lambda k: k.patch_user("1", {"active": False, "name.givenName": "A"}, add=["b", "a"], remove=["c"]))
        stage.run(lambda k: k.patch_user("1", {}, remove=["c"]))
        stage.run(lambda k: k.patch_team("t", {"displayName": "X", "externalId": "g"}))
    schemas = ["urn:ietf:params:scim:api:messages:2.0:PatchOp"]
    remove = {"op": "remove", "path": "groups", "value": [{"value": "c"}]}
    assert bodies == [
        {
            "schemas": schemas,
            "Operations": [
                {"op": "replace", "value": {"active": False, "name.givenName": "A"}},
                {"op": "add", "path": "groups", "value": [{"value": "a"}, {"value": "b"}]},
                remove,
            ],
        },
        {"schemas": schemas, "Operations": [remove]},
        {"schemas": schemas, "Operations": [{"op": "replace", "value": {"displayName": "X", "externalId": "g"}}]},
    ]


def test_a_patch_needs_no_body_in_return(enterprise: simulated.Keeper) -> None:
    enterprise.set_dialect(patch_reply="none")
    id, team = enterprise.add_user("ada@example.com"), enterprise.add_team("One")
    with node(enterprise) as stage:
        assert stage.run(lambda keeper: keeper.patch_user(id, {"active": False})) is None
        assert stage.run(lambda keeper: keeper.patch_team(team, {"displayName": "Two"})) is None
        shown = stage.run(lambda keeper: keeper.user(id))
    assert shown
    assert not shown.active
    assert enterprise.teams()[team].name == "Two"


def test_a_patch_without_a_body_in_return_is_done() -> None:
    with world(Says(200, b"")) as stage:
        assert stage.run(CALLS["patch_user"]) is None


@pytest.mark.parametrize("body", [b"{}", b"<html></html>", b"done", b'{"id": "1", "userName": "a@b.c"}'])
def test_a_patch_that_is_answered_by_something_else_is_to_be_settled(body: bytes) -> None:
    with world(Says(200, body)) as stage:
        error = stage.fails(CALLS["patch_user"])
        assert isinstance(error, scim.UnexpectedReply)
        assert error.uncertain


def test_a_patch_without_anything_to_change_is_a_mistake_of_the_caller(enterprise: simulated.Keeper) -> None:
    with node(enterprise) as stage:
        for nothing in (lambda k: k.patch_user("1", {}), lambda k: k.patch_team("t", {})):
            with pytest.raises(ValueError, match="without anything"):
                stage.run(nothing)
        assert not stage.sent


def test_an_invited_user_is_gone_once_deactivated(enterprise: simulated.Keeper) -> None:
    id = enterprise.add_user("ada@example.com", state="invited")
    with node(enterprise) as stage:
        stage.run(lambda keeper: keeper.patch_user(id, {"active": False}))
        assert stage.run(lambda keeper: keeper.user(id)) is None
        assert isinstance(stage.fails(lambda keeper: keeper.patch_user(id, {"active": True})), scim.NotFound)


def test_a_new_address_is_sent_as_user_name_only(enterprise: simulated.Keeper) -> None:
    id = enterprise.add_user("ada@example.com")
    with node(enterprise) as stage:
        user = stage.run(lambda keeper: keeper.patch_user(id, {"userName": "ada.l@example.com"}))
    assert user
    assert user.attributes["userName"] == enterprise.account(id).email == "ada.l@example.com"


def test_an_id_cannot_lead_to_another_resource(enterprise: simulated.Keeper) -> None:
    team = enterprise.add_team("One")
    with node(enterprise) as stage:
        assert stage.run(lambda keeper: keeper.user(f"../Groups/{team}")) is None
        assert stage.sent == [("GET", f"/Users/..%2FGroups%2F{team}")]
        with pytest.raises(ValueError, match="path"):
            stage.run(lambda keeper: keeper.user(".."))


# Teams.


def test_a_team_is_queued_renamed_and_deleted(enterprise: simulated.Keeper) -> None:
    with node(enterprise) as stage:
        team = stage.run(lambda keeper: keeper.queue_team("Engineering", "g-1"))
        assert team.attributes == {"displayName": "Engineering", "externalId": "g-1"}
        assert not enterprise.teams()[team.id].approved
        renamed = stage.run(lambda keeper: keeper.patch_team(team.id, {"displayName": "Engineers"}))
        assert renamed == KeeperTeam(team.id, {"displayName": "Engineers", "externalId": "g-1"})
        assert stage.run(lambda keeper: keeper.team(team.id)) == renamed
        stage.run(lambda keeper: keeper.delete_team(team.id))
        assert not enterprise.teams()
        assert stage.run(lambda keeper: keeper.team(team.id)) is None
        stage.run(lambda keeper: keeper.delete_team(team.id))


def test_a_team_may_be_queued_with_200(enterprise: simulated.Keeper) -> None:
    enterprise.set_dialect(group_post_status=200)
    with node(enterprise) as stage:
        assert stage.run(lambda keeper: keeper.queue_team("Engineering", "g-1")).id in enterprise.teams()


# Listing.


def test_a_thousand_users_and_fifty_teams_in_three_requests_and_one_behind_each_end(
    enterprise: simulated.Keeper,
) -> None:
    teams = [enterprise.add_team(f"Team {n}", external_id=f"g{n}") for n in range(50)]
    users = [enterprise.add_user(f"u{n}@example.com", external_id=f"jc{n}", locked=n % 9 == 0) for n in range(1000)]
    for n, user in enumerate(users):
        enterprise.add_member(user, teams[n % 50])
        enterprise.add_member(user, teams[(n * 7 + 1) % 50])
    told: list[tuple[str, int, int]] = []
    with node(enterprise) as stage:
        found = stage.run(lambda keeper: keeper.listing(users, teams, lambda *args: told.append(args)))
        assert len(stage.sent) == 3 + 2
    assert found.users.keys() == set(users)
    assert found.teams.keys() == set(teams)
    assert not found.absent
    for account in enterprise.accounts().values():
        shown = found.users[account.id]
        assert (shown.attributes["userName"], shown.attributes["externalId"]) == (account.email, account.external_id)
        assert (shown.active, shown.teams) == (not account.locked, frozenset(account.teams))
    assert all(found.teams[team].members == frozenset(enterprise.members(team)) for team in teams)
    assert told == [("Keeper users", 500, 1000), ("Keeper users", 1000, 1000), ("Keeper teams", 50, 50)]


@pytest.mark.parametrize("count", [0, 1, 6, 7, 8, 13, 14, 15, 21, 22])
def test_no_page_boundary_loses_anybody(enterprise: simulated.Keeper, count: int) -> None:
    enterprise.set_dialect(page_cap=7)
    ids = {enterprise.add_user(f"u{n}@example.com") for n in range(count)}
    with node(enterprise) as stage:
        assert stage.run(listing).users.keys() == ids
        assert len([target for _, target in stage.sent if target.startswith("/Users")]) == -(-count // 7) + 1


@pytest.mark.parametrize("count", [500, 501])
def test_one_more_than_a_full_page_is_found(enterprise: simulated.Keeper, count: int) -> None:
    for n in range(count):
        enterprise.add_user(f"u{n}@example.com")
    with node(enterprise) as stage:
        assert len(stage.run(listing).users) == count


@pytest.mark.parametrize("sizes", [(3, 1, 2), (1, 4, 9, 2), (5, 5, 1)])
def test_pages_may_be_shorter_than_asked_and_of_any_length(sizes: tuple[int, ...]) -> None:
    everybody = people(40)

    def uneven(start: int, count: int) -> Any:
        return page(everybody[start - 1 :][: min(count, sizes[start % len(sizes)])], len(everybody))

    with world(Pages(uneven)) as stage:
        assert len(stage.run(listing).users) == 40


def test_an_announced_page_size_is_not_trusted() -> None:
    everybody = people(25)

    def echoing(start: int, count: int) -> Any:
        return {**page(everybody[start - 1 :][:10], 25), "itemsPerPage": count}

    with world(Pages(echoing)) as stage:
        assert len(stage.run(listing).users) == 25


def test_overlapping_pages_are_read_to_the_end_and_nobody_counts_twice() -> None:
    everybody = people(30)

    def overlapping(start: int, _: int) -> Any:
        return page(everybody[max(0, start - 2) :][:10], 30)

    with world(Pages(overlapping)) as stage:
        assert len(stage.run(listing).users) == 30


@pytest.mark.parametrize("hidden", [{5}, {12}, {1, 2}, {4, 10, 11}, {3, 4, 6, 7, 8, 10}])
@pytest.mark.parametrize("announced", ["places", "rows", "nothing"])
@pytest.mark.parametrize("cap", [500, 5])
def test_a_list_ends_though_users_whom_keeper_does_not_show_keep_their_places(
    hidden: set[int], announced: str, cap: int
) -> None:
    places = [None if n in hidden else one for n, one in enumerate(people(12), 1)]
    total = {"places": 12, "rows": 12 - len(hidden), "nothing": None}[announced]

    def sparse(start: int, count: int) -> Any:
        return {**page([one for one in places[start - 1 :][: min(count, cap)] if one], 0), "totalResults": total}

    with world(Pages(sparse)) as stage:
        assert len(stage.run(listing).users) == 12 - len(hidden)


def test_a_page_that_comes_again_since_the_list_has_grown_ends_no_list_without_a_total() -> None:
    """Somebody is put before the others when their page was read, so that the last of them come once more."""
    asked: list[int] = []

    def grows(start: int, count: int) -> Any:
        asked.append(start)
        rows = people(3) if len(asked) == 1 else [person(9), *people(3)]
        return {**page(rows[start - 1 :][:count], 0), "totalResults": None}

    with world(Pages(grows)) as stage:
        assert len(stage.run(listing).users) == 4


def test_a_list_that_changes_under_way_is_read_again() -> None:
    everybody = people(20)
    answers = iter([20, 19, 19, 20, 20, 20])

    def moving(start: int, _: int) -> Any:
        return page(everybody[start - 1 :][:10], next(answers))

    with world(Pages(moving)) as stage:
        assert len(stage.run(listing).users) == 20
        assert len([target for _, target in stage.sent if target.startswith("/Users")]) == 6


def test_whatever_a_reading_that_did_not_add_up_showed_is_asked_for_by_itself() -> None:
    class Forgetful:
        """Its lists show two of three with a total of three, then one, as if that were all. The third is nowhere."""

        def __init__(self) -> None:
            shown = [page([person(2), person(3)], 3), page([], 3), page([], 3), page([person(1)], 1), page([], 1)]
            self.pages = iter(shown)

        def handle(self, request: Request) -> Response:
            if "count" not in request.query:
                id = request.path.rpartition("/")[2]
                return Response.of_json(200, person(2)) if id == "2" else Response.of_json(404, {})
            if request.path != "/Users":
                return Response.of_json(200, page([], 0))
            return Response.of_json(200, next(self.pages))

    with world(Forgetful()) as stage:
        found = stage.run(listing)
    assert (set(found.users), set(found.absent)) == ({"1", "2"}, {"3"})


@pytest.mark.parametrize("total", [2, 4, 9])
def test_a_total_that_is_always_wrong_is_no_matter_where_the_list_stays_the_same(
    total: int, warnings: list[str]
) -> None:
    with world(Pages(lambda start, _: page(people(3)[start - 1 :], total))) as stage:
        assert stage.run(listing).users.keys() == {"1", "2", "3"}
        assert len([target for _, target in stage.sent if "startIndex=1&" in target and "/Users" in target]) == 2
    assert warnings == [f"Keeper announces {total} users and lists 3, twice the same: going on with these"]


class Shifting:
    """A list that is another each time it is read: number 9 is there only in the last reading, 8 only before."""

    def __init__(self) -> None:
        self.first_pages = 0

    def handle(self, request: Request) -> Response:
        number = request.path.rpartition("/")[2]
        if number.isdigit():
            return Response.of_json(200, person(9)) if number == "9" else Response.of_json(404, {})
        start = int(request.query["startIndex"][0])
        if request.path != "/Users":
            return Response.of_json(200, page([], 0))
        self.first_pages += start == 1
        known = [person(1), person(2), person(9 if self.first_pages == 3 else 8), person(10 + self.first_pages)]
        return Response.of_json(200, page(known[start - 1 :], 40 + self.first_pages))


def test_a_list_that_keeps_shifting_is_two_readings_taken_together(warnings: list[str]) -> None:
    with world(Shifting()) as stage:
        found = stage.run(listing)
        asked = {target for _, target in stage.sent if "?" not in target}
    assert asked == {"/Users/8", "/Users/9", "/Users/11", "/Users/12", "/Users/13"}
    assert found.users.keys() == {"1", "2", "9"}
    assert found.absent == {"8", "11", "12", "13"}
    assert warnings == ["Keeper's list of users changed in 3 readings: two are taken together"]


def test_readings_without_an_end_are_no_list() -> None:
    shown = iter(range(1, 100))
    with world(Pages(lambda *_: page([person(1 + next(shown) // 2)], 5))) as stage:
        error = stage.fails(listing)
    assert isinstance(error, scim.IncompleteRead)
    assert (error.name, error.uncertain, error.stops_apply) == ("incomplete_read", False, False)
    assert "announces 5 users and lists" in str(error)


def _counted(rows: list[Any], how: str) -> dict[str, Any]:
    total = {"page": len(rows), "none": None, "words": "many", "true": True, "negative": -1}[how]
    return {**page(rows, 0), "totalResults": total}


@pytest.mark.parametrize("how", ["page", "none", "words", "true", "negative"])
@pytest.mark.parametrize("count", [0, 1, 129, 130, 230, 260])
def test_a_total_of_the_page_or_none_cuts_no_list_short(how: str, count: int) -> None:
    def short(start: int, _: int) -> Any:
        return _counted(people(count)[start - 1 :][:130], how)

    with world(Pages(short)) as stage:
        assert len(stage.run(listing).users) == count
        asked = [target for _, target in stage.sent if target.startswith("/Users")]
    assert len(asked) == -(-count // 130) + 1


def test_what_is_not_on_the_first_of_two_cut_pages_is_not_absent() -> None:
    everybody = people(9)
    with world(Pages(lambda start, _: _counted(everybody[start - 1 :][:5], "page"))) as stage:
        found = stage.run(lambda keeper: keeper.listing({one["id"] for one in everybody}))
        assert not [target for _, target in stage.sent if "?" not in target]
    assert len(found.users) == 9 and not found.absent


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(lambda *_: page([], 5), id="announced but empty"),
        pytest.param(lambda *_: {"totalResults": 5}, id="announced but missing"),
        pytest.param(lambda *_: page(people(10), 20), id="startIndex is ignored"),
        pytest.param(lambda *_: page(people(10), 10), id="startIndex is ignored, and the total is the page's"),
        pytest.param(lambda *_: page([None], 1), id="startIndex is ignored, and nothing can be read"),
        pytest.param(lambda *_: page(people(1), 10**12), id="absurd total"),
    ],
)
def test_a_list_that_cannot_be_whole_has_failed(broken: Callable[[int, int], Any]) -> None:
    with world(Pages(broken)) as stage:
        assert isinstance(stage.fails(listing), scim.IncompleteRead)


def test_a_total_of_more_than_any_node_has_counts_as_none() -> None:
    everybody = people(1200)

    def absurd(start: int, count: int) -> Any:
        return page(everybody[start - 1 :][:count], 10**12)

    with world(Pages(absurd)) as stage:
        assert len(stage.run(listing).users) == 1200


def test_a_list_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scim, "MAX_LISTED", 100)

    def endless(start: int, _: int) -> Any:
        return page([person(start + n) for n in range(25)], start + 25)

    with world(Pages(endless)) as stage:
        assert "more than 100 users" in str(stage.fails(listing))
        assert len(stage.sent) == 6


@pytest.mark.parametrize(
    "reply", [{}, {"Resources": None}, {"Resources": {}, "totalResults": 1}, {"totalResults": "3 users"}]
)
def test_a_reply_without_rows_or_a_total_is_no_list(reply: Any) -> None:
    with world(Pages(lambda *_: reply)) as stage:
        error = stage.fails(listing)
    assert isinstance(error, scim.UnexpectedReply)
    assert "Resources" in str(error)


def test_a_list_whose_end_comes_again_is_told_as_that() -> None:
    with world(Pages(lambda *_: page(people(10), 10))) as stage:
        assert "behind the last of 10 users Keeper lists some of them again" in str(stage.fails(listing))


@pytest.mark.parametrize("status", [204, 400, 404, 416])
@pytest.mark.parametrize("cap", [3, 10_000])
def test_a_refused_page_behind_the_last_announced_row_is_the_end(
    enterprise: simulated.Keeper, status: int, cap: int
) -> None:
    """Keeper's own clients never ask behind the end, so that its answer is not known."""
    enterprise.set_dialect(page_cap=cap)
    for n in range(9):
        enterprise.add_user(f"u{n}@example.com")
    enterprise.add_team("Sales")
    with node(enterprise) as stage:
        stage.server.faults.add(faults.status(status), target=r"/Users\?startIndex=10&")
        stage.server.faults.add(faults.status(status), target=r"/Groups\?startIndex=2&")
        found = stage.run(listing)
    assert (len(found.users), len(found.teams)) == (9, 1)


def test_no_content_is_an_empty_list_where_the_endpoint_answers(enterprise: simulated.Keeper) -> None:
    enterprise.add_user("ada@example.com")
    with node(enterprise) as stage:
        stage.server.faults.add(faults.status(204), target="/Groups?")
        found = stage.run(listing)
        assert (len(found.users), len(found.teams)) == (1, 0)
        stage.server.faults.add(faults.status(204), target="/ServiceProviderConfig")
        error = stage.fails(listing)
    assert isinstance(error, scim.UnexpectedReply) and "Keeper's list of teams was not read" in str(error)


@pytest.mark.parametrize(("status", "kind"), [(204, scim.UnexpectedReply), (404, scim.Refused)])
@pytest.mark.parametrize("totals", ["page", "none"])
def test_a_refused_page_is_no_end_where_the_total_is_not_that_of_the_list(
    enterprise: simulated.Keeper, totals: str, status: int, kind: type[scim.KeeperError]
) -> None:
    enterprise.set_dialect(page_cap=4, totals=totals)
    for n in range(9):
        enterprise.add_user(f"u{n}@example.com")
    with node(enterprise) as stage:
        stage.server.faults.add(faults.status(status), target="startIndex=10")
        error = stage.fails(listing)
    assert isinstance(error, kind) and "SCIM method" not in str(error)
    assert "Correct" not in str(error), "nobody can correct a read"


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ({"values": {"active": False}}, set()),
        ({"values": {"displayName": "Ada"}}, set()),
        ({"values": {"active": True}, "add": ["t1"], "remove": ["t2"]}, {"same node"}),
        ({"values": {"userName": "ada@example.com"}}, {"domain reserved"}),
    ],
    ids=lambda one: " ".join(one["values"]) if isinstance(one, dict) else "",
)
def test_a_refusal_is_explained_by_what_was_sent(enterprise: simulated.Keeper, sent: Any, told: set[str]) -> None:
    id = enterprise.add_user("ada@example.com")
    with node(enterprise) as stage:
        stage.server.faults.add(faults.status(400), method="PATCH", target="/Users/")
        error = str(stage.fails(lambda keeper: keeper.patch_user(id, **sent)))
    assert {words for words in ("same node", "domain reserved", "185") if words in error} == told
    assert "it is tried again" in error and error.count("same node") <= 1


def test_a_page_that_fails_fails_the_list(enterprise: simulated.Keeper) -> None:
    enterprise.set_dialect(page_cap=2)
    for n in range(9):
        enterprise.add_user(f"u{n}@example.com")
    with node(enterprise) as stage:
        stage.server.faults.add(faults.status(400), target="startIndex=5")
        assert isinstance(stage.fails(listing), scim.Refused)


def test_who_is_known_and_not_listed_is_asked_for_one_by_one(enterprise: simulated.Keeper) -> None:
    team = enterprise.add_team("Shown")
    hidden_team = enterprise.add_team("Hidden", approved=False)
    enterprise.set_dialect(shows_queued_teams=False, gets_hidden_teams=True)
    shown, hidden = enterprise.add_user("a@example.com"), enterprise.add_user("b@example.com", locked=True)
    enterprise.add_member(hidden, team)
    with node(enterprise) as stage:
        stage.server.faults.add(faults.Rewrite(drop={hidden}, total=1), target=r"/Users\?")
        found = stage.run(lambda keeper: keeper.listing({shown, hidden, "404"}, [team, hidden_team, "gone"]))
        asked = {target for _, target in stage.sent if "?" not in target}
    assert asked == {f"/Users/{hidden}", "/Users/404", f"/Groups/{hidden_team}", "/Groups/gone"}
    assert found.users.keys() == {shown, hidden}
    assert found.teams.keys() == {team, hidden_team}
    assert found.absent == {"404", "gone"}
    assert not found.users[hidden].active
    assert found.users[hidden].teams == frozenset({team})


def test_an_empty_list_proves_nothing(enterprise: simulated.Keeper) -> None:
    known = {enterprise.add_user(f"u{n}@example.com") for n in range(30)}
    with node(enterprise) as stage:
        stage.server.faults.add(faults.Rewrite(keep=0, total=0), target=r"/Users\?")
        found = stage.run(lambda keeper: keeper.listing(known))
    assert found.users.keys() == known
    assert not found.absent


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500])
def test_a_single_read_that_fails_belongs_to_its_record(enterprise: simulated.Keeper, status: int) -> None:
    shown = enterprise.add_user("a@example.com")
    with node(enterprise) as stage:
        stage.server.faults.add(faults.status(status), target="/Users/7")
        stage.server.faults.add(faults.status(status), target="/Groups/t7")
        found = stage.run(lambda keeper: keeper.listing(["7", "8", shown], ["t7", "t8"]))
    assert (set(found.users), set(found.absent)) == ({shown}, {"8", "t8"})
    assert [(one.type, one.keeper_id, one.fields) for one in found.unread] == [("user", "7", ()), ("team", "t7", ())]
    assert all(f"{status}" in one.problem for one in found.unread)


def test_many_single_reads_that_fail_are_the_failure_of_the_list(enterprise: simulated.Keeper) -> None:
    with node(enterprise) as stage:
        stage.server.faults.add(faults.status(403), target="/Users/")
        assert len(stage.run(lambda keeper: keeper.listing([str(n) for n in range(10)])).unread) == 10
        assert isinstance(stage.fails(lambda keeper: keeper.listing([str(n) for n in range(11)])), scim.Forbidden)


@pytest.mark.parametrize("path", ["/Users/7", "/Users?"])
def test_a_token_that_is_refused_for_everything_belongs_to_no_record(enterprise: simulated.Keeper, path: str) -> None:
    with node(enterprise) as stage:
        stage.server.faults.add(faults.status(401), target=re.escape(path))
        stage.server.faults.add(faults.status(401), target="/ServiceProviderConfig")
        error = stage.fails(lambda keeper: keeper.listing(["7"]))
    assert isinstance(error, scim.BadToken)


def test_the_lock_that_a_stale_list_does_not_show_stands_where_the_record_is_not_answered() -> None:
    class Refuses(Behind):
        def handle(self, request: Request) -> Response:
            return Response.of_json(403, {}) if request.path == "/Users/1" else super().handle(request)

    with world(Refuses(people(3), [])) as stage:
        found = stage.run(lambda keeper: keeper.listing(["1", "2", "3"], locked=["1", "2"]))
    assert found.users.keys() == {"2", "3"} and not found.absent
    assert [(one.keeper_id, one.name) for one in found.unread] == [("1", "u1@example.com")]


def test_whose_record_is_denied_is_not_as_a_stale_list_shows_them_nor_gone() -> None:
    class Denies(Behind):
        def handle(self, request: Request) -> Response:
            return Response.of_json(404, {}) if request.path in ("/Users/1", "/Users/4") else super().handle(request)

    with world(Denies([*people(3), person(4, active=False)], [])) as stage:
        found = stage.run(lambda keeper: keeper.listing(["1", "2", "3"], locked=["1", "2"], active=["3", "4"]))
    assert found.users.keys() == {"2", "3"} and not found.absent
    assert sorted(one.keeper_id for one in found.unread) == ["1", "4"]


@pytest.mark.parametrize("gone", [404, 410])
def test_what_is_gone_is_absent_whichever_way_keeper_says_so(enterprise: simulated.Keeper, gone: int) -> None:
    enterprise.set_dialect(gone_status=gone, missing_status=gone)
    with node(enterprise) as stage:
        assert stage.run(lambda keeper: keeper.user("7")) is None
        assert stage.run(lambda keeper: keeper.team("t")) is None
        assert stage.run(lambda keeper: keeper.listing(["7"], ["t"])).absent == {"7", "t"}
        assert isinstance(stage.fails(lambda keeper: keeper.patch_user("7", {"active": False})), scim.NotFound)
        assert isinstance(stage.fails(lambda keeper: keeper.patch_team("t", {"displayName": "T"})), scim.NotFound)
        stage.run(lambda keeper: keeper.delete_team("t"))


class Lists:
    """A service with these users and groups on one page each, and an empty page behind it."""

    def __init__(self, users: list[Any], groups: list[Any]) -> None:
        self.lists = {"/Users": users, "/Groups": groups}

    def handle(self, request: Request) -> Response:
        rows, start = self.lists[request.path], int(request.query["startIndex"][0])
        return Response.of_json(200, page(rows[start - 1 :], len(rows)))


class Behind(Lists):
    """A service whose list is older than the records of each user: the first was locked meanwhile."""

    def handle(self, request: Request) -> Response:
        number = request.path.rpartition("/")[2]
        return (
            Response.of_json(200, person(int(number), active=number != "1"))
            if number.isdigit()
            else super().handle(request)
        )


def test_a_list_alone_does_not_prove_that_somebody_was_unlocked() -> None:
    with world(Behind([*people(3), person(4, active=False)], [])) as stage:
        found = stage.run(lambda keeper: keeper.listing(locked=["1", "2", "4", "5"]))
        assert {target for _, target in stage.sent if "?" not in target} == {"/Users/1", "/Users/2"}
    assert {id for id, user in found.users.items() if user.active} == {"2", "3"}


def test_a_membership_counts_whichever_side_shows_it() -> None:
    users = [person(1, groups=[{"value": "t1"}, {"value": "elsewhere"}]), person(2), person(3, groups=None)]
    groups = [
        {"id": "t1", "displayName": "One", "members": [{"value": "2"}, {"value": 99, "type": "User"}]},
        {"id": "t2"},
    ]
    with world(Lists(users, groups)) as stage:
        found = stage.run(listing)
    assert {id: set(user.teams or ()) for id, user in found.users.items()} == {
        "1": {"t1", "elsewhere"},
        "2": {"t1"},
        "3": set(),
    }
    assert {id: set(team.members or ()) for id, team in found.teams.items()} == {"t1": {"1", "2", "99"}, "t2": set()}
    assert found.teams["t2"].attributes == {"displayName": "", "externalId": ""}


@pytest.mark.parametrize(
    ("changes", "active", "shown"),
    [
        ({}, True, {}),
        ({"active": "False"}, False, {}),
        ({"active": "true"}, True, {}),
        ({"id": 17, "meta": {"resourceType": "User"}, "unknown": [1], "schemas": "?"}, True, {}),
        ({"displayName": None, "name": None, "emails": None, "groups": None, "externalId": None}, True, {}),
        ({"name": {"givenName": None, "formatted": "x"}}, True, {}),
        ({"displayName": " Zoe\u0308 ", "userName": " U17@Example.com "}, True,
         {"displayName": "Zo\u00eb", "userName": "U17@Example.com"}),
    ],
)  # fmt: skip
def test_what_keeper_may_leave_out_or_add_is_no_error(changes: Any, active: bool, shown: Any) -> None:
    with world(Lists([person(17, **changes)], [])) as stage:
        found = stage.run(listing)
    attributes = {**dict.fromkeys(USER_ATTRIBUTES, ""), "userName": "u17@example.com", **shown}
    assert found.users == {"17": KeeperUser("17", attributes, active)}


@pytest.mark.parametrize(
    ("changes", "unreadable"),
    [
        ({"active": None}, ("active",)),
        ({"active": "perhaps"}, ("active",)),
        ({"active": 1}, ("active",)),
        ({"active": []}, ("active",)),
        ({"userName": " "}, ("userName",)),
        ({"userName": None}, ("userName",)),
        ({"userName": 7}, ("userName",)),
        ({"groups": [{"value": None}]}, ("groups",)),
        ({"groups": ["t1"]}, ("groups",)),
        ({"groups": "t1"}, ("groups",)),
        ({"displayName": 5}, ("displayName",)),
        ({"externalId": 5}, ("externalId",)),
        ({"name": "Ada"}, ("name", "name.givenName", "name.familyName")),
        ({"name": {"givenName": 5}}, ("name.givenName",)),
        ({"active": None, "groups": 1}, ("active", "groups")),
    ],
)
def test_a_field_that_cannot_be_read_is_unknown_and_spoils_nothing_else(changes: Any, unreadable: Any) -> None:
    with world(Lists([person(1), person(2, **changes), person(3)], [])) as stage:
        found = stage.run(listing)
    assert found.users.keys() == {"1", "2", "3"}
    odd = found.users["2"]
    assert odd.unreadable == unreadable
    assert odd.active is (None if "active" in unreadable else True)
    assert odd.teams == (None if "groups" in unreadable else frozenset())
    assert all(odd.attributes[name] == "" for name in unreadable if name in odd.attributes)
    assert not found.users["1"].unreadable and not found.unread


def _lower(value: Any) -> Any:
    """The same JSON with all names in lower case."""
    if isinstance(value, dict):
        return {name.lower(): _lower(one) for name, one in value.items()}
    return [_lower(one) for one in value] if isinstance(value, list) else value


class LowerCase(Lists):
    """A service that spells all names in lower case, as RFC 7643 section 2.1 lets it."""

    def handle(self, request: Request) -> Response:
        return Response.of_json(200, _lower(json.loads(super().handle(request).body)))


def test_the_case_of_names_does_not_matter() -> None:
    names = {
        "name": {"givenName": "Zoë", "familyName": "Ada"},
        "externalId": "x",
        "emails": [{"value": "z@example.com"}],
    }
    users = [person(1, userName="", groups=[{"value": "t1"}], **names), person(2, active=False)]
    teams = [{"id": "t1", "displayName": "Legal", "members": [{"value": "1"}], "externalId": "y"}]
    with world(Lists(users, teams)) as stage, world(LowerCase(users, teams)) as other:
        found = other.run(listing)
        assert found == stage.run(listing)
        assert found.users["1"].attributes["userName"] == "z@example.com" and found.users["1"].teams == frozenset(
            {"t1"}
        )


class Twice(Lists):
    """A service that lists a user and a team twice, not the same each time; `alone` is the status of their records."""

    def __init__(self, alone: int) -> None:
        users = [person(1), person(2), person(2, userName="u7@example.com"), person(3), person(3)]
        teams = [{"id": "t1", "displayName": name} for name in ("Sales", "Vault")]
        super().__init__(users, teams)
        self.alone = alone

    def handle(self, request: Request) -> Response:
        alone = {"/Users/2": person(2), "/Groups/t1": {"id": "t1", "displayName": "Vault"}}.get(request.path)
        return Response.of_json(self.alone, alone) if alone else super().handle(request)


@pytest.mark.parametrize("alone", [200, 403, 404, 500])
@pytest.mark.parametrize("known", [("2", "t1"), ()])
def test_of_rows_of_one_id_that_differ_none_is_believed(alone: int, known: tuple[str, ...]) -> None:
    with world(Twice(alone)) as stage:
        found = stage.run(lambda keeper: keeper.listing(known[:1], known[1:]))
    assert found.users["1"].attributes["userName"] == "u1@example.com" and "3" in found.users
    assert not found.absent
    if alone == 200:
        assert found.users["2"].attributes["userName"] == "u2@example.com"
        assert found.teams["t1"].attributes["displayName"] == "Vault" and not found.unread
    else:
        assert found.users.keys() == {"1", "3"} and not found.teams
        assert [(one.type, one.keeper_id) for one in found.unread] == [("user", "2"), ("team", "t1")]


@pytest.mark.parametrize("count", [10, 11])
def test_many_rows_that_differ_are_no_list(count: int) -> None:
    rows = [row for number in range(count) for row in (person(number), person(number, active=False))]

    class Differing(Lists):
        def handle(self, request: Request) -> Response:
            number = request.path.rpartition("/")[2]
            return Response.of_json(200, person(int(number))) if number.isdigit() else super().handle(request)

    with world(Differing(rows, [])) as stage:
        if count > 10:
            assert "11 of 11 users cannot be read" in str(stage.fails(listing))
        else:
            assert all(one.active for one in stage.run(listing).users.values())


@pytest.mark.parametrize("field", ["userName", "externalId", "displayName", "active", "groups", "name", "title"])
@pytest.mark.parametrize("literal", [b"NaN", b"9" * 5000, b'"u2\xff@example.com"', b'[{"value": "t1\x01"}]'])
def test_a_value_that_no_json_has_is_odd_in_its_own_field_only(field: str, literal: bytes) -> None:
    document = page([person(1), person(2, **{field: "here"}), person(3)], 3)

    class Literally(Lists):
        def handle(self, request: Request) -> Response:
            answer = super().handle(request)
            return replace(answer, body=answer.body.replace(b'"here"', literal))

    with world(Literally(document["Resources"], [])) as stage:
        found = stage.run(listing)
    assert {one for one, user in found.users.items() if user.unreadable} == ({"2"} if field != "title" else set())
    assert field == "title" or field in found.users["2"].unreadable
    assert {"1", "3"} < found.users.keys()


def test_a_user_without_a_state_is_neither_locked_nor_not() -> None:
    with world(Lists([{"id": "2", "userName": "u2@example.com"}], [])) as stage:
        assert stage.run(listing).users["2"].active is None


@pytest.mark.parametrize("id", [None, "", "../1", "..", "9" * 129, True, "1\n", 1.5])
def test_a_row_without_a_usable_id_is_skipped_and_told(id: Any) -> None:
    with world(Lists([person(1), person(2, id=id, externalId="jc-2")], [])) as stage:
        found = stage.run(listing)
    assert found.users.keys() == {"1"}
    (told,) = found.unread
    assert (told.type, told.name, told.external_id, told.fields) == ("user", "u2@example.com", "jc-2", ("id",))


@pytest.mark.parametrize(
    ("group", "unreadable"),
    [
        ({"id": "t", "members": [{}]}, ("members",)),
        ({"id": "t", "members": "1"}, ("members",)),
        ({"id": "t", "displayName": 5}, ("displayName",)),
        ({"id": "t", "externalId": {}}, ("externalId",)),
    ],
)
def test_a_field_of_a_team_that_cannot_be_read_is_unknown(group: Any, unreadable: Any) -> None:
    with world(Lists([person(1, groups=[{"value": "t"}])], [{"id": "t1"}, group])) as stage:
        found = stage.run(listing)
    assert found.teams["t"].unreadable == unreadable
    assert found.teams["t"].members == (None if "members" in unreadable else frozenset({"1"}))


@pytest.mark.parametrize("group", [{}, {"id": "a b"}, "t", None])
def test_a_team_without_a_usable_id_is_skipped_and_told(group: Any) -> None:
    with world(Lists([], [{"id": "t1"}, group])) as stage:
        found = stage.run(listing)
    assert found.teams.keys() == {"t1"}
    assert [(one.type, one.name, one.fields) for one in found.unread] == [
        ("team", "team without a readable id 1", ("id",))
    ]


@pytest.mark.parametrize(
    ("count", "odd", "whole"), [(20, 10, True), (20, 11, False), (300, 15, True), (300, 16, False)]
)
def test_a_list_with_too_many_unreadable_rows_is_unreadable(count: int, odd: int, whole: bool) -> None:
    rows = [person(n, active=None) if n <= odd else person(n) for n in range(1, count + 1)]
    with world(Lists(rows, [])) as stage:
        if whole:
            assert len(stage.run(listing).users) == count
        else:
            error = stage.fails(listing)
            assert isinstance(error, scim.IncompleteRead)
            assert f"{odd} of {count} users cannot be read, among others active of the user with the id 1" in str(error)


def test_a_point_read_knows_what_it_can_read() -> None:
    with world(Says(200, {"id": "1", "userName": "u1@example.com", "active": "maybe"})) as stage:
        found = stage.run(lambda keeper: keeper.user("1"))
    assert found is not None and found.active is None and found.unreadable == ("active",)


def test_values_of_an_unreadable_user_are_not_repeated() -> None:
    secret = json.dumps({"password": "hunter2"})
    with world(Lists([person(n, displayName=[secret]) for n in range(20)], [])) as stage:
        assert "hunter2" not in str(stage.fails(listing))
