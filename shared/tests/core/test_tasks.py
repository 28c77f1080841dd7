"""Work beside the requests ends with its context, whatever it does with a cancellation."""

import asyncio

import pytest

from servicekit.core.tasks import background_task


async def test_work_ends_with_its_context():
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with background_task(work()):
        await asyncio.sleep(0)
    assert ended.is_set()


async def test_a_task_that_loses_its_cancellation_is_cancelled_again():
    lost = []

    async def work() -> None:
        while True:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                if len(lost) == 2:
                    raise
                lost.append("lost")

    async with background_task(work()):
        await asyncio.sleep(0)
    assert len(lost) == 2


async def test_a_failure_of_the_work_is_not_hidden():
    async def work() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with background_task(work()):
            await asyncio.sleep(0)
