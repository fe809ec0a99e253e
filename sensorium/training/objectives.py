"""What each network minimises. The stream's losses are per-modality means, so that a modality's share of the
positions does not decide its share of the gradient."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.model.embed import StreamInputs
from sensorium.model.heads import DepthHead, DepthTransformer
from sensorium.model.transformer import Transformer
from sensorium.tokenizers.audio import AudioTokenizer
from sensorium.tokenizers.conv import ConvStack
from sensorium.tokenizers.image import ImageTokenizer
from sensorium.tokenizers.stream import StreamLabels

RESIDUAL_WEIGHTS = (12.0, 8.0, 6.0, 4.0, 2.0, 2.0, 1.0)  # coarse codes matter more (MiMo-Audio's ratios)


class StreamBatch(NamedTuple):
    inputs: StreamInputs
    labels: StreamLabels


class StreamObjective:
    """L = 1 text + 0.5 q0 + 0.25 residuals + 0.35 image (+ 0.25 its residuals): weighted means over their positions."""

    def __init__(self, model: Transformer, *, depth_share: float = 0.5) -> None:
        self.module = model
        self.depth_share = depth_share  # of the spoken frames and of the drawn patches, how many train a depth head

    def __call__(self, batch: StreamBatch) -> tuple[Tensor, dict[str, Tensor]]:
        config, labels = self.module.config, batch.labels
        hidden = self.module(batch.inputs).flatten(0, 1)  # (B*T, C)
        targets, weights = labels.targets.flatten(), labels.weights.flatten()
        asked = (targets >= 0).nonzero().squeeze(-1)
        targets, weights = targets[asked], weights[asked]
        loss = F.cross_entropy(self.module.symbol_head(hidden[asked]), targets, reduction="none") * weights
        is_image = targets >= config.image_start
        is_audio = (targets >= config.audio_start) & ~is_image
        parts = {
            name: loss[rows].sum() / weights[rows].sum().clamp_min(1.0)
            for name, rows in (("text", ~(is_audio | is_image)), ("audio", is_audio), ("image", is_image))
        }
        parts["residual"] = self._residual(self.module.depth_head, hidden, labels.spoken_at, labels.spoken)
        total = parts["text"] + 0.5 * parts["audio"] + 0.25 * parts["residual"] + 0.35 * parts["image"]
        if self.module.image_depth_head is not None:
            head = self.module.image_depth_head
            parts["image_residual"] = self._residual(head, hidden, labels.drawn_at, labels.drawn)
            total = total + 0.25 * parts["image_residual"]
        return total, parts

    def _residual(self, head: DepthHead | DepthTransformer, hidden: Tensor, at: Tensor, codes: Tensor) -> Tensor:
        """hidden: (B*T, C), at: (Q,) the positions that predict codes (Q, 1 + R)."""
        if len(at) == 0:
            return hidden.new_zeros(())
        kept = torch.randperm(len(at), device=hidden.device)[: max(1, int(len(at) * self.depth_share))]
        codes = codes[kept]
        logits = head(hidden[at[kept]], codes)  # (N, R, residual_size)
        loss = F.cross_entropy(logits.flatten(0, 1), codes[:, 1:].flatten(), reduction="none").view(len(kept), -1)
        scale = loss.new_tensor(RESIDUAL_WEIGHTS[: loss.shape[1]])
        return (loss.mean(dim=0) * scale).sum() / scale.sum()

    def num_items(self, batch: StreamBatch) -> int:
        return int((batch.inputs.ids != 0).sum())


class ClipBatch(NamedTuple):
    waveform: Tensor  # (B, N) whole frames
    phonemes: Tensor  # (B, F, 4) int64 at 50 Hz, -100 where unknown


class PhonemeHead(nn.Module):
    """Reads phonemes from the semantic codes alone: what makes q0 worth predicting from text."""

    def __init__(self, *, code_size: int, num_phonemes: int, size: int = 128) -> None:
        super().__init__()
        self.input = nn.Linear(code_size, size)
        self.stack = ConvStack(size, blocks=2, width=3)
        self.output = nn.Linear(size, 4 * num_phonemes)

    def forward(self, values: Tensor) -> Tensor:
        """(B, F, code_size) -> logits (B, F, 4, num_phonemes)."""
        x, _ = self.stack(self.input(values), None)
        return self.output(x).unflatten(-1, (4, -1))


def drop_tail(values: Tensor, *, first: int, group: int, num_groups: int) -> Tensor:
    """For a third of the batch, zeros the residual groups from a random one on: orders them coarse to fine.

    values: (B, N, first + num_groups * group)
    """
    if not num_groups:
        return values
    batch = values.shape[0]
    kept = torch.randint(0, num_groups, (batch,))
    kept = torch.where(torch.rand(batch) < 0.33, kept, num_groups)
    limit = (first + kept * group).to(values.device)
    mask = torch.arange(values.shape[-1], device=values.device) < limit.unsqueeze(1)  # (B, V)
    return values * mask.unsqueeze(1)


class AudioTokenizerModule(nn.Module):
    """The codec and the heads that only training needs."""

    def __init__(self, tokenizer: AudioTokenizer) -> None:
        super().__init__()
        config = tokenizer.config
        self.tokenizer = tokenizer
        self.phonemes = PhonemeHead(code_size=len(config.semantic_levels), num_phonemes=config.num_phonemes)
        self.detail = nn.Linear(config.size, 4 * config.num_mels)  # keeps the continuous feature rich


class AudioTokenizerObjective:
    """Multi-scale log spectra, phonemes from q0, and log-mels from the continuous feature."""

    def __init__(self, module: AudioTokenizerModule, *, phoneme_weight: float = 1.0) -> None:
        self.module = module
        self.phoneme_weight = phoneme_weight
        self.windows = {size: torch.hann_window(size) for size in (256, 512, 1024, 2048)}

    def __call__(self, batch: ClipBatch) -> tuple[Tensor, dict[str, Tensor]]:
        tokenizer = self.module.tokenizer
        config = tokenizer.config
        features, _ = tokenizer.encoder(batch.waveform)
        values, codes = tokenizer.quantize(features)
        semantic = len(config.semantic_levels)
        kept = drop_tail(values, first=semantic, group=len(config.acoustic_levels), num_groups=config.num_acoustic)
        decoded, _ = tokenizer.decoder(kept)
        # the decoder's sound is complete one hop later: compare from there
        hop = config.hop
        spectral = self._spectral(decoded[:, hop:], batch.waveform[:, : decoded.shape[1] - hop])
        logits = self.module.phonemes(values[..., :semantic]).float()
        phoneme = F.cross_entropy(logits.flatten(0, 2), batch.phonemes.flatten(), ignore_index=-100)
        padded = F.pad(batch.waveform, (hop, 0))
        mel = tokenizer.encoder.mel(padded).unflatten(1, (-1, 4)).flatten(2)  # (B, F, 4 * num_mels)
        detail = (self.module.detail(features).float() - mel).abs().mean()
        with torch.no_grad():
            used = torch.tensor(float(len(codes[..., 0].unique())))
            known = batch.phonemes >= 0
            right = ((logits.argmax(-1) == batch.phonemes) & known).sum() / known.sum().clamp_min(1)
        parts = {"spectral": spectral, "phoneme": phoneme, "phonemes_right": right, "detail": detail, "q0_used": used}
        return spectral + self.phoneme_weight * phoneme + detail, parts

    def _spectral(self, decoded: Tensor, original: Tensor) -> Tensor:
        """L1 of log magnitudes and of magnitudes at four resolutions."""
        total = decoded.new_zeros(())
        for size, window in self.windows.items():
            window = window.to(decoded.device)
            ours, theirs = (
                torch.stft(x.float(), size, size // 4, window=window, return_complex=True, center=False).abs()
                for x in (decoded, original)
            )
            scale = window.sum()
            log_difference = (torch.log10(ours / scale + 1e-4) - torch.log10(theirs / scale + 1e-4)).abs().mean()
            convergence = (ours - theirs).norm() / theirs.norm().clamp_min(1e-3)
            total = total + log_difference + 0.3 * convergence
        return total

    def num_items(self, batch: ClipBatch) -> int:
        return batch.waveform.numel()


class ImageTokenizerModule(nn.Module):
    """The tile tokenizer and a linear view of the continuous feature that must show the patch."""

    def __init__(self, tokenizer: ImageTokenizer) -> None:
        super().__init__()
        config = tokenizer.config
        self.tokenizer = tokenizer
        self.detail = nn.Linear(config.feature_size, 3 * config.patch_size**2)


class ImageTokenizerObjective:
    """L1 and gradient L1 of the reconstruction; the same L1 from the continuous feature."""

    def __init__(self, module: ImageTokenizerModule) -> None:
        self.module = module

    def __call__(self, batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """batch: (B, S, S, 3) uint8"""
        tokenizer = self.module.tokenizer
        pixels = batch.permute(0, 3, 1, 2).float() / 127.5 - 1.0
        features = tokenizer.features(pixels)
        values, codes = tokenizer.quantize(features)
        kept = drop_tail(
            values,
            first=tokenizer.quantizer.size,
            group=tokenizer.residual.size,
            num_groups=tokenizer.config.num_residuals,
        )
        drawn = tokenizer.reconstruct(kept).float()
        pixel = (drawn - pixels).abs().mean()
        edge = sum((drawn.diff(dim=axis) - pixels.diff(dim=axis)).abs().mean() for axis in (2, 3))
        patch = tokenizer.config.patch_size
        patches = F.unfold(pixels, patch, stride=patch).transpose(1, 2)  # (B, P, 3 * patch^2)
        detail = (self.module.detail(features).float() - patches).abs().mean()
        used = torch.tensor(float(len(codes[..., 0].unique())))
        parts = {"pixel": pixel, "edge": torch.as_tensor(edge), "detail": detail, "codes_used": used}
        return pixel + 0.5 * edge + 0.5 * detail, parts

    def num_items(self, batch: Tensor) -> int:
        return len(batch)
