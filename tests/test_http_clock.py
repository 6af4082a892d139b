import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from email.utils import formatdate

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler import pace
from reconciler.http import Clock, Http, HttpError, Pace
from reconciler.http_clock import AGREEMENT, ServiceClock

WALL = 1_800_000_000.0


class Machine:
    """A machine whose clocks the test moves: boot time, and a wall clock that may be put."""

    def __init__(self) -> None:
        self.boot = 500.0
        self.wrong = 0.0

    @property
    def true(self) -> float:
        return WALL + self.boot - 500.0

    @property
    def clock(self) -> Clock:
        async def sleep(seconds: float) -> None:
            self.boot += seconds

        return Clock(lambda: self.boot, lambda: self.true + self.wrong, sleep, lambda: 0.0, lambda: self.boot)


def about(seconds: float) -> object:
    """These seconds; the pace takes some microseconds of each request."""
    return pytest.approx(seconds, abs=0.01)


def http_date(seconds: float) -> str:
    return formatdate(seconds, usegmt=True)


def answer(seconds: float, *, status: int = 200, kind: str = "application/json", **more: str) -> httpx.Response:
    headers = {"date": http_date(seconds), "content-type": kind} | more
    return httpx.Response(status, headers={name: value for name, value in headers.items() if value}, content=b"{}")


def offset(machine: Machine, answers: Sequence[httpx.Response]) -> float | None:
    """The offset that a client knows after these replies in their order."""
    left = list(answers)

    async def run() -> float | None:
        async with Http(
            service="Keeper",
            base_url="https://service.example",
            headers={},
            pace=Pace(1e6, 1e6, clock=machine.clock),
            in_flight=1,
            clock=machine.clock,
            transport=httpx.MockTransport(lambda _: left.pop(0)),
        ) as http:
            while left:
                with suppress(HttpError):
                    await http.request("POST", "/Users", repeatable=False)
            return http.clock_offset()

    return asyncio.run(run())


def test_three_replies_that_agree_tell_the_offset_and_fewer_none() -> None:
    machine = Machine()
    machine.wrong = -3600
    same = [answer(machine.true) for _ in range(3)]
    assert offset(machine, same[:2]) is None
    assert offset(machine, same) == about(3600)


def test_the_median_of_the_three_newest_counts() -> None:
    machine = Machine()
    seconds = [machine.true + much for much in (900, 2, 0, 4)]
    assert offset(machine, [answer(one) for one in seconds]) == about(2)


def test_replies_that_differ_by_more_than_five_seconds_tell_nothing() -> None:
    machine = Machine()
    assert offset(machine, [answer(machine.true + much) for much in (0, 0, 6)]) is None
    assert offset(machine, [answer(machine.true + much) for much in (6, 0, 0, 0)]) == about(0)


def test_the_age_of_a_cached_reply_is_added() -> None:
    machine = Machine()
    cached = [answer(machine.true - 7200, age="7200"), answer(machine.true), answer(machine.true - 10, age=" 10 ")]
    assert offset(machine, cached) == about(0)


@pytest.mark.parametrize(
    "other",
    [
        answer(0, kind="text/html"),
        answer(0, kind=""),
        answer(0, kind="text/json"),
        answer(0, date=""),
        answer(0, date="yesterday"),
        answer(0, date="Fri, 31 Dec 9999 23:59:59 GMT"),
        answer(0, date="Thu, 01 Jan 1970 00:00:00 GMT"),
        answer(0, age="old"),
        answer(0, age="-5"),
        answer(0, status=503),
        answer(0, status=302, location="/elsewhere"),
    ],
)
def test_what_is_no_definite_json_reply_with_a_date_tells_nothing(other: httpx.Response) -> None:
    machine = Machine()
    good = answer(machine.true)
    assert offset(machine, [other, other, other]) is None
    assert offset(machine, [good, good, other, good, other]) == about(0)


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/scim+json", "Application/JSON"])
@pytest.mark.parametrize("status", [200, 201, 400, 401, 404, 409])
def test_every_definite_json_reply_counts(kind: str, status: int) -> None:
    machine = Machine()
    assert offset(machine, [answer(machine.true, kind=kind, status=status)] * 3) == about(0)


def test_a_date_in_a_form_without_a_zone_is_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        machine = Machine()
        asctime = time.asctime(time.gmtime(machine.true))
        assert offset(machine, [answer(0, date=asctime)] * 3) == about(0)
    finally:
        monkeypatch.undo()
        time.tzset()


JSON = {"content-type": "application/json"}


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(-1e9, 1e9)), min_size=3, max_size=8), st.floats(-8e8, 1e9))
def test_a_wall_clock_that_is_put_moves_the_offset_by_as_much(steps: list[tuple[float, float]], ahead: float) -> None:
    machine = Machine()
    learnt = ServiceClock(machine.clock)
    for passed, wrong in steps:
        machine.boot += passed
        machine.wrong = wrong
        learnt.learn(JSON | {"date": http_date(machine.true + ahead)}, machine.boot)
        known = learnt.offset()
        assert known is None or abs(known - (ahead - wrong)) <= 1.001
    assert learnt.offset() is not None
    machine.boot += 86400  # the machine slept
    machine.wrong += 31_536_000
    later = learnt.offset()
    assert later is not None
    assert abs(later - (ahead - machine.wrong)) <= 1.001


def test_the_reply_counts_from_its_head_not_from_the_end_of_a_slow_body() -> None:
    machine = Machine()

    class Slow(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            machine.boot += 50
            yield b"{}"

    def reply(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers=JSON | {"date": http_date(machine.true)}, stream=Slow())

    async def run() -> float | None:
        async with Http(
            service="Keeper",
            base_url="https://service.example",
            headers={},
            pace=Pace(1e6, 1e6, clock=machine.clock),
            in_flight=1,
            clock=machine.clock,
            transport=httpx.MockTransport(reply),
        ) as http:
            for _ in range(3):
                await http.request("GET", "/Users", repeatable=True)
            return http.clock_offset()

    known = asyncio.run(run())
    assert known is not None
    assert abs(known) <= AGREEMENT


def test_boot_time_goes_on() -> None:
    first = pace.boottime()
    assert first > 0
    assert pace.boottime() >= first
    assert Clock().boottime() >= first
