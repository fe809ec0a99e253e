import numpy as np
import pytest

from sensorium.data.generators.speech import PRESETS, SILENCE, Synthesizer, Utterance, random_speaker
from sensorium.data.generators.surroundings import (
    BACKGROUNDS,
    Background,
    one_after_another,
    voice_height,
    with_background,
)

TEXT = "turn on the lights in the kitchen"


@pytest.fixture(scope="module")
def said() -> Utterance:
    return Synthesizer().speak(TEXT, PRESETS["alloy"])


def rms(waveform: np.ndarray) -> float:
    return float(np.sqrt(np.mean(waveform**2)))


def apart(heard: Utterance, said: Utterance) -> tuple[np.ndarray, np.ndarray]:
    """The speech in a clip, and what is left of it without the speech."""
    lead_ms = heard.audio.words[0].start_ms - said.audio.words[0].start_ms
    lead = round(lead_ms / 1000 * heard.audio.sample_rate_hz)
    plain = np.pad(said.audio.waveform, (lead, len(heard.audio.waveform) - lead - len(said.audio.waveform)))
    scale = float(heard.audio.waveform @ plain) / float(plain @ plain)
    return scale * plain, heard.audio.waveform - scale * plain


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_a_background_goes_on_around_the_words_and_below_them(said: Utterance, background: Background):
    one, other = (with_background(said, np.random.default_rng(4), background) for _ in range(2))
    waveform, words = one.audio.waveform, one.audio.words
    assert np.array_equal(waveform, other.audio.waveform)
    assert waveform.dtype == np.float32
    assert np.abs(waveform).max() <= 0.951
    speech, sound = apart(one, said)
    assert 0.0 < rms(sound) < 0.83 * rms(speech[speech != 0.0]), "the speech stands above it"
    assert min(np.argmax(speech != 0.0), np.argmax(speech[::-1] != 0.0)) >= 0.29 * one.audio.sample_rate_hz
    lengths = [word.end_ms - word.start_ms for word in words]
    assert lengths == pytest.approx([word.end_ms - word.start_ms for word in said.audio.words])
    assert one.phonemes[0].phoneme == one.phonemes[-1].phoneme == SILENCE


def test_backgrounds_differ_by_their_sound(said: Utterance):
    """A nearest mean over third-octave spectra tells them apart: there is something to hear."""

    def spectrum(background: Background, seed: int) -> np.ndarray:
        _, sound = apart(with_background(said, np.random.default_rng(seed), background), said)
        power = np.abs(np.fft.rfft(sound, 1 << 16)) ** 2
        bands = np.array([band.sum() for band in np.array_split(power, np.geomspace(100, 32_000, 20).astype(int))])
        return np.log(bands / bands.sum() + 1e-9)

    means = {name: np.mean([spectrum(name, seed) for seed in range(12)], axis=0) for name in BACKGROUNDS}
    heard = [(name, spectrum(name, seed)) for name in BACKGROUNDS for seed in range(20, 32)]
    nearest = [min(means, key=lambda name, of=of: np.abs(means[name] - of).sum()) for _, of in heard]
    assert np.mean([name == found for (name, _), found in zip(heard, nearest, strict=True)]) > 0.6


def test_an_unknown_background_is_refused(said: Utterance):
    with pytest.raises(ValueError, match="unknown background 'thunder'"):
        with_background(said, np.random.default_rng(0), "thunder")  # pyright: ignore[reportArgumentType]


def test_one_speaks_after_another():
    synthesizer = Synthesizer()
    parts = [synthesizer.speak(text, PRESETS[name]) for text, name in (("good morning", "alloy"), ("hello", "echo"))]
    both = one_after_another(parts, np.random.default_rng(1)).audio
    assert both.transcript == "good morning hello"
    assert [both.transcript[word.start_char : word.end_char] for word in both.words] == ["good", "morning", "hello"]
    start = int(both.words[-1].start_ms / 1000 * both.sample_rate_hz)
    tail = both.waveform[-len(parts[1].audio.waveform) :]
    assert np.array_equal(tail, parts[1].audio.waveform)
    assert both.words[1].end_ms + 100 < both.words[2].start_ms
    assert abs(start - (len(both.waveform) - len(tail))) < 0.1 * both.sample_rate_hz


def test_how_high_a_voice_is_stays_the_same_and_differs_between_people():
    synthesizer, rng = Synthesizer(), np.random.default_rng(5)
    heights = {name: voice_height(synthesizer.speak("hello there my friend", voice)) for name, voice in PRESETS.items()}
    assert (heights["verse"], heights["ballad"], heights["coral"]) == ("low", "middle", "high")
    again = {name: voice_height(synthesizer.speak("the lamp in the hall is on", PRESETS[name])) for name in heights}
    assert sum(again[name] != heights[name] for name in heights) <= 1, "nobody's voice is quite level"
    drawn = [voice_height(synthesizer.speak("what time is it", random_speaker(rng, split="train"))) for _ in range(60)]
    assert all(drawn.count(height) > 8 for height in ("low", "middle", "high"))
