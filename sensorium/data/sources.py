"""Readers of the real material: recorded speech, photographs, drawings and text, one folder per set.

    root = data_root()                       # $SENSORIUM_DATA, or the path given
    for record in Source.open("grocery", root).records(purpose="train"):
        record.media.pixels, record.text, record.fields["coarse"]

A set is read in the order of its shards, which never changes, so `start` resumes at any record. A set that must
not train the released model refuses to: the licence is a property of the source, not of the caller's memory.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import soundfile
import soxr
from PIL import Image as PillowImage

from sensorium.messages import Audio, Image

Purpose: TypeAlias = Literal["train", "test"]

SAMPLE_RATE_HZ = 16_000
CHECKSUMS_FILE = "CHECKSUMS.sha256"


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """One item of a set. `fields` is the row as it is stored; what it holds is said in the set's own README."""

    key: str  # unique over all sets
    source: str
    split: str
    language: str
    licence: str
    text: str | None  # what is said, shown or written; None where the set has no such text
    fields: dict[str, Any]
    media: Audio | Image | None = None


class _Shards(NamedTuple):
    """The files of one split. Rows that name another split are skipped."""

    split: str
    pattern: str


class _Set(NamedTuple):
    """What is known of a set before its files are looked at."""

    licence: str
    may_train: Literal["yes", "share-alike", "no"]
    train: _Shards | None
    test: _Shards | None = None
    folder: str | None = None  # where it is not the name of the set
    language: str = "en"  # of rows that do not say


_TRAIN_TAR, _VALID_TAR = _Shards("train", "train-*.tar"), _Shards("valid", "valid-*.tar")
_TRAIN_ROWS, _VALID_ROWS = _Shards("train", "train-*.jsonl.gz"), _Shards("valid", "valid-*.jsonl.gz")

_SETS: dict[str, _Set] = {
    "arabic-commands": _Set("CC-BY-4.0", "yes", _TRAIN_TAR, _VALID_TAR),
    "wake-words": _Set("Apache-2.0", "yes", _TRAIN_TAR),
    "coffee-orders": _Set("Apache-2.0", "yes", _TRAIN_TAR),
    "digits_open-sa": _Set("CC-BY-SA-4.0", "no", None, _Shards("test", "test-*.tar")),
    "grocery": _Set("MIT", "yes", _TRAIN_TAR, _VALID_TAR),
    "clothing": _Set("CC0-1.0", "yes", _TRAIN_TAR, _VALID_TAR),
    "story-pictures": _Set("CC-BY-3.0 / CC-BY-4.0", "yes", _TRAIN_TAR),
    "nlvr": _Set("CC-BY-4.0", "yes", _Shards("dev", "dev-*.tar")),
    "stories": _Set("CC-BY-3.0 / CC-BY-4.0 / public domain", "yes", _Shards("train", "*.jsonl.gz")),
    "novels": _Set("public domain", "yes", _TRAIN_ROWS, _VALID_ROWS),
    "wordnet": _Set("CC-BY-4.0 + WordNet licence", "yes", _TRAIN_ROWS),
    "gsm8k": _Set("MIT", "yes", _TRAIN_ROWS),
    "intents": _Set("CC-BY-4.0", "yes", _Shards("train", "*.jsonl.gz"), _Shards("valid", "*.jsonl.gz")),
    "sgd-sa": _Set("CC-BY-SA-4.0", "share-alike", _TRAIN_ROWS, _Shards("dev", "dev-0*.jsonl.gz")),
    "sgd-schema-sa": _Set(
        "CC-BY-SA-4.0",
        "share-alike",
        _Shards("train", "schema.jsonl.gz"),
        _Shards("dev", "dev-schema.jsonl.gz"),
        folder="sgd-sa",
    ),
}
SOURCE_NAMES = tuple(_SETS)


class SetTerms(NamedTuple):
    name: str
    licence: str
    may_train: Literal["yes", "share-alike", "no"]


def known_sets() -> list[SetTerms]:
    """Every set there is a reader for, whether it is on this machine or not."""
    return [SetTerms(name, known.licence, known.may_train) for name, known in _SETS.items()]


def data_root(root: Path | None = None) -> Path:
    """The folder of all sets: `root`, or what SENSORIUM_DATA names. Raises ValueError when there is none."""
    if root is None:
        if "SENSORIUM_DATA" not in os.environ:
            raise ValueError("no folder of data: set SENSORIUM_DATA, or give its path")
        root = Path(os.environ["SENSORIUM_DATA"])
    if not root.is_dir():
        raise ValueError(f"the folder of data {str(root)!r} does not exist")
    return root


@dataclass(frozen=True, kw_only=True)
class Source:
    """One set on disk."""

    name: str
    licence: str
    may_train: Literal["yes", "share-alike", "no"]
    path: Path

    @classmethod
    def open(cls, name: str, root: Path | None = None) -> Source:
        """Raises ValueError for an unknown set, or one that is not in the folder of data."""
        if name not in _SETS:
            raise ValueError(f"unknown set {name!r}; known are {', '.join(SOURCE_NAMES)}")
        known = _SETS[name]
        path = data_root(root) / (known.folder or name)
        if not path.is_dir():
            raise ValueError(f"the set {name!r} is not in {str(path.parent)!r}")
        return cls(name=name, licence=known.licence, may_train=known.may_train, path=path)

    def records(self, *, purpose: Purpose, accept_share_alike: bool = False, start: int = 0) -> Iterator[Record]:
        """The records for `purpose` from number `start` on; those before it are not decoded.

        Raises ValueError at once, naming the set: when it must not train a released model, when share-alike terms
        are not accepted, when it has no such split or shards. Raises it while reading, for a damaged record.
        """
        if start < 0:
            raise ValueError(f"start is {start}; it counts records from 0")
        shards = self._shards(purpose)
        if purpose == "train" and self.may_train == "share-alike" and not accept_share_alike:
            raise ValueError(
                f"the set {self.name!r} is share-alike ({self.licence}): whatever is trained on it carries that "
                "licence; pass accept_share_alike=True to accept"
            )
        paths = self._paths(shards)
        return (self._record(row, shards.split) for row in islice(_rows(paths, shards.split), start, None))

    def count(self, *, purpose: Purpose) -> int:
        """How many records `records` would yield. Decodes nothing."""
        shards = self._shards(purpose)
        return sum(1 for _ in _rows(self._paths(shards), shards.split))

    def verify(self) -> int:
        """Compares every shard with the list of checksums beside the sets; returns how many there are.

        Raises ValueError for a shard that differs, is missing, or is not listed.
        """
        checksums = self.path.parent / CHECKSUMS_FILE
        if not checksums.is_file():
            raise ValueError(f"{str(checksums)!r} is missing: the set {self.name!r} cannot be verified")
        lines = (line.split(maxsplit=1) for line in checksums.read_text(encoding="utf-8").splitlines() if line.strip())
        listed = {path.strip(): digest for digest, path in lines}
        own = {path: digest for path, digest in listed.items() if path.startswith(f"{self.path.name}/")}
        for path, digest in own.items():
            shard = self.path.parent / path
            if not shard.is_file():
                raise ValueError(f"the set {self.name!r} lacks {shard.name}")
            with shard.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    raise ValueError(f"the set {self.name!r} is damaged: {shard.name} differs from its checksum")
        for shard in sorted((*self.path.glob("*.tar"), *self.path.glob("*.jsonl.gz"))):
            if f"{self.path.name}/{shard.name}" not in own:
                raise ValueError(f"the set {self.name!r} holds {shard.name}, which {CHECKSUMS_FILE} does not list")
        return len(own)

    def _shards(self, purpose: Purpose) -> _Shards:
        if purpose not in ("train", "test"):
            raise ValueError(f"unknown purpose {purpose!r}; use 'train' or 'test'")
        if purpose == "train" and self.may_train == "no":
            raise ValueError(f"the set {self.name!r} is for testing only ({self.licence}); it must not train a model")
        shards = _SETS[self.name].train if purpose == "train" else _SETS[self.name].test
        if shards is None:
            raise ValueError(f"the set {self.name!r} has no records for {purpose!r}")
        return shards

    def _paths(self, shards: _Shards) -> list[Path]:
        paths = sorted(self.path.glob(shards.pattern))
        if not paths:
            raise ValueError(f"the set {self.name!r} has no {shards.pattern} in {str(self.path)!r}")
        return paths

    def _record(self, row: _Row, split: str) -> Record:
        fields = row.fields
        text = fields.get("text")
        return Record(
            key=row.key,
            source=self.name,
            split=split,
            language=fields.get("language", _SETS[self.name].language),
            licence=fields.get("licence", self.licence),
            text=text,
            fields=fields,
            media=None if row.payload is None else _decoded(row.key, row.payload, text),
        )


class _Row(NamedTuple):
    key: str
    fields: dict[str, Any]
    payload: _Payload | None


class _Payload(NamedTuple):
    """Where the bytes of a clip or picture lie. Read only when the record is wanted."""

    shard: tarfile.TarFile
    member: tarfile.TarInfo

    def read(self) -> bytes:
        file = self.shard.extractfile(self.member)
        if file is None:
            raise ValueError(f"{self.member.name} is not a file")
        return file.read()


def _rows(paths: list[Path], split: str) -> Iterator[_Row]:
    for path in paths:
        try:
            for row in _tar_rows(path) if path.suffix == ".tar" else _text_rows(path):
                if row.fields.get("split", split) == split:
                    yield row
        except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, UnicodeError, json.JSONDecodeError) as error:
            raise ValueError(f"the shard {str(path)!r} is damaged: {error}") from error


def _text_rows(path: Path) -> Iterator[_Row]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            fields = json.loads(line)
            yield _Row(fields.get("id") or fields["service"], fields, None)


def _tar_rows(path: Path) -> Iterator[_Row]:
    """Pairs of members: KEY.opus, .flac, .webp or .png, and then KEY.json."""
    with tarfile.open(path) as shard:
        members = iter(shard)
        for media in members:
            key = Path(media.name).stem
            description = next(members, None)
            if description is None or description.name != f"{key}.json":
                raise ValueError(f"the shard {str(path)!r} is damaged: {media.name} is not followed by {key}.json")
            yield _Row(key, json.loads(_Payload(shard, description).read()), _Payload(shard, media))


def _decoded(key: str, payload: _Payload, text: str | None) -> Audio | Image:
    try:
        data = io.BytesIO(payload.read())
        if payload.member.name.endswith((".opus", ".flac")):
            return _decoded_audio(data, text)
        with PillowImage.open(data) as picture:
            return Image(pixels=np.array(picture.convert("RGB")))
    except (tarfile.TarError, soundfile.LibsndfileError, OSError) as error:
        raise ValueError(f"the record {key!r} is damaged: {error}") from error


def _decoded_audio(data: io.BytesIO, transcript: str | None) -> Audio:
    samples, rate_hz = soundfile.read(data, dtype="float32", always_2d=True)  # (N, channels)
    waveform = samples.mean(axis=1)
    if rate_hz != SAMPLE_RATE_HZ:
        waveform = soxr.resample(waveform, rate_hz, SAMPLE_RATE_HZ)
    # A lossy codec may overshoot; a waveform of ours stays within [-1, 1].
    return Audio(waveform=waveform.clip(-1.0, 1.0), sample_rate_hz=SAMPLE_RATE_HZ, transcript=transcript)
