"""Pictures that tell facts: a clock, bars to compare, a form with its fields filled in."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from sensorium.data.generators.canvas import (
    RGB,
    SUPERSAMPLING,
    Canvas,
    Region,
    Split,
    circle,
    contrast,
    in_split,
    jitter,
)
from sensorium.data.generators.dialogues import pick
from sensorium.data.generators.glyphs import HELDOUT_FONTS, TRAIN_FONTS, readable_colours, typeface
from sensorium.data.generators.scenes import BACKGROUNDS, COLOURS, NUMBERS, Question

HOURS = NUMBERS[1:13]
MOST_BARS, HIGHEST = 5, 9
FIELDS = {
    "name": ("tom", "ann", "max", "eva", "ben", "ida", "leo", "mia", "sam", "zoe", "kim", "jon", "amy", "dan", "lea"),
    "city": ("rome", "oslo", "bern", "lima", "cork", "york", "kyiv", "riga", "bonn", "nice", "cairo", "paris"),
    "day": ("mon", "tue", "wed", "thu", "fri", "sat", "sun"),
    "pet": ("cat", "dog", "cow", "hen", "fox", "bee", "owl", "pig"),
    "age": (),  # numbers
    "room": (),
}
_LEAST_CONTRAST = 2.5


class Figure(NamedTuple):
    pixels: np.ndarray  # (size, size, 3) uint8
    caption: str  # all its facts
    questions: tuple[Question, ...]
    regions: tuple[Region, ...] = ()  # the letters of a form


def clock(rng: np.random.Generator, *, split: Split, size: int = 64) -> Figure:
    """A face with two hands, to the quarter of an hour; the time and the look decide the split."""
    while True:
        hour, quarter, style = int(rng.integers(12)), int(rng.integers(4)), int(rng.integers(10_000))
        if in_split(f"clock {hour} {quarter} {style}", split):
            break
    ink, face, ground = _clock_colours(rng)
    canvas = Canvas(size, ground)
    radius, x, y = rng.uniform(0.36, 0.46), *(0.5 + rng.uniform(-0.03, 0.03, 2))
    canvas.polygon(circle(x, y, radius), ink)
    canvas.polygon(circle(x, y, radius * rng.uniform(0.86, 0.94)), face)
    every = 1 if rng.random() < 0.5 else 3
    for mark in range(0, 12, every):
        ends = [_towards(x, y, radius * length, mark / 12) for length in (0.72, 0.82)]
        canvas.line(np.array(ends), ink, 0.02)
    turn = (hour + quarter / 4) / 12
    for length, width, angle in ((rng.uniform(0.38, 0.46), 0.055, turn), (rng.uniform(0.68, 0.8), 0.035, quarter / 4)):
        canvas.line(np.array([(x, y), _towards(x, y, radius * length, angle)]), ink, width)
    time = time_words(hour, quarter)
    questions = (Question("what time is it", f"it is {time}"), Question("what does the clock say", f"it is {time}"))
    return Figure(canvas.pixels(), f"a clock at {time}", questions)


def time_words(hour: int, quarter: int) -> str:
    """`hour` counts from 0 for twelve."""
    name, following = HOURS[(hour - 1) % 12], HOURS[hour % 12]
    return (f"{name} o'clock", f"quarter past {name}", f"half past {name}", f"quarter to {following}")[quarter]


def _clock_colours(rng: np.random.Generator) -> tuple[RGB, RGB, RGB]:
    ink, face = readable_colours(rng)
    _, ground = readable_colours(rng)
    return ink, face, ground


def _towards(x: float, y: float, length: float, turn: float) -> tuple[float, float]:
    """`length` from (x, y) in the direction of a hand after `turn` rounds of the face."""
    angle = 2 * np.pi * turn
    return x + length * np.sin(angle), y - length * np.cos(angle)


def bar_chart(rng: np.random.Generator, *, split: Split, size: int = 64) -> Figure:
    """Bars of different colours and heights over lines at every unit; its colours and heights decide the split."""
    while True:
        background = pick(rng, tuple(BACKGROUNDS))
        fitting = [name for name, rgb in COLOURS.items() if contrast(rgb, BACKGROUNDS[background]) > _LEAST_CONTRAST]
        count = int(rng.integers(2, MOST_BARS + 1))
        if len(fitting) < count:
            continue
        colours = [fitting[at] for at in rng.permutation(len(fitting))[:count]]
        heights = [int(height) + 1 for height in rng.permutation(HIGHEST)[:count]]
        caption = "bars, " + ", ".join(f"{c} {NUMBERS[h]}" for c, h in zip(colours, heights, strict=True))
        if in_split(caption, split):
            break
    ground = jitter(rng, BACKGROUNDS[background], 8)
    canvas = Canvas(size, ground)
    floor, unit = 0.95, 0.9 / HIGHEST
    line = tuple(int(0.75 * channel + 0.25 * (255 - channel)) for channel in ground)
    for height in range(HIGHEST + 1):
        y = floor - unit * height
        canvas.line(np.array([(0.02, y), (0.98, y)]), (line[0], line[1], line[2]), 0.006)
    pitch = 0.96 / count
    width = pitch * rng.uniform(0.55, 0.85)
    for index, (colour, height) in enumerate(zip(colours, heights, strict=True)):
        left, top = 0.02 + pitch * index + (pitch - width) / 2, floor - unit * height
        corners = [(left, floor), (left, top), (left + width, top), (left + width, floor)]
        canvas.polygon(np.array(corners), jitter(rng, COLOURS[colour], 14))
    return Figure(canvas.pixels(), caption, _about_bars(rng, colours, heights))


def _about_bars(rng: np.random.Generator, colours: list[str], heights: list[int]) -> tuple[Question, ...]:
    by_height = [colour for _, colour in sorted(zip(heights, colours, strict=True))]
    one, other = (int(at) for at in rng.permutation(len(colours))[:2])
    higher = colours[one if heights[one] > heights[other] else other]
    pair = f"the {colours[one]} bar or the {colours[other]} bar"
    return (
        Question("how many bars are there", f"there are {NUMBERS[len(colours)]} bars"),
        Question("which bar is the highest", f"the {by_height[-1]} bar is the highest"),
        Question("which bar is the lowest", f"the {by_height[0]} bar is the lowest"),
        Question(f"which is higher {pair}", f"the {higher} bar is higher"),
        *(
            Question(f"how high is the {colour} bar", f"the {colour} bar is {NUMBERS[height]} high")
            for colour, height in zip(colours, heights, strict=True)
        ),
    )


def form(rng: np.random.Generator, *, split: Split, size: int = 64) -> Figure:
    """Two or three fields with what was filled in, one to a line; the text decides the split, held-out fonts apart."""
    fonts = TRAIN_FONTS if split == "train" else HELDOUT_FONTS
    while True:
        names = [tuple(FIELDS)[at] for at in rng.permutation(len(FIELDS))[: int(rng.integers(2, 4))]]
        lines = [(name, _filled(rng, name)) for name in names]
        caption = " ".join(f"{name} {value}" for name, value in lines)
        if in_split(caption, split):
            break
    ink, ground = readable_colours(rng)
    side = size * SUPERSAMPLING
    image = Image.new("RGB", (side, side), ground)
    draw = ImageDraw.Draw(image)
    font = pick(rng, fonts)
    colon = ":" if rng.random() < 0.5 else ""
    texts = [f"{name}{colon} {value}" for name, value in lines]
    reference = typeface(font, 100)
    widest = max(reference.getlength(text) for text in texts)
    px = int(min(rng.uniform(0.86, 0.96) * side / widest * 100, 0.8 * side / len(texts)))
    face = typeface(font, px // 4 * 4)
    pitch = side / len(texts)
    regions: list[Region] = []
    for index, text in enumerate(texts):
        x, y = 0.03 * side, pitch * (index + 0.5)
        draw.text((x, y), text, fill=ink, font=face, anchor="lm")
        _, above, _, below = (edge / side for edge in face.getbbox(text, anchor="lm"))
        edges = [(x + face.getlength(text[:at])) / side for at in range(len(text) + 1)]
        regions += [
            Region(letter, edges[at], y / side + above, edges[at + 1], y / side + below)
            for at, letter in enumerate(text)
            if letter.isalnum()
        ]
    questions = tuple(Question(f"what is the {name}", value) for name, value in lines)
    return Figure(np.array(image.reduce(SUPERSAMPLING)), caption, questions, tuple(regions))


def _filled(rng: np.random.Generator, name: str) -> str:
    values = FIELDS[name]
    return pick(rng, values) if values else str(int(rng.integers(1, 100)))
