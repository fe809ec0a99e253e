"""The compiled step gives what the modules give, and each row what it gives alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sensorium.engine import kernels, reference
from sensorium.engine.runner import Draws, Piece, Runner, matrix, product
from sensorium.engine.sampling import Sampler, SamplingParams
from sensorium.model.transformer import Transformer
from sensorium.model.weights import quantized
from sensorium.tokenizers.stream import Stream, collate_inputs
from sensorium.tokenizers.vocab import Vocabulary
from tests.networks import random_network

VOCABULARY = Vocabulary(text_tokens=320)
ATOL, INT8_ATOL = 1e-4, 2e-3  # of a network in 8 bits: the engine rounds what it multiplies by to 14
VARIANTS: list[dict[str, Any]] = [
    {},
    {"ffn": "per_group"},
    {"value_embeddings": False},
    {"depth_head": "independent"},
    {"depth_head": "transformer"},
    {"num_image_residuals": 3},
    {"num_image_residuals": 1, "depth_head": "transformer"},
    {"num_image_residuals": 3, "int8": True},
    {"ffn": "per_group", "int8": True},
]


@pytest.fixture(scope="module", params=VARIANTS, ids=lambda changes: "-".join(map(str, changes.values())) or "default")
def network(request: pytest.FixtureRequest) -> Transformer:
    changes = dict(request.param)
    int8 = changes.pop("int8", False)
    network = random_network(VOCABULARY, **changes)
    if int8:  # as it comes from such a release
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.ndim >= 2:
                    whole, scale = quantized(parameter)
                    parameter.copy_(whole * scale)
    return network


def is_int8(network: Transformer) -> bool:
    return matrix(network.symbol_head.projection.weight).panels.dtype == np.int8


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
        states.append(runner.forward([Piece(stream, length, cache)]).hidden[-1])
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
    atol = INT8_ATOL if is_int8(network) else ATOL
    np.testing.assert_allclose(states, hidden[9:].numpy(), rtol=0, atol=atol)
    np.testing.assert_allclose(runner.logits(states), logits[9:], rtol=0, atol=atol)


@pytest.mark.parametrize("threads", [1, 2, 3])
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
    ends = np.cumsum([piece.length for piece in pieces])
    known = runner.forward(pieces)
    together = known.hidden[ends - 1]
    np.testing.assert_array_equal(together, alone)
    for row, logits in enumerate(known.logits):
        np.testing.assert_array_equal(logits, runner.logits(alone[row : row + 1])[0])
    for stream, expected in zip(streams, alone, strict=True):  # a prompt by itself, whose rows the threads share
        np.testing.assert_array_equal(last_states(runner, stream, len(stream))[0], expected)
    runner.close()


@pytest.mark.parametrize("is_by_rows", [True, False])
@pytest.mark.parametrize("size", [7, 64, 1024])
def test_a_product_in_8_bits_is_one_of_whole_numbers(size: int, is_by_rows: bool):
    """To the last bit, whatever rows share it; and to 13 bits that of the rows as they were."""
    rng = np.random.default_rng(size)
    whole, scale = quantized(torch.from_numpy(rng.standard_normal((size, 100) if is_by_rows else (100, size))).float())
    weight = (whole * scale).mT if is_by_rows else whole * scale  # (100, size)
    held = matrix(weight)
    assert held.panels.dtype == np.int8
    x = rng.standard_normal((23, size)).astype(np.float32)
    x[3], x[4] = 0.0, 1e6 * x[4]
    y = product(x, held)[:, :100]
    np.testing.assert_array_equal(y, np.concatenate([product(x[row : row + 1], held) for row in range(23)])[:, :100])
    numbers, _ = kernels.whole(x, held.gains, size + size % 2)
    assert np.abs(numbers.astype(int)).max() * 127 * size < 2**31  # no sum can overflow
    given = x.astype(np.float64) @ weight.numpy().T.astype(np.float64)
    assert (np.abs(y - given).max(axis=1) <= 3e-4 * np.abs(given).max(axis=1)).all()


@pytest.mark.parametrize("num_hiddens", [1, 2])
@pytest.mark.parametrize("kind", ["frame", "patch"])
def test_residual_codes_as_the_module(network: Transformer, kind: str, num_hiddens: int):
    config, runner = network.config, Runner(network)
    head, start, length = network.depth_head, config.audio_start, config.num_residuals
    if kind == "patch":
        head, start, length = network.image_depth_head, config.image_start, config.num_image_residuals
    hiddens = torch.randn(num_hiddens, config.hidden_size, generator=torch.manual_seed(0))
    rng = np.random.default_rng(0)
    for temperature in (0.0,) if is_int8(network) else (0.0, 0.5, 2.0, 2.0, 2.0):  # rounding may tip a draw
        drawn = Draws(np.float32(temperature), np.float32(2.0), 1.0 - rng.random(length))
        found = runner.residuals(list(hiddens.numpy()), start + 17, lambda num_codes, drawn=drawn: drawn)
        if head is None:
            assert found is None
            return
        with torch.inference_mode():
            expected = reference.residual_codes(head, list(hiddens), 17, drawn)
        assert found is not None
        assert found.tolist() == expected.tolist()


def test_text_has_no_residual_codes(network: Transformer):
    hidden = np.zeros(network.config.hidden_size, np.float32)
    assert Runner(network).residuals([hidden], network.config.audio_start - 1, Sampler(SamplingParams()).frame) is None


def test_training_on_does_not_change_a_runner():
    network = random_network(VOCABULARY)
    runner = Runner(network)
    before = last_states(runner, mixed_stream(0), 40)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    np.testing.assert_array_equal(last_states(runner, mixed_stream(0), 40), before)
