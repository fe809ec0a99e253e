"""Calls in the retired beta shape: every event is one that the official client's beta classes take."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from openai.types.beta.realtime import SessionCreateResponse
from openai.types.beta.realtime.realtime_server_event import RealtimeServerEvent
from openai.types.beta.realtime.transcription_session import TranscriptionSession
from openai.types.beta.realtime.transcription_session_updated_event import TranscriptionSessionUpdatedEvent
from pydantic import TypeAdapter
from websockets.sync.client import connect

from tests.server.calls import Phone, hum, pcm, phone, types
from tests.server.live import Live, live
from tests.server.samples import data_url, picture
from tests.server.test_turns import spoken, stream

HEADER = {"OpenAI-Beta": "realtime=v1"}


class BetaPhone(Phone):
    server_event = TypeAdapter(RealtimeServerEvent)


@contextlib.contextmanager
def beta_phone(server: Live, **session: Any) -> Iterator[BetaPhone]:
    url = server.url.replace("http", "ws") + "/v1/realtime?model=gpt-4o-realtime-preview"
    with connect(url, max_size=None, additional_headers=HEADER) as socket:
        call = BetaPhone(socket)
        assert types([call.next(), call.next()]) == ["session.created", "conversation.created"]
        call.ask("session.update", "session.updated", session={"turn_detection": None, **session})
        yield call


def test_who_speaks_beta_is_told_in_beta(server: Live):
    url = server.url.replace("http", "ws") + "/v1/realtime?model=gpt-4o-realtime-preview"
    beta: Any = ["openai-beta.realtime-v1"]
    for offered, selected in ((["realtime", *beta], "realtime"), (beta, beta[0])):
        with connect(url, subprotocols=offered) as socket:
            assert socket.subprotocol == selected
            session = BetaPhone(socket).next()["session"]
            assert session["modalities"] == ["audio", "text"]
    with connect(url, additional_headers=HEADER) as socket:
        session = BetaPhone(socket).next()["session"]
    assert session == {
        "id": session["id"],
        "object": "realtime.session",
        "model": "gpt-4o-realtime-preview",
        "expires_at": session["expires_at"],
        "modalities": ["audio", "text"],
        "instructions": "",
        "voice": "alloy",
        "speed": 1.0,
        "input_audio_format": "pcm16",
        "output_audio_format": "pcm16",
        "input_audio_transcription": None,
        "input_audio_noise_reduction": None,
        "turn_detection": {
            "type": "server_vad",
            "threshold": 0.5,
            "prefix_padding_ms": 300,
            "silence_duration_ms": 500,
            "idle_timeout_ms": None,
            "create_response": True,
            "interrupt_response": True,
        },
        "tools": [],
        "tool_choice": "auto",
        "temperature": 0.8,
        "max_response_output_tokens": "inf",
        "tracing": None,
        "prompt": None,
        "include": None,
    }


def test_every_setting_of_a_session_comes_back(server: Live):
    tool = {"name": "light", "description": "a lamp", "parameters": {"type": "object"}}
    session: dict[str, Any] = {
        "modalities": ["text", "audio"],
        "instructions": "be kind",
        "voice": "echo",
        "speed": 1.25,
        "input_audio_format": "g711_ulaw",
        "output_audio_format": "g711_alaw",
        "input_audio_transcription": {"model": "whisper-1", "language": "en", "prompt": None},
        "turn_detection": {"type": "semantic_vad", "eagerness": "low"},
        "tools": [tool],
        "tool_choice": "none",
        "temperature": 0.8,
        "max_response_output_tokens": 300,
        "of_no_meaning": True,
    }
    with beta_phone(server) as call:
        told = call.ask("session.update", "session.updated", session=session)["session"]
        session["modalities"] = ["audio", "text"]
        session["turn_detection"] |= {"create_response": True, "interrupt_response": True}
        session["tools"] = [{"type": "function", **tool}]
        del session["of_no_meaning"]
        assert told | session == told
        back = call.ask("session.update", "session.updated", session=told)["session"]  # clients send back what they got
        assert back == told


@pytest.mark.parametrize(
    ("session", "param", "code"),
    [
        ({"voice": "nobody"}, "session.voice", "invalid_value"),
        ({"input_audio_format": "mp3"}, "session.input_audio_format", "invalid_value"),
        ({"modalities": ["pictures"]}, "session.modalities", "invalid_value"),
        ({"temperature": 1.3}, "session.temperature", "decimal_above_max_value"),
        ({"temperature": 0.5}, "session.temperature", "decimal_below_min_value"),
        ({"temperature": "warm"}, "session.temperature", None),
        ({"speed": 2}, "session.speed", "decimal_above_max_value"),
        ({"max_response_output_tokens": "many"}, "session.max_response_output_tokens", None),
        ({"turn_detection": {"threshold": 2}}, "session.turn_detection.threshold", None),
        ({"tools": [{"name": "?"}]}, "session.tools[0].name", "invalid_value"),
        ("hello", "session", None),
    ],
)
def test_a_refusal_names_the_field_as_the_client_knows_it(server: Live, session: Any, param: str, code: str | None):
    with beta_phone(server) as call:
        call.say("session.update", session=session, event_id="mine")
        error = call.next()["error"]
    assert error["event_id"] == "mine"
    assert error["param"].startswith(param)
    assert param in error["message"]
    assert "audio.output" not in error["message"]
    assert code in (None, error["code"])


def test_a_spoken_answer(server: Live):
    with beta_phone(server) as call:
        call.say("input_audio_buffer.append", audio=pcm(hum(400)))
        call.ask("input_audio_buffer.commit", "input_audio_buffer.committed")
        assert call.next()["type"] == "conversation.item.created"
        options = {"modalities": ["audio", "text"], "voice": "echo", "max_response_output_tokens": 50}
        call.say("response.create", response=options)
        events = call.until("rate_limits.updated")
    order = [name for at, name in enumerate(types(events)) if not at or types(events)[at - 1] != name]
    assert order[:4] == [
        "response.created",
        "response.output_item.added",
        "conversation.item.created",
        "response.content_part.added",
    ]
    assert order[-6:] == [
        "response.audio.done",
        "response.audio_transcript.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.done",
        "rate_limits.updated",
    ]
    assert {"response.audio.delta", "response.audio_transcript.delta"} <= set(order)
    response = events[-2]["response"]
    assert response["modalities"] == ["audio", "text"]
    assert (response["voice"], response["output_audio_format"], response["max_output_tokens"]) == ("echo", "pcm16", 50)
    assert response["output"][0]["content"][0]["type"] == "audio"
    assert response["output"][0]["content"][0]["transcript"].startswith("I got a clip of")
    assert "audio" not in response


def test_a_written_answer_to_what_both_have_said(server: Live):
    with beta_phone(server) as call:
        said = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "hello"}]}
        created = call.ask("conversation.item.create", "conversation.item.created", item=said)["item"]
        assert created["content"] == [{"type": "text", "text": "hello"}]
        asked = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "two words"}]}
        call.ask("conversation.item.create", "conversation.item.created", item=asked)
        call.say("response.create", response={"modalities": ["text"]})
        events = call.until("rate_limits.updated")
        assert {"response.text.delta", "response.text.done"} <= set(types(events))
        assert events[-2]["response"]["output"][0]["content"] == [{"type": "text", "text": 'You said "two words".'}]
        options = {"modalities": ["text"], "conversation": "none", "input": [said, asked]}
        call.say("response.create", response=options)
        assert call.until("rate_limits.updated")[-2]["response"]["conversation_id"] is None
        item = call.ask("conversation.item.retrieve", "conversation.item.retrieved", item_id=created["id"])["item"]
        assert item["content"][0]["type"] == "text"
        call.ask("conversation.item.delete", "conversation.item.deleted", item_id=created["id"])
        call.say("response.create", response={"output_audio_format": "mp3"})
        assert call.next()["error"]["param"] == "response.output_audio_format"
    assert server.engine.requests[-1].messages[0].text == "hello"


def test_a_function_is_called(server: Live):
    with beta_phone(server, tools=[{"type": "function", "name": "light", "parameters": {}}]) as call:
        content = [{"type": "input_image", "image_url": data_url(picture())}, {"type": "input_text", "text": "x"}]
        refused = {"type": "message", "role": "user", "content": [*content, {"type": "text", "text": "of none"}]}
        call.say("conversation.item.create", item=refused)
        assert call.next()["error"]["param"] == "item.content[2].type"
        asked = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "call light {}"}]}
        call.ask("conversation.item.create", "conversation.item.created", item=asked)
        call.say("response.create")
        events = call.until("rate_limits.updated")
        [output] = events[-2]["response"]["output"]
        assert (output["type"], output["name"], output["status"]) == ("function_call", "light", "completed")
        result = {"type": "function_call_output", "call_id": output["call_id"], "output": "on"}
        call.ask("conversation.item.create", "conversation.item.created", item=result)


def test_a_turn_is_made_out_answered_and_cut(server: Live):
    session = {"turn_detection": {"type": "server_vad"}, "input_audio_transcription": {"model": "whisper-1"}}
    with beta_phone(server, **session) as call:
        stream(call, spoken())
        events = call.until("rate_limits.updated")
        assert {
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
            "conversation.item.created",
            "conversation.item.input_audio_transcription.completed",
        } <= set(types(events))
        item_id = events[-2]["response"]["output"][0]["id"]
        fields = {"item_id": item_id, "content_index": 0, "audio_end_ms": 200}
        call.ask("conversation.item.truncate", "conversation.item.truncated", **fields)
        item = call.ask("conversation.item.retrieve", "conversation.item.retrieved", item_id=item_id)["item"]
        assert item["content"][0]["type"] == "audio"
        assert len(base64.b64decode(item["content"][0]["audio"])) == pytest.approx(0.2 * 48_000, abs=100)


def test_a_transcription_session():
    with live() as server:
        url = server.url.replace("http", "ws") + "/v1/realtime?intent=transcription"
        with connect(url, additional_headers=HEADER) as socket:
            created = json.loads(socket.recv(timeout=10))
            assert created["type"] == "transcription_session.created"  # not in the official client, but sent by OpenAI
            # the class wants the secret that only a session made over HTTP has
            secret = {"client_secret": {"value": "", "expires_at": 0}}
            TranscriptionSession.model_validate(created["session"] | secret)
            change = {"turn_detection": None, "input_audio_transcription": {"model": "whisper-1"}}
            socket.send(json.dumps({"type": "transcription_session.update", "session": change}))
            updated = json.loads(socket.recv(timeout=10))
            TranscriptionSessionUpdatedEvent.model_validate({**updated, "session": updated["session"] | secret})
            assert updated["session"]["input_audio_transcription"]["model"] == "whisper-1"
            assert updated["session"]["turn_detection"] is None
            call = BetaPhone(socket)
            call.say("input_audio_buffer.append", audio=pcm(hum(400)))
            call.say("input_audio_buffer.commit")
            completed = call.until("conversation.item.input_audio_transcription.completed")[-1]
            assert completed["transcript"] == "word1 word2"


def test_todays_clients_are_not_spoken_to_in_beta(server: Live):
    url = server.url.replace("http", "ws") + "/v1/realtime?model=gpt-realtime"
    with connect(url, additional_headers={"OpenAI-Beta": "assistants=v2"}) as socket:
        call = Phone(socket)
        assert "modalities" not in call.next()["session"]
        call.user("hello")


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("sessions", {"voice": "nobody"}, "voice"),
        ("sessions", {"output_audio_format": "mp3"}, "output_audio_format"),
        (
            "sessions",
            {"client_secret": {"expires_after": {"anchor": "created_at", "seconds": 1}}},
            "expires_after.seconds",
        ),
        ("transcription_sessions", {"turn_detection": {"type": "by_eye"}}, "turn_detection.type"),
    ],
)
def test_a_secret_that_cannot_be_made(server: Live, path: str, body: Any, param: str):
    answer = server.http.post(f"/v1/realtime/{path}", json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == param
    assert f"'{param}'" in error["message"]


def test_a_secret_of_a_flat_session(server: Live):
    asked: dict[str, Any] = {"model": "gpt-4o-realtime-preview", "modalities": ["text"]}
    asked |= {"client_secret": {"expires_after": {"anchor": "created_at", "seconds": 10}}}
    assert server.http.post("/v1/realtime/sessions", json=[asked]).status_code == 400
    made = server.http.post("/v1/realtime/sessions", json=asked).json()
    SessionCreateResponse.model_validate(made)
    assert made["modalities"] == ["text"]
    url = server.url.replace("http", "ws") + "/v1/realtime"
    offered: Any = ["realtime", f"openai-insecure-api-key.{made['client_secret']['value']}", "openai-beta.realtime-v1"]
    with connect(url, subprotocols=offered) as socket:
        assert BetaPhone(socket).next()["session"]["modalities"] == ["text"]


def test_a_temperature_of_the_session_or_of_one_response_is_obeyed(server: Live):
    with beta_phone(server, modalities=["text"], temperature=1.2) as call:
        for options, temperature in (({}, 1.2), ({"temperature": 0.6}, 0.6), ({}, 1.2)):
            call.say("response.create", response=options)
            assert call.until("response.done")[-1]["response"]["temperature"] == temperature
            assert server.engine.requests[-1].params.temperature == temperature
            call.until("rate_limits.updated")
        told = call.ask("session.update", "session.updated", session={})["session"]
        assert told["temperature"] == 1.2
    with beta_phone(server, modalities=["text"]) as call:
        call.say("response.create")
        assert call.until("response.done")[-1]["response"]["temperature"] == 0.8
        assert server.engine.requests[-1].params.temperature == 0.0  # the likeliest words, as anywhere


def test_today_s_shape_has_no_temperature(server: Live):
    with phone(server) as call:
        session = {"type": "realtime", "temperature": 0.8}
        assert call.refused("session.update", session=session) == ("session.temperature", "unknown_parameter")
        assert call.refused("response.create", response={"temperature": 0.8})[0] == "response.temperature"
        told = call.ask("session.update", "session.updated", session={"type": "realtime"})["session"]
        assert "temperature" not in told
    asked = {"session": {"type": "realtime", "temperature": 0.8}}
    refused = server.http.post("/v1/realtime/client_secrets", json=asked)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "session.temperature")
