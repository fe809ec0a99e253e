"""What is stored of documents' media is what an engine makes of them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from sensorium.data import corpus
from sensorium.data.encoding import encode_documents
from sensorium.data.generators.documents import document
from sensorium.data.packing import EncodedDocuments, Packing, PackingConfig
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
