"""Comfort noise: what the network hears of a call never falls silent altogether.

A line that mutes its pauses gives zeros where a room would be heard. The network was taught in rooms: on such a line it
takes most pauses for the end (48 of 60; with this noise 17, `docs/log.md`). So what a user says in a call is
heard over a little noise. It is a function of a sample's place in its turn, so that a turn that was listened to live
and the same turn read again later are the same to the network, bit for bit. What is kept, told or played has none.
"""

from __future__ import annotations

import numpy as np

LEVEL = 1e-3
"""Root mean square of full scale, -60 dB: the noise of a quiet room."""

_NOISE = (LEVEL * np.random.default_rng(0).standard_normal(1 << 16)).astype(np.float32)  # 4 s, then it begins again


def over_comfort_noise(waveform: np.ndarray, *, start: int = 0) -> np.ndarray:
    """(N,) float32 samples of a turn, the first of which is its sample `start` -> what is heard of them."""
    place = start % len(_NOISE)
    noise = _NOISE[place : place + len(waveform)]
    if len(noise) < len(waveform):
        noise = np.resize(np.concatenate((_NOISE[place:], _NOISE[:place])), len(waveform))
    return waveform + noise
