"""A call over a WebSocket: every event of it is one that the official client's own types take."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from sensorium.engine.fake import FakeEngine
from sensorium.engine.request import Event, InputTranscriptDelta, SamplingParams
from sensorium.messages import Audio, Image, Message, ToolCall
from sensorium.server.realtime_audio import WireFormat, encoded
from sensorium.server.realtime_thread import Thread
from tests.server.calls import PUSH_TO_TALK, Phone, heard_in, hum, pcm, phone, types
from tests.server.live import Live, eventually, live
from tests.server.samples import data_url, picture
from tests.server.test_turns import spoken


def test_a_session_begins_with_the_contracts_defaults(server: Live):
    with connect(server.url.replace("http", "ws") + "/v1/realtime?model=gpt-4o-realtime-preview") as socket:
        session = Phone(socket).next()["session"]
    assert session["object"] == "realtime.session"
    assert session["model"] == "gpt-4o-realtime-preview"
    assert session["output_modalities"] == ["audio"]
    assert session["audio"]["input"]["turn_detection"] == {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 500,
        "idle_timeout_ms": None,
        "create_response": True,
        "interrupt_response": True,
    }


def test_an_update_changes_only_what_it_names(server: Live):
    with phone(server, session=None) as call:
        change = {"type": "realtime", "audio": {"output": {"voice": "echo"}}, "instructions": "be brief"}
        session = call.ask("session.update", "session.updated", session=change)["session"]
        assert session["audio"]["output"]["voice"] == "echo"
        assert session["audio"]["input"]["turn_detection"]["type"] == "server_vad"
        cleared = {"type": "realtime", "instructions": "", "audio": {"input": {"turn_detection": None}}}
        session = call.ask("session.update", "session.updated", session=cleared)["session"]
        assert session["instructions"] == ""
        assert session["audio"]["input"]["turn_detection"] is None
        assert session["audio"]["output"]["voice"] == "echo"


@pytest.mark.parametrize(
    ("session", "param", "code"),
    [
        ({}, "session.type", "missing_required_parameter"),
        ({"type": "realtime", "voice": "echo"}, "session.voice", "unknown_parameter"),
        ({"type": "realtime", "output_modalities": ["text", "audio"]}, "session.output_modalities", None),
        ({"type": "realtime", "audio": {"output": {"voice": "nobody"}}}, "session.audio.output.voice", "invalid_value"),
        (
            {"type": "realtime", "audio": {"output": {"speed": 1.6}}},
            "session.audio.output.speed",
            "decimal_above_max_value",
        ),
        ({"type": "realtime", "model": "nobody"}, "session.model", "model_not_found"),
        ({"type": "realtime", "max_output_tokens": 5000}, "session.max_output_tokens", None),
        ({"type": "realtime", "tool_choice": "perhaps"}, "session.tool_choice", "invalid_value"),
        ({"type": "realtime", "prompt": {"id": "pmpt_1"}}, "session.prompt", "unsupported_value"),
    ],
)
def test_a_setting_that_cannot_be_obeyed_is_named_and_nothing_changes(server: Live, session, param, code):
    with phone(server) as call:
        found = call.refused("session.update", session={**session, "instructions": "changed"})
        assert found[0] is not None
        assert found[0].startswith(param)
        assert code in (None, found[1])
        same = call.ask("session.update", "session.updated", session={"type": "realtime"})["session"]
        assert same["instructions"] == ""


def test_a_written_answer_in_the_contracts_order(server: Live):
    with phone(server) as call:
        call.user("two words")
        call.say("response.create", response={"output_modalities": ["text"], "metadata": {"of": "me"}})
        events = call.until("rate_limits.updated")
    order = types(events)
    deltas = order.count("response.output_text.delta")
    assert order == [
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * deltas,
        "response.output_text.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
        "rate_limits.updated",
    ]
    text = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    assert text == 'You said "two words".'
    response = events[-2]["response"]
    assert response["status"] == "completed"
    assert response["metadata"] == {"of": "me"}
    assert response["output"][0]["content"] == [{"type": "output_text", "text": text}]
    assert response["usage"]["output_token_details"]["text_tokens"] == deltas


@pytest.mark.parametrize(
    ("format", "bytes_per_s"), [("audio/pcm", 48_000), ("audio/pcmu", 8_000), ("audio/pcma", 8_000)]
)
def test_a_spoken_answer_holds_all_its_sound_in_the_format_asked_for(server: Live, format: str, bytes_per_s: int):
    wire = {"type": format, "rate": 24_000} if format == "audio/pcm" else {"type": format}
    with phone(
        server, session={**PUSH_TO_TALK, "audio": {"input": {"turn_detection": None}, "output": {"format": wire}}}
    ) as call:
        call.user("hello there")
        call.say("response.create")
        events = call.until("response.done")
        order = types(events)
        assert order.index("response.output_audio_transcript.delta") < order.index("response.output_audio.delta")
        assert order[-6:-1] == [
            "response.output_audio.done",
            "response.output_audio_transcript.done",
            "response.content_part.done",
            "conversation.item.done",
            "response.output_item.done",
        ]
        sound = b"".join(
            base64.b64decode(event["delta"]) for event in events if event["type"] == "response.output_audio.delta"
        )
        words = len('You said "hello there".'.split())
        assert len(sound) == pytest.approx(words * 0.16 * bytes_per_s, abs=0.02 * bytes_per_s)
        assert events[-1]["response"]["audio"]["output"]["format"] == wire
        item_id = events[-1]["response"]["output"][0]["id"]
        call.next()  # rate_limits.updated
        again = call.ask("conversation.item.retrieve", "conversation.item.retrieved", item_id=item_id)["item"]
        assert abs(len(base64.b64decode(again["content"][0]["audio"])) - len(sound)) <= 0.02 * bytes_per_s
        assert call.refused("session.update", session={"type": "realtime", "audio": {"output": {"voice": "echo"}}}) == (
            "session.audio.output.voice",
            "cannot_update_voice",
        )


def test_pushed_speech_is_heard(server: Live):
    with phone(server) as call:
        for piece in np.array_split(hum(400), 7):
            call.say("input_audio_buffer.append", audio=pcm(piece))
        committed = call.ask("input_audio_buffer.commit", "input_audio_buffer.committed")
        assert types([call.next(), call.next()]) == ["conversation.item.added", "conversation.item.done"]
        call.say("response.create", response={"output_modalities": ["text"]})
        events = call.until("response.done")
        assert "a clip of 4" in events[-1]["response"]["output"][0]["content"][0]["text"]
    heard = server.engine.requests[-1].messages[-1].parts[0]
    assert isinstance(heard, Audio)
    assert heard.duration_ms == pytest.approx(400, abs=5)
    assert committed["previous_item_id"] is None


@pytest.mark.parametrize("format", ["audio/pcmu", "audio/pcma"])
def test_a_telephone_is_heard(server: Live, format: WireFormat):
    settings = {"turn_detection": None, "format": {"type": format}}
    with phone(server, session={"type": "realtime", "audio": {"input": settings}}) as call:
        sound = encoded(hum(400, rate_hz=8000), format)
        call.say("input_audio_buffer.append", audio=base64.b64encode(sound).decode())
        heard = heard_in(call, server)
    assert heard.duration_ms == pytest.approx(400, abs=5)
    assert np.abs(heard.waveform[1000:-1000]).max() == pytest.approx(0.3, abs=0.02)


def test_the_users_sound_comes_back_as_it_was_sent(server: Live):
    with phone(server) as call:
        audio = {"input": {"format": {"type": "audio/pcmu"}, "turn_detection": None}}
        call.ask("session.update", "session.updated", session={"type": "realtime", "audio": audio})
        call.say("input_audio_buffer.append", audio=base64.b64encode(b"\x55" * 3200).decode())
        item_id = call.ask("input_audio_buffer.commit", "input_audio_buffer.committed")["item_id"]
        call.until("conversation.item.done")
        item = call.ask("conversation.item.retrieve", "conversation.item.retrieved", item_id=item_id)["item"]
    assert len(base64.b64decode(item["content"][0]["audio"])) == 3200  # 400 ms, a byte for each sample at 8 kHz


def test_settings_of_a_network_that_reasons_are_taken_and_change_nothing(server: Live):
    with phone(server) as call:
        session = {"type": "realtime", "model": "gpt-realtime-2.1", "reasoning": {"effort": "low"}, "tools": []}
        told = call.ask("session.update", "session.updated", session=session)["session"]
        assert "reasoning" not in told
        call.say("response.create", response={"reasoning": {"effort": "low"}, "output_modalities": ["text"]})
        assert call.until("response.done")[-1]["response"]["status"] == "completed"


def test_too_little_sound_is_no_turn(server: Live):
    with phone(server) as call:
        assert call.refused("input_audio_buffer.commit") == (None, "input_audio_buffer_commit_empty")
        call.say("input_audio_buffer.append", audio=pcm(hum(400)))
        call.ask("input_audio_buffer.clear", "input_audio_buffer.cleared")
        assert call.refused("input_audio_buffer.commit") == (None, "input_audio_buffer_commit_empty")
        assert call.refused("input_audio_buffer.append", audio="not base64!") == ("audio", "invalid_value")


def test_items_are_placed_found_and_deleted(server: Live):
    with phone(server) as call:
        first, second = call.user("one"), call.user("two")
        opening = call.user("zero", previous_item_id="root")
        call.user("one and a half", previous_item_id=first["id"])
        call.ask("conversation.item.delete", "conversation.item.deleted", item_id=second["id"])
        assert call.refused("conversation.item.delete", item_id=second["id"]) == ("item_id", "item_not_found")
        assert call.refused("conversation.item.retrieve", item_id="nowhere") == ("item_id", "item_not_found")
        item = {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "x"}],
            "id": opening["id"],
        }
        assert call.refused("conversation.item.create", item=item) == ("item.id", "item_id_taken")
        call.say("response.create", response={"output_modalities": ["text"]})
        call.until("response.done")
    assert [message.text for message in server.engine.requests[-1].messages] == ["zero", "one", "one and a half"]


def test_pictures_tools_and_instructions_reach_the_engine(server: Live):
    tool = {"type": "function", "name": "light", "description": "a lamp", "parameters": {"type": "object"}}
    with phone(server, session={**PUSH_TO_TALK, "instructions": "be kind", "tools": [tool]}) as call:
        url = data_url(picture())
        content = [{"type": "input_image", "image_url": url}, {"type": "input_text", "text": "call light {}"}]
        item = {"type": "message", "role": "user", "content": content}
        call.ask("conversation.item.create", "conversation.item.added", item=item)
        call.next()
        call.say("response.create")
        events = call.until("response.done")
        done = next(event for event in events if event["type"] == "response.function_call_arguments.done")
        assert (done["name"], done["arguments"]) == ("light", "{}")
        [output] = events[-1]["response"]["output"]
        assert output["type"] == "function_call"
        assert output["status"] == "completed"
        call.next()  # rate_limits.updated
        result = {"type": "function_call_output", "call_id": output["call_id"], "output": "on"}
        call.ask("conversation.item.create", "conversation.item.added", item=result)
        call.next()
        call.say("response.create")
        call.until("response.done")
    messages = server.engine.requests[-1].messages
    assert [message.role for message in messages] == ["system", "system", "user", "assistant", "tool"]
    assert messages[0].text.startswith('tools:\n{"name":"light"')
    assert messages[1].text == "be kind"
    assert isinstance(messages[2].parts[0], Image)
    assert isinstance(messages[3].parts[0], ToolCall)
    assert messages[4].tool_call_id == output["call_id"]


def test_the_voice_may_change_until_it_was_heard(server: Live):
    change = {"type": "realtime", "audio": {"output": {"voice": "echo"}}}
    with phone(server) as call:
        call.user("call nobody {}")
        call.say("response.create")  # which says nothing
        call.until("rate_limits.updated")
        call.ask("session.update", "session.updated", session=change)


def test_what_no_client_should_send_is_answered_and_the_call_goes_on(server: Live):
    with phone(server) as call:
        for raw in ("{", "[]", '"hi"', '{"type": 5}', '{"type": "no.such.event"}', "{}", "[" * 5000):
            call.socket.send(raw)
            assert call.next()["type"] == "error"
        call.socket.send(b"\x00\x01")
        assert call.next()["type"] == "error"
        # half an emoji, as a string is that was cut inside it; and what is a number for Python alone
        for raw in (
            r'{"type": "response.cancel", "event_id": "\ud83d"}',
            r'{"type": "session.update", "session": {"type": "realtime", "instructions": "\ud83d"}}',
            '{"type": "response.create", "response": {"metadata": NaN}}',
        ):
            call.socket.send(raw)
            assert call.next()["error"]["code"] == "invalid_json"
        assert call.refused("input_audio_buffer.append", audio="", extra=1) == ("extra", "unknown_parameter")
        call.user("still there")


def test_the_oldest_items_make_room():
    with live(FakeEngine(max_tokens=12)) as server, phone(server) as call:
        for _ in range(6):
            call.user("one two three four")
        call.say("response.create", response={"output_modalities": ["text"]})
        assert call.until("response.done")[-1]["response"]["status"] == "completed"
        call.next()
        assert len(server.engine.requests[-1].messages) == 1  # more than need be made room
        call.ask("session.update", "session.updated", session={"type": "realtime", "truncation": "disabled"})
        for _ in range(3):
            call.user("one two three four")
        call.say("response.create", response={"output_modalities": ["text"]})
        response = call.until("response.done")[-1]["response"]
        assert response["status"] == "failed"
        assert response["status_details"]["error"]["code"] == "context_length_exceeded"


def test_room_for_the_next_turn_is_made_while_the_user_listens(monkeypatch: pytest.MonkeyPatch):
    """To the share that the session keeps."""
    make_room, made = Thread.make_room_ahead, list[object]()

    async def watched(self: Thread, *how: Any) -> None:
        await make_room(self, *how)
        made.append(how)

    monkeypatch.setattr(Thread, "make_room_ahead", watched)
    for truncation, kept in (
        ("auto", {4, 5, 6}),
        ({"type": "retention_ratio", "retention_ratio": 0.4}, {7, 8, 9}),
        ("disabled", {20}),
    ):
        with live(FakeEngine(max_tokens=128)) as server, phone(server) as call:
            call.ask("session.update", "session.updated", session={"type": "realtime", "truncation": truncation})
            for _ in range(20):
                call.user("one two three four five")
            call.say("response.create", response={"output_modalities": ["text"]})
            call.until("rate_limits.updated")
            assert len(server.engine.requests[-1].messages) == 20
            eventually(lambda is_off=truncation == "disabled": bool(made) or is_off)
            call.user("six")
            call.say("response.create", response={"output_modalities": ["text"]})
            assert call.until("response.done")[-1]["response"]["status"] == "completed"
            num_kept = len(server.engine.requests[-1].messages) - 2  # of the first twenty: but an answer and a question
            assert num_kept in kept, truncation
        made.clear()


def test_items_that_would_take_too_much_memory_are_refused():
    with live(max_call_bytes=50_000) as server, phone(server) as call:
        call.user("a" * 30_000)
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a" * 30_000}]}
        assert call.refused("conversation.item.create", item=item) == ("item", "conversation_too_large")
        call.user("still there")


def test_an_engine_that_fails_fails_one_answer():
    with live(FakeEngine(error_after=2)) as server, phone(server) as call:
        server.engine.error = RuntimeError("secret")
        call.user("hi")
        call.say("response.create")
        events = call.until("response.done")
        assert events[-1]["response"]["status"] == "failed"
        assert "secret" not in json.dumps(events)
        call.next()
        call.user("still there")


def test_a_client_that_hangs_up_stops_its_answer():
    with live(FakeEngine(delay_ms=20)) as server:
        with phone(server) as call:
            call.user("a rather long sentence to repeat")
            call.say("response.create")
            call.until("response.output_audio.delta")
        eventually(lambda: server.engine.num_cancelled == 1)


def test_who_may_connect():
    with live(api_keys=("secret",)) as server:
        url = server.url.replace("http", "ws") + "/v1/realtime?model=gpt-realtime"
        with pytest.raises(InvalidStatus) as refused, connect(url):
            pass
        assert refused.value.response.status_code == 401
        assert b"API key" in (refused.value.response.body or b"")
        with connect(url, additional_headers={"authorization": "Bearer secret"}) as socket:
            assert Phone(socket).next()["type"] == "session.created"
        offered: Any = ["realtime", "openai-insecure-api-key.secret"]
        with connect(url, subprotocols=offered) as socket:
            assert socket.subprotocol == "realtime"
            assert Phone(socket).next()["type"] == "session.created"


def test_pages_of_other_origins_and_unknown_models_are_refused(server: Live):
    url = server.url.replace("http", "ws") + "/v1/realtime"
    for query, origin, status in (
        ("?model=gpt-realtime", "https://elsewhere.example", 403),
        ("?model=nobody", None, 404),
        ("", None, 400),
    ):
        with pytest.raises(InvalidStatus) as refused, connect(url + query, origin=origin):  # pyright: ignore[reportArgumentType]
            pass
        assert refused.value.response.status_code == status


def test_a_call_ends_after_its_time():
    with live(call_s=0.3) as server, phone(server, session=None) as call:
        error = call.next()["error"]
        assert error["code"] == "session_expired"
        with pytest.raises(ConnectionClosed):
            call.socket.recv(timeout=5)


def test_no_more_calls_than_the_server_takes():
    with live(max_calls=1) as server, phone(server):
        with pytest.raises(InvalidStatus) as refused, phone(server):
            pass
        assert refused.value.response.status_code == 503


LISTED = {"type": "realtime", "audio": {"input": {"turn_detection": None, "transcription": {"model": "whisper-1"}}}}
WRITTEN = "conversation.item.input_audio_transcription"


@pytest.mark.parametrize("session", [LISTED, PUSH_TO_TALK])
def test_a_turn_is_written_down_while_it_is_said(server: Live, session: dict[str, Any]):
    with phone(server, session=session) as call:
        call.say("input_audio_buffer.append", audio=pcm(hum(400)))
        call.say("input_audio_buffer.commit")
        assert call.until("conversation.item.done")[-1]["item"]["content"][0]["transcript"] is None
        if session is LISTED:
            events = call.until(f"{WRITTEN}.completed")
            assert types(events)[:-1] == [f"{WRITTEN}.delta"]
            assert events[-1]["transcript"] == "word1 word2"
        for _ in range(2):
            call.say("response.create", response={"output_modalities": ["text"]})
            call.until("rate_limits.updated")
        heard = server.engine.requests[-1].messages[0].parts[0]
    assert isinstance(heard, Audio)
    assert heard.transcript == "word1 word2"


class HearingEngine(FakeEngine):
    """Writes down what it hears, as the network does, before it answers."""

    async def generate(self, messages: Sequence[Message], params: SamplingParams) -> AsyncGenerator[Event, None]:
        unheard = [part for message in messages for part in message.parts if isinstance(part, Audio)]
        for clip in range(sum(part.transcript is None for part in unheard)):
            for text in ("turn on", " the light"):
                yield InputTranscriptDelta(clip=clip, text=text)
        async with aclosing(super().generate(messages, params)) as events:
            async for event in events:
                yield event


def test_a_turn_during_an_answer_is_written_down_as_a_clip():
    with live(HearingEngine(delay_ms=30)) as server, phone(server, session=LISTED) as call:
        call.user("a rather long sentence to repeat")
        call.say("response.create")
        call.until("response.output_audio.delta")
        call.say("input_audio_buffer.append", audio=pcm(hum(400)))
        call.say("input_audio_buffer.commit")
        events = call.until(f"{WRITTEN}.completed")
        assert types(events).count(f"{WRITTEN}.delta") == 2
        assert events[-1]["transcript"] == "turn on the light"


def test_turns_that_nobody_listened_to_are_read_one_after_the_other():
    with live(HearingEngine(delay_ms=30)) as server, phone(server, session=LISTED) as call:
        call.user("a rather long sentence to repeat, which goes on and on and on and on and on and on")
        call.say("response.create")
        call.until("response.output_audio.delta")
        for _ in range(6):
            call.say("input_audio_buffer.append", audio=pcm(hum(200)))
            call.say("input_audio_buffer.commit")
        busiest = 0
        for _ in range(6):
            events = [call.next()]
            while events[-1]["type"] != f"{WRITTEN}.completed":
                busiest = max(busiest, server.engine.num_active)
                events.append(call.next())
        assert busiest == 2  # the answer, and one of them


def test_a_turn_that_is_longer_than_the_network_hears_at_once_is_written_down_all_the_same():
    said = np.concatenate([np.pad(speech, (0, 24_000)) for speech in [spoken(silence_ms=0)] * 4])
    with live(FakeEngine(max_tokens=60)) as server, phone(server, session=LISTED) as call:
        call.say("input_audio_buffer.append", audio=pcm(said))
        call.say("input_audio_buffer.commit")
        told = call.until(f"{WRITTEN}.completed")[-1]["transcript"]
    assert len(told.split()) > 12
    assert "word1 " in told


def test_a_turn_that_cannot_be_written_down_is_told():
    class Deaf(FakeEngine):
        async def generate(self, messages: Sequence[Message], params: SamplingParams) -> AsyncGenerator[Event, None]:
            if params.max_tokens == 1:
                raise RuntimeError("secret")
            async with aclosing(super().generate(messages, params)) as events:
                async for event in events:
                    yield event

    with live(Deaf(delay_ms=30)) as server, phone(server, session=LISTED) as call:
        call.user("a rather long sentence to repeat")
        call.say("response.create")
        call.until("response.output_audio.delta")
        call.say("input_audio_buffer.append", audio=pcm(hum(400)))
        call.say("input_audio_buffer.commit")
        failed = call.until(f"{WRITTEN}.failed")[-1]
        assert "secret" not in json.dumps(failed)


def test_a_call_of_a_function_that_was_not_offered_is_left_out(server: Live):
    with phone(server) as call:
        call.user("call light {}")
        call.say("response.create")
        response = call.until("response.done")[-1]["response"]
        assert (response["status"], response["output"]) == ("completed", [])
