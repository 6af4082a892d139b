"""Faults that last longer than a cycle: odd and hidden records, refused subjects, lists that are down."""

import random
from collections.abc import Callable

from tests.campaign.rules import NODES
from tests.campaign.world import Spared, Trouble, World

DOWN = (403, 500, 503)


def _person(world: World, draw: random.Random) -> str:
    return draw.choice(sorted(world.truth.people)) if world.truth.people else ""


def _account(world: World, draw: random.Random) -> str:
    here = sorted(one.id for one in world.keeper.accounts().values() if one.node == NODES[0])
    return draw.choice(here) if here else ""


def _about(world: World, person: str, words: str, heal: Callable[[], object]) -> Trouble:
    name = world.truth.people[person].email or person
    return Trouble(f"{words} of {name}", heal, Spared(people=frozenset({person})))


def odd_record(world: World, draw: random.Random) -> Trouble | None:
    """A field of a user's record is not as documented."""
    person = _person(world, draw)
    if not person:
        return None
    field, value = draw.choice(
        (
            ("lastname", 5),
            ("email", 7),
            ("state", 3),
            ("suspended", "perhaps"),
            ("displayname", ["x"]),
            ("state", "ODD"),
            ("state", None),
        )
    )
    world.jumpcloud.oddities.spoil(person, **{field: value})
    if value is None:
        world.jumpcloud.oddities.spoil(person, suspended=None)
    return _about(world, person, f"{field} is {value!r} in the record", lambda: world.jumpcloud.oddities.heal(person))


def odd_paths(world: World, draw: random.Random) -> Trouble | None:
    """The paths of a user in the graph can't be read."""
    person = _person(world, draw)
    if not person:
        return None
    world.jumpcloud.oddities.spoil_node(person, paths=draw.choice((7, None, [{"path": 5}])))
    return _about(world, person, "no paths in the graph", lambda: world.jumpcloud.oddities.heal(person))


def hidden_record(world: World, draw: random.Random) -> Trouble | None:
    """A user's record is missing, though the graph binds the user; in half of the cases their own lists are too."""
    person = _person(world, draw)
    if not person:
        return None
    world.jumpcloud.hide_user(person)
    own_lists = f"/api/v2/users/{person}/.*"
    if draw.random() < 0.5:
        world.jumpcloud.oddities.take_down(own_lists, 404)

    def show() -> None:
        world.jumpcloud.oddities.put_up(own_lists)
        if person in world.jumpcloud.organization().users:
            world.jumpcloud.show_user(person)

    return _about(world, person, "no record", show)


def forbidden_record(world: World, draw: random.Random) -> Trouble | None:
    """A firewall, say, refuses the record of one user."""
    person = _person(world, draw)
    if not person:
        return None
    route = f"/api/systemusers/{person}"
    world.jumpcloud.oddities.take_down(route, draw.choice(DOWN))
    return _about(world, person, "nothing but refusals", lambda: world.jumpcloud.oddities.put_up(route))


def nameless_group(world: World, draw: random.Random) -> Trouble | None:
    """A group has no usable name."""
    groups = sorted(world.jumpcloud.organization().groups)
    if not groups:
        return None
    group = draw.choice(groups)
    name = world.jumpcloud.organization().groups[group].name
    world.jumpcloud.oddities.spoil(group, name=draw.choice(("", 5, None)))
    spared = Spared(groups=frozenset({group}))
    return Trouble(f"no usable name of group {name}", lambda: world.jumpcloud.oddities.heal(group), spared)


def odd_account(world: World, draw: random.Random) -> Trouble | None:
    """Keeper shows a user without `active`, or with a field that can't be read."""
    account = _account(world, draw)
    if not account:
        return None
    fields, missing = draw.choice(
        (({}, ("active",)), ({"active": "perhaps"}, ()), ({"groups": 5}, ()), ({"name": 3}, ()))
    )
    world.keeper.show_oddly(account, fields, missing)
    words = f"{fields or missing} is shown by Keeper of {world.keeper.accounts()[account].email}"
    return Trouble(words, lambda: world.keeper.show_oddly(account), _of_account(world, account))


def refused_account(world: World, draw: random.Random) -> Trouble | None:
    """A firewall, say, refuses whatever is asked about one user of Keeper."""
    account = _account(world, draw)
    if not account:
        return None
    world.keeper.refuse(account, draw.choice(DOWN))
    words = f"nothing but refusals by Keeper of {world.keeper.accounts()[account].email}"
    return Trouble(words, lambda: world.keeper.refuse(account, None), _of_account(world, account))


def _of_account(world: World, account: str) -> Spared:
    found, observer = world.keeper.accounts()[account], world.observer
    # An old copy of the state file knows it as its former owner's, and a first plan may have found it for somebody.
    known = {observer.ledger.former_owner.get(account, ""), observer.ledger.found_for.get(account, "")} - {""}
    return Spared(people=frozenset({account, *observer.who(found), *observer.named_for(found), *known}))


_TEAMS = Spared(teams=True)
_LISTS: dict[str, Spared] = {
    "/api/systemusers": Spared(nobodys=True),  # only the whole list proves that nobody has an address
    "/api/search/systemusers": Spared(),
    "/api/v2/usergroups": _TEAMS,
    "/api/v2/applications/[^/]+/usergroups": _TEAMS,
    "/api/v2/applications/[^/]+/users": Spared(all_but_suspended=True),
    "/api/v2/users/[^/]+/memberof": _TEAMS,
    "/api/v2/users/[^/]+/applications": Spared(returned=True, merely_left=True, teams=True),
}
"""Lists of JumpCloud, and whom it may keep waiting that they can't be had."""


def list_down(world: World, draw: random.Random) -> Trouble:
    """One of JumpCloud's lists can't be had."""
    route = draw.choice(sorted(_LISTS))
    status = draw.choice(DOWN)
    world.jumpcloud.oddities.take_down(route, status)
    return Trouble(f"{status} by {route}", lambda: world.jumpcloud.oddities.put_up(route), _LISTS[route])


def keeper_list_down(world: World, draw: random.Random) -> Trouble:
    """One of Keeper's lists can't be had."""
    which, status = draw.choice(("Users", "Groups")), draw.choice(DOWN)
    world.keeper.refuse(which, status)
    spared = Spared(newcomers=True, teams=which == "Groups")
    return Trouble(f"{status} by Keeper's list of {which}", lambda: world.keeper.refuse(which, None), spared)


KINDS: dict[Callable[[World, random.Random], Trouble | None], int] = {
    odd_record: 3, odd_paths: 1, hidden_record: 1, forbidden_record: 2, nameless_group: 2, odd_account: 2,
    refused_account: 2, list_down: 4, keeper_list_down: 2,
}  # fmt: skip


def trouble(world: World, draw: random.Random) -> Trouble | None:
    """Something breaks, for good until it is healed."""
    return draw.choices(list(KINDS), list(KINDS.values()))[0](world, draw)


def breaks(world: World, draw: random.Random) -> str:
    if len(world.troubles) > 1:
        return ""
    found = trouble(world, draw)
    if found is None:
        return ""
    world.troubles.append(found)
    return f"broken: {found.words}"


def heals(world: World, _draw: random.Random) -> str:
    """Everything that was broken works again."""
    words = "; ".join(one.words for one in world.troubles)
    world.heal()
    return f"mended: {words}" if words else ""


STEPS = {breaks: 3, heals: 4}
