"""A larger network begins as the smaller one, and all of it learns."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sensorium.model import attention
from sensorium.model.config import ModelConfig, from_depth
from sensorium.model.embed import StreamInputs
from sensorium.model.growth import grow
from sensorium.model.transformer import Transformer

SMALL = from_depth(2, vocab_size=96, audio_start=48, image_start=72, audio_codes=24, num_image_residuals=2)


def inputs(config: ModelConfig) -> StreamInputs:
    """Words, heard and spoken frames, seen and drawn patches."""
    ids = torch.arange(1, 91).view(2, 45)
    frames, patches = torch.arange(47, 71), torch.arange(71, 80)
    frame_codes = torch.randint(config.residual_size, (len(frames), config.num_residuals))
    patch_codes = torch.randint(config.image_residual_size, (len(patches), config.num_image_residuals))
    features = torch.randn(9, config.feature_size)
    return StreamInputs(
        ids,
        frames,
        frame_codes,
        patches,
        torch.arange(9),
        patches,
        patch_codes,
        frames[:9],
        features,
        patches,
        features,
    )


def trained(config: ModelConfig) -> Transformer:
    """No weight as a fresh network has it, the zero ones above all."""
    model = Transformer(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def predictions(model: Transformer, inputs: StreamInputs) -> tuple[Tensor, Tensor, Tensor]:
    hidden = model(inputs)
    flat, codes = hidden.flatten(0, 1), torch.arange(24).unsqueeze(1)
    frames = torch.cat((codes, inputs.frames), dim=1)
    patches = torch.cat((codes[:9], inputs.patch_residuals), dim=1)
    assert model.image_depth_head is not None
    spoken = model.depth_head(flat[inputs.frames_at - 1], frames)
    return model.symbol_head(hidden), spoken, model.image_depth_head(flat[inputs.patches_at - 1], patches)


@pytest.mark.parametrize("larger", [{"num_layers": 5}, {"hidden_size": 192, "num_heads": 3}, {}])
def test_a_grown_network_computes_what_the_smaller_one_does(
    larger: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "kept", lambda x: x)  # s times a value is not rounded to s times as much
    torch.manual_seed(0)
    small = trained(SMALL)
    config = replace(SMALL, **(larger or {"num_layers": 4, "hidden_size": 128, "num_heads": 2}))
    model = Transformer(config)
    grow(model, small)
    asked = inputs(SMALL)
    with torch.no_grad():
        for ours, theirs in zip(predictions(model, asked), predictions(small, asked), strict=True):
            assert theirs.std() > 0.3
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_every_new_part_learns() -> None:
    torch.manual_seed(0)
    small = trained(SMALL)
    model = Transformer(replace(SMALL, num_layers=4, hidden_size=128, num_heads=2))
    grow(model, small)
    start = {name: parameter.clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(4):  # what writes zeros learns first, and then what feeds it
        asked = [(part.logsumexp(-1) - part[..., 3]).mean() for part in predictions(model, inputs(SMALL))]
        loss = torch.stack(asked).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, parameter in model.named_parameters():
        changed = parameter != start[name]
        old = small.state_dict().get(name)
        if old is not None and old.ndim > 1:
            changed[tuple(slice(size) for size in old.shape)] = True
        unread = ("embed.", "value_embedding.weight")  # rows of symbols that did not occur
        assert changed.any(dim=-1).all() or any(part in name for part in unread), name


def test_only_a_smaller_network_grows() -> None:
    large = Transformer(replace(SMALL, num_layers=4))
    with pytest.raises(ValueError, match="num_layers 4 cannot grow into one of 2"):
        grow(Transformer(SMALL), large)
    with pytest.raises(ValueError, match="vocab_size 96"):
        grow(Transformer(replace(SMALL, vocab_size=128)), Transformer(SMALL))
    wide = replace(SMALL, ffn="per_group", hidden_size=128, num_heads=2)
    with pytest.raises(ValueError, match="ffn 'per_group' cannot grow wider"):
        grow(Transformer(wide), Transformer(replace(SMALL, ffn="per_group")))
