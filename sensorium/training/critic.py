"""A critic of sound: what it can still tell from the original, the codec's decoder goes on learning.

Spectra average over what is uncertain, and averages sound dull. The critic is a network that sees the complex spectrum
at three resolutions and learns, beside the decoder, which sound is real (the discriminators of EnCodec, Defossez et al.
2022, arXiv 2210.13438). It is thrown away afterwards.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from sensorium.tokenizers.audio import AudioTokenizer
from sensorium.training.objectives import AnswerBatch, AudioDecoderObjective

SIZES = (256, 512, 1024)  # samples of a spectrum
CRITIC_WEIGHT, MATCH_WEIGHT = 0.3, 1.0  # beside the decoder's own losses


class Verdict(NamedTuple):
    """Of one resolution."""

    logits: Tensor  # (B, 1, T, F): above 0 for real
    features: list[Tensor]  # of every layer


class SpectrumCritic(nn.Module):
    """Convolutions over time and frequency; each halves the frequencies."""

    window: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("window", torch.hann_window(size), persistent=False)
        kernel, padding = (3, 9), (1, 4)
        layers = [nn.Conv2d(2, width, kernel, padding=padding)]
        layers += [nn.Conv2d(width, width, kernel, stride=(1, 2), padding=padding) for _ in range(3)]
        self.layers = nn.ModuleList(weight_norm(layer) for layer in layers)
        self.output = weight_norm(nn.Conv2d(width, 1, (3, 3), padding=(1, 1)))

    def forward(self, waveform: Tensor) -> Verdict:
        """(B, N)"""
        spectrum = torch.stft(
            waveform.float(), self.size, self.size // 4, window=self.window, return_complex=True, center=False
        )
        x = torch.view_as_real(spectrum / self.window.sum() * 32).permute(0, 3, 2, 1)  # (B, 2, T, F)
        features: list[Tensor] = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return Verdict(self.output(x), features)


class Critic(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.critics = nn.ModuleList(SpectrumCritic(size, width) for size in SIZES)

    def forward(self, waveform: Tensor) -> list[Verdict]:
        return [critic(waveform) for critic in self.critics]


class AdversarialObjective:
    """The decoder against a critic, in one backward pass: the decoder's loss sees the critic's weights as constants,
    the critic's loss sees the sound as one. The encoder, and with it every code, stays as it is."""

    def __init__(self, tokenizer: AudioTokenizer, critic: Critic) -> None:
        self._decoder = AudioDecoderObjective(tokenizer)
        self._lag = tokenizer.config.decoder_lag
        self.critic = critic
        self.module = nn.ModuleDict({"tokenizer": tokenizer, "critic": critic})

    def __call__(self, batch: AnswerBatch) -> tuple[Tensor, dict[str, Tensor]]:
        decoded = self._decoder.decode(batch)
        loss, parts = self._decoder.compare(decoded, batch)
        made, real = decoded[:, self._lag :], batch.waveform[:, : batch.waveform.shape[1] - self._lag]
        judged_real = self.critic(real)
        weights = {name: tensor.detach() for name, tensor in self.critic.named_parameters()}
        judged_made: list[Verdict] = functional_call(self.critic, weights, (made,))
        parts["deceit"] = _mean([F.relu(1.0 - verdict.logits).mean() for verdict in judged_made])
        parts["match"] = _match(judged_made, judged_real)
        judged = self.critic(made.detach())
        parts["critic"] = _mean(
            [
                F.relu(1.0 - true.logits).mean() + F.relu(1.0 + false.logits).mean()
                for true, false in zip(judged_real, judged, strict=True)
            ]
        )
        return loss + CRITIC_WEIGHT * parts["deceit"] + MATCH_WEIGHT * parts["match"] + parts["critic"], parts

    def num_items(self, batch: AnswerBatch) -> int:
        return batch.waveform.numel()


def _match(made: list[Verdict], real: list[Verdict]) -> Tensor:
    """How far what the critic finds in the sound is from what it finds in the original, relative to the latter."""
    distances = [
        (ours - theirs.detach()).abs().mean() / theirs.detach().abs().mean().clamp_min(1e-4)
        for one, other in zip(made, real, strict=True)
        for ours, theirs in zip(one.features, other.features, strict=True)
    ]
    return _mean(distances)


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean()
