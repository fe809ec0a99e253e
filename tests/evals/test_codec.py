"""`recipes/codec.py`: what is measured of sound that went through a codec."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from recipes import codec
from recipes.evals import round_trip
from sensorium.messages import Audio
from sensorium.tokenizers.release import Release
from tests.evals.scripted import transcribe

SHIPPED = Path(__file__).resolve().parents[2] / "sensorium" / "checkpoints" / "nano"
REAL_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def noisy(audio: Audio) -> Audio:
    noise = np.random.default_rng(0).normal(size=len(audio.waveform)).astype(np.float32)
    return replace(audio, waveform=audio.waveform + 0.3 * np.abs(audio.waveform).max() * noise)


def test_what_is_left_untouched_is_perfect_and_noise_is_not() -> None:
    clip = next(codec.clips()["the voices it speaks in"])
    untouched, spoiled = (codec.intelligibility(clip.audio, after) for after in (clip.audio, noisy(clip.audio)))
    assert untouched["stoi"].value == pytest.approx(1.0, abs=1e-6)
    assert spoiled["estoi"].value < spoiled["stoi"].value < 0.95
    silent = replace(clip.audio, waveform=np.zeros(4000, np.float32))
    assert codec.intelligibility(silent, silent) == {}, "nothing can be said of silence"


def test_pesq_where_it_is_installed() -> None:
    pytest.importorskip("pesq")
    clip = next(codec.clips()["the voices it speaks in"])
    best, worse = (codec.quality(clip.audio, after)["pesq"].value for after in (clip.audio, noisy(clip.audio)))
    assert best > 4.5
    assert worse < 2.5
    silent = replace(clip.audio, waveform=np.zeros(8000, np.float32))
    assert codec.quality(silent, silent) == {}


def test_a_round_trip_is_in_step_with_the_original() -> None:
    """A lag of 20 ms alone would take a third of the intelligibility."""
    through = round_trip(Release.load(SHIPPED).audio_tokenizer)
    clips = list(islice(codec.clips()["the voices it speaks in"], 3))
    scores = [codec.intelligibility(clip.audio, through(clip.audio))["stoi"].value for clip in clips]
    assert np.mean(scores) > 0.85


def test_every_row_is_measured_beside_its_originals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SENSORIUM_DATA", raising=False)
    rows = codec.measure(lambda audio: audio, transcribe, lambda audio: "whisper", 2)
    assert {row for row in rows if row.startswith("style")} == {f"style: {style}" for style in codec.STYLES}
    assert rows["style: whisper"]["original_style"]["mean"] == rows["style: whisper"]["style"]["mean"] == 1.0
    assert rows["style: shout"]["style"]["mean"] == 0.0
    assert rows["unseen voices in rooms"]["wer"] == rows["unseen voices in rooms"]["original_wer"]
    assert "wer" not in rows["German, French, Spanish"], "the recogniser knows English only"
    lines = codec.table(rows).splitlines()
    assert len(lines) == 2 + len(rows)
    assert len({line.count("|") for line in lines}) == 1


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="the folder of real data is not beside the project")
def test_recordings_are_measured_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENSORIUM_DATA", str(REAL_DATA))
    recorded = {row: next(source) for row, source in codec.clips().items() if row.startswith("recorded")}
    assert len(recorded) == 3
    for clip in recorded.values():
        assert codec.intelligibility(clip.audio, clip.audio)["stoi"].value == pytest.approx(1.0, abs=1e-6)
