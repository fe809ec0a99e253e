"""Answers take turns, wait for slow readers, and fall alone."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import numpy as np
import pytest

from sensorium.engine.pages import PAGE_POSITIONS
from sensorium.engine.request import (
    AudioDelta,
    Event,
    InputTranscriptDelta,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    ToolCallEvent,
    TranscriptDelta,
)
from sensorium.engine.runner import Runner
from sensorium.engine.scheduler import (
    AHEAD_ROWS,
    FIRST_IN_A_ROW,
    FIRST_STEPS,
    FLEX_ROWS,
    LATER_PREFILL_ROWS,
    LEAD_S,
    MANY_ANSWERS,
    MAX_WAITING,
    Job,
    Priority,
    Scheduler,
    Steps,
    choose,
)
from sensorium.engine.sequence import Pending, Sequence


@pytest.fixture
async def scheduler() -> AsyncIterator[Scheduler]:
    scheduler = Scheduler()
    yield scheduler
    await asyncio.to_thread(scheduler.close)


def say(number: int) -> TranscriptDelta:
    return TranscriptDelta(text=str(number))


def counting(log: list, name: str, count: int) -> Steps:
    """`count` events, a step without one after each; notes every step in `log`."""
    try:
        for number in range(count):
            log.append((name, number, threading.current_thread().name))
            yield say(number)
            yield None
    finally:
        log.append((name, "closed", threading.current_thread().name))


async def drain(job: Job) -> list[Event]:
    events: list[Event] = []
    while (event := await job.next()) is not None:
        events.append(event)
    return events


async def read(scheduler: Scheduler, steps: Steps) -> list[Event]:
    return await drain(scheduler.submit(steps))


async def eventually(condition) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not happen")


async def test_events_arrive_in_order_and_work_is_done_on_the_worker(scheduler: Scheduler):
    log: list = []
    assert await read(scheduler, counting(log, "a", 200)) == [say(number) for number in range(200)]
    assert {thread for _, _, thread in log} == {"sensorium-engine"}
    assert await read(scheduler, counting(log, "b", 0)) == []


def waiting_for(runner: Runner, order: int, priority: Priority, num_positions: int) -> Job:
    """An answer that waits for so many positions of a stream."""
    sequence = Sequence(runner)
    sequence.append_ids(*range(100, 100 + num_positions))
    job = Job(Scheduler.__new__(Scheduler), (each for each in [Pending((sequence,))]), (priority, order))
    job._pending = (sequence,)
    return job


def chosen(first: list[Job], others: list[Job]) -> list[tuple[int, int]]:
    """The next step: (whose, positions)."""
    jobs = sorted([*first, *others], key=lambda job: job.order)
    names = {id(job.waits_for[0]): job.order[1] for job in jobs}
    return [(names[id(sequence)], piece.length) for sequence, piece in choose(jobs, first)]


async def test_who_is_in_no_hurry_gets_what_others_leave(runner: Runner):
    patient, symbol = waiting_for(runner, 0, Priority.FLEX, 50), waiting_for(runner, 1, Priority.FLEX, 1)
    chat, call = waiting_for(runner, 2, Priority.CHAT, 40), waiting_for(runner, 3, Priority.CALL, 1)
    assert chosen([patient, symbol, chat, call], []) == [(3, 1), (2, 40), (1, 1), (0, FLEX_ROWS - 1)]
    others_soon = [(1, 1), (0, LATER_PREFILL_ROWS)]
    assert chosen([patient, symbol], []) == others_soon, "alone they go fast, but whoever comes does not wait for long"
    assert chosen([chat, call], [patient, symbol]) == [(3, 1), (2, 40)]
    ahead = waiting_for(runner, 4, Priority.AHEAD, 50)
    assert chosen([call, ahead, symbol], []) == [(3, 1), (4, AHEAD_ROWS)], "what a call will need has more of it"
    assert chosen([ahead, patient], []) == [(4, LATER_PREFILL_ROWS)]


async def test_a_first_word_comes_before_the_next_ones_of_others(scheduler: Scheduler, runner: Runner):
    old, call = waiting_for(runner, 0, Priority.CHAT, 1), waiting_for(runner, 1, Priority.CALL, 1)
    old._has_begun = call._has_begun = True
    prompt, later = waiting_for(runner, 2, Priority.CHAT, 40), waiting_for(runner, 3, Priority.CHAT, 40)
    assert scheduler._first([old, call, prompt]) == [call, prompt]
    everybody = [old, call, later]
    assert scheduler._first(everybody) == everybody, "prompts hold others up in every second step at most"
    assert scheduler._first([old, later]) == [later]
    opening = waiting_for(runner, 4, Priority.CHAT, 1)
    for _ in range(FIRST_STEPS[Priority.CHAT]):
        assert scheduler._first([old, call, opening]) == [call, opening]
    assert scheduler._first([old, call, opening]) == [old, call, opening], "what says nothing is not new for ever"
    assert scheduler._first([old, waiting_for(runner, 5, Priority.FLEX, 40)])[0] is old


async def test_what_a_call_hears_comes_before_what_others_go_on_to_say(scheduler: Scheduler, runner: Runner):
    old, call = waiting_for(runner, 0, Priority.CHAT, 1), waiting_for(runner, 1, Priority.CALL, 1)
    old._has_begun = call._has_begun = True
    hearing, opening = waiting_for(runner, 2, Priority.CALL, 1), waiting_for(runner, 3, Priority.CHAT, 1)
    everybody = [old, call, hearing, opening]
    for _ in range(2):
        for _ in range(FIRST_IN_A_ROW):
            opening.first_steps = 2
            assert scheduler._first(everybody) == [hearing, opening]
        assert scheduler._first(everybody) == everybody, "nobody waits for ever"
    opening.first_steps = 2
    call._play(
        AudioDelta(waveform=np.zeros(int(16000 * LEAD_S / 2), np.float32), sample_rate_hz=16000), time.monotonic()
    )
    assert scheduler._first(everybody) == [hearing, opening, call], "nor does anybody's player run dry"
    call._play(AudioDelta(waveform=np.zeros(16000, np.float32), sample_rate_hz=16000), time.monotonic())
    opening.first_steps = 2
    assert scheduler._first(everybody) == [hearing, opening]


async def test_an_answer_has_begun_with_its_first_sound(scheduler: Scheduler, runner: Runner):
    sound = AudioDelta(waveform=np.zeros(8, np.float32), sample_rate_hz=16000)
    seen: list[bool] = []

    def speaking() -> Steps:
        for event in (InputTranscriptDelta(clip=0, text="hello"), say(1), sound):
            sequence = Sequence(runner)
            sequence.append_ids(5)
            yield event
            yield Pending((sequence,))

    def step(jobs: list[Job], first: list[Job]) -> bool:
        seen.extend(each.is_new for each in jobs if each.waits_for)
        for each in jobs:
            each._pending = ()
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sensorium.engine.scheduler.step", step)
        await drain(scheduler.submit(speaking(), priority=Priority.CALL))
    assert seen == [True, True, False]


async def test_answers_take_turns(scheduler: Scheduler):
    gate, log = threading.Event(), []

    def waiting() -> Iterator[None]:
        gate.wait()
        yield None

    held = asyncio.create_task(read(scheduler, (event for event in waiting())))
    await asyncio.sleep(0.01)
    tasks = [asyncio.create_task(read(scheduler, counting(log, name, 20))) for name in "abc"]
    await asyncio.sleep(0.01)
    gate.set()
    await asyncio.gather(held, *tasks)
    order = [name for name, number, _ in log if number != "closed"]
    assert order == list("abc") * 20


async def test_a_slow_reader_pauses_its_answer_alone(scheduler: Scheduler):
    log: list = []
    slow = scheduler.submit(counting(log, "slow", 10 * MAX_WAITING))
    await eventually(lambda: len(log) == MAX_WAITING)
    assert len(await read(scheduler, counting([], "quick", 300))) == 300
    assert len(log) == MAX_WAITING
    for number in range(10 * MAX_WAITING):
        assert await slow.next() == say(number)
    assert await slow.next() is None


async def test_text_that_has_come_together_is_handed_over_together(scheduler: Scheduler):
    def writing() -> Steps:
        for number in range(5):
            yield TextDelta(text=str(number), logprobs=(TokenLogprob(b"%d" % number, -1.0),))
        yield say(5)
        yield TextDelta(text="6")

    job = scheduler.submit(writing())
    await eventually(lambda: job._finished)
    first, *rest = await drain(job)
    assert isinstance(first, TextDelta)
    assert first.text == "01234"
    assert [token.bytes for token in first.logprobs] == [b"0", b"1", b"2", b"3", b"4"]
    assert rest == [say(5), TextDelta(text="6")]


async def test_many_answers_are_told_of_several_tokens_at_once(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sensorium.engine.scheduler.TOGETHER_S", 1e9)
    begun = [threading.Event() for _ in range(MANY_ANSWERS)]

    def writing(may_go_on: threading.Event) -> Steps:
        yield TextDelta(text="first ")
        yield None
        while not may_go_on.is_set():  # until its reader has the first one
            yield None
        for number in range(20):
            yield TextDelta(text=f"{number} ")
            yield None

    async def reading(may_go_on: threading.Event) -> list[Event]:
        job = scheduler.submit(writing(may_go_on))
        first = await job.next()
        assert first == TextDelta(text="first ")
        await asyncio.to_thread(all_begun.wait)
        may_go_on.set()
        return await drain(job)

    all_begun = threading.Barrier(MANY_ANSWERS)
    told = await asyncio.gather(*map(reading, begun))
    expected = "".join(f"{number} " for number in range(20))
    # those that end last are too few to wait
    assert sorted(map(len, told))[0] == 1
    for events in told:
        assert "".join(event.text for event in events if isinstance(event, TextDelta)) == expected


async def test_more_of_a_call_is_handed_over_together(scheduler: Scheduler):
    def calling() -> Steps:
        for part in ("", '{"a":', "1}"):
            yield ToolCallDelta(name="f", arguments=part)
        yield ToolCallEvent(name="f", arguments='{"a":1}')
        yield ToolCallDelta(name="g", arguments="{}")

    job = scheduler.submit(calling())
    await eventually(lambda: job._finished)
    assert await drain(job) == [
        ToolCallDelta(name="f", arguments='{"a":1}'),
        ToolCallEvent(name="f", arguments='{"a":1}'),
        ToolCallDelta(name="g", arguments="{}"),
    ]


async def test_cancelling_ends_the_work(scheduler: Scheduler):
    log: list = []
    job = scheduler.submit(counting(log, "a", 10**9))
    assert await job.next() == say(0)
    job.cancel()
    await eventually(lambda: log[-1][1] == "closed")
    assert len(log) <= MAX_WAITING + 3
    job.cancel()


async def test_a_run_ends_when_it_is_closed(scheduler: Scheduler):
    log: list = []
    async with aclosing(scheduler.run(counting(log, "a", 10**9))) as events:
        assert [await anext(events), await anext(events)] == [say(0), say(1)]
    await eventually(lambda: log[-1][1] == "closed")
    assert [event async for event in scheduler.run(counting([], "b", 3))] == [say(0), say(1), say(2)]


async def test_an_error_reaches_its_reader_alone(scheduler: Scheduler):
    def failing() -> Steps:
        yield say(0)
        raise ValueError("no such voice")

    good = asyncio.create_task(read(scheduler, counting([], "good", 50)))
    job = scheduler.submit(failing())
    assert await job.next() == say(0)
    with pytest.raises(ValueError, match="no such voice"):
        await job.next()
    assert len(await good) == 50


async def test_the_pages_of_an_answer_are_free_when_its_reader_knows_the_end(scheduler: Scheduler, runner: Runner):
    """Nothing that the worker still holds, like the step that it computed last, keeps them."""
    used: list[int] = []

    def reading() -> Steps:
        sequence = Sequence(runner, leaves_pages=False)
        sequence.append_ids(*[5] * (2 * PAGE_POSITIONS))
        yield Pending((sequence,))
        used.append(runner.pool.num_used)

    def looking() -> Steps:
        while not used:
            yield None
        used.append(runner.pool.num_used)

    first = scheduler.submit(reading())
    second = scheduler.submit(looking())
    assert await drain(first) == await drain(second) == []
    assert used == [2, 0]


async def test_closing_ends_what_is_under_way():
    scheduler = Scheduler()
    log: list = []
    job = scheduler.submit(counting(log, "a", 10**9))
    assert await job.next() == say(0)
    await asyncio.to_thread(scheduler.close)
    assert log[-1][1] == "closed"
    with pytest.raises(RuntimeError, match="closed"):
        await drain(job)
    with pytest.raises(RuntimeError, match="closed"):
        scheduler.submit(counting([], "b", 1))
