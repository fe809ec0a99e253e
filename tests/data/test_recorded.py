"""Documents about the real sets, where they are at hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sensorium.data import corpus
from sensorium.data.generators.canvas import Split
from sensorium.data.recorded import RECORDED, as_said, recorded_document, recorded_like
from sensorium.messages import Audio, Image, Text, ToolCall

REAL_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not REAL_DATA.is_dir(), reason="the folder of real data is not beside the project")


@needs_data
def test_the_picture_tokenizer_may_learn_from_photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "PICTURES_PER_SHARD", 24)
    monkeypatch.setenv("SENSORIUM_DATA", str(REAL_DATA))
    corpus.make_pictures({"word": 0.4, "clothing": 0.3, "grocery": 0.3})(tmp_path, 1, 0)
    images, labels = np.load(tmp_path / "images.npy"), np.load(tmp_path / "labels.npy")
    assert images.shape == (24, 64, 64, 3)
    known = (labels[..., 0] >= 0).any(axis=(1, 2, 3))
    assert 0 < known.sum() < 24, "only what is drawn by program has labels"
    with pytest.raises(ValueError, match="paintings"):
        corpus.make_pictures({"paintings": 1.0})


def content(part: object) -> object:
    if isinstance(part, Audio):
        return part.waveform.tobytes(), part.transcript
    return (part.pixels.tobytes(), part.caption) if isinstance(part, Image) else part


@needs_data
@pytest.mark.parametrize("split", ["train", "heldout"])
@pytest.mark.parametrize("task", RECORDED)
def test_a_document_is_a_function_of_its_seed(task: str, split: Split):
    one, other, third = (recorded_document(task, seed, split=split, root=REAL_DATA) for seed in (5, 5, 6))
    parts = [[content(part) for message in made.messages for part in message.parts] for made in (one, other, third)]
    assert parts[0] == parts[1] != parts[2]
    assert [message.role for message in one.messages if message.role != "system"] == ["user", "assistant"]


def test_speech_takes_on_the_microphone_of_another_clip():
    """Its colour and its noise; when it is loud stays as it was."""
    rng = np.random.default_rng(0)

    def spoken(*, darker: float, hiss: float, at: float) -> Audio:
        """Half a second of noise in a second and a half, at a time, and hiss over all of it."""
        burst = np.zeros(24_000, np.float32)
        burst[int(16_000 * at) :][:8000] = rng.standard_normal(8000)
        spectrum = np.fft.rfft(burst) / np.sqrt(1.0 + darker * np.arange(12_001) / 12_001.0)
        waveform = 0.1 * np.fft.irfft(spectrum) + hiss * rng.standard_normal(24_000)
        return Audio(waveform=waveform.astype(np.float32), sample_rate_hz=16_000, transcript="two")

    def octaves_db(waveform: np.ndarray) -> np.ndarray:
        power = np.abs(np.fft.rfft(waveform)) ** 2
        return np.array([10 * np.log10(band.mean()) for band in np.split(power[1:-1], np.array([400, 1600, 6000]))])

    clean, dull = spoken(darker=0.0, hiss=1e-6, at=0.2), spoken(darker=400.0, hiss=0.004, at=0.8)
    heard = recorded_like(clean, dull, rng)
    assert (heard.transcript, heard.waveform.shape, heard.waveform.dtype) == ("two", (24_000,), np.float32)
    before, after = (np.abs(octaves_db(one.waveform) - octaves_db(dull.waveform)).max() for one in (clean, heard))
    assert before > 15.0
    assert after < 2.0
    quiet = heard.waveform[14_000:]
    assert 0.5 < float(np.sqrt(np.mean(quiet**2))) / 0.004 < 2.0
    assert np.abs(heard.waveform[4000:10_000]).mean() > 3 * np.abs(quiet).mean()
    muted = Audio(waveform=np.zeros(16_000, np.float32), sample_rate_hz=16_000)
    assert np.isfinite(recorded_like(clean, muted, rng).waveform).all()
    assert np.isfinite(recorded_like(muted, dull, rng).waveform).all()


@needs_data
def test_answers_are_what_the_sets_say():
    for seed in range(30):
        heard = recorded_document("real-word", seed, split="heldout", root=REAL_DATA).messages
        (clip,) = (part for part in heard[0].parts if isinstance(part, Audio))
        assert clip.transcript
        assert heard[1].text == clip.transcript or heard[1].text.isascii()
        order = recorded_document("real-order", seed, split="heldout", root=REAL_DATA).messages
        (call,) = order[-1].parts
        assert isinstance(call, ToolCall)
        assert call.name == "orderDrink"
        assert "coffeeDrink" in json.loads(call.arguments)
        (clip,) = order[-2].parts
        assert isinstance(clip, Audio)
        assert not clip.words  # only recorded ones are held out
        shown = recorded_document("grocery", seed, split="train", root=REAL_DATA).messages
        (photo,) = (part for part in shown[0].parts if isinstance(part, Image))
        assert photo.pixels.shape == (64, 64, 3)
        assert photo.pixels.dtype == np.uint8
        assert isinstance(photo.caption, Text)
        assert shown[1].text in (photo.caption.text.split(", ")[0], f"a {photo.caption.text.split(', ')[1]}")


@needs_data
def test_an_order_to_train_on_is_recorded_or_said_by_a_synthesiser():
    said = 0
    for seed in range(30):
        _, heard, answer = recorded_document("real-order", seed, split="train", root=REAL_DATA).messages
        (clip,), (call,) = heard.parts, answer.parts
        assert isinstance(clip, Audio)
        assert isinstance(call, ToolCall)
        assert clip.transcript is not None
        assert all(value in clip.transcript for value in json.loads(call.arguments).values())
        said += bool(clip.words)  # whose times only a synthesiser knows
    assert 12 <= said <= 27


@needs_data
def test_the_intent_is_among_the_functions_offered():
    for seed in range(30):
        offer, _, answer = recorded_document("command", seed, split="heldout", root=REAL_DATA).messages
        (call,) = answer.parts
        assert isinstance(call, ToolCall)
        names = [json.loads(line)["name"] for line in offer.text.split("\n")[1:]]
        assert call.name in names
        assert len(set(names)) == len(names)


@needs_data
def test_sentences_of_stories_are_said_and_heard_word_for_word():
    seen: dict[Split, set[str]] = {"train": set(), "heldout": set()}
    for split, sentences in seen.items():
        for seed in range(40):
            asked, said = recorded_document("read-aloud", seed, split=split, root=REAL_DATA).messages
            (sound,) = said.parts
            assert isinstance(sound, Audio)
            assert asked.text == f"say: {sound.transcript}"
            assert len(sound.words) == len(asked.text.split()) - 1
            sentences.add(asked.text)
            heard, written = recorded_document("dictation", seed, split=split, root=REAL_DATA).messages
            (clip,) = (part for part in heard.parts if isinstance(part, Audio))
            assert written.text == clip.transcript
    assert not seen["train"] & seen["heldout"]
    assert len(seen["train"]) > 35
    assert as_said("\u201cDon't stop\u2014he's 'here'!\u201d said Ann.") == "don't stop he's here said ann"
    assert as_said("3 goats") == ""


@pytest.mark.parametrize(("task", "seed"), [("sleep", 0), ("grocery", -1)])
def test_bad_arguments_are_errors(task: str, seed: int, tmp_path: Path):
    with pytest.raises(ValueError, match=r"unknown task|seed"):
        recorded_document(task, seed, split="train", root=tmp_path)


def test_a_folder_without_the_set_is_an_error(tmp_path: Path):
    with pytest.raises(ValueError, match="'grocery' is not in"):
        recorded_document("grocery", 0, split="train", root=tmp_path)
