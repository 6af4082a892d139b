"""The plan as one HTML file that needs nothing else: no script, style, font or picture from elsewhere.

Names are data: everything is escaped by the template engine, and a Content-Security-Policy allows just the one style
sheet and the one script of this package, by their hashes. The script filters; without it the page is complete.
"""

import hashlib
from base64 import b64encode
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from reconciler import promise
from reconciler.counting import count
from reconciler.plan import DRIFT_NOTICES, Cause, Held, Kind, LimitUse, Operation, Plan
from reconciler.report import words
from reconciler.report.terminal import clean

if TYPE_CHECKING:
    from jinja2 import Environment

LONGEST = 600
"""Columns of one name or message; a longer one is cut."""
MOST_NAMES = 6
"""Names in the summary of a hold; all of them stand below."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a report says of a run beside its plan: facts for the foot of the page, and by operation what became of it
    (the state as in the journal, and the words of an error), and why the run stopped early, if it did."""

    facts: Sequence[tuple[str, str]]
    results: Mapping[int, tuple[str, str]]
    stopped: str = ""


@dataclass(frozen=True, slots=True)
class _Cell:
    label: str
    text: str
    look: str = ""


@dataclass(frozen=True, slots=True)
class _Row:
    number: int
    kind: str
    state: str
    name: str
    reason: str
    was: Sequence[_Cell]
    will: Sequence[_Cell]
    error: str = ""


@dataclass(frozen=True, slots=True)
class _TeamRow:
    name: str
    tag: str
    note: str
    gain: list[tuple[int, str, str]]
    lose: list[tuple[int, str, str]]


@dataclass(frozen=True, slots=True)
class _Bar:
    label: str
    limit: str
    words: str
    used: float
    planned: float
    mark: float
    over: bool


def render(plan: Plan, *, tenant: str = "", release_command: str = "reconciler release", ran: Ran | None = None) -> str:
    """The plan as an HTML page; with `ran`, the page says what became of it."""
    held = plan.held_indices
    results = ran.results if ran else {}
    verdict = words.run_verdict(plan, results) if ran else words.verdict(plan)
    rows = [_row(plan, number, held, results) for number in range(len(plan.operations))]
    by_cause = sorted(words.sections(plan), key=lambda section: list(Cause).index(section.cause))
    return page(
        "plan.html",
        title=verdict.head,
        tenant=clean(tenant),
        plan=plan,
        ran=ran,
        verdict=verdict,
        amounts=words.amounts(plan.operations),
        tiles=list(_tiles(plan, held)),
        whom=list(_whom(plan, held)),
        whys=[words.why(hold) for hold in words.reasons(plan)[1 if verdict.tone is words.Tone.HELD else 0 :]],
        meanings=words.meanings(plan),
        checks=words.checks(plan),
        commands=list(words.commands(plan, release_command)),
        otherwise=words.OTHERWISE,
        sections=[
            (section.title, section.cause, [(kind, [rows[n] for n in mine]) for kind, mine in section.kinds.items()])
            for section in by_cause
        ],
        kinds=[(kind, words.VERBS[kind]) for kind in words.VERBS if kind.value in plan.counts],
        states=list(dict.fromkeys(row.state for row in rows)),
        verbs=words.VERBS,
        marks=words.MARKS,
        teams=list(_teams(plan, rows)),
        bars=[_bar(use, plan.held) for use in plan.limits],
        notices=[
            (heading, kind in DRIFT_NOTICES, len(mine), words.told(mine))
            for kind, heading in words.NOTICES.items()
            if (mine := [notice for notice in plan.notices if notice.kind is kind])
        ],
    )


def page(template: str, **values: Any) -> str:
    """A page from a template of this package, with its style and script and the policy that allows just these."""
    return _environment().get_template(template).render(values)


# -- what a page is made of -------------------------------------------------------------------------------------------


def _row(plan: Plan, number: int, held: Collection[int], results: Mapping[int, tuple[str, str]]) -> _Row:
    op = plan.operations[number]
    state, error = results.get(number, (words.mark(plan, number, held) or "goes", ""))
    state = promise.state_told(state, error)
    was, will = (list(cells) for cells in _before_after(op))
    return _Row(
        number, op.kind.value, state, _show(op.subject.name), _show(op.reason), was, will, _show(error) if error else ""
    )


def _before_after(op: Operation) -> tuple[Iterator[_Cell], Iterator[_Cell]]:
    before, after = words.BEFORE_AFTER.get(op.kind, ("", ""))
    told = [change for change in op.changes if words.tells(op.kind, change)]

    def was() -> Iterator[_Cell]:
        if before:
            yield _Cell("", before)
        if op.kind is not Kind.CREATE_USER:
            for change in told:
                yield _value(change.attribute, change.before)
        for team in op.remove:
            yield _Cell("Team", _show(team.name), "out")

    def will() -> Iterator[_Cell]:
        if after:
            yield _Cell("", after)
        for change in told:
            yield _value(change.attribute, change.after)
        for team in op.add:
            yield _Cell("Team", _show(team.name), "in")

    return was(), will()


def _value(attribute: str, value: str) -> _Cell:
    label = words.ATTRIBUTES.get(attribute) or _show(attribute)
    return _Cell(label, _show(value)) if value else _Cell(label, "none", "none")


def _tiles(plan: Plan, held: Collection[int]) -> Iterator[tuple[str, int, str, str]]:
    """The amounts by kind: an anchor, the number, what it is, and how much of it goes."""
    for kinds, nouns in ((words.PEOPLE, "people"), (words.TEAMS, "teams")):
        for kind, verb in kinds.items():
            mine = [number for number, op in enumerate(plan.operations) if op.kind is kind]
            if not mine and kinds is words.TEAMS:
                continue
            waiting = sum(number in held for number in mine)
            resting = sum(not plan.operations[number].sent for number in mine) - waiting
            parts = ["all held" if waiting == len(mine) else f"{waiting} held"] if waiting else []
            parts += [f"{resting} not sent"] if resting else []
            first = next((plan.operations[number].cause.value for number in mine), "")
            yield f"{first}-{kind.value}" if mine else "", len(mine), f"{verb} {nouns}", ", ".join(parts)
    drifted = [op for op in plan.operations if op.cause is Cause.DRIFT]
    if drifted:
        yield f"{Cause.DRIFT.value}-{drifted[0].kind.value}", len(drifted), f"of these {words.DRIFT}", ""


def _whom(plan: Plan, held: Collection[int]) -> Iterator[tuple[str, str, Sequence[str], int]]:
    """Whom the holds are about: the sentence, an anchor, the first names, and how many more there are."""
    waiting = [plan.operations[number] for number in sorted(held)]
    for kind, words_of in words.WHOM.items():
        mine = [op for op in waiting if op.kind is kind]
        if mine:
            yield _whom_row(words_of, mine, f"{mine[0].cause.value}-{kind.value}", _rules(mine))
    for losing, words_of in ((True, "would lose a team"), (False, "would gain a team")):
        mine = [op for op in waiting if (op.remove if losing else op.add) and op.kind is Kind.UPDATE_USER]
        if mine:
            yield _whom_row(words_of, mine, "teams", "")


def _whom_row(words_of: str, mine: Sequence[Operation], anchor: str, rules: str) -> tuple[str, str, Sequence[str], int]:
    noun = "person" if mine[0].subject.type == "user" else "team"
    names = [_show(op.subject.name) for op in mine]
    why = f" ({rules})" if rules else ""
    return f"{count(len(mine), noun)} {words_of}{why}", anchor, names[:MOST_NAMES], len(names[MOST_NAMES:])


def _rules(operations: Sequence[Operation]) -> str:
    found = Counter(op.rule for op in operations)
    return ", ".join(f"{number} {words.RULES[rule]}" for rule, number in found.most_common() if rule in words.RULES)


def _teams(plan: Plan, rows: Sequence[_Row]) -> Iterator[_TeamRow]:
    def people(numbers: Iterable[int]) -> list[tuple[int, str, str]]:
        return [(rows[number].number, rows[number].name, rows[number].state) for number in numbers]

    for team in words.by_team(plan):
        yield _TeamRow(_show(team.name), team.tag, team.note, people(team.gain), people(team.lose))


def _bar(use: LimitUse, held: Sequence[Held]) -> _Bar:
    total = use.used + use.planned
    scale = 100 / max(use.allowed, total, 1)
    return _Bar(
        words.LIMITS.get(use.limit) or _show(use.limit),
        use.limit,
        f"{use.used} used + {use.planned} planned, allowed {use.allowed}",
        use.used * scale,
        use.planned * scale,
        use.allowed * scale,
        total > use.allowed and any(hold.limit == use.limit for hold in held),
    )


# -- the engine -------------------------------------------------------------------------------------------------------


def _show(text: str) -> str:
    return clean(text, LONGEST)


def _quoted(text: str) -> Markup:
    """The text, with what stands between backticks as code."""
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if odd % 2 else escape(part) for odd, part in enumerate(parts)
    )


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("reconciler.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    loader = environment.loader
    assert loader is not None
    style, script = (Markup(loader.get_source(environment, name)[0]) for name in ("style.css", "filter.js"))
    environment.globals |= {
        "style": style,
        "script": script,
        "policy": f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'",
    }
    environment.filters["show"] = _show
    environment.filters["utc"] = lambda at: f"{at:%Y-%m-%d %H:%M} UTC"
    environment.filters["count"] = count
    environment.filters["quoted"] = _quoted
    environment.filters["age"] = words.age
    return environment


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
