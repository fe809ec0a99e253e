"""Whatever is in a file, it is read within bounds or refused by an error of ours. tests/damage.py makes the files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sensorium.messages import Image
from sensorium.safety.provenance import Credentials, Identity, media_type_of, read_credential
from sensorium.server.animation_in import decode_animation
from sensorium.server.config import ServerConfig
from sensorium.server.errors import APIError
from sensorium.server.film_in import FilmBounds, decode_film
from sensorium.server.image_tokens import in_detail, picture_size
from sensorium.server.media import decode_clip
from sensorium.server.pages_in import PAGE_SIDE, decode_pages
from sensorium.server.picture_in import MAX_SIDE, AnimatedPicture, decode_image, decode_whole, upright_size
from sensorium.server.sound_file import SoundFile
from tests.damage import read_damaged
from tests.server.film_samples import CODECS, movie
from tests.server.samples import mp3, picture, striped, wav
from tests.server.test_seeing import DOCUMENT_BOUNDS, animation, pdf, said_pdf
from tests.server.test_sound_file import CONTAINERS, encoded

MAX_PIXELS = 10_000
CONFIG = ServerConfig(max_image_pixels=MAX_PIXELS, max_photo_pixels=MAX_PIXELS)
BOUNDS = FilmBounds(max_pixels=MAX_PIXELS, max_s=2.0, max_frames=4)
RATE_HZ = 16_000
ON_ITS_SIDE = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # EXIF: orientation 6


def pictures() -> dict[str, bytes]:
    return {
        "PNG": picture(),
        "PNG16": picture("PNG", mode="I;16", color=9000),
        "palette": picture("PNG", mode="P", color=1, transparency=1),
        "JPEG": picture("JPEG", size=(40, 30), exif=ON_ITS_SIDE),
        "CMYK": picture("JPEG", mode="CMYK", color=(9, 90, 0, 0)),
        "progressive": picture("JPEG", size=(40, 30), progressive=True),
        "WEBP": picture("WEBP"),
        "GIF": picture("GIF", mode="P", color=1),
        "stripes": striped((60, 40)),
    }


def see_picture(_: str, data: bytes) -> None:
    pixels = decode_image(data, "here", CONFIG)
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3
    assert max(pixels.shape) <= MAX_SIDE
    assert pixels.size <= 3 * MAX_PIXELS
    in_detail(Image(pixels=pixels, detail="auto", given_size=picture_size(data)))
    width, height = upright_size(data)
    assert decode_whole(data, "here", CONFIG).shape == (height, width, 4)


def animations() -> dict[str, bytes]:
    return {format: animation(format, [100, 300, 50]) for format in ("GIF", "PNG", "WEBP")}


def see_animation(_: str, data: bytes) -> None:
    try:
        decode_image(data, "here", CONFIG)
    except AnimatedPicture:
        film = decode_animation(data, "here", BOUNDS)
    else:
        return  # of one frame
    assert 1 <= len(film.frames) <= BOUNDS.max_frames
    assert all(frame.pixels.size <= 3 * MAX_PIXELS for frame in film.frames)


def documents() -> dict[str, bytes]:
    return {"drawn": pdf(2), "written": said_pdf("the lamp is red")}


def see_pages(_: str, data: bytes) -> None:
    for page in decode_pages(data, "here", lambda _: None, MAX_PIXELS, DOCUMENT_BOUNDS):
        assert page.pixels.size <= 3 * (PAGE_SIDE + 1) ** 2
        assert len(page.text) <= MAX_PIXELS


def films() -> dict[str, bytes]:
    return {
        **{format: movie(format, seconds=1.0, fps=4) for format in CODECS},
        "silent": movie(seconds=1.0, fps=4, sound=False),
    }


def see_film(_: str, data: bytes) -> None:
    film = decode_film(data, "here", BOUNDS, fps=None, sample_rate_hz=RATE_HZ)
    assert 1 <= len(film.frames) <= BOUNDS.max_frames
    assert all(frame.pixels.size <= 3 * MAX_PIXELS for frame in film.frames)
    assert film.sound is None or film.sound.duration_ms <= 1000 * BOUNDS.max_s + 600


def sounds() -> dict[str, bytes]:
    return {ending: encoded(ending, seconds=0.3) for ending in CONTAINERS}


def hear_file(ending: str, data: bytes) -> None:
    with SoundFile(data, f"a.{ending}", rate_hz=RATE_HZ, max_s=2.0) as file:
        sound = np.concatenate(list(file.pieces()))
    assert np.isfinite(sound).all()
    assert len(sound) <= 2.0 * RATE_HZ


def clips() -> dict[str, bytes]:
    return {
        "wav": wav(0.2),
        "stereo": wav(0.2, 44_100, 2, "FLOAT"),
        "24 bits": wav(0.2, subtype="PCM_24"),
        "mp3": mp3(0.2),
    }


def hear_clip(name: str, data: bytes) -> None:
    clip = decode_clip(data, "mp3" if name == "mp3" else "wav", "here", 2.0, RATE_HZ)
    assert np.isfinite(clip.waveform).all()
    assert clip.duration_ms <= 2000


def signed() -> dict[str, bytes]:
    credentials = Credentials(Identity.new(), model="sensorium-nano")
    plain = [picture(), picture("JPEG"), picture("WEBP"), wav(0.1)]
    return {media_type_of(data): credentials.sign(data, media_type_of(data)) for data in plain}


def verify(media_type: str, data: bytes) -> None:
    """NoCredential and Tampered are ValueErrors."""
    with contextlib.suppress(ValueError):
        read_credential(data, media_type)
    with contextlib.suppress(ValueError):
        read_credential(data, media_type_of(data))


DECODERS: dict[str, tuple[Callable[[], dict[str, bytes]], Callable[[str, bytes], None]]] = {
    "picture": (pictures, see_picture),
    "animation": (animations, see_animation),
    "pdf": (documents, see_pages),
    "film": (films, see_film),
    "sound": (sounds, hear_file),
    "clip": (clips, hear_clip),
    "credential": (signed, verify),
}


@pytest.mark.parametrize("decoder", DECODERS)
def test_damaged_files_are_read_or_refused(decoder: str, tmp_path: Path):
    make, look_at = DECODERS[decoder]

    def read(name: str, data: bytes) -> None:
        with contextlib.suppress(Refused):
            refusing(look_at, name, data)

    files = make()
    for name, data in files.items():
        look_at(name, data)  # whole, it is read
    assert read_damaged(files, read, tmp_path) > 0


class Refused(Exception):
    """The client is told what is wrong with which part of the request."""


def refusing(look_at: Callable[[str, bytes], None], name: str, data: bytes) -> None:
    try:
        look_at(name, data)
    except APIError as error:
        if 400 <= error.status < 500 and error.param is not None:
            raise Refused from error
        raise


def test_what_breaks_a_decoder_is_told_with_how_to_see_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen: list[bytes] = []

    def read(_: str, data: bytes) -> None:
        seen.append(data)
        if len(seen) == 12:
            raise ZeroDivisionError

    monkeypatch.setenv("FUZZ_SEED", "7")
    with pytest.raises(AssertionError, match="FUZZ_SEED=7 FUZZ_CASE=11"):
        read_damaged({"a": wav(0.1)}, read, tmp_path)
    assert (tmp_path / "damaged").read_bytes() == seen[-1]
    monkeypatch.setenv("FUZZ_CASE", "11")
    assert read_damaged({"a": wav(0.1)}, read, tmp_path) == 1
    assert seen[11] == seen[12]
