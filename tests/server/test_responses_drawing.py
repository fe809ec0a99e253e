"""Drawings as items of a response: how they come, are forced, edited, counted and streamed."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import PIL.Image
import pytest

from sensorium.engine.fake import FakeEngine
from sensorium.engine.request import End, Event, ImageDelta, Usage
from sensorium.messages import Image
from tests.server.live import Live, live
from tests.server.samples import data_url
from tests.server.test_responses import DRAW, kinds, respond, stream


def test_a_drawing_is_an_item(server: Live):
    (item,) = respond(server, "draw a square", tools=[DRAW])["output"]
    assert (item["type"], item["status"], item["size"]) == ("image_generation_call", "completed", "64x64")
    assert item["id"].startswith("ig_")
    assert PIL.Image.open(io.BytesIO(base64.b64decode(item["result"]))).format == "PNG"


def test_the_tool_says_how_a_drawing_comes(server: Live):
    tool = {**DRAW, "size": "512x256", "quality": "low", "background": "transparent"}
    (item,) = respond(server, "draw a square", tools=[tool])["output"]
    told = {name: item[name] for name in ("size", "quality", "background", "action")}
    assert told == {"size": "512x256", "quality": "low", "background": "transparent", "action": "generate"}
    shown = PIL.Image.open(io.BytesIO(base64.b64decode(item["result"])))
    assert (shown.size, shown.mode) == ((512, 256), "RGBA")
    assert server.engine.requests[-1].params.guidance_scale == 1.0


def test_the_tool_draws_several_times_for_high_quality(server: Live):
    body = respond(server, "draw a square", tools=[{**DRAW, "quality": "high"}])
    params = server.engine.requests[-1].params
    assert (params.drawings, params.caption) == (4, "a square")
    assert body["output"][0]["quality"] == "high"
    assert body["usage"]["output_tokens"] == 4 * (64 + 64)
    first = respond(server, "draw a square", tools=[DRAW])
    assert server.engine.requests[-1].params.drawings == 1
    edit = {**DRAW, "action": "edit", "quality": "high"}
    choice = {"type": "image_generation"}
    respond(server, "make it blue", previous_response_id=first["id"], tools=[edit], tool_choice=choice)
    params = server.engine.requests[-1].params
    assert (params.drawings, params.caption) == (4, None)  # how it should look is known of a change only


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "image_generation"},
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "image_generation"}]},
        "required",
    ],
)
def test_a_drawing_can_be_forced(server: Live, choice: Any):
    (item,) = respond(server, "a square", tools=[DRAW], tool_choice=choice)["output"]
    assert item["type"] == "image_generation_call"
    assert server.engine.requests[-1].params.modality == "image"


def test_what_was_drawn_is_edited_in_a_later_turn(server: Live):
    first = respond(server, "draw a square", tools=[DRAW])
    edits = {"tools": [{**DRAW, "action": "edit"}], "tool_choice": {"type": "image_generation"}}
    (item,) = respond(server, "now make it blue", previous_response_id=first["id"], **edits)["output"]
    assert (item["type"], item["action"]) == ("image_generation_call", "edit")
    asked = server.engine.requests[-1].messages[-1]
    shown, _ = asked.parts  # the network sees what it is to change
    assert isinstance(shown, Image)
    assert shown.pixels[32, 32].tolist() == [255, 0, 0]
    assert asked.text == "make the square blue"


def test_what_is_edited_again_and_again_stays_as_large_as_it_was(server: Live):
    """The network sees a wide picture with bars above and below, and draws what lies between them."""
    wide = {**DRAW, "size": "512x256"}
    answer = respond(server, "draw a square", tools=[wide])
    for _ in range(2):
        answer = respond(server, "now make it red", previous_response_id=answer["id"], tools=[wide])
        (item,) = answer["output"]
        assert (item["action"], item["size"]) == ("edit", "512x256")
        shown = np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(item["result"])))).astype(int)
        columns = np.flatnonzero(((shown[:, :, 0] > 127) & (shown[:, :, 1] < 128)).any(axis=0))
        assert columns.max() - columns.min() + 1 == pytest.approx(256, abs=4)  # half of the square that is 512 wide


def test_a_new_drawing_keeps_nothing_of_an_earlier_picture(server: Live):
    file = io.BytesIO()
    PIL.Image.fromarray(np.full((96, 128, 3), 255, np.uint8)).save(file, "PNG")
    seen = {"role": "user", "content": [{"type": "input_image", "image_url": data_url(file.getvalue())}]}
    tool = {**DRAW, "input_fidelity": "high"}
    (item,) = respond(server, [seen, {"role": "user", "content": "draw a square"}], tools=[tool])["output"]
    assert (item["action"], item["size"]) == ("generate", "64x64")
    assert server.engine.requests[-1].params.canvas is None


def test_a_mask_keeps_the_rest_of_the_newest_picture(server: Live):
    original = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    mask = np.full((96, 128, 4), 255, np.uint8)
    mask[:48] = 0
    files = []
    for pixels in (original, mask):
        file = io.BytesIO()
        PIL.Image.fromarray(pixels).save(file, "PNG")
        files.append(data_url(file.getvalue()))
    seen = {"role": "user", "content": [{"type": "input_image", "image_url": files[0]}]}
    tool = {**DRAW, "input_image_mask": {"image_url": files[1]}}
    (item,) = respond(server, [seen, {"role": "user", "content": "draw a square"}], tools=[tool])["output"]
    shown = np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(item["result"]))))
    assert item["size"] == "128x96"
    canvas = server.engine.requests[-1].params.canvas
    assert canvas is not None
    assert (canvas.hole[:48].all(), canvas.hole[48:].any()) == (True, False)
    assert (shown[48:] == original[48:]).all()
    assert (shown[:48] != original[:48]).any()


def test_a_drawing_is_one_without_the_tool_too(server: Live):
    """The network draws when it is asked to: what it has drawn is not withheld."""
    assert respond(server, "draw a square")["output"][0]["type"] == "image_generation_call"


@pytest.mark.parametrize(("most", "num_drawn"), [(None, 3), (5, 3), (2, 2), (0, 0)])
def test_drawings_beyond_max_tool_calls_are_ignored(most: int | None, num_drawn: int):
    class Diligent(FakeEngine):
        def _answer(self, messages: Any, params: Any) -> Iterator[Event]:
            for _ in range(3):
                yield ImageDelta(pixels=np.zeros((8, 8, 3), np.uint8), final=False)
                yield ImageDelta(pixels=np.zeros((8, 8, 3), np.uint8), final=True)
            yield End(reason="stop", usage=Usage())

    tool = {**DRAW, "partial_images": 1}
    with live(Diligent()) as server:
        body = respond(server, "draw", tools=[tool], max_tool_calls=most)
        events = stream(server, "draw", tools=[tool], max_tool_calls=most)
    assert body["max_tool_calls"] == most
    drawn = [item for item in body["output"] if item["type"] == "image_generation_call"]
    assert [item["status"] for item in drawn] == ["completed"] * num_drawn
    assert kinds(events).count("image_generation_call.completed") == num_drawn
    assert kinds(events).count("image_generation_call.partial_image") == num_drawn


def test_a_streamed_drawing_grows(server: Live):
    tool = {**DRAW, "partial_images": 2, "output_format": "webp", "output_compression": 50}
    events = stream(server, "draw a square", tools=[tool])
    partial, call = "image_generation_call.partial_image", "image_generation_call"
    assert kinds(events)[2:-1] == [
        "output_item.added",
        f"{call}.in_progress",
        f"{call}.generating",
        partial,
        partial,
        f"{call}.completed",
        "output_item.done",
    ]
    shown = [event for event in events if event["type"] == f"response.{partial}"]
    assert [event["partial_image_index"] for event in shown] == [0, 1]
    for data in (*(event["partial_image_b64"] for event in shown), events[-1]["response"]["output"][0]["result"]):
        assert PIL.Image.open(io.BytesIO(base64.b64decode(data))).format == "WEBP"
