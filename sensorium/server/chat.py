"""POST /v1/chat/completions: a request in, the engine's events out again as one object or as a stream of chunks."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass

import structlog
from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from sensorium.engine.request import (
    AudioDelta,
    ContextLengthExceeded,
    End,
    Engine,
    Event,
    SamplingParams,
    TextDelta,
    ToolCallEvent,
    TranscriptDelta,
    Usage,
)
from sensorium.messages import Message
from sensorium.server.audio_out import SpokenReplies
from sensorium.server.body import read_json
from sensorium.server.chat_messages import to_messages
from sensorium.server.chat_reply import (
    Answer,
    DeltaWriter,
    Envelope,
    choice_body,
    message_body,
    server_sent,
    usage_body,
)
from sensorium.server.chat_request import ChatRequest, check_model, refuse_unsupported, sampling_params
from sensorium.server.config import ServerConfig
from sensorium.server.errors import APIError, context_exceeded, from_validation, internal
from sensorium.server.hangup import EventStream
from sensorium.server.logs import describe
from sensorium.server.media import MediaReader
from sensorium.server.metrics import Metrics

log = structlog.get_logger()

ROUTE = "/v1/chat/completions"


@dataclass(frozen=True, kw_only=True, eq=False)
class _Job:
    """A request that has been understood: all that is left is to answer it."""

    request: ChatRequest
    messages: Sequence[Message]
    params: Sequence[SamplingParams]  # one for each choice
    received_s: float  # when its last byte came, on the monotonic clock
    log: dict[str, float]  # figures for the line that the log gets about this request


class Chat:
    """Answers chat requests by an engine; media are decoded on `decoders`."""

    def __init__(self, engine: Engine, config: ServerConfig, metrics: Metrics, decoders: Executor) -> None:
        self._engine = engine
        self._config = config
        self._metrics = metrics
        self._replies = SpokenReplies(ttl_s=config.spoken_reply_ttl_s, max_bytes=config.spoken_reply_bytes)
        self._decoders = decoders

    def routes(self) -> APIRouter:
        router = APIRouter()
        router.post(ROUTE)(self.create)
        return router

    async def create(self, http: Request) -> Response:
        job = await self._understand(http)
        if not job.request.stream:
            return Response(await self._complete(job), media_type="application/json")
        events = self._stream(job)
        # waiting for the first one leaves time to answer 400, which an over-long prompt deserves
        return EventStream(await anext(events), events)

    async def _understand(self, http: Request) -> _Job:
        body = await read_json(http, self._config)
        received_s = time.monotonic()
        try:
            request = ChatRequest.model_validate(body)
        except ValidationError as error:
            raise from_validation(error) from None
        info = self._engine.info
        check_model(request.model, info, self._config)
        refuse_unsupported(request, self._config)
        params = [sampling_params(request, info, self._config, choice=index) for index in range(request.n or 1)]
        media = MediaReader(self._config, info, self._decoders)
        messages = await to_messages(request.messages, request.offered_tools, media, self._replies)
        return _Job(request=request, messages=messages, params=params, received_s=received_s, log=http.state.log)

    async def _complete(self, job: _Job) -> bytes:
        format = job.request.audio.format if job.request.audio else None
        choices, usages = [], []
        for index, params in enumerate(job.params):
            answer = Answer(params.voice)
            async with aclosing(self._events(job, params)) as events:
                async for event in events:
                    answer.add(event)
            message = await message_body(answer, format, self._replies)
            choices.append(choice_body(index, message, answer.finish_reason))
            usages.append(answer.usage)
        return Envelope(job.request, self._engine.info).completion(choices, usage_body(usages))

    async def _stream(self, job: _Job) -> AsyncGenerator[bytes, None]:
        """Server-sent events. An error before the first of them is raised, a later one is told in the stream."""
        begun = False
        try:
            async with aclosing(self._chunks(job)) as chunks:
                async for chunk in chunks:
                    begun = True
                    yield chunk
        except Exception as error:
            if not begun:
                raise
            if not isinstance(error, APIError):
                log.error("stream failed", **describe(error))
            yield server_sent((error if isinstance(error, APIError) else internal()).envelope())
            return
        yield b"data: [DONE]\n\n"

    async def _chunks(self, job: _Job) -> AsyncGenerator[bytes, None]:
        envelope = Envelope(job.request, self._engine.info)
        usages: list[Usage] = []
        for index, params in enumerate(job.params):
            answer = Answer(params.voice)
            writer = DeltaWriter(answer, speaks=job.request.speaks, replies=self._replies)
            opened = False
            async with aclosing(self._events(job, params)) as events:
                async for event in events:
                    if not opened:
                        yield envelope.chunk(index, writer.opening(event))
                        opened = True
                    answer.add(event)
                    for delta in await writer.deltas(event):
                        yield envelope.chunk(index, delta)
            yield envelope.chunk(index, {}, answer.finish_reason)
            usages.append(answer.usage)
        if job.request.include_usage:
            yield envelope.last_chunk(usage_body(usages))

    async def _events(self, job: _Job, params: SamplingParams) -> AsyncGenerator[Event, None]:
        """The engine's events: in time, counted, and its refusals in the contract's words. The last one is an End."""
        waiting = {TextDelta: "ttft_ms", TranscriptDelta: "ttft_ms", AudioDelta: "ttfa_ms"}
        num_calls = 0
        max_calls = 1 if job.request.parallel_tool_calls is False else math.inf
        offered = {tool.function.name for tool in job.request.offered_tools}
        events = self._engine.generate(job.messages, params)
        assert isinstance(events, AsyncGenerator), "an engine's answer must be closeable"
        async with aclosing(events):
            while True:
                event = await self._next(events, job)
                if params is job.params[0] and (figure := waiting.pop(type(event), None)):
                    self._observe(figure, job)
                if not isinstance(event, ToolCallEvent):
                    yield event
                elif event.name not in offered:
                    # strict clients look the name up: one that they never gave would break them
                    self._metrics.unoffered_calls.inc()
                    log.warning("a call of a function that was not offered")  # its name may be a user's word
                elif (num_calls := num_calls + 1) <= max_calls:
                    yield event
                if isinstance(event, End):
                    self._count(event.usage, job)
                    return

    async def _next(self, events: AsyncGenerator[Event, None], job: _Job) -> Event:
        try:
            async with asyncio.timeout(job.received_s + self._config.request_timeout_s - time.monotonic()):
                return await anext(events)
        except TimeoutError:
            headers = {"x-should-retry": "false"}  # it would take as long again
            raise APIError("The answer took too long.", status=503, type="server_error", headers=headers) from None
        except ContextLengthExceeded as error:
            raise context_exceeded(str(error)) from None
        except StopAsyncIteration:
            raise RuntimeError("the engine's answer has no End") from None

    def _observe(self, figure: str, job: _Job) -> None:
        elapsed_ms = 1000 * (time.monotonic() - job.received_s)
        if figure not in job.log:
            job.log[figure] = round(elapsed_ms, 1)
            getattr(self._metrics, figure).labels(ROUTE).observe(elapsed_ms)

    def _count(self, usage: Usage, job: _Job) -> None:
        self._metrics.count_tokens(usage)
        job.log["input_tokens"] = usage.input_tokens
        job.log["output_tokens"] = job.log.get("output_tokens", 0) + usage.output_tokens
