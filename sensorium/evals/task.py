"""What an evaluation is made of: samples, replies, a scorer, and the one door to a model.

    for sample in samples:
        reply = await sampler.sample(sample.messages, ...)
        outcome = task.score(sample, reply)             {"exact": Score(1.0)}, or Unscored("why")

A model is anything that satisfies `Sampler`: an engine in this process, a server, a script in a test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from sensorium.messages import Audio, Image, Message, ToolCall

Modality: TypeAlias = Literal["text", "audio"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """One held-out question. `condition` names the row of the report it counts in.

    `metadata` holds what a scorer needs beyond the right answer; its keys are named by the task that reads them.
    """

    id: str
    messages: tuple[Message, ...]
    target: str
    condition: str = "all"
    modality: Modality = "text"  # the form of the reply that is asked for
    voice: str = "alloy"
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Reply:
    """Everything that came back. `heard` holds a transcript for each clip of the prompt, in order."""

    text: str = ""
    transcript: str = ""
    heard: tuple[str, ...] = ()
    audio: Audio | None = None
    images: tuple[Image, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    ttft_ms: float | None = None  # from the request to the first text, of the reply or of its transcript
    ttfa_ms: float | None = None  # to the first sound

    @property
    def words(self) -> str:
        """What was said, written or spoken."""
        return self.text or self.transcript


class Sampler(Protocol):
    """The one door to a model. The same seed gives the same reply."""

    async def sample(self, messages: Sequence[Message], *, modality: Modality, voice: str, seed: int) -> Reply: ...


class Score(NamedTuple):
    """One measurement of one reply. The mean of a metric weighs its scores: a word error rate by words."""

    value: float
    weight: float = 1.0


class Unscored(NamedTuple):
    """The third outcome: neither right nor wrong, because nobody could tell."""

    reason: str


Scores: TypeAlias = dict[str, Score]
Scorer: TypeAlias = Callable[[Sample, Reply], Scores | Unscored]


class Chance(NamedTuple):
    """What a guesser reaches that has not perceived the question, and how that guesser plays."""

    value: float
    reason: str


class Goal(NamedTuple):
    """A bar that a metric of one condition must reach; or, with `behind`, the most that it may lie behind the same
    metric of that condition."""

    metric: str
    bound: float
    condition: str = "all"
    at_most: bool = False
    behind: str = ""

    def is_met(self, value: float) -> bool:
        return value <= self.bound if self.at_most else value >= self.bound


@dataclass(frozen=True, kw_only=True)
class Task:
    """One skill. `metric` is the headline among those that `score` gives; `chance` is measured on the samples."""

    name: str
    title: str  # what is asked and what counts as right, in one line
    score: Scorer
    metric: str
    chance: Callable[[Sequence[Sample]], Chance]
    goals: tuple[Goal, ...] = ()
    is_error: bool = False  # the headline is better the lower it is


def most_frequent(samples: Sequence[Sample]) -> Chance:
    """The guesser that always gives the commonest right answer."""
    targets = [sample.target for sample in samples]
    commonest = max(set(targets), key=lambda target: (targets.count(target), target))
    return Chance(targets.count(commonest) / len(targets), "always the commonest answer of the set")


def blind(samples: Sequence[Sample]) -> Chance:
    """The guesser that reads the question but does not look: `metadata["guess"]`, the commonest training answer."""
    right = sum(sample.metadata["guess"] == sample.target for sample in samples)
    return Chance(right / len(samples), "the commonest training answer to the same question, without looking")
