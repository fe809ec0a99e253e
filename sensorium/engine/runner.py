"""Runs the network for the engine: stretches of prompt with torch, single positions with NumPy on fused weights.

One position at a time, a small network is all call overhead: an operator costs torch about as much as the arithmetic
in it. NumPy calls cost a third, its BLAS reads the (in, out) matrices at cache speed on one thread, and the fixed
attention scale, the gates and the three projections fold into fewer matrices. `bench/decode.py` has the figures.
The slow and obvious way is `Transformer.forward`; tests hold this file to it.

C hidden size, H heads, D head width, S positions so far, V vocabulary, R residual codes, d depth head width.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from sensorium.model.attention import GATE_CHANNELS
from sensorium.model.cache import KVCache
from sensorium.model.config import HEAD_DIM
from sensorium.model.embed import StreamEmbedding
from sensorium.model.heads import DepthHead, DepthTransformer
from sensorium.model.transformer import MLP, Block, GroupedMLP, Transformer
from sensorium.tokenizers.stream import Stream, collate_inputs

EPS = float(torch.finfo(torch.float32).eps)  # what torch's rms_norm adds


class Runner:
    """A trained network, ready to run. Its arrays are copies: training the module further does not change them."""

    def __init__(self, model: Transformer) -> None:
        threadpool_limits(1, user_api="blas")  # NumPy's: spinning up threads costs more than these products
        self.config = model.config
        self._model = model.eval()
        self._embed = _Embedding(model.embed)
        self._blocks = [_Block(block, model.config.audio_start) for block in model.blocks if isinstance(block, Block)]
        self._scales = list(zip(model.residual_scale.tolist(), model.embed_scale.tolist(), strict=True))
        self._head = _matrix(model.symbol_head.projection.weight)
        head = model.depth_head
        self._depth_head = _DepthHead(head) if isinstance(head, DepthHead) else _SlowDepthHead(head)
        cos, sin = _array(model.rope.cos), _array(model.rope.sin)
        self._cos = np.concatenate((cos, cos), axis=1)  # (S, D)
        self._sin = np.concatenate((-sin, sin), axis=1)

    def new_cache(self) -> KVCache:
        return self._model.new_cache()

    @torch.inference_mode()
    def prefill(self, stream: Stream, cache: KVCache) -> np.ndarray:
        """Continues the cached stream by all of `stream`; returns the last position's hidden state (C,)."""
        config = self.config
        inputs = collate_inputs([stream], num_residuals=config.num_residuals, feature_size=config.feature_size)
        return self._model(inputs, cache)[0, -1].numpy()

    def step(self, symbol: int, cache: KVCache, *, residuals: np.ndarray | None, patch: int | None) -> np.ndarray:
        """Continues the cached stream by one of our own symbols; returns its hidden state (C,)."""
        keys, values = cache.keys.numpy()[:, 0], cache.values.numpy()[:, 0]  # (L, H, S, D), shared with torch
        at = cache.length
        if at >= cache.max_seq_len:
            raise ValueError(f"the context holds {cache.max_seq_len} positions, no more")
        cos, sin = self._cos[at], self._sin[at]
        x = first = _norm(self._embed(symbol, residuals, patch))
        for layer, block in enumerate(self._blocks):
            residual_scale, embed_scale = self._scales[layer]
            x = residual_scale * x + embed_scale * first
            x += block.attend(_norm(x), symbol, cos, sin, keys[layer], values[layer], at)
            x += block.mlp(_norm(x), symbol)
        cache.advance(1)
        return _norm(x)

    def logits(self, hidden: np.ndarray) -> np.ndarray:
        """(C,) -> (V,) of the symbol that follows."""
        cap = self.config.logit_cap
        return cap * np.tanh(np.dot(hidden, self._head) / cap)

    def residuals(self, hidden: np.ndarray, code: int, draw: Callable[[np.ndarray], int]) -> np.ndarray:
        """The (R,) residual codes of the frame that follows, whose semantic code is known; `draw` picks from logits."""
        return self._depth_head(hidden, code, draw)


class _Embedding:
    """`StreamEmbedding` of one position of our own making: symbols, spoken frames, drawn patches."""

    def __init__(self, embed: StreamEmbedding) -> None:
        self.symbol = _array(embed.symbol.weight)
        self.patch = _array(embed.patch.weight)
        self.residual = _array(embed.residual.weight)
        self.levels = np.arange(len(self.residual) // embed.residual_size) * embed.residual_size

    def __call__(self, symbol: int, residuals: np.ndarray | None, patch: int | None) -> np.ndarray:
        x = self.symbol[symbol]
        if residuals is not None:
            x = x + self.residual[residuals + self.levels].sum(axis=0)
        if patch is not None:
            x = x + self.patch[patch]
        return x


class _Block:
    """One block's weights, as (in, out) matrices: query, key and value in one."""

    def __init__(self, block: Block, signal_start: int) -> None:
        attention = block.attention
        self.num_heads = attention.num_heads
        self.projections = np.concatenate(
            [_matrix(linear.weight) for linear in (attention.query, attention.key, attention.value)], axis=1
        )  # (C, 3C)
        self.output = _matrix(attention.output.weight)
        self.value_embedding: np.ndarray | None = None
        if attention.value_embedding is not None and attention.value_gate is not None:
            self.value_embedding = _array(attention.value_embedding.weight).reshape(-1, self.num_heads, HEAD_DIM)
            self.value_gate = _matrix(attention.value_gate.weight)  # (GATE_CHANNELS, H)
        self.signal_start = signal_start
        match block.mlp:
            case GroupedMLP(language=MLP() as language, signal=MLP() as signal):
                self.mlps = (_mlp(language), _mlp(signal))
            case MLP() as shared:
                self.mlps = (_mlp(shared), _mlp(shared))

    def attend(
        self,
        x: np.ndarray,
        symbol: int,
        cos: np.ndarray,
        sin: np.ndarray,
        keys: np.ndarray,
        values: np.ndarray,
        at: int,
    ) -> np.ndarray:
        """x (C,) at position `at`; writes its key and value into keys and values (H, S, D); returns (C,)."""
        num_heads = self.num_heads
        query_key_value = np.dot(x, self.projections).reshape(3 * num_heads, HEAD_DIM)
        pair = query_key_value[: 2 * num_heads]  # query and key alike are rotated and normed
        swapped = pair.reshape(-1, 2, HEAD_DIM // 2)[:, ::-1].reshape(-1, HEAD_DIM)
        pair = pair * cos + swapped * sin
        pair /= np.sqrt(np.vecdot(pair, pair) / HEAD_DIM + EPS)[:, None]
        value = query_key_value[2 * num_heads :]
        if self.value_embedding is not None:
            gate = 2.0 / (1.0 + np.exp(-np.dot(x[:GATE_CHANNELS], self.value_gate)))  # (H,)
            value = value + gate[:, None] * self.value_embedding[symbol]
        keys[:, at] = pair[num_heads:]
        values[:, at] = value
        query = pair[:num_heads, :, None] * HEAD_DIM**-0.5
        # Normed queries and keys bound a score by sqrt(D) = 8, so its exponential needs no maximum taken off first.
        weights = np.exp(np.matmul(keys[:, : at + 1], query))  # (H, S, 1)
        mixed = np.matmul(weights.transpose(0, 2, 1), values[:, : at + 1])[:, 0]  # (H, D)
        mixed /= weights.sum(axis=1)
        return np.dot(mixed.reshape(-1), self.output)

    def mlp(self, x: np.ndarray, symbol: int) -> np.ndarray:
        up, down = self.mlps[symbol >= self.signal_start]
        y = np.dot(x, up)
        np.maximum(y, 0.0, out=y)
        y *= y
        return np.dot(y, down)


class _DepthHead:
    """The prefix-sum depth head, one level after the other."""

    def __init__(self, head: DepthHead) -> None:
        levels, size, width = head.hidden.shape
        self.hidden = _array(head.hidden.transpose(0, 1).reshape(size, levels * width))  # all levels in one product
        self.first = _array(head.first.weight)
        self.previous = _array(head.previous.weight).reshape(levels - 1, head.residual_size, width)
        self.levels = list(zip(_array(head.up), _array(head.down), _array(head.logits), strict=True))
        self.conditional = head.conditional

    def __call__(self, hidden: np.ndarray, code: int, draw: Callable[[np.ndarray], int]) -> np.ndarray:
        starts = np.dot(hidden, self.hidden).reshape(len(self.levels), -1)  # (R, d)
        context = self.first[code] if self.conditional else 0.0
        codes: list[int] = []
        for level, (up, down, logits) in enumerate(self.levels):
            if level and self.conditional:
                context = context + self.previous[level - 1, codes[-1]]
            x = starts[level] + context
            y = np.maximum(np.dot(_norm(x), up), 0.0)
            x += np.dot(y * y, down)
            codes.append(draw(np.dot(_norm(x), logits)))
        return np.array(codes)


class _SlowDepthHead:
    """The depth transformer of an ablation, as it is."""

    def __init__(self, head: DepthTransformer) -> None:
        self.head = head

    @torch.inference_mode()
    def __call__(self, hidden: np.ndarray, code: int, draw: Callable[[np.ndarray], int]) -> np.ndarray:
        codes = [code]
        for _ in range(self.head.num_residuals):
            logits = self.head.step(torch.from_numpy(hidden).unsqueeze(0), torch.tensor([codes]))
            codes.append(draw(logits[0].numpy()))
        return np.array(codes[1:])


def _norm(x: np.ndarray) -> np.ndarray:
    return x * (1.0 / math.sqrt(np.dot(x, x) / len(x) + EPS))


def _mlp(mlp: MLP) -> tuple[np.ndarray, np.ndarray]:
    return _matrix(mlp.up.weight), _matrix(mlp.down.weight)


def _matrix(weight: Tensor) -> np.ndarray:
    """(out, in), as torch keeps a linear layer -> (in, out), contiguous."""
    return _array(weight.t())


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().contiguous().numpy().copy()
