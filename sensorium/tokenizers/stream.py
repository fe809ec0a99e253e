"""One stream of symbols with its media content and its loss targets, and batches of them.

Every symbol says what the position before it should have predicted (`target`, usually the symbol itself) and how much
that prediction weighs; 0 means no loss. The builder is used by training and by the engine, so both see the same stream.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from sensorium.model.config import ModelConfig
from sensorium.model.embed import StreamInputs

IGNORE_INDEX = -100
Content = TypeVar("Content", bound=tuple[int, Any])


class OwnCodes(NamedTuple):
    """A frame or patch that the network must predict: `codes` follow the hidden state at position `at`."""

    at: int
    codes: np.ndarray  # (1 + R,)


@dataclass(kw_only=True)
class Stream:
    """Parallel lists over positions, and sparse media content by position."""

    ids: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    frames: list[tuple[int, np.ndarray]] = field(default_factory=list)  # (position, (R,) residual codes)
    patches: list[tuple[int, int]] = field(default_factory=list)  # (position, patch number)
    patch_residuals: list[tuple[int, np.ndarray]] = field(default_factory=list)  # (position, (R,)) if patches have any
    heard: list[tuple[int, np.ndarray]] = field(default_factory=list)  # (position, (F,) feature)
    seen: list[tuple[int, np.ndarray]] = field(default_factory=list)
    spoken: list[OwnCodes] = field(default_factory=list)
    drawn: list[OwnCodes] = field(default_factory=list)  # patches with residual codes

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, symbol: int, *, weight: float = 0.0, target: int | None = None) -> int:
        """Appends a symbol; returns its position."""
        self.ids.append(symbol)
        self.targets.append(symbol if target is None else target)
        self.weights.append(weight)
        return len(self.ids) - 1

    def add_all(self, symbols: Sequence[int], *, weight: float = 0.0) -> None:
        for symbol in symbols:
            self.add(symbol, weight=weight)

    def extend(self, other: Stream) -> None:
        """Appends another stream, content and all."""
        start = len(self)
        self.ids += other.ids
        self.targets += other.targets
        self.weights += other.weights
        for mine, theirs in zip(self._content(), other._content(), strict=True):
            mine += [(start + at, content) for at, content in theirs]
        for mine, theirs in zip(self._own(), other._own(), strict=True):
            mine += [OwnCodes(start + at, codes) for at, codes in theirs]

    def part(self, start: int, stop: int) -> Stream:
        """Positions start .. stop as a stream of their own."""
        part = Stream(ids=self.ids[start:stop], targets=self.targets[start:stop], weights=self.weights[start:stop])
        for theirs, mine in zip(part._content(), self._content(), strict=True):
            theirs += [(at - start, content) for at, content in between(mine, start, stop)]
        for theirs, mine in zip(part._own(), self._own(), strict=True):
            theirs += [OwnCodes(at - start, codes) for at, codes in between(mine, start, stop)]
        return part

    def _content(self) -> tuple[list, ...]:
        return self.frames, self.patches, self.patch_residuals, self.heard, self.seen

    def _own(self) -> tuple[list[OwnCodes], ...]:
        return self.spoken, self.drawn


class StreamLabels(NamedTuple):
    """What a batch of streams should have predicted."""

    targets: Tensor  # (B, T) int64, IGNORE_INDEX where nothing is asked
    weights: Tensor  # (B, T)
    spoken_at: Tensor  # (Q,) flat positions whose hidden state predicts a frame
    spoken: Tensor  # (Q, 1 + R) the frame's codes
    drawn_at: Tensor  # (D,) flat positions whose hidden state predicts a patch with residual codes
    drawn: Tensor  # (D, 1 + R)


def collate_inputs(streams: Sequence[Stream], config: ModelConfig) -> StreamInputs:
    """Streams of any lengths -> one right-padded batch. Attention is causal: padding changes nothing before it."""
    length = max(len(stream) for stream in streams)
    ids = np.zeros((len(streams), length), dtype=np.int64)
    for row, stream in enumerate(streams):
        ids[row, : len(stream)] = stream.ids
    frames = _flatten([stream.frames for stream in streams], length)
    patches = _flatten([stream.patches for stream in streams], length)
    patch_residuals = _flatten([stream.patch_residuals for stream in streams], length)
    heard = _flatten([stream.heard for stream in streams], length)
    seen = _flatten([stream.seen for stream in streams], length)
    return StreamInputs(
        ids=torch.from_numpy(ids),
        frames_at=frames.at,
        frames=_stack(frames.content, config.num_residuals, np.int64),
        patches_at=patches.at,
        patches=torch.tensor(patches.content, dtype=torch.int64),
        patch_residuals_at=patch_residuals.at,
        patch_residuals=_stack(patch_residuals.content, config.num_image_residuals, np.int64),
        heard_at=heard.at,
        heard=_stack(heard.content, config.feature_size, np.float32),
        seen_at=seen.at,
        seen=_stack(seen.content, config.feature_size, np.float32),
    )


def collate_labels(streams: Sequence[Stream], config: ModelConfig) -> StreamLabels:
    """Position t is asked for the target of position t + 1."""
    length = max(len(stream) for stream in streams)
    targets = np.full((len(streams), length), IGNORE_INDEX, dtype=np.int64)
    weights = np.zeros((len(streams), length), dtype=np.float32)
    for row, stream in enumerate(streams):
        asked = np.asarray(stream.weights[1:], dtype=np.float32)
        weights[row, : len(asked)] = asked
        targets[row, : len(asked)] = np.where(asked > 0, stream.targets[1:], IGNORE_INDEX)
    spoken = _flatten([stream.spoken for stream in streams], length)
    drawn = _flatten([stream.drawn for stream in streams], length)
    return StreamLabels(
        targets=torch.from_numpy(targets),
        weights=torch.from_numpy(weights),
        spoken_at=spoken.at,
        spoken=_stack(spoken.content, 1 + config.num_residuals, np.int64),
        drawn_at=drawn.at,
        drawn=_stack(drawn.content, 1 + config.num_image_residuals, np.int64),
    )


def between(content: Sequence[Content], start: int, stop: int) -> Sequence[Content]:
    """What of the content, sorted by position, lies at positions start .. stop."""
    if not content or content[-1][0] < start:
        return ()
    first = bisect_left(content, start, key=itemgetter(0))
    return content[first : bisect_left(content, stop, lo=first, key=itemgetter(0))]


class _Flat(NamedTuple):
    at: Tensor
    content: list


def _flatten(rows: Sequence[Sequence[tuple[int, object]]], length: int) -> _Flat:
    at = [row * length + position for row, items in enumerate(rows) for position, _ in items]
    return _Flat(torch.tensor(at, dtype=torch.int64), [content for items in rows for _, content in items])


def _stack(arrays: list[np.ndarray], width: int, dtype: type) -> Tensor:
    if not arrays:
        return torch.from_numpy(np.zeros((0, width), dtype=dtype))
    return torch.from_numpy(np.stack(arrays).astype(dtype))
