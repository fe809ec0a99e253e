"""The released weights: nano, gone on with from the release before it, on fresh material. Three runs, in this order:

    python -m recipes.released --stage lookup --keep-tokenizers --seed 51 --start sensorium/checkpoints/nano
    python -m recipes.released --stage noted --keep-tokenizers --seed 52 --start runs/lookup/release
    python -m recipes.released --keep-tokenizers --seed 11 --start runs/noted/release

First it learns to look things up, in text and in what it writes down of pictures; then the same with notes of each
colour behind its shape; then everything. In the other order it never learns to tell two shapes by their colours
(docs/decisions/006). About 5, 4 and 90 minutes on two CPU cores, and 15 to make the material. `--seed` must be one that
no earlier run had, or the material is not fresh.
"""

from __future__ import annotations

from dataclasses import replace

from recipes.command import train
from recipes.nano import NANO
from sensorium.data.generators.documents import TASKS
from sensorium.data.packing import PackingConfig

RELEASED = replace(
    NANO,
    name="released",
    audio=replace(NANO.audio, decoder_steps=1200),
    network=replace(
        NANO.network,
        model={"num_layers": 8},
        weights={**TASKS, "hear-pausing": 0.02},
        num_shards=600,
        num_steps=5000,
        warmdown_share=0.7,
        matrix_lr=0.015,  # nano's 0.02 is for weights that know nothing yet
    ),
)

LOOKUP = replace(
    RELEASED,
    name="lookup",
    audio=replace(NANO.audio, decoder_steps=0),
    image=replace(NANO.image, decoder_steps=0),
    network=replace(
        RELEASED.network,
        weights={"recall": 0.7, "see-plain": 0.3},
        num_shards=8,
        num_steps=400,
        packing=PackingConfig(batch_positions=4096),
        warmdown_share=0.6,
        matrix_lr=0.012,
    ),
)

NOTED = replace(
    LOOKUP,
    name="noted",
    network=replace(LOOKUP.network, weights={"recall": 0.6, "see": 0.4}, num_steps=300, matrix_lr=0.01),
)

if __name__ == "__main__":
    train(RELEASED, LOOKUP, NOTED)
