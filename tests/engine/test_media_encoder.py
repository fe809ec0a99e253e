from __future__ import annotations

import numpy as np
import pytest

from sensorium.engine.media_encoder import MediaEncoder
from sensorium.messages import Audio, Image, Video
from sensorium.tokenizers.encoded import HIDDEN
from sensorium.tokenizers.image import fit_square
from sensorium.tokenizers.release import Release


@pytest.fixture(scope="module")
def media(release: Release) -> MediaEncoder:
    return MediaEncoder(release.audio_tokenizer, release.image_tokenizer)


def clip(seconds: float, rate_hz: int) -> Audio:
    times_s = np.arange(round(seconds * rate_hz)) / rate_hz
    waveform = (0.3 * np.sin(2 * np.pi * 300 * times_s)).astype(np.float32)
    return Audio(waveform=waveform, sample_rate_hz=rate_hz, transcript="hum", voice="echo")


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 24_000, 44_100])
@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.08, 1.0, 1.03])
def test_sound_of_any_rate_and_length(media: MediaEncoder, rate_hz: int, seconds: float):
    sound = clip(seconds, rate_hz)
    encoded, blank = media.audio(sound), media.blank_audio(sound)
    expected = max(1, -(-round(seconds * 16_000) // 1280))
    assert encoded.codes.shape == blank.codes.shape == (expected, 8)
    assert encoded.features is not None
    assert encoded.features.shape == (expected, 192)
    assert (encoded.transcript, encoded.voice) == ("hum", "echo")


def test_rates_sound_alike(media: MediaEncoder):
    low, high = media.audio(clip(1.0, 16_000)), media.audio(clip(1.0, 48_000))
    assert low.features is not None
    assert high.features is not None
    np.testing.assert_allclose(low.features[2:-2], high.features[2:-2], atol=0.2 * np.abs(low.features).max())


@pytest.mark.parametrize("shape", [(64, 64), (1, 1), (300, 7), (20, 200), (640, 480)])
def test_pictures_of_any_size(media: MediaEncoder, shape: tuple[int, int]):
    image = Image(pixels=np.full((*shape, 3), 90, dtype=np.uint8))
    encoded, blank = media.image(image), media.blank_image(image)
    assert encoded.codes.shape == blank.codes.shape == (64, 1)
    assert (fit_square(image.pixels, 64) == 90).all()


def test_patches_with_residual_codes(crisp_release: Release):
    media = MediaEncoder(crisp_release.audio_tokenizer, crisp_release.image_tokenizer)
    image = Image(pixels=np.full((64, 64, 3), 90, dtype=np.uint8))
    assert media.image(image).codes.shape == media.blank_image(image).codes.shape == (64, 4)


def test_a_film_is_pictures_at_half_the_grid(media: MediaEncoder):
    rng = np.random.default_rng(0)
    frames = tuple(Image(pixels=rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)) for _ in range(20))
    film = Video(frames=frames, times_ms=tuple(500.0 * index for index in range(20)), sound=clip(1.0, 24_000))
    encoded, blank = media.film(film), media.blank_film(film)
    assert encoded.times_ms == blank.times_ms == film.times_ms
    assert encoded.sound is not None
    assert blank.sound is not None
    assert encoded.sound.codes.shape == blank.sound.codes.shape
    for frame, empty, whole in zip(encoded.frames, blank.frames, frames, strict=True):
        assert frame.codes.tolist() == empty.codes.tolist() == [[HIDDEN]] * 16
        seen = media.image(whole).features
        assert seen is not None
        assert frame.features is not None
        corner = seen.reshape(8, 8, -1)[:2, :2].mean(axis=(0, 1))
        np.testing.assert_allclose(frame.features[0], corner, atol=1e-4)


def test_a_wide_picture_keeps_its_shape_on_the_colour_of_its_border():
    pixels = np.full((32, 128, 3), 255, dtype=np.uint8)
    pixels[8:24, 56:72] = (255, 0, 0)  # a square in the middle
    square = fit_square(pixels, 64)
    red = (square[..., 0] > 200) & (square[..., 1] < 100)
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    assert len(rows) == len(columns) == 8
    assert abs(rows.mean() - 31.5) <= 1
    assert (square[:20] == 255).all()


def test_a_picture_of_the_right_size_is_left_alone():
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    assert (fit_square(pixels, 64) == pixels).all()
