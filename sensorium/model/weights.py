"""Weights on disk: safetensors, so that reading a checkpoint runs no code.

Matrices are stored as bfloat16 (half the size; the networks are trained under bfloat16 autocast), vectors and scalars
as float32. In memory everything is float32 again.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn


def save_weights(module: nn.Module, path: Path) -> None:
    """Writes a module's parameters and persistent buffers, whole or not at all.

    safetensors' own writer makes files that nobody else may read, a server under another account included.
    """
    beside = path.with_name(f".part-{path.name}")
    beside.write_bytes(save({name: _stored(tensor) for name, tensor in module.state_dict().items()}))
    os.replace(beside, path)


def load_weights(module: nn.Module, path: Path) -> None:
    """Reads what `save_weights` wrote into `module`. Raises ValueError if they do not fit each other."""
    tensors = load_file(path)
    expected = {name: tensor.shape for name, tensor in module.state_dict().items()}
    for name in sorted(expected.keys() ^ tensors.keys()):
        raise ValueError(f"{path}: {'lacks' if name in expected else 'has an unknown'} tensor {name}")
    for name, shape in expected.items():
        if tensors[name].shape != shape:
            raise ValueError(f"{path}: {name} is {tuple(tensors[name].shape)}, the configuration says {tuple(shape)}")
    module.load_state_dict(tensors)


def _stored(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    if not tensor.is_floating_point():
        return tensor
    return tensor.to(torch.bfloat16 if tensor.ndim >= 2 else torch.float32)
