"""The engine: messages in, events out, one network behind it.

messages -> count -> encode media -> prompt pieces      on a thread for media; a little text, at once
pieces -> read -> write -> events                       on the scheduler's thread, a step at a time
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import torch

from sensorium.engine.answer import LEAST_ANSWER, num_positions, read, write
from sensorium.engine.choices import merged
from sensorium.engine.duplex import Listener, LiveConversation
from sensorium.engine.embedding import NUM_FRAMING, embed
from sensorium.engine.grammar import NOTE_TOKENS, Grammar
from sensorium.engine.media_encoder import MediaEncoder
from sensorium.engine.network import Network
from sensorium.engine.pages import PAGE_POSITIONS
from sensorium.engine.request import (
    ContextLengthExceeded,
    Embedding,
    EngineInfo,
    Event,
    SamplingParams,
    TextTooLong,
    TokenLogprob,
)
from sensorium.engine.scheduler import Priority, Scheduler, Steps, alone
from sensorium.engine.scoring import score
from sensorium.engine.sequence import Sequence as LiveSequence
from sensorium.engine.transcription import transcribe
from sensorium.messages import Audio, Image, Message, Text, Video, seen_less_closely
from sensorium.tokenizers.encoded import encode_message
from sensorium.tokenizers.release import Release, taught_tasks
from sensorium.tokenizers.render import FRAME_STRIDE, Piece
from sensorium.tokenizers.vocab import VOICES

NUM_AROUND_IMAGE = 2  # <|image|> and <|/image|>; around one that is seen there is <|caption|> too
NUM_AROUND_NOTE = 2  # <|caption|> and <|/image|>
T = TypeVar("T")

_QUICK_CHARS = 2000  # of text that is read without another thread: it takes less than a millisecond


class OmniEngine:
    """Implements `LiveEngine`. Many answers may be under way at once: they share the weights, and no other state."""

    def __init__(
        self,
        release: Release,
        *,
        cached_positions: int | None = None,
        threads: int = 1,
        skills: frozenset[str] | None = None,
    ) -> None:
        """`cached_positions` and `threads`: see `Runner`; `skills`: see `EngineInfo`."""
        config = release.config
        self._network = Network.of(release, cached_positions=cached_positions, threads=threads)
        release = self._network.release
        runner, parts = self._network.runner, (release.model, release.audio_tokenizer, release.image_tokenizer)
        note_tokens = NUM_AROUND_NOTE + NOTE_TOKENS if release.renderer.are_frames_noted else 0
        self.info = EngineInfo(
            model=config.name,
            max_tokens=config.model.max_seq_len,
            sample_rate_hz=config.audio.sample_rate_hz,
            voices=VOICES,
            num_text_tokens=release.text.num_tokens,
            embedding_size=config.model.hidden_size,
            created=config.created,
            skills=skills,
            knows_speakers=release.speakers is not None,
            limits={
                "image_tokens": config.image.num_patches,
                "frame_tokens": config.image.num_patches // FRAME_STRIDE**2 + note_tokens,
                "audio_tokens_per_s": config.audio.frame_rate_hz,
                "framing_tokens": NUM_AROUND_IMAGE + 1,
                "answer_tokens": LEAST_ANSWER,
            },
            cached_positions=runner.pool.num_pages * PAGE_POSITIONS,
            memory_bytes={
                "weights": runner.num_bytes + sum(each.nbytes for part in parts for each in part.state_dict().values()),
                "cache at most": runner.pool.num_bytes,
            },
        )
        self._release = release
        self._media = MediaEncoder(release.audio_tokenizer, release.image_tokenizer)
        self._scheduler = Scheduler()
        self._media_thread = ThreadPoolExecutor(1, thread_name_prefix="sensorium-media")

    @classmethod
    def load(cls, folder: Path | str, *, cached_positions: int | None = None, threads: int = 1) -> Self:
        """A release, ready to answer at full speed. `cached_positions` of all streams are kept computed. So many
        `threads` share the work when many are answered at once; a lone answer is quickest on one.

        Raises FileNotFoundError if there is no release, ValueError if its parts do not fit each other or the positions
        are too few.
        """
        torch.set_num_threads(1)  # of the tokenizers: their steps are small
        release = Release.load(folder)
        engine = cls(release, cached_positions=cached_positions, threads=threads, skills=taught_tasks(Path(folder)))
        engine.warm_up()
        return engine

    async def generate(self, messages: Sequence[Message], params: SamplingParams) -> AsyncGenerator[Event, None]:
        """Raises ContextLengthExceeded before any work, ValueError for what no stream or answer can hold."""
        pieces, [grammar] = await self._understood(tuple(messages), (params,))
        answer = self._scheduler.run(self._answer(pieces, grammar, params), priority=_priority(params))
        async with aclosing(answer) as events:
            async for event in events:
                yield event

    async def choices(
        self, messages: Sequence[Message], params: Sequence[SamplingParams]
    ) -> AsyncGenerator[tuple[int, Event], None]:
        """Raises what `generate` does."""
        pieces, grammars = await self._understood(tuple(messages), params)
        trunk = LiveSequence(self._network.runner)
        reading = read(self._network, trunk, pieces, reserved=self._reserved(pieces, params))
        async with aclosing(self._scheduler.run(reading, priority=min(map(_priority, params)))) as heard:
            async for event in heard:
                yield 0, event
        answers = [
            self._scheduler.run(self._branch(trunk, grammar, each), priority=_priority(each))
            for grammar, each in zip(grammars, params, strict=True)
        ]
        async with aclosing(merged(answers)) as events:
            async for index, event in events:
                yield index, event

    async def count(self, messages: Sequence[Message]) -> int:
        return num_positions(await self._on_media_thread(self._blank_pieces, tuple(messages)))

    def text_of(self, tokens: Sequence[int]) -> str:
        return self._release.text.decode(tokens)

    async def embed(self, texts: Sequence[str | Sequence[int]]) -> list[Embedding]:
        tokens = await self._on_media_thread(self._text_tokens, texts)
        found: list[Embedding] = []
        await self._go_through(embed(self._network, tokens, found))
        return found

    async def score(self, texts: Sequence[str | Sequence[int]], *, num_top: int) -> list[list[TokenLogprob]]:
        tokens = await self._on_media_thread(self._text_tokens, texts)
        found: list[list[TokenLogprob]] = []
        await self._go_through(score(self._network, tokens, num_top, found))
        return found

    async def transcribe(self, waveform: np.ndarray, params: SamplingParams) -> AsyncGenerator[Event, None]:
        async with aclosing(self._scheduler.run(transcribe(self._network, waveform, params))) as events:
            async for event in events:
                yield event

    def converse(self) -> LiveConversation:
        return LiveConversation(self._network, self._scheduler, encode=self._encode)

    async def close(self) -> None:
        await asyncio.to_thread(self._scheduler.close)
        self._network.runner.close()
        self._media_thread.shutdown(cancel_futures=True)

    def warm_up(self) -> None:
        """Hears, sees, writes and speaks a little, so that the first request finds everything allocated."""
        size, rate_hz = self._release.config.image.image_size, self.info.sample_rate_hz
        clip = Audio(waveform=np.zeros(rate_hz, np.float32), sample_rate_hz=rate_hz)
        picture = Image(pixels=np.zeros((size, size, 3), np.uint8))
        message = Message(role="user", parts=(Text(text="hi"), clip, picture))
        for modality in ("text", "audio"):
            params = SamplingParams(modality=modality, max_tokens=16)
            for _ in alone(self._answer(self._pieces((message,)), self._network.answer_grammar(params), params)):
                pass
        listener = Listener(self._network, LiveSequence(self._network.runner))
        for _ in (*alone(listener.push(clip.waveform)), *alone(listener.finish())):
            pass

    async def _encode(self, messages: Sequence[Message], num_before: int) -> list[Piece]:
        """As in `_understood`, a little text does not wait: one call's long clip is nothing to another's words."""
        if _is_quick(messages):
            return self._pieces(tuple(messages), num_before=num_before)
        return await self._on_media_thread(partial(self._pieces, tuple(messages), num_before=num_before))

    async def _go_through(self, steps: Steps) -> None:
        """Work that has no events."""
        async with aclosing(self._scheduler.run(steps)) as events:
            async for _ in events:
                pass

    async def _on_media_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._media_thread, work, *arguments)

    async def _understood(
        self, messages: tuple[Message, ...], params: Sequence[SamplingParams]
    ) -> tuple[list[Piece], list[Grammar]]:
        """A little text is read at once, in a tenth of a millisecond. All else goes to the thread that encodes media:
        there a request waits for those before it, and both ways for the interpreter's lock, which the engine wants too.
        """
        if _is_quick(messages) and not any(map(_is_demanding, params)):
            return self._understand(messages, params)
        return await self._on_media_thread(self._understand, messages, params)

    def _understand(
        self, messages: tuple[Message, ...], params: Sequence[SamplingParams]
    ) -> tuple[list[Piece], list[Grammar]]:
        """A prompt, and what may be answered to it, as often as it is answered."""
        pieces = self._pieces(messages, params)
        canvases = {id(each.canvas): each.canvas for each in params if each.canvas is not None}
        given = {key: self._media.given_patches(canvas) for key, canvas in canvases.items()}
        return pieces, [self._network.answer_grammar(each, given.get(id(each.canvas))) for each in params]

    def _reserved(self, pieces: Sequence[Piece], params: Sequence[SamplingParams]) -> int:
        """Positions that a prompt may not take: those of a picture if the answer must be one; else those of a few words
        if anything is to be heard or seen. A text may be as long as the context."""
        if any(each.modality == "image" for each in params):
            return self._release.config.image.num_patches + NUM_AROUND_IMAGE
        return LEAST_ANSWER if any(piece.until is not None for piece in pieces) else 0

    def _pieces(
        self, messages: tuple[Message, ...], params: Sequence[SamplingParams] | None = None, *, num_before: int = 0
    ) -> list[Piece]:
        """Counts before it encodes: an over-long prompt costs nothing. `num_before` positions are taken already; none
        are kept free for an answer without `params`. Pictures are seen less closely where they may and must be."""
        blank = self._blank_pieces(messages)
        reserved = self._reserved(blank, params) if params is not None else 0
        while (num_tokens := num_before + num_positions(blank)) + reserved >= self.info.max_tokens:
            shorter = seen_less_closely(messages)
            if shorter is None:
                raise ContextLengthExceeded(num_tokens, self.info.max_tokens, reserved)
            messages, blank = shorter, self._blank_pieces(shorter)
        if not any(_has_media(message) for message in messages):
            return blank
        media = self._media
        encoded = [
            encode_message(message, audio=media.audio, image=media.image, film=media.film) for message in messages
        ]
        return self._release.renderer.prompt(encoded, ())

    def _text_tokens(self, texts: Sequence[str | Sequence[int]]) -> list[Sequence[int]]:
        tokens = [self._release.text.encode(text) if isinstance(text, str) else text for text in texts]
        for index, text in enumerate(tokens):
            if len(text) + NUM_FRAMING > self.info.max_tokens:
                raise TextTooLong(index, len(text) + NUM_FRAMING, self.info.max_tokens)
        return tokens

    def _blank_pieces(self, messages: tuple[Message, ...]) -> list[Piece]:
        """A prompt of the right length in which nothing is to be heard or seen."""
        media = self._media
        blank = [
            encode_message(message, audio=media.blank_audio, image=media.blank_image, film=media.blank_film)
            for message in messages
        ]
        return self._release.renderer.prompt(blank, ())

    def _branch(self, trunk: LiveSequence, grammar: Grammar, params: SamplingParams) -> Steps:
        """One of several answers to a prompt that was read. The trunk is forked where all of it is handled, on the
        scheduler's thread."""
        yield from write(self._network, trunk.fork(), grammar, params)

    def _answer(self, pieces: list[Piece], grammar: Grammar, params: SamplingParams) -> Steps:
        sequence = LiveSequence(self._network.runner)
        yield from read(self._network, sequence, pieces, reserved=self._reserved(pieces, (params,)))
        yield from write(self._network, sequence, grammar, params)


def _is_quick(messages: Sequence[Message]) -> bool:
    are_texts = all(isinstance(part, Text) for message in messages for part in message.parts)
    return are_texts and sum(len(message.text) for message in messages) <= _QUICK_CHARS


def _is_demanding(params: SamplingParams) -> bool:
    """Whether it takes more than a moment to say what may be answered."""
    return bool(params.document or params.functions or params.script or params.canvas)


def _priority(params: SamplingParams) -> Priority:
    return Priority.FLEX if params.flex else Priority.CHAT


def _has_media(message: Message) -> bool:
    return any(isinstance(part, Audio | Image | Video) for part in message.parts)
