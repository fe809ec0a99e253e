"""Coloured shapes on a plain ground, with a caption, the objects, and questions whose answers hold.

A scene is planned in words first, so that its caption can be tested for the split before anything is drawn.
Captions are canonical: equal scenes have equal captions, which makes "draw it" and "say what it is" exact tasks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from sensorium.data.generators.canvas import RGB, Canvas, Region, Split, circle, in_split, jitter, moved
from sensorium.data.generators.dialogues import pick

COLOURS: dict[str, RGB] = {
    "red": (218, 36, 38),
    "green": (36, 158, 62),
    "blue": (36, 82, 222),
    "yellow": (246, 218, 44),
    "orange": (246, 136, 22),
    "purple": (134, 48, 182),
    "pink": (248, 138, 192),
    "brown": (122, 74, 38),
}
BACKGROUNDS: dict[str, RGB] = {
    "white": (244, 244, 244),
    "black": (14, 14, 14),
    "grey": (168, 168, 168),
    "light blue": (176, 214, 246),
    "light green": (186, 232, 184),
    "dark blue": (16, 24, 72),
    "dark green": (12, 54, 26),
}
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")

_COLOUR_JITTER = 14
_BACKGROUND_JITTER = 8
_MIN_DISTANCE = 115  # between the colours of object and ground, in RGB units
_RADII = {"small": 0.14, "medium": 0.23, "big": 0.37}  # of a single object
PLACES = {
    "on the left": (-1, 0),
    "on the right": (1, 0),
    "at the top": (0, -1),
    "at the bottom": (0, 1),
    "in the centre": (0, 0),
}
OPPOSITES = {"above": "below", "below": "above", "left of": "right of", "right of": "left of"}


def _polygon(corners: int, *, first_angle: float = -np.pi / 2) -> np.ndarray:
    angles = first_angle + 2 * np.pi * np.arange(corners) / corners
    return np.stack([np.cos(angles), np.sin(angles)], 1)


def _star() -> np.ndarray:
    star = _polygon(10)
    star[1::2] *= 0.45
    return star


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x, -y - 2], 1) / 16


def _cross() -> np.ndarray:
    arm = 0.32
    quarter = np.array([(arm, -1), (arm, -arm), (1, -arm)])
    turns = [np.array([[c, s], [-s, c]]) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))]
    return np.concatenate([quarter @ turn for turn in turns])


# Each fits the circle of radius 1 around the origin; y grows downwards.
SHAPES: dict[str, np.ndarray] = {
    "circle": circle(radius=0.95),
    "square": _polygon(4, first_angle=np.pi / 4) * 1.1,
    "triangle": _polygon(3) * 1.12 + (0, 0.2),
    "star": _star() * 1.1,
    "heart": _heart(),
    "cross": _cross(),
    "ring": circle(radius=0.95),
    "diamond": _polygon(4) * (0.8, 1.1),
}
_RING_HOLE = circle(radius=0.5)


@dataclass(frozen=True, kw_only=True)
class SceneObject:
    """One shape. Centre and radius are fractions of the picture's side; y grows downwards."""

    shape: str
    colour: str
    size: Literal["small", "medium", "big"]
    x: float
    y: float
    radius: float

    @property
    def phrase(self) -> str:
        return f"{self.colour} {self.shape}"


class Question(NamedTuple):
    question: str
    answer: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    pixels: np.ndarray  # (size, size, 3) uint8
    caption: str
    objects: tuple[SceneObject, ...]
    questions: tuple[Question, ...]
    background: str

    @property
    def description(self) -> str:
        """Everything that a question may ask for: the caption, where a single shape stands, the ground, and behind each
        shape its colour. A colour stands before its shape in the caption, and looking backwards is hard to learn."""
        looks = dict.fromkeys((item.shape, item.colour) for item in self.objects)
        alike = len(looks) == 1 < len(self.objects)
        notes = "".join(f", {plural(shape) if alike else shape} {colour}" for shape, colour in looks)
        return self.plain_description + notes

    @property
    def plain_description(self) -> str:
        """The description without its last notes."""
        where = f" {place(self.objects[0])}" if len(self.objects) == 1 else ""
        return f"{self.caption}{where} on {with_article(self.background)} background"

    @property
    def regions(self) -> tuple[Region, ...]:
        return tuple(
            Region(o.shape, o.x - o.radius, o.y - o.radius, o.x + o.radius, o.y + o.radius, o.colour)
            for o in self.objects
        )


class _Plan(NamedTuple):
    """A scene in words: `looks` are (colour, shape), in the order of the caption."""

    kind: Literal["single", "same", "pair", "row"]
    looks: tuple[tuple[str, str], ...]
    relation: str  # of a pair
    size: Literal["small", "medium", "big"]
    background: str
    caption: str


def scene(rng: np.random.Generator, *, split: Split, size: int = 64) -> Scene:
    """Draws one scene of `size` pixels a side.

    The split is decided by caption and background together: no held-out pair is ever drawn for training.
    Raises ValueError for an unknown split.
    """
    plan = _plan(rng)
    while not in_split(plan.caption + plan.background, split):
        plan = _plan(rng)
    objects = _placed(rng, plan)
    return Scene(
        pixels=_drawn(rng, objects, plan.background, size),
        caption=plan.caption,
        objects=objects,
        questions=_questions(rng, objects, plan),
        background=plan.background,
    )


def _plan(rng: np.random.Generator) -> _Plan:
    background = pick(rng, tuple(BACKGROUNDS))
    colours = COLOURS_ON[background]
    draw = rng.random()
    if draw < 0.4:
        look = (pick(rng, colours), pick(rng, tuple(SHAPES)))
        size = ("medium", "medium", "small", "big")[int(rng.integers(4))]
        phrase = " ".join(look) if size == "medium" else f"{size} {' '.join(look)}"
        return _Plan("single", (look,), "", size, background, with_article(phrase))
    if draw < 0.6:
        count = int(rng.integers(2, 6))
        colour, shape = pick(rng, colours), pick(rng, tuple(SHAPES))
        caption = f"{NUMBERS[count]} {colour} {plural(shape)}"
        return _Plan("same", ((colour, shape),) * count, "", "medium", background, caption)
    looks: list[tuple[str, str]] = []
    while len(looks) < (2 if draw < 0.9 else 3):
        look = (pick(rng, colours), pick(rng, tuple(SHAPES)))
        if look not in looks:
            looks.append(look)
    phrases = [with_article(" ".join(look)) for look in looks]
    if len(looks) == 3:
        return _Plan("row", tuple(looks), "", "medium", background, " and ".join(phrases))
    relation = pick(rng, ("above", "left of"))
    return _Plan("pair", tuple(looks), relation, "medium", background, f" {relation} ".join(phrases))


def _distance(a: RGB, b: RGB) -> float:
    return float(np.linalg.norm(np.subtract(a, b)))


COLOURS_ON = {
    background: tuple(name for name, rgb in COLOURS.items() if _distance(rgb, ground) > _MIN_DISTANCE)
    for background, ground in BACKGROUNDS.items()
}


def _placed(rng: np.random.Generator, plan: _Plan) -> tuple[SceneObject, ...]:
    count = len(plan.looks)
    if plan.kind == "single":
        radius = _RADII[plan.size] * rng.uniform(0.93, 1.07)
        room = 0.5 - radius - 0.03
        places = tuple(PLACES) if plan.size != "big" else ("in the centre",)
        towards = np.array(PLACES[pick(rng, places)])
        centres = 0.5 + towards * room + rng.uniform(-0.03, 0.03, (1, 2)) * (room > 0.15)
    elif plan.kind == "same":
        radius = 0.125 * rng.uniform(0.95, 1.08)
        cells = rng.permutation(9)[:count]
        centres = np.stack([cells % 3, cells // 3], 1) * 0.3 + 0.2 + rng.uniform(-0.015, 0.015, (count, 2))
    elif plan.kind == "pair":
        radius = 0.19 * rng.uniform(0.93, 1.05)
        across = rng.uniform(0.36, 0.64, 2)
        along = np.array([0.26, 0.74]) + rng.uniform(-0.025, 0.025, 2)
        centres = np.stack([across, along] if plan.relation == "above" else [along, across], 1)
    else:
        radius = 0.142 * rng.uniform(0.95, 1.02)
        centres = np.stack([np.array([0.18, 0.5, 0.82]), rng.uniform(0.3, 0.7, 3)], 1)
        centres[:, 0] += rng.uniform(-0.01, 0.01, 3)
    return tuple(
        SceneObject(shape=shape, colour=colour, size=plan.size, x=float(x), y=float(y), radius=float(radius))
        for (colour, shape), (x, y) in zip(plan.looks, centres, strict=True)
    )


class Look(NamedTuple):
    """How one drawing of an object differs from another: by a turn of a few degrees and a shade."""

    angle: float  # radians
    colour: RGB


def _drawn(rng: np.random.Generator, objects: tuple[SceneObject, ...], background: str, size: int) -> np.ndarray:
    ground = ground_of(rng, background)
    return painted([(item, look_of(rng, item)) for item in objects], ground, size)


def ground_of(rng: np.random.Generator, background: str) -> RGB:
    return jitter(rng, BACKGROUNDS[background], _BACKGROUND_JITTER)


def look_of(rng: np.random.Generator, item: SceneObject) -> Look:
    return Look(rng.uniform(-0.12, 0.12), jitter(rng, COLOURS[item.colour], _COLOUR_JITTER))


def painted(objects: list[tuple[SceneObject, Look]], ground: RGB, size: int) -> np.ndarray:
    """(size, size, 3) uint8"""
    canvas = Canvas(size, ground)
    for item, look in objects:
        outline = moved(SHAPES[item.shape], x=item.x, y=item.y, scale=item.radius, angle=look.angle)
        canvas.polygon(outline, look.colour)
        if item.shape == "ring":
            canvas.polygon(moved(_RING_HOLE, x=item.x, y=item.y, scale=item.radius), ground)
    return canvas.pixels()


def with_article(phrase: str) -> str:
    """The phrase with "a" or "an"."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def plural(shape: str) -> str:
    return f"{shape}es" if shape.endswith("s") else f"{shape}s"


def _questions(rng: np.random.Generator, objects: tuple[SceneObject, ...], plan: _Plan) -> tuple[Question, ...]:
    """Questions with one right answer only. There are as many no-questions as yes-questions, so guessing is no help."""
    count = len(objects)
    pairs = [
        ("what is in the picture", plan.caption),
        ("what colour is the background", f"the background is {plan.background}"),
        ("how many shapes are there", _there_are(count, "shape")),
        *_existence(rng, objects),
    ]
    if plan.kind == "same":
        item = objects[0]
        pairs += [
            (f"what colour are the {plural(item.shape)}", f"the {plural(item.shape)} are {item.colour}"),
            (f"what shapes are {item.colour}", f"the {item.colour} shapes are {plural(item.shape)}"),
            (f"how many {plural(item.shape)} are there", _there_are(count, item.shape)),
        ]
    else:
        shapes = [item.shape for item in objects]
        colours = [item.colour for item in objects]
        for item in objects:
            if shapes.count(item.shape) == 1:
                pairs.append((f"what colour is the {item.shape}", f"the {item.shape} is {item.colour}"))
            if colours.count(item.colour) == 1:
                pairs.append((f"what shape is {item.colour}", f"the {item.colour} shape is a {item.shape}"))
    if plan.kind == "single":
        pairs.append((f"where is the {objects[0].shape}", f"the {objects[0].shape} is {place(objects[0])}"))
    if plan.kind == "pair":
        pairs += _relations(rng, objects[0], objects[1], plan.relation)
    return tuple(Question(question, answer) for question, answer in pairs)


def _there_are(count: int, noun: str) -> str:
    return f"there is one {noun}" if count == 1 else f"there are {NUMBERS[count]} {plural(noun)}"


def place(item: SceneObject) -> str:
    """Where a single object is: "on the left", ..., "in the centre"."""
    x, y = item.x - 0.5, item.y - 0.5
    if max(abs(x), abs(y)) < 0.1:
        return "in the centre"
    if abs(x) > abs(y):
        return "on the left" if x < 0 else "on the right"
    return "at the top" if y < 0 else "at the bottom"


def _existence(rng: np.random.Generator, objects: tuple[SceneObject, ...]) -> list[tuple[str, str]]:
    present = sorted({item.shape for item in objects})
    absent = [shape for shape in SHAPES if shape not in present]
    asked = rng.permutation(len(absent))[: len(present)]
    there = pick(rng, objects).phrase
    phrases = {item.phrase for item in objects}
    missing = there
    while missing in phrases:  # one word is right at least, so both words must be looked at
        colour, shape = there.split()
        if rng.random() < 0.5:
            missing = f"{pick(rng, tuple(COLOURS))} {shape}"
        else:
            missing = f"{colour} {pick(rng, tuple(SHAPES))}"
    noun_is_there = [(shape, True) for shape in present] + [(absent[int(index)], False) for index in asked]
    noun_is_there += [(there, True), (missing, False)]
    return [
        (
            f"is there {with_article(noun)}",
            f"yes there is {with_article(noun)}" if is_there else f"no there is no {noun}",
        )
        for noun, is_there in noun_is_there
    ]


def _relations(
    rng: np.random.Generator, first: SceneObject, second: SceneObject, relation: str
) -> list[tuple[str, str]]:
    if first.shape == second.shape:  # then both go by their colours
        one, other = first.phrase, second.phrase
    else:
        one, other = first.shape, second.shape
    opposite = OPPOSITES[relation]
    pairs = [
        (f"what is {relation} the {other}", f"the {first.phrase} is {relation} the {other}"),
        (f"what is {opposite} the {one}", f"the {second.phrase} is {opposite} the {one}"),
    ]
    asked = relation if rng.random() < 0.5 else opposite
    answer = (
        f"yes the {one} is {relation} the {other}" if asked == relation else f"no the {one} is {relation} the {other}"
    )
    return [*pairs, (f"is the {one} {asked} the {other}", answer)]
