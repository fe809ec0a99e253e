"""Which stream, which head? Trains variants of the network on one run's corpora and compares them.

    python -m recipes.ablations --run runs/nano --out runs/ablations --steps 600

The run lends its documents and tokenizers, so that variants differ in one thing only. What comes out: ablations.json
and ablations.md, with held-out losses and, where the judges of `recipes.judges` are trained, skills by `recipes.evals`.
A stopped run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from recipes import evals
from recipes.nano import NANO
from sensorium.data.packing import EncodedDocuments
from sensorium.tokenizers.release import Release
from sensorium.tokenizers.render import RenderConfig
from sensorium.training import metrics
from sensorium.training.pipeline import NetworkStage, train_network

SKILLS = ("say", "spoken_command", "spoken_question", "scene_qa")
LOSSES = ("heldout_text", "heldout_audio", "heldout_residual", "heldout_image")

VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "interleave: proportional": {"render": RenderConfig(interleave="proportional")},
    "interleave: fixed 5:10": {"render": RenderConfig(interleave="fixed")},
    "interleave: text first": {"render": RenderConfig(interleave="text_first")},
    "FFN per group": {"model": {"ffn": "per_group"}},
    "depth head: transformer": {"model": {"depth_head": "transformer"}},
    "depth head: independent": {"model": {"depth_head": "independent"}},
    "no transcript of the user": {"render": RenderConfig(transcripts=False)},
    "no value embeddings": {"model": {"value_embeddings": False}},
    "lead 2 frames": {"render": RenderConfig(lead_frames=2)},
    "lead 12 frames": {"render": RenderConfig(lead_frames=12)},
    "first 1 token": {"render": RenderConfig(first_tokens=1)},
}


def main(run: Path, out: Path, *, steps: int, names: list[str], n: int, judges: Path) -> None:
    documents = _encoded(run, "train")
    held_out = _encoded(run, "heldout")
    trained = Release.load(run / "release")
    results: dict[str, dict[str, float]] = {}
    for name in names:
        folder = out / name.replace(" ", "-").replace(":", "")
        stage = replace(NANO.network, num_steps=steps, **VARIANTS[name])
        _train(stage, trained, documents, held_out, folder)
        last = metrics.read(folder / "network")[-1]
        results[name] = {loss: last[loss] for loss in LOSSES} | {"seconds": last["seconds"]}
        if judges.exists():
            results[name] |= _skills(folder, n, judges)
        (out / "ablations.json").write_text(json.dumps({"steps": steps, "variants": results}, indent=2) + "\n", "utf-8")
        (out / "ablations.md").write_text(table(results), "utf-8")
        print(name, results[name])


def _encoded(run: Path, split: str) -> EncodedDocuments:
    shards = sorted((run / f"documents-{split}").glob("shard-*"))
    return EncodedDocuments(shards, [run / f"encoded-{split}" / shard.name for shard in shards])


def _train(
    stage: NetworkStage, trained: Release, documents: EncodedDocuments, held_out: EncodedDocuments, folder: Path
) -> None:
    train_network(
        replace(NANO, name=folder.name, network=stage),
        documents,
        held_out,
        trained.text,
        trained.audio_tokenizer,
        trained.image_tokenizer,
        folder,
        device="cpu",
    )


def _skills(folder: Path, n: int, judges: Path) -> dict[str, float]:
    evals.main(folder / "release", folder / "evals", n=n, tasks=SKILLS, judge_folder=judges)
    report = json.loads((folder / "evals" / "evals.json").read_text("utf-8"))
    return {
        f"{task['name']} {row['condition']} {row['metric']}".strip(): row["mean"]
        for task in report["tasks"]
        for row in task["rows"]
    }


def table(results: dict[str, dict[str, float]]) -> str:
    columns = list(next(iter(results.values())))
    lines = ["| variant | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for name, row in results.items():
        cells = [f"{row[column]:.3f}" if column in row else "" for column in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="compare variants of the network")
    parser.add_argument("--run", type=Path, default=Path("runs/nano"))
    parser.add_argument("--out", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--n", type=int, default=50, help="samples of each skill")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--judges", type=Path, default=Path("runs/judges"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    main(options.run, options.out, steps=options.steps, names=options.variants, n=options.n, judges=options.judges)
