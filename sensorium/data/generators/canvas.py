"""What every drawn picture shares: a supersampled surface in unit coordinates, colours, and the hold-out rule."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias
from zlib import crc32

import numpy as np
from PIL import Image, ImageDraw

Split: TypeAlias = Literal["train", "heldout"]
RGB: TypeAlias = tuple[int, int, int]


class Region(NamedTuple):
    """What is to be seen in one box of a picture. Sides are fractions of the picture's; y grows downwards."""

    name: str
    left: float
    top: float
    right: float
    bottom: float
    colour: str = ""  # by name, where the picture's words name it


SUPERSAMPLING = 4  # drawn this much larger, then averaged down: smooth edges at 64 px


def in_split(key: str, split: Split) -> bool:
    """Whether what `key` describes belongs to `split`: one key in ten is held out, the same one everywhere.

    Raises ValueError for an unknown split.
    """
    if split not in ("train", "heldout"):
        raise ValueError(f"unknown split {split!r}; use 'train' or 'heldout'")
    return (crc32(key.encode()) % 10 == 0) == (split == "heldout")


def jitter(rng: np.random.Generator, colour: RGB, amount: int) -> RGB:
    """A colour near `colour`: each channel moves by at most `amount`."""
    moved = np.clip(np.asarray(colour) + rng.integers(-amount, amount + 1, 3), 0, 255)
    return int(moved[0]), int(moved[1]), int(moved[2])


def contrast(a: RGB, b: RGB) -> float:
    """The ratio of two colours' luminances, 1 (equal) to 21 (black on white), as web accessibility counts it."""
    lighter, darker = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: RGB) -> float:
    linear = (np.asarray(colour) / 255.0) ** 2.2
    return float(linear @ np.array([0.2126, 0.7152, 0.0722]))


def circle(x: float = 0.0, y: float = 0.0, radius: float = 1.0, corners: int = 48) -> np.ndarray:
    """A circle as a polygon, (corners, 2)."""
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1)


def moved(points: np.ndarray, *, x: float, y: float, scale: float, angle: float = 0.0) -> np.ndarray:
    """Points (N, 2) of a shape around the origin, turned by `angle` radians, scaled and put at (x, y)."""
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    return points @ np.array([[cos, sin], [-sin, cos]]) + (x, y)


class Canvas:
    """A square picture. Coordinates and widths are fractions of its side; (0, 0) is the top left corner."""

    def __init__(self, size: int, background: RGB) -> None:
        self.background = background
        self.side = size * SUPERSAMPLING
        self.image = Image.new("RGB", (self.side, self.side), background)
        self._draw = ImageDraw.Draw(self.image)

    def polygon(self, points: np.ndarray, colour: RGB) -> None:
        self._draw.polygon((points * self.side).ravel().tolist(), fill=colour)

    def line(self, points: np.ndarray, colour: RGB, width: float, *, closed: bool = False) -> None:
        """A stroke through `points` with round joints and ends."""
        pixels = points * self.side  # (N, 2)
        if closed:
            pixels = np.concatenate([pixels, pixels[:1]])
        width_px = max(1, round(width * self.side))
        self._draw.line(pixels.ravel().tolist(), fill=colour, width=width_px, joint="curve")
        radius = width_px / 2
        for x, y in pixels[[0, -1]].tolist():
            self._draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)

    def pixels(self) -> np.ndarray:
        """The picture at its own size, (size, size, 3) uint8."""
        return np.array(self.image.reduce(SUPERSAMPLING))
