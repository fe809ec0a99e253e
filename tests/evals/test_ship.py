"""`recipes/ship.py`: a run is measured beside what is shipped, and then shipped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from recipes import card, ship
from recipes.average import Part, average
from sensorium.evals import judges
from sensorium.evals.report import Report, Row
from sensorium.tokenizers.release import Release

NANO = Path(__file__).parents[2] / "sensorium" / "checkpoints" / "nano"
TINY = NANO.parent / "tiny"


def report_of(name: str, metric: str, mean: float | None) -> Report:
    row: Row = {"condition": "all", "metric": metric, "mean": mean, "stderr": 0.03, "n": 100, "unscored": 0}
    task = {"name": name, "title": "", "metric": metric, "is_error": False, "chance": "", "rows": [row], "goals": []}
    return {"run": {}, "tasks": [{**task, "latency_ms": {}, "examples": []}]}  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize(
    ("before", "after", "metric", "expected"),
    [(0.5, 0.8, "right", 7.07), (0.5, 0.8, "excess_wer", -7.07), (0.5, None, "right", None)],
)
def test_a_figure_is_as_much_better_as_chance_allows(
    before: float, after: float | None, metric: str, expected: float | None
):
    reports = (report_of("say", metric, mean) for mean in (before, after))
    [pair] = ship.pairs(*reports)
    assert pair.standard_errors == (None if expected is None else pytest.approx(expected, abs=0.01))


def test_a_skill_that_was_not_measured_before_has_nothing_beside_it():
    [pair] = ship.pairs(report_of("say", "right", 0.5), report_of("draw", "right", 0.5))
    assert pair.before is None
    assert pair.standard_errors is None
    assert ship.compared(report_of("say", "right", 0.5), report_of("draw", "right", 0.5)).row_count == 1


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """As training leaves its folder."""
    run = tmp_path / "run"
    shutil.copytree(NANO, run / "release")
    (run / "release" / "speakers.safetensors").unlink()
    config = run / "release" / "config.json"
    config.write_text(config.read_text().replace('"sensorium-nano"', '"sensorium-toy"'))  # named after its recipe
    facts = {"recipe": "toy", "settings": {"network": {"weights": {"chat": 1.0}}}}
    (run / "release" / "training.json").write_text(json.dumps(facts))
    (run / "network").mkdir()
    record = {"step": 7, "seconds": 60.0, "items_per_s": 100.0, "loss": 1.0}
    (run / "network" / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    return run


def test_a_run_is_measured_and_then_shipped(run: Path, tmp_path: Path):
    shipped, page = tmp_path / "shipped", tmp_path / "page.md"
    shutil.copytree(NANO, shipped)
    ship.measure(run, shipped, judges.SHIPPED, n=1)
    shrunk = run / "shipping" / "network.safetensors"
    assert shrunk.stat().st_size < 0.6 * (NANO / "network.safetensors").stat().st_size
    assert (shipped / "network.safetensors").read_bytes() == (NANO / "network.safetensors").read_bytes()
    known, kept = Release.load(shipped).speakers, Release.load(run / "shipping").speakers
    assert known is not None
    assert kept is not None  # both hear alike
    assert Release.load(run / "shipping").config.name == "sensorium-nano", "clients ask for it by its name"

    page.write_text("before\n<!-- card:begin -->\n<!-- card:end -->\n")
    ship.release(run, shipped, judges.SHIPPED, "a machine", page=page, samples=tmp_path / "samples.html")
    assert (shipped / "network.safetensors").read_bytes() == shrunk.read_bytes()
    assert "a machine" in (shipped / "README.md").read_text()
    assert "an order never trained on" in page.read_text()
    assert (tmp_path / "samples.html").stat().st_size > 10_000


def test_what_was_not_trained_or_not_measured_is_not_shipped(run: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="holds no release yet"):
        ship.measure(tmp_path, NANO, tmp_path, n=1)
    with pytest.raises(ValueError, match="leave --release out first"):
        ship.release(run, tmp_path, tmp_path, None, page=tmp_path / "page.md", samples=tmp_path / "samples.html")


def test_weights_between_two_runs_are_shipped_as_such(run: Path, tmp_path: Path):
    other = tmp_path / "other"
    release = Release.load(NANO)
    with torch.no_grad():
        release.model.state_dict()["embed.symbol.weight"].add_(0.5)
    release.save(other)
    average([Part(0.25, other), Part(0.75, run / "release")], tmp_path / "averaged")
    averaged, known = (Release.load(folder).model.state_dict() for folder in (tmp_path / "averaged" / "release", NANO))
    moved = {name: value - known[name] for name, value in averaged.items()}
    assert moved.pop("embed.symbol.weight").mean() == pytest.approx(0.125, abs=1e-3)
    assert max(float(each.abs().max()) for each in moved.values()) < 1e-2

    record = card.training_record(tmp_path / "averaged", tmp_path / "averaged" / "release", machine="a machine")
    assert record["recipe"].endswith("&& python -m recipes.average --part 0.25 RELEASE --part 0.75 RELEASE")
    assert [stage["num_steps"] for stage in record["stages"]] == [7]  # the run's


def test_what_does_not_fit_is_not_averaged(run: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="come to 1"):
        average([Part(0.5, NANO), Part(0.6, run / "release")], tmp_path / "averaged")
    with pytest.raises(ValueError, match="another network or other tokenizers"):
        average([Part(0.5, TINY), Part(0.5, run / "release")], tmp_path / "averaged")
