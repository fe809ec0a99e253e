"""Pieces of speech that were said one by one, joined to one: without gaps between them, and without clicks."""

from __future__ import annotations

import numpy as np

_QUIET = 0.01  # of full scale: what stays below is no speech
_KEPT_MS = 30  # of the silence around a piece
_FADE_MS = 4  # at its ends
_BLOCK_MS = 10  # looked at together


class Joiner:
    """`push` for the sound of a piece as it comes, `end` behind it. The silence around a piece is cut to 30 ms, and so
    many milliseconds of silence follow as `end` is told."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._block = rate_hz * _BLOCK_MS // 1000
        self._kept = rate_hz * _KEPT_MS // 1000
        self._begin()

    def push(self, waveform: np.ndarray) -> np.ndarray:
        """The samples, (N,) float32, of which it is certain that they stay."""
        self._held = np.concatenate((self._held, waveform), dtype=np.float32)
        loud = self._loud_blocks()
        if not len(loud):
            if not self._speaking:  # of the silence before the first sound only the end may be kept
                self._held = self._held[max(0, len(self._held) - self._kept - self._block) :]
            return self._held[:0]
        start = 0
        if not self._speaking:
            start = max(0, int(loud[0]) * self._block - self._kept)
        end = max(start, int(loud[-1]) * self._block)  # what may be the last of it waits, to be faded out
        ready, self._held = self._held[start:end], self._held[end:]
        if not self._speaking and len(ready):
            self._speaking = True
            ready = _faded(ready, self._fade, at_start=True)
        return ready

    def end(self, pause_ms: int) -> np.ndarray:
        """The rest of the piece, and the silence behind it."""
        loud = self._loud_blocks()
        start, end = (0 if self._speaking else len(self._held)), self._kept
        if len(loud):
            end += (int(loud[-1]) + 1) * self._block
            start = 0 if self._speaking else max(0, int(loud[0]) * self._block - self._kept)
        rest = self._held[start:end]
        if not self._speaking:
            rest = _faded(rest, self._fade, at_start=True)
        rest = _faded(rest, self._fade, at_start=False)
        silence = np.zeros(self._rate_hz * pause_ms // 1000, np.float32)
        self._begin()
        return np.concatenate((rest, silence))

    @property
    def _fade(self) -> int:
        return self._rate_hz * _FADE_MS // 1000

    def _begin(self) -> None:
        self._held = np.zeros(0, np.float32)
        self._speaking = False

    def _loud_blocks(self) -> np.ndarray:
        whole = np.pad(np.abs(self._held), (0, -len(self._held) % self._block)).reshape(-1, self._block)
        return np.flatnonzero(whole.max(axis=1, initial=0.0) >= _QUIET)


def _faded(waveform: np.ndarray, size: int, *, at_start: bool) -> np.ndarray:
    size = min(size, len(waveform))
    slope = np.linspace(0.0, 1.0, size, endpoint=False, dtype=np.float32)
    faded = waveform.copy()
    if at_start:
        faded[:size] *= slope
    else:
        faded[len(faded) - size :] *= slope[::-1]
    return faded
