"""Conversations about the real material: recorded words and orders, photographs, commands in many languages, and the
sentences of children's stories, to be read aloud and written down.

As `generators.documents`, a document is a function of (task, seed, split), and besides of the folder of data. "heldout"
is what a set calls valid; sets without such a split hold out one record in ten by its key.
"""

from __future__ import annotations

import re
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soxr

from sensorium.data.generators import world
from sensorium.data.generators.canvas import Split, in_split
from sensorium.data.generators.dialogues import a, call, pick
from sensorium.data.generators.documents import Document
from sensorium.data.generators.speech import PRESETS, Synthesizer, in_room, random_speaker
from sensorium.data.generators.wordings import NAME, TRANSCRIBE
from sensorium.data.sources import Record, Source, data_root
from sensorium.messages import Audio, Image, Message, Part, Text, tool_list
from sensorium.tokenizers.image import fit_square

PHOTOGRAPHS = ("grocery", "clothing")
PICTURE_SIZE = 64  # pixels: what the picture tokenizer sees
MEANING = ("what does it mean", "what is that in english", "which command is this")
KIND = ("is this a fruit or a vegetable", "what kind of food is this")
_SPEEDS = (0.85, 1.2)
_OWN_SPLIT = ("wake-words", "coffee-orders")  # sets of clips that only have records to train on
_SENTENCE_END = r"(?<=[.!?])[\"\u201d\u2019]?\s+"
_NAMES = ("area", "name", "floor")  # slots of an order to a home that hold what people call a place or a thing
_COFFEE_SLOTS = ("coffeeDrink", "size", "roast", "numberOfShots", "milkAmount", "sugarAmount")
_ORDERING = ("", "can i have", "i would like", "give me", "please make me", "i want", "could i get", "hello i need")


def recorded_document(task: str, seed: int, *, split: Split, root: Path | None = None) -> Document:
    """Document number `seed` of a task about the sets in `root` (or $SENSORIUM_DATA).

    Raises ValueError for an unknown task, a negative seed, and a folder that lacks a set.
    """
    if task not in _WRITERS:
        raise ValueError(f"unknown task {task!r}; there are {', '.join(RECORDED)}")
    if seed < 0:
        raise ValueError(f"a seed is 0 or more, not {seed}")
    rng = np.random.default_rng([zlib.crc32(task.encode()), split == "heldout", seed])
    return Document(task=task, seed=seed, split=split, messages=_WRITERS[task](rng, split, data_root(root)))


# --- what the tasks draw from


@cache
def _records(name: str, split: Split, root: Path) -> tuple[Record, ...]:
    """All records of a set for a split, decoded once: photographs small, as the tokenizer sees them."""
    own = name in _OWN_SPLIT
    found = Source.open(name, root).records(purpose="test" if split == "heldout" and not own else "train")
    return tuple(_small(record) for record in found if not own or in_split(record.key, split))


def _small(record: Record) -> Record:
    if not isinstance(record.media, Image):
        return record
    return replace(record, media=Image(pixels=fit_square(record.media.pixels, PICTURE_SIZE * 5 // 4)))


@cache
def _intents(split: Split, root: Path) -> tuple[Record, ...]:
    """Without those to train on among the held-out ones: some stand in both."""
    found = [record for record in _records("intents", split, root) if record.text]
    known = {record.text for record in _intents("train", root)} if split == "heldout" else set[str | None]()
    return tuple(record for record in found if record.text not in known)


@cache
def _slots(root: Path) -> dict[str, tuple[str, ...]]:
    """The slots that each intent may have."""
    slots: defaultdict[str, set[str]] = defaultdict(set)
    for record in _intents("train", root):
        slots[record.fields["intent"]].update(_said_slots(record, "train"))
    return {intent: tuple(sorted(names)) for intent, names in slots.items()}


def _said_slots(record: Record, split: Split) -> dict[str, Any]:
    """The slots that an order tells: not those of the room that somebody is in, which neither its words nor the prompt
    have. Of the names that a thing goes by, that which is said; of a held-out order any of them is right, so all."""
    untold, text = record.fields.get("needs_context", ()), (record.text or "").lower()
    slots = {name: value for name, value in record.fields["slots"].items() if name not in untold}
    if split == "heldout":
        return slots
    return {
        name: next((one for one in value if str(one).strip().lower() in text), value[0])
        if isinstance(value, list) and name in _NAMES
        else value
        for name, value in slots.items()
    }


@cache
def _sentences(split: Split, root: Path) -> tuple[str, ...]:
    """The short ones of all English stories, as they are said: lower-case, no punctuation but apostrophes."""
    stories = (record.fields["pages"] for record in _records("stories", "train", root) if record.language == "en")
    written = (re.split(_SENTENCE_END, page) for pages in stories for page in pages)
    said = {as_said(sentence) for sentences in written for sentence in sentences}
    return tuple(sorted(words for words in said if 3 <= len(words.split()) <= 12 and in_split(words, split)))


def as_said(sentence: str) -> str:
    """The words alone; nothing of a sentence with figures in it, which can be said in several ways."""
    if re.search(r"\d", sentence):
        return ""
    words = re.sub(r"[^a-z' ]+", " ", sentence.lower().replace("\u2019", "'")).split()
    return " ".join(word.strip("'") for word in words if word.strip("'"))


def _spoken_into(record: Record, rng: np.random.Generator, split: Split) -> Audio:
    """The clip; for training by another speaker in another room each time, since there are few: played faster or
    slower, pitch and formants with it (speed perturbation, Ko et al. 2015)."""
    assert isinstance(record.media, Audio)
    waveform, rate_hz = record.media.waveform, record.media.sample_rate_hz
    if split == "heldout":
        return Audio(waveform=waveform, sample_rate_hz=rate_hz, transcript=record.text)
    played = soxr.resample(waveform, rate_hz * rng.uniform(*_SPEEDS), rate_hz)
    clip = Audio(waveform=played, sample_rate_hz=rate_hz, transcript=record.text)
    return in_room(clip, rng, level=0.5 * rng.random())


def recorded_like(clip: Audio, other: Audio, rng: np.random.Generator) -> Audio:
    """Speech as the microphone of another clip would have taken it: with the mean spectrum of that one's loud moments,
    and the noise of its quiet ones. Both are of one sample rate."""
    own, theirs = _moments(clip.waveform), _moments(other.waveform)
    gain = np.clip(np.sqrt((theirs.loud + 1e-12) / (own.loud + 1e-12)), 1e-2, 1e2)
    size = len(clip.waveform) + len(clip.waveform) % 2
    at = np.linspace(0.0, len(gain) - 1.0, size // 2 + 1)
    spectrum = np.fft.rfft(clip.waveform, size) * np.interp(at, np.arange(len(gain)), gain)
    hiss = np.fft.rfft(rng.standard_normal(size)) * np.sqrt(np.interp(at, np.arange(len(gain)), theirs.quiet))
    heard = np.fft.irfft(spectrum + hiss, size)[: len(clip.waveform)].astype(np.float32)
    return replace(clip, waveform=heard * np.float32(min(1.0, 0.99 / (np.abs(heard).max() + 1e-12))))


class _Moments(NamedTuple):
    """Mean power by frequency, of a sample of white noise 1."""

    loud: np.ndarray  # (257,) the loudest third of a clip
    quiet: np.ndarray  # (257,) the quietest tenth


def _moments(waveform: np.ndarray) -> _Moments:
    window = np.hanning(512).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(waveform, 512), 512)[::256] * window
    power = np.abs(np.fft.rfft(frames)) ** 2 / np.sum(window**2)  # (F, 257)
    order = np.argsort(power.sum(axis=1))
    order = order[power.sum(axis=1)[order] > 0]  # what was muted, or is our padding, tells of no microphone
    if not len(order):
        return _Moments(np.zeros(257), np.zeros(257))
    loud, quiet = order[-max(1, len(order) // 3) :], order[: max(1, len(order) // 10)]
    smooth = np.hanning(9) / np.hanning(9).sum()
    return _Moments(*(np.convolve(power[rows].mean(axis=0), smooth, "same") for rows in (loud, quiet)))


def photograph(name: str, rng: np.random.Generator, split: Split) -> Image:
    """A picture of one of the sets in `PHOTOGRAPHS`. Raises ValueError as `data_root` does."""
    return _taken(pick(rng, _records(name, split, data_root())), rng, split)


def _taken(record: Record, rng: np.random.Generator, split: Split) -> Image:
    """The picture; for training a part of it, now and then mirrored, since there are few."""
    assert isinstance(record.media, Image)
    pixels = record.media.pixels
    if split == "train":
        size = int(rng.integers(PICTURE_SIZE, len(pixels) + 1))
        top, left = (int(rng.integers(len(pixels) - size + 1)) for _ in range(2))
        pixels = pixels[top : top + size, left : left + size]
        pixels = pixels[:, ::-1] if rng.random() < 0.5 else pixels
    return Image(pixels=fit_square(np.ascontiguousarray(pixels), PICTURE_SIZE))


def _about(medium: Part, question: str, answer: Part, rng: np.random.Generator) -> tuple[Message, ...]:
    asked: tuple[Part, ...] = (medium, Text(text=question))
    parts = asked if rng.random() < 0.5 else asked[::-1]
    return Message(role="user", parts=parts), Message(role="assistant", parts=(answer,))


def _function(name: str, arguments: Iterable[str]) -> dict[str, object]:
    properties = {argument: {"type": "string"} for argument in arguments}
    return {"name": name, "parameters": {"type": "object", "properties": properties}}


# --- the tasks


def _word(rng: np.random.Generator, split: Split, root: Path) -> tuple[Message, ...]:
    """A word as people say it: what was said, or what an Arabic one means."""
    name = "arabic-commands" if rng.random() < 0.85 else "wake-words"
    record = pick(rng, _records(name, split, root))
    clip = _spoken_into(record, rng, split)
    assert record.text is not None
    if name == "arabic-commands" and rng.random() < 0.6:
        meaning = record.fields["label"].replace("_", " ")
        return _about(clip, pick(rng, MEANING), Text(text=meaning), rng)
    return _about(clip, pick(rng, TRANSCRIBE), Text(text=record.text), rng)


def _english_word(rng: np.random.Generator, split: Split, root: Path) -> tuple[Message, ...]:
    """An English word alone, half of them numbers, said by a synthesiser into the microphone of a real recording.

    Where only recordings hold single words, and those are Arabic, whatever sounds recorded is taken for Arabic.
    """
    words = pick(rng, world.TO_TWENTY[:11] if rng.random() < 0.5 else pick(rng, _sentences(split, root)).split())
    other = pick(rng, _records(pick(rng, ("arabic-commands", "wake-words", "coffee-orders")), split, root)).media
    assert isinstance(other, Audio)
    clip = Synthesizer().speak(words, random_speaker(rng, split=split)).audio
    given = replace(other, waveform=soxr.resample(other.waveform, other.sample_rate_hz, clip.sample_rate_hz))
    clip = in_room(recorded_like(clip, given, rng), rng, level=0.3 * rng.random())
    return _about(clip, pick(rng, TRANSCRIBE), Text(text=words), rng)


def _order(rng: np.random.Generator, split: Split, root: Path) -> tuple[Message, ...]:
    """An order of coffee, as a call with what was ordered.

    Nobody has written down the words of the recorded ones, and there are few: what was understood stands for their
    transcript, and of those to train on two in three are said by a synthesiser, of slots that came in different orders.
    """
    records = _records("coffee-orders", split, root)
    label = pick(rng, records).fields["label"]
    if split == "train" and rng.random() < 2 / 3:
        others = _ordered(pick(rng, records).fields["label"]["slots"])
        given = _ordered({**label["slots"], **{slot: others[slot] for slot in others if rng.random() < 0.5}})
        words = f"{pick(rng, _ORDERING)} {_understood(given)}".strip()
        clip = Synthesizer().overheard(words, rng, split=split)
    else:
        record = pick(rng, records)
        label = record.fields["label"]
        given = _ordered(label["slots"])
        clip = replace(_spoken_into(record, rng, split), transcript=_understood(given))
    return (
        Message(role="system", parts=(tool_list([_function(label["intent"], _COFFEE_SLOTS)]),)),
        Message(role="user", parts=(clip,)),
        Message(role="assistant", parts=(call(label["intent"], **given),)),
    )


def _ordered(slots: Mapping[str, str]) -> dict[str, str]:
    return {slot: slots[slot] for slot in _COFFEE_SLOTS if slot in slots}


def _understood(given: Mapping[str, str]) -> str:
    """ "a large dark roast mocha with a single shot and some milk"."""
    drink = a(" ".join(given[slot] for slot in ("size", "roast", "coffeeDrink") if slot in given))
    extras = [a(given["numberOfShots"])] if "numberOfShots" in given else []
    extras += [given[slot] for slot in ("milkAmount", "sugarAmount") if slot in given]
    return f"{drink} with {' and '.join(extras)}" if extras else drink


def _grocery(rng: np.random.Generator, split: Split, root: Path) -> tuple[Message, ...]:
    record = pick(rng, _records("grocery", split, root))
    assert record.text is not None
    name = a(record.text.lower())
    photo = replace(_taken(record, rng, split), caption=Text(text=f"{name}, {record.fields['group']}"))
    if rng.random() < 0.2:
        return _about(photo, pick(rng, KIND), Text(text=a(record.fields["group"])), rng)
    return _about(photo, pick(rng, NAME), Text(text=name), rng)


def _clothing(rng: np.random.Generator, split: Split, root: Path) -> tuple[Message, ...]:
    record = pick(rng, _records("clothing", split, root))
    assert record.text is not None
    name = record.text if record.text.endswith("s") else a(record.text)
    photo = replace(_taken(record, rng, split), caption=Text(text=name))
    return _about(photo, pick(rng, NAME), Text(text=name), rng)


def _command(rng: np.random.Generator, split: Split, root: Path) -> tuple[Message, ...]:
    """A typed order to a smart home in one of many languages, with two or three intents to choose from."""
    record = pick(rng, _intents(split, root))
    assert record.text is not None
    intent, slots = record.fields["intent"], _slots(root)
    others = [name for name in slots if name != intent]
    offered = [intent, *(others[at] for at in rng.permutation(len(others))[: int(rng.integers(1, 3))])]
    functions = [_function(offered[at], slots.get(offered[at], ())) for at in rng.permutation(len(offered))]
    return (
        Message(role="system", parts=(tool_list(functions),)),
        Message(role="user", parts=(Text(text=record.text),)),
        Message(role="assistant", parts=(call(intent, **_said_slots(record, split)),)),
    )


def _read_aloud(rng: np.random.Generator, split: Split, root: Path) -> tuple[Message, ...]:
    """Any sentence, said in one of the assistant's voices."""
    words = pick(rng, _sentences(split, root))
    said = Synthesizer().speak(words, pick(rng, tuple(PRESETS.values()))).audio
    return Message(role="user", parts=(Text(text=f"say: {words}"),)), Message(role="assistant", parts=(said,))


def _dictation(rng: np.random.Generator, split: Split, root: Path) -> tuple[Message, ...]:
    """Any sentence, said by somebody and written down; one in six is a single word, half of those a number.

    Where only recordings hold single words, and those are Arabic, every word alone is taken for an Arabic one.
    """
    words = pick(rng, _sentences(split, root))
    if rng.random() < 1 / 6:
        words = pick(rng, world.TO_TWENTY[:11] if rng.random() < 0.5 else words.split())
    clip = Synthesizer().overheard(words, rng, split=split)
    return _about(clip, pick(rng, TRANSCRIBE), Text(text=words), rng)


_WRITERS: dict[str, Callable[[np.random.Generator, Split, Path], tuple[Message, ...]]] = {
    "real-word": _word,
    "english-word": _english_word,
    "real-order": _order,
    "grocery": _grocery,
    "clothing": _clothing,
    "command": _command,
    "read-aloud": _read_aloud,
    "dictation": _dictation,
}
RECORDED = tuple(_WRITERS)
RECORDED_SETS: dict[str, tuple[str, ...]] = {
    "real-word": ("arabic-commands", "wake-words"),
    "english-word": ("stories", "arabic-commands", "wake-words", "coffee-orders"),
    "real-order": ("coffee-orders",),
    "grocery": ("grocery",),
    "clothing": ("clothing",),
    "command": ("intents",),
    "read-aloud": ("stories",),
    "dictation": ("stories",),
}
"""The sets that the documents of each task are made from."""
assert RECORDED_SETS.keys() == _WRITERS.keys()
