"""Records that are not as documented, and routes that are down, in the simulated JumpCloud."""

import json
import re
from collections.abc import Callable
from typing import Any

from reconciler.simulator.service import Request, Response

_RECORDS = re.compile(r"/api/(systemusers|search/systemusers|applications|v2/usergroups)(/[^/]+)?")
"""The routes that show records; the others of the directory show the graph."""


class Oddities:
    """Faults of single records and routes, until it is healed."""

    def __init__(self) -> None:
        self._records: dict[str, dict[str, Any]] = {}
        self._nodes: dict[str, dict[str, Any]] = {}
        self._down: dict[str, int] = {}

    def spoil(self, identifier: str, **values: Any) -> None:
        """Show a record with these values instead of its own, wherever it is shown: `name=5`, `_id=None`."""
        self._records.setdefault(identifier, {}).update(values)

    def spoil_node(self, identifier: str, **values: Any) -> None:
        """Show an object in graph lists with these values instead of its own: `type="system"`, `paths=7`."""
        self._nodes.setdefault(identifier, {}).update(values)

    def heal(self, identifier: str) -> None:
        """Show a record and its node as they are."""
        self._records.pop(identifier, None)
        self._nodes.pop(identifier, None)

    def take_down(self, route: str, status: int = 503) -> None:
        """Answer requests whose path this regular expression matches as a whole with this status."""
        re.compile(route)
        self._down[route] = status

    def put_up(self, route: str) -> None:
        """Answer a route again."""
        self._down.pop(route, None)

    def answered(self, request: Request, answer: Callable[[], Response]) -> Response:
        """The answer with what is wrong with it."""
        for route, status in self._down.items():
            if re.fullmatch(route, request.path):
                return Response.of_json(status, {"message": "Service Unavailable" if status >= 500 else "Forbidden"})
        response = answer()
        spoiled = self._records if _RECORDS.fullmatch(request.path) else self._nodes
        if not spoiled or response.status != 200:
            return response
        return Response.of_json(200, _spoiled(json.loads(response.body), spoiled), response.headers)


def _spoiled(document: Any, odd: dict[str, dict[str, Any]]) -> Any:
    if isinstance(document, list):
        return [_spoiled(row, odd) for row in document]
    if not isinstance(document, dict):
        return document
    if isinstance(document.get("results"), list):
        return document | {"results": _spoiled(document["results"], odd)}
    values = odd.get(document.get("_id") or document.get("id") or "", {})
    return document | {name: value for name, value in values.items() if name in document}
