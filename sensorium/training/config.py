"""How a run goes; the same dataclass for the tokenizers and the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

Precision = Literal["bf16", "fp32"]  # of products; weights and sums are 32 bits either way


def precision_of(device: str | torch.device) -> Precision:
    """bf16 on a GPU and on a CPU with instructions for it; elsewhere that is a hundred times slower than fp32 (1.2
    against 122 GFLOP/s on two Zen 3 cores)."""
    if torch.device(device).type != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return "bf16"
    return "fp32"


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    num_steps: int
    warmup_steps: int = 50
    warmdown_share: float = 0.5
    max_grad_norm: float | None = 1.0
    device: str = "cpu"
    precision: Precision | None = None  # by default the faster of the two on `device`
    log_every_steps: int = 10
    held_out_every_steps: int = 100  # a multiple of log_every_steps
    checkpoint_every_s: float = 120.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, not {self.num_steps}")
