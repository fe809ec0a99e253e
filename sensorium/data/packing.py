"""Documents -> batches of rendered streams under a budget of positions.

A row is one whole document, so no attention crosses documents; rows of like length share a batch, so that little is
padding. Batch number `step` is a function of (seed, step): every epoch shuffles, sorts windows by length, and cuts.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sensorium.data.corpus import Lines
from sensorium.messages import Text, ToolCall, WordTime
from sensorium.tokenizers.encoded import (
    HIDDEN,
    EncodedAudio,
    EncodedFilm,
    EncodedImage,
    EncodedMessage,
    EncodedPart,
    SpelledText,
)
from sensorium.tokenizers.render import Renderer
from sensorium.tokenizers.stream import Stream
from sensorium.tokenizers.vocab import NULL

Medium = TypeVar("Medium", bound=EncodedAudio | EncodedImage)

WINDOW = 2048  # documents sorted together: long enough for even batches, short enough to stay random


@dataclass(frozen=True, kw_only=True)
class PackingConfig:
    batch_positions: int = 6144  # padding included
    max_seq_len: int = 1024
    live_share: float = 0.35  # of the documents with heard clips, how many are laid out as live
    live_tasks: tuple[str, ...] = ("hear-pausing",)  # whose documents always are: they teach turns' ends
    mostly_live: tuple[str, ...] = ("conversation",)  # two in three: the turns of a chat are clips
    hide_codes: float = 0.25  # of the heard media, how often only the features stay
    hide_features: float = 0.1  # and how often only the codes, of which no small print can be read
    drop_condition: float = 0.1  # of the drawing requests, how many lose their words (for classifier-free guidance)
    heard_noise: float = 0.3  # noise on heard and seen features, up to this share of their size
    gaps: float = 0.06  # of the heard frames, how many are not heard at all
    slips: float = 0.05  # of the spoken frames, how many are read back as another frame of the same answer


class EncodedDocuments:
    """Shards of documents whose media went through the tokenizers (sensorium.training.pipeline writes them)."""

    def __init__(self, documents: Sequence[Path], encoded: Sequence[Path]) -> None:
        self._shards = [_Shard(document, codes) for document, codes in zip(documents, encoded, strict=True)]
        self._ends = np.cumsum([len(shard.records) for shard in self._shards])

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def _place(self, index: int) -> tuple[_Shard, int]:
        """The shard that holds a document, and the document's number in it."""
        number = int(np.searchsorted(self._ends, index, side="right"))
        shard = self._shards[number]
        return shard, index - int(self._ends[number]) + len(shard.records)

    def task(self, index: int) -> str:
        shard, row = self._place(index)
        return shard.records[row]["task"]

    def answers(self, index: int) -> tuple[list[int], list[int]]:
        """The numbers of the clips and of the images, in their shard, that the assistant says and draws."""
        shard, row = self._place(index)
        own = [message for message in shard.records[row]["messages"] if message["role"] == "assistant"]
        parts = [part for message in own for part in message["parts"]]
        return [part["clip"] for part in parts if "clip" in part], [part["image"] for part in parts if "image" in part]

    def messages(self, index: int) -> tuple[EncodedMessage, ...]:
        shard, row = self._place(index)
        return tuple(shard.message(message) for message in shard.records[row]["messages"])


class _Shard:
    def __init__(self, documents: Path, encoded: Path) -> None:
        self.records = Lines(documents / "documents.jsonl")
        self._clips = Lines(documents / "clips.jsonl")
        self._audio_codes = _mapped(encoded / "audio_codes.npy")  # (F, 1 + R) of all clips in a row
        self._audio_features = _mapped(encoded / "audio_features.npy")  # (F, D) float16
        self._audio_starts = np.load(encoded / "audio_starts.npy")  # (clips + 1,)
        self._image_codes = _mapped(encoded / "image_codes.npy")  # (N, P, 1 + R)
        self._image_features = _mapped(encoded / "image_features.npy")  # (N, P, D) float16
        frames = encoded / "frame_features.npy"
        self._frame_features = _mapped(frames) if frames.exists() else None  # (N, P / 4, D) float16

    def message(self, record: dict[str, Any]) -> EncodedMessage:
        own = record["role"] == "assistant"
        return EncodedMessage(role=record["role"], parts=tuple(self._part(part, own) for part in record["parts"]))

    def _part(self, part: dict[str, Any], own: bool) -> EncodedPart:
        if "text" in part:
            return _text(part, "text")
        if "call" in part:
            return ToolCall(id="", name=part["call"], arguments=part["arguments"])
        if "image" in part:
            image = part["image"]
            codes = self._image_codes[image].astype(np.int64)
            caption = _text(part, "caption") if "caption" in part else None
            features = None if own else self._image_features[image]
            return EncodedImage(codes=codes, features=features, caption=caption)
        if "film" in part:
            return self._film(part)
        return self._clip(part, own)

    def _film(self, part: dict[str, Any]) -> EncodedFilm:
        assert self._frame_features is not None
        times_ms = tuple(part["times_ms"])
        features = self._frame_features[part["film"] : part["film"] + len(times_ms)]
        codes = np.full((features.shape[1], self._image_codes.shape[2]), HIDDEN, dtype=np.int64)
        notes = [Text(text=note) for note in part["notes"]] if "notes" in part else [None] * len(features)
        return EncodedFilm(
            frames=tuple(
                EncodedImage(codes=codes, features=frame, caption=note)
                for frame, note in zip(features, notes, strict=True)
            ),
            times_ms=times_ms,
            sound=self._clip(part["sound"], False) if "sound" in part else None,
            caption=_text(part, "caption") if "caption" in part else None,
        )

    def _clip(self, part: dict[str, Any], own: bool) -> EncodedAudio:
        clip = self._clips[part["clip"]]
        rows = slice(self._audio_starts[part["clip"]], self._audio_starts[part["clip"] + 1])
        return EncodedAudio(
            codes=self._audio_codes[rows].astype(np.int64),
            features=None if own else self._audio_features[rows],
            transcript=clip["text"],
            words=tuple(WordTime(*word) for word in clip["words"]),
            voice=clip["voice"],
            cut=clip.get("cut", False),
        )


def _text(part: dict[str, Any], name: str) -> Text:
    return SpelledText(text=part[name]) if part.get("spelled") else Text(text=part[name])


def _mapped(path: Path) -> np.ndarray:
    """An array by memory map, as a plain one: slices of `np.memmap` cost ten times as much."""
    return np.load(path, mmap_mode="r").view(np.ndarray)


class Packing:
    """Draws batches of streams; an epoch has every document once."""

    def __init__(self, documents: EncodedDocuments, renderer: Renderer, config: PackingConfig, *, seed: int) -> None:
        self._documents = documents
        self._renderer = renderer
        self._config = config
        self.seed = seed
        # a live layout adds one symbol
        lengths = (len(renderer.document(documents.messages(index))) + 1 for index in range(len(documents)))
        self._lengths = np.fromiter(lengths, dtype=np.int64, count=len(documents))
        self._kept = np.nonzero(self._lengths <= config.max_seq_len)[0]
        self._epochs: list[list[np.ndarray]] = []

    def only(self, tasks: Collection[str], *, seed: int) -> Packing:
        """Batches of the documents of these tasks alone, with chance of their own. Raises ValueError for none."""
        kept = [index for index in self._kept if self._documents.task(int(index)) in tasks]
        if not kept:
            raise ValueError(f"no document is about {', '.join(sorted(tasks))}")
        part = copy(self)
        part._kept, part._epochs, part.seed = np.array(kept), [], seed
        return part

    @property
    def num_positions(self) -> int:
        """Positions in one epoch."""
        return int(self._lengths[self._kept].sum())

    def batch(self, step: int) -> list[Stream]:
        """Batch number `step`, a row for each document."""
        epoch = 0
        while step >= len(self._epoch(epoch)):
            step -= len(self._epoch(epoch))
            epoch += 1
        indices = self._epoch(epoch)[step]
        return [self._stream(int(index), np.random.default_rng((self.seed, epoch, int(index)))) for index in indices]

    def _epoch(self, epoch: int) -> list[np.ndarray]:
        while len(self._epochs) <= epoch:
            rng = np.random.default_rng((self.seed, len(self._epochs)))
            order = rng.permutation(self._kept)
            batches = [cut for at in range(0, len(order), WINDOW) for cut in self._cut(order[at : at + WINDOW])]
            self._epochs.append([batches[index] for index in rng.permutation(len(batches))])
        return self._epochs[epoch]

    def _cut(self, window: np.ndarray) -> list[np.ndarray]:
        """Rows of like length until rows x longest fills the budget."""
        window = window[np.argsort(self._lengths[window], kind="stable")]
        batches, start = [], 0
        for end in range(1, len(window) + 1):
            if end == len(window) or (end + 1 - start) * self._lengths[window[end]] > self._config.batch_positions:
                batches.append(window[start:end])
                start = end
        return batches

    def _stream(self, index: int, rng: np.random.Generator) -> Stream:
        messages = [self._hidden(message, rng) for message in self._documents.messages(index)]
        if is_drawing(messages) and rng.random() < self._config.drop_condition:
            messages = [without_words(message) for message in messages]
        stream = self._renderer.document(messages, live=rng.random() < self._live_share(index))
        roughen(stream, rng, self._config)
        return stream

    def _live_share(self, index: int) -> float:
        task, config = self._documents.task(index), self._config
        return 1.0 if task in config.live_tasks else 2 / 3 if task in config.mostly_live else config.live_share

    def _hidden(self, message: EncodedMessage, rng: np.random.Generator) -> EncodedMessage:
        """Now and then a heard or seen part loses its codes or its features: the network must do with either."""
        parts: list[EncodedPart] = []
        for part in message.parts:
            if isinstance(part, EncodedAudio | EncodedImage):
                part = self._hide(part, rng.random())
            elif isinstance(part, EncodedFilm) and part.sound is not None:  # of its frames there are only features
                part = replace(part, sound=self._hide(part.sound, rng.random()))
            parts.append(part)
        return EncodedMessage(role=message.role, parts=tuple(parts))

    def _hide(self, part: Medium, draw: float) -> Medium:
        if part.features is None or draw >= self._config.hide_codes + self._config.hide_features:
            return part
        if draw < self._config.hide_codes:
            return replace(part, codes=np.full_like(part.codes, HIDDEN), features=part.features)
        return replace(part, codes=part.codes, features=None)


class Curriculum:
    """Packings one after another: `parts` are the first batch number of each and where its batches come from."""

    def __init__(self, parts: Sequence[tuple[int, Packing]]) -> None:
        assert parts[0][0] == 0
        self._parts = parts

    def batch(self, number: int) -> list[Stream]:
        first, packing = next(part for part in reversed(self._parts) if part[0] <= number)
        return packing.batch(number - first)


def roughen(stream: Stream, rng: np.random.Generator, config: PackingConfig) -> None:
    """Spoils what the network reads, never what it must say: no epoch shows a document as another did.

    Noise and gaps in what is heard teach listening by context. Slips in its own speech teach it to go on after a frame
    that it would not have chosen, as it must when it speaks (scheduled sampling, arXiv 1506.03099, without the model).
    """
    for content in (stream.heard, stream.seen):
        level = config.heard_noise * rng.random()
        for row, (at, feature) in enumerate(content):
            size = np.float32(level * np.sqrt(np.mean(np.square(feature, dtype=np.float32))))
            content[row] = (at, feature + size * rng.standard_normal(len(feature), dtype=np.float32))
    missed = {at for at, _ in stream.heard if rng.random() < config.gaps}
    stream.heard[:] = [item for item in stream.heard if item[0] not in missed]
    stream.frames[:] = [item for item in stream.frames if item[0] not in missed]
    for at in missed:
        stream.ids[at] = NULL
    own = {codes.at + 1 for codes in stream.spoken}
    rows = [row for row, (at, _) in enumerate(stream.frames) if at in own]
    heard_back = [(stream.ids[stream.frames[row][0]], stream.frames[row][1]) for row in rows]
    for row in rows:
        if rng.random() < config.slips:
            at = stream.frames[row][0]
            stream.ids[at], residuals = heard_back[int(rng.integers(len(heard_back)))]
            stream.frames[row] = (at, residuals)


def is_drawing(messages: Sequence[EncodedMessage]) -> bool:
    """Whether one order, in which no picture is shown, is answered with a picture and nothing else."""
    if [message.role for message in messages] != ["user", "assistant"]:
        return False
    shown, drawn = (message.parts for message in messages)
    return not any(isinstance(part, EncodedImage) for part in shown) and all(
        isinstance(part, EncodedImage) for part in drawn
    )


def without_words(message: EncodedMessage) -> EncodedMessage:
    """The user's words replaced by nothing: the null condition of classifier-free guidance."""
    if message.role != "user":
        return message
    return EncodedMessage(role="user", parts=())
