"""Long sound, cut where nobody speaks: stretches that the network can hear at once, with their place in the whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sensorium.server.turns import RATE_HZ, WINDOW, VoiceActivity, release_of

WINDOW_S = WINDOW / RATE_HZ
_ONSET_WINDOWS = 2  # so many in a row must hold speech: a click is none


@dataclass(frozen=True, kw_only=True)
class Cutting:
    """When a stretch begins and ends. The defaults are OpenAI's of `server_vad`."""

    threshold: float = 0.5
    prefix_padding_ms: int = 300
    silence_duration_ms: int = 200
    longest_s: float = 10.0  # a longer one is cut where it is quietest: the network was taught on a sentence at a time


@dataclass(frozen=True, kw_only=True, eq=False)
class Segment:
    start_s: float  # of the waveform, in the whole
    waveform: np.ndarray  # (N,) float32 at 16 kHz
    speech: float  # how sure the detector was of speech in it, at the mean of its windows

    @property
    def end_s(self) -> float:
        return self.start_s + len(self.waveform) / RATE_HZ


class Segmenter:
    """Sound in pieces of any size -> segments as they are complete. It keeps no more than the longest one."""

    def __init__(self, cutting: Cutting) -> None:
        self._cutting = cutting
        self._release = release_of(cutting.threshold)
        self._activity = VoiceActivity()
        self._sound = np.zeros(0, np.float32)  # what may still be of a segment, from `_start` on
        self._start = 0  # in samples of the whole
        self._num_seen = 0  # samples that the detector has seen the whole windows of
        self._onset: int | None = None  # where in the whole the segment under way begins
        self._run = 0  # windows in a row that speak for a change
        self._probabilities: list[float] = []  # of the segment's windows

    def push(self, waveform: np.ndarray, *, last: bool = False) -> Iterator[Segment]:
        """(N,) float32 at 16 kHz; with `last`, the segment that is not over ends here. Blocks for milliseconds."""
        self._sound = np.concatenate((self._sound, waveform))
        if last:
            waveform = np.concatenate((waveform, np.zeros(WINDOW, np.float32)))  # what is left of a window counts too
        for probability in self._activity.push(waveform):
            self._num_seen += WINDOW
            yield from self._speech(probability) if self._onset is not None else self._silence(probability)
        if last and self._onset is not None:
            yield self._cut(self._start + len(self._sound))

    def _silence(self, probability: float) -> Iterator[Segment]:
        self._run = self._run + 1 if probability >= self._cutting.threshold else 0
        padding = self._cutting.prefix_padding_ms * RATE_HZ // 1000
        if self._run >= _ONSET_WINDOWS:
            self._onset = max(self._start, self._num_seen - self._run * WINDOW - padding)
            self._run, self._probabilities = 0, [probability] * _ONSET_WINDOWS
        else:
            self._forget(self._num_seen - (_ONSET_WINDOWS + 1) * WINDOW - padding)
        yield from ()

    def _speech(self, probability: float) -> Iterator[Segment]:
        assert self._onset is not None
        self._probabilities.append(probability)
        self._run = 0 if probability >= self._release else self._run + 1
        if self._run and self._run * WINDOW >= self._cutting.silence_duration_ms * RATE_HZ / 1000:
            yield self._cut(min(self._num_seen, self._start + len(self._sound)))
        elif self._num_seen - self._onset >= self._cutting.longest_s * RATE_HZ:
            at = self._quietest()
            yield self._cut(at)
            self._onset = at  # somebody is still speaking
            self._probabilities = [probability]

    def _quietest(self) -> int:
        """The middle of the window of the segment's second half that holds least."""
        assert self._onset is not None
        begin = self._onset + (self._num_seen - self._onset) // 2
        half = self._sound[begin - self._start : self._num_seen - self._start]
        windows = half[: len(half) - len(half) % WINDOW].reshape(-1, WINDOW)
        return begin + int(np.argmin(np.square(windows).mean(axis=1))) * WINDOW + WINDOW // 2

    def _cut(self, end: int) -> Segment:
        assert self._onset is not None
        waveform = self._sound[self._onset - self._start : end - self._start]
        speech = float(np.mean(self._probabilities))
        segment = Segment(start_s=self._onset / RATE_HZ, waveform=waveform, speech=speech)
        self._onset, self._run = None, 0
        self._forget(end)
        return segment

    def _forget(self, before: int) -> None:
        if before > self._start:
            self._sound = self._sound[before - self._start :]
            self._start = before
