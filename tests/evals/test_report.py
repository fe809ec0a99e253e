"""Reports: JSON, tables and a picture of results that were made by hand."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from sensorium.evals import report, scorers
from sensorium.evals.report import Report
from sensorium.evals.run import Outcome, Result
from sensorium.evals.task import Chance, Goal, Score, Task, most_frequent


def outcome(index: int, value: float | None, *, condition: str = "all", ttft_ms: float | None = None) -> Outcome:
    return Outcome(
        id=str(index),
        condition=condition,
        target="yes",
        reply="yes" if value else "no",
        scores={} if value is None else {"exact": Score(value)},
        unscored="could not tell" if value is None else None,
        ttft_ms=ttft_ms,
    )


def result(outcomes: list[Outcome], *goals: Goal, is_error: bool = False) -> Result:
    task = Task(
        name="yes_no",
        title="a question",
        score=scorers.answer,
        metric="exact",
        chance=most_frequent,
        goals=goals,
        is_error=is_error,
    )
    names = dict.fromkeys((*(item.condition for item in outcomes), "all"))
    return Result(task, tuple(outcomes), dict.fromkeys(names, Chance(0.5, "a coin")))


def a_report(*results: Result) -> Report:
    return {"run": {"model": "test"}, "tasks": [report.task_record(item) for item in results]}


def test_a_row_has_mean_error_n_unscored_and_chance():
    record = report.task_record(result([outcome(i, float(i < 9)) for i in range(12)] + [outcome(12, None)]))
    (row,) = record["rows"]
    assert row == {
        "condition": "all",
        "metric": "exact",
        "mean": 0.75,
        "stderr": pytest.approx(0.1306, abs=1e-4),
        "n": 12,
        "unscored": 1,
        "chance": 0.5,
    }
    assert record["chance"] == "a coin"


def test_a_goal_counts_unscored_replies_as_wrong():
    outcomes = [outcome(i, 1.0) for i in range(9)] + [outcome(9, None)]
    at_least = report.task_record(result(outcomes, Goal("exact", 0.95)))["goals"][0]
    assert (at_least["value"], at_least["is_met"]) == (pytest.approx(0.9), False)
    errors = [outcome(i, 0.0) for i in range(9)] + [outcome(9, None)]
    at_most = report.task_record(result(errors, Goal("exact", 0.05, at_most=True), is_error=True))["goals"][0]
    assert (at_most["value"], at_most["is_met"]) == (pytest.approx(0.1), False)


def test_a_goal_may_be_how_far_one_condition_lies_behind_another():
    typed = [outcome(i, float(i != 0), condition="typed") for i in range(10)]
    spoken = [outcome(10 + i, float(i > 2), condition="spoken") for i in range(10)]
    near, far = (Goal("exact", bound, "spoken", at_most=True, behind="typed") for bound in (0.25, 0.15))
    record = report.task_record(result([*typed, *spoken], near, far))
    assert [goal["value"] for goal in record["goals"]] == [pytest.approx(0.2), pytest.approx(0.2)]
    assert [report.goal_cell(goal) for goal in record["goals"]] == [
        "≤ 25 % behind typed met",
        "≤ 15 % behind typed missed",
    ]
    assert report.task_record(result(spoken, near))["goals"] == [], "nothing to lie behind"


def test_a_goal_for_all_conditions_has_a_row_of_its_own():
    outcomes = [outcome(0, 1.0, condition="a"), outcome(1, 0.0, condition="b")]
    overall = report.task_record(result(outcomes, Goal("exact", 0.5)))
    assert [(row["condition"], row["mean"]) for row in overall["rows"]] == [("a", 1.0), ("b", 0.0), ("all", 0.5)]
    assert overall["goals"][0]["is_met"]
    absent = report.task_record(result(outcomes, Goal("exact", 0.5, "c")))
    assert [row["condition"] for row in absent["rows"]] == ["a", "b"]
    assert absent["goals"] == []


def test_nothing_scored_is_shown_as_such():
    record = report.task_record(result([outcome(0, None)], Goal("exact", 0.5)))
    assert record["rows"][0]["mean"] is None
    assert record["goals"][0]["value"] == 0.0
    assert report.with_error(record["rows"][0]) == "-"


def test_latency_is_given_as_percentiles_of_what_was_measured():
    record = report.task_record(result([outcome(i, 1.0, ttft_ms=float(i)) for i in range(1, 101)]))
    assert record["latency_ms"] == {"ttft_p50": 50.0, "ttft_p95": 95.0}


def test_examples_are_of_wrong_and_unscored_replies():
    record = report.task_record(result([outcome(0, 1.0), outcome(1, 0.0), outcome(2, None)]))
    assert [example["id"] for example in record["examples"]] == ["1", "2"]


def test_json_comes_back_as_it_was(tmp_path: Path):
    made = a_report(result([outcome(0, 1.0), outcome(1, 0.0)], Goal("exact", 0.9)))
    report.save(made, tmp_path / "evals.json")
    assert report.load(tmp_path / "evals.json") == made
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(ValueError, match="not a report"):
        report.load(tmp_path / "other.json")


def test_the_tables_show_the_same_lines():
    made = a_report(result([outcome(i, float(i > 0)) for i in range(10)], Goal("exact", 0.95)))
    markdown = report.markdown(made)
    assert "| yes_no | all | exact | 90.0 ± 10.0 % | 50.0 % | ≥ 95 % missed | 10 |" in markdown
    screen = io.StringIO()
    Console(file=screen, width=150).print(report.table(made))
    assert "90.0 ± 10.0 %" in screen.getvalue()


def test_the_plot_is_a_picture(tmp_path: Path):
    made = a_report(
        result([outcome(i, float(i % 2), condition="ab"[i % 2]) for i in range(8)], Goal("exact", 0.5)),
        result([outcome(0, None)]),
    )
    report.plot(made, tmp_path / "evals.png")
    with Image.open(tmp_path / "evals.png") as picture:
        assert picture.width > 300
