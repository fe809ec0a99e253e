"""Pictures off the wire: out of a data URL, checked, and decoded into plain arrays.

Pixels are counted from the file's header before its body is decoded. Of a large one only a band at a time is converted.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import struct
from collections.abc import Callable
from functools import partial

import numpy as np
import PIL.Image
import PIL.ImageOps

from sensorium.server.colour_profile import ColourProfile, profile_of
from sensorium.server.config import ServerConfig
from sensorium.server.errors import APIError, invalid

MAX_SIDE = 1024  # larger pictures are scaled down to fit: an engine sees far less
MAX_WHOLE_PIXELS = 2048 * 2048  # of a picture that is changed (larger ones are scaled down), and of those that leave

_BAND_PIXELS = 2**20  # of a picture, converted at a time
_ORIENTATION, _ON_THE_SIDE = 0x0112, (5, 6, 7, 8)  # of EXIF
_IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")


class AnimatedPicture(APIError):
    """A picture is no still."""


def image_from_data_url(url: str, param: str, max_bytes: int) -> bytes:
    """The bytes in `data:image/...;base64,...`. Which of the picture formats they are in, the bytes say best."""
    header, comma, payload = url.partition(",")
    media_type, *attributes = header[len("data:") :].lower().split(";")
    if not comma or "base64" not in attributes:
        raise invalid("A data URL must read data:image/<type>;base64,<data>.", param, "invalid_image_url")
    if not media_type.startswith("image/"):
        raise invalid(f"The data URL holds {media_type!r}, not a picture.", param, "unsupported_image_media_type")
    if len(payload) * 3 // 4 > max_bytes:
        raise invalid(f"The picture is larger than {max_bytes} bytes.", param, "image_file_too_large")
    try:
        return from_base64(payload)
    except ValueError:
        raise invalid("The picture is not valid base64.", param, "invalid_base64_image") from None


def from_base64(text: str) -> bytes:
    if "\n" in text or "\r" in text:  # MIME encoders break lines
        text = text.replace("\n", "").replace("\r", "")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error


def decode_image(data: bytes, param: str, config: ServerConfig, max_side: int = MAX_SIDE) -> np.ndarray:
    """A PNG, JPEG, WebP or still GIF as (H, W, 3) uint8 sRGB: upright, on white, at most `max_side` on a side.

    Raises APIError naming `param`.
    """
    return _decoded(data, param, partial(_to_rgb, max_side=max_side), _max_pixels(data, config))


def decode_whole(data: bytes, param: str, config: ServerConfig) -> np.ndarray:
    """As `decode_image`, but with what shows through and at its own size, or at MAX_WHOLE_PIXELS if it has more:
    (H, W, 4) uint8 RGBA, upright, its colours what `colour_profile` says. Pictures of one size come out in one size."""
    return _decoded(data, param, _to_rgba, _max_pixels(data, config))


def upright_size(data: bytes) -> tuple[int, int]:
    """Width and height of a picture that was decoded already, as it is to be looked at."""
    with PIL.Image.open(io.BytesIO(data)) as image:
        is_on_its_side = image.getexif().get(_ORIENTATION) in _ON_THE_SIDE
        return (image.height, image.width) if is_on_its_side else image.size


def colour_profile(data: bytes) -> ColourProfile | None:
    """That of a picture that was decoded already. Blocks: use a thread."""
    with PIL.Image.open(io.BytesIO(data)) as image:
        return profile_of(image)


def _max_pixels(data: bytes, config: ServerConfig) -> int:
    if _is_one_scan_jpeg(data):
        return max(config.max_image_pixels, config.max_photo_pixels)
    return config.max_image_pixels


def _decoded(data: bytes, param: str, convert: Callable[[PIL.Image.Image], np.ndarray], max_pixels: int) -> np.ndarray:
    if not data:
        raise invalid("The picture is empty.", param, "empty_image_file")
    too_large = invalid(f"The picture has more than {max_pixels} pixels.", param, "image_too_large")
    try:
        # warns above a bound of Pillow's own, which is higher than ours
        image = PIL.Image.open(io.BytesIO(data), formats=_IMAGE_FORMATS)
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning):
        raise too_large from None
    except PIL.UnidentifiedImageError:
        raise invalid("The picture is not a PNG, JPEG, WebP or GIF.", param, "invalid_image_format") from None
    except Exception as error:  # Pillow's readers raise nearly anything on damaged files
        raise _damaged_image(param) from error
    with image:
        if image.width * image.height > max_pixels:
            raise too_large
        try:
            animated = image.format in ("PNG", "WEBP", "GIF") and getattr(image, "is_animated", False)
            pixels = np.empty(0) if animated else convert(image)
        except Exception as error:
            raise _damaged_image(param) from error
    if animated:
        raise AnimatedPicture("Animated pictures are not supported.", param=param, code="invalid_image_format")
    return pixels


def _damaged_image(param: str) -> APIError:
    return invalid("The picture is damaged and cannot be decoded.", param, "image_parse_error")


def _is_one_scan_jpeg(data: bytes) -> bool:
    """Whether a JPEG holds all its colours in one scan from top to bottom, as cameras write it.

    Only such a one is decoded line by line; of any other, a progressive one say, the decoder holds all coefficients.
    """
    if data[:2] != b"\xff\xd8":
        return False
    position, num_components = 2, 0
    while position + 10 <= len(data):
        marker, size = struct.unpack_from(">HH", data, position)
        if marker < 0xFFC0 or 0xFFD0 <= marker <= 0xFFD9 or marker == 0xFFFF:
            return False  # legal, but a decoder might read on elsewhere than we would
        if marker in (0xFFC0, 0xFFC1):  # the header of a frame in sequential order
            num_components = data[position + 9]
        if marker == 0xFFDA:  # the first scan begins
            return data[position + 4] == num_components
        position += 2 + size
    return False


def _to_rgb(image: PIL.Image.Image, *, max_side: int) -> np.ndarray:
    scale = min(1.0, max_side / max(image.size))
    fitting = max(1, round(scale * image.width)), max(1, round(scale * image.height))
    profile = profile_of(image)
    pixels = np.array(_fitted(image, fitting, "RGB", _on_white))  # (H, W, 3)
    return profile.to_srgb(pixels) if profile else pixels


def _to_rgba(image: PIL.Image.Image) -> np.ndarray:
    num_pixels = image.width * image.height
    if num_pixels <= MAX_WHOLE_PIXELS:
        return np.array(_rgba(PIL.ImageOps.exif_transpose(image)))
    scale = math.sqrt(MAX_WHOLE_PIXELS / num_pixels)
    fitting = max(1, int(scale * image.width)), max(1, int(scale * image.height))
    return np.array(_fitted(image, fitting, "RGBA", _rgba))  # (H, W, 4)


def _fitted(
    image: PIL.Image.Image, fitting: tuple[int, int], mode: str, convert: Callable[[PIL.Image.Image], PIL.Image.Image]
) -> PIL.Image.Image:
    """Upright, and as small as `fitting` before it is turned. Shrinks while it converts, band by band: the file's own
    mode takes a byte a pixel where RGBA takes four."""
    image.draft(image.mode, fitting)  # a JPEG is decoded at a half, a quarter or an eighth of its size
    factor = max(1, max(image.size) // max(fitting))
    shrunk = PIL.Image.new(mode, (-(-image.width // factor), -(-image.height // factor)))
    band_height = factor * max(1, _BAND_PIXELS // (factor * image.width))
    for top in range(0, image.height, band_height):
        band = image.crop((0, top, image.width, min(top + band_height, image.height)))
        shrunk.paste(convert(band).reduce(factor), (0, top // factor))
    whole = (0, 0, image.width / factor, image.height / factor)  # the last row and column may be less than one
    fitted = shrunk.resize(fitting, PIL.Image.Resampling.BICUBIC, box=whole)
    fitted.info = image.info  # says which side is up
    return PIL.ImageOps.exif_transpose(fitted)


def _rgba(image: PIL.Image.Image) -> PIL.Image.Image:
    return _eight_bits(image).convert("RGBA")


def _on_white(image: PIL.Image.Image) -> PIL.Image.Image:
    """A picture of any mode as RGB."""
    image = _eight_bits(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    white = PIL.Image.new("RGBA", rgba.size, "white")
    white.alpha_composite(rgba)
    return white.convert("RGB")


def _eight_bits(image: PIL.Image.Image) -> PIL.Image.Image:
    """16-bit grey, which Pillow would clip instead of scale."""
    if not image.mode.startswith("I"):
        return image
    grey = np.asarray(image).astype(np.int64) >> 8
    return PIL.Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
