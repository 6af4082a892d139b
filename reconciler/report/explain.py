"""What `explain` shows: all about one person on one page, and the one step that puts it right. Pure but for the store.

Which rule decides is the core's: this reads the plan for the one person, and the journal.
"""

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from reconciler.config import Settings
from reconciler.cycle import Look
from reconciler.history import Wanted
from reconciler.model import Account, Standing, Status, User, fold
from reconciler.plan import DRIFT_NOTICES, Kind, NoticeKind, Plan
from reconciler.policy import Mode
from reconciler.report.document import held_effects
from reconciler.report.journal import entry_document, entry_text
from reconciler.report.teams import state_of
from reconciler.report.terminal import clean, names, spoken, stamp, styled, wrapped
from reconciler.store import Store

MOST = 20
"""Operations of the past that are shown."""
NEAR = 3
"""Addresses that are suggested for one that nobody has."""

# What no `resync EMAIL` passes, whatever the limits: a release is needed.
_FOR_RELEASE = frozenset({"teams.review", "adopted", "unsettled", "delete_team"})


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What stands in the way, in a word and a sentence, and the step that puts it right with its command, if any."""

    kind: str
    why: str
    step: str
    command: str = ""


def document(store: Store, settings: Settings, look: Look, email: str, now: datetime) -> dict[str, Any]:
    """All about one person as one JSON document."""
    held = _held(store, look)
    verdict = _verdict(settings, look, email, held) if look.key else _nobody(store, look, email)
    past = store.history(Wanted(person=email), MOST)
    return {
        "email": email,
        "asked_at": stamp(now),
        "verdict": {
            "kind": verdict.kind,
            "text": f"{_scope(look)}; {_access(look)}.",
            "because": verdict.why,
        },
        "remedy": {"step": verdict.step, "command": verdict.command or None},
        "unread": dict(look.unread),
        "jumpcloud": _jumpcloud(look) if look.user else None,
        "keeper_read_at": stamp(look.snapshot.read_at),
        "keeper": [_account(look, account) for account in look.snapshot.accounts.values()],
        "next": _next(look.plan, held) if look.plan else None,
        "history": {
            "total": past.total,
            "more": past.total - len(past.entries),
            "operations": [entry_document(entry) for entry in past.entries],
        },
    }


# -- both sides -------------------------------------------------------------------------------------------------------


def _own(look: Look) -> Account | None:
    """The account that the person has: the one that is tied to them, else one with the address."""
    found = sorted(
        look.snapshot.accounts.values(), key=lambda a: (a.gone, look.key not in (a.jumpcloud_id, a.keeper_id))
    )
    return next(iter(found), None)


def _group_names(look: Look, user: User) -> list[str]:
    return sorted((look.groups[g].name if g in look.groups else g for g in user.groups), key=str.casefold)


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
        "groups": _group_names(look, user),
    }


def _account(look: Look, account: Account) -> dict[str, Any]:
    teams = look.snapshot.teams
    memberships = [
        {
            "name": teams[team_id].name if team_id in teams else team_id,
            "state": state_of(membership),
            "asked_at": stamp(membership.asked_at),
        }
        for team_id, membership in account.memberships.items()
    ]
    return {
        "keeper_id": account.keeper_id,
        "email": account.email,
        "standing": account.standing.value,
        "jumpcloud_id": account.jumpcloud_id or None,
        "active": account.active,
        "gone": account.gone,
        "locked_by_us": account.locked_by_us,
        "left_at": stamp(account.left_at),
        "attributes": dict(account.shown),
        "teams": sorted(memberships, key=lambda team: str(team["name"]).casefold()),
    }


def _scope(look: Look) -> str:
    user = look.user
    if "jumpcloud" in look.unread:
        account = _own(look)
        known = "nothing known of JumpCloud"
        if account and account.managed:
            known = "in scope when JumpCloud was last read"
            if account.left_at:
                known = f"out of scope in JumpCloud since {spoken(stamp(account.left_at))}, as last read"
        return known
    if user is None:
        return "unknown in JumpCloud"
    if user.status is Status.SUSPENDED:
        return "suspended in JumpCloud"
    if user.status is not Status.ACTIVE:
        return f"{'staged' if user.status is Status.STAGED else 'in an unknown state'} in JumpCloud"
    if not user.bound:
        return "in JumpCloud, but not bound to the Keeper application"
    ways = ["by a direct binding"] if user.direct else []
    ways += [f"through {names(_group_names(look, user))}"] if user.groups else []
    return f"in scope in JumpCloud {' and '.join(ways)}"


def _access(look: Look) -> str:
    account = _own(look)
    if account is None:
        return "not in Keeper" if look.snapshot.read_at else "nothing known of Keeper"
    if account.gone:
        return "gone from Keeper"
    if account.active:
        return "active in Keeper"
    return f"locked in Keeper by {'us' if account.locked_by_us else 'somebody else'}"


# -- what comes next --------------------------------------------------------------------------------------------------


def _held(store: Store, look: Look) -> dict[str, Any] | None:
    """What the last cycle held of what is due: by which limit and why, since when, and the plan to release."""
    found = store.held_now()
    if found is None or look.plan is None:
        return None
    run, since = found
    kept = store.document(run.id)
    effects = held_effects(kept)
    due = [op for op in look.plan.operations if op.effects() & effects]
    if not due or kept is None:
        return None
    plan = json.loads(kept)
    mine = {n for n, op in enumerate(plan["operations"]) if look.key in op["subject"].values()}
    hold = next(hold for hold in plan["held"] if mine.intersection(hold["operations"]))
    return {
        "limit": hold["limit"],
        "reason": hold["reason"],
        "plan": run.plan_id,
        "since": stamp(since),
        "effects": frozenset(effect for op in due for effect in op.effects()),
    }


def _holds(plan: Plan, held: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Why a part of the plan waits for a person: as the last cycle held it, else as one that begins now would."""
    if held:
        return [{key: held[key] for key in ("limit", "reason", "plan", "since")}]
    return [{"limit": hold.limit, "reason": hold.reason, "plan": None, "since": None} for hold in plan.held]


def _next(plan: Plan, held: Mapping[str, Any] | None) -> dict[str, Any]:
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
        "held": _holds(plan, held),
        "notices": [{"kind": notice.kind.value, "message": notice.message} for notice in plan.notices],
    }


# -- the verdict ------------------------------------------------------------------------------------------------------


def _nobody(store: Store, look: Look, email: str) -> _Verdict:
    if look.unread:
        return _Verdict(
            "unread",
            "The local snapshot of Keeper knows nobody with this address, and not every service was asked.",
            "Ask again when they answer:",
            f"reconciler explain {email}",
        )
    known = {fold(account.email): account.email for account in store.snapshot().accounts.values()}
    near = [known[address] for address in difflib.get_close_matches(fold(email), known, NEAR)]
    hint = f" Near it: {names(near)}." if near else ""
    return _Verdict(
        "unknown",
        f"Nobody has this address in JumpCloud or in this Keeper node.{hint}",
        "Check the address. If they are new: create them in JumpCloud, in a group that is bound to the application.",
    )


def _verdict(settings: Settings, look: Look, email: str, held: Mapping[str, Any] | None) -> _Verdict:
    """The first of what stands in the way: who decides otherwise, then what waits, then what is simply so."""
    if look.plan is None:
        return _Verdict(
            "unread",
            "What the next cycle would do can only be told with JumpCloud.",
            "For the whole answer, ask both services:",
            f"reconciler explain {email}",
        )
    found = _decided_otherwise(settings, look, look.plan) or _waits(settings, look.plan, held)
    return found or _as_it_is(look, look.plan)


def _decided_otherwise(settings: Settings, look: Look, plan: Plan) -> _Verdict | None:
    said = {notice.kind: notice.message for notice in plan.notices}
    account = _own(look)
    address = account.email if account else look.user.email if look.user else ""
    resync = f"reconciler resync {address}"
    if NoticeKind.CONFLICT in said:
        step, command = "Correct the addresses in JumpCloud or in Keeper's Admin Console.", ""
        if account and not account.managed and "reconciler adopt" in said[NoticeKind.CONFLICT]:
            step, command = "If it is the same person, take the account over:", f"reconciler adopt {address}"
        return _Verdict("conflict", f"Not managed, because {said[NoticeKind.CONFLICT]}.", step, command)
    disowned = account is not None and account.standing is Standing.DISOWNED
    if NoticeKind.UNMANAGED in said or disowned:
        words = said.get(NoticeKind.UNMANAGED, "given up by a person (disown)")
        return _Verdict(
            "disowned", f"Not managed, because {words}.", "To manage them again:", f"reconciler adopt {address}"
        )
    if NoticeKind.GHOST in said:
        return _Verdict(
            "ghost",
            f"Not managed, because nobody took the account over: {said[NoticeKind.GHOST]}.",
            "To have us manage them; as long as they are not in scope, that leads to their lock:",
            f"reconciler adopt {address}",
        )
    if NoticeKind.PROTECTED in said or (account and not account.managed and account.protected_as):
        words = said.get(NoticeKind.PROTECTED, "protected (policy.protect)")
        return _Verdict(
            "protected",
            f"Left alone: {words}.",
            f"If that is wrong, take them out of policy.protect in {settings.file}.",
        )
    kinds: tuple[tuple[NoticeKind, str, str], ...] = (
        (NoticeKind.STATE_UNKNOWN, "In JumpCloud: Users, the person, Activate.", ""),
        (NoticeKind.NO_ADDRESS, "In JumpCloud: enter an e-mail address.", ""),
        (
            NoticeKind.LOCKED_IN_KEEPER,
            "If nobody needs the lock (to transfer the vault), undo it:",
            f"{resync} --unlock",
        ),
        (NoticeKind.UNCONFIRMED, "Let it be read again now, or wait for the next cycle:", resync),
        (NoticeKind.FAILING, "Try again now:", resync),
        (
            NoticeKind.OUTSIDE_PILOT,
            f"Put them into the pilot: a group or address of policy.only in {settings.file}.",
            "",
        ),
        (NoticeKind.IN_GRACE, "To stop it, put them back into scope in JumpCloud. To lock them now, suspend them.", ""),
        (
            NoticeKind.KEPT,
            f"That is policy.out_of_scope in {settings.file}. To lock them, suspend them in JumpCloud.",
            "",
        ),
    )
    for kind, step, command in kinds:
        if kind in said:
            return _Verdict(kind.value, f"{said[kind][:1].upper()}{said[kind][1:]}.", step, command)
    return None


def _waits(settings: Settings, plan: Plan, held: Mapping[str, Any] | None) -> _Verdict | None:
    """What would be done and is not sent by itself, or is due."""
    if not plan.operations:
        return None
    first = plan.operations[0]
    resync = f"reconciler resync {first.subject.name}"
    if settings.policy().mode is Mode.OBSERVE:
        return _Verdict(
            "observed",
            f"Due ({first.reason}), but nothing is sent: the mode is observe.",
            f'Set policy.mode to "enforce" in {settings.file}.',
        )
    holds = _holds(plan, held)
    if not holds:
        return _Verdict(
            "due", f"Due with the next cycle: {first.reason}.", "It needs nobody. To have it done now:", resync
        )
    hold = holds[0]
    since = f" since {spoken(hold['since'])}" if hold["since"] else ""
    why = f"Due ({first.reason}), but held{since} [{hold['limit']}]: {hold['reason']}."
    if hold["limit"] == "first_run":
        return _Verdict("held", why, "Review the first plan and apply it:", "reconciler plan --save plan.json")
    if hold["limit"] in _FOR_RELEASE and hold["plan"]:
        return _Verdict("held", why, "To let the held plan through:", f"reconciler release {hold['plan']}")
    if hold["limit"] in _FOR_RELEASE:
        return _Verdict("held", why, "Once a cycle has held it, let it through:", "reconciler release")
    if hold["limit"] == "paused":
        return _Verdict("held", why, "For everybody: reconciler resume. For this person alone:", resync)
    release = f"reconciler release {hold['plan']}" if hold["plan"] else "reconciler release"
    return _Verdict("held", why, f"For the whole plan: {release}. For this person alone:", resync)


def _as_it_is(look: Look, plan: Plan) -> _Verdict:
    """Nothing is to be done: why it is as it is."""
    account, user = _own(look), look.user
    if user is None or not user.bound or user.status is Status.SUSPENDED:
        gone = account is None or not account.active
        why = "Not in scope, so no access" if gone else "Not in scope, and still active"
        if user is None:
            step = "If they should have access: create them in JumpCloud, in a group bound to the Keeper application."
        elif user.status is Status.SUSPENDED:
            step = "If they should have access: in JumpCloud, Users, the person, Activate. Then, to have it at once:"
        else:
            groups = names(sorted((group.name for group in look.groups.values()), key=str.casefold), 5)
            step = (
                "If they should have access: in JumpCloud, add them to a group that is bound to the Keeper application "
                f"({groups or 'there is none'}), or bind them directly. Then, to have it at once:"
            )
        return _Verdict("out_of_scope", f"{why}.", step, f"reconciler resync {user.email}" if user else "")
    changed = next((n.message for n in plan.notices if n.kind is NoticeKind.ADDRESS_CHANGE), "")
    if changed and account:
        command = f"enterprise-user --add-alias {user.email} {account.email}"
        return _Verdict("address_change", f"In line, but {changed.split(';')[0]}.", "In Keeper Commander:", command)
    drifted = next((n.message for n in plan.notices if n.kind in DRIFT_NOTICES), "")
    if drifted:
        return _Verdict(
            "drift",
            f"In line, but changed in Keeper by hand: {drifted}.",
            "If that is wrong, change it back in Keeper's Admin Console.",
        )
    waiting = [m for m in account.memberships.values() if m.waiting] if account else []
    if waiting:
        return _Verdict(
            "waiting",
            f"In line, but {len(waiting)} of their teams were asked for and their approval is not visible.",
            "An administrator approves them by logging in to Keeper's Admin Console, or in Keeper Commander:",
            "team-approve",
        )
    return _Verdict(
        "in_line",
        "In line: both sides agree, and nothing is to be done.",
        "If they can't log in, they may not have accepted the invitation (SCIM does not tell). In Keeper Commander:",
        f"enterprise-user --invite {account.email if account else user.email}",
    )


# -- the page ---------------------------------------------------------------------------------------------------------

_TEAM_STATES = {
    "member": "",
    "waiting": "approval not visible",
    "missing": "shown once, not any more",
    "by_hand": "given by hand in Keeper",
}
_VERBS = {
    Kind.DEACTIVATE_USER: "lock",
    Kind.REACTIVATE_USER: "unlock",
    Kind.CREATE_USER: "create",
    Kind.UPDATE_USER: "change",
}


def render(found: dict[str, Any], *, width: int, colour: bool) -> str:
    """The document for a person."""
    verdict = found["verdict"]
    good = verdict["kind"] in ("in_line", "due")
    head = wrapped(f"{clean(found['email'], 80)}: {clean(verdict['text'], 400)}", width)
    lines = [styled(line, colour, bold=True, fg="green" if good else "red") for line in head]
    lines += wrapped(clean(verdict["because"], 1000), width)
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
        yield "not asked" if "jumpcloud" in found["unread"] else "no user with this address"
        return
    who = f"{clean(user['email'] or '(no address)', 80)}, {clean(user['display_name'], 80)}"
    yield f"{who} (id {user['id']}): {user['status']}"
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
            words = _TEAM_STATES[team["state"]]
            asked = f", asked for on {spoken(team['asked_at'])}" if words and team["asked_at"] else ""
            yield f"team {clean(team['name'], 60)}{f': {words}{asked}' if words else ''}"


def _next_text(found: dict[str, Any]) -> Iterator[str]:
    due = found["next"]
    if due is None:
        yield "nothing about them" if not found["unread"] else "can't be told without JumpCloud"
        return
    if not due["operations"]:
        yield "nothing to send"
    for op in due["operations"]:
        parts = [f"{c['attribute']} {c['from'] or '(none)'} → {c['to']}" for c in op["changes"]]
        parts += [f"+{team}" for team in op["teams"]["add"]] + [f"−{team}" for team in op["teams"]["remove"]]  # noqa: RUF001
        mark = "" if op["sent"] else "[not sent] "
        drift = ", drift in Keeper" if op["cause"] == "drift" else ""
        what = f"{mark}{_VERBS[Kind(op['kind'])]}: {clean(op['reason'])} [rule {op['rule']}{drift}]"
        yield f"{what} ({names(parts, 12)})" if parts else what
    for hold in due["held"]:
        yield f"held: {clean(hold['reason'], 400)} [{clean(hold['limit'], 40)}]"
    for notice in due["notices"]:
        yield f"{notice['kind'].replace('_', ' ')}: {clean(notice['message'], 600)}"


def _history_text(found: dict[str, Any]) -> Iterator[str]:
    past = found["history"]
    if not past["operations"]:
        yield "nothing yet"
    for op in past["operations"]:
        yield entry_text(op, name=False)
    if past["more"]:
        yield f"… and {past['more']} older ones: reconciler history {clean(found['email'], 80)}"
