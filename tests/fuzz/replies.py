"""Hostile replies of both services, tried on whole cycles.

One request of a cycle, or each like it, gets something else than the service said. Whatever it is: the cycle ends in
its result or in an error that says what to do, nothing is done to anybody whom the reply was not about, and a reply
that is refused leaves the snapshot as it was.
"""

import asyncio
import gzip
import json
import random
import sqlite3
import zlib
from collections.abc import AsyncIterator, Iterator
from functools import cache
from typing import Any

import httpx

from reconciler.report.document import to_json
from reconciler.report.text import render
from reconciler.simulator.faults import rewrite_rows
from reconciler.simulator.service import Request, Response
from tests.fuzz.mutate import byte_variation, doubled_keys, dumped, json_variation
from tests.fuzz.office import Office, Scene, plainly
from tests.fuzz.verdict import Verdict, bounded

MIB = 2**20
PATIENCE = 6 * 3600.0
"""Seconds of the simulated clock that a cycle may take, whatever the services do."""
_SCENES = ("first", "cycle", "cycle", "resync", "resync", "person", "person", "newcomer", "account", "look", "look")
_SNAPSHOT = ("users", "teams", "memberships")

_ERRORS: tuple[Any, ...] = (
    {"message": "Unauthorized: api key user not found", "error": "Unauthorized"},
    {"schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"], "status": "409", "detail": "Email already taken"},
    {"error": "throttled", "message": "Please wait 30 seconds."},
    {"code": 3, "message": "bad request", "status": "INVALID_ARGUMENT", "details": [{"a": "b"}]},
    ["no", "object"],
    "plain words",
)
_STATUSES = (
    200, 201, 202, 204, 206, 207, 226, 300, 301, 302, 303, 304, 307, 308, 399, 400, 401, 402, 403, 404, 405, 406, 408,
    409, 410, 412, 413, 415, 418, 421, 422, 425, 428, 429, 431, 451, 499, 500, 501, 502, 503, 504, 505, 507, 508, 511,
    520, 599, 600, 999,
)  # fmt: skip
_WAITS = (
    "0", "1", "-1", "30", "300", "301", "3600", "9" * 30, "9" * 5_000, "1e9", "1.5", "inf", "nan", "", " ", "soon",
    "0x10", "Wed, 21 Oct 2015 07:28:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 +2359",
    "Wed, 21 Oct", "Wed, 99 Foo 2099 99:99:99 GMT", "\u0663", "+5", "5 5", "1, 2", "Thu, 01 Jan 1970 00:00:00 -9999",
    "1" * 200_000, "Mon, 02 Mar 2026 10:00:00 -0000",
)  # fmt: skip
_TOTALS = (
    "0", "1", "-1", "5", "100", "101", "1000", "2000001", "9" * 18, "9" * 5_000, "1.0", "", "a", "0x1", "\u0663", "1 2",
)  # fmt: skip
_TYPES = (
    "text/html", "text/html; charset=utf-16", "image/png", "", "application/json; charset=\x7f", "a" * 9_000, "a/b",
)  # fmt: skip
_CODINGS = ("gzip", "GZIP", "x-gzip", "br", "deflate", "gzip, gzip", "identity", "", "zstd", "\x7f", "chunked")
_PLACES = (
    "https://evil.example/", "//evil.example", "/", "", "http://[", "https://user:pass@evil.example",
    "javascript:alert(1)", "https://" + "a" * 5_000, "https://xn--/", "https://\u202eelpmaxe.live",
    "file:///etc/passwd", "https://a:99999999/", "http://\x00/", "https://[::1]:1/", "https://%zz/", "\\\\evil\\share",
    "https://xn--a" + "-" * 100 + "/", "https://\u0663/",
)  # fmt: skip


class _Stream(httpx.AsyncByteStream):
    """A body that comes in pieces, as slowly as it likes, and that need not end."""

    def __init__(self, pieces: Iterator[bytes], pause: float = 0.0, fails: bool = False) -> None:
        self._pieces, self._pause, self._fails = pieces, pause, fails

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            await asyncio.sleep(self._pause)
            yield piece
        if self._fails:
            raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")


@cache
def bomb(inner: bytes = b" ", size: int = 1024 * MIB) -> bytes:
    """A gigabyte of the same, as a megabyte of gzip."""
    squeeze = zlib.compressobj(9, wbits=31)
    piece = inner * MIB
    return b"".join([squeeze.compress(piece) for _ in range(size // len(piece))]) + squeeze.flush()


def _forever(piece: bytes) -> Iterator[bytes]:
    while True:
        yield piece


def _cut(content: bytes, size: int) -> Iterator[bytes]:
    return (content[start : start + size] for start in range(0, len(content), size))


class Hostile:
    """The variation of one exchange."""

    def __init__(self, draw: random.Random, target: tuple[str, str, str], which: int, *, always: bool) -> None:
        self._draw = draw
        self._target, self._which, self._always = target, which, always
        self._seen = 0
        self.what = ""
        self.touched: set[str] = set()

    async def __call__(self, service: str, asked: Request, response: Response) -> httpx.Response:
        if (service, asked.method, asked.target) != self._target:
            return await plainly(service, asked, response)
        self._seen += 1
        if self._seen <= self._which or (self._seen > self._which + 1 and not self._always):
            return await plainly(service, asked, response)
        # Each of "always" is varied alike, as far as what the service says is alike.
        draw = random.Random(f"{self._draw.getstate()[1][:3]}")
        status, headers, body = response.status, dict(response.headers), response.body
        stream: _Stream | None = None
        chance = draw.random()
        if chance < 0.10 and isinstance(_parsed(body), list | dict):
            lie, words = _adding_up(response, draw)
            headers, body = dict(lie.headers), lie.body
        elif chance < 0.55:
            body, words = json_variation(_parsed(body), draw)
        elif chance < 0.67:
            body, words = byte_variation(body, draw)
        elif chance < 0.70:
            body, words = doubled_keys(_parsed(body), draw)
        elif chance < 0.78:
            status = draw.choice(_STATUSES)
            words = f"status {status}"
            if draw.random() < 0.5:
                body, more = json_variation(draw.choice(_ERRORS), draw)
                words += f" with an error body, {more}"
            if draw.random() < 0.3:
                headers["retry-after"] = draw.choice(_WAITS)
        elif chance < 0.86:
            status = draw.choice((400, 401, 403, 404, 409, 428, 429, 500, 503))
            error = draw.choice(_ERRORS)
            body = dumped(error) if draw.random() < 0.3 else draw.choice((json_variation, _of_bytes))(error, draw)[0]
            headers["retry-after"] = draw.choice(_WAITS)
            words = f"status {status}, Retry-After {headers['retry-after']:.20}, body {body[:40]!r}"
        elif chance < 0.99:
            status, words = self._header(headers, draw, status)
        else:
            status, stream, words = self._streamed(headers, draw, status, body)
        self.what = self.what or f"{service} {asked.method} {asked.target}: {words}"
        raw = [(name.encode(), value.encode("utf-8")) for name, value in headers.items()]
        if stream is not None:
            return httpx.Response(status, headers=raw, stream=stream)
        self.touched |= touched(response.body, body)
        return httpx.Response(status, headers=raw, stream=httpx.ByteStream(body))

    def _header(self, headers: dict[str, str], draw: random.Random, status: int) -> tuple[int, str]:
        name, values = draw.choice(
            [
                ("x-total-count", _TOTALS),
                ("content-type", _TYPES),
                ("content-encoding", _CODINGS),
                ("location", _PLACES),
                ("date", _WAITS),
                ("set-cookie", ("a=b", "a" * 9_000, "\x7f=\x7f; domain=.com")),
                ("content-length", ("0", "-1", "9" * 30, "x")),
            ]
        )
        headers[name] = value = draw.choice(values)
        if name == "location":
            status = draw.choice((301, 302, 303, 307, 308))
        if name == "date":
            status = draw.choice((429, 503))
            headers["retry-after"] = draw.choice(_WAITS)
        return status, f"{name}: {value[:40]!r}, status {status}"

    def _streamed(
        self, headers: dict[str, str], draw: random.Random, status: int, body: bytes
    ) -> tuple[int, _Stream, str]:
        match draw.randrange(11):
            case 0:
                return status, _Stream(iter([b" " * MIB] * 1024)), "a gigabyte of blanks"
            case 1:
                return status, _Stream(_forever(b"[" * 65_536)), "no end of opening brackets"
            case 2:
                return status, _Stream(_forever(b" "), pause=1.0), "a blank a second, without end"
            case 3:
                return status, _Stream(_cut(body, 1), pause=0.01), "a byte at a time"
            case 4:
                return status, _Stream(iter([body[: len(body) // 2]]), fails=True), "half, then the connection breaks"
            case 5:
                headers["content-encoding"] = "gzip"
                return status, _Stream(_cut(bomb(), 65_536)), "a gigabyte of blanks as gzip"
            case 6:
                headers["content-encoding"] = "gzip"
                return status, _Stream(iter([gzip.compress(bomb())])), "a bomb in a bomb"
            case 7:
                headers["content-encoding"] = "gzip"
                whole = gzip.compress(body)
                return status, _Stream(iter([whole[: draw.randrange(len(whole))]])), "gzip that ends early"
            case 8:
                headers["content-encoding"] = "gzip"
                return status, _Stream(iter([gzip.compress(body), b"x" * MIB])), "gzip and something behind it"
            case 9:
                return draw.choice((400, 403, 429, 500)), _Stream(_forever(b"x" * MIB)), "an error without end"
            case _:
                small = draw.choice((b"[],", b"{},", b'{"":0},', b'"ab",', b"1,", b'"\xf0\x9f\x98\x80",'))
                size = 63 * MIB // len(small)
                return status, _Stream(iter([b"[", small * size, b"0]"])), f"63 MiB of {small!r}"


def _adding_up(response: Response, draw: random.Random) -> tuple[Response, str]:
    """A list that lies and adds up: without some of its rows or all, with rows twice, or each row varied."""
    kept: list[Any] = []

    def change(rows: list[Any]) -> list[Any]:
        match which:
            case 0:
                kept[:] = []
            case 1:
                kept[:] = [row for row in rows if draw.random() < 0.5]
            case 2:
                kept[:] = rows[: draw.randrange(len(rows) + 1)]
            case 3:
                kept[:] = [varied(row) for row in rows]
            case _:
                kept[:] = [None if draw.random() < 0.5 else row for row in rows]
        return kept

    def varied(row: Any) -> Any:
        """One member of the row is missing, or what another value would make of it."""
        if not isinstance(row, dict):
            return row
        key = draw.choice(sorted(row.keys() - {"id", "_id"}) or ["id"])
        value: Any = draw.choice((None, "", [], "SUSPENDED", True, False, "true"))
        rest = {name: value for name, value in row.items() if name != key}
        return rest if draw.random() < 0.3 else {**rest, key: value}

    which = draw.randrange(5)
    first = rewrite_rows(response, change)
    words = ("no rows", "half of the rows", "the first rows", "rows varied", "rows that are null")[which]
    return rewrite_rows(first, lambda rows: rows, total=len(kept)), f"{words}, and totals that agree"


def _of_bytes(error: Any, draw: random.Random) -> tuple[bytes, str]:
    return byte_variation(dumped(error), draw)


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return {"nothing": body.decode("utf-8", "replace")}


def touched(before: bytes, after: bytes) -> set[str]:
    """What names the records that a reply says something else about: the texts in them. A record that is merely missing
    is not among them, since what is missing must never count as gone."""
    if before == after:
        return set()
    old, new = _parsed(before), _parsed(after)
    former = _rows(old)
    known = {_canonical(row) for row in former}
    names: set[str] = set()
    for number, row in enumerate(_rows(new)):
        if isinstance(row, dict) and _canonical(row) not in known:
            names |= _texts(row)
            if number < len(former):
                names |= _texts(former[number])
    return names


def _rows(document: Any) -> list[Any]:
    """The records of a reply: those of a list, or the one that it is."""
    for key in ("results", "Resources"):
        if isinstance(document, dict) and key in document:
            document = document[key]
    if isinstance(document, list):
        return [row.get("to") if isinstance(row, dict) and set(row) == {"to"} else row for row in document]
    return [document]


def _texts(value: Any) -> set[str]:
    """All short texts and numbers within, and their trimmed and folded forms."""
    waiting, found = [value], set()
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
        elif (
            isinstance(one, str | int)
            and len(text := f"{one:.400}" if isinstance(one, str) else f"{one % 10**20}") < 400
        ):
            found |= {text, text.strip(), text.strip().casefold()}
    return found - {""}


def _canonical(value: Any) -> str:
    try:
        return json.dumps(value, sort_keys=True)
    except RecursionError:
        return "deep"


class Replies:
    """The whole kind: input by input, each from its own generator."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self._exchanges: dict[str, list[tuple[str, str, str]]] = {}
        for scene in office.scenes.values():
            seen: list[tuple[str, str, str]] = []

            async def noting(service: str, asked: Request, response: Response, seen: Any = seen) -> httpx.Response:
                seen.append((service, asked.method, asked.target))
                return await plainly(service, asked, response)

            office.run(scene, noting)
            self._exchanges[scene.name] = seen

    def try_one(self, draw: random.Random) -> Verdict:
        """Try one hostile reply."""
        office = self.office
        scene = office.scenes[draw.choice(_SCENES)]
        exchanges = self._exchanges[scene.name]
        at = draw.randrange(len(exchanges))
        target = exchanges[at]
        hostile = Hostile(draw, target, exchanges[:at].count(target), always=draw.random() < 0.6)
        verdict = Verdict("replies", scene.name)
        office.begin(scene)
        before = _snapshot(office)
        began = office.time.elapsed
        with bounded(verdict):
            try:
                result = office.run(scene, hostile, begin=False)
            except Exception as error:
                verdict.error(error, office.secrets, "JumpCloud", "Keeper")
                if not office.keeper.changes and _snapshot(office) != before:
                    verdict.violations.append("a refused reply changed the snapshot")
            else:
                plan = result.plan
                if plan is not None:
                    verdict.shown(render(plan, width=100, colour=False), office.secrets, longest=10**6)
                    verdict.shown(to_json(plan), office.secrets, longest=10**7)
        verdict.what = f"{scene.name}{'' if hostile._always else ', once'}: {hostile.what}"
        verdict.violations += office.harm(hostile.touched)
        if office.time.elapsed - began > PATIENCE:
            verdict.violations.append(f"{office.time.elapsed - began:.0f} s of waiting")
        verdict.violations += self._afterwards(scene, hostile)
        return verdict

    def _afterwards(self, scene: Scene, hostile: Hostile) -> Iterator[str]:
        """The next cycle, in which the services tell the truth, goes through and harms nobody either."""
        if scene.look or hostile.touched or random.Random(hostile.what).random() > 0.2:
            return
        office = self.office
        office.keeper.changes.clear()
        try:
            office.run(office.scenes["resync"], begin=False)
        except Exception as error:
            yield f"the next cycle failed: {error!r}"
        yield from (f"next: {words}" for words in office.harm(()))


def _snapshot(office: Office) -> list[Any]:
    """The snapshot in the state file, read past all of the store's own code."""
    if not office.path.exists():
        return [[] for _ in _SNAPSHOT]
    connection = sqlite3.connect(office.path)
    try:
        return [connection.execute(f"SELECT * FROM {table}").fetchall() for table in _SNAPSHOT]
    finally:
        connection.close()
