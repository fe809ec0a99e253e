"""Runs a task: asks the sampler every sample, scores the replies, keeps a line of JSON for each.

A run that was stopped goes on where it was: samples with a line in the log are not asked again, unless the sampler
failed on them.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from sensorium.evals.task import Chance, Reply, Sample, Sampler, Score, Task, Unscored

ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one sample: scores, or the reason why there are none."""

    id: str
    condition: str
    target: str
    reply: str
    scores: dict[str, Score]
    unscored: str | None = None
    has_failed: bool = False  # the sampler raised; such a sample is asked again
    ttft_ms: float | None = None
    ttfa_ms: float | None = None


Item = TypeVar("Item", Sample, Outcome)


class Estimate(NamedTuple):
    """A mean with its standard error, over `n` scored replies."""

    mean: float
    stderr: float
    n: int


class Result(NamedTuple):
    """A task's outcomes, and what guessing reaches in each condition."""

    task: Task
    outcomes: tuple[Outcome, ...]
    chance: dict[str, Chance]


async def run(
    task: Task,
    samples: Sequence[Sample],
    sampler: Sampler,
    *,
    log: Path | None = None,
    seed: int = 0,
    concurrency: int = 1,
    timeout_s: float = 120.0,
    progress: Callable[[Outcome], None] = lambda outcome: None,
) -> Result:
    """Asks every sample, `concurrency` at a time. Raises ValueError for samples without distinct ids, or none."""
    if not samples or len({sample.id for sample in samples}) != len(samples):
        raise ValueError(f"{task.name} needs samples with distinct ids, it has {len(samples)} samples")
    done = {outcome.id: outcome for outcome in _read(log)} if log else {}
    gate = asyncio.Semaphore(concurrency)

    async def outcome_of(sample: Sample) -> Outcome:
        if sample.id in done and not done[sample.id].has_failed:
            return done[sample.id]
        async with gate:
            outcome = await _ask(task, sample, sampler, seed=seed, timeout_s=timeout_s)
        if log:
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(outcome)) + "\n")
        progress(outcome)
        return outcome

    outcomes = await asyncio.gather(*(outcome_of(sample) for sample in samples))
    chance = {name: task.chance(members(samples, name)) for name in dict.fromkeys((*conditions(samples), ALL))}
    return Result(task, tuple(outcomes), chance)


async def _ask(task: Task, sample: Sample, sampler: Sampler, *, seed: int, timeout_s: float) -> Outcome:
    reply, has_failed = Reply(), False
    try:
        async with asyncio.timeout(timeout_s):
            reply = await sampler.sample(sample.messages, modality=sample.modality, voice=sample.voice, seed=seed)
        scores = task.score(sample, reply)
    except Exception as error:  # whatever a model or a server does to one sample must not end the run
        scores, has_failed = Unscored(f"{type(error).__name__}: {error}"), True
    return Outcome(
        id=sample.id,
        condition=sample.condition,
        target=sample.target,
        reply=shown(reply),
        scores=scores if isinstance(scores, dict) else {},
        unscored=None if isinstance(scores, dict) else scores.reason,
        has_failed=has_failed,
        ttft_ms=reply.ttft_ms,
        ttfa_ms=reply.ttfa_ms,
    )


def shown(reply: Reply) -> str:
    """A reply in one line of text, for the log and for the examples of a report."""
    parts = [f"[heard: {text}]" for text in reply.heard]
    parts += [reply.words] if reply.words else []
    parts += [f"{call.name}({call.arguments})" for call in reply.tool_calls]
    parts += [f"[{reply.audio.duration_ms / 1000:.1f} s of speech]"] if reply.audio else []
    parts += ["[picture]" for _ in reply.images]
    return " ".join(parts)


def conditions(items: Sequence[Sample] | Sequence[Outcome]) -> tuple[str, ...]:
    """The conditions, in the order in which they first occur."""
    return tuple(dict.fromkeys(item.condition for item in items))


def members(items: Sequence[Item], condition: str) -> list[Item]:
    """The samples or outcomes of a condition; every one belongs to "all"."""
    return [item for item in items if condition in (item.condition, ALL)]


def estimate(scores: Sequence[Score]) -> Estimate:
    """The weighted mean, and its standard error as that of a ratio: replies are the units, not words.

    Raises ValueError without scores.
    """
    total = sum(score.weight for score in scores)
    if not scores or total <= 0:
        raise ValueError("there is nothing to average")
    mean = sum(score.value * score.weight for score in scores) / total
    n = len(scores)
    if n < 2:
        return Estimate(mean, math.nan, n)
    residual = sum((score.weight * (score.value - mean)) ** 2 for score in scores)
    return Estimate(mean, math.sqrt(residual * n / (n - 1)) / total, n)


def _read(log: Path) -> Iterator[Outcome]:
    if not log.exists():
        return
    for line in log.read_text("utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:  # a line that was cut when the run was stopped: its sample is asked again
            continue
        scores = {name: Score(*score) for name, score in record.pop("scores").items()}
        yield Outcome(**record, scores=scores)
