"""Films off the wire: mp4, mov and webm files -> frames at a chosen rate with their times, and the sound track in step.

A file of a few kilobytes may unfold to hours, or to frames of hundreds of megabytes. So the size of a frame is bounded
before one is decoded, in the decoder itself too, since it may change on the way; length and number of frames are
bounded by the header and then by what comes; and of each frame that is kept only a small copy is held.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from sensorium.messages import Audio, Image, Video
from sensorium.server.container import DAMAGE, SoundTrack, opened, reader_of
from sensorium.server.errors import APIError, invalid

MAX_FRAME_SIDE = 256  # frames are scaled down to fit: an engine sees less
DEFAULT_FPS = 1.0  # a second's frame, note, mark and sound take 46 positions of a stream; two frames would take 78
MIN_FPS, MAX_FPS = 0.05, 4.0

_MAX_FILE_FPS = 240  # of a file, on average: what slow motion is recorded at
_READERS = ("mov", "matroska")
_CODECS = ("h264", "hevc", "vp8", "vp9", "av1", "libdav1d", "mpeg4")
_MOST_PIXELS = 2**33  # of all frames together, kept or not: half a minute's decoding, 138 s of full HD
_SILENCE = 1e-4  # of full scale: nobody hears what stays below it
_SLACK_S = 0.5  # a film may be so much longer than it says
_SHORTFALL_S = 2.0  # and so much shorter: the last frame of one that shows little may be seen for long


@dataclass(frozen=True, kw_only=True)
class FilmBounds:
    max_pixels: int  # of a frame
    max_s: float
    max_frames: int  # that are kept


class FilmTooLong(APIError):
    """A film has more seconds than are left to its request."""

    def __init__(self, param: str, max_s: float) -> None:
        message = f"The films and clips of this request are longer than allowed ({max_s:g} s are left)."
        super().__init__(message, param=param, code="video_too_long")


def is_film(data: bytes) -> bool:
    """By its first bytes: whether it is an MP4, MOV or WebM file, though there may only be sound in it."""
    return reader_of(data) in _READERS


def has_pictures(data: bytes) -> bool:
    """Whether there is a picture track in a film, or may be: where it is damaged, that is for `decode_film` to say."""
    reader = reader_of(data)
    assert reader is not None
    try:
        with opened(io.BytesIO(data), reader) as container:
            return _picture_track(container) is not None
    except DAMAGE:
        return True


def decode_film(data: bytes, param: str, bounds: FilmBounds, *, fps: float | None, sample_rate_hz: int) -> Video:
    """A film with `fps` frames a second, the sound mono. With no `fps` it is DEFAULT_FPS, or a half, a quarter, .. of
    that, for as many frames as `bounds` allow.

    A frame is what is to be seen at its time, which is a multiple of 1 / fps. Raises APIError naming `param`.
    """
    if not data:
        raise invalid("The film is empty.", param, "empty_video_file")
    reader = reader_of(data)
    if reader is None or reader not in _READERS:
        raise invalid("The film is not an MP4, MOV or WebM file.", param, "invalid_video_format")
    try:
        with opened(io.BytesIO(data), reader, max_pixels=bounds.max_pixels) as container:
            shown, sounding = _pictures(container, param, bounds), next(iter(container.streams.audio), None)
            told_s = (container.duration or 0) / av.time_base
            if told_s > bounds.max_s + _SLACK_S:
                raise FilmTooLong(param, bounds.max_s)
            if fps is not None and told_s * fps >= bounds.max_frames + 1:
                raise _too_many(param, bounds)
            stretch = float(shown.sample_aspect_ratio or 1.0)
            seen = _Seen(fps, param, bounds, stretch=stretch if 0.1 <= stretch <= 10.0 else 1.0)
            heard = None if sounding is None else _Heard(sounding, sample_rate_hz, param, bounds)
            for packet in container.demux([shown] if sounding is None else [shown, sounding]):
                for frame in packet.decode():
                    if isinstance(frame, VideoFrame):
                        seen.push(frame)
                    elif isinstance(frame, AudioFrame) and heard is not None:
                        heard.push(frame)
            frames, times_s, start_s = seen.finish()
            if told_s - max(seen.length_s, heard.length_s if heard else 0.0) > _SHORTFALL_S:
                raise _damaged(param)  # it was cut short
            sound = None if heard is None else heard.finish(start_s)
    except APIError:
        raise
    except Exception as error:  # FFmpeg's errors, and what a file that contradicts itself makes of our own arithmetic
        raise _damaged(param) from error
    return Video(
        frames=tuple(Image(pixels=pixels) for pixels in frames),
        times_ms=tuple(1000.0 * time_s for time_s in times_s),
        sound=None if sound is None else Audio(waveform=sound, sample_rate_hz=sample_rate_hz),
    )


def _damaged(param: str) -> APIError:
    return invalid("The film is damaged and cannot be decoded.", param, "video_parse_error")


def _picture_track(container: InputContainer) -> VideoStream | None:
    covers = Disposition.attached_pic  # a picture on the box, not in the film
    return next((stream for stream in container.streams.video if not stream.disposition & covers), None)


def _pictures(container: InputContainer, param: str, bounds: FilmBounds) -> VideoStream:
    """The first picture track, ready to decode within bounds."""
    shown = _picture_track(container)
    if shown is None:
        raise invalid("The file has no picture track: send sound as a clip.", param, "invalid_video_format")
    context = shown.codec_context
    if context.name not in _CODECS:
        raise invalid(f"Films in {context.name} are not read.", param, "invalid_video_format")
    if not 0 < context.width * context.height <= bounds.max_pixels:
        raise invalid(f"A frame of the film has more than {bounds.max_pixels} pixels.", param, "video_too_large")
    context.thread_count = 1  # each thread of a decoder holds frames of its own
    context.options = {"max_pixels": str(bounds.max_pixels)}
    return shown


def _too_many(param: str, bounds: FilmBounds) -> APIError:
    message = f"That are more than {bounds.max_frames} frames: ask for fewer a second, or for a part of the film."
    return invalid(message, f"{param}.fps", "video_too_long")


class Ticks:
    """What is to be seen every `step_s`. Where that would be more than `max_frames`, every other one goes."""

    def __init__(self, step_s: float, max_frames: int) -> None:
        self.step_s = step_s
        self.kept: list[np.ndarray] = []
        self._max_frames = max_frames

    @property
    def times_s(self) -> list[float]:
        return [self.step_s * index for index in range(len(self.kept))]

    def show(self, picture: Callable[[], np.ndarray], *, until_s: float) -> bool:
        """The picture is to be seen until then, from where the one before it was. False if a frame had to go."""
        whole = True
        while len(self.kept) * self.step_s < until_s - 1e-6:
            if len(self.kept) >= self._max_frames:
                self.kept = self.kept[::2]
                self.step_s *= 2
                whole = False
            else:
                self.kept.append(picture())
        return whole


class _Seen:
    """Takes the frames of a file in order, and keeps what is to be seen at every tick."""

    def __init__(self, fps: float | None, param: str, bounds: FilmBounds, *, stretch: float) -> None:
        self._ticks, self._may_thin = Ticks(1 / (fps or DEFAULT_FPS), bounds.max_frames), fps is None
        self._param, self._bounds, self._stretch = param, bounds, stretch
        self._last: VideoFrame | None = None
        self._start_s = self._last_s = 0.0
        self._num_seen = self._num_pixels = 0

    def push(self, frame: VideoFrame) -> None:
        self._num_seen += 1
        self._num_pixels += frame.width * frame.height
        if frame.width * frame.height > self._bounds.max_pixels:
            raise invalid("A frame of the film is too large.", self._param, "video_too_large")
        if self._num_pixels > _MOST_PIXELS:
            raise invalid("The film has too many pixels: send it smaller.", self._param, "video_too_large")
        if self._num_seen > _MAX_FILE_FPS * (self._bounds.max_s + 1):
            raise FilmTooLong(self._param, self._bounds.max_s)
        time_s = self._last_s if frame.time is None else float(frame.time)
        if self._last is None:
            self._start_s = time_s
        if time_s - self._start_s > self._bounds.max_s + _SLACK_S:
            raise FilmTooLong(self._param, self._bounds.max_s)
        if self._last is not None:
            self._show(self._last, until_s=time_s - self._start_s)
        self._last, self._last_s = frame, max(time_s, self._last_s)

    @property
    def length_s(self) -> float:
        """Up to the last frame."""
        return self._last_s - self._start_s

    def finish(self) -> tuple[list[np.ndarray], list[float], float]:
        """The frames, their times in seconds since the film began, and when that was by the file's clock."""
        if self._last is None:
            raise _damaged(self._param)
        self._show(self._last, until_s=self._last_s - self._start_s + 1e-3)
        return self._ticks.kept, self._ticks.times_s, self._start_s

    def _show(self, frame: VideoFrame, *, until_s: float) -> None:
        if not self._ticks.show(partial(_small, frame, self._stretch), until_s=until_s) and not self._may_thin:
            raise _too_many(self._param, self._bounds)


def _small(frame: VideoFrame, stretch: float) -> np.ndarray:
    """(H, W, 3) uint8, upright, at most MAX_FRAME_SIDE on a side. Pixels are `stretch` times as wide as high."""
    width, height = frame.width * stretch, float(frame.height)
    scale = min(1.0, MAX_FRAME_SIDE / max(width, height))
    small = frame.reformat(max(1, round(width * scale)), max(1, round(height * scale)), format="rgb24")
    turns = round(frame.rotation / 90) % 4  # a telephone's film says which side is up
    return np.ascontiguousarray(np.rot90(small.to_ndarray(), turns))


class _Heard:
    """Takes the sound of a file in order, and keeps it mono at the rate asked for."""

    def __init__(self, stream: AudioStream, sample_rate_hz: int, param: str, bounds: FilmBounds) -> None:
        self._rate_hz, self._param, self._bounds = sample_rate_hz, param, bounds
        self._track = SoundTrack(
            stream, rate_hz=sample_rate_hz, param=param, code="invalid_video_format", on_clock=True
        )
        self._blocks: list[np.ndarray] = []
        self._start_s: float | None = None
        self._num_samples = 0

    def push(self, frame: AudioFrame) -> None:
        if self._start_s is None:
            self._start_s = 0.0 if frame.time is None else float(frame.time)
        self._add(self._track.push(frame))

    def _add(self, blocks: Iterable[np.ndarray]) -> None:
        for block in blocks:
            self._blocks.append(block)
            self._num_samples += len(block)
            if self._num_samples > (self._bounds.max_s + _SLACK_S) * self._rate_hz:
                raise FilmTooLong(self._param, self._bounds.max_s)

    @property
    def length_s(self) -> float:
        return self._num_samples / self._rate_hz

    def finish(self, start_s: float) -> np.ndarray | None:
        """(N,) from where the picture begins, silent until the sound does; None if it is never more than silence."""
        if self._start_s is None:
            return None
        self._add(self._track.push(None))
        waveform = np.concatenate(self._blocks or [np.zeros(0, np.float32)])
        late = round((self._start_s - start_s) * self._rate_hz)
        if late > (self._bounds.max_s + _SLACK_S) * self._rate_hz:
            raise FilmTooLong(self._param, self._bounds.max_s)
        waveform = np.pad(waveform, (late, 0)) if late > 0 else waveform[-late:]
        is_silent = np.abs(waveform).max(initial=0.0) < _SILENCE
        return None if is_silent else waveform.astype(np.float32)
