"""From logits to a symbol. One answer has one `Sampler`: its random numbers are its own, so a seed gives one answer."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

from sensorium.engine import kernels
from sensorium.engine.grammar import Kind, Span
from sensorium.engine.request import SamplingParams
from sensorium.engine.runner import Draws
from sensorium.tokenizers import vocab
from sensorium.tokenizers.vocab import NUM_SPECIALS


class Scores(NamedTuple):
    """How likely a text symbol was, and the likeliest there: (symbol, log probability), falling."""

    logprob: float
    top: tuple[tuple[int, float], ...]


class Sampler:
    """First the kind of symbol (text or sound, where both are legal), then one of that kind at its own temperature.

    So greedy text stays greedy while the sound beside it is sampled. Greedy text comes at the median of its time: once
    it is as likely as not that it should have come by now. The likelier kind at each step would be wrong. A word whose
    moment is uncertain by three frames is never likelier than another frame, and would be left out.

    Penalties count the text symbols that this sampler drew; they and biases shift the logits of text symbols. `scores`
    tells of the last symbol, if it was text and scores were asked for. They are the network's own: a log-softmax of its
    logits over the text symbols that were legal there (symbols that end or open something are not among them), before
    biases, penalties, temperature and top-p.
    """

    def __init__(self, params: SamplingParams) -> None:
        self.scores: Scores | None = None
        self._params = params
        self._rng = np.random.default_rng(params.seed)
        self._counts: Counter[int] = Counter()  # of text symbols
        self._only_sound = 1.0  # how likely it was that all symbols since the last text are sound
        self._temperatures = {
            Kind.LANGUAGE: params.temperature,
            Kind.AUDIO: params.audio_temperature,
            Kind.IMAGE: params.image_temperature,
        }

    def symbol(self, logits: np.ndarray, spans: tuple[Span, ...]) -> int:
        """(V,) logits -> one of the legal symbols."""
        masked = [kernels.masked(self._shaped(logits, span), span.legal) for span in spans]
        chosen = 0
        if len(spans) > 1:
            chosen = self._kind(np.array([_log_sum_exp(part) for part in masked]))
        span, part = spans[chosen], masked[chosen]
        top_p = self._params.top_p if span.kind is Kind.LANGUAGE else 1.0
        if span.given is not None:
            symbol = span.given
        else:
            symbol = span.start + self._draw(part, self._temperatures[span.kind], top_p)
        is_text = span.kind is Kind.LANGUAGE and symbol >= NUM_SPECIALS
        if is_text:
            self._counts[symbol] += 1
        scored = is_text and self._params.top_logprobs is not None
        self.scores = None
        if scored:
            texts = NUM_SPECIALS + np.flatnonzero(span.legal[NUM_SPECIALS:])
            self.scores = scores_of(logits, texts, symbol, self._params.top_logprobs or 0)
        return symbol

    def _kind(self, masses: np.ndarray) -> int:
        """Which of two spans is next, text or sound: (2,) log masses -> index."""
        if self._params.temperature > 0.0:
            # a cooler draw would be late or never, like a greedy one; for float64 a kernel would be compiled, in a call
            return self._draw(masses.astype(np.float32), 1.0, 1.0)
        self._only_sound *= float(1.0 / (1.0 + np.exp(masses[0] - masses[1])))
        if self._only_sound >= 0.5:
            return 1
        self._only_sound = 1.0
        return 0

    def _shaped(self, logits: np.ndarray, span: Span) -> np.ndarray:
        """(N,) of the span's symbols, with what the request adds to those of text."""
        part = logits[span.start : span.start + len(span.legal)]
        params = self._params
        has_penalty = bool(params.frequency_penalty or params.presence_penalty) and bool(self._counts)
        if span.kind is not Kind.LANGUAGE or not (has_penalty or params.token_bias):
            return part
        part = part.astype(np.float32)
        if has_penalty:
            symbols, counts = np.array(list(self._counts)), np.array(list(self._counts.values()))
            part[symbols] -= params.frequency_penalty * counts + params.presence_penalty * (counts > 0)
        for index, bias in params.token_bias:
            part[NUM_SPECIALS + index] += bias
        return part

    def frame(self, num_codes: int) -> Draws:
        """How the residual codes of a spoken frame are chosen."""
        return self._draws(num_codes, self._params.audio_temperature)

    def drawn_patch(self, num_codes: int) -> Draws:
        """How those of a drawn patch are."""
        return self._draws(num_codes, self._params.image_temperature)

    def _draws(self, num_codes: int, temperature: float) -> Draws:
        heights = np.ones(num_codes) if temperature <= 0.0 else 1.0 - self._rng.random(num_codes)
        return Draws(np.float32(temperature), np.float32(self._params.guidance_scale), heights)

    def guided(self, logits: np.ndarray, unconditional: np.ndarray | None = None) -> np.ndarray:
        """Classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598): away from what nobody asked for."""
        if unconditional is None:
            return logits
        return unconditional + self._params.guidance_scale * (logits - unconditional)

    def _draw(self, logits: np.ndarray, temperature: float, top_p: float) -> int:
        if temperature > 0.0 and top_p < 1.0:
            logits = _nucleus(logits, temperature, top_p)
        height = 1.0 - self._rng.random() if temperature > 0.0 else 1.0  # never 0
        return int(kernels.draw(logits, np.float32(temperature), height))


def probability(logits: np.ndarray, span: Span, symbol: int) -> float:
    """How likely one symbol of a span is among its legal ones."""
    legal = logits[span.start : span.start + len(span.legal)][span.legal]
    return float(np.exp(logits[symbol] - _log_sum_exp(legal)))


def opening(logits: np.ndarray, words: int | None, forms: tuple[int, ...]) -> int:
    """The form an answer opens with: a picture or a call if the network finds it likelier than words of either kind.

    `words` is the symbol for words that the request asks for, <|write|> or <|speak|>, if it asks for any; `forms` are
    those allowed.
    """
    wordless = [symbol for symbol in forms if symbol not in (vocab.WRITE, vocab.SPEAK)]
    if not wordless:
        assert words is not None, "nothing may come"
        return words
    likeliest = max(wordless, key=lambda symbol: logits[symbol])
    if words is None or words not in forms:
        return likeliest
    return words if np.logaddexp(logits[vocab.WRITE], logits[vocab.SPEAK]) >= logits[likeliest] else likeliest


def scores_of(logits: np.ndarray, symbols: np.ndarray, symbol: int, num_top: int) -> Scores:
    """Of one of `symbols`, which rise, among all of them."""
    among = logits[symbols]
    logprobs = among - _log_sum_exp(among)
    order = np.argsort(-logprobs, kind="stable")[:num_top] if num_top else ()
    logprob = float(logprobs[np.searchsorted(symbols, symbol)])
    return Scores(logprob, tuple((int(symbols[at]), float(logprobs[at])) for at in order))


def _nucleus(logits: np.ndarray, temperature: float, top_p: float) -> np.ndarray:
    """Keeps the likeliest symbols that together hold `top_p` of the mass (Holtzman et al. 2020, arXiv 1904.09751)."""
    weights = np.exp((logits - logits.max()) / temperature)
    order = np.argsort(-weights, kind="stable")
    heights = np.cumsum(weights[order])
    kept = order[: int(np.searchsorted(heights, top_p * heights[-1])) + 1]
    nucleus = np.full_like(logits, -np.inf)
    nucleus[kept] = logits[kept]
    return nucleus


def _log_sum_exp(logits: np.ndarray) -> float:
    top = logits.max()
    return float(top + np.log(np.exp(logits - top).sum()))
