"""How likely a text's tokens are, held to the network itself, run over the whole text at once."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import torch

from sensorium.engine.engine import OmniEngine
from sensorium.engine.reference import last_hidden
from sensorium.engine.request import SamplingParams, TextTooLong, TokenLogprob
from sensorium.messages import Message, Text
from sensorium.tokenizers import vocab
from sensorium.tokenizers.release import Release
from sensorium.tokenizers.stream import Stream
from tests.networks import random_release

TEXT = "what is two plus three, and the time is ten, please turn on the light " * 6  # more than a step's prompt rows


@pytest.fixture(scope="module")
def release() -> Release:
    return random_release()


@pytest.fixture
async def engine(release: Release):
    engine = OmniEngine(release, cached_positions=1024)
    yield engine
    await engine.close()


@torch.inference_mode()
def expected(release: Release, tokens: list[int]) -> list[torch.Tensor]:
    """Of each token, the log probabilities of all text tokens in its place."""
    stream, start, found = Stream(), release.vocabulary.text_start, []
    stream.add_all((vocab.BOS, vocab.USER))
    for token in tokens:
        logits = release.model.symbol_head(last_hidden(release.model, stream))
        found.append(logits[start : start + release.text.num_tokens].log_softmax(dim=0))
        stream.add(start + token)
    return found


def assert_scored(release: Release, tokens: list[int], scored: list[TokenLogprob]) -> None:
    assert [token.bytes for token in scored] == [release.text.token_bytes(token) for token in tokens]
    for token, one, logprobs in zip(tokens, scored, expected(release, tokens), strict=True):
        assert one.logprob == pytest.approx(float(logprobs[token]), abs=0.02)
        best = logprobs.topk(2)
        assert [each.logprob for each in one.top] == pytest.approx(best.values.tolist(), abs=0.02)


async def test_a_text_is_scored_as_the_network_finds_it(engine: OmniEngine, release: Release):
    tokens = release.text.encode(TEXT)
    assert len(tokens) > 96
    scored, few, none = await engine.score([TEXT, tokens[7:10], ""], num_top=2)
    assert_scored(release, tokens, scored)
    assert_scored(release, tokens[7:10], few)
    assert none == []


async def test_scores_are_the_same_whatever_goes_on_beside_them(engine: OmniEngine, release: Release):
    """Also where memory is so short that a text is computed several times."""
    text = TEXT * 2  # five of it don't fit
    (alone,) = await engine.score([text], num_top=1)
    asked = Message(role="user", parts=(Text(text=text),))

    async def answer(seed: int) -> None:
        async for _ in engine.generate([asked], SamplingParams(max_tokens=20, seed=seed, temperature=1.0)):
            pass

    scoring = asyncio.create_task(engine.score([text, text], num_top=1))
    await asyncio.gather(*map(answer, range(3)))
    for scored in await scoring:
        np.testing.assert_array_equal([one.logprob for one in scored], [one.logprob for one in alone])


async def test_a_text_that_does_not_fit_is_named(engine: OmniEngine):
    with pytest.raises(TextTooLong) as caught:
        await engine.score(["short", "word " * 600], num_top=0)
    assert caught.value.index == 1
