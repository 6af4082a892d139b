"""The leaver lane and a whole cycle on the same people at the same time, through the real service."""

import asyncio
import json
from typing import Any

import pytest
from loguru import logger

from reconciler import apply as executor
from reconciler import cycle, orders
from reconciler.after import After
from reconciler.config import load
from reconciler.report import status
from reconciler.simulator.faults import Latency
from reconciler.store import Store
from reconciler.wiring import services
from tests.flows.service import Service, until
from tests.inside import Inside, accept, account, fill
from tests.stage import World


def test_a_first_lock_that_both_want_to_send_is_sent(world: World, service: Service) -> None:
    """The cycle waits for a person whom the lane holds, and the lane for the canary that the cycle would send."""
    _, people = fill(world)
    world.run("apply")
    accept(world)
    world.jumpcloud.suspend(people[0])
    # The lane holds the person while it reads the record a second time; the cycle plans the same lock meanwhile.
    world.front.faults.add(Latency(6.0), target=f"/api/systemusers/{people[0]}", skip=1, times=1)
    world.front.faults.add(Latency(2.0), target="/usergroups", times=2)
    service.start()
    until(lambda: not account(world, people[0]).active)
    world.jumpcloud.suspend(people[1])
    until(lambda: not account(world, people[1]).active)


def test_a_cycle_beside_which_the_lane_runs_is_itself_in_status_log_and_reports(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest run passed for the one that had just ended, and any older one without a result for cut off."""
    fill(world)
    world.write_settings(report='[report]\ndirectory = "reports"\n')
    inside, original = Inside(world), executor.apply
    said: list[object] = []
    settings = load(world.folder / "config.toml")

    def runs(store: Store) -> list[str]:
        return [f"{run['kind']} {run['result']}" for run in status.document(store, settings, inside.now)["runs"]]

    async def go() -> None:
        async with services(settings) as both:
            with Store.open(settings.state_path(), write=True) as store:

                async def apply(*arguments: Any, **named: Any) -> executor.Applied:
                    lane.append(store.begin_run("leavers", inside.now, by="schedule", reason=""))
                    applied = await original(*arguments, **named)
                    store.finish_run(lane[0], inside.now, "done")
                    assert runs(store) == ["leavers done", "cycle under way"]
                    lane.append(store.begin_run("leavers", inside.now, by="schedule", reason=""))
                    return applied

                lane: list[int] = []
                monkeypatch.setattr(executor, "apply", apply)
                where = orders.Setting(settings, both, store, lambda: inside.now, asyncio.Event(), After(store), 100)
                outcome = await orders.run(cycle.Order(by="schedule"), where)
                assert where.begun == [outcome.run_id] and outcome.run_id < lane[0]
                with orders.lines_of_run(where.begun):
                    logger.info("that was the cycle")
                assert runs(store) == ["leavers under way", "leavers done", "resync done"]
        for write in (False, True):
            with Store.open(settings.state_path(), write=write) as store:
                assert runs(store)[0] == "leavers cut off"
        assert said == [outcome.run_id]

    sink = logger.add(lambda line: said.append(line.record["extra"].get("run")), filter=_is_of_the_cycle)
    try:
        asyncio.run(go())
    finally:
        logger.remove(sink)
    (entry,) = json.loads((world.folder / "reports" / "index.json").read_text())
    assert (entry["kind"], entry["result"]) == ("resync", "done")


def _is_of_the_cycle(record: Any) -> bool:
    return str(record["message"]) == "that was the cycle"
