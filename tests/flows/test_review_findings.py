"""Faults that a review found by using the command line as an administrator does."""

import os
import signal
import sqlite3
import subprocess
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reconciler import migrations, orders, statefile
from reconciler.cli.base import utc_now
from reconciler.store import Store
from tests.flows.service import Service, until
from tests.flows.test_daemon_orders import Held, filed
from tests.inside import accept, account, fill
from tests.stage import World


def demo(world: World, folder: Path, **environment: str) -> None:
    folder.mkdir()
    command = [*world.command, "demo", "--users", "20", "--groups", "4"]
    subprocess.run(command, env={**os.environ, **environment}, cwd=folder, capture_output=True, timeout=120, check=True)


def test_the_demo_does_not_apply_the_real_first_plan(world: World) -> None:
    world.safety = {}
    world.write_settings()
    fill(world, 10)
    demo(world, world.folder / "elsewhere", RECONCILER_CONFIG=str(world.folder / "config.toml"))
    assert world.writes() == 0


def test_the_demo_keeps_its_state_to_itself(world: World) -> None:
    kept = world.folder / "var"
    kept.mkdir(mode=0o700)
    demo(world, world.folder / "elsewhere", STATE_DIRECTORY=str(kept))
    assert list(kept.iterdir()) == []


def test_the_demo_leaves_a_folder_alone_that_has_something_in_it(world: World) -> None:
    fill(world)
    world.run("apply")
    kept = {name: (world.folder / name).read_bytes() for name in ("config.toml", "token", "api-key")}
    refused = world.run("demo", "--users", "20", "--groups", "4", "--keep", ".", expect=2)
    assert "nothing in it was changed" in refused.stderr
    assert {name: (world.folder / name).read_bytes() for name in kept} == kept


def test_a_decision_that_a_daemon_left_behind_is_carried_out_before_a_newer_one(world: World) -> None:
    fill(world)
    world.run("apply")
    with Store.open(world.folder / "state" / "reconciler.db", write=True) as store:
        orders.file(orders.Ask("disown", {"email": "p0@example.com"}, "root", "Monday", ""), store, utc_now())
    world.run("adopt", "p0@example.com", "--reason", "Tuesday")
    world.run("resync")
    with world.state() as store:
        assert next(a for a in store.snapshot().accounts.values() if a.email == "p0@example.com").managed
        assert store.orders() == []


def test_restore_does_not_end_a_pause(world: World) -> None:
    fill(world)
    world.run("apply")
    copy = world.folder / "copy.db"
    with sqlite3.connect(world.folder / "state" / "reconciler.db") as former, sqlite3.connect(copy) as fresh:
        former.backup(fresh)
    copy.chmod(0o600)
    world.run("pause", "--reason", "Keeper is being migrated")
    said = world.run("restore", str(copy)).stdout
    assert "goes on (Keeper is being migrated): reconciler resume ends it" in said
    world.person("late", next(iter(world.jumpcloud.groups_in_scope(world.application))))
    before = world.writes()
    world.run("apply", expect=None)
    assert world.writes() == before


@pytest.mark.parametrize("target", ["state/reconciler.db", "token", "config.toml"])
def test_the_metrics_replace_nothing_that_we_need(world: World, target: str) -> None:
    fill(world)
    world.run("apply")
    path = world.folder / "config.toml"
    path.write_text(path.read_text() + f'\n[metrics]\ntextfile = "{target}"\n')
    before = (world.folder / target).read_bytes()
    refused = world.run("check", "--offline", expect=2)
    assert "metrics.textfile" in refused.stderr and "would replace it" in refused.stderr
    world.run("apply", expect=2)
    assert (world.folder / target).read_bytes() == before


@pytest.mark.parametrize("odd", ['[metrics]\nlisten = "a..b:9464"', '[state]\npath = "loop"'])
def test_odd_settings_do_not_end_the_service(world: World, odd: str) -> None:
    world.schedule = {"interval": '"1d"', "resync": '"7d"'}
    world.write_settings()
    fill(world)
    with Service(world) as service:
        service.start()
        until(lambda: "8 done" in service.said())
        (world.folder / "loop").symlink_to("loop")
        path = world.folder / "config.toml"
        path.write_text(f"{path.read_text()}\n{odd}\n")
        said = len(service.said())
        service.send(signal.SIGHUP)
        until(lambda: len(service.said()) > said)
        path.write_text(path.read_text().removesuffix(f"\n{odd}\n"))
        world.run("pause", "--reason", "to see that it goes on")
        assert service.process is not None and service.process.poll() is None
        service.end()


def test_a_release_that_is_said_to_have_lapsed_lets_nothing_through(world: World) -> None:
    world.safety = {"first_run": '"apply"', "max_deactivations": "0", "always_allow": "0"}
    world.schedule = {"interval": '"1d"', "resync": '"7d"'}
    world.write_settings()
    _, people = fill(world)
    world.run("apply")
    accept(world)
    groups = world.jumpcloud.groups_in_scope(world.application)
    world.jumpcloud.remove_member(next(g for g, name in groups.items() if name == "Engineering"), people[0])
    world.jumpcloud.settle_graph()
    go = threading.Event()
    with Service(world) as service:
        service.start()
        until(lambda: "1 held" in service.said())
        slow = world.front.faults.add(Held(go))
        world.run("release")
        until(lambda: slow.fired)
        until(lambda: filed(world) == ["taken"])
        service.end(signal.SIGKILL)
        go.set()
        world.front.faults.clear()
        service.start()
        until(lambda: "1 done" in service.said() or service.said().count("1 held") == 2)
        assert "has lapsed" in service.said() and account(world, people[0]).active
        service.end()


def test_an_allowance_has_a_length(world: World) -> None:
    fill(world)
    world.run("apply")
    for length in ("0h", "400d"):
        refused = world.run("allow", "--deactivations", "2", "--for", length, "--reason", "x", expect=2)
        assert "from 1m to 7d is allowed" in refused.stderr


def test_an_order_beside_a_service_of_the_former_version_says_to_restart_it(world: World) -> None:
    fill(world)
    world.run("apply")
    path = world.folder / "state" / "reconciler.db"
    with Store.open(path, write=True, takes_requests=True):
        with sqlite3.connect(path) as connection:
            connection.execute(f"PRAGMA user_version = {len(migrations.STEPS) - 1}")
        assert "Restart the service" in world.run("pause", "--reason", "stop", expect=6).stderr


@pytest.mark.parametrize("zone", ["CET-1CEST", "Europe/Nowhere"])
def test_the_service_starts_in_any_time_zone(world: World, zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world.schedule = {"interval": '"1d"', "resync": '"03:00"'}
    world.write_settings()
    fill(world)
    monkeypatch.setenv("TZ", zone)
    with Service(world) as service:
        service.start()
        until(lambda: "8 done" in service.said())
        assert "has no name: schedule.resync goes by" in service.said()
        service.end()


def test_nothing_is_promised_in_observe_mode(world: World) -> None:
    world.policy["mode"] = '"observe"'
    world.write_settings()
    fill(world)
    world.run("pause", "--reason", "x")
    assert "so nothing is sent" in world.run("resume").stdout
    world.run("allow", "--deactivations", "2", "--reason", "x", expect=2)


@pytest.mark.parametrize("name", ["state[1].db", "state.db"])
def test_only_daily_copies_are_dropped(tmp_path: Path, name: str) -> None:
    for day in range(1, 20):
        (tmp_path / f"{name}.2026-11-{day:02}.copy").touch()
    own = tmp_path / f"{name}.before-change.copy"
    own.touch()
    statefile.drop_copies(tmp_path / name, 7, datetime(2026, 11, 20, tzinfo=UTC))
    assert own.exists() and len(list(tmp_path.iterdir())) == 8


@pytest.mark.parametrize("met", ["failure", "pause"])
def test_a_release_can_be_given_again(world: World, met: str) -> None:
    world.safety = {"first_run": '"apply"', "max_deactivations": "0", "always_allow": "0"}
    world.write_settings()
    _, people = fill(world)
    world.run("apply")
    accept(world)
    world.jumpcloud.suspend(people[0])
    world.jumpcloud.settle_graph()
    world.run("apply", expect=4)
    if met == "pause":
        world.run("pause", "--reason", "x")
        world.run("release", expect=4)
        world.run("resume")
    else:
        world.jumpcloud.oddities.take_down("/api/applications.*", 400)
        world.run("release", expect=1)
        world.jumpcloud.oddities.put_up("/api/applications.*")
    world.run("release")
    assert not account(world, people[0]).active
