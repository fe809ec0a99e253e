"""The depth head computes the same in one go (training) and level by level (decoding)."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from sensorium.model.config import ModelConfig
from sensorium.model.heads import DepthHead, DepthTransformer, depth_head
from tests.networks import randomise

CONFIG = ModelConfig(num_layers=2, hidden_size=128, num_heads=2, vocab_size=64, audio_start=1, image_start=2)


@pytest.fixture(params=["prefix_sum", "transformer", "independent"])
def head(request: pytest.FixtureRequest) -> DepthHead | DepthTransformer:
    torch.manual_seed(0)
    head = depth_head(dataclasses.replace(CONFIG, depth_head=request.param))
    randomise(head)
    return head


def test_step_by_step_as_in_one_go(head: DepthHead | DepthTransformer):
    hidden = torch.randn(5, 128)
    codes = torch.cat((torch.randint(0, 1000, (5, 1)), torch.randint(0, 256, (5, 7))), dim=1)
    with torch.inference_mode():
        whole = head(hidden, codes)
        assert whole.shape == (5, 7, 256)
        for level in range(7):
            torch.testing.assert_close(head.step(hidden, codes[:, : level + 1]), whole[:, level], rtol=0, atol=1e-4)


def test_a_code_depends_on_those_before_it_and_on_no_later_one(head: DepthHead | DepthTransformer):
    hidden, codes = torch.randn(1, 128), torch.tensor([[5, 1, 2, 3, 4, 5, 6, 7]])
    changed = codes.clone()
    changed[0, 3] = 200
    with torch.inference_mode():
        before, after = head(hidden, codes)[0], head(hidden, changed)[0]
    torch.testing.assert_close(before[:3], after[:3])
    conditional = not isinstance(head, DepthHead) or head.conditional
    assert torch.allclose(before[3:], after[3:]) is not conditional
