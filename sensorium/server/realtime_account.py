"""What a call uses, charged to whoever calls: its answers, and what is written down of what it hears.

Sound counts once towards limits, however much is made of it. So do positions: what was heard live is in the prompt of
the answer to it, and of a transcript only those are counted that no answer reads.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Literal

from sensorium.engine.request import Usage
from sensorium.server.config import ServerConfig
from sensorium.server.conversation import Item
from sensorium.server.metering import Charge, Meter
from sensorium.server.metrics import Metrics


class Account:
    payer: Any  # the state of the call's socket, while it has one

    def __init__(self, meter: Meter, metrics: Metrics, config: ServerConfig, *, model: str, rate_hz: int) -> None:
        self._meter = meter
        self._metrics = metrics
        self._model = model
        self._names = config.model_aliases
        self._rate_hz = rate_hz
        self._prompt_tokens = 0  # of the last answer: the next one reads more
        self._heard: set[str] = set()  # ids of items whose sound has been charged for

    async def begin_answer(self, limit: int | Literal["inf"]) -> Charge:
        """Raises APIError 429 where a limit is reached."""
        estimate = self._prompt_tokens + (0 if limit == "inf" else limit)
        return await self._meter.begin(self.payer, self._model, tokens=estimate)

    def count_answer(self, charge: Charge, usage: Usage, items: Iterable[Item]) -> None:
        """What an answer to these items came to, up to now."""
        self._metrics.count_tokens(usage)
        self._prompt_tokens = usage.input_tokens or self._prompt_tokens
        new = [item for item in items if item.role == "user" and item.id not in self._heard]
        self._heard.update(item.id for item in new)
        charge.add(usage, heard_s=sum(map(self._sound_s, new)))

    async def check(self, writer: str | None) -> None:
        """`writer` is the model that the client would have write. Raises APIError 429 where a limit is reached."""
        await self._meter.check(self.payer, self._named(writer))

    @asynccontextmanager
    async def transcript(self, item: Item, writer: str | None) -> AsyncGenerator[Callable[[int | None], None]]:
        """Around what is told of an item's words. The function is told how many tokens they came to, None where an
        answer will read them. Raises APIError as `check` does: nobody knows how long a turn will be, so only what went
        before it is in its way."""
        charge = await self._meter.begin(self.payer, self._named(writer), tokens=0, kind="audio_transcriptions")

        def count(num_tokens: int | None) -> None:
            sound_s = self._sound_s(item)
            usage = Usage()
            if num_tokens is not None:
                usage = Usage(input_audio=round(self._meter.audio_tokens(sound_s)), output_text=num_tokens)
            self._metrics.count_tokens(usage)
            self._heard.add(item.id)
            charge.add(usage, heard_s=sound_s)

        async with charge:
            yield count

    def _named(self, writer: str | None) -> str:
        """A name of the model that is served, which is the only one there is: any other is the client's own."""
        return writer if writer in self._names else self._model

    def _sound_s(self, item: Item) -> float:
        return sum(map(len, item.sounds)) / self._rate_hz
