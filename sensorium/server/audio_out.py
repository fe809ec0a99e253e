"""Sound on its way out: from the engine's rate to the contract's 24 kHz, into the format asked for."""

from __future__ import annotations

import io
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal, cast

import av
import numpy as np
from av.audio.stream import AudioStream

from sensorium.messages import Audio
from sensorium.server.realtime_audio import RATES_HZ, WireEncoder

OUTPUT_RATE_HZ = RATES_HZ["audio/pcm"]

SpeechFormat = Literal["wav", "mp3", "flac", "opus", "aac", "pcm16"]

# container and codec
_ENCODERS = {
    "wav": ("wav", "pcm_s16le"),
    "mp3": ("mp3", "libmp3lame"),
    "flac": ("flac", "flac"),
    "opus": ("ogg", "libopus"),
    "aac": ("adts", "aac"),
}


class Pcm16Stream(WireEncoder):
    """A waveform in pieces -> 16-bit little-endian samples at 24 kHz in pieces, equal for any way of cutting it."""

    def __init__(self, sample_rate_hz: int) -> None:
        super().__init__("audio/pcm", sample_rate_hz)


def encode_speech(waveform: np.ndarray, sample_rate_hz: int, format: SpeechFormat) -> bytes:
    """A whole waveform, (N,) float32, as a file at 24 kHz mono. Blocks for milliseconds: call it in a thread."""
    pcm = Pcm16Stream(sample_rate_hz).push(waveform, last=True)
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


@dataclass(frozen=True, kw_only=True, eq=False)
class _Kept:
    audio: Audio
    expires_at: int  # Unix seconds


class SpokenReplies:
    """What the assistant said of late, so that a later request may refer to it by id. Bounded in time and bytes."""

    def __init__(self, *, ttl_s: int, max_bytes: int) -> None:
        self._ttl_s = ttl_s
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._kept: OrderedDict[str, _Kept] = OrderedDict()  # oldest first

    def new_id(self) -> str:
        return f"audio_{secrets.token_hex(12)}"

    def keep(self, id: str, audio: Audio) -> int:
        """Remembers a reply under an id. Returns when it will be forgotten, in Unix seconds."""
        expires_at = int(time.time()) + self._ttl_s
        self._kept[id] = _Kept(audio=audio, expires_at=expires_at)
        self._num_bytes += audio.waveform.nbytes
        while self._num_bytes > self._max_bytes:
            self._forget_oldest()
        return expires_at

    def find(self, id: str) -> Audio | None:
        while self._kept and next(iter(self._kept.values())).expires_at <= time.time():
            self._forget_oldest()
        kept = self._kept.get(id)
        return kept.audio if kept else None

    def _forget_oldest(self) -> None:
        _, kept = self._kept.popitem(last=False)
        self._num_bytes -= kept.audio.waveform.nbytes
