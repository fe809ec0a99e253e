"""The command line that every training recipe shares."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch

from sensorium.training.pipeline import Recipe, run


def train(recipe: Recipe) -> None:
    parser = argparse.ArgumentParser(description=f"train {recipe.name}")
    parser.add_argument("--out", type=Path, default=Path("runs") / recipe.name, help="where everything is kept")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="for torch on the CPU")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    run(recipe, options.out, device=options.device)
    print(f"serve it:  sensorium serve --checkpoint {options.out / 'release'}")
