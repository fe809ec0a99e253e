from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.data.generators.wordings import STYLED
from sensorium.server.read_aloud import MOST_WORDS, PROMPTS, manner, pieces


def words(text: str) -> list[str]:
    return [piece.words for piece in pieces(text)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Turn on the lamp.", ["turn on the lamp"]),
        ("It\u2019s 21 \u00b0C!", ["it's twenty one degrees c"]),
        ("What is 2 + 3?", ["what is two plus three"]),
        (
            "Chapter 1,200: the 3rd of 1000000 things",
            ["chapter one thousand two hundred", "the third of one million things"],
        ),
        (
            "It costs $5.20, or 1 $ less; call 0049 30.",
            ["it costs five point two zero dollars or one less", "call zero zero four nine thirty"],
        ),
        ("Wake me at 7:30", ["wake me at seven thirty"]),
        ("Wake me at 7:30am, not at 10pm", ["wake me at seven thirty am not at ten pm"]),
        ("10km, 16GB", ["ten km sixteen gb"]),
        (
            "$1, please; $3M or \u20ac2.5 billion",
            ["one dollar please", "three million dollars or two point five billion euros"],
        ),
        ("$5k now", ["five thousand dollars now"]),
        ("The 1st, 12th, 20th and 103rd", ["the first twelfth twentieth and one hundred third"]),
        ("999000000000017 of 2,000,040", ["nine hundred ninety nine trillion seventeen of two million forty"]),
        ("3.14 is pi. 50% of -4 = -2", ["three point one four is pi", "fifty percent of minus four equals minus two"]),
        ("sch\u00f6ne Gr\u00fc\u00dfe", ["sch\u00f6ne gr\u00fc\u00dfe"]),
        ("\u00b2 and \u0663", ["two and three"]),
        ("?!... \U0001f600 -", []),
    ],
)
def test_a_text_is_read_as_it_is_said(text: str, said: list[str]):
    assert words(text) == said


def test_punctuation_becomes_pauses():
    read = list(pieces("First of all, this one has quite a few words, and so has this. Then another."))
    assert [piece.words for piece in read] == [
        "first of all this one has quite a few words",
        "and so has this",
        "then another",
    ]
    assert read[0].pause_ms < read[1].pause_ms == read[2].pause_ms


def test_a_long_sentence_is_cut_where_a_clause_begins():
    text = "once upon a time there was a girl who lived with her old father in a house of stone"
    read = list(pieces(text))
    assert [piece.words for piece in read] == [
        "once upon a time there was a girl",
        "who lived with her old father in a house of stone",
    ]
    assert read[0].pause_ms == 0


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300) | st.text("ab1 2.,$%:-'", max_size=200))
def test_whatever_the_text_the_pieces_are_what_was_taught(text: str):
    for piece in pieces(text):
        assert 1 <= len(piece.words.split()) <= MOST_WORDS
        assert piece.words == piece.words.lower() or not piece.words.isascii()
        assert not any(char.isdigit() for char in piece.words)


@pytest.mark.parametrize(
    ("instructions", "asked"),
    [
        ("", None),
        ("  ", None),
        ("Whisper this, please.", "whisper"),
        ("Speak slowly, as to a child.", "slow"),
        ("Talk in a SOOTHING voice; don't whisper.", "calm"),
        ("You are in a hurry: be quick", "fast"),
        ("Shout it from the roof", "shout"),
        ("Affect: a gentle, reassuring guide. Tone: soothing.", "calm"),
        ("brisk, please", "fast"),
        ("Speak in a clear, natural tone.", None),
    ],
)
def test_instructions_ask_for_a_manner(instructions: str, asked: str | None):
    assert manner(instructions) == asked


@pytest.mark.parametrize(
    "instructions", ["sound like a pirate", "fast and loud", "never whisper", "clearly a pirate", "speak"]
)
def test_what_nobody_taught_is_refused(instructions: str):
    with pytest.raises(ValueError, match="manner"):
        manner(instructions)


def test_the_prompts_are_those_of_training():
    assert PROMPTS.keys() == {None, *STYLED}
    assert all(PROMPTS[style] in prompts for style, prompts in STYLED.items())
