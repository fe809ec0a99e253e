from __future__ import annotations

import numpy as np
import pytest

from sensorium.engine.grammar import Kind, Span
from sensorium.engine.request import SamplingParams
from sensorium.engine.sampling import Sampler, opening, probability
from sensorium.tokenizers import vocab

ALL = np.ones(4, dtype=bool)


def span(kind: Kind = Kind.LANGUAGE, start: int = 0, legal: np.ndarray = ALL) -> Span:
    return Span(kind, start, legal)


def draws(params: SamplingParams, logits: np.ndarray, *spans: Span, count: int = 2000) -> np.ndarray:
    """How often each symbol came up."""
    sampler = Sampler(params)
    found = [sampler.symbol(logits, spans) for _ in range(count)]
    return np.bincount(found, minlength=len(logits)) / count


def test_greedy_takes_the_likeliest_legal_symbol():
    logits = np.array([3.0, 2.0, 1.0, 0.0], dtype=np.float32)
    legal = np.array([False, True, True, False])
    assert Sampler(SamplingParams()).symbol(logits, (span(legal=legal),)) == 1


def test_a_probability_is_among_the_legal_symbols():
    logits = np.log(np.array([0.5, 0.1, 0.3, 0.1], dtype=np.float32))
    legal = span(legal=np.array([False, True, True, False]))
    assert probability(logits, legal, 1) == pytest.approx(0.25)
    assert probability(logits, legal, 2) == pytest.approx(0.75)


def test_frequencies_follow_the_softmax():
    logits = np.array([0.0, 1.0, 2.0, -3.0], dtype=np.float32)
    expected = np.exp(logits / 0.7) / np.exp(logits / 0.7).sum()
    found = draws(SamplingParams(temperature=0.7), logits, span(), count=8000)
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_top_p_keeps_the_smallest_set_that_holds_the_mass():
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], dtype=np.float32))
    found = draws(SamplingParams(temperature=1.0, top_p=0.7), logits, span())
    assert (found > 0).tolist() == [True, True, False, False]
    np.testing.assert_allclose(found[:2], [0.625, 0.375], atol=0.04)


def test_text_stays_greedy_while_the_sound_beside_it_is_sampled():
    logits = np.array([1.0, 0.5, 0, 0, 0.2, 0.1, 0, 0], dtype=np.float32)
    spans = span(), span(Kind.AUDIO, 4)
    more_text = draws(SamplingParams(audio_temperature=1.0), logits, *spans)
    assert more_text[0] == 1.0
    logits[4:] += 1.0  # now sound as a whole is likelier
    more_sound = draws(SamplingParams(audio_temperature=1.0), logits, *spans)
    assert more_sound[:4].sum() == 0.0
    assert (more_sound[4:] > 0.05).all()


def test_warm_text_and_sound_share_by_their_mass():
    logits = np.log(np.array([0.1, 0.1, 0.05, 0.05, 0.4, 0.1, 0.1, 0.1], dtype=np.float32))
    found = draws(SamplingParams(temperature=1.0, audio_temperature=1.0), logits, span(), span(Kind.AUDIO, 4))
    np.testing.assert_allclose(found, np.exp(logits), atol=0.04)


def test_each_kind_has_its_own_temperature():
    logits = np.array([0.0, 0.0, 0.0, 8.0], dtype=np.float32)
    params = SamplingParams(temperature=100.0, audio_temperature=0.0, image_temperature=1.0)
    assert draws(params, logits, span(Kind.AUDIO))[3] == 1.0
    assert draws(params, logits, span(Kind.IMAGE))[3] > 0.98
    assert draws(params, logits, span(Kind.LANGUAGE))[3] < 0.4


def test_a_seed_gives_one_answer():
    logits = np.zeros(256, dtype=np.float32)

    def codes(seed: int) -> list[int]:
        sampler = Sampler(SamplingParams(seed=seed))
        return [sampler.frame_code(logits) for _ in range(8)]

    assert codes(1) == codes(1)
    assert codes(1) != codes(2)


def test_guidance_moves_away_from_the_unconditional():
    sampler = Sampler(SamplingParams(guidance_scale=3.0))
    logits, plain = np.array([1.0, 2.0]), np.array([1.0, 1.0])
    np.testing.assert_allclose(sampler.guided(logits, plain), [1.0, 4.0])
    np.testing.assert_allclose(Sampler(SamplingParams(guidance_scale=1.0)).guided(logits, plain), logits)


@pytest.mark.parametrize("words", [vocab.WRITE, vocab.SPEAK])
def test_the_opening(words: int):
    logits = np.zeros(64, dtype=np.float32)
    assert opening(logits, words) == words
    logits[vocab.IMAGE] = 0.5
    assert opening(logits, words) == words  # words of both kinds together are still likelier
    logits[vocab.IMAGE] = 1.0
    assert opening(logits, words) == vocab.IMAGE
    logits[vocab.CALL] = 2.0
    assert opening(logits, words) == vocab.CALL


def test_the_opening_obeys_the_tool_choice():
    logits = np.zeros(64, dtype=np.float32)
    assert opening(logits, vocab.WRITE, "required") == vocab.CALL
    logits[vocab.CALL] = 9.0
    assert opening(logits, vocab.WRITE, "none") == vocab.WRITE
    assert opening(logits, vocab.WRITE, "auto") == vocab.CALL
