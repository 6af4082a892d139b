"""Who is whom: pairs JumpCloud's users and groups with Keeper's users and teams. Pure.

A match by id beats one by `externalId`, which beats one by address (users) or by name (teams). What cannot be paired
without giving one person another's vault is a conflict: it is reported and waits for a person.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from reconciler import addresses
from reconciler.addresses import alike_key
from reconciler.births import by_account, due, former_id, ids_on, linked_to, own_id, refused_words, unlocked
from reconciler.counting import count
from reconciler.keeper_quarantine import blocked_users
from reconciler.match_teams import match_teams, wanted_team_attributes
from reconciler.model import (
    DISPLAY_NAME,
    EXTERNAL_ID,
    HIDDEN,
    UNREAD,
    USER_NAME,
    USERS,
    Account,
    Directory,
    Membership,
    Snapshot,
    Standing,
    Status,
    Takeover,
    Team,
    User,
    normal,
    typed,
)
from reconciler.pairs import Match, given_to, tied_to_another
from reconciler.pilot import misnamed, remembered
from reconciler.policy import Policy
from reconciler.snapshot import in_place_of, superseded

_HIDES_ADDRESS = frozenset({"email", HIDDEN, UNREAD})
"""The fields of a `Quarantined` for a user whose address is not known."""


def protection(policy: Policy, user: User | None, account: Account | None, former: Account | None = None) -> str:
    """The entry of `policy.protect` that covers this person, or "". It sticks to them while it is listed: also where
    another account is to be theirs in place of a `former` one."""
    keys = [alike_key(user.email)] if user and user.email else []
    for one in (account, former):
        keys += [alike_key(one.email), one.protected_as] if one else []
    return next((key for key in keys if key and key in policy.protect), "")


def wanted_attributes(user: User) -> dict[str, str]:
    """The SCIM attributes that a user should have; an empty value is one that JumpCloud says nothing about."""
    both = bool(user.given_name and user.family_name)
    return {
        USER_NAME: user.email,
        EXTERNAL_ID: user.id,
        DISPLAY_NAME: user.display_name or (f"{user.given_name} {user.family_name}" if both else ""),
        "name.givenName": user.given_name,
        "name.familyName": user.family_name,
    }


def same(attribute: str, left: str, right: str) -> bool:
    """Whether two values of an attribute are the same: addresses as `addresses` says, everything else in NFC."""
    if left == right:
        return True
    return addresses.same(left, right) if attribute == USER_NAME else normal(left) == normal(right)


def match(directory: Directory, snapshot: Snapshot, policy: Policy, now: datetime, *, whole: bool = True) -> Match:
    """Pair both sides. The accounts and teams in the result also carry what every completed read teaches: since when
    a person or a group is out of scope, who is protected or in the pilot, which memberships are JumpCloud's wish.
    `whole`: everybody was read, not just some people."""
    snapshot = _returned(directory, _one_each(snapshot, now), policy, now)
    result = Match(dict(snapshot.accounts), dict(snapshot.teams))
    _Users(result, directory, snapshot, policy, now, whole).pair()
    match_teams(result, directory, snapshot, policy)
    _remember(result, directory, snapshot, policy, now)
    return result


def has_left(user: User) -> bool:
    """Whether JumpCloud says that this user should not be able to use Keeper; of a staged user or a state that we
    don't know, it says nothing."""
    return user.status is Status.SUSPENDED or (not user.bound and user.status is Status.ACTIVE)


def _one_each(snapshot: Snapshot, now: datetime) -> Snapshot:
    """Keep as a memory the account of somebody that is gone where another one of theirs is there. A cycle that has not
    seen a creation beside it may have kept the row of the account which that replaced."""
    managed = [a for a in snapshot.accounts.values() if a.managed and a.jumpcloud_id]
    there = {a.jumpcloud_id: a.keeper_id for a in managed if not a.gone}
    accounts: dict[str, Account] = {}
    for former in (a for a in managed if a.gone and a.jumpcloud_id in there):
        keeper_id = there[former.jumpcloud_id]
        accounts[keeper_id] = in_place_of(accounts.get(keeper_id, snapshot.accounts[keeper_id]), former)
        accounts[former.keeper_id] = superseded(former, now)
    return replace(snapshot, accounts={**snapshot.accounts, **accounts}) if accounts else snapshot


def _returned(directory: Directory, snapshot: Snapshot, policy: Policy, now: datetime) -> Snapshot:
    """Manage accounts again that show once more and whose owners have left meanwhile: each was ours until its owner
    got another one, which is gone, and would stay open. A person agrees to the lock where it has somebody's address.
    So with the accounts of those who have left since a first plan that nobody has reviewed found them in scope: a
    person agrees to each of these locks."""
    accounts = [account for _, account in sorted(snapshot.accounts.items())]
    back = [a for a in accounts if (a.owned_once or a.found_for) and not (a.managed or a.gone or a.takeover)]
    known = {a.jumpcloud_id: a for a in accounts if a.standing is not Standing.UNMANAGED and back}
    belonging = {alike_key(user.email) for user in directory.users.values() if user.belongs and back}
    again: dict[str, Account] = {}
    for account in back:
        owner, claimed = account.owned_once or account.found_for, alike_key(account.email) in belonging
        user, other = directory.users.get(owner), known.get(owner)
        left = (user is None or has_left(user)) and not protection(policy, user, account, other)
        found = account.found_for == owner
        free = (other.managed and other.gone) if other is not None else found
        if not (left and free) or (claimed and not account.owned_once) or tied_to_another(account, owner):
            continue
        if other is not None:
            again[other.keeper_id] = superseded(other, now)
        known[owner] = again[account.keeper_id] = replace(
            account,
            standing=Standing.MANAGED,
            jumpcloud_id=owner,
            left_at=(other and other.left_at) or now,
            pilot=other.pilot if other is not None else account.pilot,
            review_lock=claimed or found,
        )
    return replace(snapshot, accounts={**snapshot.accounts, **again}) if again else snapshot


class _Users:
    """The steps that pair the users, and the state that they share."""

    def __init__(
        self, result: Match, directory: Directory, snapshot: Snapshot, policy: Policy, now: datetime, whole: bool
    ) -> None:
        self.result = result
        self.directory = directory
        self.snapshot = snapshot
        self.policy = policy
        self.now = now
        accounts = [account for _, account in sorted(snapshot.accounts.items())]
        self.known = {a.jumpcloud_id: a for a in accounts if a.jumpcloud_id and a.standing is not Standing.UNMANAGED}
        self.linked = linked_to(snapshot)
        self.live = [account for account in accounts if not account.gone]
        self.by_external: dict[str, list[Account]] = defaultdict(list)
        self.by_address: dict[str, list[Account]] = defaultdict(list)
        for account in self.live:
            if account.standing is Standing.UNMANAGED and (external := own_id(account, self.linked)):
                self.by_external[external].append(account)
        for account in accounts:
            if not account.gone or account.standing is Standing.DISOWNED:
                self.by_address[alike_key(account.email)].append(account)
        self.claims: dict[str, list[User]] = defaultdict(list)
        self.belonging: dict[str, set[str]] = defaultdict(set)
        for user in directory.users.values():
            if user.email and user.belongs:
                self.belonging[alike_key(user.email)].add(user.id)
                if user.in_scope or user.unsure:
                    self.claims[alike_key(user.email)].append(user)
        # Of whoever has no account, and no address that can be read, any may be the address.
        unread = {one.id for one in directory.quarantined if one.type == "user" and one.field in _HIDES_ADDRESS}
        there = {user_id for user_id, account in self.known.items() if not account.gone}
        unread = {one for one in unread - there if one in directory.users and directory.users[one].belongs}
        self.unread = f"JumpCloud's record of {min(unread)} can be read" if unread else ""
        # Until when it is not known that nobody who belongs has an address.
        self.until = self.unread or ("" if whole else "a whole cycle has read everybody")
        # By the id of whoever may have been given it.
        self.given: dict[str, Account] = {}
        for account in self.live:
            own, owner = self.linked.get(account.keeper_id, account), directory.users.get(account.jumpcloud_id)
            if account.managed and (other := given_to(own, owner, directory.users)) is not None:
                self.given[other.id] = account
        self.taken: dict[str, str] = {}  # by Keeper id: whose account it is now

    def pair(self) -> None:
        users = [self.directory.users[user_id] for user_id in sorted(self.directory.users)]
        rest = [user for user in users if not self._by_snapshot(user)]
        rest = [user for user in rest if not self._linked_against_the_bond(user)]
        blocked = blocked_users(self.directory, self.snapshot)
        self.result.conflicts.update((user.id, blocked[user.id]) for user in rest if user.id in blocked)
        rest = [user for user in rest if user.id in blocked or not self._by_external_id(user)]
        for user in rest:
            gone = self.known.get(user.id)
            if user.in_scope and user.email and user.id not in blocked:
                self._by_address(user)
            if user.id not in self.result.account_of and gone is not None and gone.managed:
                self.result.account_of[user.id] = gone.keeper_id
        self._adopt_again()
        self._check_new_addresses()
        if USERS not in self.directory.unread:
            self._take_over()

    def _by_snapshot(self, user: User) -> bool:
        account = self.known.get(user.id)
        if account is None or (account.managed and account.gone):
            return False
        if account.managed and (other := self._shown_by_both(user, account)) is not None:
            self._adopt(user, other)
            return True
        self.taken[account.keeper_id] = user.id
        pairs = self.result.account_of if account.managed else self.result.disowned
        pairs[user.id] = account.keeper_id
        return True

    def _shown_by_both(self, user: User, account: Account) -> Account | None:
        """The account that shows both the person's id and their address, where the one that we know shows neither: they
        got it after a copy of the state file was made that has been restored since."""
        shows_one = own_id(account, self.linked) == user.id or addresses.same(account.email, user.email)
        # A lock of somebody else stays, whatever they do with another account.
        if shows_one or not user.in_scope or account.locked_by_others:
            return None
        both = [a for a in self.by_external.get(user.id, ()) if addresses.same(a.email, user.email)]
        return both[0] if len(both) == 1 and not protection(self.policy, user, both[0], account) else None

    def _linked_against_the_bond(self, user: User) -> bool:
        """Whether an account carries the user's id only since Keeper linked their creation to it: that is undone
        first, and nothing is concluded from the id meanwhile."""
        birth = self.snapshot.refused_births.get(user.id)
        account = self.snapshot.accounts.get(birth.keeper_id) if birth else None
        if birth is None or birth.undo is None or account is None or due(birth.undo, account) is None:
            return False
        if user.in_scope:
            words = refused_words(birth.address, account.email, managed=account.managed, undone=False)
            self.result.conflicts[user.id] = words
        return True

    def _by_external_id(self, user: User) -> bool:
        """Adopt the account that carries the user's id, or report why not; False where the id decides nothing.

        An id on an account with another address proves little: Keeper links a creation to whatever account has the
        address as an alias, and the id stays on a leaver's account.
        """
        found = [a for a in self.by_external.get(user.id, ()) if a.keeper_id not in self.taken]
        own = [account for account in found if addresses.same(account.email, user.email)]
        if not user.in_scope:
            # Whoever left before we came is adopted in the reviewed first plan only: it leads to their lock.
            if self.snapshot.reviewed or not has_left(user):
                return False
            own = own or ([] if self.until else found)
            own = [account for account in own if not self.belonging.get(alike_key(account.email))]
        elif not own:
            if self._named(user):
                return False
            own = [account for account in found if self._meant_by_id(account)]
        if len(own) == 1:
            self._adopt(user, own[0])
            return True
        if not found or not user.in_scope:
            return False
        if len(found) > 1:
            words = (
                f"{count(len(found), 'Keeper user')} carry this person's JumpCloud id; nothing was linked, created or "
                "given. Delete the wrong one in Keeper's Admin Console, then run a resync"
            )
        else:
            adopt = f"reconciler adopt {typed(found[0].email)}"
            todo = f"If it is theirs: {adopt}; else delete that Keeper user in Keeper's Admin Console"
            others = self.belonging.get(alike_key(found[0].email), set()) - {user.id}
            if others:
                when = "" if any(self.directory.users[one].in_scope for one in others) else "once that one is active, "
                todo = f"If it is that of the other JumpCloud user, who has its address: {when}{adopt}"
            elif self.unread:
                todo = f"Who has its address shows once {self.unread}"
            words = (
                f"the Keeper user {found[0].email} carries this person's JumpCloud id, but the address in JumpCloud is "
                f"{user.email or 'not usable'}; that may be somebody else's vault, so nothing was linked, created or "
                f"given. {todo}"
            )
        self.result.conflicts[user.id] = words
        return True

    def _named(self, user: User) -> bool:
        """Whether a person named the account under the user's own address with `adopt`."""
        alike = self.by_address.get(alike_key(user.email), ())
        return any(a.takeover is Takeover.BY_ADDRESS and addresses.same(a.email, user.email) for a in alike)

    def _meant_by_id(self, account: Account) -> bool:
        """Whether a person named this account with `adopt`, and nobody else could be meant by its address."""
        alone = not (self.until or self.belonging.get(alike_key(account.email)))
        return account.takeover is Takeover.BY_ADDRESS and alone

    def _by_address(self, user: User) -> None:
        alike = self.by_address.get(alike_key(user.email), [])
        found = [account for account in alike if addresses.same(account.email, user.email)]
        found = [account for account in found if not account.gone] or found
        live = [account for account in alike if not account.gone]
        if words := self._claimed_twice(user):
            self.result.conflicts[user.id] = words
        elif len(found) > 1:
            self.result.conflicts[user.id] = (
                f"{count(len(found), 'Keeper user')} have the address {user.email}; nothing was linked or created"
            )
        elif found:
            self._adopt_by_address(user, found[0])
        elif live:
            self.result.conflicts[user.id] = (
                f"Keeper has a user {live[0].email} and none {user.email}, {addresses.DIFFERENCE}; they may be two "
                "people, so nothing was linked or created. Correct one of the two addresses"
            )
        elif (other := self.given.get(user.id)) is not None:
            self.result.conflicts[user.id] = (
                f"the Keeper user {other.email} of another JumpCloud user carries this person's JumpCloud id by now: "
                "it may have been given to them, so nothing was linked or created. Give it the address of whose it is "
                "in Keeper's Admin Console"
            )

    def _claimed_twice(self, user: User) -> str:
        others = [other for other in self.claims[alike_key(user.email)] if other.id != user.id]
        if not others:
            return ""
        if any(addresses.same(other.email, user.email) for other in others):
            claimed = f"more than one JumpCloud user in scope has the address {user.email}"
        else:
            claimed = (
                f"this address is {user.email}, and another JumpCloud user in scope has {others[0].email}, "
                f"{addresses.DIFFERENCE}"
            )
        return f"{claimed}; nobody was created or linked for it. Give each a different address in JumpCloud"

    def _adopt_by_address(self, user: User, account: Account) -> None:
        mine = account.jumpcloud_id in ("", user.id)
        if account.standing is Standing.DISOWNED and (mine or account.gone):
            self.result.disowned[user.id] = account.keeper_id
            return
        # Who gave the account up, or is to get it back, has it still: their log-in is that of the vault.
        holder = self.taken.get(account.keeper_id) or ("" if mine else account.jumpcloud_id)
        other = self.directory.users.get(holder)
        if other is not None and (other.belongs or other.unsure):
            self.result.conflicts[user.id] = (
                f"the address {user.email} belongs to the Keeper user of the JumpCloud user {other.email or holder}, "
                "who has not left; linking the two would open that vault to this log-in, so nothing was linked or "
                f"created. Give that Keeper user another address in Keeper, and keep {user.email} no alias of it; or "
                "give this person another address in JumpCloud"
            )
            return
        if account.takeover is not Takeover.BY_ADDRESS and (holder or tied_to_another(account, user.id)):
            self.result.conflicts[user.id] = (
                f"the address {user.email} belongs to a Keeper user who is tied to another JumpCloud id (a recycled "
                "address, or somebody who came back under a new JumpCloud user); linking them would open that vault to "
                f"this log-in, so nothing was linked or created. If they are the same person: "
                f"reconciler adopt {typed(user.email)}"
            )
            return
        self._adopt(user, account)
        if user.id in self.result.account_of:
            self.result.account_of.pop(holder, None)

    def _adopt(self, user: User, account: Account) -> None:
        self.taken[account.keeper_id] = user.id
        former = self.known.get(user.id)
        if entry := protection(self.policy, user, account, former):
            self.result.shielded.add(user.id)
            self.result.accounts[account.keeper_id] = replace(account, protected_as=entry)
            return
        # A leaver who was locked before the state file knew the account: we may have forgotten our own lock, and on
        # return it has to end. A lock that came later is somebody else's.
        forgotten = account.keeper_id in self.snapshot.fresh and not account.active and has_left(user)
        # A person who named it ties the two, as the address does that both sides have (see `_tied_by_address`); an id
        # alone does not.
        named = account.takeover is Takeover.BY_ADDRESS
        # What the pilot said of this person goes with them; what it said of somebody else says nothing.
        theirs = user.id in (account.jumpcloud_id, account.owned_once, account.found_for)
        self.result.accounts[account.keeper_id] = replace(
            account,
            standing=Standing.MANAGED,
            jumpcloud_id=user.id,
            former_external_id=former_id(self.linked.get(account.keeper_id, account), user.id),
            asked={},
            settled={USER_NAME: account.email} if named else {},
            takeover=Takeover.NONE,
            locked_by_us=account.locked_by_us or forgotten,
            left_at=self.now if has_left(user) else None,
            pilot=(account.pilot if theirs else frozenset()) | (former.pilot if former else frozenset()),
            review_lock=has_left(user),
            found_for="",
        )
        if former is not None:
            self.result.accounts[former.keeper_id] = superseded(former, self.now)
        self.result.account_of[user.id] = account.keeper_id
        self.result.adopted.append(account.keeper_id)

    def _adopt_again(self) -> None:
        """Give people whose address changed since `disown` their account back once it is adopted."""
        for account in self.live:
            user = self.directory.users.get(account.jumpcloud_id)
            if account.managed or account.takeover is Takeover.NONE or account.keeper_id in self.taken:
                continue
            if user is None or not user.in_scope:
                continue
            if user.id not in self.result.account_of and user.id not in self.result.conflicts:
                self._adopt(user, account)

    def _check_new_addresses(self) -> None:
        """Stop what would be given to somebody whose new address is another Keeper user's, or whose account has the
        address of another JumpCloud user."""
        for user_id, keeper_id in self.result.account_of.items():
            user, account = self.directory.users[user_id], self.result.accounts[keeper_id]
            if not user.in_scope or user_id in self.result.conflicts or addresses.same(account.email, user.email):
                continue
            others = self.belonging.get(alike_key(account.email), set()) - {user_id}
            tied = account.gone or USER_NAME in {**account.asked, **account.settled}
            # Our own lock a whole cycle undoes; that of somebody else only whoever asks for one person.
            unknown = self.until if account.locked_by_us and not account.active else self.unread
            if (others or unknown) and not tied:
                # Whoever had left was adopted by the id alone, which Keeper may have linked to the account, or by the
                # address alone, which they had as a first plan found it.
                by_id = account.shown.get(EXTERNAL_ID) == user_id
                tie = "carries this person's JumpCloud id" if by_id else "was found for this person"
                if others:
                    whose = f"has the address of the JumpCloud user {min(others)}, whose vault that may be"
                    todo = ". Else take this person out of the application in JumpCloud, and then: "
                    todo += f"reconciler adopt {typed(account.email)}"
                else:
                    whose, todo = f"who has its address shows once {unknown}", ""
                self.result.conflicts[user_id] = (
                    f"the Keeper user {account.email} {tie}, but {whose}: it is not unlocked, and given nothing. If it "
                    f"is this person's, give it their address in Keeper's Admin Console{todo}"
                )
                continue
            if not user.email:
                continue
            alike = self.by_address.get(alike_key(user.email), ())
            if any(other.keeper_id != keeper_id and not other.gone for other in alike):
                new = f"the new JumpCloud address {user.email} belongs to another Keeper user, whose vault that log-in "
                new += "would open"
                if addresses.same(account.asked.get(USER_NAME, ""), user.email):
                    new = f"its address was changed in Keeper from {user.email} to {account.email}, and {user.email} "
                    new += "belongs to another Keeper user, whose vault that log-in opens"
                self.result.conflicts[user_id] = (
                    f"{new}; {account.email} gets nothing more until the addresses are sorted out in JumpCloud or "
                    "Keeper"
                )

    def _take_over(self) -> None:
        """Carry out `adopt` for accounts that no user was paired with: an account that nobody in JumpCloud belongs to
        counts as out of scope. Where its user is bound, but not active yet, the account is linked to that user."""
        asked = [
            a for a in self.live if a.takeover is not Takeover.NONE and not a.managed and a.keeper_id not in self.taken
        ]
        for account in sorted(asked, key=lambda a: own_id(a, self.linked) not in self.directory.users):
            former = "" if account.jumpcloud_id in self.result.account_of else account.jumpcloud_id
            ids = {*ids_on(account, self.linked), former}
            owners = {one for one in ids if one in self.directory.users and self.directory.users[one].belongs}
            owners |= self.belonging.get(alike_key(account.email), set())
            if len(owners) == 1:
                self._take_over_for(self.directory.users[min(owners)], account)
            # What belongs to several could be linked to none of them: that waits for a person.
            if owners:
                continue
            found_over = self._taken_over(account)
            user, lost = self.directory.users.get(found_over.jumpcloud_id), self.known.get(found_over.jumpcloud_id)
            if not protection(self.policy, user, account, lost):
                if lost is not None:
                    self.result.accounts[lost.keeper_id] = superseded(lost, self.now)
                self.result.accounts[account.keeper_id] = found_over
                self.result.adopted.append(account.keeper_id)
                if found_over.jumpcloud_id in self.directory.users:
                    self.result.account_of[found_over.jumpcloud_id] = account.keeper_id

    def _take_over_for(self, user: User, account: Account) -> None:
        # What belongs to somebody in scope was linked by now, or is a conflict that waits for a person.
        if user.in_scope or user.id in self.result.disowned:
            return
        current = self.result.accounts.get(self.result.account_of.get(user.id, ""))
        theirs = user.id in (own_id(account, self.linked), account.jumpcloud_id)
        tied = account.takeover is not Takeover.BY_ADDRESS and tied_to_another(account, user.id)
        if (theirs or addresses.same(account.email, user.email)) and not tied and (current is None or current.gone):
            self._adopt(user, account)

    def _taken_over(self, account: Account) -> Account:
        """A ghost that a person asked us to manage: out of scope, so it will be locked once that has been reviewed.

        A lock that is there already was not set by us.
        """
        own = self.linked.get(account.keeper_id, account)
        known = {*self.known, *self.result.account_of}
        ids = (own.shown.get(EXTERNAL_ID, ""), account.jumpcloud_id)
        owners = (one for one in ids if one in self.directory.users and one not in known)
        owner = next(owners, "") or self._left_under(account)
        lost = self.known.get(owner)
        return replace(
            account,
            standing=Standing.MANAGED,
            jumpcloud_id=owner,
            former_external_id=former_id(own, owner),
            takeover=Takeover.NONE,
            left_at=account.left_at or (lost.left_at if lost else None) or self.now,
            pilot=lost.pilot if lost else account.pilot,
            review_lock=True,
            found_for="",
        )

    def _left_under(self, account: Account) -> str:
        """The id of the one leaver who has the account's address, or had it in Keeper, and no account in this node; ""
        where there is none. Somebody may have deleted their account and invited them again by hand."""
        users, live = self.directory.users, self.result.accounts
        left = {user.id: user.email for user in users.values() if has_left(user)}
        lost = {a.jumpcloud_id: a for a in self.known.values() if a.managed and a.gone and a.left_at is not None}
        found = {one for one, email in left.items() if email and addresses.same(email, account.email)}
        found |= {
            one
            for one, former in lost.items()
            if (one in left or one not in users) and addresses.same(former.email, account.email)
        }
        others = {one for one, keeper_id in self.result.account_of.items() if not live[keeper_id].gone}
        free = found - others - self.result.disowned.keys() - (self.known.keys() - lost.keys())
        owner = min(free) if len(free) == 1 else ""
        return "" if tied_to_another(account, owner) else owner


def _remember(result: Match, directory: Directory, snapshot: Snapshot, policy: Policy, now: datetime) -> None:
    user_of = {keeper_id: user_id for user_id, keeper_id in result.account_of.items()}
    pilot_misnamed = misnamed(policy, directory, result)
    linked = by_account(snapshot.refused_births)
    for keeper_id, account in result.accounts.items():
        user = directory.users.get(user_of.get(keeper_id, account.jumpcloud_id))
        protected_as = protection(policy, user, account)
        # Whom a person meant with `adopt` can't be told without the list of users.
        takeover = account.takeover if USERS in directory.unread else Takeover.NONE
        if not account.managed:
            owner = account.jumpcloud_id
            lapsed = account.standing is Standing.UNMANAGED and takeover is Takeover.NONE and bool(owner)
            # What was given up and could not be taken back stays given up: else its person would get another one.
            given_up = lapsed and not account.gone and owner not in result.account_of
            learnt = replace(
                account,
                standing=Standing.DISOWNED if given_up else account.standing,
                protected_as=protected_as,
                takeover=takeover,
                jumpcloud_id="" if lapsed and not given_up else owner,
            )
            if learnt != account:
                result.accounts[keeper_id] = learnt
            continue
        belongs = user is not None and user.belongs
        in_scope = user is not None and user.in_scope
        # Of somebody whose state or binding is not known, nothing says that they have left, or come back.
        undecided = user is not None and not has_left(user) and (user.unsure or (belongs and not in_scope))
        # Until the link that has opened an account is undone, the lock that was on it is known as ours.
        is_open = in_scope and account.active and not unlocked(linked.get(keeper_id, {}), account)
        left_at = account.left_at if undecided else None if in_scope else account.left_at or now
        # Who left while the account was elsewhere, and is back, is created anew like anybody whom we had locked.
        is_back = account.active or (account.left_at is not None and not account.was_locked)
        learnt = replace(
            account,
            active=is_back and left_at is None if account.gone else account.active,
            left_at=left_at,
            protected_as=protected_as,
            takeover=takeover,
            pilot=remembered(policy, directory, user, account, misnamed=pilot_misnamed),
            locked_by_us=account.locked_by_us and not is_open,
            review_lock=account.review_lock and not in_scope,
        )
        if user is not None and not account.gone:
            # Of whoever is locked too: they may leave a group before they come back.
            learnt = replace(learnt, memberships=_wanted_are_ours(learnt.memberships, user, result.team_of))
            # They may also have another address when they come back.
            learnt = _tied_by_address(learnt, user)
        if in_scope and account.active and not account.gone:
            assert user is not None
            asked, settled = _agreed(learnt, wanted_attributes(user))
            learnt = replace(learnt, asked=asked, settled=settled)
        if learnt != account:
            result.accounts[keeper_id] = learnt
    for team_id, team in result.teams.items():
        if team.jumpcloud_id in directory.unclear_groups:
            continue
        left_at = None if not team.managed or team.jumpcloud_id in directory.groups else team.left_at or now
        if left_at != team.left_at:
            result.teams[team_id] = replace(team, left_at=left_at)
    for group_id, team_id in result.team_of.items():
        team = result.teams[team_id]
        if not team.gone:
            asked, settled = _agreed(team, wanted_team_attributes(directory.groups[group_id]))
            result.teams[team_id] = replace(team, asked=asked, settled=settled)


def _tied_by_address(account: Account, user: User) -> Account:
    """Remember that the account and its person have the same address: that ties the two, whatever address either gets
    later. It says nothing of an account that was merely found by it."""
    known = USER_NAME in account.asked or USER_NAME in account.settled
    if known or account.merely_found or not user.email or not addresses.same(account.email, user.email):
        return account
    return replace(account, settled={**account.settled, USER_NAME: account.email})


def _wanted_are_ours(
    memberships: Mapping[str, Membership], user: User, team_of: Mapping[str, str]
) -> Mapping[str, Membership]:
    wanted = {team_of[group] for group in user.groups if group in team_of}
    found = {t: m for t, m in memberships.items() if t in wanted and m.shown and not m.ours}
    return {**memberships, **{t: replace(m, ours=True) for t, m in found.items()}} if found else memberships


def _agreed(row: Account | Team, wanted: Mapping[str, str]) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """What both sides already agree on counts as asked for, so that a later change in Keeper shows as drift."""
    fresh = {
        attribute: value
        for attribute, value in wanted.items()
        if value and same(attribute, value, row.shown.get(attribute, "")) and row.asked.get(attribute) != value
    }
    if not fresh:
        return row.asked, row.settled
    shown = {attribute: row.shown[attribute] for attribute in fresh}
    return {**row.asked, **fresh}, {**row.settled, **shown}
