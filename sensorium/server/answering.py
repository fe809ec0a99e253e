"""Asking the engine, for every endpoint alike: in time, counted, and its refusals in the contract's words."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, Unpack

import structlog

from sensorium.engine.request import (
    AudioDelta,
    ContextLengthExceeded,
    End,
    Event,
    LiveEngine,
    SamplingParams,
    Tally,
    TextDelta,
    TextTooLong,
    TokenLogprob,
    ToolCallDelta,
    ToolCallEvent,
    TranscriptDelta,
    Usage,
)
from sensorium.messages import Message
from sensorium.server.config import ServerConfig
from sensorium.server.errors import context_exceeded, too_slow
from sensorium.server.image_tokens import what_fits
from sensorium.server.metering import Charge, Meter, What, audio_s
from sensorium.server.metrics import Metrics

log = structlog.get_logger()
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, eq=False)
class Question:
    """What is asked of the engine for one request, which may want several answers to it."""

    route: str
    messages: Sequence[Message]
    prompt_param: str = "messages"  # the request's field that these come from
    offered: frozenset[str] = frozenset()  # the functions that may be called
    max_calls: float = math.inf
    charge: Charge  # who asks has to enter it
    received_s: float  # when the request's last byte came, on the monotonic clock
    log: dict[str, float] = field(default_factory=dict)  # figures for the line that the log gets about this request


class Deadline:
    """`asyncio.timeout` for waits that come one after the other, up to one and the same time: with one timer for all of
    them, where one for every token would cost as much as writing it. Raises TimeoutError, as that does."""

    def __init__(self, after_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._at_s = self._loop.time() + after_s
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: asyncio.Task[Any] | None = None
        self._num_cancelled = 0  # how often somebody else had asked the task to stop
        self._expired = False

    def __enter__(self) -> None:
        if self._expired or self._loop.time() >= self._at_s:
            raise TimeoutError
        self._waiting = asyncio.current_task()
        assert self._waiting is not None
        self._num_cancelled = self._waiting.cancelling()
        self._timer = self._timer or self._loop.call_at(self._at_s, self._expire)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        task, self._waiting = self._waiting, None
        assert task is not None
        if self._expired and task.uncancel() <= self._num_cancelled and isinstance(error, asyncio.CancelledError):
            raise TimeoutError from error

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _expire(self) -> None:
        self._expired = self._waiting is not None
        if self._waiting is not None:
            self._waiting.cancel()


async def in_time(work: Awaitable[T], config: ServerConfig, *, received_s: float, param: Callable[[int], str]) -> T:
    """What the engine makes of texts, which the request knows by `param`. Raises APIError for one that is too long, and
    when it takes longer than the request may."""
    try:
        async with asyncio.timeout(received_s + config.request_timeout_s - time.monotonic()):
            return await work
    except TextTooLong as error:
        raise context_exceeded(str(error), param(error.index)) from None
    except TimeoutError:
        raise too_slow() from None


class Answering:
    def __init__(self, engine: LiveEngine, config: ServerConfig, metrics: Metrics, meter: Meter) -> None:
        self.info = engine.info
        self._engine = engine
        self._config = config
        self._metrics = metrics
        self._meter = meter

    async def charge(
        self,
        state: Any,
        model: str,
        prompts: Sequence[Sequence[Message]],
        params: Sequence[SamplingParams],
        **what: Unpack[What],
    ) -> Charge:
        """Reserves for the answers to each of `prompts`, to be used as a context around the work. `state` is the
        request's; `what` says what it is, if it is no completion. Raises APIError 429 where a limit is reached."""
        # without a limit of its own an answer may be as long as it likes: what it takes is owed afterwards
        answer_tokens = len(prompts) * sum(choice.max_tokens or 0 for choice in params)
        prompt_tokens = len(params) * sum(self._meter.estimate_tokens(prompt) for prompt in prompts)
        heard_s = sum(audio_s(prompt) for prompt in prompts)
        return await self._meter.begin(
            state, model, tokens=prompt_tokens + answer_tokens, **{"audio_s": heard_s, **what}
        )

    async def count(self, messages: Sequence[Message]) -> int:
        """Tokens that messages take as a prompt, at the least."""
        return await self._engine.count(messages)

    async def score(self, texts: Sequence[str | Sequence[int]], *, num_top: int) -> list[list[TokenLogprob]]:
        """How likely each text's tokens are, as what a user says."""
        return await self._engine.score(texts, num_top=num_top)

    def text_of(self, tokens: Sequence[int]) -> str:
        return self._engine.text_of(tokens)

    async def answer(self, question: Question, params: SamplingParams) -> AsyncGenerator[Event, None]:
        """The engine's events, the last one an End. Raises APIError as `answers` does."""
        async with aclosing(self.answers(question, (params,))) as events:
            async for _, event in events:
                yield event

    async def answers(
        self, question: Question, params: Sequence[SamplingParams]
    ) -> AsyncGenerator[tuple[int, Event], None]:
        """The engine's events, each with the number of its choice. The last one of every choice is an End.

        Raises APIError for a prompt that is too long, and when the answer takes longer than the request may. Where
        nobody waits for the rest any more, what was written until then is counted.
        """
        params = [replace(each, tally=Tally()) for each in params]
        ended: set[int] = set()
        deadline = Deadline(question.received_s + self._config.request_timeout_s - time.monotonic())
        try:
            async with aclosing(self._answers(question, params, ended, deadline)) as events:
                async for index, event in events:
                    yield index, event
        except (asyncio.CancelledError, GeneratorExit):
            for index, each in enumerate(params):
                if index not in ended and each.tally is not None and (usage := each.tally.usage) is not None:
                    self._count(usage, question)
            raise
        finally:
            deadline.close()

    async def _answers(
        self, question: Question, params: Sequence[SamplingParams], ended: set[int], deadline: Deadline
    ) -> AsyncGenerator[tuple[int, Event], None]:
        """`ended` is told of the choices that are over, and counted."""
        waiting = {TextDelta: "ttft_ms", TranscriptDelta: "ttft_ms", AudioDelta: "ttfa_ms"}
        num_calls = Counter[int]()
        events = self._ask(question, params)
        async with aclosing(events):
            while len(ended) < len(params):
                index, event = await self._next(events, question, deadline)
                if index == 0 and (figure := waiting.pop(type(event), None)):
                    self._observe(figure, question)
                if isinstance(event, ToolCallDelta | ToolCallEvent):
                    is_told = self._is_offered(event, question) and num_calls[index] < question.max_calls
                    num_calls[index] += is_told and isinstance(event, ToolCallEvent)
                    if not is_told:
                        continue
                if isinstance(event, End):
                    ended.add(index)
                    self._count(event.usage, question)
                yield index, event

    def _is_offered(self, call: ToolCallDelta | ToolCallEvent, question: Question) -> bool:
        """Strict clients look a call's name up: one that they never gave would break them."""
        if call.name in question.offered:
            return True
        if isinstance(call, ToolCallEvent):
            self._metrics.unoffered_calls.inc()
            log.warning("a call of a function that was not offered")  # its name may be a user's word
        return False

    async def _ask(
        self, question: Question, params: Sequence[SamplingParams]
    ) -> AsyncGenerator[tuple[int, Event], None]:
        """One answer, or several from one reading of the messages."""
        if len(params) > 1:
            choices = self._engine.choices(question.messages, params)
            assert isinstance(choices, AsyncGenerator), "an engine's answers must be closeable"
            async with aclosing(choices):
                async for index, event in choices:
                    yield index, event
            return
        events = self._engine.generate(question.messages, params[0])
        assert isinstance(events, AsyncGenerator), "an engine's answer must be closeable"
        async with aclosing(events):
            async for event in events:
                yield 0, event

    async def _next(
        self, events: AsyncGenerator[tuple[int, Event], None], question: Question, deadline: Deadline
    ) -> tuple[int, Event]:
        try:
            with deadline:
                return await anext(events)
        except TimeoutError:
            raise too_slow() from None
        except ContextLengthExceeded as error:
            excess_tokens = error.prompt_tokens + error.answer_tokens - error.max_tokens + 1
            fitting = what_fits(question.messages, excess_tokens, self.info.limits)
            why = f"{error}: {fitting}" if fitting else str(error)
            raise context_exceeded(why, question.prompt_param) from None
        except StopAsyncIteration:
            raise RuntimeError("the engine's answer has no End") from None

    def _observe(self, figure: str, question: Question) -> None:
        elapsed_ms = 1000 * (time.monotonic() - question.received_s)
        if figure not in question.log:
            question.log[figure] = round(elapsed_ms, 1)
            getattr(self._metrics, figure).labels(question.route).observe(elapsed_ms)

    def _count(self, usage: Usage, question: Question) -> None:
        self._metrics.count_tokens(usage)
        question.charge.add(usage)
        question.log["input_tokens"] = usage.input_tokens
        question.log["output_tokens"] = question.log.get("output_tokens", 0) + usage.output_tokens
