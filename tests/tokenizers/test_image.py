from __future__ import annotations

import pytest
import torch

from sensorium.tokenizers.image import ImageTokenizer, ImageTokenizerConfig, ResBlock, deepened


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
