"""The daemon's worker and what it relies on, in this process."""

import asyncio
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reconciler import cycle, exits, log, orders
from reconciler import daemon as d
from reconciler.config import load
from reconciler.plan import Plan, Scope
from reconciler.rows import Request
from reconciler.store import InUse, Store
from tests.stage import World
from tests.world import NOW, SOURCE

EMPTY = Plan("cycle", NOW, SOURCE, Scope(0, 0, 0))


def a_daemon(world: World, store: Store) -> d.Daemon:
    made = d.Daemon(load(world.folder / "config.toml"), store, lambda: datetime.now(UTC))
    made._services = cycle.Services(None, None, "")  # type: ignore[arg-type]
    return made


def opened(world: World) -> Store:
    return Store.open(load(world.folder / "config.toml").state_path(), write=True)


def asked(store: Store, number: str) -> Request:
    found = store.request(number)
    assert found is not None
    return found


def test_a_resync_that_became_due_during_a_cycle_is_made(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    async def go() -> Any:
        with opened(world) as store:
            one = a_daemon(world, store)

            async def run(order: cycle.Order, _: object) -> cycle.Outcome:
                seen.append(order.resync)
                if len(seen) == 1:
                    one._tick("resync")  # the clock says so while the cycle is under way
                    await asyncio.sleep(0.05)
                return cycle.Outcome(1, EMPTY, "nothing")

            monkeypatch.setattr(orders, "run", run)
            worker = asyncio.create_task(one._work())
            await asyncio.sleep(0.5)
            one._tick("cycle")
            await asyncio.sleep(0.5)
            one.stop()
            await worker

    asyncio.run(go())
    assert True in seen, seen


def test_a_resync_that_became_due_in_a_failure_pause_is_made_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    async def go() -> Any:
        with opened(world) as store:
            one = a_daemon(world, store)

            async def run(order: cycle.Order, _: object) -> cycle.Outcome:
                seen.append(order.resync)
                if len(seen) == 1:
                    raise RuntimeError("down")
                return cycle.Outcome(1, EMPTY, "nothing")

            monkeypatch.setattr(orders, "run", run)
            worker = asyncio.create_task(one._work())
            await asyncio.sleep(0.2)
            assert one._failures.resting()
            one._tick("resync")
            await asyncio.sleep(0.2)
            one._failures._until = 0.0
            one._tick("cycle")
            await asyncio.sleep(0.2)
            one.stop()
            await worker

    asyncio.run(go())
    assert seen == [False, True], seen


def test_giving_somebody_up_is_no_recovery(world: World) -> None:
    async def go() -> Any:
        with opened(world) as store:
            one = a_daemon(world, store)
            one._failures.add(timedelta(minutes=5), "JumpCloud is down")
            number = store.add_request(
                "disown", {"email": "x@example.com"}, by="ada", at=datetime.now(UTC), reason="", state="filed"
            )
            await one._serve(asked(store, number))
            return one._failures.count

    assert asyncio.run(go()) == 1


def test_an_order_whose_cycle_failed_is_no_recovery(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def go() -> Any:
        with opened(world) as store:
            one = a_daemon(world, store)
            one._failures.add(timedelta(minutes=5), "down")

            async def run(_: cycle.Order, __: object) -> cycle.Outcome:
                return cycle.Outcome(1, EMPTY, "failed", stopped="401")

            monkeypatch.setattr(orders, "run", run)
            monkeypatch.setattr(orders, "answer", lambda *_, **__: orders.Answer(exits.FAILED))
            number = store.add_request("apply", {}, by="ada", at=datetime.now(UTC), reason="", state="filed")
            await one._serve(asked(store, number))
            return one._failures.count

    assert asyncio.run(go()) >= 1


def test_settings_that_are_read_again_often_leave_a_resync(world: World) -> None:
    async def go() -> Any:
        with opened(world) as store:
            one = a_daemon(world, store)
            one._scheduler.start()
            one._schedule()
            first = one._scheduler.get_job("resync").next_run_time
            await asyncio.sleep(1.5)
            one._schedule()
            second = one._scheduler.get_job("resync").next_run_time
            one._scheduler.shutdown(wait=False)
            return (second - first).total_seconds()

    assert asyncio.run(go()) < 1


def test_ticks_come_in_the_thread_of_the_loop(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []

    async def go() -> Any:
        world.schedule = {"interval": '"1s"', "jitter": '"0s"'}
        world.write_settings()
        with opened(world) as store:
            one = a_daemon(world, store)
            monkeypatch.setattr(one, "_tick", lambda _: names.append(threading.current_thread().name))
            one._schedule()
            one._scheduler.start()
            await asyncio.sleep(2.5)
            one._scheduler.shutdown(wait=False)

    asyncio.run(go())
    assert set(names) == {"MainThread"}, names


def test_an_unforeseen_failure_is_one_message(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    async def go() -> Any:
        with opened(world) as store:
            one = a_daemon(world, store)
            log.to_stderr(one.settings, service=True)
            for _ in range(5):
                one._failed(KeyError("x"))

    asyncio.run(go())
    said = capfd.readouterr().err
    assert said.count("ERROR") <= 2, said.count("ERROR")


# -- state file


def test_looking_whether_it_is_in_use_keeps_nobody_out(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    Store.open(path, write=True, takes_requests=True).close()
    code = (
        "from pathlib import Path\nfrom reconciler.statefile import is_in_use\n"
        f"while True: is_in_use(Path({str(path)!r}))"
    )
    others = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(1)]
    refused = []
    try:
        time.sleep(2)
        for _ in range(300):
            try:
                Store.open(path, write=True).close()
            except InUse as e:
                refused.append((str(e), e.takes_requests))
    finally:
        for o in others:
            o.kill()
            o.wait()
    assert refused == [], (len(refused), refused[0])
