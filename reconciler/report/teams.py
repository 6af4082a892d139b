"""The report of `teams`: the teams with their members, and what is not known to be approved in Keeper. Pure."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from reconciler import waiting as approvals
from reconciler.counting import agreeing, count
from reconciler.model import Account, Membership, Snapshot, Team
from reconciler.policy import TeamPolicy
from reconciler.report.terminal import names, spoken, stamp, styled, wrapped

MOST_MEMBERS = 30
"""Members of one team that the text names before the rest is a number."""


def waiting(snapshot: Snapshot, policy: TeamPolicy) -> list[dict[str, Any]]:
    """Return, by team of ours, what is not known to be approved: the team itself, some of its members.

    `certain`: Keeper's inventory shows all of it as queued. `listed`: Keeper lists all of it over SCIM, which tells
    nothing of an approval.
    """
    return [
        {
            "team": found.team.name,
            "queued": found.queued,
            "members": len(found.members),
            "since": stamp(found.since),
            "certain": (found.certain or not found.queued) and all(member.certain for member in found.members),
            "listed": found.listed,
        }
        for found in sorted(approvals.waiting(snapshot, policy), key=lambda found: _by_name(found.team))
    ]


def document(snapshot: Snapshot, policy: TeamPolicy, now: datetime) -> dict[str, Any]:
    """All teams of the snapshot as one JSON document; those that we manage first."""
    members = _members(snapshot)
    waits = {found.team.keeper_id: found for found in approvals.waiting(snapshot, policy)}
    others = sorted((t for t in snapshot.teams.values() if not t.managed and not t.gone), key=_by_name)
    return {
        "asked_at": stamp(now),
        "keeper_read_at": stamp(snapshot.read_at),
        "inventory_read_at": stamp(snapshot.inventory.read_at) if snapshot.inventory else None,
        "waiting": waiting(snapshot, policy),
        "teams": [
            _team(team, members[team.keeper_id], waits.get(team.keeper_id)) for team in (*_ours(snapshot), *others)
        ],
    }


def _ours(snapshot: Snapshot) -> list[Team]:
    return sorted((team for team in snapshot.teams.values() if team.managed and not team.gone), key=_by_name)


def _by_name(team: Team) -> tuple[str, str]:
    return team.name.casefold(), team.keeper_id


def _members(snapshot: Snapshot) -> defaultdict[str, list[tuple[Account, Membership]]]:
    found: defaultdict[str, list[tuple[Account, Membership]]] = defaultdict(list)
    for account in sorted(snapshot.accounts.values(), key=lambda a: (a.email.casefold(), a.keeper_id)):
        for team_id, membership in account.memberships.items() if not account.gone else ():
            found[team_id].append((account, membership))
    return found


def _team(team: Team, members: Iterable[tuple[Account, Membership]], waits: approvals.Waiting | None) -> dict[str, Any]:
    queued = {member.email for member in waits.members if member.certain} if waits else set[str]()
    return {
        "name": team.name,
        "jumpcloud_id": team.jumpcloud_id or None,
        "keeper_id": team.keeper_id,
        "managed": team.managed,
        "left_scope_at": stamp(team.left_at),
        "waiting_since": stamp(team.queued_at) if waits and waits.queued else None,
        "approval": _approval(waits) if team.managed else None,
        "members": [
            {
                "email": account.email,
                "keeper_id": account.keeper_id,
                "active": account.active,
                "state": state_of(membership, queued=account.email in queued),
                "asked_at": stamp(membership.asked_at),
            }
            for account, membership in members
        ],
    }


def _approval(waits: approvals.Waiting | None) -> str:
    """One of `known` (the inventory shows it, or nothing was asked for), `queued` (the inventory shows it) and
    `not_visible`; of the team itself."""
    if waits is None or not waits.queued:
        return "known"
    return "queued" if waits.certain else "not_visible"


def state_of(membership: Membership, *, queued: bool) -> str:
    """One of `member` (Keeper lists it, which is no approval), `queued` (the inventory shows it), `waiting` for an
    approval, `missing` (was shown, and is not any more), `found` (there before the team was taken over) and `by_hand`
    (given in Keeper)."""
    if queued:
        return "queued"
    if membership.waiting:
        return "waiting"
    if not membership.shown:
        return "missing"
    if membership.ours:
        return "member"
    return "found" if membership.found else "by_hand"


NOT_PLAIN = {
    "queued": "queued in Keeper, as its inventory shows",
    "waiting": "asked for, approval not visible",
    "missing": "shown once, not any more",
    "found": "in the team before it was taken over",
    "by_hand": "given in Keeper",
}
"""What is to be said of a membership that is not simply one, by its state."""


def render(found: dict[str, Any], *, width: int, colour: bool) -> str:
    """The document for a person."""
    ours = [team for team in found["teams"] if team["managed"]]
    others = [team for team in found["teams"] if not team["managed"]]
    if not found["teams"]:
        return "No team is known yet. What a first run would queue: reconciler plan"
    number = len(ours)
    follow = f"{count(number, 'team')} that {agreeing(number, 'follows')} a JumpCloud group"
    head = f"{follow}, as of {spoken(found['keeper_read_at'])}"
    lines = wrapped(f"{head}; {in_words(found['waiting'], found['inventory_read_at'])}.", width)
    for team in ours:
        lines += ["", *(styled(line, colour, bold=True) for line in wrapped(names([team["name"]]), width))]
        lines += _one(team, width)
    if others:
        words = names((f"{team['name']} ({len(team['members'])})" for team in others), 50)
        lines += ["", *wrapped(f"In Keeper only, not managed ({len(others)}, with members): {words}", width)]
    if found["waiting"]:
        lines += ["", *wrapped("To approve what waits: Keeper's Admin Console, or in Keeper Commander:", width)]
        lines.append("  team-approve")
    if any(not entry["certain"] for entry in found["waiting"]):
        words = "SCIM does not show approvals; keeper.inventory_command in the settings does. A team that was rejected"
        words += " in the queue is not asked for again: make it in the Admin Console, then reconciler resync, and"
        lines += wrapped(words, width)
        lines.append('  reconciler adopt --team "NAME"')
    return "\n".join(lines)


def in_words(entries: Collection[Mapping[str, Any]], inventory_read_at: str | None) -> str:
    """Say for how many teams something waits, and how that is known; never a bare nought without an inventory."""
    certain = sum(entry["certain"] for entry in entries)
    unlisted = sum(not (entry["certain"] or entry["listed"]) for entry in entries)
    listed = sum(entry["listed"] for entry in entries)
    parts = [f"{certain} with something to approve in Keeper"] if certain else []
    parts += [f"{unlisted} with something asked for, approval not visible"] if unlisted else []
    parts += [f"{listed} listed by Keeper, approval not visible"] if listed else []
    if inventory_read_at:
        return ", ".join(parts) or f"nothing to approve, as Keeper's inventory showed on {spoken(inventory_read_at)}"
    return ", ".join(parts) or "nothing was asked for that needs an approval"


def _one(team: dict[str, Any], width: int) -> Iterator[str]:
    if team["approval"] in ("queued", "not_visible"):
        asked = f"was asked for on {spoken(team['waiting_since'])}" if team["waiting_since"] else "was asked for"
        how = "queued in Keeper" if team["approval"] == "queued" else "approval not visible"
        yield from wrapped(f"the team {asked}, {how}", width, "  ")
    if team["left_scope_at"]:
        yield from wrapped(
            f"its group is not in the application's scope since {spoken(team['left_scope_at'])}", width, "  "
        )
    if not team["members"]:
        yield "  nobody"
    for state, words in {**NOT_PLAIN, "member": "listed by Keeper as members"}.items():
        mine = [member for member in team["members"] if member["state"] == state]
        if not mine:
            continue
        since = min((member["asked_at"] for member in mine if member["asked_at"]), default=None)
        asked = f", the oldest since {spoken(since)}" if state == "waiting" and since else ""
        shown = names((m["email"] + ("" if m["active"] else " (locked)") for m in mine), MOST_MEMBERS)
        yield from wrapped(f"{len(mine)} {words}{asked}: {shown}", width, "  ")
