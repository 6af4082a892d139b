"""The simulated JumpCloud's V1 routes: organisations, applications and users, in `{"totalCount", "results"}`."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from reconciler.simulator.jumpcloud_assumptions import Assumptions
from reconciler.simulator.jumpcloud_directory import Application, Organization, User
from reconciler.simulator.jumpcloud_query import (
    DEFAULT_LIMIT,
    All,
    Call,
    Filter,
    Page,
    Refused,
    Row,
    bad_request,
    field_list,
    json_body,
    names,
    search_filter,
    search_text,
)
from reconciler.simulator.service import Response

PRIVATE_KEY = "-----BEGIN SIMULATED KEY----- the private key that signs this application's SAML assertions"
"""What the single application, and a list without `fields`, give away: must never turn up anywhere else."""

USER_FIELDS = names(
    """_id account_locked account_locked_date activated addresses admin allow_public_key alternateEmail attributes
    badLoginAttempts company costCenter created creationSource delegatedAuthority department description
    disableDeviceMaxLoginAttempts displayname email employeeIdentifier employeeType enable_managed_uid
    enable_user_portal_multifactor external_dn external_password_expiration_date external_source_type
    externally_managed firstname id jobTitle lastname ldap_binding_user location managedAppleId manager mfa
    mfaEnrollment middlename organization password_date password_expiration_date password_expired
    password_never_expires passwordless_sudo phoneNumbers public_key recoveryEmail relationships
    restrictedFields samba_service_user ssh_keys state sudo suspended totp_enabled unix_guid unix_uid username"""
)
"""The fields of a user in JumpCloud's API description; only those of `User` have a value here."""
APPLICATION_FIELDS = names(
    """_id active beta color config created databaseAttributes description displayLabel displayName id learnMore
    logo name organization parentApp sso ssoUrl"""
)
ORGANIZATION_FIELDS = frozenset(("_id", "displayName", "id", "logoUrl"))


@dataclass(frozen=True, slots=True)
class Rows:
    """The records of one V1 list: their ids, how a filter reads one, how one is shown."""

    ids: list[str]
    by_id: Callable[[], list[str]]
    row: Callable[[str], Row]
    show: Callable[[str], dict[str, Any]]
    known: Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Order:
    """What a V1 list is asked for, wherever the request says so."""

    page: Page
    filter: Filter | None
    sort: list[str]
    fields: list[str]


def _page_of(call: Call, rows: Rows, order: Order) -> Response:
    ids = _matching(rows, order.filter)
    if order.sort == ["_id"] and order.filter is None:
        ids = rows.by_id()
    else:
        stable = {"_id", "-_id"} & set(order.sort)
        if call.assumptions.unstable_rows and not stable and (order.page.skip or order.filter):
            ids = _shuffled(ids, call.serial)
        for name in reversed(order.sort):
            ids = sorted(ids, key=_sort_key(rows, name.removeprefix("-")), reverse=name.startswith("-"))
    shown = order.page(call.shifted(ids))
    results = [_projected(rows.show(one), order.fields, call.assumptions) for one in shown]
    return Response.of_json(200, {"totalCount": call.total(len(results), len(ids)), "results": results})


def _matching(rows: Rows, wanted: Filter | None) -> list[str]:
    if wanted is None:
        return rows.ids
    narrow = wanted.ids()
    candidates = rows.ids if narrow is None else sorted(filter(rows.known, narrow))
    return [one for one in candidates if wanted.matches(rows.row(one))]


def _shuffled(ids: list[str], serial: int) -> list[str]:
    """Another order for every request, the same ones in every run; a fixed stride is far cheaper than a shuffle."""
    count, stride = len(ids), 1_000_003
    return [ids[(stride * (place + serial * 31)) % count] for place in range(count)] if count % stride else ids


def _sort_key(rows: Rows, name: str) -> Callable[[str], str]:
    return lambda one: str(rows.row(one)(name) or "")


def _projected(row: dict[str, Any], fields: list[str], assumptions: Assumptions) -> dict[str, Any]:
    if not fields:
        return row
    wanted = {"_id", *fields} | ({"id"} if assumptions.alias_beside_fields else set())
    return {name: value for name, value in row.items() if name in wanted}


def _query_order(call: Call, known: Iterable[str], maximum: int = 100, sort: str = "") -> Order:
    query = call.query
    return Order(
        call.page(maximum),
        query.v1_filter(known),
        query.words("sort", None, known) or sort.split(),
        query.words("fields", None, known),
    )


def organizations(call: Call) -> Response:
    """`GET /organizations`: whatever the credential may read."""
    rows = {home.id: _organization_row(home) for home in call.visible}
    return _page_of(call, _small(rows), _query_order(call, ORGANIZATION_FIELDS))


def organization(call: Call, identifier: str) -> Response:
    """`GET /organizations/{id}`."""
    if "x-org-id" in call.request.headers and call.request.headers["x-org-id"] != identifier:
        raise bad_request("x-org-id and Organization path ID do not match")
    for home in call.visible:
        if home.id == identifier:
            fields = call.query.words("fields", None, ORGANIZATION_FIELDS)
            return Response.of_json(200, _projected(_organization_row(home), fields, call.assumptions))
    raise Refused(404, "Not Found")


def _organization_row(home: Organization) -> dict[str, Any]:
    return {"_id": home.id, "id": home.id, "displayName": home.name, "logoUrl": ""}


def _small(rows: dict[str, dict[str, Any]]) -> Rows:
    return Rows(list(rows), lambda: sorted(rows), lambda one: rows[one].get, lambda one: rows[one], rows.__contains__)


def applications(call: Call) -> Response:
    """`GET /applications`; without `fields` each row holds its private key."""
    rows = {one.id: _application_row(call, one) for one in call.home.applications.values()}
    return _page_of(call, _small(rows), _query_order(call, APPLICATION_FIELDS, sort="name"))


def application(call: Call, identifier: str) -> Response:
    """`GET /applications/{id}`: takes no `fields`, and answers with the private key."""
    if identifier not in call.home.applications:
        raise Refused(404, "Not Found")
    return Response.of_json(200, _application_row(call, call.home.applications[identifier]))


def _application_row(call: Call, one: Application) -> dict[str, Any]:
    row = {
        "_id": one.id,
        "id": one.id,
        "name": one.name,
        "displayName": one.displayName,
        "displayLabel": one.displayLabel,
        "active": one.active,
        "beta": False,
        "ssoUrl": one.ssoUrl,
        "created": one.created,
        "organization": call.home.id,
        "sso": {"type": "saml", "beta": False, "jit": False, "url": one.ssoUrl},
        "config": {
            "idpEntityId": {"value": "JumpCloud", "visible": True},
            "idpPrivateKey": {"value": PRIVATE_KEY, "visible": True},
        },
    }
    if not call.assumptions.application_organization:
        del row["organization"]
    return row


def _users(call: Call) -> Rows:
    home = call.home

    def by_id() -> list[str]:
        if home.by_id is None:
            home.by_id = sorted(home.users.keys() - home.hidden)
        return home.by_id

    ids = [one for one in home.users if one not in home.hidden] if home.hidden else list(home.users)
    return Rows(
        ids, by_id, lambda one: _user_value(home, home.users[one]),
        lambda one: _user_row(call, home.users[one]), lambda one: one in home.users and one not in home.hidden,
    )  # fmt: skip


def _user_value(home: Organization, user: User) -> Row:
    known = {"_id": user.id, "organization": home.id}
    return lambda name: known.get(name) or getattr(user, name, None)


def _user_row(call: Call, user: User) -> dict[str, Any]:
    row: dict[str, Any] = {"_id": user.id, "organization": call.home.id}
    for name in User.__slots__:
        value = getattr(user, name)
        if value is not None:
            row[name] = value
        elif call.assumptions.unset != "absent":
            row[name] = "" if call.assumptions.unset == "empty" else None
    if not call.assumptions.user_state:
        del row["state"]
    return row


def users(call: Call) -> Response:
    """`GET /systemusers`."""
    order = _query_order(call, USER_FIELDS, call.assumptions.users_limit)
    by_state = any(word in call.request.target for word in ("=state:", "=suspended:", "=state%3A", "=suspended%3A"))
    if by_state and call.assumptions.state_filter == "refused":
        raise bad_request("filters on this field are not supported")
    if by_state and call.assumptions.state_filter == "ignored":
        order = replace(order, filter=None)
    return _page_of(call, _users(call), order)


def user(call: Call, identifier: str) -> Response:
    """`GET /systemusers/{id}`."""
    if identifier not in call.home.users or identifier in call.home.hidden:
        raise call.gone()
    row = _user_row(call, call.home.users[identifier])
    fields = call.query.words("fields", None, USER_FIELDS)
    return Response.of_json(200, _projected(row, fields, call.assumptions))


def search_users(call: Call) -> Response:
    """`POST /search/systemusers`: the same list, with the filter in the body."""
    body = json_body(call.request)
    if unknown := set(body) - {"filter", "searchFilter", "fields", "sort", "limit", "skip"}:
        raise bad_request(f"unknown members of the body: {', '.join(sorted(unknown))}")
    filters: list[Filter] = []
    if "filter" in body:
        filters.append(search_filter(body["filter"], USER_FIELDS, call.assumptions.search_in_operator))
    if "searchFilter" in body:
        filters.append(search_text(body["searchFilter"], USER_FIELDS))
    limit, skip = _paging(call, body, "limit", DEFAULT_LIMIT), _paging(call, body, "skip", 0)
    page = call.held(Page.of(limit, skip, call.assumptions.users_limit))
    sort, fields = (_body_fields(body, name) for name in ("sort", "fields"))
    return _page_of(call, _users(call), Order(page, All(tuple(filters)) if filters else None, sort, fields))


def _paging(call: Call, body: Mapping[str, Any], name: str, default: int) -> int:
    value = body.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise bad_request(f'"{name}" must be an integer')
    in_query = call.query.number(name, default)
    if call.assumptions.search_paging == "query" or value is None:
        return default if call.assumptions.search_paging == "body" else in_query
    return value


def _body_fields(body: Mapping[str, Any], name: str) -> list[str]:
    text = body.get(name, "")
    if not isinstance(text, str):
        raise bad_request(f'"{name}" must be a string')
    return field_list(text, name, None, USER_FIELDS)
