from __future__ import annotations

import pytest

from sensorium.tokenizers import vocab
from sensorium.tokenizers.vocab import NUM_SPECIALS, SPECIAL_IDS, VOICES, Vocabulary, voice_id


def test_every_id_belongs_to_one_modality():
    table = Vocabulary(text_tokens=2048)
    for symbol in range(table.size):
        kinds = [symbol < NUM_SPECIALS, table.is_text(symbol), table.is_audio(symbol), table.is_image(symbol)]
        padding = symbol >= table.image_start + table.image_codes
        assert sum(kinds) == (0 if padding else 1), symbol
    assert table.size % 64 == 0


def test_specials_keep_their_places():
    """Released weights depend on these ids: a new special goes to the end."""
    assert sorted(SPECIAL_IDS.values()) == list(range(len(SPECIAL_IDS)))
    assert (vocab.PAD, vocab.BOS, vocab.END, vocab.USER, vocab.ASSISTANT) == (0, 1, 2, 4, 5)
    assert (vocab.AUDIO, vocab.IMAGE, vocab.WRITE, vocab.SPEAK, vocab.TURN, vocab.CALL) == (7, 9, 14, 15, 19, 21)
    assert voice_id(VOICES[0]) == 27


def test_an_unknown_voice_is_refused_by_name():
    with pytest.raises(ValueError, match=r"'nova'.*alloy"):
        voice_id("nova")
