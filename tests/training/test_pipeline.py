"""The whole recipe at toy size: every stage runs, the release loads, a resumed corpus is the same corpus."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from recipes import ablations
from recipes.command import train
from recipes.tiny import BROADER, FIRMER, GROWN, LASTING, NOTING
from sensorium.data import corpus
from sensorium.data.generators.documents import NAMES
from sensorium.data.loader import Answers, Drawings
from sensorium.data.packing import EncodedDocuments, Packing, PackingConfig, roughen
from sensorium.data.recorded import RECORDED
from sensorium.model.embed import text_inputs
from sensorium.tokenizers.encoded import EncodedImage, SpelledText
from sensorium.tokenizers.release import Release
from sensorium.tokenizers.stream import IGNORE_INDEX, collate_labels
from sensorium.tokenizers.vocab import LISTEN, NULL, WRITE
from sensorium.training import metrics
from sensorium.training.pipeline import can_compile, curriculum, new_release, run
from sensorium.training.recipe import Phase, begin
from sensorium.training.tokenizers import sharpen_image
from tests.training.toy import TOY

REAL_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("toy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "CLIPS_PER_SHARD", 8)  # as `small_corpora` has them
        patch.setattr(corpus, "PICTURES_PER_SHARD", 16)
        patch.setattr(corpus, "DOCUMENTS_PER_SHARD", 40)
        run(TOY, out, device="cpu")
    return out


def encoded_documents(finished: Path) -> EncodedDocuments:
    return EncodedDocuments(
        [finished / "documents-train" / "shard-00000"], [finished / "encoded-train" / "shard-00000"]
    )


def test_every_stage_leaves_its_result(finished: Path) -> None:
    release = Release.load(finished / "release")
    assert release.config.name == "sensorium-toy"
    assert release.model.num_parameters() > 0
    records = metrics.read(finished / "network")
    assert records[-1]["step"] == 12
    assert records[-1]["loss"] < records[0]["loss"]
    assert records[-1]["heldout_text"] > 0
    assert records[-1]["heldout_image_residual"] > 0


def test_a_second_run_changes_nothing(finished: Path) -> None:
    before = torch.load(finished / "network" / "state.pt", weights_only=True)["module"]
    run(TOY, finished, device="cpu")
    after = torch.load(finished / "network" / "state.pt", weights_only=True)["module"]
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_run_set_up_differently_is_refused(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = begin(TOY, finished, num_ranks=1)
    assert settings["network"]["num_steps"] == 12
    for changed, named in (
        (replace(TOY, seed=2), "seed 1, not 2"),
        (replace(TOY, network=replace(TOY.network, num_steps=13)), "network.num_steps 12, not 13"),
    ):
        with pytest.raises(ValueError, match=named):
            run(changed, finished, device="cpu")
    with pytest.raises(ValueError, match="ranks 1, not 2"):
        begin(TOY, finished, num_ranks=2)
    begin(replace(TOY, workers=7), finished, num_ranks=1)  # the material is the same
    monkeypatch.setattr("sys.argv", ["toy", "--out", str(finished), "--seed", "3", "--processes", "1"])
    with pytest.raises(SystemExit, match="2"):
        train(TOY)


def test_a_run_killed_at_any_moment_comes_to_the_same_weights(finished: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.training.toy", "--out", str(tmp_path), "--device", "cpu"]
    command += ["--processes", "1"]
    appears = (
        tmp_path / "documents-train" / "shard-00000",
        tmp_path / "encoded-train" / "shard-00000",
        tmp_path / "audio-decoder",
    )
    for found in appears:  # killed while the stage after it begins
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            while not found.exists() and process.poll() is None:
                time.sleep(0.01)
            process.kill()
    assert not (tmp_path / "image-decoder").exists()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    for name in ("network", "audio", "image"):
        once, again = (load_file(folder / "release" / f"{name}.safetensors") for folder in (finished, tmp_path))
        assert all(torch.equal(tensor, again[tensor_name]) for tensor_name, tensor in once.items()), name


def test_two_ranks_make_one_run_that_can_be_resumed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.training.toy", "--device", "cpu", "--processes", "2", "--out"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run([*command, str(whole)], check=True, stdout=subprocess.DEVNULL)
    with subprocess.Popen([*command, str(broken)], stdout=subprocess.DEVNULL, start_new_session=True) as process:
        while not (broken / "network").exists() and process.poll() is None:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
    subprocess.run([*command, str(broken)], check=True, stdout=subprocess.DEVNULL)
    once, again = (load_file(folder / "release" / "network.safetensors") for folder in (whole, broken))
    assert all(torch.equal(tensor, again[name]) for name, tensor in once.items())


@pytest.mark.gpu
def test_the_same_recipe_trains_on_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "CLIPS_PER_SHARD", 8)
    monkeypatch.setattr(corpus, "PICTURES_PER_SHARD", 16)
    monkeypatch.setattr(corpus, "DOCUMENTS_PER_SHARD", 40)
    run(replace(TOY, network=replace(TOY.network, compiled=True)), tmp_path, device="cuda")
    records = metrics.read(tmp_path / "network")
    assert records[-1]["loss"] < records[0]["loss"]


def test_without_a_compiler_a_run_goes_on_uncompiled(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def fails(*_: object, **__: object) -> object:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", fails)
    assert not can_compile("cpu")
    assert "cannot be compiled" in capsys.readouterr().out


def test_ranks_run_the_program_that_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe's file may have another name than the recipe."""
    called: list[list[str]] = []
    monkeypatch.setattr("subprocess.call", lambda command, env: called.append(command) or 0)
    monkeypatch.setattr("sys.argv", ["mine.py", "--out", str(tmp_path), "--device", "cpu", "--processes", "2"])
    for spec, program in ((ModuleSpec("recipes.mine", None), ["-m", "--", "recipes.mine"]), (None, ["--", "mine.py"])):
        monkeypatch.setattr(sys.modules["__main__"], "__spec__", spec)
        with pytest.raises(SystemExit, match="0"):
            train(TOY)
        at = called[-1].index("--nproc-per-node=2") + 1
        assert called[-1][at : at + len(program)] == program


def test_a_stage_before_the_last_is_trained_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, Path]] = []
    monkeypatch.setattr("recipes.command.run", lambda recipe, out, device: ran.append((recipe.name, out)))
    monkeypatch.chdir(tmp_path)
    for words in ([], ["--stage", "first"], ["--stage", "first", "--out", "mine"]):
        monkeypatch.setattr("sys.argv", ["mine.py", "--device", "cpu", "--processes", "1", *words])
        train(TOY, replace(TOY, name="first"))
    assert ran == [(TOY.name, Path("runs") / TOY.name), ("first", Path("runs/first")), ("first", Path("mine"))]


def test_shards_are_functions_of_their_number(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "DOCUMENTS_PER_SHARD", 40)
    maker = corpus.make_documents(TOY.network.weights)
    (again,) = corpus.build(tmp_path, maker, num_shards=1, seed=TOY.seed, workers=1)
    for name in ("documents.jsonl", "clips.jsonl", "audio.npy", "images.npy"):
        assert (again / name).read_bytes() == (finished / "documents-train" / "shard-00000" / name).read_bytes()


def test_records_are_the_same_read_one_by_one_or_all_at_once(finished: Path, tmp_path: Path) -> None:
    for name in ("documents.jsonl", "clips.jsonl"):
        path = finished / "documents-train" / "shard-00000" / name
        assert list(corpus.Lines(path)) == corpus.read_lines(path)
        assert corpus.Lines(path)[-3:-1] == corpus.read_lines(path)[-3:-1]
    (tmp_path / "none.jsonl").write_text("")
    assert list(corpus.Lines(tmp_path / "none.jsonl")) == []
    with pytest.raises(IndexError):
        corpus.Lines(path)[10_000]


def test_documents_are_numbered_through_their_shards(finished: Path) -> None:
    shard = finished / "documents-train" / "shard-00000", finished / "encoded-train" / "shard-00000"
    once, thrice = (EncodedDocuments([shard[0]] * n, [shard[1]] * n) for n in (1, 3))
    assert len(thrice) == 3 * len(once)
    for index in (0, 1, len(once) - 1):
        assert [thrice.task(index + n * len(once)) for n in range(3)] == [once.task(index)] * 3
        assert thrice.answers(index + len(once)) == once.answers(index)


def test_batches_are_functions_of_their_step(finished: Path) -> None:
    release = Release.load(finished / "release")
    documents = encoded_documents(finished)

    def packing() -> Packing:
        return Packing(documents, release.renderer, PackingConfig(batch_positions=1500), seed=5)

    walked, jumped = packing(), packing()
    streams = [walked.batch(step) for step in range(12)][11]
    assert [stream.ids for stream in streams] == [stream.ids for stream in jumped.batch(11)]
    assert len(streams) * max(len(stream) for stream in streams) <= 1500 or len(streams) == 1


def test_an_epoch_sees_every_document_once(finished: Path) -> None:
    release = Release.load(finished / "release")
    documents = encoded_documents(finished)
    packing = Packing(documents, release.renderer, PackingConfig(batch_positions=1500, live_share=0.0), seed=5)
    rows = sum(len(batch) for batch in packing._epoch(0))
    assert rows == len(documents)


def test_who_pauses_is_always_heard_live_and_who_talks_on_mostly(finished: Path) -> None:
    release, documents, named = Release.load(finished / "release"), encoded_documents(finished), ("transcribe",)
    for always, mostly, are_live in ((), (), {False}), (named, (), {True}), ((), named, {False, True}):
        config = PackingConfig(batch_positions=1500, live_share=0.0, live_tasks=always, mostly_live=mostly)
        packing = Packing(documents, release.renderer, config, seed=5).only(("transcribe",), seed=5)
        streams = [stream for step in range(4) for stream in packing.batch(step)]
        assert {LISTEN in stream.ids for stream in streams} == are_live


def test_phases_see_their_tasks_and_the_rest_sees_everything(finished: Path) -> None:
    release = Release.load(finished / "release")
    documents = encoded_documents(finished)
    packing = Packing(documents, release.renderer, PackingConfig(batch_positions=1500), seed=5)
    phases = (Phase(share=0.25, tasks=("transcribe", "tool")), Phase(share=0.25, tasks=("say",)))
    stage = replace(TOY.network, num_steps=8, phases=phases)
    learned = curriculum(packing, stage, num_ranks=2)
    for number in range(4):
        assert not any(stream.spoken or stream.patches for stream in learned.batch(number)), "nothing is said or drawn"
    for number in range(4, 8):
        assert all(stream.spoken and not stream.heard for stream in learned.batch(number)), "speech alone"
    rest = [stream.ids for number in range(8, 16) for stream in learned.batch(number)]
    assert rest == [stream.ids for number in range(8) for stream in packing.batch(number)]
    assert curriculum(packing, TOY.network, num_ranks=1).batch(3)[0].ids == packing.batch(3)[0].ids


def test_tinys_mixture_is_of_documents_that_there_are() -> None:
    for recipe in (GROWN, BROADER, FIRMER, NOTING, LASTING):
        assert set(recipe.network.weights) <= {*NAMES, *RECORDED}
    assert sum(GROWN.network.weights.values()) == pytest.approx(1.6, abs=0.05)
    assert "see-film" in LASTING.network.weights
    given = Release.load("sensorium/checkpoints/nano")
    parts = given.text, given.audio_tokenizer, given.image_tokenizer
    model = new_release(replace(GROWN, start=Path("sensorium/checkpoints/nano")), *parts).model
    assert 16e6 < model.num_parameters() < 40e6


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="the folder of real data is not beside the project")
def test_tinys_whole_way_at_toy_size(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "DOCUMENTS_PER_SHARD", 120)
    monkeypatch.setattr(corpus, "PICTURES_PER_SHARD", 16)
    monkeypatch.setenv("SENSORIUM_DATA", str(REAL_DATA))
    sizes = {"depth": 4, "num_shards": 1, "num_steps": 40, "model": {"feature_size": 32}, "compiled": False}
    network = replace(GROWN.network, **sizes, text_tokens=512, packing=PackingConfig(batch_positions=2048))
    small = {"num_shards": 1, "batch_size": 2, "sharpen_steps": 16, "decoder_steps": 2}
    recipe = replace(
        GROWN,
        audio=TOY.audio,
        image=replace(GROWN.image, **small, config=replace(TOY.image.config, blocks=(2, 2))),
        network=network,
        start=finished / "release",
        keep_tokenizers=True,
        workers=1,
    )
    release = run(recipe, tmp_path, device="cpu")
    given = Release.load(finished / "release")
    assert len(list(release.image_tokenizer.encoder)) > len(list(given.image_tokenizer.encoder))
    assert release.config.render.cuts
    assert release.model.config.vocab_size == given.model.config.vocab_size
    records = metrics.read(tmp_path / "network")
    assert records[-1]["step"] == 40
    assert records[-1]["loss"] < records[0]["loss"]


def test_labels_ask_only_for_what_the_network_must_say(finished: Path) -> None:
    release = Release.load(finished / "release")
    documents = encoded_documents(finished)
    vocabulary = release.vocabulary
    for index in range(len(documents)):
        stream = release.renderer.document(documents.messages(index))
        labels = collate_labels([stream], release.model.config)
        asked = labels.targets[0][labels.targets[0] != IGNORE_INDEX].tolist()
        own_frames = len(stream.spoken)
        assert sum(vocabulary.is_audio(symbol) for symbol in asked) == own_frames
        heard = {position for position, _ in stream.heard}
        assert all(stream.weights[position] == 0.0 for position in heard)
        for frame in stream.spoken:
            symbol = stream.ids[frame.at + 1]
            assert symbol == vocabulary.audio_start + int(frame.codes[0])
        assert sum(vocabulary.is_image(symbol) for symbol in asked) == len(stream.drawn)
        for patch in stream.drawn:
            assert stream.ids[patch.at + 1] == vocabulary.image_start + int(patch.codes[0])


def test_what_is_read_is_roughened_and_what_is_said_is_not(finished: Path) -> None:
    release = Release.load(finished / "release")
    documents = encoded_documents(finished)
    config = PackingConfig(heard_noise=0.3, gaps=0.3, slips=0.3)
    changed = {"heard": 0, "gaps": 0, "slips": 0}
    for index in range(len(documents)):
        plain = release.renderer.document(documents.messages(index))
        rough = release.renderer.document(documents.messages(index))
        roughen(rough, np.random.default_rng(index), config)
        assert rough.targets == plain.targets
        assert rough.weights == plain.weights
        assert len(rough) == len(plain)
        own = {codes.at + 1 for codes in plain.spoken}
        heard = {at for at, _ in plain.heard}
        for at, (one, other) in enumerate(zip(plain.ids, rough.ids, strict=True)):
            if one != other:
                assert at in own or (at in heard and other == NULL)
                changed["slips" if at in own else "gaps"] += 1
        changed["heard"] += sum(
            not np.array_equal(one, other) for (_, one), (_, other) in zip(plain.heard, rough.heard, strict=False)
        )
        for codes, before in zip(rough.spoken, plain.spoken, strict=True):
            assert np.array_equal(codes.codes, before.codes)
    assert all(changed.values())


def test_answers_are_retold_and_nothing_else(finished: Path) -> None:
    documents = encoded_documents(finished)
    encoded, retold = (finished / name / "shard-00000" for name in ("encoded-train", "retold-train"))
    answers = [documents.answers(index) for index in range(len(documents))]
    clips, images = ([number for pair in answers for number in pair[kind]] for kind in (0, 1))
    assert sorted(clips) == np.load(retold / "clips.npy").tolist()
    assert sorted(images) == np.load(retold / "images.npy").tolist()
    starts = np.load(encoded / "audio_starts.npy")
    frames = [frame for clip in clips for frame in range(starts[clip], starts[clip + 1])]
    for name, own in (("audio_codes", frames), ("image_codes", images)):
        true, retelling = np.load(encoded / f"{name}.npy"), np.load(retold / f"{name}.npy")
        assert (true[..., 0] == retelling[..., 0]).all()  # the first code stays
        changed = set(np.nonzero(true != retelling)[0].tolist())
        assert changed <= set(own)
        assert len(changed) > 0.8 * len(own)  # now and then the same by chance
        assert retelling.max() < 1000


def test_what_a_decoder_learns_from_belongs_together(finished: Path) -> None:
    """Sound and pictures beside the codes that the encoder made of them, and beside the network's own."""
    folders = [[finished / name / "shard-00000"] for name in ("documents-train", "encoded-train", "retold-train")]
    tokenizers = Release.load(finished / "release")
    drawings = Drawings(*folders)
    pixels, codes = drawings.batch(0, seed=1, batch_size=6, own_share=0.0)
    assert np.array_equal(tokenizers.image_tokenizer.encode(torch.from_numpy(pixels)).codes.numpy(), codes)
    same_pixels, own = drawings.batch(0, seed=1, batch_size=6, own_share=1.0)
    assert np.array_equal(pixels, same_pixels)
    assert (own != codes).any(axis=(1, 2)).all()
    audio = tokenizers.audio_tokenizer
    answers = Answers(*folders, frame_size=audio.config.frame_size)
    (waveform,), (codes,) = answers.batch(0, seed=1, batch_size=1, frames=len(answers), own_share=0.0)
    (length, *_) = np.diff(np.load(folders[1][0] / "audio_starts.npy"))[np.load(folders[2][0] / "clips.npy")]
    first = torch.from_numpy(waveform[: length * audio.config.frame_size]).unsqueeze(0)
    assert np.array_equal(audio.encode(first)[0].codes[0].numpy(), codes[:length])


def test_a_run_goes_on_from_a_release(finished: Path, tmp_path: Path) -> None:
    release = Release.load(finished / "release")
    recipe = replace(TOY, start=finished / "release")
    network = new_release(recipe, release.text, release.audio_tokenizer, release.image_tokenizer).model
    for name, tensor in release.model.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor), name
    larger = replace(recipe, network=replace(TOY.network, depth=4))
    grown = new_release(larger, release.text, release.audio_tokenizer, release.image_tokenizer).model.eval()
    assert grown.config.hidden_size > network.config.hidden_size
    inputs = text_inputs(torch.arange(40).unsqueeze(0), network.config)
    with torch.no_grad():
        logits, old = (model.symbol_head(model(inputs)) for model in (grown, release.model.eval()))
    torch.testing.assert_close(logits, old, rtol=1e-3, atol=1e-3)
    smaller = replace(TOY.network, model=TOY.network.model | {"num_layers": 1})
    with pytest.raises(ValueError, match="num_layers 2 cannot grow into one of 1"):
        run(replace(recipe, network=smaller), tmp_path / "smaller", device="cpu")
    assert not (tmp_path / "smaller").exists(), "refused before anything is made"


def test_a_run_may_keep_the_tokenizers_of_the_release(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "DOCUMENTS_PER_SHARD", 40)
    given = Release.load(finished / "release")
    network = replace(TOY.network, frozen_layers=1)
    recipe = replace(TOY, network=network, start=finished / "release", keep_tokenizers=True, seed=TOY.seed + 1)
    made = run(recipe, tmp_path, device="cpu")
    changed = {
        name
        for one, other in (
            (given.audio_tokenizer, made.audio_tokenizer),
            (given.image_tokenizer, made.image_tokenizer),
        )
        for name, tensor in one.state_dict().items()
        if not torch.equal(tensor, other.state_dict()[name])
    }
    assert changed
    assert all(name.startswith("decoder.") for name in changed)  # the codes are the same
    learned = made.model.state_dict()
    kept = {name for name, tensor in given.model.state_dict().items() if torch.equal(tensor, learned[name])}
    assert {name for name in learned if name.startswith(("embed.", "blocks.0."))} <= kept
    assert not {name for name in learned if name.startswith(("blocks.1.", "symbol_head."))} & kept
    assert not (tmp_path / "clips").exists()  # nothing is made that nobody trains on
    with pytest.raises(ValueError, match="keep_tokenizers"):
        replace(TOY, keep_tokenizers=True)


def test_the_eye_of_a_kept_tokenizer_may_be_sharpened(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "PICTURES_PER_SHARD", 16)
    given = Release.load(finished / "release").image_tokenizer
    before = {name: tensor.clone() for name, tensor in given.state_dict().items()}
    image = replace(TOY.image, sharpen_steps=16, sharpen_lr=1e-4, sharpen_matrix_lr=1e-4)
    recipe = replace(TOY, image=image, start=finished / "release", keep_tokenizers=True)
    sharper = sharpen_image(recipe, tmp_path, given, device="cpu")
    assert all(torch.equal(tensor, before[name]) for name, tensor in given.state_dict().items())
    pixels = torch.from_numpy(np.load(tmp_path / "pictures" / "shard-00000" / "images.npy"))
    old, new = given.encode(pixels), sharper.encode(pixels)
    assert not torch.equal(old.features, new.features)
    assert (old.codes[..., 0] == new.codes[..., 0]).float().mean() > 0.7
    assert metrics.read(tmp_path / "image-sharpened")[-1]["codes_kept"] > 0.7


def test_words_in_pictures_are_written_letter_by_letter(finished: Path) -> None:
    release = Release.load(finished / "release")
    documents = encoded_documents(finished)
    spelled = [
        (part.text, release.renderer.document(documents.messages(index)))
        for index in range(len(documents))
        if documents.task(index) == "read"
        for part in documents.messages(index)[-1].parts
        if isinstance(part, SpelledText)
    ]
    assert spelled
    for word, stream in spelled:
        written = stream.ids[stream.ids.index(WRITE) + 1 : -1]
        assert len(written) == len(word)
        assert release.text.decode(symbol - release.vocabulary.text_start for symbol in written) == word


def test_every_picture_that_is_shown_comes_with_its_words(finished: Path) -> None:
    documents = encoded_documents(finished)
    kinds = set()
    for index in range(len(documents)):
        shown = [part for message in documents.messages(index) if message.role == "user" for part in message.parts]
        for caption in [part.caption for part in shown if isinstance(part, EncodedImage)]:
            assert caption is not None
            kinds.add((documents.task(index), isinstance(caption, SpelledText), len(caption.text.split()) > 6))
    assert ("see", False, True) in kinds  # everything that a scene shows, and where
    assert ("read", True, False) in kinds  # a word, letter by letter


def test_encoded_codes_are_those_of_the_released_tokenizer(finished: Path) -> None:
    release = Release.load(finished / "release")
    shard = finished / "documents-train" / "shard-00000"
    clip = corpus.read_lines(shard / "clips.jsonl")[0]
    sound = np.load(shard / "audio.npy")[: clip["samples"]].astype(np.float32) / 32768
    frames = -(-len(sound) // release.config.audio.frame_size)
    padded = np.zeros(frames * release.config.audio.frame_size, dtype=np.float32)
    padded[: len(sound)] = sound
    made, _ = release.audio_tokenizer.encode(torch.from_numpy(padded).unsqueeze(0))
    stored = np.load(finished / "encoded-train" / "shard-00000" / "audio_codes.npy")[:frames]
    assert (made.codes[0].numpy() == stored).mean() > 0.99  # batched rows may differ in the last float bit


def test_encoded_pictures_have_all_codes_of_their_patches(finished: Path) -> None:
    release = Release.load(finished / "release")
    pictures = np.load(finished / "documents-train" / "shard-00000" / "images.npy")
    stored = np.load(finished / "encoded-train" / "shard-00000" / "image_codes.npy")
    assert stored.dtype == np.uint16
    assert stored.shape == (len(pictures), 64, 4)
    made = release.image_tokenizer.encode(torch.from_numpy(pictures[:8]))
    assert (made.codes.numpy() == stored[:8]).mean() > 0.99


def test_what_is_no_release_is_refused_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["nano", "--start", str(tmp_path), "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit, match="2"):
        train(TOY)
    assert not (tmp_path / "run").exists()


def test_ablations_compare_variants_of_a_run(finished: Path, tmp_path: Path) -> None:
    names = ["base", "FFN per group", "codec: no phonemes"]
    settings: dict[str, Any] = {"steps": 2, "names": names, "n": 0, "judges": tmp_path / "none", "codec_steps": 3}
    results = ablations.main(finished, tmp_path, recipe=TOY, **settings)
    assert list(results) == names
    assert all(row["heldout_text"] > 0 and row["heldout_audio"] > 0 for row in results.values())
    assert Release.load(tmp_path / "FFN-per-group" / "release").config.model.ffn == "per_group"
    shard = Path("encoded-train", "shard-00000", "audio_codes.npy")
    assert not np.array_equal(np.load(finished / shard), np.load(tmp_path / "codec-no-phonemes" / shard))
    assert ["phonemes_in_q0" in row for row in results.values()] == [False, False, True]
    assert (tmp_path / "ablations.md").read_text().count("\n") == 2 + len(names)
    assert ablations.main(finished, tmp_path, recipe=TOY, **settings) == results  # nothing is trained again
