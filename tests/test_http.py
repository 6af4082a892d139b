import asyncio
import gzip
import logging
import shutil
import socket
import ssl
import subprocess
import traceback
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
from loguru import logger

from reconciler import http
from reconciler.evidence_age import Stamp, last_moment, others_wait
from reconciler.http import (
    BadReply,
    Call,
    Clock,
    Http,
    HttpError,
    Limits,
    Pace,
    Redirected,
    Reply,
    Throttled,
    TooLate,
    Unanswered,
    Unreachable,
)
from reconciler.http_replies import Odd

TOKEN = "s3cret-token-0123456789"
CREDENTIALS = {"x-api-key": TOKEN}
FAR = "https://service.example"

Answer = httpx.Response | Exception


class Time:
    """A clock that only sleeping moves."""

    def __init__(self, chance: float = 0.0) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self._chance = chance

    @property
    def clock(self) -> Clock:
        return Clock(
            lambda: self.now, lambda: 1_800_000_000.0, self.sleep, lambda: self._chance, boottime=lambda: self.now
        )

    async def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 3))
        self.now += seconds
        await asyncio.sleep(0)


class Service:
    """Gives the answers in their order, the last one for ever, and keeps the requests."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def answer(status: int, body: bytes = b"", /, **headers: str) -> httpx.Response:
    return httpx.Response(
        status, headers={name.replace("_", "-"): value for name, value in headers.items()}, content=body
    )


def client(service: Service, time: Time, **options: Any) -> Http:
    settings: dict[str, Any] = {
        "service": "Keeper",
        "base_url": FAR,
        "headers": CREDENTIALS,
        "pace": Pace(1e6, 1e6, clock=time.clock),
        "in_flight": 1,
        "clock": time.clock,
        "transport": httpx.MockTransport(service),
    }
    return Http(**{**settings, **options})


def ask(service: Service, time: Time, method: str = "GET", *, repeatable: bool = True, **options: Any) -> Reply:
    async def run() -> Reply:
        async with client(service, time, **options) as http:
            return await http.request(method, "/Users", repeatable=repeatable)

    return asyncio.run(run())


def failure(service: Service, time: Time, method: str = "GET", *, repeatable: bool = True, **options: Any) -> HttpError:
    with pytest.raises(HttpError) as caught:
        ask(service, time, method, repeatable=repeatable, **options)
    return caught.value


def create(service: Service, time: Time) -> Reply:
    return ask(service, time, "POST", repeatable=False)


# What is a definite answer, and what is asked again


@pytest.mark.parametrize("status", [200, 201, 204, 400, 401, 403, 404, 409, 428, 501])
def test_a_definite_answer_is_returned_at_once(status: int) -> None:
    service = Service(answer(status, b"body" if status != 204 else b""))
    reply = create(service, Time())
    assert (reply.status, len(service.requests)) == (status, 1)


@pytest.mark.parametrize("trouble", [answer(500), answer(502), answer(503), answer(504), answer(520)])
def test_a_failing_service_is_asked_again_where_repeating_is_safe(trouble: httpx.Response) -> None:
    service = Service(trouble, trouble, answer(200))
    assert ask(service, Time()).status == 200
    assert len(service.requests) == 3


@pytest.mark.parametrize(
    "trouble",
    [
        answer(500),
        answer(503),
        httpx.ReadTimeout("late"),
        httpx.ReadError("cut"),
        httpx.WriteError("cut"),
        httpx.RemoteProtocolError("cut"),
    ],
)
def test_a_creation_that_may_have_arrived_is_never_sent_twice(trouble: Answer) -> None:
    service = Service(trouble, answer(201))
    error = failure(service, Time(), "POST", repeatable=False)
    assert type(error) is Unanswered
    assert "may have taken effect" in str(error)
    assert len(service.requests) == 1


@pytest.mark.parametrize("trouble", [httpx.ConnectError("refused"), httpx.ConnectTimeout("late"), answer(429)])
def test_a_creation_that_did_not_arrive_is_sent_again(trouble: Answer) -> None:
    service = Service(trouble, trouble, answer(201))
    assert create(service, Time()).status == 201
    assert len(service.requests) == 3


def test_attempts_are_bounded_and_the_last_trouble_is_named() -> None:
    service = Service(answer(503))
    error = failure(service, Time(), limits=Limits(attempts=4))
    assert type(error) is Unanswered
    assert (error.service, error.method, error.path) == ("Keeper", "GET", "/Users")
    assert (error.attempts, error.status, len(service.requests)) == (4, 503, 4)
    assert str(error).startswith("Keeper: GET /Users: the service failed with status 503 (4 attempts). ")


def test_one_attempt_that_may_have_arrived_decides_whatever_follows() -> None:
    service = Service(httpx.ReadTimeout("late"), httpx.ConnectError("refused"))
    assert type(failure(service, Time(), "PATCH")) is Unanswered
    never = Service(httpx.ConnectError("refused"))
    error = failure(never, Time(), "PATCH")
    assert type(error) is Unreachable
    assert "may have taken effect" not in str(error)


@pytest.mark.parametrize(("chance", "waits"), [(0.0, [1, 1, 1, 1, 1]), (1.0, [2, 4, 8, 16, 30])])
def test_waits_have_full_jitter_between_1_and_30_seconds(chance: float, waits: list[float]) -> None:
    time = Time(chance)
    failure(Service(answer(503)), time)
    assert time.slept == waits


def test_credentials_are_asked_for_before_every_attempt() -> None:
    given = iter(["first", "second"])

    async def headers() -> Mapping[str, str]:
        return {"authorization": f"Bearer {next(given)}"}

    service = Service(answer(503), answer(200))
    ask(service, Time(), headers=headers)
    assert [r.headers["authorization"] for r in service.requests] == ["Bearer first", "Bearer second"]


# Throttling


@pytest.mark.parametrize(
    ("told", "wait"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": "0"}, 1.0),
        ({"retry_after": "Fri, 15 Jan 2027 08:00:42 GMT"}, 42.0),
        ({"retry_after": "Fri, 01 Jan 2027 00:00:00 GMT"}, 1.0),
        # The service's clock is an hour ahead of ours.
        ({"retry_after": "Fri, 15 Jan 2027 09:00:09 GMT", "date": "Fri, 15 Jan 2027 09:00:00 GMT"}, 9.0),
        ({"retry_after": "soon"}, 1.0),
        ({"retry_after": "-5"}, 1.0),
        ({}, 1.0),
    ],
)
def test_retry_after_is_honoured(told: dict[str, str], wait: float) -> None:
    time = Time()
    assert create(Service(answer(429, **told), answer(201)), time).status == 201
    assert time.slept == [wait]


@pytest.mark.parametrize("told", ["301", "86400", "9" * 5000, "Fri, 15 Jan 2027 09:00:00 GMT"])
def test_too_long_a_retry_after_fails_at_once(told: str) -> None:
    time, service = Time(), Service(answer(429, retry_after=told))
    error = failure(service, time, "POST", repeatable=False)
    assert type(error) is Throttled
    assert "asks to wait" in str(error)
    assert (len(service.requests), time.slept) == (1, [])


@pytest.mark.parametrize(
    ("message", "wait"),
    [
        ("Due to repeated attempts, wait 30 seconds", 30.0),
        ("try again in 2 minutes.", 120.0),
        ("try again in 900 minutes.", 300.0),
        ("throttled", 60.0),
    ],
)
def test_keepers_403_for_throttling_is_waited_out(message: str, wait: float) -> None:
    body = b'{"error": "throttled", "message": "%s"}' % message.encode()
    time = Time()
    assert create(Service(answer(403, body), answer(201)), time).status == 201
    assert time.slept == [wait]


@pytest.mark.parametrize("body", [b'{"error": "access_denied"}', b"<html>", b"", b'["throttled"]'])
def test_any_other_403_is_an_answer(body: bytes) -> None:
    assert ask(Service(answer(403, body)), Time()).status == 403


def test_throttled_for_ever_is_given_up_and_known_not_to_have_taken_effect() -> None:
    error = failure(Service(answer(429)), Time(), "POST", repeatable=False)
    assert type(error) is Throttled
    assert (error.attempts, error.status) == (6, 429)


def test_the_time_for_one_request_is_bounded() -> None:
    service = Service(answer(429, retry_after="200"))
    error = failure(service, Time(), limits=Limits(attempts=100, total=500))
    assert error.attempts == 3


def test_a_creation_answered_503_with_retry_after_makes_the_next_request_wait() -> None:
    time = Time()

    async def run() -> None:
        async with client(Service(answer(503, retry_after="20"), answer(200)), time) as http:
            with pytest.raises(Unanswered):
                await http.request("POST", "/Users", repeatable=False)
            assert time.slept == []
            await http.request("GET", "/Users", repeatable=True)

    asyncio.run(run())
    assert time.slept == [20.0]


def test_too_long_a_retry_after_keeps_nobody_else_waiting() -> None:
    time = Time()

    async def run() -> int:
        async with client(Service(answer(429, retry_after="3600"), answer(200)), time) as http:
            with pytest.raises(Throttled):
                await http.request("GET", "/Users", repeatable=True)
            return (await http.request("GET", "/Users", repeatable=True)).status

    assert asyncio.run(run()) == 200
    assert sum(time.slept) < 1


class OneAsks:
    """Answers all requests but those for one record, which always asks to wait; when each came, by its path."""

    def __init__(self, time: Time, asks: httpx.Response) -> None:
        self.time, self.asks = time, asks
        self.came: list[tuple[str, float]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.came.append((request.url.path, self.time.now))
        told = self.asks if request.url.path == "/odd" else answer(200)
        return httpx.Response(told.status_code, headers=told.headers)


async def get(http: Http, path: str, *, repeatable: bool = True, **params: int) -> HttpError | None:
    try:
        await http.request("GET", path, params=params, repeatable=repeatable)
    except HttpError as error:
        return error
    return None


@pytest.mark.parametrize(("status", "attempts"), [(429, 6), (503, 1)])
def test_one_record_that_asks_to_wait_stops_the_others_once(status: int, attempts: int) -> None:
    time = Time()
    service = OneAsks(time, answer(status, retry_after="60"))

    async def run() -> None:
        async with client(Service(), time, transport=httpx.MockTransport(service)) as http:
            for _ in range(3):
                assert await get(http, "/odd", repeatable=False)
                assert [await get(http, f"/others/{n}") for n in range(5)] == [None] * 5

    asyncio.run(run())
    odd = [at for path, at in service.came if path == "/odd"]
    assert len(odd) == attempts + 2
    assert odd[-1] - odd[-2] < 1
    assert odd[-1] - service.came[0][1] == pytest.approx(60 * attempts, abs=1)


def test_a_page_that_is_throttled_alone_says_nothing_of_the_next_one() -> None:
    time = Time()
    service = OneAsks(time, answer(503, retry_after="60"))

    async def run() -> float:
        async with client(Service(), time, transport=httpx.MockTransport(service)) as http:
            for skip in (0, 0, 100):
                assert await get(http, "/odd", repeatable=False, skip=skip)
                began = time.now
                assert [await get(http, f"/others/{n}") for n in range(5)] == [None] * 5
        return time.now - began

    assert asyncio.run(run()) >= 60


def test_whoever_is_throttled_alone_waits_within_its_patience() -> None:
    time = Time()
    service = OneAsks(time, answer(429, retry_after="20"))

    async def run() -> tuple[HttpError | None, HttpError | None]:
        async with client(Service(), time, transport=httpx.MockTransport(service)) as http:
            await get(http, "/odd")
            assert [await get(http, f"/others/{n}") for n in range(5)] == [None] * 5
            with others_wait():
                hasty = await get(http, "/odd")
            return hasty, await get(http, "/odd")

    hasty, patient = asyncio.run(run())
    assert hasty is not None and hasty.attempts == 2
    assert patient is not None and patient.attempts == 6


def test_a_service_that_throttles_all_is_asked_no_sooner_than_it_says() -> None:
    time = Time()
    came: list[float] = []

    def busy(_: httpx.Request) -> httpx.Response:
        came.append(time.now)
        return httpx.Response(429, headers={"retry-after": "60"})

    async def run() -> None:
        async with client(Service(), time, transport=httpx.MockTransport(busy)) as http:
            for n in range(4):
                assert await get(http, f"/others/{n}")

    asyncio.run(run())
    assert len(came) == 24
    assert came[-1] - came[0] >= 23 * 60


def test_counters_tell_requests_retries_and_throttling() -> None:
    time = Time()

    async def run() -> tuple[int, int, int]:
        async with client(Service(answer(429), answer(502), answer(200)), time) as http:
            await http.request("GET", "/Users", repeatable=True)
            return http.counters.requests, http.counters.retries, http.counters.throttled

    assert asyncio.run(run()) == (3, 2, 1)


# The pace


def test_the_pace_spaces_the_starts_of_all_workers() -> None:
    time = Time()
    pace = Pace(4, 10, clock=time.clock)

    async def run() -> list[float]:
        return await asyncio.gather(*(pace.turn() for _ in range(5)))

    assert asyncio.run(run()) == [1000.0, 1000.25, 1000.5, 1000.75, 1001.0]


def test_the_pace_halves_once_for_a_burst_of_throttled_workers() -> None:
    time = Time()
    pace = Pace(8, 10, clock=time.clock)
    time.now += 1
    assert [pace.throttled("/Users", began=1000.0 + n / 10, wait=5) for n in range(4)] == [True, False, False, False]
    assert pace.rate == 4
    time.now += 6
    assert pace.throttled("/Users", began=time.now, wait=5)
    assert pace.rate == 2


def test_the_pace_has_a_floor_and_grows_slowly_to_its_ceiling() -> None:
    time = Time()
    pace = Pace(5, 6, clock=time.clock)
    for _ in range(10):
        time.now += 1
        pace.throttled("/Users", time.now, 0)
    assert pace.rate == 0.5
    pace = Pace(5, 6, clock=time.clock)
    for _ in range(5):  # what one second brings
        pace.answered("/Users", time.now)
    assert 5.05 < pace.rate < 5.15
    for _ in range(200):
        pace.answered("/Users", time.now)
    assert pace.rate == 6


def test_answers_raise_the_pace_and_failures_do_not() -> None:
    time = Time()
    pace = Pace(5, 10, clock=time.clock)
    failure(Service(answer(503)), time, pace=pace)
    assert pace.rate == 5
    ask(Service(answer(404)), time, pace=pace)
    assert 5 < pace.rate < 5.1


def test_everybody_waits_while_the_service_asks_for_it() -> None:
    time = Time()
    pace = Pace(1, 1, clock=time.clock)

    async def run() -> float:
        await pace.turn()
        waiting = asyncio.create_task(pace.turn())
        await asyncio.sleep(0)
        pace.throttled("/Users", began=1000.0, wait=60)  # while the other one already waits for its turn
        return await waiting

    assert asyncio.run(run()) >= 1060


def test_loopback_has_no_pace_until_it_throttles() -> None:
    time = Time()
    pace = Pace(4, 10, clock=time.clock)
    service = Service(answer(200), answer(200), answer(429, retry_after="3"), answer(200))

    async def run() -> None:
        async with client(service, time, base_url="http://127.0.0.1:9", pace=pace) as http:
            for _ in range(2):
                await http.request("GET", "/Users", repeatable=True)
            assert time.slept == []
            for _ in range(2):
                await http.request("GET", "/Users", repeatable=True)

    asyncio.run(run())
    assert time.slept[0] == 3
    assert 0.1 < time.slept[1] <= 0.2
    for _ in range(1000):
        pace.answered("/Users", time.now)
    assert pace.rate == float("inf")


def test_no_more_requests_are_in_flight_than_allowed() -> None:
    running: list[int] = [0, 0]

    class Slow(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            running[0] += 1
            running[1] = max(running)
            for _ in range(5):
                await asyncio.sleep(0)
            running[0] -= 1
            return httpx.Response(200, request=request)

    async def run() -> None:
        async with client(Service(answer(200)), Time(), transport=Slow(), in_flight=3) as http:
            await asyncio.gather(*(http.request("GET", f"/Users/{n}", repeatable=True) for n in range(10)))

    asyncio.run(run())
    assert running[1] == 3


# What is sent


def test_what_is_sent() -> None:
    service, time = Service(answer(200, set_cookie="session=1")), Time()

    async def run() -> None:
        headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/scim+json"}
        async with client(service, time, base_url=f"{FAR}/v2/", headers=headers) as http:
            await http.request("GET", "/Users", params={"startIndex": 1, "filter": "a b"}, repeatable=True)
            await http.request("POST", "/Groups", json={"displayName": "Zoë"}, repeatable=False)
        async with client(service, time) as http:
            await http.request("POST", "/token", form={"scope": "api"}, repeatable=True)

    asyncio.run(run())
    read, write, form = service.requests
    assert read.url.path == "/v2/Users"
    assert dict(read.url.params) == {"startIndex": "1", "filter": "a b"}
    assert read.headers["authorization"] == f"Bearer {TOKEN}"
    assert write.content == b'{"displayName": "Zo\\u00eb"}'
    assert write.headers["content-type"] == "application/scim+json"
    assert "cookie" not in write.headers
    assert form.content == b"scope=api"
    assert form.headers["content-type"] == "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    "path", ["", "/", "Users", "/Users/", "/Users//1", "/Users/..", "/Users/%2E%2e/x", "/a?b", "/a#b", "/a b", "/ä"]
)
def test_a_path_that_would_lead_elsewhere_is_refused(path: str) -> None:
    async def run() -> None:
        async with client(Service(answer(200)), Time()) as http:
            await http.request("DELETE", path, repeatable=True)

    with pytest.raises(ValueError, match="not a path"):
        asyncio.run(run())


@pytest.mark.parametrize("url", ["http://keepersecurity.com", "https://a:b@keepersecurity.com", "https://a/?b"])
def test_credentials_go_nowhere_insecure(url: str) -> None:
    with pytest.raises(ValueError, match=r"address|http"):
        client(Service(answer(200)), Time(), base_url=url)


@pytest.mark.parametrize("target", ["https://evil.example/x?token=abc", "//evil.example/x", "https://evil.example:9/"])
def test_a_redirect_is_refused_and_its_host_named(target: str) -> None:
    service = Service(answer(302, location=target))
    error = failure(service, Time())
    assert type(error) is Redirected
    assert len(service.requests) == 1
    assert "evil.example" in str(error)
    assert "abc" not in str(error)


@pytest.mark.parametrize(
    "target", ["javascript:alert(1)", "https://xn--/", "https://xn--a" + "-" * 90 + "/", "http://["]
)
def test_a_redirect_to_what_is_no_address_is_an_error_like_any_other(target: str) -> None:
    assert isinstance(failure(Service(answer(308, location=target)), Time()), HttpError)


def test_respx_serves_as_the_service() -> None:
    async def run() -> int:
        with respx.mock(base_url=FAR) as router:
            router.get("/Users").mock(side_effect=[httpx.ConnectError, httpx.Response(200)])
            async with client(Service(answer(500)), Time(), transport=None) as http:
                return (await http.request("GET", "/Users", repeatable=True)).status

    assert asyncio.run(run()) == 200


# Replies as JSON


def test_a_reply_of_a_great_many_empty_lists_is_not_read() -> None:
    body = b"[" + b"[]," * (http.MAX_PARTS // 2) + b"0]"
    with pytest.raises(BadReply, match="more values"):
        Reply(200, {}, body, Call("Keeper", "GET", "/Users")).json()


CUT_OR_BROKEN = [
    b"\xff",
    b"\x01",
    b"Na",
    b"-NaN",
    b'"\xff',
    b'"a\x01',
    b'"a\x01\\"',
    b'["a\xff", 1',
    b'{"a": NaN, "b": "c',
    b'{"a": "\xff"',
    b'{"a": "\xff", "b"}',
    b'["\x01": 1]',
    b'["\x01""\x01"]',
    b'[1"\x01"]',
    b'[-"\x01"]',
    b'{"\xff" 1}',
    b"{NaN: 1}",
    b"[NaN] 1",
    b'["\xff", "\\q"]',
    b'["\xff"]\xff',
    '["text"]'.encode("utf-16"),
]
"""Documents that are none, most of them beside a value that may be odd."""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "empty"),
        (b"<html>", "not JSON but a web page"),
        (b'{"a": 1', "not JSON"),
        *((body, "not JSON") for body in CUT_OR_BROKEN),
        pytest.param(b"[" * 100_000, "not JSON", id="deep"),
        pytest.param(b"[" * 1500 + b"]" * 1499, "not JSON", id="deep and cut"),
        pytest.param(b"[" * 1500 + b"]" * 1501, "not JSON", id="deep and more"),
    ],
)
def test_what_is_no_json_is_said_clearly(body: bytes, said: str) -> None:
    reply = Reply(200, {"content-type": "text/html"}, body, Call("Keeper", "GET", "/Users"))
    with pytest.raises(BadReply) as caught:
        reply.json()
    assert said in str(caught.value)
    assert str(caught.value).startswith("Keeper: GET /Users: the reply ")
    assert caught.value.__context__ is None


def parsed(body: bytes) -> Any:
    return Reply(200, {}, body, Call("Keeper", "GET", "/Users")).json()


@pytest.mark.parametrize(
    "value",
    [
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"-" + b"9" * 5000 + b".5",
        b"9" * 5000,
        b'"\xff"',
        b'"caf\xc3"',
        b'"\xed\xa0\x80"',
        b'"a\x01b"',
        b'"a\nb \\" c"',
        b'{"a": 1, "b\xff": 2}',
    ],
)
def test_a_value_that_cannot_be_read_is_odd_and_spoils_no_other(value: bytes) -> None:
    body = b'[{"id": 1, "x": ' + value + b', "y": ["a\\nb", "", 2.5]}, {"id": "1", "x": "\\ufffd\\"\\u0001"}]'
    first, second = parsed(body)
    odd = first.pop("x")
    assert isinstance(odd, Odd) and odd != Odd() and not isinstance(odd, (str, int, float, list, dict))
    assert first == {"id": 1, "y": ["a\nb", "", 2.5]} and second == {"id": "1", "x": '\ufffd"\x01'}
    for end in range(len(body)):
        with pytest.raises(BadReply):
            parsed(body[:end])


@pytest.mark.parametrize(("begin", "end"), [(b"[", b"]"), (b'[{"]\\"": ', b"}]")])
def test_what_is_nested_too_deep_is_odd_and_spoils_no_other(begin: bytes, end: bytes) -> None:
    deep = begin * 1500 + b'{"]": "[\\"{"}' + end * 1500
    first, second = parsed(b'[{"id": 1, "x": ' + deep + b', "y": [NaN, "]"]}, {"id": "1", "x": ["{"]}]')
    inner = first["x"]
    while isinstance(inner, list | dict):
        [inner] = inner if isinstance(inner, list) else inner.values()
    assert isinstance(inner, Odd) and first["y"][1] == "]" and second == {"id": "1", "x": ["{"]}


def test_a_record_with_a_key_that_cannot_be_read_is_odd_as_a_whole() -> None:
    good, odd = parsed(b'[{"suspended": false}, {"susp\xffended" : true, "id": 1}]')
    assert good == {"suspended": False} and isinstance(odd, Odd)


@pytest.mark.parametrize("begin", [b"", b"[" * 1500])
@pytest.mark.parametrize("piece", [b'\\"', b"\\", b'"', b'"\xff"', b'"\x01" ', b'"" : ', b" "])
def test_a_long_reply_that_is_no_json_takes_no_longer_than_it_must(begin: bytes, piece: bytes) -> None:
    with pytest.raises(BadReply):
        parsed(begin + b'"\xff' + piece * (2_000_000 // len(piece)))


def test_json_with_a_byte_order_mark_or_a_key_twice_passes() -> None:
    reply = Reply(200, {}, b'\xef\xbb\xbf{"a": 1, "a": 2.5}', Call("Keeper", "GET", "/Users"))
    assert reply.json() == {"a": 2.5}


# Over real sockets

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


@asynccontextmanager
async def serving(*steps: bytes | Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server that answers each request by the next step, the last one for ever: bytes, then the end, or code."""
    left = list(steps)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            step = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(step, bytes):
                writer.write(step)
            else:
                await step(reader, writer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        host, port = server.sockets[0].getsockname()
        yield f"{'https' if tls else 'http'}://{host}:{port}"
    finally:
        server.close()
        await server.wait_closed()


def over_socket(
    *steps: bytes | Handler, method: str = "GET", tls: ssl.SSLContext | None = None, **options: Any
) -> list[Reply | HttpError]:
    """Two requests in a row: what became of each. The second shows whether the first left the client usable."""

    async def run() -> list[Reply | HttpError]:
        results: list[Reply | HttpError] = []
        async with (
            serving(*steps, tls=tls) as url,
            client(Service(answer(500)), Time(), base_url=url, transport=None, **options) as http,
        ):
            for _ in range(2):
                try:
                    results.append(await http.request(method, "/x", repeatable=method != "POST"))
                except HttpError as error:
                    results.append(error)
        return results

    return asyncio.run(run())


TRUNCATED = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"


@pytest.mark.parametrize("broken", [b"", b"HTTP/1.1 20", TRUNCATED, b"garbage\r\n\r\n"])
def test_a_cut_connection_is_repeated_or_unanswered(broken: bytes) -> None:
    first, second = over_socket(broken, OK)
    assert isinstance(first, Reply)
    assert isinstance(second, Reply)
    first, second = over_socket(broken, OK, method="POST")
    assert isinstance(first, Unanswered)
    assert isinstance(second, Reply)


def coded(body: bytes, coding: str = "gzip") -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def test_gzip_is_taken_and_damage_is_noticed() -> None:
    whole = gzip.compress(b'{"a": 1}' * 100)
    first, _ = over_socket(coded(whole))
    assert isinstance(first, Reply)
    assert first.body == b'{"a": 1}' * 100
    for damaged in (coded(whole[:-9]), coded(b"no gzip"), coded(b"x", "br")):
        first, second = over_socket(damaged, OK, method="POST")
        assert isinstance(first, Unanswered)
        assert isinstance(second, Reply)


async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"400\r\n" + b" " * 1024 + b"\r\n")
        await writer.drain()


@pytest.mark.parametrize("flood", [endless, coded(gzip.compress(bytes(50_000_000)))])
def test_too_large_an_answer_is_refused_early_and_not_asked_for_again(flood: bytes | Handler) -> None:
    first, second = over_socket(flood, OK, limits=Limits(reply_bytes=100_000))
    assert isinstance(first, Unanswered)
    assert first.attempts == 1
    assert "larger than 100000 bytes" in str(first)
    assert isinstance(second, Reply)


def test_a_small_answer_that_unpacks_to_a_large_one_takes_no_memory() -> None:
    bomb = coded(gzip.compress(bytes(20_000_000)))
    tracemalloc.start()
    try:
        first, _ = over_socket(bomb, limits=Limits(reply_bytes=100_000))
        assert isinstance(first, Unanswered)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_an_answer_of_just_the_largest_size_passes() -> None:
    for flood in (coded(gzip.compress(bytes(1000))), coded(bytes(1000), "identity")):
        assert isinstance(over_socket(flood, limits=Limits(reply_bytes=1000))[0], Reply)
        assert isinstance(over_socket(flood, limits=Limits(reply_bytes=999))[0], Unanswered)


async def dripping(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.001)


async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


@pytest.mark.parametrize(
    ("late", "limits", "said"),
    [
        (dripping, Limits(reply=0.05, attempts=1), "not complete within 0.05 s"),
        (silent, Limits(read=0.05, attempts=1), "no answer within 0.05 s"),
    ],
)
def test_a_late_answer_is_given_up(late: Handler, limits: Limits, said: str) -> None:
    first, _ = over_socket(late, limits=limits)
    assert isinstance(first, Unanswered)
    assert said in str(first)


def test_a_client_serves_on_after_a_late_answer() -> None:
    first, second = over_socket(silent, OK, method="POST", limits=Limits(read=0.05))
    assert isinstance(first, Unanswered)
    assert isinstance(second, Reply)


def test_a_refused_connection_is_said_clearly() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        error = failure(Service(answer(200)), Time(), base_url=url, transport=None)
    assert type(error) is Unreachable
    assert "Connection refused" in str(error)


@pytest.mark.usefixtures("no_proxy")
def test_a_name_that_cannot_be_resolved_is_said_clearly() -> None:
    trouble = httpx.ConnectError("x")
    trouble.__cause__ = socket.gaierror(-2, "Name or service not known")
    error = failure(Service(trouble), Time())
    assert type(error) is Unreachable
    assert "service.example cannot be resolved" in str(error)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(
        [*command.split(), "-keyout", str(path.with_name("key.pem")), "-out", str(path)],
        check=True,
        capture_output=True,
    )
    return path


@pytest.mark.parametrize("variable", [None, "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_a_certificate_is_trusted_by_the_environment_only(
    variable: str | None, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    if variable is not None:
        monkeypatch.setenv(variable, str(certificate))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, certificate.with_name("key.pem"))
    first, _ = over_socket(OK, tls=tls)
    if variable is not None:
        assert isinstance(first, Reply)
    else:
        assert isinstance(first, Unreachable)
        assert first.attempts == 1
        assert "not trusted" in str(first)
        assert "SSL_CERT_FILE" in str(first)


@pytest.mark.parametrize(("code", "reason"), [(9, "certificate is not yet valid"), (10, "certificate has expired")])
def test_a_certificate_out_of_its_time_leads_to_the_clock_of_this_machine(code: int, reason: str) -> None:
    trouble, cause = httpx.ConnectError("x"), ssl.SSLCertVerificationError("x")
    cause.verify_code, cause.verify_message = code, reason
    trouble.__cause__ = cause
    error = failure(Service(trouble), Time())
    assert type(error) is Unreachable
    assert f"service.example is not trusted ({reason})" in str(error)
    assert "Look at the clock of this machine" in str(error)


def test_nothing_old_is_sent_by_a_machine_that_slept_while_it_connected(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network goes before the machine sleeps, and comes back after it: a connection is what survives the night."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, certificate.with_name("key.pem"))
    time = Time()
    served: list[bool] = []

    def sleep(*_: object) -> None:
        time.now += 8 * 3600

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(True)
        writer.write(OK)

    async def run() -> None:
        async with (
            serving(serve, tls=tls) as url,
            client(Service(answer(500)), time, base_url=url, transport=None) as http,
        ):
            tls.sni_callback = sleep
            with last_moment(Stamp.now(time.clock)), pytest.raises(TooLate):
                await http.request("PATCH", "/x", repeatable=True)
            assert not served
            tls.sni_callback = None
            with last_moment(Stamp.now(time.clock)):
                await http.request("PATCH", "/x", repeatable=True)
            assert served == [True]

    asyncio.run(run())


def test_unusable_certificates_in_the_environment_are_said_clearly(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    with pytest.raises(Unreachable, match="SSL_CERT_FILE"):
        client(Service(answer(200)), Time())


# Proxies


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


def through_proxy(monkeypatch: pytest.MonkeyPatch, reply: bytes) -> HttpError:
    async def run() -> None:
        async with serving(reply) as url:
            monkeypatch.setenv("HTTPS_PROXY", url.replace("http://", "http://clerk:pr0xy-pass@"))
            async with client(Service(answer(500)), Time(), transport=None) as http:
                await http.request("POST", "/Users", repeatable=False)

    with pytest.raises(HttpError) as caught:
        asyncio.run(run())
    assert "pr0xy-pass" not in str(caught.value)
    return caught.value


def test_a_proxy_that_refuses_is_said_clearly(no_proxy: pytest.MonkeyPatch) -> None:
    error = through_proxy(no_proxy, b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
    assert type(error) is Unreachable
    assert error.attempts == 1
    assert "proxy refused the connection with status 407" in str(error)
    error = through_proxy(no_proxy, b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
    assert type(error) is Unreachable
    assert error.attempts == 6


def test_loopback_is_never_asked_through_a_proxy(no_proxy: pytest.MonkeyPatch) -> None:
    no_proxy.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    no_proxy.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert isinstance(over_socket(OK)[0], Reply)


@pytest.mark.parametrize("proxy", ["nonsense://clerk:pr0xy-pass@proxy.example", "http://[clerk:pr0xy-pass"])
def test_an_unusable_proxy_is_said_clearly(proxy: str, no_proxy: pytest.MonkeyPatch) -> None:
    no_proxy.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(Unreachable, match="HTTPS_PROXY") as caught:
        client(Service(answer(200)), Time(), transport=None)
    assert "pr0xy-pass" not in everything_told(caught.value)


# Secrets


def everything_told(error: BaseException) -> str:
    """The error with its whole chain, suppressed or not, and the variables of all frames but the tests' own."""
    text = ""
    link: BaseException | None = error
    while link is not None:
        told = traceback.TracebackException.from_exception(link, capture_locals=True)
        told.stack = traceback.StackSummary.from_list([f for f in told.stack if f.filename != __file__])
        text += "".join(told.format()) + repr(link) + repr(vars(link))
        link = link.__cause__ or link.__context__
    return text


@pytest.mark.parametrize("broken", [b"", TRUNCATED, b"garbage\r\n\r\n", b"HTTP/1.1 302 Found\r\nlocation: /\r\n\r\n"])
def test_no_error_tells_the_credentials(broken: bytes) -> None:
    first, _ = over_socket(broken, method="POST")
    assert isinstance(first, HttpError)
    assert TOKEN not in everything_told(first)


@pytest.mark.parametrize("bad", [f"{TOKEN}\n", f"{TOKEN}\r\nx: y", f"{TOKEN}é", f" {TOKEN}", ""])
def test_a_credential_that_cannot_be_sent_is_not_shown(bad: str) -> None:
    service = Service(answer(200))
    error = failure(service, Time(), headers={"x-api-key": bad})
    assert type(error) is Unreachable
    assert "credential" in str(error)
    assert TOKEN not in everything_told(error)
    assert service.requests == []


def test_what_is_logged_of_a_throttled_request_is_how_long_is_waited() -> None:
    """It said “waiting 0 s” where the service asked for an hour, and the request had been given up."""
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), level="WARNING")
    try:
        ask(Service(answer(429, retry_after="20"), answer(200)), Time())
        failure(Service(answer(429, retry_after="3600")), Time())
    finally:
        logger.remove(sink)
    short, long = lines
    assert "the service asks to slow down (status 429): waiting 20 s, then at most" in short
    assert "asks to wait 3600 s (status 429), more than 300 s: that request is given up; at most" in long


def test_no_log_line_and_no_repr_tells_credentials_queries_or_bodies(caplog: pytest.LogCaptureFixture) -> None:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), level="TRACE")
    body = b'{"userName": "ada@example.com"}'
    service = Service(answer(429), answer(503), answer(200, body, set_cookie="session=hidden"))
    shown = ""

    async def run() -> None:
        nonlocal shown
        async with client(service, Time()) as http:
            reply = await http.request(
                "POST", "/Users", params={"filter": "eq-ada"}, json={"name": "Lovelace"}, repeatable=True
            )
            shown = repr(http) + repr(vars(http)) + repr(reply)

    try:
        with caplog.at_level(logging.DEBUG):
            asyncio.run(run())
    finally:
        logger.remove(sink)
    text = "".join(lines) + caplog.text + shown
    assert "Keeper: POST /Users: 200 in " in text
    assert "asks to slow down" in text
    for secret in (TOKEN, "eq-ada", "ada@example.com", "Lovelace", "hidden"):
        assert secret not in text
