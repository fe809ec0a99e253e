"""Causal self-attention with QK-norm, rotary positions and gated value embeddings.

B batch, T new positions, S all positions so far, H heads, D head width, C hidden size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.model.cache import KVCache
from sensorium.model.config import HEAD_DIM, ModelConfig
from sensorium.model.rope import Rope

GATE_CHANNELS = 32  # the value gate reads this many channels: enough to tell modalities apart, nearly free


def norm(x: Tensor) -> Tensor:
    """RMSNorm without gain (Zhang and Sennrich 2019): the next matrix can learn the gain."""
    return F.rms_norm(x, (x.shape[-1],))


class Attention(nn.Module):
    """QK-norm keeps logits bounded when modalities of different statistics meet (Chameleon, arXiv 2405.09818).

    A value embedding adds a per-symbol vector to the values, gated per head: free capacity (nanochat's log).
    """

    def __init__(self, config: ModelConfig, *, has_value_embedding: bool) -> None:
        super().__init__()
        size = config.hidden_size
        self.num_heads = config.num_heads
        self.query = nn.Linear(size, size, bias=False)
        self.key = nn.Linear(size, size, bias=False)
        self.value = nn.Linear(size, size, bias=False)
        self.output = nn.Linear(size, size, bias=False)
        self.value_embedding = nn.Embedding(config.vocab_size, size) if has_value_embedding else None
        self.value_gate = nn.Linear(GATE_CHANNELS, config.num_heads, bias=False) if has_value_embedding else None

    def forward(self, x: Tensor, ids: Tensor, rope: Rope, cache: KVCache | None, layer: int) -> Tensor:
        """x: (B, T, C), ids: (B, T) -> (B, T, C). With a cache the T positions follow those stored."""
        batch, length, _ = x.shape
        start = cache.length if cache is not None else 0
        query, key, value = (self._heads(project(x)) for project in (self.query, self.key, self.value))
        if self.value_embedding is not None and self.value_gate is not None:
            gate = 2.0 * torch.sigmoid(self.value_gate(x[..., :GATE_CHANNELS]))  # (B, T, H)
            extra = self._heads(self.value_embedding(ids))  # (B, H, T, D)
            value = value + gate.transpose(1, 2).unsqueeze(-1) * extra.to(value.dtype)
        query, key = norm(rope(query, start)), norm(rope(key, start))
        key, value = kept(key), kept(value.to(query.dtype))
        if cache is None:
            mixed = causal_attention(query, key, value)
        else:
            keys, values = cache.write(layer, key, value)
            mixed = F.scaled_dot_product_attention(query, keys, values, attn_mask=causal_mask(length, start))
        return self.output(mixed.transpose(1, 2).reshape(batch, length, -1))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, HEAD_DIM)).transpose(1, 2)  # (B, H, T, D)


def kept(x: Tensor) -> Tensor:
    """Rounded to bfloat16, as the engine keeps keys and values: from some hundred positions on, a step takes as long as
    it takes to fetch them."""
    return x.bfloat16().to(x.dtype)


def causal_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """(B, H, T, D) each -> (B, H, T, D), every position looking at itself and back.

    The CPU's fused kernel has a slow backward pass for short bfloat16 rows: written out it takes 21 ms against 60 ms
    (51 x 3 x 120 x 64, one core), so training on a CPU writes it out.
    """
    length = query.shape[2]
    if query.device.type != "cpu" or query.dtype != torch.bfloat16 or length > 512:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True)
    scores = query @ key.mT * query.shape[-1] ** -0.5  # (B, H, T, T)
    later = torch.ones(length, length, dtype=torch.bool).triu(diagonal=1)
    return scores.masked_fill(later, float("-inf")).softmax(dim=-1).to(value.dtype) @ value


def causal_mask(length: int, start: int) -> Tensor | None:
    """(T, S) True where position start+i may look. None for a single new position, which may look everywhere."""
    if length == 1:
        return None
    return torch.ones(length, start + length, dtype=torch.bool).tril(diagonal=start)
