from __future__ import annotations

import pytest
import torch

from sensorium.tokenizers.image import ImageTokenizer, ImageTokenizerConfig


@pytest.fixture(scope="module")
def tokenizer() -> ImageTokenizer:
    torch.manual_seed(0)
    return ImageTokenizer(ImageTokenizerConfig(channels=(16, 32), blocks=(1, 1), feature_size=32)).eval()


def test_a_picture_becomes_one_code_a_patch_and_a_picture_again(tokenizer: ImageTokenizer):
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    patches = tokenizer.encode(pixels)
    assert patches.codes.shape == (2, 64)
    assert patches.features.shape == (2, 64, 32)
    assert 0 <= patches.codes.min()
    assert patches.codes.max() < 1000
    again = tokenizer.decode(patches.codes)
    assert again.shape == pixels.shape
    assert again.dtype == torch.uint8


def test_quantised_values_are_what_the_codes_stand_for(tokenizer: ImageTokenizer):
    values, codes = tokenizer.quantize(torch.randn(3, 64, 32))
    torch.testing.assert_close(values, tokenizer.quantizer.values(codes))


def test_patches_run_in_raster_order(tokenizer: ImageTokenizer):
    pixels = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    spotted = pixels.clone()
    spotted[0, 8:16, 40:48] = 255  # patch row 1, column 5
    changed = (tokenizer.encode(spotted).features - tokenizer.encode(pixels).features).abs().sum(dim=-1)[0]
    assert changed.argmax() == 8 + 5


def test_other_sizes_are_refused(tokenizer: ImageTokenizer):
    with pytest.raises(ValueError, match="64 x 64"):
        tokenizer.encode(torch.zeros(1, 32, 64, 3, dtype=torch.uint8))
