"""Every code stands for one point, and that point's code is the code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sensorium.tokenizers.quantize import FSQ, steps_apart


@pytest.mark.parametrize("levels", [(8, 5, 5, 5), (4, 4, 4, 4), (7,), (2, 3)])
def test_all_codes_come_back(levels: tuple[int, ...]):
    quantizer = FSQ(levels)
    codes = torch.arange(quantizer.num_codes)
    values = quantizer.values(codes)
    assert values.abs().max() <= 1.0
    assert len(values.unique(dim=0)) == quantizer.num_codes
    # an input that the bounding tanh takes to just this point
    half = (quantizer.levels - 1) / 2
    inputs = torch.atanh(values * half / (half + 0.49)) / 1.2
    again, found = quantizer(inputs)
    assert torch.equal(found, codes)
    torch.testing.assert_close(again, values)


def test_extreme_inputs_stay_on_the_grid():
    quantizer = FSQ((8, 5, 5, 5))
    values, codes = quantizer(torch.tensor([[1e4] * 4, [-1e4] * 4]))
    assert codes.tolist() == [999, 0]
    torch.testing.assert_close(values, torch.tensor([[1.0] * 4, [-1.0] * 4]))


def test_gradients_pass_straight_through():
    inputs = torch.randn(16, 4, requires_grad=True)
    values, _ = FSQ((8, 5, 5, 5))(inputs)
    values.sum().backward()
    assert inputs.grad is not None
    assert (inputs.grad > 0).all()


def test_codes_are_as_far_apart_as_their_levels():
    levels = (8, 5, 5, 5)
    quantizer = FSQ(levels)
    codes = np.random.default_rng(0).integers(0, 1000, (2, 500))
    half = (np.array(levels) - 1) / 2
    one, other = (quantizer.values(torch.from_numpy(given)).numpy() * half for given in codes)
    assert np.array_equal(steps_apart(codes[0], codes[1], levels), np.abs(one - other).sum(axis=-1).round())
    assert steps_apart(np.array([0, 0]), np.array([999, 0]), levels).tolist() == [19, 0]
