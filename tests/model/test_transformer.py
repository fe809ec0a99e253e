"""What a decoder-only network must keep: no look at the future, and the same answer with a cache or in a batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.model.config import PRESET_DEPTHS, ModelConfig, from_depth
from sensorium.model.embed import StreamInputs
from sensorium.model.transformer import Transformer
from sensorium.tokenizers.stream import Stream, collate_inputs
from sensorium.tokenizers.vocab import Vocabulary
from tests.networks import random_network

VOCABULARY = Vocabulary(text_tokens=320)
ATOL = 3e-5
VARIANTS: list[dict[str, Any]] = [
    {},
    {"ffn": "per_group"},
    {"value_embeddings": False},
    {"num_image_residuals": 3},
]


@pytest.fixture(autouse=True)
def in_float64() -> Iterator[None]:
    """Keys and values are rounded to bfloat16. What differs in the last of 24 bits may be rounded to another number."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module", params=VARIANTS, ids=["default", "per_group", "plain_values", "image_residuals"])
def network(request: pytest.FixtureRequest) -> Transformer:
    return random_network(VOCABULARY, **request.param).double()


def collated(network: Transformer, *streams: Stream) -> StreamInputs:
    inputs = collate_inputs(streams, network.config)
    return StreamInputs(*(tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs))


def random_stream(seed: int, length: int) -> Stream:
    """Text, own frames, heard frames and seen patches in any order."""
    rng = np.random.default_rng(seed)
    stream = Stream()
    for position in range(length):
        match rng.integers(4):
            case 0:
                stream.add(int(rng.integers(0, VOCABULARY.audio_start)))
            case 1 | 2 as kind:
                stream.add(int(rng.integers(VOCABULARY.audio_start, VOCABULARY.image_start)))
                stream.frames.append((position, rng.integers(0, 256, 7)))
                if kind == 2:
                    stream.heard.append((position, rng.normal(size=192)))
            case _:
                stream.add(int(VOCABULARY.image_start + rng.integers(0, VOCABULARY.image_codes)))
                stream.patches.append((position, int(rng.integers(64))))
                stream.patch_residuals.append((position, rng.integers(0, 256, 3)))
                stream.seen.append((position, rng.normal(size=192)))
    return stream


def hidden_states(network: Transformer, *streams: Stream) -> torch.Tensor:
    with torch.inference_mode():
        return network(collated(network, *streams))


@settings(max_examples=10, deadline=None, derandomize=True)
@given(cuts=st.lists(st.integers(1, 20), min_size=1, max_size=8), seed=st.integers(0, 99))
def test_with_a_cache_as_without(network: Transformer, cuts: list[int], seed: int):
    stream = random_stream(seed, sum(cuts))
    whole = hidden_states(network, stream)
    cache = network.new_cache()
    parts, start = [], 0
    for length in cuts:
        inputs = collated(network, stream.part(start, start + length))
        with torch.inference_mode():
            parts.append(network(inputs, cache))
        start += length
    assert cache.length == len(stream)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=ATOL)


def test_a_batch_equals_its_rows(network: Transformer):
    streams = [random_stream(seed, length) for seed, length in enumerate((31, 7, 1, 18))]
    together = hidden_states(network, *streams)
    for row, stream in enumerate(streams):
        alone = hidden_states(network, stream)[0]
        torch.testing.assert_close(together[row, : len(stream)], alone, rtol=0, atol=ATOL)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(position=st.integers(1, 39), seed=st.integers(0, 99))
def test_the_future_does_not_reach_the_past(network: Transformer, position: int, seed: int):
    stream = random_stream(seed, 40)
    changed = stream.part(0, position)
    changed.extend(random_stream(seed + 100, 40 - position))
    before, after = hidden_states(network, stream)[0], hidden_states(network, changed)[0]
    torch.testing.assert_close(before[:position], after[:position], rtol=0, atol=ATOL)
    assert not torch.allclose(before[position:], after[position:], atol=1e-2)


@pytest.mark.parametrize("kind", ["frames", "patches", "patch_residuals", "heard", "seen"])
def test_every_kind_of_content_is_seen(network: Transformer, kind: str):
    if kind == "patch_residuals" and not network.config.num_image_residuals:
        return
    stream = random_stream(3, 40)
    before = hidden_states(network, stream)[0]
    content = getattr(stream, kind)
    at, value = content[0]
    content[0] = (at, (value + 1) % 64)
    after = hidden_states(network, stream)[0]
    assert not torch.allclose(before[at], after[at], atol=1e-3)
    torch.testing.assert_close(before[:at], after[:at], rtol=0, atol=ATOL)


def test_a_fork_and_a_truncation_leave_the_other_cache_alone(network: Transformer):
    stream, other = random_stream(1, 20), random_stream(2, 6)
    cache = network.new_cache()
    inputs = collated(network, stream)
    tail = collated(network, other)
    with torch.inference_mode():
        network(inputs, cache)
        twin = cache.fork()
        expected = network(tail, twin)
        network(tail, cache)
        cache.truncate(20)
        torch.testing.assert_close(network(tail, cache), expected, rtol=0, atol=0)


def test_a_full_cache_says_so(network: Transformer):
    cache = network.new_cache(max_seq_len=8)
    with pytest.raises(ValueError, match="holds 8 positions"), torch.inference_mode():
        network(collated(network, random_stream(0, 9)), cache)


def test_logits_are_bounded_and_float32(network: Transformer):
    logits = network.symbol_head(1e3 * torch.randn(2, 3, network.config.hidden_size))
    assert logits.dtype == torch.float32
    assert logits.abs().max() <= network.config.logit_cap


def test_patches_of_one_code_add_no_parameters(network: Transformer):
    added = {name for name in network.state_dict() if "image_depth_head" in name or "patch_residual" in name}
    assert len(added) == (7 if network.config.num_image_residuals else 0)


def test_a_fresh_block_is_the_identity():
    config = from_depth(2, vocab_size=2368, audio_start=384, image_start=1384)
    network = Transformer(config)
    x = torch.randn(1, 5, config.hidden_size)
    ids = torch.randint(0, 2368, (1, 5))
    for block in network.blocks:
        torch.testing.assert_close(block(x, ids, network.rope, None), x)


@pytest.mark.parametrize(
    ("preset", "low", "high"),
    [("nano", 6e6, 10e6), ("tiny", 12e6, 40e6), ("small", 30e6, 80e6), ("base", 80e6, 200e6)],
)
def test_presets_have_the_advertised_size(preset: str, low: float, high: float):
    vocabulary = Vocabulary(text_tokens=2048 if preset == "nano" else 4096)
    config = from_depth(
        PRESET_DEPTHS[preset],
        vocab_size=vocabulary.size,
        audio_start=vocabulary.audio_start,
        image_start=vocabulary.image_start,
    )
    assert low < Transformer(config).num_parameters() < high


def test_impossible_shapes_are_refused():
    with pytest.raises(ValueError, match="even number"):
        from_depth(3, vocab_size=64, audio_start=1, image_start=2)
    with pytest.raises(ValueError, match="hidden_size 100"):
        ModelConfig(num_layers=2, hidden_size=100, num_heads=2, vocab_size=64, audio_start=1, image_start=2)
