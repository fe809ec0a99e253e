"""Runs the network for the engine: many positions in one call, each as if it were alone.

B rows, C hidden size, V vocabulary, R residual codes, d depth head width, L layers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sensorium.engine import kernels
from sensorium.engine.kernels import PANEL, Matrix
from sensorium.engine.pages import PagedCache, PagePool
from sensorium.model.attention import GATE_CHANNELS
from sensorium.model.embed import ResidualEmbedding, StreamEmbedding
from sensorium.model.heads import DepthHead, DepthTransformer
from sensorium.model.transformer import MLP, Block, GroupedMLP, Transformer
from sensorium.model.weights import quantized
from sensorium.tokenizers.stream import Stream, between

MIN_ROWS = 4  # of a thread: for fewer it is not worth waking
CACHED_CONTEXTS = 16


class Piece(NamedTuple):
    """The next `length` positions of a stream: those behind what its cache holds, with room reserved for them there."""

    stream: Stream
    length: int
    cache: PagedCache


class Draws(NamedTuple):
    """How the R residual codes of a frame or patch are chosen."""

    temperature: np.float32
    guidance_scale: np.float32
    heights: np.ndarray  # (R,) see `kernels.draw`

    def guided(self, logits: np.ndarray) -> np.ndarray:
        """(S, N) of one state, or of two where a picture is guided away from the second -> (N,)"""
        guided: np.ndarray = logits[-1] + self.guidance_scale * (logits[0] - logits[-1])
        return guided


class Known(NamedTuple):
    """Of some pieces, one after the other."""

    hidden: np.ndarray  # (B, C) the hidden states of all their positions
    logits: np.ndarray  # (len(pieces), V) of what follows the last of each


class _Rows(NamedTuple):
    """Positions of some streams: as many rows of each, see `kernels.step`. And what becomes of them."""

    hidden: np.ndarray
    symbols: np.ndarray
    groups: np.ndarray
    at: np.ndarray
    pages: np.ndarray
    asked: list[int]
    logits: np.ndarray


class _Share(NamedTuple):
    """The rows from `start` to `stop`, which one thread computes. The first may go on a piece that began in share
    `after`; if not, that is its own number."""

    start: int
    stop: int
    after: int


class Runner:
    """A trained network, ready to run. Its matrices are read as releases hold them: in 8 bits if that is what they are,
    else in bfloat16."""

    def __init__(self, model: Transformer, *, cached_positions: int | None = None, threads: int = 1) -> None:
        """`cached_positions`: of all streams together, by default sixteen full contexts. So many `threads` share the
        rows of a call, if there are enough for all."""
        config = self.config = model.config
        self.pool = PagePool(config, num_positions=cached_positions or CACHED_CONTEXTS * config.max_seq_len)
        self._threads = threads
        self._helpers = ThreadPoolExecutor(threads, thread_name_prefix="sensorium-rows")  # starts none before it must
        self._embed = _Embedding(model.embed)
        blocks = [block for block in model.blocks if isinstance(block, Block)]
        embeddings = [block.attention.value_embedding for block in blocks]
        tables = [array(embedding.weight) for embedding in embeddings if embedding is not None]
        numbers = np.cumsum([embedding is not None for embedding in embeddings])
        self._cos, self._sin = array(model.rope.cos), array(model.rope.sin)
        self._weights = (
            np.stack((array(model.residual_scale), array(model.embed_scale)), axis=1),
            np.stack([_gate(block) for block in blocks]),
            np.stack(tables) if tables else np.zeros((0, 0, 0), np.float32),
            np.array([n - 1 if table is not None else -1 for n, table in zip(numbers, embeddings, strict=True)]),
            matrix(torch.stack([_projections(block) for block in blocks])),
            matrix(torch.stack([block.attention.output.weight for block in blocks])),
            matrix(torch.stack([torch.stack([mlp.up.weight for mlp in _mlps(block)]) for block in blocks])),
            matrix(torch.stack([torch.stack([mlp.down.weight for mlp in _mlps(block)]) for block in blocks])),
        )
        self._head = matrix(model.symbol_head.projection.weight)
        self._limit = np.float32(self.config.logit_cap)
        self._depth_head = _depth_head(model.depth_head)
        self._image_depth_head = _depth_head(model.image_depth_head) if model.image_depth_head else None

    @property
    def num_bytes(self) -> int:
        """Of the weights as the kernels read them."""
        held = [*self._weights, self._head, *vars(self._embed).values()]
        arrays = [array for each in held for array in (each if isinstance(each, Matrix) else (each,))]
        return sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))

    def new_cache(self) -> PagedCache:
        return PagedCache(self.pool)

    def close(self) -> None:
        self._helpers.shutdown()

    def forward(self, pieces: Sequence[Piece]) -> Known:
        """Continues each stream by its piece, in one go. No two pieces may be of one stream."""
        rows = self._rows(pieces)
        shares = self._shares([piece.length for piece in pieces])
        noted = np.zeros(len(shares), np.int64)
        first, *others = [(noted, number, share, rows) for number, share in enumerate(shares)]
        helped = [self._helpers.submit(self._compute, *other) for other in others]
        self._compute(*first)
        for each in helped:
            each.result()
        for piece in pieces:
            piece.cache.advance(piece.length)
        return Known(rows.hidden, rows.logits[:, : self.config.vocab_size])

    def logits(self, hidden: np.ndarray) -> np.ndarray:
        """(B, C) -> (B, V) of the symbols that follow."""
        logits = self._no_logits(len(hidden))
        kernels.predict(hidden, self._head, self._limit, logits)
        return logits[:, : self.config.vocab_size]

    def residuals(self, hiddens: Sequence[np.ndarray], symbol: int, draws: Callable[[int], Draws]) -> np.ndarray | None:
        """The (R,) residual codes of the frame or patch that `symbol` begins; None if it has none.

        `hiddens` are the (C,) hidden states before the symbol; where a picture is guided, those of two streams. `draws`
        says how R codes are chosen.
        """
        if symbol >= self.config.image_start:
            head, code = self._image_depth_head, symbol - self.config.image_start
        else:
            head, code = self._depth_head, symbol - self.config.audio_start
        return head(np.stack(hiddens), code, draws) if head and code >= 0 else None

    def _shares(self, lengths: Sequence[int]) -> list[_Share]:
        """Which rows each thread computes, of pieces of these lengths: as many as the others, and not fewer than are
        worth it."""
        num_rows = sum(lengths)
        num_shares = max(1, min(self._threads, num_rows // MIN_ROWS))
        cuts = [num_rows * number // num_shares for number in range(num_shares + 1)]
        shares: list[_Share] = []
        for start, stop in pairwise(cuts):
            begun = max(first for first in accumulate(lengths, initial=0) if first <= start)
            after = next(number for number, (_, end) in enumerate(pairwise(cuts)) if end > begun)
            shares.append(_Share(start, stop, after))
        return shares

    def _rows(self, pieces: Sequence[Piece]) -> _Rows:
        """All positions of these pieces, as the kernels read them."""
        ids: list[int] = []
        at: list[int] = []
        for stream, length, cache in pieces:
            ids += stream.ids[cache.length : cache.length + length]
            at += range(cache.length, cache.length + length)
        symbols = np.array(ids)
        pages = np.zeros((len(pieces), self.pool.pages_per_context), np.int64)
        for row, piece in zip(pages, pieces, strict=True):
            row[: piece.cache.num_pages] = piece.cache.pages
        if len(ids) > len(pieces):
            pages = np.repeat(pages, [piece.length for piece in pieces], axis=0)
        groups = np.zeros_like(symbols) if self.config.ffn == "shared" else (symbols >= self.config.audio_start) * 1
        asked = [end - 1 for end in accumulate(piece.length for piece in pieces)]
        hidden, logits = self._embed(ids, pieces), self._no_logits(len(pieces))
        return _Rows(hidden, symbols, groups, np.array(at), pages, asked, logits)

    def _no_logits(self, number: int) -> np.ndarray:
        return np.empty((number, len(self._head.panels) * PANEL), np.float32)

    def _compute(self, noted: np.ndarray, number: int, share: _Share, rows: _Rows) -> None:
        """Makes hidden states of the embedded symbols of a share."""
        arrays = (rows.hidden, rows.symbols, rows.groups, rows.at, rows.pages)
        hidden, symbols, groups, at, pages = (array[share.start : share.stop] for array in arrays)
        first, last = (bisect_left(rows.asked, end) for end in (share.start, share.stop))
        asked, logits = np.array(rows.asked[first:last], np.int64) - share.start, rows.logits[first:last]
        others, keys, values = (noted, number, share.after), self.pool.keys, self.pool.values
        tables = (self._cos, self._sin, *self._weights)
        head = (asked, self._head, self._limit, logits)
        try:
            kernels.step(hidden, symbols, groups, at, pages, *others, keys, values, *tables, *head)
        finally:
            noted[number] = self.config.num_layers  # whatever happened, nobody waits for ever


class _Embedding:
    """`StreamEmbedding` of the positions of some streams."""

    def __init__(self, embed: StreamEmbedding) -> None:
        self.symbol = array(embed.symbol.weight)
        self.patch = array(embed.patch.weight)
        self.frame_residual = _Residuals(embed.residual)
        self.patch_residual = _Residuals(embed.patch_residual) if embed.patch_residual else None
        self.heard, self.seen = matrix(embed.heard.weight), matrix(embed.seen.weight)

    def __call__(self, ids: list[int], pieces: Sequence[Piece]) -> np.ndarray:
        """The symbols of all pieces, (B,), and what goes with them -> (B, C)"""
        x = self.symbol[ids]
        heard: list[tuple[int, np.ndarray]] = []
        seen: list[tuple[int, np.ndarray]] = []
        row = 0
        for stream, length, cache in pieces:
            first, stop, shift = cache.length, cache.length + length, row - cache.length
            for at, residuals in between(stream.frames, first, stop):
                x[shift + at] += self.frame_residual(residuals)
            for at, patch in between(stream.patches, first, stop):
                x[shift + at] += self.patch[patch]
            for at, residuals in between(stream.patch_residuals, first, stop):
                assert self.patch_residual is not None
                x[shift + at] += self.patch_residual(residuals)
            heard += [(shift + at, feature) for at, feature in between(stream.heard, first, stop)]
            seen += [(shift + at, feature) for at, feature in between(stream.seen, first, stop)]
            row += length
        for features, weight in ((heard, self.heard), (seen, self.seen)):
            if features:
                rows, values = zip(*features, strict=True)
                x[list(rows)] += product(_normed(np.stack(values)), weight)
        return x


def _normed(rows: np.ndarray) -> np.ndarray:
    normed = np.ascontiguousarray(rows, np.float32)
    for row in normed:
        kernels.norm(row, row)
    return normed


def product(x: np.ndarray, weight: Matrix) -> np.ndarray:
    """(B, M) by an (M, N) -> (B, N), N a whole number of panels."""
    y = np.empty((len(x), len(weight.panels) * PANEL), np.float32)
    kernels.product(x, weight, y)
    return y


class _Residuals:
    def __init__(self, embedding: ResidualEmbedding) -> None:
        self.table = array(embedding.weight)
        self.offsets = embedding.offsets.cpu().numpy().copy()

    def __call__(self, residuals: np.ndarray) -> np.ndarray:
        return self.table[residuals + self.offsets].sum(axis=0)


def _depth_head(head: DepthHead | DepthTransformer) -> _DepthHead | _SlowDepthHead:
    return _DepthHead(head) if isinstance(head, DepthHead) else _SlowDepthHead(head)


class _DepthHead:
    """The prefix-sum depth head."""

    def __init__(self, head: DepthHead) -> None:
        levels, _, width = head.hidden.shape
        self.first = array(head.first.weight)
        self.previous = array(head.previous.weight).reshape(levels - 1, head.residual_size, width)
        self.start, self.up, self.down = matrix(head.hidden.mT), matrix(head.up.mT), matrix(head.down.mT)
        self.logits = matrix(head.logits.mT)
        self.conditional = head.conditional

    def __call__(self, hiddens: np.ndarray, code: int, draws: Callable[[int], Draws]) -> np.ndarray:
        """(S, C) hidden states -> (R,) codes."""
        temperature, guidance_scale, heights = draws(len(self.previous) + 1)
        codes: np.ndarray = kernels.residual_codes(
            hiddens,
            self.first[code],
            self.previous,
            self.start,
            self.up,
            self.down,
            self.logits,
            self.conditional,
            temperature,
            guidance_scale,
            heights,
        )
        return codes


class _SlowDepthHead:
    """The depth transformer of an ablation, as it is."""

    def __init__(self, head: DepthTransformer) -> None:
        self.head = head

    @torch.inference_mode()
    def __call__(self, hiddens: np.ndarray, code: int, draws: Callable[[int], Draws]) -> np.ndarray:
        drawn = draws(self.head.num_residuals)
        codes = [code]
        for height in drawn.heights:
            logits = self.head.step(torch.from_numpy(hiddens), torch.tensor([codes] * len(hiddens))).numpy()
            codes.append(kernels.draw(drawn.guided(logits), drawn.temperature, height))
        return np.array(codes[1:])


def _projections(block: Block) -> Tensor:
    """(3C, C): query, key and value in one."""
    attention = block.attention
    return torch.cat([linear.weight for linear in (attention.query, attention.key, attention.value)])


def _gate(block: Block) -> np.ndarray:
    """(H, gate channels); zeros, which leave the gate half open on nothing, where a layer has no value embedding."""
    gate = block.attention.value_gate
    return array(gate.weight) if gate else np.zeros((block.attention.num_heads, GATE_CHANNELS), np.float32)


def _mlps(block: Block) -> list[MLP]:
    mlp = block.mlp
    return [mlp.language, mlp.signal] if isinstance(mlp, GroupedMLP) else [mlp]


def matrix(weight: Tensor) -> Matrix:
    """(.., out, in), as torch keeps linear layers, in 8 bits if that loses nothing: if such a release was loaded. A
    release scales the rows of what it stores, which a depth head keeps the other way round, (.., in, out)."""
    weight = weight.detach().cpu().float()
    *outer, out, size = weight.shape
    scales, gains = np.zeros((*outer, 0), np.float32), np.zeros((*outer, 0), np.float32)
    if (lossless := _in_8_bits(weight)) is not None:
        whole, scale = lossless
        numbers, scales = whole.numpy(), np.pad(scale.numpy(), [(0, 0)] * len(outer) + [(0, -out % PANEL)])
    elif (lossless := _in_8_bits(weight.mT)) is not None:
        whole, gain = lossless
        numbers, gains = whole.mT.numpy(), gain.numpy()
    else:
        numbers = weight.bfloat16().view(torch.int16).numpy().view(np.uint16)
    laid = [kernels.panels(each.T) for each in numbers.reshape(-1, out, size)]
    return Matrix(np.stack(laid).reshape(*outer, *laid[0].shape), scales, gains)


def _in_8_bits(weight: Tensor) -> tuple[Tensor, Tensor] | None:
    """(.., R, C) -> int8 and the scale of each row, (.., R), if they are exactly what it was made from."""
    whole, scale = quantized(weight)
    return (whole, scale[..., 0]) if torch.allclose(whole * scale, weight, rtol=1e-5, atol=0.0) else None


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().contiguous().numpy().copy()
