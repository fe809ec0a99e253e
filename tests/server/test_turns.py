"""Turns of a call: when they begin and end, and what they cut off."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from sensorium.engine.fake import FRAME_SIZE, SILENCE, FakeConversation, FakeEngine
from sensorium.messages import Audio
from sensorium.server import realtime_input
from sensorium.server.echo import PLAYED, Loudspeaker
from sensorium.server.realtime_events import ServerVad
from sensorium.server.turns import WINDOW, SpeechStarted, SpeechStopped, TurnDetector, TurnEvent, VoiceActivity, Window
from tests.server.calls import Phone, hum, pcm, phone, types
from tests.server.live import Live, eventually, live
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
    until_ms = started["audio_start_ms"] + heard.duration_ms
    assert 500 + 1440 < until_ms < stopped["audio_end_ms"] - 200  # the answer was begun in the silence
    assert 0 < stopped["audio_end_ms"] - 500 - 1440 < 700  # half a second of silence after it


def test_silence_and_noise_are_no_turn(server: Live):
    rng = np.random.default_rng(0)
    with phone(server, session={"type": "realtime"}) as call:
        stream(call, np.zeros(24_000, np.float32))
        stream(call, (0.01 * rng.standard_normal(24_000)).astype(np.float32))
        stream(call, hum(1000))
        call.user("nothing came before this")


def speak_into_the_answer(call: Phone, asked: str) -> None:
    """Speech begins when some of the answer to `asked` has been heard."""
    call.user(asked)
    call.say("response.create")
    call.until("response.output_audio.delta")
    stream(call, spoken())


def test_speech_cuts_an_answer_off():
    with live(FakeEngine(delay_ms=150)) as server, phone(server, session={"type": "realtime"}) as call:
        speak_into_the_answer(call, "a rather long sentence to repeat, and to be interrupted in")
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
        speak_into_the_answer(call, "a rather long sentence to repeat")
        done = [event for event in call.until("input_audio_buffer.committed") if event["type"] == "response.done"]
        done = done or call.until("response.done")[-1:]
        assert done[0]["response"]["status"] == "completed"
        assert server.engine.num_cancelled == 0


SEMANTIC = {"type": "semantic_vad"}


def stopped_ms(server: Live, detection: Mapping[str, object], *, silence_ms: int = 1000) -> int:
    """When a turn of 1440 ms, begun at 500, is over."""
    session = {"type": "realtime", "output_modalities": ["text"], "audio": {"input": {"turn_detection": detection}}}
    with phone(server, session=session) as call:
        stream(call, spoken(silence_ms=silence_ms))
        events = call.until("input_audio_buffer.speech_stopped")
    return events[-1]["audio_end_ms"]


def test_a_semantic_turn_is_over_when_the_network_says_so(server: Live, monkeypatch: pytest.MonkeyPatch):
    by_silence = stopped_ms(server, {"type": "server_vad"})
    assert stopped_ms(server, SEMANTIC) < by_silence - 150
    assert stopped_ms(server, {**SEMANTIC, "eagerness": "high"}) < stopped_ms(server, {**SEMANTIC, "eagerness": "low"})
    monkeypatch.setattr(FakeConversation, "turn_probability", 0.0)
    for eagerness, waits_ms in (("high", 2000), ("medium", 4000), ("auto", 4000), ("low", 8000)):
        waited = stopped_ms(server, {**SEMANTIC, "eagerness": eagerness}, silence_ms=waits_ms + 1000)
        assert waited == pytest.approx(by_silence + waits_ms - 500, abs=100)  # instead of half a second


def perhaps(conversation: FakeConversation) -> float:
    """Of silence a network that is not sure: by and by it comes to be likely, and no more."""
    turn = np.zeros(1) if conversation._turn is None else conversation._turn
    return 0.65 * float(np.abs(turn[-FRAME_SIZE:]).max() < SILENCE)


def test_an_answer_is_begun_before_the_end_is_sure(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(FakeConversation, "turn_probability", property(perhaps))
    session = {"type": "realtime", "output_modalities": ["text"], "audio": {"input": {"turn_detection": SEMANTIC}}}
    sound, quiet = spoken(silence_ms=0), np.zeros(24 * 500, np.float32)
    with live() as server, phone(server, session=session) as call:
        stream(call, np.concatenate((quiet, sound, quiet, sound, quiet, quiet)))
        eventually(lambda: server.engine.num_cancelled == 1)  # it was begun in the pause
        eventually(lambda: server.engine.num_active == 1)
        begun = len(server.engine.requests)
        stream(call, np.concatenate((quiet, quiet)))
        events = call.until("response.done")
        assert types(events).count("input_audio_buffer.speech_started") == 1
        started, stopped = events[0]["audio_start_ms"], events[1]["audio_end_ms"]
        assert 0 < stopped - (500 + 1440 + 500 + 1440) < 400  # though it was sure only 1.3 s behind
        said = events[-1]["response"]["output"][0]["content"][0]["text"]
        assert said == f"I got a clip of {stopped - started} ms."
        assert len(server.engine.requests) == begun
        call.until("rate_limits.updated")
        stream(call, np.concatenate((sound, quiet, quiet, quiet, quiet)))
        again = call.until("response.done")
        assert types(again)[:2] == ["input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped"]


def num_begun(server: Live) -> int:
    """Answers to what was said aloud."""
    return sum(isinstance(request.messages[-1].parts[0], Audio) for request in server.engine.requests)


def test_an_answer_is_begun_while_silence_is_waited_for_and_unheard_if_the_user_goes_on():
    detection = {"type": "server_vad", "silence_duration_ms": 1000}
    session = {"type": "realtime", "audio": {"input": {"turn_detection": detection, "transcription": {}}}}
    sound, quiet = spoken(silence_ms=0), np.zeros(24 * 500, np.float32)
    with live() as server, phone(server, session=session) as call:
        stream(call, np.concatenate((quiet, sound, quiet)))
        eventually(lambda: server.engine.num_active == 1)
        stream(call, sound)
        eventually(lambda: server.engine.num_cancelled == 1)
        stream(call, quiet)
        eventually(lambda: server.engine.num_active == 1)
        assert num_begun(server) == 2
        stream(call, np.concatenate((quiet, quiet)))
        events = call.until("response.done")
        assert num_begun(server) == 2  # of which one is told
    for type in ("input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped", "response.created"):
        assert types(events).count(type) == 1
    of_answers = {event["response_id"] for event in events if "response_id" in event}
    assert of_answers == {events[-1]["response"]["id"]}
    before = types(events)[: types(events).index("input_audio_buffer.speech_stopped")]
    assert set(before[1:]) == {"conversation.item.input_audio_transcription.delta"}
    stopped = next(event for event in events if event["type"] == "input_audio_buffer.speech_stopped")
    assert 1000 <= stopped["audio_end_ms"] - (500 + 1440 + 500 + 1440) < 1400  # by the contract, with the silence
    heard = server.engine.requests[-1].messages[-1].parts[0]
    assert isinstance(heard, Audio)
    assert heard.duration_ms < stopped["audio_end_ms"] - events[0]["audio_start_ms"] - 600  # which is not waited for
    said = events[-1]["response"]["output"][0]["content"][0]["transcript"]
    assert said == f"I got a clip of {heard.duration_ms:.0f} ms."


@pytest.mark.parametrize("setting", ["create_response", "transcribes"])
def test_no_answer_is_begun_where_none_would_follow(setting: str):
    detection = {"type": "server_vad", "create_response": setting != "create_response"}
    kind = "transcription" if setting == "transcribes" else "realtime"
    session = {"type": kind, "audio": {"input": {"turn_detection": detection}}}
    with live() as server, phone(server, session=session) as call:
        stream(call, spoken())
        call.until("input_audio_buffer.committed")
        assert num_begun(server) == 0


def test_a_semantic_session_echoes_its_settings_whole(server: Live):
    session = {"type": "realtime", "audio": {"input": {"turn_detection": SEMANTIC}}}
    with phone(server, session=None) as call:
        told = call.ask("session.update", "session.updated", session=session)["session"]
    expected = {**SEMANTIC, "eagerness": "auto", "create_response": True, "interrupt_response": True}
    assert told["audio"]["input"]["turn_detection"] == expected


def test_what_was_unheard_is_forgotten_while_the_user_goes_on_speaking():
    with live(FakeEngine(delay_ms=60)) as server, phone(server, session={"type": "realtime"}) as call:
        call.user("a rather long sentence to repeat, and to be interrupted in")
        call.say("response.create")
        item_id = call.until("response.output_audio.delta")[-1]["item_id"]
        call.until("response.output_audio.delta")
        sound = spoken()
        stream(call, sound[: len(sound) // 3])
        call.until("response.done")
        fields = {"item_id": item_id, "content_index": 0, "audio_end_ms": 160}
        call.say("conversation.item.truncate", **fields)
        stream(call, sound[len(sound) // 3 :])
        events = call.until("response.done")
        stopped = next(event for event in events if event["type"] == "input_audio_buffer.speech_stopped")
        said, heard = (message.parts[0] for message in server.engine.requests[-1].messages[1:])
    assert isinstance(said, Audio)
    assert isinstance(heard, Audio)
    assert said.duration_ms == 160
    assert 500 + 1440 < 200 + heard.duration_ms < stopped["audio_end_ms"]
    assert heard.transcript


def test_who_says_nothing_for_too_long_is_spoken_to(server: Live, monkeypatch: pytest.MonkeyPatch):
    detection = {"type": "server_vad", "idle_timeout_ms": 5000}
    session = {"type": "realtime", "output_modalities": ["audio"], "audio": {"input": {"turn_detection": detection}}}
    with phone(server, session=session) as call:
        stream(call, np.zeros(24 * 6000, np.float32))  # nobody was answered yet: there is nothing to go on with
        call.user("hello")
        call.say("response.create")
        call.until("rate_limits.updated")
        stream(call, np.zeros(24 * 1000, np.float32))
        call.user("still nothing happened")
        monkeypatch.setattr(realtime_input, "monotonic", lambda: time.monotonic() + 10_000)
        stream(call, np.zeros(24 * 200, np.float32))
        events = call.until("response.done")
        assert types(events)[:5] == [
            "input_audio_buffer.timeout_triggered",
            "input_audio_buffer.committed",
            "conversation.item.added",
            "conversation.item.done",
            "response.created",
        ]
        assert events[0]["audio_end_ms"] - events[0]["audio_start_ms"] >= 1000
        assert events[0]["item_id"] == events[1]["item_id"]


def test_who_sends_nothing_at_all_is_spoken_to_as_well(server: Live, monkeypatch: pytest.MonkeyPatch):
    detection = {"type": "server_vad", "idle_timeout_ms": 5000}
    session = {"type": "realtime", "output_modalities": ["audio"], "audio": {"input": {"turn_detection": detection}}}
    monkeypatch.setattr(realtime_input, "monotonic", lambda: time.monotonic() + 10_000)
    with phone(server, session=session) as call:
        call.user("hello")
        call.say("response.create")
        triggered = call.until("input_audio_buffer.timeout_triggered")[-1]
        assert triggered["audio_end_ms"] == triggered["audio_start_ms"] == 0
        assert call.until("input_audio_buffer.committed")[-1]["item_id"] == triggered["item_id"]
        call.until("response.created")
        assert call.until("response.done")[-1]["response"]["status"] == "completed"
    asked = server.engine.requests[-1].messages[2].parts[0]
    assert isinstance(asked, Audio)
    assert np.abs(asked.waveform).max() < 0.01  # comfort noise


def test_a_turn_committed_by_the_client_ends_there_and_the_next_begins(server: Live):
    detection = {"type": "server_vad", "create_response": False}
    session = {"type": "realtime", "audio": {"input": {"turn_detection": detection}}}
    sound = spoken()
    with phone(server, session=session) as call:
        stream(call, sound[: 24 * 1200])
        started = call.until("input_audio_buffer.speech_started")[-1]
        call.say("input_audio_buffer.commit")
        events = call.until("conversation.item.done")
        assert types(events)[:2] == ["input_audio_buffer.speech_stopped", "input_audio_buffer.committed"]
        assert {event["item_id"] for event in events[:2]} == {started["item_id"]}
        stream(call, sound[24 * 1200 :])
        events = call.until("conversation.item.done")
        assert types(events)[:2] == ["input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped"]
        assert events[0]["item_id"] == events[1]["item_id"] != started["item_id"]


def test_a_turn_beside_an_answer_that_may_not_be_interrupted_is_not_answered():
    detection = {"type": "server_vad", "interrupt_response": False}
    session = {"type": "realtime", "audio": {"input": {"turn_detection": detection}}}
    with live(FakeEngine(delay_ms=100)) as server, phone(server, session=session) as call:
        speak_into_the_answer(call, "a rather long sentence to repeat, and not to be interrupted in")
        assert call.until("error")[-1]["error"]["code"] == "conversation_already_has_active_response"
        assert call.until("response.done")[-1]["response"]["status"] == "completed"


def test_nobody_is_asked_to_go_on_while_an_answer_is_made(monkeypatch: pytest.MonkeyPatch):
    detection = {"type": "server_vad", "idle_timeout_ms": 5000}
    session = {"type": "realtime", "output_modalities": ["text"], "audio": {"input": {"turn_detection": detection}}}
    with live(FakeEngine(delay_ms=50)) as server, phone(server, session=session) as call:
        call.user("hello")
        call.say("response.create")
        call.until("rate_limits.updated")
        call.say("response.create")
        call.until("response.created")
        monkeypatch.setattr(realtime_input, "monotonic", lambda: time.monotonic() + 10_000)
        stream(call, np.zeros(24 * 400, np.float32))
        events = call.until("response.done")
        assert "input_audio_buffer.timeout_triggered" not in types(events)
        assert "error" not in types(events)


def test_nobody_is_asked_to_go_on_who_speaks_already(monkeypatch: pytest.MonkeyPatch):
    detection = {"type": "server_vad", "idle_timeout_ms": 5000, "create_response": False}
    session = {"type": "realtime", "audio": {"input": {"turn_detection": detection}}}
    with live(FakeEngine(delay_ms=100)) as server, phone(server, session=session) as call:
        speak_into_the_answer(call, "a rather long sentence to repeat, and to be interrupted in")
        monkeypatch.setattr(realtime_input, "monotonic", lambda: time.monotonic() + 10_000)
        stream(call, np.zeros(24 * 2000, np.float32))
        call.say("conversation.item.retrieve", item_id="nowhere")  # behind all of it
        events = call.until("error")
        assert "input_audio_buffer.committed" in types(events)
        assert "input_audio_buffer.timeout_triggered" not in types(events)


@pytest.mark.parametrize("how", ["response.cancel", "conversation.item.truncate"])
def test_what_the_client_stops_is_not_taken_for_played(how: str, monkeypatch: pytest.MonkeyPatch):
    stopped: list[Loudspeaker] = []
    monkeypatch.setattr(Loudspeaker, "stop", lambda loudspeaker: stopped.append(loudspeaker))
    with live(FakeEngine(delay_ms=50)) as server, phone(server) as call:
        call.user("a rather long sentence to repeat")
        call.say("response.create")
        item_id = call.until("response.output_audio.delta")[-1]["item_id"]
        assert not stopped
        of = {} if how == "response.cancel" else {"item_id": item_id, "content_index": 0, "audio_end_ms": 80}
        call.say(how, **of)
        call.until("response.done")
        eventually(lambda: len(stopped) == 1)


def test_what_the_client_stops_beside_it_leaves_the_last_answer_playing(monkeypatch: pytest.MonkeyPatch):
    stopped: list[Loudspeaker] = []
    monkeypatch.setattr(Loudspeaker, "stop", lambda loudspeaker: stopped.append(loudspeaker))
    with live(FakeEngine(delay_ms=20)) as server, phone(server) as call:
        items = []
        for _ in range(2):
            call.user("one two three")
            call.say("response.create")
            items += call.until("response.done")[-1]["response"]["output"]
            call.next()
        call.say("response.create", response={"conversation": "none", "output_modalities": ["text"]})
        aside = call.until("response.created")[-1]["response"]["id"]
        call.say("response.cancel", response_id=aside)
        call.until("rate_limits.updated")
        fields = {"content_index": 0, "audio_end_ms": 80}
        call.ask("conversation.item.truncate", "conversation.item.truncated", item_id=items[0]["id"], **fields)
        assert not stopped
        call.ask("conversation.item.truncate", "conversation.item.truncated", item_id=items[1]["id"], **fields)
        assert len(stopped) == 1


def detected(**settings: Any) -> list[TurnEvent]:
    """What `server_vad` makes out in a question that begins at 2000 and ends at 3440 ms."""
    detector = TurnDetector(ServerVad(type="server_vad", **settings))
    sound = np.concatenate((np.zeros(16 * 1500, np.float32), soxr.resample(spoken(silence_ms=2000), 24_000, 16_000)))
    return detector.push(sound)


@pytest.mark.parametrize("threshold", [0.01, 0.05, 0.1, 0.3, 0.9])
def test_a_turn_begins_and_ends_at_any_threshold(threshold: float):
    events = detected(threshold=threshold, silence_duration_ms=500)
    assert isinstance(events[0], SpeechStarted)
    assert isinstance(events[-1], SpeechStopped)
    assert events[-1].at_ms - 3440 < 1200


def test_at_the_ends_of_the_scale_all_is_speech_or_nothing():
    assert detected(threshold=1.0) == []
    assert detected(threshold=0.0, prefix_padding_ms=0) == [SpeechStarted(0)]


@pytest.mark.parametrize(("padding_ms", "start_ms"), [(0, 2000), (300, 1700), (1500, 500), (5000, 0)])
def test_a_turn_begins_so_much_before_its_speech(padding_ms: int, start_ms: int):
    assert detected(prefix_padding_ms=padding_ms)[0].at_ms == pytest.approx(start_ms, abs=100)


def test_padding_does_not_reach_into_the_turn_before(server: Live):
    detection = {"type": "server_vad", "prefix_padding_ms": 5000, "create_response": False}
    session = {"type": "realtime", "audio": {"input": {"turn_detection": detection}}}
    with phone(server, session=session) as call:
        stream(call, np.concatenate((spoken(), spoken())))
        first, second = call.until("conversation.item.done"), call.until("conversation.item.done")
    assert first[0]["audio_start_ms"] == 0
    assert second[0]["audio_start_ms"] == pytest.approx(first[1]["audio_end_ms"], abs=1)


def test_a_turn_may_interrupt_without_being_answered():
    detection = {"type": "server_vad", "create_response": False}
    session = {"type": "realtime", "audio": {"input": {"turn_detection": detection}}}
    with live(FakeEngine(delay_ms=150)) as server, phone(server, session=session) as call:
        speak_into_the_answer(call, "a rather long sentence to repeat, and to be interrupted in")
        events = call.until("input_audio_buffer.committed")
        done = next(event["response"] for event in events if event["type"] == "response.done")
        assert (done["status"], done["status_details"]["reason"]) == ("cancelled", "turn_detected")
        call.until("conversation.item.done")
        call.user("nothing was begun before this")


def test_a_turn_that_neither_interrupts_nor_is_answered_is_told_all_the_same(server: Live):
    detection = {"type": "server_vad", "create_response": False, "interrupt_response": False}
    session = {"type": "realtime", "audio": {"input": {"turn_detection": detection}}}
    with phone(server, session=session) as call:
        stream(call, spoken())
        assert types(call.until("conversation.item.done")) == [
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
            "conversation.item.added",
            "conversation.item.done",
        ]
        call.user("nothing was begun before this")


@pytest.mark.parametrize("size", [100, 256, 320, 512, 4000])
def test_windows_between_two_change_nothing_of_the_others(size: int):
    sound = soxr.resample(spoken(), 24_000, 16_000)
    plain, both = VoiceActivity(), VoiceActivity()
    pieces = [sound[start : start + size] for start in range(0, len(sound), size)]
    windows = [window for piece in pieces for window in both.windows(piece, between=True)]
    assert [window.probability for window in windows if not window.is_between] == plain.push(sound)
    assert [window.is_between for window in windows] == [at % 2 == 0 for at in range(len(sound) // 256)]
    apart = [abs(one.probability - other.probability) for one, other in itertools.pairwise(windows)]
    assert np.median(apart) < 0.02  # a window half a window later says much the same


def between(probability: float) -> Window:
    return Window(probability, is_between=True)


@pytest.mark.parametrize(
    ("windows", "begin_ms"),
    [
        ([Window(0.6), between(0.6)], 32),
        ([between(0.6), Window(0.6)], 32),
        ([between(0.9)], 16),
        ([between(0.6), Window(0.4), between(0.6)], None),
        ([Window(0.6), between(0.4), Window(0.6)], 32),
        ([between(0.4), Window(0.4), between(0.9)], 48),
    ],
)
def test_of_windows_that_overlap_two_begin_a_turn_or_a_sure_one(windows: list[Window], begin_ms: int | None):
    detector = TurnDetector(ServerVad(type="server_vad", prefix_padding_ms=0))
    started = detector.follow([Window(0.0), *windows])
    assert started == ([] if begin_ms is None else [SpeechStarted(begin_ms)])


def test_windows_that_overlap_begin_no_turn_where_there_may_be_an_echo():
    detector = TurnDetector(ServerVad(type="server_vad"))
    played = np.random.default_rng(0).normal(0.0, 0.1, PLAYED + 50 * WINDOW).astype(np.float32)
    assert detector.follow([between(0.9)], played) == []
    assert detector.push(np.zeros(50 * WINDOW, np.float32), played) == []  # and none comes back
    assert len(detector.follow([between(0.9)], played)) == 1


@pytest.mark.parametrize(
    ("threshold", "probabilities", "begins"),
    [
        (0.5, [0.85], True),
        (0.5, [0.75], False),
        (0.5, [0.75, 0.55], True),
        (0.5, [0.75, 0.4, 0.75], False),
        (0.9, [0.95], False),
        (0.9, [0.97], True),
    ],
)
def test_one_sure_window_begins_a_turn_or_two(threshold: float, probabilities: list[float], begins: bool):
    detector = TurnDetector(ServerVad(type="server_vad", threshold=threshold, prefix_padding_ms=0))
    started = detector.follow([Window(0.0), *map(Window, probabilities)])
    assert len(started) == begins
    assert all(event == SpeechStarted(32) for event in started)
