"""Pictures that are to be changed: where they are, and what of them stays as it is."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from sensorium.engine.request import Canvas
from sensorium.messages import Image
from sensorium.server.errors import APIError, missing
from sensorium.server.media import MediaReader
from sensorium.server.picture_finish import Kept, Size, hole_of
from sensorium.server.picture_in import colour_profile
from sensorium.server.picture_request import ImageRef, PictureFields, check_mask_fits, nothing_to_change


class PictureInput(NamedTuple):
    """A picture to be changed: what a client knows it by, and its file."""

    param: str
    data: bytes


async def kept_of(
    media: MediaReader, picture: PictureInput, mask: PictureInput | None, fields: PictureFields, *, prefix: str = ""
) -> Kept | None:
    """What of a picture stays as it is: what its mask says, or with high fidelity whatever the network leaves alone."""
    if mask is None and fields.input_fidelity != "high":
        return None
    original = await media.whole_picture(picture.data, picture.param)
    hole = None
    size: Size = await media.given_size(picture.data)  # as they were given: larger ones have been scaled down
    hole_size = size
    if mask is not None:
        hole = hole_of(await media.whole_picture(mask.data, mask.param))
        hole_size = await media.given_size(mask.data)
    mask_param = mask.param if mask else "mask"
    check_mask_fits(hole_size, size, fields.asked_size(prefix), mask=mask_param, size_param=f"{prefix}size")
    if hole is not None and not hole.any():
        raise nothing_to_change(mask_param)
    return Kept(original=original, hole=hole, profile=await asyncio.to_thread(colour_profile, picture.data))


async def canvas_of(kept: Kept | None) -> Canvas | None:
    """What is drawn into, where a mask says where."""
    if kept is None or kept.hole is None:
        return None
    return Canvas(picture=Image(pixels=await asyncio.to_thread(lambda: kept.shown)), hole=kept.hole)


async def referred(media: MediaReader, ref: ImageRef, param: str) -> PictureInput:
    """The file that a request names. Raises APIError."""
    if (ref.image_url is None) == (ref.file_id is None):
        raise (
            missing(f"{param}.image_url")
            if ref.image_url is None
            else APIError("Give `image_url` or `file_id`, not both.", param=param, code="mutually_exclusive_parameters")
        )
    if ref.image_url is not None:
        return PictureInput(param, await media.picture_file(ref.image_url, f"{param}.image_url"))
    assert ref.file_id is not None
    return PictureInput(param, await media.kept_picture_file(ref.file_id, f"{param}.file_id"))
