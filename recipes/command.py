"""The command line that every training recipe shares."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch

from sensorium.training import distributed
from sensorium.training.pipeline import Recipe, run


def train(recipe: Recipe) -> None:
    parser = argparse.ArgumentParser(description=f"train {recipe.name}")
    parser.add_argument("--out", type=Path, default=Path("runs") / recipe.name, help="where everything is kept")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--processes", type=int, help="ranks; by default one per CPU core, or one for a GPU")
    parser.add_argument("--start", type=Path, help="a release whose weights the run goes on from, where they fit")
    parser.add_argument("--seed", type=int, default=recipe.seed, help="of the material and of all chance")
    options = parser.parse_args()
    recipe = replace(recipe, start=options.start, seed=options.seed)
    on_cpu = options.device == "cpu"
    processes = options.processes or ((os.cpu_count() or 1) if on_cpu else 1)
    if processes > 1 and "WORLD_SIZE" not in os.environ:
        raise SystemExit(_launch(recipe.name, processes))
    if on_cpu:
        torch.set_num_threads(1)  # small steps do not split well over threads: one process per core instead
    distributed.join(options.device)
    try:
        run(recipe, options.out, device=options.device)
    finally:
        distributed.leave()
    if distributed.rank() == 0:
        print(f"serve it:  sensorium serve --checkpoint {options.out / 'release'}")


def _launch(name: str, processes: int) -> int:
    """Starts this command again, as ranks of one run."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.call(
        [*launcher, "-m", f"recipes.{name}", *sys.argv[1:]], env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
