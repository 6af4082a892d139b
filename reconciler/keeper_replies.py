"""Keeper's records of users and teams, and the pages of its lists. Pure.

One field that cannot be read is unknown and spoils nothing else: see `KeeperUser.unreadable`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler import model
from reconciler.model import KeeperTeam, KeeperUser, announced

_LIST = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
_ID = re.compile(r"(?!\.+$)[A-Za-z0-9_.-]{1,128}")
_USER_TEXTS = {
    model.EXTERNAL_ID: "externalId",
    model.DISPLAY_NAME: "displayName",
}
_NAMES = {model.GIVEN_NAME: "givenName", model.FAMILY_NAME: "familyName"}
_SPELLED = {
    name.lower(): name
    for name in (
        *("totalResults", "Resources", "schemas", "id", "externalId", "userName", "displayName", "name", "givenName"),
        *("familyName", "emails", "active", "groups", "members", "value", "primary"),
    )
}
"""The names that are read, as Keeper spells them. RFC 7643 section 2.1: the case of a name does not matter."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list. `total` is the number that it announces, None where it announces none. `refusal`: why there
    is no such page, in the words of the service."""

    rows: tuple[Any, ...]
    total: int | None
    refusal: Exception | None = None


def page_of(document: object) -> Page:
    """Read one page. A total that is no number counts as none, since no end is proven by it.

    Raises ValueError for what is no page: it has no rows, and neither a total nor the schema of a list.
    """
    document = _spelled(document)
    total = announced(document.get("totalResults"))
    rows, schemas = document.get("Resources"), document.get("schemas")
    # RFC 7644 section 3.4.2: a list without a match need not have `Resources`.
    if rows is None and (total is not None or (isinstance(schemas, list) and _LIST in schemas)):
        rows = []
    if not isinstance(rows, list):
        raise ValueError("Resources: neither a list nor left out of one")
    return Page(tuple(rows), total)


def user_of(document: object) -> KeeperUser:
    """Read one user. Raises ValueError where there is no usable id."""
    found = _Fields(document)
    id = found.id()
    attributes = {model.USER_NAME: found.text("userName", model.trimmed)}
    attributes |= {name: found.text(key) for name, key in _USER_TEXTS.items()}
    if not attributes[model.USER_NAME]:
        attributes[model.USER_NAME] = _address(found.document)
    if not attributes[model.USER_NAME]:
        found.cannot_read("userName")
    names = found.value("name", {}, lambda value: value if isinstance(value, dict) else None)
    inner = _Fields(names or {}, "name.")
    attributes |= {name: inner.text(key) for name, key in _NAMES.items()}
    if names is None:
        found.cannot_read(*_NAMES)
    # Without a known `active` nobody may conclude that somebody is locked or not: it has no default.
    active = found.value("active", None, _truth)
    if active is None:
        found.cannot_read("active")
    teams = found.value("groups", frozenset(), _references)
    silent = found.document.get("groups") is None
    return KeeperUser(id, attributes, active, teams, (*found.unreadable, *inner.unreadable), silent)


def team_of(document: object) -> KeeperTeam:
    """Read one team. Raises ValueError where there is no usable id."""
    found = _Fields(document)
    id = found.id()
    attributes = {
        model.DISPLAY_NAME: found.text("displayName"),
        model.EXTERNAL_ID: found.text("externalId"),
    }
    members = found.value("members", frozenset(), _references)
    silent = found.document.get("members") is None
    return KeeperTeam(id, attributes, members, tuple(found.unreadable), silent)


def glimpse(document: object, name: str) -> tuple[str, str]:
    """The readable `name` and the readable externalId of a record without a usable id; empty where there is none."""
    found = _Fields(document if isinstance(document, dict) else {})
    address = _address(found.document) if name == model.USER_NAME else ""
    return found.text(name, model.trimmed) or address, found.text("externalId")


class _Fields:
    """The fields of one record; `unreadable` grows as they are read."""

    def __init__(self, document: object, prefix: str = "") -> None:
        self.document = _spelled(document)
        self.prefix = prefix
        self.unreadable: list[str] = []

    def id(self) -> str:
        id = _identifier(self.document.get("id"))
        if id is None:
            raise ValueError("id: not 1 to 128 letters, digits and _.-")
        return id

    def text(self, key: str, normal: Callable[[str | None], str] = model.normal) -> str:
        """The text as `normal` has it; empty where it is left out or null."""
        return normal(self.value(key, "", lambda value: value if isinstance(value, str) else None))

    def value(self, key: str, default: Any, read: Callable[[Any], Any]) -> Any:
        """The value as `read` returns it, the default where it is left out or null; None where it is unreadable."""
        value = self.document.get(key)
        if value is None:
            return default
        found = read(value)
        if found is None:
            self.cannot_read(key)
        return found

    def cannot_read(self, *keys: str) -> None:
        self.unreadable += [self.prefix + key for key in keys if self.prefix + key not in self.unreadable]


def _spelled(document: object) -> dict[str, Any]:
    """The object with the names that are read in Keeper's spelling. Raises ValueError for what is none."""
    if not isinstance(document, dict):
        raise ValueError("it is no JSON object")
    found: dict[str, Any] = document
    return {_SPELLED.get(name.lower(), name): value for name, value in found.items()} | found


def _address(document: Mapping[str, Any]) -> str:
    """The address in `emails`, which Keeper documents to be the same as userName; empty where there is none."""
    emails = document.get("emails")
    rows = [_spelled(one) for one in emails if isinstance(one, dict)] if isinstance(emails, list) else []
    rows.sort(key=lambda one: one.get("primary") is not True)
    return next((model.trimmed(one["value"]) for one in rows if isinstance(one.get("value"), str)), "")


def _identifier(value: object) -> str | None:
    """An id as a string that is safe in a URL path, None where it is none. A number is taken for its digits."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    return text if isinstance(text, str) and _ID.fullmatch(text) else None


def _truth(value: object) -> bool | None:
    """Keeper's documentation shows "true" and "false" as strings, its replies as booleans."""
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return value if isinstance(value, bool) else None


def _references(value: object) -> frozenset[str] | None:
    """The ids in `groups` or `members`, None where one of them cannot be read."""
    if not isinstance(value, list):
        return None
    ids = [_identifier(_spelled(one).get("value")) if isinstance(one, dict) else None for one in value]
    found = frozenset(id for id in ids if id is not None)
    return None if None in ids else found
