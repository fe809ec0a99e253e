"""Each kind of code has its own loss, and only what a network has is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sensorium.data.generators.pictures import patch_labels, scene, word_picture
from sensorium.model import attention
from sensorium.model.config import ModelConfig
from sensorium.tokenizers.audio import AudioTokenizer, AudioTokenizerConfig
from sensorium.tokenizers.image import ImageTokenizer, ImageTokenizerConfig
from sensorium.tokenizers.stream import OwnCodes, Stream, collate_inputs, collate_labels
from sensorium.tokenizers.vocab import Vocabulary
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
    SpectralDistance,
    StreamBatch,
    StreamObjective,
    drop_tail,
)
from sensorium.training.optim import network_groups
from sensorium.training.pipeline import can_compile
from tests.networks import random_network

TABLE = Vocabulary(text_tokens=320)


def drawing(config: ModelConfig) -> StreamBatch:
    rng = np.random.default_rng(0)
    stream = Stream()
    stream.add(1)
    for patch in range(8):
        codes = rng.integers(0, 256, 1 + config.num_image_residuals)
        position = stream.add(TABLE.image_start + int(codes[0]), weight=1.0)
        stream.patches.append((position, patch))
        if config.num_image_residuals:
            stream.patch_residuals.append((position, codes[1:]))
            stream.drawn.append(OwnCodes(position - 1, codes))
    return StreamBatch(collate_inputs([stream], config), collate_labels([stream], config))


def test_residual_codes_of_drawn_patches_are_learnt():
    network = random_network(TABLE, num_image_residuals=3)
    loss, parts = StreamObjective(network)(drawing(network.config))
    assert set(parts) == {"text", "audio", "image", "residual", "image_residual"}
    torch.testing.assert_close(loss, 0.5 * parts["image"] + 0.4 * parts["image_residual"])
    loss.backward()
    trained = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert "embed.patch_residual.weight" in trained
    assert {name for name, _ in network.named_parameters() if name.startswith("image_depth_head")} <= trained


def test_patches_of_one_code_have_no_residual_loss():
    network = random_network(TABLE)
    loss, parts = StreamObjective(network)(drawing(network.config))
    assert set(parts) == {"text", "audio", "image", "residual"}
    torch.testing.assert_close(loss, 0.5 * parts["image"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler raises a few about itself
def test_compiled_kernels_give_the_same_loss_and_gradients(monkeypatch: pytest.MonkeyPatch):
    if not can_compile("cpu"):
        pytest.skip("needs a C++ compiler and Python's headers")
    monkeypatch.setattr(attention, "kept", lambda x: x)  # the last of 24 bits may decide what is rounded to
    plain, compiled = (random_network(TABLE, num_image_residuals=3) for _ in range(2))
    compiled.load_state_dict(plain.state_dict())
    batch = drawing(plain.config)
    objectives = StreamObjective(plain, depth_share=1.0), StreamObjective(compiled, depth_share=1.0, compiled=True)
    losses = [objective(batch)[0] for objective in objectives]
    torch.testing.assert_close(*losses)
    for loss in losses:
        loss.backward()
    for (name, one), other in zip(plain.named_parameters(), compiled.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, msg=name)


def test_both_depth_heads_are_optimised_alike():
    rates = {"matrix_lr": 1.0, "embedding_lr": 2.0, "head_lr": 3.0, "scalar_lr": 4.0, "weight_decay": 0.0}
    network = random_network(TABLE, num_image_residuals=3)
    names = {parameter: name for name, parameter in network.named_parameters()}
    lr_of = {
        names[parameter]: group["lr"] for group in network_groups(network, **rates) for parameter in group["params"]
    }
    assert lr_of["embed.patch_residual.weight"] == lr_of["embed.residual.weight"]
    for name in ("hidden", "first.weight", "previous.weight", "up", "down", "logits"):
        assert lr_of[f"image_depth_head.{name}"] == lr_of[f"depth_head.{name}"]


def test_tails_are_dropped_in_whole_groups():
    torch.manual_seed(0)
    kept = drop_tail(torch.ones(200, 5, 4 + 3 * 2), first=4, group=2, num_groups=3)
    assert (kept == kept[:, :1]).all()  # a picture is dropped from as a whole
    lengths = kept[:, 0].sum(dim=1)
    assert set(lengths.tolist()) == {4.0, 6.0, 8.0, 10.0}
    assert 0.55 < (lengths == 10.0).float().mean() < 0.8
    values = torch.randn(2, 5, 4)
    assert drop_tail(values, first=4, group=2, num_groups=0) is values


@pytest.mark.parametrize("num_residuals", [0, 3])
def test_the_image_tokenizer_is_trained_whole_or_by_its_decoder(num_residuals: int):
    torch.manual_seed(0)
    config = ImageTokenizerConfig(channels=(8, 16), blocks=(1, 1), feature_size=32, num_residuals=num_residuals)
    module = ImageTokenizerModule(ImageTokenizer(config))
    shown = [scene(np.random.default_rng(seed), split="train") for seed in range(2)]
    labels = torch.from_numpy(np.stack([patch_labels(picture) for picture in shown]).astype(np.int64)).flatten(1, 2)
    pixels = torch.from_numpy(np.stack([picture.pixels for picture in shown]))
    loss, parts = ImageTokenizerObjective(module)(PictureBatch(pixels, labels))
    assert loss.isfinite()
    assert 0.0 <= parts["seen_right"] <= 1.0
    loss.backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    tokenizer = ImageTokenizer(config)
    codes = torch.randint(0, 256, (2, 64, 1 + num_residuals))
    loss, _ = ImageDecoderObjective(tokenizer)(DrawingBatch(pixels, codes))
    loss.backward()
    trained = {name for name, parameter in tokenizer.named_parameters() if parameter.grad is not None}
    assert trained == {name for name, _ in tokenizer.named_parameters() if name.startswith("decoder")}


def test_pictures_without_colour_words_have_a_finite_loss():
    module = ImageTokenizerModule(
        ImageTokenizer(ImageTokenizerConfig(channels=(8, 16), blocks=(1, 1), feature_size=32))
    )
    word = word_picture(np.random.default_rng(0), split="train")
    labels = torch.from_numpy(patch_labels(word)[None].astype(np.int64)).flatten(1, 2)
    loss, _ = ImageTokenizerObjective(module)(PictureBatch(torch.from_numpy(word.pixels[None]), labels))
    assert loss.isfinite()


@pytest.mark.parametrize("lookahead_frames", [0, 1])
def test_the_codec_is_trained_whole_or_by_its_decoder(lookahead_frames: int):
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"size": 32, "encoder_blocks": (1, 1), "decoder_blocks": (1, 1)}
    config = AudioTokenizerConfig(lookahead_frames=lookahead_frames, **sizes)
    module = AudioTokenizerModule(AudioTokenizer(config))
    waveform = torch.randn(2, 4 * config.frame_size)
    loss, _ = AudioTokenizerObjective(module)(ClipBatch(waveform, torch.randint(0, config.num_phonemes, (2, 4, 4))))
    loss.backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    tokenizer = AudioTokenizer(config)
    loss, _ = AudioDecoderObjective(tokenizer)(AnswerBatch(waveform, torch.randint(0, 256, (2, 4, 8))))
    loss.backward()
    trained = {name for name, parameter in tokenizer.named_parameters() if parameter.grad is not None}
    assert trained == {name for name, _ in tokenizer.named_parameters() if name.startswith("decoder")}


def test_decoded_sound_is_compared_with_what_it_belongs_to():
    """Whatever the decoder's lag: the original, that much later, is at no distance."""
    for lookahead_frames in (0, 1):
        config = AudioTokenizerConfig(lookahead_frames=lookahead_frames)
        original = torch.randn(1, 8 * config.frame_size, generator=torch.manual_seed(0))
        late = torch.cat((torch.zeros(1, config.decoder_lag), original), dim=1)[:, : original.shape[1]]
        distance = SpectralDistance(config)
        assert float(distance(late, original)) == 0.0
        assert float(distance(original, original)) > 1.0


def test_phonemes_are_taught_by_time_by_order_or_not_at_all():
    torch.manual_seed(0)
    config = AudioTokenizerConfig(size=32, encoder_blocks=(1, 1), decoder_blocks=(1, 1))
    module = AudioTokenizerModule(AudioTokenizer(config))
    phonemes = torch.tensor([0, 0, 5, 5, 5, 9, 0, 7]).expand(2, -1).unflatten(1, (2, 4))
    batch = ClipBatch(torch.randn(2, 2 * config.frame_size), phonemes)
    losses = {}
    for kind in ("timed", "ctc", "none"):
        _, parts = AudioTokenizerObjective(module, supervision=kind)(batch)
        losses[kind] = parts["phoneme"].item()
    assert losses["none"] == 0.0
    logits = torch.full((2, 2, 4, config.num_phonemes), -20.0).scatter(3, phonemes.unsqueeze(-1), 20.0)
    assert float(AudioTokenizerObjective(module, supervision="ctc")._phoneme(logits, phonemes)) < 1e-3
    assert min(losses["timed"], losses["ctc"]) > 1.0
