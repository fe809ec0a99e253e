"""From a reply to scores: exact words, word errors, numbers, tool calls, judged speech, judged drawings.

No answer at all is a wrong answer. `Unscored` is for what cannot be told: a reply with two answers in it, a picture
the judge is unsure of.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from sensorium.evals.task import Chance, Reply, Sample, Score, Scorer, Scores, Unscored
from sensorium.messages import Audio, Image

Transcriber: TypeAlias = Callable[[Audio], str]
Listener: TypeAlias = Callable[[Audio], str]  # names the style of a clip
Namer: TypeAlias = Callable[[Image], str | None]  # the icon or emoji of a picture; None where it is unsure

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_NUMBERS = (*_ONES, *(" ".join([tens, *ones]) for tens in _TENS for ones in ([], *([one] for one in _ONES[1:10]))))
_VALUES = {words: value for value, words in enumerate(_NUMBERS)}
# The longest name first, or "twenty" would be found in "twenty one".
_NUMBER = re.compile(rf"\b(?:minus )?(?:{'|'.join(sorted(_NUMBERS, key=len, reverse=True))})\b")


def normalized(text: str) -> str:
    """What is compared: lower-case words and apostrophes, numbers below a hundred as words, no punctuation."""
    text = text.lower().replace("’", "'").replace("%", " percent").replace("+", " plus ")
    text = re.sub(r"(?<!\S)-(?=\d)", "minus ", text)
    text = re.sub(r"\b\d{1,2}\b", lambda match: _NUMBERS[int(match.group())], text)
    return " ".join(re.sub(r"[^\w']+", " ", text).split())


def unaccented(text: str) -> str:
    """The text in plain letters, as a judge of speech writes it: é is e, ß is ss."""
    apart = unicodedata.normalize("NFKD", text.replace("ß", "ss").replace("œ", "oe").replace("æ", "ae"))
    return "".join(character for character in apart if not unicodedata.combining(character))


def exact(target: str, text: str) -> Score:
    return Score(float(normalized(target) == normalized(text)))


def word_error_rate(target: str, text: str) -> Score:
    """Substituted, missing and inserted words over the words of `target`; its weight is the number of those."""
    wanted, given = normalized(target).split(), normalized(text).split()
    return Score(_edits(wanted, given) / max(len(wanted), 1), max(len(wanted), 1))


def _edits(one: Sequence[str], other: Sequence[str]) -> int:
    """The least number of insertions, deletions and substitutions between two sequences."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, start=1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(other, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (left != right))
    return row[-1]


def number_in(text: str) -> int | None:
    """The number a reply ends on, in digits or words ("two plus three is five" is 5). None if there is none."""
    found = _NUMBER.findall(normalized(text))
    if not found:
        return None
    sign, name = (-1, found[-1].removeprefix("minus ")) if found[-1].startswith("minus ") else (1, found[-1])
    return sign * _VALUES[name]


# --- scorers: what a task may use as its `score`


def answer(sample: Sample, reply: Reply) -> Scores:
    """The reply must be the target, word for word."""
    return {"exact": exact(sample.target, reply.words)}


def heard(sample: Sample, reply: Reply) -> Scores:
    """The transcript of the last clip in the prompt, or a reply that is one."""
    transcript = reply.heard[-1] if reply.heard else reply.words
    return {"exact": exact(sample.target, transcript), "wer": word_error_rate(sample.target, transcript)}


def spoken_answer(judge: Transcriber) -> Callable[[Sample, Reply], Scores]:
    """A reply in speech: its transcript must be the target; `wer` is what a judge then hears of the target."""

    def score(sample: Sample, reply: Reply) -> Scores:
        heard_text = judge(reply.audio) if reply.audio is not None else ""
        return {"exact": exact(sample.target, reply.words), "wer": word_error_rate(sample.target, heard_text)}

    return score


def translated(judge: Transcriber) -> Scorer:
    """The reply must be the target, word for word; of one in speech, `said` is whether a judge hears the target in it.

    `original_said` is the same of `metadata["original"]`, the target in the right voice.
    """

    def score(sample: Sample, reply: Reply) -> Scores:
        scores = answer(sample, reply)
        if sample.modality == "audio":
            for name, sound in (("said", reply.audio), ("original_said", sample.metadata["original"])):
                heard_text = judge(sound) if sound is not None else ""
                scores[name] = exact(unaccented(normalized(sample.target)), heard_text)
        return scores

    return score


def styled(judge: Listener, transcribe: Transcriber) -> Scorer:
    """A reply in speech, said in the style `metadata["style"]`; `wer` is what a judge hears of the target, and
    `original_wer` what it does of `metadata["original"]`, the target as a synthesiser says it in that style."""

    def score(sample: Sample, reply: Reply) -> Scores:
        is_in_style = reply.audio is not None and judge(reply.audio) == sample.metadata["style"]
        return {
            "style": Score(float(is_in_style)),
            "wer": word_error_rate(sample.target, transcribe(reply.audio) if reply.audio is not None else ""),
            "original_wer": word_error_rate(sample.target, transcribe(sample.metadata["original"])),
        }

    return score


def whispered(judge: Listener, transcribe: Transcriber) -> Scorer:
    """A reply in speech, whispered where the style `metadata["style"]` is "whisper", and else not; `exact` is whether
    its transcript is the target, `wer` what a judge hears of it."""

    def score(sample: Sample, reply: Reply) -> Scores:
        is_whispered = reply.audio is not None and judge(reply.audio) == "whisper"
        has_manner = reply.audio is not None and is_whispered == (sample.metadata["style"] == "whisper")
        return {
            "manner": Score(float(has_manner)),
            "exact": exact(sample.target, reply.words),
            "wer": word_error_rate(sample.target, transcribe(reply.audio) if reply.audio is not None else ""),
        }

    return score


def number(sample: Sample, reply: Reply) -> Scores | Unscored:
    """The last number of the reply must be that of the target."""
    wanted, given = number_in(sample.target), number_in(reply.words)
    assert wanted is not None, f"the target of {sample.id} has no number"
    if re.search(r"\b(?:or|maybe)\b", normalized(reply.words)):
        return Unscored(f"more than one answer: {reply.words!r}")
    return {"right": Score(float(given == wanted))}


def tool_call(sample: Sample, reply: Reply) -> Scores:
    """One call of the right function with equal arguments; `name` alone counts beside it.

    `metadata["call"]` is the right (name, JSON arguments), or None where the target's words must answer instead. Where
    an argument is a list, it holds what may be said for one thing: each is right, and so is all of it.
    """
    wanted: tuple[str, str] | None = sample.metadata["call"]
    if wanted is None:
        if reply.tool_calls:
            return {"exact": Score(0.0), "name": Score(0.0)}
        return {"exact": exact(sample.target, reply.words), "name": Score(1.0)}
    if len(reply.tool_calls) != 1:
        return {"exact": Score(0.0), "name": Score(0.0)}
    given = reply.tool_calls[0]
    same_name = given.name == wanted[0]
    same_arguments = _is_right(_parsed(given.arguments), json.loads(wanted[1]))
    return {"exact": Score(float(same_name and same_arguments)), "name": Score(float(same_name))}


def _is_right(given: Any, wanted: dict[str, Any]) -> bool:
    if not isinstance(given, dict) or given.keys() != wanted.keys():
        return False
    pairs = ((given[name], value) for name, value in wanted.items())
    return all(one == value or (isinstance(value, list) and one in value) for one, value in pairs)


def _parsed(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except ValueError:
        return None  # equals no object: broken JSON is a wrong answer


def slots(sample: Sample, reply: Reply) -> Scores:
    """The share of the wanted arguments that a call of the right function has right; `exact` is a faultless call.

    `metadata["call"]` is the right (name, JSON arguments). Its weight is the number of arguments.
    """
    name, arguments = sample.metadata["call"]
    wanted: dict[str, Any] = json.loads(arguments)
    given = next((_parsed(call.arguments) for call in reply.tool_calls if call.name == name), None)
    given = given if isinstance(given, dict) else {}
    right = sum(given.get(slot) == value for slot, value in wanted.items())
    share = Score(right / max(len(wanted), 1), max(len(wanted), 1))
    return {"slots": share, "exact": Score(float(len(reply.tool_calls) == 1 and given == wanted))}


def usual_slots(samples: Sequence[Sample]) -> Chance:
    """The guesser that fills every slot with its commonest value of the set."""
    calls = [json.loads(sample.metadata["call"][1]) for sample in samples]
    values = Counter((slot, json.dumps(value)) for call in calls for slot, value in call.items())
    commonest: dict[str, int] = {}
    for (slot, _), times in values.most_common():
        commonest.setdefault(slot, times)
    return Chance(sum(commonest.values()) / max(values.total(), 1), "the commonest value of each slot in the set")


def any_offered(samples: Sequence[Sample]) -> Chance:
    """The guesser that calls one of the offered functions, with the commonest arguments of the set for it."""
    calls = [sample.metadata["call"] for sample in samples]
    arguments = Counter(calls)
    usual = {name: next(call for call, _ in arguments.most_common() if call[0] == name) for name, _ in calls}
    right = sum(
        (usual[sample.metadata["call"][0]] == sample.metadata["call"]) / max(sample.metadata["offered"], 1)
        for sample in samples
    )
    return Chance(right / len(samples), "any of the offered functions, with its commonest arguments of the set")


def speech(judge: Transcriber) -> Scorer:
    """What a judge hears in the reply, beside what it hears in the original voice and after the codec alone.

    `metadata["original"]` is the same sentence as sound; `metadata["codec"]`, where given, is that sound after the
    codec's round trip. `excess_wer` is the reply's error rate less the original's: how much the network costs.
    """

    def score(sample: Sample, reply: Reply) -> Scores:
        def wer(sound: Audio | None) -> Score:
            return word_error_rate(sample.target, judge(sound) if sound is not None else "")

        spoken, original = wer(reply.audio), wer(sample.metadata["original"])
        scores = {
            "wer": spoken,
            "original_wer": original,
            "excess_wer": Score(spoken.value - original.value, spoken.weight),
            "transcript": exact(sample.target, reply.transcript),
        }
        if "codec" in sample.metadata:
            scores["codec_wer"] = wer(sample.metadata["codec"])
        return scores

    return score


def other_sentences(samples: Sequence[Sample]) -> Chance:
    """The error rate of clear speech that says another sentence of the set."""
    rates = [
        word_error_rate(sample.target, other.target)
        for index, sample in enumerate(samples)
        for other in (samples[(index + 1) % len(samples)], samples[(index + len(samples) // 2) % len(samples)])
        if other is not sample
    ]
    weight = sum(rate.weight for rate in rates)
    value = sum(rate.value * rate.weight for rate in rates) / weight if weight else 1.0
    return Chance(value, "clear speech that says another sentence of the set")


class SeenObject(NamedTuple):
    """One shape in a picture, its centre in fractions of the side (y grows downwards)."""

    colour: str
    shape: str
    x: float
    y: float
    radius: float


class SeenScene(NamedTuple):
    """What a judge sees. `is_sure` is False where one of its decisions was close."""

    objects: tuple[SeenObject, ...]
    is_sure: bool


Viewer: TypeAlias = Callable[[Image], SeenScene]


class Drawing(NamedTuple):
    """What a caption asks for: the (colour, shape) of every object, and how the first lies to the second."""

    looks: tuple[tuple[str, str], ...]
    relation: str = ""  # "above", "left of" or none


def drawing(judge: Viewer) -> Scorer:
    """The picture must hold the objects of `metadata["drawing"]`, no others, in the right relation."""

    def weigh(sample: Sample, objects: Sequence[SeenObject]) -> tuple[bool, bool]:
        wanted: Drawing = sample.metadata["drawing"]
        same = _looks(objects) == Counter(wanted.looks)
        return same and _stand(objects, wanted), same

    return _of_picture(judge, weigh)


def _of_picture(judge: Viewer, weigh: Callable[[Sample, Sequence[SeenObject]], tuple[bool, bool]]) -> Scorer:
    """`weigh` says of what is seen in the reply's last picture whether it is right, and whether its objects are."""

    def score(sample: Sample, reply: Reply) -> Scores | Unscored:
        if not reply.images:
            return {"right": Score(0.0), "objects": Score(0.0)}
        seen = judge(reply.images[-1])
        if not seen.is_sure:
            return Unscored("the judge is unsure of the picture")
        right, objects = weigh(sample, seen.objects)
        return {"right": Score(float(right)), "objects": Score(float(objects))}

    return score


def _looks(objects: Sequence[SeenObject]) -> Counter[tuple[str, str]]:
    return Counter((item.colour, item.shape) for item in objects)


def _stand(objects: Sequence[SeenObject], wanted: Drawing) -> bool:
    if not wanted.relation:
        return True
    first, second = (next(item for item in objects if (item.colour, item.shape) == look) for look in wanted.looks)
    right, down = second.x - first.x, second.y - first.y
    return down > abs(right) if wanted.relation == "above" else right > abs(down)


_NEAR_A_COLOUR = 70.0  # in RGB units; two colours that are asked for lie a hundred apart


def drawn_icon(judge: Namer) -> Scorer:
    """The reply's last picture must show the icon or emoji `metadata["icon"]`; where a colour was asked for, most of
    what has a colour must have that one: `metadata["colour"]`, a name of `metadata["palette"]` (name -> RGB)."""

    def score(sample: Sample, reply: Reply) -> Scores | Unscored:
        if not reply.images:
            return {"right": Score(0.0)}
        seen = judge(reply.images[-1])
        if seen is None:
            return Unscored("the judge is unsure of the picture")
        is_right = seen == sample.metadata["icon"]
        if colour := sample.metadata.get("colour"):
            is_right = is_right and _main_colour(reply.images[-1], sample.metadata["palette"]) == colour
        return {"right": Score(float(is_right))}

    return score


def _main_colour(image: Image, palette: Mapping[str, Sequence[int]]) -> str:
    """The colour of the palette that is nearest to most pixels; what is near none (a ground, an edge) has no vote."""
    pixels = image.pixels.reshape(-1, 1, 3).astype(np.float32)
    distances = np.linalg.norm(pixels - np.array(list(palette.values()), np.float32), axis=-1)  # (pixels, colours)
    votes = Counter(distances.argmin(-1)[distances.min(-1) < _NEAR_A_COLOUR].tolist())
    return list(palette)[votes.most_common(1)[0][0]] if votes else ""


def other_drawings(samples: Sequence[Sample]) -> Chance:
    """How often a picture of another caption of the set would be right."""
    looks = [(Counter(s.metadata["drawing"].looks), s.metadata["drawing"].relation) for s in samples]
    pairs = [one == other for i, one in enumerate(looks) for j, other in enumerate(looks) if i != j]
    return Chance(sum(pairs) / max(len(pairs), 1), "a faultless picture of another caption of the set")


class Edited(NamedTuple):
    """What a changed picture must hold: `kept` in their places, and with `added` one more that lies as told.

    `before` is what the picture held at first.
    """

    before: tuple[SeenObject, ...]
    kept: tuple[SeenObject, ...]
    added: tuple[str, str] | None = None
    relation: str = ""  # of the added object to the other one: "above", "below", "left of", "right of"


_SAME_PLACE = 0.15  # of the side: as far as a drawn object may be from where it belongs


def edited(judge: Viewer) -> Scorer:
    """The picture must hold what `metadata["edited"]` says, and nothing else; `objects` leaves the places out."""

    def weigh(sample: Sample, objects: Sequence[SeenObject]) -> tuple[bool, bool]:
        wanted: Edited = sample.metadata["edited"]
        return _is_edited(objects, wanted), _looks(objects) == _wanted_looks(wanted)

    return _of_picture(judge, weigh)


def _wanted_looks(wanted: Edited) -> Counter[tuple[str, str]]:
    return _looks(wanted.kept) + Counter([wanted.added] if wanted.added else [])


def _is_edited(objects: Sequence[SeenObject], wanted: Edited) -> bool:
    if _looks(objects) != _wanted_looks(wanted):
        return False
    for item in wanted.kept:
        same = [one for one in objects if (one.colour, one.shape) == (item.colour, item.shape)]
        if min(max(abs(one.x - item.x), abs(one.y - item.y)) for one in same) > _SAME_PLACE:
            return False
    if wanted.added is None:
        return True
    other = (wanted.kept[0].colour, wanted.kept[0].shape)
    mirrored = {"below": "above", "right of": "left of"}
    if wanted.relation in mirrored:
        return _stand(objects, Drawing((other, wanted.added), mirrored[wanted.relation]))
    return _stand(objects, Drawing((wanted.added, other), wanted.relation))


def unchanged(samples: Sequence[Sample]) -> Chance:
    """How often the picture as it was would pass for the changed one."""
    right = [_is_edited(sample.metadata["edited"].before, sample.metadata["edited"]) for sample in samples]
    return Chance(sum(right) / max(len(right), 1), "the picture as it was")
