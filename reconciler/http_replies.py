"""What a reply means: a definite answer, or a failure, and then whether the request may be sent again and when."""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from reconciler.http_errors import BadReply, Call, HttpError, Redirected, Throttled, Unanswered

MAX_WAIT = 300.0
"""The longest wait that a service may ask of us, in seconds."""

BACKOFF = (1.0, 30.0)
"""The shortest and the longest wait before a retry where the service names none, in seconds."""

MAX_PARTS = 5_000_000
"""The most objects, lists and commas in a reply, since "[]," takes twenty times as much memory as bytes. Teams with two
million members on one page are below."""

_JSON = re.compile(r"application/(?:[\w.+-]+\+)?json\s*(?:;|$)", re.ASCII | re.IGNORECASE)
_THROTTLED_FOR = re.compile(r"([0-9]{1,6})\s*(second|minute)", re.IGNORECASE)


def declares_json(headers: Mapping[str, str]) -> bool:
    """Whether these headers of a reply name JSON as its content (RFC 9110 section 8.3): a proxy's page rarely does."""
    return bool(_JSON.match(headers.get("content-type", "").strip()))


@dataclass(frozen=True, slots=True)
class Reply:
    """A definite answer: any status but 3xx, 429, a throttling 403, and 5xx other than 501."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    """Looked up without regard to case."""
    body: bytes = field(repr=False)
    call: Call
    doubtful: bool = False
    """An attempt before this one got no answer, and may have taken effect."""
    received: float = 0.0
    """The boot time (`Clock.boottime`) at which its head was there."""

    def json(self) -> Any:
        """The body as JSON; BadReply where it isn't. A value in it that is none, or is nested too deep, is an `Odd`."""
        if not self.body:
            problem = "the reply is empty where JSON was expected"
        elif sum(map(self.body.count, (b"{", b"[", b","))) > MAX_PARTS:
            problem = "the reply holds more values than any answer of this service should"
        else:
            try:
                return _decoded(self.body)
            except json.JSONDecodeError as error:
                kind = self.headers.get("content-type", "")
                page = " but a web page" if "html" in kind.lower() else ""
                problem = f"the reply is not JSON{page} (line {error.lineno}, column {error.colno})"
        # Raised out here so that the body does not hang on the error as the context of a JSONDecodeError.
        raise BadReply(
            self.call,
            f"{problem}, with status {self.status}",
            "Check the address in the settings, and whether a proxy answers in place of the service.",
            attempts=1,
            status=self.status,
        )


class Odd:
    """A value that cannot be read, in a document that can: neither text, number, list nor anything else that is asked
    for, and equal to no other."""

    def __repr__(self) -> str:
        return "Odd()"


_TEXT = re.compile(r'"([^"\\]*+(?:\\.?+[^"\\]*+)*+)(")?+([ \t\n\r]*+:)?+', re.DOTALL)
"""A text in JSON, its end, and the colon that makes a key of it. A text without an end goes to that of the document, so
that no part of it is searched twice."""
_ODDITY = re.compile("[\x00-\x1f\udc80-\udcff]")
"""A control character, which a text may hold as an escape only, or a byte that is not UTF-8."""
_ODD_KEY = "\ufffd"
_MARK = re.compile(r'"[^"\\]*+(?:\\.?+[^"\\]*+)*+"?+|[\[\]{}]', re.DOTALL)
"""A text in JSON, or where a list or an object begins or ends. A text without an end goes to that of the document."""
_DEEPEST = 100
"""So many levels are read of what Python cannot read to its end: no answer of the services has ten."""


def _decoded(body: bytes) -> Any:
    """The document; raises JSONDecodeError.

    One record must not stop everybody, so the second attempt gives up single texts and numbers, the third what is
    nested too deep, and nothing of the form: a document that was cut is none.
    """
    try:
        return _STRICT.decode(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        text = _TEXT.sub(_without_oddity, body.decode("utf-8-sig", "surrogateescape"))
    try:
        return _LENIENT.decode(text)
    except RecursionError:
        return _LENIENT.decode(_without_depths(text))


def _without_depths(text: str) -> str:
    """A document with a literal that is read as odd in place of each list and object that is nested too deep."""
    kept: list[str] = []
    depth = start = 0
    for mark in _MARK.finditer(text):
        if mark[0] in "[{":
            depth += 1
            if depth == _DEEPEST + 1:
                kept.append(text[start : mark.start()])
        elif mark[0] in "]}":
            if depth == _DEEPEST + 1:
                kept.append("NaN")
                start = mark.end()
            depth -= 1
    return "".join([*kept, text[start:]] if depth <= _DEEPEST else kept)


def _without_oddity(found: re.Match[str]) -> str:
    """A text as it is where it can be one, or has no end; else a literal, or a key, that is read as odd."""
    text, end, colon = found.groups()
    if not end or not _ODDITY.search(text):
        return found[0]
    return f'"{_ODD_KEY}":' if colon else "NaN"


def _of_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any] | Odd:
    """An object; odd as a whole where a key is, since nobody can tell which of its fields is missing then."""
    found = dict(pairs)
    return Odd() if _ODD_KEY in found else found


def _refused(literal: str) -> float:
    raise ValueError(literal)


def _finite_or(otherwise: Callable[[str], Any]) -> Callable[[str], Any]:
    def number(literal: str) -> Any:
        value = float(literal)
        return value if math.isfinite(value) else otherwise(literal)

    return number


def _odd(_: str) -> Odd:
    return Odd()


def _whole_number(literal: str) -> int | Odd:
    try:
        return int(literal)
    except ValueError:  # Python makes no number of thousands of digits
        return Odd()


_STRICT = json.JSONDecoder(parse_constant=_refused, parse_float=_finite_or(_refused))
_LENIENT = json.JSONDecoder(
    parse_constant=_odd, parse_float=_finite_or(_odd), parse_int=_whole_number, object_pairs_hook=_of_pairs
)


@dataclass(frozen=True, slots=True)
class Failure:
    """What became of one attempt that brought no definite answer."""

    error: type[HttpError]
    problem: str
    advice: str
    status: int | None = None
    again: bool = True
    slow_down: bool = False
    wait: float | None = None


def judge(reply: Reply, now: float) -> Failure | None:
    """What a reply stands for; None for a definite answer. `now` is our clock, in seconds since 1970."""
    if reply.status < 300:
        return None
    if reply.status < 400:
        return _redirected(reply)
    told = _retry_after(reply.headers, now)
    pause = _throttled_for(reply)
    if reply.status == 429 or pause is not None:
        return _throttled(reply.status, Throttled, told if pause is None else pause)
    # 501 is a definite answer: RFC 7644 section 3.12 has it for "does not support the request operation".
    if reply.status < 500 or reply.status == 501:
        return None
    if told is not None:
        return _throttled(reply.status, Unanswered, told)
    return Failure(
        Unanswered,
        f"the service failed with status {reply.status}",
        f"Try again later; see the service status page of {reply.call.service}.",
        reply.status,
    )


def _redirected(reply: Reply) -> Failure:
    try:
        host = httpx.URL(reply.headers.get("location", "")).host
    except (httpx.InvalidURL, ValueError):  # idna's own errors pass through httpx
        host = ""
    return redirected_to(host, reply.status)


def redirected_to(host: str, status: int | None = None) -> Failure:
    """A redirect, of which `host` is where it leads, or empty."""
    where = f" to {host}" if re.fullmatch(r"[\w.:-]{1,253}", host, re.ASCII) else ""
    told = f" (status {status})" if status else ""
    return Failure(
        Redirected,
        f"the service redirects{where}{told}, which is never followed with credentials",
        "Check the address in the settings: the region's host, and no path too many or too few.",
        status,
        again=False,
    )


def _retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """The wait in seconds that Retry-After asks for (RFC 9110 section 10.2.3); None where it does not."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]+", value, re.ASCII):
        return max(BACKOFF[0], float(value))
    until = http_date(value)
    if until is None:
        return None
    # The service's own clock where it shows it: ours may differ.
    return max(BACKOFF[0], until - (http_date(headers.get("date", "")) or now))


def http_date(value: str) -> float | None:
    """The seconds since 1970 of a date in a header (RFC 9110 section 5.6.7); None for what is no date."""
    try:
        date = parsedate_to_datetime(value)
        # The obsolete form of C's asctime() names no zone; it is UTC too.
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _throttled_for(reply: Reply) -> float | None:
    """The wait in seconds of Keeper's way to throttle; None where this is none.

    Assumed for SCIM from Keeper's other interfaces, as its open-source Commander handles them: status 403,
    `{"error": "throttled", "message": "… 30 seconds …"}`, 60 s where none is named, never more than 300.
    """
    if reply.status != 403:
        return None
    try:
        document = reply.json()
    except BadReply:
        return None
    if not isinstance(document, dict) or document.get("error") != "throttled":
        return None
    named = _THROTTLED_FOR.search(str(document.get("message", "")))
    if named is None:
        return 60.0
    seconds = int(named[1]) * (60 if named[2].lower() == "minute" else 1)
    return min(MAX_WAIT, max(BACKOFF[0], float(seconds)))


def _throttled(status: int, error: type[HttpError], wait: float | None) -> Failure:
    if wait is not None and wait > MAX_WAIT:
        return Failure(
            error,
            f"the service asks to wait {wait:.0f} s (status {status}), more than {MAX_WAIT:.0f} s",
            "Try again after that time; see whether another program uses the same credential.",
            status,
            again=False,
            slow_down=True,
        )
    return Failure(
        error,
        f"the service asks to slow down (status {status})",
        "Try again later; see whether another program uses the same credential.",
        status,
        slow_down=True,
        wait=wait,
    )
