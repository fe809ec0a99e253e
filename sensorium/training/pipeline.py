"""From an empty folder to a talking network, stage by stage. Each stage is skipped when its result lies there.

    corpora     speech clips, pictures, documents (sensorium.data.corpus)
    text        byte-level BPE
    audio       the codec            } trained by the one loop
    image       the tile tokenizer   }
    encode      documents' media through the tokenizers, once
    network     the transformer, by the same loop
    release     a folder that the engine loads
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from sensorium.data import corpus
from sensorium.data.corpus import Clips
from sensorium.data.loader import Pictures, clip_batch
from sensorium.training.config import TrainConfig
from sensorium.training.loop import fit
from sensorium.training.objectives import (
    AudioTokenizerModule,
    AudioTokenizerObjective,
    ClipBatch,
    ImageTokenizerModule,
    ImageTokenizerObjective,
)
from sensorium.training.optim import MuonAdamW, tokenizer_groups
from sensorium.tokenizers.audio import AudioTokenizer, AudioTokenizerConfig
from sensorium.tokenizers.image import ImageTokenizer, ImageTokenizerConfig


@dataclass(frozen=True, kw_only=True)
class AudioStage:
    config: AudioTokenizerConfig = field(default_factory=AudioTokenizerConfig)
    num_shards: int = 16
    num_steps: int = 4000
    batch_size: int = 16
    crop_steps: int = 96  # x 20 ms
    lr: float = 2e-3


@dataclass(frozen=True, kw_only=True)
class ImageStage:
    config: ImageTokenizerConfig = field(default_factory=ImageTokenizerConfig)
    num_shards: int = 10
    num_steps: int = 1500
    batch_size: int = 32
    lr: float = 1.5e-3


def train_audio(stage: AudioStage, out: Path, *, seed: int, device: str) -> AudioTokenizer:
    shards = corpus.build(out / "clips", corpus.make_clips, num_shards=stage.num_shards, seed=seed)
    clips = Clips(shards)
    module = AudioTokenizerModule(AudioTokenizer(stage.config))

    def batch(step: int) -> ClipBatch:
        waveforms, phonemes = clip_batch(
            clips, step, seed=seed, batch_size=stage.batch_size, steps=stage.crop_steps
        )
        return ClipBatch(
            torch.from_numpy(waveforms).to(device), torch.from_numpy(phonemes).unflatten(1, (-1, 4)).to(device)
        )

    config = TrainConfig(num_steps=stage.num_steps, device=device, seed=seed)
    optimizer = MuonAdamW(tokenizer_groups(module, lr=stage.lr))
    fit(AudioTokenizerObjective(module), batch, optimizer, config, out / "audio", title="audio tokenizer")
    return module.tokenizer


def train_image(stage: ImageStage, out: Path, *, seed: int, device: str) -> ImageTokenizer:
    shards = corpus.build(out / "pictures", corpus.make_pictures, num_shards=stage.num_shards, seed=seed)
    images = Pictures(shards)
    module = ImageTokenizerModule(ImageTokenizer(stage.config)).to(memory_format=torch.channels_last)  # x9 on a CPU in bf16
    draw = partial(images.batch, seed=seed, batch_size=stage.batch_size)
    config = TrainConfig(num_steps=stage.num_steps, device=device, seed=seed)
    optimizer = MuonAdamW(tokenizer_groups(module, lr=stage.lr))
    fit(
        ImageTokenizerObjective(module),
        lambda step: torch.from_numpy(draw(step)).to(device),
        optimizer,
        config,
        out / "image",
        title="image tokenizer",
    )
    return module.tokenizer
