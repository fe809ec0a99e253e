"""Resampling while the sound comes: as good as soxr, the same in any pieces, and hardly late."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.server.resampler import Resampler

RATES_HZ = [(24_000, 16_000), (16_000, 24_000), (8_000, 16_000), (16_000, 8_000), (16_000, 16_000)]


def tones(rate_hz: int, *, up_to_hz: float) -> np.ndarray:
    """A second of many of them."""
    times_s = np.arange(rate_hz) / rate_hz
    return np.sum([np.sin(2 * np.pi * hz * times_s + hz) for hz in np.arange(90, up_to_hz, 170)], axis=0) / 40


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES_HZ)
def test_what_both_rates_can_hold_is_kept(from_hz: int, to_hz: int):
    top_hz = min(from_hz, to_hz) / 2
    found = Resampler(from_hz, to_hz).push(tones(from_hz, up_to_hz=0.7 * top_hz), last=True)
    expected = tones(to_hz, up_to_hz=0.7 * top_hz)
    assert found.shape == expected.shape
    inner = slice(to_hz // 50, -to_hz // 50)
    assert np.abs(found - expected)[inner].max() < 2e-3


@pytest.mark.parametrize(("from_hz", "to_hz"), [(24_000, 16_000), (16_000, 8_000)])
def test_what_only_the_faster_can_hold_is_gone(from_hz: int, to_hz: int):
    high = np.sin(2 * np.pi * 0.54 * to_hz * np.arange(from_hz) / from_hz)
    assert np.abs(Resampler(from_hz, to_hz).push(high, last=True)[200:-200]).max() < 2e-3


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES_HZ)
def test_it_is_near_to_soxr(from_hz: int, to_hz: int):
    speechlike = tones(from_hz, up_to_hz=3000) * np.hanning(from_hz)
    expected = soxr.resample(speechlike, from_hz, to_hz)
    assert np.abs(Resampler(from_hz, to_hz).push(speechlike, last=True) - expected).max() < 2e-3


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES_HZ)
def test_little_is_held_back(from_hz: int, to_hz: int):
    resampler, num_in, num_out = Resampler(from_hz, to_hz), 0, 0
    for _ in range(50):
        num_in += from_hz // 50
        num_out += len(resampler.push(np.zeros(from_hz // 50)))
        assert 0 <= num_in / from_hz - num_out / to_hz < 0.0045


@settings(deadline=None)
@given(rates=st.sampled_from(RATES_HZ), size=st.integers(0, 2000), cuts=st.lists(st.integers(0, 2000), max_size=6))
def test_pieces_are_the_whole(rates: tuple[int, int], size: int, cuts: list[int]):
    sound = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    resampler = Resampler(*rates)
    whole = resampler.push(sound, last=True)
    edges = [0, *sorted(min(cut, size) for cut in cuts), size]
    pieces = [resampler.push(sound[a:b]) for a, b in pairwise(edges)]
    pieces.append(resampler.push(np.zeros(0, np.float32), last=True))
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    assert len(whole) == -(-size * rates[1] // rates[0])
