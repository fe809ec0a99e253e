"""Films: what is drawn is what is told, and every question has the answer that the film gives."""

from __future__ import annotations

import numpy as np
import pytest

from sensorium.data.generators.canvas import in_split
from sensorium.data.generators.film import Film, film
from sensorium.data.generators.scenes import COLOURS, NUMBERS


@pytest.fixture(scope="module")
def films() -> list[Film]:
    rng = np.random.default_rng(3)
    return [film(rng, split="train", frame_ms=500.0) for _ in range(120)]


def near(pixel: np.ndarray, colour: str) -> bool:
    return bool(np.abs(pixel.astype(int) - COLOURS[colour]).max() < 24)


def test_the_seed_decides_every_byte() -> None:
    one, other = (film(np.random.default_rng(5), split="train") for _ in range(2))
    assert one.story == other.story
    assert all(np.array_equal(a, b) for a, b in zip(one.frames, other.frames, strict=True))


def test_frames_show_the_states(films: list[Film]) -> None:
    """At the start, and at the end of each happening, every object stands where its state says, in its colour."""
    for made in films:
        ends_ms = [0.0, *(happening.end_ms for happening in made.happenings)]
        for state, end_ms in zip(made.states, ends_ms, strict=True):
            pixels = made.frames[made.times_ms.index(end_ms)]
            for item in state:
                if item.shape not in ("ring", "heart"):  # of the others the centre is filled
                    assert near(pixels[int(item.y * 64), int(item.x * 64)], item.colour), (made.story, item)


def test_things_move_across_the_frames_between(films: list[Film]) -> None:
    moves = 0
    for made in films:
        for number, happening in enumerate(made.happenings):
            middle_ms = (happening.start_ms + happening.end_ms) / 2
            if happening.verb != "moves" or middle_ms not in made.times_ms:
                continue
            (before,), (after,) = (
                [item for item in made.states[number + of] if item.shape == happening.shape] for of in (0, 1)
            )
            ahead = (after.x - before.x, after.y - before.y)
            way = {"to the right": (1, 0), "to the left": (-1, 0), "down": (0, 1), "up": (0, -1)}[happening.how]
            assert np.sign(ahead).tolist() == list(way)
            if happening.shape not in ("ring", "heart"):
                x, y = (before.x + after.x) / 2, (before.y + after.y) / 2
                middle = made.frames[made.times_ms.index(middle_ms)]
                assert near(middle[int(y * 64), int(x * 64)], before.colour)
            moves += 1
    assert moves > 50


def test_notes_say_what_a_frame_shows_and_where(films: list[Film]) -> None:
    """Near the place that is noted the picture has the colour that is noted; what moves has another place behind it."""
    seen, moved = set[str](), 0
    for made in films:
        for pixels, note in zip(made.frames, made.notes, strict=True):
            there = note.split(". ")[0]
            for item in there.split(", ") if there != "nothing" else ():
                colour, shape, column, row = item.split()
                x, y = (int(64 * (0.2 + 0.15 * (int(fifth) - 1))) for fifth in (column, row))
                around = pixels[y - 5 : y + 6, x - 5 : x + 6].reshape(-1, 3)
                assert any(near(pixel, colour) for pixel in around), (made.story, shape, note)
                seen.add(column + row)
        told = [happening for happening in made.happenings if happening.verb == "moves"]
        for happening in told:
            first, last = (made.notes[made.times_ms.index(at)] for at in (happening.start_ms, happening.end_ms))
            places = [
                [item for item in note.split(". ")[0].split(", ") if happening.shape in item] for note in (first, last)
            ]
            assert places[0] != places[1]
            moved += 1
    assert len(seen) > 12
    assert moved > 50


def test_notes_tell_what_has_happened_since_the_one_before(films: list[Film]) -> None:
    """Put together, without what is told twice of one motion, they tell the story."""
    for made in films:
        told = [clause for note in made.notes for clause in note.split(". ")[1:]]
        once = [clause for at, clause in enumerate(told) if at == 0 or told[at - 1] != clause]
        clauses = [happening.clause for happening in made.happenings]
        twice = [clause for at, clause in enumerate(clauses) if at == 0 or clauses[at - 1] != clause]
        assert once == twice, (made.story, made.notes)
        assert ". " not in made.notes[0]


def test_answers_are_true(films: list[Film]) -> None:
    for made in films:
        clauses = [happening.clause for happening in made.happenings]
        answers = {question: answer for _, question, answer in made.questions}
        assert len(answers) == len(made.questions), "a question has one answer"
        assert answers["what happens"] == ", then ".join(clauses)
        assert answers["what happens"] in made.story
        assert answers.get("what happens first", clauses[0]) == clauses[0]
        assert answers.get("what happens last", clauses[-1]) == clauses[-1]
        for question, answer in answers.items():
            for word, step in (("after", 1), ("before", -1)):
                if question.startswith(f"what happens {word} "):
                    assert clauses[clauses.index(question.removeprefix(f"what happens {word} ")) + step] == answer
            if question.startswith("which way"):
                assert clauses.count(answer) == 1
            if question.startswith("does the"):
                assert answer.startswith("yes") == any(f"{question.split()[2]} moves" in clause for clause in clauses)
        for when, state in (("at first", made.states[0]), ("at the end", made.states[-1])):
            count = NUMBERS[len(state)] if state else "no"
            assert f" {count} " in answers[f"how many shapes are there {when}"]


def test_held_out_films_never_train() -> None:
    stories = {}
    for split in ("train", "heldout"):
        rng = np.random.default_rng(1)
        stories[split] = {film(rng, split=split).story for _ in range(60)}  # pyright: ignore[reportArgumentType]
    assert not stories["train"] & stories["heldout"]
    with pytest.raises(ValueError, match="split"):
        film(np.random.default_rng(0), split="test")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="split"):
        in_split("x", "test")  # pyright: ignore[reportArgumentType]


def test_a_film_lasts_as_long_as_it_is_told_to() -> None:
    made = film(np.random.default_rng(2), split="train", least_ms=7300.0)
    assert made.times_ms[-1] == 8000.0
    assert np.array_equal(made.frames[-1], made.frames[-2])
