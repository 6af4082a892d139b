"""Faults for the simulators: which requests go wrong, and how. No sockets: any transport can use it."""

import json
import random
import re
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from reconciler.simulator.service import Request, Response, Service, is_control


@dataclass(frozen=True, slots=True)
class Cut:
    """An answer that the client never gets whole.

    `closed`: the connection is closed without a byte. `reset`: it is reset (RST). `hung`: nothing is sent until the
    client goes.
    `truncated`: the head of `response` promises its whole body, only the first `sent` bytes follow.
    `endless`: the head of `response`, then its body over and over.
    """

    kind: Literal["closed", "reset", "hung", "truncated", "endless"]
    response: Response = field(default_factory=lambda: Response(200))
    sent: int = 0


Answer = Response | Cut
Handler = Callable[[Request], Answer]


class Action(Protocol):
    """What a fault does with one request; `handle` lets the service take the request's effect and answer."""

    def run(self, handle: Handler, request: Request) -> Answer:
        """The answer that the client gets."""
        ...


@dataclass(frozen=True, slots=True)
class Latency:
    """Hold the request back for so many seconds, then let the service answer."""

    seconds: float

    def run(self, handle: Handler, request: Request) -> Answer:
        """Answer as the service does; whoever applies the fault waits before."""
        return handle(request)


@dataclass(frozen=True, slots=True)
class Instead:
    """Give this answer instead of the service's; the request takes its effect first if `effect` is set."""

    answer: Answer
    effect: bool = False

    def run(self, handle: Handler, request: Request) -> Answer:
        """The answer given, with or without the effect."""
        if self.effect:
            handle(request)
        return self.answer


def status(code: int, body: bytes = b"", headers: Mapping[str, str] | None = None, effect: bool = False) -> Instead:
    """Answer any status with any body."""
    return Instead(Response(code, headers or {}, body), effect)


def throttle(retry_after: str | None = None) -> Instead:
    """Answer 429, with `Retry-After` (seconds or an HTTP date, RFC 9110 section 10.2.3) where given."""
    headers = {} if retry_after is None else {"retry-after": retry_after}
    return Instead(Response.of_json(429, {"message": "Too Many Requests"}, headers))


def keeper_throttle(wait: str = "10 seconds") -> Instead:
    """Throttle as Keeper does to its public client, Commander: 403 with error "throttled", no Retry-After."""
    message = f"Due to repeated attempts, your request has been throttled. Try again in {wait}"
    return Instead(Response.of_json(403, {"error": "throttled", "message": message}))


def close(effect: bool = False) -> Instead:
    """Close the connection instead of answering."""
    return Instead(Cut("closed"), effect)


def reset(effect: bool = False) -> Instead:
    """Reset the connection instead of answering."""
    return Instead(Cut("reset"), effect)


def hang(effect: bool = False) -> Instead:
    """Never answer."""
    return Instead(Cut("hung"), effect)


def endless() -> Instead:
    """Answer 200 with a body that never ends: JSON white space, so that a parser would wait for more."""
    return Instead(Cut("endless", Response(200, {"content-type": "application/json"}, b" " * 65536)))


@dataclass(frozen=True, slots=True)
class Truncate:
    """Take effect, promise the whole body, send the first half of it and close the connection."""

    def run(self, handle: Handler, request: Request) -> Answer:
        """The first half of the service's answer."""
        answer = handle(request)
        if isinstance(answer, Cut):
            return answer
        body = answer.body or b"{}"
        return Cut("truncated", Response(answer.status, answer.headers, body), len(body) // 2)


@dataclass(frozen=True, slots=True)
class InvalidJson:
    """Take effect, then answer the service's status with a body that is no JSON."""

    def run(self, handle: Handler, request: Request) -> Answer:
        """The service's answer with its body cut in the middle of a member."""
        answer = handle(request)
        if isinstance(answer, Cut):
            return answer
        return Response(answer.status, answer.headers, b'{"results": [{"id": ')


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Rewrite the rows of a list answer: JumpCloud V1 {"results"}, V2 bare array, SCIM {"Resources"}.

    `drop` leaves out the rows with these ids (`id`, `_id` or `to.id`), `keep` shortens the page to so many
    rows (0 is an empty list). The totals stay as the service gave them, unless `total` says otherwise.
    """

    drop: Collection[str] = ()
    keep: int | None = None
    total: int | None = None

    def run(self, handle: Handler, request: Request) -> Answer:
        """The service's answer, rewritten if it is a list."""
        answer = handle(request)
        if isinstance(answer, Cut) or not 200 <= answer.status < 300:
            return answer
        return rewrite_rows(answer, self._rows, self.total)

    def _rows(self, rows: list[Any]) -> list[Any]:
        return [row for row in rows if not _ids(row) & set(self.drop)][: self.keep]


def rewrite_rows(response: Response, change: Callable[[list[Any]], list[Any]], total: int | None = None) -> Response:
    """A list answer with its rows changed, and its totals too where `total` is given; others as they are."""
    try:
        document = json.loads(response.body)
    except ValueError:
        return response
    headers = dict(response.headers)
    if isinstance(document, list):
        document = change(document)
        if total is not None:
            headers["x-total-count"] = str(total)
        return Response.of_json(response.status, document, headers)
    for rows, count in (("results", "totalCount"), ("Resources", "totalResults")):
        if isinstance(document, dict) and isinstance(document.get(rows), list):
            document[rows] = change(document[rows])
            if "itemsPerPage" in document:
                document["itemsPerPage"] = len(document[rows])
            if total is not None:
                document[count] = total
            return Response.of_json(response.status, document, headers)
    return response


def _ids(row: Any) -> set[str]:
    """The ids under which a row may be known."""
    if not isinstance(row, dict):
        return set()
    to = row.get("to")
    ends = [row.get("id"), row.get("_id"), to.get("id") if isinstance(to, dict) else None]
    return {end for end in ends if isinstance(end, str)}


@dataclass(eq=False, slots=True)
class Rule:
    """When an action applies. `matched` and `fired` count the requests so far."""

    action: Action
    method: str | None
    target: re.Pattern[str]
    skip: int
    times: int | None
    probability: float
    matched: int = 0
    fired: int = 0

    def claims(self, request: Request, draw: Callable[[], float]) -> bool:
        """Whether the action applies to this request; counts it."""
        if self.method not in (None, request.method) or not self.target.search(request.target):
            return False
        self.matched += 1
        if self.matched <= self.skip or self.fired == self.times:
            return False
        if self.probability < 1 and draw() >= self.probability:
            return False
        self.fired += 1
        return True


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with one request: wait `delay` seconds, then `answer`."""

    actions: tuple[Action, ...]

    @property
    def delay(self) -> float:
        """How long the request is held back, in seconds."""
        return sum(action.seconds for action in self.actions if isinstance(action, Latency))

    def answer(self, service: Service, request: Request) -> Answer:
        """What the client gets. The rule added first is the outermost."""
        handle: Handler = service.handle
        for action in reversed(self.actions):
            handle = _wrapped(action, handle)
        return handle(request)


def _wrapped(action: Action, handle: Handler) -> Handler:
    return lambda request: action.run(handle, request)


class Faults:
    """A list of rules, thread-safe. Requests to the control route are never touched.

    Each rule counts the requests that match it, whatever the other rules do with them; a rule whose `times`
    are used up is inert. Probabilities are drawn from one random generator seeded with `seed`.
    """

    def __init__(self, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self._rules: list[Rule] = []

    def add(
        self,
        action: Action,
        *,
        method: str | None = None,
        target: str = "",
        skip: int = 0,
        times: int | None = None,
        probability: float = 1.0,
    ) -> Rule:
        """Add a rule: requests of this method whose target matches this regular expression (searched).

        The first `skip` of them pass, then `times` of them (None: all) are hit, each with `probability`.
        """
        rule = Rule(action, method, re.compile(target), skip, times, probability)
        with self._lock:
            self._rules.append(rule)
        return rule

    def remove(self, rule: Rule) -> None:
        """Take a rule away; one already gone is no error."""
        with self._lock:
            self._rules = [other for other in self._rules if other is not rule]

    def clear(self) -> None:
        """Take all rules away."""
        with self._lock:
            self._rules.clear()

    def draw(self, request: Request) -> Fault:
        """Decide what goes wrong with this request; to be called once for each request."""
        if is_control(request):
            return Fault(())
        with self._lock:
            return Fault(tuple(rule.action for rule in self._rules if rule.claims(request, self._random.random)))

    def apply(self, service: Service, request: Request, sleep: Callable[[float], None] = time.sleep) -> Answer:
        """Answer one request under these faults; a latency is waited for with `sleep`."""
        fault = self.draw(request)
        if fault.delay:
            sleep(fault.delay)
        return fault.answer(service, request)
