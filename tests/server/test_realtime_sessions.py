"""Kinds of sessions, and the keys that open them."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from openai.types.realtime import ClientSecretCreateResponse
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from sensorium.engine.fake import FakeEngine
from sensorium.server import client_secrets
from tests.server.calls import Phone, hum, pcm, phone
from tests.server.live import Live, live

WRITTEN = "conversation.item.input_audio_transcription"


def test_a_page_calls_with_a_secret_of_its_own():
    with live(api_keys=("secret",)) as server:
        own = {"authorization": "Bearer secret"}
        session = {"type": "realtime", "instructions": "be kind", "audio": {"output": {"voice": "echo"}}}
        made = server.http.post("/v1/realtime/client_secrets", json={"session": session}, headers=own).json()
        ClientSecretCreateResponse.model_validate(made)
        assert made["value"].startswith("ek_")
        assert 590 < made["expires_at"] - time.time() <= 600
        assert made["session"]["audio"]["output"]["voice"] == "echo"
        assert made["session"]["client_secret"] == {"value": made["value"], "expires_at": made["expires_at"]}
        url = server.url.replace("http", "ws") + "/v1/realtime"
        offered: Any = ["realtime", f"openai-insecure-api-key.{made['value']}"]
        for _ in range(2):  # as often as wanted
            with connect(url, subprotocols=offered) as socket:
                begun = Phone(socket).next()["session"]
                assert begun["instructions"] == "be kind"
                assert begun["audio"]["output"]["voice"] == "echo"
                assert begun["audio"]["input"]["turn_detection"]["type"] == "server_vad"
        as_key = {"authorization": f"Bearer {made['value']}"}
        assert server.http.get("/v1/models", headers=as_key).status_code == 401  # it opens calls, nothing else
        assert server.http.post("/v1/realtime/client_secrets", json={}).status_code == 401


def test_secrets_expire_and_are_checked(server: Live, monkeypatch: pytest.MonkeyPatch):
    def refusal(**body: Any) -> str | None:
        answer = server.http.post("/v1/realtime/client_secrets", json=body)
        assert answer.status_code == 400
        return answer.json()["error"]["param"]

    assert refusal(expires_after={"anchor": "created_at", "seconds": 5}) == "expires_after.seconds"
    assert refusal(session={"type": "realtime", "voice": "echo"}) == "session.voice"
    assert refusal(session={"type": "realtime", "audio": {"output": {"voice": "x"}}}) == "session.audio.output.voice"
    asked = {"session": {"type": "transcription"}, "expires_after": {"anchor": "created_at", "seconds": 10}}
    made = server.http.post("/v1/realtime/client_secrets", json=asked).json()
    url = server.url.replace("http", "ws") + "/v1/realtime"
    headers = {"authorization": f"Bearer {made['value']}"}
    with connect(url, additional_headers=headers) as socket:
        assert Phone(socket).next()["session"]["type"] == "transcription"
    monkeypatch.setattr(client_secrets.time, "time", lambda: made["expires_at"] + 1.0)
    with pytest.raises(InvalidStatus) as refused, connect(url, additional_headers=headers):
        pass
    assert refused.value.response.status_code == 401


def test_a_transcription_session_writes_down_and_answers_nothing(server: Live):
    url = server.url.replace("http", "ws") + "/v1/realtime?intent=transcription"
    with connect(url) as socket:
        call = Phone(socket)
        session = call.next()["session"]
        assert session["type"] == "transcription"
        assert session["object"] == "realtime.transcription_session"
        assert "voice" not in json.dumps(session)
        change = {"type": "transcription", "audio": {"input": {"turn_detection": None}}}
        told = call.ask("session.update", "session.updated", session=change)["session"]
        assert told["audio"]["input"]["turn_detection"] is None
        assert told["audio"]["input"]["format"]["type"] == "audio/pcm"
        for _ in range(2):
            call.say("input_audio_buffer.append", audio=pcm(hum(400)))
            call.say("input_audio_buffer.commit")
            assert call.until(f"{WRITTEN}.completed")[-1]["transcript"] == "word1 word2"
        assert call.refused("response.create") == (None, "response_not_supported")
        realtime = {"type": "realtime", "instructions": "be kind"}
        assert call.refused("session.update", session=realtime) == ("session.type", "invalid_value")
        param, _ = call.refused("session.update", session={**change, "instructions": "be kind"})
        assert param == "session.instructions"


def test_a_transcription_session_hears_however_much_was_said_before():
    with live(FakeEngine(max_tokens=40)) as server, phone(server, session=None) as call:
        change = {"type": "transcription", "audio": {"input": {"turn_detection": None}}}
        call.ask("session.update", "session.updated", session=change)
        begun = len(server.engine.requests)
        for _ in range(8):
            call.say("input_audio_buffer.append", audio=pcm(hum(1000)))
            call.until(f"{WRITTEN}.delta")  # while it is said
            call.say("input_audio_buffer.commit")
            call.until(f"{WRITTEN}.completed")
        assert len(server.engine.requests) == begun  # none was read as a clip


def test_a_realtime_session_may_become_a_transcription_session(server: Live):
    with phone(server, session=None) as call:
        change = {"type": "transcription", "audio": {"input": {"transcription": {"model": "whisper-1"}}}}
        session = call.ask("session.update", "session.updated", session=change)["session"]
        assert session["type"] == "transcription"
        assert session["audio"]["input"]["transcription"]["model"] == "whisper-1"


def test_english_of_any_country_is_english(server: Live):
    def spoken(language: str) -> dict[str, Any]:
        return {"type": "realtime", "audio": {"input": {"transcription": {"language": language}}}}

    with phone(server, session=None) as call:
        for language in ("en", "en-US", "en-gb"):
            told = call.ask("session.update", "session.updated", session=spoken(language))["session"]
            assert told["audio"]["input"]["transcription"]["language"] == language
        for language in ("de", "enm"):
            param, _ = call.refused("session.update", session=spoken(language))
            assert param == "session.audio.input.transcription.language"
        several = {"type": "realtime", "audio": {"input": {"transcription": {"languages": ["de", "en"]}}}}
        call.ask("session.update", "session.updated", session=several)
        several["audio"]["input"]["transcription"]["languages"] = ["de", "fr"]
        assert call.refused("session.update", session=several)[0] == "session.audio.input.transcription.languages"


@pytest.mark.parametrize("asked", [{}, {"instructions": "be kind"}, {"conversation": "none"}])
def test_no_answer_reads_more_than_the_session_allows(asked: dict[str, str]):
    limits = {"type": "retention_ratio", "retention_ratio": 0.5, "token_limits": {"post_instructions": 60}}
    with live(FakeEngine(max_tokens=1000)) as server, phone(server) as call:
        call.ask("session.update", "session.updated", session={"type": "realtime", "truncation": limits})
        for _ in range(20):
            call.user("one two three four five")
        for _ in range(3):
            call.user("six")
            call.say("response.create", response={"output_modalities": ["text"], **asked})
            call.until("rate_limits.updated")
            read = [message for message in server.engine.requests[-1].messages if message.role != "system"]
            assert read[-1].text == "six"
            assert 20 < sum(len(message.text.split()) for message in read) <= 60
