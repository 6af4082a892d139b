"""A clock that is wrong for a while: whoever leaves is locked when due, nothing is lost, and nothing ends early.

Real runs in this process. Where the services tell the time, they tell the true one; it is this machine's that is wrong.
"""

import asyncio
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from loguru import logger

from reconciler import confirm, consent, cycle, orders
from reconciler.after import After
from reconciler.clocks import ServiceTime
from reconciler.config import load
from reconciler.http import Http
from reconciler.jumpcloud import JumpCloud
from reconciler.pace import Clock
from reconciler.plan import Kind, NoticeKind, Operation, Plan
from reconciler.reading import Services
from reconciler.simulator.faults import status
from reconciler.store import Store
from reconciler.wiring import services
from tests.inside import accept, account, fill
from tests.stage import World

NONE, MINUTE, HOUR, DAY = timedelta(), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
YEAR = 365 * DAY
WHO_TELLS = ["both", "none"]
AHEAD = [YEAR, 9 * HOUR]
BEHIND = [-YEAR, -9 * HOUR]


class Office:
    """The reconciler on a machine whose clock is `wrong` by so much. `tell`: which services tell the time."""

    def __init__(self, world: World, tell: str = "both") -> None:
        self.world = world
        self.tell = tell
        self.true = datetime(2026, 11, 24, 12, tzinfo=UTC)
        self.wrong = NONE
        self.said: list[str] = []

    def machine(self) -> datetime:
        return self.true + self.wrong

    def run(
        self, order: cycle.Order | None = None, *, later: timedelta = 5 * MINUTE, wrong: timedelta = NONE
    ) -> cycle.Outcome:
        """One run with all that belongs to it, so much later, on a machine whose clock is wrong by so much."""
        self.true += later
        self.wrong = wrong
        settings = load(self.world.folder / "config.toml")

        async def go() -> cycle.Outcome:
            async with services(settings) as both:
                with Store.open(settings.state_path(), write=True) as store:
                    where = orders.Setting(
                        settings, self._telling(both), store, self.machine, asyncio.Event(), After(store), width=100
                    )
                    return await orders.run(order or cycle.Order(by="schedule"), where)

        return asyncio.run(go())

    def lane(self, *, later: timedelta = MINUTE) -> cycle.Outcome | None:
        """One look of the leaver lane, so much later, with what it orders; the clock stays as wrong as it is."""
        self.true += later
        settings = load(self.world.folder / "config.toml")

        async def go() -> cycle.Outcome | None:
            async with services(settings) as both:
                with Store.open(settings.state_path(), write=True) as store:
                    telling = self._telling(both)
                    order = await cycle.leavers(settings, telling, store, self.machine())
                    where = orders.Setting(
                        settings, telling, store, self.machine, asyncio.Event(), After(store), width=100
                    )
                    return None if order is None else await orders.run(order, where)

        return asyncio.run(go())

    def _telling(self, both: Services) -> Services:
        true = ServiceTime(lambda: -self.wrong.total_seconds())
        jumpcloud = true if self.tell != "none" else ServiceTime()
        return replace(both, jumpcloud_time=jumpcloud, keeper_time=true if self.tell == "both" else ServiceTime())

    @contextmanager
    def store(self, write: bool = False) -> Iterator[Store]:
        with Store.open(load(self.world.folder / "config.toml").state_path(), write=write) as store:
            yield store

    def active(self, person: str) -> bool:
        return account(self.world, person).active


@pytest.fixture
def office(world: World, request: pytest.FixtureRequest) -> Office:
    world.policy["grace"] = '"30m"'
    world.write_settings()
    return Office(world, getattr(request, "param", "both"))


@pytest.fixture
def said() -> Iterator[list[str]]:
    lines: list[str] = []
    number = logger.add(lines.append, format="{message}")
    yield lines
    logger.remove(number)


def at_work(office: Office, people: int = 6) -> tuple[list[str], list[str]]:
    """An organisation whose people have accounts."""
    groups, ids = fill(office.world, people)
    office.run()
    accept(office.world)
    office.run()
    return groups, ids


def leaves(office: Office, group: str, person: str) -> None:
    office.world.jumpcloud.remove_member(group, person)
    office.world.jumpcloud.settle_graph()


def clock_notices(outcome: cycle.Outcome) -> list[str]:
    return [notice.message for notice in outcome.plan.notices if notice.kind is NoticeKind.CLOCK]


def in_future(office: Office) -> list[str]:
    """The times in the state file that are later than now."""
    with office.store() as store:
        connection = sqlite3.connect(store.path)
    found = [
        text
        for table, column in (("users", "left_at"), ("operations", "planned_at"), ("operations", "finished_at"),
                              ("runs", "started_at"), ("alerts", "at"), ("requests", "at"))
        for (text,) in connection.execute(f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL")
        if datetime.fromisoformat(text) > office.true + MINUTE
    ]  # fmt: skip
    connection.close()
    return found


# -- ahead, and right again -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", AHEAD)
@pytest.mark.parametrize("office", WHO_TELLS, indirect=True)
def test_who_leaves_while_the_clock_is_ahead_is_locked_when_due(office: Office, ahead: timedelta) -> None:
    groups, people = at_work(office)
    leaves(office, groups[0], people[0])
    office.run(wrong=ahead)
    office.run()
    assert office.active(people[0])
    office.run(later=25 * MINUTE)
    office.run(later=10 * MINUTE)
    assert not office.active(people[0])
    assert in_future(office) == []


@pytest.mark.parametrize("ahead", AHEAD)
@pytest.mark.parametrize("office", WHO_TELLS, indirect=True)
def test_what_failed_while_the_clock_was_ahead_is_tried_again_soon(office: Office, ahead: timedelta) -> None:
    groups, people = at_work(office)
    office.world.jumpcloud.suspend(people[0])
    office.run()
    office.world.jumpcloud.activate(people[0])
    new = office.world.person("new", groups[0])
    office.world.back.faults.add(status(400), method="PATCH", target="/Users")
    office.world.back.faults.add(status(400), method="POST", target="/Users")
    office.run(wrong=ahead)
    assert not office.active(people[0])
    office.world.back.faults.clear()
    office.run()
    office.run(later=6 * MINUTE)
    assert office.active(people[0])
    assert account(office.world, new)


@pytest.mark.parametrize("ahead", AHEAD)
@pytest.mark.parametrize("office", WHO_TELLS, indirect=True)
def test_an_allowance_of_four_hours_lasts_four_hours(office: Office, ahead: timedelta) -> None:
    office.world.safety |= {"max_deactivations": "0", "always_allow": "0"}
    office.world.write_settings()
    _groups, people = at_work(office)
    with office.store(write=True) as store:
        arguments = {"deactivations": 4}
        store.add_request("allow", arguments, "root", office.true + ahead, "lay-off", lasts=4 * HOUR)
    office.world.jumpcloud.suspend(people[0])
    office.run(wrong=ahead)
    assert not office.active(people[0])
    office.run()
    office.world.jumpcloud.suspend(people[1])
    office.run(later=3 * HOUR)
    assert not office.active(people[1])
    office.world.jumpcloud.suspend(people[2])
    office.run(later=2 * HOUR)
    assert office.active(people[2])


@pytest.mark.parametrize("ahead", AHEAD)
@pytest.mark.parametrize("office", WHO_TELLS, indirect=True)
def test_the_window_of_a_limit_is_free_again_after_a_day(office: Office, ahead: timedelta) -> None:
    office.world.safety |= {"max_deactivations": "1", "always_allow": "0"}
    office.world.write_settings()
    _groups, people = at_work(office)
    office.world.jumpcloud.suspend(people[0])
    office.run(wrong=ahead)
    office.world.jumpcloud.suspend(people[1])
    office.run()
    office.run(later=20 * HOUR)
    assert office.active(people[1])
    office.run(later=5 * HOUR)
    assert not office.active(people[1])


@pytest.mark.parametrize("ahead", [YEAR, 3 * YEAR])
@pytest.mark.parametrize("office", WHO_TELLS, indirect=True)
def test_the_journal_is_not_emptied(office: Office, ahead: timedelta) -> None:
    at_work(office)
    with office.store() as store:
        before = [row.id for row in store.journal(office.true - DAY)]
    office.run(wrong=ahead)
    for _ in range(3):
        office.run()
    with office.store() as store:
        assert [row.id for row in store.journal(office.true - DAY)][: len(before)] == before
        assert len(store.runs(99)) == 6


@pytest.mark.parametrize("office", WHO_TELLS, indirect=True)
def test_reports_are_not_emptied(office: Office) -> None:
    reports = '[report]\ndirectory = "reports"\nkeep = "30d"\n'
    path = office.world.folder / "config.toml"
    path.write_text(path.read_text() + reports)
    at_work(office)
    names = {one.name for one in (office.world.folder / "reports").iterdir()}
    office.run(wrong=YEAR)
    office.run()
    assert names <= {one.name for one in (office.world.folder / "reports").iterdir()}


@pytest.mark.parametrize("office", WHO_TELLS, indirect=True)
def test_alerts_are_repeated_as_due(office: Office) -> None:
    office.world.safety |= {"max_deactivations": "0", "always_allow": "0"}
    office.world.write_settings()
    told = office.world.folder / "told"
    path = office.world.folder / "config.toml"
    path.write_text(path.read_text() + f'[notify]\ncommand = ["/bin/sh", "-c", "cat >> {told}; echo >> {told}"]\n')
    _groups, people = at_work(office)
    office.world.jumpcloud.suspend(people[0])

    def holds() -> int:
        return sum(json.loads(line)["kind"] == "held" for line in told.read_text().splitlines()) if told.exists() else 0

    office.run(wrong=YEAR)
    assert holds() == 1
    office.run()
    office.run()
    before = holds()
    office.run(later=3 * HOUR)
    assert holds() == before
    office.run(later=2 * HOUR)
    assert holds() == before + 1


@pytest.mark.parametrize("office", WHO_TELLS, indirect=True)
def test_each_lock_is_told_once(office: Office) -> None:
    told = office.world.folder / "told"
    path = office.world.folder / "config.toml"
    path.write_text(path.read_text() + f'[notify]\ncommand = ["/bin/sh", "-c", "cat >> {told}; echo >> {told}"]\n')
    _groups, people = at_work(office)
    office.world.jumpcloud.suspend(people[0])
    for wrong in (NONE, YEAR, NONE, NONE):
        office.run(wrong=wrong)
    assert [json.loads(line)["kind"] for line in told.read_text().splitlines()].count("deactivated") == 1


@pytest.mark.parametrize("office", WHO_TELLS, indirect=True)
def test_how_it_stands_is_dated_rightly(office: Office) -> None:
    """The last good cycle, and what counts from it, after a clock that was ahead."""
    at_work(office)
    office.run(wrong=YEAR)
    office.run()
    office.run()
    with office.store() as store:
        after = After(store)
        assert after.standing.last_good == office.true
        assert after.ready(load(office.world.folder / "config.toml"), office.true)
        assert not after.ready(load(office.world.folder / "config.toml"), office.true + HOUR)


@pytest.mark.parametrize("office", WHO_TELLS, indirect=True)
def test_a_team_asked_for_is_dated_rightly(office: Office) -> None:
    office.world.keeper.set_dialect(shows_queued_teams=False)
    at_work(office)
    office.world.group("New")
    office.run(wrong=YEAR)
    office.run()
    office.run()
    with office.store() as store:
        asked = [t.queued_at for t in store.snapshot().teams.values() if t.name == "New"]
    assert asked[0] is not None
    assert office.true - 20 * MINUTE <= asked[0] <= office.true


@pytest.mark.parametrize("office", WHO_TELLS, indirect=True)
def test_a_pause_made_while_the_clock_was_ahead_holds_and_ends(office: Office) -> None:
    _groups, people = at_work(office)
    with office.store(write=True) as store:
        store.add_request("pause", {}, "root", office.true + YEAR, "")
    office.world.jumpcloud.suspend(people[0])
    office.run(wrong=YEAR)
    office.run()
    assert office.active(people[0])
    with office.store(write=True) as store:
        assert store.resume("root", office.true, "")
    office.run()
    assert not office.active(people[0])


@pytest.mark.parametrize("office", WHO_TELLS, indirect=True)
def test_a_release_given_while_the_clock_was_ahead_counts(office: Office) -> None:
    office.world.safety |= {"max_deactivations": "0", "always_allow": "0"}
    office.world.write_settings()
    _groups, people = at_work(office)
    office.world.jumpcloud.suspend(people[0])
    held = office.run()
    with office.store(write=True) as store:
        consent.agree(store, held.plan.id, held.plan.effects, by="root", at=office.true + YEAR, reason="")
    office.run()
    assert not office.active(people[0])


# -- behind, and right again ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("office", WHO_TELLS, indirect=True)
def test_nobodys_grace_ends_early_after_a_clock_that_was_behind(office: Office, behind: timedelta) -> None:
    groups, people = at_work(office)
    leaves(office, groups[0], people[0])
    office.run()
    leaves(office, groups[1], people[1])
    office.run(wrong=behind)
    office.run(later=20 * MINUTE)
    assert office.active(people[0])
    assert office.active(people[1])
    office.run(later=7 * MINUTE)
    assert not office.active(people[0])
    office.run(later=10 * MINUTE)
    assert not office.active(people[1])


@pytest.mark.parametrize("behind", [*BEHIND, -3 * YEAR])
@pytest.mark.parametrize("office", WHO_TELLS, indirect=True)
def test_nothing_is_pruned_and_no_limit_is_free_early_after_a_clock_that_was_behind(
    office: Office, behind: timedelta
) -> None:
    office.world.safety |= {"max_deactivations": "1", "always_allow": "0"}
    office.world.write_settings()
    _groups, people = at_work(office)
    office.world.jumpcloud.suspend(people[0])
    office.run()
    with office.store() as store:
        before = [row.id for row in store.journal(office.true - DAY)]
    office.run(wrong=behind)
    office.world.jumpcloud.suspend(people[1])
    for _ in range(3):
        office.run(later=2 * HOUR)
    assert office.active(people[1])
    with office.store() as store:
        assert [row.id for row in store.journal(office.true - DAY)][: len(before)] == before


def run_and_jump(office: Office, jump: timedelta, monkeypatch: pytest.MonkeyPatch) -> None:
    """One run, while which the machine's clock is put back: after its time is settled, before anything is sent."""
    read = confirm.Confirmation.of

    async def of(self: confirm.Confirmation, op: Operation) -> object:
        office.wrong = jump
        return await read(self, op)

    with monkeypatch.context() as patch:
        patch.setattr(confirm.Confirmation, "of", of)
        office.run()


@pytest.mark.parametrize("jump", [-YEAR, -30 * HOUR])
@pytest.mark.parametrize("office", WHO_TELLS, indirect=True)
def test_a_clock_that_is_put_back_in_a_run_frees_no_limit(
    office: Office, jump: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.world.safety |= {"max_deactivations": "1", "always_allow": "0"}
    office.world.write_settings()
    _groups, people = at_work(office)
    office.world.jumpcloud.suspend(people[0])
    run_and_jump(office, jump, monkeypatch)
    with office.store() as store:
        [lock] = [row for row in store.journal(office.true - YEAR) if row.operation.kind is Kind.DEACTIVATE_USER]
    assert lock.sent_at == lock.planned_at
    office.world.jumpcloud.suspend(people[1])
    office.run()
    assert [office.active(person) for person in people[:2]] == [False, True]


@pytest.mark.parametrize("office", WHO_TELLS, indirect=True)
def test_a_clock_that_is_put_back_in_a_run_empties_no_journal(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    _groups, people = at_work(office)
    office.world.jumpcloud.suspend(people[0])
    run_and_jump(office, -3 * YEAR, monkeypatch)
    office.world.jumpcloud.activate(people[0])
    office.run()
    for _ in range(3):
        office.run(later=DAY)
    with office.store() as store:
        kinds = [row.operation.kind for row in store.journal(office.true - YEAR)]
    assert Kind.DEACTIVATE_USER in kinds


# -- a run that lasts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decision", ["release", "allow"])
def test_a_decision_that_ends_while_the_process_is_stopped_counts_no_more(
    office: Office, decision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.world.safety |= {"max_deactivations": "0", "always_allow": "0"}
    office.world.write_settings()
    _groups, people = at_work(office)
    office.world.jumpcloud.suspend(people[0])
    plan = office.run().plan
    with office.store(write=True) as store:
        if decision == "release":
            consent.agree(store, plan.id, plan.effects, by="root", at=office.true, reason="")
        else:
            store.add_request("allow", {"deactivations": 4}, "root", office.true, "lay-off", lasts=4 * HOUR)
    read = JumpCloud.read_scope

    async def stopped(self: JumpCloud, *more: Any) -> object:
        office.true += 12 * HOUR
        return await read(self, *more)

    with monkeypatch.context() as patch:
        patch.setattr(JumpCloud, "read_scope", stopped)
        outcome = office.run()
    assert [held.limit for held in outcome.plan.held] == ["max_deactivations"]
    assert office.active(people[0])


def test_a_release_that_runs_out_after_a_crash_lets_the_rest_through(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.world.safety |= {"max_deactivations": "0", "always_allow": "0"}
    office.world.write_settings()
    _groups, people = at_work(office)
    for one in people[:2]:
        office.world.jumpcloud.suspend(one)
    plan = office.run().plan
    with office.store(write=True) as store:
        consent.agree(store, plan.id, plan.effects, by="root", at=office.true, reason="")
    office.world.front.faults.add(status(403), target="/api/systemusers/|/api/search|filter=_id")
    office.run()
    office.world.front.faults.clear()
    office.world.front.faults.add(status(403), target=f"/api/systemusers/{people[1]}|/api/search|filter=_id")

    def dies(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(consent, "prolong", dies)
        with pytest.raises(MemoryError):
            office.run(later=3 * HOUR + 50 * MINUTE)
    office.world.front.faults.clear()
    assert [office.active(one) for one in people[:2]] == [False, True]
    office.run(later=20 * MINUTE)
    assert not office.active(people[1])


@pytest.mark.parametrize("stood_still", ["machine", "process"])
def test_who_left_while_nothing_went_on_in_a_read_is_not_created(
    office: Office, monkeypatch: pytest.MonkeyPatch, stood_still: str
) -> None:
    """A machine that sleeps, or a process that is stopped while all clocks go on."""
    groups, _people = at_work(office)
    true = lambda: office.true.timestamp()  # noqa: E731
    clock = Clock(boottime=true, wall=true)
    monkeypatch.setattr(Http, "clock", clock if stood_still == "machine" else replace(clock, monotonic=true))
    new = [office.world.person(name, groups[0]) for name in ("new", "newer")]
    read = JumpCloud.read_directory

    async def slept(self: JumpCloud, *more: Any) -> object:
        found = await read(self, *more)
        office.true += 12 * HOUR
        leaves(office, groups[0], new[0])
        return found

    with monkeypatch.context() as patch:
        patch.setattr(JumpCloud, "read_directory", slept)
        assert office.run().goes_on
    office.run()
    assert account(office.world, new[1])
    assert new[0] not in {one.external_id for one in office.world.keeper.accounts().values()}


@pytest.mark.parametrize("put", [NONE, YEAR, -YEAR])
def test_grace_begins_when_the_read_that_shows_it_ends(
    office: Office, monkeypatch: pytest.MonkeyPatch, put: timedelta
) -> None:
    """A read may take long, or the process be stopped in it, and the machine's clock be put meanwhile."""
    groups, people = at_work(office)
    leaves(office, groups[1], people[1])
    office.run()
    true = lambda: office.true.timestamp()  # noqa: E731
    monkeypatch.setattr(Http, "clock", Clock(boottime=true, wall=true))
    read = JumpCloud.read_scope

    async def long(self: JumpCloud, *more: Any) -> object:
        office.true += 20 * MINUTE
        office.wrong = put
        leaves(office, groups[0], people[0])
        return await read(self, *more)

    with monkeypatch.context() as patch:
        patch.setattr(JumpCloud, "read_scope", long)
        office.run()
    assert [office.active(one) for one in people[:2]] == [True, True]
    office.run()
    office.run(later=20 * MINUTE)
    assert [office.active(one) for one in people[:2]] == [True, False]
    office.run(later=10 * MINUTE)
    assert not office.active(people[0])


def test_a_first_plan_that_a_person_looked_at_for_a_night_goes_as_far_as_it_is_due(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(boottime=lambda: office.true.timestamp(), wall=lambda: office.true.timestamp())
    monkeypatch.setattr(Http, "clock", clock)
    office.world.safety["first_run"] = '"review"'
    office.world.write_settings()
    groups, people = fill(office.world, 4)
    office.world.jumpcloud.add_member(groups[1], people[2])

    def agrees(_: Plan) -> bool:
        office.true += 12 * HOUR
        leaves(office, groups[0], people[0])
        return True

    assert office.run(cycle.Order(reviewed=agrees, by="root")).goes_on
    outcome = office.run()
    assert (outcome.result, outcome.plan.held) == ("done", ())
    assert {one.external_id for one in office.world.keeper.accounts().values()} == set(people[1:])


# -- two clocks that contradict each other ----------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [YEAR, -YEAR, 3 * MINUTE])
@pytest.mark.parametrize("office", ["jumpcloud"], indirect=True)
def test_between_two_clocks_nothing_ends_and_that_is_told(office: Office, wrong: timedelta, said: list[str]) -> None:
    office.world.safety |= {"max_deactivations": "1", "always_allow": "0"}
    office.world.write_settings()
    groups, people = at_work(office)
    leaves(office, groups[0], people[0])
    office.run()
    with office.store() as store:
        before = [row.id for row in store.journal(office.true - DAY)]
    office.run(later=HOUR, wrong=wrong)
    assert office.active(people[0])
    office.world.jumpcloud.suspend(people[1])  # who is suspended waits for nothing
    outcome = office.run(later=2 * DAY, wrong=wrong)
    assert not office.active(people[1])
    office.world.jumpcloud.suspend(people[2])
    office.run(later=2 * DAY, wrong=wrong)
    assert office.active(people[2])  # nothing has left the window
    assert office.active(people[0])
    [words] = clock_notices(outcome)
    assert "Nobody's grace ends" in words
    assert words in "".join(said)
    with office.store() as store:
        assert [row.id for row in store.journal(office.true - 99 * DAY)][: len(before)] == before
    office.run()
    office.run(later=2 * DAY)
    office.run()
    assert [office.active(one) for one in people[:3]].count(True) <= 1


@pytest.mark.parametrize("wrong", [-9 * HOUR, 9 * HOUR, -YEAR, YEAR])
def test_a_clock_that_was_found_wrong_is_not_believed_once_the_services_fall_silent(
    office: Office, wrong: timedelta
) -> None:
    """A proxy that strips `Date`, or replies that take too unevenly long: then neither service tells the time."""
    office.world.safety |= {"max_deactivations": "1", "always_allow": "0"}
    office.world.write_settings()
    groups, people = at_work(office)
    office.world.jumpcloud.suspend(people[1])
    office.run(wrong=wrong)
    leaves(office, groups[0], people[0])
    office.run(wrong=wrong)
    gone = office.true
    office.world.jumpcloud.suspend(people[3])
    office.tell = "none"
    for _ in range(2):
        office.run(wrong=wrong)
    assert office.active(people[3])  # nothing has left the window of the limit
    office.tell = "both"
    office.run(wrong=wrong)
    assert [office.active(one) for one in people[:4]] == [True, False, True, True]
    with office.store() as store:
        [left_at] = [a.left_at for a in store.snapshot().accounts.values() if a.jumpcloud_id == people[0]]
    assert left_at == gone
    assert in_future(office) == []


# -- what is told, and to whom ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("runs", [1, 2])
def test_a_correction_is_told_once(office: Office, said: list[str], runs: int) -> None:
    office.tell = "none"
    groups, people = at_work(office)
    leaves(office, groups[0], people[0])
    for _ in range(runs):
        assert clock_notices(office.run(wrong=YEAR)) == []
    if runs > 1:  # one alone is taken for the one that was wrong
        [words] = clock_notices(office.run())
        assert "behind that of the last run" in words
    [words] = clock_notices(office.run())
    assert "stored times lay in the future" in words
    assert "people who left (1)" in words
    assert clock_notices(office.run()) == []
    assert sum("stored times lay in the future" in line for line in said) == 1


def test_a_machine_whose_clock_is_wrong_is_told_as_long_as_it_is(office: Office) -> None:
    at_work(office)
    for _ in range(2):
        [words] = clock_notices(office.run(wrong=YEAR))
        assert words.startswith("this machine's clock is 365 days ahead of the clocks of JumpCloud and Keeper")
    assert clock_notices(office.run()) == []


# -- the leaver lane --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [NONE, 9 * HOUR, -9 * HOUR])
def test_the_lane_goes_by_the_corrected_time(office: Office, wrong: timedelta) -> None:
    """A hold of the lane is judged anew after a quarter of an hour, neither each minute nor never, and its end is dated
    rightly."""
    office.world.safety |= {"max_deactivations": "0", "always_allow": "0"}
    office.world.write_settings()
    _groups, people = at_work(office)
    office.world.jumpcloud.suspend(people[0])
    office.run(wrong=wrong)
    looks = [office.lane(later=later) is not None for later in (MINUTE, MINUTE, MINUTE, 20 * MINUTE, MINUTE)]
    assert looks == [True, False, False, True, False]
    office.world.jumpcloud.activate(people[0])
    assert office.lane() is None
    with office.store() as store:
        [end] = store.runs(1)
    assert (end.result, end.started_at) == ("nothing", office.true)


# -- through the command line -----------------------------------------------------------------------------------------


def put(world: World, wrong: timedelta) -> None:
    """The services' clocks differ from this machine's, so this machine is wrong."""
    for server in (world.front, world.back):
        server.clock = lambda: time.time() - wrong.total_seconds()


@pytest.mark.parametrize("wrong", [YEAR, -YEAR, 9 * HOUR])
def test_commands_go_by_the_time_that_the_last_run_found(world: World, wrong: timedelta) -> None:
    _groups, people = fill(world, 4)
    world.run("apply")
    put(world, wrong)
    world.jumpcloud.suspend(people[0])
    done = world.run("apply")
    assert "Clocks that are wrong" in done.stdout
    true = datetime.now(UTC) - wrong
    status_ = json.loads(world.run("status", "--json").stdout)
    for at in (status_["asked_at"], status_["runs"][0]["started_at"], status_["runs"][0]["finished_at"]):
        assert abs(datetime.fromisoformat(at) - true) < MINUTE
    found = json.loads(world.run("history", "--since", "1h", "--kind", "deactivate_user", "--json").stdout)
    assert len(found["operations"]) == 1
    planned = json.loads(world.run("plan", "--format", "json").stdout)
    assert abs(datetime.fromisoformat(planned["generated_at"]) - true) < MINUTE
    put(world, NONE)
    assert "stored times" not in world.run("apply").stdout or wrong < NONE
    assert (
        abs(datetime.fromisoformat(json.loads(world.run("status", "--json").stdout)["asked_at"]) - datetime.now(UTC))
        < MINUTE
    )


def test_where_one_service_is_wrong_keeper_is_asked_and_decides(world: World) -> None:
    fill(world, 4)
    world.run("apply")
    world.front.clock = lambda: time.time() - YEAR.total_seconds()
    world.back.requests.clear()
    done = world.run("apply")
    assert "Clocks that are wrong" not in done.stdout
    assert 1 <= sum("ServiceProviderConfig" in one.target for one in world.back.requests) <= 3
    with world.state() as store:
        assert abs(store.runs(1)[0].started_at - datetime.now(UTC)) < MINUTE


def test_in_a_plain_cycle_keeper_is_not_asked_for_the_time(world: World) -> None:
    fill(world, 4)
    world.run("apply")
    world.back.requests.clear()
    world.run("apply")
    assert list(world.back.requests) == []


def test_a_keeper_that_can_t_tell_leaves_two_clocks_that_contradict_each_other(world: World) -> None:
    world.policy["grace"] = '"30m"'
    world.write_settings()
    groups, people = fill(world, 4)
    world.run("apply")
    world.jumpcloud.remove_member(groups[0], people[0])
    world.jumpcloud.settle_graph()
    world.front.clock = lambda: time.time() + YEAR.total_seconds()
    world.back.faults.add(status(400), method="GET", target="ServiceProviderConfig")
    done = world.run("apply", expect=None)
    assert "no third clock tells" in done.stdout
    assert account(world, people[0]).active
    told = world.run("status").stdout
    assert "Last run" in told


def test_an_allowance_says_from_when_it_counts(world: World) -> None:
    fill(world, 4)
    world.run("apply")
    done = world.run("allow", "--deactivations", "2", "--for", "2h", "--reason", "lay-off")
    assert done.stdout == "Up to 2 more people may be locked for 2h, from the next cycle on.\n"
    assert "Allow open for 2 hours, from the next cycle on" in " ".join(world.run("status").stdout.split())
    world.run("apply")
    assert "Allow open until" in " ".join(world.run("status").stdout.split())
