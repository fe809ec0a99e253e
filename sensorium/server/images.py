"""POST /v1/images/generations, edits and variations: a prompt, and pictures perhaps, in; drawings out."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pydantic_core
from fastapi import APIRouter, Request, Response

from sensorium.engine.request import End, ImageDelta, SamplingParams, TextDelta, Usage
from sensorium.messages import Image, Message, Part, Text
from sensorium.server.answering import Answering, Question
from sensorium.server.body import read_form, read_json
from sensorium.server.chat_reply import until_done
from sensorium.server.chat_request import check_model
from sensorium.server.config import ServerConfig
from sensorium.server.errors import context_exceeded
from sensorium.server.files import Files
from sensorium.server.hangup import EventStream
from sensorium.server.image_tokens import view_tokens
from sensorium.server.images_reply import ImagesWriter, failed, response_body
from sensorium.server.images_request import (
    MAX_INPUTS,
    EditForm,
    EditRequest,
    GenerationRequest,
    ImagesRequest,
    Kind,
    VariationRequest,
    read,
    read_form_fields,
    uploads,
)
from sensorium.server.media import Decoders, MediaReader
from sensorium.server.metering import What
from sensorium.server.picture_finish import Finish, Size
from sensorium.server.picture_input import PictureInput, canvas_of, kept_of, referred
from sensorium.server.picture_links import PictureLinks
from sensorium.server.picture_order import caption, drawing_order, edit_order
from sensorium.server.picture_out import PictureWriter
from sensorium.server.picture_request import PicturePlan, guidance, num_drawings, plan_of
from sensorium.server.responses_reply import server_sent

ROUTE = "/v1/images"

_LOOK = "what is in the picture"  # as the network was asked when it learned to say what it sees
_MAX_CAPTION_TOKENS = 48
_SQUARE, _WIDE, _HIGH = (1024, 1024), (1536, 1024), (1024, 1536)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Job:
    """A request that has been understood: all that is left is to draw."""

    kind: Kind
    request: ImagesRequest
    question: Question
    params: Sequence[SamplingParams]
    plan: PicturePlan
    order: str  # what the network is told


class Images:
    """Draws by an engine; pictures that come in are decoded on `decoders`."""

    def __init__(
        self,
        answering: Answering,
        config: ServerConfig,
        decoders: Decoders,
        files: Files,
        pictures: PictureWriter,
        links: PictureLinks,
    ) -> None:
        self._info = answering.info
        self._answering = answering
        self._config = config
        self._decoders = decoders
        self._files = files
        self._pictures = pictures
        self._links = links

    def routes(self) -> APIRouter:
        router = APIRouter()
        router.post(f"{ROUTE}/generations")(self.generate)
        router.post(f"{ROUTE}/edits")(self.edit)
        router.post(f"{ROUTE}/variations")(self.vary)
        router.include_router(self._links.routes())
        return router

    async def generate(self, http: Request) -> Response:
        request = read(GenerationRequest, await read_json(http, self._config))
        check_model(request.model, self._info, self._config, param="model")
        plan = plan_of(request, Finish(size=request.asked_size() or _SQUARE))
        return await self._answer(http, "generation", request, drawing_order(request.prompt), [], plan)

    async def edit(self, http: Request) -> Response:
        media = self._media(http)
        if http.headers.get("content-type", "").startswith("multipart/form-data"):
            limit = self._config.max_body_bytes
            fields = await read_form(http, self._config, max_bytes=limit, max_files=MAX_INPUTS + 1)
            files = uploads(fields, "image", most=MAX_INPUTS)
            inputs = [
                PictureInput(f"image[{index}]" if len(files) > 1 else "image", data) for index, data in enumerate(files)
            ]
            mask = PictureInput("mask", uploads(fields, "mask")[0]) if "mask" in fields else None
            request = read_form_fields(EditForm, fields)
            check_model(request.model, self._info, self._config, param="model")
        else:
            request = read(EditRequest, await read_json(http, self._config))
            check_model(request.model, self._info, self._config, param="model")
            inputs = [await referred(media, ref, f"images[{index}]") for index, ref in enumerate(request.images)]
            mask = await referred(media, request.mask, "mask") if request.mask else None
        self._check_they_fit(len(inputs), "image" if inputs[0].param.startswith("image[") else "images")
        seen = [await media.picture(data, param) for param, data in inputs]
        kept = await kept_of(media, inputs[0], mask, request)
        size = request.asked_size() or (None if kept else _size_like(seen[0]))
        shape = seen[0].pixels.shape
        plan = plan_of(request, Finish(size=size, kept=kept, shape_of=(shape[1], shape[0])))
        return await self._answer(http, "edit", request, edit_order(request.prompt), seen, plan)

    async def vary(self, http: Request) -> Response:
        fields = await read_form(http, self._config, max_bytes=self._config.max_body_bytes)
        (data,) = uploads(fields, "image")
        request = read_form_fields(VariationRequest, fields)
        check_model(request.model, self._info, self._config, param="model")
        shown = await self._media(http).picture(data, "image")
        plan = plan_of(request, Finish(size=request.asked_size() or _SQUARE))
        return await self._answer(http, "variation", request, "", [shown], plan)

    def _check_they_fit(self, num_inputs: int, param: str) -> None:
        """Raises APIError for more pictures than the network's context holds beside the one that is drawn."""
        drawn = seen = view_tokens(self._info.limits)
        most = int((self._info.max_tokens - drawn) // seen)
        if num_inputs > most:
            raise context_exceeded(f"of {num_inputs} pictures {most} fit this model's context", param)

    def _media(self, http: Request) -> MediaReader:
        files = self._files.reader(http.state.project)
        return MediaReader(self._config, self._info, self._decoders, prompt_param="image", files=files)

    async def _answer(
        self,
        http: Request,
        kind: Kind,
        request: ImagesRequest,
        told: str,
        seen: Sequence[Image],
        plan: PicturePlan,
    ) -> Response:
        received_s = time.monotonic()
        canvas = await canvas_of(plan.finish.kept)
        params = [
            SamplingParams(
                modality="image",
                seed=secrets.randbits(62),
                guidance_scale=guidance(plan.quality, is_natural=request.is_natural),
                canvas=canvas,
                drawings=num_drawings(plan.quality),
                caption=caption(told) if kind == "generation" else None,
                partial_images=request.partial_images if request.stream else 0,
            )
            for _ in range(request.n)
        ]
        messages = _prompt(told or _LOOK, seen)
        width, height = plan.finish.size_of((0, 0))
        what: What = {"kind": "images", "size": f"{width}x{height}", "source": f"image.{kind}"}
        charge = await self._answering.charge(http.state, request.model, [messages], params, **what)
        question = Question(
            route=f"{ROUTE}/{kind}s",
            messages=messages,
            prompt_param="prompt" if told else "image",
            charge=charge,
            received_s=received_s,
            log=http.state.log,
        )
        job = _Job(kind=kind, request=request, question=question, params=params, plan=plan, order=told)
        if request.stream:
            events = until_done(self._events(job), ending=b"", failed=failed)
            return EventStream(await anext(events), events)  # the first one leaves time to answer 400
        body = await self._complete(job, str(http.base_url))
        return Response(pydantic_core.to_json(body), media_type="application/json")

    async def _complete(self, job: _Job, base_url: str) -> dict[str, Any]:
        drawings: dict[int, np.ndarray] = {}
        usages: list[Usage] = []
        async with job.question.charge:
            if not job.order:
                job, usage = await self._described(job)
                usages.append(usage)
            async with aclosing(self._answering.answers(job.question, job.params)) as events:
                async for index, event in events:
                    if isinstance(event, ImageDelta) and event.final:
                        drawings[index] = event.pixels
                    if isinstance(event, End):
                        usages.append(event.usage)
            job.question.charge.add(images=len(drawings))
        writer = ImagesWriter(job.plan, self._pictures)
        files = [await writer.file(pixels) for _, pixels in sorted(drawings.items())]
        links = (
            [await self._links.keep(file, job.plan.format, base_url) for file in files] if job.request.as_urls else []
        )
        return response_body(
            writer, files, links, usages, order=job.order, safety_identifier=job.request.safety_identifier
        )

    async def _described(self, job: _Job) -> tuple[_Job, Usage]:
        """The picture to be varied, in the network's own words: what is to be drawn."""
        text, usage = "", Usage()
        looking = SamplingParams(max_tokens=_MAX_CAPTION_TOKENS, tool_choice="none")
        async with aclosing(self._answering.answer(job.question, looking)) as events:
            async for event in events:
                text += event.text if isinstance(event, TextDelta) else ""
                usage = event.usage if isinstance(event, End) else usage
        told = drawing_order(text or "something")
        params = [replace(each, caption=caption(told)) for each in job.params]
        question = replace(job.question, messages=_prompt(told, []))
        return replace(job, order=told, question=question, params=params), usage

    async def _events(self, job: _Job) -> AsyncGenerator[bytes, None]:
        writer = ImagesWriter(job.plan, self._pictures, kind=job.kind)
        async with job.question.charge, aclosing(self._answering.answer(job.question, job.params[0])) as events:
            async for event in events:
                if isinstance(event, ImageDelta):
                    for told in await writer.shown(event.pixels, is_final=event.final):
                        yield server_sent(told)
                if isinstance(event, End):
                    job.question.charge.add(images=1)
                    yield server_sent(writer.completed(event.usage))


def _prompt(told: str, seen: Sequence[Image]) -> list[Message]:
    parts: list[Part] = [*seen, Text(text=told)]
    return [Message(role="user", parts=tuple(parts))]


def _size_like(picture: Image) -> Size:
    height, width, _ = picture.pixels.shape
    return _SQUARE if 0.8 <= width / height <= 1.25 else _WIDE if width > height else _HIGH
