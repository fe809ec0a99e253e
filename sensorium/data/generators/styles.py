"""Ways of saying a sentence: fast, slow, calm, whispered, shouted.

Rate and pitch are the synthesiser's own. A whisper has the formants of the voice and no pitch at all; a shout is
higher, brighter and pressed. Words and phonemes keep their times.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Literal, TypeAlias

import numpy as np

from sensorium.data.generators.speech import Speaker, Synthesizer, Utterance

Style: TypeAlias = Literal["fast", "slow", "calm", "whisper", "shout"]
STYLES: tuple[Style, ...] = ("fast", "slow", "calm", "whisper", "shout")

_FRAME, _HOP, _ORDER = 512, 128, 18  # samples at 16 kHz: 32 ms every 8 ms; formants of two poles each, and a tilt
_LOUD_RMS, _SOFT_RMS = 0.14, 0.035


def speak(synthesizer: Synthesizer, text: str, speaker: Speaker, style: Style) -> Utterance:
    """As `Synthesizer.speak`, in a style. Raises ValueError as that does, and for an unknown style."""
    if style not in STYLES:
        raise ValueError(f"unknown style {style!r}; there are {', '.join(STYLES)}")
    utterance = synthesizer.speak(text, _manner(speaker, style))
    waveform = utterance.audio.waveform
    if style == "whisper":
        waveform = _at_level(_whispered(waveform, seed=zlib.crc32(text.encode())), _SOFT_RMS)
    elif style == "shout":
        waveform = _at_level(_pressed(waveform), _LOUD_RMS)
    elif style == "calm":
        waveform = _at_level(waveform, _SOFT_RMS)
    return replace(utterance, audio=replace(utterance.audio, waveform=waveform, voice=speaker.name))


def _manner(speaker: Speaker, style: Style) -> Speaker:
    match style:
        case "fast":
            return replace(speaker, rate_wpm=int(1.6 * speaker.rate_wpm))
        case "slow":
            return replace(speaker, rate_wpm=max(80, int(0.6 * speaker.rate_wpm)))
        case "calm":
            calm = {"pitch": max(0, speaker.pitch - 20), "pitch_range": max(0, speaker.pitch_range - 40)}
            return replace(speaker, rate_wpm=int(0.85 * speaker.rate_wpm), **calm)
        case "shout":
            return replace(speaker, pitch=min(99, speaker.pitch + 35), pitch_range=min(99, speaker.pitch_range + 30))
        case "whisper":
            return replace(speaker, rate_wpm=int(0.9 * speaker.rate_wpm))


def _whispered(waveform: np.ndarray, *, seed: int) -> np.ndarray:
    """Noise through the waveform's own formants: an all-pole envelope of each frame (linear prediction)."""
    window = np.hanning(_FRAME).astype(np.float32)
    padded = np.pad(waveform, (_FRAME, _FRAME))
    starts = np.arange(0, len(padded) - _FRAME, _HOP)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FRAME)[starts] * window  # (F, N)
    power = np.abs(np.fft.rfft(frames, 2 * _FRAME)) ** 2
    correlation = np.fft.irfft(power)[:, : _ORDER + 1]  # (F, P + 1)
    correlation[:, 0] = correlation[:, 0] * 1.0001 + 1e-9
    lags = np.abs(np.subtract.outer(np.arange(_ORDER), np.arange(_ORDER)))
    poles = -np.linalg.solve(correlation[:, lags], correlation[:, 1:, None])[..., 0]  # (F, P)
    error = np.maximum(correlation[:, 0] + (poles * correlation[:, 1:]).sum(axis=1), 0.0)
    inverse = np.fft.rfft(np.concatenate([np.ones((len(poles), 1)), poles], axis=1), _FRAME)
    envelope = np.sqrt(error)[:, None] / np.abs(inverse)
    noise = np.random.default_rng(seed).standard_normal(len(padded)).astype(np.float32)
    breath = np.fft.rfft(np.lib.stride_tricks.sliding_window_view(noise, _FRAME)[starts] * window)
    voiced = np.fft.irfft(breath * envelope) * window
    whispered = np.zeros(len(padded))
    for start, frame in zip(starts, voiced, strict=True):
        whispered[start : start + _FRAME] += frame
    return whispered[_FRAME : _FRAME + len(waveform)].astype(np.float32)


def _pressed(waveform: np.ndarray) -> np.ndarray:
    """The upper half of the spectrum lifted, and the peaks pressed together, as a strained voice does."""
    bright = waveform + 1.5 * np.diff(waveform, prepend=waveform[:1])
    return np.tanh(bright * (1.5 / float(np.sqrt(np.mean(bright**2))))).astype(np.float32)


def _at_level(waveform: np.ndarray, rms: float) -> np.ndarray:
    gain = rms / float(np.sqrt(np.mean(waveform**2)) + 1e-12)
    return (waveform * min(gain, 0.95 / float(np.abs(waveform).max() + 1e-12))).astype(np.float32)
