"""The steps of an answer: what is said and shown is taken in and written down, then an answer is written.

Each step is little work, so that many answers share one thread; see `sensorium/engine/scheduler.py`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import replace

from sensorium.engine.drawing import Drawings
from sensorium.engine.events import EventWriter, TranscriptWriter
from sensorium.engine.grammar import (
    MAX_CAPTION_TOKENS,
    MAX_NOTE_TOKENS,
    MAX_STORY_TOKENS,
    NOTE_TOKENS,
    SPARE_TRANSCRIPT_TOKENS,
    Grammar,
)
from sensorium.engine.monologue import Monologue, might_write
from sensorium.engine.network import Network
from sensorium.engine.request import End, FinishReason, SamplingParams, Usage
from sensorium.engine.sampling import Sampler, opening
from sensorium.engine.scheduler import Steps
from sensorium.engine.sequence import Pending, Sequence
from sensorium.tokenizers import vocab
from sensorium.tokenizers.release import Release
from sensorium.tokenizers.render import Piece
from sensorium.tokenizers.stream import Stream

LEAST_ANSWER = 34  # positions that media leave for an answer: 32 of its words, and what opens and closes it
HEARING = SamplingParams(top_logprobs=0)  # what was said or shown is not a matter of taste: greedy


def read(network: Network, sequence: Sequence, pieces: list[Piece], *, reserved: int = LEAST_ANSWER) -> Steps:
    """Takes a prompt in, and writes what is heard and seen in it, so briefly that `reserved` positions are left."""
    clip = 0
    wanted = _wanted(pieces)
    for index, piece in enumerate(pieces):
        sequence.append(piece.stream)
        if piece.until is None:
            continue
        # but the closing symbol, and one of the answer
        room = sequence.num_free - num_positions(pieces[index + 1 :]) - 2 - reserved
        is_clip = sequence.stream.ids[-1] == vocab.TURN
        kept = NOTE_TOKENS if piece.is_note else 0
        length = kept + share(room - kept, wanted)
        wanted.pop(0)
        grammar = Grammar.transcript(network.alphabet, max_tokens=length, until=piece.until)
        writer = TranscriptWriter(network.release, clip=clip)
        sampler = Sampler(HEARING)
        while not grammar.done and sequence.num_free:
            symbol = yield from sequence.next(grammar, sampler)
            if is_clip:
                yield from writer.push(symbol.id, symbol.scores)
        clip += is_clip
    if sequence.num_pending:
        yield Pending((sequence,))


def _wanted(pieces: list[Piece]) -> list[int]:
    """How many tokens may be written down of each medium, of a film's frame besides those that are kept for it."""
    wanted: list[int] = []
    heard = 0  # frames, of a film in as many pieces as it has notes
    for piece in pieces:
        heard += len(piece.stream.heard)
        if piece.is_note:
            wanted.append(MAX_NOTE_TOKENS - NOTE_TOKENS)
        elif piece.until is not None:
            is_clip = bool(piece.stream.ids) and piece.stream.ids[-1] == vocab.TURN
            seen = MAX_STORY_TOKENS if piece.until == vocab.END_VIDEO else MAX_CAPTION_TOKENS
            wanted.append(heard + SPARE_TRANSCRIPT_TOKENS if is_clip else seen)
            heard = 0
    return wanted


def share(room: int, wanted: list[int]) -> int:
    """What the first of several gets of a room that may be too small for all: none gets more than another that wants as
    much."""
    for number, least in enumerate(sorted(wanted)):
        even = room // (len(wanted) - number)
        if least > even:
            return max(0, min(wanted[0], even))
        room -= least
    return wanted[0]


def num_positions(pieces: Iterable[Piece]) -> int:
    """The least that a prompt takes: its streams, what closes the words that the network writes behind them, and the
    notes of a film's frames, which are many."""
    notes = sum(NOTE_TOKENS for piece in pieces if piece.is_note)
    return notes + sum(len(piece.stream) + (piece.until is not None) for piece in pieces)


def write(
    network: Network, sequence: Sequence, grammar: Grammar, params: SamplingParams, *, cached: int | None = None
) -> Steps:
    """Answers a stream that ends with <|assistant|>. So many of its positions, `cached`, earlier answers have read; by
    default those that were taken over from other streams."""
    plain = None
    if params.guidance_scale != 1.0:
        plain = Sequence(network.runner)
        plain.append(_without_words(sequence.stream))
    spent = _input_usage(sequence.stream, network.release)
    grammar.limit(_room(sequence, params))
    partial_images = params.partial_images if params.drawings == 1 else 0  # of several drawings the first is shown
    writer = EventWriter(network.release, stop=params.stop, partial_images=partial_images)
    drawings = Drawings(network, params)
    sampler = Sampler(params)

    def used() -> Usage:
        num_cached = sequence.num_reused if cached is None else cached
        known = _input_usage(sequence.stream.part(0, num_cached), network.release)
        return replace(
            spent,
            output_text=writer.num_text + drawings.num_text,
            output_audio=writer.num_frames,
            output_image=writer.num_patches + drawings.num_patches,
            cached=num_cached,
            cached_audio=known.input_audio,
            cached_image=known.input_image,
        )

    if params.tally is not None:
        params.tally.count = used
    monologue: Monologue | None = None
    if grammar.words is None and network.release.config.render.changes_told:
        drawings.look_for((yield from _aim(network, sequence, params)))
    while not grammar.done and sequence.num_free:
        if grammar.is_open:
            monologue = yield from _opened(network, sequence, grammar, params)
        elif monologue is not None and monologue.script.end is None:
            yield Pending((sequence, monologue.sequence))
            monologue.write()
        if grammar.patch == 0 and drawings.have_room(sequence, writer.num_output):
            symbols = yield from drawings.best(sequence, plain, grammar)
            for symbol in symbols:
                grammar.push(symbol.id)
        else:
            symbols = [(yield from sequence.next(grammar, sampler, plain=plain))]
        for symbol in symbols:
            yield from writer.push(symbol)
        if writer.stopped or writer.num_output == params.max_tokens:
            break
    yield from writer.finish()
    reason: FinishReason = "stop" if grammar.done or writer.stopped else "length"
    if grammar.done and writer.num_calls:
        reason = "tool_calls"
    yield End(reason=reason, usage=used())


def _opened(
    network: Network, sequence: Sequence, grammar: Grammar, params: SamplingParams
) -> Generator[Pending, None, Monologue | None]:
    """The monologue that the answer follows, if it has one."""
    if sequence.num_pending:
        yield Pending((sequence,))
    logits = sequence.logits()
    if opening(logits, grammar.words, grammar.forms) == vocab.SPEAK and might_write(logits, vocab.SPEAK):
        monologue = Monologue(sequence, network.alphabet, params)
        grammar.follow(monologue.script)
        return monologue
    return None


def _aim(network: Network, sequence: Sequence, params: SamplingParams) -> Generator[Pending, None, list[int]]:
    """What a changed picture will show, which is written into the stream before it is drawn. No words for another
    picture, nor where they leave no room for it."""
    if sequence.num_pending:
        yield Pending((sequence,))
    if not might_write(sequence.logits(), vocab.IMAGE):
        return []
    plan = Monologue(sequence, network.alphabet, replace(params, temperature=0.0))  # as sure as what is seen
    symbols = plan.script.symbols
    while plan.script.end is None and len(symbols) < MAX_CAPTION_TOKENS:
        yield Pending((plan.sequence,))
        plan.write()
    if len(symbols) + network.alphabet.num_patches + 4 > sequence.num_free:
        return []
    sequence.append_ids(vocab.WRITE, *symbols)
    return symbols


def _room(sequence: Sequence, params: SamplingParams) -> int:
    """Positions that the answer may take; the symbols that open and close its parts are not among `max_tokens`."""
    return sequence.num_free if params.max_tokens is None else min(sequence.num_free, params.max_tokens + 2)


def _without_words(stream: Stream) -> Stream:
    """The same conversation with nothing in the user's messages: what a drawing is guided away from."""
    plain, start, is_user = Stream(), 0, False
    for at, symbol in enumerate(stream.ids):
        if symbol == vocab.USER:
            plain.extend(stream.part(start, at + 1))
            is_user = True
        elif symbol == vocab.END and is_user:
            start, is_user = at, False
    plain.extend(stream.part(start, len(stream)))
    return plain


def _input_usage(stream: Stream, release: Release) -> Usage:
    """A prompt's positions by modality; what frames media, and what the network wrote down of them, count as text."""
    audio = sum(release.vocabulary.is_audio(symbol) for symbol in stream.ids)
    image = len(stream.patches)  # those of a film have no symbols of their own
    return Usage(input_text=len(stream) - audio - image, input_audio=audio, input_image=image)
