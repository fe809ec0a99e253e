"""The key/value cache of one stream: contiguous, and explicit, so that state is an argument."""

from __future__ import annotations

import torch
from torch import Tensor


class KVCache:
    """Keys and values of every layer for positions 0 .. length.

    `truncate` forgets the tail (an interrupted answer, a rejected speculation); `fork` copies, so that a shared
    prefix is computed once.
    """

    def __init__(self, *, num_layers: int, batch_size: int, num_heads: int, head_dim: int, max_seq_len: int) -> None:
        shape = (num_layers, batch_size, num_heads, max_seq_len, head_dim)
        self.keys = torch.empty(shape)  # nothing is read before it is written: a new answer clears no memory
        self.values = torch.empty(shape)
        self.length = 0

    @property
    def max_seq_len(self) -> int:
        return self.keys.shape[3]

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Stores (B, H, T, D) behind `length`; returns all keys and values so far. `advance` moves `length`."""
        end = self.length + keys.shape[2]
        if end > self.max_seq_len:
            raise ValueError(f"the context holds {self.max_seq_len} positions, {end} were asked for")
        self.keys[layer, :, :, self.length : end] = keys
        self.values[layer, :, :, self.length : end] = values
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def advance(self, count: int) -> None:
        self.length += count

    def truncate(self, length: int) -> None:
        assert 0 <= length <= self.length
        self.length = length

    def fork(self) -> KVCache:
        num_layers, batch_size, num_heads, max_seq_len, head_dim = self.keys.shape
        twin = KVCache(
            num_layers=num_layers,
            batch_size=batch_size,
            num_heads=num_heads,
            head_dim=head_dim,
            max_seq_len=max_seq_len,
        )
        twin.keys[:, :, :, : self.length] = self.keys[:, :, :, : self.length]
        twin.values[:, :, :, : self.length] = self.values[:, :, :, : self.length]
        twin.length = self.length
        return twin
