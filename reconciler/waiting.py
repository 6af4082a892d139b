"""Teams and memberships that are not known to be approved in Keeper, since when, and how sure that is. Pure.

SCIM lists queued teams and pending memberships like approved ones, or does not list them at all. So what was requested
counts as waiting, listed or not, until Keeper's inventory shows that it is approved.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from reconciler.addresses import alike_key
from reconciler.counting import count
from reconciler.model import (
    DISPLAY_NAME,
    EXTERNAL_ID,
    Account,
    Inventory,
    InventoryTeam,
    Membership,
    Snapshot,
    Standing,
    Team,
    normal,
)
from reconciler.policy import TeamPolicy

SETTLING = timedelta(minutes=5)
"""A request without an answer may arrive late: an inventory tells of it only when it is so much younger."""


@dataclass(frozen=True, slots=True)
class WaitingMember:
    """A membership that was asked for and is not known to be approved.

    `jumpcloud_id` is the person's. `certain`: Keeper's inventory shows it as queued. `listed`: Keeper lists it over
    SCIM, so it may be approved. `invited`: the person has not accepted the invitation, which comes before any approval.
    """

    jumpcloud_id: str
    email: str
    since: datetime | None
    certain: bool = False
    invited: bool = False
    listed: bool = False


@dataclass(frozen=True, slots=True)
class Waiting:
    """A team of ours with something that is not known to be approved: the team itself (`queued`), members, or both.

    `certain`: the inventory tells of the team.
    """

    team: Team
    queued: bool
    certain: bool
    members: tuple[WaitingMember, ...]

    @property
    def listed(self) -> bool:
        """Whether Keeper lists all of it over SCIM: it may be approved, and nothing is known to wait."""
        return not (self.queued and (self.certain or not self.team.seen)) and all(m.listed for m in self.members)

    @property
    def since(self) -> datetime | None:
        """Since when the oldest of it waits for an approval; None where only invitations are to be accepted."""
        times = [m.since for m in self.members if m.since and not m.invited]
        times += [self.team.queued_at] if self.queued and self.team.queued_at else []
        return min(times, default=None)

    @property
    def approvable(self) -> bool:
        """Whether an approval would change something now."""
        return self.queued or any(not member.invited for member in self.members)


def waiting(snapshot: Snapshot, policy: TeamPolicy) -> list[Waiting]:
    """Return everything that was asked for and is not known to be approved, by team.

    Keeper turns groups under `teams.role_prefix` into roles, which need no approval. Who was a member before we asked
    is one already.
    """
    teams = {
        team_id: team
        for team_id, team in sorted(snapshot.teams.items())
        if team.managed and not team.gone and not policy.is_role(team.name)
    }
    members: dict[str, list[WaitingMember]] = {team_id: [] for team_id in teams}
    for account in snapshot.accounts.values():
        for team_id, membership in account.memberships.items():
            # Whom JumpCloud does not want any more, or a person gave up, waits for nothing and is not to be approved.
            stays = account.managed and account.active and account.left_at is None
            if membership.ours and team_id in teams and not account.gone and stays:
                members[team_id] += _member(account, membership, team_id, snapshot.inventory)
    found = []
    for team_id, team in teams.items():
        entry = _entry(snapshot.inventory, team_id, team.queued_at)
        queued = entry.queued if entry else team.queued_at is not None
        if queued or members[team_id]:
            people = tuple(sorted(members[team_id], key=lambda m: (m.email.casefold(), m.email)))
            found.append(Waiting(team, queued, entry is not None, people))
    return found


def _entry(inventory: Inventory | None, team_id: str, asked_at: datetime | None) -> InventoryTeam | None:
    """What the inventory says of a team, unless it is older than what was asked for."""
    if inventory is None or (asked_at is not None and inventory.read_at < asked_at):
        return None
    return inventory.teams.get(team_id)


def _member(
    account: Account, membership: Membership, team_id: str, inventory: Inventory | None
) -> Iterator[WaitingMember]:
    entry = _entry(inventory, team_id, membership.asked_at)
    address = alike_key(account.email)
    invited = inventory is not None and address in inventory.invited
    one = WaitingMember(account.jumpcloud_id, account.email, membership.asked_at, invited=invited)
    if entry is not None and address in (entry.pending or ()):
        yield replace(one, certain=True)
    elif entry is not None and address in (entry.members or ()):
        return
    elif not membership.seen:
        yield one
    elif membership.shown and membership.asked_at is not None and (entry is None or entry.pending is None):
        yield replace(one, listed=True)


def words(found: Waiting) -> str:
    """Describe what waits of a team, for its notice; "" where Keeper lists all of it."""
    asked = found.team.queued_at
    certain = sum(m.certain and not m.invited for m in found.members)
    invited = sum(m.invited for m in found.members)
    unsure = sum(not (m.certain or m.invited or m.listed) for m in found.members)
    parts = []
    if found.queued and found.certain:
        parts.append(f"queued since {asked:%Y-%m-%d %H:%M} UTC" if asked else "queued")
    elif found.queued and not found.team.seen:
        # To the day, and without the members, who wait with their team: what is the same for many is said once.
        unsure = 0
        parts.append(f"asked for on {f'{asked:%Y-%m-%d}' if asked else 'an unknown day'}, approval not visible")
    parts += [f"{_members(certain)} queued"] if certain else []
    parts += [f"{_members(unsure)} asked for, approval not visible"] if unsure else []
    parts += [f"{_members(invited)} invited and not there yet"] if invited else []
    return "; ".join(parts)


def _members(number: int) -> str:
    return count(number, "member")


def told_by_inventory(snapshot: Snapshot, jumpcloud_id: str, name: str, asked_at: datetime) -> Team | bool | None:
    """What the inventory says of a team whose queueing had no answer: the team, False where it is certain that there
    is none, None where it can't tell.

    Two nodes of one enterprise may have teams of one name, so only the nodes of teams that Keeper lists for us count,
    whoever manages those; where there are none, the only node there is. An inventory that shows none of them was taken
    with too few rights, or elsewhere: it proves nothing. Nor does one with a queued team that nothing else has shown:
    it may be ours, under a name that somebody changed or Keeper has cut.
    """
    inventory = snapshot.inventory
    if inventory is None or inventory.read_at < asked_at + SETTLING or not inventory.teams:
        return None
    there = {team_id for team_id, team in snapshot.teams.items() if not team.gone}
    nodes = {team.node for team in inventory.teams.values() if not there or team.id in there}
    if not nodes or (len(nodes) > 1 and not there):
        return None
    ours = {team_id for team_id in there if snapshot.teams[team_id].managed}
    others = [team for team in inventory.teams.values() if team.id not in ours and team.node in nodes]
    namesakes = [team for team in others if team.name == normal(name)]
    if not namesakes:
        return None if any(team.queued and team.id not in snapshot.teams for team in others) else False
    # One that a list shows without the group's id, or once showed, may be somebody else's.
    if len(namesakes) > 1 or not namesakes[0].queued or namesakes[0].id in snapshot.teams:
        return None
    asked = {DISPLAY_NAME: normal(name), EXTERNAL_ID: jumpcloud_id}
    return Team(namesakes[0].id, Standing.MANAGED, jumpcloud_id, asked=asked, queued_at=asked_at)
