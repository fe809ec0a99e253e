"""What a text means to the network, as one vector: its state at the end of a message that holds nothing else.

Of the places to look, the end of the message at the last norm tells paraphrases best (docs/log.md has the figures).
"""

from __future__ import annotations

from collections.abc import Sequence as Texts

import numpy as np

from sensorium.engine.answer import Network
from sensorium.engine.request import Embedding
from sensorium.engine.scheduler import Steps
from sensorium.engine.sequence import Sequence
from sensorium.tokenizers import vocab

NUM_FRAMING = 3  # <|bos|> <|user|> and <|end|>


def embed(network: Network, texts: Texts[Texts[int]], found: list[Embedding]) -> Steps:
    """Puts an embedding of each text, given in text tokens, into `found`, step by step."""
    start = network.release.vocabulary.text_start
    sequence = Sequence(network.runner)
    sequence.append_ids(vocab.BOS, vocab.USER)
    for tokens in texts:
        sequence.truncate(2)
        sequence.append_ids(*(start + token for token in tokens), vocab.END)
        while sequence.num_pending:
            sequence.advance()
            yield None
        hidden = sequence.hidden().astype(np.float32)
        found.append(Embedding(hidden / np.linalg.norm(hidden), len(tokens) + NUM_FRAMING))
