"""What `explain` shows: all about one person on one page, and the one step that puts it right."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from reconciler.config import Settings
from reconciler.counting import count
from reconciler.cycle import NOT_ASKED, Look
from reconciler.history import Wanted
from reconciler.model import Account, typed
from reconciler.plan import Kind, Plan, Upcoming
from reconciler.report.journal import entry_document, entry_text
from reconciler.report.teams import NOT_PLAIN, state_of
from reconciler.report.terminal import clean, names, spoken, stamp, styled, wrapped
from reconciler.report.verdict import access, group_names, held_of, holds, own, scope, verdict
from reconciler.store import Store
from reconciler.waiting import waiting

MOST = 20
"""Operations of the past that are shown."""


def document(store: Store, settings: Settings, look: Look, email: str, now: datetime) -> dict[str, Any]:
    """All about one person as one JSON document."""
    held = held_of(store, look)
    found = verdict(store, settings, look, email, held)
    account = own(look)
    # Under a new address of theirs nothing was done yet.
    ids = {look.user.id} if look.user else set()
    ids |= {account.keeper_id} if account else set()
    past = store.history(Wanted(email, ids=frozenset(ids)), MOST)
    waits = waiting(look.snapshot, settings.policy().teams)
    queued = {(one.team.keeper_id, member.email) for one in waits for member in one.members if member.certain}
    return {
        "email": email,
        "asked_at": stamp(now),
        "verdict": {
            "kind": found.kind,
            "text": f"{scope(look)}; {access(look)}.",
            "because": found.why,
        },
        "remedy": {"step": found.step, "command": found.command or None},
        "unread": dict(look.unread),
        "jumpcloud": _jumpcloud(look) if look.user else None,
        "keeper_read_at": stamp(look.snapshot.read_at),
        "keeper": [_account(look, account, queued) for account in look.snapshot.accounts.values()],
        "next": _next(look.plan, look.upcoming, held) if look.plan else None,
        "history": {
            "total": past.total,
            "address": account.email if account and account.email else email,
            "more": past.total - len(past.entries),
            "operations": [entry_document(entry) for entry in past.entries],
        },
    }


def _jumpcloud(look: Look) -> dict[str, Any]:
    user = look.user
    assert user is not None
    return {
        "id": user.id,
        "email": user.email,
        "display_name": user.display_name,
        "status": user.status.value,
        "bound": user.bound,
        "in_scope": user.in_scope,
        "direct": user.direct,
        "groups": group_names(look, user),
    }


def _account(look: Look, account: Account, queued: Collection[tuple[str, str]]) -> dict[str, Any]:
    teams = look.snapshot.teams
    memberships = [
        {
            "name": teams[team_id].name if team_id in teams else team_id,
            "state": state_of(membership, queued=(team_id, account.email) in queued),
            "asked_at": stamp(membership.asked_at),
        }
        for team_id, membership in account.memberships.items()
        if not account.gone and (team_id not in teams or not teams[team_id].gone)
    ]
    return {
        "keeper_id": account.keeper_id,
        "email": account.email,
        "standing": account.standing.value,
        "jumpcloud_id": account.jumpcloud_id or None,
        "active": account.active and not account.gone,
        "gone": account.gone,
        "locked_by_us": account.locked_by_us,
        "left_at": stamp(account.left_at),
        "attributes": dict(account.shown),
        "teams": sorted(memberships, key=lambda team: str(team["name"]).casefold()),
    }


def _next(plan: Plan, upcoming: Iterable[Upcoming], held: Mapping[str, Any] | None) -> dict[str, Any]:
    waiting = held["effects"] if held else frozenset()
    return {
        "operations": [
            {
                "kind": op.kind.value,
                "cause": op.cause.value,
                "rule": op.rule.value,
                "reason": op.reason,
                "sent": op.sent and not op.effects() & waiting,
                "changes": [{"attribute": c.attribute, "from": c.before or None, "to": c.after} for c in op.changes],
                "teams": {"add": [team.name for team in op.add], "remove": [team.name for team in op.remove]},
            }
            for op in plan.operations
        ],
        "after_grace": [
            {
                "at": stamp(one.at),
                "kind": one.operation.kind.value,
                "reason": one.operation.reason,
                "teams": {"remove": [team.name for team in one.operation.remove]},
            }
            for one in upcoming
        ],
        "held": holds(plan, held),
        "notices": [
            {"kind": notice.kind.value, "subject": notice.subject.name, "message": notice.message}
            for notice in plan.notices
        ],
    }


# -- the page ---------------------------------------------------------------------------------------------------------

_TONES = {"in_line": "green", "due": "green"} | dict.fromkeys(
    ("waiting", "in_grace", "drift", "address_change", "observed", "unread"), "yellow"
)
_VERBS = {
    Kind.DEACTIVATE_USER: "lock",
    Kind.REACTIVATE_USER: "unlock",
    Kind.CREATE_USER: "create",
    Kind.UPDATE_USER: "change",
}


def render(found: dict[str, Any], *, width: int, colour: bool) -> str:
    """The document for a person."""
    said = found["verdict"]
    head = wrapped(f"{clean(found['email'], 80)}: {clean(said['text'], 400)}", width)
    lines = [styled(line, colour, bold=True, fg=_TONES.get(said["kind"], "red")) for line in head]
    lines += wrapped(clean(said["because"], 1000), width)
    for service, why in found["unread"].items():
        name = {"jumpcloud": "JumpCloud", "keeper": "Keeper"}[service]
        lines += wrapped(f"{name}, from what is known here: {clean(why, 400)}", width)
    for title, part in (
        ("In JumpCloud", _jumpcloud_text(found)),
        ("In Keeper", _keeper_text(found)),
        ("The next cycle", _next_text(found)),
        ("What was done", _history_text(found)),
    ):
        lines += ["", styled(title, colour, bold=True), *(line for text in part for line in wrapped(text, width, "  "))]
    lines += ["", *wrapped(clean(found["remedy"]["step"], 600), width)]
    if found["remedy"]["command"]:
        lines.append(styled(f"  {clean(found['remedy']['command'], 400)}", colour, bold=True))
    return "\n".join(lines)


def _jumpcloud_text(found: dict[str, Any]) -> Iterator[str]:
    user = found["jumpcloud"]
    if user is None:
        unread = found["unread"].get("jumpcloud")
        yield "not asked" if unread == NOT_ASKED else "could not be read" if unread else "no user with this address"
        return
    who = [clean(user["email"] or "(no known address)", 80), *filter(None, [clean(user["display_name"], 80)])]
    yield f"{', '.join(who)} (id {user['id']}): {user['status']}"
    ways = (["a direct binding"] if user["direct"] else []) + [f"the group {clean(g, 60)}" for g in user["groups"]]
    yield (
        f"bound to the Keeper application through {', '.join(ways)}" if ways else "not bound to the Keeper application"
    )


def _keeper_text(found: dict[str, Any]) -> Iterator[str]:
    if not found["keeper"]:
        read = found["keeper_read_at"]
        yield f"no user with this address, as of {spoken(read)}" if read else "never listed yet"
    for account in found["keeper"]:
        state = "active" if account["active"] else f"locked{' by us' if account['locked_by_us'] else ''}"
        state = "gone" if account["gone"] else state
        left = f", out of scope since {spoken(account['left_at'])}" if account["left_at"] else ""
        who = f"{clean(account['email'], 80)} (id {clean(account['keeper_id'], 60)})"
        yield f"{who}: {account['standing']}, {state}{left}"
        for team in account["teams"]:
            words = NOT_PLAIN.get(team["state"], "")
            since = f" since {spoken(team['asked_at'])}" if team["state"] == "waiting" and team["asked_at"] else ""
            yield f"team {clean(team['name'], 60)}{f': {words}{since}' if words else ''}"


def _next_text(found: dict[str, Any]) -> Iterator[str]:
    due = found["next"]
    if due is None:
        yield "nothing about them" if not found["unread"] else "can't be told without JumpCloud"
        return
    if not due["operations"]:
        yield "nothing to send"
    for op in due["operations"]:
        parts = [
            f"{c['attribute']} {c['from'] or '(none)'} → {c['to']}" for c in op["changes"] if c["attribute"] != "active"
        ]
        parts += [f"+{team}" for team in op["teams"]["add"]] + [f"−{team}" for team in op["teams"]["remove"]]  # noqa: RUF001
        mark = "" if op["sent"] else "[not sent] "
        drift = ", drift in Keeper, which a resync finds" if op["cause"] == "drift" else ""
        what = f"{mark}{_VERBS[Kind(op['kind'])]}: {clean(op['reason'])} [rule {op['rule']}{drift}]"
        yield f"{what} ({names(parts, 12)})" if parts else what
    for later in due["after_grace"]:
        # Of a lock that grace puts off a notice tells.
        if lost := [f"−{team}" for team in later["teams"]["remove"]]:  # noqa: RUF001
            yield f"after {spoken(later['at'])}, when grace ends: {clean(later['reason'])} ({names(lost, 12)})"
    for hold in due["held"]:
        yield f"held: {clean(hold['reason'], 400)} [{clean(hold['limit'], 40)}]"
    for notice in due["notices"]:
        about = f"{clean(notice['subject'], 60)}: " if notice["kind"] in ("quarantined", "conflict") else ""
        yield f"{notice['kind'].replace('_', ' ')}: {about}{clean(notice['message'], 600)}"


def _history_text(found: dict[str, Any]) -> Iterator[str]:
    past = found["history"]
    if not past["operations"]:
        yield "nothing yet"
    mine = found["jumpcloud"]["id"] if found["jumpcloud"] else None
    for op in past["operations"]:
        owner = op["subject"]["jumpcloud_id"]
        whose = f"; this was another JumpCloud user, {clean(owner, 60)}" if mine and owner and owner != mine else ""
        yield f"{entry_text(op, name=False)}{whose}"
    if past["more"]:
        yield f"… and {count(past['more'], 'older one')}: reconciler history {typed(found['history']['address'])}"
