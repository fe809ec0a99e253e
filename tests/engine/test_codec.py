"""The compiled codec gives what the modules give, and live what it gives offline."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sensorium.data.generators.speech import PRESETS, Synthesizer
from sensorium.engine.codec import CompiledAudioTokenizer
from sensorium.tokenizers.audio import AudioDecoderStream, AudioEncoderStream, AudioTokenizer
from sensorium.tokenizers.release import Release

NANO = Path(__file__).parents[2] / "sensorium" / "checkpoints" / "nano"
ATOL = 1e-4


@pytest.fixture(scope="module")
def codec() -> AudioTokenizer:
    return Release.load(NANO).audio_tokenizer


@pytest.fixture(scope="module")
def waveform(codec: AudioTokenizer) -> torch.Tensor:
    """(1, N) whole frames of speech."""
    said = Synthesizer().speak("how many red circles do you see", next(iter(PRESETS.values()))).audio.waveform
    return torch.from_numpy(said[: len(said) - len(said) % codec.config.frame_size].copy()).unsqueeze(0)


def test_hears_as_the_modules(codec: AudioTokenizer, waveform: torch.Tensor):
    expected, _ = codec.encode(waveform)
    found, _ = CompiledAudioTokenizer(codec).encode(waveform)
    torch.testing.assert_close(found.features, expected.features, rtol=0.0, atol=ATOL)
    assert torch.equal(found.codes, expected.codes)


def test_sounds_as_the_modules(codec: AudioTokenizer, waveform: torch.Tensor):
    codes = codec.encode(waveform)[0].codes
    torch.testing.assert_close(
        CompiledAudioTokenizer(codec).decode(codes)[0], codec.decode(codes)[0], rtol=0.0, atol=ATOL
    )


@pytest.mark.parametrize("samples", [777, 1280, 4096])
def test_hears_live_what_it_hears_offline(codec: AudioTokenizer, waveform: torch.Tensor, samples: int):
    fast = CompiledAudioTokenizer(codec)
    offline, _ = fast.encode(waveform)
    stream = AudioEncoderStream(fast)
    live = [stream.push(piece) for piece in waveform[0].split(samples)]
    assert torch.equal(torch.cat([frames.codes for frames in live], dim=1), offline.codes)
    assert torch.equal(torch.cat([frames.features for frames in live], dim=1), offline.features)


@pytest.mark.parametrize("frames", [1, 3, 8])
def test_sounds_live_as_offline(codec: AudioTokenizer, waveform: torch.Tensor, frames: int):
    fast = CompiledAudioTokenizer(codec)
    codes = fast.encode(waveform)[0].codes[0]
    stream = AudioDecoderStream(fast)
    live = torch.cat([*(stream.push(piece) for piece in codes.split(frames)), stream.flush()])
    ahead = codec.config.lookahead_frames
    whole, _ = fast.decode(torch.cat((codes, codes[-1:].expand(ahead, -1))).unsqueeze(0))
    assert torch.equal(live, whole[0, ahead * codec.config.frame_size :])


def test_a_mark_in_a_turn_is_not_written_over(codec: AudioTokenizer, waveform: torch.Tensor):
    """What was heard since does not change the state that a copied stream goes on from."""
    first, second = waveform[0].split(codec.config.frame_size * 4)[:2]
    stream = AudioEncoderStream(CompiledAudioTokenizer(codec))
    stream.push(first)
    state = stream._state
    assert state is not None
    before = [tensor.clone() for tensor in (*state.fine, *state.coarse)]
    stream.push(second)
    assert all(torch.equal(old, kept) for old, kept in zip(before, (*state.fine, *state.coarse), strict=True))
