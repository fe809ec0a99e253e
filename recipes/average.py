"""Weights between those of several runs that grew from each other: what is new stays, what had faded comes back.

    python -m recipes.average --out runs/averaged --part 0.5 runs/retold/release --part 0.5 runs/tiny/release

Averages of weights that lie in one valley (model soups, Wortsman et al. 2022). Only the networks are averaged: all else
is that of the last part, whose tokenizers the others must share. `recipes.ship --run` takes it from there.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from sensorium.tokenizers.release import Release
from sensorium.training.pipeline import stages_of


class Part(NamedTuple):
    share: float
    release: Path


def average(parts: Sequence[Part], out: Path) -> None:
    """Writes `out`/release. Raises ValueError for shares that are no whole, and for networks that do not fit."""
    if not math.isclose(sum(part.share for part in parts), 1.0, abs_tol=1e-6) or min(parts)[0] < 0.0:
        raise ValueError(f"the shares must be positive and come to 1: {[part.share for part in parts]}")
    releases = [Release.load(part.release) for part in parts]
    last = releases[-1]
    for part, release in zip(parts, releases, strict=True):
        if not _read_the_same(release, last):
            raise ValueError(f"{part.release} has another network or other tokenizers than {parts[-1].release}")
    weights = [release.model.state_dict() for release in releases]
    shares = torch.tensor([part.share for part in parts])
    averaged = {
        name: torch.tensordot(shares, torch.stack([each[name].float() for each in weights]), 1).to(value.dtype)
        for name, value in weights[-1].items()
    }
    last.model.load_state_dict(averaged)
    last.save(out / "release")
    facts = json.loads((parts[-1].release / "training.json").read_text("utf-8"))
    facts["before"] = stages_of(parts[-1].release)
    facts["averaged"] = [part.share for part in parts]
    (out / "release" / "training.json").write_text(json.dumps(facts, indent=2) + "\n", "utf-8")


def _read_the_same(one: Release, other: Release) -> bool:
    """Whether the networks have one shape, and hear and see the same. What they say and draw may be decoded apart."""
    shapes = [(each.model, each.vocabulary, each.audio, each.image) for each in (one.config, other.config)]
    return (
        shapes[0] == shapes[1]
        and same_weights(one.audio_tokenizer.encoder, other.audio_tokenizer.encoder)
        and same_weights(one.image_tokenizer.encoder, other.image_tokenizer.encoder)
    )


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--part", nargs=2, action="append", required=True, metavar=("SHARE", "RELEASE"), help="twice or more"
    )
    options = parser.parse_args()
    try:
        average([Part(float(share), Path(release)) for share, release in options.part], options.out)
    except ValueError as error:
        parser.error(str(error))
