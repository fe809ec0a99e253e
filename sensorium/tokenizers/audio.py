"""Cricket, the speech codec: waveform <-> 12.5 frames a second of one semantic and seven acoustic codes, causal.

    16 kHz -> log-mel, 50 Hz -> ConvNeXt -> 12.5 Hz -> ConvNeXt -> feature z (what the network hears)
    z -> FSQ 8,5,5,5 (semantic q0) and seven FSQ 4,4,4,4 (acoustic q1..q7): 10 + 56 bits a frame, 825 bit/s
    codes (and the next ones) -> 12.5 Hz ConvNeXt -> 50 Hz ConvNeXt -> magnitude, phase -> inverse STFT, 20 ms overlap

q0 is made speech-like by predicting phonemes from it alone (the idea of PAST, arXiv 2505.14470, with the synthesiser's
own timings instead of CTC). Later acoustic groups are dropped at random in training, which orders them coarse to fine.
`AudioEncoder` and `AudioDecoder` carry their state as an argument; a clip's offline result is the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.tokenizers.conv import ConvStack, State, rows_linear
from sensorium.tokenizers.quantize import FSQ

SUBFRAMES = 4  # 50 Hz steps in a 12.5 Hz frame


@dataclass(frozen=True, kw_only=True)
class AudioTokenizerConfig:
    sample_rate_hz: int = 16_000
    hop: int = 320  # samples between 50 Hz steps; the window is two hops
    num_mels: int = 80
    size: int = 192
    encoder_blocks: tuple[int, int] = (4, 4)  # at 50 Hz, at 12.5 Hz
    decoder_blocks: tuple[int, int] = (3, 5)  # at 12.5 Hz, at 50 Hz
    lookahead_frames: int = 0  # that the decoder waits for: codes are predicted many times faster than they sound
    semantic_levels: tuple[int, ...] = (8, 5, 5, 5)
    acoustic_levels: tuple[int, ...] = (4, 4, 4, 4)
    num_acoustic: int = 7
    num_phonemes: int = 64

    @property
    def frame_size(self) -> int:
        """Samples in one frame (80 ms)."""
        return SUBFRAMES * self.hop

    @property
    def frame_rate_hz(self) -> float:
        return self.sample_rate_hz / self.frame_size

    @property
    def window(self) -> int:
        return 2 * self.hop

    @property
    def decoder_lag(self) -> int:
        """Samples by which the decoder's sound comes later than the codes it belongs to."""
        return self.lookahead_frames * self.frame_size + self.hop


class AudioFrames(NamedTuple):
    """B clips of F frames."""

    codes: Tensor  # (B, F, 1 + num_acoustic) int64
    features: Tensor  # (B, F, size), the encoder's continuous view


class EncoderState(NamedTuple):
    samples: Tensor  # (B, hop) the last samples seen
    fine: State
    coarse: State


class DecoderState(NamedTuple):
    values: Tensor  # (B, lookahead_frames, V) the newest, whose sound is still to come
    coarse: State
    fine: State
    overlap: Tensor  # (B, hop) the second half of the last window, not yet complete


class LogMel(nn.Module):
    """Log-mel energies of windows of two hops, the last of which ends with the newest sample."""

    window: Tensor
    filters: Tensor

    def __init__(self, *, sample_rate_hz: int, hop: int, num_mels: int) -> None:
        super().__init__()
        self.hop = hop
        self.register_buffer("window", torch.hann_window(2 * hop), persistent=False)
        filters = mel_filters(sample_rate_hz=sample_rate_hz, num_bins=hop + 1, num_mels=num_mels)
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """(B, hop + T * hop) -> (B, T, num_mels)"""
        frames = waveform.float().unfold(1, 2 * self.hop, self.hop) * self.window  # (B, T, 2 hop)
        power = torch.view_as_real(torch.fft.rfft(frames)).square().sum(dim=-1)  # (B, T, hop + 1)
        flat = power.reshape(-1, power.shape[-1])
        padded = torch.cat((flat, flat.new_zeros(-flat.shape[0] % SUBFRAMES, flat.shape[1])))
        mel = (padded @ self.filters)[: flat.shape[0]].view(*power.shape[:-1], -1)
        return torch.log10(mel.clamp_min(1e-8)) / 2 + 1.5  # about zero mean, unit range


def mel_filters(*, sample_rate_hz: int, num_bins: int, num_mels: int) -> Tensor:
    """Triangular filters on the mel scale (O'Shaughnessy's 2595 log10(1 + f / 700)): (num_bins, num_mels)."""
    top = 2595.0 * torch.log10(torch.tensor(1.0 + sample_rate_hz / 2 / 700.0))
    corners = 700.0 * (10.0 ** (torch.linspace(0.0, float(top), num_mels + 2) / 2595.0) - 1.0)
    bins = torch.linspace(0.0, sample_rate_hz / 2, num_bins).unsqueeze(1)
    rising = (bins - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - bins) / (corners[2:] - corners[1:-1])
    filters = torch.minimum(rising, falling).clamp_min(0.0)
    return filters / filters.sum(dim=0, keepdim=True).clamp_min(1e-6)


class AudioEncoder(nn.Module):
    def __init__(self, config: AudioTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        size = config.size
        self.mel = LogMel(sample_rate_hz=config.sample_rate_hz, hop=config.hop, num_mels=config.num_mels)
        self.input = nn.Linear(config.num_mels, size)
        self.fine = ConvStack(size, blocks=config.encoder_blocks[0], width=7)
        self.stride = nn.Linear(SUBFRAMES * size, size)
        self.coarse = ConvStack(size, blocks=config.encoder_blocks[1], width=5)

    def forward(self, waveform: Tensor, state: EncoderState | None = None) -> tuple[Tensor, EncoderState]:
        """waveform: (B, F * frame_size) whole frames -> features (B, F, size)."""
        batch, samples = waveform.shape
        assert samples % self.config.frame_size == 0, "the encoder takes whole frames"
        past = state.samples if state is not None else waveform.new_zeros(batch, self.config.hop)
        whole = torch.cat((past, waveform), dim=1)
        x = rows_linear(self.mel(whole), self.input)  # (B, 4F, size)
        x, fine = self.fine(x, state.fine if state is not None else None)
        x = rows_linear(x.unflatten(1, (-1, SUBFRAMES)).flatten(2), self.stride)  # (B, F, size)
        x, coarse = self.coarse(x, state.coarse if state is not None else None)
        return x, EncoderState(whole[:, -self.config.hop :], fine, coarse)


class AudioDecoder(nn.Module):
    """Codes' values to waveform. Output lags the codes by the lookahead and by one hop (20 ms) of overlap-add."""

    window: Tensor

    def __init__(self, config: AudioTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        size = config.size
        values = len(config.semantic_levels) + config.num_acoustic * len(config.acoustic_levels)
        self.input = nn.Linear((config.lookahead_frames + 1) * values, size)
        self.coarse = ConvStack(size, blocks=config.decoder_blocks[0], width=5)
        self.stride = nn.Linear(size, SUBFRAMES * size)
        self.fine = ConvStack(size, blocks=config.decoder_blocks[1], width=7)
        self.norm = nn.LayerNorm(size)
        self.spectrum = nn.Linear(size, 2 * (config.hop + 1))
        self.register_buffer("window", torch.hann_window(config.window), persistent=False)

    def forward(self, values: Tensor, state: DecoderState | None = None) -> tuple[Tensor, DecoderState]:
        """values: (B, F, V) -> waveform (B, F * frame_size)."""
        ahead = self.config.lookahead_frames
        past = state.values if state is not None else values.new_zeros(values.shape[0], ahead, values.shape[2])
        whole = torch.cat((past, values), dim=1)  # (B, ahead + F, V)
        windows = whole.unfold(1, ahead + 1, 1).transpose(2, 3).flatten(2)  # (B, F, (ahead + 1) * V), oldest first
        x, coarse = self.coarse(rows_linear(windows, self.input), state.coarse if state is not None else None)
        x = rows_linear(x, self.stride).unflatten(2, (SUBFRAMES, -1)).flatten(1, 2)  # (B, 4F, size)
        x, fine = self.fine(x, state.fine if state is not None else None)
        log_magnitude, phase = rows_linear(self.norm(x), self.spectrum).float().chunk(2, dim=-1)  # (B, 4F, hop + 1)
        spectrum = torch.polar(log_magnitude.clamp_max(6.0).exp(), phase)
        first, second = (torch.fft.irfft(spectrum) * self.window).chunk(2, dim=-1)  # (B, 4F, hop) both
        overlap = state.overlap if state is not None else first.new_zeros(first.shape[0], self.config.hop)
        tails = torch.cat((overlap.unsqueeze(1), second), dim=1)  # (B, 4F + 1, hop)
        waveform = (first + tails[:, :-1]).flatten(1)
        return waveform, DecoderState(whole[:, values.shape[1] :], coarse, fine, tails[:, -1])


class AudioTokenizer(nn.Module):
    """The whole codec. Inference runs in float32; see `sensorium.training` for its losses."""

    def __init__(self, config: AudioTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = AudioEncoder(config)
        self.decoder = AudioDecoder(config)
        self.semantic = FSQ(config.semantic_levels)
        self.acoustic = FSQ(config.acoustic_levels)
        self.to_semantic = nn.Linear(config.size, self.semantic.size)
        self.to_acoustic = nn.Linear(config.size, config.num_acoustic * self.acoustic.size)

    def quantize(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """features (B, F, size) -> values (B, F, V) with straight-through gradient, codes (B, F, 1 + num_acoustic)."""
        features = F.layer_norm(features, (self.config.size,))
        semantic, first = self.semantic(rows_linear(features, self.to_semantic))
        groups = rows_linear(features, self.to_acoustic).unflatten(-1, (self.config.num_acoustic, self.acoustic.size))
        acoustic, rest = self.acoustic(groups)
        return torch.cat((semantic, acoustic.flatten(2)), dim=-1), torch.cat((first.unsqueeze(-1), rest), dim=-1)

    def values(self, codes: Tensor) -> Tensor:
        """codes (B, F, 1 + num_acoustic) -> values (B, F, V), the decoder's input."""
        semantic = self.semantic.values(codes[..., 0])
        acoustic = self.acoustic.values(codes[..., 1:]).flatten(2)
        return torch.cat((semantic, acoustic), dim=-1)

    @torch.inference_mode()
    def encode(self, waveform: Tensor, state: EncoderState | None = None) -> tuple[AudioFrames, EncoderState]:
        """(B, F * frame_size) whole frames -> frames, and the state from which the next frames go on."""
        features, new_state = self.encoder(waveform, state)
        _, codes = self.quantize(features)
        return AudioFrames(codes, features), new_state

    @torch.inference_mode()
    def decode(self, codes: Tensor, state: DecoderState | None = None) -> tuple[Tensor, DecoderState]:
        """codes (B, F, 1 + num_acoustic) -> waveform (B, F * frame_size), and the state of the next frames."""
        return self.decoder(self.values(codes), state)


class AudioEncoderStream:
    """Takes sound in chunks of any size and gives frames as they fill; `flush` pads the last one with silence."""

    def __init__(self, tokenizer: AudioTokenizer) -> None:
        self._tokenizer = tokenizer
        self._state: EncoderState | None = None
        self._rest = torch.zeros(0)

    def push(self, samples: Tensor) -> AudioFrames:
        """samples: (N,) float32 -> the frames that are now complete, (1, F, ...); F may be 0."""
        samples = torch.cat((self._rest, samples))
        whole = len(samples) - len(samples) % self._tokenizer.config.frame_size
        self._rest = samples[whole:]
        if whole == 0:
            config = self._tokenizer.config
            return AudioFrames(
                torch.zeros(1, 0, 1 + config.num_acoustic, dtype=torch.int64), torch.zeros(1, 0, config.size)
            )
        frames, self._state = self._tokenizer.encode(samples[:whole].unsqueeze(0), self._state)
        return frames

    def flush(self) -> AudioFrames:
        missing = -len(self._rest) % self._tokenizer.config.frame_size
        return self.push(torch.zeros(missing))


class AudioDecoderStream:
    """Takes frames' codes as they are predicted and gives sound as soon as the decoder has seen far enough ahead."""

    def __init__(self, tokenizer: AudioTokenizer) -> None:
        self._tokenizer = tokenizer
        self._state: DecoderState | None = None
        self._waiting = tokenizer.config.lookahead_frames
        self._last: Tensor | None = None

    def push(self, codes: Tensor) -> Tensor:
        """codes: (F, 1 + num_acoustic) -> up to (F * frame_size,) float32 waveform; nothing while it looks ahead."""
        waveform, self._state = self._tokenizer.decode(codes.unsqueeze(0), self._state)
        early = min(self._waiting, len(codes))
        self._waiting -= early
        self._last = codes[-1:]
        return waveform[0, early * self._tokenizer.config.frame_size :]

    def flush(self) -> Tensor:
        """The sound of the last frames, which nothing follows: as if the last one went on. Ends the stream."""
        ahead = self._tokenizer.config.lookahead_frames
        if self._last is None or not ahead:
            return torch.zeros(0)
        return self.push(self._last.expand(ahead, -1))
