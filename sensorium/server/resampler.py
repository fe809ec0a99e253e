"""From one sample rate to another while the sound comes: what is said now is heard now.

soxr, which the rest of the server resamples with, works in blocks: its stream holds sound back for up to 37 ms from 24
to 16 kHz, and 115 ms from 8 to 16, all of which a caller waits at the end of a turn. A windowed sinc of 64 samples
holds back half of its length: 2 to 4 ms.
"""

from __future__ import annotations

from math import ceil, gcd

import numpy as np

_HALF = 32  # samples of the slower rate on each side
_KAISER_BETA = 7.0  # aliases and images are 70 dB down
_TRANSITION = 0.425 / np.pi  # of the slower rate's half: where such a filter falls from all to nothing


class Resampler:
    """(N,) float32 in pieces of any size -> the same sound at another rate, equal for any way of cutting it."""

    def __init__(self, from_hz: int, to_hz: int) -> None:
        common = gcd(from_hz, to_hz)
        self._step, self._num_phases = from_hz // common, to_hz // common  # so many samples become so many
        self._half = ceil(_HALF * max(1.0, from_hz / to_hz))
        self._taps = np.ascontiguousarray(_taps(self._step, self._num_phases, self._half).T)  # (phases, step + 2 half)
        self._begin()

    def push(self, waveform: np.ndarray, *, last: bool = False) -> np.ndarray:
        """What is ready after `waveform`; with `last`, all that remains, and other sound may follow."""
        self._num_in += len(waveform)
        tail = np.zeros(self._half + self._step if last else 0, np.float32)
        self._rest = np.concatenate((self._rest, waveform, tail), dtype=np.float32)
        width = self._taps.shape[1]
        count = max(0, (len(self._rest) - width) // self._step + 1)
        ready = np.zeros((count, self._num_phases))
        if count:  # each sum is a dot product of its own: it does not depend on how much came at once
            known = self._rest[: (count - 1) * self._step + width].astype(np.float64)
            for phase, taps in enumerate(self._taps):
                ready[:, phase] = np.correlate(known, taps)[:: self._step]
        self._rest = self._rest[count * self._step :]
        found = ready.reshape(-1).astype(np.float32)
        if last:
            found = found[: ceil(self._num_in * self._num_phases / self._step) - self._num_out]
        self._num_out += len(found)
        if last:
            self._begin()
        return found

    def _begin(self) -> None:
        self._rest = np.zeros(self._half, np.float32)
        self._num_in = self._num_out = 0


def _taps(step: int, num_phases: int, half: int) -> np.ndarray:
    """(step + 2 half, num_phases): what each of the samples around `step` of them gives to each that they become."""
    share = min(1.0, num_phases / step)  # of the faster rate's band that there is at both
    cutoff = share * (1.0 - _TRANSITION)
    distance = np.arange(-half, step + half)[:, None] - step * np.arange(num_phases) / num_phases
    inside = np.sqrt(np.maximum(0.0, 1.0 - (distance / half) ** 2))
    window = np.where(np.abs(distance) < half, np.i0(_KAISER_BETA * inside) / np.i0(_KAISER_BETA), 0.0)
    taps = cutoff * np.sinc(cutoff * distance) * window
    return taps / taps.sum(axis=0)
