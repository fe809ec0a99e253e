from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.server.joining import Joiner

RATE_HZ = 16_000


def voice(ms: int) -> np.ndarray:
    return (0.4 * np.cos(2 * np.pi * 180 * np.arange(ms * 16) / RATE_HZ)).astype(np.float32)


def silence(ms: int) -> np.ndarray:
    return np.zeros(ms * 16, np.float32)


def joined(pieces: list[np.ndarray], cuts: list[int], pause_ms: int = 100) -> np.ndarray:
    joiner, out = Joiner(RATE_HZ), []
    for piece in pieces:
        ends = sorted({min(cut, len(piece)) for cut in cuts} | {len(piece)})
        for start, end in zip([0, *ends], ends, strict=False):
            out.append(joiner.push(piece[start:end]))
        out.append(joiner.end(pause_ms))
    return np.concatenate(out)


def test_the_silence_around_pieces_is_cut_and_pauses_are_put_in():
    piece = np.concatenate((silence(400), voice(500), silence(300)))
    heard = joined([piece, piece], [1280, 2560, 4000, 9000])
    assert abs(len(heard) / 16 - 2 * (30 + 500 + 30 + 100)) <= 4 * 10
    loud = np.flatnonzero(np.abs(heard) > 0.01)
    gap_ms = np.diff(loud).max() / 16
    assert 140 <= gap_ms <= 190


def test_pauses_within_a_piece_stay():
    heard = joined([np.concatenate((voice(200), silence(250), voice(200)))], [1280, 2560, 3840, 5120], pause_ms=0)
    assert abs(len(heard) / 16 - 650) <= 20


def test_nothing_clicks():
    heard = joined([voice(300), voice(300)], [1000, 3000], pause_ms=50)
    step = 0.4 * 2 * np.pi * 180 / RATE_HZ  # of the tone itself
    assert np.abs(np.diff(heard, prepend=0.0, append=0.0)).max() < 2 * step


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 12_000), max_size=8))
def test_no_sound_is_lost_however_it_comes(cuts: list[int]):
    heard = joined([np.concatenate((silence(100), voice(450), silence(200)))], cuts)
    assert np.count_nonzero(np.abs(heard) > 0.01) >= 0.95 * np.count_nonzero(np.abs(voice(450)) > 0.01)


def test_a_piece_without_sound_is_a_pause():
    assert not joined([silence(500)], [700, 3000]).any()
