"""Generated material on disk: made once, in parallel, read by memory map.

    clips/shard-00000/      audio.npy (int16, all clips in a row)  phonemes.npy (int8, 50 Hz)  clips.jsonl
    pictures/shard-00000/   images.npy (uint8)  labels.npy (int8, what is where)
    documents/shard-00000/  documents.jsonl, and the media they name: audio.npy, clips.jsonl, images.npy, frames.npy

Shard k of a corpus is a function of (seed, k): a build that was stopped goes on with the missing shards.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, overload

import numpy as np
from rich.progress import track

from sensorium.data.generators import dialogues, pictures, speech
from sensorium.data.generators.documents import document
from sensorium.data.generators.speech import PHONEMES, SAMPLE_RATE_HZ, Utterance
from sensorium.data.recorded import PHOTOGRAPHS, RECORDED, photograph, recorded_document
from sensorium.messages import Audio, Image, Message, Text, ToolCall, Video
from sensorium.tokenizers.encoded import SpelledText

CLIPS_PER_SHARD = 500
PICTURES_PER_SHARD = 2000
DOCUMENTS_PER_SHARD = 500
PHONEME_STEP_MS = 20.0
PHONEME_DELAY_MS = 30.0  # a causal encoder knows a phoneme a little after it begins

_PHONEME_INDEX = {phoneme: index for index, phoneme in enumerate(PHONEMES)}

PICTURE_KINDS = {
    "scene": pictures.scene,
    "word": pictures.word_picture,
    "icon": pictures.icon_picture,
    "emoji": pictures.emoji_picture,
    "digit": pictures.digit_picture,
    "figure": pictures.figure_picture,
}
"""What is drawn by program; a recorded set of photographs is a kind too."""

ShardMaker = Callable[[Path, int, int], None]  # folder, seed, shard


def build(folder: Path, make: ShardMaker, *, num_shards: int, seed: int, workers: int = 2) -> list[Path]:
    """Makes the shards that are missing; returns all of them in order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"shard-{index:05d}" for index in range(num_shards)]
    missing = [index for index, path in enumerate(paths) if not path.exists()]
    jobs = [(make, folder, seed, index) for index in missing]
    if jobs and workers > 1:
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            _exhaust(pool.imap_unordered(_build_shard, jobs), folder.name, len(jobs))
    elif jobs:
        _exhaust(map(_build_shard, jobs), folder.name, len(jobs))
    return paths


def _exhaust(results: Iterable[None], title: str, total: int) -> None:
    for _ in track(results, description=title, total=total):
        pass


def _build_shard(job: tuple[ShardMaker, Path, int, int]) -> None:
    make, folder, seed, shard = job
    with whole(folder / f"shard-{shard:05d}") as beside:
        make(beside, seed, shard)


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """A folder to fill that takes its place, and its name, when it is complete: a run that is killed leaves no half."""
    beside = folder.with_name(f".part-{folder.name}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    yield beside
    os.replace(beside, folder)


def make_clips(folder: Path, seed: int, shard: int) -> None:
    """Speech for the codec: a third clean preset voices (what it must say), the rest anyone in any room."""
    rng = np.random.default_rng((seed, shard))
    synthesizer = speech.Synthesizer()
    sounds, records, phonemes = [], [], []
    for _ in range(CLIPS_PER_SHARD):
        text = dialogues.sentence(rng, "train")
        if rng.random() < 0.35:
            speaker = list(speech.PRESETS.values())[rng.integers(len(speech.PRESETS))]
            utterance = synthesizer.speak(text, speaker)
        else:
            utterance = synthesizer.speak(text, speech.random_speaker(rng, split="train"))
            utterance = speech.in_room(utterance, rng, level=float(rng.random()))
        sounds.append(_to_int16(utterance.audio.waveform))
        phonemes.append(phoneme_steps(utterance))
        records.append({"text": text, "samples": len(sounds[-1]), "steps": len(phonemes[-1])})
    np.save(folder / "audio.npy", np.concatenate(sounds))
    np.save(folder / "phonemes.npy", np.concatenate(phonemes))
    _write_lines(folder / "clips.jsonl", records)


def phoneme_steps(utterance: Utterance) -> np.ndarray:
    """(S,) int8: the phoneme index of every 20 ms step, delayed by what a causal encoder needs."""
    times_ms = np.arange(int(np.ceil(utterance.audio.duration_ms / PHONEME_STEP_MS))) * PHONEME_STEP_MS
    starts_ms = np.array([phoneme.start_ms for phoneme in utterance.phonemes])
    indices = np.array([_PHONEME_INDEX[phoneme.phoneme] for phoneme in utterance.phonemes], dtype=np.int8)
    middle_ms = times_ms + PHONEME_STEP_MS / 2 - PHONEME_DELAY_MS
    return indices[np.clip(np.searchsorted(starts_ms, middle_ms, side="right") - 1, 0, None)]


class make_pictures:
    """Pictures for the image tokenizer, of kinds in proportion to `weights`; the patches of those that are drawn by
    program are labelled. Picklable, so that workers can run it."""

    def __init__(self, weights: dict[str, float]) -> None:
        if unknown := weights.keys() - PICTURE_KINDS.keys() - set(PHOTOGRAPHS):
            raise ValueError(f"there are no pictures of the kind {', '.join(sorted(unknown))}")
        self.weights = weights

    def __call__(self, folder: Path, seed: int, shard: int) -> None:
        rng = np.random.default_rng((seed, shard))
        kinds, shares = list(self.weights), np.array(list(self.weights.values()))
        made = [_picture(kinds[at], rng) for at in rng.choice(len(kinds), PICTURES_PER_SHARD, p=shares / shares.sum())]
        np.save(folder / "images.npy", np.stack([pixels for pixels, _ in made]))
        np.save(folder / "labels.npy", np.stack([labels for _, labels in made]))


def _picture(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    if kind in PHOTOGRAPHS:
        return photograph(kind, rng, "train").pixels, pictures.unknown_labels()
    made = PICTURE_KINDS[kind](rng, split="train")
    return made.pixels, pictures.patch_labels(made)


class make_documents:
    """Documents of a mixture of tasks, with their media beside them. Picklable, so that workers can run it."""

    def __init__(self, weights: dict[str, float], split: speech.Split = "train") -> None:
        self.weights = weights
        self.split: speech.Split = split

    def __call__(self, folder: Path, seed: int, shard: int) -> None:
        rng = np.random.default_rng((seed, shard))
        tasks = list(self.weights)
        shares = np.array([self.weights[task] for task in tasks])
        media = _Media()
        records = []
        for index in range(DOCUMENTS_PER_SHARD):
            task = tasks[rng.choice(len(tasks), p=shares / shares.sum())]
            number = (seed * 1_000_003 + shard) * DOCUMENTS_PER_SHARD + index
            make = recorded_document if task in RECORDED else document
            made = make(task, number, split=self.split)
            records.append({"task": task, "messages": [media.record(message) for message in made.messages]})
        _write_lines(folder / "documents.jsonl", records)
        media.save(folder)


class _Media:
    """Collects the media of a shard; documents then name them by number."""

    def __init__(self) -> None:
        self._sounds: list[np.ndarray] = []
        self._clips: list[dict[str, Any]] = []
        self._images: list[np.ndarray] = []
        self._frames: list[np.ndarray] = []  # of films

    def record(self, message: Message) -> dict[str, Any]:
        return {"role": message.role, "parts": [self._part(part) for part in message.parts]}

    def _part(self, part: object) -> dict[str, Any]:
        if isinstance(part, Text):
            return _text_record(part, "text")
        if isinstance(part, ToolCall):
            return {"call": part.name, "arguments": part.arguments}
        if isinstance(part, Image):
            self._images.append(part.pixels)
            caption = _text_record(part.caption, "caption") if part.caption is not None else {}
            return {"image": len(self._images) - 1, **caption}
        if isinstance(part, Video):
            self._frames += [frame.pixels for frame in part.frames]
            sound = {"sound": self._part(part.sound)} if part.sound is not None else {}
            caption = _text_record(part.caption, "caption") if part.caption is not None else {}
            film = {"film": len(self._frames) - len(part.frames), "times_ms": part.times_ms, **sound, **caption}
            notes = [frame.caption.text for frame in part.frames if frame.caption is not None]
            assert len(notes) in (0, len(part.frames))
            return film | ({"notes": notes} if notes else {})
        assert isinstance(part, Audio)
        assert part.sample_rate_hz == SAMPLE_RATE_HZ
        self._sounds.append(_to_int16(part.waveform))
        self._clips.append(
            {
                "samples": len(part.waveform),
                "text": part.transcript,
                "words": [[*word[:2], round(word[2], 1), round(word[3], 1)] for word in part.words],
                "voice": part.voice,
            }
            | ({"cut": True} if part.cut else {})
        )
        return {"clip": len(self._clips) - 1}

    def save(self, folder: Path) -> None:
        _write_lines(folder / "clips.jsonl", self._clips)
        if self._sounds:
            np.save(folder / "audio.npy", np.concatenate(self._sounds))
        if self._images:
            np.save(folder / "images.npy", np.stack(self._images))
        if self._frames:
            np.save(folder / "frames.npy", np.stack(self._frames))


def _text_record(text: Text, name: str) -> dict[str, Any]:
    return {name: text.text} | ({"spelled": True} if isinstance(text, SpelledText) else {})


class Clips:
    """All clips of a corpus, for cutting training crops."""

    def __init__(self, shards: Sequence[Path]) -> None:
        self._audio = [np.load(shard / "audio.npy", mmap_mode="r") for shard in shards]
        self._phonemes = [np.load(shard / "phonemes.npy", mmap_mode="r") for shard in shards]
        self._table: list[tuple[int, int, int, int, int]] = []  # shard, first sample, samples, first step, steps
        for index, shard in enumerate(shards):
            sample = step = 0
            for record in read_lines(shard / "clips.jsonl"):
                self._table.append((index, sample, record["samples"], step, record["steps"]))
                sample += record["samples"]
                step += record["steps"]

    def __len__(self) -> int:
        return len(self._table)

    def crop(self, clip: int, *, steps: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """`steps` x 20 ms of a clip from a random step on, padded with silence: (N,) float32, (steps,) phonemes."""
        shard, sample, samples, first, count = self._table[clip]
        step_samples = int(SAMPLE_RATE_HZ * PHONEME_STEP_MS / 1000)
        skip = int(rng.integers(0, max(count - steps, 0) + 1))
        sound = self._audio[shard][sample : sample + samples][skip * step_samples :][: steps * step_samples]
        labels = self._phonemes[shard][first : first + count][skip:][:steps]
        waveform = np.zeros(steps * step_samples, dtype=np.float32)
        waveform[: len(sound)] = sound.astype(np.float32) / 32768.0
        phonemes = np.zeros(steps, dtype=np.int64)
        phonemes[: len(labels)] = labels
        return waveform, phonemes


def read_lines(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


class Lines(Sequence[dict[str, Any]]):
    """What `read_lines` gives, but each record is read when it is asked for: millions of them take no memory."""

    def __init__(self, path: Path) -> None:
        size = path.stat().st_size
        self._bytes = np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray) if size else np.zeros(0, np.uint8)
        self._ends = np.flatnonzero(self._bytes == ord("\n"))

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        row = range(len(self))[index]
        start = self._ends[row - 1] + 1 if row else 0
        return json.loads(self._bytes[start : self._ends[row]].tobytes())


def _write_lines(path: Path, records: Sequence[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


def _to_int16(waveform: np.ndarray) -> np.ndarray:
    return (np.clip(waveform, -1.0, 1.0) * 32767.0).round().astype(np.int16)
