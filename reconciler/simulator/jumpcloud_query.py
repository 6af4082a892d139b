"""Filters, fields and paging as the simulated JumpCloud reads them; whatever is not documented is refused."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from reconciler.simulator.jumpcloud_assumptions import Assumptions
from reconciler.simulator.jumpcloud_directory import Organization
from reconciler.simulator.service import Request, Response

Row = Callable[[str], Any]
"""A record as a filter sees it: from the name of a field to its value."""

PAGE_LIMIT = 100
DEFAULT_LIMIT = 10


def names(text: str) -> frozenset[str]:
    """Names separated by white space."""
    return frozenset(text.split())


class Refused(Exception):
    """The request gets this response and has no effect."""

    def __init__(self, status: int, message: str, error: str | None = None) -> None:
        super().__init__(message)
        document = {"message": message} if error is None else {"error": error, "message": message}
        self.response = Response.of_json(status, document)


def bad_request(message: str) -> Refused:
    """400, worded as JumpCloud words it."""
    return Refused(400, f"Bad Request: {message}")


class Filter(Protocol):
    """A condition on records."""

    def matches(self, row: Row) -> bool:
        """Whether a record meets the condition."""
        ...

    def ids(self) -> frozenset[str] | None:
        """The only ids that can meet the condition, None where it says nothing of ids; spares a full scan."""
        ...


@dataclass(frozen=True, slots=True)
class Condition:
    """One field compared with one value."""

    field: str
    operator: str
    value: Any

    def matches(self, row: Row) -> bool:
        """Whether the record's field compares as asked; values are compared as text, unset is the empty text."""
        return _OPERATORS[self.operator](_text(row(self.field)), self.value)

    def ids(self) -> frozenset[str] | None:
        """The id asked for, if this is equality with an id."""
        if self.field not in ("_id", "id") or self.operator not in ("$eq", "$in"):
            return None
        return frozenset((self.value,) if self.operator == "$eq" else self.value)


@dataclass(frozen=True, slots=True)
class All:
    """Every one of the conditions."""

    filters: tuple[Filter, ...]

    def matches(self, row: Row) -> bool:
        """Whether the record meets all conditions."""
        return all(one.matches(row) for one in self.filters)

    def ids(self) -> frozenset[str] | None:
        """The narrowest of the conditions' ids."""
        known = [ids for one in self.filters if (ids := one.ids()) is not None]
        return min(known, key=len, default=None)


@dataclass(frozen=True, slots=True)
class Some:
    """At least one of the conditions."""

    filters: tuple[Filter, ...]

    def matches(self, row: Row) -> bool:
        """Whether the record meets any condition."""
        return any(one.matches(row) for one in self.filters)

    def ids(self) -> frozenset[str] | None:
        """The conditions' ids together, if each condition names some."""
        known = [one.ids() for one in self.filters]
        return frozenset[str]().union(*(ids for ids in known if ids is not None)) if None not in known else None


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _wild(text: str, pattern: str) -> bool:
    """Equality with `*` as a wild card, as V2 filters have it."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL) is not None


_OPERATORS: Mapping[str, Callable[[str, Any], bool]] = {
    "$eq": lambda text, value: bool(text == value),
    "$ne": lambda text, value: bool(text != value),
    "$gt": lambda text, value: bool(text > value),
    "$gte": lambda text, value: bool(text >= value),
    "$lt": lambda text, value: bool(text < value),
    "$lte": lambda text, value: bool(text <= value),
    "$regex": lambda text, value: re.search(value, text) is not None,
    "$in": lambda text, value: text in value,
    "wild": _wild,
    "not wild": lambda text, value: not _wild(text, value),
    "contains": lambda text, value: value.casefold() in text.casefold(),
}

V1_OPERATORS = {name: name for name in ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte")}
V2_OPERATORS = {
    "eq": "wild", "ne": "not wild", "gt": "$gt", "ge": "$gte", "lt": "$lt", "le": "$lte", "search": "contains",
}  # fmt: skip
"""`between` and `in` are documented as well, but not how their values are written: they are refused."""


def text_filter(text: str, operators: Mapping[str, str], known: Iterable[str]) -> Condition:
    """`field:operator:value`, as filters stand in a query."""
    parts = text.split(":", 2)
    if len(parts) != 3 or parts[0] not in known or parts[1] not in operators:
        raise bad_request(f'malformed filter "{text}"')
    return Condition(parts[0], operators[parts[1]], parts[2])


def search_filter(document: Any, known: Iterable[str], in_operator: bool) -> Filter:
    """The `filter` in the body of `POST /api/search/systemusers`: `{"and"|"or": [...]}`, or a list (and)."""
    if isinstance(document, dict) and set(document) in ({"and"}, {"or"}):
        ((word, expressions),) = document.items()
    else:
        word, expressions = "and", [document] if isinstance(document, dict) else document
    if not isinstance(expressions, list) or not all(isinstance(one, dict) for one in expressions):
        raise bad_request("malformed filter")
    filters = [
        _search_expression(one, frozenset(known), in_operator) if not set(one) & {"and", "or"}
        else search_filter(one, known, in_operator)
        for one in expressions
    ]  # fmt: skip
    return Some(tuple(filters)) if word == "or" else All(tuple(filters))


def _search_expression(expression: dict[str, Any], known: frozenset[str], in_operator: bool) -> Filter:
    conditions = []
    for field, wanted in expression.items():
        if field not in known:
            raise bad_request(f'malformed filter: field "{field}"')
        comparisons = wanted if isinstance(wanted, dict) else {"$eq": wanted}
        conditions += [_comparison(field, name, value, in_operator) for name, value in comparisons.items()]
    return All(tuple(conditions))


def _comparison(field: str, operator: str, value: Any, in_operator: bool) -> Condition:
    if operator == "$in" and in_operator and isinstance(value, list):
        return Condition(field, operator, frozenset(map(_text, value)))
    if operator not in (*V1_OPERATORS, "$regex") or isinstance(value, list | dict):
        raise bad_request(f'malformed filter: operator "{operator}"')
    if operator == "$regex":
        try:
            re.compile(_text(value))
        except re.error as error:
            raise bad_request(f"malformed filter: {error}") from error
    return Condition(field, operator, _text(value))


def search_text(document: Any, known: Iterable[str]) -> Filter:
    """The `searchFilter` of the same body: any term is part of any field. Case is ignored (assumed)."""
    fields = document.get("fields") if isinstance(document, dict) else None
    terms = document.get("searchTerm") if isinstance(document, dict) else None
    terms = [terms] if isinstance(terms, str) else terms
    texts = isinstance(fields, list) and isinstance(terms, list) and all(isinstance(t, str) for t in terms)
    if not texts or not set(fields or ()) <= set(known):
        raise bad_request("malformed searchFilter")
    return Some(tuple(Condition(field, "contains", term) for field in fields or () for term in terms or ()))


class Query:
    """The query parameters of one request. A parameter that is not in `allowed`, or given twice, is refused.

    `filter` in `allowed` also allows V1's `filter[0]` and `filter[or][0]`, and may be repeated.
    """

    def __init__(self, request: Request, allowed: frozenset[str], refuse_unknown: bool = True) -> None:
        self._values = request.query
        for name, values in self._values.items():
            is_filter = name.startswith("filter[") and "filter" in allowed
            if name not in allowed and not is_filter and refuse_unknown:
                raise bad_request(f'unknown request parameter "{name}"')
            if len(values) > 1 and name != "filter":
                raise bad_request(f'request parameter "{name}" is repeated')
        self._allowed = allowed

    def text(self, name: str) -> str | None:
        """A parameter as it was sent; None where it was not, or where the route ignores it."""
        return self._values[name][0] if name in self._allowed and name in self._values else None

    def number(self, name: str, default: int) -> int:
        """A parameter that must be a whole number."""
        text = self.text(name)
        if text is None:
            return default
        if not re.fullmatch("-?[0-9]{1,18}", text):
            raise bad_request(f'request parameter "{name}" must be an integer')
        return int(text)

    def words(self, name: str, separator: str | None, known: Iterable[str]) -> list[str]:
        """A list of fields, separated as this version of the API does it (None: spaces)."""
        return field_list(self.text(name) or "", name, separator, known)

    def v1_filter(self, known: Iterable[str]) -> Filter | None:
        """`filter`, `filter[0]`, ... (and), `filter[or][0]`, ... (or); None without any."""
        every: list[Filter] = []
        some: list[Filter] = []
        for name, values in self._values.items():
            if name == "filter" or name.startswith("filter["):
                kind = re.fullmatch(r"filter(\[or\])?(\[[0-9]+\])?", name)
                if kind is None or name == "filter[or]" or "filter" not in self._allowed:
                    raise bad_request(f'malformed filter "{name}"')
                conditions = [text_filter(value, V1_OPERATORS, known) for value in values]
                (some if kind[1] else every).extend(conditions)
        filters = every + ([Some(tuple(some))] if some else [])
        return All(tuple(filters)) if filters else None

    def v2_filter(self, known: Iterable[str]) -> Filter | None:
        """`filter=field:operator:value`, repeated for and; None without any."""
        if "filter" not in self._allowed or not (texts := self._values.get("filter")):
            return None
        return All(tuple(text_filter(text, V2_OPERATORS, known) for text in texts))


def field_list(text: str, name: str, separator: str | None, known: Iterable[str]) -> list[str]:
    """The names in a list of fields; a leading `-` is allowed for `sort`."""
    words = [word for word in text.split(separator) if word]
    for word in words:
        if (word.removeprefix("-") if name == "sort" else word) not in known:
            raise bad_request(f'request parameter "{name}": unknown field "{word}"')
    return words


@dataclass(frozen=True, slots=True)
class Page:
    """Which rows of a list are asked for."""

    limit: int
    skip: int

    @classmethod
    def of(cls, limit: int, skip: int, maximum: int = PAGE_LIMIT) -> "Page":
        """A page within the bounds; beyond them 400."""
        if limit > maximum:
            raise bad_request(f'request parameter "limit" exceeds maximum value of {maximum}')
        if limit < 1:
            raise bad_request('request parameter "limit" is below minimum value of 1')
        if skip < 0:
            raise bad_request('request parameter "skip" is below minimum value of 0')
        return cls(limit, skip)

    def __call__(self, rows: list[str]) -> list[str]:
        """The rows on this page."""
        return rows[self.skip : self.skip + self.limit]


@dataclass(frozen=True, slots=True)
class Call:
    """One request to one route, with the organisations that it may read."""

    request: Request
    query: Query
    visible: list[Organization]
    assumptions: Assumptions
    serial: int
    """Counts the requests; orders rows differently for each."""

    @property
    def home(self) -> Organization:
        """The one organisation asked."""
        return self.visible[0]

    def page(self, maximum: int = PAGE_LIMIT) -> Page:
        """The page that the query asks for."""
        page = Page.of(self.query.number("limit", DEFAULT_LIMIT), self.query.number("skip", 0), maximum)
        return self.held(page)

    def held(self, page: Page) -> Page:
        """The page with as many rows as it holds at most."""
        most = self.assumptions.page_rows
        return page if most is None else replace(page, limit=min(page.limit, most))

    def shifted(self, ids: list[str]) -> list[str]:
        """The list as it is by now, where it changes all the time."""
        if not self.assumptions.shifting_rows or not ids:
            return ids
        place = self.serial % len(ids)
        return [*ids[place:], *ids[:place]]

    def total(self, rows: int, whole: int) -> int:
        """The total that a page of so many rows announces."""
        return rows if self.assumptions.totals == "page" else whole

    def gone(self) -> Refused:
        """The answer for what is not there."""
        return Refused(self.assumptions.gone_status, "Not Found")


def json_body(request: Request) -> dict[str, Any]:
    """The body as a JSON object; JumpCloud requires `Content-Type: application/json` for it."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise bad_request("Content-Type must be application/json")
    try:
        document = request.json()
    except ValueError as error:
        raise bad_request("the body is not valid JSON") from error
    if not isinstance(document, dict):
        raise bad_request("the body must be a JSON object")
    return document
