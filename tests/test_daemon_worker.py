"""The daemon's worker and what it relies on, in this process."""

import asyncio
import errno
import json
import math
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn
from zoneinfo import ZoneInfo

import pytest
from loguru import logger

from reconciler import cycle, decisions, exits, log, orders
from reconciler import daemon as d
from reconciler.config import load
from reconciler.plan import Held, Plan, Scope
from reconciler.reading import Services, Stopped
from reconciler.rows import Request
from reconciler.statefile_errors import translated
from reconciler.store import InUse, NoRoom, Store, Unusable
from tests.stage import API_KEY, World
from tests.world import NOW, SOURCE

PATIENCE = 30.0
"""Seconds until something that should happen at once must have happened, on a machine that is busy otherwise."""

EMPTY = Plan("cycle", NOW, SOURCE, Scope(0, 0, 0))


def a_daemon(world: World, store: Store) -> d.Daemon:
    made = d.Daemon(load(world.folder / "config.toml"), store, lambda: datetime.now(UTC))
    made._services = Services(None, None, "")  # type: ignore[arg-type]
    return made


def opened(world: World) -> Store:
    return Store.open(load(world.folder / "config.toml").state_path(), write=True)


def asked(store: Store, number: str) -> Request:
    found = store.request(number)
    assert found is not None
    return found


class Runs:
    """Stands for the runs of a worker: which there were, how many of them fail, and what happens during one."""

    def __init__(self) -> None:
        self.orders: list[cycle.Order] = []
        self.failing = 0
        self.during: Callable[[], object] = lambda: None

    @property
    def resyncs(self) -> list[bool]:
        return [order.resync for order in self.orders]

    async def __call__(self, order: cycle.Order, _: object) -> cycle.Outcome:
        self.orders.append(order)
        self.during()
        if len(self.orders) <= self.failing:
            raise RuntimeError("down")
        return cycle.Outcome(1, EMPTY, "nothing")


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    made = Runs()
    monkeypatch.setattr(orders, "run", made)
    return made


def worked(world: World, drive: Callable[[d.Daemon], Awaitable[None]]) -> None:
    """Let a daemon's worker work for as long as `drive` drives it."""

    async def go() -> None:
        with opened(world) as store:
            one = a_daemon(world, store)
            worker = asyncio.create_task(one._work())
            await drive(one)
            one.stop()
            await worker

    asyncio.run(go())


async def until(what: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not what():  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0.001)


def test_a_resync_that_became_due_during_a_cycle_is_made(world: World, runs: Runs) -> None:
    async def drive(one: d.Daemon) -> None:
        runs.during = lambda: one._tick("resync") if len(runs.orders) == 1 else None
        await until(lambda: len(runs.orders) == 2)

    worked(world, drive)
    assert runs.resyncs == [False, True]


def test_a_resync_that_became_due_in_a_failure_pause_is_made_up(world: World, runs: Runs) -> None:
    async def drive(one: d.Daemon) -> None:
        await until(one._failures.resting)
        one._tick("resync")
        await until(lambda: not one._wake.is_set())
        assert len(runs.orders) == 1
        one._failures._until = 0.0
        one._tick("cycle")
        await until(lambda: len(runs.orders) == 2)

    runs.failing = 1
    worked(world, drive)
    assert runs.resyncs == [False, True]


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


def test_the_pauses_grow_to_a_quarter_of_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    failures = d.Failures()
    pauses: list[float] = []
    for _ in range(5):
        assert failures.add(timedelta(minutes=5), "down") is (not pauses)
        pauses.append(failures.rest() / 60)
        now[0] += failures.rest()
        assert not failures.resting()
    assert pauses == [5, 10, 15, 15, 15]
    failures.again()
    assert failures.add(timedelta(minutes=5), "down"), "it is told again after things have changed"
    assert (failures.rest() / 60, failures.count) == (5, 6)


def test_after_a_pause_what_failed_is_tried_again_by_itself_and_nothing_is_before(
    world: World, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resync that failed is made up for by a resync: a plain cycle that is good in between would be no recovery."""

    async def drive(one: d.Daemon) -> None:
        one._tick("resync")
        while len(runs.orders) < 4:
            one._tick("cycle")
            await asyncio.sleep(0.02)
        await until(lambda: one._failures.count == 0)

    monkeypatch.setattr(d, "LONGEST_PAUSE", timedelta(seconds=0.3))
    runs.failing = 3
    worked(world, drive)
    assert runs.resyncs == [True] * 4


@pytest.mark.parametrize("jump", [3600, -3600])
def test_a_clock_that_was_put_ends_the_pause_after_a_failure(
    world: World, runs: Runs, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    """A machine that slept has slept through most of it, and the log says that a cycle is due."""

    async def drive(one: d.Daemon) -> None:
        one._schedule()
        one._scheduler.start()
        await until(one._failures.resting)
        pulse = asyncio.create_task(one._pulse())
        await asyncio.sleep(0)
        true = time.time
        monkeypatch.setattr(time, "time", lambda: true() + jump)
        await until(lambda: len(runs.orders) == 2)
        pulse.cancel()
        one._scheduler.shutdown(wait=False)

    runs.failing = 1
    worked(world, drive)


@pytest.mark.parametrize("resync", ["03:00", "1d"])
@pytest.mark.parametrize(("jump", "missed"), [(86_400, True), (-86_400, False)])
def test_a_resync_that_was_due_while_the_machine_slept_is_made_up(
    world: World, runs: Runs, monkeypatch: pytest.MonkeyPatch, resync: str, jump: float, missed: bool
) -> None:
    world.schedule["resync"] = f'"{resync}"'
    world.write_settings()

    async def drive(one: d.Daemon) -> None:
        one._schedule()
        one._scheduler.start()
        await until(lambda: len(runs.orders) == 1)
        pulse = asyncio.create_task(one._pulse())
        await asyncio.sleep(0)
        true = time.time
        one.clock = lambda: datetime.now(UTC) + timedelta(seconds=jump)
        monkeypatch.setattr(time, "time", lambda: true() + jump)
        await until(lambda: len(runs.orders) == 2)
        pulse.cancel()
        one._scheduler.shutdown(wait=False)

    worked(world, drive)
    assert runs.resyncs == [False, missed]


def test_a_resync_at_a_time_that_spring_skips_is_due_an_hour_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In 2027, Berlin has no 02:30 on 28 March."""
    monkeypatch.setattr(d, "get_localzone", lambda: ZoneInfo("Europe/Berlin"))
    world.schedule["resync"] = '"02:30"'
    world.write_settings()
    with opened(world) as store:
        one = a_daemon(world, store)
        one._schedule()
        trigger = one._scheduler.get_job("resync").trigger
    due = [trigger.get_next_fire_time(None, datetime(2027, 3, 27, tzinfo=UTC))]
    for _ in range(2):
        due.append(trigger.get_next_fire_time(due[-1], due[-1].astimezone(UTC) + timedelta(seconds=1)))
    assert [at.astimezone(UTC).strftime("%d %H:%M") for at in due] == ["27 01:30", "28 01:30", "29 00:30"]


def test_the_intervals_have_their_jitter(world: World) -> None:
    world.schedule = {"interval": '"5m"', "jitter": '"30s"'}
    world.write_settings()
    with opened(world) as store:
        one = a_daemon(world, store)
        one._schedule()
        assert one._scheduler.get_job("cycle").trigger.jitter == 30


def test_what_is_next_is_kept_whatever_it_waits_for(world: World, runs: Runs) -> None:
    told: list[datetime] = []

    async def drive(one: d.Daemon) -> None:
        def tell() -> None:
            told.append(datetime.fromisoformat(one.store.meta("next_cycle") or ""))

        runs.during = tell  # a cycle is under way
        one._schedule()
        one._scheduler.start()
        await until(lambda: one._failures.resting() and not one._wake.is_set())
        tell()  # the pause
        one._failures.again()
        one._wake.set()
        await until(lambda: len(runs.orders) == 2 and not one._due and not one._wake.is_set())
        tell()  # the schedule
        one._scheduler.shutdown(wait=False)

    runs.failing = 1
    world.schedule = {"interval": '"2h"', "jitter": '"0s"', "resync": '"7d"'}
    world.write_settings()
    began = datetime.now(UTC)
    worked(world, drive)
    minutes = [round((at - began).total_seconds() / 60) for at in told]
    assert minutes[:2] == [0, 15], "at once, and after the pause"
    assert 15 < minutes[-1] <= 120


# -- orders ----------------------------------------------------------------------------------------------------------


def order(store: Store, settings: str, kind: str = "apply") -> Request:
    return asked(store, orders.file(orders.Ask(kind, {"email": "x@example.com"}, "ada", "", settings), store, NOW))


def served(world: World, settings: str | None = None, kind: str = "apply") -> orders.Answer:
    async def go() -> orders.Answer:
        with opened(world) as store:
            one = a_daemon(world, store)
            try:
                request = order(store, one.settings.digest if settings is None else settings, kind)
                await one._serve(request)
            finally:
                await one._clients.aclose()
            return orders.answered(asked(store, request.id))

    return asyncio.run(go())


def test_an_order_with_the_settings_of_the_service_is_carried_out(world: World, runs: Runs) -> None:
    assert served(world).code == exits.DONE
    assert len(runs.orders) == 1


def test_an_order_with_other_settings_is_refused(world: World, runs: Runs) -> None:
    answer = served(world, settings="those of another file")
    assert answer.code == exits.USAGE
    assert str(world.folder / "config.toml") in answer.error
    assert runs.orders == []


def test_an_order_without_a_word_about_settings_is_refused(world: World, runs: Runs) -> None:
    assert served(world, settings="").code == exits.USAGE
    assert runs.orders == []


def test_a_decision_asks_for_no_settings(world: World, runs: Runs) -> None:
    answer = served(world, settings="those of another file", kind="disown")
    assert (answer.code, "nobody whom we manage" in answer.error) == (exits.FAILED, True)
    assert runs.orders == []


@pytest.mark.parametrize("good", [True, False])
def test_settings_that_have_changed_are_read_before_an_order_is_carried_out(
    world: World, runs: Runs, good: bool
) -> None:
    async def go() -> orders.Answer:
        with opened(world) as store:
            one = a_daemon(world, store)
            world.policy["protect"] = '["p0@example.com"]' if good else '"nobody'
            world.write_settings()
            now = load(world.folder / "config.toml").digest if good else "what cannot be read"
            request = order(store, now)
            await one._serve(request)
            await one._clients.aclose()
            assert one.settings.policy().protect == ({"p0@example.com"} if good else set())
            return orders.answered(asked(store, request.id))

    world.policy["protect"] = "[]"
    world.write_settings()
    answer = asyncio.run(go())
    assert answer.code == (exits.DONE if good else exits.USAGE)
    assert len(runs.orders) == good
    if not good:
        assert "config.toml" in answer.error


def test_an_order_that_was_broken_off_before_anything_was_sent_is_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(*_: object) -> cycle.Outcome:
        raise Stopped

    monkeypatch.setattr(orders, "run", run)
    with opened(world) as store:
        one = a_daemon(world, store)
        request = order(store, one.settings.digest)
        asyncio.run(one._serve(request))
        assert asked(store, request.id).state == "filed"


def test_an_answer_that_can_t_be_recorded_is_recorded_later_and_the_order_not_carried_out_again(
    world: World, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(world) as store:
        one = a_daemon(world, store)
        request = order(store, one.settings.digest)

        def full(*_: object) -> None:
            raise Unusable(store.path, "the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(store, "close_request", full)
            asyncio.run(one._serve(request))
        assert asked(store, request.id).state == "taken"
        asyncio.run(one._serve(request))
        one._answer()
        assert asked(store, request.id).state == "done"
    assert len(runs.orders) == 1


def test_an_order_that_was_carried_out_ends_the_pause_and_is_no_recovery(world: World, runs: Runs) -> None:
    with opened(world) as store:
        one = a_daemon(world, store)
        one._failures.add(timedelta(minutes=5), "down")
        asyncio.run(one._serve(order(store, one.settings.digest)))
        assert not one._failures.resting()
        assert one._failures.count == 1
    assert runs.orders


def test_giving_somebody_up_is_no_recovery(world: World) -> None:
    async def go() -> Any:
        with opened(world) as store:
            one = a_daemon(world, store)
            one._failures.add(timedelta(minutes=5), "JumpCloud is down")
            await one._serve(order(store, "", "disown"))
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
            await one._serve(order(store, one.settings.digest))
            return one._failures.count

    assert asyncio.run(go()) >= 1


def test_what_is_agreed_to_counts_once_the_order_is_taken(world: World, runs: Runs) -> None:
    with opened(world) as store:
        one = a_daemon(world, store)
        agreed = {"agreed": orders.agreement(store, "plan", frozenset({("lock", "j-ada", "")}), "looked at")}
        ask = orders.Ask("apply", agreed, "ada", "", one.settings.digest)
        request = asked(store, orders.file(ask, store, NOW))
        assert store.open_requests(datetime.now(UTC), "release") == []
        asyncio.run(one._serve(request))
        [release] = store.open_requests(datetime.now(UTC), "release")
        assert (release.by, release.reason, release.arguments["plan"]) == ("ada", "looked at", "plan")
    assert runs.orders


# -- the log ---------------------------------------------------------------------------------------------------------


HOSTILE = "a name \x1b[2J\x1b]0;owned\x07\nINFO forged line"


def test_an_unforeseen_failure_is_one_message(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    with opened(world) as store:
        one = a_daemon(world, store)
        log.to_stderr(one.settings, service=True)
        for _ in range(5):
            one._failed(KeyError("x"))
    assert capfd.readouterr().err.count("ERROR") == 1


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_unforeseen_failure_shows_where_it_was_and_nothing_that_harms(
    world: World, capfd: pytest.CaptureFixture[str], form: str
) -> None:
    def fail() -> None:
        try:
            raise ValueError(HOSTILE)
        except ValueError as error:
            raise RuntimeError(f"header: Bearer {API_KEY}") from error

    world.write_settings(log=f'[log]\nformat = "{form}"\n')
    with opened(world) as store:
        one = a_daemon(world, store)
        log.to_stderr(one.settings, service=True)
        with pytest.raises(RuntimeError) as raised:
            fail()
        one._failed(raised.value)
    said = capfd.readouterr().err
    assert "RuntimeError: header: Bearer […]" in said
    assert "in fail: raise ValueError(HOSTILE)" in said
    assert "ValueError: a name \\x1b" in said if form == "text" else "\\\\x1b" in said
    assert "\x1b" not in said and "\x07" not in said
    assert "\nINFO" not in said
    assert API_KEY not in said
    if form == "json":
        [line] = said.splitlines()
        assert "in fail: raise" in json.loads(line)["exception"]


@pytest.mark.parametrize("fails", [True, False])
def test_what_is_logged_after_a_run_bears_its_number(
    world: World, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], fails: bool
) -> None:
    async def run(
        _: object, __: object, store: Store, ___: object, clock: Any, *, begun: Callable[[int], None], **____: object
    ) -> cycle.Outcome:
        number = store.begin_run("cycle", clock(), by="", reason="")
        begun(number)
        store.finish_run(number, clock(), "nothing")
        store.finish_run(store.begin_run("leavers", clock(), by="", reason=""), clock(), "done")  # beside it
        if fails:
            raise RuntimeError("down")
        return cycle.Outcome(number, EMPTY, "nothing")

    def full(*_: object) -> None:
        raise Unusable(Path("x"), "the disk is full")

    monkeypatch.setattr(cycle, "run", run)
    # The reports' directory is a file: that is told after the run, failed or not.
    world.write_settings(report='[report]\ndirectory = "config.toml"\n')
    with opened(world) as store:
        monkeypatch.setattr(store, "keep_house", full)
        store.finish_run(store.begin_run("cycle", NOW, by="", reason=""), NOW, "nothing")
        one = a_daemon(world, store)
        log.to_stderr(one.settings, service=True)
        asyncio.run(one._cycle(resync=False))
        logger.info("something else")
    *lines, last = [line for line in capfd.readouterr().err.splitlines() if re.search(r"\+0000 [A-Z]+ ", line)]
    assert len(lines) >= 2
    assert all(" run 2: " in line for line in lines), lines
    assert "run" not in last


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


def test_a_full_disk_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tries: list[Path] = []
    really = Store.open

    def once_there_is_room(path: Path, **options: bool) -> Store:
        tries.append(path)
        if len(tries) < 3:
            raise NoRoom(path, "database or disk is full")
        return really(path, **options)

    monkeypatch.setattr(Store, "open", once_there_is_room)
    monkeypatch.setattr(d, "LOOK_AGAIN", 0.0)
    settings = load(world.folder / "config.toml")
    log.to_stderr(settings, service=True)
    d._opened(settings, lambda: datetime.now(UTC)).close()
    [line] = capfd.readouterr().err.splitlines()
    assert "ERROR" in line and "is full. What was recorded before is kept" in line


def test_a_disk_that_is_full_for_the_answer_to_an_order_of_yesterday_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, full = load(world.folder / "config.toml"), [True]
    with opened(world) as store:
        number = orders.file(orders.Ask("apply", {}, "ada", "", settings.digest), store, NOW)
    really = Store.close_request

    def once_there_is_room(store: Store, *values: Any) -> None:
        if full:
            full.clear()
            raise NoRoom(store.path, "database or disk is full")
        really(store, *values)

    monkeypatch.setattr(Store, "close_request", once_there_is_room)
    monkeypatch.setattr(d, "LOOK_AGAIN", 0.0)
    with d._opened(settings, lambda: datetime.now(UTC)) as store:
        assert asked(store, number).state == "lapsed"


@pytest.mark.parametrize(
    ("error", "passes"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EACCES, False), (errno.EROFS, False)]
)
def test_only_a_full_disk_is(error: int, passes: bool) -> None:
    with pytest.raises(Unusable) as raised, translated(Path("state.db")):
        raise OSError(error, os.strerror(error))
    assert isinstance(raised.value, NoRoom) is passes


def test_the_lane_rests_longer_after_much_work_and_never_for_hours() -> None:
    assert [d.lane_rest(took) for took in (0.2, 30.0, 3600.0)] == [60.0, 300.0, 900.0]


def test_locks_that_take_long_do_not_delay_the_next_look(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where one person's request hangs, or whoever is told of the locks."""

    async def look(*_: object) -> cycle.Order:
        return cycle.Order(leavers=frozenset({"a" * 24}))

    async def run(*_: object) -> cycle.Outcome:
        await asyncio.sleep(1.0)
        return cycle.Outcome(1, EMPTY, "done")

    monkeypatch.setattr(cycle, "leavers", look)
    monkeypatch.setattr(orders, "run", run)
    monkeypatch.setattr(d, "LANE", 0.0)

    async def go() -> float:
        with opened(world) as store:
            one = a_daemon(world, store)
            await one._lock_leavers_if_due()
            return one._look_at - asyncio.get_running_loop().time()

    assert asyncio.run(go()) < 0.5


def test_a_look_of_the_lane_that_hangs_does_not_delay_the_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where JumpCloud is down: nothing is lost by giving a read up."""
    looks: list[str] = []

    async def look(*_: object) -> None:
        looks.append("begun")
        await asyncio.sleep(PATIENCE)

    monkeypatch.setattr(cycle, "leavers", look)

    async def go() -> None:
        with opened(world) as store:
            one = a_daemon(world, store)
            worker = asyncio.create_task(one._work_urgently())
            await until(lambda: looks)
            one.stop()
            async with asyncio.timeout(PATIENCE / 2):
                await worker

    asyncio.run(go())


def test_the_lane_does_not_wait_for_all_orders_about_one_person(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    filed = [["first", "second"]]

    async def serve(one: d.Daemon, request: Any) -> None:
        said.append(request)
        one._look_at = 0.0  # that took longer than the lane rests

    async def look(one: d.Daemon) -> None:
        said.append("lane")
        one._look_at = math.inf

    monkeypatch.setattr(d.Daemon, "_orders", lambda _, urgent: filed.pop(0) if urgent and filed else [])
    monkeypatch.setattr(d.Daemon, "_is_urgent", lambda *_: True)
    monkeypatch.setattr(d.Daemon, "_serve", serve)
    monkeypatch.setattr(d.Daemon, "_lock_leavers", look)

    async def go() -> None:
        with opened(world) as store:
            one = a_daemon(world, store)
            worker = asyncio.create_task(one._work_urgently())
            await until(lambda: len(said) == 5)
            one.stop()
            await worker

    asyncio.run(go())
    assert said == ["lane", "first", "lane", "second", "lane"]


def test_settings_that_change_twice_while_orders_about_one_person_wait_stop_no_worker(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[str] = []

    async def go() -> None:
        with opened(world) as store:
            one = a_daemon(world, store)

            async def run(asked: cycle.Order, _: object) -> cycle.Outcome:
                if asked.person == "p1@example.com":
                    world.policy["protect"] = '["p0@example.com"]'
                    world.write_settings()
                    one._ask_to_reload()
                    await until(lambda: one._partial._waiters)
                    world.policy["protect"] = "[]"
                    world.write_settings()
                served.append(asked.person)
                return cycle.Outcome(1, EMPTY, "nothing")

            async def nobody(*_: object) -> None:
                return None

            monkeypatch.setattr(orders, "run", run)
            monkeypatch.setattr(cycle, "leavers", nobody)
            monkeypatch.setattr(d.Daemon, "_serve_metrics", lambda _: asyncio.sleep(0.01))  # at another port
            for name in ("p1", "p2"):
                ask = orders.Ask("resync", {"person": f"{name}@example.com"}, "ada", "", one.settings.digest)
                orders.file(ask, store, NOW)
            workers = [asyncio.create_task(work) for work in (one._work(), one._work_urgently())]
            try:
                await until(lambda: "p2@example.com" in served)
            finally:
                one.stop()
                await asyncio.wait(workers, timeout=1.0)
                for worker in workers:
                    worker.cancel()
                await one._clients.aclose()

    world.policy["protect"] = "[]"
    world.write_settings()
    asyncio.run(go())


def test_a_decision_waits_for_no_cycle_and_comes_before_what_is_ordered_after_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has just been given up must not be locked by the cycle that is under way, minutes later."""
    said: list[str] = []

    async def go() -> None:
        with opened(world) as store:
            one, over = a_daemon(world, store), asyncio.Event()

            async def run(asked: cycle.Order, _: object) -> cycle.Outcome:
                said.append(asked.person or "cycle")
                if not asked.person:
                    await over.wait()
                return cycle.Outcome(1, EMPTY, "nothing")

            def disown(*_: object) -> str:
                said.append("disown")
                return "given up"

            async def nobody(*_: object) -> None:
                return None

            monkeypatch.setattr(orders, "run", run)
            monkeypatch.setattr(cycle, "leavers", nobody)
            monkeypatch.setattr(decisions, "disown", disown)
            workers = [asyncio.create_task(work) for work in (one._work(), one._pulse(), one._work_urgently())]
            try:
                await until(lambda: said == ["cycle"])
                with Store.beside(store.path) as beside:
                    order(beside, one.settings.digest, "disown")
                    ask = orders.Ask("resync", {"person": "x@example.com"}, "ada", "", one.settings.digest)
                    orders.file(ask, beside, NOW)
                await until(lambda: "x@example.com" in said)
            finally:
                over.set()
                one.stop()
                await asyncio.wait(workers, timeout=1.0)
                for worker in workers:
                    worker.cancel()

    asyncio.run(go())
    assert said == ["cycle", "disown", "x@example.com"]


def test_an_order_that_cannot_be_taken_leaves_the_loop_alive(
    world: World, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full: nothing of an order can be recorded."""
    taken: list[str] = []

    async def drive(one: d.Daemon) -> None:
        await until(lambda: len(runs.orders) == 1)
        take, close = one.store.take, one.store.close_request

        def full(*_: object, **__: object) -> NoReturn:
            raise NoRoom(one.store.path, "0 MiB are free")

        def takes(number: str) -> bool:
            taken.append(number)
            return take(number) if len(taken) > 2000 else full()  # so that the test ends

        monkeypatch.setattr(one.store, "take", takes)
        monkeypatch.setattr(one.store, "close_request", lambda *a, **k: close(*a, **k) if len(taken) > 2000 else full())
        orders.file(orders.Ask("apply", {}, "root", "", one.settings.digest), one.store, one._now())
        one._wake.set()
        for _ in range(20):
            await asyncio.sleep(0.01)

    worked(world, drive)
    assert len(taken) < 100


def test_the_log_names_no_release_while_all_writes_are_paused() -> None:
    held = Held("max_deactivations", (0,), 3, 9, "9 people would be locked")
    paused = Held("paused", (0,), 0, 1, "all writes were paused by ann")
    for holds, way in (((held,), "reconciler release"), ((held, paused), "reconciler resume")):
        told = d._summary(cycle.Outcome(1, replace(EMPTY, held=holds), "held"))
        assert way in told and told.count("reconciler ") == 1, told
