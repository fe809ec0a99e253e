"""What a text means to the network, as one vector: its state at the end of a message that holds nothing else.

Of the places to look, the end of the message at the last norm tells paraphrases best (docs/log.md has the figures).
"""

from __future__ import annotations

from collections.abc import Sequence as Texts

import numpy as np

from sensorium.engine.network import Network
from sensorium.engine.request import Embedding
from sensorium.engine.scheduler import Steps
from sensorium.engine.sequence import Pending, Sequence
from sensorium.tokenizers import vocab

TEXTS_AT_ONCE = 16
NUM_FRAMING = 3  # <|bos|> <|user|> and <|end|>


def embed(network: Network, texts: Texts[Texts[int]], found: list[Embedding]) -> Steps:
    """Puts an embedding of each text, given in text tokens, into `found`, step by step."""
    start = network.release.vocabulary.text_start
    for first in range(0, len(texts), TEXTS_AT_ONCE):
        few = texts[first : first + TEXTS_AT_ONCE]
        sequences = tuple(Sequence(network.runner) for _ in few)
        for sequence, tokens in zip(sequences, few, strict=True):
            sequence.append_ids(vocab.BOS, vocab.USER, *(start + token for token in tokens), vocab.END)
        yield Pending(sequences)
        for sequence, tokens in zip(sequences, few, strict=True):
            hidden = sequence.hidden()
            found.append(Embedding(hidden / np.linalg.norm(hidden), len(tokens) + NUM_FRAMING))
