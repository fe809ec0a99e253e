"""The whole engine on a small random network: every form of answer, limits, cancelling, many at once."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import sensorium.engine.sequence
from sensorium.engine.answer import LEAST_ANSWER, read
from sensorium.engine.engine import OmniEngine
from sensorium.engine.grammar import MAX_CAPTION_TOKENS
from sensorium.engine.network import Network
from sensorium.engine.request import (
    AudioDelta,
    ContextLengthExceeded,
    End,
    Event,
    Function,
    ImageDelta,
    InputTranscriptDelta,
    SamplingParams,
    Tally,
    TextDelta,
    ToolCallDelta,
    ToolCallEvent,
    Transcribed,
    TranscriptDelta,
    Usage,
)
from sensorium.engine.runner import Known, Piece, Runner
from sensorium.engine.sequence import Sequence
from sensorium.messages import Audio, Image, Message, Part, Text, Video
from sensorium.tokenizers import vocab
from sensorium.tokenizers.release import Release
from tests.networks import values

WARM = SamplingParams(temperature=1.0, seed=4, max_tokens=40)
SPOKEN = SamplingParams(modality="audio", voice="echo", seed=4, max_tokens=40)
CLIP = Audio(waveform=np.sin(np.arange(12_000) / 9).astype(np.float32), sample_rate_hz=24_000)  # 7 frames
PICTURE = Image(pixels=np.full((20, 30, 3), 200, dtype=np.uint8))
FILM = Video(frames=(PICTURE, PICTURE), times_ms=(0.0, 500.0), sound=CLIP)


@pytest.fixture
async def engine(release: Release) -> AsyncIterator[OmniEngine]:
    engine = OmniEngine(release)
    yield engine
    await engine.close()


@pytest.fixture
def opens_with(monkeypatch: pytest.MonkeyPatch):
    """A random network seldom opens with the form under test."""

    def choose(symbol: int) -> None:
        monkeypatch.setattr(sensorium.engine.sequence, "opening", lambda *_: symbol)

    return choose


def user(*parts: Part | str) -> list[Message]:
    return [Message(role="user", parts=tuple(Text(text=part) if isinstance(part, str) else part for part in parts))]


async def answer(engine: OmniEngine, messages: list[Message], params: SamplingParams) -> list[Event]:
    return [event async for event in engine.generate(messages, params)]


def end_of(events: list[Event]) -> End:
    end = events[-1]
    assert isinstance(end, End)
    assert sum(isinstance(event, End) for event in events) == 1
    return end


async def test_tokens_spell_their_text(engine: OmniEngine, release: Release):
    assert engine.text_of(release.text.encode("two plus é")) == "two plus é"


async def test_a_written_answer(engine: OmniEngine, opens_with):
    opens_with(vocab.WRITE)
    events = await answer(engine, user("what is two"), WARM)
    end = end_of(events)
    assert all(isinstance(event, TextDelta) for event in events[:-1])
    assert end.reason == "length"
    assert end.usage.output_tokens == end.usage.output_text == 40
    assert end.usage.input_tokens == 4 + len(engine._release.text.encode("what is two"))


async def test_a_spoken_answer(engine: OmniEngine, opens_with):
    opens_with(vocab.SPEAK)
    events = await answer(engine, user("the time"), SPOKEN)
    kinds = [type(event) for event in events]
    assert kinds.index(TranscriptDelta) < kinds.index(AudioDelta)
    sounds = [event for event in events if isinstance(event, AudioDelta)]
    usage = end_of(events).usage
    assert usage.output_audio == len(sounds) > 0
    assert usage.output_audio + usage.output_text == 40
    assert all(sound.sample_rate_hz == 16_000 and sound.waveform.shape == (1280,) for sound in sounds)
    assert all(sound.waveform.dtype == np.float32 and np.abs(sound.waveform).max() <= 1.0 for sound in sounds)


@pytest.mark.parametrize(("guidance_scale", "partial_images"), [(1.0, 0), (3.0, 0), (3.0, 2)])
async def test_a_drawn_answer(engine: OmniEngine, opens_with, guidance_scale: float, partial_images: int):
    opens_with(vocab.IMAGE)
    params = SamplingParams(seed=1, guidance_scale=guidance_scale, max_tokens=64, partial_images=partial_images)
    events = await answer(engine, user("draw a red circle"), params)
    pictures = [event for event in events if isinstance(event, ImageDelta)]
    assert [picture.final for picture in pictures] == [False] * partial_images + [True]
    assert pictures[-1].pixels.shape == (64, 64, 3)
    assert end_of(events).usage.output_image == 64


async def test_an_answer_that_must_be_a_picture_is_one(engine: OmniEngine):
    events = await answer(engine, user("the time"), SamplingParams(modality="image"))
    assert [type(event) for event in events] == [ImageDelta, End]


async def test_a_call(engine: OmniEngine, opens_with, monkeypatch: pytest.MonkeyPatch):
    opens_with(vocab.CALL)
    ends = np.isin(np.arange(engine._network.runner.config.vocab_size), [vocab.END_CALL, vocab.END])

    def brief(runner: Runner, pieces: tuple[Piece, ...], forward=Runner.forward) -> Known:
        return (known := forward(runner, pieces))._replace(logits=known.logits + np.float32(1e3) * ends)

    monkeypatch.setattr(Runner, "forward", brief)
    *deltas, call, end = await answer(engine, user("turn on the light"), SamplingParams())
    assert isinstance(call, ToolCallEvent)
    assert {type(delta) for delta in deltas} == {ToolCallDelta}
    assert end_of([call, end]).reason == "tool_calls"


async def test_heard_clips_are_written_down_first(engine: OmniEngine):
    events = await answer(engine, user("and", CLIP, PICTURE, CLIP), SamplingParams(max_tokens=3))
    heard = [event for event in events if isinstance(event, InputTranscriptDelta)]
    assert events[: len(heard)] == heard
    usage = end_of(events).usage
    assert (usage.input_audio, usage.input_image) == (14, 64)
    assert all(event.clip in (0, 1) and len(event.tokens) == len(event.logprobs) > 0 for event in heard)


async def test_what_is_seen_is_written_down_too(release: Release):
    """In the stream alone: the events speak of what was heard."""
    network, engine = Network.of(release), OmniEngine(release)
    sequence = Sequence(network.runner)
    events = [event for event in read(network, sequence, engine._pieces(tuple(user(PICTURE, "and", CLIP)))) if event]
    await engine.close()
    ids = sequence.stream.ids
    words = ids[ids.index(vocab.CAPTION) + 1 : ids.index(vocab.END_IMAGE)]
    assert all(release.vocabulary.is_text(symbol) for symbol in words)
    assert len(words) <= MAX_CAPTION_TOKENS
    assert {event.clip for event in events if isinstance(event, InputTranscriptDelta)} <= {0}


async def test_what_was_heard_does_not_depend_on_the_temperature(engine: OmniEngine):
    heard = []
    for params in (SamplingParams(max_tokens=1), SamplingParams(temperature=2.0, seed=9, max_tokens=1)):
        events = await answer(engine, user(CLIP), params)
        heard.append([event for event in events if isinstance(event, InputTranscriptDelta)])
    assert heard[0] == heard[1]


async def test_a_stop_text_ends_the_answer(engine: OmniEngine, opens_with):
    opens_with(vocab.WRITE)
    events = await answer(engine, user("two"), WARM)
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    stop = text[10:13]
    events = await answer(engine, user("two"), SamplingParams(temperature=1.0, seed=4, max_tokens=40, stop=(stop,)))
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == text[: text.index(stop)]
    assert end_of(events).reason == "stop"


async def test_the_seed_decides(engine: OmniEngine):
    first, again = [values(await answer(engine, user("two"), WARM)) for _ in range(2)]
    other = values(await answer(engine, user("two"), SamplingParams(temperature=1.0, seed=5, max_tokens=40)))
    assert first == again != other


async def test_answers_at_once_are_the_answers_alone(engine: OmniEngine):
    asked = [(user("two", CLIP), SPOKEN), (user("draw", PICTURE), WARM), (user("the time"), SPOKEN), (user(CLIP), WARM)]
    alone = [values(await answer(engine, messages, params)) for messages, params in asked]
    at_once = await asyncio.gather(*(answer(engine, messages, params) for messages, params in asked))
    assert [values(events) for events in at_once] == alone


async def test_a_reader_who_leaves_harms_nobody(engine: OmniEngine):
    expected = values(await answer(engine, user("two"), SPOKEN))
    endless = SamplingParams(modality="audio", temperature=1.0)
    async with aclosing(engine.generate(user("two"), endless)) as events:
        await anext(events)
        assert engine._scheduler._jobs
    for _ in range(200):
        if not engine._scheduler._jobs:
            break
        await asyncio.sleep(0.005)
    assert not engine._scheduler._jobs
    assert values(await answer(engine, user("two"), SPOKEN)) == expected


async def test_the_network_never_runs_on_the_event_loop(engine: OmniEngine, monkeypatch: pytest.MonkeyPatch):
    threads: set[str] = set()

    def noting(function):
        def call(*args, **kwargs):
            threads.add(threading.current_thread().name)
            return function(*args, **kwargs)

        return call

    for method in ("forward", "logits", "residuals"):
        monkeypatch.setattr(Runner, method, noting(getattr(Runner, method)))
    monkeypatch.setattr(engine._media, "audio", noting(engine._media.audio))
    monkeypatch.setattr(engine._media, "image", noting(engine._media.image))
    await answer(engine, user("two", CLIP, PICTURE), SPOKEN)
    assert threads == {"sensorium-engine", "sensorium-media_0"}


async def test_a_prompt_too_long_is_refused_before_any_work(engine: OmniEngine, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise AssertionError("the clip was encoded")

    monkeypatch.setattr(engine._media, "audio", fail)
    long = Audio(waveform=np.zeros(60 * 16_000, np.float32), sample_rate_hz=16_000)
    with pytest.raises(ContextLengthExceeded) as caught:
        await answer(engine, user(long), WARM)
    assert caught.value.max_tokens == engine.info.max_tokens == 512
    assert engine.info.limits == {
        "image_tokens": 64,
        "frame_tokens": 16,
        "audio_tokens_per_s": 12.5,
        "framing_tokens": 3,
        "answer_tokens": LEAST_ANSWER,
    }
    assert caught.value.prompt_tokens == 750 + 7  # with the six symbols around the clip, and the end of its transcript


async def test_a_count_is_what_the_prompt_takes(engine: OmniEngine):
    messages = user("what is two plus three", Image(pixels=np.zeros((8, 8, 3), np.uint8)))
    (*_, end) = await answer(engine, messages, SamplingParams(max_tokens=1))
    assert isinstance(end, End)
    counted = await engine.count(messages)
    written_down = end.usage.input_tokens - counted
    assert 0 <= written_down <= 64
    (*_, end) = await answer(engine, user("hi"), SamplingParams(max_tokens=1))
    assert isinstance(end, End)
    assert await engine.count(user("hi")) == end.usage.input_tokens


async def test_what_no_stream_can_carry_is_refused(engine: OmniEngine):
    shown = Message(role="assistant", parts=(FILM,))
    with pytest.raises(ValueError, match="makes no films"):
        await answer(engine, [*user("film"), shown, *user("again")], WARM)
    with pytest.raises(ValueError, match="unknown voice 'nova'"):
        await answer(engine, user("two"), SamplingParams(modality="audio", voice="nova"))


async def test_a_conversation_goes_in_whole(engine: OmniEngine):
    reply = Message(role="assistant", parts=(Text(text="five"), PICTURE))
    spoken = Message(
        role="assistant", parts=(Audio(waveform=CLIP.waveform, sample_rate_hz=24_000, transcript="ten", voice="echo"),)
    )
    events = await answer(engine, [*user("two"), reply, *user(CLIP), spoken, *user("and")], WARM)
    usage = end_of(events).usage
    assert (usage.input_audio, usage.input_image) == (14, 64)
    assert usage.cached == Usage().cached == 0


async def test_choices_are_what_each_would_be_alone(engine: OmniEngine, opens_with):
    """One reading of the prompt, media and all; from there each goes its own way."""
    opens_with(vocab.WRITE)
    asked = user("what is two", CLIP, PICTURE)
    params = [SamplingParams(temperature=1.0, seed=seed, max_tokens=20) for seed in (4, 5, 6)]
    found: dict[int, list[Event]] = {0: [], 1: [], 2: []}
    order: list[int] = []
    async for index, event in engine.choices(asked, params):
        found[index].append(event)
        order.append(index)
    alone = [await answer(engine, asked, each) for each in params]
    heard = [event for event in alone[0] if isinstance(event, InputTranscriptDelta)]
    assert values(found[0]) == values(alone[0])
    for index in (1, 2):
        assert values(found[index]) == values(alone[index][len(heard) :])  # what was heard is told once
    begins = order[len(heard) :]
    assert {0, 1, 2} == set(begins[:12]), "they take turns"


async def test_choices_that_are_closed_stop(engine: OmniEngine, opens_with):
    opens_with(vocab.SPEAK)
    endless = SamplingParams(modality="audio", temperature=1.0)
    choices = engine.choices(user("two"), [endless] * 3)
    await anext(choices)
    await choices.aclose()
    assert end_of(await answer(engine, user("two"), WARM))  # the thread is free
    with pytest.raises(ValueError, match="nova"):
        await anext(engine.choices(user("two"), [WARM, SamplingParams(modality="audio", voice="nova")]))


async def test_a_call_is_of_a_function_on_offer(engine: OmniEngine):
    add = Function(name="add", parameters='{"type":"object","properties":{"a":{"enum":[1,2]}},"required":["a"]}')
    for seed in range(4):
        params = SamplingParams(
            temperature=1.5, seed=seed, max_tokens=120, tool_choice="required", functions=(add,), max_calls=2
        )
        events = await answer(engine, user("add"), params)
        calls = [event for event in events if isinstance(event, ToolCallEvent)]
        assert 1 <= len(calls) <= 2
        assert {call.name for call in calls} == {"add"}
        assert all(json.loads(call.arguments)["a"] in (1, 2) for call in calls)


async def test_a_document_and_its_log_probabilities(engine: OmniEngine):
    schema = '{"type":"object","properties":{"a":{"enum":["x","y"]}},"required":["a"],"additionalProperties":false}'
    params = SamplingParams(temperature=1.5, seed=2, document=schema, top_logprobs=3, tool_choice="none")
    events = await answer(engine, user("what is two"), params)
    deltas = [event for event in events if isinstance(event, TextDelta)]
    text = "".join(delta.text for delta in deltas)
    assert json.loads(text)["a"] in ("x", "y")
    tokens = [token for delta in deltas for token in delta.logprobs]
    assert b"".join(token.bytes for token in tokens).decode() == text
    assert len(tokens) == end_of(events).usage.output_text
    for token in tokens:
        assert 1 <= len(token.top) <= 3  # of what the schema leaves
        assert token.logprob <= token.top[0].logprob <= 0


async def test_a_schema_that_cannot_be_kept_to_costs_no_step(engine: OmniEngine):
    with pytest.raises(ValueError, match="not"):
        await answer(engine, user("two"), SamplingParams(document='{"not": {}}'))


async def test_a_loaded_release_is_ready(release: Release, tmp_path: Path):
    release.save(tmp_path)
    engine = await asyncio.to_thread(OmniEngine.load, tmp_path)
    assert (engine.info.model, engine.info.max_tokens, engine.info.sample_rate_hz) == ("sensorium-random", 512, 16_000)
    assert end_of(await answer(engine, user("two"), WARM))
    await engine.close()


async def test_a_closed_engine_says_so(release: Release):
    engine = OmniEngine(release)
    events = engine.generate(user("two"), SamplingParams(modality="audio", temperature=1.0))
    await anext(events)
    await engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        [event async for event in events]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
async def test_a_script_is_said_word_for_word(engine: OmniEngine, opens_with, temperature: float):
    opens_with(vocab.SPEAK)
    params = SamplingParams(modality="audio", seed=4, temperature=temperature, script="abc de fgh")
    events = [event async for event in engine.generate(user("say: x"), params)]
    assert "".join(event.text for event in events if isinstance(event, TranscriptDelta)) == "abc de fgh"
    assert sum(len(event.waveform) for event in events if isinstance(event, AudioDelta)) > 0
    assert isinstance(events[-1], End)
    assert events[-1].reason == "stop"


@pytest.mark.parametrize("params", [SamplingParams(script="a"), SamplingParams(modality="audio", script=" ")])
async def test_a_script_is_spoken_and_not_empty(engine: OmniEngine, params: SamplingParams):
    with pytest.raises(ValueError, match="script"):
        async for _ in engine.generate(user("say: x"), params):
            pass


async def test_a_transcription_has_times_and_likelihoods(engine: OmniEngine):
    waveform = np.sin(np.arange(32_000) / 9).astype(np.float32)
    events = [event async for event in engine.transcribe(waveform, SamplingParams())]
    deltas = [event for event in events if isinstance(event, InputTranscriptDelta)]
    timed = [delta.end_ms for delta in deltas if delta.end_ms is not None]
    assert timed == sorted(timed)
    assert all(delta.tokens and len(delta.tokens) == len(delta.logprobs) for delta in deltas if delta.text)
    assert all(token.logprob <= 0 for delta in deltas for token in delta.logprobs)
    assert isinstance(events[-1], Transcribed)
    assert events[-1].usage.input_audio == 25
    assert events[-1].voice is None
    again = [event async for event in engine.transcribe(waveform, SamplingParams())]
    assert [event for event in again if isinstance(event, InputTranscriptDelta)] == deltas


@pytest.mark.parametrize("params", [WARM, SPOKEN], ids=["text", "audio"])
async def test_what_was_used_is_known_while_it_is_written_and_when_it_is_given_up(engine: OmniEngine, params):
    messages = [Message(role="user", parts=(Text(text="tell me a story"), CLIP))]
    tally = Tally()
    counts: list[int] = []
    async with aclosing(engine.generate(messages, replace(params, tally=tally))) as events:
        async for event in events:
            if isinstance(event, End):
                assert tally.usage == event.usage
            elif tally.usage is not None:
                counts.append(tally.usage.output_tokens)
    assert counts == sorted(counts)
    given_up = Tally()
    async with aclosing(engine.generate(messages, replace(params, tally=given_up))) as events:
        async for event in events:
            if isinstance(event, TextDelta | TranscriptDelta):
                break
    assert given_up.usage is not None
    assert tally.usage is not None
    assert given_up.usage.input_tokens == tally.usage.input_tokens
    assert 0 < given_up.usage.output_tokens <= tally.usage.output_tokens


@pytest.mark.parametrize("text", ["turn on the light", "", "\u00fc\U0001f600 <|end|>"], ids=["words", "none", "odd"])
async def test_text_is_understood_the_same_on_either_thread(engine: OmniEngine, text: str):
    messages = (Message(role="system", parts=(Text(text="be kind"),)), Message(role="user", parts=(Text(text=text),)))
    quick, _ = await engine._understood(messages, (WARM,))
    slow, _ = await engine._on_media_thread(engine._understand, messages, (WARM,))
    assert [piece.stream.ids for piece in quick] == [piece.stream.ids for piece in slow]
    assert [piece.until for piece in quick] == [piece.until for piece in slow]


async def test_text_does_not_wait_for_the_media_of_others(engine: OmniEngine):
    """A film takes seconds to encode."""
    busy, go_on = threading.Event(), threading.Event()

    def encode_for_long() -> None:
        busy.set()
        go_on.wait(60)

    encoding = asyncio.create_task(engine._on_media_thread(encode_for_long))
    await asyncio.to_thread(busy.wait)
    async with asyncio.timeout(30):
        events = await answer(engine, user("hi"), WARM)
    assert isinstance(events[-1], End)
    assert not encoding.done()
    go_on.set()
    await encoding


async def test_a_transcription_pushes_nothing_out_that_chats_begin_with(engine: OmniEngine):
    pool = engine._network.runner.pool
    gc.collect()
    before = pool.num_kept
    for seed in range(3):
        waveform = np.random.default_rng(seed).standard_normal(32_000).astype(np.float32)
        assert [event async for event in engine.transcribe(waveform, SamplingParams())]
    gc.collect()
    assert (pool.num_kept, pool.num_used) == (before, 0)
