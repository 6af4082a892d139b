"""One HTTP policy for both services: time-outs, retries, pace, size limits, TLS, no credential in any text.

What callers get is simple: `Http.request` returns a `Reply` only where the service gave a definite answer;
everything else is an `HttpError` whose class says what that means for the request (see there).
"""

import asyncio
import functools
import json
import logging
import math
import os
import re
import socket
import ssl
import urllib.parse
import urllib.request
import zlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

import certifi
import httpx
from loguru import logger

from reconciler import evidence_age
from reconciler.evidence_age import MAX_AGE, Stamp, last_moment, patience
from reconciler.http_clients import Clients, Loan
from reconciler.http_clock import ServiceClock
from reconciler.http_errors import (
    BadReply,
    Call,
    HttpError,
    Redirected,
    Throttled,
    TooLate,
    Unanswered,
    Unreachable,
)
from reconciler.http_replies import BACKOFF, MAX_PARTS, Failure, Reply, judge, redirected_to
from reconciler.pace import Clock, NoTurn, Pace, is_urgent, no_end
from reconciler.urls import is_loopback, service_url

__all__ = [
    "MAX_PARTS",
    "BadReply",
    "Call",
    "Clock",
    "Counters",
    "Headers",
    "Http",
    "HttpError",
    "Limits",
    "Pace",
    "Redirected",
    "Reply",
    "Throttled",
    "TooLate",
    "Unanswered",
    "Unreachable",
    "last_moment",
]

# httpx logs whole addresses at INFO, query values included; httpcore logs reply headers at DEBUG.
logging.getLogger("httpx").setLevel(logging.WARNING)
logging.getLogger("httpcore").setLevel(logging.WARNING)

# No empty segment and no dot segment: no id taken from a reply turns a path into that of something else.
_PATH = re.compile(r"(?:/(?!(?:\.|%2e){1,2}(?:/|$))[\w.~!$&'()*+,;=:@%-]+)+", re.ASCII | re.IGNORECASE)
_HEADER_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")

_HEADERS = {
    "accept": "*/*",
    "accept-encoding": "gzip",
    "connection": "keep-alive",
    "user-agent": "jumpcloud-keeper-reconciler",
    # A proxy that opens TLS may keep answers: to x-api-key, no rule of caching forbids it.
    "cache-control": "no-cache",
}

Headers = Mapping[str, str] | Callable[[], Awaitable[Mapping[str, str]]]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one request: seconds, bytes after decompression, attempts."""

    connect: float = 10.0
    read: float = 60.0
    """Silence on the connection."""
    reply: float = 120.0
    """One attempt as a whole, against replies that trickle."""
    reply_bytes: int = 64 * 2**20
    attempts: int = 6
    total: float = 900.0
    """From the first attempt until the last may begin."""


@dataclass(slots=True)
class Counters:
    """Counts of what the clients of one service have done: attempts sent, attempts repeated, replies that said to slow
    down. `waiting` are the requests that are not urgent and have no answer yet, or are not to begin yet; `sign` is the
    monotonic time of the last sign of life: an attempt that began or ended, or a request while there was no other.
    Urgent ones count only while others wait: the leaver lane, which asks each minute, is no sign that whole cycles go
    on."""

    requests: int = 0
    retries: int = 0
    throttled: int = 0
    waiting: int = 0
    sign: float = -math.inf


class Http:
    """A client of one service, for several workers at once.

    `headers` are the credentials: a mapping, or a function asked before every attempt. `base_url` must be fit
    for them, see `service_url` (ValueError). Proxies come from HTTPS_PROXY, ALL_PROXY and NO_PROXY (never for
    loopback), trusted authorities from SSL_CERT_FILE, REQUESTS_CA_BUNDLE and SSL_CERT_DIR, else from the
    system; Unreachable where those can't be used. `reads_only`: no request changes anything there, so that a POST
    may have been a search too; `last_moment` holds for changes. `counters` may be those of another client of the same
    service.
    """

    def __init__(
        self,
        *,
        service: str,
        base_url: str,
        headers: Headers,
        pace: Pace,
        in_flight: int,
        reads_only: bool = False,
        limits: Limits | None = None,
        clock: Clock | None = None,
        counters: Counters | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.service = service
        self.base_url = service_url(base_url)
        self.counters = counters or Counters()
        self._headers = _asked(headers)
        self._pace = pace
        self._reads_only = reads_only
        self._limits = limits or Limits()
        self._timeout = httpx.Timeout(self._limits.read, connect=self._limits.connect).as_dict()
        self._clock = clock or Clock()
        self._service_clock = ServiceClock(self._clock)
        self._host = urllib.parse.urlsplit(self.base_url).netloc
        self._basic = {"Host": httpx.URL(self.base_url).netloc.decode("ascii"), **_HEADERS}
        local = is_loopback(self.base_url)
        if local:
            pace.lift()
        self._proxied = not local and bool({"https", "all"} & urllib.request.getproxies().keys())
        pace.limit(in_flight)
        tls = self._tls_of_this_process()
        # Each client has one connection: one client with a pool of 16 takes more than twice the time.
        self._clients = Clients(lambda: self._client(tls, transport, trust_env=not local))

    def __repr__(self) -> str:
        return f"<Http {self.service} {self.base_url}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._clients.close()

    def clock_offset(self) -> float | None:
        """Seconds by which the service's clock is ahead of this machine's wall clock as it is now.

        None until the three newest definite JSON replies with a `Date` agree; see `ServiceClock`.
        """
        return self._service_clock.offset()

    async def calm(self) -> None:
        """Wait as long as the service has asked everybody to wait."""
        with self._waits():
            await self._pace.calm()

    @contextmanager
    def _waits(self) -> Iterator[None]:
        """Count what is done within as waiting, unless it is urgent."""
        if not self.counters.waiting:
            self._sign()
        counted = int(not is_urgent())
        self.counters.waiting += counted
        try:
            yield
        finally:
            self.counters.waiting -= counted

    @property
    def clock(self) -> Clock:
        """The clock by which the age of evidence is measured."""
        return self._clock

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        json: Any = None,
        form: Mapping[str, str] | None = None,
        repeatable: bool,
    ) -> Reply:
        """Send one request, again where that is safe, and return the definite answer.

        What never arrived or was throttled is repeated for every request; what got no answer, or a 5xx, only
        where it is `repeatable` (doing it twice is doing it once). `path` follows the base address, begins
        with a slash and is percent-encoded by the caller; ValueError where a segment is empty or of dots.
        `json` or `form` is the body. Raises HttpError.
        """
        url = _url(self.base_url, path, urllib.parse.urlencode(params) if params else "")
        call = Call(self.service, method, path)
        content, about_it = _body(json, form)
        headers = httpx.Headers(self._basic | about_it)
        changes = method != "GET" and not self._reads_only
        time_left = functools.partial(evidence_age.time_left, self._clock) if changes else no_end
        wanted = _Wanted(call, url, headers, content, changes, time_left)
        with self._waits():
            return await self._answer(wanted, repeatable=repeatable)

    async def _answer(self, wanted: "_Wanted", *, repeatable: bool) -> Reply:
        """Make attempts until there is a definite answer, or none is to be expected."""
        attempts, doubtful = 0, False
        first: float | None = None
        failed: Failure | None = None
        while True:
            try:
                began, outcome = await self._attempt(wanted)
            except NoTurn:
                raise self._too_late(wanted, failed, attempts, doubtful=doubtful) from None
            attempts += 1
            if isinstance(outcome, Reply):
                return replace(outcome, doubtful=True) if doubtful else outcome
            failed = outcome
            first = began if first is None else first
            lost = outcome.error is Unanswered
            doubtful = doubtful or lost
            wait = self._backoff(attempts) if outcome.wait is None else outcome.wait
            alone = outcome.slow_down and not self._pace.throttles_all(wanted.asked)
            if outcome.slow_down:
                self._slow_down(wanted, outcome, began, wait, alone=alone)
            if (
                not outcome.again
                or (lost and (not repeatable or self._clock.monotonic() - first > patience()))
                or (alone and (not repeatable or self._clock.monotonic() + wait - first > patience()))
                or attempts >= self._limits.attempts
                or self._clock.monotonic() + wait - first > self._limits.total
            ):
                raise self._error(wanted, outcome, attempts, doubtful=doubtful)
            if wait > wanted.time_left():
                raise self._too_late(wanted, outcome, attempts, doubtful=doubtful)
            self.counters.retries += 1
            logger.debug("{}: {}; again in {:.1f} s", wanted.call, outcome.problem, wait)
            if alone or not outcome.slow_down:
                await self._clock.sleep(wait)

    async def _attempt(self, wanted: "_Wanted") -> tuple[float, Reply | Failure]:
        """One attempt and when it began. Nothing that httpx raises leaves, as it holds the credentials.

        Raises NoTurn where it would begin after the last moment. Whatever ends it, cancellation at any await
        included, its place in the pace is free again, and a connection in doubt is thrown away.
        """
        began = await self._pace.turn(wanted.time_left)
        stamp = Stamp.now(self._clock)
        try:
            with self._clients.lend() as loan:
                outcome = await self._send(loan, wanted)
        finally:
            self._pace.done()
        if wanted.changes and not (isinstance(outcome, Failure) and outcome.error is Unreachable):
            evidence_age.attempted(stamp)
        if isinstance(outcome, Reply):
            outcome = judge(outcome, self._clock.wall()) or outcome
        if isinstance(outcome, Reply):
            self._pace.answered(wanted.asked, began)
            evidence_age.answered(stamp)
            self._service_clock.learn(outcome.headers, outcome.received)
        took = 1000 * (self._clock.monotonic() - began)
        result = outcome.status if outcome.status is not None else outcome.problem
        logger.debug("{}: {} in {:.0f} ms", wanted.call, result, took)
        return began, outcome

    async def _send(self, loan: Loan, wanted: "_Wanted") -> Reply | Failure:
        async def trace(event: str, told: Mapping[str, Any]) -> None:
            await loan.trace(event, told)
            # The machine may have slept while it connected: the request must not leave it after a night.
            if event.endswith(".send_request_headers.started") and wanted.time_left() < 0:
                raise NoTurn

        # Without the client, which would merge its own of everything into each request, and complete: what httpx adds
        # to a `content` takes it longer than all the rest.
        request = httpx.Request(
            wanted.call.method,
            wanted.url,
            headers=wanted.headers,
            stream=httpx.ByteStream(wanted.content),
            extensions={"trace": trace, "timeout": self._timeout},
        )
        if not await self._authorise(request):
            return _BAD_CREDENTIALS
        if wanted.time_left() < 0:
            raise NoTurn
        self.counters.requests += 1
        self._sign()
        try:
            async with asyncio.timeout(self._limits.reply):
                return await self._exchange(loan, request, wanted.call)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, RuntimeError, ValueError) as error:
            return self._explain(error)
        finally:
            self._sign()

    def _sign(self) -> None:
        if self.counters.waiting or not is_urgent():
            self.counters.sign = self._clock.monotonic()

    async def _authorise(self, request: httpx.Request) -> bool:
        """Put the credentials in; False where they can't be sent. No frame that can fail later holds them."""
        headers = await self._headers()
        if not all(_HEADER_VALUE.fullmatch(value) for value in headers.values()):
            return False
        for name, value in headers.items():
            request.headers[name] = value
        return True

    async def _exchange(self, loan: Loan, request: httpx.Request, call: Call) -> Reply | Failure:
        loan.clean = False
        response = await loan.client.send(request, stream=True, auth=None, follow_redirects=False)
        received = self._clock.boottime()
        try:
            body = await _read(response, self._limits.reply_bytes)
        finally:
            await response.aclose()
        if isinstance(body, Failure):
            return body
        loan.clean = True
        return Reply(response.status_code, response.headers, body, call, received=received)

    def _explain(self, error: Exception) -> Failure:
        """Put what httpx raised into words; httpx's own text and the error itself are not kept."""
        if isinstance(error, httpx.ProxyError):
            return _proxy_failure(error)
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return self._no_connection(error)
        if isinstance(error, httpx.InvalidURL | ValueError):
            # httpx looks at where a redirect leads though it is not to follow it, and stumbles over what is no address.
            return redirected_to("")
        if isinstance(error, httpx.TimeoutException):
            problem = f"no answer within {self._limits.read:g} s"
        elif isinstance(error, TimeoutError):
            problem = f"the answer was not complete within {self._limits.reply:g} s"
        else:
            problem = "the connection broke before the answer was complete"
        advice = f"Check the network and the service status page of {self.service}, then try again."
        return Failure(Unanswered, problem, advice)

    def _no_connection(self, error: httpx.ConnectError | httpx.ConnectTimeout) -> Failure:
        peer = f"{self._host} or the proxy in HTTPS_PROXY" if self._proxied else self._host
        problem = f"no connection to {peer}"
        advice = "Check the network, the firewall and, where one is needed, HTTPS_PROXY and NO_PROXY."
        if isinstance(error, httpx.ConnectTimeout):
            return Failure(Unreachable, f"{problem} within {self._limits.connect:g} s", advice)
        for cause in _causes(error):
            if isinstance(cause, ssl.SSLCertVerificationError):
                return _untrusted(self._host, cause)
            if isinstance(cause, ssl.SSLError):
                return Failure(Unreachable, f"no TLS connection to {peer} ({cause.reason or 'cut'})", advice)
            if isinstance(cause, socket.gaierror):
                advice = "Check the address in the settings and the name service (DNS) of this machine."
                return Failure(Unreachable, f"the host name of {peer} cannot be resolved", advice)
            if isinstance(cause, OSError) and cause.errno:
                problem += f" ({os.strerror(cause.errno)})"
                break
        return Failure(Unreachable, problem, advice)

    def _slow_down(self, wanted: "_Wanted", failure: Failure, began: float, wait: float, *, alone: bool) -> None:
        self.counters.throttled += 1
        if alone:
            logger.debug("{}: {}; others are answered meanwhile, and go on", wanted.call, failure.problem)
        # Too long a wait ends this request; the others shall find that out now, not after waiting.
        elif self._pace.throttled(wanted.asked, began, wait if failure.again else 0.0):
            logger.warning(
                "{}: {}: {}at most {:.1f} requests a second from now on",
                self.service,
                failure.problem,
                f"waiting {wait:.0f} s, then " if failure.again else "that request is given up; ",
                self._pace.rate,
            )

    def _backoff(self, attempts: int) -> float:
        """Full jitter: anything from the least to an upper bound that doubles with each attempt."""
        least, most = BACKOFF
        bound = min(most, least * 2.0 ** min(attempts, 10))
        return least + self._clock.random() * (bound - least)

    def _error(self, wanted: "_Wanted", failure: Failure, attempts: int, *, doubtful: bool) -> HttpError:
        """Once an attempt may have arrived, that is what counts, whatever became of the later ones."""
        kind = Unanswered if doubtful else failure.error
        problem = failure.problem
        if doubtful and wanted.changes:
            problem += "; the request may have taken effect"
        return kind(wanted.call, problem, failure.advice, attempts=attempts, status=failure.status)

    def _too_late(self, wanted: "_Wanted", failed: Failure | None, attempts: int, *, doubtful: bool) -> HttpError:
        """The error of a request whose next attempt would begin too late; `failed` is the attempt before."""
        if doubtful and failed is not None:
            return self._error(wanted, failed, attempts, doubtful=True)
        problem, advice = evidence_age.overruled(), "Nothing was changed. The next cycle decides anew."
        if not problem:
            problem = f"its confirmation is older than {MAX_AGE:g} s, or would be when it is sent"
            advice = (
                "Nothing was changed. The next cycle confirms it anew; if that lasts, look at why replies are so slow."
            )
        if failed is not None:
            problem = f"{failed.problem}, and {problem}"
        return TooLate(wanted.call, problem, advice, attempts=attempts, status=failed.status if failed else None)

    def _tls_of_this_process(self) -> ssl.SSLContext:
        try:
            return tls_from_environment()
        except OSError as error:
            problem = f"the certificates named in the environment cannot be used ({error.strerror or error})"
        advice = "Check SSL_CERT_FILE, REQUESTS_CA_BUNDLE and SSL_CERT_DIR: readable files in PEM format."
        raise Unreachable(Call(self.service, "", ""), problem, advice)

    def _client(
        self, tls: ssl.SSLContext, transport: httpx.AsyncBaseTransport | None, *, trust_env: bool
    ) -> httpx.AsyncClient:
        try:
            return _Client(
                verify=tls,
                trust_env=trust_env,
                transport=transport,
                limits=httpx.Limits(max_connections=1),
            )
        except (ValueError, ImportError, httpx.InvalidURL):
            problem = "the proxy named in the environment cannot be used"
        advice = "Check HTTPS_PROXY and ALL_PROXY: an address such as http://proxy.example:3128."
        raise Unreachable(Call(self.service, "", ""), problem, advice)


_OUT_OF_TIME = (9, 10)
"""The codes of OpenSSL for a certificate that is not valid yet, or not any more (X509_STORE_CTX_get_error(3))."""


@functools.lru_cache(maxsize=128)
def _url(base: str, path: str, query: str) -> httpx.URL:
    """An address as httpx takes it; each cycle asks for the same lists, and httpx parses slowly."""
    if not _PATH.fullmatch(path):
        raise ValueError(f"not a path that can be requested: {path!r}")
    return httpx.URL(f"{base}{path}?{query}" if query else f"{base}{path}")


class _NoCookies(httpx.Cookies):
    """Cookies that are neither kept nor sent."""

    def extract_cookies(self, response: httpx.Response) -> None:
        """Keep none. To let the policy of a jar refuse them, httpx would make up two requests of another library."""


class _Client(httpx.AsyncClient):
    """A client without cookies."""

    @property
    def cookies(self) -> httpx.Cookies:
        """None, ever."""
        return _NO_COOKIES

    @cookies.setter
    def cookies(self, _: object) -> None:
        raise AttributeError("a client without cookies")


_NO_COOKIES = _NoCookies()


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One request as the caller wants it. No repr tells its query or its body."""

    call: Call
    url: httpx.URL = field(repr=False)
    headers: httpx.Headers = field(repr=False)
    """All but the credentials."""
    content: bytes = field(repr=False)
    changes: bool
    time_left: Callable[[], float]
    """Seconds within which an attempt has to begin."""

    @property
    def asked(self) -> int:
        """The same for all requests that ask the same."""
        return hash((self.call.method, self.url, self.content))


_BAD_CREDENTIALS = Failure(
    Unreachable,
    "the credential holds a character that cannot be sent",
    "Look for a line break, a space or a letter beyond ASCII in the file or variable it is from.",
    again=False,
)


def _asked(headers: Headers) -> Callable[[], Awaitable[Mapping[str, str]]]:
    """Both forms of credentials as one; held in a closure, where no repr shows them."""
    if callable(headers):
        return headers
    fixed = dict(headers)

    async def give() -> Mapping[str, str]:
        return fixed

    return give


def _body(document: Any, form: Mapping[str, str] | None) -> tuple[bytes, dict[str, str]]:
    """The content of a request, and the headers that tell of it."""
    if form is not None:
        content, kind = urllib.parse.urlencode(form).encode(), "application/x-www-form-urlencoded"
    elif document is not None:
        content, kind = json.dumps(document, allow_nan=False).encode(), "application/json"
    else:
        return b"", {}
    return content, {"content-type": kind, "Content-Length": str(len(content))}


async def _read(response: httpx.Response, limit: int) -> bytes | Failure:
    """The body, decompressed here so that the limit holds for what comes out of it, and stops early."""
    coding = response.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip", "x-gzip"):
        return _damaged(response)
    unzip = None if coding == "identity" else zlib.decompressobj(wbits=31)
    body = bytearray()
    received = 0
    async for chunk in response.stream:  # type: ignore[union-attr]
        received += len(chunk)
        try:
            body += chunk if unzip is None else unzip.decompress(chunk, limit + 1 - len(body))
        except zlib.error:
            return _damaged(response)
        if len(body) > limit or received > limit:
            return Failure(
                Unanswered,
                f"the answer is larger than {limit} bytes",
                "Check the address in the settings; no answer of this service should be as large.",
                response.status_code,
                again=False,
            )
    if unzip is not None and received and not unzip.eof:
        return _damaged(response)
    return bytes(body)


def _damaged(response: httpx.Response) -> Failure:
    return Failure(
        Unanswered,
        "the answer is damaged or in an encoding that was not asked for",
        "Check whether a proxy alters replies, then try again.",
        response.status_code,
    )


def _proxy_failure(error: httpx.ProxyError) -> Failure:
    """The tunnel was not made, so nothing arrived. A 4xx of the proxy (407: its password) will not heal."""
    status = re.match(r"[0-9]{3}\b", str(error))
    answer = f" with status {status[0]}" if status else ""
    return Failure(
        Unreachable,
        f"the proxy refused the connection{answer}",
        "Check HTTPS_PROXY with its user name and password, and what the proxy permits.",
        again=not (status and status[0].startswith("4")),
    )


def _untrusted(host: str, error: ssl.SSLCertVerificationError) -> Failure:
    advice = "If a proxy of your own inspects TLS, name the file with its authority (PEM) in SSL_CERT_FILE; otherwise "
    if getattr(error, "verify_code", 0) in _OUT_OF_TIME:
        advice = "Look at the clock of this machine (timedatectl). If that is right, the certificate is not: "
    return Failure(
        Unreachable,
        f"the TLS certificate of {host} is not trusted ({error.verify_message})",
        f"{advice}somebody may be listening: do not go on.",
        again=False,
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        inner = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else None
        error = inner or error.__cause__ or error.__context__


def tls_from_environment() -> ssl.SSLContext:
    """The TLS context of this process. Raises OSError where the environment names unusable certificates."""
    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or None
    file = os.environ.get("SSL_CERT_FILE") or None
    directory = os.environ.get("SSL_CERT_DIR") or None
    if file is None and bundle is not None:
        # REQUESTS_CA_BUNDLE may name either.
        file, directory = (None, bundle) if os.path.isdir(bundle) else (bundle, directory)
    return _tls(file, directory)


@functools.lru_cache(maxsize=4)
def _tls(file: str | None, directory: str | None) -> ssl.SSLContext:
    """One context for all clients: making one reads some 140 certificates."""
    if directory is not None:
        os.listdir(directory)
    if file is None and directory is None:
        system = ssl.get_default_verify_paths()
        if not (system.cafile or (system.capath and os.listdir(system.capath))):
            file = certifi.where()
    return ssl.create_default_context(cafile=file, capath=directory)
