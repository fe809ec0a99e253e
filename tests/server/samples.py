"""Small clips and pictures in the file formats that clients send."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import PIL.Image
import soundfile


def tone(seconds: float = 0.5, rate_hz: int = 16_000) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def wav(seconds: float = 0.5, rate_hz: int = 16_000, num_channels: int = 1, subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    samples = np.repeat(tone(seconds, rate_hz)[:, None], num_channels, axis=1)
    soundfile.write(file, samples, rate_hz, format="WAV", subtype=subtype)
    return file.getvalue()


def mp3(seconds: float = 0.5, rate_hz: int = 24_000, num_channels: int = 1) -> bytes:
    file = io.BytesIO()
    samples = np.repeat(tone(seconds, rate_hz)[:, None], num_channels, axis=1)
    soundfile.write(file, samples, rate_hz, format="MP3")
    return file.getvalue()


def picture(
    format: str = "PNG", size: tuple[int, int] = (8, 6), mode: str = "RGB", color: Any = "red", **save: Any
) -> bytes:
    file = io.BytesIO()
    PIL.Image.new(mode, size, color).save(file, format, **save)
    return file.getvalue()


def striped(size: tuple[int, int]) -> bytes:
    """A PNG of which no part is plain."""
    file = io.BytesIO()
    stripes = np.tile(np.array([[255], [255], [0], [0]], np.uint8), (size[1] // 4 + 1, size[0]))[: size[1]]
    PIL.Image.fromarray(stripes).convert("RGB").save(file, "PNG")
    return file.getvalue()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def data_url(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{b64(data)}"


def image_part(url: str, **fields: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **fields}}


def audio_part(data: bytes, format: str = "wav") -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": {"data": b64(data), "format": format}}
