"""Prompts as orders, and as what a drawing should show."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorium.messages import Image, Message, Text
from sensorium.server.picture_order import caption, drawing_order, edit_order, order, shown_again
from tests.server.live import Live


@pytest.mark.parametrize(
    ("prompt", "told", "shows"),
    [
        ("A red circle.", "draw a red circle", "a red circle"),
        ("draw a red circle", "draw a red circle", "a red circle"),
        ("Draw me 2 Red rings!", "draw me 2 Red rings!", "two red rings"),
        ("Please draw three blue stars", "please draw three blue stars", "three blue stars"),
        ("can you draw a pink diamond?", "can you draw a pink diamond?", "a pink diamond"),
        ("Make a picture of a green ring above\na pink heart", None, "a green ring above a pink heart"),
        ("drawers on white", "draw drawers on white", "drawers on white"),
    ],
)
def test_what_is_asked_to_be_drawn(prompt: str, told: str | None, shows: str):
    if told is not None:
        assert drawing_order(prompt) == told
    assert caption(drawing_order(prompt)) == shows


@pytest.mark.parametrize("text", ["now it should be green", "draw", "", "what is drawn here", "withdraw it"])
def test_what_asks_for_no_drawing_shows_nothing(text: str):
    assert caption(text) is None


RED = Image(pixels=np.zeros((8, 8, 3), np.uint8))


def talk(*turns: str) -> list[Message]:
    """A conversation whose every other turn is the model's: "*" is a drawing."""
    said = [RED if turn == "*" else Text(text=turn) for turn in turns]
    return [Message(role="assistant" if at % 2 else "user", parts=(part,)) for at, part in enumerate(said)]


@pytest.mark.parametrize(
    ("turns", "told"),
    [
        (("draw a red circle", "*", "now make it blue"), "make the circle blue"),
        (("can you draw a big red circle?", "*", "Great! Can you make it blue, please?"), "make the circle blue"),
        (("draw a circle on white", "*", "change its colour to green"), "make the circle green"),
        (("draw a circle", "*", "now change the color to green"), "make the circle green"),
        (("draw a star", "*", "paint it red", "*", "now move it to the left"), "move the star to the left"),
        (("draw a star", "*", "put it at the top"), "move the star to the top"),
        (("draw a star", "*", "Add a red circle to the left of it."), "add a red circle left of the star"),
        (("draw a star and a ring", "*", "take the star away", "*", "make it red"), "make the ring red"),
        (("draw a star and a ring", "*", "make the ring red"), "make the ring red"),
        (("draw a star left of a ring", "*", "remove the star on the left"), "remove the star"),
        (("draw a star left of a ring", "*", "Please paint the big ring on the right red!"), "paint the ring red"),
        (("draw a star", "*", "move the star in the centre to the top"), "move the star to the top"),
        (("draw a star and a ring", "*", "make it red"), "make it red"),
        (("draw a star", "*", "thanks", "you are welcome", "now make the star red"), "make the star red"),
        (("draw a star", "*", "thanks", "you are welcome", "make it red"), None),
        (("draw a star", "*", "make the lights red"), None),
        (("draw a star", "*", "add milk to the shopping list"), None),
        (("draw a star", "*", "turn the light on"), None),
        (("draw a star", "*", "what colour is it"), None),
        (("draw a star", "*", "now draw a red ring"), None),
        (("make it red",), None),
    ],
)
def test_a_change_of_what_was_drawn_is_told_as_it_was_taught(turns: tuple[str, ...], told: str | None):
    asked = shown_again(talk(*turns))
    assert (asked and [part.text for part in asked[0].parts if isinstance(part, Text)]) == (told and [told])
    assert asked is None or asked[0].parts[0] is RED


def test_a_picture_of_the_user_s_is_not_the_model_s():
    mine = Message(role="user", parts=(RED, Text(text="what is this")))
    asked = [*talk("draw a star", "*"), mine, *talk("x", "a star")[1:], *talk("now make it red")]
    assert shown_again(asked) is None


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("Now make the star red, please!", "make the star red"),
        ("Please add two small birds.", "add two small birds"),
        ("please", "please"),
    ],
)
def test_an_order_needs_no_courtesy(prompt: str, told: str):
    assert edit_order(prompt) == told


@given(st.text(max_size=200))
def test_any_text_is_an_order(text: str):
    told = drawing_order(text)
    assert not order(text) or drawing_order(told) == told
    assert order(order(text)) == order(text)
    shown = caption(told)
    assert shown is None or shown.strip()


DRAW = {"type": "image_generation"}


@pytest.mark.parametrize("tools", [{}, {"tools": [DRAW]}])
def test_responses_change_what_was_drawn_without_an_action(server: Live, tools: dict[str, Any]):
    first = server.respond("draw a square", **tools).json()
    (item,) = server.respond("now make it blue", previous_response_id=first["id"], **tools).json()["output"]
    assert (item["type"], item.get("action")) == ("image_generation_call", "edit" if tools else None)
    (asked,) = server.engine.requests[-1].messages
    assert [type(part) for part in asked.parts] == [Image, Text]
    assert asked.text == "make the square blue"


@pytest.mark.parametrize(
    "fields", [{"tools": [{**DRAW, "action": "generate"}]}, {"text": {"format": {"type": "json_object"}}}]
)
def test_what_has_to_be_something_else_is_no_change(server: Live, fields: dict[str, Any]):
    first = server.respond("draw a square").json()
    server.respond("now make it blue", previous_response_id=first["id"], **fields)
    assert server.engine.requests[-1].messages[-1].text == "now make it blue"


@pytest.mark.parametrize("stream", [False, True])
def test_chat_changes_what_was_drawn(server: Live, stream: bool):
    said = [{"role": "user", "content": "draw a square"}]
    drawn = server.chat("draw a square").json()["choices"][0]["message"]
    said += [drawn, {"role": "user", "content": "now make it blue"}]
    body = {"model": "gpt-4o", "messages": said, "n": 2, "stream": stream}
    reply = server.http.post("/v1/chat/completions", json=body)
    assert '"images":' in reply.text
    (asked,) = server.engine.requests[-1].messages
    assert asked.text == "make the square blue"
    body |= {"response_format": {"type": "json_object"}, "stream": False}
    assert "images" not in server.http.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]
