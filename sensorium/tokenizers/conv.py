"""Causal layers with explicit state: the same code runs a whole clip or one 80 ms frame.

A layer maps (x, state) to (y, state); `None` is silence before the clip. Matrix products go through `rows_linear`,
which keeps a row's result independent of how many rows are computed together, so that streaming output equals
offline output bit for bit.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

State: TypeAlias = list[Tensor]  # one tensor per stateful layer, in order

BLOCK_ROWS = 4  # one live frame has as many at 20 ms steps


def rows_linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """layer(x) for x (..., C_in), with every row computed by the same kernel whatever the number of rows.

    BLAS picks its kernel by the shape of a product, and from how many rows on each row comes out alike differs from
    one CPU to the next: so many small products of one shape, instead of a large one. It holds on one thread.
    """
    if torch.is_grad_enabled():
        return layer(x)
    flat = x.reshape(-1, x.shape[-1])
    rows = flat.shape[0]
    missing = -rows % BLOCK_ROWS
    if missing:
        flat = torch.cat((flat, flat.new_zeros(missing, flat.shape[1])))
    blocks = flat.unflatten(0, (-1, BLOCK_ROWS))  # (N, BLOCK_ROWS, C_in)
    y = torch.baddbmm(layer.bias, blocks, layer.weight.t().expand(len(blocks), -1, -1))
    return y.flatten(0, 1)[:rows].view(*x.shape[:-1], -1)


class CausalConv(nn.Module):
    """Depthwise convolution over time that looks back `width - 1` steps. (B, T, C) -> (B, T, C)"""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.weight = nn.Parameter(torch.empty(width, channels).normal_(std=width**-0.5))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        """`past`: (B, width-1, C), what came before x; returns y and the new past."""
        if past is None:
            past = x.new_zeros(x.shape[0], self.width - 1, x.shape[2])
        whole = torch.cat((past, x), dim=1)
        length = x.shape[1]
        y = self.bias.expand_as(x)
        for step in range(self.width):
            y = y + whole[:, step : step + length] * self.weight[step]
        return y, whole[:, length:]


class ConvNeXt(nn.Module):
    """Depthwise causal convolution, then a pointwise MLP (Liu et al. 2022, arXiv 2201.03545)."""

    def __init__(self, channels: int, *, width: int, expansion: int = 3) -> None:
        super().__init__()
        self.conv = CausalConv(channels, width)
        self.norm = nn.LayerNorm(channels)
        self.up = nn.Linear(channels, expansion * channels)
        self.down = nn.Linear(expansion * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), 0.3))

    def forward(self, x: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        y, new_past = self.conv(x, past)
        y = rows_linear(F.gelu(rows_linear(self.norm(y), self.up), approximate="tanh"), self.down)
        return x + self.scale * y, new_past


class ConvStack(nn.Module):
    """Several ConvNeXt blocks; the state holds one past per block."""

    def __init__(self, channels: int, *, blocks: int, width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ConvNeXt(channels, width=width) for _ in range(blocks))

    def forward(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        pasts: State = []
        for index, block in enumerate(self.blocks):
            x, past = block(x, state[index] if state is not None else None)
            pasts.append(past)
        return x, pasts
