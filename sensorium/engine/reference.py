"""The slow and obvious way to write symbols: run the whole network over the whole stream again for every one.

No cache, no fused weights, no laziness. It is the oracle: a test holds `Sequence.generate` to it, symbol for symbol.
"""

from __future__ import annotations

import numpy as np
import torch

from sensorium.engine.grammar import Grammar, State
from sensorium.engine.sampling import Sampler, opening
from sensorium.engine.sequence import Symbol
from sensorium.model.transformer import Transformer
from sensorium.tokenizers.stream import Stream, collate_inputs


@torch.inference_mode()
def generate(
    model: Transformer,
    stream: Stream,
    grammar: Grammar,
    sampler: Sampler,
    *,
    plain: Stream | None = None,
    max_symbols: int = 1024,
) -> list[Symbol]:
    """What the network writes after `stream`, to which it is appended. `plain`: see `Sequence.generate`."""
    symbols: list[Symbol] = []
    while not grammar.done and len(symbols) < max_symbols and len(stream) < model.config.max_seq_len:
        hidden = last_hidden(model, stream)
        logits = model.symbol_head(hidden).numpy()
        if plain is not None and grammar.patch is not None:
            logits = sampler.guided(logits, model.symbol_head(last_hidden(model, plain)).numpy())
        if grammar.state is State.OPEN:
            choice = opening(logits, grammar.words, grammar.tool_choice)
        else:
            choice = sampler.symbol(logits, grammar.legal())
        residuals = None
        if grammar.vocabulary.is_audio(choice):
            residuals = frame_residuals(model, hidden, choice - grammar.vocabulary.audio_start, sampler)
        symbol = Symbol(choice, grammar.state, residuals, grammar.patch)
        symbols.append(symbol)
        grammar.push(choice)
        append(stream, symbol)
        if plain is not None:
            append(plain, symbol)
    return symbols


def last_hidden(model: Transformer, stream: Stream) -> torch.Tensor:
    """(C,)"""
    config = model.config
    inputs = collate_inputs([stream], num_residuals=config.num_residuals, feature_size=config.feature_size)
    return model(inputs)[0, -1]


def frame_residuals(model: Transformer, hidden: torch.Tensor, code: int, sampler: Sampler) -> np.ndarray:
    """(R,)"""
    codes = [code]
    for _ in range(model.config.num_residuals):
        logits = model.depth_head.step(hidden.unsqueeze(0), torch.tensor([codes]))[0]
        codes.append(sampler.code(logits.numpy()))
    return np.array(codes[1:])


def append(stream: Stream, symbol: Symbol) -> None:
    position = stream.add(symbol.id)
    if symbol.residuals is not None:
        stream.frames.append((position, symbol.residuals))
    if symbol.patch is not None:
        stream.patches.append((position, symbol.patch))
