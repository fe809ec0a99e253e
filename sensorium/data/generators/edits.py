"""A scene, an order that changes one thing in it, and the scene as it is then: everything else stays where it was."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np

from sensorium.data.generators.canvas import Split, in_split
from sensorium.data.generators.dialogues import pick
from sensorium.data.generators.scenes import (
    COLOURS_ON,
    OPPOSITES,
    PLACES,
    SHAPES,
    Scene,
    SceneObject,
    ground_of,
    look_of,
    painted,
    place,
    scene,
    with_article,
)

Kind = Literal["recolour", "move", "add", "remove"]
KINDS: tuple[Kind, ...] = ("recolour", "move", "add", "remove")

_WORDS: dict[Kind, tuple[str, ...]] = {
    "recolour": ("make the {thing} {new}", "paint the {thing} {new}", "change the colour of the {thing} to {new}"),
    "move": ("move the {thing} {new}", "put the {thing} {new}"),
    "add": ("add {new}", "draw {new} too", "put {new} there"),
    "remove": ("remove the {thing}", "take the {thing} away", "delete the {thing}"),
}
_FOLLOWED = ("now {order}", "{order} now", "please {order}", "{order} please", "now {order} please", "can you {order}")
_TO = {
    "on the left": "to the left",
    "on the right": "to the right",
    "at the top": "to the top",
    "at the bottom": "to the bottom",
    "in the centre": "to the centre",
}


class Edit(NamedTuple):
    kind: Kind
    before: Scene
    order: str
    after: Scene

    @property
    def where(self) -> str:
        """The thing that the order is about and where it is, where it is one of several that could be meant."""
        if self.kind not in ("remove", "recolour") or len(self.before.objects) == 1:
            return ""
        (chosen,) = (item for item in self.before.objects if item not in self.after.objects)
        return f"the {chosen.phrase} {place(chosen)}"

    @property
    def aim(self) -> str:
        """What will be seen, in the words of a caption: it is said before it is drawn. Of where things are it has what
        the order had to say, since everything else is to be seen in the picture before."""
        where = f" {place(self.after.objects[0])}" if self.kind == "move" else ""
        return self.after.caption + where


class _Change(NamedTuple):
    """`chosen` is the object's that the order is about: of the objects before, but for "add" of those after."""

    kind: Kind
    chosen: int
    thing: str
    new: str
    before: tuple[SceneObject, ...]
    after: tuple[SceneObject, ...]


def edit(
    rng: np.random.Generator, *, split: Split, kind: Kind | None = None, size: int = 64, placed: float = 0.0
) -> Edit:
    """One change of one scene; a tenth of all (scene, order) is held out. `placed` is how many of the orders about one
    of several things say where it is, as well. Raises ValueError for an unknown split."""
    while True:
        drawn = scene(rng, split=split, size=size)
        change = _change(rng, kind or pick(rng, KINDS), drawn, placed)
        if change is None:
            continue
        order = pick(rng, _WORDS[change.kind]).format(thing=change.thing, new=change.new)
        if in_split(drawn.caption + drawn.background + order, split):
            return _drawn(rng, change, order, drawn.background, size)


def followed(rng: np.random.Generator, made: Edit) -> str:
    """The order as it is given to who has just drawn the scene: "now", "please", and the only thing there is "it"."""
    order = made.order
    if len(made.before.objects) == 1:
        thing = f"the {made.before.objects[0].shape}"
        order = order.replace(f"the colour of {thing}", "its colour").replace(thing, "it")
    return pick(rng, _FOLLOWED).format(order=order)


def _change(rng: np.random.Generator, kind: Kind, drawn: Scene, placed: float) -> _Change | None:
    """None where the scene does not allow this kind of change, or where the order would be unclear."""
    objects = drawn.objects
    index = int(rng.integers(len(objects)))
    chosen = objects[index]
    if [item.shape for item in objects].count(chosen.shape) > 1:
        return None
    others = (*objects[:index], *objects[index + 1 :])
    named = f"{chosen.shape} {place(chosen)}" if others and placed and rng.random() < placed else chosen.shape
    if kind == "recolour":
        colour = pick(rng, COLOURS_ON[drawn.background])
        if colour == chosen.colour:
            return None
        after = (*objects[:index], replace(chosen, colour=colour), *objects[index + 1 :])
        return _Change(kind, index, named, colour, objects, after)
    if kind == "move":
        where, towards = pick(rng, list(PLACES.items()))
        room = 0.5 - chosen.radius - 0.03
        x, y = 0.5 + towards[0] * room, 0.5 + towards[1] * room
        if others or chosen.size == "big" or max(abs(x - chosen.x), abs(y - chosen.y)) < 0.1:
            return None
        return _Change(kind, 0, chosen.shape, _TO[where], objects, (replace(chosen, x=x, y=y),))
    if not others:
        return None
    if kind == "remove":
        return _Change(kind, index, named, "", objects, others)
    if len(objects) != 2:
        return None
    relation = relation_of(objects) if index == 0 else OPPOSITES[relation_of(objects)]
    new = f"{with_article(chosen.phrase)} {relation} the {others[0].shape}"
    return _Change("add", index, chosen.shape, new, others, objects)


def _drawn(rng: np.random.Generator, change: _Change, order: str, background: str, size: int) -> Edit:
    ground = ground_of(rng, background)
    whole = change.after if change.kind == "add" else change.before
    looks = [look_of(rng, item) for item in whole]
    fewer = [look for at, look in enumerate(looks) if at != change.chosen]
    old = fewer if change.kind == "add" else looks
    new = fewer if change.kind == "remove" else list(looks)
    if change.kind == "recolour":
        new[change.chosen] = look_of(rng, change.after[change.chosen])._replace(angle=looks[change.chosen].angle)
    scenes = [
        Scene(
            pixels=painted(list(zip(objects, shown, strict=True)), ground, size),
            caption=caption_of(objects),
            objects=objects,
            questions=(),
            background=background,
        )
        for objects, shown in ((change.before, old), (change.after, new))
    ]
    return Edit(change.kind, scenes[0], order, scenes[1])


def caption_of(objects: tuple[SceneObject, ...]) -> str:
    """As `scene` words it, for up to three objects that differ."""
    phrases = [with_article(item.phrase if item.size == "medium" else f"{item.size} {item.phrase}") for item in objects]
    return phrases[0] if len(phrases) == 1 else f" {relation_of(objects)} ".join(phrases)


def relation_of(objects: tuple[SceneObject, ...]) -> str:
    """How the first of two objects lies to the second; of three, "and"."""
    if len(objects) != 2:
        return "and"
    across, along = abs(objects[0].x - objects[1].x), abs(objects[0].y - objects[1].y)
    return "above" if along > across else "left of"


assert all(len(shape.split()) == 1 for shape in SHAPES), "an order names a thing by one word"
