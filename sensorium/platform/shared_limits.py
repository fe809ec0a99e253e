"""Limits that several servers keep together, counted in their PostgreSQL.

A caller's buckets of one rule are a row. What a request takes is one statement, which checks and takes at once;
requests that come while another is on its way to the database share the next way. Calls at once are advisory locks, as
many for a caller as there may be calls: the database itself lets go of those of a server that has died.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeVar

import structlog
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from sensorium.platform.database import Database
from sensorium.platform.limits import (
    SLACK,
    Amounts,
    Caller,
    Kind,
    LimitRule,
    Standing,
    buckets_of,
    month_of,
    negative,
    this_month,
)

log = structlog.get_logger()

_KINDS: tuple[Kind, ...] = ("requests", "tokens", "audio_s")
_NO_LIMIT = 1e18  # of a minute: what drains in no time

_COLUMNS = ("requests", "tokens", "audio_s", "at_s", "month", "month_tokens")
_NOW_S = "coalesce(%(now_s)s::float8, extract(epoch from clock_timestamp())::float8)"
_FILLED = {
    kind: f"greatest(0, a.{kind} - greatest(0, excluded.at_s - a.at_s) * %({kind}_limit)s::float8 / 60)"
    f" + %({kind})s::float8"
    for kind in _KINDS
}
# psycopg's own, for its pipeline. What is refused tells how things stood when it began
_TAKE = f"""
    WITH taken AS (
        INSERT INTO allowances AS a (rule, project, api_key, {", ".join(_COLUMNS)})
        SELECT %(rule)s, %(project)s, %(api_key)s, {", ".join(f"greatest(0, %({kind})s::float8)" for kind in _KINDS)},
            {_NOW_S}, '', 0
        WHERE NOT %(too_large)s
        ON CONFLICT (rule, project, api_key) DO UPDATE SET
            {", ".join(f"{kind} = greatest(0, {_FILLED[kind]})" for kind in _KINDS)},
            at_s = greatest(a.at_s, excluded.at_s),
            month_tokens = a.month_tokens + %(tokens)s::bigint
        WHERE NOT %(checks)s OR (
            {" AND ".join(f"{_FILLED[kind]} <= %({kind}_limit)s::float8 + {SLACK}" for kind in _KINDS)}
            AND (%(month)s = '' OR a.month = %(month)s AND a.month_tokens + %(tokens)s::bigint <= %(quota)s)
        )
        RETURNING {", ".join(_COLUMNS)}
    )
    SELECT true, {", ".join(_COLUMNS)}, {_NOW_S} FROM taken
    UNION ALL
    SELECT false, {", ".join(_COLUMNS)}, {_NOW_S} FROM allowances
    WHERE rule = %(rule)s AND project = %(project)s AND api_key = %(api_key)s AND NOT EXISTS (SELECT FROM taken)
"""
_BEGIN_MONTH = text(
    """
    INSERT INTO allowances AS a (rule, project, api_key, requests, tokens, audio_s, at_s, month, month_tokens)
    VALUES (:rule, :project, :api_key, 0, 0, 0, extract(epoch from clock_timestamp()), :month, :used)
    ON CONFLICT (rule, project, api_key) DO UPDATE SET month = :month, month_tokens = :used WHERE a.month <> :month
    """
)
_LOCK = text("SELECT lock FROM unnest(CAST(:locks AS bigint[])) AS lock WHERE pg_try_advisory_lock(lock) LIMIT 1")
_UNLOCK = text("SELECT pg_advisory_unlock(CAST(:lock AS bigint))")

T = TypeVar("T")
Place = tuple[str, str, str]  # of a rule, a project and a key
Answer = tuple[bool, Standing]
_Row = tuple[Any, ...]  # whether it was taken, and the columns


class _Asked(NamedTuple):
    place: Place
    rule: LimitRule
    values: Mapping[str, Any]
    answer: asyncio.Future[Answer] | None  # None: nobody waits


class InPostgres:
    """Counters of all servers of one database."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], float] = time.monotonic,
        now_s: Callable[[], float | None] = lambda: None,
    ) -> None:
        """`clock` is of this server, for what it tells; what counts is `now_s`, by default the database's clock."""
        self._database = database
        self._clock = clock
        self._now_s = now_s
        self._asked: list[_Asked] = []
        self._asking: asyncio.Task[None] | None = None
        self._told: set[tuple[Place, str]] = set()  # months, by place
        self._held = database.hold()
        self._locks: set[int] = set()
        self._locking = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()  # that nobody waits for, or not for long

    async def take(self, rule: LimitRule, caller: Caller, amounts: Amounts) -> Answer:
        place, month = _place(rule, caller), month_of(rule)
        if month and (place, month) not in self._told:
            return False, Standing(buckets=buckets_of(rule))
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._ask(_Asked(place, rule, self._values(rule, place, amounts, checks=True), answer))
        try:
            taken, standing = await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled() and not answer.exception() and answer.result()[0]:
                self._ask(_Asked(place, rule, self._values(rule, place, negative(amounts), checks=False), None))
            raise
        if taken and standing.month != month:  # the database has lost its buckets: what comes next is checked again
            self._told.discard((place, month))
        return taken, standing

    def give_back(self, rule: LimitRule, caller: Caller, amounts: Amounts, standing: Standing) -> None:
        standing.take(negative(amounts), self._clock())
        place = _place(rule, caller)
        self._ask(_Asked(place, rule, self._values(rule, place, negative(amounts), checks=False), None))

    async def begin_month(self, rule: LimitRule, caller: Caller, used_tokens: int) -> None:
        place, month = _place(rule, caller), this_month()
        values = {**_named(place), "month": month, "used": used_tokens}
        await self._database.write(lambda connection: connection.execute(_BEGIN_MONTH, values))
        self._told.add((place, month))

    async def open_session(self, rule: LimitRule, caller: Caller) -> Callable[[], None] | None:
        locking = self._aside(self._lock(_place(rule, caller), rule.sessions or 0))
        try:
            lock = await asyncio.shield(locking)
        except asyncio.CancelledError:  # nobody will close what is about to be opened
            self._aside(self._unlock_found(locking))
            raise
        if lock is None:
            return None

        def close() -> None:
            self._aside(self._unlock(lock))

        return close

    async def close(self) -> None:
        if self._asking is not None:
            await self._asking
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._held.close()

    def _aside(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _lock(self, place: Place, most: int) -> int | None:
        async with self._locking:
            locks = [_lock_number(place, number) for number in range(most)]
            free = [lock for lock in locks if lock not in self._locks]  # one's own could be locked twice
            found = await self._held.run(lambda connection: connection.execute(_LOCK, {"locks": free}).scalar())
            if found is not None:
                self._locks.add(found)
            return found

    async def _unlock_found(self, locking: asyncio.Task[int | None]) -> None:
        if (lock := await locking) is not None:
            await self._unlock(lock)

    async def _unlock(self, lock: int) -> None:
        async with self._locking:
            try:
                await self._held.run(lambda connection: connection.execute(_UNLOCK, {"lock": lock}))
            except SQLAlchemyError as error:  # then the lock is gone with its connection
                log.warning("a call is not taken from its limit", error=type(error).__name__)
            self._locks.discard(lock)

    def _values(self, rule: LimitRule, place: Place, amounts: Amounts, *, checks: bool) -> dict[str, Any]:
        limits = {f"{kind}_limit": rule.per_minute(kind) or _NO_LIMIT for kind in _KINDS}
        # a new row is not looked at
        too_large = checks and any(amounts[kind] > limits[f"{kind}_limit"] for kind in _KINDS)
        how = {"checks": checks, "too_large": too_large, "now_s": self._now_s()}
        quota = {"month": month_of(rule), "quota": rule.tokens_per_month or 0}
        return {**_named(place), **amounts, **limits, **quota, **how}

    def _ask(self, asked: _Asked) -> None:
        self._asked.append(asked)
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask_all())

    async def _ask_all(self) -> None:
        while self._asked:
            # in one order everywhere, so that two servers never wait for each other's rows; first what is given back
            waited_for = [asked for asked in self._asked if asked.answer is None or not asked.answer.cancelled()]
            batch = sorted(waited_for, key=lambda asked: (asked.place, asked.values["checks"]))
            self._asked = []
            try:
                rows = await self._held.run(partial(_take_all, [asked.values for asked in batch]))
            except Exception as error:
                log.error("limits are not counted", error=type(error).__name__)
                for each in batch:
                    if each.answer is not None and not each.answer.done():
                        each.answer.set_exception(error)
                continue
            for each, row in zip(batch, rows, strict=True):
                taken, standing = self._read(each.rule, row)
                if each.answer is not None and not each.answer.done():
                    each.answer.set_result((taken, standing))
                elif each.answer is not None and taken:  # nobody waits any more
                    amounts: Amounts = {kind: -each.values[kind] for kind in _KINDS}
                    values = self._values(each.rule, each.place, amounts, checks=False)
                    self._asked.append(_Asked(each.place, each.rule, values, None))

    def _read(self, rule: LimitRule, row: _Row | None) -> Answer:
        if row is None:  # there was none, and a new one would have been too small
            return False, Standing(buckets=buckets_of(rule), month=month_of(rule))
        taken, *used, at_s, month, month_tokens, now_s = row
        buckets = buckets_of(rule)
        for kind, amount in zip(_KINDS, used, strict=True):
            if kind in buckets:
                buckets[kind].used, buckets[kind].at_s = amount, self._clock() - (now_s - at_s)
        return taken, Standing(buckets=buckets, month=month, month_tokens=month_tokens)


def _take_all(batch: Sequence[Mapping[str, Any]], connection: Connection) -> list[_Row | None]:
    """All in one round trip."""
    driver: Any = connection.connection.driver_connection
    with driver.pipeline():
        cursors = [driver.execute(_TAKE, values) for values in batch]
    return [cursor.fetchone() for cursor in cursors]


def _place(rule: LimitRule, caller: Caller) -> Place:
    return _digest(rule), caller.project, caller.key


@lru_cache
def _digest(rule: LimitRule) -> str:
    return hashlib.sha256(repr(rule).encode()).hexdigest()[:32]


def _named(place: Place) -> dict[str, str]:
    return dict(zip(("rule", "project", "api_key"), place, strict=True))


def _lock_number(place: Place, number: int) -> int:
    """The number of an advisory lock: PostgreSQL has them by 64 bits."""
    return int.from_bytes(hashlib.sha256(repr((place, number)).encode()).digest()[:8], "big", signed=True)
