"""POST /v1/completions: the retired way to ask, a text in and a text out.

The network answers messages: a prompt is read as one of a user's, and what comes back is the answer to it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeAlias

import pydantic_core
from fastapi import APIRouter, Request, Response
from pydantic import Field, Tag

from sensorium.engine.request import End, Event, ImageDelta, SamplingParams, TextDelta, Usage
from sensorium.messages import Message, Text
from sensorium.server.answering import Answering, Question
from sensorium.server.body import read_json
from sensorium.server.chat_reply import server_sent, until_done, usage_body
from sensorium.server.chat_request import MAX_INT64, StreamOptions, check_model
from sensorium.server.chat_sampling import chosen_temperature, token_bias
from sensorium.server.config import ServerConfig
from sensorium.server.errors import invalid, unsupported, validated
from sensorium.server.hangup import EventStream
from sensorium.server.picture_out import PictureWriter
from sensorium.server.wire import TEXT_OR_PARTS, TaggedStr, Wire

ROUTE = "/v1/completions"
DEFAULT_MAX_TOKENS = 16  # the contract's

Json = dict[str, Any]
_Texts: TypeAlias = Annotated[list[str], Field(min_length=1, max_length=128), Tag("<parts>")]
_Stops: TypeAlias = Annotated[list[str], Field(max_length=4), Tag("<parts>")]
_Penalty: TypeAlias = Annotated[float, Field(ge=-2, le=2)] | None


class CompletionRequest(Wire):
    model: str
    prompt: Annotated[TaggedStr | _Texts, TEXT_OR_PARTS]
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-MAX_INT64, le=MAX_INT64)] | None = None
    stop: Annotated[TaggedStr | _Stops, TEXT_OR_PARTS] | None = None
    frequency_penalty: _Penalty = None
    presence_penalty: _Penalty = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    echo: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    # obeyed only where they ask for nothing: see _refuse
    suffix: str | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    best_of: Annotated[int, Field(ge=1, le=20)] | None = None

    user: str | None = None  # accepted and ignored

    @property
    def prompts(self) -> list[str]:
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt


def _refuse(request: CompletionRequest, config: ServerConfig) -> None:
    """Raises APIError for the first field that asks for something this server cannot do."""
    num_choices = request.n or 1
    refusals = (
        (request.suffix, "suffix", "texts are not filled in"),
        (request.logprobs is not None, "logprobs", "ask POST /v1/chat/completions for log probabilities"),
        (request.best_of not in (None, num_choices), "best_of", "as many as 'n' are made, and all are shown"),
    )
    for asked_for, param, what in refusals:
        if asked_for:
            raise unsupported(param, what)
    if num_choices * len(request.prompts) > config.max_choices:
        message = f"At most {config.max_choices} choices are made for one request, of all its prompts together."
        raise invalid(message, "n" if num_choices > 1 else "prompt", "integer_above_max_value")
    if request.stop is not None and "" in ([request.stop] if isinstance(request.stop, str) else request.stop):
        raise invalid("Invalid 'stop': an empty text would stop every answer at once.", "stop")
    if request.stream_options and not request.stream:
        raise invalid("'stream_options' is only allowed when 'stream' is true.", "stream_options")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Job:
    request: CompletionRequest
    questions: Sequence[Question]  # one for each prompt
    params: Sequence[SamplingParams]  # one for each choice
    head: Json


class Completions:
    def __init__(self, answering: Answering, config: ServerConfig, pictures: PictureWriter) -> None:
        self._info = answering.info
        self._config = config
        self._answering = answering
        self._pictures = pictures

    def routes(self) -> APIRouter:
        router = APIRouter()
        router.post(ROUTE)(self.create)
        return router

    async def create(self, http: Request) -> Response:
        job = await self._understand(http)
        if job.request.stream:
            events = until_done(self._chunks(job))
            return EventStream(await anext(events), events)  # the first one leaves time to answer 400
        texts = self._echoes(job)
        reasons, usages = {}, []
        async with aclosing(self._answers(job)) as events:
            async for index, event in events:
                texts[index] += await self._written(event)
                if isinstance(event, End):
                    reasons[index] = _reason(event)
                    usages.append((index, event.usage))
        choices = [_choice(index, text, reasons[index]) for index, text in enumerate(texts)]
        body = {**job.head, "choices": choices, "usage": self._usage(job, usages)}
        return Response(pydantic_core.to_json(body), media_type="application/json")

    async def _understand(self, http: Request) -> _Job:
        body = await read_json(http, self._config)
        received_s = time.monotonic()
        request = validated(CompletionRequest, body)
        check_model(request.model, self._info, self._config, param="model")
        _refuse(request, self._config)
        head = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": self._info.model,
        }
        params = self._params(request)
        prompts = [(Message(role="user", parts=(Text(text=prompt),)),) for prompt in request.prompts]
        charge = await self._answering.charge(http.state, request.model, prompts, params)
        questions = [
            Question(
                route=ROUTE,
                messages=prompt,
                prompt_param="prompt" if isinstance(request.prompt, str) else f"prompt[{index}]",
                charge=charge,
                received_s=received_s,
                log=http.state.log,
            )
            for index, prompt in enumerate(prompts)
        ]
        return _Job(request=request, questions=questions, params=params, head=head)

    def _params(self, request: CompletionRequest) -> list[SamplingParams]:
        defaults = SamplingParams()
        shared = SamplingParams(
            max_tokens=request.max_tokens or DEFAULT_MAX_TOKENS,
            temperature=chosen_temperature(request.temperature, request.top_p, num_choices=request.n),
            top_p=defaults.top_p if request.top_p is None else request.top_p,
            stop=(request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ()),
            tool_choice="none",
            frequency_penalty=request.frequency_penalty or 0.0,
            presence_penalty=request.presence_penalty or 0.0,
            token_bias=token_bias(request.logit_bias or {}, self._info),
        )
        choices = range(request.n or 1)
        seeds = [secrets.randbits(62) if request.seed is None else request.seed + choice for choice in choices]
        return [replace(shared, seed=seed & MAX_INT64) for seed in seeds]

    def _echoes(self, job: _Job) -> list[str]:
        """What each choice's text begins with."""
        return [prompt if job.request.echo else "" for prompt in job.request.prompts for _ in job.params]

    async def _answers(self, job: _Job) -> AsyncGenerator[tuple[int, Event], None]:
        async with job.questions[0].charge:  # one for all
            for number, question in enumerate(job.questions):
                async with aclosing(self._answering.answers(question, job.params)) as events:
                    async for choice, event in events:
                        yield number * len(job.params) + choice, event

    async def _chunks(self, job: _Job) -> AsyncGenerator[bytes, None]:
        def chunk(choice: Json) -> bytes:
            return server_sent({**job.head, "choices": [choice], **counted})

        options = job.request.stream_options
        counted = {"usage": None} if options and options.include_usage else {}
        waiting = dict(enumerate(self._echoes(job)))
        usages = []
        async with aclosing(self._answers(job)) as events:
            async for index, event in events:
                if echoed := waiting.pop(index, ""):
                    yield chunk(_choice(index, echoed, None))
                if text := await self._written(event):
                    yield chunk(_choice(index, text, None))
                if isinstance(event, End):
                    usages.append((index, event.usage))
                    yield chunk(_choice(index, "", _reason(event)))
        if counted:
            yield server_sent({**job.head, "choices": [], "usage": self._usage(job, usages)})

    def _usage(self, job: _Job, usages: Sequence[tuple[int, Usage]]) -> Json:
        """The choices of one prompt share it; the prompts add up."""
        bodies = [
            usage_body([usage for index, usage in usages if index // len(job.params) == number])
            for number in range(len(job.questions))
        ]
        return {
            name: sum(body[name] for body in bodies) for name in ("prompt_tokens", "completion_tokens", "total_tokens")
        }

    async def _written(self, event: Event) -> str:
        """An event as text. A picture has no other place in it than as Markdown has it, as in calls."""
        match event:
            case TextDelta():
                return event.text
            case ImageDelta(final=True):
                return f"![drawing]({await asyncio.to_thread(self._pictures.url, event.pixels)})"
        return ""


def _choice(index: int, text: str, finish_reason: str | None) -> Json:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish_reason}


def _reason(end: End) -> str:
    return "length" if end.reason == "length" else "stop"
