"""Where the reconciler meets the world: its requests and its state file. Here faults are injected.

Each fault is drawn from the seed of its cycle and the request (or write) that it hits, not from a running generator:
taking one away leaves the others where they are, which is what makes a failing history easy to shrink.
"""

import asyncio
import contextvars
import json
import os
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any, NoReturn

import httpx

from reconciler.plan import Operation
from reconciler.promise import NOT_HERE
from reconciler.simulator.faults import rewrite_rows
from reconciler.simulator.service import Request, Response
from reconciler.store import Binding, Store, Unusable

row_in_hand: contextvars.ContextVar[int | None] = contextvars.ContextVar("row_in_hand", default=None)
"""The journal row whose request the current task sends."""


attempt_began: contextvars.ContextVar[datetime | None] = contextvars.ContextVar("attempt_began", default=None)
"""When the current task began to send its request."""


_NO_ANSWER = Response(0)


class Died(SystemExit):
    """The process ends here, whatever it was about to do."""


# What may become of one request. "late" ones take effect before they go wrong.
NO_EFFECT = (
    "unreachable",
    "cut",
    "timeout",
    "throttled",
    "throttled_long",
    "error",
    "garbage",
    "redirected",
    "refused",
)
LATE = ("late_cut", "late_timeout", "late_error", "late_garbage")
LISTS_LIE = ("stale", "shortened", "pathless")
DEATHS = ("death_before", "death_after", "interrupted")
MILD = ("slow", "half_page")
_BEHIND = 0.8
"""The share of reads that are stale where JumpCloud is behind as a whole."""
_CHANGING = (*NO_EFFECT, *LATE, *LATE, *DEATHS, "slow")
_READING = (*NO_EFFECT, *MILD, *MILD, *DEATHS)

_GARBAGE = (b"<html><body>Sign in to the proxy</body></html>", b'{"Resources": [{"id": ', b"null", b"{}")


@dataclass
class Weather:
    """The faults of one cycle. `liars` says which side may show what is no longer or not yet true: "lists", "points"
    (reads of one subject) or neither; "behind" where all lists of JumpCloud are as they were, "both" where its reads of
    one subject are too, which nobody could know. `muted` faults
    do not happen. `script` says for requests whose name begins so what becomes of them, and `then` is done once with
    the first of them; `edits` change the answers of requests whose name begins so."""

    seed: int
    rate: float = 0.0
    writes: float = 0.0
    liars: str = ""
    only: str = ""
    muted: frozenset[str] = frozenset()
    script: Mapping[str, str] = field(default_factory=dict)
    then: Callable[[], object] | None = None
    edits: Mapping[str, Callable[[Response], Response]] = field(default_factory=dict)
    cancelled_after: float | None = None  # seconds after which whatever the cycle waits for is cancelled
    happened: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)

    def name(self, what: str) -> str:
        """The name of this request or write, under which its fault can be muted."""
        self.seen[what] += 1
        return f"{what}#{self.seen[what]}"

    def chance(self, name: str) -> random.Random:
        """The chance of a request or write."""
        return random.Random(f"{self.seed} {name}")

    def strikes(self, kind: str, name: str) -> bool:
        if name in self.muted:
            return False
        self.happened.append(f"{kind} {name}")
        return True


CALM = Weather(0)


class Seam(httpx.AsyncBaseTransport):
    """The way from an HTTP client to a simulated service, through the weather.

    `deliver` hands a request to the service, with whatever must be looked at afterwards. `interrupt` is what Ctrl-C
    does, `kill` what the end of the process does to the state file at once,
    `answered` gets what the client is shown, status 0 for no answer. `clock` is the service's: each reply is dated when
    it leaves. `for_one` tells whether the request is of a cycle about one person. `overlaps` gets what two requests
    change at once.
    """

    def __init__(
        self,
        name: str,
        deliver: Callable[[Request], Response],
        weather: Callable[[], Weather],
        interrupt: Callable[[], object],
        kill: Callable[[], object],
        answered: Callable[[Request, Response], object],
        clock: Callable[[], datetime],
        for_one: Callable[[], bool],
        overlaps: Callable[[str], object],
    ) -> None:
        self.name = name
        self._overlaps = overlaps
        self._under_way: set[str] = set()
        self._for_one = for_one
        self._clock = clock
        self._interrupt = interrupt
        self._kill = kill
        self._answered = answered
        self._deliver = deliver
        self._weather = weather
        self._shown: dict[str, list[Response]] = {}
        self.sent = 0
        self.silence = 60.0  # seconds until a request without an answer is over for the client

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        target = request.url.raw_path.decode("ascii")
        headers = {name.decode().lower(): value.decode() for name, value in request.headers.raw}
        asked = Request(request.method, target, headers, request.read())
        self.sent += 1
        attempt_began.set(self._clock())
        weather = self._weather()
        name = weather.name(f"{self.name} {request.method} {target}")
        draw = weather.chance(name)
        subject = _changed(asked) if self.name == "Keeper" else ""
        if subject and subject in self._under_way:
            self._overlaps(subject)
        self._under_way.add(subject)
        try:
            await asyncio.sleep(draw.uniform(0.005, 0.4))
            fault = self._fault(weather, draw, asked, name)
            response = await self._answer(fault, draw, asked)
        except (httpx.TransportError, asyncio.CancelledError):
            self._answered(asked, _NO_ANSWER)
            raise
        finally:
            self._under_way.discard(subject)
        for beginning, edit in weather.edits.items():
            response = edit(response) if name.startswith(beginning) else response
        self._remember(asked, response)
        self._answered(asked, response)
        headers = {**response.headers, "date": format_datetime(self._clock(), usegmt=True)}
        headers["content-length"] = str(len(response.body))
        return httpx.Response(response.status, headers=headers, stream=httpx.ByteStream(response.body))

    def _fault(self, weather: Weather, draw: random.Random, asked: Request, name: str) -> str:
        for beginning, kind in weather.script.items():
            if name.startswith(beginning):
                then, weather.then = weather.then, None
                if then is not None:
                    then()
                return kind if weather.strikes(kind, name) else ""
        chance, which = draw.random(), draw.random()
        reading = asked.method == "GET" or "search" in asked.path
        behind = weather.liars == "both" or (weather.liars == "behind" and self._side(asked) == "lists")
        if reading and behind and self.name == "JumpCloud" and self._shown.get(asked.target):
            return "stale" if chance < _BEHIND and weather.strikes("stale", name) else ""
        # For one person the points are the lists, so that both would lie.
        lies = weather.liars != "points" or not self._for_one()
        if reading and lies and weather.liars and weather.liars == self._side(asked) and chance < 0.5:
            # A list that lies, or a record: the other side tells the truth in this cycle.
            kind = LISTS_LIE[int(which * len(LISTS_LIE))]
            if kind == "stale" and not self._shown.get(asked.target):
                kind = "shortened"
            if kind == "pathless" and not asked.path.startswith("/api/v2/"):
                kind = "shortened"
            return kind if weather.strikes(kind, name) else ""
        if chance >= weather.rate:
            return ""
        kinds = _READING if reading else _CHANGING
        kind = weather.only if weather.only in kinds else kinds[int(which * len(kinds))]
        if kind == "half_page" and weather.seen[f"half {asked.path}"]:
            return ""  # what a service says twice in a row counts as true: see jumpcloud_lists.whole
        if kind == "half_page":
            weather.seen[f"half {asked.path}"] += 1
        return kind if weather.strikes(kind, name) else ""

    def _side(self, asked: Request) -> str:
        parts = asked.path.strip("/").split("/")
        if asked.path == "/api/applications":
            return ""  # without the application nothing goes on, which teaches nothing
        if self.name == "Keeper":
            return "keeper points" if len(parts) > 6 else "keeper lists"
        one = parts[:2] == ["api", "systemusers"] and len(parts) == 3
        return "points" if one or parts[:3] == ["api", "v2", "users"] else "lists"

    async def _answer(self, fault: str, draw: random.Random, asked: Request) -> Response:
        if fault == "slow":
            await asyncio.sleep(draw.uniform(2, 50))
        elif fault == "death_before":
            self._die(fault)
        elif fault in (*NO_EFFECT, "throttled_minute"):
            return await self._instead(fault, draw)
        elif fault == "stale":
            shown = self._shown[asked.target]
            # Lists that are behind are so all together.
            return shown[0] if self._weather().liars == "behind" else draw.choice(shown)
        response = self._deliver(asked)
        if fault == "death_after":
            self._die(fault)
        if fault == "interrupted":
            self._interrupt()
            await asyncio.sleep(1)
        if fault in LATE:
            return await self._instead(fault.removeprefix("late_"), draw)
        if fault == "half_page":
            return rewrite_rows(response, lambda rows: rows[: len(rows) // 2])
        if fault == "shortened":
            return _shortened(response, draw)
        if fault == "pathless":
            return rewrite_rows(response, lambda rows: [_with_fewer_paths(row, draw) for row in rows])
        return response

    async def _instead(self, fault: str, draw: random.Random) -> Response:
        if fault == "unreachable":
            raise httpx.ConnectError("refused")
        if fault == "cut":
            raise httpx.ReadError("reset")
        if fault == "timeout":
            await asyncio.sleep(self.silence)
            raise httpx.ReadTimeout("silence")
        if fault == "throttled":
            if self.name == "Keeper" and draw.random() < 0.5:
                return Response.of_json(403, {"error": "throttled", "message": "Please wait 20 seconds."})
            return Response.of_json(429, {"message": "slow down"}, {"retry-after": str(draw.randint(1, 90))})
        if fault == "throttled_minute":
            return Response.of_json(429, {"message": "slow down"}, {"retry-after": "60"})
        if fault == "throttled_long":
            return Response.of_json(429, {"message": "slow down"}, {"retry-after": "3600"})
        if fault == "error":
            status = draw.choice((500, 502, 503, 504))
            return Response(status, {"retry-after": "5"} if draw.random() < 0.3 else {}, b"oops")
        if fault == "garbage":
            return Response(200, {"content-type": "text/html"}, draw.choice(_GARBAGE))
        if fault == "redirected":
            return Response(302, {"location": "https://sso.example/login"})
        return Response.of_json(draw.choice((400, 401, 403, 405, 501)), {"message": "refused"})

    def _die(self, fault: str) -> NoReturn:
        self._kill()
        raise Died(fault)

    def _remember(self, asked: Request, response: Response) -> None:
        if asked.method == "GET" and response.status in (200, 404):
            self._shown[asked.target] = [*self._shown.get(asked.target, [])[-4:], response]


def _changed(asked: Request) -> str:
    """The subject that a request is to change: the resource, or the address of somebody who is created."""
    if asked.method == "GET":
        return ""
    if asked.method == "POST" and asked.path.endswith("/Users"):
        return str(json.loads(asked.body).get("userName", "")).casefold()
    return asked.path if asked.method != "POST" else ""


def _shortened(response: Response, draw: random.Random) -> Response:
    """A list without some of its rows, whose total agrees; or the record of one subject, denied."""
    kept: list[Any] = []

    def some(rows: list[Any]) -> list[Any]:
        kept[:] = [row for row in rows if draw.random() < 0.7]
        return kept

    before = rewrite_rows(response, some)
    return rewrite_rows(before, lambda rows: rows, total=len(kept))


def _with_fewer_paths(row: Any, draw: random.Random) -> Any:
    """An object of the graph that some way leads to which is not shown."""
    paths = row.get("paths") if isinstance(row, dict) else None
    if not isinstance(paths, list) or len(paths) < 2 or draw.random() < 0.5:
        return row
    return {**row, "paths": draw.sample(paths, len(paths) - 1)}


class CampaignStore(Store):
    """The state file, whose writes may fail and during whose writes the process may die."""

    weather: Callable[[], Weather] = staticmethod(lambda: CALM)
    marked: Callable[[int], object] = staticmethod(lambda _: None)
    rebound: Callable[[], object] = staticmethod(lambda: None)
    dead = False

    @contextmanager
    def _tx(self) -> Iterator[sqlite3.Connection]:
        if self.dead:
            raise Died("dead")
        weather = self.weather()
        name = weather.name("write")
        fault = ""
        if weather.writes and (draw := weather.chance(name)).random() < weather.writes:
            fault = draw.choice(("disk_full", "disk_full", "death_unwritten", "death_written"))
            fault = fault if weather.strikes(fault, name) else ""
        if fault == "disk_full":
            raise Unusable(self.path, "database or disk is full (SQLITE_FULL)")
        with super()._tx() as connection:
            yield connection
            if fault == "death_unwritten":
                self.dead = True
                raise Died(fault)
        if fault == "death_written":
            self.dead = True
            raise Died(fault)

    def rebind(self, binding: Binding, at: datetime) -> None:
        try:
            super().rebind(binding, at)
        except Died as death:
            if str(death) == "death_written":
                self.rebound()
            raise
        self.rebound()

    def mark_sent(
        self, operation_id: int, at: datetime, sent: Operation, rest: Operation | None = None, why: str = ""
    ) -> int:
        try:
            part = super().mark_sent(operation_id, at, sent, rest, why)
        except Died as death:
            if str(death) == "death_written":
                self.marked(operation_id)
            raise
        row_in_hand.set(operation_id)
        self.marked(operation_id)
        return part

    def record_refused(
        self, operation_id: int, at: datetime, words: str, keeper_id: str, undo: Operation | None, *, sent: bool
    ) -> int:
        part = super().record_refused(operation_id, at, words, keeper_id, undo, sent=sent)
        if part and sent:
            row_in_hand.set(part)
            self.marked(part)
        return part

    def journal_row(self, operation_id: int) -> Mapping[str, Any] | None:
        """A row as it stands in the file, read past all of the store's own code."""
        return next(iter(self._rows("* FROM operations WHERE id = ?", operation_id)), None)

    def journal_rows(self) -> list[dict[str, Any]]:
        """The whole journal, read likewise."""
        return self._rows("* FROM operations ORDER BY id DESC")

    def settled(self) -> list[dict[str, Any]]:
        """The rows that are done, and were found out to be so later."""
        what = "id, kind, keeper_id, jumpcloud_id, sent_at FROM operations WHERE state = 'done'"
        found_out = f"(outcome = 'settled' OR (outcome = 'gone' AND error = '{NOT_HERE}'))"
        return self._rows(f"{what} AND {found_out} ORDER BY id DESC")

    def concerned(self) -> dict[str, str]:
        """By account, the person of the newest operation on it."""
        return dict(self._connection.execute("SELECT keeper_id, jumpcloud_id FROM operations ORDER BY id"))

    def tied(self) -> dict[str, str]:
        """By account, the person whose it is in the snapshot."""
        return dict(self._connection.execute("SELECT keeper_id, jumpcloud_id FROM users WHERE standing = 'managed'"))

    def _rows(self, what: str, *parameters: int) -> list[dict[str, Any]]:
        cursor = self._connection.execute(f"SELECT {what}", parameters)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def newest_request(self) -> int:
        """The id of what a person decided or ordered last."""
        return int(self._connection.execute("SELECT coalesce(max(id), 0) FROM requests").fetchone()[0])

    def releases(self, after: int) -> list[list[list[str]]]:
        """The effects of all releases that were recorded after this request."""
        rows = _reading(self.path, "SELECT arguments FROM requests WHERE kind = 'release' AND id > ?", after)
        return [json.loads(arguments)["effects"] for (arguments,) in rows]

    def adopted(self) -> list[str]:
        """The Keeper ids that the last `adopt` named."""
        rows = _reading(self.path, "SELECT arguments FROM requests WHERE kind = 'adopt' ORDER BY id DESC LIMIT 1")
        return [id for (arguments,) in rows for id in json.loads(arguments).get("accounts", [])]

    def disowned(self) -> list[str]:
        """The Keeper ids that the last `disown` gave up."""
        rows = _reading(self.path, "SELECT arguments FROM requests WHERE kind = 'disown' ORDER BY id DESC LIMIT 1")
        found = [json.loads(arguments) for (arguments,) in rows]
        return [id for one in found for id in one.get("accounts", []) if id not in one.get("closed", {})]

    def value(self, key: str) -> Any:
        row = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        return json.loads(row[0]) if key == "binding" else row[0]

    def die(self) -> None:
        """What the operating system does when a process is gone: nothing is written any more, the lock is free."""
        self.dead = True
        if self._lock is not None:
            self._connection.close()
            os.close(self._lock)
            self._lock = None


def _reading(path: Path, sql: str, *parameters: str | int) -> list[Any]:
    """Rows of the state file, whoever has it open or died over it."""
    connection = sqlite3.connect(path)
    try:
        return connection.execute(sql, parameters).fetchall()
    finally:
        connection.close()
