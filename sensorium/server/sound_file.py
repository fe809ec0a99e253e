"""A sound file of any length, decoded piece by piece: what of it is in memory is bounded, however long it plays.

What a file is, its first bytes say, and only the reader for that is asked: FFmpeg knows formats that name other files
and addresses. Everything is refused by what the header says, where it says it, before a sample is decoded.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import PurePosixPath

import av
import av.error
import numpy as np
from av.audio.stream import AudioStream

from sensorium.server.errors import APIError, invalid
from sensorium.server.media import check_sound, check_wav_is_whole

PIECE_S = 5.0  # decoded at a time
_SHORTFALL_S = 0.5  # less sound than a header says, from which on a file counts as cut short

# What a name may end with, by the reader for it.
_ENDINGS = {
    "wav": ("wav", "wave"),
    "flac": ("flac",),
    "ogg": ("ogg", "oga", "opus"),
    "mp3": ("mp3", "mpga", "mpeg"),
    "matroska": ("webm", "mkv", "weba"),
    "mov": ("mp4", "m4a", "mov", "m4b", "m4v"),
    "mpeg": ("mpeg", "mpg"),
    "aac": ("aac",),
}
_KNOWN = frozenset(ending for endings in _ENDINGS.values() for ending in endings)
FORMATS = ("flac", "m4a", "mp3", "mp4", "mpeg", "mpga", "oga", "ogg", "wav", "webm")


class SoundFile:
    """`duration_s` is what the header says, or None. Use as a context."""

    def __init__(self, data: bytes, filename: str, *, rate_hz: int, max_s: float, param: str = "file") -> None:
        """Raises APIError naming `param` for what is no sound file, or a longer one than allowed."""
        if not data:
            raise invalid("The file is empty.", param)
        self._param, self._rate_hz, self._max_s = param, rate_hz, max_s
        reader = _reader(data)
        ending = PurePosixPath(filename.replace("\\", "/")).suffix.lower().lstrip(".")
        if reader is None or (ending in _KNOWN and ending not in _ENDINGS[reader]):
            what = f"is not in the format that its name says: {ending}" if reader else "is in none of the formats read"
            raise invalid(f"The file {what}. Supported formats: {', '.join(FORMATS)}.", param, "invalid_file_format")
        try:
            if reader == "wav":
                check_wav_is_whole(data)
            self._container = av.open(io.BytesIO(data), "r", format=reader)
        except (av.error.FFmpegError, ValueError, struct.error) as error:
            raise self._damaged() from error
        try:
            self._stream = self._audio_stream()
            self.duration_s = self._told_s()
            if self.duration_s is not None and self.duration_s > max_s:
                raise self._too_long()
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> SoundFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def pieces(self) -> Iterator[np.ndarray]:
        """Mono float32 in [-1, 1] at the rate asked for, a few seconds at a time. Blocks: call it in a thread.

        Raises APIError when the file turns out to be damaged, without sound, or too long.
        """
        waiting: list[np.ndarray] = []
        num_waiting = num_decoded = 0
        try:
            for block in self._blocks():
                num_decoded += len(block)
                if num_decoded > self._max_s * self._rate_hz:
                    raise self._too_long()
                waiting.append(block)
                num_waiting += len(block)
                if num_waiting >= PIECE_S * self._rate_hz:
                    yield np.concatenate(waiting)
                    waiting, num_waiting = [], 0
        except (av.error.FFmpegError, ValueError) as error:
            raise self._damaged() from error
        if not num_decoded:
            raise invalid("The file holds no sound.", self._param)
        if self.duration_s is not None and num_decoded < (self.duration_s - _SHORTFALL_S) * self._rate_hz:
            raise self._damaged()
        if waiting:
            yield np.concatenate(waiting)

    def _blocks(self) -> Iterator[np.ndarray]:
        resampler = av.AudioResampler(format="flt", layout="mono", rate=self._rate_hz)
        for frame in self._container.decode(self._stream):
            check_sound(frame.sample_rate, frame.layout.nb_channels, self._param)  # it may change on the way
            for unified in resampler.resample(frame):
                yield self._checked(unified.to_ndarray()[0])
        for unified in resampler.resample(None):
            yield self._checked(unified.to_ndarray()[0])

    def _checked(self, block: np.ndarray) -> np.ndarray:
        if not np.isfinite(block).all():
            raise invalid("The file holds samples that are not numbers.", self._param)
        return np.clip(block, -1.0, 1.0)

    def _audio_stream(self) -> AudioStream:
        if not self._container.streams.audio:
            raise invalid("The file holds no sound.", self._param)
        stream = self._container.streams.audio[0]
        if stream.codec_context is None:
            raise self._damaged()
        check_sound(stream.codec_context.sample_rate, stream.codec_context.channels, self._param)
        return stream

    def _told_s(self) -> float | None:
        if self._stream.duration is not None and self._stream.time_base is not None:
            told_s = float(self._stream.duration * self._stream.time_base)
        elif self._container.duration is not None:
            told_s = self._container.duration / av.time_base
        else:
            return None
        # of an MP3 without a table it is a guess, and an unfinished WAV says the most that it can
        return told_s if self._container.format.name not in ("mp3", "aac", "mpeg") and told_s > 0 else None

    def _damaged(self) -> APIError:
        return invalid("The file is damaged and cannot be decoded.", self._param, "invalid_file_format")

    def _too_long(self) -> APIError:
        return invalid(f"The file is longer than the {self._max_s:g} s allowed.", self._param, "audio_too_large")


def _reader(data: bytes) -> str | None:
    """The one reader that gets to see a file, by its first bytes."""
    if data[:4] in (b"RIFF", b"RIFX", b"RF64") and data[8:12] == b"WAVE":
        return "wav"
    if data[4:8] == b"ftyp":
        return "mov"
    for signature, reader in (
        (b"fLaC", "flac"),
        (b"OggS", "ogg"),
        (b"\x1aE\xdf\xa3", "matroska"),
        (b"\x00\x00\x01\xba", "mpeg"),
        (b"ID3", "mp3"),
    ):
        if data.startswith(signature):
            return reader
    if len(data) > 2 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0:
        layer = data[1] & 0x06
        return "aac" if layer == 0 and data[1] & 0xF0 == 0xF0 else "mp3" if layer else None
    return None
