"""Requests to JumpCloud, and whole lists out of pages that may shift while they are read.

Both versions of the API answer at most 100 rows a page. Neither gives a snapshot: a change while a list is read shifts
its rows, so that some come twice and others not at all. What is read is therefore counted against the total. The total
itself proves no end: it may be missing, or count the page. A list ends with the empty page after its last row.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from reconciler.http import Http, HttpError, Reply
from reconciler.http_replies import declares_json
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
from reconciler.model import announced
from reconciler.tasks import together

APPLICATIONS = "/api/applications"
PAGE = 100
"""Rows asked for in a page: more are refused by the V2 lists, and were by some of V1."""
READS = 3
"""How often a list is read that does not add up."""
WAVE = 4
"""How many pages are asked for at once, at most, where nobody says how many there are."""
AHEAD = 50
"""How many announced pages are asked for at once. So many empty ones end them: no total costs more than that."""
MAX_ROWS = 2_000_000
"""No organisation has more; the bound keeps a nonsensical total from being paged, and ends a list without an end."""
KNOWN_PAGES = 3
"""So many pages in a row that show nothing new make a list without end."""
ODD_ROWS = 10
ODD_SHARE = 0.05
"""A list of which more rows than both can't be read is no list: its form has changed, or somebody alters replies."""

Progress = Callable[[str, int, int], None]
"""Told after each page: what is read, how many rows so far, how many are announced."""


R = TypeVar("R", bound=Row)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Page(Generic[R]):
    """One page: its rows, and the places on it that hold a deleted object, or a row that can't be used. `total` is
    None where nobody says it."""

    rows: list[R]
    dead: tuple[int, ...]
    odd: tuple[int, ...]
    total: int | None

    @property
    def length(self) -> int:
        """The places that are taken."""
        return len(self.rows) + len(self.dead) + len(self.odd)


@dataclass(frozen=True, slots=True)
class Whole(Generic[V]):
    """A whole list: what is kept of its rows, by id; how many could not be used, and how many hold a deleted object;
    and the ids of rows of which it is not sure whether they belong to it, since the list changed while it was read.
    `short`: it announced more rows than it had, so that it proves no absence."""

    values: dict[str, V]
    odd: int = 0
    unsure: frozenset[str] = frozenset()
    short: bool = False
    dead: int = 0


class _Envelope(BaseModel):
    model_config = ConfigDict(extra="ignore")

    results: list[Any] | None
    totalCount: Any = None


@dataclass(slots=True)
class _Reading(Generic[V]):
    """One reading of a list, page by page; `values` are what is kept of its rows. `dead` and `odd` are places in the
    list, `unusable` the ids of rows that are kept and can't tell what they are read for."""

    ids: set[str] = field(default_factory=set)
    values: dict[str, V] = field(default_factory=dict)
    totals: set[int | None] = field(default_factory=set)
    dead: set[int] = field(default_factory=set)
    odd: set[int] = field(default_factory=set)
    unusable: set[str] = field(default_factory=set)
    repeated: bool = False

    @property
    def size(self) -> int:
        """The rows accounted for."""
        return len(self.ids) + len(self.dead) + len(self.odd)

    @property
    def sound(self) -> bool:
        """Whether nothing speaks against it: the rows are as many as announced, or, unannounced, none came twice."""
        return not self.repeated if self.totals == {None} else self.totals == {self.size}

    @property
    def short(self) -> bool:
        """Whether more rows were announced than came."""
        return any(total is not None and total > self.size for total in self.totals)

    def check(self, what: str) -> None:
        """Raise IncompleteRead where too many rows can't be read."""
        check_odd(len(self.odd) + len(self.unusable), self.size, what)


class Lists:
    """JumpCloud's interface as far as it is the same for everything that is read.

    Every method raises JumpCloudError where there is no clear answer. `forget_token` makes `http` send another
    token, if it sends one that may end early.
    """

    def __init__(self, http: Http, forget_token: Callable[[], None] | None) -> None:
        self._http = http
        self._forget_token = forget_token
        self._forgotten = 0

    async def calm(self) -> None:
        """Wait as long as the service has asked everybody to wait."""
        await self._http.calm()

    async def send(
        self,
        method: str,
        path: str,
        params: Mapping[str, str | int],
        *,
        body: Any = None,
        also: Iterable[int] = (),
        patient: bool = True,
    ) -> Reply:
        """Send a request that changes nothing, and return the answer: status 200, or one of `also`. A request that is
        not `patient` is not sent again after a failure of the service."""
        reply = await self._once(method, path, params, body, patient)
        if reply.status == 200 or reply.status in also:
            return reply
        words = own_words(reply)
        problem = f"JumpCloud answered {method} {path} with HTTP {reply.status}{f' ({words})' if words else ''}"
        if reply.status == 403 or (reply.status == 401 and await self._accepted(path)):
            raise Unauthorized(problem, _ROLE, 403)
        if reply.status == 401:
            raise Unauthorized(problem, _CREDENTIALS, 401)
        raise UnexpectedReply(problem, "Check jumpcloud.base_url and jumpcloud.organization.", reply.status)

    async def _accepted(self, refused: str) -> bool:
        """Whether the credentials are accepted though one path is `refused`: whether the applications, which every
        cycle reads first, can be read with them."""
        if refused == APPLICATIONS:
            return False
        try:
            reply = await self._once("GET", APPLICATIONS, {"fields": "_id", "limit": 1, "skip": 0}, None, patient=False)
        except Unavailable:
            return False
        return reply.status == 200

    async def _once(self, method: str, path: str, params: Mapping[str, str | int], body: Any, patient: bool) -> Reply:
        """One answer; a 401 counts only once another token, where tokens are used, did not help."""
        forgotten = self._forgotten
        try:
            reply = await self._http.request(method, path, params=params, json=body, repeatable=patient)
            if reply.status == 401 and self._forget_token is not None:
                if self._forgotten == forgotten:  # else a request beside this one has done so
                    self._forgotten += 1
                    self._forget_token()
                reply = await self._http.request(method, path, params=params, json=body, repeatable=patient)
            return reply
        except HttpError as error:
            failed = Unavailable(error)
        raise failed

    async def v1(
        self, path: str, model: type[R], params: Mapping[str, str], skip: int, what: str, *, patient: bool = True
    ) -> Page[R]:
        """One page of a V1 list. Without `sort=_id` rows may be missing or double, as JumpCloud's support says."""
        reply = await self.send("GET", path, {**params, "sort": "_id", "limit": PAGE, "skip": skip}, patient=patient)
        return envelope(reply, model, what, skip)

    async def v2(
        self, path: str, model: type[R], params: Mapping[str, str], skip: int, what: str, kind: str = ""
    ) -> Page[R]:
        """One page of a V2 list. The total is in a header that live replies carry and the API description lacks.

        A deleted object may leave a null, or a shorter page, behind. Rows of another type than `kind` are odd; without
        a `kind`, the reader looks at the type.
        """
        reply = await self.send("GET", path, {**params, "limit": PAGE, "skip": skip})
        total = reply.headers.get("x-total-count", "").strip()
        rows = document(reply)
        if rows is None and declares_json(reply.headers) and _is_behind(skip, total):
            rows = []
        if not isinstance(rows, list):
            raise UnexpectedReply(f"JumpCloud's list of {what} is not a list")
        dead = tuple(place for place, row in enumerate(rows) if row is None)
        typed = [row.get("type") if isinstance(row, dict) else None for row in rows]
        mistyped = [place for place, found in enumerate(typed) if kind and found != kind]
        return _page(rows, model, total, dead, mistyped)


def envelope(reply: Reply, model: type[R], what: str, skip: int) -> Page[R]:
    """One page of a V1 list, from the row `skip` on, out of its reply."""
    found = parsed(_Envelope, document(reply), f"the {what}")
    if found.results is None and not _is_behind(skip, found.totalCount):
        raise UnexpectedReply(f"JumpCloud's list of {what} is not a list")
    return _page(found.results or [], model, found.totalCount)


def _is_behind(skip: int, total: object) -> bool:
    """Whether a page that is null is the empty one behind the rows, as some programs write an empty list: rows came
    before it, or none are announced. Else it is no answer, nor is one that does not say that it is JSON."""
    rows = _announced(total)
    return skip > 0 if rows is None else skip >= rows


def _page(
    rows: list[Any], model: type[R], total: object, dead: tuple[int, ...] = (), mistyped: Iterable[int] = ()
) -> Page[R]:
    out = {*dead, *mistyped}
    live = [(place, None if place in out else model.read(row)) for place, row in enumerate(rows)]
    odd = tuple(place for place, row in live if row is None and place not in dead)
    return Page([row for _, row in live if row is not None], dead, odd, _announced(total))


def _announced(total: object) -> int | None:
    """The total as far as it can be one. Another says no more than a missing one: it proves no end of a list."""
    rows = announced(total)
    return None if rows is None or rows > MAX_ROWS else rows


def check_odd(odd: int, size: int, what: str) -> None:
    """Raise IncompleteRead where so many of the rows can't be read that the list is none."""
    if odd > max(ODD_ROWS, ODD_SHARE * size):
        raise IncompleteRead(f"{odd} of {size} rows in JumpCloud's list of {what} can't be read")


async def whole(
    page: Callable[[int], Awaitable[Page[R]]],
    keep: Callable[[R], V | None],
    what: str,
    *,
    merge: Callable[[V, V], V] = lambda _, new: new,
    progress: Progress | None = None,
    first: Page[R] | None = None,
    unusable: Callable[[R], bool] | None = lambda row: row.unusable,
) -> Whole[V]:
    """The whole list: what `keep` makes of each row, by id; rows for which that is None are only counted.

    `page` reads the page that begins at a row, `merge` joins two rows of one id, `first` is page 0 where it was read
    already, `unusable` says of a row that is kept whether what it is read for can't be told from it.

    A list that does not add up is read again. Two readings in a row with the same ids are taken as they are, since
    totals may count deleted objects (assumed). Where no two agree, since the list changes all the time, the last two
    are taken together, and what is in only one of them is `unsure`. Raises IncompleteRead where too many rows can't be
    read, UnexpectedReply where the list has no end.
    """
    before: _Reading[V] | None = None
    for number in range(READS):
        reading: _Reading[V] = _Reading()
        await _Reader(page, keep, what, merge, progress, unusable, reading).read(first)
        reading.check(what)
        if reading.sound or (before is not None and reading.ids == before.ids):
            break
        if number < READS - 1:
            before, first = reading, None
    else:
        assert before is not None
        unsure = frozenset(before.ids ^ reading.ids)
        return Whole({**before.values, **reading.values}, len(reading.odd), unsure, reading.short, len(reading.dead))
    return Whole(reading.values, len(reading.odd), short=reading.short, dead=len(reading.dead))


@dataclass(frozen=True, slots=True)
class _Reader(Generic[R, V]):
    """How one reading of a list is made."""

    page: Callable[[int], Awaitable[Page[R]]]
    keep: Callable[[R], V | None]
    what: str
    merge: Callable[[V, V], V]
    progress: Progress | None
    unusable: Callable[[R], bool] | None
    reading: _Reading[V]

    async def read(self, first: Page[R] | None) -> None:
        """Read the pages up to the total, `AHEAD` at once, until so many are empty; then on to an empty page.

        A page that is not full has the next row right behind its last one where pages hold fewer rows than were asked
        for, and at the next hundred where deleted objects shorten it: both places are asked for. Reading begins again
        behind the last row that came, so that no row is passed over.
        """
        first = first or await self.page(0)
        self._take(0, first, again=False)
        starts, lengths = list(range(0, max(PAGE, first.total or 0), PAGE)), [first.length]
        for at in range(1, len(starts), AHEAD):
            lengths += [length for length, _ in await self._pages(starts[at : at + AHEAD])]
            if not any(lengths[at:]):
                break
        end = await self._fill(starts[: len(lengths)], lengths)
        if end is None:
            return
        wave, known, again = 1, 0, end % PAGE != 0
        while True:
            starts = [end + PAGE * number for number in range(wave)]
            found = await self._pages(starts, again=again)
            lengths, fresh = [length for length, _ in found], sum(new for _, new in found)
            if not any(lengths):
                return
            known = 0 if fresh else known + 1
            if known >= KNOWN_PAGES:
                raise UnexpectedReply(f"JumpCloud's list of {self.what} has no end: the same rows come again and again")
            after = await self._fill(starts, lengths)
            if after is None:
                return
            # A page of known rows was read from within them, where dead objects had shortened the one before.
            again = (after - end) % PAGE != 0
            end = after if fresh else end + PAGE * wave
            wave = 1 if again else min(WAVE, 2 * wave)

    async def _pages(self, starts: Iterable[int], *, again: bool = False) -> list[tuple[int, int]]:
        """Read the pages that begin at these rows; how many places each takes, and how many new ids it shows."""

        async def one(start: int) -> tuple[int, int]:
            found = await self.page(start)
            return found.length, self._take(start, found, again=again)

        return await together(map(one, starts))

    async def _fill(self, starts: list[int], lengths: list[int]) -> int | None:
        """Read what lies between pages that are not full and the next ones; where the rows end. None where an empty
        page has shown already that they end there."""
        last = max((number for number, length in enumerate(lengths) if length), default=-1)

        async def between(start: int, length: int) -> None:
            position, until = start + length, start + PAGE
            while position < until:
                [(found, fresh)] = await self._pages([position], again=True)
                if not fresh:
                    return
                position += found

        short = [(starts[i], lengths[i]) for i in range(last) if 0 < lengths[i] < PAGE]
        await together(between(start, length) for start, length in short)
        if last < 0 or (lengths[last] >= PAGE and last + 1 < len(lengths)):
            return None
        return starts[last] + lengths[last]

    def _take(self, start: int, page: Page[R], *, again: bool) -> int:
        """Keep a page; how many ids it shows that were not known. `again`: its rows may have come before."""
        reading, known = self.reading, len(self.reading.ids)
        # An empty page that announces no rows says that it is empty, not that the list is.
        if not start or page.length or page.total:
            reading.totals.add(page.total)
        reading.dead.update(start + place for place in page.dead)
        reading.odd.update(start + place for place in page.odd)
        for row in page.rows:
            reading.repeated |= not again and row.id in reading.ids
            reading.ids.add(row.id)
            value = self.keep(row)
            if value is not None:
                former = reading.values.get(row.id)
                reading.values[row.id] = value if former is None else self.merge(former, value)
                if self.unusable is not None and self.unusable(row):
                    reading.unusable.add(row.id)
        if reading.size > MAX_ROWS:
            raise UnexpectedReply(f"JumpCloud's list of {self.what} has more than {MAX_ROWS} rows")
        if self.progress:
            self.progress(self.what, reading.size, max(page.total or 0, reading.size))
        return len(reading.ids) - known


_CREDENTIALS = (
    "Check jumpcloud.api_key (a key belongs to one administrator, and a new one makes the old one invalid) or "
    "jumpcloud.client_id and its secret; administrators of several organisations must name one in "
    "jumpcloud.organization. Restart the service after a change."
)
_ROLE = (
    "The administrator's role must allow API access and reading users, user groups and applications; see also whether "
    "JumpCloud restricts the addresses that may ask."
)
