"""The network: one causal transformer over one stream. Read this first.

    ids, media content -> StreamEmbedding -> norm -> [Block] x L -> norm -> hidden
    hidden -> SymbolHead                      the next symbol, of whatever modality
    hidden -> DepthHead (after an audio code) the frame's residual codes; after an image code, the patch's

RMSNorm, QK-norm, RoPE, ReLU squared, zero-init output projections, value embeddings on alternate layers, per-layer
residual scales and a skip from the embedding: the nanochat / modded-nanogpt line of small strong transformers.
B batch, T positions, C hidden size, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.model.attention import Attention, norm
from sensorium.model.cache import KVCache
from sensorium.model.config import HEAD_DIM, ModelConfig
from sensorium.model.embed import StreamEmbedding, StreamInputs
from sensorium.model.heads import SymbolHead, depth_head, image_depth_head
from sensorium.model.rope import Rope


class MLP(nn.Module):
    """ReLU squared, four times wide (So et al. 2021, arXiv 2109.08668)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.up = nn.Linear(size, 4 * size, bias=False)
        self.down = nn.Linear(4 * size, size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.relu(self.up(x)).square())


class GroupedMLP(nn.Module):
    """Two MLPs, one for language positions and one for signal positions (mixture of transformers, arXiv 2411.04996).

    The same FLOPs per position as one MLP; audio gradients cannot disturb the text MLP.
    """

    def __init__(self, size: int, signal_start: int) -> None:
        super().__init__()
        self.language = MLP(size)
        self.signal = MLP(size)
        self.signal_start = signal_start

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        flat, is_signal = x.flatten(0, 1), (ids >= self.signal_start).flatten()
        out = torch.empty_like(flat)
        for mlp, rows in ((self.language, ~is_signal), (self.signal, is_signal)):
            at = rows.nonzero().squeeze(-1)
            out = out.index_copy(0, at, mlp(flat[at]).to(out.dtype))
        return out.view_as(x)


class Block(nn.Module):
    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        has_value_embedding = config.value_embeddings and layer % 2 == 1
        self.layer = layer
        self.attention = Attention(config, has_value_embedding=has_value_embedding)
        size = config.hidden_size
        self.mlp = MLP(size) if config.ffn == "shared" else GroupedMLP(size, config.audio_start)

    def forward(self, x: Tensor, ids: Tensor, rope: Rope, cache: KVCache | None) -> Tensor:
        x = x + self.attention(norm(x), ids, rope, cache, self.layer)
        y = norm(x)
        return x + (self.mlp(y) if isinstance(self.mlp, MLP) else self.mlp(y, ids))


class Transformer(nn.Module):
    """The whole network. `forward` gives hidden states; the heads are called where they are needed."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = StreamEmbedding(config)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        self.residual_scale = nn.Parameter(torch.ones(config.num_layers))
        self.embed_scale = nn.Parameter(torch.zeros(config.num_layers))
        self.symbol_head = SymbolHead(config)
        self.depth_head = depth_head(config)
        self.image_depth_head = image_depth_head(config)
        self.rope = Rope(head_dim=HEAD_DIM, max_seq_len=config.max_seq_len, theta=config.rope_theta)
        self.init_weights()

    def forward(self, inputs: StreamInputs, cache: KVCache | None = None) -> Tensor:
        """-> hidden states (B, T, C), normed. With a cache, `inputs` continue the cached stream."""
        x = first = norm(self.embed(inputs))
        for layer, block in enumerate(self.blocks):
            x = self.residual_scale[layer] * x + self.embed_scale[layer] * first
            x = block(x, inputs.ids, self.rope, cache)
        if cache is not None:
            cache.advance(inputs.ids.shape[1])
        return norm(x)

    def new_cache(self, *, batch_size: int = 1, max_seq_len: int | None = None) -> KVCache:
        return KVCache(
            num_layers=self.config.num_layers,
            batch_size=batch_size,
            num_heads=self.config.num_heads,
            head_dim=HEAD_DIM,
            max_seq_len=max_seq_len or self.config.max_seq_len,
        )

    @torch.no_grad()
    def init_weights(self) -> None:
        """Uniform matrices of std 1/sqrt(fan-in); output projections are zero, so every block starts as identity."""
        for name, parameter in self.named_parameters():
            if (
                name.endswith(("attention.output.weight", "down.weight", "value_gate.weight"))
                or "depth_head.down" in name
            ):
                parameter.zero_()
            elif name.startswith(("residual_scale", "embed_scale")):
                continue
            elif name == "embed.symbol.weight":
                parameter.normal_(std=1.0)
            elif name.startswith(("embed.residual", "embed.patch")):
                parameter.normal_(std=0.2)
            elif name.endswith(("depth_head.first.weight", "depth_head.previous.weight")):
                parameter.normal_(std=0.2)
            elif name == "symbol_head.projection.weight":
                parameter.normal_(std=0.001)
            else:  # Linear weights are (out, in), the depth head's stacked ones (K, in, out)
                fan_in = parameter.shape[1]
                bound = (3.0 / fan_in) ** 0.5
                parameter.uniform_(-bound, bound)

    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())
