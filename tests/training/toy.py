"""The smallest recipe that goes through every stage, also as a program that a test can kill."""

from __future__ import annotations

from recipes.command import train
from sensorium.data import corpus
from sensorium.data.packing import PackingConfig
from sensorium.tokenizers.audio import AudioTokenizerConfig
from sensorium.tokenizers.image import ImageTokenizerConfig
from sensorium.training.recipe import AudioStage, ImageStage, NetworkStage, Recipe

TOY = Recipe(
    name="toy",
    audio=AudioStage(
        config=AudioTokenizerConfig(size=32, encoder_blocks=(1, 1), decoder_blocks=(1, 1), lookahead_frames=1),
        num_shards=1,
        num_steps=2,
        decoder_steps=2,
        adversarial_steps=2,
        batch_size=2,
    ),
    image=ImageStage(
        config=ImageTokenizerConfig(channels=(8, 16), blocks=(1, 1), feature_size=32, num_residuals=3),
        num_shards=1,
        num_steps=2,
        decoder_steps=2,
        batch_size=2,
    ),
    network=NetworkStage(
        depth=2,
        text_tokens=512,
        num_shards=1,
        num_steps=12,
        packing=PackingConfig(batch_positions=2048),
        model={"feature_size": 32},
        compiled=False,  # compiling takes longer than these few steps
    ),
    workers=1,
)


def small_corpora() -> None:
    corpus.CLIPS_PER_SHARD, corpus.PICTURES_PER_SHARD, corpus.DOCUMENTS_PER_SHARD = 8, 16, 40


if __name__ == "__main__":
    small_corpora()
    train(TOY)
