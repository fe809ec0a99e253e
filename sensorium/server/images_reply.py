"""How drawings look on the wire: one object, or the events of a stream."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from sensorium.engine.request import Usage
from sensorium.server.errors import APIError
from sensorium.server.images_request import Kind
from sensorium.server.picture_finish import Size
from sensorium.server.picture_out import PictureWriter
from sensorium.server.picture_request import PicturePlan, drawing_file
from sensorium.server.responses_reply import server_sent

Json = dict[str, Any]


class ImagesWriter:
    """Makes files of one request's drawings, and the events of its stream."""

    def __init__(self, plan: PicturePlan, pictures: PictureWriter, *, kind: Kind = "generation") -> None:
        self.plan = plan
        self.native: Size = (0, 0)  # of the last drawing
        self._pictures = pictures
        self._event = "image_edit" if kind == "edit" else "image_generation"
        self._num_partial = 0
        self._final = b""

    async def file(self, pixels: np.ndarray) -> bytes:
        """A drawing, (N, N, 3) uint8, as the file that was asked for."""
        self.native = pixels.shape[1], pixels.shape[0]
        return await asyncio.to_thread(drawing_file, pixels, self.plan, self._pictures)

    async def shown(self, pixels: np.ndarray, *, is_final: bool) -> list[Json]:
        """The events of a drawing as far as it is; that of a whole one is `completed`."""
        data = await self.file(pixels)
        if is_final:
            self._final = data
            return []
        event = self._about("partial_image", data, partial_image_index=self._num_partial)
        self._num_partial += 1
        return [event]

    def completed(self, usage: Usage) -> Json:
        origin = self.plan.origin(self.native, num_partial=self._num_partial)
        return self._about("completed", self._final, usage=usage_body([usage]), sensorium=origin)

    def _about(self, what: str, data: bytes, **fields: Any) -> Json:
        head = {"type": f"{self._event}.{what}", "b64_json": base64.b64encode(data).decode()}
        return {**head, "created_at": int(time.time()), **self.plan.told(self.native), **fields}


def response_body(
    writer: ImagesWriter,
    files: Sequence[bytes],
    links: Sequence[str],
    usages: Sequence[Usage],
    *,
    order: str,
    safety_identifier: str | None,
) -> Json:
    """The answer to a request that was not streamed. With `links` the files are behind these."""
    places = [{"url": link} for link in links] or [{"b64_json": base64.b64encode(file).decode()} for file in files]
    body = {
        "created": int(time.time()),
        "data": [{**place, "revised_prompt": order} for place in places],
        **writer.plan.told(writer.native),
        "usage": usage_body(usages),
        "sensorium": writer.plan.origin(writer.native),
    }
    return body | ({"safety_identifier": safety_identifier} if safety_identifier else {})


def usage_body(usages: Sequence[Usage]) -> Json:
    """Positions of our own stream. The pictures of one request share its prompt, which counts once."""
    # a variation has two, the one that looks and the one that draws: only one of them holds a picture
    prompts = {(usage.input_text, usage.input_image) for usage in usages}
    text, image = (sum(prompt[at] for prompt in prompts) for at in (0, 1))
    said, drawn = sum(usage.output_text for usage in usages), sum(usage.output_image for usage in usages)
    return {
        "input_tokens": text + image,
        "input_tokens_details": {"text_tokens": text, "image_tokens": image},
        "output_tokens": said + drawn,
        "output_tokens_details": {"text_tokens": said, "image_tokens": drawn},
        "total_tokens": text + image + said + drawn,
    }


def failed(error: APIError) -> bytes:
    """The event of a stream that breaks off."""
    return server_sent({"type": "error", **error.envelope()})
