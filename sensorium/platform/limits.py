"""How much a key may use in a minute, and how many calls it may hold at once.

A minute's allowance is a bucket that fills as it is used and drains evenly: the generic cell rate algorithm (ITU-T
I.371), in which what was reserved can be given back and what was taken beyond it stays owed. The library `limits`
counts in windows and has no way to give back.

Every process counts for itself, in memory: a server that starts again starts with empty buckets.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

Kind = Literal["requests", "tokens", "audio_s"]

_UNITS: Mapping[Kind, str] = {
    "requests": "requests per min (RPM)",
    "tokens": "tokens per min (TPM)",
    "audio_s": "seconds of sound per min",
}


class Caller(NamedTuple):
    key: str  # its id; empty: nobody asked for one, and all such callers are one
    project: str


@dataclass(frozen=True, kw_only=True)
class LimitRule:
    """What each key that it names may use of the models that it names, all of them together. None: as much as it likes.

    Names are ids or patterns such as `gpt-4o*`.
    """

    models: tuple[str, ...] = ("*",)
    projects: tuple[str, ...] = ("*",)
    keys: tuple[str, ...] = ("*",)
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    audio_s_per_minute: int | None = None  # of sound, heard and spoken
    tokens_per_month: int | None = None  # by the calendar, UTC: a quota, which waiting doesn't help
    sessions: int | None = None  # calls at once

    @classmethod
    def read(cls, table: Mapping[str, Any]) -> LimitRule:
        """From a table of the settings. Raises ValueError naming what is wrong with it."""
        known = {rule.name for rule in fields(cls)}
        values: dict[str, Any] = {}
        for name, value in table.items():
            if name not in known:
                raise ValueError(f"{name!r} is nothing that a limit has; there are {', '.join(sorted(known))}")
            if name in ("models", "projects", "keys"):
                if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                    raise ValueError(f"{name} must be a list of texts")
                values[name] = tuple(value)
            elif type(value) is not int or value < 1:
                raise ValueError(f"{name} must be a whole number, 1 or more")
            else:
                values[name] = value
        return cls(**values)

    def is_for(self, caller: Caller, model: str) -> bool:
        named = ((self.models, model), (self.projects, caller.project), (self.keys, caller.key))
        return all(any(fnmatchcase(name, pattern) for pattern in patterns) for patterns, name in named)

    def per_minute(self, kind: Kind) -> int | None:
        return getattr(self, f"{kind}_per_minute")


class Allowance(NamedTuple):
    """Where a bucket stands."""

    limit: int
    remaining: int
    reset_s: float  # until it is as if nothing had been used


class LimitReached(Exception):
    """`retry_after_s` is None where waiting doesn't help: the request is too large, or the quota is used up."""

    def __init__(self, message: str, kind: Kind | Literal["quota", "sessions"], retry_after_s: float | None) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after_s = retry_after_s


@dataclass(kw_only=True)
class _Bucket:
    limit: int
    used: float = 0.0
    at_s: float = 0.0  # when that much was used, on the monotonic clock

    def take(self, amount: float, now_s: float) -> None:
        """Less than nothing gives back. What is gone for more than the limit stays owed."""
        self.used = max(0.0, self._left_in(now_s) + amount)
        self.at_s = now_s

    def wait_s(self, amount: float, now_s: float) -> float:
        """Until there is room for so much; 0 now."""
        too_much = self._left_in(now_s) + amount - self.limit
        return max(0.0, too_much / self._drains_per_s) if too_much > 1e-9 else 0.0

    def allowance(self, now_s: float) -> Allowance:
        used = self._left_in(now_s)
        reset_s = used / self._drains_per_s if used else 0.0
        return Allowance(self.limit, max(0, int(self.limit - used + 1e-9)), reset_s)

    def _left_in(self, now_s: float) -> float:
        return max(0.0, self.used - (now_s - self.at_s) * self._drains_per_s)

    @property
    def _drains_per_s(self) -> float:
        return self.limit / 60


@dataclass(kw_only=True)
class _Quota:
    month: str  # of the calendar
    used: int  # tokens, reserved ones included


class Reservation:
    """What a request has been given in advance. `settle` puts the true figures in its place, once."""

    def __init__(
        self,
        taken: Mapping[Kind, float],
        buckets: Mapping[Kind, _Bucket],
        quota: _Quota | None,
        clock: Callable[[], float],
    ) -> None:
        self._taken = taken
        self._buckets = buckets
        self._quota = quota
        self._clock = clock
        self._settled = False

    def settle(self, *, requests: int = 1, tokens: int, audio_s: float = 0.0) -> None:
        """All zeros: as if the request had never been."""
        assert not self._settled
        self._settled = True
        true: dict[Kind, float] = {"requests": requests, "tokens": tokens, "audio_s": audio_s}
        for kind, bucket in self._buckets.items():
            bucket.take(true[kind] - self._taken[kind], self._clock())
        if self._quota is not None:
            self._quota.used += tokens - int(self._taken["tokens"])

    def allowances(self) -> Mapping[Kind, Allowance]:
        """Where the limits stand that there are."""
        return {kind: bucket.allowance(self._clock()) for kind, bucket in self._buckets.items()}


class Limits:
    """The first rule that is for a caller and a model holds; without one there is no limit."""

    def __init__(self, rules: Sequence[LimitRule] = (), *, clock: Callable[[], float] = time.monotonic) -> None:
        self.rules = tuple(rules)
        self._clock = clock
        # by rule and caller
        self._buckets: dict[tuple[int, Caller, Kind], _Bucket] = {}
        self._quotas: dict[tuple[int, Caller], _Quota] = {}
        self._sessions: dict[tuple[int, Caller], int] = {}

    def untold_quota(self, caller: Caller, model: str) -> LimitRule | None:
        """The rule that gives the caller a quota whose use has not been told yet this month."""
        index, rule = self._rule(caller, model)
        if rule is None or rule.tokens_per_month is None:
            return None
        quota = self._quotas.get((index, caller))
        return rule if quota is None or quota.month != this_month() else None

    def begin_month(self, caller: Caller, model: str, used_tokens: int) -> None:
        """Tells what the caller has used this month, of the models of the rule that is for this one."""
        index, _ = self._rule(caller, model)
        self._quotas[index, caller] = _Quota(month=this_month(), used=used_tokens)

    def reserve(self, caller: Caller, model: str, *, tokens: int, audio_s: float = 0.0) -> Reservation:
        """Takes one request and so much from the caller's allowances, or nothing. Raises LimitReached."""
        index, rule = self._rule(caller, model)
        taken: dict[Kind, float] = {"requests": 1, "tokens": tokens, "audio_s": audio_s}
        buckets: dict[Kind, _Bucket] = {}
        quota = None
        if rule is not None:
            buckets = self._buckets_of(index, rule, caller)
            for kind, bucket in buckets.items():
                self._check(bucket, taken[kind], kind, model)
            quota = self._quotas.get((index, caller)) if rule.tokens_per_month is not None else None
            if quota is not None and quota.used + tokens > (rule.tokens_per_month or 0):
                message = f"You exceeded your quota of {rule.tokens_per_month} tokens a month, used {quota.used}."
                raise LimitReached(message, "quota", None)
        for kind, bucket in buckets.items():
            bucket.take(taken[kind], self._clock())
        if quota is not None:
            quota.used += tokens
        return Reservation(taken, buckets, quota, self._clock)

    def allowances(self, caller: Caller, model: str) -> Mapping[Kind, Allowance]:
        """Where the limits stand that there are."""
        index, rule = self._rule(caller, model)
        buckets = self._buckets_of(index, rule, caller) if rule is not None else {}
        return {kind: bucket.allowance(self._clock()) for kind, bucket in buckets.items()}

    def open_session(self, caller: Caller, model: str) -> Callable[[], None]:
        """Counts a call until the function that it returns is called. Raises LimitReached."""
        index, rule = self._rule(caller, model)
        if rule is None or rule.sessions is None:
            return lambda: None
        place = (index, caller)
        if self._sessions.get(place, 0) >= rule.sessions:
            message = f"Limit reached for {model} on calls at once: Limit {rule.sessions}."
            raise LimitReached(message, "sessions", None)
        self._sessions[place] = self._sessions.get(place, 0) + 1

        def close() -> None:
            self._sessions[place] -= 1

        return close

    def _rule(self, caller: Caller, model: str) -> tuple[int, LimitRule | None]:
        for index, rule in enumerate(self.rules):
            if rule.is_for(caller, model):
                return index, rule
        return -1, None

    def _buckets_of(self, index: int, rule: LimitRule, caller: Caller) -> dict[Kind, _Bucket]:
        found: dict[Kind, _Bucket] = {}
        for kind in _UNITS:
            if (limit := rule.per_minute(kind)) is not None:
                found[kind] = self._buckets.setdefault((index, caller, kind), _Bucket(limit=limit))
        return found

    def _check(self, bucket: _Bucket, amount: float, kind: Kind, model: str) -> None:
        now_s = self._clock()
        figures = (
            f"Limit {bucket.limit}, Used {bucket.limit - bucket.allowance(now_s).remaining}, Requested {amount:.0f}"
        )
        if amount > bucket.limit:
            raise LimitReached(f"Request too large for {model} on {_UNITS[kind]}: {figures}.", kind, None)
        if wait_s := bucket.wait_s(amount, now_s):
            message = f"Rate limit reached for {model} on {_UNITS[kind]}: {figures}."
            raise LimitReached(f"{message} Please try again in {go_duration(wait_s)}.", kind, wait_s)


def this_month() -> str:
    return time.strftime("%Y-%m", time.gmtime())


def go_duration(seconds: float) -> str:
    """As Go writes a duration, to the millisecond: `0s`, `120ms`, `1.5s`, `6m0s`, `1h0m0s`."""
    ms = round(1000 * seconds)
    if ms < 1000:
        return f"{ms}ms" if ms else "0s"
    minutes, ms = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    rest = f"{ms / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    return f"{hours}h{minutes}m{rest}" if hours else f"{minutes}m{rest}" if minutes else rest
