"""Any text comes back as it was, whole or token by token."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sensorium.tokenizers.text import TextDecoderStream, TextTokenizer
from tests.networks import SENTENCES

TEXTS = st.text(max_size=40)


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return TextTokenizer.train(SENTENCES * 4, num_tokens=300)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(text=TEXTS)
@example(text="  two  spaces\n\tand 1234567890 digits")
@example(text="naïve 🙂 👩‍👩‍👧 \U0010ffff \x00 ﷺ")
def test_round_trip(tokenizer: TextTokenizer, text: str):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@settings(max_examples=100, deadline=None, derandomize=True)
@given(text=TEXTS)
@example(text="naïve 🙂 👩‍👩‍👧")
def test_token_by_token(tokenizer: TextTokenizer, text: str):
    stream = TextDecoderStream(tokenizer)
    parts = [stream.push(index) for index in tokenizer.encode(text)]
    assert "".join(parts) + stream.flush() == text
    assert not any("\ufffd" in part for part in parts if "\ufffd" not in text)


def test_a_character_that_never_completes_is_replaced(tokenizer: TextTokenizer):
    stream = TextDecoderStream(tokenizer)
    first = tokenizer.encode("🙂")[0]
    assert stream.push(first) == ""
    assert stream.flush() == "\ufffd"


def test_known_words_are_short_and_digits_stand_apart(tokenizer: TextTokenizer):
    assert len(tokenizer.encode(SENTENCES[0])) < len(SENTENCES[0]) / 2
    assert len(tokenizer.encode("1234")) == 4


def test_spelling_hides_no_letter(tokenizer: TextTokenizer):
    for text in ("turtle", "Ærø 42", ""):
        ids = tokenizer.spell(text)
        assert len(ids) == len(text.encode())
        assert tokenizer.decode(ids) == text


def test_offsets_point_at_the_first_letter_of_words(tokenizer: TextTokenizer):
    text = "what is two"
    starts = {token.start_char for token in tokenizer.encode_with_offsets(text)}
    assert {0, 5, 8} <= starts
    assert all(text[start] != " " for start in starts)


def test_save_and_load(tokenizer: TextTokenizer, tmp_path: Path):
    tokenizer.save(tmp_path / "text.json")
    twin = TextTokenizer.load(tmp_path / "text.json")
    assert twin.num_tokens == tokenizer.num_tokens == 300
    assert twin.encode("draw the time 🙂") == tokenizer.encode("draw the time 🙂")
