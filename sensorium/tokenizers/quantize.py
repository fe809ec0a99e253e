"""Finite scalar quantisation (Mentzer et al. 2023, arXiv 2309.15505): round a few bounded numbers, and call the
combination a code. No codebook to learn, so none to collapse."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

SPREAD = 1.2  # unit-variance inputs are widened by this before the tanh, so that the outer levels are used too


class FSQ(nn.Module):
    """`levels` per dimension, e.g. (8, 5, 5, 5): 1000 codes.

    Feed it about unit variance per dimension (project a layer-normed feature): unnormalised, a pilot used 13 codes
    of 1000; normalised over the few dimensions themselves, only a sphere of codes (241 of 1000) can be reached.
    """

    levels: Tensor
    basis: Tensor

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.num_codes = math.prod(levels)
        self.size = len(levels)
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        basis = torch.cumprod(torch.tensor((1, *levels[:-1])), dim=0)
        self.register_buffer("basis", basis, persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x: (..., D) -> values (..., D) in [-1, 1] with straight-through gradient, codes (...) int64."""
        half = (self.levels - 1) / 2  # an even level count has no zero level: its grid lies at half-steps
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)
        bounded = torch.tanh(x.float() * SPREAD) * (
            half + 0.49
        )  # reaches a little past the outer level, never rounds beyond it
        digits = torch.round(bounded - offset) + offset
        digits = torch.minimum(torch.maximum(digits, -half), half)
        digits = bounded + (digits - bounded).detach()
        codes = ((digits.detach() + half).round().long() * self.basis).sum(dim=-1)
        return digits / half, codes

    def values(self, codes: Tensor) -> Tensor:
        """codes (...) -> values (..., D): what `forward` returned for these codes."""
        digits = (codes.unsqueeze(-1) // self.basis) % self.levels
        half = (self.levels - 1) / 2
        return (digits - half) / half


def steps_apart(codes: np.ndarray, others: np.ndarray, levels: tuple[int, ...]) -> np.ndarray:
    """(...) and (...) codes -> (...) how many steps of rounding lie between two, summed over the dimensions."""
    basis = np.cumprod((1, *levels[:-1]))
    digits, other_digits = (given[..., None] // basis % levels for given in (codes, others))
    distances: np.ndarray = np.abs(digits - other_digits).sum(axis=-1)
    return distances
