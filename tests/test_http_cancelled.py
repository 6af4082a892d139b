"""A request that is cancelled, at whatever await, costs the client nothing: neither a place nor a connection."""

import asyncio
import gc
import os
import ssl
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest

from reconciler import cycle
from reconciler.config import load
from reconciler.http import Headers, Http, HttpError, Limits, Pace, Reply, Unanswered
from reconciler.jumpcloud import JumpCloudError
from reconciler.keeper import KeeperError
from reconciler.simulator import faults
from reconciler.store import Store
from reconciler.tasks import together
from reconciler.wiring import services
from tests.stage import World
from tests.test_http import certificate

__all__ = ["certificate"]

T = TypeVar("T")
AT_ONCE = 5.0
"""Seconds within which the next request must be answered; it takes some milliseconds."""
MOST_AWAITS = 300


class Cancelled:
    """Runs work in this task and cancels the task where it awaits for the given times, counted from 1."""

    def __init__(self, *awaits: int) -> None:
        self.awaits = awaits
        self.count = 0

    @types.coroutine
    def _run(self, work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        task = asyncio.current_task()
        assert task is not None
        proceed: Callable[[Any], Any] = work.send
        given: Any = None
        while True:
            try:
                awaited = proceed(given)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            self.count += 1
            if self.count in self.awaits:
                task.cancel()
            try:
                proceed, given = work.send, (yield awaited)
            except BaseException as error:
                proceed, given = work.throw, error

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        return await self._run(work)


async def at_once(work: Awaitable[T]) -> T:
    async with asyncio.timeout(AT_ONCE):
        return await work


def sockets() -> int:
    """How many sockets this process has open."""
    gc.collect()
    names = [os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    return sum(os.path.exists(name) and os.readlink(name).startswith("socket:") for name in names)


@asynccontextmanager
async def no_socket_left() -> AsyncIterator[None]:
    """All sockets that are opened inside are closed in the end."""
    before = sockets()
    yield
    await until(lambda: sockets() <= before)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(AT_ONCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def every_await(
    request: Callable[[], Coroutine[Any, Any, object]], works: Callable[[], Awaitable[object]], *more: int
) -> int:
    """Cancel the request at its first await, its second, and so on to its last, and see that the next one works.

    `more`: cancel it again so many awaits later, while it is being unwound. Returns how many cancellations there were.
    """
    for number in range(1, MOST_AWAITS):
        cancelled = Cancelled(number, *(number + later for later in more))
        with suppress(asyncio.CancelledError, HttpError):
            await asyncio.create_task(cancelled.run(request()))
        await at_once(works())
        if cancelled.count < number:
            return number - 1
    raise AssertionError("the request never ended")


@asynccontextmanager
async def node(tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A service that answers, refuses /refused, and is silent at /silent or in the middle of the reply to /half."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1]
                if path == b"/half":
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n{")
                if path in (b"/half", b"/silent"):
                    await reader.read()
                    break
                status = b"403 Forbidden" if path == b"/refused" else b"200 OK"
                writer.write(b"HTTP/1.1 %s\r\ncontent-length: 2\r\n\r\n{}" % status)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        host, port = server.sockets[0].getsockname()
        yield f"{'https' if tls else 'http'}://{host}:{port}"
    finally:
        server.close()


def client(url: str, in_flight: int = 2, headers: Headers | None = None) -> Http:
    return Http(
        service="Keeper",
        base_url=url,
        headers=headers or {},
        pace=Pace(1e6, 1e6),
        in_flight=in_flight,
        limits=Limits(attempts=1),
    )


async def get(http: Http, path: str = "/Users") -> Reply:
    return await http.request("GET", path, repeatable=True)


async def hasty(http: Http, path: str) -> None:
    """A request whose caller does not wait for ever."""
    with suppress(TimeoutError):
        async with asyncio.timeout(0.1):
            await get(http, path)


async def all_places(http: Http, in_flight: int) -> None:
    """So many requests can be under way at once, more than once."""
    for _ in range(2):
        together_now = [asyncio.create_task(get(http, "/silent")) for _ in range(in_flight)]
        goal = http.counters.requests + in_flight
        await until(lambda: http.counters.requests >= goal)  # noqa: B023 - called before the next round
        for task in together_now:
            task.cancel()
        await asyncio.gather(*together_now, return_exceptions=True)
    assert all(reply.status == 200 for reply in await at_once(together(get(http) for _ in range(3 * in_flight))))


@pytest.mark.parametrize("more", [(), (1,), (2,), (1, 2, 3)])
@pytest.mark.parametrize("path", ["/Users", "/silent", "/half"])
def test_a_request_cancelled_at_any_await_costs_nothing(path: str, more: tuple[int, ...]) -> None:
    async def run() -> int:
        async with no_socket_left(), node() as url, client(url) as http:
            total = await every_await(lambda: hasty(http, path), lambda: get(http), *more)
            assert all(reply.status == 200 for reply in await at_once(together(get(http) for _ in range(20))))
            return total

    assert asyncio.run(run()) >= 1


@pytest.mark.parametrize("path", ["/Users", "/silent"])
def test_a_request_cancelled_at_any_await_of_a_tls_connection_costs_nothing(
    path: str, certificate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, certificate.with_name("key.pem"))

    async def run() -> int:
        async with no_socket_left(), node(tls) as url, client(url) as http:

            async def fresh() -> None:
                for connection in list(http._clients._idle):
                    await connection.aclose()
                http._clients._idle.clear()
                await hasty(http, path)

            return await every_await(fresh, lambda: get(http))

    assert asyncio.run(run()) >= 1


def test_a_request_cancelled_while_it_waits_for_credentials_a_place_or_its_pause_costs_nothing() -> None:
    async def credentials() -> Mapping[str, str]:
        for _ in range(4):
            await asyncio.sleep(0)
        return {"x-api-key": "key"}

    async def run() -> None:
        async with no_socket_left(), node() as url, client(url, headers=credentials) as http:
            assert await every_await(lambda: get(http), lambda: get(http)) >= 8
            await all_places(http, 2)
            busy = [asyncio.create_task(get(http, "/silent")) for _ in range(2)]
            await asyncio.sleep(0)
            assert await every_await(lambda: hasty(http, "/Users"), lambda: asyncio.sleep(0)) >= 1
            for task in busy:
                task.cancel()
            await asyncio.gather(*busy, return_exceptions=True)
            await all_places(http, 2)
        slow = Pace(50, 50)
        async with node() as url, client(url, headers=credentials) as http:
            http._pace = slow
            slow.limit(2)
            assert await every_await(lambda: get(http), lambda: asyncio.sleep(0)) >= 4
            await all_places(http, 2)

    asyncio.run(run())


def test_credentials_that_fail_or_hang_keep_no_place() -> None:
    trouble: list[BaseException | None] = [ValueError("x"), HttpErrorInside(), asyncio.CancelledError(), None]

    async def credentials() -> Mapping[str, str]:
        await asyncio.sleep(0)
        if error := trouble.pop(0) if len(trouble) > 1 else trouble[0]:
            raise error
        return {}

    async def run() -> None:
        async with node() as url, client(url, in_flight=1, headers=credentials) as http:
            for _ in range(3):
                with pytest.raises((ValueError, HttpErrorInside, asyncio.CancelledError)):
                    await get(http)
            assert (await at_once(get(http))).status == 200

    asyncio.run(run())


class HttpErrorInside(Exception):
    """An error of whoever gives the credentials."""


def test_thousands_of_refused_and_cancelled_reads_leave_the_client_as_it_was() -> None:
    async def refused(http: Http) -> Reply:
        reply = await get(http, "/refused")
        if reply.status == 403:
            raise LookupError
        return reply

    async def run() -> int:
        async with no_socket_left(), node() as url, client(url, in_flight=8) as http:
            for number in range(60):
                reads = [get(http, path) for path in ("/silent", "/half", "/Users", "/silent") * 10]
                reads.insert(number % 8, refused(http))
                with pytest.raises(LookupError):
                    await at_once(together(reads))
                if number % 10 == 0:
                    assert (await at_once(get(http))).status == 200
            await all_places(http, 8)
            return http.counters.requests

    assert asyncio.run(run()) > 200


def test_a_wait_that_is_cut_from_outside_leaves_the_client_as_it_was() -> None:
    async def run() -> None:
        async with no_socket_left(), node() as url, client(url) as http:
            for _ in range(30):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(get(http, "/silent"), 0.01)
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await get(http, "/half")
            await all_places(http, 2)

    asyncio.run(run())


@pytest.mark.parametrize("broken", ["/silent", "/half"])
def test_a_connection_is_used_again_after_a_whole_reply_only(broken: str) -> None:
    async def run() -> None:
        async with node() as url, client(url, in_flight=1) as http:
            await get(http)
            (first,) = http._clients._idle
            await get(http, "/refused")
            assert http._clients._idle == [first]
            http._limits = Limits(reply=0.05, attempts=1)
            with pytest.raises(Unanswered):
                await get(http, broken)
            assert http._clients._idle == []
            await until(lambda: first.is_closed)

    asyncio.run(run())


def test_the_end_of_a_client_can_be_cancelled_and_leaves_no_socket() -> None:
    async def run() -> None:
        for number in range(1, 6):
            async with no_socket_left(), node() as url:
                http = client(url, in_flight=3)
                flying = [asyncio.create_task(get(http, "/silent")) for _ in range(2)]
                await get(http)
                with suppress(asyncio.CancelledError):
                    await asyncio.create_task(Cancelled(number).run(http.__aexit__(None, None, None)))
                for task in flying:
                    task.cancel()
                await asyncio.gather(*flying, return_exceptions=True)

    asyncio.run(run())


def test_a_request_that_is_under_way_at_the_end_of_its_client_is_finished() -> None:
    async def run() -> None:
        go = asyncio.Event()

        async def credentials() -> Mapping[str, str]:
            await go.wait()
            return {}

        async with no_socket_left(), node() as url:
            async with client(url, headers=credentials) as http:
                flying = asyncio.create_task(get(http))
                await asyncio.sleep(0)
            go.set()
            assert (await at_once(flying)).status == 200

    asyncio.run(run())


# Both services


def test_every_read_of_both_services_can_be_cancelled_at_any_await(world: World) -> None:
    groups = [world.group("Engineering"), world.group("Sales")]
    people = [world.person(f"p{number}", groups[number % 2]) for number in range(4)]
    for number, one in enumerate(people):
        world.keeper.add_user(f"p{number}@example.com", external_id=one)

    async def run() -> None:
        async with no_socket_left(), services(load(world.folder / "config.toml")) as both:

            async def jc() -> object:
                return await both.jumpcloud.person(email="p1@example.com")

            async def kp() -> object:
                return await both.keeper.listing()

            for one, other in ((jc, kp), (kp, jc)):
                assert await every_await(one, one) >= 5
                await at_once(other())
            # Refused beside others that are not answered: the first failure cancels the rest.
            world.front.faults.add(faults.status(403, b"{}"), target="/usergroups", probability=0.5)
            world.front.faults.add(faults.hang(), probability=0.5)
            world.back.faults.add(faults.status(403, b"{}"), target="/Users/")
            world.back.faults.add(faults.hang(), target="/Users/", probability=0.5)
            for _ in range(12):
                for read in (both.jumpcloud.read_scope(None), both.keeper.listing([f"{n}" * 12 for n in range(1, 10)])):
                    with suppress(JumpCloudError, KeeperError, TimeoutError):
                        async with asyncio.timeout(0.15):
                            await read
            world.front.faults.clear()
            world.back.faults.clear()
            await at_once(jc())
            await at_once(kp())

    asyncio.run(run())


def test_cycles_that_failed_and_were_broken_off_do_not_keep_the_next_one_from_working(world: World) -> None:
    group = world.group("Engineering")
    for number in range(5):
        world.person(f"p{number}", group)
    settings = load(world.folder / "config.toml")

    async def run() -> str:
        async with services(settings) as both:
            with Store.open(settings.state_path(), write=True) as store:

                async def one() -> cycle.Outcome:
                    return await cycle.run(settings, both, store, cycle.Order(), lambda: datetime.now(UTC))

                for number in range(12):
                    world.front.faults.clear()
                    world.back.faults.clear()
                    world.front.faults.add(faults.hang(), skip=number % 5)
                    world.front.faults.add(faults.status(401, b"{}"), skip=number % 7)
                    world.back.faults.add(faults.hang(), skip=number % 3)
                    with suppress(JumpCloudError, KeeperError, TimeoutError):
                        async with asyncio.timeout(0.25):
                            await one()
                world.front.faults.clear()
                world.back.faults.clear()
                async with asyncio.timeout(20):
                    return (await one()).result

    assert asyncio.run(run()) == "done"
    assert world.differences() == []
