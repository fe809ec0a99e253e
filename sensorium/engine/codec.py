"""The speech codec without torch: on a frame of 80 ms that spends most of its time on calls.

A clip's figures are the same to the bit, live as offline, as with `tokenizers.audio`. The figures of the two differ by
rounding: `tests/engine/test_codec.py` holds them together. F frames, T = 4 F steps of 20 ms, C width.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from sensorium.engine import kernels
from sensorium.engine.runner import array, matrix, product
from sensorium.tokenizers.audio import (
    SUBFRAMES,
    AudioFrames,
    AudioTokenizer,
    AudioTokenizerConfig,
    DecoderState,
    EncoderState,
)
from sensorium.tokenizers.conv import ConvNeXt, ConvStack, State
from sensorium.tokenizers.quantize import SPREAD


class CompiledAudioTokenizer(AudioTokenizer):
    """The same codec, for inference on single clips. Shares its weights with the one it is made from."""

    def __init__(self, tokenizer: AudioTokenizer) -> None:
        nn.Module.__init__(self)
        self.config = tokenizer.config
        for name, module in tokenizer.named_children():
            self.add_module(name, module)
        encoder, decoder, mel = tokenizer.encoder, tokenizer.decoder, tokenizer.encoder.mel
        self._grid = _Grid(self.config)
        self._hann, self._filters = array(mel.window), _Filters(array(mel.filters))
        self._heard, self._strided = _Affine(encoder.input), _Affine(encoder.stride)
        self._fine, self._coarse = _Stack(encoder.fine), _Stack(encoder.coarse)
        self._digits = _Affine(tokenizer.to_semantic, tokenizer.to_acoustic)
        self._even = np.ones(self.config.size, np.float32), np.zeros(self.config.size, np.float32)
        self._read, self._spread = _Affine(decoder.input), _Affine(decoder.stride)
        self._decoder_coarse, self._decoder_fine = _Stack(decoder.coarse), _Stack(decoder.fine)
        self._norm = array(decoder.norm.weight), array(decoder.norm.bias)
        self._spectrum, self._window = _Affine(decoder.spectrum), array(decoder.window)

    def encode(self, waveform: Tensor, state: EncoderState | None = None) -> tuple[AudioFrames, EncoderState]:
        """(1, F * frame_size) -> frames, and the state from which the next frames go on."""
        assert len(waveform) == 1, "one clip at a time"
        hop, sound = self.config.hop, waveform[0].float().numpy()
        past = state.samples[0].numpy() if state is not None else np.zeros(hop, np.float32)
        whole = np.concatenate((past, sound))
        x, fine = self._fine(self._heard(self._log_mel(whole)), state.fine if state is not None else None)
        x = self._strided(x.reshape(len(x) // SUBFRAMES, -1))
        features, coarse = self._coarse(x, state.coarse if state is not None else None)
        even = features.copy()
        kernels.centre_rows(even, *self._even)
        codes = torch.from_numpy(self._grid.codes(self._digits(even)))
        samples = torch.from_numpy(whole[-hop:].copy()).unsqueeze(0)
        return AudioFrames(codes[None], torch.from_numpy(features)[None]), EncoderState(samples, fine, coarse)

    def decode(self, codes: Tensor, state: DecoderState | None = None) -> tuple[Tensor, DecoderState]:
        """(1, F, 1 + num_acoustic) -> (1, F * frame_size), and the state of the next frames."""
        assert len(codes) == 1, "one clip at a time"
        ahead, hop, values = self.config.lookahead_frames, self.config.hop, self._grid.values(codes[0].numpy())
        past = state.values[0].numpy() if state is not None else np.zeros((ahead, values.shape[1]), np.float32)
        whole = np.concatenate((past, values))
        windows = np.concatenate([whole[at : at + len(values)] for at in range(ahead + 1)], axis=1)
        x, coarse = self._decoder_coarse(self._read(windows), state.coarse if state is not None else None)
        x = self._spread(x).reshape(len(x) * SUBFRAMES, -1)
        x, fine = self._decoder_fine(x, state.fine if state is not None else None)
        kernels.centre_rows(x, *self._norm)
        log_magnitude, phase = np.split(self._spectrum(x), 2, axis=1)  # (T, hop + 1) both
        magnitude = np.exp(np.minimum(log_magnitude, np.float32(6.0)))
        spectrum = magnitude * (np.cos(phase) + np.complex64(1j) * np.sin(phase))
        first, second = np.split(np.fft.irfft(spectrum).astype(np.float32) * self._window, 2, axis=1)  # (T, hop) both
        overlap = state.overlap.numpy() if state is not None else np.zeros((1, hop), np.float32)
        tails = np.concatenate((overlap, second))  # (T + 1, hop)
        waveform = torch.from_numpy((first + tails[:-1]).reshape(1, -1))
        kept = torch.from_numpy(whole[len(values) :].copy())[None]
        return waveform, DecoderState(kept, coarse, fine, torch.from_numpy(tails[-1:].copy()))

    def _log_mel(self, whole: np.ndarray) -> np.ndarray:
        """(hop + T * hop,) -> (T, num_mels): see `LogMel`."""
        hop = self.config.hop
        frames = np.lib.stride_tricks.sliding_window_view(whole, 2 * hop)[::hop] * self._hann  # (T, 2 hop)
        spectrum = np.fft.rfft(frames)
        power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)  # (T, hop + 1)
        mel = self._filters(power)
        return np.log10(np.maximum(mel, np.float32(1e-8))) / np.float32(2.0) + np.float32(1.5)


class _Affine:
    """Linear layers that read the same: (B, M) -> (B, N), their outputs side by side."""

    def __init__(self, *layers: nn.Linear) -> None:
        self._size = sum(layer.out_features for layer in layers)
        self._matrix = matrix(torch.cat([layer.weight for layer in layers]))
        bias = array(torch.cat([layer.bias for layer in layers]))
        self._bias = np.pad(bias, (0, -self._size % kernels.PANEL))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        y = product(np.ascontiguousarray(x, np.float32), self._matrix)
        y += self._bias
        return np.ascontiguousarray(y[:, : self._size])


class _Stack:
    """A `ConvStack`; all blocks' pasts are one tensor of its state."""

    def __init__(self, stack: ConvStack) -> None:
        blocks = [block for block in stack.blocks if isinstance(block, ConvNeXt)]
        self._taps = np.stack([array(block.conv.weight) for block in blocks])  # (L, W, C)
        offsets = [(each.conv.bias, each.norm.weight, each.norm.bias, each.down.bias, each.scale) for each in blocks]
        wide_offsets = np.stack([array(block.up.bias) for block in blocks])
        self._weights = (
            np.stack([np.stack([array(each) for each in every]) for every in offsets]),
            np.pad(wide_offsets, ((0, 0), (0, -wide_offsets.shape[1] % kernels.PANEL))),
            matrix(torch.stack([block.up.weight for block in blocks])),
            matrix(torch.stack([block.down.weight for block in blocks])),
        )

    def __call__(self, x: np.ndarray, state: State | None) -> tuple[np.ndarray, State]:
        """(T, C), which it writes over, and the state -> (T, C), and the next state."""
        layers, width, size = self._taps.shape
        pasts = state[0].numpy() if state is not None else np.zeros((layers, width - 1, size), np.float32)
        newer = np.empty_like(pasts)  # a state is never written over: marks hold it
        kernels.convolve(x, pasts, newer, self._taps, *self._weights)
        return x, [torch.from_numpy(newer)]


class _Filters:
    """Triangular filters, each by the few bins where it is not zero."""

    def __init__(self, filters: np.ndarray) -> None:
        """(bins, bands)"""
        inside = filters > 0.0
        self._first = np.where(inside.any(axis=0), inside.argmax(axis=0), 0)
        self._stop = np.where(inside.any(axis=0), len(filters) - inside[::-1].argmax(axis=0), 0)
        self._filters = np.ascontiguousarray(filters.T)

    def __call__(self, power: np.ndarray) -> np.ndarray:
        """(T, bins) -> (T, bands)"""
        out = np.empty((len(power), len(self._filters)), np.float32)
        kernels.banded(power, self._filters, self._first, self._stop, out)
        return out


class _Grid:
    """All of a frame's quantisers at once: see `tokenizers.quantize.FSQ`. D dimensions, one after the other."""

    def __init__(self, config: AudioTokenizerConfig) -> None:
        groups = [config.semantic_levels, *[config.acoustic_levels] * config.num_acoustic]
        self._sizes = [len(group) for group in groups]
        self._starts = np.cumsum([0, *self._sizes[:-1]])
        self._levels = np.concatenate([np.array(group) for group in groups])  # (D,)
        self._basis = np.concatenate([np.cumprod((1, *group[:-1])) for group in groups])
        self._half = ((self._levels - 1) / 2).astype(np.float32)
        self._offset = np.where(self._levels % 2 == 0, 0.5, 0.0).astype(np.float32)

    def codes(self, x: np.ndarray) -> np.ndarray:
        """(F, D) -> (F, 1 + num_acoustic) int64"""
        bounded = np.tanh(x * np.float32(SPREAD)) * (self._half + np.float32(0.49))
        digits = np.rint(bounded - self._offset) + self._offset
        digits = np.minimum(np.maximum(digits, -self._half), self._half)
        whole = np.rint(digits + self._half).astype(np.int64)
        return np.add.reduceat(whole * self._basis, self._starts, axis=1)

    def values(self, codes: np.ndarray) -> np.ndarray:
        """(F, 1 + num_acoustic) -> (F, D) float32 in [-1, 1]"""
        digits = np.repeat(codes, self._sizes, axis=1) // self._basis % self._levels
        return (digits.astype(np.float32) - self._half) / self._half
