"""A call seen from the client's side: every event of the server is held to the official client's own types."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from openai.types.realtime.realtime_server_event import RealtimeServerEvent
from pydantic import TypeAdapter
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from sensorium.messages import Audio
from tests.server.live import Live

SERVER_EVENT: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
PUSH_TO_TALK = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}


class Phone:
    """One call, seen from the client's side."""

    server_event = SERVER_EVENT

    def __init__(self, socket: Connection) -> None:
        self.socket = socket

    def say(self, type: str, **fields: Any) -> None:
        self.socket.send(json.dumps({"type": type, **fields}))

    def next(self) -> dict[str, Any]:
        told = self.socket.recv(timeout=10)
        self.server_event.validate_json(told, strict=True)  # else a whole float passes for an integer
        event = json.loads(told)
        assert event["event_id"].startswith("event_")
        return event

    def until(self, type: str) -> list[dict[str, Any]]:
        """All events up to the first of this type."""
        events = [self.next()]
        while events[-1]["type"] != type:
            events.append(self.next())
        return events

    def ask(self, type: str, answer: str, **fields: Any) -> dict[str, Any]:
        """The event that answers; nothing else may come before it."""
        self.say(type, **fields)
        event = self.next()
        assert event["type"] == answer, event
        return event

    def refused(self, type: str, **fields: Any) -> tuple[str | None, str | None]:
        error = self.ask(type, "error", **fields, event_id="mine")["error"]
        assert error["event_id"] == "mine"
        assert error["message"]
        return error["param"], error["code"]

    def user(self, text: str, **fields: Any) -> dict[str, Any]:
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
        self.ask("conversation.item.create", "conversation.item.added", item=item, **fields)
        return self.next()["item"]


def heard_in(call: Phone, server: Live) -> Audio:
    """Takes what was sent for a turn and has it answered in words: what the engine heard of it."""
    call.ask("input_audio_buffer.commit", "input_audio_buffer.committed")
    call.until("conversation.item.done")
    call.say("response.create", response={"output_modalities": ["text"]})
    call.until("response.done")
    heard = server.engine.requests[-1].messages[-1].parts[0]
    assert isinstance(heard, Audio)
    return heard


@contextlib.contextmanager
def phone(server: Live, *, session: dict[str, Any] | None = PUSH_TO_TALK, **options: Any) -> Iterator[Phone]:
    url = server.url.replace("http", "ws") + "/v1/realtime?model=gpt-realtime"
    # by default a client that leaves 17 events unread stops reading, and then takes ten seconds to close
    with connect(url, max_size=None, max_queue=None, **options) as socket:
        call = Phone(socket)
        assert call.next()["type"] == "session.created"
        if session is not None:
            assert call.ask("session.update", "session.updated", session=session)
        yield call


def pcm(waveform: np.ndarray) -> str:
    return base64.b64encode((waveform * 32767).astype("<i2").tobytes()).decode()


def hum(ms: int, *, rate_hz: int = 24_000) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * 220 * np.arange(ms * rate_hz // 1000) / rate_hz)).astype(np.float32)


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]
