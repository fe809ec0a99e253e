"""The engine: messages in, events out, one network behind it.

messages -> count -> encode media -> prompt pieces      on a thread for media
pieces -> prefill, hear -> write -> events              on the scheduler's thread, a step at a time
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch

from sensorium.engine.events import EventWriter
from sensorium.engine.grammar import Alphabet, Grammar
from sensorium.engine.media_encoder import MediaEncoder
from sensorium.engine.request import (
    ContextLengthExceeded,
    End,
    EngineInfo,
    Event,
    FinishReason,
    SamplingParams,
    Usage,
)
from sensorium.engine.runner import Runner
from sensorium.engine.sampling import Sampler
from sensorium.engine.scheduler import Scheduler, Steps
from sensorium.engine.sequence import Sequence as LiveSequence
from sensorium.messages import Audio, Image, Message, Text
from sensorium.tokenizers.release import Release
from sensorium.tokenizers.render import EncodedMessage, Piece, encode_message
from sensorium.tokenizers.stream import Stream
from sensorium.tokenizers.vocab import VOICES

SPARE_TRANSCRIPT_TOKENS = 8  # a clip's transcript may have as many tokens as the clip has frames, and these
HEARING = SamplingParams()  # what was said is not a matter of taste: greedy


class Prompt(NamedTuple):
    pieces: list[Piece]
    plain: Stream  # the same conversation with the user's words left out, for guidance


class OmniEngine:
    """Implements `Engine`. Several answers may be under way at once; the weights are shared, all other state is not."""

    def __init__(self, release: Release) -> None:
        config = release.config
        self.info = EngineInfo(
            model=config.name,
            max_tokens=config.model.max_seq_len,
            sample_rate_hz=config.audio.sample_rate_hz,
            voices=VOICES,
            created=config.created,
        )
        self._release = release
        self._runner = Runner(release.model)
        self._media = MediaEncoder(release.audio_tokenizer, release.image_tokenizer)
        self._alphabet = Alphabet(
            vocabulary=config.vocabulary,
            num_text_tokens=release.text.num_tokens,
            num_patches=config.image.num_patches,
            first_tokens=config.render.first_tokens,
        )
        self._scheduler = Scheduler()
        self._media_thread = ThreadPoolExecutor(1, thread_name_prefix="sensorium-media")

    @classmethod
    def load(cls, folder: Path | str, *, threads: int = 1) -> Self:
        """A release, ready to answer at full speed. `threads` serve prompts and media; decoding uses one.

        Raises FileNotFoundError if there is no release, ValueError if its parts do not fit each other.
        """
        torch.set_num_threads(threads)
        engine = cls(Release.load(folder))
        engine.warm_up()
        return engine

    async def generate(self, messages: Sequence[Message], params: SamplingParams) -> AsyncGenerator[Event, None]:
        """Raises ContextLengthExceeded before any work, ValueError for what no stream can carry."""
        loop = asyncio.get_running_loop()
        prompt = await loop.run_in_executor(self._media_thread, self._prompt, tuple(messages))
        job = self._scheduler.submit(self._answer(prompt, params))
        try:
            while (event := await job.next()) is not None:
                yield event
        finally:
            job.cancel()

    async def close(self) -> None:
        await asyncio.to_thread(self._scheduler.close)
        self._media_thread.shutdown(cancel_futures=True)

    def warm_up(self) -> None:
        """Hears, sees, writes and speaks a little, so that the first request finds everything allocated."""
        size, rate_hz = self._release.config.image.image_size, self.info.sample_rate_hz
        clip = Audio(waveform=np.zeros(rate_hz, np.float32), sample_rate_hz=rate_hz)
        picture = Image(pixels=np.zeros((size, size, 3), np.uint8))
        message = Message(role="user", parts=(Text(text="hi"), clip, picture))
        for modality in ("text", "audio"):
            for _ in self._answer(self._prompt((message,)), SamplingParams(modality=modality, max_tokens=16)):
                pass

    def _prompt(self, messages: tuple[Message, ...]) -> Prompt:
        """Counts before it encodes: an over-long prompt costs nothing."""
        renderer, media = self._release.renderer, self._media
        blank = [encode_message(message, audio=media.blank_audio, image=media.blank_image) for message in messages]
        pieces = renderer.prompt(blank, ())
        num_tokens = sum(len(piece.stream) + piece.listens for piece in pieces)
        if num_tokens >= self.info.max_tokens:
            raise ContextLengthExceeded(num_tokens, self.info.max_tokens)
        encoded = [encode_message(message, audio=media.audio, image=media.image) for message in messages]
        [plain] = renderer.prompt([_without_words(message) for message in encoded], ())
        return Prompt(renderer.prompt(encoded, ()), plain.stream)

    def _answer(self, prompt: Prompt, params: SamplingParams) -> Steps:
        """One step of the network for each `next`."""
        sequence = LiveSequence(self._runner)
        writer = EventWriter(self._release, stop=params.stop)
        yield from self._read(sequence, prompt.pieces, writer)
        spent = _input_usage(sequence.stream, self._release)
        plain = None
        if params.guidance_scale != 1.0:
            plain = LiveSequence(self._runner)
            plain.append(prompt.plain)
        grammar = Grammar.answer(
            self._alphabet, modality=params.modality, voice=params.voice, tool_choice=params.tool_choice
        )
        for symbol in sequence.generate(grammar, Sampler(params), plain=plain):
            yield from writer.push(symbol)
            if writer.stopped or writer.num_output == params.max_tokens:
                break
            yield None
        yield from writer.finish()
        reason: FinishReason = "stop" if grammar.done or writer.stopped else "length"
        if grammar.done and writer.num_calls:
            reason = "tool_calls"
        yield End(
            reason=reason,
            usage=Usage(
                input_text=spent.input_text,
                input_audio=spent.input_audio,
                input_image=spent.input_image,
                output_text=writer.num_text,
                output_audio=writer.num_frames,
                output_image=writer.num_patches,
            ),
        )

    def _read(self, sequence: LiveSequence, pieces: list[Piece], writer: EventWriter) -> Steps:
        """Takes the prompt in, and writes what is heard in it."""
        for index, piece in enumerate(pieces):
            sequence.append(piece.stream)
            while sequence.num_pending:
                sequence.advance()
                yield None
            if not piece.listens:
                continue
            writer.hear()
            to_come = sum(len(later.stream) + later.listens for later in pieces[index + 1 :])
            room = sequence.num_free - to_come - 2  # the closing symbol, and one of the answer
            length = min(room, len(piece.stream.heard) + SPARE_TRANSCRIPT_TOKENS)
            grammar = Grammar.transcript(self._alphabet, max_tokens=length)
            for symbol in sequence.generate(grammar, Sampler(HEARING)):
                yield from writer.push(symbol)
                yield None


def _without_words(message: EncodedMessage) -> EncodedMessage:
    return EncodedMessage(role=message.role, parts=()) if message.role == "user" else message


def _input_usage(stream: Stream, release: Release) -> Usage:
    """A prompt's positions by modality; symbols that frame media, and what was heard, count as text."""
    audio = sum(release.vocabulary.is_audio(symbol) for symbol in stream.ids)
    image = sum(release.vocabulary.is_image(symbol) for symbol in stream.ids)
    return Usage(input_text=len(stream) - audio - image, input_audio=audio, input_image=image)
