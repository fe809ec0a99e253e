import numpy as np
import pytest

from sensorium.data.generators.speech import PRESETS, Synthesizer
from sensorium.data.generators.styles import STYLES, Style, speak

TEXT = "turn on the lights in the kitchen"
ALLOY = PRESETS["alloy"]


def rms(waveform: np.ndarray) -> float:
    return float(np.sqrt(np.mean(waveform**2)))


def periodicity(waveform: np.ndarray) -> float:
    """The largest autocorrelation between 60 and 400 Hz over the frames that sound, in the median: voices repeat."""
    frames = np.lib.stride_tricks.sliding_window_view(waveform, 640)[::320]
    frames = frames[np.sqrt((frames**2).mean(axis=1)) > 0.5 * rms(waveform)]
    power = np.abs(np.fft.rfft(frames - frames.mean(axis=1, keepdims=True), 2048)) ** 2
    correlation = np.fft.irfft(power)
    return float(np.median((correlation[:, 40:267] / correlation[:, :1]).max(axis=1)))


@pytest.mark.parametrize("style", STYLES)
def test_a_style_is_a_function_of_its_arguments(style: Style):
    synthesizer = Synthesizer()
    one, other = (speak(synthesizer, TEXT, ALLOY, style) for _ in range(2))
    plain = synthesizer.speak(TEXT, ALLOY)
    assert np.array_equal(one.audio.waveform, other.audio.waveform)
    assert one.phonemes == other.phonemes
    assert (one.audio.voice, one.audio.transcript) == ("alloy", TEXT)
    assert one.audio.waveform.dtype == np.float32
    assert np.abs(one.audio.waveform).max() <= 0.951
    assert [time.phoneme for time in one.phonemes] == [time.phoneme for time in plain.phonemes]


def test_styles_differ_as_their_names_say():
    synthesizer = Synthesizer()
    plain = synthesizer.speak(TEXT, ALLOY).audio
    said = {style: speak(synthesizer, TEXT, ALLOY, style).audio for style in STYLES}
    assert said["fast"].duration_ms < 0.75 * plain.duration_ms
    assert said["slow"].duration_ms > 1.4 * plain.duration_ms
    assert rms(said["whisper"].waveform) < 0.5 * rms(plain.waveform) < 0.4 * rms(said["shout"].waveform)
    assert periodicity(plain.waveform) > 0.6
    assert periodicity(said["whisper"].waveform) < 0.4
    bright = [np.abs(np.fft.rfft(clip.waveform))[len(clip.waveform) // 8 :] for clip in (plain, said["shout"])]
    assert (bright[1] ** 2).mean() / rms(said["shout"].waveform) ** 2 > (bright[0] ** 2).mean() / rms(
        plain.waveform
    ) ** 2


def test_an_unknown_style_is_refused():
    with pytest.raises(ValueError, match="unknown style 'sad'"):
        speak(Synthesizer(), TEXT, ALLOY, "sad")  # pyright: ignore[reportArgumentType]
