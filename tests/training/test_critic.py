"""The critic of sound and the decoder against it."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from sensorium.tokenizers.audio import AudioTokenizer, AudioTokenizerConfig
from sensorium.training.critic import AdversarialObjective, Critic
from sensorium.training.objectives import AnswerBatch
from sensorium.training.optim import MuonAdamW, tokenizer_groups

CONFIG = AudioTokenizerConfig(size=16, encoder_blocks=(1, 1), decoder_blocks=(1, 1))


def batch(tokenizer: AudioTokenizer) -> AnswerBatch:
    times_s = torch.arange(8 * 1280) / 16_000
    waveform = torch.stack([0.3 * torch.sin(2 * torch.pi * hz * times_s) for hz in (220.0, 331.0)])
    frames, _ = tokenizer.encode(waveform)
    return AnswerBatch(waveform, frames.codes)


def objective() -> AdversarialObjective:
    torch.manual_seed(0)
    return AdversarialObjective(AudioTokenizer(CONFIG), Critic(width=4))


def test_each_side_learns_from_its_own_loss():
    made = objective()
    given = batch(made.module["tokenizer"])  # pyright: ignore[reportArgumentType]
    sides = (("critic", "critic.critics.", "tokenizer."), ("deceit", "tokenizer.decoder.", "critic."))
    for part, learns, rests in sides:
        made.module.zero_grad()
        num_learned = 0
        _, parts = made(given)
        parts[part].backward()
        for name, parameter in made.module.named_parameters():
            touched = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
            if name.startswith(rests):
                assert not touched, name
            elif name.startswith(learns) and not name.endswith(("scale", "output.bias")):  # both halves cancel in it
                num_learned += touched
                assert touched, name
        assert num_learned > 10
    assert not any(p.requires_grad for p in made.module["tokenizer"].encoder.parameters())  # pyright: ignore


def test_a_critic_learns_to_tell_sound_from_noise():
    torch.manual_seed(0)
    critic = Critic(width=4)
    optimizer = MuonAdamW(tokenizer_groups(critic, lr=3e-3))
    generator = torch.Generator().manual_seed(1)
    losses: list[float] = []
    for _ in range(60):
        hz = 200 + 300 * torch.rand(4, 1, generator=generator)
        real = 0.3 * torch.sin(2 * torch.pi * hz * torch.arange(4096) / 16_000)
        noise = 0.2 * torch.randn(4, 4096, generator=generator)
        loss = torch.stack(
            [
                F.relu(1.0 - one.logits).mean() + F.relu(1.0 + other.logits).mean()
                for one, other in zip(critic(real), critic(noise), strict=True)
            ]
        ).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[0] > 1.5
    assert sum(losses[-5:]) / 5 < 0.6


def test_codes_stay_while_the_sound_changes():
    made = objective()
    tokenizer = made.module["tokenizer"]
    assert isinstance(tokenizer, AudioTokenizer)
    given = batch(tokenizer)
    groups = [*tokenizer_groups(tokenizer.decoder, lr=1e-3), *tokenizer_groups(made.critic, lr=1e-3)]
    optimizer = MuonAdamW(groups)
    before, _ = tokenizer.decode(given.codes)
    losses: list[float] = []
    for _ in range(8):
        loss, parts = made(given)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(parts["spectral"].item())
    assert losses[-1] < losses[0]
    after, _ = tokenizer.decode(given.codes)
    assert not torch.allclose(before, after)
    assert torch.equal(batch(tokenizer).codes, given.codes)
