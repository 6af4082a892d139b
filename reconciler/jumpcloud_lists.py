"""Requests to JumpCloud, and whole lists out of pages that may shift while they are read.

Both versions of the API answer at most 100 rows a page. Neither gives a snapshot: a change while a list is read shifts
its rows, so that some come twice and others not at all. What is read is therefore counted against the total.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from reconciler.http import Http, HttpError, Reply
from reconciler.jumpcloud_replies import (
    IncompleteRead,
    Row,
    Unauthorized,
    Unavailable,
    UnexpectedReply,
    document,
    own_words,
    parsed,
)
from reconciler.tasks import together

PAGE = 100
"""Rows asked for in a page: more are refused by the V2 lists, and were by some of V1."""
READS = 4
"""How often a list is read that does not add up."""
WAVE = 4
"""How many pages are asked for at once, at most, where nobody says how many there are."""
MAX_ROWS = 2_000_000
"""No organisation has more; the bound keeps a nonsensical total from being paged."""

Progress = Callable[[str, int, int], None]
"""Told after each page: what is read, how many rows so far, how many are announced."""


R = TypeVar("R", bound=Row)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Page(Generic[R]):
    """One page: its rows, and how many of its places hold a deleted object. `total` is None where nobody says it."""

    rows: list[R]
    dead: int
    total: int | None

    @property
    def length(self) -> int:
        """The places that are taken, dead ones included."""
        return len(self.rows) + self.dead


class _Envelope(BaseModel):
    model_config = ConfigDict(extra="ignore")

    results: list[Any]
    totalCount: int | None = Field(default=None, ge=0)


@dataclass(slots=True)
class _Reading(Generic[V]):
    """One reading of a list, page by page; `values` are what is kept of its rows."""

    ids: set[str] = field(default_factory=set)
    values: dict[str, V] = field(default_factory=dict)
    totals: set[int | None] = field(default_factory=set)
    dead: int = 0
    repeated: bool = False
    first: int = 0
    """The length of the first page."""

    @property
    def size(self) -> int:
        """The rows accounted for."""
        return len(self.ids) + self.dead

    @property
    def sound(self) -> bool:
        """Whether nothing speaks against it: the rows are as many as announced, or, unannounced, none came twice."""
        return not self.repeated if self.totals == {None} else self.totals == {self.size}


class Lists:
    """JumpCloud's interface as far as it is the same for everything that is read.

    Every method raises JumpCloudError where there is no clear answer. `forget_token` makes `http` send another
    token, if it sends one that may end early.
    """

    def __init__(self, http: Http, forget_token: Callable[[], None] | None) -> None:
        self._http = http
        self._forget_token = forget_token
        self._forgotten = 0

    async def send(
        self, method: str, path: str, params: Mapping[str, str | int], *, body: Any = None, also: Iterable[int] = ()
    ) -> Reply:
        """Send a request that changes nothing, and return the answer: status 200, or one of `also`."""
        reply = await self._once(method, path, params, body)
        if reply.status == 200 or reply.status in also:
            return reply
        words = own_words(reply)
        problem = f"JumpCloud answered {method} {path} with HTTP {reply.status}{f' ({words})' if words else ''}"
        if reply.status in (401, 403):
            raise Unauthorized(problem, _CREDENTIALS if reply.status == 401 else _ROLE, reply.status)
        raise UnexpectedReply(problem, "Check jumpcloud.base_url and jumpcloud.organization.", reply.status)

    async def _once(self, method: str, path: str, params: Mapping[str, str | int], body: Any) -> Reply:
        """One answer; a 401 counts only once another token, where tokens are used, did not help."""
        forgotten = self._forgotten
        try:
            reply = await self._http.request(method, path, params=params, json=body, repeatable=True)
            if reply.status == 401 and self._forget_token is not None:
                if self._forgotten == forgotten:  # else a request beside this one has done so
                    self._forgotten += 1
                    self._forget_token()
                reply = await self._http.request(method, path, params=params, json=body, repeatable=True)
            return reply
        except HttpError as error:
            failed = Unavailable(error)
        raise failed

    async def v1(self, path: str, model: type[R], params: Mapping[str, str], skip: int, what: str) -> Page[R]:
        """One page of a V1 list. Without `sort=_id` rows may be missing or double, as JumpCloud's support says."""
        reply = await self.send("GET", path, {**params, "sort": "_id", "limit": PAGE, "skip": skip})
        return envelope(reply, model, what)

    async def v2(self, path: str, model: type[R], params: Mapping[str, str], skip: int, what: str) -> Page[R]:
        """One page of a V2 list. The total is in a header that live replies carry and the API description lacks.

        A deleted object may leave a null, or a shorter page, behind.
        """
        reply = await self.send("GET", path, {**params, "limit": PAGE, "skip": skip})
        rows = document(reply)
        if not isinstance(rows, list):
            raise UnexpectedReply(f"JumpCloud's list of {what} is not a list")
        total = reply.headers.get("x-total-count", "").strip()
        live = [parsed(model, row, f"one of the {what}") for row in rows if row is not None]
        # More digits than these are too many rows as well, and Python refuses to make a number of thousands of them.
        announced = int(total[:19]) if total.isascii() and total.isdigit() else None
        return Page(live, len(rows) - len(live), announced)


def envelope(reply: Reply, model: type[R], what: str) -> Page[R]:
    """One page of a V1 list out of its reply."""
    found = parsed(_Envelope, document(reply), f"the {what}")
    return Page([parsed(model, row, f"one of the {what}") for row in found.results], 0, found.totalCount)


async def whole(
    page: Callable[[int], Awaitable[Page[R]]],
    keep: Callable[[R], V | None],
    what: str,
    *,
    merge: Callable[[V, V], V] = lambda _, new: new,
    progress: Progress | None = None,
    first: Page[R] | None = None,
) -> dict[str, V]:
    """The whole list: what `keep` makes of each row, by id; rows for which that is None are only counted.

    `page` reads the page that begins at a row, `merge` joins two rows of one id, `first` is page 0 where it was read
    already. A list that does not add up is read again. Two readings in a row with the same ids are taken as they are,
    since totals may count deleted objects (assumed). Raises IncompleteRead where no two agree.
    """
    before: set[str] | None = None
    for _ in range(READS):
        reading: _Reading[V] = _Reading()
        await _read(reading, page, _taker(reading, keep, merge, what, progress), what, first)
        if reading.sound:
            return reading.values
        if reading.ids == before:
            if await _capped(reading, page):
                raise IncompleteRead(f"JumpCloud's list of {what} has pages of fewer rows than were asked for")
            return reading.values
        before, first = reading.ids, None
    announced = ", ".join(str(total) for total in sorted(total for total in reading.totals if total is not None))
    raise IncompleteRead(
        f"JumpCloud's list of {what} does not add up: {reading.size} read, {announced or 'no total'} announced, and no "
        f"two of {READS} readings agree"
    )


def _taker(
    reading: _Reading[V],
    keep: Callable[[R], V | None],
    merge: Callable[[V, V], V],
    what: str,
    progress: Progress | None,
) -> Callable[[Page[R]], None]:
    def take(page: Page[R]) -> None:
        reading.totals.add(page.total)
        reading.dead += page.dead
        for row in page.rows:
            reading.repeated |= row.id in reading.ids
            reading.ids.add(row.id)
            value = keep(row)
            if value is not None:
                known = reading.values.get(row.id)
                reading.values[row.id] = value if known is None else merge(known, value)
        if progress:
            progress(what, reading.size, max(page.total or 0, reading.size))

    return take


async def _read(
    reading: _Reading[V],
    page: Callable[[int], Awaitable[Page[R]]],
    take: Callable[[Page[R]], None],
    what: str,
    first: Page[R] | None,
) -> None:
    """Read every page up to the total at once, then, unless that was clearly all, on to an empty page.

    A short page is not the end: deleted objects may shorten it, and may or may not be counted.
    """

    async def one(skip: int) -> int:
        found = await page(skip)
        take(found)
        return found.length

    first = first or await page(0)
    reading.first = first.length
    take(first)
    total = first.total
    if (total or 0) > MAX_ROWS:
        raise UnexpectedReply(f"JumpCloud announces {total} rows in the list of {what}")
    lengths = [first.length, *await together(one(skip) for skip in range(PAGE, total or 0, PAGE))]
    follows, wave = PAGE * len(lengths), 1
    more = lengths[-1] > 0 if total is None else lengths[-1] >= PAGE or reading.size < total
    while more:
        size = reading.size
        more = (await together(one(follows + PAGE * number) for number in range(wave)))[-1] > 0
        if more and reading.size == size:
            raise UnexpectedReply(f"JumpCloud's list of {what} has no end: the same rows come again and again")
        follows, wave = follows + PAGE * wave, min(WAVE, 2 * wave)


async def _capped(reading: _Reading[V], page: Callable[[int], Awaitable[Page[R]]]) -> bool:
    """Whether pages hold fewer rows than asked for, so that there are rows between them that were never read.

    Dead objects take a place on a page: what follows a shortened one is known from the next.
    """
    between = await page(reading.first)
    return any(row.id not in reading.ids for row in between.rows)


_CREDENTIALS = (
    "Check jumpcloud.api_key (a key belongs to one administrator, and a new one makes the old one invalid) or "
    "jumpcloud.client_id and its secret; administrators of several organisations must name one in "
    "jumpcloud.organization. Restart the service after a change."
)
_ROLE = (
    "The administrator's role must allow API access and reading users, user groups and applications; see also whether "
    "JumpCloud restricts the addresses that may ask."
)
