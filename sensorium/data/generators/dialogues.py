"""Short exchanges with a home assistant and tutor: a closed domain of about 400 words, by template.

Spoken text is what a voice says and a listener writes down: lower-case words and apostrophes, numbers as words, no
punctuation. `typed` gives the forms people type instead. A tenth of all questions, chosen by their hash, is held out.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeVar

import numpy as np

from sensorium.data.generators import world
from sensorium.data.generators.speech import Split
from sensorium.messages import ToolCall


class Exchange(NamedTuple):
    """A question or order and its answer; `tool_call` is what a house with tools would be told instead."""

    skill: str
    question: str
    answer: str
    tool_call: ToolCall | None


class _Turn(NamedTuple):
    """What a skill makes: an exchange without its name."""

    question: str
    answer: str
    tool_call: ToolCall | None = None


Item = TypeVar("Item")


def pick(rng: np.random.Generator, items: Sequence[Item]) -> Item:
    """One of the items (`rng.choice` would make an array of them first)."""
    return items[int(rng.integers(len(items)))]


def call(name: str, /, **arguments: Any) -> ToolCall:
    """A tool call with the compact JSON the network writes."""
    text = json.dumps(arguments, separators=(",", ":"), ensure_ascii=False)
    return ToolCall(id="call_1", name=name, arguments=text)


def a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def number_of(words: str) -> int:
    """The value of a number in words, below a hundred ("twenty one")."""
    return sum(
        world.TO_TWENTY.index(word) if word in world.TO_TWENTY else 10 * (world.TENS.index(word) + 1)
        for word in words.split()
    )


# --- the skills: each makes one turn


def _are(device: str) -> str:
    return "are" if device.endswith("s") else "is"


def _switch(rng: np.random.Generator) -> _Turn:
    device, room, state = pick(rng, world.DEVICES), pick(rng, world.ROOMS), pick(rng, ("on", "off"))
    template = pick(
        rng,
        (
            "turn {s} the {d} in the {r}",
            "turn the {d} in the {r} {s}",
            "switch {s} the {d} in the {r}",
            "turn {s} the {r} {d}",
            "switch the {r} {d} {s}",
            "turn the {r} {d} {s}",
        ),
    )
    question = pick(rng, world.POLITE) + template.format(d=device, r=room, s=state)
    return _Turn(
        question,
        f"the {room} {device} {_are(device)} {state}",
        call("set_device", device=device, room=room, state=state),
    )


def _dim(rng: np.random.Generator) -> _Turn:
    light, room = pick(rng, world.LIGHTS), pick(rng, world.ROOMS)
    if rng.random() < 0.5:
        tens = pick(rng, world.TENS)
        template = pick(
            rng,
            (
                "set the {l} in the {r} to {n} percent",
                "dim the {r} {l} to {n} percent",
                "set the {r} {l} to {n} percent",
            ),
        )
        return _Turn(
            pick(rng, world.POLITE) + template.format(l=light, r=room, n=tens),
            f"the {room} {light} {_are(light)} at {tens} percent",
            call("set_brightness", device=light, room=room, percent=number_of(tens)),
        )
    change, templates = pick(
        rng,
        (
            ("brighter", ("brighten the {l} in the {r}", "brighten the {r} {l}", "make the {l} in the {r} brighter")),
            ("darker", ("dim the {l} in the {r}", "dim the {r} {l}", "make the {l} in the {r} darker")),
        ),
    )
    return _Turn(
        pick(rng, world.POLITE) + pick(rng, templates).format(l=light, r=room),
        f"the {room} {light} {_are(light)} {change} now",
        call("change_brightness", device=light, room=room, change=change),
    )


def _timer(rng: np.random.Generator) -> _Turn:
    if rng.random() < 0.1:
        question = pick(rng, world.POLITE) + pick(rng, ("stop the timer", "cancel the timer", "stop my timer"))
        return _Turn(question, "the timer is off", call("cancel_timer"))
    count, unit = pick(rng, world.DURATIONS), pick(rng, world.UNITS)
    template = pick(
        rng,
        (
            "set a timer for {n} {u}",
            "start a timer for {n} {u}",
            "set a {n} {s} timer",
            "start a {n} {s} timer",
            "tell me when {n} {u} have passed",
        ),
    )
    seconds = number_of(count) * 60 ** world.UNITS.index(unit)
    return _Turn(
        pick(rng, world.POLITE) + template.format(n=count, u=unit, s=unit[:-1]),
        f"a timer for {count} {unit} is running",
        call("set_timer", seconds=seconds),
    )


def _alarm(rng: np.random.Generator) -> _Turn:
    if rng.random() < 0.1:
        question = pick(rng, world.POLITE) + pick(rng, ("stop the alarm", "cancel the alarm", "turn off my alarm"))
        return _Turn(question, "the alarm is off", call("cancel_alarm"))
    hour, part = pick(rng, world.HOURS), pick(rng, ("morning", "evening"))
    minute, before = pick(rng, ((0, ""), (30, "half past "), (15, "quarter past ")))
    time = f"{before}{hour} in the {part}"
    template = pick(rng, ("wake me at {t}", "set an alarm for {t}", "wake me up at {t}", "set the alarm for {t}"))
    clock_hour = number_of(hour) % 12 + (12 if part == "evening" else 0)
    return _Turn(
        pick(rng, world.POLITE) + template.format(t=time),
        f"the alarm is set for {time}",
        call("set_alarm", time=f"{clock_hour:02}:{minute:02}"),
    )


def _heating(rng: np.random.Generator) -> _Turn:
    room = pick(rng, world.ROOMS)
    if rng.random() < 0.3:
        change = pick(rng, ("warmer", "colder"))
        template = pick(rng, ("make it {c} in the {r}", "make the {r} {c}", "i want it {c} in the {r}"))
        return _Turn(
            template.format(c=change, r=room),
            f"the {room} is getting {change}",
            call("change_heat", room=room, change=change),
        )
    degrees = pick(rng, world.DEGREES)
    template = pick(
        rng, ("set the {r} to {n} degrees", "heat the {r} to {n} degrees", "set the heating in the {r} to {n} degrees")
    )
    return _Turn(
        pick(rng, world.POLITE) + template.format(r=room, n=degrees),
        f"the {room} is set to {degrees} degrees",
        call("set_heat", room=room, degrees=number_of(degrees)),
    )


def _music(rng: np.random.Generator) -> _Turn:
    kind = rng.random()
    if kind < 0.6:
        genre, room = pick(rng, world.MUSIC), pick(rng, world.ROOMS)
        template = pick(
            rng, ("play {m} music in the {r}", "play some {m} music in the {r}", "start {m} music in the {r}")
        )
        return _Turn(
            pick(rng, world.POLITE) + template.format(m=genre, r=room),
            f"playing {genre} music in the {room}",
            call("play_music", kind=genre, room=room),
        )
    if kind < 0.8:
        tens = pick(rng, world.TENS)
        template = pick(rng, ("set the volume to {n} percent", "turn the volume to {n} percent"))
        return _Turn(
            pick(rng, world.POLITE) + template.format(n=tens),
            f"the volume is at {tens} percent",
            call("set_volume", percent=number_of(tens)),
        )
    questions, answer, action = pick(
        rng,
        (
            (("turn the music up", "make the music louder", "turn up the music"), "the music is louder now", "louder"),
            (
                ("turn the music down", "make the music softer", "turn down the music"),
                "the music is softer now",
                "softer",
            ),
            (("stop the music", "turn off the music", "no more music"), "the music is off", "stop"),
            (("next song", "play the next song", "skip this song"), "here is the next song", "next"),
        ),
    )
    return _Turn(pick(rng, world.POLITE) + pick(rng, questions), answer, call("control_music", action=action))


def _door(rng: np.random.Generator) -> _Turn:
    if rng.random() < 0.5:
        door, action, state = pick(rng, world.DOORS), *pick(rng, (("lock", "locked"), ("unlock", "unlocked")))
        template = pick(rng, ("{a} the {d}", "make sure the {d} is {s}", "i want the {d} {s}"))
        prefix = "" if template.startswith("i want") else pick(rng, world.POLITE)
        question = prefix + template.format(a=action, d=door, s=state)
        return _Turn(question, f"the {door} is {state}", call("set_lock", door=door, state=state))
    cover, room, state = pick(rng, world.COVERS), pick(rng, world.ROOMS), pick(rng, ("open", "shut"))
    template = pick(rng, ("{s} the {c} in the {r}", "{s} the {r} {c}"))
    return _Turn(
        pick(rng, world.POLITE) + template.format(s=state, c=cover, r=room),
        f"the {room} {cover} are {state}",
        call("set_cover", cover=cover, room=room, state=state),
    )


def _sum(rng: np.random.Generator) -> _Turn:
    first, second = int(rng.integers(10)), int(rng.integers(10))
    if rng.random() < 0.5:
        sign, result, special = "plus", first + second, ("add {x} and {y}", "what do {x} and {y} make")
    else:
        first, second = max(first, second), min(first, second)
        sign, result, special = "minus", first - second, ("take {y} from {x}", "what is {x} take away {y}")
    fact = f"{world.DIGITS[first]} {sign} {world.DIGITS[second]}"
    template = pick(rng, ("what is {f}", "how much is {f}", "{f}", "tell me {f}", "do you know what {f} is", *special))
    return _Turn(
        template.format(f=fact, x=world.DIGITS[first], y=world.DIGITS[second]), f"{fact} is {world.TO_TWENTY[result]}"
    )


def _order(rng: np.random.Generator) -> _Turn:
    kind, items = pick(
        rng, (("number", world.TO_TWENTY), ("number", world.TO_TWENTY), ("day", world.DAYS), ("month", world.MONTHS))
    )
    step, word = pick(rng, ((1, "after"), (-1, "before")))
    index = int(rng.integers(1, len(items) - 1)) if kind == "number" else int(rng.integers(len(items)))
    item, result = items[index], items[(index + step) % len(items)]
    template = pick(
        rng, ("what comes {w} {i}", "what {k} comes {w} {i}", "which {k} is {w} {i}", "what {k} is {w} {i}")
    )
    question = pick(rng, world.ASKING) + template.format(w=word, i=item, k=kind)
    return _Turn(question, f"{result} comes {word} {item}")


def _opposite(rng: np.random.Generator) -> _Turn:
    one, other = pick(rng, world.OPPOSITES)
    if rng.random() < 0.5 and one != "heavy":  # "light" is the opposite of "dark"
        one, other = other, one
    template = pick(
        rng,
        (
            "what is the opposite of {x}",
            "the opposite of {x}",
            "which word is the opposite of {x}",
            "say the opposite of {x}",
        ),
    )
    return _Turn(template.format(x=one), f"the opposite of {one} is {other}")


def _colour(rng: np.random.Generator) -> _Turn:
    colour = pick(rng, tuple(world.COLOURS))
    thing = pick(rng, world.COLOURS[colour])
    noun = "the sky" if thing == "sky" else a(thing)
    template = pick(
        rng, ("what colour is {n}", "which colour is {n}", "what is the colour of {n}", "what colour does {n} have")
    )
    return _Turn(pick(rng, world.ASKING) + template.format(n=noun), f"{noun} is {colour}")


def _sound(rng: np.random.Generator) -> _Turn:
    animal, sound = pick(rng, world.SOUNDS)
    templates = ("what does {n} say", "what sound does {n} make", "what noise does {n} make", "how does {n} go")
    return _Turn(pick(rng, world.ASKING) + pick(rng, templates).format(n=a(animal)), f"{a(animal)} says {sound}")


def _first_letter(rng: np.random.Generator) -> _Turn:
    word = pick(rng, world.LETTERED)
    templates = (
        "what letter does {w} start with",
        "what is the first letter of {w}",
        "which letter does {w} begin with",
        "the first letter of {w}",
    )
    return _Turn(pick(rng, templates).format(w=word), f"{word} starts with {word[0]}")


def _spell(rng: np.random.Generator) -> _Turn:
    word = pick(rng, world.SPELLED)
    templates = ("spell {w}", "how do you spell {w}", "how is {w} spelled", "can you spell {w}", "please spell {w}")
    return _Turn(pick(rng, templates).format(w=word), f"{word} is spelled {' '.join(word)}")


def _capital(rng: np.random.Generator) -> _Turn:
    country, city = pick(rng, world.CAPITALS)
    if rng.random() < 0.2:
        return _Turn(f"which country has the capital {city}", f"{city} is the capital of {country}")
    templates = (
        "what is the capital of {c}",
        "the capital of {c}",
        "what city is the capital of {c}",
        "name the capital of {c}",
    )
    return _Turn(pick(rng, templates).format(c=country), f"the capital of {country} is {city}")


def _bigger(rng: np.random.Generator) -> _Turn:
    use_numbers = rng.random() < 0.5
    items = world.TO_TWENTY if use_numbers else world.BY_SIZE
    more, less = ("more", "less") if use_numbers else ("bigger", "smaller")
    one, other = (int(index) for index in rng.choice(len(items), 2, replace=False))
    word, winner, loser = pick(
        rng, ((more, max(one, other), min(one, other)), (less, min(one, other), max(one, other)))
    )
    names = [item if use_numbers else a(item) for item in items]
    template = pick(rng, ("which is {w} {x} or {y}", "what is {w} {x} or {y}"))
    return _Turn(
        template.format(w=word, x=names[one], y=names[other]), f"{names[winner]} is {word} than {names[loser]}"
    )


def _count(rng: np.random.Generator) -> _Turn:
    low = int(rng.integers(1, 15))
    high = low + int(rng.integers(1, 6))
    words = world.TO_TWENTY[low : high + 1]
    if rng.random() < 0.4:
        template = pick(rng, ("count down from {h} to {l}", "count back from {h} to {l}"))
        return _Turn(pick(rng, world.POLITE) + template.format(h=words[-1], l=words[0]), " ".join(reversed(words)))
    if low == 1:
        return _Turn(pick(rng, world.POLITE) + f"count to {words[-1]}", " ".join(words))
    return _Turn(pick(rng, world.POLITE) + f"count from {words[0]} to {words[-1]}", " ".join(words))


def _legs(rng: np.random.Generator) -> _Turn:
    if rng.random() < 0.25:
        shape, sides = pick(rng, tuple(world.SIDES.items()))
        templates = (
            "how many sides does {n} have",
            "how many sides are on {n}",
            "how many sides has {n}",
            "the sides of {n}",
        )
        return _Turn(pick(rng, templates).format(n=a(shape)), f"{a(shape)} has {sides} sides")
    number = pick(rng, tuple(world.LEGS))
    animal = pick(rng, world.LEGS[number])
    templates = ("how many legs does {n} have", "how many legs are on {n}", "how many legs has {n}", "the legs of {n}")
    return _Turn(pick(rng, templates).format(n=a(animal)), f"{a(animal)} has {number} legs")


def _fact(rng: np.random.Generator) -> _Turn:
    question = pick(rng, tuple(world.FACTS))
    return _Turn(pick(rng, world.ASKING) + question, world.FACTS[question])


def _social(rng: np.random.Generator) -> _Turn:
    questions = pick(rng, tuple(world.SOCIAL))
    name = pick(rng, ("", "", " sensorium", " my friend"))
    return _Turn(pick(rng, questions.split("|")) + name, world.SOCIAL[questions])


def _repeat(rng: np.random.Generator) -> _Turn:
    words = " ".join(pick(rng, free_words()) for _ in range(int(rng.integers(1, 6))))
    return _Turn(pick(rng, world.REPEATING) + words, words)


_SKILLS: dict[str, Callable[[np.random.Generator], _Turn]] = {
    "switch": _switch,
    "dim": _dim,
    "timer": _timer,
    "alarm": _alarm,
    "heating": _heating,
    "music": _music,
    "door": _door,
    "sum": _sum,
    "order": _order,
    "opposite": _opposite,
    "colour": _colour,
    "sound": _sound,
    "letter": _first_letter,
    "spell": _spell,
    "capital": _capital,
    "bigger": _bigger,
    "count": _count,
    "legs": _legs,
    "fact": _fact,
    "social": _social,
    "repeat": _repeat,
}
SKILLS = tuple(_SKILLS)


@cache
def free_words() -> tuple[str, ...]:
    """Every word of the domain but single letters, which nobody can repeat without their sentence."""
    rng = np.random.default_rng(0)
    turns = [make(rng) for skill, make in _SKILLS.items() if skill != "repeat" for _ in range(1000)]
    said = [*world.REPEATING, *(f"{turn.question} {turn.answer}" for turn in turns)]
    words = {word for text in said for word in text.split()}
    return tuple(sorted(word for word in words if len(word) > 1))


# --- drawing from them


def is_heldout(sentence: str) -> bool:
    """Whether a sentence (a question, or one to speak or transcribe) is never trained on: a tenth of all are.

    A bare "hello" never is: it is what most people say first.
    """
    return sentence not in _GREETINGS and zlib.crc32(sentence.encode()) % 10 == 0


_GREETINGS = frozenset(phrase for phrases in world.SOCIAL for phrase in phrases.split("|"))


def exchange(rng: np.random.Generator, skill: str, *, split: Split) -> Exchange:
    """A question of that skill with its answer. Raises ValueError for an unknown skill."""
    if skill not in _SKILLS:
        raise ValueError(f"unknown skill {skill!r}; there are {', '.join(SKILLS)}")
    while True:
        turn = _SKILLS[skill](rng)
        if is_heldout(turn.question) == (split == "heldout"):
            return Exchange(skill, *turn)


def sentence(rng: np.random.Generator, split: Split, *, loose: float | None = None) -> str:
    """Something to say or to write down: a question, an answer, or words in no order, so that order is no crutch.

    Held-out sentences are never answers: the answer to a training question may well be spoken in training. In training
    more are words in no order, since sentences of a pattern are soon known by heart; `loose` is another share of them.
    """
    if loose is None:
        loose = 0.5 if split == "train" else 0.35
    while True:
        kind = rng.random()
        if kind < loose:
            words = " ".join(pick(rng, free_words()) for _ in range(int(rng.integers(2, 9))))
        else:
            turn = _SKILLS[pick(rng, SKILLS)](rng)
            words = turn.answer if kind > 0.75 and split == "train" else turn.question
        if is_heldout(words) == (split == "heldout"):
            return words


# --- typing

_QUESTION_WORDS = ("what", "which", "who", "how", "where", "when", "why", "is", "are", "can", "could", "do")
_NAMES = frozenset(
    [name for pair in world.CAPITALS for name in pair]
    + [*world.DAYS, *(m for m in world.MONTHS if m != "may"), "sensorium", "i"]
)
_NUMBERS = [f"{tens} {digit}" for tens in world.TENS[1:] for digit in world.DIGITS[1:]] + [
    *world.TO_TWENTY,
    *world.TENS,
]
_NUMBER = re.compile(rf"\b({'|'.join(sorted(_NUMBERS, key=len, reverse=True))})\b")
_SIGNS = {" plus ": " + ", " minus ": " - ", " percent": "%"}


def typed(question: str, rng: np.random.Generator) -> str:
    """The question as someone might type it: with capitals, punctuation, digits, or just as it is spoken."""
    if rng.random() < 0.2:
        return question
    text = question
    if rng.random() < 0.5:
        text = _NUMBER.sub(lambda match: str(number_of(match.group())), text)
        for spoken, sign in _SIGNS.items():
            text = text.replace(spoken, sign)
    if rng.random() < 0.2:
        text = text.replace("colour", "color")
    if rng.random() < 0.8:
        text = " ".join(word.capitalize() if word in _NAMES else word for word in text.split(" "))
        text = text[0].upper() + text[1:]
    if rng.random() < 0.7:
        text += "?" if question.split(" ", 1)[0] in _QUESTION_WORDS else pick(rng, (".", "", "!"))
    return text
