"""What happens in JumpCloud: people join, leave, move and are renamed, groups come and go."""

import random

from reconciler.simulator.jumpcloud_query import names
from tests.campaign.world import World

NAMES = sorted(
    names(
        """ada alma bela bob cleo cora dan dirk elio eva fay finn gitte gus hana hugo ines ivo jan jodi kim kurt lars
        lea max mia nils nora oda olga paul piet quin rike rosa sara sven tim tom ula uwe vera vito willa wim xenia yan
        zoe"""
    )
)
GROUPS = ("Sales", "IT", "Finance", "Legal", "Design", "[EU] Sales", "Ärzte")
SPELLINGS = ("", "Ada", "É", "E\u0301", " Bo ", "O'Hara", "Łukasz")


def _people(world: World) -> list[str]:
    return sorted(world.truth.people, key=lambda one: (world.truth.people[one].email, one))


def _groups(world: World) -> list[str]:
    home = world.jumpcloud.organization()
    return sorted(home.groups, key=lambda one: (home.groups[one].name, one))


def _bound(world: World) -> list[str]:
    return sorted(world.truth.groups, key=lambda one: (world.truth.groups[one], one))


def _email(world: World, one: str) -> str:
    return world.truth.people[one].email or one


def _group_name(world: World, one: str) -> str:
    return world.jumpcloud.organization().groups[one].name


def _free_address(world: World, draw: random.Random) -> str:
    taken = {user.email for user in world.truth.ever.values()}
    free = [name for name in NAMES if f"{name}@example.com" not in taken]
    return f"{draw.choice(free) if free else f'x{draw.randrange(10**6)}'}@example.com"


def join(world: World, draw: random.Random) -> str:
    return joins(world, draw) if len(world.truth.people) < 30 else ""


def joins(world: World, draw: random.Random) -> str:
    """Somebody joins, however many there are."""
    address = _free_address(world, draw)
    if draw.random() < 0.1:
        address = address.title()
    return _add(world, draw, address)


def _add(world: World, draw: random.Random, address: str) -> str:
    name = address.partition("@")[0]
    staged = draw.random() < 0.05
    one = world.jumpcloud.add_user(
        address,
        firstname=draw.choice((name.title(), *SPELLINGS)),
        lastname=draw.choice(("Test", "Berg", *SPELLINGS)),
        displayname=draw.choice((None, None, name.title())),
        state="STAGED" if staged else "ACTIVATED",
    )
    groups = _groups(world)
    chosen = draw.sample(groups, min(len(groups), draw.choice((0, 1, 1, 2, 3))))
    for group in chosen:
        world.jumpcloud.add_member(group, one)
    if not chosen or draw.random() < 0.15:
        world.jumpcloud.bind_user(world.application, one)
    world.admin_changed()
    return f"{address} joins: {', '.join(_group_name(world, group) for group in chosen) or 'directly'}"


def joins_by_alias(world: World, draw: random.Random) -> str:
    """Somebody joins whose address is an alias of another account in Keeper."""
    accounts = sorted(world.keeper.accounts().values(), key=lambda one: (one.email, one.id))
    if not accounts or len(world.truth.people) >= 30:
        return ""
    one, address = draw.choice(accounts), _free_address(world, draw)
    try:
        world.keeper.change_email(one.id, address)
        world.keeper.change_email(one.id, one.email)
    except ValueError:
        return ""
    world.admin_changed(one.id)
    return f"{_add(world, draw, address)} (an alias of {one.email})"


def rehired(world: World, draw: random.Random) -> str:
    """Somebody who was deleted is made again, under another id."""
    addresses = {user.email for user in world.truth.people.values()}
    gone = sorted({user.email for user in world.truth.ever.values()} - addresses)
    return _add(world, draw, draw.choice(gone)) + " (again)" if gone else ""


def deleted(world: World, draw: random.Random) -> str:
    people = _people(world)
    if not people:
        return ""
    one = draw.choice(people)
    email = _email(world, one)
    world.jumpcloud.delete_user(one)
    world.admin_changed()
    return f"{email} is deleted in JumpCloud"


def suspended(world: World, draw: random.Random) -> str:
    active = [one for one in _people(world) if world.truth.active(one)]
    if not active:
        return ""
    one = draw.choice(active)
    if draw.random() < 0.2:
        world.jumpcloud.update_user(one, suspended=True)
    else:
        world.jumpcloud.suspend(one)
    world.admin_changed()
    return f"{_email(world, one)} is suspended"


def returned(world: World, draw: random.Random) -> str:
    away = [one for one in _people(world) if not world.truth.active(one)]
    if not away:
        return ""
    one = draw.choice(away)
    world.jumpcloud.activate(one)
    world.admin_changed()
    return f"{_email(world, one)} is active again"


def bulk(world: World, draw: random.Random) -> str:
    """Many leave at once, by mistake or not."""
    active = [one for one in _people(world) if world.truth.active(one)]
    chosen = draw.sample(active, min(len(active), draw.randint(3, 12)))
    for one in chosen:
        world.jumpcloud.suspend(one)
    world.admin_changed()
    return f"suspended at once: {', '.join(_email(world, one) for one in chosen)}" if chosen else ""


def bulk_returns(world: World, _draw: random.Random) -> str:
    away = [one for one in _people(world) if world.truth.people[one].suspended]
    for one in away:
        world.jumpcloud.activate(one)
    world.admin_changed()
    return f"active again: {', '.join(_email(world, one) for one in away)}" if away else ""


def moved(world: World, draw: random.Random) -> str:
    """Somebody changes groups, or between a direct binding and groups."""
    people, groups = _people(world), _groups(world)
    if not people:
        return ""
    one = draw.choice(people)
    chosen = set(draw.sample(groups, min(len(groups), draw.choice((0, 1, 1, 2)))))
    for group in groups:
        if group in chosen:
            world.jumpcloud.add_member(group, one)
        else:
            world.jumpcloud.remove_member(group, one)
    direct = draw.random() < 0.25
    (world.jumpcloud.bind_user if direct else world.jumpcloud.unbind_user)(world.application, one)
    world.admin_changed()
    names = [_group_name(world, group) for group in groups if group in chosen]
    return f"{_email(world, one)} moves to: {', '.join([*names, *(['directly'] if direct else [])]) or 'nothing'}"


def renamed(world: World, draw: random.Random) -> str:
    people = _people(world)
    if not people:
        return ""
    one = draw.choice(people)
    values = {field: draw.choice(SPELLINGS) for field in draw.sample(("firstname", "lastname", "displayname"), 2)}
    world.jumpcloud.update_user(one, **values)
    world.admin_changed()
    return f"{_email(world, one)} is renamed: {values}"


def readdressed(world: World, draw: random.Random) -> str:
    """A new address; sometimes the old one goes to somebody else, or there is none at all any more."""
    people = _people(world)
    if not people:
        return ""
    one = draw.choice(people)
    old = world.truth.people[one].email
    chance = draw.random()
    new = "" if chance < 0.1 else old.swapcase() if chance < 0.2 else _free_address(world, draw)
    world.jumpcloud.update_user(one, email=new)
    text = f"the address of {old or one} is now {new or 'empty'}"
    others = [other for other in people if other != one]
    if others and chance > 0.5:
        other = draw.choice(others)
        text += f", and {_email(world, other)} gets {old}"
        world.jumpcloud.update_user(other, email=old)
    world.admin_changed()
    return text


def group_made(world: World, draw: random.Random) -> str:
    if len(_groups(world)) >= 6:
        return ""
    name = draw.choice(GROUPS)
    group = world.jumpcloud.add_group(name)
    people = _people(world)
    for one in draw.sample(people, min(len(people), draw.randint(0, 6))):
        world.jumpcloud.add_member(group, one)
    world.jumpcloud.bind_group(world.application, group)
    world.admin_changed()
    return f"group {name} is made and bound, {len(world.jumpcloud.organization().truth.members[group])} members"


def group_bound(world: World, draw: random.Random) -> str:
    free = [one for one in _groups(world) if one not in world.truth.groups]
    if not free:
        return ""
    one = draw.choice(free)
    world.jumpcloud.bind_group(world.application, one)
    world.admin_changed()
    return f"group {_group_name(world, one)} is bound"


def group_unbound(world: World, draw: random.Random) -> str:
    bound = _bound(world)
    if not bound:
        return ""
    one = draw.choice(bound)
    world.jumpcloud.unbind_group(world.application, one)
    world.admin_changed()
    return f"group {_group_name(world, one)} is unbound"


def group_renamed(world: World, draw: random.Random) -> str:
    groups = _groups(world)
    if not groups:
        return ""
    one, name = draw.choice(groups), draw.choice((*GROUPS, "Sales 2", "IT 2"))
    old = _group_name(world, one)
    world.jumpcloud.rename_group(one, name)
    world.admin_changed()
    return f"group {old} is renamed {name}"


def group_deleted(world: World, draw: random.Random) -> str:
    """A group is deleted; often it is made again at once under the same name, with most of its members."""
    groups = _groups(world)
    if not groups:
        return ""
    one = draw.choice(groups)
    name = _group_name(world, one)
    members = sorted(world.jumpcloud.organization().truth.members[one])
    world.jumpcloud.delete_group(one)
    text = f"group {name} is deleted"
    if draw.random() < 0.6:
        again = world.jumpcloud.add_group(name)
        for member in members:
            if draw.random() < 0.8:
                world.jumpcloud.add_member(again, member)
        world.jumpcloud.bind_group(world.application, again)
        text += " and made again"
    world.admin_changed()
    return text


STEPS = {
    join: 10, rehired: 2, deleted: 3, suspended: 5, returned: 6, bulk: 1, bulk_returns: 1, moved: 6, renamed: 3,
    readdressed: 3, joins_by_alias: 2, group_made: 3, group_bound: 2, group_unbound: 2, group_renamed: 2,
    group_deleted: 2,
}  # fmt: skip
