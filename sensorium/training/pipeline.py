"""From an empty folder, or from a release, to a talking network, stage by stage.

A stage whose result lies there is not run again.

corpora     speech clips, pictures, documents (sensorium.data.corpus)
text        byte-level BPE
audio       the codec            } trained by the one loop
image       the tile tokenizer   }
encode      documents' media through the tokenizers, once
network     the transformer, by the same loop
release     a folder that the engine loads
decoders    those of both tokenizers go on alone, on the documents' answers in the codes that the network chooses
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from sensorium.data import corpus
from sensorium.data.corpus import Clips
from sensorium.data.encoding import encode_documents
from sensorium.data.generators.documents import TASKS
from sensorium.data.generators.speech import Split
from sensorium.data.loader import Answers, Drawings, Pictures, clip_batch
from sensorium.data.packing import EncodedDocuments, Packing, PackingConfig
from sensorium.model.config import from_depth
from sensorium.model.transformer import Transformer
from sensorium.tokenizers.audio import SUBFRAMES, AudioTokenizer, AudioTokenizerConfig
from sensorium.tokenizers.image import ImageTokenizer, ImageTokenizerConfig
from sensorium.tokenizers.release import Release, ReleaseConfig
from sensorium.tokenizers.render import RenderConfig
from sensorium.tokenizers.stream import collate_inputs, collate_labels
from sensorium.tokenizers.text import TextTokenizer
from sensorium.tokenizers.vocab import Vocabulary
from sensorium.training import distributed
from sensorium.training.config import TrainConfig
from sensorium.training.loop import fit
from sensorium.training.objectives import (
    AnswerBatch,
    AudioDecoderObjective,
    AudioTokenizerModule,
    AudioTokenizerObjective,
    ClipBatch,
    DrawingBatch,
    ImageDecoderObjective,
    ImageTokenizerModule,
    ImageTokenizerObjective,
    PictureBatch,
    StreamBatch,
    StreamObjective,
    Supervision,
)
from sensorium.training.optim import MuonAdamW, network_groups, tokenizer_groups
from sensorium.training.retelling import RetellingConfig, retell

HELD_OUT_BATCHES = 4

Tokenizer = TypeVar("Tokenizer", bound=nn.Module)


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


@dataclass(frozen=True, kw_only=True)
class ImageStage:
    config: ImageTokenizerConfig = field(default_factory=ImageTokenizerConfig)
    num_shards: int = 12
    num_steps: int = 2500
    batch_size: int = 32
    lr: float = 1.5e-3
    matrix_lr: float = 0.01
    decoder_steps: int = 600  # as the codec's


@dataclass(frozen=True, kw_only=True)
class NetworkStage:
    """`model` overrides single fields of what `depth` derives; the learning rates are peaks at width 768.

    They are scaled by (width / 768)^-0.5 for everything but Muon's matrices (nanochat's rule).
    """

    depth: int = 6
    text_tokens: int = 2048
    num_shards: int = 48
    weights: dict[str, float] = field(default_factory=lambda: dict(TASKS))
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
    compiled: bool = True  # blocks and losses as compiled kernels, where they can be compiled


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


def run(recipe: Recipe, out: Path, *, device: str) -> Release:
    """Everything, in order; returns the release it also saves to `out/release`. Raises ValueError as `begin` does."""
    begin(recipe, out, num_ranks=distributed.num_ranks())
    if distributed.rank() == 0:
        build_corpora(recipe, out)
    distributed.barrier()
    if recipe.keep_tokenizers:
        assert recipe.start is not None
        given = Release.load(recipe.start)
        audio, image = given.audio_tokenizer, given.image_tokenizer
    else:
        audio, image = train_audio(recipe, out, device=device), train_image(recipe, out, device=device)
    documents = build_documents(recipe, out, split="train")
    held_out = build_documents(recipe, out, split="heldout")
    if distributed.rank() == 0:
        train_text(recipe, documents, out)
    distributed.barrier()
    text = TextTokenizer.load(out / "text.json")
    coded = partial(encode, audio=audio, image=image, device=device)
    encoded = coded(documents, out / "encoded-train")
    shown = EncodedDocuments(documents, encoded)
    unseen = EncodedDocuments(held_out, coded(held_out, out / "encoded-heldout"))
    release = train_network(recipe, shown, unseen, text, audio, image, out, device=device)
    train_decoders(recipe, out, release, documents, encoded, device=device)
    if distributed.rank() == 0:
        release.save(out / "release")
    return release


def build_corpora(recipe: Recipe, out: Path) -> None:
    """All material of the run. Later stages find their shards made."""
    if not recipe.keep_tokenizers:
        build_clips(recipe, out)
        build_pictures(recipe, out)
    build_documents(recipe, out, split="train")
    build_documents(recipe, out, split="heldout")


def build_clips(recipe: Recipe, out: Path) -> list[Path]:
    return corpus.build(
        out / "clips", corpus.make_clips, num_shards=recipe.audio.num_shards, seed=recipe.seed, workers=recipe.workers
    )


def build_pictures(recipe: Recipe, out: Path) -> list[Path]:
    return corpus.build(
        out / "pictures",
        corpus.make_pictures,
        num_shards=recipe.image.num_shards,
        seed=recipe.seed,
        workers=recipe.workers,
    )


def build_documents(recipe: Recipe, out: Path, *, split: Split) -> list[Path]:
    """The conversations to train on, or one shard of held-out ones for the learning curve."""
    return corpus.build(
        out / f"documents-{split}",
        corpus.make_documents(recipe.network.weights, split),
        num_shards=recipe.network.num_shards if split == "train" else 1,
        seed=recipe.seed,
        workers=recipe.workers,
    )


def train_audio(recipe: Recipe, out: Path, *, device: str) -> AudioTokenizer:
    stage = recipe.audio
    torch.manual_seed(recipe.seed)
    module = AudioTokenizerModule(start(AudioTokenizer(stage.config), recipe, "audio.safetensors"))
    config = TrainConfig(num_steps=stage.num_steps, device=device, seed=recipe.seed)
    optimizer = MuonAdamW(tokenizer_groups(module, lr=stage.lr))
    batches = clip_batches(recipe, out, device=device)
    objective = AudioTokenizerObjective(module, supervision=stage.supervision)
    fit(objective, batches, optimizer, config, out / "audio", title="audio tokenizer")
    return _as_released(module.tokenizer)


def train_decoders(
    recipe: Recipe, out: Path, release: Release, documents: Sequence[Path], encoded: Sequence[Path], *, device: str
) -> None:
    """The tokenizers' decoders alone learn to sound and draw what the network says, in the codes that it chooses."""
    config = recipe.retelling
    documents, encoded = documents[: config.num_shards], encoded[: config.num_shards]
    places = {"rank": distributed.rank(), "num_ranks": distributed.num_ranks()}
    retold = retell(release, documents, encoded, out / "retold-train", config=config, device=device, **places)
    distributed.barrier()
    audio, image = release.audio_tokenizer, release.image_tokenizer
    answers = Answers(documents, encoded, retold, frame_size=audio.config.frame_size)
    train_audio_decoder(recipe, out, audio, answers, device=device)
    train_image_decoder(recipe, out, image, Drawings(documents, encoded, retold), device=device)


def train_audio_decoder(recipe: Recipe, out: Path, audio: AudioTokenizer, answers: Answers, *, device: str) -> None:
    stage = recipe.audio
    sizes = {"batch_size": stage.batch_size // distributed.num_ranks(), "frames": stage.crop_steps // SUBFRAMES}

    def batch(step: int) -> AnswerBatch:
        waveforms, codes = answers.batch(step, seed=recipe.seed, own_share=recipe.retelling.own_share, **sizes)
        return AnswerBatch(torch.from_numpy(waveforms).to(device), torch.from_numpy(codes).to(device))

    config = TrainConfig(num_steps=stage.decoder_steps, device=device, seed=recipe.seed + 1)
    optimizer = MuonAdamW(tokenizer_groups(audio.decoder, lr=stage.decoder_lr, matrix_lr=stage.decoder_matrix_lr))
    fit(AudioDecoderObjective(audio), batch, optimizer, config, out / "audio-decoder", title="audio decoder")
    _as_released(audio)


def train_image_decoder(recipe: Recipe, out: Path, image: ImageTokenizer, drawings: Drawings, *, device: str) -> None:
    stage = recipe.image
    sizes = {"batch_size": stage.batch_size // distributed.num_ranks()}

    def batch(step: int) -> DrawingBatch:
        pixels, codes = drawings.batch(step, seed=recipe.seed, own_share=recipe.retelling.own_share, **sizes)
        return DrawingBatch(torch.from_numpy(pixels).to(device), torch.from_numpy(codes).to(device))

    config = TrainConfig(num_steps=stage.decoder_steps, device=device, seed=recipe.seed + 1)
    optimizer = MuonAdamW(tokenizer_groups(image.decoder, lr=stage.lr, matrix_lr=stage.matrix_lr))
    image.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - nine times the speed on a CPU
    fit(ImageDecoderObjective(image), batch, optimizer, config, out / "image-decoder", title="image decoder")
    _as_released(image)


def clip_batches(recipe: Recipe, out: Path, *, device: str) -> Callable[[int], ClipBatch]:
    """What the codec learns from at a step: crops of the run's clips."""
    stage = recipe.audio
    clips = Clips(build_clips(recipe, out))
    sizes = {"batch_size": stage.batch_size // distributed.num_ranks(), "steps": stage.crop_steps}

    def batch(step: int) -> ClipBatch:
        waveforms, phonemes = clip_batch(clips, step, seed=recipe.seed, **sizes)
        labels = torch.from_numpy(phonemes).unflatten(1, (-1, 4))
        return ClipBatch(torch.from_numpy(waveforms).to(device), labels.to(device))

    return batch


def train_image(recipe: Recipe, out: Path, *, device: str) -> ImageTokenizer:
    stage = recipe.image
    torch.manual_seed(recipe.seed)
    module = ImageTokenizerModule(start(ImageTokenizer(stage.config), recipe, "image.safetensors"))
    module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - nine times the speed on a CPU
    config = TrainConfig(num_steps=stage.num_steps, device=device, seed=recipe.seed)
    optimizer = MuonAdamW(tokenizer_groups(module, lr=stage.lr, matrix_lr=stage.matrix_lr))
    batches = _picture_batches(recipe, out, device=device)
    fit(ImageTokenizerObjective(module), batches, optimizer, config, out / "image", title="image tokenizer")
    return _as_released(module.tokenizer)


def _picture_batches(recipe: Recipe, out: Path, *, device: str) -> Callable[[int], PictureBatch]:
    images = Pictures(build_pictures(recipe, out))
    batch_size = recipe.image.batch_size // distributed.num_ranks()

    def batch(step: int) -> PictureBatch:
        pixels, labels = images.batch(step, seed=recipe.seed, batch_size=batch_size)
        patches = torch.from_numpy(labels.astype(np.int64)).flatten(1, 2)  # (B, P, L, 3)
        return PictureBatch(torch.from_numpy(pixels).to(device), patches.to(device))

    return batch


def train_text(recipe: Recipe, documents: Sequence[Path], out: Path) -> None:
    """BPE over everything that is typed, said or answered in the documents; or that of the release to go on from."""
    path = out / "text.json"
    if not path.exists() and recipe.start is not None:
        TextTokenizer.load(recipe.start / "text.json").save(path)  # the network's words keep their symbols
    if not path.exists():
        TextTokenizer.train(_texts(documents), num_tokens=recipe.network.text_tokens).save(path)


def _texts(documents: Sequence[Path]) -> Iterator[str]:
    for shard in documents:
        for record in corpus.read_lines(shard / "documents.jsonl"):
            for message in record["messages"]:
                for part in message["parts"]:
                    yield part.get("text") or part.get("arguments") or ""
        for clip in corpus.read_lines(shard / "clips.jsonl"):
            yield clip["text"]


def encode(
    documents: Sequence[Path], out: Path, *, audio: AudioTokenizer, image: ImageTokenizer, device: str
) -> list[Path]:
    """The media of every shard as codes and features. Ranks share the shards."""
    places = {"rank": distributed.rank(), "num_ranks": distributed.num_ranks()}
    folders = encode_documents(documents, out, audio=audio, image=image, device=device, **places)
    distributed.barrier()
    return folders


def train_network(
    recipe: Recipe,
    documents: EncodedDocuments,
    held_out: EncodedDocuments,
    text: TextTokenizer,
    audio: AudioTokenizer,
    image: ImageTokenizer,
    out: Path,
    *,
    device: str,
) -> Release:
    stage = recipe.network
    release = new_release(recipe, text, audio, image)
    share = replace(stage.packing, batch_positions=stage.packing.batch_positions // distributed.num_ranks())
    packing = Packing(documents, release.renderer, share, seed=recipe.seed)
    unseen = Packing(held_out, release.renderer, stage.packing, seed=recipe.seed)
    model, objective = release.model, StreamObjective(release.model, compiled=stage.compiled and can_compile(device))

    def batch_of(source: Packing, step: int) -> StreamBatch:
        streams = source.batch(step)
        inputs, labels = collate_inputs(streams, model.config), collate_labels(streams, model.config)
        return StreamBatch(
            type(inputs)(*(tensor.to(device) for tensor in inputs)),
            type(labels)(*(tensor.to(device) for tensor in labels)),
        )

    def measure_unseen() -> dict[str, float]:
        parts = [objective(batch_of(unseen, step))[1] for step in range(HELD_OUT_BATCHES)]
        return {f"heldout_{name}": round(sum(float(part[name]) for part in parts) / len(parts), 5) for name in parts[0]}

    config = TrainConfig(
        num_steps=stage.num_steps, device=device, seed=recipe.seed, warmdown_share=stage.warmdown_share
    )
    fit(
        objective,
        partial(batch_of, packing),
        network_optimizer(model, stage),
        config,
        out / "network",
        title="network",
        held_out=measure_unseen,
    )
    model.cpu().eval()
    if distributed.rank() > 0:
        return release
    release.save(out / "release")
    facts = {
        "recipe": recipe.name,
        "settings": begin(recipe, out, num_ranks=distributed.num_ranks()),
        "device": device,
        "parameters": model.num_parameters(),
        "documents": len(documents),
        "positions_per_epoch": packing.num_positions,
        "before": _stages_of(recipe.start),
    }
    (out / "release" / "training.json").write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
    return release


def can_compile(device: str) -> bool:
    """Whether kernels can be compiled here: a C++ compiler and Python's headers are not on every machine."""
    try:
        torch.compile(lambda x: x.relu() + 1.0)(torch.ones(8, device=device))
    except Exception as error:  # whatever the compiler's driver raises: the run goes on without it
        print(f"kernels cannot be compiled here ({type(error).__name__}): the network trains a third slower")
        return False
    return True


def _stages_of(start: Path | None) -> list[dict[str, object]]:
    """How the weights came about that a run goes on from (the `stages` of their training.json)."""
    path = start / "training.json" if start is not None else None
    return json.loads(path.read_text("utf-8")).get("stages", []) if path is not None and path.exists() else []


def new_release(recipe: Recipe, text: TextTokenizer, audio: AudioTokenizer, image: ImageTokenizer) -> Release:
    """Trained tokenizers and a fresh network of the recipe's depth."""
    stage = recipe.network
    vocabulary = Vocabulary(
        text_tokens=stage.text_tokens, audio_codes=audio.semantic.num_codes, image_codes=image.quantizer.num_codes
    )
    model_config = from_depth(
        stage.depth,
        vocab_size=vocabulary.size,
        audio_start=vocabulary.audio_start,
        image_start=vocabulary.image_start,
        num_image_residuals=image.config.num_residuals,
        image_residual_size=image.residual.num_codes,
        **stage.model,
    )
    config = ReleaseConfig(
        model=model_config,
        name=f"sensorium-{recipe.name}",
        created=int(time.time()),
        vocabulary=vocabulary,
        audio=audio.config,
        image=image.config,
        render=stage.render,
    )
    torch.manual_seed(recipe.seed)
    model = start(Transformer(model_config), recipe, "network.safetensors")
    return Release(config=config, text=text, audio_tokenizer=audio, image_tokenizer=image, model=model)


def network_optimizer(model: Transformer, stage: NetworkStage) -> MuonAdamW:
    scale = (model.config.hidden_size / 768) ** -0.5
    groups = network_groups(
        model,
        matrix_lr=stage.matrix_lr,
        embedding_lr=stage.embedding_lr * scale,
        head_lr=stage.head_lr * scale,
        scalar_lr=stage.scalar_lr,
        weight_decay=stage.weight_decay,
    )
    return MuonAdamW(groups)


def start(module: Tokenizer, recipe: Recipe, file_name: str) -> Tokenizer:
    """The module with the weights of `recipe.start`, if the run goes on from one: those that fit by name and shape."""
    if recipe.start is None:
        return module
    own, given = module.state_dict(), load_file(recipe.start / file_name)
    fitting = {name: given[name] for name in own if name in given and given[name].shape == own[name].shape}
    module.load_state_dict(fitting, strict=False)
    if fresh := sorted(own.keys() - fitting.keys()):
        print(f"{file_name}: starts fresh in {', '.join(fresh)}")
    return module


def _as_released(module: Tokenizer) -> Tokenizer:
    """Matrices rounded to bfloat16, as a release stores them: the network must learn the codes that users will get."""
    for parameter in module.parameters():
        if parameter.ndim >= 2:
            parameter.data = parameter.data.to(torch.bfloat16).float()
    return module.eval()
