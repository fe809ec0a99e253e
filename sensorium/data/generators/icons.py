"""Simple named icons: drawn from a table of shapes, or set from an icon font.

Every icon fits the square from -1 to 1, y growing downwards. It is a list of marks, each a filled area or a
stroke with one of three roles, so that one drawing gives several styles.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from PIL import ImageDraw

from sensorium.data.generators.canvas import RGB, Canvas, Region, Split, circle, contrast, in_split, jitter, moved
from sensorium.data.generators.dialogues import a
from sensorium.data.generators.glyphs import ICON_FONT, typeface
from sensorium.data.generators.scenes import BACKGROUNDS, COLOURS, NUMBERS, SHAPES

Role: TypeAlias = Literal["main", "accent", "ground"]
Style: TypeAlias = Literal["flat", "inked", "outline", "glyph", "badge"]

STYLES: tuple[Style, ...] = ("flat", "inked", "outline", "glyph", "badge")
HELDOUT_STYLE: Style = "badge"  # a white icon on a coloured disc: never in training

_MIN_CONTRAST = 1.9


class Mark(NamedTuple):
    """An area, or a stroke where `is_line`. Points (N, 2)."""

    points: np.ndarray
    role: Role = "main"
    is_line: bool = False


class IconPicture(NamedTuple):
    pixels: np.ndarray  # (size, size, 3) uint8
    name: str
    colour: str  # what most of it has, where it has edges what these have
    regions: tuple[Region, ...]


def icon_names() -> tuple[str, ...]:
    """Every name that a picture can have."""
    clocks = tuple(f"clock at {NUMBERS[hour]}" for hour in range(1, 13))
    return (*(name for name in _ICONS if name != "clock"), *clocks)


def icon_picture(
    rng: np.random.Generator, *, split: Split, size: int = 64, style: Style | None = None, kind: str | None = None
) -> IconPicture:
    """One icon of `size` pixels a side, with its name: "house", "arrow left", "clock at three"; in any style and of
    any kind ("house", "clock") if none is asked for.

    Held-out pictures have the held-out style, or a held-out combination of name, style and colours.
    Raises ValueError for an unknown split and for an icon font that is not installed.
    """
    asked = style
    while True:
        name, style, colour, background = _plan(rng, kind)
        is_in_split = in_split(f"{name} {style} {colour} {background}", split)
        if is_in_split and (style != HELDOUT_STYLE or split != "train") and asked in (None, style):
            break
    name = _at_some_hour(rng, name)
    kind, marks = _marks(name)
    canvas = Canvas(size, jitter(rng, BACKGROUNDS[background], 8))
    if style == "glyph":
        box = _set_glyph(rng, canvas, _GLYPHS[name], jitter(rng, COLOURS[colour], 16))
    else:
        main, pose = jitter(rng, COLOURS[colour], 16), _posed(rng)
        accent = _accent(rng, canvas.background) if style in ("flat", "inked") else None
        box = _draw(canvas, marks, style, main, accent, pose)
    return IconPicture(canvas.pixels(), name, colour, (Region(kind, *box),))


def icon_drawing(name: str, colour: str = "", *, size: int = 64) -> IconPicture:
    """The one drawing of an icon that answers an order: flat, upright, in the middle; in its usual colour if none is
    asked for. Of drawings that differ in what nobody asked for a small network draws the mean."""
    kind, marks = _marks(name)
    usual = _USUAL[kind]
    colour = colour or usual.split()[0]
    ground = next(rgb for rgb in BACKGROUNDS.values() if contrast(COLOURS[colour], rgb) > _MIN_CONTRAST)
    accents = (*usual.split()[1:], "orange", "purple")
    accent = next(
        COLOURS[each] for each in accents if each != colour and contrast(COLOURS[each], ground) > _MIN_CONTRAST
    )
    canvas = Canvas(size, ground)
    box = _draw(canvas, marks, "flat", COLOURS[colour], accent, _UPRIGHT)
    return IconPicture(canvas.pixels(), name, colour, (Region(kind, *box),))


def icon_to_draw(rng: np.random.Generator) -> str:
    """The name of any: a clock at some hour as often as a house."""
    return _at_some_hour(rng, _pick(rng, NAMES))


def icon_orders(name: str, colour: str = "") -> tuple[str, ...]:
    """How one might be asked for: by its name, and as people say it: "a red arrow that points left"."""
    kind, _, rest = name.partition(" ")
    orders = [f"{colour} {name}"]
    if kind == "arrow":
        orders += [f"{colour} arrow pointing {rest}", f"{colour} arrow that points {rest}"]
    if kind == "clock":
        orders += [f"{colour} clock that shows {rest.removeprefix('at ')} o'clock"]
    return tuple(a(order.strip()) for order in orders)


def colours_to_draw(name: str, split: Split) -> tuple[str, ...]:
    """Those in which an icon may be asked for; some are held out for each."""
    return tuple(colour for colour in COLOURS if in_split(f"{name} drawn {colour}", split))


def _at_some_hour(rng: np.random.Generator, kind: str) -> str:
    return f"clock at {NUMBERS[int(rng.integers(1, 13))]}" if kind == "clock" else kind


def _marks(name: str) -> tuple[str, tuple[Mark, ...]]:
    """The kind of icon, which of clocks is one at all hours, and its marks."""
    if not name.startswith("clock at "):
        return name, _ICONS[name]
    return "clock", (*_ICONS["clock"], *_clock_hands(NUMBERS.index(name.removeprefix("clock at "))))


def _plan(rng: np.random.Generator, kind: str | None) -> tuple[str, Style, str, str]:
    """Name, style, colour and background of a picture that will be clear."""
    while True:
        name = kind or _pick(rng, tuple(_ICONS))
        style = STYLES[int(rng.integers(len(STYLES)))]
        colour, background = _pick(rng, tuple(COLOURS)), _pick(rng, tuple(BACKGROUNDS))
        has_glyph = name in _GLYPHS or style != "glyph"
        if has_glyph and contrast(COLOURS[colour], BACKGROUNDS[background]) > _MIN_CONTRAST:
            return name, style, colour, background


def _pick(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[int(rng.integers(len(choices)))]


Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right and bottom, as fractions of the picture's side."""


class _Pose(NamedTuple):
    x: float
    y: float
    scale: float
    stretch: float
    angle: float
    width: float  # of a stroke


_UPRIGHT = _Pose(0.5, 0.5, 0.44, 1.0, 0.0, 0.045)


def _posed(rng: np.random.Generator) -> _Pose:
    scale = rng.uniform(0.3, 0.44)
    x, y = 0.5 + rng.uniform(-1, 1, 2) * (0.46 - scale)
    return _Pose(x, y, scale, rng.uniform(0.9, 1.1), rng.uniform(-0.12, 0.12), rng.uniform(0.03, 0.055))


def _draw(canvas: Canvas, marks: tuple[Mark, ...], style: Style, colour: RGB, accent: RGB | None, pose: _Pose) -> Box:
    x, y, scale, stretch, angle, width = pose
    ground = canvas.background
    if style == "badge":
        canvas.polygon(circle(x, y, scale * 1.1), colour)
        scale, ground, colour = scale * 0.68, colour, (250, 250, 250)
    ink = colour if style == "outline" else (24, 24, 24) if contrast(ground, (24, 24, 24)) > 4 else (240, 240, 240)
    has_edges = style in ("outline", "inked")
    fills: dict[Role, RGB] = {"main": colour, "accent": accent or colour, "ground": ground}
    if style == "outline":
        fills = {"main": ground, "accent": ground, "ground": ground}
    for mark in marks:
        points = moved(mark.points * (stretch, 1.0), x=x, y=y, scale=scale, angle=angle)
        if mark.is_line:
            canvas.line(points, ink if has_edges else fills[mark.role], width)
            continue
        canvas.polygon(points, fills[mark.role])
        if has_edges:
            canvas.line(points, ink, width * (1.0 if style == "outline" else 0.6), closed=True)
    return x - scale, y - scale, x + scale, y + scale


def _accent(rng: np.random.Generator, ground: RGB) -> RGB:
    while True:
        colour = COLOURS[_pick(rng, tuple(COLOURS))]
        if contrast(colour, ground) > _MIN_CONTRAST:
            return jitter(rng, colour, 16)


def _set_glyph(rng: np.random.Generator, canvas: Canvas, glyph: str, colour: RGB) -> Box:
    px = int(rng.uniform(0.55, 0.8) * canvas.side) // 8 * 8
    face = typeface(ICON_FONT, px)
    left, top, right, bottom = face.getbbox(glyph)
    room = 0.94 * canvas.side - np.array([right - left, bottom - top])
    x, y = np.array([canvas.side - left - right, canvas.side - top - bottom]) / 2 + rng.uniform(
        -0.5, 0.5, 2
    ) * room.clip(0)
    ImageDraw.Draw(canvas.image).text((x, y), glyph, fill=colour, font=face)
    left, top, right, bottom = np.array([x + left, y + top, x + right, y + bottom]) / canvas.side
    return left, top, right, bottom


def _area(*points: tuple[float, float], role: Role = "main") -> Mark:
    return Mark(np.array(points, float), role)


def _line(*points: tuple[float, float], role: Role = "main") -> Mark:
    return Mark(np.array(points, float), role, True)


def _box(left: float, top: float, right: float, bottom: float, role: Role = "main") -> Mark:
    return _area((left, top), (right, top), (right, bottom), (left, bottom), role=role)


def _disc(x: float, y: float, radius: float, role: Role = "main") -> Mark:
    return Mark(circle(x, y, radius), role)


def _dot(x: float, y: float) -> Mark:
    return _line((x, y), (x, y + 0.04), role="ground")


def _arc(x: float, y: float, radius: float, start: float, end: float) -> np.ndarray:
    """Points of an arc from `start` to `end` degrees, clockwise on the screen from three o'clock."""
    angles = np.radians(np.linspace(start, end, 20))
    return np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1)


def _face(mouth: np.ndarray) -> tuple[Mark, ...]:
    return _disc(0, 0, 0.95), _dot(-0.33, -0.28), _dot(0.33, -0.28), Mark(mouth, "ground", True)


def _arrow(degrees: float) -> tuple[Mark, ...]:
    right = np.array([(-0.95, -0.27), (0.1, -0.27), (0.1, -0.75), (0.95, 0), (0.1, 0.75), (0.1, 0.27), (-0.95, 0.27)])
    return (Mark(moved(right, x=0, y=0, scale=1, angle=np.radians(degrees))),)


def _clock_hands(hour: int) -> tuple[Mark, ...]:
    angle = np.radians(30 * hour)
    return (
        _line((0, 0), (0, -0.68), role="ground"),
        _line((0, 0), (0.42 * np.sin(angle), -0.42 * np.cos(angle)), role="ground"),
    )


def _rays() -> tuple[Mark, ...]:
    turns = np.radians(np.arange(0, 360, 45))
    return tuple(
        _line((0.7 * np.cos(turn), 0.7 * np.sin(turn)), (0.95 * np.cos(turn), 0.95 * np.sin(turn))) for turn in turns
    )


def _petals() -> tuple[Mark, ...]:
    turns = np.radians(np.arange(-90, 270, 72))
    return tuple(_disc(0.36 * np.cos(turn), -0.35 + 0.36 * np.sin(turn), 0.27) for turn in turns)


_CRESCENT = np.concatenate([_arc(0, 0, 0.95, 50, 310), _arc(0.42, 0, 0.75, 283, 77)])
_CLOUD = np.concatenate(
    [_arc(-0.5, 0.15, 0.42, 90, 250), _arc(-0.1, -0.2, 0.5, 195, 320), _arc(0.5, 0.12, 0.45, 275, 450)]
)
_CANOPY = np.concatenate(
    [
        _arc(0, 0.05, 0.95, 180, 360),
        _arc(0.63, 0.05, 0.32, 0, -180),
        _arc(0, 0.05, 0.32, 0, -180),
        _arc(-0.63, 0.05, 0.32, 0, -180),
    ]
)
_FISH = np.concatenate([_arc(-0.2, 0.55, 0.95, 218, 308), _arc(-0.2, -0.55, 0.95, 52, 142)])
_APPLE = np.concatenate([_arc(-0.38, 0.2, 0.52, 90, 290), _arc(0.38, 0.2, 0.52, 250, 450), [(0.0, 0.66)]])
_CROWN_LOW, _CROWN_HIGH = ((-0.7, 0.5), (0, -0.4), (0.7, 0.5)), ((-0.55, -0.05), (0, -0.95), (0.55, -0.05))

_ICONS: dict[str, tuple[Mark, ...]] = {
    "house": (
        _box(-0.65, -0.1, 0.65, 0.9),
        _area((-0.95, -0.1), (0, -0.9), (0.95, -0.1), role="accent"),
        _box(-0.17, 0.35, 0.17, 0.9, "ground"),
    ),
    "tree": (_box(-0.13, 0.3, 0.13, 0.95, "accent"), _area(*_CROWN_LOW), _area(*_CROWN_HIGH)),
    "sun": (_disc(0, 0, 0.5), *_rays()),
    "moon": (Mark(_CRESCENT),),
    "star": (Mark(SHAPES["star"] * 0.9),),
    "cloud": (Mark(_CLOUD),),
    "car": (
        _area((-0.54, 0.05), (-0.3, -0.5), (0.35, -0.5), (0.65, 0.05)),
        _box(-0.95, -0.05, 0.95, 0.4),
        _disc(-0.5, 0.42, 0.24, "accent"),
        _disc(0.5, 0.42, 0.24, "accent"),
    ),
    "boat": (
        _line((0, 0.35), (0, -0.9)),
        _area((0.08, -0.85), (0.75, 0.2), (0.08, 0.2), role="accent"),
        _area((-0.95, 0.35), (0.95, 0.35), (0.6, 0.85), (-0.6, 0.85)),
    ),
    "fish": (_area((0.3, 0), (0.95, -0.5), (0.95, 0.5), role="accent"), Mark(_FISH), _dot(-0.6, -0.1)),
    "flower": (
        _line((0, 0), (0, 0.95)),
        _area((0, 0.8), (0.5, 0.35), (0.45, 0.75)),
        *_petals(),
        _disc(0, -0.35, 0.22, "accent"),
    ),
    "key": (
        _disc(-0.52, 0, 0.42),
        _disc(-0.52, 0, 0.17, "ground"),
        _area(
            (-0.12, -0.11),
            (0.95, -0.11),
            (0.95, 0.4),
            (0.75, 0.4),
            (0.75, 0.11),
            (0.55, 0.11),
            (0.55, 0.32),
            (0.35, 0.32),
            (0.35, 0.11),
            (-0.12, 0.11),
        ),
    ),
    "clock": (_disc(0, 0, 0.95),),
    "umbrella": (Mark(np.concatenate([[(0.0, -0.2)], _arc(0.2, 0.7, 0.2, 180, 0)]), "accent", True), Mark(_CANOPY)),
    "cup": (
        Mark(_arc(0.5, 0.0, 0.32, -90, 90), "accent", True),
        _area((-0.75, -0.6), (0.55, -0.6), (0.4, 0.65), (-0.6, 0.65)),
    ),
    "book": (
        _area((0, -0.5), (-0.95, -0.7), (-0.95, 0.5), (0, 0.7)),
        _area((0, -0.5), (0.95, -0.7), (0.95, 0.5), (0, 0.7)),
        _line((0, -0.5), (0, 0.7), role="ground"),
    ),
    "happy face": _face(_arc(0, 0.05, 0.52, 20, 160)),
    "sad face": _face(_arc(0, 0.8, 0.52, 215, 325)),
    "arrow right": _arrow(0),
    "arrow down": _arrow(90),
    "arrow left": _arrow(180),
    "arrow up": _arrow(270),
    "apple": (
        Mark(_APPLE),
        _line((0, -0.3), (0.1, -0.75)),
        _area((0.12, -0.6), (0.3, -0.9), (0.65, -0.85), (0.45, -0.6), role="accent"),
    ),
    "ball": (
        _disc(0, 0, 0.9),
        Mark(_arc(-1.1, 0, 0.95, -48, 48), "ground", True),
        Mark(_arc(1.1, 0, 0.95, 132, 228), "ground", True),
    ),
    "flag": (
        _line((-0.6, -0.9), (-0.6, 0.95), role="accent"),
        _area((-0.55, -0.85), (0.85, -0.4), (-0.55, 0.05)),
    ),
    "ladder": (
        _line((-0.4, -0.95), (-0.4, 0.95)),
        _line((0.4, -0.95), (0.4, 0.95)),
        *(_line((-0.4, y), (0.4, y)) for y in (-0.6, -0.2, 0.2, 0.6)),
    ),
}

NAMES = tuple(_ICONS)

# What most of it has if nobody asks for another, and what the rest has.
_USUAL = {
    **{"house": "red brown", "tree": "green brown", "sun": "yellow", "moon": "yellow", "star": "yellow"},
    **{"cloud": "blue", "car": "red blue", "boat": "brown red", "fish": "blue orange", "flower": "pink yellow"},
    **{"key": "orange", "clock": "blue", "umbrella": "purple brown", "cup": "blue", "book": "green"},
    **{"happy face": "yellow", "sad face": "blue", "arrow right": "red", "arrow down": "red", "arrow left": "red"},
    **{"arrow up": "red", "apple": "red green", "ball": "orange", "flag": "red brown", "ladder": "brown"},
}
assert set(_USUAL) == set(_ICONS)

# Code points of Font Awesome 5 Free.
_GLYPHS = {
    "house": "\uf015",
    "tree": "\uf1bb",
    "sun": "\uf185",
    "moon": "\uf186",
    "star": "\uf005",
    "cloud": "\uf0c2",
    "car": "\uf1b9",
    "boat": "\uf21a",
    "key": "\uf084",
    "umbrella": "\uf0e9",
    "cup": "\uf0f4",
    "book": "\uf02d",
    "happy face": "\uf118",
    "sad face": "\uf119",
    "arrow right": "\uf061",
    "arrow down": "\uf063",
    "arrow left": "\uf060",
    "arrow up": "\uf062",
    "flag": "\uf024",
}
