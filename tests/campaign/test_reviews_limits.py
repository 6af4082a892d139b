"""Faults of what limits hold and let through, each as a short history."""

from reconciler.alerts import AlertKind
from tests.campaign.scenes import SCIM, cycle, group, joined, person, suspend, teams_of
from tests.campaign.test_reviews import told
from tests.campaign.world import World


def test_a_link_that_opened_a_leavers_account_is_undone_beside_a_hold(world: World) -> None:
    world.keeper.set_dialect(links_aliases=True, link_unlocks=True)
    world.rules.safety = {"max_creations": 50}
    people = [joined(world, name)[0] for name in ("bob", "cy", "dan", "eve")]
    zoe, account = joined(world, "zoe")
    world.keeper.change_email(account, "z@example.com", keep_alias=True)
    suspend(world, zoe)
    cycle(world, resync=True)
    assert world.keeper.accounts()[account].locked
    world.jumpcloud.delete_user(zoe)
    person(world, "zoe")  # somebody else of that name
    cycle(world, {f"POST {SCIM}/Users": "late_timeout"})
    assert not world.keeper.accounts()[account].locked
    world.rules.safety |= {"max_deactivations": 0, "always_allow": 0}
    for one in people[:3]:
        world.jumpcloud.delete_user(one)
    world.admin_changed()
    assert "max_deactivations 4" in cycle(world)
    assert world.keeper.accounts()[account].locked


def test_who_joined_a_new_team_does_not_begin_to_count_when_the_team_is_a_day_old(world: World) -> None:
    world.rules.safety = {"max_creations": 50, "max_grants": 2}
    old = group(world, "Old")
    people = [joined(world, name)[0] for name in ("ada", "bob", "cy", "dan", "eve")]
    new = group(world, "New")
    cycle(world)
    world.keeper.approve_all()
    world.time.elapsed += 5 * 3600
    for one in people[:4]:
        world.jumpcloud.add_member(new, one)
    world.admin_changed()
    cycle(world)
    world.keeper.approve_all()
    world.time.elapsed += 19.5 * 3600
    world.jumpcloud.add_member(old, people[4])
    world.admin_changed()
    assert "max_grants" not in cycle(world)
    assert teams_of(world, "eve") == {"Old"}


def test_what_a_link_gave_to_another_account_is_not_told_as_a_lost_team(world: World) -> None:
    world.keeper.set_dialect(links_aliases=True)
    sales = group(world, "Sales")
    joined(world, "bob", sales)
    other = world.keeper.add_user("ada@example.com")
    world.keeper.accept_invitation(other)
    world.keeper.change_email(other, "old@example.com", keep_alias=True)
    world.admin_changed(other)
    cycle(world, resync=True)
    person(world, "ada", sales)
    cycle(world)
    assert not world.keeper.accounts()[other].teams
    assert not told(world, AlertKind.LOST_TEAM)


def test_a_team_that_was_taken_once_is_told_once(world: World) -> None:
    sales, legal = group(world, "Sales"), group(world, "Legal")
    ada, account = joined(world, "ada", sales, legal)
    joined(world, "bob", sales, legal)
    cycle(world, resync=True)
    world.jumpcloud.remove_member(sales, ada)
    world.admin_changed()
    lists = (f"GET {SCIM}/Users?", f"GET {SCIM}/Groups?")
    cycle(world, {f"PATCH {SCIM}/Users/{account}": "late_timeout"} | dict.fromkeys(lists, "error"))
    cycle(world, dict.fromkeys(lists, "stale"))  # it seems not to have arrived, and is sent once more
    for _ in range(2):
        cycle(world)
    assert [(fact.name, fact.text) for fact in told(world, AlertKind.LOST_TEAM)] == [
        ("ada@example.com", "lost Sales: changed in JumpCloud")
    ]
    world.jumpcloud.add_member(sales, ada)
    world.admin_changed()
    cycle(world)
    world.jumpcloud.remove_member(sales, ada)
    world.admin_changed()
    cycle(world)
    assert len(told(world, AlertKind.LOST_TEAM)) == 2
