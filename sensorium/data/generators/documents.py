"""Whole conversations to learn from, by task: what goes in through eyes, ears and keyboard, and the right answer.

A document is a function of (task, seed, split), so a corpus is a range of seeds. "heldout" differs in everything a
user could bring: sentences, speakers, captions, fonts, icon styles.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from sensorium.data.generators import sights
from sensorium.data.generators.dialogues import pick, sentence
from sensorium.data.generators.lessons import lesson
from sensorium.data.generators.recall import told
from sensorium.data.generators.refusals import refusal
from sensorium.data.generators.speech import PRESETS, PhonemeTime, Split, random_speaker
from sensorium.data.generators.styles import STYLES
from sensorium.data.generators.surroundings import BACKGROUNDS
from sensorium.data.generators.tools import tool_exchange
from sensorium.data.generators.translations import LANGUAGES, phrase
from sensorium.data.generators.wordings import (
    BEHIND,
    GO_ON,
    INTERPRET,
    LISTENING,
    MANNER,
    MANNERS,
    PEOPLE,
    PEOPLE_SPEAK,
    STYLED,
    TRANSCRIBE,
    TRANSLATE,
)
from sensorium.data.generators.writer import Writer
from sensorium.messages import Audio, Message, Text

_LONG_CALL_MS = 45_000.0  # some 900 positions


@dataclass(frozen=True, kw_only=True, eq=False)
class Document:
    """A conversation to train on. `phonemes` has one entry for each audio part, in the order of the messages."""

    task: str
    seed: int
    split: Split
    messages: tuple[Message, ...]
    phonemes: tuple[tuple[PhonemeTime, ...], ...] = ()


def _chat_turn(writer: Writer) -> None:
    turn = writer.exchange()
    writer.user(writer.typed(turn.question))
    writer.assistant(Text(text=turn.answer))


def _hear_turn(writer: Writer) -> None:
    turn = writer.exchange()
    writer.user(writer.heard(turn.question))
    writer.assistant(Text(text=turn.answer))


def _pausing_turn(writer: Writer) -> None:
    """Someone who stops to think: a turn is over when the sentence is, not at the first silence."""
    turn = writer.exchange()
    writer.user(writer.heard_pausing(turn.question, pauses=int(writer.rng.integers(3))))
    writer.assistant(Text(text=turn.answer))


def _talk_turn(writer: Writer) -> None:
    turn = writer.exchange()
    writer.user(writer.heard(turn.question))
    writer.assistant(writer.spoken(turn.answer))


def _whispered_turn(writer: Writer) -> None:
    """A whisper is answered in a whisper, and nothing else is."""
    turn = writer.exchange()
    style = "whisper" if writer.rng.random() < 0.6 else pick(writer.rng, (None, None, *STYLES))
    writer.user(writer.heard(turn.question, style=style))
    writer.assistant(writer.spoken(turn.answer, "whisper" if style == "whisper" else None))


def _turns(turn: Callable[[Writer], None]) -> Callable[[Writer], None]:
    """A conversation of one to three turns of one kind."""

    def write(writer: Writer) -> None:
        writer.maybe_system()
        for _ in range(writer.num_turns()):
            turn(writer)

    return write


def _interrupted(writer: Writer) -> None:
    """Someone breaks into an answer, to ask something else or to hear the rest after all."""
    writer.maybe_system()
    turn = writer.exchange()
    while len(turn.answer.split()) < 3:
        turn = writer.exchange()
    writer.user(writer.heard(turn.question))
    begun = writer.begun(turn.answer)
    writer.assistant(begun)
    if writer.rng.random() < 0.4:
        writer.user(writer.heard_or_typed(pick(writer.rng, GO_ON), heard=0.7))
        writer.assistant(writer.spoken(turn.answer[begun.words[-1].start_char :]))
    else:
        _talk_turn(writer)


def _conversation(writer: Writer) -> None:
    """A call: much is said, with pauses; at times the user breaks into an answer, breaks off, types or talks long."""
    writer.maybe_system()
    aloud = writer.rng.random() < 0.75
    for _ in range(int(writer.rng.integers(3, 13))):
        if writer.sound_ms > _LONG_CALL_MS:
            return
        turn, kind = writer.exchange(), writer.rng.random()
        if kind < 0.06 and len(words := turn.question.split()) > 3:
            broken_off = " ".join(words[: int(writer.rng.integers(1, 3))])
            writer.user(writer.heard_pausing(broken_off, pauses=0, open_ms=(1400.0, 2600.0)))
            turn = turn._replace(answer=pick(writer.rng, LISTENING))
        elif kind < 0.12:
            writer.user(writer.typed(turn.question))
        elif kind < 0.18:  # in one breath, however long that takes
            said = [sentence(writer.rng, writer.split) for _ in range(int(writer.rng.integers(1, 5)))]
            writer.user(writer.heard_pausing(" ".join([*said, turn.question]), pauses=0))
        else:
            writer.user(writer.heard_pausing(turn.question, pauses=int(writer.rng.integers(3))))
        if aloud and kind > 0.85 and len(turn.answer.split()) > 2:
            writer.assistant(writer.begun(turn.answer))
        else:
            writer.assistant(writer.spoken(turn.answer) if aloud else Text(text=turn.answer))


def _answer_aloud(writer: Writer) -> None:
    writer.maybe_system()
    turn = writer.exchange()
    writer.user(writer.typed(turn.question))
    writer.assistant(writer.spoken(turn.answer))


def _say(writer: Writer) -> None:
    words = sentence(writer.rng, writer.split)
    writer.user(Text(text=f"say: {words}"))
    writer.assistant(writer.spoken(words))


def _say_styled(writer: Writer) -> None:
    words, style = sentence(writer.rng, writer.split), pick(writer.rng, STYLES)
    writer.user(Text(text=pick(writer.rng, STYLED[style]).format(x=words)))
    writer.assistant(writer.spoken(words, style))


def _hear_styled(writer: Writer) -> None:
    style = pick(writer.rng, (None, *STYLES))
    clip = writer.heard(sentence(writer.rng, writer.split), style=style)
    writer.about(clip, writer.typed(pick(writer.rng, MANNER)))
    writer.assistant(Text(text=MANNERS[style]))


def _hear_background(writer: Writer) -> None:
    """What is behind the words; and words understood in spite of it."""
    background = pick(writer.rng, (None, *BACKGROUNDS))
    turn = writer.exchange()
    clip = writer.heard_before(turn.question, background)
    if writer.rng.random() < 0.5:
        writer.about(clip, writer.typed(pick(writer.rng, BEHIND)))
        are = "are" if background == "birds" else "is"
        writer.assistant(Text(text=f"there {are} {background} behind you" if background else "there is nothing else"))
    else:
        writer.user(clip)
        writer.assistant(Text(text=turn.answer))


def _hear_people(writer: Writer) -> None:
    """Three sentences by one to three people, in training often only their first words. What is asked is how many; told
    before that is whose voice each is, one comparison at a time: a number alone teaches next to nothing."""
    count = int(writer.rng.integers(1, 4))
    num_words = 2 if writer.split == "train" and writer.rng.random() < 0.5 else None
    texts = [" ".join(sentence(writer.rng, writer.split).split()[:num_words]) for _ in range(3)]
    clip, heights = writer.heard_people(texts, people=count)
    writer.about(clip, writer.typed(pick(writer.rng, PEOPLE)))
    voices = ", ".join(f"a {height} voice" if height else "the same voice" for height in heights)
    writer.assistant(Text(text=f"{voices}: {PEOPLE_SPEAK[count]}"))


def _refuse(writer: Writer) -> None:
    asked = refusal(writer.rng, writer.split)
    writer.maybe_system()
    writer.user(writer.heard_or_typed(asked.question, heard=0.5))
    writer.assistant(Text(text=asked.answer))


def _translate(writer: Writer) -> None:
    """A phrase in one language, and the same in another: typed or spoken in, written or spoken out."""
    meaning = phrase(writer.rng, writer.split)
    one, other = (LANGUAGES[at] for at in writer.rng.permutation(len(LANGUAGES))[:2])
    if writer.rng.random() < 0.12:  # what is in that language already stays as it is
        one, other, meaning = "english", "english", {"english": sentence(writer.rng, writer.split)}
    given = writer.heard(meaning[one], language=one) if writer.rng.random() < 0.7 else Text(text=meaning[one])
    if isinstance(given, Audio) and writer.rng.random() < 0.4:
        order = Text(text=pick(writer.rng, INTERPRET).format(x=other))
        writer.messages.append(Message(role="system", parts=(order,)))
        writer.user(given)
    elif isinstance(given, Audio):
        writer.about(given, writer.typed(pick(writer.rng, TRANSLATE).format(x=other)))
    else:
        writer.user(Text(text=f"{pick(writer.rng, TRANSLATE).format(x=other)}: {given.text}"))
    aloud = writer.rng.random() < 0.6
    writer.assistant(writer.spoken(meaning[other], language=other) if aloud else Text(text=meaning[other]))


def _transcribe(writer: Writer) -> None:
    words = sentence(writer.rng, writer.split)
    writer.about(writer.heard(words), writer.typed(pick(writer.rng, TRANSCRIBE)))
    writer.assistant(Text(text=words))


def _tool(writer: Writer, *, heard: float = 0.0) -> None:
    offer = tool_exchange(writer.rng, writer.split)
    writer.messages.append(Message(role="system", parts=(Text(text=offer.system),)))
    writer.user(writer.heard_or_typed(offer.exchange.question, heard=heard))
    tool_call = offer.exchange.tool_call
    writer.assistant(tool_call or Text(text=offer.exchange.answer))
    if tool_call is not None and offer.result is not None:
        writer.messages.append(
            Message(role="tool", parts=(Text(text=offer.result),), tool_call_id=tool_call.id),
        )
        writer.assistant(Text(text=offer.exchange.answer))


def _tool_spoken(writer: Writer) -> None:
    _tool(writer, heard=1.0)


def _lesson(writer: Writer) -> None:
    """Questions of a tutor and of everyday, typed: several, since text is the cheap part of all documents."""
    writer.maybe_system()
    for _ in range(int(writer.rng.integers(1, 9))):
        asked = lesson(writer.rng, writer.split) if writer.rng.random() < 0.8 else writer.exchange()
        writer.user(writer.typed(asked.question))
        writer.assistant(Text(text=asked.answer))


def _lesson_spoken(writer: Writer) -> None:
    asked = lesson(writer.rng, writer.split)
    writer.user(writer.heard_or_typed(asked.question, heard=0.7))
    writer.assistant(writer.spoken(asked.answer) if writer.rng.random() < 0.6 else Text(text=asked.answer))


def _recall(writer: Writer) -> None:
    """Something to remember, and then up to ten questions about it: its answers are what this document is for."""
    given = told(writer.rng, writer.split)
    asked = writer.rng.permutation(len(given.questions))[:10]
    for turn, at in enumerate(asked):
        question, answer = given.questions[at]
        told_first = (Text(text=given.text),) if turn == 0 else ()
        writer.user(*told_first, Text(text=f" {question}" if turn == 0 else question))
        writer.assistant(Text(text=answer))


_MIXED = (
    *(_chat_turn, _chat_turn, _hear_turn, _talk_turn, _say),
    *(sights.see, sights.read, sights.draw, sights.icon, sights.emoji),
)


def _mixed(writer: Writer) -> None:
    """A person who types, speaks, shows and asks for drawings in one conversation."""
    for _ in range(int(writer.rng.integers(2, 5))):
        pick(writer.rng, _MIXED)(writer)


_WRITERS: dict[str, Callable[[Writer], None]] = {
    "chat": _turns(_chat_turn),
    "hear": _turns(_hear_turn),
    "hear-pausing": _turns(_pausing_turn),
    "talk": _turns(_talk_turn),
    "talk-whispered": _turns(_whispered_turn),
    "interrupted": _interrupted,
    "conversation": _conversation,
    "say": _say,
    "say-styled": _say_styled,
    "hear-styled": _hear_styled,
    "hear-background": _hear_background,
    "hear-people": _hear_people,
    "refuse": _refuse,
    "translate": _translate,
    "answer-aloud": _answer_aloud,
    "transcribe": _transcribe,
    "tool": _tool,
    "tool-spoken": _tool_spoken,
    "recall": _recall,
    "lesson": _lesson,
    "lesson-spoken": _lesson_spoken,
    "see": sights.see,
    "see-plain": partial(sights.see, noted=False),
    "whether": sights.whether,
    "see-film": sights.see_film,
    "see-several": sights.see_several,
    "read": sights.read,
    "draw": sights.draw,
    "edit": sights.edit,
    "edit-followup": sights.edit_followup,
    "edit-told": sights.edit_told,
    "figure": sights.figure,
    "icon": sights.icon,
    "emoji": sights.emoji,
    "mixed": _mixed,
}

TASKS: dict[str, float] = {
    "chat": 0.02,
    "hear": 0.1,
    "talk": 0.06,
    "say": 0.19,
    "answer-aloud": 0.03,
    "transcribe": 0.1,
    "tool": 0.02,
    "tool-spoken": 0.03,
    "recall": 0.05,
    "see": 0.1,
    "read": 0.12,
    "draw": 0.12,
    "icon": 0.03,
    "mixed": 0.03,
}
"""Tasks and their usual shares of the documents. A picture or a second of sound weighs more than a typed line."""

NAMES = tuple(_WRITERS)
assert set(TASKS) <= set(NAMES)


def document(task: str, seed: int, *, split: Split, speaker_split: Split | None = None) -> Document:
    """Document number `seed` of a task: the same arguments give the same bytes.

    `speaker_split` draws the people who are heard from another split than the sentences: held-out sentences from
    voices that were trained on, say. Raises ValueError for an unknown task or a negative seed.
    """
    if task not in _WRITERS:
        raise ValueError(f"unknown task {task!r}; there are {', '.join(NAMES)}")
    if seed < 0:
        raise ValueError(f"a seed is 0 or more, not {seed}")
    rng = np.random.default_rng([zlib.crc32(task.encode()), split == "heldout", seed])
    heard_split = speaker_split or split
    speaker = random_speaker(rng, split=heard_split)
    voice = pick(rng, tuple(PRESETS))
    writer = Writer(rng=rng, split=split, speaker_split=heard_split, speaker=speaker, voice=voice)
    _WRITERS[task](writer)
    return Document(task=task, seed=seed, split=split, messages=tuple(writer.messages), phonemes=tuple(writer.phonemes))
