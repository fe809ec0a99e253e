"""Conversation by voice: what the user says is heard while it is said, and answered from the same live stream.

    <|user|> <|audio|> <|listen|> A A A T A A T ..    `push`: an 80 ms frame, then what the network wants to write
    .. <|turn|> T.. <|/audio|>                        `finish`: what of the transcript is still missing
    <|end|> <|assistant|> ..                          `answer`: nothing before it is computed again

`Listener` does the work in small steps on the scheduler's thread, `LiveConversation` is its door for coroutines. All
they know is in the stream, except what the codec's encoder keeps of the sound: so any place can be returned to.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import replace
from math import ceil
from typing import NamedTuple

import numpy as np
import torch

from sensorium.engine.answer import HEARING, read, write
from sensorium.engine.events import TranscriptWriter
from sensorium.engine.grammar import Grammar, State, closing
from sensorium.engine.network import Network
from sensorium.engine.request import ContextLengthExceeded, Event, Mark, SamplingParams
from sensorium.engine.sampling import Sampler, probability
from sensorium.engine.scheduler import Priority, Scheduler, Steps
from sensorium.engine.sequence import Pending
from sensorium.engine.sequence import Sequence as LiveSequence
from sensorium.messages import Message
from sensorium.tokenizers import vocab
from sensorium.tokenizers.audio import AudioEncoderStream, AudioFrames
from sensorium.tokenizers.release import ReleaseConfig
from sensorium.tokenizers.render import FRAME_MS, Piece, first_frame
from sensorium.tokenizers.stream import Stream

OPENING = (vocab.USER, vocab.AUDIO, vocab.LISTEN)
END_IN_FRAME_MS = 56.0  # where in its frame a word ends, at the median of 371 words (40 if they ended anywhere)
NUM_CLOSING = 5  # a turn ends with <|turn|> <|/audio|> <|end|> <|assistant|>, and one symbol answers it


class Heard(NamedTuple):
    """What a listener knows besides the stream."""

    encoder: AudioEncoderStream
    turn_probability: float


class Listener:
    """One turn of the user's, heard live at the end of `sequence`.

    `push` and `finish` compute a little at each `next`. Both leave nothing half done if they are given up: what of the
    sound was not taken in is missing, no more.
    """

    def __init__(
        self, network: Network, sequence: LiveSequence, *, clip: int = 0, hearing: SamplingParams = HEARING
    ) -> None:
        """`hearing` is how what is said is chosen from what may have been.

        Raises ContextLengthExceeded if there is no room for the shortest turn and its answer."""
        self.turn_probability = 0.0  # that the user had finished after the last frame
        self._network = network
        self._sequence = sequence
        self._clip = clip
        self._encoder = AudioEncoderStream(network.release.audio_tokenizer)
        self._sampler = Sampler(hearing)
        self._require(len(OPENING) + 1)
        self._sequence.append_ids(*OPENING)
        self._start = len(sequence)
        self._first_heard = len(sequence.stream.heard)
        self._begin()

    @property
    def transcript(self) -> str:
        return self._writer.text

    @property
    def finished(self) -> bool:
        return self._grammar.done

    def push(self, samples: np.ndarray) -> Steps:
        """samples: (N,) float32. Raises ContextLengthExceeded when a frame does not fit; those before it are heard."""
        if self._grammar.state is not State.LISTEN:
            raise RuntimeError("the turn is finished")
        size = self._network.release.config.audio.frame_size
        for start in range(0, len(samples), size):  # at most one frame at a time: others have their turn between two
            piece = torch.from_numpy(np.array(samples[start : start + size], dtype=np.float32))
            yield from self._hear(self._encoder.push(piece))

    def finish(self) -> Steps:
        """The last frame is filled up with silence, unless the context is full."""
        if self._grammar.state is State.LISTEN:
            if self._num_free:
                yield from self._hear(self._encoder.flush())
            if len(self._sequence) == self._start:  # a turn has at least one frame
                yield from self.push(np.zeros(self._network.release.config.audio.frame_size))
            self._sequence.append_ids(vocab.TURN)
            self._grammar.push(vocab.TURN)
        self._grammar.allow(self._num_free + 1)  # <|turn|> is there already
        while not self._grammar.done and self._sequence.num_free:
            symbol = yield from self._sequence.next(self._grammar, self._sampler)
            yield from self._written(symbol.id, None)

    def heard(self) -> Heard:
        """For `rewind`, with the length of the sequence."""
        return Heard(copy.copy(self._encoder), self.turn_probability)  # an encoder replaces its tensors, never writes

    def rewind(self, position: int, heard: Heard) -> None:
        """Hears on from an earlier position of this turn, with what was known there, as if nothing had followed."""
        self._sequence.truncate(position)
        self._encoder = copy.copy(heard.encoder)
        self.turn_probability = heard.turn_probability
        self._begin()

    def fork(self, sequence: LiveSequence) -> Listener:
        """The same turn at the end of a fork of its sequence."""
        twin = copy.copy(self)
        twin._sequence, twin._encoder = sequence, copy.copy(self._encoder)
        if not self.finished:
            twin._begin()
        return twin

    def _begin(self) -> None:
        """Grammar and transcript, read off the stream as far as the turn has come."""
        self._grammar = Grammar.listening(self._network.alphabet)
        self._writer = TranscriptWriter(self._network.release, clip=self._clip)
        for symbol in self._sequence.stream.ids[self._start :]:
            self._grammar.push(symbol)
            if self._network.release.vocabulary.is_text(symbol):
                for _ in self._writer.push(symbol):
                    pass

    @property
    def _num_free(self) -> int:
        """Positions left for frames and text."""
        return self._sequence.num_free - NUM_CLOSING

    def _require(self, count: int) -> None:
        if count > self._num_free:
            length = len(self._sequence)
            raise ContextLengthExceeded(length + count + NUM_CLOSING, length + self._sequence.num_free)

    def _hear(self, frames: AudioFrames) -> Steps:
        for codes, feature in zip(frames.codes[0].numpy(), frames.features[0].numpy(), strict=True):
            self._require(1)
            frame = heard_frame(self._network.release.vocabulary.audio_start, codes, feature)
            self._sequence.append(frame)
            self._grammar.push(frame.ids[0])
            self._grammar.allow(self._num_free)
            yield from self._write()

    def _write(self) -> Steps:
        """Writes text for as long as the network prefers it to <|listen|> and <|turn|>."""
        while True:
            if self._sequence.num_pending:
                yield Pending((self._sequence,))
            [span] = self._grammar.legal()
            logits = self._sequence.logits()
            symbol = self._sampler.symbol(logits, (span,))
            if symbol in (vocab.LISTEN, vocab.TURN):
                self.turn_probability = probability(logits, span, vocab.TURN)
                return
            self._sequence.append_ids(symbol)
            self._grammar.push(symbol)
            yield from self._written(symbol, self._end_ms)

    def _written(self, symbol: int, end_ms: float | None) -> Iterator[Event]:
        """The deltas that a symbol of the transcript completes."""
        for delta in self._writer.push(symbol, self._sampler.scores):
            yield replace(delta, end_ms=end_ms)

    @property
    def _end_ms(self) -> float:
        """Where the word ends that is written behind the newest frame."""
        num_heard = len(self._sequence.stream.heard) - self._first_heard
        late = self._network.release.config.render.delay_frames + 1
        return max(0.0, FRAME_MS * (num_heard - late) + END_IN_FRAME_MS)


def heard_frame(audio_start: int, codes: np.ndarray, feature: np.ndarray) -> Stream:
    """One position: a frame's (1 + R,) codes and its (F,) feature, as the renderer lays them out."""
    stream = Stream()
    stream.add(audio_start + int(codes[0]))
    stream.frames.append((0, codes[1:]))
    stream.heard.append((0, feature))
    return stream


class Turn(NamedTuple):
    """The engine's part of a mark in the middle of a turn."""

    listener: Listener
    heard: Heard


class LiveConversation:
    """Implements `Conversation`. What is named with an underscore runs on the scheduler's thread."""

    def __init__(
        self,
        network: Network,
        scheduler: Scheduler,
        *,
        encode: Callable[[Sequence[Message], int], Awaitable[list[Piece]]],
    ) -> None:
        """`encode` renders messages behind so many positions; raises ContextLengthExceeded if they do not fit."""
        self._network = network
        self._scheduler = scheduler
        self._encode = encode
        self._sequence = LiveSequence(network.runner)
        self._listener: Listener | None = None
        self._num_turns = 0
        self._num_answered = 0  # positions that an answer has read or written
        self._busy = False
        self._is_settled = True  # nothing that was given up is still in the middle of its last step
        self._sequence.append_ids(vocab.BOS)

    @property
    def turn_probability(self) -> float:
        return self._listener.turn_probability if self._listener else 0.0

    @property
    def transcript(self) -> str:
        return self._listener.transcript if self._listener else ""

    @property
    def num_free(self) -> int:
        return self._sequence.num_free

    async def read(self, messages: Sequence[Message], *, in_no_hurry: bool = False) -> list[Event]:
        with self._alone():
            pieces = await self._encode(messages, len(self._sequence))
            return await self._all(self._read(pieces), Priority.AHEAD if in_no_hurry else Priority.CALL)

    async def push(self, samples: np.ndarray) -> list[Event]:
        with self._alone():
            return await self._all(self._push(samples))

    async def finish(self) -> list[Event]:
        with self._alone():
            return await self._all(self._finish())

    async def answer(self, params: SamplingParams) -> AsyncGenerator[Event, None]:
        with self._alone():
            if params.functions:  # a schema that was not met before takes milliseconds of the thread that all share
                grammar = await asyncio.to_thread(self._network.answer_grammar, params)
            else:
                grammar = self._network.answer_grammar(params)
            steps = self._answer(grammar, params)
            async with aclosing(self._run(steps)) as events:
                async for event in events:
                    yield event

    async def interrupt(self, after_ms: float) -> None:
        with self._alone():
            await self._all(self._interrupt(after_ms))

    async def mark(self) -> Mark:
        with self._alone():
            if not self._is_settled:  # else to wait for a step would keep an answer waiting
                await self._all(_nothing())
            listener = self._listener
            turn = Turn(listener, listener.heard()) if listener and not listener.finished else None
            return Mark(position=len(self._sequence), heard=turn)

    async def fork(self) -> LiveConversation:
        twin = LiveConversation(self._network, self._scheduler, encode=self._encode)
        with self._alone():
            await self._all(self._fork(twin))
        return twin

    async def truncate(self, mark: Mark) -> None:
        with self._alone():
            await self._all(self._truncate(mark))

    def _read(self, pieces: list[Piece]) -> Steps:
        self._end_message()
        pieces[0] = pieces[0]._replace(stream=pieces[0].stream.part(1, len(pieces[0].stream)))  # not another <|bos|>
        pieces[-1] = pieces[-1]._replace(stream=pieces[-1].stream.part(0, len(pieces[-1].stream) - 1))  # no answer yet
        yield from read(self._network, self._sequence, pieces)

    def _push(self, samples: np.ndarray) -> Steps:
        if self._listener is None or self._listener.finished:
            self._end_message()
            self._listener = Listener(self._network, self._sequence, clip=self._num_turns)
            self._num_turns += 1
        yield from self._listener.push(samples)

    def _finish(self) -> Steps:
        if self._listener is None or self._listener.finished:
            raise RuntimeError("no turn is under way")
        yield from self._listener.finish()

    def _answer(self, grammar: Grammar, params: SamplingParams) -> Steps:
        self._end_message(vocab.ASSISTANT)
        try:
            yield from write(self._network, self._sequence, grammar, params, cached=self._num_answered)
        finally:
            self._num_answered = len(self._sequence)

    def _interrupt(self, after_ms: float) -> Steps:
        ids, config = self._sequence.stream.ids, self._network.release.config
        start = max((at for at, symbol in enumerate(ids) if symbol in vocab.ROLE_IDS.values()), default=0)
        if ids[start] != vocab.ASSISTANT:
            raise RuntimeError("there is no answer to interrupt")
        num_heard = ceil(after_ms * config.audio.frame_rate_hz / 1000.0)
        if num_heard <= 0 and vocab.SPEAK in ids[start:]:
            self._forget(start)  # of an answer without any sound heard, not even <|assistant|> remains
            return
        num_frames = sum(map(config.vocabulary.is_audio, ids[start:]))
        if ids[-1] == vocab.END and after_ms * config.audio.frame_rate_hz >= 1000.0 * num_frames:
            return  # it was over, and all of it was heard
        kept = _heard_of(ids, start, num_heard, config)
        whole = self._sequence.stream
        first = next((at for at, one in enumerate(kept, start) if at != one), start + len(kept))
        self._forget(first)
        for at in kept[first - start :]:
            self._sequence.append(whole.part(at, at + 1))
        yield None

    def _fork(self, twin: LiveConversation) -> Steps:
        twin._sequence = self._sequence.fork()
        twin._listener = self._listener.fork(twin._sequence) if self._listener else None
        twin._num_turns, twin._num_answered = self._num_turns, self._num_answered
        yield None

    def _truncate(self, mark: Mark) -> Steps:
        if mark.position > len(self._sequence):
            raise ValueError(f"position {mark.position} was forgotten: the conversation ends at {len(self._sequence)}")
        self._forget(mark.position)
        self._listener = None
        if isinstance(mark.heard, Turn):
            self._listener = mark.heard.listener.fork(self._sequence)  # the mark may be that of a twin
            self._listener.rewind(mark.position, mark.heard.heard)
        yield None

    def _forget(self, position: int) -> None:
        self._sequence.truncate(position)
        self._num_answered = min(self._num_answered, position)

    def _end_message(self, *more: int) -> None:
        """Closes what was left open: a turn just heard, an answer cut short. Then come `more` symbols."""
        if self._listener and not self._listener.finished:
            raise RuntimeError("the user's turn is not finished")
        cuts = self._network.release.config.render.cuts
        symbols = (*closing(self._sequence.stream.ids, cuts=cuts), *more)
        length, num_free = len(self._sequence), self._sequence.num_free
        if len(symbols) >= num_free:
            raise ContextLengthExceeded(length + len(symbols) + 1, length + num_free)
        self._sequence.append_ids(*symbols)

    async def _all(self, steps: Steps, priority: Priority = Priority.CALL) -> list[Event]:
        async with aclosing(self._run(steps, priority)) as events:
            return [event async for event in events]

    async def _run(self, steps: Steps, priority: Priority = Priority.CALL) -> AsyncGenerator[Event, None]:
        self._is_settled = False
        async with aclosing(self._scheduler.run(steps, priority=priority)) as events:
            async for event in events:
                yield event
        self._is_settled = True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if self._busy:
            raise RuntimeError("a conversation does one thing at a time")
        self._busy = True
        try:
            yield
        finally:
            self._busy = False


def _nothing() -> Steps:
    yield None


def _heard_of(ids: Sequence[int], start: int, num_heard: int, config: ReleaseConfig) -> list[int]:
    """The positions of the answer at `start` of which so many frames were heard: up to the last of them, without the
    words that are said later. Text runs ahead of its sound: what was not heard would be known all the same."""
    table = config.vocabulary
    kept: list[int] = []
    is_spoken, is_whole = False, True
    num_tokens = num_frames = frames_before = 0  # of this part; of all; of the parts before it
    last_frame = 0  # of this part, if it is closed: by then all its words have begun
    for at in range(start, len(ids)):
        symbol = ids[at]
        if table.is_audio(symbol):
            if num_frames == num_heard:
                break
            num_frames += 1
        elif symbol == vocab.SPEAK:
            is_spoken, num_tokens, frames_before = True, 0, num_frames
            end = next((end for end in range(at, len(ids)) if ids[end] == vocab.END_SPEAK), None)
            last_frame = len(ids) if end is None else num_frames + sum(map(table.is_audio, ids[at:end])) - 1
            is_whole = not config.render.cuts or last_frame < num_heard  # what was cut has no end of its words
        elif symbol == vocab.END_SPEAK:
            is_spoken = False
        elif is_spoken and table.is_text(symbol):
            begins = frames_before + first_frame(num_tokens, num_frames - frames_before, config.render)
            num_tokens += 1
            if min(begins, last_frame) >= num_heard:
                is_whole = False
                continue
        elif symbol == vocab.TEXT_END and not is_whole:
            continue
        kept.append(at)
    return kept
