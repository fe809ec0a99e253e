"""What is asked to be drawn or changed: as an order in words in which the network was taught orders, and as what is to
be seen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from sensorium.engine.request import SamplingParams
from sensorium.messages import Image, Message, Text

_ASKS = re.compile(r"((please|can you|could you) )?(draw|make|create|generate|paint|sketch)\b", re.IGNORECASE)
_SHOWS = re.compile(rf"{_ASKS.pattern}( me)?( (a|the|another) (picture|drawing|image) of)? (?P<what>.+)", re.IGNORECASE)
_NUMBERS = dict(zip("123456789", "one two three four five six seven eight nine".split(), strict=True))

# Of an order to change something, this much is courtesy.
_BEFORE = frozenset("ok okay great nice good cool thanks thank and then but so now next please just can could".split())
_BEFORE |= frozenset("would will you".split())
_BEHIND = frozenset("now please instead thanks".split())
_MOST_CHARS = 120  # of an order that is known for one

_IT = r"(?:it|this|that|them|these|those)"
_SPOTS = "left|right|top|bottom|centre|center|middle"
_SPOT = rf"(?:on|at|in) the (?:{_SPOTS})"
_THING = rf"(?P<thing>{_IT}|the (?:\w+ ){{0,3}}?\w+(?: {_SPOT})?)"
_PLACE = rf"(?:(?:to|at|on|in) the )?(?P<place>{_SPOTS})(?: side)?"
_SIDE = r"(?:to the |on the )?(?:left|right) of|above|below|over|under"
_EDITS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(rf"(?:move|put|shift|push) {_THING} {_PLACE}"), "move {thing} to the {place}"),
    (re.compile(rf"(?:change|switch) the colou?r of {_THING} (?:in)?to (?P<new>\w+)"), "make {thing} {new}"),
    (re.compile(r"(?:change|switch) (?P<thing>its|the) colou?r (?:in)?to (?P<new>\w+)"), "make {thing} {new}"),
    (re.compile(rf"(?:change|turn) {_THING} (?:in)?to (?P<new>\w+)"), "make {thing} {new}"),
    (re.compile(rf"(?P<verb>make|paint) {_THING} (?P<new>\w+)"), "{verb} {thing} {new}"),
    (re.compile(rf"(?:turn|colou?r|draw) {_THING} (?P<new>\w+)"), "make {thing} {new}"),
    (
        re.compile(rf"(?:add|draw|put) (?P<new>(?:an?|another) (?:\w+ ){{0,3}}?\w+) (?P<side>{_SIDE}) {_THING}"),
        "add {new} {side} {thing}",
    ),
    (re.compile(rf"(?:remove|delete|erase|take away) {_THING}"), "remove {thing}"),
    (re.compile(rf"take {_THING} away"), "remove {thing}"),
)
_FITS = {"center": "centre", "middle": "centre", "over": "above", "under": "below", "another": "a"}
_BETWEEN = re.compile(r",|\b(?:above|below|over|under|left of|right of|next to|beside|and)\b")
_WHERE = re.compile(r" (?:on|in|at|with) .*")


def order(prompt: str) -> str:
    """A prompt in the form in which the network was taught orders: no capital to begin with, no full stop."""
    words = " ".join(prompt.split()).rstrip(" .")
    is_word = words[1:2].islower() or words[1:2] in ("", " ")
    return words[:1].lower() + words[1:] if is_word else words


def drawing_order(prompt: str) -> str:
    """As `order`, of what is only described: `A red circle.` becomes `draw a red circle`."""
    told = order(prompt)
    return told if _ASKS.match(told) else f"draw {told}"


def edit_order(prompt: str, things: Sequence[str] = ()) -> str:
    """An order to change a picture of `things`, as the network was taught them: `Now make it blue, please!` of a circle
    becomes `make the circle blue`. What is not understood stays, without the words of courtesy around it."""
    return _known_edit(prompt, things) or order(_curt(prompt)) or order(prompt)


def caption(prompt: str) -> str | None:
    """What a drawing should show, as the network would say who sees it: `Please draw 2 red rings!` asks for `two red
    rings`. None for a text that does not ask for a drawing."""
    match = _SHOWS.fullmatch(" ".join(prompt.split()).rstrip(" .!?"))
    if match is None:
        return None
    return " ".join(_NUMBERS.get(word, word) for word in match["what"].lower().split())


def shown_again(messages: Sequence[Message]) -> list[Message] | None:
    """What to ask where the last message orders a change of the model's newest drawing: the drawing with the order, and
    nothing of what came before, since the network was taught such orders alone. None for any other message."""
    if not messages or messages[-1].role != "user" or not all(isinstance(part, Text) for part in messages[-1].parts):
        return None
    drawing, is_fresh = newest_drawing(messages[:-1])
    things = drawn_things(messages)
    told = _known_edit(messages[-1].text, things, may_be_it=is_fresh)
    if drawing is None or told is None:
        return None
    return [replace(messages[-1], parts=(drawing, Text(text=told)))]


def changing(messages: list[Message], params: SamplingParams) -> tuple[list[Message], SamplingParams]:
    """What is asked, and how it is to be answered: with a picture, where the last message orders a change of the newest
    drawing, unless the answer has to be something else."""
    again = shown_again(messages) if params.document is None and params.tool_choice != "required" else None
    return (again, replace(params, modality="image")) if again else (messages, params)


def newest_drawing(messages: Sequence[Message]) -> tuple[Image | None, bool]:
    """The newest picture of a conversation, if the model drew it, and whether it did so in its last turn."""
    is_fresh = True
    for message in reversed(messages):
        pictures = [part for part in message.parts if isinstance(part, Image)]
        if pictures:
            return (pictures[-1] if message.role == "assistant" else None), is_fresh
        is_fresh = is_fresh and message.role != "assistant"
    return None, False


def drawn_things(messages: Sequence[Message]) -> tuple[str, ...]:
    """What the newest drawing shows, as far as it is known: of what was asked for, by one word each."""
    things: tuple[str, ...] = ()
    asked = ""
    for message in messages:
        if message.role == "user":
            asked = message.text if all(isinstance(part, Text) for part in message.parts) else ""
        elif message.role == "assistant" and any(isinstance(part, Image) for part in message.parts):
            things, asked = _after(things, asked), ""
    return things


def _after(things: tuple[str, ...], asked: str) -> tuple[str, ...]:
    """What there is to be seen once an order was followed."""
    told = _known_edit(asked, things)
    if told is None:
        return _named_in(caption(" ".join(_curt(asked).split())) or "")
    if told.startswith("add "):
        return (*_named_in(told.removeprefix("add "))[:1], *things)
    if told.startswith("remove "):
        return tuple(thing for thing in things if thing != told.split()[-1])
    return things


def _named_in(shown: str) -> tuple[str, ...]:
    phrases = (_WHERE.sub("", phrase.strip()) for phrase in _BETWEEN.split(shown))
    return tuple(phrase.split()[-1] for phrase in phrases if phrase)


def _known_edit(prompt: str, things: Sequence[str], *, may_be_it: bool = True) -> str | None:
    """None for a text that is no order to change one of `things`. `may_be_it`: "it" is what was drawn."""
    told = _curt(prompt).lower().rstrip(" .!?")
    if len(told) > _MOST_CHARS:
        return None
    for pattern, form in _EDITS:
        if match := pattern.fullmatch(told):
            thing = _meant(match["thing"], things, may_be_it=may_be_it)
            words = {name: _FITS.get(word, word) for name, word in match.groupdict().items() if word is not None}
            if thing is None:
                return None
            side = re.sub(r"^(?:to|on) the ", "", words.get("side", ""))
            new = re.sub(r"^another ", "a ", words.get("new", ""))
            return form.format(**{**words, "thing": thing, "side": side, "new": new})
    return None


def _meant(thing: str, things: Sequence[str], *, may_be_it: bool) -> str | None:
    """The thing by the name that orders have for it; None if it is none of those in the picture."""
    name = re.sub(rf" {_SPOT}$", "", thing).split()[-1]  # its name alone tells which it is
    if name in things:
        return f"the {name}"
    if not (re.fullmatch(rf"{_IT}|its|the", thing) and may_be_it):
        return None
    return f"the {things[0]}" if len(things) == 1 else "it"


def _curt(prompt: str) -> str:
    """A prompt without what it says for the sake of courtesy, or of the conversation."""
    words = prompt.split()
    while words and words[0].lower().strip(",.!;:") in _BEFORE:
        words.pop(0)
    while words and words[-1].lower().strip(",.!?") in _BEHIND:
        words.pop()
    if words[-2:] and [word.lower().strip(",.!?") for word in words[-2:]] == ["for", "me"]:
        words = words[:-2]
    return " ".join(words).rstrip(" ,")
