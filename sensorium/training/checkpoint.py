"""The whole state of a run, written atomically: a run killed at any moment goes on from its last checkpoint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

FILE_NAME = "state.pt"


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
