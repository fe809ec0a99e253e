"""The arithmetic of one stream position, compiled by numba to loops over the weights.

One position at a time, a small network is all overhead: every operator of torch costs more than the arithmetic in it,
and every weight is read once. So one compiled call does the whole step, and reads weights as bfloat16, the precision
that releases store: half the bytes, exactly widened to float32 in registers. It runs outside Python's global lock.

`Transformer.forward` says the same in torch; `tests/engine/test_runner.py` holds the two together.
L layers, C hidden size, H heads, D head width, S positions of the cache, G feed-forward groups.
"""

from __future__ import annotations

import numpy as np
from numba import njit

EPS = np.float32(np.finfo(np.float32).eps)  # what torch's rms_norm adds
ZERO, ONE, TWO = np.float32(0), np.float32(1), np.float32(2)


@njit(inline="always")
def widen(bits):
    """bfloat16 bits -> float32: they are its upper half."""
    return np.uint32(np.uint32(bits) << 16).view(np.float32)


@njit(fastmath=True, nogil=True, cache=True)
def product(x, weight, y):
    """y (N,) = x (M,) @ weight (M, N), M a multiple of 4: four rows at a time, so that y is read less often."""
    y[:] = ZERO
    for row in range(0, weight.shape[0], 4):
        a, b, c, d = x[row], x[row + 1], x[row + 2], x[row + 3]
        for column in range(weight.shape[1]):
            y[column] += (
                a * widen(weight[row, column])
                + b * widen(weight[row + 1, column])
                + c * widen(weight[row + 2, column])
                + d * widen(weight[row + 3, column])
            )


@njit(fastmath=True, nogil=True, cache=True)
def norm(x, y):
    """y = x over its root mean square; y may be x."""
    total = ZERO
    for i in range(len(x)):
        total += x[i] * x[i]
    scale = ONE / np.sqrt(total / np.float32(len(x)) + EPS)
    for i in range(len(x)):
        y[i] = x[i] * scale


@njit(fastmath=True, nogil=True, cache=True)
def rotate(x, cos, sin):
    """Turns the pairs (i, i + D/2) of one head's x (D,) in place, then norms it."""
    half = len(x) // 2
    for i in range(half):
        first, second = x[i], x[i + half]
        x[i] = first * cos[i] - second * sin[i]
        x[i + half] = first * sin[i] + second * cos[i]
    norm(x, x)


@njit(fastmath=True, nogil=True, cache=True)
def attend(query, keys, values, length, weights, mixed):
    """mixed (D,): one head's look at positions 0 .. length of keys and values (S, D)."""
    scale = ONE / np.sqrt(np.float32(len(query)))
    total = ZERO
    for at in range(length):
        score = ZERO
        for i in range(len(query)):
            score += query[i] * keys[at, i]
        # normed queries and keys keep a score within sqrt(D) = 8: no maximum need be taken off first
        weights[at] = np.exp(score * scale)
        total += weights[at]
    mixed[:] = ZERO
    for at in range(length):
        weight = weights[at] / total
        for i in range(len(query)):
            mixed[i] += weight * values[at, i]


@njit(fastmath=True, nogil=True, cache=True)
def step(
    x,  # (C,) the embedded symbol; becomes the hidden state
    extra,  # (L, C) its value embeddings
    group,  # which feed-forward layer it takes, of G
    at,  # its position
    keys,  # (L, 1, H, S, D)
    values,
    cos,  # (S, D/2)
    sin,
    scales,  # (L, 2) of the residual stream and of the embedding
    gates,  # (L, H, gate channels)
    projections,  # (L, C, 3C) bfloat16, like all below: query, key, value
    outputs,  # (L, C, C)
    ups,  # (L, G, C, 4C)
    downs,  # (L, G, 4C, C)
):
    """The network on one position. Writes its key and value into the cache."""
    num_layers, size = extra.shape
    num_heads, dim = keys.shape[2], keys.shape[4]
    normed = np.empty(size, np.float32)
    query_key_value = np.empty(3 * size, np.float32)
    mixed = np.empty(size, np.float32)
    wide = np.empty(ups.shape[3], np.float32)
    weights = np.empty(at + 1, np.float32)
    norm(x, x)
    first = x.copy()
    for layer in range(num_layers):
        for i in range(size):
            x[i] = scales[layer, 0] * x[i] + scales[layer, 1] * first[i]
        norm(x, normed)
        product(normed, projections[layer], query_key_value)
        for head in range(num_heads):
            start = head * dim
            query = query_key_value[start : start + dim]
            key = query_key_value[size + start : size + start + dim]
            rotate(query, cos[at], sin[at])
            rotate(key, cos[at], sin[at])
            opened = ZERO
            for i in range(gates.shape[2]):
                opened += normed[i] * gates[layer, head, i]
            gate = TWO / (ONE + np.exp(-opened))
            for i in range(dim):
                keys[layer, 0, head, at, i] = key[i]
                values[layer, 0, head, at, i] = query_key_value[2 * size + start + i] + gate * extra[layer, start + i]
            attend(query, keys[layer, 0, head], values[layer, 0, head], at + 1, weights, mixed[start : start + dim])
        product(mixed, outputs[layer], normed)
        for i in range(size):
            x[i] += normed[i]
        norm(x, normed)
        product(normed, ups[layer, group], wide)
        for i in range(len(wide)):
            wide[i] = max(wide[i], ZERO) ** 2
        product(wide, downs[layer, group], normed)
        for i in range(size):
            x[i] += normed[i]
    norm(x, x)


@njit(fastmath=True, nogil=True, cache=True)
def residual_logits(x, up, down, head, logits):
    """One level of the depth head: x (d,), up (d, 2d), down (2d, d), head (d, N) -> logits (N,). Overwrites x."""
    normed = np.empty(len(x), np.float32)
    wide = np.empty(up.shape[1], np.float32)
    norm(x, normed)
    product(normed, up, wide)
    for i in range(len(wide)):
        wide[i] = max(wide[i], ZERO) ** 2
    product(wide, down, normed)
    for i in range(len(x)):
        x[i] += normed[i]
    norm(x, normed)
    product(normed, head, logits)
