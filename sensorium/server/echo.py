"""Whether a microphone hears the user or only the assistant's own voice, back from the client's loudspeaker.

What was sent is kept on the clock of when it is played. Where the detector takes the microphone's sound for speech, the
last half second of it is compared with what was played up to half a second before: at the delay at which they agree
best (generalised cross-correlation, Knapp and Carter 1976), the coherence of the two tells which share of the sound's
energy the loudspeaker explains. Nothing has to adapt first, so the first word of a call is judged as well as any other.

Of echo alone 92 to 96 % is explained in a dry room, 61 to 69 % in a bare one that echoes for half a second; of a user
who is as loud as the echo 45 to 51 % and 29 to 36 %; of a user without any echo 3 % (docs/log.md).
"""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

RATE_HZ = 16_000
HEARD = 7_680  # samples that are compared: 480 ms
MAX_DELAY = 8_000  # samples by which the room, the client's buffers and the network may delay the echo: 500 ms
PLAYED = HEARD + MAX_DELAY
_SEGMENT, _HOP = 1024, 256
_WHITENING = 0.7
_MOST_CHANCE = 0.95
_QUIET = 1e-3  # a loudspeaker that plays no more than this explains nothing
_USUAL, _PACE = 0.65, 0.05
_LEAST = 0.7  # of the share that is usual in the room, so much must be explained
_CLEAR = 40  # windows without an echo while one must have come, as of 0.8 s of playing, say that there is none


class Loudspeaker:
    """What a client plays that plays sound as it comes, by `time.monotonic`."""

    def __init__(self) -> None:
        self._sound = np.zeros(0, np.float32)
        self._start_s = 0.0  # when the first sample of it is played

    def play(self, waveform: np.ndarray) -> None:
        """(N,) float32 at 16 kHz was sent: it is played now, or behind what is being played."""
        now_s = time.monotonic()
        gap = round((now_s - self._start_s) * RATE_HZ) - len(self._sound)
        if gap > PLAYED:
            self._sound, self._start_s, gap = np.zeros(0, np.float32), now_s, 0
        parts = (self._sound, np.zeros(max(gap, 0), np.float32), waveform.astype(np.float32))
        self._sound = np.concatenate(parts)
        self._forget(now_s)

    def stop(self) -> None:
        """What was not played yet is dropped."""
        played = round((time.monotonic() - self._start_s) * RATE_HZ)
        self._sound = self._sound[: max(played, 0)]

    def last(self, count: int) -> np.ndarray | None:
        """The newest `count` samples played by now, (count,); None where all of them are silent."""
        end = round((time.monotonic() - self._start_s) * RATE_HZ)
        played = self._sound[max(end - count, 0) : max(end, 0)]
        if not len(played) or np.abs(played).max() < _QUIET:
            return None
        missing = min(max(end - len(self._sound), 0), count)
        return np.pad(played, (count - len(played) - missing, missing))

    def _forget(self, now_s: float) -> None:
        old = round((now_s - self._start_s) * RATE_HZ) - 2 * PLAYED
        if old > 0:
            self._sound = self._sound[old:]
            self._start_s += old / RATE_HZ


class EchoCheck:
    """Learns, call by call, how much of an echo is usually explained (the less, the barer the room), and whether there
    is one at all: with headphones, or where a client cancels echoes, none comes back."""

    def __init__(self) -> None:
        self._usual = _USUAL
        self.was_heard = False  # an echo, in this call
        self._num_clear = 0  # windows in which nothing was heard of what must have come back by then

    def is_echo(self, heard: np.ndarray, played: np.ndarray) -> bool:
        """heard: (HEARD,), played: (PLAYED,), both up to the same moment. Of what has just begun to be played any two
        sounds may seem to be one, so there it counts whether an echo is to be expected."""
        older_is_silent, newer_is_silent = _halves_are_silent(played)
        if older_is_silent and (newer_is_silent or self.is_clear):
            return False
        share = explained(heard, played)
        if share.at_most < _LEAST * self._usual:
            return False
        self._usual += _PACE * (share.at_most - self._usual)
        self.was_heard |= not older_is_silent and share.at_least >= _LEAST * self._usual
        return True

    def nothing_heard(self, played: np.ndarray) -> None:
        """In a window behind so much that was played, (PLAYED,), nobody spoke, nor seemed to."""
        is_silent, _ = _halves_are_silent(played)  # the one whose echo must have come by now
        self._num_clear = min(self._num_clear + (not is_silent), 2 * _CLEAR)

    def is_doubtful(self, played: np.ndarray) -> bool:
        """Whether what seems to be speech may be an echo that cannot be told yet, since there are but some 50 ms of it:
        the loudspeaker was silent until lately, and nothing says that its sound does not come back."""
        return _has_just_begun(played) and not self.is_clear

    def turn_began(self, played: np.ndarray) -> None:
        """Should that have been an echo after all, the next but one will be doubted at the latest."""
        if _has_just_begun(played):
            self._num_clear = max(self._num_clear - _CLEAR, 0)

    @property
    def is_clear(self) -> bool:
        """Whether the call is known to have no echo."""
        return not self.was_heard and self._num_clear >= _CLEAR


def _has_just_begun(played: np.ndarray) -> bool:
    return _halves_are_silent(played) == (True, False)


def _halves_are_silent(played: np.ndarray) -> tuple[bool, bool]:
    """The older half of what was played, and the newer one."""
    older, newer = np.abs(played[: len(played) // 2]), np.abs(played[len(played) // 2 :])
    return bool(older.max() < _QUIET), bool(newer.max() < _QUIET)


class Explained(NamedTuple):
    """Shares, 0 to 1."""

    at_most: float  # without what would agree by chance if all of it were loud
    at_least: float  # without what would of the moments in which both are


def explained(heard: np.ndarray, played: np.ndarray) -> Explained:
    """How much of what is heard a filter of what was played can make up. Shapes as for `is_echo`."""
    start = _alignment(heard, played)
    at = np.arange(0, len(heard) - _SEGMENT + 1, _HOP)[:, None] + np.arange(_SEGMENT)
    window = np.hanning(_SEGMENT)
    one, other = (np.fft.rfft(x[at] * window) for x in (heard, played[start : start + len(heard)]))  # (S, F)
    powers, references = (np.square(np.abs(x)) for x in (one, other))
    loud = np.sqrt(powers.sum(axis=1) * references.sum(axis=1))  # (S,)
    num_loud = np.square(loud.sum()) / (np.square(loud).sum() + 1e-12)
    power, reference = powers.sum(axis=0), references.sum(axis=0)  # (F,)
    coherence = np.square(np.abs((one * other.conj()).sum(axis=0))) / (power * reference + 1e-12)
    shares = [
        float((np.clip((coherence - chance) / (1 - chance), 0, 1) * power).sum() / (power.sum() + 1e-12))
        for chance in (min(_SEGMENT / (1.5 * count * _HOP + 1e-12), _MOST_CHANCE) for count in (len(at), num_loud))
    ]
    return Explained(*shares)


def _alignment(heard: np.ndarray, played: np.ndarray) -> int:
    """Where in what was played the sound that is heard begins."""
    size = 1 << (len(played) - 1).bit_length()  # beyond the delays that count, sums may wrap around
    cross = np.fft.rfft(played, size) * np.fft.rfft(heard, size).conj()
    level = np.abs(cross)  # whitened altogether, a short echo would be lost in the noise before it
    whitened = np.fft.irfft(cross / (level + 1e-6 * level.max() + 1e-12) ** _WHITENING, size)
    return int(np.abs(whitened[: len(played) - len(heard) + 1]).argmax())
