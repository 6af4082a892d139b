"""Short histories in words: people, groups, and cycles in which single requests go wrong."""

import random
from typing import Any

from reconciler.cycle import Order
from reconciler.plan import Plan
from reconciler.simulator.keeper_records import Account
from tests.campaign import decisions
from tests.campaign.rules import NODES
from tests.campaign.seams import Weather
from tests.campaign.world import World

SCIM = "/api/rest/scim/v2/123456789"


def cycle(world: World, faults: dict[str, str] | None = None, **order: Any) -> str:
    """A cycle in which requests that begin so go wrong so; a first plan is agreed to."""
    world.time.elapsed += 600

    def agrees(plan: Plan) -> bool:
        world.observer.agreed(plan.effects)
        return True

    weather = Weather(1, script={f"Keeper {beginning}": kind for beginning, kind in (faults or {}).items()})
    asked = Order(by="root", reviewed=agrees, **order)
    text = world.cycle(asked, weather)
    world.say(text)
    return text


def unreviewed(world: World) -> None:
    """A cycle ten minutes later, whose plan nobody looks at: a first plan finds the accounts, and waits."""
    world.time.elapsed += 600
    world.say(world.cycle(Order(by="schedule"), Weather(1)))


def ten_minutes(world: World) -> None:
    """Ten minutes of a daemon: the lane each minute, and two cycles."""
    for n in range(10):
        world.time.elapsed += 60
        world.lane(Weather(0))
        if n % 5 == 0:
            cycle(world)


def group(world: World, name: str) -> str:
    one = world.jumpcloud.add_group(name)
    world.jumpcloud.bind_group(world.application, one)
    world.admin_changed()
    return one


def person(world: World, name: str, *groups: str) -> str:
    one = world.jumpcloud.add_user(f"{name}@example.com", state="ACTIVATED", firstname=name, lastname="Test")
    for each in groups:
        world.jumpcloud.add_member(each, one)
    if not groups:
        world.jumpcloud.bind_user(world.application, one)
    world.admin_changed()
    return one


def joined(world: World, name: str, *groups: str) -> tuple[str, str]:
    """A person with an account whose invitation is accepted: both ids."""
    one = person(world, name, *groups)
    cycle(world)
    account = world.keeper.account(f"{name}@example.com").id
    world.keeper.accept_invitation(account)
    world.keeper.approve_all()
    world.admin_changed()
    return one, account


def gets_alias(world: World, account: str, alias: str) -> None:
    """The account gets another address, and its own back, of which the other is an alias from then on."""
    for address in (alias, world.keeper.accounts()[account].email):
        world.keeper.change_email(account, address, keep_alias=True)


def teams_of(world: World, name: str) -> set[str]:
    account = world.keeper.account(f"{name}@example.com")
    return {world.keeper.teams()[team].name for team in (*account.teams, *account.pending_teams)}


def suspend(world: World, *people: str) -> None:
    for one in people:
        world.jumpcloud.suspend(one)
    world.admin_changed()


def activate(world: World, *people: str) -> None:
    for one in people:
        world.jumpcloud.activate(one)
    world.admin_changed()


def moves(world: World, account: str, *, back: bool = False) -> None:
    """An administrator moves an account to another node, or back."""
    world.keeper.move_user_to_other_node(account, NODES[0 if back else 1])
    world.admin_changed(account)


def team_deleted_without_answer(world: World) -> str:
    """A group that has left the scope, for good: Keeper deletes its team, and its answer is lost. The group's id."""
    world.rules.policy["grace"] = "0s"
    world.rules.teams = {"out_of_scope": "delete"}
    sales = group(world, "Sales")
    person(world, "zoe")
    cycle(world)
    world.keeper.approve_all()
    cycle(world, resync=True)
    world.jumpcloud.unbind_group(world.application, sales)
    world.admin_changed()
    cycle(world)
    decisions.consent_to_held(world)
    cycle(world, {f"DELETE {SCIM}/Groups": "late_timeout"})
    return sales


def replaced_unseen(world: World, answer: str = "") -> str:
    """Keeper replaces a team that somebody has by one in which they wait unseen, and its `answer` may be lost: their
    JumpCloud id."""
    world.rules.safety = {"max_grants": "100%"}
    world.keeper.set_dialect(queues_every_membership=True, shows_pending_memberships=False)
    joined(world, "bob")
    ada, account = joined(world, "ada", group(world, "Legal"))
    cycle(world, resync=True)
    world.jumpcloud.add_member(group(world, "Sales"), ada)
    world.admin_changed()
    world.keeper.set_dialect(add_replaces_groups=True)
    cycle(world, {f"PATCH {SCIM}/Users/{account}": answer} if answer else {})
    return ada


class _Chosen(random.Random):
    """Chance that chooses this account."""

    def __init__(self, account: Account) -> None:
        super().__init__()
        self._account = account

    def random(self) -> float:
        return 0.9

    def choice(self, _seq: Any) -> Any:
        return self._account


def adopt(world: World, email: str) -> None:
    """As the campaign's own step does it."""
    assert "will be taken over" in decisions.adopts(world, _Chosen(world.keeper.account(email)))


def disown(world: World, email: str) -> None:
    """As the campaign's own step does it."""
    assert "is given up" in decisions.disowns(world, _Chosen(world.keeper.account(email)))


def given_up_since_a_copy(world: World) -> tuple[str, str, str]:
    """Ada is given up, and has another account, with her id and her new address; then a copy of the state file is put
    back that knows of neither: her JumpCloud id, her account, and the other."""
    joined(world, "bob")
    ada, account = joined(world, "ada")
    cycle(world)
    decisions.copied(world, random.Random(1))
    disown(world, "ada@example.com")
    cycle(world)
    other = world.keeper.add_user("new@example.com", external_id=ada, locked=True)
    world.jumpcloud.update_user(ada, email="new@example.com")
    world.admin_changed(other)
    decisions.put_back(world, *world.copies[0], by_command=False)
    return ada, account, other


def given_beside_a_staged_one(world: World) -> tuple[str, str, str]:
    """A person gives the account that bears the id of somebody staged to Ada, who alone with its address is in scope;
    the staged one is active from then on: that one's JumpCloud id, hers, and the account."""
    joined(world, "bob")
    staged = world.jumpcloud.add_user("ada@example.com", state="STAGED", firstname="Ada", lastname="Test")
    world.jumpcloud.bind_user(world.application, staged)
    account = world.keeper.add_user("ada@example.com", external_id=staged)
    world.keeper.accept_invitation(account)
    world.admin_changed(account)
    ada = person(world, "Ada")
    cycle(world, resync=True)
    adopt(world, "ada@example.com")
    cycle(world, resync=True)
    activate(world, staged)
    return staged, ada, account
