"""The first step of a cycle: what both services hold now, of everybody or of one person.

It tells what became of operations of former runs whose outcome is not known.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from loguru import logger

from reconciler import addresses
from reconciler.approval import INVENTORY, hook_failed, inventory_due
from reconciler.births import owners
from reconciler.clocks import ServiceTime
from reconciler.evidence_age import GLANCE
from reconciler.fallback import notice as fallback_notice
from reconciler.http import Counters
from reconciler.inventory import InventoryError
from reconciler.jumpcloud import GroupScope, JumpCloud, JumpCloudError, Person, Scope, bearable
from reconciler.keeper import BadToken, Keeper, KeeperError, Progress
from reconciler.keeper_quarantine import blocked_groups, blocked_users, hides_lock
from reconciler.model import (
    EXTERNAL_ID,
    Account,
    Application,
    Directory,
    Inventory,
    Listing,
    Quarantined,
    Snapshot,
    Status,
    User,
    is_jumpcloud_id,
)
from reconciler.person import InKeeper, around, in_keeper, in_snapshot
from reconciler.plan import Effect, Kind, Notice
from reconciler.policy import TeamPolicy
from reconciler.settle import NEVER, REPEATED, TOO_EARLY, UNDONE, Settled, as_answered, as_repeated, denied_once, settle
from reconciler.snapshot import observed
from reconciler.store import JournalRow, State
from reconciler.tasks import siblings, together

STALE = timedelta(days=1)
"""A snapshot whose newest run is older than this is rebuilt from Keeper first."""
OVERDUE = timedelta(hours=1)
"""Most leavers are locked by then; of who is not, a list may tell something else than the own record does."""


@dataclass(frozen=True, slots=True)
class Services:
    """The clients of both services. `inventory` asks Keeper Commander, None where the settings name no command.
    `traffic` counts the requests, by the name of the service. Each service also tells the time."""

    jumpcloud: JumpCloud
    keeper: Keeper
    scim_url: str
    inventory: Callable[[datetime], Awaitable[Inventory]] | None = None
    traffic: tuple[tuple[str, Counters], ...] = ()
    jumpcloud_time: ServiceTime = field(default_factory=ServiceTime)
    keeper_time: ServiceTime = field(default_factory=ServiceTime)


class NobodyThere(Exception):
    """A `resync EMAIL` for an address that neither service knows; the text is for the administrator."""


class Stopped(Exception):
    """The cycle was asked to stop while it was reading; nothing was sent."""


@dataclass(frozen=True, slots=True)
class Read:
    """Both sides as read. `before` is the snapshot as the state file has it; `snapshot` is rebuilt from Keeper where
    this is a resync, and says what became of `unknown`, the operations of former runs without a known outcome;
    `outcomes` has that by journal id. `focus` are the keys of the people whom it is about, None for everybody.
    `notices` are of the reading itself. `mark` is the moment at which `before` was read (see `Hands`).
    `fallback`: why Keeper could not be listed although it was to be, "" where it was or need not be; the snapshot is
    then as it was."""

    directory: Directory
    before: Snapshot
    snapshot: Snapshot
    kind: str
    focus: frozenset[str] | None = None
    unknown: Sequence[JournalRow] = ()
    outcomes: Mapping[int, Settled] = field(default_factory=dict)
    notices: tuple[Notice, ...] = ()
    mark: int = 0
    fallback: str = ""

    @property
    def uncertain(self) -> frozenset[str]:
        """The keys of subjects that are locked at most: whose change of access may still take effect; without a list
        of Keeper, all with an operation that was sent and whose outcome this read does not tell."""
        rows = (row for row in self.unknown if row.state is not State.PLANNED)
        if self.fallback:
            rows = (row for row in rows if self.outcomes.get(row.id, TOO_EARLY).state is State.UNKNOWN)
        else:
            rows = (row for row in rows if self.outcomes.get(row.id) == TOO_EARLY)
        return frozenset(row.operation.subject.key for row in rows)

    def tells(self) -> Callable[[Effect], bool]:
        """Return the test whether this read tells if an effect is due: its subjects were read clearly, and no list, or
        row of one, is missing that might name them."""
        if self.fallback or any(one.type == "list" for one in self.directory.quarantined):
            return lambda _: False
        directory, snapshot = self.directory, self.snapshot
        missing = {key for t in snapshot.teams.values() if t.missing for key in (t.jumpcloud_id, t.keeper_id) if key}
        blocked = (blocked_users(directory, snapshot), blocked_groups(directory, snapshot))
        unclear = directory.unclear.union(*blocked, missing)
        return lambda effect: unclear.isdisjoint(effect[1:])

    def without_list(self, error: KeeperError) -> "Read":
        """The same, for a cycle that goes on although Keeper could not be listed."""
        why = str(error)
        return replace(self, fallback=why, notices=(*self.notices, fallback_notice(why)))


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads both sides on top of what the state file has: the snapshot `before`, as of the `mark`, and the operations
    `unknown`."""

    services: Services
    organization: str
    application: Application
    before: Snapshot
    unknown: Sequence[JournalRow]
    now: datetime
    progress: Progress | None = None
    mark: int = 0

    def asks_keeper(self, last: datetime | None) -> bool:
        """Whether the snapshot is not good enough and Keeper has to be listed. `last`: when a run last read all."""
        return (
            self.before.read_at is None
            or any(row.state is not State.UNKNOWN or row.operation.kind is not Kind.QUEUE_TEAM for row in self.unknown)
            or any(team.missing for team in self.before.teams.values())
            or last is None
            or self.now - last > STALE
        )

    async def everybody(self, teams: TeamPolicy, *, reviewed: bool, resync: bool, may_fall_back: bool = True) -> Read:
        """Both sides as a whole; Keeper's only in a resync. `reviewed`: whether a review of the first plan counts.

        A resync for which Keeper cannot be listed goes on as a cycle from the snapshot where it may, and where there
        is a reviewed one. Raises KeeperError, and what the clients raise.
        """
        may_fall_back = may_fall_back and reviewed and self.before.read_at is not None
        jumpcloud = self.services.jumpcloud
        async with siblings() as group:
            scope_read = group.create_task(jumpcloud.read_scope(self.progress, self.before.groups_with_teams))
            listed = group.create_task(self._listed(may_fall_back)) if resync else None
            told = group.create_task(self._inventory(teams, resync=resync))
        scope, (inventory, notices) = scope_read.result(), told.result()
        snapshot = replace(self.before, reviewed=reviewed, inventory=inventory)
        shown = listed.result() if listed is not None else None
        if isinstance(shown, Listing):
            snapshot = observed(snapshot, shown, self.now)
            scope = await self._with_groups_of(scope, snapshot)
        directory = await jumpcloud.read_directory(
            scope, owners(snapshot), self.progress, _likely(snapshot), _overdue(snapshot, self.now)
        )
        unlisted = isinstance(shown, KeeperError)
        rows, snapshot = await self._alone(snapshot) if unlisted else (self.unknown, snapshot)
        outcomes, snapshot = _settled(rows, snapshot, self.before, self.now)
        kind = "resync" if resync and not unlisted else "cycle"
        read = Read(directory, self.before, snapshot, kind, None, self.unknown, outcomes, notices, mark=self.mark)
        return read.without_list(shown) if isinstance(shown, KeeperError) else read

    async def _alone(self, snapshot: Snapshot) -> tuple[Sequence[JournalRow], Snapshot]:
        """The locks and unlocks without a known outcome whose accounts could be read alone, and the snapshot with
        those: where Keeper can't be listed, nobody stays locked out, or open, until it can."""
        access = {Kind.DEACTIVATE_USER, Kind.REACTIVATE_USER}
        rows = [row for row in self.unknown if row.state is not State.PLANNED and row.operation.kind in access]
        # Whoever was deleted in JumpCloud has no record there.
        keys = sorted({row.operation.subject.keeper_id for row in rows})
        accounts = [snapshot.accounts.get(key) for key in keys]
        found = await together(self._shown(one.email, None) for one in accounts if one is not None)
        shown = {k: a for one in found if one is not None for k, a in one.accounts.items() if k in keys and not a.gone}
        seen = replace(snapshot, accounts={**snapshot.accounts, **shown})
        return [row for row in rows if row.operation.subject.keeper_id in shown], seen

    async def _with_groups_of(self, scope: Scope, snapshot: Snapshot) -> Scope:
        """The scope, with the end of groups looked up whose teams only this list of Keeper has shown, as all are once
        the state file is lost."""
        teams = snapshot.groups_with_teams
        if teams.keys() <= self.before.groups_with_teams.keys() | scope.groups.groups.keys():
            return scope
        through = frozenset[str]().union(*(ways.groups for ways in scope.users.values()))
        return replace(scope, groups=await self.services.jumpcloud.group_scope(through, teams))

    async def _listed(self, may_fall_back: bool) -> Listing | KeeperError:
        """Keeper as a whole, or why it could not be listed. A refused token ends the cycle: it refuses locks too."""
        try:
            return await listing(self.services.keeper, self.before, self.progress)
        except KeeperError as error:
            if isinstance(error, BadToken) or not may_fall_back:
                raise
            return error

    async def one(self, address: str, person: Person | None) -> Read:
        """One person by point reads, as JumpCloud has shown them; Keeper is listed as a whole only where the snapshot
        knows no account of theirs that is there, so that they may be created or given another, where a point read
        misses an account, whosever it is, or shows nothing of theirs on their own, or where a creation of theirs has no
        known outcome: it may have been linked to any account. Raises NobodyThere."""
        user, seen = person.user if person else None, self.before
        held = in_snapshot(seen, address, user)
        by_points = held.has_account and not self._creates(held.key)
        if by_points:
            held = await in_keeper(self.services.keeper, self.before, address, user, self.now)
            by_points = held.has_account and not (self._lacks(held.snapshot) or (user and held.is_estranged_from(user)))
        if not by_points:
            listed = await listing(self.services.keeper, self.before, None)
            seen = observed(self.before, listed, self.now)
            held = in_snapshot(seen, address, user)
            if person is None and is_jumpcloud_id(held.key):
                # Only this list has shown their account under the address: they may have others.
                person = await self.services.jumpcloud.person(id=held.key)
                held = in_snapshot(seen, address, person.user if person else None)
        if not held.key:
            there = (account for account in seen.accounts.values() if not account.bygone)
            alike = sorted({account.email for account in there if addresses.alike(account.email, address)})
            other = f"Keeper has {alike[0]}, {addresses.DIFFERENCE}" if alike else "Check the address"
            raise NobodyThere(
                f"{address} is neither a user in JumpCloud nor in this Keeper node; nothing was changed. {other}"
            )
        return await self.around(person, held, address)

    def _creates(self, key: str) -> bool:
        """Whether a creation of the person with this key was sent, and nothing tells what became of it."""
        sent = (row.operation for row in self.unknown if row.state is not State.PLANNED)
        return any(op.kind is Kind.CREATE_USER and op.subject.key == key for op in sent)

    async def around(self, person: Person | None, held: InKeeper, address: str) -> Read:
        """Both sides, as far as they bear on one person, who was looked for by this address."""
        people = [person] if person else []
        users, scope = await around(self.services.jumpcloud, people, held.snapshot, address)
        odd = tuple(one for each in people for one in each.quarantined)
        # Without their own accounts, the others, also those deleted by now, would be given those of this person.
        mine = held.snapshot.accounts
        others = (users.keys() | owners(held.snapshot)) - {""}
        theirs = {k: a for k, a in self.before.accounts.items() if a.jumpcloud_id in others and k not in mine}
        snapshot = replace(held.snapshot, accounts={**mine, **theirs})
        return self._of(users, scope, snapshot, frozenset({held.key} - {""}), odd, theirs.keys())

    async def suspended(self, ids: Collection[str]) -> Read:
        """The users of these JumpCloud ids whose own record says suspended.

        No list and no group is read: a lock needs neither, and suspended people do not wait for what cannot be read. An
        account that Keeper does not show now stands as in the snapshot, which tells nothing of what was sent since; so
        does one whose record hides whether it is locked, and one that is not there, by a single 404: only the answer to
        the lock and a list tell that. Whoever's account may be somebody else's by now is left to a whole cycle.
        """
        found = await together(self._record(one) for one in sorted(ids))
        users = {user.id: user for user in found if user is not None and user.status is Status.SUSPENDED}
        mine = [a for a in self.before.accounts.values() if a.jumpcloud_id in users and a.managed and not a.gone]
        contested = await together(map(self._may_be_anothers, mine))
        for account in (one for one, other in zip(mine, contested, strict=True) if other):
            users.pop(account.jumpcloud_id, None)
        accounts: dict[str, Account] = {}
        unread: set[str] = set()
        shown = await together(self._shown("", user) for user in users.values())
        for user, held in zip(users.values(), shown, strict=True):
            known = held or in_snapshot(self.before, "", user).snapshot
            # What the owner's own look has shown stands where one at somebody else who has the address has failed.
            own = {k: account for k, account in known.accounts.items() if account.jumpcloud_id == user.id}
            accounts = {**known.accounts, **accounts, **own}
            unread |= {user.id, *known.accounts} if held is None else set()
        return self._of(users, GroupScope({}), replace(self.before, accounts=accounts), frozenset(users), unread=unread)

    async def _may_be_anothers(self, account: Account) -> bool:
        """Whether an account carries the JumpCloud id of another than its person, who has its address and has not
        left."""
        shown = account.shown.get(EXTERNAL_ID, "")
        other = await self._record(shown) if shown != account.jumpcloud_id and is_jumpcloud_id(shown) else None
        if other is None or other.status is Status.SUSPENDED or not addresses.same(other.email, account.email):
            return False
        try:
            return (await self.services.jumpcloud.application_paths(shown)).bound
        except JumpCloudError as error:
            if not bearable(error):
                raise
            return True

    async def _record(self, user_id: str) -> User | None:
        try:
            return await self.services.jumpcloud.record(user_id)
        except JumpCloudError as error:
            if not bearable(error):
                raise
            logger.warning("The leaver lane could not read the JumpCloud user {}: {}", user_id, error)
            return None

    async def _shown(self, address: str, user: User | None) -> Snapshot | None:
        try:
            async with asyncio.timeout(GLANCE):
                shown = (await in_keeper(self.services.keeper, self.before, address, user, self.now)).snapshot
            hidden = any(hides_lock(shown, k) for k, a in shown.accounts.items() if not a.gone)
            return None if hidden or self._lacks(shown) else shown
        except (KeeperError, TimeoutError) as error:
            whose = user.id if user else address
            logger.debug("the account of {} was not read again: {}", whose, error or f"not within {GLANCE:g} s")
            return None

    def _lacks(self, shown: Snapshot) -> bool:
        """Whether a point read has missed an account that was there: one 404 is no evidence, but for a list."""
        return any(account.gone and not self.before.accounts[k].gone for k, account in shown.accounts.items())

    def _of(
        self,
        users: Mapping[str, User],
        scope: GroupScope,
        held: Snapshot,
        focus: frozenset[str],
        odd: tuple[Quarantined, ...] = (),
        unread: Set[str] = frozenset(),
    ) -> Read:
        # What became of others, or of who was not read, can't be told: it stays open until the next whole cycle.
        theirs = (k for k, account in held.accounts.items() if not focus.isdisjoint((account.jumpcloud_id, k)))
        keys = {*focus, *theirs} - unread
        mine = [row for row in self.unknown if row.operation.subject.key in keys and row.state is not State.PLANNED]
        outcomes, settled = _settled(mine, held, self.before, self.now)
        directory = Directory(
            self.organization,
            self.application,
            users,
            scope.groups,
            scope.unclear,
            scope.gone,
            (*scope.quarantined, *odd),
        )
        return Read(directory, self.before, settled, "resync", focus, mine, outcomes, mark=self.mark)

    async def _inventory(self, teams: TeamPolicy, *, resync: bool) -> tuple[Inventory | None, tuple[Notice, ...]]:
        """What Commander tells; the former where it fails or need not be asked. A failure of it fails no cycle."""
        ask, former = self.services.inventory, self.before.inventory
        if ask is None:
            return None, ()
        if not resync and not inventory_due(self.before, teams, self.now):
            return former, ()
        try:
            return await ask(self.now), ()
        except InventoryError as error:
            return former, (hook_failed(INVENTORY, str(error)),)


def _likely(snapshot: Snapshot) -> list[str]:
    """The JumpCloud ids of managed people: those who were in scope when last read, then those who left last."""
    managed = [account for account in snapshot.accounts.values() if account.managed and account.jumpcloud_id]
    return [a.jumpcloud_id for a in sorted(managed, key=lambda a: -(a.left_at.timestamp() if a.left_at else math.inf))]


def _overdue(snapshot: Snapshot, now: datetime) -> set[str]:
    """The JumpCloud ids of managed people who had left by an earlier read long ago, and are active still."""
    there = (account for account in snapshot.accounts.values() if account.managed and not account.gone)
    return {a.jumpcloud_id for a in there if a.active and a.left_at is not None and now - a.left_at >= OVERDUE}


async def as_resync(keeper: Keeper, read: Read, now: datetime, progress: Progress | None) -> Read:
    """What was read of everybody, with Keeper listed too. Raises KeeperError."""
    listed = await listing(keeper, read.snapshot, progress)
    # What the first reading settled is in the snapshot by now, and would only be found there.
    settled = {number: outcome for number, outcome in read.outcomes.items() if outcome.state is State.DONE}
    outcomes, snapshot = _settled(read.unknown, observed(read.snapshot, listed, now), read.before, now)
    return replace(read, kind="resync", snapshot=snapshot, outcomes={**outcomes, **settled})


async def listing(keeper: Keeper, snapshot: Snapshot, progress: Progress | None) -> Listing:
    """Keeper as a whole; whom of the snapshot its lists lack is asked for one by one. Raises KeeperError."""
    return await keeper.listing(
        [k for k, account in snapshot.accounts.items() if not account.gone],
        [k for k, team in snapshot.teams.items() if not team.gone],
        progress,
        # Whoever is taken for unlocked by somebody else, and is not, would stay locked for ever; and no leaver who is
        # taken for locked is locked. Where our own lock has no clear answer yet, the list is what we wait for.
        locked=[k for k, account in snapshot.accounts.items() if account.locked_by_us and not account.active],
        active=[
            k
            for k, account in snapshot.accounts.items()
            if account.managed and account.active and k not in snapshot.own_locks
        ],
    )


def _settled(
    rows: Iterable[JournalRow], snapshot: Snapshot, former: Snapshot, now: datetime
) -> tuple[dict[int, Settled], Snapshot]:
    """The outcomes of what was sent, see `settle`. After a later update the names that Keeper shows prove nothing of an
    earlier one: only the teams that show do. Nor does a lock that shows, after a later lock."""
    sent = {row.id: row for row in rows if row.state is not State.PLANNED}
    repeated = {
        number
        for number, row in sent.items()
        if row.repeated and row.operation.kind is Kind.UPDATE_USER and row.operation.changes
    }
    asked = {n: replace(r.operation, changes=()) if n in repeated else r.operation for n, r in sent.items()}
    of_teams = (
        (n, op, sent[n].sent_at or sent[n].planned_at) for n, op in asked.items() if n not in repeated or op.add
    )
    recorded = {number: row.outcome for number, row in sent.items()}
    outcomes, snapshot = settle(of_teams, snapshot, former, now, recorded)
    for number in repeated:
        if outcomes.get(number, NEVER) == NEVER:
            outcomes[number] = REPEATED
    # Where the record hid a lock, the unlock did not wait for what became of it; a lock waits for no unlock.
    outcomes |= {n: UNDONE for n, row in sent.items() if row.undone and outcomes[n] == NEVER}
    outcomes = {n: as_repeated(as_answered(outcome, sent[n].outcome), sent[n]) for n, outcome in outcomes.items()}
    return outcomes, _without_answered(snapshot, sent, outcomes)


def _without_answered(snapshot: Snapshot, sent: Mapping[int, JournalRow], outcomes: Mapping[int, Settled]) -> Snapshot:
    """Drop whose creations have a known outcome by now: under another address they can be created in this cycle."""
    answered: set[str] = set()
    open_still: set[str] = set()
    for number, row in sent.items():
        if row.operation.kind is Kind.CREATE_USER:
            outcome = outcomes.get(number, TOO_EARLY)
            is_open = outcome.state is State.UNKNOWN or denied_once(outcome, row.outcome)
            (open_still if is_open else answered).add(row.operation.subject.jumpcloud_id)
    gone = answered - open_still
    return replace(snapshot, unsettled_users={k: a for k, a in snapshot.unsettled_users.items() if k not in gone})
