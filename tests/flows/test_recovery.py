"""What a crash, a lost answer or an odd reply leaves behind is settled by asking, and costs nobody their access."""

import asyncio
import contextlib
import shutil
import signal
import sqlite3
import time
from typing import Any

import pytest

from reconciler import cycle
from reconciler.keeper import Keeper
from reconciler.model import KeeperUser
from reconciler.simulator.faults import Latency, Rewrite, close, hang, status
from reconciler.simulator.keeper_records import Account
from tests.inside import Inside, accept, account, fill
from tests.stage import World


def by_email(world: World, email: str) -> Account:
    return next(one for one in world.keeper.accounts().values() if one.email == email)


def rows(world: World, sql: str) -> list[tuple[str, str]]:
    c = sqlite3.connect(world.folder / "state" / "reconciler.db")
    try:
        return c.execute(sql).fetchall()
    finally:
        c.close()


def interrupt_in_flight(world: World, method: str, target: str, *arguments: str) -> None:
    """SIGINT while the answer of a request that took effect is awaited."""
    rule = world.back.faults.add(hang(effect=True), method=method, target=target)
    process = world.start(*arguments)
    deadline = time.monotonic() + 30
    while not rule.fired and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)  # no more is begun
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)  # and what is on its way is left
    process.communicate(timeout=30)
    world.back.faults.clear()


def test_ctrl_c_while_a_team_is_queued_makes_no_second_team(world: World) -> None:
    world.group("Engineering")
    world.person("ada", *world.jumpcloud.groups_in_scope(world.application))
    interrupt_in_flight(world, "POST", "/Groups", "apply")
    world.run("apply", expect=None)
    assert [t.name for t in world.keeper.teams().values()] == ["Engineering"]


def test_ctrl_c_while_somebody_is_locked_locks_nobody_out_for_good(world: World) -> None:
    _groups, people = fill(world)
    world.run("apply")
    accept(world)
    world.jumpcloud.suspend(people[0])
    world.jumpcloud.settle_graph()
    interrupt_in_flight(world, "PATCH", "/Users/", "apply")
    assert not account(world, people[0]).active
    world.jumpcloud.activate(people[0])
    world.run("apply")
    world.run("apply", "--resync")
    assert account(world, people[0]).active


def test_a_crash_after_settling_and_before_saving_locks_nobody_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _groups, people = fill(world)
    world.run("apply")
    accept(world)
    world.jumpcloud.suspend(people[0])
    world.kill_after(1, "apply")
    assert not account(world, people[0]).active
    # the next start settles what the crash left, and is itself killed (here: fails) in the confirming reads
    inside = Inside(world)

    async def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cycle._Line, "own_locks", killed)
    with pytest.raises(KeyboardInterrupt):
        inside.run()
    monkeypatch.undo()
    world.jumpcloud.activate(people[0])
    world.run("apply")
    world.run("apply", "--resync")
    assert account(world, people[0]).active


def test_one_failing_worker_does_not_rewrite_the_outcome_of_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception that is no KeeperError in one worker: the others in flight must not be on record as put off."""
    _groups, people = fill(world, 8)
    world.run("apply")
    accept(world)
    for n, one in enumerate(people):
        world.jumpcloud.update_user(one, firstname=f"New{n}")
    world.back.faults.add(Latency(0.8), method="PATCH", skip=2)
    inside = Inside(world)
    real = Keeper.patch_user
    calls: list[str] = []

    async def odd(self: Keeper, id: str, *rest: Any) -> KeeperUser | None:
        calls.append(id)
        if len(calls) == 3:
            await asyncio.sleep(0.3)
            raise RuntimeError("something nobody thought of")
        return await real(self, id, *rest)

    monkeypatch.setattr(Keeper, "patch_user", odd)
    with contextlib.suppress(RuntimeError):
        inside.run()
    found = dict(rows(world, "SELECT subject_name, state FROM operations WHERE kind='update_user'"))
    arrived = {a.email for a in world.keeper.accounts().values() if (a.given_name or "").startswith("New")}
    wrong = {email for email in arrived if found[email] == "put_off"}
    assert not wrong, found


def test_a_membership_that_a_crash_left_unrecorded_is_still_ours(world: World) -> None:
    groups, people = fill(world)
    world.run("apply")
    accept(world)
    world.keeper.approve_all()
    world.run("apply", "--resync")
    world.jumpcloud.add_member(groups[1], people[0])
    world.jumpcloud.settle_graph()
    world.kill_after(1, "apply")
    assert len(account(world, people[0]).teams) == 2
    world.jumpcloud.remove_member(groups[1], people[0])
    world.jumpcloud.settle_graph()
    world.run("apply", expect=None)
    assert len(account(world, people[0]).teams) == 1


def test_a_lost_answer_to_an_addition_under_strict_memberships(world: World) -> None:
    world.keeper.set_dialect(refuses_duplicate_membership=True)
    groups, people = fill(world)
    world.run("apply")
    accept(world)
    world.keeper.approve_all()
    world.run("apply", "--resync")
    world.jumpcloud.add_member(groups[1], people[0])
    world.jumpcloud.settle_graph()
    world.back.faults.add(close(effect=True), method="PATCH", times=1)
    out = world.run("apply", expect=None)
    assert out.returncode == 0
    assert world.differences() == []


def test_removing_an_absent_membership_under_strict_memberships(world: World) -> None:
    world.keeper.set_dialect(refuses_absent_membership=True)
    groups, people = fill(world)
    world.run("apply")
    accept(world)
    world.keeper.approve_all()
    world.run("apply", "--resync")
    a = account(world, people[0])
    world.keeper.remove_member(a.id, a.teams[0])
    world.jumpcloud.remove_member(groups[0], people[0])
    world.jumpcloud.add_member(groups[1], people[0])
    world.jumpcloud.settle_graph()
    inside = Inside(world)
    for _ in range(4):
        outcome = inside.run(cycle.Order(resync=True))
        inside.later(hours=2)
    assert outcome.result in ("done", "nothing")
    assert world.differences() == []


def test_404_on_everything_is_no_proof_that_a_leaver_is_gone(world: World) -> None:
    _groups, people = fill(world)
    world.run("apply")
    accept(world)
    world.jumpcloud.suspend(people[0])
    world.back.faults.add(status(404))
    world.run("apply", expect=None)
    found = rows(world, "SELECT state, outcome, error FROM operations WHERE kind='deactivate_user'")
    world.back.faults.clear()
    world.run("apply", expect=None)
    assert not account(world, people[0]).active, found


def test_an_unconfirmed_take_away_is_exit_5(world: World) -> None:
    _groups, people = fill(world, 12)
    world.run("apply")
    world.front.faults.add(Rewrite(drop=[people[3]], total=len(people) - 1), target=r"/applications/[0-9a-f]+/users")
    world.run("apply", expect=5)


def test_who_was_created_without_an_answer_is_locked_on_leaving(world: World) -> None:
    groups, _people = fill(world)
    world.run("apply")
    late = world.person("late", groups[0])
    world.back.faults.add(close(effect=True), method="POST", target="/Users", times=1)
    world.run("apply", expect=0)
    world.back.faults.clear()
    accept(world)
    world.jumpcloud.suspend(late)
    world.run("apply", expect=None)
    world.run("apply", "--resync", expect=None)
    assert not by_email(world, "late@example.com").active


def test_who_was_created_in_a_crash_is_locked_on_leaving(world: World) -> None:
    groups, _people = fill(world)
    world.run("apply")
    late = world.person("late", groups[0])
    world.kill_after(1, "apply")
    accept(world)
    world.jumpcloud.suspend(late)
    world.run("apply", expect=None)
    world.run("apply", "--resync", expect=None)
    assert not by_email(world, "late@example.com").active


def test_drift_in_keeper_is_no_unasked_effect_of_the_canary(world: World) -> None:
    groups, people = fill(world)
    third = world.group("Support")
    for g in (groups[1], third):
        world.jumpcloud.add_member(g, people[0])
    world.jumpcloud.settle_graph()
    world.run("apply")
    accept(world)
    world.keeper.approve_all()
    world.run("apply", "--resync")
    a = by_email(world, "p0@example.com")
    world.keeper.remove_member(a.id, a.teams[0])
    world.jumpcloud.update_user(people[0], displayname="Another Name")
    done = world.run("apply", expect=None)
    assert done.returncode == 0


def test_somebody_whose_unlocking_was_cut_off_is_not_called_in_line(world: World) -> None:
    group = world.group("Engineering")
    ada = world.person("ada", group)
    world.run("apply")
    accept(world)
    world.jumpcloud.suspend(ada)
    world.run("apply")
    world.jumpcloud.activate(ada)
    rule = world.back.faults.add(hang(effect=False), method="PATCH")
    process = world.start("resync", "ada@example.com")
    while not rule.fired:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    world.back.faults.clear()
    said = " ".join(world.run("apply", expect=5).stdout.split())
    assert "ada@example.com: in scope, but not let in yet" in said
    assert "are in line" not in said


@pytest.mark.parametrize("whose", ["ours", "an administrator's"])
def test_a_restored_copy_knows_whose_the_locks_since_then_are(world: World, whose: str) -> None:
    group = world.group("Engineering")
    for number in range(5):
        world.person(f"p{number}", group)
    eve = world.person("eve", group)
    world.run("apply")
    account = world.keeper.account("eve@example.com").id
    world.keeper.accept_invitation(account)
    world.jumpcloud.suspend(eve)
    copy = world.folder / "copy"
    state = world.folder / "state" / "reconciler.db"
    if whose != "ours":
        world.run("apply")
    shutil.copy(state, copy)
    if whose == "ours":
        world.run("apply")
    else:
        world.jumpcloud.activate(eve)
        world.run("apply")
        world.keeper.lock(account)
    world.run("apply", "--resync")
    world.run("restore", str(copy))
    world.jumpcloud.activate(eve)
    for _ in range(2):
        out = world.run("apply", "--resync").stdout
    assert world.keeper.account(account).active is (whose == "ours"), out
    assert ("--unlock" in out) is (whose != "ours")
