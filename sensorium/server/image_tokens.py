"""What pictures cost: how often one is looked at here, and what gpt-4o would have counted for it."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import replace
from math import ceil
from typing import Literal, TypeAlias

import PIL.Image

from sensorium.messages import Image, Message

Detail: TypeAlias = Literal["low", "high", "auto"]

_BASE_TOKENS, _TILE_TOKENS, _TILE_SIDE = 85, 170, 512
_LARGE_SIDE = 256  # pixels: a quarter of a smaller picture is hardly larger than what is seen of the whole
_LONGEST, _SHORTEST = 2048, 768  # sides that a picture is scaled down to before it is cut into tiles


def views_of(detail: Detail) -> int:
    """A whole picture, and in high detail its four quarters: at most, for plain ones are left out."""
    return 5 if detail == "high" else 1


def in_detail(picture: Image) -> Image:
    """A picture in `auto` detail as it is to be looked at: in high detail if it is large and all of it lies in one
    quarter, for that is where high detail helps (docs/guides/seeing.md has the figures); as it is otherwise."""
    if picture.detail != "auto" or max(picture.pixels.shape) < _LARGE_SIDE:
        return picture
    closer = replace(picture, detail="high")
    return closer if len(closer.quarters) == 1 else picture


def picture_size(data: bytes) -> tuple[int, int]:
    """Width and height by the file's header, of a picture that was decoded already."""
    with PIL.Image.open(io.BytesIO(data)) as image:
        return image.size


def gpt_4o_image_tokens(messages: Iterable[Message]) -> int:
    """What gpt-4o would have counted for the pictures that it is shown."""
    shown = [part for message in messages if message.role != "assistant" for part in message.parts]
    pictures = [part for part in shown if isinstance(part, Image)]
    return sum(_tiled(image.given_size or image.pixels.shape[1::-1], image.detail) for image in pictures)


def _tiled(size: tuple[int, ...], detail: Detail) -> int:
    """The documented count: 85, and unless in low detail 170 for each tile of 512 pixels of the scaled picture."""
    if detail == "low":
        return _BASE_TOKENS
    scale = min(1.0, _LONGEST / max(size))
    scale *= min(1.0, _SHORTEST / (scale * min(size)))
    across, down = (ceil(round(side * scale, 6) / _TILE_SIDE) for side in size)
    return _BASE_TOKENS + _TILE_TOKENS * across * down
