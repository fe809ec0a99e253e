"""The model card of a checkpoint, and the table of the project's README: every figure comes from a file.

    evals.json       what `recipes.evals` measured
    training.json    how the weights were made (`TrainingRecord`)

The card is a Hugging Face model card: its hub's own template, with the results as YAML that the hub reads.
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
    data: dict[str, str]  # the sets of recordings and drawings that were trained on, and their licences
    precision: str  # of the last run: bf16 or fp32


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
    """The whole card: the hub's standard template, every field of it filled or said to be not measured."""
    from huggingface_hub import ModelCard, ModelCardData  # with jinja2: it comes with the extra `train`

    data = ModelCardData(
        model_name=made["name"],
        license="apache-2.0",
        language=_languages(made),
        library_name="sensorium",
        pipeline_tag="any-to-any",
        tags=["speech", "vision", "text-to-speech", "multimodal", "from-scratch"],
        eval_results=_results(measured),
    )
    text = str(ModelCard.from_template(data, model_id=made["name"], **_fields(measured, made)))
    text = re.sub(r"[ \t]*<!--.*?-->", "", text, flags=re.DOTALL)  # the template's advice to its writer
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def _fields(measured: Report, made: TrainingRecord) -> dict[str, str]:
    """The template's variables."""
    hours = sum(stage["wall_time_s"] for stage in made["stages"]) / 3600
    ranks = int(made.get("settings", {}).get("ranks", 1))
    return {
        "model_summary": _summary(made),
        "model_description": _DESCRIPTION,
        "developers": "the Sensorium project",
        "funded_by": "nobody",
        "shared_by": "the Sensorium project",
        "model_type": "autoregressive transformer over one stream of text, speech and picture symbols",
        "language": ", ".join(_languages(made)),
        "license": "Apache-2.0",
        "base_model": "none: every part was trained from nothing",
        "repo": "the repository that this card lies in",
        "paper": "none",
        "demo": "`make run`, then the playground at http://127.0.0.1:8000",
        "direct_use": _DIRECT_USE,
        "downstream_use": "Fine-tuning by the recipes of the repository (`--start` of any recipe).",
        "out_of_scope_use": _OUT_OF_SCOPE,
        "bias_risks_limitations": _limits(measured, made),
        "bias_recommendations": _RECOMMENDATIONS,
        "get_started_code": _GET_STARTED,
        "training_data": _data(made),
        "preprocessing": "Sound and pictures become codes and features by the network's own tokenizers, once.",
        "training_regime": _PRECISIONS[made.get("precision", "bf16")] + _hyperparameters(made),
        "speeds_sizes_times": _training(made),
        "testing_data": _MEASURED,
        "testing_factors": "Voices trained on and not; sentences, words, fonts and looks never. Words to draw by are.",
        "testing_metrics": _method(measured),
        "results": report.markdown(measured).rstrip(),
        "model_examination": "not measured",
        "hardware_type": made["machine"],
        "hours_used": f"{hours:.1f}",
        "cloud_provider": "not recorded",
        "cloud_region": "not recorded",
        "co2_emitted": _carbon(made["machine"], hours, ranks),
        "model_specs": _specs(made),
        "compute_infrastructure": "One machine; gradients are averaged over one process for each core, or one GPU.",
        "hardware_requirements": "To run: one CPU core. No GPU is needed. Memory: not measured.",
        "software": f"PyTorch {measured['run']['machine']['torch']}, Python {measured['run']['machine']['python']}",
        "citation_bibtex": "none yet",
        "citation_apa": "none yet",
        "glossary": _GLOSSARY,
        "more_information": "`docs/log.md` of the repository tells what was tried on the way, losses too.",
        "model_card_authors": "`recipes/card.py`, from the files of the run: no measured figure was typed by hand",
        "model_card_contact": "the issues of the repository",
    }


_RECORDED = ("real_word", "real_order", "photograph", "command")
_WATTS_PER_CORE = 12  # a core's share of a server's processor (6 W), and as much again for all around it
_KG_CO2_PER_KWH = 0.47  # Ember, Global Electricity Review 2025: 473 g in 2024

_DESCRIPTION = """\
Text, sound and pictures go into and come out of one stream of symbols: what is heard and shown is written down first,
answers are written, spoken (text a bounded lead ahead of its sound) or drawn, symbol by symbol, by one softmax."""

_DIRECT_USE = """\
Learning how such networks are built; trying clients of the OpenAI API offline; a home assistant's orders, small sums
and questions, pictures of coloured shapes and single words, in the closed domain that it was trained in."""

_OUT_OF_SCOPE = """\
Anything outside of that domain: it answers fluently and wrongly. Advice of any kind, identification of people,
imitation of a person's voice, decisions about people."""

_PRECISIONS = {"bf16": "bf16 mixed precision", "fp32": "fp32"}

_RECOMMENDATIONS = """\
Check what it says against what was asked; keep people in the loop for orders that matter. Its voices are synthetic
(espeak-ng's) and sound like it; say so to whoever hears them."""

_GET_STARTED = """\
```python
from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none")  # `make run` serves it
reply = client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "what is two plus three"}])
print(reply.choices[0].message.content)
```"""

_GLOSSARY = """\
Frame: 80 ms of sound, one symbol and its residual codes. Patch: 8 x 8 pixels of a picture of 64 x 64. Position: one
symbol of the stream. Chance: what a guesser reaches who did not perceive the question. WER: word errors over words."""

_MEASURED = """\
All figures are held out: sentences, captions, words, fonts, looks and, where the line says so, voices that no training
document had. Each mean has its standard error. Chance is what a guesser reaches who did not perceive the question. A
goal counts as met only if it is met with every reply that could not be scored taken for a wrong one."""

_DOMAIN = """\
It knows a closed domain of a few hundred words: a home's commands, small sums, simple facts, coloured shapes, short
words. Outside of it, it answers fluently and wrongly.
"""
_NO_PEOPLE = """\
It has not been trained on recordings of people: all voices it knows are one synthesiser's.
"""


def _carbon(machine: str, hours: float, ranks: int) -> str:
    """An estimate for CPU cores: nobody has metered anything."""
    if "cores" not in machine:
        return "not measured"
    kwh = hours * ranks * _WATTS_PER_CORE / 1000
    return (
        f"about {1000 * kwh * _KG_CO2_PER_KWH:.0f} g, an estimate: {kwh:.2f} kWh ({ranks} x {_WATTS_PER_CORE} W over "
        f"that time, memory and cooling included) at {_KG_CO2_PER_KWH} kg a kWh, the world's mean of 2024"
    )


def _languages(made: TrainingRecord) -> list[str]:
    spoken = ["en", *(("de", "fr", "es") if "translate" in _weights(made) else ())]
    return [*spoken, "multilingual"] if "command" in _weights(made) else spoken


def _weights(made: TrainingRecord) -> dict[str, float]:
    """The documents that the network was trained on, by task; none if the record does not say."""
    return made.get("settings", {}).get("network", {}).get("weights", {})


def _results(measured: Report) -> list[Any]:
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type="any-to-any",
            task_name=task["name"],
            dataset_type="recorded" if task["name"] in _RECORDED else "generated",
            dataset_name=f"held out, {row['condition']}",
            dataset_config=task["name"],  # the hub takes results of one config and split for results of one task
            dataset_split=row["condition"],
            metric_type=row["metric"],
            metric_value=round(row["mean"], 4),
        )
        for task in measured["tasks"]
        for row in _headline_rows(task)
        if row["mean"] is not None
    ]


def _summary(made: TrainingRecord) -> str:
    total = sum(made["parameters"].values())
    return (
        f"One network of {count(made['parameters']['network'])} parameters that reads, hears, sees, speaks and draws "
        f"in a single token stream,\nwith its own tokenizers ({count(total)} parameters in all), trained from nothing."
    )


def _data(made: TrainingRecord) -> str:
    """Where the material is from, with its licences, and its mixture."""
    generated = (
        "Made by the programs of `sensorium/data/generators`, from seeds: speech by espeak-ng (GPL-3.0; what it says "
        "is not covered), scenes, icons, clocks and charts by drawing code, words in fonts of the packages named there."
    )
    sets = [f"| {name} | {licence} |" for name, licence in made.get("data", {}).items()]
    table = ["\n\nATTRIBUTION.md of the data and NOTICE name the authors.", "", "| set | licence |", "| --- | --- |"]
    listed = [*table, *sets] if sets else [" No recording of a person."]
    weights = _weights(made)
    total = sum(weights.values())
    shares = ", ".join(f"{task} {100 * share / total:.0f} %" for task, share in weights.items())
    mixture = f"\n\nShares of the documents of the last run: {shares}." if shares else ""
    return generated + "\n".join(listed) + mixture


def _hyperparameters(made: TrainingRecord) -> str:
    network = made.get("settings", {}).get("network", {})
    named = [
        f"{key} {network[key]}"
        for key in ("num_steps", "matrix_lr", "embedding_lr", "warmdown_share")
        if key in network
    ]
    positions = network.get("packing", {}).get("batch_positions")
    named += [f"positions in a batch {positions}"] if positions else []
    return f"; Muon for matrices, AdamW for the rest; {', '.join(named)}" if named else ""


def _specs(made: TrainingRecord) -> str:
    return "\n".join(
        [
            "Next-symbol prediction over the stream, residual codes by a depth head; see ARCHITECTURE.md.\n",
            "| part | parameters |",
            "| --- | --: |",
            *(f"| {part} | {count(number)} |" for part, number in made["parameters"].items()),
        ]
    )


def _limits(measured: Report, made: TrainingRecord) -> str:
    missed = [
        f"- It misses the goal for {task['name'].replace('_', ' ')} ({goal['condition']}, {goal['metric']}): "
        f"{report.percent(goal['value'])} where {report.goal_bound(goal)} was wanted."
        for task in measured["tasks"]
        for goal in task["goals"]
        if not goal["is_met"]
    ]
    wrong = [
        f"| {task['name'].replace('_', ' ')} | {_cell(example['target'])} | {_cell(example['reply'] or '(nothing)')} |"
        for task in measured["tasks"]
        for example in task["examples"][:1]
    ]
    text = _DOMAIN + ("" if made.get("data") else _NO_PEOPLE) + "Bias between groups of people was not measured.\n"
    text += "\n".join(["", *missed, ""]) if missed else ""
    if wrong:
        text += "\n".join(["\nSome of its mistakes:\n", "| skill | right | its reply |", "| --- | --- | --- |", *wrong])
    return text


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


_BEFORE = " RELEASE is what an earlier run left: the commands of all stand in order at the head of the recipe's file."


def _training(made: TrainingRecord) -> str:
    stages = [
        f"| {stage['name']} | {stage['num_steps']:,} | {count(stage['items'])} {stage['item']} | "
        f"{duration(stage['wall_time_s'])} |"
        for stage in made["stages"]
    ]
    total_s = sum(stage["wall_time_s"] for stage in made["stages"])
    before = _BEFORE if "RELEASE" in made["recipe"] else ""
    return "\n".join(
        [
            f"`{made['recipe']}` on {made['machine']}, {duration(total_s)} in all.{before}\n",
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
        "The judges were trained apart from the network, on sound and pixels, never on its codes:\n\n"
        f"- speech: a recogniser of {count(speech['parameters'])} parameters, "
        f"{report.percent(heard['mean'])} word errors on {heard['n']} held-out sentences in the original voices;\n"
        f"- drawings: a detector of {count(scene['parameters'])} parameters, right about "
        f"{report.percent(seen['mean'])} of {seen['n']} held-out scenes"
        f"{_style_judge(run['judges'])}{_icon_judge(run['judges'])}.\n\n"
        "What was asked, and how a guesser plays:\n\n" + "\n".join(asked)
    )


def _style_judge(records: dict[str, Any]) -> str:
    if "style" not in records:
        return ""
    figures = records["style"]["heldout"]
    worst = min(figures.values(), key=lambda figure: figure["mean"])
    return (
        f";\n- styles of speaking: a listener of {count(records['style']['parameters'])} parameters, right about "
        f"{report.percent(worst['mean'])} of {worst['n']} held-out sentences in the style it knows least"
    )


def _icon_judge(records: dict[str, Any]) -> str:
    if "icon" not in records:
        return ""
    right = records["icon"]["heldout"]["right_clean"]
    return (
        f";\n- drawn icons: a classifier of {count(records['icon']['parameters'])} parameters, right about "
        f"{report.percent(right['mean'])} of {right['n']} in colours it never saw them in"
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
