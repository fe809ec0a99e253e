"""`nano`: from an empty folder to a small network that hears, sees, reads, draws and speaks, on two CPU cores.

    make train-nano            or    python -m recipes.nano --out runs/nano

It is the lesson and the network that tests run on. A stopped run goes on where it was.
"""

from __future__ import annotations

from recipes.command import train
from sensorium.training.pipeline import AudioStage, ImageStage, NetworkStage, Recipe

NANO = Recipe(
    name="nano",
    audio=AudioStage(num_shards=20, num_steps=3000),
    image=ImageStage(num_shards=12, num_steps=2000),
    network=NetworkStage(depth=6, num_shards=120, num_steps=5400),
)

if __name__ == "__main__":
    train(NANO)
