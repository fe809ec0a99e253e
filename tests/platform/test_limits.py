"""Limits, by a clock of our own."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.platform.database import Database
from sensorium.platform.limits import Caller, LimitReached, LimitRule, Limits, Reservation, go_duration
from sensorium.platform.shared_limits import InPostgres

ME = Caller("key_me", "proj_mine")
YOU = Caller("key_you", "proj_yours")


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Counted(NamedTuple):
    """Limits by a clock of our own, with what tells where they stand."""

    limits: Limits
    clock: Clock

    async def take(self, caller: Caller = ME, model: str = "m", *, tokens: float = 0, **more: float) -> Reservation:
        return await self.limits.reserve(caller, model, tokens=int(tokens), **more)

    async def refused(self, caller: Caller = ME, model: str = "m", **amounts: float) -> LimitReached:
        with pytest.raises(LimitReached) as caught:
            await self.take(caller, model, **amounts)
        return caught.value


@pytest.fixture(params=["memory", "postgres"])
async def counted(request: pytest.FixtureRequest) -> AsyncIterator[Callable[..., Counted]]:
    """Makes limits of rules, whose counters are in memory or in a database."""
    if request.param == "memory":
        yield lambda *rules, **options: Counted(Limits(rules, clock=(clock := Clock()), **options), clock)
        return
    database = Database.open(request.getfixturevalue("new_postgres")())
    made: list[Limits] = []

    def make(*rules: LimitRule, **options: Any) -> Counted:
        clock = Clock()
        made.append(Limits(rules, InPostgres(database, clock=clock, now_s=clock), clock=clock, **options))
        return Counted(made[-1], clock)

    yield make
    for limits in made:
        await limits.close()
    database.close()


async def test_requests_are_counted_and_come_back_evenly(counted: Callable[..., Counted]):
    found = counted(LimitRule(requests_per_minute=3))
    for remaining in (2, 1, 0):
        assert (await found.take(tokens=5)).allowances()["requests"] == (3, remaining, 20.0 * (3 - remaining))
    reached = await found.refused()
    assert (reached.kind, reached.retry_after_s) == ("requests", pytest.approx(20.0))
    assert reached.allowances == {"requests": (3, 0, 60.0)}
    assert "Limit 3, Used 3, Requested 1. Please try again in 20s." in str(reached)
    found.clock.now_s += 19.9
    assert (await found.refused()).retry_after_s == pytest.approx(0.1)
    found.clock.now_s += 0.1
    await found.take(tokens=5)
    assert (await found.refused()).retry_after_s == pytest.approx(20.0)
    found.clock.now_s += 1e6
    assert (await found.take()).allowances()["requests"] == (3, 2, 20.0)


async def test_what_was_reserved_in_vain_is_given_back(counted: Callable[..., Counted]):
    found = counted(LimitRule(requests_per_minute=10, tokens_per_minute=100))
    held = await found.take(tokens=80)
    assert (await found.refused(tokens=30)).kind == "tokens"
    held.settle(tokens=20)
    assert held.allowances()["tokens"].remaining == 80
    failed = await found.take(tokens=80)
    failed.settle(requests=0, tokens=0)
    allowances = (await found.take(tokens=0)).allowances()
    assert (allowances["tokens"].remaining, allowances["requests"].remaining) == (80, 8)


async def test_what_was_taken_beyond_the_limit_is_owed(counted: Callable[..., Counted]):
    found = counted(LimitRule(tokens_per_minute=60))
    held = await found.take(tokens=10)
    held.settle(tokens=120)
    assert held.allowances()["tokens"] == (60, 0, 120.0)
    assert (await found.refused(tokens=1)).retry_after_s == pytest.approx(61.0)
    found.clock.now_s += 61
    await found.take(tokens=1)


async def test_a_request_that_is_refused_takes_nothing(counted: Callable[..., Counted]):
    found = counted(LimitRule(requests_per_minute=2, tokens_per_minute=100, audio_s_per_minute=10))
    too_large = await found.refused(tokens=101)
    assert (too_large.kind, too_large.retry_after_s) == ("tokens", None)
    await found.take(tokens=40)
    assert (await found.refused(tokens=61)).kind == "tokens"
    reached = await found.refused(tokens=1, audio_s=11.0)
    assert reached.kind == "audio_s"
    assert reached.allowances == {"requests": (2, 1, 30.0), "tokens": (100, 60, 24.0), "audio_s": (10, 10, 0.0)}


async def test_the_first_rule_that_fits_holds(counted: Callable[..., Counted]):
    found = counted(
        LimitRule(keys=("key_you",)),
        LimitRule(models=("gpt-4o*",), requests_per_minute=1),
        LimitRule(projects=("proj_mine",), requests_per_minute=2),
    )
    await found.take(model="gpt-4o")
    await found.refused(model="gpt-4o")
    await found.refused(model="gpt-4o-mini")  # another name is no way around
    await found.take(model="whisper-1")
    await found.take(model="tts-1")
    await found.refused(model="whisper-1")
    for _ in range(5):
        await found.take(YOU, "gpt-4o")
        await found.take(Caller("key_other", "proj_other"), "whisper-1")


async def test_a_model_has_one_limit_by_all_its_names(counted: Callable[..., Counted]):
    rules = (LimitRule(models=("gpt-4o",), requests_per_minute=2), LimitRule(models=("tts-1",), requests_per_minute=9))
    found = counted(*rules, names=("tiny", "gpt-4o", "gpt-4o-2024-08-06", "tts-1"))
    await found.take(model="gpt-4o-2024-08-06")
    await found.take(model="tts-1")
    for name in ("gpt-4o", "tiny", "gpt-4o-2024-08-06", "tts-1"):
        await found.refused(model=name)


async def test_a_rule_about_calls_is_none_about_requests(counted: Callable[..., Counted]):
    found = counted(
        LimitRule(keys=("key_you",)),
        LimitRule(models=("live",), sessions=1),
        LimitRule(requests_per_minute=1),
        LimitRule(sessions=5),
        names=("live", "tiny"),
    )
    await found.take(model="live")
    await found.refused(model="tiny")
    close = await found.limits.open_session(ME, "tiny")
    with pytest.raises(LimitReached):
        await found.limits.open_session(ME, "live")
    close()
    for _ in range(3):  # a rule that limits nothing frees whom it names from all that follow
        await found.take(YOU, "live")
        await found.limits.open_session(YOU, "live")


async def test_callers_do_not_share(counted: Callable[..., Counted]):
    found = counted(LimitRule(requests_per_minute=1))
    await found.take(ME)
    await found.take(YOU)
    await found.refused(ME)


async def test_a_quota_is_gone_when_it_is_gone(counted: Callable[..., Counted]):
    asked: list[tuple[Caller, Sequence[str]]] = []

    async def used(caller: Caller, models: Sequence[str]) -> int:
        asked.append((caller, models))
        return 70

    found = counted(LimitRule(models=("m*",), tokens_per_month=100), names=("m2", "n"), used_this_month=used)
    held = await found.take(model="m2", tokens=30)
    held.settle(tokens=25)
    found.clock.now_s += 1e6
    reached = await found.refused(tokens=6)
    assert (reached.kind, reached.retry_after_s) == ("quota", None)
    assert "100 tokens a month, used 95" in str(reached)
    await found.take(tokens=5)
    assert asked == [(ME, ("m*", "m2", "n"))]


async def test_calls_at_once(counted: Callable[..., Counted]):
    limits = counted(LimitRule(sessions=2)).limits
    closes = [await limits.open_session(ME, "m") for _ in range(2)]
    with pytest.raises(LimitReached):
        await limits.open_session(ME, "m")
    await limits.open_session(YOU, "m")
    closes[0]()
    await asyncio.sleep(0)
    await limits.open_session(ME, "m")


async def test_a_call_that_is_given_up_while_it_is_counted_counts_no_more(counted: Callable[..., Counted]):
    limits = counted(LimitRule(sessions=1)).limits
    for leaves_after in range(4):
        opening = asyncio.create_task(limits.open_session(ME, "m"))
        for _ in range(leaves_after):
            await asyncio.sleep(0)
        if opening.done():
            opening.result()()
        opening.cancel()
        await asyncio.wait([opening])
    while True:
        try:
            (await limits.open_session(ME, "m"))()
            break
        except LimitReached:  # the last one is still being given back
            await asyncio.sleep(0.01)


async def test_many_at_once_take_no_more_than_there_is(counted: Callable[..., Counted]):
    found = counted(LimitRule(requests_per_minute=7))
    outcomes = await asyncio.gather(*(found.take() for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(outcome, Reservation) for outcome in outcomes) == 7
    assert all(isinstance(outcome, Reservation | LimitReached) for outcome in outcomes)


async def test_who_leaves_while_waiting_takes_nothing(counted: Callable[..., Counted]):
    found = counted(LimitRule(requests_per_minute=3))
    for leaves_after in range(5):
        task = asyncio.create_task(found.take())
        for _ in range(leaves_after):
            await asyncio.sleep(0)
        if task.done():
            task.result().settle(requests=0, tokens=0)
        task.cancel()
        await asyncio.wait([task])
    assert (await found.take()).allowances()["requests"].remaining == 2


_Steps = list[tuple[float, int, int, bool]]
STEPS = st.lists(
    st.tuples(st.floats(0, 30), st.integers(0, 120), st.integers(0, 120), st.booleans()), min_size=1, max_size=40
)


@settings(deadline=None)
@given(steps=STEPS)
def test_never_more_than_the_limit_and_what_has_drained(steps: _Steps):
    """Whatever is reserved, and settled for at most as much: a bucketful at once, and after that a limit a minute."""

    async def main() -> None:
        clock = Clock()
        limits = Limits((LimitRule(tokens_per_minute=100),), clock=clock)
        start_s, used = clock.now_s, 0
        refused: list[tuple[int, int]] = []
        for wait_s, asked, true, settles in steps:
            clock.now_s += wait_s
            try:
                held = await limits.reserve(ME, "m", tokens=asked)
            except LimitReached as reached:
                refused.append((asked, reached.allowances["tokens"].remaining))
                continue
            used += min(asked, true) if settles else asked
            if settles:
                held.settle(tokens=min(asked, true))
            assert used <= 100 + (clock.now_s - start_s) * 100 / 60 + 1e-6
        assert all(asked > remaining for asked, remaining in refused)

    asyncio.run(main())


@pytest.fixture(scope="module")
def module_database(postgres_cluster: str) -> Iterator[Database]:
    database = Database.open(postgres_cluster)
    yield database
    database.close()


@settings(max_examples=15, deadline=None)
@given(steps=STEPS)
def test_a_database_counts_as_memory_does(module_database: Database, steps: _Steps):
    async def outcomes(of: Counted) -> list[Any]:
        told: list[Any] = []
        caller = Caller(secrets.token_hex(8), "p")
        for wait_s, asked, true, settles in steps:
            of.clock.now_s += wait_s
            try:
                held = await of.take(caller, tokens=asked, audio_s=true / 10)
                if settles:
                    held.settle(tokens=true, audio_s=asked / 10)
                allowances = held.allowances()
            except LimitReached as reached:
                told.append((reached.kind, reached.retry_after_s and round(reached.retry_after_s, 4)))
                allowances = reached.allowances
            told.append([(kind, round(each.reset_s, 4)) for kind, each in allowances.items()])
        await of.limits.close()
        return told

    async def main() -> None:
        rules = (LimitRule(requests_per_minute=20, tokens_per_minute=100, audio_s_per_minute=30),)
        here, there = Clock(), Clock()
        in_postgres = InPostgres(module_database, clock=there, now_s=there)
        told = await outcomes(Counted(Limits(rules, clock=here), here))
        assert await outcomes(Counted(Limits(rules, in_postgres, clock=there), there)) == told

    asyncio.run(main())


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        *((0, "0s"), (0.0004, "0s"), (0.12, "120ms"), (0.9996, "1s"), (1, "1s"), (1.5, "1.5s"), (86.4, "1m26.4s")),
        *((360, "6m0s"), (3600, "1h0m0s"), (10, "10s"), (3661.001, "1h1m1.001s"), (59.9999, "1m0s")),
    ],
)
def test_durations_as_go_writes_them(seconds: float, written: str):
    assert go_duration(seconds) == written


@given(st.floats(0, 1e6))
def test_durations_can_be_read_again(seconds: float):
    units = {"h": 3600, "m": 60, "s": 1, "ms": 0.001}
    parts = re.findall(r"([\d.]+)(ms|h|m|s)", go_duration(seconds))
    assert sum(float(number) * units[unit] for number, unit in parts) == pytest.approx(seconds, abs=0.0006)
