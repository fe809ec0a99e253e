"""What each network minimises. The stream's losses are per-modality means, so that a modality's share of the
positions does not decide its share of the gradient."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.data.generators.pictures import LABEL_COLOURS, LABEL_COLUMNS, LABEL_THINGS
from sensorium.model.embed import StreamInputs
from sensorium.model.heads import DepthHead, DepthTransformer, SymbolHead
from sensorium.model.transformer import Transformer
from sensorium.tokenizers.audio import AudioTokenizer, AudioTokenizerConfig, mel_filters
from sensorium.tokenizers.conv import ConvStack
from sensorium.tokenizers.image import ImageTokenizer
from sensorium.tokenizers.stream import StreamLabels

KEPT_WEIGHT = 20.0
NOTHING_WEIGHT = 0.15  # most of a picture is ground
FEATURE_WEIGHT = 2.0  # against a spectral distance of about 1.1, where features differ by 0.2
RESIDUAL_WEIGHTS = (12.0, 8.0, 6.0, 4.0, 2.0, 2.0, 1.0)  # coarse codes matter more (MiMo-Audio's ratios)


class StreamBatch(NamedTuple):
    inputs: StreamInputs
    labels: StreamLabels


class StreamObjective:
    """L = 1 text + 0.5 q0 + 0.75 residuals + 0.5 image (+ 0.4 its residuals): weighted means over their positions."""

    def __init__(self, model: Transformer, *, depth_share: float = 0.75, compiled: bool = False) -> None:
        """With `compiled`, blocks and losses run as compiled kernels: the same figures, 1.4 times as fast on a CPU."""
        self.module = model
        self.depth_share = depth_share  # of the spoken frames and of the drawn patches, how many train a depth head
        self._symbol_losses, self._code_losses = _symbol_losses, _code_losses
        if compiled:
            # two kinds of blocks, trained and held out, one row and many: more variants than the usual eight
            torch._dynamo.config.recompile_limit = 64
            for block in model.blocks:
                block.compile(dynamic=True)
            self._symbol_losses = torch.compile(_symbol_losses, dynamic=True)
            self._code_losses = torch.compile(_code_losses, dynamic=True)

    def __call__(self, batch: StreamBatch) -> tuple[Tensor, dict[str, Tensor]]:
        config, labels = self.module.config, batch.labels
        hidden = self.module(batch.inputs).flatten(0, 1)  # (B*T, C)
        targets, weights = labels.targets.flatten(), labels.weights.flatten()
        asked = (targets >= 0).nonzero().squeeze(-1)
        targets, weights = targets[asked], weights[asked]
        loss = self._symbol_losses(self.module.symbol_head, hidden[asked], targets) * weights
        is_image = targets >= config.image_start
        is_audio = (targets >= config.audio_start) & ~is_image
        parts = {
            name: loss[rows].sum() / weights[rows].sum().clamp_min(1.0)
            for name, rows in (("text", ~(is_audio | is_image)), ("audio", is_audio), ("image", is_image))
        }
        parts["residual"] = self._residual(self.module.depth_head, hidden, labels.spoken_at, labels.spoken)
        # speech is lost in its residual codes (docs/log.md)
        total = parts["text"] + 0.5 * (parts["audio"] + parts["image"]) + 0.75 * parts["residual"]
        if self.module.image_depth_head is not None:
            head = self.module.image_depth_head
            parts["image_residual"] = self._residual(head, hidden, labels.drawn_at, labels.drawn)
            total = total + 0.4 * parts["image_residual"]
        return total, parts

    def _residual(self, head: DepthHead | DepthTransformer, hidden: Tensor, at: Tensor, codes: Tensor) -> Tensor:
        """hidden: (B*T, C), at: (Q,) the positions that predict codes (Q, 1 + R)."""
        if len(at) == 0:
            return hidden.new_zeros(())
        kept = torch.randperm(len(at), device=hidden.device)[: max(1, int(len(at) * self.depth_share))]
        codes = codes[kept]
        loss = self._code_losses(head, hidden[at[kept]], codes)  # (N, R)
        scale = loss.new_tensor(RESIDUAL_WEIGHTS[: loss.shape[1]])
        return (loss.mean(dim=0) * scale).sum() / scale.sum()

    def num_items(self, batch: StreamBatch) -> int:
        return int((batch.inputs.ids != 0).sum())


def _symbol_losses(head: SymbolHead, hidden: Tensor, targets: Tensor) -> Tensor:
    """(N, C), (N,) -> (N,)"""
    return F.cross_entropy(head(hidden), targets, reduction="none")


def _code_losses(head: DepthHead | DepthTransformer, hidden: Tensor, codes: Tensor) -> Tensor:
    """(N, C), (N, 1 + R) -> (N, R)"""
    logits = head(hidden, codes)  # (N, R, residual_size)
    return F.cross_entropy(logits.flatten(0, 1), codes[:, 1:].flatten(), reduction="none").view(len(codes), -1)


class ClipBatch(NamedTuple):
    waveform: Tensor  # (B, N) whole frames
    phonemes: Tensor  # (B, F, 4) int64 at 50 Hz, -100 where unknown


class AnswerBatch(NamedTuple):
    waveform: Tensor  # (B, N) whole frames
    codes: Tensor  # (B, F, 1 + R)


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


def train_only(module: nn.Module, *parts: nn.Module) -> None:
    """Freezes `module` but for `parts` of it: a tokenizer's decoder, once its codes are settled, or a network's end."""
    module.requires_grad_(False)
    for part in parts:
        part.requires_grad_(True)


class AudioTokenizerModule(nn.Module):
    """The codec and the heads that only training needs."""

    def __init__(self, tokenizer: AudioTokenizer) -> None:
        super().__init__()
        config = tokenizer.config
        self.tokenizer = tokenizer
        self.phonemes = PhonemeHead(code_size=len(config.semantic_levels), num_phonemes=config.num_phonemes)
        self.heard = nn.Linear(config.size, 4 * config.num_phonemes)  # phonemes lie open in the continuous feature too
        self.detail = nn.Linear(config.size, 4 * config.num_mels)  # keeps it rich


Supervision: TypeAlias = Literal["timed", "ctc", "none"]


class AudioTokenizerObjective:
    """Multi-scale spectra; phonemes from q0 and from the continuous feature; log-mels from the feature.

    `supervision` says how phonemes are taught: at their known times, in their order alone (CTC), or not at all; the
    latter two are rivals in an ablation.
    """

    def __init__(self, module: AudioTokenizerModule, *, supervision: Supervision = "timed") -> None:
        self.module = module
        self.supervision: Supervision = supervision
        self._spectral = SpectralDistance(module.tokenizer.config)

    def __call__(self, batch: ClipBatch) -> tuple[Tensor, dict[str, Tensor]]:
        tokenizer = self.module.tokenizer
        config = tokenizer.config
        features, _ = tokenizer.encoder(batch.waveform)
        values, codes = tokenizer.quantize(features)
        semantic = len(config.semantic_levels)
        kept = drop_tail(values, first=semantic, group=len(config.acoustic_levels), num_groups=config.num_acoustic)
        decoded, _ = tokenizer.decoder(kept)
        spectral = self._spectral(decoded, batch.waveform)
        logits = self.module.phonemes(values[..., :semantic]).float()
        phoneme = self._phoneme(logits, batch.phonemes)
        heard = self.module.heard(F.layer_norm(features, (config.size,))).float().unflatten(-1, (4, -1))
        heard_phoneme = self._phoneme(heard, batch.phonemes)
        padded = F.pad(batch.waveform, (config.hop, 0))
        mel = tokenizer.encoder.mel(padded).unflatten(1, (-1, 4)).flatten(2)  # (B, F, 4 * num_mels)
        detail = (self.module.detail(features).float() - mel).abs().mean()
        parts = {
            "spectral": spectral,
            "phoneme": phoneme,
            "heard_phoneme": heard_phoneme,
            "phonemes_right": _share_right(logits, batch.phonemes),
            "heard_right": _share_right(heard, batch.phonemes),
            "detail": detail,
            "q0_used": torch.tensor(float(len(codes[..., 0].unique()))),
        }
        return spectral + phoneme + 0.5 * heard_phoneme + detail, parts

    def _phoneme(self, logits: Tensor, phonemes: Tensor) -> Tensor:
        """logits: (B, F, 4, V), phonemes: (B, F, 4)"""
        if self.supervision == "none":
            return logits.sum() * 0.0
        if self.supervision == "timed":
            return F.cross_entropy(logits.flatten(0, 2), phonemes.flatten(), ignore_index=-100)
        rows = [row.unique_consecutive() for row in phonemes.flatten(1)]
        targets = [row[row > 0] for row in rows]  # silence, phoneme 0, is the blank
        steps = logits.flatten(1, 2).log_softmax(-1).transpose(0, 1)  # (4F, B, V)
        steps_of = torch.full((len(rows),), len(steps))
        lengths = torch.tensor([len(target) for target in targets])
        return F.ctc_loss(steps, torch.cat(targets), steps_of, lengths, zero_infinity=True)

    def num_items(self, batch: ClipBatch) -> int:
        return batch.waveform.numel()


class AudioDecoderObjective:
    """The codec's decoder alone, from given codes: every encoded corpus, and every network trained on them, stay valid.

    Beside the spectra, what the codec's own ear (its encoder, no longer trained) makes of the sound must be what it
    makes of the original: a perceptual loss (Johnson et al. 2016, arXiv 1603.08155) without a foreign network.
    """

    def __init__(self, tokenizer: AudioTokenizer) -> None:
        train_only(tokenizer, tokenizer.decoder)
        self.module = tokenizer
        self._spectral = SpectralDistance(tokenizer.config)

    def __call__(self, batch: AnswerBatch) -> tuple[Tensor, dict[str, Tensor]]:
        return self.compare(self.decode(batch), batch)

    def decode(self, batch: AnswerBatch) -> Tensor:
        """(B, N); it lags the original."""
        decoded, _ = self.module.decoder(self.module.values(batch.codes))
        return decoded

    def compare(self, decoded: Tensor, batch: AnswerBatch) -> tuple[Tensor, dict[str, Tensor]]:
        spectral = self._spectral(decoded, batch.waveform)
        config = self.module.config
        lag = config.decoder_lag
        heard = self._heard(F.pad(decoded[:, lag:], (0, lag)))
        whole = -(config.lookahead_frames + 1)  # what follows is padding, or ends in it
        feature = (heard - self._heard(batch.waveform)).abs()[:, :whole].mean()
        return spectral + FEATURE_WEIGHT * feature, {"spectral": spectral, "feature": feature}

    def _heard(self, waveform: Tensor) -> Tensor:
        """(B, N) -> (B, F, C)"""
        features, _ = self.module.encoder(waveform)
        return F.layer_norm(features.float(), (self.module.config.size,))

    def num_items(self, batch: AnswerBatch) -> int:
        return batch.waveform.numel()


class SpectralDistance:
    """L1 of log magnitudes, linear and in mel bands (half of all linear bins lie where speech has little), and the
    convergence of magnitudes, at four resolutions."""

    def __init__(self, config: AudioTokenizerConfig) -> None:
        self.lag = config.decoder_lag
        self.windows = {size: torch.hann_window(size) for size in (256, 512, 1024, 2048)}
        self.filters = {
            size: mel_filters(
                sample_rate_hz=config.sample_rate_hz, num_bins=size // 2 + 1, num_mels=min(80, size // 16)
            )
            for size in self.windows
        }

    def __call__(self, decoded: Tensor, original: Tensor) -> Tensor:
        """decoded, original: (B, N). The decoder's sound comes later than its codes: they are compared from there."""
        decoded, original = decoded[:, self.lag :], original[:, : decoded.shape[1] - self.lag]
        total = decoded.new_zeros(())
        for size, window in self.windows.items():
            window, filters = window.to(decoded.device), self.filters[size].to(decoded.device)
            ours, theirs = (
                torch.stft(x.float(), size, size // 4, window=window, return_complex=True, center=False).abs()
                for x in (decoded, original)
            )
            scale = window.sum()
            linear = _log_difference(ours / scale, theirs / scale)
            mel = _log_difference(*(x.transpose(1, 2) @ filters / scale for x in (ours, theirs)))
            convergence = (ours - theirs).norm() / theirs.norm().clamp_min(1e-3)
            total = total + 0.5 * linear + mel + 0.3 * convergence
        return total


def _log_difference(ours: Tensor, theirs: Tensor) -> Tensor:
    return (torch.log10(ours + 1e-4) - torch.log10(theirs + 1e-4)).abs().mean()


@torch.no_grad()
def _share_right(logits: Tensor, labels: Tensor) -> Tensor:
    """Of the labels that are known (not negative), how many the largest logit names. (..., V), (...) -> ()."""
    known = labels >= 0
    return ((logits.argmax(-1) == labels) & known).sum() / known.sum().clamp_min(1)


class PictureBatch(NamedTuple):
    pixels: Tensor  # (B, S, S, 3) uint8
    labels: Tensor  # (B, P, L, 3) int64: the thing in each of L columns of a patch, whether it begins there, its colour


class DrawingBatch(NamedTuple):
    pixels: Tensor  # (B, S, S, 3) uint8
    codes: Tensor  # (B, P, 1 + R)


class ImageTokenizerModule(nn.Module):
    """The tile tokenizer and the heads that only training needs: all of them read one patch.

    What the generator knows of each patch (letters, shapes, colours) teaches features and first codes what matters
    in a picture, as phonemes with known times teach the codec.
    """

    def __init__(self, tokenizer: ImageTokenizer) -> None:
        super().__init__()
        config = tokenizer.config
        self.tokenizer = tokenizer
        self.detail = nn.Linear(config.feature_size, 3 * config.patch_size**2)
        self.label_sizes = (len(LABEL_THINGS), 2, len(LABEL_COLOURS))
        num_logits = LABEL_COLUMNS * sum(self.label_sizes)
        self.seen = nn.Linear(config.feature_size, num_logits)
        self.code = nn.Sequential(nn.Linear(len(config.levels), 128), nn.GELU(), nn.Linear(128, num_logits))

    def label_losses(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, P, L * sizes), (B, P, L, 3) -> the loss, and the share of things that are named right."""
        parts = logits.float().unflatten(-1, (LABEL_COLUMNS, -1)).split(self.label_sizes, dim=-1)
        targets = labels.unbind(-1)
        losses = []
        for part, target in zip(parts, targets, strict=True):
            weight = part.new_ones(part.shape[-1])
            weight[0] = NOTHING_WEIGHT
            loss = F.cross_entropy(part.flatten(0, 2), target.flatten(), weight, ignore_index=-1, reduction="sum")
            losses.append(loss / weight[target[target >= 0]].sum().clamp_min(1.0))  # 0 where nothing is known
        loss = torch.stack(losses).sum()
        things = torch.where(targets[0] > 0, targets[0], -1)
        return loss, _share_right(parts[0], things)


class ImageTokenizerObjective:
    """L1 and gradient L1 of the reconstruction; the same L1 and the patches' labels from the continuous feature; the
    labels from the first code.

    With `given`, a tokenizer whose codes a network knows, the codes are held near its: what gets better is the feature.
    """

    def __init__(self, module: ImageTokenizerModule, *, given: ImageTokenizer | None = None) -> None:
        self.module = module
        self.given = given

    def __call__(self, batch: PictureBatch) -> tuple[Tensor, dict[str, Tensor]]:
        module, tokenizer = self.module, self.module.tokenizer
        pixels = _unit(batch.pixels)
        features = tokenizer.features(pixels)
        values, codes = tokenizer.quantize(features)
        first = tokenizer.quantizer.size
        kept = drop_tail(values, first=first, group=tokenizer.residual.size, num_groups=tokenizer.config.num_residuals)
        pixel, edge = _pixel_losses(tokenizer.reconstruct(kept).float(), pixels)
        seen, seen_right = module.label_losses(module.seen(F.layer_norm(features, features.shape[-1:])), batch.labels)
        patch = tokenizer.config.patch_size
        patches = F.unfold(pixels, patch, stride=patch).transpose(1, 2)  # (B, P, 3 * patch^2)
        detail = (module.detail(features).float() - patches).abs().mean()
        code, code_right = module.label_losses(module.code(values[..., :first]), batch.labels)
        parts = {
            "pixel": pixel,
            "edge": edge,
            "seen": seen,
            "seen_right": seen_right,
            "detail": detail,
            "code": code,
            "code_right": code_right,
            "codes_used": torch.tensor(float(len(codes[..., 0].unique()))),
        }
        loss = 4.0 * pixel + 2.0 * edge + 0.5 * detail + 0.5 * seen + 0.1 * code
        if self.given is not None:
            with torch.no_grad():
                known_values, known_codes = self.given.quantize(self.given.features(pixels))
            kept = (values - known_values).square().mean()  # a gradient as if nothing were rounded
            loss = loss + KEPT_WEIGHT * kept
            parts |= {"kept": kept, "codes_kept": (codes[..., 0] == known_codes[..., 0]).float().mean()}
        return loss, parts

    def num_items(self, batch: PictureBatch) -> int:
        return len(batch.pixels)


class ImageDecoderObjective:
    """The tokenizer's decoder alone, from given codes, as `AudioDecoderObjective`: pixels, edges, and what the
    tokenizer's own eye makes of the picture."""

    def __init__(self, tokenizer: ImageTokenizer) -> None:
        train_only(tokenizer, tokenizer.decoder)
        self.module = tokenizer

    def __call__(self, batch: DrawingBatch) -> tuple[Tensor, dict[str, Tensor]]:
        pixels = _unit(batch.pixels)
        drawn = self.module.reconstruct(self.module.values(batch.codes)).float()
        pixel, edge = _pixel_losses(drawn, pixels)
        feature = (self._seen(drawn) - self._seen(pixels)).abs().mean()
        parts = {"pixel": pixel, "edge": edge, "feature": feature}
        return 4.0 * pixel + 2.0 * edge + FEATURE_WEIGHT * feature, parts

    def _seen(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, P, C)"""
        features = self.module.features(pixels).float()
        return F.layer_norm(features, features.shape[-1:])

    def num_items(self, batch: DrawingBatch) -> int:
        return len(batch.pixels)


def _unit(pixels: Tensor) -> Tensor:
    """(B, S, S, 3) uint8 -> (B, 3, S, S) in [-1, 1]"""
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1.0


def _pixel_losses(drawn: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """L1 of the pixels and of their differences to the next, (B, 3, S, S) both."""
    edges = [(drawn.diff(dim=axis) - pixels.diff(dim=axis)).abs().mean() for axis in (2, 3)]
    return (drawn - pixels).abs().mean(), torch.stack(edges).sum()
