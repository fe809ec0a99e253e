"""Tile, the image tokenizer: a 64 x 64 picture <-> an 8 x 8 grid of patches, each of one code or several.

    pixels -> unshuffle 4 -> residual convolutions at 16 x 16 -> unshuffle 2 -> at 8 x 8 -> feature z
    z -> FSQ 8,5,5,5 (c0) and num_residuals FSQ 4,4,4,4 (c1..cR): 10 + 8 R bits a patch
    codes -> convolutions at 8 x 8 -> shuffle 2 -> at 16 x 16 -> shuffle 4 -> pixels

The network sees the continuous features beside the codes (what is lost in so few bits still matters for reading); it
draws with the codes. Later residual codes are dropped at random in training, which orders them coarse to fine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isqrt
from typing import NamedTuple

import numpy as np
import PIL.Image
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.tokenizers.quantize import FSQ


@dataclass(frozen=True, kw_only=True)
class ImageTokenizerConfig:
    image_size: int = 64  # pixels, square
    grid: int = 8  # patches along one side
    channels: tuple[int, int] = (96, 192)  # at 16 x 16, at 8 x 8
    blocks: tuple[int, int] = (2, 2)
    feature_size: int = 192
    levels: tuple[int, ...] = (8, 5, 5, 5)
    residual_levels: tuple[int, ...] = (4, 4, 4, 4)
    num_residuals: int = 0  # 3 make drawings crisp

    @property
    def num_patches(self) -> int:
        return self.grid**2

    @property
    def patch_size(self) -> int:
        return self.image_size // self.grid


class ImagePatches(NamedTuple):
    codes: Tensor  # (B, P, 1 + num_residuals) int64, raster order
    features: Tensor  # (B, P, feature_size)


class ResBlock(nn.Module):
    """Two 3 x 3 convolutions. (B, C, H, W) -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.5 * self.second(F.gelu(self.first(F.gelu(self.norm(x)))))


class ImageTokenizer(nn.Module):
    def __init__(self, config: ImageTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        fine, coarse = config.channels
        fine_blocks, coarse_blocks = config.blocks
        self.quantizer = FSQ(config.levels)
        self.residual = FSQ(config.residual_levels)
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(48, fine, 3, padding=1),
            *(ResBlock(fine) for _ in range(fine_blocks)),
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * fine, coarse, 1),
            *(ResBlock(coarse) for _ in range(coarse_blocks)),
            nn.GroupNorm(8, coarse),
            nn.Conv2d(coarse, config.feature_size, 1),
        )
        self.to_code = nn.Linear(config.feature_size, self.quantizer.size)
        residual_values = config.num_residuals * self.residual.size
        self.to_residual = nn.Linear(config.feature_size, residual_values) if residual_values else None
        self.decoder = nn.Sequential(
            nn.Conv2d(self.quantizer.size + residual_values, coarse, 3, padding=1),
            *(ResBlock(coarse) for _ in range(coarse_blocks)),
            nn.Conv2d(coarse, 4 * fine, 1),
            nn.PixelShuffle(2),
            *(ResBlock(fine) for _ in range(fine_blocks)),
            nn.GroupNorm(8, fine),
            nn.Conv2d(fine, 48, 3, padding=1),
            nn.PixelShuffle(4),
        )

    def features(self, pixels: Tensor) -> Tensor:
        """pixels: (B, 3, S, S) in [-1, 1] -> (B, P, feature_size)."""
        return self.encoder(pixels).flatten(2).transpose(1, 2)

    def quantize(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """features (B, P, feature_size) -> values (B, P, V) with straight-through gradient, codes (B, P, 1 + R)."""
        features = F.layer_norm(features, (self.config.feature_size,))
        values, codes = self.quantizer(self.to_code(features))
        codes = codes.unsqueeze(-1)
        if self.to_residual is None:
            return values, codes
        residual, rest = self.residual(self.to_residual(features).unflatten(-1, (-1, self.residual.size)))
        return torch.cat((values, residual.flatten(2)), dim=-1), torch.cat((codes, rest), dim=-1)

    def values(self, codes: Tensor) -> Tensor:
        """codes (B, P, 1 + k), k <= R -> values (B, P, V), the decoder's input, zero for missing residual codes."""
        residual = self.residual.values(codes[..., 1:]).flatten(2)
        missing = (self.config.num_residuals + 1 - codes.shape[-1]) * self.residual.size
        return F.pad(torch.cat((self.quantizer.values(codes[..., 0]), residual), dim=-1), (0, missing))

    def reconstruct(self, values: Tensor) -> Tensor:
        """values: (B, P, V) -> pixels (B, 3, S, S), about [-1, 1]."""
        grid = self.config.grid
        return self.decoder(values.transpose(1, 2).unflatten(2, (grid, grid)))

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> ImagePatches:
        """pixels: (B, S, S, 3) uint8 -> codes and features."""
        size = self.config.image_size
        if pixels.shape[1:] != (size, size, 3):
            raise ValueError(f"expected pictures of {size} x {size} x 3, got {tuple(pixels.shape[1:])}")
        features = self.features(pixels.permute(0, 3, 1, 2).float() / 127.5 - 1.0)
        _, codes = self.quantize(features)
        return ImagePatches(codes, features)

    @torch.inference_mode()
    def decode(self, codes: Tensor) -> Tensor:
        """codes: (B, P, 1 + k), k <= num_residuals -> pixels (B, S, S, 3) uint8; the fewer codes, the blurrier."""
        pixels = self.reconstruct(self.values(codes))
        return ((pixels.clamp(-1.0, 1.0) + 1.0) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)


def coarsened(features: Tensor, stride: int) -> Tensor:
    """Features of a square grid (B, P, D) -> of one whose patches stand for stride x stride of them: their mean."""
    side = isqrt(features.shape[1])
    grid = features.transpose(1, 2).unflatten(2, (side, side))  # (B, D, G, G)
    return F.avg_pool2d(grid, stride).flatten(2).transpose(1, 2)


def deepened(given: ImageTokenizer, blocks: tuple[int, int]) -> ImageTokenizer:
    """A copy with more blocks, which begin as identity: it computes the same. Raises ValueError for fewer of them."""
    if any(new < old for new, old in zip(blocks, given.config.blocks, strict=True)):
        raise ValueError(f"a picture tokenizer of blocks {given.config.blocks} cannot have {blocks}")
    deeper = ImageTokenizer(replace(given.config, blocks=blocks))
    for name in ("encoder", "decoder"):
        old, at = list(getattr(given, name)), 0
        for layer in getattr(deeper, name):
            if at < len(old) and type(layer) is type(old[at]):
                layer.load_state_dict(old[at].state_dict())
                at += 1
            else:
                assert isinstance(layer, ResBlock)
                for parameter in layer.second.parameters():
                    nn.init.zeros_(parameter)
        assert at == len(old)
    deeper.to_code.load_state_dict(given.to_code.state_dict())
    if deeper.to_residual is not None and given.to_residual is not None:
        deeper.to_residual.load_state_dict(given.to_residual.state_dict())
    return deeper


def fit_square(pixels: np.ndarray, size: int) -> np.ndarray:
    """(H, W, 3) uint8 -> (size, size, 3): scaled as a whole, and centred on the colour of its own border."""
    height, width, _ = pixels.shape
    scaled = _fitted(width, height, size)
    picture = PIL.Image.fromarray(pixels)
    if picture.size != scaled:
        picture = picture.resize(scaled, PIL.Image.Resampling.LANCZOS)
    if scaled == (size, size):
        return np.array(picture)
    border = np.concatenate((pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))
    square = np.empty((size, size, 3), dtype=np.uint8)
    square[:] = np.median(border, axis=0)
    top, left = (size - scaled[1]) // 2, (size - scaled[0]) // 2
    square[top : top + scaled[1], left : left + scaled[0]] = np.asarray(picture)
    return square


def fit_hole(hole: np.ndarray, size: int) -> np.ndarray:
    """A hole in a picture, (H, W) bool -> (size, size) bool: the pixels of the fitted picture that it touches."""
    touched = np.zeros((size, size), dtype=bool)
    part = _touched(hole, size)
    top, left = (size - part.shape[0]) // 2, (size - part.shape[1]) // 2
    touched[top : top + part.shape[0], left : left + part.shape[1]] = part
    return touched


def filled(pixels: np.ndarray, hole: np.ndarray, size: int) -> np.ndarray:
    """A picture (H, W, 3) uint8 whose hole, (H, W) bool, is filled from its edges inwards with what lies around it.

    That is done as coarsely as the picture is seen that is fitted into a square of `size`.
    """
    touched = _touched(hole, size)
    seen = PIL.Image.fromarray(pixels).resize(touched.shape[::-1], PIL.Image.Resampling.BOX)
    colours, known = np.where(touched[:, :, None], 0.0, np.asarray(seen)), ~touched
    while known.any() and not known.all():
        padded, weights = np.pad(colours, ((1, 1), (1, 1), (0, 0))), np.pad(known, 1).astype(float)
        around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
        count = weights[:-2, 1:-1] + weights[2:, 1:-1] + weights[1:-1, :-2] + weights[1:-1, 2:]
        new = ~known & (count > 0)
        colours[new] = around[new] / count[new][:, None]
        known = known | new
    filling = PIL.Image.fromarray(colours.round().astype(np.uint8))
    whole = np.asarray(filling.resize((hole.shape[1], hole.shape[0]), PIL.Image.Resampling.BILINEAR))
    return np.where(hole[:, :, None], whole, pixels)


def _touched(hole: np.ndarray, size: int) -> np.ndarray:
    """(H, W) bool -> of the picture scaled to fit a square, but without the bars beside it."""
    height, width = hole.shape
    new_width, new_height = _fitted(width, height, size)
    return _overlaps(new_height, height) @ hole.astype(np.float32) @ _overlaps(new_width, width).T > 0.0


def _overlaps(count: int, of: int) -> np.ndarray:
    """(count, of) float32: whether a pixel lies in part on one of another size, where both cover the same length."""
    new, old = np.arange(count)[:, None], np.arange(of)
    return ((new * of < (old + 1) * count) & ((new + 1) * of > old * count)).astype(np.float32)


def _fitted(width: int, height: int, size: int) -> tuple[int, int]:
    """(width, height) of a picture scaled to fit a square."""
    scale = size / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))
