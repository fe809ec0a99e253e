"""Emoji in six looks, from open sets of drawings (NOTICE has authors and licences), which `recipes.emoji` collects.

A look is held out whole: what was learned of five must do for the sixth.
"""

from __future__ import annotations

import gzip
import io
import json
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from PIL import Image

from sensorium.data.generators.canvas import RGB, Region, Split, in_split, jitter
from sensorium.data.generators.dialogues import a
from sensorium.data.generators.icons import NAMES as ICONS
from sensorium.data.generators.scenes import BACKGROUNDS

Look: TypeAlias = Literal["fluent", "noto", "blob", "emojione", "fxemoji", "twemoji"]

FILE = Path(__file__).with_name("emoji.json.gz")
LOOKS: tuple[Look, ...] = get_args(Look)
DRAWN_LOOK: Look = "fluent"  # flat, with few small parts
HELDOUT_LOOK: Look = "twemoji"  # never in training

_SUPERSAMPLING = 2  # what is pasted has smooth edges already
_MIN_DISTANCE = 60.0  # of the usual colour of an edge from the ground, in RGB units


class EmojiPicture(NamedTuple):
    pixels: np.ndarray  # (size, size, 3) uint8
    name: str
    regions: tuple[Region, ...] = ()  # nobody knows what is where


def characters() -> dict[str, str]:
    """The character of every name: "dog" -> "🐶"."""
    return _collected()["characters"]


def emoji_picture(rng: np.random.Generator, *, split: Split, size: int = 64, look: Look | None = None) -> EmojiPicture:
    """One emoji of `size` pixels a side, a little turned, on any ground; in any look of the split if none is asked for.

    Held-out pictures have the held-out look, or, where another is asked for, a held-out combination of name, look and
    ground. Raises ValueError for an unknown split, and for the held-out look in training.
    """
    if look == HELDOUT_LOOK and split != "heldout":
        raise ValueError(f"{look} is the held-out look: it must not train")
    wanted = look or (HELDOUT_LOOK if split == "heldout" else None)
    looks = (wanted,) if wanted else tuple(each for each in LOOKS if each != HELDOUT_LOOK)
    names = tuple(characters())
    while True:
        name, ground = names[rng.integers(len(names))], tuple(BACKGROUNDS)[rng.integers(len(BACKGROUNDS))]
        shown = looks[rng.integers(len(looks))]
        kept = shown == HELDOUT_LOOK or in_split(f"{name} {shown} {ground}", split)
        if kept and name in _collected()["looks"][shown]["svg"] and _stands_out(name, shown, BACKGROUNDS[ground]):
            break
    rgb = jitter(rng, BACKGROUNDS[ground], 8)
    side = int(size * _SUPERSAMPLING * rng.uniform(0.74, 1.05))
    turned = _drawn(name, shown).resize((side, side), Image.Resampling.BICUBIC)
    turned = turned.rotate(rng.uniform(-8, 8), Image.Resampling.BICUBIC)
    left, top = (int(at) for at in rng.uniform(0.0, 1.0, 2) * (size * _SUPERSAMPLING - side))
    return EmojiPicture(_laid_on(rgb, turned, size=size, left=left, top=top), name)


@cache
def emoji_drawing(name: str, *, size: int = 64) -> EmojiPicture:
    """The one drawing of an emoji that answers an order: in the look that is drawn, upright, in the middle."""
    ground = next(rgb for rgb in BACKGROUNDS.values() if _stands_out(name, DRAWN_LOOK, rgb))
    side = size * _SUPERSAMPLING
    drawn = _drawn(name, DRAWN_LOOK).resize((side, side), Image.Resampling.BICUBIC)
    return EmojiPicture(_laid_on(ground, drawn, size=size), name)


def _laid_on(ground: RGB, drawn: Image.Image, *, size: int, left: int = 0, top: int = 0) -> np.ndarray:
    canvas = Image.new("RGB", (size * _SUPERSAMPLING, size * _SUPERSAMPLING), ground)
    canvas.paste(drawn, (left, top), drawn)
    return np.array(canvas.reduce(_SUPERSAMPLING))


def emoji_orders(name: str) -> tuple[str, ...]:
    """How one might be asked for: "a dog emoji", "🐶"; and as "a dog", where no icon is called so."""
    orders = (f"{a(name)} emoji", f"an emoji of {a(name)}", characters()[name])
    return orders if name in ICONS else (*orders, a(name))


def emoji_questions(name: str) -> tuple[tuple[str, str], ...]:
    """What is asked in words, with the answers."""
    character = characters()[name]
    return (
        (f"what is {character}", a(name)),
        (f"which emoji is {character}", a(name)),
        (f"which emoji is {a(name)}", character),
        (f"write {a(name)} emoji", character),
    )


def sources() -> dict[str, dict[str, str]]:
    """Author, url, licence and package of every look."""
    return {
        look: {key: value for key, value in about.items() if key != "svg"}
        for look, about in _collected()["looks"].items()
    }


@cache
def _collected() -> dict[str, Any]:
    return json.loads(gzip.decompress(FILE.read_bytes()))


@cache
def _drawn(name: str, look: Look) -> Image.Image:
    """In colours and alpha, large enough for every use."""
    from resvg_py import svg_to_bytes  # of the `train` extra, like the fonts

    drawn = svg_to_bytes(svg_string=_collected()["looks"][look]["svg"][name], width=160, height=160)
    framed = Image.new("RGBA", (184, 184))  # with room to be turned
    framed.paste(Image.open(io.BytesIO(bytes(drawn))), (12, 12))
    return framed


@cache
def _stands_out(name: str, look: Look, ground: RGB) -> bool:
    """Whether the outline can be told from the ground: a white ghost on white cannot."""
    pixels = np.asarray(_drawn(name, look).resize((60, 60)), np.float32)  # (60, 60, 4)
    solid = pixels[..., 3] > 128
    inner = solid[1:-1, 1:-1] & solid[:-2, 1:-1] & solid[2:, 1:-1] & solid[1:-1, :-2] & solid[1:-1, 2:]
    edge = solid.copy()
    edge[1:-1, 1:-1] &= ~inner
    distances = np.linalg.norm(pixels[edge][:, :3] - np.array(ground, np.float32), axis=-1)
    return bool(np.median(distances) > _MIN_DISTANCE)
