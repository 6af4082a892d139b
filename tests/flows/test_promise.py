"""Claims about the promise: who fails, who is locked, who left; through the command line."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from reconciler import cycle, http
from reconciler.simulator.faults import status
from tests.inside import Inside, accept, account
from tests.receiver import Receiver, secret
from tests.stage import World


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


def notifying(world: World, receiver: Receiver, **more: str) -> None:
    webhook = secret(world.folder, "webhook", f"{receiver.url}/hook")
    world.write_settings(notify=f"[notify]\nwebhook = {webhook}\n", **more)


def told(receiver: Receiver, kind: str) -> list[dict[str, Any]]:
    return [fact for _, _, body in receiver.got if body and body["kind"] == kind for fact in body["facts"]]


def flat(text: str) -> str:
    return " ".join(text.split())


def found(world: World, *command: str) -> Any:
    return json.loads(world.run(*command).stdout)


def filled(world: World, people: int = 12) -> list[str]:
    group = world.group("Engineering")
    ids = [world.person(f"p{n}", group) for n in range(people)]
    Inside(world).run()
    accept(world)
    Inside(world).run(cycle.Order(resync=True))
    return ids


def test_who_keeps_failing_is_exit_5_and_the_first_line_every_time(world: World, receiver: Receiver) -> None:
    ids = filled(world)
    notifying(world, receiver, metrics='[metrics]\ntextfile = "reconciler.prom"\n')
    for one in ids[:2]:
        world.jumpcloud.suspend(one)
    Inside(world).run()
    for one in ids[:2]:
        world.jumpcloud.activate(one)
    world.back.faults.add(status(400), method="PATCH", target="/Users")
    first = world.run("apply", expect=5)
    assert first.stdout.startswith("None of it is known to be done: 2 failed.")
    assert "p0@example.com was not unlocked: Keeper refused it" in flat(first.stdout)
    world.jumpcloud.update_user(ids[5], lastname="Other", displayname="P5 Other")
    Inside(world).run()
    again = world.run("apply", expect=5)
    assert again.stdout.startswith("FAILING for 3 people: 2 in scope and locked, 1 with changes not made.")
    assert [fact["about"] for fact in told(receiver, "locked_in_scope")] == ["p0@example.com", "p1@example.com"]
    said = flat(world.run("status").stdout)
    assert "FAILING for 3 people: 2 in scope and locked" in said
    assert "Failing: p0@example.com, 3 times in a row, last on " in said and "it is tried again, by each cycle" in said
    assert "Failing: p5@example.com, once, last on " in said
    assert "it is tried again. Paused until " in said and "next cycle" not in said
    assert {one["lacks"] for one in found(world, "status", "--json")["failing"]} == {"in_scope_and_locked", "changes"}
    metrics = (world.folder / "reconciler.prom").read_text()
    assert 'reconciler_failing{lacks="in_scope_and_locked",tenant=""} 2.0' in metrics
    world.back.faults.clear()
    for number in (0, 1, 5):
        Inside(world).run(cycle.Order(person=f"p{number}@example.com"))
    assert world.run("apply").stdout.startswith("Nothing to do")
    assert "FAILING" not in world.run("status").stdout
    assert len(told(receiver, "unlocked")) == 2


def test_a_lock_that_meets_a_404_is_open_until_a_person_closes_it(world: World, receiver: Receiver) -> None:
    ids = filled(world)
    notifying(world, receiver)
    world.keeper.delete_user(account(world, ids[0]).id)
    world.jumpcloud.suspend(ids[0])
    world.jumpcloud.suspend(ids[1])
    world.run("apply", expect=None)
    document = found(world, "leavers", "--format", "json")
    assert (document["done"], document["not_yet"], document["not_verifiable"]) == (1, 0, 1)
    moved, locked = document["leavers"]
    assert (moved["email"], moved["state"], moved["minutes_to_confirm"]) == ("p0@example.com", "not_verifiable", None)
    assert locked["state"] == "locked"
    assert "NOT VERIFIABLE: not in this node" in flat(world.run("leavers").stdout)
    assert "1 person left and is not in this node" in flat(world.run("status").stdout)
    [fact] = told(receiver, "leaver_active")
    assert fact["about"] == "p0@example.com"
    assert "not verifiable: not in this node; if access has ended: reconciler disown p0@example.com" in fact["text"]
    assert "is closed, nothing else is done" in world.run("disown", "p0@example.com", "--reason", "deleted").stdout
    world.run("apply")
    assert [one["state"] for one in found(world, "leavers", "--format", "json")["leavers"]] == ["closed", "locked"]
    assert "not in this node" not in world.run("status").stdout
    world.jumpcloud.activate(ids[0])
    Inside(world).run()
    assert account(world, ids[0]).active, "closing the question did nothing else"


def test_who_left_keeper_before_the_lock_and_comes_back_is_created_anew_also_where_drift_is_only_reported(
    world: World,
) -> None:
    world.policy["drift"] = '"report"'
    world.write_settings()
    ids = filled(world)
    world.keeper.delete_user(account(world, ids[0]).id)
    world.jumpcloud.suspend(ids[0])
    Inside(world).run()
    world.jumpcloud.activate(ids[0])
    Inside(world).run()
    assert account(world, ids[0]).active


@pytest.mark.parametrize("taken", [False, True])
def test_a_lock_that_was_sent_again_without_a_clear_answer_is_one_lock(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    """Else the list that shows the later lock proves the earlier one too, and one person has lost access twice."""
    monkeypatch.setattr(http, "BACKOFF", (0.01, 0.01))
    ids = filled(world)
    notifying(world, receiver)
    world.run("apply")
    world.jumpcloud.suspend(ids[0])
    unclear = world.back.faults.add(status(504), method="PATCH")
    assert Inside(world).run().result == "partial"
    world.back.faults.remove(unclear)
    if taken:
        world.back.faults.add(status(504, effect=True), method="PATCH")
    Inside(world).run()
    world.run("resync")
    assert not account(world, ids[0]).active
    document = found(world, "leavers", "--format", "json")
    assert (document["done"], [one["attempts"] for one in document["leavers"]]) == (1, [2])
    locks = found(world, "history", "p0@example.com", "--kind", "deactivate_user", "--json")["operations"]
    assert sorted(one["result"] for one in locks) == ["done", "put_off"]
    assert [fact["about"] for fact in told(receiver, "deactivated")] == ["p0@example.com"]


@pytest.mark.parametrize("kind", ["reactivate_user", "create_user"])
def test_what_was_given_by_the_second_request_was_given_once(
    world: World, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(http, "BACKOFF", (0.01, 0.01))
    ids, who = filled(world), "p0"
    office = Inside(world)
    if kind == "create_user":
        who = "p99"
        world.person(who, next(iter(world.jumpcloud.in_scope(world.application)[ids[0]])))
    else:
        world.jumpcloud.suspend(ids[0])
        office.run()
        world.jumpcloud.activate(ids[0])
    unclear = world.back.faults.add(status(504), method="POST" if kind == "create_user" else "PATCH")
    assert office.run().result == "partial"
    world.back.faults.remove(unclear)
    for _ in range(3):
        office.later(minutes=4)
        office.run(cycle.Order(resync=True))
    assert world.differences() == []
    sent = found(world, "history", f"{who}@example.com", "--kind", kind, "--json")["operations"]
    assert sorted(one["result"] for one in sent) == ["done", "put_off"]


@pytest.mark.parametrize("target", ["", "/systemusers", "/usergroups"])
def test_who_left_is_known_only_as_far_as_jumpcloud_was_read(world: World, target: str) -> None:
    """An auditor read "0 not yet" while JumpCloud had not been read for days."""
    ids = filled(world)
    world.run("apply")
    before = found(world, "leavers", "--format", "json")["jumpcloud_read_at"]
    assert "who left since then may be missing. Keeper's list on" in flat(world.run("leavers").stdout)
    assert "last read as a whole" not in world.run("status").stdout
    world.front.faults.add(status(403), target=target)
    world.jumpcloud.suspend(ids[0])
    assert world.run("apply", expect=None).returncode in (1, 5)
    world.run("resync", "p3@example.com", expect=None)
    assert found(world, "leavers", "--format", "json")["jumpcloud_read_at"] == before
    status_now = flat(world.run("status").stdout)
    assert "JumpCloud was last read as a whole on " in status_now
    # Without the people's records nobody was locked.
    last = "Last run: applied in part" if target == "/usergroups" else "Last run: nothing done yet"
    assert status_now.startswith(last if target else "The last cycle FAILED, on ")
    world.front.faults.clear()
    world.run("apply")
    assert "last read as a whole" not in world.run("status").stdout


def test_status_counts_whom_somebody_else_has_locked(world: World) -> None:
    ids = filled(world)
    world.jumpcloud.suspend(ids[0])
    Inside(world).run()
    world.keeper.lock(account(world, ids[1]).id)
    world.run("resync")
    words = "12 managed (10 active, 1 locked by us, 1 locked by somebody else, 0 leaving)"
    assert words in flat(world.run("status").stdout)


def test_old_leavers_of_a_first_plan_are_no_fast_locks(world: World) -> None:
    ids = filled(world)
    for path in (world.folder / "state").iterdir():
        path.unlink()
    world.jumpcloud.suspend(ids[0])
    world.run("apply")
    document = found(world, "leavers", "--format", "json")
    [entry] = document["leavers"]
    assert (entry["state"], entry["left_before"], entry["minutes_to_confirm"]) == ("locked", True, None)
    assert document["longest_minutes"] is None
    assert "had left before the first plan" in flat(world.run("leavers").stdout)


def test_before_the_first_plan_is_reviewed_leavers_does_not_say_that_nobody_is_left(world: World) -> None:
    ids = filled(world)
    assert "; 0 not yet." in flat(world.run("leavers").stdout)
    for path in (world.folder / "state").iterdir():
        path.unlink()
    world.safety["first_run"] = '"review"'
    world.write_settings()
    for one in ids[:3]:
        world.jumpcloud.suspend(one)
    world.run("apply", expect=4)
    document = found(world, "leavers", "--format", "json")
    assert (document["first_plan_reviewed"], document["held"], document["not_yet"]) == (False, 3, 0)
    said = flat(world.run("leavers").stdout)
    assert "not yet." not in said
    assert "The first plan for this Keeper node is not reviewed yet, so who else left is not known here." in said
    assert "It would lock 3 people." in said
    world.run("release")
    assert found(world, "leavers", "--format", "json")["first_plan_reviewed"] is True


def test_nobody_fails_for_whom_nothing_is_due_any_more(world: World) -> None:
    """The unlock of somebody failed, and they were suspended again."""
    ids = filled(world)
    world.jumpcloud.suspend(ids[0])
    world.run("apply")
    world.jumpcloud.activate(ids[0])
    world.back.faults.add(status(400), method="PATCH", target="/Users")
    world.run("apply", expect=5)
    assert [one["lacks"] for one in found(world, "status", "--json")["failing"]] == ["in_scope_and_locked"]
    world.back.faults.clear()
    world.jumpcloud.suspend(ids[0])
    world.run("apply")
    assert found(world, "status", "--json")["failing"] == []
    assert "Failing" not in world.run("status").stdout


def test_leavers_outside_the_pilot_are_no_failures_of_ours(world: World) -> None:
    ids = filled(world)
    world.policy["only"] = '{ users = ["p1@example.com"] }'
    world.write_settings()
    Inside(world).run()
    world.jumpcloud.suspend(ids[0])
    world.run("apply")
    assert "1 person outside the pilot left the scope: not ours to lock." in flat(world.run("status").stdout)
    users = found(world, "status", "--json")["users"]
    assert (users["leaving"], users["outside_pilot"], users["oldest_leaver"]) == (0, 1, None)


def test_who_is_kept_by_the_settings_is_no_leaver_of_ours(world: World) -> None:
    ids = filled(world)
    world.policy["out_of_scope"] = '"keep"'
    world.write_settings(metrics='[metrics]\ntextfile = "reconciler.prom"\n')
    world.run("apply", "--resync")
    for one in ids[:2]:
        for group in world.jumpcloud.groups_in_scope(world.application):
            world.jumpcloud.remove_member(group, one)
    world.jumpcloud.settle_graph()
    world.run("apply")

    def oldest() -> float:
        with world.state() as store:
            left = [account.left_at for account in store.snapshot().accounts.values()]
        assert any(left)
        lines = (world.folder / "reconciler.prom").read_text().splitlines()
        line = next(line for line in lines if line.startswith("reconciler_oldest_leaver_seconds{"))
        return float(line.rsplit(" ", 1)[1])

    assert oldest() == 0.0
    assert "Kept by the settings though out of scope: 2 people" in flat(world.run("status").stdout)
    users = found(world, "status", "--json")["users"]
    assert (users["leaving"], users["kept"], users["oldest_leaver"]) == (0, 2, None)
    world.back.faults.add(status(400), method="PATCH", target="/Users")
    world.jumpcloud.suspend(ids[0])
    world.run("apply", expect=5)
    assert oldest() > 0.0
    users = found(world, "status", "--json")["users"]
    assert (users["leaving"], users["kept"]) == (1, 1)


def test_people_who_lose_a_team_are_told_once(world: World, receiver: Receiver) -> None:
    ids = filled(world)
    notifying(world, receiver)
    group = next(iter(world.jumpcloud.in_scope(world.application)[ids[0]]))
    world.jumpcloud.bind_user(world.application, ids[0])
    world.jumpcloud.remove_member(group, ids[0])
    world.jumpcloud.settle_graph()
    world.run("apply")
    world.run("apply")
    [fact] = told(receiver, "lost_team")
    assert (fact["about"], fact["text"]) == ("p0@example.com", "lost Engineering: changed in JumpCloud")


def test_nobody_is_due_with_the_next_cycle_while_nothing_is_sent(world: World) -> None:
    """With the mode observe, `leavers` promised a lock by the next cycle, or named a `release` that is refused."""
    ids = filled(world, 40)
    accept(world)
    for one in ids[:20]:
        world.jumpcloud.suspend(one)
    world.run("apply", expect=4)
    assert "reconciler release" in world.run("leavers").stdout
    world.policy["mode"] = '"observe"'
    world.write_settings()
    for _ in range(2):
        out = world.run("leavers").stdout
        assert "release" not in out and "next cycle" not in out
        assert out.count("nothing is sent: the mode is observe") == 20
        Inside(world).run()
