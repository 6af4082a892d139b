"""Suspended people do not wait for lists: the leaver lane, through the real service and in this process."""

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from reconciler import apply as executor
from reconciler import cycle, reading
from reconciler.config import load
from reconciler.simulator.faults import Rewrite, hang, status
from reconciler.simulator.service import Request, Response
from reconciler.wiring import services
from tests.flows.hidden import Answered
from tests.flows.service import Service, until
from tests.inside import Inside, accept, account, fill
from tests.receiver import Receiver, secret
from tests.stage import World


@pytest.fixture
def filled(world: World) -> tuple[World, list[str]]:
    _, people = fill(world)
    world.run("apply")
    accept(world)
    return world, people


def found(world: World, minutes: float = 0.0) -> cycle.Order | None:
    """The order that the lane would carry out so many minutes from now."""
    settings = load(world.folder / "config.toml")

    async def go() -> cycle.Order | None:
        async with services(settings) as both:
            with Inside(world).store(write=True) as store:
                return await cycle.leavers(settings, both, store, datetime.now(UTC) + timedelta(minutes=minutes))

    return asyncio.run(go())


def test_a_suspended_person_is_locked_while_every_list_is_down(
    filled: tuple[World, list[str]], service: Service
) -> None:
    world, people = filled
    world.jumpcloud.suspend(people[0])
    world.front.faults.add(status(503), target="/(applications|usergroups|associations|organizations)")
    world.back.faults.add(status(500), method="GET", target=r"/(Users|Groups)\?")
    service.start()
    until(lambda: not account(world, people[0]).active)
    assert all(account(world, one).active for one in people[1:])
    world.run("history", "p0@example.com")


def test_a_look_that_fails_is_not_called_a_cycle(filled: tuple[World, list[str]], service: Service) -> None:
    world, _ = filled
    world.front.faults.add(status(401))
    service.start()
    until(lambda: "The look for suspended people failed" in service.said())
    (line,) = [one for one in service.said().splitlines() if "The look for suspended people failed" in one]
    assert "cycle has failed" not in line


def test_a_suspended_person_is_locked_while_no_users_can_be_listed_or_searched_for(
    filled: tuple[World, list[str]],
) -> None:
    world, people = filled
    world.jumpcloud.suspend(people[0])
    for target in (r"/api/systemusers\?", "/api/search/systemusers"):
        world.front.faults.add(status(403), target=target)
    order = found(world)
    assert order is not None and order.leavers == {people[0]}
    assert Inside(world).run(order).result == "done" and not account(world, people[0]).active
    assert found(world) is None


def test_a_lane_that_finds_nobody_leaves_no_run_behind(filled: tuple[World, list[str]]) -> None:
    world, people = filled
    assert found(world) is None
    world.jumpcloud.suspend(people[0])
    order = found(world)
    assert order is not None and order.leavers == {people[0]}
    outcome = Inside(world).run(order)
    assert outcome.result == "done" and not account(world, people[0]).active
    with world.state() as store:
        runs = store.runs(50)
    assert found(world) is None
    with world.state() as store:
        assert store.runs(50) == runs


def test_a_lane_whose_people_are_active_again_forgets_nobody(filled: tuple[World, list[str]]) -> None:
    """A plan about nobody is no plan about everybody: the snapshot would have lost all accounts."""
    world, people = filled
    with world.state() as store:
        before = store.snapshot()
    world.jumpcloud.suspend(people[0])
    order = found(world)
    assert order is not None
    world.jumpcloud.activate(people[0])
    outcome = Inside(world).run(order)
    assert outcome.result == "nothing" and not outcome.plan.operations
    with world.state() as store:
        assert store.snapshot().accounts == before.accounts


def test_nothing_is_sent_that_a_person_has_yet_to_decide(world: World) -> None:
    _, people = fill(world)
    world.safety.clear()
    world.write_settings()
    world.run("apply", expect=4)  # the first plan waits
    world.jumpcloud.suspend(people[0])
    assert found(world) is None
    world.run("plan", "--save", "plan.json")
    world.run("apply", "--plan", "plan.json")
    accept(world)
    world.jumpcloud.suspend(people[1])
    assert found(world) is not None
    world.run("pause", "--reason", "a test")
    assert found(world) is None
    world.run("resume", "--reason", "a test")
    world.policy["mode"] = '"observe"'
    world.write_settings()
    assert found(world) is None


def test_what_the_limits_hold_is_recorded_once(filled: tuple[World, list[str]]) -> None:
    world, people = filled
    world.safety |= {"max_deactivations": "1", "always_allow": "1"}
    world.write_settings()
    world.jumpcloud.suspend(people[0])
    world.jumpcloud.suspend(people[1])
    order = found(world)
    assert order is not None
    assert Inside(world).run(order).result == "held"
    assert found(world) is None  # as before: it waits for a person
    world.jumpcloud.suspend(people[2])
    assert found(world) is not None
    for one in people[:3]:
        world.jumpcloud.activate(one)
    assert found(world) is None
    with world.state() as store:
        assert store.held_run() is None, "it is not due any more"
    for one in people[:2]:
        world.jumpcloud.suspend(one)
    assert found(world) is not None, "it is held, and told, anew"


def test_what_it_holds_is_not_over_while_it_is_the_turn_of_others(world: World) -> None:
    """Where nothing but own records can be had, fifty of them are read by turns."""
    _, people = fill(world, 60)
    world.run("apply")
    accept(world)
    world.safety |= {"max_deactivations": "0", "always_allow": "0"}
    world.write_settings()
    one = min(people)
    world.jumpcloud.suspend(one)
    for target in (r"/api/systemusers\?", "/api/search/systemusers"):
        world.front.faults.add(status(403), target=target)
    settings = load(world.folder / "config.toml")

    async def looks(number: int) -> list[cycle.Order | None]:
        async with services(settings) as both:
            with Inside(world).store(write=True) as store:
                return [await cycle.leavers(settings, both, store, datetime.now(UTC)) for _ in range(number)]

    (order,) = asyncio.run(looks(1))
    assert order is not None and order.leavers == {one}
    assert Inside(world).run(order).result == "held"
    assert asyncio.run(looks(6)) == [None] * 6, "one of them is without them"
    with world.state() as store:
        assert store.held_now() is not None
    world.jumpcloud.activate(one)
    assert asyncio.run(looks(1)) == [None]
    with world.state() as store:
        assert store.held_now() is None


def test_what_it_holds_is_judged_anew_after_a_while(filled: tuple[World, list[str]]) -> None:
    """While whole cycles fail, whoever could not be told is told only by another run of the lane."""
    world, people = filled
    world.safety |= {"max_deactivations": "1", "always_allow": "1"}
    world.write_settings()
    for one in people[:2]:
        world.jumpcloud.suspend(one)
    order = found(world)
    assert order is not None and Inside(world).run(order).result == "held"
    assert found(world) is None
    assert found(world, minutes=16) is not None


def test_who_is_protected_no_more_is_locked_without_a_whole_cycle(filled: tuple[World, list[str]]) -> None:
    world, people = filled
    world.policy["protect"] = '["p0@example.com"]'
    world.write_settings()
    world.jumpcloud.suspend(people[0])
    world.run("apply", expect=None)
    assert found(world) is None
    world.policy["protect"] = "[]"
    world.write_settings()
    order = found(world)
    assert order is not None and Inside(world).run(order).result == "done"


def test_what_it_holds_while_cycles_fail_is_told_and_can_be_released(
    filled: tuple[World, list[str]], service: Service
) -> None:
    world, people = filled
    world.safety |= {"max_deactivations": "1", "always_allow": "1"}
    with Receiver() as receiver:
        webhook = secret(world.folder, "webhook", f"{receiver.url}/hook")
        world.write_settings(notify=f"[notify]\nwebhook = {webhook}\nheartbeat = {{}}\ncommand = []\n")
        world.front.faults.add(status(403), target="/api/v2/applications/")
        for one in people[:2]:
            world.jumpcloud.suspend(one)
        service.start()
        until(lambda: "held" in receiver.kinds())
    told = next(body["text"] for _, _, body in receiver.got if body and body["kind"] == "held")
    found = json.loads(world.run("status", "--json").stdout)
    assert found["held"]["subjects"] == ["p0@example.com", "p1@example.com"]
    assert f"reconciler release {found['held']['plan']}" in told
    world.run("release", found["held"]["plan"], "--reason", "they were dismissed")
    until(lambda: not any(account(world, one).active for one in people[:2]))
    assert all(account(world, one).active for one in people[2:])


def test_a_person_who_is_protected_stays_unlocked(filled: tuple[World, list[str]]) -> None:
    world, people = filled
    world.policy["protect"] = '["p0@example.com"]'
    world.write_settings()
    world.jumpcloud.suspend(people[0])
    assert found(world) is None


@pytest.mark.parametrize(("key", "value"), [("protect", '["p0@example.com"]'), ("only", '{ groups = ["Sales"] }')])
def test_whoever_may_not_be_locked_is_not_read_each_time(world: World, key: str, value: str) -> None:
    _, people = fill(world)
    world.run("apply")
    accept(world)
    world.policy[key] = value
    world.write_settings()
    world.jumpcloud.suspend(people[0])
    world.run("apply", expect=None)
    world.front.requests.clear()
    world.back.requests.clear()
    assert found(world) is None
    assert not [one.target for one in world.front.requests if f"/{people[0]}" in one.target]
    assert not list(world.back.requests)
    assert account(world, people[0]).active


def test_somebody_whose_record_cannot_be_read_keeps_no_other_back(filled: tuple[World, list[str]]) -> None:
    world, people = filled
    for one in people[:2]:
        world.jumpcloud.suspend(one)
    world.front.faults.add(status(403), target=f"/api/systemusers/{people[0]}")
    world.front.faults.add(status(403), target="/api/search")
    world.front.faults.add(status(403), target="filter=_id")
    order = found(world)
    assert order is not None
    Inside(world).run(order)
    assert [account(world, one).active for one in people[:3]] == [True, False, True]


def test_an_account_that_keeper_does_not_show_keeps_no_lock_back(
    filled: tuple[World, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is locked too, though its lock is the first one, which is looked at before and after."""
    for module, name in ((reading, "GLANCE"), (executor, "GLANCE"), (executor, "READ_BACK")):
        monkeypatch.setattr(module, name, 0.2)
    world, people = filled
    for one in people[:2]:
        world.jumpcloud.suspend(one)
    unanswered = world.back.faults.add(hang(), method="GET", target=f"/Users/{account(world, people[0]).id}")
    order = found(world)
    assert order is not None
    began = time.monotonic()
    Inside(world).run(order)
    assert time.monotonic() - began < 20.0
    assert unanswered.fired
    assert [account(world, one).active for one in people[:3]] == [False, False, True]


@pytest.mark.parametrize("code", [404, 410])
@pytest.mark.parametrize("there", [True, False])
def test_one_read_of_an_account_that_is_not_there_keeps_no_lock_back(
    filled: tuple[World, list[str]], code: int, there: bool
) -> None:
    world, people = filled
    lost = account(world, people[0])
    world.jumpcloud.suspend(people[0])
    if there:
        world.back.faults.add(status(code), method="GET", target=f"/Users/{lost.id}")
    else:
        world.keeper.set_dialect(missing_status=code, gone_status=code)
        world.keeper.delete_user(lost.id)
    order = found(world)
    assert order is not None
    outcome = Inside(world).run(order)
    assert outcome.result == "done" and found(world) is None
    assert not there or not account(world, people[0]).active
    assert account(world, people[1]).active
    word = "found in Keeper" if there else "not in this Keeper node any more"
    assert word in " ".join(world.run("history", "p0@example.com").stdout.split())


def test_a_list_that_does_not_come_does_not_hold_up_the_next_look(
    filled: tuple[World, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cycle, "SETTLING", 0.2)
    world, people = filled
    world.jumpcloud.suspend(people[0])
    world.back.faults.add(status(404), method="PATCH", times=1)
    unanswered = world.back.faults.add(hang(), method="GET", target=r"/Groups\?")
    order = found(world)
    assert order is not None
    began = time.monotonic()
    assert Inside(world).run(order).result == "partial"
    assert time.monotonic() - began < 20.0 and unanswered.fired
    world.back.faults.clear()
    Inside(world).run()
    assert not account(world, people[0]).active


def test_a_person_in_the_hand_of_another_run_keeps_no_other_back(filled: tuple[World, list[str]]) -> None:
    """As while a request of that run hangs."""
    world, people = filled
    settings = load(world.folder / "config.toml")
    for one in people[:2]:
        world.jumpcloud.suspend(one)

    async def go() -> None:
        async with services(settings) as both:
            with Inside(world).store(write=True) as store:
                order = await cycle.leavers(settings, both, store, datetime.now(UTC))
                assert order is not None and order.leavers == set(people[:2])
                held, over = asyncio.Event(), asyncio.Event()

                async def another_run() -> None:
                    async with store.hands.hold(people[:1]):
                        held.set()
                        await over.wait()

                other = asyncio.create_task(another_run())
                await held.wait()
                async with asyncio.timeout(20.0):
                    await cycle.run(settings, both, store, order, lambda: datetime.now(UTC))
                over.set()
                await other

    asyncio.run(go())
    assert [account(world, one).active for one in people[:3]] == [True, False, True]
    order = found(world)
    assert order is not None and order.leavers == {people[0]}


@pytest.mark.parametrize("refused", ["/api/applications", "/api/systemusers/[0-9a-f]", "/api/search"])
@pytest.mark.parametrize("code", [403, 404, 410])
def test_what_a_lock_does_not_need_may_be_refused(filled: tuple[World, list[str]], refused: str, code: int) -> None:
    world, people = filled
    world.jumpcloud.suspend(people[0])
    world.front.faults.add(status(code), target=refused)
    order = found(world)
    assert order is not None
    Inside(world).run(order)
    assert [account(world, one).active for one in people[:2]] == [False, True]


@pytest.mark.parametrize("code", [403, 404])
def test_neither_lane_nor_cycle_need_a_record_or_a_search_where_the_list_says_suspended(
    filled: tuple[World, list[str]], code: int
) -> None:
    world, people = filled
    world.front.faults.add(status(code), target="/api/(systemusers/|search/)")
    world.jumpcloud.suspend(people[0])
    order = found(world)
    assert order is not None
    assert Inside(world).run(order).result == "done"
    world.jumpcloud.suspend(people[1])
    Inside(world).run()
    assert [account(world, one).active for one in people[:3]] == [False, False, True]


def test_a_filter_that_finds_only_some_suspended_people_is_not_believed(filled: tuple[World, list[str]]) -> None:
    world, people = filled
    for one in people[:2]:
        world.jumpcloud.suspend(one)
    Inside(world).run()
    world.jumpcloud.suspend(people[2])
    # Its filter by state is behind: it finds one of the two whose lock is known, and not the third.
    world.front.faults.add(Rewrite(drop=people[1:3], total=1), target="filter%5Bor%5D")
    order = found(world)
    assert order is not None and order.leavers == {people[2]}


def test_whoever_was_suspended_once_and_is_deleted_bears_witness_no_more(filled: tuple[World, list[str]]) -> None:
    world, people = filled
    for one in people[:2]:
        world.jumpcloud.suspend(one)
    Inside(world).run()
    world.jumpcloud.delete_user(people[0])
    settings = load(world.folder / "config.toml")

    async def go() -> list[int]:
        made = []
        async with services(settings) as both:
            with Inside(world).store(write=True) as store:
                for _ in range(3):
                    before = len(world.front.requests)
                    assert await cycle.leavers(settings, both, store, datetime.now(UTC)) is None
                    made.append(len(world.front.requests) - before)
        return made

    first, *later = asyncio.run(go())
    # One search, with the empty page behind whom it finds.
    assert later == [first - 2, first - 2]


def test_one_person_is_resynced_while_a_long_apply_runs(filled: tuple[World, list[str]], service: Service) -> None:
    world, people = filled
    world.safety["max_creations"] = "100"
    world.write_settings()
    group = world.group("Newcomers")
    for n in range(24):
        world.person(f"new{n}", group)
    unanswered = world.back.faults.add(hang(), method="POST", target="/Users")
    service.start()
    until(lambda: unanswered.fired >= 2)
    world.jumpcloud.suspend(people[0])
    world.run("resync", "p0@example.com", "--wait")
    assert not account(world, people[0]).active
    assert len(world.keeper.accounts()) == len(people), "the apply goes on"


def test_a_list_that_shows_everybody_as_locked_keeps_no_leaver_active(filled: tuple[World, list[str]]) -> None:
    world, people = filled

    def locked(handle: Callable[[Request], Response], request: Request) -> Response:
        every = json.loads(handle(request).body)
        return Response.of_json(200, every | {"Resources": [one | {"active": False} for one in every["Resources"]]})

    world.back.faults.add(Answered(locked), method="GET", target=r"/Users\?")
    assert "locked in Keeper by somebody else" not in world.run("apply", "--resync").stdout
    world.jumpcloud.suspend(people[0])
    order = found(world)
    assert order is not None and Inside(world).run(order).result == "done"
    assert not account(world, people[0]).active
