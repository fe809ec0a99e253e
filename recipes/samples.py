"""What checkpoints are asked: n held-out samples of each condition, for every task of `sensorium.evals.tasks`.

They are made from `sensorium.data`: nothing here was ever trained on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import count, islice

import numpy as np

from recipes.asking import SEED, about, as_asked, first_turn, usual, words_of
from recipes.recorded_samples import command, photograph, real_order, real_word
from recipes.seeing_samples import draw_emoji, draw_icon, emoji, film, icons, several
from recipes.sentence_samples import VOICES, lesson, spoken_sums, transcription
from sensorium.data.generators import dialogues, pictures, refusals, wordings
from sensorium.data.generators.documents import Document, document
from sensorium.data.generators.edits import KINDS, Edit, Kind, edit, followed
from sensorium.data.generators.figures import bar_chart, clock, form
from sensorium.data.generators.recall import told
from sensorium.data.generators.refusals import MATTERS, Matter
from sensorium.data.generators.scenes import OPPOSITES, Scene
from sensorium.data.generators.speech import PRESETS, Split, Synthesizer, random_speaker
from sensorium.data.generators.styles import STYLES, Style, speak
from sensorium.data.generators.writer import Writer
from sensorium.evals.scorers import Drawing, Edited, SeenObject
from sensorium.evals.task import Modality, Sample
from sensorium.messages import Audio, Image, Message, Part, Text, ToolCall

_TYPED = "the same questions, typed"
_UNMARKED = tuple(wordings.MANNERS[style] for style in (None, "slow", "calm"))


def _said(messages: Sequence[Message]) -> str:
    """What the clip in a prompt says."""
    transcripts = [part.transcript for message in messages for part in message.parts if isinstance(part, Audio)]
    (transcript,) = transcripts
    assert transcript
    return transcript


def _heldout(task: str, *, speakers: Split | None = None, start: int = 0) -> Iterator[Document]:
    return (document(task, seed, split="heldout", speaker_split=speakers) for seed in count(start))


def spoken_command(n: int) -> Iterator[Sample]:
    """Clips of known voices and of unknown ones; what they say is the right transcript."""
    for condition, speakers in VOICES.items():
        for made in islice(_heldout("hear", speakers=speakers), n):
            prompt, _ = first_turn(made)
            sample_id = f"{condition} {made.seed}"
            yield Sample(id=sample_id, messages=as_asked(prompt), target=_said(prompt), condition=condition)


def spoken_question(n: int) -> Iterator[Sample]:
    rng = np.random.default_rng((SEED, 14))
    rows: list[tuple[str, str, Split, Modality]] = [
        *((f"{condition}, written answer", "hear", speakers, "text") for condition, speakers in VOICES.items()),
        ("seen voices, spoken answer", "talk", "train", "audio"),
        (_TYPED, "hear", "train", "text"),
    ]
    for condition, task, speakers, modality in rows:
        for made in islice(_heldout(task, speakers=speakers, start=10_000), n):
            prompt, answer = first_turn(made)
            said = _said(prompt)
            typed = Message(role="user", parts=(Text(text=dialogues.typed(said, rng)),))
            yield Sample(
                id=f"{condition} {made.seed}",
                messages=(*prompt[:-1], typed) if condition == _TYPED else as_asked(prompt),
                target=words_of(answer),
                condition=condition,
                modality=modality,
                voice=_voice(made.seed),
                metadata={"said": said, "is_spoken": condition != _TYPED},
            )


def _voice(index: int) -> str:
    return tuple(PRESETS)[index % len(PRESETS)]


def typed_question(n: int) -> Iterator[Sample]:
    for made in islice(_heldout("chat"), n):
        prompt, answer = first_turn(made)
        yield Sample(id=str(made.seed), messages=prompt, target=words_of(answer))


def recall(n: int) -> Iterator[Sample]:
    rng = np.random.default_rng((SEED, 8))
    kinds = {"go on": "lists", "what goes": "pairs", "what": "things", "is there": "presence"}
    left = Counter(dict.fromkeys(kinds.values(), n))
    while left.total():
        given = told(rng, "heldout")
        question, answer = dialogues.pick(rng, given.questions)
        kind = next(kind for beginning, kind in kinds.items() if question.startswith(beginning))
        if left[kind] > 0:
            left[kind] -= 1
            prompt = Message(role="user", parts=(Text(text=f"{given.text} {question}"),))
            yield Sample(id=f"{kind} {left[kind]}", messages=(prompt,), target=answer, condition=kind)


def say(n: int, codec: Callable[[Audio], Audio] | None) -> Iterator[Sample]:
    for made in islice(_heldout("say"), n):
        prompt, answer = first_turn(made)
        assert isinstance(answer, Audio)
        sounds = {"original": answer} | ({"codec": codec(answer)} if codec else {})
        yield Sample(
            id=str(made.seed),
            messages=prompt,
            target=words_of(answer),
            modality="audio",
            voice=answer.voice or "",
            metadata=sounds,
        )


_QUESTIONS = {  # how a question about a scene begins -> what it asks for
    "what is in the picture": "description",
    "what colour is the background": "background",
    "what colour": "colour",
    "what shape": "shape",
    "how many": "count",
    "is there": "presence",
    "where is": "place",
    "what is": "relation",
    "is the": "relation",
}


def scene_qa(n: int) -> Iterator[Sample]:
    guesses = _usual_answers()
    rng = np.random.default_rng((SEED, 3))
    left = Counter(dict.fromkeys(_QUESTIONS.values(), n))
    while left.total():
        seen = pictures.scene(rng, split="heldout")
        for question, answer in seen.questions:
            kind = next(kind for beginning, kind in _QUESTIONS.items() if question.startswith(beginning))
            if left[kind] > 0 and rng.random() < 0.3:  # at most a few questions about one scene
                left[kind] -= 1
                yield Sample(
                    id=f"{kind} {left[kind]}",
                    messages=about(rng, seen.pixels, question),
                    target=answer,
                    condition=kind,
                    metadata={"guess": guesses.get(question, "")},
                )


@cache
def _usual_answers() -> dict[str, str]:
    """The commonest answer to each question about a training scene."""
    rng = np.random.default_rng((SEED, 4))
    scenes = (pictures.scene(rng, split="train") for _ in range(3000))
    return usual(asked for shown in scenes for asked in shown.questions)


def word_reading(n: int) -> Iterator[Sample]:
    rng = np.random.default_rng((SEED, 5))
    left = Counter(dict.fromkeys(("words", "made-up words", "numbers"), n))
    while left.total():
        shown = pictures.word_picture(rng, split="heldout")
        word = shown.word
        kind = "numbers" if word.isdecimal() else "words" if word in pictures.WORDS else "made-up words"
        if left[kind] > 0:
            left[kind] -= 1
            messages = about(rng, shown.pixels, dialogues.pick(rng, wordings.READ))
            yield Sample(id=f"{kind} {left[kind]}", messages=messages, target=word, condition=kind)


def draw(n: int) -> Iterator[Sample]:
    rng = np.random.default_rng((SEED, 7))
    for index in range(n):
        wanted = pictures.scene(rng, split="heldout")
        order = dialogues.typed(dialogues.pick(rng, wordings.DRAW).format(x=wanted.caption), rng)
        kind, drawing = _drawing(wanted)
        yield Sample(
            id=str(index),
            messages=(Message(role="user", parts=(Text(text=order),)),),
            target=wanted.caption,
            condition=kind,
            metadata={"drawing": drawing},
        )


def _drawing(wanted: Scene) -> tuple[str, Drawing]:
    """The kind of a scene, and what a picture of it must hold."""
    looks = tuple((item.colour, item.shape) for item in wanted.objects)
    relation = next((name for name in ("above", "left of") if f" {name} " in wanted.caption), "")
    if relation:
        return "two in relation", Drawing(looks, relation)
    kind = "one shape" if len(looks) == 1 else "several alike" if len(set(looks)) == 1 else "three shapes"
    return kind, Drawing(looks)


def tool_call(n: int) -> Iterator[Sample]:
    for condition, task in (("typed", "tool"), ("spoken", "tool-spoken")):
        for made in islice(_heldout(task, speakers="train"), n):
            prompt, answer = first_turn(made)
            call = (answer.name, answer.arguments) if isinstance(answer, ToolCall) else None
            yield Sample(
                id=f"{condition} {made.seed}",
                messages=as_asked(prompt),
                target=" ".join(call) if call else words_of(answer),
                condition=condition,
                metadata={"call": call},
            )


def say_styled(n: int) -> Iterator[Sample]:
    synthesizer = Synthesizer()
    for number, style in enumerate(STYLES):
        rng = np.random.default_rng((SEED, 15, number))
        for index in range(n):
            words, voice = dialogues.sentence(rng, "heldout"), _voice(index)
            order = Text(text=dialogues.pick(rng, wordings.STYLED[style]).format(x=words))
            original = speak(synthesizer, words, PRESETS[voice], style).audio
            yield Sample(
                id=f"{style} {index}",
                messages=(Message(role="user", parts=(order,)),),
                target=words,
                condition=style,
                modality="audio",
                voice=voice,
                metadata={"style": style, "original": original},
            )


def listening(n: int) -> Iterator[Sample]:
    tasks = {"style": "hear-styled", "background": "hear-background", "people": "hear-people"}
    for condition, task in tasks.items():
        turns = ((made.seed, *first_turn(made)) for made in _heldout(task))
        asked = (turn for turn in turns if any(isinstance(part, Text) for part in turn[1][-1].parts))
        for seed, prompt, answer in islice(asked, n):
            yield Sample(
                id=f"{condition} {seed}",
                messages=as_asked(prompt),
                target=words_of(answer).split(": ")[-1],
                condition=condition,
                metadata={"unmarked": _UNMARKED} if condition == "style" else {"is_ending": condition == "people"},
            )


def whispered(n: int) -> Iterator[Sample]:
    manners: tuple[tuple[str, tuple[Style | None, ...]], ...] = (
        ("whispered", ("whisper",)),
        ("in another manner", (None, None, *(style for style in STYLES if style != "whisper"))),
    )
    for number, (condition, styles) in enumerate(manners):
        rng = np.random.default_rng((SEED, 18, number))
        for index in range(n):
            speaker = random_speaker(rng, split="heldout")
            writer = Writer(rng=rng, split="heldout", speaker_split="heldout", speaker=speaker, voice=_voice(index))
            asked, style = writer.exchange(), dialogues.pick(rng, styles)
            writer.user(writer.heard(asked.question, style=style))
            yield Sample(
                id=f"{condition} {index}",
                messages=as_asked(tuple(writer.messages)),
                target=asked.answer,
                condition=condition,
                modality="audio",
                voice=writer.voice,
                metadata={"style": style or ""},
            )


def translation(n: int) -> Iterator[Sample]:
    left = Counter({f"{given} to {answered}": n for given in ("typed", "heard") for answered in ("text", "speech")})
    for made in _heldout("translate"):
        prompt, answer = first_turn(made)
        is_heard = any(isinstance(part, Audio) for part in prompt[-1].parts)
        is_aloud = isinstance(answer, Audio)
        condition = f"{'heard' if is_heard else 'typed'} to {'speech' if is_aloud else 'text'}"
        if left[condition] > 0:
            left[condition] -= 1
            yield Sample(
                id=f"{condition} {made.seed}",
                messages=as_asked(prompt),
                target=words_of(answer),
                condition=condition,
                modality="audio" if is_aloud else "text",
                voice=(answer.voice if isinstance(answer, Audio) else None) or _voice(made.seed),
                metadata={"original": answer} if isinstance(answer, Audio) else {},
            )
        if not left.total():
            return


def refusal(n: int) -> Iterator[Sample]:
    """Each question once: there are but a few dozen that are held out."""
    synthesizer = Synthesizer()
    kinds: tuple[tuple[str, tuple[Matter, ...]], ...] = (("refused", MATTERS[:-1]), ("fine", ("fine",)))
    for kind, matters in kinds:
        for way in ("typed", "spoken"):
            rng = np.random.default_rng((SEED, 9, len(kind), len(way)))
            made = (refusals.refusal(rng, "heldout", matter=matters[index % len(matters)]) for index in range(40 * n))
            asked = {each.question: each for each in made}
            for index, each in enumerate(list(asked.values())[:n]):
                part: Part = Text(text=dialogues.typed(each.question, rng))
                if way == "spoken":
                    part = synthesizer.overheard(each.question, rng, split="heldout")
                prompt = (Message(role="user", parts=(part,)),)
                condition = f"{kind}, {way}"
                sample_id = f"{condition} {index}"
                yield Sample(id=sample_id, messages=as_asked(prompt), target=each.answer, condition=condition)


def figures(n: int) -> Iterator[Sample]:
    for number, (condition, draw_one) in enumerate((("clock", clock), ("bars", bar_chart), ("form", form))):
        rng = np.random.default_rng((SEED, 10, number))
        learned = np.random.default_rng((SEED, 11))
        guesses: dict[str, Counter[str]] = {}
        for _ in range(400):
            for question, answer in draw_one(learned, split="train").questions:
                guesses.setdefault(question, Counter())[answer] += 1
        for index in range(n):
            shown = draw_one(rng, split="heldout")
            question, answer = dialogues.pick(rng, shown.questions)
            guess = guesses[question].most_common(1)[0][0] if question in guesses else ""
            yield Sample(
                id=f"{condition} {index}",
                messages=about(rng, shown.pixels, question),
                target=answer,
                condition=condition,
                metadata={"guess": guess},
            )


def edits(n: int) -> Iterator[Sample]:
    yield from _changes(n, 12, KINDS)


def edits_placed(n: int) -> Iterator[Sample]:
    yield from _changes(n, 20, ("recolour", "remove"), placed=1.0)


def _changes(n: int, number: int, kinds: Sequence[Kind], *, placed: float = 0.0) -> Iterator[Sample]:
    for at, kind in enumerate(kinds):
        rng = np.random.default_rng((SEED, number, at))
        for index in range(n):
            made = edit(rng, split="heldout", kind=kind, placed=placed)
            while placed and not made.where:
                made = edit(rng, split="heldout", kind=kind, placed=placed)
            yield Sample(
                id=f"{kind} {index}",
                messages=about(rng, made.before.pixels, made.order),
                target=f"{made.order}: {made.after.caption}",
                condition=kind,
                metadata={"edited": _edited(made)},
            )


def edits_followup(n: int) -> Iterator[Sample]:
    for number, kind in enumerate(KINDS):
        rng = np.random.default_rng((SEED, 16, number))
        for index in range(n):
            made = edit(rng, split="heldout", kind=kind)
            order = followed(rng, made)
            drawn = Message(role="assistant", parts=(Image(pixels=made.before.pixels),))
            asked = (Text(text=f"draw {made.before.caption}"), Text(text=order))
            first, second = (Message(role="user", parts=(text,)) for text in asked)
            yield Sample(
                id=f"{kind} {index}",
                messages=(first, drawn, second),
                target=f"{order}: {made.after.caption}",
                condition=kind,
                metadata={"edited": _edited(made)},
            )


def _edited(made: Edit) -> Edited:
    before, after = (
        tuple(SeenObject(item.colour, item.shape, item.x, item.y, item.radius) for item in picture.objects)
        for picture in (made.before, made.after)
    )
    if made.kind != "add":
        return Edited(before, after)
    (new,) = [item for item in after if item not in before]
    words = made.order.split(f"{new.colour} {new.shape} ", 1)[1]
    relation = next(relation for relation in OPPOSITES if words.startswith(relation))
    return Edited(before, before, (new.colour, new.shape), relation)


SAMPLES: dict[str, Callable[..., Iterator[Sample]]] = {
    make.__name__: make
    for make in (
        spoken_command,
        transcription,
        spoken_question,
        spoken_sums,
        typed_question,
        lesson,
        recall,
        say,
        say_styled,
        listening,
        whispered,
        translation,
        scene_qa,
        figures,
        film,
        several,
        word_reading,
        icons,
        emoji,
        draw,
        draw_icon,
        draw_emoji,
        edits,
        edits_followup,
        edits_placed,
        tool_call,
        refusal,
        real_word,
        real_order,
        photograph,
        command,
    )
}

LEARNED_FROM: dict[str, tuple[str, ...]] = {
    "transcription": ("transcribe",),
    "recall": ("recall",),
    "lesson": ("lesson",),
    "say_styled": ("say-styled",),
    "listening": ("hear-styled", "hear-background", "hear-people"),
    "translation": ("translate",),
    "figures": ("figure",),
    "film": ("see-film",),
    "several": ("see-several",),
    "edits": ("edit",),
    "edits_followup": ("edit-followup",),
    "edits_placed": ("edit",),
    "refusal": ("refuse",),
    "real_word": ("real-word",),
    "real_order": ("real-order",),
    "photograph": ("grocery", "clothing"),
    "command": ("command",),
    "whispered": ("talk-whispered",),
    "emoji": ("emoji",),
    "draw_emoji": ("emoji",),
}
"""The documents that teach a task, where not every network is taught it: others are not examined in it."""

REAL = ("real_word", "real_order", "photograph", "command")  # of the sets in $SENSORIUM_DATA
