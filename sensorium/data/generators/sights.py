"""Turns about pictures and films: what is seen, counted and read in them, drawn, and changed."""

from __future__ import annotations

from collections.abc import Sequence

from sensorium.data.generators import edits, world
from sensorium.data.generators.dialogues import pick, sentence
from sensorium.data.generators.emoji import characters, emoji_drawing, emoji_orders, emoji_picture, emoji_questions
from sensorium.data.generators.film import film
from sensorium.data.generators.icons import colours_to_draw, icon_drawing, icon_orders, icon_to_draw
from sensorium.data.generators.pictures import digit_picture, figure_picture, icon_picture, scene, word_picture
from sensorium.data.generators.several import several
from sensorium.data.generators.wordings import DIGIT, NAME, NAME_EMOJI, READ, SAID
from sensorium.data.generators.writer import Writer
from sensorium.messages import Image, Text, Video
from sensorium.tokenizers.encoded import SpelledText


def see(writer: Writer, *, noted: bool = True) -> None:
    """One picture, three to eight questions: a picture is the dear part of a document."""
    seen = scene(writer.rng, split=writer.split)
    shown = Image(pixels=seen.pixels, caption=Text(text=seen.description if noted else seen.plain_description))
    _ask(writer, shown, seen.questions, turns=int(writer.rng.integers(3, 9)))


def _ask(
    writer: Writer,
    shown: Image | Video | Sequence[Image],
    questions: Sequence[tuple[str, str]],
    *,
    turns: int,
    words: type[Text] = Text,
) -> None:
    """A picture, a film or pictures, and questions about it, one in a turn; `words` are how the answers are written."""
    for turn in range(turns):
        question, answer = pick(writer.rng, questions)
        is_silent = turn == 0 and isinstance(shown, Video)  # beside a film that speaks itself, a question is typed
        asked = writer.heard_or_typed(question, heard=0.0 if is_silent else 0.15)
        if turn == 0:
            writer.about(shown, asked)
        else:
            writer.user(asked)
        writer.assistant(words(text=answer))


def whether(writer: Writer) -> None:
    """Is this there, is that: all that is asked so of one picture, or of its words alone; no answer teaches much."""
    seen = scene(writer.rng, split=writer.split)
    asked = [asked for asked in seen.questions if asked[0].startswith("is there")]
    described = Text(text=seen.description)
    for turn, at in enumerate(writer.rng.permutation(len(asked)).tolist()):
        question, answer = writer.typed(asked[at][0]), Text(text=asked[at][1])
        if turn > 0:
            writer.user(question)
        elif writer.rng.random() < 0.6:
            writer.user(Text(text=f"{described.text} "), question)
        else:
            writer.about(Image(pixels=seen.pixels, caption=described), question)
        writer.assistant(answer)


def read(writer: Writer) -> None:
    if writer.rng.random() < 0.15:
        shown = digit_picture(writer.rng, split=writer.split)
        question, answer = pick(writer.rng, DIGIT), Text(text=world.DIGITS[int(shown.digit)])
        caption = Text(text=f"the number {answer.text}")
    else:
        shown = word_picture(writer.rng, split=writer.split)
        question, answer = pick(writer.rng, READ), SpelledText(text=shown.word)
        caption = answer
    writer.about(Image(pixels=shown.pixels, caption=caption), writer.heard_or_typed(question, heard=0.1))
    writer.assistant(answer)


def see_film(writer: Writer) -> None:
    """A film, two times in three with somebody who speaks in it, and two to five questions."""
    frame_ms, least_ms = pick(writer.rng, (1000.0, 1000.0, 500.0)), 1000.0 * int(writer.rng.integers(0, 5))
    sound = None
    if writer.rng.random() < 0.65:
        sound = writer.sound_track(sentence(writer.rng, writer.split), least_ms=least_ms)
    shown = film(writer.rng, split=writer.split, frame_ms=frame_ms, least_ms=sound.duration_ms if sound else least_ms)
    noted = zip(shown.frames, shown.notes, strict=True)
    frames = tuple(Image(pixels=pixels, caption=Text(text=note)) for pixels, note in noted)
    medium = Video(frames=frames, times_ms=shown.times_ms, sound=sound, caption=Text(text=shown.story))
    said = sound.transcript if sound and sound.transcript else "nothing is said"
    questions = [(question, answer) for _, question, answer in shown.questions]
    questions += [(pick(writer.rng, SAID), said)] * max(1, len(questions) // 4)
    _ask(writer, medium, questions, turns=int(writer.rng.integers(2, 6)))


def see_several(writer: Writer) -> None:
    """Pictures side by side, and two to four questions about them."""
    shown = several(writer.rng, split=writer.split)
    parts = zip(shown.pictures, shown.captions, strict=True)
    pictures = tuple(Image(pixels=pixels, caption=Text(text=caption)) for pixels, caption in parts)
    questions = [(question, answer) for _, question, answer in shown.questions]
    _ask(writer, pictures, questions, turns=int(writer.rng.integers(2, 5)))


def draw(writer: Writer) -> None:
    drawn = scene(writer.rng, split=writer.split)
    writer.drawn(drawn.caption, drawn.pixels)


def edit(writer: Writer) -> None:
    """A picture, and what to change in it."""
    made = _ordered(writer)
    shown = Image(pixels=made.before.pixels, caption=Text(text=made.before.description))
    writer.about(shown, writer.heard_or_typed(made.order, heard=0.2))
    _changed(writer, made)


def edit_followup(writer: Writer) -> None:
    """A drawing, and what to change in it, in the words of a conversation."""
    made = _ordered(writer)
    writer.drawn(made.before.caption, made.before.pixels, heard=0.0)
    writer.user(writer.heard_or_typed(edits.followed(writer.rng, made), heard=0.2))
    _changed(writer, made)


def edit_told(writer: Writer) -> None:
    """A picture in words, and what a change of it comes to: the part of `edit` that needs no picture."""
    made = _ordered(writer)
    writer.user(Text(text=f"{made.before.description} "), writer.typed(made.order))
    writer.assistant(Text(text=made.aim))


def _ordered(writer: Writer) -> edits.Edit:
    """A change: what is to go is hardest, since everywhere else what an order names is what is to be drawn."""
    return edits.edit(writer.rng, split=writer.split, kind="remove" if writer.rng.random() < 0.3 else None, placed=0.5)


def _changed(writer: Writer, made: edits.Edit) -> None:
    """The picture; now and then what is to change and where is said first."""
    where = (Text(text=made.where),) if made.where and writer.rng.random() < 0.5 else ()
    writer.assistant(*where, Image(pixels=made.after.pixels))


def figure(writer: Writer) -> None:
    """A clock, a chart or a form, and two to five questions. What a form holds is spelled, as all that is read."""
    drawn = figure_picture(writer.rng, split=writer.split)
    words = SpelledText if drawn.regions else Text
    shown = Image(pixels=drawn.pixels, caption=words(text=drawn.caption))
    _ask(writer, shown, drawn.questions, turns=int(writer.rng.integers(2, 6)), words=words)


def icon(writer: Writer) -> None:
    """An icon to be named, in any look; or drawn, as it always is, two times of three in a colour."""
    if writer.rng.random() < 0.3:
        shown = icon_picture(writer.rng, split=writer.split)
        writer.named(shown.pixels, shown.name, NAME)
        return
    name = icon_to_draw(writer.rng)
    colour = pick(writer.rng, colours_to_draw(name, writer.split) or ("",)) if writer.rng.random() < 0.67 else ""
    writer.drawn(pick(writer.rng, icon_orders(name, colour)), icon_drawing(name, colour).pixels)


def emoji(writer: Writer) -> None:
    """An emoji to be named, in any look; to be drawn, as it always is; or only spoken of."""
    kind = writer.rng.random()
    if kind < 0.58:
        shown = emoji_picture(writer.rng, split=writer.split)
        writer.named(shown.pixels, shown.name, NAME_EMOJI)
        return
    name = pick(writer.rng, tuple(characters()))
    if kind < 0.95:
        wanted = pick(writer.rng, emoji_orders(name))
        writer.drawn(wanted, emoji_drawing(name).pixels, heard=0.2 if wanted.isascii() else 0.0)
    else:
        question, answer = pick(writer.rng, emoji_questions(name))
        writer.user(writer.typed(question))
        writer.assistant(Text(text=answer))
