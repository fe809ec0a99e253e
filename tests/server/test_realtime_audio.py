"""A call's sound on the wire: G.711 as others have it, and pieces that may be cut anywhere."""

from __future__ import annotations

from typing import cast

import av
import numpy as np
import pytest

from sensorium.server.realtime_audio import RATES_HZ, WireDecoder, WireFormat, encoded, samples
from tests.server.calls import hum


@pytest.mark.parametrize(("format", "codec"), [("audio/pcmu", "pcm_mulaw"), ("audio/pcma", "pcm_alaw")])
def test_g711_is_what_other_implementations_take_it_for(format: WireFormat, codec: str):
    values = np.arange(-32768, 32768, dtype="<i2")
    encoder = cast(av.AudioCodecContext, av.CodecContext.create(codec, "w"))
    encoder.sample_rate, encoder.layout, encoder.format = 8000, "mono", "s16"
    frame = av.AudioFrame.from_ndarray(values[None], format="s16", layout="mono")
    frame.sample_rate = 8000
    theirs = b"".join(bytes(packet) for packet in encoder.encode(frame))
    ours = encoded(values / np.float64(32767), format)
    errors = [np.abs(samples(data, format) - values / 32768) for data in (ours, theirs)]
    assert errors[0].mean() < 1.01 * errors[1].mean()
    assert errors[0].max() <= 1.05 * errors[1].max()
    decoder = cast(av.AudioCodecContext, av.CodecContext.create(codec, "r"))
    decoder.sample_rate, decoder.layout = 8000, "mono"
    every = bytes(range(256))
    decoded = np.concatenate([frame.to_ndarray() for frame in decoder.decode(av.Packet(every))], axis=1)[0]
    np.testing.assert_array_equal(samples(every, format), decoded / 32768)


@pytest.mark.parametrize("format", ["audio/pcm", "audio/pcmu", "audio/pcma"])
def test_sound_may_be_cut_anywhere(format: WireFormat):
    rng = np.random.default_rng(1)
    data = encoded(hum(500, rate_hz=RATES_HZ[format]), format)
    whole = WireDecoder(format, 16_000).push(data, last=True)
    decoder, pieces, at = WireDecoder(format, 16_000), [], 0
    while at < len(data):
        size = int(rng.integers(1, 900))
        pieces.append(decoder.push(data[at : at + size]))
        at += size
    pieces.append(decoder.push(b"", last=True))
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=1e-6)
