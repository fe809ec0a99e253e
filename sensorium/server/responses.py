"""POST /v1/responses: items in, the engine's events out again as one response or as the stream of its events."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import pydantic_core
import structlog
from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from sensorium.engine.request import EngineInfo, LiveEngine, SamplingParams
from sensorium.messages import Message
from sensorium.server.answering import Answering, Question
from sensorium.server.body import read_json
from sensorium.server.chat_request import check_model
from sensorium.server.config import ServerConfig
from sensorium.server.errors import APIError, from_validation, internal
from sensorium.server.hangup import EventStream
from sensorium.server.logs import describe
from sensorium.server.media import MediaReader
from sensorium.server.metrics import Metrics
from sensorium.server.responses_items import ItemReference, UserMessage
from sensorium.server.responses_messages import Json, Placed, Turn, forget, opening, read_turns
from sensorium.server.responses_reply import ResponseWriter, error_event, response_body, server_sent
from sensorium.server.responses_request import Asked, ResponseRequest, refuse_unsupported, sampling_params

log = structlog.get_logger()

ROUTE = "/v1/responses"
_SHARE_FOR_ANSWER = 8  # of the context this part is kept free for the answer when turns are forgotten


@dataclass(frozen=True, kw_only=True, eq=False)
class _Job:
    """A request that has been understood: all that is left is to answer it."""

    request: ResponseRequest
    question: Question
    params: SamplingParams
    writer: ResponseWriter


class Responses:
    """Answers requests of the Responses API by an engine; media are decoded on `decoders`."""

    def __init__(self, engine: LiveEngine, config: ServerConfig, metrics: Metrics, decoders: Executor) -> None:
        self._info: EngineInfo = engine.info
        self._config = config
        self._answering = Answering(engine, config, metrics)
        self._decoders = decoders

    def routes(self) -> APIRouter:
        router = APIRouter()
        router.post(ROUTE)(self.create)
        return router

    async def create(self, http: Request) -> Response:
        job = await self._understand(http)
        if not job.request.stream:
            async with aclosing(self._answer(job)) as events:
                async for _ in events:
                    pass
            return Response(pydantic_core.to_json(job.writer.body), media_type="application/json")
        events = self._stream(job)
        # waiting for the first one leaves time to answer 400, which an over-long prompt deserves
        return EventStream(await anext(events), events)

    async def _understand(self, http: Request) -> _Job:
        body = await read_json(http, self._config)
        received_s = time.monotonic()
        request = _validated(body)
        check_model(request.model, self._info, self._config, param="model")
        refuse_unsupported(request)
        question = Question(
            route=ROUTE,
            messages=await self._messages(request),
            prompt_param="input",
            offered=frozenset(function.name for function in request.functions),
            max_calls=1 if request.parallel_tool_calls is False else math.inf,
            received_s=received_s,
            log=http.state.log,
        )
        options = request.stream_options
        writer = ResponseWriter(
            response_body(request, self._info),
            image=request.image_tool,
            obfuscates=bool(options and options.include_obfuscation),
        )
        return _Job(request=request, question=question, params=sampling_params(request), writer=writer)

    async def _messages(self, request: ResponseRequest) -> list[Message]:
        told = opening(request.instructions, request.functions)
        may_forget = request.truncation == "auto"
        media = MediaReader(self._config, self._info, self._decoders, prompt_param="input")
        turns = await read_turns(_placed(request), media, may_forget=may_forget)
        if may_forget:
            turns = await self._fitting(told, turns, request.max_output_tokens)
        return [*told, *(message for turn in turns for message in turn.messages)]

    async def _fitting(self, told: Sequence[Message], turns: list[Turn], max_output_tokens: int | None) -> list[Turn]:
        """The newest turns, as many as leave room for an answer."""
        spare = self._info.max_tokens // _SHARE_FOR_ANSWER
        room = self._info.max_tokens - min(spare, max_output_tokens or spare) - await self._answering.count(told)
        sizes = [await self._answering.count(turn.messages) for turn in turns]
        while len(turns) > 1 and sum(sizes) > room:
            turns = forget(turns)
            sizes = [await self._answering.count(turns[0].messages), *sizes[2:]]
        return turns

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
        """The stream's events. Errors are raised, but for those in the middle of a stream, which end the response."""
        writer = job.writer
        begun = False
        try:
            async with aclosing(self._answering.answer(job.question, job.params)) as events:
                async for event in events:
                    if not begun:
                        for told in (*writer.created(), *writer.begun()):
                            yield told
                        begun = True
                    for told in await writer.push(event):
                        yield told
        except Exception as error:
            if not begun or not job.request.stream:
                raise
            if not isinstance(error, APIError):
                log.error("answer failed", **describe(error))
            for told in writer.failed(error if isinstance(error, APIError) else internal()):
                yield told


def _validated(body: Any) -> ResponseRequest:
    try:
        return ResponseRequest.model_validate(body)
    except ValidationError as error:
        raise from_validation(error) from None


def _placed(asked: Asked) -> list[Placed]:
    """The input, whose text alone is a user's message."""
    if isinstance(asked.input, str):
        return [Placed("input", UserMessage(role="user", content=asked.input))]
    placed = [Placed(f"input[{index}]", item) for index, item in enumerate(asked.input or ())]
    for param, item in placed:
        if isinstance(item, ItemReference):
            raise missing_item(f"{param}.id")
    return placed


def missing_item(param: str) -> APIError:
    return APIError("There is no such item.", status=404, param=param)
