"""The compiled step gives what the modules give, and each row what it gives alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sensorium.engine.runner import Piece, Runner
from sensorium.model.transformer import Transformer
from sensorium.tokenizers.stream import Stream, collate_inputs
from sensorium.tokenizers.vocab import Vocabulary
from tests.networks import random_network

VOCABULARY = Vocabulary(text_tokens=320)
ATOL = 1e-4
VARIANTS: list[dict[str, Any]] = [
    {},
    {"ffn": "per_group"},
    {"value_embeddings": False},
    {"depth_head": "independent"},
    {"depth_head": "transformer"},
    {"num_image_residuals": 3},
    {"num_image_residuals": 1, "depth_head": "transformer"},
]


@pytest.fixture(scope="module", params=VARIANTS, ids=lambda changes: "-".join(map(str, changes.values())) or "default")
def network(request: pytest.FixtureRequest) -> Transformer:
    return random_network(VOCABULARY, **request.param)


def mixed_stream(num_image_residuals: int, length: int = 40) -> Stream:
    """Text, spoken and heard frames, drawn patches."""
    rng = np.random.default_rng(0)
    stream = Stream()
    for position in range(length):
        match position % 3:
            case 0:
                stream.add(int(rng.integers(0, VOCABULARY.audio_start)))
            case 1:
                stream.add(int(rng.integers(VOCABULARY.audio_start, VOCABULARY.image_start)))
                stream.frames.append((position, rng.integers(0, 256, 7)))
                if position % 2:
                    stream.heard.append((position, rng.standard_normal(192).astype(np.float32)))
            case _:
                stream.add(int(rng.integers(VOCABULARY.image_start, VOCABULARY.size)))
                stream.patches.append((position, position))
                if num_image_residuals:
                    stream.patch_residuals.append((position, rng.integers(0, 256, num_image_residuals)))
    return stream


def last_states(runner: Runner, stream: Stream, *lengths: int) -> np.ndarray:
    """The hidden state at the end of every piece of these lengths."""
    cache, start, states = runner.new_cache(), 0, []
    for length in lengths:
        cache.reserve(length)
        states.append(runner.forward([Piece(stream, length, cache)])[0])
        start += length
    assert cache.length == start
    return np.stack(states)


def test_step_by_step_as_the_module(network: Transformer):
    stream = mixed_stream(network.config.num_image_residuals)
    with torch.inference_mode():
        hidden = network(collate_inputs([stream], network.config))[0]
        logits = network.symbol_head(hidden).numpy()
    runner = Runner(network)
    states = last_states(runner, stream, 10, *[1] * 30)
    np.testing.assert_allclose(states, hidden[9:].numpy(), rtol=0, atol=ATOL)
    np.testing.assert_allclose(runner.logits(states), logits[9:], rtol=0, atol=ATOL)


@pytest.mark.parametrize("threads", [1, 2])
def test_rows_are_the_same_to_the_bit_whoever_shares_the_call(network: Transformer, threads: int):
    """Pieces of many streams, of many lengths, in one call and each alone."""
    whole = mixed_stream(network.config.num_image_residuals, 60)
    bounds = [(0, 1), (3, 40), (5, 7), (0, 60), (11, 12), (20, 31), (2, 6), (30, 33), (1, 2), (8, 40)]
    streams = [whole.part(*bound) for bound in bounds]
    alone = np.stack([last_states(Runner(network), stream, len(stream))[0] for stream in streams])
    runner = Runner(network, threads=threads)
    pieces = [Piece(stream, len(stream), runner.new_cache()) for stream in streams]
    for piece in pieces:
        piece.cache.reserve(piece.length)
    together = runner.forward(pieces)
    runner.close()
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(runner.logits(together)[4], runner.logits(alone[4:5])[0])


@pytest.mark.parametrize("num_hiddens", [1, 2])
@pytest.mark.parametrize("kind", ["frame", "patch"])
def test_residual_codes_as_the_module(network: Transformer, kind: str, num_hiddens: int):
    config, runner = network.config, Runner(network)
    head, start, length = network.depth_head, config.audio_start, config.num_residuals
    if kind == "patch":
        head, start, length = network.image_depth_head, config.image_start, config.num_image_residuals
    hiddens = torch.randn(num_hiddens, config.hidden_size, generator=torch.manual_seed(0))
    codes = [17]

    def draw(*logits: np.ndarray) -> int:
        assert head is not None
        with torch.inference_mode():
            expected = head.step(hiddens, torch.tensor([codes] * num_hiddens))
        np.testing.assert_allclose(np.stack(logits), expected.numpy(), rtol=0, atol=ATOL)
        codes.append(int(logits[-1].argmax()))
        return codes[-1]

    found = runner.residuals(list(hiddens.numpy()), start + 17, draw)
    if head is None:
        assert found is None
        return
    assert found is not None
    assert found.tolist() == codes[1:]
    assert len(found) == length


def test_text_has_no_residual_codes(network: Transformer):
    hidden = np.zeros(network.config.hidden_size, np.float32)
    assert Runner(network).residuals([hidden], network.config.audio_start - 1, lambda logits: 0) is None


def test_training_on_does_not_change_a_runner():
    network = random_network(VOCABULARY)
    runner = Runner(network)
    before = last_states(runner, mixed_stream(0), 40)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    np.testing.assert_array_equal(last_states(runner, mixed_stream(0), 40), before)
