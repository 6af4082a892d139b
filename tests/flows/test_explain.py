"""`explain`: the help desk's page, through the real command line."""

import json
from typing import Any

import pytest

from reconciler import http
from reconciler.simulator.faults import status
from tests.flows.test_look_back import EVIL, fill, flat
from tests.inside import Inside, accept, account
from tests.stage import API_KEY, World


def explain(world: World, email: str, *more: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(world.run("explain", email, "--json", *more).stdout)
    return found


def page(world: World, email: str) -> str:
    """The text: harmless, of the right width, and written nowhere."""
    state = world.folder / "state" / "reconciler.db"
    before = (world.writes(), state.read_bytes())
    text = world.run("explain", email).stdout
    assert (world.writes(), state.read_bytes()) == before
    assert "\x1b" not in text
    assert all(len(line) <= 110 for line in text.splitlines())
    return flat(text)


def verdict(found: dict[str, Any]) -> tuple[str, str | None]:
    return found["verdict"]["kind"], found["remedy"]["command"]


@pytest.fixture
def people(world: World) -> list[str]:
    ids = fill(world)
    world.run("apply")
    accept(world)
    world.keeper.approve_all()
    world.run("resync")
    return ids


def account_of(world: World, jumpcloud_id: str) -> str:
    return next(a.id for a in world.keeper.accounts().values() if a.external_id == jumpcloud_id)


@pytest.mark.usefixtures("people")
def test_all_is_well_with_everything_that_was_done(world: World) -> None:
    world.front.requests.clear()
    world.back.requests.clear()
    text = page(world, "P0@example.com")
    assert text.endswith("enterprise-user --invite p0@example.com")
    assert "created: joined the scope through Engineering" in text
    assert len(world.front.requests) + len(world.back.requests) <= 12
    found = explain(world, "P0@example.com")
    assert verdict(found) == ("in_line", "enterprise-user --invite p0@example.com")
    assert found["verdict"]["text"] == "in scope in JumpCloud through Engineering; active in Keeper."
    assert found["jumpcloud"]["groups"] == ["Engineering"]
    (account,) = found["keeper"]
    assert account["teams"] == [{"name": "Engineering", "state": "member", "asked_at": account["teams"][0]["asked_at"]}]
    assert [op["kind"] for op in found["history"]["operations"]] == ["create_user"]
    assert found["next"]["operations"] == []


def test_what_the_next_cycle_does_and_by_which_rule(world: World, people: list[str]) -> None:
    world.jumpcloud.suspend(people[0])
    found = explain(world, "p0@example.com")
    assert verdict(found) == ("due", "reconciler resync p0@example.com")
    (op,) = found["next"]["operations"]
    assert (op["kind"], op["rule"], op["sent"]) == ("deactivate_user", "suspended", True)
    text = page(world, "p0@example.com")
    assert "lock: suspended in JumpCloud [rule suspended]" in text
    assert text.endswith("reconciler resync p0@example.com")
    world.run("apply")
    found = explain(world, "p0@example.com")
    assert verdict(found) == ("out_of_scope", "reconciler resync p0@example.com")
    assert found["verdict"]["because"] == "Suspended in JumpCloud, so no access."
    assert found["verdict"]["text"] == "suspended in JumpCloud; locked in Keeper by us."
    world.keeper.unlock(account_of(world, people[0]))
    found = explain(world, "p0@example.com")
    (op,) = found["next"]["operations"]
    assert op["cause"] == "drift"
    assert found["verdict"]["because"].startswith("Due with the next resync at the latest: unlocked in Keeper")
    world.run("apply")
    assert verdict(explain(world, "p0@example.com"))[0] == "due", "a cycle does not look at Keeper"


@pytest.mark.usefixtures("people")
def test_who_joins_and_who_is_in_jumpcloud_only(world: World) -> None:
    world.person("joiner", next(iter(world.jumpcloud.groups_in_scope(world.application))))
    found = explain(world, "joiner@example.com")
    assert verdict(found) == ("due", "reconciler resync joiner@example.com")
    assert found["next"]["operations"][0]["kind"] == "create_user"
    world.person("outsider")
    found = explain(world, "outsider@example.com")
    assert found["verdict"]["kind"] == "out_of_scope"
    assert "Engineering, Sales" in found["remedy"]["step"]
    assert found["keeper"] == []
    assert found["verdict"]["because"] == "Not in scope, and without an account in this Keeper node."
    assert "; not in this Keeper node when it was last read (its last list: " in found["verdict"]["text"]


@pytest.mark.usefixtures("people")
def test_who_is_unknown_and_who_is_in_keeper_only(world: World) -> None:
    found = explain(world, "p00@example.com")
    assert verdict(found) == ("unknown", None)
    assert found["verdict"]["because"].endswith("Near it: p0@example.com.")
    found = explain(world, "somebody@example.com")
    assert found["verdict"]["because"].endswith("Nor is any that is known here like it.")
    world.keeper.add_user("ghost@example.com")
    world.run("resync")
    assert verdict(explain(world, "ghost@example.com")) == ("ghost", "reconciler adopt ghost@example.com")


def test_who_was_deleted_in_jumpcloud_keeps_a_page(world: World, people: list[str]) -> None:
    world.jumpcloud.delete_user(people[0])
    world.jumpcloud.settle_graph()
    found = explain(world, "p0@example.com")
    assert found["next"]["operations"][0]["rule"] == "deleted"
    world.run("apply")
    found = explain(world, "p0@example.com")
    assert found["verdict"]["text"] == "unknown in JumpCloud; locked in Keeper by us."
    assert [op["kind"] for op in found["history"]["operations"]] == ["deactivate_user", "create_user"]


def test_who_decides_otherwise(world: World, people: list[str]) -> None:
    world.run("disown", "p1@example.com")
    assert verdict(explain(world, "p1@example.com")) == ("disowned", "reconciler adopt p1@example.com")
    world.keeper.lock(account_of(world, people[2]))
    found = explain(world, "p2@example.com")
    assert verdict(found) == ("locked_in_keeper", "reconciler resync p2@example.com --unlock")
    world.policy |= {"protect": '["p3@example.com"]', "grace": '"2h"', "only": '{ users = ["p5@example.com"] }'}
    world.write_settings()
    world.jumpcloud.suspend(people[3])
    assert explain(world, "p3@example.com")["verdict"]["kind"] == "protected"
    world.jumpcloud.update_user(people[4], firstname="Other", displayname="Other Test")
    assert explain(world, "p4@example.com")["verdict"]["kind"] == "outside_pilot"
    world.jumpcloud.remove_member(next(iter(world.jumpcloud.in_scope(world.application)[people[5]])), people[5])
    world.jumpcloud.settle_graph()
    found = explain(world, "p5@example.com")
    assert found["verdict"]["kind"] == "in_grace"
    assert found["verdict"]["because"].startswith("Left the scope at")


def test_two_people_who_claim_one_address(world: World, people: list[str]) -> None:
    world.jumpcloud.delete_user(people[0])
    world.person("p0", next(iter(world.jumpcloud.groups_in_scope(world.application))))
    found = explain(world, "p0@example.com")
    assert found["verdict"]["kind"] == "conflict"
    assert found["verdict"]["because"].startswith("Not managed, because the address p0@example.com belongs to")
    assert found["remedy"]["command"] == "reconciler adopt p0@example.com", "a rehire, perhaps"
    assert f"; this was another JumpCloud user, {people[0]}" in " ".join(page(world, "p0@example.com").split())
    assert "another JumpCloud user, " not in page(world, "p1@example.com")


def test_whose_creation_an_alias_led_to_another_account_is_to_be_adopted_by_their_own_address(world: World) -> None:
    staff = world.group("Engineering")
    world.person("p0", staff)
    world.run("apply")
    world.keeper.set_dialect(links_aliases=True)
    account = world.keeper.add_user("zoe.alt@example.com")
    world.keeper.change_email(account, "zoe@example.com", keep_alias=True)
    world.keeper.change_email(account, "zoe.alt@example.com", keep_alias=True)
    world.run("resync")
    world.person("zoe", staff)
    world.run("apply", expect=None)
    found = explain(world, "zoe@example.com")
    assert found["verdict"]["kind"] == "conflict"
    assert found["remedy"]["command"] == "reconciler adopt zoe@example.com"


def test_two_jumpcloud_users_with_one_address(world: World) -> None:
    world.person("p0", world.group("Engineering"))
    other = world.jumpcloud.add_user("p0@example.com", username="other", state="ACTIVATED")
    found = explain(world, "p0@example.com")
    assert found["verdict"]["kind"] == "conflict"
    assert found["verdict"]["because"] == "Not managed, because several JumpCloud users have this address."
    world.jumpcloud.delete_user(other)
    world.run("apply")
    world.jumpcloud.add_user("p0@example.com", username="other", state="ACTIVATED")
    because = explain(world, "p0@example.com")["verdict"]["because"]
    assert because == "In conflict: several JumpCloud users have this address."


def test_a_conflict_of_somebody_managed_is_not_said_to_end_that(world: World, people: list[str]) -> None:
    world.jumpcloud.update_user(people[0], email="p1@example.com")
    world.jumpcloud.update_user(people[1], email="p0@example.com")
    for email in ("p0@example.com", "p1@example.com"):
        found = explain(world, email)
        assert found["verdict"]["kind"] == "conflict"
        assert found["verdict"]["because"].startswith("In conflict: the new JumpCloud ")
        assert {account["standing"] for account in found["keeper"]} == {"managed"}


def test_what_is_held_and_how_to_let_it_through(world: World, people: list[str]) -> None:
    for one in people[:7]:
        world.jumpcloud.delete_user(one)
    world.jumpcloud.settle_graph()
    due = explain(world, "p0@example.com")
    assert due["next"]["held"] == []  # nothing was held yet, and one alone is within the limits
    world.run("apply", expect=4)
    found = explain(world, "p0@example.com")
    assert verdict(found) == ("held", "reconciler resync p0@example.com")
    plan = json.loads(world.run("status", "--json").stdout)["held"]["plan"]
    assert f"reconciler release {plan}" in found["remedy"]["step"]
    assert "held since" in found["verdict"]["because"]
    assert not found["next"]["operations"][0]["sent"]
    assert verdict(explain(world, "p11@example.com"))[0] == "in_line"


def test_the_first_plan_is_reviewed_before_anybody_has_access(world: World) -> None:
    world.safety.clear()
    world.write_settings()
    fill(world, 3)
    before = explain(world, "p0@example.com")
    assert verdict(before) == ("held", "reconciler plan --save plan.json")
    world.run("apply", "--yes", expect=4)
    assert verdict(explain(world, "p0@example.com")) == ("held", "reconciler plan --save plan.json")


def test_a_new_member_of_a_reviewed_group_waits_for_a_release(world: World, people: list[str]) -> None:
    world.teams["review"] = '["Sales"]'
    world.write_settings()
    ids = {name: group for group, name in world.jumpcloud.groups_in_scope(world.application).items()}
    world.jumpcloud.add_member(ids["Sales"], people[0])
    world.jumpcloud.settle_graph()
    assert verdict(explain(world, "p0@example.com")) == ("held", "reconciler release")
    world.run("apply", expect=4)
    kind, command = verdict(explain(world, "p0@example.com"))
    assert kind == "held"
    assert command is not None
    assert command.startswith("reconciler release ")
    world.run(*command.split()[1:])
    assert verdict(explain(world, "p0@example.com"))[0] == "in_line"


def test_a_pause_comes_before_what_holds_beside_it_and_what_is_advised_works(world: World, people: list[str]) -> None:
    for one in people[:7]:
        world.jumpcloud.delete_user(one)
    world.jumpcloud.settle_graph()
    world.run("pause", "--reason", "an audit")
    world.run("apply", expect=4)
    found = explain(world, "p0@example.com")
    assert [hold["limit"] for hold in found["next"]["held"]] == ["paused", "max_deactivations"]
    assert "reconciler release" not in found["remedy"]["step"]
    kind, command = verdict(found)
    assert (kind, command) == ("held", "reconciler resync p0@example.com")
    world.run(*str(command).split()[1:])
    assert not account(world, people[0]).active


def test_what_no_look_at_one_person_passes_begins_with_the_end_of_a_pause(world: World, people: list[str]) -> None:
    world.teams["review"] = '["Sales"]'
    world.write_settings()
    ids = {name: group for group, name in world.jumpcloud.groups_in_scope(world.application).items()}
    world.jumpcloud.add_member(ids["Sales"], people[0])
    world.jumpcloud.settle_graph()
    world.run("pause", "--reason", "an audit")
    for _ in range(2):
        assert verdict(explain(world, "p0@example.com")) == ("held", "reconciler resume")
        world.run("apply", expect=4)
    world.run("resume")
    assert verdict(explain(world, "p0@example.com"))[1].startswith("reconciler release ")  # type: ignore[union-attr]


def test_who_keeps_failing_is_paused_until(world: World, people: list[str]) -> None:
    world.back.faults.add(status(400), method="PATCH", target="/Users", times=1)
    world.jumpcloud.update_user(people[0], firstname="Other", displayname="Other Test")
    world.run("apply", expect=5)
    found = explain(world, "p0@example.com")
    assert verdict(found) == ("failing", "reconciler resync p0@example.com")
    assert "Tried again after" in found["verdict"]["because"]
    assert not found["next"]["operations"][0]["sent"]
    assert found["history"]["operations"][0]["result"] == "failed"


def test_what_waits_for_approval(world: World) -> None:
    world.keeper.set_dialect(shows_queued_teams=False, shows_pending_memberships=False)
    fill(world, 2)
    world.run("apply")
    found = explain(world, "p0@example.com")
    assert verdict(found) == ("waiting", "team-approve")
    assert found["keeper"][0]["teams"][0]["state"] == "waiting"


def test_a_service_that_does_not_answer_and_offline(world: World, people: list[str]) -> None:
    offline = explain(world, "p0@example.com", "--offline")
    known = "in scope when JumpCloud was last read; active in Keeper when it was last read (its last list: "
    assert offline["verdict"]["text"].startswith(known)
    assert set(offline["unread"]) == {"jumpcloud", "keeper"}
    assert offline["keeper"][0]["teams"][0]["name"] == "Engineering"
    world.keeper.lock(account_of(world, people[0]))
    world.jumpcloud.revoke_api_key(API_KEY)
    found = explain(world, "p0@example.com")
    assert set(found["unread"]) == {"jumpcloud"}
    assert found["verdict"]["text"] == "in scope when JumpCloud was last read; locked in Keeper by somebody else."
    assert found["next"] is None
    told = page(world, "p0@example.com")
    assert "In JumpCloud could not be read" in told and "ask again when JumpCloud answers:" in told
    world.jumpcloud.add_api_key(API_KEY)
    world.keeper.new_token()
    found = explain(world, "p0@example.com")
    assert set(found["unread"]) == {"keeper"}
    known = "in scope in JumpCloud through Engineering; active in Keeper when it was last read (its last list: "
    assert found["verdict"]["text"].startswith(known)
    assert found["next"]["operations"] == []
    assert verdict(found) == ("unread", "reconciler explain p0@example.com")
    assert "both sides agree" not in page(world, "p0@example.com")


def test_a_leaver_has_no_access_only_as_long_as_keeper_says_so(world: World, people: list[str]) -> None:
    world.jumpcloud.suspend(people[0])
    world.run("apply")
    assert "so no access" in page(world, "p0@example.com")
    world.keeper.unlock(account_of(world, people[0]))
    world.keeper.new_token()
    found = explain(world, "p0@example.com")
    assert found["verdict"]["kind"] == "unread"
    assert "; locked in Keeper by us when it was last read (its last list: " in found["verdict"]["text"]
    assert "so no access" not in page(world, "p0@example.com")


def test_of_a_leaver_who_went_to_another_node_since_the_lock_nothing_is_said_about_access(
    world: World, people: list[str]
) -> None:
    world.jumpcloud.suspend(people[0])
    world.run("apply")
    world.keeper.delete_user(account_of(world, people[0]))  # over SCIM there is no difference
    world.run("resync")
    found = explain(world, "p0@example.com")
    assert found["verdict"]["text"] == "suspended in JumpCloud; not in this Keeper node any more."
    assert found["verdict"]["because"] == "Suspended in JumpCloud, and without an account in this Keeper node."


def test_an_empty_state_file_and_a_strange_address(world: World) -> None:
    assert verdict(explain(world, "nobody@example.com")) == ("unknown", None)
    assert verdict(explain(world, "nobody@example.com", "--offline"))[0] == "unread"
    assert verdict(explain(world, f"{EVIL}@example.com"))[0] == "unknown"
    assert verdict(explain(world, "not an address"))[0] == "unknown"


def test_hostile_names_are_harmless(world: World) -> None:
    world.person("eve", world.group(f"{EVIL} Team"), displayname=EVIL)
    world.run("apply")
    found = explain(world, "eve@example.com")
    assert found["jumpcloud"]["display_name"] == EVIL
    assert found["keeper"][0]["teams"][0]["name"] == f"{EVIL} Team"
    assert "team \\x1b[31mEvil\\u202e Team" in page(world, "eve@example.com")


def test_a_record_of_keepers_that_cannot_be_read_is_looked_at_in_keeper(world: World, people: list[str]) -> None:
    world.keeper.show_oddly(account(world, people[0]).id, {"groups": "none"})
    world.run("apply", "--resync", expect=None)
    found = explain(world, "p0@example.com")
    assert found["verdict"]["because"].startswith("Keeper's record cannot be read (groups): it counts as it was")
    step = "Look at the user in the Admin Console (Admin > Users); if it stays so, ask Keeper support."
    assert found["remedy"]["step"] == step


def test_what_cycles_that_fail_do_not_do_is_not_promised_for_the_next_one(world: World, people: list[str]) -> None:
    world.front.faults.add(status(403), target="/api/v2/applications/[0-9a-f]+/users")
    world.jumpcloud.suspend(people[0])
    world.run("apply", expect=1)
    found = explain(world, "p0@example.com")
    assert verdict(found) == ("due", "reconciler resync p0@example.com")
    words = found["verdict"]["because"]
    assert (
        words.startswith("Due (suspended in JumpCloud), but the newest cycle, on 20") and "did not do it: Jump" in words
    )
    world.front.faults.clear()
    world.run("apply")
    assert explain(world, "p0@example.com")["verdict"]["kind"] == "out_of_scope"


def test_what_keeper_did_not_do_is_not_promised_for_the_next_cycle(
    world: World, people: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "BACKOFF", (0.01, 0.01))
    world.back.faults.add(status(504), method="PATCH")
    world.jumpcloud.suspend(people[0])
    assert Inside(world).run().result == "partial"
    words = explain(world, "p0@example.com")["verdict"]["because"]
    assert "Due (suspended in JumpCloud), but not known to be done since it was sent, on 20" in words


def test_a_newcomer_is_named_while_keeper_cannot_be_listed(world: World, people: list[str]) -> None:
    assert people
    world.keeper.refuse("Groups", 403)
    world.person("joiner", world.group("Support"))
    said = flat(world.run("apply", expect=1).stdout)
    assert "1 person and 1 team and 1 finding are not in line" in said
    assert "Support: not queued: Keeper could not be listed" in said
    assert "joiner@example.com: in scope, and not created: Keeper could not be listed" in said
    assert "that the licence includes automated provisioning" in said, "the advice is not cut off"
    assert "joiner@example.com: in scope, and not created" in flat(world.run("plan").stdout)
    assert "failed, by root: not made: joiner@example.com, Support." in flat(world.run("status").stdout)
    words = explain(world, "joiner@example.com")["verdict"]["because"]
    assert words.startswith("Due (joined the scope through ") and "Keeper's list of teams was not read" in words
    world.keeper.refuse("Groups", None)
    world.run("apply")
    assert explain(world, "joiner@example.com")["verdict"]["kind"] in ("in_line", "waiting")


def test_a_lock_of_ours_without_an_answer_is_not_told_as_somebody_elses(world: World, people: list[str]) -> None:
    world.jumpcloud.suspend(people[0])
    world.kill_after(1, "apply")
    assert not account(world, people[0]).active
    found = explain(world, "p0@example.com")
    assert found["verdict"]["text"] == "suspended in JumpCloud; locked in Keeper by us."
    assert verdict(found) == ("out_of_scope", "reconciler resync p0@example.com")


def test_the_account_of_somebody_else_at_the_address_is_told_as_keeper_shows_it(
    world: World, people: list[str]
) -> None:
    locked = account_of(world, people[0])
    world.jumpcloud.update_user(people[0], email="new@example.com")
    world.jumpcloud.update_user(people[1], email="p0@example.com")
    world.run("apply")
    world.keeper.lock(locked)
    told = {one["keeper_id"]: one["active"] for one in explain(world, "p0@example.com")["keeper"]}
    assert told == {locked: False, account_of(world, people[1]): True}
