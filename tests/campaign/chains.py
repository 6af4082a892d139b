"""Chains of events that by chance hardly ever follow each other: each shows one defence."""

import random
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from reconciler.cycle import Order
from reconciler.rows import time_text
from reconciler.simulator.faults import rewrite_rows
from reconciler.simulator.keeper_records import Account
from reconciler.simulator.service import Response
from tests.campaign import decisions, organisation
from tests.campaign.rules import HOST, NODES, scim_url
from tests.campaign.seams import Weather
from tests.campaign.world import Beside, World

Step = Callable[[World, random.Random], str]


def _cycle(world: World, sky: Weather | None = None, beside: Beside = (), *, resync: bool = False) -> str:
    return f"  -> {world.cycle(Order(resync=resync, by=decisions.BY), sky or Weather(0), beside)}"


def _one(world: World, draw: random.Random) -> tuple[Account, str] | None:
    """An active account whose invitation is accepted, and whose it is."""
    there = [a for a in world.keeper.accounts().values() if a.active and not a.invited and a.node == NODES[0]]
    chosen = sorted((a.id, a.external_id) for a in there if world.truth.active(a.external_id or ""))
    if not chosen:
        return None
    account, person = draw.choice(chosen)
    return world.keeper.account(account), str(person)


def _laid_off_for(world: World, draw: random.Random, hours: int) -> str:
    """A lay-off that a person lets through, and its end after so many hours."""
    if world.rules.observes or world.troubles:
        return ""  # a person who looks lets nobody be locked whose record is merely hidden
    world.say(organisation.bulk(world, draw))
    for _ in range(2):
        world.say(_cycle(world))
        if not decisions.consent_to_held(world):
            break
    world.time.elapsed += hours * 3600
    world.say(organisation.bulk_returns(world, draw))
    return _cycle(world)


def amnesty(world: World, draw: random.Random) -> str:
    """A lay-off that ends once it has left the window of the limits: many people are to be unlocked at once."""
    return _laid_off_for(world, draw, hours=26)


def mistaken(world: World, draw: random.Random) -> str:
    """A lay-off that ends at once: our own locks are undone."""
    return _laid_off_for(world, draw, hours=0)


def reconsiders(world: World, draw: random.Random) -> str:
    """Somebody is suspended, and active again while Keeper keeps the lock waiting for a minute."""
    found = _one(world, draw)
    if found is None:
        return ""
    account, person = found

    def again() -> None:
        world.jumpcloud.activate(person)
        world.admin_changed()
        world.say(f"  meanwhile: {account.email} is active again")

    world.jumpcloud.suspend(person)
    world.admin_changed()
    world.say(f"{account.email} is suspended:")
    path = scim_url(account.node).removeprefix(HOST)
    return _cycle(
        world, Weather(0, script={f"Keeper PATCH {path}/Users/{account.id}#1": "throttled_minute"}, then=again)
    )


def both_lie(world: World, draw: random.Random) -> str:
    """The list lacks somebody, and the person's own list is an empty page whose total says otherwise."""
    found = _one(world, draw)
    if found is None or world.jumpcloud.assumptions.totals == "page":
        return ""
    account, person = found
    if person in world.jumpcloud.organization().hidden:
        return ""  # nothing would tell them from somebody who was deleted

    def without(response: Response) -> Response:
        def others(rows: list[Any]) -> list[Any]:
            return [row for row in rows if row.get("id") != person]

        total = response.headers.get("x-total-count")
        return rewrite_rows(response, others, total=int(total) - 1 if total else None)

    edits = {
        f"JumpCloud GET /api/v2/applications/{world.application}/users": without,
        f"JumpCloud GET /api/v2/users/{person}/applications": lambda response: rewrite_rows(response, lambda _: []),
    }
    world.say(f"JumpCloud's lists lack {account.email}:")
    world.say(_cycle(world, Weather(0, edits=edits)))
    world.time.elapsed += 3600  # grace is over
    return _cycle(world, Weather(0, edits=edits))


def written_ahead(world: World, draw: random.Random) -> str:
    """Somebody leaves, and the state file has that from a clock that was a year ahead."""
    found = _one(world, draw)
    if found is None or not world.path.exists():
        return ""
    account, person = found
    for group in world.truth.groups:
        world.jumpcloud.remove_member(group, person)
    world.jumpcloud.unbind_user(world.application, person)
    world.admin_changed()
    world.say(f"{account.email} leaves the scope:")
    world.say(_cycle(world))
    ahead = time_text(world.time.now() + timedelta(days=365))
    world.close()
    with sqlite3.connect(world.path) as connection:
        connection.execute("UPDATE users SET left_at = ? WHERE left_at IS NOT NULL AND active = 1", (ahead,))
    connection.close()
    return "what the state file has of it is a year ahead"


def replaces(world: World, draw: random.Random) -> str:
    """Keeper replaces what is added to, and many are to be added to a new team."""
    if world.observer.first or world.rules.observes or not world.keeper.dialect.shows_pending_memberships:
        return ""
    world.keeper.set_dialect(patch_reply="body")
    world.keeper.approve_all()
    world.admin_changed(*world.keeper.accounts(), *world.keeper.teams())
    world.say(_cycle(world, resync=True))
    world.keeper.set_dialect(add_replaces_groups=True)
    name = draw.choice(organisation.GROUPS)
    group = world.jumpcloud.add_group(name)
    for person in sorted(world.truth.scope_since):
        world.jumpcloud.add_member(group, person)
    world.jumpcloud.bind_group(world.application, group)
    world.admin_changed()
    world.say(f"a new release of Keeper: add_replaces_groups; everybody is in the new group {name}:")
    return _cycle(world)


def hurried(world: World, draw: random.Random) -> str:
    """Somebody is renamed, and a person orders a resync of them while Keeper takes its time over that."""
    found = _one(world, draw)
    if found is None:
        return ""
    account, person = found
    for surname in ("Earlier", "Later"):  # the first opens the kind
        world.say(_cycle(world))
        world.jumpcloud.update_user(person, lastname=surname, displayname=f"Somebody {surname}")
        world.admin_changed()
        world.say(f"{account.email} is Somebody {surname}:")
        world.time.elapsed += 60
        if surname == "Earlier":
            world.say(_cycle(world))
    path = f"Keeper PATCH {scim_url(account.node).removeprefix(HOST)}/Users/{account.id}#1"
    order = Order(person=account.email, by=decisions.BY)
    return _cycle(world, Weather(0, script={path: "slow"}), [(after, order) for after in (2, 4, 6)])


def named_before(world: World, draw: random.Random) -> str:
    """Somebody who is not created yet gets another address, and JumpCloud's list shows the one before."""
    if world.observer.first or world.rules.observes or world.troubles:
        return ""
    before = world.truth.people.keys()
    world.say(organisation.joins(world, draw))
    (person,) = world.truth.people.keys() - before
    path = scim_url(world.rules.node).removeprefix(HOST)
    world.say(_cycle(world, Weather(0, script={f"Keeper POST {path}/Users": "refused"})))
    world.time.elapsed += 2 * 3600  # whoever has failed is tried again
    old, new = world.truth.people[person].email, f"x{draw.randrange(10**6)}@example.com"
    world.jumpcloud.update_user(person, email=new)
    world.admin_changed()

    def behind(response: Response) -> Response:
        return replace(response, body=response.body.replace(f'"{new}"'.encode(), f'"{old}"'.encode()))

    world.say(f"the address of {old} is now {new}, which JumpCloud's list does not show yet:")
    return _cycle(world, Weather(0, edits={"JumpCloud GET /api/systemusers?": behind}))


def transfers(world: World, draw: random.Random) -> str:
    """An administrator locks somebody, to transfer the vault, just before they leave; and they come back."""
    found = _one(world, draw)
    if found is None:
        return ""
    account, person = found
    world.keeper.lock(account.id)
    world.jumpcloud.suspend(person)
    world.admin_changed(account.id)
    world.say(f"{account.email} is locked in Keeper, and suspended:")
    world.say(_cycle(world))
    world.jumpcloud.activate(person)
    world.admin_changed()
    world.say(f"{account.email} is active again:")
    return _cycle(world)


STEPS: dict[Step, int] = {
    amnesty: 1, mistaken: 1, reconsiders: 1, both_lie: 2, written_ahead: 1, replaces: 2, hurried: 2, named_before: 2,
    transfers: 2,
}  # fmt: skip
