"""Which stream, which head, which codec? Trains variants of one run and compares them.

    python -m recipes.ablations --run runs/nano --out runs/ablations --steps 400

The run lends its corpora and tokenizers, so that variants differ in one thing only; a codec variant trains a codec of
its own on the run's clips and encodes the run's documents anew, and a fresh head says how many phonemes can be read
from its semantic code. All start from nothing. What comes out: ablations.json and ablations.md, with held-out losses
and, unless `--n 0` is given, skills by `recipes.evals`.
A stopped run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from recipes import evals
from recipes.command import as_ranks
from recipes.nano import NANO
from sensorium.data.packing import EncodedDocuments
from sensorium.evals.judges import SHIPPED
from sensorium.tokenizers.audio import AudioTokenizer
from sensorium.tokenizers.release import Release
from sensorium.tokenizers.render import RenderConfig
from sensorium.training import distributed, metrics, pipeline, tokenizers
from sensorium.training.config import TrainConfig
from sensorium.training.loop import fit
from sensorium.training.objectives import AudioTokenizerModule, AudioTokenizerObjective, train_only
from sensorium.training.optim import MuonAdamW, tokenizer_groups
from sensorium.training.recipe import Recipe

SKILLS = ("say", "spoken_command", "spoken_question")
LOSSES = ("heldout_text", "heldout_audio", "heldout_residual", "heldout_image", "heldout_image_residual")
CODEC_STEPS = 800
NUM_SHARDS = 32  # 16,000 documents: more than 400 steps see


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What differs from the recipe: fields of its stages. `codec` variants are compared with each other only."""

    network: dict[str, Any] = field(default_factory=dict)
    codec: dict[str, Any] | None = None


VARIANTS: dict[str, Variant] = {
    "base": Variant(),
    "interleave: proportional": Variant(network={"render": RenderConfig(interleave="proportional")}),
    "interleave: fixed 5:10": Variant(network={"render": RenderConfig(interleave="fixed")}),
    "interleave: text first": Variant(network={"render": RenderConfig(interleave="text_first")}),
    "FFN per group": Variant(network={"model": {"ffn": "per_group"}}),
    "depth head: transformer": Variant(network={"model": {"depth_head": "transformer"}}),
    "depth head: independent": Variant(network={"model": {"depth_head": "independent"}}),
    "no transcript of the user": Variant(network={"render": RenderConfig(transcripts=False)}),
    "no value embeddings": Variant(network={"model": {"value_embeddings": False}}),
    "lead 2 frames": Variant(network={"render": RenderConfig(lead_frames=2)}),
    "lead 12 frames": Variant(network={"render": RenderConfig(lead_frames=12)}),
    "first 1 token": Variant(network={"render": RenderConfig(first_tokens=1)}),
    "codec: phonemes at their times": Variant(codec={"supervision": "timed"}),
    "codec: phonemes by CTC": Variant(codec={"supervision": "ctc"}),
    "codec: no phonemes": Variant(codec={"supervision": "none"}),
}


def main(
    run: Path,
    out: Path,
    *,
    steps: int,
    names: list[str],
    n: int,
    judges: Path,
    recipe: Recipe = NANO,
    codec_steps: int = CODEC_STEPS,
    batch_positions: int | None = None,
) -> dict[str, dict[str, float]]:
    """Trains the variants in order and writes the table after each. Every rank calls this; rank 0 measures.

    `batch_positions` is the recipe's if not given: smaller batches make more steps of the same time.
    """
    if batch_positions is not None:
        packing = replace(recipe.network.packing, batch_positions=batch_positions)
        recipe = replace(recipe, network=replace(recipe.network, packing=packing))
    results: dict[str, dict[str, float]] = {}
    for name in names:
        folder = out / name.replace(" ", "-").replace(":", "")
        _train(recipe, VARIANTS[name], run, folder, steps=steps, codec_steps=codec_steps)
        if distributed.rank() == 0:
            last = metrics.read(folder / "network")[-1]
            results[name] = {loss: last[loss] for loss in LOSSES if loss in last} | {"seconds": last["seconds"]}
            if VARIANTS[name].codec is not None:
                read = [line["phonemes_right"] for line in metrics.read(folder / "probe")][-10:]
                results[name]["phonemes_in_q0"] = sum(read) / len(read)
            if n:
                results[name] |= _skills(folder, n, judges)
            record = {
                "steps": steps,
                "batch_positions": recipe.network.packing.batch_positions,
                "codec_steps": codec_steps,
                "n": n,
                "variants": results,
            }
            (out / "ablations.json").write_text(json.dumps(record, indent=2) + "\n", "utf-8")
            (out / "ablations.md").write_text(table(results), "utf-8")
            print(name, results[name])
        distributed.barrier()
    return results


def _train(recipe: Recipe, variant: Variant, run: Path, folder: Path, *, steps: int, codec_steps: int) -> None:
    trained = Release.load(run / "release")
    audio, image = trained.audio_tokenizer, trained.image_tokenizer
    model = recipe.network.model | variant.network.get("model", {})
    stage = replace(recipe.network, num_steps=steps, **variant.network | {"model": model})
    recipe = replace(recipe, name=folder.name, network=stage)
    if variant.codec is not None:
        recipe = replace(recipe, audio=replace(recipe.audio, num_steps=codec_steps, **variant.codec))
        folder.mkdir(parents=True, exist_ok=True)
        if distributed.rank() == 0 and not (folder / "clips").exists():
            (folder / "clips").symlink_to((run / "clips").resolve())
        distributed.barrier()
        audio = tokenizers.train_audio(recipe, folder, device="cpu")
        _probe(recipe, audio, folder, steps=codec_steps // 3)
    encoded: dict[str, EncodedDocuments] = {}
    for split in ("train", "heldout"):
        shards = sorted((run / f"documents-{split}").glob("shard-*"))[:NUM_SHARDS]
        lent = run if variant.codec is None else folder
        codes = pipeline.encode(shards, lent / f"encoded-{split}", audio=audio, image=image, device="cpu")
        encoded[split] = EncodedDocuments(shards, codes)
    pipeline.train_network(
        recipe, encoded["train"], encoded["heldout"], trained.text, audio, image, folder, device="cpu"
    )


def _probe(recipe: Recipe, audio: AudioTokenizer, folder: Path, *, steps: int) -> None:
    """A head that never took part in the codec's training learns to read phonemes from its semantic code."""
    module = AudioTokenizerModule(audio)
    train_only(module, module.phonemes)
    batches = tokenizers.clip_batches(recipe, folder, device="cpu")
    optimizer = MuonAdamW(tokenizer_groups(module.phonemes, lr=recipe.audio.lr))
    config = TrainConfig(num_steps=steps, device="cpu", seed=recipe.seed + 1)
    fit(AudioTokenizerObjective(module), batches, optimizer, config, folder / "probe", title="phoneme probe")


def _skills(folder: Path, n: int, judges: Path) -> dict[str, float]:
    evals.main(folder / "release", folder / "evals", n=n, tasks=SKILLS, judge_folder=judges)
    report = json.loads((folder / "evals" / "evals.json").read_text("utf-8"))
    return {
        f"{task['name']} {row['condition']} {row['metric']}".strip(): row["mean"]
        for task in report["tasks"]
        for row in task["rows"]
        if row["mean"] is not None
    }


def table(results: dict[str, dict[str, float]]) -> str:
    columns = list(dict.fromkeys(column for row in results.values() for column in row))
    lines = ["| variant | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for name, row in results.items():
        cells = [f"{row[column]:.3f}" if column in row else "" for column in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="compare variants of the codec and of the network")
    parser.add_argument("--run", type=Path, default=Path("runs/nano"))
    parser.add_argument("--out", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch-positions", type=int, help="of a step; by default the recipe's")
    parser.add_argument("--codec-steps", type=int, default=CODEC_STEPS, help="of a codec variant's own codec")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--n", type=int, default=50, help="samples of each skill; 0: none is measured")
    parser.add_argument("--processes", type=int, help="ranks; by default one per CPU core")
    parser.add_argument("--judges", type=Path, default=SHIPPED)
    options = parser.parse_args()
    with as_ranks(device="cpu", processes=options.processes):
        main(
            options.run,
            options.out,
            steps=options.steps,
            names=options.variants,
            n=options.n,
            judges=options.judges,
            codec_steps=options.codec_steps,
            batch_positions=options.batch_positions,
        )
