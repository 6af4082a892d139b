"""The scope reader, against the simulator on loopback."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from http.client import HTTPConnection
from typing import Any, TypeVar

import pytest
from pydantic import SecretStr

from reconciler import jumpcloud as jc
from reconciler import jumpcloud_lists
from reconciler.confirm import why_not_lock
from reconciler.http import Http, Limits, Pace
from reconciler.http_replies import Odd
from reconciler.jumpcloud_replies import ApplicationRow, GraphRow, GroupRow, TokenReply, UserRow, parsed
from reconciler.model import HIDDEN, Application, Directory, Status
from reconciler.plan import Rule, Subject
from reconciler.simulator.faults import Answer, Handler, InvalidJson, Rewrite, rewrite_rows, status
from reconciler.simulator.jumpcloud import JumpCloud as Simulator
from reconciler.simulator.jumpcloud_v1 import PRIVATE_KEY
from reconciler.simulator.sample import API_KEY, organisation
from reconciler.simulator.server import Server
from reconciler.simulator.service import Request, Response

T = TypeVar("T")

USERS_IN_SCOPE = r"/api/v2/applications/[0-9a-f]+/users\?"
GROUPS_IN_SCOPE = r"/api/v2/applications/[0-9a-f]+/usergroups\?"
GROUPS = r"/api/v2/usergroups\?"
USERS = r"/api/systemusers\?"
SEARCH = r"/api/search/systemusers"
NOBODY = "f" * 24


@contextmanager
def served(simulator: Simulator, **reading: Any) -> Iterator[Server]:
    """The simulator on loopback, under another reading of what the documentation leaves open."""
    simulator.assumptions = replace(simulator.assumptions, **reading)
    with Server(simulator) as server:
        yield server
        # A connection that the client gave up at once is still to be accepted: wait behind it, then stop the server.
        last = HTTPConnection(server.url.removeprefix("http://"))
        last.request("GET", "/")
        last.getresponse().read()
        last.close()


def client_of(server: Server, headers: Any) -> Http:
    return Http(
        service="JumpCloud",
        base_url=server.url,
        headers=headers,
        pace=Pace(5, 10),
        in_flight=4,
        limits=Limits(attempts=1),
    )


def key(text: str = API_KEY, organization: str | None = None) -> Any:
    return jc.key_headers(SecretStr(text), organization)


def ask(
    server: Server, work: Callable[[jc.JumpCloud], Awaitable[T]], application: str = "Keeper", headers: Any = None
) -> T:
    async def session() -> T:
        async with client_of(server, headers or key()) as http:
            return await work(jc.JumpCloud(http, application))

    return asyncio.run(session())


async def whole(client: jc.JumpCloud, also: tuple[str, ...] = ()) -> Directory:
    return await client.read_directory(await client.read_scope(None), also, None)


def made(users: int = 230, groups: int = 12) -> tuple[Simulator, str]:
    """A believable organisation, most of it in scope; the id of the application."""
    simulator = Simulator()
    simulator.load(organisation(users, groups))
    applications = simulator.organization().applications.values()
    return simulator, next(one.id for one in applications if one.displayLabel == "Keeper")


def small(inside: int, outside: int = 0, groups: int = 1) -> tuple[Simulator, str]:
    """So many people in the first of so many groups in scope, and so many who are not in scope."""
    simulator = Simulator()
    simulator.add_api_key(API_KEY)
    application = simulator.add_application("Keeper")
    teams = [simulator.add_group(f"Team {number}") for number in range(groups)]
    for team in teams:
        simulator.bind_group(application, team)
    for number in range(inside + outside):
        one = simulator.add_user(f"user{number}@example.com")
        if number < inside:
            simulator.add_member(teams[0], one)
    return simulator, application


def requests(server: Server, target: str = "") -> list[str]:
    return [one.target for one in server.requests if target in one.target]


def agrees(directory: Directory, simulator: Simulator, application: str) -> None:
    """The directory is what the simulator holds."""
    everybody = simulator.organization().users
    truth = {user: groups for user, groups in simulator.in_scope(application).items() if user in everybody}
    assert {u.id: set(u.groups) for u in directory.users.values() if u.bound} == truth
    assert {g.id: g.name for g in directory.groups.values()} == simulator.groups_in_scope(application)
    for user in directory.users.values():
        held = simulator.user(user.id)
        assert user.email == held.email
        assert (user.given_name, user.family_name) == (held.firstname or "", held.lastname or "")
        assert (user.status is Status.SUSPENDED) == held.suspended


@dataclass(frozen=True)
class Edit:
    """A fault that changes the rows of a list."""

    change: Callable[[list[Any]], list[Any]]
    total: int | None = None

    def run(self, handle: Handler, request: Request) -> Answer:
        answer = handle(request)
        return rewrite_rows(answer, self.change, self.total) if isinstance(answer, Response) else answer


@dataclass(frozen=True)
class Behind:
    """A search whose index lacks these users, with totals that are true of it."""

    lacks: frozenset[str]

    def run(self, handle: Handler, request: Request) -> Answer:
        answer = handle(request)
        assert isinstance(answer, Response)
        rows = [row for row in json.loads(answer.body)["results"] if row["_id"] not in self.lacks]
        return Response.of_json(answer.status, {"totalCount": len(rows), "results": rows})


@dataclass(frozen=True)
class Headers:
    """A fault that changes headers of an answer."""

    change: dict[str, str]

    def run(self, handle: Handler, request: Request) -> Answer:
        answer = handle(request)
        assert isinstance(answer, Response)
        return replace(answer, headers={**answer.headers, **self.change})


@dataclass(frozen=True)
class After:
    """A fault that has an effect elsewhere once the request was answered."""

    effect: Callable[[], object]

    def run(self, handle: Handler, request: Request) -> Answer:
        answer = handle(request)
        self.effect()
        return answer


# -- the whole directory ----------------------------------------------------------------------------------------------


READINGS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "no total": {"total_count_header": False},
    "no organisation": {"application_organization": False},
    "state absent": {"user_state": False},
    "unset is null": {"unset": "null"},
    "unset is absent": {"unset": "absent"},
    "both ids": {"alias_beside_fields": True},
    "unknown parameters ignored": {"unknown_parameters": "ignored"},
}


@pytest.mark.parametrize("reading", READINGS)
def test_the_directory_is_what_jumpcloud_holds(reading: str) -> None:
    simulator, application = made()
    with served(simulator, **READINGS[reading]) as server:
        agrees(ask(server, whole), simulator, application)


@pytest.mark.parametrize("users", [1, 99, 100, 101, 200, 201])
@pytest.mark.parametrize("total", [True, False])
def test_pages_end_where_the_list_ends(users: int, total: bool) -> None:
    simulator, application = small(users)
    with served(simulator, total_count_header=total) as server:
        agrees(ask(server, whole), simulator, application)


@pytest.mark.parametrize("left_behind", ["gone", "counted", "uncounted", "null"])
@pytest.mark.parametrize("total", [True, False])
def test_what_deleted_users_leave_in_the_graph_costs_nobody_the_scope(left_behind: str, total: bool) -> None:
    simulator, application = small(230)
    with served(simulator, dead_entries=left_behind, total_count_header=total) as server:
        for one in sorted(simulator.in_scope(application))[::20]:
            simulator.delete_user(one)
        agrees(ask(server, whole), simulator, application)


def test_the_number_of_requests_depends_on_the_number_of_people_only() -> None:
    for groups in (5, 50):
        simulator, application = small(995, groups=groups)
        with served(simulator) as server:
            agrees(ask(server, whole), simulator, application)
            # The empty page at the end of each list proves that it ends there; the names of groups need no end.
            assert len(requests(server)) == 27, requests(server)
            assert len(requests(server, f"/api/v2/applications/{application}/users?")) == 11
            assert len(requests(server, "/api/systemusers?")) == 11


def test_the_signing_key_of_the_application_is_never_asked_for() -> None:
    simulator, application = made()
    seen: list[bytes] = []

    @dataclass(frozen=True)
    class Record:
        def run(self, handle: Handler, request: Request) -> Answer:
            answer = handle(request)
            assert isinstance(answer, Response)
            seen.append(answer.body)
            return answer

    with served(simulator, unknown_parameters="ignored") as server:
        server.faults.add(Record())
        ask(server, whole)
        ask(server, whole, application)
    assert seen
    assert not any(json.dumps(PRIVATE_KEY).encode() in body or b"config" in body for body in seen)


def test_progress_ends_at_the_total() -> None:
    simulator, _ = small(230)
    told: list[tuple[str, int, int]] = []

    async def work(client: jc.JumpCloud) -> None:
        scope = await client.read_scope(lambda *step: told.append(step))
        await client.read_directory(scope, (), lambda *step: told.append(step))

    with served(simulator) as server:
        ask(server, work)
    last = {what: (done, total) for what, done, total in told}
    assert last == {"users in scope": (230, 230), "users": (230, 230)}


# -- people -----------------------------------------------------------------------------------------------------------


STATES: dict[tuple[Any, Any], Status] = {
    ("ACTIVATED", False): Status.ACTIVE,
    ("SUSPENDED", True): Status.SUSPENDED,
    ("SUSPENDED", False): Status.SUSPENDED,
    ("ACTIVATED", True): Status.SUSPENDED,
    ("STAGED", False): Status.STAGED,
    ("STAGED", True): Status.SUSPENDED,
    ("ARCHIVED", False): Status.UNKNOWN,
    (None, False): Status.ACTIVE,
    (None, True): Status.SUSPENDED,
    ("", False): Status.ACTIVE,
    (None, None): Status.UNKNOWN,
    ("ACTIVATED", None): Status.ACTIVE,
    (5, False): Status.UNKNOWN,
    ("ACTIVATED", 7): Status.UNKNOWN,
    (5, True): Status.SUSPENDED,
    ("SUSPENDED", "perhaps"): Status.SUSPENDED,
    ("Suspended", None): Status.SUSPENDED,
    ("activated", False): Status.ACTIVE,
    ("Staged", None): Status.STAGED,
}


def test_what_a_state_means() -> None:
    simulator, application = small(len(STATES))
    by_email = {f"user{number}@example.com": state for number, state in enumerate(STATES)}

    def change(rows: list[Any]) -> list[Any]:
        return [dict(row, **dict(zip(("state", "suspended"), by_email[row["email"]], strict=True))) for row in rows]

    with served(simulator) as server:
        server.faults.add(Edit(change), target=USERS)
        found = ask(server, whole)
    assert {by_email[user.email]: user.status for user in found.users.values()} == STATES
    assert all(user.bound for user in found.users.values())
    assert {user.status for user in found.users.values() if user.in_scope} == {Status.ACTIVE}
    assert set(found.users) == set(simulator.in_scope(application))


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ("Ada@Example.com", "Ada@Example.com"),
        ("  ada@example.com \n", "ada@example.com"),
        # NFC would make other addresses of these.
        ("ame\u0301lie@example.com", "ame\u0301lie@example.com"),
        ("mar\u212a@example.com", "mar\u212a@example.com"),
        ("", ""),
        ("ada", ""),
        ("ada@", ""),
        ("@example.com", ""),
        ("a@b@example.com", ""),
        ("a da@example.com", ""),
        ("ada\x00@example.com", ""),
        ("ada\x1b[2J@example.com", ""),
        ("ada\u200b@example.com", ""),
        ("ada\u202e@example.com", ""),
        ("ada\ud800@example.com", ""),
    ],
)
def test_an_address_that_cannot_be_one_counts_as_none(held: str, expected: str) -> None:
    simulator, application = small(1)
    [one] = simulator.in_scope(application)
    simulator.update_user(one, email=held, firstname=" Ame\u0301lie\x1b[2J ", displayname="x" * 1024)
    with served(simulator) as server:
        user = ask(server, whole).users[one]
    assert user.email == expected
    assert user.given_name == "Am\u00e9lie\x1b[2J"
    assert user.display_name == "x" * 1024


def test_people_asked_for_by_id_are_looked_up_and_the_deleted_left_out() -> None:
    simulator, application = made()
    inside = sorted(simulator.in_scope(application))
    outside = min(set(simulator.organization().users) - set(inside))
    with served(simulator, graph_lag=1e9) as server:
        simulator.settle_graph()
        simulator.delete_user(inside[0])
        found = ask(server, lambda client: whole(client, (outside, inside[0], NOBODY, "no id", "F" * 24)))
        # The graph still binds whoever was deleted: that they are gone is said only once it does not.
        assert found.users[inside[0]].status is Status.UNKNOWN
        assert not found.users[outside].bound
        assert set(found.users) == {outside, *inside}
        simulator.settle_graph()
        assert inside[0] not in ask(server, lambda client: whole(client, (inside[0],))).users


def test_somebody_whom_the_list_of_users_lost_is_asked_for_once_more() -> None:
    simulator, application = small(250)
    one = max(simulator.in_scope(application))
    with served(simulator) as server:
        # As if the row had shifted to a page that was read before, and another had come in its place.
        shifted = Edit(lambda rows: [row | {"_id": NOBODY} if row["_id"] == one else row for row in rows])
        server.faults.add(shifted, target="systemusers")
        assert ask(server, whole).users[one].in_scope
        server.faults.add(status(404), target=f"systemusers/{one}")
        assert ask(server, whole).users[one].status is Status.UNKNOWN
        server.faults.clear()
        server.faults.add(shifted, target=USERS)
        assert ask(server, whole).users[one].in_scope


NO_LIST: dict[str, Any] = {
    "empty": Rewrite(keep=0, total=0),
    "refused": status(403),
    "unavailable": status(503),
    "no JSON": InvalidJson(),
}


@pytest.mark.parametrize("way", NO_LIST)
def test_without_the_list_of_users_they_are_searched_for(way: str) -> None:
    simulator, application = small(150)
    with served(simulator) as server:
        server.faults.add(NO_LIST[way], target=USERS)
        agrees(ask(server, whole), simulator, application)


@pytest.mark.parametrize("way", NO_LIST)
def test_without_the_list_and_the_search_no_state_is_known(way: str) -> None:
    simulator, application = small(5, 1)
    inside = set(simulator.in_scope(application))
    outside = min(set(simulator.organization().users) - inside)
    with served(simulator) as server:
        server.faults.add(NO_LIST[way], target=USERS)
        server.faults.add(status(503), target=SEARCH)
        found = ask(server, lambda client: whole(client, (outside,)))
    assert {user.id: user.status for user in found.users.values()} == dict.fromkeys({*inside, outside}, Status.UNKNOWN)
    assert [(one.type, one.id, one.field) for one in found.quarantined] == [("list", "users", "list")]


def test_without_the_list_of_users_somebody_is_deleted_only_by_a_search_with_a_witness() -> None:
    simulator, application = small(150)
    gone = max(simulator.in_scope(application))
    simulator.delete_user(gone)
    with served(simulator) as server:
        server.faults.add(status(503), target=USERS)
        assert gone not in ask(server, lambda client: whole(client, (gone,))).users
        server.faults.add(Rewrite(keep=0, total=0), target=SEARCH, skip=2)
        assert ask(server, lambda client: whole(client, (gone,))).users[gone].status is Status.UNKNOWN


# -- the cheaper way to the attributes --------------------------------------------------------------------------------


def test_few_people_of_many_are_searched_for_by_their_ids() -> None:
    simulator, application = small(150, 500)
    with served(simulator) as server:
        agrees(ask(server, whole), simulator, application)
        assert len(requests(server, "/api/systemusers?")) == 1
        assert len(requests(server, "/api/search/systemusers")) == 2


def test_whoever_is_on_the_first_page_needs_no_further_request() -> None:
    simulator, application = small(0, 500)
    first = min(simulator.organization().users)
    simulator.bind_user(application, first)
    with served(simulator) as server:
        assert ask(server, whole).users[first].direct
        assert len(requests(server, "users?") + requests(server, "/search/")) == 3


def test_a_search_that_lacks_somebody_is_repeated_for_them_alone() -> None:
    simulator, application = small(150, 500)
    one = max(simulator.in_scope(application))
    with served(simulator, graph_lag=1e9) as server:
        simulator.settle_graph()
        simulator.delete_user(one)
        found = ask(server, whole).users
        assert {user.id for user in found.values() if user.in_scope} == set(simulator.in_scope(application)) - {one}
        assert found[one].status is Status.UNKNOWN
        assert len(requests(server, "/api/systemusers?")) == 1
        # Two searches, the second to its end, and once more for the missing one, to its end.
        assert len(requests(server, "/api/search/systemusers")) == 5


UNDERSTOOD_OTHERWISE: dict[str, Any] = {
    "400": status(400, b'{"message":"Bad Request"}'),
    "404": status(404),
    "finds nobody": Rewrite(keep=0, total=0),
    "finds only some": Edit(lambda rows: rows[1::2], total=10),
    "finds fewer than it says": Edit(lambda rows: [row for row in rows if row["_id"] < "8"], total=1000),
    "finds others": Edit(lambda rows: [*rows[1:], rows[0] | {"_id": NOBODY}]),
}


@pytest.mark.parametrize("way", UNDERSTOOD_OTHERWISE)
def test_a_search_that_is_not_what_it_should_be_gives_way_to_the_whole_list(way: str) -> None:
    simulator, application = small(150, 500)
    with served(simulator) as server:
        server.faults.add(UNDERSTOOD_OTHERWISE[way], target=SEARCH)
        agrees(ask(server, whole), simulator, application)
        assert len(requests(server, "/api/systemusers?")) > 1


def test_a_search_that_is_behind_for_many_gives_way_to_the_whole_list() -> None:
    """For more people than are read one by one."""
    simulator, application = small(150, 500)
    behind = frozenset(sorted(simulator.in_scope(application))[-jc.ALONE - 1 :])
    with served(simulator) as server:
        server.faults.add(Behind(behind), target=SEARCH)
        agrees(ask(server, whole), simulator, application)


@pytest.mark.parametrize("paging", ["body", "query", "both"])
def test_a_search_is_paged_wherever_paging_is_read(paging: str) -> None:
    simulator, application = small(150, 500)
    with served(simulator, search_paging=paging) as server:
        agrees(ask(server, whole), simulator, application)
        assert len(requests(server, "/api/systemusers?")) == 1


# -- lists that do not add up -----------------------------------------------------------------------------------------


def test_a_short_page_is_not_the_end() -> None:
    simulator, application = small(250)
    with served(simulator, total_count_header=False) as server:
        server.faults.add(Edit(lambda rows: rows[:40]), target=USERS_IN_SCOPE + ".*skip=0", times=1)
        agrees(ask(server, whole), simulator, application)


def test_a_reading_that_lacks_rows_is_repeated() -> None:
    simulator, application = small(250)
    with served(simulator) as server:
        server.faults.add(Edit(lambda rows: rows[:-1]), target=USERS_IN_SCOPE, times=1)
        agrees(ask(server, whole), simulator, application)


def test_rows_that_come_twice_are_one_and_make_an_unannounced_list_be_read_again() -> None:
    simulator, application = small(150)
    with served(simulator, total_count_header=False) as server:
        server.faults.add(Edit(lambda rows: [*rows[1:], rows[-1]]), target=USERS_IN_SCOPE, times=1)
        agrees(ask(server, whole), simulator, application)


def test_two_readings_that_agree_are_taken_though_the_total_says_more() -> None:
    simulator, application = small(150)
    with served(simulator) as server:
        server.faults.add(Edit(lambda rows: rows, total=153), target=USERS_IN_SCOPE)
        agrees(ask(server, whole), simulator, application)


@pytest.mark.parametrize("target", [USERS_IN_SCOPE, GROUPS_IN_SCOPE, GROUPS, USERS])
def test_of_a_list_of_which_no_two_readings_agree_two_are_taken_together(target: str) -> None:
    simulator, application = small(250, groups=8)
    with served(simulator) as server:
        serial = iter(range(10**6))

        def lose_one(rows: list[Any]) -> list[Any]:
            gone = next(serial) % len(rows) if rows else 0
            return rows[:gone] + rows[gone + 1 :]

        server.faults.add(Edit(lose_one), target=target)
        found = ask(server, whole)
    assert {user.id for user in found.users.values() if user.bound} == set(simulator.in_scope(application))
    unsure = {user.id for user in found.users.values() if user.unsure}
    assert all(user.in_scope for user in found.users.values() if user.id not in unsure)
    assert {one.id for one in found.quarantined if one.field == "scope"} == unsure
    assert set(simulator.groups_in_scope(application)) == {*found.groups, *found.unclear_groups}
    assert (len(unsure) > 0) == (target == USERS_IN_SCOPE)


def test_a_total_that_changes_while_reading_makes_the_list_be_read_again() -> None:
    simulator, application = small(250)
    with served(simulator) as server:
        server.faults.add(Edit(lambda rows: rows, total=251), target=USERS_IN_SCOPE + ".*skip=200", times=1)
        agrees(ask(server, whole), simulator, application)
        assert len(requests(server, f"/api/v2/applications/{application}/users?")) == 8


def test_a_total_that_is_too_small_loses_nobody() -> None:
    simulator, application = small(250)
    with served(simulator) as server:
        server.faults.add(Edit(lambda rows: rows, total=100), target=USERS_IN_SCOPE)
        agrees(ask(server, whole), simulator, application)


@pytest.mark.parametrize("total", [True, False])
def test_pages_of_fewer_rows_than_asked_for_lose_nobody(total: bool) -> None:
    simulator, application = small(250, groups=8)
    with served(simulator, total_count_header=total) as server:
        server.faults.add(Edit(lambda rows: rows[:50]), target=r"\?")
        server.faults.add(Edit(lambda rows: rows[:3]), target="usergroups")
        agrees(ask(server, whole), simulator, application)


@pytest.mark.parametrize("users", [1, 50, 99, 100, 101, 230])
@pytest.mark.parametrize("cap", [30, 100])
def test_a_total_that_counts_the_page_is_no_end(users: int, cap: int) -> None:
    simulator, application = small(users, 40)

    @dataclass(frozen=True)
    class CountsThePage:
        def run(self, handle: Handler, request: Request) -> Answer:
            answer = handle(request)
            assert isinstance(answer, Response)
            rows = json.loads(answer.body)
            found = rows["results"] if isinstance(rows, dict) else rows
            return rewrite_rows(answer, lambda rows: rows[:cap], min(cap, len(found)))

    with served(simulator) as server:
        server.faults.add(CountsThePage(), target=r"\?.*skip=")
        agrees(ask(server, whole), simulator, application)
        one = max(simulator.in_scope(application))
        assert ask(server, lambda client: client.application_paths(one)).bound


def test_joiners_while_the_list_is_read_fail_nothing() -> None:
    simulator, application = small(250)
    [group] = simulator.groups_in_scope(application)
    serial = iter(range(10**6))

    def join() -> None:
        simulator.add_member(group, simulator.add_user(f"late{next(serial)}@example.com"))

    before = set(simulator.in_scope(application))
    with served(simulator) as server:
        server.faults.add(After(join), target=USERS_IN_SCOPE)
        found = ask(server, whole)
    assert before <= {user.id for user in found.users.values() if user.bound}


def test_a_list_without_end_is_left() -> None:
    simulator, _ = small(5)
    with served(simulator, total_count_header=False) as server:
        rows = [{"id": NOBODY, "type": "user", "paths": []}]
        server.faults.add(Edit(lambda _: rows), target=USERS_IN_SCOPE)
        with pytest.raises(jc.UnexpectedReply, match="no end"):
            ask(server, whole)


def test_a_list_of_more_rows_than_any_organisation_has_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jumpcloud_lists, "MAX_ROWS", 250)
    for people, total in ((250, True), (251, True), (251, False)):
        simulator, application = small(people)
        with served(simulator, total_count_header=total) as server:
            if people <= jumpcloud_lists.MAX_ROWS:
                agrees(ask(server, whole), simulator, application)
                continue
            with pytest.raises(jc.UnexpectedReply, match="more than 250 rows"):
                ask(server, whole)


@pytest.mark.parametrize("total", ["9999999999", "1" * 5000, "-1", "9.5", "many", ""])
def test_a_total_in_a_header_that_can_be_none_counts_as_none(total: str) -> None:
    simulator, application = small(230, groups=3)
    with served(simulator) as server:
        server.faults.add(Headers({"x-total-count": total}), target="/api/v2/")
        agrees(ask(server, whole), simulator, application)
        assert len(requests(server, "/applications/")) < 20


def test_a_total_that_is_far_too_large_costs_a_bounded_number_of_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jumpcloud_lists, "AHEAD", 4)
    simulator, application = small(930)
    with served(simulator) as server:
        server.faults.add(Headers({"x-total-count": "1500000"}), target=USERS_IN_SCOPE)
        agrees(ask(server, whole), simulator, application)
        # Two readings of ten pages, of the empty ones asked for beside the last and after it, and of the end.
        assert len(requests(server, f"{application}/users")) == 2 * (10 + 3 + 4 + 1)


@pytest.mark.parametrize("total", [9999999999, -1, 9.5, "many", [], {}, True, None])
def test_a_total_in_an_envelope_that_can_be_none_counts_as_none(total: Any) -> None:
    simulator, application = small(230, 20)
    stranger = next(one for one in simulator.organization().users if one not in simulator.in_scope(application))
    with served(simulator) as server:
        server.faults.add(Edit(lambda rows: rows, total=total), target="/api/(applications|systemusers|search)")
        agrees(ask(server, whole), simulator, application)
        found = ask(server, lambda client: client.users([stranger]))
        assert found is not None and found[stranger].status is Status.ACTIVE
        server.faults.add(status(403), target=f"/api/systemusers/{stranger}")
        assert ask(server, lambda client: client.status_of(stranger)) is Status.ACTIVE


# -- the application --------------------------------------------------------------------------------------------------


def named(client: jc.JumpCloud) -> Awaitable[tuple[str, Any]]:
    return client.application()


def test_an_application_goes_by_its_id_or_its_label() -> None:
    simulator, application = made()
    home = simulator.organization().id
    with served(simulator) as server:
        for wanted in (application, "Keeper", " Keeper "):
            organization, found = ask(server, named, wanted)
            assert (organization, found.id, found.label) == (home, application, "Keeper")


def test_an_application_without_a_label_goes_by_the_name_of_its_template() -> None:
    simulator, _ = made()
    one = simulator.add_application("", displayName="Keeper Password Manager")
    with served(simulator) as server:
        assert ask(server, named, "Keeper Password Manager")[1].id == one


@pytest.mark.parametrize("field", ["displayLabel", "organization", "displayLabel organization"])
@pytest.mark.parametrize("by", ["id", "label"])
def test_what_is_on_record_stands_for_what_cannot_be_read_of_the_application(field: str, by: str) -> None:
    simulator, application = made()
    home = simulator.organization().id
    change = dict.fromkeys(field.split(), 5)
    wanted = application if by == "id" else "Keeper"

    async def bound(client: jc.JumpCloud) -> tuple[str, Application]:
        found = await client.application((home, application))
        await client.still_there()
        return found

    with served(simulator) as server:
        server.faults.add(Edit(lambda rows: [row | change for row in rows]), target="/api/applications")
        organization, found = ask(server, bound, wanted)
        assert (organization, found.id) == (home, application)
        if "organization" in field or by == "label":
            for on_record in ((home, NOBODY), None):
                with pytest.raises(jc.JumpCloudError):
                    ask(server, partial(jc.JumpCloud.application, bound=on_record), wanted)


@pytest.mark.parametrize(
    "change",
    [{"displayLabel": "Other"}, {"displayLabel": "", "displayName": "Other"}, {"displayLabel": 5, "active": 5}],
)
def test_what_is_on_record_stands_for_nothing_that_can_be_read_nor_for_the_state(change: dict[str, Any]) -> None:
    simulator, application = made()
    home = simulator.organization().id
    with served(simulator) as server:
        server.faults.add(Edit(lambda rows: [row | change for row in rows]), target="/api/applications")
        with pytest.raises(jc.JumpCloudError):
            ask(server, lambda client: client.application((home, application)))


def test_a_label_that_two_have_names_their_ids() -> None:
    simulator, application = made()
    other = simulator.add_application("Keeper")
    with served(simulator) as server:
        with pytest.raises(jc.ApplicationAmbiguous) as caught:
            ask(server, named)
        assert caught.value.ids == tuple(sorted((application, other)))
        assert application in str(caught.value)
        assert ask(server, named, other)[1].id == other


@pytest.mark.parametrize("wanted", ["keeper", "Kepper", "Keep"])
def test_a_label_that_nobody_has_names_near_ones(wanted: str) -> None:
    simulator, _ = made()
    with served(simulator) as server, pytest.raises(jc.ApplicationNotFound) as caught:
        ask(server, named, wanted)
    assert caught.value.near == ("Keeper",)
    assert caught.value.labels == ("Keeper", "Wiki")
    assert "Nothing was changed in Keeper" in str(caught.value)


def test_an_id_that_no_application_has() -> None:
    simulator, _ = made()
    with served(simulator) as server, pytest.raises(jc.ApplicationNotFound, match="'Keeper', 'Wiki'"):
        ask(server, named, NOBODY)


def test_an_inactive_application_is_refused() -> None:
    simulator, application = made()
    simulator.update_application(application, active=False)
    with served(simulator) as server, pytest.raises(jc.ApplicationInactive, match="not active"):
        ask(server, whole)


# -- the scope --------------------------------------------------------------------------------------------------------


def test_an_empty_scope_is_an_answer_while_the_application_is_there() -> None:
    simulator, application = small(0, 5, groups=2)
    with served(simulator) as server:
        scope = ask(server, lambda client: client.read_scope(None))
    assert not scope.users
    assert {g.id: g.name for g in scope.groups.groups.values()} == simulator.groups_in_scope(application)


def test_an_empty_scope_of_an_application_that_is_gone_is_none() -> None:
    simulator, application = small(5)
    with served(simulator, unknown_in_graph="empty") as server:
        server.faults.add(
            After(lambda: simulator.delete_application(application)), target=r"/api/applications\?", times=1
        )
        with pytest.raises(jc.IncompleteRead, match="is gone"):
            ask(server, whole)


def test_somebody_bound_directly_and_through_groups() -> None:
    simulator, application = small(1, groups=3)
    [one] = simulator.in_scope(application)
    groups = simulator.groups_in_scope(application)
    for group in groups:
        simulator.add_member(group, one)
    simulator.bind_user(application, one)
    alone = simulator.add_user("alone@example.com")
    simulator.bind_user(application, alone)
    with served(simulator) as server:
        found = ask(server, whole).users
    assert (found[one].direct, found[one].groups) == (True, frozenset(groups))
    assert (found[alone].direct, found[alone].groups, found[alone].in_scope) == (True, frozenset(), True)


def path(*nodes: tuple[str, str]) -> list[Any]:
    return [{"attributes": None, "to": {"attributes": None, "id": id_, "type": kind}} for kind, id_ in nodes]


def test_a_longer_path_is_a_membership_of_every_group_on_it() -> None:
    simulator, application = small(1, groups=2)
    [one] = simulator.in_scope(application)
    first, second = simulator.groups_in_scope(application)
    paths = [path(("user_group", first), ("user_group", second), ("user", one))]
    with served(simulator) as server:
        server.faults.add(Edit(lambda rows: [row | {"paths": paths} for row in rows]), target=USERS_IN_SCOPE)
        user = ask(server, whole).users[one]
    assert (user.direct, user.groups) == (False, frozenset((first, second)))


@pytest.mark.parametrize("paths", [[], None, [path(("system_group", NOBODY), ("user", ""))]])
def test_whoever_is_listed_without_a_group_that_can_be_read_stays_in_scope(paths: Any) -> None:
    simulator, application = small(1)
    [one] = simulator.in_scope(application)
    shown = json.loads(json.dumps(paths).replace('""', f'"{one}"'))
    with served(simulator) as server:
        server.faults.add(Edit(lambda rows: [row | {"paths": shown} for row in rows]), target=USERS_IN_SCOPE)
        user = ask(server, whole).users[one]
    assert (user.in_scope, user.groups) == (True, frozenset())


ODD_PATHS: dict[str, Any] = {
    "ends elsewhere": [path(("user", NOBODY))],
    "an odd node": [[{"to": "words"}]],
    "an odd type": [[{"to": {"id": NOBODY, "type": 5}}]],
    "an odd id": [[{"to": {"id": 7, "type": "user"}}]],
    "an empty path": [[]],
    "no path": [5],
    "no list": "words",
    "none": [],
    "null": None,
}


@pytest.mark.parametrize("way", ODD_PATHS)
def test_whoever_has_a_path_that_cannot_be_read_is_bound_and_their_teams_are_unknown(way: str) -> None:
    simulator, application = small(3)
    one = min(simulator.in_scope(application))

    def change(rows: list[Any]) -> list[Any]:
        return [row | {"paths": ODD_PATHS[way]} if row["id"] == one else row for row in rows]

    with served(simulator) as server:
        server.faults.add(Edit(change), target=USERS_IN_SCOPE)
        found = ask(server, whole)
    assert [user.id for user in found.users.values() if user.teams_unknown] == [one]
    assert all(user.in_scope for user in found.users.values())
    assert [(q.id, q.field) for q in found.quarantined] == [(one, "paths")]


def test_many_paths_that_cannot_be_read_are_no_scope() -> None:
    simulator, _ = small(300)
    for odd, raises in ((15, False), (16, True)):
        rows = iter(range(10**6))

        def change(found: list[Any], rows: Iterator[int] = rows, odd: int = odd) -> list[Any]:
            return [row | {"paths": 5} if next(rows) < odd else row for row in found]

        with served(simulator) as server:
            server.faults.add(Edit(change), target=USERS_IN_SCOPE + ".*skip=0")
            if not raises:
                assert sum(user.teams_unknown for user in ask(server, whole).users.values()) == odd
                continue
            with pytest.raises(jc.IncompleteRead, match="16 of 300 rows"):
                ask(server, whole)


def test_a_group_on_a_path_is_in_scope_though_the_list_of_groups_lacks_it() -> None:
    simulator, application = small(3, groups=2)
    [one, *_] = simulator.in_scope(application)
    [group] = simulator.in_scope(application)[one]
    with served(simulator) as server:
        server.faults.add(Rewrite(drop=[group], total=1), target=GROUPS_IN_SCOPE)
        agrees(ask(server, whole), simulator, application)
        assert len(requests(server, f"/api/v2/applications/{application}/usergroups?limit=100&skip=0")) == 2


def test_a_group_that_was_unbound_while_reading_is_read_again() -> None:
    simulator, application = small(3, groups=2)
    [group] = {group for groups in simulator.in_scope(application).values() for group in groups}
    with served(simulator) as server:
        server.faults.add(After(lambda: simulator.unbind_group(application, group)), target=USERS_IN_SCOPE, times=1)
        found = ask(server, whole)
    assert group not in found.groups or any(group in user.groups for user in found.users.values())


@pytest.mark.parametrize("name", ["", "  ", 5, ["x"], None])
def test_a_group_in_scope_without_a_usable_name_is_unclear_and_no_other_is(name: Any) -> None:
    simulator, application = small(3, groups=3)
    group, *others = sorted(simulator.groups_in_scope(application))

    def change(rows: list[Any]) -> list[Any]:
        return [row | {"name": name} if row["id"] == group else row for row in rows]

    with served(simulator) as server:
        server.faults.add(Edit(change), target=GROUPS)
        found = ask(server, whole)
        assert sorted(found.groups) == others and found.unclear_groups == {group}
        assert [(q.type, q.id, q.field) for q in found.quarantined] == [("team", group, "name")]
        assert ask(server, lambda client: client.groups_in_scope()) == {group, *others}


def test_a_deleted_group_that_lingers_in_the_graph_is_unclear_until_it_is_gone() -> None:
    simulator, application = small(3, groups=2)
    [group, *_] = simulator.groups_in_scope(application)
    with served(simulator, graph_lag=1e9) as server:
        simulator.settle_graph()
        simulator.delete_group(group)
        assert ask(server, whole).unclear_groups == {group}
        simulator.settle_graph()
        found = ask(server, whole)
        assert group not in found.groups and not found.unclear_groups


def test_a_group_that_the_list_of_groups_lacks_is_read_alone() -> None:
    simulator, application = small(3, groups=2)
    [group, *_] = simulator.groups_in_scope(application)
    with served(simulator) as server:
        server.faults.add(Rewrite(drop=[group], total=1), target=GROUPS)
        agrees(ask(server, whole), simulator, application)


@pytest.mark.parametrize(("fault", "missing"), [(status(403), False), (status(404), True)])
def test_a_group_whose_record_was_refused_is_not_said_to_have_none(fault: Any, missing: bool) -> None:
    simulator, application = small(3, groups=2)
    [group, *_] = {group for groups in simulator.in_scope(application).values() for group in groups}

    async def alone(client: jc.JumpCloud) -> jc.Person:
        found = [await client.person(id=one) for one in simulator.in_scope(application)]
        return next(one for one in found if one is not None and group in one.unclear_groups)

    with served(simulator) as server:
        server.faults.add(Rewrite(drop=[group], total=1), target=GROUPS)
        server.faults.add(fault, target=f"/api/v2/usergroups/{group}")
        for records in (ask(server, whole).quarantined, ask(server, alone).quarantined):
            [said] = [one for one in records if one.id == group]
            assert ("has no record of the group" in said.problem) is missing


@pytest.mark.parametrize("fault", [status(403), status(404), status(503), InvalidJson(), status(200, b"{}")])
def test_without_the_names_all_groups_are_unclear_and_people_go_on(fault: Any) -> None:
    simulator, application = small(3, groups=2)
    with served(simulator) as server:
        server.faults.add(fault, target=GROUPS)
        found = ask(server, whole)
    assert found.unclear_groups == set(simulator.groups_in_scope(application)) and not found.groups
    assert len(found.users) == 3 and all(user.in_scope for user in found.users.values())
    assert [(q.type, q.id) for q in found.quarantined if q.type == "list"] == [("list", "user groups")]


@pytest.mark.parametrize("fault", [status(403), status(404), status(503), InvalidJson(), status(200, b"{}")])
def test_without_the_list_of_groups_in_scope_the_paths_tell_of_groups(fault: Any) -> None:
    simulator, application = small(3, groups=2)
    [used] = {group for groups in simulator.in_scope(application).values() for group in groups}
    [empty] = set(simulator.groups_in_scope(application)) - {used}

    async def work(client: jc.JumpCloud) -> Directory:
        return await client.read_directory(await client.read_scope(None, {empty: {"Team 1"}}), (), None)

    with served(simulator) as server:
        server.faults.add(fault, target=GROUPS_IN_SCOPE)
        found = ask(server, work)
    assert set(found.groups) == {used} and found.unclear_groups == {empty}
    assert [(q.type, q.id) for q in found.quarantined] == [("list", "groups in scope")]


def test_a_group_is_gone_by_its_record_and_only_a_namesake_makes_it_be_asked_for() -> None:
    simulator, application = small(3, groups=2)
    [group] = {group for groups in simulator.in_scope(application).values() for group in groups}
    name = simulator.groups_in_scope(application)[group]
    unbound = simulator.add_group("Elsewhere")
    teams = {group: {name}, unbound: {name}, NOBODY: {"Nobody's"}}

    async def work(client: jc.JumpCloud) -> Directory:
        return await client.read_directory(await client.read_scope(None, teams), (), None)

    with served(simulator) as server:
        assert not ask(server, work).gone_groups
        simulator.delete_group(group)
        for code in (404, 410):
            server.faults.clear()
            server.faults.add(status(code), target=f"usergroups/{group}")
            server.requests.clear()
            assert not ask(server, work).gone_groups
            assert not requests(server, "usergroups/")
            again = simulator.add_group(f"{name} ")
            simulator.bind_group(application, again)
            assert ask(server, work).gone_groups == {group}
            simulator.delete_group(again)
        server.faults.add(status(503), target=f"usergroups/{group}")
        assert not ask(server, work).gone_groups


GROUP_RECORDS = "/api/v2/usergroups/"
NO_END_OF_A_GROUP: dict[str, tuple[str, Callable[[str], Any]]] = {
    "no record of any group": (GROUP_RECORDS, lambda _: status(404)),
    "no record of any group can be read": (GROUP_RECORDS, lambda _: status(403)),
    "the list shows it": (GROUPS, lambda group: Edit(lambda rows: [*rows, {"id": group, "name": "Former"}])),
    "the list shows it without a name": (GROUPS, lambda group: Edit(lambda rows: [*rows, {"id": group, "name": 5}])),
    "the list has a row without an id": (GROUPS, lambda _: Edit(lambda rows: [*rows, {"id": 5, "name": "Former"}])),
    "the list cannot be had": (GROUPS, lambda _: status(503)),
}


@pytest.mark.parametrize("way", [*NO_END_OF_A_GROUP, "nothing else"])
def test_a_group_without_a_record_is_not_gone_where_anything_says_else(way: str) -> None:
    simulator, application = small(3, groups=2)
    group, name = min(simulator.groups_in_scope(application).items())
    simulator.delete_group(group)
    simulator.bind_group(application, simulator.add_group(name))

    async def work(client: jc.JumpCloud) -> Directory:
        return await client.read_directory(await client.read_scope(None, {group: {name}}), (), None)

    with served(simulator) as server:
        if way in NO_END_OF_A_GROUP:
            target, fault = NO_END_OF_A_GROUP[way]
            server.faults.add(status(404), target=GROUP_RECORDS + group)
            # The first page of the list, with the names of all groups in scope, is as it was.
            server.faults.add(fault(group), target=target, skip=1 if target == GROUPS else 0)
        found = ask(server, work)
    assert set(found.groups) == set(simulator.groups_in_scope(application))
    assert found.gone_groups == (set() if way in NO_END_OF_A_GROUP else {group})


def test_names_come_from_the_list_of_groups_in_nfc() -> None:
    simulator, application = small(1)
    [group] = simulator.groups_in_scope(application)
    simulator.rename_group(group, " E\u0301quipe ")
    with served(simulator) as server:
        assert ask(server, whole).groups[group].name == "\u00c9quipe"


# -- point reads ------------------------------------------------------------------------------------------------------


def test_a_person_by_address_or_id() -> None:
    simulator, application = made()
    one, groups = next((u, g) for u, g in sorted(simulator.in_scope(application).items()) if len(g) > 1)
    email = simulator.user(one).email
    with served(simulator) as server:
        by_email = ask(server, lambda client: client.person(email=email))
        expected = ask(server, whole).users[one]
        server.requests.clear()
        assert ask(server, lambda client: client.person(id=one)) == by_email
        assert len(requests(server)) == 4 + len(groups)
    assert by_email is not None
    assert by_email.user == expected
    names = simulator.groups_in_scope(application)
    assert {g.id: g.name for g in by_email.groups.values()} == {group: names[group] for group in groups}


def test_the_addresses_in_use_by_the_whole_list() -> None:
    simulator, _ = small(3, 300)
    simulator.add_user("Ada.Lovelace@Example.com")
    asked = ["ada.lovelace@example.com", "nobody@example.com", "ADA.LOVELACE@EXAMPLE.COM"]
    with served(simulator) as server:
        assert ask(server, lambda client: client.in_use(asked)) == {asked[0], asked[2]}
        server.requests.clear()
        assert ask(server, lambda client: client.person(email=asked[1], by_search=True)) is None
        assert len(requests(server, "/api/systemusers")) == 1
        server.faults.add(Rewrite(keep=0), target="/api/systemusers")
        with pytest.raises(jc.IncompleteRead, match="fewer rows than it says"):
            ask(server, lambda client: client.in_use(asked))


def test_somebody_in_scope_without_an_address_is_told_with_the_addresses_in_use() -> None:
    simulator, application = small(3)
    one = min(simulator.in_scope(application))
    simulator.update_user(simulator.add_user("unbound@example.com"), email="")
    with served(simulator) as server:
        assert ask(server, lambda client: client.in_use(["nobody@example.com"])) == frozenset()
        simulator.update_user(one, email="")
        assert ask(server, lambda client: client.in_use(["nobody@example.com"])) == {""}
        assert ask(server, lambda client: client.in_use(["nobody@example.com"], {one})) == frozenset()
        simulator.suspend(one)
        assert ask(server, lambda client: client.in_use(["nobody@example.com"])) == frozenset()


def test_an_address_is_nobodys_only_while_everybody_in_scope_has_a_record() -> None:
    simulator, application = small(3)
    one, other, _ = sorted(simulator.in_scope(application))
    simulator.hide_user(one)
    simulator.delete_user(other)
    with served(simulator) as server:
        with pytest.raises(
            jc.IncompleteRead, match="1 user is bound to the application, and JumpCloud shows no record"
        ):
            ask(server, lambda client: client.in_use(["nobody@example.com"]))
        assert ask(server, lambda client: client.in_use(["nobody@example.com"], {one})) == frozenset()


@pytest.mark.parametrize("fault", [None, status(400), status(404)])
def test_an_address_is_found_however_it_is_written(fault: Any) -> None:
    simulator, _ = small(3, 300)
    one = simulator.add_user("Ada.Lovelace@Example.com")
    simulator.add_user("not.ada.lovelace@example.com")
    with served(simulator) as server:
        if fault:
            server.faults.add(fault, target=SEARCH)
        person = ask(server, lambda client: client.person(email="ada.lovelace@example.com"))
        assert person is not None
        assert person.user.id == one
        assert not person.user.bound
        assert ask(server, lambda client: client.person(email="nobody@example.com")) is None
        assert ask(server, lambda client: client.person(email="nobody")) is None


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("written", ["ada@example.com", "Ada@example.com"])
def test_an_address_of_two_is_refused(written: str, cut: bool) -> None:
    """Also where it is written as one of the two has it: the other one's is the same to Keeper. Whoever a search shows
    before it is refused has the address too."""
    simulator, _ = small(3)
    two = {simulator.add_user("Ada@example.com"), simulator.add_user("ADA@example.com")}
    with served(simulator) as server:
        if cut:
            server.faults.add(status(403), target=SEARCH, skip=1)
        with pytest.raises(jc.PersonAmbiguous) as caught:
            ask(server, lambda client: client.person(email=written))
    assert set(caught.value.ids) == two


def test_a_deleted_person_is_nobody_while_the_application_can_be_read() -> None:
    simulator, application = small(3)
    one = min(simulator.in_scope(application))
    simulator.delete_user(one)
    with served(simulator) as server:
        assert ask(server, lambda client: client.person(id=one)) is None
        assert ask(server, lambda client: client.status_of(one)) is None
        server.faults.add(Rewrite(keep=0, total=0), target=r"/api/applications\?", skip=1)
        with pytest.raises(jc.IncompleteRead, match="is gone"):
            ask(server, lambda client: client.status_of(one))
        server.faults.clear()
        simulator.update_application(application, active=False)
        with pytest.raises(jc.ApplicationInactive):
            ask(server, lambda client: client.status_of(one))


@pytest.mark.parametrize("state", ["ACTIVATED", "SUSPENDED", "STAGED"])
def test_the_status_in_the_own_record(state: str) -> None:
    simulator, application = small(1)
    [one] = simulator.in_scope(application)
    simulator.update_user(one, state=state)
    with served(simulator) as server:
        found = ask(server, lambda client: client.status_of(one))
    assert found is {"ACTIVATED": Status.ACTIVE, "SUSPENDED": Status.SUSPENDED, "STAGED": Status.STAGED}[state]


def test_how_one_user_is_bound() -> None:
    simulator, application = small(2, groups=2)
    one, other = simulator.in_scope(application)
    [first] = simulator.in_scope(application)[one]
    [second] = set(simulator.groups_in_scope(application)) - {first}
    simulator.add_member(second, one)
    simulator.bind_user(application, one)
    simulator.remove_member(first, other)
    simulator.bind_group(simulator.add_application("Wiki"), second)
    with served(simulator) as server:
        bound = ask(server, lambda client: client.application_paths(one))
        free = ask(server, lambda client: client.application_paths(other))
        assert ask(server, lambda client: client.groups_of(one)) == {first, second}
        assert ask(server, lambda client: client.groups_of(other)) == frozenset()
    assert bound == jc.Paths(bound=True, direct=True, groups=frozenset((first, second)))
    assert free == jc.Paths(bound=False, direct=False, groups=frozenset())


@pytest.mark.parametrize(
    "fault", [InvalidJson(), status(500), status(404), status(410), status(403), status(200, b"{}")]
)
@pytest.mark.parametrize("read", ["application_paths", "groups_of", "status_of"])
def test_a_confirming_read_without_a_clear_answer_raises(fault: Any, read: str) -> None:
    simulator, application = small(2)
    one = min(simulator.in_scope(application))
    there = f"/api/v2/users/{one}" if read != "status_of" else f"systemusers/{one}"
    with served(simulator) as server:
        server.faults.add(fault, target=there)
        if read == "status_of":
            server.faults.add(status(403), target=SEARCH)
        if fault in (status(404), status(410)) and read == "status_of":
            server.faults.add(status(403), target=r"/api/applications\?", skip=1)
        with pytest.raises(jc.JumpCloudError):
            ask(server, lambda client: getattr(client, read)(one))


def test_a_list_that_announces_more_than_it_has_proves_no_absence() -> None:
    simulator, application = small(3)
    one = min(simulator.in_scope(application))
    with served(simulator) as server:
        server.faults.add(Rewrite(keep=0), target=f"users/{one}/applications")
        server.faults.add(Rewrite(keep=0), target=f"users/{one}/memberof")
        with pytest.raises(jc.IncompleteRead, match="fewer rows than it says"):
            ask(server, lambda client: client.application_paths(one))
        with pytest.raises(jc.IncompleteRead, match="fewer rows than it says"):
            ask(server, lambda client: client.groups_of(one, absent=[NOBODY]))
        assert ask(server, lambda client: client.groups_of(one)) == frozenset()
        server.faults.add(Rewrite(keep=0), target=f"applications/{application}/usergroups")
        with pytest.raises(jc.IncompleteRead, match="fewer rows than it says"):
            ask(server, lambda client: client.groups_in_scope())


@pytest.mark.parametrize("fault", [InvalidJson(), status(500), status(403), status(200, b"{}")])
def test_a_search_stands_for_records_that_can_not_be_read(fault: Any) -> None:
    simulator, application = small(6)
    people = sorted(simulator.in_scope(application))
    simulator.suspend(people[0])
    with served(simulator) as server:
        server.faults.add(fault, target="/api/systemusers")

        async def every(client: jc.JumpCloud) -> list[Status | None]:
            return [await client.status_of(one) for one in people]

        assert ask(server, every) == [Status.SUSPENDED, *[Status.ACTIVE] * 5]
        # A record that fails is not asked for again before the search.
        assert len(requests(server, "/api/systemusers/")) == len(people)
        email = simulator.user(people[1]).email
        found = ask(server, lambda client: client.person(email=email))
        assert found is not None and found.user.id == people[1]


@dataclass(frozen=True)
class Shown:
    """A fault that changes fields of a record."""

    fields: dict[str, Any]

    def run(self, handle: Handler, request: Request) -> Answer:
        answer = handle(request)
        assert isinstance(answer, Response)
        return Response.of_json(answer.status, json.loads(answer.body) | self.fields)


def test_a_search_that_is_behind_does_not_overrule_what_the_own_record_tells() -> None:
    """Where one of the two fields about access says suspended, the other decides nothing."""
    simulator, application = small(2)
    one, other = sorted(simulator.in_scope(application))
    with served(simulator) as server:
        server.faults.add(Shown({"state": 7, "suspended": True}), target=f"/api/systemusers/{one}")
        server.faults.add(Shown({"state": 7, "email": "new@example.com"}), target=f"/api/systemusers/{other}")
        server.faults.add(
            Edit(lambda rows: [row | {"state": "ACTIVATED", "suspended": False} for row in rows]), target=SEARCH
        )
        assert ask(server, lambda client: client.status_of(one)) is Status.SUSPENDED
        assert not requests(server, SEARCH)
        user = ask(server, lambda client: client.user(other))
        assert user is not None and (user.status, user.email) == (Status.ACTIVE, "new@example.com")


@pytest.mark.parametrize("shown", [[NOBODY], [NOBODY, ""], []], ids=["somebody else", "others too", "nobody"])
def test_a_search_that_does_not_heed_the_id_stands_for_no_record(shown: list[str]) -> None:
    simulator, application = small(2)
    one = min(simulator.in_scope(application))
    with served(simulator) as server:
        server.faults.add(status(403), target=f"/api/systemusers/{one}")
        server.faults.add(Edit(lambda rows: [rows[0] | {"_id": id or one} for id in shown]), target=SEARCH)
        with pytest.raises(jc.JumpCloudError, match="403"):
            ask(server, lambda client: client.status_of(one))


@pytest.mark.parametrize("totals", ["whole", "page", "none"])
def test_a_search_is_read_to_its_end_where_pages_are_shorter_than_asked_for(totals: str) -> None:
    simulator, application = small(30)
    people = sorted(simulator.in_scope(application))
    with served(simulator, page_rows=2, totals=totals) as server:
        found = ask(server, lambda client: client.users(people))
    assert found is not None and {one: user.status for one, user in found.items()} == dict.fromkeys(
        people, Status.ACTIVE
    )


@pytest.mark.parametrize("code", [404, 410])
def test_deleted_is_who_has_no_record_and_is_not_bound(code: int) -> None:
    simulator, application = small(2)
    one = min(simulator.in_scope(application))
    with served(simulator) as server:
        server.faults.add(status(code), target=f"systemusers/{one}")
        hidden = ask(server, lambda client: client.person(id=one))
        assert hidden is not None and hidden.user.bound and hidden.user.status is Status.UNKNOWN
        server.faults.add(status(code), target=f"users/{one}/applications")
        assert ask(server, lambda client: client.person(id=one)) == hidden
        server.faults.add(Rewrite(drop=[one]), target=USERS_IN_SCOPE)
        assert ask(server, lambda client: client.person(id=one)) is None


@pytest.mark.parametrize("graph", ["refused", "empty"])
def test_nobody_is_deleted_whom_the_application_lists_and_whose_own_list_merely_lacks_it(graph: str) -> None:
    simulator, application = small(3)
    one, other, _ = sorted(simulator.in_scope(application))
    simulator.hide_user(one)
    with served(simulator, unknown_in_graph=graph) as server:
        server.faults.add(Rewrite(keep=0, total=0), target=f"users/{one}/applications")
        found = ask(server, whole).users[one]
        alone = ask(server, lambda client: client.person(id=one))
        assert alone is not None and found == alone.user
        assert found.bound and found.status is Status.UNKNOWN
        assert [each.field for each in alone.quarantined] == [HIDDEN]
        # Whoever is deleted leaves the application's list.
        simulator.delete_user(other)
        assert other not in ask(server, lambda client: whole(client, (other,))).users
        assert ask(server, lambda client: client.person(id=other)) is None


@pytest.mark.parametrize("code", [404, 410])
def test_a_search_stands_for_a_missing_record_of_somebody_who_is_bound(code: int) -> None:
    simulator, application = small(2, 1)
    one = min(simulator.in_scope(application))
    outside = next(user for user in simulator.organization().users if user not in simulator.in_scope(application))

    async def status_and_scope(client: jc.JumpCloud, user_id: str) -> tuple[Status | None, bool]:
        return await client.status_of(user_id), (await client.application_paths(user_id)).bound

    with served(simulator) as server:
        server.faults.add(status(code), target="/api/systemusers/")
        assert ask(server, lambda client: status_and_scope(client, one)) == (Status.ACTIVE, True)
        assert ask(server, lambda client: status_and_scope(client, outside)) == (None, False)
        lock = Subject("user", "ada@example.com", outside, "1")
        assert ask(server, lambda client: why_not_lock(lock, Rule.LEFT, client)) == ""
        simulator.suspend(one)
        assert ask(server, lambda client: status_and_scope(client, one)) == (Status.SUSPENDED, True)
        # The search alone may be behind.
        applications = server.faults.add(status(code), target="/api/v2/users/")
        assert ask(server, lambda client: status_and_scope(client, one)) == (None, False)
        assert "without one when read alone" in ask(server, lambda client: why_not_lock(lock, Rule.LEFT, client))
        server.faults.remove(applications)
        server.faults.add(status(403), target="/api/v2/users/")
        with pytest.raises(jc.Unauthorized):
            ask(server, lambda client: client.status_of(one))


def test_the_end_of_a_deleted_person_takes_six_requests() -> None:
    simulator, application = small(2)
    one = min(simulator.in_scope(application))
    simulator.delete_user(one)

    async def work(client: jc.JumpCloud) -> str:
        await client.application()
        server.requests.clear()
        return await why_not_lock(Subject("user", "ada@example.com", one, "1"), Rule.DELETED, client)

    with served(simulator) as server:
        server.faults.add(status(404), target=f"users/{one}/applications")
        assert ask(server, work) == ""
        assert [len(requests(server, part)) for part in ("systemusers/", "/applications", "search")] == [2, 3, 1]


@pytest.mark.parametrize("odd", [{"id": "words"}, {"id": None}, {"type": "system"}, {"type": None}])
def test_absence_is_not_proven_by_a_list_with_a_row_that_cannot_be_read(odd: dict[str, Any]) -> None:
    simulator, application = small(2)
    one = min(simulator.in_scope(application))
    groups = simulator.groups_in_scope(application)
    with served(simulator) as server:
        server.faults.add(Edit(lambda rows: [row | odd for row in rows]), target=f"/api/v2/users/{one}")
        with pytest.raises(jc.JumpCloudError, match=r"can't be read|no end"):
            ask(server, lambda client: client.application_paths(one))
        with pytest.raises(jc.JumpCloudError, match=r"can't be read|no end"):
            ask(server, lambda client: client.groups_of(one, absent=groups))


@pytest.mark.parametrize("type", ["bookmark", None, 7])
def test_a_row_about_something_else_proves_nothing_against_absence(type: Any) -> None:
    simulator, application = small(2)
    one = min(simulator.in_scope(application))
    [group] = simulator.groups_in_scope(application)
    simulator.remove_member(group, one)
    strange = {"id": NOBODY, "type": type, "paths": []}
    with served(simulator) as server:
        server.faults.add(Edit(lambda rows: [*rows, strange]), target=f"/api/v2/users/{one}/.*skip=0")
        assert not ask(server, lambda client: client.application_paths(one)).bound
        assert ask(server, lambda client: client.groups_of(one, absent=[group])) == frozenset()


@pytest.mark.parametrize("odd", ["", "../applications", "F" * 24, "a" * 23, "ada@example.com"])
def test_what_cannot_be_an_id_is_put_into_no_path(odd: str) -> None:
    simulator, _ = small(1)
    with served(simulator) as server:
        for read in ("application_paths", "groups_of", "status_of"):
            with pytest.raises(jc.JumpCloudError, match="not the id"):
                ask(server, lambda client, read=read: getattr(client, read)(odd))  # type: ignore[misc]
        assert not requests(server, "users/")


# -- who asks ---------------------------------------------------------------------------------------------------------


def test_a_wrong_key_is_told_without_the_key() -> None:
    simulator, _ = made()
    with served(simulator) as server, pytest.raises(jc.Unauthorized) as caught:
        ask(server, whole, headers=key("wrong-key-1234567890"))
    assert caught.value.status == 401
    assert "wrong-key" not in str(caught.value)
    assert "jumpcloud.api_key" in str(caught.value)
    assert "Nothing was changed in Keeper" in str(caught.value)


def test_a_401_is_about_the_credentials_unless_another_read_succeeds_with_them() -> None:
    simulator, application = small(2)
    one = min(simulator.in_scope(application))

    async def work(client: jc.JumpCloud) -> None:
        await client.application()
        route = server.faults.add(status(401), target=f"/api/v2/users/{one}")
        with pytest.raises(jc.Unauthorized, match="role") as caught:
            await client.groups_of(one)
        assert jc.bearable(caught.value)
        server.faults.remove(route)
        simulator.revoke_api_key(API_KEY)
        with pytest.raises(jc.Unauthorized, match=r"jumpcloud\.api_key") as caught:
            await client.groups_of(one)
        assert not jc.bearable(caught.value)

    with served(simulator) as server:
        ask(server, work)


def test_a_role_that_does_not_suffice() -> None:
    simulator, _ = made()
    simulator.deny(API_KEY)
    with served(simulator) as server, pytest.raises(jc.Unauthorized, match="role") as caught:
        ask(server, whole)
    assert caught.value.status == 403


def test_administrators_of_several_organisations_name_one() -> None:
    simulator, application = made()
    home = simulator.organization().id
    other = simulator.add_organization("Other")
    wanted = simulator.add_application("Keeper", organization=other)
    several = simulator.add_api_key(multi_tenant=True)
    with served(simulator, application_organization=False) as server:
        assert ask(server, named, headers=key(several, other)) == (other, Application(wanted, "Keeper"))
        assert ask(server, named, headers=key(several, home)) == (home, Application(application, "Keeper"))
        with pytest.raises(jc.Unauthorized, match=r"jumpcloud\.organization"):
            ask(server, named, headers=key(several))
        with pytest.raises(jc.UnexpectedReply, match=r"jumpcloud\.organization"):
            ask(server, named, headers=key(several, NOBODY))


@contextmanager
def account(simulator: Simulator, **reading: Any) -> Iterator[tuple[Server, dict[str, str]]]:
    with served(simulator, **reading) as server:
        yield server, simulator.add_service_account()


def as_account(
    server: Server,
    login: dict[str, str],
    work: Callable[[jc.JumpCloud], Awaitable[T]],
    *,
    organization: str | None = None,
    clock: Callable[[], float] = lambda: 0.0,
) -> T:
    async def session() -> T:
        secret = jc.login_headers(login["client_id"], SecretStr(login["client_secret"]))
        async with client_of(server, secret) as oauth:
            tokens = jc.ServiceAccount(oauth, organization, clock=clock)
            async with client_of(server, tokens.headers) as http:
                return await work(jc.JumpCloud(http, "Keeper", tokens.forget))

    return asyncio.run(session())


def test_a_service_account_fetches_one_token_for_all_requests() -> None:
    simulator, application = made()
    with account(simulator, account_needs_organization=True) as (server, login):
        agrees(as_account(server, login, whole, organization=simulator.organization().id), simulator, application)
        assert len(requests(server, "/oauth2/token")) == 1


def test_a_token_that_ends_early_is_fetched_once_for_all_who_notice() -> None:
    simulator, application = small(350)

    async def work(client: jc.JumpCloud) -> Directory:
        await client.application()
        simulator.expire_tokens()
        await client.application()
        return await whole(client)

    with account(simulator) as (server, login):
        server.faults.add(After(simulator.expire_tokens), target=USERS_IN_SCOPE + ".*skip=0")
        agrees(as_account(server, login, work), simulator, application)
        assert len(requests(server, "/oauth2/token")) == 3


@pytest.mark.parametrize(("lasts", "later", "tokens"), [(3600, 3500, 1), (3600, 3541, 2), (40, 19, 1), (40, 21, 2)])
def test_a_token_is_renewed_before_it_ends(lasts: int, later: float, tokens: int) -> None:
    simulator, _ = small(1)
    now = 1000.0

    async def work(client: jc.JumpCloud) -> None:
        nonlocal now
        await client.application()
        now += later
        await client.application()

    @dataclass(frozen=True)
    class Lasting:
        def run(self, handle: Handler, request: Request) -> Answer:
            answer = handle(request)
            assert isinstance(answer, Response)
            return Response.of_json(200, json.loads(answer.body) | {"expires_in": lasts})

    with account(simulator) as (server, login):
        server.faults.add(Lasting(), target="/oauth2/token")
        as_account(server, login, work, clock=lambda: now)
        assert len(requests(server, "/oauth2/token")) == tokens


def test_a_revoked_service_account_is_told_without_its_secret() -> None:
    simulator, _ = small(1)

    async def work(client: jc.JumpCloud) -> None:
        await client.application()
        simulator.revoke_service_account(login["client_id"])
        await client.application()

    with account(simulator) as (server, login):
        with pytest.raises(jc.Unauthorized) as caught:
            as_account(server, login, work)
        assert login["client_secret"] not in str(caught.value)
        assert "jumpcloud.client_id" in str(caught.value)
        assert len(requests(server, "/oauth2/token")) == 2


@pytest.mark.parametrize("reply", [b"", b"<html>", b"{}", b"[]", b'{"access_token":""}', b'{"access_token":5}'])
def test_a_token_endpoint_that_gives_no_token(reply: bytes) -> None:
    simulator, _ = small(1)
    with account(simulator) as (server, login):
        server.faults.add(status(200, reply), target="/oauth2/token")
        with pytest.raises(jc.UnexpectedReply):
            as_account(server, login, whole)


# -- replies that are none --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [r"/api/applications\?", USERS_IN_SCOPE])
@pytest.mark.parametrize("reply", [b"", b"<html>of a proxy</html>", b"null", b'"x"', b'{"results":5}', b"[[]]"])
def test_an_answer_that_is_no_list_is_no_directory(target: str, reply: bytes) -> None:
    simulator, _ = small(3)
    with served(simulator) as server:
        server.faults.add(status(200, reply), target=target)
        with pytest.raises(jc.UnexpectedReply) as caught:
            ask(server, whole)
    assert "proxy</html>" not in str(caught.value)


def test_null_that_is_not_said_to_be_json_is_no_end_of_a_list() -> None:
    """A proxy's page in place of the second one, where each page announces its own rows."""
    simulator, _ = small(3)
    simulator.assumptions = replace(simulator.assumptions, page_rows=2, totals="page")
    with served(simulator) as server:
        server.faults.add(status(200, b"null"), target=f"{USERS_IN_SCOPE}.*skip=2")
        with pytest.raises(jc.UnexpectedReply):
            ask(server, whole)


ODD_FIELDS: dict[str, tuple[str, dict[str, Any]]] = {
    "address": (USERS, {"email": ["secret words"]}),
    "name": (USERS, {"firstname": 7}),
    "state": (USERS, {"state": {"secret": "words"}}),
    "an unknown state": (USERS, {"state": "secret words"}),
    "suspended": (USERS, {"suspended": "secret words"}),
    "user's id": (USERS, {"_id": "secret words"}),
    "group's name": (GROUPS, {"name": {"secret": "words"}}),
    "group's type": (GROUPS_IN_SCOPE, {"type": "secret words" * 100}),
    "group's id": (GROUPS_IN_SCOPE, {"id": 5}),
    "user's type": (USERS_IN_SCOPE, {"type": "system"}),
    "paths": (USERS_IN_SCOPE, {"paths": [[{"to": "secret words"}]]}),
}


@pytest.mark.parametrize("way", ODD_FIELDS)
def test_a_record_that_cannot_be_read_concerns_nobody_else_and_is_not_shown(way: str) -> None:
    simulator, application = small(40, groups=3)
    target, change = ODD_FIELDS[way]
    serial = 0

    def odd(rows: list[Any]) -> list[Any]:
        nonlocal serial
        serial += 1
        return [row | change if number == 0 else row for number, row in enumerate(rows)]

    with served(simulator) as server:
        expected = ask(server, whole)
        server.faults.add(Edit(odd), target=target)
        found = ask(server, whole)
    assert found.quarantined and not any("words" in str(one) for one in found.quarantined)
    differing = [one for one in expected.users if found.users.get(one) != expected.users[one]]
    assert len(differing) <= 1
    assert len(expected.groups.keys() - found.groups.keys()) <= 1
    assert set(found.users) <= set(simulator.in_scope(application))


@dataclass(frozen=True)
class Literally:
    """A fault that puts these bytes where the answers have a text."""

    text: str
    literal: bytes

    def run(self, handle: Handler, request: Request) -> Answer:
        answer = handle(request)
        assert isinstance(answer, Response)
        return replace(answer, body=answer.body.replace(json.dumps(self.text).encode(), self.literal))


@pytest.mark.parametrize("literal", [b"NaN", b"1e400", b"9" * 5000, b'"a\xff@example.com"', b'"a\x01@example.com"'])
@pytest.mark.parametrize("field", ["email", "firstname", "state", "attributes"])
def test_a_value_that_no_json_has_is_odd_in_its_own_field_only(field: str, literal: bytes) -> None:
    simulator, application = small(40, groups=2)
    one = min(simulator.in_scope(application))
    with served(simulator) as server:
        expected = ask(server, whole)
        server.faults.add(Literally("here", literal), target=USERS)
        server.faults.add(
            Edit(lambda rows: [row | {field: "here"} if row["_id"] == one else row for row in rows]), target=USERS
        )
        found = ask(server, whole)
    told = [(q.id, q.field) for q in found.quarantined]
    assert told == ([] if field == "attributes" else [(one, field)])
    changes: dict[str, Any] = {
        "email": {"email": ""},
        "firstname": {"given_name": ""},
        "state": {"status": Status.UNKNOWN},
    }
    assert found.users == {**expected.users, one: replace(expected.users[one], **changes.get(field, {}))}


def test_a_value_that_no_json_has_is_no_field_that_is_read() -> None:
    for model in (UserRow, ApplicationRow, GroupRow, GraphRow):
        for field in model.model_fields.keys() - {"id"}:
            row = model.read({"id": NOBODY, "type": "user", "suspended": False, field: Odd()})
            assert row is not None and row.unreadable | {"paths"} == {field, "paths"}
        assert model.read({"_id": Odd(), "id": NOBODY, "type": "user"}) is None
        assert model.read(Odd()) is None
    for document in (Odd(), {"results": Odd()}, {"access_token": Odd()}, {"access_token": "x", "expires_in": Odd()}):
        with pytest.raises(jc.UnexpectedReply):
            parsed(TokenReply if isinstance(document, dict) and "results" not in document else GraphRow, document, "it")


@pytest.mark.parametrize("change", [{"email": 5}, {"_id": 5}, {"state": []}, {"firstname": {}}])
def test_the_record_of_somebody_out_of_scope_does_not_matter(change: dict[str, Any]) -> None:
    simulator, application = small(40, 20)
    inside = set(simulator.in_scope(application))

    def odd(rows: list[Any]) -> list[Any]:
        others = [row["_id"] for row in rows if row["_id"] not in inside][:9]
        return [row | change if row["_id"] in others else row for row in rows]

    with served(simulator) as server:
        server.faults.add(Edit(odd), target=USERS)
        found = ask(server, whole)
    agrees(found, simulator, application)
    assert not found.quarantined


def test_other_applications_that_cannot_be_read_do_not_matter() -> None:
    simulator, application = small(3)
    simulator.add_application("Wiki")

    def odd(rows: list[Any]) -> list[Any]:
        return [row if row["_id"] == application else row | {"active": "words", "displayLabel": 5} for row in rows]

    with served(simulator) as server:
        server.faults.add(Edit(odd), target=r"/api/applications\?")
        agrees(ask(server, whole), simulator, application)
        server.faults.add(Edit(lambda rows: [row | {"active": "words"} for row in rows]), target=r"/api/applications\?")
        with pytest.raises(jc.UnexpectedReply, match="active"):
            ask(server, whole)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (status(500), jc.Unavailable),
        (status(429), jc.Unavailable),
        (status(302, headers={"location": "https://elsewhere.example/"}), jc.Unavailable),
        (status(418, b'{"message":"short and stout"}'), jc.UnexpectedReply),
    ],
)
def test_every_other_answer_ends_the_read(fault: Any, kind: type[jc.JumpCloudError]) -> None:
    simulator, _ = small(3)
    with served(simulator) as server:
        server.faults.add(fault, target=USERS_IN_SCOPE)
        with pytest.raises(kind, match=r"Nothing was changed in Keeper") as caught:
            ask(server, whole)
    assert caught.value.problem
    assert caught.value.advice


@pytest.mark.parametrize(
    ("own", "searched", "told"),
    [
        ({"state": "STAGED", "suspended": 7}, {}, Status.UNKNOWN),
        ({"state": 7, "suspended": False}, {"state": "SUSPENDED", "suspended": True}, Status.UNKNOWN),
        ({"state": 7, "suspended": False}, {"state": "SUSPENDED"}, Status.SUSPENDED),
        ({"state": "ACTIVATED", "suspended": 7}, {"state": "SUSPENDED", "suspended": True}, Status.UNKNOWN),
        ({"state": "ACTIVATED", "suspended": 7}, {"suspended": True}, Status.SUSPENDED),
        ({"state": "ODD", "suspended": None}, {"state": "SUSPENDED", "suspended": True}, Status.SUSPENDED),
    ],
)
def test_a_search_that_shows_something_else_than_the_own_record_tells_no_state(
    own: dict[str, Any], searched: dict[str, Any], told: Status
) -> None:
    """It is behind, or the record is: whoever belongs must not be locked for it, nor a leaver unlocked."""
    simulator, application = small(1)
    [one] = simulator.in_scope(application)
    with served(simulator) as server:
        server.faults.add(Shown(own), target=f"/api/systemusers/{one}")
        server.faults.add(Edit(lambda rows: [row | searched for row in rows]), target=SEARCH)
        server.faults.add(Edit(lambda rows: [row | searched for row in rows]), target="filter=_id")
        found = ask(server, lambda client: client.record(one))
        assert found is not None and found.status is told


def test_a_search_stands_for_no_field_that_the_own_record_shows() -> None:
    """Under a former address somebody could be created who has none now, or whose it is no more."""
    simulator, application = small(1)
    [one] = simulator.in_scope(application)
    with served(simulator) as server:
        server.faults.add(Shown({"state": 7, "email": "", "firstname": "New", "lastname": 7}), target=f"users/{one}")
        former = {"firstname": "Old", "lastname": "Old"}
        server.faults.add(Edit(lambda rows: [row | former for row in rows]), target=SEARCH)
        user = ask(server, lambda client: client.user(one))
        assert user is not None and user.status is Status.ACTIVE
        assert (user.email, user.given_name, user.family_name) == ("", "New", "Old")
