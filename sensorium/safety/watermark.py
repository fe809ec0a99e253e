"""A mark in generated speech that nobody hears and a program finds: who made this sound, in 16 bits.

The spectrum is cut into cells of 128 ms and 16 Hz, and each is made 1 dB louder or softer, as a secret key says (spread
spectrum: Cox et al. 1997, here as a gain, so that the mark is hidden by the very sound that it is in). The pattern
begins again each 2 s. Half of its cells are always the same, which finds the mark and its beginning; the others carry
the bits. Whoever has the key correlates the loudness of the cells, freed of their surroundings, with the pattern at
every place where it may begin.

Without a mark that correlation is a sum of chance signs, of variance 1 whatever the sound. What counts as found is 5.5
deviations at the best of 128 beginnings: twice in a million sounds by that reckoning. It outlives MP3, Opus,
resampling, noise and cropping (`python -m bench.watermark` measures how well), not a change of speed or pitch.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

RATE_HZ = 16_000
PAYLOAD_BITS = 16
FOUND = 5.5  # deviations
SURE_S = 4.0  # of speech: from here on it is found, after codecs at usual rates too (docs/watermark.md)

_SIZE, _HOP = 1024, 512  # samples of a frame, and from one to the next
_FRAMES_PER_CELL = 4
_CELLS = 16  # in time, until the pattern begins again
_FIRST_BIN, _NUM_BINS = 20, 426  # 313 .. 6953 Hz
_GAIN = 0.12  # nepers: 1 dB
_STEPS = 8  # places in a cell where it is tried whether the pattern begins: each 16 ms
_QUIET = 1e-8  # of the loudest cell's power: in what is softer there is nothing to find
_MOST_DOUBT = 1e-3  # of a payload that is told: so likely it may be wrong
_MOST = 3.0  # of a cell's loudness over its surroundings, in nepers, counts no more than this
_WINDOW = np.sin(np.pi * (np.arange(_SIZE) + 0.5) / _SIZE)  # its square at half overlap sums to 1


class _Pattern(NamedTuple):
    signs: np.ndarray  # (P, B) of +1 and -1
    bits: np.ndarray  # (P, B): the bit that a cell carries, or -1
    synced: np.ndarray  # (P, P * B): the signs of the cells that are always the same, for each place it may begin at


@dataclass(frozen=True, kw_only=True)
class Found:
    """How surely a mark is there, and each bit of its payload, lowest first: positive for a one. All in deviations of
    what unmarked sound gives."""

    score: float
    bits: tuple[float, ...]

    @property
    def is_marked(self) -> bool:
        return self.score >= FOUND

    @property
    def payload_doubt(self) -> float:
        """How likely any bit of the payload is wrong.

        A bit has a sixteenth of the cells that the score has, so the mark moves it a quarter as far, to e or -e, and
        chance moves both by a deviation. What was found at b is then wrong at odds of exp(-2 e |b|), by Bayes' rule.
        """
        expected = max(0.0, self.score) / np.sqrt(PAYLOAD_BITS)
        right = 1.0 / (1.0 + np.exp(-2.0 * expected * np.abs(self.bits)))
        return float(1.0 - np.prod(right))

    @property
    def payload(self) -> int | None:
        """None where it is not certain as a whole."""
        is_certain = self.is_marked and self.payload_doubt <= _MOST_DOUBT
        return sum(1 << number for number, bit in enumerate(self.bits) if bit > 0) if is_certain else None


class Watermarker:
    """Marks sound in pieces, equal but for rounding for any way of cutting it. A sample is given up to 64 ms later."""

    def __init__(self, key: str, payload: int = 0, *, begins_at: int = 0, at_once: int = 0) -> None:
        """The pattern begins as it is `begins_at` samples from its own beginning, to 16 ms: sounds that were marked one
        by one and are then joined hold one mark. The first `at_once` samples are given as they come, without a mark.

        Raises ValueError for a payload of more than 16 bits.
        """
        if not 0 <= payload < 2**PAYLOAD_BITS:
            raise ValueError(f"a payload is a number of 0 to {2**PAYLOAD_BITS - 1}, not {payload}")
        pattern = _pattern(key)
        carried = np.array([1.0, *(1.0 if payload >> bit & 1 else -1.0 for bit in range(PAYLOAD_BITS))])
        gains = np.exp(_GAIN * pattern.signs * carried[pattern.bits + 1])  # (P, B)
        self._gains = np.ones((_CELLS, _SIZE // 2 + 1), np.float32)
        self._gains[:, _FIRST_BIN : _FIRST_BIN + _NUM_BINS] = gains
        self._waiting = np.zeros(_HOP, np.float32)  # begins with half a frame of nothing
        self._tail = np.zeros(_HOP)  # the half of the last frame that the next one is added to
        self._first_frame = round(begins_at / _HOP)  # of the pattern
        self._num_frames = 0
        self._num_due = 0  # samples that were pushed and are not marked yet
        self._num_plain_frames = -(-at_once // _HOP) + 1 if at_once else 0  # all that reach into those given at once
        self._num_at_once = at_once  # that may still be
        self._num_ahead = 0  # samples given that are not through yet

    def push(self, waveform: np.ndarray, *, last: bool = False) -> np.ndarray:
        """(N,) float32 at 16 kHz -> what of it is ready; with `last`, all that remains."""
        early = waveform[: self._num_at_once]
        self._num_at_once -= len(early)
        self._num_ahead += len(early)
        ready = self._through(waveform, last=last)
        known = min(self._num_ahead, len(ready))
        self._num_ahead -= known
        return np.concatenate((early, ready[known:]), dtype=np.float32)

    def _through(self, waveform: np.ndarray, *, last: bool) -> np.ndarray:
        self._num_due += len(waveform)
        ending = np.zeros(2 * _HOP + (-(len(self._waiting) + len(waveform))) % _HOP if last else 0, np.float32)
        self._waiting = np.concatenate((self._waiting, waveform, ending), dtype=np.float32)
        num_frames = max(0, (len(self._waiting) - _HOP) // _HOP)
        if not num_frames:
            return self._waiting[:0]
        frames = np.lib.stride_tricks.sliding_window_view(self._waiting, _SIZE)[::_HOP][:num_frames] * _WINDOW
        numbers = self._num_frames + np.arange(num_frames)
        gains = self._gains[(self._first_frame + numbers) // _FRAMES_PER_CELL % _CELLS]  # (F, 513)
        gains[numbers < self._num_plain_frames] = 1.0
        marked = np.fft.irfft(np.fft.rfft(frames) * gains, _SIZE) * _WINDOW  # (F, 1024)
        halves = np.concatenate((self._tail[None], marked[:, _HOP:]))  # what each frame leaves to the next
        ready = (marked[:, :_HOP] + halves[:-1]).reshape(-1).astype(np.float32)
        ready = ready[_HOP:] if self._num_frames == 0 else ready  # that was the nothing before the sound
        self._tail = halves[-1]
        self._waiting = self._waiting[num_frames * _HOP :]
        self._num_frames += num_frames
        ready = ready[: self._num_due]
        self._num_due -= len(ready)
        return ready


def marked(waveform: np.ndarray, key: str, payload: int = 0) -> np.ndarray:
    """A whole sound, (N,) float32 at 16 kHz, with the mark."""
    return Watermarker(key, payload).push(waveform, last=True)


def find(waveform: np.ndarray, key: str) -> Found:
    """Looks for the mark of a key in a sound, (N,) float32 at 16 kHz. Anything under a second is too short to tell."""
    pattern = _pattern(key)
    power = _power(waveform)
    folded = np.stack([_folded(power[step :: _STEPS // _FRAMES_PER_CELL]).reshape(-1) for step in range(_STEPS)])
    scores = _scores(folded, pattern.synced)  # (steps, shifts)
    step, shift = np.unravel_index(np.argmax(scores), scores.shape)
    cells = np.roll(folded[step].reshape(_CELLS, _NUM_BINS), shift, axis=0).reshape(1, -1)
    carriers = np.stack([np.where(pattern.bits == bit, pattern.signs, 0.0).reshape(-1) for bit in range(PAYLOAD_BITS)])
    return Found(score=float(scores[step, shift]), bits=tuple(_scores(cells, carriers)[0].tolist()))


@lru_cache(maxsize=8)
def _pattern(key: str) -> _Pattern:
    rng = np.random.default_rng(int.from_bytes(hashlib.blake2b(key.encode(), digest_size=16).digest()))
    shape = (_CELLS, _NUM_BINS)
    signs = rng.choice((-1.0, 1.0), shape)
    places = np.full(_CELLS * _NUM_BINS, -1)
    num_carriers = len(places) // 2 // PAYLOAD_BITS * PAYLOAD_BITS
    places[:num_carriers] = np.arange(num_carriers) % PAYLOAD_BITS
    bits = rng.permutation(places).reshape(shape)
    always = np.where(bits < 0, signs, 0.0)
    return _Pattern(signs, bits, np.stack([np.roll(always, -shift, axis=0).reshape(-1) for shift in range(_CELLS)]))


def _scores(cells: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Correlations in deviations, (N, C) with (K, C) -> (N, K): with chance signs of variance 1 whatever the cells. A
    sign of 0 leaves a cell out."""
    return cells @ signs.T / (np.sqrt(np.square(cells) @ np.abs(signs.T)) + 1e-12)


def _power(waveform: np.ndarray) -> np.ndarray:
    """Of frames of which one begins at every place that a pattern may, and of the bins that are marked: (F, B)."""
    if len(waveform) < _SIZE:
        return np.zeros((0, _NUM_BINS))
    hop = _HOP * _FRAMES_PER_CELL // _STEPS
    frames = np.lib.stride_tricks.sliding_window_view(waveform, _SIZE)[::hop]
    spectrum = np.fft.rfft(frames * _WINDOW)[:, _FIRST_BIN : _FIRST_BIN + _NUM_BINS]
    return np.square(np.abs(spectrum))


def _folded(power: np.ndarray) -> np.ndarray:
    """How much louder each cell is than its surroundings, all repetitions of the pattern added up: frames half a frame
    apart (F, B) -> (P, B)."""
    num_cells = len(power) // _FRAMES_PER_CELL
    if not num_cells:
        return np.zeros((_CELLS, _NUM_BINS))
    bins = power[: num_cells * _FRAMES_PER_CELL].reshape(num_cells, _FRAMES_PER_CELL, _NUM_BINS).mean(axis=1)  # (T, B)
    heard = bins > _QUIET * bins.max()
    level = 0.5 * np.log(bins + 1e-12)
    over = np.clip(level - _surroundings(level), -_MOST, _MOST) * heard
    whole = np.pad(over, ((0, -num_cells % _CELLS), (0, 0)))
    return whole.reshape(-1, _CELLS, _NUM_BINS).sum(axis=0)


def _surroundings(level: np.ndarray) -> np.ndarray:
    """The mean of each cell and its two neighbours in frequency, (T, B): in time speech changes much more."""
    padded = np.pad(level, ((0, 0), (1, 1)), mode="edge")
    return (padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]) / 3
