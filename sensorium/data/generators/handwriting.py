"""Digits drawn as if by hand: bent strokes through moved control points."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sensorium.data.generators.canvas import Canvas, Region, Split, in_split, moved
from sensorium.data.generators.glyphs import readable_colours

# Strokes through control points, in the box from -1 to 1, y growing downwards. Several forms are in use for some.
_DIGITS: dict[str, tuple[tuple[tuple[tuple[float, float], ...], ...], ...]] = {
    "0": ((((0.1, -1), (-0.5, -0.6), (-0.6, 0.2), (-0.2, 0.95), (0.4, 0.8), (0.6, 0), (0.4, -0.8), (0, -1)),),),
    "1": ((((-0.35, -0.55), (0.1, -1), (0.1, 0), (0.1, 1)),), (((0, -1), (0, 0), (0, 1)),)),
    "2": ((((-0.5, -0.6), (0, -1), (0.5, -0.6), (0.2, 0.1), (-0.55, 0.9), (0, 0.92), (0.6, 0.9)),),),
    "3": ((((-0.5, -0.8), (0.1, -1), (0.45, -0.55), (-0.05, -0.08), (0.55, 0.4), (0.1, 0.98), (-0.55, 0.75)),),),
    "4": (
        (((0.2, -1), (-0.15, -0.4), (-0.6, 0.3), (0, 0.32), (0.65, 0.3)), ((0.25, -0.3), (0.25, 0.3), (0.25, 1))),
        (((-0.5, -0.95), (-0.5, -0.4), (-0.45, 0.1), (0.1, 0.12), (0.6, 0.1)), ((0.4, -0.9), (0.38, 0), (0.35, 1))),
    ),
    "5": (
        (
            ((-0.4, -0.95), (0.05, -0.97), (0.5, -0.95)),
            ((-0.4, -0.95), (-0.45, -0.25), (0.1, -0.35), (0.55, 0.25), (0.2, 0.9), (-0.5, 0.8)),
        ),
    ),
    "6": (
        (((0.4, -0.95), (-0.2, -0.6), (-0.55, 0.2), (-0.2, 0.95), (0.45, 0.7), (0.4, 0.1), (-0.1, 0), (-0.5, 0.4)),),
    ),
    "7": (
        (((-0.55, -0.9), (0, -0.93), (0.55, -0.9), (0.2, 0), (-0.15, 1)),),
        (((-0.55, -0.9), (0, -0.93), (0.55, -0.9), (0.2, 0), (-0.15, 1)), ((-0.25, 0.05), (0.1, 0.03), (0.5, 0))),
    ),
    "8": (
        (((0.4, -0.7), (0, -1), (-0.4, -0.65), (0, -0.1), (0.5, 0.45), (0, 1), (-0.5, 0.5), (0, -0.1), (0.4, -0.7)),),
    ),
    "9": ((((0.45, -0.65), (0, -1), (-0.45, -0.6), (-0.2, -0.1), (0.3, -0.2), (0.45, -0.7), (0.4, 0), (0.2, 1)),),),
}
_HANDS = 4096  # a hand is a seed: how its owner bends, slants and stretches every digit


class DigitPicture(NamedTuple):
    pixels: np.ndarray  # (size, size, 3) uint8
    digit: str
    regions: tuple[Region, ...]


def digit_picture(rng: np.random.Generator, *, split: Split, size: int = 64) -> DigitPicture:
    """One handwritten digit. Hands are held out: none of the held-out hands ever writes for training.

    Raises ValueError for an unknown split.
    """
    hand = int(rng.integers(_HANDS))
    while not in_split(f"hand {hand}", split):
        hand = int(rng.integers(_HANDS))
    digit = str(rng.integers(10))
    owner = np.random.default_rng((hand, int(digit)))
    forms = _DIGITS[digit]
    form = forms[int(owner.integers(len(forms)))]
    slant, stretch, width = owner.uniform(-0.15, 0.35), owner.uniform(0.75, 1.15), owner.uniform(0.03, 0.09)
    habits = [owner.normal(0, 0.055, (len(stroke), 2)) for stroke in form]
    ink, ground = readable_colours(rng)
    canvas = Canvas(size, ground)
    scale = rng.uniform(0.26, 0.4)
    x, y = 0.5 + rng.uniform(-1, 1, 2) * (0.44 - scale)
    angle = rng.uniform(-0.1, 0.1)
    for stroke, habit in zip(form, habits, strict=True):
        points = np.array(stroke) + habit + rng.normal(0, 0.02, (len(stroke), 2))
        points = points * (stretch, 1.0) + np.outer(points[:, 1], (-slant, 0.0))
        canvas.line(moved(_curve(points), x=x, y=y, scale=scale, angle=angle), ink, width)
    half = 0.6 * scale * stretch
    region = Region(digit, x - half, y - scale, x + half, y + scale)
    return DigitPicture(canvas.pixels(), digit, (region,))


def _curve(points: np.ndarray, steps: int = 6) -> np.ndarray:
    """A Catmull-Rom spline through `points` (N, 2): ((N - 1) * steps + 1, 2)."""
    padded = np.concatenate([points[:1], points, points[-1:]])  # (N + 2, 2)
    before, start, end, after = (padded[i : len(padded) - 3 + i, None] for i in range(4))  # (N - 1, 1, 2)
    t = (np.arange(steps) / steps)[None, :, None]
    bends = (2 * before - 5 * start + 4 * end - after) * t**2 + (3 * (start - end) + after - before) * t**3
    curve = (2 * start + (end - before) * t + bends) / 2  # (N - 1, steps, 2)
    return np.concatenate([curve.reshape(-1, 2), points[-1:]])
