"""The inner monologue: what is going to be said or drawn is written first, in a fork of the stream that nobody sees.

A small network answers better in writing than aloud. Where a word is due among frames of sound is uncertain, and what
is uncertain in one place makes the next one worse; written, it is a sentence like any other. So the words come from the
fork, and their time, their sound and their voice from the stream that is heard. The fork is a word ahead and both go
through the network together: the first sound is not later for it. docs/decisions/012 has the figures.

A picture that is asked for without words may have some all the same: what a changed picture will show, greedily.
"""

from __future__ import annotations

import numpy as np

from sensorium.engine.grammar import Alphabet, Grammar, Rules, Script
from sensorium.engine.request import SamplingParams
from sensorium.engine.sampling import Sampler
from sensorium.engine.sequence import Sequence
from sensorium.tokenizers import vocab

LEAST_SHARE = 0.05  # of <|write|> among the two symbols that might open an answer


def might_write(logits: np.ndarray, instead: int) -> bool:
    """Whether a network might as well write what it is about to say or, with <|image|> for <|speak|> as `instead`, to
    draw: (V,) logits of the symbol that opens an answer.

    What it was only ever taught to say, like "say: ..", it has no practice in writing: there this is near zero, and
    elsewhere a third. So it is with what it was only taught to draw; a change it may have been taught to tell first.
    """
    return bool(1.0 / (1.0 + np.exp(logits[instead] - logits[vocab.WRITE])) >= LEAST_SHARE)


class Monologue:
    """Writes the `script` of an answer, a symbol at a time."""

    def __init__(self, stream: Sequence, alphabet: Alphabet, params: SamplingParams) -> None:
        """In a fork of `stream`, which ends with <|assistant|>."""
        self.sequence = stream.fork(leaves_pages=False)
        self.script = Script()
        self._grammar = Grammar.answer(alphabet, modality="text", voice=params.voice, rules=Rules(tool_choice="none"))
        self._sampler = Sampler(params)
        self._push(vocab.WRITE)

    def write(self) -> None:
        """The next symbol, or the end. Nothing of `sequence` may be pending, nor the script be complete."""
        assert self.script.end is None
        symbol = self._sampler.symbol(self.sequence.logits(), self._grammar.legal())
        if self._grammar.vocabulary.is_text(symbol) and self.sequence.num_free:
            self.script.symbols.append(symbol)
            self._push(symbol)
        else:
            self.script.end = symbol if symbol == vocab.IMAGE else vocab.END

    def _push(self, symbol: int) -> None:
        self._grammar.push(symbol)
        self.sequence.append_ids(symbol)
