"""How a run is set up: the sizes and rates of its stages, and the note in its folder that keeps two set-ups apart."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sensorium.data.generators.documents import TASKS
from sensorium.data.packing import PackingConfig
from sensorium.tokenizers.audio import AudioTokenizerConfig
from sensorium.tokenizers.image import ImageTokenizerConfig
from sensorium.tokenizers.render import RenderConfig
from sensorium.training.objectives import Supervision
from sensorium.training.retelling import RetellingConfig


@dataclass(frozen=True, kw_only=True)
class AudioStage:
    config: AudioTokenizerConfig = field(default_factory=AudioTokenizerConfig)
    supervision: Supervision = "timed"
    num_shards: int = 16
    num_steps: int = 4000
    batch_size: int = 16
    crop_steps: int = 96  # x 20 ms
    lr: float = 2e-3
    decoder_steps: int = 1500  # with the encoder and its codes as they are, after the network, on its answers
    decoder_lr: float = 1e-3
    decoder_matrix_lr: float = 0.005
    adversarial_steps: int = 0  # then the decoder against a critic that learns to tell its sound from the original
    adversarial_lr: float = 2e-4
    critic_lr: float = 5e-4


@dataclass(frozen=True, kw_only=True)
class ImageStage:
    config: ImageTokenizerConfig = field(default_factory=ImageTokenizerConfig)
    weights: dict[str, float] = field(
        default_factory=lambda: {"scene": 0.3, "word": 0.5, "icon": 0.15, "digit": 0.05}
    )  # of the kinds of pictures it learns from
    num_shards: int = 12
    num_steps: int = 2500
    batch_size: int = 32
    lr: float = 1.5e-3
    matrix_lr: float = 0.01
    decoder_steps: int = 600  # as the codec's
    sharpen_steps: int = 0  # of a release's tokenizer that is kept: the features learn on, the codes stay; and it is
    # made as deep as `config` says
    sharpen_lr: float = 5e-4
    sharpen_matrix_lr: float = 0.0015


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of the network's steps that only sees the documents of some tasks."""

    share: float
    tasks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class NetworkStage:
    """`model` overrides single fields of what `depth` derives; the learning rates are peaks at width 768.

    They are scaled by (width / 768)^-0.5 for everything but Muon's matrices (nanochat's rule).
    """

    depth: int = 6
    text_tokens: int = 2048
    num_shards: int = 48
    weights: dict[str, float] = field(default_factory=lambda: dict(TASKS))
    phases: tuple[Phase, ...] = ()  # at first, one after another; the remaining steps see every document
    packing: PackingConfig = field(default_factory=PackingConfig)
    render: RenderConfig = field(default_factory=RenderConfig)
    model: dict[str, object] = field(default_factory=dict)
    num_steps: int = 2500
    warmdown_share: float = 0.5
    matrix_lr: float = 0.02
    embedding_lr: float = 0.1
    head_lr: float = 0.004
    scalar_lr: float = 0.02
    weight_decay: float = 0.05
    frozen_layers: int = 0  # the embedding and so many blocks, from the first on, stay as they are
    compiled: bool = True  # blocks and losses as compiled kernels, where they can be compiled

    def __post_init__(self) -> None:
        if sum(phase.share for phase in self.phases) > 1:
            raise ValueError("the phases take more than all steps")
        for phase in self.phases:
            if unknown := set(phase.tasks) - set(self.weights):
                raise ValueError(f"a phase sees {', '.join(sorted(unknown))}, of which no documents are made")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A reproducible run: `recipes/` holds one file per recipe."""

    name: str
    audio: AudioStage = field(default_factory=AudioStage)
    image: ImageStage = field(default_factory=ImageStage)
    network: NetworkStage = field(default_factory=NetworkStage)
    retelling: RetellingConfig = field(default_factory=RetellingConfig)
    seed: int = 1
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    start: Path | None = None  # a release whose weights the run goes on from, where they fit
    keep_tokenizers: bool = False  # `start`'s codes as they are: the network is trained on, then the decoders

    def __post_init__(self) -> None:
        if self.keep_tokenizers and self.start is None:
            raise ValueError("keep_tokenizers needs a release to start from")


def begin(recipe: Recipe, out: Path, *, num_ranks: int) -> dict[str, Any]:
    """Notes in `out/recipe.json` how the run is set up, and returns it.

    Raises ValueError, naming what differs, if the folder holds a run that was set up differently: its finished stages
    would silently be taken for this recipe's.
    """
    settings = {"ranks": num_ranks, **asdict(recipe)}
    del settings["workers"]  # how many make the material does not change it
    settings = json.loads(json.dumps(settings, default=str))
    path = out / "recipe.json"
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        beside = out / f"recipe.part-{os.getpid()}"
        beside.write_text(json.dumps(settings, indent=1) + "\n", "utf-8")
        os.replace(beside, path)
        return settings
    before = dict(_flat(json.loads(path.read_text("utf-8"))))
    for name, value in _flat(settings):
        if before.get(name) != value:
            raise ValueError(
                f"{out} was begun with {name} {before.get(name)!r}, not {value!r}: go on as it began, or take another "
                "folder"
            )
    return settings


def _flat(settings: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield above + name, value
