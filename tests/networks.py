"""Small random networks: every weight is drawn, so that what they answer depends on all of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from sensorium.engine.request import AudioDelta, End, Event, ImageDelta, TextDelta
from sensorium.model.config import from_depth
from sensorium.model.transformer import Transformer
from sensorium.tokenizers.audio import AudioTokenizerConfig
from sensorium.tokenizers.image import ImageTokenizerConfig
from sensorium.tokenizers.release import Release, ReleaseConfig
from sensorium.tokenizers.text import TextTokenizer
from sensorium.tokenizers.vocab import Vocabulary

SENTENCES = ["what is two plus three", "draw a red circle", "the time is ten", "turn on the light, please"]


def random_network(vocabulary: Vocabulary, **changes: Any) -> Transformer:
    """Two layers, 128 wide, 512 positions. `changes` go into the configuration."""
    torch.manual_seed(0)
    config = from_depth(
        2,
        vocab_size=vocabulary.size,
        audio_start=vocabulary.audio_start,
        image_start=vocabulary.image_start,
        **({"max_seq_len": 512, "hidden_size": 128, "num_heads": 2} | changes),
    )
    model = Transformer(config).eval()
    randomise(model)
    return model


def random_release(*, num_image_residuals: int = 0, lookahead_frames: int = 0) -> Release:
    vocabulary = Vocabulary(text_tokens=320)
    model = random_network(vocabulary, num_image_residuals=num_image_residuals)
    text = TextTokenizer.train(SENTENCES * 4, num_tokens=300)
    image = ImageTokenizerConfig(num_residuals=num_image_residuals)
    audio = AudioTokenizerConfig(lookahead_frames=lookahead_frames)
    config = ReleaseConfig(name="sensorium-random", vocabulary=vocabulary, model=model.config, audio=audio, image=image)
    release = Release.create(config, text)
    release.model.load_state_dict(model.state_dict())
    return release


@torch.no_grad()
def randomise(model: nn.Module) -> None:
    """A fresh network's output projections are zero: draw every weight instead, or tests would see little of it.

    Matrices are rounded to bfloat16, as releases hold them.
    """
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            parameter.normal_(mean=1.0, std=0.2)
        else:
            is_table = name.startswith("embed.") or "embedding" in name or ".first." in name or ".previous." in name
            parameter.normal_(std=1.0 if is_table else parameter.shape[-1] ** -0.5)
            parameter.copy_(parameter.bfloat16())


def values(events: Iterable[Event]) -> list[Any]:
    """Events as values that compare, whatever else the engine did meanwhile: text is joined, for it comes in pieces of
    any length, and what of a prompt other streams had computed is left out."""
    joined: list[Event] = []
    for event in events:
        if isinstance(event, TextDelta) and joined and isinstance(last := joined[-1], TextDelta):
            joined[-1] = last.joined(event)
        else:
            joined.append(event)
    return [_value(event) for event in joined]


def _value(event: Event) -> Any:
    match event:
        case AudioDelta():
            return event.waveform.tolist()
        case ImageDelta():
            return event.pixels.tolist()
        case End():
            return replace(event, usage=replace(event.usage, cached=0, cached_audio=0, cached_image=0))
    return event
