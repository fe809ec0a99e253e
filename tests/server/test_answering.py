"""The time that a request has, over all of its waits."""

from __future__ import annotations

import asyncio

import pytest

from sensorium.server.answering import Deadline


async def test_waits_end_together():
    deadline = Deadline(0.2)

    async def waits() -> None:
        for _ in range(100):
            with deadline:
                await asyncio.sleep(0.02)

    with pytest.raises(TimeoutError):
        await waits()
    with pytest.raises(TimeoutError), deadline:  # from then on nothing is waited for
        pytest.fail("it is over")
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)  # the task goes on as if nothing had been


async def test_time_between_the_waits_counts_and_stops_nobody():
    deadline = Deadline(0.05)
    with deadline:
        await asyncio.sleep(0)
    await asyncio.sleep(0.1)
    with pytest.raises(TimeoutError), deadline:
        pytest.fail("it is over")


async def test_whoever_stops_the_task_stops_it():
    deadline = Deadline(10.0)

    async def wait() -> None:
        with deadline:
            await asyncio.sleep(60)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    deadline.close()


async def test_errors_of_the_work_are_its_own():
    deadline = Deadline(10.0)
    with pytest.raises(KeyError), deadline:
        raise KeyError("mine")
    deadline.close()
