"""The claims of the first lines are true, through the real command line."""

import json

from tests.stage import World


def test_nobody_is_in_line_who_is_in_conflict_or_locked_by_somebody_else(world: World) -> None:
    group = world.group("Engineering")
    for number in range(4):
        world.person(f"p{number}", group)
    ann = world.person("ann", group)
    world.run("apply")
    world.jumpcloud.delete_user(ann)
    world.jumpcloud.settle_graph()
    world.keeper.accept_invitation(world.keeper.account("ann@example.com").id)
    world.run("apply")
    world.person("ann", group)
    locked = world.keeper.account("p0@example.com").id
    world.keeper.accept_invitation(locked)
    world.keeper.lock(locked)
    out = " ".join(world.run("apply", "--resync").stdout.split())
    assert "Nothing to do: 5 people and 1 team in scope; 2 people are not in line." in out


def test_status_tells_what_will_be_held_when_grace_ends(world: World) -> None:
    world.policy["grace"] = '"30m"'
    world.write_settings()
    group = world.group("Engineering")
    for number in range(12):
        world.person(f"p{number}", group)
    world.run("apply")
    world.jumpcloud.unbind_group(world.application, group)
    world.jumpcloud.settle_graph()
    world.run("apply")
    assert "WILL BE HELD when grace ends" in world.run("status").stdout
    world.jumpcloud.bind_group(world.application, group)
    world.jumpcloud.settle_graph()
    world.run("apply")
    assert "WILL BE HELD" not in world.run("status").stdout


def test_somebody_without_an_address_has_a_name(world: World) -> None:
    group = world.group("Engineering")
    one = world.jumpcloud.add_user("", firstname="Ada", lastname="Lovelace", state="ACTIVATED")
    world.jumpcloud.add_member(group, one)
    world.jumpcloud.settle_graph()
    assert "Ada Lovelace: has no usable e-mail address" in " ".join(world.run("apply").stdout.split())


def test_an_invisible_character_in_an_address_is_told(world: World) -> None:
    """Whoever looks in JumpCloud sees an address there."""
    group = world.group("Engineering")
    world.person("ada\u200b", group)
    assert "an invisible character" in " ".join(world.run("apply").stdout.split())


def test_explain_claims_no_account_of_somebody_else_for_a_newcomer(world: World) -> None:
    group = world.group("Engineering")
    for number in range(4):
        world.person(f"p{number}", group)
    ann = world.person("ann", group)
    world.run("apply")
    world.keeper.accept_invitation(world.keeper.account("ann@example.com").id)
    world.jumpcloud.delete_user(ann)
    world.jumpcloud.settle_graph()
    world.run("apply")
    world.person("ann", group)
    world.run("apply")
    first, second = world.run("explain", "ann@example.com").stdout.splitlines()[:2]
    assert first.endswith("without a Keeper account of their own.")
    assert "Not managed" in second


def test_a_leaver_whose_account_somebody_made_again_is_not_said_to_have_lost_access(world: World) -> None:
    group = world.group("Engineering")
    people = [world.person(f"p{number}", group) for number in range(6)]
    world.run("apply")
    for account in world.keeper.accounts().values():
        world.keeper.accept_invitation(account.id)
    world.jumpcloud.suspend(people[0])
    world.run("apply")
    assert "1 person lost access" in world.run("leavers").stdout
    world.keeper.delete_user("p0@example.com")
    again = world.keeper.add_user("p0@example.com")
    world.run("apply", "--resync")
    out = " ".join(world.run("leavers").stdout.split())
    assert "0 people lost access" in out and "1 not verifiable" in out and "reconciler adopt p0@example.com" in out
    world.run("adopt", "p0@example.com")
    world.run("apply", expect=None)
    plan = json.loads(world.run("plan", "--format", "json").stdout)["id"]
    world.run("release", plan, "--reason", "a leaver's second account", expect=None)
    world.run("apply", expect=None)
    assert not world.keeper.account(again).active
    assert "not verifiable" not in world.run("leavers").stdout
