"""From the residual stream to predictions: the main softmax, and the depth heads for residual codes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.model.attention import norm
from sensorium.model.config import ModelConfig


class SymbolHead(nn.Module):
    """One softmax over text, audio and image symbols: the softmax itself picks the modality."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.projection = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.cap = config.logit_cap

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., C) -> (..., V) float32. The soft cap does a z-loss's work (Gemma 2, arXiv 2408.00118)."""
        logits = self.projection(hidden).float()
        return self.cap * torch.tanh(logits / self.cap)


class DepthHead(nn.Module):
    """Residual codes q1..qR of one frame or patch, each conditioned on the codes before it by a prefix sum:

        x_k = W_k h + U_0[q0] + sum_{0<j<k} U_j[q_j];   x_k += MLP_k(norm x_k);   logits_k = H_k norm(x_k)

    In training every level is computed at once (a cumulative sum); in decoding it is R tiny steps. `independent`
    drops the sum (an ablation that is expected to lose: Moshi, arXiv 2410.00037, table 5).
    K = R levels, d = depth_size.
    """

    def __init__(self, config: ModelConfig, *, num_codes: int, num_residuals: int, residual_size: int) -> None:
        super().__init__()
        levels, size, width = num_residuals, config.hidden_size, config.depth_size
        self.num_residuals = levels
        self.residual_size = residual_size
        self.conditional = config.depth_head != "independent"
        self.hidden = nn.Parameter(torch.empty(levels, size, width))
        self.first = nn.Embedding(num_codes, width)
        self.previous = nn.Embedding((levels - 1) * residual_size, width)
        self.up = nn.Parameter(torch.empty(levels, width, 2 * width))
        self.down = nn.Parameter(torch.empty(levels, 2 * width, width))
        self.logits = nn.Parameter(torch.empty(levels, width, residual_size))

    def forward(self, hidden: Tensor, codes: Tensor) -> Tensor:
        """hidden: (N, C), codes: (N, 1+R) the true q0..qR -> logits (N, R, residual_size) float32."""
        x = torch.einsum("nc,kcd->knd", hidden, self.hidden)  # (K, N, d)
        x = x + self._context(codes).to(x.dtype).transpose(0, 1)
        return self._predict(x, slice(None)).transpose(0, 1)

    def step(self, hidden: Tensor, codes: Tensor) -> Tensor:
        """hidden: (N, C), codes: (N, k) the codes q0..q_{k-1} chosen so far -> logits of q_k (N, residual_size)."""
        level = codes.shape[1] - 1
        x = hidden @ self.hidden[level]
        if self.conditional:
            x = x + self.first(codes[:, 0])
            if level:
                offsets = torch.arange(level, device=codes.device) * self.residual_size
                x = x + self.previous(codes[:, 1:] + offsets).sum(dim=1)
        return self._predict(x.unsqueeze(0), slice(level, level + 1))[0]

    def _context(self, codes: Tensor) -> Tensor:
        """(N, 1+R) -> (N, R, d): for level k the sum over the codes before it."""
        if not self.conditional:
            return torch.zeros(1, 1, 1, device=codes.device)
        levels = self.num_residuals
        offsets = torch.arange(levels - 1, device=codes.device) * self.residual_size
        terms = [self.first(codes[:, :1]), self.previous(codes[:, 1:levels] + offsets)]
        return torch.cat(terms, dim=1).cumsum(dim=1)

    def _predict(self, x: Tensor, levels: slice) -> Tensor:
        """(K, N, d) -> (K, N, residual_size)"""
        x = x + torch.bmm(F.relu(torch.bmm(norm(x), self.up[levels])).square(), self.down[levels])
        return torch.bmm(norm(x), self.logits[levels]).float()


class DepthTransformer(nn.Module):
    """The same task by a two-layer causal transformer over the codes of one frame (Moshi's way): the ablation's rival.

    Position k holds W_k h + U_k[q_k] and predicts q_{k+1}; `step` computes the few positions again each time.
    """

    NUM_LAYERS = 2

    def __init__(self, config: ModelConfig, *, num_codes: int, num_residuals: int, residual_size: int) -> None:
        super().__init__()
        levels, size, width = num_residuals, config.hidden_size, config.depth_size
        self.num_residuals = levels
        self.residual_size = residual_size
        self.hidden = nn.Parameter(torch.empty(levels, size, width))
        self.first = nn.Embedding(num_codes, width)
        self.previous = nn.Embedding((levels - 1) * residual_size, width)
        self.mix = nn.ParameterList(nn.Parameter(torch.empty(3, width, width)) for _ in range(self.NUM_LAYERS))
        self.up = nn.ParameterList(nn.Parameter(torch.empty(1, width, 4 * width)) for _ in range(self.NUM_LAYERS))
        self.down = nn.ParameterList(nn.Parameter(torch.empty(1, 4 * width, width)) for _ in range(self.NUM_LAYERS))
        self.logits = nn.Parameter(torch.empty(levels, width, residual_size))

    def forward(self, hidden: Tensor, codes: Tensor) -> Tensor:
        """hidden: (N, C), codes: (N, 1+R) -> logits (N, R, residual_size) float32."""
        return self._predict(hidden, codes[:, : self.num_residuals])

    def step(self, hidden: Tensor, codes: Tensor) -> Tensor:
        """hidden: (N, C), codes: (N, k) -> logits of q_k (N, residual_size)."""
        return self._predict(hidden, codes)[:, -1]

    def _predict(self, hidden: Tensor, codes: Tensor) -> Tensor:
        levels = codes.shape[1]
        offsets = torch.arange(levels - 1, device=codes.device) * self.residual_size
        embedded = torch.cat((self.first(codes[:, :1]), self.previous(codes[:, 1:] + offsets)), dim=1)  # (N, k, d)
        x = torch.einsum("nc,kcd->nkd", hidden, self.hidden[:levels])
        x = x + embedded.to(x.dtype)
        for mix, up, down in zip(self.mix, self.up, self.down, strict=True):
            query, key, value = torch.einsum("nkd,wde->wnke", norm(x), mix)
            x = x + F.scaled_dot_product_attention(norm(query), norm(key), value, is_causal=True)
            x = x + F.relu(norm(x) @ up[0]).square() @ down[0]
        return torch.einsum("nkd,kdv->nkv", norm(x), self.logits[:levels]).float()


def depth_head(config: ModelConfig) -> DepthHead | DepthTransformer:
    """The one for audio frames."""
    kind = _kind(config)
    return kind(
        config, num_codes=config.audio_codes, num_residuals=config.num_residuals, residual_size=config.residual_size
    )


def image_depth_head(config: ModelConfig) -> DepthHead | DepthTransformer | None:
    """The one for image patches, if they have residual codes."""
    if not config.num_image_residuals:
        return None
    kind = _kind(config)
    return kind(
        config,
        num_codes=config.image_codes,
        num_residuals=config.num_image_residuals,
        residual_size=config.image_residual_size,
    )


def _kind(config: ModelConfig) -> type[DepthHead] | type[DepthTransformer]:
    return DepthTransformer if config.depth_head == "transformer" else DepthHead
