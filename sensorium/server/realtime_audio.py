"""A call's sound on its way in and out: PCM at 24 kHz or G.711 at 8 kHz on the wire, the engine's rate inside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from sensorium.safety.watermark import RATE_HZ as MARKED_HZ
from sensorium.safety.watermark import Watermarker
from sensorium.server.resampler import Resampler
from sensorium.server.stretch import Stretch

WireFormat: TypeAlias = Literal["audio/pcm", "audio/pcmu", "audio/pcma"]

RATES_HZ: dict[WireFormat, int] = {"audio/pcm": 24_000, "audio/pcmu": 8_000, "audio/pcma": 8_000}
_SAMPLE_BYTES: dict[WireFormat, int] = {"audio/pcm": 2, "audio/pcmu": 1, "audio/pcma": 1}
PIECE_MS = 500  # of a client's sound: what is more is taken in by and by, so that other calls have their turn between
LEAD_MS = 30_000
SPEED = 2
_AT_ONCE_S = 0.08  # the first frame of an answer does not wait for its mark
_WHOLE_BASE64_BYTES = 6  # three 16-bit samples: base64 without padding, so that clients may join the texts of chunks


class WireDecoder:
    """Bytes in pieces of any size -> mono float32 at `rate_hz`. A sample cut in two by a piece's end is kept for the
    next one."""

    def __init__(self, format: WireFormat, rate_hz: int) -> None:
        self.format: WireFormat = format
        self._resampler = Resampler(RATES_HZ[format], rate_hz)
        self._rest = b""

    def push(self, data: bytes, *, last: bool = False) -> np.ndarray:
        """(N,) float32 in [-1, 1]; with `last`, all that the resampler still holds."""
        data = self._rest + data
        whole = len(data) - len(data) % _SAMPLE_BYTES[self.format]
        self._rest = data[whole:]
        return self._resampler.push(samples(data[:whole], self.format), last=last)


def pieces(data: bytes, format: WireFormat) -> Iterator[bytes]:
    """Sound on the wire, at most `PIECE_MS` of it at once; of none, one piece."""
    size = PIECE_MS * RATES_HZ[format] // 1000 * _SAMPLE_BYTES[format]
    for start in range(0, max(len(data), 1), size):
        yield data[start : start + size]


class Pace:
    """How fast a call's sound is taken in: what is up to `LEAD_MS` ahead of real time at once, from there on `SPEED`
    times as fast as it is said. So a call takes no more of what all calls share than so many that talk."""

    def __init__(self, now_s: float) -> None:
        self._lead_ms = float(LEAD_MS)  # that is left
        self._at_s = now_s

    def wait_s(self, piece_ms: float, now_s: float) -> float:
        """How long a piece that has come has to wait."""
        self._lead_ms = min(LEAD_MS, self._lead_ms + SPEED * 1000 * (now_s - self._at_s)) - piece_ms
        self._at_s = now_s
        return max(0.0, -self._lead_ms / 1000 / SPEED)


class WireEncoder:
    """Mono float32 at `rate_hz` in pieces -> bytes in pieces, equal for any way of cutting it."""

    def __init__(self, format: WireFormat, rate_hz: int) -> None:
        self.format: WireFormat = format
        self._resampler = Resampler(rate_hz, RATES_HZ[format])
        self._rest = b""

    def push(self, waveform: np.ndarray, *, last: bool = False) -> bytes:
        """The samples that are ready after `waveform`, (N,) float32; with `last`, all that remain."""
        resampled = self._resampler.push(waveform, last=last)
        data = self._rest + encoded(resampled, self.format)
        end = len(data) if last else len(data) - len(data) % _WHOLE_BASE64_BYTES
        self._rest = data[end:]
        return data[:end]

    def flush(self) -> bytes:
        return self.push(np.zeros(0, np.float32), last=True)


class Played(NamedTuple):
    data: bytes  # on the wire
    heard: np.ndarray  # (N,) float32 at the engine's rate: the same as the client hears it


class Playback:
    """What a call plays, message by message.

    Each is marked with a pattern that goes on where the last one's ended, so that the answers of a call, recorded one
    behind the other, hold one mark: a single answer is often too short to find it.
    """

    def __init__(self, rate_hz: int, *, watermark_key: str, watermark_payload: int) -> None:
        """With an empty key nothing is marked."""
        assert not watermark_key or rate_hz == MARKED_HZ, "the mark is put in at 16 kHz"
        self.rate_hz = rate_hz
        self._key, self._payload = watermark_key, watermark_payload
        self._num_played = 0  # samples

    def message(self, format: WireFormat, speed: float) -> PlayedMessage:
        """One that is played now, and counted."""
        mark = None
        if self._key:
            at_once = round(_AT_ONCE_S * self.rate_hz)
            mark = Watermarker(self._key, self._payload, begins_at=self._num_played, at_once=at_once)
        return PlayedMessage(format, self.rate_hz, speed, mark, self._count)

    def again(self, waveform: np.ndarray, format: WireFormat, speed: float, *, is_ours: bool) -> bytes:
        """What was heard of a message, whole; marked if it was said here."""
        mark = Watermarker(self._key, self._payload) if self._key and is_ours else None
        return PlayedMessage(format, self.rate_hz, speed, mark).push(waveform, last=True).data

    def _count(self, num_samples: int) -> None:
        self._num_played += num_samples


class PlayedMessage:
    """The sound of one message in pieces -> what leaves: at the speed asked for, marked, as the wire has it."""

    def __init__(
        self,
        format: WireFormat,
        rate_hz: int,
        speed: float,
        mark: Watermarker | None,
        count: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._stretch = Stretch(speed, rate_hz)
        self._mark = mark
        self._encoder = WireEncoder(format, rate_hz)
        self._count = count

    def push(self, waveform: np.ndarray, *, last: bool = False) -> Played:
        """What is ready after `waveform`, (N,) float32; with `last`, all that remains. A mark takes up to 64 ms."""
        heard = self._stretch.push(waveform, last=last)
        if self._mark is not None:
            heard = self._mark.push(heard, last=last)
        self._count(len(heard))
        return Played(self._encoder.push(heard, last=last), heard)

    def finish(self) -> Played:
        return self.push(np.zeros(0, np.float32), last=True)


def samples(data: bytes, format: WireFormat) -> np.ndarray:
    """Whole samples on the wire -> (N,) float32 in [-1, 1]."""
    if format == "audio/pcm":
        return np.frombuffer(data, "<i2").astype(np.float32) / 32768.0
    return _DECODED[format][np.frombuffer(data, np.uint8)]


def encoded(waveform: np.ndarray, format: WireFormat) -> bytes:
    """(N,) float32 -> samples on the wire; what lies outside [-1, 1] is clipped."""
    values = np.rint(np.clip(waveform, -1.0, 1.0) * 32767.0).astype("<i2")
    if format == "audio/pcm":
        return values.tobytes()
    return _mu_law(values) if format == "audio/pcmu" else _a_law(values)


def _mu_law(values: np.ndarray) -> bytes:
    """ITU-T G.711 mu-law: sign, three bits of exponent, four of mantissa, all inverted."""
    biased = np.minimum(np.abs(values.astype(np.int32)), 32635) + 132
    exponent = np.floor(np.log2(biased)).astype(np.int32) - 7
    mantissa = (biased >> (exponent + 3)) & 0x0F
    sign = np.where(values < 0, 0x80, 0)
    return (~(sign | exponent << 4 | mantissa) & 0xFF).astype(np.uint8).tobytes()


def _a_law(values: np.ndarray) -> bytes:
    """ITU-T G.711 A-law: even bits inverted; the two lowest segments share a step."""
    wide = values.astype(np.int32)
    magnitude = np.where(wide < 0, -wide - 1, wide) >> 4  # 11 bits; a negative number is its complement
    exponent = np.maximum(np.floor(np.log2(np.maximum(magnitude, 1))).astype(np.int32) - 3, 0)
    mantissa = magnitude >> np.maximum(exponent - 1, 0) & 0x0F
    sign = np.where(wide < 0, 0, 0x80)
    return ((sign | exponent << 4 | mantissa) ^ 0x55).astype(np.uint8).tobytes()


def _mu_law_table() -> np.ndarray:
    code = ~np.arange(256) & 0xFF
    exponent, mantissa = code >> 4 & 7, code & 0x0F
    magnitude = ((mantissa << 3) + 132 << exponent) - 132
    return (np.where(code & 0x80, -magnitude, magnitude) / 32768.0).astype(np.float32)


def _a_law_table() -> np.ndarray:
    code = np.arange(256) ^ 0x55
    exponent, mantissa = code >> 4 & 7, code & 0x0F
    step = (mantissa << 4) + 8
    magnitude = np.where(exponent == 0, step, (step + 256) << np.maximum(exponent - 1, 0))
    return (np.where(code & 0x80, magnitude, -magnitude) / 32768.0).astype(np.float32)


_DECODED: dict[WireFormat, np.ndarray] = {"audio/pcmu": _mu_law_table(), "audio/pcma": _a_law_table()}
