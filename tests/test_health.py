"""When /healthz is red: the process does nothing although it should."""

import asyncio
import math
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from reconciler import daemon as d
from reconciler import pace
from reconciler.config import load
from reconciler.health import SHORTEST_SILENCE, silent
from reconciler.http import Counters, HttpError, Limits
from reconciler.reading import Services
from reconciler.store import Store
from reconciler.wiring import services
from tests.stage import World
from tests.test_http import Service, Time, answer, client

INTERVAL = 300.0


def test_nothing_is_silent_before_requests_were_due_for_three_intervals() -> None:
    never = Counters()
    assert not silent(1000, 1000, INTERVAL, [never])
    assert not silent(1900, 1000, INTERVAL, [never])
    assert silent(1901, 1000, INTERVAL, [never])


def test_an_attempt_at_either_service_is_a_sign_of_life() -> None:
    tried = Counters(requests=1, sign=1500)
    assert not silent(2400, 1000, INTERVAL, [Counters(), tried])
    assert silent(2401, 1000, INTERVAL, [Counters(), tried])


def test_a_request_that_waits_in_vain_is_seen_whatever_the_other_service_does() -> None:
    stuck, busy = Counters(waiting=3, sign=1000), Counters(sign=1900)
    assert not silent(1900, 5000, INTERVAL, [stuck, busy])
    assert silent(1901, 5000, INTERVAL, [stuck, busy])
    assert not silent(1901, 5000, INTERVAL, [Counters(waiting=0, sign=1000), busy])


def test_a_short_interval_leaves_time_for_the_pauses_that_a_service_asks_for() -> None:
    assert not silent(1000 + SHORTEST_SILENCE, 1000, 1.0, [Counters()])
    assert silent(1001 + SHORTEST_SILENCE, 1000, 1.0, [Counters()])


# The signs of life of a client


def signs(service: Service, **options: object) -> Counters:
    clock = Time()

    async def run() -> Counters:
        async with client(service, clock, **options) as http:
            clock.now = 2000.0
            with suppress(HttpError):
                await http.request("GET", "/Users", repeatable=True)
            return http.counters

    return asyncio.run(run())


@pytest.mark.parametrize("trouble", [httpx.ConnectError("x"), httpx.ReadTimeout("x"), answer(503), answer(401)])
def test_a_failed_attempt_is_a_sign_of_life(trouble: httpx.Response | Exception) -> None:
    counters = signs(Service(trouble), limits=Limits(attempts=1))
    assert (counters.sign, counters.waiting) == (2000.0, 0)


def test_the_leaver_lane_is_no_sign_that_whole_cycles_go_on() -> None:
    """It asks each minute: a daemon that has begun no cycle for days would pass for alive."""
    with pace.urgent():
        counters = signs(Service(answer(200)))
    assert (counters.requests, counters.sign, counters.waiting) == (1, -math.inf, 0)


def test_urgent_requests_are_a_sign_while_others_wait_for_their_turn() -> None:
    async def run() -> tuple[float, float]:
        clock, hanging = Time(), asyncio.Event()

        async def credentials() -> dict[str, str]:
            if not pace.is_urgent():
                await hanging.wait()
            return {}

        async with client(Service(answer(200), answer(200)), clock, headers=credentials) as http:
            other = asyncio.create_task(http.request("GET", "/Users", repeatable=True))
            await asyncio.sleep(0)
            before, clock.now = http.counters.sign, 2000.0
            with pace.urgent():
                await http.request("GET", "/Users", repeatable=True)
            after = http.counters.sign
            hanging.set()
            await other
            return before, after

    before, after = asyncio.run(run())
    assert before < after == 2000.0


def test_what_waits_until_a_service_takes_requests_again_is_counted() -> None:
    """Nothing is attempted meanwhile but by the leaver lane, as long as that is told to wait in its place."""

    async def run() -> tuple[int, int]:
        clock = Time()
        async with client(Service(answer(200)), clock) as http:
            http._pace._resume = clock.now + 300.0
            waits = asyncio.create_task(http.calm())
            await asyncio.sleep(0)
            during = http.counters.waiting
            await waits
            return during, http.counters.waiting

    assert asyncio.run(run()) == (1, 0)


def test_a_client_that_has_done_nothing_gives_no_sign() -> None:
    assert client(Service(answer(200)), Time()).counters.sign == -math.inf


def test_what_waits_is_counted_until_it_is_answered_or_cancelled() -> None:
    async def run() -> None:
        hanging = asyncio.Event()

        async def credentials() -> dict[str, str]:
            await hanging.wait()
            return {}

        async with client(Service(answer(200)), Time(), headers=credentials) as http:
            asked = [asyncio.create_task(http.request("GET", "/Users", repeatable=True)) for _ in range(3)]
            await asyncio.sleep(0)
            assert http.counters.waiting == 3
            asked[0].cancel()
            asked[2].cancel()
            await asyncio.gather(asked[0], asked[2], return_exceptions=True)
            assert http.counters.waiting == 1
            hanging.set()
            await asked[1]
            assert http.counters.waiting == 0

    asyncio.run(run())


# The daemon


class Moments:
    """The monotonic time of the daemon, moved by the test: whole seconds, which add up exactly."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = float(int(time.monotonic()))
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def traffic() -> Counters:
    return Counters()


@pytest.fixture
def one(world: World, traffic: Counters, monkeypatch: pytest.MonkeyPatch) -> d.Daemon:
    world.schedule = {"interval": '"5m"', "jitter": '"30s"'}
    world.write_settings()
    settings = load(world.folder / "config.toml")
    with Store.open(settings.state_path(), write=True) as store:
        made = d.Daemon(settings, store, lambda: pytest.fail("needs no clock"))
    both = Services(None, None, "", traffic=(("jumpcloud", traffic),))  # type: ignore[arg-type]
    monkeypatch.setattr(made, "_services", both, raising=False)
    return made


def test_a_daemon_that_waits_for_its_schedule_is_alive(one: d.Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = Moments(monkeypatch)
    one._cycle_over = moments.now
    for _ in range(20):
        moments.now += 60
        assert one._alive()


def test_a_daemon_that_begins_no_cycle_is_not_alive(one: d.Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = Moments(monkeypatch)
    one._cycle_over = moments.now
    moments.now += 330 + 900
    assert one._alive()
    moments.now += 1
    assert not one._alive()


def test_a_daemon_that_pauses_after_failures_is_alive(one: d.Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = Moments(monkeypatch)
    one._cycle_over = moments.now
    for _ in range(10):
        one._failures.add(one.settings.schedule.interval)
    moments.now += d.LONGEST_PAUSE.total_seconds() + 899
    assert one._alive()
    moments.now += 2
    assert not one._alive()


def test_an_outage_leaves_it_alive(one: d.Daemon, traffic: Counters, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = Moments(monkeypatch)
    one._cycle_over = moments.now
    for _ in range(50):
        moments.now += 800
        traffic.sign = moments.now
        assert one._alive()
    moments.now += 901
    assert not one._alive()
    traffic.sign = moments.now
    assert one._alive(), "it works again"


def test_a_worker_that_has_ended_is_not_alive(one: d.Daemon) -> None:
    async def run() -> None:
        one._tasks = [asyncio.create_task(asyncio.sleep(0))]
        assert one._alive()
        await asyncio.gather(*one._tasks)
        assert not one._alive()

    asyncio.run(run())


def test_a_token_that_cannot_be_had_is_a_sign_of_life_of_jumpcloud(world: World, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)
    dead = world.front.url
    world.write_settings(
        jumpcloud=f'[jumpcloud]\napplication = "Keeper"\nclient_id = "id"\nclient_secret = {{ file = "{secret}" }}\n'
        f'base_url = "{dead}"\noauth_url = "{dead}"\n'
    )

    async def run() -> None:
        async with services(load(world.folder / "config.toml")) as both:
            counters = dict(both.traffic)["jumpcloud"]
            with pytest.raises(Exception, match="token"):
                await both.jumpcloud.person(email="ada@example.com")
            assert counters.requests > 0
            assert counters.sign > 0
            assert counters.waiting == 0

    asyncio.run(run())
