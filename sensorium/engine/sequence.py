"""A live stream of symbols with its cache. A chat reply is a short-lived one, a conversation a long-lived one."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from hashlib import blake2b
from typing import NamedTuple, Self, TypeVar

import numpy as np

from sensorium.engine.grammar import Grammar, State
from sensorium.engine.pages import PAGE_POSITIONS, PagedCache
from sensorium.engine.runner import Piece, Runner
from sensorium.engine.sampling import Sampler, Scores, opening
from sensorium.tokenizers.stream import Stream

Result = TypeVar("Result")


class Symbol(NamedTuple):
    """One symbol that the network wrote, and what the grammar was doing there."""

    id: int
    state: State
    residuals: np.ndarray | None  # (R,) of an audio frame, or of a patch if patches have any
    patch: int | None  # of a picture
    scores: Scores | None = None  # of a text symbol, if they were asked for

    def onto(self, stream: Stream) -> None:
        """One more position: the symbol with its content."""
        at = stream.add(self.id)
        if self.patch is not None:
            stream.patches.append((at, self.patch))
        if self.residuals is not None:
            content = stream.frames if self.patch is None else stream.patch_residuals
            content.append((at, self.residuals))


class Pending(NamedTuple):
    """What work yields that cannot go on before all of these streams is computed. So many works share one step."""

    sequences: tuple[Sequence, ...]


class Sequence:
    """`append` only notes what is to come; `compute` computes, for many at once. So a fork or a truncation costs next
    to nothing, and what a stream's cache held may be taken away: it is computed again, to the same figures."""

    def __init__(
        self,
        runner: Runner,
        *,
        stream: Stream | None = None,
        cache: PagedCache | None = None,
        leaves_pages: bool = True,
        keeps_states: bool = False,
    ) -> None:
        """Without `leaves_pages` nothing of it is kept for streams that begin alike, nor taken up from them. With
        `keeps_states` all positions are computed here, whatever others have left."""
        self.runner = runner
        self.states: list[np.ndarray] | None = [] if keeps_states else None  # (C,) of each computed position
        self._leaves_pages = leaves_pages
        self.stream = stream or Stream()
        self.cache = cache or runner.new_cache()
        self.num_reused = 0  # positions that some other stream had computed
        self._furthest = 0  # position that was ever computed
        self._names: list[bytes] = []  # of the full pages
        self._hidden: np.ndarray | None = None  # (C,) of the last position, once it is computed
        self._logits: np.ndarray | None = None  # (V,) of what follows it

    def __len__(self) -> int:
        return len(self.stream)

    @property
    def num_free(self) -> int:
        """Positions left in the context."""
        return self.runner.config.max_seq_len - len(self.stream)

    @property
    def num_pending(self) -> int:
        """Positions that are not computed. While there are any, nothing is known of what follows."""
        return len(self.stream) - self.cache.length

    def append(self, piece: Stream) -> None:
        """Raises ValueError if the context cannot hold it."""
        if len(piece) > self.num_free:
            raise ValueError(f"{len(piece)} more positions were asked for, the context has room for {self.num_free}")
        self.stream.extend(piece)

    def append_ids(self, *symbols: int) -> None:
        """Symbols without content: text and specials."""
        piece = Stream()
        piece.add_all(symbols)
        self.append(piece)

    def append_symbol(self, symbol: Symbol) -> None:
        """The context must not be full."""
        assert self.num_free
        symbol.onto(self.stream)

    def piece(self, limit: int) -> Piece:
        """The next pending positions, at most `limit`, with room reserved. Raises OutOfPages."""
        self._reuse()
        length = min(limit, self.num_pending)
        self.cache.reserve(length)
        return Piece(self.stream, length, self.cache)

    def hidden(self) -> np.ndarray:
        """The (C,) hidden state of the last position, computed now if it is not yet."""
        self.settle()
        assert self._hidden is not None
        return self._hidden

    def logits(self) -> np.ndarray:
        """(V,) of the symbol that follows, computed now if they are not yet."""
        self.settle()
        assert self._logits is not None
        return self._logits

    def settle(self) -> None:
        """Computes what is pending, alone. Work on the scheduler yields `Pending` instead."""
        assert len(self.stream), "an empty stream predicts nothing"
        while self.num_pending:
            compute([(self, self.piece(self.num_pending))])

    def next(
        self, grammar: Grammar, sampler: Sampler, *, plain: Sequence | None = None
    ) -> Generator[Pending, None, Symbol]:
        """Writes a symbol. The grammar must not be done, nor the context full.

        It is handed out before the network reads it, so that sound leaves at once. `plain` is the same stream without
        its condition, what is written before a picture among it; where it is given, pictures are guided away from it. A
        patch that is given waits for nothing.
        """
        patch = grammar.patch
        if (given := grammar.given) is not None:
            symbol = Symbol(grammar.vocabulary.image_start + int(given[0]), grammar.state, _residuals(given), patch)
            self._follow_up(symbol, grammar, plain)
            return symbol
        sources = (self,) if plain is None or patch is None else (self, plain)
        if any(source.num_pending for source in sources):
            yield Pending(sources)
        logits = sampler.guided(*(source.logits() for source in sources))
        if grammar.state is State.OPEN:
            choice = opening(logits, grammar.words, grammar.forms)
        else:
            choice = sampler.symbol(logits, grammar.legal())
        draws = sampler.frame if patch is None else sampler.drawn_patch
        residuals = self.runner.residuals([source.hidden() for source in sources], choice, draws)
        symbol = Symbol(choice, grammar.state, residuals, patch, sampler.scores)
        self._follow_up(symbol, grammar, plain)
        return symbol

    def _follow_up(self, symbol: Symbol, grammar: Grammar, plain: Sequence | None) -> None:
        """All that keep track of what was written are told; `plain` of pictures only."""
        grammar.push(symbol.id)
        self.append_symbol(symbol)
        if plain is not None and State.DRAW in (symbol.state, grammar.state):
            plain.append_symbol(symbol)

    def generate(self, grammar: Grammar, sampler: Sampler, *, plain: Sequence | None = None) -> Iterator[Symbol]:
        """Writes symbols, computed alone, until the grammar is done or the context is full."""
        while not grammar.done and self.num_free:
            yield alone(self.next(grammar, sampler, plain=plain))

    def truncate(self, position: int) -> None:
        """Forgets everything from `position` on."""
        assert 0 <= position <= len(self.stream)
        if position == len(self.stream):
            return
        self.stream = self.stream.part(0, position)
        self.cache.truncate(min(max(position - 1, 0), self.cache.length))  # the last one's hidden state is not kept
        del self._names[position // PAGE_POSITIONS :]

    def fork(self, *, leaves_pages: bool | None = None) -> Self:
        """A twin that goes its own way: the shared prefix is not computed again. `leaves_pages`: by default as here."""
        twin = type(self)(self.runner, stream=self.stream.part(0, len(self.stream)), cache=self.cache.fork())
        twin._leaves_pages = self._leaves_pages if leaves_pages is None else leaves_pages
        twin._names = self._names.copy()
        twin._hidden, twin._logits, twin._furthest = self._hidden, self._logits, self._furthest
        return twin

    def follow(self, twin: Self) -> None:
        """Goes on from where a fork has got to, which is not to be used any more."""
        self.stream, self.cache, self._names = twin.stream, twin.cache, twin._names
        self._hidden, self._logits, self._furthest = twin._hidden, twin._logits, twin._furthest

    def computed(self, start: int, states: np.ndarray) -> None:
        """The positions from `start` to where the cache ends are; (length, C) are their hidden states."""
        self._furthest = max(self._furthest, self.cache.length)
        self._hidden = states[-1].copy()  # alone: the others need not stay
        if self.states is not None:
            self.states[start:] = states
        if not self._leaves_pages:
            return
        for number in range(start // PAGE_POSITIONS, self.cache.length // PAGE_POSITIONS):
            self.cache.name(number, self._name(number))

    def predicted(self, logits: np.ndarray) -> None:
        """(V,) of the symbol that follows the last position."""
        self._logits = logits

    def _reuse(self) -> None:
        """Takes up pages that other streams have left. The last position is computed in any case."""
        if self.states is not None:
            return
        while self._leaves_pages and self.cache.length % PAGE_POSITIONS == 0 and self.num_pending > PAGE_POSITIONS:
            if not self.cache.adopt(self._name(self.cache.length // PAGE_POSITIONS)):
                return
            if self.cache.length > self._furthest:
                self.num_reused += PAGE_POSITIONS
                self._furthest = self.cache.length

    def _name(self, number: int) -> bytes:
        """A digest of everything in the stream up to the end of that full page."""
        while len(self._names) <= number:
            start = len(self._names) * PAGE_POSITIONS
            before = self._names[-1] if self._names else b""
            self._names.append(_digest(before, self.stream.part(start, start + PAGE_POSITIONS)))
        return self._names[number]


def compute(pieces: Iterable[tuple[Sequence, Piece]]) -> None:
    """One step of the network for pieces of several streams. Those that have nothing pending then know what follows."""
    sequences, parts = zip(*pieces, strict=True)
    runner: Runner = sequences[0].runner
    starts = [part.cache.length for part in parts]
    hidden, predicted = runner.forward(parts)
    end = 0
    for sequence, part, start, logits in zip(sequences, parts, starts, predicted, strict=True):
        sequence.computed(start, hidden[end : end + part.length])
        end += part.length
        if not sequence.num_pending:
            sequence.predicted(logits)


def together(works: Iterable[Generator[Pending, None, Result]]) -> Generator[Pending, None, list[Result]]:
    """The results of several works that share their steps: what all of them wait for is computed at once."""
    under_way = dict(enumerate(works))
    results: dict[int, Result] = {}
    while under_way:
        sequences: list[Sequence] = []
        for number, work in list(under_way.items()):
            try:
                sequences += next(work).sequences
            except StopIteration as end:
                results[number] = end.value
                del under_way[number]
        if sequences:
            yield Pending(tuple(sequences))
    return [results[number] for number in sorted(results)]


def alone(work: Generator[Pending, None, Result]) -> Result:
    """The result of work that shares its steps with no other."""
    while True:
        try:
            pending = next(work)
        except StopIteration as end:
            return end.value
        for sequence in pending.sequences:
            sequence.settle()


def _residuals(codes: np.ndarray) -> np.ndarray | None:
    """Of a patch's (1 + R,) codes, if it has any."""
    return codes[1:] if len(codes) > 1 else None


def _digest(before: bytes, page: Stream) -> bytes:
    digest = blake2b(before, digest_size=16)
    digest.update(np.array(page.ids, np.int64).tobytes())
    for name in ("frames", "patches", "patch_residuals", "heard", "seen"):
        for at, content in getattr(page, name):
            digest.update(f"{name} {at} ".encode())
            digest.update(np.ascontiguousarray(content).tobytes())
    return digest.digest()
