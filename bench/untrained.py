"""Releases with random weights: as slow or fast as trained ones of their size, and made in a second."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import torch

from sensorium.model.config import PRESET_DEPTHS, from_depth
from sensorium.tokenizers.release import Release, ReleaseConfig
from sensorium.tokenizers.text import TextTokenizer
from sensorium.tokenizers.vocab import Vocabulary

TEXT_TOKENS = {"nano": 2048, "tiny": 4096}


def untrained(preset: str) -> Release:
    torch.manual_seed(0)
    vocabulary = Vocabulary(text_tokens=TEXT_TOKENS[preset])
    model = from_depth(
        PRESET_DEPTHS[preset],
        vocab_size=vocabulary.size,
        audio_start=vocabulary.audio_start,
        image_start=vocabulary.image_start,
    )
    config = ReleaseConfig(name=f"sensorium-{preset}", vocabulary=vocabulary, model=model)
    release = Release.create(config, TextTokenizer.train(_words(), num_tokens=vocabulary.text_tokens))
    with torch.no_grad():  # a fresh network's blocks are the identity: let every one of them do something
        for parameter in release.model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        # Willing to sound once the first words are written: else every spoken answer would open with a lot of text.
        audio = slice(vocabulary.audio_start, vocabulary.image_start)
        release.model.symbol_head.projection.weight[audio] *= 8.0
    return release


def in_8_bits(release: Release) -> Release:
    """As it is shipped."""
    with tempfile.TemporaryDirectory() as folder:
        release.save(Path(folder), int8=True)
        return Release.load(Path(folder))


def _words() -> list[str]:
    """Pronounceable ones: enough of them for any vocabulary."""
    rng = random.Random(0)
    syllables = [a + b + c for a in "bdfgklmnprst" for b in "aeiou" for c in ("", "n", "r", "s")]
    return [" ".join("".join(rng.choices(syllables, k=rng.randint(1, 3))) for _ in range(12)) for _ in range(4000)]
