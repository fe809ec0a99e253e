from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sensorium.engine.events import EventWriter, StopFilter, TranscriptWriter
from sensorium.engine.grammar import State
from sensorium.engine.request import (
    AudioDelta,
    Event,
    ImageDelta,
    InputTranscriptDelta,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    ToolCallEvent,
    TranscriptDelta,
)
from sensorium.engine.sampling import Scores
from sensorium.engine.sequence import Symbol
from sensorium.tokenizers import vocab
from sensorium.tokenizers.release import Release


def control(symbol: int, state: State = State.OPEN) -> Symbol:
    return Symbol(symbol, state, None, None)


def text_symbols(release: Release, text: str, state: State) -> list[Symbol]:
    start = release.vocabulary.text_start
    return [Symbol(start + index, state, None, None) for index in release.text.encode(text)]


def frame_symbols(release: Release, codes: np.ndarray) -> list[Symbol]:
    start = release.vocabulary.audio_start
    return [Symbol(start + int(frame[0]), State.SPEAK, frame[1:], None) for frame in codes]


def push_all(writer: EventWriter, symbols: list[Symbol]) -> list[Event]:
    return [event for symbol in symbols for event in writer.push(symbol)]


def joined(events: Sequence[Event], kind: type) -> str:
    return "".join(event.text for event in events if isinstance(event, kind))  # pyright: ignore


@pytest.mark.parametrize("text", ["two plus three", "naïve 🙂 text"])
def test_text(release: Release, text: str):
    writer = EventWriter(release)
    symbols = [control(vocab.WRITE), *text_symbols(release, text, State.WRITE), control(vocab.END, State.WRITE)]
    events = push_all(writer, symbols)
    assert joined(events, TextDelta) == text
    assert writer.num_output == writer.num_text == len(symbols) - 2


@pytest.mark.parametrize("name", ["release", "crisp_release"])
def test_speech_is_what_the_codec_makes_of_it(name: str, request: pytest.FixtureRequest):
    release: Release = request.getfixturevalue(name)
    codes = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (6, 8)))
    frames = frame_symbols(release, codes.numpy())
    words = text_symbols(release, "the time is ten", State.SPEAK)
    symbols = [control(vocab.SPEAK), *words, *frames, control(vocab.END_SPEAK, State.SPEAK)]
    writer = EventWriter(release)
    events = push_all(writer, symbols)
    assert joined(events, TranscriptDelta) == "the time is ten"
    starts_ms = [event.start_ms for event in events if isinstance(event, TranscriptDelta)]
    assert starts_ms[:4] == [0.0, 160.0, 320.0, 480.0], "the first share the lead, others come it ahead"
    sounds = [event for event in events if isinstance(event, AudioDelta)]
    assert [len(sound.waveform) for sound in sounds] == [1280] * 6
    ahead = release.config.audio.lookahead_frames
    whole, _ = release.audio_tokenizer.decode(torch.cat((codes, codes[-1:].expand(ahead, -1))).unsqueeze(0))
    expected = whole[0, ahead * 1280 :].clamp(-1.0, 1.0)
    np.testing.assert_array_equal(np.concatenate([sound.waveform for sound in sounds]), expected)
    assert (writer.num_text, writer.num_frames) == (len(words), 6)
    again = [event for event in push_all(writer, symbols) if isinstance(event, AudioDelta)]
    np.testing.assert_array_equal(again[0].waveform, sounds[0].waveform)  # a second speech starts afresh


class _Halves:
    """A decoder of tokens of which one holds a whole character and the first byte of another."""

    def __init__(self, pieces: Iterator[str]) -> None:
        self._pieces = pieces

    def push(self, token: int) -> str:
        return next(self._pieces)

    def flush(self) -> str:
        return next(self._pieces, "")


def test_a_token_may_hold_one_character_and_the_beginning_of_another(release: Release, monkeypatch: pytest.MonkeyPatch):
    """In a BPE of several languages; and the other half may never come."""
    decoders = iter([_Halves(iter([])), _Halves(iter(["a", "", "b", "\ufffd"]))])
    monkeypatch.setattr("sensorium.engine.events.TextDecoderStream", lambda text: next(decoders, _Halves(iter([]))))
    words = text_symbols(release, "the time is", State.SPEAK)[:3]
    events = push_all(EventWriter(release), [control(vocab.SPEAK), *words, control(vocab.TEXT_END, State.SPEAK)])
    told = [(event.text, event.start_ms) for event in events if isinstance(event, TranscriptDelta)]
    assert told == [("a", 0.0), ("b", 160.0), ("\ufffd", 320.0)]


@pytest.mark.parametrize("name", ["release", "crisp_release"])
def test_speech_that_is_cut_short_keeps_all_its_sound(name: str, request: pytest.FixtureRequest):
    release: Release = request.getfixturevalue(name)
    frames = frame_symbols(release, np.random.default_rng(0).integers(0, 256, (3, 8)))
    writer = EventWriter(release)
    events = [*push_all(writer, [control(vocab.SPEAK), *frames]), *writer.finish()]
    sounds = [event for event in events if isinstance(event, AudioDelta)]
    assert [len(sound.waveform) for sound in sounds] == [1280] * 3


@pytest.mark.parametrize(("partial_images", "rows"), [(0, []), (1, [4]), (3, [2, 4, 6]), (99, [1, 2, 3, 4, 5, 6, 7])])
@pytest.mark.parametrize("name", ["release", "crisp_release"])
def test_a_picture_is_shown_while_it_grows_if_asked(
    name: str, partial_images: int, rows: list[int], request: pytest.FixtureRequest
):
    release: Release = request.getfixturevalue(name)
    start, num_codes = release.vocabulary.image_start, 1 + release.config.image.num_residuals
    codes = np.random.default_rng(0).integers(0, 256, (64, num_codes))
    writer = EventWriter(release, partial_images=partial_images)
    symbols = [
        Symbol(start + int(patch[0]), State.DRAW, patch[1:] if num_codes > 1 else None, at)
        for at, patch in enumerate(codes)
    ]
    events = push_all(writer, [control(vocab.IMAGE), *symbols, control(vocab.END_IMAGE, State.DRAW)])
    pictures = [event for event in events if isinstance(event, ImageDelta)]
    assert [picture.final for picture in pictures] == [False] * len(rows) + [True]
    expected = release.image_tokenizer.decode(torch.from_numpy(codes).unsqueeze(0))[0].numpy()
    assert (pictures[-1].pixels == expected).all()
    for row, picture in zip(rows, pictures, strict=False):
        assert (picture.pixels[8 * row :] == 128).all()
        assert (picture.pixels[: 8 * row] != 128).any()
    assert writer.num_patches == 64


def test_a_call(release: Release):
    call = text_symbols(release, 'light\n{"on": true}', State.CALL)
    writer = EventWriter(release)
    events = push_all(writer, [control(vocab.CALL), *call, control(vocab.END_CALL, State.CALL)])
    *deltas, whole = events
    assert whole == ToolCallEvent(name="light", arguments='{"on": true}')
    assert writer.num_calls == 1
    assert len(deltas) > 2, "the arguments come as they are written"
    assert all(isinstance(delta, ToolCallDelta) and delta.name == "light" for delta in deltas)
    assert joined_arguments(deltas) == '{"on": true}'


@given(
    name=st.text("abc_é", min_size=1),
    arguments=st.none() | st.text(st.characters(codec="utf-8", exclude_characters="|<")),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_call_s_deltas_add_up_to_it(release: Release, name: str, arguments: str | None):
    """Whatever is called with; a call that has no second line has no arguments."""
    text = name if arguments is None else f"{name}\n{arguments}"
    symbols = [control(vocab.CALL), *text_symbols(release, text, State.CALL), control(vocab.END_CALL, State.CALL)]
    *deltas, whole = push_all(EventWriter(release), symbols)
    assert whole == ToolCallEvent(name=name, arguments=arguments or "")
    assert deltas, "the name is told first"
    assert {delta.name for delta in deltas if isinstance(delta, ToolCallDelta)} == {name}
    assert joined_arguments(deltas) == (arguments or "")


def joined_arguments(events: list[Event]) -> str:
    return "".join(event.arguments for event in events if isinstance(event, ToolCallDelta))


@pytest.mark.parametrize("text", ["the time", "naïve 🙂", ""])
def test_what_is_heard(release: Release, text: str):
    writer = TranscriptWriter(release, clip=2)
    symbols = [*text_symbols(release, text, State.TRANSCRIPT), control(vocab.END_AUDIO, State.TRANSCRIPT)]
    events = [event for symbol in symbols for event in writer.push(symbol.id)]
    assert joined(events, InputTranscriptDelta) == writer.text == text
    assert all(isinstance(event, InputTranscriptDelta) and event.clip == 2 and event.text for event in events)


def test_what_is_heard_ends_with_what_cannot_become_whole(release: Release):
    writer = TranscriptWriter(release, clip=0)
    [first, *_] = text_symbols(release, "é", State.TRANSCRIPT)
    assert list(writer.push(first.id)) == []
    assert list(writer.push(vocab.END_AUDIO)) == [InputTranscriptDelta(clip=0, text="\ufffd")]


def test_a_stop_text_ends_the_answer_before_it(release: Release):
    writer = EventWriter(release, stop=("plus", "never"))
    symbols = [control(vocab.WRITE), *text_symbols(release, "two plus three", State.WRITE)]
    assert joined(push_all(writer, symbols), TextDelta) == "two "
    assert writer.stopped
    assert list(writer.finish()) == []


def test_what_was_held_back_comes_out_at_the_end(release: Release):
    writer = EventWriter(release, stop=("pluto",))
    events = push_all(writer, [control(vocab.WRITE), *text_symbols(release, "two plu", State.WRITE)])
    assert joined(events, TextDelta) == "two "
    assert joined(list(writer.finish()), TextDelta) == "plu"
    assert not writer.stopped


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    text=st.text("ab", max_size=12),
    stops=st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
    cuts=st.lists(st.integers(0, 12), max_size=6),
)
def test_a_stop_filter_cuts_at_the_first_stop_however_the_text_comes(text: str, stops: list[str], cuts: list[int]):
    bounds = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    stop_filter = StopFilter(tuple(stops))
    passed = "".join(stop_filter.push(text[a:b]) for a, b in pairwise(bounds))
    passed += stop_filter.flush()
    found = [at for stop in stops if (at := text.find(stop)) >= 0]
    if len(bounds) <= 2 or not found:
        assert passed == text[: min(found, default=len(text))]
    assert stop_filter.met == bool(found)
    assert not any(stop in passed for stop in stops)
    assert text.startswith(passed)


@pytest.mark.parametrize("stop", [(), ("🙂",), ("ve",), ("e 🙂 t",)])
def test_log_probabilities_go_with_the_text_of_their_tokens(release: Release, stop: tuple[str, ...]):
    """Characters are split over tokens, stop texts are held back and cut in the middle of tokens."""
    text = "naïve 🙂 text, naïve"
    start = release.vocabulary.text_start
    ids = [index for word in text.split(" ") for index in release.text.spell(word + " ")]
    symbols = [
        Symbol(start + index, State.WRITE, None, None, Scores(-0.1 * at, ((start + index, -0.1 * at),)))
        for at, index in enumerate(ids)
    ]
    writer = EventWriter(release, stop=stop)
    events = push_all(writer, [control(vocab.WRITE), *symbols, control(vocab.END, State.WRITE)])
    told = [token for event in events if isinstance(event, TextDelta) for token in event.logprobs]
    written = joined(events, TextDelta)
    assert b"".join(token.bytes for token in told).decode().startswith(written)
    assert len(told) == len(written.encode())  # of single bytes, so that none is cut in the middle
    assert [token.logprob for token in told] == [-0.1 * at for at in range(len(told))]
    assert all(token.top[0].bytes == token.bytes for token in told)
    for event in events:
        if isinstance(event, TextDelta):
            assert event.logprobs, "each piece of text has its tokens"


def test_a_token_that_a_stop_text_cuts_is_told(release: Release):
    whole = next(index for index in range(release.text.num_tokens) if len(release.text.token_bytes(index)) > 2)
    text = release.text.token_bytes(whole).decode()
    scores = Scores(-0.5, ())
    symbol = Symbol(release.vocabulary.text_start + whole, State.WRITE, None, None, scores)
    writer = EventWriter(release, stop=(text[1:],))
    events = push_all(writer, [control(vocab.WRITE), symbol])
    assert events == [TextDelta(text=text[:1], logprobs=(TokenLogprob(text.encode(), -0.5),))]
