"""POST /v1/chat/completions: a request in, the engine's events out again as one object or as a stream of chunks."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
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
    Event,
    LiveEngine,
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
    logprobs_body,
    message_body,
    reason_body,
    server_sent,
    usage_body,
)
from sensorium.server.chat_request import ChatRequest, check_model, refuse_unsupported
from sensorium.server.chat_sampling import sampling_params
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

    @property
    def legacy(self) -> bool:
        """Calls are asked for, and told, in the deprecated form."""
        return bool(self.request.functions)


class Chat:
    """Answers chat requests by an engine; media are decoded on `decoders`."""

    def __init__(self, engine: LiveEngine, config: ServerConfig, metrics: Metrics, decoders: Executor) -> None:
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
        params = await asyncio.to_thread(sampling_params, request, info, self._config)  # compiles schemas
        media = MediaReader(self._config, info, self._decoders)
        messages = await to_messages(request.messages, request.offered_tools, media, self._replies)
        return _Job(request=request, messages=messages, params=params, received_s=received_s, log=http.state.log)

    async def _complete(self, job: _Job) -> bytes:
        format = job.request.audio.format if job.request.audio else None
        answers = [Answer(params.voice) for params in job.params]
        async with aclosing(self._events(job)) as events:
            async for index, event in events:
                answers[index].add(event)
        choices = []
        for index, answer in enumerate(answers):
            message = await message_body(answer, format, self._replies, legacy=job.legacy)
            logprobs = logprobs_body(answer.logprobs) if job.request.logprobs else None
            choices.append(choice_body(index, message, reason_body(answer.finish_reason, legacy=job.legacy), logprobs))
        usage = usage_body([answer.usage for answer in answers])
        return Envelope(job.request, self._engine.info).completion(choices, usage)

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
        answers = [Answer(params.voice) for params in job.params]
        writers = [
            DeltaWriter(answer, speaks=job.request.speaks, replies=self._replies, legacy=job.legacy)
            for answer in answers
        ]
        opened: set[int] = set()
        async with aclosing(self._events(job)) as events:
            async for index, event in events:
                answer, writer = answers[index], writers[index]
                if index not in opened:
                    opened.add(index)
                    yield envelope.chunk(index, writer.opening(event))
                answer.add(event)
                logprobs = None
                if job.request.logprobs and isinstance(event, TextDelta):
                    logprobs = logprobs_body(event.logprobs)
                for delta in await writer.deltas(event):
                    yield envelope.chunk(index, delta, logprobs=logprobs)
                if isinstance(event, End):
                    yield envelope.chunk(index, {}, reason_body(answer.finish_reason, legacy=job.legacy))
        if job.request.include_usage:
            yield envelope.last_chunk(usage_body([answer.usage for answer in answers]))

    async def _events(self, job: _Job) -> AsyncGenerator[tuple[int, Event], None]:
        """The engine's events, each with the number of its choice: in time, counted, and its refusals in the contract's
        words. The last one of every choice is an End."""
        waiting = {TextDelta: "ttft_ms", TranscriptDelta: "ttft_ms", AudioDelta: "ttfa_ms"}
        num_calls, num_ended = Counter[int](), 0
        max_calls = 1 if job.params[0].max_calls == 1 else math.inf
        offered = {tool.function.name for tool in job.request.callable_tools}
        events = self._answers(job)
        async with aclosing(events):
            while num_ended < len(job.params):
                index, event = await self._next(events, job)
                if index == 0 and (figure := waiting.pop(type(event), None)):
                    self._observe(figure, job)
                if isinstance(event, ToolCallEvent) and event.name not in offered:
                    # strict clients look the name up: one that they never gave would break them
                    self._metrics.unoffered_calls.inc()
                    log.warning("a call of a function that was not offered")  # its name may be a user's word
                    continue
                num_calls[index] += isinstance(event, ToolCallEvent)
                if isinstance(event, ToolCallEvent) and num_calls[index] > max_calls:
                    continue
                if isinstance(event, End):
                    num_ended += 1
                    self._count(event.usage, job)
                yield index, event

    async def _answers(self, job: _Job) -> AsyncGenerator[tuple[int, Event], None]:
        """One answer, or several from one reading of the messages."""
        if len(job.params) > 1:
            choices = self._engine.choices(job.messages, job.params)
            assert isinstance(choices, AsyncGenerator), "an engine's answers must be closeable"
            async with aclosing(choices):
                async for index, event in choices:
                    yield index, event
            return
        events = self._engine.generate(job.messages, job.params[0])
        assert isinstance(events, AsyncGenerator), "an engine's answer must be closeable"
        async with aclosing(events):
            async for event in events:
                yield 0, event

    async def _next(self, events: AsyncGenerator[tuple[int, Event], None], job: _Job) -> tuple[int, Event]:
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
