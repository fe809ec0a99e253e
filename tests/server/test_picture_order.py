"""Prompts as orders, and as what a drawing should show."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorium.server.picture_order import caption, drawing_order, order


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


@given(st.text(max_size=200))
def test_any_text_is_an_order(text: str):
    told = drawing_order(text)
    assert not order(text) or drawing_order(told) == told
    assert order(order(text)) == order(text)
    shown = caption(told)
    assert shown is None or shown.strip()
