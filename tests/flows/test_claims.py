"""The claims of the first lines are true, through the real command line."""

import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from reconciler import statefile
from reconciler.config import load
from reconciler.confirm import Confirmation, Finding
from reconciler.plan import Operation
from reconciler.report import status
from reconciler.simulator.faults import status as status_of
from reconciler.store import Store
from tests.inside import Inside, accept, account, fill
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
    world.teams["review"] = '["Secret"]'
    world.write_settings()
    group = world.group("Engineering")
    for number in range(12):
        world.person(f"p{number}", group)
    world.run("apply")
    world.jumpcloud.unbind_group(world.application, group)
    world.jumpcloud.settle_graph()
    world.run("apply")
    assert "WILL BE HELD when grace ends" in world.run("status").stdout
    world.person("eve", world.group("Secret"))
    world.run("apply", expect=4)
    told = world.run("status").stdout
    assert "HELD since " in told and "WILL BE HELD when grace ends" in told, "what waits for a review hides no alarm"
    world.jumpcloud.bind_group(world.application, group)
    world.jumpcloud.settle_graph()
    world.run("apply", expect=4)
    assert "WILL BE HELD" not in world.run("status").stdout


def test_somebody_without_an_address_has_a_name(world: World) -> None:
    group = world.group("Engineering")
    one = world.jumpcloud.add_user("", firstname="Ada", lastname="Lovelace", state="ACTIVATED")
    world.jumpcloud.add_member(group, one)
    world.jumpcloud.settle_graph()
    assert "Ada Lovelace: no usable e-mail address" in " ".join(world.run("apply").stdout.split())
    other = world.jumpcloud.add_user("grace", firstname="Grace", lastname="Hopper", state="ACTIVATED")
    world.jumpcloud.add_member(group, other)
    world.jumpcloud.settle_graph()
    told = " ".join(world.run("apply").stdout.split())
    assert "2 people (Ada Lovelace, Grace Hopper): no usable e-mail address" in told
    assert "one that is not of the form NAME@DOMAIN" in told


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
    accept(world)
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


def office(world: World, people: int = 6) -> list[str]:
    group = world.group("Engineering")
    ids = [world.person(f"p{number}", group) for number in range(people)]
    world.run("apply")
    accept(world)
    return ids


def flat(text: str) -> str:
    return " ".join(text.split())


def test_jumpcloud_was_read_though_keeper_could_not_be_listed(world: World) -> None:
    office(world)
    world.run("apply")
    world.keeper.refuse("Users")
    assert "Keeper's list of users was not read" in flat(world.run("apply", "--resync", expect=None).stdout)
    out = world.run("status").stdout
    assert out.startswith("The last cycle FAILED, on ") and "JumpCloud was last read as a whole" not in out


def test_explain_knows_by_a_new_address_what_was_done_under_the_old_one(world: World) -> None:
    ids = office(world)
    world.jumpcloud.update_user(ids[0], email="new@example.com")
    world.run("apply", expect=None)
    for address in ("p0@example.com", "new@example.com"):
        assert "created: joined the scope through Engineering" in flat(world.run("explain", address).stdout)


def test_a_pause_that_a_person_has_ended_holds_nothing_any_more(world: World) -> None:
    ids = office(world)
    world.run("pause", "--reason", "a vault is moved")
    world.jumpcloud.suspend(ids[0])
    world.run("apply", expect=4)
    assert "HELD" in world.run("status").stdout
    assert "reconciler resume" in world.run("leavers").stdout
    world.run("resume")
    assert "HELD" not in world.run("status").stdout
    assert "due with the next cycle" in world.run("leavers").stdout
    assert "reconciler resume" not in world.run("leavers").stdout + world.run("explain", "p0@example.com").stdout


def test_what_a_limit_holds_besides_a_pause_waits_for_a_release_once_the_pause_is_ended(world: World) -> None:
    """It was said after `reconciler resume` that all writes were paused."""
    ids = office(world)
    for one in ids[:5]:
        world.jumpcloud.suspend(one)
    world.run("pause", "--reason", "an audit")
    world.run("apply", expect=4)
    left = world.run("leavers").stdout
    assert "[paused, max_deactivations]" in left or "[max_deactivations, paused]" in left
    assert "reconciler resume" in left and "reconciler release" not in left, "no release ends a pause"
    world.run("resume")
    said = [world.run(*command).stdout for command in (("status",), ("leavers",), ("explain", "p0@example.com"))]
    for one in said:
        assert "max_deactivations" in one and "reconciler release" in one
        assert "paused" not in one and "reconciler resume" not in one
    assert "5 operations wait" in flat(said[0])


def test_what_was_released_is_not_held_though_the_run_was_cut_off(world: World) -> None:
    """It was said of what goes on by itself that it is held."""
    ids = office(world, 9)
    for one in ids[:6]:
        world.jumpcloud.suspend(one)
    world.run("apply", expect=4)
    world.kill_after(1, "release", "--reason", "a lay-off")
    for command in (("status",), ("leavers",), ("explain", "p5@example.com")):
        said = world.run(*command).stdout
        assert "HELD" not in said and "held since" not in said and "reconciler release" not in said, said
    assert "Release open" in world.run("status").stdout
    world.run("apply")
    assert world.differences() == []


def test_one_person_who_is_locked_twice_is_one_who_lost_access(world: World) -> None:
    ids = office(world)
    world.jumpcloud.suspend(ids[0])
    world.run("apply")
    world.keeper.unlock(world.keeper.account("p0@example.com").id)
    world.run("apply", "--resync")
    out = flat(world.run("leavers").stdout)
    assert "1 person lost access" in out
    assert "the lock before had been undone in Keeper, nobody knows when, sent" in out
    assert out.count("first seen out of scope 20") == 1


def test_who_was_deleted_in_jumpcloud_gets_their_account_back_by_adopt(world: World) -> None:
    ids = office(world)
    world.jumpcloud.delete_user(ids[0])
    world.jumpcloud.settle_graph()
    world.run("apply")
    said = world.run("explain", "p0@example.com").stdout.strip().splitlines()
    assert "who gets this account only by a person, after the next cycle:" in flat(" ".join(said))
    assert said[-1].strip() == "reconciler adopt p0@example.com"


def test_status_tells_that_the_disk_of_the_state_file_is_full(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure for want of room cannot be recorded: "Last run: nothing to do" was all that it said."""
    office(world)
    settings = load(world.folder / "config.toml")

    def said() -> str:
        with Store.open(settings.state_path(), write=False) as store:
            return flat(status.render(status.document(store, settings, Inside(world).now), width=110, colour=False))

    assert "NO ROOM" not in said()
    monkeypatch.setattr(statefile, "_free", lambda _: 3 * 2**20)
    assert "NO ROOM: 3 MiB are free on the disk of the state file, 16 MiB are needed. Nothing can be sent." in said()


def test_what_was_never_sent_is_nowhere_said_to_be_sent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A confirmation is too old each time when the lock would be sent, as where JumpCloud answers slowly."""
    _groups, people = fill(world)
    world.run("apply")
    accept(world)
    world.jumpcloud.delete_user(people[0])
    world.jumpcloud.settle_graph()
    inside, confirmed = Inside(world), Confirmation.of

    async def slowly(self: Confirmation, op: Operation) -> Finding:
        found = await confirmed(self, op)
        assert found.stamp is not None
        return replace(found, stamp=replace(found.stamp, boot=found.stamp.boot - 31))

    monkeypatch.setattr(Confirmation, "of", slowly)
    assert [inside.run().result for _ in range(2)] == ["partial", "partial"]
    assert account(world, people[0]).active
    said, told = (" ".join(world.run(command).stdout.split()) for command in ("leavers", "status"))
    assert "p0@example.com: NOT YET: still active" in said and "put off" in said
    assert "sent 20" not in said and "attempts" not in said
    assert "Last run: nothing done yet" in told and "cycle: nothing done yet, 1 put off" in told
    assert json.loads(world.run("history", "p0@example.com", "--json").stdout)["operations"][0]["sent_at"] is None
    monkeypatch.undo()
    assert inside.run().result == "done" and not account(world, people[0]).active
    assert "sent 20" in " ".join(world.run("leavers").stdout.split())


def test_no_release_is_advised_while_nothing_is_sent(world: World) -> None:
    ids = office(world)
    for one in ids:
        world.jumpcloud.delete_user(one)
    world.jumpcloud.settle_graph()
    world.run("apply", expect=4)
    assert "reconciler release " in world.run("status").stdout
    world.policy["mode"] = '"observe"'
    world.write_settings()
    told = world.run("status").stdout
    assert told.startswith("HELD since ") and "To look: reconciler plan\nMode: observe; nothing is sent." in told
    world.run("release", expect=2)


def test_a_lock_that_no_cycle_does_is_not_due_with_the_next_one_while_something_else_is_held(world: World) -> None:
    """A hold that waits for days made `leavers` say each time that the lock comes with the next cycle."""
    world.teams["review"] = '["Secret"]'
    ids = office(world)
    world.policy["grace"] = '"1s"'
    world.write_settings()
    secret = world.group("Secret")
    world.run("apply")
    world.jumpcloud.add_member(secret, ids[5])
    for group in world.jumpcloud.groups_in_scope(world.application):
        world.jumpcloud.remove_member(group, ids[0])
    world.jumpcloud.settle_graph()
    world.run("apply", expect=4)
    world.jumpcloud.oddities.spoil(ids[0], state=[], suspended="x")
    time.sleep(1.1)
    world.run("apply", expect=4)
    said = flat(world.run("leavers").stdout)
    assert "not locked by the newest cycle" in said and "due with the next cycle" not in said
    assert said.endswith("reconciler explain p0@example.com")


def test_looks_at_one_person_hide_no_cycle_that_could_not_read_everything(world: World) -> None:
    office(world)
    world.run("apply")
    world.front.faults.add(status_of(403), target="/systemusers")
    world.run("apply", expect=5)
    world.front.faults.clear()
    for _ in range(6):
        world.run("resync", "p0@example.com")
    told = flat(world.run("status").stdout)
    assert told.startswith("Last run: nothing done yet, ")
    assert "JumpCloud was last read as a whole on " in told


def test_looks_at_people_beside_a_long_cycle_do_not_hide_it(world: World) -> None:
    office(world)
    settings, now = load(world.folder / "config.toml"), datetime.now(UTC)
    with Store.open(settings.state_path(), write=True) as store:
        store.begin_run("cycle", now, by="root", reason="")
        store.set_meta("next_cycle", (now - timedelta(hours=1)).isoformat())
        for _ in range(status.RUNS):
            store.finish_run(store.begin_run("person", now, by="root", reason=""), now, "nothing")
        told = status.render(status.document(store, settings, now), width=100, colour=False)
    assert told.startswith("A run is under way since ") and "hang" not in told


@pytest.mark.parametrize("served", [True, False])
def test_a_command_that_has_the_state_file_is_no_service(world: World, served: bool) -> None:
    """As after a service that was killed: it seemed to hang, and to have loaded other settings."""
    settings, now = load(world.folder / "config.toml"), datetime.now(UTC)
    with Store.open(settings.state_path(), write=True, takes_requests=served) as store:
        store.set_meta("next_cycle", (now - timedelta(hours=1)).isoformat())
        store.set_meta("settings", "other ones")
        told = flat(status.render(status.document(store, settings, now), width=100, colour=False))
    assert [words in told for words in ("Does the service hang?", "systemctl reload")] == [served] * 2


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("protect", '["p0@example.com"]', "protected (policy.protect)"),
        ("only", '{ users = ["p3@example.com"] }', "outside the pilot (policy.only)"),
        ("out_of_scope", '"keep"', "kept, unless suspended or deleted (policy.out_of_scope)"),
    ],
)
def test_no_lock_that_failed_is_tried_again_for_whom_the_settings_spare(
    world: World, key: str, value: str, why: str
) -> None:
    ids = office(world)
    world.run("apply")
    for group in world.jumpcloud.groups_in_scope(world.application):
        world.jumpcloud.remove_member(group, ids[0])
    world.jumpcloud.settle_graph()
    world.back.faults.add(status_of(400), method="PATCH", target="/Users")
    world.run("apply", expect=5)
    assert "reconciler resync p0@example.com" in world.run("leavers").stdout
    world.policy[key] = value
    world.write_settings()
    world.run("apply", expect=None)
    said = flat(world.run("leavers").stdout)
    assert why in said and "tried again" not in said and "reconciler resync" not in said


def test_status_names_who_is_back_in_scope_and_locked_by_us_still(world: World) -> None:
    """An unlock without an answer was told far below, among what has no known outcome."""
    ids = office(world)
    world.jumpcloud.suspend(ids[0])
    world.run("apply")
    assert "not known to have left" not in world.run("status").stdout
    world.jumpcloud.activate(ids[0])
    world.run("pause", "--reason", "an audit")
    world.run("apply", expect=4)
    told = flat(world.run("status").stdout)
    words = (
        "1 person who is not known to have left is locked by us: p0@example.com. Why: reconciler explain p0@example.com"
    )
    assert words in told
    world.run("resync", "p0@example.com")
    assert "not known to have left" not in world.run("status").stdout
