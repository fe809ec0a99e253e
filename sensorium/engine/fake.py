"""An engine without a network: it says what it was given. For tests of everything around the engine, ours and yours.

    "draw ..."              answers with a picture
    "call NAME {...}"       answers with a tool call
    anything else           answers in words, written or spoken: what it read, heard and saw

It keeps the contract of the real engine: transcript ahead of sound, stop texts, token limits, usage, cancelling.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from sensorium.engine.request import (
    AudioDelta,
    ContextLengthExceeded,
    End,
    EngineInfo,
    Event,
    FinishReason,
    ImageDelta,
    SamplingParams,
    TextDelta,
    ToolCallEvent,
    TranscriptDelta,
    Usage,
)
from sensorium.messages import Audio, Image, Message, Text, ToolCall
from sensorium.tokenizers.vocab import VOICES

SAMPLE_RATE_HZ = 16_000
FRAME_MS = 80
IMAGE_TOKENS = 64
LEAD_WORDS = 1  # a spoken word's sound comes after the text of the next word
FRAMES_PER_WORD = 2


class FakeRequest(NamedTuple):
    messages: tuple[Message, ...]
    params: SamplingParams


class FakeEngine:
    """Deterministic answers. `delay_ms` passes before every event; `error` is raised after `error_after` events.

    What it was asked of late is in `requests`; `num_active`, `num_finished` and `num_cancelled` count its answers.
    """

    def __init__(
        self,
        *,
        delay_ms: float = 0.0,
        max_tokens: int = 4096,
        error: Exception | None = None,
        error_after: int = 0,
    ) -> None:
        self.info = EngineInfo(
            model="sensorium-fake", max_tokens=max_tokens, sample_rate_hz=SAMPLE_RATE_HZ, voices=VOICES
        )
        self.delay_ms = delay_ms
        self.error = error
        self.error_after = error_after
        self.requests: deque[FakeRequest] = deque(maxlen=64)
        self.num_active = 0
        self.num_finished = 0
        self.num_cancelled = 0

    async def generate(self, messages: Sequence[Message], params: SamplingParams) -> AsyncGenerator[Event, None]:
        self.requests.append(FakeRequest(tuple(messages), params))
        self.num_active += 1
        finished = False
        try:
            for num_events, event in enumerate(self._answer(messages, params)):
                if self.error is not None and num_events == self.error_after:
                    raise self.error
                await asyncio.sleep(self.delay_ms / 1000)
                finished = isinstance(event, End)
                yield event
        finally:
            self.num_active -= 1
            self.num_finished += finished
            self.num_cancelled += not finished

    async def close(self) -> None:
        """Nothing is held: there is nothing to let go."""

    def _answer(self, messages: Sequence[Message], params: SamplingParams) -> Iterable[Event]:
        prompt = _count_input(messages)
        if prompt.input_tokens > self.info.max_tokens:
            raise ContextLengthExceeded(prompt.input_tokens, self.info.max_tokens)
        asked = messages[-1].text
        if asked.startswith("draw"):
            yield ImageDelta(pixels=_picture(growth=0.5), final=False)
            yield ImageDelta(pixels=_picture(growth=1.0), final=True)
            yield End(reason="stop", usage=_spent(prompt, image=IMAGE_TOKENS))
            return
        if call := re.match(r"call (\w+) ?(.*)", asked):
            yield ToolCallEvent(name=call[1], arguments=call[2] or "{}")
            yield End(reason="tool_calls", usage=_spent(prompt, text=2))
            return
        words, reason = _shorten(_describe(messages, params), params)
        if params.modality == "text":
            yield from (TextDelta(text=word) for word in words)
            yield End(reason=reason, usage=_spent(prompt, text=len(words)))
            return
        for index, word in enumerate(words):
            yield TranscriptDelta(text=word)
            if index >= LEAD_WORDS:
                yield _hum(index - LEAD_WORDS)
        for index in range(max(0, len(words) - LEAD_WORDS), len(words)):
            yield _hum(index)
        yield End(reason=reason, usage=_spent(prompt, text=len(words), audio=len(words) * FRAMES_PER_WORD))


def _describe(messages: Sequence[Message], params: SamplingParams) -> str:
    """What the last message holds, in words; a warm answer ends with its seed, so that two choices differ."""
    parts = messages[-1].parts
    clips = [f"a clip of {part.duration_ms:.0f} ms" for part in parts if isinstance(part, Audio)]
    pictures = [f"a picture of {_size(part)}" for part in parts if isinstance(part, Image)]
    text = messages[-1].text
    seen = " and ".join(clips + pictures)
    said = f'You said "{text}".' if text else ""
    warmth = f"Seed {params.seed}." if params.temperature > 0 else ""
    return " ".join(filter(None, [said, f"I got {seen}." if seen else "", warmth])) or "You said nothing."


def _size(image: Image) -> str:
    return f"{image.pixels.shape[1]} x {image.pixels.shape[0]}"


def _shorten(text: str, params: SamplingParams) -> tuple[list[str], FinishReason]:
    """The words of the answer, each with the space before it, as far as the stop texts and the limit let it go."""
    reason: FinishReason = "stop"
    cuts = [text.find(stop) for stop in params.stop if stop in text]
    words = re.findall(r"\s*\S+|\s+$", text[: min(cuts)] if cuts else text)
    if params.max_tokens is not None and len(words) > params.max_tokens:
        words, reason = words[: params.max_tokens], "length"
    return words, reason


def _hum(word: int) -> AudioDelta:
    """160 ms of a tone, a different one for each word."""
    times_s = np.arange(FRAMES_PER_WORD * FRAME_MS * SAMPLE_RATE_HZ // 1000) / SAMPLE_RATE_HZ
    waveform = 0.3 * np.sin(2 * np.pi * (220.0 + 20 * (word % 12)) * times_s)
    return AudioDelta(waveform=waveform.astype(np.float32), sample_rate_hz=SAMPLE_RATE_HZ)


def _picture(growth: float) -> np.ndarray:
    """A red square on white, drawn from the top down to `growth` of its height."""
    pixels = np.full((64, 64, 3), 255, np.uint8)
    pixels[16 : 16 + int(32 * growth), 16:48] = (255, 0, 0)
    return pixels


def _count_input(messages: Sequence[Message]) -> Usage:
    parts = [part for message in messages for part in message.parts]
    return Usage(
        input_text=sum(len(part.text.split()) for part in parts if isinstance(part, Text))
        + sum(len(part.arguments.split()) + 1 for part in parts if isinstance(part, ToolCall)),
        input_audio=sum(int(-(-part.duration_ms // FRAME_MS)) for part in parts if isinstance(part, Audio)),
        input_image=sum(IMAGE_TOKENS for part in parts if isinstance(part, Image)),
    )


def _spent(prompt: Usage, *, text: int = 0, audio: int = 0, image: int = 0) -> Usage:
    return Usage(
        input_text=prompt.input_text,
        input_audio=prompt.input_audio,
        input_image=prompt.input_image,
        output_text=text,
        output_audio=audio,
        output_image=image,
    )
