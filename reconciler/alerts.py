"""Which alerts are to be told now: from what is known after a run and what each receiver was told before. Pure.

An alert is about facts. A fact is told once, as long as it lasts; holds and leavers who are not verifiably locked are
told again every four hours, what waits for approval once a week. What a receiver was told is remembered by kind and key
(see `Store.told`), and forgotten once the fact is over, so that it is told anew should it come back.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from reconciler import addresses
from reconciler.counting import count
from reconciler.model import USER_NAME, Account, Snapshot, typed
from reconciler.pilot import KEPT_LOCKED, kept_locked, left_outside
from reconciler.plan import Kind, Notice, NoticeKind, Operation, Plan, Rule
from reconciler.policy import Mode, Policy
from reconciler.promise import access_words, invited_again, leavers, not_here, spared, whereabouts
from reconciler.rows import JournalRow
from reconciler.safety import OF_TEAMS, loses
from reconciler.waiting import WaitingMember, waiting

if TYPE_CHECKING:
    from reconciler.apply import Result

EVERY = timedelta(hours=4)
"""How often holds and leavers are told again."""
WEEK = timedelta(days=7)
"""How often what waits for approval is told again: SCIM never shows that it was approved."""
TOO_LONG = timedelta(hours=1)
"""How long after the end of their grace leavers may be active before that is told, and how long something may be
unreadable."""
HISTORY = timedelta(days=7)
"""How long a receiver may be away and still be told of what was done."""
FIRST_PAUSE = timedelta(minutes=5)
GIVEN_UP = timedelta(days=1)
"""How soon a refused alert is tried again, with pauses that grow up to `EVERY`; and for how long."""
FAILURES = 2
"""So many cycles in a row have failed before that is told: one may be a hiccup of the network."""
ATTEMPTS = 3
"""So often what is due for one person or team has failed before that is told: a quarter of an hour has passed."""


class AlertKind(StrEnum):
    """What an alert is about, the most urgent first."""

    LEAVER_ACTIVE = "leaver_active"
    HELD = "held"
    WILL_BE_HELD = "will_be_held"
    LOCKED = "locked_in_scope"
    FAILING = "failing"
    KIND_STOPPED = "kind_stopped"
    PROTECTED = "protected"
    STUCK = "stuck"
    ADDRESS_CONFLICT = "address_conflict"
    QUARANTINED = "quarantined"
    LOCKED_BY_OTHERS = "locked_by_somebody_else"
    DEACTIVATED = "deactivated"
    UNLOCKED = "unlocked"
    LOST_TEAM = "lost_team"
    ADDRESS_CHANGE = "address_change"
    WAITING = "waiting_for_approval"
    CLOCK = "clock"
    HOOK_FAILED = "hook_failed"
    RECOVERED = "recovered"
    TEST = "test"


REPEATED = {
    AlertKind.HELD: EVERY,
    AlertKind.WILL_BE_HELD: EVERY,
    AlertKind.LEAVER_ACTIVE: EVERY,
    AlertKind.WAITING: WEEK,
}
"""The alerts that are repeated as long as they last, and how often."""
_TOGETHER = frozenset({AlertKind.HELD, AlertKind.WILL_BE_HELD, AlertKind.LEAVER_ACTIVE})
"""Alerts of these kinds name everybody again as soon as one is new."""
_SIZED = frozenset({AlertKind.HELD, AlertKind.WILL_BE_HELD})
"""The kinds whose keys are limits with a size, see `_of_size`."""
_RECOVERIES = {
    AlertKind.HELD: "nothing is held any more",
    AlertKind.FAILING: "cycles work again",
}

_WAYS = {
    "first_run": "reconciler plan --save FILE, reconciler apply --plan FILE",
    "paused": "reconciler resume",
}
"""How what is held goes on, where that is not with `release`."""

Key = tuple[str, str]
"""What a receiver remembers a fact by: the kind of alert, and whom or what it is about."""
_SPARED = frozenset({NoticeKind.KEPT, NoticeKind.IN_GRACE})
_UNDECIDED = frozenset({NoticeKind.STATE_UNKNOWN})
"""Notices about people of whom JumpCloud does not say that they should have access now."""
_IN_SCOPE = frozenset(
    {NoticeKind.CONFLICT, NoticeKind.LOCKED_IN_KEEPER, NoticeKind.OUTSIDE_PILOT, NoticeKind.PROTECTED}
)
"""Notices that, as does the plan to unlock them, tell of people in scope why they are locked."""
_DONE = "done:"
"""Begins the keys of what was done; the id in the journal follows."""
NAMED = 5
"""Leavers or members who are named in one sentence; the rest is a number."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that people are to know, now or since `at`: about whom or what, and a sentence without a full stop."""

    kind: AlertKind
    key: str
    name: str
    text: str
    at: datetime

    @property
    def id(self) -> Key:
        """What a receiver remembers it by."""
        return self.kind.value, self.key

    @property
    def past(self) -> bool:
        """Whether it is something that was done, at `at`; everything else lasts until it is over."""
        return self.key.startswith(_DONE)


@dataclass(frozen=True, slots=True)
class Alert:
    """One message: the facts of one kind, and what to remember and to forget once its receiver took it."""

    kind: AlertKind
    facts: tuple[Fact, ...]
    remember: tuple[Key, ...] = ()
    forget: tuple[Key, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Since when a receiver refuses what tells it of a fact, and when it did last."""

    since: datetime
    last: datetime

    def rests(self, now: datetime) -> bool:
        """Whether it is too early to try again: pauses double, from `FIRST_PAUSE` to `EVERY`."""
        return now < self.last + min(max(self.last - self.since, FIRST_PAUSE), EVERY)


@dataclass(frozen=True, slots=True)
class Failing:
    """Cycles that failed in a row, since when, and the words of the last one. `resync`: resyncs are among them."""

    count: int
    since: datetime
    words: str
    resync: bool = False


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known after a run.

    `plan` is None where the cycle failed; `whole` says that it was about everybody, `complete` that everything was
    read: what the plan lacks is over only then. `people`: all was read that bears on who has access. `decides`: nobody
    sees what it held unless it is told; whoever ordered a `resync EMAIL` does. `done` are the operations of the last
    days that Keeper carried out (see `TOLD_WHEN_DONE`). `stopped_kinds` are those that Keeper does not carry out as
    expected, with the words for it; `passed` those whose canary has passed, `failing` the cycles that failed up to now.
    `merely_left`: see there; it is known while cycles fail as well. `hooks` are the programs that the settings name and
    that failed when last run, with what went wrong.
    """

    at: datetime
    snapshot: Snapshot
    policy: Policy
    queue_age: timedelta
    plan: Plan | None = None
    whole: bool = True
    complete: bool = True
    people: bool = True
    decides: bool = True
    results: "Collection[Result]" = ()
    done: Sequence[JournalRow] = ()
    stopped_kinds: Mapping[Kind, str] = field(default_factory=dict)
    passed: Collection[Kind] = ()
    failing: Failing | None = None
    merely_left: Collection[str] = ()
    hooks: Mapping[str, str] = field(default_factory=dict)


def facts(now: Situation) -> list[Fact]:
    """Everything that people are to know, told before or not."""
    found = [*_leavers(now), *_locked(now), *_failing(now), *_stuck(now), *_protected(now), *_done(now), *_waiting(now)]
    found += _quarantined(now)
    found += [
        Fact(AlertKind.KIND_STOPPED, kind.value, kind.value, words, now.at)
        for kind, words in sorted(now.stopped_kinds.items())
        if kind not in now.passed
    ]
    found += [Fact(AlertKind.HOOK_FAILED, name, name, words, now.at) for name, words in sorted(now.hooks.items())]
    return [*found, *(_of_plan(now, now.plan) if now.plan else ())]


def due(
    found: Sequence[Fact], told: Mapping[Key, datetime], now: Situation, resting: Collection[Key] = ()
) -> list[Alert]:
    """What one receiver is to be told now, by what it was told before; one message for each kind. It is not told yet
    of what is `resting`, since it refused that."""
    alerts = []
    for kind in AlertKind:
        mine = [fact for fact in found if fact.kind is kind and fact.id not in resting]
        new = [fact for fact in mine if fact.id not in told]
        pause = REPEATED.get(kind)
        again = pause is not None and any(now.at - told[fact.id] >= pause for fact in mine if fact.id in told)
        if again or (new and kind in _TOGETHER):
            new = mine  # the whole picture, and one rhythm for all of it
        if new:
            alerts.append(Alert(kind, tuple(new), remember=tuple(fact.id for fact in new)))
    over = ended(found, told, now)
    for kind, words in _RECOVERIES.items():
        keys = tuple(key for key in over if key[0] == kind)
        words += "" if now.complete else ", as far as they can without what was not read"
        fact = Fact(AlertKind.RECOVERED, kind.value, kind.value, words, now.at)
        if keys and fact.id not in resting and not any(fact.kind is kind for fact in found):
            alerts.append(Alert(AlertKind.RECOVERED, (fact,), forget=keys))
    return alerts


def ended(found: Iterable[Fact], told: Iterable[Key], now: Situation) -> list[Key]:
    """List what a receiver was told and is over, as far as this run can tell. A hold that has shrunk is not over."""
    lasting = {fact.id for fact in found}
    sizes = {(fact.kind.value, fact.name) for fact in found if fact.kind in _SIZED}
    lasting |= {(kind, key) for kind, key in told if (kind, key.rpartition(" ")[0]) in sizes}
    undecided = _undecided(now.plan)
    return [key for key in told if key not in lasting and _can_tell(key, now, undecided)]


def silent(over: Iterable[Key], found: Iterable[Fact]) -> list[Key]:
    """List what may be forgotten without a word: all but what a recovery is told of, once nothing of its kind lasts."""
    lasting = {fact.kind.value for fact in found}
    return [key for key in over if key[0] not in _RECOVERIES or key[0] in lasting]


def _can_tell(key: Key, now: Situation, undecided: Collection[str]) -> bool:
    kind, subject = key
    everybody = now.plan is not None and now.whole
    whole = everybody and now.complete
    if subject.startswith(_DONE):
        return True  # it fell out of the history
    match kind:
        case AlertKind.PROTECTED | AlertKind.WAITING | AlertKind.HOOK_FAILED | AlertKind.QUARANTINED:
            return True
        case AlertKind.FAILING:
            # A list may be unreadable for good: the next time that cycles fail is to be told all the same.
            return everybody and now.failing is None
        case AlertKind.STUCK:
            return whole or subject not in now.snapshot.failures
        case AlertKind.HELD:
            return whole
        case AlertKind.WILL_BE_HELD if subject.partition(" ")[0] in OF_TEAMS:
            return whole
        case AlertKind.KIND_STOPPED:
            # A kind rests after its canary failed: only that it passes, or is not needed any more, is an end.
            planned = now.plan.counts if now.plan else {}
            return subject in now.passed or (whole and subject not in planned)
        case _:
            return everybody and now.people and subject.partition(" ")[0] not in undecided


def _undecided(plan: Plan | None) -> set[str]:
    """The people of whom a run did not read whether they should have access now: their keys and Keeper ids."""
    notices = plan.notices if plan else ()
    return {key for one in notices if one.kind in _UNDECIDED for key in (one.subject.key, one.subject.keeper_id)}


# -- the facts ------------------------------------------------------------------------------------------------------


def merely_left(plan: Plan, before: Collection[str] = ()) -> frozenset[str]:
    """The Keeper ids of those who left the scope and are neither suspended nor deleted: grace and
    `policy.out_of_scope` are for them alone. After a plan about one person, or one without a list, the others are as
    they were `before`, and so is whose state the plan does not know."""
    found = {op.subject.keeper_id for op in plan.operations if op.rule is Rule.LEFT}
    found |= {one.subject.keeper_id for one in plan.notices if one.kind in _SPARED and one.subject.type == "user"}
    planned = {op.subject.keeper_id for op in plan.operations}
    unsaid = _undecided(plan) - planned
    others: set[str] = set()
    if plan.focus is not None or plan.scope.unread:
        others = set(before) - planned - {one.subject.keeper_id for one in plan.notices}
    return frozenset(found | others | unsaid.intersection(before))


def _leavers(now: Situation) -> Iterator[Fact]:
    """Report leavers who are active an hour past grace, whatever the cause, or not in this node without a known lock.

    Protected people have an alert of their own. Where it is not known why somebody left, no grace is assumed.
    """
    planned, back, cause_of = _planned(now, Kind.DEACTIVATE_USER), invited_again(now.snapshot), _causes(now)
    for account in _ours(now):
        assert account.left_at is not None
        since = f"left the scope at {_time(account.left_at)}"
        if account.gone:
            closing = f"if access has ended: reconciler disown {typed(account.email)}"
            again = account.keeper_id in back
            if again:
                closing = f"if that user is theirs, to have it locked: reconciler adopt {typed(account.email)}"
            text = f"{since}; {whereabouts(now.snapshot, account, again=again)}; {closing}"
        elif now.at - account.left_at >= _grace(now, account) + TOO_LONG:
            cause = cause_of(account, *planned.get(account.keeper_id, (-1, None)))
            access = access_words(now.snapshot, account, failing=now.plan is None or now.failing is not None)
            text = f"{since}, {access}{f': {cause}' if cause else ''}"
        else:
            continue
        yield Fact(AlertKind.LEAVER_ACTIVE, account.keeper_id, account.email, text, account.left_at)


def _ours(now: Situation) -> Iterator[Account]:
    """The leavers whom we are to lock: those that the settings do not spare."""
    if now.policy.mode is Mode.OBSERVE:
        return
    for account in leavers(now.snapshot):
        if not spared(account, now.policy, now.merely_left):
            yield account


def _grace(now: Situation, account: Account) -> timedelta:
    """How long the lock of a leaver waits. That of one who was adopted out of scope waits for a person and no grace."""
    waits = account.keeper_id in now.merely_left and not account.review_lock
    return now.policy.grace if waits else timedelta()


def _planned(now: Situation, kind: Kind) -> dict[str, tuple[int, Operation]]:
    operations = now.plan.operations if now.plan else ()
    return {op.subject.keeper_id: (number, op) for number, op in enumerate(operations) if op.kind is kind}


def _locked(now: Situation) -> Iterator[Fact]:
    """Report people in scope whose account is locked after a whole cycle: by us, or by somebody else."""
    if now.plan is None or not now.whole or now.policy.mode is Mode.OBSERVE:
        return
    planned = _planned(now, Kind.REACTIVATE_USER)
    unsaid = _undecided(now.plan)
    told = planned.keys() | {n.subject.keeper_id or n.subject.key for n in now.plan.notices if n.kind in _IN_SCOPE}
    waiting_for_person = now.plan.held_indices
    locked_and_gone = {n.subject.keeper_id for n in now.plan.notices if n.kind is NoticeKind.LOCKED_IN_KEEPER}
    # A new account is planned under the person's JumpCloud id.
    said = {n.subject.jumpcloud_id: n.message for n in reversed(now.plan.notices)}
    cause_of = _causes(now)
    for account in sorted(now.snapshot.accounts.values(), key=lambda a: (a.email.casefold(), a.keeper_id)):
        if not account.managed or account.active or account.left_at is not None:
            continue
        found = number, op = planned.get(account.keeper_id, (-1, None))
        due = op is not None and (op.sent or number in waiting_for_person)
        if account.keeper_id in unsaid or not (now.people or told & {account.keeper_id, account.jumpcloud_id}):
            continue
        if kept_locked(now.policy, account) and not due:
            words = said.get(account.jumpcloud_id, KEPT_LOCKED)
            yield Fact(AlertKind.LOCKED, account.keeper_id, account.email, words, now.at)
            continue
        if account.gone and account.keeper_id not in locked_and_gone:
            continue
        if left_outside(now.policy, account) and not due:
            continue
        ours = (account.locked_by_us and not account.others_lock) or found[1] is not None
        kind = AlertKind.LOCKED if ours else AlertKind.LOCKED_BY_OTHERS
        unknown = "not unlocked yet" if ours else "left alone"
        yield Fact(kind, account.keeper_id, account.email, cause_of(account, *found) or unknown, now.at)


def _causes(now: Situation) -> Callable[[Account, int, Operation | None], str]:
    """Return what says why an operation on an account was not done, as far as the run tells: it is asked for many."""
    plan, errors, limits = now.plan, dict[str, str](), dict[int, list[str]]()
    for result in now.results:
        if result.error:
            errors.setdefault(result.operation.subject.keeper_id, result.error)
    for held in plan.held if plan else ():
        for number in held.operations:
            limits.setdefault(number, []).append(held.limit)
    notices = {n.subject.keeper_id: n.message for n in reversed(plan.notices if plan else ())}

    def cause(account: Account, number: int, op: Operation | None) -> str:
        what = "unlock" if op is not None and op.kind is Kind.REACTIVATE_USER else "lock"
        if plan is None:
            return f"cycles fail ({now.failing.words})" if now.failing else ""
        if account.keeper_id in errors:
            return errors[account.keeper_id]
        if number in limits:
            return f"the {what} is held ({', '.join(limits[number])})"
        return notices.get(account.keeper_id, "" if op is None or op.sent else f"the {what} was not sent")

    return cause


def _failing(now: Situation) -> Iterator[Fact]:
    failing = now.failing
    if failing is not None and failing.count >= FAILURES:
        # Other cycles may have succeeded between resyncs that failed.
        times = f"{failing.count}{'' if failing.resync else ' in a row'}"
        text = f"{times} since {_time(failing.since)}, the last: {failing.words.rstrip('.')}"
        if now.plan is not None and now.whole:
            text += ". Cycles go on, as far as they can without what was not read"
        overdue = [a for a in _ours(now) if a.active and a.left_at and now.at >= a.left_at + _grace(now, a)]
        if overdue:
            text += f". They left, and are not known to be locked: {_named([account.email for account in overdue])}"
        yield Fact(AlertKind.FAILING, "cycles", "cycles", text, failing.since)


def _stuck(now: Situation) -> Iterator[Fact]:
    """Tell for whom it keeps failing, as long as it is tried again: no licence is free, Keeper refuses a value."""
    if now.plan is None or now.policy.mode is Mode.OBSERVE:
        return
    held = now.plan.held_indices
    outside = {notice.subject.key for notice in now.plan.notices if notice.kind is NoticeKind.OUTSIDE_PILOT}
    due = (op.subject for number, op in enumerate(now.plan.operations) if number not in held)
    names = {subject.key: subject.name for subject in due if subject.key not in outside}
    for key, failure in sorted(now.snapshot.failures.items()):
        if failure.count >= ATTEMPTS and key in names:
            text = f"failed {failure.count} times in a row, last at {_time(failure.last_at)}: {failure.error}"
            yield Fact(AlertKind.STUCK, key, names[key], text, failure.last_at)


def _quarantined(now: Situation) -> Iterator[Fact]:
    for key, one in sorted(now.snapshot.unclear.items()):
        if now.at - one.since >= TOO_LONG:
            yield Fact(AlertKind.QUARANTINED, key, one.name, f"since {_time(one.since)}: {one.words}", one.since)


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _protected(now: Situation) -> Iterator[Fact]:
    for account in leavers(now.snapshot):
        if account.protected_as and account.left_at is not None and not account.gone:
            text = f"since {_time(account.left_at)}, protected as {account.protected_as}"
            yield Fact(AlertKind.PROTECTED, account.keeper_id, account.email, text, account.left_at)


def _locked_by_us(_: Situation, row: JournalRow) -> str:
    op = row.operation
    if not_here(row.error):
        return ""  # nothing was locked: that alert is about leavers who are not verifiably locked
    return f"{op.reason} ({row.error})" if row.error else op.reason


def _unlocked(_: Situation, row: JournalRow) -> str:
    op = row.operation
    if op.kind is Kind.REACTIVATE_USER:
        return op.reason
    # A lock that withdrew an invitation ends with a new account.
    return f"invited anew: {op.reason}" if op.rule in (Rule.RETURNED, Rule.UNLOCK_ASKED) else ""


def _lost_team(_: Situation, row: JournalRow) -> str:
    op = row.operation
    return f"lost {_named([team.name for team in op.remove])}: {op.reason}" if loses(op) else ""


def _new_address(now: Situation, row: JournalRow) -> str:
    change = next((change for change in row.operation.changes if change.attribute == USER_NAME), None)
    account = now.snapshot.accounts.get(row.operation.subject.keeper_id)
    # Keeper may have taken the request and left the address as it was.
    if change is None or (account is not None and not addresses.same(account.email, change.after)):
        return ""
    return f"changed in Keeper from {change.before} to {change.after}"


_OF_DONE: tuple[tuple[AlertKind, frozenset[Kind], Callable[[Situation, JournalRow], str]], ...] = (
    (AlertKind.DEACTIVATED, frozenset({Kind.DEACTIVATE_USER}), _locked_by_us),
    (AlertKind.UNLOCKED, frozenset({Kind.REACTIVATE_USER, Kind.CREATE_USER}), _unlocked),
    (AlertKind.LOST_TEAM, frozenset({Kind.UPDATE_USER, Kind.REACTIVATE_USER}), _lost_team),
    (AlertKind.ADDRESS_CHANGE, frozenset({Kind.UPDATE_USER}), _new_address),
)
"""The alerts about operations that were done: by kind of operation, the text about one; "" for no alert."""
TOLD_WHEN_DONE = frozenset(kind for _, kinds, _ in _OF_DONE for kind in kinds)
"""The kinds of operations of which something is told once they are done (see `Situation.done`)."""


def _done(now: Situation) -> Iterator[Fact]:
    shut = {account.jumpcloud_id for account in now.snapshot.accounts.values() if account.was_locked}
    done = [(row, row.operation, row.operation.subject.jumpcloud_id) for row in now.done]
    locks = {owner: row.id for row, op, owner in done if op.kind is Kind.DEACTIVATE_USER}
    unlocks = {owner: row.id for row, op, owner in done if op.kind is Kind.REACTIVATE_USER}
    for row, op, owner in done:
        closed = owner in shut or unlocks.get(owner, 0) > row.id
        if op.kind is Kind.CREATE_USER and closed and locks.get(owner, 0) < row.id:
            continue  # Keeper may have linked an account that was locked: no lock of ours has come later
        for alert, kinds, say in _OF_DONE:
            if op.kind in kinds and (text := say(now, row)):
                yield Fact(alert, f"{_DONE}{row.id}", op.subject.name, text, row.at)


def _waiting(now: Situation) -> Iterator[Fact]:
    """Report what was asked for longer ago than `teams.queue_age` and is not known to be approved.

    What the inventory shows as queued has a fact each. What nothing shows is told together: by team and day.
    """
    before = now.at - now.queue_age
    for found in waiting(now.snapshot, now.policy.teams):
        team, unsure = found.team, "" if found.certain else ", approval not visible"
        if found.queued and team.queued_at and team.queued_at <= before:
            text = f"the team was asked for on {_time(team.queued_at)}{unsure}"
            yield Fact(AlertKind.WAITING, team.keeper_id, team.name, text, team.queued_at)
        unseen: dict[str, list[WaitingMember]] = {}
        for member in found.members:
            if member.since is None or member.since > before or member.invited:
                continue
            if member.certain:
                text = f"membership in {team.name} asked for on {_time(member.since)}"
                yield Fact(AlertKind.WAITING, f"{team.keeper_id} {member.email}", member.email, text, member.since)
            else:
                unseen.setdefault(f"{member.since:%Y-%m-%d}", []).append(member)
        for day, members in sorted(unseen.items()):
            since = min(member.since for member in members if member.since)
            name, text = team.name, f"{count(len(members), 'membership')} asked for on {day}, approval not visible"
            if len(members) == 1:
                name, text = members[0].email, f"membership in {team.name} asked for on {day}, approval not visible"
            else:
                text += f": {_named([member.email for member in members])}"
            yield Fact(AlertKind.WAITING, f"{team.keeper_id} {day}", name, text, since)
    groups = {op.subject.jumpcloud_id: op.subject.name for op in now.plan.operations} if now.plan else {}
    for group_id, asked_at in sorted(now.snapshot.unsettled_teams.items()):
        if asked_at <= before:
            text = f"asked for on {_time(asked_at)} without an answer; look for it in the Pending Queue"
            yield Fact(AlertKind.WAITING, group_id, groups.get(group_id, group_id), text, asked_at)


def _of_plan(now: Situation, plan: Plan) -> Iterator[Fact]:
    for held in plan.held if now.decides else ():
        way = _WAYS.get(held.limit, f"reconciler release {plan.id}")
        text = f"{held.reason}. {count(len(held.operations), 'operation', 'waits')}; if it is right: {way}"
        key = _of_size(held.limit, held.planned)
        yield Fact(AlertKind.HELD, key, held.limit, text, now.at)
    for notice in plan.notices:
        if notice.kind is NoticeKind.WILL_BE_HELD:
            limit = notice.subject.name
            yield Fact(AlertKind.WILL_BE_HELD, _of_size(limit, notice.size), limit, notice.message, now.at)
        yield from _of_notice(now, notice)


def _of_size(limit: str, number: int) -> str:
    """The key of what a limit holds: a hold that doubles is news, and one person more is none."""
    return f"{limit} {number.bit_length()}"


def _of_notice(now: Situation, notice: Notice) -> Iterator[Fact]:
    subject = notice.subject
    key = f"{subject.key} {hashlib.sha256(notice.message.encode()).hexdigest()[:12]}"
    if notice.kind is NoticeKind.ADDRESS_CHANGE:
        yield Fact(AlertKind.ADDRESS_CHANGE, key, subject.name, notice.message, now.at)
    elif notice.kind is NoticeKind.CLOCK:
        # Once for as long as it lasts: the message names how much, which is never twice the same.
        yield Fact(AlertKind.CLOCK, subject.name, subject.name, notice.message, now.at)
    elif notice.kind is NoticeKind.LOCKED_IN_KEEPER and not subject.keeper_id:
        # They have no account that could be locked; whoever has one is told of with it.
        yield Fact(AlertKind.LOCKED_BY_OTHERS, subject.key, subject.name, notice.message, now.at)
    elif notice.kind is NoticeKind.CONFLICT and subject.type == "user":
        yield Fact(AlertKind.ADDRESS_CONFLICT, key, subject.name, notice.message, now.at)


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
