"""The words of all reports: what a plan comes to, what a hold means, what to check, which command lets it through.

What is given back is for people and is harmless on a terminal; each format escapes it as it needs.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum

from reconciler.counting import agreeing, count
from reconciler.diff_quarantine import unread_words
from reconciler.model import DISPLAY_NAME, EXTERNAL_ID, FAMILY_NAME, GIVEN_NAME, GROUP_NAMES, GROUPS, USER_NAME, USERS
from reconciler.plan import Cause, Change, Held, Kind, Notice, NoticeKind, Operation, Plan, Rule, Subject
from reconciler.promise import NOT_NEEDED, UNVERIFIED, failing, failing_words, state_told
from reconciler.report.terminal import clean

PEOPLE = {
    Kind.DEACTIVATE_USER: "Lock",
    Kind.REACTIVATE_USER: "Unlock",
    Kind.CREATE_USER: "Create",
    Kind.UPDATE_USER: "Change",
}
TEAMS = {
    Kind.QUEUE_TEAM: "Queue",
    Kind.RENAME_TEAM: "Rename or link",
    Kind.DELETE_TEAM: "Delete",
}
VERBS = {**PEOPLE, **TEAMS}

NOTICES = {
    NoticeKind.WILL_BE_HELD: "Will be held when grace ends",
    NoticeKind.NOT_UNLOCKED: "Not unlocked, though a person asked for it",
    NoticeKind.KEEPER_DISAGREES: "Keeper did not do what was asked",
    NoticeKind.UNCONFIRMED: "Put off: not confirmed by a second look",
    NoticeKind.CONFLICT: "Conflicts",
    NoticeKind.ELSEWHERE: "Address taken by another account",
    NoticeKind.NO_LICENCE: "No licence free",
    NoticeKind.CLOCK: "Clocks that are wrong",
    NoticeKind.FAILING: "Failing",
    NoticeKind.QUARANTINED: "Not readable in JumpCloud or Keeper",
    NoticeKind.HOOK_FAILED: "Hooks that failed",
    NoticeKind.LOCKED_IN_KEEPER: "Drift: locked in Keeper by somebody else",
    NoticeKind.GIVEN_BY_HAND: "Drift: given in Keeper",
    NoticeKind.DRIFT: "Drift: changed in Keeper behind our back",
    NoticeKind.WAITING_FOR_APPROVAL: "Waiting for approval in Keeper",
    NoticeKind.ADDRESS_CHANGE: "Changed addresses",
    NoticeKind.GONE: "Not in this Keeper node any more",
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
_SCOPE = "that the scope is what you expect."
_LOST = "the members of the groups, and what manages them: imports, group rules, a person."
_BACK = "that these people really came back: who activated them in JumpCloud, or bound their groups again, and why."
_GAINED = "who was added to the groups and by whom: a team opens whatever is shared with it."
HOLDS = {
    "first_run": (
        "Nothing is sent to this Keeper node before a person has looked at the first plan.",
        _SCOPE,
    ),
    "paused": ("A person has paused all writes; only `resync EMAIL` is done meanwhile.", ""),
    "empty_scope": (_WHOLE, "the groups bound to the Keeper application (its User Groups tab) and their members."),
    "max_deactivations": (_WHOLE, _LEFT),
    "max_removals": (_WHOLE, _LOST),
    "max_team_loss": (_WHOLE, _LOST),
    "max_creations": (_PART, "whether a large group was bound to the Keeper application; each creation is a licence."),
    "max_grants": (_PART, _GAINED),
    "max_reactivations": (_PART, _BACK),
    "teams.review": (_PART, _GAINED),
    "delete_team": (_PART, "that the groups of these teams are really gone from the scope."),
    "adopted_teams": (_PART, "in Keeper's Admin Console what is shared with these teams, and who is in them now."),
    "unsettled": (_PART, "that the groups are still wanted; in Keeper, whether the Pending Queue shows the teams."),
    "adopted": (_PART, _LEFT),
    "vanished": (_PART, "in Keeper's Admin Console whether the accounts that are gone were deleted or only invited."),
    "hidden": (_PART, "whether these people are still there, and whether the administrator's role may read them."),
}
"""By limit: the meaning of the hold, and what to check, if anything: in JumpCloud where it names no other place."""

STATES = {
    "failed": "failed",
    "unknown": "without a known outcome",
    "put_off": "put off",
    UNVERIFIED: UNVERIFIED,
    NOT_NEEDED: NOT_NEEDED,
}
"""The end of an operation that is not known to be done, or was not sent since it was not needed."""

MARKS = {
    "goes": "to be sent",
    "held": "held",
    "not sent": "not sent",
    "done": "done",
    "failed": "failed",
    "unknown": "outcome unknown",
    "put_off": "put off",
    UNVERIFIED: UNVERIFIED,
    NOT_NEEDED: NOT_NEEDED,
}
"""How far one operation has come, before and after a run."""

RESULTS = {
    "done": "done",
    "nothing": "nothing to do",
    "held": "held",
    "partial": "applied in part",
    "failed": "failed",
    "observed": "observed",
    "stopped": "stopped",
}
"""What a run came to."""


def came_to(result: str, counts: Mapping[str, int]) -> str:
    """Say what a run came to, by its result and the number of its operations by state (see `promise.state_told`)."""
    if (result == "partial" or (result == "done" and counts)) and not counts.get("done"):
        return "nothing done yet" if counts.keys() - {UNVERIFIED, NOT_NEEDED} or not counts else "nothing done"
    return RESULTS.get(result, result)


LIMITS = {
    "max_deactivations": "People locked",
    "max_removals": "People who lose a team",
    "max_creations": "People created",
    "max_grants": "People who gain an existing team",
    "max_reactivations": "People unlocked",
}
"""What the limits count."""

ATTRIBUTES = {
    USER_NAME: "E-mail address",
    EXTERNAL_ID: "Tied to JumpCloud id",
    DISPLAY_NAME: "Name",
    GIVEN_NAME: "Given name",
    FAMILY_NAME: "Family name",
}

BEFORE_AFTER = {
    Kind.DEACTIVATE_USER: ("Can log in", "Locked; vault and teams stay"),
    Kind.REACTIVATE_USER: ("Locked", "Can log in"),
    Kind.CREATE_USER: ("No account", "Invited"),
    Kind.QUEUE_TEAM: ("No team", "Asked for; waits for approval in Keeper"),
    Kind.DELETE_TEAM: ("Team of nobody else", "Deleted"),
}
"""What Keeper has before and after an operation, beside the attributes and teams that it names."""

DRIFT = "changed in Keeper behind our back"

WHOM = {
    Kind.DEACTIVATE_USER: "would be locked out of Keeper",
    Kind.CREATE_USER: "would be invited, each with a licence",
    Kind.REACTIVATE_USER: "would be unlocked",
    Kind.QUEUE_TEAM: "would be asked for",
    Kind.RENAME_TEAM: "would be renamed or tied to a JumpCloud group",
    Kind.DELETE_TEAM: "would be deleted",
}
"""What would happen to those whom a hold keeps waiting."""

RULES = {
    Rule.LEFT: "no longer bound to the application in JumpCloud",
    Rule.SUSPENDED: "suspended in JumpCloud",
    Rule.DELETED: "deleted in JumpCloud",
    Rule.HIDDEN: "without a record in JumpCloud",
}
"""What JumpCloud says of those who would be locked."""

OTHERWISE = (
    "If it was a mistake, put it right in JumpCloud. What is then no longer due is dropped by the next cycle; "
    "Keeper hears nothing of it."
)


class Tone(StrEnum):
    """How a report is to be taken."""

    HELD = "held"
    PART = "part"
    GOING = "going"
    QUIET = "quiet"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a plan or a run comes to: the sentence to read first, and what it rests on."""

    tone: Tone
    head: str
    rest: str = ""

    def __str__(self) -> str:
        return f"{self.head} {self.rest}".rstrip()


def verdict(plan: Plan, *, past: bool = False) -> Verdict:
    """What a plan comes to; `past`: what it came to, where nothing of it was sent."""
    found = _verdict(plan, past=past)
    found = replace(found, rest=" ".join(filter(None, (_leaving(plan), found.rest))))
    return _failing_first(_unread_first(_warned(found, plan), plan), plan, {})


def _failing_first(found: Verdict, plan: Plan, states: Mapping[int, str]) -> Verdict:
    """The verdict that says first who fails, every time and not only the first."""
    lacks = failing(plan, states, newly=False).values()
    if not lacks:
        return found
    tone = found.tone if found.tone is Tone.HELD else Tone.FAILED
    return replace(found, tone=tone, head=f"FAILING for {failing_words(lacks)}. {found.head}")


def _unread_first(found: Verdict, plan: Plan) -> Verdict:
    """The verdict that says first which lists could not be read: who or what they are about may be missing."""
    if not plan.scope.unread:
        return found
    tone = found.tone if found.tone is Tone.HELD else Tone.FAILED
    return replace(found, tone=tone, head=f"NOT READ: {unread_words(plan.scope.unread)}. {found.head}")


def _leaving(plan: Plan) -> str:
    """The people who are about to be locked and the teams that are about to be emptied: nobody should learn of it from
    a list further down."""
    grace = [notice.subject.type for notice in plan.notices if notice.kind is NoticeKind.IN_GRACE]
    people, teams = grace.count("user"), grace.count("team")
    said = []
    if people:
        said.append(
            f"{count(people, 'person', 'has')} left the scope; {count(people, 'lock', 'is')} due when grace ends "
            "(policy.grace)."
        )
    if teams:
        said.append(
            f"{count(teams, 'team', 'is')} due to be emptied when grace ends, for want of a group in scope "
            "(policy.grace)."
        )
    return " ".join(said)


def warnings(plan: Plan) -> list[str]:
    """The sentences about limits that will hold the plan when grace ends; a limit stands first, as each ends with a
    command."""
    found = (n for n in plan.notices if n.kind is NoticeKind.WILL_BE_HELD)
    return [f"[{clean(n.subject.name, 40)}] {sentence(clean(n.message, 600))}" for n in found]


def _warned(found: Verdict, plan: Plan) -> Verdict:
    """The verdict, with what will be held as the first sentence; a hold and a failure that are there come before it."""
    alarms = warnings(plan)
    if not alarms:
        return found
    if found.tone in (Tone.QUIET, Tone.GOING):
        return Verdict(
            Tone.PART, "WILL BE HELD when grace ends.", " ".join(filter(None, (*alarms, found.head, found.rest)))
        )
    return replace(found, rest=" ".join(filter(None, (found.rest, "WILL BE HELD when grace ends:", *alarms))))


_NOT_IN_LINE = frozenset(
    {
        NoticeKind.CONFLICT,
        NoticeKind.LOCKED_IN_KEEPER,
        NoticeKind.UNCONFIRMED,
        NoticeKind.NO_LICENCE,
        NoticeKind.ADDRESS_CHANGE,
        NoticeKind.NO_ADDRESS,
        NoticeKind.STATE_UNKNOWN,
        NoticeKind.DRIFT,
        NoticeKind.ELSEWHERE,
        NoticeKind.QUARANTINED,
        NoticeKind.PROTECTED,
        NoticeKind.UNMANAGED,
    }
)
"""Notices about somebody or something that Keeper does not hold as JumpCloud wants it, or may not."""


def in_scope(plan: Plan) -> str:
    """Say how many people and teams are in scope, as far as they could be read; "" where neither could."""
    unread = plan.scope.unread
    parts = [] if USERS in unread else [count(plan.scope.users, "person")]
    parts += [] if {GROUPS, GROUP_NAMES}.intersection(unread) else [count(plan.scope.teams, "team")]
    return f"{' and '.join(parts)} in scope" if parts else ""


def in_line(plan: Plan) -> str:
    """Say of a plan without operations who is in scope, and how many are not in line although nothing is due."""
    scope = in_scope(plan)
    others = {(n.subject.type, n.subject.key, n.subject.name) for n in plan.notices if n.kind in _NOT_IN_LINE}
    if not others:
        alone = scope == "1 person in scope" or scope == "1 team in scope"
        return f"{scope} {'is' if alone else 'are'} in line" if scope else "nothing that could be read is due"
    if plan.focus is not None and any(notice.kind is NoticeKind.QUARANTINED for notice in plan.notices):
        return f"{f'{scope}; ' if scope else ''}nothing that could be read is due"
    types = [kind for kind, _, _ in others]
    parts = [count(types.count(kind), noun) for kind, noun in (("user", "person"), ("team", "team")) if kind in types]
    rest = len(types) - types.count("user") - types.count("team")
    parts += [count(rest, "finding")] if rest else []
    return f"{f'{scope}; ' if scope else ''}{' and '.join(parts)} {agreeing(len(types), 'is')} not in line"


def _verdict(plan: Plan, *, past: bool) -> Verdict:
    """The verdict without who is in grace."""
    nothing = "nothing was sent" if past else "nothing will be sent"
    going = [op for op in plan.operations if op.sent]
    scope = in_scope(plan)
    scope = sentence(scope) if scope else ""
    if not plan.operations:
        adopted = f"{len(plan.adopts)} {agreeing(len(plan.adopts), 'is')} adopted as found. " if plan.adopts else ""
        notices = f"To know: {count(len(plan.notices), 'notice')} below." if plan.notices else ""
        return Verdict(Tone.QUIET, f"Nothing to do: {in_line(plan)}.", f"{adopted}{notices}")
    held = len(plan.held_indices)
    others = len(plan.operations) - len(going) - held
    waits = [f"{held} {agreeing(held, 'waits')} for a person"] if held else []
    waits += [f"{others} more {agreeing(others, 'is')} not sent this time"] if others else []
    if plan.held and not going:
        first = reasons(plan)[0]
        return Verdict(Tone.HELD, f"{'PAUSED' if first.limit == 'paused' else 'HELD'}: {nothing}.", why(first))
    if not going:
        return Verdict(
            Tone.QUIET,
            f"{nothing.capitalize()}: {amounts(plan.operations)} only reported (see [not sent]).",
            scope,
        )
    rest = "".join(f"; {words}" for words in waits)
    summary = f"The plan: {amounts(going)}{rest}."
    if plan.held:
        return Verdict(Tone.PART, "HELD in part.", f"{summary} {scope}".rstrip())
    return Verdict(Tone.GOING, summary, scope)


def result_verdict(states: Collection[str]) -> Verdict:
    """What a run comes to whose operations that were sent ended in these states."""
    counted = list(states)
    done = counted.count("done")
    kinds = {"done": done, UNVERIFIED: counted.count(UNVERIFIED), NOT_NEEDED: counted.count(NOT_NEEDED)}
    if sum(kinds.values()) == len(counted):
        told = " ".join(
            f"{kind.capitalize()}: {count(number, 'operation')}." for kind, number in kinds.items() if number
        )
        return Verdict(Tone.PART if kinds[UNVERIFIED] else Tone.GOING, told)
    rest = ", ".join(f"{counted.count(state)} {word}" for state, word in STATES.items() if state in counted)
    if not done:
        return Verdict(Tone.FAILED, f"None of it is known to be done: {rest}.")
    return Verdict(Tone.FAILED, f"Applied in part: {done} done, {rest}.")


def run_verdict(plan: Plan, results: Mapping[int, tuple[str, str]]) -> Verdict:
    """Sum up a run: its plan, and what became of the operations that were sent, by their index in the plan: the state
    and the words of an error."""
    if not results:
        return verdict(plan, past=True)
    states = {number: state_told(state, error) for number, (state, error) in results.items()}
    return _failing_first(_unread_first(_warned(_run_verdict(plan, states.values()), plan), plan), plan, states)


def _run_verdict(plan: Plan, states: Collection[str]) -> Verdict:
    """The verdict without who fails and without what will be held."""
    result = result_verdict(states)
    sent = " ".join(filter(None, (sentence(amounts([op for op in plan.operations if op.sent])), _leaving(plan))))
    if not plan.held:
        return replace(result, rest=sent)
    tone = Tone.FAILED if result.tone is Tone.FAILED else Tone.PART
    held = len(plan.held_indices)
    waits = f"{sent} {held} more {agreeing(held, 'waits')} for a person. {why(reasons(plan)[0])}"
    return Verdict(tone, f"{result.head} HELD in part.", waits)


def amounts(operations: Sequence[Operation]) -> str:
    """ "lock 1 person, create 3 people", with what hurts first."""
    parts = []
    for kinds, noun in ((PEOPLE, "person"), (TEAMS, "team")):
        for kind, verb in kinds.items():
            number = sum(op.kind is kind for op in operations)
            if number:
                parts.append(f"{verb.lower()} {count(number, noun)}")
    return ", ".join(parts)


_NOUNS = {
    "user": "person",
    "team": "team",
    "command": "program",
    "list": "list",
    "limit": "limit",
    "setting": "setting",
    "machine": "finding",
}


@dataclass(frozen=True, slots=True)
class Told:
    """One message and all whom it is about."""

    message: str
    subjects: Sequence[Subject]

    @property
    def number(self) -> str:
        """How many there are, in words."""
        nouns = {subject.type for subject in self.subjects}
        noun = _NOUNS[next(iter(nouns))] if len(nouns) == 1 else "subject"
        return count(len(self.subjects), noun)


def told(notices: Iterable[Notice]) -> list[Told]:
    """What is said of many in the same words is said once, in the order of the notices."""
    found: dict[str, list[Subject]] = {}
    for notice in notices:
        found.setdefault(notice.message, []).append(notice.subject)
    return [Told(message, subjects) for message, subjects in found.items()]


def age(lasting: timedelta) -> str:
    """How long something lasts, in its two largest units."""
    minutes = max(0, int(lasting.total_seconds())) // 60
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def sentence(text: str) -> str:
    """The text as a sentence."""
    return f"{text[:1].upper()}{text[1:]}."


def not_due(number: int) -> str:
    """Say how many operations of a saved plan were dropped."""
    return f"{count(number, 'change')} of the saved plan {agreeing(number, 'is')} no longer due"


def untold(number: int) -> str:
    """Say how many operations of a saved plan were not planned, and may be due all the same."""
    return (
        f"Whether {count(number, 'change')} of the saved plan {agreeing(number, 'is')} still due cannot be told now: "
        "something could not be read, the time is not certain, or an earlier request had no clear answer. The next "
        "cycle that can tell, within four hours, does what is due."
    )


def reasons(plan: Plan) -> list[Held]:
    """Why parts of the plan are held; that a person has paused everything comes first."""
    return sorted(plan.held, key=lambda held: held.limit != "paused")


def why(held: Held) -> str:
    """Why something is held, with the limit and how much it holds."""
    return f"{sentence(clean(held.reason, 400).rstrip('.'))} [{clean(held.limit, 40)}, {len(held.operations)} held]"


def meanings(plan: Plan) -> list[str]:
    """Say what the holds of a plan mean; where one holds the whole plan, nothing is said of those that hold a part."""
    found = dict.fromkeys(HOLDS[held.limit][0] for held in plan.held if held.limit in HOLDS)
    return [words for words in found if words != _PART or len(found) == 1]


def checks(plan: Plan) -> list[str]:
    """List the things to check before a held plan is let through, each with its place."""
    found = [HOLDS[held.limit][1] for held in plan.held if held.limit in HOLDS]
    if plan.first_held and Kind.DEACTIVATE_USER.value in plan.counts:
        found[found.index(_SCOPE)] = f"{_SCOPE.rstrip('.')}, above all whoever is under Lock."
    return list(dict.fromkeys(c if c.startswith("in ") else f"in JumpCloud {c}" for c in found if c))


def commands(plan: Plan, release_command: str) -> Iterator[tuple[str, Sequence[str]]]:
    """How a held plan is let through: each time a sentence and the commands."""
    limits = {held.limit for held in plan.held}
    if "paused" in limits:
        yield "To go on with writing:", ("reconciler resume",)
    if "first_run" in limits:
        yield (
            "If it is right, save it, look through it and apply it:",
            ("reconciler plan --save plan.json", "reconciler apply --plan plan.json"),
        )
        yield "or, where `run` or `apply` has held it:", (f"{release_command} {plan.id}",)
    elif limits - {"paused"}:
        lead = "If it is right, let it through, where `run`, `apply` or `resync` has held it:"
        yield lead, (f"{release_command} {plan.id}",)


def mark(plan: Plan, number: int, held: Collection[int]) -> str:
    """Whether an operation goes: "held", "not sent", or nothing; `held` are the plan's held indices."""
    return "held" if number in held else "" if plan.operations[number].sent else "not sent"


def tells(kind: Kind, change: Change) -> bool:
    """Whether a change says more than its kind does: of a new person or team that is the name."""
    if kind in (Kind.CREATE_USER, Kind.QUEUE_TEAM):
        return kind is Kind.CREATE_USER and change.attribute == DISPLAY_NAME
    return change.attribute != "active"


@dataclass(slots=True)
class TeamMembers:
    """The people who gain and lose a team, by the numbers of their operations. `tag`: how the team came about, if by
    this plan; `note`: what it means for those who gain it."""

    name: str
    tag: str = ""
    note: str = ""
    gain: list[int] = field(default_factory=list)
    lose: list[int] = field(default_factory=list)


def by_team(plan: Plan) -> list[TeamMembers]:
    """Membership by team, whose taking over opens something first; the people of each in the order of the plan."""
    found: dict[str, TeamMembers] = {}
    for number, op in enumerate(plan.operations):
        for team in (*op.add, *op.remove):
            entry = found.setdefault(team.key, TeamMembers(team.name))
            (entry.gain if team in op.add else entry.lose).append(number)
    acts = {op.subject.key: op for op in plan.operations if op.subject.type == "team"}
    for key, entry in found.items():
        act = acts.get(key)
        if act is not None and act.kind is Kind.QUEUE_TEAM:
            entry.tag, entry.note = "new", "The team is asked for by this plan; nothing is shared with it yet."
        elif act is not None and act.rule is Rule.ADOPTED:
            entry.tag = "taken over"
            entry.note = "An existing Keeper team that this plan takes over: who gains it sees what is shared with it."
        elif entry.gain:
            entry.note = "An existing team: who gains it sees what is shared with it."
    return sorted(found.values(), key=lambda entry: (entry.tag != "taken over", entry.name.casefold()))


@dataclass(frozen=True, slots=True)
class Section:
    """The operations on people or on teams of one cause; by kind, the numbers of the operations in the plan."""

    title: str
    cause: Cause
    kinds: Mapping[Kind, Sequence[int]]


def sections(plan: Plan) -> Iterator[Section]:
    """The operations as reports show them: people before teams, what drifted apart from what JumpCloud changed."""
    for title, kinds in (("People", PEOPLE), ("Teams", TEAMS)):
        for cause, label in ((Cause.JUMPCLOUD, ""), (Cause.DRIFT, f", {DRIFT}")):
            found = {
                kind: [n for n, op in enumerate(plan.operations) if op.kind is kind and op.cause is cause]
                for kind in kinds
            }
            if any(found.values()):
                yield Section(title + label, cause, {kind: mine for kind, mine in found.items() if mine})
