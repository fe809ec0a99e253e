"""How much a key may use in a minute, and how many calls it may hold at once.

A minute's allowance is a bucket that fills as it is used and drains evenly: the generic cell rate algorithm (ITU-T
I.371), in which what was reserved can be given back and what was taken beyond it stays owed. The library `limits`
counts in windows and has no way to give back.

Buckets are in memory, and empty in a server that starts again, or in the PostgreSQL that several servers share
(`sensorium/platform/shared_limits.py`).
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol

Kind = Literal["requests", "tokens", "audio_s"]
Amounts = Mapping[Kind, float]

SLACK = 1e-9  # of a float that should be whole

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

    Names are ids or patterns such as `gpt-4o*`. A model that has several is meant by any of them.
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

    def is_for(self, caller: Caller, names: Iterable[str]) -> bool:
        """`names` are all those of one model."""
        named = ((self.models, names), (self.projects, (caller.project,)), (self.keys, (caller.key,)))
        return all(any(fnmatchcase(name, each) for each in patterns for name in known) for patterns, known in named)

    def is_about(self, *, calls: bool) -> bool:
        """Whether it limits calls at once, or else what requests use. One that limits nothing is about both."""
        values = {rule.name: getattr(self, rule.name) for rule in fields(self) if rule.default is None}
        limited = {name for name, value in values.items() if value is not None}
        return not limited or ("sessions" in limited if calls else bool(limited - {"sessions"}))

    def per_minute(self, kind: Kind) -> int | None:
        return getattr(self, f"{kind}_per_minute")


class Allowance(NamedTuple):
    """Where a bucket stands."""

    limit: int
    remaining: int
    reset_s: float  # until it is as if nothing had been used


class LimitReached(Exception):
    """`retry_after_s` is None where waiting doesn't help: the request is too large, or the quota is used up."""

    def __init__(
        self,
        message: str,
        kind: Kind | Literal["quota", "sessions"],
        retry_after_s: float | None,
        allowances: Mapping[Kind, Allowance] | None = None,
    ) -> None:
        super().__init__(message)
        self.allowances = allowances or {}
        self.kind = kind
        self.retry_after_s = retry_after_s


@dataclass(kw_only=True)
class Bucket:
    limit: int
    used: float = 0.0
    at_s: float = 0.0  # when that much was used, on the clock of whoever asks

    def take(self, amount: float, now_s: float) -> None:
        """Less than nothing gives back. What is gone for more than the limit stays owed."""
        self.used = max(0.0, self._left_in(now_s) + amount)
        self.at_s = now_s

    def wait_s(self, amount: float, now_s: float) -> float:
        """Until there is room for so much; 0 now."""
        too_much = self._left_in(now_s) + amount - self.limit
        return max(0.0, too_much / self.drains_per_s) if too_much > SLACK else 0.0

    def allowance(self, now_s: float) -> Allowance:
        used = self._left_in(now_s)
        reset_s = used / self.drains_per_s if used else 0.0
        return Allowance(self.limit, max(0, int(self.limit - used + SLACK)), reset_s)

    def _left_in(self, now_s: float) -> float:
        return max(0.0, self.used - (now_s - self.at_s) * self.drains_per_s)

    @property
    def drains_per_s(self) -> float:
        return self.limit / 60


@dataclass(kw_only=True)
class Standing:
    """What a caller has used of a rule."""

    buckets: Mapping[Kind, Bucket]  # of the kinds that the rule limits
    month: str = ""  # of the calendar; empty: it has not been told yet what was used in it
    month_tokens: int = 0  # reserved ones included

    def has_room(self, rule: LimitRule, amounts: Amounts, now_s: float) -> bool:
        within = all(not bucket.wait_s(amounts[kind], now_s) for kind, bucket in self.buckets.items())
        return within and (rule.tokens_per_month or math.inf) >= self.month_tokens + amounts["tokens"]

    def take(self, amounts: Amounts, now_s: float) -> None:
        for kind, bucket in self.buckets.items():
            bucket.take(amounts[kind], now_s)
        self.month_tokens += int(amounts["tokens"])


class Counters(Protocol):
    """Where it is counted what every caller has used of every rule."""

    async def take(self, rule: LimitRule, caller: Caller, amounts: Amounts) -> tuple[bool, Standing]:
        """Takes all of it, or nothing. Whether it was taken, and how things stand then."""
        ...

    def give_back(self, rule: LimitRule, caller: Caller, amounts: Amounts, standing: Standing) -> None:
        """Or takes more, where less than nothing is given back. Doesn't wait. `standing` is that of `take`, and is put
        right too."""
        ...

    async def begin_month(self, rule: LimitRule, caller: Caller, used_tokens: int) -> None:
        """Tells what was used this month. Whoever tells it first is believed."""
        ...

    async def open_session(self, rule: LimitRule, caller: Caller) -> Callable[[], None] | None:
        """Counts a call until the function that it returns is called. None: there are as many as there may be."""
        ...

    async def close(self) -> None: ...


class InMemory:
    """Counters of one server."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._standings: dict[tuple[LimitRule, Caller], Standing] = {}
        self._sessions: Counter[tuple[LimitRule, Caller]] = Counter()

    async def take(self, rule: LimitRule, caller: Caller, amounts: Amounts) -> tuple[bool, Standing]:
        standing, now_s = self._standing(rule, caller), self._clock()
        has_room = standing.month == month_of(rule) and standing.has_room(rule, amounts, now_s)
        if has_room:
            standing.take(amounts, now_s)
        return has_room, standing

    def give_back(self, rule: LimitRule, caller: Caller, amounts: Amounts, standing: Standing) -> None:
        standing.take(negative(amounts), self._clock())  # which is the very one that is kept

    async def begin_month(self, rule: LimitRule, caller: Caller, used_tokens: int) -> None:
        standing = self._standing(rule, caller)
        if standing.month != this_month():
            standing.month, standing.month_tokens = this_month(), used_tokens

    async def open_session(self, rule: LimitRule, caller: Caller) -> Callable[[], None] | None:
        place = (rule, caller)
        if self._sessions[place] >= (rule.sessions or 0):
            return None
        self._sessions[place] += 1
        return lambda: self._sessions.subtract((place,))

    async def close(self) -> None:
        pass

    def _standing(self, rule: LimitRule, caller: Caller) -> Standing:
        return self._standings.setdefault((rule, caller), Standing(buckets=buckets_of(rule)))


class Reservation:
    """What a request has been given in advance. `settle` puts the true figures in its place, once."""

    def __init__(
        self,
        taken: Amounts,
        standing: Standing,
        clock: Callable[[], float],
        give_back: Callable[[Amounts, Standing], None] = lambda amounts, standing: None,
    ) -> None:
        self._taken = taken
        self._standing = standing
        self._clock = clock
        self._give_back = give_back
        self._settled = False

    def settle(self, *, requests: int = 1, tokens: int, audio_s: float = 0.0) -> None:
        """All zeros: as if the request had never been."""
        assert not self._settled
        self._settled = True
        true: Amounts = {"requests": requests, "tokens": tokens, "audio_s": audio_s}
        self._give_back({kind: taken - true[kind] for kind, taken in self._taken.items()}, self._standing)

    def allowances(self) -> Mapping[Kind, Allowance]:
        """Where the limits stand that there are."""
        return _allowances(self._standing.buckets, self._clock())


async def _nothing(caller: Caller, models: Sequence[str]) -> int:
    return 0


class Limits:
    """The first rule that is for a caller and a model holds, of those about calls and of those about requests; without
    one there is no limit."""

    def __init__(
        self,
        rules: Sequence[LimitRule] = (),
        counters: Counters | None = None,
        *,
        names: Sequence[str] = (),
        used_this_month: Callable[[Caller, Sequence[str]], Awaitable[int]] = _nothing,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`names` are all those of the model that is served: by none of them is there a way around its limits.

        `used_this_month` is asked, when the counting of a quota begins, for the tokens that models of these names or
        patterns have used.
        """
        self.rules = tuple(rules)
        self._names = tuple(names)
        self._counters = counters or InMemory(clock)
        self._used_this_month = used_this_month
        self._clock = clock

    async def reserve(self, caller: Caller, model: str, *, tokens: int, audio_s: float = 0.0) -> Reservation:
        """Takes one request and so much from the caller's allowances, or nothing. Raises LimitReached."""
        amounts: Amounts = {"requests": 1, "tokens": tokens, "audio_s": audio_s}
        if (rule := self._rule(caller, model, calls=False)) is None:
            return Reservation(amounts, Standing(buckets={}), self._clock)
        while True:
            has_room, standing = await self._counters.take(rule, caller, amounts)
            if has_room:
                give_back = partial(self._counters.give_back, rule, caller)
                return Reservation(amounts, standing, self._clock, give_back)
            if standing.month != month_of(rule):
                used_tokens = await self._used_this_month(caller, (*rule.models, *self._names))
                await self._counters.begin_month(rule, caller, used_tokens)
                continue
            # where nothing is to be raised, there is room again by now
            self._refuse(rule, standing, amounts, model)

    async def open_session(self, caller: Caller, model: str) -> Callable[[], None]:
        """Counts a call until the function that it returns is called. Raises LimitReached."""
        rule = self._rule(caller, model, calls=True)
        if rule is None or rule.sessions is None:
            return lambda: None
        if (close := await self._counters.open_session(rule, caller)) is None:
            message = f"Limit reached for {model} on calls at once: Limit {rule.sessions}."
            raise LimitReached(message, "sessions", None)
        return close

    async def close(self) -> None:
        await self._counters.close()

    def _rule(self, caller: Caller, model: str, *, calls: bool) -> LimitRule | None:
        names = self._names if model in self._names else (model,)
        fitting = (rule for rule in self.rules if rule.is_about(calls=calls) and rule.is_for(caller, names))
        return next(fitting, None)

    def _refuse(self, rule: LimitRule, standing: Standing, amounts: Amounts, model: str) -> None:
        now_s = self._clock()
        allowances = _allowances(standing.buckets, now_s)
        for kind, bucket in standing.buckets.items():
            used, amount = bucket.limit - allowances[kind].remaining, amounts[kind]
            figures = f"Limit {bucket.limit}, Used {used}, Requested {amount:.0f}"
            if amount > bucket.limit:
                message = f"Request too large for {model} on {_UNITS[kind]}: {figures}."
                raise LimitReached(message, kind, None, allowances)
            if wait_s := bucket.wait_s(amount, now_s):
                message = f"Rate limit reached for {model} on {_UNITS[kind]}: {figures}."
                again = f"Please try again in {go_duration(wait_s)}."
                raise LimitReached(f"{message} {again}", kind, wait_s, allowances)
        if (quota := rule.tokens_per_month) is not None and standing.month_tokens + amounts["tokens"] > quota:
            message = f"You exceeded your quota of {quota} tokens a month, used {standing.month_tokens}."
            raise LimitReached(message, "quota", None, allowances)


def buckets_of(rule: LimitRule) -> dict[Kind, Bucket]:
    return {kind: Bucket(limit=limit) for kind in _UNITS if (limit := rule.per_minute(kind)) is not None}


def negative(amounts: Amounts) -> Amounts:
    return {kind: -amount for kind, amount in amounts.items()}


def month_of(rule: LimitRule) -> str:
    """The month whose use has to be known; empty without a quota."""
    return this_month() if rule.tokens_per_month is not None else ""


def _allowances(buckets: Mapping[Kind, Bucket], now_s: float) -> dict[Kind, Allowance]:
    return {kind: bucket.allowance(now_s) for kind, bucket in buckets.items()}


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
