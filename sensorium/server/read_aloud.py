"""A text as the network reads it aloud: in pieces of a few words, lower-case, with everything spelled out.

That is how it was taught to say things: "say: " and three to twelve words as they are said, without punctuation and
figures. What punctuation tells a reader becomes the pause behind a piece.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

from num2words import num2words

Manner: TypeAlias = Literal["whisper", "shout", "fast", "slow", "calm"]

MOST_WORDS = 12  # in a piece: longer sentences were never read aloud in training
_MOST_LETTERS = 24  # in a word: a longer one is no word
_SENTENCE_PAUSE_MS, _CLAUSE_PAUSE_MS = 320, 160
_MOST_DIGITS = 15  # of a number that is read as one; longer ones are read digit by digit

_SIGNS = {"&": " and ", "+": " plus ", "=": " equals ", "%": " percent ", "@": " at ", "\u00b0": " degrees "}
_CURRENCIES = {"$": "dollar", "\u20ac": "euro", "\u00a3": "pound", "\u00a5": "yen"}
_SCALES = {"k": "thousand", "m": "million", "bn": "billion", "b": "billion"}
_MONEY = re.compile(
    r"([$\u20ac\u00a3\u00a5])\s?(\d(?:[\d,]*\d)?(?:\.\d+)?)(?:\s?(thousand|million|billion|trillion|k|m|bn|b)\b)?"
)
_NUMBER = re.compile(r"(?<![\w.])(-?)(\d[\d,]*)(\.\d+)?(st|nd|rd|th)?(?![a-z\d])")
_TIME = re.compile(r"(?<![\d:])(\d{1,2}):(\d{2})(?![\d:])")
_UNIT = re.compile(r"(?<=\d)(?!(?:st|nd|rd|th)\b)(?=[a-z])")  # between a figure and what is written right behind it
_SENTENCE = re.compile(r"[.!?;:\u2026\u3002\n]+(?=\s|$|[\"')\]])|\n")
_CLAUSE = re.compile(r"[,()\[\]\u2013\u2014\u3001]+|\s-+\s")
_BEGINS_A_CLAUSE = frozenset("and but or so that which who because when where while if".split())

# A manner and the words that ask for it.
_ASKED: dict[Manner, re.Pattern[str]] = {
    "whisper": re.compile(r"\bwhisper\w*|\bhushed\b|\bunder (?:your|the) breath\b|\bsotto voce\b|\bbreathy\b"),
    "shout": re.compile(r"\bshout\w*|\byell\w*|\bscream\w*|\bloud(?:ly|er)?\b|\btop of your (?:voice|lungs)\b"),
    "fast": re.compile(r"\bfast(?:er)?\b|\bquick(?:ly|er)?\b|\brapid(?:ly)?\b|\bhurr(?:y|ied)\b|\bbrisk(?:ly)?\b"),
    "slow": re.compile(r"\bslow(?:ly|er)?\b|\bunhurried\b|\bleisurely\b|\bdrawn[- ]out\b"),
    "calm": re.compile(
        r"\bcalm(?:ly|er)?\b|\bsooth\w+|\bgentl[ey]\b|\brelax\w*|\bquiet(?:ly)?\b|\bsoft(?:ly)?\b"
        r"|\bpeaceful(?:ly)?\b|\bserene(?:ly)?\b|\breassuring(?:ly)?\b|\bcomforting(?:ly)?\b"
    ),
}
_PLAIN = frozenset("neutral neutrally natural naturally normal normally plain plainly clear clearly".split())
_FILLING = frozenset("a and in manner please read say speak talk text the this tone use voice way with your".split())
_UNASKED = re.compile(r"\b(?:not|never|no|without|don't|do not|isn't)(?: \w+){0,2} $")
PROMPTS: dict[Manner | None, str] = {
    None: "say: {x}",
    "whisper": "whisper: {x}",
    "shout": "shout: {x}",
    "fast": "say fast: {x}",
    "slow": "say slowly: {x}",
    "calm": "say calmly: {x}",
}
"""How the network was taught to be asked for each (`sensorium/data/generators/documents.py`)."""


class Piece(NamedTuple):
    """Words as they are said, and the silence behind them."""

    words: str
    pause_ms: int


def pieces(text: str) -> Iterator[Piece]:
    """What is read of a text, in order; nothing of one that has neither letters nor figures."""
    for sentence in _SENTENCE.split(_spelled_out(text)):
        runs = [run for clause in _runs(sentence) for run in clause]
        for index, run in enumerate(runs):
            is_last = index == len(runs) - 1
            yield Piece(run.words, _SENTENCE_PAUSE_MS if is_last else run.pause_ms)


def manner(instructions: str) -> Manner | None:
    """The one manner of speaking that instructions ask for. None of an empty text, and of one that asks for a plain
    voice. Raises ValueError for instructions that ask for none that there is, or for several."""
    told = " ".join(instructions.lower().replace("\u2019", "'").split())
    if not told:
        return None
    found: list[Manner] = [
        name
        for name, asked in _ASKED.items()
        if any(not _UNASKED.search(told[: match.start()]) for match in asked.finditer(told))
    ]
    if len(found) == 1:
        return found[0]
    words = set(re.findall(r"[a-z']+", told))
    if words & _PLAIN and words <= _PLAIN | _FILLING:
        return None
    known = ", ".join(_ASKED)
    if found:
        raise ValueError(f"one manner at a time can be asked for, these are {' and '.join(found)}")
    raise ValueError(f"the manners of speaking that can be asked for are {known}")


def _runs(sentence: str) -> Iterator[list[Piece]]:
    """A sentence's clauses, short ones together and long ones apart."""
    waiting: list[str] = []
    for clause in _CLAUSE.split(sentence):
        words = _words(clause)
        if waiting and len(waiting) + len(words) > MOST_WORDS:
            yield _cut(waiting)
            waiting = []
        waiting += words
    if waiting:
        yield _cut(waiting)


def _cut(words: list[str]) -> list[Piece]:
    """Runs of about equal length, cut before a word that begins a clause if there is one near."""
    made: list[Piece] = []
    while len(words) > MOST_WORDS:
        num_runs = -(-len(words) // MOST_WORDS)
        even = -(-len(words) // num_runs)
        near = [at for at in range(max(3, even - 3), MOST_WORDS + 1) if words[at] in _BEGINS_A_CLAUSE]
        at = min(near, key=lambda at: abs(at - even), default=even)
        made.append(Piece(" ".join(words[:at]), 0))
        words = words[at:]
    return [*made, Piece(" ".join(words), _CLAUSE_PAUSE_MS)]


def _words(text: str) -> list[str]:
    """Letters and apostrophes only, as the network writes words."""
    bare = "".join(char if char.isalpha() or char == "'" or unicodedata.combining(char) else " " for char in text)
    words = [word.strip("'") for word in bare.split()]
    return [word[at : at + _MOST_LETTERS] for word in words for at in range(0, len(word), _MOST_LETTERS)]


def _spelled_out(text: str) -> str:
    """Lower-case, with numbers and signs as words; what marks sentences and clauses stays."""
    text = unicodedata.normalize("NFKC", text).lower().replace("\u2019", "'")
    text = _MONEY.sub(_money, text)
    text = _TIME.sub(r"\1 \2", text)
    text = _UNIT.sub(" ", text)
    text = _NUMBER.sub(_number, text)
    for sign, words in _SIGNS.items():
        text = text.replace(sign, words)
    return re.sub(r"\d", lambda digit: f" {_in_words(unicodedata.digit(digit[0]))} ", text)


def _in_words(number: int, *, to: Literal["cardinal", "ordinal"] = "cardinal") -> str:
    return num2words(number, to=to).replace(",", "").replace(" and ", " ").replace("-", " ")


def _number(match: re.Match[str]) -> str:
    minus, whole, fraction, ordinal = match.groups()
    rest = whole[len(whole.rstrip(",")) :]  # a comma behind a number is none of it
    digits = whole.replace(",", "")
    if len(digits) > _MOST_DIGITS or (len(digits) > 1 and digits[0] == "0") or not digits.isascii():
        return " ".join(digits) + (fraction or "").replace(".", " point ") + (ordinal or "") + rest
    words = _in_words(int(digits), to="ordinal" if ordinal and not fraction else "cardinal")
    words += f" point {' '.join(fraction[1:])}" if fraction else ""
    return (" minus " if minus else " ") + words + " " + rest


def _money(match: re.Match[str]) -> str:
    name, scale = _CURRENCIES[match[1]], match[3] or ""
    one = name == "yen" or (match[2] == "1" and not scale)
    return f" {match[2]} {_SCALES.get(scale, scale)} {name if one else f'{name}s'} "
