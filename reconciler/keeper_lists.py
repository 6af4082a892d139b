"""How one of Keeper's lists is read whole: its end is proven by the empty page behind it, never by a total."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from reconciler.keeper_replies import Page
from reconciler.tasks import together

R = TypeVar("R")

PAGE_SIZE = 500
"""Resources asked for in one page."""
READS = 3
"""How often a list is read that does not add up."""
KNOWN_PAGES = 3
"""So many pages that show nothing new make a list without an end."""

Fetch = Callable[[int, int], Coroutine[Any, Any, Page]]
"""One page by its startIndex, from 1, and its count."""


class EndlessList(Exception):
    """A list is longer than any node's."""


@dataclass(slots=True)
class Reading(Generic[R]):
    """One reading of a whole list: the records by id, and the distinct rows without a usable id. `differing` are the
    ids of several rows that are not the same: none of them is to be believed.

    `ended`: the page behind the last row was empty, or refused where that row is the last one announced. `totals` are
    those that the pages announced; `of_pages` says that each announced no more than its own rows. `known_pages` showed
    nothing new: rows that are not shown keep their places, or the list has changed. `refusal`: why a page was refused.
    """

    found: dict[str, R] = field(default_factory=dict)
    nameless: dict[str, Any] = field(default_factory=dict)
    differing: set[str] = field(default_factory=set)
    totals: set[int] = field(default_factory=set)
    of_pages: bool = True
    known_pages: int = 0
    ended: bool = False
    refusal: Exception | None = None

    @property
    def rows(self) -> int:
        """The number of records that were listed."""
        return len(self.found) + len(self.nameless)

    @property
    def adds_up(self) -> bool:
        """Whether the list came to its end, and announced as many rows as it has, or none at all.

        A total may be missing or count its page alone: then it says nothing, and no page may have come again.
        """
        return self.ended and (self.totals == {self.rows} or (self.of_pages and not self.known_pages))


class List(Generic[R]):
    """One list. `parse` reads a row and raises ValueError for one without a usable id; `most` bounds the list."""

    def __init__(
        self,
        fetch: Fetch,
        parse: Callable[[Any], tuple[str, R]],
        most: int,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._fetch = fetch
        self._parse = parse
        self._most = most
        self._progress = progress
        self._reading: Reading[R]
        self._start = 1
        self._fullest = 0

    async def read(self, *, parallel: bool) -> Reading[R]:
        """Read the list once. `parallel`: ask for all announced pages, and for the one behind them, at once.

        Raises EndlessList, and what `fetch` raises.
        """
        self._reading, self._start = Reading(), 1
        first = await self._page(1, PAGE_SIZE)
        more = self._take(first)
        size, total = len(first.rows), first.total or 0
        if parallel and more and total > size:
            # One request more than the announced pages need: the page behind the end is asked for with them.
            starts = [*range(1 + size, total + 1, size), total + 1]
            for start, page in zip(starts, await together(self._page(at, size) for at in starts), strict=True):
                # Behind a page that is shorter than its place the others do not join on.
                if start != self._start or not more:
                    break
                more = self._take(page)
        while more:
            more = self._take(await self._page(self._start, PAGE_SIZE))
        return self._reading

    async def _page(self, start: int, count: int) -> Page:
        """One page; a total of more rows than any node has says no more than a missing one."""
        page = await self._fetch(start, count)
        return page if (page.total or 0) <= self._most else replace(page, total=None)

    def _take(self, page: Page) -> bool:
        """Take one page that joins on; returns whether the list goes on."""
        reading, known, rows = self._reading, self._reading.rows, len(page.rows)
        if page.total is not None and (rows or page.total):
            reading.totals.add(page.total)
            reading.of_pages = reading.of_pages and page.total == rows
        if page.refusal is not None:
            reading.ended, reading.refusal = reading.totals == {known}, page.refusal
            return False
        if not rows:
            reading.ended = bool(known) or not page.total
            return False
        for row in page.rows:
            try:
                id, record = self._parse(row)
            except ValueError:
                reading.nameless[repr(row)] = row
            else:
                if reading.found.setdefault(id, record) != record:
                    reading.differing.add(id)
        # A page of nothing but known rows is from behind rows that are not shown and keep their places, and tells of as
        # many places as a full one. It proves no end; the empty page behind it does, which a service that shows the
        # same rows for ever has not.
        self._fullest = max(self._fullest, rows)
        reading.known_pages += reading.rows == known
        self._start += rows if reading.rows > known else self._fullest
        if reading.rows > self._most:
            raise EndlessList
        if self._progress:
            self._progress(reading.rows, max(page.total or 0, reading.rows))
        return reading.known_pages < KNOWN_PAGES
