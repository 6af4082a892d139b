"""The safety limits: which operations may go, and which wait for a person. Pure.

The limits count people over a rolling window, not operations in one cycle, so that a slow mistake is caught like a
fast one.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property

from reconciler.counting import count
from reconciler.diff_quarantine import unread_words
from reconciler.keeper_quarantine import may_be_locked
from reconciler.model import DISPLAY_NAME, GROUP_NAMES, GROUPS, Snapshot, Team
from reconciler.plan import Effect, Held, Kind, LimitUse, Operation, Plan, Rule, Subject, TeamRef, in_order
from reconciler.policy import FirstRun, Limit, Limits, TeamPolicy
from reconciler.undoing import keys, undoes

HOLDS_ALL = frozenset({"first_run", "paused", "empty_scope", "max_deactivations", "max_removals", "max_team_loss"})
"""The limits that hold the whole plan."""
OF_TEAMS = frozenset({"max_removals", "max_team_loss"})
"""Those of them on what people lose of teams: nobody knows that without the lists of groups."""
MOST_VANISHED = 3
"""Locks within the window after which an account may be gone without a person having to agree to more."""
SMALLEST_TEAM = 5
"""Members from which on `max_team_loss` counts."""

_TAKING = frozenset({Kind.DEACTIVATE_USER, Kind.DELETE_TEAM})
_Over = tuple[str, int, int, str]
"""A limit that a plan is over: its name, how many are allowed, how many it would be, and words."""


@dataclass(frozen=True, slots=True)
class Past:
    """One operation of the window that was sent to Keeper, without what of it was released. `decision` is the id of
    what a person decided about it, "" where the limits let it through by themselves; `counts` is False for what was
    released as a whole or announced. `undoes`: it took back a recent change of access (see `undoing`). `gave_access`
    is what our last change of the person's access may have been after it, of the whole operation (see `undoing`).
    `at`: when it was sent; `recent`: within the window, whichever clock is right."""

    operation: Operation
    decision: str = ""
    counts: bool = True
    undoes: bool = False
    gave_access: frozenset[bool] = frozenset()
    at: datetime | None = None
    recent: bool = True


@dataclass(frozen=True, slots=True)
class Release:
    """Effects that a person let through and that are not done yet, and the id under which that is on record."""

    id: str
    effects: frozenset[Effect]


@dataclass(frozen=True, slots=True)
class Allowance:
    """So many deactivations that a person announced and that are left, the id under which that is on record, and when
    it ends. `in_doubt` are the keys of the people whose lock by it has no known outcome: asked for once more, it uses
    up nothing."""

    id: str
    deactivations: int
    until: datetime | None = None
    in_doubt: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Vanished:
    """The accounts that were gone after their lock, within the window.

    `number` counts those that may have been invitations, which a lock withdraws. `members`: others were among them, so
    that a lock may delete accounts. `seen_locked` are the Keeper ids of accounts that were once shown as locked.
    """

    number: int = 0
    members: bool = False
    seen_locked: frozenset[str] = frozenset()

    def may_delete(self, op: Operation) -> bool:
        """Whether a lock may do more than lock, so that a person has to agree to it."""
        few = self.number < MOST_VANISHED or op.subject.keeper_id in self.seen_locked
        return op.kind is Kind.DEACTIVATE_USER and (self.members or not few)


@dataclass(frozen=True, slots=True)
class Consent:
    """What persons have decided that still counts. `person` is the id of a `resync EMAIL` that asks for this plan, and
    `persons_before` the keys of the people for whom that was used within the window."""

    releases: tuple[Release, ...] = ()
    allowances: tuple[Allowance, ...] = ()
    person: str = ""
    persons_before: frozenset[str] = frozenset()
    vanished: Vanished = Vanished()


@dataclass(frozen=True, slots=True)
class Judged:
    """A plan with what is held, and by operation index the decision that let an operation through."""

    plan: Plan
    decisions: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many accounts are managed, how many of them are active, and who is in a team, all by Keeper ids."""

    managed: int
    active: int
    members: Mapping[str, Set[str]]


def sizes(snapshot: Snapshot) -> Sizes:
    """Count what the limits are measured by."""
    managed = [a for a in snapshot.accounts.values() if a.managed and not a.gone]
    members: dict[str, set[str]] = defaultdict(set)
    for account in snapshot.accounts.values():
        for team_id, m in account.memberships.items() if not account.gone else ():
            if m.ours or m.shown:
                members[team_id].add(account.keeper_id)
    return Sizes(len(managed), sum(account.active for account in managed), members)


def judge(
    plan: Plan,
    snapshot: Snapshot,
    past: Sequence[Past],
    limits: Limits,
    teams: TeamPolicy,
    consent: Consent,
    counted: Sizes | None = None,
) -> Judged:
    """Hold what is over a limit or waits for a person anyway, and divide operations of which only a part may go.

    `snapshot` is the one the plan was made from, `past` the journal of the window. `counted` are the sizes of the
    snapshot, for who judges many plans by one: to count them takes longer than all the rest.
    """
    return _Judge(plan, snapshot, past, limits, teams, consent, counted or sizes(snapshot)).judge()


def always_allowed(limits: Limits, managed: int) -> int:
    """How many people may be concerned whatever the percentages: never more than a third, at least one."""
    return min(limits.always_allow, max(1, managed // 3))


def new_teams(
    plan: Plan, queued: Iterable[tuple[datetime, Subject]], teams: Mapping[str, Team], policy: TeamPolicy
) -> frozenset[str]:
    """List the teams with which nothing is shared yet: those that were `queued` within the window, each given with the
    time, by Keeper id (see `place`), and those that the plan queues, by the id of their group. No role is one.

    A group for which a team was queued may have an older one by now: one that Keeper shows again, or that was taken
    over since.
    """
    since: dict[str, datetime] = {}
    for at, subject in queued:
        if not policy.is_role(subject.name):
            since[subject.key] = min(at, since.get(subject.key, at))
    there = (
        team.keeper_id
        for team in teams.values()
        if team.queued_at is not None
        and team.jumpcloud_id in since
        and team.queued_at >= since[team.jumpcloud_id]
        and not policy.is_role(team.name)
    )
    planned = (op.subject for op in plan.operations if op.kind is Kind.QUEUE_TEAM)
    return frozenset(there) | {subject.key for subject in planned if not policy.is_role(subject.name)}


def place(team: TeamRef) -> str:
    """The Keeper id of a team, or the id of the group for which the plan queues it."""
    return team.keeper_id or team.jumpcloud_id


def only(judged: Judged, effects: Set[Effect]) -> Judged:
    """The plan with nothing sent but these effects."""
    return divided(judged, lambda _, op: op.split(effects) if op.sent else (None, op))


def divided(judged: Judged, divide: Callable[[int, Operation], tuple[Operation | None, Operation | None]]) -> Judged:
    """The plan with each operation, given with its index, divided into what stays as it is and what is not sent."""
    plan = judged.plan
    rebuilt: list[tuple[Operation, int | None]] = []
    for number, op in enumerate(plan.operations):
        main, part = divide(number, op)
        rebuilt += [(main, number)] if main is not None else []
        rebuilt += [(replace(part, sent=False), None if main is not None else number)] if part is not None else []
    final = in_order(op for op, _ in rebuilt)
    place = {id(op): number for number, op in enumerate(final)}
    now_at = {old: place[id(op)] for op, old in rebuilt if old is not None}
    held = tuple(
        replace(hold, operations=tuple(sorted(now_at[i] for i in hold.operations if i in now_at))) for hold in plan.held
    )
    decisions = {now_at[i]: decision for i, decision in judged.decisions.items() if i in now_at}
    return Judged(replace(plan, operations=final, held=held), decisions)


def paused(judged: Judged, by: str, since: datetime, reason: str) -> Judged:
    """The plan with everything held that would have been sent, or would be once it is let through: a person has paused
    all writes."""
    others = judged.plan.held_indices
    due = tuple(number for number, op in enumerate(judged.plan.operations) if op.sent or number in others)
    if not due:
        return judged
    words = f"all writes were paused by {by} at {since:%Y-%m-%d %H:%M} UTC" + (f": {reason}" if reason else "")
    operations = tuple(replace(op, sent=False) for op in judged.plan.operations)
    held = (*judged.plan.held, Held("paused", due, 0, len(due), words))
    return Judged(replace(judged.plan, operations=operations, held=held))


class _Judge:
    def __init__(
        self,
        plan: Plan,
        snapshot: Snapshot,
        past: Sequence[Past],
        limits: Limits,
        teams: TeamPolicy,
        consent: Consent,
        counted: Sizes,
    ) -> None:
        self.plan = plan
        self.snapshot = snapshot
        self.past = past
        self.limits = limits
        self.team_policy = teams
        self.consent = consent
        self.people = counted.active
        self.members = counted.members
        self.always = always_allowed(limits, counted.managed)
        self.first = not snapshot.reviewed
        self.released = frozenset(effect for release in consent.releases for effect in release.effects)
        queued = ((p.at, p.operation.subject) for p in past if p.operation.kind is Kind.QUEUE_TEAM and p.recent)
        known = ((at, subject) for at, subject in queued if at is not None)
        self.new_teams = new_teams(plan, known, snapshot.teams, teams)
        review = limits.first_run is FirstRun.REVIEW
        self.named_teams = snapshot.named_teams if review else frozenset[str]()
        recent = (entry for entry in past if entry.gave_access and entry.recent)
        self.last_access = {key: entry.gave_access for entry in recent for key in keys(entry.operation.subject)}
        self.uses: list[LimitUse] = []
        self.holds: dict[str, tuple[list[Operation], int, int, str]] = {}
        self.covered: dict[str, str] = {}  # by person's key: the allowance that covers the deactivation

    def judge(self) -> Judged:
        ready = [op for op in self.plan.operations if op.sent]
        resting = [op for op in self.plan.operations if not op.sent]
        released, open_ops = self._split_released(ready)
        waiting, open_ops = self._always_waiting(open_ops)
        self._cover(open_ops)
        reasons = self._taking_limits(open_ops)
        unlocks = self._unlock_limit(open_ops)
        passing: list[Operation] = []
        if self._by_person:
            passing = open_ops
        elif self.first and self.limits.first_run is FirstRun.REVIEW:
            self._hold(
                "first_run",
                open_ops,
                0,
                len(open_ops),
                f"the first plan for this Keeper node is a person's to look at{self._lacking()}",
            )
        elif reasons:
            suspended_pass = self._suspended_alone_within(open_ops)
            new_accounts_pass = self._returning_alone_within(open_ops)
            held: list[Operation] = []
            for op in open_ops:
                gone, kept = self._passing_a_hold(
                    op, suspended_pass, unlocks_pass=not unlocks, new_accounts_pass=new_accounts_pass
                )
                passing += gone
                held += kept
            self._hold_by(reasons, held)
            self._hold_by(unlocks, [op for op in held if self._counted_unlock(op)])
            # A release says what it lets through, and by which limits that waited.
            creations, grants = self._over_in_giving(held)
            self._hold_by(creations, [op for op in held if self._counted_creation(op)])
            self._hold_by(grants, [op for op in held if self._granted(op)])
        else:
            passing = self._giving_limits(open_ops, unlocks)
        return self._result([*released, *passing], waiting, resting)

    def _lacking(self) -> str:
        """Say what the first plan lacks although it exists; once it can be read, it is looked at by itself."""
        lists = [one for one in self.plan.scope.unread if one in (GROUPS, GROUP_NAMES)]
        if not lists or not self.team_policy.manage:
            return ""
        return (
            f". {unread_words(lists)} could not be read, so existing Keeper teams of these groups are not in it: once "
            "the list can be read, what takes them over waits for you again"
        )

    def _result(self, sent: list[Operation], waiting: Iterable[Operation], resting: Iterable[Operation]) -> Judged:
        held_ops = [op for ops, *_ in self.holds.values() for op in ops]
        sent = _rejoined(sent)
        everything = _unique([*sent, *resting, *waiting, *held_ops])
        sent_ids = {id(op) for op in sent}
        held_ids = {id(op) for op in held_ops}
        final = in_order(everything)
        index = {id(op): number for number, op in enumerate(final)}
        operations = tuple(replace(op, sent=False) if id(op) in held_ids else op for op in final)
        decisions = {
            number: decision
            for number, op in enumerate(final)
            if id(op) in sent_ids and (decision := self._decision(op))
        }
        held = tuple(
            Held(limit, tuple(sorted(index[id(op)] for op in ops)), allowed, planned, reason)
            for limit, (ops, allowed, planned, reason) in self.holds.items()
            if ops
        )
        return Judged(replace(self.plan, operations=operations, held=held, limits=tuple(self.uses)), decisions)

    def _decision(self, op: Operation) -> str:
        # The one that lets most of it through: what it does not counts for the limits from now on.
        most = max(self.consent.releases, key=lambda one: len(op.effects() & one.effects), default=None)
        if most is not None and op.effects() & most.effects:
            return most.id
        if op.kind is Kind.DEACTIVATE_USER and op.subject.key in self.covered:
            return self.covered[op.subject.key]
        return self.consent.person if self._by_person else ""

    def _hold(self, limit: str, operations: list[Operation], allowed: int, planned: int, reason: str) -> None:
        if operations:
            self.holds[limit] = (operations, allowed, planned, reason)

    # -- what goes without being counted ----------------------------------------------------------------------------

    def _split_released(self, operations: Iterable[Operation]) -> tuple[list[Operation], list[Operation]]:
        """What a person let through, and the rest. A release is about effects: an operation may go in part."""
        released: list[Operation] = []
        rest: list[Operation] = []
        for op in operations:
            mine, other = op.split(self.released)
            released += [mine] if mine is not None else []
            rest += [other] if other is not None else []
        return released, rest

    @cached_property
    def _by_person(self) -> bool:
        """Whether a person asks for this plan, about no more people than may pass so."""
        if not self.consent.person:
            return False
        people = {op.subject.key for op in self.plan.operations} | self.consent.persons_before
        return len(people) <= self.always

    def _always_waiting(self, operations: Iterable[Operation]) -> tuple[list[Operation], list[Operation]]:
        """What waits for `release` whatever the limits: `teams.review` and a new name that would end it, deleted teams,
        teams asked for already, teams taken over that the first plan lacked, the locks of people who were adopted out
        of scope or have no record in JumpCloud."""
        rest: list[Operation] = []
        waiting: dict[str, list[Operation]] = defaultdict(list)
        for op in operations:
            if op.kind is Kind.DELETE_TEAM:
                waiting["delete_team"].append(op)
            elif op.kind is Kind.QUEUE_TEAM and op.rule is Rule.UNSETTLED:
                waiting["unsettled"].append(op)
            elif op.kind is Kind.DEACTIVATE_USER and self._adopted_leaver(op):
                waiting["adopted"].append(op)
            elif op.rule is Rule.HIDDEN:
                waiting["hidden"].append(op)
            elif self.consent.vanished.may_delete(op) and not self._by_person:
                waiting["vanished"].append(op)
            elif op.rule is Rule.GROUP_RENAMED and self._ends_review(op):
                waiting["teams.review"].append(op)
            elif op.kind is Kind.RENAME_TEAM and op.subject.keeper_id in self.named_teams:
                waiting["adopted_teams"].append(op)
            else:
                main: Operation | None = op
                named = [team for team in op.add if team.keeper_id in self.named_teams]
                reviewed = [t for t in op.add if self._reviewed(t.keeper_id, t.name) and t not in named]
                for limit, teams in (("adopted_teams", named), ("teams.review", reviewed)):
                    main, part = main.divided(teams, ()) if main is not None else (None, None)
                    waiting[limit] += [part] if part is not None else []
                rest += [main] if main is not None else []
        if self.first and self.limits.first_run is FirstRun.REVIEW and not self.consent.person:
            return [], [*rest, *(op for ops in waiting.values() for op in ops)]
        for limit, ops in waiting.items():
            self._hold(limit, ops, 0, len(ops), _WAITING[limit])
        return [op for ops in waiting.values() for op in ops], rest

    def _reviewed(self, team_id: str, name: str) -> bool:
        """By the name of the group or of the team: who may rename a group must not get around `teams.review`."""
        team = self.snapshot.teams.get(team_id)
        return self.team_policy.reviews(name) or (team is not None and self.team_policy.reviews(team.name))

    def _ends_review(self, op: Operation) -> bool:
        name = next((change.after for change in op.changes if change.attribute == DISPLAY_NAME), op.subject.name)
        return self._reviewed(op.subject.keeper_id, name) and not self.team_policy.reviews(name)

    def _adopted_leaver(self, op: Operation) -> bool:
        account = self.snapshot.accounts.get(op.subject.keeper_id)
        return not self.first and account is not None and account.review_lock

    # -- access that was changed within the window ------------------------------------------------------------------

    def _undoes(self, op: Operation) -> bool:
        return undoes(op, {gave for key in keys(op.subject) for gave in self.last_access.get(key, ())})

    def _counted_lock(self, op: Operation) -> bool:
        return op.kind is Kind.DEACTIVATE_USER and not self._undoes(op)

    def _counted_unlock(self, op: Operation) -> bool:
        return op.kind is Kind.REACTIVATE_USER and not self._undoes(op)

    def _counted_creation(self, op: Operation) -> bool:
        return op.kind is Kind.CREATE_USER and not self._undoes(op)

    def _changed(self, kind: Kind) -> set[str]:
        """List the people who were locked, unlocked or created within the window, without changes that undid a recent
        one."""
        counted = (entry.operation for entry in self.past if entry.counts and not entry.undoes)
        return {op.subject.key for op in counted if op.kind is kind}

    # -- taking away ------------------------------------------------------------------------------------------------

    def _cover(self, operations: Iterable[Operation]) -> None:
        # Suspended people first: should the rest be held, they alone can pass.
        locks = sorted(filter(self._counted_lock, operations), key=lambda op: not _is_suspension(op))
        counted = [op.subject.key for op in locks]
        for allowance in self.consent.allowances:
            self.covered |= dict.fromkeys(allowance.in_doubt.intersection(counted), allowance.id)
        leavers = iter([key for key in counted if key not in self.covered])
        for allowance in self.consent.allowances:
            for _ in range(allowance.deactivations):
                key = next(leavers, None)
                if key is None:
                    return
                self.covered[key] = allowance.id

    def _taking_limits(self, operations: Sequence[Operation]) -> list[_Over]:
        """The limits on taking away that this plan is over."""
        over: list[_Over] = []
        leaving = {op.subject.key for op in operations if self._counted_lock(op)} - set(self.covered)
        emptied = not self.plan.scope.users and self.plan.focus is None
        if self.people and emptied and any(_takes(op) for op in operations):
            over.append(
                ("empty_scope", 0, len(leaving), "nobody at all is in scope any more, which is more likely a mistake")
            )
        used = self._changed(Kind.DEACTIVATE_USER)
        limit, covered = self.limits.max_deactivations, len(self.covered)
        over += self._over("max_deactivations", limit, used, leaving, "would be locked", covered=covered)
        losing = {op.subject.key for op in operations if loses(op)}
        used = {p.operation.subject.key for p in self.past if p.counts and loses(p.operation)}
        over += self._over("max_removals", self.limits.max_removals, used, losing, "would lose a team")
        over += self._team_losses(operations)
        return over

    def _allowed(self, limit: Limit, people: int) -> int:
        """How many people a limit allows. A first plan is not capped: a person looks at it, or chose not to."""
        allowed = limit.allowed(people)
        if limit.percent is None:
            return allowed
        capped = allowed if self.first else min(allowed, self.limits.at_most)
        return max(capped, self.always)

    def _allowed_words(self, limit: Limit, people: int) -> str:
        """How many people a limit allows, and by which settings: a percentage alone may be another number."""
        allowed, share = self._allowed(limit, people), limit.allowed(people)
        bound = "always" if allowed == self.always else "at most"
        return f"allowed are {allowed} ({limit}{f', but {bound} {allowed}' if allowed != share else ''})"

    def _over(
        self, name: str, limit: Limit, used: set[str], planned: set[str], words: str, *, covered: int = 0
    ) -> list[_Over]:
        allowed = self._allowed(limit, self.people)
        self.uses.append(LimitUse(name, allowed, len(used), len(planned - used)))
        total = len(used | planned)
        if not planned or total <= allowed:
            return []
        hours = self.limits.window.total_seconds() / 3600
        who = count(len(planned), "person")
        earlier = f", {len(used)} before in the last {hours:g} hours" if used else ""
        # They wait with the others: without them the number would not be that of the locks that are shown.
        earlier += f", beside {covered} whom an announced lay-off covers" if covered else ""
        # Whoever is created or unlocked is not active yet.
        base = f" beside {self.people} active" if name in ("max_creations", "max_reactivations") else ""
        base = base or f" of {self.people} active"
        told = self._allowed_words(limit, self.people)
        return [(name, allowed, len(planned), f"{who} {words}{base}{earlier}; {told}")]

    def _team_losses(self, operations: Sequence[Operation]) -> list[_Over]:
        planned: dict[str, set[str]] = defaultdict(set)
        used: dict[str, set[str]] = defaultdict(set)
        names: dict[str, str] = {}
        for op in filter(loses, operations):
            for team in op.remove:
                planned[team.key].add(op.subject.key)
                names[team.key] = team.name
        for entry in self.past:
            for team in entry.operation.remove if entry.counts and loses(entry.operation) else ():
                used[team.key].add(entry.operation.subject.key)
        over = []
        for key in sorted(planned, key=lambda key: (names[key], key)):
            teams = [t for t in self.snapshot.teams.values() if key in (t.jumpcloud_id, t.keeper_id) and not t.gone]
            members = set[str]().union(*(self.members.get(team.keeper_id, ()) for team in teams))
            # Whoever was taken out within the window and is back is one person.
            size = len(used[key].union(map(self._person, members)))
            allowed = self._allowed(self.limits.max_team_loss, size)
            total = len(used[key] | planned[key])
            if size >= SMALLEST_TEAM and total > allowed:
                over.append(
                    (
                        "max_team_loss",
                        allowed,
                        total,
                        f"the team {names[key]} would lose {total} of {count(size, 'member')}; "
                        f"{self._allowed_words(self.limits.max_team_loss, size)}",
                    )
                )
        return over[:1]

    def _person(self, keeper_id: str) -> str:
        """Return the key by which operations name the person of an account."""
        account = self.snapshot.accounts.get(keeper_id)
        return (account.jumpcloud_id if account else "") or keeper_id

    def _passing_a_hold(
        self, op: Operation, suspended_pass: bool, *, unlocks_pass: bool, new_accounts_pass: bool
    ) -> tuple[list[Operation], list[Operation]]:
        """Divide an operation into the part that passes a hold of the whole plan, and the rest."""
        if op.rule is Rule.UNDONE:
            return [op], []  # what Keeper gave to the wrong account rests on no read that may be in doubt
        if _is_suspension(op) and (suspended_pass or not self._counted_lock(op)):
            return [op], []
        account = self.snapshot.accounts.get(op.subject.keeper_id)
        locked = account is not None and (account.locked_by_us or may_be_locked(self.snapshot, account))
        unlock = op.kind is Kind.REACTIVATE_USER and locked and (unlocks_pass or not self._counted_unlock(op))
        anew = self._returns_anew(op) and (new_accounts_pass or not self._counted_creation(op))
        if unlock or anew:
            main, part = op.divided(op.add, op.remove)
            return [main] if main else [], [part] if part else []
        return [], [op]

    def _returns_anew(self, op: Operation) -> bool:
        """Whether a new account lets somebody in again whose account is gone since our lock, as an invitation is."""
        return op.kind is Kind.CREATE_USER and op.rule is Rule.RETURNED and op.subject.key in self._locked_and_gone

    @cached_property
    def _locked_and_gone(self) -> frozenset[str]:
        mine = (a for a in self.snapshot.accounts.values() if a.managed and a.gone and a.locked_by_us)
        return frozenset(account.jumpcloud_id for account in mine)

    def _suspended_alone_within(self, operations: Sequence[Operation]) -> bool:
        suspensions = (op for op in operations if _is_suspension(op) and self._counted_lock(op))
        suspended = {op.subject.key for op in suspensions} - set(self.covered)
        used = self._changed(Kind.DEACTIVATE_USER)
        return len(used | suspended) <= self._allowed(self.limits.max_deactivations, self.people)

    def _returning_alone_within(self, operations: Sequence[Operation]) -> bool:
        returning = {op.subject.key for op in operations if self._returns_anew(op) and self._counted_creation(op)}
        used = self._changed(Kind.CREATE_USER)
        return len(used | returning) <= self._allowed(self.limits.max_creations, self.people)

    # -- giving -----------------------------------------------------------------------------------------------------

    def _granted(self, op: Operation, at: datetime | None = None) -> list[TeamRef]:
        """List the teams that `max_grants` counts, of what was sent `at` a time as of then. A role takes effect at
        once, so it always counts."""
        new = op.add if op.kind is Kind.CREATE_USER else [t for t in op.add if self._is_new(t, at)]
        return [team for team in op.add if team not in new or self._is_role(team)]

    def _is_new(self, team: TeamRef, at: datetime | None) -> bool:
        """Whether nothing is shared with a team yet; or was then, since it had been queued within the window."""
        known = self.snapshot.teams.get(team.keeper_id)
        queued_at = known.queued_at if known is not None else None
        then = at is not None and queued_at is not None and timedelta() <= at - queued_at <= self.limits.window
        return then or place(team) in self.new_teams

    def _is_role(self, team: TeamRef) -> bool:
        """Decide by the name of the group and of the team: a new name of the group does not end the role."""
        known = self.snapshot.teams.get(team.keeper_id)
        return self.team_policy.is_role(team.name) or (known is not None and self.team_policy.is_role(known.name))

    def _unlock_limit(self, operations: Sequence[Operation]) -> list[_Over]:
        """Return the limit on unlocks if this plan is over it."""
        if self.first:
            return []
        unlocked = {op.subject.key for op in operations if self._counted_unlock(op)}
        used = self._changed(Kind.REACTIVATE_USER)
        return self._over("max_reactivations", self.limits.max_reactivations, used, unlocked, "would be unlocked")

    def _hold_by(self, over: list[_Over], held: list[Operation]) -> None:
        for limit, allowed, planned, reason in over:
            self._hold(limit, held, allowed, planned, reason)

    def _giving_limits(self, operations: list[Operation], unlocks: list[_Over]) -> list[Operation]:
        """Return the operations that may go. Over a limit on giving, all of that kind of giving waits, and only that.

        As in a hold of the whole plan, whoever our lock keeps out does not wait for newcomers.
        """
        if self.first:
            return operations
        if unlocks:
            self._hold_by(unlocks, [op for op in operations if self._counted_unlock(op)])
            operations = [op for op in operations if not self._counted_unlock(op)]
        creations, grants = self._over_in_giving(operations)
        returning_pass = self._returning_alone_within(operations)
        passing: list[Operation] = []
        held_creations: list[Operation] = []
        held_grants: list[Operation] = []
        for op in operations:
            if creations and self._counted_creation(op) and not (returning_pass and self._returns_anew(op)):
                held_creations.append(op)
                continue
            main, part = op.divided(self._granted(op) if grants else (), ())
            if main is not None:
                passing.append(main)
            if part is not None:
                held_grants.append(part)
        self._hold_by(creations, held_creations)
        self._hold_by(grants, held_grants)
        return passing

    def _over_in_giving(self, operations: Sequence[Operation]) -> tuple[list[_Over], list[_Over]]:
        """Return the limits on creations and on grants that this plan is over."""
        if self.first:
            return [], []
        joining = {op.subject.key for op in operations if self._counted_creation(op)}
        used = self._changed(Kind.CREATE_USER)
        creations = self._over(
            "max_creations", self.limits.max_creations, used, joining, "would be created (invitations and licences)"
        )
        gaining = {op.subject.key for op in operations if self._granted(op)}
        used = {p.operation.subject.key for p in self.past if p.counts and self._granted(p.operation, p.at)}
        grants = self._over("max_grants", self.limits.max_grants, used, gaining, "would be added to an existing team")
        return creations, grants


_WAITING = {
    "teams.review": "new members of these teams, and new names that would end that, wait for a person (teams.review)",
    "adopted_teams": "the first plan that a person agreed to left out these existing Keeper teams; they are taken over "
    "by their names, and members are given what is shared with them, once a person has agreed",
    "delete_team": "a team is only ever deleted when a person has agreed",
    "unsettled": "these teams were asked for before without an answer; they may wait in the Pending Queue",
    "adopted": "these people were taken over when they were out of scope already; a person agrees to their lock",
    "hidden": "JumpCloud's application lists these people, but shows no record of them; a person decides on their lock",
    "vanished": "accounts were gone from Keeper after their lock; before more are locked, a person makes sure in the "
    "Admin Console that a lock deletes nobody",
}


def _takes(op: Operation) -> bool:
    return op.kind in _TAKING or loses(op)


def loses(op: Operation) -> bool:
    """Whether somebody loses a team; what Keeper gave to the wrong account is no loss."""
    return bool(op.remove) and op.rule is not Rule.UNDONE


def _is_suspension(op: Operation) -> bool:
    return op.kind is Kind.DEACTIVATE_USER and op.rule is Rule.SUSPENDED


def _rejoined(operations: Iterable[Operation]) -> list[Operation]:
    """Parts of one person's operation that all go are one request again. An undo is one by itself: it waits for no read
    that bears the others out."""
    mine: dict[str, Operation] = {}
    rest: list[Operation] = []
    for op in operations:
        if op.subject.type != "user" or op.rule is Rule.UNDONE:
            rest.append(op)
        elif op.subject.key not in mine:
            mine[op.subject.key] = op
        elif op.kind is Kind.UPDATE_USER:
            mine[op.subject.key] = mine[op.subject.key].joined(op)
        else:
            mine[op.subject.key] = op.joined(mine[op.subject.key])
    return [*rest, *mine.values()]


def _unique(operations: Iterable[Operation]) -> list[Operation]:
    return list({id(op): op for op in operations}.values())
