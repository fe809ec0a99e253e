"""Limits, by a clock of our own."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorium.platform.limits import Caller, LimitReached, LimitRule, Limits, go_duration

ME = Caller("key_me", "proj_mine")
YOU = Caller("key_you", "proj_yours")


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def limits(*rules: LimitRule) -> tuple[Limits, Clock]:
    clock = Clock()
    return Limits(rules, clock=clock), clock


def refused(of: Limits, caller: Caller = ME, model: str = "m", **amounts) -> LimitReached:
    with pytest.raises(LimitReached) as caught:
        of.reserve(caller, model, **{"tokens": 0, **amounts})
    return caught.value


def test_requests_are_counted_and_come_back_evenly():
    found, clock = limits(LimitRule(requests_per_minute=3))
    for remaining in (2, 1, 0):
        assert found.reserve(ME, "m", tokens=5).allowances()["requests"] == (3, remaining, 20.0 * (3 - remaining))
    reached = refused(found)
    assert (reached.kind, reached.retry_after_s) == ("requests", pytest.approx(20.0))
    assert "Limit 3, Used 3, Requested 1. Please try again in 20s." in str(reached)
    clock.now_s += 19.9
    assert refused(found).retry_after_s == pytest.approx(0.1)
    clock.now_s += 0.1
    found.reserve(ME, "m", tokens=5)
    assert refused(found).retry_after_s == pytest.approx(20.0)
    clock.now_s += 1e6
    assert found.allowances(ME, "m")["requests"] == (3, 3, 0.0)


def test_what_was_reserved_in_vain_is_given_back():
    found, _ = limits(LimitRule(requests_per_minute=10, tokens_per_minute=100))
    held = found.reserve(ME, "m", tokens=80)
    assert refused(found, tokens=30).kind == "tokens"
    held.settle(tokens=20)
    assert found.allowances(ME, "m")["tokens"].remaining == 80
    failed = found.reserve(ME, "m", tokens=80)
    failed.settle(requests=0, tokens=0)
    assert found.allowances(ME, "m")["tokens"].remaining == 80
    assert found.allowances(ME, "m")["requests"].remaining == 9


def test_what_was_taken_beyond_the_limit_is_owed():
    found, clock = limits(LimitRule(tokens_per_minute=60))
    found.reserve(ME, "m", tokens=10).settle(tokens=120)
    assert found.allowances(ME, "m")["tokens"] == (60, 0, 120.0)
    assert refused(found, tokens=1).retry_after_s == pytest.approx(61.0)
    clock.now_s += 61
    found.reserve(ME, "m", tokens=1)


def test_a_request_that_is_refused_takes_nothing():
    found, _ = limits(LimitRule(requests_per_minute=2, tokens_per_minute=100, audio_s_per_minute=10))
    too_large = refused(found, tokens=101)
    assert (too_large.kind, too_large.retry_after_s) == ("tokens", None)
    assert refused(found, tokens=1, audio_s=11.0).kind == "audio_s"
    assert found.allowances(ME, "m") == {"requests": (2, 2, 0.0), "tokens": (100, 100, 0.0), "audio_s": (10, 10, 0.0)}


def test_the_first_rule_that_fits_holds():
    found, _ = limits(
        LimitRule(keys=("key_you",)),
        LimitRule(models=("gpt-4o*",), requests_per_minute=1),
        LimitRule(projects=("proj_mine",), requests_per_minute=2),
    )
    found.reserve(ME, "gpt-4o", tokens=0)
    refused(found, model="gpt-4o")
    refused(found, model="gpt-4o-mini")  # another name is no way around
    found.reserve(ME, "whisper-1", tokens=0)
    found.reserve(ME, "tts-1", tokens=0)
    refused(found, model="whisper-1")
    for _ in range(5):
        found.reserve(YOU, "gpt-4o", tokens=0)
        found.reserve(Caller("key_other", "proj_other"), "whisper-1", tokens=0)


def test_callers_do_not_share():
    found, _ = limits(LimitRule(requests_per_minute=1))
    found.reserve(ME, "m", tokens=0)
    found.reserve(YOU, "m", tokens=0)
    refused(found)


def test_a_quota_is_gone_when_it_is_gone():
    found, clock = limits(LimitRule(models=("m*",), tokens_per_month=100))
    rule = found.untold_quota(ME, "m")
    assert rule is not None
    found.begin_month(ME, "m", 70)
    assert found.untold_quota(ME, "m2") is None
    found.reserve(ME, "m2", tokens=30).settle(tokens=25)
    clock.now_s += 1e6
    reached = refused(found, tokens=6)
    assert (reached.kind, reached.retry_after_s) == ("quota", None)
    found.reserve(ME, "m", tokens=5)


def test_calls_at_once():
    found, _ = limits(LimitRule(sessions=2))
    closes = [found.open_session(ME, "m") for _ in range(2)]
    with pytest.raises(LimitReached):
        found.open_session(ME, "m")
    found.open_session(YOU, "m")
    closes[0]()
    found.open_session(ME, "m")


@given(
    steps=st.lists(
        st.tuples(st.floats(0, 30), st.integers(0, 120), st.integers(0, 120), st.booleans()), min_size=1, max_size=40
    )
)
def test_never_more_than_the_limit_and_what_has_drained(steps: list[tuple[float, int, int, bool]]):
    """Whatever is reserved, and settled for at most as much: a bucketful at once, and after that a limit a minute."""
    found, clock = limits(LimitRule(tokens_per_minute=100))
    start_s, used = clock.now_s, 0
    for wait_s, asked, true, settles in steps:
        clock.now_s += wait_s
        try:
            held = found.reserve(ME, "m", tokens=asked)
        except LimitReached:
            assert asked > found.allowances(ME, "m")["tokens"].remaining
            continue
        used += min(asked, true) if settles else asked
        if settles:
            held.settle(tokens=min(asked, true))
        assert used <= 100 + (clock.now_s - start_s) * 100 / 60 + 1e-6


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
