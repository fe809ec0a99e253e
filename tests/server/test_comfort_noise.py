"""Comfort noise: heard live as it is read again, and nowhere but in what the network hears."""

from __future__ import annotations

import base64
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorium.messages import Audio
from sensorium.server.comfort_noise import LEVEL, over_comfort_noise
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
