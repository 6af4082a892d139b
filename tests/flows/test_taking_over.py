"""What adopting, releasing and allowing must not do, through the real command line."""

from reconciler.simulator.faults import status
from tests.inside import Inside, accept
from tests.stage import World


def fill(world: World, people: int = 12) -> list[str]:
    groups = [world.group("Engineering"), world.group("Sales")]
    return [world.person(f"p{n}", groups[n % 2]) for n in range(people)]


def test_adopt_ghosts_and_release_do_not_lock_a_staged_person(world: World) -> None:
    fill(world)
    group = next(iter(world.jumpcloud.groups_in_scope(world.application)))
    one = world.jumpcloud.add_user("staged@example.com", firstname="S", lastname="T", state="STAGED")
    world.jumpcloud.add_member(group, one)
    world.jumpcloud.settle_graph()
    held = world.keeper.add_user("staged@example.com")
    world.keeper.accept_invitation(held)
    world.run("apply")
    world.run("adopt", "--ghosts")
    world.run("apply", expect=None)
    world.run("release", expect=None)
    assert world.keeper.account(held).active


def test_adopt_ghosts_does_not_lock_the_account_of_two_people_in_scope(world: World) -> None:
    fill(world)
    group = next(iter(world.jumpcloud.groups_in_scope(world.application)))
    for address in ("twin@example.com", "Twin@example.com"):
        one = world.jumpcloud.add_user(address, firstname="S", lastname="T", state="ACTIVATED")
        world.jumpcloud.add_member(group, one)
    world.jumpcloud.settle_graph()
    held = world.keeper.add_user("twin@example.com")
    world.keeper.accept_invitation(held)
    world.run("apply")
    world.run("adopt", "--ghosts")
    world.run("apply", expect=None)
    world.run("release", expect=None)
    assert world.keeper.account(held).active


def test_adopt_ghosts_links_no_recycled_address(world: World) -> None:
    fill(world)
    held = world.keeper.add_user("hire@example.com", external_id="f" * 24)
    world.keeper.accept_invitation(held)
    one = world.person("hire", next(iter(world.jumpcloud.groups_in_scope(world.application))))
    first = world.run("apply")
    assert "recycled" in first.stdout
    world.run("adopt", "--ghosts")
    world.run("apply", expect=None)
    assert world.keeper.account(held).external_id != one


def test_adopt_of_one_whom_we_manage_changes_nothing(world: World) -> None:
    fill(world)
    world.run("apply")
    with world.state() as store:
        before = store.snapshot()
    done = world.run("adopt", "p0@example.com", expect=1)
    assert "p0@example.com is managed already for the JumpCloud user" in done.stderr and done.stdout == ""
    assert "reconciler explain p0@example.com" in done.stderr
    with world.state() as store:
        assert store.snapshot().accounts == before.accounts
    assert "nothing to do" in world.run("apply").stdout.lower()


def test_adopt_of_one_whom_we_manage_leaves_no_consent_behind(world: World) -> None:
    people = fill(world)
    world.run("apply")
    for account in world.keeper.accounts().values():
        world.keeper.accept_invitation(account.id)
    world.run("adopt", "p0@example.com", expect=1)
    world.run("apply")
    world.jumpcloud.delete_user(people[0])
    world.jumpcloud.settle_graph()
    world.run("apply")
    account = next(a for a in world.keeper.accounts().values() if a.email == "p0@example.com")
    assert not account.active
    hire = world.person("p0", next(iter(world.jumpcloud.groups_in_scope(world.application))))
    out = world.run("apply", expect=None).stdout
    account = world.keeper.account(account.id)
    assert not account.active and account.external_id != hire, out


def test_a_change_in_the_teams_of_a_released_joiner(world: World) -> None:
    fill(world, 12)
    sales = {n: g for g, n in world.jumpcloud.groups_in_scope(world.application).items()}["Sales"]
    engineering = {n: g for g, n in world.jumpcloud.groups_in_scope(world.application).items()}["Engineering"]
    world.run("apply")
    joiners = [world.person(f"j{n}", engineering) for n in range(8)]
    world.run("apply", expect=4)
    world.jumpcloud.add_member(sales, joiners[0])
    world.jumpcloud.settle_graph()
    world.back.requests.clear()
    ends = []
    for command in ("release", "apply", "apply"):
        process = world.start(command)
        _out, err = process.communicate(timeout=120)
        created = sum(a.email.startswith("j") for a in world.keeper.accounts().values())
        ends.append((command, process.returncode, created, err.strip()[:90]))
    assert ends[0][1] == 0, ends


def test_the_first_plan_after_observe_is_reviewed_again(world: World) -> None:
    people = fill(world)
    world.safety.clear()
    world.write_settings()
    world.run("plan", "--save", "p.json")
    world.run("apply", "--plan", "p.json")
    world.policy["mode"] = '"observe"'
    world.write_settings()
    assert Inside(world).run().result == "observed"
    world.jumpcloud.suspend(people[0])
    world.policy["mode"] = '"enforce"'
    world.write_settings()
    before = world.writes()
    world.run("apply", "--yes", expect=4)
    assert world.writes() == before


def test_grace_ends_while_a_first_plan_has_nothing_to_review(world: World) -> None:
    """Grace began anew with each cycle: whoever had left was never locked, and nobody was told."""
    people = fill(world)
    inside = Inside(world)
    assert inside.run().result == "done"
    world.safety.clear()
    for mode in ('"observe"', '"enforce"'):
        world.policy |= {"mode": mode, "grace": '"30m"'}
        world.write_settings()
        inside.run()
    (group,) = world.jumpcloud.in_scope(world.application)[people[0]]
    world.jumpcloud.remove_member(group, people[0])
    world.jumpcloud.settle_graph()
    assert inside.run().result == "nothing"
    inside.later(hours=1)
    outcome = inside.run()
    assert outcome.result == "held" and outcome.plan.counts == {"deactivate_user": 1}


def test_an_allowance_is_used_once_whatever_the_window(world: World) -> None:
    people = fill(world, 40)
    world.safety |= {"window": '"1h"', "max_deactivations": "0", "first_run": '"apply"'}
    world.write_settings()
    world.run("apply")
    for account in world.keeper.accounts().values():
        world.keeper.accept_invitation(account.id)
    world.run("allow", "--deactivations", "2", "--for", "4h", "--reason", "x")
    for one in people[:2]:
        world.jumpcloud.suspend(one)
    world.run("apply")
    for one in people[2:4]:
        world.jumpcloud.suspend(one)
    world.run("apply", expect=4)  # used up
    inside = Inside(world)
    inside.later(hours=2)
    inside.run()
    locked = [a for a in world.keeper.accounts().values() if not a.active]
    assert len(locked) == 2


def test_a_held_first_plan_stays_a_first_plan(world: World) -> None:
    """first_run = "apply": the first plan is held by a limit on taking away; its creations must not count later."""
    group = world.group("Engineering")
    leavers = [world.person(f"l{n}") for n in range(6)]
    for n, one in enumerate(leavers):
        k = world.keeper.add_user(f"l{n}@example.com", external_id=one)
        world.keeper.accept_invitation(k)
    for n in range(40):
        world.person(f"p{n}", group)
    world.run("apply", expect=4)  # six of six would be locked
    assert world.writes() == 0
    for one in leavers:
        world.jumpcloud.add_member(group, one)  # put right
    world.jumpcloud.settle_graph()
    out = world.run("apply", expect=None)
    assert "max_creations" not in out.stdout and out.returncode == 0, out.stdout[:600]


def test_a_plan_without_the_list_of_users_is_no_review_of_the_first(world: World) -> None:
    """A release lets a part of it through while the users can't be read: the leavers were not in that part."""
    world.safety["first_run"] = '"review"'
    world.write_settings()
    leaver = world.person("leaver")
    key = world.keeper.add_user("leaver@example.com", external_id=leaver)
    world.keeper.accept_invitation(key)
    fill(world)
    world.run("apply", expect=4)
    for target in ("/api/systemusers", "/api/search"):
        world.front.faults.add(status(403), target=target)
    world.run("release", expect=None)
    assert world.keeper.teams() and world.keeper.account(key).active
    world.front.faults.clear()
    world.run("apply", expect=None)
    world.run("release", expect=None)
    assert not world.keeper.account(key).active


def test_a_first_plan_with_nothing_to_look_at_says_that_it_adopts_nobody(world: World) -> None:
    """After a lost state file, everything in line, it told each time that all were adopted, and nobody was."""
    people = fill(world)
    world.run("apply")
    accept(world)
    for path in (world.folder / "state").iterdir():
        path.unlink()
    world.safety.clear()
    world.write_settings()
    world.run("plan", "--save", "first.json")
    for command in (("apply", "--plan", "first.json"), ("apply", "--yes"), ("resync",)):
        said = " ".join(world.run(*command).stdout.split())
        assert "Nothing to do" in said and "adopted" not in said
        assert "The first plan for this Keeper node is still to be reviewed" in said
    assert "0 managed" in world.run("status").stdout
    world.jumpcloud.suspend(people[0])
    world.run("apply", expect=4)
    said = world.run("release").stdout
    assert "Already in Keeper, adopted" in said and "still to be reviewed" not in said
    assert "12 managed" in world.run("status").stdout
    assert "to be reviewed" not in world.run("apply").stdout
