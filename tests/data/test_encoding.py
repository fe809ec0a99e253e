"""What is stored of documents' media is what an engine makes of them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from sensorium.data import corpus
from sensorium.data.encoding import encode_documents
from sensorium.data.generators.documents import document
from sensorium.data.packing import EncodedDocuments, Packing, PackingConfig, is_drawing
from sensorium.engine.media_encoder import MediaEncoder
from sensorium.tokenizers.encoded import encode_message
from sensorium.tokenizers.vocab import SECOND
from tests.networks import random_release


def test_a_film_on_disk_is_what_an_engine_sees_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "DOCUMENTS_PER_SHARD", 3)
    (shard,) = corpus.build(
        tmp_path / "films", corpus.make_documents({"see-film": 1.0}), num_shards=1, seed=5, workers=1
    )
    release = random_release(num_image_residuals=3)
    parts = {"audio": release.audio_tokenizer, "image": release.image_tokenizer}
    (encoded,) = encode_documents([shard], tmp_path / "encoded", device="cpu", **parts)
    documents = EncodedDocuments([shard], [encoded])
    media = MediaEncoder(release.audio_tokenizer, release.image_tokenizer)
    packing = Packing(documents, release.renderer, PackingConfig(), seed=0)
    assert packing.num_positions
    packing.batch(0)
    for index in range(3):
        made = document("see-film", 5 * 1_000_003 * 3 + index, split="train")
        stored = release.renderer.document(documents.messages(index))
        encode = partial(encode_message, audio=media.audio, image=media.image, film=media.film)
        seen = release.renderer.document([encode(message) for message in made.messages])
        assert stored.ids.count(SECOND) > 1
        same = [one == other for one, other in zip(stored.ids, seen.ids, strict=True)]
        assert np.mean(same) > 0.99  # sound was rounded to 16 bits
        assert stored.weights == seen.weights
        assert [at for at, _ in stored.seen] == [at for at, _ in seen.seen]
        for (_, one), (_, other) in zip(stored.seen, seen.seen, strict=True):
            np.testing.assert_allclose(one, other, rtol=0.01, atol=0.01)


def test_words_are_dropped_from_orders_to_draw_and_from_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "DOCUMENTS_PER_SHARD", 48)
    tasks: dict[str, float] = dict.fromkeys(("draw", "icon", "emoji", "edit", "edit-followup", "read"), 1.0)
    (shard,) = corpus.build(tmp_path / "made", corpus.make_documents(tasks), num_shards=1, seed=5, workers=1)
    release = random_release(num_image_residuals=3)
    parts = {"audio": release.audio_tokenizer, "image": release.image_tokenizer}
    documents = EncodedDocuments([shard], encode_documents([shard], tmp_path / "encoded", device="cpu", **parts))
    drawn = {index for index in range(48) if is_drawing(documents.messages(index))}
    assert {documents.task(index) for index in drawn} == {"draw", "icon", "emoji"}
    assert {documents.task(index) for index in set(range(48)) - drawn} == {*tasks} - {"draw"}
    kept, dropped = (
        Packing(documents, release.renderer, PackingConfig(drop_condition=share, hide_codes=0.0), seed=0)
        for share in (0.0, 1.0)
    )
    for index in range(48):
        whole, rest = (len(each._stream(index, np.random.default_rng(1))) for each in (kept, dropped))
        assert (rest < whole) == (index in drawn)
