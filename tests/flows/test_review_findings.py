"""What a review found by using the command line as an administrator does."""

import os
import sqlite3
import subprocess
from pathlib import Path

import pytest

from reconciler import orders
from reconciler.cli.base import utc_now
from reconciler.store import Store
from tests.inside import fill
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
