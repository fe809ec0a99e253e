"""Puts a trained and measured checkpoint's figures where people read them: its model card and the project's README.

    python -m recipes.card --run runs/nano --evals runs/evals/nano/evals.json --checkpoint sensorium/checkpoints/nano
    python -m recipes.card --checkpoint sensorium/checkpoints/nano --page README.md

The first form gathers training.json from the run's folder and copies evals.json, both into the checkpoint; after that
the second needs no run.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from recipes.tiny import RUNS
from sensorium.data.generators import emoji
from sensorium.data.recorded import RECORDED_SETS
from sensorium.data.sources import known_sets
from sensorium.evals import card
from sensorium.evals.card import Stage, TrainingRecord
from sensorium.tokenizers.release import Release
from sensorium.training import metrics


def training_record(run: Path, checkpoint: Path, *, machine: str) -> TrainingRecord:
    """How the weights of `checkpoint` were made, from the metrics of each stage, and of the runs that this one went on
    from. Raises ValueError without any metrics."""
    release = Release.load(checkpoint)
    written = run / "release" / "training.json"
    facts = json.loads(written.read_text("utf-8")) if written.exists() else {}
    own: list[Stage] = metrics.stages(run)  # pyright: ignore[reportAssignmentType] - rooms apart, the same keys
    stages: list[Stage] = [*facts.get("before", []), *own]
    if not (own or "averaged" in facts):
        raise ValueError(f"{run} holds no metrics of a training run")
    parts = {
        "network": release.model,
        "audio tokenizer": release.audio_tokenizer,
        "image tokenizer": release.image_tokenizer,
    }
    return {
        "name": release.config.name,
        "recipe": _command(facts),
        "parameters": {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()},
        "stages": stages,
        "machine": machine,
        "precision": facts.get("precision", "bf16"),
        "settings": facts.get("settings", {}),
        "data": sets_of(facts.get("settings", {}).get("network", {}).get("weights", {})),
    }


def sets_of(tasks: Collection[str]) -> dict[str, str]:
    """The sets of recordings and drawings that the documents of these tasks are made from, with their licences."""
    names = sorted({name for task in tasks for name in RECORDED_SETS.get(task, ())})
    licences = {terms.name: terms.licence for terms in known_sets()}
    looks = emoji.sources() if "emoji" in tasks else {}
    drawn = {f"emoji: {of['package']}": of["licence"] for look, of in looks.items() if look != emoji.HELDOUT_LOOK}
    return {name: licences[name] for name in names} | drawn


def _command(facts: dict[str, Any]) -> str:
    """What makes these weights, with every option that is not the recipe's own."""
    settings = facts.get("settings", {})
    name = facts["recipe"]
    is_of_tiny = any(run.name == name for run in RUNS)
    words = [f"python -m recipes.tiny --stage {name}" if is_of_tiny else f"python -m recipes.{name}"]
    if facts.get("before") or settings.get("start"):
        words.append("--start RELEASE")
    if settings.get("keep_tokenizers"):
        words.append("--keep-tokenizers")
    if settings.get("seed", 1) != 1:
        words.append(f"--seed {settings['seed']}")
    if shares := facts.get("averaged"):
        words += ["&&", "python -m recipes.average", *(f"--part {share} RELEASE" for share in shares)]
    return " ".join(words)


def main(checkpoint: Path, *, run: Path | None, evals: Path | None, machine: str | None, page: Path | None) -> None:
    """Gathers what is given, then writes the card, and the table into `page`."""
    if evals:
        shutil.copyfile(evals, checkpoint / "evals.json")
    if run:
        where = machine or _machine(checkpoint / "evals.json")
        record = training_record(run, checkpoint, machine=where)
        (checkpoint / "training.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    card.write(checkpoint, evals=checkpoint / "evals.json", training=checkpoint / "training.json", page=page)


def _machine(evals: Path) -> str:
    """The machine that measured, which is the one that trained unless `--machine` says otherwise."""
    measured_on = json.loads(evals.read_text("utf-8"))["run"]["machine"]
    return f"{measured_on['cores']} cores of {measured_on['cpu']}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--run", type=Path, help="the folder of a training run, to gather training.json from")
    parser.add_argument("--evals", type=Path, help="evals.json of the checkpoint, to copy into it")
    parser.add_argument("--machine", help="what it was trained on, if not on the machine that measured it")
    parser.add_argument("--page", type=Path, help="a page with the marks around a table, e.g. README.md")
    options = parser.parse_args()
    main(options.checkpoint, run=options.run, evals=options.evals, machine=options.machine, page=options.page)
