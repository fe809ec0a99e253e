"""A release: the folder that holds one trained model, whole.

    config.json            every configuration, the name and the date
    text.json              byte-level BPE
    network.safetensors    the transformer
    audio.safetensors      the speech codec
    image.safetensors      the image tokenizer
    speakers.safetensors   which directions of the codec's features tell speakers apart, where somebody found out

Training writes such folders, the engine reads them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

from sensorium.model.config import ModelConfig
from sensorium.model.transformer import Transformer
from sensorium.model.weights import load_weights, save_weights
from sensorium.tokenizers.audio import AudioTokenizer, AudioTokenizerConfig
from sensorium.tokenizers.image import ImageTokenizer, ImageTokenizerConfig
from sensorium.tokenizers.render import RenderConfig, Renderer
from sensorium.tokenizers.speakers import SpeakerSpace
from sensorium.tokenizers.text import TextTokenizer
from sensorium.tokenizers.vocab import Vocabulary

Config = TypeVar("Config")
SPEAKERS = "speakers.safetensors"


@dataclass(frozen=True, kw_only=True)
class ReleaseConfig:
    """Every part's configuration. Raises ValueError where the parts do not fit together."""

    model: ModelConfig
    name: str = "sensorium"
    created: int = 0  # seconds since 1970
    vocabulary: Vocabulary = field(default_factory=Vocabulary)
    audio: AudioTokenizerConfig = field(default_factory=AudioTokenizerConfig)
    image: ImageTokenizerConfig = field(default_factory=ImageTokenizerConfig)
    render: RenderConfig = field(default_factory=RenderConfig)

    def __post_init__(self) -> None:
        model, vocabulary, audio, image = self.model, self.vocabulary, self.audio, self.image
        for what, found, expected in (
            ("model.vocab_size", model.vocab_size, vocabulary.size),
            ("model.audio_start", model.audio_start, vocabulary.audio_start),
            ("model.image_start", model.image_start, vocabulary.image_start),
            ("model.audio_codes", model.audio_codes, vocabulary.audio_codes),
            ("model.num_residuals", model.num_residuals, audio.num_acoustic),
            ("model.num_patches", model.num_patches, image.num_patches),
            ("model.num_image_residuals", model.num_image_residuals, image.num_residuals),
            ("model.image_residual_size", model.image_residual_size, math.prod(image.residual_levels)),
            ("audio.size", audio.size, model.feature_size),
            ("image.feature_size", image.feature_size, model.feature_size),
        ):
            if found != expected:
                raise ValueError(f"{what} is {found}, the other parts of the release need {expected}")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """What `to_dict` gave, read back from JSON. Raises ValueError for unknown or missing keys."""
        parts = {
            "model": ModelConfig,
            "vocabulary": Vocabulary,
            "audio": AudioTokenizerConfig,
            "image": ImageTokenizerConfig,
            "render": RenderConfig,
        }
        read = {key: _build(parts[key], value) if key in parts else value for key, value in values.items()}
        return _build(cls, read)


@dataclass(frozen=True, kw_only=True, eq=False)
class Release:
    """One model in memory: the network and its tokenizers, float32, in evaluation mode after `load`."""

    config: ReleaseConfig
    text: TextTokenizer
    audio_tokenizer: AudioTokenizer
    image_tokenizer: ImageTokenizer
    model: Transformer
    speakers: SpeakerSpace | None = None

    @property
    def vocabulary(self) -> Vocabulary:
        return self.config.vocabulary

    @cached_property
    def renderer(self) -> Renderer:
        return Renderer(self.text, self.config.vocabulary, self.config.render, image_levels=self.config.image.levels)

    @classmethod
    def create(cls, config: ReleaseConfig, text: TextTokenizer) -> Self:
        """An untrained release: fresh random weights from torch's global generator."""
        return cls(
            config=config,
            text=text,
            audio_tokenizer=AudioTokenizer(config.audio).eval(),
            image_tokenizer=ImageTokenizer(config.image).eval(),
            model=Transformer(config.model).eval(),
        )

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Reads a folder. Raises FileNotFoundError if there is none, ValueError if its parts do not fit."""
        folder = Path(folder)
        config = ReleaseConfig.from_dict(json.loads((folder / "config.json").read_text("utf-8")))
        release = cls.create(config, TextTokenizer.load(folder / "text.json"))
        for module, name in release._weights():
            load_weights(module, folder / name)
        if (folder / SPEAKERS).exists():
            release = replace(release, speakers=SpeakerSpace.load(folder / SPEAKERS))
        return release

    def save(self, folder: Path | str, *, int8: bool = False) -> None:
        """Writes the folder, over whatever release it holds; with `int8`, the network's matrices in 8 bits."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config.to_dict(), indent=2) + "\n", "utf-8")
        self.text.save(folder / "text.json")
        for module, name in self._weights():
            save_weights(module, folder / name, int8=int8 and module is self.model)
        if self.speakers is not None:
            self.speakers.save(folder / SPEAKERS)

    def _weights(self) -> list[tuple[Transformer | AudioTokenizer | ImageTokenizer, str]]:
        return [
            (self.model, "network.safetensors"),
            (self.audio_tokenizer, "audio.safetensors"),
            (self.image_tokenizer, "image.safetensors"),
        ]


def taught_tasks(folder: Path) -> frozenset[str] | None:
    """The tasks of a release's last training, by its record, training.json; None if nobody wrote that down."""
    record = folder / "training.json"
    settings = json.loads(record.read_text("utf-8")).get("settings", {}) if record.exists() else {}
    weights = settings.get("network", {}).get("weights")
    return None if weights is None else frozenset(weights)


def _build(kind: type[Config], values: Mapping[str, Any]) -> Config:
    known = {item.name for item in fields(kind)}  # pyright: ignore[reportArgumentType]
    if unknown := sorted(values.keys() - known):
        raise ValueError(f"{kind.__name__} has no field {', '.join(unknown)}")
    try:
        return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
    except TypeError as error:
        raise ValueError(f"{kind.__name__}: {error}") from error
