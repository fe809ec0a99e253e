"""The stages that train the speech codec and the picture tokenizer: first whole, their decoders after the network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from sensorium.data import corpus
from sensorium.data.corpus import Clips
from sensorium.data.loader import Answers, Drawings, Pictures, clip_batch
from sensorium.tokenizers.audio import SUBFRAMES, AudioTokenizer
from sensorium.tokenizers.image import ImageTokenizer, deepened
from sensorium.tokenizers.release import Release
from sensorium.training import distributed
from sensorium.training.checkpoint import started
from sensorium.training.config import TrainConfig
from sensorium.training.critic import AdversarialObjective, Critic
from sensorium.training.loop import fit
from sensorium.training.objectives import (
    AnswerBatch,
    AudioDecoderObjective,
    AudioTokenizerModule,
    AudioTokenizerObjective,
    ClipBatch,
    DrawingBatch,
    ImageDecoderObjective,
    ImageTokenizerModule,
    ImageTokenizerObjective,
    PictureBatch,
    train_only,
)
from sensorium.training.optim import MuonAdamW, tokenizer_groups
from sensorium.training.recipe import Recipe
from sensorium.training.retelling import retell

Tokenizer = TypeVar("Tokenizer", bound=nn.Module)


def build_clips(recipe: Recipe, out: Path) -> list[Path]:
    return corpus.build(
        out / "clips", corpus.make_clips, num_shards=recipe.audio.num_shards, seed=recipe.seed, workers=recipe.workers
    )


def build_pictures(recipe: Recipe, out: Path) -> list[Path]:
    return corpus.build(
        out / "pictures",
        corpus.make_pictures(recipe.image.weights),
        num_shards=recipe.image.num_shards,
        seed=recipe.seed,
        workers=recipe.workers,
    )


def train_audio(recipe: Recipe, out: Path, *, device: str) -> AudioTokenizer:
    stage = recipe.audio
    torch.manual_seed(recipe.seed)
    module = AudioTokenizerModule(started(AudioTokenizer(stage.config), recipe.start, "audio.safetensors"))
    config = TrainConfig(num_steps=stage.num_steps, device=device, seed=recipe.seed)
    optimizer = MuonAdamW(tokenizer_groups(module, lr=stage.lr))
    batches = clip_batches(recipe, out, device=device)
    objective = AudioTokenizerObjective(module, supervision=stage.supervision)
    fit(objective, batches, optimizer, config, out / "audio", title="audio tokenizer")
    return _as_released(module.tokenizer)


def train_decoders(
    recipe: Recipe, out: Path, release: Release, documents: Sequence[Path], encoded: Sequence[Path], *, device: str
) -> None:
    """The tokenizers' decoders alone learn to sound and draw what the network says, in the codes that it chooses."""
    config = recipe.retelling
    documents, encoded = documents[: config.num_shards], encoded[: config.num_shards]
    places = {"rank": distributed.rank(), "num_ranks": distributed.num_ranks()}
    retold = retell(release, documents, encoded, out / "retold-train", config=config, device=device, **places)
    distributed.barrier()
    audio, image = release.audio_tokenizer, release.image_tokenizer
    answers = Answers(documents, encoded, retold, frame_size=audio.config.frame_size)
    train_audio_decoder(recipe, out, audio, answers, device=device)
    if recipe.image.decoder_steps:
        train_image_decoder(recipe, out, image, Drawings(documents, encoded, retold), device=device)


def train_audio_decoder(recipe: Recipe, out: Path, audio: AudioTokenizer, answers: Answers, *, device: str) -> None:
    stage = recipe.audio
    sizes = {"batch_size": stage.batch_size // distributed.num_ranks(), "frames": stage.crop_steps // SUBFRAMES}

    def batch(step: int) -> AnswerBatch:
        waveforms, codes = answers.batch(step, seed=recipe.seed, own_share=recipe.retelling.own_share, **sizes)
        return AnswerBatch(torch.from_numpy(waveforms).to(device), torch.from_numpy(codes).to(device))

    if stage.decoder_steps:
        config = TrainConfig(num_steps=stage.decoder_steps, device=device, seed=recipe.seed + 1)
        optimizer = MuonAdamW(tokenizer_groups(audio.decoder, lr=stage.decoder_lr, matrix_lr=stage.decoder_matrix_lr))
        fit(AudioDecoderObjective(audio), batch, optimizer, config, out / "audio-decoder", title="audio decoder")
    if stage.adversarial_steps:
        torch.manual_seed(recipe.seed)  # every rank begins with the same one
        critic = Critic()
        optimizer = MuonAdamW(
            [*tokenizer_groups(audio.decoder, lr=stage.adversarial_lr), *tokenizer_groups(critic, lr=stage.critic_lr)]
        )
        config = TrainConfig(num_steps=stage.adversarial_steps, device=device, seed=recipe.seed + 2)
        objective = AdversarialObjective(audio, critic)
        fit(objective, batch, optimizer, config, out / "audio-adversarial", title="audio critic")
    _as_released(audio)


def train_image_decoder(recipe: Recipe, out: Path, image: ImageTokenizer, drawings: Drawings, *, device: str) -> None:
    stage = recipe.image
    sizes = {"batch_size": stage.batch_size // distributed.num_ranks()}

    def batch(step: int) -> DrawingBatch:
        pixels, codes = drawings.batch(step, seed=recipe.seed, own_share=recipe.retelling.own_share, **sizes)
        return DrawingBatch(torch.from_numpy(pixels).to(device), torch.from_numpy(codes).to(device))

    config = TrainConfig(num_steps=stage.decoder_steps, device=device, seed=recipe.seed + 1)
    optimizer = MuonAdamW(tokenizer_groups(image.decoder, lr=stage.lr, matrix_lr=stage.matrix_lr))
    image.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - nine times the speed on a CPU
    fit(ImageDecoderObjective(image), batch, optimizer, config, out / "image-decoder", title="image decoder")
    _as_released(image)


def clip_batches(recipe: Recipe, out: Path, *, device: str) -> Callable[[int], ClipBatch]:
    """What the codec learns from at a step: crops of the run's clips."""
    stage = recipe.audio
    clips = Clips(build_clips(recipe, out))
    sizes = {"batch_size": stage.batch_size // distributed.num_ranks(), "steps": stage.crop_steps}

    def batch(step: int) -> ClipBatch:
        waveforms, phonemes = clip_batch(clips, step, seed=recipe.seed, **sizes)
        labels = torch.from_numpy(phonemes).unflatten(1, (-1, 4))
        return ClipBatch(torch.from_numpy(waveforms).to(device), labels.to(device))

    return batch


def train_image(recipe: Recipe, out: Path, *, device: str) -> ImageTokenizer:
    stage = recipe.image
    torch.manual_seed(recipe.seed)
    module = ImageTokenizerModule(started(ImageTokenizer(stage.config), recipe.start, "image.safetensors"))
    module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - nine times the speed on a CPU
    config = TrainConfig(num_steps=stage.num_steps, device=device, seed=recipe.seed)
    optimizer = MuonAdamW(tokenizer_groups(module, lr=stage.lr, matrix_lr=stage.matrix_lr))
    batches = _picture_batches(recipe, out, device=device)
    fit(ImageTokenizerObjective(module), batches, optimizer, config, out / "image", title="image tokenizer")
    return _as_released(module.tokenizer)


def sharpen_image(recipe: Recipe, out: Path, given: ImageTokenizer, *, device: str) -> ImageTokenizer:
    """A tokenizer whose codes the network knows learns to see better: its features change, its codes hardly.

    The heads that ask for labels are not part of a release: new ones learn first, alone.
    """
    stage = recipe.image
    torch.manual_seed(recipe.seed)
    module = ImageTokenizerModule(deepened(given, stage.config.blocks))
    module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - nine times the speed on a CPU
    train_only(given)
    batches, objective = _picture_batches(recipe, out, device=device), ImageTokenizerObjective(module, given=given)
    for name, trained, num_steps, lr, matrix_lr in (
        ("image-heads", (module.seen, module.code, module.detail), stage.sharpen_steps // 16, stage.lr, 0.0),
        ("image-sharpened", (module,), stage.sharpen_steps, stage.sharpen_lr, stage.sharpen_matrix_lr),
    ):
        train_only(module, *trained)
        config = TrainConfig(num_steps=num_steps, device=device, seed=recipe.seed)
        optimizer = MuonAdamW(tokenizer_groups(module, lr=lr, matrix_lr=matrix_lr))
        fit(objective, batches, optimizer, config, out / name, title=name.replace("-", " "))
    return _as_released(module.tokenizer)


def _picture_batches(recipe: Recipe, out: Path, *, device: str) -> Callable[[int], PictureBatch]:
    images = Pictures(build_pictures(recipe, out))
    batch_size = recipe.image.batch_size // distributed.num_ranks()

    def batch(step: int) -> PictureBatch:
        pixels, labels = images.batch(step, seed=recipe.seed, batch_size=batch_size)
        patches = torch.from_numpy(labels.astype(np.int64)).flatten(1, 2)  # (B, P, L, 3)
        return PictureBatch(torch.from_numpy(pixels).to(device), patches.to(device))

    return batch


def _as_released(module: Tokenizer) -> Tokenizer:
    """Matrices rounded to bfloat16, as a release stores them: the network must learn the codes that users will get."""
    for parameter in module.parameters():
        if parameter.ndim >= 2:
            parameter.data = parameter.data.to(torch.bfloat16).float()
    return module.eval()
