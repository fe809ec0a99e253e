"""From what the network draws to the picture that was asked for: its size, its ground, and what stays as it was.

The network draws small squares. A larger picture is the drawing scaled up (Lanczos); for one that is not square the
square's own border is continued to both sides, unless the drawing is of a picture of that shape: then the network was
shown it with bars around it, and these are cut off.

A transparent background is the ground taken away: all pixels that have nearly the colour of the drawing's border and
are joined to it by such pixels. What a mask keeps is put on top at the size of the original, untouched: it is
the drawing that is put into the original's colours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import PIL.Image

from sensorium.server.colour_profile import ColourProfile

Size: TypeAlias = tuple[int, int]  # (width, height)

_GROUND_DISTANCE = 40  # how far a channel of the ground may be from the border's median, of 255
_CHANGE_DISTANCE = 48  # how far a channel must be from what it was for a pixel to count as changed
_CHANGE_MARGIN = 2  # pixels of a drawing around those that changed: the edges of what did
_LANCZOS, _NEAREST = PIL.Image.Resampling.LANCZOS, PIL.Image.Resampling.NEAREST


@dataclass(frozen=True, kw_only=True, eq=False)
class Kept:
    """What a drawing does not replace. Without a `hole` it is whatever the network left as it was."""

    original: np.ndarray  # (H, W, 4) uint8
    hole: np.ndarray | None = None  # (H, W) bool: what is drawn anew
    profile: ColourProfile | None = None  # what the original's colours mean; sRGB without

    @property
    def shown(self) -> np.ndarray:
        """(H, W, 3) uint8: the original as the network sees it. Blocks: use a thread."""
        opaque = on_white(self.original)
        return self.profile.to_srgb(opaque) if self.profile else opaque

    @property
    def size(self) -> Size:
        return self.original.shape[1], self.original.shape[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class Finish:
    size: Size | None = None  # that of the drawing, or of what is kept
    is_transparent: bool = False
    is_flat: bool = False  # the file is to hold no transparency
    kept: Kept | None = None
    shape_of: Size | None = None  # the drawing is of a picture of this size

    def size_of(self, native: Size) -> Size:
        return self.size or (self.kept.size if self.kept else native)

    @property
    def has_alpha(self) -> bool:
        """Whether the picture that comes out may be seen through."""
        shows_through = self.kept is not None and bool((self.kept.original[:, :, 3] < 255).any())
        return (self.is_transparent or shows_through) and not self.is_flat

    def layout_of(self, native: Size) -> str:
        """In a word, for whoever wants to know what was done."""
        width, height = self.size_of(native)
        if self.kept is not None:
            return "composed"
        if width == height:
            return "whole"
        return "cut" if _is_cut((width, height), self.shape_of) else "continued"


def finished(pixels: np.ndarray, finish: Finish) -> np.ndarray:
    """A square drawing (N, N, 3) uint8 -> (H, W, 3), or (H, W, 4) if it can be seen through. Blocks: use a thread."""
    drawn = pixels
    if finish.is_transparent:
        drawn = np.dstack((pixels, np.where(ground_of(pixels), 0, 255).astype(np.uint8)))
    if finish.kept is not None:
        drawn = _composed(pixels, drawn, finish.kept, finish.size_of((0, 0)))
    elif (size := finish.size_of((pixels.shape[1], pixels.shape[0]))) != (pixels.shape[1], pixels.shape[0]):
        drawn = _laid_out(drawn, size, is_cut=_is_cut(size, finish.shape_of))
    if finish.has_alpha or drawn.shape[2] == 3:
        return drawn
    return on_white(drawn)


def hole_of(mask: np.ndarray) -> np.ndarray:
    """(H, W, 4) uint8 -> (H, W) bool: a mask's fully transparent pixels."""
    return mask[:, :, 3] == 0


def ground_of(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> (H, W) bool: the plain ground of a drawing, as far as it is joined to the border."""
    border = np.concatenate((pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))
    distance = np.abs(pixels.astype(np.int16) - np.median(border, axis=0)).max(axis=2)
    alike = distance <= _GROUND_DISTANCE
    found = np.zeros_like(alike)
    for side in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        found[side] = alike[side]
    while (grown := _spread(found) & alike).sum() > found.sum():
        found = grown
    return found


def _spread(marked: np.ndarray) -> np.ndarray:
    """(H, W) bool: what is marked, and its neighbours above, below and to both sides."""
    padded = np.pad(marked, 1)
    return padded[1:-1, 1:-1] | padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]


def _is_cut(size: Size, shape_of: Size | None) -> bool:
    """Whether a picture of `size` is the middle of the square: both it and what it is of are wide, or both high."""
    if shape_of is None:
        return False
    return (size[0] - size[1]) * (shape_of[0] - shape_of[1]) > 0


def _laid_out(drawn: np.ndarray, size: Size, *, is_cut: bool) -> np.ndarray:
    """A square (N, N, C) -> (height, width, C)."""
    width, height = size
    side = max(size) if is_cut else min(size)
    square = _scaled(drawn, (side, side), _LANCZOS)
    left, top = abs(width - side) // 2, abs(height - side) // 2
    if is_cut:
        return square[top : top + height, left : left + width]
    return np.pad(square, ((top, height - side - top), (left, width - side - left), (0, 0)), mode="edge")


def _composed(pixels: np.ndarray, drawn: np.ndarray, kept: Kept, size: Size) -> np.ndarray:
    """The drawing where the original is not kept, (height, width, 4) in the original's colours."""
    original = kept.original
    hole = kept.hole if kept.hole is not None else _changed(pixels, kept.shown)
    if kept.profile is not None:
        drawn = kept.profile.from_srgb(drawn)
    if size != kept.size:
        original = _scaled(original, size, _LANCZOS)
        hole = _scaled(hole.astype(np.uint8), size, _NEAREST).astype(bool)
    fitted = _laid_out(drawn, size, is_cut=True)
    if fitted.shape[2] == 3:
        fitted = np.dstack((fitted, np.full(fitted.shape[:2], 255, np.uint8)))
    return np.where(hole[:, :, None], fitted, original)


def _changed(pixels: np.ndarray, original: np.ndarray) -> np.ndarray:
    """(H, W) bool: where a drawing (N, N, 3) of the original (H, W, 3) is not like it, with a margin."""
    height, width, _ = original.shape
    # compared as small as it was drawn, where the network had to leave out what is smaller still
    scale = len(pixels) / max(height, width)
    small = max(1, round(width * scale)), max(1, round(height * scale))
    before = _scaled(original, small, _LANCZOS).astype(np.int16)
    after = _laid_out(pixels, small, is_cut=True).astype(np.int16)
    changed = np.abs(after - before).max(axis=2) > _CHANGE_DISTANCE
    for _ in range(_CHANGE_MARGIN):
        changed = _spread(changed)
    return _scaled(changed.astype(np.uint8), (width, height), _NEAREST).astype(bool)


def on_white(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 4) -> (H, W, 3)"""
    opacity = pixels[:, :, 3:].astype(np.uint16)
    blended = (pixels[:, :, :3] * opacity + 255 * (255 - opacity) + 127) // 255
    return blended.astype(np.uint8)


def _scaled(pixels: np.ndarray, size: Size, method: PIL.Image.Resampling) -> np.ndarray:
    if (pixels.shape[1], pixels.shape[0]) == size:
        return pixels
    return np.asarray(PIL.Image.fromarray(pixels).resize(size, method))
