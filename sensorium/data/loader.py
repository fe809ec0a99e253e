"""Batches as a pure function of the step: a resumed run sees what an unbroken one would have seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sensorium.data.corpus import Clips


def clip_batch(clips: Clips, step: int, *, seed: int, batch_size: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Random crops of `steps` x 20 ms: waveforms (B, N) float32, phonemes (B, steps) int64."""
    rng = np.random.default_rng((seed, step))
    crops = [clips.crop(int(index), steps=steps, rng=rng) for index in rng.integers(len(clips), size=batch_size)]
    return np.stack([waveform for waveform, _ in crops]), np.stack([phonemes for _, phonemes in crops])


class Pictures:
    """All pictures of a corpus."""

    def __init__(self, shards: Sequence[Path]) -> None:
        self._images = [np.load(shard / "images.npy", mmap_mode="r") for shard in shards]
        self._labels = [np.load(shard / "labels.npy", mmap_mode="r") for shard in shards]
        self._ends = np.cumsum([len(images) for images in self._images])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (S, S, 3) uint8 and labels (rows, columns, across, 3) int8 of `pictures.patch_labels`."""
        shard = int(np.searchsorted(self._ends, index, side="right"))
        row = index - (self._ends[shard - 1] if shard else 0)
        return self._images[shard][row], self._labels[shard][row]

    def batch(self, step: int, *, seed: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (B, S, S, 3) uint8 and labels (B, rows, columns, across, 3) int8."""
        rng = np.random.default_rng((seed, step))
        drawn = [self[int(index)] for index in rng.integers(len(self), size=batch_size)]
        return np.stack([pixels for pixels, _ in drawn]), np.stack([labels for _, labels in drawn])
