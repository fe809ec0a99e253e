"""A live stream of symbols with its cache. A chat reply is a short-lived one, a conversation a long-lived one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Self

import numpy as np

from sensorium.engine.grammar import Grammar, State
from sensorium.engine.runner import Runner
from sensorium.engine.sampling import Sampler, Scores, opening
from sensorium.model.cache import KVCache
from sensorium.tokenizers.stream import Stream

PREFILL_POSITIONS = 64  # computed at once; between two such stretches other answers have their turn
FEW_POSITIONS = 3  # up to so many positions go faster one by one, if they hold nothing seen


class Symbol(NamedTuple):
    """One symbol that the network wrote, and what the grammar was doing there."""

    id: int
    state: State
    residuals: np.ndarray | None  # (R,) of an audio frame, or of a patch if patches have any
    patch: int | None  # of a picture
    scores: Scores | None = None  # of a text symbol, if they were asked for

    def stream(self) -> Stream:
        """One position: the symbol with its content."""
        stream = Stream()
        stream.add(self.id)
        if self.patch is not None:
            stream.patches.append((0, self.patch))
        if self.residuals is not None:
            content = stream.frames if self.patch is None else stream.patch_residuals
            content.append((0, self.residuals))
        return stream


class Sequence:
    """`append` only notes what is to come; `advance` computes. So a fork or a truncation costs next to nothing."""

    def __init__(self, runner: Runner, *, stream: Stream | None = None, cache: KVCache | None = None) -> None:
        self.runner = runner
        self.stream = stream or Stream()
        self._cache = cache or runner.new_cache()
        self._hidden: np.ndarray | None = None  # (C,) of the last computed position

    def __len__(self) -> int:
        return len(self.stream)

    @property
    def num_free(self) -> int:
        """Positions left in the context."""
        return self._cache.max_seq_len - len(self.stream)

    @property
    def num_pending(self) -> int:
        """Positions appended, but not computed yet."""
        return len(self.stream) - self._cache.length

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
        self.append(symbol.stream())

    def advance(self) -> None:
        """Computes the next pending positions, at most PREFILL_POSITIONS."""
        start = self._cache.length
        piece = self.stream.part(start, min(start + PREFILL_POSITIONS, len(self.stream)))
        if len(piece) > FEW_POSITIONS or piece.seen:
            self._hidden = self.runner.prefill(piece, self._cache)
            return
        residuals, patches, heard = dict(piece.frames + piece.patch_residuals), dict(piece.patches), dict(piece.heard)
        for at, symbol in enumerate(piece.ids):
            self._hidden = self.runner.step(
                symbol, self._cache, residuals=residuals.get(at), patch=patches.get(at), heard=heard.get(at)
            )

    def hidden(self) -> np.ndarray:
        """The (C,) hidden state of the last position, computed now if it is not yet."""
        assert len(self.stream), "an empty stream predicts nothing"
        while self.num_pending:
            self.advance()
        if self._hidden is None:  # forgotten by a truncation
            self._cache.truncate(len(self.stream) - 1)
            self.advance()
        assert self._hidden is not None
        return self._hidden

    def logits(self) -> np.ndarray:
        """(V,) of the symbol that follows."""
        return self.runner.logits(self.hidden())

    def generate(self, grammar: Grammar, sampler: Sampler, *, plain: Sequence | None = None) -> Iterator[Symbol]:
        """Writes symbols until the grammar is done or the context is full, one step of the network for each.

        A symbol is handed out before the network reads it, so that sound leaves at once. `plain` is the same stream
        without its condition; where it is given, pictures are guided away from it.
        """
        while not grammar.done and self.num_free:
            hiddens = [self.hidden()]
            patch = grammar.patch
            if plain is not None and patch is not None:
                hiddens.append(plain.hidden())
            logits = sampler.guided(*(self.runner.logits(hidden) for hidden in hiddens))
            if grammar.state is State.OPEN:
                choice = opening(logits, grammar.words, grammar.forms)
            else:
                choice = sampler.symbol(logits, grammar.legal())
            draw = sampler.frame_code if patch is None else sampler.patch_code
            symbol = Symbol(choice, grammar.state, self.runner.residuals(hiddens, choice, draw), patch, sampler.scores)
            grammar.push(choice)
            self.append_symbol(symbol)
            if plain is not None:
                plain.append_symbol(symbol)
            yield symbol

    def truncate(self, position: int) -> None:
        """Forgets everything from `position` on."""
        assert 0 <= position <= len(self.stream)
        if position == len(self.stream):
            return
        self.stream = self.stream.part(0, position)
        self._cache.truncate(min(position, self._cache.length))
        self._hidden = None

    def fork(self) -> Self:
        """A twin that goes its own way: the shared prefix is not computed again."""
        twin = type(self)(self.runner, stream=self.stream.part(0, len(self.stream)), cache=self._cache.fork())
        twin._hidden = self._hidden
        return twin
