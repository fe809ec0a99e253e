"""What a picture that is asked for may be like: the fields that the Images API and the tool of Responses share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from pydantic import Field

from sensorium.engine.request import SamplingParams
from sensorium.server.errors import APIError, invalid, unsupported
from sensorium.server.picture_finish import Finish, Size, finished
from sensorium.server.picture_in import MAX_WHOLE_PIXELS
from sensorium.server.picture_out import PictureFormat, PictureWriter
from sensorium.server.wire import Wire

Quality: TypeAlias = Literal["low", "medium", "high"]

_SIZE = re.compile(r"(\d{1,4})x(\d{1,4})", re.ASCII)
_SIDE_STEP = 16
_MOST_STRETCHED = 3  # times as long as high, or as high as long

_DRAWINGS_OF_HIGH = 4  # eight are hardly better, and take 1.7 times as long: docs/log.md

# What OpenAI documents for a picture by gpt-image-1: (width, height) -> tokens at each quality.
_DOCUMENTED_TOKENS: Mapping[Size, Mapping[Quality, int]] = {
    (1024, 1024): {"low": 272, "medium": 1056, "high": 4160},
    (1024, 1536): {"low": 408, "medium": 1584, "high": 6240},
    (1536, 1024): {"low": 400, "medium": 1568, "high": 6208},
}
_DOCUMENTED_TOKENS_PER_PARTIAL = 100


class ImageRef(Wire):
    """A picture that is somewhere else: behind a URL (of data, or http) or among the uploaded files."""

    image_url: str | None = None
    file_id: str | None = None


class PictureFields(Wire):
    quality: Literal["low", "medium", "high", "auto"] = "auto"
    size: str = "auto"
    output_format: PictureFormat = "png"
    output_compression: Annotated[int, Field(ge=0, le=100)] = 100
    moderation: Literal["auto", "low"] = "auto"  # there is no filter: what the network has not learned, it can't draw
    background: Literal["transparent", "opaque", "auto"] = "auto"
    input_fidelity: Literal["high", "low"] | None = None
    partial_images: Annotated[int, Field(ge=0, le=3)] = 0

    @property
    def effective_quality(self) -> Quality:
        return "medium" if self.quality == "auto" else self.quality

    def check(self, prefix: str = "") -> None:
        """Raises APIError for the first field that can't be obeyed, or contradicts another. `prefix` leads its name."""
        self.asked_size(prefix)
        if self.output_format == "jpeg" and self.background == "transparent":
            raise invalid("A JPEG has no transparent background: ask for PNG or WebP.", f"{prefix}background")
        if self.output_format == "png" and self.output_compression < 100:
            message = "Compression less than 100 is not supported for PNG output format."
            raise invalid(message, f"{prefix}output_compression")

    def asked_size(self, prefix: str = "") -> Size | None:
        """(width, height), or None if any will do. Raises APIError."""
        if self.size == "auto":
            return None
        match = _SIZE.fullmatch(self.size)
        width, height = (int(match[1]), int(match[2])) if match else (0, 0)
        is_plain = match is not None and width % _SIDE_STEP == height % _SIDE_STEP == 0 < min(width, height)
        if not is_plain or max(width, height) > _MOST_STRETCHED * min(width, height):
            what = "'auto', or WIDTHxHEIGHT in multiples of 16, up to three times as long as high"
            raise unsupported(f"{prefix}size", what)
        if width * height > MAX_WHOLE_PIXELS:
            raise unsupported(f"{prefix}size", f"at most {MAX_WHOLE_PIXELS} pixels")
        return width, height


@dataclass(frozen=True, kw_only=True, eq=False)
class PicturePlan:
    """How drawings become the files that were asked for."""

    finish: Finish
    format: PictureFormat
    compression: int
    quality: Quality

    def told(self, native: Size) -> dict[str, Any]:
        """The effective values, in the contract's fields. `native` is the size of the drawing itself."""
        width, height = self.finish.size_of(native)
        return {
            "size": f"{width}x{height}",
            "quality": self.quality,
            "background": "transparent" if self.finish.has_alpha else "opaque",
            "output_format": self.format,
        }

    def origin(self, native: Size, *, num_partial: int = 0) -> dict[str, Any]:
        """What OpenAI's fields have no place for: how large the drawing was, and what a picture costs there."""
        size = self.finish.size_of(native)
        documented = _DOCUMENTED_TOKENS.get(size, {}).get(self.quality)
        tokens = None if documented is None else documented + _DOCUMENTED_TOKENS_PER_PARTIAL * num_partial
        return {
            "native_size": f"{native[0]}x{native[1]}",
            "resampling": "none" if size == native and self.finish.kept is None else "lanczos",
            "layout": self.finish.layout_of(native),
            "gpt_image_1_output_tokens": tokens,
        }


def plan_of(fields: PictureFields, finish: Finish) -> PicturePlan:
    """How the drawings for a request, already checked, become files."""
    is_transparent = fields.background == "transparent"
    is_flat = fields.output_format == "jpeg" or fields.background == "opaque"
    return PicturePlan(
        finish=replace(finish, is_transparent=is_transparent, is_flat=is_flat),
        format=fields.output_format,
        compression=fields.output_compression,
        quality=fields.effective_quality,
    )


def drawing_file(pixels: np.ndarray, plan: PicturePlan, pictures: PictureWriter) -> bytes:
    """A drawing, (N, N, 3) uint8, as the file that was asked for. Blocks: use a thread."""
    kept, shown = plan.finish.kept, finished(pixels, plan.finish)
    profile = kept.profile if kept else None
    return pictures.file(shown, plan.format, quality=plan.compression, is_composed=kept is not None, profile=profile)


def guidance(quality: Quality, *, is_natural: bool = False) -> float:
    """How a drawing is guided: at low quality not at all, which takes half the time; a natural one half as far."""
    if quality == "low":
        return 1.0
    usual = SamplingParams().guidance_scale
    return (1.0 + usual) / 2 if is_natural else usual


def num_drawings(quality: Quality) -> int:
    """How often a picture is drawn, to keep the best."""
    return _DRAWINGS_OF_HIGH if quality == "high" else 1


def check_mask_fits(hole_size: Size, picture_size: Size, size: Size | None, *, mask: str, size_param: str) -> None:
    """Raises APIError for a mask of another size than its picture, or an outcome of another shape. Sizes are (W, H)."""
    if hole_size != picture_size:
        told = f"{hole_size[0]}x{hole_size[1]} and the picture {picture_size[0]}x{picture_size[1]}"
        raise invalid(f"The mask must be as large as the first picture: it is {told}.", mask)
    if size is not None and abs(size[0] * picture_size[1] / picture_size[0] - size[1]) > 1:
        what = "what is kept of a picture has its shape: leave it out, or ask for the picture's own size"
        raise unsupported(size_param, what)


def nothing_to_change(param: str) -> APIError:
    return invalid("The mask has no fully transparent pixel: there is nothing to change.", param)
