"""Whatever the network prefers, what it writes is a stream that can be read."""

from __future__ import annotations

import re
from typing import Literal

import numpy as np
import pytest

from sensorium.engine.constraint import Constraints
from sensorium.engine.grammar import (
    FRAMES_PER_TOKEN,
    MAX_FRAME_RUN,
    MAX_LIVE_RUN,
    MAX_PARTS,
    SPARE_FRAMES,
    SPARE_TRANSCRIPT_TOKENS,
    Alphabet,
    Grammar,
    Rules,
    closing,
)
from sensorium.engine.request import Function
from sensorium.tokenizers import vocab
from sensorium.tokenizers.release import Release
from sensorium.tokenizers.vocab import NUM_SPECIALS


def legal(grammar: Grammar) -> set[int]:
    return {span.start + int(at) for span in grammar.legal() for at in np.flatnonzero(span.legal)}


def kinds(alphabet: Alphabet, grammar: Grammar) -> set[str]:
    table = alphabet.vocabulary
    names = {index: name.strip("<|>") for name, index in vocab.SPECIAL_IDS.items()}
    return {
        names.get(symbol) or ("T" if table.is_text(symbol) else "A" if table.is_audio(symbol) else "I")
        for symbol in legal(grammar)
    }


def answer(alphabet: Alphabet, *symbols: int, modality: str = "text") -> Grammar:
    grammar = Grammar.answer(alphabet, modality=modality, voice="alloy")  # pyright: ignore[reportArgumentType]
    for symbol in symbols:
        assert symbol in legal(grammar)
        grammar.push(symbol)
    return grammar


@pytest.fixture
def t(alphabet: Alphabet) -> int:
    return alphabet.vocabulary.text_start


@pytest.fixture
def a(alphabet: Alphabet) -> int:
    return alphabet.vocabulary.audio_start


@pytest.fixture
def i(alphabet: Alphabet) -> int:
    return alphabet.vocabulary.image_start


def test_only_tokens_that_the_tokenizer_has_are_text(alphabet: Alphabet):
    written = legal(answer(alphabet, vocab.WRITE))
    assert written == set(range(NUM_SPECIALS, NUM_SPECIALS + alphabet.num_text_tokens))


def test_writing(alphabet: Alphabet, t: int):
    assert kinds(alphabet, answer(alphabet)) == {"write", "speak", "image", "call"}
    assert kinds(alphabet, answer(alphabet, vocab.WRITE)) == {"T"}  # an answer is never empty
    assert kinds(alphabet, answer(alphabet, vocab.WRITE, t)) == {"T", "image", "call", "end"}
    assert answer(alphabet, vocab.WRITE, t, vocab.END).done


def test_drawing(alphabet: Alphabet, i: int):
    assert kinds(alphabet, answer(alphabet, vocab.IMAGE)) == {"I"}
    assert answer(alphabet, vocab.IMAGE, *[i] * 63).patch == 63
    whole = answer(alphabet, vocab.IMAGE, *[i] * 64)
    assert kinds(alphabet, whole) == {"/image"}
    assert whole.patch is None
    assert kinds(alphabet, answer(alphabet, vocab.IMAGE, *[i] * 64, vocab.END_IMAGE)) == {
        "end",
        "write",
        "image",
        "call",
    }


def test_nothing_but_a_picture(alphabet: Alphabet, i: int):
    grammar = answer(alphabet, modality="image")
    assert kinds(alphabet, grammar) == {"image"}
    for symbol in (vocab.IMAGE, *[i] * alphabet.num_patches, vocab.END_IMAGE):
        assert symbol in legal(grammar)
        grammar.push(symbol)
    assert kinds(alphabet, grammar) == {"end"}


def test_calling(alphabet: Alphabet, t: int):
    assert kinds(alphabet, answer(alphabet, vocab.CALL)) == {"T"}
    assert kinds(alphabet, answer(alphabet, vocab.CALL, t)) == {"T", "/call"}


def test_speaking(alphabet: Alphabet, t: int, a: int):
    voice = vocab.voice_id("alloy")
    spoken = (vocab.SPEAK, voice)
    assert legal(answer(alphabet, vocab.SPEAK, modality="audio")) == {voice}
    for symbols, expected in (
        ((), {"T"}),
        ((t,), {"T", "tend"}),  # a short answer may be one token
        ((t, t, t), {"T", "tend", "A"}),
        ((t, vocab.TEXT_END), {"A"}),  # not without any sound
        ((t, vocab.TEXT_END, a), {"A", "/speak"}),
        ((t, t, t, *[a] * MAX_FRAME_RUN), {"T", "tend"}),
    ):
        assert kinds(alphabet, answer(alphabet, *spoken, *symbols, modality="audio")) == expected, symbols
    complete = answer(alphabet, *spoken, t, vocab.TEXT_END, a, vocab.END_SPEAK, modality="audio")
    assert kinds(alphabet, complete) == {"end", "speak", "image", "call"}


def test_sound_without_end_is_ended(alphabet: Alphabet, t: int, a: int):
    longest = SPARE_FRAMES + 2 * FRAMES_PER_TOKEN
    spoken = (vocab.SPEAK, vocab.voice_id("alloy"), t, t, vocab.TEXT_END, *[a] * longest)
    assert kinds(alphabet, answer(alphabet, *spoken, modality="audio")) == {"/speak"}


def test_parts_without_end_are_ended(alphabet: Alphabet, t: int):
    call = (vocab.CALL, t, vocab.END_CALL)
    assert kinds(alphabet, answer(alphabet, *call * MAX_PARTS)) == {"end"}


@pytest.mark.parametrize("end", ["/audio", "/image"])
def test_a_transcript_and_a_caption_are_bounded(alphabet: Alphabet, t: int, end: str):
    until = vocab.SPECIAL_IDS[f"<|{end}|>"]
    grammar = Grammar.transcript(alphabet, max_tokens=2, until=until)
    assert kinds(alphabet, grammar) == {"T", end}
    grammar.push(t)
    grammar.push(t)
    assert kinds(alphabet, grammar) == {end}
    grammar.push(until)
    assert grammar.done
    assert grammar.legal() == ()


def test_listening(alphabet: Alphabet, t: int, a: int):
    grammar = Grammar.listening(alphabet)
    grammar.push(a)
    grammar.allow(100)
    assert kinds(alphabet, grammar) == {"T", "listen", "turn"}
    for _ in range(MAX_LIVE_RUN):
        grammar.push(t)
    assert kinds(alphabet, grammar) == {"listen", "turn"}  # enough for one frame
    grammar.push(a)
    grammar.allow(100)
    for _ in range(2 + SPARE_TRANSCRIPT_TOKENS - MAX_LIVE_RUN):
        assert kinds(alphabet, grammar) == {"T", "listen", "turn"}
        grammar.push(t)
    assert kinds(alphabet, grammar) == {"listen", "turn"}  # enough for two
    grammar.push(vocab.TURN)
    assert kinds(alphabet, grammar) == {"/audio"}
    grammar.push(vocab.END_AUDIO)
    assert grammar.done


def test_no_picture_is_begun_where_there_is_no_room_to_finish_it(alphabet: Alphabet, t: int):
    needed = alphabet.num_patches + 2
    for room, may_draw in ((needed, True), (needed - 1, False)):
        grammar = answer(alphabet)
        grammar.limit(room)
        assert ("image" in kinds(alphabet, grammar)) == (vocab.IMAGE in grammar.forms) == may_draw
        grammar = answer(alphabet, vocab.WRITE, t)
        grammar.limit(room)
        assert ("image" in kinds(alphabet, grammar)) == may_draw
    must_draw = answer(alphabet, modality="image")
    must_draw.limit(needed - 1)
    assert kinds(alphabet, must_draw) == {"image"}


def test_a_live_transcript_is_bounded_by_its_room(alphabet: Alphabet, t: int, a: int):
    grammar = Grammar.listening(alphabet)
    for symbol in (a, a, a):
        grammar.push(symbol)
    grammar.allow(1)
    grammar.push(t)
    assert kinds(alphabet, grammar) == {"listen", "turn"}
    grammar.push(vocab.TURN)
    grammar.allow(1)
    assert kinds(alphabet, grammar) == {"T", "/audio"}
    grammar.push(t)
    assert kinds(alphabet, grammar) == {"/audio"}


def test_what_was_left_open_is_closed(alphabet: Alphabet, t: int, a: int, i: int):
    voice = vocab.voice_id("echo")
    for symbols, expected in (
        ((vocab.BOS,), ()),
        ((vocab.USER, t, vocab.END), ()),
        ((vocab.USER, t), (vocab.END,)),
        ((vocab.USER, vocab.AUDIO, vocab.LISTEN, a), (vocab.TURN, vocab.END_AUDIO, vocab.END)),
        ((vocab.USER, vocab.AUDIO, a, vocab.TURN, t), (vocab.END_AUDIO, vocab.END)),
        ((vocab.USER, vocab.AUDIO, a, vocab.TURN, t, vocab.END_AUDIO), (vocab.END,)),
        ((vocab.USER, vocab.VIDEO, vocab.SECOND, a, vocab.TURN, t), (vocab.END_VIDEO, vocab.END)),
        ((vocab.USER, vocab.VIDEO, a, vocab.TURN, t, vocab.CAPTION, t), (vocab.END_VIDEO, vocab.END)),
        ((vocab.USER, vocab.VIDEO, vocab.CAPTION, t, vocab.END_VIDEO), (vocab.END,)),
        ((vocab.USER, vocab.VIDEO, vocab.END_VIDEO, vocab.IMAGE, vocab.CAPTION), (vocab.END_IMAGE, vocab.END)),
        ((vocab.ASSISTANT,), (vocab.END,)),
        ((vocab.ASSISTANT, vocab.WRITE, t), (vocab.END,)),
        ((vocab.ASSISTANT, vocab.CALL, t), (vocab.END_CALL, vocab.END)),
        ((vocab.ASSISTANT, vocab.IMAGE, i), (vocab.END_IMAGE, vocab.END)),
        ((vocab.ASSISTANT, vocab.SPEAK, voice, t, a), (vocab.TEXT_END, vocab.END_SPEAK, vocab.END)),
        ((vocab.ASSISTANT, vocab.SPEAK, voice, t, vocab.TEXT_END, a), (vocab.END_SPEAK, vocab.END)),
        ((vocab.ASSISTANT, vocab.SPEAK, voice, t, vocab.TEXT_END, a, vocab.END_SPEAK), (vocab.END,)),
    ):
        assert closing(symbols, cuts=False) == expected, symbols
        is_cut = vocab.END_SPEAK in expected
        assert closing(symbols, cuts=True) == ((vocab.CUT, vocab.END) if is_cut else expected), symbols


def test_an_unknown_voice_is_refused(alphabet: Alphabet):
    with pytest.raises(ValueError, match="unknown voice"):
        Grammar.answer(alphabet, modality="audio", voice="nova")


@pytest.mark.parametrize("modality", ["text", "audio"])
@pytest.mark.parametrize("seed", range(8))
def test_any_walk_ends_and_can_be_read(alphabet: Alphabet, modality: str, seed: int):
    """Legal symbols at random: uniform over their kinds, so that rare ones come up."""
    rng = np.random.default_rng(seed)
    grammar = Grammar.answer(alphabet, modality=modality, voice="echo")  # pyright: ignore[reportArgumentType]
    table, letters = alphabet.vocabulary, []
    specials = {vocab.WRITE: "w", vocab.SPEAK: "s", vocab.IMAGE: "i", vocab.CALL: "c", vocab.END: "E"}
    specials |= {vocab.TEXT_END: "t", vocab.END_SPEAK: "S", vocab.END_IMAGE: "I", vocab.END_CALL: "C"}
    specials |= {vocab.voice_id("echo"): "v"}
    opening = vocab.SPEAK if modality == "audio" else vocab.WRITE
    grammar.push(opening)
    letters.append(specials[opening])
    while not grammar.done:
        assert len(letters) < 5000
        spans = grammar.legal()
        span = spans[rng.integers(len(spans))]
        ids = span.start + np.flatnonzero(span.legal)
        framing = ids[ids < NUM_SPECIALS]
        symbol = int(rng.choice(framing if len(framing) and rng.random() < 0.2 else ids))
        grammar.push(symbol)
        kind = "T" if table.is_text(symbol) else "A" if table.is_audio(symbol) else "P"
        letters.append(specials.get(symbol, kind))
    form = r"w T+ | s v T+ (A+ T+)* A* t A+ S | i P{64} I | c T+ C"
    assert re.fullmatch(rf"({form})+ E", "".join(letters), re.VERBOSE), "".join(letters)


def test_without_tools_nothing_is_called(alphabet: Alphabet, t: int):
    grammar = Grammar.answer(alphabet, modality="text", voice="alloy", rules=Rules(tool_choice="none"))
    assert kinds(alphabet, grammar) == {"write", "speak", "image"}
    grammar.push(vocab.WRITE)
    grammar.push(t)
    assert kinds(alphabet, grammar) == {"T", "image", "end"}


def test_a_required_call_comes_first(alphabet: Alphabet):
    grammar = Grammar.answer(alphabet, modality="audio", voice="alloy", rules=Rules(tool_choice="required"))
    assert kinds(alphabet, grammar) == {"call"}


def test_a_document_is_all_that_is_written(alphabet: Alphabet, release: Release, t: int):
    constraints = Constraints(release.text)
    rules = Rules(document=constraints.document('{"enum": ["a"]}'), call=constraints.call((Function(name="f"),)))
    grammar = Grammar.answer(alphabet, modality="text", voice="alloy", rules=rules)
    assert kinds(alphabet, grammar) == {"write", "speak", "call"}  # no picture
    grammar.push(vocab.WRITE)
    assert {release.text.token_bytes(symbol - t) for symbol in legal(grammar)} == {b'"', b'"a', b'"a"'} & {
        release.text.token_bytes(index) for index in range(release.text.num_tokens)
    }
    for byte in b'"a"':
        assert t + release.text.spell(chr(byte))[0] in legal(grammar)
        grammar.push(t + release.text.spell(chr(byte))[0])
    assert kinds(alphabet, grammar) == {"end"}  # and no call behind it


@pytest.mark.parametrize("modality", ["audio", "image"])
def test_a_document_is_not_spoken_or_drawn(release: Release, alphabet: Alphabet, modality: Literal["audio", "image"]):
    rules = Rules(document=Constraints(release.text).document("{}"))
    with pytest.raises(ValueError, match="spoken or drawn"):
        Grammar.answer(alphabet, modality=modality, voice="alloy", rules=rules)


def test_only_so_many_calls(alphabet: Alphabet, t: int):
    grammar = Grammar.answer(alphabet, modality="text", voice="alloy", rules=Rules(max_calls=2))
    for _ in range(2):
        assert vocab.CALL in legal(grammar)
        for symbol in (vocab.CALL, t, vocab.END_CALL):
            grammar.push(symbol)
    assert kinds(alphabet, grammar) == {"end", "write", "image"}


def test_every_call_is_held_to_what_is_offered(alphabet: Alphabet, release: Release, t: int):
    call = Constraints(release.text).call((Function(name="f"), Function(name="g")))
    grammar = Grammar.answer(alphabet, modality="text", voice="alloy", rules=Rules(call=call))
    for name in "fg":
        grammar.push(vocab.CALL)
        assert {release.text.token_bytes(symbol - t)[:1] for symbol in legal(grammar)} == {b"f", b"g"}
        for index in release.text.spell(name + "\n{}"):
            assert t + index in legal(grammar)
            grammar.push(t + index)
        assert kinds(alphabet, grammar) == {"/call"}
        grammar.push(vocab.END_CALL)


def test_what_is_said_in_a_film_ends_where_its_story_begins(alphabet: Alphabet, t: int):
    grammar = Grammar.transcript(alphabet, max_tokens=1, until=vocab.CAPTION)
    assert kinds(alphabet, grammar) == {"T", "caption"}
    grammar.push(t)
    assert kinds(alphabet, grammar) == {"caption"}
    grammar.push(vocab.CAPTION)
    assert grammar.done
