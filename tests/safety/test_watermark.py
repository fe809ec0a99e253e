from __future__ import annotations

import io

import av
import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.data.generators.speech import PRESETS, Synthesizer
from sensorium.safety.watermark import PAYLOAD_BITS, RATE_HZ, Found, Watermarker, find, marked
from sensorium.server.audio_out import encode_speech

KEY, PAYLOAD = "a key", 0xBEEF


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """(N,) about eight seconds."""
    texts = ("the garden door is open", "what is the capital of france", "it is twenty one degrees in the kitchen")
    said = [Synthesizer().speak(text, PRESETS["coral"]).audio.waveform for text in texts * 2]
    return np.concatenate(said)


def decoded(data: bytes) -> np.ndarray:
    with av.open(io.BytesIO(data), "r") as container:
        resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE_HZ)
        frames = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
        return np.concatenate([frame.to_ndarray()[0] for frame in frames])


def test_a_mark_is_found_with_its_payload(speech: np.ndarray):
    found = find(marked(np.concatenate([speech] * 2), KEY, PAYLOAD), KEY)
    assert found.is_marked
    assert found.payload == PAYLOAD


def test_a_payload_is_told_where_it_is_certain_as_a_whole():
    sure = tuple(4.0 if PAYLOAD >> bit & 1 else -4.0 for bit in range(PAYLOAD_BITS))
    for weakest, score, told in ((1.5, 16.0, PAYLOAD), (0.5, 16.0, None), (1.5, 8.0, None), (4.0, 5.4, None)):
        found = Found(score=score, bits=(weakest, *sure[1:]))
        assert found.payload == told
        assert 0.0 <= found.payload_doubt <= 1.0
    # the weakest bit is wrong at odds of exp(-2 * 4 * 0.5); the others add next to nothing
    assert Found(score=16.0, bits=(0.5, *sure[1:])).payload_doubt == pytest.approx(1 / (1 + np.exp(4.0)), rel=1e-3)


def test_payloads_are_told_of_short_sounds_and_none_wrong(speech: np.ndarray):
    told = [
        find(marked(speech[: 6 * RATE_HZ], f"{KEY} {number}", PAYLOAD), f"{KEY} {number}").payload
        for number in range(40)
    ]
    assert set(told) <= {PAYLOAD, None}
    assert told.count(PAYLOAD) >= 20


def test_nothing_is_found_where_nothing_is(speech: np.ndarray):
    assert not find(speech, KEY).is_marked
    assert not find(marked(speech, KEY), "another key").is_marked
    assert not find(np.zeros(RATE_HZ, np.float32), KEY).is_marked
    assert not find(np.zeros(0, np.float32), KEY).is_marked


@pytest.mark.parametrize("attack", ["mp3", "opus", "aac", "telephone", "noise", "crop", "softer"])
def test_the_mark_outlives(speech: np.ndarray, attack: str):
    sound = marked(speech, KEY, PAYLOAD)
    match attack:
        case "mp3" | "opus" | "aac":
            sound = decoded(encode_speech(sound, RATE_HZ, attack))
        case "telephone":
            sound = soxr.resample(soxr.resample(sound, RATE_HZ, 8000), 8000, RATE_HZ)
        case "noise":
            level = 10 ** (-25 / 20) * np.sqrt(np.mean(sound**2))
            sound = sound + level * np.random.default_rng(1).standard_normal(len(sound)).astype(np.float32)
        case "crop":
            sound = sound[23_456:-10_001]
        case _:
            sound = 0.1 * sound
    assert find(sound, KEY).is_marked


def test_the_mark_is_far_below_the_sound(speech: np.ndarray):
    sound = marked(speech, KEY, PAYLOAD)
    assert len(sound) == len(speech)
    snr_db = 10 * np.log10(np.sum(speech**2) / np.sum((sound - speech) ** 2))
    assert 19 < snr_db < 30


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 6000), st.lists(st.integers(1, 3000), max_size=6))
def test_sound_may_come_in_any_pieces(size: int, cuts: list[int]):
    sound = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    marker, given_back, at = Watermarker(KEY, PAYLOAD), [], 0
    for cut in cuts:
        given_back.append(marker.push(sound[at : at + cut]))
        at += cut
    given_back.append(marker.push(sound[at:], last=True))
    assert np.allclose(np.concatenate(given_back), marked(sound, KEY, PAYLOAD), atol=1e-5)
    assert sum(map(len, given_back)) == size


def test_short_sounds_that_are_joined_hold_one_mark(speech: np.ndarray):
    pieces = [speech[at : at + 17_001] for at in range(0, len(speech), 17_001)]
    begun_anew = np.concatenate([marked(piece, KEY) for piece in pieces])
    marks = [Watermarker(KEY, begins_at=17_001 * number) for number in range(len(pieces))]
    gone_on = np.concatenate([mark.push(piece, last=True) for mark, piece in zip(marks, pieces, strict=True)])
    assert find(gone_on, KEY).is_marked
    assert find(gone_on, KEY).score > find(begun_anew, KEY).score + 2


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 6000), st.integers(1, 3000), st.lists(st.integers(1, 3000), max_size=6))
def test_the_first_samples_need_not_wait(size: int, at_once: int, cuts: list[int]):
    sound = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    marker, given_back, at = Watermarker(KEY, PAYLOAD, at_once=at_once), [], 0
    for cut in cuts:
        given_back.append(marker.push(sound[at : at + cut]))
        at += cut
        assert sum(map(len, given_back)) >= min(at, size, at_once)
    given_back.append(marker.push(sound[at:], last=True))
    whole = np.concatenate(given_back)
    assert len(whole) == size
    np.testing.assert_array_equal(whole[:at_once], sound[:at_once])
    assert np.allclose(whole, Watermarker(KEY, PAYLOAD, at_once=at_once).push(sound, last=True), atol=1e-5)
    assert np.allclose(whole[at_once + 1536 :], marked(sound, KEY, PAYLOAD)[at_once + 1536 :], atol=1e-5)
    assert size < at_once + 2048 or not np.allclose(whole[at_once:], sound[at_once:], atol=1e-2)


@pytest.mark.parametrize("payload", [-1, 2**16])
def test_a_payload_has_16_bits(payload: int):
    with pytest.raises(ValueError, match="payload"):
        Watermarker(KEY, payload)


def test_a_file_is_written_and_read_back(speech: np.ndarray):
    samples, rate_hz = soundfile.read(io.BytesIO(encode_speech(speech, RATE_HZ, "wav", Watermarker(KEY, 7))))
    assert find(soxr.resample(samples, rate_hz, RATE_HZ), KEY).is_marked
