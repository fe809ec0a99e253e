"""An answer begun before the user has surely finished, so that its first sound can leave with the decision.

It is made on a fork of the engine's conversation, which took the turn for over at some sample, while the conversation
itself goes on listening. If the user goes on too, nothing of it ever was. If not, the turn is what was heard until
then, and the fork is the conversation from there on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace

from sensorium.engine.request import (
    AudioDelta,
    Conversation,
    Event,
    InputTranscriptDelta,
    Mark,
    SamplingParams,
    Tally,
    TextDelta,
    Usage,
)


class Draft:
    def __init__(
        self, live: Conversation, num_heard: int, params: SamplingParams, *, heard: Sequence[InputTranscriptDelta]
    ) -> None:
        """`live` is a fork in whose turn `num_heard` samples were heard, and `heard` in them."""
        self.live = live
        self.num_heard = num_heard
        self.heard = list(heard)  # with the rest of it, when the turn has been heard out
        self.before: Mark | None = None  # the answer; known when the turn has been heard out
        self.num_free = live.num_free  # positions before the answer
        self._tally = Tally()
        self._params = replace(params, tally=self._tally)
        self._events: deque[Event] = deque()
        self._news = asyncio.Event()
        self._heard_out = asyncio.Event()
        self._wanted = asyncio.Event()
        self._task = asyncio.create_task(self._make())
        self._task.add_done_callback(self._wake)

    def answers(self, params: SamplingParams) -> bool:
        """Whether it is what would be answered so; of the seeds one is as good as another."""
        return replace(params, seed=0) == replace(self._params, seed=0)

    async def hear_out(self) -> None:
        """Waits until the turn's transcript is known. Raises what the engine raised."""
        await self._heard_out.wait()
        if self.before is None:
            await self._task

    async def events(self, tally: Tally | None) -> AsyncGenerator[Event, None]:
        """The answer: what there is of it, then the rest. `tally` counts all of it. Closing it stops the answer."""
        self._wanted.set()
        if tally is not None:
            tally.count = lambda: self._tally.usage or Usage()
        try:
            while self._events or not self._task.done():
                if self._events:
                    yield self._events.popleft()
                else:
                    self._news.clear()
                    await self._news.wait()
            await self._task
        finally:
            await self.drop()

    async def drop(self) -> None:
        self._task.cancel()
        await asyncio.wait((self._task,))

    async def _make(self) -> None:
        self.heard += transcribed(await self.live.finish())
        self.num_free = self.live.num_free
        self.before = await self.live.mark()
        self._heard_out.set()
        events = self.live.answer(self._params)
        assert isinstance(events, AsyncGenerator), "an engine's answer must be closeable"
        async with aclosing(events):
            async for event in events:
                self._events.append(event)
                self._news.set()
                if isinstance(event, AudioDelta | TextDelta):  # more than its beginning is not made in vain
                    await self._wanted.wait()

    def _wake(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()  # is raised to who asks for the answer, if anybody does
        self._heard_out.set()
        self._news.set()


def transcribed(events: Iterable[Event]) -> list[InputTranscriptDelta]:
    """What was heard, of all that happened."""
    return [event for event in events if isinstance(event, InputTranscriptDelta)]
