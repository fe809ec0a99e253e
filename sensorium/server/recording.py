"""Sound that is kept: 16-bit samples that grow as sound comes, and FLAC when it is complete.

All that is heard or said in a call is kept for as long as its item is: clients may ask for it, cut it short, and delete
what came before it, after which the network reads it once more. Read again, it is to the bit what was read before.
"""

from __future__ import annotations

import asyncio
import io
from typing import Any

import numpy as np
import soundfile

_FULL_SCALE = 32768.0


class Recording:
    """A waveform, mono. What is read of it, and how long it is, is the same whether it is packed or not."""

    def __init__(self, waveform: np.ndarray | None = None, *, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self._samples = np.zeros(0, np.int16)  # with room to grow: those from `_begin` until `_end` are the sound's
        self._begin = self._end = 0
        self._packed: bytes | None = None  # instead of the samples: FLAC
        self._num_changes = 0
        self.is_gone = False
        if waveform is not None:
            self.append(waveform)

    def __len__(self) -> int:
        """Samples, those too that were dropped."""
        return self._end - self._begin

    @property
    def num_bytes(self) -> int:
        return self._samples.nbytes if self._packed is None else len(self._packed)

    @property
    def duration_ms(self) -> int:
        return round(1000 * len(self) / self.rate_hz)

    def append(self, waveform: np.ndarray) -> None:
        """(N,) float32; what lies outside [-1, 1] is clipped. Takes as long as the piece is, however much there is."""
        self._change()
        end = self._end + len(waveform)
        if end > len(self._samples):
            held = self._samples[self._begin : self._end]
            self._samples = np.empty(2 * (len(held) + len(waveform)), np.int16)
            self._samples[: len(held)] = held
            self._begin, self._end, end = 0, len(held), len(held) + len(waveform)
        self._samples[self._end : end] = _integers(waveform)
        self._end = end

    def read(self, begin: int = 0, end: int | None = None) -> np.ndarray:
        """(N,) float32, the samples from `begin` until `end`, a copy."""
        return _floats(self._all()[begin:end])

    async def load(self) -> np.ndarray:
        """All of it, as `read`: what is packed takes up to a tenth of a second, and is unpacked in a thread."""
        assert not self.is_gone
        return self.read() if self._packed is None else await asyncio.to_thread(_unpacked, self._packed)

    def part(self, begin: int, end: int) -> Recording:
        """The samples from `begin` until `end`, as a recording of their own."""
        twin = Recording(rate_hz=self.rate_hz)
        twin._samples = self._all()[begin:end].copy()
        twin._end = len(twin._samples)
        return twin

    def forget(self, count: int) -> None:
        """The oldest samples go."""
        self._change()
        self._begin = min(self._begin + count, self._end)
        if len(self) < len(self._samples) // 4:
            self.cut(len(self))  # the room that they took goes too

    def cut(self, count: int) -> None:
        """The oldest samples stay, the others go."""
        self._change()
        self._end = min(self._end, self._begin + count)
        if not self.is_gone:
            self._samples = self._all().copy()
            self._begin, self._end = 0, len(self._samples)

    def drop(self) -> None:
        """All samples go, but how long they took is still known."""
        self._num_changes += 1
        self._samples, self._packed, self.is_gone = np.zeros(0, np.int16), None, True
        self._begin, self._end = 0, len(self)

    async def pack(self) -> None:
        """Takes less room from now on, unless it is changed meanwhile."""
        if self._packed is not None or self.is_gone or not len(self):
            return
        samples, num_changes = self._all(), self._num_changes
        packed = await asyncio.to_thread(_flac, samples, self.rate_hz)  # a minute takes tens of milliseconds
        if num_changes == self._num_changes:
            self._packed, self._samples = packed, np.zeros(0, np.int16)

    def _change(self) -> None:
        self._num_changes += 1
        if self._packed is not None:
            self._samples, self._packed = self._all(), None
            self._begin, self._end = 0, len(self._samples)

    def _all(self) -> np.ndarray:
        """(N,) int16."""
        assert not self.is_gone
        return self._samples[self._begin : self._end] if self._packed is None else _integers_of(self._packed)


def _flac(samples: np.ndarray, rate_hz: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def _integers_of(packed: bytes) -> np.ndarray:
    read: Any = soundfile.read(io.BytesIO(packed), dtype="int16")
    return read[0]


def _unpacked(packed: bytes) -> np.ndarray:
    return _floats(_integers_of(packed))


def _integers(waveform: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(waveform * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)


def _floats(samples: np.ndarray) -> np.ndarray:
    return samples.astype(np.float32) / np.float32(_FULL_SCALE)
