from __future__ import annotations

import pytest
import torch

from sensorium.model.config import from_depth
from sensorium.model.transformer import Transformer
from sensorium.training.optim import network_groups, orthogonalize
from sensorium.training.schedule import multiplier


@pytest.mark.parametrize("shape", [(16, 16), (48, 16), (16, 48), (3, 20, 12)])
def test_orthogonalize_evens_out_singular_values(shape: tuple[int, ...]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalize(matrix))
    assert values.min() > 0.3  # the quintic iteration lets the smallest lag a little
    assert values.max() < 1.3


def test_every_parameter_is_trained_by_one_rule() -> None:
    model = Transformer(from_depth(2, vocab_size=256, audio_start=128, image_start=192))
    groups = network_groups(model, matrix_lr=1, embedding_lr=1, head_lr=1, scalar_lr=1, weight_decay=0)
    grouped = [parameter for group in groups for parameter in group["params"]]
    assert len({id(parameter) for parameter in grouped}) == len(grouped) == len(list(model.parameters()))
    assert all(parameter.ndim >= 2 for parameter in groups[0]["params"])


def test_schedule_is_a_trapezoid() -> None:
    def at(step: int) -> float:
        return multiplier(step, num_steps=100, warmup_steps=10, warmdown_share=0.5)

    assert at(0) == pytest.approx(0.1)
    assert at(10) == at(49) == 1.0
    assert at(75) == pytest.approx(0.51)
    assert at(99) < 0.05
