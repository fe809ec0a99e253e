"""Weights on disk: safetensors, so that reading a checkpoint runs no code.

Matrices are stored as bfloat16 (half the size; the networks are trained under bfloat16 autocast), vectors and scalars
as float32. Where asked for, matrices are stored in 8 bits instead: `name.int8`, and in `name.int8_scale` what each of
its rows is multiplied by. In memory everything is float32 again.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

_INT8, _SCALE = ".int8", ".int8_scale"


def save_weights(module: nn.Module, path: Path, *, int8: bool = False) -> None:
    """Writes a module's parameters and persistent buffers, whole or not at all; with `int8`, its matrices in 8 bits.

    safetensors' own writer makes files that nobody else may read, a server under another account included.
    """
    tensors: dict[str, Tensor] = {}
    for name, tensor in module.state_dict().items():
        if int8 and tensor.is_floating_point() and tensor.ndim >= 2:
            tensors[name + _INT8], tensors[name + _SCALE] = quantized(tensor.detach().cpu().float())
        else:
            tensors[name] = _stored(tensor)
    beside = path.with_name(f".part-{path.name}")
    beside.write_bytes(save(tensors))
    os.replace(beside, path)


def quantized(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """(.., R, C) -> int8 of the same shape and scales (.., R, 1): each row's largest weight becomes 127."""
    scale = (matrix.abs().amax(dim=-1, keepdim=True) / 127).clamp_min(1e-12)
    return (matrix / scale).round().to(torch.int8).contiguous(), scale


def load_weights(module: nn.Module, path: Path) -> None:
    """Reads what `save_weights` wrote into `module`. Raises ValueError if they do not fit each other."""
    tensors = read_weights(path)
    expected = {name: tensor.shape for name, tensor in module.state_dict().items()}
    for name in sorted(expected.keys() ^ tensors.keys()):
        raise ValueError(f"{path}: {'lacks' if name in expected else 'has an unknown'} tensor {name}")
    for name, shape in expected.items():
        if tensors[name].shape != shape:
            raise ValueError(f"{path}: {name} is {tuple(tensors[name].shape)}, the configuration says {tuple(shape)}")
    module.load_state_dict(tensors)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors that `save_weights` wrote, those in 8 bits as float32. Raises ValueError where scales lack."""
    stored = load_file(path)
    tensors = {name: tensor for name, tensor in stored.items() if not name.endswith((_INT8, _SCALE))}
    for name in (name.removesuffix(_INT8) for name in stored if name.endswith(_INT8)):
        if name + _SCALE not in stored:
            raise ValueError(f"{path}: {name} is in 8 bits and lacks its scales")
        tensors[name] = stored[name + _INT8].float() * stored[name + _SCALE]
    return tensors


def _stored(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    if not tensor.is_floating_point():
        return tensor
    return tensor.to(torch.bfloat16 if tensor.ndim >= 2 else torch.float32)
