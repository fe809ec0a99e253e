"""What is left of sound once a checkpoint's codec has had it: intelligibility, quality and words, of recordings too.

    python -m recipes.codec --checkpoint sensorium/checkpoints/nano --out runs/codec

STOI and its extended form (Taal et al. 2011, Jensen and Taal 2016) run from 0 to 1, PESQ (ITU-T P.862.2, wide band)
from 1 to 4.64. Words are counted by the separately trained recogniser, which knows synthetic English only, styles told
by the separately trained listener; each beside what it makes of the original. Recorded sets are measured where
SENSORIUM_DATA names their folder, PESQ where its package is installed (`pip install -e '.[quality]'`, which needs a C
compiler). What comes out: codec.json, and a table in codec.md.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pystoi import stoi
from rich.progress import track

from recipes.evals import fingerprint, machine, round_trip
from recipes.samples import SEED
from sensorium.data.generators.dialogues import pick, sentence
from sensorium.data.generators.documents import document
from sensorium.data.generators.speech import PRESETS, Synthesizer
from sensorium.data.generators.styles import STYLES, Style, speak
from sensorium.data.generators.translations import ACCENTS, phrase
from sensorium.data.recorded import recorded_document
from sensorium.data.sources import Source
from sensorium.evals import judges
from sensorium.evals.judges import SpeechJudge, StyleJudge
from sensorium.evals.run import estimate
from sensorium.evals.scorers import Listener, Transcriber, word_error_rate
from sensorium.evals.task import Score
from sensorium.messages import Audio
from sensorium.tokenizers.release import Release

MEASURES = {
    "stoi": "STOI",
    "estoi": "extended STOI",
    "pesq": "PESQ",
    "original_wer": "WER, original",
    "wer": "WER, codec",
    "original_style": "style, original",
    "style": "style, codec",
}

Measured = dict[str, Score]  # by measure


class Clip(NamedTuple):
    """Sound to put through the codec, and what is known of it."""

    audio: Audio
    is_english: bool = False  # and synthetic: the recogniser has been taught such speech
    style: Style | None = None


def clips() -> dict[str, Iterator[Clip]]:
    """Clips that nothing was trained on, as many as are asked for, by the row they count in."""
    rows = {
        "the voices it speaks in": _presets(),
        "unseen voices in rooms": _heard(),
        **{f"style: {style}": _styled(style) for style in STYLES},
        "German, French, Spanish": _foreign(),
    }
    if "SENSORIUM_DATA" in os.environ:
        rows["recorded: Arabic words"] = _recorded("arabic-commands")
        rows["recorded: English digits"] = _recorded("digits_open-sa")
        rows["recorded: orders of coffee"] = _orders()
    return rows


def _presets() -> Iterator[Clip]:
    rng, synthesizer = np.random.default_rng((SEED, 41)), Synthesizer()
    while True:
        speaker = pick(rng, tuple(PRESETS.values()))
        yield Clip(synthesizer.speak(sentence(rng, "heldout"), speaker).audio, is_english=True)


def _heard() -> Iterator[Clip]:
    for seed in count():
        (clip,) = document("hear", seed, split="heldout", speaker_split="heldout").messages[-2].parts
        assert isinstance(clip, Audio)
        yield Clip(clip, is_english=True)


def _styled(style: Style) -> Iterator[Clip]:
    rng, synthesizer = np.random.default_rng((SEED, 42)), Synthesizer()
    while True:
        speaker = pick(rng, tuple(PRESETS.values()))
        yield Clip(speak(synthesizer, sentence(rng, "heldout"), speaker, style).audio, is_english=True, style=style)


def _foreign() -> Iterator[Clip]:
    rng, synthesizer = np.random.default_rng((SEED, 43)), Synthesizer()
    while True:
        language, accent = pick(rng, tuple(ACCENTS.items()))
        speaker = replace(pick(rng, tuple(PRESETS.values())), accent=accent)
        yield Clip(synthesizer.speak(phrase(rng, "heldout")[language], speaker).audio)


def _recorded(name: str) -> Iterator[Clip]:
    for record in Source.open(name).records(purpose="test"):
        assert isinstance(record.media, Audio)
        yield Clip(record.media)


def _orders() -> Iterator[Clip]:
    for seed in count():
        for part in recorded_document("real-order", seed, split="heldout").messages[-2].parts:
            if isinstance(part, Audio):
                yield Clip(part)


# --- what is measured


def intelligibility(original: Audio, decoded: Audio) -> Measured:
    """STOI and its extended form; nothing for a clip of which too little is louder than silence."""
    size = min(len(original.waveform), len(decoded.waveform))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            plain, extended = (
                stoi(original.waveform[:size], decoded.waveform[:size], original.sample_rate_hz, extended=kind)
                for kind in (False, True)
            )
        except RuntimeWarning:
            return {}
    return {"stoi": Score(float(plain)), "estoi": Score(float(extended))}


def quality(original: Audio, decoded: Audio) -> Measured:
    """PESQ, if it is installed; nothing for a clip in which it finds no utterance."""
    if find_spec("pesq") is None or not original.waveform.any():
        return {}
    from pesq import NoUtterancesError, pesq  # pyright: ignore[reportMissingImports] - it may be

    try:
        return {"pesq": Score(float(pesq(original.sample_rate_hz, original.waveform, decoded.waveform, "wb")))}
    except (NoUtterancesError, ValueError):  # too short
        return {}


def judged(clip: Clip, decoded: Audio, transcribe: Transcriber, manner: Listener) -> Measured:
    """Words and style, as the judges hear the original and what the codec left of it."""
    scores: Measured = {}
    for prefix, audio in (("original_", clip.audio), ("", decoded)):
        if clip.is_english:
            scores[f"{prefix}wer"] = word_error_rate(clip.audio.transcript or "", transcribe(audio))
        if clip.style is not None:
            scores[f"{prefix}style"] = Score(float(manner(audio) == clip.style))
    return scores


# --- a run


def main(checkpoint: Path, out: Path, n: int = 50, judge_folder: Path = judges.SHIPPED) -> dict[str, Any]:
    """Measures `n` clips of each row and writes the report. Raises ValueError for missing judges or sets."""
    torch.set_num_threads(1)
    through = round_trip(Release.load(checkpoint).audio_tokenizer)
    speech_judge, speech_record = judges.load(SpeechJudge, judge_folder / "speech")
    style_judge, style_record = judges.load(StyleJudge, judge_folder / "style")
    rows = measure(through, speech_judge.transcribe, style_judge.manner, n)
    about = {"weights": fingerprint(checkpoint), "n": n, "judges": {"speech": speech_record, "style": style_record}}
    report = {"run": {**about, "finished": int(time.time()), "machine": machine()}, "rows": rows}
    out.mkdir(parents=True, exist_ok=True)
    (out / "codec.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    (out / "codec.md").write_text(table(rows), "utf-8")
    print(table(rows))
    return report


def measure(
    through: Callable[[Audio], Audio], transcribe: Transcriber, manner: Listener, n: int
) -> dict[str, dict[str, Any]]:
    """The mean of each measure, with its standard error, over `n` clips of each row."""
    rows: dict[str, dict[str, Any]] = {}
    for row, source in clips().items():
        measured: list[Measured] = []
        for clip in track(islice(source, n), description=row, total=n):
            decoded = through(clip.audio)
            heard = judged(clip, decoded, transcribe, manner)
            measured.append(intelligibility(clip.audio, decoded) | quality(clip.audio, decoded) | heard)
        rows[row] = {"clips": len(measured)} | {
            name: estimate(scores)._asdict()
            for name in MEASURES
            if (scores := [scores[name] for scores in measured if name in scores])
        }
    return rows


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    lines = ["| sound | clips | " + " | ".join(MEASURES.values()) + " |", "|---" * (len(MEASURES) + 2) + "|"]
    for row, measured in rows.items():
        lines.append(
            f"| {row} | {measured['clips']} | " + " | ".join(_cell(name, measured) for name in MEASURES) + " |"
        )
    return "\n".join(lines) + "\n"


def _cell(name: str, measured: Mapping[str, Any]) -> str:
    if name not in measured:
        return ""
    mean, stderr = measured[name]["mean"], measured[name]["stderr"]
    in_percent = name.endswith(("wer", "style"))
    return f"{100 * mean:.0f} ± {100 * stderr:.0f} %" if in_percent else f"{mean:.2f} ± {stderr:.2f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n", type=int, default=50, help="clips of each row")
    parser.add_argument("--judges", type=Path, default=judges.SHIPPED)
    options = parser.parse_args()
    main(options.checkpoint, options.out, options.n, options.judges)
