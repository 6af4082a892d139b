"""A Keeper that does not show what is there."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from reconciler.simulator.faults import status
from reconciler.simulator.service import Request, Response
from tests.stage import World


@dataclass(frozen=True)
class Answered:
    """A fault: a request that is answered by hand."""

    run: Callable[[Any, Request], Response]


def hide(world: World, id: str, kind: str = "Users") -> None:
    """Have Keeper neither list a user or a team nor answer for it."""

    def without(handle: Callable[[Request], Response], request: Request) -> Response:
        every = json.loads(handle(Request("GET", f"{request.path}?startIndex=1&count=1000", request.headers)).body)
        left = [one for one in every["Resources"] if one["id"] != id]
        page = left[int(request.query["startIndex"][0]) - 1 :]
        return Response.of_json(200, every | {"Resources": page, "totalResults": len(left)})

    world.back.faults.add(Answered(without), method="GET", target=rf"/{kind}\?")
    world.back.faults.add(status(404), method="GET", target=f"/{kind}/{id}")


def two_minutes_after(world: World) -> None:
    """Let two minutes pass since a team was missed; a reading from then on may tell that it is gone."""
    older = "strftime('%Y-%m-%dT%H:%M:%S.000000Z', missed_at, '-2 minutes')"
    with closing(sqlite3.connect(world.state_file)) as connection, connection:
        connection.execute(f"UPDATE teams SET missed_at = {older}")
