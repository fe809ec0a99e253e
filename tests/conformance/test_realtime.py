"""GET /v1/realtime through the official client, as an application would use it."""

from __future__ import annotations

import base64
import json
import time
from typing import Any, cast

import numpy as np
import openai
import pytest
from openai.types.realtime import RealtimeServerEvent

from tests.conformance.dialogue import HEARD_S, RESULTS, SESSION, check, slow_server, spoken
from tests.server.calls import hum, pcm
from tests.server.live import Live

# the official client opens its socket in a way that the newest websockets warns of
pytestmark = pytest.mark.filterwarnings("ignore:connect\\(\\) must be used:DeprecationWarning")


def client_of(server: Live) -> openai.OpenAI:
    url = f"{server.url}/v1"
    return openai.OpenAI(base_url=url, websocket_base_url=url.replace("http", "ws"), api_key="sk-x")


@pytest.fixture
def client(server: Live):
    with client_of(server) as client:
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


def test_a_spoken_conversation_with_a_tool_that_is_interrupted():
    told: list[dict[str, Any]] = []
    began_s: float | None = None  # the first result to be heard
    sound, item_id, answers = b"", "", 0
    with slow_server() as server, client_of(server) as client, client.realtime.connect(model="gpt-realtime") as call:
        call.session.update(session=SESSION)  # pyright: ignore[reportArgumentType]
        speak(call)
        while answers < 4:
            data = call.recv_bytes()
            told.append(json.loads(data))
            match call.parse_event(data):
                case event if event.type == "response.function_call_arguments.done":
                    result = RESULTS[answers // 2]
                    item: Any = {"type": "function_call_output", "call_id": event.call_id, "output": result}
                    call.conversation.item.create(item=item)
                case event if event.type == "response.output_audio.delta" and answers == 1:
                    sound += base64.b64decode(event.delta)
                    item_id = event.item_id
                    if began_s is None:
                        began_s = time.monotonic()
                        time.sleep(HEARD_S)
                        speak(call)
                case event if event.type == "input_audio_buffer.speech_started" and began_s is not None:
                    heard_ms = min(1000 * (time.monotonic() - began_s), len(sound) / 48)
                    call.conversation.item.truncate(item_id=item_id, content_index=0, audio_end_ms=int(heard_ms))
                case event if event.type == "response.done":
                    answers += 1
                    if answers in (1, 3):
                        call.response.create()
        check(told, server)


def speak(call: Any) -> None:
    for piece in spoken():
        call.input_audio_buffer.append(audio=base64.b64encode(piece).decode())


def test_a_call_of_the_retired_beta(client: openai.OpenAI):
    secret = client.beta.realtime.sessions.create(model="gpt-4o-realtime-preview", voice="echo").client_secret
    with client.with_options(api_key=secret.value).beta.realtime.connect(model="gpt-4o-realtime-preview") as connection:
        [created] = cast(list[Any], until(connection, "session.created"))
        assert created.session.voice == "echo"
        push_to_talk: Any = {"turn_detection": None, "modalities": ["audio", "text"], "speed": 1.5}
        connection.session.update(session=push_to_talk)
        until(connection, "session.updated")
        for piece in np.array_split(hum(600), 6):
            connection.input_audio_buffer.append(audio=pcm(piece))
        connection.input_audio_buffer.commit()
        connection.response.create()
        events = cast(list[Any], until(connection, "response.done"))
    sound = b"".join(base64.b64decode(e.delta) for e in events if e.type == "response.audio.delta")
    transcript = "".join(e.delta for e in events if e.type == "response.audio_transcript.delta")
    assert transcript.startswith("I got a clip of")
    assert len(sound) == pytest.approx(len(transcript.split()) * 0.16 * 48_000 / 1.5, rel=0.02)
    made = client.beta.realtime.transcription_sessions.create(input_audio_transcription={"model": "gpt-4o-transcribe"})
    assert made.client_secret.value.startswith("ek_")
