"""What is asked to be drawn: as an order in words in which the network was taught orders, and as what is to be seen."""

from __future__ import annotations

import re

_ASKS = re.compile(r"((please|can you|could you) )?(draw|make|create|generate|paint|sketch)\b", re.IGNORECASE)
_SHOWS = re.compile(rf"{_ASKS.pattern}( me)?( (a|the|another) (picture|drawing|image) of)? (?P<what>.+)", re.IGNORECASE)
_NUMBERS = dict(zip("123456789", "one two three four five six seven eight nine".split(), strict=True))


def order(prompt: str) -> str:
    """A prompt in the form in which the network was taught orders: no capital to begin with, no full stop."""
    words = " ".join(prompt.split()).rstrip(" .")
    is_word = words[1:2].islower() or words[1:2] in ("", " ")
    return words[:1].lower() + words[1:] if is_word else words


def drawing_order(prompt: str) -> str:
    """As `order`, of what is only described: `A red circle.` becomes `draw a red circle`."""
    told = order(prompt)
    return told if _ASKS.match(told) else f"draw {told}"


def caption(prompt: str) -> str | None:
    """What a drawing should show, as the network would say who sees it: `Please draw 2 red rings!` asks for `two red
    rings`. None for a text that does not ask for a drawing."""
    match = _SHOWS.fullmatch(" ".join(prompt.split()).rstrip(" .!?"))
    if match is None:
        return None
    return " ".join(_NUMBERS.get(word, word) for word in match["what"].lower().split())
