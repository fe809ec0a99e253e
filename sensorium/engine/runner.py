"""Runs the network for the engine: stretches of prompt with torch, single positions with the compiled kernels.

C hidden size, H heads, V vocabulary, R residual codes, d depth head width, L layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from sensorium.engine import kernels
from sensorium.model.attention import GATE_CHANNELS
from sensorium.model.cache import KVCache
from sensorium.model.embed import ResidualEmbedding, StreamEmbedding
from sensorium.model.heads import DepthHead, DepthTransformer
from sensorium.model.transformer import MLP, Block, GroupedMLP, Transformer
from sensorium.tokenizers.stream import Stream, collate_inputs


class Runner:
    """A trained network, ready to run. Single positions see its matrices as bfloat16, which is what releases hold."""

    def __init__(self, model: Transformer) -> None:
        config = self.config = model.config
        self._model = model.eval()
        self._embed = _Embedding(model.embed)
        blocks = [block for block in model.blocks if isinstance(block, Block)]
        self._tables = {  # the value embeddings of the layers that have some
            layer: _array(block.attention.value_embedding.weight)
            for layer, block in enumerate(blocks)
            if block.attention.value_embedding is not None
        }
        self._extra = np.zeros((config.num_layers, config.hidden_size), np.float32)
        self._cos, self._sin = _array(model.rope.cos), _array(model.rope.sin)
        self._weights = (
            np.stack((_array(model.residual_scale), _array(model.embed_scale)), axis=1),
            np.stack([_gate(block) for block in blocks]),
            np.stack([_projections(block) for block in blocks]),
            np.stack([_matrix(block.attention.output.weight) for block in blocks]),
            np.stack([[_matrix(mlp.up.weight) for mlp in _mlps(block)] for block in blocks]),
            np.stack([[_matrix(mlp.down.weight) for mlp in _mlps(block)] for block in blocks]),
        )
        self._head = _matrix(model.symbol_head.projection.weight)
        self._depth_head = _depth_head(model.depth_head)
        self._image_depth_head = _depth_head(model.image_depth_head) if model.image_depth_head else None

    def new_cache(self) -> KVCache:
        return self._model.new_cache()

    @torch.inference_mode()
    def prefill(self, stream: Stream, cache: KVCache) -> np.ndarray:
        """Continues the cached stream by all of `stream`; returns the last position's hidden state (C,)."""
        return self._model(collate_inputs([stream], self.config), cache)[0, -1].numpy()

    def step(
        self,
        symbol: int,
        cache: KVCache,
        *,
        residuals: np.ndarray | None,
        patch: int | None,
        heard: np.ndarray | None = None,
    ) -> np.ndarray:
        """Continues the cached stream by one of our own symbols, or by a frame just heard with its feature (F,).

        Returns its hidden state (C,). Raises ValueError if the context is full.
        """
        if cache.length >= cache.max_seq_len:
            raise ValueError(f"the context holds {cache.max_seq_len} positions, no more")
        hidden = self._embed(symbol, residuals, patch, heard)
        for layer, table in self._tables.items():
            self._extra[layer] = table[symbol]
        group = int(self.config.ffn == "per_group" and symbol >= self.config.audio_start)
        keys, values = cache.keys.numpy(), cache.values.numpy()  # shared with torch
        kernels.step(hidden, self._extra, group, cache.length, keys, values, self._cos, self._sin, *self._weights)
        cache.advance(1)
        return hidden

    def logits(self, hidden: np.ndarray) -> np.ndarray:
        """(C,) -> (V,) of the symbol that follows."""
        logits = np.empty(self.config.vocab_size, np.float32)
        kernels.product(hidden, self._head, logits)
        return self.config.logit_cap * np.tanh(logits / self.config.logit_cap)

    def residuals(self, hiddens: Sequence[np.ndarray], symbol: int, draw: Callable[..., int]) -> np.ndarray | None:
        """The (R,) residual codes of the frame or patch that `symbol` begins; None if it has none.

        `draw` picks a code from its logits: one array for each of the (C,) hidden states before the symbol, of which
        there are two where a picture is guided.
        """
        if symbol >= self.config.image_start:
            head, code = self._image_depth_head, symbol - self.config.image_start
        else:
            head, code = self._depth_head, symbol - self.config.audio_start
        return head(hiddens, code, draw) if head and code >= 0 else None


class _Embedding:
    """`StreamEmbedding` of one position: symbols, frames spoken or heard, drawn patches."""

    def __init__(self, embed: StreamEmbedding) -> None:
        self.symbol = _array(embed.symbol.weight)
        self.patch = _array(embed.patch.weight)
        self.frame_residual = _Residuals(embed.residual)
        self.patch_residual = _Residuals(embed.patch_residual) if embed.patch_residual else None
        self.heard = _matrix(embed.heard.weight)
        assert len(self.heard) % 4 == 0, "the kernel takes four rows at a time"

    def __call__(
        self, symbol: int, residuals: np.ndarray | None, patch: int | None, heard: np.ndarray | None
    ) -> np.ndarray:
        x = self.symbol[symbol].copy()
        if patch is not None:
            x += self.patch[patch]
        if residuals is not None:
            table = self.frame_residual if patch is None else self.patch_residual
            assert table is not None
            x += table(residuals)
        if heard is not None:
            normed, projected = np.empty_like(heard), np.empty_like(x)
            kernels.norm(heard, normed)
            kernels.product(normed, self.heard, projected)
            x += projected
        return x


class _Residuals:
    def __init__(self, embedding: ResidualEmbedding) -> None:
        self.table = _array(embedding.weight)
        self.offsets = embedding.offsets.cpu().numpy().copy()

    def __call__(self, residuals: np.ndarray) -> np.ndarray:
        return self.table[residuals + self.offsets].sum(axis=0)


def _depth_head(head: DepthHead | DepthTransformer) -> _DepthHead | _SlowDepthHead:
    return _DepthHead(head) if isinstance(head, DepthHead) else _SlowDepthHead(head)


class _DepthHead:
    """The prefix-sum depth head, one level after the other."""

    def __init__(self, head: DepthHead) -> None:
        levels, size, width = head.hidden.shape
        self.hidden = _bits(head.hidden.transpose(0, 1).reshape(size, levels * width))  # all levels in one product
        self.first = _array(head.first.weight)
        self.previous = _array(head.previous.weight).reshape(levels - 1, head.residual_size, width)
        self.levels = list(zip(_bits(head.up), _bits(head.down), _bits(head.logits), strict=True))
        self.conditional = head.conditional

    def __call__(self, hiddens: Sequence[np.ndarray], code: int, draw: Callable[..., int]) -> np.ndarray:
        starts = np.empty((len(hiddens), self.hidden.shape[1]), np.float32)
        for hidden, start in zip(hiddens, starts, strict=True):
            kernels.product(hidden, self.hidden, start)
        starts = starts.reshape(len(hiddens), len(self.levels), -1)
        codes: list[int] = []
        context = np.zeros_like(self.first[0])
        for level, (up, down, head) in enumerate(self.levels):
            if self.conditional:
                context = context + (self.previous[level - 1, codes[-1]] if level else self.first[code])
            logits = np.empty((len(hiddens), head.shape[1]), np.float32)
            for x, row in zip(starts[:, level], logits, strict=True):
                kernels.residual_logits(x + context, up, down, head, row)
            codes.append(draw(*logits))
        return np.array(codes)


class _SlowDepthHead:
    """The depth transformer of an ablation, as it is."""

    def __init__(self, head: DepthTransformer) -> None:
        self.head = head

    @torch.inference_mode()
    def __call__(self, hiddens: Sequence[np.ndarray], code: int, draw: Callable[..., int]) -> np.ndarray:
        codes = [code]
        for _ in range(self.head.num_residuals):
            logits = self.head.step(torch.from_numpy(np.stack(hiddens)), torch.tensor([codes] * len(hiddens)))
            codes.append(draw(*logits.numpy()))
        return np.array(codes[1:])


def _projections(block: Block) -> np.ndarray:
    """(C, 3C): query, key and value in one."""
    attention = block.attention
    linears = (attention.query, attention.key, attention.value)
    return np.concatenate([_matrix(linear.weight) for linear in linears], axis=1)


def _gate(block: Block) -> np.ndarray:
    """(H, gate channels); zeros, which leave the gate half open on nothing, where a layer has no value embedding."""
    gate = block.attention.value_gate
    return _array(gate.weight) if gate else np.zeros((block.attention.num_heads, GATE_CHANNELS), np.float32)


def _mlps(block: Block) -> list[MLP]:
    mlp = block.mlp
    return [mlp.language, mlp.signal] if isinstance(mlp, GroupedMLP) else [mlp]


def _matrix(weight: Tensor) -> np.ndarray:
    """(out, in), as torch keeps a linear layer -> (in, out) bfloat16 bits."""
    return _bits(weight.t())


def _bits(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().to(torch.bfloat16).contiguous().view(torch.int16).numpy().view(np.uint16).copy()


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().contiguous().numpy().copy()
