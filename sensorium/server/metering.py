"""What a request may use and what it has used: reserved before the work starts, put right and written down after it.

    async with await meter.begin(http.state, model, tokens=estimate) as charge:
        ...
        charge.add(end.usage)

If the work fails, everything is given back. If the client goes in the middle, what was used until then is paid; where
that is not known, what was reserved stays taken, and the request is counted.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, TypedDict, Unpack

from sensorium.engine.request import EngineInfo, Usage
from sensorium.messages import Audio, Image, Message, Text, ToolCall, Video
from sensorium.platform.limits import (
    Allowance,
    Caller,
    Kind,
    LimitReached,
    Limits,
    Reservation,
    go_duration,
)
from sensorium.platform.usage import Record, UsageKind, UsageLog, Used
from sensorium.server.access import ANYONE, Access
from sensorium.server.errors import APIError
from sensorium.server.image_tokens import FRAME_TOKENS, IMAGE_TOKENS

UNLIMITED = 2**31 - 1  # what is told where there is no limit: clients expect a number

_CHARS_PER_TOKEN = 4
_AUDIO_TOKENS_PER_S = 12.5


class Charge:
    """One request's share. Used as a context, in which the work is done."""

    def __init__(
        self,
        reservation: Reservation,
        log: UsageLog,
        record: Record,
        *,
        audio_s: float,
        audio_tokens_per_s: float,
    ) -> None:
        """`record` is what is written down, with nothing used yet but a request; `audio_s` is heard in any case."""
        self._reservation = reservation
        self._log = log
        self._record = record
        self._heard_s = audio_s
        self._audio_tokens_per_s = audio_tokens_per_s
        self._is_known = False

    def add(self, usage: Usage | None = None, *, heard_s: float = 0.0, characters: int = 0, images: int = 0) -> None:
        """More that was used. `heard_s` is sound that was taken in; what was spoken is counted by its tokens."""
        self._is_known = True
        self._heard_s += heard_s
        more = {**(vars(usage) if usage is not None else {}), "characters": characters, "images": images}
        used = {name: value + more.get(name, 0) for name, value in vars(self._record.used).items()}
        self._record = replace(self._record, used=Used(**used))

    def allowances(self) -> Mapping[Kind, Allowance]:
        return self._reservation.allowances()

    async def __aenter__(self) -> Charge:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None):
        went_away = isinstance(error, asyncio.CancelledError | GeneratorExit)
        if error is not None and not went_away and not self._is_known:
            self._reservation.settle(requests=0, tokens=0)
            return
        used = self._record.used
        if self._is_known:
            spoken_s = used.output_audio / self._audio_tokens_per_s
            self._reservation.settle(tokens=used.input_tokens + used.output_tokens, audio_s=self._heard_s + spoken_s)
        if self._record.kind == "audio_transcriptions":
            used = replace(used, audio_ms=round(1000 * self._heard_s))
        self._log.record(replace(self._record, used=used))


class What(TypedDict, total=False):
    kind: UsageKind  # "completions" by default
    audio_s: float  # of sound that is heard
    size: str  # of pictures, for kind "images"
    source: str


class Meter:
    def __init__(self, limits: Limits, usage: UsageLog, info: EngineInfo) -> None:
        self._limits = limits
        self._usage = usage
        self._image_tokens = info.limits.get("image_tokens", IMAGE_TOKENS)
        self._frame_tokens = info.limits.get("frame_tokens", FRAME_TOKENS)
        self._audio_tokens_per_s = info.limits.get("audio_tokens_per_s", _AUDIO_TOKENS_PER_S)

    async def begin(self, state: Any, model: str, *, tokens: int, **what: Unpack[What]) -> Charge:
        """Reserves for a request. `state` is the request's or the socket's: who asks, and what headers tell.

        Raises APIError 429 where a limit is reached.
        """
        caller, audio_s = _caller(state), what.get("audio_s", 0.0)
        reservation = await self._reserve(state, model, tokens=tokens, audio_s=audio_s)
        record = Record(
            kind=what.get("kind", "completions"),
            project=caller.project,
            api_key=caller.key,
            model=model,
            size=what.get("size", ""),
            source=what.get("source", ""),
            used=Used(requests=1),
        )
        return Charge(reservation, self._usage, record, audio_s=audio_s, audio_tokens_per_s=self._audio_tokens_per_s)

    async def check(self, state: Any, model: str) -> None:
        """Raises APIError 429 where the smallest request would be refused now."""
        reservation = await self._reserve(state, model, tokens=0, audio_s=0.0)
        reservation.settle(requests=0, tokens=0)

    async def _reserve(self, state: Any, model: str, *, tokens: int, audio_s: float) -> Reservation:
        try:
            reservation = await self._limits.reserve(_caller(state), model, tokens=tokens, audio_s=audio_s)
        except LimitReached as reached:
            state.limit_headers = _headers(reached.allowances)
            raise _refusal(reached) from None
        state.limit_headers = _headers(reservation.allowances())
        return reservation

    async def open_session(self, state: Any, model: str) -> Callable[[], None]:
        """Counts a call until the function that it returns is called. Raises APIError 429."""
        try:
            return await self._limits.open_session(_caller(state), model)
        except LimitReached as reached:
            raise _refusal(reached) from None

    async def close(self) -> None:
        await self._limits.close()

    def estimate_tokens(self, messages: Sequence[Message]) -> int:
        """About how many tokens a prompt takes, before it is rendered."""
        parts = [part for message in messages for part in message.parts]
        num_chars = sum(len(part.text) for part in parts if isinstance(part, Text))
        num_chars += sum(len(part.name) + len(part.arguments) for part in parts if isinstance(part, ToolCall))
        num_images = sum(1 + len(part.quarters) for part in parts if isinstance(part, Image))
        num_frames = sum(len(part.frames) for part in parts if isinstance(part, Video))
        sound_tokens = self.audio_tokens(audio_s(messages))
        picture_tokens = num_images * self._image_tokens + num_frames * self._frame_tokens
        return math.ceil(num_chars / _CHARS_PER_TOKEN + sound_tokens + picture_tokens)

    def audio_tokens(self, sound_s: float) -> float:
        return sound_s * self._audio_tokens_per_s


def _caller(state: Any) -> Caller:
    access: Access = getattr(state, "access", ANYONE)
    return Caller(access.key_id or "", access.project)


def audio_s(messages: Iterable[Message]) -> float:
    """How much sound there is in a prompt, that of films with it."""
    parts = [part for message in messages for part in message.parts]
    clips = [part.sound if isinstance(part, Video) else part for part in parts]
    return sum(clip.duration_ms / 1000 for clip in clips if isinstance(clip, Audio))


def _refusal(reached: LimitReached) -> APIError:
    kind, code = ("requests", "rate_limit_exceeded")
    if reached.kind == "quota":
        kind = code = "insufficient_quota"
    elif reached.kind == "tokens":
        kind = "tokens"
    headers = {"x-should-retry": "false"}
    if reached.retry_after_s is not None:
        wait_ms = math.ceil(1000 * reached.retry_after_s)
        headers = {"retry-after-ms": str(wait_ms), "retry-after": str(math.ceil(wait_ms / 1000))}
    return APIError(str(reached), status=429, type=kind, code=code, headers=headers)


def _headers(allowances: Mapping[Kind, Allowance]) -> dict[str, str]:
    told: dict[str, str] = {}
    kinds: tuple[Kind, ...] = ("requests", "tokens")
    for kind in kinds:
        allowance = allowances.get(kind, Allowance(UNLIMITED, UNLIMITED, 0.0))
        told[f"x-ratelimit-limit-{kind}"] = str(allowance.limit)
        told[f"x-ratelimit-remaining-{kind}"] = str(allowance.remaining)
        told[f"x-ratelimit-reset-{kind}"] = go_duration(allowance.reset_s)
    return told
