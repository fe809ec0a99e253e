"""The released weights: nano, gone on with from the release before, two layers deeper and on fresh material.

    python -m recipes.released --start sensorium/checkpoints/nano --keep-tokenizers --seed 7 --out runs/released

The picture tokenizer's eye is sharpened first; the network then learns for about 90 minutes on two CPU cores, and the
decoders for 20 more. `--seed` must be one that no earlier run had, or the material is not fresh.
"""

from __future__ import annotations

from dataclasses import replace

from recipes.command import train
from recipes.nano import NANO

RELEASED = replace(
    NANO,
    audio=replace(NANO.audio, decoder_steps=1600),
    image=replace(NANO.image, sharpen_steps=3600, decoder_steps=800),
    network=replace(
        NANO.network,
        model={"num_layers": 8},
        num_shards=220,
        num_steps=6000,
        warmdown_share=0.7,
        matrix_lr=0.015,  # nano's 0.02 is for weights that know nothing yet
    ),
)

if __name__ == "__main__":
    train(RELEASED)
