"""What stands at a stream position: a symbol, and for media the richer content that goes with it.

text            E[id]
audio, own      E[q0] + sum_k R_k[q_k]
audio, heard    the same + W_a norm(z), z the codec encoder's continuous feature of the frame
image           E[c0] + P[patch]
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
    heard_at: Tensor  # (N,) positions with a heard feature
    heard: Tensor  # (N, F)
    seen_at: Tensor  # (S,) positions with a seen feature
    seen: Tensor  # (S, F)


def text_inputs(ids: Tensor, config: ModelConfig) -> StreamInputs:
    """Inputs of symbols alone: (B, T) -> StreamInputs with no media content."""
    none = torch.zeros(0, dtype=torch.int64)
    features = torch.zeros(0, config.feature_size)
    return StreamInputs(
        ids, none, torch.zeros(0, config.num_residuals, dtype=torch.int64), none, none, none, features, none, features
    )


class StreamEmbedding(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.residual_size = config.residual_size
        self.symbol = nn.Embedding(config.vocab_size, size)
        self.residual = nn.Embedding(config.num_residuals * config.residual_size, size)
        self.patch = nn.Embedding(config.num_patches, size)
        self.heard = nn.Linear(config.feature_size, size, bias=False)
        self.seen = nn.Linear(config.feature_size, size, bias=False)

    def forward(self, inputs: StreamInputs) -> Tensor:
        """-> (B, T, C)"""
        x = self.symbol(inputs.ids)
        flat = x.flatten(0, 1)  # (B*T, C)
        if len(inputs.frames_at):
            levels = torch.arange(inputs.frames.shape[1], device=inputs.frames.device) * self.residual_size
            flat = flat.index_add(0, inputs.frames_at, self.residual(inputs.frames + levels).sum(dim=1))
        if len(inputs.patches_at):
            flat = flat.index_add(0, inputs.patches_at, self.patch(inputs.patches))
        if len(inputs.heard_at):
            flat = flat.index_add(0, inputs.heard_at, self.heard(norm(inputs.heard)).to(flat.dtype))
        if len(inputs.seen_at):
            flat = flat.index_add(0, inputs.seen_at, self.seen(norm(inputs.seen)).to(flat.dtype))
        return flat.view_as(x)
