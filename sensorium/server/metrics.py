"""What an operator watches, in a registry of its own so that two servers can live in one process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from sensorium.engine.request import Usage

_LATENCY_MS = (10, 25, 50, 75, 100, 150, 200, 250, 320, 500, 750, 1000, 2000, 5000, 10_000, 30_000, 60_000)


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # memory, processor time, open files
        self.requests = Counter(
            "sensorium_requests", "HTTP requests answered.", ["method", "route", "status"], registry=self.registry
        )
        self.in_flight = Gauge("sensorium_requests_in_flight", "HTTP requests being answered.", registry=self.registry)
        self.request_ms = self._latency("sensorium_request_ms", "From the first byte in to the last byte out.")
        self.ttft_ms = self._latency("sensorium_ttft_ms", "From the last byte in to the first text of the answer.")
        self.ttfa_ms = self._latency("sensorium_ttfa_ms", "From the last byte in to the first sound of the answer.")
        self.tokens = Counter(
            "sensorium_tokens", "Stream positions, by modality.", ["direction", "modality"], registry=self.registry
        )

        self.unoffered_calls = Counter(
            "sensorium_unoffered_tool_calls",
            "Tool calls left out of answers, since no function of that name was offered.",
            registry=self.registry,
        )

    def _latency(self, name: str, text: str) -> Histogram:
        return Histogram(name, text, ["route"], buckets=_LATENCY_MS, registry=self.registry)

    def count_tokens(self, usage: Usage) -> None:
        for direction in ("input", "output"):
            for modality in ("text", "audio", "image"):
                self.tokens.labels(direction, modality).inc(getattr(usage, f"{direction}_{modality}"))

    def exposition(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self.registry)
