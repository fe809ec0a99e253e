from __future__ import annotations

import pytest
import torch

from sensorium.model.config import from_depth
from sensorium.model.transformer import Transformer
from sensorium.tokenizers.image import ImageTokenizer, ImageTokenizerConfig
from sensorium.training.optim import MuonAdamW, network_groups, orthogonalize, tokenizer_groups
from sensorium.training.schedule import multiplier


@pytest.mark.parametrize("shape", [(16, 16), (48, 16), (16, 48), (3, 20, 12)])
def test_orthogonalize_evens_out_singular_values(shape: tuple[int, ...]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalize(matrix).float())
    assert values.min() > 0.3  # the quintic iteration lets the smallest lag a little
    assert values.max() < 1.3


def test_every_parameter_is_trained_by_one_rule() -> None:
    model = Transformer(from_depth(2, vocab_size=256, audio_start=128, image_start=192))
    groups = network_groups(model, matrix_lr=1, embedding_lr=1, head_lr=1, scalar_lr=1, weight_decay=0)
    grouped = [parameter for group in groups for parameter in group["params"]]
    assert len({id(parameter) for parameter in grouped}) == len(grouped) == len(list(model.parameters()))
    assert all(parameter.ndim >= 2 for parameter in groups[0]["params"])


def test_kernels_of_convolutions_move_as_matrices() -> None:
    torch.manual_seed(0)
    tokenizer = ImageTokenizer(ImageTokenizerConfig(channels=(8, 16), blocks=(1, 1), feature_size=32))
    groups = tokenizer_groups(tokenizer, lr=1e-3, matrix_lr=0.01, weight_decay=0.0)
    (kernel, *_) = groups[0]["params"]
    assert sum(len(group["params"]) for group in groups) == len(list(tokenizer.parameters()))
    assert all(parameter.ndim == 4 and parameter.shape[-1] == 3 for parameter in groups[0]["params"])
    before = kernel.detach().clone()
    tokenizer.reconstruct(torch.randn(1, 64, 4)).square().mean().backward()
    tokenizer.features(torch.randn(1, 3, 64, 64)).square().mean().backward()
    MuonAdamW(groups).step()
    values = torch.linalg.svdvals((kernel.detach() - before).flatten(1))
    assert values.max() < 1.3 * 0.01
    assert values.min() > 0.3 * 0.01


def test_schedule_is_a_trapezoid() -> None:
    def at(step: int) -> float:
        return multiplier(step, num_steps=100, warmup_steps=10, warmdown_share=0.5)

    assert at(0) == pytest.approx(0.1)
    assert at(10) == at(49) == 1.0
    assert at(75) == pytest.approx(0.51)
    assert at(99) < 0.05
