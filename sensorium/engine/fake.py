"""An engine without a network: it says what it was given. For tests of everything around the engine, ours and yours.

    "draw ..."              answers with a picture
    anything, and a picture is all that may come
                            the same
    "call NAME {...}"       answers with a tool call
    anything, and a tool call is required
                            calls the first tool on offer, once: a result that was just told it answers in words
    anything else           answers in words, written or spoken: what it read, heard and saw
    anything else, and a schema is to be kept to
                            answers with a short document that does

It keeps the contract of the real engine: transcript ahead of sound, stop texts, token limits, usage, cancelling.
In a live conversation it hears a word in every third of a second, and takes silence after sound for the end of a turn.
"""

from __future__ import annotations

import asyncio
import copy
import json
import re
import zlib
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from math import ceil
from typing import Any, NamedTuple

import numpy as np

from sensorium.engine.choices import merged
from sensorium.engine.constraint import shortest_document
from sensorium.engine.request import (
    AudioDelta,
    ContextLengthExceeded,
    Embedding,
    End,
    EngineInfo,
    Event,
    FinishReason,
    ImageDelta,
    InputTranscriptDelta,
    Mark,
    SamplingParams,
    TextDelta,
    TextTooLong,
    TokenLogprob,
    ToolCallDelta,
    ToolCallEvent,
    Transcribed,
    TranscriptDelta,
    Usage,
)
from sensorium.messages import Audio, Image, Message, Part, Text, ToolCall, Video, seen_less_closely, tool_list
from sensorium.tokenizers.vocab import VOICES

SAMPLE_RATE_HZ = 16_000
FRAME_MS = 80
IMAGE_TOKENS = 64
FRAME_TOKENS = 16  # of a film
EMBEDDING_SIZE = 32
VOICE_SIZE = 32
LEAD_WORDS = 1  # a spoken word's sound comes after the text of the next word
FRAMES_PER_WORD = 2
FRAME_SIZE = SAMPLE_RATE_HZ * FRAME_MS // 1000
HEARD_FRAMES_PER_WORD = 4
SILENCE = 0.01  # a frame that stays below it says nothing


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
            model="sensorium-fake",
            max_tokens=max_tokens,
            sample_rate_hz=SAMPLE_RATE_HZ,
            voices=VOICES,
            embedding_size=EMBEDDING_SIZE,
            num_text_tokens=256,
            knows_speakers=True,
            limits={
                "image_tokens": IMAGE_TOKENS,
                "frame_tokens": FRAME_TOKENS,
                "audio_tokens_per_s": 1000 / FRAME_MS,
            },
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
        finished, num_words, num_frames = False, 0, 0
        if params.tally is not None:
            params.tally.count = lambda: _spent(_count_input(messages), text=num_words, audio=num_frames)
        try:
            for num_events, event in enumerate(self._answer(messages, params)):
                if self.error is not None and num_events == self.error_after:
                    raise self.error
                await asyncio.sleep(self.delay_ms / 1000)
                finished = isinstance(event, End)
                num_words += isinstance(event, TextDelta | TranscriptDelta)
                num_frames += FRAMES_PER_WORD * isinstance(event, AudioDelta)
                yield event
        finally:
            self.num_active -= 1
            self.num_finished += finished
            self.num_cancelled += not finished

    async def choices(
        self, messages: Sequence[Message], params: Sequence[SamplingParams]
    ) -> AsyncGenerator[tuple[int, Event], None]:
        async with aclosing(merged([self.generate(messages, each) for each in params])) as events:
            async for index, event in events:
                yield index, event

    async def count(self, messages: Sequence[Message]) -> int:
        return _count_input(messages).input_tokens

    def text_of(self, tokens: Sequence[int]) -> str:
        return bytes(tokens).decode(errors="replace")

    async def embed(self, texts: Sequence[str | Sequence[int]]) -> list[Embedding]:
        """Texts that share words are near each other; a token of its own is a word too."""
        words = [text.split() if isinstance(text, str) else [str(token) for token in text] for text in texts]
        for index, text in enumerate(words):
            if len(text) > self.info.max_tokens:
                raise TextTooLong(index, len(text), self.info.max_tokens)
        return [Embedding(_embedding(text), len(text)) for text in words]

    async def score(self, texts: Sequence[str | Sequence[int]], *, num_top: int) -> list[list[TokenLogprob]]:
        """A word is a token; each is half as likely as the one before it, and every other one the likeliest."""
        scored: list[list[TokenLogprob]] = []
        for text in texts:
            words = _words(text) if isinstance(text, str) else [chr(token) for token in text]
            tokens = [TokenLogprob(word.encode(), -float(number)) for number, word in enumerate(words, 1)]
            likeliest = TokenLogprob(b" the", -0.5)
            scored.append([token._replace(top=(likeliest,) if num_top else ()) for token in tokens])
        return scored

    async def transcribe(self, waveform: np.ndarray, params: SamplingParams) -> AsyncGenerator[Event, None]:
        num_frames = ceil(len(waveform) / FRAME_SIZE)
        words = [_heard_word(number) for number in range(ceil(num_frames / HEARD_FRAMES_PER_WORD))]
        for number, word in enumerate(words):
            await asyncio.sleep(self.delay_ms / 1000)
            end_ms = float(FRAME_MS * min(num_frames, (number + 1) * HEARD_FRAMES_PER_WORD))
            logprobs = (TokenLogprob(word.encode(), 0.0),)
            yield InputTranscriptDelta(clip=0, text=word, end_ms=end_ms, tokens=(number,), logprobs=logprobs)
        yield Transcribed(usage=Usage(input_audio=num_frames, output_text=len(words)), voice=_pitch(waveform))

    def converse(self) -> FakeConversation:
        return FakeConversation(self)

    async def close(self) -> None:
        """Nothing is held: there is nothing to let go."""

    def _answer(self, messages: Sequence[Message], params: SamplingParams) -> Iterable[Event]:
        prompt = _count_input(messages)
        while prompt.input_tokens > self.info.max_tokens:
            shorter = seen_less_closely(messages)
            if shorter is None:
                raise ContextLengthExceeded(prompt.input_tokens, self.info.max_tokens)
            messages, prompt = shorter, _count_input(shorter)
        asked = messages[-1].text
        if asked.startswith("draw") or params.modality == "image":
            for part in range(params.partial_images):
                yield ImageDelta(pixels=_picture(growth=(part + 1) / (params.partial_images + 1)), final=False)
            yield ImageDelta(pixels=_picture(growth=1.0), final=True)
            yield End(reason="stop", usage=_spent(prompt, image=IMAGE_TOKENS * _num_drawn_or_seen(params)))
            return
        if call := _call(messages, params):
            for piece in ("", *_words(call.arguments)):
                yield ToolCallDelta(name=call.name, arguments=piece)
            yield call
            yield End(reason="tool_calls", usage=_spent(prompt, text=2))
            return
        said = params.script or (
            _describe(messages, params) if params.document is None else shortest_document(params.document)
        )
        words, reason = _shorten(said, params)
        if params.modality == "text":
            yield from (TextDelta(text=word, logprobs=_certain(word, params)) for word in words)
            yield End(reason=reason, usage=_spent(prompt, text=len(words)))
            return
        for index, word in enumerate(words):
            yield TranscriptDelta(text=word, start_ms=float(index * FRAMES_PER_WORD * FRAME_MS))
            if index >= LEAD_WORDS:
                yield _hum(index - LEAD_WORDS)
        for index in range(max(0, len(words) - LEAD_WORDS), len(words)):
            yield _hum(index)
        yield End(reason=reason, usage=_spent(prompt, text=len(words), audio=len(words) * FRAMES_PER_WORD))


class FakeConversation:
    """Implements `Conversation`: answers as the engine does, to the messages so far."""

    def __init__(self, engine: FakeEngine) -> None:
        self.messages: list[Message] = []
        self._engine = engine
        self._turn: np.ndarray | None = None  # (N,) what was heard in the turn under way
        self._num_turns = 0
        self._transcript = ""
        self._num_answered = 0  # messages that an answer has read or was

    @property
    def turn_probability(self) -> float:
        turn = np.zeros(0) if self._turn is None else self._turn
        whole = turn[: len(turn) - len(turn) % FRAME_SIZE]
        spoke, is_silent = (
            np.abs(whole).max(initial=0.0) > SILENCE,
            np.abs(whole[-FRAME_SIZE:]).max(initial=0.0) < SILENCE,
        )
        return float(spoke and is_silent)

    @property
    def transcript(self) -> str:
        return self._transcript

    @property
    def num_free(self) -> int:
        heard = 0 if self._turn is None else len(self._turn) // FRAME_SIZE
        return self._engine.info.max_tokens - _count_input(self.messages).input_tokens - heard

    async def read(self, messages: Sequence[Message], *, in_no_hurry: bool = False) -> list[Event]:
        self._refuse_within_a_turn()
        num_tokens = _count_input([*self.messages, *messages]).input_tokens
        if num_tokens > self._engine.info.max_tokens:
            raise ContextLengthExceeded(num_tokens, self._engine.info.max_tokens)
        for message in messages:  # an engine does not read all of it at once
            self.messages.append(message)
            await asyncio.sleep(0)
        return []

    async def push(self, samples: np.ndarray) -> list[Event]:
        if self._turn is None:
            self._turn = np.zeros(0, np.float32)
            self._num_turns += 1
            self._transcript = ""
        if len(samples) // FRAME_SIZE >= self.num_free:
            raise ContextLengthExceeded(self._engine.info.max_tokens + 1, self._engine.info.max_tokens)
        self._turn = np.concatenate((self._turn, samples), dtype=np.float32)
        return self._hear(len(self._turn) // FRAME_SIZE // HEARD_FRAMES_PER_WORD)

    async def finish(self) -> list[Event]:
        if self._turn is None:
            raise RuntimeError("no turn is under way")
        heard = self._hear(ceil(len(self._turn) / FRAME_SIZE / HEARD_FRAMES_PER_WORD))
        clip = Audio(waveform=self._turn, sample_rate_hz=SAMPLE_RATE_HZ, transcript=self._transcript)
        self.messages.append(Message(role="user", parts=(clip,)))
        self._turn = None
        return heard

    async def answer(self, params: SamplingParams) -> AsyncGenerator[Event, None]:
        self._refuse_within_a_turn()
        text, waveforms, calls, is_over = "", [], list[Part](), False
        try:
            asked = self.messages or [Message(role="user", parts=())]
            async with aclosing(self._engine.generate(asked, params)) as events:
                async for event in events:
                    text += event.text if isinstance(event, TextDelta | TranscriptDelta) else ""
                    waveforms += [event.waveform] if isinstance(event, AudioDelta) else []
                    if isinstance(event, ToolCallEvent):
                        calls.append(ToolCall(id=f"call_{len(calls) + 1}", name=event.name, arguments=event.arguments))
                    if isinstance(event, End):
                        is_over = event.reason != "length"
                        event = replace(event, usage=self._with_cached(event.usage))
                    yield event
        finally:
            sound = np.concatenate(waveforms or [np.zeros(0, np.float32)])
            spoken = Audio(
                waveform=sound, sample_rate_hz=SAMPLE_RATE_HZ, transcript=text, voice=params.voice, cut=not is_over
            )
            part: Part = spoken if waveforms else Text(text=text)
            self.messages.append(Message(role="assistant", parts=tuple(calls) or (part,)))
            self._num_answered = len(self.messages)

    async def interrupt(self, after_ms: float) -> None:
        if self._turn is not None or not self.messages or self.messages[-1].role != "assistant":
            raise RuntimeError("there is no answer to interrupt")
        num_frames = ceil(after_ms / FRAME_MS)
        part = self.messages[-1].parts[0]
        if not isinstance(part, Audio) or (not part.cut and num_frames * FRAME_SIZE >= len(part.waveform)):
            return
        self.messages.pop()
        self._num_answered = min(self._num_answered, len(self.messages))
        if num_frames > 0:
            words = re.findall(r"\s*\S+", part.transcript or "")[: ceil(num_frames / FRAMES_PER_WORD)]
            sound = part.waveform[: num_frames * FRAME_SIZE]
            part = replace(part, waveform=sound, transcript="".join(words), cut=True)
            self.messages.append(Message(role="assistant", parts=(part,)))

    async def mark(self) -> Mark:
        return Mark(position=len(self.messages), heard=self._turn)

    async def fork(self) -> FakeConversation:
        twin = copy.copy(self)
        twin.messages = list(self.messages)
        return twin

    async def truncate(self, mark: Mark) -> None:
        if mark.position > len(self.messages):
            raise ValueError(f"message {mark.position} was forgotten: there are {len(self.messages)}")
        del self.messages[mark.position :]
        self._num_answered = min(self._num_answered, mark.position)
        self._turn = mark.heard if isinstance(mark.heard, np.ndarray) else None
        num_words = 0 if self._turn is None else len(self._turn) // FRAME_SIZE // HEARD_FRAMES_PER_WORD
        self._transcript = "".join(_heard_word(number) for number in range(num_words))

    def _hear(self, num_words: int) -> list[Event]:
        known = len(self._transcript.split())
        words = [_heard_word(number) for number in range(known, num_words)]
        self._transcript += "".join(words)
        return [
            InputTranscriptDelta(
                clip=self._num_turns - 1, text=word, tokens=(number,), logprobs=(TokenLogprob(word.encode(), 0.0),)
            )
            for number, word in enumerate(words, start=known)
        ]

    def _with_cached(self, usage: Usage) -> Usage:
        """What earlier answers have read is not computed again."""
        known = _count_input(self.messages[: self._num_answered])
        audio, image = known.input_audio, known.input_image
        return replace(usage, cached=known.input_tokens, cached_audio=audio, cached_image=image)

    def _refuse_within_a_turn(self) -> None:
        if self._turn is not None:
            raise RuntimeError("the user's turn is not finished")


def _certain(word: str, params: SamplingParams) -> tuple[TokenLogprob, ...]:
    """A word is a token, and there never was another."""
    if params.top_logprobs is None:
        return ()
    token = TokenLogprob(word.encode(), 0.0)
    return (token._replace(top=(token,) if params.top_logprobs else ()),)


def _heard_word(number: int) -> str:
    return f"{' ' if number else ''}word{number + 1}"


def _call(messages: Sequence[Message], params: SamplingParams) -> ToolCallEvent | None:
    if named := re.match(r"call (\w+) ?(.*)", messages[-1].text):
        return ToolCallEvent(name=named[1], arguments=named[2] or "{}")
    offers = [message.text.splitlines()[1:] for message in messages if message.text.startswith(tool_list(()).text)]
    if params.tool_choice != "required" or messages[-1].role == "tool" or not any(offers):
        return None
    allowed = {function.name for function in params.functions}
    offered = [json.loads(line) for line in offers[-1]]
    function = next((each for each in offered if not allowed or each["name"] in allowed), offered[0])
    schema = function.get("parameters") or {}
    known = schema.get("properties", {})
    arguments = {name: _an_argument(known.get(name, {})) for name in schema.get("required", ())}
    return ToolCallEvent(name=function["name"], arguments=json.dumps(arguments))


def _an_argument(schema: Mapping[str, Any]) -> Any:
    """A value that a parameter takes, as far as its type says."""
    values = {"string": "word", "integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}}
    return schema["enum"][0] if "enum" in schema else values.get(schema.get("type", ""))


def _describe(messages: Sequence[Message], params: SamplingParams) -> str:
    """What the last message holds, in words; a warm answer ends with its seed, so that two choices differ."""
    parts = messages[-1].parts
    clips = [f"a clip of {part.duration_ms:.0f} ms" for part in parts if isinstance(part, Audio)]
    pictures = [f"a picture of {_size(part)}" for part in parts if isinstance(part, Image)]
    films = [f"a film of {_length(part)}" for part in parts if isinstance(part, Video)]
    text = messages[-1].text
    seen = " and ".join(clips + pictures + films)
    said = f'You said "{text}".' if text else ""
    warmth = f"Seed {params.seed}." if params.temperature > 0 else ""
    return " ".join(filter(None, [said, f"I got {seen}." if seen else "", warmth])) or "You said nothing."


def _size(image: Image) -> str:
    return f"{image.pixels.shape[1]} x {image.pixels.shape[0]}"


def _length(film: Video) -> str:
    size, sound = _size(film.frames[0]), " with sound" if film.sound else ""
    return f"{len(film.frames)} frames of {size} in {film.duration_ms / 1000:.1f} s{sound}"


def _shorten(text: str, params: SamplingParams) -> tuple[list[str], FinishReason]:
    """The words of the answer, each with the space before it, as far as the stop texts and the limit let it go."""
    reason: FinishReason = "stop"
    cuts = [text.find(stop) for stop in params.stop if stop in text]
    words = _words(text[: min(cuts)] if cuts else text)
    if params.max_tokens is not None and len(words) > params.max_tokens:
        words, reason = words[: params.max_tokens], "length"
    return words, reason


def _words(text: str) -> list[str]:
    """Words, each with the space before it: joined, they are the text."""
    return re.findall(r"\s*\S+|\s+$", text)


def _num_drawn_or_seen(params: SamplingParams) -> int:
    """Pictures that an answer with one takes: of several drawings each is looked at, if it is said what to look for."""
    looked = params.drawings > 1 and params.caption is not None
    return params.drawings * (2 if looked else 1)


def _hum(word: int) -> AudioDelta:
    """160 ms of a tone, a different one for each word."""
    times_s = np.arange(FRAMES_PER_WORD * FRAME_MS * SAMPLE_RATE_HZ // 1000) / SAMPLE_RATE_HZ
    waveform = 0.3 * np.sin(2 * np.pi * (220.0 + 20 * (word % 12)) * times_s)
    return AudioDelta(waveform=waveform.astype(np.float32), sample_rate_hz=SAMPLE_RATE_HZ)


def _pitch(waveform: np.ndarray) -> np.ndarray:
    """(VOICE_SIZE,) of length 1: how much there is of each band, so that a speaker is a tone."""
    spectrum = np.abs(np.fft.rfft(waveform))
    bands = np.array([band.sum() for band in np.array_split(spectrum, VOICE_SIZE)])
    return (bands / (np.linalg.norm(bands) + 1e-9)).astype(np.float32)


def _picture(growth: float) -> np.ndarray:
    """A red square on white, drawn from the top down to `growth` of its height."""
    pixels = np.full((64, 64, 3), 255, np.uint8)
    pixels[16 : 16 + int(32 * growth), 16:48] = (255, 0, 0)
    return pixels


def _embedding(words: Sequence[str]) -> np.ndarray:
    seeds = [zlib.crc32(word.encode()) for word in words or [""]]
    vector = np.sum([np.random.default_rng(seed).standard_normal(EMBEDDING_SIZE) for seed in seeds], axis=0)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def _count_input(messages: Sequence[Message]) -> Usage:
    parts = [part for message in messages for part in message.parts]
    films = [part for part in parts if isinstance(part, Video)]
    clips = [part for part in parts if isinstance(part, Audio)] + [film.sound for film in films if film.sound]
    return Usage(
        input_text=sum(len(part.text.split()) for part in parts if isinstance(part, Text))
        + sum(len(part.arguments.split()) + 1 for part in parts if isinstance(part, ToolCall)),
        input_audio=sum(int(-(-clip.duration_ms // FRAME_MS)) for clip in clips),
        input_image=sum(IMAGE_TOKENS * (1 + len(part.quarters)) for part in parts if isinstance(part, Image))
        + sum(FRAME_TOKENS * len(film.frames) for film in films),
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
