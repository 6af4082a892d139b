"""The simulated JumpCloud's V2 routes: user groups, and the graph of what is bound to what, as bare arrays."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.simulator.jumpcloud_directory import Group, Organization
from reconciler.simulator.jumpcloud_graph import graph_order
from reconciler.simulator.jumpcloud_query import Call, bad_request, names
from reconciler.simulator.service import Response

GROUP_FIELDS = names(
    """attributes description email id memberQuery memberQueryErrorFlags memberQueryExemptions
    memberSuggestionsNotify membershipMethod name organizationObjectId suggestionCounts type"""
)
GROUP_FILTERS = ("name", "disabled", "type", "membershipMethod")
GRAPH_FIELDS = ("id", "type")
"""What graph lists may be filtered and sorted by (assumed: "a valid field from an endpoint response")."""

_COMPACT = json.JSONEncoder(separators=(",", ":"))

TARGETS = names(
    """active_directory application g_suite idp_routing_policy ldap_server office_365 password_manager_item
    radius_server system system_group"""
)
"""What users and user groups may be associated with; only applications are ever here."""

Connection = dict[str, Any]


def groups(call: Call) -> Response:
    """`GET /usergroups`: all groups, known at once (this is no graph list)."""
    rows = {one: _group_row(call.home.groups[one]) for one in graph_order(call.home.groups)}
    ids = _chosen(call, list(rows), rows.__getitem__, GROUP_FILTERS, GROUP_FIELDS)
    fields = call.query.words("fields", ",", GROUP_FIELDS)
    shown = [
        {name: value for name, value in rows[one].items() if not fields or name in fields}
        for one in call.page()(call.shifted(ids))
    ]
    return _array(call, shown, len(ids))


def group(call: Call, identifier: str) -> Response:
    """`GET /usergroups/{id}`."""
    if identifier not in call.home.groups:
        raise call.gone()
    return Response.of_json(200, _group_row(call.home.groups[identifier]))


def members(call: Call, identifier: str) -> Response:
    """`GET /usergroups/{id}/members`: connections to the users."""
    graph = call.home.shown
    nodes = _Nodes("members", identifier, "user", lambda: graph.members[identifier])
    return _list(call, nodes, graph.groups, lambda user: _connection("user", user))


def membership(call: Call, identifier: str) -> Response:
    """`GET /usergroups/{id}/membership`: the same users, as objects with paths."""
    graph = call.home.shown
    nodes = _Nodes("members", identifier, "user", lambda: graph.members[identifier])
    return _list(call, nodes, graph.groups, _with_paths(call, "user", lambda user: [[_connection("user", user)]]))


def member_of(call: Call, identifier: str) -> Response:
    """`GET /users/{id}/memberof`: the user's groups, with paths."""
    graph = call.home.shown
    nodes = _Nodes("groups of", identifier, "user_group", lambda: graph.groups_of[identifier])
    paths = _with_paths(call, "user_group", lambda one: [[_group_connection(call.home, one)]])
    return _list(call, nodes, graph.users, paths)


def group_associations(call: Call, identifier: str) -> Response:
    """`GET /usergroups/{id}/associations?targets=application`: direct bindings."""
    graph = call.home.shown
    nodes = _Nodes("direct", identifier, "application", lambda: _applications(call, graph.bound_groups, identifier))
    return _associations(call, nodes, graph.groups, TARGETS)


def user_associations(call: Call, identifier: str) -> Response:
    """`GET /users/{id}/associations?targets=application`: direct bindings."""
    graph = call.home.shown
    nodes = _Nodes("direct", identifier, "application", lambda: _applications(call, graph.bound_users, identifier))
    return _associations(call, nodes, graph.users, TARGETS)


def application_associations(call: Call, identifier: str) -> Response:
    """`GET /applications/{id}/associations?targets=user|user_group`: direct bindings."""
    graph = call.home.shown
    is_user = call.query.text("targets") == "user"
    bound = graph.bound_users if is_user else graph.bound_groups
    kind = "user" if is_user else "user_group"
    nodes = _Nodes(f"bound {kind}", identifier, kind, lambda: bound[identifier])
    return _associations(call, nodes, graph.applications, ("user", "user_group"))


def group_applications(call: Call, identifier: str) -> Response:
    """`GET /usergroups/{id}/applications`, with paths."""
    graph = call.home.shown
    nodes = _Nodes("direct", identifier, "application", lambda: _applications(call, graph.bound_groups, identifier))
    paths = _with_paths(call, "application", lambda one: [[_connection("application", one)]])
    return _list(call, nodes, graph.groups, paths)


def user_applications(call: Call, identifier: str) -> Response:
    """`GET /users/{id}/applications`, direct and through groups, with paths."""
    home = call.home
    nodes = _Nodes("applications", identifier, "application", lambda: home.shown.applications_of(identifier))

    def paths(application: str) -> list[list[Connection]]:
        end = _connection("application", application)
        ways = home.shown.ways(application, identifier)
        return [[end] if way is None else [_group_connection(home, way), end] for way in ways]

    return _list(call, nodes, home.shown.users, _with_paths(call, "application", paths))


def application_groups(call: Call, identifier: str) -> Response:
    """`GET /applications/{id}/usergroups`, with paths; the only list that shows bound groups without members."""
    graph = call.home.shown
    nodes = _Nodes("bound user_group", identifier, "user_group", lambda: graph.bound_groups[identifier])
    paths = _with_paths(call, "user_group", lambda one: [[_group_connection(call.home, one)]])
    return _list(call, nodes, graph.applications, paths)


def application_users(call: Call, identifier: str) -> Response:
    """`GET /applications/{id}/users`, direct and through groups, one path for each way in."""
    home = call.home

    def active() -> Iterable[str]:
        for user in home.shown.scope(identifier):
            known = home.users.get(user)
            if known is None or (known.state == "ACTIVATED" and not known.suspended):
                yield user

    if call.assumptions.inactive_users_listed:
        nodes = _Nodes("scope", identifier, "user", lambda: home.shown.scope(identifier))
    else:
        nodes = _Nodes("active scope", identifier, "user", active)

    def paths(user: str) -> list[list[Connection]]:
        end = _connection("user", user)
        ways = home.shown.ways(identifier, user)
        return [[end] if way is None else [_group_connection(home, way), end] for way in ways]

    return _list(call, nodes, home.shown.applications, _with_paths(call, "user", paths))


@dataclass(frozen=True, slots=True)
class _Nodes:
    """What a graph list shows: `kind` and `node` name it in the cache, `type` is that of its elements."""

    kind: str
    node: str
    type: str
    find: Callable[[], Iterable[str]]


def _list(call: Call, nodes: _Nodes, known: set[str], show: Callable[[str], Any]) -> Response:
    """One page of a graph list. Dead entries take their place on the page, whatever is shown of them."""
    graph = call.home.shown
    page, dead_entries = call.page(), call.assumptions.dead_entries
    if nodes.node not in known:
        if call.assumptions.unknown_in_graph == "refused":
            raise call.gone()
        return _array(call, [], 0)
    ids = graph.listed(nodes.kind, nodes.node, nodes.find)
    ids = _chosen(call, ids, lambda one: {"id": one, "type": nodes.type}, GRAPH_FIELDS, GRAPH_FIELDS)
    rows = [None if one in graph.dead else show(one) for one in page(call.shifted(ids))]
    if dead_entries != "null":
        rows = [row for row in rows if row is not None]
    uncounted = len(graph.dead.intersection(ids)) if graph.dead and dead_entries == "uncounted" else 0
    return _array(call, rows, len(ids) - uncounted)


def _chosen(
    call: Call,
    ids: list[str],
    row: Callable[[str], Mapping[str, Any]],
    filters: Iterable[str],
    sorts: Iterable[str],
) -> list[str]:
    """The ids that meet the filter, sorted where the query says so; the list itself is left as it is."""
    wanted = call.query.v2_filter(filters)
    if wanted is not None:
        ids = [one for one in ids if wanted.matches(row(one).get)]
    for name in reversed(call.query.words("sort", ",", sorts)):
        field, down = name.removeprefix("-"), name.startswith("-")
        ids = sorted(ids, key=_sort_key(row, field), reverse=down)
    return ids


def _sort_key(row: Callable[[str], Mapping[str, Any]], field: str) -> Callable[[str], str]:
    return lambda one: str(row(one).get(field) or "")


def _array(call: Call, rows: list[Any], total: int) -> Response:
    headers = {"content-type": "application/json"}
    if call.assumptions.total_count_header:
        headers["x-total-count"] = str(call.total(len(rows), total))
    return Response(200, headers, _COMPACT.encode(rows).encode())


def _associations(call: Call, nodes: _Nodes, known: set[str], targets: Iterable[str]) -> Response:
    wanted = call.query.text("targets")
    if wanted is None:
        raise bad_request('request parameter "targets" is required')
    if wanted not in targets:
        raise bad_request(f'request parameter "targets" cannot be "{wanted}"')
    if nodes.type != wanted:
        nodes = _Nodes(f"no {wanted}", nodes.node, wanted, lambda: ())

    def show(one: str) -> Connection:
        return _connection(nodes.type, one)

    return _list(call, nodes, known, show)


def _applications(call: Call, bound: Mapping[str, set[str]], node: str) -> list[str]:
    return [one for one in call.home.shown.applications if node in bound[one]]


def _with_paths(
    call: Call, kind: str, paths: Callable[[str], list[list[Connection]]]
) -> Callable[[str], dict[str, Any]]:
    """How an object with paths is shown; its attributes are those of all groups on its paths together."""

    def show(one: str) -> dict[str, Any]:
        every = paths(one)
        attributes = [
            name for path in every for step in path for name in (step["to"]["attributes"] or {}).get("ldapGroups", [])
        ]
        return {
            "id": one,
            "type": kind,
            "compiledAttributes": {"ldapGroups": attributes} if attributes else None,
            "paths": every[: call.assumptions.paths_limit],
        }

    return show


def _connection(kind: str, node: str, attributes: Mapping[str, Any] | None = None) -> Connection:
    return {"attributes": None, "to": {"attributes": attributes, "id": node, "type": kind}}


def _group_connection(home: Organization, identifier: str) -> Connection:
    known = home.groups.get(identifier)
    return _connection("user_group", identifier, None if known is None else _attributes(known))


def _attributes(group: Group) -> dict[str, Any]:
    return {"ldapGroups": [{"name": group.ldap_name}]}


def _group_row(group: Group) -> dict[str, Any]:
    return {
        "id": group.id,
        "name": group.name,
        "type": "user_group",
        "description": group.description,
        "email": group.email,
        "attributes": _attributes(group),
        "membershipMethod": group.membershipMethod,
    }
