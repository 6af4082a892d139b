"""What became of operations whose outcome is unknown: read from what Keeper shows, never guessed. Pure.

What an operation means for the snapshot once it has arrived is said in `snapshot` only.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from itertools import chain
from types import MappingProxyType

from reconciler import addresses, team_births
from reconciler.births import (
    ACTIVE,
    as_shown,
    former_id,
    is_theirs,
    own,
    refused_words,
    undoing,
    wanted_address,
    with_refused,
)
from reconciler.keeper_errors import NotFound
from reconciler.keeper_quarantine import hides_lock, may_be
from reconciler.match import same
from reconciler.model import (
    DISPLAY_NAME,
    EXTERNAL_ID,
    USER_NAME,
    Account,
    KeeperTeam,
    KeeperUser,
    Membership,
    OddRecord,
    RefusedTeam,
    Snapshot,
    Standing,
    Team,
    by_group,
)
from reconciler.pairs import tied_to_another
from reconciler.plan import Change, Kind, Operation, Rule, TeamRef
from reconciler.promise import NOT_HERE
from reconciler.rows import DENIED, DISAGREES, GONE, LACKED, SETTLED, UNASKED, JournalRow, State
from reconciler.snapshot import after_team, after_user, given_up, in_place_of, superseded
from reconciler.waiting import told_by_inventory


@dataclass(frozen=True, slots=True)
class Settled:
    """The outcome of one operation, with words for the journal: done (be it in part), failed (it never arrived), put
    off (nothing can show whether it arrived, and it may be asked for again at once), or still unknown. A creation that
    Keeper `linked` to an account that is not new (its Keeper id) has failed; `undo` is what is to be undone of it. Of
    an undo that is done in part it is the rest, for which no plan asks by itself."""

    state: State
    words: str
    linked: str = ""
    undo: Operation | None = None


_ARRIVED = Settled(State.DONE, "found in Keeper")
NEVER = Settled(State.FAILED, "Keeper does not show it: it counts as never arrived")
"""What one list alone says, which may be behind. Of a queued team no list says so, only the inventory."""
REPEATED = Settled(State.PUT_OFF, "a later request of its kind was sent; nothing tells whether this one arrived")
_TAKEN = Settled(State.PUT_OFF, "Keeper took it, with an effect that nobody asked for, and does not show it now")
_TAKEN_UNSEEN = Settled(State.FAILED, "Keeper took it and does not show it: it had no effect, or somebody undid it")
_IN_PART = Settled(State.DONE, "found in Keeper in part; the rest is asked for again")
_UNSEEN = Settled(State.PUT_OFF, "Keeper shows nothing of it, whether it arrived or not; it is asked for again")
_CHANGED_SINCE = Settled(
    State.PUT_OFF, "Keeper shows neither what was asked for nor what was there before; nothing tells whether it arrived"
)
_GONE = Settled(State.PUT_OFF, "the account is not in this node any more; nothing tells whether it arrived")
_FORMER = Settled(State.PUT_OFF, "the person has another account by now; nothing tells whether it arrived")
UNDONE = Settled(State.PUT_OFF, "undone by a later lock or unlock; nothing tells whether it arrived")
_UNREADABLE = Settled(State.UNKNOWN, "Keeper's record cannot be read in full and tells nothing of it")
_GONE_PERHAPS = Settled(State.UNKNOWN, "Keeper does not show the team; a later reading tells whether it is gone")
_QUEUED_PERHAPS = Settled(State.UNKNOWN, "not shown; it may be queued")
TOO_EARLY = Settled(State.UNKNOWN, "not shown yet; it may still take effect: Keeper is asked again after two minutes")
PATIENCE = timedelta(minutes=2)
"""How long a change of access without a clear answer may take effect: until then nothing but locks is planned."""
ACCESS = frozenset({Kind.CREATE_USER, Kind.DEACTIVATE_USER, Kind.REACTIVATE_USER})


def settle(
    unknown: Iterable[tuple[int, Operation, datetime]],
    snapshot: Snapshot,
    former: Snapshot,
    now: datetime,
    recorded: Mapping[int, str] = MappingProxyType({}),
) -> tuple[dict[int, Settled], Snapshot]:
    """The outcomes by journal id, and the snapshot with what follows from them.

    `unknown` are journal ids, operations and when each was sent; `recorded` are their outcomes by then. `snapshot` was
    just rebuilt from Keeper, `former` is the one before. A lock that we asked for and find is ours, so that we may undo
    it, unless Keeper answered that it lacks the account. A team that Keeper does not show may wait in the Pending
    Queue: it stays unknown, unless the inventory tells. A change of access that does not show within `PATIENCE` stays
    unknown.
    """
    unknown = list(unknown)
    work = _Settlement(with_own_locks(snapshot), former, now, [op for _, op, _ in unknown])
    outcomes: dict[int, Settled] = {}
    # Of several creations of one subject, the one whose names show is the one that arrived.
    for number, op, at in sorted(unknown, key=lambda row: not work.made(row[1])):
        outcome = work.outcome(op, at, lacked=recorded.get(number) == NotFound.name)
        early = outcome in (NEVER, _GONE, _UNREADABLE) and op.kind in ACCESS and now - at < PATIENCE
        outcomes[number] = TOO_EARLY if early else outcome
    settled = replace(
        snapshot,
        accounts=work.accounts,
        teams=work.teams,
        unsettled_teams=work.unsettled,
        refused_births=work.refused_births,
        refused_teams=work.refused_teams,
    )
    return outcomes, settled


def found_out(outcomes: Mapping[int, Settled]) -> set[int]:
    """The journal ids of the operations whose outcome is known now, or was denied by one list."""
    return {number for number, outcome in outcomes.items() if outcome.state is not State.UNKNOWN}


def denied_once(outcome: Settled, recorded: str) -> bool:
    """Whether a first list denies it, by what is `recorded` of it: that list may be behind, and another is asked."""
    return outcome == NEVER and recorded not in (SETTLED, DENIED)


def outcome_name(outcome: Settled, state: State, recorded: str) -> str:
    """The name of an outcome in the journal. What stays unknown keeps what its answer told of Keeper; no more than a
    list that denies it is remembered as such. An account that is gone after a lock without a clear answer counts among
    those that a lock may have removed, unless Keeper lacked it before."""
    if outcome.words == NOT_HERE and recorded not in (NotFound.name, LACKED):
        return GONE
    if state is not State.UNKNOWN:
        return SETTLED
    if outcome == NEVER:
        return DENIED if recorded in (DISAGREES, DENIED) else SETTLED
    return recorded or "unanswered"


def as_answered(outcome: Settled, recorded: str) -> Settled:
    """The outcome, by what was `recorded` when the answer came: what was read back did arrive, though no list shows
    it any more; and what Keeper took may have been undone before anything showed it."""
    if outcome == _CHANGED_SINCE and recorded in (DISAGREES, DENIED):
        outcome = NEVER  # the names that show may be what Keeper made of ours, and the rest had no effect
    if outcome in (NEVER, _UNSEEN, _CHANGED_SINCE) and recorded == UNASKED:
        return _TAKEN
    return _TAKEN_UNSEEN if outcome == NEVER and recorded == DENIED else outcome


def as_repeated(outcome: Settled, row: JournalRow) -> Settled:
    """The outcome of a change of access, or of a queueing, after a later one of its kind on the same subject: what
    shows is one change, and is told and counted as one."""
    again = row.repeated and row.operation.kind in {*ACCESS, Kind.QUEUE_TEAM}
    return REPEATED if again and outcome.state is State.DONE else outcome


def with_own_locks(snapshot: Snapshot) -> Snapshot:
    """Record as ours the locks that our own operations without a clear answer may have set."""
    if not snapshot.own_locks:
        return snapshot
    ours = {
        k: replace(a, locked_by_us=True)
        for k, a in snapshot.accounts.items()
        if a.managed and not (a.active or a.gone or a.locked_by_us) and k in snapshot.own_locks
    }
    return replace(snapshot, accounts={**snapshot.accounts, **ours})


class _Settlement:
    def __init__(self, snapshot: Snapshot, former: Snapshot, now: datetime, unknown: Sequence[Operation]) -> None:
        self.now = now
        # By Keeper id: what a request without an answer may have changed.
        self.asked: dict[str, list[Operation]] = {}
        for op in unknown:
            self.asked.setdefault(op.subject.keeper_id, []).append(op)
        self.before = snapshot
        self.former = former
        self.refused_births = dict(snapshot.refused_births)
        self.refused_teams = dict(snapshot.refused_teams)
        self.accounts = dict(snapshot.accounts)
        self.teams = dict(snapshot.teams)
        self.unsettled = dict(snapshot.unsettled_teams)
        # It may keep the ids of users and not those of teams; each tells of the other where nothing else does.
        people = _keeps_ids(snapshot.accounts.values())
        teams = _keeps_ids(team for team in snapshot.teams.values() if team.seen)
        self.keeps_ids = teams is True if people is None else people
        self.drops_ids = people is False if teams is None else not teams

    def made(self, op: Operation) -> bool:
        """Whether Keeper shows a creation just as it was asked for."""
        if op.kind not in (Kind.CREATE_USER, Kind.QUEUE_TEAM):
            return False
        wanted = {change.attribute: change.after for change in op.changes}
        return any(wanted.items() <= one.shown.items() for one in self._by_id.get(op.subject.jumpcloud_id, ()))

    @cached_property
    def _given_up(self) -> set[str]:
        """The people whom a person gave up, perhaps while their creation was on its way."""
        return {one.jumpcloud_id for one in self.before.accounts.values() if one.standing is Standing.DISOWNED}

    @cached_property
    def _by_id(self) -> dict[str, list[Account | Team]]:
        """The accounts and teams by the JumpCloud id that Keeper shows on them."""
        found: dict[str, list[Account | Team]] = {}
        there: Iterable[Account | Team] = chain(self.before.accounts.values(), self.before.teams.values())
        for one in there:
            found.setdefault(one.shown.get(EXTERNAL_ID, ""), []).append(one)
        return found

    def outcome(self, op: Operation, at: datetime, *, lacked: bool = False) -> Settled:
        """Return the outcome of an operation. `lacked`: Keeper answered that it lacks the account."""
        if op.subject.type == "team":
            return self._team(op, at)
        account = self._created(op) if op.kind is Kind.CREATE_USER else self.accounts.get(op.subject.keeper_id)
        if self._quarantined(op, account):
            return _UNREADABLE
        if account is None:
            other = self._linked(op) if op.kind is Kind.CREATE_USER else None
            return NEVER if other is None else self._refused(op, other, at)
        if op.kind is Kind.CREATE_USER and account.standing is not Standing.UNMANAGED:
            # A later request made it ours, or a person gave it up: what we know of it is newer than this one.
            if account.managed and _shows(account, op) == op.changes:
                self._own(account, op)
            return _ARRIVED
        if op.kind is not Kind.CREATE_USER and not account.gone and self._has_another(op, account):
            return _FORMER
        if account.gone:
            if op.kind is not Kind.DEACTIVATE_USER:
                return _GONE
            # A 404 is no evidence of a lock, nor against one that was seen before. Consent to the lock is used up.
            self.accounts[account.keeper_id] = replace(account, review_lock=False)
            return Settled(State.DONE, NOT_HERE)
        if lacked and op.kind is Kind.DEACTIVATE_USER and not account.active:
            # The account is back, with a lock of somebody else, or with one that is older than this.
            return Settled(State.DONE, NOT_HERE)
        shows = _shows(account, op)
        arrived = {
            Kind.CREATE_USER: True,
            Kind.DEACTIVATE_USER: not account.active,
            Kind.REACTIVATE_USER: account.active,
        }.get(op.kind, shows == op.changes)
        teams = {team.key: team_id for team in (*op.add, *op.remove) if (team_id := self._sent_as(team))}
        shown = {team_id for team_id, membership in account.memberships.items() if membership.shown}
        added = tuple(team for team in op.add if teams.get(team.key) in shown)
        removed = tuple(team for team in op.remove if team.key in teams and teams[team.key] not in shown)
        # What waits unseen is not shown in any case: that proves nothing of its removal. Nor does a place that a link
        # has added and no list has shown.
        unseen = [t for t in removed if op.rule is Rule.UNDONE and not self._was_shown(account, teams[t.key])]
        waited = tuple(team for team in removed if team in unseen or account.waits(teams[team.key]))
        news = [change for change in op.changes if not same(change.attribute, change.before, change.after)]
        # A team without an id yet may have been left out of the request, for want of that.
        sent = tuple(team for team in op.add if team in added or self._was_sent(team))
        # One request arrives as a whole: what shows proves it also for a membership that waits and does not show. Only
        # of a change of names: nothing but teams may have gone team by team, where Keeper refused them together.
        if op.kind is Kind.UPDATE_USER:
            shows_added = added == sent and (bool(sent) or not op.add)
            arrived = arrived and removed == op.remove and (bool(news) or (shows_added and not waited))
            added = sent if arrived else added
        doubted: tuple[TeamRef, ...] = ()
        if not arrived or op.kind is not Kind.UPDATE_USER:
            removed = tuple(team for team in removed if team not in waited)
            doubted = tuple(team for team in waited if team not in unseen)
        if op.kind is Kind.CREATE_USER and shows == op.changes:
            # Another account that Keeper linked instead would have kept its own names, and its teams; one that we had
            # made before, of which a lost state file knew, has them without the teams.
            doubted = tuple(team for team in sent if team not in added)
        if arrived or added or removed:
            # Whatever of it shows is ours; the rest is to be asked for again. An account that is there, or open, may be
            # so by somebody else's doing, and then nothing else of the request arrived.
            done = replace(op, changes=shows, add=added, remove=removed)
            if not arrived:
                done = replace(done, kind=Kind.UPDATE_USER, changes=())
            former = None if op.kind is Kind.CREATE_USER else account
            reply = KeeperUser(account.keeper_id, account.shown, account.active, frozenset(shown))
            after = after_user(former, done, teams, reply, at)
            if op.kind is Kind.CREATE_USER:
                known = self.former.accounts.get(account.keeper_id, account)
                after = replace(after, former_external_id=former_id(known, after.jumpcloud_id))
            if op.kind is Kind.CREATE_USER and not account.active:
                after = replace(after, locked_by_us=account.locked_by_us or after.keeper_id in self.before.own_locks)
            if op.rule is Rule.UNDONE and arrived and any(change.attribute == ACTIVE for change in op.changes):
                # It sets the lock again that the link has undone: whose that was, it is.
                known = self.former.accounts.get(account.keeper_id, account)
                after = replace(after, locked_by_us=known.locked_by_us)
            if op.kind is Kind.CREATE_USER and after.jumpcloud_id in self._given_up:
                after = given_up(after)
            # A place that Keeper has shown, and shows no more, does not wait: it is asked for again.
            places = {t: account.memberships.get(t) for t in (teams[team.key] for team in added)}
            taken = {t: place for t, place in places.items() if place and place.ours and place.missed}
            # A user who was created shows what else they are a member of.
            memberships = {**account.memberships, **after.memberships, **taken}
            kept = {t: m for t, m in memberships.items() if t not in {teams[team.key] for team in removed}}
            self.accounts[account.keeper_id] = replace(
                after, memberships=kept, protected_as=account.protected_as, active=account.active
            )
        self._doubt(account.keeper_id, [teams[team.key] for team in doubted])
        if arrived:
            return _ARRIVED
        if op.kind is Kind.UPDATE_USER:
            # What Keeper refused together was sent in parts: the changes without the teams, or each team by itself. It
            # may also have ignored the changes; whoever has lost a team is to be told of.
            if {*shows} & {*news} or removed or (added and not op.changes):
                if op.rule is not Rule.UNDONE:
                    return _IN_PART
                changes = tuple(change for change in op.changes if change not in shows)
                rest = replace(op, changes=changes, remove=tuple(team for team in op.remove if team not in removed))
                return replace(_IN_PART, undo=rest)
            untold = account.keeper_id in self.before.untold
            if not op.changes and (untold or waited or (op.add and self._replaced(op, account))):
                return _UNSEEN
            # Somebody has changed it since, or a creation that Keeper linked to the account has: perhaps after ours.
            now = _shown(account)
            if any(not same(c.attribute, c.before, now.get(c.attribute, "")) for c in news):
                return _CHANGED_SINCE
        return NEVER

    def _replaced(self, op: Operation, account: Account) -> bool:
        """Whether a membership that nobody asked to remove is gone since the last list. Keeper may have replaced all
        memberships by those that it was to add, and shows none that waits for the approval of its team."""
        known = self.former.accounts.get(account.keeper_id)
        if known is None:
            return False
        asked = {self._sent_as(team) for team in op.remove}
        then, now = ({t for t, one in row.memberships.items() if one.shown} for row in (known, account))
        return any(team in self.teams and not self.teams[team].gone for team in then - now - asked)

    def _was_shown(self, account: Account, team_id: str) -> bool:
        """Whether the last list showed this membership."""
        known = self.former.accounts.get(account.keeper_id)
        place = known.memberships.get(team_id) if known is not None else None
        return place is not None and place.shown

    def _quarantined(self, op: Operation, account: Account | None) -> bool:
        """Whether the record that would show the operation cannot be read."""
        if account is None:
            return op.kind is Kind.CREATE_USER and any(self._may_show(one, op) for one in self.before.odd)
        if op.kind in (Kind.DEACTIVATE_USER, Kind.REACTIVATE_USER):
            return hides_lock(self.before, account.keeper_id)
        return any(one.keeper_id == account.keeper_id for one in self.before.odd if one.type == "user")

    def _may_show(self, one: OddRecord, op: Operation) -> bool:
        """Whether a record that cannot be read in full may be of the account that a creation made, or was linked to."""
        account = self.accounts.get(one.keeper_id)
        if account is None or account.bygone:
            return may_be(one, op.subject.jumpcloud_id, op.subject.name)
        return EXTERNAL_ID in one.fields and self._took_names(replace(account, shown=one.shown), op)

    def _doubt(self, keeper_id: str, teams: Iterable[str]) -> None:
        """Nothing tells whether these memberships wait, unseen: they are ours, and not counted on."""
        account = self.accounts[keeper_id]
        doubtful = {team: Membership(ours=True, seen=False, shown=False) for team in teams}
        if doubtful:
            self.accounts[keeper_id] = replace(account, memberships={**account.memberships, **doubtful})

    def _sent_as(self, team: TeamRef) -> str | None:
        """The team's Keeper id: as it was sent, since it may be another group's by now."""
        return team.keeper_id if team.keeper_id in self.teams else self._team_id(team.key)

    def _own(self, account: Account, op: Operation) -> None:
        """Whatever shows of the memberships that were asked for is ours: those in a team that had an id by then. The
        account is as it was asked for: another that Keeper linked would have kept its own names, and its teams."""
        wanted = {self._sent_as(team) for team in op.add if self._was_sent(team)}
        found = {t: m for t, m in account.memberships.items() if t in wanted and m.shown and not (m.ours or m.found)}
        owned = {team: replace(membership, ours=True) for team, membership in found.items()}
        self.accounts[account.keeper_id] = replace(account, memberships={**account.memberships, **owned})

    def _was_sent(self, team: TeamRef) -> bool:
        """Whether the team's id was known when a request was sent: not where its own queueing was settled later."""
        return bool(team.keeper_id) and self._sent_as(team) is not None

    def _has_another(self, op: Operation, account: Account) -> bool:
        """Whether the person of the operation has another account by now than the one that it was sent for."""
        owner = op.subject.jumpcloud_id
        others = (a for a in self.accounts.values() if a.keeper_id != account.keeper_id)
        return bool(owner) and any(a.jumpcloud_id == owner for a in others)

    def _created(self, op: Operation) -> Account | None:
        """The account that the request made: by our id; where Keeper keeps no ids, by an address that is nobody else's.
        Where it does, an account without ours was made by somebody else, and is adopted like any other. An account that
        an earlier list had cannot be it, unless it is this person's."""
        key = op.subject.jumpcloud_id
        live = [account for account in self.accounts.values() if not account.gone]
        mine = [a for a in live if a.jumpcloud_id == key and not tied_to_another(a, key)]
        born = [
            a
            for a in live
            if a.standing is Standing.UNMANAGED
            and not tied_to_another(a, key)
            and (a.shown.get(EXTERNAL_ID) == key or not self.keeps_ids)
            and is_theirs(op, as_shown(a), a, self.before.refused_births, listed=self._listed(a, key))
        ]
        found = next(iter([*mine, *born]), None)
        if found is not None:
            former = [k for k, a in self.accounts.items() if a.jumpcloud_id == key and k != found.keeper_id]
            for keeper_id in former:
                found = self.accounts[found.keeper_id] = in_place_of(found, self.accounts[keeper_id])
                self.accounts[keeper_id] = superseded(self.accounts[keeper_id], self.now)
        return found

    def _linked(self, op: Operation) -> Account | None:
        """The account that was there before the request, was linked and carries our id now; where Keeper keeps no ids,
        the names of the request."""
        key = op.subject.jumpcloud_id
        live = [a for a in self.accounts.values() if not a.gone and a.jumpcloud_id != key]
        by_id = (account for account in live if account.shown.get(EXTERNAL_ID) == key)
        by_names = (account for account in live if not self.keeps_ids and self._took_names(account, op))
        return next(chain(by_id, by_names), None)

    def _took_names(self, account: Account, op: Operation) -> bool:
        """Whether an account under another address shows all names of a creation, and did not before. The teams of the
        request prove nothing: a namesake may have been given one."""
        known = self.former.accounts.get(account.keeper_id)
        address = wanted_address(op)
        if known is None or account.keeper_id in self.asked or addresses.same(account.email, address):
            return False
        # The client sends the address where there is no display name.
        names = {DISPLAY_NAME: address} | {change.attribute: change.after for change in op.changes}
        names = {name: value for name, value in names.items() if name not in (USER_NAME, EXTERNAL_ID)}
        now, then = (
            [same(name, value, row.shown.get(name, "")) for name, value in names.items()] for row in (account, known)
        )
        return all(now) and not all(then)

    def _listed(self, account: Account, key: str) -> bool:
        """Whether a list had the account before it carried this person's id."""
        known = self.former.accounts.get(account.keeper_id)
        if known is None:
            return self._listed_oddly(account.keeper_id, key)
        return known.shown.get(EXTERNAL_ID) != key

    def _listed_oddly(self, keeper_id: str, key: str) -> bool:
        """Whether the former list had this account or team without a row, and not by a record with this id."""
        odd = self._odd(keeper_id)
        return odd is not None and odd.external_id != key

    def _odd(self, keeper_id: str) -> OddRecord | None:
        """The record of this account or team, if the former list showed it and it could not be read in full."""
        return next((record for record in self.former.odd if record.keeper_id == keeper_id), None)

    def _refused(self, op: Operation, other: Account, at: datetime) -> Settled:
        """A creation that Keeper linked to an account that is not new."""
        sent = replace(op, add=tuple(replace(team, keeper_id=self._sent_as(team) or "") for team in op.add))
        known = self.former.accounts.get(other.keeper_id)
        if known is not None and known.shown.get(EXTERNAL_ID) == op.subject.jumpcloud_id:
            # An earlier creation was linked to it, and given up before that showed: of what was there nothing is known
            # but whose account it is.
            known = replace(known, shown={**known.shown, EXTERNAL_ID: known.jumpcloud_id if known.managed else ""})
        mine = self.asked.get(other.keeper_id, ())
        theirs = frozenset(filter(None, (self._sent_as(team) for one in mine for team in one.add)))
        asked = [change for one in mine for change in one.changes]
        known = known and own(known, self.former.refused_births)
        undo = undoing(sent, as_shown(other), known, theirs, asked, self._odd(other.keeper_id))
        self.refused_births = {**with_refused(self.refused_births, op, other.keeper_id, undo, at)}
        undone = True if undo is None else None
        words = refused_words(wanted_address(op), other.email, managed=other.managed, undone=undone)
        return Settled(State.FAILED, words, other.keeper_id, undo)

    def _team(self, op: Operation, at: datetime) -> Settled:
        team = self.teams.get(op.subject.keeper_id)
        if op.kind is Kind.QUEUE_TEAM:
            team = self._queued(op)
            if team is None:
                other = self._linked_team(op.subject.jumpcloud_id)
                return self._by_inventory(op, at) if other is None else self._refused_team(op, other, at)
            if team.managed:
                # A later request made it, or its group took it over: what we know of it is newer than this one.
                self.unsettled.pop(op.subject.jumpcloud_id, None)
                return _ARRIVED
            asked_at = self.unsettled.pop(op.subject.jumpcloud_id, at)
            # A team under another name may be older than the request, by a file that was lost: that name is asked for
            # again. Should Keeper have made it of ours, the answer shows so.
            asked = [c for c in op.changes if c.attribute == EXTERNAL_ID or same(c.attribute, c.after, team.name)]
            shows = replace(op, changes=tuple(asked))
            made = after_team(None, shows, KeeperTeam(team.keeper_id, team.shown), team.queued_at or asked_at)
            self.teams[team.keeper_id] = replace(made, seen=team.seen)
            return _ARRIVED
        if team is not None and team.missing:
            return _GONE_PERHAPS
        # One that does not show may wait in the Pending Queue, as it was or as it was asked for; or be gone.
        denied = NEVER if team is not None and team.seen and not team.gone else _UNSEEN
        if op.kind is Kind.DELETE_TEAM:
            if team is not None and not team.gone:
                return denied
            # As after an answer: nobody else has deleted it, should its group come back.
            self.teams.pop(op.subject.keeper_id, None)
            return _ARRIVED
        if team is None or any(team.shown.get(change.attribute) != change.after for change in op.changes):
            return denied
        self.teams[team.keeper_id] = after_team(team, op, KeeperTeam(team.keeper_id, team.shown), at)
        return _ARRIVED

    def _by_inventory(self, op: Operation, at: datetime) -> Settled:
        """What the inventory tells of a team that Keeper does not show."""
        owner = op.subject.jumpcloud_id
        name = next((change.after for change in op.changes if change.attribute == DISPLAY_NAME), op.subject.name)
        # An older request of the same team must not close what a newer one has left open.
        newest = max(at, self.before.unsettled_teams.get(owner, at))
        told = told_by_inventory(replace(self.before, teams=self.teams), owner, name, newest)
        if told is None:
            return _QUEUED_PERHAPS
        self.unsettled.pop(owner, None)
        if isinstance(told, Team):
            self.teams[told.keeper_id] = told
            return Settled(State.DONE, "found queued in Keeper's inventory")
        return Settled(State.FAILED, "Keeper's inventory shows that it did not arrive")

    def _queued(self, op: Operation) -> Team | None:
        """The team that the request made: by our id; where Keeper is known to keep no ids, by a name that was free when
        it was asked for. Else a team without ours was made by somebody else: what is shared with it is not ours. A team
        that an earlier list had cannot be it, unless it was this group's."""
        wanted = {change.attribute: change.after for change in op.changes}
        key = op.subject.jumpcloud_id
        live = [team for team in self.teams.values() if not team.gone and not self._listed_team(team, key)]
        tied = [t for t in live if key in (t.jumpcloud_id, t.shown.get(EXTERNAL_ID))]
        named = [t for t in live if self.drops_ids and not t.managed and t.name == wanted.get(DISPLAY_NAME)]
        return next(iter([*tied, *named]), None)

    def _listed_team(self, team: Team, key: str) -> bool:
        """Whether a list had the team before it was tied to this group."""
        known = self.former.teams.get(team.keeper_id)
        if known is None:
            return self._listed_oddly(team.keeper_id, key)
        return not team_births.is_tied(known, key)

    def _linked_team(self, key: str) -> Team | None:
        """The team that was there before the request, and carries our id now."""
        live = (team for team in self.teams.values() if not team.gone and team.shown.get(EXTERNAL_ID) == key)
        return next((team for team in live if self._listed_team(team, key)), None)

    def _refused_team(self, op: Operation, other: Team, at: datetime) -> Settled:
        """A queueing that Keeper answered with a team that is not new."""
        former = self.former.teams.get(other.keeper_id)
        undo = team_births.undoing(op, KeeperTeam(other.keeper_id, other.shown), former)
        words = team_births.refused_words(op.subject.name, (former or other).name, other.jumpcloud_id)
        self.unsettled.pop(op.subject.jumpcloud_id, None)
        refused = RefusedTeam(op.subject.name, other.keeper_id, words, undo, at)
        self.refused_teams[op.subject.jumpcloud_id] = refused
        return Settled(State.FAILED, words, other.keeper_id, undo)

    def _team_id(self, key: str) -> str | None:
        if key in self.teams:
            return key
        team = by_group(self.teams.values()).get(key)
        return team.keeper_id if team is not None and not team.gone else None


def _shows(account: Account, op: Operation) -> tuple[Change, ...]:
    """Those of the operation's changes that Keeper shows."""
    shown = _shown(account)
    return tuple(c for c in op.changes if same(c.attribute, c.after, shown.get(c.attribute, "")))


def _shown(account: Account) -> Mapping[str, str]:
    """The attributes that Keeper shows, and whether the account is active."""
    return {**account.shown, "active": "true" if account.active else "false"}


def _keeps_ids(listed: Iterable[Account | Team]) -> bool | None:
    """Whether this Keeper shows the ids that it was given; None where nothing tells."""
    there = [one for one in listed if not one.gone]
    if any(one.shown.get(EXTERNAL_ID) for one in there):
        return True
    # Of somebody who was given up the id was taken back.
    return False if any(one.managed and one.asked.get(EXTERNAL_ID) for one in there) else None
