"""Many at once: whoever arrives, leaves, or is short of memory, each answer is what it is alone, and nothing leaks."""

from __future__ import annotations

import asyncio
import gc
import random
from contextlib import aclosing

import numpy as np
import pytest

from sensorium.engine.engine import OmniEngine
from sensorium.engine.request import End, Event, SamplingParams
from sensorium.messages import Audio, Image, Message, Text
from sensorium.tokenizers.release import Release
from tests.networks import values

CLIP = Audio(waveform=0.2 * np.random.default_rng(0).standard_normal(20_000).astype(np.float32), sample_rate_hz=16_000)
PICTURE = Image(pixels=np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8))
SYSTEM = Message(role="system", parts=(Text(text="you are a home assistant and answer in few words " * 3),))


def requests(count: int) -> list[tuple[list[Message], SamplingParams]]:
    """Of all forms; most share the beginning."""
    rng = random.Random(5)
    asked = []
    for number in range(count):
        parts = [Text(text="two " * rng.randint(1, 40)), *rng.choice([(), (CLIP,), (PICTURE,), (PICTURE, CLIP)])]
        messages = [Message(role="user", parts=tuple(parts))]
        params = SamplingParams(
            modality=rng.choice(["text", "audio"]),
            temperature=rng.choice([0.0, 0.9]),
            seed=number,
            max_tokens=rng.choice([5, 30, 60]),
        )
        asked.append(([SYSTEM, *messages] if rng.random() < 0.7 else messages, params))
    return asked


async def answer(engine: OmniEngine, messages: list[Message], params: SamplingParams) -> list[Event]:
    return [event async for event in engine.generate(messages, params)]


async def settled(engine: OmniEngine) -> int:
    """Pages in use once everything under way has ended."""
    pool = engine._network.runner.pool
    for _ in range(400):
        gc.collect()
        if not engine._scheduler._jobs and not pool.num_used:
            break
        await asyncio.sleep(0.005)
    return pool.num_used


@pytest.mark.parametrize("threads", [1, 2])
async def test_answers_do_not_depend_on_who_else_is_there(release: Release, threads: int):
    """Random arrivals, clients that leave, prompts that begin alike, and memory for two contexts of sixteen."""
    asked = requests(24)
    alone = OmniEngine(release)
    expected = [values(await answer(alone, *one)) for one in asked]
    await alone.close()
    engine = OmniEngine(release, cached_positions=2 * engine_context(release), threads=threads)
    rng = random.Random(threads)

    async def one(number: int) -> object:
        await asyncio.sleep(rng.random() * 0.3)
        if number % 5 == 4:  # leaves early
            async with aclosing(engine.generate(*asked[number])) as events:
                async for _ in events:
                    break
            return expected[number]
        return values(await answer(engine, *asked[number]))

    assert list(await asyncio.gather(*(one(number) for number in range(len(asked))))) == expected
    assert await settled(engine) == 0
    assert engine._network.runner.pool.num_preempted > 3
    await engine.close()


def engine_context(release: Release) -> int:
    return release.config.model.max_seq_len


async def test_memory_is_taken_from_the_idle_and_computed_again(release: Release):
    """A conversation that nobody speaks in loses its pages to others, and goes on as if it had kept them."""
    hum = 0.1 * np.random.default_rng(2).standard_normal(16_000).astype(np.float32)

    async def converse(engine: OmniEngine, *, others: int) -> list[object]:
        conversation = engine.converse()
        heard = [*await conversation.push(hum), *await conversation.finish()]
        first = [event async for event in conversation.answer(SamplingParams(modality="audio", max_tokens=40))]
        await asyncio.gather(*(answer(engine, *one) for one in requests(others)))
        if others:
            cache = conversation._sequence.cache
            assert not cache.num_pages
        heard += [*await conversation.push(hum[::-1]), *await conversation.finish()]
        second = [event async for event in conversation.answer(SamplingParams(modality="audio", max_tokens=40))]
        return values([*heard, *first, *second])

    roomy, narrow = OmniEngine(release), OmniEngine(release, cached_positions=2 * engine_context(release))
    assert await converse(roomy, others=0) == await converse(narrow, others=20)
    assert await settled(narrow) == 0
    await roomy.close()
    await narrow.close()


async def test_what_was_computed_for_others_counts_as_cached(release: Release):
    engine = OmniEngine(release)
    messages = [SYSTEM, Message(role="user", parts=(Text(text="two"), PICTURE))]
    cached = []
    for asked in (messages, messages, [SYSTEM, *requests(1)[0][0][-1:]]):
        *_, end = await answer(engine, asked, SamplingParams(max_tokens=5))
        assert isinstance(end, End)
        cached.append(end.usage.cached)
    assert cached[0] == 0
    assert cached[1] > cached[2] > 16
    await engine.close()


def test_a_pool_without_room_for_two_contexts_is_refused(release: Release):
    with pytest.raises(ValueError, match="two contexts of 512"):
        OmniEngine(release, cached_positions=1000)
