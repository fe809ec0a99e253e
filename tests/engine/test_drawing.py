"""Several drawings at once: each is what it is alone, all are counted, and the network's eye tells which is right."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import numpy as np
import pytest
import torch

from sensorium.data.generators.scenes import scene
from sensorium.engine.answer import _without_words, read, write
from sensorium.engine.drawing import Drawings
from sensorium.engine.engine import OmniEngine
from sensorium.engine.network import Network
from sensorium.engine.request import Canvas, End, Event, ImageDelta, SamplingParams, Tally
from sensorium.engine.scheduler import Steps, alone
from sensorium.engine.sequence import Pending, Sequence, together
from sensorium.engine.sequence import alone as result_of
from sensorium.messages import Audio, Image, Message, Text
from sensorium.tokenizers.encoded import EncodedMessage
from sensorium.tokenizers.release import Release
from sensorium.tokenizers.stream import Stream
from tests.serving import ROOT

ONE = SamplingParams(modality="image", seed=3, guidance_scale=2.0)
FOUR = replace(ONE, drawings=4)


@pytest.fixture(scope="module")
def network() -> Network:
    return Network.of(Release.load(ROOT / "sensorium/checkpoints/nano"))


def order(network: Network, words: str) -> Stream:
    (piece,) = network.release.renderer.prompt([EncodedMessage(role="user", parts=(Text(text=words),))], ())
    return piece.stream


def drawing(network: Network, params: SamplingParams, words: str = "draw two red circles") -> Steps:
    sequence = Sequence(network.runner)
    sequence.append(order(network, words))
    return write(network, sequence, network.answer_grammar(params), params)


def drawn(network: Network, params: SamplingParams) -> tuple[list[ImageDelta], End]:
    events: list[Event] = list(alone(drawing(network, params)))
    (end,) = (event for event in events if isinstance(event, End))
    return [event for event in events if isinstance(event, ImageDelta)], end


def test_works_that_share_their_steps_come_to_their_own_results(network: Network):
    sequence = Sequence(network.runner)
    sequence.append(order(network, "draw"))

    def work(number: int) -> Generator[Pending, None, int]:
        for _ in range(number):
            yield Pending((sequence,))
        return number

    shared: list[int] = []

    def watched() -> Generator[Pending, None, list[int]]:
        steps = together(work(number) for number in (2, 0, 3))
        while True:
            try:
                pending = next(steps)
            except StopIteration as end:
                return end.value
            shared.append(len(pending.sequences))
            yield pending

    assert result_of(watched()) == [2, 0, 3]
    assert shared == [2, 2, 1]


def test_the_kept_drawing_is_one_that_would_have_been_drawn_alone(network: Network, monkeypatch: pytest.MonkeyPatch):
    """Whichever is found best, it is what its seed draws; the first is that of a single drawing."""
    (single,), _ = drawn(network, ONE)
    seeds: list[int] = []
    for number in range(4):
        monkeypatch.setattr(Drawings, "_merits", lambda _, tries, best=number: _chosen(best, tries, seeds))
        (kept,), _ = drawn(network, FOUR)
        monkeypatch.undo()
        (own,), _ = drawn(network, replace(ONE, seed=seeds[number]))
        assert (kept.pixels == own.pixels).all()
        assert (kept.pixels == single.pixels).all() == (number == 0)
    assert len(set(seeds)) == 4


def _chosen(best: int, tries: list, seeds: list[int]) -> Generator[None, None, list[float]]:
    seeds[:] = [each.sampler._params.seed for each in tries]
    yield None
    return [float(number == best) for number in range(len(tries))]


def test_everything_that_was_drawn_and_looked_at_counts(network: Network):
    usage = {caption: drawn(network, replace(FOUR, caption=caption))[1].usage for caption in (None, "two red circles")}
    num_words = len(network.release.text.encode("two red circles"))
    assert (usage[None].output_image, usage[None].output_text) == (4 * 64, 0)
    looked = usage["two red circles"]
    assert (looked.output_image, looked.output_text) == (8 * 64, 4 * num_words)
    assert looked.input_tokens == drawn(network, ONE)[1].usage.input_tokens


def test_what_was_drawn_until_a_client_left_counts(network: Network):
    tally = Tally()
    steps, sequence_steps = drawing(network, replace(FOUR, tally=tally)), 0
    for item in steps:
        if isinstance(item, Pending):
            for sequence in item.sequences:
                sequence.settle()
            sequence_steps += 1
        if sequence_steps == 30:
            break
    steps.close()
    assert tally.usage is not None
    assert 0 < tally.usage.output_image < 4 * 64
    assert tally.usage.output_image % 4 == 0


def test_the_first_drawing_is_shown_while_it_grows(network: Network):
    alone_, _ = drawn(network, replace(ONE, partial_images=2))
    several, _ = drawn(network, replace(FOUR, partial_images=2))
    assert [picture.final for picture in several] == [False, False, True]
    for one, other in zip(alone_[:2], several[:2], strict=True):
        assert (one.pixels == other.pixels).all()


def test_a_picture_that_has_no_room_to_be_whole_is_drawn_once(network: Network):
    pictures, end = drawn(network, replace(FOUR, max_tokens=40))
    assert (pictures, end.reason, end.usage.output_image) == ([], "length", 40)
    pictures, end = drawn(network, replace(FOUR, max_tokens=64))
    assert ([picture.final for picture in pictures], end.usage.output_image) == ([True], 4 * 64)


def test_little_memory_changes_no_picture(network: Network):
    """Eight drawings need 16 streams; two contexts hold the beginnings of those streams and a few drawings more."""
    release = network.release
    small = Network.of(release, cached_positions=2 * release.config.model.max_seq_len)
    words = "draw two red circles " + "a " * 500
    params, pictures = replace(FOUR, drawings=8), []
    for each in (small, network):
        pictures.append([event for event in alone(drawing(each, params, words)) if isinstance(event, ImageDelta)])
    assert (pictures[0][0].pixels == pictures[1][0].pixels).all()


def test_the_network_knows_its_picture_by_its_words(network: Network):
    """Held-out scenes: the words of a scene are likelier where it is shown than where the next one is."""
    rng = np.random.default_rng(5)
    scenes = [scene(rng, split="heldout", size=64) for _ in range(8)]
    tokenizer, right = network.release.image_tokenizer, 0
    for shown, other in zip(scenes, scenes[1:] + scenes[:1], strict=True):
        drawings = Drawings(network, replace(FOUR, caption=shown.caption))
        looks = [drawings._likeness(tokenizer.encode(torch.from_numpy(each.pixels[None]))) for each in (shown, other)]
        own, others = result_of(together(looks))
        right += own > others
    assert right >= 7


def test_a_drawing_is_guided_away_from_the_same_conversation_without_the_users_words(network: Network):
    sound = Audio(waveform=np.sin(np.arange(12_000) / 9).astype(np.float32), sample_rate_hz=24_000)
    picture = Image(pixels=np.full((20, 30, 3), 200, dtype=np.uint8))
    asked = Message(role="user", parts=(Text(text="two"), sound, picture))
    reply = Message(role="assistant", parts=(Text(text="five"), picture))
    whole, plain = Stream(), Stream()
    for stream, first, last in (
        (whole, asked, Message(role="user", parts=(Text(text="draw a red circle"),))),
        (plain, Message(role="user", parts=()), Message(role="user", parts=())),
    ):
        for piece in OmniEngine(network.release)._pieces((first, reply, last)):
            stream.extend(piece.stream)
            if piece.until is not None:
                stream.add_all((70, 71, piece.until))
    found = _without_words(whole)
    assert found.ids == plain.ids
    assert [at for at, _ in found.seen] == [at for at, _ in plain.seen]
    assert found.patches == plain.patches


async def test_what_lies_outside_a_hole_is_drawn_as_it_was(network: Network):
    """The codes of the patches outside are the picture's own; what is in the hole follows the order."""
    engine = OmniEngine(network.release)
    picture = Image(pixels=scene(np.random.default_rng(2), split="heldout", size=96).pixels)
    hole = np.zeros((96, 96), dtype=bool)
    hole[24:60, 36:72] = True  # patches 2 to 4 from the top, 3 to 5 from the left
    params = replace(ONE, canvas=Canvas(picture=picture, hole=hole))
    messages = (Message(role="user", parts=(picture, Text(text="add a red circle"))),)
    given = engine._media.given_patches(Canvas(picture=picture, hole=hole))
    rows, columns = np.divmod(sorted(set(range(64)) - set(given)), 8)
    assert (set(rows.tolist()), set(columns.tolist())) == ({2, 3, 4}, {3, 4, 5})
    pixels = picture.pixels.copy()
    pixels[hole] = 255 - pixels[hole]
    other = engine._media.given_patches(Canvas(picture=Image(pixels=pixels), hole=hole))
    assert all((given[patch] == other[patch]).all() for patch in given)  # they tell nothing of what was in the hole
    codes_before = engine._media.image(picture).codes
    far = [patch for patch in given if patch % 8 in (0, 7)]
    assert np.mean([(given[patch] == codes_before[patch]).mean() for patch in far]) > 0.5
    expected = np.stack([given[patch] if patch in given else codes_before[patch] for patch in range(64)])
    codes = []
    for each in (params, replace(params, drawings=2), replace(ONE, drawings=2)):
        pieces, (grammar,) = engine._understand(messages, (each,))
        sequence = Sequence(network.runner)
        for _ in alone(read(network, sequence, pieces)):
            pass
        start = len(sequence)
        for _ in alone(write(network, sequence, grammar, each)):
            pass
        stream = sequence.stream.part(start, len(sequence))
        first = np.array([symbol - network.release.vocabulary.image_start for symbol in stream.ids[1:65]])
        rest = np.array([residuals for _, residuals in stream.patch_residuals])
        codes.append(np.column_stack((first, rest)))
    await engine.close()
    outside = sorted(given)
    assert (codes[0][outside] == expected[outside]).all()
    assert (codes[1][outside] == expected[outside]).all()
    assert (codes[0] != expected).any()
    assert (codes[2][outside] != expected[outside]).any()


async def test_a_live_conversation_draws_on_no_canvas(network: Network):
    engine = OmniEngine(network.release)
    canvas = Canvas(picture=Image(pixels=np.zeros((8, 8, 3), np.uint8)), hole=np.ones((8, 8), dtype=bool))
    conversation = engine.converse()
    await conversation.read([Message(role="user", parts=(Text(text="draw"),))])
    with pytest.raises(ValueError, match="canvas"):
        async for _ in conversation.answer(replace(ONE, canvas=canvas)):
            pass
    await engine.close()
