"""Speech faster and slower: as long as it should be, at its own pitch, and cut where the listener heard it end."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from sensorium.engine.fake import FakeEngine
from sensorium.messages import Audio
from sensorium.server.echo import Loudspeaker
from sensorium.server.stretch import Stretch
from tests.server.calls import PUSH_TO_TALK, Phone, hum, phone
from tests.server.live import Live, live
from tests.serving import ROOT

RATE_HZ = 16_000
SPEEDS = (0.25, 0.4, 0.5, 0.75, 1.0, 1.25, 1.5)
WORD_MS = 160  # of the fake engine


def speech() -> np.ndarray:
    sound, rate_hz = soundfile.read(ROOT / "docs" / "media" / "question.wav", dtype="float32")
    return soxr.resample(sound, rate_hz, RATE_HZ).astype(np.float32)


def stretched(waveform: np.ndarray, speed: float, size: int) -> np.ndarray:
    stretch = Stretch(speed, RATE_HZ)
    pieces = [stretch.push(waveform[at : at + size]) for at in range(0, len(waveform), size)]
    return np.concatenate((*pieces, stretch.push(waveform[:0], last=True)))


def pitch_hz(waveform: np.ndarray) -> float:
    """Of the voiced parts of speech, by autocorrelation."""
    size, pitches = RATE_HZ // 20, list[float]()
    for at in range(0, len(waveform) - 2 * size, size // 2):
        window = waveform[at : at + 2 * size] - waveform[at : at + 2 * size].mean()
        if np.sqrt((window**2).mean()) < 0.02:
            continue
        likeness = np.correlate(window, window, "full")[len(window) - 1 :]
        lag = RATE_HZ // 300 + int(np.argmax(likeness[RATE_HZ // 300 : RATE_HZ // 70]))
        if likeness[lag] > 0.6 * likeness[0]:
            pitches.append(RATE_HZ / lag)
    return float(np.median(pitches))


@pytest.mark.parametrize("speed", SPEEDS)
def test_speech_is_stretched_at_its_pitch_and_loudness(speed: float):
    sound = speech()
    heard = stretched(sound, speed, 1280)
    assert len(heard) == round(len(sound) / speed)
    assert pitch_hz(heard) == pytest.approx(pitch_hz(sound), rel=0.05)
    assert np.sqrt((heard**2).mean()) == pytest.approx(np.sqrt((sound**2).mean()), rel=0.1)
    tone = stretched(hum(2000, rate_hz=RATE_HZ), speed, 1280)
    spectrum = np.abs(np.fft.rfft(tone * np.hanning(len(tone))))
    assert np.argmax(spectrum) * RATE_HZ / len(tone) == pytest.approx(220, rel=0.01)


@pytest.mark.parametrize("speed", SPEEDS)
def test_words_stay_where_the_clock_says(speed: float):
    sound = np.zeros(RATE_HZ * 2, np.float32)
    for second in (0.5, 1.5):
        at = round(second * RATE_HZ)
        sound[at : at + 1600] = hum(100, rate_hz=RATE_HZ)
    loud = np.flatnonzero(np.abs(stretched(sound, speed, 1280)) > 0.05) / RATE_HZ * speed  # s, on the engine's clock
    assert loud[0] == pytest.approx(0.5, abs=0.03)
    assert loud[loud > 1][0] == pytest.approx(1.5, abs=0.03)


@pytest.mark.parametrize("speed", [0.3, 1.4])
def test_pieces_may_be_of_any_size(speed: float):
    sound = speech()
    whole = stretched(sound, speed, len(sound))
    assert all(np.array_equal(stretched(sound, speed, size), whole) for size in (111, 1280, 5000))
    assert len(stretched(sound[:100], speed, 100)) == round(100 / speed)
    assert len(stretched(sound[:0], speed, 1)) == 0


@pytest.mark.parametrize("speed", SPEEDS)
def test_the_first_frame_is_heard_before_the_second_is_made(speed: float):
    assert len(Stretch(speed, RATE_HZ).push(speech()[:1280])) >= 0.02 * RATE_HZ


def answer(call: Phone, **options: Any) -> tuple[dict[str, Any], float]:
    """An answer's message, and how long it was heard in ms."""
    call.say("response.create", response=options)
    events = call.until("rate_limits.updated")
    sound = b"".join(
        base64.b64decode(event["delta"]) for event in events if event["type"] == "response.output_audio.delta"
    )
    return events[-2]["response"]["output"][0], len(sound) / 48


def session(speed: float) -> dict[str, Any]:
    return {**PUSH_TO_TALK, "audio": {"input": {"turn_detection": None}, "output": {"speed": speed}}}


@pytest.mark.parametrize("speed", [0.25, 0.5, 1.5])
def test_what_was_heard_is_what_stays(server: Live, speed: float):
    with phone(server, session=session(speed)) as call:
        call.user("one two three four five six")
        item, heard_ms = answer(call)
        words = item["content"][0]["transcript"].split()
        assert heard_ms == pytest.approx(len(words) * WORD_MS / speed, rel=0.03)
        again = call.ask("conversation.item.retrieve", "conversation.item.retrieved", item_id=item["id"])["item"]
        assert len(base64.b64decode(again["content"][0]["audio"])) / 48 == pytest.approx(heard_ms, abs=20)
        where = {"item_id": item["id"], "content_index": 0}
        too_long = round(len(words) * WORD_MS / speed) + 1
        assert call.refused("conversation.item.truncate", **where, audio_end_ms=too_long)[0] == "audio_end_ms"
        end_ms = round(3 * WORD_MS / speed)
        call.ask("conversation.item.truncate", "conversation.item.truncated", **where, audio_end_ms=end_ms)
        call.user("and then")
        answer(call, output_modalities=["text"])
    said = server.engine.requests[-1].messages[1].parts[0]
    assert isinstance(said, Audio)
    assert said.duration_ms == pytest.approx(3 * WORD_MS, abs=80)
    assert (said.transcript or "").split() == words[:3]


def test_an_answer_that_is_cut_into_keeps_what_was_heard():
    with live(FakeEngine(delay_ms=40)) as server, phone(server, session=session(0.5)) as call:
        call.user("one two three four five six")
        call.say("response.create")
        item_id = [call.until("response.output_audio.delta") for _ in range(4)][-1][-1]["item_id"]
        call.say("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=640)
        call.until("conversation.item.truncated")
        item = call.ask("conversation.item.retrieve", "conversation.item.retrieved", item_id=item_id)["item"]
        assert item["status"] == "incomplete"
        assert len(item["content"][0]["transcript"].split()) == 2
        assert len(base64.b64decode(item["content"][0]["audio"])) / 48 == pytest.approx(640, abs=1)
        call.user("and then")
        answer(call, output_modalities=["text"])
    said = server.engine.requests[-1].messages[1].parts[0]
    assert isinstance(said, Audio)
    assert said.duration_ms == 320


def test_one_response_may_be_spoken_at_a_speed_of_its_own(server: Live):
    with phone(server, session=session(1.5)) as call:
        call.user("one two three")
        slow = answer(call, audio={"output": {"speed": 0.5}})[1]
        call.user("one two three")
        fast = answer(call)[1]
    assert slow == pytest.approx(3 * fast, rel=0.03)


def test_the_speed_changes_between_turns_only():
    change = {"type": "realtime", "audio": {"output": {"speed": 0.5}}}
    with live(FakeEngine(delay_ms=30)) as server, phone(server) as call:
        call.user("one two three four five six")
        call.say("response.create")
        call.until("response.output_audio.delta")
        call.say("session.update", session=change)
        error = call.until("error")[-1]["error"]
        assert (error["param"], error["code"]) == ("session.audio.output.speed", "cannot_update_speed")
        call.until("rate_limits.updated")
        told = call.ask("session.update", "session.updated", session=change)["session"]
        assert told["audio"]["output"]["speed"] == 0.5


def test_the_echo_that_is_expected_is_of_what_was_heard(server: Live, monkeypatch: pytest.MonkeyPatch):
    played: list[int] = []
    monkeypatch.setattr(Loudspeaker, "play", lambda self, waveform: played.append(len(waveform)))
    with phone(server, session=session(0.5)) as call:
        call.user("one two three")
        heard_ms = answer(call)[1]
    assert 1000 * sum(played) / RATE_HZ == pytest.approx(heard_ms, abs=2)
