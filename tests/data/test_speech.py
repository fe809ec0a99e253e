import hashlib
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from sensorium.data.generators.speech import (
    HELDOUT_ACCENT,
    HELDOUT_VARIANTS,
    PHONEMES,
    PRESETS,
    SAMPLE_RATE_HZ,
    SILENCE,
    TRAIN_ACCENTS,
    TRAIN_VARIANTS,
    UNKNOWN_PHONEME,
    Speaker,
    Synthesizer,
    Utterance,
    in_room,
    phoneme_of,
    random_speaker,
    with_pauses,
    with_silence,
)
from sensorium.tokenizers.vocab import VOICES

TEXT = "turn on the lights in the kitchen"
ALLOY = PRESETS["alloy"]


def digest(utterance: Utterance) -> str:
    times = repr((utterance.audio.words, utterance.phonemes)).encode()
    return hashlib.sha256(utterance.audio.waveform.tobytes() + times).hexdigest()


def rms(waveform: np.ndarray) -> float:
    return float(np.sqrt(np.mean(waveform**2)))


def test_utterance_is_16_khz_with_transcript_and_voice():
    utterance = Synthesizer().speak(TEXT, ALLOY)
    audio = utterance.audio
    assert audio.waveform.dtype == np.float32
    assert audio.waveform.ndim == 1
    assert audio.sample_rate_hz == SAMPLE_RATE_HZ
    assert (audio.transcript, audio.voice) == (TEXT, "alloy")
    assert 1000 < audio.duration_ms < 3000
    assert np.abs(audio.waveform).max() <= 0.951


def test_same_arguments_give_the_same_bytes_whatever_was_said_before():
    synthesizer = Synthesizer()
    speakers = [*PRESETS.values(), *(Speaker(name=v, variant=v) for v in (*TRAIN_VARIANTS, *HELDOUT_VARIANTS))]
    first = [digest(synthesizer.speak("nine minus four", speaker)) for speaker in speakers]
    again = [digest(synthesizer.speak("nine minus four", speaker)) for speaker in reversed(speakers)]
    assert first == again[::-1]


def test_another_process_gives_the_same_bytes():
    code = (
        "from sensorium.data.generators.speech import *; import hashlib;"
        f"audio = Synthesizer().speak({TEXT!r}, PRESETS['alloy']).audio;"
        "print(hashlib.sha256(audio.waveform.tobytes()).hexdigest())"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    assert said == hashlib.sha256(Synthesizer().speak(TEXT, ALLOY).audio.waveform.tobytes()).hexdigest()


@pytest.mark.parametrize(
    "text",
    [TEXT, "it is the capital of france", "cat is spelled c a t", "  two   spaces ", "Hello, Mr. Smith: 3 + 4 = 7?"],
)
def test_every_word_has_a_time(text: str):
    audio = Synthesizer().speak(text, ALLOY).audio
    assert [text[word.start_char : word.end_char] for word in audio.words] == text.split()
    times = [time for word in audio.words for time in (word.start_ms, word.end_ms)]
    assert times == sorted(times)
    assert 0 <= times[0]
    assert times[-1] <= audio.duration_ms + 0.1
    if text == TEXT:
        assert min(word.end_ms - word.start_ms for word in audio.words) > 50


def test_words_begin_where_they_sound():
    """A pause in the text is a pause in the sound, and lies between its words' times."""
    audio = Synthesizer().speak("stop, go", ALLOY).audio
    stop, go = audio.words
    between = audio.waveform[int(stop.end_ms * 16) + 480 : int(go.start_ms * 16) - 480]
    within = audio.waveform[int(go.start_ms * 16) : int(go.end_ms * 16)]
    assert len(between) > 1600
    assert rms(between) < 0.02 * rms(within)


def test_phonemes_fill_the_clip():
    utterance = Synthesizer().speak(TEXT, ALLOY)
    assert utterance.phonemes[0].start_ms == 0
    assert utterance.phonemes[-1].end_ms == pytest.approx(utterance.audio.duration_ms, abs=0.1)
    for one, next_one in zip(utterance.phonemes, utterance.phonemes[1:], strict=False):
        assert one.start_ms < one.end_ms == next_one.start_ms
    said = [time.phoneme for time in utterance.phonemes if time.phoneme != SILENCE]
    assert said[:4] == ["t", "3:", "n", "O:"]


def test_phonemes_are_a_closed_set():
    assert PHONEMES[0] == SILENCE
    assert len(set(PHONEMES)) == len(PHONEMES)
    assert phoneme_of("'3:") == "3:"
    assert phoneme_of("t#") == "t"
    assert phoneme_of("_:") == SILENCE
    assert phoneme_of("q!") == UNKNOWN_PHONEME
    synthesizer = Synthesizer()
    pangram = "the quick brown fox jumps over a lazy dog while father thought their noisy boy saw measures of good food"
    for accent in (*TRAIN_ACCENTS, HELDOUT_ACCENT):
        for time in synthesizer.speak(pangram, Speaker(name=accent, accent=accent)).phonemes:
            assert time.phoneme in PHONEMES
            assert time.phoneme != UNKNOWN_PHONEME


def test_silence_around_speech_is_trimmed():
    waveform = Synthesizer().speak("hello", ALLOY).audio.waveform
    loud = np.flatnonzero(np.abs(waveform) > 0.02 * np.abs(waveform).max())
    assert loud[0] <= 0.04 * SAMPLE_RATE_HZ
    assert len(waveform) - loud[-1] <= 0.06 * SAMPLE_RATE_HZ


@pytest.mark.parametrize("text", ["", "  \n", "."])
def test_nothing_to_say_is_an_error(text: str):
    with pytest.raises(ValueError, match=r"empty|no sound"):
        Synthesizer().speak(text, ALLOY)


def test_unknown_voice_is_an_error_and_does_no_harm():
    synthesizer = Synthesizer()
    before = digest(synthesizer.speak(TEXT, ALLOY))
    with pytest.raises(ValueError, match="no voice"):
        synthesizer.speak(TEXT, Speaker(name="x", accent="xx-nowhere"))
    assert digest(synthesizer.speak(TEXT, ALLOY)) == before


def test_speakers_differ_in_rate_pitch_and_volume():
    synthesizer = Synthesizer()
    slow = synthesizer.speak(TEXT, Speaker(name="slow", rate_wpm=120)).audio
    fast = synthesizer.speak(TEXT, Speaker(name="fast", rate_wpm=210)).audio
    quiet = synthesizer.speak(TEXT, Speaker(name="quiet", volume=50)).audio
    assert slow.duration_ms > 1.4 * fast.duration_ms
    assert rms(quiet.waveform) == pytest.approx(0.04, rel=0.01)


def test_presets_are_the_voices_of_the_vocabulary():
    assert tuple(PRESETS) == VOICES
    assert all(speaker.variant not in HELDOUT_VARIANTS for speaker in PRESETS.values())
    assert len({digest(Synthesizer().speak("hello", speaker)) for speaker in PRESETS.values()}) == len(VOICES)


def test_heldout_speakers_are_never_training_speakers():
    rng = np.random.default_rng(0)
    train = [random_speaker(rng, split="train") for _ in range(2000)]
    heldout = [random_speaker(rng, split="heldout") for _ in range(500)]
    assert not {s.variant for s in train} & {s.variant for s in heldout}
    assert HELDOUT_ACCENT not in {s.accent for s in train}
    assert {s.accent for s in heldout} == {HELDOUT_ACCENT, *TRAIN_ACCENTS}
    assert {s.variant for s in train} >= set(TRAIN_VARIANTS)
    assert 0.28 < sum(s in PRESETS.values() for s in train) / 2000 < 0.39


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_room_shifts_words_and_phonemes_with_the_sound(level: float):
    utterance = Synthesizer().speak(TEXT, ALLOY)
    heard = in_room(utterance, np.random.default_rng(3), level=level)
    lead_ms = heard.audio.words[0].start_ms - utterance.audio.words[0].start_ms
    assert 50 <= lead_ms <= 400
    assert heard.phonemes[0].phoneme == SILENCE
    assert heard.phonemes[-1].phoneme == SILENCE
    assert heard.phonemes[-1].end_ms == pytest.approx(heard.audio.duration_ms, abs=0.1)
    assert heard.phonemes[2].start_ms == pytest.approx(utterance.phonemes[2].start_ms + lead_ms)
    assert [p.phoneme for p in heard.phonemes] == [p.phoneme for p in utterance.phonemes]
    assert heard.audio.waveform.dtype == np.float32
    assert np.abs(heard.audio.waveform).max() <= 1
    lead = int(lead_ms * 16)
    there = heard.audio.waveform[lead : lead + len(utterance.audio.waveform)]
    assert rms(heard.audio.waveform[: lead - 100]) < 0.4 * rms(there)
    if level == 0:
        assert np.corrcoef(there, utterance.audio.waveform)[0, 1] > 0.9


def test_nothing_but_speech_comes_through_a_quiet_line():
    utterance = Synthesizer().speak(TEXT, ALLOY)
    heard = in_room(utterance, np.random.default_rng(3), level=0.0, quiet=True).audio
    lead = int(16 * (heard.words[0].start_ms - utterance.audio.words[0].start_ms))
    there = heard.waveform[lead : lead + len(utterance.audio.waveform)]
    assert 0 < rms(heard.waveform[: lead - 100]) < 1.1e-3 * rms(there)


def test_silence_behind_the_words_moves_none_of_them():
    plain = Synthesizer().speak(TEXT, ALLOY)
    longer = with_silence(plain, before_ms=0.0, after_ms=700.0)
    assert longer.audio.words == plain.audio.words
    assert longer.audio.duration_ms == pytest.approx(plain.audio.duration_ms + 700.0, abs=0.1)
    assert longer.phonemes[-1].phoneme == SILENCE
    assert longer.phonemes[-1].end_ms == pytest.approx(longer.audio.duration_ms)
    assert not longer.audio.waveform[len(plain.audio.waveform) :].any()


def test_room_is_a_function_of_its_seed():
    audio = Synthesizer().speak(TEXT, ALLOY).audio
    one, same, other = (in_room(audio, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.waveform.tobytes() == same.waveform.tobytes() != other.waveform.tobytes()
    assert (one.transcript, one.voice) == (TEXT, "alloy")


@pytest.mark.parametrize("pauses", [1, 2, 20])
def test_pauses_lie_between_words_and_move_what_follows(pauses: int):
    plain = Synthesizer().speak(TEXT, ALLOY)
    paused = with_pauses(plain, np.random.default_rng(4), pauses=pauses)
    before, after = plain.audio, paused.audio
    count = min(pauses, len(before.words) - 1)
    added_ms = after.duration_ms - before.duration_ms
    assert 200 * count <= added_ms <= 1200 * count
    shifts = [new.start_ms - old.start_ms for old, new in zip(before.words, after.words, strict=True)]
    assert shifts[0] == 0.0
    assert shifts[-1] <= added_ms + 0.1
    assert sum(later > sooner + 100 for sooner, later in pairwise(shifts)) == count
    for old, new in zip(before.words, after.words, strict=True):  # the words themselves are as they were
        assert new.end_ms - new.start_ms == pytest.approx(old.end_ms - old.start_ms)
    assert np.array_equal(after.waveform[after.waveform != 0], before.waveform[before.waveform != 0])
    assert paused.phonemes[-1].end_ms == pytest.approx(after.duration_ms)
    assert all(one.end_ms == other.start_ms for one, other in pairwise(paused.phonemes))
    sounding = [time.phoneme for time in paused.phonemes if time.phoneme != SILENCE]
    assert len(sounding) >= len([time for time in plain.phonemes if time.phoneme != SILENCE])
