from __future__ import annotations

import asyncio
import io
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from sensorium.engine.fake import FakeEngine
from sensorium.engine.request import EngineInfo
from sensorium.messages import Audio
from sensorium.server import media
from sensorium.server.comfort_noise import QUIET_BEFORE_MS, QUIET_BEHIND_MS
from sensorium.server.config import ServerConfig
from sensorium.server.errors import APIError
from sensorium.server.media import AudioFormat, decode_clip
from sensorium.server.picture_in import MAX_SIDE, decode_image, image_from_data_url
from tests.server.live import Live, live
from tests.server.samples import audio_part, b64, data_url, image_part, mp3, picture, tone, wav

ROOT = Path(__file__).parents[2]
CONFIG = ServerConfig(max_image_pixels=1_000_000)


def refused_image(data: bytes, config: ServerConfig = CONFIG) -> str | None:
    with pytest.raises(APIError) as caught:
        decode_image(data, "here", config)
    assert (caught.value.status, caught.value.param) == (400, "here")
    return caught.value.code


def refused_audio(data: bytes, format: AudioFormat = "wav", max_s: float = 10.0) -> str | None:
    with pytest.raises(APIError) as caught:
        decode_clip(data, format, "here", max_s, 16_000)
    assert (caught.value.status, caught.value.param) == (400, "here")
    return caught.value.code


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF"])
def test_pictures_become_rgb(format: str):
    pixels = decode_image(picture(format), "here", CONFIG)
    assert (pixels.shape, pixels.dtype) == ((6, 8, 3), np.uint8)
    assert np.abs(pixels.astype(int) - [255, 0, 0]).max() < 10


@pytest.mark.parametrize(
    ("format", "mode", "color", "rgb"),
    [
        ("PNG", "RGBA", (255, 0, 0, 0), (255, 255, 255)),  # what cannot be seen is white
        ("PNG", "RGBA", (255, 0, 0, 128), (255, 127, 127)),
        ("PNG", "LA", (0, 0), (255, 255, 255)),
        ("PNG", "L", 100, (100, 100, 100)),
        ("PNG", "1", 1, (255, 255, 255)),
        ("PNG", "P", 0, (0, 0, 0)),
        ("PNG", "I;16", 100 * 256, (100, 100, 100)),
        ("JPEG", "CMYK", (0, 255, 255, 0), (254, 0, 0)),
        ("WEBP", "RGBA", (255, 0, 0, 0), (255, 255, 255)),
    ],
)
def test_every_mode_becomes_rgb(format: str, mode: str, color, rgb):
    pixels = decode_image(picture(format, mode=mode, color=color), "here", CONFIG)
    assert np.abs(pixels.astype(int) - rgb).max() <= 2


def test_a_transparent_palette_is_laid_on_white():
    image = PIL.Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    file = io.BytesIO()
    image.save(file, "PNG", transparency=b"\xff\x00")
    assert (decode_image(file.getvalue(), "here", CONFIG) == 255).all()


def test_a_photo_is_turned_upright():
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    assert decode_image(picture("JPEG", size=(8, 6), exif=exif), "here", CONFIG).shape == (8, 6, 3)


def test_a_large_picture_is_scaled_to_fit():
    assert decode_image(picture(size=(4 * MAX_SIDE, 100)), "here", CONFIG).shape == (25, MAX_SIDE, 3)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK"])
@pytest.mark.parametrize("size", [(900, 1500), (2500, 701), (3, 5000)])
def test_shrinking_in_bands_shows_the_same_picture(mode: str, size: tuple[int, int]):
    """Against Pillow's own way, which holds the whole picture in the widest mode."""
    shape = (size[1] // 10 + 1, size[0] // 10 + 1, 3)
    noise = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8))
    drawn = noise.resize(size, PIL.Image.Resampling.BILINEAR).convert(mode)
    file = io.BytesIO()
    drawn.save(file, "JPEG" if mode == "CMYK" else "PNG", **({"quality": 100} if mode == "CMYK" else {}))
    pixels = decode_image(file.getvalue(), "here", ServerConfig())
    expected = drawn.convert("RGB")
    expected.thumbnail((MAX_SIDE, MAX_SIDE))
    assert pixels.shape == (expected.height, expected.width, 3)
    assert np.abs(pixels.astype(int) - np.asarray(expected)).mean() < 4


def test_a_large_photo_is_turned_upright_too():
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    assert decode_image(picture("JPEG", size=(3000, 2000), exif=exif), "here", CONFIG).shape[:2] == (MAX_SIDE, 683)


def test_a_photo_may_be_larger_than_what_must_be_held_whole():
    config = ServerConfig(max_image_pixels=64 * 64, max_photo_pixels=64 * 64 * 2)
    size = (64, 128)
    assert decode_image(picture("JPEG", size=size), "here", config).shape == (128, 64, 3)
    assert decode_image(picture("JPEG", size=size, mode="L", color=9), "here", config).shape == (128, 64, 3)
    assert refused_image(picture("JPEG", size=(65, 128)), config) == "image_too_large"
    assert refused_image(picture("JPEG", size=size, progressive=True), config) == "image_too_large"
    assert refused_image(picture("PNG", size=size), config) == "image_too_large"
    one_scan = picture("JPEG", size=size)
    scan = one_scan.index(b"\xff\xda")
    several = one_scan[: scan + 4] + b"\x01" + one_scan[scan + 5 :]  # the first of several scans, it says
    padded = one_scan[:2] + b"\xff" + one_scan[2:]
    assert [refused_image(data, config) for data in (several, padded, one_scan[:scan])] == ["image_too_large"] * 3


# VmHWM, for ru_maxrss begins with the peak of the process that started this one.
PEAK = """
import re, sys
from sensorium.server.config import ServerConfig
from sensorium.server.picture_in import decode_image

def peak_kib():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])

small, *large = [open(path, "rb").read() for path in sys.argv[1:]]
decode_image(small, "here", ServerConfig())  # with all that is loaded on first use
before = peak_kib()
for data in large:
    decode_image(data, "here", ServerConfig())
    print((peak_kib() - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a peak without its parent's")
def test_a_small_file_does_not_unfold_to_hundreds_of_megabytes(tmp_path: Path):
    side = 4096
    pictures = {
        "small.png": picture(),
        "photo.jpg": picture("JPEG", size=(8192, 6144)),
        "palette.png": picture(size=(side, side), mode="P", color=1, transparency=b"\xff\x80"),
        "deep.png": picture(size=(side, side), mode="I;16", color=25_000),
        "clear.png": picture(size=(side, side), mode="LA", color=(9, 9)),
    }
    for name, data in pictures.items():
        (tmp_path / name).write_bytes(data)
    command = [sys.executable, "-c", PEAK, *(str(tmp_path / name) for name in pictures)]
    peaks_mib = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert len(peaks_mib) == 4
    assert max(map(int, peaks_mib)) < 128, dict(zip(list(pictures)[1:], peaks_mib, strict=True))


def test_bad_pictures_are_refused():
    png = picture(size=(64, 64), mode="RGB", color="red")
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(noise).save(file, "PNG")
    assert refused_image(b"") == "empty_image_file"
    assert refused_image(b"GIF89a") in ("image_parse_error", "invalid_image_format")
    assert refused_image(b"<svg xmlns='http://www.w3.org/2000/svg'/>") == "invalid_image_format"
    assert refused_image(picture("BMP")) == "invalid_image_format"
    assert refused_image(file.getvalue()[:-2000]) == "image_parse_error"
    assert refused_image(png, ServerConfig(max_image_pixels=64 * 63)) == "image_too_large"


def test_a_header_that_claims_a_huge_picture_is_not_believed():
    png = bytearray(picture())
    png[16:24] = struct.pack(">II", 2**30, 2**30)
    png[29:33] = struct.pack(">I", zlib.crc32(bytes(png[12:29])))
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # as in production, where Pillow's own alarm is only a warning
        assert refused_image(bytes(png)) == "image_too_large"
    assert refused_image(bytes(png)) == "image_too_large"


def test_animated_pictures_are_refused():
    frames = [PIL.Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    for format in ("GIF", "PNG", "WEBP"):
        file = io.BytesIO()
        frames[0].save(file, format, save_all=True, append_images=frames[1:])
        assert refused_image(file.getvalue()) == "invalid_image_format"


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF"])
def test_damaged_pictures_never_escape_as_other_errors(format: str):
    rng = np.random.default_rng(0)
    noise = PIL.Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8))
    file = io.BytesIO()
    noise.save(file, format)
    for _ in range(60):
        damaged = bytearray(file.getvalue())
        for position in rng.integers(0, len(damaged), 4):
            damaged[position] = rng.integers(0, 256)
        try:
            decode_image(bytes(damaged[: rng.integers(1, len(damaged) + 1)]), "here", CONFIG)
        except APIError:
            pass


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("data:image/png;base64,@@@@", "invalid_base64_image"),
        ("data:image/png;base64,abc", "invalid_base64_image"),
        ("data:image/png,abcd", "invalid_image_url"),
        ("data:image/png;base64", "invalid_image_url"),
        ("data:text/plain;base64,abcd", "unsupported_image_media_type"),
        ("data:image/png;base64," + "A" * 2000, "image_file_too_large"),
    ],
)
def test_bad_data_urls_are_refused(url: str, code: str):
    with pytest.raises(APIError) as caught:
        image_from_data_url(url, "here", 1000)
    assert (caught.value.code, caught.value.param) == (code, "here")


def test_data_urls_may_have_line_breaks_and_parameters():
    text = b64(b"0123456789" * 10)
    broken = "\r\n".join(text[start : start + 76] for start in range(0, len(text), 76))
    assert image_from_data_url(f"DATA:image/png;name=a.png;base64,{broken}", "here", 1000) == b"0123456789" * 10


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "ULAW"])
def test_wav_clips_become_mono(subtype: str):
    clip = decode_clip(wav(num_channels=2, rate_hz=44_100, subtype=subtype), "wav", "here", 10, 44_100)
    assert (clip.waveform.dtype, clip.waveform.shape, clip.sample_rate_hz) == (np.float32, (22_050,), 44_100)
    assert np.abs(clip.waveform - tone(rate_hz=44_100)).max() < 0.02


@pytest.mark.parametrize("num_channels", [1, 2])
def test_mp3_clips_become_mono(num_channels: int):
    clip = decode_clip(mp3(num_channels=num_channels), "mp3", "here", 10, 24_000)
    assert (clip.waveform.dtype, clip.sample_rate_hz) == (np.float32, 24_000)
    assert abs(len(clip.waveform) - 12_000) < 1200
    assert 0.3 < np.abs(clip.waveform).max() < 0.7


def test_a_wav_whose_writer_could_not_seek_back_is_read():
    data = bytearray(wav())
    data[40:44] = b"\xff\xff\xff\xff"
    assert len(decode_clip(bytes(data), "wav", "here", 10, 16_000).waveform) == 8000


def test_bad_clips_are_refused():
    assert refused_audio(b"") == "invalid_value"
    assert refused_audio(wav()[:44]) == "invalid_value"
    assert refused_audio(wav(seconds=0)) == "invalid_value"
    assert refused_audio(wav()[: len(wav()) // 2]) == "invalid_value"
    assert refused_audio(b"RIFF\x00\x00\x00\x00WAVE") == "invalid_value"
    assert refused_audio(mp3(), "wav") == "invalid_value"
    assert refused_audio(wav(), "mp3") == "invalid_value"
    assert refused_audio(b"\xff\xfb\x90\x00" * 500, "mp3") == "invalid_value"
    assert refused_audio(b"ID3" + bytes(200), "mp3") == "invalid_value"
    assert refused_audio(wav(seconds=2), max_s=1) == "audio_too_large"
    assert refused_audio(mp3(seconds=2), "mp3", max_s=1) == "audio_too_large"
    assert refused_audio(wav(num_channels=9)) == "invalid_value"
    assert refused_audio(wav(rate_hz=1000)) == "invalid_value"
    nan = bytearray(wav(subtype="FLOAT"))
    nan[-4:] = struct.pack("<f", float("nan"))
    assert refused_audio(bytes(nan)) == "invalid_value"


@pytest.mark.parametrize("format", ["wav", "mp3"])
def test_damaged_clips_never_escape_as_other_errors(format):
    rng = np.random.default_rng(0)
    whole = wav() if format == "wav" else mp3()
    for _ in range(60):
        damaged = bytearray(whole)
        for position in rng.integers(0, 200, 4):
            damaged[position] = rng.integers(0, 256)
        try:
            decode_clip(bytes(damaged[: rng.integers(1, len(damaged) + 1)]), format, "here", 10, 16_000)
        except APIError:
            pass


def test_the_engine_gets_clips_at_its_own_rate(server: Live):
    for data, format in ((wav(rate_hz=44_100, num_channels=2), "wav"), (mp3(rate_hz=24_000), "mp3")):
        assert server.chat([audio_part(data, format)]).status_code == 200
        (clip,) = server.engine.requests[-1].messages[0].parts
        assert isinstance(clip, Audio)
        assert clip.sample_rate_hz == 16_000
        assert abs(clip.duration_ms - 500 - QUIET_BEFORE_MS - QUIET_BEHIND_MS) < 60


@pytest.mark.parametrize("name", ["decode_image", "decode_clip"])
def test_decoding_never_runs_on_the_event_loop(server: Live, monkeypatch: pytest.MonkeyPatch, name: str):
    on_loop = []
    decode = getattr(media, name)

    def watched(*args):
        on_loop.append(asyncio._get_running_loop() is not None)
        return decode(*args)

    monkeypatch.setattr(media, name, watched)
    assert server.chat([image_part(data_url(picture())), audio_part(wav())]).status_code == 200
    assert on_loop == [False]


def test_the_size_of_a_picture_is_never_looked_up_on_the_event_loop(server: Live, monkeypatch: pytest.MonkeyPatch):
    """To say which side is up Pillow decodes all of a PNG."""
    on_loop = []
    look = media.upright_size

    def watched(data: bytes) -> tuple[int, int]:
        on_loop.append(asyncio._get_running_loop() is not None)
        return look(data)

    monkeypatch.setattr(media, "upright_size", watched)
    files = {"image": ("a.png", picture()), "mask": ("m.png", picture(mode="RGBA", color=(0, 0, 0, 0)))}
    asked = {"prompt": "make it blue", "model": "gpt-image-1"}
    assert server.http.post("/v1/images/edits", data=asked, files=files).status_code == 200
    assert on_loop == [False, False]


def test_few_files_are_decoded_at_once(monkeypatch: pytest.MonkeyPatch):
    """However many requests come, and whether their clients wait or not."""
    running, most, lock = 0, 0, threading.Lock()

    def watched(name: str):
        decode = getattr(media, name)

        def run(*args):
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.02)
            with lock:
                running -= 1
            return decode(*args)

        return run

    for name in ("decode_image", "decode_clip"):
        monkeypatch.setattr(media, name, watched(name))
    with live(max_concurrent_decodes=2) as server, ThreadPoolExecutor(8) as pool:
        parts = [image_part(data_url(picture())), audio_part(wav())]
        answers = [pool.submit(server.chat, [part]) for part in parts * 8]
        assert [answer.result().status_code for answer in answers] == [200] * 16
    assert most == 2


def test_refusals_name_the_part(server: Live):
    text = {"type": "text", "text": "what is this?"}
    where = "messages[0].content[1].image_url"
    assert server.refusal([text, image_part(data_url(b"nonsense"))]) == (where, "invalid_image_format")
    assert server.refusal([text, image_part(data_url(picture()), detail="ultra")]) == (
        f"{where}.detail",
        "invalid_value",
    )
    assert server.refusal([text, {"type": "image_url"}]) == (where, "missing_required_parameter")
    where = "messages[0].content[1].input_audio"
    assert server.refusal([text, audio_part(b"nonsense")]) == (where, "invalid_value")
    assert server.refusal([text, audio_part(wav(), "flac")]) == (f"{where}.format", "invalid_value")
    bad = {"type": "input_audio", "input_audio": {"data": "@@@", "format": "wav"}}
    assert server.refusal([text, bad]) == (where, "invalid_value")
    assert server.chat([text, image_part(data_url(picture()))]).status_code == 200


def test_limits_hold_for_all_parts_together():
    with live(max_images=2, max_audio_s=1.0, max_image_bytes=500, max_audio_bytes=100_000) as server:
        pictures = [image_part(data_url(picture()))] * 3
        assert server.refusal(pictures) == ("messages[0].content[2].image_url", "array_above_max_length")
        clips = [audio_part(wav(seconds=0.4))] * 3
        assert server.refusal(clips) == ("messages[0].content[2].input_audio", "audio_too_large")
        assert server.refusal([audio_part(bytes(100_002))]) == ("messages[0].content[0].input_audio", "audio_too_large")
        big = [image_part(data_url(bytes(600)))]
        assert server.refusal(big) == ("messages[0].content[0].image_url", "image_file_too_large")
        assert server.chat(clips[:2] + pictures[:2]).status_code == 200


@pytest.mark.parametrize(
    ("limits", "num_images", "seconds"), [({}, 2, 16.0), ({"image_tokens": 50, "audio_tokens_per_s": 25.0}, 4, 8.0)]
)
def test_what_the_context_cannot_hold_is_not_decoded(
    monkeypatch: pytest.MonkeyPatch, limits: dict[str, float], num_images: int, seconds: float
):
    """200 positions: the engine would refuse more in any case, but only after all of it was decoded."""
    engine = FakeEngine(max_tokens=10_000)
    engine.info = EngineInfo(model="m", max_tokens=200, sample_rate_hz=16_000, voices=engine.info.voices, limits=limits)
    decoded = []
    for name in ("decode_image", "decode_clip"):
        decode = getattr(media, name)
        monkeypatch.setattr(media, name, lambda *args, decode=decode: decoded.append(1) or decode(*args))
    too_long = ("messages", "context_length_exceeded")
    with live(engine) as server:
        pictures = [image_part(data_url(picture()))] * 32
        assert server.refusal(pictures) == server.refusal(pictures, stream=True) == too_long
        assert len(decoded) == 2 * (200 // (limits.get("image_tokens", 64)))
        assert server.refusal([audio_part(wav(seconds=seconds + 0.1))]) == too_long
        assert server.refusal([audio_part(mp3(seconds=2 * seconds), "mp3")]) == too_long
        assert server.refusal([*pictures[:num_images], audio_part(wav(seconds=seconds))]) == too_long
        assert server.chat(pictures[:num_images]).status_code != 500


def test_the_operators_limit_on_sound_is_told_where_it_is_the_shorter():
    with live(FakeEngine(max_tokens=200), max_audio_s=1.0) as server:
        where = "messages[0].content[0].input_audio"
        assert server.refusal([audio_part(wav(seconds=2))]) == (where, "audio_too_large")
