"""Pictures drawn by program, each with the words that are true of it.

Everything is seeded by the generator passed in: the same seed gives the same bytes. `split` is "train" or
"heldout"; what is held out (captions, words, fonts, icon styles, hands) never occurs in training pictures.
"""

from __future__ import annotations

from sensorium.data.generators.canvas import Split
from sensorium.data.generators.glyphs import HELDOUT_FONTS, TRAIN_FONTS, WORDS, WordPicture, word_picture
from sensorium.data.generators.handwriting import DigitPicture, digit_picture
from sensorium.data.generators.icons import IconPicture, icon_picture
from sensorium.data.generators.scenes import Question, Scene, SceneObject, scene

__all__ = [
    "HELDOUT_FONTS",
    "TRAIN_FONTS",
    "WORDS",
    "DigitPicture",
    "IconPicture",
    "Question",
    "Scene",
    "SceneObject",
    "Split",
    "WordPicture",
    "digit_picture",
    "icon_picture",
    "scene",
    "word_picture",
]
