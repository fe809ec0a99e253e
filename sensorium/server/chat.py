"""POST /v1/chat/completions: a request in, the engine's events out again as one object or as a stream of chunks."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import pydantic_core
from fastapi import APIRouter, Request, Response

from sensorium.engine.request import End, SamplingParams, TextDelta
from sensorium.platform.objects import ObjectStorage
from sensorium.platform.store import Store
from sensorium.server.answering import Answering, Question
from sensorium.server.audio_out import SpeechWriter
from sensorium.server.body import read_json
from sensorium.server.chat_messages import to_messages
from sensorium.server.chat_reply import (
    Answer,
    DeltaWriter,
    Envelope,
    Json,
    choice_body,
    logprobs_body,
    message_body,
    reason_body,
    until_done,
    usage_body,
)
from sensorium.server.chat_request import ChatRequest, check_model, refuse_unsupported
from sensorium.server.chat_sampling import sampling_params
from sensorium.server.chat_stored import StoredCompletions, keep_completion
from sensorium.server.config import ServerConfig
from sensorium.server.errors import validated
from sensorium.server.files import Files
from sensorium.server.hangup import EventStream
from sensorium.server.image_tokens import gpt_4o_image_tokens
from sensorium.server.media import Decoders, MediaReader
from sensorium.server.picture_order import changing
from sensorium.server.picture_out import PictureWriter
from sensorium.server.spoken_replies import SpokenReplies, let_sound_go

ROUTE = "/v1/chat/completions"


@dataclass(frozen=True, kw_only=True, eq=False)
class _Job:
    """A request that has been understood: all that is left is to answer it."""

    request: ChatRequest
    question: Question
    params: Sequence[SamplingParams]  # one for each choice
    said: Sequence[Json]  # the messages as they came
    project: str

    @property
    def legacy(self) -> bool:
        """Calls are asked for, and told, in the deprecated form."""
        return bool(self.request.functions)


class Chat:
    """Answers chat requests by an engine; media are decoded on `decoders`."""

    def __init__(
        self,
        answering: Answering,
        config: ServerConfig,
        decoders: Decoders,
        store: Store,
        objects: ObjectStorage,
        files: Files,
        pictures: PictureWriter,
        speech: SpeechWriter,
    ) -> None:
        self._info = answering.info
        self._config = config
        self._answering = answering
        self._decoders = decoders
        self._store = store
        self._objects = objects
        let_sound_go(store, objects)
        self._files = files
        self._pictures = pictures
        self._speech = speech

    def routes(self) -> APIRouter:
        router = APIRouter()
        router.post(ROUTE)(self.create)
        router.include_router(StoredCompletions(self._info, self._config, self._store).routes())
        return router

    async def create(self, http: Request) -> Response:
        job = await self._understand(http)
        if not job.request.stream:
            async with job.question.charge:
                body = await self._complete(job)
            return Response(body, media_type="application/json")
        events = until_done(self._chunks(job))
        # waiting for the first one leaves time to answer 400, which an over-long prompt deserves
        return EventStream(await anext(events), events)

    async def _understand(self, http: Request) -> _Job:
        body = await read_json(http, self._config)
        received_s = time.monotonic()
        request = validated(ChatRequest, body)
        info = self._info
        check_model(request.model, info, self._config)
        refuse_unsupported(request, self._config)
        if request.response_format or request.tools or request.functions:  # compiles schemas
            params = await asyncio.to_thread(sampling_params, request, info, self._config)
        else:
            params = sampling_params(request, info, self._config)
        media = MediaReader(self._config, info, self._decoders, files=self._files.reader(http.state.project))
        messages = await to_messages(request.messages, request.offered_tools, media, self._replies(http.state.project))
        messages, first = changing(messages, params[0])  # choices differ in their seeds alone
        params = [replace(choice, modality=first.modality) for choice in params]
        question = Question(
            route=ROUTE,
            messages=messages,
            charge=await self._answering.charge(http.state, request.model, [messages], params),
            offered=frozenset(tool.function.name for tool in request.callable_tools),
            max_calls=1 if params[0].max_calls == 1 else math.inf,
            received_s=received_s,
            log=http.state.log,
        )
        said, project = body["messages"], http.state.project
        return _Job(request=request, question=question, params=params, said=said, project=project)

    def _replies(self, project: str) -> SpokenReplies:
        bounds = {"ttl_s": self._config.spoken_reply_ttl_s, "max_bytes": self._config.spoken_reply_bytes}
        return SpokenReplies(self._store, self._objects, project, **bounds)

    async def _complete(self, job: _Job) -> bytes:
        answers = [Answer(params.voice) for params in job.params]
        async with aclosing(self._answering.answers(job.question, job.params)) as events:
            async for index, event in events:
                answers[index].add(event)
        completion = await self._completion(job, Envelope(job.request, self._info), answers)
        await self._keep(job, completion)
        return pydantic_core.to_json(completion)

    async def _completion(self, job: _Job, envelope: Envelope, answers: Sequence[Answer]) -> Json:
        format = job.request.audio.format if job.request.audio else None
        choices = []
        for index, answer in enumerate(answers):
            made = {"replies": self._replies(job.project), "pictures": self._pictures, "speech": self._speech}
            message = await message_body(answer, format, **made, legacy=job.legacy)
            logprobs = logprobs_body(answer.logprobs) if job.request.logprobs else None
            choices.append(choice_body(index, message, reason_body(answer.finish_reason, legacy=job.legacy), logprobs))
        return envelope.completion(choices, self._usage(job, answers))

    def _usage(self, job: _Job, answers: Sequence[Answer]) -> Json:
        seen = gpt_4o_image_tokens(job.question.messages)
        return usage_body([answer.usage for answer in answers], gpt_4o_image_tokens=seen)

    async def _keep(self, job: _Job, completion: Json) -> None:
        if job.request.store:
            await keep_completion(self._store, job.project, completion, job.said, job.request.metadata)

    async def _chunks(self, job: _Job) -> AsyncGenerator[bytes, None]:
        envelope = Envelope(job.request, self._info)
        answers = [Answer(params.voice) for params in job.params]
        writers = [
            DeltaWriter(
                answer,
                replies=self._replies(job.project),
                pictures=self._pictures,
                speech=self._speech,
                speaks=job.request.speaks,
                legacy=job.legacy,
            )
            for answer in answers
        ]
        opened: set[int] = set()
        num_ended = 0
        async with job.question.charge, aclosing(self._answering.answers(job.question, job.params)) as events:
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
                num_ended += isinstance(event, End)
                if job.request.store and num_ended == len(answers):  # before the client knows that it is complete
                    await self._keep(job, await self._completion(job, envelope, answers))
                if isinstance(event, End):
                    yield envelope.chunk(index, {}, reason_body(answer.finish_reason, legacy=job.legacy))
        if job.request.include_usage:
            yield envelope.last_chunk(self._usage(job, answers))
