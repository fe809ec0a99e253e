"""Several answers on one worker thread: all that wait for the network share its next step, so none waits for another.

An answer is written as if it were alone, and says where it cannot go on before something is computed (`Pending`).
Then the positions that answers wait for, the next one of each and stretches of new prompts, go through the network in
one call (continuous batching: Orca, OSDI 2022). The event loop never computes; what it gets goes through a bounded box
per answer, and an answer whose reader is slow is passed over.

Calls come before chats, these before what calls will need and that before what is in no hurry, then the earlier before
the later. Where memory is short,
streams that nobody is computing lose theirs first, then the latest; they go on later, with the same figures.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Generator, Iterable, Iterator
from enum import IntEnum
from itertools import accumulate, count

from sensorium.engine.pages import OutOfPages, PagedCache
from sensorium.engine.request import AudioDelta, Event, InputTranscriptDelta, TextDelta, ToolCallDelta, TranscriptDelta
from sensorium.engine.runner import Piece
from sensorium.engine.sequence import Pending, compute
from sensorium.engine.sequence import Sequence as LiveSequence

MAX_WAITING = 64  # events that an answer may be ahead of its reader
STEP_ROWS = 256  # positions of one step
PREFILL_ROWS = 96  # of them, of prompts: they must not hold up those who only wait for a symbol
FEW_POSITIONS = 4  # so many are no prompt
MANY_ANSWERS = 4  # from so many on ..
TOGETHER_S = 0.025  # .. what each writes in this time is told together: telling a token costs a third of computing it
FIRST_STEPS = (24, 3, 0, 0)  # besides its prompt's, that a new answer of each priority may take ahead of others
FIRST_IN_A_ROW = 4  # after so many of them everybody has one
LEAD_S = 0.5  # of sound that is not played yet: who has less is in a hurry too
LATER_PREFILL_ROWS = 24  # of prompts in no hurry where nobody else waits: what is asked for meanwhile comes soon
AHEAD_ROWS = 16  # of a step that others wait for, of what a call will need
FLEX_ROWS = 4  # and of what is in no hurry at all: it is not forgotten


Steps = Generator[Event | Pending | None, None, None]


class Priority(IntEnum):
    """Who is computed first: the sound of a call has a deadline."""

    CALL = 0
    CHAT = 1
    AHEAD = 2  # what a call will need in a while
    FLEX = 3


_IN_TURN = ((Priority.CALL, Priority.CHAT), (Priority.AHEAD,), (Priority.FLEX,))  # those who hurry, then the others


class Job:
    """One answer under way. `steps` gives events, waits for what must be computed, or lets others have their turn."""

    def __init__(self, scheduler: Scheduler, steps: Steps, order: tuple[Priority, int]) -> None:
        self.order = order
        self._scheduler = scheduler
        self._steps = steps
        self.loop = asyncio.get_running_loop()
        self.filled = asyncio.Event()
        self.has_news = False
        self.told_s = -math.inf  # when its reader was last told, on the monotonic clock
        self.first_steps = FIRST_STEPS[order[0]]  # that are left
        self._has_begun = False
        self._plays_until_s = math.inf  # when a player that began with its first sound runs dry
        self._events: deque[Event] = deque()
        self._error: BaseException | None = None
        self._pending: tuple[LiveSequence, ...] = ()
        self._finished = False
        self._cancelled = False

    async def next(self) -> Event | None:
        """The next event, or None after the last one. Raises what the answer raised. Text that has come together is
        handed over together: the more there is to do, the less is done for every symbol."""
        while not self._events:
            if self._error is not None:
                raise self._error
            if self._finished:
                return None
            self.filled.clear()
            await self.filled.wait()
        event = self._events.popleft()
        was_full = len(self._events) >= MAX_WAITING - 1  # looked at before, another could come between
        while self._events and (longer := _joined(event, self._events[0])) is not None:
            self._events.popleft()
            event = longer
        if was_full:
            self._scheduler.wake()
        return event

    def cancel(self) -> None:
        """The work ends before its next step. Harmless after the end."""
        self.give_up()
        self._scheduler.wake()

    # What follows runs on the worker thread.

    def give_up(self) -> None:
        self._cancelled = True

    @property
    def waits_for(self) -> list[LiveSequence]:
        """What must be computed before it can go on."""
        return [sequence for sequence in self._pending if sequence.num_pending]

    @property
    def is_new(self) -> bool:
        """Whether its reader, who is in a hurry, waits for its first word or sound."""
        return not self._has_begun and self.first_steps > 0 and bool(self.waits_for)

    def runs_dry(self, now_s: float) -> bool:
        """Whether its reader soon has nothing to play."""
        return self._plays_until_s - now_s < LEAD_S

    @property
    def reads(self) -> bool:
        """Whether it waits for a prompt."""
        return any(sequence.num_pending > FEW_POSITIONS for sequence in self._pending)

    @property
    def is_full(self) -> bool:
        return len(self._events) >= MAX_WAITING

    @property
    def is_ready(self) -> bool:
        return self._cancelled or bool(self.waits_for) or not self.is_full

    def may_wait(self, now_s: float) -> bool:
        """Whether its text may be told with what follows soon: there is more to come, and it was told a moment ago."""
        return not (self._finished or self.is_full) and now_s - self.told_s < TOGETHER_S

    def advance(self) -> bool:
        """Goes on until something must be computed, or others have their turn; says whether there is more to do."""
        while not self._cancelled:
            if self.waits_for or self.is_full:
                return True
            try:
                item = next(self._steps)
            except StopIteration:
                return self.end(None)
            except Exception as error:  # handed to whoever reads the answer; other answers go on
                return self.end(error)
            if item is None:
                return True
            if isinstance(item, Pending):
                self._pending = item.sequences
            else:
                self._events.append(item)
                self.has_news = True
                if isinstance(item, AudioDelta):
                    self._play(item, time.monotonic())
                self._has_begun |= not isinstance(item, TranscriptDelta | InputTranscriptDelta)
                if not isinstance(item, TextDelta | ToolCallDelta):  # sound waits for nothing that others are doing
                    announce([self])
        return self.end(None)

    def _play(self, sound: AudioDelta, now_s: float) -> None:
        start_s = now_s if math.isinf(self._plays_until_s) else max(now_s, self._plays_until_s)
        self._plays_until_s = start_s + len(sound.waveform) / sound.sample_rate_hz

    def end(self, error: Exception | None) -> bool:
        self._steps.close()
        self._pending = ()
        self._error = error
        self._finished = True
        self.has_news = True
        return False


def announce(jobs: Iterable[Job]) -> None:
    """Tells the readers of these jobs, by one call for all: it costs as much as a symbol does."""
    readers: dict[asyncio.AbstractEventLoop, list[Job]] = {}
    now_s = time.monotonic()
    for job in jobs:
        if job.has_news:
            job.has_news, job.told_s = False, now_s
            readers.setdefault(job.loop, []).append(job)
    for loop, told in readers.items():
        try:
            loop.call_soon_threadsafe(_wake, told)
        except RuntimeError:  # it has closed: nobody reads on
            for job in told:
                job.give_up()


def _joined(event: Event, more: Event) -> Event | None:
    """Two events as one, if they say more of the same."""
    if isinstance(event, TextDelta) and isinstance(more, TextDelta):
        return event.joined(more)
    if isinstance(event, ToolCallDelta) and isinstance(more, ToolCallDelta):
        return event.joined(more)
    return None


def _wake(jobs: Iterable[Job]) -> None:
    for job in jobs:
        job.filled.set()


class Scheduler:
    def __init__(self) -> None:
        self._jobs: list[Job] = []
        self._changed = threading.Condition()
        self._closed = False
        self._arrivals = count()
        self._prompts_were_first = False
        self._num_first = 0  # steps in a row that not everybody had part in
        self._thread = threading.Thread(target=self._run, name="sensorium-engine", daemon=True)
        self._thread.start()

    def submit(self, steps: Steps, *, priority: Priority = Priority.CHAT) -> Job:
        """Starts an answer, to be read in the running event loop. Raises RuntimeError after `close`."""
        job = Job(self, steps, (priority, next(self._arrivals)))
        with self._changed:
            if self._closed:
                raise RuntimeError("the engine is closed")
            self._jobs.append(job)
            self._changed.notify()
        return job

    async def run(self, steps: Steps, *, priority: Priority = Priority.CHAT) -> AsyncGenerator[Event, None]:
        """The events of an answer. Closing this cancels it. Raises what `submit` and the answer raise."""
        job = self.submit(steps, priority=priority)
        try:
            while (event := await job.next()) is not None:
                yield event
        finally:
            job.cancel()

    def wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def close(self) -> None:
        """Ends all answers and the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while jobs := self._ready_jobs():
            ended = [job for job in jobs if not job.advance()]
            now_s = time.monotonic()
            announce(job for job in jobs if len(jobs) < MANY_ANSWERS or not job.may_wait(now_s))
            first = self._first(jobs)
            if not step(jobs, first) and first is not jobs:  # there is no room for them
                step(jobs, jobs)
            if ended:
                with self._changed:
                    self._jobs = [job for job in self._jobs if job not in ended]
        for job in self._jobs:
            job.end(RuntimeError("the engine was closed"))
        announce(self._jobs)

    def _first(self, jobs: list[Job]) -> list[Job]:
        """Those whose step is now. The first words of new answers come before the next ones of others, who are held up
        by prompts in every second step at most. What a call hears and begins to say comes even before what other calls
        go on to say, while these have enough to be heard."""
        new = [job for job in jobs if job.is_new]
        openings = [job for job in new if not job.reads]
        for job in openings:
            job.first_steps -= 1
        if any(job.order[0] is Priority.CALL for job in openings):
            self._num_first = (self._num_first + 1) % (FIRST_IN_A_ROW + 1)
            now_s = time.monotonic()
            return [*openings, *(job for job in jobs if job.runs_dry(now_s))] if self._num_first else jobs
        prompts = [] if self._prompts_were_first else [job for job in new if job.reads]
        self._prompts_were_first = bool(prompts) or (self._prompts_were_first and bool(openings))
        first = [*prompts, *openings]
        return [job for job in jobs if job.order[0] is Priority.CALL or job in first] if first else jobs

    def _ready_jobs(self) -> list[Job]:
        """Waits for some; an empty list after `close`."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or any(job.is_ready for job in self._jobs))
            return [] if self._closed else [job for job in self._jobs if job.is_ready]


def step(jobs: list[Job], first: list[Job]) -> bool:
    """Computes what the first of them wait for, as far as one step goes; says whether there was anything. It keeps none
    of their streams: what ends is gone then."""
    pieces = choose(sorted(jobs, key=lambda job: job.order), first)
    if pieces:
        compute(pieces)
    return bool(pieces)


def choose(jobs: list[Job], first: list[Job]) -> list[tuple[LiveSequence, Piece]]:
    """What of the streams that the `first` of these jobs wait for, the earlier ones first, is computed in the next
    step. None of those that others wait for is idle."""
    groups = [_prompts_last(job for job in jobs if job.order[0] in priorities) for priorities in _IN_TURN]
    waiting = [sequence for group in groups for sequence in group]
    now = {id(sequence) for job in first for sequence in job.waits_for}
    chosen: list[tuple[LiveSequence, Piece]] = []
    rows, prefill_rows = STEP_ROWS, PREFILL_ROWS
    ends = list(accumulate(len(group) for group in groups))
    for number, sequence in enumerate(waiting):
        if number >= ends[0]:
            prefill_rows = min(prefill_rows, LATER_PREFILL_ROWS)
            if ends[0]:
                rows = min(rows, AHEAD_ROWS if number < ends[1] else FLEX_ROWS)
        if id(sequence) not in now:
            continue
        is_prompt = sequence.num_pending > FEW_POSITIONS
        limit = min(rows, prefill_rows) if is_prompt else rows
        piece = _piece(sequence, limit, waiting[number + 1 :], waiting) if limit else None
        if piece is not None:
            chosen.append((sequence, piece))
            rows -= piece.length
            prefill_rows -= piece.length if is_prompt else 0
    return chosen


def _prompts_last(jobs: Iterable[Job]) -> list[LiveSequence]:
    """What these jobs wait for; those who wait for a symbol first."""
    waiting = [sequence for job in jobs for sequence in job.waits_for]
    return sorted(waiting, key=lambda sequence: sequence.num_pending > FEW_POSITIONS)


def _piece(sequence: LiveSequence, limit: int, later: list[LiveSequence], waiting: list[LiveSequence]) -> Piece | None:
    """Room is made, if need be, by taking it from streams that nobody waits for, then from the last of the `later`."""
    while True:
        try:
            return sequence.piece(limit)
        except OutOfPages:
            victim = _victim(sequence.cache, later, waiting)
            if victim is None:
                return None
            victim.give_way()


def _victim(cache: PagedCache, later: list[LiveSequence], waiting: list[LiveSequence]) -> PagedCache | None:
    needed = {id(sequence.cache) for sequence in waiting}
    idle = [other for other in cache.pool.caches if other.num_pages and id(other) not in needed]
    if idle:
        return min(idle, key=lambda other: other.last_used)
    return next((other.cache for other in reversed(later) if other.cache.num_pages), None)


def alone(steps: Steps) -> Iterator[Event]:
    """The events of work that shares its steps of the network with no other."""
    for item in steps:
        if isinstance(item, Pending):
            for sequence in item.sequences:
                sequence.settle()
        elif item is not None:
            yield item
