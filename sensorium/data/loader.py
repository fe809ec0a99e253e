"""Batches as a pure function of the step: a resumed run sees what an unbroken one would have seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sensorium.data.corpus import Clips, read_lines


def clip_batch(clips: Clips, step: int, *, seed: int, batch_size: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Random crops of `steps` x 20 ms: waveforms (B, N) float32, phonemes (B, steps) int64."""
    rng = np.random.default_rng((seed, step))
    crops = [clips.crop(int(index), steps=steps, rng=rng) for index in rng.integers(len(clips), size=batch_size)]
    return np.stack([waveform for waveform, _ in crops]), np.stack([phonemes for _, phonemes in crops])


class Answers:
    """What the assistant says in the documents, one answer after the other: as sound, in the codes of the encoder, and
    in the network's own (`sensorium.training.retelling`)."""

    def __init__(
        self, documents: Sequence[Path], encoded: Sequence[Path], retold: Sequence[Path], *, frame_size: int
    ) -> None:
        self._frame_size = frame_size
        self._sound: list[np.ndarray] = []
        places, true, own = [], [], []  # of every frame: (shard, first sample, end of the answer), and its codes
        for shard, (document, code, retelling) in enumerate(zip(documents, encoded, retold, strict=True)):
            path = document / "audio.npy"
            self._sound.append(np.load(path, mmap_mode="r") if path.exists() else np.zeros(0, dtype=np.int16))
            ends = np.cumsum([0, *(record["samples"] for record in read_lines(document / "clips.jsonl"))])
            starts = np.load(code / "audio_starts.npy")
            clips = np.load(retelling / "clips.npy")
            rows = [row for clip in clips for row in range(starts[clip], starts[clip + 1])]
            true.append(np.load(code / "audio_codes.npy")[rows])
            own.append(np.load(retelling / "audio_codes.npy")[rows])
            places += [
                (shard, first, ends[clip + 1])
                for clip in clips
                for first in ends[clip] + frame_size * np.arange(starts[clip + 1] - starts[clip])
            ]
        self._places = np.array(places)  # (F, 3)
        self._true, self._own = np.concatenate(true), np.concatenate(own)  # (F, 1 + R)

    def __len__(self) -> int:
        return len(self._places)

    def batch(
        self, step: int, *, seed: int, batch_size: int, frames: int, own_share: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Random stretches: waveforms (B, frames * frame_size) float32, codes (B, frames, 1 + R) int64.

        Of the stretches `own_share` are in the network's own codes.
        """
        rng = np.random.default_rng((seed, step))
        size = self._frame_size
        waveforms = np.zeros((batch_size, frames, size), dtype=np.float32)
        codes = np.zeros((batch_size, frames, self._true.shape[1]), dtype=np.int64)
        for row, start in enumerate(rng.integers(len(self) - frames + 1, size=batch_size)):
            stretch = slice(start, start + frames)
            for frame, (shard, first, end) in enumerate(self._places[stretch]):
                sound = self._sound[shard][first : min(first + size, end)]
                waveforms[row, frame, : len(sound)] = sound / np.float32(32768.0)
            codes[row] = (self._own if rng.random() < own_share else self._true)[stretch]
        return waveforms.reshape(batch_size, -1), codes


class Drawings:
    """What the assistant draws in the documents: as pixels, in the codes of the encoder, and in the network's own."""

    def __init__(self, documents: Sequence[Path], encoded: Sequence[Path], retold: Sequence[Path]) -> None:
        self._pixels: list[np.ndarray] = []
        self._places: list[tuple[int, int]] = []  # shard, image
        true, own = [], []
        for shard, (document, code, retelling) in enumerate(zip(documents, encoded, retold, strict=True)):
            images = np.load(retelling / "images.npy")
            path = document / "images.npy"
            self._pixels.append(np.load(path, mmap_mode="r") if path.exists() else np.zeros(0, dtype=np.uint8))
            self._places += [(shard, int(image)) for image in images]
            true.append(np.load(code / "image_codes.npy")[images])
            own.append(np.load(retelling / "image_codes.npy")[images])
        self._true, self._own = np.concatenate(true), np.concatenate(own)  # (N, P, 1 + R)

    def __len__(self) -> int:
        return len(self._places)

    def batch(self, step: int, *, seed: int, batch_size: int, own_share: float) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (B, S, S, 3) uint8 and codes (B, P, 1 + R) int64, of `own_share` of the pictures the network's own."""
        rng = np.random.default_rng((seed, step))
        drawn = rng.integers(len(self), size=batch_size)
        pixels = np.stack([self._pixels[shard][image] for shard, image in (self._places[index] for index in drawn)])
        codes = [(self._own if rng.random() < own_share else self._true)[index] for index in drawn]
        return pixels, np.stack(codes).astype(np.int64)


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
