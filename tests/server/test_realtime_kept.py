"""Calls whose socket drops, and that their clients go on with over another one."""

from __future__ import annotations

import base64
import json
import socket
from typing import Any

import numpy as np
import pytest
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from sensorium.engine.fake import FakeEngine
from sensorium.messages import Audio
from sensorium.server.realtime_reply import Reply
from tests.server.calls import PUSH_TO_TALK, Phone, hum, pcm, types
from tests.server.live import Live, eventually, live
from tests.server.test_turns import spoken


def ring(server: Live, query: str = "model=gpt-realtime", **options: Any) -> tuple[Phone, dict[str, Any]]:
    """A call, and what `session.created` told of it."""
    call = Phone(connect(f"{server.url.replace('http', 'ws')}/v1/realtime?{query}", max_size=None, **options))
    return call, call.next()["session"]


def again(server: Live, session: dict[str, Any], **options: Any) -> tuple[Phone, dict[str, Any]]:
    """The same call over another socket, and its conversation as `conversation.created` told it."""
    call, told = ring(server, f"session_id={session['id']}", **options)
    assert told["id"] == session["id"]
    assert told["expires_at"] == session["expires_at"]
    created = call.next()
    assert created["type"] == "conversation.created"
    return call, created["conversation"]


def _committed(call: Phone) -> str:
    call.say("input_audio_buffer.commit")
    return call.until("input_audio_buffer.committed")[-1]["item_id"]


def drop(call: Phone) -> None:
    """The line is dead: no close is said."""
    call.socket.socket.shutdown(socket.SHUT_RDWR)


def refusal(server: Live, query: str, **options: Any) -> tuple[int, dict[str, Any]]:
    with pytest.raises(InvalidStatus) as refused:
        ring(server, query, **options)
    body = refused.value.response.body
    assert body
    return refused.value.response.status_code, json.loads(body)["error"]


def not_there(server: Live, session: dict[str, Any], **options: Any) -> bool:
    status, error = refusal(server, f"session_id={session['id']}", **options)
    assert set(error) == {"message", "type", "param", "code"}
    return (status, error["param"], error["code"]) == (404, "session_id", "session_not_found")


def sent_ms(events: list[dict[str, Any]]) -> float:
    deltas = [event["delta"] for event in events if event["type"] == "response.output_audio.delta"]
    return len(b"".join(map(base64.b64decode, deltas))) / 48


def test_an_answer_that_a_dropped_line_cut_ends_with_what_was_sent():
    with live(FakeEngine(delay_ms=40)) as server:
        call, session = ring(server)
        call.ask("session.update", "session.updated", session={**PUSH_TO_TALK, "instructions": "be kind"})
        asked = call.user("one two three four five six seven eight nine ten")
        call.say("response.create")
        events = [event for _ in range(3) for event in call.until("response.output_audio.delta")]
        created = next(event["response"] for event in events if event["type"] == "response.created")
        drop(call)
        eventually(lambda: server.engine.num_cancelled == 1)
        call, conversation = again(server, session)
        assert conversation["id"] == created["conversation_id"]
        told, cut = conversation["items"]
        assert told == {"id": asked["id"], "status": "completed"}
        assert cut == {"id": events[-1]["item_id"], "status": "incomplete"}
        item = call.ask("conversation.item.retrieve", "conversation.item.retrieved", item_id=cut["id"])["item"]
        kept_ms = len(base64.b64decode(item["content"][0]["audio"])) / 48
        assert sent_ms(events) - 1 <= kept_ms < sent_ms(events) + 600  # some was on its way when the line dropped
        transcript = item["content"][0]["transcript"]
        assert 0 < len(transcript.split()) < 12
        # the listener had not heard all that was sent
        fields = {"item_id": cut["id"], "content_index": 0, "audio_end_ms": 160}
        call.ask("conversation.item.truncate", "conversation.item.truncated", **fields)
        call.user("go on")
        call.say("response.create", response={"output_modalities": ["text"]})
        call.until("response.done")
        call.socket.close()
    instructions, question, said, more = server.engine.requests[-1].messages
    assert (instructions.text, question.text, more.text) == ("be kind", asked["content"][0]["text"], "go on")
    assert isinstance(said.parts[0], Audio)
    assert said.parts[0].duration_ms == 160
    assert said.parts[0].transcript == transcript.split()[0]


@pytest.mark.parametrize("detection", [None, {"type": "server_vad"}, {"type": "semantic_vad"}])
def test_a_turn_that_a_dropped_line_cut_goes_on(detection: dict[str, Any] | None):
    said = spoken(silence_ms=0)
    silence = np.zeros(48_000, np.float32)
    with live() as server:
        call, session = ring(server)
        audio = {"input": {"turn_detection": detection}}
        change = {"type": "realtime", "output_modalities": ["text"], "audio": audio}
        call.ask("session.update", "session.updated", session=change)
        half, rest = np.array_split(said, 2)
        call.say("input_audio_buffer.append", audio=pcm(half))
        begun = call.until("input_audio_buffer.speech_started")[-1] if detection else None
        if begun is None:
            call.user("beside it")  # by then the sound has been taken in
        drop(call)
        call, conversation = again(server, session)
        assert len(conversation["items"]) == (0 if detection else 1)
        call.say("input_audio_buffer.append", audio=pcm(np.concatenate([rest, silence]) if detection else rest))
        if detection is None:
            call.say("input_audio_buffer.commit")
            call.say("response.create")
        events = call.until("response.done")
        committed = next(event for event in events if event["type"] == "input_audio_buffer.committed")
        assert "input_audio_buffer.speech_started" not in types(events)  # it was told over the other socket
        assert begun is None or committed["item_id"] == begun["item_id"]
        call.socket.close()
    heard = server.engine.requests[-1].messages[-1].parts[0]
    assert isinstance(heard, Audio)
    said_ms = 1000 * len(said) / 24_000  # behind which some silence is heard, before that is known to be one
    assert said_ms - 50 < heard.duration_ms < said_ms + (50 if detection is None else 2050)


def test_a_transcript_that_a_dropped_line_cut_is_told_over_the_next():
    with live(FakeEngine(delay_ms=200)) as server:
        call, session = ring(server)
        audio = {"input": {"turn_detection": None, "transcription": {"model": "whisper-1"}}}
        call.ask("session.update", "session.updated", session={"type": "realtime", "audio": audio})
        call.user("a rather long sentence to repeat")
        call.say("response.create")
        call.until("response.output_audio.delta")  # so that the turn is read as a clip
        call.say("input_audio_buffer.append", audio=pcm(hum(1000)))
        item_id = _committed(call)
        drop(call)
        call, _ = again(server, session)
        written = call.until("conversation.item.input_audio_transcription.completed")[-1]
        assert written["item_id"] == item_id
        item = call.ask("conversation.item.retrieve", "conversation.item.retrieved", item_id=item_id)["item"]
        assert item["content"][0]["transcript"] == written["transcript"]
        call.socket.close()


def test_a_line_that_drops_as_an_answer_begins_leaves_the_call_free_for_the_next(monkeypatch: pytest.MonkeyPatch):
    async def dropped(_: Reply) -> None:
        raise WebSocketDisconnect

    with live() as server:
        call, session = ring(server)
        call.ask("session.update", "session.updated", session=PUSH_TO_TALK)
        with monkeypatch.context() as patch:
            patch.setattr(Reply, "begin", dropped)
            call.say("response.create")
            call.user("are you there")
        drop(call)
        call, _ = again(server, session)
        call.say("response.create")
        assert call.until("response.done")[-1]["response"]["status"] == "completed"
        call.socket.close()


def test_a_client_that_closes_its_socket_has_hung_up():
    with live() as server:
        for code in (1000, 1001, None):
            call, session = ring(server)
            if code is None:  # as a browser closes it when no code is given
                call.socket.protocol.send_close()
                call.socket.socket.sendall(b"".join(call.socket.protocol.data_to_send()))
                with pytest.raises(ConnectionClosed):
                    call.socket.recv(timeout=5)
            else:
                call.socket.close(code)
            assert not_there(server, session)


def test_a_client_may_know_first_that_its_line_is_dead():
    """The old socket is hung up, with a word, and counts no longer."""
    with live(max_calls=1) as server:
        old, session = ring(server)
        item = old.user("still here?")
        new, conversation = again(server, session)
        assert [each["id"] for each in conversation["items"]] == [item["id"]]
        with pytest.raises(ConnectionClosed) as closed:
            old.socket.recv(timeout=5)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        new.user("here")
        new.socket.close()


def test_a_call_is_its_keys_alone_and_its_kind_stays():
    with live(api_keys=("one", "two")) as server:
        headers, others = ({"authorization": f"Bearer {key}"} for key in ("one", "two"))
        mine: dict[str, Any] = {"additional_headers": headers}
        call, session = ring(server, **mine)
        assert not_there(server, session, additional_headers=others)  # while it is on line
        call.user("still there")
        drop(call)
        assert not_there(server, session, additional_headers=others)
        query = f"session_id={session['id']}"
        status, error = refusal(server, f"{query}&intent=transcription", **mine)
        assert (status, error["param"]) == (400, "intent")
        status, error = refusal(server, f"{query}&model=nobody", **mine)
        assert (status, error["param"]) == (404, "model")
        secret = server.http.post("/v1/realtime/client_secrets", json={}, headers=headers).json()["value"]
        for key in (secret, "one"):  # a short-lived key is the one that asked for it
            call, conversation = again(server, session, additional_headers={"authorization": f"Bearer {key}"})
            assert len(conversation["items"]) == 1
            drop(call)
        call, _ = again(server, session, **mine)
        call.socket.close()
        assert not_there(server, session, **mine)
        status, error = refusal(server, "session_id=sess_0", **mine)
        assert status == 404


def test_calls_are_kept_for_some_time_in_some_room():
    def dropped(server: Live, *, ms: int = 0) -> dict[str, Any]:
        """A call with so much sound whose line dropped, as the server has noticed."""
        call, session = ring(server)
        call.ask("session.update", "session.updated", session=PUSH_TO_TALK)
        call.say("input_audio_buffer.append", audio=pcm(hum(ms)))
        call.user("done")
        drop(call)
        eventually(lambda: "sensorium_requests_in_flight 1.0" in server.http.get("/metrics").text)
        return session

    with live(kept_call_s=0) as server:
        assert not_there(server, dropped(server))
    with live(kept_call_s=0.2) as server:
        query = f"session_id={dropped(server)['id']}&intent=transcription"  # which does not take it, and is refused
        eventually(lambda: refusal(server, query)[0] == 404)
    with live(max_kept_calls=1) as server:
        first, second = dropped(server), dropped(server)
        assert not_there(server, first)
        again(server, second)[0].socket.close()
    with live(max_kept_call_bytes=100_000) as server:  # a second takes up to 64 KB
        first, second = dropped(server, ms=1000), dropped(server, ms=1000)
        assert not_there(server, first)
        again(server, second)[0].socket.close()
        assert not_there(server, dropped(server, ms=5000))
