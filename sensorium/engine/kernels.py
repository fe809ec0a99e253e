"""The arithmetic of stream positions, compiled by numba: many rows at once, each as if it were alone.

One position at a time, a small network is all overhead: every operator of torch costs more than the arithmetic in it.
So one compiled call does a whole step, outside Python's global lock. Its rows are positions of any streams: of one
prompt, of many answers. Weights are read as releases store them, in bfloat16 or in 8 bits, and exactly widened: what a
step for few rows takes is the time to fetch them. Keys and values are kept in bfloat16, as the modules round them.

A row's figures are the same to the last bit whatever rows share the call: every sum is taken in one fixed order. So an
answer does not depend on the load, on what a cache held, or on where a prompt was cut.

`Transformer.forward` says the same in torch; `tests/engine/test_runner.py` holds the two together.
B rows, L layers, C hidden size, H heads, D head width, G feed-forward groups, P panels of PANEL columns. A matrix is a
pair: panels, and what each of its columns is multiplied by, which is nothing (no numbers) unless it is in 8 bits.
"""

from __future__ import annotations

from itertools import product as pairs
from typing import Any

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

EPS = np.float32(np.finfo(np.float32).eps)  # what torch's rms_norm adds
ZERO, ONE, TWO = np.float32(0), np.float32(1), np.float32(2)
PANEL = 64  # columns of a matrix that lie together, one row of them after the other: a product reads them as a stream
LANES = 16  # of a vector, which LLVM splits where the processor's are shorter; as many positions lie in a page
VECTOR = ir.VectorType(ir.FloatType(), LANES)
BYTES, BITS, WIDE = (ir.VectorType(ir.IntType(size), LANES) for size in (8, 16, 32))


def panels(weight: np.ndarray) -> np.ndarray:
    """(M, N) -> (P, M, PANEL), zeros behind the last column: how `product` reads a matrix."""
    rows, columns = weight.shape
    padded = np.zeros((rows, -(-columns // PANEL) * PANEL), weight.dtype)
    padded[:, :columns] = weight
    return np.ascontiguousarray(padded.reshape(rows, -1, PANEL).transpose(1, 0, 2))


def tile(rows: int, vectors: int, *, times: int = 1, onto: bool = False, chains: int = 1) -> Any:
    """Compiles a function f(x, weight, y, row, column, ahead) that does

        y[row : row + rows, column : ..] = x[row : row + rows] @ weight           LANES * vectors * times columns

    or adds it `onto` y, so many `vectors` of columns at a time. x, y (B, ..) float32, weight (M, N) bfloat16 bits or
    int8; rows lie one behind the other.

    Numba finds no vectors in the obvious loops: it cannot know that the operands do not overlap. So this writes the
    loop in LLVM's language: twenty times as fast for sixteen rows. It stands in this file for numba's cache, which
    only notices that a function's own file has changed.

    Sums stay in registers, and each takes its terms in the order of x: so what a row comes to does not depend on the
    others. A lone sum would wait for itself at every term: it is better taken in `chains`, of every so manieth term (M
    must be a multiple), added at the end. Such a weight is read once and lies in pieces: what lies `ahead`, so many
    numbers behind it, is fetched meanwhile.
    """

    @intrinsic
    def multiply(typing: Any, x: Any, weight: Any, y: Any, row: Any, column: Any, ahead: Any) -> Any:
        is_bits = weight.dtype is types.uint16

        def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            kinds = zip(signature.args[:3], args[:3], strict=True)
            arrays = [context.make_array(kind)(context, builder, array) for kind, array in kinds]
            loop = _Loop(builder, *arrays, *args[3:], is_bits=is_bits)
            for number in range(times):
                loop.write(rows, vectors, chains, first=number * vectors, onto=onto)
            return context.get_dummy_value()

        return types.void(x, weight, y, types.intp, types.intp, types.intp), generate

    return multiply


class _Loop:
    """Writes the instructions of one tile."""

    def __init__(
        self, builder: Any, x: Any, weight: Any, y: Any, row: Any, column: Any, ahead: Any, *, is_bits: bool
    ) -> None:
        self.builder = builder
        self.x, self.y, self.row, self.column, self.ahead = x, y, row, column, ahead
        self.depth, self.width = cgutils.unpack_tuple(builder, weight.shape)
        self.weights = weight.data
        self.size = self.depth.type
        self.is_bits = is_bits
        kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
        self.fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32")

    def write(self, rows: int, vectors: int, chains: int, *, first: int, onto: bool) -> None:
        """`first`: the vector of columns that it begins with."""
        builder, size = self.builder, self.size
        columns = range(first, first + vectors)
        numbers = [self.line(self.x, r) for r in range(rows)]
        out = [builder.gep(self.line(self.y, r), [self.column]) for r in range(rows)]
        places = list(pairs(range(rows), columns))
        sums = {(*place, c): cgutils.alloca_once(builder, VECTOR) for place in places for c in range(chains)}
        for (r, v, c), total in sums.items():
            builder.store(self.load(out[r], v) if onto and not c else ir.Constant(VECTOR, None), total)
        with cgutils.for_range(builder, builder.udiv(self.depth, size(chains))) as loop:
            for c in range(chains):
                term = builder.add(builder.mul(loop.index, size(chains)), size(c))
                here = builder.gep(self.weights, [builder.mul(term, self.width)])
                if chains > 1:
                    for v in columns:
                        self.prefetch(here, v)
                factors = {v: self.widened(here, v) for v in columns}
                for r in range(rows):
                    number = self.everywhere(builder.load(builder.gep(numbers[r], [term])))
                    for v in columns:
                        total = sums[r, v, c]
                        builder.store(builder.call(self.fma, [number, factors[v], builder.load(total)]), total)
        for r, v in places:
            total = builder.load(sums[r, v, 0])
            for c in range(1, chains):
                total = builder.fadd(total, builder.load(sums[r, v, c]))
            builder.store(total, self.at(out[r], v, VECTOR), align=4)

    def line(self, array: Any, number: int) -> Any:
        """Where row number `number` of the tile begins."""
        length = cgutils.unpack_tuple(self.builder, array.shape)[1]
        return self.builder.gep(array.data, [self.builder.mul(self.builder.add(self.row, self.size(number)), length)])

    def at(self, start: Any, number: int, kind: Any) -> Any:
        """Where vector number `number` behind `start` begins."""
        return self.builder.bitcast(self.builder.gep(start, [self.size(number * LANES)]), kind.as_pointer())

    def load(self, start: Any, number: int) -> Any:
        return self.builder.load(self.at(start, number, VECTOR), align=4)

    def widened(self, start: Any, number: int) -> Any:
        """bfloat16 bits are the upper half of a float32."""
        if not self.is_bits:
            whole = self.builder.sext(self.builder.load(self.at(start, number, BYTES), align=1), WIDE)
            return self.builder.sitofp(whole, VECTOR)
        bits = self.builder.zext(self.builder.load(self.at(start, number, BITS), align=2), WIDE)
        return self.builder.bitcast(self.builder.shl(bits, ir.Constant(WIDE, [16] * LANES)), VECTOR)

    def prefetch(self, start: Any, number: int) -> None:
        """To be read, into the nearest cache."""
        count, byte = ir.IntType(32), ir.IntType(8).as_pointer()
        line = self.builder.bitcast(
            self.builder.gep(start, [self.builder.add(self.ahead, self.size(number * LANES))]), byte
        )
        kind = ir.FunctionType(ir.VoidType(), [byte, count, count, count])
        fetch = cgutils.get_or_insert_function(self.builder.module, kind, "llvm.prefetch.p0i8")
        self.builder.call(fetch, [line, count(0), count(3), count(1)])

    def everywhere(self, number: Any) -> Any:
        """A number in all lanes."""
        alone = self.builder.insert_element(ir.Constant(VECTOR, ir.Undefined), number, ir.IntType(32)(0))
        return self.builder.shuffle_vector(alone, alone, ir.Constant(WIDE, [0] * LANES))


# Tiles of as many sums as registers hold beside the factors: 16 vectors of the 32 that processors with AVX-512 have, 6
# elsewhere, where a vector takes two of 16 registers, or four of 32.
WIDE_REGISTERS = get_host_cpu_features().get("avx512f", False)
MANY = 8 if WIDE_REGISTERS else 6
_many_rows = tile(8, 2, times=2) if WIDE_REGISTERS else tile(6, 1, times=4)
_four_rows = tile(4, 4) if WIDE_REGISTERS else tile(4, 1, times=4)
_two_rows = tile(2, 4) if WIDE_REGISTERS else tile(2, 2, times=2)
_one_row = tile(1, 4)
_scores, _mixture = tile(1, 1, chains=8), tile(1, 4, onto=True, chains=2)


@njit(nogil=True, cache=True)
def product(x, weight, scales, y):
    """y (B, P * PANEL) = x (B, M) @ weight (P, M, PANEL), each column times its scale (P * PANEL,) if there are any."""
    num_rows = x.shape[0]
    for number in range(weight.shape[0]):
        panel, column, row = weight[number], number * PANEL, 0
        while row + MANY <= num_rows:
            _many_rows(x, panel, y, row, column, 0)
            row += MANY
        if row + 4 <= num_rows:
            _four_rows(x, panel, y, row, column, 0)
            row += 4
        if row + 2 <= num_rows:
            _two_rows(x, panel, y, row, column, 0)
            row += 2
        if row < num_rows:
            _one_row(x, panel, y, row, column, 0)
        if len(scales):
            for row in range(num_rows):
                for i in range(column, column + PANEL):
                    y[row, i] *= scales[i]


@njit(fastmath=True, nogil=True, cache=True)
def norm(x, y):
    """y (N,) = x over its root mean square; y may be x."""
    total = ZERO
    for i in range(len(x)):
        total += x[i] * x[i]
    scale = ONE / np.sqrt(total / np.float32(len(x)) + EPS)
    for i in range(len(x)):
        y[i] = x[i] * scale


@njit(fastmath=True, nogil=True, cache=True)
def centre(x, gain, offset):
    """Layer norm of x (C,), in place."""
    mean = square = ZERO
    for i in range(len(x)):
        mean += x[i]
    mean /= np.float32(len(x))
    for i in range(len(x)):
        square += (x[i] - mean) ** 2
    scale = ONE / np.sqrt(square / np.float32(len(x)) + np.float32(1e-5))
    for i in range(len(x)):
        x[i] = (x[i] - mean) * scale * gain[i] + offset[i]


@njit(fastmath=True, nogil=True, cache=True)
def rotate(x, cos, sin):
    """Turns the pairs (i, i + D/2) of one head's x (D,) in place, then norms it."""
    half = len(x) // 2
    for i in range(half):
        first, second = x[i], x[i + half]
        x[i] = first * cos[i] - second * sin[i]
        x[i + half] = first * sin[i] + second * cos[i]
    norm(x, x)


@njit(inline="always")
def exponential(x):
    """e^x in float32, for x within +-80: so a loop of it becomes vectors, which a call of the C library's would not.

    2^(x / ln 2) by the whole part, which goes into the exponent's bits, and a polynomial of the rest (within 2e-7).
    """
    scaled = x * np.float32(1.4426950408889634)
    whole = np.floor(scaled + np.float32(0.5))
    rest = (scaled - whole) * np.float32(0.6931471805599453)
    power = np.float32(1 / 720)
    for coefficient in (1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0):
        power = power * rest + np.float32(coefficient)
    return power * np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)).view(np.float32)


@njit(inline="always")
def gelu(x):
    """By its tanh: x / (1 + e^(-2 sqrt(2 / pi) (x + 0.044715 x^3)))."""
    inner = np.float32(-1.5957691216057308) * (x + np.float32(0.044715) * x * x * x)
    return x / (ONE + exponential(min(max(inner, np.float32(-80)), np.float32(80))))


@njit(inline="always")
def rounded(x):
    """The bits of the bfloat16 next to a float32, of two as near the even one: as torch rounds."""
    bits = np.float32(x).view(np.uint32)
    return np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))


@njit(fastmath=True, nogil=True, cache=True)
def attend(query, keys, values, pages, layer, length, mixed):
    """mixed (1, C): all heads of a query (1, C) look at positions 0 .. length, in `pages` of keys and values.

    A page's keys lie feature by feature, so that its scores are one vector. Page by page, memory is read in a row.
    """
    num_heads, dim = keys.shape[2], keys.shape[3]
    weights = np.empty((num_heads, (length + LANES - 1) // LANES * LANES), np.float32)
    scale = ONE / np.sqrt(np.float32(dim))
    last, stride = (length - 1) // LANES, keys[0].size
    for start in range(0, length, LANES):
        page = keys[pages[start // LANES], layer]  # (H, D, LANES)
        ahead = (pages[min(start // LANES + 1, last)] - pages[start // LANES]) * stride
        for head in range(num_heads):
            part = query[:, head * dim : (head + 1) * dim]
            _scores(part, page[head], weights[head : head + 1], 0, start, ahead)
    for head in range(num_heads):
        total = ZERO
        for at in range(length):
            # normed queries and keys keep a score within sqrt(D) = 8: no maximum need be taken off first
            weights[head, at] = exponential(weights[head, at] * scale)
            total += weights[head, at]
        for at in range(length):
            weights[head, at] /= total
        weights[head, length:] = ZERO  # the rest of the last page is anything
    mixed[:] = ZERO
    for start in range(0, length, LANES):
        page = values[pages[start // LANES], layer]  # (H, LANES, D)
        ahead = (pages[min(start // LANES + 1, last)] - pages[start // LANES]) * stride
        for head in range(num_heads):
            part = weights[head : head + 1, start : start + LANES]
            _mixture(part, page[head], mixed, 0, head * dim, ahead)


@njit(fastmath=True, nogil=True, cache=True)
def look_around(x, ids, at, pages, keys, values, cos, sin, gates, tables, table, layer, mixed):
    """Attention of one layer: x (B, 3C) projected queries, keys and values -> mixed (B, C).

    First all rows write their key and value, then all look: rows of one stream see those of it that share the call.
    """
    size = mixed.shape[1]
    num_heads, dim = keys.shape[2], keys.shape[3]
    for row in range(len(x)):
        page, slot = pages[row, at[row] // LANES], at[row] % LANES
        for head in range(num_heads):
            start = head * dim
            rotate(x[row, start : start + dim], cos[at[row]], sin[at[row]])
            key = x[row, size + start : size + start + dim]
            rotate(key, cos[at[row]], sin[at[row]])
            for i in range(dim):
                keys[page, layer, head, i, slot] = rounded(key[i])
            value = x[row, 2 * size + start : 2 * size + start + dim]
            if table >= 0:
                opened = ZERO
                for i in range(gates.shape[1]):
                    opened += mixed[row, i] * gates[head, i]  # `mixed` still holds the layer's normed input
                gate = TWO / (ONE + np.exp(-opened))
                for i in range(dim):
                    value[i] += gate * tables[table, ids[row], start + i]
            for i in range(dim):
                values[page, layer, head, slot, i] = rounded(value[i])
    for row in range(len(x)):
        attend(x[row : row + 1, :size], keys, values, pages[row], layer, at[row] + 1, mixed[row : row + 1])


@njit(fastmath=True, nogil=True, cache=True)
def feed_forward(x, groups, ups, downs, y):
    """y (B, C): each row of x through the feed-forward layer of its group, of G."""
    for group in range(len(ups[0])):
        rows = np.nonzero(groups == group)[0]
        if len(rows) == 0:
            continue
        taken = np.empty((len(rows), x.shape[1]), np.float32)
        wide = np.empty((len(rows), ups[0].shape[1] * PANEL), np.float32)
        given = np.empty((len(rows), downs[0].shape[1] * PANEL), np.float32)
        for i, row in enumerate(rows):
            taken[i] = x[row]
        product(taken, ups[0][group], ups[1][group], wide)
        for i in range(len(rows)):
            for j in range(wide.shape[1]):
                wide[i, j] = max(wide[i, j], ZERO) ** 2
        product(wide, downs[0][group], downs[1][group], given)
        for i, row in enumerate(rows):
            y[row] = given[i]


@njit(fastmath=True, nogil=True, cache=True)
def step(
    x,  # (B, C) the embedded symbols; become the hidden states
    ids,  # (B,) the symbols
    groups,  # (B,) which feed-forward layer each takes, of G
    at,  # (B,) their positions in their streams
    pages,  # (B, N) the pages that hold each one's stream
    keys,  # (pages, L, H, D, LANES) bfloat16 bits
    values,  # (pages, L, H, LANES, D) bfloat16 bits
    cos,  # (S, D/2)
    sin,
    scales,  # (L, 2) of the residual stream and of the embedding
    gates,  # (L, H, gate channels)
    tables,  # (K, V, C) value embeddings
    table_of,  # (L,) which of them a layer has, or -1
    projections,  # (L, P, C, PANEL) and scales (L, P * PANEL) or (L, 0), like all below: query, key, value
    outputs,  # (L, P, C, PANEL)
    ups,  # (L, G, P, C, PANEL)
    downs,  # (L, G, P, 4C, PANEL)
):
    """The network on B positions. Writes their keys and values into their pages."""
    num_rows, size = x.shape
    normed, given = np.empty((num_rows, size), np.float32), np.empty((num_rows, size), np.float32)
    projected = np.empty((num_rows, 3 * size), np.float32)
    for row in range(num_rows):
        norm(x[row], x[row])
    first = x.copy()
    for layer in range(len(scales)):
        for row in range(num_rows):
            for i in range(size):
                x[row, i] = scales[layer, 0] * x[row, i] + scales[layer, 1] * first[row, i]
            norm(x[row], normed[row])
        product(normed, projections[0][layer], projections[1][layer], projected)
        look_around(
            projected, ids, at, pages, keys, values, cos, sin, gates[layer], tables, table_of[layer], layer, normed
        )
        product(normed, outputs[0][layer], outputs[1][layer], given)
        for row in range(num_rows):
            for i in range(size):
                x[row, i] += given[row, i]
            norm(x[row], normed[row])
        up, down = (ups[0][layer], ups[1][layer]), (downs[0][layer], downs[1][layer])
        feed_forward(normed, groups, up, down, given)
        for row in range(num_rows):
            for i in range(size):
                x[row, i] += given[row, i]
    for row in range(num_rows):
        norm(x[row], x[row])


@njit(fastmath=True, nogil=True, cache=True)
def residual_logits(x, up, down, head, logits):
    """One level of the depth head: x (B, d), up (P, d, PANEL), down, head -> logits (B, N). Overwrites x."""
    normed, wide = np.empty_like(x), np.empty((len(x), len(up[0]) * PANEL), np.float32)
    for row in range(len(x)):
        norm(x[row], normed[row])
    product(normed, up[0], up[1], wide)
    for row in range(len(x)):
        for i in range(wide.shape[1]):
            wide[row, i] = max(wide[row, i], ZERO) ** 2
    product(wide, down[0], down[1], normed)
    for row in range(len(x)):
        for i in range(x.shape[1]):
            x[row, i] += normed[row, i]
        norm(x[row], normed[row])
    product(normed, head[0], head[1], logits)


@njit(fastmath=True, nogil=True, cache=True)
def banded(x, filters, first, stop, y):
    """y (T, N) = x (T, M) through filters (N, M) that are zero but from `first` until `stop`, (N,)."""
    for t in range(len(x)):
        for band in range(len(filters)):
            total = ZERO
            for i in range(first[band], stop[band]):
                total += x[t, i] * filters[band, i]
            y[t, band] = total


@njit(fastmath=True, nogil=True, cache=True)
def convolve(
    x,  # (T, C) steps; become those behind the last block
    pasts,  # (L, W - 1, C) what came before, of each block's input
    newer,  # (L, W - 1, C) becomes what the next call takes for `pasts`
    taps,  # (L, W, C)
    offsets,  # (L, 5, C): of the taps; gain and offset of the norm; of the way down; what the block adds is scaled by
    wide_offsets,  # (L, P * PANEL) of the way up
    ups,  # (L, P, C, PANEL), and scales, as in `step`
    downs,  # (L, P, M, PANEL)
):
    """A stack of ConvNeXt blocks on some steps of one clip: `tokenizers.conv.ConvStack`."""
    length, size = x.shape
    num_layers, width = taps.shape[:2]
    whole, y = np.empty((width - 1 + length, size), np.float32), np.empty((length, size), np.float32)
    wide = np.empty((length, wide_offsets.shape[1]), np.float32)
    given = np.empty((length, downs[0].shape[1] * PANEL), np.float32)
    for layer in range(num_layers):
        whole[: width - 1], whole[width - 1 :] = pasts[layer], x
        newer[layer] = whole[length:]
        for t in range(length):
            y[t] = offsets[layer, 0]
            for step_back in range(width):
                for i in range(size):
                    y[t, i] += whole[t + step_back, i] * taps[layer, step_back, i]
            centre(y[t], offsets[layer, 1], offsets[layer, 2])
        product(y, ups[0][layer], ups[1][layer], wide)
        for t in range(length):
            for j in range(wide.shape[1]):
                wide[t, j] = gelu(wide[t, j] + wide_offsets[layer, j])
        product(wide, downs[0][layer], downs[1][layer], given)
        for t in range(length):
            for i in range(size):
                x[t, i] += offsets[layer, 4, i] * (given[t, i] + offsets[layer, 3, i])
