"""Pictures as files: the same pixels again where that is promised, and signed wherever they leave the server."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from sensorium.safety.provenance import NoCredential, media_type_of, read_credential
from sensorium.server.picture_out import MEDIA_TYPES, PictureFormat, PictureWriter
from tests.players import needs_ffmpeg, shown
from tests.server.live import Live, live

PIXELS = np.random.default_rng(0).integers(0, 256, (48, 64, 4), dtype=np.uint8)


def pixels_of(data: bytes) -> np.ndarray:
    with PIL.Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture)


@pytest.mark.parametrize("format", ["png", "webp"])
@pytest.mark.parametrize("channels", [3, 4])
def test_png_and_webp_lose_nothing(format: PictureFormat, channels: int):
    data = PictureWriter().file(PIXELS[:, :, :channels], format)
    assert media_type_of(data) == MEDIA_TYPES[format]
    assert (pixels_of(data) == PIXELS[:, :, :channels]).all()


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_quality_is_bytes(format: PictureFormat):
    sizes = [len(PictureWriter().file(PIXELS[:, :, :3], format, quality=quality)) for quality in (0, 50, 99)]
    assert sizes == sorted(sizes)
    assert sizes[2] > 2 * sizes[0]


@needs_ffmpeg
@pytest.mark.parametrize(
    ("format", "compression", "background"),
    [
        *[("png", 100, "opaque"), ("webp", 100, "opaque"), ("jpeg", 100, "opaque")],
        *[("webp", 40, "opaque"), ("jpeg", 40, "opaque")],
        *[("png", 100, "transparent"), ("webp", 100, "transparent"), ("webp", 40, "transparent")],
    ],
)
def test_players_show_every_format(server: Live, format: str, compression: int, background: str, tmp_path: Path):
    """Signed as it is, whole and growing in a stream: the same pixels as Pillow's, but for how a decoder rounds."""
    asked = {"model": "gpt-image-1", "prompt": "a square", "size": "192x128", "output_format": format}
    asked |= {"output_compression": compression, "background": background}
    whole = server.http.post("/v1/images/generations", json=asked).json()["data"][0]["b64_json"]
    streamed = server.http.post("/v1/images/generations", json={**asked, "stream": True, "partial_images": 2}).text
    events = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: ")]
    assert len(events) == 3
    channels = 4 if background == "transparent" else 3
    for encoded in (whole, *(event["b64_json"] for event in events)):
        data = base64.b64decode(encoded)
        pixels = shown(data, tmp_path / f"drawn.{format}", channels).astype(int)
        expected = pixels_of(data).astype(int)
        assert pixels.shape == expected.shape == (128, 192, channels)
        if channels == 4:  # what is quite transparent has any colour
            assert np.abs(pixels[:, :, 3] - expected[:, :, 3]).max() <= 1
            seen = expected[:, :, 3] > 0
            pixels, expected = pixels[seen], expected[seen]
        if compression == 100 and format != "jpeg":
            assert (pixels == expected).all()
        assert np.abs(pixels - expected).mean() < 2


def drawn_everywhere(server: Live) -> dict[str, bytes]:
    """A drawing by each endpoint that may answer with one."""
    chat = server.chat("draw a square").json()["choices"][0]["message"]["images"][0]["image_url"]["url"]
    item = server.respond("draw a square").json()["output"][0]
    asked = {"model": "gpt-3.5-turbo-instruct", "prompt": "draw a square"}
    text = server.http.post("/v1/completions", json=asked).json()["choices"][0]["text"]
    streamed: list[Any] = [
        json.loads(line[6:])
        for line in server.chat("draw a square", stream=True).text.splitlines()
        if line.startswith("data: {")
    ]
    (shown,) = [
        chunk["choices"][0]["delta"]["images"][0] for chunk in streamed if "images" in chunk["choices"][0]["delta"]
    ]
    encoded = {
        "chat": chat.split(",")[1],
        "streamed chat": shown["image_url"]["url"].split(",")[1],
        "responses": item["result"],
        "completions": text.split(",")[1].removesuffix(")"),
    }
    return {name: base64.b64decode(data) for name, data in encoded.items()}


def test_every_picture_says_what_made_it(server: Live):
    for name, data in drawn_everywhere(server).items():
        assert read_credential(data, "image/png").model == "sensorium-fake", name


def test_none_does_where_that_is_turned_off():
    with live(content_credentials=False) as server:
        for data in drawn_everywhere(server).values():
            with pytest.raises(NoCredential):
                read_credential(data, "image/png")


def test_the_signer_is_kept_with_the_state(tmp_path: Path):
    for _ in range(2):
        with live(state=tmp_path) as server:
            data = drawn_everywhere(server)["chat"]
        certificate = (tmp_path / "credentials" / "certificates.pem").read_bytes()
        assert read_credential(data, "image/png", trusted=certificate).is_trusted
