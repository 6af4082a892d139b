"""What an administrator does in Keeper behind the reconciler's back."""

import random
from contextlib import suppress

from reconciler.simulator.keeper_records import Account
from tests.campaign.organisation import GROUPS, NAMES
from tests.campaign.rules import NODES
from tests.campaign.world import World


def _accounts(world: World) -> list[Account]:
    return [one for one in world.keeper.accounts().values() if one.node == NODES[0]]


def _any(world: World, draw: random.Random) -> Account | None:
    accounts = _accounts(world)
    return draw.choice(accounts) if accounts else None


def locks(world: World, draw: random.Random) -> str:
    one = _any(world, draw)
    if one is None:
        return ""
    world.keeper.lock(one.id)
    world.admin_changed(one.id)
    return f"{one.email} is locked in Keeper"


def unlocks(world: World, draw: random.Random) -> str:
    locked = [one for one in _accounts(world) if one.locked]
    if not locked:
        return ""
    one = draw.choice(locked)
    world.keeper.unlock(one.id)
    world.admin_changed(one.id)
    return f"{one.email} is unlocked in Keeper"


def deletes(world: World, draw: random.Random) -> str:
    one = _any(world, draw)
    if one is None:
        return ""
    world.keeper.delete_user(one.id)
    world.admin_changed(one.id)
    return f"{one.email} is deleted in Keeper"


def renames(world: World, draw: random.Random) -> str:
    one = _any(world, draw)
    if one is None:
        return ""
    world.keeper.rename_user(one.id, display_name=draw.choice(("Boss", "Ada B.", "")), given_name="Zed")
    world.admin_changed(one.id)
    return f"{one.email} is renamed in Keeper"


def readdresses(world: World, draw: random.Random) -> str:
    one = _any(world, draw)
    if one is None:
        return ""
    person = world.truth.people.get(world.observer.ledger.owner.get(one.id, ""))
    wanted = person.email if person and draw.random() < 0.8 else f"{draw.choice(NAMES)}@example.com"
    if not wanted:
        return ""
    try:
        world.keeper.change_email(one.id, wanted, keep_alias=draw.random() < 0.7)
    except ValueError:
        return ""
    world.admin_changed(one.id)
    return f"{one.email} gets the address {wanted} in Keeper"


def adds_user(world: World, draw: random.Random) -> str:
    """A stranger, or somebody whom JumpCloud knows; sometimes with the id that the former push had set."""
    people = sorted(world.truth.people)
    person = draw.choice(people) if people and draw.random() < 0.7 else ""
    address = world.truth.people[person].email if person else f"{draw.choice(NAMES)}.ext@example.com"
    tied = person if draw.random() < 0.4 else None
    if not address:
        return ""  # Keeper has nobody without one
    try:
        one = world.keeper.add_user(address, external_id=tied, locked=draw.random() < 0.2)
    except ValueError:
        return ""
    world.admin_changed(one)
    return f"{address} is added in Keeper{' with their JumpCloud id' if tied else ''}"


def adds_member(world: World, draw: random.Random) -> str:
    one, teams = _any(world, draw), sorted(world.keeper.teams())
    if one is None or not teams:
        return ""
    team = draw.choice(teams)
    world.keeper.add_member(one.id, team)
    world.admin_changed(one.id, team)
    return f"{one.email} is put into {world.keeper.teams()[team].name} in Keeper"


def removes_member(world: World, draw: random.Random) -> str:
    members = [one for one in _accounts(world) if one.teams or one.pending_teams]
    if not members:
        return ""
    one = draw.choice(members)
    team = draw.choice((*one.teams, *one.pending_teams))
    world.keeper.remove_member(one.id, team)
    world.admin_changed(one.id, team)
    return f"{one.email} is taken out of {world.keeper.teams()[team].name} in Keeper"


def adds_team(world: World, draw: random.Random) -> str:
    name = draw.choice(GROUPS)
    team = world.keeper.add_team(name)
    world.admin_changed(team)
    return f"a team {name} is made in Keeper"


def renames_team(world: World, draw: random.Random) -> str:
    teams = sorted(world.keeper.teams())
    if not teams:
        return ""
    team, name = draw.choice(teams), draw.choice(("Old team", *GROUPS))
    former = world.keeper.teams()[team].name
    world.keeper.rename_team(team, name)
    world.admin_changed(team)
    return f"the team {former} is renamed {name} in Keeper"


def deletes_team(world: World, draw: random.Random) -> str:
    # A team that is rejected in a queue that nobody can look into waits there for ever as far as anybody can tell.
    visible = world.keeper.dialect.shows_queued_teams
    teams = sorted(one.id for one in world.keeper.teams().values() if one.approved or visible)
    if not teams:
        return ""
    team = draw.choice(teams)
    former, group = world.keeper.teams()[team].name, world.keeper.teams()[team].external_id or ""
    members = [*world.keeper.members(team), *world.keeper.pending_members(team)]
    world.keeper.delete_team(team)
    world.admin_changed(team, group, *members)
    return f"the team {former} is deleted in Keeper"


def approves(world: World, draw: random.Random) -> str:
    world.keeper.approve_all(teams=draw.random() < 0.9, members=draw.random() < 0.9)
    world.admin_changed()
    return "Keeper's queue is approved"


def accepted(world: World, draw: random.Random) -> str:
    invited = [one for one in _accounts(world) if one.invited]
    for one in invited:
        if draw.random() < 0.8:
            world.keeper.accept_invitation(one.id)
    world.admin_changed()
    return "people accept their invitations" if invited else ""


def moves_away(world: World, draw: random.Random) -> str:
    one = _any(world, draw)
    if one is None:
        return ""
    world.keeper.move_user_to_other_node(one.id, NODES[1])
    world.admin_changed(one.id)
    return f"{one.email} is moved to another node"


def moves_back(world: World, draw: random.Random) -> str:
    away = [one for one in world.keeper.accounts().values() if one.node != NODES[0]]
    if not away:
        return ""
    one = draw.choice(away)
    world.keeper.move_user_to_other_node(one.id, NODES[0])
    world.admin_changed(one.id)
    world.observer.ledger.known[one.id] = world.observer.tick
    return f"{one.email} is moved back to the node"


def seats(world: World, draw: random.Random) -> str:
    number = draw.choice((None, len(world.keeper.accounts()), len(world.keeper.accounts()) + 1))
    world.keeper.set_seats(number)
    return f"Keeper has {'enough' if number is None else number} seats"


def token(world: World, draw: random.Random) -> str:
    """The token is revoked, or replaced without anybody telling the reconciler; the other half of it is `told`."""
    if draw.random() < 0.5:
        world.keeper.revoke_token(NODES[0])
        return "the SCIM token is revoked"
    world.secrets.add(world.keeper.new_token(NODES[0]))
    return "the SCIM token is replaced"


def told(world: World, _draw: random.Random) -> str:
    with suppress(ValueError):
        if world.keeper.token(NODES[0]) == world.tokens[NODES[0]]:
            return ""
    world.tokens[NODES[0]] = world.keeper.new_token(NODES[0])
    world.secrets.add(world.tokens[NODES[0]])
    world.restart()
    return "the reconciler gets a new SCIM token"


def behaves_anew(world: World, draw: random.Random) -> str:
    """Keeper does something else than it did when the canaries went."""
    name = draw.choice(("locks_delete", "add_replaces_groups"))
    if world.observer.first:
        return ""
    world.keeper.set_dialect(**{name: True})
    return f"a new release of Keeper: {name}"


def behaves(world: World, _draw: random.Random) -> str:
    """Keeper does again what it is known to do."""
    if not world.odd_release:
        return ""
    world.keeper.set_dialect(locks_delete=False, add_replaces_groups=False)
    return "a new release of Keeper: it behaves as before"


STEPS = {
    locks: 3, unlocks: 3, deletes: 2, renames: 2, readdresses: 1, adds_user: 2, adds_member: 2, removes_member: 2,
    adds_team: 1, renames_team: 1, deletes_team: 1, approves: 6, accepted: 8, moves_away: 2, moves_back: 2, seats: 1,
    token: 1, told: 3, behaves_anew: 1, behaves: 3,
}  # fmt: skip
