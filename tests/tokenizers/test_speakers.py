from __future__ import annotations

from pathlib import Path

import numpy as np

from sensorium.tokenizers.speakers import SpeakerSpace, mean_voice


def made(rng: np.random.Generator, speakers: int) -> tuple[np.ndarray, np.ndarray]:
    """Voices of 16 figures: three tell who speaks, the others, much larger, what is said."""
    whose = np.repeat(np.arange(speakers), 6)
    voices = np.concatenate(
        (
            rng.standard_normal((speakers, 3))[whose] + 0.1 * rng.standard_normal((len(whose), 3)),
            10 * rng.standard_normal((len(whose), 13)),
        ),
        axis=1,
    )
    return voices, whose


def test_what_tells_speakers_apart_is_found_and_kept(tmp_path: Path):
    rng = np.random.default_rng(1)
    SpeakerSpace.fit(*made(rng, 60), size=3).save(tmp_path / "speakers.safetensors")
    space = SpeakerSpace.load(tmp_path / "speakers.safetensors")
    voices, whose = made(rng, 40)  # others
    assert share_of_own(voices, whose) < 0.2
    assert share_of_own(np.stack([space.voice(voice) for voice in voices]), whose) > 0.6


def share_of_own(voices: np.ndarray, whose: np.ndarray) -> float:
    """How often the nearest other voice, by its angle, is of the same speaker."""
    unit = voices / np.linalg.norm(voices, axis=1, keepdims=True)
    nearest = np.argsort(-(unit @ unit.T), axis=1)[:, 1]
    return float((whose[nearest] == whose).mean())


def test_quiet_frames_say_nothing_of_a_voice():
    features = np.array([[1.0], [5.0], [1.0]])
    waveform = np.concatenate((np.full(100, 0.5), np.full(100, 0.01), np.full(90, 0.4)))
    assert mean_voice(features, waveform) == 1.0
