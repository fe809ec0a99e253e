from __future__ import annotations

import numpy as np
import pytest

from sensorium.engine import kernels, reference
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
    logits[4:] += 12.0  # now sound is all but certain
    more_sound = draws(SamplingParams(audio_temperature=1.0), logits, *spans)
    assert more_sound[:4].sum() == 0.0
    assert (more_sound[4:] > 0.05).all()


@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0])
def test_text_that_may_come_at_any_of_several_frames_comes(temperature: float):
    """At each step sound is likelier. That it is sound for the fourth time is not."""
    logits = np.log(np.array([0.2, 1e-9, 1e-9, 1e-9, 0.8, 1e-9, 1e-9, 1e-9], dtype=np.float32))
    spans = span(), span(Kind.AUDIO, 4)
    waited = []
    for seed in range(200):
        sampler = Sampler(SamplingParams(temperature=temperature, seed=seed))
        found = [sampler.symbol(logits, spans) for _ in range(40)]
        waited.append(found.index(0))
        second = found.index(0, waited[-1] + 1) - waited[-1] - 1  # it begins to wait anew
        assert temperature > 0.0 or second == waited[-1]
    if temperature == 0.0:
        assert set(waited) == {3}  # the median
    else:
        assert np.mean(waited) == pytest.approx(4, abs=1)  # as the network has it, however cool the words are


def test_warm_text_and_sound_share_by_their_mass():
    logits = np.log(np.array([0.1, 0.1, 0.05, 0.05, 0.4, 0.1, 0.1, 0.1], dtype=np.float32))
    found = draws(SamplingParams(temperature=1.0, audio_temperature=1.0), logits, span(), span(Kind.AUDIO, 4))
    np.testing.assert_allclose(found, np.exp(logits), atol=0.04)


TEXT = 64  # where text begins
WIDE = np.ones(TEXT + 4, dtype=bool)


def wide(*text: float, end: float = -9.0) -> np.ndarray:
    """Logits of the specials, of which the end is one, and of four text tokens."""
    return np.array([*[end] * TEXT, *text], dtype=np.float32)


def test_a_token_is_biased_before_the_temperature():
    logits = wide(3.0, 2.0, 1.0, 0.0)
    assert Sampler(SamplingParams(token_bias=((3, 100.0),))).symbol(logits, (span(legal=WIDE),)) == TEXT + 3
    assert Sampler(SamplingParams(token_bias=((0, -100.0), (2, 1.5)))).symbol(logits, (span(legal=WIDE),)) == TEXT + 2
    params = SamplingParams(temperature=1.0, token_bias=((0, -100.0),))
    assert draws(params, logits, span(legal=WIDE))[TEXT] == 0.0
    assert logits[TEXT] == 3.0  # the caller's logits are not written to


def test_penalties_count_what_was_drawn():
    logits = wide(3.0, 2.5, 0.0, 0.0)

    def drawn(count: int, **penalties: float) -> list[int]:
        sampler = Sampler(SamplingParams(**penalties))  # pyright: ignore[reportArgumentType]
        return [sampler.symbol(logits, (span(legal=WIDE),)) - TEXT for _ in range(count)]

    assert drawn(4) == [0, 0, 0, 0]
    assert drawn(5, presence_penalty=1.0) == [0, 1, 0, 0, 0]  # once, however often it came
    assert drawn(6, frequency_penalty=1.0) == [0, 1, 0, 1, 0, 1]
    assert drawn(3, frequency_penalty=-2.0) == [0, 0, 0]


def test_the_end_of_an_answer_is_not_penalised():
    logits = wide(0.0, 0.0, 0.0, 0.0, end=2.0)
    sampler = Sampler(SamplingParams(frequency_penalty=2.0))
    assert [sampler.symbol(logits, (span(legal=WIDE),)) for _ in range(3)] == [0, 0, 0]


def test_scores_are_the_networks_own_among_legal_text():
    logits = wide(*np.log([0.4, 0.3, 0.2, 0.1]), end=5.0)
    legal = WIDE.copy()
    legal[:TEXT] = False
    legal[TEXT] = False
    shaped = SamplingParams(temperature=1.7, top_p=0.9, token_bias=((3, 50.0),), presence_penalty=1.0, top_logprobs=2)
    sampler = Sampler(shaped)
    assert sampler.symbol(logits, (span(legal=legal),)) == TEXT + 3
    assert sampler.scores is not None
    assert np.exp(sampler.scores.logprob) == pytest.approx(0.1 / 0.6)
    assert [symbol for symbol, _ in sampler.scores.top] == [TEXT + 1, TEXT + 2]
    assert [np.exp(logprob) for _, logprob in sampler.scores.top] == pytest.approx([0.5, 1 / 3])
    ended = Sampler(shaped)
    ended.symbol(logits, (span(legal=np.arange(TEXT + 4) < 9),))
    assert ended.scores is None  # not text
    quiet = Sampler(SamplingParams())
    quiet.symbol(logits, (span(legal=legal),))
    assert quiet.scores is None  # not asked for


def test_each_kind_has_its_own_temperature():
    logits = np.array([0.0, 0.0, 0.0, 8.0], dtype=np.float32)
    params = SamplingParams(temperature=100.0, audio_temperature=0.0, image_temperature=1.0)
    assert draws(params, logits, span(Kind.AUDIO))[3] == 1.0
    assert draws(params, logits, span(Kind.IMAGE))[3] > 0.98
    assert draws(params, logits, span(Kind.LANGUAGE))[3] < 0.4


def test_a_seed_gives_one_answer():
    logits = np.zeros(256, dtype=np.float32)

    def symbols(seed: int) -> list[int]:
        sampler = Sampler(SamplingParams(temperature=1.0, seed=seed))
        codes = sampler.frame(3).heights.tolist()
        return [*codes, *(sampler.symbol(logits, (span(legal=np.ones(256, bool)),)) for _ in range(8))]

    assert symbols(1) == symbols(1)
    assert symbols(1) != symbols(2)


@pytest.mark.parametrize("temperature", [0.0, 0.01, 0.3, 1.0, 100.0])
def test_a_draw_is_that_of_the_reference(temperature: float):
    rng = np.random.default_rng(0)
    for size in (1, 2, 7, 256, 4096):
        logits = rng.normal(0.0, 5.0, size).astype(np.float32)
        logits[rng.random(size) < 0.3] = -np.inf
        logits[rng.integers(size)] = 3.0
        for height in (1.0, 1e-12, *(1.0 - rng.random(20))):
            drawn = kernels.draw(logits, np.float32(temperature), height)
            assert drawn == reference.draw(logits, temperature, height)
            assert logits[drawn] > -np.inf


def test_guidance_moves_away_from_the_unconditional():
    sampler = Sampler(SamplingParams(guidance_scale=3.0))
    logits, plain = np.array([1.0, 2.0]), np.array([1.0, 1.0])
    np.testing.assert_allclose(sampler.guided(logits, plain), [1.0, 4.0])
    np.testing.assert_allclose(Sampler(SamplingParams(guidance_scale=1.0)).guided(logits, plain), logits)


FORMS = (vocab.WRITE, vocab.SPEAK, vocab.IMAGE, vocab.CALL)


@pytest.mark.parametrize("words", [vocab.WRITE, vocab.SPEAK])
def test_the_opening(words: int):
    logits = np.zeros(64, dtype=np.float32)
    assert opening(logits, words, FORMS) == words
    logits[vocab.IMAGE] = 0.5
    assert opening(logits, words, FORMS) == words  # words of both kinds together are still likelier
    logits[vocab.IMAGE] = 1.0
    assert opening(logits, words, FORMS) == vocab.IMAGE
    logits[vocab.CALL] = 2.0
    assert opening(logits, words, FORMS) == vocab.CALL


def test_the_opening_is_one_of_the_forms_allowed():
    logits = np.zeros(64, dtype=np.float32)
    assert opening(logits, vocab.WRITE, (vocab.CALL,)) == vocab.CALL
    logits[vocab.CALL] = 9.0
    assert opening(logits, vocab.WRITE, FORMS[:3]) == vocab.WRITE
    assert opening(logits, vocab.WRITE, FORMS[:2]) == vocab.WRITE
    assert opening(logits, vocab.WRITE, FORMS) == vocab.CALL
