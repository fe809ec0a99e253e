"""A small random release: every weight is drawn, so that its answers depend on all of it."""

from __future__ import annotations

import pytest
import torch

from sensorium.model.config import from_depth
from sensorium.model.transformer import Transformer
from sensorium.tokenizers.release import Release, ReleaseConfig
from sensorium.tokenizers.text import TextTokenizer
from sensorium.tokenizers.vocab import Vocabulary

WORDS = ["what is two plus three", "draw a red circle", "the time is ten", "turn on the light, please"]


@pytest.fixture(scope="session")
def release() -> Release:
    return random_release()


def random_release(**changes: object) -> Release:
    """`changes` go into the network's configuration."""
    torch.manual_seed(0)
    text = TextTokenizer.train(WORDS * 4, num_tokens=300)
    vocabulary = Vocabulary(text_tokens=320)
    model = from_depth(
        2,
        vocab_size=vocabulary.size,
        audio_start=vocabulary.audio_start,
        image_start=vocabulary.image_start,
        **({"max_seq_len": 512, "hidden_size": 128, "num_heads": 2} | changes),
    )
    release = Release.create(ReleaseConfig(name="sensorium-random", vocabulary=vocabulary, model=model), text)
    randomise(release.model)
    return release


@torch.no_grad()
def randomise(model: Transformer) -> None:
    """A fresh network's output projections are zero: draw every weight instead, or tests would see little of it."""
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            parameter.normal_(mean=1.0, std=0.2)
        else:
            is_table = "embed" in name or name.startswith(("depth_head.first", "depth_head.previous"))
            parameter.normal_(std=1.0 if is_table else parameter.shape[-1] ** -0.5)
