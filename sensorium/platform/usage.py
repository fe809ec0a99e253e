"""What was used: counted with every answer, and summed up by time, project, key and model.

Counts are gathered and written once a second, or every answer would wait for the disk. A server that is killed forgets
the last of them; one that is stopped, or asked, writes them first.

Prices are the operator's, and today's: costs are worked out when they are asked for.
"""

from __future__ import annotations

import asyncio
import calendar
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any, Literal

import structlog
from sqlalchemy import Connection, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from sensorium.engine.request import Usage
from sensorium.platform.database import Database
from sensorium.platform.limits import Caller, this_month
from sensorium.platform.tables import usage

_KEY = ("kind", "project", "api_key", "model", "size", "source", "batch")
_WRITE_EVERY_S = 1.0

log = structlog.get_logger()

UsageKind = Literal["completions", "embeddings", "audio_speeches", "audio_transcriptions", "images"]
Group = Literal["project", "api_key", "model", "size", "source", "batch"]
Modality = Literal["text", "audio", "image"]


@dataclass(frozen=True, kw_only=True)
class Used(Usage):
    """Stream positions (tokens) by modality, and what else is counted. `cached` are among the input."""

    requests: int = 0
    characters: int = 0  # spoken by /v1/audio/speech
    audio_ms: int = 0  # written down by /v1/audio/transcriptions
    images: int = 0

    @property
    def cached_text(self) -> int:
        return self.cached - self.cached_audio - self.cached_image

    def uncached(self, modality: Modality) -> int:
        """Of the input, what had to be computed."""
        return max(0, getattr(self, f"input_{modality}") - getattr(self, f"cached_{modality}"))


COUNTERS = tuple(counter.name for counter in fields(Used))


@dataclass(frozen=True, kw_only=True)
class Record:
    """One answer."""

    kind: UsageKind
    project: str
    api_key: str  # its id; empty: nobody asked for one
    model: str
    used: Used
    size: str = ""  # of pictures, `1024x1024`
    source: str = ""  # of pictures, `image.generation` or `image.edit`
    batch: bool = False


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Empty: whatever it is."""

    projects: Sequence[str] = ()
    api_keys: Sequence[str] = ()
    models: Sequence[str] = ()
    sizes: Sequence[str] = ()
    sources: Sequence[str] = ()
    batch: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Sum:
    """What was used in one bucket of time by one group: the fields that it was not grouped by are None."""

    start_time: int
    used: Used
    project: str | None = None
    api_key: str | None = None
    model: str | None = None
    size: str | None = None
    source: str | None = None
    batch: bool | None = None


class UsageLog:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._gathered: dict[tuple[Any, ...], dict[str, int]] = {}  # counters by the key of the row
        self._writing: asyncio.Task[None] | None = None

    def record(self, record: Record, *, at_s: int | None = None) -> None:
        """Counts an answer. `at_s` is when, now by default."""
        at_s = int(time.time()) if at_s is None else at_s
        key = (at_s - at_s % 60, *(getattr(record, name) for name in _KEY))
        self._gather(key, vars(record.used))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_soon())

    async def flush(self) -> None:
        """Everything that was counted is written down."""
        gathered, self._gathered = self._gathered, {}
        if not gathered:
            return
        try:
            await self._database.write(lambda connection: _add(connection, gathered))
        except BaseException:
            for key, counted in gathered.items():
                self._gather(key, counted)
            raise

    async def close(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing])
        await self.flush()

    def _gather(self, key: tuple[Any, ...], counted: Mapping[str, int]) -> None:
        so_far = self._gathered.setdefault(key, dict.fromkeys(COUNTERS, 0))
        for name in COUNTERS:
            so_far[name] += counted[name]

    async def _write_soon(self) -> None:
        while self._gathered:
            await asyncio.sleep(_WRITE_EVERY_S)
            try:
                await self.flush()
            except SQLAlchemyError as error:  # the database may come back
                log.error("usage is not written down yet", error=type(error).__name__)

    async def sums(
        self,
        kind: UsageKind | None,
        start_s: int,
        end_s: int,
        width_s: int,
        *,
        group_by: Sequence[Group] = (),
        filter: Filter = Filter(),
    ) -> list[Sum]:
        """What was used from `start_s` until before `end_s`, in buckets of `width_s` that begin at multiples of it.

        Only those in which something was used, in order; of every kind if none is named.
        """
        await self.flush()
        bucket = (usage.c.minute - usage.c.minute % width_s).label("start_time")
        groups = [usage.c[name] for name in group_by]
        counters = [func.sum(usage.c[name]).label(name) for name in COUNTERS]
        query = select(bucket, *groups, *counters).where(usage.c.minute >= start_s, usage.c.minute < end_s)
        if kind is not None:
            query = query.where(usage.c.kind == kind)
        for column, wanted in (
            (usage.c.project, filter.projects),
            (usage.c.api_key, filter.api_keys),
            (usage.c.model, filter.models),
            (usage.c.size, filter.sizes),
            (usage.c.source, filter.sources),
        ):
            if wanted:
                query = query.where(column.in_([name for name in wanted if "\0" not in name]))
        if filter.batch is not None:
            query = query.where(usage.c.batch.is_(filter.batch))
        query = query.group_by(bucket, *groups).order_by(bucket, *groups)
        rows = await self._database.read(lambda connection: connection.execute(query).mappings().all())
        return [_sum(row, group_by) for row in rows]

    async def used_this_month(self, caller: Caller, models: Sequence[str]) -> int:
        """Tokens of a caller, of the models that match one of these patterns."""
        since_s = calendar.timegm(time.strptime(this_month(), "%Y-%m"))
        return await self.tokens_since(since_s, caller.project, caller.key, models)

    async def tokens_since(self, start_s: int, project: str, api_key: str, models: Sequence[str]) -> int:
        """Used by a key, of the models that match one of these patterns."""
        await self.flush()
        query = select(usage.c.model, *(func.sum(usage.c[name]).label(name) for name in COUNTERS)).where(
            usage.c.minute >= start_s, usage.c.project == project, usage.c.api_key == api_key
        )
        query = query.group_by(usage.c.model)
        rows = await self._database.read(lambda connection: connection.execute(query).mappings().all())
        matching = [_used(row) for row in rows if any(fnmatchcase(row["model"], pattern) for pattern in models)]
        return sum(used.input_tokens + used.output_tokens for used in matching)


def _add(connection: Connection, gathered: Mapping[tuple[Any, ...], Mapping[str, int]]) -> None:
    inserting = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = inserting(usage)
    added = {name: usage.c[name] + statement.excluded[name] for name in COUNTERS}
    statement = statement.on_conflict_do_update(index_elements=list(usage.primary_key.columns), set_=added)
    # in one order everywhere, so that two servers never wait for each other's rows
    rows = [dict(zip(("minute", *_KEY), key, strict=True)) | dict(gathered[key]) for key in sorted(gathered)]
    connection.execute(statement, rows)


def _used(row: Mapping[Any, Any]) -> Used:
    return Used(**{name: int(row[name]) for name in COUNTERS})


def _sum(row: Mapping[Any, Any], group_by: Sequence[Group]) -> Sum:
    grouped = {name: row[name] for name in group_by}
    return Sum(start_time=int(row["start_time"]), used=_used(row), **grouped)


# what costs something, by the name that a price list has for it
LINE_ITEMS: Mapping[str, Callable[[Used], float]] = {
    "input_tokens": lambda used: used.uncached("text"),
    "cached_input_tokens": lambda used: used.cached_text,
    "input_audio_tokens": lambda used: used.uncached("audio"),
    "cached_input_audio_tokens": lambda used: used.cached_audio,
    "input_image_tokens": lambda used: used.uncached("image"),
    "cached_input_image_tokens": lambda used: used.cached_image,
    "output_tokens": lambda used: used.output_text,
    "output_audio_tokens": lambda used: used.output_audio,
    "output_image_tokens": lambda used: used.output_image,
    "characters": lambda used: used.characters,
    "seconds": lambda used: used.audio_ms / 1000,
    "images": lambda used: used.images,
}


@dataclass(frozen=True, kw_only=True)
class PriceList:
    """By model, or pattern such as `gpt-4o*`: what a million tokens or characters cost, a second or a picture.

    The first pattern that matches holds; a line item that has no price costs nothing, cached tokens what others do.
    """

    currency: str = "usd"
    models: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @classmethod
    def read(cls, table: Mapping[str, Any]) -> PriceList:
        """From a table of the settings. Raises ValueError naming what is wrong with it."""
        models: dict[str, dict[str, float]] = {}
        for pattern, prices in table.items():
            if pattern == "currency":
                continue
            if not isinstance(prices, dict):
                raise ValueError(f"{pattern!r} must be a table of prices")
            for name, price in prices.items():
                if name not in LINE_ITEMS:
                    raise ValueError(f"{name!r} is nothing that has a price; there are {', '.join(LINE_ITEMS)}")
                if type(price) not in (int, float) or not 0 <= price < float("inf"):
                    raise ValueError(f"the price of {name} must be a number, 0 or more")
            models[pattern] = {name: float(price) for name, price in prices.items()}
        currency = table.get("currency", "usd")
        if not isinstance(currency, str):
            raise ValueError("currency must be a text in quotes")
        return cls(currency=currency, models=models)

    def costs(self, model: str, used: Used) -> dict[str, tuple[float, float]]:
        """Quantity and cost by line item, of those of which something was used."""
        prices = next((of for pattern, of in self.models.items() if fnmatchcase(model, pattern)), {})
        found: dict[str, tuple[float, float]] = {}
        for item, counted in LINE_ITEMS.items():
            if (quantity := float(counted(used))) > 0:
                fallback = prices.get(item.removeprefix("cached_"), 0.0)
                per = 1 if item in ("seconds", "images") else 1_000_000
                found[item] = quantity, quantity / per * prices.get(item, fallback)
        return found
