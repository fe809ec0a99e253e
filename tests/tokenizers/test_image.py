from __future__ import annotations

from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sensorium.tokenizers.image import (
    ImageTokenizer,
    ImageTokenizerConfig,
    ResBlock,
    deepened,
    filled,
    fit_hole,
    fit_square,
)


@pytest.fixture(scope="module", params=[0, 3], ids=["one_code", "residuals"])
def tokenizer(request: pytest.FixtureRequest) -> ImageTokenizer:
    torch.manual_seed(0)
    config = ImageTokenizerConfig(channels=(16, 32), blocks=(1, 1), feature_size=32, num_residuals=request.param)
    return ImageTokenizer(config).eval()


def test_a_picture_becomes_codes_and_a_picture_again(tokenizer: ImageTokenizer):
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    patches = tokenizer.encode(pixels)
    assert patches.codes.shape == (2, 64, 1 + tokenizer.config.num_residuals)
    assert patches.features.shape == (2, 64, 32)
    assert 0 <= patches.codes.min()
    assert patches.codes[..., 0].max() < 1000
    assert (patches.codes[..., 1:] < 256).all()
    again = tokenizer.decode(patches.codes)
    assert again.shape == pixels.shape
    assert again.dtype == torch.uint8


def test_quantised_values_are_what_the_codes_stand_for(tokenizer: ImageTokenizer):
    values, codes = tokenizer.quantize(torch.randn(3, 64, 32))
    torch.testing.assert_close(values, tokenizer.values(codes))


def test_the_first_codes_alone_are_a_picture_too(tokenizer: ImageTokenizer):
    values, codes = tokenizer.quantize(torch.randn(2, 64, 32))
    for kept in range(1, codes.shape[-1] + 1):
        known = tokenizer.quantizer.size + (kept - 1) * tokenizer.residual.size
        found = tokenizer.values(codes[..., :kept])
        torch.testing.assert_close(found[..., :known], values[..., :known])
        assert not found[..., known:].any()
        assert tokenizer.decode(codes[..., :kept]).shape == (2, 64, 64, 3)


def test_patches_run_in_raster_order(tokenizer: ImageTokenizer):
    pixels = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    spotted = pixels.clone()
    spotted[0, 8:16, 40:48] = 255  # patch row 1, column 5
    changed = (tokenizer.encode(spotted).features - tokenizer.encode(pixels).features).abs().sum(dim=-1)[0]
    assert changed.argmax() == 8 + 5


def test_other_sizes_are_refused(tokenizer: ImageTokenizer):
    with pytest.raises(ValueError, match="64 x 64"):
        tokenizer.encode(torch.zeros(1, 32, 64, 3, dtype=torch.uint8))


def test_a_deeper_one_begins_as_what_it_was(tokenizer: ImageTokenizer):
    deeper = deepened(tokenizer, (3, 4)).eval()
    pixels = torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8)
    old, new = tokenizer.encode(pixels), deeper.encode(pixels)
    torch.testing.assert_close(new.features, old.features)
    assert torch.equal(deeper.decode(old.codes), tokenizer.decode(old.codes))
    assert sum(isinstance(layer, ResBlock) for layer in deeper.encoder) == 7
    with pytest.raises(ValueError, match="cannot have"):
        deepened(deeper, (2, 4))


def test_a_hole_lies_where_the_picture_has_it():
    """In a picture that is twice as wide as high, be it large or small."""
    small = np.zeros((30, 60), dtype=bool)
    small[10:20, 10:20] = True
    large = np.kron(small, np.ones((5, 5), dtype=bool))
    pixels = fit_square(np.where(large, 0, 255).astype(np.uint8)[:, :, None].repeat(3, axis=2), 64)
    dark = pixels[:, :, 0] < 128
    for hole in (small, large):
        fitted = fit_hole(hole, 64)
        assert fitted[dark].all()
        for axis in (0, 1):  # at its edges the picture is grey
            ends, within = (np.flatnonzero(marked.any(axis=axis))[[0, -1]] for marked in (fitted, dark))
            assert np.abs(ends - within).max() <= 1


@given(st.integers(1, 200), st.integers(1, 200), st.randoms(use_true_random=False))
def test_every_pixel_of_a_hole_is_in_it(height: int, width: int, random: Random):
    """What one pixel after the other touches is what all of them touch together, and each touches something."""
    hole, every = np.zeros((height, width), dtype=bool), np.zeros((64, 64), dtype=bool)
    for spot in [(random.randrange(height), random.randrange(width)) for _ in range(4)]:
        hole[spot] = True
        one = np.zeros_like(hole)
        one[spot] = True
        touched = fit_hole(one, 64)
        assert touched.any()
        every |= touched
    assert (fit_hole(hole, 64) == every).all()


@pytest.mark.parametrize("scale", [1, 4, 12])
def test_a_hole_is_filled_with_what_lies_around_it(scale: int):
    """Nothing of what was in it is left, not even behind the filter that makes large pictures small."""
    pixels = np.full((16, 32, 3), (10, 200, 90), np.uint8)
    pixels[:, 16:] = (50, 60, 70)
    hole = np.zeros((16, 32), dtype=bool)
    hole[4:12, 4:10] = True
    hole[4:12, 14:22] = True  # over the edge
    pixels, hole = pixels.repeat(scale, 0).repeat(scale, 1), hole.repeat(scale, 0).repeat(scale, 1)
    results = []
    for inside in (0, 255):
        secret = pixels.copy()
        secret[hole] = inside
        results.append(filled(secret, hole, 64))
    assert (results[0] == results[1]).all()
    assert (results[0][~hole] == pixels[~hole]).all()
    ground = results[0][8 * scale, 4 * scale : 10 * scale]
    assert (ground == (10, 200, 90)).all()
    assert results[0][8 * scale, 22 * scale - 1].tolist() == [50, 60, 70]


def test_a_hole_with_nothing_around_it_is_just_empty():
    assert (filled(np.full((9, 9, 3), 255, np.uint8), np.ones((9, 9), dtype=bool), 64) == 0).all()
