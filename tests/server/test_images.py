"""The Images API: what may be asked for is what comes, and what a mask keeps stays as it was to the last pixel."""

from __future__ import annotations

import base64
import io
import json
import time
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import PIL.Image
import pytest

from sensorium.engine.fake import FakeEngine
from sensorium.messages import Image
from sensorium.safety.provenance import media_type_of, read_credential
from sensorium.server.access import SCOPES
from tests.server.live import Live, envelope, live
from tests.server.samples import data_url, picture

RED, WHITE = [255, 0, 0], [255, 255, 255]  # of what the fake engine draws


def generate(server: Live, prompt: str = "a square", **fields: Any) -> httpx2.Response:
    return server.http.post("/v1/images/generations", json={"model": "gpt-image-1", "prompt": prompt, **fields})


def edit(server: Live, image: Any, *, mask: bytes | None = None, prompt: str = "make it red", **fields: str):
    files = [("image", image)] if isinstance(image, bytes) else [("image[]", each) for each in image]
    files += [("mask", mask)] if mask is not None else []
    data = {"model": "gpt-image-1", "prompt": prompt, **fields}
    return server.http.post("/v1/images/edits", data=data, files=[(name, ("a.png", data)) for name, data in files])


def opened(body: dict[str, Any], index: int = 0) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(base64.b64decode(body["data"][index]["b64_json"])))


def pixels_of(response: httpx2.Response) -> np.ndarray:
    assert response.status_code == 200, response.text
    return np.asarray(opened(response.json()))


def asked(server: Live) -> Any:
    """What the engine was asked last."""
    return server.engine.requests[-1]


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, channels), dtype=np.uint8)


def red(pixels: np.ndarray) -> np.ndarray:
    """(H, W) bool: where the fake engine's square is, whose edges are soft when it is scaled."""
    return (pixels[:, :, 0] > 127) & (pixels[:, :, 1] < 128)


def mask_with_hole(height: int, width: int, top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.full((height, width, 4), 255, np.uint8)
    mask[top:bottom, left:right, 3] = 0
    return mask


def test_a_picture(server: Live):
    body = generate(server, "A square.").json()
    assert {name: body[name] for name in ("size", "quality", "background", "output_format")} == {
        "size": "1024x1024",
        "quality": "medium",
        "background": "opaque",
        "output_format": "png",
    }
    shown = opened(body)
    assert (shown.size, shown.mode, shown.format) == ((1024, 1024), "RGB", "PNG")
    assert [shown.getpixel(at) for at in ((512, 512), (10, 10))] == [tuple(RED), tuple(WHITE)]
    assert body["data"][0]["revised_prompt"] == "draw a square"
    assert body["usage"] == {
        "input_tokens": 3,
        "input_tokens_details": {"text_tokens": 3, "image_tokens": 0},
        "output_tokens": 64,
        "output_tokens_details": {"text_tokens": 0, "image_tokens": 64},
        "total_tokens": 67,
    }
    assert body["sensorium"] == {
        "native_size": "64x64",
        "resampling": "lanczos",
        "layout": "whole",
        "gpt_image_1_output_tokens": 1056,
    }
    assert asked(server).params.modality == "image"


@pytest.mark.parametrize(
    ("size", "layout"),
    [("1536x1024", "continued"), ("1024x1536", "continued"), ("512x512", "whole"), ("64x64", "whole")],
)
def test_sizes(server: Live, size: str, layout: str):
    body = generate(server, size=size).json()
    assert (body["size"], body["sensorium"]["layout"]) == (size, layout)
    shown = np.asarray(opened(body))
    height, width, _ = shown.shape
    assert f"{width}x{height}" == size
    square = red(shown)
    assert abs(np.flatnonzero(square.any(axis=0)).mean() - (width - 1) / 2) < 1  # in the middle, and still a square
    for side in (square.any(axis=0).sum(), square.any(axis=1).sum()):
        assert abs(int(side) - min(width, height) // 2) <= 2
    assert shown[0, 0].tolist() == WHITE


@pytest.mark.parametrize(
    "model", ["gpt-image-1", "gpt-image-1-mini", "gpt-image-1.5", "gpt-image-2", "dall-e-2", "dall-e-3"]
)
def test_every_model_of_the_contract_draws(server: Live, model: str):
    assert generate(server, model=model).status_code == 200


def test_quality_is_guidance(server: Live):
    scales = []
    for quality in ("low", "medium", "auto"):
        assert generate(server, quality=quality).json()["quality"] == quality.replace("auto", "medium")
        scales.append(asked(server).params.guidance_scale)
    assert scales == [1.0, 2.0, 2.0]


def test_a_natural_style_is_guided_half_as_far(server: Live):
    for style, scale in (("vivid", 2.0), ("natural", 1.5), (None, 2.0)):
        assert generate(server, model="dall-e-3", style=style, response_format="b64_json").status_code == 200
        assert asked(server).params.guidance_scale == scale
    assert generate(server, model="sensorium-fake", style="natural", quality="low").status_code == 200
    assert asked(server).params.guidance_scale == 1.0


def test_high_quality_is_the_best_of_several_drawings(server: Live):
    body = generate(server, "Please draw 2 squares!", quality="high").json()
    params = asked(server).params
    assert (params.drawings, params.guidance_scale, params.caption) == (4, 2.0, "two squares")
    assert body["quality"] == "high"
    assert body["usage"]["output_tokens"] == 4 * (64 + 64)  # drawn and looked at
    assert body["sensorium"]["gpt_image_1_output_tokens"] == 4160
    assert len(body["data"]) == 1
    for quality in ("low", "medium"):
        generate(server, quality=quality)
        assert asked(server).params.drawings == 1


def test_the_old_name_of_high_quality(server: Live):
    body = generate(server, model="dall-e-3", quality="hd", response_format="b64_json").json()
    assert (body["quality"], asked(server).params.drawings) == ("high", 4)


def test_of_a_change_nobody_knows_what_it_should_show(server: Live):
    body = edit(server, picture(), prompt="make the circle red", quality="high").json()
    assert (asked(server).params.drawings, asked(server).params.caption) == (4, None)
    assert (body["quality"], body["usage"]["output_tokens"]) == ("high", 4 * 64)


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_formats(server: Live, format: str):
    body = generate(server, output_format=format).json()
    data = base64.b64decode(body["data"][0]["b64_json"])
    assert body["output_format"] == format
    assert media_type_of(data) == f"image/{format}"
    assert read_credential(data, f"image/{format}").source == "trainedAlgorithmicMedia"


def test_compression_is_bytes(server: Live):
    sizes = [
        len(generate(server, output_format="jpeg", output_compression=percent).json()["data"][0]["b64_json"])
        for percent in (0, 100)
    ]
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize("format", ["png", "webp"])
def test_a_transparent_background(server: Live, format: str):
    body = generate(server, background="transparent", output_format=format).json()
    shown = opened(body)
    assert (body["background"], shown.mode) == ("transparent", "RGBA")
    assert [shown.getpixel(at) for at in ((512, 512), (10, 10))] == [(*RED, 255), (*shown.getpixel((10, 10))[:3], 0)]  # pyright: ignore


def test_several_pictures_from_one_prompt(server: Live):
    body = generate(server, n=3, size="64x64").json()
    assert len(body["data"]) == 3
    assert (body["usage"]["input_tokens"], body["usage"]["output_tokens"]) == (3, 192)
    assert len({request.params.seed for request in list(server.engine.requests)[-3:]}) == 3


def test_pictures_behind_urls(server: Live):
    body = server.http.post("/v1/images/generations", json={"model": "dall-e-2", "prompt": "a square"}).json()
    url = body["data"][0]["url"]
    assert url.startswith(server.url)
    shown = server.http.get(url)
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/png")
    assert PIL.Image.open(io.BytesIO(shown.content)).size == (1024, 1024)
    other = "1" if url[-5] == "0" else "0"
    assert server.http.get(f"{url[:-5]}{other}-png").status_code == 404
    assert envelope(server.http.get("/pictures/nothing")) == (None, None)


def test_a_url_ends_after_an_hour(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def shown() -> str:
        body = {"model": "dall-e-2", "prompt": "a square", "size": "64x64"}
        return server.http.post("/v1/images/generations", json=body).json()["data"][0]["url"]

    monkeypatch.setattr("sensorium.server.picture_links._SWEEP_EVERY_S", 0.0)
    with live(state=tmp_path) as server:
        with monkeypatch.context() as hour_ago:
            hour_ago.setattr("sensorium.server.picture_links.LASTS_S", -1)
            old = shown()
        assert server.http.get(old).status_code == 404
        new = shown()
        assert server.http.get(new).status_code == 200
    assert [file.name for file in (tmp_path / "objects" / "pictures").iterdir()] == [new.rpartition("/")[2]]


def test_a_picture_grows_in_a_stream(server: Live):
    response = generate(server, stream=True, partial_images=2, size="64x64")
    assert response.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: ")]
    named = [line[7:] for line in response.text.splitlines() if line.startswith("event: ")]
    kinds = [event["type"] for event in events]
    assert kinds == named == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    assert [event.get("partial_image_index") for event in events] == [0, 1, None]
    heights = []
    for event in events:
        shown = np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(event["b64_json"]))))
        heights.append(int((shown == RED).all(axis=2).any(axis=1).sum()))
        assert (event["size"], event["background"]) == ("64x64", "opaque")
    assert heights == sorted(set(heights))
    assert events[-1]["usage"]["output_tokens"] == 64


@pytest.mark.parametrize(("height", "width"), [(96, 128), (300, 200), (64, 64)])
def test_a_mask_keeps_every_pixel_outside_the_hole(server: Live, height: int, width: int):
    original = noise(height, width)
    hole = (height // 4, width // 4, height // 2, width // 2)
    response = edit(server, png(original), mask=png(mask_with_hole(height, width, *hole)))
    shown = pixels_of(response)
    assert response.json()["size"] == f"{width}x{height}"
    outside = mask_with_hole(height, width, *hole)[:, :, 3] > 0
    canvas = asked(server).params.canvas  # what the network draws into
    assert (canvas.hole == ~outside).all()
    assert (canvas.picture.pixels == original).all()
    assert shown.shape == original.shape
    assert (shown[outside] == original[outside]).all()
    assert (shown[~outside] != original[~outside]).any()
    data = base64.b64decode(response.json()["data"][0]["b64_json"])
    assert read_credential(data, "image/png").source == "compositeWithTrainedAlgorithmicMedia"


def test_more_pictures_than_the_context_holds_are_refused_with_how_many_it_does():
    with live(FakeEngine(max_tokens=1024)) as server:
        shown = [picture()] * 16
        for refused, param in (
            (edit(server, shown), "image"),
            (
                server.http.post(
                    "/v1/images/edits",
                    json={"prompt": "x", "images": [{"image_url": data_url(data)} for data in shown]},
                ),
                "images",
            ),
        ):
            assert envelope(refused) == (param, "context_length_exceeded")
            assert "of 16 pictures 15 fit" in refused.text
        assert edit(server, shown[:15], prompt="x").status_code == 200


def test_a_photo_of_a_phone_is_scaled_down_with_its_mask(server: Live):
    """It lies on its side in the file, green above blue when it is upright; the hole is in its upper half."""
    width, height = 3024, 4032
    upright = PIL.Image.new("RGB", (width, height), "blue")
    upright.paste((0, 160, 0), (0, 0, width, height // 2))
    exif, photo = PIL.Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    upright.transpose(PIL.Image.Transpose.ROTATE_90).save(photo, "JPEG", exif=exif, quality=90)
    mask = png(mask_with_hole(height, width, 0, 0, height // 2, width))
    shown = pixels_of(edit(server, photo.getvalue(), mask=mask, output_format="png"))
    assert shown.shape[0] * shown.shape[1] <= 2048 * 2048 < (shown.shape[0] + 2) * (shown.shape[1] + 2)
    assert abs(shown.shape[0] / shown.shape[1] - height / width) < 1e-3
    half = shown.shape[0] // 2
    assert (np.abs(shown[half + 2 :].astype(int) - [0, 0, 255]) < 8).all()  # kept
    assert not (np.abs(shown[: half - 2].astype(int) - [0, 160, 0]) < 8).all(axis=2).any()  # drawn anew
    on_its_side = png(mask_with_hole(width, height, 0, 0, 9, 9))
    refused = edit(server, photo.getvalue(), mask=on_its_side)
    assert envelope(refused)[0] == "mask"
    assert "4032x3024 and the picture 3024x4032" in refused.text


def test_a_mask_keeps_what_shows_through(server: Live):
    original = noise(64, 64, 4)
    mask = mask_with_hole(64, 64, 20, 20, 40, 40)
    shown = pixels_of(edit(server, png(original), mask=png(mask)))
    outside = mask[:, :, 3] > 0
    assert (shown[outside] == original[outside]).all()
    assert (shown[~outside, 3] == 255).all()


def test_an_opaque_background_is_white_where_a_kept_picture_shows_through(server: Live):
    original = noise(64, 64, 4)
    mask = png(mask_with_hole(64, 64, 20, 20, 40, 40))
    told = edit(server, png(original), mask=mask, background="opaque")
    assert told.json()["background"] == "opaque"
    shown = pixels_of(told)
    assert shown.shape == (64, 64, 3)
    unseen = (original[:, :, 3] < 8) & (mask_with_hole(64, 64, 20, 20, 40, 40)[:, :, 3] > 0)
    assert unseen.any()
    assert (shown[unseen] > 240).all()


def test_the_drawing_in_a_hole_lies_where_the_network_saw_it(server: Live):
    original = np.zeros((128, 256, 3), np.uint8)  # seen with bars above and below
    shown = pixels_of(edit(server, png(original), mask=png(mask_with_hole(128, 256, 0, 0, 128, 256))))
    columns = np.flatnonzero(red(shown).any(axis=0))
    assert (columns.min(), columns.max()) == (64, 191)
    assert red(shown)[:, 128].all()  # what was drawn above and below, where the bars were, is cut off


def test_a_masked_picture_in_another_size(server: Live):
    original, mask = noise(64, 64), mask_with_hole(64, 64, 0, 0, 32, 64)
    shown = pixels_of(edit(server, png(original), mask=png(mask), size="128x128"))
    larger = np.asarray(PIL.Image.fromarray(original).resize((128, 128), PIL.Image.Resampling.LANCZOS))
    assert (shown[64:] == larger[64:]).all()


def test_high_fidelity_keeps_what_the_network_left_alone(server: Live):
    original = np.full((640, 640, 3), 255, np.uint8)
    original[160:480, 160:480] = RED  # what the fake engine draws
    original[80:100, 80:100] = (0, 0, 255)  # which it leaves out
    original[::16, 600:] = (240, 240, 240)  # too faint to count
    body = edit(server, png(original), input_fidelity="high").json()
    assert body["size"] == "640x640"
    assert asked(server).params.canvas is None  # nobody says where it will change
    shown = np.asarray(opened(body))
    assert (shown[90, 90] == WHITE).all()
    assert (shown[200:440, 200:440] == RED).all()
    assert (shown[:, 500:] == original[:, 500:]).all()


def test_several_pictures_go_in(server: Live):
    assert edit(server, [picture(), picture(color="blue"), picture(color="green")]).status_code == 200
    parts = asked(server).messages[0].parts
    assert [tuple(part.pixels[0, 0]) for part in parts if isinstance(part, Image)] == [
        (255, 0, 0),
        (0, 0, 255),
        (0, 128, 0),
    ]
    assert asked(server).messages[0].text == "make it red"


def test_an_edit_in_json(server: Live):
    uploaded = server.http.post("/v1/files", data={"purpose": "vision"}, files={"file": ("a.png", png(noise(64, 64)))})
    mask = mask_with_hole(64, 64, 0, 0, 8, 8)
    body = {"prompt": "make it red", "images": [{"file_id": uploaded.json()["id"]}, {"image_url": data_url(picture())}]}
    response = server.http.post("/v1/images/edits", json={**body, "mask": {"image_url": data_url(png(mask))}})
    assert (pixels_of(response)[8:] == noise(64, 64)[8:]).all()


def test_an_edit_streams_under_its_own_name(server: Live):
    text = edit(server, picture(), stream="true", partial_images="1").text
    assert [line[7:] for line in text.splitlines() if line.startswith("event: ")] == [
        "image_edit.partial_image",
        "image_edit.completed",
    ]


@pytest.mark.parametrize(
    ("size", "expected"), [((60, 40), "1536x1024"), ((40, 60), "1024x1536"), ((40, 41), "1024x1024")]
)
def test_an_edit_has_the_shape_of_its_picture(server: Live, size: tuple[int, int], expected: str):
    body = edit(server, picture(size=size)).json()
    assert (body["size"], "{}x{}".format(*opened(body).size)) == (expected, expected)


def test_a_variation_is_described_then_drawn(server: Live):
    files = {"image": ("a.png", picture(size=(32, 32)))}
    data = {"n": "2", "size": "256x256", "response_format": "b64_json"}
    response = server.http.post("/v1/images/variations", data=data, files=files)
    assert pixels_of(response).shape == (256, 256, 3)
    assert len(response.json()["data"]) == 2
    looked, drawn = list(server.engine.requests)[-3:-1]
    assert (looked.messages[0].text, looked.params.modality) == ("what is in the picture", "text")
    assert "a picture of 32 x 32" in drawn.messages[0].text
    assert not any(isinstance(part, Image) for part in drawn.messages[0].parts)
    assert response.json()["data"][0]["revised_prompt"] == drawn.messages[0].text
    assert drawn.params.caption == drawn.messages[0].text.removeprefix("draw ").lower()


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"prompt": ""}, "prompt", "string_below_min_length"),
        ({"prompt": None}, "prompt", "missing_required_parameter"),
        ({"n": 11}, "n", "integer_above_max_value"),
        ({"n": 2, "stream": True}, "n", "invalid_value"),
        ({"size": "100x100"}, "size", "unsupported_value"),
        ({"size": "0x0"}, "size", "unsupported_value"),
        ({"size": "64x256"}, "size", "unsupported_value"),
        ({"size": "4096x4096"}, "size", "unsupported_value"),
        ({"quality": "best"}, "quality", "invalid_value"),
        ({"output_format": "gif"}, "output_format", "invalid_value"),
        ({"output_compression": 50}, "output_compression", "invalid_value"),
        ({"background": "transparent", "output_format": "jpeg"}, "background", "invalid_value"),
        ({"partial_images": 4}, "partial_images", "integer_above_max_value"),
        ({"response_format": "url"}, "response_format", "unknown_parameter"),
        ({"model": "sensorium-fake", "response_format": "url", "stream": True}, "response_format", "unsupported_value"),
        ({"model": "dall-e-2", "stream": True}, "stream", "unsupported_value"),
        ({"input_fidelity": "high"}, "input_fidelity", "unknown_parameter"),
        ({"model": "dall-e-3", "style": "loud"}, "style", "invalid_value"),
        ({"model": "gpt-image-1", "style": "vivid"}, "style", "unknown_parameter"),
        ({"seed": 1}, "seed", "unknown_parameter"),
    ],
)
def test_what_is_refused(server: Live, fields: dict[str, Any], param: str, code: str):
    response = generate(server, **fields)
    assert response.status_code == 400, response.text
    assert envelope(response) == (param, code)


def test_what_is_refused_of_edits(server: Live):
    square = png(noise(64, 64))
    hole = png(mask_with_hole(64, 64, 0, 0, 8, 8))
    for response, param in (
        (edit(server, square, mask=png(mask_with_hole(32, 64, 0, 0, 8, 8))), "mask"),
        (edit(server, square, mask=png(mask_with_hole(64, 64, 0, 0, 0, 0))), "mask"),
        (edit(server, square, mask=b"no picture"), "mask"),
        (edit(server, square, mask=hole, size="1536x1024"), "size"),
        (edit(server, b""), "image"),
        (edit(server, [square, b"no picture"]), "image[1]"),
        (edit(server, [square] * 17), "image"),
        (edit(server, square, n="two"), "n"),
        (edit(server, square, stream="maybe"), "stream"),
        (server.http.post("/v1/images/edits", data={"prompt": "x"}, files={"mask": ("a", hole)}), "image"),
        (server.http.post("/v1/images/edits", json={"prompt": "x", "images": []}), "images"),
        (server.http.post("/v1/images/edits", json={"prompt": "x", "images": [{}]}), "images[0].image_url"),
        (
            server.http.post("/v1/images/edits", json={"prompt": "x", "images": [{"file_id": "file-0"}]}),
            "images[0].file_id",
        ),
        (server.http.post("/v1/images/variations", data={"stream": "true"}, files={"image": ("a", square)}), "stream"),
    ):
        assert response.status_code in (400, 404), response.text
        assert envelope(response)[0] == param


def test_a_picture_that_is_there_twice_is_refused(server: Live):
    files = [("image", ("a.png", picture())), ("image[]", ("b.png", picture()))]
    response = server.http.post("/v1/images/edits", data={"prompt": "x"}, files=files)
    assert envelope(response) == ("image[]", "invalid_value")


def test_a_private_address_is_not_fetched(server: Live):
    body = {"prompt": "x", "images": [{"image_url": "http://127.0.0.1:1/a.png"}]}
    assert envelope(server.http.post("/v1/images/edits", json=body)) == ("images[0].image_url", "invalid_image_url")


def test_what_was_drawn_is_counted():
    with live() as server:
        assert generate(server, n=2, size="64x64").status_code == 200
        assert edit(server, picture()).status_code == 200
        query = {"start_time": int(time.time()) - 3600, "group_by[]": ["size", "source"]}
        page = server.http.get("/v1/organization/usage/images", params=query).json()
    found = {
        (result["size"], result["source"]): (result["images"], result["num_model_requests"])
        for bucket in page["data"]
        for result in bucket["results"]
    }
    assert found == {("64x64", "image.generation"): (2, 1), ("1536x1024", "image.edit"): (1, 1)}


def test_a_key_may_be_for_pictures_only():
    assert {"api.images.read", "api.images.write"} <= set(SCOPES)


def test_an_engine_that_fails_in_the_middle_says_so_in_the_stream():
    with live() as server:
        server.engine.error, server.engine.error_after = RuntimeError("broken"), 1
        text = generate(server, stream=True, partial_images=2).text
        assert generate(server).status_code == 500
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
    assert [event["type"] for event in events] == ["image_generation.partial_image", "error"]
    assert "broken" not in text
