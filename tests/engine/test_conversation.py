"""Conversations by voice: the engine and its double keep one contract, and the engine's stream is what it should be."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from math import ceil

import numpy as np
import pytest

import sensorium.engine.sequence
from sensorium.engine.duplex import LiveConversation
from sensorium.engine.engine import OmniEngine
from sensorium.engine.fake import FakeConversation, FakeEngine
from sensorium.engine.request import (
    AudioDelta,
    ContextLengthExceeded,
    Conversation,
    End,
    Event,
    InputTranscriptDelta,
    LiveEngine,
    SamplingParams,
    TextDelta,
    TranscriptDelta,
)
from sensorium.engine.runner import Runner
from sensorium.engine.sequence import Sequence
from sensorium.messages import Audio, Image, Message, Text
from sensorium.tokenizers import vocab
from sensorium.tokenizers.release import Release
from tests.engine.test_duplex import eager_release
from tests.networks import values

FRAME = 1280
HUM = (0.3 * np.sin(np.arange(8 * FRAME + 300) / 9)).astype(np.float32)
SILENT = np.zeros(2 * FRAME, np.float32)
WRITTEN = SamplingParams(max_tokens=6, tool_choice="none")
SPOKEN = SamplingParams(modality="audio", max_tokens=40, seed=3, tool_choice="none")


@pytest.fixture(scope="session")
def eager() -> Release:
    return eager_release(2)


@pytest.fixture
async def engine(eager: Release) -> AsyncIterator[OmniEngine]:
    engine = OmniEngine(eager)
    yield engine
    await engine.close()


@pytest.fixture(params=["real", "fake"])
async def any_engine(request: pytest.FixtureRequest, eager: Release) -> AsyncIterator[LiveEngine]:
    engine: LiveEngine = OmniEngine(eager) if request.param == "real" else FakeEngine()
    yield engine
    await engine.close()


@pytest.fixture(autouse=True)
def in_words(monkeypatch: pytest.MonkeyPatch):
    """A random network might draw instead."""
    monkeypatch.setattr(sensorium.engine.sequence, "opening", lambda logits, words, forms: words)


def typed(role: str, text: str) -> Message:
    return Message(role=role, parts=(Text(text=text),))  # pyright: ignore[reportArgumentType]


async def say(conversation: Conversation, samples: np.ndarray = HUM, *, size: int = 700) -> list[Event]:
    """A whole turn, as a microphone would give it."""
    events: list[Event] = []
    for start in range(0, len(samples), size):
        events += await conversation.push(samples[start : start + size])
    return events + await conversation.finish()


async def answer(conversation: Conversation, params: SamplingParams = WRITTEN) -> list[Event]:
    return [event async for event in conversation.answer(params)]


def heard(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, InputTranscriptDelta))


def ids(conversation: Conversation) -> list[int]:
    assert isinstance(conversation, LiveConversation)
    return list(conversation._sequence.stream.ids)


async def test_turns_and_answers(any_engine: LiveEngine):
    conversation = any_engine.converse()
    await conversation.read([typed("system", "be brief")])
    num_free = conversation.num_free
    assert (conversation.turn_probability, conversation.transcript) == (0.0, "")
    for turn in range(2):
        events = await say(conversation)
        assert heard(events) == conversation.transcript != ""
        assert {event.clip for event in events if isinstance(event, InputTranscriptDelta)} == {turn}
        *said, end = await answer(conversation, SPOKEN if turn else WRITTEN)
        assert isinstance(end, End)
        assert end.usage.input_audio >= 9 * (turn + 1)
        kind = TranscriptDelta if turn else TextDelta
        assert any(isinstance(event, kind) for event in said)
    assert conversation.num_free < num_free


async def test_it_can_be_taken_back(any_engine: LiveEngine):
    """A false start; then a turn that was thought to be over, and answered, and was not."""
    conversation = any_engine.converse()
    before = await conversation.mark()
    await conversation.push(HUM[:3000])
    await conversation.truncate(before)
    await conversation.push(HUM[:5000])
    within = await conversation.mark()
    written = conversation.transcript
    await conversation.finish()
    await answer(conversation)
    after = await conversation.mark()
    await conversation.truncate(within)
    assert conversation.transcript == written
    await conversation.push(HUM[5000:])
    await conversation.finish()
    found = (conversation.transcript, values(await answer(conversation, SPOKEN))[:-1])
    await conversation.truncate(before)
    with pytest.raises(ValueError, match="forgotten"):
        await conversation.truncate(after)
    await say(conversation)
    assert (conversation.transcript, values(await answer(conversation, SPOKEN))[:-1]) == found


async def test_a_fork_goes_its_own_way(any_engine: LiveEngine):
    """In the middle of a turn: one hears no more and answers, the other hears on, both as if they were alone."""
    expected = []
    for size in (5000, len(HUM)):
        alone = any_engine.converse()
        await alone.push(HUM[:size])
        await alone.finish()
        expected.append((alone.transcript, values(await answer(alone, SPOKEN))[:-1]))
    conversation = any_engine.converse()
    before = await conversation.mark()
    await conversation.push(HUM[:5000])
    within = await conversation.mark()
    twin = await conversation.fork()
    events = answer(twin, SPOKEN)
    await asyncio.gather(twin.finish(), conversation.push(HUM[5000:9000]))
    said, _ = await asyncio.gather(events, conversation.push(HUM[9000:]))
    await conversation.finish()
    found = (conversation.transcript, values(await answer(conversation, SPOKEN))[:-1])
    assert [(twin.transcript, values(said)[:-1]), found] == expected
    await twin.truncate(within)  # it was not over after all
    await twin.push(HUM[5000:])
    await twin.finish()
    assert (twin.transcript, values(await answer(twin, SPOKEN))[:-1]) == expected[1]
    await twin.truncate(before)
    assert twin.num_free > conversation.num_free
    assert (await twin.fork()).num_free == twin.num_free


async def test_the_wrong_moment_is_refused(any_engine: LiveEngine):
    conversation = any_engine.converse()
    with pytest.raises(RuntimeError, match="no turn"):
        await conversation.finish()
    with pytest.raises(RuntimeError, match="no answer"):
        await conversation.interrupt(100)
    await conversation.push(HUM)
    for call in (answer(conversation), conversation.read([typed("user", "hi")])):
        with pytest.raises(RuntimeError, match="not finished"):
            await call
    with pytest.raises(RuntimeError, match="no answer"):
        await conversation.interrupt(100)
    await conversation.finish()
    with pytest.raises(RuntimeError, match="no turn"):
        await conversation.finish()
    assert isinstance((await answer(conversation))[-1], End)


async def test_an_answer_may_be_cut_off(any_engine: LiveEngine):
    """By its reader; what of it was heard stays, and the next turn goes on from there."""
    conversation = any_engine.converse()
    await say(conversation)
    sounds = 0
    async with aclosing(conversation.answer(SPOKEN)) as events:  # pyright: ignore[reportArgumentType]
        async for event in events:
            sounds += isinstance(event, AudioDelta)
            if sounds == 2:
                break
    num_free = conversation.num_free
    await conversation.interrupt(81)
    await conversation.interrupt(10_000)  # there is no more than that
    assert conversation.num_free >= num_free
    await say(conversation)
    assert isinstance((await answer(conversation))[-1], End)


async def test_silence_is_the_end_of_the_doubles_turn():
    conversation = FakeEngine().converse()
    for samples, expected in ((SILENT, 0.0), (HUM, 0.0), (SILENT, 1.0), (HUM, 0.0)):
        await conversation.push(samples)
        assert conversation.turn_probability == expected
    assert heard(await conversation.finish()) == " word6"
    assert conversation.transcript == "word1 word2 word3 word4 word5 word6"
    assert conversation.turn_probability == 0.0
    events = await answer(conversation, SamplingParams())
    said = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert said == "I got a clip of 1638 ms."
    await say(conversation, HUM)
    await answer(conversation, SPOKEN)
    await conversation.interrupt(200)
    assert isinstance(conversation, FakeConversation)
    [cut] = conversation.messages[-1].parts
    assert isinstance(cut, Audio)
    assert (cut.transcript, len(cut.waveform)) == ("I got", 3 * FRAME)
    await conversation.interrupt(0)
    assert conversation.messages[-1].role == "user"
    with pytest.raises(ContextLengthExceeded):
        await FakeEngine(max_tokens=4).converse().push(HUM)
    with pytest.raises(ContextLengthExceeded):
        await FakeEngine(max_tokens=4).converse().read([typed("user", "a b c d e")])


async def test_a_conversation_is_one_stream(engine: OmniEngine):
    conversation = engine.converse()
    instructions, result = typed("system", "be brief"), typed("tool", "ten")
    await conversation.read([instructions])
    await say(conversation)
    await answer(conversation)
    await conversation.read([result])
    await say(conversation, HUM[:2000])
    await answer(conversation, SPOKEN)
    names = {index: name.strip("<|>") + " " for name, index in vocab.SPECIAL_IDS.items()}
    table = engine._release.vocabulary
    form = "".join(names.get(id) or ("A" if table.is_audio(id) else "T") for id in ids(conversation))
    read = [len(engine._release.text.encode(message.text)) for message in (instructions, result)]
    turns = [rf"user audio listen (AT*){{{count}}}turn T*/audio end assistant " for count in (9, 2)]
    written, spoken = rf"{turns[0]}write T{{6}}end ", rf"{turns[1]}speak voice:alloy [TA].*"
    assert re.fullmatch(rf"bos system T{{{read[0]}}}end {written}tool T{{{read[1]}}}end {spoken}", form), form


async def test_messages_are_read_as_a_request_is(engine: OmniEngine):
    """Whole messages, clips and all, and an answer: the same as without a conversation."""
    messages = [
        typed("system", "be brief"),
        Message(role="user", parts=(Text(text="what is"), Audio(waveform=HUM, sample_rate_hz=16_000))),
    ]
    expected = [event async for event in engine.generate(messages, SPOKEN)]
    conversation = engine.converse()
    found = [
        *await conversation.read(messages[:1]),
        *await conversation.read(messages[1:]),
        *await answer(conversation, SPOKEN),
    ]
    assert values(found) == values(expected)


async def test_what_was_answered_counts_as_cached(engine: OmniEngine):
    conversation = engine.converse()
    usages = []
    for _ in range(3):
        before = await conversation.mark()
        await say(conversation)
        end = (await answer(conversation))[-1]
        assert isinstance(end, End)
        usages.append((end.usage.cached, before.position))
    assert usages[0] == (0, 1)
    assert all(cached == position for cached, position in usages[1:])


async def test_what_counts_as_cached_is_told_by_modality(engine: OmniEngine):
    conversation = engine.converse()
    picture = Image(pixels=np.zeros((8, 8, 3), np.uint8))
    await conversation.read([Message(role="user", parts=(picture,))])
    first = (await answer(conversation))[-1]
    await say(conversation)
    spoken = (await answer(conversation, SPOKEN))[-1]
    before = await conversation.mark()
    await say(conversation)
    last = (await answer(conversation))[-1]
    assert isinstance(first, End)
    assert (first.usage.cached_audio, first.usage.cached_image) == (0, 0)
    assert isinstance(spoken, End)
    assert (spoken.usage.cached_audio, spoken.usage.cached_image) == (0, 64)
    assert isinstance(last, End)
    table = engine._release.vocabulary
    frames = [symbol for symbol in ids(conversation)[: before.position] if table.is_audio(symbol)]
    assert len(frames) > 9  # of what was heard and of what was said
    assert (last.usage.cached_audio, last.usage.cached_image) == (len(frames), 64)


async def test_an_interrupted_answer_keeps_what_was_heard_of_it(engine: OmniEngine):
    conversation = engine.converse()
    await say(conversation)
    before = ids(conversation)
    await answer(conversation, SPOKEN)
    whole, table = ids(conversation), engine._release.vocabulary
    frames = [at for at in range(len(before), len(whole)) if table.is_audio(whole[at])]
    assert len(frames) > 3
    await conversation.interrupt(200)
    heard = ids(conversation)
    told = [at for at in range(len(before), frames[2]) if table.is_text(whole[at])]
    unheard = [at for number, at in enumerate(told) if number > 1]  # of the first three tokens, at 0, 160 and 320 ms
    assert len(unheard) > 0
    assert heard == [whole[at] for at in range(frames[2] + 1) if at not in unheard]
    await conversation.push(HUM)
    closed = ids(conversation)[len(heard) :]
    assert closed[:4] == [vocab.TEXT_END, vocab.END_SPEAK, vocab.END, vocab.USER]
    await conversation.finish()
    asked = ids(conversation)
    await answer(conversation, SPOKEN)
    await conversation.interrupt(0)
    assert ids(conversation) == [*asked, vocab.END]


async def test_a_mark_is_behind_all_that_an_answer_came_to_which_was_given_up(engine: OmniEngine):
    live = engine.converse()
    await live.read([Message(role="user", parts=(Text(text="hi"),))])
    for _ in range(20):
        async with aclosing(live.answer(SPOKEN)) as events:
            await anext(events)
        mark = await live.mark()
        await asyncio.sleep(0.01)
        assert mark.position == len(live._sequence)


async def test_a_network_that_was_taught_it_is_told_of_interruptions(eager: Release):
    """By the same symbols as in training: no end of the words, no end of the speech."""
    config = replace(eager.config, render=replace(eager.config.render, cuts=True))
    engine = OmniEngine(replace(eager, config=config))
    conversation = engine.converse()
    await say(conversation)
    await answer(conversation, SPOKEN)
    for _ in range(2):  # said later again, how much was heard
        await conversation.interrupt(200)
    heard = ids(conversation)
    await conversation.push(HUM)
    assert ids(conversation)[len(heard) :][:3] == [vocab.CUT, vocab.END, vocab.USER]
    await engine.close()


async def test_nothing_that_was_not_heard_is_remembered(engine: OmniEngine):
    """Whatever the answer and wherever it is cut: what stays is every frame that was heard, in its place, and every
    token whose words had begun by then, by what was told with the transcript; no other one."""
    rng = np.random.default_rng(5)
    table = engine._release.vocabulary
    num_dropped = 0
    for seed in range(25):
        conversation = engine.converse()
        await say(conversation)
        start = len(ids(conversation)) + 1  # before <|assistant|>, the turn before it is closed
        params = replace(SPOKEN, seed=seed, temperature=2.0, max_tokens=int(rng.integers(4, 60)))
        events = await answer(conversation, params)
        whole = ids(conversation)
        starts_ms = [event.start_ms for event in events if isinstance(event, TranscriptDelta)]
        frames = [at for at in range(start, len(whole)) if table.is_audio(whole[at])]
        after_ms = float(rng.uniform(0, 80 * len(frames) + 100))
        await conversation.interrupt(after_ms)
        heard = ids(conversation)
        num_heard = min(len(frames), ceil(after_ms / 80))
        assert sum(map(table.is_audio, heard[start:])) == num_heard
        if whole[-1] == vocab.END and num_heard == len(frames):
            assert heard == whole
            continue
        remaining = iter(whole)
        assert all(symbol in remaining for symbol in heard), "in the same order"
        assert heard[-1] != vocab.TEXT_END or all(start_ms < after_ms for start_ms in starts_ms)
        said = [event.text for event in events if isinstance(event, TranscriptDelta) and event.start_ms < after_ms]
        kept = [symbol - table.text_start for symbol in heard[start:] if table.is_text(symbol)]
        remembered = engine._release.text.decode(kept)
        assert remembered.startswith("".join(said[:-1])), "the last may hold half a character more"
        assert "".join(said).startswith(remembered.rstrip("\ufffd"))
        num_dropped += sum(map(table.is_text, whole)) - sum(map(table.is_text, heard))
        afresh = Sequence(engine._network.runner, stream=conversation._sequence.stream)
        np.testing.assert_allclose(conversation._sequence.hidden(), afresh.hidden(), rtol=2e-4, atol=2e-4)
    assert num_dropped > 20


async def test_one_thing_at_a_time_and_never_on_the_event_loop(engine: OmniEngine, monkeypatch: pytest.MonkeyPatch):
    threads: set[str] = set()

    def noting(function):
        def call(*args, **kwargs):
            threads.add(threading.current_thread().name)
            return function(*args, **kwargs)

        return call

    for method in ("forward", "logits"):
        monkeypatch.setattr(Runner, method, noting(getattr(Runner, method)))
    encode = engine._release.audio_tokenizer.encode
    monkeypatch.setattr(engine._release.audio_tokenizer, "encode", noting(encode))
    conversation = engine.converse()
    hearing = asyncio.create_task(conversation.push(HUM))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="one thing at a time"):
        await conversation.push(HUM)
    await hearing
    await conversation.finish()
    await answer(conversation)
    assert threads == {"sensorium-engine"}


async def test_conversations_and_answers_at_once_are_what_they_are_alone(engine: OmniEngine):
    async def converse(shift: int) -> list[object]:
        conversation = engine.converse()
        events = [*await say(conversation, HUM[shift:]), *await answer(conversation, SPOKEN)]
        return [*values(events), *values([*await say(conversation, HUM[2 * shift :]), *await answer(conversation)])]

    async def ask() -> list[object]:
        return values([event async for event in engine.generate([typed("user", "two")], SPOKEN)])

    alone = [await converse(100), await converse(2000), await ask()]
    assert await asyncio.gather(converse(100), converse(2000), ask()) == alone


async def test_a_turn_given_up_leaves_a_conversation_that_can_go_on(
    engine: OmniEngine, monkeypatch: pytest.MonkeyPatch
):
    conversation = engine.converse()
    before = await conversation.mark()
    expected = await say(conversation)
    await conversation.truncate(before)
    calls, encode = [], engine._release.audio_tokenizer.encode

    def counting(*args):
        calls.append(args)
        return encode(*args)

    monkeypatch.setattr(engine._release.audio_tokenizer, "encode", counting)
    hearing = asyncio.create_task(conversation.push(np.tile(HUM, 8)))
    for _ in range(5000):
        if len(calls) >= 3:
            break
        await asyncio.sleep(0.001)
    hearing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hearing
    await conversation.truncate(before)
    assert len(calls) < 60
    assert heard(await say(conversation)) == heard(expected)


async def test_a_full_context_is_refused_and_can_still_be_answered(engine: OmniEngine):
    conversation = engine.converse()
    await conversation.read([typed("system", " two" * (480 // len(engine._release.text.encode(" two"))))])
    with pytest.raises(ContextLengthExceeded):
        await conversation.push(np.tile(HUM, 8))
    await conversation.finish()
    end = (await answer(conversation, SamplingParams()))[-1]
    assert isinstance(end, End)
    assert end.reason == "length"
    for call in (say(conversation), answer(conversation), conversation.read([typed("user", "two")])):
        with pytest.raises(ContextLengthExceeded):
            await call


async def test_an_unknown_voice_changes_nothing(engine: OmniEngine):
    conversation = engine.converse()
    await say(conversation)
    before = ids(conversation)
    with pytest.raises(ValueError, match="unknown voice 'nova'"):
        await answer(conversation, SamplingParams(modality="audio", voice="nova"))
    assert ids(conversation) == before
