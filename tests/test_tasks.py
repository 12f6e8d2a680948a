from __future__ import annotations

import asyncio
import gc
import logging
import weakref

import pytest

from launcher import tasks


async def test_a_task_has_its_name_and_its_result() -> None:
    async def answer() -> int:
        return 42

    task = tasks.spawn(answer(), name="answer")
    assert task.get_name() == "answer"
    assert await task == 42


async def test_a_crash_is_heard_of_even_where_nobody_awaits_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def crash() -> None:
        raise ValueError("on purpose")

    task = tasks.spawn(crash(), name="doomed")
    with caplog.at_level(logging.ERROR, logger="launcher.tasks"):
        await asyncio.wait([task])
    assert "task doomed crashed" in caplog.text
    assert "on purpose" in caplog.text


async def test_a_cancellation_is_no_crash(caplog: pytest.LogCaptureFixture) -> None:
    task = tasks.spawn(asyncio.Event().wait(), name="waiting")
    await asyncio.sleep(0)
    await tasks.cancel(task)
    assert task.cancelled()
    assert caplog.text == ""


async def test_a_task_that_nobody_holds_lives_on() -> None:
    """The loop itself holds tasks weakly: with what it waits for, a task could vanish."""
    ended = asyncio.Event()
    futures: list[weakref.ref[asyncio.Future[None]]] = []

    async def wait() -> None:
        future = asyncio.get_running_loop().create_future()
        futures.append(weakref.ref(future))
        await future
        ended.set()

    tasks.spawn(wait(), name="held by nobody")
    await asyncio.sleep(0)
    gc.collect()
    future = futures[0]()
    assert future is not None
    future.set_result(None)
    await asyncio.wait_for(ended.wait(), 30)


async def test_cancel_waits_for_the_end() -> None:
    cleaned = False

    async def tidy() -> None:
        nonlocal cleaned
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned = True

    task = tasks.spawn(tidy(), name="tidy")
    await asyncio.sleep(0)
    await tasks.cancel(None, task)
    assert cleaned
    await tasks.cancel(task, None)


async def test_a_group_ends_together() -> None:
    group = tasks.Group()
    forever = [group.spawn(asyncio.Event().wait(), name="forever") for _ in range(2)]
    assert repr(group) == "<Group of 2 tasks>"
    await group.cancel()
    assert all(one.cancelled() for one in forever)
    assert len(group) == 0
    await group.cancel()


async def test_a_group_is_waited_for() -> None:
    group, may_end = tasks.Group(), asyncio.Event()
    await group.join()
    one = group.spawn(may_end.wait(), name="one")
    may_end.set()
    await group.join()
    assert one.done()
