"""The scope reader, against the simulator on loopback."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from pydantic import SecretStr

from reconciler import jumpcloud as jc
from reconciler.http import Http, Pace
from reconciler.model import Directory, Status
from reconciler.simulator.faults import InvalidJson, Rewrite, status
from reconciler.simulator.jumpcloud import JumpCloud as Simulator
from reconciler.simulator.jumpcloud_v1 import PRIVATE_KEY
from reconciler.simulator.sample import API_KEY, organisation
from reconciler.simulator.server import Server

T = TypeVar("T")


def ask(
    server: Server,
    work: Callable[[jc.JumpCloud], Awaitable[T]],
    application: str = "Keeper",
    headers: Any = None,
) -> T:
    async def session() -> T:
        given = headers or jc.key_headers(SecretStr(API_KEY), None)
        async with Http(service="JumpCloud", base_url=server.url, headers=given, pace=Pace(5, 10), in_flight=4) as http:
            return await work(jc.JumpCloud(http, application))

    return asyncio.run(session())


async def whole(client: jc.JumpCloud, also: tuple[str, ...] = ()) -> Directory:
    return await client.read_directory(await client.read_scope(None), also, None)


def made(users: int = 230, groups: int = 12) -> tuple[Simulator, str]:
    simulator = Simulator()
    simulator.load(organisation(users, groups))
    application = next(a.id for a in simulator.organization().applications.values() if a.displayLabel == "Keeper")
    return simulator, application


def agrees(directory: Directory, simulator: Simulator, application: str) -> None:
    truth = simulator.in_scope(application)
    assert {u.id: set(u.groups) for u in directory.users.values() if u.bound} == truth
    assert {g.id: g.name for g in directory.groups.values()} == simulator.groups_in_scope(application)
    for user in directory.users.values():
        held = simulator.user(user.id)
        assert user.email == (held.email or "")
        suspended = held.suspended or held.state == "SUSPENDED"
        assert (user.status is Status.SUSPENDED) == suspended


READINGS: dict[str, dict[str, Any]] = {
    "as_is": {},
    "no_total": {"total_count_header": False},
    "no_organisation": {"application_organization": False},
    "state_absent": {"user_state": False},
    "unset_is_null": {"unset": "null"},
    "unset_is_absent": {"unset": "absent"},
    "aliases": {"alias_beside_fields": True},
    "search_pages_by_query": {"search_paging": "query"},
}


@pytest.mark.parametrize("reading", READINGS)
def test_the_directory_is_what_the_simulator_holds(reading: str) -> None:
    simulator, application = made()
    simulator.assumptions = replace(simulator.assumptions, **READINGS[reading])
    with Server(simulator) as server:
        agrees(ask(server, whole), simulator, application)


def test_the_number_of_requests_does_not_depend_on_the_number_of_groups() -> None:
    counts = []
    for groups in (5, 60):
        simulator, _ = made(1000, groups)
        with Server(simulator) as server:
            ask(server, whole)
            counts.append(len(server.requests))
    assert counts[1] - counts[0] <= 1
    assert counts[1] < 30


def test_the_signing_key_of_the_application_is_never_asked_for() -> None:
    simulator, application = made()
    with Server(simulator) as server:
        organization, found = ask(server, lambda client: client.application(), application)
        assert (found.id, organization) == (application, simulator.organization().id)
        assert PRIVATE_KEY not in repr(list(server.requests))
        assert not any(e.target.startswith(f"/api/applications/{application}") for e in server.requests)


def test_a_label_that_two_have_or_nobody() -> None:
    simulator, _ = made()
    with Server(simulator) as server:
        with pytest.raises(jc.ApplicationNotFound, match="Wiki"):
            ask(server, lambda client: client.application(), "Kepper")
        simulator.add_application("Keeper")
        with pytest.raises(jc.ApplicationAmbiguous):
            ask(server, lambda client: client.application())


def test_an_inactive_application_is_refused() -> None:
    simulator, application = made()
    simulator.update_application(application, active=False)
    with Server(simulator) as server, pytest.raises(jc.ApplicationNotFound, match="not active"):
        ask(server, lambda client: client.application())


def test_a_short_list_that_does_not_add_up_is_no_scope() -> None:
    simulator, application = made()
    gone = sorted(simulator.in_scope(application))[:1]
    with Server(simulator) as server:
        # Every reading lacks somebody else, so that no two agree.
        for number, one in enumerate(sorted(simulator.in_scope(application))[:8]):
            server.faults.add(
                Rewrite(drop=[one]), target=r"/api/v2/applications/[0-9a-f]+/users\?", skip=3 * number, times=3
            )
        assert gone
        with pytest.raises(jc.IncompleteRead):
            ask(server, whole)


@pytest.mark.parametrize("left_behind", ["gone", "counted", "uncounted", "null"])
def test_what_deleted_users_leave_in_the_lists_costs_nobody_the_scope(left_behind: str) -> None:
    simulator, application = made()
    inside = sorted(simulator.in_scope(application))
    for one in inside[:7]:
        simulator.delete_user(one)
    simulator.assumptions = replace(simulator.assumptions, dead_entries=left_behind)  # type: ignore[arg-type]
    with Server(simulator) as server:
        try:
            found = ask(server, whole)
        except jc.IncompleteRead:
            return  # refusing is right as well: nothing is concluded
        assert {u.id for u in found.users.values() if u.bound} == set(inside[7:])


def test_deleted_people_are_left_out_and_asked_for_ids_are_looked_up() -> None:
    simulator, application = made()
    inside = sorted(simulator.in_scope(application))
    outside = sorted(set(simulator.organization().users) - set(inside))
    simulator.delete_user(inside[0])
    with Server(simulator) as server:
        found = ask(server, lambda client: whole(client, (outside[0], inside[0], "f" * 24, "not an id")))
    assert inside[0] not in found.users
    assert not found.users[outside[0]].bound
    assert "f" * 24 not in found.users


def test_point_reads_of_one_person() -> None:
    simulator, application = made()
    one, groups = next((u, g) for u, g in sorted(simulator.in_scope(application).items()) if len(g) > 1)
    email = simulator.user(one).email
    with Server(simulator) as server:

        async def look(client: jc.JumpCloud) -> tuple[Any, ...]:
            return (
                await client.person(email=email),
                await client.person(email="nobody@example.com"),
                await client.status_of(one),
                await client.status_of("f" * 24),
                await client.application_paths(one),
                await client.groups_of(one),
            )

        person, nobody, state, missing, paths, member_of = ask(server, look)
    assert (person.user.id, set(person.user.groups), nobody) == (one, groups, None)
    assert (state, missing) == (person.user.status, None)
    assert (paths.bound, set(paths.groups)) == (True, groups)
    assert groups <= member_of


@pytest.mark.parametrize("fault", [InvalidJson(), status(500), status(404)])
def test_a_confirming_read_without_a_clear_answer_raises(fault: Any) -> None:
    simulator, application = made()
    one = sorted(simulator.in_scope(application))[0]
    with Server(simulator) as server:
        server.faults.add(fault, target=r"/users/[0-9a-f]+/(applications|memberof)")

        async def look(client: jc.JumpCloud) -> None:
            await client.application()
            await client.application_paths(one)

        with pytest.raises(jc.JumpCloudError):
            asyncio.run(_impatient(server, look))


async def _impatient(server: Server, work: Callable[[jc.JumpCloud], Awaitable[None]]) -> None:
    from reconciler.http import Limits

    async with Http(
        service="JumpCloud",
        base_url=server.url,
        headers=jc.key_headers(SecretStr(API_KEY), None),
        pace=Pace(5, 10),
        in_flight=2,
        limits=Limits(attempts=1),
    ) as http:
        await work(jc.JumpCloud(http, "Keeper"))


def test_administrators_of_several_organisations_name_one() -> None:
    simulator, _ = made()
    home = simulator.organization().id
    simulator.add_organization("Other")
    key = simulator.add_api_key(multi_tenant=True)
    with Server(simulator) as server:
        headers = jc.key_headers(SecretStr(key), home)
        organization, _ = ask(server, lambda client: client.application(), headers=headers)
        assert organization == home
        with pytest.raises(jc.JumpCloudError):
            ask(server, lambda client: client.application(), headers=jc.key_headers(SecretStr(key), None))


def test_a_service_account_gets_its_token_once_and_another_when_that_ends() -> None:
    simulator, application = made()
    account = simulator.add_service_account()
    with Server(simulator) as server:

        async def session() -> Directory:
            login = jc.login_headers(account["client_id"], SecretStr(account["client_secret"]))
            async with Http(
                service="JumpCloud", base_url=server.url, headers=login, pace=Pace(5, 10), in_flight=1
            ) as oauth:
                tokens = jc.ServiceAccount(oauth, simulator.organization().id)
                headers = tokens.headers
                async with Http(
                    service="JumpCloud", base_url=server.url, headers=headers, pace=Pace(5, 10), in_flight=4
                ) as http:
                    client = jc.JumpCloud(http, "Keeper", tokens.forget)
                    directory = await whole(client)
                    assert sum(e.target.startswith("/oauth2/token") for e in server.requests) == 1
                    simulator.expire_tokens()
                    assert await whole(client) == directory
                    return directory

        agrees(asyncio.run(session()), simulator, application)


def test_a_wrong_key_is_told_without_the_key() -> None:
    simulator, _ = made()
    with Server(simulator) as server, pytest.raises(jc.Unauthorized) as caught:
        ask(server, whole, headers=jc.key_headers(SecretStr("wrong-key-1234567890"), None))
    assert "wrong-key" not in str(caught.value)
    assert "jumpcloud.api_key" in str(caught.value)
