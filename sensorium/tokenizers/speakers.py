"""Who speaks: a short vector for a stretch of speech, from what the codec's encoder makes of it.

The encoder's features are mostly about what is said. Linear discriminant analysis (Fisher 1936) finds a few directions
in which stretches of one speaker differ little and those of different ones much; `recipes/speakers.py` does it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from safetensors.numpy import load_file, save_file

_LOUD = 0.3  # of the loudest frame's level: others hold more of the room than of the voice


@dataclass(frozen=True, kw_only=True, eq=False)
class SpeakerSpace:
    mean: np.ndarray  # (D,) of all speakers' features
    projection: np.ndarray  # (D, V)

    @classmethod
    def fit(cls, voices: np.ndarray, speakers: np.ndarray, *, size: int) -> Self:
        """voices (N, D), as `mean_voice` gives them, and whose each is, (N,) -> the `size` best directions."""
        mean = voices.mean(axis=0)
        each = np.stack([voices[speakers == speaker].mean(axis=0) for speaker in np.unique(speakers)])
        own = each[np.searchsorted(np.unique(speakers), speakers)]
        within = (voices - own).T @ (voices - own) / len(voices)
        within = 0.5 * within + 0.5 * np.diag(np.diag(within))  # shrunk: there are few stretches for so many figures
        values, vectors = np.linalg.eigh(within + 1e-3 * np.trace(within) / len(within) * np.eye(len(within)))
        whitening = vectors @ np.diag(values**-0.5) @ vectors.T
        between = whitening.T @ ((each - mean).T @ (each - mean)) @ whitening
        _, directions = np.linalg.eigh(between)
        projection = whitening @ directions[:, -size:]
        return cls(mean=mean.astype(np.float32), projection=projection.astype(np.float32))

    @classmethod
    def load(cls, path: Path) -> Self:
        return cls(**load_file(path))

    def save(self, path: Path) -> None:
        save_file({"mean": self.mean, "projection": np.ascontiguousarray(self.projection)}, path)

    def voice(self, mean_voice: np.ndarray) -> np.ndarray:
        """(D,) -> (V,); the cosine between two tells whether they are of one speaker."""
        return (mean_voice - self.mean) @ self.projection


def mean_voice(features: np.ndarray, waveform: np.ndarray) -> np.ndarray:
    """Features (F, D) of the frames of a waveform (N,) -> (D,), over the loud ones."""
    size = -(-len(waveform) // len(features))
    padded = np.pad(waveform, (0, size * len(features) - len(waveform)))
    level = np.sqrt(np.square(padded.reshape(len(features), size)).mean(axis=1))
    return features[level >= _LOUD * level.max()].mean(axis=0)
