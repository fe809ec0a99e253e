"""POST /v1/completions: the retired way to ask, a text in and a text out.

The network answers messages: a prompt is read as one of a user's, and what comes back is the answer to it.
"""

from __future__ import annotations

import asyncio
import codecs
import math
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Annotated, Any, NamedTuple, TypeAlias

import pydantic_core
from fastapi import APIRouter, Request, Response
from pydantic import Discriminator, Field, Tag

from sensorium.engine.choices import merged
from sensorium.engine.request import (
    ContextLengthExceeded,
    End,
    Event,
    ImageDelta,
    SamplingParams,
    TextDelta,
    TokenLogprob,
    Usage,
)
from sensorium.messages import Message, Text
from sensorium.server.answering import Answering, Question, in_time
from sensorium.server.body import read_json
from sensorium.server.chat_reply import server_sent, spelled, until_done, usage_body
from sensorium.server.chat_request import MAX_INT64, StreamOptions, check_model
from sensorium.server.chat_sampling import chosen_temperature, token_bias
from sensorium.server.config import ServerConfig
from sensorium.server.errors import context_exceeded, invalid, unsupported, validated
from sensorium.server.hangup import EventStream
from sensorium.server.picture_out import PictureWriter
from sensorium.server.wire import TEXT_OR_PARTS, TaggedStr, Wire

ROUTE = "/v1/completions"
DEFAULT_MAX_TOKENS = 16  # the contract's

Json = dict[str, Any]
_Stops: TypeAlias = Annotated[list[str], Field(max_length=4), Tag("<parts>")]
_Penalty: TypeAlias = Annotated[float, Field(ge=-2, le=2)] | None
_Tokens: TypeAlias = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


def _prompt_kind(value: Any) -> str:
    if not isinstance(value, list):
        return "<text>"
    return "<tokens>" if value and type(value[0]) is int else "<prompts>"


_OnePrompt: TypeAlias = Annotated[TaggedStr | Annotated[_Tokens, Tag("<parts>")], TEXT_OR_PARTS]
_Prompts: TypeAlias = Annotated[list[_OnePrompt], Field(min_length=1, max_length=128), Tag("<prompts>")]


class CompletionRequest(Wire):
    model: str
    prompt: Annotated[TaggedStr | Annotated[_Tokens, Tag("<tokens>")] | _Prompts, Discriminator(_prompt_kind)]
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-MAX_INT64, le=MAX_INT64)] | None = None
    stop: Annotated[TaggedStr | _Stops, TEXT_OR_PARTS] | None = None
    frequency_penalty: _Penalty = None
    presence_penalty: _Penalty = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    best_of: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    suffix: str | None = None  # obeyed only where it asks for nothing: see _refuse
    user: str | None = None  # accepted and ignored

    @property
    def is_one(self) -> bool:
        """Whether there is one prompt, and not a list of them."""
        return isinstance(self.prompt, str) or isinstance(self.prompt[0], int)

    @property
    def prompts(self) -> list[str | list[int]]:
        prompts: Any = [self.prompt] if self.is_one else self.prompt
        return prompts

    def param(self, index: int) -> str:
        """What a client knows prompt number `index` by."""
        return "prompt" if self.is_one else f"prompt[{index}]"

    @property
    def num_choices(self) -> int:
        """Shown for each prompt."""
        return self.n or 1

    @property
    def num_candidates(self) -> int:
        """Made for each prompt, of which the likeliest are shown."""
        return self.best_of or self.num_choices


def _refuse(request: CompletionRequest, config: ServerConfig) -> None:
    """Raises APIError for the first field that asks for something this server cannot do."""
    if request.suffix:
        raise unsupported("suffix", "texts are not filled in")
    if request.num_candidates < request.num_choices:
        raise invalid("'best_of' must not be less than 'n'.", "best_of")
    if request.stream and request.num_candidates > request.num_choices:
        raise invalid("The best of several choices can't be streamed: which it is, is known at the end.", "best_of")
    if request.num_candidates * len(request.prompts) > config.max_choices:
        message = f"At most {config.max_choices} choices are made for one request, of all its prompts together."
        names = (("best_of", (request.best_of or 0) > 1), ("n", request.num_choices > 1), ("prompt", True))
        raise invalid(message, next(name for name, asks in names if asks), "integer_above_max_value")
    if request.stop is not None and "" in ([request.stop] if isinstance(request.stop, str) else request.stop):
        raise invalid("Invalid 'stop': an empty text would stop every answer at once.", "stop")
    if request.stream_options and not request.stream:
        raise invalid("'stream_options' is only allowed when 'stream' is true.", "stream_options")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Job:
    request: CompletionRequest
    questions: Sequence[Question]  # one for each prompt
    params: Sequence[SamplingParams]  # one for each candidate
    echoes: Sequence[str]  # the text of each prompt, if its candidates begin with that
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
        candidates = self._candidates(job)
        usages = []
        async with aclosing(self._answers(job)) as events:
            async for index, event in events:
                candidates[index].add(await self._written(event), event)
                if isinstance(event, End):
                    usages.append((index, event.usage))
        choices = [each.body(index) for index, each in enumerate(_best(candidates, job))]
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
        texts = [self._text(request, index) for index in range(len(request.prompts))]
        prompts = [(Message(role="user", parts=(Text(text=text),)),) for text in texts]
        if len(prompts) > 1 or request.max_tokens == 0 or request.echo:
            await self._check_lengths(request, prompts)  # one may be too long when something was told already
        charge = await self._answering.charge(http.state, request.model, prompts, params)
        questions = [
            Question(
                route=ROUTE,
                messages=prompt,
                prompt_param=request.param(index),
                charge=charge,
                received_s=received_s,
                log=http.state.log,
            )
            for index, prompt in enumerate(prompts)
        ]
        echoes = texts if request.echo else []
        return _Job(request=request, questions=questions, params=params, echoes=echoes, head=head)

    def _text(self, request: CompletionRequest, index: int) -> str:
        prompt, num_tokens = request.prompts[index], self._info.num_text_tokens
        if isinstance(prompt, str):
            return prompt
        if max(prompt) >= num_tokens:
            raise invalid(f"This model's tokens are 0 to {num_tokens - 1}.", request.param(index))
        return self._answering.text_of(prompt)

    async def _check_lengths(self, request: CompletionRequest, prompts: Sequence[Sequence[Message]]) -> None:
        for index, prompt in enumerate(prompts):
            num_tokens = await self._answering.count(prompt)
            if num_tokens > self._info.max_tokens:
                error = ContextLengthExceeded(num_tokens, self._info.max_tokens)
                raise context_exceeded(str(error), request.param(index))

    def _params(self, request: CompletionRequest) -> list[SamplingParams]:
        defaults, ranks = SamplingParams(), request.num_candidates > request.num_choices
        shared = SamplingParams(
            max_tokens=DEFAULT_MAX_TOKENS if request.max_tokens is None else request.max_tokens,
            temperature=chosen_temperature(request.temperature, request.top_p, num_choices=request.num_candidates),
            top_p=defaults.top_p if request.top_p is None else request.top_p,
            stop=(request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ()),
            tool_choice="none",
            frequency_penalty=request.frequency_penalty or 0.0,
            presence_penalty=request.presence_penalty or 0.0,
            token_bias=token_bias(request.logit_bias or {}, self._info),
            top_logprobs=0 if ranks and request.logprobs is None else request.logprobs,
        )
        choices = range(request.num_candidates)
        seeds = [secrets.randbits(62) if request.seed is None else request.seed + choice for choice in choices]
        return [replace(shared, seed=seed & MAX_INT64) for seed in seeds]

    def _candidates(self, job: _Job) -> list[_Candidate]:
        return [_Candidate(job.request.logprobs) for _ in job.questions for _ in job.params]

    async def _answers(self, job: _Job) -> AsyncGenerator[tuple[int, Event | _Echo], None]:
        """Of all prompts, side by side; before them what is echoed."""
        make = self._nothing if job.request.max_tokens == 0 else self._answering.answers
        async with job.questions[0].charge:  # one for all
            for number, echo in enumerate(await self._echoes(job)):
                for choice in range(len(job.params)):
                    yield number * len(job.params) + choice, echo
            answers = [make(question, job.params) for question in job.questions]
            async with aclosing(merged(answers)) as events:
                async for number, (choice, event) in events:
                    yield number * len(job.params) + choice, event

    async def _echoes(self, job: _Job) -> list[_Echo]:
        """With how likely their tokens are, if that is asked for. Tokens that a client gives are scored as they are."""
        num_top = job.request.logprobs
        if not job.echoes or num_top is None:
            return [_Echo(text) for text in job.echoes]
        scoring = self._answering.score(job.request.prompts, num_top=num_top)
        received_s = job.questions[0].received_s
        scored = await in_time(scoring, self._config, received_s=received_s, param=job.request.param)
        return [_Echo(text, tokens) for text, tokens in zip(job.echoes, scored, strict=True)]

    async def _nothing(
        self, question: Question, params: Sequence[SamplingParams]
    ) -> AsyncGenerator[tuple[int, Event], None]:
        """No token of an answer is wanted, as by who looks at an echo alone."""
        usage = Usage(input_text=await self._answering.count(question.messages))
        question.charge.add(usage)
        for choice in range(len(params)):
            yield choice, End(reason="length", usage=usage)

    async def _chunks(self, job: _Job) -> AsyncGenerator[bytes, None]:
        def chunk(choice: Json) -> bytes:
            return server_sent({**job.head, "choices": [choice], **counted})

        options = job.request.stream_options
        counted = {"usage": None} if options and options.include_usage else {}
        candidates, usages = self._candidates(job), []
        async with aclosing(self._answers(job)) as events:
            async for index, event in events:
                candidates[index].add(text := await self._written(event), event)
                if text or isinstance(event, End):
                    yield chunk(candidates[index].taken(index))
                if isinstance(event, End):
                    usages.append((index, event.usage))
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

    async def _written(self, event: Event | _Echo) -> str:
        """An event as text. A picture has no other place in it than as Markdown has it, as in calls."""
        match event:
            case TextDelta() | _Echo():
                return event.text
            case ImageDelta(final=True):
                return f"![drawing]({await asyncio.to_thread(self._pictures.url, event.pixels)})"
        return ""


class _Echo(NamedTuple):
    """A prompt, as what its candidates begin with."""

    text: str
    logprobs: Sequence[TokenLogprob] = ()


class _Scored(NamedTuple):
    start: int  # character at which its text begins
    token: TokenLogprob
    follows: bool  # a text: nothing tells how likely the first token of a prompt is


class _Candidate:
    """What is written for a prompt, once: all of it as one choice, or what has come since the last look."""

    def __init__(self, top_logprobs: int | None) -> None:
        self._text = ""
        self._top_logprobs = top_logprobs
        self._scored: list[_Scored] = []
        self._reason: str | None = None
        self._length = self._next_start = 0  # characters
        self._decoder = _utf8()
        self._sum, self._num_scored = 0.0, 0

    @property
    def likelihood(self) -> float:
        """Log probability per token."""
        return self._sum / self._num_scored if self._num_scored else -math.inf

    def add(self, text: str, event: Event | _Echo) -> None:
        """An event, and what it is as text."""
        self._text += text
        self._length += len(text)
        if isinstance(event, TextDelta | _Echo):
            for number, token in enumerate(event.logprobs):
                follows = number > 0 or isinstance(event, TextDelta)
                self._scored.append(_Scored(self._next_start, token, follows))
                self._next_start += len(self._decoder.decode(token.bytes))
        if isinstance(event, TextDelta):
            self._sum += sum(token.logprob for token in event.logprobs)
            self._num_scored += len(event.logprobs)
        elif text:
            self._next_start, self._decoder = self._length, _utf8()
        if isinstance(event, End):
            self._reason = "length" if event.reason == "length" else "stop"

    def taken(self, index: int) -> Json:
        """What has come since this was called last."""
        body = self.body(index)
        self._text, self._scored = "", []
        return body

    def body(self, index: int) -> Json:
        return {"index": index, "text": self._text, "logprobs": self._logprobs(), "finish_reason": self._reason}

    def _logprobs(self) -> Json | None:
        if self._top_logprobs is None:
            return None
        return {
            "tokens": [spelled(each.token) for each in self._scored],
            "token_logprobs": [each.token.logprob if each.follows else None for each in self._scored],
            "top_logprobs": [
                {spelled(likely): likely.logprob for likely in (*each.token.top, each.token)} if each.follows else None
                for each in self._scored
            ],
            "text_offset": [each.start for each in self._scored],
        }


def _best(candidates: Sequence[_Candidate], job: _Job) -> list[_Candidate]:
    """Of each prompt's candidates the likeliest, as many as are to be shown."""
    made, shown = len(job.params), job.request.num_choices
    if made == shown:
        return list(candidates)
    groups = [candidates[start : start + made] for start in range(0, len(candidates), made)]
    return [best for group in groups for best in sorted(group, key=lambda each: -each.likelihood)[:shown]]


def _utf8() -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8")(errors="replace")
