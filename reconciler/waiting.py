"""What waits for approval in Keeper, since when, and how sure that is: notices, alerts, metrics read it here. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconciler.addresses import alike_key
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
    """A membership that was asked for. `certain`: Keeper's inventory shows it as queued, it is not only unseen over
    SCIM. `invited`: the person has not accepted the invitation, which comes before any approval."""

    email: str
    since: datetime | None
    certain: bool = False
    invited: bool = False


@dataclass(frozen=True, slots=True)
class Waiting:
    """A team of ours with something that waits: the team itself (`queued`), some of its members, or both."""

    team: Team
    queued: bool
    certain: bool
    members: tuple[WaitingMember, ...]

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
    """Everything that waits, by team; what Keeper turns into roles (`teams.role_prefix`) needs no approval."""
    teams = {
        team_id: team
        for team_id, team in sorted(snapshot.teams.items())
        if team.managed and not team.gone and not policy.is_role(team.name)
    }
    members: dict[str, list[WaitingMember]] = {team_id: [] for team_id in teams}
    for account in snapshot.accounts.values():
        for team_id, membership in account.memberships.items():
            # Whom JumpCloud does not want any more waits for nothing, and is not to be approved.
            stays = account.active and account.left_at is None
            if membership.ours and team_id in teams and not account.gone and stays:
                members[team_id] += _member(account, membership, team_id, snapshot.inventory)
    found = []
    for team_id, team in teams.items():
        entry = _entry(snapshot.inventory, team_id, team.queued_at)
        queued = entry.queued if entry else not team.seen and team.queued_at is not None
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
    if entry is not None and address in (entry.pending or ()):
        yield WaitingMember(account.email, membership.asked_at, certain=True, invited=invited)
    elif not membership.seen and not (entry is not None and address in (entry.members or ())):
        yield WaitingMember(account.email, membership.asked_at, invited=invited)


def words(found: Waiting) -> str:
    """What waits of a team, for its notice."""
    asked = found.team.queued_at
    certain = sum(m.certain and not m.invited for m in found.members)
    invited = sum(m.invited for m in found.members)
    unsure = len(found.members) - certain - invited
    parts = []
    if found.queued and found.certain:
        parts.append(f"queued since {asked:%Y-%m-%d %H:%M} UTC" if asked else "queued")
    elif found.queued:
        # To the day, and without the members, who wait with their team: what is the same for many is said once.
        unsure = 0
        parts.append(f"asked for on {f'{asked:%Y-%m-%d}' if asked else 'an unknown day'}, approval not visible")
    parts += [f"{_members(certain)} queued"] if certain else []
    parts += [f"{_members(unsure)} asked for, approval not visible"] if unsure else []
    parts += [f"{_members(invited)} invited and not there yet"] if invited else []
    return "; ".join(parts)


def _members(number: int) -> str:
    return f"{number} member{'' if number == 1 else 's'}"


def told_by_inventory(snapshot: Snapshot, jumpcloud_id: str, name: str, asked_at: datetime) -> Team | bool | None:
    """What the inventory says of a team whose queueing had no answer: the team, False where it is certain that there
    is none, None where it can't tell.

    Two nodes of one enterprise may have teams of one name, so only the nodes of teams that we know count. An inventory
    that shows none of them was taken with too few rights, or elsewhere: it proves nothing.
    """
    inventory = snapshot.inventory
    if inventory is None or inventory.read_at < asked_at + SETTLING or not inventory.teams:
        return None
    ours = {team_id for team_id, team in snapshot.teams.items() if team.managed and not team.gone}
    nodes = {inventory.teams[team_id].node for team_id in ours if team_id in inventory.teams}
    if ours and not nodes:
        return None
    namesakes = [
        team
        for team in inventory.teams.values()
        if team.name == normal(name) and team.id not in ours and (team.node in nodes or not nodes)
    ]
    if not namesakes:
        return False
    if len(namesakes) > 1 or not namesakes[0].queued:
        return None
    asked = {DISPLAY_NAME: normal(name), EXTERNAL_ID: jumpcloud_id}
    return Team(namesakes[0].id, Standing.MANAGED, jumpcloud_id, asked=asked, queued_at=asked_at)
