"""Pictures on their way out: pixels as a file, with a content credential that says what made it."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Literal, TypeAlias

import numpy as np
import PIL.Image

from sensorium.safety.provenance import Credentials
from sensorium.server.colour_profile import ColourProfile

PictureFormat: TypeAlias = Literal["png", "webp", "jpeg"]
MEDIA_TYPES: Mapping[PictureFormat, str] = {"png": "image/png", "webp": "image/webp", "jpeg": "image/jpeg"}


class PictureWriter:
    """Writes files, signed if there are `credentials` to do it with. Blocks for milliseconds: use a thread."""

    def __init__(self, credentials: Credentials | None = None) -> None:
        self._credentials = credentials

    def file(
        self,
        pixels: np.ndarray,
        format: PictureFormat = "png",
        *,
        quality: int = 100,
        is_composed: bool = False,
        profile: ColourProfile | None = None,
    ) -> bytes:
        """(H, W, 3) or, with transparency, (H, W, 4) uint8 -> a file.

        `quality`, 0 to 100, is for JPEG and WebP; at 100 a WebP loses nothing. `is_composed` says that only a part of
        the picture was drawn. `profile` says what its colours mean, if they are not sRGB's.
        """
        data = _encoded(pixels, format, quality, profile.data if profile else None)
        if self._credentials is None:
            return data
        return self._credentials.sign(data, MEDIA_TYPES[format], is_composed=is_composed)

    def url(self, pixels: np.ndarray) -> str:
        """(H, W, 3) uint8 -> a PNG data URL."""
        return "data:image/png;base64," + base64.b64encode(self.file(pixels)).decode()


def _encoded(pixels: np.ndarray, format: PictureFormat, quality: int, icc_profile: bytes | None) -> bytes:
    file = io.BytesIO()
    picture = PIL.Image.fromarray(pixels)
    if format == "png":
        # a level more costs twice the time and saves a twentieth of the bytes
        picture.save(file, "PNG", compress_level=3, icc_profile=icc_profile)
    elif format == "webp":
        # effort 0 of a lossless file: the next ones take five times as long for a third of the bytes
        exact = {"lossless": True, "exact": True, "quality": 0, "method": 0}
        picture.save(
            file,
            "WEBP",
            icc_profile=icc_profile or b"",
            **(exact if quality == 100 else {"quality": quality, "method": 2}),
        )
    else:
        picture.save(file, "JPEG", quality=quality, subsampling=0 if quality > 90 else -1, icc_profile=icc_profile)
    return file.getvalue()
