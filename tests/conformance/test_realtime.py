"""GET /v1/realtime through the official client, as an application would use it."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import openai
import pytest
from openai.types.realtime import RealtimeServerEvent

from tests.server.calls import hum, pcm
from tests.server.live import Live

# the official client opens its socket in a way that the newest websockets warns of
pytestmark = pytest.mark.filterwarnings("ignore:connect\\(\\) must be used:DeprecationWarning")


@pytest.fixture
def client(server: Live):
    client = openai.OpenAI(
        base_url=f"{server.url}/v1", websocket_base_url=f"{server.url.replace('http', 'ws')}/v1", api_key="sk-x"
    )
    with client:
        yield client


def until(connection: Any, type: str) -> list[RealtimeServerEvent]:
    events = []
    for event in connection:
        events.append(event)
        assert event.type != "error", event
        if event.type == type:
            break
    return events


def test_a_call_by_push_to_talk(client: openai.OpenAI):
    with client.realtime.connect(model="gpt-realtime") as connection:
        [created] = until(connection, "session.created")
        assert created.type == "session.created"
        connection.session.update(session={"type": "realtime", "audio": {"input": {"turn_detection": None}}})
        until(connection, "session.updated")
        for piece in np.array_split(hum(600), 6):
            connection.input_audio_buffer.append(audio=pcm(piece))
        connection.input_audio_buffer.commit()
        connection.response.create()
        events = until(connection, "response.done")
    sound = b"".join(base64.b64decode(e.delta) for e in events if e.type == "response.output_audio.delta")
    transcript = "".join(e.delta for e in events if e.type == "response.output_audio_transcript.delta")
    assert transcript.startswith("I got a clip of")
    assert len(sound) == pytest.approx(len(transcript.split()) * 0.16 * 48_000, rel=0.02)


def test_a_tool_is_called_and_its_result_is_told(client: openai.OpenAI):
    tools: Any = [{"type": "function", "name": "add", "description": "adds", "parameters": {"type": "object"}}]
    said: Any = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "call add {}"}]}
    with client.realtime.connect(model="gpt-realtime") as connection:
        connection.session.update(session={"type": "realtime", "output_modalities": ["text"], "tools": tools})
        connection.conversation.item.create(item=said)
        connection.response.create()
        events = until(connection, "response.done")
        [call] = [event for event in events if event.type == "response.function_call_arguments.done"]
        assert (call.name, call.arguments) == ("add", "{}")
        connection.conversation.item.create(
            item={"type": "function_call_output", "call_id": call.call_id, "output": "5"}
        )
        connection.response.create()
        events = until(connection, "response.done")
    assert any(event.type == "response.output_text.done" for event in events)
