"""Finding suspended people without a list of everybody: what the leaver lane and a creation's evidence ask."""

from contextlib import suppress
from typing import Any

import pytest

from reconciler import jumpcloud
from reconciler.jumpcloud import JumpCloud, JumpCloudError
from reconciler.model import Status
from reconciler.simulator.faults import Rewrite, hang, status
from reconciler.simulator.jumpcloud import JumpCloud as Simulator
from tests.test_jumpcloud import Edit, ask, requests, served, small

FILTERED = r"/api/systemusers\?.*filter"


def stateless(rows: list[Any]) -> list[Any]:
    return [{key: value for key, value in row.items() if key not in ("state", "suspended")} for row in rows]


def with_suspended(inside: int = 250, outside: int = 0) -> tuple[Simulator, list[str], set[str]]:
    """An organisation in which three of those in scope are suspended, each as one of the fields says it."""
    simulator, application = small(inside, outside)
    active = sorted(simulator.in_scope(application))
    said: list[dict[str, Any]] = [{"state": "SUSPENDED"}, {"suspended": True}, {"state": "SUSPENDED"}]
    for one, values in zip(active[::100], said, strict=True):
        simulator.update_user(one, **values)
    return simulator, active, set(active[::100])


def test_one_filter_finds_the_suspended() -> None:
    simulator, active, suspended = with_suspended()
    with served(simulator) as server:
        assert ask(server, lambda client: client.suspended(active, suspended)) == suspended
        assert len(requests(server)) == 2


REFUSALS: dict[str, Any] = {
    "400": status(400, b'{"message":"Bad Request"}'),
    "403": status(403),
    "404": status(404),
    "finds nobody": Rewrite(keep=0, total=0),
}


@pytest.mark.parametrize("way", REFUSALS)
def test_a_filter_that_is_refused_or_lacks_the_witness_gives_way_to_a_search(way: str) -> None:
    simulator, active, suspended = with_suspended()
    with served(simulator) as server:
        server.faults.add(REFUSALS[way], target=FILTERED)
        assert ask(server, lambda client: client.suspended(active, suspended)) == suspended
        # Whether the witness is suspended still is one search more.
        assert len(requests(server, "/api/search/")) == 3 + (way == "finds nobody")


@pytest.mark.parametrize("total", [True, False])
def test_a_filter_that_is_ignored_does_no_harm_and_costs_no_more_than_the_search(total: bool) -> None:
    simulator, active, suspended = with_suspended(250, 900)

    def everybody(_: list[Any]) -> list[Any]:
        return [
            {"_id": one.id, "email": one.email, "state": one.state, "suspended": one.suspended}
            for one in simulator.organization().users.values()
        ][:100]

    with served(simulator) as server:
        server.faults.add(Edit(everybody, 1150 if total else None), target=FILTERED)
        assert ask(server, lambda client: client.suspended(active, suspended)) == suspended
        assert len(requests(server, "filter")) == (1 if total else 4)


def test_a_witness_who_is_suspended_no_more_proves_nothing_against_the_filter() -> None:
    simulator, active, suspended = with_suspended()
    former = next(one for one in active if one not in suspended)
    with served(simulator) as server:
        assert ask(server, lambda client: client.suspended(active, {former, "no id"})) == suspended
        assert len(requests(server, "/api/search/")) == 1, "for the witness"


@pytest.mark.parametrize("fault", [Rewrite(keep=0, total=0), status(503)])
@pytest.mark.parametrize("others", [0, 120])
def test_a_witness_outlives_a_search_that_finds_nobody(fault: Any, others: int) -> None:
    simulator, active, suspended = with_suspended()
    # Deleted people, most of what was ever suspended, do not stand before the one who still is.
    witness = {min(suspended), *(f"{number:024x}" for number in range(others))}

    async def rounds(client: JumpCloud) -> list[frozenset[str]]:
        server.faults.add(Rewrite(keep=0, total=0), target=FILTERED)
        search = server.faults.add(fault, target="/api/search/")
        first = await client.suspended(active, witness)
        server.faults.remove(search)
        return [first, *[await client.suspended(active, witness) for _ in range(1 + others // 90)]]

    with served(simulator) as server:
        first, *_, last = ask(server, rounds)
    assert last == suspended and (others or first == suspended)


def test_somebody_who_is_suspended_again_bears_witness_again() -> None:
    simulator, active, suspended = with_suspended()
    former = next(one for one in active if one not in suspended)

    async def rounds(client: JumpCloud) -> list[frozenset[str]]:
        server.faults.add(Rewrite(keep=0, total=0), target=FILTERED)
        found = [await client.suspended(active, {former})]
        simulator.suspend(former)
        await client.application()
        return [*found, await client.suspended(active, {former})]

    with served(simulator) as server:
        before, after = ask(server, rounds)
    assert former not in before and after == suspended | {former}


@pytest.mark.parametrize("others", [80, 230])
def test_a_filter_that_finds_nobody_is_not_believed_without_a_witness(others: int) -> None:
    """It may be one that always finds nobody: so a hundred of the people are searched for each time."""
    simulator, application = small(others)
    active = sorted(simulator.in_scope(application))
    simulator.suspend(active[-1])

    async def rounds(client: JumpCloud) -> list[frozenset[str]]:
        return [await client.suspended(active, frozenset()) for _ in range(1 + others // 100)]

    with served(simulator) as server:
        server.faults.add(Rewrite(keep=0, total=0), target=FILTERED)
        found = ask(server, rounds)
        assert found == [*[frozenset[str]()] * (others // 100), {active[-1]}]
        assert len(requests(server, "/api/search/")) == len(found)


def test_a_filter_that_shows_no_states_gives_way_to_a_search() -> None:
    simulator, active, suspended = with_suspended()
    with served(simulator) as server:
        server.faults.add(Edit(stateless), target=FILTERED)
        assert ask(server, lambda client: client.suspended(active, frozenset())) == suspended


def test_a_filter_that_fails_is_not_waited_for() -> None:
    simulator, active, suspended = with_suspended()
    with served(simulator) as server:
        server.faults.add(status(503), target=FILTERED)
        assert ask(server, lambda client: client.suspended(active, frozenset())) == suspended
        assert len(requests(server, "filter")) == 1


@pytest.mark.parametrize("code", [403, 404, 503])
def test_a_suspended_person_is_found_by_a_filter_where_record_and_search_are_missing(code: int) -> None:
    simulator, _, suspended = with_suspended()
    one = min(suspended)
    with served(simulator) as server:
        server.faults.add(status(code), target="/api/(systemusers/|search/)")
        found = ask(server, lambda client: client.record(one))
        assert found is not None and (found.id, found.status) == (one, Status.SUSPENDED)
        simulator.delete_user(one)
        if code == 404:
            assert ask(server, lambda client: client.record(one)) is None
        else:
            with pytest.raises(JumpCloudError):
                ask(server, lambda client: client.record(one))


def test_a_search_that_is_not_to_be_relied_on_gives_way_to_the_whole_list() -> None:
    simulator, active, suspended = with_suspended()
    with served(simulator) as server:
        server.faults.add(status(400), target=FILTERED)
        server.faults.add(status(400), target="/api/search/")
        assert ask(server, lambda client: client.suspended(active, frozenset())) == suspended


@pytest.mark.parametrize("refusal", [status(403), status(503)])
def test_where_neither_the_list_nor_the_search_can_be_had_own_records_are_read_by_turns(refusal: Any) -> None:
    simulator, active, suspended = with_suspended()

    async def looks(client: JumpCloud) -> set[str]:
        return {
            one
            for _ in range(-(-len(active) // jumpcloud.RECORDS))
            for one in await client.suspended(active, frozenset())
        }

    with served(simulator) as server:
        for target in (r"/api/systemusers\?", "/api/search/systemusers"):
            server.faults.add(refusal, target=target)
        assert ask(server, looks) == suspended
        assert len(requests(server, "/api/systemusers/")) == len(active)
        server.faults.add(refusal, target="/api/systemusers/")
        with pytest.raises(JumpCloudError):
            ask(server, lambda client: client.suspended(active, frozenset()))


@pytest.mark.parametrize("refusal", [status(403), status(500)])
@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize(("people", "refused", "looks"), [(8, 1, 1), (8, 4, 2), (120, 40, 16)])
def test_records_that_are_refused_hide_nobody_else(
    refusal: Any, listed: bool, people: int, refused: int, looks: int
) -> None:
    simulator, application = small(people)
    active = sorted(simulator.in_scope(application))
    simulator.suspend(active[refused])

    async def rounds(client: JumpCloud) -> set[str]:
        found = set[str]()
        for _ in range(looks):
            with suppress(JumpCloudError):
                found |= await client.suspended(active, frozenset())
        return found

    with served(simulator) as server:
        fault = Edit(stateless) if listed else status(403)
        server.faults.add(fault, target=r"/api/systemusers\?|/api/search/")
        for one in active[:refused]:
            server.faults.add(refusal, target=f"/api/systemusers/{one}")
        assert ask(server, rounds) == {active[refused]}


@pytest.mark.parametrize(("people", "finds"), [(8, True), (8, False), (250, True)])
def test_where_neither_the_search_nor_the_list_tells_states_own_records_do(people: int, finds: bool) -> None:
    simulator, application = small(people)
    active = sorted(simulator.in_scope(application))
    simulator.suspend(active[-1])

    async def looks(client: JumpCloud) -> set[str]:
        looks = -(-people // jumpcloud.RECORDS)
        return {one for _ in range(looks) for one in await client.suspended(active, frozenset())}

    with served(simulator) as server:
        server.faults.add(Edit(stateless), target=r"/api/systemusers\?|/api/search/")
        if not finds:
            server.faults.add(Rewrite(keep=0, total=0), target=FILTERED)
        assert ask(server, looks) == {active[-1]}
        assert len(requests(server, "/api/systemusers/")) == people


def test_the_states_of_many_by_one_search_as_far_as_it_finds_them() -> None:
    simulator, active, suspended = with_suspended()
    gone, wanted = active[1], active[:101]
    simulator.delete_user(gone)
    with served(simulator) as server:
        found = ask(server, lambda client: client.users(wanted))
        assert len(requests(server, "/api/search/")) == 3
        assert not requests(server, "/api/systemusers/")
    assert found is not None
    assert {one: user.status for one, user in found.items()} == {
        one: Status.SUSPENDED if one in suspended else Status.ACTIVE for one in wanted if one != gone
    }


@pytest.mark.parametrize("fault", [status(400), Rewrite(keep=0, total=9)])
def test_a_search_that_is_refused_or_does_not_add_up_says_nothing_of_anybody(fault: Any) -> None:
    simulator, active, _ = with_suspended()
    with served(simulator) as server:
        server.faults.add(fault, target="/api/search/")
        assert ask(server, lambda client: client.users(active[:3])) is None


@pytest.mark.parametrize("fault", [status(503), hang()])
def test_a_search_that_fails_is_not_waited_for_where_a_record_is_missing(
    fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That somebody is deleted is said by other reads, which would be too old for a lock by the end of the attempts."""
    monkeypatch.setattr(jumpcloud, "GLANCE", 0.3)
    simulator, active, _ = with_suspended()
    simulator.delete_user(active[1])
    with served(simulator) as server:
        server.faults.add(fault, target="/api/search/")
        assert ask(server, lambda client: client.user(active[1])) is None
        assert len(requests(server, "/api/search/")) == 1
