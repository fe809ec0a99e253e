"""What a call's user is heard to say, told while it is said.

A delta cannot be taken back, so what is told of an item stays: put together, its deltas are its transcript. Where a
turn is heard once more, behind something that changed, or read as a clip after all, the network may write it
differently: then what was told stands, and goes on behind as many words.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Protocol

import structlog
from starlette.websockets import WebSocketDisconnect

from sensorium.engine.request import InputTranscriptDelta, LiveEngine, SamplingParams
from sensorium.server.conversation import Item, load_sounds
from sensorium.server.logs import describe

log = structlog.get_logger()

_EVENT = "conversation.item.input_audio_transcription"


class Send(Protocol):
    async def __call__(self, type: str, **fields: Any) -> None: ...


class Scribe:
    """Tells the transcripts of a call's spoken items, and keeps what was told of those that are not complete."""

    def __init__(self, engine: LiveEngine, send: Send) -> None:
        self._engine = engine
        self._rate_hz = engine.info.sample_rate_hz
        self._send = send
        self._told: dict[str, str] = {}  # by item

    async def tell(self, item_id: str, heard: Sequence[InputTranscriptDelta]) -> None:
        """What is new of all that was heard in an item up to now, if anything is."""
        told = self._told.get(item_id, "")
        text = "".join(delta.text for delta in heard)
        if new := text[_known(text, told) :]:
            self._told[item_id] = told + new
            await self._send(f"{_EVENT}.delta", item_id=item_id, content_index=0, delta=new)

    def forget(self, item_id: str | None) -> None:
        """There will be no such item."""
        self._told.pop(item_id or "", None)

    async def complete(self, item: Item, heard: Sequence[InputTranscriptDelta]) -> None:
        """That was all; from now on it is the item's transcript."""
        await self.tell(item.id, heard)
        part = item.content[0]
        part.text = self._told.pop(item.id, "")
        assert part.sound is not None
        usage = {"type": "duration", "seconds": round(len(part.sound) / self._rate_hz, 3)}
        where = {"item_id": item.id, "content_index": 0}
        await self._send(f"{_EVENT}.completed", **where, transcript=part.text, usage=usage)

    async def read(self, item: Item) -> None:
        """Of an item that was not listened to, told apart from any answer: the same words that an answer rests on."""
        messages = item.messages(await load_sounds([item]))
        events = self._engine.generate(messages, SamplingParams(max_tokens=1, tool_choice="none"))
        assert isinstance(events, AsyncGenerator), "an engine's answer must be closeable"
        heard: list[InputTranscriptDelta] = []
        try:
            async with aclosing(events):
                async for event in events:
                    if not isinstance(event, InputTranscriptDelta):
                        break
                    heard.append(event)
                    await self.tell(item.id, heard)
        except WebSocketDisconnect:
            return
        except Exception as failure:
            log.error("transcription failed", **describe(failure))
            self.forget(item.id)
            error = {"type": "server_error", "code": None, "message": "The turn could not be written down."}
            await self._send(f"{_EVENT}.failed", item_id=item.id, content_index=0, error=error)
            return
        await self.complete(item, heard)


def _known(text: str, told: str) -> int:
    """How much of a text was told already: its beginning or, where that differs, as many words of it."""
    if text.startswith(told):
        return len(told)
    ends = [word.end() for word in re.finditer(r"\S+", text)]
    return ([0, *ends, len(text)])[min(len(told.split()), len(ends) + 1)]
