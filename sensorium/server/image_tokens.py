"""What pictures cost: how often one is looked at here, and what gpt-4o would have counted for it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import ceil
from typing import Literal, TypeAlias

import PIL.Image

from sensorium.messages import Image, Message, Video

Detail: TypeAlias = Literal["low", "high", "auto"]

_BASE_TOKENS, _TILE_TOKENS, _TILE_SIDE = 85, 170, 512
_LARGE_SIDE = 256  # pixels: a quarter of a smaller picture is hardly larger than what is seen of the whole
_LONGEST, _SHORTEST = 2048, 768  # sides that a picture is scaled down to before it is cut into tiles

# The least that what is shown takes of a context, for engines that do not say it in `EngineInfo.limits`.
IMAGE_TOKENS, FRAME_TOKENS = 64, 16


def in_detail(picture: Image) -> Image:
    """A picture in `auto` detail as it is to be looked at: closer if it is large and all of it lies in one quarter, for
    that is where high detail helps (docs/guides/seeing.md has the figures); as it is otherwise."""
    if picture.detail != "auto" or max(picture.pixels.shape) < _LARGE_SIDE:
        return picture
    closer = replace(picture, closer=True)
    return closer if len(closer.quarters) == 1 else picture


def view_tokens(limits: Mapping[str, float]) -> float:
    """What each look at a picture takes: at all of it, or at a quarter besides."""
    return limits.get("image_tokens", IMAGE_TOKENS) + limits.get("framing_tokens", 0)


def what_fits(messages: Iterable[Message], excess_tokens: float, limits: Mapping[str, float]) -> str:
    """How much of what is shown in a prompt would fit, which is so many tokens too long; "" if that is not to blame."""
    shown = [part for message in messages if message.role == "user" for part in message.parts]
    views = [1 if part.closer else 1 + len(part.quarters) for part in shown if isinstance(part, Image)]
    num_frames = sum(len(part.frames) for part in shown if isinstance(part, Video))
    told: list[str] = []
    if fitting := _num_fitting([num * view_tokens(limits) for num in views], excess_tokens):
        told.append(f"of {len(views)} pictures {fitting} fit")
        if sum(views) > len(views):
            saved = (sum(views) - len(views)) * view_tokens(limits)
            in_low_detail = _num_fitting([view_tokens(limits)] * len(views), excess_tokens - saved)
            told[-1] += f", in low detail {in_low_detail}"
    if fitting := _num_fitting([limits.get("frame_tokens", FRAME_TOKENS)] * num_frames, excess_tokens):
        told.append(f"of {num_frames} frames of film {fitting} fit")
    return ", or ".join(told)


def _num_fitting(tokens: Sequence[float], excess_tokens: float) -> int:
    """How many of the first are left when the last have made room."""
    num_left = len(tokens)
    while num_left and excess_tokens > 0:
        num_left -= 1
        excess_tokens -= tokens[num_left]
    return num_left if excess_tokens <= 0 else 0


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
