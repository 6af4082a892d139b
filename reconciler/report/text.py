"""The plan as text: the verdict first, then people, teams, limits and notices."""

import textwrap
from collections.abc import Iterable, Mapping

from reconciler.plan import Cause, Kind, NoticeKind, Operation, Plan
from reconciler.report.terminal import clean, styled

MOST = 50
"""Lines of one group before the rest is a number."""

_HEADINGS = {
    Kind.DEACTIVATE_USER: ("Lock", "locked"),
    Kind.REACTIVATE_USER: ("Unlock", "unlocked"),
    Kind.CREATE_USER: ("Create", "created"),
    Kind.UPDATE_USER: ("Change", "changed"),
    Kind.QUEUE_TEAM: ("Queue", "queued"),
    Kind.RENAME_TEAM: ("Change team", "changed"),
    Kind.DELETE_TEAM: ("Delete team", "deleted"),
}
_TEAM_KINDS = (Kind.QUEUE_TEAM, Kind.RENAME_TEAM, Kind.DELETE_TEAM)

_NOTICES = {
    NoticeKind.UNMANAGED: "Not managed",
    NoticeKind.CONFLICT: "Conflicts",
    NoticeKind.LOCKED_IN_KEEPER: "Locked in Keeper by somebody else",
    NoticeKind.UNCONFIRMED: "Put off: not confirmed by a second look",
    NoticeKind.WAITING_FOR_APPROVAL: "Waiting for approval in Keeper",
    NoticeKind.NO_LICENCE: "No licence free",
    NoticeKind.FAILING: "Failing",
    NoticeKind.PROTECTED: "Protected",
    NoticeKind.ADDRESS_CHANGE: "Changed addresses",
    NoticeKind.LET_GO: "Let go by the settings",
    NoticeKind.NO_ADDRESS: "Without an e-mail address",
    NoticeKind.STATE_UNKNOWN: "Staged, or in an unknown state",
    NoticeKind.IN_GRACE: "In grace",
    NoticeKind.KEPT: "Kept",
    NoticeKind.OUTSIDE_PILOT: "Outside the pilot",
    NoticeKind.DRIFT: "Drift that is only reported",
    NoticeKind.GONE: "Gone from Keeper",
    NoticeKind.HOOK_FAILED: "Hooks that failed",
    NoticeKind.ELSEWHERE: "Address taken elsewhere",
    NoticeKind.GHOST: "In Keeper, not in scope, not managed",
    NoticeKind.GIVEN_BY_HAND: "Given by hand in Keeper",
    NoticeKind.KEEPER_DISAGREES: "Keeper did not do what was asked",
}


def render(plan: Plan, *, width: int, colour: bool) -> str:
    """The plan for a person at a terminal of this width; every name is made harmless first."""
    lines: list[str] = []
    held = bool(plan.held)
    lines += _wrapped(_verdict(plan), width, "", colour, bold=True, fg="red" if held else "green")
    if held:
        lines += _hold(plan, width, colour)
    indices = plan.held_indices
    marked = [(op, _mark(op, number in indices)) for number, op in enumerate(plan.operations)]
    for title, kinds in (("People", [k for k in _HEADINGS if k not in _TEAM_KINDS]), ("Teams", list(_TEAM_KINDS))):
        for cause, label in ((Cause.JUMPCLOUD, ""), (Cause.DRIFT, ", changed in Keeper behind our back")):
            found = [(op, mark) for op, mark in marked if op.kind in kinds and op.cause is cause]
            if found:
                lines += ["", styled(f"{title}{label}", colour, bold=True)]
                lines += _operations(found, kinds, width)
    if plan.adopts:
        names = ", ".join(clean(subject.name, 60) for subject in plan.adopts[:5])
        more = f" and {len(plan.adopts) - 5} more" if len(plan.adopts) > 5 else ""
        lines += ["", *_wrapped(f"Already in Keeper, adopted: {len(plan.adopts)} ({names}{more})", width)]
    if plan.limits:
        lines += ["", styled("Limits (used in the window + planned / allowed)", colour, bold=True)]
        lines += [f"  {u.limit:<18} {u.used} + {u.planned} / {u.allowed}" for u in plan.limits]
    lines += _notices(plan, width, colour)
    return "\n".join(lines)


def _people(number: int, word: str) -> str:
    return f"{number} {word if number == 1 else {'person': 'people'}.get(word, word + 's')}"


def _verdict(plan: Plan) -> str:
    going = [op for op in plan.operations if op.sent]
    scope = f"{_people(plan.scope.users, 'person')} and {_people(plan.scope.teams, 'team')} in scope"
    if not plan.operations:
        adopted = f"; {len(plan.adopts)} are adopted as they are" if plan.adopts else ""
        return f"Nothing to do: {scope}, and Keeper is in line{adopted}."
    parts = []
    for kind, (_, word) in _HEADINGS.items():
        number = sum(op.kind is kind for op in going)
        if number:
            parts.append(f"{_people(number, 'team' if kind in _TEAM_KINDS else 'person')} {word}")
    waiting = len(plan.operations) - len(going)
    if not going:
        return f"{'HELD' if plan.held else 'Nothing is sent'}: {waiting} operations wait; nothing is sent. {scope}."
    rest = f"; {waiting} more operations wait" if waiting else ""
    return f"{'HELD in part: ' if plan.held else ''}{', '.join(parts)}{rest}. {scope}."


def _hold(plan: Plan, width: int, colour: bool) -> list[str]:
    lines: list[str] = []
    for held in plan.held:
        lines += _wrapped(f"Why: {clean(held.reason, 400)} [{held.limit}]", width)
    first = any(held.limit == "first_run" for held in plan.held)
    taking = any(held.limit.startswith(("max_deact", "max_rem", "max_team", "empty")) for held in plan.held)
    if taking:
        lines += _wrapped(
            "Check in JumpCloud that these people really left: their state, and the groups bound to the application "
            "(its User Groups tab). Nobody loses anything meanwhile.",
            width,
        )
    if first:
        lines += ["Look at it, then let it through:"]
        lines += ["  reconciler plan --save plan.json && reconciler apply --plan plan.json"]
    else:
        lines += ["If it is meant so, let it through:"]
    return [*lines, styled(f"  reconciler release {plan.id}", colour, bold=True)]


def _mark(op: Operation, held: bool) -> str:
    return "  [held]" if held else "" if op.sent else "  [not sent]"


def _operations(found: list[tuple[Operation, str]], kinds: Iterable[Kind], width: int) -> list[str]:
    lines: list[str] = []
    for kind in kinds:
        mine = [(op, mark) for op, mark in found if op.kind is kind]
        if not mine:
            continue
        lines.append(f"  {_HEADINGS[kind][0]} ({len(mine)})")
        for op, mark in mine[:MOST]:
            lines += _wrapped(f"{clean(op.subject.name, 80)}: {clean(op.reason)}{_details(op)}{mark}", width, "    ")
        if len(mine) > MOST:
            lines.append(f"    … and {len(mine) - MOST} more (all of them: --format json)")
    return lines


def _details(op: Operation) -> str:
    parts = []
    if op.kind in (Kind.UPDATE_USER, Kind.REACTIVATE_USER, Kind.RENAME_TEAM):
        for change in op.changes:
            if change.attribute != "active":
                parts.append(f"{change.attribute} {clean(change.before, 60) or '(none)'} → {clean(change.after, 60)}")
    parts += [f"+{clean(team.name, 60)}" for team in op.add]
    parts += [f"−{clean(team.name, 60)}" for team in op.remove]  # noqa: RUF001
    return f" ({'; '.join(parts)})" if parts else ""


def _notices(plan: Plan, width: int, colour: bool) -> list[str]:
    lines: list[str] = []
    for kind, heading in _NOTICES.items():
        mine = [notice for notice in plan.notices if notice.kind is kind]
        if not mine:
            continue
        lines += ["", styled(f"{heading} ({len(mine)})", colour, bold=True)]
        for notice in mine[:MOST]:
            lines += _wrapped(f"{clean(notice.subject.name, 80)}: {clean(notice.message, 600)}", width, "  ")
        if len(mine) > MOST:
            lines.append(f"  … and {len(mine) - MOST} more (all of them: --format json)")
    return lines


def _wrapped(text: str, width: int, indent: str = "", colour: bool = False, **style: object) -> list[str]:
    lines = textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent + "  ", break_on_hyphens=False)
    return [styled(line, colour, **style) for line in lines]


def render_result(plan: Plan, results: Mapping[int, tuple[str, str]], *, width: int, colour: bool) -> str:
    """What became of the operations of a plan: by their index, the state and the words of an error."""
    states = [state for state, _ in results.values()]
    done = states.count("done")
    if done == len(states):
        return styled(f"Done: {done} operations.", colour, bold=True, fg="green")
    words = {"failed": "failed", "unknown": "without a known outcome", "put_off": "put off"}
    rest = ", ".join(f"{states.count(state)} {word}" for state, word in words.items() if state in states)
    lines = _wrapped(f"Applied in part: {done} done, {rest}.", width, "", colour, bold=True, fg="red")
    for number, (state, error) in sorted(results.items()):
        if state != "done":
            op = plan.operations[number]
            line = f"{clean(op.subject.name, 80)}: {_HEADINGS[op.kind][0].lower()}: {words[state]}. {clean(error, 600)}"
            lines += _wrapped(line, width, "  ")
    return "\n".join(lines)
