"""The codec streams: whatever the chunks, the same bits as offline. And it is causal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.tokenizers.audio import AudioDecoderStream, AudioEncoderStream, AudioTokenizer, AudioTokenizerConfig

NUM_FRAMES = 23
FRAME = 1280


@pytest.fixture(scope="module", params=[0, 2], ids=["at once", "two frames ahead"])
def tokenizer(request: pytest.FixtureRequest) -> AudioTokenizer:
    torch.manual_seed(0)
    return AudioTokenizer(AudioTokenizerConfig(lookahead_frames=request.param)).eval()


@pytest.fixture(scope="module")
def waveform() -> torch.Tensor:
    times_s = torch.arange(NUM_FRAMES * FRAME) / 16_000
    noise = torch.randn(len(times_s), generator=torch.manual_seed(1))
    return 0.3 * torch.sin(2 * torch.pi * 200 * times_s * (1 + times_s)) + 0.02 * noise


@settings(max_examples=12, deadline=None, derandomize=True)
@given(cuts=st.lists(st.integers(1, NUM_FRAMES * FRAME - 1), max_size=12, unique=True))
def test_encoding_in_chunks_gives_the_same_bits(tokenizer: AudioTokenizer, waveform: torch.Tensor, cuts: list[int]):
    offline, _ = tokenizer.encode(waveform.unsqueeze(0))
    stream = AudioEncoderStream(tokenizer)
    parts = [stream.push(chunk) for chunk in torch.tensor_split(waveform, sorted(cuts))]
    assert torch.equal(torch.cat([part.codes for part in parts], dim=1), offline.codes)
    assert torch.equal(torch.cat([part.features for part in parts], dim=1), offline.features)
    assert stream.flush().codes.shape == (1, 0, 8)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(cuts=st.lists(st.integers(1, NUM_FRAMES - 1), max_size=NUM_FRAMES, unique=True), seed=st.integers(0, 9))
def test_decoding_in_chunks_gives_the_same_bits(tokenizer: AudioTokenizer, cuts: list[int], seed: int):
    codes, ahead = random_codes(seed), tokenizer.config.lookahead_frames
    offline, _ = tokenizer.decode(torch.cat((codes, codes[-1:].expand(ahead, -1))).unsqueeze(0))
    stream = AudioDecoderStream(tokenizer)
    parts = [stream.push(chunk) for chunk in torch.tensor_split(codes, sorted(cuts))]
    assert sum(map(len, parts)) == (NUM_FRAMES - ahead) * FRAME
    sound = torch.cat((*parts, stream.flush()))
    assert torch.equal(sound, offline[0, ahead * FRAME :])
    assert len(sound) == NUM_FRAMES * FRAME


@pytest.mark.parametrize("num_frames", [0, 1, 3])
def test_short_speech_is_complete(tokenizer: AudioTokenizer, num_frames: int):
    stream = AudioDecoderStream(tokenizer)
    parts = [stream.push(codes.unsqueeze(0)) for codes in random_codes(0)[:num_frames]]
    assert sum(map(len, (*parts, stream.flush()))) == num_frames * FRAME


def test_what_comes_next_is_looked_at(tokenizer: AudioTokenizer):
    """The sound of a frame depends on the frames behind it as far as the decoder looks ahead, and no farther."""
    codes, ahead = random_codes(0), tokenizer.config.lookahead_frames
    sounds = []
    for changed in range(8, 12):
        other = codes.clone()
        other[changed] = (other[changed] + 1) % 256
        stream = AudioDecoderStream(tokenizer)
        sounds.append(torch.cat((stream.push(other), stream.flush()))[8 * FRAME : 9 * FRAME])
    beyond = sounds[ahead + 1]
    assert all(torch.equal(sound, beyond) == (distance > ahead) for distance, sound in enumerate(sounds))


def test_the_last_frame_is_filled_with_silence(tokenizer: AudioTokenizer, waveform: torch.Tensor):
    padded = torch.cat((waveform[: 2 * FRAME - 300], torch.zeros(300)))
    expected, _ = tokenizer.encode(padded.unsqueeze(0))
    stream = AudioEncoderStream(tokenizer)
    first, last = stream.push(waveform[: 2 * FRAME - 300]), stream.flush()
    assert torch.equal(torch.cat((first.codes, last.codes), dim=1), expected.codes)


@pytest.mark.parametrize("frame", [1, 11, NUM_FRAMES - 1])
def test_later_sound_changes_no_earlier_frame(tokenizer: AudioTokenizer, waveform: torch.Tensor, frame: int):
    changed = waveform.clone()
    changed[frame * FRAME :] = 0.0
    before, _ = tokenizer.encode(waveform.unsqueeze(0))
    after, _ = tokenizer.encode(changed.unsqueeze(0))
    assert torch.equal(before.features[:, :frame], after.features[:, :frame])
    assert not torch.equal(before.features[:, frame:], after.features[:, frame:])
    codes = random_codes(0)
    other = codes.clone()
    other[frame:] = 0
    before, _ = tokenizer.decode(codes.unsqueeze(0))
    after, _ = tokenizer.decode(other.unsqueeze(0))
    assert torch.equal(before[:, : frame * FRAME], after[:, : frame * FRAME])


def test_a_batch_equals_its_rows(tokenizer: AudioTokenizer, waveform: torch.Tensor):
    clips = torch.stack((waveform, waveform.flip(0)))
    together, _ = tokenizer.encode(clips)
    for row in range(2):
        alone, _ = tokenizer.encode(clips[row : row + 1])
        torch.testing.assert_close(together.features[row], alone.features[0], rtol=0, atol=1e-5)


def test_quantised_values_are_what_the_codes_stand_for(tokenizer: AudioTokenizer, waveform: torch.Tensor):
    features, _ = tokenizer.encoder(waveform.unsqueeze(0))
    values, codes = tokenizer.quantize(features)
    assert codes.shape == (1, NUM_FRAMES, 8)
    assert codes[..., 0].max() < 1000
    assert codes[..., 1:].max() < 256
    torch.testing.assert_close(values, tokenizer.values(codes))


def test_rates_follow_from_the_configuration():
    config = AudioTokenizerConfig()
    assert (config.frame_size, config.frame_rate_hz, config.window) == (FRAME, 12.5, 640)


def random_codes(seed: int) -> torch.Tensor:
    """(NUM_FRAMES, 8)"""
    rng = np.random.default_rng(seed)
    semantic, acoustic = rng.integers(0, 1000, (NUM_FRAMES, 1)), rng.integers(0, 256, (NUM_FRAMES, 7))
    return torch.from_numpy(np.concatenate((semantic, acoustic), axis=1))
