"""The daemon as a process of its own: schedule, orders, signals, and what happens to it."""

import gc
import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from reconciler.simulator.faults import Latency, close, status
from reconciler.store import Store
from tests.flows.service import Service, until
from tests.inside import accept, account, fill
from tests.stage import World


def in_line(world: World) -> bool:
    return world.differences() == []


def test_changes_arrive_by_themselves_and_sigterm_ends_it(world: World, service: Service) -> None:
    groups, people = fill(world)
    service.start()
    until(lambda: in_line(world))
    world.jumpcloud.suspend(people[0])
    world.person("late", groups[0])
    until(lambda: in_line(world))
    assert service.end() == 0
    assert not world.state_file.with_name("reconciler.db-wal").exists()
    world.run("status")


def test_whoever_looks_at_its_state_file_does_not_keep_that_from_its_rest(world: World, service: Service) -> None:
    """A connection that is dropped and not closed is there until it is collected, and the WAL stays as long."""
    wal = world.state_file.with_name("reconciler.db-wal")
    service.start()
    until(wal.exists)
    gc.disable()
    try:
        with world.state() as store:
            assert store.in_use and service.runs
        assert service.end() == 0
    finally:
        gc.enable()
    assert not wal.exists()


def test_drift_is_found_by_the_resync_on_schedule(world: World, service: Service) -> None:
    _, people = fill(world)
    service.start()
    until(lambda: in_line(world))
    world.keeper.delete_user(account(world, people[0]).id)
    until(lambda: in_line(world))


def test_orders_are_served_while_it_runs(world: World, service: Service) -> None:
    world.schedule = {"interval": '"1d"', "resync": '"7d"'}
    world.safety.clear()
    world.write_settings()
    _, people = fill(world)
    service.start()
    until(lambda: "held" in service.said())
    world.run("release", "--wait", "--reason", "looked at")
    assert in_line(world)
    accept(world)
    world.run("resync", "--wait")
    world.jumpcloud.suspend(people[0])
    done = world.run("resync", "p0@example.com", "--wait")
    assert "p0@example.com" in done.stdout
    assert not account(world, people[0]).active
    assert world.run("resync", "nobody@example.com", "--wait", expect=1).stderr
    assert "request" in world.run("apply").stdout
    assert "is managed already" in world.run("adopt", "p1@example.com", "--wait", expect=1).stderr
    assert "nothing was changed" in world.run("adopt", "--team", "No such team", "--wait", expect=1).stderr
    done = world.run("status", "--json")
    assert {run["by"] for run in json.loads(done.stdout)["runs"]} - {"schedule"}


def test_a_pause_stops_all_writes_but_those_for_one_person(world: World, service: Service) -> None:
    _, people = fill(world)
    service.start()
    until(lambda: in_line(world))
    accept(world)
    world.run("pause", "--reason", "a vault is being moved")
    before = world.writes()
    world.jumpcloud.suspend(people[0])
    world.jumpcloud.suspend(people[1])
    done = world.run("apply", "--wait", expect=4)
    assert "a vault is being moved" in " ".join(done.stdout.split())
    assert "reconciler resume" in done.stdout
    assert world.writes() == before
    world.run("resync", "p0@example.com", "--wait")
    assert not account(world, people[0]).active
    assert account(world, people[1]).active
    world.run("resume")
    until(lambda: in_line(world))


def test_a_second_one_refuses(world: World, service: Service) -> None:
    service.start()
    refused = world.run("run", expect=6)
    assert "in use" in refused.stderr


def test_it_waits_for_a_command_that_has_the_state_file(world: World, service: Service) -> None:
    world.run("apply")
    with Store.open(world.state_file, write=True):
        service.start()
        until(lambda: "waiting for the state file" in service.said())
    until(lambda: "are in line" in service.said())
    assert service.said().count("waiting for the state file") == 1


def test_who_asks_it_to_read_its_settings_while_it_waits_for_the_state_file_does_not_end_it(
    world: World, service: Service
) -> None:
    fill(world)
    world.run("apply")
    with Store.open(world.state_file, write=True):
        service.start()
        until(lambda: "waiting for the state file" in service.said())
        world.policy["mode"] = '"observe"'
        world.write_settings()
        service.send(signal.SIGHUP)
    until(lambda: "the settings were read again" in service.said())
    world.jumpcloud.suspend(next(iter(world.jumpcloud.in_scope(world.application))))
    until(lambda: "observed" in service.said())


def test_sigterm_in_the_middle_of_an_apply_loses_nothing(world: World, service: Service) -> None:
    _, people = fill(world, 12)
    slow = world.back.faults.add(Latency(0.3), method="POST")
    service.start()
    until(lambda: slow.fired >= 3)
    assert service.end() == 0
    world.back.faults.clear()
    with world.state() as store:
        assert store.unfinished() == []
    assert 0 < len(world.keeper.accounts()) < len(people) or in_line(world)
    world.run("apply")
    assert in_line(world)
    assert world.writes() == len({change.request for change in world.keeper.changes})


def test_settings_are_read_again_on_sighup_where_they_are_good(world: World, service: Service) -> None:
    groups, _ = fill(world)
    service.start()
    until(lambda: in_line(world))
    config = world.folder / "config.toml"
    good = config.read_text()
    config.write_text(good + "\n[nonsense]\n")
    service.send(signal.SIGHUP)
    until(lambda: "nonsense" in service.said())
    world.person("meanwhile", groups[0])
    until(lambda: in_line(world))
    world.policy["mode"] = '"observe"'
    world.write_settings()
    service.send(signal.SIGHUP)
    until(lambda: "read again" in service.said())
    before = world.writes()
    world.person("later", groups[0])
    until(lambda: "observed" in service.said())
    assert world.writes() == before


def test_whoever_looks_hears_that_the_service_has_other_settings_than_the_file(world: World, service: Service) -> None:
    def in_force() -> bool | None:
        found: bool | None = json.loads(world.run("status", "--json").stdout)["settings"]["in_force"]
        return found

    def told() -> list[bool]:
        shown = world.run("status").stdout, world.run("plan").stderr, world.run("plan", "--format", "json").stderr
        return ["systemctl reload reconciler" in " ".join(text.split()) for text in shown]

    fill(world)
    service.start()
    until(lambda: in_line(world))
    assert (in_force(), told()) == (True, [False] * 3)
    world.policy["protect"] = '["p1@example.com"]'
    world.write_settings()
    assert (in_force(), told()) == (False, [True] * 3)
    service.send(signal.SIGHUP)
    until(lambda: "read again" in service.said())
    assert (in_force(), told()) == (True, [False] * 3)
    service.end()
    world.policy["protect"] = "[]"
    world.write_settings()
    assert (in_force(), told()) == (None, [False] * 3)


def test_both_services_down_for_many_cycles_and_back_again(world: World, service: Service) -> None:
    groups, people = fill(world)
    service.start()
    until(lambda: in_line(world))
    world.front.faults.add(status(401))
    world.back.faults.add(close(effect=False))
    until(lambda: "ERROR" in service.said())
    world.jumpcloud.suspend(people[0])
    world.person("late", groups[0])
    time.sleep(5)
    assert service.said().count("ERROR") <= 2, service.said()
    world.front.faults.clear()
    world.back.faults.clear()
    until(lambda: in_line(world))
    until(lambda: "succeed again" in service.said())


@pytest.mark.long
@pytest.mark.timeout(600)
def test_killed_fifty_times_while_the_directory_keeps_changing(world: World, service: Service) -> None:
    """Nobody is created twice, nobody who is in scope all the time is locked, and nothing is left undone."""
    world.schedule = {"interval": '"1s"', "jitter": '"0s"', "resync": '"1h"'}
    world.safety |= dict.fromkeys(("max_deactivations", "max_removals", "max_team_loss"), '"100%"')
    world.safety |= {"max_creations": "1000", "max_grants": "1000"}
    world.write_settings()
    groups, people = fill(world, 20)
    steady = people[:5]
    chance = random.Random(20261124)
    locked: list[str] = []

    def watch(_: object) -> None:
        by_id = {one.external_id: one for one in world.keeper.accounts().values()}
        locked.extend(one for one in steady if one in by_id and not by_id[one].active)

    world.keeper.on_change = watch
    service.start()
    for number in range(50):
        someone = chance.choice(people[5:])
        change = chance.randrange(4)
        if change == 0:
            world.jumpcloud.suspend(someone)
        elif change == 1:
            world.jumpcloud.activate(someone)
        elif change == 2:
            world.jumpcloud.update_user(someone, displayname=f"Name {number}")
        else:
            world.person(f"n{number}", chance.choice(groups))
        time.sleep(chance.random() * 0.8)
        service.end(signal.SIGKILL)
        service.start()
    service.end()
    world.keeper.on_change = None
    # A creation that was cut off on its way may still arrive: it is asked for again two minutes later.
    patience = time.monotonic() + 180
    for _ in range(3):
        world.run("apply", "--resync", expect=None)
        # A lock withdraws an invitation, and from the fourth account that is gone on a person looks.
        world.run("release", "--reason", "they were only invited", expect=None)
    while world.differences() and time.monotonic() < patience:
        time.sleep(5)
        world.run("apply", "--resync", expect=None)
    assert world.differences() == []
    assert locked == []
    owners = [one.external_id for one in world.keeper.accounts().values() if one.external_id]
    assert len(owners) == len(set(owners))
    assert world.keeper.token() not in service.said()


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system can be mounted by root only")
def test_a_full_disk_fails_the_cycle_before_anything_is_sent(world: World) -> None:
    small = world.folder / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=0700", "tmpfs", str(small)], check=False)
    if mounted.returncode != 0:
        pytest.skip("this machine does not let file systems be mounted")
    try:
        world.write_settings(state=f'[state]\npath = "{small}/reconciler.db"\n')
        groups, _ = fill(world, 3)
        world.run("apply")
        filler = small / "filler"
        filler.write_bytes(b"x" * (12 * 2**20))
        before = world.writes()
        world.person("late", groups[0])
        failed = world.run("apply", expect=6)
        assert "free" in failed.stderr
        assert world.writes() == before
        filler.unlink()
        world.run("apply")
        assert in_line(world)
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.parametrize("left", ["nothing", "the lock", "a copy"])
def test_it_ends_and_sends_nothing_more_once_its_state_file_is_taken_away(
    world: World, service: Service, left: str
) -> None:
    _, people = fill(world)
    world.run("apply")
    accept(world)
    state = world.state_file
    copy = world.folder / "copy"
    copy.write_bytes(state.read_bytes())
    world.schedule = {"interval": '"1d"', "resync": '"7d"'}
    world.safety.clear()
    world.write_settings()
    service.start()
    until(lambda: "nothing to do" in service.said())
    if left == "a copy":
        copy.chmod(0o600)
        copy.rename(state)
    else:
        for path in state.parent.iterdir():
            if left == "nothing" or not path.name.endswith(".lock"):
                path.unlink()
    before = world.writes()
    if left == "nothing":
        assert "Paused" in world.run("pause", "--reason", "a vault is being moved").stdout
    world.jumpcloud.suspend(people[0])
    assert service.process is not None
    assert service.process.wait(30) == 1, "systemd starts it again"
    said = " ".join(service.said().split())
    assert "was deleted, moved or replaced while this process had it open" in said
    [kept] = state.parent.glob("*.replaced-*")
    assert f"reconciler restore {kept}" in said
    assert world.writes() == before
    told = " ".join(world.run("status").stdout.split())
    assert ("a vault is being moved" in told) is (left == "nothing")
    world.run("restore", str(kept))
    assert json.loads(world.run("history", "--json").stdout)["operations"]


def test_a_command_whose_state_file_is_taken_away_sends_nothing_more(world: World) -> None:
    fill(world)
    world.run("apply")
    late = [world.person(f"late{n}", world.group("Late")) for n in range(3)]
    state = world.state_file

    def take_away(_: object) -> None:
        for path in state.parent.glob("reconciler.db*"):
            path.unlink()

    world.keeper.on_change = take_away
    before = world.writes()
    said = " ".join(world.run("apply", expect=6).stderr.split())
    assert "was deleted, moved or replaced while this process had it open" in said and "sends nothing more" in said
    # The first operation of a kind goes alone.
    assert world.writes() == before + 1 < before + len(late)


def test_a_copy_of_the_state_file_is_gone_back_to_by_a_reviewed_resync(world: World) -> None:
    _, people = fill(world)
    world.run("apply")
    accept(world)
    state = world.state_file
    copy = Path(f"{state}.copy")
    copy.write_bytes(state.read_bytes())
    world.jumpcloud.suspend(people[0])
    world.run("apply")
    assert not account(world, people[0]).active
    world.safety.clear()
    world.write_settings()
    world.run("restore", f"state/{copy.name}")
    assert list(state.parent.glob("*.replaced-*"))
    world.jumpcloud.suspend(people[1])
    world.run("apply", "--yes", expect=4)
    assert account(world, people[1]).active
    world.run("release")
    assert not account(world, people[1]).active
    copy.write_bytes(b"no copy at all")
    world.run("restore", str(copy), expect=6)
    world.jumpcloud.activate(people[0])
    world.jumpcloud.activate(people[1])
    world.run("apply")
    assert account(world, people[1]).active
    # Locked after the copy was made: the file that it replaced knew whose lock it is.
    assert account(world, people[0]).active
    assert in_line(world)
