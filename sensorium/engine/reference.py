"""The slow and obvious way to write symbols: run the whole network over the whole stream again for every one.

No cache, no fused weights, no laziness. It is the oracle: tests hold `Sequence.generate` and `Listener` to it, symbol
for symbol.
"""

from __future__ import annotations

import numpy as np
import torch

from sensorium.engine.grammar import Alphabet, Grammar, State
from sensorium.engine.request import SamplingParams
from sensorium.engine.runner import Draws
from sensorium.engine.sampling import Sampler, opening
from sensorium.engine.sequence import Symbol
from sensorium.model.heads import DepthHead, DepthTransformer
from sensorium.model.transformer import Transformer
from sensorium.tokenizers import vocab
from sensorium.tokenizers.encoded import EncodedAudio
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
    config = model.config
    while not grammar.done and len(symbols) < max_symbols and len(stream) < config.max_seq_len:
        hiddens = [last_hidden(model, stream)]
        if plain is not None and grammar.patch is not None:
            hiddens.append(last_hidden(model, plain))
        logits = sampler.guided(*(model.symbol_head(hidden).numpy() for hidden in hiddens))
        if grammar.state is State.OPEN:
            choice = opening(logits, grammar.words, grammar.forms)
        else:
            choice = sampler.symbol(logits, grammar.legal())
        residuals = None
        if grammar.given is not None:
            residuals = grammar.given[1:] if len(grammar.given) > 1 else None
        elif grammar.vocabulary.is_audio(choice):
            code = choice - grammar.vocabulary.audio_start
            residuals = residual_codes(model.depth_head, hiddens, code, sampler.frame(config.num_residuals))
        elif grammar.vocabulary.is_image(choice) and model.image_depth_head is not None:
            code = choice - grammar.vocabulary.image_start
            drawn = sampler.drawn_patch(config.num_image_residuals)
            residuals = residual_codes(model.image_depth_head, hiddens, code, drawn)
        symbol = Symbol(choice, grammar.state, residuals, grammar.patch, sampler.scores)
        symbols.append(symbol)
        grammar.push(choice)
        symbol.onto(stream)
        if plain is not None and State.DRAW in (symbol.state, grammar.state):
            symbol.onto(plain)
    return symbols


@torch.inference_mode()
def listen(model: Transformer, stream: Stream, clip: EncodedAudio, alphabet: Alphabet) -> list[float]:
    """A whole turn heard live, appended to `stream`; returns the probability of <|turn|> after each frame."""
    assert clip.features is not None
    probabilities: list[float] = []
    grammar, sampler = Grammar.listening(alphabet), Sampler(SamplingParams())
    stream.add_all((vocab.USER, vocab.AUDIO, vocab.LISTEN))
    for codes, feature in zip(clip.codes, clip.features, strict=True):
        position = stream.add(alphabet.vocabulary.audio_start + int(codes[0]))
        stream.frames.append((position, codes[1:]))
        stream.heard.append((position, feature))
        grammar.push(stream.ids[-1])
        grammar.allow(model.config.max_seq_len - len(stream) - 5)  # what ends the turn, and begins an answer
        while True:
            logits = model.symbol_head(last_hidden(model, stream))
            [span] = grammar.legal()
            symbol = sampler.symbol(logits.numpy(), (span,))
            if symbol in (vocab.LISTEN, vocab.TURN):
                break
            stream.add(symbol)
            grammar.push(symbol)
        legal = torch.from_numpy(span.legal)
        probabilities.append(float(logits[: len(legal)].masked_fill(~legal, -torch.inf).softmax(dim=0)[vocab.TURN]))
    stream.add(vocab.TURN)
    grammar.push(vocab.TURN)
    grammar.allow(model.config.max_seq_len - len(stream) - 4)
    generate(model, stream, grammar, sampler)
    return probabilities


def last_hidden(model: Transformer, stream: Stream) -> torch.Tensor:
    """(C,)"""
    return model(collate_inputs([stream], model.config))[0, -1]


def residual_codes(
    head: DepthHead | DepthTransformer, hiddens: list[torch.Tensor], code: int, drawn: Draws
) -> np.ndarray:
    """(R,)"""
    codes = [code]
    for height in drawn.heights:
        logits = [head.step(hidden.unsqueeze(0), torch.tensor([codes]))[0].numpy() for hidden in hiddens]
        codes.append(draw(drawn.guided(np.stack(logits)), float(drawn.temperature), height))
    return np.array(codes[1:])


def draw(logits: np.ndarray, temperature: float, height: float) -> int:
    """`kernels.draw`"""
    if temperature <= 0.0:
        return int(logits.argmax())
    heights = np.cumsum(np.exp((logits - logits.max()) / temperature), dtype=np.float64)
    return int(np.searchsorted(heights, height * heights[-1]))
