"""Cards: every figure on them comes from the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from recipes import card as recipe
from sensorium.evals import card
from sensorium.evals.report import Report
from sensorium.training import metrics
from tests.networks import random_release

EVALS: Report = {
    "run": {
        "model": "sensorium-nano",
        "weights": "0123456789abcdef",
        "n": 40,
        "judges": {
            "speech": {"parameters": 1_294_000, "heldout": {"wer_presets": {"mean": 0.031, "stderr": 0.004, "n": 300}}},
            "scene": {"parameters": 429_000, "heldout": {"right_clean": {"mean": 0.998, "stderr": 0.001, "n": 1000}}},
        },
        "machine": {"cpu": "a processor", "cores": 2, "torch": "2.13.0", "python": "3.11.9"},
    },
    "tasks": [
        {
            "name": "spoken_command",
            "title": "a spoken order",
            "metric": "exact",
            "is_error": False,
            "chance": "always the commonest answer",
            "rows": [
                {
                    "condition": "seen voices",
                    "metric": "exact",
                    "mean": 0.925,
                    "stderr": 0.042,
                    "n": 40,
                    "unscored": 0,
                    "chance": 0.025,
                },
                {"condition": "seen voices", "metric": "wer", "mean": 0.02, "stderr": 0.01, "n": 40, "unscored": 0},
            ],
            "goals": [
                {
                    "metric": "exact",
                    "condition": "seen voices",
                    "bound": 0.95,
                    "at_most": False,
                    "value": 0.925,
                    "is_met": False,
                }
            ],
            "latency_ms": {},
            "examples": [{"id": "3", "target": "lock | open", "reply": "", "unscored": None}],
        }
    ],
}
TRAINING: dict[str, Any] = {
    "name": "sensorium-nano",
    "recipe": "python -m recipes.nano",
    "parameters": {"network": 8_812_000, "audio tokenizer": 3_701_000},
    "stages": [
        {"name": "audio", "num_steps": 4000, "items": 64_000, "item": "clips", "wall_time_s": 1804.0},
        {"name": "network", "num_steps": 2500, "items": 6_553_600, "item": "positions", "wall_time_s": 5000.0},
    ],
    "machine": "2 cores of a processor",
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    (tmp_path / "evals.json").write_text(json.dumps(EVALS))
    (tmp_path / "training.json").write_text(json.dumps(TRAINING))
    return tmp_path


def written(checkpoint: Path, page: Path | None = None) -> str:
    card.write(checkpoint, evals=checkpoint / "evals.json", training=checkpoint / "training.json", page=page)
    return (checkpoint / "README.md").read_text()


def test_the_card_gives_the_figures_of_the_files(checkpoint: Path):
    text = written(checkpoint)
    for figure in (
        "8.81 M parameters",
        "12.5 M parameters in all",
        "92.5 ± 4.2 %",
        "6.55 M positions",
        "1 h 53 min in all",
        "30 min",
        "3.1 % word errors on 300",
        "99.8 % of 1000",
        "40 samples",
        "0123456789abcdef",
    ):
        assert figure in text, figure


def test_no_field_of_the_template_is_left_open(checkpoint: Path):
    text = written(checkpoint)
    assert "More Information Needed" not in text
    assert "More information needed" not in text
    assert all(line.startswith("#") for line in text.splitlines() if "## " in line), "every heading has its own line"
    assert "0.02 kWh" in text, "1.89 hours of one process at 12 W"


def test_sets_are_named_with_their_licences(checkpoint: Path):
    sets = recipe.sets_of(["say", "real-word", "grocery"])
    assert sets == {"arabic-commands": "CC-BY-4.0", "grocery": "MIT", "wake-words": "Apache-2.0"}
    drawn = recipe.sets_of(["emoji"])
    assert len(drawn) == 5
    assert set(drawn.values()) == {"MIT", "Apache-2.0", "CC-BY-4.0"}
    assert not any("twemoji" in name for name in drawn), "that one is for examinations"
    (checkpoint / "training.json").write_text(json.dumps(TRAINING | {"data": sets}))
    assert "| arabic-commands | CC-BY-4.0 |" in written(checkpoint)


def test_a_missed_goal_and_a_mistake_are_told(checkpoint: Path):
    text = written(checkpoint)
    assert "misses the goal for spoken command (seen voices, exact): 92.5 % where ≥ 95 % was wanted" in text
    assert "| spoken command | lock \\| open | (nothing) |" in text


def test_the_hub_can_read_the_card(checkpoint: Path):
    hub = pytest.importorskip("huggingface_hub")
    data = hub.ModelCard(written(checkpoint)).data
    assert (data.license, data.pipeline_tag, data.model_name) == ("apache-2.0", "any-to-any", "sensorium-nano")
    (result,) = data.eval_results
    assert (result.task_name, result.metric_type, result.metric_value) == ("spoken_command", "exact", 0.925)


def test_every_result_keeps_its_task_and_condition_on_the_hub(checkpoint: Path):
    hub = pytest.importorskip("huggingface_hub")
    [task] = EVALS["tasks"]
    other = {**task, "name": "say", "rows": [{**task["rows"][0], "condition": name} for name in ("all", "unseen")]}
    (checkpoint / "evals.json").write_text(json.dumps({**EVALS, "tasks": [task, other]}))
    results = hub.ModelCard(written(checkpoint)).data.eval_results
    assert {(result.task_name, result.dataset_name) for result in results} == {
        ("spoken_command", "held out, seen voices"),
        ("say", "held out, all"),
        ("say", "held out, unseen"),
    }


def test_the_page_gets_the_table_between_its_marks(checkpoint: Path, tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- card:begin -->\nold\n<!-- card:end -->\nafter\n")
    written(checkpoint, page)
    text = page.read_text()
    assert "| a spoken order (seen voices) | 92.5 ± 4.2 % | 2.5 % | ≥ 95 % missed | 40 |" in text
    assert "old" not in text
    assert text.startswith("before\n")
    assert text.endswith("-->\nafter\n")
    assert card.with_table(text, EVALS) == text


def test_a_page_without_marks_and_a_record_without_parts_are_refused(checkpoint: Path):
    with pytest.raises(ValueError, match="card:begin"):
        card.with_table("no marks", EVALS)
    (checkpoint / "training.json").write_text(json.dumps({"name": "x", "parameters": {}, "machine": ""}))
    with pytest.raises(ValueError, match="lacks recipe, stages"):
        written(checkpoint)
    (checkpoint / "training.json").write_text(json.dumps({**TRAINING, "stages": [{"name": "audio"}]}))
    with pytest.raises(ValueError, match="a stage lacks item, items"):
        written(checkpoint)


@pytest.mark.parametrize(("number", "shown"), [(999, "999"), (8_812_000, "8.81 M"), (64_000, "64 k"), (2.9e9, "2.9 G")])
def test_count(number: float, shown: str):
    assert card.count(number) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(12.2, "12 s"), (1804.0, "30 min"), (6804.0, "1 h 53 min")])
def test_duration(seconds: float, shown: str):
    assert card.duration(seconds) == shown


def test_a_run_and_its_evals_become_a_card(checkpoint: Path, tmp_path: Path):
    random_release().save(checkpoint)
    run = tmp_path / "run"
    (run / "release").mkdir(parents=True)
    earlier = {"name": "network", "num_steps": 5, "items": 9, "item": "positions", "wall_time_s": 1.0}
    settings = {"seed": 4, "keep_tokenizers": True, "ranks": 2}
    (run / "release" / "training.json").write_text(
        json.dumps({"recipe": "nano", "before": [earlier], "settings": settings})
    )
    for step, seconds in ((10, 20.0), (20, 45.0)):
        (run / "network").mkdir(exist_ok=True)
        metrics.append(run / "network", {"step": step, "seconds": seconds, "items_per_s": 1000.0, "loss": 1.0})
    recipe.main(checkpoint, run=run, evals=None, machine=None, page=None)
    made = card.load_training(checkpoint / "training.json")
    assert made["recipe"] == "python -m recipes.nano --start RELEASE --keep-tokenizers --seed 4"
    assert made.get("settings") == settings
    assert made["machine"] == "2 cores of a processor"
    assert made["stages"] == [
        earlier,
        {"name": "network", "num_steps": 20, "items": 45_000, "item": "positions", "wall_time_s": 45.0},
    ]
    assert made["parameters"].keys() == {"network", "audio tokenizer", "image tokenizer"}
    assert "45 k positions" in (checkpoint / "README.md").read_text()
    with pytest.raises(ValueError, match="no metrics"):
        recipe.training_record(tmp_path, checkpoint, machine="")
