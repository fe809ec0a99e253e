"""What a player makes of a file: ffprobe and ffmpeg, which know nothing of this project."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

needs_ffmpeg = pytest.mark.skipif(
    not (shutil.which("ffprobe") and shutil.which("ffmpeg")), reason="needs ffprobe and ffmpeg: apt-get install ffmpeg"
)


def probed(data: bytes, path: Path) -> dict[str, Any]:
    """What ffprobe finds in a file of one stream, every packet of it read without a word of complaint."""
    path.write_bytes(data)
    command = ["ffprobe", "-v", "error", "-count_packets", "-show_streams", "-of", "json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    (stream,) = json.loads(done.stdout)["streams"]
    return stream


def played(data: bytes, path: Path, rate_hz: int, *read_as: str) -> np.ndarray:
    """The sound in a file as ffmpeg decodes it without a word of complaint, (N,) int16 at a rate.

    `read_as` are options of ffmpeg for a file that does not say what it is.
    """
    path.write_bytes(data)
    command = ["ffmpeg", "-v", "error", *read_as, "-i", str(path), "-f", "s16le", "-ac", "1", "-ar", str(rate_hz), "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stderr == b""
    return np.frombuffer(done.stdout, "<i2")


def shown(data: bytes, path: Path, channels: int) -> np.ndarray:
    """A picture as ffmpeg decodes it without a word of complaint, (H, W, 3) or with alpha (H, W, 4) uint8."""
    found = probed(data, path)
    pixel_format = {3: "rgb24", 4: "rgba"}[channels]
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", pixel_format, "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stderr == b""
    return np.frombuffer(done.stdout, np.uint8).reshape(found["height"], found["width"], channels)
