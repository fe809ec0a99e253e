"""What a call's user is heard to say, told while it is said.

A delta cannot be taken back, so what is told of an item stays: put together, its deltas are its transcript. Where a
turn is heard once more, behind something that changed, or read as a clip after all, the network may write it
differently: then what was told stands, and goes on behind as many words. Log probabilities are those of the hearing
that the words beside them are told of.

Turns that are read as clips are read one after the other, and one that is longer than the network can hear at once
stretch by stretch, as a file is.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import structlog
from starlette.websockets import WebSocketDisconnect

from sensorium.engine.request import (
    ContextLengthExceeded,
    InputTranscriptDelta,
    LiveEngine,
    SamplingParams,
    TokenLogprob,
)
from sensorium.server.comfort_noise import with_quiet_edges
from sensorium.server.conversation import Item, Json, load_sounds
from sensorium.server.errors import APIError
from sensorium.server.logs import describe
from sensorium.server.realtime_account import Account
from sensorium.server.realtime_events import SessionConfig
from sensorium.server.segments import RATE_HZ, Cutting, Segmenter
from sensorium.server.transcript import logprobs_body

log = structlog.get_logger()

_EVENT = "conversation.item.input_audio_transcription"


class Line(Protocol):
    """The call, as far as its scribe needs it."""

    session: SessionConfig
    account: Account

    async def send(self, type: str, **fields: Any) -> None: ...


class _Told(NamedTuple):
    text: str = ""
    tokens: tuple[TokenLogprob, ...] = ()
    refusal: APIError | None = None  # where a limit is reached: nothing of it is told


class Scribe:
    """Tells the transcripts of a call's spoken items, and keeps what was told of those that are not complete."""

    def __init__(self, engine: LiveEngine, line: Line) -> None:
        self._engine = engine
        self._rate_hz = engine.info.sample_rate_hz
        self._line = line
        self._told: dict[str, _Told] = {}  # by item
        self._owed: dict[str, Item] = {}  # whose transcript is to be told
        self._reading = asyncio.Lock()

    async def tell(self, item_id: str, heard: Sequence[InputTranscriptDelta]) -> None:
        """What is new of all that was heard in an item up to now, if anything is. Where a limit was reached before it,
        nothing: else it would be given away word by word."""
        if item_id not in self._told:
            self._told[item_id] = await self._begun()
        if self._told[item_id].refusal is None:
            await self._add(item_id, heard)

    async def _begun(self) -> _Told:
        try:
            await self._line.account.check(self._writer)
        except APIError as refusal:
            return _Told(refusal=refusal.with_traceback(None))
        return _Told()

    async def _add(self, item_id: str, heard: Sequence[InputTranscriptDelta]) -> None:
        told = self._told.get(item_id, _Told())
        text = "".join(delta.text for delta in heard)
        known = _known(text, told.text)
        if new := text[known:]:
            tokens = _behind(known, heard)
            self._told[item_id] = _Told(told.text + new, told.tokens + tokens)
            where = {"item_id": item_id, "content_index": 0}
            await self._line.send(f"{_EVENT}.delta", **where, delta=new, **self._scored(tokens))

    @property
    def _writer(self) -> str | None:
        """The model that the client asks for."""
        asked = self._line.session.audio.input.transcription
        return asked.model if asked is not None else None

    def _scored(self, tokens: Sequence[TokenLogprob]) -> Json:
        return {"logprobs": logprobs_body(tokens)} if self._line.session.include else {}

    def owes(self, item: Item) -> None:
        """Its transcript is to be told, on this line or the next one."""
        self._owed[item.id] = item

    @property
    def owed(self) -> list[Item]:
        return list(self._owed.values())

    def forget(self, item_id: str | None) -> None:
        """There will be no such item."""
        self._told.pop(item_id or "", None)

    async def complete(self, item: Item, heard: Sequence[InputTranscriptDelta], *, apart: bool) -> None:
        """That was all that was heard of an item; from now on it is its transcript. `apart` from any answer."""
        if (refusal := self._told.get(item.id, _Told()).refusal) is not None:
            await self._fail(item, refusal)
            return
        try:
            async with self._line.account.transcript(item, self._writer) as count:
                count(_num_tokens(heard) if apart else None)
                await self._conclude(item, heard)
        except APIError as refused:
            await self._fail(item, refused)

    async def _conclude(self, item: Item, heard: Sequence[InputTranscriptDelta]) -> None:
        await self._add(item.id, heard)
        part = item.content[0]
        told = self._told.pop(item.id, _Told())
        part.text = told.text
        assert part.sound is not None
        usage = {"type": "duration", "seconds": round(len(part.sound) / self._rate_hz, 3)}
        where = {"item_id": item.id, "content_index": 0}
        scored = self._scored(told.tokens)
        await self._line.send(f"{_EVENT}.completed", **where, transcript=part.text, usage=usage, **scored)
        self._owed.pop(item.id, None)

    async def _fail(self, item: Item, error: APIError) -> None:
        self.forget(item.id)
        body = error.envelope()["error"]
        await self._line.send(f"{_EVENT}.failed", item_id=item.id, content_index=0, error=body)
        self._owed.pop(item.id, None)

    async def read(self, item: Item) -> None:
        """Of an item that was not listened to, told apart from any answer: the same words that an answer rests on."""
        try:
            async with self._line.account.transcript(item, self._writer) as count:
                async with self._reading:
                    try:
                        heard = await self._told_of(item, self._whole(item))
                    except ContextLengthExceeded:
                        heard = await self._told_of(item, self._in_stretches(item))
                count(_num_tokens(heard))
                await self._conclude(item, heard)
        except WebSocketDisconnect:
            return
        except APIError as refusal:
            await self._fail(item, refusal)
        except Exception as failure:
            log.error("transcription failed", **describe(failure))
            await self._fail(item, APIError("The turn could not be written down.", status=500, type="server_error"))

    async def _told_of(
        self, item: Item, deltas: AsyncGenerator[InputTranscriptDelta, None]
    ) -> list[InputTranscriptDelta]:
        heard: list[InputTranscriptDelta] = []
        async with aclosing(deltas):
            async for delta in deltas:
                heard.append(delta)
                await self._add(item.id, heard)
        return heard

    async def _whole(self, item: Item) -> AsyncGenerator[InputTranscriptDelta, None]:
        messages = item.messages(await load_sounds([item]))
        events = self._engine.generate(messages, SamplingParams(max_tokens=1, tool_choice="none"))
        assert isinstance(events, AsyncGenerator), "an engine's answer must be closeable"
        async with aclosing(events):
            async for event in events:
                if not isinstance(event, InputTranscriptDelta):
                    return
                yield event

    async def _in_stretches(self, item: Item) -> AsyncGenerator[InputTranscriptDelta, None]:
        [waveform] = (await load_sounds([item])).values()
        stretches = await asyncio.to_thread(lambda: list(Segmenter(Cutting()).push(waveform, last=True)))
        space = ""
        for stretch in stretches:
            clip = with_quiet_edges(stretch.waveform, RATE_HZ)
            events = self._engine.transcribe(clip.waveform, SamplingParams(top_logprobs=0))
            assert isinstance(events, AsyncGenerator), "an engine's answer must be closeable"
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, InputTranscriptDelta):
                        yield replace(event, text=space + event.text)
                        space = ""
            space = " "


def _num_tokens(heard: Iterable[InputTranscriptDelta]) -> int:
    return sum(len(delta.tokens) for delta in heard)


def _behind(known: int, heard: Iterable[InputTranscriptDelta]) -> tuple[TokenLogprob, ...]:
    """The tokens that begin behind so many characters."""
    tokens, at = (), 0
    for delta in heard:
        tokens += delta.logprobs if at >= known else ()
        at += len(delta.text)
    return tokens


def _known(text: str, told: str) -> int:
    """How much of a text was told already: its beginning or, where that differs, as many words of it."""
    if text.startswith(told):
        return len(told)
    ends = [word.end() for word in re.finditer(r"\S+", text)]
    return ([0, *ends, len(text)])[min(len(told.split()), len(ends) + 1)]
