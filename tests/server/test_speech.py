from __future__ import annotations

import base64
import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import soundfile

from sensorium.engine.fake import FakeEngine
from sensorium.messages import Text
from sensorium.safety.provenance import NoCredential, Tampered, read_credential
from sensorium.server.config import VOICE_ALIASES
from tests.players import needs_ffmpeg, played, probed
from tests.server.live import Live, envelope, live

FORMATS = ("mp3", "opus", "aac", "flac", "wav", "pcm")
CODECS = {"mp3": "mp3", "opus": "opus", "aac": "aac", "flac": "flac", "wav": "pcm_s16le"}
MEDIA_TYPES = {"mp3": "audio/mpeg", "opus": "audio/ogg", "aac": "audio/aac", "flac": "audio/flac", "wav": "audio/wav"}


def speak(server: Live, **fields: Any) -> bytes:
    asked = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": "hello there", **fields}
    response = server.http.post("/v1/audio/speech", json=asked)
    assert response.status_code == 200, response.text
    return response.content


def refusal(server: Live, **fields: Any) -> tuple[str | None, str | None]:
    asked = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": "hello there", **fields}
    response = server.http.post("/v1/audio/speech", json=asked)
    assert response.status_code in (400, 404), response.text
    return envelope(response)


@needs_ffmpeg
@pytest.mark.parametrize("speed", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("format", FORMATS)
def test_players_decode_every_format(server: Live, format: str, speed: float, tmp_path: Path):
    """Whole, as a stream of bytes and as events: the same length and the same words, at each speed."""
    pcm = np.frombuffer(speak(server, input="one two three four", response_format="pcm", speed=speed), "<i2")
    asked = {"input": "one two three four", "response_format": format, "speed": speed}
    raw = ("-f", "s16le", "-ar", "24000", "-ch_layout", "mono") if format == "pcm" else ()
    for way, data in {
        "whole": speak(server, **asked),
        "stream": speak(server, **asked, stream_format="audio"),
        "events": sound_of_events(speak(server, **asked, stream_format="sse"))[0],
    }.items():
        path = tmp_path / f"{way}.{format}"
        if format != "pcm":
            found = probed(data, path)
            assert found["codec_name"] == CODECS[format]
            assert int(found["channels"]) == 1
        sound = played(data, path, 24_000, *raw)
        assert abs(len(sound) - len(pcm)) < 2400
        if format in ("wav", "flac", "pcm"):
            assert np.array_equal(sound, pcm)
        else:
            assert likeness(sound, pcm) > 0.9


def sound_of_events(stream: bytes) -> tuple[bytes, list[dict[str, Any]]]:
    """The file that a stream of events carries, and the events."""
    events = [json.loads(line[6:]) for line in stream.decode().splitlines() if line.startswith("data: ")]
    return b"".join(base64.b64decode(event["audio"]) for event in events[:-1]), events


def likeness(heard: np.ndarray, said: np.ndarray) -> float:
    """The highest correlation of two sounds, wherever the one begins in the other: encoders put silence before it."""
    size = len(heard) + len(said)
    spectra = [np.fft.rfft(sound.astype(float), size) for sound in (heard, said)]
    correlation = np.fft.irfft(spectra[0] * np.conj(spectra[1]), size)
    norms = [np.linalg.norm(sound.astype(float)) for sound in (heard, said)]
    return float(correlation.max() / (norms[0] * norms[1]))


@pytest.mark.parametrize("format", FORMATS)
def test_the_official_client_streams_every_format(server: Live, format: Any):
    with server.official().audio.speech.with_streaming_response.create(
        model="tts-1", voice="nova", input="Hello. This is a longer text, in two sentences.", response_format=format
    ) as response:
        pieces = list(response.iter_bytes())
    assert response.headers["content-type"] == MEDIA_TYPES.get(format, "audio/pcm")
    whole = server.official().audio.speech.create(
        model="tts-1", voice="nova", input="Hello. This is a longer text, in two sentences.", response_format=format
    )
    assert len(b"".join(pieces)) == len(whole.content)


def test_a_wav_file_is_what_pcm_is(server: Live):
    samples, rate_hz = soundfile.read(io.BytesIO(speak(server, response_format="wav")), dtype="int16")
    assert rate_hz == 24_000
    assert samples.astype("<i2").tobytes() == speak(server, response_format="pcm")


def test_a_wav_file_says_who_made_it(server: Live):
    data = speak(server, response_format="wav")
    assert read_credential(data, "audio/wav").model == "sensorium-fake"
    with pytest.raises(Tampered):
        read_credential(data[:2000] + bytes([data[2000] ^ 1]) + data[2001:], "audio/wav")
    with live(FakeEngine(), content_credentials=False) as plain:
        unsigned = speak(plain, response_format="wav")
    with pytest.raises(NoCredential):
        read_credential(unsigned, "audio/wav")


def test_events_carry_the_same_sound(server: Live):
    asked = {"model": "gpt-4o-mini-tts", "voice": "ash", "input": "hello", "stream_format": "sse"}
    response = server.http.post("/v1/audio/speech", json={**asked, "response_format": "pcm"})
    assert response.headers["content-type"].startswith("text/event-stream")
    sound, events = sound_of_events(response.content)
    assert {event["type"] for event in events[:-1]} == {"speech.audio.delta"}
    assert sound == speak(server, voice="ash", input="hello", response_format="pcm")
    usage = events[-1]["usage"]
    assert events[-1]["type"] == "speech.audio.done"
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0


def test_the_network_is_asked_piece_by_piece_for_the_very_words(server: Live):
    speak(server, input="Hello there. It is 5 o'clock!", voice="fable", instructions="Please whisper.")
    asked = list(server.engine.requests)[-2:]
    assert [message.parts[0] for request in asked for message in request.messages] == [
        Text(text="whisper: hello there"),
        Text(text="whisper: it is five o'clock"),
    ]
    assert [request.params.script for request in asked] == ["hello there", "it is five o'clock"]
    assert {request.params.voice for request in asked} == {VOICE_ALIASES["fable"]}


@pytest.mark.parametrize("stream_format", ["audio", "sse"])
def test_a_header_tells_what_instructions_were_taken_for(server: Live, stream_format: str):
    asked = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": "hello", "stream_format": stream_format}
    for instructions, told in (
        ("Be calm, like a pilot.", "calm"),
        ("Speak clearly.", "plain"),
        ("", None),
        (None, None),
    ):
        response = server.http.post("/v1/audio/speech", json={**asked, "instructions": instructions})
        assert response.status_code == 200
        assert response.headers.get("x-sensorium-manner") == told


@pytest.mark.parametrize("speed", [0.25, 0.5, 2.0, 4.0])
def test_speed_changes_the_length(server: Live, speed: float):
    usual = len(speak(server, input="one two three four five six", response_format="pcm"))
    assert (
        abs(
            len(speak(server, input="one two three four five six", response_format="pcm", speed=speed)) * speed / usual
            - 1
        )
        < 0.02
    )


def test_a_network_without_manners_is_played_faster_or_refuses():
    engine = FakeEngine()
    engine.info = type(engine.info)(**{**vars(engine.info), "skills": frozenset({"say"})})
    with live(engine) as server:
        usual = len(speak(server, response_format="pcm"))
        assert len(speak(server, response_format="pcm", instructions="speak slowly")) > 1.3 * usual
        assert len(speak(server, response_format="pcm", instructions="speak fast")) < 0.8 * usual
        assert refusal(server, instructions="whisper") == ("instructions", "unsupported_value")


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"input": ""}, "input", "string_below_min_length"),
        ({"input": "a" * 4097}, "input", "string_above_max_length"),
        ({"input": "?! \U0001f600"}, "input", "invalid_value"),
        ({"voice": "nobody"}, "voice", "invalid_value"),
        ({"voice": {"id": "voice_1"}}, "voice", "unsupported_value"),
        ({"speed": 4.1}, "speed", "decimal_above_max_value"),
        ({"speed": 0.1}, "speed", "decimal_below_min_value"),
        ({"response_format": "ogg"}, "response_format", "invalid_value"),
        ({"stream_format": "pcm"}, "stream_format", "invalid_value"),
        ({"instructions": "be a pirate"}, "instructions", "unsupported_value"),
        ({"model": "gpt-9"}, "model", "model_not_found"),
        ({"stream": True}, "stream", "unknown_parameter"),
    ],
)
def test_what_cannot_be_obeyed_is_refused(server: Live, fields: dict[str, Any], param: str, code: str):
    assert refusal(server, **fields) == (param, code)


def test_what_was_said_is_counted():
    with live(api_keys=("sk-mine",)) as server:
        with pytest.raises(openai.AuthenticationError):
            server.official().audio.speech.create(model="tts-1", voice="alloy", input="hi")
        keyed = server.official(api_key="sk-mine")
        assert keyed.audio.speech.create(model="tts-1", voice="alloy", input="hi there").content
    with live() as server:
        speak(server, input="hi there", model="tts-1")
        since = {"start_time": int(time.time()) - 60}
        found = server.http.get("/v1/organization/usage/audio_speeches", params=since)
        counted = [result for bucket in found.json()["data"] for result in bucket["results"]]
        assert [(result["characters"], result["num_model_requests"]) for result in counted] == [(8, 1)]


def test_an_error_in_the_middle_ends_the_stream():
    engine = FakeEngine(error_after=8)
    with live(engine) as server:
        engine.error = RuntimeError("broken")
        asked = {"model": "tts-1", "voice": "alloy", "input": "one two three four five", "stream_format": "sse"}
        text = server.http.post("/v1/audio/speech", json=asked).text
        last = json.loads(text.strip().splitlines()[-1][6:])
        assert last["error"]["type"] == "server_error"


@pytest.mark.parametrize("stream_format", ["audio", "sse"])
def test_a_wav_stream_begins_with_the_first_sound(stream_format: str):
    """The engine breaks where a file that had to be whole would not have begun."""
    asked = {"model": "tts-1", "voice": "alloy", "input": "one two three four five six", "response_format": "wav"}
    with live(FakeEngine(error_after=8)) as server:
        server.engine.error = RuntimeError("broken")
        with server.http.stream("POST", "/v1/audio/speech", json={**asked, "stream_format": stream_format}) as response:
            assert response.status_code == 200
            first = next(response.iter_bytes())
        assert server.http.post("/v1/audio/speech", json=asked).status_code == 500
    if stream_format == "sse":
        first = base64.b64decode(json.loads(first.split(b"\n")[0][6:])["audio"])
    assert first[:8] + first[40:44] == b"RIFF\xff\xff\xff\xff\xff\xff\xff\xff"
    assert len(first) > 44
    with live(FakeEngine()) as server:
        data = speak(server, **asked | {"stream_format": "audio"})
        assert data[44:] == speak(server, **asked | {"response_format": "pcm"})


def test_sound_is_whole(server: Live):
    samples = np.frombuffer(speak(server, input="one two three", response_format="pcm"), "<i2")
    assert 0.4 < len(samples) / 24_000 < 0.6  # 160 ms a word
