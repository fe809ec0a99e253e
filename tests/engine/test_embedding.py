"""What the shipped network's embeddings are worth: a paraphrase lies nearer than another order of the same kind."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from sensorium.data.generators import dialogues
from sensorium.engine.engine import OmniEngine
from sensorium.engine.request import TextTooLong
from tests.serving import ROOT

NANO = ROOT / "sensorium" / "checkpoints" / "nano"


def triples(number: int) -> list[tuple[str, str, str]]:
    """An order, the same in other words, and another order of its kind: held-out sentences, from a fixed seed."""
    rng = np.random.default_rng(7)
    ways: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for index in range(6000):
        skill = dialogues.SKILLS[index % len(dialogues.SKILLS)]
        told = dialogues.exchange(rng, skill, split="heldout")
        if told.tool_call:
            ways[skill, told.tool_call.name, told.tool_call.arguments].add(told.question)
    meanings = sorted(meaning for meaning, texts in ways.items() if len(texts) > 1)
    found: list[tuple[str, str, str]] = []
    while len(found) < number:
        meaning = dialogues.pick(rng, meanings)
        others = sorted(other for other in ways if other[0] == meaning[0] and other != meaning)
        if others:
            one, two = (str(text) for text in rng.choice(sorted(ways[meaning]), 2, replace=False))
            found.append((one, two, dialogues.pick(rng, sorted(ways[dialogues.pick(rng, others)]))))
    return found


@pytest.fixture
async def nano():
    engine = OmniEngine.load(NANO)
    yield engine
    await engine.close()


async def test_a_paraphrase_is_nearer_than_another_order(nano: OmniEngine):
    asked = triples(100)
    found = await nano.embed([text for triple in asked for text in triple])
    vectors = np.stack([embedding.vector for embedding in found]).reshape(len(asked), 3, -1)
    assert np.allclose(np.linalg.norm(vectors, axis=-1), 1.0, atol=1e-5)
    assert vectors.shape[-1] == nano.info.embedding_size
    order, same, other = vectors.transpose(1, 0, 2)
    share = np.mean((order * same).sum(-1) > (order * other).sum(-1))
    assert share > 0.85  # measured: 0.95, by chance 0.5


async def test_a_text_has_one_embedding_whatever_is_asked_beside_it(nano: OmniEngine):
    (alone,) = await nano.embed(["turn on the lamp"])
    *_, beside = await nano.embed(["something else " * 100, "turn on the lamp"])
    assert np.allclose(alone.vector, beside.vector, atol=1e-4)
    assert alone.num_tokens == beside.num_tokens
    with pytest.raises(TextTooLong) as caught:
        await nano.embed(["short", "word " * 5000])
    assert caught.value.index == 1
