"""Files with sound or film in them: which one reader may see a file, and the sound track decoded within bounds.

What a file is, its first bytes say, and only the reader for that is asked: FFmpeg knows formats that name other files
and addresses. Of its decoders, too, only those are let in that people's files need.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer

from sensorium.server.errors import invalid

# What may go wrong in a damaged file: in FFmpeg, in what is made of its answers, and in our own look at the header.
DAMAGE = (av.error.FFmpegError, ValueError, struct.error)

_MIN_RATE_HZ, _MAX_RATE_HZ, _MAX_CHANNELS = 4_000, 192_000, 8
_MAX_BLOCK_SAMPLES = 2**16  # that a decoder may give at once
_MAX_STREAMS = 8  # of a file: FFmpeg decodes a little of each to tell what it is
_MAX_COVER_PIXELS = 2**22  # of a picture that comes with sound: nobody looks at it
_CODECS = {
    *("aac", "mp1", "mp1float", "mp2", "mp2float", "mp3", "mp3float", "opus", "libopus", "vorbis", "libvorbis"),
    *("flac", "alac", "ac3", "eac3", "gsm_ms", "speex", "libspeex"),
}
_CODEC_FAMILIES = ("pcm_", "adpcm_")
_OFF_S = 0.1  # the sound's times may be so far from how much of it there is, before it is put right
_MOST_OVERLAP_S = 1.0  # farther back no sound is there twice: the file's clock begins anew
_SILENCE_S = 1.0  # made at a time: whoever takes it may have enough
_WAV_SIZE_UNKNOWN = 0x7FFF0000  # writers that cannot seek back leave a size in this region
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")  # that an MP4 or a QuickTime file may begin with
_STILL_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis")  # pictures
_SIGNATURES = (
    (b"fLaC", "flac"),
    (b"OggS", "ogg"),
    (b"\x1aE\xdf\xa3", "matroska"),  # webm is a kind of it
    (b"\x00\x00\x01\xba", "mpeg"),
    (b"ID3", "mp3"),
)


HEAD_BYTES = 12  # of a file, which say what it is


def reader_of(data: bytes) -> str | None:
    """How FFmpeg calls the one reader that gets to see a file, by its first bytes; None if there is none for it."""
    if data[:4] in (b"RIFF", b"RIFX", b"RF64") and data[8:12] == b"WAVE":
        return "wav"
    if data[4:8] in _BOXES:
        return None if data[8:12] in _STILL_BRANDS else "mov"  # mp4 is a kind of it
    for signature, reader in _SIGNATURES:
        if data.startswith(signature):
            return reader
    if len(data) > 2 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0:
        layer = data[1] & 0x06
        return "aac" if layer == 0 and data[1] & 0xF0 == 0xF0 else "mp3" if layer else None
    return None


def opened(file: BinaryIO, reader: str, *, max_pixels: int = _MAX_COVER_PIXELS) -> InputContainer:
    """The file, to be used as a context; nothing larger is decoded to tell what it holds. Raises one of DAMAGE."""
    if reader == "wav":
        _check_wav_is_whole(file)
    file.seek(0)
    return av.open(file, "r", format=reader, options={"max_pixels": str(max_pixels), "max_streams": str(_MAX_STREAMS)})


def _check_wav_is_whole(file: BinaryIO) -> None:
    """A file cut short says so in the size of its `data` chunk, which decoders silently correct."""
    num_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    order = ">" if file.read(4) == b"RIFX" else "<"
    position = 12
    while position + 8 <= num_bytes:
        file.seek(position)
        name, (size,) = file.read(4), struct.unpack(f"{order}I", file.read(4))
        position += 8 + size + size % 2
        if name == b"data":
            if num_bytes < position - size % 2 and size < _WAV_SIZE_UNKNOWN:
                raise ValueError("cut short")
            return


class SoundTrack:
    """The sound of an open file, as its frames are decoded: mono float32 in [-1, 1], at the rate asked for.

    `on_clock` is for the sound of films, whose frames have times that mean something: where they leave a gap it is
    silent, and what is there twice is heard once.
    """

    def __init__(self, stream: AudioStream, *, rate_hz: int, param: str, code: str, on_clock: bool = False) -> None:
        """Raises APIError naming `param` for sound that is not read, with `code` if it is for what it is encoded in."""
        context = stream.codec_context
        if context is None:
            raise ValueError("nothing decodes it")
        if context.name not in _CODECS and not context.name.startswith(_CODEC_FAMILIES):
            raise invalid(f"Sound in {context.name} is not read.", param, code)
        self._param, self._rate_hz, self._on_clock = param, rate_hz, on_clock
        self._check(context.sample_rate, context.channels)
        context.options = {"max_samples": str(_MAX_BLOCK_SAMPLES)}
        # Its own way to mono is 3 dB louder and clips; and PyAV 18 crashes on planar blocks of eight channels.
        self._resampler = av.AudioResampler(format="flt", rate=rate_hz)
        self._next_s: float | None = None  # when the next frame should begin, by the file's clock
        self._num_twice = 0  # samples that are to come once more

    def push(self, frame: AudioFrame | None) -> Iterator[np.ndarray]:
        """(N,) blocks, to be taken one by one: a time that lies makes hours of silence. With no frame, what is left at
        the end."""
        if frame is not None:
            self._check(frame.sample_rate, frame.layout.nb_channels)  # it may change on the way
            if self._on_clock:
                yield from self._silence_before(frame)
        for unified in self._resampler.resample(frame):
            interleaved = unified.to_ndarray().reshape(-1, unified.layout.nb_channels)
            block = interleaved.mean(axis=1)  # (N, C) -> (N,)
            if not np.isfinite(block).all():
                raise invalid("The file holds samples that are not numbers.", self._param)
            num_twice = min(self._num_twice, len(block))
            self._num_twice -= num_twice
            yield np.clip(block[num_twice:], -1.0, 1.0)

    def _silence_before(self, frame: AudioFrame) -> Iterator[np.ndarray]:
        """What the file's clock leaves between the frame before and this one; nothing of a frame without a time."""
        expected_s = frame.time if self._next_s is None else self._next_s
        begins_s = expected_s if frame.time is None else frame.time
        if begins_s is None or expected_s is None:
            return
        late_s, length_s = float(begins_s - expected_s), frame.samples / frame.sample_rate
        if abs(late_s) <= _OFF_S:  # the times only waver, but that may not add up
            self._next_s = float(expected_s) + length_s
            return
        self._next_s = float(begins_s) + length_s
        if -_MOST_OVERLAP_S <= late_s < 0:
            self._num_twice += round(-late_s * self._rate_hz)
        num_silent = round(late_s * self._rate_hz)
        while num_silent > 0:
            num_samples = min(num_silent, round(_SILENCE_S * self._rate_hz))
            yield np.zeros(num_samples, np.float32)
            num_silent -= num_samples

    def _check(self, rate_hz: int, num_channels: int) -> None:
        if not _MIN_RATE_HZ <= rate_hz <= _MAX_RATE_HZ:
            raise invalid(f"The sound's rate is outside {_MIN_RATE_HZ}..{_MAX_RATE_HZ} Hz.", self._param)
        if not 1 <= num_channels <= _MAX_CHANNELS:
            raise invalid(f"The sound has more than {_MAX_CHANNELS} channels.", self._param)
