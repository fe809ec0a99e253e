"""Several drawings of one picture, made together, of which the network keeps the one that it finds best.

Each is drawn on a fork of the answer, by dice of its own, and all share the network's steps: one more costs less than
one alone. Then the network looks at each as if a user had shown it, and two things decide:

- how likely it finds the words that say what the picture should show, as what it writes down of what it sees;
- how nearly the picture tokenizer draws the same again from what it sees: of a shape that is none it makes another.

How likely a drawing was, with its words or because of them, tells nothing of whether it is right (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from math import log

import numpy as np
import torch

from sensorium.engine.events import codes_of, picture_of, shown_after
from sensorium.engine.grammar import MAX_CAPTION_TOKENS, Grammar
from sensorium.engine.network import Network
from sensorium.engine.pages import PAGE_POSITIONS
from sensorium.engine.request import ImageDelta, SamplingParams
from sensorium.engine.sampling import Sampler, probability
from sensorium.engine.sequence import Pending, Symbol, together
from sensorium.engine.sequence import Sequence as LiveSequence
from sensorium.tokenizers import vocab
from sensorium.tokenizers.encoded import EncodedImage, EncodedMessage
from sensorium.tokenizers.image import ImagePatches

NATS_PER_LEVEL = 1.0  # what a level (of 256) of mean difference between a drawing and itself drawn again weighs
_LEAST = 1e-30  # a probability that has vanished


@dataclass(kw_only=True, eq=False)
class _Try:
    """One drawing, as far as it is."""

    sequence: LiveSequence
    plain: LiveSequence | None
    grammar: Grammar
    sampler: Sampler
    symbols: list[Symbol] = field(default_factory=list)

    def next(self) -> Generator[Pending, None, Symbol]:
        return self.sequence.next(self.grammar, self.sampler, plain=self.plain)


class Drawings:
    """Draws `params.drawings` times where an answer wants a picture. `num_patches` and `num_text` count what that took
    besides the drawing that is kept: patches drawn and looked at, and words that were weighed."""

    def __init__(self, network: Network, params: SamplingParams) -> None:
        self.num_patches = 0
        self.num_text = 0
        self._network = network
        self._params = params
        release = network.release
        self._words: list[int] = []
        if params.caption is not None:
            self.look_for([release.vocabulary.text_start + token for token in release.text.encode(params.caption)])

    def look_for(self, words: Sequence[int]) -> None:
        """These symbols say what should be seen, if the network writes down what it sees and nothing was said yet."""
        if self._network.release.config.render.captions:
            self._words = self._words or list(words[:MAX_CAPTION_TOKENS])

    def have_room(self, sequence: LiveSequence, num_output: int) -> bool:
        """Whether there are several, and each would be whole behind so many tokens of the answer."""
        most = self._params.max_tokens
        room = sequence.num_free if most is None else min(sequence.num_free, most - num_output)
        return self._params.drawings > 1 and room >= self._network.alphabet.num_patches

    def best(
        self, sequence: LiveSequence, plain: LiveSequence | None, grammar: Grammar
    ) -> Generator[ImageDelta | Pending | None, None, list[Symbol]]:
        """The symbols of a whole picture, behind which `sequence` and `plain` then stand; the grammar is not told.

        The first drawing, that of a single one with the same seed, is shown while it grows.
        """
        trunks = (sequence,) if plain is None else (sequence, plain)
        if any(trunk.num_pending for trunk in trunks):
            yield Pending(trunks)  # before it is shared
        tries: list[_Try] = []
        while (first := len(tries)) < self._params.drawings:
            stop = min(first + self._num_at_once(trunks), self._params.drawings)
            tries += [self._fork(sequence, plain, grammar, number) for number in range(first, stop)]
            yield from self._drawn(tries[first:], is_shown=first == 0)
        merits = yield from self._merits(tries)
        kept = tries[int(np.argmax(merits))]
        sequence.follow(kept.sequence)
        if plain is not None and kept.plain is not None:
            plain.follow(kept.plain)
        self.num_patches -= len(kept.symbols)
        return kept.symbols

    def _num_at_once(self, trunks: Sequence[LiveSequence]) -> int:
        """As many as memory can hold together, whoever else has to give way."""
        num_patches = self._network.alphabet.num_patches
        each = len(trunks) * (2 + -(-num_patches // PAGE_POSITIONS))
        shared = sum(1 + len(trunk) // PAGE_POSITIONS for trunk in trunks)
        return max(1, (self._network.runner.pool.num_pages - shared) // each)

    def _fork(self, sequence: LiveSequence, plain: LiveSequence | None, grammar: Grammar, number: int) -> _Try:
        seed = np.random.SeedSequence((self._params.seed, number)).generate_state(1, np.uint64)[0]
        params = replace(self._params, seed=int(seed)) if number else self._params
        return _Try(
            sequence=sequence.fork(),
            plain=plain.fork() if plain is not None else None,
            grammar=grammar.twin(),
            sampler=Sampler(params),
        )

    def _drawn(self, tries: list[_Try], *, is_shown: bool) -> Generator[ImageDelta | Pending, None, None]:
        release, image = self._network.release, self._network.release.config.image
        shown = shown_after(image.grid, self._params.partial_images) if is_shown else set[int]()
        for number in range(1, image.num_patches + 1):
            symbols = yield from together([each.next() for each in tries])
            for each, symbol in zip(tries, symbols, strict=True):
                each.symbols.append(symbol)
            self.num_patches += len(tries)
            if number in shown and number < image.num_patches:
                yield picture_of(release, list(self._codes(tries[0])))

    def _codes(self, drawing: _Try) -> np.ndarray:
        """(P, 1 + R)"""
        start = self._network.release.vocabulary.image_start
        return np.stack([codes_of(symbol, start) for symbol in drawing.symbols])

    def _merits(self, tries: list[_Try]) -> Generator[Pending | None, None, list[float]]:
        tokenizer = self._network.release.image_tokenizer
        merits: list[float] = []
        looks: list[Generator[Pending, None, float]] = []
        for each in tries:
            pixels = tokenizer.decode(torch.from_numpy(self._codes(each)).unsqueeze(0))
            seen = tokenizer.encode(pixels)
            again = tokenizer.decode(seen.codes)
            merits.append(-NATS_PER_LEVEL * float((again.float() - pixels.float()).abs().mean()))
            if self._words:
                looks.append(self._likeness(seen))
            yield None  # that took some milliseconds: others have their turn
        likenesses = yield from together(looks)
        return [merit + likeness for merit, likeness in zip(merits, likenesses or [0.0] * len(merits), strict=True)]

    def _likeness(self, seen: ImagePatches) -> Generator[Pending, None, float]:
        """The log probability of the words, where the network begins to write down what it sees."""
        network = self._network
        shown = EncodedImage(codes=seen.codes[0].numpy(), features=seen.features[0].numpy())
        piece, *_ = network.release.renderer.prompt([EncodedMessage(role="user", parts=(shown,))], ())
        sequence = LiveSequence(network.runner, leaves_pages=False)  # nobody will look at the same again
        sequence.append(piece.stream)
        grammar = Grammar.transcript(network.alphabet, max_tokens=len(self._words), until=vocab.END_IMAGE)
        (span,) = grammar.legal()
        found = 0.0
        for word in self._words:
            yield Pending((sequence,))
            found += log(max(_LEAST, probability(sequence.logits(), span, word)))
            sequence.append_ids(word)
        self.num_patches += len(shown.codes)
        self.num_text += len(self._words)
        return found
