"""The command line that every training recipe shares."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from sensorium.training import distributed
from sensorium.training.pipeline import check_start, run
from sensorium.training.recipe import Recipe, begin


def train(recipe: Recipe, *stages: Recipe) -> None:
    """Trains as the command line says: the recipe, or one of the `stages` that may come before it."""
    parser = argparse.ArgumentParser(description=f"train {recipe.name}")
    by_name = {stage.name: stage for stage in (recipe, *stages)}
    if stages:
        parser.add_argument("--stage", choices=tuple(by_name), default=recipe.name, help="by default the last of all")
    parser.add_argument("--out", type=Path, help="where everything is kept, by default runs/ and the recipe's name")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--processes", type=int, help="ranks; by default one per CPU core, or one for a GPU")
    parser.add_argument("--start", type=Path, help="a release whose weights the run goes on from, where they fit")
    parser.add_argument("--keep-tokenizers", action="store_true", help="those of --start: their codes stay as they are")
    parser.add_argument("--seed", type=int, default=recipe.seed, help="of the material and of all chance")
    options = parser.parse_args()
    recipe = by_name[options.stage] if stages else recipe
    out = options.out or Path("runs") / recipe.name
    if options.start is not None and not (options.start / "config.json").is_file():
        parser.error(f"--start {options.start} is no release: it holds no config.json")
    if options.keep_tokenizers and options.start is None:
        parser.error("--keep-tokenizers needs --start")
    recipe = replace(recipe, start=options.start, keep_tokenizers=options.keep_tokenizers, seed=options.seed)
    try:
        check_start(recipe)
        begin(recipe, out, num_ranks=num_ranks(options.device, options.processes))
    except ValueError as error:
        parser.error(str(error))
    with as_ranks(device=options.device, processes=options.processes):
        run(recipe, out, device=options.device)
        if distributed.rank() == 0:
            print(f"serve it:  sensorium serve --checkpoint {out / 'release'}")


@contextmanager
def as_ranks(*, device: str, processes: int | None) -> Iterator[None]:
    """Runs the body in every rank: one per CPU core or one for a GPU, unless `processes` says.

    The first time round it starts this very program again in each rank, waits for them, and ends this process with
    their exit status.
    """
    count = num_ranks(device, processes)
    if count > 1 and "WORLD_SIZE" not in os.environ:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
        raise SystemExit(
            subprocess.call([*launcher, *_program(), *sys.argv[1:]], env=os.environ | {"OMP_NUM_THREADS": "1"})
        )
    if device == "cpu":
        torch.set_num_threads(1)  # small steps do not split well over threads: one process per core instead
    distributed.join(device)
    try:
        yield
    finally:
        distributed.leave()


def num_ranks(device: str, processes: int | None) -> int:
    return processes or ((os.cpu_count() or 1) if device == "cpu" else 1)


def _program() -> list[str]:
    """How this program was started, whatever a recipe in it calls itself. After "--" no option is the launcher's, which
    would otherwise stumble over those that begin like its own."""
    spec = sys.modules["__main__"].__spec__
    return ["-m", "--", spec.name] if spec is not None else ["--", sys.argv[0]]
