"""The fast path writes what the slow reference writes, symbol for symbol; forks and truncations change nothing."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch

from sensorium.engine import reference
from sensorium.engine.grammar import Alphabet, Grammar, Rules, State
from sensorium.engine.pages import PAGE_POSITIONS
from sensorium.engine.request import SamplingParams
from sensorium.engine.runner import Runner
from sensorium.engine.sampling import Sampler
from sensorium.engine.sequence import Pending, Sequence, Symbol, alone, compute
from sensorium.messages import Text
from sensorium.tokenizers import vocab
from sensorium.tokenizers.encoded import EncodedAudio, EncodedImage, EncodedMessage
from sensorium.tokenizers.release import Release
from sensorium.tokenizers.stream import Stream

GREEDY = SamplingParams()
WARM = SamplingParams(temperature=0.9, top_p=0.9, seed=3)
NUM_SYMBOLS = 60


def prompt(release: Release, *parts: Text | EncodedAudio | EncodedImage, opening: tuple[int, ...] = ()) -> Stream:
    message = EncodedMessage(role="user", parts=parts)
    stream = Stream()
    for piece in release.renderer.prompt([message], opening):
        stream.extend(piece.stream)
    return stream


def clip(release: Release, *, num_frames: int = 9) -> EncodedAudio:
    waveform = 0.1 * torch.randn(1, num_frames * release.config.audio.frame_size, generator=torch.manual_seed(1))
    frames, _ = release.audio_tokenizer.encode(waveform)
    return EncodedAudio(codes=frames.codes[0].numpy(), features=frames.features[0].numpy())


def picture(release: Release) -> EncodedImage:
    pixels = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8, generator=torch.manual_seed(2))
    patches = release.image_tokenizer.encode(pixels)
    return EncodedImage(codes=patches.codes[0].numpy(), features=patches.features[0].numpy())


def opened(alphabet: Alphabet, *symbols: int, given: dict[int, np.ndarray] | None = None) -> Grammar:
    """A grammar after the symbols that open an answer: a random network would seldom choose the form under test."""
    modality = "audio" if vocab.SPEAK in symbols else "text"
    grammar = Grammar.answer(alphabet, modality=modality, voice="alloy", rules=Rules(given=given or {}))
    for symbol in symbols:
        grammar.push(symbol)
    return grammar


def take(symbols: list[Symbol]) -> list[tuple[int, State, int | None, tuple[int, ...]]]:
    """Symbols as values that compare."""
    return [
        (symbol.id, symbol.state, symbol.patch, () if symbol.residuals is None else tuple(symbol.residuals.tolist()))
        for symbol in symbols[:NUM_SYMBOLS]
    ]


def both(
    release: Release,
    runner: Runner,
    stream: Stream,
    grammars: tuple[Grammar, Grammar],
    params: SamplingParams,
    plain: Stream | None = None,
) -> list[Symbol]:
    """The symbols of the fast path, after it was found equal to the reference."""
    fast = Sequence(runner)
    fast.append(stream)
    twin = None
    if plain is not None:
        twin = Sequence(runner)
        twin.append(plain)
    found = list(islice(fast.generate(grammars[0], Sampler(params), plain=twin), NUM_SYMBOLS))
    expected = reference.generate(
        release.model, stream, grammars[1], Sampler(params), plain=plain, max_symbols=NUM_SYMBOLS
    )
    assert take(found) == take(expected)
    return found


@pytest.mark.parametrize("params", [GREEDY, WARM], ids=["greedy", "seeded"])
def test_written_answer(release: Release, runner: Runner, alphabet: Alphabet, params: SamplingParams):
    stream = prompt(release, Text(text="what is two plus three"), picture(release), opening=(vocab.WRITE,))
    grammars = opened(alphabet, vocab.WRITE), opened(alphabet, vocab.WRITE)
    found = both(release, runner, stream, grammars, params)
    assert len(found) > 3


@pytest.mark.parametrize("params", [GREEDY, WARM], ids=["greedy", "seeded"])
def test_spoken_answer(release: Release, runner: Runner, alphabet: Alphabet, params: SamplingParams):
    voice = vocab.voice_id("alloy")
    stream = prompt(release, Text(text="the time is ten"), opening=(vocab.SPEAK, voice))
    grammars = opened(alphabet, vocab.SPEAK, voice), opened(alphabet, vocab.SPEAK, voice)
    found = both(release, runner, stream, grammars, params)
    frames = [symbol for symbol in found if symbol.residuals is not None]
    assert len(frames) > 3
    assert all(frame.residuals is not None and frame.residuals.shape == (7,) for frame in frames)


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("name", ["release", "crisp_release"])
def test_picture(request: pytest.FixtureRequest, alphabet: Alphabet, name: str, guided: bool):
    release: Release = request.getfixturevalue(name)
    params = SamplingParams(seed=5, guidance_scale=2.0 if guided else 1.0)
    words = Text(text="draw a red circle")
    stream = prompt(release, words, picture(release), opening=(vocab.IMAGE,))  # one seen, one drawn
    plain = prompt(release, opening=(vocab.IMAGE,)) if guided else None
    grammars = opened(alphabet, vocab.IMAGE), opened(alphabet, vocab.IMAGE)
    found = both(release, Runner(release.model), stream, grammars, params, plain)
    assert [symbol.patch for symbol in found] == list(range(NUM_SYMBOLS))
    num_residuals = release.config.image.num_residuals
    for symbol in found:
        assert (0 if symbol.residuals is None else len(symbol.residuals)) == num_residuals


@pytest.mark.parametrize("name", ["release", "crisp_release"])
def test_a_picture_of_which_some_patches_are_given(request: pytest.FixtureRequest, alphabet: Alphabet, name: str):
    release: Release = request.getfixturevalue(name)
    given = {patch: codes for patch, codes in enumerate(picture(release).codes) if patch % 3 != 1}
    stream = prompt(release, Text(text="draw a red circle"), opening=(vocab.IMAGE,))
    plain = prompt(release, opening=(vocab.IMAGE,))
    grammars = opened(alphabet, vocab.IMAGE, given=given), opened(alphabet, vocab.IMAGE, given=given)
    params = SamplingParams(seed=5, guidance_scale=2.0)
    found = both(release, Runner(release.model), stream, grammars, params, plain)
    for number, symbol in enumerate(found):
        if number in given:
            codes = [
                symbol.id - release.vocabulary.image_start,
                *(() if symbol.residuals is None else symbol.residuals),
            ]
            assert codes == given[number].tolist()


def test_given_patches_wait_for_nothing(release: Release, runner: Runner, alphabet: Alphabet):
    """They are computed with the first one that is not."""
    given = dict(enumerate(picture(release).codes[:40]))
    sequence, grammar = Sequence(runner), opened(alphabet, vocab.IMAGE, given=given)
    sequence.append(prompt(release, opening=(vocab.IMAGE,)))
    works = [sequence.next(grammar, Sampler(WARM)) for _ in range(41)]
    for work in works[:40]:
        with pytest.raises(StopIteration):
            next(work)
    assert sequence.num_pending == len(sequence)
    assert isinstance(next(works[40]), Pending)


def test_guidance_changes_the_picture(release: Release, runner: Runner, alphabet: Alphabet):
    stream = prompt(release, Text(text="draw a red circle"), opening=(vocab.IMAGE,))
    plain = prompt(release, opening=(vocab.IMAGE,))
    drawn = []
    for scale in (1.0, 4.0):
        sequence, twin = Sequence(runner), Sequence(runner)
        sequence.append(stream)
        twin.append(plain)
        sampler = Sampler(SamplingParams(seed=5, guidance_scale=scale))
        drawn.append(take(list(sequence.generate(opened(alphabet, vocab.IMAGE), sampler, plain=twin))))
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize("params", [GREEDY, WARM], ids=["greedy", "seeded"])
def test_transcript_of_a_heard_clip(release: Release, runner: Runner, alphabet: Alphabet, params: SamplingParams):
    message = EncodedMessage(role="user", parts=(clip(release),))
    stream = release.renderer.prompt([message], ())[0].stream
    grammars = Grammar.transcript(alphabet, max_tokens=17), Grammar.transcript(alphabet, max_tokens=17)
    found = both(release, runner, stream, grammars, params)
    assert found[-1].id == vocab.END_AUDIO


def test_the_opening_is_chosen_alike(release: Release, runner: Runner, alphabet: Alphabet):
    stream = prompt(release, Text(text="turn on the light"))
    grammars = tuple(Grammar.answer(alphabet, modality="audio", voice="echo") for _ in range(2))
    both(release, runner, stream, (grammars[0], grammars[1]), WARM)


def test_a_fork_goes_its_own_way(release: Release, runner: Runner, alphabet: Alphabet):
    trunk = Sequence(runner)
    trunk.append(prompt(release, Text(text="what is two"), clip(release), opening=(vocab.WRITE,)))
    trunk.hidden()
    twin = trunk.fork()
    first = take(list(trunk.generate(opened(alphabet, vocab.WRITE), Sampler(WARM))))
    second = take(list(twin.generate(opened(alphabet, vocab.WRITE), Sampler(WARM))))
    assert first == second
    assert len(twin) == len(trunk)


def test_a_truncated_sequence_goes_on_as_if_nothing_had_been_there(
    release: Release, runner: Runner, alphabet: Alphabet
):
    voice = vocab.voice_id("alloy")
    sequence = Sequence(runner)
    sequence.append(prompt(release, Text(text="the time"), picture(release), opening=(vocab.SPEAK, voice)))
    position = len(sequence)
    first = take(list(sequence.generate(opened(alphabet, vocab.SPEAK, voice), Sampler(WARM))))
    sequence.truncate(position)
    assert len(sequence) == position
    second = take(list(sequence.generate(opened(alphabet, vocab.SPEAK, voice), Sampler(WARM))))
    assert first == second


def test_a_stream_cut_anywhere_is_computed_to_the_same_figures(release: Release, runner: Runner):
    stream = prompt(release, Text(text="what is two plus three " * 8), picture(release), clip(release))
    assert len(stream) > 100
    found = []
    for limit in (1, 7, 16, 50, len(stream)):
        sequence = Sequence(Runner(release.model))
        sequence.append(stream)
        while sequence.num_pending:
            compute([(sequence, sequence.piece(limit))])
        found.append((sequence.hidden(), sequence.logits()))
    for hidden, logits in found[1:]:
        np.testing.assert_array_equal(hidden, found[0][0])
        np.testing.assert_array_equal(logits, found[0][1])
    expected = reference.last_hidden(release.model, stream)
    np.testing.assert_allclose(found[0][0], expected.detach().numpy(), rtol=0, atol=2e-5)


def test_a_prefix_that_another_stream_has_computed_is_taken_over(release: Release, runner: Runner):
    stream = prompt(release, Text(text="what is two plus three " * 8), picture(release), clip(release))
    first, second, other = (Sequence(Runner(release.model) if n == 0 else runner) for n in range(3))
    for sequence in (first, second):
        sequence.append(stream)
        sequence.settle()
        assert sequence.num_reused == 0
    twin = Sequence(runner)
    twin.append(stream)
    np.testing.assert_array_equal(twin.logits(), first.logits())
    assert twin.num_reused == (len(stream) - 1) // PAGE_POSITIONS * PAGE_POSITIONS
    changed = stream.part(0, len(stream))
    at, feature = changed.heard[-1]
    changed.heard[-1] = (at, -feature)  # the same symbols, heard otherwise
    other.append(changed)
    assert not np.array_equal(other.logits(), first.logits())
    assert other.num_reused == at // PAGE_POSITIONS * PAGE_POSITIONS
    del second, twin, other
    again = Sequence(runner)
    again.append(stream)
    np.testing.assert_array_equal(again.logits(), first.logits())
    assert again.num_reused > 100, "pages outlive the stream that wrote them"


def test_a_stream_whose_memory_was_taken_goes_on_as_if_nothing_had_been(
    release: Release, runner: Runner, alphabet: Alphabet
):
    voice = vocab.voice_id("alloy")
    opening = prompt(release, Text(text="the time"), picture(release), opening=(vocab.SPEAK, voice))
    found = []
    for every in (1000, 13, 1):
        sequence = Sequence(Runner(release.model))
        sequence.append(opening)
        symbols, sampler = [], Sampler(WARM)
        grammar = opened(alphabet, vocab.SPEAK, voice)
        for number in range(NUM_SYMBOLS):
            symbols.append(alone(sequence.next(grammar, sampler)))
            if number % every == every - 1:
                sequence.cache.truncate(0)
        found.append(take(symbols))
    assert found[0] == found[1] == found[2]


def test_a_full_context_ends_the_answer(release: Release, runner: Runner, alphabet: Alphabet):
    stream = Stream()
    stream.add_all([vocab.BOS, vocab.USER, *[70] * 500, vocab.END, vocab.ASSISTANT, vocab.CALL])
    sequence = Sequence(runner)
    sequence.append(stream)
    found = list(sequence.generate(opened(alphabet, vocab.CALL), Sampler(WARM)))
    assert len(found) <= 512 - len(stream)
    with pytest.raises(ValueError, match="room for"):
        sequence.append(stream)
