"""Pictures whose colours are not sRGB's: what the network sees of them, and what an edit gives back."""

from __future__ import annotations

import base64
import io
import struct
from typing import Any

import numpy as np
import PIL.Image
import pytest
from PIL import ImageCms

from sensorium.server.colour_profile import MAX_PROFILE_BYTES, ColourProfile, profile_of
from sensorium.server.config import ServerConfig
from sensorium.server.picture_finish import Finish, Kept, finished
from sensorium.server.picture_in import colour_profile, decode_image, decode_whole
from tests.server.live import Live
from tests.server.samples import picture
from tests.server.test_images import edit, mask_with_hole, noise, png

# Display P3's three colours in XYZ under D50, a column each, and as near to its curve as one number gets
P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
P3_GAMMA = 2.2


def matrix_profile(columns: tuple[tuple[float, float, float], ...] = P3) -> bytes:
    """A profile of a screen, of ICC version 2."""

    def xyz(values: tuple[float, float, float]) -> bytes:
        return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in values))

    curve = b"curv" + bytes(4) + struct.pack(">IHxx", 1, round(P3_GAMMA * 256))
    tags = {b"wtpt": xyz((0.9642, 1.0, 0.8249))}
    tags |= {name + b"XYZ": xyz(column) for name, column in zip((b"r", b"g", b"b"), columns, strict=True)}
    tags |= {name + b"TRC": curve for name in (b"r", b"g", b"b")}
    at = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += name + struct.pack(">II", at + len(body), len(value))
        body += value
    head = struct.pack(">I4xI", at + len(body), 0x02400000) + b"mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28)
    return (head + xyz((0.9642, 1.0, 0.8249))[8:]).ljust(128, b"\0") + table + body


WIDE = matrix_profile()
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


def seen(data: bytes) -> list[int]:
    return decode_image(data, "here", ServerConfig())[0, 0].tolist()


def profiled(pixels: np.ndarray, profile: bytes) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "PNG", icc_profile=profile)
    return file.getvalue()


def edited(server: Live, data: bytes, mask: bytes | None, **fields: Any) -> PIL.Image.Image:
    body = edit(server, data, mask=mask, **fields).json()
    return PIL.Image.open(io.BytesIO(base64.b64decode(body["data"][0]["b64_json"])))


@pytest.mark.parametrize(("format", "mode"), [("PNG", "RGB"), ("PNG", "RGBA"), ("WEBP", "RGB"), ("JPEG", "RGB")])
def test_the_network_sees_srgb(format: str, mode: str):
    exact = {"lossless": True} if format == "WEBP" else {}
    data = picture(format, (300, 200), mode, (234, 51, 35), icc_profile=WIDE, **exact)
    assert np.abs(np.subtract(seen(data), [255, 0, 0])).max() <= 6  # what Display P3 calls so is sRGB's red
    white = picture(format, (8, 6), mode, (255, 255, 255), icc_profile=WIDE, **exact)
    assert seen(white) == [255, 255, 255]
    assert decode_whole(picture("PNG", color=(234, 51, 35), icc_profile=WIDE), "here", ServerConfig())[
        0, 0
    ].tolist() == [*(234, 51, 35, 255)]


def test_a_profile_of_srgb_changes_nothing():
    pixels = noise(40, 30)
    assert (decode_image(profiled(pixels, SRGB), "here", ServerConfig()) == pixels).all()


def test_the_way_back_is_the_way():
    profile = ColourProfile(data=WIDE)
    pixels = noise(20, 30, 4)
    there = profile.from_srgb(pixels)
    assert np.abs(there.astype(int) - pixels).max() > 20
    assert np.abs(profile.to_srgb(there).astype(int) - pixels).max() <= 8
    assert (there[:, :, 3] == pixels[:, :, 3]).all()


@pytest.mark.parametrize(
    "profile",
    [
        b"nonsense",
        b"\0" * 200,
        WIDE[:200],
        WIDE[: len(WIDE) // 2],
        WIDE + bytes(MAX_PROFILE_BYTES),
        WIDE[:16] + b"CMYK" + WIDE[20:],
        WIDE[:128] + b"\xff\xff\xff\xff" + WIDE[132:],
        matrix_profile(((0.0, 0.0, 0.0),) * 3),
        LAB,
    ],
    ids=["text", "zeros", "short", "half", "large", "cmyk", "many tags", "black", "lab"],
)
def test_what_is_no_profile_of_rgb_is_passed_over(profile: bytes, server: Live):
    image = PIL.Image.new("RGB", (8, 6), (9, 90, 200))
    image.info["icc_profile"] = profile
    assert profile_of(image) is None
    data = picture("JPEG", (8, 6), icc_profile=profile)
    assert colour_profile(data) is None
    assert np.abs(np.subtract(seen(data), [255, 0, 0])).max() < 10
    shown = edited(server, data, png(mask_with_hole(6, 8, 1, 1, 3, 3)))
    assert "icc_profile" not in shown.info


def test_damaged_profiles_never_escape_as_other_errors():
    rng = np.random.default_rng(0)
    image = PIL.Image.new("RGB", (8, 6), (9, 90, 200))
    for _ in range(500):
        damaged = bytearray(WIDE)
        for position in rng.integers(0, len(damaged), 3):
            damaged[position] = rng.integers(0, 256)
        image.info["icc_profile"] = bytes(damaged)
        if profile := profile_of(image):
            profile.to_srgb(np.zeros((2, 2, 3), np.uint8))


@pytest.mark.parametrize("format", ["png", "webp", "jpeg"])
@pytest.mark.parametrize("channels", [3, 4])
def test_what_a_mask_keeps_is_shown_in_the_same_colours(server: Live, format: str, channels: int):
    pixels = noise(128, 128, channels)
    data = profiled(pixels, WIDE)
    shown = edited(server, data, png(mask_with_hole(128, 128, 40, 40, 88, 88)), output_format=format)
    assert shown.info["icc_profile"] == WIDE
    after = np.asarray(shown)
    if format != "jpeg":
        kept = np.ones((128, 128), bool)
        kept[40:88, 40:88] = False
        assert (after[kept] == pixels[kept]).all()
    assert np.abs(after[64, 64, :3].astype(int) - [234, 51, 35]).max() <= (6 if format != "jpeg" else 12)  # red
    # a viewer that converts it sees sRGB's red there
    back = ImageCms.profileToProfile(
        shown.convert("RGB"),
        ImageCms.ImageCmsProfile(io.BytesIO(WIDE)),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
    assert back is not None
    assert np.abs(np.asarray(back)[64, 64].astype(int) - [255, 0, 0]).max() <= 12


def test_the_network_draws_into_what_it_sees(server: Live):
    data = picture("PNG", (128, 128), color=(234, 51, 35), icc_profile=WIDE)
    edited(server, data, png(mask_with_hole(128, 128, 40, 40, 88, 88)))
    canvas = server.engine.requests[-1].params.canvas
    assert canvas is not None
    assert np.abs(canvas.picture.pixels.astype(int) - [255, 0, 0]).max() <= 6


def test_what_the_network_left_alone_is_found_in_its_own_colours():
    """A drawing of just what it saw changes nothing, though the file's numbers are far from it."""
    profile = ColourProfile(data=matrix_profile((P3[1], P3[0], P3[2])))  # red is green
    original = np.full((64, 64, 4), (30, 230, 30, 255), np.uint8)
    kept = Kept(original=original, profile=profile)
    assert kept.shown[0, 0, 0] > 200
    drawn = kept.shown.copy()
    drawn[20:30, 20:30] = (0, 0, 255)
    after = finished(drawn, Finish(kept=kept))
    assert (after[:16] == original[:16, :, :3]).all()
    assert (after[25, 25] == profile.from_srgb(drawn)[25, 25]).all()


def test_a_picture_without_a_profile_gets_none(server: Live):
    shown = edited(server, png(noise(64, 64)), png(mask_with_hole(64, 64, 10, 10, 20, 20)))
    assert "icc_profile" not in shown.info
