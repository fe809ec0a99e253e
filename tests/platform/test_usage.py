"""The usage log on both databases, against sums made by hand."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from sensorium.platform.database import Database
from sensorium.platform.usage import Filter, Group, PriceList, Record, UsageLog, Used


@pytest.fixture
async def log(database_url: str) -> AsyncIterator[UsageLog]:
    database = Database.open(database_url)
    log = UsageLog(database)
    yield log
    await log.close()
    database.close()


def record(**fields: Any) -> Record:
    used = Used(requests=1, input_text=10, output_text=5)
    return Record(**{"kind": "completions", "project": "p", "api_key": "k", "model": "m", "used": used} | fields)


async def test_sums_are_those_of_the_records(log: UsageLog):
    random = Random(1)
    records = [
        (
            record(
                project=random.choice("pq"),
                api_key=random.choice(["", "k", "l"]),
                model=random.choice("mn"),
                batch=random.random() < 0.5,
                used=Used(requests=1, input_text=random.randrange(9), output_audio=random.randrange(9)),
            ),
            random.randrange(0, 3 * 3600),
        )
        for _ in range(60)
    ]
    for number, (made, at_s) in enumerate(records):
        log.record(made, at_s=at_s)
        if number % 20 == 7:
            await log.flush()
    groupings: list[tuple[Group, ...]] = [(), ("project",), ("model", "api_key"), ("batch",)]
    for groups in groupings:
        for width_s in (60, 3600, 86_400):
            expected: Counter[tuple] = Counter()
            for made, at_s in records:
                minute = at_s - at_s % 60
                if 600 <= minute < 9000 and made.project == "p":
                    key = (minute - minute % width_s, *(getattr(made, name) for name in groups))
                    expected[key] += made.used.input_tokens + 1000 * made.used.output_tokens
            sums = await log.sums(
                "completions", 600, 9000, width_s, group_by=groups, filter=Filter(projects=["p", "none"])
            )
            found = {
                (used.start_time, *(getattr(used, name) for name in groups)): used.used.input_tokens
                + 1000 * used.used.output_tokens
                for used in sums
            }
            assert found == expected
            assert len(found) == len(sums)
            assert [used.start_time for used in sums] == sorted(used.start_time for used in sums)


async def test_filters(log: UsageLog):
    log.record(record(kind="images", size="64x64", source="image.edit", used=Used(requests=1, images=3)), at_s=60)
    log.record(record(kind="images", size="32x32", used=Used(requests=1, images=2)), at_s=60)
    log.record(record(batch=True), at_s=60)

    async def total(**how: Any) -> int:
        kind = how.pop("kind", None)
        return sum(used.used.requests for used in await log.sums(kind, 0, 1000, 60, filter=Filter(**how)))

    assert await total() == 3
    assert await total(kind="images") == 2
    assert await total(sizes=["64x64"]) == 1
    assert await total(sources=["image.edit", "x"]) == 1
    assert await total(batch=True) == 1
    assert await total(batch=False) == 2
    assert await total(models=["m"], api_keys=["k"]) == 3
    assert await total(models=["\0"]) == 0


async def test_what_a_key_has_used_since(log: UsageLog):
    for at_s in (0, 60, 120):
        log.record(record(), at_s=at_s)
        log.record(record(model="other"), at_s=at_s)
        log.record(record(api_key="l"), at_s=at_s)
    assert await log.tokens_since(60, "p", "k", ["*"]) == 60
    assert await log.tokens_since(60, "p", "k", ["m*"]) == 30
    assert await log.tokens_since(60, "q", "k", ["*"]) == 0


def test_prices():
    prices = PriceList(
        models={
            "gpt-4o-mini": {"input_tokens": 1.0},
            "gpt-4o*": {"input_tokens": 2.0, "cached_input_tokens": 1.0, "output_audio_tokens": 80.0, "seconds": 0.5},
        }
    )
    used = Used(requests=1, input_text=1_000_000, cached=250_000, output_audio=500, audio_ms=3000, output_text=7)
    assert prices.costs("gpt-4o-audio-preview", used) == {
        "input_tokens": (750_000, 1.5),
        "cached_input_tokens": (250_000, 0.25),
        "output_audio_tokens": (500, 0.04),
        "output_tokens": (7, 0.0),
        "seconds": (3, 1.5),
    }
    assert prices.costs("gpt-4o-mini", used)["cached_input_tokens"] == (250_000, 0.25)
    assert {cost for _, cost in prices.costs("nano", used).values()} == {0.0}
    assert prices.costs("gpt-4o", Used()) == {}


def test_cached_sound_and_pictures_have_prices_of_their_own():
    sound = {"input_audio_tokens": 40.0, "cached_input_audio_tokens": 0.5}
    prices = PriceList(models={"*": {"input_tokens": 2.0, "input_image_tokens": 3.0, **sound}})
    heard = Used(input_text=10, input_audio=1000, input_image=100, cached=906, cached_audio=800, cached_image=100)
    assert prices.costs("m", heard) == {
        "input_tokens": (4, pytest.approx(8e-6)),
        "cached_input_tokens": (6, pytest.approx(12e-6)),
        "input_audio_tokens": (200, pytest.approx(8e-3)),
        "cached_input_audio_tokens": (800, pytest.approx(4e-4)),
        "cached_input_image_tokens": (100, pytest.approx(3e-4)),
    }


async def test_what_was_cached_is_kept_by_modality(log: UsageLog):
    used = Used(requests=1, input_audio=9, input_image=8, cached=7, cached_audio=4, cached_image=3)
    log.record(record(used=used), at_s=60)
    (found,) = await log.sums(None, 0, 100, 60)
    assert found.used == used


async def test_counts_are_written_soon_and_when_the_log_closes(database_url: str):
    database, other = Database.open(database_url), Database.open(database_url)
    log, reader = UsageLog(database), UsageLog(other)
    log.record(record(), at_s=0)
    for _ in range(200):
        await asyncio.sleep(0.05)
        if await reader.sums(None, 0, 60, 60):
            break
    log.record(record(), at_s=0)
    await log.close()
    (used,) = await reader.sums(None, 0, 60, 60)
    assert used.used == Used(requests=2, input_text=20, output_text=10)
    database.close()
    other.close()


async def test_what_cannot_be_written_is_written_later(database_url: str):
    database = Database.open(database_url)
    log = UsageLog(database)
    await database.write(lambda connection: connection.execute(text("ALTER TABLE usage RENAME TO gone")))
    log.record(record(), at_s=0)
    with pytest.raises(SQLAlchemyError):
        await log.flush()
    await database.write(lambda connection: connection.execute(text("ALTER TABLE gone RENAME TO usage")))
    log.record(record(), at_s=0)
    (used,) = await log.sums(None, 0, 60, 60)
    assert used.used.requests == 2
    await log.close()
    database.close()
