"""Whether the user has finished, by what the network thought of it frame by frame.

The network gives the probability of `<|turn|>` after every 80 ms. At a pause it is high for a frame now and then, at an
end it stays high: so it is smoothed, half of it new with each frame. One or two pauses between 0.2 and 1.2 s in 150
held-out sentences of unseen voices, and 150 without, with the noise of the line at none, -80 and -60 dB, heard by tiny
(`python -m bench.turns`; ms from the end of speech, p50 / p95 of sentences with / without pauses):

    over when                         cut at a pause   not ended within 1.5 s   found after
    the last frame >= 0.8, 80 ms            23.3 %            4.0 %             173 / 425, 162 / 246
    the last two >= 0.7                      7.3              2.7               211 / 435, 199 / 336
    smoothed >= 0.6                         12.7              2.7               205 / 370, 196 / 274
    smoothed >= 0.7                          8.0              3.3               234 / 486, 216 / 288
    smoothed >= 0.8                          4.0              5.3               297 / 731, 287 / 413
    smoothed >= 0.9                          2.0             11.3               409 / 1187, 376 / 891

What the detector calls silence costs nothing more than one window: 32 ms for 80 changes no cut, and saves 40 ms. An end
that was not seen for one is taken for it after a longer silence, if it was at least likely: each then leaves 0.7 %
open. How sure a network is, is its own: nano is seldom sure over comfort noise, and ends its turns after 1.3 s.
"""

from __future__ import annotations

from collections import deque
from typing import Literal, NamedTuple, TypeAlias

Eagerness: TypeAlias = Literal["low", "medium", "high", "auto"]

SMOOTHING = 0.5  # of what was thought before, so much stays at each frame
LIKELY = 0.3  # what a long silence takes for an end, if it was thought so at any time in it
_FRAMES_IN_SILENCE = 16  # that are looked back on: 1.28 s


class Patience(NamedTuple):
    silence_ms: int  # at least so long nobody must have spoken
    sure: float  # the smoothed probability that ends a turn then
    long_silence_ms: int  # behind which `LIKELY` is enough


PATIENCE: dict[Eagerness, Patience] = {
    "high": Patience(32, 0.5, 1280),
    "medium": Patience(32, 0.7, 1280),
    "auto": Patience(32, 0.7, 1280),
    "low": Patience(160, 0.8, 2560),
}


class TurnEnd:
    """Of one turn."""

    def __init__(self) -> None:
        self._smoothed = deque([0.0], maxlen=_FRAMES_IN_SILENCE)

    def add(self, probability: float) -> None:
        """After one more frame."""
        self._smoothed.append(SMOOTHING * self._smoothed[-1] + (1 - SMOOTHING) * probability)

    @property
    def probability(self) -> float:
        return self._smoothed[-1]

    def is_over(self, silence_ms: int, patience: Patience) -> bool:
        if silence_ms >= patience.long_silence_ms and max(self._smoothed) >= LIKELY:
            return True
        return silence_ms >= patience.silence_ms and self.probability >= patience.sure
