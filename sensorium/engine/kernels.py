"""The arithmetic of stream positions, compiled by numba: many rows at once, each as if it were alone.

One position at a time, a small network is all overhead: every operator of torch costs more than the arithmetic in it.
So one compiled call does a whole step, outside Python's global lock. Its rows are positions of any streams: of one
prompt, of many answers. Weights are read as releases store them: bfloat16 is widened exactly, and 8 bits are multiplied
as whole numbers, by rows rounded to some 14 bits: two terms an instruction, and half the bytes to fetch. Keys and
values are kept in bfloat16, as the modules round them.

A row's figures are the same to the last bit whatever rows share the call: every sum is taken in one fixed order, or is
one of whole numbers. So an answer does not depend on the load, on what a cache held, or on where a prompt was cut.

`Transformer.forward` says the same in torch; `tests/engine/test_runner.py` holds the two together.
B rows, L layers, C hidden size, H heads, D head width, G feed-forward groups, P panels of PANEL columns.
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numba import njit, types
from numba.extending import overload

from sensorium.engine import tiles
from sensorium.engine.tiles import LANES, TERMS, WIDE_REGISTERS, observe, publish, tile

# Numba compiles anew when a function's own file has changed, and notices no other: so this one names what it holds of.
TILES = "61c275c9384398ce"
assert blake2b(Path(tiles.__file__).read_bytes(), digest_size=8).hexdigest() == TILES, "write tiles.py's digest here"

EPS = np.float32(np.finfo(np.float32).eps)  # what torch's rms_norm adds
ZERO, ONE, TWO = np.float32(0), np.float32(1), np.float32(2)
PANEL = 64  # columns of a matrix that lie together, one row of them after the other: a product reads them as a stream
LARGEST = 2**15 - 1  # whole number of a row


class Matrix(NamedTuple):
    """As `product` reads it. Of several that lie one behind the other, all arrays have dimensions before these."""

    panels: np.ndarray  # (P, M, PANEL) bfloat16 bits, or (P, M / TERMS, PANEL * TERMS) int8
    scales: np.ndarray  # (P * PANEL,) what its columns are multiplied by, and ..
    gains: np.ndarray  # (M,) .. its rows, in 8 bits; (0,) for nothing


def panels(weight: np.ndarray) -> np.ndarray:
    """(M, N) bfloat16 bits or int8 -> those of a `Matrix`, zeros behind the last column and row."""
    rows, columns = weight.shape
    terms = TERMS if weight.dtype == np.int8 else 1
    padded = np.zeros((-(-rows // terms) * terms, -(-columns // PANEL) * PANEL), weight.dtype)
    padded[:rows, :columns] = weight
    laid = padded.reshape(-1, terms, padded.shape[1] // PANEL, PANEL).transpose(2, 0, 3, 1)
    return np.ascontiguousarray(laid).reshape(laid.shape[0], laid.shape[1], PANEL * terms)


@njit(inline="always")
def of(matrix, number):
    """One of several matrices that lie one behind the other."""
    return Matrix(matrix.panels[number], matrix.scales[number], matrix.gains[number])


# Tiles of as many sums as registers hold beside the factors: 16 vectors of the 32 that processors with AVX-512 have, 6
# elsewhere, where a vector takes two of 16 registers, or four of 32.
MANY = 8 if WIDE_REGISTERS else 6
_many_rows = tile(8, 2, times=2) if WIDE_REGISTERS else tile(6, 1, times=4)
_four_rows = tile(4, 4) if WIDE_REGISTERS else tile(4, 1, times=4)
_two_rows = tile(2, 4) if WIDE_REGISTERS else tile(2, 2, times=2)
_one_row = tile(1, 4)
_scores, _mixture = tile(1, 1, chains=8), tile(1, 4, onto=True, chains=2)


@njit(nogil=True, cache=True)
def product(x, weight, y):
    """y (B, P * PANEL) = x (B, M) by a `Matrix`."""
    num_rows = x.shape[0]
    x, units = _operands(x, weight)
    for number in range(weight.panels.shape[0]):
        panel, column, row = weight.panels[number], number * PANEL, 0
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
        for row in range(len(units)):
            if len(weight.scales):
                for i in range(column, column + PANEL):
                    y[row, i] *= units[row] * weight.scales[i]
            else:
                for i in range(column, column + PANEL):
                    y[row, i] *= units[row]


def _operands(x: np.ndarray, weight: Matrix) -> tuple[np.ndarray, np.ndarray]:
    """What the rows of x (B, M) are multiplied as, and the unit of each, (B,), if that is whole numbers."""
    raise NotImplementedError("compiled code only")


@overload(_operands, inline="always")
def _operands_of(x, weight):
    if weight.types[0].dtype is types.uint16:
        return lambda x, weight: (x, np.empty(0, np.float32))
    return lambda x, weight: whole(x, weight.gains, weight.panels.shape[1] * TERMS)


@njit(fastmath=True, nogil=True, cache=True)
def whole(x, gains, size):
    """Rows (B, M), times gains (M,) if there are any, as whole numbers of so many bits that no sum of `size` of them
    times 8 bits can overflow -> (B, size) int16, zeros behind the last, and the unit of each row, (B,)."""
    most = np.float32(min(LARGEST, (2**31 - 1) // (127 * size)))
    numbers, units = np.zeros((len(x), size), np.int16), np.empty(len(x), np.float32)
    scaled = np.empty(x.shape[1], np.float32)
    for row in range(len(x)):
        scaled[:] = x[row]
        if len(gains):
            for i in range(len(scaled)):
                scaled[i] *= gains[i]
        top = ZERO
        for i in range(len(scaled)):
            top = max(top, abs(scaled[i]))
        units[row] = top / most
        by = most / top if top > ZERO else ZERO
        for i in range(len(scaled)):
            numbers[row, i] = np.int16(np.int32(np.floor(scaled[i] * by + np.float32(0.5))))
    return numbers, units


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


@njit(nogil=True, cache=True)
def centre_rows(x, gain, offset):
    """Of each row of x (T, C): in one call, since every other would give Python's lock away and wait for it."""
    for t in range(len(x)):
        centre(x[t], gain, offset)


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
def note(x, ids, at, pages, keys, values, cos, sin, gates, tables, table, layer, normed):
    """Turns the queries and keys of one layer's x (B, 3C), queries, keys and values, and writes keys and values into
    the pages. `normed` (B, C) is the layer's input."""
    size = normed.shape[1]
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
                    opened += normed[row, i] * gates[head, i]
                gate = TWO / (ONE + np.exp(-opened))
                for i in range(dim):
                    value[i] += gate * tables[table, ids[row], start + i]
            for i in range(dim):
                values[page, layer, head, slot, i] = rounded(value[i])


@njit(fastmath=True, nogil=True, cache=True)
def feed_forward(x, groups, ups, downs, y):
    """y (B, C): each row of x through the feed-forward layer of its group, of G."""
    for group in range(len(ups.panels)):
        rows = np.nonzero(groups == group)[0]
        if len(rows) == 0:
            continue
        taken = np.empty((len(rows), x.shape[1]), np.float32)
        wide = np.empty((len(rows), ups.panels.shape[1] * PANEL), np.float32)
        given = np.empty((len(rows), downs.panels.shape[1] * PANEL), np.float32)
        for i, row in enumerate(rows):
            taken[i] = x[row]
        product(taken, of(ups, group), wide)
        for i in range(len(rows)):
            for j in range(wide.shape[1]):
                wide[i, j] = max(wide[i, j], ZERO) ** 2
        product(wide, of(downs, group), given)
        for i, row in enumerate(rows):
            y[row] = given[i]


@njit(fastmath=True, nogil=True, cache=True)
def cap(y, limit):
    """Keeps y (B, N) within +-limit by a tanh, in place."""
    for row in range(len(y)):
        for i in range(y.shape[1]):
            inner = min(max(TWO * y[row, i] / limit, np.float32(-80)), np.float32(80))
            y[row, i] = limit * (ONE - TWO / (ONE + exponential(inner)))


@njit(nogil=True, cache=True)
def predict(x, weight, limit, y):
    """y (B, P * PANEL) = x (B, M) by a `Matrix`, kept within +-limit."""
    product(x, weight, y)
    cap(y, limit)


@njit(nogil=True, cache=True)
def wait(noted, share, first_share, num_layers):
    """Says that this share has written so many layers, and waits until those that hold what its rows look at have."""
    publish(noted, share, num_layers)
    for earlier in range(first_share, share):
        while observe(noted, earlier) < num_layers:
            pass


@njit(fastmath=True, nogil=True, cache=True)
def step(
    x,  # (B, C) the embedded symbols; become the hidden states
    ids,  # (B,) the symbols
    groups,  # (B,) which feed-forward layer each takes, of G
    at,  # (B,) their positions in their streams
    pages,  # (B, N) the pages that hold each one's stream
    noted,  # (T,) of each thread that computes a share of the rows, in how many layers it has written keys and values
    share,  # the number of this one
    first_share,  # of those before it, from which on some hold earlier rows of a stream than it does
    keys,  # (pages, L, H, D, LANES) bfloat16 bits
    values,  # (pages, L, H, LANES, D) bfloat16 bits
    cos,  # (S, D/2)
    sin,
    scales,  # (L, 2) of the residual stream and of the embedding
    gates,  # (L, H, gate channels)
    tables,  # (K, V, C) value embeddings
    table_of,  # (L,) which of them a layer has, or -1
    projections,  # L matrices (C, 3C): query, key, value
    outputs,  # L of (C, C)
    ups,  # L, G of (C, 4C)
    downs,  # L, G of (4C, C)
    asked,  # (N,) of the rows, those of which it is asked what follows
    head,  # a matrix (C, V)
    limit,  # within which logits are kept
    logits,  # (N, V) become theirs
):
    """The network on B positions. Writes their keys and values into their pages. In each layer rows look about when
    all are written: so those of one stream see each other."""
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
        product(normed, of(projections, layer), projected)
        note(projected, ids, at, pages, keys, values, cos, sin, gates[layer], tables, table_of[layer], layer, normed)
        wait(noted, share, first_share, layer + 1)
        for row in range(num_rows):
            query, mixed = projected[row : row + 1, :size], normed[row : row + 1]
            attend(query, keys, values, pages[row], layer, at[row] + 1, mixed)
        product(normed, of(outputs, layer), given)
        for row in range(num_rows):
            for i in range(size):
                x[row, i] += given[row, i]
            norm(x[row], normed[row])
        feed_forward(normed, groups, of(ups, layer), of(downs, layer), given)
        for row in range(num_rows):
            for i in range(size):
                x[row, i] += given[row, i]
    for row in range(num_rows):
        norm(x[row], x[row])
    if len(asked):
        predict(x[asked], head, limit, logits)


# pieces of work as short as these keep Python's lock: they might wait for it longer afterwards
@njit(cache=True)
def masked(logits, legal):
    """(N,) with -inf for what isn't legal."""
    y = np.empty(len(legal), np.float32)
    for i in range(len(legal)):
        y[i] = logits[i] if legal[i] else -np.inf
    return y


@njit(fastmath={"nnan", "nsz", "contract"}, cache=True)
def draw(logits, temperature, height):
    """One of (V,) logits, which may be -inf: the likeliest at temperature 0, else the one at that `height`, in (0, 1],
    of the sum of their weights. At no height is it one without weight."""
    likeliest = 0
    for i in range(1, len(logits)):
        if logits[i] > logits[likeliest]:
            likeliest = i
    if temperature <= ZERO:
        return likeliest
    weights, top = np.empty(len(logits), np.float32), logits[likeliest]
    for i in range(len(logits)):
        lower = (logits[i] - top) / temperature
        weights[i] = exponential(lower) if lower > np.float32(-80) else ZERO
    total = 0.0
    for weight in weights:
        total += weight
    least, total = height * total, 0.0
    for i in range(len(weights)):
        total += weights[i]
        if total >= least:
            return i
    return likeliest  # where the last sum was rounded down


@njit(fastmath=True, nogil=True, cache=True)
def residual_codes(
    hidden,  # (S, C) before the symbol: one state, or two where a picture is guided away from the second
    first,  # (d,) of the symbol's code
    previous,  # (R - 1, N, d) of the residual codes
    starts,  # R matrices (C, d)
    ups,  # R of (d, 4d)
    downs,  # R of (4d, d)
    heads,  # R of (d, N)
    conditional,
    temperature,
    guidance_scale,
    heights,  # (R,), see `draw`
):
    """The prefix-sum depth head, one level after the other -> (R,) codes."""
    num_levels, size, width = len(heads.panels), previous.shape[1], len(first)
    codes = np.zeros(num_levels, np.int64)
    x, normed = np.empty((len(hidden), width), np.float32), np.empty((len(hidden), width), np.float32)
    wide = np.empty((len(hidden), ups.panels.shape[1] * PANEL), np.float32)
    logits = np.empty((len(hidden), heads.panels.shape[1] * PANEL), np.float32)
    context = np.zeros(width, np.float32)
    for level in range(num_levels):
        if conditional:
            context += previous[level - 1, codes[level - 1]] if level else first
        product(hidden, of(starts, level), x)
        for row in range(len(x)):
            for i in range(width):
                x[row, i] += context[i]
            norm(x[row], normed[row])
        product(normed, of(ups, level), wide)
        for row in range(len(x)):
            for i in range(wide.shape[1]):
                wide[row, i] = max(wide[row, i], ZERO) ** 2
        product(wide, of(downs, level), normed)
        for row in range(len(x)):
            for i in range(width):
                x[row, i] += normed[row, i]
            norm(x[row], normed[row])
        product(normed, of(heads, level), logits)
        if len(logits) > 1:
            for i in range(size):
                logits[0, i] = logits[1, i] + guidance_scale * (logits[0, i] - logits[1, i])
        codes[level] = draw(logits[0, :size], temperature, heights[level])
    return codes


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
    ups,  # L matrices (C, M)
    downs,  # L of (M, C)
):
    """A stack of ConvNeXt blocks on some steps of one clip: `tokenizers.conv.ConvStack`."""
    length, size = x.shape
    num_layers, width = taps.shape[:2]
    whole, y = np.empty((width - 1 + length, size), np.float32), np.empty((length, size), np.float32)
    wide = np.empty((length, wide_offsets.shape[1]), np.float32)
    given = np.empty((length, downs.panels.shape[1] * PANEL), np.float32)
    for layer in range(num_layers):
        whole[: width - 1], whole[width - 1 :] = pasts[layer], x
        newer[layer] = whole[length:]
        for t in range(length):
            y[t] = offsets[layer, 0]
            for step_back in range(width):
                for i in range(size):
                    y[t, i] += whole[t + step_back, i] * taps[layer, step_back, i]
            centre(y[t], offsets[layer, 1], offsets[layer, 2])
        product(y, of(ups, layer), wide)
        for t in range(length):
            for j in range(wide.shape[1]):
                wide[t, j] = gelu(wide[t, j] + wide_offsets[layer, j])
        product(wide, of(downs, layer), given)
        for t in range(length):
            for i in range(size):
                x[t, i] += offsets[layer, 4, i] * (given[t, i] + offsets[layer, 3, i])
