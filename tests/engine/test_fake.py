from __future__ import annotations

import asyncio
from contextlib import aclosing

import numpy as np
import pytest

from sensorium.engine.fake import FakeEngine
from sensorium.engine.request import (
    AudioDelta,
    ContextLengthExceeded,
    End,
    Engine,
    Event,
    ImageDelta,
    SamplingParams,
    TextDelta,
    ToolCallDelta,
    ToolCallEvent,
    TranscriptDelta,
    Usage,
)
from sensorium.messages import Audio, Image, Message, Part, Text, Video, tool_list


def user(*parts: Part | str) -> list[Message]:
    return [Message(role="user", parts=tuple(Text(text=part) if isinstance(part, str) else part for part in parts))]


async def answer(messages: list[Message], engine: FakeEngine | None = None, **params) -> list[Event]:
    engine = engine or FakeEngine()
    return [event async for event in engine.generate(messages, SamplingParams(**params))]


def written(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def test_it_says_what_it_got():
    clip = Audio(waveform=np.zeros(8000, np.float32), sample_rate_hz=16_000)
    image = Image(pixels=np.zeros((6, 8, 3), np.uint8))
    events = await answer(user("hello there", clip, image))
    assert written(events) == 'You said "hello there". I got a clip of 500 ms and a picture of 8 x 6.'
    usage = Usage(input_text=2, input_audio=7, input_image=64, output_text=len(events) - 1)
    assert events[-1] == End(reason="stop", usage=usage)


async def test_it_says_what_it_saw_of_a_film():
    frame = Image(pixels=np.zeros((6, 8, 3), np.uint8))
    clip = Audio(waveform=np.zeros(24_000, np.float32), sample_rate_hz=16_000)
    events = await answer(user(Video(frames=(frame, frame), times_ms=(0.0, 1000.0), sound=clip)))
    assert written(events) == "I got a film of 2 frames of 8 x 6 in 1.5 s with sound."
    assert isinstance(events[-1], End)
    assert (events[-1].usage.input_image, events[-1].usage.input_audio) == (32, 19)


async def test_speech_follows_its_transcript_by_a_word():
    events = await answer(user("hi"), modality="audio")
    kinds = [type(event) for event in events]
    assert kinds == [TranscriptDelta, *[TranscriptDelta, AudioDelta] * 2, AudioDelta, End]
    assert all(len(event.waveform) == 2560 for event in events if isinstance(event, AudioDelta))


async def test_stop_limit_and_seed():
    assert written(await answer(user("a b c"), stop=("b", "c"))) == 'You said "a '
    limited = await answer(user("a b c"), max_tokens=2)
    assert (written(limited), limited[-1].reason) == ("You said", "length")  # pyright: ignore
    assert written(await answer(user("hi"), seed=7, temperature=1.0)).endswith("Seed 7.")


async def test_pictures_and_calls():
    for partial_images in range(3):
        pictures = (await answer(user("draw a square"), partial_images=partial_images))[:-1]
        finals = [event.final for event in pictures if isinstance(event, ImageDelta)]
        assert finals == [False] * partial_images + [True]
    assert isinstance((await answer(user("a square"), modality="image"))[0], ImageDelta)
    assert FakeEngine().info.limits == {"image_tokens": 64, "frame_tokens": 16, "audio_tokens_per_s": 12.5}
    *deltas, call, end = await answer(user('call add {"a": 1}'))
    assert deltas == [ToolCallDelta(name="add", arguments=piece) for piece in ("", '{"a":', " 1}")]
    assert call == ToolCallEvent(name="add", arguments='{"a": 1}')
    assert isinstance(end, End)
    assert end.reason == "tool_calls"


async def test_a_call_that_is_required():
    parameters = {
        "type": "object",
        "properties": {"town": {"type": "string"}, "unit": {"enum": ["C", "F"]}, "days": {"type": "integer"}},
        "required": ["town", "unit"],
    }
    offer = Message(role="system", parts=(tool_list([{"name": "weather", "parameters": parameters}, {"name": "add"}]),))
    clip = Audio(waveform=np.zeros(8000, np.float32), sample_rate_hz=16_000)
    *_, call, _ = await answer([offer, *user(clip)], tool_choice="required")
    assert call == ToolCallEvent(name="weather", arguments='{"town": "word", "unit": "C"}')
    told = [offer, *user(clip), Message(role="tool", parts=(Text(text="warm"),), tool_call_id="call_1")]
    assert written(await answer(told, tool_choice="required")) == 'You said "warm".'
    assert written(await answer([offer, *user("hi")])) == 'You said "hi".'
    assert written(await answer(user("hi"), tool_choice="required")) == 'You said "hi".'


async def test_too_long_prompts_and_errors_on_demand():
    with pytest.raises(ContextLengthExceeded):
        await answer(user("one two three"), FakeEngine(max_tokens=2))
    with pytest.raises(RuntimeError, match="boom"):
        await answer(user("hi"), FakeEngine(error=RuntimeError("boom"), error_after=1))


async def test_closing_cancels():
    engine = FakeEngine(delay_ms=1)
    checked: Engine = engine  # the protocol holds
    async with aclosing(engine.generate(user("hi"), SamplingParams())) as events:
        await anext(events)
        assert engine.num_active == 1
    assert (engine.num_active, engine.num_cancelled, engine.num_finished) == (0, 1, 0)
    await answer(user("hi"), engine)
    await checked.close()
    assert (engine.num_cancelled, engine.num_finished) == (1, 1)
    assert [request.messages[0].text for request in engine.requests] == ["hi", "hi"]
    task = asyncio.create_task(answer(user("hi"), FakeEngine(delay_ms=10_000)))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
