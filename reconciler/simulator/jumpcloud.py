"""A strict JumpCloud: the routes with which a scope can be read, and nothing that would write."""

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.simulator import jumpcloud_document
from reconciler.simulator.jumpcloud_access import Access
from reconciler.simulator.jumpcloud_assumptions import Assumptions
from reconciler.simulator.jumpcloud_directory import Application, Group, Organization, User
from reconciler.simulator.jumpcloud_query import (
    DEFAULT_LIMIT,
    All,
    Filter,
    Page,
    Query,
    Refused,
    Row,
    bad_request,
    encoded,
    field_list,
    json_body,
    search_filter,
    search_text,
)
from reconciler.simulator.service import Controlled, Request, Response

PRIVATE_KEY = "-----BEGIN SIMULATED KEY----- the private key that signs this application's SAML assertions"
"""What the single application, and a list without `fields`, give away: must never turn up anywhere else."""

USER_FIELDS = frozenset(
    """_id account_locked account_locked_date activated addresses admin allow_public_key alternateEmail attributes
    badLoginAttempts company costCenter created creationSource delegatedAuthority department description
    disableDeviceMaxLoginAttempts displayname email employeeIdentifier employeeType enable_managed_uid
    enable_user_portal_multifactor external_dn external_password_expiration_date external_source_type
    externally_managed firstname id jobTitle lastname ldap_binding_user location managedAppleId manager mfa
    mfaEnrollment middlename organization password_date password_expiration_date password_expired
    password_never_expires passwordless_sudo phoneNumbers public_key recoveryEmail relationships restrictedFields
    samba_service_user ssh_keys state sudo suspended totp_enabled unix_guid unix_uid username""".split()
)
"""The fields of a user in JumpCloud's API description; only those of `User` have a value here."""
APPLICATION_FIELDS = frozenset(
    """_id active beta color config created databaseAttributes description displayLabel displayName id learnMore
    logo name organization parentApp sso ssoUrl""".split()
)
ORGANIZATION_FIELDS = frozenset(("_id", "displayName", "id", "logoUrl"))
GROUP_FIELDS = frozenset(
    """attributes description email id memberQuery memberQueryErrorFlags memberQueryExemptions
    memberSuggestionsNotify membershipMethod name organizationObjectId suggestionCounts type""".split()
)
GROUP_FILTERS = ("name", "disabled", "type", "membershipMethod")

V1_LIST = frozenset(("limit", "skip", "sort", "fields", "filter"))
DIRECT = frozenset(("targets", "limit", "skip"))
GRAPH = frozenset(("limit", "skip", "filter"))
GRAPH_SORTED = GRAPH | {"sort"}
Node = tuple[str, str]
"""A type of the graph (`user`, `user_group`, `application`) and an object id."""


class JumpCloud(Access):
    """A service that plays JumpCloud's V1 and V2 API and its OAuth token endpoint on one origin.

    It starts with one empty organisation. Every method may be called from any thread while it runs. `clock`
    gives seconds for the life of tokens, the lag of the graph and the rate limit.
    """

    def __init__(
        self, assumptions: Assumptions | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(assumptions or Assumptions(), clock)
        self.add_organization("Example")
        self._serial = 0

    def load(self, document: Mapping[str, Any]) -> None:
        """Replace everything by a seed document, see `jumpcloud_document`."""
        with self.lock:
            jumpcloud_document.load(self, document)

    def dump(self) -> dict[str, Any]:
        """The seed document of everything as it truly is."""
        return jumpcloud_document.dump(self)

    def handle(self, request: Request) -> Response:
        """Answer one request."""
        with self.lock:
            self._serial += 1
            try:
                return self._answer(request)
            except Refused as refused:
                return refused.response

    def _answer(self, request: Request) -> Response:
        if (throttled := self.throttled()) is not None:
            return throttled
        if request.path == "/oauth2/token":
            return self.token(request)
        found = [
            (route, match) for route in _ROUTES if (match := route.pattern.fullmatch(request.path)) is not None
        ]
        visible = self.visible(request, not any(route.across for route, _ in found))
        if not found:
            raise Refused(404, "Not Found")
        route, match = found[0]
        if request.method != route.method:
            return Response.of_json(405, {"message": "Method Not Allowed"}, {"allow": route.method})
        for home in visible:
            self._catch_up(home, self.clock())
        query = Query(request, route.parameters, self.assumptions.unknown_parameters == "refused")
        return route.handler(Call(self, request, query, visible, self._serial), *match.groups())


def controlled(jumpcloud: JumpCloud) -> Controlled:
    """The service with its control route, for people who try things from a terminal."""
    names = """add_organization add_user update_user suspend activate delete_user add_group rename_group delete_group
        add_member remove_member add_application update_application delete_application bind_group unbind_group
        bind_user unbind_user settle_graph add_api_key revoke_api_key add_service_account revoke_service_account
        expire_tokens deny allow load""".split()
    return Controlled(jumpcloud, {name: getattr(jumpcloud, name) for name in names}, jumpcloud.dump)


@dataclass(frozen=True, slots=True)
class Call:
    """One request to one route, with the organisations that it may read."""

    service: JumpCloud
    request: Request
    query: Query
    visible: list[Organization]
    serial: int

    @property
    def home(self) -> Organization:
        """The one organisation asked."""
        return self.visible[0]

    @property
    def assumptions(self) -> Assumptions:
        """The readings to play."""
        return self.service.assumptions

    def page(self, maximum: int = 100) -> Page:
        """The page that the query asks for."""
        return Page.of(self.query.number("limit", DEFAULT_LIMIT), self.query.number("skip", 0), maximum)


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


def _v1_list(call: Call, rows: Rows, order: Order) -> Response:
    ids = _matching(rows, order.filter)
    if order.sort == ["_id"] and order.filter is None:
        ids = rows.by_id()
    else:
        stable = {"_id", "-_id"} & set(order.sort)
        if call.assumptions.unstable_rows and not stable and (order.page.skip or order.filter):
            ids = _shuffled(ids, call.serial)
        for name in reversed(order.sort):
            ids = sorted(ids, key=_sort_key(rows, name.removeprefix("-")), reverse=name.startswith("-"))
    results = [_projected(rows.show(one), order.fields, call.assumptions) for one in order.page(ids)]
    return Response.of_json(200, {"totalCount": len(ids), "results": results})


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


def _list_organizations(call: Call) -> Response:
    rows = {home.id: _organization_row(home) for home in call.visible}
    return _v1_list(call, _small(rows), _query_order(call, ORGANIZATION_FIELDS))


def _organization(call: Call, identifier: str) -> Response:
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
    return Rows(
        list(rows), lambda: sorted(rows), lambda one: rows[one].get, lambda one: rows[one], rows.__contains__
    )


def _list_applications(call: Call) -> Response:
    rows = {one.id: _application_row(call, one) for one in call.home.applications.values()}
    return _v1_list(call, _small(rows), _query_order(call, APPLICATION_FIELDS, sort="name"))


def _application(call: Call, identifier: str) -> Response:
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
            home.by_id = sorted(home.users)
        return home.by_id

    return Rows(
        list(home.users), by_id, lambda one: _user_value(home, home.users[one]),
        lambda one: _user_row(call, home.users[one]), home.users.__contains__,
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


def _list_users(call: Call) -> Response:
    return _v1_list(call, _users(call), _query_order(call, USER_FIELDS, call.assumptions.users_limit))


def _user(call: Call, identifier: str) -> Response:
    if identifier not in call.home.users:
        raise Refused(404, "Not Found")
    row = _user_row(call, call.home.users[identifier])
    fields = call.query.words("fields", None, USER_FIELDS)
    return Response.of_json(200, _projected(row, fields, call.assumptions))


def _search_users(call: Call) -> Response:
    body = json_body(call.request)
    if unknown := set(body) - {"filter", "searchFilter", "fields", "sort", "limit", "skip"}:
        raise bad_request(f"unknown members of the body: {', '.join(sorted(unknown))}")
    filters: list[Filter] = []
    if "filter" in body:
        filters.append(search_filter(body["filter"], USER_FIELDS, call.assumptions.search_in_operator))
    if "searchFilter" in body:
        filters.append(search_text(body["searchFilter"], USER_FIELDS))
    page = Page.of(
        _paging(call, body, "limit", DEFAULT_LIMIT), _paging(call, body, "skip", 0), call.assumptions.users_limit
    )
    sort, fields = (_body_fields(body, name) for name in ("sort", "fields"))
    return _v1_list(call, _users(call), Order(page, All(tuple(filters)) if filters else None, sort, fields))


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


def _list_groups(call: Call) -> Response:
    groups = {one.id: _group_row(one) for one in call.home.groups.values()}
    ids = list(call.home.shown.listed("groups", "", lambda: groups))
    ids = [one for one in ids if one in groups] + [one for one in groups if one not in set(ids)]
    wanted = call.query.v2_filter(GROUP_FILTERS)
    if wanted is not None:
        ids = [one for one in ids if wanted.matches(groups[one].get)]
    for name in reversed(call.query.words("sort", ",", GROUP_FIELDS)):
        ids.sort(key=_sort_key(_small(groups), name.removeprefix("-")), reverse=name.startswith("-"))
    fields = call.query.words("fields", ",", GROUP_FIELDS)
    shown = [{name: groups[one][name] for name in fields if name in groups[one]} or groups[one]
             for one in call.page()(ids)]  # fmt: skip
    return _v2_list(call, shown, len(ids))


def _group(call: Call, identifier: str) -> Response:
    if identifier not in call.home.groups:
        raise Refused(404, "Not Found")
    return Response.of_json(200, _group_row(call.home.groups[identifier]))
