"""A depth head computes the same in one go (training) and level by level (decoding)."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from sensorium.model.config import ModelConfig
from sensorium.model.heads import DepthHead, DepthTransformer, depth_head, image_depth_head
from tests.networks import randomise

CONFIG = ModelConfig(num_layers=2, hidden_size=128, num_heads=2, vocab_size=64, audio_start=1, image_start=2)


@pytest.fixture(params=["prefix_sum", "transformer", "independent"])
def config(request: pytest.FixtureRequest) -> ModelConfig:
    return dataclasses.replace(CONFIG, depth_head=request.param)


@pytest.fixture
def head(config: ModelConfig) -> DepthHead | DepthTransformer:
    torch.manual_seed(0)
    head = depth_head(config)
    randomise(head)
    return head


def check_steps(head: DepthHead | DepthTransformer, *, num_codes: int, num_residuals: int, residual_size: int) -> None:
    hidden = torch.randn(5, 128)
    first, rest = torch.randint(0, num_codes, (5, 1)), torch.randint(0, residual_size, (5, num_residuals))
    codes = torch.cat((first, rest), dim=1)
    with torch.inference_mode():
        whole = head(hidden, codes)
        assert whole.shape == (5, num_residuals, residual_size)
        for level in range(num_residuals):
            torch.testing.assert_close(head.step(hidden, codes[:, : level + 1]), whole[:, level], rtol=0, atol=1e-4)


def test_step_by_step_as_in_one_go(head: DepthHead | DepthTransformer):
    check_steps(head, num_codes=1000, num_residuals=7, residual_size=256)


@pytest.mark.parametrize("num_residuals", [1, 3])
def test_the_head_of_patches_has_sizes_of_its_own(config: ModelConfig, num_residuals: int):
    torch.manual_seed(0)
    head = image_depth_head(dataclasses.replace(config, num_image_residuals=num_residuals, image_residual_size=25))
    assert head is not None
    randomise(head)
    check_steps(head, num_codes=62, num_residuals=num_residuals, residual_size=25)


def test_patches_of_one_code_need_no_head(config: ModelConfig):
    assert image_depth_head(config) is None


def test_a_code_depends_on_those_before_it_and_on_no_later_one(head: DepthHead | DepthTransformer):
    hidden, codes = torch.randn(1, 128), torch.tensor([[5, 1, 2, 3, 4, 5, 6, 7]])
    changed = codes.clone()
    changed[0, 3] = 200
    with torch.inference_mode():
        before, after = head(hidden, codes)[0], head(hidden, changed)[0]
    torch.testing.assert_close(before[:3], after[:3])
    conditional = not isinstance(head, DepthHead) or head.conditional
    assert torch.allclose(before[3:], after[3:]) is not conditional
