"""Whether the user has finished, by what the network thought of it frame by frame.

The network gives the probability of `<|turn|>` after every 80 ms. At a pause it is high for a frame now and then, at an
end it stays high: so its log odds are smoothed, eight tenths of them new with each frame. (Smoothed probabilities cut
twice as many pauses for the same haste: between 0.9 and 0.99 lies as much as between 0.5 and 0.9.) One or two pauses
between 0.2 and 1.2 s in 282 held-out sentences of unseen voices, and 282 without, with the noise of the line at none,
-80 and -60 dB, heard by tiny; two in three are one of eight turns of a call (`python -m bench.turns --seed 77`, and
`--call 8` with --seed 77 and 78; ms from the end of speech, p50 / p95 of sentences with / without pauses):

    over when                         cut at a pause   not ended within 1.5 s   found after
    the last frame >= 0.8, 80 ms             7.1 %            1.4 %             164 / 379, 170 / 361
    the last two >= 0.8                      4.6              1.8               203 / 592, 208 / 731
    smoothed >= 0.8                          6.4              0                138 / 605, 144 / 1134
    smoothed >= 0.85                         5.0              0                145 / 632, 150 / 1208
    smoothed >= 0.9                          3.5              0                156 / 748, 166 / 1222
    smoothed >= 0.92                         3.2              0                165 / 789, 173 / 1239
    smoothed >= 0.95                         2.1              0               207 / 1032, 209 / 1282

What the detector calls silence costs nothing more than one window: 32 ms for 80 changes no cut, and saves 40 ms. An end
that was not seen for one is taken for it after a longer silence, if it was at least likely: then few are left open. How
sure a network is, is its own: nano is seldom sure over comfort noise, and ends its turns after 1.3 s.
"""

from __future__ import annotations

from collections import deque
from math import exp, log
from typing import Literal, NamedTuple, TypeAlias

Eagerness: TypeAlias = Literal["low", "medium", "high", "auto"]

SMOOTHING = 0.2  # of what was thought before, so much stays at each frame
LIKELY = 0.3  # what a long silence takes for an end, if it was thought so at any time in it
_FRAMES_IN_SILENCE = 16  # that are looked back on: 1.28 s
_AT_FIRST = -4.0  # log odds at the beginning of a turn: nobody ends at once
_MOST_SURE = 0.985  # that one frame may be: it alone ends a turn, but for the patient


class Patience(NamedTuple):
    silence_ms: int  # at least so long nobody must have spoken
    sure: float  # the smoothed probability that ends a turn then
    long_silence_ms: int  # behind which `LIKELY` is enough


PATIENCE: dict[Eagerness, Patience] = {
    "high": Patience(32, 0.8, 1280),
    "medium": Patience(32, 0.9, 1280),
    "auto": Patience(32, 0.9, 1280),
    "low": Patience(160, 0.95, 2560),
}


class TurnEnd:
    """Of one turn."""

    def __init__(self) -> None:
        self._log_odds = deque([_AT_FIRST], maxlen=_FRAMES_IN_SILENCE)

    def add(self, probability: float) -> None:
        """After one more frame."""
        thought = min(max(probability, 1 - _MOST_SURE), _MOST_SURE)
        new = log(thought / (1 - thought))
        self._log_odds.append(SMOOTHING * self._log_odds[-1] + (1 - SMOOTHING) * new)

    @property
    def probability(self) -> float:
        return _probability(self._log_odds[-1])

    def is_over(self, silence_ms: int, patience: Patience) -> bool:
        if silence_ms >= patience.long_silence_ms and _probability(max(self._log_odds)) >= LIKELY:
            return True
        return silence_ms >= patience.silence_ms and self.probability >= patience.sure


def _probability(log_odds: float) -> float:
    return 1 / (1 + exp(-log_odds))
