"""A few people by point reads of both services: what partial cycles decide from, and what `explain` shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from reconciler import addresses
from reconciler.addresses import alike_key
from reconciler.births import ids_on, linked_to, own_id, owners
from reconciler.jumpcloud import GroupScope, JumpCloud, JumpCloudError, Person, PersonAmbiguous, Unavailable
from reconciler.keeper import Keeper
from reconciler.model import USER_NAME, Account, KeeperUser, Listing, Snapshot, User, is_jumpcloud_id
from reconciler.snapshot import observed
from reconciler.tasks import together


@dataclass(frozen=True, slots=True)
class InKeeper:
    """The part of the snapshot that bears on one person, and the key under which the diff knows them; the key is empty
    where there is nobody. The teams stand as they were."""

    snapshot: Snapshot
    key: str

    @property
    def there(self) -> Snapshot:
        """The same part of the snapshot without accounts that are mere memories."""
        return replace(self.snapshot, accounts={k: a for k, a in self.snapshot.accounts.items() if not a.bygone})

    @property
    def has_account(self) -> bool:
        """Whether an account of theirs is there, as far as the snapshot knows."""
        accounts = self.snapshot.accounts.values()
        return any(self.key in (a.jumpcloud_id, a.keeper_id) and not a.gone for a in accounts)

    def is_estranged_from(self, user: User) -> bool:
        """Whether their account shows neither the id nor the address of this person in scope, so that another one may
        show both: the snapshot may be from an old copy of the state file."""
        linked = linked_to(self.snapshot)
        mine = [a for a in self.snapshot.accounts.values() if a.managed and a.jumpcloud_id == user.id and not a.gone]
        strange = (own_id(a, linked) != user.id and not addresses.same(a.email, user.email) for a in mine)
        return user.in_scope and any(strange)


async def in_jumpcloud(jumpcloud: JumpCloud, snapshot: Snapshot, address: str) -> Person | None:
    """The user with this address; else the one whose Keeper user has it, or had it before that was gone: under the
    address that they have now, another Keeper user may concern them.

    Where JumpCloud refuses to look for an address, the own record of whoever the snapshot knows under it is enough, if
    it has that address. Raises JumpCloudError.
    """
    refused: JumpCloudError | None = None
    try:
        if (person := await jumpcloud.person(email=address)) is not None:
            return person
    except (PersonAmbiguous, Unavailable):
        raise
    except JumpCloudError as error:
        refused = error
    held = in_snapshot(snapshot, address, None)
    several = sum(addresses.same(a.email, address) and not a.gone for a in held.snapshot.accounts.values()) > 1
    known = is_jumpcloud_id(held.key) and not several
    person = await jumpcloud.person(id=held.key) if known else None
    if refused is not None and (person is None or not addresses.same(person.user.email, address)):
        raise refused
    return person


def in_snapshot(snapshot: Snapshot, address: str, user: User | None) -> InKeeper:
    """The accounts that concern this person: their own, and those with their JumpCloud id or an address alike."""
    same = (a for a in snapshot.accounts.values() if addresses.same(a.email, address) and not a.bygone)
    held = sorted(same, key=lambda a: a.gone)
    key = user.id if user else next((a.jumpcloud_id or a.keeper_id for a in held), "")
    alike = {alike_key(address), alike_key(user.email) if user else ""} - {""}
    birth, linked = snapshot.refused_births.get(key), linked_to(snapshot)
    accounts = {
        keeper_id: account
        for keeper_id, account in snapshot.accounts.items()
        if key in (account.jumpcloud_id, keeper_id)
        or alike_key(account.email) in alike
        or (user is not None and user.id in ids_on(account, linked))
        or (birth is not None and birth.keeper_id == keeper_id)
    }
    return InKeeper(replace(snapshot, accounts=accounts if key else {}), key)


async def in_keeper(keeper: Keeper, snapshot: Snapshot, address: str, user: User | None, now: datetime) -> InKeeper:
    """The same, with each account read anew. Raises KeeperError."""
    known = in_snapshot(snapshot, address, user).snapshot
    live = [account for account in known.accounts.values() if not account.gone]
    users = await together(_keeper_user(keeper, account) for account in live)
    shown = {found.id: found for found in users if found is not None}
    absent = frozenset(account.keeper_id for account in live) - shown.keys()
    seen = observed(known, Listing(shown, {}, absent), now)
    read = {account.keeper_id for account in live}
    others = tuple(one for one in snapshot.odd if one.keeper_id not in read)
    return in_snapshot(replace(seen, odd=(*seen.odd, *others)), address, user)


async def _keeper_user(keeper: Keeper, account: Account) -> KeeperUser | None:
    """The user behind an account; one that shows no team at all may be a member that only the teams show."""
    user = await keeper.user(account.keeper_id)
    if user is None or user.teams or user.teams is None:
        return user
    were_shown = [team_id for team_id, membership in account.memberships.items() if membership.shown]
    teams = await together(keeper.team(team_id) for team_id in were_shown)
    # Unreadable members say nothing: the membership stays as it was shown.
    shown = (team for team in teams if team and (team.members is None or user.id in team.members))
    return replace(user, teams=frozenset(team.id for team in shown))


async def around(
    jumpcloud: JumpCloud, people: Sequence[Person], held: Snapshot, address: str
) -> tuple[Mapping[str, User], GroupScope]:
    """The users and groups of JumpCloud that bear on these people, who were looked for by this address, and on their
    accounts. Raises JumpCloudError."""
    through = frozenset[str]().union(*(person.user.groups for person in people))
    scope = await jumpcloud.group_scope(through, held.groups_with_teams)
    users = {person.user.id: person.user for person in people}
    # Whose account it is now, and whose address it has, decide whether it may become this person's.
    for owner in sorted(filter(is_jumpcloud_id, owners(held) - users.keys())):
        holder = await jumpcloud.person(id=owner)
        if holder is not None:
            users[owner] = holder.user
    claimed = {person.user.email for person in people} | {a.email for a in held.accounts.values() if _claimable(a)}
    for email in sorted(one for one in claimed if one and not addresses.same(one, address)):
        users |= {holder.user.id: holder.user for holder in await people_at(email, jumpcloud)}
    return users, scope


def _claimable(account: Account) -> bool:
    """Whether this account may be somebody's by its address, which nothing has shown to be its owner's."""
    return not account.gone and not (account.managed and USER_NAME in {**account.asked, **account.settled})


async def people_at(address: str, jumpcloud: JumpCloud, *, by_search: bool = False) -> list[Person]:
    """Everybody who has this address, as their own records show them: what finds them may be behind. Raises
    JumpCloudError."""
    try:
        person = await jumpcloud.person(email=address, by_search=by_search)
        ids = [] if person is None else [person.user.id]
    except PersonAmbiguous as several:
        ids = [*several.ids]
    found = await together(jumpcloud.person(id=one) for one in ids)
    return [person for person in found if person is not None]
