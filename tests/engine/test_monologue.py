"""What is said is what would have been written, where the network might as well have written it."""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile
from pathlib import Path

import numpy as np
import pytest

import sensorium.engine.answer
import sensorium.engine.monologue
import sensorium.engine.sequence
from sensorium.engine import reference
from sensorium.engine.answer import Network, write
from sensorium.engine.engine import OmniEngine
from sensorium.engine.grammar import Grammar, Rules, Span
from sensorium.engine.monologue import might_write
from sensorium.engine.request import ImageDelta, Modality, SamplingParams, TextDelta, TranscriptDelta
from sensorium.engine.sampling import Sampler
from sensorium.engine.scheduler import alone
from sensorium.engine.sequence import Sequence
from sensorium.messages import Message, Text
from sensorium.tokenizers import vocab
from sensorium.tokenizers.encoded import EncodedMessage
from sensorium.tokenizers.release import Release
from sensorium.tokenizers.stream import Stream
from sensorium.tokenizers.vocab import NUM_SPECIALS

NANO = Path(__file__).parents[2] / "sensorium" / "checkpoints" / "nano"
NUM_SYMBOLS = 60
WORDS = [NUM_SPECIALS + 40, NUM_SPECIALS + 41]
QUESTIONS = ["what is the opposite of hot", "turn on the lights in the kitchen", "what is two plus three"]


def prompt(release: Release, text: str) -> Stream:
    stream = Stream()
    for piece in release.renderer.prompt([EncodedMessage(role="user", parts=(Text(text=text),))], ()):
        stream.extend(piece.stream)
    return stream


def said_by_the_reference(network: Network, text: str, params: SamplingParams) -> list[int]:
    """First the whole text, then the speech that is held to it: one after the other, without a fork or a cache."""
    model, alphabet = network.release.model, network.alphabet
    grammar = Grammar.answer(alphabet, modality="text", voice="alloy", rules=Rules(tool_choice="none"))
    grammar.push(vocab.WRITE)
    thought = prompt(network.release, text)
    thought.add(vocab.WRITE)
    symbols = reference.generate(model, thought, grammar, Sampler(params), max_symbols=NUM_SYMBOLS)
    written = takewhile(network.release.vocabulary.is_text, (symbol.id for symbol in symbols))
    stream, rules = prompt(network.release, text), Rules(script=tuple(written))
    grammar = Grammar.answer(alphabet, modality="audio", voice="alloy", rules=rules)
    symbols = reference.generate(model, stream, grammar, Sampler(params), max_symbols=NUM_SYMBOLS)
    return [symbol.id for symbol in symbols]


@pytest.mark.parametrize("temperature", [0.0, 0.9])
@pytest.mark.parametrize("text", ["the time is ten", "draw a red circle", "turn on the light, please"])
def test_a_word_ahead_is_as_good_as_all_of_them(
    release: Release, temperature: float, text: str, monkeypatch: pytest.MonkeyPatch
):
    for module in (sensorium.engine.answer, sensorium.engine.sequence):
        monkeypatch.setattr(module, "opening", lambda *_: vocab.SPEAK)
    params = SamplingParams(modality="audio", temperature=temperature, seed=3, max_tokens=NUM_SYMBOLS)
    network = Network.of(release)
    sequence = Sequence(network.runner)
    sequence.append(prompt(release, text))
    assert might_write(sequence.logits(), vocab.SPEAK)
    start = len(sequence)
    for _ in alone(write(network, sequence, network.answer_grammar(params), params)):
        pass
    found = sequence.stream.ids[start:][:NUM_SYMBOLS]
    assert found == said_by_the_reference(network, text, params)[: len(found)]
    assert sum(release.vocabulary.is_text(symbol) for symbol in found) > 3
    assert sum(release.vocabulary.is_audio(symbol) for symbol in found) > 3


class _Planned(Sampler):
    """Writes two words and then a picture, whatever the network has in mind."""

    def __init__(self, params: SamplingParams) -> None:
        super().__init__(params)
        self._left = [*WORDS, vocab.IMAGE]

    def symbol(self, logits: np.ndarray, spans: tuple[Span, ...]) -> int:
        symbol = self._left.pop(0)
        assert any(span.legal[symbol - span.start] for span in spans if span.start <= symbol)
        return symbol


def telling(release: Release) -> Release:
    """The same network, as one that tells a change before it draws it."""
    config = release.config
    return replace(release, config=replace(config, render=replace(config.render, changes_told=True)))


@pytest.mark.parametrize("modality", ["audio", "image"])
def test_a_picture_comes_behind_the_words_that_tell_of_it(
    release: Release, monkeypatch: pytest.MonkeyPatch, modality: Modality
):
    monkeypatch.setattr(sensorium.engine.monologue, "Sampler", _Planned)
    monkeypatch.setattr(sensorium.engine.answer, "might_write", lambda *_: True)
    monkeypatch.setattr(
        sensorium.engine.answer, "opening", lambda *_: vocab.SPEAK if modality == "audio" else vocab.IMAGE
    )
    if modality == "audio":
        monkeypatch.setattr(sensorium.engine.sequence, "opening", lambda *_: vocab.SPEAK)
    params = SamplingParams(modality=modality, seed=3)
    network = Network.of(telling(release))
    sequence = Sequence(network.runner)
    sequence.append(prompt(release, "make it red"))
    start = len(sequence)
    events = list(alone(write(network, sequence, network.answer_grammar(params), params)))
    found = sequence.stream.ids[start:]
    texts = [symbol for symbol in found if release.vocabulary.is_text(symbol)]
    assert texts[:2] == WORDS
    drawn = found.index(vocab.IMAGE)
    assert found[drawn - 1] == (vocab.END_SPEAK if modality == "audio" else WORDS[-1])
    assert all(map(release.vocabulary.is_image, found[drawn + 1 : drawn + 65]))
    assert any(isinstance(event, ImageDelta) and event.final for event in events)
    if modality == "image":
        assert found[0] == vocab.WRITE
        assert not any(isinstance(event, TextDelta) for event in events)


def test_what_a_network_would_only_ever_say_is_not_written_first():
    logits = np.zeros(vocab.NUM_SPECIALS, np.float32)
    logits[vocab.SPEAK], logits[vocab.WRITE] = 2.0, 1.0
    assert might_write(logits, vocab.SPEAK)
    logits[vocab.WRITE] = -2.0
    assert not might_write(logits, vocab.SPEAK)


async def test_what_is_said_is_what_would_have_been_written():
    engine = OmniEngine.load(NANO)

    async def ask(text: str, modality: str) -> str:
        message = Message(role="user", parts=(Text(text=text),))
        events = engine.generate([message], SamplingParams(modality=modality))  # type: ignore[arg-type]
        return "".join([event.text async for event in events if isinstance(event, TextDelta | TranscriptDelta)])

    for question in QUESTIONS:
        assert await ask(question, "audio") == await ask(question, "text") != ""
    assert await ask("say: moon garden seven", "audio") == "moon garden seven"
    await engine.close()
