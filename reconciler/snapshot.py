"""How the snapshot moves: with a listing of Keeper, and with each operation that Keeper took. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from reconciler import addresses
from reconciler.births import undone
from reconciler.keeper_quarantine import lacks_row, odd_records
from reconciler.model import (
    DISPLAY_NAME,
    EXTERNAL_ID,
    USER_ATTRIBUTES,
    USER_NAME,
    Account,
    KeeperTeam,
    KeeperUser,
    Listing,
    Membership,
    Snapshot,
    Standing,
    Takeover,
    Team,
    normal,
)
from reconciler.plan import Kind, Operation, Rule
from reconciler.team_births import undone as team_undone

BEHIND = timedelta(minutes=2)
"""How far a read of Keeper may be behind."""


def observed(snapshot: Snapshot, listing: Listing, now: datetime) -> Snapshot:
    """The snapshot, rebuilt from what Keeper lists; what we asked for and decided is kept.

    Only an id that Keeper answers with 404 is gone: a creation under the address of somebody whom a list lacks would be
    linked to their account, and a group whose team it lacks would get a second one. A team of ours that was never shown
    stays as it is: it waits in the Pending Queue, which Keeper may not list. What nobody manages is remembered as it
    was last shown: a creation must not take an account for new that an earlier list had. A team of ours that was shown
    once is gone when two readings say so that are `BEHIND` apart, since one may be from before it was made: queued
    again, it would be another team, without what is shared with the first.
    """
    teams: dict[str, Team] = {}
    for team_id, team in snapshot.teams.items():
        if team_id in listing.teams:
            if team.bygone and lacks_row(listing.teams[team_id]):
                continue
            teams[team_id] = _seen_team(team, listing.teams[team_id])
        elif team.gone or team_id not in listing.absent or (team.managed and not team.seen):
            teams[team_id] = team
        else:
            missed_at = team.missed_at or now
            gone = not team.managed or now - missed_at >= BEHIND
            teams[team_id] = replace(team, gone=gone, missed_at=missed_at)
    for team_id, shown_team in listing.teams.items():
        if team_id not in teams and not lacks_row(shown_team):
            teams[team_id] = _seen_team(Team(team_id, Standing.UNMANAGED), shown_team)

    unsure = frozenset(team_id for team_id, shown_team in listing.teams.items() if shown_team.members is None)
    there = frozenset(team_id for team_id, team in teams.items() if not team.bygone)
    accounts: dict[str, Account] = {}
    for keeper_id, account in snapshot.accounts.items():
        # Who is back under a record that cannot be read counts for nothing, like anybody without a row. Whose account
        # it was is remembered all the same.
        if keeper_id in listing.users and not (account.bygone and lacks_row(listing.users[keeper_id])):
            shown = listing.users[keeper_id]
            if snapshot.unsettled_users and EXTERNAL_ID in shown.unreadable:
                # By its id nothing tells whether a creation without an answer was linked to it: its names and teams,
                # which a link would have changed, stay known as they were; a link leaves the address.
                hidden = tuple(name for name in USER_ATTRIBUTES if name != USER_NAME or name in shown.unreadable)
                shown = replace(shown, teams=None, unreadable=hidden)
            accounts[keeper_id] = _seen_user(account, shown, there, unsure)
        elif account.gone or keeper_id not in listing.absent:
            accounts[keeper_id] = account
        else:
            accounts[keeper_id] = _vanished(account, now)
    # A record that could not be read in full before was there all the same.
    known = {one.keeper_id for one in snapshot.odd}
    fresh: set[str] = set()
    for keeper_id, user in listing.users.items():
        if keeper_id not in accounts and user.active is not None and not lacks_row(user):
            accounts[keeper_id] = _seen_user(Account(keeper_id, Standing.UNMANAGED, user.active), user, there, unsure)
            fresh |= {keeper_id} - known - snapshot.accounts.keys()
    untold = frozenset(k for k, user in listing.users.items() if user.teams is None and "groups" not in user.unreadable)
    return replace(
        snapshot,
        accounts=accounts,
        teams=teams,
        read_at=now,
        fresh=snapshot.fresh | fresh,
        untold=untold,
        odd=odd_records(listing),
    )


def _vanished(account: Account, now: datetime) -> Account:
    """The account after Keeper answered 404 for its id."""
    lost = replace(account, gone=True, missed_at=now)
    if lost.bygone:
        return lost
    # A leaver who was active when last seen was not locked, or the lock was undone: a 404 is no evidence.
    ours = account.locked_by_us and not account.active
    others, kept = account.locked_by_others, _in_doubt(account.memberships)
    return replace(lost, active=False, locked_by_us=ours, memberships=kept, others_lock=others)


def _in_doubt(memberships: Mapping[str, Membership]) -> Mapping[str, Membership]:
    """Keep the memberships of an account that is not in this node, should it come back: those that are ours to
    take away, and those that were found. Whether any of them stands nobody can tell."""
    kept = ((team_id, one) for team_id, one in memberships.items() if one.ours or one.found)
    return {team_id: replace(one, seen=False, shown=False, asked_at=None) for team_id, one in kept}


def _shown(before: Mapping[str, str], shown: KeeperUser | KeeperTeam) -> Mapping[str, str]:
    """The attributes as shown; an unreadable one is as it was."""
    kept = {attribute: before[attribute] for attribute in shown.unreadable if attribute in before}
    return {**shown.attributes, **kept} if kept else shown.attributes


def _settled(row: Account | Team, shown: KeeperUser | KeeperTeam) -> Mapping[str, str]:
    """The form that Keeper gave to what was asked for: what it shows first, or the very value once it shows that."""
    fresh = {
        attribute: shown.attributes.get(attribute, "")
        for attribute, asked in row.asked.items()
        if attribute not in shown.unreadable
        and row.settled.get(attribute) != asked
        and (attribute not in row.settled or shown.attributes.get(attribute) == asked)
    }
    return {**row.settled, **fresh} if fresh else row.settled


def _settled_by(
    row: Account | Team, asked: Mapping[str, str], told: Mapping[str, str], op: Operation
) -> dict[str, str]:
    """The form that Keeper gave to what was asked for, after an operation.

    Where that was asked for before, an answer that only repeats it says nothing: what Keeper showed since then is its
    own form of it, should it show that again.
    """
    settled = {a: v for a, v in row.settled.items() if a not in asked} | {a: told[a] for a in asked if a in told}
    repeated = {change.attribute: change.before for change in op.changes if row.asked.get(change.attribute)}
    return settled | {
        a: before
        for a, before in repeated.items()
        if before and row.asked[a] == asked.get(a) and told.get(a) == asked[a] and _may_be_a_form(a, before, asked[a])
    }


def _may_be_a_form(attribute: str, shown: str, asked: str) -> bool:
    """Whether Keeper may show a value so which it took; whose an account is, is told by the very id and address."""
    return shown.casefold() == asked.casefold() if attribute == EXTERNAL_ID else attribute != USER_NAME


def _seen_team(team: Team, shown: KeeperTeam) -> Team:
    attributes = _shown(team.shown, shown)
    return replace(
        team,
        shown=attributes,
        # As of an account: `adopt --team` names a team by its name.
        takeover=team.takeover and normal(attributes.get(DISPLAY_NAME, "")) == normal(team.name),
        settled=_settled(team, shown),
        seen=True,
        gone=False,
        missed_at=None,
    )


def _seen_user(account: Account, user: KeeperUser, teams: Collection[str], unsure: Collection[str]) -> Account:
    """The account as Keeper shows it; what cannot be read is as it was. `unsure` are teams with unreadable members."""
    memberships = account.memberships
    if user.teams is not None:
        memberships = _seen_memberships(account, user.teams, teams, unsure)
    shown = _shown(account.shown, user)
    # With `adopt` a person names an account by its address, and a first plan finds it so: under another one it may be
    # somebody else's.
    moved = not addresses.same(shown.get(USER_NAME, ""), account.email)
    lapsed = account.takeover is Takeover.BY_ADDRESS and moved
    # One that was given up before stays so: else its person would get another one.
    given_up = lapsed and not account.managed and bool(account.jumpcloud_id)
    return replace(
        account,
        standing=Standing.DISOWNED if given_up else account.standing,
        active=not account.was_locked if user.active is None else user.active,
        shown=shown,
        takeover=Takeover.NONE if lapsed else account.takeover,
        found_for="" if moved and not account.managed else account.found_for,
        settled=_settled(account, user),
        memberships=memberships,
        locked_by_us=account.locked_by_us
        and not ((account.gone and account.others_lock) or _lock_is_over(account, user)),
        gone=False,
        missed_at=None,
        others_lock=False,
    )


def _lock_is_over(account: Account, user: KeeperUser) -> bool:
    """Whether a lock of ours has ended: we do not lock again somebody whom we do not manage, and a lock that follows an
    unlock was set by somebody else, as long as no operation of ours tells otherwise. Nor is a lock that was never read
    back, since the account was gone by then, ours to restore where the account shows as active."""
    if account.gone or not account.managed:
        return bool(user.active)
    return account.active and user.active is False


def _seen_memberships(
    account: Account, shown_teams: Collection[str], teams: Collection[str], unsure: Collection[str]
) -> Mapping[str, Membership]:
    memberships: dict[str, Membership] = {}
    for team_id, membership in account.memberships.items():
        shown = team_id in shown_teams
        if team_id in unsure and not shown:
            # Keeper may show a membership on the team's side only.
            memberships[team_id] = membership
        elif shown or (membership.ours and team_id in teams):
            memberships[team_id] = replace(membership, shown=shown, seen=membership.seen or shown)
    for team_id in shown_teams:
        if team_id not in memberships:
            memberships[team_id] = Membership(ours=False, seen=True, shown=True)
    return memberships


def after_user(
    account: Account | None, op: Operation, teams: Mapping[str, str], reply: KeeperUser | None, now: datetime
) -> Account:
    """The account after Keeper took the operation.

    `teams` leads from the keys of the operation's teams to their Keeper ids. `reply` is the user as Keeper showed it
    in its answer or when read back, None where it did not. Raises ValueError for a creation without a reply: its id
    is not known.
    """
    if op.kind is Kind.CREATE_USER:
        if reply is None:
            raise ValueError("a created user has no id without Keeper's reply")
        # What was asked for counts where the answer's `active` cannot be read: nobody new is created locked.
        active = reply.active is not False
        account = Account(reply.id, Standing.MANAGED, active, op.subject.jumpcloud_id, pilot=frozenset(op.pilot))
    if account is None:
        raise ValueError("only a creation starts without an account")
    if op.rule is Rule.UNDONE:
        return undone(account, op, reply)
    asked = {change.attribute: change.after for change in op.changes if change.attribute != "active"}
    told = {a: v for a, v in reply.attributes.items() if v} if reply else {}
    settled = _settled_by(account, asked, told, op)
    memberships = dict(with_places(account, reply).memberships)
    # A creation that Keeper linked to an account of somebody's making may have left that its teams, like its names.
    # Nobody new is created locked.
    linked = op.kind is Kind.CREATE_USER and (
        not account.active
        or any(_differ(told.get(a, ""), asked[a]) for a in asked if a not in (USER_NAME, EXTERNAL_ID))
    )
    for team in op.add:
        team_id = teams[team.key]
        seen = reply is not None and reply.teams is not None and team_id in reply.teams
        asked_at = None if linked and not seen else now
        memberships[team_id] = Membership(ours=True, seen=seen, shown=seen, asked_at=asked_at)
    for team in op.remove:
        memberships.pop(teams[team.key], None)
    account = replace(
        account,
        shown={**account.shown, **asked, **told},
        asked={**account.asked, **asked},
        settled=settled,
        memberships=memberships,
    )
    if op.kind is Kind.DEACTIVATE_USER:
        return replace(account, active=False, locked_by_us=True, review_lock=False)
    if op.kind is Kind.REACTIVATE_USER:
        return replace(account, active=True, locked_by_us=False)
    return account


def with_places(account: Account, reply: KeeperUser | None) -> Account:
    """Return the account with those of its memberships as shown that a reply about it shows: they wait no more, and
    are missed should they be gone from the next list."""
    there = (reply.teams if reply else None) or frozenset()
    found = {t: replace(m, seen=True, shown=True) for t, m in account.memberships.items() if t in there}
    return replace(account, memberships={**account.memberships, **found})


def locked_before(account: Account) -> Account:
    """Return the account of a leaver whom somebody else had locked before we did: no lock of ours is on it."""
    return replace(account, active=False, locked_by_us=False, review_lock=False)


def _differ(shown: str, asked: str) -> bool:
    """Whether Keeper shows another name than was asked for; blanks and case may be of its making."""
    words, wanted = (normal(name).casefold().split() for name in (shown, asked))
    return bool(words and wanted) and words != wanted


def gone(account: Account, now: datetime) -> Account:
    """Return the account after a lock that Keeper took, and after which it shows the account no more."""
    lost = replace(account, gone=True, missed_at=account.missed_at or now, memberships=_in_doubt(account.memberships))
    return replace(lost, active=False, locked_by_us=True, review_lock=False)


def superseded(account: Account, now: datetime) -> Account:
    """Return what is left of somebody's account once they have another: a memory, so that a creation that meets it is
    not taken for a birth. `asked` says whose it was, if it was managed."""
    return replace(
        account,
        standing=Standing.UNMANAGED,
        active=not account.was_locked,
        jumpcloud_id="",
        asked={EXTERNAL_ID: account.jumpcloud_id} if account.managed else {},
        settled={},
        memberships={} if account.gone else account.memberships,
        missed_at=(account.missed_at or now) if account.gone else None,
        locked_by_us=account.locked_by_us and not account.others_lock,
        left_at=None,
        pilot=frozenset(),
        takeover=Takeover.NONE,
        review_lock=False,
        others_lock=False,
        found_for="",
    )


def in_place_of(account: Account, former: Account) -> Account:
    """Return the account that was made for a person in place of their former one: who is protected stays so."""
    return replace(account, protected_as=account.protected_as or former.protected_as)


def found_for(account: Account, adopted: Account, teams: Collection[str]) -> Account:
    """Return the account as long as nobody manages it, with whose it is, as if it were `adopted`; its places in these
    teams too."""
    places = {t: m for t, m in adopted.memberships.items() if t in teams and t in account.memberships}
    memberships = {**account.memberships, **places}
    return replace(account, found_for=adopted.jumpcloud_id, pilot=adopted.pilot, memberships=memberships)


def given_up(account: Account) -> Account:
    """Return the account of somebody whom a person has given up: `disown`. It is remembered which id it was given."""
    asked = {k: v for k, v in account.asked.items() if k == EXTERNAL_ID}
    return replace(account, standing=Standing.DISOWNED, takeover=Takeover.NONE, asked=asked, found_for="")


def after_team(team: Team | None, op: Operation, reply: KeeperTeam | None, now: datetime) -> Team:
    """The team after Keeper took the operation; raises ValueError for a queued team without a reply."""
    if op.kind is Kind.QUEUE_TEAM:
        if reply is None:
            raise ValueError("a queued team has no id without Keeper's reply")
        team = Team(reply.id, Standing.MANAGED, op.subject.jumpcloud_id, queued_at=now)
    if team is None:
        raise ValueError("only a queued team starts without one")
    if op.rule is Rule.UNDONE:
        return team_undone(team, op, reply)
    asked = {change.attribute: change.after for change in op.changes}
    told = {a: v for a, v in reply.attributes.items() if v} if reply else {}
    return replace(
        team,
        shown={**team.shown, **asked, **told},
        asked={**team.asked, **asked},
        settled=_settled_by(team, asked, told, op),
    )
