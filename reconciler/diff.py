"""The diff: what has to be done so that Keeper holds what JumpCloud wants. Pure, without a clock of its own.

All rules of who is created, updated, deactivated, reactivated and which team is queued are here and in `match`, and
nowhere else.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property

from reconciler import addresses, births, fallback, team_births
from reconciler.addresses import alike_key
from reconciler.counting import agreeing
from reconciler.diff_quarantine import HIDDEN_FOR, hidden_since, notice, relevant, remembered
from reconciler.diff_teams import TeamRules, listed
from reconciler.keeper_quarantine import may_be_locked
from reconciler.keeper_quarantine import notices as quarantine_notices
from reconciler.match import has_left, match, protection, wanted_attributes
from reconciler.model import (
    DISPLAY_NAME,
    EXTERNAL_ID,
    USER_NAME,
    USERS,
    Account,
    Directory,
    RefusedBirth,
    Snapshot,
    Standing,
    Status,
    Takeover,
    User,
    normal,
    typed,
    typed_for,
)
from reconciler.pairs import given_to, retied, shown_as, shown_since
from reconciler.pilot import KEPT_LOCKED, entries_for, in_pilot, may_be_unread, misnamed, names_nobody, unmatched
from reconciler.plan import (
    Cause,
    Change,
    Kind,
    Notice,
    NoticeKind,
    Operation,
    Plan,
    Rule,
    Scope,
    Source,
    Subject,
    TeamRef,
    Upcoming,
    in_order,
)
from reconciler.policy import Drift, Mode, OutOfScope, Policy, Reactivate, TeamOutOfScope

FIRST_PAUSE = timedelta(minutes=5)
LONGEST_PAUSE = timedelta(hours=1)
_SPARED = {
    Kind.DEACTIVATE_USER: "not locked",
    Kind.REACTIVATE_USER: "not unlocked",
    Kind.CREATE_USER: "not created anew",
    Kind.UPDATE_USER: "not changed",
}
_SHIELDED = "protected (policy.protect): neither created nor taken over"
_FOUND = "a first plan found it for somebody who has left"
_LETS_IN = frozenset({Kind.REACTIVATE_USER, Kind.CREATE_USER})


@dataclass(frozen=True, slots=True)
class Decision:
    """The Plan, and the snapshot with what the read taught: who is linked to whom, who left when.

    Nothing in `snapshot` needed a request to Keeper; recording it is part of a real cycle, never of a dry run.
    `upcoming` is what will be sent when grace ends, if everything stays as it is. `pilot_names_nobody`: there is a
    pilot, and nobody in scope is in it.
    """

    plan: Plan
    snapshot: Snapshot
    upcoming: tuple[Upcoming, ...] = ()
    pilot_names_nobody: bool = False


def pause_after(failures: int) -> timedelta:
    """How long a subject rests after so many failures in a row: 5 minutes, doubling, one hour at most."""
    return min(FIRST_PAUSE * (1 << min(failures - 1, 10)), LONGEST_PAUSE)


def diff(
    directory: Directory,
    snapshot: Snapshot,
    policy: Policy,
    now: datetime,
    *,
    kind: str,
    source: Source,
    focus: frozenset[str] | None = None,
    pausing: bool = True,
    unlock: Set[str] = frozenset(),
    certain: bool = True,
    from_list: bool = True,
    uncertain: Set[str] = frozenset(),
) -> Decision:
    """Compare both sides and decide.

    `focus` are the keys of the people whom a partial cycle is about: directory and snapshot then hold just what
    concerns them, and only operations on them are planned. None: it is about everybody. `pausing`: who keeps failing
    rests for a while. `unlock` are the keys of people whose lock a person asked to undo, whoever set it. `certain`:
    whether `now` is; nobody's grace ends while it is not. Where Keeper was to be listed and `from_list` is false,
    nobody is created or adopted. The `uncertain` keys are locked at most: their last operation may still take effect.
    """
    matched = match(directory, snapshot, policy, now, whole=focus is None)
    contested = set(retied(snapshot.teams, matched.teams)) if focus is not None or not from_list else set()
    if not from_list:
        contested |= retied(snapshot.accounts, matched.accounts).keys()
        matched = fallback.without_adoptions(matched, directory, snapshot)
    work = _Diff(directory, matched, snapshot, policy, now, focus, pausing, unlock, certain, contested)
    work.teams()
    work.users()
    work.team_grace()
    work.pilot_entries()
    work.quarantine()
    work.undo_links()
    work.unlock_asked()
    due = [op for op in work.operations if _access(op) == "false" or op.subject.key not in uncertain]
    for op in work.operations:
        if op.subject.key in uncertain and op.kind in (Kind.CREATE_USER, Kind.REACTIVATE_USER):
            work.notice(NoticeKind.UNCONFIRMED, op.subject, _OPEN_OUTCOME)
    if not from_list:
        work.notices += filter(None, map(fallback.waits, due))
        due = [part for op in due if (part := fallback.from_snapshot(op)) is not None]
    operations = [work.judged(op) for op in due if work.concerns(op.subject.key)]
    notices = {notice for notice in work.notices if work.tells(notice)}
    in_scope = [user for user in directory.users.values() if user.in_scope]
    plan = Plan(
        kind=kind,
        generated_at=now,
        source=source,
        scope=Scope(
            len(in_scope),
            sum(policy.teams.manages(group.name) for group in directory.groups.values()),
            sum(len(user.groups) for user in in_scope),
            directory.unread,
        ),
        operations=in_order(operations),
        adopts=tuple(work.adopted()),
        notices=tuple(sorted(notices, key=_notice_order)),
        focus=focus,
    )
    later = (one for one in work.upcoming if work.concerns(one.operation.subject.key))
    upcoming = tuple(one for one in later if work.would_send(one.operation))
    locked = {op.subject.keeper_id for op in operations if op.sent and op.kind is Kind.DEACTIVATE_USER}
    return Decision(plan, work.learnt(locked), upcoming, names_nobody(policy, directory, matched))


_OPEN_OUTCOME = (
    "in scope, but not let in yet: the outcome of the last change is not known, and it may still take effect. Keeper "
    "is asked again by a cycle that begins two minutes after it was sent, and what is missing then is sent"
)


def _notice_order(notice: Notice) -> tuple[int, str, str, str]:
    kinds = list(NoticeKind)
    return kinds.index(notice.kind), notice.subject.name.casefold(), notice.subject.key, notice.message


class _Diff(TeamRules):
    # -- what comes out ------------------------------------------------------------------------------------------

    def judged(self, op: Operation) -> Operation:
        """The operation, not to be sent where the mode, the pilot or a failure pause says so."""
        if self.policy.mode is Mode.OBSERVE:
            return replace(op, sent=False)
        if not self.in_hand(op):
            account = self.match.accounts.get(self.match.account_of.get(op.subject.jumpcloud_id, ""))
            ours = op.kind in _LETS_IN and account is not None and account.locked_by_us
            words = KEPT_LOCKED if ours else "outside the pilot (policy.only): planned, not sent"
            self.notice(NoticeKind.OUTSIDE_PILOT, op.subject, words)
            return replace(op, sent=False)
        failure = self.before.failures.get(op.subject.key)
        if not self.pausing or failure is None or op.kind is Kind.DELETE_TEAM:
            return op
        # Neither lock nor unlock waits: what failed was perhaps something else, and the leaver can still log in, or
        # somebody who belongs can't.
        until = self.now if _access(op) else failure.last_at + pause_after(failure.count)
        # Nothing asks for a team alone.
        how = f"; at once: reconciler resync {self._typed(op.subject)}" if op.subject.type == "user" else ""
        self.notice(
            NoticeKind.FAILING,
            op.subject,
            f"failed {'once' if failure.count == 1 else f'{failure.count} times in a row'}, last: "
            f"{failure.error.rstrip('. ')}. "
            + (f"Tried again after {until:%Y-%m-%d %H:%M} UTC{how}" if until > self.now else "Tried again now"),
        )
        return replace(op, sent=False) if until > self.now else op

    def would_send(self, op: Operation) -> bool:
        """Whether mode and pilot let an operation be sent once it is due."""
        return self.policy.mode is not Mode.OBSERVE and self.in_hand(op)

    def in_hand(self, op: Operation) -> bool:
        """Whether an operation is about somebody in the pilot, or takes back what we did, whoever has that now."""
        return op.subject.key in self.pilots or op.rule in (Rule.UNDONE, Rule.DISOWNED)

    def adopted(self) -> Iterator[Subject]:
        for keeper_id in sorted(self.match.adopted, key=lambda i: alike_key(self.match.accounts[i].email)):
            subject = self.subject(self.match.accounts[keeper_id])
            if self.concerns(subject.key):
                yield subject

    def concerns(self, key: str) -> bool:
        """Whether the diff is about this subject."""
        return self.focus is None or key in self.focus

    def tells(self, notice: Notice) -> bool:
        """Whether the plan has this notice: it is about a subject of the diff, or about what keeps their teams as they
        are."""
        if self.concerns(notice.subject.key):
            return True
        theirs = notice.subject.key in self._their_groups
        if notice.kind is NoticeKind.QUARANTINED:
            unclear = not self._their_groups.isdisjoint(self.directory.unclear_groups)
            return theirs or (notice.subject.type == "list" and unclear)
        return notice.kind is NoticeKind.CONFLICT and theirs and notice.subject.key not in self.addable

    @cached_property
    def _their_groups(self) -> frozenset[str]:
        """The ids of the groups that the people of a focused diff are in, or have the teams of, as far as they are in
        scope."""
        found: set[str] = set()
        for key in self.focus or ():
            user, account = self.directory.users.get(key), self.match.accounts.get(self.match.account_of.get(key, ""))
            if user is not None and user.in_scope and self.policy.teams.manage:
                teams = (self.match.teams.get(team_id) for team_id in (account.memberships if account else ()))
                found |= user.groups | {team.jumpcloud_id for team in teams if team is not None and team.jumpcloud_id}
        return frozenset(found)

    def learnt(self, locked: Set[str]) -> Snapshot:
        """The snapshot to record; a focused diff learns of its people only. `locked` are the accounts to be locked."""
        if self.focus is None:
            unclear = remembered(self.directory, self.before.unclear, self.quarantined, self.now)
            named = frozenset(self.match.named_teams)
            known = replace(self.before, unclear=unclear, named_teams=named)
            return replace(known, accounts=self.match.accounts, teams=self.match.teams)
        before = {k: a.jumpcloud_id for k, a in self.before.accounts.items()}  # what an account is left of has no owner
        accounts = self.match.accounts.items()
        mine = {k: a for k, a in accounts if not self.focus.isdisjoint((a.jumpcloud_id, k, before.get(k, "")))}
        others = {k: a for k, a in self.before.accounts.items() if self.focus.isdisjoint((a.jumpcloud_id, k))}
        if not self.before.reviewed:
            # That a leaver has the account which a plan found for them is for a whole plan to say, and a person to
            # review: whoever gets its address meanwhile may be its owner. But whom a person locks now has it: else they
            # would not be let in again like anybody whom we have locked.
            there = self.before.accounts
            open_still = mine.keys() & there.keys() - locked
            found = {k: there[k] for k in open_still if mine[k].review_lock and there[k].found_for}
            mine = {k: a for k, a in mine.items() if k not in found}
            others |= found
        # It has not read whom else a person may have meant with `adopt`: a whole read ends that.
        there, tied = self.before.accounts, retied(self.before.accounts, mine)
        for k in (k for k in mine.keys() & there.keys() if there[k].takeover is not Takeover.NONE):
            if not (mine[k].managed or there[k].managed):
                mine[k] = replace(mine[k], standing=there[k].standing, jumpcloud_id=there[k].jumpcloud_id)
            elif k in tied:
                continue
            mine[k] = replace(mine[k], takeover=there[k].takeover)
        return replace(self.before, accounts={**others, **mine})

    def subject(self, account: Account, user: User | None = None) -> Subject:
        name = account.email or (user.email if user else "") or account.keeper_id
        return Subject("user", name, account.jumpcloud_id or (user.id if user else ""), account.keeper_id)

    # -- quarantine ----------------------------------------------------------------------------------------------

    def quarantine(self) -> None:
        """Tell what could not be read, about whom, and what is not done for it."""
        for one, subject in relevant(self.directory, self.match, self.policy.teams):
            self.quarantined[one.key] = notice(one, subject)
        self.quarantined |= dict(quarantine_notices(self.before))
        self.notices += self.quarantined.values()

    @cached_property
    def _hidden_since(self) -> dict[str, datetime]:
        return hidden_since(self.directory, self.before.unclear, self.now)

    def _unknown(self, account: Account, user: User, subject: Subject) -> None:
        """The state of somebody is not known, or whether they are in scope."""
        if account.active or user.bound:
            self._tell_state(user, subject, "nothing about their access is changed")
        if not account.active:
            return  # as with anybody whose state is known: what somebody locked is left alone
        since = self._hidden_since.get(user.id)
        if since is None or self.now - since < HIDDEN_FOR:
            self._update(account, user, subject, access=False)
            return
        reason = f"JumpCloud shows no record of them since {since:%Y-%m-%d %H:%M} UTC, and still binds them"
        lock = (Change("active", "true", "false"),)
        self.operations.append(Operation(Kind.DEACTIVATE_USER, subject, Cause.JUMPCLOUD, Rule.HIDDEN, reason, lock))

    def _tell_state(self, user: User, subject: Subject, effect: str) -> None:
        # Of a list that can't be had one notice is enough.
        if user.status is not Status.UNKNOWN or USERS not in self.directory.unread:
            self.notice(NoticeKind.STATE_UNKNOWN, subject, f"{_state_words(user)}; {effect}")

    # -- users ---------------------------------------------------------------------------------------------------

    def users(self) -> None:
        for user_id in sorted(self.directory.users):
            user = self.directory.users[user_id]
            account_id = self.match.account_of.get(user_id)
            if account_id is not None:
                self._pilot(user, self.match.accounts[account_id])
                self._account(self.match.accounts[account_id], user)
            elif user.belongs:
                self._pilot(user, None)
                self._nobody(user)
        paired = set(self.match.account_of.values())
        told = {*self.match.conflicts, *self.match.disowned}
        spoken_of = {alike_key(self.directory.users[user_id].email) for user_id in told}
        for keeper_id in sorted(self.match.accounts):
            account = self.match.accounts[keeper_id]
            if account.standing is Standing.DISOWNED:
                self._disowned(account)
            elif account.managed and keeper_id not in paired:
                self._pilot(None, account)
                self._account(account, None)
            elif account.managed or account.gone:
                continue
            elif alike_key(account.email) not in spoken_of or self._another_of(account, told):
                self._unmanaged(account)

    def _pilot(self, user: User | None, account: Account | None) -> None:
        if in_pilot(self.policy, self.directory, user, account, misnamed=self._misnamed):
            key = self.subject(account, user).key if account else user.id if user else ""
            self.pilots.add(key)
            if self.policy.only is not None and not entries_for(self.policy, self.directory, user, account):
                self.outside_by_now.add(key)

    @cached_property
    def _misnamed(self) -> bool:
        return misnamed(self.policy, self.directory, self.match, whole=self.focus is None)

    def pilot_entries(self) -> None:
        """Tell of a pilot that names nobody, or of entries that do: a group that was renamed ends the pilot."""
        wrong, subject = unmatched(self.policy, self.directory), Subject("setting", "policy.only")
        if may_be_unread(self.policy, self.directory):
            self.notice(
                NoticeKind.OUTSIDE_PILOT,
                subject,
                f"{wrong} as far as groups can be read now; whoever was in the pilot through one that can't stays in "
                "it. If the names in policy.only are right, nothing is to be corrected there",
            )
        elif names_nobody(self.policy, self.directory, self.match):
            because = f" ({wrong})" if wrong else ""
            right = "Correct the names in policy.only" if wrong else "Whoever it means is not in scope"
            self.notice(
                NoticeKind.OUTSIDE_PILOT,
                subject,
                f"the pilot names nobody in scope{because}: nothing is sent to Keeper for anybody in scope, but to "
                f"undo a lock of ours on somebody who was in a pilot. {right}",
            )
        elif wrong:
            self.notice(NoticeKind.OUTSIDE_PILOT, subject, f"{wrong}: correct the names in policy.only")

    @staticmethod
    def _named(user: User) -> str:
        return user.email or user.display_name or _full_name(user) or user.id

    def _nobody(self, user: User) -> None:
        """A user in scope without an account that is ours."""
        subject = Subject("user", self._named(user), user.id)
        if user.id in self.match.disowned:
            given_up = self.match.accounts[self.match.disowned[user.id]]
            self.notice(
                NoticeKind.UNMANAGED,
                subject,
                f"in scope, but given up by a person (disown); back under management: reconciler adopt "
                f"{typed(given_up.email)}",
            )
        elif user.id in self.match.conflicts:
            self.notice(NoticeKind.CONFLICT, subject, self.match.conflicts[user.id])
        elif user.id in self.match.shielded or protection(self.policy, user, None):
            self.notice(NoticeKind.PROTECTED, subject, _SHIELDED)
        elif not user.in_scope:
            self._tell_state(user, subject, "not created")
        elif not user.email:
            self.notice(
                NoticeKind.NO_ADDRESS,
                subject,
                "no usable e-mail address in JumpCloud: none, one that is not of the form NAME@DOMAIN, or one with a "
                "blank or an invisible character, as pasting may leave it; not created. Enter it anew in JumpCloud",
            )
        else:
            self._create(user, Rule.JOINED, Cause.JUMPCLOUD, f"joined the scope {self._path(user)}")

    def _path(self, user: User) -> str:
        names = [self.directory.groups[g].name for g in user.groups if g in self.directory.groups]
        if not names and (user.groups or user.teams_unknown):
            return "through a group that can't be read"
        return f"through {listed(names)}" if names else "by a direct binding"

    def _create(self, user: User, rule: Rule, cause: Cause, reason: str) -> None:
        subject = Subject("user", user.email, user.id)
        asked = self.before.unsettled_users.get(user.id, user.email)
        until = "created until Keeper has shown what became of that, which every resync asks"
        if not addresses.same(asked, user.email):
            # Under the same address Keeper would link the two; under another one the person would have two accounts.
            words = f"was asked for as {asked} without an answer, and has another address now: not {until}"
            self.notice(NoticeKind.ADDRESS_CHANGE, subject, words)
            return
        if self._asked_for.get(alike_key(user.email), set()) - {user.id}:
            words = f"{user.email} was asked for without an answer for somebody else, whose account would be linked"
            self.notice(NoticeKind.CONFLICT, subject, f"{words}: not {until}")
            return
        locked = self._locked_before(user)
        if locked is not None and user.id not in self.unlock and self.policy.reactivate is not Reactivate.ANY:
            self._tell_locked_before(locked, user, subject)
            return
        birth = births.refused(self.before, user.id, user.email)
        other = self.before.accounts.get(birth.keeper_id) if birth is not None else None
        if birth is not None and not birth.agreed:
            held = other is not None and (other.managed or self._is_anothers(other, user))
            undone = not births.stands(birth, other)
            words = births.refused_words(user.email, births.met(birth, self.before), managed=held, undone=undone)
            self.notice(NoticeKind.CONFLICT, subject, words)
            return
        if birth is not None and not (other is not None and self._is_anothers(other, user)):
            rule, reason = Rule.ADOPTED, f"{reason}; a person agreed to the account that Keeper links"
        wanted = {attribute: value for attribute, value in wanted_attributes(user).items() if value}
        self.operations.append(
            Operation(
                Kind.CREATE_USER,
                subject,
                cause,
                rule,
                reason,
                tuple(Change(attribute, "", value) for attribute, value in wanted.items()),
                add=_ordered(self.addable[g] for g in user.groups if g in self.addable and not user.teams_unknown),
                pilot=tuple(sorted(entries_for(self.policy, self.directory, user, self.match.account(user.id)))),
            )
        )

    def _is_anothers(self, account: Account, user: User) -> bool:
        """Whether an account that nobody manages is that of somebody else who has not left: of whom a person has given
        up, or of who has its address."""
        owner = self.directory.users.get(account.jumpcloud_id)
        given_up = account.standing is Standing.DISOWNED and owner is not None and owner.belongs
        return given_up or bool(self._others_at(account.email, user.id))

    def _locked_before(self, user: User) -> Account | None:
        """The account without an owner that somebody locked before it vanished, and that a creation may link and
        unlock: by its address, or by the id that it carries. Not where another account has had the person's address
        since then: no two have one at a time, so that the address is that account's no more."""
        found = [self._locked_and_gone.get(key) for key in (alike_key(user.email), user.id)]
        if found == [None, None]:
            return None
        others = (a for a in self.match.accounts.values() if a.gone and addresses.same(a.email, user.email))
        since = max((a.missed_at for a in others if a.missed_at is not None), default=None)
        return next((a for a in found if a and not (since and a.missed_at and a.missed_at < since)), None)

    @cached_property
    def _locked_and_gone(self) -> dict[str, Account]:
        """By address and by the id that it carries, the last account without an owner that somebody locked before it
        vanished."""
        found = [a for a in self.match.accounts.values() if a.bygone and a.locked_by_others]
        found.sort(key=lambda a: a.missed_at.timestamp() if a.missed_at else 0.0)
        keys = ((key, a) for a in found for key in (alike_key(a.email), a.shown.get(EXTERNAL_ID, "")))
        return {key: account for key, account in keys if key}

    def undo_links(self) -> None:
        """Take back the links of creations to accounts that are not new, as far as they still stand."""
        same: dict[str, list[Operation]] = defaultdict(list)
        for op in self.operations:
            if op.kind is not Kind.DEACTIVATE_USER and self.in_hand(op):
                same[op.subject.keeper_id].append(op)
        for person, birth in sorted(self.before.refused_births.items()):
            account = self.match.accounts.get(birth.keeper_id)
            theirs = self.match.account_of.get(person) == birth.keeper_id
            if birth.undo is None or account is None or theirs:
                continue
            undo = births.due(birth.undo, account, self._teams_of(account))
            for op in same[birth.keeper_id]:
                undo = births.beside(undo, op) if undo is not None else None
            if undo is not None:
                if not account.locked_by_us and _access(undo):
                    # It sets the lock of somebody else again, and with one of ours that would pass for ours.
                    self.operations = [op for op in self.operations if not _locks(op, account)]
                # Whoever has the account by now may not have had it when Keeper linked it.
                owner = account.jumpcloud_id if account.managed else ""
                undo = replace(undo, subject=replace(undo.subject, jumpcloud_id=owner))
                self.operations.append(undo)
                same[birth.keeper_id].append(undo)
        teams = (op for op in self.operations if op.subject.type == "team" and self.in_hand(op))
        changed = {op.subject.keeper_id for op in teams}
        for group_id, refused in sorted(self.before.refused_teams.items()):
            team = self.match.teams.get(refused.keeper_id)
            # Any other change of the team gives it its own name and id; of the group's own team nothing is undone.
            ours = team is None or refused.keeper_id in (self.match.team_of.get(group_id), *changed)
            undo = None if team is None or ours else team_births.due(refused, team)
            if undo is not None:
                self.operations.append(undo)
                # Another group may have been refused with the same team; what is due by then the next cycle undoes.
                changed.add(refused.keeper_id)

    @cached_property
    def _others_births(self) -> dict[str, dict[str, RefusedBirth]]:
        """By Keeper id, the creations of other people that Keeper linked to the account."""
        account_of, refused = self.match.account_of, self.before.refused_births
        return births.by_account({one: b for one, b in refused.items() if account_of.get(one) != b.keeper_id})

    def _given_by_links(self, account: Account) -> set[str]:
        """The Keeper ids of the teams that the undoing of links takes from the account."""
        undos = (birth.undo for birth in self._others_births.get(account.keeper_id, {}).values() if birth.undo)
        parts = (births.due(undo, account, self._teams_of(account)) for undo in undos)
        return {team.keeper_id for part in parts if part is not None for team in part.remove}

    def _teams_of(self, account: Account) -> frozenset[str]:
        """The Keeper ids of the teams that the account's own user is to have, all where that is not clear."""
        user = self.directory.users.get(account.jumpcloud_id)
        unread = user is None and self.focus is not None and bool(account.jumpcloud_id)
        unclear = user is not None and (user.teams_unknown or user.unsure or not (user.in_scope or has_left(user)))
        if unread or unclear:
            return frozenset(self.match.teams)
        groups = user.groups if user is not None and user.in_scope else frozenset()
        return frozenset(team_id for team_id, team in self.match.teams.items() if team.jumpcloud_id in groups)

    @cached_property
    def _asked_for(self) -> dict[str, set[str]]:
        """By address, whose creation was sent under it and has no answer."""
        found: dict[str, set[str]] = {}
        for user_id, address in self.before.unsettled_users.items():
            found.setdefault(alike_key(address), set()).add(user_id)
        return found

    def _unmanaged(self, account: Account) -> None:
        subject = self.subject(account)
        if account.protected_as:
            # A person was told that it will be taken over.
            if self.before.accounts[account.keeper_id].takeover is not Takeover.NONE:
                words = "protected (policy.protect): not taken over, although a person asked for it (adopt)"
                self.notice(NoticeKind.PROTECTED, subject, words)
            return
        if self.may_be_others(account):
            self.notice(NoticeKind.QUARANTINED, subject, fallback.NOT_ADOPTED)
            return
        owner = self._carried(account)
        if owner is not None and owner.belongs:
            if owner.id not in self.match.account_of:
                # Of anybody else the owner's own notice says what is not done.
                if not owner.in_scope:
                    words = f"left as it is: it carries the JumpCloud id of {self._named(owner)}, {_state_words(owner)}"
                    self.notice(NoticeKind.STATE_UNKNOWN, subject, words)
                return
            self.notice(
                NoticeKind.CONFLICT,
                subject,
                f"carries the JumpCloud id of {owner.email or owner.id}, who is in scope and has another Keeper user; "
                "nothing is done with it. Delete the wrong one in Keeper's Admin Console",
            )
            return
        state = "" if account.active else " (locked)"
        if owner is not None and alike_key(account.email) in self._addresses:
            self.notice(
                NoticeKind.CONFLICT,
                subject,
                f"in Keeper{state}, carries the JumpCloud id of {owner.email or owner.id}, who is not in scope, and "
                "the address of somebody who is: neither locked nor given to anybody. If whoever has the address now "
                f"is to have it: reconciler adopt {typed(account.email)}; else lock it in Keeper's Admin Console",
            )
            return
        whose = "not in scope in JumpCloud"
        if (left := self._left_owner(account)) is not None:
            whose = f"carries the JumpCloud id of {left.email or left.id}, who {_how_left(left)}, so it may be theirs"
        elif alike_key(account.email) in self._lost_addresses:
            whose = "has the address of somebody who has left, and whose account is not in this node any more"
        self.notice(
            NoticeKind.GHOST,
            subject,
            f"in Keeper{state}, {whose}, not managed: never changed. "
            f"To have us manage them: reconciler adopt {typed(account.email)}",
        )

    def _another_of(self, account: Account, told: Set[str]) -> bool:
        """Whether an account carries the id of somebody of whom nothing is told but what their account says: they
        have left, or have another one."""
        owner = self._carried(account)
        if owner is None or has_left(owner):
            return owner is not None
        return owner.belongs and owner.id in self.match.account_of and owner.id not in told

    def _left_owner(self, account: Account) -> User | None:
        """Whoever has left and whose id is on an account that nobody manages."""
        owner = self._carried(account)
        return owner if owner is not None and has_left(owner) else None

    def _carried(self, account: Account) -> User | None:
        """The person whose id is on an account. One that a link has left there says nothing, and is taken back."""
        return self.directory.users.get(births.own_id(account, self._as_their_own))

    @cached_property
    def _lost_addresses(self) -> set[str]:
        """The addresses of leavers whose account is gone."""
        accounts = self.match.accounts.values()
        return {alike_key(a.email) for a in accounts if a.managed and a.gone and a.left_at is not None}

    def _disowned(self, account: Account) -> None:
        """Given up by a person: all that is left to do is to give the former externalId back."""
        have, want = account.shown.get(EXTERNAL_ID, ""), account.former_external_id
        asked = account.asked.get(EXTERNAL_ID)
        if account.gone or not account.jumpcloud_id or have != account.jumpcloud_id or asked == want:
            return
        subject = self.subject(account)
        if account.protected_as:
            self.notice(NoticeKind.PROTECTED, subject, "protected (policy.protect): the externalId is not restored")
            return
        self.operations.append(
            Operation(
                Kind.UPDATE_USER,
                subject,
                Cause.JUMPCLOUD,
                Rule.DISOWNED,
                "given up by a person: the former externalId is restored",
                (Change(EXTERNAL_ID, have, want),),
            )
        )

    def _account(self, account: Account, user: User | None) -> None:
        subject = self.subject(account, user)
        if self.may_be_others(account) and not account.gone:
            self.notice(NoticeKind.QUARANTINED, subject, fallback.ANOTHER_OWNER)
            return
        if self._given_since(account, user, subject):
            return
        protected = protection(self.policy, user, account)
        first_operation, first_upcoming = len(self.operations), len(self.upcoming)
        if user is not None and user.in_scope and may_be_locked(self.before, account):
            # Counted as active, whoever is back in scope would stay locked out for as long as the record can't be read.
            account = replace(account, active=False, locked_by_us=True)
        if user is None or has_left(user):
            self._out_of_scope(account, user, subject)
        elif account.gone:
            self._gone(account, user, subject)
        elif not user.in_scope:
            self._unknown(account, user, subject)
        elif not account.active:
            self._locked(account, user, subject)
        else:
            self._update(account, user, subject, access=True)
        if protected:
            del self.upcoming[first_upcoming:]
            self._spare(subject, first_operation, account)

    def _given_since(self, account: Account, user: User | None, subject: Subject) -> bool:
        """Whether the account is somebody else's by now, as far as Keeper shows, or may be; tell so. An old copy of the
        state file, or another program that writes ids, must not lock whoever it was given to."""
        own = self._as_their_own.get(account.keeper_id, account)
        other = shown_as(own, self.directory.users)
        email = typed(account.email)
        if account.gone:
            return False
        if other is not None:
            whose = user.email or user.id if user is not None else account.jumpcloud_id
            todo = f"If it is theirs: reconciler adopt {email}; else give it another address in Keeper's Admin Console"
            if user is not None and user.belongs:
                todo = (
                    f"If it is that of {whose}, give it their address in Keeper's Admin Console; else take {whose} out "
                    f"of the application in JumpCloud, and then: reconciler adopt {email}"
                )
            carries = f"the JumpCloud id and the address of another one, {other.id}, who has not left"
            if not other.email:
                carries = f"the JumpCloud id of another one, {other.id}, who has not left and has no known address"
                todo = f"Whose it is shows once JumpCloud has a usable address of {other.id}"
            self.notice(
                NoticeKind.CONFLICT,
                subject,
                f"managed for the JumpCloud user {whose}, but it carries {carries}: it is not locked, and nothing is "
                f"changed about it. {todo}",
            )
            return True
        shown, other = shown_since(own), given_to(own, user, self.directory.users)
        left = user is None or has_left(user)
        who = "has left, but their" if left else "their"
        unread = left and account.active and shown not in self.directory.users
        if self.focus is not None and shown and (unread or other is not None):
            waits = "not locked" if left else "nothing is changed about it"
            self.notice(
                NoticeKind.UNCONFIRMED,
                subject,
                f"{who} Keeper user carries another JumpCloud id by now ({shown}): {waits} before a whole cycle has "
                "read whose that is",
            )
            return True
        if other is None or other not in self._without_account:
            return False
        self.notice(
            NoticeKind.CONFLICT,
            subject,
            f"{who} Keeper user {account.email}, which is not their address, has got the JumpCloud id of "
            f"{self._named(other)}, who has not left and has no other: it may have been given to them, so it is not "
            "locked, and nothing is changed about it. Give it the address of whose it is in Keeper's Admin Console"
            f"{', or lock it there' if user is None else ''}",
        )
        return True

    @cached_property
    def _as_their_own(self) -> dict[str, Account]:
        return births.linked_to(self.before)

    def _spare(self, subject: Subject, first: int, account: Account) -> None:
        """Drop what would be done to a protected person, but for undoing our own lock."""
        planned, self.operations[first:] = self.operations[first:], []
        withdrawn = account.jumpcloud_id in self.before.locked_out
        for op in planned:
            if op.kind is Kind.REACTIVATE_USER and account.locked_by_us:
                lock = tuple(change for change in op.changes if change.attribute == "active")
                self.operations.append(replace(op, changes=lock, add=(), remove=()))
            elif op.kind is Kind.CREATE_USER and op.rule is Rule.RETURNED and withdrawn:
                self.operations.append(op)  # our lock has withdrawn their invitation
            else:
                words = f"protected (policy.protect): {_SPARED[op.kind]}, although {op.reason}"
                self.notice(NoticeKind.PROTECTED, subject, words)

    def _out_of_scope(self, account: Account, user: User | None, subject: Subject) -> None:
        if account.gone or not account.active:
            return
        if self._may_be_anothers(account):
            kind, words = NoticeKind.UNCONFIRMED, "not locked before a whole cycle has read whose address it has"
            if self.focus is None:
                kind, words = NoticeKind.CONFLICT, "but somebody in scope has its address: not locked. If it is "
                words += f"theirs: reconciler adopt {typed(account.email)}; else lock it in Keeper's Admin Console"
            self.notice(kind, subject, f"{_FOUND}, {words}")
            return
        theirs = user is not None and addresses.same(user.email, account.email)
        if account.merely_found and self._without_address and not theirs:
            self.notice(NoticeKind.CONFLICT, subject, f"{_FOUND}, {self._may_be_theirs}")
            return
        if user is None:
            rule, reason = Rule.DELETED, "deleted in JumpCloud"
            if not account.jumpcloud_id:
                reason = "taken over by a person, and tied to nobody in JumpCloud"
                if alike_key(account.email) in self._addresses:
                    self.notice(
                        NoticeKind.CONFLICT,
                        subject,
                        f"{reason}, but somebody in scope has this address: not locked. If they are the same person: "
                        f"reconciler adopt {typed(account.email)}; else give one of the two another address",
                    )
                    return
                bearer = self._carried(account)
                if bearer is not None and bearer.belongs:
                    self.notice(
                        NoticeKind.CONFLICT,
                        subject,
                        f"{reason}, but it carries the JumpCloud id of {self._named(bearer)}, who has not left: not "
                        f"locked. If it is theirs, give it their address in Keeper's Admin Console; else lock it there",
                    )
                    return
                if self._without_address and not self._left_with(account.email):
                    self.notice(NoticeKind.CONFLICT, subject, f"{reason}, {self._may_be_theirs}")
                    return
        elif user.status is Status.SUSPENDED:
            rule, reason = Rule.SUSPENDED, "suspended in JumpCloud"
        else:
            rule, reason = Rule.LEFT, "no longer bound to the Keeper application"
            if self.policy.out_of_scope is OutOfScope.KEEP:
                self.notice(NoticeKind.KEPT, subject, "left the scope and is kept (policy.out_of_scope)")
                return
            until = self.grace_ends(account.left_at)
            # Who had left before we came was seen by a person in a reviewed plan; there is nothing to wait for.
            if self.in_grace(account.left_at) and not account.review_lock:
                self._tell_grace(account, user, subject, f"{until:%Y-%m-%d %H:%M} UTC")
                self.upcoming.append(Upcoming(until, _lock(subject, Cause.JUMPCLOUD, rule, reason)))
                return
        there = user.email if user is not None else account.asked.get(USER_NAME, "")
        if there and not addresses.same(there, account.email):
            reason += f" as {there}"
        cause = Cause.JUMPCLOUD
        if account.locked_by_us:
            cause = Cause.DRIFT
            reason = f"unlocked in Keeper by somebody else, but {reason}"
            if self.policy.drift is Drift.REPORT:
                self.notice(NoticeKind.DRIFT, subject, f"{reason}; not locked again (policy.drift)")
                return
        self.operations.append(_lock(subject, cause, rule, reason))

    def _may_be_anothers(self, account: Account) -> bool:
        """Whether an account that nothing but an address ties to its person has the address of somebody else who has
        not left, or may have it: a partial cycle has not read all of them."""
        others = self._others_at(account.email, account.jumpcloud_id)
        return account.merely_found and (self.focus is not None or bool(others))

    def _tell_grace(self, account: Account, user: User | None, subject: Subject, until: str) -> None:
        left = f"left the scope at {account.left_at or self.now:%Y-%m-%d %H:%M} UTC"
        if protection(self.policy, user, account):
            self.notice(NoticeKind.PROTECTED, subject, f"protected (policy.protect): not locked, although they {left}")
        elif subject.key not in self.pilots:
            words = f"{left}, and is outside the pilot (policy.only): not locked when grace ends either"
            self.notice(NoticeKind.OUTSIDE_PILOT, subject, words)
        elif self.policy.mode is Mode.OBSERVE:
            words = f"{left}; would be locked after {until} unless they come back, but nothing is sent (policy.mode)"
            self.notice(NoticeKind.IN_GRACE, subject, words)
        else:
            words = f"{left}; will be locked after {until} unless they come back (policy.grace)"
            self.notice(NoticeKind.IN_GRACE, subject, words)

    @cached_property
    def _addresses(self) -> dict[str, set[str]]:
        """By address, the ids of those who have not left; what JumpCloud knows nothing else of may be theirs."""
        found: dict[str, set[str]] = {}
        for user in self.directory.users.values():
            if user.belongs:
                found.setdefault(alike_key(user.email), set()).add(user.id)
        return found

    def _others_at(self, email: str, user_id: str) -> set[str]:
        """The ids of those who have not left and have this address, but for this one."""
        return self._addresses.get(alike_key(email), set()) - {user_id}

    @cached_property
    def _without_account(self) -> list[User]:
        """The people who have no Keeper user."""
        there = {user_id for user_id, k in self.match.account_of.items() if not self.match.accounts[k].gone}
        return [user for user in self.directory.users.values() if user.id not in there]

    @cached_property
    def _without_address(self) -> list[str]:
        """The names of people who belong and have no Keeper user, and no usable address that is known: any may be
        theirs."""
        return sorted(self._named(user) for user in self._without_account if user.belongs and not user.email)

    @property
    def _may_be_theirs(self) -> str:
        """Why an account that is tied to nobody by more than an address is not locked."""
        return (
            f"but it may be the Keeper user of {listed(self._without_address, 5)}, who may be in scope, and of whom no "
            "usable address is known: not locked before JumpCloud shows one"
        )

    def _left_with(self, email: str) -> bool:
        """Whether somebody who is bound, has left and has no Keeper user has this very address."""
        left = (user for user in self._without_account if user.bound and has_left(user) and user.email)
        return any(addresses.same(user.email, email) for user in left)

    def _claimed(self, account: Account, user: User) -> str:
        """Why an account is neither given its person's new address, nor that offered as an alias: whoever else has it
        could log in there. Empty where nobody else has."""
        others = self._others_at(user.email, user.id)
        if not (user.email and others) or addresses.same(account.email, user.email):
            return ""
        return (
            f"the new JumpCloud address {user.email} is also that of the JumpCloud user {min(others)}, or differs only "
            "by letters that count as the same somewhere; that log-in would open this vault, so Keeper's address is "
            "left as it is. Give each a different address in JumpCloud"
        )

    def _gone(self, account: Account, user: User, subject: Subject) -> None:
        asked = subject.key in self.unlock
        if user.id in self.match.conflicts:
            self.notice(NoticeKind.CONFLICT, subject, self.match.conflicts[user.id])
        elif user.id in self.match.shielded:
            self.notice(NoticeKind.PROTECTED, subject, _SHIELDED)
        elif not user.in_scope:
            self._tell_state(user, subject, "not created anew")
        elif not user.email:
            self.notice(NoticeKind.NO_ADDRESS, subject, "gone from Keeper, and no usable e-mail address in JumpCloud")
        elif account.others_lock and not (asked or self.policy.reactivate is Reactivate.ANY):
            self._tell_locked_before(account, user, subject)
        elif account.others_lock:
            reason = "locked by somebody else before they vanished from Keeper, and to be let in"
            self._create(user, Rule.UNLOCK_ASKED if asked else Rule.RETURNED, Cause.JUMPCLOUD, reason)
        elif account.locked_by_us or account.active:
            self._create(user, Rule.RETURNED, Cause.JUMPCLOUD, f"back in scope {self._path(user)}")
        elif self.policy.drift is Drift.REPORT:
            self.notice(NoticeKind.DRIFT, subject, "gone from this Keeper node; not created anew (policy.drift)")
        else:
            reason = f"gone from this Keeper node, but in scope {self._path(user)}"
            self._create(user, Rule.RESTORED, Cause.DRIFT, reason)

    def _locked(self, account: Account, user: User, subject: Subject) -> None:
        asked = subject.key in self.unlock
        if user.id in self.match.conflicts:
            self.notice(NoticeKind.CONFLICT, subject, self.match.conflicts[user.id])
        elif account.locked_by_us or asked or self.policy.reactivate is Reactivate.ANY:
            self._update(account, user, subject, access=True, asked=asked and not account.locked_by_us)
        else:
            self.notice(
                NoticeKind.LOCKED_IN_KEEPER,
                subject,
                "in scope, but locked in Keeper by somebody else (perhaps to transfer the vault): left alone. "
                f"{self._way_in(account, user, subject)}",
            )

    def _way_in(self, account: Account, user: User, subject: Subject) -> str:
        """The way to let somebody in whom somebody else has locked: no order is advised of which nothing would come."""
        why = "policy.protect" if protection(self.policy, user, account) else ""
        why = why or ("policy.mode" if self.policy.mode is Mode.OBSERVE else "")
        why = why or ("policy.only" if subject.key not in self.pilots else "")
        if why:
            return f"Nothing is sent for them ({why}), so only Keeper's Admin Console lets them in"
        return f"To let them in: reconciler resync {self._typed(subject)} --unlock"

    def _tell_locked_before(self, account: Account, user: User, subject: Subject) -> None:
        self.notice(
            NoticeKind.LOCKED_IN_KEEPER,
            subject,
            f"in scope, but {account.email} was locked in Keeper by somebody else (perhaps to transfer the vault), "
            "then vanished from this node: not created, since Keeper may link that account and unlock it. "
            f"{self._way_in(account, user, subject)}",
        )

    def _typed(self, subject: Subject) -> str:
        return typed_for(self.directory.users.get(subject.jumpcloud_id), subject.name)

    def unlock_asked(self) -> None:
        """Tell why nobody is unlocked where a person asked for it."""
        let_in = {op.subject.key for op in self.operations if op.kind in _LETS_IN}
        for key in sorted(self.unlock - let_in):
            user = self.directory.users.get(key)
            account = self.match.accounts.get(self.match.account_of.get(key, key))
            address = user.email if user is not None else account.email if account is not None else ""
            subject = Subject("user", address or key, user.id if user else "", account.keeper_id if account else "")
            self.notice(NoticeKind.NOT_UNLOCKED, subject, self._why_not_unlocked(user, account, address))

    def _why_not_unlocked(self, user: User | None, account: Account | None, address: str) -> str:
        if account is not None and account.active and not account.gone:
            return "their Keeper user is not locked"
        for other in self.match.accounts.values():
            owner = self.directory.users.get(other.jumpcloud_id)
            locked = other.managed and other.was_locked and addresses.same(other.email, address)
            if locked and owner is not None and owner is not user:
                return (
                    f"the locked Keeper user {other.email} is not theirs, but that of the JumpCloud user "
                    f"{owner.email or owner.id}. To unlock that one: "
                    f"reconciler resync {typed_for(owner, other.email)} --unlock"
                )
        if user is None or not user.in_scope:
            return (
                "they are not known to be in scope: in JumpCloud, bind them to the application and activate them first"
            )
        return "another notice about this person tells why"

    def _update(self, account: Account, user: User, subject: Subject, *, access: bool, asked: bool = False) -> None:
        conflict = user.id in self.match.conflicts
        claimed = self._claimed(account, user)
        if conflict:
            self.notice(NoticeKind.CONFLICT, subject, self.match.conflicts[user.id])
        elif claimed:
            self.notice(NoticeKind.CONFLICT, subject, claimed)
        # Without their address it is not known whether they have another Keeper user, to whom the id belongs.
        held = conflict or bool(claimed) or not user.email
        # Of the pilot when we locked them, but not now: our lock is undone, and nothing else is done.
        unlock_only = access and not account.active and subject.key in self.outside_by_now
        # A link is undone by itself, whatever this waits for; nor is it drift.
        own = births.own(account, self._others_births.get(account.keeper_id, {}))
        # With the id of this person it would be tied to them for good.
        wanted = {} if unlock_only or self._may_be_anothers(account) else wanted_attributes(user)
        found = list(self._changes(own, wanted, subject, held=held))
        changes = tuple(change for change, _ in found)
        causes = [cause for _, cause in found]
        drifted = [change.attribute for change, cause in found if cause is Cause.DRIFT]
        add: list[TeamRef] = []
        remove: list[TeamRef] = []
        unbound: list[TeamRef] = []
        if access and not unlock_only:
            for team, cause in self._added(account, user, subject) if not conflict else ():
                add.append(team)
                causes.append(cause)
                drifted += [f"team {team.name}"] if cause is Cause.DRIFT else []
            for team, cause in self._removed(account, user, subject):
                remove.append(team)
                group_id = self.match.teams[team.keeper_id].jumpcloud_id
                unbound += [team] if group_id not in self.directory.groups else []
                causes.append(cause)
                drifted += [f"team {team.name}"] if cause is Cause.DRIFT else []
        drift = bool(causes) and all(cause is Cause.DRIFT for cause in causes)
        kind, rule = Kind.UPDATE_USER, Rule.RESTORED if drift else Rule.CHANGED
        reason = "changed in Keeper behind our back" if drift else "changed in JumpCloud"
        if access and not account.active:
            kind, rule, drift = Kind.REACTIVATE_USER, Rule.RETURNED, False
            reason = f"back in scope {self._path(user)}"
            if not account.locked_by_us:
                reason = f"in scope {self._path(user)}, and locked in Keeper by somebody else (policy.reactivate)"
            if asked:
                rule, reason = Rule.UNLOCK_ASKED, "a person asked for the account to be unlocked"
            changes = (Change("active", "false", "true"), *changes)
        elif account.keeper_id in self.match.adopted:
            rule, drift, reason = Rule.ADOPTED, False, f"already in Keeper, in scope {self._path(user)}: adopted"
        if unbound:
            alone = rule is Rule.CHANGED and len(causes) == len(unbound)
            reason = _unbound(unbound) if alone else f"{reason}; {_unbound(unbound)}"
        if drifted and not drift and kind is Kind.UPDATE_USER:
            self.notice(
                NoticeKind.DRIFT,
                subject,
                f"also changed in Keeper behind our back, and put right by the same request: {listed(drifted, 10)}",
            )
        if changes or add or remove:
            cause = Cause.DRIFT if drift else Cause.JUMPCLOUD
            self.operations.append(
                Operation(kind, subject, cause, rule, reason, changes, _ordered(add), _ordered(remove))
            )

    def _added(self, account: Account, user: User, subject: Subject) -> Iterator[tuple[TeamRef, Cause]]:
        for group_id in user.groups:
            team = self.addable.get(group_id)
            if team is None or user.teams_unknown:
                continue
            membership = account.memberships.get(team.keeper_id)
            if membership is None or membership.doubtful or not (membership.ours or membership.shown):
                lost = account.memberships.get(self.deleted.get(group_id, ""))
                yield team, Cause.DRIFT if lost is not None and lost.seen else Cause.JUMPCLOUD
            elif membership.missed:
                if self.policy.drift is Drift.REPORT:
                    self.notice(NoticeKind.DRIFT, subject, f"was taken out of the team {team.name} in Keeper")
                else:
                    yield team, Cause.DRIFT

    def _removed(self, account: Account, user: User, subject: Subject) -> Iterator[tuple[TeamRef, Cause]]:
        # What a link gave is no gift by hand, and waits for nothing that this operation may wait for.
        for team_id in sorted(account.memberships.keys() - self._given_by_links(account)):
            membership, team = account.memberships[team_id], self.match.teams.get(team_id)
            if team is None or not team.managed or team.gone or team.missing or user.teams_unknown or self.stays(team):
                continue
            group = self.directory.groups.get(team.jumpcloud_id)
            if (group is not None and group.id in user.groups) or self.may_be_others(team):
                continue
            name = group.name if group else normal(team.asked.get(DISPLAY_NAME, team.name))
            if not self.policy.teams.manages(name):
                continue
            if group is None and self.policy.teams.out_of_scope is TeamOutOfScope.KEEP:
                continue
            # Of two teams of one group, the other one goes by its own id.
            own = self.match.team_of.get(team.jumpcloud_id, team_id) == team_id
            ref = TeamRef(name, team.jumpcloud_id if own else "", team_id)
            # Keeper showed it once and does not any more: somebody was faster.
            wanted_once = membership.ours and (membership.shown or not membership.seen)
            repaired = membership.shown and self.policy.drift is Drift.REPAIR and not membership.found
            if wanted_once or (repaired and not membership.ours):
                cause = Cause.JUMPCLOUD if wanted_once else Cause.DRIFT
                if group is None and self.in_grace(team.left_at):
                    until = self.team_stays_until(team)
                    removal = Operation(Kind.UPDATE_USER, subject, cause, Rule.CHANGED, _unbound([ref]), remove=(ref,))
                    self.upcoming.append(Upcoming(until, removal))
                else:
                    yield ref, cause
            elif membership.shown and not membership.ours:
                self.notice(
                    NoticeKind.GIVEN_BY_HAND,
                    subject,
                    f"is in the team {name} in Keeper, but not in the group in JumpCloud: given in Keeper, left alone",
                )


def _ordered(teams: Iterable[TeamRef]) -> tuple[TeamRef, ...]:
    return tuple(sorted(teams, key=lambda team: (team.name.casefold(), team.key)))


def _full_name(user: User) -> str:
    return f"{user.given_name} {user.family_name}".strip()


def _access(op: Operation) -> str:
    """Return the value that an operation gives to `active` on an existing account, "" where it leaves that alone. An
    undo may lock anew."""
    return next((change.after for change in op.changes if change.attribute == births.ACTIVE), "")


def _locks(op: Operation, account: Account) -> bool:
    return op.kind is Kind.DEACTIVATE_USER and op.subject.keeper_id == account.keeper_id


def _lock(subject: Subject, cause: Cause, rule: Rule, reason: str) -> Operation:
    return Operation(Kind.DEACTIVATE_USER, subject, cause, rule, reason, (Change("active", "true", "false"),))


def _how_left(user: User) -> str:
    return "is suspended in JumpCloud" if user.status is Status.SUSPENDED else "is not bound to the Keeper application"


def _unbound(teams: Iterable[TeamRef]) -> str:
    names = [team.name for team in teams]
    return f"{listed(names)} {agreeing(len(names), 'is')} no longer bound to the application"


def _state_words(user: User) -> str:
    if user.status is Status.STAGED:
        return "still staged in JumpCloud"
    if user.unsure and user.status is Status.ACTIVE:
        return "bound to the application in one of two readings of JumpCloud"
    return "in a JumpCloud state that we do not know"
