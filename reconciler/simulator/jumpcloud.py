"""A strict JumpCloud: the routes with which a scope can be read, and nothing that would write."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from reconciler.simulator import jumpcloud_document, jumpcloud_v1, jumpcloud_v2
from reconciler.simulator.jumpcloud_access import Access
from reconciler.simulator.jumpcloud_assumptions import Assumptions
from reconciler.simulator.jumpcloud_oddities import Oddities
from reconciler.simulator.jumpcloud_query import Call, Query, Refused, names
from reconciler.simulator.service import Controlled, Request, Response


class JumpCloud(Access):
    """A service that plays JumpCloud's V1 and V2 API and its OAuth token endpoint on one origin.

    It starts with one empty organisation. Every method may be called from any thread while it runs. `clock`
    gives seconds for the life of tokens, the lag of the graph and the rate limit.
    """

    def __init__(self, assumptions: Assumptions | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(assumptions or Assumptions(), clock)
        self.oddities = Oddities()
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
                return self.oddities.answered(request, lambda: self._answer(request))
            except Refused as refused:
                return refused.response

    def _answer(self, request: Request) -> Response:
        if (throttled := self.throttled()) is not None:
            return throttled
        if request.path == "/oauth2/token":
            return self.token(request)
        route, ids = _found(request.path)
        visible = self.visible(request, route is None or not route.across)
        if route is None:
            raise Refused(404, "Not Found")
        if request.method != route.method:
            return Response.of_json(405, {"message": "Method Not Allowed"}, {"allow": route.method})
        for home in visible:
            self._catch_up(home, self.clock())
        query = Query(request, route.parameters, self.assumptions.unknown_parameters == "refused")
        return route.handler(Call(request, query, visible, self.assumptions, self._serial), *ids)


def controlled(jumpcloud: JumpCloud) -> Controlled:
    """The service with its control route, for people who try things from a terminal."""
    controls = names(
        """add_organization add_user update_user suspend activate delete_user add_group rename_group delete_group
        add_member remove_member add_application update_application delete_application bind_group unbind_group
        bind_user unbind_user settle_graph add_api_key revoke_api_key add_service_account revoke_service_account
        expire_tokens deny allow load hide_user show_user"""
    )
    odd = names("spoil spoil_node heal take_down put_up")
    found = {name: getattr(jumpcloud, name) for name in controls}
    found |= {name: getattr(jumpcloud.oddities, name) for name in odd}
    return Controlled(jumpcloud, dict(sorted(found.items())), jumpcloud.dump)


@dataclass(frozen=True, slots=True)
class Route:
    """One documented route. `across` may be asked for several organisations at once, without `x-org-id`."""

    method: str
    pattern: re.Pattern[str]
    parameters: frozenset[str]
    handler: Callable[..., Response]
    across: bool = False


def _route(
    path: str, parameters: str, handler: Callable[..., Response], *, method: str = "GET", across: bool = False
) -> Route:
    pattern = re.compile(path.replace("ID", "([^/]+)"))
    return Route(method, pattern, frozenset(parameters.split()), handler, across)


_V1_LIST = "limit skip sort fields filter"
_DIRECT = "targets limit skip"
_GRAPH = "limit skip filter"

_ROUTES = (
    _route("/api/organizations", _V1_LIST, jumpcloud_v1.organizations, across=True),
    _route("/api/organizations/ID", "fields", jumpcloud_v1.organization, across=True),
    _route("/api/applications", _V1_LIST, jumpcloud_v1.applications),
    _route("/api/applications/ID", "", jumpcloud_v1.application),
    _route("/api/systemusers", _V1_LIST, jumpcloud_v1.users),
    _route("/api/systemusers/ID", "fields", jumpcloud_v1.user),
    _route("/api/search/systemusers", "limit skip", jumpcloud_v1.search_users, method="POST"),
    _route("/api/v2/usergroups", "limit skip sort fields filter", jumpcloud_v2.groups),
    _route("/api/v2/usergroups/ID", "", jumpcloud_v2.group),
    _route("/api/v2/usergroups/ID/members", "limit skip", jumpcloud_v2.members),
    _route("/api/v2/usergroups/ID/membership", f"{_GRAPH} sort", jumpcloud_v2.membership),
    _route("/api/v2/usergroups/ID/associations", _DIRECT, jumpcloud_v2.group_associations),
    _route("/api/v2/usergroups/ID/applications", _GRAPH, jumpcloud_v2.group_applications),
    _route("/api/v2/users/ID/memberof", f"{_GRAPH} sort", jumpcloud_v2.member_of),
    _route("/api/v2/users/ID/associations", _DIRECT, jumpcloud_v2.user_associations),
    _route("/api/v2/users/ID/applications", _GRAPH, jumpcloud_v2.user_applications),
    _route("/api/v2/applications/ID/associations", _DIRECT, jumpcloud_v2.application_associations),
    _route("/api/v2/applications/ID/usergroups", _GRAPH, jumpcloud_v2.application_groups),
    _route("/api/v2/applications/ID/users", _GRAPH, jumpcloud_v2.application_users),
)


@lru_cache(maxsize=256)
def _found(path: str) -> tuple[Route | None, tuple[str, ...]]:
    """The route of a path, and the ids in it; the same paths are asked for again and again."""
    tried = ((route, route.pattern.fullmatch(path)) for route in _ROUTES)
    return next(((route, match.groups()) for route, match in tried if match is not None), (None, ()))
