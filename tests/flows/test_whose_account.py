"""Ownership of accounts and teams, through the real command line."""

import json

import pytest

from reconciler import cycle
from reconciler.simulator.service import Request, Response
from tests.flows.hidden import Answered, hide, two_minutes_after
from tests.inside import Inside, accept, account
from tests.stage import World

KELVIN = "mar\u212a@example.com"


def fill(world: World, people: int = 12) -> str:
    group = world.group("Engineering")
    for number in range(people):
        world.person(f"p{number}", group)
    return group


def joined(world: World, group: str, email: str) -> str:
    one = world.jumpcloud.add_user(email, firstname="Some", lastname="One", state="ACTIVATED")
    world.jumpcloud.add_member(group, one)
    world.jumpcloud.settle_graph()
    return one


def there(world: World, email: str, external_id: str | None = None) -> str:
    account = world.keeper.add_user(email, external_id=external_id)
    world.keeper.accept_invitation(account)
    return account


def test_nothing_is_adopted_by_the_address_or_name_that_keeper_showed_some_time_ago(world: World) -> None:
    world.teams["adopt"] = '"always"'
    world.write_settings()
    group = fill(world)
    account, team = there(world, "zoe@example.com"), world.keeper.add_team("Sales")
    world.run("apply")
    world.keeper.change_email(account, "bela@example.com", keep_alias=False)
    zoe = joined(world, group, "zoe@example.com")
    world.run("apply")
    assert world.keeper.account(account).external_id is None
    assert world.keeper.account("zoe@example.com").external_id == zoe
    world.keeper.rename_team(team, "Board")
    world.jumpcloud.add_member(world.group("Sales"), zoe)
    world.run("apply")
    assert world.keeper.teams()[team].name == "Board" and not world.keeper.members(team)


def lost_state(world: World) -> None:
    for path in (world.folder / "state").glob("*"):
        path.unlink()


def test_a_kelvin_sign_takes_no_account_over(world: World) -> None:
    group = fill(world)
    account = there(world, "mark@example.com")
    one = joined(world, group, KELVIN)
    out = world.run("apply").stdout
    assert "mark@example.com" in out and "two people" in out
    world.run("apply", "--resync")
    assert world.keeper.account(account).external_id != one
    assert world.writes() == 12 + 1  # the others, and the team
    refused = world.run("adopt", KELVIN, expect=1).stderr
    assert "nothing was changed" in refused and "reconciler adopt mark@example.com" in refused


def test_one_domain_in_its_two_written_forms_is_one_person(world: World) -> None:
    group = fill(world)
    for domain in ("m\u00fcnchen.example", "xn--mnchen-3ya.example"):
        world.keeper.reserve_domain(domain)
    account = there(world, "ada@xn--mnchen-3ya.example")
    one = joined(world, group, "Ada@m\u00fcnchen.example")
    world.run("apply")
    assert world.keeper.account(account).external_id == one
    assert "nothing to do" in world.run("apply", "--resync").stdout.lower()
    world.jumpcloud.update_user(one, email="ada@XN--mnchen-3ya.example")
    assert "nothing to do" in world.run("apply").stdout.lower()
    assert len(world.keeper.accounts()) == 13


def test_an_id_left_on_a_leavers_account_gives_nobody_her_vault_once_the_state_file_is_lost(world: World) -> None:
    group = fill(world)
    namesake = world.person("anna", group)
    hers = there(world, "anna.old@example.com", external_id=namesake)
    out = world.run("apply").stdout
    assert "anna.old@example.com" in out and "reconciler adopt anna.old@example.com" in out
    for _ in range(2):
        lost_state(world)
        world.run("apply")
        world.run("apply", "--resync")
        assert world.keeper.account(hers).email == "anna.old@example.com"
        assert not world.keeper.account(hers).pending_teams
    world.run("adopt", "anna.old@example.com")
    world.run("apply")
    assert world.keeper.account(hers).pending_teams


def test_a_leaver_whose_address_somebody_else_has_now_is_left_alone_and_told(world: World) -> None:
    group = fill(world)
    left = world.person("left", group)
    hers = there(world, "anna@example.com", external_id=left)
    world.jumpcloud.suspend(left)
    world.person("anna", group)
    out = world.run("apply").stdout
    assert "anna@example.com" in out and "another JumpCloud id" in out
    world.run("apply", "--resync")
    assert world.keeper.account(hers).active and world.keeper.account(hers).external_id == left


def test_observing_and_going_back_makes_no_lock_of_an_administrator_ours(world: World) -> None:
    group = fill(world)
    one = world.person("leaver", group)
    world.run("apply")
    account = world.keeper.account("leaver@example.com").id
    world.keeper.accept_invitation(account)
    world.policy["mode"] = '"observe"'
    world.write_settings()
    world.jumpcloud.suspend(one)
    world.keeper.lock(account)
    assert Inside(world).run().result == "observed"
    world.policy["mode"] = '"enforce"'
    world.write_settings()
    world.run("apply", expect=None)
    world.jumpcloud.activate(one)
    out = world.run("apply", "--resync").stdout
    assert not world.keeper.account(account).active and "--unlock" in out


def test_while_the_first_plan_waits_a_lock_that_was_there_is_told_apart_from_a_new_one(world: World) -> None:
    group = fill(world)
    early, late = (world.person(name, group) for name in ("early", "late"))
    accounts = [there(world, f"{name}@example.com", external_id=id) for name, id in (("early", early), ("late", late))]
    for one in (early, late):
        world.jumpcloud.suspend(one)
    world.keeper.lock(accounts[0])
    world.safety.clear()
    world.write_settings()
    inside = Inside(world)
    assert inside.run().result == "held"
    world.keeper.lock(accounts[1])
    inside.later(hours=48)
    assert inside.run().result == "held"
    world.safety["first_run"] = '"apply"'
    world.write_settings()
    world.run("apply")
    for one in (early, late):
        world.jumpcloud.activate(one)
    world.run("apply", expect=None)
    assert [world.keeper.account(account).active for account in accounts] == [True, False]


def test_a_group_of_the_same_name_gets_no_team_while_the_old_group_is_there(world: World) -> None:
    fill(world)
    old = world.group("Sales")
    world.person("seller", old)
    world.run("apply")
    world.keeper.approve_all()
    world.run("apply", "--resync")
    [team] = [team for team in world.keeper.teams().values() if team.name == "Sales"]
    world.jumpcloud.unbind_group(world.application, old)
    new = world.group("Sales")
    world.person("newcomer", new)
    for arguments in (["apply"], ["apply", "--resync"]):
        out = world.run(*arguments, expect=None).stdout
        assert old in out and new in out and "spelled the same" in out
    assert world.keeper.teams()[team.id].external_id == old
    newcomer = world.keeper.account("newcomer@example.com").id
    assert newcomer not in world.keeper.members(team.id)
    world.jumpcloud.delete_group(old)
    world.jumpcloud.settle_graph()
    world.run("apply", expect=None)
    assert world.keeper.teams()[team.id].external_id == new


@pytest.mark.parametrize("deleted", [True, False])
def test_without_the_state_file_a_group_that_was_made_again_gets_its_team_once_the_old_one_is_gone(
    world: World, deleted: bool
) -> None:
    fill(world)
    old = world.group("Sales")
    seller = world.person("seller", old)
    world.run("apply")
    accept(world)
    world.keeper.approve_all()
    world.run("resync")
    [team] = [team for team in world.keeper.teams().values() if team.name == "Sales"]
    if deleted:
        world.jumpcloud.delete_group(old)
    else:
        world.jumpcloud.unbind_group(world.application, old)
    new = world.group("Sales")
    world.jumpcloud.add_member(new, seller)
    world.person("newcomer", new)
    lost_state(world)
    out = world.run("apply").stdout
    newcomer = world.keeper.account("newcomer@example.com").id
    assert [one.id for one in world.keeper.teams().values() if one.name == "Sales"] == [team.id]
    if deleted:
        assert world.keeper.teams()[team.id].external_id == new
        assert newcomer in {*world.keeper.members(team.id), *world.keeper.pending_members(team.id)}
    else:
        assert "not in scope and not known to be deleted" in " ".join(out.split())
        assert world.keeper.teams()[team.id].external_id == old
        assert newcomer not in {*world.keeper.members(team.id), *world.keeper.pending_members(team.id)}


@pytest.mark.parametrize("whose", ["nobody's", "another group's"])
def test_a_team_that_answers_the_queueing_of_another_gets_nobody(world: World, whose: str) -> None:
    fill(world)
    nobodys = world.keeper.add_team("VAULT Admins")
    world.run("apply")
    world.keeper.approve_all()
    world.run("apply", "--resync")
    engineering = next(key for key, one in world.keeper.teams().items() if one.name == "Engineering")
    key, name = (nobodys, "Vault admins") if whose == "nobody's" else (engineering, "ENGINEERING")
    before, members = world.keeper.teams()[key], world.keeper.members(key)
    asked: list[str] = []

    def answer(_: object, request: Request) -> Response:
        asked.append(request.target)
        old = world.keeper.teams()[key]
        document = {"id": key, "displayName": old.name}
        return Response.of_json(200, document | ({"externalId": old.external_id} if old.external_id else {}))

    world.back.faults.add(Answered(answer), method="POST", target="/Groups")
    world.person("zoe", world.group(name))
    for arguments in (["apply"], ["apply"], ["apply", "--resync"]):
        out = " ".join(world.run(*arguments, expect=None).stdout.split())
        assert f"request for a team {name} led to the team {before.name}" in out
    assert len(asked) == 1
    assert world.keeper.teams()[key] == before and world.keeper.members(key) == members


def test_a_namesake_that_was_made_since_the_last_list_is_not_doubled(world: World) -> None:
    zoe = world.person("zoe", fill(world))
    world.run("apply")
    world.keeper.approve_all()
    world.run("apply", "--resync")
    namesake = world.keeper.add_team("Vault admins")
    group = world.group("Vault admins")
    world.jumpcloud.add_member(group, zoe)
    world.jumpcloud.settle_graph()
    out = " ".join(world.run("apply").stdout.split())
    assert "Vault admins: a Keeper team that is not ours has this name; nothing was queued and nobody added" in out
    assert [key for key, one in world.keeper.teams().items() if one.name == "Vault admins"] == [namesake]
    assert not world.keeper.members(namesake)


def test_an_account_that_keeper_did_not_show_for_one_cycle_is_no_birth(world: World) -> None:
    group = fill(world)
    left = world.person("left")
    account = there(world, "zoe@example.com", external_id=left)
    world.run("apply")
    zoe = world.person("zoe", group)
    assert "tied to another JumpCloud id" in " ".join(world.run("apply").stdout.split())
    hide(world, account)
    out = world.run("apply", "--resync", expect=None).stdout
    assert "The creation of zoe@example.com led to zoe@example.com" in " ".join(out.split())
    before = len(world.keeper.changes)
    world.run("apply", expect=None)
    assert len(world.keeper.changes) == before, "not created again while it is hidden"
    world.back.faults.clear()
    out = world.run("apply", "--resync").stdout
    assert "tied to another JumpCloud id" in " ".join(out.split())
    assert world.keeper.account(account).external_id == left != zoe
    assert not world.keeper.account(account).pending_teams and not world.keeper.account(account).teams


def test_the_address_of_somebody_who_was_given_up_leads_nobody_else_to_their_vault(world: World) -> None:
    group = fill(world)
    dora = world.person("dora", group)
    world.run("apply")
    account = world.keeper.account("dora@example.com").id
    world.keeper.accept_invitation(account)
    world.run("disown", "dora@example.com")
    world.run("apply", "--resync")
    world.jumpcloud.update_user(dora, email="dora.new@example.com")
    heir = joined(world, group, "dora@example.com")
    out = " ".join(world.run("apply", "--resync").stdout.split())
    assert "dora@example.com: the address dora@example.com belongs to the Keeper user of the JumpCloud user" in out
    world.run("adopt", "dora@example.com")
    world.run("apply", "--resync")
    assert world.keeper.account(account).external_id == dora != heir
    said = world.run("adopt", "dora@example.com", expect=1).stderr
    assert f"is managed already for the JumpCloud user {dora}, who has not left" in said


def test_adopt_of_a_team_is_meant_for_the_group_of_that_name_and_for_now(world: World) -> None:
    group = fill(world)
    teams = {name: world.keeper.add_team(name) for name in ("Sales", "Finance")}
    world.run("apply")
    for name in teams:
        assert "if a group of the same name is in scope" in world.run("adopt", "--team", name).stdout
    world.keeper.rename_team(teams["Sales"], "Board")
    zoe = joined(world, group, "zoe@example.com")
    world.jumpcloud.add_member(world.group("Board"), zoe)
    out = world.run("apply", "--resync").stdout
    assert "a Keeper team that is not ours has this name" in " ".join(out.split())
    world.jumpcloud.add_member(world.group("Finance"), zoe)
    world.run("apply", "--resync")
    assert not {*teams.values()} & {*world.keeper.account("zoe@example.com").pending_teams}
    assert not any(world.keeper.teams()[team].external_id for team in teams.values())
    world.run("adopt", "--team", "Finance")
    world.run("apply")
    assert teams["Finance"] in world.keeper.account("zoe@example.com").pending_teams


def test_a_team_that_somebody_made_in_the_place_of_the_deleted_one_is_taken_over_by_adopt(world: World) -> None:
    world.safety["max_grants"] = "100"  # such a team may have something shared with it, so that everybody in it counts
    world.write_settings()
    group = fill(world)
    world.run("apply")
    for one in world.keeper.accounts().values():
        world.keeper.accept_invitation(one.id)
    world.keeper.approve_all()
    world.run("apply", "--resync")
    [old] = world.keeper.teams()
    new = world.keeper.add_team("Engineering")
    world.run("resync")
    out = world.run("adopt", "--team", "Engineering", expect=1).stderr
    assert "is also the name of a Keeper team that is managed" in out and "nothing was changed" in out
    world.keeper.delete_team(old)
    world.run("resync")
    assert "will be taken over" in world.run("adopt", "--team", "Engineering").stdout
    for _ in range(2):
        world.run("resync", expect=None)
        two_minutes_after(world)
    assert [one.external_id for one in world.keeper.teams().values()] == [group]
    assert len(world.keeper.members(new)) == len(world.keeper.accounts())
    assert "nothing to do" in world.run("resync").stdout.lower()


@pytest.mark.parametrize("known", [True, False], ids=["ours before", "never ours"])
def test_a_leaver_who_was_invited_again_by_hand_is_named_with_the_way_to_lock_them(world: World, known: bool) -> None:
    told = world.folder / "told.json"
    world.write_settings(notify=f'[notify]\ncommand = ["/bin/sh", "-c", "cat >> {told}"]\n')
    group = fill(world)
    eve = world.person("eve", *([group] if known else []))
    world.run("apply")
    if known:
        world.keeper.delete_user("eve@example.com")
    new = there(world, "eve@example.com")
    world.jumpcloud.suspend(eve)
    world.jumpcloud.add_member(group, eve)
    world.jumpcloud.settle_graph()
    world.run("apply")
    out = " ".join(world.run("apply", "--resync").stdout.split())
    assert "reconciler adopt eve@example.com" in out
    why = world.run("explain", "eve@example.com").stdout
    assert "is active, and not managed by us" in why and "reconciler adopt eve@example.com" in why
    if known:
        assert "has the address of somebody who has left" in out
        left = " ".join(world.run("leavers").stdout.split())
        assert (
            "a new Keeper user with the same address is, active and not managed" in left
            and "reconciler adopt eve@" in left
        )
        assert "to have it locked: reconciler adopt eve@example.com" in told.read_text()
    said = world.run("adopt", "eve@example.com").stdout
    assert "1 Keeper user will be taken over with the next plan." in said
    assert "eve@example.com: suspended in JumpCloud" in world.run("apply", expect=4).stdout
    world.run("release", "--reason", "She left")
    assert not world.keeper.account(new).active
    left = " ".join(world.run("leavers").stdout.split())
    assert "eve@example.com: locked (suspended in JumpCloud)" in left and "has come back" not in left
    assert ("they have another Keeper user" in left) is known and "NOT VERIFIABLE" not in left
    world.jumpcloud.activate(eve)
    world.run("apply")
    assert world.keeper.account(new).active and world.keeper.account(new).external_id == eve


def test_ids_that_two_accounts_have_exchanged_are_sorted_out_by_adopt_and_nobody_is_to_be_deleted(world: World) -> None:
    group = fill(world)
    anna, bob = (world.person(name, group) for name in ("anna", "bob"))
    hers, his = there(world, "anna@example.com", external_id=bob), there(world, "bob@example.com", external_id=anna)
    out = " ".join(world.run("apply").stdout.split())
    for email in ("anna@example.com", "bob@example.com"):
        assert f"of the other JumpCloud user, who has its address: reconciler adopt {email}" in out
    assert "delete that Keeper user" not in out
    for email in ("anna@example.com", "bob@example.com"):
        world.run("adopt", email)
        world.run("apply", "--resync")
    assert (world.keeper.account(hers).external_id, world.keeper.account(his).external_id) == (anna, bob)
    assert world.keeper.account(hers).pending_teams and world.keeper.account(his).pending_teams


def test_who_was_given_up_deleted_and_invited_again_is_no_ghost_and_comes_back_by_adopt(world: World) -> None:
    group = fill(world)
    dora = world.person("dora", group)
    world.run("apply")
    world.run("disown", "dora@example.com")
    world.run("apply", "--resync")
    world.keeper.delete_user("dora@example.com")
    new = there(world, "dora@example.com")
    out = " ".join(world.run("apply", "--resync").stdout.split())
    assert "in scope, but given up by a person" in out and "not in scope in JumpCloud" not in out
    assert "1 Keeper user will be taken over" in world.run("adopt", "dora@example.com").stdout
    world.run("apply")
    assert world.keeper.account(new).external_id == dora


def test_a_team_that_was_rejected_in_the_queue_gives_way_to_one_that_is_made_by_hand_and_adopted(world: World) -> None:
    world.keeper.set_dialect(shows_queued_teams=False)
    fill(world)
    world.run("apply")
    for one in world.keeper.accounts().values():
        world.keeper.accept_invitation(one.id)
    world.keeper.approve_all()
    world.run("resync")
    law = world.group("Law")
    world.person("lena", law)
    world.run("apply")
    world.keeper.accept_invitation("lena@example.com")
    assert 'reconciler adopt --team "NAME"' in world.run("teams").stdout
    world.keeper.delete_team("Law")
    world.run("resync", expect=None)
    made = world.keeper.add_team("Law")
    world.run("resync", expect=None)
    assert "will be taken over" in world.run("adopt", "--team", "Law").stdout
    world.run("resync", expect=None)
    assert world.keeper.teams()[made].external_id == law
    world.run("resync", "lena@example.com")
    assert made in world.keeper.account("lena@example.com").teams
    assert "nothing to do" in world.run("resync").stdout.lower()


def test_resync_by_a_former_address_meets_nobody_who_has_the_new_one(world: World) -> None:
    """The account of the one is gone, and Keeper still shows the new address as that of the other."""
    group = fill(world)
    olga, jodi = joined(world, group, "olga@example.com"), joined(world, group, "jodi@example.com")
    world.run("apply")
    accept(world)
    before = world.keeper.account("jodi@example.com")
    world.keeper.delete_user("olga@example.com")
    world.jumpcloud.update_user(jodi, email="vito@example.com")
    world.jumpcloud.update_user(olga, email="jodi@example.com")
    for _ in range(2):
        world.run("apply", "--resync", expect=None)
    out = " ".join(world.run("resync", "olga@example.com", expect=None).stdout.split())
    assert "The creation of" not in out and "belongs to the Keeper user of the JumpCloud user vito" in out
    assert world.keeper.account(before.id) == before


def test_history_tells_who_gave_an_account_to_somebody_else_whenever_that_is_sent(world: World) -> None:
    """The next cycle on schedule carried it out, so that neither who decided it nor why could be found."""
    group = fill(world)
    world.run("apply")
    accept(world)
    left = world.jumpcloud.find_user("p0@example.com")
    keeper_id = account(world, left).id
    world.jumpcloud.delete_user(left)
    world.run("apply")
    rehired = world.person("p0", group)
    inside = Inside(world)
    inside.run(cycle.Order(by="schedule"))
    world.run("adopt", "p0@example.com", "--reason", "rehired, ticket 7")
    # The first attempt fails: what the next one does follows from the same decision.
    world.keeper.refuse(keeper_id)
    inside.run(cycle.Order(by="schedule"))
    world.keeper.refuse(keeper_id, None)
    inside.later(hours=2)
    inside.run(cycle.Order(by="schedule"))
    assert account(world, rehired).active
    found = json.loads(world.run("history", "p0@example.com", "--json").stdout)["operations"]
    assert [(op["kind"], op["result"]) for op in found[:2]] == [
        ("reactivate_user", "done"),
        ("reactivate_user", "failed"),
    ]
    for op in found[:2]:
        assert (
            op["decision"]["kind"] == "adopt"
            and op["decision"]["by"]
            and op["decision"]["reason"] == "rehired, ticket 7"
        )
    by = found[0]["decision"]["by"]
    said = " ".join(world.run("history", "p0@example.com", "--by", by).stdout.split())
    assert f"unlocked: back in scope through Engineering; adopted by {by} (rehired, ticket 7)" in said
    # What happens to them later follows from JumpCloud alone.
    world.jumpcloud.suspend(rehired)
    inside.run(cycle.Order(by="schedule"))
    assert json.loads(world.run("history", "p0@example.com", "--json").stdout)["operations"][0]["decision"] is None
    world.run("disown", "p0@example.com", "--reason", "a shared account")
    inside.run(cycle.Order(by="schedule"))
    (last, *_) = json.loads(world.run("history", "p0@example.com", "--json").stdout)["operations"]
    assert (last["rule"], last["decision"]["kind"], last["decision"]["reason"]) == (
        "disowned",
        "disown",
        "a shared account",
    )
