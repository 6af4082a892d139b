"""The journalled executor: confirms and sends the operations of a plan, and settles what became of each.

Each operation is in the journal before it is sent, and its outcome, with what it means for the snapshot, after. What
changes access is confirmed by the worker that sends it, right before. What we believe about Keeper's dialect is tried
on one subject first.
"""

import asyncio
import functools
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from reconciler import births, log, team_births
from reconciler import keeper as scim
from reconciler.addresses import alike_key
from reconciler.canary import (
    LOOK_AGAIN,
    Canaries,
    Disagreement,
    Unasked,
    denied,
    disagreement,
    known_teams,
    replaces_untold,
    suspicious,
    takes_agreed,
)
from reconciler.confirm import Confirmation, Finding, put_off_words
from reconciler.counting import agreeing, count
from reconciler.evidence_age import GLANCE, MAX_AGE, Stamp, changing, last_moment
from reconciler.hands import Vanishing
from reconciler.match import same
from reconciler.model import (
    DISPLAY_NAME,
    EXTERNAL_ID,
    USER_NAME,
    Account,
    KeeperTeam,
    KeeperUser,
    Snapshot,
    Standing,
    Team,
    by_group,
    is_jumpcloud_id,
    normal,
)
from reconciler.plan import PHASES, Change, Kind, Notice, NoticeKind, Operation, Rule, TeamRef
from reconciler.promise import WAS_LOCKED, joined, left_node_words, state_told
from reconciler.rows import (
    DISAGREES,
    GONE,
    INVITED,
    LACKED,
    LOCKED_BEFORE,
    OVERTAKEN,
    TIME,
    UNASKED,
    UNCONFIRMED,
    VANISHED,
    State,
)
from reconciler.safety import MOST_VANISHED
from reconciler.snapshot import (
    BEHIND,
    after_team,
    after_user,
    given_up,
    gone,
    in_place_of,
    locked_before,
    superseded,
    with_places,
)
from reconciler.tasks import together

if TYPE_CHECKING:
    from reconciler.store import Store

TIME_BOX = 300.0
"""Seconds after which an apply begins nothing new that gives: what the plan was made from is too old by then."""
LATELY = timedelta(hours=1)
"""How long what was put off for time comes first: the next cycle follows at once, unless the machine is stopped."""
READ_BACK = 30.0
"""Seconds, retries included, for a look that is needed: others may wait for it, and a list of the node tells too."""
MOST_FORBIDDEN = 3
"""Subjects of one kind in a row that Keeper forbids or redirects; then the kind rests."""
NO_FAULT = frozenset({TIME, OVERTAKEN, scim.Expired.name, births.UNDO_DUE})
"""Outcomes of what was put off although nothing went wrong: the next cycle, which follows at once, decides anew."""
LOCKED = "locked"
"""The outcome of a creation that Keeper answered with the person's own account, which we had locked: the next cycle,
which follows at once, unlocks it."""
_DONE = {Kind.CREATE_USER: "created", Kind.DEACTIVATE_USER: "locked", Kind.REACTIVATE_USER: "unlocked"}
_LOOK = "look at this user or team in the Admin Console; the next cycle tries one again"
_LOOK_AT_ANSWERS = "look in the Admin Console at what Keeper answered with, which the conflicts name"
_PERHAPS_FOR_ALL = (scim.Forbidden, scim.UnknownNode, scim.Redirected)
"""The refusals that may be about one subject or about everything: a harmless read tells."""
_TAKING = frozenset({Kind.DEACTIVATE_USER, Kind.DELETE_TEAM})


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one operation: its state in the journal, with a machine's word and a person's."""

    operation: Operation
    state: State
    outcome: str = ""
    error: str = ""


@dataclass(slots=True)
class Applied:
    """What became of all operations, by journal id, and what an administrator should know besides."""

    results: dict[int, Result] = field(default_factory=dict)
    notices: list[Notice] = field(default_factory=list)
    stopped: str = ""
    stopped_kinds: dict[Kind, str] = field(default_factory=dict)
    """The kinds that Keeper does not carry out as expected, with the words for it."""

    @property
    def done(self) -> int:
        """How many operations Keeper has carried out."""
        return sum(result.state is State.DONE for result in self.results.values())

    @property
    def unfinished(self) -> bool:
        """Whether something was put off only because the time was up or somebody else was faster, or somebody who was
        created has an account that we had locked."""
        return any(
            (result.state is State.PUT_OFF and result.outcome in NO_FAULT) or result.outcome == LOCKED
            for result in self.results.values()
        )


async def apply(
    operations: Sequence[tuple[int, Operation]],
    snapshot: Snapshot,
    client: scim.Keeper,
    journal: "Store",
    *,
    clock: Callable[[], datetime],
    in_flight: int,
    confirmation: Confirmation,
    mark: int,
    agreed: Set[int] = frozenset(),
    vanished: int = 0,
    progress: Callable[[int, int], None] | None = None,
    stopping: Callable[[], str] = lambda: "",
    paused: Callable[[], str] = lambda: "",
    read_at: Stamp | None = None,
) -> Applied:
    """Send the operations, each given with its journal id; leavers first, then teams, then everybody else. What
    gives an id to a team or an account that is there, or another name to a team, goes before what makes one.

    `confirmation` reads again what each rests on. `mark` is the moment at which the snapshot was read: whoever was
    changed by another cycle since is put off. `agreed` are the operations to which a person has agreed, `vanished` is
    the number of accounts that were gone after their lock within the window (see `safety.Vanished`). The time box
    begins at `read_at`, when what the plan was made from had been read, or else now. One failed operation never stops
    the others, but for a refused token and a journal that can't be written: then whatever was not begun is put off.
    `stopping` is asked before each operation, and says why no more is begun; `paused` before each request, and says why
    not even what was begun is sent. Raises what the journal raises, once all operations in flight have ended.
    """
    began = read_at or Stamp.now(client.clock)
    with journal.hands.vanishing(vanished, MOST_VANISHED) as vanishing:
        run = _Run(
            operations,
            snapshot,
            client,
            journal,
            clock,
            in_flight,
            confirmation,
            mark,
            agreed,
            vanishing,
            progress,
            stopping,
            paused,
            began,
        )
        try:
            await run.all()
        finally:
            run.put_off_the_rest()
    return run.applied


class _NotBorn(Exception):
    """Keeper answered a creation with an account that is not new, or a queueing with such a team."""

    def __init__(self, made: KeeperUser | KeeperTeam) -> None:
        super().__init__(made.id)
        self.made = made


class _Run:
    def __init__(
        self,
        operations: Sequence[tuple[int, Operation]],
        snapshot: Snapshot,
        client: scim.Keeper,
        journal: "Store",
        clock: Callable[[], datetime],
        in_flight: int,
        confirmation: Confirmation,
        mark: int,
        agreed: Set[int],
        vanishing: Vanishing,
        progress: Callable[[int, int], None] | None,
        stopping: Callable[[], str],
        paused: Callable[[], str],
        began: Stamp,
    ) -> None:
        # What fails for the same few each time must not keep others waiting: they come last in their kind. First comes
        # what there was no time for: others that are due since then might use the time up again.
        in_trouble, late = journal.in_trouble(), journal.put_off_since(clock() - LATELY, TIME)

        def place(one: tuple[int, Operation]) -> tuple[bool, bool]:
            return one[1].subject.key in in_trouble, one[1].subject.key not in late

        self.operations = sorted(operations, key=place)
        self.client = client
        self.journal = journal
        self.clock = clock
        self.in_flight = in_flight
        self.confirmation = confirmation
        self.mark = mark
        locks = [(number, op) for number, op in operations if op.kind is Kind.DEACTIVATE_USER and number not in agreed]
        seen = journal.seen_locked() if locks else frozenset()
        # A read may still show the lock that we have just undone.
        let_in = journal.let_in_since(clock() - BEHIND) if locks else frozenset()
        self.own_locks = snapshot.own_locks
        self.locked_unseen = self.own_locks | let_in
        """Keeper ids of accounts, and keys of people, whose lock is sent whatever a look would show."""
        confirmation.doubted = journal.put_off_since(clock() - LATELY, UNCONFIRMED)
        self.cut_short: list[tuple[int, Operation]] = []
        """The locks for whose confirmation there was little time, since reads that hang must not take everybody's. They
        are tried once more after everything else."""
        self.may_delete = frozenset(number for number, op in locks if op.subject.keeper_id not in seen)
        """The locks after which an account may be gone, without anybody having agreed to that."""
        self.inventory = snapshot.inventory
        self.vanishing = vanishing
        self.probing = asyncio.Lock()
        self.probed = self.all_forbidden = False
        self.why_stopped = ""
        """Why nothing more is begun, in words about nobody."""
        self.forbidden: Counter[Kind] = Counter()  # in a row, by kind
        self.marks: dict[str, int] = {}  # by id, of what this run has changed itself
        self.progress = progress
        self.stopping = stopping
        self.paused = paused
        self.applied = Applied()
        self.began = began
        self.listed = snapshot.accounts
        self.listed_teams = snapshot.teams
        self.refused_births = snapshot.refused_births
        self.looks: dict[int, tuple[bool, KeeperUser | None]] = {}
        """By the journal id of a lock, the look at the account before it."""
        self.narrowed: dict[int, tuple[Operation, int]] = {}
        """By the journal id of an undo: all of it, and the row of what its last attempt left out."""
        self.odd = {one.keeper_id: one for one in snapshot.odd}
        self.account_of = {a.jumpcloud_id: k for k, a in snapshot.accounts.items() if a.jumpcloud_id}
        self.given_up = {k for k, a in snapshot.accounts.items() if a.standing is Standing.DISOWNED}
        teams = by_group(snapshot.teams.values())
        self.team_of = {group: team.keeper_id for group, team in teams.items() if not team.gone}
        self.canaries = Canaries(journal, clock)
        self.workers = asyncio.Semaphore(in_flight)
        self.begun: dict[int, list[Stamp]] = {}
        """By the journal id of what is on record as sent, the attempts that may have reached Keeper."""
        self.broken: Exception | None = None

    async def all(self) -> None:
        for kind, why in self.canaries.stopped.items():
            if waits := [op for _, op in self.operations if op.kind is kind and not takes_agreed(op)]:
                self._tell_stopped(waits[0], why, _LOOK_AT_ANSWERS)
        for kinds in PHASES:
            await self._all_of([(number, op) for number, op in self.operations if op.kind in kinds])
        await self._all_of(self.cut_short)

    async def _all_of(self, due: Sequence[tuple[int, Operation]]) -> None:
        # An id that is written later would hide whom a creation without an answer was linked to, and a name that is
        # free only later would be refused, or answered with the team that still has it.
        for first in (True, False):
            await together(self._in_turn(number, op) for number, op in due if _goes_first(op) is first)
            if self.broken is not None:
                raise self.broken

    async def _in_turn(self, number: int, op: Operation) -> None:
        """Carry an operation out once a worker, its subject and its kind are free; a canary goes alone in its kind.

        All are taken together or not at all, as is the place of a lock after which an account may be gone. Another run
        may hold the subject until it has its turn in the kind, so whoever waited for one and kept the other would make
        both runs wait for ever.
        """
        hands = self.journal.hands
        few = self.vanishing if number in self.may_delete else None
        while True:
            async with self.workers:
                if hands.free(op.subject.key) and self.canaries.free(op.kind) and (few is None or few.free):
                    with self.canaries.turn(op.kind) as canary, few.place() if few else nullcontext():
                        await self._taken(number, op, canary=canary)
                    return
            await hands.until_free(op.subject.key)
            await self.canaries.until_free(op.kind)
            if few is not None:
                await few.until_free()

    async def _taken(self, number: int, op: Operation, *, canary: bool) -> None:
        try:
            verdict = await self._carry_out(number, op, canary=canary)
            if not canary or self.applied.stopped or self.broken is not None:
                return
            if verdict is True:
                self.canaries.passed(op.kind)
            elif isinstance(verdict, Disagreement) and self.canaries.failed(op.kind, verdict):
                self._tell_stopped(op, str(verdict))
        except Exception as error:
            # Raised at the end: nothing more is begun, and requests under way end by themselves.
            self.broken = self.broken or error

    def _weigh(
        self,
        op: Operation,
        reply: KeeperUser | None,
        removed: Sequence[str],
        expected: Set[str],
        *,
        read: bool = False,
    ) -> None:
        """Look for an effect that nobody asked for in the answer, or in what was `read` back, where the user was not
        read before and after."""
        suspicion = suspicious(op, self._account(op), reply, removed, expected, read=read)
        if suspicion is False:
            self.canaries.clear(op.kind)
        elif suspicion:
            self._doubt(op)

    def _doubt(self, op: Operation) -> None:
        if why := self.canaries.doubt(op.kind):
            self._tell_stopped(op, why)

    def _tell_stopped(self, op: Operation, words: str, advice: str = _LOOK) -> None:
        message = f"{words}. No further {op.kind.value} is sent until this is understood: {advice}"
        self.applied.notices.append(Notice(NoticeKind.KEEPER_DISAGREES, op.subject, message))
        self.applied.stopped_kinds[op.kind] = message

    # -- one operation ----------------------------------------------------------------------------------------------

    async def _carry_out(self, number: int, op: Operation, *, canary: bool) -> bool | Disagreement:
        """True: done as asked. False: not done, or nothing can be said of the dialect."""
        concerned = _concerned(op)
        async with self.journal.hands.hold([op.subject.key]):
            verdict: bool | Disagreement = False
            if reason := self._reason_to_wait(number, op):
                self._record(number, Result(op, State.PUT_OFF, "put_off", reason))
            elif outcome := self._overtaken(concerned) or self._too_late_for(op):
                self._record(number, Result(op, State.PUT_OFF, *outcome))
            else:
                finding = await self._confirmed(number, op)
                if finding.cut:
                    self.cut_short.append((number, op))
                    return False
                if reason := self._reason_to_wait(number, op) or self._untold(op):
                    self._record(number, Result(op, State.PUT_OFF, "put_off", reason))
                elif outcome := self._overtaken(concerned) or self._too_late_for(op):
                    # The subject was held, but nobody holds an address; and the machine may have slept meanwhile.
                    self._record(number, Result(op, State.PUT_OFF, *outcome))
                elif (sent := self._begun(number, op, finding)) is not None:
                    self.marks |= dict.fromkeys(concerned, self.journal.hands.changed(concerned))
                    # What rests on nothing that was read does not keep the others waiting either.
                    stamp = finding.stamp or Stamp.now(self.client.clock)
                    moment = last_moment(stamp, functools.partial(self._overruled, concerned))
                    with moment, changing() as self.begun[number]:
                        verdict = await self._sent(number, sent, canary)
        if self.progress:
            self.progress(len(self.applied.results), len(self.operations))
        return verdict

    async def _confirmed(self, number: int, op: Operation) -> Finding:
        """Read again what an operation rests on, once more where it grew too old only since Keeper asks everybody to
        wait: another request may have been told so meanwhile. What took too long to read is not read twice."""
        # Evidence would only grow old while Keeper asks everybody to wait.
        await self.client.calm()
        if self._tells_locks(op):
            # Before the confirmation: a look that is slow must not make that grow old, again and again.
            looked, _ = self.looks[number] = await self._look(op, None, needed=False)
            if not looked:
                await self.client.calm()  # the look may be what was told to wait
        finding = await self.confirmation.of(op)
        stamp, doubt = finding.stamp, finding.doubt
        whole = doubt is not None and doubt.whole
        if stamp is None or whole or stamp.age(self.client.clock) > MAX_AGE:
            return finding
        await self.client.calm()
        return finding if stamp.age(self.client.clock) <= MAX_AGE else await self.confirmation.of(op)

    def _overtaken(self, concerned: Collection[str]) -> tuple[str, str] | None:
        """The outcome, and words for it, of an operation about what another run has changed since the snapshot."""
        words = self._changed_by_others(concerned)
        return (OVERTAKEN, f"{words}; the next cycle decides anew") if words else None

    def _changed_by_others(self, concerned: Collection[str]) -> str:
        """Words for that another run or a decision has changed any of this since the snapshot; "" where none has."""
        if any(self.journal.hands.changed_since(self.marks.get(one, self.mark), one) for one in concerned):
            words = "another run or a decision has changed this user or team, or one of the same address or name"
            return f"{words}, meanwhile"
        return ""

    def _overruled(self, concerned: Collection[str]) -> str:
        """Why what is marked as sent is not sent any more: a look may come first, and Keeper may ask to wait."""
        return self.paused() or self._changed_by_others(concerned)

    def _too_late_for(self, op: Operation) -> tuple[str, str] | None:
        """The outcome, and words for it, of an operation for which this run has no time left."""
        gives = op.kind not in _TAKING and (op.kind is not Kind.UPDATE_USER or not op.remove)
        if gives and self.began.age(self.client.clock) > TIME_BOX:
            return TIME, "the run has lasted long enough; the next one goes on"
        return None

    def _begun(self, number: int, op: Operation, finding: Finding) -> Operation | None:
        """Mark the confirmed part as sent in the journal, and put the rest off; None where nothing is to be sent."""
        doubt = finding.doubt
        sent, rest = doubt.divide(op) if doubt is not None else (op, None)
        words = put_off_words(doubt) if doubt is not None else ""
        if doubt is not None:
            self.applied.notices.append(Notice(NoticeKind.UNCONFIRMED, op.subject, words))
        if sent is None:
            self._record(number, Result(op, State.PUT_OFF, UNCONFIRMED, words))
            return None
        if reason := self._reason_to_wait(number, sent):
            # Only teams that are not queued yet are left of it.
            self._record(number, Result(op, State.PUT_OFF, "put_off", "; ".join(filter(None, (reason, words)))))
            return None
        try:
            part = self.journal.mark_sent(number, self.clock(), replace(sent, add=self._known(sent.add)), rest, words)
        except Exception as error:
            self.broken = self.broken or error
            return None
        self.begun[number] = []
        if rest is not None:
            self.applied.results[part] = Result(rest, State.PUT_OFF, UNCONFIRMED, words)
        return sent

    async def _sent(self, number: int, op: Operation, canary: bool) -> bool | Disagreement:
        try:
            return await self._send(number, op, canary)
        except scim.KeeperError as error:
            locked = op.kind is Kind.DEACTIVATE_USER and await self._locked_after_all(number, op, error)
            if isinstance(error, _PERHAPS_FOR_ALL) and not locked:
                await self._forbidden(op, error)
                if isinstance(error, scim.UnknownNode) and not self.all_forbidden:
                    error = _not_at_this_address(error)
            self._refused(number, op, error)
        except _NotBorn as error:
            await self._not_born(number, op, error.made)
            if why := self.canaries.linked(op.kind):
                self._tell_stopped(op, why, _LOOK_AT_ANSWERS)
        except Disagreement as error:
            # What was read back may be older than the change: a list of the node decides.
            outcome = UNASKED if isinstance(error, Unasked) else DISAGREES
            self._record(number, Result(op, State.UNKNOWN, outcome, str(error)))
            return error
        except Exception as error:
            # Nobody knows what became of it: it stays sent in the journal, and the next start asks Keeper.
            self.broken = self.broken or error
        return False

    def _reason_to_wait(self, number: int, op: Operation) -> str:
        if self.broken is not None or self.applied.stopped:
            return self.why_stopped or "the run has failed"
        if why := self.stopping():
            return why
        if op.kind in self.canaries.stopped and not takes_agreed(op):
            return f"no further {op.kind.value} is sent this time: {self.canaries.stopped[op.kind]}"
        if number in self.may_delete and self.vanishing.over:
            gone = "accounts were gone from Keeper after their lock"
            return f"{gone}; the next cycle holds more of these locks for a release"
        if op.subject.type == "user" and op.kind is not Kind.CREATE_USER and not op.subject.keeper_id:
            return "waits until the user is created"
        missing = [team.name for team in op.add if self._team_id(team) is None]
        if missing and op.kind is Kind.UPDATE_USER and not (op.changes or op.remove) and len(missing) == len(op.add):
            return f"waits for the team {missing[0]}, which is not queued yet"
        return ""

    def _team_id(self, team: TeamRef) -> str | None:
        return team.keeper_id or self.team_of.get(team.jumpcloud_id)

    def _known(self, teams: Sequence[TeamRef]) -> tuple[TeamRef, ...]:
        return tuple(replace(team, keeper_id=self._team_id(team) or "") for team in teams)

    async def _send(self, number: int, op: Operation, canary: bool) -> bool | Disagreement:
        if op.subject.type == "team":
            return await self._send_team(number, op, canary)
        # A team that could not be queued is made up for in the next cycle; the person must not wait for it.
        missing = tuple(team for team in op.add if self._team_id(team) is None)
        sent = replace(op, add=tuple(team for team in op.add if team not in missing))
        words = f"not added yet: {', '.join(team.name for team in missing)}" if missing else ""
        outcome, before = "done", None
        tells_locks = self._tells_locks(op)
        if tells_locks or (canary and op.kind is not Kind.CREATE_USER):
            look = self.looks.get(number)
            looked, shown = look or await self._look(sent, None, needed=False)
            if tells_locks and shown is not None and not shown.active:
                return self._locked_before(number, op)
            if tells_locks and shown is not None and self._given_since(number, op, shown):
                return False
            # What others changed in Keeper since the snapshot must not pass for an effect of this request.
            canary, before = canary and looked, shown if canary else None
        try:
            reply = await self._request(sent)
        except (scim.Refused, scim.AddressTaken) as refusal:
            done, reply, arrived = await self._in_parts(number, sent, refusal)
            refusal.subject = op.subject.name  # an administrator knows nobody by a Keeper id
            if not arrived:
                outcome, words = "already", f"so already, as far as Keeper shows: {refusal}"
            lacking = [f"without {_named(sent.changes, done.changes)}"] if done.changes != sent.changes else []
            if not _same_teams(done, sent):
                lacking.append("not all teams were changed")
                self._narrow(number, sent, replace(done, add=self._known(done.add)))
            words = f"{', and '.join(lacking)}: {refusal}" if lacking else words
            sent = done
        if op.rule is Rule.UNDONE:
            self._undone(number, sent, reply, words, outcome)
            return False
        ids = self._team_ids(sent)
        remove = [ids[team.key] for team in sent.remove]
        expected = {ids[team.key] for team in sent.add} | known_teams(self._met(sent, reply))
        if not canary:
            self._weigh(sent, reply, remove, expected)
        contrary = reply is not None and bool(denied(sent, reply, remove))
        wrong: Disagreement | None = None
        looked = False
        needed = contrary or op.kind is Kind.DEACTIVATE_USER or _unanswered(sent, reply)
        untold = not canary and replaces_untold(sent, self._account(sent), reply, remove)
        untold = untold and self.canaries.untold(op.kind)
        # An answer may repeat an unlock or a removal without any effect: the lock, or the membership, that shows later
        # would count as somebody else's.
        if canary or needed or op.kind is Kind.REACTIVATE_USER or remove or untold:
            looked, shown, wrong = await self._read_back(sent, reply, before, remove, expected, needed=needed)
            if looked and shown is None and op.kind is Kind.DEACTIVATE_USER:
                return self._vanished(number, op)
            if canary and wrong is None and before is not None:
                wrong = self._told_by_answer(sent, reply, shown, before, remove, expected)
            # Whom Keeper shows as open we have let in, whatever else it did: a lock that follows is somebody else's.
            # One that it shows after ours is ours, though a list that is behind may deny it later.
            turned = op.kind in (Kind.REACTIVATE_USER, Kind.DEACTIVATE_USER) and isinstance(wrong, Unasked)
            if wrong is not None and not (turned or op.kind is Kind.CREATE_USER):
                raise wrong
            if untold and looked:
                self._weigh(sent, shown, remove, expected, read=True)
            if canary and not looked:
                self._weigh(sent, reply, remove, expected)
            elif canary and shown is not None:
                self._tell_ignored(sent, shown)
                self._tell_not_shown(sent, shown)
            reply = _told(reply, shown)
        if op.kind is Kind.CREATE_USER:
            account = self._created(number, op, after_user(None, sent, ids, reply, self.clock()))
            outcome = LOCKED if account.locked_by_us else outcome
        else:
            account = after_user(self._account(op), sent, ids, self._told_of(sent, reply), self.clock())
        if wrong is not None:
            # It has an id, and is the person's whenever it shows.
            disagrees = UNASKED if isinstance(wrong, Unasked) else DISAGREES
            self._keep(number, Result(op, State.UNKNOWN, disagrees, str(wrong)), account)
            return wrong
        self._keep(number, Result(op, State.DONE, outcome, words), account)
        if op.kind is Kind.CREATE_USER and not takes_agreed(op):
            self.journal.forget_links([op.kind])
        return canary and looked and self.canaries.can_tell(sent, before, remove)

    async def _read_back(
        self,
        op: Operation,
        reply: KeeperUser | None,
        before: KeeperUser | None,
        removed: Sequence[str],
        expected: Set[str],
        *,
        needed: bool,
    ) -> tuple[bool, KeeperUser | None, Disagreement | None]:
        """Look at the user, again after some pauses as long as Keeper disagrees; no worker is held meanwhile."""
        pauses = iter(LOOK_AGAIN)
        while True:
            looked, shown = await self._look(op, reply, needed=needed)
            wrong = disagreement(op, shown, before, removed, expected) if looked else None
            gone = shown is None and op.kind is Kind.DEACTIVATE_USER
            pause = next(pauses, None)
            if wrong is None or gone or pause is None or isinstance(wrong, Unasked):
                return looked, shown, wrong
            await self._pause(pause)

    async def _pause(self, seconds: float) -> None:
        self.workers.release()
        try:
            await self.client.clock.sleep(seconds)
        finally:
            await self.workers.acquire()

    def _told_by_answer(
        self,
        op: Operation,
        reply: KeeperUser | None,
        shown: KeeperUser | None,
        before: KeeperUser,
        removed: Sequence[str],
        expected: Set[str],
    ) -> Disagreement | None:
        """The effect that nobody asked for in the answer to a canary whose read-back has none: that may be behind. One
        that shows anything of the change is newer than the answer, which then tells nothing."""
        doubtful = suspicious(op, self._account(op), reply, removed, expected)
        told = disagreement(op, reply, before, removed, expected) if doubtful else None
        if not isinstance(told, Unasked):
            return None
        ids = {*self._team_ids(op).values()}

        def concerned(one: KeeperUser) -> tuple[object, ...]:
            names = [one.attributes.get(change.attribute) for change in op.changes]
            return one.active, names, (one.teams or frozenset()) & ids

        if shown is None or concerned(shown) == concerned(before):
            return told
        self.canaries.misled(op.kind)
        return None

    async def _look(self, op: Operation, reply: KeeperUser | None, *, needed: bool) -> tuple[bool, KeeperUser | None]:
        """Whether the user could be read, and what was shown. Where it is `needed` to know what became of a change that
        was answered with success, a failure to look is an outcome that nobody knows."""
        limit = READ_BACK if needed else GLANCE
        try:
            async with asyncio.timeout(limit):
                shown = await self.client.user(reply.id if reply is not None else op.subject.keeper_id)
            if shown is not None and (shown.active is None or (shown.teams is None and (op.add or op.remove))):
                problem = f"Keeper's record of it cannot be read ({', '.join(shown.unreadable)})"
                raise scim.UnexpectedReply(op.subject.name, "read", problem=problem)
            self._see(shown)
            return True, shown
        except (scim.KeeperError, TimeoutError) as error:
            if not needed:
                return False, None
            # What to do about the change is said; what would help the read is not.
            why = error.fact if isinstance(error, scim.KeeperError) else f"no answer within {limit:g} s"
            problem = f"could not be read back ({why})"
            done = _DONE.get(op.kind, "changed")
            raise scim.Unanswered(op.subject.name, done, problem=problem, uncertain=True) from None

    def _team_ids(self, op: Operation) -> dict[str, str]:
        return {team.key: self._team_id(team) or "" for team in (*op.add, *op.remove)}

    async def _request(self, op: Operation) -> KeeperUser | None:
        """The one request that an operation on a user is."""
        ids = self._team_ids(op)
        add = [ids[team.key] for team in op.add]
        if op.kind is Kind.CREATE_USER:
            made = await self.client.create_user({change.attribute: change.after for change in op.changes}, add)
            known, listed = self._before(made.id)
            if not births.is_theirs(op, made, known, self.refused_births, listed=listed):
                raise _NotBorn(made)
            return made
        values = {c.attribute: c.after == "true" if c.attribute == births.ACTIVE else c.after for c in op.changes}
        remove = [ids[team.key] for team in op.remove]
        try:
            return await self.client.patch_user(op.subject.keeper_id, values, add, remove)
        except scim.NotFound as error:
            if error.uncertain or not (add or remove):
                raise
            _, shown = await self._look(op, None, needed=False)
            # With teams in the request it may be one of these that is not there, as where somebody is created.
            raise error if shown is None else _team_lacking(error) from None

    async def _in_parts(
        self, number: int, op: Operation, refusal: scim.Refused | scim.AddressTaken
    ) -> tuple[Operation, KeeperUser | None, bool]:
        """Do what Keeper takes of a refused operation: see `_without_teams`. A name or an address that it refuses must
        not keep access back: the next plan asks for it by itself. Raises the refusal where nothing is left."""
        try:
            if isinstance(refusal, scim.AddressTaken):
                raise refusal
            return await self._without_teams(number, op, refusal)
        except (scim.Refused, scim.AddressTaken) as error:
            access = _access_of(op)
            taken = isinstance(error, scim.AddressTaken) and op.kind is Kind.CREATE_USER
            if error.uncertain or taken or access in (None, op):
                raise
        assert access is not None
        self._narrow(number, op, replace(access, add=self._known(access.add)))
        try:
            return access, await self._request(access), True
        except scim.Refused as again:
            return await self._without_teams(number, access, again)

    async def _without_teams(
        self, number: int, op: Operation, refusal: scim.Refused
    ) -> tuple[Operation, KeeperUser | None, bool]:
        """What of a refused operation is done all the same, and Keeper's answer: a team that is not there (any more),
        or a membership that is as it should be already, must not stand in the way of the rest. The next plan asks for
        the teams by themselves. Besides, whether any of it was done by us: what is as it should be already was not.
        Raises the refusal where nothing is left."""
        if refusal.uncertain or not (op.add or op.remove):
            raise refusal
        shown = None if op.kind is Kind.CREATE_USER else await self.client.user(op.subject.keeper_id)
        rest = op
        self._see(shown)
        if shown is not None and shown.teams is not None:
            ids = self._team_ids(op)
            lacking = tuple(team for team in op.add if ids[team.key] not in shown.teams)
            unseen = self._unseen(op)
            left = tuple(team for team in op.remove if ids[team.key] in shown.teams or team in unseen)
            rest = replace(op, add=lacking, remove=left)
            if not (op.changes or lacking or left):
                return op, shown, False
        if rest != op:
            try:
                return op, await self._request(rest), True
            except scim.Refused as error:
                if error.uncertain:
                    raise
                refusal = error
        if op.changes:
            rest = replace(op, add=(), remove=())
            self._narrow(number, op, rest)
            return rest, await self._request(rest), True
        return await self._team_by_team(op, rest, refusal)

    def _narrow(self, number: int, op: Operation, rest: Operation) -> None:
        """Record that only the rest of an operation is sent once more, or was done. Other names and teams are asked for
        by the next plan; the former ones it knows only by what is still to be undone: all that the last attempt left
        out."""
        if op.rule is not Rule.UNDONE:
            self.journal.mark_narrowed(number, self.clock(), rest)
            return
        whole, part = self.narrowed.get(number, (op, 0))
        changes = tuple(change for change in whole.changes if change not in rest.changes)
        left = replace(whole, changes=changes, remove=tuple(team for team in whole.remove if team not in rest.remove))
        part = self.journal.mark_narrowed(number, self.clock(), rest, left, part)
        self.narrowed[number] = whole, part
        self.applied.results[part] = Result(left, State.PUT_OFF, births.UNDO_DUE, births.UNDO_WORDS)

    def _unseen(self, op: Operation) -> set[TeamRef]:
        """The teams to be taken away of which Keeper has never shown a place: it waits, or a link has added it."""
        account = self._account(op)
        if op.rule is Rule.UNDONE:
            return {team for team in op.remove if account is None or team.keeper_id not in account.memberships}
        return {team for team in op.remove if account is not None and account.waits(self._team_id(team) or "")}

    async def _team_by_team(
        self, op: Operation, rest: Operation, refusal: scim.KeeperError
    ) -> tuple[Operation, KeeperUser | None, bool]:
        """What Keeper takes of the `rest`, which is nothing but teams: each by itself, what takes away first. What of
        the operation is not in the rest is as it should be; so is what Keeper does not show and, asked for twice,
        refuses to take away. An addition that replaces the one before ends it: the lost one is not done."""
        done = replace(
            op,
            add=tuple(team for team in op.add if team not in rest.add),
            remove=tuple(team for team in op.remove if team not in rest.remove),
        )
        parts = [replace(rest, add=(), remove=(team,)) for team in rest.remove]
        parts += [replace(rest, add=(team,), remove=()) for team in rest.add]
        reply: KeeperUser | None = None
        arrived, unseen = False, self._unseen(rest)
        ids, shown = self._team_ids(rest), frozenset[TeamRef]()
        for part in parts if len(parts) > 1 or unseen else ():
            try:
                reply = await self._request(part)
            except scim.KeeperError as error:
                # What was done before is done all the same, and what may have been done is asked for again.
                refusal = refusal if refusal.uncertain else error
                if not isinstance(error, scim.Refused):
                    break
                if error.uncertain or unseen.isdisjoint(part.remove):
                    continue
            else:
                arrived = True
            done = replace(done, add=(*done.add, *part.add), remove=(*done.remove, *part.remove))
            if reply is not None and reply.teams:
                lost = {team for team in shown if ids[team.key] not in reply.teams}
                shown = frozenset(team for team in rest.add if ids[team.key] in reply.teams)
                if lost:
                    self._doubt(op)
                    done = replace(done, add=tuple(team for team in done.add if team not in lost))
                    break
        # Where nothing is certain to be our doing, the journal must not say so of what may have been: Keeper tells.
        if not arrived and (refusal.uncertain or not (done.add or done.remove)):
            raise refusal
        return done, reply, arrived

    def _tell_ignored(self, op: Operation, shown: KeeperUser) -> None:
        """An attribute that Keeper makes something else of is no failure, but nobody should have to guess. One that
        cannot be read tells nothing."""
        for change in op.changes:
            have = None if change.attribute in shown.unreadable else shown.attributes.get(change.attribute)
            if have is not None and not same(change.attribute, change.after, have):
                self._notice(op, f"Keeper took {change.attribute} {change.after}, but shows {have or 'nothing'}")

    def _tell_not_shown(self, op: Operation, shown: KeeperUser) -> None:
        """A membership that does not show yet may wait for approval."""
        ids = self._team_ids(op)
        waits = [team.name for team in op.add if shown.teams is not None and ids[team.key] not in shown.teams]
        if waits:
            words = f"added to {', '.join(waits)}, which Keeper does not show yet: it may wait for approval"
            self.applied.notices.append(Notice(NoticeKind.WAITING_FOR_APPROVAL, op.subject, words))

    def _notice(self, op: Operation, words: str) -> None:
        self.applied.notices.append(Notice(NoticeKind.KEEPER_DISAGREES, op.subject, words))

    # -- the bond ---------------------------------------------------------------------------------------------------

    def _before(self, keeper_id: str) -> tuple[Account | None, bool]:
        """The account as it was before a creation met it, and whether a list had shown it.

        A list that another run took while the creation was on its way proves nothing: only the snapshot that the plan
        was made from counts, and whoever is managed by now.
        """
        known = self.journal.account(keeper_id)
        if keeper_id in self.listed:
            return known or self.listed[keeper_id], True
        return (known if known is not None and known.managed else None), keeper_id in self.odd

    def _created(self, number: int, op: Operation, account: Account) -> Account:
        """The account of somebody who was created, with what was known of it.

        An account of ours that Keeper linked again may be locked: by us, where it was so when Keeper showed it last, or
        where our last lock had no clear answer.
        """
        known, _ = self._before(account.keeper_id)
        if known is not None:
            former = births.former_id(known, account.jumpcloud_id)
            # Of groups that the person has left while the account was not in this node it may have the teams still.
            places = {**known.memberships, **account.memberships}
            account = replace(account, former_external_id=former, protected_as=known.protected_as, memberships=places)
        doubtful = {t: replace(m, asked_at=None) for t, m in account.memberships.items() if m.waiting}
        if doubtful and (known is not None or self.journal.may_be_there(op.subject.key, number)):
            # An account that Keeper linked, rather than made, may not have been given the teams of the request.
            account = replace(account, memberships={**account.memberships, **doubtful})
        ours = (known is not None and known.locked_by_us) or account.keeper_id in self.own_locks
        return replace(account, locked_by_us=not account.active and ours)

    def _undone(self, number: int, op: Operation, reply: KeeperUser | None, words: str, outcome: str) -> None:
        if births.still_linked(op, reply):
            raise _still_linked(op)
        account = self._account(op)
        accounts = [] if account is None else [births.undone(account, op, self._told_of(op, reply))]
        self._record(number, Result(op, State.DONE, outcome, words), accounts=accounts)

    def _told_of(self, op: Operation, reply: KeeperUser | None) -> KeeperUser | None:
        """The answer to a change as it is recorded: while a creation of somebody else is on its way, which Keeper may
        have linked to this account, only what was asked for. The rest is what has to be given back then."""
        account = self._account(op)
        if reply is None or account is None:
            return reply
        asked = {change.attribute for change in op.changes}
        told = {name: v for name, v in reply.attributes.items() if name in asked or v == account.shown.get(name, "")}
        if told == reply.attributes or not self.journal.open_births() - {op.subject.jumpcloud_id}:
            return reply
        return replace(reply, attributes=told)

    def _link(
        self, op: Operation, made: KeeperUser | KeeperTeam
    ) -> tuple[Callable[[bool | None], str], Operation | None]:
        """Words for a creation that Keeper answered with what is not new, by whether the link is undone (see
        `births.refused_words`), and the operation that undoes it."""
        if isinstance(made, KeeperTeam):
            team, _ = self._team_before(made.id)
            name = team.name if team else made.attributes.get(DISPLAY_NAME, "") or made.id
            words = team_births.refused_words(op.subject.name, name, team.jumpcloud_id if team else "")
            undo = team_births.undoing(op, made, team)
            return functools.partial(team_births.link_words, words, undo), undo
        known, _ = self._before(made.id)
        sent = replace(op, add=self._known(op.add))
        mine = [one for _, one in self.operations if one.subject.keeper_id == made.id]
        theirs = frozenset(filter(None, (self._team_id(team) for one in mine for team in one.add)))
        other, managed = made.attributes.get(USER_NAME, "") or made.id, known is not None and known.managed
        asked = births.wanted_address(op)
        # Another creation of this run may have been linked to it before this one.
        known = known and births.own(known, self.journal.refused_births())
        changes = [change for one in mine for change in one.changes]
        undo = births.undoing(sent, made, known, theirs, changes, self.odd.get(made.id))
        return lambda undone: births.refused_words(asked, other, managed=managed, undone=undone), undo

    async def _not_born(self, number: int, op: Operation, made: KeeperUser | KeeperTeam) -> None:
        """Record a creation that Keeper linked to another account or team as failed, and undo the link at once."""
        words, undo = self._link(op, made)
        hands = self.journal.hands
        # Whoever holds one subject must not wait for another: if that is in somebody's hand, the next cycle undoes it.
        now = undo is not None and hands.free(undo.subject.key)
        async with hands.hold([undo.subject.key] if undo is not None and now else []):
            try:
                part = self.journal.record_refused(number, self.clock(), words(None), made.id, undo, sent=now)
            except Exception as error:
                self.broken = self.broken or error
                self.applied.notices.append(Notice(NoticeKind.CONFLICT, op.subject, words(undo is None)))
                return
            self._tell(number, Result(op, State.FAILED, births.LINKED, words(None if now else undo is None)))
            if undo is not None and now:
                ids = (undo.subject.jumpcloud_id, undo.subject.keeper_id)
                self.marks |= dict.fromkeys(ids, hands.changed(ids))
                # It rests on nothing in JumpCloud: no evidence grows old.
                moment = last_moment(Stamp.now(self.client.clock), self.paused)
                with moment, changing() as self.begun[part]:
                    await self._sent(part, undo, canary=False)
            elif undo is not None:
                self._tell(part, Result(undo, State.PUT_OFF, births.UNDO_DUE, births.UNDO_WORDS))
        result = self.applied.results.get(part) if undo is not None else None
        told = words(undo is None or (result is not None and result.state is State.DONE and part not in self.narrowed))
        self.applied.results[number] = Result(op, State.FAILED, births.LINKED, told)
        self.applied.notices.append(Notice(NoticeKind.CONFLICT, op.subject, told))

    def _untold(self, op: Operation) -> str:
        """Why what became of a creation that another run has sent has to be told first; "" if it need not."""
        if op.subject.keeper_id and not self._on_record(op):
            return "another run has sent the creation of this user or team; what became of that is told first"
        taken = {change.before for change in op.changes if change.attribute == EXTERNAL_ID} - {""}
        if taken and not taken.isdisjoint(self.journal.open_births() | self._linked_meanwhile()):
            # The id alone shows that link, with the names, the teams and the lock that are to be given back.
            return (
                "Keeper has linked, or may have linked, a creation to this user or team meanwhile; that is undone first"
            )
        return ""

    def _linked_meanwhile(self) -> set[str]:
        """The ids of those whose creation was linked to another account since the plan was made, and not undone yet."""
        refused = self.journal.refused_births()
        return {one for one, birth in refused.items() if birth.undo is not None and one not in self.refused_births}

    def _on_record(self, op: Operation) -> bool:
        """Whether the state file has the account or team. It has none that may be of a creation without an outcome."""
        there = self.journal.account if op.subject.type == "user" else self.journal.team
        return there(op.subject.keeper_id) is not None

    def _met(self, op: Operation, reply: KeeperUser | None) -> Account | None:
        """The account as it was before the request; of a creation, the one that answered it, if that was there."""
        if op.kind is Kind.CREATE_USER:
            return self._before(reply.id)[0] if reply is not None else None
        return self._account(op)

    def _account(self, op: Operation) -> Account | None:
        return self.journal.account(op.subject.keeper_id) if op.subject.keeper_id else None

    def _keep(self, number: int, result: Result, account: Account) -> None:
        former = self.account_of.get(account.jumpcloud_id) if account.jumpcloud_id else None
        other = self.journal.account(former) if former and former != account.keeper_id else None
        left = [superseded(other, self.clock())] if other is not None else []
        account = in_place_of(account, other) if other is not None else account
        if other is not None and other.standing is Standing.DISOWNED and former not in self.given_up:
            # A person gave them up while their creation was on its way.
            account = given_up(account)
        self._record(number, result, accounts=[account, *left])

    def _see(self, shown: KeeperUser | None) -> None:
        """Keep which memberships do not wait any more, by a look: a request may take them away, whatever is recorded of
        it, and then no list ever shows them."""
        account = self.journal.account(shown.id) if shown is not None else None
        if account is not None and (seen := with_places(account, shown)) != account:
            self.journal.put(accounts=[seen])

    def _tells_locks(self, op: Operation) -> bool:
        """Whether the account is looked at before its lock: one that shows then is somebody else's, since none of ours
        may be on it."""
        if op.kind is not Kind.DEACTIVATE_USER or {op.subject.key, op.subject.keeper_id} & self.locked_unseen:
            return False
        account = self._account(op)
        return account is not None and not account.locked_by_us

    def _locked_before(self, number: int, op: Operation) -> bool:
        """Record that no lock is needed. It is not ours, so that the person's return does not undo it."""
        account = self._account(op)
        accounts = [] if account is None else [locked_before(account)]
        self._record(number, Result(op, State.DONE, LOCKED_BEFORE, WAS_LOCKED), accounts=accounts)
        self.applied.notices.append(Notice(NoticeKind.LOCKED_IN_KEEPER, op.subject, f"{WAS_LOCKED} ({op.reason})"))
        return False

    def _given_since(self, number: int, op: Operation, shown: KeeperUser) -> bool:
        """Whether the account carries another JumpCloud id than the last list showed; then it may be somebody else's by
        now, and is not locked before the next plan has seen that."""
        account, now = self._account(op), shown.attributes.get(EXTERNAL_ID, "")
        if account is None or now in (account.jumpcloud_id, account.shown.get(EXTERNAL_ID)) or not is_jumpcloud_id(now):
            return False
        words = f"its JumpCloud id in Keeper is {now} since the last list; the next cycle decides anew"
        read = {name: value for name, value in shown.attributes.items() if name not in shown.unreadable}
        # What was there before a creation that Keeper may have linked to it has to be given back.
        seen = [] if now in self.journal.open_births() else [replace(account, shown={**account.shown, **read})]
        self._record(number, Result(op, State.PUT_OFF, OVERTAKEN, words), accounts=seen)
        return True

    async def _locked_after_all(self, number: int, op: Operation, error: scim.KeeperError) -> bool:
        """Look at an account whose lock Keeper refused, or did not answer; returns whether one that was open before is
        locked after a refusal. That is then no clear answer, else the lock would count as somebody else's. An account
        that is gone counts among those that a lock may have removed, also where Keeper answers that it lacks what it
        has just shown. A list tells what became of either."""
        _, before = self.looks.get(number, (False, None))
        error.uncertain = error.uncertain or (isinstance(error, scim.NotFound) and before is not None)
        refused = isinstance(error, scim.Refused | scim.Forbidden) and not error.uncertain
        if not (refused or (error.uncertain and number in self.may_delete)):
            return False
        looked, shown = await self._look(op, None, needed=False)
        gone = looked and shown is None
        locked = refused and before is not None and shown is not None and not shown.active
        self.vanishing.gone += gone and number in self.may_delete
        error.uncertain = error.uncertain or gone or locked
        return locked

    def _vanished(self, number: int, op: Operation) -> bool:
        """Record that an account is gone after Keeper took its lock.

        An invitation is withdrawn so. If it was a member, a lock deletes or moves people, and no more are sent.
        """
        account = self._account(op)
        member = joined(self.inventory, op.subject.name, self.clock())
        member = True if self.journal.seen_locked(op.subject.keeper_id) else member
        if member:
            self.canaries.failed(
                op.kind, Unasked(f"it looks as if the lock of {op.subject.name} removed a member from Keeper")
            )
            self._tell_stopped(op, self.canaries.stopped[op.kind])
        elif member is None:
            self.vanishing.gone += 1
        outcome = {True: VANISHED, False: INVITED, None: GONE}[member]
        result = Result(op, State.DONE, outcome, left_node_words(member))
        self._record(number, result, accounts=[gone(account, self.clock())] if account is not None else [])
        return False

    async def _send_team(self, number: int, op: Operation, canary: bool) -> bool:
        reply: KeeperTeam | None
        if op.kind is Kind.DELETE_TEAM:
            shown = await self.client.team(op.subject.keeper_id)
            if shown is not None and shown.members is None:
                raise scim.Refused(
                    op.subject.name,
                    "deleted",
                    problem="Keeper's record of the members cannot be read, and others than ours may be in the team",
                    advice="Look at the team in the Admin Console (Admin > Teams).",
                )
            others = [m for m in shown.members or () if not self._may_lose(m, op.subject.keeper_id)] if shown else []
            if others:
                people = f"{count(len(others), 'person')} whose place in it is not ours to take"
                raise scim.Refused(
                    op.subject.name,
                    "deleted",
                    problem=f"{people} {agreeing(len(others), 'is')} in the team",
                    advice="Take them out in the Admin Console, or keep the team (teams.out_of_scope).",
                )
            await self.client.delete_team(op.subject.keeper_id)
            await self._see_it_gone(op)
            self._record(number, Result(op, State.DONE, "done"), drop_teams=[op.subject.keeper_id])
            return True
        values = {change.attribute: change.after for change in op.changes}
        before: KeeperTeam | None = None
        if op.kind is Kind.QUEUE_TEAM:
            reply = await self.client.queue_team(values["displayName"], values["externalId"])
            known, listed = self._team_before(reply.id)
            if not team_births.is_theirs(op.subject.jumpcloud_id, reply, known, listed=listed):
                raise _NotBorn(reply)
            team = after_team(None, op, reply, self.clock())
            if known is not None:
                # The group has it again. It is no new team: what was shared with it is so still.
                team = replace(team, queued_at=known.queued_at)
        else:
            if canary and op.rule is not Rule.UNDONE:
                _, before = await self._glance(op.subject.keeper_id)
            reply = await self.client.patch_team(op.subject.keeper_id, values)
            row = self.journal.team(op.subject.keeper_id)
            if op.rule is Rule.UNDONE:
                if births.still_linked(op, reply):
                    raise _still_linked(op)
                teams = [] if row is None else [after_team(row, op, reply, self.clock())]
                self._record(number, Result(op, State.DONE, "done"), teams=teams)
                return False
            team = after_team(row, op, reply, self.clock())
        if canary:
            await self._look_at_team(op, team.keeper_id, values.get(DISPLAY_NAME, ""), before)
        # The row of a team that is gone stays: should it show again, whoever leaves the group is taken out of both.
        self.team_of[team.jumpcloud_id] = team.keeper_id
        self._record(number, Result(op, State.DONE, "done"), teams=[team])
        self.journal.forget_links([op.kind])
        # A team without members could lose none: the next one tells.
        return op.kind is Kind.QUEUE_TEAM or bool(before is not None and before.members)

    async def _glance(self, keeper_id: str) -> tuple[bool, KeeperTeam | None]:
        """Whether the team could be read, and what was shown."""
        try:
            async with asyncio.timeout(GLANCE):
                return True, await self.client.team(keeper_id)
        except (scim.KeeperError, TimeoutError):
            return False, None

    async def _see_it_gone(self, op: Operation) -> None:
        """Look whether a team was deleted, again after some pauses as long as Keeper shows it."""
        for pause in (*LOOK_AGAIN, None):
            _, shown = await self._glance(op.subject.keeper_id)
            if shown is None:
                return
            if pause is not None:
                await self._pause(pause)
        raise Disagreement(f"Keeper took the deletion of the team {op.subject.name}, but shows it")

    async def _look_at_team(self, op: Operation, keeper_id: str, name: str, before: KeeperTeam | None) -> None:
        """A team that does not show yet may be queued, so what is seen is told and never a failure; but nobody asked
        for the loss of members."""
        looked, shown = await self._glance(keeper_id)
        if not looked:
            return
        if shown is None:
            words = "asked for, and not shown by Keeper yet: it may wait in the Pending Queue"
            self.applied.notices.append(Notice(NoticeKind.WAITING_FOR_APPROVAL, op.subject, words))
            return
        members = before.members if before is not None and shown.members is not None else None
        if lost := (members or frozenset()) - (shown.members or frozenset()):
            raise Unasked(f"{op.kind.value} took {count(len(lost), 'member')} out of the team {op.subject.name}")
        if name and not same(DISPLAY_NAME, name, shown.attributes.get(DISPLAY_NAME, "")):
            have = shown.attributes.get(DISPLAY_NAME) or "nothing"
            self._notice(op, f"Keeper took the name {name}, but shows {have}")

    def _team_before(self, keeper_id: str) -> tuple[Team | None, bool]:
        """The team as it was before a queueing met it, None where it has no row; and whether a list had shown a record
        of it that is no row. What counts is as for accounts, see `_before`."""
        known = self.journal.team(keeper_id)
        if keeper_id not in self.listed_teams and not (known is not None and known.managed):
            return None, keeper_id in self.odd
        return known or self.listed_teams[keeper_id], keeper_id in self.odd

    def _may_lose(self, keeper_id: str, team_id: str) -> bool:
        """Whether somebody may lose a place in a team that is deleted: as in the plan, only who is ours and locked, and
        whom we had put there. Whoever was put there since by hand is not known to the snapshot."""
        account = self.journal.account(keeper_id)
        place = account.memberships.get(team_id) if account is not None and account.managed else None
        return account is not None and place is not None and place.ours and not account.active

    async def _forbidden(self, op: Operation, error: scim.KeeperError) -> None:
        """Find out whether Keeper forbids, misses or redirects this subject only, or everything: then nothing more is
        sent."""
        async with self.probing:  # whoever is refused meanwhile waits for the answer
            if not self.probed:
                self.probed = True
                try:
                    await self.client.probe()
                except scim.KeeperError as refusal:
                    if isinstance(refusal, _PERHAPS_FOR_ALL):
                        self.all_forbidden = True
                        self._stop(error)
        self.forbidden[op.kind] += 1
        if self.forbidden[op.kind] >= MOST_FORBIDDEN:
            does = "redirects" if isinstance(error, scim.Redirected) else "forbids"
            words = f"Keeper {does} it for {MOST_FORBIDDEN} users or teams in a row"
            self.canaries.stopped.setdefault(op.kind, words)

    # -- what went wrong --------------------------------------------------------------------------------------------

    def _stop(self, error: scim.KeeperError) -> None:
        """Begin nothing more: everything would fail as this did. What to do about it is told once, with the first."""
        if not self.applied.stopped:
            self.applied.stopped = str(error)
            self.why_stopped = f"not begun any more: {error.problem}"

    def _refused(self, number: int, op: Operation, error: scim.KeeperError) -> None:
        # An administrator knows nobody by a Keeper id.
        error.subject = op.subject.name if op.subject.type == "user" else f"The team “{op.subject.name}”"
        if error.stops_apply:
            self._stop(error)
        if isinstance(error, scim.SeatsExceeded):
            self.canaries.stopped[Kind.CREATE_USER] = "all licensed seats are in use"
            self.applied.notices.append(Notice(NoticeKind.NO_LICENCE, op.subject, str(error)))
        elif isinstance(error, scim.AddressTaken):
            self.applied.notices.append(Notice(NoticeKind.ELSEWHERE, op.subject, str(error)))
        # Whether a leaver is really not there is told by a list of the node, not by one 404.
        doubtful = error.uncertain or (isinstance(error, scim.NotFound) and op.kind is Kind.DEACTIVATE_USER)
        # Where the service as a whole refuses or is not there, nobody is at fault: no pause may follow for the person.
        nobodys = error.stops_apply or isinstance(error, scim.Unavailable | scim.Throttled | scim.Expired)
        nobodys = nobodys or (isinstance(error, _PERHAPS_FOR_ALL) and self.all_forbidden)
        state = State.UNKNOWN if doubtful else State.PUT_OFF if nobodys else State.FAILED
        name = error.name
        if error.uncertain and self.looks.get(number) == (True, None):
            name = LACKED
        elif error.uncertain and isinstance(error, scim.NotFound):
            # A 404 after an attempt without an answer does not say that the account was gone before.
            name = scim.Unanswered.name
        if isinstance(error, scim.Expired) and self.paused():
            name = "put_off"  # the next cycle does not make up for it
        self._record(number, Result(op, state, name, str(error)))

    def _record(
        self,
        number: int,
        result: Result,
        *,
        accounts: Sequence[Account] = (),
        teams: Sequence[Team] = (),
        drop_teams: Sequence[str] = (),
    ) -> None:
        # Before its first request an operation was looked at, or had to wait: then it was not sent after all.
        nothing_done = result.state in (State.PUT_OFF, State.FAILED) or result.outcome == LOCKED_BEFORE
        try:
            self.journal.record(
                number,
                result.state,
                self.clock(),
                result.outcome,
                result.error,
                sent=bool(self.begun.get(number)) or not nothing_done,
                accounts=accounts,
                teams=teams,
                drop_teams=drop_teams,
            )
        except Exception as error:
            self.broken = self.broken or error
            return
        self._tell(number, result)

    def _tell(self, number: int, result: Result) -> None:
        log.operation(result)
        self.applied.results[number] = result
        if result.state is State.DONE:
            self.forbidden[result.operation.kind] = 0

    def put_off_the_rest(self) -> None:
        """Whatever was not begun is on record as put off, where the journal can still be written."""
        for number, op in self.operations:
            if number not in self.applied.results and number not in self.begun and self.broken is None:
                self._record(number, Result(op, State.PUT_OFF, "put_off", self.why_stopped or "the apply was stopped"))


def _goes_first(op: Operation) -> bool:
    """Whether an operation gives an id to an account or team that is there, or another name to a team."""
    makes = op.kind in (Kind.CREATE_USER, Kind.QUEUE_TEAM)
    renames = op.kind is Kind.RENAME_TEAM
    return renames or (not makes and any(change.attribute == EXTERNAL_ID for change in op.changes))


def _concerned(op: Operation) -> tuple[str, ...]:
    """List what an operation changes, for `Hands`: its subject by its ids, and the address or name under which it gives
    somebody an account or a group a team. To Keeper that is one thing, whoever asks for it. So is the id that it takes
    from an account: a creation of that person, not answered yet, may have written it there."""
    changed = {change.attribute: change.after for change in op.changes}
    taken = (change.before for change in op.changes if change.attribute == EXTERNAL_ID)
    ids = (op.subject.jumpcloud_id, op.subject.keeper_id, *taken)
    if op.subject.type == "team":
        return (*ids, normal(changed.get(DISPLAY_NAME, "")))
    return (*ids, alike_key(births.wanted_address(op)) if changed.keys() & {USER_NAME, EXTERNAL_ID} else "")


def _access_of(op: Operation) -> Operation | None:
    """The operation without names: what it is for, and whose the account is. None where it is about names alone. Of a
    creation the teams are left out too: Keeper has refused it without them."""
    kept = {births.ACTIVE, EXTERNAL_ID, *((USER_NAME,) if op.kind is Kind.CREATE_USER else ())}
    changes = tuple(change for change in op.changes if change.attribute in kept)
    part = replace(op, changes=changes, add=() if op.kind is Kind.CREATE_USER else op.add)
    return part if changes or part.add or part.remove else None


def _named(wanted: Sequence[Change], done: Sequence[Change]) -> str:
    return ", ".join(change.attribute for change in wanted if change not in done)


def _unanswered(op: Operation, reply: KeeperUser | None) -> bool:
    """Whether the answer does not show what became of an access that was to be given back or taken away."""
    if op.kind is Kind.REACTIVATE_USER and (reply is None or reply.active is None):
        return True
    return bool(op.remove) and (reply is None or reply.teams is None)


def _not_at_this_address(error: scim.UnknownNode) -> scim.Refused:
    return scim.Refused(
        error.subject,
        error.done,
        problem="Keeper knows nothing at the address that this was sent to, though it knows the node",
        advice="Look for a firewall or proxy that refuses such requests; it is tried again.",
        status=error.status,
        detail=error.detail,
    )


def _team_lacking(error: scim.NotFound) -> scim.Refused:
    return scim.Refused(
        error.subject,
        error.done,
        problem="Keeper lacks one of the teams, though it has the user",
        advice="The teams must be of the same node, and not rejected in the Pending Queue. It is tried again.",
        status=error.status,
        detail=error.detail,
    )


def _still_linked(undo: Operation) -> scim.Refused:
    who, where = ("user", "Users") if undo.subject.type == "user" else ("team", "Teams")
    whose = "person" if who == "user" else "group"
    return scim.Refused(
        undo.subject.name,
        f"separated from another {whose}'s creation",
        problem="Keeper took the change, but still shows what that creation has left there",
        advice=f"Look at the {who} in the Admin Console (Admin > {where}); it is tried again.",
    )


def _same_teams(one: Operation, other: Operation) -> bool:
    return {*one.add} == {*other.add} and {*one.remove} == {*other.remove}


def _told(reply: KeeperUser | None, shown: KeeperUser | None) -> KeeperUser | None:
    """What Keeper made of a request: as it was read back, but for the attributes that the answer itself showed. What is
    other by then was changed by somebody else, and shows as drift."""
    if reply is None or shown is None:
        return shown or reply
    return replace(shown, attributes={**shown.attributes, **{a: v for a, v in reply.attributes.items() if v}})


def counts(results: Mapping[int, Result]) -> dict[str, int]:
    """The number of operations by state, as a report tells it."""
    return dict(Counter(state_told(result.state.value, result.error) for result in results.values()))
