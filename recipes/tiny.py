"""`tiny`: the network to talk to, with every skill there is material for, grown from nano. Thirteen runs:

    export SENSORIUM_DATA=../shared/data
    python -m recipes.tiny --stage grown --keep-tokenizers --seed 91 --start sensorium/checkpoints/nano
    python -m recipes.tiny --stage broader --keep-tokenizers --seed 97 --start runs/grown/release
    python -m recipes.tiny --stage firmer --keep-tokenizers --seed 101 --start runs/broader/release
    python -m recipes.tiny --stage noting --keep-tokenizers --seed 107 --start runs/firmer/release
    python -m recipes.tiny --stage retold --keep-tokenizers --seed 109 --start runs/noting/release
    python -m recipes.tiny --stage restored --keep-tokenizers --seed 113 --start runs/retold/release
    python -m recipes.average --out runs/averaged --part 0.1 runs/firmer/release --part 0.45 runs/retold/release \\
        --part 0.45 runs/restored/release
    python -m recipes.tiny --stage opened --keep-tokenizers --seed 127 --start runs/averaged/release
    python -m recipes.average --out runs/half --part 0.5 runs/averaged/release --part 0.5 runs/opened/release
    python -m recipes.tiny --stage called --keep-tokenizers --seed 131 --start runs/half/release
    python -m recipes.average --out runs/shipped --part 0.5 runs/half/release --part 0.5 runs/called/release
    python -m recipes.tiny --stage told --keep-tokenizers --seed 137 --start runs/shipped/release
    python -m recipes.average --out runs/halfway --part 0.5 runs/shipped/release --part 0.5 runs/told/release
    python -m recipes.tiny --stage settled --keep-tokenizers --seed 139 --start runs/halfway/release
    python -m recipes.tiny --stage placed --keep-tokenizers --seed 149 --start runs/shipped/release
    python -m recipes.average --out runs/between --part 0.5 runs/shipped/release --part 0.5 runs/placed/release
    python -m recipes.tiny --stage lasting --keep-tokenizers --seed 157 --start runs/between/release
    python -m recipes.tiny --keep-tokenizers --seed 173 --start runs/shipped/release

It begins as nano, wider and deeper, with nano's codes; its eye has twice the blocks and learns from photographs and
forms too. A little text comes first: orders in many languages, tools, refusals, which nano never read. The second run
adds films, quiet lines and pauses, the third has more of what was found wanting after it. The fourth has lessons (sums
to a hundred, units, what a thing is, and what to say where it does not know), takes notes of films, compares pictures
and hears more pauses. The fifth has more of all that, and then trains the decoders on what the network says. The sixth
brings back what had faded meanwhile (words in pictures, orders, refusals, recorded words) and has much of how a thing
was said. The seventh begins between the third run and those two, and has much of what is told in a word or two
(recorded words, how something is said, photographs), of drawing and changing pictures, and of lines that stay open
behind a turn. The eighth, which begins half way through that one, has calls of up to twelve turns: until then five in
six documents of talk had but one. What is shipped lies half way between its beginning and its end. The ninth has much
of what changes pictures, in words as well, of recorded words, and of what is short, and the tenth of drawing besides,
with less weight on what only stays: each hears or changes better, half way, and draws worse than what is shipped, so
neither is (docs/log.md). The eleventh, from what is shipped, has orders that say where a thing is, answers to whispers
and voices that are told apart; short runs leave little of each, so the twelfth, which has icons and emoji to draw
besides, is five times as long. What it has learned anew is lost half way to what is shipped; so the thirteenth begins
with what is shipped once more: half of its documents are icons and emoji, and the first third of the network stays as
it is, so that less is forgotten. All train on CPU cores, over days and as many stops as they like, or on one GPU.
`--seed` must differ, or the material is not fresh.
"""

from __future__ import annotations

from dataclasses import replace

from recipes.command import train
from recipes.nano import NANO
from sensorium.data.packing import PackingConfig
from sensorium.tokenizers.render import RenderConfig
from sensorium.training.recipe import NetworkStage, Phase

WEIGHTS = {
    **{"chat": 0.03, "hear": 0.08, "hear-pausing": 0.03, "talk": 0.05, "answer-aloud": 0.03, "mixed": 0.03},
    "interrupted": 0.02,
    **{"say": 0.13, "say-styled": 0.06, "transcribe": 0.08, "translate": 0.04, "read-aloud": 0.1, "dictation": 0.08},
    **{"hear-styled": 0.03, "hear-background": 0.03, "hear-people": 0.01},
    **{"tool": 0.02, "tool-spoken": 0.03, "command": 0.05, "refuse": 0.02, "recall": 0.05},
    **{"see-plain": 0.02, "see": 0.08, "read": 0.1, "figure": 0.06, "icon": 0.04, "draw": 0.1, "edit": 0.07},
    **{"real-word": 0.04, "real-order": 0.02, "grocery": 0.03, "clothing": 0.03},
}

GROWN = replace(
    NANO,
    name="grown",
    audio=replace(NANO.audio, decoder_steps=0),
    image=replace(
        NANO.image,
        config=replace(NANO.image.config, blocks=(4, 4)),
        weights={
            **{"word": 0.5, "scene": 0.16, "icon": 0.08, "digit": 0.04, "figure": 0.1},
            **{"grocery": 0.06, "clothing": 0.06},
        },
        num_shards=60,
        sharpen_steps=5000,
        decoder_steps=0,
    ),
    network=NetworkStage(
        depth=8,
        model={"num_layers": 12},
        num_shards=920,
        num_steps=8_000,
        weights=WEIGHTS,
        phases=(Phase(share=0.015, tasks=("chat", "recall", "tool", "command", "refuse", "see-plain")),),
        packing=PackingConfig(batch_positions=8192),
        render=RenderConfig(cuts=True),
        warmdown_share=0.6,
        matrix_lr=0.015,  # nano's 0.02 is for weights that know nothing yet
    ),
)

BROADER = replace(
    GROWN,
    name="broader",
    image=replace(GROWN.image, sharpen_steps=0),
    network=replace(
        GROWN.network,
        weights={
            **WEIGHTS,
            **{"see-film": 0.25, "hear-pausing": 0.12, "talk": 0.2, "answer-aloud": 0.08, "dictation": 0.2},
            **{"real-word": 1.0, "real-order": 0.2},  # short and few
            **{"tool": 0.06, "tool-spoken": 0.06},
            **{"read": 0.25, "draw": 0.2, "edit": 0.25},
        },
        num_shards=160,
        num_steps=2000,
        phases=(),
        warmdown_share=1.0,
        matrix_lr=0.008,  # it goes on where the first run's rate has long fallen
    ),
)

FIRMER = replace(
    BROADER,
    name="firmer",
    network=replace(
        BROADER.network,
        weights={
            **{"chat": 0.06, "hear": 0.2, "hear-pausing": 0.1, "talk": 0.3, "answer-aloud": 0.12, "mixed": 0.03},
            **{"interrupted": 0.02, "say": 0.15, "say-styled": 0.2, "transcribe": 0.2, "translate": 0.3},
            **{"read-aloud": 0.12, "dictation": 0.15, "hear-styled": 0.2, "hear-background": 0.08, "hear-people": 0.08},
            **{"tool": 0.08, "tool-spoken": 0.08, "command": 0.2, "refuse": 0.12, "recall": 0.05},
            **{"see-plain": 0.02, "see": 0.1, "read": 0.4, "figure": 0.2, "icon": 0.06, "draw": 0.2, "edit": 0.3},
            "edit-followup": 0.15,
            **{"real-word": 0.6, "real-order": 0.4, "grocery": 0.2, "clothing": 0.1, "see-film": 0.25},
        },
        num_shards=360,
        num_steps=4000,
        warmdown_share=0.8,
        matrix_lr=0.012,
    ),
)

NOTING = replace(
    FIRMER,
    name="noting",
    network=replace(
        FIRMER.network,
        weights={
            **FIRMER.network.weights,
            **{"lesson": 0.6, "lesson-spoken": 0.4, "grocery": 0.4, "clothing": 0.3},  # of photographs few were learned
            **{"hear-styled": 0.3, "hear-people": 0.1, "hear-pausing": 0.8, "real-order": 0.5, "real-word": 0.5},
            **{"english-word": 0.5, "tool": 0.25, "tool-spoken": 0.15, "draw": 0.25},
            **{"see-film": 0.7, "see-several": 0.7},
        },
        render=RenderConfig(cuts=True, listened=3.0, waited=1.0, over=1.0, noted_frames=True),
        num_shards=40,
        num_steps=480,
        warmdown_share=1.0,
        matrix_lr=0.006,  # half of what the weights grew with, for all parameters: what is known should stay
        embedding_lr=0.05,
        head_lr=0.002,
        scalar_lr=0.01,
    ),
)

RETOLD = replace(
    NOTING,
    name="retold",
    audio=replace(NANO.audio, decoder_steps=2450, adversarial_steps=0),
    image=replace(FIRMER.image, decoder_steps=350),
    retelling=replace(NANO.retelling, num_shards=14),
    network=replace(
        NOTING.network,
        weights={
            **NOTING.network.weights,
            **{"hear": 0.3, "talk": 0.35, "transcribe": 0.3, "hear-pausing": 0.6, "see-film": 0.9, "see-several": 0.5},
        },
        num_shards=60,
        num_steps=800,
        matrix_lr=0.008,
    ),
)

RESTORED = replace(
    RETOLD,
    name="restored",
    audio=replace(NANO.audio, decoder_steps=0),
    image=FIRMER.image,
    network=replace(
        RETOLD.network,
        weights={
            **RETOLD.network.weights,
            **{"hear-styled": 1.5, "say-styled": 0.4, "read": 1.3, "command": 0.7, "refuse": 0.4, "translate": 0.4},
            **{"real-word": 0.8, "real-order": 0.6, "icon": 0.2, "transcribe": 0.4, "read-aloud": 0.2},
            **{"lesson": 0.5, "lesson-spoken": 0.5, "tool": 0.3, "see-film": 0.8, "hear-pausing": 0.5},
        },
        num_shards=80,
        num_steps=600,
    ),
)

OPENED = replace(
    RESTORED,
    name="opened",
    network=replace(
        RESTORED.network,
        weights={
            # by positions, not by documents: what is short (a word, a photograph, how something is said) had had a
            # fiftieth of them, where films and pictures side by side had a quarter
            **{"chat": 0.08, "hear": 0.4, "hear-pausing": 1.1, "talk": 0.45, "answer-aloud": 0.15, "mixed": 0.06},
            **{"interrupted": 0.04, "say": 0.3, "say-styled": 0.35, "transcribe": 0.45, "translate": 0.45},
            **{"read-aloud": 0.25, "dictation": 0.2, "hear-styled": 2.6, "hear-background": 0.12, "hear-people": 0.7},
            **{"tool": 0.5, "tool-spoken": 0.2, "command": 0.35, "refuse": 0.35, "recall": 0.3},
            **{"see-plain": 0.02, "see": 0.4, "read": 1.6, "figure": 0.25, "icon": 1.4, "clothing": 1.6},
            **{"draw": 1.1, "edit": 1.1, "edit-followup": 0.45, "grocery": 0.6},
            **{"lesson": 0.45, "lesson-spoken": 0.35, "see-film": 0.75, "see-several": 0.45},
            **{"real-word": 4.0, "english-word": 0.5, "real-order": 0.5},
        },
        render=replace(NOTING.network.render, looked=5.0, listened=5.0),  # an answer is a word or two
        num_shards=60,
        num_steps=340,
    ),
)

CALLED = replace(
    OPENED,
    name="called",
    network=replace(
        OPENED.network,
        weights={
            **OPENED.network.weights,
            **{"conversation": 2.2, "say": 0.5, "hear-styled": 1.6, "real-word": 3.0},
        },
        num_shards=34,
        num_steps=300,
    ),
)

TOLD = replace(
    CALLED,
    name="told",
    network=replace(
        CALLED.network,
        weights={
            **CALLED.network.weights,
            **{"edit": 2.6, "edit-followup": 0.8, "edit-told": 5.0, "draw": 1.4, "icon": 1.8, "clothing": 2.0},
            **{"real-word": 6.5, "english-word": 1.5, "real-order": 0.7, "hear-styled": 2.2, "read": 2.0, "tool": 0.6},
            **{"conversation": 1.0, "hear-pausing": 0.9, "say": 0.6, "whether": 1.6},
        },
        num_shards=46,
        num_steps=200,
    ),
)

SETTLED = replace(
    TOLD,
    name="settled",
    network=replace(
        TOLD.network,
        weights={
            **TOLD.network.weights,
            **{"draw": 4.0, "edit": 2.0, "edit-followup": 1.0, "edit-told": 3.0, "icon": 2.4, "clothing": 1.6},
            **{"say": 2.0, "say-styled": 0.6, "read-aloud": 0.5, "translate": 0.9, "transcribe": 0.6, "hear": 0.6},
            **{"conversation": 1.4, "real-word": 5.0, "read": 2.2, "tool": 0.9, "see-film": 1.2, "whether": 0.8},
        },
        # of a picture that is changed five patches in six stay: learned like the others, they had half of what
        # is learned of drawing, and taught copying
        render=replace(TOLD.network.render, kept=0.15, spelled=6.0),
        num_shards=40,
        num_steps=220,
    ),
)

PLACED = replace(
    SETTLED,
    name="placed",
    network=replace(
        SETTLED.network,
        weights={
            **SETTLED.network.weights,
            **{"edit": 2.6, "edit-followup": 0.8, "edit-told": 2.0, "icon": 2.0, "whether": 2.5, "see-film": 0.9},
            **{"hear-styled": 5.0, "hear-people": 1.6, "talk-whispered": 1.2, "real-word": 4.0, "real-order": 0.6},
            **{"say": 2.5, "tool": 1.0},
        },
        num_shards=34,
        num_steps=240,
        matrix_lr=0.005,  # at 0.008 as much was forgotten as was learned
        embedding_lr=0.03,
        head_lr=0.0013,
        scalar_lr=0.006,
    ),
)

LASTING = replace(
    PLACED,
    name="lasting",
    image=replace(PLACED.image, decoder_steps=300),  # the decoder never drew an emoji
    retelling=replace(PLACED.retelling, num_shards=20),
    network=replace(
        PLACED.network,
        weights={
            # documents in about a hundred, emoji besides; of the positions an eighth is of calls, a third of what is
            # drawn: to know 79 emoji by heart takes about a hundred drawings of each
            **{"chat": 3.0, "hear": 3.0, "hear-pausing": 1.55, "talk": 1.69, "answer-aloud": 0.97},
            **{"mixed": 0.31, "interrupted": 0.45, "conversation": 2.1, "talk-whispered": 2.66, "say": 8.14},
            **{"say-styled": 3.05, "read-aloud": 1.27, "transcribe": 1.66, "dictation": 0.7, "translate": 2.82},
            **{"tool": 3.2, "tool-spoken": 1.19, "command": 0.61, "refuse": 1.25, "recall": 0.66},
            **{"lesson": 1.3, "lesson-spoken": 0.93, "hear-styled": 8.05, "hear-people": 3.28, "hear-background": 1.2},
            **{"real-word": 6.86, "english-word": 3.16, "real-order": 0.73, "see": 1.34, "whether": 2.13},
            **{"read": 4.82, "figure": 0.76, "icon": 17.4, "clothing": 1.95, "grocery": 1.3},
            **{"draw": 8.9, "edit": 3.96, "edit-followup": 1.27, "edit-told": 1.19, "see-film": 1.25},
            **{"see-several": 0.64, "emoji": 41.5},
        },
        num_shards=156,
        num_steps=1200,
        matrix_lr=0.008,
        embedding_lr=0.05,
        head_lr=0.002,
        scalar_lr=0.01,
    ),
)

KEPT = replace(
    LASTING,
    name="kept",
    network=replace(
        LASTING.network,
        weights={
            # half of the documents are emoji and icons, which take some hundred drawings of each and as many looks;
            # the others have the more, the more they faded in the run before
            **{"chat": 1.5, "hear": 3.0, "hear-pausing": 1.3, "talk": 1.5, "answer-aloud": 0.9, "mixed": 0.4},
            **{"interrupted": 0.4, "conversation": 1.5, "talk-whispered": 2.5, "say": 5.0, "say-styled": 2.5},
            **{"read-aloud": 1.0, "transcribe": 1.6, "dictation": 0.6, "translate": 2.2},
            **{"tool": 3.5, "tool-spoken": 2.5, "command": 1.0, "refuse": 1.6, "recall": 0.6},
            **{"lesson": 2.5, "lesson-spoken": 1.5, "hear-styled": 19.0, "hear-people": 13.0, "hear-background": 1.4},
            **{"real-word": 4.5, "english-word": 1.5, "real-order": 1.2, "see": 1.6, "whether": 1.6},
            **{"read": 19.0, "figure": 1.2, "icon": 34.0, "clothing": 2.6, "grocery": 1.3},
            **{"draw": 9.0, "edit": 5.0, "edit-followup": 1.6, "edit-told": 0.6, "see-film": 1.4},
            **{"see-several": 1.5, "emoji": 100.0},
        },
        num_shards=174,
        num_steps=2150,
        matrix_lr=0.006,
        embedding_lr=0.036,
        head_lr=0.0015,
        scalar_lr=0.0075,
        frozen_layers=4,
    ),
)

RUNS = (GROWN, BROADER, FIRMER, NOTING, RETOLD, RESTORED, OPENED, CALLED, TOLD, SETTLED, PLACED, LASTING, KEPT)

if __name__ == "__main__":
    train(RUNS[-1], *RUNS[:-1])
