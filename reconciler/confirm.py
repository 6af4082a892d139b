"""The confirming reads: what changes access is read singly right before it is sent.

Nobody loses anything because they are *missing* from a list, and nobody is given anything because a list is stale.
Where the single read disagrees or fails, that part is put off and reported; everything else goes on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from reconciler import addresses
from reconciler.births import tying_address
from reconciler.counting import agreeing
from reconciler.evidence_age import GLANCE, Stamp, oldest, others_wait, reading
from reconciler.jumpcloud import JumpCloud, JumpCloudError, Paths, bearable
from reconciler.jumpcloud_replies import Unavailable
from reconciler.model import EXTERNAL_ID, Status, Team, User, typed_for
from reconciler.pace import Clock
from reconciler.pairs import tied_to
from reconciler.person import people_at
from reconciler.plan import Kind, Notice, NoticeKind, Operation, Rule, Subject, TeamRef
from reconciler.safety import Judged, divided, place
from reconciler.tasks import siblings, together

MOST_IN_DRY_RUN = 100
"""Operations that a dry run confirms at most."""
SEARCHED = 99
"""Creations, new addresses and additions that share one search: JumpCloud answers at most 100 rows a page."""
FEW = 10
"""Up to so many of them, each is confirmed by the person's own record."""
SEARCH_LASTS = 20.0
"""Seconds for which a read serves that others share or that others follow: the rest of the age that evidence may have
is for sending."""

LOST = 100.0
"""Seconds that reads without an answer may take in one run. Then leavers who were in doubt before get a glance only."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """The part of an operation that was not confirmed, and why: the operation as a `whole`, or these team changes."""

    whole: bool
    words: str
    add: tuple[TeamRef, ...] = ()
    remove: tuple[TeamRef, ...] = ()

    def divide(self, op: Operation) -> tuple[Operation | None, Operation | None]:
        """The part that may go, and the part that is put off."""
        return (None, op) if self.whole else op.divided(self.add, self.remove)


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of the confirming reads of one operation, and when they began. No stamp: what is left of it rests on
    nothing that was read. `cut`: they had little time, and have all that they need once everything else is done."""

    stamp: Stamp | None = None
    doubt: Doubt | None = None
    cut: bool = False


NOTHING_TO_READ = Finding()
_FAILED = "the confirming read failed"
_IN_USE = "somebody in scope has this address when it is looked for alone"
_OTHER_ADDRESS = (
    "in scope by the lists, but the own record, read again, has another address: not tied to the account of this one"
)
_NOT_NAMED = "the own record, read again, has another address than the one that was named: not unlocked"
_NO_PATHS = Paths(bound=False, direct=False, groups=frozenset())
CLOCK = Clock()

T = TypeVar("T")


def locks_ghost(op: Operation) -> bool:
    """Whether an operation locks an account that is nobody's in JumpCloud."""
    return op.kind is Kind.DEACTIVATE_USER and not op.subject.jumpcloud_id


def _has_address(user: User | None, address: str) -> bool:
    """Whether the own record has this address; none is asked for where it is empty."""
    return not address or (user is not None and addresses.same(user.email, address))


def _both(one: Doubt | None, other: Doubt | None) -> Doubt | None:
    """The doubts about the teams of one operation together."""
    if one is None or other is None:
        return one or other
    words = "; ".join((other.words, one.words))
    add = tuple(dict.fromkeys((*other.add, *one.add)))
    return Doubt(False, words, add, tuple(dict.fromkeys((*other.remove, *one.remove))))


@dataclass(slots=True)
class _Once:
    """A list that is read once for all operations, as it may take longer than evidence lasts."""

    _read: frozenset[str] | JumpCloudError | None = None
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def by(self, read: Callable[[], Awaitable[frozenset[str]]]) -> frozenset[str]:
        """The ids or addresses in the list. Raises JumpCloudError."""
        async with self._reading:
            if self._read is None:
                try:
                    self._read = await read()
                except JumpCloudError as error:
                    self._read = error
        if isinstance(self._read, JumpCloudError):
            raise self._read
        return self._read


@dataclass(slots=True)
class Confirmation:
    """Confirms the operations of one plan.

    `groups` are the ids of the groups in scope, as the plan has them; `teams` stand as they did before the plan.
    `queued_lately` are the teams that were queued within the window of the limits, as `place` names them: nothing is
    shared with such a team yet, so that joining it gives no access. `given` are the ids of the people whom the plan
    creates, gives a new address or puts into a team, in the order of applying. `unlinked` says, by JumpCloud id, why
    somebody is not tied to the account that the plan has for them. `at_once` operations are confirmed, as many as
    JumpCloud is asked requests: where it is slow, evidence would grow old while others are read in between. `ghosts`
    are the addresses of the accounts to be locked that are nobody's in JumpCloud, `owners` the JumpCloud ids of those
    who have another account. `named` is the address by which a person asked for the plan of somebody. `doubted` are the
    keys of people with something that was not confirmed lately.
    """

    jumpcloud: JumpCloud
    groups: Collection[str]
    teams: Mapping[str, Team]
    queued_lately: Collection[str] = ()
    given: Sequence[str] = ()
    unlinked: Mapping[str, str] = field(default_factory=dict)
    ghosts: Sequence[str] = ()
    owners: Collection[str] = ()
    clock: Clock = CLOCK
    at_once: int = 4
    named: str = ""
    doubted: frozenset[str] = frozenset()
    _lost: float = 0.0
    _searched: dict[str, tuple[Stamp, User | None]] = field(default_factory=dict)
    _searching: asyncio.Lock = field(default_factory=asyncio.Lock)
    _refused: bool = False
    _in_use: _Once = field(default_factory=_Once)
    _bound: _Once = field(default_factory=_Once)
    _places: dict[str, int] = field(init=False)
    _readers: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._readers = asyncio.Semaphore(self.at_once)
        self._places = {user_id: place for place, user_id in enumerate(self.given)}

    def concerns(self, op: Operation) -> bool:
        """Whether an operation changes access, so that it has to be confirmed. An undo takes back what Keeper linked to
        the wrong account, which rests on nothing in JumpCloud."""
        return op.rule is not Rule.UNDONE and (
            op.kind in (Kind.DEACTIVATE_USER, Kind.REACTIVATE_USER, Kind.CREATE_USER, Kind.DELETE_TEAM)
            or bool(tying_address(op))
            or bool(op.remove)
            or bool(self._granted(op))
            or bool(self._left(op))
        )

    def takes_or_unlocks(self, op: Operation) -> bool:
        """Whether a dry run confirms an operation too."""
        return (
            op.kind is not Kind.CREATE_USER
            and self.concerns(op)
            and (op.kind is not Kind.UPDATE_USER or bool(op.remove))
        )

    async def of(self, op: Operation) -> Finding:
        """Read again what the operation rests on. Raises nothing: a read that fails is a doubt."""
        if words := self.unlinked.get(op.subject.jumpcloud_id):
            return Finding(None, Doubt(True, words))
        if not self.concerns(op):
            return NOTHING_TO_READ
        # A long list is read before a place is taken: the others go on meanwhile. That it can't be had is found below.
        with suppress(JumpCloudError), others_wait():
            if locks_ghost(op):
                await self._addresses_in_use(op.subject.name)
            elif op.kind is Kind.DEACTIVATE_USER and op.rule is Rule.DELETED:
                await self._bound.by(self.jumpcloud.users_in_scope)
        async with self._readers:
            return await self._found(op)

    async def _found(self, op: Operation) -> Finding:
        began = Stamp.now(self.clock)
        hasty = op.kind is Kind.DEACTIVATE_USER and op.subject.key in self.doubted and self._lost > LOST
        try:
            async with asyncio.timeout(GLANCE if hasty else None):
                return await self._read(op)
        except TimeoutError:
            self.doubted -= {op.subject.key}
            return Finding(began, Doubt(True, f"{_FAILED}: no answer within {GLANCE:g} s"), cut=True)
        except JumpCloudError as error:
            if isinstance(error, Unavailable) and error.status is None:
                self._lost += began.age(self.clock)
            return Finding(began, Doubt(True, f"{_FAILED}: {error}"))

    async def _read(self, op: Operation) -> Finding:
        with others_wait():
            match op.kind:
                case Kind.CREATE_USER:
                    return await self._creation(op)
                case Kind.UPDATE_USER:
                    return await self._update(op)
                case Kind.REACTIVATE_USER:
                    return await self._reactivation(op)
                case Kind.DEACTIVATE_USER if locks_ghost(op):
                    return await self._ghost(op.subject.name)
                case Kind.DEACTIVATE_USER:
                    return await self._leaver(op)
            return Finding(*await self._stamped(self._doubt(op)))

    def _granted(self, op: Operation) -> tuple[TeamRef, ...]:
        """The additions that give access at once: to teams that were there before."""
        if op.kind is Kind.CREATE_USER:
            return ()
        return tuple(team for team in op.add if place(team) not in self.queued_lately)

    def _left(self, op: Operation) -> str:
        """The id of the group that loses its team by the operation, since it is in scope no more; else ""."""
        if op.kind is Kind.DELETE_TEAM:
            return op.subject.jumpcloud_id
        if op.kind is not Kind.RENAME_TEAM or not self.teams[op.subject.keeper_id].managed:
            return ""
        former = next((change.before for change in op.changes if change.attribute == EXTERNAL_ID), "")
        return former if former not in self.groups else ""

    async def _ghost(self, address: str) -> Finding:
        """Whether an account that a person took over as nobody's is nobody's still.

        Only the whole list of users proves that, as long as it has everybody who is in scope, and to read it may take
        longer than evidence lasts. So it is read once for all of them, and right before each lock a search bears it
        out.
        """
        in_use = await self._addresses_in_use(address)
        stamp, people = await self._stamped(people_at(address, self.jumpcloud, by_search=True))
        # A leaver who has this very address, and no other account, has it rather than somebody without one.
        left = any(person.user.bound and person.user.id not in self.owners for person in people)
        words = ""
        if any(person.user.belongs for person in people):
            words = _IN_USE
        elif address in in_use and not people:
            words = "somebody has this address in JumpCloud's list, and no search finds them"
        elif "" in in_use and not left:
            words = "somebody in scope has neither a usable address in JumpCloud nor a Keeper user: it may be theirs"
        return Finding(stamp, Doubt(True, words) if words else None)

    async def _addresses_in_use(self, address: str) -> frozenset[str]:
        return await self._in_use.by(partial(self.jumpcloud.in_use, {*self.ghosts, address}, self.owners))

    async def _leaver(self, op: Operation) -> Finding:
        """The application's list, of all who are deleted at once, and right before each lock the person's own reads."""
        deleted = op.rule is Rule.DELETED
        listed = deleted and op.subject.jumpcloud_id in await self._bound.by(self.jumpcloud.users_in_scope)
        stamp, words = await self._stamped(why_not_lock(op.subject, op.rule, self.jumpcloud, listed=listed))
        return Finding(stamp, Doubt(True, words) if words else None)

    async def _doubt(self, op: Operation) -> Doubt | None:
        if left := self._left(op):
            there = left in await self.jumpcloud.groups_in_scope()
            words = "missing from the groups in scope, but there when they are read again"
            return Doubt(True, words) if there else None
        return None

    async def _update(self, op: Operation) -> Finding:
        """The person before the teams: a record that is slow must not make the groups grow old."""
        seen, doubt = await self._why_not_give(op) if self._granted(op) or tying_address(op) else (None, None)
        if doubt is not None and doubt.whole:
            return Finding(seen, doubt)
        at, teams = await self._teams(op if doubt is None else replace(op, add=()))
        doubt = _both(doubt, teams)
        rest = op if doubt is None else doubt.divide(op)[0]
        if rest is None or not self.concerns(rest):
            return Finding(None, doubt)
        return Finding(self._oldest(seen, at), doubt)

    async def _reactivation(self, op: Operation) -> Finding:
        """The person after the teams: an unlocking does not wait for groups that can't be read, or were read too long
        before it."""
        at, doubt = await self._teams(op)
        stamp, words = await self._stamped(self._why_not_unlock(op))
        if words:
            return Finding(stamp, Doubt(True, words))
        if at is not None and at.age(self.clock) > SEARCH_LASTS:
            at, doubt = None, Doubt(False, "the groups were read too long ago", self._granted(op), op.remove)
        return Finding(self._oldest(stamp, at), doubt)

    def _oldest(self, *stamps: Stamp | None) -> Stamp | None:
        return oldest([one for one in stamps if one is not None], self.clock)

    async def _teams(self, op: Operation) -> tuple[Stamp | None, Doubt | None]:
        if not (self._granted(op) or op.remove):
            return None, None
        try:
            return await self._stamped(self._teams_in_doubt(op))
        except JumpCloudError as error:
            return None, Doubt(False, f"{_FAILED}: {error}", self._granted(op), op.remove)

    # -- giving -----------------------------------------------------------------------------------------------------

    async def _why_not_unlock(self, op: Operation) -> str:
        user_id = op.subject.jumpcloud_id
        # One after the other: beside a record that is slow, the path would grow too old.
        user = await self.jumpcloud.user(user_id)
        if user is None or user.status is not Status.ACTIVE:
            return "in scope by the lists, but the own record, read again, does not say active: not unlocked"
        if not _has_address(user, tying_address(op)):
            return _OTHER_ADDRESS
        if op.rule is Rule.UNLOCK_ASKED and not self._is_named(user, op):
            return _NOT_NAMED
        return (
            ""
            if (await self.jumpcloud.application_paths(user_id)).bound
            else "in scope by the lists, but not bound to the application when read alone: not unlocked"
        )

    def _is_named(self, user: User, op: Operation) -> bool:
        """Whether a person may have named this one by the address: a search that is behind finds whoever had it, and
        the lock of somebody else may be on their account."""
        known = (user.email, op.subject.name)
        return not user.email or any(addresses.same(one, self.named) for one in known)

    async def _why_not_give(self, op: Operation) -> tuple[Stamp | None, Doubt | None]:
        """When the person was seen to be active still, else the doubt: suspended people stay in their groups."""
        words = "in scope by the lists, but the own record, read again, does not say active: not added"
        tied = tying_address(op)
        try:
            stamp, user = await self._user_for_giving(op.subject.jumpcloud_id)
            if not _has_address(user, tied):
                return stamp, Doubt(True, _OTHER_ADDRESS)
            if not self._granted(op) or (user is not None and user.status is Status.ACTIVE):
                return stamp, None
        except JumpCloudError as error:
            words = f"{_FAILED}: {error}"
        return None, Doubt(bool(tied), words, self._granted(op))

    async def _creation(self, op: Operation) -> Finding:
        stamp, user = await self._user_for_giving(op.subject.jumpcloud_id)
        if user is None or user.status is not Status.ACTIVE:
            words = "in scope by the lists, but the own record, read again, does not say active: not created"
            return Finding(stamp, Doubt(True, words))
        return Finding(stamp, None if _has_address(user, tying_address(op)) else Doubt(True, _OTHER_ADDRESS))

    async def _user_for_giving(self, user_id: str) -> tuple[Stamp, User | None]:
        """The user and when they were asked for: by a search that many share, else by the own record."""
        known = await self._user_by_search(user_id) if len(self.given) > FEW else None
        if known is not None and known[1] is not None:
            return known
        return await self._stamped(self.jumpcloud.user(user_id))

    async def _user_by_search(self, user_id: str) -> tuple[Stamp, User | None] | None:
        """The user as a search has shown them lately, None for one whom it did not find; None too where searches cannot
        be relied on, or take too long."""
        place = self._places.get(user_id)
        async with self._searching:
            known = self._searched.get(user_id)
            if place is not None and not self._refused and not self._is_fresh(known):
                wanted = self.given[place : place + SEARCHED]
                stamp, found = await self._stamped(self._users(wanted))
                self._refused = found is None
                # Several workers are at it: one may come to the end of the last search after this one.
                self._searched |= {one: (stamp, (found or {}).get(one)) for one in wanted}
                known = self._searched[user_id]
        return known if self._is_fresh(known) else None

    async def _users(self, wanted: Collection[str]) -> Mapping[str, User] | None:
        try:
            return await self.jumpcloud.users(wanted)
        except JumpCloudError as error:
            if not bearable(error):
                raise
            return None

    def _is_fresh(self, known: tuple[Stamp, User | None] | None) -> bool:
        return known is not None and known[0].age(self.clock) <= SEARCH_LASTS

    async def _stamped(self, read: Awaitable[T]) -> tuple[Stamp, T]:
        """Return the result of a read, with the oldest moment that it speaks of."""
        began = Stamp.now(self.clock)
        with reading() as stamps:
            found = await read
        return oldest(stamps, self.clock) or began, found

    # -- taking away ------------------------------------------------------------------------------------------------

    async def _teams_in_doubt(self, op: Operation) -> Doubt | None:
        granted = self._granted(op)
        user_id = op.subject.jumpcloud_id
        held_for = {team: {team.jumpcloud_id, tied_to(self.teams[team.keeper_id])} for team in op.remove}
        async with siblings() as group:
            left = frozenset[str]().union(*held_for.values())
            groups = group.create_task(self.jumpcloud.groups_of(user_id, absent=left))
            path = group.create_task(self._paths(user_id)) if op.remove else None
        member_of, (paths, failed) = groups.result(), path.result() if path is not None else (_NO_PATHS, "")
        # A list of paths may be cut, so a missing path tells something of a group that left the scope only: whoever is
        # a member of a group in scope stays in its team. A team that a namesake takes over is its former group's.
        kept = {group for group in member_of if group in self.groups or group in paths.groups or paths.unclear}
        still = tuple(team for team in op.remove if kept & held_for[team])
        absent = tuple(team for team in granted if team.jumpcloud_id not in member_of)
        words = []
        if failed:
            # What is given rests on the groups alone.
            words, still = [failed], op.remove
        elif still:
            names = ", ".join(team.name for team in still)
            words.append(f"missing from {names} in the list, but a member when read alone")
        if absent:
            names = ", ".join(team.name for team in absent)
            words.append(f"a member of {names} in the list, but not when read alone")
        return Doubt(False, "; ".join(words), absent, still) if words else None

    async def _paths(self, user_id: str) -> tuple[Paths, str]:
        """The user's paths to the application; or that they can't be read, and why."""
        try:
            return await self.jumpcloud.application_paths(user_id), ""
        except JumpCloudError as error:
            if not bearable(error):
                raise
            return _NO_PATHS, f"{_FAILED}: {error}"


async def why_not_lock(subject: Subject, rule: Rule | None, jumpcloud: JumpCloud, *, listed: bool = False) -> str:
    """Why a single read does not bear out that this user has to be locked; "" where it does. Without a `rule`, any way
    to leave will do. `listed`: the application's own list has them. Raises JumpCloudError."""
    if not subject.jumpcloud_id:
        # Taken over by a person as somebody whom JumpCloud does not know.
        there = any(person.user.belongs for person in await people_at(subject.name, jumpcloud))
        return _IN_USE if there else ""
    if rule is Rule.SUSPENDED:
        user = await jumpcloud.record(subject.jumpcloud_id)
        suspended = user is not None and user.status is Status.SUSPENDED
        return "" if suspended else "read again, the own record does not say suspended"
    status = await jumpcloud.status_of(subject.jumpcloud_id)
    if rule is Rule.HIDDEN:
        return "" if status is None else "without a record before, but there when read alone"
    if status is Status.SUSPENDED:
        return ""
    paths = await jumpcloud.application_paths(subject.jumpcloud_id)
    if paths.bound:
        return "missing from the list, but bound to the application when read alone"
    if status is None and listed:
        return "without a record, but in the application's list when that is read again"
    if status is None:
        # The same cycle was shown a record. Whoever was deleted since is missing from the next one.
        contradicted = rule is Rule.LEFT and paths.gone
        return "with a record in JumpCloud's list, but without one when read alone" if contradicted else ""
    if rule is Rule.DELETED:
        return "missing from the list of users, but there when read alone"
    return "" if status is Status.ACTIVE else "read again, the own record is in a state that says nothing about access"


async def unconfirmed_locks(
    leavers: Iterable[Subject], users: Mapping[str, User], jumpcloud: JumpCloud
) -> tuple[Notice, ...]:
    """Confirm that users really left before a first plan records their existing lock as ours.

    Returns a notice for each user for whom that is in doubt: an administrator may have locked them, and their lock must
    stay. `users` are those of JumpCloud, by their ids.
    """
    leavers = tuple(leavers)
    with others_wait():
        found = await together(_lock_in_doubt(subject, jumpcloud) for subject in leavers)
    return tuple(
        Notice(
            NoticeKind.UNCONFIRMED,
            subject,
            f"locked in Keeper, and {words}; the lock counts as somebody else's. To undo it: "
            f"reconciler resync {typed_for(users.get(subject.jumpcloud_id), subject.name)} --unlock",
        )
        for subject, words in zip(leavers, found, strict=True)
        if words
    )


async def _lock_in_doubt(subject: Subject, jumpcloud: JumpCloud) -> str:
    try:
        return await why_not_lock(subject, None, jumpcloud)
    except JumpCloudError as error:
        return f"the read that should confirm that they have left failed: {error}"


async def unconfirmed_links(links: Collection[Subject], jumpcloud: JumpCloud) -> dict[str, str]:
    """Confirm that users have the address, by their own record or a search, by which they are to be tied to an account.

    Returns, by JumpCloud id, why that is in doubt. A tie lasts, so that a list that is behind must not make one.
    """
    ids = [subject.jumpcloud_id for subject in links]
    searched: Mapping[str, User] = {}
    if len(ids) > FEW:
        with suppress(JumpCloudError), others_wait():
            searched = await jumpcloud.users(ids) or {}

    async def doubt(subject: Subject) -> str:
        try:
            with others_wait():
                user = searched.get(subject.jumpcloud_id) or await jumpcloud.user(subject.jumpcloud_id)
        except JumpCloudError as error:
            return f"{_FAILED}: {error}"
        return "" if user is not None and _has_address(user, subject.name) else _OTHER_ADDRESS

    found = await together(map(doubt, links))
    return {user_id: words for user_id, words in zip(ids, found, strict=True) if words}


def put_off_words(doubt: Doubt) -> str:
    """The message of a notice about an unconfirmed part."""
    if doubt.words.endswith("."):
        return f"{doubt.words} Put off until the next cycle"
    return f"{doubt.words}; put off until the next cycle"


async def preview(judged: Judged, confirmation: Confirmation) -> Judged:
    """The plan of a dry run, with the unconfirmed parts not to be sent.

    At most `MOST_IN_DRY_RUN` operations are confirmed; a notice tells how many were left.
    """
    concerned = [
        (number, op)
        for number, op in enumerate(judged.plan.operations)
        if op.sent and confirmation.takes_or_unlocks(op)
    ]
    asked = concerned[:MOST_IN_DRY_RUN]
    findings = await together(confirmation.of(op) for _, op in asked)
    doubts = {number: f.doubt for (number, _), f in zip(asked, findings, strict=True) if f.doubt is not None}
    notices = [
        Notice(NoticeKind.UNCONFIRMED, judged.plan.operations[number].subject, put_off_words(doubt))
        for number, doubt in doubts.items()
    ]
    if left := len(concerned) - len(asked):
        words = (
            f"a dry run confirms {MOST_IN_DRY_RUN} operations that take away or unlock; {left} more "
            f"{agreeing(left, 'was')} not read again"
        )
        notices.append(Notice(NoticeKind.UNCONFIRMED, Subject("command", "reconciler plan"), words))
    if not notices:
        return judged

    def divide(number: int, op: Operation) -> tuple[Operation | None, Operation | None]:
        doubt = doubts.get(number)
        return (op, None) if doubt is None else doubt.divide(op)

    sure = divided(judged, divide)
    return replace(sure, plan=replace(sure.plan, notices=(*sure.plan.notices, *notices)))
