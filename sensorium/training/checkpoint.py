"""The whole state of a run, written atomically: a run killed at any moment goes on from its last checkpoint.

A run may also begin with the weights of a release.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from torch.optim import Optimizer

from sensorium.model.weights import read_weights

FILE_NAME = "state.pt"

Module = TypeVar("Module", bound=nn.Module)


def save(folder: Path, *, step: int, module: nn.Module, optimizer: Optimizer, seconds: float) -> None:
    """Writes beside, then renames: a reader sees the old file or the new one, never half of one."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        "step": step,
        "seconds": seconds,
        "module": module.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    beside = folder / (FILE_NAME + ".part")
    torch.save(state, beside)
    os.replace(beside, folder / FILE_NAME)


def load(folder: Path, *, module: nn.Module, optimizer: Optimizer, device: str) -> tuple[int, float]:
    """Restores in place; returns the step to go on from and the seconds spent. (0, 0.0) without a checkpoint."""
    path = folder / FILE_NAME
    if not path.exists():
        return 0, 0.0
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    module.load_state_dict(state["module"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"]), float(state["seconds"])


def started(module: Module, release: Path | None, file_name: str) -> Module:
    """The module with the weights of a release, if the run goes on from one: those that fit by name and shape."""
    if release is None:
        return module
    own, given = module.state_dict(), read_weights(release / file_name)
    fresh: list[str] = []
    for name, tensor in own.items():
        if name in given and given[name].shape == tensor.shape:
            tensor.copy_(given[name])
        else:
            fresh.append(name)
    if fresh:
        print(f"{file_name}: starts fresh in {', '.join(sorted(fresh))}")
    return module
