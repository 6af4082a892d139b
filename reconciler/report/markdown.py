"""The plan as Markdown, for a ticket or a chat: short, in tables, the whole only where it is short.

Names from the services stand in code spans, where nothing is markup, a link or a mention; sentences that may hold
names are escaped.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from reconciler.counting import count
from reconciler.plan import Operation, Plan
from reconciler.report import words
from reconciler.report.terminal import clean

MOST = 25
"""Rows of one table before the rest is a number: a ticket has its limits."""
MOST_NAMES = 10
"""Teams of one person, names in one line."""

_ACTIVE = re.compile(r"[\\`*_{}\[\]<>#|~$&!]|:(?=//)")
_MENTION = re.compile(r"(?<![\w.])@(?=\w)")
_ALL = "all of them: `--format html` or `json`"


def render(plan: Plan, *, tenant: str = "", release_command: str = "reconciler release") -> str:
    """The plan for a ticket or a chat."""
    verdict = words.verdict(plan)
    title = f"{_name(tenant)}: {_text(verdict.head)}" if tenant else _text(verdict.head)
    lines = [f"## {title}", "", *_paragraph(verdict.rest)]
    if plan.held:
        lines += _hold(plan, release_command)
    lines += _amounts(plan)
    held = plan.held_indices
    for section in words.sections(plan):
        lines += [f"### {section.title}", ""]
        rows: list[Sequence[str]] = []
        for kind, numbers in section.kinds.items():
            for number in numbers[:MOST]:
                op = plan.operations[number]
                mark = words.mark(plan, number, held)
                what = words.VERBS[kind] + (f" **[{mark}]**" if mark else "")
                rows.append((what, _name(op.subject.name), _text(clean(op.reason)), _details(op)))
            if len(numbers) > MOST:
                rows.append((words.VERBS[kind], f"… and {len(numbers) - MOST} more", _ALL, ""))
        lines += _table(("What", "Who", "Why", "Before → after"), rows)
    lines += _by_team(plan)
    if plan.adopts:
        lines += [f"### Already in Keeper, adopted ({len(plan.adopts)})", ""]
        lines += _paragraph(_names((subject.name for subject in plan.adopts), len(plan.adopts)), raw=True)
    if plan.limits:
        lines += ["### Limits, by people within the window", ""]
        lines += _table(
            ("Limit", "Used", "Planned", "Allowed"),
            [(_name(u.limit), str(u.used), str(u.planned), str(u.allowed)) for u in plan.limits],
        )
    lines += _notices(plan)
    source = plan.source
    lines.append(
        f"Plan {_name(plan.id)} of {plan.generated_at:%Y-%m-%d %H:%M} UTC ({plan.kind}), application "
        f"{_name(source.application_label)}, Keeper {_name(source.keeper)}."
    )
    return "\n".join(lines) + "\n"


def _hold(plan: Plan, release_command: str) -> Iterator[str]:
    started = any(op.sent for op in plan.operations)
    for hold in words.reasons(plan)[0 if started else 1 :]:
        yield f"- {'Why' if started else 'Also'}: {_text(words.why(hold))}"
    for meaning in words.meanings(plan):
        yield f"- What it means: {_ours(meaning)}"
    for check in words.checks(plan):
        yield f"- Check {_text(check)}"
    yield f"- {words.OTHERWISE}"
    yield ""
    for lead, commands in words.commands(plan, release_command):
        yield from (lead, "", "```sh", *commands, "```", "")


def _amounts(plan: Plan) -> Iterator[str]:
    if not plan.operations:
        return
    held = plan.held_indices
    rows = []
    for kind, verb in words.VERBS.items():
        mine = [number for number, op in enumerate(plan.operations) if op.kind is kind]
        if mine:
            waiting = sum(number in held for number in mine)
            going = sum(plan.operations[number].sent for number in mine)
            noun = "people" if kind in words.PEOPLE else "teams"
            rows.append((f"{verb} {noun}", str(len(mine)), str(going), str(waiting), str(len(mine) - going - waiting)))
    yield from _table(("", "Planned", "To send", "Held", "Not sent"), rows)


def _by_team(plan: Plan) -> Iterator[str]:
    teams = words.by_team(plan)
    if not teams:
        return
    yield from (f"### Membership by team ({len(teams)})", "")
    rows: list[Sequence[str]] = []
    for team in teams[:MOST]:
        row = [_name(team.name) + (f" **[{team.tag}]**" if team.tag else "")]
        for numbers in (team.gain, team.lose):
            names = (plan.operations[number].subject.name for number in numbers)
            row.append(f"{len(numbers)}: {_names(names, len(numbers))}" if numbers else "")
        rows.append(row)
    if len(teams) > MOST:
        rows.append((f"… and {len(teams) - MOST} more", _ALL, ""))
    yield from _table(("Team", "Gains", "Loses"), rows)


def _notices(plan: Plan) -> Iterator[str]:
    if not plan.notices:
        return
    yield from (f"### Notices ({len(plan.notices)})", "")
    for kind, heading in words.NOTICES.items():
        mine = [notice for notice in plan.notices if notice.kind is kind]
        if mine:
            yield f"- **{heading}** ({len(mine)})"
        every = words.told(mine)
        for one in every[:MOST]:
            names = _names((subject.name for subject in one.subjects), len(one.subjects))
            who = names if len(one.subjects) == 1 else f"{one.number} ({names})"
            yield f"  - {who}: {_text(clean(one.message, 1000))}"
        if len(every) > MOST:
            yield f"  - … and {len(every) - MOST} more ({_ALL})"
    yield ""


def _details(op: Operation) -> str:
    parts = [
        f"{words.ATTRIBUTES.get(change.attribute) or _name(change.attribute)}: "
        f"{_name(change.before) if change.before else 'none'} → {_name(change.after)}"
        for change in op.changes
        if words.tells(op.kind, change)
    ]
    for sign, teams in (("+", op.add), ("−", op.remove)):  # noqa: RUF001
        parts += [f"{sign} {_name(team.name)}" for team in teams[:MOST_NAMES]]
        if len(teams) > MOST_NAMES:
            parts.append(f"{sign} {count(len(teams) - MOST_NAMES, 'more team')}")
    return "<br>".join(parts)


def _names(names: Iterable[str], number: int) -> str:
    shown = ", ".join(_name(name) for name, _ in zip(names, range(MOST_NAMES), strict=False))
    return shown + (f" and {number - MOST_NAMES} more" if number > MOST_NAMES else "")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _paragraph(text: str, *, raw: bool = False) -> list[str]:
    return [text if raw else _text(text), ""] if text else []


def _name(name: str) -> str:
    """A name as a code span that nothing in it can end, neither the span nor a cell of a table."""
    text = clean(name, 100)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    # A pipe ends a cell also in a code span; backslashes before it would undo the one that prevents that.
    text = re.sub(r"(\\*)\|", lambda found: found[1] * 2 + r"\|", text)
    pad = " " if text.startswith(("`", " ")) or text.endswith(("`", " ")) else ""
    return f"{fence}{pad}{text or ' '}{pad}{fence}"


def _ours(text: str) -> str:
    """A sentence of our own, in which commands stand between backticks."""
    return "`".join(part if odd % 2 else _text(part) for odd, part in enumerate(text.split("`")))


def _text(text: str) -> str:
    """A sentence, with nothing in it that is markup, a link or a mention."""
    return _MENTION.sub("\uff20", _ACTIVE.sub(r"\\\g<0>", text)).replace("www.", r"www\.")
