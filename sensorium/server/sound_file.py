"""A sound file of any length, decoded piece by piece: what of it is in memory is bounded, however long it plays.

Everything is refused by what the header says, where it says it, before a sample is decoded.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import PurePosixPath
from threading import Lock
from typing import BinaryIO

import av
import numpy as np
from av.audio.frame import AudioFrame

from sensorium.server.container import DAMAGE, HEAD_BYTES, SoundTrack, opened, reader_of
from sensorium.server.errors import APIError, invalid

PIECE_S = 5.0  # decoded at a time
_LATE_S = 0.1  # what codecs and containers disagree by is less
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
_ON_CLOCK = ("mov", "matroska")  # films: in the others times only count the samples, or guess
_KNOWN = frozenset(ending for endings in _ENDINGS.values() for ending in endings)
FORMATS = ("flac", "m4a", "mp3", "mp4", "mpeg", "mpga", "oga", "ogg", "wav", "webm")


class SoundTooLong(APIError):
    """There are more seconds of sound than allowed."""

    def __init__(self, noun: str, max_s: float, param: str) -> None:
        message = f"The {noun} is longer than the {max_s:g} s allowed."
        super().__init__(message, param=param, code="audio_too_large")


class SoundFile:
    """`duration_s` is what the header says, or None. Use as a context; it is read once. Who leaves the context while a
    thread decodes ends that: FFmpeg must not lose what it works on, so the thread closes the file then."""

    def __init__(
        self,
        data: bytes | BinaryIO,
        filename: str,
        *,
        rate_hz: int,
        max_s: float,
        param: str = "file",
        noun: str = "file",
        code: str = "invalid_file_format",
    ) -> None:
        """Raises APIError naming `param` for what is no sound file, with `code`, or a longer one than allowed.

        `noun` is what errors call it. A file that is given open is closed with this one.
        """
        self._param, self._rate_hz, self._max_s, self._noun, self._code = param, rate_hz, max_s, noun, code
        self._file = io.BytesIO(data) if isinstance(data, bytes) else data
        self._decoding, self._is_left, self._is_closed = Lock(), False, False
        head = self._file.read(HEAD_BYTES)
        if not head:
            raise invalid(f"The {noun} is empty.", param)
        reader = reader_of(head)
        ending = PurePosixPath(filename.replace("\\", "/")).suffix.lower().lstrip(".")
        if ending in _KNOWN and (reader is None or ending not in _ENDINGS[reader]):
            raise invalid(f"The {noun} is not in {ending} format.", param, code)
        if reader is None:
            raise invalid(f"The {noun} is in none of the formats read: {', '.join(FORMATS)}.", param, code)
        try:
            self._container = opened(self._file, reader)
        except DAMAGE as error:
            raise self._damaged() from error
        try:
            if not self._container.streams.audio:
                raise invalid(f"The {noun} holds no sound.", param)
            self._stream = self._container.streams.audio[0]
            on_clock = reader in _ON_CLOCK
            self._track = SoundTrack(self._stream, rate_hz=rate_hz, param=param, code=code, on_clock=on_clock)
            self.duration_s = self._told_s()
            self._start_s = (self._container.start_time or 0) / av.time_base
            # where only the file tells its length, a film's picture may go on behind the sound
            is_sounds = self._stream.duration or not self._container.streams.video
            self._least_s = self.duration_s - _SHORTFALL_S if self.duration_s is not None and is_sounds else 0.0
            if self.duration_s is not None and self.duration_s > max_s:
                raise self._too_long()
        except ValueError as error:
            self._container.close()
            raise self._damaged() from error
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> SoundFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_left = True
        self._close()

    def _close(self) -> None:
        """Unless it is being decoded: then that ends with this."""
        if not self._decoding.acquire(blocking=False):
            return
        try:
            if not self._is_closed:
                self._is_closed = True
                self._container.close()
                self._file.close()
        finally:
            self._decoding.release()

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
        except DAMAGE as error:
            raise self._damaged() from error
        if self._is_left:
            return
        if not num_decoded:
            raise invalid(f"The {self._noun} holds no sound.", self._param)
        if num_decoded < self._least_s * self._rate_hz:
            raise self._damaged()
        if waiting:
            yield np.concatenate(waiting)

    def _blocks(self) -> Iterator[np.ndarray]:
        """On the file's clock: where a film's sound begins late, it is silent before, and so it is in a gap."""
        is_first, frames = True, self._container.decode(self._stream)
        while (frame := self._next(frames)) is not None:
            if is_first and frame.time is not None:
                late_s = frame.time - self._start_s
                if late_s > _LATE_S:
                    yield np.zeros(round(min(late_s, self._max_s + 1) * self._rate_hz), np.float32)
            is_first = False
            yield from self._track.push(frame)
        yield from self._track.push(None)

    def _next(self, frames: Iterator[AudioFrame]) -> AudioFrame | None:
        """None at the end, or when nobody wants the file any more."""
        try:
            with self._decoding:
                return None if self._is_left else next(frames, None)
        finally:
            if self._is_left:
                self._close()

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
        return invalid(f"The {self._noun} is damaged and cannot be decoded.", self._param, self._code)

    def _too_long(self) -> APIError:
        return SoundTooLong(self._noun, self._max_s, self._param)
