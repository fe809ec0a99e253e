"""Pictures drawn by program, each with the words that are true of it.

Everything is seeded by the generator passed in: the same seed gives the same bytes. `split` is "train" or
"heldout"; what is held out (captions, words, fonts, looks of icons and emoji, hands) never occurs in training pictures.
"""

from __future__ import annotations

import numpy as np

from sensorium.data.generators.canvas import Region, Split
from sensorium.data.generators.emoji import EmojiPicture, emoji_picture
from sensorium.data.generators.figures import Figure, bar_chart, clock, form
from sensorium.data.generators.glyphs import HELDOUT_FONTS, TRAIN_FONTS, WORDS, WordPicture, word_picture
from sensorium.data.generators.handwriting import DigitPicture, digit_picture
from sensorium.data.generators.icons import NAMES, IconPicture, icon_picture
from sensorium.data.generators.scenes import BACKGROUNDS, COLOURS, SHAPES, Question, Scene, SceneObject, scene

__all__ = [
    "GRID",
    "HELDOUT_FONTS",
    "LABEL_COLOURS",
    "LABEL_COLUMNS",
    "LABEL_THINGS",
    "TRAIN_FONTS",
    "WORDS",
    "DigitPicture",
    "EmojiPicture",
    "Figure",
    "IconPicture",
    "Question",
    "Region",
    "Scene",
    "SceneObject",
    "Split",
    "WordPicture",
    "digit_picture",
    "emoji_picture",
    "figure_picture",
    "icon_picture",
    "patch_labels",
    "scene",
    "unknown_labels",
    "word_picture",
]

GRID = 8  # patches along one side, as the image tokenizer cuts them
LABEL_COLUMNS = 4  # labels across a patch: narrow letters are a few pixels wide
LABEL_THINGS = ("", *"abcdefghijklmnopqrstuvwxyz0123456789", *SHAPES, *(f"icon {name}" for name in NAMES))
LABEL_COLOURS = ("", *COLOURS, *(f"{name} ground" for name in BACKGROUNDS))
_UNKNOWN = -1


def figure_picture(rng: np.random.Generator, *, split: Split) -> Figure:
    """A clock, a chart or a form."""
    return (clock, bar_chart, form)[rng.integers(3)](rng, split=split)


def patch_labels(picture: Scene | WordPicture | IconPicture | EmojiPicture | DigitPicture | Figure) -> np.ndarray:
    """What is where in a picture: (GRID, GRID, LABEL_COLUMNS, 3) int8.

    The last axis holds an index of `LABEL_THINGS`, whether the thing begins in this column, and an index of
    `LABEL_COLOURS`, -1 where no words name the colour.
    """
    if not picture.regions:
        return unknown_labels()
    labels = np.zeros((GRID, GRID * LABEL_COLUMNS, 3), dtype=np.int8)
    labels[..., 2] = _UNKNOWN
    if isinstance(picture, Scene):
        labels[..., 2] = LABEL_COLOURS.index(f"{picture.background} ground")
    for region in picture.regions:
        name = f"icon {region.name}" if isinstance(picture, IconPicture) else region.name
        rows, columns = _cells(region.top, region.bottom, GRID), _cells(region.left, region.right, labels.shape[1])
        labels[rows, columns, 0] = LABEL_THINGS.index(name)
        labels[rows, columns.start, 1] = 1
        if region.colour:
            labels[rows, columns, 2] = LABEL_COLOURS.index(region.colour)
    return labels.reshape(GRID, GRID, LABEL_COLUMNS, 3)


def unknown_labels() -> np.ndarray:
    """Those of a picture of which nobody knows what is where, as `patch_labels`."""
    return np.full((GRID, GRID, LABEL_COLUMNS, 3), _UNKNOWN, dtype=np.int8)


def _cells(start: float, end: float, count: int) -> slice:
    """The cells of `count` whose centres lie between two fractions; at least the one in their middle."""
    first, last = (int(np.clip(np.ceil(edge * count - 0.5), 0, count)) for edge in (start, end))
    if first >= last:
        first = int(np.clip((start + end) / 2 * count, 0, count - 1))
        last = first + 1
    return slice(first, last)
