"""POST /v1/responses: items in, the engine's events out again as one response or as the stream of its events."""

from __future__ import annotations

import asyncio
import copy
import math
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import NamedTuple

import pydantic_core
import structlog
from fastapi import APIRouter, Request, Response

from sensorium.engine.request import SamplingParams, Usage
from sensorium.messages import Message
from sensorium.platform.presence import Presence
from sensorium.platform.store import Store
from sensorium.server.answering import Answering, Question
from sensorium.server.body import read_json
from sensorium.server.chat_request import check_model
from sensorium.server.config import ServerConfig
from sensorium.server.errors import APIError, internal, validated
from sensorium.server.files import Files
from sensorium.server.hangup import EventStream
from sensorium.server.image_tokens import gpt_4o_image_tokens
from sensorium.server.listing import not_found
from sensorium.server.logs import describe
from sensorium.server.media import Decoders, MediaReader
from sensorium.server.picture_out import PictureWriter
from sensorium.server.responses_background import Background, BackgroundConfig, Running
from sensorium.server.responses_compact import Compactions, CompactRequest
from sensorium.server.responses_drawing import drawing_of, wanted_caption
from sensorium.server.responses_items import ItemReference, UserMessage
from sensorium.server.responses_kept import UNDER_WAY, Kept, distinct, placed
from sensorium.server.responses_messages import Json, Placed, Turn, forget, opening, read_turns, resource
from sensorium.server.responses_reply import ResponseWriter, error_event, response_body, server_sent
from sensorium.server.responses_request import (
    Asked,
    CountRequest,
    ImageTool,
    ResponseRequest,
    Thread,
    refuse_nothing,
    refuse_prompt,
    refuse_unsupported,
    sampling_params,
)
from sensorium.server.responses_stored import StoredResponses

log = structlog.get_logger()

ROUTE = "/v1/responses"
# of the context this part is kept free when turns are forgotten: for the answer, and by a compaction for what follows
_SHARE_FOR_ANSWER, _SHARE_FOR_MORE = 8, 2


@dataclass(frozen=True, kw_only=True, eq=False)
class _Job:
    """A request that has been understood: all that is left is to answer it."""

    request: ResponseRequest
    question: Question
    params: SamplingParams
    writer: ResponseWriter
    kept: Kept
    input_items: Sequence[Json]

    async def save(self) -> None:
        """Writes down what the client will ask for again."""
        if self.request.store is not False:
            await self.kept.save(self.writer.body, self.input_items)
        await self._add_to_conversation()

    async def keep(self, events: Sequence[Json]) -> bool:
        """The same at the end of a response of the background: a `Keeper`."""
        if not await self.kept.finish(self.writer.body, events):
            return False
        await self._add_to_conversation()
        return True

    async def is_over(self) -> bool:
        body = await self.ending()
        return body is None or body["status"] not in UNDER_WAY

    async def ending(self) -> Json | None:
        return await self.kept.as_it_is(self.writer.body["id"])

    async def _add_to_conversation(self) -> None:
        body = self.writer.body
        if self.request.conversation_id and body["status"] in ("completed", "incomplete"):
            await self.kept.add_to(self.request.conversation_id, [*self.input_items, *body["output"]])


class _Conversation(NamedTuple):
    items: list[Placed]  # what was said, all of it, with what compactions stand for in their places
    own: list[Placed]  # what the request itself adds, as it was sent


class Responses:
    """Answers requests of the Responses API by an engine; media are decoded on `decoders`."""

    def __init__(
        self,
        answering: Answering,
        config: ServerConfig,
        decoders: Decoders,
        store: Store,
        presence: Presence,
        files: Files,
        pictures: PictureWriter,
        compactions: Compactions,
    ) -> None:
        self._info = answering.info
        self._config = config
        self._answering = answering
        self._decoders = decoders
        self._store = store
        self._presence = presence
        self._files = files
        self._pictures = pictures
        self._compactions = compactions
        self._background = Background(
            BackgroundConfig(max_running=config.max_concurrent_requests, keep_within_s=config.request_timeout_s),
            presence,
        )

    def routes(self) -> APIRouter:
        router = APIRouter()
        router.post(ROUTE)(self.create)
        router.post(f"{ROUTE}/input_tokens")(self.count)
        router.post(f"{ROUTE}/compact")(self.compact)
        router.include_router(StoredResponses(self._background, self._kept).routes())
        return router

    async def close(self) -> None:
        await self._background.close()

    async def create(self, http: Request) -> Response:
        job = await self._understand(http)
        if job.request.background:
            return await self._begin(job, http.state.project)
        if not job.request.stream:
            async with aclosing(self._answer(job)) as events:
                async for _ in events:
                    pass
            return _json(job.writer.body)
        events = self._stream(job)
        # waiting for the first one leaves time to answer 400, which an over-long prompt deserves
        return EventStream(await anext(events), events)

    async def count(self, http: Request) -> Response:
        asked = validated(CountRequest, await read_json(http, self._config))
        if asked.model is not None:
            check_model(asked.model, self._info, self._config, param="model")
        refuse_prompt(asked)
        kept = self._kept(http.state.project)
        conversation = await self._conversation(asked, kept)
        messages = await self._messages(asked, conversation, self._media(kept.project), None)
        num_tokens = await self._answering.count(messages)
        return _json({"object": "response.input_tokens", "input_tokens": num_tokens})

    async def compact(self, http: Request) -> Response:
        """The conversation without its oldest turns, as many as it takes to leave half of the context free."""
        asked = validated(CompactRequest, await read_json(http, self._config))
        model = asked.model or self._info.model
        check_model(model, self._info, self._config, param="model")
        refuse_nothing(asked)
        kept = self._kept(http.state.project)
        async with await self._answering.charge(http.state, model, [], []) as charge:
            conversation = await self._conversation(asked, kept)
            turns = await read_turns(conversation.items, self._media(kept.project), may_forget=True)
            told = opening(asked.instructions, [])
            turns = await self._fitting(told, turns, self._info.max_tokens // _SHARE_FOR_MORE)
            body = await self._compactions.compact(turns, kept.project)
            charge.add(Usage())
        return _json(body)

    def _kept(self, project: str) -> Kept:
        return Kept(
            self._store,
            project,
            self._presence,
            max_items=self._info.max_tokens,
            timeout_s=self._config.request_timeout_s,
        )

    async def _understand(self, http: Request) -> _Job:
        body = await read_json(http, self._config)
        received_s = time.monotonic()
        request = validated(ResponseRequest, body)
        check_model(request.model, self._info, self._config, param="model")
        for index, tool in enumerate(request.tools or ()):
            if isinstance(tool, ImageTool) and tool.model is not None:
                check_model(tool.model, self._info, self._config, param=f"tools[{index}].model")
        refuse_unsupported(request)
        params = await asyncio.to_thread(sampling_params, request)  # compiles schemas
        if request.background:
            self._background.check_room()
        kept = self._kept(http.state.project)
        conversation = await self._conversation(request, kept)
        media = self._media(kept.project)
        messages = await self._messages(request, conversation, media, request.max_output_tokens)
        drawing = await drawing_of(request, conversation.items, media)
        messages, params = drawing.changing(messages, params)
        drawing = drawing.about(messages)
        params = replace(params, caption=wanted_caption(messages), canvas=drawing.canvas)
        question = Question(
            route=ROUTE,
            messages=messages,
            charge=await self._answering.charge(http.state, request.model, [messages], [params]),
            prompt_param="input",
            offered=frozenset(function.name for function in request.callable_functions),
            max_calls=1 if request.parallel_tool_calls is False else math.inf,
            received_s=received_s,
            log=http.state.log,
        )
        options = request.stream_options
        writer = ResponseWriter(
            response_body(request, params, self._info),
            self._pictures,
            plan=drawing.plan,
            action=drawing.action,
            obfuscates=bool(options and options.include_obfuscation),
            seen=gpt_4o_image_tokens(messages),
        )
        return _Job(
            request=request,
            question=question,
            params=params,
            writer=writer,
            kept=kept,
            input_items=distinct([resource(item) for _, item in conversation.own]),
        )

    def _media(self, project: str) -> MediaReader:
        files = self._files.reader(project)
        return MediaReader(self._config, self._info, self._decoders, prompt_param="input", files=files)

    async def _conversation(self, asked: Thread, kept: Kept) -> _Conversation:
        before: list[Placed] = []
        if asked.conversation_id:
            before = placed("conversation", await kept.items_of(asked.conversation_id))
        elif asked.previous_response_id:
            before = placed("previous_response_id", await kept.thread(asked.previous_response_id))
        own = await _own_items(asked, before, kept)
        return _Conversation(await self._compactions.expand([*before, *own], kept.project), own)

    async def _messages(
        self, asked: Asked, conversation: _Conversation, media: MediaReader, max_output_tokens: int | None
    ) -> list[Message]:
        """All that the engine is to read."""
        told = opening(asked.instructions, asked.functions)
        may_forget = asked.truncation == "auto"
        turns = await read_turns(conversation.items, media, may_forget=may_forget)
        if may_forget:
            spare = self._info.max_tokens // _SHARE_FOR_ANSWER
            turns = await self._fitting(told, turns, min(spare, max_output_tokens or spare))
        return [*told, *(message for turn in turns for message in turn.messages)]

    async def _fitting(self, told: Sequence[Message], turns: list[Turn], spare_tokens: int) -> list[Turn]:
        """The newest turns, as many as leave so much of the context free."""
        room = self._info.max_tokens - spare_tokens - await self._answering.count(told)
        sizes = [await self._answering.count(turn.messages) for turn in turns]
        while len(turns) > 1 and sum(sizes) > room:
            turns = forget(turns)
            sizes = [await self._answering.count(turns[0].messages), *sizes[2:]]
        return turns

    async def _begin(self, job: _Job, project: str) -> Response:
        """Answers in the background: the client is told at once, or follows the stream for as long as it likes."""
        running = Running(job.writer, job.writer.queued(), job)
        queued = copy.deepcopy(job.writer.body)
        await self._presence.hold()
        await job.kept.save(queued, job.input_items, running.events)
        self._background.start(project, running, self._answer(job))
        return EventStream(b"", running.follow(-1)) if job.request.stream else _json(queued)

    async def _stream(self, job: _Job) -> AsyncGenerator[bytes, None]:
        """Server-sent events. An error before the first of them is raised, a later one is told in the stream."""
        sent = 0
        try:
            async with aclosing(self._answer(job)) as events:
                async for event in events:
                    yield server_sent(event)
                    sent += 1
        except Exception as error:
            if not sent:
                raise
            log.error("stream failed", **describe(error))
            yield server_sent(error_event(internal(), sent))

    async def _answer(self, job: _Job) -> AsyncGenerator[Json, None]:
        """The response's events; outside the background it is kept before the last of them is told.

        Errors are raised, but for those that a client can only learn of from the response itself.
        """
        writer, in_background = job.writer, bool(job.request.background)
        begun = False
        try:
            answer = self._answering.answer(job.question, job.params)
            async with job.question.charge, aclosing(answer) as events:
                async for event in events:
                    if not begun:
                        for told in (*([] if in_background else writer.created()), *writer.begun()):
                            yield told
                        begun = True
                    changes = await writer.push(event)
                    if writer.is_over and not in_background:
                        await job.save()
                    for told in changes:
                        yield told
        except Exception as error:
            if writer.is_over or not (in_background or (begun and job.request.stream)):
                raise
            if not isinstance(error, APIError):
                log.error("answer failed", **describe(error))
            changes = writer.failed(error if isinstance(error, APIError) else internal())
            if not in_background:
                await job.save()
            for told in changes:
                yield told


async def _own_items(asked: Thread, before: Sequence[Placed], kept: Kept) -> list[Placed]:
    """The input, whose text alone is a user's message, with what it refers to in its place."""
    if isinstance(asked.input, str):
        return [Placed("input", UserMessage(role="user", content=asked.input))]
    known = {getattr(item, "id", None): item for _, item in before}
    own: list[Placed] = []
    for index, item in enumerate(asked.input or ()):
        param = f"input[{index}]"
        if isinstance(item, ItemReference):
            referred = known.get(item.id)
            if referred is None and (body := await kept.output_item(item.id)) is not None:
                referred = placed(param, [body])[0].item
            if referred is None:
                raise not_found("Item", item.id, f"{param}.id")
            item = referred
        own.append(Placed(param, item))
    return own


def _json(body: Json) -> Response:
    return Response(pydantic_core.to_json(body), media_type="application/json")
