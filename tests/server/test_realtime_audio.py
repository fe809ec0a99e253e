"""A call's sound on the wire: G.711 as others have it, and pieces that may be cut anywhere."""

from __future__ import annotations

import base64
from typing import Any, cast

import av
import numpy as np
import pytest

from sensorium.data.generators.speech import PRESETS, Synthesizer
from sensorium.engine import fake
from sensorium.engine.request import AudioDelta
from sensorium.messages import Audio
from sensorium.safety.watermark import find
from sensorium.server.realtime_audio import RATES_HZ, Playback, WireDecoder, WireFormat, encoded, samples
from tests.server.calls import PUSH_TO_TALK, hum, phone
from tests.server.live import live


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


# --- the mark in what a call plays


def spoken() -> np.ndarray:
    """(N,) at 16 kHz: sentences of about eight seconds."""
    texts = ("the garden door is open", "what is the capital of france", "it is twenty one degrees in the kitchen")
    return np.concatenate([Synthesizer().speak(text, PRESETS["coral"]).audio.waveform for text in texts * 2])


@pytest.fixture
def speaking(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The engine without a network speaks, 160 ms at a time, where it would hum. What it says is noted."""
    sound, said = spoken(), list[np.ndarray]()

    def say(_: int) -> AudioDelta:
        said.append(np.roll(sound, -2560 * len(said))[:2560])
        return AudioDelta(waveform=said[-1], sample_rate_hz=16_000)

    monkeypatch.setattr(fake, "_hum", say)
    return said


@pytest.mark.parametrize("format", ["audio/pcm", "audio/pcmu"])
@pytest.mark.parametrize("speed", [1.0, 1.25])
def test_what_a_call_plays_is_marked(speaking: list[np.ndarray], format: WireFormat, speed: float):
    """No answer of these is long enough for the mark to be found in it alone; all of the call is."""
    wire = {"type": format, "rate": 24_000} if format == "audio/pcm" else {"type": format}
    output: dict[str, Any] = {"format": wire, "speed": speed}
    session = {**PUSH_TO_TALK, "audio": {"input": {"turn_detection": None}, "output": output}}
    with live(watermark_key="mine") as server, phone(server, session=session) as call:
        deltas, item_id = list[str](), ""
        for _ in range(5):
            call.user("one two three four five six seven eight nine ten")
            call.say("response.create")
            events = call.until("response.done")
            deltas += [event["delta"] for event in events if event["type"] == "response.output_audio.delta"]
            item_id = events[-1]["response"]["output"][0]["id"]
            call.next()  # rate_limits.updated
        again = call.ask("conversation.item.retrieve", "conversation.item.retrieved", item_id=item_id)["item"]
    decoder = WireDecoder(format, 16_000)
    sound = decoder.push(b"".join(base64.b64decode(delta) for delta in deltas), last=True)
    assert len(sound) == pytest.approx(5 * 12 * 2560 / speed, abs=200)
    assert find(sound, "mine").is_marked
    assert not find(sound, "another").is_marked
    kept = WireDecoder(format, 16_000).push(base64.b64decode(again["content"][0]["audio"]), last=True)
    assert find(np.concatenate([kept] * 3), "another").score < find(np.concatenate([kept] * 3), "mine").score


def test_the_conversation_keeps_the_networks_own_sound(speaking: list[np.ndarray]):
    with live(watermark_key="mine") as server, phone(server) as call:
        speaking.clear()  # the server has tried the engine before it was ready
        call.user("one two three four five six seven eight nine ten")
        for _ in range(2):
            call.say("response.create")
            call.until("rate_limits.updated")
        said = next(
            part.waveform
            for message in server.engine.requests[-1].messages
            for part in message.parts
            if isinstance(part, Audio)
        )
    np.testing.assert_allclose(said, np.concatenate(speaking[:12]), atol=2**-16)  # without a mark, in 16 bits or whole


def test_a_message_is_as_long_with_a_mark_as_without_and_its_first_sound_leaves_at_once():
    sound = spoken()[:16_001]
    told = []
    for key in ("", "mine"):
        message = Playback(16_000, watermark_key=key, watermark_payload=0).message("audio/pcm", 1.0)
        pieces = [message.push(sound[at : at + 1280]) for at in range(0, len(sound), 1280)]
        assert len(pieces[0].heard) == 1280
        assert len(pieces[0].data) > 0
        pieces.append(message.finish())
        told.append((sum(len(piece.data) for piece in pieces), np.concatenate([piece.heard for piece in pieces])))
    assert told[0][0] == told[1][0]
    np.testing.assert_array_equal(told[0][1], sound)
    assert 0 < np.abs(told[1][1] - sound).max() < 0.2
