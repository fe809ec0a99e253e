"""Sound on its way out: from the engine's rate to the contract's 24 kHz, into the format asked for."""

from __future__ import annotations

import io
import struct
from typing import Any, Literal, cast

import av
import numpy as np
from av.audio.stream import AudioStream

from sensorium.safety.provenance import Credentials
from sensorium.safety.watermark import RATE_HZ as WATERMARKED_HZ
from sensorium.safety.watermark import Watermarker
from sensorium.server.config import ServerConfig
from sensorium.server.realtime_audio import RATES_HZ, WireEncoder

OUTPUT_RATE_HZ = RATES_HZ["audio/pcm"]

SpeechFormat = Literal["wav", "mp3", "flac", "opus", "aac", "pcm16"]

MEDIA_TYPES: dict[SpeechFormat, str] = {
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "flac": "audio/flac",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "pcm16": "audio/pcm",
}

# container and codec
_ENCODERS = {
    "wav": ("wav", "pcm_s16le"),
    "mp3": ("mp3", "libmp3lame"),
    "flac": ("flac", "flac"),
    "opus": ("ogg", "libopus"),
    "aac": ("adts", "aac"),
}
_STREAMED = {
    "mp3": {"write_xing": "0"},  # whose frame of figures would stand first, and is known last
    "opus": {"page_duration": "60000"},  # us: a page holds a second otherwise, and nothing leaves before it is full
}
_UNKNOWN_SIZE = 0xFFFFFFFF


class Pcm16Stream(WireEncoder):
    """A waveform in pieces -> 16-bit little-endian samples at 24 kHz in pieces, equal for any way of cutting it."""

    def __init__(self, sample_rate_hz: int, watermarker: Watermarker | None = None) -> None:
        """With a `watermarker`, which this stream then owns, the sound is marked."""
        super().__init__("audio/pcm", sample_rate_hz)
        assert watermarker is None or sample_rate_hz == WATERMARKED_HZ, "the mark is put in at 16 kHz"
        self._watermarker = watermarker

    def push(self, waveform: np.ndarray, *, last: bool = False) -> bytes:
        if self._watermarker is not None:
            waveform = self._watermarker.push(waveform, last=last)
        return super().push(waveform, last=last)


def encode_speech(
    waveform: np.ndarray, sample_rate_hz: int, format: SpeechFormat, watermarker: Watermarker | None = None
) -> bytes:
    """A whole waveform, (N,) float32, as a file at 24 kHz mono. Blocks for milliseconds: call it in a thread."""
    pcm = Pcm16Stream(sample_rate_hz, watermarker).push(waveform, last=True)
    if format == "pcm16":
        return pcm
    container_name, codec = _ENCODERS[format]
    output = io.BytesIO()
    with av.open(output, "w", format=container_name) as container:
        stream = cast(AudioStream, container.add_stream(codec, rate=OUTPUT_RATE_HZ, layout="mono"))
        if pcm:
            samples = np.frombuffer(pcm, "<i2")[None]  # (1, N)
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate = OUTPUT_RATE_HZ
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return output.getvalue()


class SpeechStream:
    """A waveform in pieces -> a file at 24 kHz mono in pieces, the first of which leave before the sound is complete.

    Nothing that was given is changed later, so a WAV's header says that its size is not known.
    """

    def __init__(self, sample_rate_hz: int, format: SpeechFormat, watermarker: Watermarker | None = None) -> None:
        self._pcm = Pcm16Stream(sample_rate_hz, watermarker)
        self._format = format
        self._is_raw = format in ("pcm16", "wav")
        self._written = _Written()
        if format == "wav":
            self._written.write(_wav_header())
        elif not self._is_raw:
            container_name, codec = _ENCODERS[format]
            options = _STREAMED.get(format, {})
            self._container = av.open(self._written, "w", format=container_name, container_options=options)
            self._stream = cast(AudioStream, self._container.add_stream(codec, rate=OUTPUT_RATE_HZ, layout="mono"))

    def push(self, waveform: np.ndarray, *, last: bool = False) -> bytes:
        """The bytes that are ready after `waveform`, (N,) float32; with `last`, all that remain."""
        pcm = self._pcm.push(waveform, last=last)
        if self._is_raw:
            return self._written.take() + pcm
        if pcm:
            frame = av.AudioFrame.from_ndarray(np.frombuffer(pcm, "<i2")[None], format="s16", layout="mono")
            frame.sample_rate = OUTPUT_RATE_HZ
            self._container.mux(self._stream.encode(frame))
        if last:
            self._container.mux(self._stream.encode(None))
            self._container.close()
        return self._written.take()


class SpeechWriter:
    """Writes generated speech: marked as the operator's settings say, and as a WAV file signed, if there are
    `credentials` to do it with."""

    def __init__(self, config: ServerConfig, credentials: Credentials | None = None) -> None:
        self._config = config
        self._credentials = credentials

    def signs(self, format: SpeechFormat) -> bool:
        """Whether a file of the format must be whole before it can leave."""
        return format == "wav" and self._credentials is not None

    def file(self, waveform: np.ndarray, sample_rate_hz: int, format: SpeechFormat) -> bytes:
        """As `encode_speech`."""
        data = encode_speech(waveform, sample_rate_hz, format, self._watermarker())
        if self._credentials is None or format != "wav":
            return data
        return self._credentials.sign(data, MEDIA_TYPES[format])

    def stream(self, sample_rate_hz: int, format: SpeechFormat) -> SpeechStream:
        return SpeechStream(sample_rate_hz, format, self._watermarker())

    def pcm(self, sample_rate_hz: int) -> Pcm16Stream:
        return Pcm16Stream(sample_rate_hz, self._watermarker())

    def _watermarker(self) -> Watermarker | None:
        config = self._config
        return Watermarker(config.watermark_key, config.watermark_payload) if config.watermark_key else None


class _Written(io.RawIOBase):
    """A file that can only be written on at its end, and is taken away piece by piece."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        taken, self._pieces = b"".join(self._pieces), []
        return taken


def _wav_header() -> bytes:
    """Of 16-bit mono at 24 kHz, of unknown length (RIFF: both sizes are the largest that there is)."""
    format = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, OUTPUT_RATE_HZ, 2 * OUTPUT_RATE_HZ, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", _UNKNOWN_SIZE, b"WAVE") + format + struct.pack("<4sI", b"data", _UNKNOWN_SIZE)
