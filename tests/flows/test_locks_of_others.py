"""A lock that an administrator has set stays until a person asks for its end, through the real command line."""

import json
from collections.abc import Callable

import pytest

from reconciler.simulator.faults import Action, status
from reconciler.simulator.service import Request, Response
from tests.flows.hidden import Answered, hide
from tests.inside import accept
from tests.inside import account as account_of
from tests.stage import World


def in_keeper(world: World, name: str, jumpcloud_id: str) -> str:
    account = world.keeper.add_user(f"{name}@example.com", external_id=jumpcloud_id)
    world.keeper.accept_invitation(account)
    return account


def joins(world: World, group: str, person: str) -> None:
    world.jumpcloud.add_member(group, person)
    world.jumpcloud.settle_graph()


def leaves(world: World, group: str, person: str) -> None:
    world.jumpcloud.remove_member(group, person)
    world.jumpcloud.settle_graph()


def test_adopt_takes_no_lock_of_an_administrator_for_ours(world: World) -> None:
    group = world.group("Engineering")
    for number in range(4):
        world.person(f"p{number}", group)
    world.run("apply")
    eve = world.person("eve")
    account = in_keeper(world, "eve", eve)
    world.keeper.lock(account)
    world.run("apply", "--resync")
    world.run("adopt", "eve@example.com")
    world.run("apply")
    joins(world, group, eve)
    out = world.run("apply", "--resync").stdout
    assert "reconciler resync eve@example.com --unlock" in out
    assert not world.keeper.account(account).active
    world.run("resync", "eve@example.com", "--unlock")
    assert world.keeper.account(account).active


def test_a_lock_that_came_after_disown_is_not_ours_once_the_person_is_adopted_again(world: World) -> None:
    group = world.group("Engineering")
    for number in range(4):
        world.person(f"p{number}", group)
    xena = world.person("xena", group)
    world.run("apply")
    account = world.keeper.account("xena@example.com").id
    world.keeper.accept_invitation(account)
    leaves(world, group, xena)
    world.run("apply")
    assert not world.keeper.account(account).active
    world.run("disown", "xena@example.com")
    world.keeper.unlock(account)
    world.run("apply", "--resync")
    world.keeper.lock(account)
    world.run("apply", "--resync")
    joins(world, group, xena)
    world.run("adopt", "xena@example.com")
    out = world.run("apply", "--resync").stdout
    assert "reconciler resync xena@example.com --unlock" in out
    assert not world.keeper.account(account).active


def test_our_own_lock_outlives_disown_and_adopt(world: World) -> None:
    group = world.group("Engineering")
    for number in range(4):
        world.person(f"p{number}", group)
    xena = world.person("xena", group)
    world.run("apply")
    account = world.keeper.account("xena@example.com").id
    world.keeper.accept_invitation(account)
    leaves(world, group, xena)
    world.run("apply")
    world.run("disown", "xena@example.com")
    world.run("apply", "--resync")
    joins(world, group, xena)
    world.run("adopt", "xena@example.com")
    world.run("apply", "--resync")
    assert world.keeper.account(account).active


def test_a_lock_that_follows_an_unlock_which_we_only_reported_is_not_ours(world: World) -> None:
    world.policy["drift"] = '"report"'
    world.write_settings()
    group = world.group("Engineering")
    for number in range(4):
        world.person(f"p{number}", group)
    xena = world.person("xena", group)
    world.run("apply")
    account = world.keeper.account("xena@example.com").id
    world.keeper.accept_invitation(account)
    leaves(world, group, xena)
    world.run("apply")
    world.keeper.unlock(account)
    assert "unlocked in Keeper by somebody else" in " ".join(world.run("apply", "--resync").stdout.split())
    world.keeper.lock(account)
    world.run("apply", "--resync")
    joins(world, group, xena)
    assert "reconciler resync xena@example.com --unlock" in world.run("apply", "--resync").stdout
    assert not world.keeper.account(account).active


@pytest.mark.parametrize("whose", ["managed", "nobody's"])
def test_a_lock_outlives_a_cycle_that_does_not_see_the_account(world: World, whose: str) -> None:
    world.keeper.set_dialect(link_unlocks=True)
    group = world.group("Engineering")
    for number in range(4):
        world.person(f"p{number}", group)
    xena = world.person("xena", *([group] if whose == "managed" else []))
    if whose == "nobody's":
        in_keeper(world, "xena", "")
    world.run("apply")
    account = world.keeper.account("xena@example.com").id
    world.keeper.accept_invitation(account)
    world.keeper.lock(account)
    world.run("apply", "--resync")
    if whose == "nobody's":
        joins(world, group, xena)
    hide(world, account)
    for arguments in (["apply", "--resync"], ["apply"]):
        out = " ".join(world.run(*arguments, expect=None).stdout.split())
        assert "locked in Keeper by somebody else" in out and "reconciler resync xena@example.com --unlock" in out
    world.back.faults.clear()
    world.run("apply", "--resync")
    assert "reconciler resync xena@example.com --unlock" in world.run("apply").stdout
    assert not world.keeper.account(account).active
    world.run("resync", "xena@example.com", "--unlock")
    assert world.keeper.account(account).active


@pytest.mark.parametrize("way", ["suspended", "unbound"])
def test_explain_says_how_a_leaver_whom_somebody_else_locked_gets_access(world: World, way: str) -> None:
    """It named `resync EMAIL`, by which the lock stays."""
    group = world.group("Engineering")
    people = [world.person(f"p{number}", group) for number in range(6)]
    world.run("apply")
    account = world.keeper.account("p0@example.com").id
    world.keeper.accept_invitation(account)
    world.keeper.lock(account)
    if way == "suspended":
        world.jumpcloud.suspend(people[0])
    else:
        leaves(world, group, people[0])
    world.run("resync")
    out = world.run("explain", "p0@example.com").stdout
    command = next(line for line in out.splitlines() if "reconciler resync" in line).split()
    assert "if nobody needs the lock" in " ".join(out.split())
    if way == "suspended":
        world.jumpcloud.activate(people[0])
    else:
        joins(world, group, people[0])
    world.run(*command[1:])
    assert world.keeper.account(account).active


def by_words(out: str) -> str:
    return " ".join(out.split())


def requests_about(world: World, account: str) -> list[str]:
    return [one.method for one in world.back.requests if one.target.endswith(f"/Users/{account}")]


def goes(world: World, way: str, group: str, person: str) -> None:
    if way == "suspended":
        world.jumpcloud.suspend(person)
    else:
        leaves(world, group, person)


def returns(world: World, way: str, group: str, person: str) -> None:
    if way == "suspended":
        world.jumpcloud.activate(person)
    else:
        joins(world, group, person)


def one_of_six(world: World) -> tuple[str, str, str]:
    """A group, somebody in it, and their account."""
    group = world.group("Engineering")
    people = [world.person(f"p{number}", group) for number in range(6)]
    world.run("apply")
    accounts = [world.keeper.account(f"p{number}@example.com").id for number in range(6)]
    for account in accounts:
        world.keeper.accept_invitation(account)
    return group, people[0], accounts[0]


@pytest.mark.parametrize("opened", [False, True], ids=["canary", "open"])
@pytest.mark.parametrize("way", ["suspended", "left"])
def test_a_lock_that_an_administrator_set_since_the_last_list_stays_theirs(
    world: World, way: str, opened: bool
) -> None:
    group, person, account = one_of_six(world)
    if opened:
        leaves(world, group, world.jumpcloud.find_user("p5@example.com"))
        world.run("apply")
    world.keeper.lock(account)
    goes(world, way, group, person)
    world.back.requests.clear()
    out = by_words(world.run("apply").stdout)
    assert requests_about(world, account) == ["GET"]
    assert out.startswith("Not needed: 1 operation.") and "somebody else had locked the account before" in out
    entry = json.loads(world.run("history", "p0@example.com", "--kind", "deactivate_user", "--json").stdout)
    assert [(one["result"], one["outcome"]) for one in entry["operations"]] == [("done", "locked_before")]
    told = by_words(world.run("history", "p0@example.com", "--kind", "deactivate_user").stdout)
    assert "p0@example.com to be locked: " in told and "somebody else had locked the account before" in told
    told = by_words(world.run("leavers").stdout)
    assert "1 locked by somebody else" in told and "p0@example.com: locked by somebody else, not by us" in told
    assert "p0@example.com" not in told.partition("1 locked by somebody else")[0]
    assert "locked in Keeper by somebody else" in by_words(world.run("explain", "p0@example.com").stdout)
    returns(world, way, group, person)
    out = by_words(world.run("apply").stdout)
    assert "locked in Keeper by somebody else" in out and "reconciler resync p0@example.com --unlock" in out
    assert not world.keeper.account(account).active
    world.run("apply", "--resync")
    assert not world.keeper.account(account).active
    world.run("resync", "p0@example.com", "--unlock")
    assert world.keeper.account(account).active


@pytest.mark.parametrize("way", ["suspended", "left"])
def test_a_lock_of_ours_costs_one_look_before_it_and_ends_with_the_return(world: World, way: str) -> None:
    group, person, account = one_of_six(world)
    leaves(world, group, world.jumpcloud.find_user("p5@example.com"))
    world.run("apply")
    goes(world, way, group, person)
    world.back.requests.clear()
    world.run("apply")
    assert requests_about(world, account) == ["GET", "PATCH", "GET"]
    returns(world, way, group, person)
    world.run("apply")
    assert world.keeper.account(account).active


def test_a_canary_of_the_locks_looks_once_before_it(world: World) -> None:
    group, person, account = one_of_six(world)
    leaves(world, group, person)
    world.back.requests.clear()
    world.run("apply")
    assert requests_about(world, account) == ["GET", "PATCH", "GET"]


@pytest.mark.parametrize("how", ["refused", "hidden", "absent"])
def test_an_account_that_cannot_be_looked_at_is_locked_all_the_same(world: World, how: str) -> None:
    group, person, account = one_of_six(world)
    leaves(world, group, person)

    def without_active(handle: Callable[[Request], Response], request: Request) -> Response:
        shown = json.loads(handle(request).body)
        return Response.of_json(200, {name: value for name, value in shown.items() if name != "active"})

    answers: dict[str, Action] = {"refused": status(500), "absent": status(404), "hidden": Answered(without_active)}
    world.back.faults.add(answers[how], method="GET", target=f"/Users/{account}", times=4 if how == "refused" else 1)
    world.run("apply", expect=None)
    assert not world.keeper.account(account).active


def test_a_lock_that_was_not_needed_fills_no_limit(world: World) -> None:
    world.safety |= {"max_deactivations": "2", "always_allow": "0"}
    world.write_settings()
    group, person, account = one_of_six(world)
    world.keeper.lock(account)
    leaves(world, group, person)
    world.run("apply")
    for name in ("p1", "p2"):
        leaves(world, group, world.jumpcloud.find_user(f"{name}@example.com"))
    world.run("apply")
    assert not any(world.keeper.account(f"{name}@example.com").active for name in ("p1", "p2"))


def test_the_way_to_unlock_names_the_person_whatever_address_keeper_shows(world: World) -> None:
    """The Keeper address of the one is by now the JumpCloud address of another."""
    group = world.group("Engineering")
    for number in range(4):
        world.person(f"p{number}", group)
    anna = world.person("anna", group)
    world.run("apply")
    accept(world)
    world.jumpcloud.update_user(anna, email="anna.new@example.com")
    rehired = world.person("anna", group)
    world.keeper.lock("anna@example.com")
    out = " ".join(world.run("resync").stdout.split())
    command = "reconciler resync anna.new@example.com --unlock"
    assert f"To let them in: {command}" in out
    assert command in " ".join(world.run("explain", "anna.new@example.com").stdout.split())
    out = " ".join(world.run("resync", "anna@example.com", "--unlock", expect=None).stdout.split())
    assert "the locked Keeper user anna@example.com is not theirs" in out and command in out
    assert not account_of(world, anna).active
    world.run("resync", "anna.new@example.com", "--unlock")
    assert account_of(world, anna).active
    assert not [one for one in world.keeper.accounts().values() if one.external_id == rehired]


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("active", "their Keeper user is not locked"),
        ("suspended", "they are not known to be in scope"),
        ("never in scope", "they are not known to be in scope"),
        ("given up", "another notice about this person tells why"),
    ],
)
def test_resync_says_why_it_unlocked_nobody(world: World, how: str, why: str) -> None:
    group = world.group("Engineering")
    for number in range(4):
        world.person(f"p{number}", group)
    anna = world.person("anna", group) if how != "never in scope" else world.person("anna")
    world.run("apply")
    accept(world)
    if how == "suspended":
        world.jumpcloud.suspend(anna)
        world.run("apply")
    if how == "given up":
        world.run("disown", "anna@example.com")
        world.run("resync")
        world.keeper.lock("anna@example.com")
        world.run("resync")
    out = " ".join(world.run("resync", "anna@example.com", "--unlock").stdout.split())
    assert f"anna@example.com: {why}" in out, out


@pytest.mark.parametrize(
    ("why", "setting"),
    [("protect", '["p0@example.com"]'), ("only", '{ users = ["p1@example.com"] }'), ("mode", '"observe"')],
)
def test_no_order_is_advised_of_which_nothing_would_come(world: World, why: str, setting: str) -> None:
    group = world.group("Engineering")
    for number in range(2):
        world.person(f"p{number}", group)
    world.run("apply")
    accept(world)
    world.keeper.approve_all()
    world.run("resync")
    world.keeper.lock(world.keeper.account("p0@example.com").id)
    told = world.run("plan", "--resync").stdout + world.run("explain", "p0@example.com").stdout
    assert told.count("reconciler resync p0@example.com --unlock") >= 3
    world.policy[why] = setting
    world.write_settings()
    told = world.run("plan", "--resync").stdout + world.run("explain", "p0@example.com").stdout
    assert "--unlock" not in told
    words = f"Nothing is sent for them (policy.{why}), so only Keeper's Admin Console lets them in"
    assert " ".join(told.split()).count(words) >= 3
    world.run("resync", "p0@example.com", "--unlock", expect=2 if why == "mode" else 0)
    assert not world.keeper.account("p0@example.com").active
