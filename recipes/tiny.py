"""`tiny`: the network to talk to, with every skill there is material for. It takes nano's tokenizers as they are.

    SENSORIUM_DATA=../shared/data python -m recipes.tiny --start sensorium/checkpoints/nano --keep-tokenizers

The same command trains on CPU cores, over days and as many stops as it likes, or on one GPU. Text comes first, with
pictures in captions without notes among it, since looking up must be learned before there are notes to look at
(docs/decisions/006); then everything.
"""

from __future__ import annotations

from dataclasses import replace

from recipes.command import train
from recipes.nano import NANO
from sensorium.data.packing import PackingConfig
from sensorium.training.recipe import NetworkStage, Phase

WEIGHTS = {
    **{"chat": 0.03, "hear": 0.08, "hear-pausing": 0.03, "talk": 0.05, "answer-aloud": 0.03, "mixed": 0.03},
    **{"say": 0.13, "say-styled": 0.06, "transcribe": 0.08, "translate": 0.04},
    **{"hear-styled": 0.03, "hear-background": 0.03, "hear-people": 0.01},
    **{"tool": 0.02, "tool-spoken": 0.03, "command": 0.05, "refuse": 0.02, "recall": 0.05},
    **{"see-plain": 0.02, "see": 0.08, "read": 0.1, "figure": 0.06, "icon": 0.04, "draw": 0.1, "edit": 0.07},
    **{"real-word": 0.04, "real-order": 0.02, "grocery": 0.03, "clothing": 0.03},
}
_TEXT = ("chat", "recall", "tool", "command")

TINY = replace(
    NANO,
    name="tiny",
    network=NetworkStage(
        depth=10,
        text_tokens=4096,  # there are more languages than nano's
        own_text=True,
        num_shards=1600,
        num_steps=20_000,
        weights=WEIGHTS,
        phases=(Phase(share=0.03, tasks=_TEXT), Phase(share=0.03, tasks=(*_TEXT, "see-plain"))),
        packing=PackingConfig(batch_positions=16_384),
        warmdown_share=0.6,
    ),
)

if __name__ == "__main__":
    train(TINY)
