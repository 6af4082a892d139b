"""Keeper's SCIM on the wire: strict reading of requests, rendering of resources and errors.

Sources: RFC 7643 and RFC 7644, Keeper's SCIM documentation and the requests that Keeper's own clients send.
What none of them documents is refused.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from http import HTTPStatus
from typing import Any, Final, Literal

from reconciler.simulator.keeper_dialect import Dialect
from reconciler.simulator.keeper_records import Account, Team
from reconciler.simulator.service import Request, Response

MEDIA_TYPE: Final = "application/scim+json"
BODY_TYPES: Final = ("", MEDIA_TYPE, "application/json")
LIST_SCHEMA: Final = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
ERROR_SCHEMA: Final = "urn:ietf:params:scim:api:messages:2.0:Error"
USER_SCHEMA: Final = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP_SCHEMA: Final = "urn:ietf:params:scim:schemas:core:2.0:Group"
CONFIG_SCHEMA: Final = "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"
DEFAULT_COUNT: Final = 1000

# Attributes of the User schema (RFC 7643 section 4.1) that Keeper has no use for; extensions likewise.
IGNORED_USER_ATTRIBUTES: Final = frozenset(
    [
        *("schemas", "meta", "nickName", "profileUrl", "title", "userType", "preferredLanguage", "locale"),
        *("timezone", "password", "phoneNumbers", "ims", "photos", "addresses", "entitlements", "roles"),
        *("x509Certificates", "name.formatted", "name.middleName"),
        *("name.honorificPrefix", "name.honorificSuffix"),
    ]
)
IGNORED_GROUP_ATTRIBUTES: Final = frozenset({"schemas", "meta"})
USER_TEXTS: Final = ("displayName", "externalId", "name.givenName", "name.familyName")
EMAIL_PATHS: Final = ('emails[type eq "work"].value', "emails[primary eq true].value", "emails.value")

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL: Final = re.compile(rf"[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@(?:{_LABEL}\.)+{_LABEL}")
_FILTER: Final = re.compile(r'(id|userName|displayName) +eq +("(?:[^"\\]|\\.)*")', re.IGNORECASE)
_FILTERED: Final = {"id": "id", "username": "userName", "displayname": "displayName"}


class Refusal(Exception):
    """The request is refused with this status; nothing of it takes effect."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}


@dataclass(frozen=True, slots=True)
class SetText:
    """Set `userName`, `displayName`, `externalId` or a part of the name; None clears."""

    attribute: str
    value: str | None


@dataclass(frozen=True, slots=True)
class SetActive:
    """Set `active`."""

    value: bool


@dataclass(frozen=True, slots=True)
class SetMembership:
    """Add or remove memberships: the ids of teams on a user, of users on a group."""

    add: bool
    ids: tuple[str, ...]


Edit = SetText | SetActive | SetMembership


@dataclass(frozen=True, slots=True)
class Filter:
    """`attribute eq "value"`."""

    attribute: str
    value: str


# Reading.


def document_of(request: Request) -> dict[str, Any]:
    """The JSON object in the body."""
    content_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if content_type not in BODY_TYPES:
        raise Refusal(415, f"Content-Type must be {MEDIA_TYPE}")
    try:
        document = request.json()
    except ValueError as error:
        raise Refusal(400, "The body is not JSON") from error
    return _object(document, "The body")


def paging_of(request: Request) -> tuple[int, int | None]:
    """startIndex and count (RFC 7644 section 3.4.2.4): what is too small is taken as 1 and 0."""

    def number(name: str) -> int | None:
        text = request.query.get(name, [None])[-1]
        if text is None:
            return None
        if not re.fullmatch(r"-?[0-9]{1,9}", text):
            raise Refusal(400, f"{name} must be a number")
        return int(text)

    start, count = number("startIndex"), number("count")
    return max(1, start if start is not None else 1), None if count is None else max(0, count)


def filter_of(request: Request, attributes: Collection[str]) -> Filter | None:
    """The filter, if there is one; only `eq` on one of these attributes is taken."""
    text = request.query.get("filter", [None])[-1]
    if text is None:
        return None
    match = _FILTER.fullmatch(text.strip())
    attribute = _FILTERED[match[1].lower()] if match else ""
    if match is None or attribute not in attributes:
        raise Refusal(400, f"Only the filters {', '.join(attributes)} eq are supported")
    try:
        return Filter(attribute, json.loads(match[2]))
    except ValueError as error:
        raise Refusal(400, "The value of the filter is not a JSON string") from error


def excludes_members(request: Request) -> bool:
    """Whether `excludedAttributes` names the members."""
    return any("members" in value.replace(" ", "").split(",") for value in request.query.get("excludedAttributes", []))


def read_user(document: Mapping[str, Any]) -> list[Edit]:
    """A whole user, as POST and PUT send it. Attributes that are not known are ignored."""
    # Dotted names are a form of PATCH; here they are attributes that nobody knows.
    attributes = {name: value for name, value in document.items() if "." not in name}
    edits = [edit for name, value in attributes.items() for edit in _user_edits(name, value, whole=True)]
    if user_name(edits) is None:
        raise Refusal(400, "userName is required")
    return edits


def read_user_patch(document: Mapping[str, Any]) -> list[Edit]:
    """The operations of a PATCH of a user (RFC 7644 section 3.5.2). Memberships: in the path form only."""
    edits: list[Edit] = []
    for op, path, value in _operations(document):
        if path == "groups":
            edits.append(_membership(op, path, value))
        elif path is None:
            for name, part in _object(value, "value").items():
                edits.extend(_user_edits(name, part, whole=False))
        elif op == "remove":
            if path not in USER_TEXTS:
                raise Refusal(400, f"{path} cannot be removed")
            edits.append(SetText(path, None))
        else:
            edits.extend(_user_edits(path, value, whole=False))
    user_name(edits)
    return edits


def read_group(document: Mapping[str, Any]) -> list[Edit]:
    """A whole group, as POST sends it. Attributes that are not known are ignored."""
    edits = [edit for name, value in document.items() for edit in _group_edits(name, value, whole=True)]
    if not any(isinstance(edit, SetText) and edit.attribute == "displayName" for edit in edits):
        raise Refusal(400, "displayName is required")
    return edits


def read_group_patch(document: Mapping[str, Any]) -> list[Edit]:
    """The operations of a PATCH of a group. Members: in the path form only."""
    edits: list[Edit] = []
    for op, path, value in _operations(document):
        if path == "members":
            edits.append(_membership(op, path, value))
        elif path is None:
            for name, part in _object(value, "value").items():
                edits.extend(_group_edits(name, part, whole=False))
        elif op == "remove":
            if path != "externalId":
                raise Refusal(400, f"{path} cannot be removed")
            edits.append(SetText(path, None))
        else:
            edits.extend(_group_edits(path, value, whole=False))
    return edits


def user_name(edits: Iterable[Edit]) -> str | None:
    """The address that the edits ask for; userName and emails must agree."""
    addresses = [edit.value for edit in edits if isinstance(edit, SetText) and edit.attribute == "userName"]
    if len({address.casefold() for address in addresses if address}) > 1:
        raise Refusal(400, "userName and emails.value must be equal")
    return addresses[0] if addresses else None


def _operations(
    document: Mapping[str, Any],
) -> Iterator[tuple[Literal["add", "replace", "remove"], str | None, Any]]:
    operations = document.get("Operations")
    if not isinstance(operations, list) or not operations:
        raise Refusal(400, "Operations must be an array with at least one operation")
    for operation in operations:
        item = _object(operation, "An operation")
        op, path = item.get("op"), item.get("path")
        if path is not None and not isinstance(path, str):
            raise Refusal(400, "path must be a string")
        if not isinstance(op, str):
            raise Refusal(400, "An operation lacks its op")
        match op.lower():
            case "add" | "replace" as verb if "value" in item:
                yield verb, path, item["value"]
            case "remove" if path is not None:
                yield "remove", path, item.get("value")
            case "add" | "replace" | "remove":
                raise Refusal(400, f"{op} lacks its {'path' if op.lower() == 'remove' else 'value'}")
            case _:
                raise Refusal(400, f"op must be add, replace or remove, not {op!r}")


def _user_edits(name: str, value: Any, *, whole: bool) -> Iterator[Edit]:
    """The edits that one attribute asks for; `whole` is a POST or PUT, which may bring anything along."""
    if name == "userName" or name in EMAIL_PATHS:
        yield SetText("userName", _email(value))
    elif name == "emails":
        yield SetText("userName", _email(_main_email(value)))
    elif name in USER_TEXTS:
        yield SetText(name, _text(value, name))
    elif name == "name":
        for part, text in _object(value, "name").items():
            yield from _user_edits(f"name.{part}", text, whole=whole)
    elif name == "active":
        yield SetActive(_boolean(value))
    elif name == "groups" and whole:
        yield SetMembership(True, _references(value, name))
    elif not (whole or name in IGNORED_USER_ATTRIBUTES or name.startswith("urn:")):
        raise Refusal(400, f"Unknown path {name}")


def _group_edits(name: str, value: Any, *, whole: bool) -> Iterator[Edit]:
    if name == "displayName":
        text = _text(value, name)
        if not text or not text.strip():
            raise Refusal(400, "displayName must not be empty")
        yield SetText(name, text)
    elif name == "externalId":
        yield SetText(name, _text(value, name))
    elif name == "members" and whole:
        yield SetMembership(True, _references(value, name))
    elif not (whole or name in IGNORED_GROUP_ATTRIBUTES or name.startswith("urn:")):
        raise Refusal(400, f"Unknown path {name}")


def _membership(op: str, path: str, value: Any) -> SetMembership:
    if op == "replace":
        raise Refusal(400, f"{path} takes add and remove")
    return SetMembership(op == "add", _references(value, path))


def _references(value: Any, name: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise Refusal(400, f'The value of {name} must be an array of {{"value": id}}')
    references = [_object(item, f"Each of {name}").get("value") for item in value]
    ids = tuple(reference for reference in references if isinstance(reference, str))
    if len(ids) != len(references):
        raise Refusal(400, f"Each of {name} must have an id as its value")
    return ids


def _main_email(value: Any) -> Any:
    """The primary address of `emails`, else the first."""
    if not isinstance(value, list) or not value:
        raise Refusal(400, "emails must be an array with at least one address")
    items = [_object(item, "Each of emails") for item in value]
    return next((item for item in items if item.get("primary") is True), items[0]).get("value")


def _email(value: Any) -> str:
    if not isinstance(value, str) or not _EMAIL.fullmatch(value):
        raise Refusal(400, "userName must be a valid e-mail address")
    return value


def _text(value: Any, name: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise Refusal(400, f"{name} must be a string")
    return value


def _boolean(value: Any) -> bool:
    """`active`: Keeper's documentation sends a string, its clients a boolean."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise Refusal(400, "active must be true or false")


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refusal(400, f"{what} must be a JSON object")
    return value


# Rendering.


def reply(status: int, document: Mapping[str, Any]) -> Response:
    """A SCIM document."""
    return Response.of_json(status, document, {"content-type": MEDIA_TYPE})


def render_user(user: Account, dialect: Dialect) -> dict[str, Any]:
    """A User: no `meta`, no `externalId` when unset, the e-mail where there is no display name."""
    teams = user.teams + (user.pending_teams if dialect.shows_pending_memberships else ())
    document: dict[str, Any] = {
        "schemas": [USER_SCHEMA],
        "userName": user.email,
        "displayName": user.display_name or user.email,
        "name": {"givenName": user.given_name or "", "familyName": user.family_name or ""},
        "id": user.id,
        "emails": [{"primary": True, "value": user.email, "type": "work"}],
        "groups": [{"value": team} for team in teams],
        "active": user.active,
    }
    if not dialect.shows_unset_names:
        document["name"] = {part: text for part, text in document["name"].items() if text}
    if user.external_id is not None:
        document["externalId"] = user.external_id
    return document


def render_group(team: Team, members: Iterable[str] | None) -> dict[str, Any]:
    """A Group; without `members` where they are None."""
    document: dict[str, Any] = {"schemas": [GROUP_SCHEMA], "id": team.id, "displayName": team.name}
    if team.external_id is not None:
        document["externalId"] = team.external_id
    if members is not None:
        document["members"] = [{"value": member} for member in members]
    return document


def render_list(total: int, start: int, resources: list[dict[str, Any]]) -> dict[str, Any]:
    """A ListResponse (RFC 7644 section 3.4.2)."""
    return {
        "schemas": [LIST_SCHEMA],
        "totalResults": total,
        "startIndex": start,
        "itemsPerPage": len(resources),
        "Resources": resources,
    }


def service_provider_config() -> dict[str, Any]:
    """What this simulator can do (RFC 7643 section 5)."""
    return {
        "schemas": [CONFIG_SCHEMA],
        "patch": {"supported": True},
        "bulk": {"supported": False, "maxOperations": 0, "maxPayloadSize": 0},
        "filter": {"supported": True, "maxResults": 10_000},
        "changePassword": {"supported": False},
        "sort": {"supported": False},
        "etag": {"supported": False},
        "authenticationSchemes": [
            {
                "type": "oauthbearertoken",
                "name": "Bearer token",
                "description": "The token of the SCIM method",
            }
        ],
    }


def render_refusal(refusal: Refusal, dialect: Dialect) -> Response:
    """The error body in the dialect's style."""
    status = refusal.status
    match dialect.error_body:
        case "scim":
            document = {"schemas": [ERROR_SCHEMA], "status": str(status), "detail": refusal.detail}
            return Response.of_json(status, document, {"content-type": MEDIA_TYPE, **refusal.headers})
        case "keeper":
            code = HTTPStatus(status).phrase.lower().replace(" ", "_")
            return Response.of_json(status, {"error": code, "message": refusal.detail}, refusal.headers)
        case "empty":
            return Response(status, dict(refusal.headers))
        case "html":
            page = f"<html><body><h1>{status}</h1><p>{escape(refusal.detail)}</p></body></html>"
            return Response(status, {"content-type": "text/html", **refusal.headers}, page.encode())
