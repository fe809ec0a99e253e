from __future__ import annotations

import base64
import io

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.server.audio_out import OUTPUT_RATE_HZ, Pcm16Stream, encode_speech
from tests.server.samples import tone


def decode(data: bytes) -> tuple[np.ndarray, int]:
    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler(format="flt", layout="mono")
        frames = [out for frame in container.decode(stream) for out in resampler.resample(frame)]
        return np.concatenate([frame.to_ndarray()[0] for frame in frames]), stream.codec_context.sample_rate


def strongest_hz(waveform: np.ndarray, rate_hz: int) -> float:
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return float(np.argmax(spectrum) * rate_hz / len(waveform))


@pytest.mark.parametrize("format", ["wav", "mp3", "flac", "opus", "aac"])
def test_files_hold_the_sound_at_24_khz(format):
    waveform, rate_hz = decode(encode_speech(tone(seconds=1.0), 16_000, format))
    assert rate_hz == (48_000 if format == "opus" else OUTPUT_RATE_HZ)  # opus has one clock for all
    assert abs(len(waveform) / rate_hz - 1.0) < 0.1
    assert abs(strongest_hz(waveform, rate_hz) - 440) < 5
    assert 0.4 < np.abs(waveform).max() < 0.65


@pytest.mark.parametrize("format", ["wav", "flac"])
def test_lossless_files_are_exact(format):
    samples, rate_hz = soundfile.read(io.BytesIO(encode_speech(tone(), 16_000, format)), dtype="int16")
    assert rate_hz == OUTPUT_RATE_HZ
    assert samples.astype("<i2").tobytes() == encode_speech(tone(), 16_000, "pcm16")


@pytest.mark.parametrize("format", ["wav", "mp3", "flac", "opus", "aac", "pcm16"])
def test_silence_of_no_length_is_a_file_too(format):
    assert isinstance(encode_speech(np.zeros(0, np.float32), 16_000, format), bytes)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 4000), max_size=12))
def test_any_way_of_cutting_gives_the_same_samples(lengths: list[int]):
    waveform = np.random.default_rng(0).uniform(-1, 1, sum(lengths)).astype(np.float32)
    stream = Pcm16Stream(16_000)
    pieces = [stream.push(piece) for piece in np.split(waveform, np.cumsum(lengths)[:-1])] if lengths else []
    joined = b"".join([*pieces, stream.flush()])
    assert joined == encode_speech(waveform, 16_000, "pcm16")
    assert abs(len(joined) / 2 - 1.5 * len(waveform)) < 1
    # clients join the base64 texts of chunks: padding in the middle would end the sound there
    assert not any(base64.b64encode(piece).endswith(b"=") for piece in pieces)


def test_loud_samples_are_clipped_not_wrapped():
    pcm = np.frombuffer(encode_speech(np.full(1000, 3.0, np.float32), 24_000, "pcm16"), "<i2")
    assert pcm[100:-100].min() == 32767
