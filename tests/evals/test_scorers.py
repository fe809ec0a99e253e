"""Scorers on hand-written pairs, those that cannot be scored included."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from sensorium.evals import scorers
from sensorium.evals.scorers import Drawing, Edited, SeenObject, SeenScene, number_in, word_error_rate
from sensorium.evals.task import Reply, Sample, Score, Unscored
from sensorium.messages import Image, ToolCall
from tests.evals.scripted import Gallery, clip, transcribe, typed_sample


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Turn on the Lights!", "turn on the lights"),
        ("  two\nwords ", "two words"),
        ("What's 2 + 13?", "what's two plus thirteen"),
        ("set it to 45%", "set it to forty five percent"),
        ("it’s", "it's"),
        ("-5 degrees", "minus five degrees"),
        ("a-b", "a b"),
        ("1234", "1234"),
        ("", ""),
    ],
)
def test_normalized(text: str, plain: str):
    assert scorers.normalized(text) == plain


@pytest.mark.parametrize(
    ("said", "errors"),
    [
        ("turn on the lamp", 0),
        ("Turn on the lamp.", 0),
        ("turn off the lamp", 1),
        ("turn the lamp", 1),
        ("turn on on the lamp", 1),
        ("on turn the lamp", 2),
        ("", 4),
        ("not one word of it is right here", 8),
    ],
)
def test_word_errors_are_the_fewest_edits_over_the_words_of_the_target(said: str, errors: int):
    assert word_error_rate("turn on the lamp", said) == Score(errors / 4, 4)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("two plus three is five", 5),
        ("2 + 3 = 5", 5),
        ("twenty one", 21),
        ("the answer is 14.", 14),
        ("sixteen", 16),
        ("three minus five is minus two", -2),
        ("someone", None),
        ("i do not know", None),
        ("", None),
    ],
)
def test_number_in(text: str, number: int | None):
    assert number_in(text) == number


def test_a_sum_is_right_by_its_number_and_two_answers_are_none():
    sample = typed_sample("1", "two plus three is five")
    assert scorers.number(sample, Reply(text="five")) == {"right": Score(1.0)}
    assert scorers.number(sample, Reply(transcript="two plus three is 5")) == {"right": Score(1.0)}
    assert scorers.number(sample, Reply(text="two plus three is six")) == {"right": Score(0.0)}
    assert scorers.number(sample, Reply()) == {"right": Score(0.0)}
    assert isinstance(scorers.number(sample, Reply(text="four or five")), Unscored)


def test_hearing_takes_the_transcript_of_the_clip_before_the_reply():
    sample = typed_sample("1", "lock the door")
    assert scorers.heard(sample, Reply(text="the door is locked", heard=("lock the door",)))["exact"].value == 1.0
    assert scorers.heard(sample, Reply(text="lock the door"))["exact"].value == 1.0
    assert scorers.heard(sample, Reply(heard=("lock a door",))) == {"exact": Score(0.0), "wer": Score(1 / 3, 3)}


CALL = ("set_timer", '{"seconds":60,"name":"egg"}')


@pytest.mark.parametrize(
    ("calls", "exact", "name"),
    [
        ([CALL], 1.0, 1.0),
        ([("set_timer", '{ "name": "egg", "seconds": 60 }')], 1.0, 1.0),
        ([("set_timer", '{"seconds":61,"name":"egg"}')], 0.0, 1.0),
        ([("set_timer", '{"seconds":60,')], 0.0, 1.0),
        ([("timer", CALL[1])], 0.0, 0.0),
        ([CALL, CALL], 0.0, 0.0),
        ([], 0.0, 0.0),
    ],
)
def test_a_tool_call_is_right_by_name_and_equal_arguments(calls: list[tuple[str, str]], exact: float, name: float):
    sample = Sample(id="1", messages=(), target="", metadata={"call": CALL})
    made = tuple(ToolCall(id="call_1", name=called, arguments=arguments) for called, arguments in calls)
    assert scorers.tool_call(sample, Reply(tool_calls=made)) == {"exact": Score(exact), "name": Score(name)}


@pytest.mark.parametrize(
    ("area", "is_right"),
    [("kitchen", True), ("the kitchen", True), (["kitchen", "the kitchen"], True), ("hall", False)],
)
def test_whatever_a_thing_is_called_is_right(area: str | list[str], is_right: bool):
    wanted = ("light_on", json.dumps({"area": ["kitchen", "the kitchen"], "level": 50}))
    sample = Sample(id="1", messages=(), target="", metadata={"call": wanted})
    made = ToolCall(id="call_1", name="light_on", arguments=json.dumps({"level": 50, "area": area}))
    assert scorers.tool_call(sample, Reply(tool_calls=(made,)))["exact"].value == is_right


def test_where_no_tool_fits_a_call_is_wrong():
    sample = Sample(id="1", messages=(), target="i have no tool for that", metadata={"call": None})
    called = ToolCall(id="call_1", name="set_timer", arguments="{}")
    assert scorers.tool_call(sample, Reply(text="i have no tool for that"))["exact"].value == 1.0
    assert scorers.tool_call(sample, Reply())["exact"].value == 0.0
    assert scorers.tool_call(sample, Reply(tool_calls=(called,)))["exact"].value == 0.0


def test_speech_is_judged_beside_the_original_and_the_codec():
    sounds = {"original": clip("turn on the lamp"), "codec": clip("turn on a lamp")}
    sample = Sample(id="1", messages=(), target="turn on the lamp", metadata=sounds)
    scores = scorers.speech(transcribe)(sample, Reply(transcript="turn on the lamp", audio=clip("turn of a lamp")))
    assert isinstance(scores, dict)
    assert {name: score.value for name, score in scores.items()} == {
        "wer": 0.5,
        "original_wer": 0.0,
        "excess_wer": 0.5,
        "transcript": 1.0,
        "codec_wer": 0.25,
    }
    silent = scorers.speech(transcribe)(sample, Reply())
    assert isinstance(silent, dict)
    assert silent["wer"] == Score(1.0, 4)


def test_a_spoken_answer_needs_the_right_words_and_is_judged_by_its_sound():
    sample = typed_sample("1", "a bee says buzz")
    scores = scorers.spoken_answer(transcribe)(sample, Reply(transcript="a bee says buzz", audio=clip("a bee buzz")))
    assert scores == {"exact": Score(1.0), "wer": Score(0.25, 4)}


def test_a_phrase_said_in_another_language_is_right_if_a_judge_hears_it():
    target = "die tür ist weiß"
    sample = replace(typed_sample("1", target), modality="audio", metadata={"original": clip("die tur ist weiss")})
    right, heard = Score(1.0), {"original_said": Score(1.0)}
    score = scorers.translated(transcribe)
    assert score(sample, Reply(transcript=target, audio=clip("die tur ist weiss"))) == {
        **{"exact": right, "said": right},
        **heard,
    }
    assert score(sample, Reply(transcript=target, audio=clip("die tour ist weiss"))) == {
        **{"exact": right, "said": Score(0.0)},
        **heard,
    }
    assert score(sample, Reply(text=target)) == {"exact": right, "said": Score(0.0), **heard}
    assert score(typed_sample("1", target), Reply(text=target)) == {"exact": right}
    assert score(typed_sample("1", target), Reply(text="die tur ist weiss")) == {"exact": Score(0.0)}


def seen(*objects: tuple[str, str, float, float], is_sure: bool = True) -> SeenScene:
    return SeenScene(tuple(SeenObject(colour, shape, x, y, 0.2) for colour, shape, x, y in objects), is_sure)


CIRCLE, STAR = ("red", "circle"), ("blue", "star")


@pytest.mark.parametrize(
    ("wanted", "scene", "objects", "right"),
    [
        (Drawing((CIRCLE,)), seen((*CIRCLE, 0.5, 0.5)), 1.0, 1.0),
        (Drawing((CIRCLE,)), seen(("red", "star", 0.5, 0.5)), 0.0, 0.0),
        (Drawing((CIRCLE,)), seen(("blue", "circle", 0.5, 0.5)), 0.0, 0.0),
        (Drawing((CIRCLE,)), seen((*CIRCLE, 0.5, 0.2), (*CIRCLE, 0.5, 0.8)), 0.0, 0.0),
        (Drawing((CIRCLE, CIRCLE)), seen((*CIRCLE, 0.5, 0.2), (*CIRCLE, 0.5, 0.8)), 1.0, 1.0),
        (Drawing((CIRCLE, STAR)), seen((*STAR, 0.5, 0.2), (*CIRCLE, 0.5, 0.8)), 1.0, 1.0),
        (Drawing((CIRCLE, STAR), "above"), seen((*CIRCLE, 0.4, 0.2), (*STAR, 0.6, 0.8)), 1.0, 1.0),
        (Drawing((CIRCLE, STAR), "above"), seen((*CIRCLE, 0.4, 0.8), (*STAR, 0.6, 0.2)), 1.0, 0.0),
        (Drawing((CIRCLE, STAR), "left of"), seen((*CIRCLE, 0.2, 0.4), (*STAR, 0.8, 0.6)), 1.0, 1.0),
        (Drawing((CIRCLE, STAR), "left of"), seen((*CIRCLE, 0.4, 0.2), (*STAR, 0.6, 0.8)), 1.0, 0.0),
        (Drawing((CIRCLE,)), seen(), 0.0, 0.0),
    ],
)
def test_a_drawing_is_right_by_its_objects_and_their_relation(
    wanted: Drawing, scene: SeenScene, objects: float, right: float
):
    gallery = Gallery()
    sample = Sample(id="1", messages=(), target="", metadata={"drawing": wanted})
    scores = scorers.drawing(gallery.see)(sample, Reply(images=(gallery.picture(scene),)))
    assert scores == {"right": Score(right), "objects": Score(objects)}


def test_no_picture_is_wrong_and_an_unsure_judge_gives_no_score():
    gallery = Gallery()
    sample = Sample(id="1", messages=(), target="", metadata={"drawing": Drawing((CIRCLE,))})
    score = scorers.drawing(gallery.see)
    assert score(sample, Reply(text="here it is")) == {"right": Score(0.0), "objects": Score(0.0)}
    unsure = gallery.picture(seen((*CIRCLE, 0.5, 0.5), is_sure=False))
    assert isinstance(score(sample, Reply(images=(unsure,))), Unscored)


def test_chance_of_speech_and_drawings_is_that_of_another_sample():
    sentences = [typed_sample(str(index), target) for index, target in enumerate(("a b", "c d", "a d"))]
    assert 0.5 < scorers.other_sentences(sentences).value <= 1.0
    drawings = [
        Sample(id=str(index), messages=(), target="", metadata={"drawing": drawing})
        for index, drawing in enumerate((Drawing((CIRCLE,)), Drawing((CIRCLE,)), Drawing((STAR,))))
    ]
    assert scorers.other_drawings(drawings).value == pytest.approx(1 / 3)


def test_slots_are_counted_in_a_call_of_the_right_function():
    wanted = ("order", '{"drink":"tea","size":"small"}')
    sample = typed_sample("s", "order", call=wanted)

    def score(*calls: tuple[str, str]) -> tuple[float, float]:
        given = tuple(ToolCall(id="c", name=name, arguments=arguments) for name, arguments in calls)
        scores = scorers.slots(sample, Reply(tool_calls=given))
        assert scores["slots"].weight == 2
        return scores["slots"].value, scores["exact"].value

    assert score(wanted) == (1.0, 1.0)
    assert score(("order", '{"drink":"tea","size":"big"}')) == (0.5, 0.0)
    assert score(("order", '{"drink":"tea","size":"small","milk":"no"}')) == (1.0, 0.0)
    assert score(("other", wanted[1])) == score(("order", "[1]")) == score(("order", '{"drink":')) == score() == (0, 0)


def test_chance_of_calls_is_that_of_the_commonest_values():
    calls = [("order", f'{{"drink":"{drink}"}}') for drink in ("tea", "tea", "milk", "tea")]
    samples = [typed_sample(str(i), "x", call=call, offered=2) for i, call in enumerate([*calls, ("off", "{}")])]
    assert scorers.usual_slots(samples[:4]).value == 0.75
    assert scorers.any_offered(samples).value == pytest.approx((3 + 1) / 2 / 5)


RING, BLUE_STAR = SeenObject("red", "ring", 0.3, 0.3, 0.1), SeenObject("blue", "star", 0.7, 0.7, 0.1)
BELOW = SeenObject("green", "heart", 0.3, 0.7, 0.1)


@pytest.mark.parametrize(
    ("wanted", "seen", "right", "objects"),
    [
        (Edited((RING, BLUE_STAR), (RING,)), (RING._replace(x=0.4),), 1, 1),  # removed
        (Edited((RING, BLUE_STAR), (RING,)), (RING, BLUE_STAR), 0, 0),
        (Edited((RING,), (RING._replace(x=0.8),)), (RING,), 0, 1),  # moved: it stands where it stood
        (Edited((RING,), (RING._replace(x=0.8),)), (RING._replace(x=0.78),), 1, 1),
        (Edited((RING,), (RING._replace(colour="pink"),)), (RING,), 0, 0),  # recoloured
        (Edited((RING,), (RING,), ("green", "heart"), "below"), (RING, BELOW), 1, 1),  # added
        (Edited((RING,), (RING,), ("green", "heart"), "above"), (RING, BELOW), 0, 1),
        (Edited((RING,), (RING,), ("green", "heart"), "below"), (RING._replace(y=0.6), BELOW._replace(y=0.9)), 0, 1),
    ],
)
def test_an_edit_changes_what_it_must_and_nothing_else(wanted: Edited, seen: tuple, right: float, objects: float):
    gallery = Gallery()
    sample = typed_sample("s", "change it", edited=wanted)
    reply = Reply(images=(gallery.picture(SeenScene(seen, True)),))
    scores = scorers.edited(gallery.see)(sample, reply)
    assert isinstance(scores, dict)
    assert (scores["right"].value, scores["objects"].value) == (right, objects)
    assert scorers.edited(gallery.see)(sample, Reply()) == {"right": Score(0.0), "objects": Score(0.0)}
    unsure = Reply(images=(gallery.picture(SeenScene(seen, False)),))
    assert isinstance(scorers.edited(gallery.see)(sample, unsure), Unscored)


def test_chance_of_an_edit_is_the_picture_as_it_was():
    edits = [Edited((RING,), (RING,)), Edited((RING, BLUE_STAR), (RING,))]
    samples = [typed_sample(str(i), "x", edited=edit) for i, edit in enumerate(edits)]
    assert scorers.unchanged(samples).value == 0.5


@pytest.mark.parametrize(
    ("seen", "colour", "right"), [("star", "red", 1.0), ("star", "blue", 0.0), ("star", "", 1.0), ("sun", "red", 0.0)]
)
def test_an_icon_must_be_told_and_have_the_colour_that_was_asked_for(seen: str, colour: str, right: float):
    pixels = np.full((64, 64, 3), 244, np.uint8)
    pixels[10:40, 10:40] = (210, 40, 44)  # near red; the ground is near nothing
    pixels[50:55, 10:40] = (30, 80, 220)
    palette = {"red": (218, 36, 38), "blue": (36, 82, 222)}
    metadata = {"icon": "star", "colour": colour, "palette": palette}
    asked = Sample(id="0", messages=(), target="a star", metadata=metadata)
    judged = scorers.drawn_icon(lambda image: seen)(asked, Reply(images=(Image(pixels=pixels),)))
    assert judged == {"right": Score(right)}
    grey = Image(pixels=np.full((64, 64, 3), 128, np.uint8))
    assert scorers.drawn_icon(lambda image: seen)(asked, Reply(images=(grey,))) == {
        "right": Score(float(seen == "star" and not colour))
    }
