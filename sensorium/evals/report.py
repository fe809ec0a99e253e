"""Results as JSON, as a table for people, and as a picture.

Every mean has its standard error and its n, every headline its chance level. A goal counts as met only if it is met
with every reply that could not be scored taken for a wrong one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from sensorium.evals.run import ALL, Outcome, Result, conditions, estimate, members
from sensorium.evals.task import Goal

if TYPE_CHECKING:
    from rich.table import Table

NUM_EXAMPLES = 3


class Row(TypedDict):
    """One metric of one condition. `chance` is given for the task's headline metric only."""

    condition: str
    metric: str
    mean: float | None  # None: nothing could be scored
    stderr: float | None  # None: of one reply
    n: int
    unscored: int
    chance: NotRequired[float]


class GoalRecord(TypedDict):
    metric: str
    condition: str
    bound: float
    at_most: bool
    value: float  # with unscored replies counted as wrong
    is_met: bool
    behind: NotRequired[str]  # the condition that `value` is the distance from


class Example(TypedDict):
    id: str
    target: str
    reply: str
    unscored: str | None


class TaskRecord(TypedDict):
    name: str
    title: str
    metric: str
    is_error: bool
    chance: str
    rows: list[Row]
    goals: list[GoalRecord]
    latency_ms: dict[str, float]  # ttft_p50, ttft_p95, ttfa_p50, ttfa_p95
    examples: list[Example]  # of replies that were wrong


class Report(TypedDict):
    """What `evals.json` holds. `run` says what was measured, when, where and by which judges."""

    run: dict[str, Any]
    tasks: list[TaskRecord]


def task_record(result: Result) -> TaskRecord:
    task, outcomes = result.task, result.outcomes
    return {
        "name": task.name,
        "title": task.title,
        "metric": task.metric,
        "is_error": task.is_error,
        "chance": next(iter(result.chance.values())).reason,
        "rows": list(_rows(result)),
        "goals": [
            _goal_record(goal, outcomes)
            for goal in task.goals
            if members(outcomes, goal.condition) and (not goal.behind or members(outcomes, goal.behind))
        ],
        "latency_ms": _latency_ms(outcomes),
        "examples": list(_examples(result))[:NUM_EXAMPLES],
    }


def _rows(result: Result) -> Iterator[Row]:
    names = conditions(result.outcomes)
    if ALL not in names and any(goal.condition == ALL for goal in result.task.goals):
        names = (*names, ALL)
    for condition in names:
        outcomes = members(result.outcomes, condition)
        scored = [outcome for outcome in outcomes if outcome.unscored is None]
        metrics = dict.fromkeys([result.task.metric, *(name for outcome in scored for name in outcome.scores)])
        for metric in metrics:
            found = estimate([outcome.scores[metric] for outcome in scored]) if scored else None
            row: Row = {
                "condition": condition,
                "metric": metric,
                "mean": found.mean if found else None,
                "stderr": found.stderr if found and len(scored) > 1 else None,
                "n": len(scored),
                "unscored": len(outcomes) - len(scored),
            }
            if metric == result.task.metric:
                row["chance"] = result.chance[condition].value
            yield row


def _goal_record(goal: Goal, outcomes: Sequence[Outcome]) -> GoalRecord:
    value = _at_worst(members(outcomes, goal.condition), goal.metric, 1.0 if goal.at_most and not goal.behind else 0.0)
    if goal.behind:
        value = _at_worst(members(outcomes, goal.behind), goal.metric, 1.0) - value
    record: GoalRecord = {
        "metric": goal.metric,
        "condition": goal.condition,
        "bound": goal.bound,
        "at_most": goal.at_most,
        "value": value,
        "is_met": goal.is_met(value),
    }
    return {**record, "behind": goal.behind} if goal.behind else record


def _at_worst(outcomes: Sequence[Outcome], metric: str, unscored: float) -> float:
    """The mean of a metric, with `unscored` for what could not be scored."""
    scored = [outcome.scores[metric] for outcome in outcomes if outcome.unscored is None]
    share = len(scored) / len(outcomes)
    return unscored * (1 - share) + (estimate(scored).mean * share if scored else 0.0)


def _latency_ms(outcomes: Sequence[Outcome]) -> dict[str, float]:
    latency: dict[str, float] = {}
    for name in ("ttft", "ttfa"):
        times = sorted(time for outcome in outcomes if (time := getattr(outcome, f"{name}_ms")) is not None)
        for percent in (50, 95) if times else ():
            latency[f"{name}_p{percent}"] = times[math.ceil(percent / 100 * len(times)) - 1]
    return latency


def _examples(result: Result) -> Iterator[Example]:
    for outcome in result.outcomes:
        score = outcome.scores.get(result.task.metric)
        if score is not None and score.value == (0.0 if result.task.is_error else 1.0):
            continue
        yield {"id": outcome.id, "target": outcome.target, "reply": outcome.reply, "unscored": outcome.unscored}


def save(report: Report, path: Path) -> None:
    path.write_text(json.dumps(report, indent=1) + "\n", "utf-8")


def load(path: Path) -> Report:
    """Reads `evals.json`. Raises ValueError if the file is something else."""
    report = json.loads(path.read_text("utf-8"))
    if not isinstance(report, dict) or not {"run", "tasks"} <= report.keys():
        raise ValueError(f"{path} is not a report of evaluations")
    return report  # pyright: ignore[reportReturnType]


# --- for people

HEADER = ("task", "condition", "measure", "result", "chance", "goal", "n", "unscored")


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def with_error(row: Row) -> str:
    """ "93.0 ± 2.6 %"."""
    if row["mean"] is None or row["stderr"] is None:
        return percent(row["mean"])
    return f"{100 * row['mean']:.1f} ± {100 * row['stderr']:.1f} %"


def cells(task: TaskRecord) -> list[tuple[str, ...]]:
    """The lines of the table about one task, as `HEADER` names them."""
    lines: list[tuple[str, ...]] = []
    for above, row in zip([None, *task["rows"]], task["rows"], strict=False):
        goals = [goal_cell(goal) for goal in goals_of(task, row)]
        lines.append(
            (
                "" if above else task["name"],
                "" if above and above["condition"] == row["condition"] else row["condition"],
                row["metric"].replace("_", " "),
                with_error(row),
                percent(row["chance"]) if "chance" in row else "",
                ", ".join(goals),
                str(row["n"]),
                str(row["unscored"]) if row["unscored"] else "",
            )
        )
    return lines


def goals_of(task: TaskRecord, row: Row) -> list[GoalRecord]:
    """The bars that this row must reach."""
    return [goal for goal in task["goals"] if (goal["metric"], goal["condition"]) == (row["metric"], row["condition"])]


def goal_cell(goal: GoalRecord) -> str:
    return f"{goal_bound(goal)} {'met' if goal['is_met'] else 'missed'}"


def goal_bound(goal: GoalRecord) -> str:
    if behind := goal.get("behind"):
        return f"≤ {100 * goal['bound']:g} % behind {behind}"
    return f"{'≤' if goal['at_most'] else '≥'} {100 * goal['bound']:g} %"


def markdown(report: Report) -> str:
    """The table as a page can hold it."""
    lines = [HEADER, tuple("--:" if name in ("result", "chance", "n") else "---" for name in HEADER)]
    lines += [line for task in report["tasks"] for line in cells(task)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def table(report: Report) -> Table:
    """The table for a terminal."""
    from rich.table import Table

    drawn = Table(*HEADER, title=str(report["run"].get("model", "")))
    for task in report["tasks"]:
        for line in cells(task):
            colour = "red" if "missed" in line[5] else "green" if "met" in line[5] else ""
            drawn.add_row(*line, style=colour)
        drawn.add_section()
    return drawn


def plot(report: Report, path: Path) -> None:
    """Headline results with two standard errors, chance and goal. Needs matplotlib (the `train` extra)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [(task, row) for task in report["tasks"] for row in task["rows"] if row["metric"] == task["metric"]]
    figure = Figure(figsize=(9, 1 + 0.32 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    labels: list[str] = []
    for height, (task, row) in enumerate(rows):
        colour = "tab:orange" if task["is_error"] else "tab:blue"
        axes.barh(height, 100 * (row["mean"] or 0.0), xerr=200 * (row["stderr"] or 0.0), color=colour, capsize=2)
        axes.plot(100 * row.get("chance", 0.0), height, "k|", markersize=12, markeredgewidth=2)
        for goal in goals_of(task, row):
            if "behind" in goal:
                continue
            axes.plot(100 * goal["bound"], height, "r<" if goal["at_most"] else "r>", markersize=7)
        condition = "" if row["condition"] == "all" else f", {row['condition']}"
        labels.append(f"{task['name'].replace('_', ' ')}{condition} ({row['metric'].replace('_', ' ')})")
    axes.set_yticks(range(len(rows)), labels)
    axes.invert_yaxis()
    axes.set_xlim(0, 105)
    axes.set_xlabel("percent ± 2 standard errors | chance ▸ goal; orange: an error rate")
    figure.savefig(path, dpi=110)
