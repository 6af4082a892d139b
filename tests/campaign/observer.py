"""Watches every request that the simulated Keeper receives, and says what must never be. Shares no code with the diff.

It knows the truth of both services and keeps its own ledger: who was created or adopted, who locked whom, who was
locked, given and taken when, and what a person agreed to. Where the reconciler can't know better than it does, the
ledger believes the more lenient of two things; everything else is a violation, named by the letter of its invariant:

a  nobody who was in scope during the whole time since the last completed read began loses access or a team, and nobody
   who merely left does before grace is over
b  no unmanaged user is touched but to adopt, no protected one but to undo our own lock, nobody else's lock is undone,
   no membership taken away that somebody else gave
c  no person gets a second account, no account a second person
d  the limits over the window hold, unless a person agreed; without that nobody joins a team of teams.review, no team is
   deleted, and nobody locked whom a person adopted out of scope
e  nothing is sent to a node that the state file is not bound to, nor about somebody whom the pilot leaves out
f  no secret shows anywhere
g  in the end Keeper equals JumpCloud; until then no name is wiped out, and no address sent against the settings
h  what is sent is in the journal before, and with its true outcome after
i  in the end nothing is left to settle
s  with any one record, list or subject broken everybody else is served within two cycles
t  no claim of `leavers`, `status` and the alerts is untrue
r  nobody who was out of scope during all of that time is unlocked, added to a team, or created while not active;
   nobody joins a team that is not theirs
x  nothing ends in an error that was not foreseen, nothing hangs, no two requests at a time change one subject
"""

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from contextvars import ContextVar
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from reconciler.simulator.keeper import Keeper
from reconciler.simulator.keeper_records import Account, Change, Team
from reconciler.simulator.service import Request, Response
from tests.campaign.clockwork import BEGINNING
from tests.campaign.rules import HOST, Rules
from tests.campaign.seams import CampaignStore, attempt_began, row_in_hand
from tests.campaign.truth import Truth

DEFAULTS = {
    "max_deactivations": "2%",
    "max_removals": "5%",
    "max_creations": "5%",
    "max_grants": "5%",
    "max_reactivations": "5%",
}


NAMES = {"display_name": "displayName", "given_name": "givenName", "family_name": "familyName", "name": "displayName"}
"""Names of users, and of teams, and what a request calls them."""


@dataclass(frozen=True)
class Violation:
    """One broken invariant, in words."""

    letter: str
    words: str

    def __str__(self) -> str:
        return f"({self.letter}) {self.words}"


MOST_UNASKED = 4
"""People for whom Keeper may do what nobody asked for until it is noticed: three on the wire, and one alone."""
MORE_WHILE_IT_LIES = 5
"""So many more where Keeper shows of the one alone what was before: three answers in a row, and two on the wire."""
EVIDENCE_LASTS = timedelta(seconds=31)
"""How long after its confirmation a request may be begun: thirty seconds, and the clock's grain."""
_USERS_OF_JUMPCLOUD = ("/api/systemusers", "/api/search/systemusers")
A_LOOK_IS_BEHIND = timedelta(minutes=6)
"""How long after we let somebody in a look may show them as before: two minutes, by clocks that differ by two."""
DENIED_COUNTS = timedelta(hours=25)
"""How long a lock of ours that two lists denied may still be ours where it shows: a day after they did."""
ACCESS = ("deactivate_user", "reactivate_user")
LASTS = timedelta(hours=4)
"""How long what a person lets through or announces counts."""


@dataclass
class Allowance:
    """So many locks that are left of those that a person announced, and until when: see Agreement."""

    left: int
    until: datetime | None = None


@dataclass
class Agreement:
    """The consent of a person: effects as the plan that they saw had them, and until when it may begin: that is known
    once a cycle has seen it."""

    effects: set[tuple[str, ...]]
    tick: int
    until: datetime | None = None
    spent: dict[str, set[tuple[str, ...]]] = field(default_factory=dict)  # by account


@dataclass
class Sent:
    """One journalled operation that reached Keeper; `effects` are what its requests changed."""

    row: int
    subject: str
    kind: str
    tick: int
    effects: list[Change] = field(default_factory=list)
    hidden: bool = False  # about a team that waits in a queue which Keeper does not show
    undone: bool = False  # somebody else changed what it had made
    closed: int | None = None  # the tick at which the journal had an outcome
    access: dict[str, tuple[datetime, bool]] = field(default_factory=dict)
    """Where it let somebody in: the last change of their access before it, as in the ledger."""
    locked: dict[str, datetime] = field(default_factory=dict)  # people and accounts that it locked, and when
    answered: set[str] = field(default_factory=set)  # names that the answer showed
    unclear: bool = False  # whether Keeper's answer says nothing of what became of it
    missed: bool = False  # whether it is a lock, and Keeper answered that there is no such account
    replaced: dict[str, bool] = field(default_factory=dict)
    """The teams that Keeper took somebody out of with it by itself, and whether a reply had shown them there."""
    denied: bool = False  # whether two lists denied it: somebody else had undone it by then, or they were behind
    taken: bool = False  # whether Keeper did not refuse it, or any part of it, or did since it is done already


@dataclass(frozen=True)
class Birth:
    """A creation that was marked as sent: its row, the address that it asked for, when Keeper's users had been listed
    last, the accounts whose first address the state file knew by then, and those that its cycle's list had shown."""

    row: int
    address: str
    listed: int
    seen: frozenset[str]
    shown: frozenset[str]


@dataclass
class View:
    """One cycle as the observer sees it. Cycles that run beside each other have one each."""

    since: int = 0
    began: datetime = BEGINNING
    person: str = ""
    leavers: frozenset[str] = frozenset()
    unlock: bool = False
    first: bool = True
    people: int = 0  # accounts there ever were when Keeper was listed for the plan
    listed: int = 0  # the tick at which Keeper's users were listed last
    wrote: bool = False  # whether it has sent anything
    tied: dict[str, str] = field(default_factory=dict)
    """The owners of the accounts that were linked as it began."""
    adoptable: set[str] = field(default_factory=set)  # accounts that a first plan takes over as it began
    named: set[str] = field(default_factory=set)  # accounts of those whom it is about, by their addresses as it began
    unlocked: dict[str, int] = field(default_factory=dict)  # accounts that this cycle has unlocked: the tick
    unasked: dict[str, set[str]] = field(default_factory=dict)
    """By the kind of operation, the accounts of whom Keeper did what nobody asked for."""
    locked_shown: dict[str, bool] = field(default_factory=dict)  # whether its list showed this account as locked
    opened_shown: set[str] = field(default_factory=set)
    """Accounts that its list showed as open, where no later read showed them as locked."""
    users_shown: dict[str, set[str]] = field(default_factory=dict)
    """The accounts that the pages of Keeper's list of users showed in this cycle, by their targets."""
    keeper_addresses: dict[str, set[str]] = field(default_factory=dict)
    """By account, the addresses under which Keeper's list of users showed it in this cycle."""
    answered: set[str] = field(default_factory=set)  # accounts that a reply about one subject showed
    locked_read: set[str] = field(default_factory=set)  # accounts that the last read of them alone showed as locked
    met: dict[str, Account] = field(default_factory=dict)  # accounts as a creation of this cycle met them
    teams_shown: set[str] = field(default_factory=set)  # those that Keeper's list of teams showed in this cycle
    places_shown: set[tuple[str, str]] = field(default_factory=set)
    """The memberships, by account and team, that Keeper's list of users showed in this cycle."""
    places_listed: set[tuple[str, str]] = field(default_factory=set)
    """Those that the list which is being read showed first."""
    addresses_shown: dict[str, set[str]] = field(default_factory=dict)
    """The addresses under which JumpCloud showed people in this cycle."""

    @property
    def partial(self) -> bool:
        return bool(self.person or self.leavers)


view_in_hand: ContextVar[View | None] = ContextVar("view_in_hand", default=None)
"""The cycle to which the current task belongs; outside of tasks it is the one that began last."""


@dataclass
class Ledger:
    """What the observer remembers."""

    owner: dict[str, str] = field(default_factory=dict)  # by account: the JumpCloud id of the person
    former_owner: dict[str, str] = field(default_factory=dict)
    """By account that was given to somebody else after the copy was made which is the state file now: whose it was."""
    found_for: dict[str, str] = field(default_factory=dict)
    """By account, for whom in scope a plan found it that nobody had reviewed."""
    ours: set[str] = field(default_factory=set)  # accounts that may be managed
    seen: set[str] = field(default_factory=set)
    """Accounts of which a cycle was shown their first address since the state file was made."""
    births: dict[str, Birth] = field(default_factory=dict)  # by person: the last creation, if its outcome is not clear
    newborn: set[str] = field(default_factory=set)  # accounts that our creations have made
    linked: set[str] = field(
        default_factory=set
    )  # accounts that a cycle came to its end with, so that it knows their owners
    created: set[str] = field(default_factory=set)  # accounts that must be: created by us, or adopted by a person
    aliased: dict[str, Account] = field(default_factory=dict)  # accounts that a creation met by an alias: as before
    met_late: set[str] = field(default_factory=set)  # those of them that had got that address after the list
    forgotten_links: set[str] = field(default_factory=set)  # those of them of which the state file can't know
    relinked: dict[str, Account] = field(default_factory=dict)  # those of them that were linked anew, as before that
    refused: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By person: the address of their last creation that met an account by an alias, and that account."""
    met: dict[str, str] = field(default_factory=dict)  # our accounts that a creation for another met: whose
    given: dict[str, str] = field(default_factory=dict)
    """By account that a person adopted for somebody, and that bears the id of whoever had it before: whose it is."""
    asked: dict[str, str] = field(default_factory=dict)
    """By account that a person adopted, and that no cycle has come to its end with since: the address by which it was
    named, "" where it was not."""
    reviewed: bool = False  # a person has let something of a first plan through, or the settings do
    disowned: set[str] = field(default_factory=set)
    destroyed: list[tuple[datetime, str]] = field(default_factory=list)  # accounts that a lock deleted
    given_up: dict[str, set[str]] = field(default_factory=dict)  # by account that was disowned: people, and addresses
    retaken: dict[str, set[str]] = field(default_factory=dict)  # the same of those of `asked` that were given up before
    adopted: dict[str, int] = field(default_factory=dict)  # by account that we had not, and a person adopted: the tick
    looked_at: dict[str, tuple[int, datetime]] = field(default_factory=dict)
    """By account: the tick at which a lock was marked as sent that a person had let through, and when that was."""
    pilot_groups: set[str] = field(default_factory=set)  # the names that any pilot so far has named
    pilot_addresses: set[str] = field(default_factory=set)
    meant: dict[str, set[str]] = field(default_factory=dict)
    """By account that a person adopted: everybody to whom it could be given until a cycle had carried that out."""
    locks: set[str] = field(default_factory=set)  # accounts whose lock may be ours
    locked_at: dict[str, int] = field(default_factory=dict)  # accounts that we have locked: the last tick
    access: dict[str, tuple[datetime, bool]] = field(default_factory=dict)
    """By person and account: when a request of ours changed their access last, and whether it gave it."""
    perhaps_access: dict[str, tuple[datetime, bool]] = field(default_factory=dict)
    """The change before that, which may be the last: somebody else undid that before the journal had an outcome. Or one
    after that, which somebody else was faster to make."""
    denied_locks: dict[str, tuple[datetime, bool]] = field(default_factory=dict)
    """By person and account: when a lock of ours took effect that two lists denied, and whether somebody else had
    undone it by then."""
    locked_once: set[str] = field(default_factory=set)  # people and accounts that a request of ours has ever locked
    touched: dict[str, int] = field(default_factory=dict)  # users and teams: the tick at which somebody else did
    taken: list[tuple[datetime, str, str, int]] = field(default_factory=list)
    """Each thing that was done without consent: time, limit, person, and its row in the journal."""
    queued: dict[str, tuple[datetime, int]] = field(default_factory=dict)  # groups, teams: when it was queued, tick
    tied: dict[str, str] = field(default_factory=dict)  # by team: the group that the reconciler last gave it to
    agreements: list[Agreement] = field(default_factory=list)
    allowances: list[Allowance] = field(default_factory=list)
    persons: list[tuple[datetime, str]] = field(default_factory=list)
    sent: dict[int, Sent] = field(default_factory=dict)  # by journal row
    marked: dict[int, tuple[str, str, datetime]] = field(default_factory=dict)
    """Journal rows that were marked as sent: the kind, the account, and when."""
    unclear: dict[str, int] = field(default_factory=dict)
    """By account, the last row that was to lock it or to let somebody in, if its outcome is not clear."""
    found: set[int] = field(default_factory=set)  # of these, those that Keeper showed to be done
    denied: dict[int, datetime] = field(default_factory=dict)  # when the journal said of a lock that it never arrived
    lost: dict[int, tuple[str, str, datetime]] = field(default_factory=dict)
    """The same of the rows of the copy that is the state file now, of those whose requests never arrived, or were
    undone: see `marked`."""
    known: dict[str, int] = field(default_factory=dict)  # every account there ever was: the tick at which it came
    shielded: dict[str, set[str]] = field(default_factory=dict)  # by account: the entries that protected it once
    kept_shielded: dict[str, set[str]] = field(default_factory=dict)
    """By account: the entry by which the state file knows it as protected."""
    shielded_behind: dict[str, set[str]] = field(default_factory=dict)
    """By account: the entries that protected its owner by a page of JumpCloud that is behind."""
    unseen: dict[str, tuple[int, dict[str, str]]] = field(default_factory=dict)  # names that no answer showed
    overtaken: dict[str, set[str]] = field(default_factory=dict)  # those that somebody else changed before they showed
    wished: dict[str, dict[str, str]] = field(default_factory=dict)  # by account: the names that we asked for last
    linked_names: dict[str, set[tuple[str, str]]] = field(default_factory=dict)  # what a link by an alias has given
    replaced: dict[str, tuple[int, dict[str, str]]] = field(default_factory=dict)  # as they were before ours
    own_locks: set[str] = field(default_factory=set)  # accounts that are locked by us
    forgotten_locks: set[str] = field(default_factory=set)  # those of them of which the state file can't know
    readdressed: dict[str, int] = field(default_factory=dict)  # accounts that somebody else made, moved or readdressed
    by_hand: set[tuple[str, str]] = field(default_factory=set)  # memberships by account and team: not known as ours
    gifts: set[tuple[str, str]] = field(default_factory=set)
    """Those of them that somebody else gave since the state file was made."""
    unlisted_gifts: set[tuple[str, str]] = field(default_factory=set)
    """Those of them that somebody gave after the list, and before a creation met the account by an alias."""
    belonged: dict[str, tuple[int, datetime | None]] = field(default_factory=dict)
    """The accounts whose owner a cycle has seen in scope, where nothing untrue was shown since: the tick of that, and
    when the owner left first after it."""
    listed_teams: set[str] = field(default_factory=set)
    """The teams that a list has shown to a cycle that came to its end: they do not wait unseen."""
    listed_places: set[tuple[str, str]] = field(default_factory=set)  # memberships likewise, by account and team
    rejected: set[str] = field(default_factory=set)
    """Teams that somebody else deleted, and that may pass for such as wait unseen: names, ids, groups."""
    deleted_teams: set[tuple[str, ...]] = field(
        default_factory=set
    )  # those that do not, of which an old copy may not know
    perhaps_deleted: set[str] = field(default_factory=set)  # groups: we may have deleted their team, and cannot know
    renamed: dict[str, set[str]] = field(default_factory=dict)  # by team: names that it had until somebody renamed it
    withdrawn: set[tuple[str, str]] = field(default_factory=set)  # by account and group or team: by somebody else
    taken_back: set[tuple[str, str]] = field(default_factory=set)
    """Those of which only an old copy may not know that they are taken away: we did that, or they had been listed."""


class Observer:
    """See the module. `tick` counts everything that happens; `now` is the reconciler's clock."""

    def __init__(self, truth: Truth, keeper: Keeper, now: Callable[[], datetime]) -> None:
        self.truth = truth
        self.keeper = keeper
        self.now = now
        self.tick = 0
        self.changed: list[tuple[datetime, int]] = []
        """When the truth may have changed, with the ticks."""
        self.ledger = Ledger()
        self.violations: list[Violation] = []
        self.rules = Rules()
        self.latest = View(began=now())
        self.excused: Counter[int] = Counter()
        """How often something was let pass, by its number in docs/campaign-excuses.md."""
        self.wronged: dict[str, str] = {}
        """Accounts that were wronged since all of JumpCloud's reads were stale: whose."""
        self.lies: list[tuple[int, str]] = []
        """The ticks after which a read of Keeper's users, or teams, had lied: "Users", "Groups"."""
        self.asked = Request("GET", "/", {}, b"")
        self.kind = ""  # of the operation in hand
        self.row = 0  # its row in the journal
        self.undoes = False  # whether that undoes what a creation has done to an account that it met
        self.listings: list[int] = []  # the ticks at which Keeper's users were listed
        self.first_asked = 0  # the tick at which the first answer of either service came
        self.forgotten = 0
        self.forgotten_at = BEGINNING
        self.let_through = False  # a first plan, by the settings of the cycle before
        self.bound = ""
        self.points_lie: Callable[[], bool] = lambda: False
        """Whether reads of one subject in JumpCloud may lie in this cycle."""
        self.keeper_lies: Callable[[], bool] = lambda: False
        """Whether reads of one subject in Keeper may lie in this cycle."""
        self.answers_lost: Callable[[], int] = lambda: 0
        """How many changes of Keeper had no answer in this cycle, and took effect."""
        self.users_lied: Callable[[], bool] = lambda: False
        """Whether Keeper's list of users lied in this cycle."""
        self.scope_behind: Callable[[], bool] = lambda: False
        """Whether JumpCloud showed in this cycle who was in scope before."""
        self.scope_in_doubt: Callable[[], bool] = lambda: False
        """Whether JumpCloud shows in this cycle what is not so, or the reconciler's clock has been wrong."""
        self.evidence_behind: Callable[[str], bool] = lambda _: False
        """Whether a read of this person alone showed in this cycle what JumpCloud said before."""
        self.fates: dict[str, list[tuple[datetime, str]]] = {}
        """By account, when it became active, locked, withdrawn (an invitation) or gone."""
        self.shown_locked: dict[str, bool] = {}
        """By account, whether it was locked in the list of the last cycle that came to its end."""
        self.opened_unseen: dict[str, int] = {}
        """Accounts that we have let in, and nothing has shown as open since: the tick."""
        self.perhaps_locked: set[str] = set()  # those that were locked in a later list, or when read alone
        self.shown_teams: dict[str, set[str]] = {}  # by account, the teams that a reply of Keeper has ever shown
        self.shown_at: dict[str, int] = {}  # by account, the tick after which a reply about it alone showed it last
        self.former: dict[str, set[str]] = {}  # by account that is gone, the addresses that it had then
        self.former_ids: dict[str, str] = {}  # likewise the JumpCloud id that it bore
        self.left: dict[str, Account | Team] = {}
        """Keeper as it was left by whatever changed it last."""

    def violated(self, letter: str, words: str) -> None:
        self.violations.append(Violation(letter, words))

    @property
    def view(self) -> View:
        """The cycle that whatever happens now is part of."""
        return view_in_hand.get() or self.latest

    @property
    def since(self) -> int:
        return self.view.since

    @property
    def evidence_since(self) -> int:
        """The tick since which at least the evidence was read for what is sent now: that of the cycle's beginning or,
        where reads of one subject tell the truth, of the oldest confirmation that counts still."""
        began = attempt_began.get()
        if began is None or self.points_lie():
            return self.since
        place = bisect_right(self.changed, (began - EVIDENCE_LASTS, self.tick))
        return max(self.since, self.changed[place - 1][1] if place else 0)

    @property
    def began(self) -> datetime:
        return self.view.began

    @property
    def first(self) -> bool:
        return self.view.first

    def excuse(self, number: int) -> bool:
        """Count an excuse; returns True."""
        self.excused[number] += 1
        return True

    # What happens outside of requests.

    def moved(self, *, by_admin: Iterable[str] = ()) -> None:
        """Something changed in JumpCloud, or an administrator changed these users or teams in Keeper."""
        self.tick += 1
        self.changed.append((self.now(), self.tick))
        self.truth.look(self.tick)
        for subject in by_admin:
            self.ledger.touched[subject] = self.tick
        self._by_administrator()
        self._taken_away()
        for account in self.keeper.accounts().values():
            seen, left = self.ledger.belonged.get(account.id, (0, None))
            if seen and left is None and self.ledger.owner.get(account.id) not in self.truth.scope_since:
                self.ledger.belonged[account.id] = seen, self.now()
            # An address alone ties nobody to an account that no cycle has linked yet: it may be somebody else's now.
            if account.external_id not in self.truth.ever and account.id not in self.ledger.linked:
                self.ledger.owner.pop(account.id, None)
        self._eligible()

    def _taken_away(self) -> None:
        """Nobody need know an account that was taken away before the answer to its creation, or before the plan that
        was to take it over."""
        for account in self.keeper.accounts().values():
            unseen = account.id not in self.ledger.seen or account.id in self.ledger.asked
            renamed = account.id in self.ledger.newborn and account.id in self.ledger.readdressed
            if (account.node != self.rules.node or renamed) and unseen:
                self.ledger.created.discard(account.id)
                if account.node == self.rules.node:
                    self._stays_given_up(account)

    def _by_administrator(self) -> None:
        """What of Keeper is not as it was left, and so by somebody else."""
        now: dict[str, Account | Team] = {**self.keeper.accounts(), **self.keeper.teams()}
        self._note_fates(now)
        for subject in now.keys() | self.left.keys():
            was, is_now = self.left.get(subject), now.get(subject)
            if was != is_now:
                self._meddled(subject, was, is_now)
        self.left = now

    def _note_fates(self, now: Mapping[str, Account | Team]) -> None:
        for subject in now.keys() | self.left.keys():
            was, found = self.left.get(subject), now.get(subject)
            if not isinstance(was or found, Account) or was == found:
                continue
            if isinstance(was, Account) and found is None:
                self.former[subject] = {*was.addresses}
                self.former_ids[subject] = was.external_id or ""
            if isinstance(found, Account) and found.node == self.rules.node:
                how = "active" if found.active else "locked"
            else:
                how = "withdrawn" if isinstance(was, Account) and was.invited else "gone"
            fate = self.fates.setdefault(subject, [])
            if not fate or fate[-1][1] != how:
                fate.append((self.now(), how))

    def left_locked(self, keeper_id: str) -> bool:
        """Whether an account that is not in this node was locked there by somebody else when it was there last, or when
        a list showed it last."""
        here = [how for _, how in self.fates.get(keeper_id, ()) if how in ("active", "locked")]
        shown = self.shown_locked.get(keeper_id, False) or keeper_id in self.perhaps_locked
        locked = here[-1:] == ["locked"] or shown
        return locked and keeper_id not in self.ledger.own_locks

    def left_locked_of(self, person: str) -> bool:
        """Whether an account of theirs, or with their id or address, left this node under somebody else's lock."""
        there = {one.id: one.external_id for one in self.keeper.accounts().values()}
        theirs = {one for one, bears in {**self.former_ids, **there}.items() if bears == person}
        theirs |= {one for one, owner in self.ledger.owner.items() if owner == person}
        return self._left_locked(theirs | self._bearing({self.truth.address(person)}))

    def left_locked_once_of(self, person: str) -> bool:
        """Whether an account with an address that they ever had left this node under somebody else's lock."""
        return self._left_locked(self._bearing(self.truth.addresses[person]))

    def _bearing(self, addresses: Set[str]) -> set[str]:
        """The accounts, there or not, that have one of these addresses."""
        there = {account.id: account.addresses for account in self.keeper.accounts().values()}
        return {one for one, known in {**self.former, **there}.items() if (addresses - {""}) & {*known}}

    def _left_locked(self, accounts: Set[str]) -> bool:
        here = {account.id for account in self.keeper.accounts().values() if account.node == self.rules.node}
        return any(map(self.left_locked, accounts - here))

    def _meddled(self, subject: str, was: Account | Team | None, now: Account | Team | None) -> None:
        ledger = self.ledger
        for sent in ledger.sent.values():
            # What the journal says of it already can't be untrue for that.
            if sent.undone or sent.closed is not None or sent.subject != subject:
                continue
            if not all(_stands(change, now) for change in sent.effects):
                sent.undone = True
                ledger.perhaps_access |= sent.access
        for agreement in ledger.agreements:
            # What an administrator undid may never have been seen as done, and is then let through still.
            spent = agreement.spent.get(subject, set())
            undone = {effect for effect in spent if not self._holds(effect, now)}
            if undone:
                self.excuse(12)
            agreement.effects |= undone
            spent -= undone
        self._overtake(subject, now)
        if isinstance(now, Account):
            self._account_meddled(was, now)
        if isinstance(was, Team) and now is None:
            keys = was.name, was.id, was.external_id or was.id
            if subject in ledger.listed_teams:
                ledger.deleted_teams.add(keys)
            else:
                ledger.rejected.update(keys)
        if isinstance(was, Team) and isinstance(now, Team) and was.name != now.name:
            ledger.renamed.setdefault(subject, set()).add(was.name)

    def _overtake(self, subject: str, now: Account | Team | None) -> None:
        """Names that are not what Keeper made of our wish any more, before it showed that; or that are as they were
        before our wish, which then looks like Keeper's own form of it, before a list showed what an answer did."""
        _, unseen = self.ledger.unseen.get(subject, (0, {}))
        _, former = self.ledger.replaced.get(subject, (0, {}))
        changed = {name for name, value in unseen.items() if now is not None and _of(now, name) != value}
        # Keeper shows the address in the place of an empty display name.
        former = {name: value for name, value in former.items() if value or name == "display_name"}
        changed |= {name for name, value in former.items() if now is not None and _of(now, name) == value}
        self.ledger.overtaken.setdefault(subject, set()).update(changed)

    def _account_meddled(self, was: Account | Team | None, now: Account) -> None:
        ledger = self.ledger
        former = was if isinstance(was, Account) else None
        had, has = _memberships(former), _memberships(now)
        if former is None or (former.node, former.email) != (now.node, now.email):
            ledger.readdressed[now.id] = self.tick
        ledger.by_hand |= {(now.id, team) for team in has - had}
        ledger.gifts |= {(now.id, team) for team in has - had}
        for team in had - has:
            listed = (now.id, team) in ledger.listed_places
            taken = ledger.taken_back if listed else ledger.withdrawn
            taken |= {(now.id, key) for key in self._team_keys(team)}
        if not now.locked:
            ledger.own_locks.discard(now.id)
            ledger.forgotten_locks.discard(now.id)
        if not now.locked and (former is None or former.locked):  # a link may have opened it before
            self._opened(now.id)
        if now.locked and former is not None and not former.locked:
            ledger.own_locks.discard(now.id)  # a link had opened ours

    def _opened(self, account: str) -> None:
        """Whoever lets somebody in again leaves nothing of the lock that a link may have undone."""
        for links in (self.ledger.aliased, self.ledger.relinked):
            if account in links:
                links[account] = replace(links[account], locked=False)

    def _holds(self, effect: tuple[str, ...], now: Account | Team | None) -> bool:
        """Whether what a person let through is so still."""
        if not isinstance(now, Account) or now.node != self.rules.node:
            return False
        kind, _, *teams = effect
        keys = {key for team in _memberships(now) for key in self._team_keys(team)}
        return {
            "deactivate_user": now.locked, "add": bool(keys & {*teams}), "remove": not keys & {*teams}
        }.get(kind, True)  # fmt: skip

    def _eligible(self) -> None:
        """Whoever the reconciler may take over by itself: somebody in scope whose address it has, and no other's id; a
        leaver whose id it carries in a first plan, unless somebody who belongs has its address."""
        ledger, truth = self.ledger, self.truth
        by_address: dict[str, list[str]] = {}
        for person in truth.scope_since:
            by_address.setdefault(truth.address(person), []).append(person)
        for account in self.keeper.accounts().values():
            ledger.known.setdefault(account.id, self.tick)
            if account.id in ledger.asked and not self._lapsed(account):
                ledger.meant.setdefault(account.id, set()).update(self.perhaps_whose(account))
            if account.id in ledger.disowned:
                continue
            external, people = account.external_id or "", by_address.get(account.email.casefold(), [])
            if (person := self._shown_for(account)) and external not in truth.ever:
                ledger.owner.setdefault(account.id, person)
            if self._by_its_id(account, people):
                ledger.ours.add(account.id)
                ledger.owner.setdefault(account.id, external)
            elif external not in truth.ever and people:
                ledger.ours.add(account.id)
                if len(people) == 1:  # an address that two people have ties an account to neither
                    ledger.owner.setdefault(account.id, people[0])
        for account in self.keeper.accounts().values():
            owner = account.external_id or (ledger.owner.get(account.id) if account.id in ledger.linked else "")
            ours = account.id in ledger.ours and owner in truth.ever and owner not in truth.scope_since
            if self.first and account.locked and ours:
                ledger.locks.add(account.id)  # before the first plan is through, a leaver's lock is taken for ours
            if account.id in ledger.asked and account.id in ledger.created and self._in_doubt(account):
                self.excuse(10)
                ledger.created.discard(account.id)
                self._stays_given_up(account)

    def _shown_for(self, account: Account) -> str:
        """Find the owner, as far as the cycle knows, of an account that got another address since Keeper was listed."""
        readdressed = self.ledger.readdressed.get(account.id, 0)
        if not readdressed or self.view.partial or readdressed <= self._listed_first:
            return ""
        shown = self.view.keeper_addresses.get(account.id, set())
        people = [one for one in self.truth.scope_since if self.truth.address(one) in shown]
        return people[0] if len(people) == 1 and self.truth.throughout(people[0], self.since) else ""

    def _stays_given_up(self, account: Account) -> None:
        """Keep as given up what a person gave up and then adopted, and what can't be taken over."""
        if account.id in self.ledger.asked:
            self.ledger.given_up[account.id] = self.ledger.retaken.get(account.id, set())

    def _by_its_id(self, account: Account, people: Collection[str]) -> bool:
        """Whether the id on an account makes it somebody's, if these people in scope have its address."""
        external, truth = account.external_id or "", self.truth
        theirs = external in truth.scope_since and external in people
        left = self.first and external in truth.ever and external not in truth.scope_since and not people
        # Somebody who belongs, though not active yet, keeps the address from a leaver.
        return theirs or (left and not any(one != external and truth.stays(one) for one in self._addressed(account)))

    def perhaps_whose(self, account: Account) -> set[str]:
        """Everybody to whom an account that a person adopts may be given: who ever had its address, in JumpCloud or as
        the owner of an account, and whose id it bears."""
        addresses = {account.email.casefold()}
        bearers = {one for one, known in self.truth.addresses.items() if known & addresses}
        owners = {self.ledger.owner.get(one, "") for one in self._bearing(addresses)}
        return bearers | owners | {self.ledger.aliased.get(account.id, account).external_id or ""}

    def _addressed(self, account: Account) -> list[str]:
        """Everybody in JumpCloud who has this account's address."""
        return [one for one in self.truth.people if self.truth.address(one) == account.email.casefold()]

    def _adoptable(self) -> set[str]:
        """The accounts that a first plan which is made now takes over by the id that they bear. Of somebody who is
        staged JumpCloud does not tell whether they have left."""
        by_address: dict[str, list[str]] = {}
        for person in self.truth.scope_since:
            by_address.setdefault(self.truth.address(person), []).append(person)
        told = {one for one, user in self.truth.people.items() if user.suspended or user.state != "STAGED"}
        accounts = [a for a in self.keeper.accounts().values() if a.external_id in told]
        return {a.id for a in accounts if self._by_its_id(a, by_address.get(a.email.casefold(), []))}

    def _in_doubt(self, account: Account) -> bool:
        """Whether the account, which a person adopted, can't be taken over: it is that of several who have not left,
        or of somebody else than it is tied to, and that one's name was not named, or they have another account, or it
        has another address than it was named by."""
        external = account.external_id or ""
        alike = {one for one in self.truth.people if self.truth.address(one) == account.email.casefold()}
        owners = {one for one in {external, *alike} & self.truth.people.keys() if self.truth.stays(one)}
        others = owners - {external}
        tied = external in self.truth.ever and bool(others) and not self.ledger.asked[account.id]
        here = (a for a in self.keeper.accounts().values() if a.node == account.node and a.id != account.id)
        # The id of somebody in scope on an account with another address is a conflict.
        # So it is where that was named, as long as the link is not undone by which a creation of theirs has met it.
        # Or where another account has both their id and their address.
        linked = self.ledger.aliased.get(account.id, account).external_id != account.external_id
        unclear = linked or not self.ledger.asked[account.id] or self._has_plainly_another(account, external)
        readdressed = external in self.truth.scope_since and external not in alike and unclear
        doubt = len(owners) > 1 or tied or readdressed or self._lapsed(account) or self._contested(account)
        return doubt or any(one.external_id in others for one in here)

    def _contested(self, account: Account) -> bool:
        """Whether an account that bears nobody's id is that of somebody in scope whose address is by now that of
        another account, or of somebody else too."""
        owner = self.ledger.owner.get(account.id, "")
        address = self.truth.address(owner)
        if account.external_id in self.truth.ever or owner not in self.truth.scope_since or not address:
            return False
        here = (one for one in self.keeper.accounts().values() if one.node == account.node and one.id != account.id)
        theirs = [one for one in self.truth.scope_since if self.truth.address(one) == address]
        return account.email.casefold() != address and (
            len(theirs) > 1 or any(one.email.casefold() == address for one in here)
        )

    def named_for(self, account: Account) -> set[str]:
        """For whom with its address a person named this account: they have it, though it need not bear their id yet."""
        meant = self.ledger.meant.get(account.id, set())
        return {one for one in meant if self.truth.address(one) == account.email.casefold()}

    def _has_plainly_another(self, account: Account, person: str) -> bool:
        """Whether another account bears both the id and the address of this person."""
        here = (one for one in self.keeper.accounts().values() if one.node == account.node and one.id != account.id)
        return any(one.external_id == person and one.email.casefold() == self.truth.address(person) for one in here)

    def was_found(self, account: Account, person: str) -> bool:
        """Whether nothing but the address that it had ties the account to this person, for whom a plan that nobody has
        reviewed found it."""
        found = self.ledger.found_for.get(account.id) == person and account.id not in self.ledger.linked
        return found and not account.external_id and account.email.casefold() != self.truth.address(person)

    def _merely_had_its_address(self, account: Account, person: str) -> bool:
        """Whether a first plan found the account for somebody else, and nothing but a former address tied this person
        to it."""
        ledger = self.ledger
        found = ledger.found_for.get(account.id, person) != person
        free = account.id not in ledger.created | ledger.meant.keys() and account.external_id != person
        return found and free and self.truth.address(person) != account.email.casefold()

    def _is_a_leavers_by_the_copy(self, account: Account, person: str) -> bool:
        """Whether the copy that is the state file knows the account as that of somebody else, who has its address and
        has left, from before it was given to this person."""
        former = self.ledger.former_owner.get(account.id, person)
        has_it = former != person and self.truth.address(former) == account.email.casefold()
        return has_it and not self.truth.stays(former) and self.excuse(10)

    def _lapsed(self, account: Account) -> bool:
        """Whether an account, which a person adopted, has another address than that by which it was named."""
        return self.ledger.asked[account.id] not in ("", account.email.casefold())

    def _link(self) -> None:
        """The cycle has linked to their owners the accounts that Keeper listed, a resync of one person that person's
        only; an account that it could give to nobody stays free, as does a protected one, or that of somebody who has
        no own record. A list of JumpCloud that is behind may have lacked whoever has the address of one."""
        hidden = self.truth.jumpcloud.organization().hidden
        for account in self.keeper.accounts().values():
            listed = self.ledger.known.get(account.id, self.tick) <= self.view.listed
            concerned = not self.view.partial or self._is_person(account)
            owner = self.ledger.owner.get(account.id, "")
            shown = not self.scope_behind() or account.external_id == owner or self._as_ever(owner)
            free = self._protected(account) and account.id not in self.ledger.created
            theirs = account.id in self.ledger.ours and account.id in self.ledger.owner
            # Whoever came into scope meanwhile need not have been read as in scope. Of a reading that is in doubt
            # the file says whom it showed, see below.
            unread = self.truth.scope_since.get(owner, 0) > self.since or self.scope_in_doubt()
            apart = free or self.was_found(account, owner) or (unread and account.external_id != owner)
            if listed and concerned and shown and theirs and owner not in hidden and not apart:
                self.ledger.linked.add(account.id)

    def _as_ever(self, person: str) -> bool:
        """Whether the person is in scope, and has their address, since before JumpCloud was first asked: whatever is
        behind shows that."""
        named, _ = self.truth.address_since.get(person, (self.tick, ""))
        return self.truth.throughout(person, self.first_asked) and named <= self.first_asked

    def forgot(self) -> None:
        """The state file was lost, restored, or bound anew: counting starts anew, nothing before is in the journal."""
        self.bound = ""
        ledger = self.ledger
        ledger.reviewed = False
        ledger.taken.clear()
        ledger.agreements.clear()
        ledger.allowances.clear()
        ledger.persons.clear()
        ledger.sent.clear()
        ledger.marked.clear()
        ledger.unclear.clear()
        ledger.found.clear()
        ledger.denied.clear()
        ledger.lost.clear()
        ledger.seen.clear()
        ledger.births.clear()
        self.forgotten = self.tick
        self.forgotten_at = self.now()
        ledger.created.clear()
        ledger.met.clear()
        ledger.given.clear()
        ledger.asked.clear()
        ledger.adopted.clear()
        ledger.kept_shielded.clear()
        ledger.former_owner.clear()
        ledger.gifts.clear()
        ledger.belonged.clear()
        ledger.wished.clear()
        ledger.listed_teams.clear()
        ledger.listed_places.clear()
        ledger.ours |= ledger.disowned
        ledger.disowned.clear()
        # Of whoever is locked the next plan has to think anew: ours are leavers' locks only.
        ledger.locks.clear()
        ledger.forgotten_locks |= ledger.own_locks
        ledger.own_locks.clear()
        ledger.by_hand |= {(a.id, team) for a in self.keeper.accounts().values() for team in _memberships(a)}
        # What hides in the queue is found once it shows, and then taken for what Keeper made of the group.
        hidden = {key: team for key, team in self.keeper.teams().items() if self._waits(key)}
        ledger.unseen |= {key: (self.tick, {"name": team.name}) for key, team in hidden.items()}
        ledger.forgotten_links |= ledger.aliased.keys()
        # What bears neither the id nor the address of its owner is known as theirs by the file alone.
        for account in self.keeper.accounts().values():
            address = self.truth.address(ledger.owner.get(account.id, ""))
            if account.external_id in self.truth.ever:
                continue
            ledger.linked.discard(account.id)
            if account.email.casefold() != address:
                self.excuse(9)
                ledger.owner.pop(account.id, None)
        self._eligible()

    def remembered(self) -> tuple[Any, ...]:
        """What a copy of the state file that is made now knows."""
        ledger = self.ledger
        known = (
            ledger.reviewed,
            ledger.created,
            ledger.asked,
            ledger.owner,
            ledger.linked,
            ledger.locks,
            ledger.taken_back,
            ledger.deleted_teams,
            ledger.seen,
            ledger.births,
            # What a cycle that was broken off had read may be in the file.
            ({k for k, locked in self.shown_locked.items() if locked} | self.perhaps_locked) - ledger.own_locks,
            {n: row for n, row in {**ledger.lost, **ledger.marked}.items() if n in self._lost_rows() - ledger.found},
            ledger.denied,
            ledger.given_up,
            set(ledger.unclear),
        )
        names = ledger.unseen, ledger.replaced
        return deepcopy((ledger.agreements, ledger.disowned, ledger.allowances, *names, *known))

    def remembers(self, copy: tuple[Any, ...], *, by_command: bool = False) -> None:
        """The state file is that copy: whom it manages it goes on managing, whose lock was ours by then is ours.

        `by_command`: it was put there with `restore`, after which a plan is a first one, and what waits unseen is
        given once more."""
        ledger = self.ledger
        ledger.agreements, ledger.disowned, ledger.allowances, unseen, replaced, *known = deepcopy(copy)
        ledger.reviewed, created, ledger.asked, owner, linked, locks, taken_back, deleted, *known = known
        ledger.seen, ledger.births, shut, ledger.lost, ledger.denied, given_up, unclear = known
        ledger.given_up |= {one: names | ledger.given_up.get(one, set()) for one, names in given_up.items()}
        for account in unclear - locks:
            self.excuse(6)
            locks.add(account)  # a lock that shows may be ours, as far as the copy knows
        self.shown_locked |= dict.fromkeys(shut, True)
        ledger.rejected = ledger.rejected.union(*(ledger.deleted_teams - deleted))
        if by_command:
            ledger.reviewed = False
            ledger.agreements.clear()
            ledger.allowances.clear()
        else:
            ledger.withdrawn |= ledger.taken_back - taken_back
        known_owners = {one: owner[one] for one in linked & owner.keys()}
        ledger.former_owner = {k: one for k, one in known_owners.items() if ledger.owner.get(k, one) != one}
        ledger.owner = {**known_owners, **ledger.owner}
        ledger.linked |= linked
        ledger.created = {one for one in created if owner.get(one) == ledger.owner.get(one)}
        # Whoever has its address by now is not the owner of an account that bears nobody's id.
        accounts = self.keeper.accounts()
        bears = {one for one in known_owners.keys() & accounts.keys() if accounts[one].external_id in self.truth.ever}
        ledger.owner |= {one: who for one, who in known_owners.items() if one not in bears}
        ledger.locks |= locks
        # What Keeper had not shown by then, it shows now, and as somebody else may have changed it since.
        ledger.unseen = {**unseen, **ledger.unseen}
        ledger.replaced = {**replaced, **ledger.replaced}
        now: dict[str, Account | Team] = {**self.keeper.accounts(), **self.keeper.teams()}
        for subject in {**unseen, **replaced}:
            self._overtake(subject, now.get(subject))
        self._taken_away()

    def agreed(self, effects: Iterable[Sequence[str]]) -> None:
        """A person lets these effects through, for four hours from the next cycle on."""
        effects = list(effects)
        self.ledger.reviewed |= bool(effects)
        self.ledger.agreements.append(Agreement({tuple(effect) for effect in effects}, self.tick))

    def cycle_begins(
        self,
        rules: Rules,
        binding: dict[str, str] | None,
        *,
        person: str = "",
        leavers: frozenset[str] = frozenset(),
        unlock: bool = False,
        first: bool = False,
    ) -> View:
        self.tick += 1
        # What the file was bound to once counts, whatever may have been written over it.
        self.bound = self.bound or (binding or {}).get("keeper", "")
        # The process may have died between the plan that the settings let through and its first request.
        self.ledger.reviewed |= not first and self.let_through
        self.let_through = rules.safety.get("first_run") == "apply"
        self.rules = rules
        pilot = rules.policy.get("only", {})
        self.ledger.pilot_groups |= {*pilot.get("groups", ())}
        self.ledger.pilot_addresses |= {address.casefold() for address in pilot.get("users", ())}
        listed = self.latest.listed
        self.latest = View(self.tick, self.now(), person, leavers, unlock, first, len(self.ledger.known), listed)
        self.latest.adoptable = self._adoptable()
        accounts = self.keeper.accounts().items() if person else ()
        self.latest.named = {k for k, account in accounts if self._is_about(self.latest, account)}
        owners = self.ledger.owner.items()
        self.latest.tied = {account: person for account, person in owners if account in self.ledger.linked}
        self._eligible()
        self._shield()
        return self.latest

    def _shield(self) -> None:
        """Whoever was protected once stays so under whatever address, as long as that entry is in the settings."""
        for account in self.keeper.accounts().values():
            addresses = {account.email.casefold(), *(self.truth.address(one) for one in self.who(account))}
            self.ledger.shielded.setdefault(account.id, set()).update(addresses & self.rules.protected)

    def _shield_behind(self) -> None:
        """Whoever JumpCloud has shown under a former address that is protected is protected from then on."""
        for account in self.keeper.accounts().values():
            shown = {old for one in self.who(account) for old in self.view.addresses_shown.get(one, ())}
            entries = (shown & self.rules.protected) - self.ledger.shielded.get(account.id, set())
            if entries and self.scope_behind():
                self.ledger.shielded_behind.setdefault(account.id, set()).update(entries)

    def _adopted_behind(self) -> None:
        """A page that is behind may show somebody in scope whose account was adopted after they had left."""
        if self.scope_behind():
            self.ledger.adopted.clear()

    def _locks_behind(self) -> None:
        """The lock of somebody whom a page that is behind shows as a leaver is ours before the first plan."""
        if not (self.first and self.scope_behind()):
            return
        for account in self.keeper.accounts().values():
            owner = self.ledger.owner.get(account.id, "")
            if account.locked and account.id in self.ledger.ours and owner in self.truth.left_scope:
                self.ledger.locks.add(account.id)

    def cycle_completed(
        self, *, listed: bool, whole: bool, linked: bool, applied: bool, calm: Set[str] | None = None
    ) -> None:
        """The cycle came to its end: whom it unlocked, and whom it saw active and in scope, is not locked by us.

        `listed`: it goes by what Keeper's list of users showed it. `calm`: where nothing went wrong, or happened beside
        it, and nothing was held but by limits on giving, the ids of the accounts whose operations were held.
        """
        if calm is not None and not self.first:
            self._served(calm)
        self._shield_behind()
        self._locks_behind()
        self._adopted_behind()
        if listed:
            # A cycle of some people keeps nothing of what its list shows of others.
            there, locks = self.keeper.accounts(), self.view.locked_shown
            if self.view.partial:
                locks = {k: locked for k, locked in locks.items() if k in there and self._is_person(there[k])}
            self.shown_locked |= locks
            # Of an account that this list lacks, the list before is the newest, be its cycle broken off.
            self.perhaps_locked -= {k for k, locked in locks.items() if not locked}
            opened = [k for k in self.view.opened_shown if self.opened_unseen.get(k, self.tick) < self.view.listed]
            for keeper_id in opened:
                del self.opened_unseen[keeper_id]
        locked_at = self.ledger.locked_at
        self.ledger.locks -= {k for k, tick in self.view.unlocked.items() if locked_at.get(k, 0) < tick}
        self.ledger.reviewed |= not self.view.partial and self.rules.safety.get("first_run") == "apply"
        decisions: list[Agreement | Allowance] = [*self.ledger.agreements, *self.ledger.allowances]
        for one in decisions:
            # It reads the time before it reads anything else, and may have waited for that.
            one.until = one.until or self.began + LASTS + timedelta(minutes=30)
        pages = list(self.view.users_shown.values()) if listed and not self.view.partial else []
        readdressed = {one for one, tick in self.ledger.readdressed.items() if tick <= self.view.listed}
        self.ledger.seen |= self.view.answered.union(*pages) - (readdressed & self.ledger.newborn)
        if whole:
            unseen = self.ledger.unseen.items()
            self.ledger.unseen = {one: (at, wish) for one, (at, wish) in unseen if at > self.since or self._waits(one)}
            replaced = self.ledger.replaced.items()
            self.ledger.replaced = {one: (at, names) for one, (at, names) in replaced if at > self.since}
        if listed and not (linked or self.view.partial):
            self._find()
        if linked:
            self._link()
            if not self.view.partial:
                self._belong()
                if listed:  # else what a person adopted is taken over by a later cycle
                    self._give()
                    for account in self.keeper.accounts().values():
                        if account.id in self.ledger.asked and (self._protected(account) or self._unread_heir(account)):
                            self.excuse(10)
                            self.ledger.created.discard(account.id)
                            self._stays_given_up(account)
                    self._lose()
                    self.ledger.asked.clear()
                    self.ledger.listed_teams |= self.view.teams_shown
                    self.ledger.listed_places |= self.view.places_shown
                self._keep_shields()
        if whole and applied and self.first:
            shown = {one for one, tick in self.ledger.known.items() if tick <= self.view.listed}
            here = [a for a in self.keeper.accounts().values() if a.node == self.rules.node and a.id in shown]
            ids = [a.external_id for a in here]  # whose id two accounts bear, neither is adopted for a leaver
            taken_over = self.view.adoptable & self._adoptable()
            self.ledger.created |= {a.id for a in here if a.id in taken_over and ids.count(a.external_id) == 1}
        elif whole and applied:
            self._adopted()
        if whole:
            for account in self.keeper.accounts().values():
                owner = self.ledger.owner.get(account.id, "")
                # Who was unlocked by hand after the list is not known as open: our own request may have failed. Nor is
                # whoever is in another node.
                known = self.view.locked_shown.get(account.id) is False
                if account.active and self.truth.throughout(owner, self.since) and known:
                    self.ledger.locks.discard(account.id)
        if linked and not self.view.partial:
            # What happens from now on is after the first plan, though no other cycle has begun.
            self.view.first = self.latest.first = False

    def _belong(self) -> None:
        """A whole cycle has seen who is in scope: should they leave, their grace begins anew."""
        for account in self.keeper.accounts().values():
            theirs = account.id in self.ledger.linked and account.id in self.ledger.created
            if theirs and self.truth.throughout(self.ledger.owner.get(account.id, ""), self.since):
                self.ledger.belonged[account.id] = self.tick, None

    def _give(self) -> None:
        """A whole cycle has given each account that a person named to the one person who has its address and no other
        account, if whoever had it before has left. The request that gives it their id may have failed."""
        ledger, truth = self.ledger, self.truth
        taken = {*ledger.owner.values(), *(one.external_id for one in self.keeper.accounts().values())}
        for account in [one for one in self.keeper.accounts().values() if one.id in ledger.asked]:
            named = ledger.asked[account.id] == account.email.casefold() and account.node == self.rules.node
            # One that has come back since Keeper was listed had left, for all that the plan knows.
            named = named and ledger.readdressed.get(account.id, 0) <= self._listed_first
            people = [one for one in self._addressed(account) if truth.stays(one)]
            (person, *others) = people or [""]
            sure = truth.throughout(person, self.since) and truth.has_throughout(person, self.since)
            free = not others and person not in taken and not truth.stays(account.external_id or "")
            if named and sure and free and not (self.scope_in_doubt() or self._protected(account)):
                ledger.given[account.id] = ledger.owner[account.id] = person

    def _unread_heir(self, account: Account) -> bool:
        """Whether an account bears the id of somebody under another address, so that it may be that of whom a list that
        is behind shows in scope, and who has no record any more."""
        theirs = self.truth.address(account.external_id or "")
        return self.scope_behind() and theirs not in ("", account.email.casefold())

    @property
    def _listed_first(self) -> int:
        """The tick at which Keeper's users were listed first in this cycle, or last before it."""
        return min((tick for tick in self.listings if tick > self.since), default=self.view.listed)

    def _lose(self) -> None:
        """A whole cycle forgets whose account it was that a person named, without an id, and that had left the node."""
        ledger = self.ledger
        for account in [one for one in self.keeper.accounts().values() if one.id in ledger.asked]:
            left = account.node != self.rules.node and ledger.readdressed.get(account.id, 0) <= self._listed_first
            if left and account.external_id not in self.truth.ever and ledger.owner.pop(account.id, ""):
                self.excuse(10)
                ledger.linked.discard(account.id)

    def _in_grace(self, account: Account, who: Set[str]) -> bool:
        """Whether everybody whose account this is has merely left the scope, and so lately that no clock and no cycle
        that was under way can make their grace be over."""
        seen, left = self.ledger.belonged.get(account.id, (0, None))
        if left is None or self.scope_in_doubt() or who != {self.ledger.owner.get(account.id)}:
            return False
        # A person named it for somebody else, and a cycle that was cut off may have given it to them.
        if account.id in self.ledger.asked and self.ledger.meant.get(account.id, set()) - who - {""}:
            return False
        merely = all(self.truth.active(one) and self.truth.deactivated.get(one, 0) < seen for one in who)
        return merely and self.now() < left + self.rules.grace - timedelta(minutes=10)

    def _served(self, held: Set[str]) -> None:
        """One calm cycle is enough to lock whoever is suspended, and to undo our own lock on somebody in scope, where
        nothing else is known of the account than that it is theirs."""
        for account in self.keeper.accounts().values():
            person, words = self.ledger.owner.get(account.id, ""), ""
            suspended = self.truth.inactive_throughout(person, self.since) and self.truth.says_suspended(person)
            # Who was locked in the newest list, and was unlocked since, is so until a resync lists Keeper again.
            locked = self.view.locked_shown.get(account.id, self.shown_locked.get(account.id, False))
            if account.active and suspended and not locked:
                words = "is suspended, and a calm cycle has not locked them"
            ours = account.id in self.ledger.own_locks - self.ledger.forgotten_locks
            if account.locked and ours and account.id not in held and self.truth.throughout(person, self.since):
                words = "is in scope, and a calm cycle has not undone our lock"
            if words and account.node == self.rules.node and self._plainly_theirs(account, person):
                self.violated("s", f"{account.email} {words}")

    def _plainly_theirs(self, account: Account, person: str) -> bool:
        """Whether a cycle has seen this person in scope and the owner of the account, which nobody else has touched
        since, and everything that is known of either is settled."""
        ledger, (seen, _) = self.ledger, self.ledger.belonged.get(account.id, (0, None))
        address = self.truth.address(person)
        theirs = {
            one.id
            for one in self.keeper.accounts().values()
            if person in (one.external_id, ledger.owner.get(one.id)) or address in one.addresses
        }
        special = {*ledger.disowned, *ledger.aliased, *ledger.met, *ledger.shielded_behind}
        # Who was protected under a former address may be so with another account, too.
        former = self.truth.addresses.get(person, set()) & self.rules.protected
        shielded = self._protected(account) or ledger.kept_shielded.get(account.id) or former
        rows = [number for number, (_, subject, _) in ledger.marked.items() if subject == account.id]
        before = [number for number in rows if number not in ledger.sent or ledger.sent[number].tick < self.since]
        settled = all(number in ledger.sent and ledger.sent[number].closed is not None for number in before)
        plain = bool(seen) and account.external_id == person and theirs == {account.id} and settled
        untouched = ledger.touched.get(account.id, 0) < seen and account.id not in special and not shielded
        return plain and untouched and self._addressed(account) == [person]

    def _find(self) -> None:
        """A plan that nobody has reviewed says whose accounts it would take over by their addresses."""
        for account in self.keeper.accounts().values():
            listed = self.ledger.known.get(account.id, self.tick) <= self.view.listed
            found = [one for one in self._addressed(account) if self.truth.throughout(one, self.since)]
            if listed and len(found) == 1:
                self.ledger.found_for[account.id] = found[0]
            # A page that is behind may show somebody in scope who has left.
            left = [one for one in self._addressed(account) if one in self.truth.once] if self.scope_behind() else []
            if listed and not found and len(left) == 1 and account.external_id not in self.truth.ever:
                self.excuse(7)
                self.ledger.found_for[account.id] = left[0]
                self.ledger.ours.add(account.id)

    def _waits(self, subject: str) -> bool:
        """Whether this is a team in a queue that Keeper does not show."""
        team = self.keeper.teams().get(subject)
        return team is not None and not team.approved and not self.keeper.dialect.shows_queued_teams

    def _adopted(self) -> None:
        """Who bears the id of somebody in scope, alone, and was listed, is adopted without a request."""
        here = [a for a in self.keeper.accounts().values() if a.node == self.rules.node]
        ids = [a.external_id for a in here]
        for account in here:
            owner, came = account.external_id or "", self.ledger.known.get(account.id, self.tick)
            given_up = account.id in self.ledger.disowned or account.id in self.ledger.met
            # Whoever was given up with an account that is gone is so with the next one that bears their id.
            given_up = given_up or any(owner in self.ledger.given_up.get(one, ()) for one in self.ledger.disowned)
            alone = ids.count(owner) == 1 and not given_up and not self._protected(account)
            named = account.email.casefold() == self.truth.address(owner)  # else it is a conflict
            if alone and named and came <= self.since and self.truth.throughout(owner, self.since):
                self.ledger.created.add(account.id)

    def _protected(self, account: Account) -> bool:
        once = self.ledger.shielded.get(account.id, set())
        return bool({account.email.casefold(), *once} & self.rules.protected)

    # Requests.

    def request(
        self, asked: Request, answer: Response, effects: Sequence[Change], row: int | None, store: CampaignStore | None
    ) -> None:
        """One request that the simulated Keeper received and how it answered, with everything that it changed."""
        self.tick += 1
        if asked.method == "GET":
            if asked.path.endswith("/Users") and "startIndex=1&" in asked.target:
                self.view.listed = self.latest.listed = self.tick
                self.listings.append(self.tick)
                # Who came between the beginning and the list may be managed, and counts in the percentages.
                self.view.people = self.view.people if self.view.wrote else len(self.ledger.known)
                here = {k: a.locked for k, a in self.keeper.accounts().items() if a.node == self.rules.node}
                self.view.locked_shown = here
                locks = {k for k, locked in here.items() if locked}
                self.perhaps_locked |= locks
                self._denied_lately(locks - self.ledger.locks)
            return
        self.asked = asked
        self.view.wrote = True
        self._journalled(asked, answer, effects, row, store)
        if store:
            self.linked(store)
            self._found(store.settled())
        written = (store.value("binding") or {}).get("keeper", "") if store else ""
        for bound in {written, self.bound or written}:
            if not bound or not f"{HOST}{asked.path}".startswith(f"{bound}/"):
                self.violated(
                    "e", f"{asked.method} {asked.path}, while the state file is bound to {bound or 'nothing'}"
                )
        if self.rules.observes:
            self.violated("e", f"{asked.method} {asked.path} in observe mode")
        self.ledger.reviewed |= self.rules.safety.get("first_run") == "apply"
        if not (self.ledger.reviewed or self.view.person):
            self.violated("d", f"{asked.method} {asked.path}, before anybody has agreed to a first plan")
        lost = {c.subject for c in effects if c.what == "delete_team"}
        for change in effects:
            if isinstance(change.after or change.before, Account):
                self._user(change, lost)
            else:
                self._team(change)
        if effects:
            left: dict[str, Account | Team] = {**self.keeper.accounts(), **self.keeper.teams()}
            self._note_fates(left)
            self.left = left
        self._eligible()

    def answered(self, asked: Request, shown: Response) -> None:
        """What the reconciler was shown, whatever Keeper had answered."""
        self.first_asked = self.first_asked or self.tick
        sent = self.ledger.sent.get(row_in_hand.get() or 0)
        if asked.method == "PATCH" and sent is not None and (shown.status == 0 or shown.status >= 500):
            sent.unclear = True  # whatever Keeper had answered
        if sent is not None and asked.method != "GET":
            sent.answered -= _unreadable_names(shown.body)
        if asked.method == "GET" and asked.path.endswith("/Users") and shown.status == 200:
            with suppress(ValueError, TypeError, KeyError):
                rows = json.loads(shown.body)["Resources"]
                self.view.users_shown[asked.target] = {str(row["id"]) for row in rows}
                for row in rows:
                    self._list_shows(str(row["id"]), row.get("active"))
                    self.view.keeper_addresses.setdefault(str(row["id"]), set()).add(str(row["userName"]).casefold())
        elif asked.method == "GET" and asked.path.endswith("/Groups") and shown.status == 200:
            with suppress(ValueError, TypeError, KeyError):
                self.view.teams_shown |= {str(row["id"]) for row in json.loads(shown.body)["Resources"]}
        elif "/scim/" in asked.path and "/Users" in asked.path and shown.status in (200, 201):
            with suppress(ValueError, TypeError, KeyError):
                self.view.answered.add(account := str(json.loads(shown.body)["id"]))
                self.shown_at[account] = self.tick
        if asked.method == "GET" and "/scim/" in asked.path and "/Users/" in asked.path:
            self.view.locked_read.discard(asked.path.rpartition("/")[2])
            with suppress(ValueError, TypeError, KeyError, AttributeError):
                if json.loads(shown.body)["active"] is False and shown.status == 200:
                    account = asked.path.rpartition("/")[2]
                    self.view.locked_read.add(account)
                    self.perhaps_locked |= {account} - self.ledger.own_locks
        if asked.method == "GET" and asked.path.endswith("/Users"):
            if "startIndex=1&" in asked.target:
                self.view.places_listed.clear()
            if shown.status != 200:  # a list that is not read to its end shows nothing
                self.view.opened_shown.clear()
                self.view.places_shown -= self.view.places_listed
            else:
                self.view.places_shown |= self.view.places_listed  # a page without an answer is asked for again
        if asked.method == "GET" and asked.path.endswith("/Groups") and shown.status != 200:
            self.view.teams_shown.clear()
        if self.opened_unseen and "/Users" in asked.path and shown.status in (200, 201):
            with suppress(ValueError, TypeError, KeyError, AttributeError):
                found = json.loads(shown.body)
                rows = found.get("Resources", [found])
                for account, is_open in ((str(row["id"]), row["active"] is True) for row in rows):
                    if is_open and "Resources" in found:
                        self.view.opened_shown.add(account)
                    elif is_open:
                        self.opened_unseen.pop(account, None)
                    else:
                        self.view.opened_shown.discard(account)
        if "/Users" in asked.path and shown.status in (200, 201) and b'"groups"' in shown.body:
            with suppress(ValueError, TypeError, KeyError, AttributeError):
                found = json.loads(shown.body)
                for row in found.get("Resources", [found]):
                    teams = {team["value"] for team in row.get("groups", ())}
                    self.shown_teams.setdefault(str(row["id"]), set()).update(teams)
                    if "Resources" in found:
                        places = {(str(row["id"]), team) for team in teams}
                        self.view.places_listed |= places - self.view.places_shown
                        self.view.places_shown |= places
        broken = shown.status == 200 and b'"results"' not in shown.body
        if asked.path in _USERS_OF_JUMPCLOUD and (broken or shown.status in (302, 401, 403, 404, 501)):
            self.view.addresses_shown.clear()  # of a list that is refused, or breaks off, no page counts
        if asked.path.startswith(_USERS_OF_JUMPCLOUD) and shown.status == 200:
            with suppress(ValueError, TypeError, KeyError, AttributeError):
                found = json.loads(shown.body)
                for row in found.get("results", [found]):
                    self.view.addresses_shown.setdefault(row["_id"], set()).add(row["email"].strip().casefold())

    def _list_shows(self, account: str, active: object) -> None:
        """Take note of what a row tells of the lock, which may be behind the truth. Where it tells nothing, the list
        before is the newest."""
        self.view.locked_shown.pop(account, None)
        if isinstance(active, bool):
            self.view.locked_shown[account] = not active
            self.perhaps_locked |= set() if active else {account}

    def users_denied(self, account: str) -> bool:
        """Whether Keeper's list of users lied in this cycle, and lacked this account."""
        return self.users_lied() and not any(account in shown for shown in self.view.users_shown.values())

    def marked(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """These rows of the journal are marked as sent, whether their requests will arrive or not."""
        seen, shown = frozenset(self.ledger.seen), frozenset[str]().union(*self.view.users_shown.values())
        for row in rows:
            self.ledger.marked[row["id"]] = row["kind"], row["keeper_id"], self.now()
            if row["kind"] == "deactivate_user" and self._agreed("deactivate_user", {row["keeper_id"]}):
                self.ledger.looked_at[row["keeper_id"]] = self.tick, self.now()
            self._prolong(row)
            if row["kind"] == "queue_team":
                self._queued_again(str(row["jumpcloud_id"]))
            if row["kind"] in ACCESS:
                self.ledger.unclear[row["keeper_id"]] = row["id"]
            if row["kind"] == "create_user":
                self.ledger.births[str(row["jumpcloud_id"])] = Birth(
                    row["id"], str(row["subject_name"]).casefold(), self.view.listed, seen, shown
                )

    def _queued_again(self, group: str) -> None:
        """A state file that does not know of the group's team takes it for new once it has asked for it."""
        _, tick = self.ledger.queued.get(group, (BEGINNING, 0))
        for team in self.keeper.teams().values() if tick <= self.forgotten else ():
            if team.external_id == group:
                self.ledger.queued[group] = self.ledger.queued[team.id] = self.now(), tick

    def _prolong(self, row: Mapping[str, Any]) -> None:
        """A release of which something may have been sent has four more hours for the rest."""
        keys = {row["jumpcloud_id"], row["keeper_id"]}
        for one in self.ledger.agreements:
            if str(row["decision"]).startswith("release:") and self._counts(one):
                one.until = None if any(effect[1] in keys for effect in one.effects) else one.until

    def _found(self, rows: Iterable[dict[str, Any]]) -> None:
        """Whoever was to be locked or created when the process died, or was not answered, before that was sent, and is
        then found locked or there: nobody can tell whose lock or account that is."""
        lost = self._lost_rows()
        for row in rows:
            if row["id"] not in lost - self.ledger.found:
                continue
            self.ledger.found.add(row["id"])
            if row["kind"] == "deactivate_user":
                if row["id"] in self.ledger.sent and row["keeper_id"] not in self.ledger.locks:
                    self.excuse(6)
                self.ledger.locks.add(row["keeper_id"])
                # To let them in again undoes it, also by a new account; the window counts from when it was sent.
                at, keys = datetime.fromisoformat(row["sent_at"]), {row["keeper_id"], row["jumpcloud_id"] or ""} - {""}
                older = {one for one in keys if self.ledger.access.get(one, (BEGINNING, False))[0] <= at}
                self._changed_access(older, gave=False, at=at)
            if row["kind"] == "reactivate_user":
                # Somebody else let them in; it counts as ours, and to lock them again undoes it.
                at, keys = datetime.fromisoformat(row["sent_at"]), {row["keeper_id"], row["jumpcloud_id"] or ""} - {""}
                self._perhaps_changed(keys, gave=True, at=at)
            if row["kind"] == "create_user":
                theirs = {a.id for a in self.keeper.accounts().values() if a.external_id == row["jumpcloud_id"]}
                if theirs - self.ledger.ours - self.ledger.disowned:
                    self.excuse(4)
                self.ledger.ours |= theirs - self.ledger.disowned

    def _lost_rows(self) -> set[int]:
        """The rows that were marked as sent, and of which Keeper shows nothing that they have done."""
        lost = {*self.ledger.lost, *self.ledger.marked} - self.ledger.sent.keys()
        sent, accounts = self.ledger.sent.items(), self.keeper.accounts()
        # Nor does one tell of a lock that found no account, where that is back and locked by somebody else.
        away = {n for n, one in sent if one.missed and (found := accounts.get(one.subject)) and found.locked}
        lost |= {number for number, one in sent if (one.unclear or number in away) and not one.effects}
        # One that arrived, and that somebody undid before anything showed it.
        return lost | {n for n, one in sent if one.undone and one.closed is None and one.kind == "deactivate_user"}

    def _denied_lately(self, locked: Set[str]) -> None:
        """A lock of ours that never arrived counts for a day: the lists that denied it may have been behind."""
        young = self.now() - DENIED_COUNTS
        for number, (kind, account, at) in {**self.ledger.lost, **self.ledger.marked}.items():
            sent = self.ledger.sent.get(number)
            arrived = sent is not None and (sent.effects or not sent.unclear) and not sent.denied
            denied = self.ledger.denied.get(number, at)
            if account in locked and kind == "deactivate_user" and denied > young and not arrived:
                self.ledger.locks.add(account)
                self.excuse(6)

    def closed(self, store: CampaignStore) -> None:
        """The journal as it is after a cycle."""
        self._found(store.settled())
        for account, number in list(self.ledger.unclear.items()):
            row = store.journal_row(number)
            if row is None or row["state"] not in ("sent", "unknown"):
                del self.ledger.unclear[account]
        for person, birth in list(self.ledger.births.items()):
            row = store.journal_row(birth.row)
            # A link is undone in the same cycle or later.
            linked = row is not None and row["outcome"] == "linked_to_another"
            if row is None or not (linked or row["state"] in ("sent", "unknown")):
                del self.ledger.births[person]
        sent_before = {**self.ledger.lost, **self.ledger.marked}.items()
        for number in [n for n, (kind, *_) in sent_before if kind == "deactivate_user"]:
            row = store.journal_row(number) if number not in self.ledger.denied else None
            if row is not None and (row["state"], row["outcome"]) == ("failed", "settled"):
                self.ledger.denied[number] = self.now()
        for number, sent in self.ledger.sent.items():
            row = store.journal_row(number) if sent.closed is None else None
            if row is not None and row["state"] not in ("sent", "unknown"):
                sent.closed = self.tick
                if row["state"] == "done":
                    # It was known before somebody undid it.
                    for key in sent.access:
                        self.ledger.perhaps_access.pop(key, None)
                sent.denied = row["state"] == "failed"
                if sent.denied and sent.kind == "deactivate_user":
                    keys = {sent.subject, str(row["jumpcloud_id"])}
                    self.ledger.denied_locks |= {key: (at, sent.undone) for key in keys if (at := sent.locked.get(key))}
                if row["state"] == "failed" and sent.undone:
                    self._uncount(number)
                let_in = sent.kind == "deactivate_user" and self.ledger.access.get(sent.subject, (BEGINNING, False))[1]
                # An unlock of ours may have undone it before anything showed it.
                if row["state"] == "put_off" and (let_in or self._sent_by_decision(store, number, sent)):
                    self._uncount(number)
                if row["state"] != "done" and self._invisible(sent):
                    # That it arrived can't be known: what shows of it once it is approved is thought of as by hand.
                    accounts = [change.after for change in sent.effects if isinstance(change.after, Account)]
                    self.ledger.by_hand |= {(one.id, team) for one in accounts for team in _memberships(one)}
                    if sent.kind == "deactivate_user":
                        self.ledger.own_locks.discard(sent.subject)  # once a day has passed it is somebody else's
                elif row["state"] == "put_off" and self.ledger.readdressed.get(sent.subject, 0) > sent.tick:
                    # Nor while the account was in another node.
                    given = {team for change in sent.effects for team in _memberships(change.after)}
                    self.ledger.by_hand |= {(sent.subject, team) for team in given}
                    self.excuse(2)
                if row["outcome"] == "done" and sent.subject in self.ledger.unseen:
                    # The answer reached us, and it is on record.
                    for name in sent.answered:
                        self.ledger.unseen[sent.subject][1].pop(name, None)

    def linked(self, store: CampaignStore) -> None:
        """What was learnt is saved once anything is marked as sent: of a first plan, whoever something is sent for."""
        self._shield_behind()
        self._adopted_behind()
        ledger, accounts = self.ledger, self.keeper.accounts()
        self._linked_for_good(store)
        concerned = store.concerned()
        if self.scope_behind():
            there = concerned.keys() & accounts.keys()
            ledger.ours |= {one for one in there if self._was_whose(accounts[one], concerned[one])}
        self._adopted_as_left(store)
        if store.value("reviewed") == "1":
            self._link()
            self._linked_in_doubt(store)
        others = {one for one, person in concerned.items() if ledger.owner.get(one, person) != person}
        others = {one for one in others & accounts.keys() if self.was_found(accounts[one], ledger.owner[one])}
        ledger.linked |= (ledger.ours & concerned.keys()) - others
        for one in ledger.linked & concerned.keys() & accounts.keys():
            # Somebody whom a list that is behind shows in scope is linked too: it is theirs while it has their address.
            if self.truth.address(concerned[one]) == accounts[one].email.casefold():
                if one not in ledger.owner:
                    self.excuse(7)
                ledger.owner.setdefault(one, concerned[one])

    def left_behind(self, store: CampaignStore) -> None:
        """Work that was broken off before it sent anything had linked whom the file ties to their accounts, and taken
        for its own what a page that is behind made so."""
        self._locks_behind()
        self._adopted_as_left(store)
        self._adopted_behind()
        if store.value("reviewed") == "1":
            self._tied_behind(store)
            tied = store.tied().items()
            self.ledger.linked |= {
                one for one, person in tied if self.ledger.owner.get(one) == person
            } & self.ledger.ours
        elif self.view.listed > self.since and not self.view.partial:
            known = dict(self.ledger.found_for)
            self._find()  # a first plan is in the file before whatever broke it off
            self.ledger.found_for |= known

    def taken_over(self, store: CampaignStore) -> None:
        """A cycle has linked, though it sent nothing, whoever had left to the account that a person adopted; so has one
        to which a list that is behind showed somebody in scope."""
        self._linked_in_doubt(store)
        self._adopted_as_left(store)
        self._linked_for_good(store)
        self._tied_behind(store)

    def _linked_in_doubt(self, store: CampaignStore) -> None:
        """Two readings of JumpCloud may differ in who is in scope: whom both showed is linked."""
        if self.scope_in_doubt():
            tied = store.tied().items()
            self.ledger.linked |= self.ledger.ours & {one for one, who in tied if self.ledger.owner.get(one) == who}

    def _linked_for_good(self, store: CampaignStore) -> None:
        """The file ties to whose creation met it an account which has their address, too: an earlier file that knew of
        that link is lost."""
        ledger, accounts = self.ledger, self.keeper.accounts()
        links = ledger.forgotten_links & ledger.aliased.keys() & accounts.keys()
        tied = store.tied() if links else {}
        for one in links & tied.keys():
            person = accounts[one].external_id or ""
            theirs = accounts[one].email.casefold() == self.truth.address(person)
            if theirs and tied[one] == person != ledger.aliased[one].external_id:
                self.excuse(9)
                ledger.owner[one] = person
                ledger.forgotten_links.discard(one)
                ledger.relinked.pop(one, None)
                del ledger.aliased[one]

    def _tied_behind(self, store: CampaignStore) -> None:
        """A list that is behind showed somebody in scope, or nobody else with their address, and they are linked."""
        if not self.scope_behind():
            return
        ledger, accounts, tied = self.ledger, self.keeper.accounts(), store.tied()
        theirs = {one for one in tied.keys() & accounts.keys() if self._was_whose(accounts[one], tied[one])}
        for one in theirs - ledger.linked:
            self.excuse(7)
            ledger.ours.add(one)
            ledger.linked.add(one)
            ledger.owner.setdefault(one, tied[one])

    def _adopted_as_left(self, store: CampaignStore) -> None:
        """The file ties an account without an id, which a person adopted, to whom alone JumpCloud showed under its
        address, and who had left."""
        ledger, accounts = self.ledger, self.keeper.accounts()
        adopted = (ledger.created & accounts.keys()) - ledger.owner.keys()
        tied = store.tied() if adopted else {}
        for one in adopted & tied.keys():
            address = accounts[one].email.casefold()
            shown = {who for who, names in self.view.addresses_shown.items() if address in names}
            left = not self.truth.stays(tied[one])
            if accounts[one].external_id not in self.truth.ever and shown == {tied[one]} and left:
                ledger.owner[one] = tied[one]
                ledger.linked.add(one)

    def _was_whose(self, account: Account, person: str) -> bool:
        """Whether the reconciler would take this account over for that person, were they in scope as they were."""
        given_up = account.id in self.ledger.disowned
        bears = account.email.casefold() == self.truth.address(person) and account.external_id not in self.truth.ever
        return person in self.truth.once and not given_up and (bears or account.external_id == person)

    def _journalled(
        self, asked: Request, answer: Response, effects: Sequence[Change], row: int | None, store: CampaignStore | None
    ) -> None:
        found = store.journal_row(row) if store and row else None
        what = f"{asked.method} {asked.path.rpartition('/v2/')[2]}"
        if found is None or row is None:
            self.violated("h", f"{what} is in no journal")
            return
        self.kind, self.row, self.undoes = str(found["kind"]), row, found["rule"] == "undone"
        if found["state"] != "sent":
            self.violated("h", f"{what} was sent while the journal says {found['state']}")
        target = asked.path.rpartition("/")[2]
        body = json.loads(asked.body) if asked.method == "POST" else {}
        if target not in (found["keeper_id"], "Users", "Groups") or (
            asked.method == "POST" and body.get("externalId") != found["jumpcloud_id"]
        ):
            self.violated("h", f"{what} is about somebody else than the journal says, {found['subject_name']}")
        everything: dict[str, Account | Team] = {**self.keeper.accounts(), **self.keeper.teams()}
        there = [
            key for key, one in everything.items() if one.external_id and one.external_id == body.get("externalId")
        ]
        subject = effects[0].subject if effects and asked.method == "POST" else next(iter(there), target)
        sent = self.ledger.sent.setdefault(row, Sent(row, subject, found["kind"], self.tick))
        sent.subject, sent.tick = subject, self.tick
        sent.effects += effects
        for one in effects:
            if isinstance(had := one.before, Account):
                lost = filter(self._is_unasked, _memberships(had) - _memberships(one.after))
                sent.replaced |= {team: not self._unseen(had, team) for team in lost}
        sent.unclear = answer.status >= 500
        sent.missed = answer.status in (404, 410) and found["kind"] == "deactivate_user"
        sent.taken |= answer.status not in range(400, 500) or answer.status in (404, 409, 410)
        sides = [one for change in effects for one in (change.before, change.after)]
        pending = {team for one in sides if isinstance(one, Account) for team in one.pending_teams}
        sent.hidden = any(self._waits(one) for one in (subject, *pending))
        # Who is refused as already there is found there later, and taken for what became of the request.
        made, asks = everything.get(subject), answer.status < 300 or asked.method == "POST"
        named = {name for name, word in NAMES.items() if asks and hasattr(made, name) and word.encode() in asked.body}
        if isinstance(made, Account) and str(body.get("userName", made.email)).casefold() == made.email.casefold():
            asked_for = json.loads(asked.body)
            wishes = {name: value for name in named if (value := _found_under(asked_for, NAMES[name])) is not None}
            self.ledger.wished[subject] = self.ledger.wished.get(subject, {}) | wishes
        if named:
            # What Keeper makes of a wish may be anything; where no answer shows it, it is what Keeper shows next.
            self.ledger.overtaken.get(subject, set()).difference_update(named)
            _, unseen = self.ledger.unseen.pop(subject, (0, {}))
            self.ledger.unseen[subject] = self.tick, {**unseen, **{name: _of(made, name) for name in named}}
            former = {name: _of(change.before, name) for change in effects if change.before for name in named}
            self.ledger.replaced[subject] = self.tick, former
            sent.answered = named if answer.body else set()
        opens = found["kind"] == "reactivate_user" and (answer.status < 300 or effects)
        if opens and not any(isinstance(one.before, Account) and one.before.locked for one in effects):
            # Somebody else, or a link, unlocked them a moment before we did: whoever sends it can't know that.
            self._opened(target)
            self._changed_access({target, str(found["jumpcloud_id"])}, gave=True)
        if found["kind"] == "deactivate_user" and answer.status < 300 and not effects:
            # Somebody else was faster: what we asked for is so, and nobody can tell the two locks apart, unless they
            # were shown to us.
            if target in self.view.locked_read and not self._perhaps_ours(target, row):
                self.violated("b", f"{what} is on top of somebody else's lock, which the read before it showed")
            self.excuse(6)
            self.ledger.locks.add(target)
            self._perhaps_changed({target, str(found["jumpcloud_id"])}, gave=False, at=self.now())
        person, name = str(body.get("externalId")), str(body.get("userName", "")).casefold()
        if name and answer.status < 300 and self.truth.address(person) == name:
            # The creation met an account of their address that shows no id, and that no list has shown: it is theirs,
            # whatever their address is later.
            known = self.ledger.linked | self.ledger.disowned
            for account in self.keeper.accounts().values():
                new = account.id not in known and self.ledger.known.get(account.id, self.tick) > self.view.listed
                if new and account.email.casefold() == name and not account.external_id:
                    self.ledger.owner[account.id] = person
                    self.ledger.linked.add(account.id)
        if found["kind"] == "deactivate_user" and answer.status in (404, 410):
            # Whether a lock of ours had withdrawn the invitation is not known: the new account counts as its undoing.
            self._changed_access({target, str(found["jumpcloud_id"])}, gave=False)

    def _perhaps_ours(self, account: str, row: int) -> bool:
        """Whether a lock of this account may be ours, before the one in this row of the journal."""
        keys = {account, self.ledger.owner.get(account, "")}
        marked = self.ledger.marked.items()
        before = [(n, kind) for n, (kind, subject, _) in marked if n != row and subject == account and kind in ACCESS]
        return (
            account in self.ledger.locks
            or account in self.opened_unseen
            or (bool(before) and max(before)[1] == "deactivate_user")
            or self._recently(keys, gave=True, within=A_LOOK_IS_BEHIND)
        )

    def who(self, account: Account) -> set[str]:
        """Everybody whose account this is, as far as anything says so."""
        met = self.ledger.met.get(account.id)
        if met and account.id not in self.ledger.meant:
            return {met}  # nobody else got it by a creation that met it
        if account.id in self.ledger.given:
            return {self.ledger.given[account.id]}
        owner = self.ledger.owner.get(account.id, "")
        # A creation that met it by an alias has made it nobody else's.
        external = self.ledger.aliased.get(account.id, account).external_id or ""
        known = {one for one in (owner, external) if one in self.truth.ever}
        if known:
            return known
        return set(self._addressed(account))

    def _is_tied(self, account: Account, person: str) -> bool:
        """Whether more than its address of now says that this account is that of this person."""
        ledger, bears = self.ledger, self.ledger.aliased.get(account.id, account).external_id
        return person in (bears, *(known.get(account.id) for known in (self.view.tied, ledger.met, ledger.given)))

    def _user(self, change: Change, lost_teams: set[str]) -> None:
        before, after = change.before, change.after
        assert before is None or isinstance(before, Account)
        assert after is None or isinstance(after, Account)
        if before is None:
            assert after is not None
            self._created(after)
            return
        if self._by_alias(before, after):
            return
        self._touched(before, after)
        who = self.who(before)
        name = before.email
        if before.active and (after is None or not after.active):
            if after is None and not before.invited:
                self._deleted(before)
            for person in who:
                # Who got somebody's address in Keeper after this cycle had begun was locked as who they were before,
                # also where a creation has met the account since, and our undoing of that locks it again.
                bore = self.view.met.get(before.id, before).external_id
                new = self.ledger.readdressed.get(before.id, 0) > self.since and bore != person
                if self._agreed_though_hidden(before, person):
                    continue
                if bore and bore == self.ledger.former_owner.get(before.id) != person:
                    self.excuse(10)  # it was given up since the copy was made, and bears the id of its former owner
                    continue
                if self.ledger.found_for.get(before.id, person) != person and not self.truth.throughout(
                    person, self.since
                ):
                    continue  # it is that of whoever had the address before the cycle began
                if self._merely_had_its_address(before, person) or self._is_a_leavers_by_the_copy(before, person):
                    continue
                former = self.ledger.former_owner.get(before.id, person)
                if former != person and not self.truth.stays(former) and self._has_plainly_another(before, person):
                    self.excuse(10)  # an old copy of the state file knows it as a leaver's
                    continue
                if before.id in self.ledger.meant and bore != person:
                    # A person adopted it, and it was taken over as nobody's.
                    if self._has_plainly_another(before, person) or self.was_found(before, person):
                        self.excuse(10)
                        continue
                    if self.passes_for_linked(before, person):
                        self.excuse(4)
                        continue
                # Nor was it theirs before they got its address in JumpCloud, where nothing else ties them to it.
                known = self._is_tied(before, person) or self.truth.has_throughout(person, self.evidence_since)
                if self.truth.throughout(person, self.evidence_since) and known and not new:
                    self._stale_or("a", before.id, person, f"{name} was locked, though in scope all the time")
            adopted = self.ledger.adopted.get(before.id, self.tick)
            since_then = [p for p in who if self.truth.stays(p) or self.truth.ceased.get(p, 0) >= adopted]
            if self._in_grace(before, who) and not self._agreed("deactivate_user", who | {before.id}):
                self.violated("a", f"{name} was locked before grace was over")
            waits = before.id in self.ledger.adopted and not (since_then or self.first or self.scope_behind())
            # Whose lock somebody let through, and who left the node before anything told of it, is locked once back.
            tick, looked = self.ledger.looked_at.get(before.id, (0, self.now()))
            gone = any(at >= looked and how == "gone" for at, how in self.fates.get(before.id, ()))
            away = gone and tick >= adopted
            if waits and not (away or self._agreed("deactivate_user", who | {before.id})):
                self.violated("d", f"{name} was locked, adopted out of scope, and nobody has looked at that")
            self.ledger.adopted.pop(before.id, None)  # what somebody undoes is restored
            # A lock that may be ours, and that somebody undid by hand, is restored.
            free = before.id in self.ledger.locks or self._recently(who | {before.id}, gave=True)
            self.ledger.locks.add(before.id)
            self.ledger.locked_at[before.id] = self.tick
            self.ledger.own_locks.add(before.id)
            self._count("max_deactivations", who | {before.id}, ("deactivate_user",), free=free)
            self._changed_access(who | {before.id}, gave=False)
        if after is None:
            return
        if after.active and not before.active:
            if (
                before.id not in self.ledger.locks
                and self.rules.policy.get("reactivate", "own") != "any"
                and not (self.view.unlock and (before.id in self.view.named or self._is_person(before)))
            ):
                if self._came_unseen(before):
                    self.excuse(4)
                elif before.id in self.opened_unseen:
                    self.excuse(6)
                else:
                    self.violated("b", f"{name} was unlocked, though locked by somebody else")
            free = self._recently(who | {before.id}, gave=False)
            self._count("max_reactivations", who | {before.id}, ("reactivate_user",), free=free)
            self._changed_access(who | {before.id}, gave=True)
            self.view.unlocked[before.id] = self.tick
            self.perhaps_locked.discard(before.id)
            self.opened_unseen[before.id] = self.tick
            self._opened(before.id)
            self._given(before, who, "was unlocked")
            self.ledger.own_locks.discard(before.id)
            self.ledger.forgotten_locks.discard(before.id)
        if self.asked.method == "PATCH" and not self.undoes:
            self._attributes(before, after, who)
        had, has = _memberships(before), _memberships(after)
        if self.asked.method == "PATCH" and not self.undoes and self.rules.policy.get("drift") != "repair":
            self._taken_from_others(before, who, had - has - lost_teams)
        self.ledger.by_hand -= {(before.id, team) for team in had - has}
        self.ledger.gifts -= {(before.id, team) for team in had ^ has}
        given = {(before.id, key) for team in has - had for key in self._team_keys(team)}
        self.ledger.listed_places -= given  # until it is listed again
        self.ledger.withdrawn -= given
        self.ledger.taken_back -= given
        for team in had - has:
            self._lost(before, self._heirs(before, after) or who, team)
            lost = {(before.id, key) for key in self._team_keys(team)}
            # What hides in the queue can't be missed, nor can what no reply has shown yet: it may wait there.
            if self._unseen(before, team) or team not in self.shown_teams.get(before.id, ()):
                self.ledger.withdrawn |= lost if self._is_unasked(team) else set()
            # Nor can what hid there when a copy of the state file was made.
            self.ledger.taken_back |= set() if self.keeper.dialect.shows_pending_memberships else lost
        if self.asked.method == "PATCH" and not self.undoes:
            self._review(who | {before.id}, before, has - had)
        # A team that is deleted takes its members with it; who they are was judged above.
        for team in had - has - lost_teams:
            if self._passes_for_met(before) and self.excuse(4):
                continue  # what undoes a link counts for no limit
            if not self._is_unasked(team):
                self._count("max_removals", who | {before.id}, ("remove", *self._team_keys(team)))
        for team in has - had:
            keys = self._team_keys(team)
            times = [self.ledger.queued[key][0] for key in keys if key in self.ledger.queued]
            fresh = any(at > self.began - self.rules.window - timedelta(minutes=30) for at in times)
            self._added(before, who, team, fresh=fresh)
            if not fresh:
                self._count("max_grants", who | {before.id}, ("add", *keys, *self._groups_named_like(team)))

    def _attributes(self, before: Account, after: Account, who: Set[str]) -> None:
        """A change of ours wipes no name out; it sends an address only by the settings, and nobody else's."""
        wiped = [name for name in NAMES if _of(before, name) and not _of(after, name)]
        if wiped:
            self.violated("g", f"{before.email} has lost the {wiped[0].replace('_', ' ')}")
        address = after.email.casefold()
        if address == before.email.casefold():
            return
        if self.rules.policy.get("address_change") != "send":
            self.violated("g", f"{before.email} was given the address {address}, which the settings do not allow")
        others = {one for one in self.truth.people if self.truth.address(one) == address} - who
        theirs = [one for one in others if self.truth.stays(one) and self.truth.has_throughout(one, self.since)]
        if theirs and not self.scope_in_doubt():
            self.violated("c", f"{before.email} was given the address {address} of somebody else")

    def _taken_from_others(self, account: Account, who: Set[str], teams: Set[str]) -> None:
        """These memberships were taken away: not those that somebody else gave to whoever never was in the group."""
        for team in {one for one in teams if (account.id, one) in self.ledger.gifts and not self._is_unasked(one)}:
            found = self.keeper.teams().get(team) or self._gone_teams.get(team)
            names = self.ledger.renamed.get(team, set()) | ({found.name} if found else set())
            once = {(one, found.external_id or "") for one in who} & self.truth.member_once if found else set()
            if found and not once and not any(self.truth.groups_of.get(one, set()) & names for one in who):
                self.violated("b", f"{account.email} was taken out of {found.name}, which somebody else had given them")

    def _by_alias(self, before: Account, after: Account | None) -> bool:
        """Whether a creation met an account by its alias, or this gives back what the account had before that."""
        ledger = self.ledger
        if self.asked.method == "POST":
            asked = str(json.loads(self.asked.body).get("userName", "")).casefold()
            if asked == before.email.casefold():
                self.view.met.setdefault(before.id, before)
                if not self._known_otherwise(before, str(json.loads(self.asked.body).get("externalId", ""))):
                    return False
                self.excuse(4)  # as by an alias
                ledger.met_late.add(before.id)
            ledger.aliased.setdefault(before.id, before)
            if ledger.touched.get(before.id, 0) > self.view.listed:
                given = {(before.id, team) for team in _memberships(before)} & ledger.gifts
                ledger.unlisted_gifts |= given - self.view.places_shown - ledger.listed_places
            ledger.refused[str(json.loads(self.asked.body).get("externalId", ""))] = asked, before.id
            names = {(name, _of(after, name)) for name in NAMES if _of(after, name) != _of(before, name)}
            ledger.linked_names.setdefault(before.id, set()).update(names)
            if before.id in ledger.forgotten_links:
                ledger.relinked.setdefault(before.id, before)
            for met in (ledger.aliased, ledger.relinked) if before.locked else ():
                if before.id in met:
                    met[before.id] = replace(met[before.id], locked=True)  # perhaps locked since an earlier link
            return True
        was = ledger.relinked.get(before.id, ledger.aliased.get(before.id))
        if was is not None and was.locked and after is None and self.keeper.dialect.locks_delete:
            self._deleted(before)  # the lock that the link had undone is set again
            return True
        if was is None or after is None:
            return False
        # Names are given back as the list showed them, which somebody may have changed since.
        had, has = _memberships(before), _memberships(after)
        should = _memberships(was)
        if not self.keeper.dialect.shows_pending_memberships and (lost := (had - has) & {*was.pending_teams}):
            # A membership that waits unseen can't be told from the one that the link has added.
            self.excuse(16)
            should -= lost
        if lost := {team for team in (had - has) & should if (before.id, team) in ledger.unlisted_gifts}:
            self.excuse(16)
            should -= lost
        # The same request may give its owner what they are to have: their id, and teams.
        owner = ledger.owner.get(before.id, "")
        if owner and _of(after, "external_id") == owner:
            was = replace(was, external_id=owner)
        if after.locked and not was.locked and self.view.locked_shown.get(before.id):
            was = replace(was, locked=True)  # somebody unlocked it after the list, which the link may have done as well
            self.excuse(12)
        steps = [(_of(before, name), _of(after, name), _of(was, name)) for name in ("external_id", "locked")]
        theirs = self.truth.teams_of(owner)
        strange = {team for team in has - had if self._group_of(team) not in theirs}
        back = all(new in (old, first) for old, new, first in steps) and not strange and not (had - has) & should
        if back and after.locked and not before.locked:
            self.perhaps_locked.add(before.id)  # as it was known before
        if back and self.kind in ACCESS and before.locked != after.locked and not self.undoes:
            # An old copy of the state file does not know of the link: they have left, or are back.
            ledger.perhaps_access |= dict.fromkeys({before.id, *self.who(before)}, (self.now(), after.active))
            ledger.locks |= {before.id} if after.locked else set()
            ledger.own_locks -= set() if after.locked else {before.id}
        # A second creation may have been linked to it, and given it other teams.
        left = {team for team in has - _memberships(was) if self._group_of(team) not in theirs}
        linked = {(name, _of(after, name)) for name in NAMES if _of(after, name) != _of(was, name)}
        left_over = left or linked & ledger.linked_names[before.id]
        if back and not left_over and all(new == first for _, new, first in steps):
            if ledger.relinked.pop(before.id, None) is not None:
                self.excuse(9)
            else:
                del ledger.aliased[before.id]
        return back

    def _known_otherwise(self, account: Account, person: str) -> bool:
        """Whether a list has shown the account, which is not this person's, and it got its address, or came back into
        the node with it, after the last one."""
        ledger, listed = self.ledger, self.view.listed
        shown = ledger.known.get(account.id, self.tick) <= listed and not self.users_denied(account.id)
        known = account.id in ledger.seen or shown
        theirs = person in (account.external_id, self.view.tied.get(account.id))
        return known and not theirs and listed < ledger.readdressed.get(account.id, 0)

    def links_undone(self) -> None:
        """No account keeps the id of somebody whose creation met it by an alias."""
        for was in self.ledger.aliased.values():
            now = self.keeper.accounts().get(was.id)
            if now is None or now.external_id in (None, "", was.external_id):
                continue
            # It was adopted for its owner meanwhile, who may have another address by now.
            owner_had = self.truth.addresses.get(now.external_id, ())
            adopted = now.external_id in self.ledger.meant.get(now.id, ())
            theirs = now.email.casefold() in owner_had and now.id not in self.ledger.met_late
            if not (adopted or theirs):
                if now.id in self.ledger.forgotten_links or now.node != self.rules.node:
                    self.excuse(9)
                    continue
                self.violated("c", f"{now.email} keeps the id of somebody whose creation met the account by an alias")

    def _is_person(self, account: Account) -> bool:
        return self._is_about(self.view, account)

    def _is_about(self, view: View, account: Account) -> bool:
        """Whether a partial cycle is about whoever has this account."""
        who = self.who(account)
        names = {account.email.casefold(), *(self.truth.address(one) for one in who)}
        return view.person.casefold() in names or bool(view.leavers & who)

    def _given(self, account: Account, who: Collection[str], words: str) -> None:
        """Access was given back to whoever these are."""
        if not who or not all(self.truth.out_throughout(person, self.evidence_since) for person in who):
            return
        person = next(filter(self.evidence_behind, sorted(who)), "")
        self._stale_or("r", account.id, person, f"{account.email} {words}, though out of scope all the time")

    def _added(self, account: Account, who: Collection[str], team: str, *, fresh: bool) -> None:
        """Somebody who was there was added to a team; `fresh`: it was queued within the window."""
        group = self._group_of(team) or self._former_group_of(team)
        if not group or not who:
            self._added_to_a_strangers(account, who, team)
            return
        groups = {group, *self._bore_its_name(team, group)}
        apart = all(self.truth.apart_throughout(one, each, self.since) for one in who for each in groups)
        if not apart:
            return
        if self.asked.method == "POST" and self._met_unlisted(account):
            self.excuse(4)
            return
        member = any(self.truth.active(person) and self.truth.is_member(person, group) for person in who)
        if self.scope_behind() and (fresh or member):
            self.excuse(13)
        else:
            person = next(filter(self.evidence_behind, sorted(who)), "")
            name = self.truth.groups.get(group)
            words = f"{account.email} was added to {name}, though apart from its group all the time"
            self._stale_or("r", account.id, person, words)

    def _former_group_of(self, team: str) -> str:
        """The group to which we have tied the team, and nobody has consented to another, if it is there and out of
        scope."""
        found = self.keeper.teams().get(team)
        group = found.external_id or "" if found else ""
        theirs = group in self.truth.jumpcloud.organization().groups and self.ledger.tied.get(team) == group
        return group if theirs else ""

    def _added_to_a_strangers(self, account: Account, who: Collection[str], team: str) -> None:
        """Nobody is added to a team that nobody has tied to a group, and whose name no group of theirs ever had."""
        found = self.keeper.teams().get(team)
        if found is None or found.external_id or not who or team in self.ledger.tied:
            return
        names = {found.name, *self.ledger.renamed.get(team, ())}
        if not any(self.truth.groups_of.get(person, set()) & names for person in who):
            self.violated("r", f"{account.email} was added to {found.name}, which is no team of theirs")

    def _agreed_though_hidden(self, account: Account, person: str) -> bool:
        """Whether a person let the lock of somebody through whose record is hidden."""
        hidden = person in self.truth.jumpcloud.organization().hidden
        return hidden and self._agreed("deactivate_user", {account.id})

    def _agreed(self, kind: str, keys: Set[str], *teams: str) -> bool:
        """Whether a person has let this through for one of these people and accounts, with one of these teams."""
        wanted = {(kind, key, *([team] if team else [])) for key in keys for team in (teams or [""])}
        agreements = (one for one in self.ledger.agreements if self._counts(one))
        return any(wanted & one.effects.union(*one.spent.values()) for one in agreements)

    def _review(self, keys: Set[str], account: Account, teams: Iterable[str]) -> None:
        """Somebody joined these teams: those of teams.review only if a person agreed."""
        patterns = self.rules.teams.get("review", ())
        for team in teams if patterns and not (self.first or self.scope_behind()) else ():
            found = self.keeper.teams().get(team)
            group = self.truth.groups.get(found.external_id or "", "") if found else ""
            # By the group and the team: one that was renamed may be known by another name.
            reviewed = all(
                any(fnmatchcase(name, one) for one in patterns) for name in (group, found.name if found else "")
            )
            if reviewed and team not in self.ledger.renamed and not self._agreed("add", keys, *self._team_keys(team)):
                self.violated(
                    "d", f"{account.email} was added to {group}, and nobody has looked at that (teams.review)"
                )

    def _outside_the_pilot(self, who: Set[str], account: Account) -> bool:
        """Whether none of these people was ever in a group, or had an address, that any pilot so far has named."""
        if "only" not in self.rules.policy:
            return False
        names, addresses = self.ledger.pilot_groups, self.ledger.pilot_addresses
        inside = any(self.truth.groups_of.get(one, set()) & names for one in who)
        known = {account.email.casefold()}.union(*(self.truth.addresses.get(one, set()) for one in who))
        return bool(who) and not inside and not known & addresses

    def _unseen(self, account: Account, team: str) -> bool:
        """Whether a membership waits, or waited until just now, where Keeper hides that, and never showed."""
        if self.keeper.dialect.shows_pending_memberships:
            return False
        return team in account.pending_teams or team not in self.shown_teams.get(account.id, ())

    def _lost(self, account: Account, who: set[str], team: str) -> None:
        group = self._group_of(team)
        for person in who:
            if group and self.truth.member_throughout(person, group, self.evidence_since):
                if self._bore_its_name(team, group):
                    continue
                if self._is_unasked(team):
                    if self._unseen(account, team):
                        self.excuse(15)
                    else:
                        self._unasked(account)
                    continue
                if self.passes_for_linked(account, person):
                    # What the creation gave is taken back, or would have given.
                    self.excuse(4)
                    continue
                if self._met_unlisted(account) and team not in _memberships(self.view.met[account.id]):
                    # What the creation that met it has added is taken back.
                    self.excuse(4)
                    continue
                words = f"{account.email} lost the team {self.truth.groups.get(group)}, though in its group"
                self._stale_or("a", account.id, person, words)

    def _heirs(self, before: Account, after: Account) -> set[str]:
        """Whoever is given this account by the request, where a person has named it for them: it is nobody else's."""
        heir = after.external_id or ""
        return {heir} & self.named_for(before) if heir != before.external_id else set()

    def _bore_its_name(self, team: str, group: str) -> set[str]:
        """The other groups, there still, that had the name of this team, which bears no id: it may have been taken
        over for one of them, and what gives it the id may have failed."""
        found = self.keeper.teams().get(team) or self._gone_teams.get(team)
        if found is None or found.external_id:
            return set()
        named = {one for one, names in self.truth.names_of.items() if found.name in names}
        return named & self.truth.jumpcloud.organization().groups.keys() - {group}

    def passes_for_linked(self, account: Account, person: str) -> bool:
        """Whether a creation of this person had no clear answer, and their account came into the node, was made under
        another address, or got another one, after Keeper had been listed for that. A state file that never knew it
        can't tell it from an account to which Keeper linked the creation by an alias."""
        birth = self.ledger.births.get(person)
        if birth is None or account.id in birth.seen:
            return False
        came = self.ledger.readdressed.get(account.id, 0)
        made = self.ledger.known.get(account.id, 0) if account.email.casefold() != birth.address else 0
        return max(came, made) > birth.listed

    def _is_unasked(self, team: str) -> bool:
        """Whether Keeper took somebody out of this team by itself, since an addition replaces."""
        if not self.keeper.dialect.add_replaces_groups or self.asked.method != "PATCH":
            return False
        operations = json.loads(self.asked.body).get("Operations", [])
        return not any(str(one["op"]).casefold() == "remove" and team in json.dumps(one) for one in operations)

    def _deleted(self, account: Account) -> None:
        """A lock deleted an account that was no invitation: three are let pass within the window, and those on the
        wire; more only if a person agrees."""
        self.excuse(15)
        if not self._agreed("deactivate_user", {account.id}):
            self.ledger.destroyed.append((self.now(), account.id))
        if len(self._within(self.ledger.destroyed)) > 3 + 3:
            self.violated("d", f"{account.email} was deleted by a lock, after {len(self.ledger.destroyed)} others")

    def _unasked(self, account: Account) -> None:
        """Keeper did something that nobody asked for. Those on the wire can't be called back, nor can be known what no
        answer shows; after them one of each kind is tried alone."""
        self.excuse(15)
        concerned = self.view.unasked.setdefault(self.kind, set())
        concerned.add(account.id)
        shown = self.keeper.dialect.patch_reply == "body"
        most = MOST_UNASKED + (MORE_WHILE_IT_LIES if self.keeper_lies() else 0) + self.answers_lost()
        if shown and len(concerned) > most:
            self.violated("a", f"{account.email} lost a team: Keeper replaces what is added to, and it goes on")

    def _stale_or(self, letter: str, account: str, person: str, words: str) -> None:
        """Let pass whatever nobody could know, which has to be repaired; everything else is a violation."""
        if self.evidence_behind(person):
            self.excuse(14)
            self.wronged[account] = person
        else:
            self.violated(letter, words)

    def still_wronged(self) -> list[str]:
        """The addresses of accounts that stale reads wronged, and that are wrong still."""
        found = []
        for account_id, person in self.wronged.items():
            account = self.keeper.accounts().get(account_id)
            if account is None or account.node != self.rules.node or account_id in self.ledger.disowned:
                continue
            if person in self.truth.jumpcloud.organization().hidden:
                continue  # nothing is known of them until their record shows
            # Nobody is unlocked as long as their new address is that of somebody else's account.
            contested = any(
                one.node == self.rules.node and one.id != account_id and self.truth.address(person) in one.addresses
                for one in self.keeper.accounts().values()
            )
            # Nor in an account that only their id ties to them, while somebody else has its address.
            others = [one for one in self._addressed(account) if one != person and self.truth.stays(one)]
            by_id = account_id not in self.ledger.newborn and account.email.casefold() != self.truth.address(person)
            contested = contested or (by_id and bool(others))
            scope = self.truth.throughout(person, self.since) and not contested
            out = self.truth.out_throughout(person, self.since) and not self.truth.stays(person)
            if (scope and account.locked and account.id in self.ledger.own_locks) or (out and account.active):
                found.append(account.email)
        self.wronged.clear()
        return found

    def _group_of(self, team: str) -> str:
        """The group whose team this is: by its id, else by its name, which never was that of two, nor given to the team
        by hand."""
        found = self.keeper.teams().get(team) or self._gone_teams.get(team)
        if found is None:
            return ""
        if found.external_id in self.truth.groups:
            return found.external_id or ""
        named = [group for group, name in self.truth.groups.items() if name == found.name]
        alone = len(named) == 1 and found.name not in self.truth.shared_names and team not in self.ledger.renamed
        return named[0] if alone and found.external_id is None else ""

    @property
    def _gone_teams(self) -> dict[str, Team]:
        return {c.subject: c.before for c in self.keeper.changes[-40:] if isinstance(c.before, Team)}

    def _team_keys(self, team: str) -> tuple[str, ...]:
        found = self.keeper.teams().get(team) or self._gone_teams.get(team) or self.left.get(team)
        return (team, found.external_id) if found and found.external_id else (team,)

    def _groups_named_like(self, team: str) -> list[str]:
        """The groups in scope with the name of a team that bears no id: it may be given to one of them, and who was let
        into that is put into it, before the id has arrived."""
        found = self.keeper.teams().get(team)
        if found is None or found.external_id:
            return []
        return [group for group, name in self.truth.groups.items() if name == found.name]

    def _created(self, account: Account) -> None:
        person = account.external_id or ""
        ledger = self.ledger
        for other in self.keeper.accounts().values():
            if other.id == account.id or other.node != account.node:
                continue
            known = other.id in ledger.created and not self.was_found(other, person)
            if person and person in (other.external_id, ledger.owner.get(other.id) if known else ""):
                if account.email.casefold() not in other.addresses and self.users_denied(other.id):
                    continue  # one that Keeper's list lacked; under the same address Keeper would have linked them
                if ledger.readdressed.get(other.id, 0) > self.view.listed:
                    self.excuse(4)
                    continue
                if other.id in ledger.forgotten_links and ledger.aliased.get(other.id, other).external_id != person:
                    self.excuse(9)  # it is somebody else's, as far as an old copy of the state file knows
                    continue
                if self._meant_for_another(other, person, account.email):
                    self.excuse(10)
                    continue
                self.violated("c", f"{account.email} got a second account beside {other.email}")
        if account.email.casefold() in self.rules.protected and not self._locked_last(person):
            self.violated("b", f"{account.email} was created, though protected")
        if self._outside_the_pilot({person}, account):
            self.violated("e", f"{account.email} was created, though outside the pilot")
        self._review({person, account.id}, account, _memberships(account))
        own = self.truth.address(person)
        if account.email.casefold() != own and self.truth.has_throughout(person, self.evidence_since):
            self._stale_or("c", account.id, person, f"{account.email} was created for somebody whose address is {own}")
        if rival := self._rival(person, account):
            self.violated("c", f"{account.email} was created, which is the address of {rival} too")
        ledger.owner[account.id] = person
        ledger.ours.add(account.id)
        ledger.linked.add(account.id)
        ledger.created.add(account.id)
        ledger.newborn.add(account.id)
        ledger.known.setdefault(account.id, self.tick)
        free = self._recently({person, account.id}, gave=False)  # the lock had withdrawn an invitation
        self._count("max_creations", {person, account.id}, ("create_user",), free=free)
        if person in ledger.locked_once:
            self._changed_access({person, account.id}, gave=True)
        if person in self.truth.ever and self.truth.inactive_throughout(person, self.evidence_since):
            self._stale_or("r", account.id, person, f"{account.email} was created, though not active all the time")
        elif person in self.truth.ever and self.truth.out_throughout(person, self.since):
            if self.scope_behind():
                self.excuse(13)
            else:
                self.violated("r", f"{account.email} was created, though out of scope all the time")

    def _meant_for_another(self, account: Account, person: str, address: str) -> bool:
        """Whether somebody else was given this account, which bears the id of this person still, and has not this
        address of theirs."""
        given = self.ledger.meant.get(account.id, set()) - {person, ""}
        return bool(given) and address.casefold() not in account.addresses

    def _rival(self, person: str, account: Account) -> str:
        """Somebody else who has been in scope under the account's address all the time, and as whom nobody named it."""
        others = set(self._addressed(account)) - {person}
        there = [one for one in others if self.truth.throughout(one, self.since)]
        known = [one for one in there if self.truth.has_throughout(one, self.since)]
        named = account.id in self.ledger.meant
        if not known or not person or named or self.scope_in_doubt():
            return ""
        read = [one for one in known if account.email.casefold() in self.view.addresses_shown.get(one, ())]
        if not read:
            self.excuse(7)
        return next(iter(read), "")

    def _touched(self, before: Account, after: Account | None) -> None:
        """Whether this account may be touched at all, and whose it is afterwards."""
        ledger, name = self.ledger, before.email
        gives_back = after is not None and before.external_id != after.external_id and _but_external(before, after)
        if before.id in ledger.disowned and not gives_back:
            self.violated("b", f"{name} was changed, though disowned")
        elif before.id not in ledger.ours | ledger.disowned and not self._came_unseen(before):
            if self._adopted_as_listed(before, after):
                self.excuse(4)
                ledger.ours.add(before.id)
            elif birth := self._passes_for_met(before):
                self.excuse(4)
                ledger.refused[before.external_id or ""] = birth.address, before.id
            else:
                self.violated("b", f"{name} was changed, though not managed")
        protected = name.casefold() in self.rules.protected
        if protected and ledger.readdressed.get(before.id, 0) > max(self.view.listed, self.shown_at.get(before.id, 0)):
            protected = not self.excuse(4)  # it got that address after Keeper had shown it last
        protected = protected or self._shown_as_protected(before, after)
        if protected and self._passes_for_met(before):
            protected = not self.excuse(4)  # what a link has done is undone for everybody
        if protected:
            unlocks = after is not None and after.active and not before.active and before.id in ledger.locks
            if not unlocks:
                self.violated("b", f"{name} was changed, though protected")
        # What a link had done, or had been done to whom somebody gave up, is undone for everybody.
        changes = self.asked.method == "PATCH" and not (self.undoes or gives_back)
        if changes and self._outside_the_pilot(self.who(before), before):
            self.violated("e", f"{name} was changed, though outside the pilot")
        if after is None or after.external_id == before.external_id:
            return
        ledger.given.pop(before.id, None)
        # The id that a link by an alias has left there is nobody's claim to the account.
        new, old = after.external_id or "", ledger.aliased.get(before.id, before).external_id or ""
        former = ledger.owner.get(before.id, "") if before.id in ledger.created else ""
        if new and new == ledger.met.get(before.id):
            ledger.owner[before.id] = new  # given back
        elif new in self.truth.ever and before.id not in ledger.disowned:
            shown = self.view.keeper_addresses.get(before.id) == {name.casefold()}
            found = self.asked.method == "PATCH" and shown and self.view.tied.get(before.id) != new
            if found and (rival := self._rival(new, before)):
                self.violated("c", f"{name} was given to {self.truth.address(new)}, and has the address of {rival}")
            for person in {old, former} & self.truth.ever.keys() - {new}:
                if self._came_unseen(before):
                    if before.id in ledger.linked:
                        ledger.met[before.id] = ledger.owner[before.id]
                elif new not in ledger.meant.get(before.id, ()):
                    words = f"{name}, the account of {self.truth.address(person)}, was given to"
                    self.violated("c", f"{words} {self.truth.address(new)}")
            # Whose it was before is given back the id that somebody had taken, whatever else bears it by now.
            others = [] if self.view.tied.get(before.id) == new else [*self.keeper.accounts().values()]
            for other in others:
                if other.id == before.id or other.external_id != new or other.node != before.node:
                    continue
                # A cycle that creates nobody need not list Keeper: who came since the last list is known to none.
                unlisted = self.asked.method == "PATCH" and ledger.known.get(other.id, 0) > self.view.listed
                if new in ledger.meant.get(before.id, ()) or self._meant_for_another(other, new, name):
                    self.excuse(10)
                elif not (unlisted or self._came_unseen(other)):
                    self.violated("c", f"{self.truth.address(new)} got {name} beside {other.email}")
            ledger.owner[before.id] = new
            if self.asked.method == "PATCH":  # a creation may have met an account that it is not to have
                ledger.created.add(before.id)

    def _shown_as_protected(self, account: Account, after: Account | None) -> bool:
        """Whether this cycle was shown the owner of the account under protected addresses only, or the state file knows
        that the account was protected under a former one."""
        owner = self.ledger.owner.get(account.id, "") if account.id in self.ledger.linked else ""
        given = (after.external_id or "") if after else ""
        if given in self.ledger.meant.get(account.id, ()) and self.truth.address(given) == account.email.casefold():
            owner = given  # a person who named it has said whose it is
        shown = self.view.addresses_shown.get(owner, set())
        once = self.ledger.kept_shielded.get(account.id, set()) & self.rules.protected
        return bool(once or (shown and shown <= self.rules.protected)) and not self._came_unseen(account)

    def _keep_shields(self) -> None:
        """A whole cycle has read whom the settings protect, and keeps that as long as they do."""
        for account, shown in self.view.keeper_addresses.items():
            now = shown & self.rules.protected if shown <= self.rules.protected else set()
            once = self.ledger.kept_shielded.get(account, set()) & self.rules.protected
            self.ledger.kept_shielded[account] = now or once

    def _came_unseen(self, account: Account) -> bool:
        """Whether a creation met an account that came into the node after Keeper was listed for this cycle, or whose
        address the list denied."""
        # It may have been known in another node, or under another address.
        came = max(self.ledger.known.get(account.id, 0), self.ledger.readdressed.get(account.id, 0))
        late = came > self.view.listed > self.since
        denied = self._misread(account) or (self.first and self.users_denied(account.id))
        return self.asked.method == "POST" and (late or denied)

    def _adopted_as_listed(self, before: Account, after: Account | None) -> bool:
        """Whether the account is adopted for somebody in scope under whose address this cycle's list has shown it, and
        got another address after that. It was never both while they were in scope."""
        owner = after.external_id if after is not None else None
        late = self.ledger.readdressed.get(before.id, 0) > self.view.listed > self.since
        shown = self.view.keeper_addresses.get(before.id, set())
        theirs = owner in self.truth.scope_since and before.external_id in (None, "", owner)
        return late and theirs and self.truth.address(owner or "") in shown

    def _passes_for_met(self, account: Account) -> Birth | None:
        """The creation without a clear answer that this undoes on an account which bears the person's id, and which no
        list had shown before that was sent, or which had left the node by then. Somebody made it with that id, but
        Keeper might have linked the creation to it."""
        birth = self.ledger.births.get(account.external_id or "")
        came = birth is not None and self.ledger.readdressed.get(account.id, 0) > birth.listed
        unknown = birth is not None and account.id not in (birth.shown if came else birth.seen | birth.shown)
        return birth if self.undoes and unknown else None

    def _met_unlisted(self, account: Account) -> bool:
        """Whether a creation of this cycle met the account by an address that Keeper's list did not show."""
        met = self.view.met.get(account.id)
        late = self.ledger.readdressed.get(account.id, 0) > self.view.listed
        return met is not None and (late or self._misread(met))

    def _misread(self, account: Account) -> bool:
        """Whether Keeper's list of users lied in this cycle, and showed this account under other addresses only."""
        shown = self.view.keeper_addresses.get(account.id, set())
        return bool(shown) and self.users_lied() and account.email.casefold() not in shown

    def _team(self, change: Change) -> None:
        after = change.after
        if isinstance(after, Team):
            new, former = after.external_id or "", self.ledger.tied.get(after.id, "")
            if former != new and former in self.truth.jumpcloud.organization().groups:
                self.violated("c", f"the team {after.name} was given to another group while its own is there")
            self.ledger.tied[after.id] = new
        if isinstance(change.before, Team) and after is None:
            keys = {change.before.id, change.before.external_id or ""} - {""}
            if not self._agreed("delete_team", keys):
                self.violated("d", f"the team {change.before.name} was deleted, and nobody has looked at that")
            # An old copy of the state file does not know of it, and takes it for one that waits unseen.
            self.ledger.deleted_teams.add((change.before.name, *keys))
        if change.before is not None or not isinstance(after, Team):
            return
        group = after.external_id or ""
        twins = [t for t in self.keeper.teams().values() if t.external_id == group and t.node == after.node]
        _, tick = self.ledger.queued.get(group, (self.now(), 0))
        if len(twins) > 1 and tick > self.forgotten:
            asked = [one for one in self.ledger.agreements if ("queue_team", group) in one.effects and one.tick >= tick]
            if not asked:
                self.violated("c", f"the group {after.name} got a second team")
        # Also under its own id: the group may be deleted and made again, and take it over.
        self.ledger.queued[group] = self.ledger.queued[after.id] = self.now(), self.tick

    # Limits.

    def _changed_access(self, keys: set[str], *, gave: bool, at: datetime | None = None) -> None:
        known, sent = self.ledger.access, self.ledger.sent.get(self.row)
        if gave and sent is not None:
            sent.access = {key: known[key] for key in keys & known.keys()} | sent.access
        if not gave and sent is not None and at is None:
            sent.locked |= dict.fromkeys(keys, self.now())
        for key in keys:
            known[key] = at or self.now(), gave
            self.ledger.perhaps_access.pop(key, None)
        if not gave:
            self.ledger.locked_once |= keys

    def _perhaps_changed(self, keys: Set[str], *, gave: bool, at: datetime) -> None:
        """A request of ours changed nothing, since somebody else had done the same: it counts as if it had."""
        known = self.ledger.perhaps_access
        known |= {key: (at, gave) for key in keys - {""} if known.get(key, (at, gave))[1] is gave}

    def _locked_last(self, person: str) -> bool:
        """Whether our last change of somebody's access was a lock, or may have been."""
        changes = (self.ledger.access, self.ledger.perhaps_access)
        return any(person in known and not known[person][1] for known in changes)

    def _recently(self, keys: set[str], *, gave: bool, within: timedelta | None = None) -> bool:
        """Whether our last change of somebody's access was this one, or may have been, and is of the window, or so
        young."""
        oldest = self.now() - within if within else self.began - self.rules.window - timedelta(minutes=30)

        def among(changes: Mapping[str, tuple[datetime, bool]]) -> bool:
            known = [changes[key] for key in keys if key in changes]
            return any(at > oldest and given is gave for at, given in known)

        return among(self.ledger.access) or (among(self.ledger.perhaps_access) and self.excuse(12))

    def _count(self, limit: str, keys: set[str], effect: tuple[str, ...], *, free: bool = False) -> None:
        """Something that a limit counts was done to a person; unless somebody agreed, it has to be within. `free`: it
        undoes what we did within the window, or restores a lock."""
        ledger = self.ledger
        kind, *teams = effect
        wanted = {(kind, who, *([team] if team else [])) for who in keys for team in (teams or [""])}
        for agreement in ledger.agreements:
            if self._counts(agreement) and agreement.effects & wanted:
                for account in keys & ledger.known.keys():
                    agreement.spent.setdefault(account, set()).update(agreement.effects & wanted)
                agreement.effects -= wanted
                agreement.until = None  # the rest of a release of which something was sent has four more hours
                return
        # A first plan names for whom it has found an account, who may have another address by now.
        found = {(kind, ledger.found_for[one]) for one in keys & ledger.found_for.keys()}
        if any(self._counts(agreement) and agreement.effects & found for agreement in ledger.agreements):
            return
        if free or (self.first and limit in ("max_creations", "max_grants", "max_reactivations")):
            return
        if self.view.person:
            ledger.persons.append((self.now(), min(keys)))
            if len(self._within(ledger.persons)) <= self.rules.safety.get("always_allow", 3):
                return
        for allowance in ledger.allowances if limit == "max_deactivations" else ():
            if self._counts(allowance) and allowance.left:
                allowance.left -= 1
                return
        # A person is counted once, whatever account they have by now.
        who = min(keys & self.truth.ever.keys() or keys)
        ledger.taken.append((self.now(), limit, who, self.row))
        counted = self._within((at, one) for at, name, one, _ in ledger.taken if name == limit)
        allowed = self.rules.allowed(limit, self.view.people, DEFAULTS[limit])
        if len(counted) > allowed:
            self.violated("d", f"{len(counted)} people within the window, {limit} is {allowed}")

    def _sent_by_decision(self, store: CampaignStore, number: int, sent: Sent) -> bool:
        """Whether a lock was sent once more while its outcome was not known, and a release or an allowance let that one
        through: it passes for the one that arrived."""
        if sent.kind != "deactivate_user":
            return False
        marked = self.ledger.marked.items()
        again = (n for n, (kind, one, _) in marked if n > number and (kind, one) == (sent.kind, sent.subject))
        rows = (row for n in again if (row := store.journal_row(n)) is not None)
        return any(row["state"] == "done" and str(row["decision"]).startswith(("allow:", "release:")) for row in rows)

    def _uncount(self, row: int) -> None:
        """A change that was undone before it showed may count for no limit: it looks as if it had never arrived."""
        left = [one for one in self.ledger.taken if one[3] != row]
        if left != self.ledger.taken:
            self.excuse(12)
        self.ledger.taken = left

    def held(self, limit: str, keys: set[str]) -> None:
        """An operation on this subject is held by a limit."""
        oldest = max(self.began - self.rules.window + timedelta(hours=1), self.forgotten_at)
        known = {key: self.ledger.access[key] for key in keys if key in self.ledger.access}
        ours = {key: at for key, (at, gave) in known.items() if at > oldest and not gave}
        if limit != "max_reactivations" or not ours:
            return
        # A lock that counts as never arrived is undone by nothing.
        denied = {key: undone for key, (at, undone) in self.ledger.denied_locks.items() if ours.get(key) == at}
        if denied.keys() >= ours.keys():
            self.excuse(12 if any(denied.values()) else 3)
        else:
            words = ", ".join(account.email for one in keys if (account := self.keeper.accounts().get(one)))
            self.violated("d", f"{words} waits for a release, though unlocking them undoes our own lock")

    def _counts(self, decision: Agreement | Allowance) -> bool:
        return decision.until is None or decision.until >= self.began

    @property
    def _oldest(self) -> datetime:
        # Clocks that differ by two minutes at most are not corrected: the one of then, and the one of now.
        return self.now() - self.rules.window + timedelta(minutes=4)

    def _within(self, entries: Iterable[tuple[datetime, str]]) -> set[str]:
        return {who for at, who in entries if at > self._oldest}

    # The end.

    def _invisible(self, sent: Sent) -> bool:
        """Whether nothing could have shown that this took effect: a membership that waits for approval where Keeper
        hides that, be it asked for or taken back, or whatever Keeper's lists denied twice."""
        closed = self.tick if sent.closed is None else sent.closed
        teams = any(_memberships(one.before) != _memberships(one.after) for one in sent.effects)
        about = {"Groups"} if sent.kind.endswith("_team") else {"Users", "Groups"} if teams else {"Users"}
        if len({tick for tick, which in self.lies if which in about and sent.tick <= tick <= closed}) > 1:
            return self.excuse(3)
        hidden = sent.hidden or not self.keeper.dialect.shows_pending_memberships
        if hidden and sent.effects and all(_only_pending(change) or _left_no_mark(change) for change in sent.effects):
            return self.excuse(2)
        if hidden and sent.replaced and all(map(_only_takes, sent.effects)):
            return self.excuse(15)  # what is lost may be somebody else's doing, and what was added waits unseen
        if sent.effects and all(
            (_left_no_mark(c) and not _only_pending(c)) or c.before == c.after for c in sent.effects
        ):
            return self.excuse(2)
        if sent.kind == "create_user" and sent.effects and all(c.before for c in sent.effects) and self._relinked(sent):
            return self.excuse(2)
        return hidden and bool(sent.effects) and all(_only_adds(change) for change in sent.effects)

    def _relinked(self, sent: Sent) -> bool:
        """Whether another creation was linked to the same account before a list showed what this one had left there."""
        later = [
            one.tick
            for one in self.ledger.sent.values()
            if one.kind == "create_user" and one.tick > sent.tick and one.subject == sent.subject and one.effects
        ]
        return bool(later) and not any(sent.tick < tick < min(later) for tick in self.listings)

    def _overwritten(self, sent: Sent) -> bool:
        """Whether a link has replaced all names that this request had given, before a list showed one of them."""
        named = {
            (name, _of(change.after, name))
            for change in sent.effects
            for name in ("external_id", *NAMES)
            if _of(change.before, name) != _of(change.after, name)
        }
        links = [
            change.after
            for one in self.ledger.sent.values()
            if one.kind == "create_user" and one.tick > sent.tick and one.subject == sent.subject
            for change in one.effects
        ]
        gone = any(all(_of(link, name) != value for name, value in named) for link in links)
        return bool(named) and gone and self._relinked(sent)

    def _never_listed(self, sent: Sent) -> bool:
        """Whether no list can have shown the team that this request has deleted."""
        queued = (one.tick for one in self.ledger.sent.values() if sent.subject in {c.subject for c in one.effects})
        waited = all(isinstance(one.before, Team) and not one.before.approved for one in sent.effects)
        shown = any(min(queued, default=0) < tick < sent.tick for tick in self.listings)
        return waited and not (shown and self.keeper.dialect.shows_queued_teams)

    def journal_tells_the_truth(self, rows: dict[int, dict[str, Any]], queued_shown: Callable[[str], bool]) -> None:
        """Every request that changed Keeper is in the journal with its true outcome."""
        for number in self.ledger.marked.keys() - self.ledger.sent.keys():
            row = rows.get(number)
            if row is not None and row["state"] == "done" and row["outcome"] == "done":
                self.violated("h", f"{row['kind']} of {row['subject_name']} never arrived, and the journal says done")
        for number, sent in self.ledger.sent.items():
            row = rows.get(number)
            if row is None:
                self.violated("h", f"{sent.kind} of {sent.subject} is not in the journal any more")
                continue
            name = row["subject_name"]
            if not (sent.taken or sent.effects) and row["state"] == row["outcome"] == "done":
                self.violated("h", f"{sent.kind} of {name} was refused, and the journal says done")
            if sent.effects and row["state"] != "done" and not sent.undone:
                if sent.kind == "queue_team" and row["state"] == "unknown" and not queued_shown(sent.subject):
                    continue
                # Whoever has lost what they were shown to have may have lost it by this.
                denied = row["state"] == "failed" and any(sent.replaced.values())
                if row["outcome"] == "settled" and not denied and self._invisible(sent):
                    continue
                # Of what waited and was taken back it says that nobody can tell whether that arrived.
                if row["outcome"] == "settled" and row["state"] == "put_off" and all(map(_only_pending, sent.effects)):
                    continue
                asked = ("jumpcloud_id", "keeper_id")
                # An undo asks for nothing again.
                later = (r for r in rows.values() if r["id"] > row["id"] and r["rule"] != "undone")
                later = (r for r in later if all(r[a] == row[a] for a in asked))
                kinds = {row["kind"], *(ACCESS if sent.kind in ACCESS else ())}
                if row["state"] == "put_off" and any(r["state"] == "done" and r["kind"] in kinds for r in later):
                    continue  # nor of what was asked for again, nor of a lock or an unlock that the other has undone
                if (row["state"], row["outcome"]) == ("put_off", "settled") and self._overwritten(sent):
                    self.excuse(2)  # the names of somebody else are all that a list could show
                    continue
                if row["outcome"] == "linked_to_another" and all(change.before for change in sent.effects):
                    self.excuse(4)  # it met an account that was there, and that is what became of it
                    continue
                told = (row["state"], row["outcome"])
                if sent.kind == "rename_team" and told == ("put_off", "settled") and sent.hidden:
                    continue
                if sent.kind == "delete_team" and told == ("put_off", "settled") and self._never_listed(sent):
                    self.excuse(2)  # it was in the queue, and its group was back before that could be asked for again
                    self.ledger.perhaps_deleted.add(row["jumpcloud_id"])
                    continue
                words = f"{row['state']} ({row['outcome']}: {row['error']})"
                self.violated("h", f"{sent.kind} of {name} took effect, and the journal says {words}")


def _memberships(account: Account | Team | None) -> set[str]:
    return {*account.teams, *account.pending_teams} if isinstance(account, Account) else set()


def _stands(change: Change, now: Account | Team | None) -> bool:
    """Whether an effect of ours is so still."""
    before, after = change.before, change.after
    if now is None or after is None or now.id != change.subject:
        return now is after
    names = ["node", "external_id", *(["email"] if isinstance(after, Account) else ["name"])]
    if before is not None:
        names = [name for name in (*names, *NAMES, "locked") if getattr(before, name, 0) != getattr(after, name, 0)]
    if not (isinstance(after, Account) and isinstance(now, Account)):
        return all(getattr(now, name, 0) == getattr(after, name, 0) for name in names)
    had, has = _memberships(before), _memberships(after)
    kept = has - had <= _memberships(now) and not (had - has) & _memberships(now)
    return kept and now.node == after.node and all(getattr(now, name, 0) == getattr(after, name, 0) for name in names)


def _only_adds(change: Change) -> bool:
    """Whether an effect is nothing but memberships, while some wait for approval: what shows may be by hand."""
    before, after = change.before, change.after
    if not isinstance(before, Account) or not isinstance(after, Account):
        return False
    same = replace(before, teams=(), pending_teams=()) == replace(after, teams=(), pending_teams=())
    return same and bool(after.pending_teams) and set(before.teams) <= set(after.teams)


def _only_pending(change: Change) -> bool:
    """Whether an effect is nothing but memberships that wait for approval, or did."""
    return _same_but(change, pending_teams=())


def _only_takes(change: Change) -> bool:
    """Whether an effect is nothing but memberships that are lost, and such as wait for approval."""
    before, after = change.before, change.after
    if not isinstance(before, Account) or not isinstance(after, Account):
        return False
    return _same_but(change, teams=(), pending_teams=()) and {*after.teams} <= {*before.teams}


def _left_no_mark(change: Change) -> bool:
    """Whether a creation met an account that keeps nothing of it, not even its lock."""
    return change.what == "link_user" and _same_but(change, pending_teams=(), locked=False)


def _same_but(change: Change, **ignored: Any) -> bool:
    """Whether nothing else of an account differs."""
    before, after = change.before, change.after
    if not isinstance(before, Account) or not isinstance(after, Account):
        return False
    return replace(before, **ignored) == replace(after, **ignored)


def _found_under(body: object, name: str) -> str | None:
    """The value that a request gives something by this name, in whatever form."""
    if isinstance(body, list):
        return next((found for one in body if (found := _found_under(one, name)) is not None), None)
    if not isinstance(body, dict):
        return None
    own = (str(value) for key, value in body.items() if key in (name, f"name.{name}"))
    return next(own, None) or _found_under([*body.values()], name)


def _unreadable_names(body: bytes) -> set[str]:
    """The names in the place of which an answer has something that is no text."""
    found = set[str]()
    with suppress(ValueError, AttributeError):
        shown = json.loads(body)
        for name, place in NAMES.items():
            where = shown.get("name") if name in ("given_name", "family_name") else shown
            if where is not None and not (isinstance(where, dict) and isinstance(where.get(place, ""), str | None)):
                found.add(name)
    return found


def _of(subject: object, name: str) -> str:
    return getattr(subject, name, None) or ""


def _but_external(before: Account, after: Account) -> bool:
    """Whether nothing else than the externalId differs."""
    same = ("email", "display_name", "given_name", "family_name", "locked", "teams", "pending_teams")
    return all(getattr(before, name) == getattr(after, name) for name in same)
