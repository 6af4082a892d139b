"""One subject, one hand."""

import asyncio
from contextvars import Context

from reconciler.hands import Hands


def test_one_subject_is_held_by_one_task_and_others_go_on() -> None:
    order: list[str] = []

    async def work(hands: Hands, name: str, key: str, until: asyncio.Event | None = None) -> None:
        async with hands.hold([key]):
            order.append(f"{name} has {key}")
            if until is not None:
                await until.wait()
        order.append(f"{name} is done")

    async def play() -> None:
        hands, free = Hands(), asyncio.Event()
        tasks = [asyncio.create_task(work(hands, "first", "ada", free))]
        await asyncio.sleep(0)
        tasks += [asyncio.create_task(work(hands, "second", "ada")), asyncio.create_task(work(hands, "third", "eve"))]
        for _ in range(5):
            await asyncio.sleep(0)
        assert order == ["first has ada", "third has eve", "third is done"]
        free.set()
        await asyncio.gather(*tasks)

    asyncio.run(play())
    assert order[3:] == ["first is done", "second has ada", "second is done"]


def test_what_a_task_holds_is_held_for_its_subtasks_too() -> None:
    async def play() -> str:
        hands = Hands()

        async def inner() -> str:
            async with hands.hold(["ada"]):
                return "not waited for itself"

        async with hands.hold(["ada", "eve"]):
            return await asyncio.wait_for(asyncio.create_task(inner()), 5)

    assert asyncio.run(play()) == "not waited for itself"


def test_a_cancelled_wait_holds_nothing() -> None:
    async def play() -> None:
        hands = Hands()

        async def hold() -> None:
            async with hands.hold(["ada"]):
                pass

        async with hands.hold(["ada"]):
            waits = asyncio.get_running_loop().create_task(hold(), context=Context())
            await asyncio.sleep(0)
            waits.cancel()
            await asyncio.gather(waits, return_exceptions=True)
        async with hands.hold(["ada"]):
            pass

    asyncio.run(play())


def test_whoever_is_to_be_alone_waits_for_partial_cycles_and_lets_none_begin() -> None:
    """A file that is bound anew under a lock on its way would lose the account that is being locked."""

    async def go() -> None:
        hands, said, go_on = Hands(), list[str](), asyncio.Event()

        async def partial(name: str) -> None:
            async with hands.beside():
                said.append(f"{name} begins")
                await go_on.wait()
                said.append(f"{name} ends")

        async def rebind() -> None:
            async with hands.alone():
                said.append("alone")

        async with asyncio.TaskGroup() as group:
            group.create_task(partial("first"))
            await asyncio.sleep(0)
            group.create_task(rebind())
            await asyncio.sleep(0)
            group.create_task(partial("second"))
            for _ in range(5):
                await asyncio.sleep(0)
            assert said == ["first begins"]
            go_on.set()
        assert said == ["first begins", "first ends", "alone", "second begins", "second ends"]

    asyncio.run(go())


def test_a_change_voids_what_was_planned_before_it() -> None:
    hands = Hands()
    mark = hands.mark()
    own = hands.changed(["j1", "k1", ""])
    assert hands.changed_since(mark, "k1") and hands.changed_since(mark, "j1")
    assert not hands.changed_since(mark, "k2") and not hands.changed_since(mark, "")
    assert not hands.changed_since(hands.mark(), "j1") and not hands.changed_since(own, "j1")
