"""Colour profiles of pictures: what their numbers mean. The network sees and draws sRGB; what is kept stays in its own.

A profile is obeyed if it is one of RGB, of no more than MAX_PROFILE_BYTES, and leads to sRGB and back. Any other, of a
grey or a CMYK picture say or a damaged one, is passed over: the picture is then taken for sRGB, as browsers do it.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Literal

import numpy as np
import PIL.Image
from PIL import ImageCms

MAX_PROFILE_BYTES = 2**20  # those of cameras and screens take under 1 KiB, a printer's with its tables some 100

_COLOUR_SPACE = slice(16, 20)  # of a profile's header
_ROUNDING = 2  # of 255: what ways to write down sRGB differ by
_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC  # white is white, and what both can show is the same


@dataclass(frozen=True, kw_only=True)
class ColourProfile:
    data: bytes  # as the file holds it

    def to_srgb(self, pixels: np.ndarray) -> np.ndarray:
        """(H, W, 3) or (H, W, 4) uint8. Blocks: use a thread."""
        return pixels if self._is_srgb else self._converted(pixels, "to sRGB")

    def from_srgb(self, pixels: np.ndarray) -> np.ndarray:
        """(H, W, 3) or (H, W, 4) uint8. Blocks: use a thread."""
        return pixels if self._is_srgb else self._converted(pixels, "from sRGB")

    @cached_property
    def _is_srgb(self) -> bool:
        """Most are, and their pictures stay the same to the bit."""
        steps = np.array(list(product(range(0, 256, 51), repeat=3)), np.uint8)[None]  # (1, 216, 3)
        seen = self._converted(steps, "to sRGB")
        return int(np.abs(seen.astype(np.int16) - steps).max()) <= _ROUNDING

    def _converted(self, pixels: np.ndarray, way: Literal["to sRGB", "from sRGB"]) -> np.ndarray:
        own, srgb = ImageCms.ImageCmsProfile(io.BytesIO(self.data)), ImageCms.createProfile("sRGB")
        between = (own, srgb) if way == "to sRGB" else (srgb, own)
        transform = ImageCms.buildTransform(*between, "RGB", "RGB", renderingIntent=_INTENT)
        rgb = PIL.Image.fromarray(np.ascontiguousarray(pixels[:, :, :3]))
        return np.dstack((np.asarray(ImageCms.applyTransform(rgb, transform)), pixels[:, :, 3:]))


def profile_of(image: PIL.Image.Image) -> ColourProfile | None:
    """The one that a picture is to be seen by, where it has one that is obeyed."""
    data = image.info.get("icc_profile")
    if not isinstance(data, bytes) or not 0 < len(data) <= MAX_PROFILE_BYTES or image.mode not in ("RGB", "RGBA", "P"):
        return None
    if data[_COLOUR_SPACE] != b"RGB ":
        return None
    profile = ColourProfile(data=data)
    try:
        profile.from_srgb(profile.to_srgb(np.zeros((1, 1, 3), np.uint8)))
    except (ImageCms.PyCMSError, OSError, ValueError):  # LittleCMS's, and Pillow's about what it tells
        return None
    return profile
