from itertools import pairwise

import numpy as np
import pytest

from sensorium.data.generators.dialogues import is_heldout
from sensorium.data.generators.documents import NAMES, TASKS, Document, document
from sensorium.data.generators.scenes import COLOURS
from sensorium.data.generators.speech import HELDOUT_VARIANTS
from sensorium.data.generators.wordings import SAID
from sensorium.messages import Audio, Image, Part, Text, ToolCall, Video
from sensorium.tokenizers.vocab import VOICES


def parts(made: Document) -> list[Part]:
    return [part for message in made.messages for part in message.parts]


def audios(made: Document) -> list[Audio]:
    """The clips, and the sound tracks of films."""
    heard = [part.sound if isinstance(part, Video) else part for part in parts(made)]
    return [part for part in heard if isinstance(part, Audio)]


def content(part: Part) -> object:
    """All there is to a part, comparable."""
    if isinstance(part, Audio):
        return (part.waveform.tobytes(), part.transcript, part.words, part.voice)
    if isinstance(part, Video):
        sound = content(part.sound) if part.sound else None
        return (*map(content, part.frames), part.times_ms, sound, part.caption)
    return part.pixels.tobytes() if isinstance(part, Image) else part


@pytest.mark.parametrize("split", ["train", "heldout"])
@pytest.mark.parametrize("task", NAMES)
def test_the_same_arguments_give_the_same_bytes(task, split):
    one, other = (document(task, 11, split=split) for _ in range(2))
    assert [message.role for message in one.messages] == [message.role for message in other.messages]
    assert list(map(content, parts(one))) == list(map(content, parts(other)))
    assert one.phonemes == other.phonemes
    assert list(map(content, parts(one))) != list(map(content, parts(document(task, 12, split=split))))


@pytest.mark.parametrize("task", NAMES)
def test_documents_are_conversations(task):
    for seed in range(25):
        made = document(task, seed, split="train")
        roles = [message.role for message in made.messages if message.role != "system"]
        assert roles[0] == "user"
        assert roles[-1] == "assistant"
        assert all(one != next_one for one, next_one in pairwise(roles))
        assert all(message.role != "system" for message in made.messages[1:])
        assert len(made.phonemes) == len(audios(made))
        for audio, phonemes in zip(audios(made), made.phonemes, strict=True):
            assert audio.sample_rate_hz == 16_000
            assert audio.transcript
            assert len(audio.words) > 0
            assert phonemes[-1].end_ms == pytest.approx(audio.duration_ms, abs=0.1)


ANSWERS: dict[str, tuple[type, ...]] = {
    "talk": (Audio,),
    "talk-whispered": (Audio,),
    "say": (Audio,),
    "say-styled": (Audio,),
    "answer-aloud": (Audio,),
    "lesson-spoken": (Audio, Text),
    "interrupted": (Audio,),
    "conversation": (Audio, Text),
    "draw": (Image,),
    "edit": (Text, Image),
    "edit-followup": (Text, Image),
    "icon": (Image, Text),
    "emoji": (Image, Text),
    "tool": (ToolCall, Text),
    "tool-spoken": (ToolCall, Text),
    "translate": (Audio, Text),
    "mixed": (Audio, Image, Text),
}


@pytest.mark.parametrize("task", NAMES)
def test_answers_have_the_form_of_the_task(task):
    for seed in range(25):
        made = document(task, seed, split="train")
        for message in made.messages:
            if message.role == "assistant":
                *before, part = message.parts
                assert not before or (task.startswith("edit") and isinstance(part, Image))
                assert isinstance(part, ANSWERS.get(task, (Text,)))
                if isinstance(part, Audio):
                    assert part.voice in VOICES
                if isinstance(part, Image):
                    assert part.pixels.shape == (64, 64, 3)
                    assert part.pixels.dtype == np.uint8


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_heard_sentences_and_speakers_are_of_their_split(split):
    for task in ("hear", "transcribe"):
        for seed in range(20):
            for audio in audios(document(task, seed, split=split)):
                assert audio.transcript is not None
                assert audio.voice is not None
                assert is_heldout(audio.transcript) == (split == "heldout")
                assert any(f"+{variant}:" in audio.voice for variant in HELDOUT_VARIANTS) == (split == "heldout")


def test_heldout_sentences_can_be_heard_from_known_speakers():
    made = document("transcribe", 0, split="heldout", speaker_split="train")
    (audio,) = audios(made)
    assert audio.transcript is not None
    assert audio.voice is not None
    assert is_heldout(audio.transcript)
    assert not any(f"+{variant}:" in audio.voice for variant in HELDOUT_VARIANTS)


def test_say_and_transcribe_agree_with_their_sound():
    user, assistant = document("say", 5, split="train").messages
    (said,) = assistant.parts
    assert isinstance(said, Audio)
    assert user.text == f"say: {said.transcript}"
    made = document("transcribe", 5, split="train")
    assert made.messages[-1].text == audios(made)[0].transcript


def test_some_conversations_go_on():
    lengths = [sum(m.role == "user" for m in document("chat", seed, split="train").messages) for seed in range(300)]
    assert set(lengths) == {1, 2, 3}
    assert 0.08 < np.mean(np.array(lengths) > 1) < 0.22


def test_a_conversation_goes_on_for_many_turns_and_not_all_of_them_smoothly() -> None:
    made = [document("conversation", seed, split="train").messages for seed in range(25)]
    turns = [sum(message.role == "user" for message in messages) for messages in made]
    assert min(turns) >= 3
    assert max(turns) >= 10
    parts = [(message.role, message.parts[0]) for messages in made for message in messages]
    said = [part.transcript or "" for role, part in parts if role == "user" and isinstance(part, Audio)]
    assert any(len(words.split()) <= 2 for words in said), "sentences are broken off"
    assert any(part.cut for role, part in parts if role == "assistant" and isinstance(part, Audio)), "and answers"
    assert any(role == "user" and isinstance(part, Text) for role, part in parts)


def test_an_interrupted_answer_ends_in_a_word_begun_and_may_be_gone_on_with() -> None:
    gone_on = 0
    for seed in range(12):
        messages = document("interrupted", seed, split="train").messages
        answers = [part for message in messages if message.role == "assistant" for part in message.parts]
        begun, last = answers
        assert isinstance(begun, Audio)
        assert isinstance(last, Audio)
        assert (begun.cut, last.cut) == (True, False)
        assert begun.transcript is not None
        assert last.transcript is not None
        assert begun.words[-1].start_ms < begun.duration_ms
        assert begun.words[-1].end_char == len(begun.transcript)
        gone_on += last.transcript.startswith(begun.transcript.split()[-1])
    assert 2 <= gone_on <= 9


def test_a_tool_result_answers_its_call():
    made = [document("tool", seed, split="train").messages for seed in range(60)]
    told = [messages for messages in made if messages[-2].role == "tool"]
    assert told
    for _, _, calling, result, telling in told:
        (tool_call,) = calling.parts
        assert isinstance(tool_call, ToolCall)
        assert result.tool_call_id == tool_call.id
        assert telling.text


def test_a_film_is_as_long_as_its_sound_and_says_what_is_asked() -> None:
    silent = asked_for_words = 0
    for seed in range(40):
        made = document("see-film", seed, split="train")
        (shown,) = [part for part in parts(made) if isinstance(part, Video)]
        assert shown.caption is not None
        assert all(frame.pixels.shape == (64, 64, 3) for frame in shown.frames)
        assert set(np.diff(shown.times_ms)) <= {500.0, 1000.0}
        assert len(shown.frames) >= 2
        silent += shown.sound is None
        if shown.sound is not None:
            assert shown.times_ms[-1] >= shown.sound.duration_ms > shown.sound.words[-1].end_ms
        for question, answer in zip(made.messages[::2], made.messages[1::2], strict=True):
            words = [part.text for part in question.parts if isinstance(part, Text)]
            if words and words[0] in SAID:
                asked_for_words += 1
                assert answer.text == (shown.sound.transcript if shown.sound else "nothing is said")
    assert 5 <= silent <= 25
    assert asked_for_words > 3


def test_shares_add_up():
    assert sum(TASKS.values()) == pytest.approx(1)


@pytest.mark.parametrize(("task", "seed"), [("sleep", 0), ("chat", -1)])
def test_bad_arguments_are_errors(task, seed):
    with pytest.raises(ValueError, match=r"unknown task|seed"):
        document(task, seed, split="train")


def voicing(audio: Audio) -> float:
    """How much of the loud part of a clip repeats itself as a voice does: its median autocorrelation at a pitch."""
    frames = np.lib.stride_tricks.sliding_window_view(audio.waveform, 1024)[::512] * np.hanning(1024)
    correlation = np.fft.irfft(np.abs(np.fft.rfft(frames, 2048)) ** 2)
    loud = correlation[:, 0] > 0.1 * correlation[:, 0].max()
    return float(np.median(correlation[loud, 40:266].max(axis=1) / correlation[loud, 0]))


def test_a_whisper_is_answered_in_a_whisper_and_nothing_else_is() -> None:
    turns = [audios(document("talk-whispered", seed, split="train"))[-2:] for seed in range(24)]
    is_soft = [float(np.sqrt(np.mean(answer.waveform**2))) < 0.045 for _, answer in turns]
    heard = [voicing(question) for question, _ in turns]
    whispered, spoken = ([how for how, soft in zip(heard, is_soft, strict=True) if soft == kind] for kind in (1, 0))
    assert min(len(whispered), len(spoken)) >= 5
    assert np.mean(whispered) < 0.5 < np.mean(spoken), "of some voices there is but little to be heard"


def test_people_are_told_apart_voice_by_voice_before_they_are_counted() -> None:
    counts = {"one person speaks": 1, "two people speak": 2, "three people speak": 3}
    told = [document("hear-people", seed, split="train").messages[-1].text.split(": ") for seed in range(12)]
    assert {count for _, count in told} == set(counts)
    for voices, count in told:
        first, *others = voices.split(", ")
        assert first in {"a low voice", "a middle voice", "a high voice"}
        assert [first, *others].count("the same voice") == 3 - counts[count]


def test_an_icon_is_drawn_in_the_colour_that_was_asked_for_if_any_was() -> None:
    made = [document("icon", seed, split="train").messages for seed in range(60)]
    asked = [m[0].text.lower() for m in made if m[0].text and isinstance(m[-1].parts[-1], Image)]
    in_colour = [words for words in asked if any(colour in words for colour in COLOURS)]
    assert 0.2 < len(in_colour) / len(asked) < 0.8
