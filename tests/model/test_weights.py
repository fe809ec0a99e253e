from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sensorium.model.weights import load_weights, quantized, read_weights, save_weights
from sensorium.tokenizers.release import Release
from tests.networks import random_release


def test_eight_bits_keep_every_weight_to_half_a_step():
    torch.manual_seed(0)
    matrix = torch.randn(3, 5, 40) * torch.tensor([0.01, 1.0, 30.0])[:, None, None]
    matrix[1, 2] = 0.0
    codes, scale = quantized(matrix)
    assert codes.dtype == torch.int8
    assert codes.abs().amax() == 127
    assert ((codes.float() * scale - matrix).abs() <= scale / 2 + 1e-9).all()
    assert (codes[1, 2] == 0).all()


def test_a_module_in_eight_bits_is_read_as_any_other(tmp_path: Path):
    torch.manual_seed(0)
    one, other = (torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.LayerNorm(32)) for _ in range(2))
    save_weights(one, tmp_path / "weights.safetensors", int8=True)
    load_weights(other, tmp_path / "weights.safetensors")
    before, after = one.state_dict(), other.state_dict()
    for name in ("0.bias", "1.weight", "1.bias"):
        assert torch.equal(before[name], after[name])
    codes, scale = quantized(before["0.weight"])
    assert torch.equal(after["0.weight"], codes.float() * scale)
    assert not torch.equal(before["0.weight"], after["0.weight"])
    assert torch.allclose(before["0.weight"], after["0.weight"], atol=float(before["0.weight"].abs().amax()) / 254)


def test_a_release_in_eight_bits_answers_nearly_the_same(tmp_path: Path):
    whole = random_release()
    whole.save(tmp_path / "small", int8=True)
    small = Release.load(tmp_path / "small")
    one, other = (release.model.symbol_head.projection.weight for release in (whole, small))
    assert torch.allclose(one, other, atol=0.005 * float(one.detach().abs().amax()))
    small.save(tmp_path / "again", int8=True)
    names = ("network.safetensors", "audio.safetensors", "image.safetensors")
    assert all((tmp_path / "small" / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in names)


def test_codes_without_their_scales_are_refused(tmp_path: Path):
    path = tmp_path / "weights.safetensors"
    save_weights(torch.nn.Linear(8, 8), path, int8=True)
    save_file({name: tensor for name, tensor in load_file(path).items() if not name.endswith(".int8_scale")}, path)
    with pytest.raises(ValueError, match="weight is in 8 bits and lacks its scales"):
        read_weights(path)
