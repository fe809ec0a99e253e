"""From logits to a symbol. One answer has one `Sampler`: its random numbers are its own, so a seed gives one answer."""

from __future__ import annotations

import numpy as np

from sensorium.engine.grammar import Kind, Span
from sensorium.engine.request import SamplingParams, ToolChoice
from sensorium.tokenizers import vocab


class Sampler:
    """First the kind of symbol (text or sound, where both are legal), then one of that kind at its own temperature.

    So greedy text stays greedy while the sound beside it is sampled.
    """

    def __init__(self, params: SamplingParams) -> None:
        self._params = params
        self._rng = np.random.default_rng(params.seed)
        self._temperatures = {
            Kind.LANGUAGE: params.temperature,
            Kind.AUDIO: params.audio_temperature,
            Kind.IMAGE: params.image_temperature,
        }

    def symbol(self, logits: np.ndarray, spans: tuple[Span, ...]) -> int:
        """(V,) logits -> one of the legal symbols."""
        masked = [
            np.where(span.legal, logits[span.start : span.start + len(span.legal)], -np.inf).astype(np.float32)
            for span in spans
        ]
        chosen = 0
        if len(spans) > 1:
            masses = np.array([_log_sum_exp(part) for part in masked])
            chosen = self._draw(masses, self._params.temperature, 1.0)
        span, part = spans[chosen], masked[chosen]
        top_p = self._params.top_p if span.kind is Kind.LANGUAGE else 1.0
        return span.start + self._draw(part, self._temperatures[span.kind], top_p)

    def frame_code(self, logits: np.ndarray) -> int:
        """A residual code of a spoken frame."""
        return self._draw(logits, self._params.audio_temperature, 1.0)

    def patch_code(self, logits: np.ndarray, unconditional: np.ndarray | None = None) -> int:
        """A residual code of a drawn patch."""
        return self._draw(self.guided(logits, unconditional), self._params.image_temperature, 1.0)

    def guided(self, logits: np.ndarray, unconditional: np.ndarray | None = None) -> np.ndarray:
        """Classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598): away from what nobody asked for."""
        if unconditional is None:
            return logits
        return unconditional + self._params.guidance_scale * (logits - unconditional)

    def _draw(self, logits: np.ndarray, temperature: float, top_p: float) -> int:
        if temperature <= 0.0:
            return int(logits.argmax())
        weights = np.exp((logits - logits.max()) / temperature)
        if top_p < 1.0:
            weights = _nucleus(weights, top_p)
        heights = np.cumsum(weights, dtype=np.float64)
        height = (1.0 - self._rng.random()) * heights[-1]  # never 0, so never a symbol without weight
        return int(np.searchsorted(heights, height))


def probability(logits: np.ndarray, span: Span, symbol: int) -> float:
    """How likely one symbol of a span is among its legal ones."""
    legal = logits[span.start : span.start + len(span.legal)][span.legal]
    return float(np.exp(logits[symbol] - _log_sum_exp(legal)))


def opening(logits: np.ndarray, words: int, tool_choice: ToolChoice = "auto") -> int:
    """The form an answer opens with: a picture or a call if the network finds it likelier than words of either kind.

    `words` is the symbol for words that the request asks for, <|write|> or <|speak|>.
    """
    if tool_choice == "required":
        return vocab.CALL
    forms = (vocab.IMAGE,) if tool_choice == "none" else (vocab.IMAGE, vocab.CALL)
    wordless = max(forms, key=lambda symbol: logits[symbol])
    return words if np.logaddexp(logits[vocab.WRITE], logits[vocab.SPEAK]) >= logits[wordless] else wordless


def _nucleus(weights: np.ndarray, top_p: float) -> np.ndarray:
    """Keeps the likeliest symbols that together hold `top_p` of the mass (Holtzman et al. 2020, arXiv 1904.09751)."""
    order = np.argsort(-weights, kind="stable")
    heights = np.cumsum(weights[order])
    kept = order[: int(np.searchsorted(heights, top_p * heights[-1])) + 1]
    nucleus = np.zeros_like(weights)
    nucleus[kept] = weights[kept]
    return nucleus


def _log_sum_exp(logits: np.ndarray) -> float:
    top = logits.max()
    return float(top + np.log(np.exp(logits - top).sum()))
