"""A run: outcomes, means and their errors, what happens to failures, and going on after a stop."""

from __future__ import annotations

import asyncio
import math
import random
from pathlib import Path

import pytest

from sensorium.evals import scorers
from sensorium.evals.run import Outcome, conditions, estimate, members, run
from sensorium.evals.task import Reply, Sample, Score, Task, blind, most_frequent
from tests.evals.scripted import ScriptedSampler, typed_sample

ECHO = Task(name="echo", title="say it", score=scorers.answer, metric="exact", chance=most_frequent)
SAMPLES = [typed_sample(str(index), f"word {index % 4}", condition="ab"[index % 2]) for index in range(40)]


def perfect(sample: Sample) -> Reply:
    return Reply(text=sample.target)


async def mean(sampler: ScriptedSampler) -> float:
    result = await run(ECHO, SAMPLES, sampler)
    return estimate([outcome.scores["exact"] for outcome in result.outcomes]).mean


async def test_a_perfect_a_silent_and_a_guessing_model():
    guesses = random.Random(0)
    assert await mean(ScriptedSampler(SAMPLES, perfect)) == 1.0
    assert await mean(ScriptedSampler(SAMPLES, lambda sample: Reply())) == 0.0
    guessing = await mean(ScriptedSampler(SAMPLES, lambda sample: Reply(text=f"word {guesses.randrange(4)}")))
    assert 0.05 < guessing < 0.5


async def test_chance_is_measured_for_every_condition_and_for_all():
    result = await run(ECHO, SAMPLES, ScriptedSampler(SAMPLES, perfect))
    assert {name: chance.value for name, chance in result.chance.items()} == {"a": 0.5, "b": 0.5, "all": 0.25}


async def test_a_failing_sampler_leaves_its_sample_unscored():
    def reply(sample: Sample) -> Reply:
        if sample.id == "3":
            raise ConnectionError("gone")
        return perfect(sample)

    result = await run(ECHO, SAMPLES, ScriptedSampler(SAMPLES, reply))
    unscored = [outcome for outcome in result.outcomes if outcome.unscored]
    assert [(outcome.id, outcome.unscored) for outcome in unscored] == [("3", "ConnectionError: gone")]


async def test_a_reply_that_never_comes_is_given_up():
    class Sleeper:
        async def sample(self, messages: object, **asked: object) -> Reply:
            await asyncio.sleep(60)
            return Reply()

    result = await run(ECHO, SAMPLES[:1], Sleeper(), timeout_s=0.01)
    assert result.outcomes[0].unscored == "TimeoutError: "


async def test_no_more_than_so_many_are_asked_at_once():
    active, most = 0, 0

    class Counting:
        async def sample(self, messages: object, **asked: object) -> Reply:
            nonlocal active, most
            active += 1
            most = max(most, active)
            await asyncio.sleep(0)
            active -= 1
            return Reply()

    await run(ECHO, SAMPLES, Counting(), concurrency=3)
    assert most == 3


async def test_a_stopped_run_goes_on_and_asks_failures_again(tmp_path: Path):
    log = tmp_path / "echo.jsonl"

    def flaky(sample: Sample) -> Reply:
        if sample.id == "1":
            raise ConnectionError("gone")
        return perfect(sample)

    await run(ECHO, SAMPLES[:3], ScriptedSampler(SAMPLES, flaky), log=log)
    with log.open("a") as file:
        file.write('{"id": "3", "cond')  # the machine stopped while it wrote
    again = ScriptedSampler(SAMPLES, perfect)
    seen: list[Outcome] = []
    result = await run(ECHO, SAMPLES[:4], again, log=log, progress=seen.append)
    assert again.asked == ["1", "3"] == [outcome.id for outcome in seen]
    assert [outcome.scores["exact"].value for outcome in result.outcomes] == [1.0] * 4


@pytest.mark.parametrize("samples", [[], [SAMPLES[0], SAMPLES[0]]])
async def test_samples_must_be_there_and_distinct(samples: list[Sample]):
    with pytest.raises(ValueError, match="echo needs samples with distinct ids"):
        await run(ECHO, samples, ScriptedSampler(samples, perfect))


def test_the_standard_error_of_a_share():
    found = estimate([Score(1.0)] * 30 + [Score(0.0)] * 10)
    assert found.mean == 0.75
    assert found.n == 40
    assert found.stderr == pytest.approx(math.sqrt(0.75 * 0.25 / 39))


def test_a_word_error_rate_weighs_words_not_sentences():
    assert estimate([Score(1.0, 1), Score(0.0, 9)]).mean == pytest.approx(0.1)
    assert estimate([Score(0.5, 4), Score(0.5, 8)]).stderr == 0.0
    assert math.isnan(estimate([Score(1.0)]).stderr)
    with pytest.raises(ValueError, match="nothing to average"):
        estimate([])


def test_conditions_keep_their_order_and_all_means_everyone():
    assert conditions(SAMPLES) == ("a", "b")
    assert len(members(SAMPLES, "b")) == 20
    assert len(members(SAMPLES, "all")) == 40


def test_a_blind_guesser_reads_the_question_only():
    samples = [
        Sample(id=str(index), messages=(), target=target, metadata={"guess": "yes"})
        for index, target in enumerate(("yes", "yes", "no", "no"))
    ]
    assert blind(samples).value == 0.5
