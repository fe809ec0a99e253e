"""Animated pictures off the wire: GIF, WebP and PNG -> films, for that is what they are.

A short one is looked at more often than a film is, since much may happen in a second of it.
"""

from __future__ import annotations

import io
import struct
from functools import partial
from typing import BinaryIO

import numpy as np
import PIL.Image

from sensorium.messages import Image, Video
from sensorium.server.errors import APIError, invalid
from sensorium.server.film_in import MAX_FRAME_SIDE, FilmBounds, FilmTooLong, Ticks

_FIRST_STEP_S = 0.25
_FRAMES_OF_A_SHORT_ONE = 8  # up to 2 s every quarter of a second, up to 4 s every half, up to 8 s every one
_LEAST_MS, _USUAL_MS = 11, 100  # browsers show what asks for less than the first for the second
_MOST_FRAMES = 4000
_MOST_PIXELS = 2**28  # of all frames together: seconds of decoding


def decode_animation(data: bytes, param: str, bounds: FilmBounds) -> Video:
    """An animated picture, the pixels of whose canvas are within bounds already, as a film without sound, on white.

    Raises APIError naming `param`.
    """
    ticks = Ticks(_FIRST_STEP_S, min(_FRAMES_OF_A_SHORT_ONE, bounds.max_frames))
    time_s = 0.0
    try:
        with PIL.Image.open(io.BytesIO(data), formats=("GIF", "WEBP", "PNG")) as image:
            canvas = image.width * image.height
            grown = _grown_canvas(data) if image.format == "GIF" else canvas
            all_frames = max(canvas, grown) * min(_frames_of(image), _MOST_FRAMES + 1)
            if grown > max(canvas, bounds.max_pixels) or all_frames > _MOST_PIXELS:
                raise invalid("The animated picture has too many pixels.", param, "image_too_large")
            for number in range(_MOST_FRAMES + 1):
                try:
                    image.seek(number)
                except EOFError:
                    break
                image.load()  # of WebP only then it is known how long a frame is shown
                told_ms = float(image.info.get("duration") or 0)
                time_s += (told_ms if told_ms >= _LEAST_MS else _USUAL_MS) / 1000
                if number == _MOST_FRAMES or time_s > bounds.max_s:
                    raise FilmTooLong(param, bounds.max_s)
                ticks.show(partial(_small, image), until_s=time_s)
    except APIError:
        raise
    except Exception as error:  # Pillow's readers raise nearly anything on damaged files
        raise invalid("The picture is damaged and cannot be decoded.", param, "image_parse_error") from error
    frames = tuple(Image(pixels=pixels) for pixels in ticks.kept)
    return Video(frames=frames, times_ms=tuple(1000.0 * time_s for time_s in ticks.times_s))


def _grown_canvas(data: bytes) -> int:
    """The pixels of a GIF's canvas when all its frames have been shown: for a larger one Pillow makes room, and takes
    memory before it says so. Reads the file's blocks as Pillow does."""
    file = io.BytesIO(data)
    width, height, flags = struct.unpack_from("<HHB", file.read(13), 6)
    file.seek(_palette_bytes(flags), io.SEEK_CUR)
    is_first = True
    while (kind := file.read(1)) not in (b"", b";"):
        if kind == b"!":
            label, block = file.read(1), _block(file)
            if label == b"\xfe":  # a comment ends with its first empty block
                if not block:
                    continue
            elif label == b"\xff" and is_first and block.startswith(b"NETSCAPE2.0"):
                _block(file)
        elif kind == b",":
            left, top, frame_width, frame_height, flags = struct.unpack("<4HB", file.read(9))
            width, height = max(width, left + frame_width), max(height, top + frame_height)
            file.seek(_palette_bytes(flags) + 1, io.SEEK_CUR)
            is_first = False
        else:
            continue
        while _block(file):
            pass
    return width * height


def _palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 128 else 0


def _block(file: BinaryIO) -> bytes:
    size = file.read(1)
    return file.read(size[0]) if size else b""


def _frames_of(image: PIL.Image.Image) -> int:
    return int(getattr(image, "n_frames", 1))


def _small(image: PIL.Image.Image) -> np.ndarray:
    """(H, W, 3) uint8: the frame that is shown now, at most MAX_FRAME_SIDE on a side."""
    seen = image.convert("RGBA")
    seen.thumbnail((MAX_FRAME_SIDE, MAX_FRAME_SIDE))
    ground = PIL.Image.new("RGBA", seen.size, "white")
    return np.asarray(PIL.Image.alpha_composite(ground, seen).convert("RGB"))
