"""Comfort noise: heard live as it is read again, and nowhere but in what the network hears."""

from __future__ import annotations

import base64
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorium.messages import Audio
from sensorium.server.comfort_noise import LEVEL, QUIET_BEFORE_MS, QUIET_BEHIND_MS, over_comfort_noise, with_quiet_edges
from tests.server.calls import pcm, phone
from tests.server.live import Live


@given(length=st.integers(0, 200_000), cuts=st.lists(st.integers(0, 200_000), max_size=8))
def test_a_turn_in_pieces_is_the_turn_as_a_whole(length: int, cuts: list[int]):
    turn = np.linspace(-0.5, 0.5, length, dtype=np.float32)
    edges = [0, *sorted(min(cut, length) for cut in cuts), length]
    pieces = [over_comfort_noise(turn[a:b], start=a) for a, b in pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(pieces), over_comfort_noise(turn))


def test_it_is_as_loud_as_a_quiet_room_at_all_times():
    silence = over_comfort_noise(np.zeros(10 * 16_000, np.float32))
    assert silence.dtype == np.float32
    rms = np.sqrt(np.mean(silence.reshape(-1, 320) ** 2, axis=1))  # of every 20 ms
    assert rms.mean() == pytest.approx(LEVEL, rel=0.02)
    assert rms.min() > 0.8 * LEVEL
    assert np.abs(silence).max() < 6 * LEVEL


@pytest.mark.parametrize("floor", [0.0, 0.01])
@pytest.mark.parametrize(("before_ms", "behind_ms"), [(0, 0), (50, 0), (0, 120), (200, 300), (700, 800)])
def test_a_clip_gets_the_quiet_that_its_edges_lack(before_ms: int, behind_ms: int, floor: float):
    rng = np.random.default_rng(1)
    clip = floor * rng.standard_normal(16 * (before_ms + 1000 + behind_ms)).astype(np.float32)
    spoken = slice(16 * before_ms, 16 * (before_ms + 1000))
    clip[spoken] += 0.1 * rng.standard_normal(16_000).astype(np.float32)
    heard, added_before_ms = with_quiet_edges(clip, 16_000)
    before, behind = max(0, QUIET_BEFORE_MS - before_ms), max(0, QUIET_BEHIND_MS - behind_ms)
    assert added_before_ms == before
    assert len(heard) == len(clip) + 16 * (before + behind)
    np.testing.assert_array_equal(heard[16 * before : 16 * before + len(clip)], clip)
    assert np.abs(heard[: 16 * before]).max(initial=0) < 6 * LEVEL


def test_a_clip_without_sound_stays_as_it_is():
    for num_samples in (0, 100, 16_000):
        silence = np.zeros(num_samples, np.float32)
        assert with_quiet_edges(silence, 16_000).waveform is silence


def test_the_network_hears_it_and_the_client_does_not_get_it_back(server: Live):
    with phone(server) as call:
        call.say("input_audio_buffer.append", audio=pcm(np.zeros(24_000)))
        call.ask("input_audio_buffer.commit", "input_audio_buffer.committed")
        item_id = call.until("conversation.item.done")[-1]["item"]["id"]
        call.say("response.create", response={"output_modalities": ["text"]})
        call.until("rate_limits.updated")
        item = call.ask("conversation.item.retrieve", "conversation.item.retrieved", item_id=item_id)["item"]
    heard = server.engine.requests[-1].messages[-1].parts[0]
    assert isinstance(heard, Audio)
    np.testing.assert_array_equal(heard.waveform, over_comfort_noise(np.zeros_like(heard.waveform)))
    assert not any(base64.b64decode(item["content"][0]["audio"]))
