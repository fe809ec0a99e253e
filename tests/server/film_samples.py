"""Small films in the containers that clients send."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.stream import VideoStream

from tests.server.samples import data_url, tone

CODECS = {"mp4": ("libx264", "aac"), "mov": ("libx264", "aac"), "webm": ("libvpx-vp9", "libopus")}
RED_A_SECOND = 60  # how much redder a film gets with every second; its upper half is green besides


def movie(
    format: str = "mp4",
    *,
    seconds: float = 3.0,
    fps: int = 8,
    size: tuple[int, int] = (64, 48),
    sound: bool = True,
    sound_from_s: float = 0.0,
    sound_s: float | None = None,
    pause: tuple[float, float] = (0.0, 0.0),
    volume: float = 1.0,
    picture: bool = True,
) -> bytes:
    """Whole seconds are told apart by their red; the sound is a tone. Its `pause` begins at
    and lasts so many seconds, of which the file has nothing: its times jump."""
    file = io.BytesIO()
    video_codec, audio_codec = CODECS[format]
    with av.open(file, "w", format=format) as container:
        seen = container.add_stream(video_codec, rate=fps) if picture else None
        heard = container.add_stream(audio_codec, rate=48_000, layout="mono") if sound else None
        if isinstance(seen, VideoStream):
            seen.width, seen.height, seen.pix_fmt = *size, "yuv420p"
            for index in range(round(seconds * fps)):
                pixels = np.zeros((size[1], size[0], 3), np.uint8)
                pixels[..., 0] = min(255, RED_A_SECOND * (index // fps))
                pixels[: size[1] // 2, :, 1] = 200
                container.mux(seen.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(seen.encode())
        if isinstance(heard, AudioStream):
            samples = volume * tone(sound_s or seconds - sound_from_s, 48_000)
            _sound(container, heard, samples, round(48_000 * sound_from_s), pause)
    return file.getvalue()


def _sound(
    container: OutputContainer, heard: AudioStream, samples: np.ndarray, start: int, pause: tuple[float, float]
) -> None:
    whole = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
    whole.sample_rate, whole.time_base, whole.pts = 48_000, Fraction(1, 48_000), 0
    pause_at, num_paused = (round(48_000 * seconds) for seconds in pause)
    blocks = av.AudioFifo()
    blocks.write(whole)
    while block := blocks.read(heard.codec_context.frame_size or 960, partial=True):
        if num_paused and start >= pause_at:
            start, num_paused = start + num_paused, 0
        block.pts, block.time_base = start, Fraction(1, 48_000)
        start += block.samples
        container.mux(heard.encode(block))
    container.mux(heard.encode())


def film_part(data: bytes, media_type: str = "video/mp4", **fields: Any) -> dict[str, Any]:
    return {"type": "video_url", "video_url": {"url": data_url(data, media_type), **fields}}
