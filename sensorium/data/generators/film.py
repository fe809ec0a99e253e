"""Short films of coloured shapes that move, appear, vanish and change colour, one thing after another.

A film is planned in words first, as a scene is, so that its story can be tested for the split before anything is drawn.
Every shape occurs once and keeps a lane of its own, so that it can be named by its shape, and nothing hides it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from sensorium.data.generators.canvas import Split, in_split
from sensorium.data.generators.dialogues import pick
from sensorium.data.generators.scenes import (
    COLOURS_ON,
    NUMBERS,
    SHAPES,
    Look,
    Question,
    SceneObject,
    ground_of,
    look_of,
    painted,
    with_article,
)

Kind: TypeAlias = Literal["story", "order", "direction", "motion", "change", "presence", "count"]
Verb: TypeAlias = Literal["moves", "turns", "appears", "vanishes"]

_LANES = (0.2, 0.5, 0.8)  # where things are across their motion, and where they stop along it
_RADIUS = 0.13
_AHEAD = {"x": "to the right", "y": "down"}
_BACK = {"x": "to the left", "y": "up"}
_STEP_MS = 500.0  # all that happens begins and ends at a multiple of it


class Happening(NamedTuple):
    """One thing that happens, from `start_ms` until `end_ms`."""

    shape: str
    verb: Verb
    how: str  # where it moves to, the colour it turns; of what appears, its colour
    start_ms: float
    end_ms: float

    @property
    def clause(self) -> str:
        return _clause(self.shape, self.verb, self.how)


def _clause(shape: str, verb: Verb, how: str) -> str:
    match verb:
        case "appears":
            return f"{with_article(f'{how} {shape}')} appears"
        case "vanishes":
            return f"the {shape} vanishes"
        case _:
            return f"the {shape} {verb} {how}"


class FilmQuestion(NamedTuple):
    kind: Kind
    question: str
    answer: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Film:
    """`states` are the objects before anything happens, and after each happening."""

    frames: tuple[np.ndarray, ...]  # (size, size, 3) uint8 each
    times_ms: tuple[float, ...]
    notes: tuple[str, ...]  # what each frame shows, where, and what has happened since the one before
    happenings: tuple[Happening, ...]
    states: tuple[tuple[SceneObject, ...], ...]
    story: str  # all that a question may ask for
    questions: tuple[FilmQuestion, ...]


class _Plan(NamedTuple):
    background: str
    axis: Literal["x", "y"]
    happenings: tuple[Happening, ...]
    states: tuple[tuple[SceneObject, ...], ...]

    @property
    def story(self) -> str:
        told = ", then ".join(happening.clause for happening in self.happenings)
        return f"at first {_there(self.states[0])}. {told}. at the end {_there(self.states[-1])}"


def film(rng: np.random.Generator, *, split: Split, frame_ms: float = 1000.0, least_ms: float = 0.0) -> Film:
    """A film with a frame every `frame_ms`, at least `least_ms` long; it ends in a frame of how things are at last.

    The split is decided by the story: what is held out is never told of any film for training. Raises ValueError for an
    unknown split.
    """
    plan = _plan(rng)
    while not in_split(plan.story, split):
        plan = _plan(rng)
    end_ms = max(plan.happenings[-1].end_ms, least_ms)
    times_ms = tuple(frame_ms * index for index in range(1 + int(np.ceil(end_ms / frame_ms))))
    ground = ground_of(rng, plan.background)
    looks: dict[tuple[str, str], Look] = {}
    for item in (item for state in plan.states for item in state):
        looks.setdefault((item.shape, item.colour), look_of(rng, item))
    shown = [_shown(plan, time_ms) for time_ms in times_ms]
    return Film(
        frames=tuple(
            painted([(item, looks[item.shape, item.colour]) for item in items], ground, 64) for items in shown
        ),
        times_ms=times_ms,
        notes=tuple(_note(items, before) for before, items in zip((None, *shown), shown, strict=False)),
        happenings=plan.happenings,
        states=plan.states,
        story=plan.story,
        questions=_questions(rng, plan),
    )


def _plan(rng: np.random.Generator) -> _Plan:
    background = pick(rng, tuple(COLOURS_ON))
    axis: Literal["x", "y"] = "x" if rng.random() < 0.5 else "y"
    shapes = [str(shape) for shape in rng.permutation(list(SHAPES))[:3]]
    lanes = dict(zip(shapes, rng.permutation(_LANES).tolist(), strict=True))
    begun = int(rng.integers(0, 3))
    state = {shape: _object(rng, shape, lanes[shape], axis, background) for shape in shapes[:begun]}
    states, happenings = [tuple(state.values())], list[Happening]()
    unseen = shapes[begun:]
    time_ms = 0.0
    for _ in range(int(rng.integers(1, 4))):
        end_ms = time_ms + _STEP_MS * int(pick(rng, (2, 2, 4)))
        shape, verb, how = _next(rng, state, unseen, axis, background)
        if verb == "appears":
            unseen.remove(shape)
            fresh = _object(rng, shape, lanes[shape], axis, background)
            state[shape], how = fresh, fresh.colour
        elif verb == "vanishes":
            del state[shape]
        elif verb == "turns":
            state[shape] = replace(state[shape], colour=how)
        else:
            along = getattr(state[shape], axis)
            stops = [stop for stop in _LANES if (stop > along + 0.1 if how == _AHEAD[axis] else stop < along - 0.1)]
            state[shape] = replace(state[shape], **{axis: pick(rng, tuple(stops))})
        happenings.append(Happening(shape, verb, how, time_ms, end_ms))
        states.append(tuple(state.values()))
        time_ms = end_ms
    return _Plan(background, axis, tuple(happenings), tuple(states))


def _object(rng: np.random.Generator, shape: str, lane: float, axis: str, background: str) -> SceneObject:
    colour, along = pick(rng, COLOURS_ON[background]), pick(rng, _LANES)
    x, y = (along, lane) if axis == "x" else (lane, along)
    return SceneObject(shape=shape, colour=colour, size="medium", x=x, y=y, radius=_RADIUS * rng.uniform(0.95, 1.05))


def _next(
    rng: np.random.Generator, state: dict[str, SceneObject], unseen: Sequence[str], axis: str, background: str
) -> tuple[str, Verb, str]:
    """What may happen now: a shape, what it does, and how. What has vanished does not come back."""
    draw = rng.random()
    if unseen and (not state or draw < 0.2):
        return pick(rng, unseen), "appears", ""
    shape = pick(rng, tuple(state))
    if draw < 0.35:
        return shape, "vanishes", ""
    if draw < 0.5:
        return shape, "turns", pick(rng, [colour for colour in COLOURS_ON[background] if colour != state[shape].colour])
    along = getattr(state[shape], axis)
    ways = [way for way, may in ((_AHEAD, along < _LANES[-1] - 0.1), (_BACK, along > _LANES[0] + 0.1)) if may]
    return shape, "moves", pick(rng, ways)[axis]


def _shown(plan: _Plan, time_ms: float) -> tuple[SceneObject, ...]:
    """What is to be seen at a time: of what is happening, motion halfway, the rest from the middle on."""
    number = sum(happening.end_ms <= time_ms for happening in plan.happenings)
    shown = {item.shape: item for item in plan.states[number]}
    if number < len(plan.happenings):
        now = plan.happenings[number]
        share = (time_ms - now.start_ms) / (now.end_ms - now.start_ms)
        after = {item.shape: item for item in plan.states[number + 1]}
        if now.verb == "moves":
            one, other = shown[now.shape], after[now.shape]
            x, y = one.x + share * (other.x - one.x), one.y + share * (other.y - one.y)
            shown[now.shape] = replace(one, x=x, y=y)
        elif share >= 0.5:
            shown = after
    return tuple(shown.values())


def _note(shown: Sequence[SceneObject], before: Sequence[SceneObject] | None) -> str:
    """Each thing with its place (the column and the row of five, from the left and from the top), and what has happened
    since the frame before."""
    items = sorted(shown, key=lambda item: item.shape)
    there = ", ".join(f"{item.phrase} {_fifth(item.x)} {_fifth(item.y)}" for item in items) or "nothing"
    happened = _happened(before, shown) if before is not None else []
    return ". ".join((there, *happened))


def _happened(before: Sequence[SceneObject], after: Sequence[SceneObject]) -> list[str]:
    """What has come to be different, in the words of the story."""
    old, new = ({item.shape: item for item in state} for state in (before, after))
    told: list[str] = []
    for shape in sorted({*old, *new}):
        if shape not in old:
            told.append(_clause(shape, "appears", new[shape].colour))
        elif shape not in new:
            told.append(_clause(shape, "vanishes", ""))
        else:
            one, other = old[shape], new[shape]
            for axis, ahead in (("x", other.x - one.x), ("y", other.y - one.y)):
                if ahead:
                    told.append(_clause(shape, "moves", (_AHEAD if ahead > 0 else _BACK)[axis]))
            if one.colour != other.colour:
                told.append(_clause(shape, "turns", other.colour))
    return told


def _fifth(place: float) -> int:
    """1 and 5 are the outer lanes."""
    return 1 + round(4 * (place - _LANES[0]) / (_LANES[-1] - _LANES[0]))


def _there(state: Sequence[SceneObject]) -> str:
    if not state:
        return "there is nothing"
    return f"there is {' and '.join(with_article(item.phrase) for item in state)}"


def _questions(rng: np.random.Generator, plan: _Plan) -> tuple[FilmQuestion, ...]:
    """Questions with one right answer only; there are as many no-questions as yes-questions."""
    done = plan.happenings
    clauses = [happening.clause for happening in done]
    asked = [
        FilmQuestion("story", "what happens", ", then ".join(clauses)),
        FilmQuestion("count", "how many things happen", _count(len(done), "thing happens", "things happen")),
        *(FilmQuestion("count", *_shapes_there(state, when)) for state, when in _ends(plan)),
    ]
    if len(done) > 1:
        asked += [
            FilmQuestion("order", "what happens first", clauses[0]),
            FilmQuestion("order", "what happens last", clauses[-1]),
        ]
        at = int(rng.integers(len(done) - 1))
        if clauses.count(clauses[at]) == 1:
            asked.append(FilmQuestion("order", f"what happens after {clauses[at]}", clauses[at + 1]))
        if clauses.count(clauses[at + 1]) == 1:
            asked.append(FilmQuestion("order", f"what happens before {clauses[at + 1]}", clauses[at]))
    asked += _of_one(done, plan.states)
    moved = sorted({happening.shape for happening in done if happening.verb == "moves"})
    still = sorted({item.shape for state in plan.states for item in state} - set(moved))
    for shapes, does in ((moved, True), (still, False)):
        if moved and still:
            shape = pick(rng, shapes)
            answer = f"yes the {shape} moves" if does else f"no the {shape} does not move"
            asked.append(FilmQuestion("motion", f"does the {shape} move", answer))
    return tuple(asked)


def _ends(plan: _Plan) -> tuple[tuple[Sequence[SceneObject], str], ...]:
    return ((plan.states[0], "at first"), (plan.states[-1], "at the end"))


def _shapes_there(state: Sequence[SceneObject], when: str) -> Question:
    are = _count(len(state), "shape", "shapes")
    return Question(f"how many shapes are there {when}", f"there {'is' if len(state) == 1 else 'are'} {are} {when}")


def _count(number: int, one: str, many: str) -> str:
    return f"{NUMBERS[number] if number else 'no'} {one if number == 1 else many}"


def _of_one(done: Sequence[Happening], states: Sequence[Sequence[SceneObject]]) -> list[FilmQuestion]:
    """Questions about what happened only once of its kind."""
    asked: list[FilmQuestion] = []
    kinds: dict[str, tuple[Kind, str]] = {
        "moves": ("motion", "what moves"),
        "appears": ("presence", "what appears"),
        "vanishes": ("presence", "what vanishes"),
        "turns": ("change", "what changes its colour"),
    }
    for verb, (kind, question) in kinds.items():
        those = [happening for happening in done if happening.verb == verb]
        if len(those) == 1:
            answer = f"the {those[0].shape} moves" if verb == "moves" else those[0].clause
            asked.append(FilmQuestion(kind, question, answer))
    for number, happening in enumerate(done):
        same = [each for each in done if (each.shape, each.verb) == (happening.shape, happening.verb)]
        if len(same) > 1:
            continue
        if happening.verb == "moves":
            asked.append(FilmQuestion("direction", f"which way does the {happening.shape} move", happening.clause))
        elif happening.verb == "turns":
            (before,) = (item.colour for item in states[number] if item.shape == happening.shape)
            asked += [
                FilmQuestion("change", f"what colour does the {happening.shape} turn", happening.clause),
                FilmQuestion(
                    "change",
                    f"what colour is the {happening.shape} before it turns {happening.how}",
                    f"the {happening.shape} is {before} before it turns {happening.how}",
                ),
            ]
    return asked
