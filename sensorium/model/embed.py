"""What stands at a stream position: a symbol, and for media the richer content that goes with it.

text            E[id]
audio, own      E[q0] + sum_k R_k[q_k]
audio, heard    the same + W_a norm(z), z the codec encoder's continuous feature of the frame
image, own      E[c0] + P[patch] + sum_k S_k[c_k]
image, seen     the same + W_i norm(z), z the tile encoder's continuous feature of the patch
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from sensorium.model.attention import norm
from sensorium.model.config import ModelConfig


class StreamInputs(NamedTuple):
    """A batch of streams. `*_at` are flat indices into B x T: media content is sparse."""

    ids: Tensor  # (B, T) int64
    frames_at: Tensor  # (M,) positions that are audio frames
    frames: Tensor  # (M, R) their residual codes
    patches_at: Tensor  # (P,) positions that are image patches
    patches: Tensor  # (P,) which patch of the picture, in raster order
    patch_residuals_at: Tensor  # (K,) positions that are image patches with residual codes
    patch_residuals: Tensor  # (K, num_image_residuals)
    heard_at: Tensor  # (N,) positions with a heard feature
    heard: Tensor  # (N, F)
    seen_at: Tensor  # (S,) positions with a seen feature
    seen: Tensor  # (S, F)


def text_inputs(ids: Tensor, config: ModelConfig) -> StreamInputs:
    """Inputs of symbols alone: (B, T) -> StreamInputs with no media content."""
    none = torch.zeros(0, dtype=torch.int64)
    frames = torch.zeros(0, config.num_residuals, dtype=torch.int64)
    patch_residuals = torch.zeros(0, config.num_image_residuals, dtype=torch.int64)
    features = torch.zeros(0, config.feature_size)
    return StreamInputs(ids, none, frames, none, none, none, patch_residuals, none, features, none, features)


class ResidualEmbedding(nn.Embedding):
    """One table for all levels of residual codes, one after the other."""

    offsets: Tensor

    def __init__(self, num_residuals: int, residual_size: int, size: int) -> None:
        super().__init__(num_residuals * residual_size, size)
        self.register_buffer("offsets", torch.arange(num_residuals) * residual_size, persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        """(N, R) codes -> (N, size), the sum over the levels."""
        return super().forward(input + self.offsets).sum(dim=1)


class StreamEmbedding(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.symbol = nn.Embedding(config.vocab_size, size)
        self.residual = ResidualEmbedding(config.num_residuals, config.residual_size, size)
        self.patch = nn.Embedding(config.num_patches, size)
        self.patch_residual = (
            ResidualEmbedding(config.num_image_residuals, config.image_residual_size, size)
            if config.num_image_residuals
            else None
        )
        self.heard = nn.Linear(config.feature_size, size, bias=False)
        self.seen = nn.Linear(config.feature_size, size, bias=False)

    def forward(self, inputs: StreamInputs) -> Tensor:
        """-> (B, T, C)"""
        x = self.symbol(inputs.ids)
        flat = x.flatten(0, 1)  # (B*T, C)
        if len(inputs.frames_at):
            flat = flat.index_add(0, inputs.frames_at, self.residual(inputs.frames))
        if len(inputs.patches_at):
            flat = flat.index_add(0, inputs.patches_at, self.patch(inputs.patches))
        if self.patch_residual is not None and len(inputs.patch_residuals_at):
            flat = flat.index_add(0, inputs.patch_residuals_at, self.patch_residual(inputs.patch_residuals))
        if len(inputs.heard_at):
            flat = flat.index_add(0, inputs.heard_at, self.heard(norm(inputs.heard)).to(flat.dtype))
        if len(inputs.seen_at):
            flat = flat.index_add(0, inputs.seen_at, self.seen(norm(inputs.seen)).to(flat.dtype))
        return flat.view_as(x)
