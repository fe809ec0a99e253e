"""`nano`: from an empty folder to a small network that hears, sees, reads, draws and speaks, on two CPU cores.

    make train-nano            or    python -m recipes.nano --out runs/nano

It is the lesson and the network that tests run on. A stopped run goes on where it was.
"""

from __future__ import annotations

from recipes.command import train
from sensorium.tokenizers.audio import AudioTokenizerConfig
from sensorium.tokenizers.image import ImageTokenizerConfig
from sensorium.training.recipe import AudioStage, ImageStage, NetworkStage, Recipe

NANO = Recipe(
    name="nano",
    audio=AudioStage(
        config=AudioTokenizerConfig(lookahead_frames=2), num_shards=20, num_steps=3000, decoder_steps=1000
    ),
    image=ImageStage(config=ImageTokenizerConfig(num_residuals=3), num_shards=20, num_steps=2000, decoder_steps=500),
    network=NetworkStage(depth=6, num_shards=160, num_steps=4000),
)

if __name__ == "__main__":
    train(NANO)
