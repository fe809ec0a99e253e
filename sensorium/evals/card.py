"""The model card of a checkpoint, and the table of the project's README: every figure comes from a file.

    evals.json       what `recipes.evals` measured
    training.json    how the weights were made (`TrainingRecord`)

The card is a Hugging Face model card: Markdown below YAML that its hub reads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

from sensorium.evals import report
from sensorium.evals.report import Report, Row, TaskRecord

REGION = re.compile(r"(<!-- card:begin -->\n).*?(<!-- card:end -->)", re.DOTALL)


class Stage(TypedDict):
    """One run of the training loop."""

    name: str
    num_steps: int
    items: int  # positions of the network, clips or pictures of its tokenizers
    item: str  # what an item is, in the plural
    wall_time_s: float


class _Setup(TypedDict, total=False):
    settings: dict[str, Any]  # the whole recipe of the last run, and its number of ranks; older records lack it


class TrainingRecord(_Setup):
    """What `training.json` holds."""

    name: str
    recipe: str  # the command that makes these weights
    parameters: dict[str, int]  # part -> number
    stages: list[Stage]
    machine: str


def load_training(path: Path) -> TrainingRecord:
    """Reads `training.json`. Raises ValueError naming what is missing."""
    record = json.loads(path.read_text("utf-8"))
    if missing := TrainingRecord.__required_keys__ - record.keys():
        raise ValueError(f"{path} lacks {', '.join(sorted(missing))}")
    for stage in record["stages"]:
        if missing := Stage.__required_keys__ - stage.keys():
            raise ValueError(f"{path}: a stage lacks {', '.join(sorted(missing))}")
    return record


def write(checkpoint: Path, *, evals: Path, training: Path, page: Path | None = None) -> None:
    """Writes the checkpoint's README.md, and the table into `page` if one is given.

    Raises ValueError for files that are not what they should be, or a page without the marks around the table.
    """
    measured, made = report.load(evals), load_training(training)
    (checkpoint / "README.md").write_text(card(measured, made), "utf-8")
    if page:
        page.write_text(with_table(page.read_text("utf-8"), measured), "utf-8")


def with_table(page: str, measured: Report) -> str:
    """The page with the table of headline figures between its marks."""
    if not REGION.search(page):
        raise ValueError("the page has no <!-- card:begin --> and <!-- card:end --> to put the table between")
    return REGION.sub(lambda match: match[1] + headlines(measured) + match[2], page)


def headlines(measured: Report) -> str:
    """One line for each skill and condition: its headline metric, chance, goal and n."""
    lines = ["| what is asked | held-out result | chance | goal | n |", "| --- | --: | --: | --: | --: |"]
    for task in measured["tasks"]:
        for row in _headline_rows(task):
            about = task["title"] if row["condition"] == "all" else f"{task['title']} ({row['condition']})"
            goals = ", ".join(report.goal_cell(goal) for goal in report.goals_of(task, row))
            chance = report.percent(row["chance"]) if "chance" in row else ""
            lines.append(f"| {about} | {report.with_error(row)} | {chance} | {goals} | {row['n']} |")
    return "\n".join(lines) + "\n"


def _headline_rows(task: TaskRecord) -> Iterator[Row]:
    """The headline metric of every condition, and other metrics that have a goal of their own."""
    return (row for row in task["rows"] if row["metric"] == task["metric"] or report.goals_of(task, row))


def card(measured: Report, made: TrainingRecord) -> str:
    """The whole card."""
    sections = (
        _front_matter(measured, made),
        f"# {made['name']}\n\n{_summary(made)}",
        f"## What it can do\n\n{_MEASURED}\n\n{report.markdown(measured)}",
        f"## What it cannot do\n\n{_limits(measured)}",
        f"## How it was made\n\n{_training(made)}",
        f"## How it was measured\n\n{_method(measured)}",
    )
    return "\n\n".join(section.rstrip() for section in sections) + "\n"


_MEASURED = """\
All figures are held out: sentences, captions, words, fonts, looks and, where the line says so, voices that no training
document had. Each mean has its standard error. Chance is what a guesser reaches who did not perceive the question. A
goal counts as met only if it is met with every reply that could not be scored taken for a wrong one."""


_DOMAIN = """\
It knows a closed domain of a few hundred words: a home's commands, small sums, simple facts, coloured shapes, short
words. Outside of it, it answers fluently and wrongly. It has not been trained on recordings of people.
"""


def _front_matter(measured: Report, made: TrainingRecord) -> str:
    results = [
        {
            "task": {"type": "any-to-any", "name": task["name"]},
            "dataset": {"type": "generated", "name": f"held out, {row['condition']}"},
            "metrics": [{"type": row["metric"], "value": round(row["mean"], 4)}],
        }
        for task in measured["tasks"]
        for row in _headline_rows(task)
        if row["mean"] is not None
    ]
    header: dict[str, Any] = {
        "license": "apache-2.0",
        "language": ["en"],
        "library_name": "sensorium",
        "pipeline_tag": "any-to-any",
        "tags": ["speech", "vision", "text-to-speech", "multimodal", "from-scratch"],
        "model-index": [{"name": made["name"], "results": results}],
    }
    # JSON is YAML: no YAML writer is needed.
    return "\n".join(["---", *(f"{key}: {json.dumps(value)}" for key, value in header.items()), "---"])


def _summary(made: TrainingRecord) -> str:
    total = sum(made["parameters"].values())
    return (
        f"One network of {count(made['parameters']['network'])} parameters that reads, hears, sees, speaks and draws "
        f"in a single token stream,\nwith its own tokenizers ({count(total)} parameters in all), trained from nothing "
        "on generated data."
    )


def _limits(measured: Report) -> str:
    missed = [
        f"- It misses the goal for {task['name'].replace('_', ' ')} ({goal['condition']}, {goal['metric']}): "
        f"{report.percent(goal['value'])} where {report.goal_cell(goal).removesuffix(' missed')} was wanted."
        for task in measured["tasks"]
        for goal in task["goals"]
        if not goal["is_met"]
    ]
    wrong = [
        f"| {task['name'].replace('_', ' ')} | {_cell(example['target'])} | {_cell(example['reply'] or '(nothing)')} |"
        for task in measured["tasks"]
        for example in task["examples"][:1]
    ]
    text = _DOMAIN
    text += "\n".join(["", *missed, ""]) if missed else ""
    if wrong:
        text += "\n".join(["\nSome of its mistakes:\n", "| skill | right | its reply |", "| --- | --- | --- |", *wrong])
    return text


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _training(made: TrainingRecord) -> str:
    parts = [f"| {part} | {count(number)} |" for part, number in made["parameters"].items()]
    stages = [
        f"| {stage['name']} | {stage['num_steps']:,} | {count(stage['items'])} {stage['item']} | "
        f"{duration(stage['wall_time_s'])} |"
        for stage in made["stages"]
    ]
    total_s = sum(stage["wall_time_s"] for stage in made["stages"])
    return "\n".join(
        [
            f"`{made['recipe']}` on {made['machine']}, {duration(total_s)} in all.\n",
            "| part | parameters |",
            "| --- | --: |",
            *parts,
            "",
            "| stage | steps | seen | wall time |",
            "| --- | --: | --: | --: |",
            *stages,
        ]
    )


def _method(measured: Report) -> str:
    run = measured["run"]
    speech, scene = run["judges"]["speech"], run["judges"]["scene"]
    heard, seen = speech["heldout"]["wer_presets"], scene["heldout"]["right_clean"]
    machine = run["machine"]
    asked = [
        f"- {task['name'].replace('_', ' ')}: {task['title']}. Chance: {task['chance']}." for task in measured["tasks"]
    ]
    return (
        f"`python -m recipes.evals`, {run['n']} samples of each condition, weights `{run['weights']}`, on "
        f"{machine['cpu']} with {machine['cores']} cores, torch {machine['torch']}.\n\n"
        "Two judges were trained apart from the network, on sound and pixels, never on its codes:\n\n"
        f"- speech: a recogniser of {count(speech['parameters'])} parameters, "
        f"{report.percent(heard['mean'])} word errors on {heard['n']} held-out sentences in the original voices;\n"
        f"- drawings: a detector of {count(scene['parameters'])} parameters, right about "
        f"{report.percent(seen['mean'])} of {seen['n']} held-out scenes.\n\n"
        "What was asked, and how a guesser plays:\n\n" + "\n".join(asked)
    )


def count(number: float) -> str:
    """ "8.8 M"."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:g}"


def duration(seconds: float) -> str:
    """ "1 h 52 min"."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
