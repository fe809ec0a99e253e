"""Rotary position embedding (Su et al. 2021, arXiv 2104.09864) over the index in the stream."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Rope(nn.Module):
    """Rotates pairs (i, i + D/2) of each head by position x theta^(-2i/D)."""

    cos: Tensor
    sin: Tensor

    def __init__(self, *, head_dim: int, max_seq_len: int, theta: float) -> None:
        super().__init__()
        frequencies = theta ** -(torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
        angles = torch.outer(torch.arange(max_seq_len, dtype=torch.float64), frequencies)  # (T, D/2)
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)

    def forward(self, x: Tensor, start: int) -> Tensor:
        """x: (B, H, T, D) at stream positions start .. start+T; returns the same shape."""
        length = x.shape[2]
        cos, sin = self.cos[start : start + length].to(x.dtype), self.sin[start : start + length].to(x.dtype)
        first, second = x.chunk(2, dim=-1)
        return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)
