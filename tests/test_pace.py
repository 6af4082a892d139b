"""The order in which requests start, and requests that may not start any more."""

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable
from dataclasses import replace

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler import evidence_age, pace
from reconciler.evidence_age import MAX_AGE, Stamp, beating, changing, last_moment, time_left
from reconciler.http import Clock, HttpError, Limits, Pace, Throttled, TooLate, Unanswered, Unreachable
from reconciler.keeper import Expired, Keeper
from reconciler.pace import ANSWERED, URGENT_PLACES, NoTurn, urgent
from reconciler.tasks import together
from tests.test_http import Service, Time, answer, client


class Machine(Time):
    """A clock that only sleeping moves, and a wall clock that may be put."""

    def __init__(self) -> None:
        super().__init__()
        self.asleep = 0.0
        self.put = 0.0

    @property
    def clock(self) -> Clock:
        return Clock(
            lambda: self.now,
            lambda: 1_800_000_000.0 + self.now + self.asleep + self.put,
            self.sleep,
            lambda: 0.0,
            boottime=lambda: self.now + self.asleep,
        )


# Urgent requests


def order(what: Callable[[Pace, list[str]], Awaitable[None]], rate: float = 1.0, in_flight: int = 1) -> list[str]:
    """The names in the order in which they had their turn."""
    started: list[str] = []

    async def run() -> None:
        line = Pace(rate, rate, clock=Time().clock)
        line.limit(in_flight)
        await what(line, started)

    asyncio.run(run())
    return started


async def start(line: Pace, name: str, started: list[str]) -> None:
    await line.turn()
    started.append(name)
    await asyncio.sleep(0)
    line.done()


def many(line: Pace, started: list[str], *names: str) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(start(line, name, started)) for name in names]


@pytest.mark.parametrize("in_flight", [1, 3])
@pytest.mark.parametrize("rate", [1.0, 1e6])
def test_urgent_requests_go_before_all_that_wait_each_group_in_its_order(rate: float, in_flight: int) -> None:
    async def work(line: Pace, started: list[str]) -> None:
        await line.turn()
        line._free = 0
        waiting = many(line, started, "a", "b", "c")
        await asyncio.sleep(0)
        with pace.urgent():
            waiting += many(line, started, "1", "2", "3")
        await asyncio.sleep(0)
        line._free = in_flight - 1
        line.done()
        await asyncio.gather(*waiting)

    assert order(work, rate, in_flight) == ["1", "2", "3", "a", "b", "c"]


def test_an_urgent_request_goes_before_one_that_sleeps_until_the_pace_allows_it() -> None:
    now = 1000.0
    started: list[str] = []

    async def run() -> None:
        awake = asyncio.Event()

        async def sleep(seconds: float) -> None:
            nonlocal now
            until = now + seconds
            await awake.wait()
            now = max(now, until)

        line = Pace(1.0, 1.0, clock=Clock(lambda: now, sleep=sleep))
        await line.turn()
        line.throttled("/Users", math.inf, 60)
        waiting = many(line, started, "a", "b")
        await asyncio.sleep(0)
        with pace.urgent():
            waiting += many(line, started, "1")
        await asyncio.sleep(0)
        awake.set()
        await asyncio.gather(*waiting)

    asyncio.run(run())
    assert started == ["1", "a", "b"]


def test_tasks_inherit_the_mark_and_the_others_do_not() -> None:
    async def work(line: Pace, started: list[str]) -> None:
        await line.turn()
        ordinary = many(line, started, "a")

        async def partial() -> None:
            with pace.urgent():
                await together(start(line, name, started) for name in "123")
                # Nobody is kept from going first who was not marked.
            await start(line, "b", started)

        lane = asyncio.create_task(partial())
        for _ in range(5):
            await asyncio.sleep(0)
        line.done()
        await asyncio.gather(*ordinary, lane)

    assert order(work) == ["1", "2", "3", "a", "b"]


def test_an_urgent_request_gets_the_next_connection_too() -> None:
    seen: list[str] = []
    gate = asyncio.Event()

    class Transport(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            seen.append(request.url.path)
            await gate.wait()
            return httpx.Response(200)

    async def run() -> None:
        async with client(Service(), Time(), transport=Transport(), in_flight=2) as http:

            async def ask(path: str) -> None:
                await http.request("GET", path, repeatable=True)

            waiting = [asyncio.create_task(ask(f"/{number}")) for number in range(6)]
            for _ in range(20):
                await asyncio.sleep(0)
            with pace.urgent():
                waiting.append(asyncio.create_task(ask("/urgent")))
            for _ in range(20):
                await asyncio.sleep(0)
            gate.set()
            await asyncio.gather(*waiting)

    asyncio.run(run())
    assert seen[:2] == ["/0", "/1"]
    assert seen[2] == "/urgent"
    assert seen[3:] == ["/2", "/3", "/4", "/5"]


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.booleans()), max_size=25),
    st.integers(1, 3),
    st.sampled_from([0.7, 5.0, math.inf]),
)
def test_whoever_is_not_cancelled_gets_a_turn_and_never_too_many_are_under_way(
    requests: list[tuple[bool, int, bool]], in_flight: int, rate: float
) -> None:
    under_way, most, had = 0, 0, set[int]()

    async def run() -> None:
        line = Pace(rate, rate, clock=Time().clock)
        line.limit(in_flight)

        async def one(number: int, steps: int) -> None:
            nonlocal under_way, most
            await line.turn()
            try:
                under_way += 1
                most = max(most, under_way)
                had.add(number)
                for _ in range(steps):
                    await asyncio.sleep(0)
            finally:
                under_way -= 1
                line.done()

        tasks = []
        for number, (first, steps, cancel) in enumerate(requests):
            if first:
                with pace.urgent():
                    tasks.append(asyncio.create_task(one(number, steps)))
            else:
                tasks.append(asyncio.create_task(one(number, steps)))
            for _ in range(steps):
                await asyncio.sleep(0)
            if cancel:
                tasks[-1 - steps % len(tasks)].cancel()
        async with asyncio.timeout(10):
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for number, what in enumerate(ended):
            assert what is None or isinstance(what, asyncio.CancelledError)
            assert what is not None or number in had
        assert line._free == in_flight
        async with asyncio.timeout(10):
            await line.turn()

    asyncio.run(run())
    assert most <= in_flight + URGENT_PLACES
    assert under_way == 0


# The age of a confirmation


def test_the_age_is_the_larger_of_boot_time_and_wall_clock() -> None:
    machine = Machine()
    stamp = Stamp.now(machine.clock)
    machine.now += 3
    assert stamp.age(machine.clock) == pytest.approx(3)
    machine.put = -3600  # put back: nothing gets younger
    assert stamp.age(machine.clock) == pytest.approx(3)
    machine.put = 100
    assert stamp.age(machine.clock) == pytest.approx(103)
    machine.put = 0
    machine.asleep = 28_800
    assert stamp.age(machine.clock) == pytest.approx(28_803)


@pytest.mark.parametrize("still", ["asleep", "now", "put"])
def test_a_heart_knows_how_long_nothing_went_on(monkeypatch: pytest.MonkeyPatch, still: str) -> None:
    machine = Machine()
    monkeypatch.setattr(evidence_age, "BEAT", 0.01)

    async def run() -> tuple[float, ...]:
        with beating(machine.clock) as heart:
            setattr(machine, still, 20)  # no longer than work may take
            found = [heart.stood()]
            await asyncio.sleep(0.05)
            setattr(machine, still, 28_820)
            found.append(heart.stood())
            await asyncio.sleep(0.05)
            setattr(machine, still, 28_920)
            return *found, heart.stood()

    assert asyncio.run(run()) == pytest.approx((0, 28_800, 28_900), abs=1)


def test_the_last_moment_holds_inside_only() -> None:
    machine = Machine()
    assert time_left(machine.clock) == math.inf
    with last_moment(Stamp.now(machine.clock)):
        assert time_left(machine.clock) == MAX_AGE
        machine.now += 10
        with last_moment(Stamp.now(machine.clock)):
            assert time_left(machine.clock) == MAX_AGE
        assert time_left(machine.clock) == pytest.approx(MAX_AGE - 10)
    assert time_left(machine.clock) == math.inf


def change(
    machine: Machine, *answers: httpx.Response | Exception, late: float = 0.0, method: str = "PATCH", **options: object
) -> tuple[Service, HttpError | int, float]:
    """Send one change whose confirmation is so many seconds old; what became of it, and how long it took."""
    service = Service(*answers)
    began = machine.now

    async def run() -> HttpError | int:
        async with client(service, machine, **options) as http:
            stamp = Stamp.now(machine.clock)
            machine.now += late
            with last_moment(stamp):
                try:
                    return (await http.request(method, "/Users", repeatable=method != "POST")).status
                except HttpError as error:
                    return error

    outcome = asyncio.run(run())
    return service, outcome, machine.now - began - late


def test_a_change_is_sent_until_its_last_moment_and_not_after_it() -> None:
    service, outcome, _ = change(Machine(), answer(200), late=MAX_AGE)
    assert (outcome, len(service.requests)) == (200, 1)
    for late in (MAX_AGE + 0.001, 3600):
        service, outcome, _ = change(Machine(), answer(200), late=late)
        assert isinstance(outcome, TooLate)
        assert "its confirmation is older than 30 s" in str(outcome)
        assert (outcome.attempts, service.requests) == (0, [])


@pytest.mark.parametrize("trouble", [httpx.ConnectError("refused"), answer(429, retry_after="5")])
def test_a_change_that_is_overruled_is_not_tried_again(trouble: httpx.Response | Exception) -> None:
    machine = Machine()
    service = Service(trouble, answer(200))

    def paused() -> str:
        return "all writes were paused by root" if service.requests else ""

    async def run() -> None:
        async with client(service, machine) as http:
            with last_moment(Stamp.now(machine.clock), paused):
                await http.request("PATCH", "/Users", repeatable=True)

    with pytest.raises(TooLate, match=r"and all writes were paused by root\. Nothing was changed\."):
        asyncio.run(run())
    assert len(service.requests) == 1


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT", "DELETE"])
def test_every_method_that_changes_something_has_a_last_moment(method: str) -> None:
    service, outcome, _ = change(Machine(), answer(200), late=31, method=method)
    assert isinstance(outcome, TooLate)
    assert service.requests == []


def test_what_only_reads_has_no_last_moment() -> None:
    assert change(Machine(), answer(200), late=3600, method="GET")[1] == 200
    assert change(Machine(), answer(200), late=3600, method="POST", reads_only=True)[1] == 200


@pytest.mark.parametrize("slept", ["asleep", "put"])
def test_a_machine_that_slept_or_whose_clock_was_put_sends_nothing_old(slept: str) -> None:
    machine = Machine()

    async def credentials() -> dict[str, str]:
        setattr(machine, slept, 28_800)  # between the turn and the sending
        return {}

    service, outcome, _ = change(machine, answer(200), headers=credentials)
    assert isinstance(outcome, TooLate)
    assert service.requests == []


def test_a_retry_that_would_begin_too_late_is_not_waited_for() -> None:
    machine = Machine()
    service, outcome, waited = change(machine, answer(429, retry_after="31"))
    assert isinstance(outcome, TooLate)
    assert "asks to slow down" in str(outcome)
    assert (outcome.attempts, outcome.status, len(service.requests), waited) == (1, 429, 1, 0)
    service, outcome, waited = change(Machine(), httpx.ConnectError("refused"), late=MAX_AGE - 0.5)
    assert isinstance(outcome, TooLate)
    assert "no connection" in str(outcome)
    assert (len(service.requests), waited) == (1, 0)


def test_once_an_attempt_may_have_arrived_a_late_change_is_unanswered() -> None:
    for trouble in (httpx.ReadTimeout("late"), answer(503)):
        service, outcome, waited = change(Machine(), trouble, late=MAX_AGE - 0.5)
        assert type(outcome) is Unanswered
        assert "may have taken effect" in str(outcome)
        assert (len(service.requests), waited) == (1, 0)
    service, outcome, _ = change(Machine(), httpx.ReadTimeout("late"), answer(429, retry_after="60"))
    assert type(outcome) is Unanswered
    assert len(service.requests) == 2


def test_other_failures_of_a_change_keep_their_names() -> None:
    assert type(change(Machine(), httpx.ConnectError("x"), limits=Limits(attempts=2))[1]) is Unreachable
    assert type(change(Machine(), answer(429), limits=Limits(attempts=2))[1]) is Throttled
    assert change(Machine(), answer(429, retry_after="29"), answer(200))[1] == 200


@given(st.lists(st.sampled_from([0.0, 0.5, 5.0, 12.0, 29.0, 31.0, 90.0]), max_size=6), st.floats(0, 40))
def test_no_attempt_begins_after_the_last_moment(waits: list[float], late: float) -> None:
    machine = Machine()
    sent: list[float] = []
    answers: list[httpx.Response | Exception] = [
        answer(429, retry_after=str(int(wait))) if wait >= 1 else httpx.ConnectError("x") for wait in waits
    ]

    class Timed(Service):
        def __call__(self, request: httpx.Request) -> httpx.Response:
            sent.append(machine.now)
            return super().__call__(request)

    service = Timed(*answers, answer(200))
    stamp = Stamp.now(machine.clock)
    machine.now += late

    async def run() -> None:
        async with client(service, machine) as http:
            with last_moment(stamp):
                try:
                    await http.request("PATCH", "/Users", repeatable=True)
                except TooLate:
                    assert machine.now <= 1000 + max(late, MAX_AGE)
                except HttpError:
                    pass

    asyncio.run(run())
    assert all(moment <= 1000 + MAX_AGE for moment in sent)


def test_a_turn_that_comes_too_late_is_not_waited_for() -> None:
    machine = Machine()
    line = Pace(0.5, 0.5, clock=machine.clock)

    async def run() -> None:
        await line.turn()
        with pytest.raises(NoTurn):
            await line.turn(lambda: 1.9)
        assert machine.slept == []
        waiting = [asyncio.create_task(line.turn()) for _ in range(3)]
        await asyncio.sleep(0)
        began = machine.now
        with pytest.raises(NoTurn):  # three are ahead, and each takes two seconds
            await line.turn(lambda: 5.9)
        assert machine.now == began
        with pace.urgent():
            assert await line.turn(lambda: 5.9) <= began + 2
        await asyncio.gather(*waiting)

    asyncio.run(run())


def test_a_place_that_does_not_get_free_in_time_is_given_up() -> None:
    stamp = Stamp.now(Clock())
    nearly = replace(stamp, boot=stamp.boot - MAX_AGE + 0.1)

    async def run() -> None:
        line = Pace(math.inf, math.inf)
        line.limit(1)
        await line.turn()
        with last_moment(nearly), pytest.raises(NoTurn):
            await line.turn(lambda: time_left(Clock()))
        line.done()
        assert await line.turn() > 0

    asyncio.run(run())


def test_keeper_says_of_a_change_that_came_too_late_that_it_was_not_done() -> None:
    machine = Machine()
    service = Service(answer(200))

    async def run() -> None:
        async with client(service, machine) as http:
            with last_moment(Stamp.now(machine.clock)):
                machine.now += 31
                await Keeper(http).patch_user("123", {"active": False})

    with pytest.raises(Expired) as caught:
        asyncio.run(run())
    assert (caught.value.name, caught.value.stops_apply, caught.value.uncertain) == ("expired", False, False)
    assert str(caught.value).startswith("Keeper user 123 was not locked: its confirmation is older than 30 s")
    assert service.requests == []


def test_keeper_does_not_know_what_became_of_a_change_that_may_have_arrived_before_it_was_too_late() -> None:
    machine = Machine()

    async def run() -> None:
        async with client(Service(httpx.ReadTimeout("late")), machine) as http:
            with last_moment(Stamp.now(machine.clock)):
                machine.now += 29.9
                await Keeper(http).patch_user("123", {"active": False})

    with pytest.raises(Exception, match="may or may not have been locked") as caught:
        asyncio.run(run())
    assert getattr(caught.value, "uncertain", False)


@pytest.mark.parametrize(
    ("trouble", "late", "reached"),
    [
        (answer(200), 0, True),
        (answer(200), 31, False),
        (answer(503), 29, True),
        (answer(429), 29, True),
        (httpx.ReadTimeout("late"), 29, True),
        (httpx.ConnectError("refused"), 29, False),
    ],
    ids=["answered", "too late", "refused", "throttled", "no answer", "no connection"],
)
def test_only_a_change_that_may_have_reached_the_service_is_an_attempt(
    trouble: httpx.Response | Exception, late: float, reached: bool
) -> None:
    machine = Machine()

    async def run() -> bool:
        async with client(Service(answer(200), trouble), machine) as http:
            with last_moment(Stamp.now(machine.clock)), changing() as attempts:
                await http.request("GET", "/Users", repeatable=True)
                machine.now += late
                with contextlib.suppress(HttpError):
                    await http.request("PATCH", "/Users/123", json={}, repeatable=False)
        return bool(attempts)

    assert asyncio.run(run()) is reached


def test_urgent_requests_have_places_of_their_own_when_all_others_hang() -> None:
    async def play() -> None:
        pace = Pace(math.inf, math.inf)
        pace.limit(2)
        for _ in range(2):
            await pace.turn()
        waits = asyncio.create_task(pace.turn())
        with urgent():
            for _ in range(URGENT_PLACES):
                await asyncio.wait_for(pace.turn(), 5)
            full = asyncio.create_task(pace.turn())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waits.done() and not full.done()
        for _ in range(URGENT_PLACES + 1):
            pace.done()
        await asyncio.wait_for(asyncio.gather(full), 5)
        waits.cancel()
        await asyncio.gather(waits, return_exceptions=True)

    asyncio.run(play())


# A path that is throttled by itself


def throttled(line: Pace, time: Time, path: str) -> bool:
    """One reply that asks to wait a minute, as a client takes it; whether everybody waits."""
    everybody = line.throttles_all(path)
    if everybody:
        line.throttled(path, time.now, 60.0)
    return everybody


def answers(line: Pace, time: Time, number: int) -> None:
    for n in range(number):
        line.answered(f"/others/{n}", time.now)


def test_a_path_speaks_for_the_service_until_enough_others_are_answered() -> None:
    time = Time()
    line = Pace(8.0, 10.0, clock=time.clock)
    assert throttled(line, time, "/odd")
    answers(line, time, 9)  # requests that were under way when it asked to wait say nothing
    time.now += 60
    assert throttled(line, time, "/odd")
    time.now += 60
    answers(line, time, ANSWERED - 1)
    assert throttled(line, time, "/odd")
    time.now += 60
    answers(line, time, 1)
    rate = line.rate
    assert not throttled(line, time, "/odd")
    assert line.rate == rate


def test_a_path_that_had_an_answer_speaks_for_the_service_again() -> None:
    time = Time()
    line = Pace(8.0, 10.0, clock=time.clock)
    throttled(line, time, "/odd")
    time.now += 60
    answers(line, time, 100)
    line.answered("/odd", time.now)
    assert throttled(line, time, "/odd")


def test_another_path_that_is_throttled_lets_all_of_them_speak_for_the_service() -> None:
    time = Time()
    line = Pace(8.0, 10.0, clock=time.clock)
    throttled(line, time, "/odd")
    time.now += 60
    answers(line, time, 100)
    assert throttled(line, time, "/another")
    time.now += 60
    answers(line, time, 2 * ANSWERED - 1)
    assert throttled(line, time, "/odd")
    time.now += 60
    answers(line, time, 1)
    assert not throttled(line, time, "/odd") and not throttled(line, time, "/another")
