"""What `keeper.inventory_command` prints, read into a small type: Keeper Commander's `enterprise-info` as JSON. Pure.

SCIM does not tell a queued team or membership from an approved one, nor an invited user from one who has joined;
Commander does. The rows are those of Commander's open source (keepercommander/commands/enterprise.py,
EnterpriseInfoCommand): `enterprise-info --teams --format json --columns restricts,node,users,queued_users` has
"Queued" as the `restricts` of a queued team, `enterprise-info --users --format json --columns status` has "Invited".
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from reconciler.addresses import alike_key
from reconciler.model import Inventory, InventoryTeam, normal, trimmed

# A line of a log may begin with a bracket, too: "[WARN] ...". What a line break follows is a document, whatever comes.
_DOCUMENT = re.compile(r"^[ \t]*(?=\[[ \t]*(?:[\[{\]\"\r\n]|\Z)|\{[ \t]*(?:[\"}\r\n]|\Z))", re.MULTILINE)


class InventoryError(Exception):
    """The inventory can't be used; the text is for the administrator."""


def parse(printed: bytes, read_at: datetime) -> Inventory:
    """The inventory in what the command printed: one JSON document or several, each a list of Commander's rows or an
    object of such lists. Lines around them, such as a greeting, are skipped; more columns than needed are welcome.

    Raises InventoryError: half an inventory must not pass for a whole one.
    """
    teams: dict[str, InventoryTeam] = {}
    users: dict[str, str] = {}
    ids: dict[str, str] = {}
    documents = list(_documents(printed))
    rows = [row for document in documents for row in _rows(document)]
    if not documents:
        raise InventoryError("it printed no JSON")
    for row in rows:
        if "team_uid" in row:
            team = _team(row)
            teams[team.id] = team
        elif "email" in row:
            status = _optional(row, "status")
            users[alike_key(_text(row, "email"))] = status
            if isinstance(number := row.get("user_id"), int | str):
                ids[trimmed(str(number))] = status
        else:
            raise InventoryError("a row is neither a team (team_uid) nor a user (email)")
    invited = frozenset(address for address, status in users.items() if status == "Invited")
    return Inventory(read_at, teams, invited, users, ids)


def to_json(inventory: Inventory) -> str:
    """The inventory for the state file."""
    return json.dumps(
        {
            "read_at": inventory.read_at.isoformat(),
            "invited": sorted(inventory.invited),
            "users": dict(inventory.users),
            "ids": dict(inventory.ids),
            "teams": [
                [team.id, team.name, team.node, team.queued, _listed(team.pending), _listed(team.members)]
                for team in inventory.teams.values()
            ],
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )


def from_json(text: str) -> Inventory:
    """The inventory from the state file; raises what a damaged row raises (ValueError, KeyError, TypeError)."""
    found = json.loads(text)
    teams = (
        InventoryTeam(id, name, node, queued, _unlisted(pending), _unlisted(members))
        for id, name, node, queued, pending, members in found["teams"]
    )
    read_at = datetime.fromisoformat(found["read_at"])
    if read_at.tzinfo is None:
        raise ValueError("a time without its zone")
    users, ids = ({str(key): str(status) for key, status in found.get(one, {}).items()} for one in ("users", "ids"))
    return Inventory(read_at, {team.id: team for team in teams}, frozenset(found["invited"]), users, ids)


def _listed(addresses: Iterable[str] | None) -> list[str] | None:
    return None if addresses is None else sorted(addresses)


def _unlisted(addresses: Iterable[str] | None) -> frozenset[str] | None:
    return None if addresses is None else frozenset(addresses)


def _documents(printed: bytes) -> Iterator[Any]:
    try:
        text = printed.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InventoryError("what it printed is not UTF-8") from None
    decoder = json.JSONDecoder()
    place = 0
    while found := _DOCUMENT.search(text, place):
        try:
            document, place = decoder.raw_decode(text, found.end())
        except (ValueError, RecursionError) as error:
            where = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
            raise InventoryError(f"what it printed is not JSON{where}") from None
        yield document


def _rows(document: Any) -> Iterator[Mapping[str, Any]]:
    lists = list(document.values()) if isinstance(document, dict) else [document]
    for rows in lists:
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise InventoryError("its JSON is not a list of rows")
        yield from rows


def _team(row: Mapping[str, Any]) -> InventoryTeam:
    if not isinstance(row.get("restricts"), str):
        raise InventoryError("its teams lack the column restricts, which tells a queued team from an approved one")
    return InventoryTeam(
        _text(row, "team_uid"),
        normal(_text(row, "name")),
        _optional(row, "node"),
        row["restricts"].strip() == "Queued",
        _addresses(row, "queued_users"),
        _addresses(row, "users"),
    )


def _text(row: Mapping[str, Any], key: str) -> str:
    if not row.get(key) or not isinstance(row[key], str):
        raise InventoryError(f"a row has no {key}")
    return _optional(row, key)


def _optional(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    return trimmed(value) if isinstance(value, str) else ""


def _addresses(row: Mapping[str, Any], key: str) -> frozenset[str] | None:
    value = row.get(key)
    if value is None:
        return None
    if value == "":  # what Commander has for the members of a queued team
        return frozenset()
    if not isinstance(value, list) or not all(isinstance(address, str) for address in value):
        raise InventoryError(f"{key} of a team is not a list of addresses")
    return frozenset(alike_key(trimmed(address)) for address in value)
