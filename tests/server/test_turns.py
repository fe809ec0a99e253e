"""Turns of a call: when they begin and end, and what they cut off."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import soxr

from sensorium.engine.fake import FakeEngine
from sensorium.messages import Audio
from tests.server.calls import Phone, hum, pcm, phone, types
from tests.server.live import Live, live
from tests.serving import ROOT

QUESTION = ROOT / "docs" / "media" / "question.wav"


def spoken(*, silence_ms: int = 1000) -> np.ndarray:
    """A question as somebody says it, at 24 kHz, with silence around it."""
    sound, rate_hz = soundfile.read(QUESTION, dtype="float32")
    quiet = np.zeros(24 * silence_ms, np.float32)
    return np.concatenate((quiet[: 24 * 500], soxr.resample(sound, rate_hz, 24_000), quiet))


def stream(call: Phone, waveform: np.ndarray) -> None:
    for at in range(0, len(waveform), 2400):
        call.say("input_audio_buffer.append", audio=pcm(waveform[at : at + 2400]))


def test_a_turn_is_made_out_and_answered(server: Live):
    session = {"type": "realtime", "output_modalities": ["text"], "audio": {"input": {"transcription": None}}}
    with phone(server, session=session) as call:
        stream(call, spoken())
        events = call.until("response.done")
    assert types(events)[:5] == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
    ]
    started, stopped = events[0], events[1]
    assert started["audio_start_ms"] == pytest.approx(500 - 300, abs=100)  # the padding before it included
    assert started["item_id"] == stopped["item_id"] == events[2]["item_id"] == events[3]["item"]["id"]
    heard = server.engine.requests[-1].messages[-1].parts[0]
    assert isinstance(heard, Audio)
    assert heard.duration_ms == pytest.approx(stopped["audio_end_ms"] - started["audio_start_ms"], abs=40)
    assert 0 < stopped["audio_end_ms"] - 500 - 1440 < 700  # half a second of silence after it


def test_silence_and_noise_are_no_turn(server: Live):
    rng = np.random.default_rng(0)
    with phone(server, session={"type": "realtime"}) as call:
        stream(call, np.zeros(24_000, np.float32))
        stream(call, (0.01 * rng.standard_normal(24_000)).astype(np.float32))
        stream(call, hum(1000))
        call.user("nothing came before this")


def test_speech_cuts_an_answer_off():
    with live(FakeEngine(delay_ms=150)) as server, phone(server, session={"type": "realtime"}) as call:
        call.user("a rather long sentence to repeat, and to be interrupted in")
        call.say("response.create")
        call.until("response.output_audio.delta")
        stream(call, spoken())
        events = call.until("input_audio_buffer.committed")
        done = next(event["response"] for event in events if event["type"] == "response.done")
        assert done["status"] == "cancelled"
        assert done["status_details"]["reason"] == "turn_detected"
        assert types(events).index("input_audio_buffer.speech_started") < types(events).index("response.done")
        assert call.until("response.created")[-1]["response"]["id"] != done["id"]


def test_speech_does_not_interrupt_where_that_is_switched_off():
    detection = {"type": "server_vad", "create_response": False, "interrupt_response": False}
    session = {"type": "realtime", "audio": {"input": {"turn_detection": detection}}}
    with live(FakeEngine(delay_ms=20)) as server, phone(server, session=session) as call:
        call.user("a rather long sentence to repeat")
        call.say("response.create")
        call.until("response.output_audio.delta")
        stream(call, spoken())
        done = [event for event in call.until("input_audio_buffer.committed") if event["type"] == "response.done"]
        done = done or call.until("response.done")[-1:]
        assert done[0]["response"]["status"] == "completed"
        assert server.engine.num_cancelled == 0
