"""Comfort noise: what the network hears of a call never falls silent altogether, and no clip begins or ends at once.

A line that mutes its pauses gives zeros where a room would be heard. The network was taught in rooms: on such a line it
takes most pauses for the end (48 of 60; with this noise 17, `docs/log.md`). So what a user says in a call is
heard over a little noise. It is a function of a sample's place in its turn, so that a turn that was listened to live
and the same turn read again later are the same to the network, bit for bit. What is kept, told or played has none.

A clip that was cut close around its words is heard badly: nothing comes before its first word, and the last one has no
end. So a clip is heard with a little of the noise around it, as much as it lacks of a quiet edge (`docs/log.md`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

LEVEL = 1e-3
"""Root mean square of full scale, -60 dB: the noise of a quiet room."""

QUIET_BEFORE_MS, QUIET_BEHIND_MS = 200, 300
"""So much quiet a clip is heard with at least."""

_BLOCK_MS = 10
_LOUD = 0.1  # of the loud blocks of a clip: what is softer is quiet, and so is
_NOISE_FLOOR = 2.0  # of its softest ones, the room's noise, if that is
_LOUDEST_FLOOR = 0.3  # of the loud ones at the most: a clip without a pause has no floor to be seen
_NOISE = (LEVEL * np.random.default_rng(0).standard_normal(1 << 16)).astype(np.float32)  # 4 s, then it begins again


def over_comfort_noise(waveform: np.ndarray, *, start: int = 0) -> np.ndarray:
    """(N,) float32 samples of a turn, the first of which is its sample `start` -> what is heard of them."""
    place = start % len(_NOISE)
    noise = _NOISE[place : place + len(waveform)]
    if len(noise) < len(waveform):
        noise = np.resize(np.concatenate((_NOISE[place:], _NOISE[:place])), len(waveform))
    return waveform + noise


class Clip(NamedTuple):
    """What is heard of a clip, and how much of that is noise before its beginning."""

    waveform: np.ndarray  # (N,) float32
    added_before_ms: float


def with_quiet_edges(waveform: np.ndarray, rate_hz: int) -> Clip:
    """(N,) float32 samples of a whole clip -> the clip with the noise that its edges lack. Silence stays as it is."""
    block = rate_hz * _BLOCK_MS // 1000
    blocks = waveform[: len(waveform) - len(waveform) % block].reshape(-1, block)
    level = np.sqrt(np.square(blocks).mean(axis=1)) if len(blocks) else np.zeros(0)
    softest, loudest = np.percentile(level, (10, 90)) if len(level) else (0.0, 0.0)
    loud = np.flatnonzero(level > np.clip(_NOISE_FLOOR * softest, _LOUD * loudest, _LOUDEST_FLOOR * loudest))
    if not len(loud):
        return Clip(waveform, 0.0)
    quiet_before = int(loud[0]) * block
    quiet_behind = len(waveform) - (int(loud[-1]) + 1) * block
    before = max(0, rate_hz * QUIET_BEFORE_MS // 1000 - quiet_before)
    behind = max(0, rate_hz * QUIET_BEHIND_MS // 1000 - quiet_behind)
    noise = over_comfort_noise(np.zeros(before + behind, np.float32))
    return Clip(np.concatenate((noise[:before], waveform, noise[before:])), 1000 * before / rate_hz)
