"""The engine's conversation, kept in step with a call's items: whatever happens to them, only what is new is computed.

What the engine has read is a list of keys, each with the mark before it. Items that changed or went away are forgotten
together with all that followed them, and what follows is read again.

Where the oldest items must make room, all that remains is read again, which takes longer than anybody waits for an
answer. So that is done ahead, by a second thread in no hurry, while the call goes on on the first.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Hashable, Sequence
from contextlib import aclosing
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from sensorium.engine.request import (
    ContextLengthExceeded,
    Event,
    InputTranscriptDelta,
    LiveEngine,
    Mark,
    SamplingParams,
)
from sensorium.messages import Message
from sensorium.server.comfort_noise import over_comfort_noise
from sensorium.server.conversation import FRAME_MS, Item, Sounds, Transcripts, load_sounds
from sensorium.server.realtime_draft import Draft, transcribed
from sensorium.server.realtime_tasks import to_the_end
from sensorium.server.turn_end import TurnEnd

KEPT_SHARE = 0.25  # of the positions of all items, where some must go: the more is kept, the sooner it is read again
_NEEDED = 0.4  # of the context: what is said until there is room again, where eight calls need some


class _Read(NamedTuple):
    key: Hashable
    before: Mark  # items of one answer share it: half an answer can't be gone back to
    num_free: int  # positions that were free before it


class Thread:
    """`lock` is held while an answer is made. Whoever does not want to wait asks it first."""

    def __init__(self, engine: LiveEngine, *, in_no_hurry: bool = False) -> None:
        self.lock = asyncio.Lock()
        self._engine = engine
        self._in_no_hurry = in_no_hurry
        self._is_preparing = False
        self._ahead: Thread | None = None  # has read what remains where the oldest items make room
        self._left_out: set[str] = set()  # ids of items that made room for later ones
        self._live = engine.converse()
        self._size = self._live.num_free
        self._rate_hz = engine.info.sample_rate_hz
        self._read: list[_Read] = []
        self._turn: _Read | None = None  # the turn under way
        self._num_heard = 0  # samples of it
        self.heard: list[InputTranscriptDelta] = []  # what was said in it, or in the last one
        self.turn_end = TurnEnd()  # whether it is over
        self._draft: Draft | None = None  # of an answer to it
        self._drafted: Draft | None = None  # of the answer to the turn that was heard last, until it is asked for

    @property
    def hears(self) -> bool:
        """Whether a turn is under way."""
        return self._turn is not None

    async def catch_up(self, head: Sequence[Message], items: Sequence[Item]) -> None:
        """Reads what is new: `head` are the instructions and tools. A turn under way is forgotten.

        Raises ContextLengthExceeded, and has then read as many items as fit. Cancelled, it has read no item by half.
        """
        if self._turn is not None or self._draft is not None:
            await to_the_end(self.drop_turn())
        keys = self._keys(head, items)
        if not self._num_same(keys) == len(self._read) == len(keys):
            await self.move_on()
            keys = self._keys(head, items)
            await self._give_up_answer()
        if (num_same := self._num_same(keys)) < len(self._read):
            await to_the_end(self._forget(num_same))
        kept = self._kept(items)
        for at in range(len(self._read), len(keys)):
            here = await self.mark()
            try:
                await (self._read_item(kept[at - 1]) if at else self._read_all(head))
            except BaseException:
                await to_the_end(self._live.truncate(here.before))
                raise
            self._read.append(here._replace(key=keys[at]))

    def _keys(self, head: Sequence[Message], items: Sequence[Item]) -> list[Hashable]:
        return [tuple(message.text for message in head), *(item.key for item in self._kept(items))]

    def _num_same(self, keys: Sequence[Hashable]) -> int:
        """How many of these have been read, from the first on."""
        pairs = enumerate(zip((read.key for read in self._read), keys, strict=False))
        return next((at for at, (known, key) in pairs if known != key), min(len(self._read), len(keys)))

    def is_tight(self, limit: int | None) -> bool:
        """Whether room must be made soon, or the items take more positions than `limit`."""
        return self._live.num_free < self._size * _NEEDED or self.is_over(limit)

    def is_over(self, limit: int | None) -> bool:
        return limit is not None and sum(self._sizes()) > limit

    def make_room(self, items: Sequence[Item], kept_share: float = KEPT_SHARE, limit: int | None = None) -> bool:
        """Leaves out the oldest items from now on, until the others take but a share of the positions that they may
        take: more than need be, so that not every turn begins by reading all of them again. False if but one is left.
        """
        gone = self._oldest(items, kept_share, limit)
        self._left_out |= gone
        return bool(gone)

    def _oldest(self, items: Sequence[Item], kept_share: float, limit: int | None) -> set[str]:
        """The ids of those that have to go."""
        kept, sizes = self._kept(items), self._sizes()
        if len(kept) < 2:
            return set()
        sizes += [max(sizes, default=1)] * (len(kept) - len(sizes))  # of those that were not read yet
        allowed = limit if limit is not None else self._size
        return {item.id for item in kept[: _num_gone(sizes, kept_share * allowed)]}

    async def make_room_ahead(
        self, head: list[Message], items: Sequence[Item], kept_share: float, limit: int | None
    ) -> None:
        """While the user listens and speaks: a conversation that is full would keep the next answer waiting."""
        if self._is_preparing or self._ahead is not None or not self.is_tight(limit):
            return
        if not (gone := self._oldest(items, kept_share, limit)):
            return
        ahead, left_out = Thread(self._engine, in_no_hurry=True), set(self._left_out)
        ahead._left_out = left_out | gone
        self._is_preparing = True
        try:
            while not await ahead._can_hold(head, items):
                if not ahead.make_room(items, kept_share, limit):
                    return
        finally:
            self._is_preparing = False
        if self._left_out == left_out:  # nobody was in a greater hurry
            self._ahead = ahead

    async def _can_hold(self, head: Sequence[Message], items: Sequence[Item]) -> bool:
        """Whether all of it fits. What does has been read then."""
        try:
            await self.catch_up(head, items)
        except ContextLengthExceeded:
            return False
        return True

    async def move_on(self) -> None:
        """To what was read ahead, if that is done. Nobody may be waiting for the answer to a turn that was heard."""
        if (ahead := self._ahead) is None:
            return
        await self._give_up_answer()
        self._live, self._read, self._left_out, self._ahead = ahead._live, ahead._read, ahead._left_out, None

    def _sizes(self) -> list[int]:
        """The positions of each item that has been read."""
        free = [read.num_free for read in self._read[1:]] + [self._live.num_free]
        return [before - after for before, after in pairwise(free)]

    def _kept(self, items: Sequence[Item]) -> list[Item]:
        return [item for item in items if item.id not in self._left_out]

    async def _read_item(self, item: Item) -> None:
        sounds = await load_sounds([item])
        transcripts = Transcripts([item])
        for heard in transcribed(await self._read_all(item.messages(sounds))):
            transcripts.add(heard)
        transcripts.keep()

    async def _read_all(self, messages: Sequence[Message]) -> list[Event]:
        return await self._live.read(messages, in_no_hurry=self._in_no_hurry) if messages else []

    async def _forget(self, count: int) -> None:
        """Goes back to where `count` entries had been read, or before the answer that the next one is a part of."""
        while 0 < count < len(self._read) and self._read[count].before is self._read[count - 1].before:
            count -= 1
        if count < len(self._read):
            await self._live.truncate(self._read[count].before)
            del self._read[count:]

    # --- the user's turn

    async def listen(self, waveform: np.ndarray) -> None:
        """More of the user's turn. Raises ContextLengthExceeded when it does not fit; what came before is heard."""
        if self._turn is None:
            await self._drop_answer()
            self._turn, self._num_heard, self.turn_end, self.heard = await self.mark(), 0, TurnEnd(), []
        frame = self._rate_hz * FRAME_MS // 1000
        rest = waveform
        while len(rest):  # at most to a frame's end: of each the network says what it thinks
            piece, rest = np.split(rest, [frame - self._num_heard % frame])
            self.heard += transcribed(await self._live.push(over_comfort_noise(piece, start=self._num_heard)))
            self._num_heard += len(piece)
            if self._num_heard % frame == 0:
                self.turn_end.add(self._live.turn_probability)

    async def end_turn(self, item: Item) -> None:
        """What was listened to is this item: its transcript is known now. With a draft, what was heard for that."""
        assert self._turn is not None
        if self._draft is None:
            self.heard += transcribed(await self._live.finish())
        else:
            await self._draft.hear_out()
            self.heard = self._draft.heard
            self._live, self._drafted, self._draft = self._draft.live, self._draft, None
        item.content[0].text = self._live.transcript or None
        self._read.append(self._turn._replace(key=item.key))
        self._turn = None

    async def drop_turn(self) -> None:
        await self.drop_draft()
        if self._turn is not None:
            await self._live.truncate(self._turn.before)
            self._turn = None

    # --- what may be answered, if the turn is over

    @property
    def num_drafted(self) -> int | None:
        """Samples of the turn that a draft answers, if there is one."""
        return self._draft.num_heard if self._draft is not None else None

    async def draft(self, params: SamplingParams) -> None:
        """Begins to answer what was heard of the turn."""
        assert self._turn is not None
        assert self._draft is None
        self._draft = Draft(await self._live.fork(), self._num_heard, params, heard=self.heard)

    async def drop_draft(self) -> None:
        draft, self._draft = self._draft, None
        if draft is not None:
            await draft.drop()

    async def _give_up_answer(self) -> None:
        """As `_drop_answer`, to its end."""
        if self._drafted is not None:
            await to_the_end(self._drop_answer())

    async def _drop_answer(self) -> None:
        """Nobody asked for it."""
        draft, self._drafted = self._drafted, None
        if draft is not None:
            await draft.drop()
            assert draft.before is not None
            await self._live.truncate(draft.before)

    async def close(self) -> None:
        for draft in (self._draft, self._drafted):
            if draft is not None:
                await draft.drop()

    # --- the assistant's

    async def answer(self, params: SamplingParams) -> AsyncGenerator[Event, None]:
        if self._drafted is not None and not self._drafted.answers(params):
            await self._give_up_answer()
        draft, self._drafted = self._drafted, None
        events = self._live.answer(params) if draft is None else draft.events(params.tally)
        assert isinstance(events, AsyncGenerator), "an engine's answer must be closeable"
        async with aclosing(events):
            async for event in events:
                yield event

    async def mark(self) -> _Read:
        """What is read from here on, which has no key yet."""
        if self._drafted is not None:
            assert self._drafted.before is not None
            return _Read(None, self._drafted.before, self._drafted.num_free)
        return _Read(None, await self._live.mark(), self._live.num_free)

    async def answered(self, here: _Read, items: Sequence[Item], *, is_over: bool) -> None:
        """What the last answer came to, since the mark. Of one that was stopped, what was told remains: the network may
        have been ahead of that. What is but sound can be cut there; the rest is read again, as it was told."""
        sounds = items[0].sounds if len(items) == 1 else []
        if not items or (not is_over and not sounds):
            await self._live.truncate(here.before)
            return
        self._read += [here._replace(key=item.key) for item in items]
        if not is_over:
            await self._live.interrupt(1000 * len(sounds[0]) / self._rate_hz)

    async def cut_short(self, item: Item, known: Hashable, after_ms: float) -> None:
        """An answer was heard so far only; `known` is the key it had. If more was read since, `catch_up` sees to it."""
        await self._drop_answer()
        alone = len(self._read) < 2 or self._read[-2].before is not self._read[-1].before
        if self._read and self._read[-1].key == known and alone:
            await self._live.interrupt(after_ms)
            self._read[-1] = self._read[-1]._replace(key=item.key)


def _num_gone(sizes: Sequence[int], room: float) -> int:
    """How many of the oldest have to go, at least one, until the others fit or but one is left."""
    gone = 1
    while gone < len(sizes) - 1 and sum(sizes[gone:]) > room:
        gone += 1
    return gone


async def within(
    limit: int | None, kept_share: float, items: Sequence[Item], engine: LiveEngine, sounds: Sounds
) -> list[Item]:
    """The items that an answer is about which is made apart: not the oldest, where all take more than `limit`."""
    if limit is None:
        return list(items)
    sizes = [await engine.count(item.messages(sounds)) for item in items]
    return list(items if sum(sizes) <= limit else items[_num_gone(sizes, kept_share * limit) :])


async def answer_apart(
    engine: LiveEngine, params: SamplingParams, head: list[Message], items: Sequence[Item], sounds: Sounds
) -> AsyncGenerator[Event, None]:
    """An answer that is not about the conversation as it stands: all of it is read for that."""
    transcripts = Transcripts(items)
    told = [*head, *(message for item in items for message in item.messages(sounds))]
    events = engine.generate(told or [Message(role="user", parts=())], params)
    assert isinstance(events, AsyncGenerator), "an engine's answer must be closeable"
    async with aclosing(events):
        async for event in events:
            if isinstance(event, InputTranscriptDelta):
                transcripts.add(event)
                continue
            transcripts.keep()
            yield event
