"""The plan as text: the verdict first, then people, teams, limits and notices."""

from collections.abc import Iterable, Mapping, Sequence

from reconciler import promise
from reconciler.counting import count
from reconciler.plan import Change, Kind, Notice, Operation, Plan, TeamRef
from reconciler.report import words
from reconciler.report.terminal import clean, styled, wrapped

MOST = 50
"""Lines of one group before the rest is a number."""
MOST_NAMES = 10
"""Names in one line before the rest is a number."""
MANY = 5
"""From so many on, what came of several in the same words is said once."""
NARROWEST = 20
"""Columns that are filled even where there are fewer."""


def render(plan: Plan, *, width: int, colour: bool, release_command: str = "reconciler release") -> str:
    """The plan for a person, in lines of at most `width` columns but for commands, which stay whole to be copied.

    Every string that came from a service is made harmless first.
    """
    width = max(width, NARROWEST)
    verdict = words.verdict(plan)
    bad = verdict.tone is words.Tone.FAILED or plan.held
    lines = _styled(wrapped(str(verdict), width), colour, "red" if bad else "green")
    if plan.held:
        lines += _hold(plan, width, colour, release_command)
    return "\n".join(lines + _rest(plan, {}, width, colour, limits=True))


def render_run(
    plan: Plan,
    results: Mapping[int, tuple[str, str]],
    *,
    width: int,
    colour: bool,
    release_command: str = "reconciler release",
) -> str:
    """What became of a plan, in the form of `render`: `results` has the operations that were sent by their index, each
    with its state (`done`, `failed`, `unknown`, `put_off`) and the words of an error. What is not done comes first."""
    width = max(width, NARROWEST)
    verdict = words.run_verdict(plan, results)
    bad = verdict.tone is words.Tone.FAILED or plan.held
    lines = _styled(wrapped(str(verdict), width), colour, "red" if bad else "green")
    states = {number: promise.state_told(state, error) for number, (state, error) in results.items()}
    for state, word in words.STATES.items():
        mine = sorted(number for number, found in states.items() if found == state)
        alike = _alike(plan, results, mine)
        for numbers in alike[:MOST]:
            op, error = plan.operations[numbers[0]], results[numbers[0]][1]
            about = _about(op, error)
            said = f"Each {about}" if len(numbers) > 1 and about != error else error
            who = _who(words.Told(error, [plan.operations[number].subject for number in numbers]))
            lines += wrapped(f"{who}: {words.VERBS[op.kind].lower()}: {word}. {clean(said, 600)}", width, "  ")
        if left := sum(map(len, alike[MOST:])):
            lines += wrapped(f"… and {left} more {word}", width, "  ")
    if plan.held:
        lines += _hold(plan, width, colour, release_command)
    marks = {number: words.STATES[state] for number, state in states.items() if state in words.STATES}
    return "\n".join(lines + _rest(plan, marks, width, colour, limits=bool(plan.held)))


def _alike(plan: Plan, results: Mapping[int, tuple[str, str]], mine: Sequence[int]) -> list[list[int]]:
    """These operations, with those together of which the same is told: where a service or the time puts many off, one
    message for each would hide whatever else is there."""
    groups: dict[tuple[Kind, str], list[int]] = {}
    for number in mine:
        op = plan.operations[number]
        groups.setdefault((op.kind, _about(op, results[number][1])), []).append(number)
    few = ([number] for group in groups.values() if len(group) < MANY for number in group)
    return sorted([*few, *(group for group in groups.values() if len(group) >= MANY)])


def _about(op: Operation, error: str) -> str:
    """The words of an error without the subject that they begin with."""
    return error.removeprefix(f"{op.subject.name} ")


def _rest(plan: Plan, marks: Mapping[int, str], width: int, colour: bool, *, limits: bool) -> list[str]:
    """What follows the verdict: the operations, who is adopted, the limits, the notices."""
    lines = _sections(plan, marks, width, colour) + _by_team(plan, width, colour)
    if plan.adopts:
        names = _names((subject.name for subject in plan.adopts), len(plan.adopts))
        lines += ["", *wrapped(f"Already in Keeper, adopted ({len(plan.adopts)}): {names}", width)]
    if plan.limits and limits:
        lines += ["", *_styled(wrapped("Limits, by people within the window", width), colour)]
        for use in plan.limits:
            line = f"{use.limit}: {use.used} used + {use.planned} planned, allowed {use.allowed}"
            lines += wrapped(clean(line), width, "  ")
    for kind, heading in words.NOTICES.items():
        lines += _notices(heading, [notice for notice in plan.notices if notice.kind is kind], width, colour)
    return lines


# -- the hold ---------------------------------------------------------------------------------------------------------


def _hold(plan: Plan, width: int, colour: bool, release_command: str) -> list[str]:
    lines: list[str] = []
    if any(op.sent for op in plan.operations):
        lines += [line for held in words.reasons(plan) for line in wrapped(f"Why: {words.why(held)}", width)]
    else:  # the verdict has the first reason, where the amounts would be
        lines += wrapped(f"The plan: {words.amounts(plan.operations)}.", width)
        lines += [line for held in words.reasons(plan)[1:] for line in wrapped(f"Also: {words.why(held)}", width)]
    lines += [line for meaning in words.meanings(plan) for line in wrapped(f"What it means: {meaning}", width)]
    lines += [line for check in words.checks(plan) for line in wrapped(f"Check {check}", width)]
    for lead, commands in words.commands(plan, release_command):
        lines += wrapped(lead, width)
        lines += [styled(f"  {command}", colour, bold=True) for command in commands]
    return lines


# -- the operations ---------------------------------------------------------------------------------------------------


def _sections(plan: Plan, marks: Mapping[int, str], width: int, colour: bool) -> list[str]:
    lines: list[str] = []
    held = plan.held_indices
    for section in words.sections(plan):
        lines += ["", *_styled(wrapped(section.title, width), colour)]
        for kind, numbers in section.kinds.items():
            lines.append(f"  {words.VERBS[kind]} ({len(numbers)})")
            for number in numbers[:MOST]:
                op = plan.operations[number]
                mark = marks.get(number) or words.mark(plan, number, held)
                line = f"{clean(op.subject.name, 80)}: {clean(op.reason)}{_details(op)}"
                lines += wrapped(f"[{mark}] {line}" if mark else line, width, "    ")
            lines += _more(len(numbers), width, "    ")
    return lines


def _details(op: Operation) -> str:
    parts = [_change(op.kind, change) for change in op.changes if words.tells(op.kind, change)]
    parts += _signed("+", op.add) + _signed("−", op.remove)  # noqa: RUF001
    return f" ({'; '.join(parts)})" if parts else ""


def _change(kind: Kind, change: Change) -> str:
    if kind is Kind.CREATE_USER:
        return clean(change.after, 60)
    before = clean(change.before, 60) if change.before else "(none)"
    return f"{clean(change.attribute, 60)} {before} → {clean(change.after, 60)}"


def _signed(sign: str, teams: Sequence[TeamRef]) -> list[str]:
    more = [f"{sign}{count(len(teams) - MOST_NAMES, 'more team')}"] if len(teams) > MOST_NAMES else []
    return [f"{sign}{clean(team.name, 60)}" for team in teams[:MOST_NAMES]] + more


def _by_team(plan: Plan, width: int, colour: bool) -> list[str]:
    teams = words.by_team(plan)
    if not teams:
        return []
    lines = ["", *_styled(wrapped(f"Membership by team ({len(teams)})", width), colour)]
    for team in teams[:MOST]:
        parts = []
        for sign, numbers in (("+", team.gain), ("−", team.lose)):  # noqa: RUF001
            names = (plan.operations[number].subject.name for number in numbers)
            parts += [f"{sign}{len(numbers)}: {_names(names, len(numbers))}"] if numbers else []
        tag = f" [{team.tag}]" if team.tag else ""
        lines += wrapped(f"{clean(team.name, 60)}{tag} {'; '.join(parts)}", width, "  ")
    return lines + _more(len(teams), width, "  ")


# -- what else there is -----------------------------------------------------------------------------------------------


def _notices(heading: str, notices: Sequence[Notice], width: int, colour: bool) -> list[str]:
    if not notices:
        return []
    lines = ["", *_styled(wrapped(f"{heading} ({len(notices)})", width), colour)]
    every = words.told(notices)
    for one in every[:MOST]:
        lines += wrapped(f"{_who(one)}: {clean(one.message, 1000)}", width, "  ")
    return lines + _more(len(every), width, "  ")


def _who(told: words.Told) -> str:
    names = [subject.name for subject in told.subjects]
    return clean(names[0], 80) if len(names) == 1 else f"{told.number} ({_names(names, len(names))})"


def _names(names: Iterable[str], number: int) -> str:
    shown = ", ".join(clean(name, 60) for name, _ in zip(names, range(MOST_NAMES), strict=False))
    return shown + (f" and {number - MOST_NAMES} more" if number > MOST_NAMES else "")


def _more(number: int, width: int, indent: str) -> list[str]:
    return wrapped(f"… and {number - MOST} more (all of them: --format json)", width, indent) if number > MOST else []


def _styled(lines: Iterable[str], colour: bool, fg: str | None = None) -> list[str]:
    return [styled(line, colour, bold=True, fg=fg) for line in lines]
