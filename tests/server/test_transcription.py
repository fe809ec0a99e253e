from __future__ import annotations

import gc
import io
import json
import time
import tracemalloc
from collections.abc import AsyncGenerator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import soundfile

from sensorium.engine.fake import FakeEngine
from sensorium.engine.request import Event, InputTranscriptDelta, SamplingParams, Transcribed, Usage
from sensorium.server.segments import RATE_HZ, Cutting, Segmenter
from tests.server.live import Live, envelope, eventually, live
from tests.server.samples import b64, wav

QUESTION = Path("docs/media/question.wav")


def speech() -> np.ndarray:
    """(N,) at 16 kHz: one sentence that somebody says, as it is shipped for the guides."""
    sound, rate_hz = soundfile.read(QUESTION, dtype="float32")
    assert rate_hz == RATE_HZ
    return sound


def spoken(times: int = 1, pause_s: float = 1.0) -> bytes:
    """A WAV file of the sentence said so often, with pauses around it."""
    pause = np.zeros(round(pause_s * RATE_HZ), np.float32)
    file = io.BytesIO()
    soundfile.write(file, np.concatenate((pause, *([speech(), pause] * times))), RATE_HZ, format="WAV")
    return file.getvalue()


def transcribe(server: Live, **fields: Any) -> Any:
    asked: dict[str, Any] = {"model": "gpt-4o-transcribe", "file": ("a.wav", spoken(2)), **fields}
    return server.official().audio.transcriptions.create(**asked)


def refusal(server: Live, *, file: bytes | None = None, name: str = "a.wav", **fields: Any) -> Any:
    form = {"model": "whisper-1", **fields}
    response = server.http.post("/v1/audio/transcriptions", data=form, files={"file": (name, file or wav())})
    assert response.status_code in (400, 404, 413), response.text
    return envelope(response)


# --- cutting


def cut(sound: np.ndarray, size: int, **cutting: Any) -> list[tuple[float, float]]:
    segmenter = Segmenter(Cutting(**cutting))
    found = [each for at in range(0, len(sound), size) for each in segmenter.push(sound[at : at + size])]
    found += segmenter.push(np.zeros(0, np.float32), last=True)
    return [(round(each.start_s, 3), round(each.end_s, 3)) for each in found]


def test_sound_is_cut_at_pauses_however_it_comes():
    sound, _ = soundfile.read(io.BytesIO(spoken(3)), dtype="float32")
    found = cut(sound, 80_000)
    assert len(found) == 3
    length_s = len(speech()) / RATE_HZ
    for number, (start_s, end_s) in enumerate(found):
        begins_s = 1.0 + number * (length_s + 1.0)
        assert begins_s - 0.4 < start_s < begins_s + 0.5
        assert begins_s + length_s - 0.6 < end_s < begins_s + length_s + 0.5
    assert cut(sound, 777) == cut(sound, 16_000) == found


def test_a_low_threshold_and_no_patience_cut_at_pauses_too():
    sound, _ = soundfile.read(io.BytesIO(spoken(3)), dtype="float32")
    assert len(cut(sound, 16_000, threshold=0.1)) == 3  # 0.15 below it any silence would be speech
    hasty = cut(sound, 16_000, silence_duration_ms=0, prefix_padding_ms=0)
    assert sum(end_s - start_s for start_s, end_s in hasty) > 1.5  # not every window of speech ends its stretch
    assert len(hasty) < 30


def test_speech_without_a_pause_is_cut_all_the_same():
    sound = np.concatenate([speech()] * 12)
    found = cut(sound, 16_000, longest_s=4.0, silence_duration_ms=5000)
    assert len(found) > 4
    assert all(end_s - start_s <= 4.1 for start_s, end_s in found)
    assert all(abs(after[0] - before[1]) < 1e-6 for before, after in pairwise(found))


def test_silence_has_no_segments():
    assert cut(np.zeros(5 * RATE_HZ, np.float32), 16_000) == []


# --- what comes back


def test_json_with_log_probabilities(server: Live):
    plain = transcribe(server)
    assert plain.text.split()[0] == "word1"
    assert plain.logprobs is None
    assert plain.usage.type == "tokens"
    assert plain.usage.total_tokens == plain.usage.input_tokens + plain.usage.output_tokens
    scored = transcribe(server, include=["logprobs"])
    assert [token.token.strip() for token in scored.logprobs] == plain.text.split()
    assert transcribe(server, model="whisper-1").usage.type == "duration"


def test_verbose_json_has_words_and_segments(server: Live):
    told = transcribe(server, response_format="verbose_json", timestamp_granularities=["word", "segment"])
    assert told.language == "english"
    assert abs(told.duration - (3.0 + 2 * len(speech()) / RATE_HZ)) < 0.02
    assert len(told.segments) == 2
    assert told.text == " ".join(segment.text for segment in told.segments)
    assert [word.word for word in told.words] == told.text.split()
    times = [at for word in told.words for at in (word.start, word.end)]
    assert times == sorted(times)
    assert told.segments[1].start >= told.segments[0].end
    assert all(segment.tokens and segment.no_speech_prob < 0.5 for segment in told.segments)
    assert transcribe(server, response_format="verbose_json").words is None


class Saying(FakeEngine):
    """Hears each text in one stretch of speech after the other; words that come last have no times."""

    def __init__(self, *texts: str, timed: int = 0) -> None:
        super().__init__()
        self._texts, self._timed = list(texts), timed

    async def transcribe(self, waveform: np.ndarray, params: SamplingParams) -> AsyncGenerator[Event, None]:
        for number, word in enumerate(self._texts.pop(0).split()):
            end_ms = 300.0 * (number + 1) if number < self._timed else None
            yield InputTranscriptDelta(clip=0, text=" " * bool(number) + word, end_ms=end_ms)
        yield Transcribed(usage=Usage(), voice=None)


def test_what_is_no_speech_after_all_is_no_segment():
    with live(Saying("", "a b")) as server:
        told = transcribe(server, response_format="verbose_json")
        assert [(segment.id, segment.text) for segment in told.segments] == [(0, "a b")]


def test_words_without_a_time_share_what_is_left():
    sound, file = speech(), io.BytesIO()
    soundfile.write(file, sound, RATE_HZ, format="WAV")
    lasts_s = len(sound) / RATE_HZ
    with live(Saying("a b c d e f", timed=2)) as server:
        told = transcribe(
            server,
            file=("a.wav", file.getvalue()),
            response_format="verbose_json",
            timestamp_granularities=["word", "segment"],
        )
    assert len(told.words) == 6
    assert all(word.start < word.end <= lasts_s + 0.01 for word in told.words)
    assert told.segments[-1].end <= lasts_s + 0.01
    assert all(before.end <= after.start + 0.01 for before, after in pairwise(told.words))
    assert told.words[1].end < 0.61
    assert told.words[3].end < lasts_s - 0.2


@pytest.mark.parametrize(
    ("fields", "language"),
    [
        ({"language": "EN"}, "english"),
        ({"language": "en-US"}, "english"),
        ({"language": "de-AT"}, "german"),
        ({"language": "French"}, "french"),
        ({"languages": ["es"]}, "spanish"),
        ({"languages": ["de", "fr"]}, "english"),
    ],
)
def test_a_language_is_told_by_its_name(server: Live, fields: dict[str, Any], language: str):
    assert transcribe(server, response_format="verbose_json", **fields).language == language


def test_a_form_may_be_written_without_brackets(server: Live):
    """As people do with curl."""
    form: dict[str, Any] = {
        "model": "whisper-1",
        "response_format": "verbose_json",
        "timestamp_granularities": ["word", "segment"],
        "chunking_strategy": '{"type": "server_vad", "silence_duration_ms": 3000}',
    }
    response = server.http.post("/v1/audio/transcriptions", data=form, files={"file": ("a.wav", spoken(2))})
    assert response.status_code == 200, response.text
    assert len(response.json()["segments"]) == 1
    assert response.json()["words"]
    form = {"model": "whisper-1", "include": "logprobs"}
    response = server.http.post("/v1/audio/transcriptions", data=form, files={"file": ("a.wav", spoken())})
    assert response.json()["logprobs"]
    assert refusal(server, chunking_strategy='{"type": "server_vad", "threshold": 2}') == (
        "chunking_strategy.threshold",
        "decimal_above_max_value",
    )
    assert refusal(server, chunking_strategy="{")[0] == "chunking_strategy"
    assert refusal(server, model=["whisper-1", "whisper-1"])[0] == "model"


def test_times_are_those_of_the_file_whatever_it_is_heard_with():
    """The engine hears one word, which ends where the sound does: in a file that is cut close, without any edge."""

    class Heard(FakeEngine):
        async def transcribe(self, waveform: np.ndarray, params: SamplingParams) -> AsyncGenerator[Event, None]:
            ends = int(np.flatnonzero(np.abs(waveform) > 0.2 * np.abs(waveform).max())[-1])
            assert ends / RATE_HZ < len(waveform) / RATE_HZ - 0.25
            yield InputTranscriptDelta(clip=0, text="word", end_ms=1000 * ends / RATE_HZ)
            yield Transcribed(usage=Usage(), voice=None)

    sound = speech()
    loud = np.flatnonzero(np.abs(sound) > 0.2 * np.abs(sound).max())
    sound, file = sound[loud[0] : loud[-1] + 1], io.BytesIO()
    soundfile.write(file, sound, RATE_HZ, format="WAV")
    with live(Heard()) as server:
        asked: Any = {"file": ("a.wav", file.getvalue()), "timestamp_granularities": ["word"]}
        (word,) = transcribe(server, response_format="verbose_json", **asked).words
    assert abs(word.end - len(sound) / RATE_HZ) <= 0.011


@pytest.mark.parametrize("format", ["srt", "vtt"])
def test_subtitles(server: Live, format: Any, tmp_path: Path):
    text = transcribe(server, response_format=format)
    assert isinstance(text, str)
    assert text.count(" --> ") == 2
    assert text.startswith("WEBVTT\n\n" if format == "vtt" else "1\n00:00:0")
    assert ("." if format == "vtt" else ",") in text.split(" --> ")[0]


def test_text(server: Live):
    assert transcribe(server, response_format="text") == transcribe(server).text + "\n"


def test_a_stream_tells_the_same(server: Live):
    events = list(transcribe(server, stream=True, include=["logprobs"]))
    assert [event.type for event in events[:-1]] == ["transcript.text.delta"] * (len(events) - 1)
    assert events[-1].type == "transcript.text.done"
    assert "".join(event.delta for event in events[:-1]) == events[-1].text == transcribe(server).text
    assert events[-1].usage.output_tokens == len(events) - 1
    assert len(events[-1].logprobs) == len(events) - 1
    progress = [event.model_extra["progress"]["seconds"] for event in events[:-1]]
    assert progress == sorted(progress)


def test_a_stream_tells_how_far_it_is_while_nobody_speaks():
    silence = io.BytesIO()
    soundfile.write(silence, np.zeros(100 * RATE_HZ, np.float32), RATE_HZ, format="FLAC")
    with live() as server:
        events = list(transcribe(server, file=("a.flac", silence.getvalue()), stream=True))
    told_s = [event.model_extra["progress"]["seconds"] for event in events]
    assert told_s == [pytest.approx(seconds, abs=5.0) for seconds in (30, 60, 90, 100)]
    assert [event.delta for event in events[:-1]] == [""] * 3
    assert events[-1].text == ""


def test_of_what_was_heard_until_somebody_hangs_up_the_tokens_are_counted():
    with live(FakeEngine(delay_ms=20)) as server:
        with transcribe(server, file=("a.wav", spoken(6)), stream=True) as events:
            for event in events:
                if event.model_extra["progress"]["seconds"] > 5:
                    break
        eventually(lambda: server.engine.num_active == 0)
        told = server.http.get("/metrics").text
        counted = [line for line in told.splitlines() if line.startswith("sensorium_tokens_total") and "input" in line]
        assert sum(float(line.split()[-1]) for line in counted) > 0


def test_a_stream_has_the_times_of_words_for_whom_asks(server: Live):
    asked: Any = {"timestamp_granularities": ["word", "segment"]}
    told = transcribe(server, response_format="verbose_json", **asked)
    timed = [word.model_dump() for word in told.words]
    for format in ("verbose_json", "diarized_json"):
        events = list(transcribe(server, response_format=format, stream=True, **asked))
        segments = [event for event in events if event.type == "transcript.text.segment"]
        assert [(each.start, each.end, each.text) for each in segments] == [
            (each.start, each.end, each.text) for each in told.segments
        ]
        assert [word for each in segments for word in each.model_extra["words"]] == timed
        assert [each.speaker for each in segments] == (["A", "A"] if format == "diarized_json" else ["", ""])
        assert events[-1].model_extra["progress"]["seconds"] == told.duration
    plain = [event.type for event in transcribe(server, stream=True)]
    assert "transcript.text.segment" not in plain
    for event in transcribe(server, response_format="diarized_json", stream=True):
        assert "words" not in event.model_extra


def test_speakers_are_told_apart_in_json_and_in_a_stream(server: Live):
    told = transcribe(
        server, model="gpt-4o-transcribe-diarize", response_format="diarized_json", chunking_strategy="auto"
    )
    assert [segment.speaker for segment in told.segments] == ["A", "A"]
    events = list(transcribe(server, response_format="diarized_json", stream=True))
    segments = [event for event in events if event.type == "transcript.text.segment"]
    assert [(each.id, each.speaker, each.text) for each in segments] == [
        (each.id, each.speaker, each.text) for each in told.segments
    ]
    deltas = {event.segment_id for event in events if event.type == "transcript.text.delta"}
    assert deltas == {each.id for each in segments}
    reference = "data:audio/wav;base64," + b64(spoken(2, pause_s=0.2))
    known = transcribe(
        server, response_format="diarized_json", known_speaker_names=["Ada"], known_speaker_references=[reference]
    )
    assert {segment.speaker for segment in known.segments} == {"Ada"}


def test_a_reference_may_be_ten_seconds_of_studio_sound(server: Live):
    sound, _ = soundfile.read(io.BytesIO(spoken(3)), dtype="float32")
    file = io.BytesIO()
    studio = np.resize(np.repeat(sound, 3), 48_000 * 10)
    soundfile.write(file, np.stack((studio, studio), axis=1), 48_000, "PCM_16", format="WAV")
    references = ["data:audio/wav;base64," + b64(file.getvalue())] * 4
    names = ["Ada", "Bo", "Cy", "Di"]
    known = transcribe(
        server, response_format="diarized_json", known_speaker_names=names, known_speaker_references=references
    )
    assert {segment.speaker for segment in known.segments} <= set(names)


def test_the_reference_of_a_speaker_is_heard_with_as_much_quiet_around_it_as_what_it_is_compared_with():
    heard: list[np.ndarray] = []

    class Listening(FakeEngine):
        async def transcribe(self, waveform: np.ndarray, params: SamplingParams) -> AsyncGenerator[Event, None]:
            heard.append(waveform)
            async for event in super().transcribe(waveform, params):
                yield event

    at = np.flatnonzero(np.abs(speech()) > 0.05)
    close = np.concatenate([speech()[at[0] : at[-1]]] * 2)  # cut close around its words
    file = io.BytesIO()
    soundfile.write(file, close, RATE_HZ, format="WAV")
    reference = "data:audio/wav;base64," + b64(file.getvalue())
    with live(Listening()) as server:
        transcribe(
            server, response_format="diarized_json", known_speaker_names=["Ada"], known_speaker_references=[reference]
        )
    assert len(heard[0]) >= len(close) + 0.4 * RATE_HZ
    assert np.abs(heard[0][: RATE_HZ // 10]).max() < 0.01 < np.abs(close[: RATE_HZ // 10]).max()


def test_a_strategy_says_where_to_cut(server: Live):
    strategy: Any = {"type": "server_vad", "silence_duration_ms": 3000}
    told = transcribe(server, response_format="verbose_json", chunking_strategy=strategy)
    assert len(told.segments) == 1


def test_silence_is_no_text(server: Live):
    assert transcribe(server, file=("a.wav", wav(seconds=1.0))).text == ""
    assert [event.type for event in transcribe(server, file=("a.wav", wav()), stream=True)] == ["transcript.text.done"]


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"model": "gpt-9"}, "model", "model_not_found"),
        ({"language": "ja"}, "language", "unsupported_value"),
        ({"prompt": "Sensorium"}, "prompt", "unsupported_value"),
        ({"keywords[]": "Sensorium"}, "keywords", "unsupported_value"),
        ({"temperature": "1.5"}, "temperature", "decimal_above_max_value"),
        ({"temperature": "warm"}, "temperature", "invalid_type"),
        ({"response_format": "docx"}, "response_format", "invalid_value"),
        ({"response_format": "srt", "stream": "true"}, "stream", "unsupported_value"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"timestamp_granularities[]": "word"}, "timestamp_granularities", "invalid_value"),
        ({"timestamp_granularities[]": "word", "stream": "true"}, "timestamp_granularities", "invalid_value"),
        (
            {"timestamp_granularities[]": "word", "response_format": "diarized_json"},
            "timestamp_granularities",
            "invalid_value",
        ),
        ({"include[]": "logprobs", "response_format": "text"}, "include", "invalid_value"),
        ({"include[]": "secrets"}, "include[0]", "invalid_value"),
        ({"chunking_strategy": "never"}, "chunking_strategy", "invalid_value"),
        (
            {"chunking_strategy[type]": "server_vad", "chunking_strategy[threshold]": "2"},
            "chunking_strategy.threshold",
            "decimal_above_max_value",
        ),
        ({"known_speaker_names[]": "Ada"}, "known_speaker_references", "invalid_value"),
        (
            {
                "known_speaker_names[]": "Ada",
                "known_speaker_references[]": "https://example.com/ada.wav",
                "response_format": "diarized_json",
            },
            "known_speaker_references[0]",
            "unsupported_value",
        ),
        ({"colour": "red"}, "colour", "unknown_parameter"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_obeyed_is_refused(server: Live, fields: dict[str, Any], param: str, code: str):
    assert refusal(server, **fields) == (param, code)


def test_what_is_no_sound_is_refused(server: Live):
    assert refusal(server, file=b"hello") == ("file", "invalid_file_format")
    assert refusal(server, file=wav(), name="a.flac") == ("file", "invalid_file_format")
    response = server.http.post("/v1/audio/transcriptions", data={"model": "whisper-1", "file": "x"}, files={"f": b""})
    assert envelope(response) == ("file", "missing_required_parameter")
    with live(max_transcription_s=0.2) as short:
        assert refusal(short) == ("file", "audio_too_large")
    with live(max_audio_bytes=10_000) as small:
        assert refusal(small, file=wav(seconds=60.0)) == (None, "request_too_large")


def test_seconds_are_counted_and_keys_have_areas():
    with live() as server:
        transcribe(server)
        found = server.http.get(
            "/v1/organization/usage/audio_transcriptions", params={"start_time": int(time.time()) - 60}
        )
        [result] = [result for bucket in found.json()["data"] for result in bucket["results"]]
        assert result["seconds"] == round(3 + 2 * len(speech()) / RATE_HZ)
    with live(api_keys=("sk-mine",)) as server, pytest.raises(openai.AuthenticationError):
        transcribe(server)


# --- translations


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # of the client: OpenAI ends the endpoint
def test_translations_ask_for_english(server: Live):
    told = server.official().audio.translations.create(model="whisper-1", file=("a.wav", spoken()))
    assert told.text.startswith("I got a clip of")
    asked = server.engine.requests[-1]
    assert asked.messages[0].text == "translate to english"
    verbose: Any = server.official().audio.translations.create(
        model="whisper-1", file=("a.wav", spoken()), response_format="verbose_json"
    )
    assert verbose.language == "english"
    (segment,) = verbose.segments
    assert 0.0 < segment.start < segment.end < verbose.duration  # though nobody tells when it was said
    assert server.engine.requests[-1].params.top_logprobs == 0


def test_a_network_without_languages_does_not_translate():
    engine = FakeEngine()
    engine.info = type(engine.info)(**{**vars(engine.info), "skills": frozenset({"say"})})
    with live(engine) as server:
        form = {"model": "whisper-1"}
        response = server.http.post("/v1/audio/translations", data=form, files={"file": ("a.wav", wav())})
        assert envelope(response) == ("model", "unsupported_value")
        assert refusal(server, language="de") == ("language", "unsupported_value")


@pytest.mark.parametrize("stream", ["true", "True"])  # as Python writes it in a form
def test_a_form_asks_for_events(server: Live, stream: str):
    data = {"model": "gpt-4o-transcribe", "stream": stream}
    told = server.http.post("/v1/audio/transcriptions", data=data, files={"file": ("a.wav", wav())})
    assert told.headers["content-type"].startswith("text/event-stream")


def test_events_after_an_error_say_so():
    with live() as server:
        file = io.BytesIO()
        soundfile.write(file, np.concatenate([speech()] * 8), RATE_HZ, format="FLAC")
        data = file.getvalue()
        half = data[: int(0.8 * len(data))]
        response = server.http.post(
            "/v1/audio/transcriptions",
            data={"model": "gpt-4o-transcribe", "stream": "true"},
            files={"file": ("a.flac", half)},
        )
        last = json.loads(response.text.strip().splitlines()[-1].removeprefix("data: "))
        assert last["error"]["code"] == "invalid_file_format"


@pytest.mark.parametrize("stream", ["false", "true"])
def test_a_large_file_is_never_in_memory_whole(tmp_path: Path, stream: str):
    source = tmp_path / "large.wav"
    sound = np.repeat(np.tile(np.concatenate((speech(), np.zeros(RATE_HZ, np.float32))), 6), 6)[:, None]
    soundfile.write(source, np.tile(sound, (1, 2)), 6 * RATE_HZ, subtype="DOUBLE")
    size = source.stat().st_size
    assert size > 20 * 2**20
    form = {"model": "whisper-1", "response_format": "json", "stream": stream}
    with live() as server, source.open("rb") as file:
        server.http.post("/v1/audio/transcriptions", data=form, files={"file": ("a.wav", wav())})  # all is loaded
        tracemalloc.start()
        response = server.http.post("/v1/audio/transcriptions", data=form, files={"file": ("a.wav", file)})
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert response.status_code == 200
    assert "word" in response.text
    assert peak < size / 2


def test_a_file_that_is_refused_is_closed(server: Live):
    """Else it is a warning, which is an error."""
    large = spoken() + bytes(2**21)  # on the disk
    for fields in ({"model": "nobody"}, {"temperature": "9"}, {"stream": "perhaps"}, {"language": "xx"}):
        form = {"model": "whisper-1", **fields}
        assert server.http.post("/v1/audio/transcriptions", data=form, files={"file": large}).status_code in (400, 404)
    response = server.http.post("/v1/audio/transcriptions", data={"model": "whisper-1"}, files={"file": bytes(2**21)})
    assert response.status_code == 400
    gc.collect()
