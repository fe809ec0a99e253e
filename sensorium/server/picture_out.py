"""Pictures on their way out: pixels as a file."""

from __future__ import annotations

import base64
import io
from typing import Literal, TypeAlias

import numpy as np
import PIL.Image

PictureFormat: TypeAlias = Literal["png", "webp", "jpeg"]


def encode_picture(pixels: np.ndarray, format: PictureFormat = "png", *, quality: int = 100) -> bytes:
    """(H, W, 3) uint8 -> a file. `quality`, 0 to 100, is for JPEG and WebP. Blocks for milliseconds: use a thread."""
    file = io.BytesIO()
    options = {} if format == "png" else {"quality": quality}
    PIL.Image.fromarray(pixels).save(file, format.upper(), **options)
    return file.getvalue()


def picture_url(pixels: np.ndarray) -> str:
    """(H, W, 3) uint8 -> a PNG data URL. As slow as `encode_picture`."""
    return "data:image/png;base64," + base64.b64encode(encode_picture(pixels)).decode()
