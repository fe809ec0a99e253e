"""A larger network that begins as a smaller one: with more channels, heads, hidden units and layers.

What is new writes nothing at first: further channels of the residual stream are zero, further heads, units and layers
have output projections of zero, as in a fresh network. So the larger network computes what the smaller one does (the
function-preserving growth of Net2Net, arXiv 1511.05641), and every new part gets a gradient from the first step on.

Further channels of zero make an RMSNorm's output larger by s = sqrt(larger width / smaller width). The residual stream
is then s times the old one everywhere, which the scales below keep so; queries and keys are normed and need none.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from sensorium.model.config import ModelConfig
from sensorium.model.transformer import Transformer


class _Rule(NamedTuple):
    """How the matrices whose names end so take their place in the leading corner of larger ones."""

    ending: str
    power: float  # of s, that the given weights are multiplied by
    fresh_rows: bool = False  # whether further outputs keep their random weights: all others are zero


_RULES = (
    _Rule("query.weight", 0.0, True),
    _Rule("key.weight", 0.0, True),
    _Rule("value.weight", 0.0, True),
    _Rule("attention.output.weight", 0.0),
    _Rule("value_gate.weight", -1.0),
    _Rule("mlp.up.weight", -0.5, True),  # what follows is squared
    _Rule("mlp.down.weight", 0.0),
    _Rule("symbol_head.projection.weight", -1.0),
    _Rule("depth_head.hidden", -1.0),
    _Rule("embed.symbol.weight", 0.0),
    _Rule("embed.residual.weight", 0.0),
    _Rule("embed.patch.weight", 0.0),
    _Rule("embed.patch_residual.weight", 0.0),
    _Rule("embed.heard.weight", 0.0),
    _Rule("embed.seen.weight", 0.0),
)

_MAY_GROW = ("num_layers", "hidden_size", "num_heads")


def check_growth(config: ModelConfig, given: ModelConfig) -> None:
    """Raises ValueError, naming the field, if a network of the shape `given` cannot grow into one of `config`: if it is
    larger, or more than layers, width and heads differ."""
    for name in ModelConfig.__dataclass_fields__:
        ours, theirs = getattr(config, name), getattr(given, name)
        if ours != theirs and not (name in _MAY_GROW and ours > theirs):
            raise ValueError(f"a network of {name} {theirs!r} cannot grow into one of {ours!r}")
    if config.ffn != "shared" and config.hidden_size != given.hidden_size:
        raise ValueError(f"a network of ffn {config.ffn!r} cannot grow wider")


@torch.no_grad()
def grow(model: Transformer, given: Transformer) -> None:
    """Fills a freshly made `model` with the weights of a network that is as large or smaller, so that it computes the
    same. Raises ValueError as `check_growth` does.
    """
    check_growth(model.config, given.config)
    weights = given.state_dict()
    s = (model.config.hidden_size / given.config.hidden_size) ** 0.5
    for name, own in model.state_dict().items():
        if name not in weights:
            continue  # a further layer, which begins as identity
        old = weights[name]
        corner = tuple(slice(size) for size in old.shape)
        if name.endswith("value_embedding.weight"):  # the further columns are those of further heads
            own[corner] = s * old
        elif own.ndim == 1:  # scales of the layers
            own[corner] = old
        elif rule := next((rule for rule in _RULES if name.endswith(rule.ending)), None):
            own[: len(old) if rule.fresh_rows else None] = 0.0
            own[corner] = s**rule.power * old
        else:
            assert own.shape == old.shape, name
            own.copy_(old)
