import numpy as np
import pytest

from sensorium.data.generators.dialogues import is_heldout
from sensorium.data.generators.documents import document
from sensorium.data.generators.speech import PRESETS, Split
from sensorium.data.generators.translations import _SET, LANGUAGES, phrase
from sensorium.messages import Audio, Part, Text


def many(split: Split, n: int = 400) -> list[dict]:
    rng = np.random.default_rng(2)
    return [phrase(rng, split) for _ in range(n)]


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_a_meaning_is_in_every_language_and_in_one_split(split: Split):
    for made in many(split):
        assert set(made) == set(LANGUAGES)
        assert all(text == text.strip().lower() for text in made.values())
        assert is_heldout(made["english"]) == (split == "heldout") or made in _SET
        assert split == "train" or made not in _SET


def test_a_phrase_has_one_translation():
    for language in LANGUAGES[1:]:
        for one, other in (("english", language), (language, "english")):
            pairs = {(made[one], made[other]) for made in many("train", 3000)}
            assert len({given for given, _ in pairs}) == len(pairs), (one, other)


def test_articles_and_endings_agree():
    made = {item["english"]: item for item in [*many("train", 3000), *many("heldout", 1000)]}
    assert made["the white house"] == {
        "english": "the white house",
        "german": "das weiße haus",
        "french": "la maison blanche",
        "spanish": "la casa blanca",
    }
    assert made["the dog is black"]["french"] == "le chien est noir"
    assert made["i see the dog"] == {
        "english": "i see the dog",
        "german": "ich sehe den hund",
        "french": "je vois le chien",
        "spanish": "veo al perro",
    }


def test_what_is_translated_aloud_is_said_by_a_preset_voice_in_its_language():
    answers = [
        message.parts[0]
        for seed in range(40)
        for message in document("translate", seed, split="train").messages
        if message.role == "assistant"
    ]
    spoken = [part for part in answers if isinstance(part, Audio)]
    assert 10 < len(spoken) < 35
    assert all(part.voice in PRESETS for part in spoken)


def test_what_is_english_already_stays_as_it_is():
    kept = 0
    for seed in range(120):
        *asked, answer = document("translate", seed, split="train").messages
        given = [part for message in asked if message.role == "user" for part in message.parts]
        said = wording(answer.parts[0])
        kept += any(wording(part).partition(": ")[2] == said or wording(part) == said for part in given)
    assert 5 < kept < 30


def wording(part: Part) -> str:
    assert isinstance(part, Audio | Text)
    return (part.transcript or "") if isinstance(part, Audio) else part.text
