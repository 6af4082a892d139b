"""The plan as text: the verdict first, then people, teams, limits and notices."""

from collections.abc import Iterable, Mapping, Sequence

from reconciler.model import DISPLAY_NAME
from reconciler.plan import Cause, Change, Held, Kind, Notice, NoticeKind, Operation, Plan, TeamRef
from reconciler.report.terminal import clean, styled, wrapped

MOST = 50
"""Lines of one group before the rest is a number."""
MOST_NAMES = 10
"""Names in one line before the rest is a number."""
NARROWEST = 20
"""Columns that are filled even where there are fewer."""

_PEOPLE = {
    Kind.DEACTIVATE_USER: "Lock",
    Kind.REACTIVATE_USER: "Reactivate",
    Kind.CREATE_USER: "Create",
    Kind.UPDATE_USER: "Change",
}
_TEAMS = {
    Kind.QUEUE_TEAM: "Queue",
    Kind.RENAME_TEAM: "Rename or link",
    Kind.DELETE_TEAM: "Delete",
}
_VERBS = {**_PEOPLE, **_TEAMS}

_NOTICES = {
    NoticeKind.KEEPER_DISAGREES: "Keeper did not do what was asked",
    NoticeKind.UNCONFIRMED: "Put off: not confirmed by a second look",
    NoticeKind.CONFLICT: "Conflicts",
    NoticeKind.ELSEWHERE: "Address taken elsewhere",
    NoticeKind.NO_LICENCE: "No licence free",
    NoticeKind.FAILING: "Failing",
    NoticeKind.HOOK_FAILED: "Hooks that failed",
    NoticeKind.LOCKED_IN_KEEPER: "Locked in Keeper by somebody else",
    NoticeKind.WAITING_FOR_APPROVAL: "Waiting for approval in Keeper",
    NoticeKind.ADDRESS_CHANGE: "Changed addresses",
    NoticeKind.GONE: "Gone from Keeper",
    NoticeKind.DRIFT: "Drift that is only reported",
    NoticeKind.GIVEN_BY_HAND: "Given by hand in Keeper",
    NoticeKind.NO_ADDRESS: "Without an e-mail address",
    NoticeKind.STATE_UNKNOWN: "Staged, or in an unknown state",
    NoticeKind.IN_GRACE: "Out of scope, still in grace",
    NoticeKind.KEPT: "Out of scope, kept by the settings",
    NoticeKind.OUTSIDE_PILOT: "Outside the pilot",
    NoticeKind.PROTECTED: "Protected",
    NoticeKind.LET_GO: "Let go by the settings",
    NoticeKind.GHOST: "In Keeper, not in scope, not managed",
    NoticeKind.UNMANAGED: "Not managed",
}

_WHOLE = "So much taken away at once puts the whole read in doubt: what is marked [held] waits, also what would give."
_PART = "Only what is marked [held] waits."
_LEFT = (
    "that these people really left: their state, and the groups bound to the Keeper application (its User Groups tab)."
)
_LOST = "the members of the groups, and what manages them: imports, group rules, a person."
_GAINED = "who was added to the groups and by whom: a team opens whatever is shared with it."
_HOLDS = {
    "first_run": (
        "Nothing is sent to this Keeper node before a person has looked at the first plan.",
        "that the scope is what you expect, above all whoever is under Lock.",
    ),
    "empty_scope": (_WHOLE, "the groups bound to the Keeper application (its User Groups tab) and their members."),
    "max_deactivations": (_WHOLE, _LEFT),
    "max_removals": (_WHOLE, _LOST),
    "max_team_loss": (_WHOLE, _LOST),
    "max_creations": (_PART, "whether a large group was bound to the Keeper application; each creation is a licence."),
    "max_grants": (_PART, _GAINED),
    "teams.review": (_PART, _GAINED),
    "delete_team": (_PART, "that the groups of these teams are really gone from the scope."),
    "unsettled": (_PART, "that the groups are still wanted; in Keeper, whether the Pending Queue shows the teams."),
    "adopted": (_PART, _LEFT),
}
"""By limit: what the hold means, and what to check in JumpCloud."""

_STATES = {"failed": "failed", "unknown": "without a known outcome", "put_off": "put off"}


def render(plan: Plan, *, width: int, colour: bool, release_command: str = "reconciler release") -> str:
    """The plan for a person, in lines of at most `width` columns but for commands, which stay whole to be copied.

    Every string that came from a service is made harmless first.
    """
    width = max(width, NARROWEST)
    lines = _styled(wrapped(_verdict(plan), width), colour, "red" if plan.held else "green")
    if plan.held:
        lines += _hold(plan, width, colour, release_command)
    lines += _sections(plan, width, colour)
    if plan.adopts:
        names = _names((subject.name for subject in plan.adopts), len(plan.adopts))
        lines += ["", *wrapped(f"Already in Keeper, adopted as they are ({len(plan.adopts)}): {names}", width)]
    if plan.limits:
        lines += ["", *_styled(wrapped("Limits, by people within the window", width), colour)]
        for use in plan.limits:
            words = f"{use.limit}: {use.used} used + {use.planned} planned, allowed {use.allowed}"
            lines += wrapped(clean(words), width, "  ")
    for kind, heading in _NOTICES.items():
        lines += _notices(heading, [notice for notice in plan.notices if notice.kind is kind], width, colour)
    return "\n".join(lines)


def render_result(plan: Plan, results: Mapping[int, tuple[str, str]], *, width: int, colour: bool) -> str:
    """What became of the operations of a plan that were sent: by their index, the state (`done`, `failed`, `unknown`,
    `put_off`) and the words of an error. Those that are not done are named."""
    width = max(width, NARROWEST)
    states = [state for state, _ in results.values()]
    done = states.count("done")
    if done == len(states):
        return "\n".join(_styled(wrapped(f"Done: {_count(done, 'operation')}.", width), colour, "green"))
    rest = ", ".join(f"{states.count(state)} {word}" for state, word in _STATES.items() if state in states)
    verdict = f"Applied in part: {done} done, {rest}." if done else f"None of it is known to be done: {rest}."
    lines = _styled(wrapped(verdict, width), colour, "red")
    for state, word in _STATES.items():
        mine = sorted(number for number, (found, _) in results.items() if found == state)
        for number in mine[:MOST]:
            op = plan.operations[number]
            what = f"{clean(op.subject.name, 80)}: {_VERBS[op.kind].lower()}: {word}."
            lines += wrapped(f"{what} {clean(results[number][1], 600)}", width, "  ")
        if len(mine) > MOST:
            lines += wrapped(f"… and {len(mine) - MOST} more {word}", width, "  ")
    return "\n".join(lines)


# -- the verdict ------------------------------------------------------------------------------------------------------


def _verdict(plan: Plan) -> str:
    going = [op for op in plan.operations if op.sent]
    scope = f"{_count(plan.scope.users, 'person')} and {_count(plan.scope.teams, 'team')} in scope"
    if not plan.operations:
        adopted = f" {len(plan.adopts)} are adopted as they are." if plan.adopts else ""
        notices = f" To know: {_count(len(plan.notices), 'notice')} below." if plan.notices else ""
        are = "is" if plan.scope.users + plan.scope.teams == 1 else "are"
        return f"Nothing to do: {scope} {are} in line.{adopted}{notices}"
    held = len(plan.held_indices)
    others = len(plan.operations) - len(going) - held
    waits = [f"{held} wait{'s' if held == 1 else ''} for a person"] if held else []
    waits += [f"{others} more {'is' if others == 1 else 'are'} not sent this time"] if others else []
    if plan.held and not going:
        return f"HELD: nothing will be sent. {_reason(plan.held[0])}"
    if not going:
        return f"Nothing will be sent: {_amounts(plan.operations)} only reported (see [not sent]). {_sentence(scope)}"
    rest = "".join(f"; {words}" for words in waits)
    return f"{'HELD in part. ' if plan.held else ''}The plan: {_amounts(going)}{rest}. {_sentence(scope)}"


def _amounts(operations: Sequence[Operation]) -> str:
    """ "lock 1 person, create 3 people", with what hurts first."""
    parts = []
    for kinds, noun in ((_PEOPLE, "person"), (_TEAMS, "team")):
        for kind, verb in kinds.items():
            number = sum(op.kind is kind for op in operations)
            if number:
                parts.append(f"{verb.lower()} {_count(number, noun)}")
    return ", ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun if number == 1 else {'person': 'people'}.get(noun, noun + 's')}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _reason(held: Held) -> str:
    return f"{_sentence(clean(held.reason, 400).rstrip('.'))} [{clean(held.limit, 40)}, {len(held.operations)} held]"


def _hold(plan: Plan, width: int, colour: bool, release_command: str) -> list[str]:
    lines: list[str] = []
    if any(op.sent for op in plan.operations):
        lines += [line for held in plan.held for line in wrapped(f"Why: {_reason(held)}", width)]
    else:  # the verdict has the first reason, where the amounts would be
        lines += wrapped(f"The plan: {_amounts(plan.operations)}.", width)
        lines += [line for held in plan.held[1:] for line in wrapped(f"Also: {_reason(held)}", width)]
    texts = [_HOLDS[held.limit] for held in plan.held if held.limit in _HOLDS]
    meanings = dict.fromkeys(meaning for meaning, _ in texts)
    lines += [line for meaning in meanings for line in wrapped(f"What it means: {meaning}", width)]
    checks = dict.fromkeys(check for _, check in texts)
    lines += [line for check in checks for line in wrapped(f"Check in JumpCloud {check}", width)]
    if any(held.limit == "first_run" for held in plan.held):
        lines += wrapped("If it is right, save it, look through it and apply it:", width)
        commands = ("reconciler plan --save plan.json", "reconciler apply --plan plan.json")
        lines += [styled(f"  {command}", colour, bold=True) for command in commands]
        lines += wrapped("or, where `run` or `apply` has held it:", width)
    else:
        lines += wrapped("If it is right, let it through, where `run`, `apply` or `resync` has held it:", width)
    return [*lines, styled(f"  {release_command} {plan.id}", colour, bold=True)]


# -- the operations ---------------------------------------------------------------------------------------------------


def _sections(plan: Plan, width: int, colour: bool) -> list[str]:
    lines: list[str] = []
    held = plan.held_indices
    marked = [
        (op, "[held] " if n in held else "" if op.sent else "[not sent] ") for n, op in enumerate(plan.operations)
    ]
    for title, kinds in (("People", _PEOPLE), ("Teams", _TEAMS)):
        for cause, label in ((Cause.JUMPCLOUD, ""), (Cause.DRIFT, ", changed in Keeper behind our back")):
            found = [(op, mark) for op, mark in marked if op.kind in kinds and op.cause is cause]
            if found:
                lines += ["", *_styled(wrapped(title + label, width), colour)]
            for kind, verb in kinds.items():
                mine = [(op, mark) for op, mark in found if op.kind is kind]
                if mine:
                    lines.append(f"  {verb} ({len(mine)})")
                for op, mark in mine[:MOST]:
                    words = f"{mark}{clean(op.subject.name, 80)}: {clean(op.reason)}{_details(op)}"
                    lines += wrapped(words, width, "    ")
                lines += _more(len(mine), width, "    ")
    return lines


def _details(op: Operation) -> str:
    parts = [_change(op.kind, change) for change in op.changes if _tells(op.kind, change)]
    parts += _signed("+", op.add) + _signed("−", op.remove)  # noqa: RUF001
    return f" ({'; '.join(parts)})" if parts else ""


def _tells(kind: Kind, change: Change) -> bool:
    """Whether a change says more than its kind does: of a new person or team that is the name."""
    if kind in (Kind.CREATE_USER, Kind.QUEUE_TEAM):
        return kind is Kind.CREATE_USER and change.attribute == DISPLAY_NAME
    return change.attribute != "active"


def _change(kind: Kind, change: Change) -> str:
    if kind is Kind.CREATE_USER:
        return clean(change.after, 60)
    before = clean(change.before, 60) if change.before else "(none)"
    return f"{clean(change.attribute, 60)} {before} → {clean(change.after, 60)}"


def _signed(sign: str, teams: Sequence[TeamRef]) -> list[str]:
    more = [f"{sign}{len(teams) - MOST_NAMES} more teams"] if len(teams) > MOST_NAMES else []
    return [f"{sign}{clean(team.name, 60)}" for team in teams[:MOST_NAMES]] + more


# -- what else there is -----------------------------------------------------------------------------------------------


def _notices(heading: str, notices: Sequence[Notice], width: int, colour: bool) -> list[str]:
    if not notices:
        return []
    lines = ["", *_styled(wrapped(f"{heading} ({len(notices)})", width), colour)]
    for notice in notices[:MOST]:
        lines += wrapped(f"{clean(notice.subject.name, 80)}: {clean(notice.message, 600)}", width, "  ")
    return lines + _more(len(notices), width, "  ")


def _names(names: Iterable[str], number: int) -> str:
    shown = ", ".join(clean(name, 60) for name, _ in zip(names, range(MOST_NAMES), strict=False))
    return shown + (f" and {number - MOST_NAMES} more" if number > MOST_NAMES else "")


def _more(number: int, width: int, indent: str) -> list[str]:
    return wrapped(f"… and {number - MOST} more (all of them: --format json)", width, indent) if number > MOST else []


def _styled(lines: Iterable[str], colour: bool, fg: str | None = None) -> list[str]:
    return [styled(line, colour, bold=True, fg=fg) for line in lines]
