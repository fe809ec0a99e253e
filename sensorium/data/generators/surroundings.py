"""What else is to be heard in a clip: rain, an engine, a crowd behind the speech; one person after another.

All sounds are made here, by program. A background begins before the clip's speech and lasts beyond it, as in a room
where it was going on anyway; it is added behind the room's own echo and noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

import numpy as np

from sensorium.data.generators.speech import SAMPLE_RATE_HZ, SILENCE, Utterance, phoneme_times
from sensorium.messages import WordTime

Background: TypeAlias = Literal["rain", "wind", "an engine", "music", "an alarm", "birds", "a crowd"]
VoiceHeight: TypeAlias = Literal["low", "middle", "high"]
_Maker: TypeAlias = Callable[[np.random.Generator, int], np.ndarray]  # that many samples, of any loudness

_LOUDEST_DB, _SOFTEST_DB = 2.0, 14.0  # how far the speech stands above its background


def with_background(utterance: Utterance, rng: np.random.Generator, background: Background | None) -> Utterance:
    """The utterance with that sound behind it, 2 to 14 dB softer, and alone for 0.3 to 1 s before and after it; or with
    as much of nothing. Raises ValueError for an unknown background.
    """
    if background is not None and background not in _MAKERS:
        raise ValueError(f"unknown background {background!r}; there are {', '.join(BACKGROUNDS)}")
    audio = utterance.audio
    lead, tail = (int(rng.uniform(0.3, 1.0) * audio.sample_rate_hz) for _ in range(2))
    speech = np.pad(audio.waveform, (lead, tail))
    sound = _MAKERS[background](rng, len(speech)) if background else np.zeros(len(speech))
    level = _rms(audio.waveform) * 10 ** (-rng.uniform(_LOUDEST_DB, _SOFTEST_DB) / 20)
    heard = speech + sound * (level / (_rms(sound) + 1e-9))
    heard = (heard * min(1.0, 0.95 / float(np.abs(heard).max()))).astype(np.float32)
    lead_ms, tail_ms = (1000 * samples / audio.sample_rate_hz for samples in (lead, tail))
    heard_audio = replace(audio, waveform=heard, words=_later(audio.words, lead_ms))
    starts = [(time.phoneme, time.start_ms + lead_ms) for time in utterance.phonemes]
    starts.append((SILENCE, heard_audio.duration_ms - tail_ms))
    return Utterance(audio=heard_audio, phonemes=phoneme_times(starts, heard_audio.duration_ms))


_LOW_HZ, _HIGH_HZ = 105.0, 170.0  # a third of the people who are heard lie on either side and between
_PITCH_FRAME, _LEAST_HZ, _MOST_HZ = 1024, 60, 400  # samples of 16 kHz: four periods of the lowest voice


def voice_height(utterance: Utterance) -> VoiceHeight:
    """Whether a voice is low or high, by its median pitch where it has one (autocorrelation of windows of 64 ms).

    One speaker's pitch differs by half a semitone between two sentences, people's by two octaves. The utterance must
    be longer than a window and have no room around it yet.
    """
    waveform, rate_hz = utterance.audio.waveform, utterance.audio.sample_rate_hz
    frames = np.lib.stride_tricks.sliding_window_view(waveform, _PITCH_FRAME)[:: _PITCH_FRAME // 2]
    power = np.abs(np.fft.rfft(frames * np.hanning(_PITCH_FRAME), 2 * _PITCH_FRAME)) ** 2
    correlation = np.fft.irfft(power)[:, :_PITCH_FRAME]
    correlation = correlation[correlation[:, 0] > 0.1 * correlation[:, 0].max()]
    first, last = rate_hz // _MOST_HZ, rate_hz // _LEAST_HZ
    lags = first + correlation[:, first:last].argmax(axis=1)
    is_voiced = np.take_along_axis(correlation, lags[:, None], axis=1)[:, 0] > 0.4 * correlation[:, 0]
    pitch_hz = float(np.median(rate_hz / lags[is_voiced])) if is_voiced.any() else 0.0
    return "low" if pitch_hz < _LOW_HZ else "high" if pitch_hz > _HIGH_HZ else "middle"


def one_after_another(utterances: Sequence[Utterance], rng: np.random.Generator) -> Utterance:
    """Several utterances in one clip, with pauses of 0.15 to 0.6 s between them. They must share a sample rate."""
    assert len({utterance.audio.sample_rate_hz for utterance in utterances}) == 1
    rate_hz = utterances[0].audio.sample_rate_hz
    sound: list[np.ndarray] = []
    words: list[WordTime] = []
    starts: list[tuple[str, float]] = []
    text, num_samples = "", 0
    for utterance in utterances:
        if sound:
            starts.append((SILENCE, 1000 * num_samples / rate_hz))
            sound.append(np.zeros(int(rng.uniform(0.15, 0.6) * rate_hz), np.float32))
            num_samples += len(sound[-1])
            text += " "
        start_ms = 1000 * num_samples / rate_hz
        audio = utterance.audio
        words += [
            word._replace(start_char=word.start_char + len(text), end_char=word.end_char + len(text))
            for word in _later(audio.words, start_ms)
        ]
        starts += [(time.phoneme, time.start_ms + start_ms) for time in utterance.phonemes]
        sound.append(audio.waveform)
        num_samples += len(audio.waveform)
        text += audio.transcript or ""
    first = utterances[0].audio
    joined = replace(first, waveform=np.concatenate(sound), transcript=text, words=tuple(words))
    return Utterance(audio=joined, phonemes=phoneme_times(starts, joined.duration_ms))


def _later(words: Sequence[WordTime], by_ms: float) -> tuple[WordTime, ...]:
    return tuple(word._replace(start_ms=word.start_ms + by_ms, end_ms=word.end_ms + by_ms) for word in words)


def _rms(waveform: np.ndarray) -> float:
    return float(np.sqrt(np.mean(waveform**2)))


# --- the sounds


def _shaped_noise(rng: np.random.Generator, size: int, gain: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """White noise with a gain by frequency in Hz."""
    frequencies_hz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE_HZ)
    return np.fft.irfft(np.fft.rfft(rng.standard_normal(size)) * gain(frequencies_hz), size)


def _swell(rng: np.random.Generator, size: int, *, every_s: float, least: float) -> np.ndarray:
    """A loudness that wanders between `least` and 1."""
    knots = rng.uniform(least, 1.0, int(size / SAMPLE_RATE_HZ / every_s) + 3)
    return np.interp(np.arange(size) / (every_s * SAMPLE_RATE_HZ), np.arange(len(knots)), knots)


def _placed(size: int, pieces: Sequence[tuple[int, np.ndarray]]) -> np.ndarray:
    """Short sounds at their samples; what runs over the end is cut."""
    out = np.zeros(size)
    for start, piece in pieces:
        end = min(size, start + len(piece))
        out[start:end] += piece[: end - start]
    return out


def _times(rng: np.random.Generator, size: int, *, per_s: float) -> list[int]:
    """Random moments, in samples; one at least."""
    return np.sort(rng.integers(0, size, max(1, int(per_s * size / SAMPLE_RATE_HZ)))).tolist()


def _rain(rng: np.random.Generator, size: int) -> np.ndarray:
    """A hiss, and drops that click on something hard."""
    low_hz = rng.uniform(800, 2500)
    hiss = _shaped_noise(rng, size, lambda hz: (hz > low_hz) / np.sqrt(np.maximum(hz, 1.0)))
    drop_s = np.arange(int(0.012 * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    drops = [
        (at, rng.uniform(1, 6) * np.exp(-drop_s / 0.002) * np.sin(2 * np.pi * rng.uniform(1500, 6000) * drop_s))
        for at in _times(rng, size, per_s=rng.uniform(20, 80))
    ]
    return hiss / _rms(hiss) + _placed(size, drops)


def _wind(rng: np.random.Generator, size: int) -> np.ndarray:
    """Low noise in gusts, with a whistle that follows them."""
    gusts = _swell(rng, size, every_s=rng.uniform(0.4, 0.9), least=0.15)
    rumble = _shaped_noise(rng, size, lambda hz: 1 / (1 + (hz / 250) ** 2))
    phase = 2 * np.pi * np.cumsum(rng.uniform(350, 500) + 250 * gusts) / SAMPLE_RATE_HZ
    return gusts * (rumble / _rms(rumble) + 0.25 * np.sin(phase) * gusts)


def _engine(rng: np.random.Generator, size: int) -> np.ndarray:
    """The harmonics of a turning thing, a little out of step with themselves."""
    turns_hz = rng.uniform(28, 75) * _swell(rng, size, every_s=1.0, least=0.85)
    phase = 2 * np.pi * np.cumsum(turns_hz) / SAMPLE_RATE_HZ
    harmonics = sum(rng.uniform(0.4, 1) / k**0.7 * np.sin(k * phase + rng.uniform(0, 6)) for k in range(1, 25))
    roughness = _shaped_noise(rng, size, lambda hz: 1 / (1 + (hz / 600) ** 2))
    return harmonics + 0.5 * roughness / _rms(roughness) * (1 + np.sin(phase / 2))


def _music(rng: np.random.Generator, size: int) -> np.ndarray:
    """Plucked notes of one scale over their own chords."""
    beat = int(rng.uniform(0.18, 0.4) * SAMPLE_RATE_HZ)
    root_hz = rng.uniform(110, 220)
    scale = np.array((0, 2, 4, 7, 9, 12, 14, 16)) if rng.random() < 0.5 else np.array((0, 3, 5, 7, 10, 12, 15, 17))
    length_s = np.arange(int(1.2 * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ

    def note(semitones: int) -> np.ndarray:
        hz = root_hz * 2 ** (semitones / 12)
        partials = sum(np.sin(2 * np.pi * k * hz * length_s) * np.exp(-3 * k * length_s) / k for k in range(1, 6))
        return partials * np.minimum(1.0, length_s / 0.005)

    melody = [(at, note(int(rng.choice(scale)))) for at in range(0, size, beat)]
    chords = [
        (at, 0.6 * np.sum([note(int(scale[k]) - 12) for k in (0, 2, 3)], axis=0)) for at in range(0, size, 4 * beat)
    ]
    return _placed(size, [*melody, *chords])


def _alarm(rng: np.random.Generator, size: int) -> np.ndarray:
    """Beeps, of one pitch or of two in turn."""
    pitches_hz = rng.uniform(700, 2600, 2) if rng.random() < 0.5 else np.full(2, rng.uniform(700, 2600))
    beep, gap = (int(rng.uniform(low, high) * SAMPLE_RATE_HZ) for low, high in ((0.08, 0.35), (0.04, 0.25)))
    time_s = np.arange(beep) / SAMPLE_RATE_HZ
    fade = np.minimum(1.0, np.minimum(np.arange(beep), np.arange(beep)[::-1]) / 80)
    beeps = [
        (at, fade * np.sign(np.sin(2 * np.pi * pitches_hz[turn % 2] * time_s)) * 0.5)
        for turn, at in enumerate(range(int(rng.integers(beep)), size, beep + gap))
    ]
    return _placed(size, beeps)


def _birds(rng: np.random.Generator, size: int) -> np.ndarray:
    """Chirps that slide up or down, a few of a kind in a row."""
    chirps: list[tuple[int, np.ndarray]] = []
    for at in _times(rng, size, per_s=rng.uniform(1.2, 2.5)):
        length = int(rng.uniform(0.05, 0.16) * SAMPLE_RATE_HZ)
        start_hz, end_hz = rng.uniform(2200, 6000, 2)
        phase = 2 * np.pi * np.cumsum(np.linspace(start_hz, end_hz, length)) / SAMPLE_RATE_HZ
        chirp = np.sin(phase) * np.hanning(length)
        pitch = int(length * rng.uniform(1.1, 1.6))
        chirps += [(at + pitch * repeat, chirp) for repeat in range(int(rng.integers(2, 6)))]
    return _placed(size, [(at, chirp) for at, chirp in chirps if at < size])


def _crowd(rng: np.random.Generator, size: int) -> np.ndarray:
    """Many voices of which no word can be told: trains of pulses through vowels that change with every syllable."""
    crowd = np.zeros(size)
    for _ in range(9):
        syllable = int(rng.uniform(0.13, 0.22) * SAMPLE_RATE_HZ)
        pitch_hz = rng.uniform(85, 240) * _swell(rng, size, every_s=0.3, least=0.8)
        pulses = np.diff(np.floor(np.cumsum(pitch_hz) / SAMPLE_RATE_HZ), prepend=0.0)
        voice = np.zeros(size)
        for start in range(0, size, syllable):
            part = pulses[start : start + 2 * syllable]
            hz = np.fft.rfftfreq(len(part), 1 / SAMPLE_RATE_HZ)
            formants_hz = (rng.uniform(280, 800), rng.uniform(900, 2300), rng.uniform(2400, 3200))
            gain = sum(1 / (1 + ((hz - formant_hz) / 90) ** 2) for formant_hz in formants_hz)
            sung = np.fft.irfft(np.fft.rfft(part) * gain, len(part)) * np.hanning(len(part))
            voice[start : start + len(part)] += sung * (rng.random() < 0.8)
        crowd += rng.uniform(0.4, 1.0) * voice / (_rms(voice) + 1e-9)
    return crowd


_MAKERS: dict[Background, _Maker] = {
    "rain": _rain,
    "wind": _wind,
    "an engine": _engine,
    "music": _music,
    "an alarm": _alarm,
    "birds": _birds,
    "a crowd": _crowd,
}
BACKGROUNDS: tuple[Background, ...] = tuple(_MAKERS)
