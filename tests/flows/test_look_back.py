"""The reports about people, teams and what was done, through the real command line."""

import csv
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from reconciler.simulator.faults import status
from reconciler.store import Store
from tests.inside import accept, account
from tests.stage import API_KEY, World

EVIL = "\x1b[31mEvil\u202e"


def fill(world: World, people: int = 12) -> list[str]:
    groups = [world.group("Engineering"), world.group("Sales")]
    return [world.person(f"p{n}", groups[n % 2]) for n in range(people)]


def document(world: World, *arguments: str, expect: int = 0) -> Any:
    return json.loads(world.run(*arguments, expect=expect).stdout)


def flat(text: str) -> str:
    """A report without its line breaks."""
    return " ".join(text.split())


# -- status and teams -----------------------------------------------------------------------------------------------


def test_status_tells_what_is_held_since_when_and_whom_it_is_about(world: World) -> None:
    people = fill(world)
    world.run("apply")
    for one in people[:7]:
        world.jumpcloud.delete_user(one)
    world.jumpcloud.settle_graph()
    world.run("apply", expect=4)
    first = document(world, "status", "--json")
    world.jumpcloud.revoke_api_key(API_KEY)
    world.run("apply", expect=1)
    assert "failed" in world.run("status").stdout
    world.jumpcloud.add_api_key(API_KEY)
    world.run("apply", expect=4)
    held = document(world, "status", "--json")["held"]
    assert held["since"] == first["runs"][0]["started_at"]
    assert held["counts"] == {"deactivate_user": 7}
    assert "p0@example.com" in held["subjects"]
    assert [reason["limit"] for reason in held["reasons"]] == ["max_deactivations"]
    assert "root" in held["released_by"]
    text = world.run("status").stdout
    assert f"reconciler release {held['plan']}" in text
    assert "p0@example.com" in text
    assert "The oldest leaver: p" in text
    world.run("resync", "p11@example.com")
    assert document(world, "status", "--json")["held"] == held
    world.run("release")
    status = document(world, "status", "--json")
    assert status["held"] is None
    assert status["users"]["oldest_leaver"] is None
    assert status["decisions"] == [], "a release that is used up is not open any more"


def test_status_says_that_cycles_fail_whatever_is_held(world: World) -> None:
    people = fill(world)
    world.run("apply")
    for one in people[:7]:
        world.jumpcloud.delete_user(one)
    world.jumpcloud.settle_graph()
    world.run("apply", expect=4)
    assert "FAIL" not in world.run("status").stdout
    world.jumpcloud.revoke_api_key(API_KEY)
    world.run("apply", expect=1)
    assert world.run("status").stdout.startswith("The last cycle FAILED, on ")
    world.run("apply", expect=1)
    first, held = (line for line in world.run("status").stdout.splitlines() if "FAIL" in line or "HELD" in line)
    assert first.startswith("CYCLES FAIL: 2 since ") and held.startswith("HELD since ")
    world.jumpcloud.add_api_key(API_KEY)
    world.run("apply", expect=4)
    assert "FAIL" not in world.run("status").stdout


def test_status_names_whoever_was_asked_for_without_a_known_outcome(world: World) -> None:
    group = world.group("Sales")
    world.person("ada", group)
    world.run("apply")
    assert document(world, "status", "--json")["unsettled"] == []
    world.person("joe", group)
    world.back.faults.add(status(200, b"<html>Maintenance</html>"), method="POST", target="/Users")
    world.run("apply", expect=5)
    world.run("apply", expect=5)
    (found,) = document(world, "status", "--json")["unsettled"]
    assert (found["subject"], found["kind"]) == ("joe@example.com", "create_user")
    assert "Without a known outcome: joe@example.com: create, sent on " in flat(world.run("status").stdout)


def test_status_says_that_only_resyncs_fail(world: World) -> None:
    fill(world)
    world.run("apply")
    world.back.faults.add(status(401))
    world.run("resync", expect=1)
    assert world.run("status").stdout.startswith("The last cycle FAILED, on ")
    world.run("apply")
    assert world.run("status").stdout.startswith("The last resync FAILED, on ")


def test_status_ends_each_sentence_once(world: World) -> None:
    world.run("apply")
    world.jumpcloud.update_application(world.application, displayLabel="Keeper SSO")
    world.run("apply", expect=1)
    told = flat(world.run("status").stdout)
    assert "Did you mean 'Keeper SSO'?" in told and "?." not in told


def test_status_tells_whether_the_service_runs_and_what_it_does_next(world: World) -> None:
    world.run("apply")
    path = world.folder / "state" / "reconciler.db"

    def told() -> str:
        return flat(world.run("status").stdout)

    assert "ervice" not in told(), "there never was one"
    with Store.open(path, write=True, takes_requests=True) as store:  # whoever has it open so stands for the service
        store.set_meta("next_cycle", (datetime.now(UTC) + timedelta(minutes=5)).isoformat())
        assert "Next cycle: " in told()
        store.set_meta("next_cycle", (datetime.now(UTC) - timedelta(hours=1)).isoformat())
        assert "Does the service hang?" in told()
        run = store.begin_run("cycle", datetime.now(UTC) - timedelta(hours=1), by="schedule", reason="")
        assert "A run is under way since" in told(), "a long one is not overdue"
        assert "hang" not in told()
        lane = store.begin_run("leavers", datetime.now(UTC), by="schedule", reason="")
        store.finish_run(lane, datetime.now(UTC), "done")
        assert "A run is under way since" in told() and "hang" not in told(), "the leaver lane runs beside it"
        assert [one["result"] for one in document(world, "status", "--json")["runs"]][:2] == ["done", "under way"]
    assert "The service has ended without being told to." in told()
    assert document(world, "status", "--json")["runs"][1]["result"] == "cut off"
    with Store.open(path, write=True) as store:
        store.finish_run(run, datetime.now(UTC), "nothing")
        store.set_meta("next_cycle", "")
    assert "ervice" not in told(), "it was told to stop"


def test_a_pause_is_the_first_that_status_and_apply_tell(world: World) -> None:
    people = fill(world, 12)
    world.run("apply")
    world.run("apply")
    assert "Last run: nothing to do, " in world.run("status").stdout
    world.run("pause", "--reason", "vaults are moved")
    for one in people[:7]:
        world.jumpcloud.suspend(one)
    said = flat(world.run("apply", expect=4).stdout)
    assert said.startswith("PAUSED: nothing was sent. All writes were paused by")
    assert "max_deactivations" in said
    shown = flat(world.run("status").stdout)
    assert shown.startswith("PAUSED by ") and ": vaults are moved. Nothing is sent but" in shown
    world.run("resume")
    assert "PAUSED" not in world.run("status").stdout


def test_status_names_who_fails_and_what_is_open(world: World) -> None:
    world.keeper.set_dialect(shows_queued_teams=False, shows_pending_memberships=False)
    fill(world, 4)
    world.back.faults.add(status(400), method="POST", target="/Users", times=3)  # without the teams, and names
    world.run("apply", expect=5)
    world.run("allow", "--deactivations", "5", "--reason", f"reorganisation {EVIL}")
    found = document(world, "status", "--json")
    (failing,) = found["failing"]
    assert failing["subject"].endswith("@example.com")
    assert failing["times"] == 1
    assert failing["paused_until"] > failing["last"]
    (allow,) = [entry for entry in found["decisions"] if entry["kind"] == "allow"]
    assert (allow["deactivations"], allow["used"]) == (5, 0)
    assert {entry["team"] for entry in found["teams"]["waiting"]} == {"Engineering", "Sales"}
    text = world.run("status").stdout
    assert f"Failing: {failing['subject']}" in text
    assert "Waiting: Engineering: the team and" in text
    assert "up to 5 more people may be locked, 0 were" in text
    assert "\x1b" not in text
    assert "\\x1b[31mEvil\\u202e" in text


def test_status_counts_of_an_announced_lay_off_what_may_have_arrived_as_the_limits_do(world: World) -> None:
    people = fill(world)
    world.run("apply")
    world.run("allow", "--deactivations", "7", "--reason", "reorganisation")
    for one in people[:7]:
        world.jumpcloud.delete_user(one)
    world.jumpcloud.settle_graph()
    world.back.faults.add(status(400), method="PATCH", target="/Users", times=1)
    world.run("apply", expect=5)
    (allow,) = document(world, "status", "--json")["decisions"]
    assert (allow["used"], allow["left"]) == (6, 1)
    assert "up to 1 more person may be locked, 6 were" in flat(world.run("status").stdout)


def test_teams_with_their_members_and_what_waits(world: World) -> None:
    world.keeper.set_dialect(shows_queued_teams=False, shows_pending_memberships=False)
    people = fill(world, 4)
    world.group(EVIL)
    world.run("apply")
    found = document(world, "teams", "--json")
    by_name = {team["name"]: team for team in found["teams"]}
    assert by_name["Engineering"]["waiting_since"]
    assert [(m["email"], m["state"]) for m in by_name["Engineering"]["members"]] == [
        ("p0@example.com", "waiting"),
        ("p2@example.com", "waiting"),
    ]
    accept(world)
    world.keeper.approve_all()
    accounts = {a.external_id: a for a in world.keeper.accounts().values()}
    team_of = {t.name: t.id for t in world.keeper.teams().values()}
    world.keeper.add_team("By hand only")
    world.keeper.add_member(accounts[people[0]].id, team_of["Sales"])
    world.run("resync")
    found = document(world, "teams", "--json")
    by_name = {team["name"]: team for team in found["teams"]}
    assert {entry["team"]: entry["listed"] for entry in found["waiting"]} == dict.fromkeys(
        by_name.keys() - {"By hand only"}, True
    )
    assert by_name["Sales"]["approval"] == "not_visible", "being listed is no approval"
    assert {(m["email"], m["state"]) for m in by_name["Sales"]["members"]} == {
        ("p0@example.com", "by_hand"),
        ("p1@example.com", "member"),
        ("p3@example.com", "member"),
    }
    text = world.run("teams").stdout
    assert "given in Keeper: p0@example.com" in text
    assert "3 listed by Keeper, approval not visible" in flat(text)
    assert "3 listed by Keeper, approval not visible" in flat(world.run("status").stdout)
    assert "By hand only (0)" in text
    assert "\x1b" not in text
    assert all(len(line) <= 110 for line in text.splitlines())


# -- history --------------------------------------------------------------------------------------------------------


def test_history_by_person_team_kind_result_and_who_decided(world: World) -> None:
    people = fill(world)
    ids = {name: group for group, name in world.jumpcloud.groups_in_scope(world.application).items()}
    world.run("apply")
    world.jumpcloud.suspend(people[0])
    world.jumpcloud.remove_member(ids["Sales"], people[1])
    world.jumpcloud.add_member(ids["Engineering"], people[1])
    world.jumpcloud.update_user(people[2], email="new@example.com")
    world.run("apply", "--reason", "Tuesday's changes")
    for one in people[3:8]:
        world.jumpcloud.suspend(one)
    world.run("apply", expect=4)
    world.run("release", "--reason", f"they left {EVIL}")

    def found(*arguments: str) -> Any:
        return document(world, "history", *arguments, "--json")["operations"]

    assert [op["kind"] for op in found("P0@example.com")] == ["deactivate_user", "create_user"]
    assert found("p0@example.com")[0]["decision"] is None
    assert {op["subject"]["name"] for op in found("--team", "engineering", "--since", "1h")} == {
        "Engineering",
        *(f"p{n}@example.com" for n in (0, 2, 4, 6, 8, 10, 1)),
    }
    assert len(found("--kind", "deactivate-user")) == 6
    assert found("--result", "failed") == []
    locked = found("p3@example.com")[0]
    assert locked["decision"]["kind"] == "release"
    assert locked["decision"]["reason"] == f"they left {EVIL}"
    assert locked["decision"]["by"]
    assert len(found("--by", locked["decision"]["by"])) == document(world, "history", "--json")["total"]
    assert found("--by", "nobody-else") == []
    text = flat(world.run("history", "p3@example.com").stdout)
    assert "p3@example.com locked: suspended in JumpCloud; withdrawn or deleted, not known which; let" in text
    assert "they left \\x1b[31mEvil\\u202e" in text
    assert f"ordered by {locked['decision']['by']} (Tuesday's changes)" in flat(
        world.run("history", "p1@example.com").stdout
    )
    assert "Nothing of the kind" in world.run("history", "nobody@example.com").stdout
    assert "queue_team" in world.run("history", "--kind", "nonsense", expect=2).stderr
    world.run("history", "--since", "soon", expect=2)


# -- leavers --------------------------------------------------------------------------------------------------------


def test_the_evidence_of_a_lock_and_of_who_is_still_active(world: World) -> None:
    world.policy["grace"] = '"1h"'
    world.write_settings()
    people = fill(world)
    world.run("apply")
    accounts = {a.external_id: a.id for a in world.keeper.accounts().values()}
    for keeper_id in accounts.values():
        world.keeper.accept_invitation(keeper_id)
    ids = {name: group for group, name in world.jumpcloud.groups_in_scope(world.application).items()}
    world.jumpcloud.suspend(people[0])
    world.jumpcloud.remove_member(ids["Sales"], people[1])
    world.jumpcloud.settle_graph()
    world.run("apply")
    found = document(world, "leavers", "--format", "json")
    assert (found["done"], found["not_yet"]) == (1, 1)
    waiting, locked = found["leavers"]
    assert (waiting["email"], waiting["state"]) == ("p1@example.com", "not_yet")
    assert waiting["because"].startswith("in grace until")
    assert (locked["email"], locked["state"]) == ("p0@example.com", "locked")
    assert locked["first_seen_at"] <= locked["sent_at"] <= locked["confirmed_at"]
    assert 0 <= locked["minutes_to_send"] <= locked["minutes_to_confirm"] < 5
    assert locked["command"] == "transfer-user p0@example.com --target-user HEIR"
    text = flat(world.run("leavers").stdout)
    assert "p0@example.com: locked (suspended in JumpCloud)" in text
    assert "p1@example.com: NOT YET: still active first seen out of scope" in text
    assert "transfer-user p0@example.com --target-user HEIR" in text
    world.jumpcloud.activate(people[0])
    world.run("apply")
    (_, back) = document(world, "leavers", "--format", "json")["leavers"]
    assert (back["state"], back["first_seen_at"]) == ("came_back", locked["first_seen_at"])


def test_a_held_leaver_counts_from_when_jumpcloud_said_so(world: World) -> None:
    people = fill(world)
    world.run("apply")
    for one in people[:7]:
        world.jumpcloud.suspend(one)
    world.run("apply", expect=4)
    found = document(world, "leavers", "--format", "json")
    assert found["not_yet"] == 7
    assert all(entry["because"].endswith("[max_deactivations]") for entry in found["leavers"])
    assert {entry["command"].rsplit(" ", 1)[0] for entry in found["leavers"]} == {"reconciler release"}
    assert [entry["email"] for entry in found["leavers"]] == [f"p{n}@example.com" for n in range(7)]
    seen = {entry["email"]: entry["first_seen_at"] for entry in found["leavers"]}
    world.run("release", "--reason", "they left")
    found = document(world, "leavers", "--format", "json")
    assert (found["done"], found["not_yet"]) == (7, 0)
    assert {entry["email"]: entry["first_seen_at"] for entry in found["leavers"]} == seen
    assert all(entry["decided_by"] for entry in found["leavers"])
    assert {entry["state"] for entry in found["leavers"]} == {"gone"}  # they were only invited


def test_a_leaver_whose_lock_fails_and_the_csv(world: World) -> None:
    person = world.jumpcloud.add_user("=cmd@example.com", firstname="Eve", lastname="Test", state="ACTIVATED")
    world.jumpcloud.add_member(world.group("Engineering"), person)
    fill(world, 6)
    world.run("apply")
    world.jumpcloud.suspend(person)
    world.back.faults.add(status(400), method="PATCH", target="/Users", times=1)
    world.run("apply", expect=5)
    lines = world.run("leavers", "--format", "csv").stdout.splitlines()
    assert lines[0].startswith("email,state,reason,first_seen_at")
    (row,) = csv.DictReader(lines)
    assert row["email"] == "'=cmd@example.com"
    assert row["state"] == "not_yet"
    assert row["because"].startswith("failed once, tried again")
    assert row["attempts"] == "1"
    assert row["command"] == "reconciler resync =cmd@example.com"


def test_leavers_promise_nothing_for_the_next_cycle_that_the_last_ones_did_not_do(world: World) -> None:
    people = fill(world)
    world.run("apply")
    world.jumpcloud.oddities.take_down("/api/(search/)?systemusers", 403)
    world.jumpcloud.delete_user(people[1])
    world.jumpcloud.settle_graph()
    for _ in range(2):
        world.run("apply", expect=5)
    said = flat(world.run("leavers").stdout)
    assert "due with the next cycle" not in said
    assert "not locked by the newest cycle, on 20" in said and "JumpCloud's list of users could not be read" in said
    assert "reconciler explain p1@example.com" in said


def test_who_was_unlocked_and_stays_so_by_the_settings_is_active_and_not_due(world: World) -> None:
    people = fill(world)
    world.run("apply")
    accept(world)
    world.jumpcloud.suspend(people[0])
    world.run("apply")
    world.keeper.unlock(account(world, people[0]).id)
    world.policy["drift"] = '"report"'
    world.write_settings()
    world.run("apply", "--resync")
    assert "0 locked by us, 1 leaving" in world.run("status").stdout
    said = flat(world.run("leavers").stdout)
    assert "unlocked in Keeper by somebody else, and not locked again (policy.drift)" in said
    assert "due with the next cycle" not in said
    page = flat(world.run("explain", "p0@example.com").stdout)
    assert "still active in Keeper: unlocked in Keeper by somebody else" in page and "change policy.drift in" in page
