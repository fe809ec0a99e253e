"""Who speaks when: each stretch of speech goes to the speaker whose voice is nearest, or to a new one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FARTHEST = 0.5  # cosine distance of a stretch from its speaker's others: of two stretches 0.4 divides best, see recipes


class Speakers:
    """`name` gives each stretch its speaker: one of the known names, or A, B, C in the order in which they are met."""

    def __init__(self, known: Sequence[tuple[str, np.ndarray]] = (), *, farthest: float = FARTHEST) -> None:
        self._farthest = farthest
        self._names = [name for name, _ in known]
        self._sums = [_unit(voice) for _, voice in known]  # of the voices of each
        self._num_new = 0

    def name(self, voice: np.ndarray) -> str:
        """voice: (V,) of a stretch of speech, as `Transcribed.voice`."""
        voice = _unit(voice)
        distances = [1.0 - float(_unit(total) @ voice) for total in self._sums]
        nearest = int(np.argmin(distances)) if distances else -1
        if nearest < 0 or distances[nearest] > self._farthest:
            nearest = len(self._sums)
            self._sums.append(np.zeros_like(voice))
            self._names.append(_letters(self._num_new))
            self._num_new += 1
        self._sums[nearest] = self._sums[nearest] + voice
        return self._names[nearest]


def _unit(voice: np.ndarray) -> np.ndarray:
    return voice / (np.linalg.norm(voice) + 1e-9)


def _letters(number: int) -> str:
    """A .. Z, AA, AB .."""
    letters = ""
    number += 1
    while number:
        number, digit = divmod(number - 1, 26)
        letters = chr(ord("A") + digit) + letters
    return letters
