"""`nano`: from an empty folder to a small network that hears, sees, reads, draws and speaks, on two CPU cores.

    make train-nano            or    python -m recipes.nano --out runs/nano

It is the lesson and the network that tests run on. A stopped run goes on where it was.
"""

from __future__ import annotations

from recipes.command import train
from sensorium.training.pipeline import Recipe

NANO = Recipe(name="nano")

if __name__ == "__main__":
    train(NANO)
