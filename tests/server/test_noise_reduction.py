"""Noise reduction: less noise, the same speech, the same samples however they come, and hardly later."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.server.noise_reduction import HOP_MS, NoiseReduction
from tests.server.calls import heard_in, pcm, phone
from tests.server.live import Live
from tests.serving import ROOT

RATE_HZ = 16_000


def speech() -> np.ndarray:
    """A question with half a second of silence before it, at 16 kHz."""
    sound, rate_hz = soundfile.read(ROOT / "docs" / "media" / "question.wav", dtype="float32")
    return np.concatenate((np.zeros(8000, np.float32), soxr.resample(sound, rate_hz, RATE_HZ)))


def noise(size: int, *, kind: str) -> np.ndarray:
    spectrum = np.fft.rfft(np.random.default_rng(1).standard_normal(size))
    if kind == "low":
        spectrum /= 1 + (np.fft.rfftfreq(size, 1 / RATE_HZ) / 300.0) ** 2
    found = np.fft.irfft(spectrum, size)
    return (found / np.sqrt(np.mean(found**2))).astype(np.float32)


def snr_db(sound: np.ndarray, clean: np.ndarray) -> float:
    """Of what the clean sound explains to the rest."""
    gain = float(sound @ clean) / float(clean @ clean)
    return 10 * np.log10(np.sum((gain * clean) ** 2) / np.sum((sound - gain * clean) ** 2))


@pytest.mark.parametrize("kind", ["white", "low"])
@pytest.mark.parametrize("before_db", [0.0, 5.0, 10.0])
def test_noise_is_taken_out(kind: str, before_db: float):
    clean = speech()
    level = np.sqrt(np.mean(clean[8000:] ** 2)) / 10 ** (before_db / 20)
    noisy = clean + level * noise(len(clean), kind=kind)
    near, far = (NoiseReduction(name, RATE_HZ).push(noisy, last=True) for name in ("near_field", "far_field"))
    before = snr_db(noisy[8000:], clean[8000:])
    assert snr_db(near[8000:], clean[8000:]) > before + 2.5
    assert snr_db(far[8000:], clean[8000:]) > before + 2.5
    silent = slice(4000, 8000)  # behind what it learns from
    quieter_db = [20 * np.log10(np.std(found[silent]) / np.std(noisy[silent])) for found in (near, far)]
    assert quieter_db[0] < -9
    assert quieter_db[1] < quieter_db[0] - 3


def test_clean_speech_stays_what_it_is():
    clean = speech()
    found = NoiseReduction("far_field", RATE_HZ).push(clean, last=True)
    assert found.shape == clean.shape
    assert snr_db(found, clean) > 25


@settings(max_examples=20, deadline=None)
@given(size=st.integers(0, 5000), cuts=st.lists(st.integers(0, 5000), max_size=6))
def test_pieces_are_the_whole(size: int, cuts: list[int]):
    sound = noise(5000, kind="white")[:size]
    reduction, whole = (
        NoiseReduction("near_field", RATE_HZ),
        NoiseReduction("near_field", RATE_HZ).push(sound, last=True),
    )
    pieces = np.split(sound, sorted(min(cut, size) for cut in cuts))
    found, num_in = [], 0
    for piece in pieces:
        found.append(reduction.push(piece))
        num_in += len(piece)
        assert num_in - sum(map(len, found)) <= 2 * HOP_MS * RATE_HZ // 1000
    found.append(reduction.push(np.zeros(0, np.float32), last=True))
    np.testing.assert_array_equal(np.concatenate(found), whole)
    assert len(whole) == size


def test_what_is_known_of_the_noise_outlasts_a_turn():
    """One that begins with speech is the better for it."""
    clean = speech()[8000:]
    hiss = 0.3 * np.std(clean) * noise(RATE_HZ + len(clean), kind="white")
    fresh, known = NoiseReduction("far_field", RATE_HZ), NoiseReduction("far_field", RATE_HZ)
    known.push(hiss[:RATE_HZ], last=True)
    first, second = (reduction.push(clean + hiss[RATE_HZ:], last=True) for reduction in (fresh, known))
    assert snr_db(second, clean) > snr_db(first, clean) + 1


@pytest.mark.parametrize("kind", ["near_field", "far_field"])
def test_a_call_reduces_noise_if_it_is_asked_to(server: Live, kind: str):
    settings = {"turn_detection": None, "noise_reduction": {"type": kind}}
    sound = 0.05 * soxr.resample(noise(2 * RATE_HZ, kind="white"), RATE_HZ, 24_000)
    with phone(server, session={"type": "realtime", "audio": {"input": settings}}) as call:
        for piece in np.array_split(sound, 9):
            call.say("input_audio_buffer.append", audio=pcm(piece))
        heard = heard_in(call, server)
    assert heard.duration_ms == pytest.approx(2000, abs=5)
    assert np.std(heard.waveform[RATE_HZ:]) < 0.05 / 3
