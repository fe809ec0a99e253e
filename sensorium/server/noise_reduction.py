"""Noise reduction of a call's input: a running estimate of the noise in each band, and a gain that takes it out.

Every 5 ms the newest 32 ms are looked at. The noise follows what is probably not speech (Gerkmann and Hendriks,
"Unbiased MMSE-based noise power estimation with low complexity and low tracking delay", 2012), the gain is Wiener's
with the signal-to-noise ratio estimated by decision (Ephraim and Malah, 1984). The window that is looked through is
long, the one that is written through short and at its end (Mauler and Martin, "A low delay, variable resolution,
perfect reconstruction spectral analysis-synthesis system", 2007): what comes out is 5 to 10 ms behind what went in.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

HOP_MS = 5
_HOPS_IN_WINDOW = 6.4  # 32 ms
_FLOORS = {"near_field": 0.25, "far_field": 0.125}
"""The least gain: -12 dB where the microphone is at the mouth, -18 dB where it hears the whole room."""

_PRIOR = 10**1.5  # the signal-to-noise ratio of speech where there is some
_KEPT_NOISE = 0.93  # of the estimate of noise, a hop later
_KEPT_SPEECH = 0.97  # of the last estimate of the speech's share
_SURE = 0.99  # a noise that rises is not taken for speech for ever
_LEARNING_HOPS = 20  # 100 ms: what is heard first is taken for noise
_LEAST_POWER = 1e-10


class NoiseReduction:
    """Mono float32 in pieces of any size -> the same with less noise, equal for any way of cutting it."""

    def __init__(self, kind: Literal["near_field", "far_field"], rate_hz: int) -> None:
        self._floor = _FLOORS[kind]
        self._hop = rate_hz * HOP_MS // 1000
        size = int(self._hop * _HOPS_IN_WINDOW)
        self._analysis, self._synthesis = _windows(size, self._hop)
        bins = size // 2 + 1
        self._noise = np.zeros(bins)  # power in each band
        self._num_learnt = 0
        self._probability = np.zeros(bins)  # of speech, smoothed
        self._speech = np.zeros(bins)  # power of what was let through
        self._begin()

    def push(self, waveform: np.ndarray, *, last: bool = False) -> np.ndarray:
        """What is ready after (N,) more samples; with `last`, all that remains, after which other sound may begin: what
        is known of the noise stays."""
        samples = np.concatenate((self._rest, waveform))
        if last:  # a window more brings out what is under way
            samples = np.concatenate((samples, np.zeros(self._hop - len(samples) % self._hop + self._hop)))
        self._num_in += len(waveform)
        whole = len(samples) - len(samples) % self._hop
        self._rest = samples[whole:]
        parts = [self._take(part) for part in samples[:whole].reshape(-1, self._hop)]
        ready = np.concatenate([np.zeros(0), *parts])
        early = min(self._num_early, len(ready))  # what stands before the first sample
        ready, self._num_early = ready[early:], self._num_early - early
        if last:
            ready = ready[: self._num_in - self._num_out]
        self._num_out += len(ready)
        if last:
            self._begin()
        return ready.astype(np.float32)

    def _begin(self) -> None:
        self._rest = np.zeros(0)
        self._seen = np.zeros(len(self._analysis))
        self._overlap = np.zeros(self._hop)
        self._num_early, self._num_in, self._num_out = self._hop, 0, 0

    def _take(self, part: np.ndarray) -> np.ndarray:
        """One hop in, the hop before it out."""
        self._seen = np.concatenate((self._seen[self._hop :], part))
        spectrum = np.fft.rfft(self._seen * self._analysis)
        cleaned = np.fft.irfft(spectrum * self._gain(np.abs(spectrum) ** 2 + _LEAST_POWER), len(self._seen))
        written = cleaned[-2 * self._hop :] * self._synthesis
        ready, self._overlap = self._overlap + written[: self._hop], written[self._hop :]
        return ready

    def _gain(self, power: np.ndarray) -> np.ndarray:
        """By band."""
        if self._num_learnt < _LEARNING_HOPS:
            self._num_learnt += 1
            self._noise += (power - self._noise) / self._num_learnt
        ratio = power / self._noise
        likelihood = (1 + _PRIOR) * np.exp(-np.minimum(ratio * _PRIOR / (1 + _PRIOR), 100.0))
        probability = 1 / (1 + likelihood)
        self._probability = 0.9 * self._probability + 0.1 * probability
        probability = np.where(self._probability > _SURE, np.minimum(probability, _SURE), probability)
        expected = probability * self._noise + (1 - probability) * power
        self._noise = _KEPT_NOISE * self._noise + (1 - _KEPT_NOISE) * expected
        speech = _KEPT_SPEECH * self._speech / self._noise + (1 - _KEPT_SPEECH) * np.maximum(ratio - 1, 0.0)
        gain = np.maximum(speech / (1 + speech), self._floor)
        self._speech = gain**2 * power
        return gain


def _windows(size: int, hop: int) -> tuple[np.ndarray, np.ndarray]:
    """To look through, (size,), and to write through, (2 hop,): their product is a Hann window of two hops, and
    such windows add up to one."""
    rising = np.sin(np.pi / 2 * (np.arange(size - hop) + 0.5) / (size - hop))
    falling = np.cos(np.pi / 2 * (np.arange(hop) + 0.5) / hop)
    analysis = np.concatenate((rising, falling))
    hann = np.sin(np.pi * (np.arange(2 * hop) + 0.5) / (2 * hop)) ** 2
    return analysis, hann / analysis[-2 * hop :]
