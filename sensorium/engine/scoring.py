"""How likely the network finds a text that is given: the log probability of each of its tokens, by those before it.

The text is read as what a user says. Log probabilities are among all text tokens, as those of what the network writes
are: see `sensorium/engine/sampling.py`.
"""

from __future__ import annotations

from collections.abc import Sequence as Texts

import numpy as np

from sensorium.engine.network import Network
from sensorium.engine.request import TokenLogprob
from sensorium.engine.sampling import scores_of
from sensorium.engine.scheduler import Steps
from sensorium.engine.sequence import Pending, Sequence
from sensorium.tokenizers import vocab
from sensorium.tokenizers.vocab import NUM_SPECIALS

TOKENS_AT_ONCE = 64


def score(network: Network, texts: Texts[Texts[int]], num_top: int, found: list[list[TokenLogprob]]) -> Steps:
    """Puts the tokens of each text, given in text tokens, with their scores into `found`, step by step. Its beginning
    is kept for whoever answers the text."""
    start = network.release.vocabulary.text_start
    sequences = tuple(Sequence(network.runner, keeps_states=True) for _ in texts)
    for sequence, tokens in zip(sequences, texts, strict=True):
        sequence.append_ids(vocab.BOS, vocab.USER, *(start + token for token in tokens))
    yield Pending(sequences)
    spelled = network.release.text.token_bytes
    symbols = NUM_SPECIALS + np.arange(network.release.text.num_tokens)
    for sequence, tokens in zip(sequences, texts, strict=True):
        assert sequence.states is not None
        before = sequence.states[1:]  # of <|user|>, which the first token follows, and so on
        scored: list[TokenLogprob] = []
        for first in range(0, len(tokens), TOKENS_AT_ONCE):
            few = tokens[first : first + TOKENS_AT_ONCE]
            logits = network.runner.logits(np.stack(before[first : first + len(few)]))
            for token, row in zip(few, logits, strict=True):
                logprob, top = scores_of(row, symbols, start + token, num_top)
                likely = tuple(TokenLogprob(spelled(symbol - start), each) for symbol, each in top)
                scored.append(TokenLogprob(spelled(token), logprob, likely))
            yield None
        found.append(scored)
