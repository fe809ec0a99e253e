"""A release comes back from disk as it was, up to the rounding of its matrices; one that does not fit is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sensorium.model.config import from_depth
from sensorium.tokenizers.release import Release, ReleaseConfig
from sensorium.tokenizers.text import TextTokenizer
from sensorium.tokenizers.vocab import Vocabulary


@pytest.fixture(scope="module")
def release() -> Release:
    torch.manual_seed(0)
    text = TextTokenizer.train(["what is two plus three", "draw a red circle"] * 4, num_tokens=280)
    vocabulary = Vocabulary(text_tokens=320)
    model = from_depth(
        2, vocab_size=vocabulary.size, audio_start=vocabulary.audio_start, image_start=vocabulary.image_start
    )
    return Release.create(ReleaseConfig(name="sensorium-test", created=7, vocabulary=vocabulary, model=model), text)


def test_save_then_load(release: Release, tmp_path: Path):
    release.save(tmp_path)
    twin = Release.load(tmp_path)
    assert twin.config == release.config
    assert twin.text.encode("a red circle") == release.text.encode("a red circle")
    for ours, theirs in (
        (release.model, twin.model),
        (release.audio_tokenizer, twin.audio_tokenizer),
        (release.image_tokenizer, twin.image_tokenizer),
    ):
        for name, tensor in theirs.state_dict().items():
            expected = ours.state_dict()[name]
            assert tensor.dtype == expected.dtype
            torch.testing.assert_close(tensor, expected, rtol=2**-8, atol=0.0, msg=name)
    assert not twin.model.training
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1  # weights are as readable as the rest


def test_loading_is_exact_after_the_first_rounding(release: Release, tmp_path: Path):
    release.save(tmp_path / "first")
    Release.load(tmp_path / "first").save(tmp_path / "second")
    for name in ("network", "audio", "image"):
        first, second = (tmp_path / folder / f"{name}.safetensors" for folder in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"num_layers": 4}}, "lacks tensor blocks.2"),
        ({"model": {"num_residuals": 5}}, "model.num_residuals is 5"),
        ({"model": {"colour": 1}}, "no field colour"),
        ({"colour": 1}, "no field colour"),
        ({"audio": {"size": 96}}, "audio.size is 96"),
        ({"image": {"num_residuals": 3}}, "model.num_image_residuals is 0"),
        ({"image": {"residual_levels": [5, 5]}}, "model.image_residual_size is 256"),
    ],
)
def test_what_does_not_fit_is_refused(release: Release, tmp_path: Path, change: dict, message: str):
    release.save(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    for key, value in change.items():
        config[key] = config[key] | value if isinstance(value, dict) else value
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        Release.load(tmp_path)


def test_a_release_that_does_not_speak_of_image_residuals_has_none(release: Release, tmp_path: Path):
    release.save(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    for part, names in {
        "model": ("num_image_residuals", "image_residual_size"),
        "image": ("num_residuals", "residual_levels"),
    }.items():
        for name in names:
            del config[part][name]
    path.write_text(json.dumps(config))
    twin = Release.load(tmp_path)
    assert twin.config == release.config
    assert twin.model.image_depth_head is None


def test_a_missing_field_is_named(release: Release, tmp_path: Path):
    release.save(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    del config["model"]["vocab_size"]
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match="vocab_size"):
        Release.load(tmp_path)
