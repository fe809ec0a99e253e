"""The stream says what the messages say, asks only for what the assistant should write, and lets text lead."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.messages import Audio, Image, Message, Role, Text, ToolCall, Video, WordTime
from sensorium.tokenizers import vocab
from sensorium.tokenizers.encoded import (
    HIDDEN,
    EncodedAudio,
    EncodedFilm,
    EncodedImage,
    EncodedMessage,
    EncodedPart,
    SpelledText,
    encode_message,
)
from sensorium.tokenizers.render import Piece, RenderConfig, Renderer
from sensorium.tokenizers.stream import Stream
from sensorium.tokenizers.text import TextTokenizer
from sensorium.tokenizers.vocab import Vocabulary
from tests.networks import SENTENCES

TABLE = Vocabulary(text_tokens=320)
CONFIG = RenderConfig()


@pytest.fixture(scope="module")
def text() -> TextTokenizer:
    return TextTokenizer.train(SENTENCES * 4, num_tokens=300)


@pytest.fixture(scope="module")
def renderer(text: TextTokenizer) -> Renderer:
    return Renderer(text, TABLE, CONFIG)


def clip(num_frames: int = 5, *, transcript: str | None = None, features: bool = True, **fields) -> EncodedAudio:
    rng = np.random.default_rng(num_frames)
    codes = np.concatenate((rng.integers(0, 1000, (num_frames, 1)), rng.integers(0, 256, (num_frames, 7))), axis=1)
    heard = rng.normal(size=(num_frames, 192)) if features else None
    return EncodedAudio(codes=codes, features=heard, transcript=transcript, **fields)


def picture(*, features: bool = True, num_residuals: int = 0, caption: Text | None = None) -> EncodedImage:
    rng = np.random.default_rng(0)
    codes = np.concatenate((rng.integers(0, 1000, (64, 1)), rng.integers(0, 256, (64, num_residuals))), axis=1)
    return EncodedImage(codes=codes, features=rng.normal(size=(64, 192)) if features else None, caption=caption)


def says(role: str, *parts: EncodedPart) -> EncodedMessage:
    return EncodedMessage(role=role, parts=parts)  # pyright: ignore[reportArgumentType]


def names(stream: Stream) -> str:
    """T text, A sound, I picture; specials by name."""
    specials = {index: name.strip("<|>") for name, index in vocab.SPECIAL_IDS.items()}
    kinds = [
        specials.get(symbol) or ("T" if TABLE.is_text(symbol) else "A" if TABLE.is_audio(symbol) else "I")
        for symbol in stream.ids
    ]
    return " ".join(
        f"{kind}x{n}" if n > 1 else kind for kind, group in itertools.groupby(kinds) if (n := len(list(group)))
    )


def written(stream: Stream, text: TextTokenizer) -> str:
    return text.decode(symbol - TABLE.text_start for symbol in stream.ids if TABLE.is_text(symbol))


def asked(stream: Stream) -> list[int]:
    return [symbol for symbol, weight in zip(stream.ids, stream.weights, strict=True) if weight > 0]


def test_a_written_turn(renderer: Renderer, text: TextTokenizer):
    messages = [says("system", Text(text="ten")), says("user", Text(text="two")), says("assistant", Text(text="draw"))]
    stream = renderer.document(messages)
    sizes = [len(text.encode(word)) for word in ("ten", "two", "draw")]
    t = ["T" if size == 1 else f"Tx{size}" for size in sizes]
    assert names(stream) == f"bos system {t[0]} end user {t[1]} end assistant write {t[2]} end"
    assert written(stream, text) == "tentwodraw"
    assert stream.weights[0] == 0.0
    assert stream.weights[-1] == CONFIG.end
    answer = stream.ids.index(vocab.ASSISTANT)
    assert all(value >= CONFIG.reply for value in stream.weights[answer:])
    assert all(value in (0.0, CONFIG.prompt_text) for value in stream.weights[:answer])


def test_a_picture_and_a_clip_go_in_with_their_features(renderer: Renderer, text: TextTokenizer):
    stream = renderer.document([says("user", picture(), clip(transcript="the time"))])
    tokens = len(text.encode("the time"))
    assert names(stream) == f"bos user image Ix64 /image audio Ax5 turn Tx{tokens} /audio end"
    assert [patch for _, patch in stream.patches] == list(range(64))
    assert len(stream.seen) == 64
    assert len(stream.heard) == len(stream.frames) == 5
    assert not stream.spoken
    assert asked(stream) == [*stream.ids[-tokens - 2 : -1]]  # the transcript and its end


def test_what_a_picture_shows_is_asked_for_letter_by_letter_if_it_is_read(renderer: Renderer, text: TextTokenizer):
    for caption, weight in ((Text(text="a red circle"), CONFIG.reply), (SpelledText(text="circle"), CONFIG.spelled)):
        stream = renderer.document([says("user", picture(caption=caption))])
        tokens = (text.spell if weight == CONFIG.spelled else text.encode)(caption.text)
        assert names(stream) == f"bos user image Ix64 caption Tx{len(tokens)} /image end"
        assert written(stream, text) == caption.text
        assert [weight for weight in stream.weights if weight] == [*[weight] * len(tokens), CONFIG.end]


def test_what_must_be_perceived_weighs_more_than_what_may_be_copied(renderer: Renderer, text: TextTokenizer):
    turn = says("user", clip(transcript="ten")), says("assistant", Text(text="two"))
    heard, answer = len(text.encode("ten")), len(text.encode("two"))
    for before, expected in (((), CONFIG.reply), ((says("user", picture()),), CONFIG.looked)):
        stream = renderer.document([*before, *turn])
        said = stream.ids.index(vocab.TURN) + 1
        assert stream.weights[said : said + heard] == [CONFIG.heard] * heard
        written = stream.ids.index(vocab.WRITE) + 1
        assert stream.weights[written : written + answer] == [expected] * answer


def test_an_answer_about_a_clip_may_weigh_more_than_one_to_it(text: TextTokenizer):
    renderer = Renderer(text, TABLE, dataclasses.replace(CONFIG, listened=5.0))
    for asked_about, weight in ((("how did i speak",), 5.0), ((), CONFIG.reply)):
        question = tuple(Text(text=words) for words in asked_about)
        turn = says("user", clip(transcript="ten"), *question), says("assistant", Text(text="two"))
        stream = renderer.document([*turn, says("user", Text(text="ten")), says("assistant", Text(text="two"))])
        length = len(text.encode("two"))
        first, second = (at + 1 for at, symbol in enumerate(stream.ids) if symbol == vocab.WRITE)
        assert stream.weights[first : first + length] == [weight] * length
        assert stream.weights[second : second + length] == [CONFIG.reply] * length


def test_of_a_changed_picture_what_stays_may_weigh_less(text: TextTokenizer):
    renderer = Renderer(text, TABLE, dataclasses.replace(CONFIG, kept=0.2))
    before = picture(num_residuals=3)
    codes = before.codes.copy()
    levels = np.array([8, 5, 5, 5])
    step = np.array([1, 8, 40, 200])
    stays, moved, changed = 3, 9, 27
    codes[moved, 0] += step[1] if before.codes[moved, 0] // step[1] % levels[1] < 4 else -step[1]
    codes[changed, 0] = 999 - codes[changed, 0]  # every dimension turned round
    after = EncodedImage(codes=codes)
    order = Text(text="ten")
    for shown in ([says("user", before, order)], [says("assistant", before), says("user", order)]):
        stream = renderer.document([*shown, says("assistant", after)])
        drawn = [position for position, _ in stream.patches[64:]]
        weights = [stream.weights[position] for position in drawn]
        assert weights[stays] == weights[moved] == 0.2  # a step of rounding is no change
        assert weights[changed] == CONFIG.reply
        assert weights.count(CONFIG.reply) == 1
    hidden = dataclasses.replace(before, codes=np.full_like(before.codes, -1))
    first = (
        renderer.document([says("assistant", after)]),
        renderer.document([says("user", hidden), says("assistant", after)]),
    )
    for stream in first:
        assert {stream.weights[position] for position, _ in stream.patches[-64:]} == {CONFIG.reply}


def test_what_the_assistant_draws_and_what_nobody_describes_has_no_words(text: TextTokenizer):
    seen = says("user", picture(caption=Text(text="ten")))
    drawn = says("assistant", picture(features=False, caption=Text(text="ten")))
    for renderer, message in (
        (Renderer(text, TABLE, CONFIG), drawn),
        (Renderer(text, TABLE, CONFIG), says("user", picture())),
        (Renderer(text, TABLE, dataclasses.replace(CONFIG, captions=False)), seen),
    ):
        assert names(renderer.document([message])).endswith(" image Ix64 /image end")


def test_an_answer_that_was_cut_is_not_asked_to_end(text: TextTokenizer):
    words = WordTime(0, 3, 0.0, 200.0), WordTime(4, 7, 220.0, 400.0)
    spoken = clip(5, transcript="ten two", words=words, features=False, voice="alloy", cut=True)
    tokens = len(text.encode("ten two"))
    said = f"bos assistant speak voice:alloy Tx{tokens} Ax5"
    whole = Renderer(text, TABLE, CONFIG).document([says("assistant", spoken)])
    assert names(whole) == f"{said} /speak end".replace("Ax5", "tend Ax5")
    cut = Renderer(text, TABLE, dataclasses.replace(CONFIG, cuts=True)).document([says("assistant", spoken)])
    assert names(cut) == f"{said} cut end"
    assert not any(cut.weights[2:])  # all but who speaks
    assert [code.at for code in cut.spoken] == [code.at - 1 for code in whole.spoken]


def test_a_clip_without_transcript_asks_for_nothing(renderer: Renderer):
    stream = renderer.document([says("user", clip())])
    assert names(stream) == "bos user audio Ax5 turn /audio end"
    assert not asked(stream)


def test_hidden_codes_leave_the_features(renderer: Renderer):
    codes = np.full((3, 8), -1)
    stream = renderer.document([says("user", EncodedAudio(codes=codes, features=np.ones((3, 192))))])
    assert stream.ids.count(vocab.NULL) == 3
    assert not stream.frames
    assert len(stream.heard) == 3


def test_patches_carry_their_residual_codes(renderer: Renderer):
    seen, drawn = picture(num_residuals=3), picture(features=False, num_residuals=3)
    hidden = EncodedImage(codes=np.full((64, 4), -1), features=seen.features)
    stream = renderer.document([says("user", seen, hidden), says("assistant", drawn)])
    assert len(stream.patches) == 3 * 64
    assert len(stream.patch_residuals) == 2 * 64
    assert len(stream.drawn) == 64
    for own, (position, residuals) in zip(stream.drawn, stream.patch_residuals[64:], strict=True):
        assert own.at == position - 1
        assert stream.ids[position] == TABLE.image_start + own.codes[0]
        assert (own.codes[1:] == residuals).all()


def test_patches_of_one_code_carry_no_others(renderer: Renderer):
    stream = renderer.document([says("user", picture()), says("assistant", picture(features=False))])
    assert not stream.patch_residuals
    assert not stream.drawn


def test_a_drawn_picture_and_a_call_are_asked_for(renderer: Renderer, text: TextTokenizer):
    call = ToolCall(id="1", name="light", arguments='{"on": true}')
    stream = renderer.document([says("assistant", picture(features=False), call), says("tool", Text(text="ok"))])
    answer = stream.part(0, stream.ids.index(vocab.TOOL))
    assert names(answer).startswith("bos assistant image Ix64 /image call Tx")
    assert names(answer).endswith("/call end")
    assert asked(answer) == answer.ids[1:]
    assert written(answer, text) == 'light\n{"on": true}'
    assert not stream.seen


def test_a_live_clip_is_written_along(renderer: Renderer, text: TextTokenizer):
    heard = clip(30, transcript="the time", words=(WordTime(0, 3, 0.0, 400.0), WordTime(4, 8, 480.0, 800.0)))
    stream = renderer.document([says("user", heard)], live=True)
    assert stream.ids[2:4] == [vocab.AUDIO, vocab.LISTEN]
    assert written(stream, text) == "the time"
    frames = 0
    for symbol, target, weight in zip(stream.ids, stream.targets, stream.weights, strict=True):
        if TABLE.is_audio(symbol):
            over = frames > 800.0 / 80.0  # a whole frame of silence has been heard behind the last word
            assert target == (vocab.TURN if over else vocab.LISTEN)  # nothing to write yet
            assert weight == (CONFIG.over if over else CONFIG.listen if frames else 0.0)
            frames += 1
        elif TABLE.is_text(symbol):
            assert frames > 400.0 / 80.0 + CONFIG.delay_frames - 1


def test_nobody_knows_when_a_live_clip_without_times_is_over(renderer: Renderer):
    stream = renderer.document([says("user", clip(10, transcript="the time"))], live=True)
    targets = [target for symbol, target in zip(stream.ids, stream.targets, strict=True) if TABLE.is_audio(symbol)]
    assert set(targets) == {vocab.LISTEN}


def spoken(draw: st.DrawFn) -> EncodedAudio:
    words = draw(st.lists(st.sampled_from("a the time ten circle please two light".split()), min_size=1, max_size=9))
    times, at_ms, at_char = [], 0.0, 0
    for word in words:
        at_ms += draw(st.floats(0.0, 700.0))
        end_ms = at_ms + draw(st.floats(40.0, 600.0))
        times.append(WordTime(at_char, at_char + len(word), at_ms, end_ms))
        at_ms, at_char = end_ms, at_char + len(word) + 1
    num_frames = int(at_ms / 80.0) + draw(st.integers(1, 5))
    return clip(num_frames, transcript=" ".join(words), words=tuple(times), voice="echo", features=False)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(reply=st.composite(spoken)())
def test_any_prefix_of_a_spoken_reply_holds_the_text_of_all_its_sound(
    renderer: Renderer, text: TextTokenizer, reply: EncodedAudio
):
    stream = renderer.document([says("assistant", reply)])
    assert written(stream, text) == reply.transcript
    begins = [begin_frame(reply, token.start_char) for token in text.encode_with_offsets(reply.transcript or "")]
    num_text = num_frames = 0
    for symbol in stream.ids:
        if TABLE.is_text(symbol):
            ahead = begins[num_text] - num_frames
            assert num_text < CONFIG.first_tokens or ahead <= CONFIG.lead_frames
            num_text += 1
        elif TABLE.is_audio(symbol):
            assert all(begin > num_frames for begin in begins[num_text:])
            num_frames += 1
    assert num_frames == len(reply.codes)


def begin_frame(reply: EncodedAudio, char: int) -> int:
    """The frame in which a character's share of its word begins to sound."""
    word = next(word for word in reversed(reply.words) if word.start_char <= char)
    share = (char - word.start_char) / (word.end_char - word.start_char)
    return int((word.start_ms + min(share, 1.0) * (word.end_ms - word.start_ms)) / 80.0)


def test_a_spoken_reply_is_asked_for_but_for_its_voice(renderer: Renderer):
    stream = renderer.document([says("assistant", clip(8, transcript="two", voice="sage", features=False))])
    voice = stream.ids.index(vocab.voice_id("sage"))
    assert stream.ids[voice - 1] == vocab.SPEAK
    assert [weight > 0 for weight in stream.weights] == [at not in (0, voice) for at in range(len(stream))]
    assert len(stream.spoken) == len(stream.frames) == 8
    for frame, (position, residuals) in zip(stream.spoken, stream.frames, strict=True):
        assert frame.at == position - 1  # the hidden state before it predicts the frame
        assert stream.ids[position] == TABLE.audio_start + frame.codes[0]
        assert (frame.codes[1:] == residuals).all()
    assert names(stream).endswith("/speak end")
    assert stream.ids.count(vocab.TEXT_END) == 1


@pytest.mark.parametrize("interleave", ["timed", "proportional", "fixed", "text_first"])
def test_every_layout_holds_all_text_and_all_sound(text: TextTokenizer, interleave: str):
    renderer = Renderer(text, TABLE, dataclasses.replace(CONFIG, interleave=interleave))
    reply = clip(24, transcript="what is two plus three, please", voice="echo", features=False)
    stream = renderer.document([says("assistant", reply)])
    assert written(stream, text) == reply.transcript
    assert len(stream.spoken) == 24
    assert stream.ids.index(vocab.TEXT_END) > max(at for at, symbol in enumerate(stream.ids) if TABLE.is_text(symbol))


def test_a_prompt_is_the_beginning_of_the_document(renderer: Renderer):
    asked = [says("user", Text(text="two"), picture(caption=Text(text="five")), clip(transcript="ten"))]
    [piece] = renderer.prompt(asked, (vocab.WRITE,))
    whole = renderer.document([*asked, says("assistant", Text(text="five"))])
    assert whole.ids[: len(piece.stream)] == piece.stream.ids
    assert piece.until is None


def test_a_prompt_pauses_where_the_network_writes_what_it_heard(renderer: Renderer):
    asked = [says("user", clip(4), picture(), clip(3)), says("assistant", Text(text="ok"), picture()), says("user")]
    first, shown, second, last = renderer.prompt(asked, ())
    assert [piece.until for piece in (first, shown, second, last)] == [
        vocab.END_AUDIO,
        vocab.END_IMAGE,
        vocab.END_AUDIO,
        None,
    ]
    assert names(shown.stream) == "image Ix64 caption"
    assert names(first.stream) == "bos user audio Ax4 turn"
    assert names(second.stream).endswith("audio Ax3 turn")
    assert names(last.stream).startswith("end assistant write")
    assert names(last.stream).endswith("end user end assistant")


def test_speech_without_transcript_or_voice_is_refused(renderer: Renderer):
    with pytest.raises(ValueError, match="transcript"):
        renderer.document([says("assistant", clip(features=False))])
    with pytest.raises(ValueError, match="unknown voice 'nova'"):
        renderer.document([says("assistant", clip(transcript="two", voice="nova", features=False))])


def test_a_table_too_small_for_the_tokens_is_refused(text: TextTokenizer):
    with pytest.raises(ValueError, match="300 text tokens"):
        Renderer(text, Vocabulary(text_tokens=256))


def test_messages_are_encoded_part_by_part():
    heard, seen = clip(2), picture()
    sound = Audio(waveform=np.zeros(10, np.float32), sample_rate_hz=16_000)
    image = Image(pixels=np.zeros((4, 4, 3), np.uint8))
    message = Message(role="user", parts=(Text(text="a"), sound, image))
    encoded = encode_message(message, audio=lambda _: heard, image=lambda _: seen, film=lambda _: film(1))
    assert encoded.parts == (Text(text="a"), heard, seen)
    shown = encode_message(video("user"), audio=lambda _: heard, image=lambda _: seen, film=lambda _: film(2))
    assert isinstance(shown.parts[0], EncodedFilm)
    with pytest.raises(ValueError, match="makes no films"):
        encode_message(video("assistant"), audio=lambda _: heard, image=lambda _: seen, film=lambda _: film(2))


def video(role: Role) -> Message:
    frame = Image(pixels=np.zeros((4, 4, 3), np.uint8))
    return Message(role=role, parts=(Video(frames=(frame,), times_ms=(0.0,)),))


def film(num_frames: int, *, step_ms: float = 1000.0, **fields) -> EncodedFilm:
    rng = np.random.default_rng(num_frames)
    codes = np.full((16, 4), HIDDEN)
    frames = tuple(EncodedImage(codes=codes, features=rng.normal(size=(16, 192))) for _ in range(num_frames))
    return EncodedFilm(frames=frames, times_ms=tuple(step_ms * index for index in range(num_frames)), **fields)


def test_frames_and_sound_of_a_film_lie_in_the_order_of_their_times(renderer: Renderer):
    stream = renderer.document([says("user", film(3, step_ms=500.0, sound=clip(30)))])
    assert names(stream) == ("bos user video sec nullx16 Ax7 nullx16 Ax6 sec nullx16 Ax12 sec Ax5 /video end")
    assert [at for at, _ in stream.seen] == [at for at, _ in stream.patches]
    assert len(stream.seen) == 48
    assert [patch for _, patch in stream.patches[:16]] == [
        8 * row + column for row in (0, 2, 4, 6) for column in (0, 2, 4, 6)
    ]
    assert len(stream.heard) == 30
    assert not any(stream.weights), "nobody says what it shows"


def test_the_words_of_a_film_are_asked_for(renderer: Renderer, text: TextTokenizer):
    story, said = Text(text="draw a red circle"), "what is two"
    stream = renderer.document([says("user", film(2, sound=clip(10, transcript=said), caption=story))])
    assert written(stream, text) == said + story.text
    assert names(stream).startswith("bos user video sec nullx16 Ax10 sec nullx16 turn T")
    weights = dict(zip(stream.ids, stream.weights, strict=True))
    assert (weights[vocab.TURN], weights[vocab.CAPTION], weights[vocab.END_VIDEO]) == (0.0, CONFIG.end, CONFIG.end)
    silent = renderer.document([says("user", film(2, caption=story))])
    weights = dict(zip(silent.ids, silent.weights, strict=True))
    assert vocab.TURN not in weights
    assert (weights[vocab.CAPTION], weights[vocab.END_VIDEO]) == (0.0, CONFIG.end)


def heard_out(pieces: list[Piece], words: list[int]) -> Stream:
    """A prompt with what a network writes of it, to the last of the words."""
    stream = Stream()
    for piece in pieces:
        stream.extend(piece.stream)
        while piece.until is not None and stream.ids[-1] != piece.until:
            stream.add(words.pop(0))
    assert words == []
    return stream


@pytest.mark.parametrize("heard", [True, False])
def test_a_prompt_with_a_film_is_what_its_document_asks_for(renderer: Renderer, text: TextTokenizer, heard: bool):
    """What the network is asked to write in a document is what it writes at its prompt, symbol by symbol."""
    known = film(2, sound=clip(10, transcript="two") if heard else None, caption=Text(text="a red circle"))
    asked = dataclasses.replace(known, caption=None, sound=clip(10) if heard else None)
    words = [
        *([*map(text_id, text.encode("two")), vocab.CAPTION] if heard else []),
        *[*map(text_id, text.encode("a red circle")), vocab.END_VIDEO],
    ]
    stream = heard_out(renderer.prompt([says("user", Text(text="ten"), asked)], (vocab.WRITE,)), words)
    whole = renderer.document([says("user", Text(text="ten"), known), says("assistant", Text(text="five"))])
    assert whole.ids[: len(stream)] == stream.ids
    for mine, theirs in zip(stream._content(), whole._content(), strict=True):
        assert [at for at, _ in mine] == [at for at, _ in theirs]


def test_each_frame_of_a_film_is_noted_where_its_network_was_taught_that(text: TextTokenizer):
    noting = Renderer(text, TABLE, dataclasses.replace(CONFIG, noted_frames=True))
    bare = film(2, sound=clip(10, transcript="two"), caption=Text(text="a red circle"))
    note = Text(text="red")
    known = dataclasses.replace(bare, frames=tuple(dataclasses.replace(frame, caption=note) for frame in bare.frames))
    stream = noting.document([says("user", known)])
    assert written(stream, text) == "red" + "red" + "two" + "a red circle"
    closed = [weight for symbol, weight in zip(stream.ids, stream.weights, strict=True) if symbol == vocab.END_IMAGE]
    assert closed == [CONFIG.end] * 2
    asked = dataclasses.replace(bare, caption=None, sound=clip(10))
    pieces = noting.prompt([says("user", asked)], (vocab.WRITE,))
    assert [(piece.until, piece.is_note) for piece in pieces] == [
        (vocab.END_IMAGE, True),
        (vocab.END_IMAGE, True),
        (vocab.CAPTION, False),
        (vocab.END_VIDEO, False),
        (None, False),
    ]
    words = [
        *[*map(text_id, text.encode("red")), vocab.END_IMAGE] * 2,
        *[*map(text_id, text.encode("two")), vocab.CAPTION],
        *[*map(text_id, text.encode("a red circle")), vocab.END_VIDEO],
    ]
    heard = heard_out(pieces, words)
    assert heard.ids[: len(stream)] == stream.ids
    for mine, theirs in zip(heard._content(), stream._content(), strict=True):
        assert [at for at, _ in mine] == [at for at, _ in theirs]
    plain = noting.document([says("user", bare)])
    assert written(plain, text) == "", "of a film that is not noted nothing is asked for"
    still = Renderer(text, TABLE, dataclasses.replace(CONFIG, noted_frames=True, captions=False))
    assert vocab.CAPTION not in still.document([says("user", known)]).ids


def test_waiting_in_a_pause_weighs_what_is_said_of_it(text: TextTokenizer):
    """The frames behind the first that is silent, up to the one in which the next word begins."""
    words = (WordTime(0, 2, 0.0, 300.0), WordTime(3, 6, 800.0, 1000.0))
    heard = clip(16, transcript="is two", words=words)
    waiting = Renderer(text, TABLE, dataclasses.replace(CONFIG, listen=0.2, waited=0.9, over=0.7))
    stream = waiting.document([says("user", heard)], live=True)
    weights = [weight for at, weight in enumerate(stream.weights) if at in {at for at, _ in stream.heard}]
    pause = range(5, 11)  # 300 ms are over in frame 3; the frame that follows is silent; 800 ms begin in frame 10
    assert [frame for frame, weight in enumerate(weights) if weight == 0.9] == list(pause)
    assert [frame for frame, weight in enumerate(weights) if weight == 0.7] == [14, 15]


def text_id(token: int) -> int:
    return TABLE.text_start + token


def test_a_network_that_writes_nothing_down_is_asked_for_nothing(text: TextTokenizer):
    deaf = Renderer(text, TABLE, dataclasses.replace(CONFIG, transcripts=False, captions=False))
    [piece] = deaf.prompt([says("user", film(1, sound=clip(2)))], ())
    assert names(piece.stream) == "bos user video sec nullx16 Ax2 /video end assistant"
    told = Renderer(text, TABLE, dataclasses.replace(CONFIG, captions=False))
    first, last = told.prompt([says("user", film(1, sound=clip(2)))], ())
    assert (names(first.stream).split()[-1], first.until, last.until) == ("turn", vocab.END_VIDEO, None)
