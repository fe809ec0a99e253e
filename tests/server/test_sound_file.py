from __future__ import annotations

import io
import struct
import subprocess
import sys
import time
import tracemalloc
import wave
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import cast

import av
import numpy as np
import pytest
import soundfile
from av.audio.stream import AudioStream

from sensorium.server.container import SoundTrack, opened
from sensorium.server.errors import APIError
from sensorium.server.sound_file import PIECE_S, SoundFile
from tests.server.film_samples import movie
from tests.server.samples import mp3, picture, tone, wav
from tests.serving import ROOT

CONTAINERS = {
    "wav": ("wav", "pcm_s16le"),
    "flac": ("flac", "flac"),
    "ogg": ("ogg", "libopus"),
    "mp3": ("mp3", "libmp3lame"),
    "mpga": ("mp3", "libmp3lame"),
    "m4a": ("ipod", "aac"),
    "mp4": ("mp4", "aac"),
    "webm": ("webm", "libopus"),
    "mpeg": ("mpeg", "mp2"),
}


def encoded(ending: str, seconds: float = 1.0, rate_hz: int = 48_000) -> bytes:
    container_name, codec = CONTAINERS[ending]
    file = io.BytesIO()
    with av.open(file, "w", format=container_name) as container:
        stream = cast(AudioStream, container.add_stream(codec, rate=rate_hz, layout="mono"))
        samples = (32000 * tone(seconds, rate_hz)).astype("<i2")[None]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = rate_hz
        resampler = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=rate_hz)
        for each in resampler.resample(frame):
            container.mux(stream.encode(each))
        container.mux(stream.encode(None))
    return file.getvalue()


def decoded(data: bytes, name: str = "", *, max_s: float = 60.0) -> np.ndarray:
    with SoundFile(data, name, rate_hz=16_000, max_s=max_s) as file:
        return np.concatenate(list(file.pieces()))


def refusal(data: bytes, name: str = "", *, max_s: float = 60.0) -> str | None:
    with pytest.raises(APIError) as caught:
        decoded(data, name, max_s=max_s)
    assert caught.value.status == 400
    assert caught.value.param == "file"
    return caught.value.code


@pytest.mark.parametrize("ending", CONTAINERS)
def test_every_format_is_read(ending: str):
    sound = decoded(encoded(ending), f"clip.{ending}")
    assert abs(len(sound) / 16_000 - 1.0) < 0.1
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    assert abs(np.argmax(spectrum) * 16_000 / len(sound) - 440) < 5


@pytest.mark.parametrize("num_channels", [1, 2, 3, 6, 8])
@pytest.mark.parametrize("format", ["WAV", "FLAC"])  # one has its channels interleaved, the other one by one
def test_several_channels_are_as_loud_as_one(format: str, num_channels: int):
    file = io.BytesIO()
    soundfile.write(file, np.repeat(tone()[:, None], num_channels, axis=1), 16_000, format=format)
    assert np.abs(decoded(file.getvalue()) - tone()).max() < 1e-3


def test_the_way_down_to_the_networks_rate_leaves_speech_and_takes_what_is_above_it():
    rate_hz = 44_100
    at = np.arange(rate_hz) / rate_hz
    for tone_hz, least, most in ((1000, 0.49, 0.51), (6500, 0.45, 0.51), (9500, 0.0, 0.01)):
        file = io.BytesIO()
        soundfile.write(file, 0.5 * np.sin(2 * np.pi * tone_hz * at), rate_hz, format="WAV")
        assert least <= np.abs(decoded(file.getvalue())[2000:-2000]).max() <= most, tone_hz


@pytest.mark.parametrize("format", ["mp4", "webm"])
def test_the_sound_of_a_film_is_on_the_films_clock_and_may_end_before_the_picture(format: str):
    sound = decoded(movie(format, seconds=4.0, sound_from_s=1.5, sound_s=1.0), f"a.{format}")
    assert abs(np.flatnonzero(np.abs(sound) > 0.05)[0] / 16_000 - 1.5) < 0.1
    assert abs(len(sound) / 16_000 - 2.5) < 0.2


@pytest.mark.parametrize("format", ["mp4", "webm"])
def test_a_gap_in_the_sound_of_a_film_is_silence(format: str):
    sound = decoded(movie(format, seconds=5.0, sound_s=3.0, pause=(1.0, 2.0)), f"a.{format}")
    assert abs(len(sound) / 16_000 - 5.0) < 0.1
    assert np.abs(sound[round(1.2 * 16_000) : round(2.8 * 16_000)]).max() < 0.01
    assert np.abs(sound[round(3.2 * 16_000) : round(4.8 * 16_000)]).max() > 0.3


@pytest.mark.parametrize(
    ("times_s", "num_loud"),
    [
        ([0.0, 1.0, 2.0], 48_000),
        ([0.0, 1.05, 2.0], 48_000),  # times waver
        ([0.0, 0.5, 1.5], 40_000),  # half a second is there twice
        ([0.0, 0.0, 1.0], 32_000),  # a second is
        ([0.0, 1.0, -30.0], 48_000),  # the clock begins anew
        ([0.0, 1.0, None], 48_000),
        ([None, 1.0, 2.0], 48_000),
    ],
)
def test_what_is_there_twice_by_the_clock_is_heard_once(times_s: list[float | None], num_loud: int):
    with opened(io.BytesIO(movie("mp4", seconds=1.0)), "mov") as container:
        track = SoundTrack(container.streams.audio[0], rate_hz=16_000, param="file", code="", on_clock=True)
        blocks: list[np.ndarray] = []
        for time_s in times_s:
            frame = av.AudioFrame.from_ndarray(np.full((1, 16_000), 0.5, np.float32), format="flt", layout="mono")
            frame.sample_rate, frame.time_base = 16_000, Fraction(1, 1000)
            frame.pts = None if time_s is None else round(1000 * time_s)
            blocks += track.push(frame)
        sound = np.concatenate([*blocks, *track.push(None)])
    assert len(sound) == num_loud
    assert sound.min() == 0.5


def test_rare_codecs_are_not_decoded():
    file = io.BytesIO()
    with av.open(file, "w", format="wav") as container:
        stream = cast(AudioStream, container.add_stream("wmav2", rate=16_000, layout="mono", bit_rate=32_000))
        frame = av.AudioFrame.from_ndarray(tone()[None], format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert refusal(file.getvalue(), "a.wav") == "invalid_file_format"


def test_a_long_file_comes_in_pieces_and_is_never_held_whole():
    data = encoded("flac", seconds=240.0, rate_hz=16_000)
    tracemalloc.start()
    try:
        with SoundFile(data, "long.flac", rate_hz=16_000, max_s=600.0) as file:
            sizes = [len(piece) for piece in file.pieces()]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(sizes) == 240 * 16_000
    assert max(sizes) <= 16_000 * (PIECE_S + 1)
    assert peak < 4 * 16_000 * 4 * PIECE_S + 2 * len(data)


@pytest.mark.parametrize(
    ("data", "name", "code"),
    [
        (b"", "a.wav", "invalid_value"),
        (b"hello", "a.wav", "invalid_file_format"),
        (picture(), "a.mp3", "invalid_file_format"),
        (wav(), "a.mp3", "invalid_file_format"),
        (encoded("flac"), "a.wav", "invalid_file_format"),
        (b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/x.ts\n", "a.mp3", "invalid_file_format"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "a.wav", "invalid_file_format"),
        (wav()[:2000], "a.wav", "invalid_file_format"),
        (encoded("flac", seconds=5.0)[:20_000], "a.flac", "invalid_file_format"),
        (encoded("m4a")[:2000], "a.m4a", "invalid_file_format"),
        (wav(seconds=0.0), "a.wav", "invalid_value"),
        (wav(seconds=2.0), "", "audio_too_large"),
        (encoded("mp3", seconds=2.0), "a.mp3", "audio_too_large"),
    ],
    ids=lambda value: repr(value[:12]) if isinstance(value, bytes) else str(value),
)
def test_what_is_no_whole_sound_is_refused(data: bytes, name: str, code: str):
    assert refusal(data, name, max_s=1.5 if code == "audio_too_large" else 60.0) == code


def test_a_header_that_promises_too_much_is_refused_before_any_of_it_is_decoded():
    data = bytearray(encoded("flac", seconds=1.0))
    low = int.from_bytes(data[18:26], "big")  # rate, channels, bits, and 36 bits of samples
    data[18:26] = ((low >> 36 << 36) | (48_000 * 100_000)).to_bytes(8, "big")
    with pytest.raises(APIError) as caught:
        SoundFile(bytes(data), "a.flac", rate_hz=16_000, max_s=60.0)
    assert caught.value.code == "audio_too_large"


def test_who_leaves_a_file_while_it_is_decoded_breaks_nothing():
    """FFmpeg must not lose what it works on: that ended the whole process."""
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 192_000 * 8)
    data = io.BytesIO()
    soundfile.write(data, noise, 192_000, format="FLAC")
    with ThreadPoolExecutor(1) as thread:
        for delay_ms in range(1, 60, 3):
            lying = io.BytesIO(data.getvalue())
            with SoundFile(lying, "a.flac", rate_hz=16_000, max_s=60.0) as file:
                decoding = thread.submit(next, file.pieces(), None)
                time.sleep(delay_ms / 1000)
            decoding.result()
            assert lying.closed


COVERS = """
import resource, struct, sys, zlib
from sensorium.server.sound_file import SoundFile

def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

def size(number):
    return bytes(number >> shift & 127 for shift in (21, 14, 7, 0))

side, packed = 6000, zlib.compressobj(9)
rows = b"".join(packed.compress(bytes(1 + 3 * side)) for _ in range(side)) + packed.flush()
header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
png = bytes.fromhex("89504e470d0a1a0a") + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
covers = b""
for number in range(6):
    cover = bytes(1) + b"image/png" + bytes([0, number]) + b"c%d" % number + bytes(1) + png
    covers += b"APIC" + size(len(cover)) + bytes(2) + cover
data = b"ID3" + bytes([4, 0, 0]) + size(len(covers)) + covers + sys.stdin.buffer.read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with SoundFile(data, "a.mp3", rate_hz=16_000, max_s=60.0) as file:
    sum(map(len, file.pieces()))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_pictures_that_come_with_sound_do_not_unfold():
    """Six covers of 36 million pixels in a megabyte: FFmpeg would decode them to see what they are."""
    asked = {"input": mp3(1.0), "capture_output": True, "check": True}
    told = subprocess.run([sys.executable, "-c", COVERS], cwd=ROOT, **asked).stdout
    assert int(told) < 64  # MiB


def test_samples_that_are_no_numbers_are_refused():
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(4)
        out.setframerate(16_000)
        out.writeframes(np.full(1600, np.nan, "<f4").tobytes())
    data = file.getvalue().replace(struct.pack("<HH", 1, 1), struct.pack("<HH", 3, 1), 1)
    assert refusal(data) == "invalid_value"
