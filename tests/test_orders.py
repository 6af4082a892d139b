"""Orders in the state file: carried out once at most, soon or not at all, and answered in any case."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from loguru import logger

from reconciler import exits, orders
from reconciler.after import After
from reconciler.apply import Result
from reconciler.config import load
from reconciler.cycle import Order, Outcome
from reconciler.jumpcloud import IncompleteRead, JumpCloudError
from reconciler.orders import LASTS, Answer, Ask, Setting, answered
from reconciler.plan import Kind, Operation, Plan, Scope
from reconciler.reading import Services, Stopped
from reconciler.rows import Request, State
from reconciler.store import InUse, Store
from tests.operations import op
from tests.world import NOW, SOURCE, user

YOUNG, OLD = NOW - LASTS / 2, NOW - LASTS * 2
APPLY = Ask("apply", {"resync": True}, "ada", "why not", "digest")
DISOWN = Ask("disown", {"email": "x@example.com"}, "ada", "", "digest")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "reconciler.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store.open(path, write=True, takes_requests=True) as opened:
        yield opened


@pytest.fixture
def said() -> Iterator[list[str]]:
    lines: list[str] = []
    number = logger.add(lines.append, format="{message}")
    yield lines
    logger.remove(number)


def found(store: Store, number: str) -> Request:
    request = store.request(number)
    assert request is not None
    return request


def test_an_order_arrives_as_it_was_given(store: Store) -> None:
    number = orders.file(APPLY, store, NOW)
    [request] = store.orders()
    assert request.id == number
    assert orders.filed(request) == APPLY


def test_an_answer_arrives_too(store: Store) -> None:
    orders.file(APPLY, store, NOW)
    [request] = store.orders()
    orders.close(store, request, Answer(exits.HELD, "text", "error"), NOW)
    assert store.orders() == []
    assert answered(found(store, request.id)) == Answer(exits.HELD, "text", "error")
    assert found(store, request.id).state == "done"


@pytest.mark.parametrize(("at", "lapses"), [(YOUNG, False), (OLD, True), (NOW + LASTS * 2, True)])
def test_what_was_filed_may_wait_for_a_restart_but_not_for_the_night(
    store: Store, at: datetime, lapses: bool, said: list[str]
) -> None:
    number = store.add_request("apply", {}, by="ada", at=at, reason="", state="filed")
    orders.lapse(store, NOW)
    assert [request.id for request in store.orders()] == ([] if lapses else [number])
    if lapses:
        answer = answered(found(store, number))
        assert answer.code == exits.FAILED
        assert "nothing was done" in answer.error
    assert (f"Request {number}" in "".join(said)) is lapses


def test_what_was_begun_is_never_begun_again(store: Store) -> None:
    number = orders.file(APPLY, store, YOUNG)
    assert store.take(number)
    assert not store.take(number)
    orders.lapse(store, NOW)
    assert store.orders() == []
    assert "ended while it carried this out" in answered(found(store, number)).error


@pytest.mark.parametrize("taken", [False, True])
def test_a_decision_counts_whenever_it_is_taken(store: Store, taken: bool) -> None:
    number = orders.file(DISOWN, store, OLD)
    if taken:
        store.take(number)
    orders.lapse(store, NOW)
    assert store.take(number)


def test_what_was_withdrawn_is_not_carried_out_and_what_was_begun_can_t_be_withdrawn(store: Store) -> None:
    first, second = orders.file(APPLY, store, NOW), orders.file(APPLY, store, NOW)
    assert store.withdraw(first)
    assert not store.take(first)
    assert store.take(second)
    assert not store.withdraw(second)
    store.put_back(second)
    assert [request.id for request in store.orders()] == [second]
    assert store.withdraw(second)


def test_a_daemon_that_is_ending_takes_no_orders(store: Store, path: Path) -> None:
    def whether_it_takes_them() -> bool:
        with pytest.raises(InUse) as busy:
            Store.open(path, write=True)
        assert busy.value.holder
        return busy.value.takes_requests

    assert whether_it_takes_them()
    store.take_no_more_requests()
    assert not whether_it_takes_them()


# -- the exit code ----------------------------------------------------------------------------------------------------

ADA, EVE = (op(Kind.CREATE_USER, user(number)) for number in (1, 2))
DONE, LATER = (ADA, State.DONE, "done"), (EVE, State.PUT_OFF, "time")
BEATEN = (EVE, State.PUT_OFF, "overtaken")


def ran(result: str, *became: tuple[Operation, State, str], stopped: str = "", unfinished: bool = False) -> Outcome:
    """The outcome of a cycle whose operations became this."""
    plan = Plan("cycle", NOW, SOURCE, Scope(0, 0, 0), tuple(operation for operation, *_ in became))
    results = {number: Result(*one) for number, one in enumerate(became)}
    return Outcome(1, plan, result, results, stopped=stopped, unfinished=unfinished)


def carried_out(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch, *cycles: Outcome | Exception
) -> orders.Answer:
    rest = list(cycles)

    async def run(_: Order, __: object) -> Outcome:
        one = rest.pop(0)
        if isinstance(one, Exception):
            raise one
        return one

    async def go() -> orders.Answer:
        services = Services(None, None, "")  # type: ignore[arg-type]
        where = Setting(load(settings), services, store, lambda: NOW, asyncio.Event(), After(store), width=100)
        return await orders.carry_out(APPLY, where)

    settings = folder / "config.toml"
    settings.write_text('[keeper]\nscim_url = "https://keeper.example/api/rest/scim/v2/1"\n')
    monkeypatch.setattr(orders, "run", run)
    return asyncio.run(go())


@pytest.mark.parametrize("error", [IncompleteRead("it broke off"), Stopped("it broke off")])
def test_what_was_applied_before_a_cycle_for_the_rest_failed_is_applied_in_part(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    answer = carried_out(store, tmp_path, monkeypatch, ran("done", DONE, LATER, unfinished=True), error)
    assert answer.code == exits.PARTIAL
    assert ADA.subject.name in answer.text, "what was done is told"
    assert "it broke off" in answer.error


def test_a_cycle_for_the_rest_that_fails_where_nothing_was_applied_has_failed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beaten = ran("done", BEATEN, unfinished=True)
    with pytest.raises(JumpCloudError):
        carried_out(store, tmp_path, monkeypatch, beaten, IncompleteRead("it broke off"))


@pytest.mark.parametrize(("state", "code"), [(State.UNKNOWN, exits.PARTIAL), (State.PUT_OFF, exits.FAILED)])
def test_nothing_was_applied_is_said_only_where_that_is_known(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: State, code: int
) -> None:
    """A request without an answer may have arrived, whatever Keeper refused after it."""
    refused = ran("failed", (ADA, state, "unanswered"), stopped="the token was refused")
    assert carried_out(store, tmp_path, monkeypatch, refused).code == code


def test_a_saved_plan_of_which_a_part_can_not_be_told_is_not_done(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    untold = replace(ran("done", DONE), untold=EVE.effects())
    answer = carried_out(store, tmp_path, monkeypatch, untold)
    assert answer.code == exits.PARTIAL
    assert "1 change of the saved plan is still due cannot be told now" in " ".join(answer.text.split())
