"""From an empty folder, or from a release, to a talking network, stage by stage.

A stage whose result lies there is not run again.

corpora     speech clips, pictures, documents (sensorium.data.corpus)
text        byte-level BPE
audio       the codec            } trained by the one loop
image       the tile tokenizer   }   or a release's, whose eye may be sharpened
encode      documents' media through the tokenizers, once
network     the transformer, by the same loop
release     a folder that the engine loads
decoders    those of both tokenizers go on alone, on the documents' answers in the codes that the network chooses
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from sensorium.data import corpus
from sensorium.data.encoding import encode_documents
from sensorium.data.generators.speech import Split
from sensorium.data.packing import Curriculum, EncodedDocuments, Packing
from sensorium.model.config import ModelConfig, from_depth
from sensorium.model.growth import check_growth, grow
from sensorium.model.transformer import Transformer
from sensorium.tokenizers.audio import AudioTokenizer, AudioTokenizerConfig
from sensorium.tokenizers.image import ImageTokenizer, ImageTokenizerConfig
from sensorium.tokenizers.release import Release, ReleaseConfig
from sensorium.tokenizers.stream import collate_inputs, collate_labels
from sensorium.tokenizers.text import TextTokenizer
from sensorium.tokenizers.vocab import Vocabulary
from sensorium.training import distributed, metrics
from sensorium.training.config import TrainConfig, precision_of
from sensorium.training.loop import fit
from sensorium.training.objectives import StreamBatch, StreamObjective, train_only
from sensorium.training.optim import MuonAdamW, network_groups
from sensorium.training.recipe import NetworkStage, Recipe, begin
from sensorium.training.tokenizers import (
    build_clips,
    build_pictures,
    sharpen_image,
    train_audio,
    train_decoders,
    train_image,
)

HELD_OUT_BATCHES = 4


def run(recipe: Recipe, out: Path, *, device: str) -> Release:
    """Everything, in order; returns the release it also saves to `out/release`. Raises ValueError as `check_start` and
    `begin` do."""
    check_start(recipe)
    begin(recipe, out, num_ranks=distributed.num_ranks())
    if distributed.rank() == 0:
        build_corpora(recipe, out)
    distributed.barrier()
    if recipe.keep_tokenizers:
        assert recipe.start is not None
        given = Release.load(recipe.start)
        audio, image = given.audio_tokenizer, given.image_tokenizer
        if recipe.image.sharpen_steps:
            image = sharpen_image(recipe, out, image, device=device)
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
    if recipe.audio.decoder_steps or recipe.audio.adversarial_steps or recipe.image.decoder_steps:
        train_decoders(recipe, out, release, documents, encoded, device=device)
    if distributed.rank() == 0:
        release.save(out / "release")
    return release


def check_start(recipe: Recipe) -> None:
    """Raises ValueError, hours before the network begins, if it cannot grow out of the one to go on from, or keep as
    many of its layers as are to stay."""
    if recipe.start is None:
        if recipe.network.frozen_layers:
            raise ValueError("frozen_layers needs a release to start from")
        return
    given = ReleaseConfig.from_dict(json.loads((recipe.start / "config.json").read_text("utf-8")))
    kept = recipe.keep_tokenizers
    configs = (given.audio, given.image) if kept else (recipe.audio.config, recipe.image.config)
    model = network_config(recipe.network, *configs)[1]
    check_growth(model, given.model)
    if not 0 <= recipe.network.frozen_layers < model.num_layers:
        raise ValueError(f"frozen_layers must be 0 to {model.num_layers - 1}, not {recipe.network.frozen_layers}")


def build_corpora(recipe: Recipe, out: Path) -> None:
    """All material of the run. Later stages find their shards made."""
    if not recipe.keep_tokenizers:
        build_clips(recipe, out)
    if not recipe.keep_tokenizers or recipe.image.sharpen_steps:
        build_pictures(recipe, out)
    build_documents(recipe, out, split="train")
    build_documents(recipe, out, split="heldout")


def build_documents(recipe: Recipe, out: Path, *, split: Split) -> list[Path]:
    """The conversations to train on, or one shard of held-out ones for the learning curve."""
    return corpus.build(
        out / f"documents-{split}",
        corpus.make_documents(recipe.network.weights, split),
        num_shards=recipe.network.num_shards if split == "train" else 1,
        seed=recipe.seed,
        workers=recipe.workers,
    )


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
            yield clip["text"] or ""  # nobody may have written it down


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
    shown = curriculum(packing, stage, num_ranks=distributed.num_ranks())
    unseen = Packing(held_out, release.renderer, stage.packing, seed=recipe.seed)
    model, objective = release.model, StreamObjective(release.model, compiled=stage.compiled and can_compile(device))
    freeze(model, stage.frozen_layers)

    def batch_of(source: Packing | Curriculum, step: int) -> StreamBatch:
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
        partial(batch_of, shown),
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
        "precision": precision_of(device),
        "parameters": model.num_parameters(),
        "documents": len(documents),
        "positions_per_epoch": packing.num_positions,
        "before": stages_of(recipe.start),
    }
    (out / "release" / "training.json").write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
    return release


def curriculum(packing: Packing, stage: NetworkStage, *, num_ranks: int) -> Curriculum:
    """The phases of the stage, then everything."""
    parts: list[tuple[int, Packing]] = []
    step = 0.0
    for number, phase in enumerate(stage.phases, start=1):
        seed = packing.seed + 1_000_003 * number  # what a document looks like in it is seen in no other phase
        parts.append((round(step) * num_ranks, packing.only(phase.tasks, seed=seed)))
        step += phase.share * stage.num_steps
    return Curriculum([*parts, (round(step) * num_ranks, packing)])


def can_compile(device: str) -> bool:
    """Whether kernels can be compiled here: a C++ compiler and Python's headers are not on every machine."""
    try:
        torch.compile(lambda x: x.relu() + 1.0)(torch.ones(8, device=device))
    except Exception as error:  # whatever the compiler's driver raises: the run goes on without it
        print(f"kernels cannot be compiled here ({type(error).__name__}): the network trains a third slower")
        return False
    return True


def stages_of(start: Path | None) -> list[dict[str, object]]:
    """How the weights came about that a run goes on from: the `stages` of their training.json or, in the folder of a
    run, what came before it and its own."""
    if start is None or not (start / "training.json").exists():
        return []
    record = json.loads((start / "training.json").read_text("utf-8"))
    return record.get("stages") or [*record.get("before", []), *metrics.stages(start.parent)]


def new_release(recipe: Recipe, text: TextTokenizer, audio: AudioTokenizer, image: ImageTokenizer) -> Release:
    """Trained tokenizers and a network of the recipe's depth: a fresh one, or one grown from that of the release to go
    on from. Raises ValueError if that cannot grow into it."""
    stage = recipe.network
    vocabulary, model_config = network_config(stage, audio.config, image.config)
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
    model = Transformer(model_config)
    if recipe.start is not None:
        grow(model, Release.load(recipe.start).model)
    return Release(config=config, text=text, audio_tokenizer=audio, image_tokenizer=image, model=model)


def network_config(
    stage: NetworkStage, audio: AudioTokenizerConfig, image: ImageTokenizerConfig
) -> tuple[Vocabulary, ModelConfig]:
    """The symbols and the shape of the recipe's network."""
    vocabulary = Vocabulary(
        text_tokens=stage.text_tokens,
        audio_codes=math.prod(audio.semantic_levels),
        image_codes=math.prod(image.levels),
    )
    model_config = from_depth(
        stage.depth,
        vocab_size=vocabulary.size,
        audio_start=vocabulary.audio_start,
        image_start=vocabulary.image_start,
        num_image_residuals=image.num_residuals,
        image_residual_size=math.prod(image.residual_levels),
        **stage.model,
    )
    return vocabulary, model_config


def freeze(model: Transformer, num_layers: int) -> None:
    """Lets the embedding, the first `num_layers` blocks and all layers' scales stay as they are; 0 changes nothing.

    No gradient is taken through what comes before the first block that learns: where four of twelve stay, a step takes
    two thirds of the time. The scales stay since one tensor holds those of all layers.
    """
    if num_layers == 0:
        return
    heads = (model.symbol_head, model.depth_head, model.image_depth_head)
    train_only(model, *model.blocks[num_layers:], *(head for head in heads if head is not None))


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
