"""Films off the wire: what is seen when, what is heard when, and what is refused before it takes memory."""

from __future__ import annotations

import io
import struct
import tracemalloc
from functools import cache
from http.server import BaseHTTPRequestHandler

import numpy as np
import pytest
import soundfile

from sensorium.engine.fake import FakeEngine
from sensorium.messages import Audio, Video
from sensorium.server import film_in
from sensorium.server.errors import APIError
from sensorium.server.film_in import MAX_FRAME_SIDE, FilmBounds, decode_film
from sensorium.server.sound_file import SoundFile
from tests.server.film_samples import CODECS, RED_A_SECOND, film_part, movie
from tests.server.live import Live, envelope, live
from tests.server.samples import b64, data_url, mp3, picture, tone, wav
from tests.server.test_fetch import reply, web

BOUNDS = FilmBounds(max_pixels=200_000, max_s=20.0, max_frames=16)
RATE_HZ = 16_000

movie = cache(movie)


def decoded(data: bytes, bounds: FilmBounds = BOUNDS, fps: float | None = None) -> Video:
    return decode_film(data, "here", bounds, fps=fps, sample_rate_hz=RATE_HZ)


def refused(data: bytes, bounds: FilmBounds = BOUNDS, fps: float | None = None) -> str | None:
    with pytest.raises(APIError) as caught:
        decoded(data, bounds, fps)
    assert caught.value.status == 400
    assert caught.value.param in ("here", "here.fps")
    return caught.value.code


def red(film: Video) -> list[int]:
    """Which second each frame is from."""
    return [round(float(frame.pixels[40, 30, 0]) / RED_A_SECOND) for frame in film.frames]


@pytest.mark.parametrize("format", CODECS)
def test_a_frame_a_second_and_the_sound_in_step(format: str):
    film = decoded(movie(format))
    assert film.times_ms == (0.0, 1000.0, 2000.0)
    assert red(film) == [0, 1, 2]
    assert film.frames[0].pixels.shape == (48, 64, 3)
    assert film.sound is not None
    assert film.sound.sample_rate_hz == RATE_HZ
    assert film.sound.duration_ms == pytest.approx(3000, abs=60)
    assert 0.3 < np.abs(film.sound.waveform).max() <= 1.0


@pytest.mark.parametrize(("fps", "times_ms"), [(2.0, 500.0), (0.5, 2000.0), (4.0, 250.0)])
def test_the_rate_can_be_chosen(fps: float, times_ms: float):
    film = decoded(movie(), fps=fps)
    assert set(np.diff(film.times_ms)) == {times_ms}
    assert red(film) == [int(time_ms // 1000) for time_ms in film.times_ms]
    assert refused(movie(), BOUNDS, fps=8.0) == "video_too_long"


def test_a_long_film_is_looked_at_less_often():
    film = decoded(movie(seconds=9.0, fps=2, sound=False), FilmBounds(max_pixels=200_000, max_s=20, max_frames=4))
    assert film.times_ms == (0.0, 4000.0, 8000.0)
    assert film.sound is None


def test_a_silent_sound_track_is_none():
    assert decoded(movie(volume=0.0)).sound is None


def test_sound_that_begins_later_is_heard_later():
    film = decoded(movie(sound_from_s=1.5))
    assert film.sound is not None
    loud = np.flatnonzero(np.abs(film.sound.waveform) > 0.1)
    assert loud[0] / RATE_HZ == pytest.approx(1.5, abs=0.05)


def loud_s(sound: np.ndarray) -> np.ndarray:
    """Which twentieths of a second are loud, as their beginnings."""
    steps = sound[: len(sound) // 800 * 800].reshape(-1, 800)
    return np.flatnonzero(np.abs(steps).max(axis=1) > 0.1) / 20


@pytest.mark.parametrize("format", CODECS)
def test_sound_behind_a_gap_is_heard_when_it_was(format: str):
    film = decoded(movie(format, seconds=5.0, sound_s=3.0, pause=(1.0, 2.0)))
    assert film.sound is not None
    assert film.sound.duration_ms == pytest.approx(5000, abs=100)
    loud = loud_s(film.sound.waveform)
    assert loud[loud < 2.0].max() == pytest.approx(0.95, abs=0.1)
    assert loud[loud > 2.0].min() == pytest.approx(3.0, abs=0.1)
    assert len(loud) == pytest.approx(60, abs=4)


def test_a_time_that_lies_makes_no_hours_of_silence():
    data = movie("webm", seconds=3.0, sound_s=2.0, pause=(1.0, 36_000.0), picture=False)
    film = bytearray(movie("webm", seconds=3.0, sound_s=2.0, pause=(1.0, 36_000.0)))
    duration = film.index(b"\x44\x89\x88") + 3  # it says that it is short
    film[duration : duration + 8] = struct.pack(">d", 3000.0)
    tracemalloc.start()
    try:
        assert refused(bytes(film)) in ("video_too_long", "video_parse_error")
        with pytest.raises(APIError) as caught, SoundFile(data, "a.webm", rate_hz=RATE_HZ, max_s=60.0) as file:
            list(file.pieces())
        assert caught.value.code == "audio_too_large"
        assert tracemalloc.get_traced_memory()[1] < 30 * 2**20
    finally:
        tracemalloc.stop()


def test_a_telephones_film_is_upright():
    """The matrix of the track header says: a quarter turn clockwise. The green upper half is then on the right."""
    data = bytearray(movie())
    matrix = data.index(b"tkhd") + 44
    struct.pack_into(">9i", data, matrix, 0, 1 << 16, 0, -1 << 16, 0, 0, 48 << 16, 0, 1 << 30)
    pixels = decoded(bytes(data)).frames[0].pixels
    assert pixels.shape == (64, 48, 3)
    assert pixels[:, :20, 1].max() < 60 < 150 < pixels[:, 28:, 1].min()


def test_large_frames_are_kept_small():
    film = decoded(movie(seconds=1.0, fps=2, size=(512, 320)))
    assert film.frames[0].pixels.shape == (160, MAX_FRAME_SIDE, 3)


def test_bounds_hold():
    assert refused(movie(seconds=1.0, fps=2, size=(512, 400))) == "video_too_large"
    assert refused(movie(), FilmBounds(max_pixels=200_000, max_s=1.0, max_frames=16)) == "video_too_long"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(film_in, "_MOST_PIXELS", 10 * 64 * 48)
        assert refused(movie()) == "video_too_large"
    data = bytearray(movie())  # a film that says it takes half a second
    for box, at in ((b"mvhd", 20), (b"mdhd", 20)):
        where = data.index(box) + at
        struct.pack_into(">I", data, where, struct.unpack_from(">I", data, where)[0] // 6)
    bounds = FilmBounds(max_pixels=200_000, max_s=1.0, max_frames=16)
    assert refused(bytes(data), bounds) in ("video_too_long", "video_parse_error")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty_video_file"),
        (b"nonsense", "invalid_video_format"),
        (picture(), "invalid_video_format"),
        (wav(), "invalid_video_format"),
        (mp3(), "invalid_video_format"),
        (b"\x00\x00\x00\x20ftypisom" + bytes(100), "video_parse_error"),
        (b"\x1a\x45\xdf\xa3" + bytes(100), "video_parse_error"),
        (movie()[:600], "video_parse_error"),
        (movie("webm", seconds=8.0)[: len(movie("webm", seconds=8.0)) // 2], "video_parse_error"),
        (movie(picture=False), "invalid_video_format"),
    ],
)
def test_what_is_no_film_is_refused(data: bytes, code: str):
    assert refused(data) == code


# --- through the server


def test_a_film_goes_in_by_every_way(server: Live):
    said = "I got a film of 3 frames of 64 x 48 in 3.0 s with sound."
    film = movie("webm")
    answers = [
        server.chat([film_part(film, "video/webm")]).json()["choices"][0]["message"]["content"],
        server.chat([{"type": "file", "file": {"file_data": b64(film)}}]).json()["choices"][0]["message"]["content"],
    ]
    kept = server.http.post("/v1/files", files={"file": ("a.webm", film)}, data={"purpose": "user_data"}).json()["id"]
    for part in (
        {"type": "input_video", "video_url": data_url(film, "video/webm")},
        {"type": "input_video", "file_id": kept},
        {"type": "input_file", "file_id": kept},
    ):
        output = server.respond([{"role": "user", "content": [part]}]).json()["output"]
        answers.append(output[0]["content"][0]["text"])
    assert answers == [said] * 5
    (seen,) = server.engine.requests[-1].messages[-1].parts
    assert isinstance(seen, Video)


def test_a_film_is_fetched_as_a_film():
    asked: list[str | None] = []

    def serve(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.headers["accept"])
        reply(handler, movie())

    with web(serve) as site, live(allow_private_urls=True, max_film_bytes=len(movie())) as server:
        part = {"type": "video_url", "video_url": {"url": f"{site}/film.mp4"}}
        assert "3 frames" in server.chat([part]).text
    with web(serve) as site, live(allow_private_urls=True, max_film_bytes=1000) as server:
        part = {"type": "video_url", "video_url": {"url": f"{site}/film.mp4"}}
        assert server.refusal([part]) == ("messages[0].content[0].video_url", "video_too_large")
    assert asked == ["video/*"] * 2


def test_usage_counts_frames_and_sound(server: Live):
    details = server.chat([film_part(movie(), fps=2)]).json()["usage"]["prompt_tokens_details"]
    assert details["image_tokens"] == 6 * 16
    assert details["audio_tokens"] == 38


def test_refusals_name_the_part(server: Live):
    where = "messages[0].content[0].video_url"
    assert server.refusal([film_part(b"nonsense")]) == (where, "invalid_video_format")
    assert server.refusal([film_part(movie(), "image/png")]) == (where, "invalid_value")
    assert server.refusal([film_part(movie(), fps=9)]) == (f"{where}.fps", "decimal_above_max_value")
    assert server.refusal([{"type": "video_url", "video_url": {"url": "http://127.0.0.1:9/a.mp4"}}]) == (
        where,
        "invalid_video_url",
    )
    reply = server.respond([{"role": "user", "content": [{"type": "input_video"}]}])
    assert envelope(reply) == ("input[0].content[0].video_url", "missing_required_parameter")


def test_a_film_is_looked_at_as_often_as_the_context_lets_it():
    long = movie(seconds=12.0, fps=2)
    with live(FakeEngine(max_tokens=400)) as server:  # 150 of sound, 12 of marks; 12 frames would be 192 more
        assert "a film of 6 frames of 64 x 48 in 12.0 s" in server.chat([film_part(long)]).text
        assert "a film of 12 frames" in server.chat([film_part(long, fps=1)]).text
    with live(FakeEngine(max_tokens=200)) as server:
        assert server.refusal([film_part(long)]) == ("messages", "context_length_exceeded")
    silent = movie(seconds=12.0, fps=2, sound=False)
    with live(FakeEngine(max_tokens=250)) as server:
        refused = server.chat([film_part(silent, fps=2)])
        assert envelope(refused) == ("messages", "context_length_exceeded")
        assert "of its first 24 frames of film at most 14 fit" in refused.json()["error"]["message"]


def test_limits_hold_for_all_films_together():
    with live(max_film_s=5.0, max_film_bytes=60_000) as server:
        films = [film_part(movie())] * 2
        assert server.refusal(films) == ("messages[0].content[1].video_url", "video_too_long")
        assert server.refusal([film_part(bytes(60_001))]) == ("messages[0].content[0].video_url", "video_too_large")
        assert server.chat(films[:1]).status_code == 200
    with live(FakeEngine(max_tokens=100)) as server:  # 87 of them are one film
        assert server.refusal(films) == ("messages", "context_length_exceeded")
        assert server.chat(films[:1]).status_code == 200


@pytest.mark.parametrize("format", ["M4A", "WEBM", "MOV", "FLAC", "OGG", "WAV", "MP3"])
def test_a_file_of_sound_alone_is_a_clip(server: Live, format: str):
    kinds = {"M4A": "mp4", "WEBM": "webm", "MOV": "mov"}
    if format in kinds:
        data = movie(kinds[format], picture=False, seconds=2.0)
    else:
        file = io.BytesIO()
        soundfile.write(file, tone(2.0), RATE_HZ, format=format)
        data = file.getvalue()
    part = {"type": "file", "file": {"file_data": b64(data), "filename": f"memo.{format.lower()}"}}
    answered = server.chat([part])
    assert answered.status_code == 200, answered.text
    (clip,) = server.engine.requests[-1].messages[-1].parts
    assert isinstance(clip, Audio)
    assert clip.duration_ms == pytest.approx(2000, abs=600)  # with the quiet around it
    broken = {"type": "file", "file": {"file_data": b64(data[:60])}}
    assert server.refusal([broken])[0] == "messages[0].content[0].file"


def test_a_file_in_the_container_of_wav_and_webp_is_neither(server: Live):
    part = {"type": "file", "file": {"file_data": b64(b"RIFF\x40\0\0\0AVI LIST" + bytes(range(200)))}}
    assert server.refusal([part]) == ("messages[0].content[0].file", "unsupported_value")
