import numpy as np
import pytest

from sensorium.data.generators import world
from sensorium.data.generators.dialogues import is_heldout, number_of
from sensorium.data.generators.lessons import DEFINITIONS, ITSELF, SUBJECTS, UNABLE, UNKNOWN, Lesson, in_words, lesson
from sensorium.data.generators.speech import Split


def lessons(subject, split: Split = "train", *, count: int = 300) -> list[Lesson]:
    rng = np.random.default_rng(3)
    return [lesson(rng, split, subject=subject) for _ in range(count)]


@pytest.mark.parametrize("split", ["train", "heldout"])
@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_subject_has_questions_of_its_split_in_words_that_can_be_said(subject, split: Split):
    made = lessons(subject, split, count=100)
    assert {item.subject for item in made} == {subject}
    for item in made:
        assert set(item.question + item.answer) <= set("abcdefghijklmnopqrstuvwxyz ")
        assert "  " not in item.question + item.answer
        assert item.question == item.question.strip()
        if split == "heldout":
            assert is_heldout(item.question)
    assert len({item.question for item in made}) > (30 if split == "train" else 10)


def test_sums_are_right_and_stay_within_a_hundred():
    for item in lessons("sums"):
        fact, _, result = item.answer.partition(" is ")
        sign = "plus" if " plus " in fact else "minus"
        one, other = (_value(words) for words in fact.split(f" {sign} "))
        assert _value(result) == (one + other if sign == "plus" else one - other)
        assert 0 <= _value(result) <= 100


def _value(words: str) -> int:
    return 100 if words == "one hundred" else number_of(words)


def test_numbers_are_said_as_people_say_them():
    assert [in_words(number) for number in (0, 20, 42, 100, 216, 1005, 3000, 9240)] == [
        *("zero", "twenty", "forty two", "one hundred", "two hundred and sixteen", "one thousand and five"),
        *("three thousand", "nine thousand two hundred and forty"),
    ]


def test_times_agree_with_a_clock_and_a_calendar():
    known = {item.question: item.answer for item in lessons("times", count=20_000)}
    assert known["what time is it half an hour after half past four"] == "half an hour after half past four is five"
    assert known["which day is two days before monday"] == "two days before monday is saturday"
    for answer in known.values():
        span, _, result = answer.partition(" is ")
        assert "after" in span or "before" in span
        assert result.split()[-1] in (*world.DAYS, *world.TO_TWELVE)


def test_what_is_asked_first_by_most_is_always_taught():
    plain = {phrase for asked in ITSELF for phrase in asked.split("|")}
    asked = {item.question for item in lessons("itself", count=20_000)}
    assert "hello" in plain
    assert plain <= asked
    assert not plain & {item.question for item in lessons("itself", "heldout", count=2000)}
    assert not any(is_heldout(phrase) for phrases in world.SOCIAL for phrase in phrases.split("|"))


def test_what_is_not_known_is_not_what_is_taught():
    for item in lessons("unknown", count=2000):
        assert item.answer in (UNKNOWN, UNABLE) or item.answer.startswith("i do not know the word ")
        if item.answer.startswith("i do not know the word "):
            assert item.answer.split()[-1] in item.question
            assert item.answer.split()[-1] not in DEFINITIONS


def test_voices_spell_no_word_with_the_letter_that_they_take_for_an_article():
    for item in lessons("spelling"):
        if " is spelled " in item.answer:
            word, _, letters = item.answer.partition(" is spelled ")
            assert letters.replace(" ", "") == word
            assert "a" not in word
