"""The room of a context: what media take of it, what they leave for an answer, and who yields where it is short."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

import numpy as np
import pytest

from sensorium.engine.answer import LEAST_ANSWER, num_positions, read, share
from sensorium.engine.engine import OmniEngine
from sensorium.engine.network import Network
from sensorium.engine.request import ContextLengthExceeded, ImageDelta, SamplingParams
from sensorium.engine.sequence import Sequence
from sensorium.messages import Audio, Image, Message, Text, seen_less_closely
from sensorium.tokenizers import vocab
from sensorium.tokenizers.release import Release
from tests.engine.test_engine import CLIP, FILM, PICTURE, WARM, answer, end_of, user

SEEN_TOKENS = 67  # of a picture, without words
NUM_FREE = 512 - 4  # beside <|bos|>, <|user|>, <|end|> and <|assistant|>


@pytest.fixture
async def engine(release: Release) -> AsyncIterator[OmniEngine]:
    engine = OmniEngine(release)
    yield engine
    await engine.close()


def shades(number: int) -> tuple[Image, ...]:
    return tuple(Image(pixels=np.full((64, 64, 3), 20 * shade, np.uint8)) for shade in range(number))


def corner(*, closer: bool = False) -> Image:
    """A white page with a mark in a corner."""
    pixels = np.full((300, 300, 3), 255, np.uint8)
    pixels[20:40, 200:260] = 0
    return Image(pixels=pixels, closer=closer)


async def test_a_prompt_leaves_room_for_the_picture_that_is_its_answer(engine: OmniEngine):
    """What the network writes down of the pictures it is shown would else take all that is left."""
    params = SamplingParams(modality="image")
    seen = shades(7)
    six = [Message(role="user", parts=(*seen[:6], Text(text="the time")))]
    events = await answer(engine, six, params)
    assert [event.final for event in events if isinstance(event, ImageDelta)] == [True]
    with pytest.raises(ContextLengthExceeded):
        await answer(engine, [Message(role="user", parts=(*seen, Text(text="the time")))], params)


async def test_what_is_seen_of_many_pictures_leaves_room_for_an_answer(engine: OmniEngine):
    num_pictures = (NUM_FREE - LEAST_ANSWER) // SEEN_TOKENS
    events = await answer(engine, user(*shades(num_pictures)), SamplingParams(temperature=1.0, seed=4))
    usage = end_of(events).usage
    assert usage.input_tokens <= 512 - LEAST_ANSWER
    assert usage.output_tokens > 0
    with pytest.raises(ContextLengthExceeded) as caught:
        await answer(engine, user(*shades(num_pictures + 1)), WARM)
    assert caught.value.answer_tokens == LEAST_ANSWER
    assert f"and its answer at least {LEAST_ANSWER}, this" in str(caught.value)


async def test_room_that_is_short_is_shared(release: Release):
    """Of six pictures none takes the words of another, and a clip gets what they leave."""
    network, engine = Network.of(release), OmniEngine(release)
    sequence, parts = Sequence(network.runner), (*shades(5), CLIP)
    pieces = engine._pieces(tuple(user(*parts)))
    room = 512 - num_positions(pieces) - LEAST_ANSWER
    async with aclosing(engine._scheduler.run(read(network, sequence, pieces))) as events:
        async for _ in events:
            pass
    await engine.close()
    ids = sequence.stream.ids
    begins = [at for at, symbol in enumerate(ids) if symbol in (vocab.CAPTION, vocab.TURN)]
    ends = [at for at, symbol in enumerate(ids) if symbol in (vocab.END_IMAGE, vocab.END_AUDIO)]
    written = [end - begin - 1 for begin, end in zip(begins, ends, strict=True)]
    assert len(written) == 6
    assert sum(written) <= room
    assert 20 < max(written) <= room // 5  # without a bound, the first would have 48


@pytest.mark.parametrize(
    ("room", "wanted", "first"),
    [
        (200, [48, 48], 48),
        (60, [48, 48], 30),
        (60, [48, 8], 48),
        (50, [48, 8], 42),
        (50, [100, 20, 20], 16),
        (70, [100, 20, 20], 30),
        (70, [20, 100, 20], 20),
        (0, [48], 0),
        (-3, [48, 48], 0),
    ],
)
def test_who_wants_little_gets_it(room: int, wanted: list[int], first: int):
    assert share(room, wanted) == first


async def test_pictures_are_seen_less_closely_before_they_are_refused(engine: OmniEngine):
    num_pictures = (NUM_FREE - LEAST_ANSWER) // SEEN_TOKENS
    for num_closer in (0, 1, num_pictures):
        shown = (*shades(num_pictures - num_closer), *(corner(closer=True) for _ in range(num_closer)))
        assert sum(len(picture.quarters) for picture in shown) == num_closer
        events = await answer(engine, user(*shown), SamplingParams(max_tokens=1))
        assert end_of(events).usage.input_image == 64 * num_pictures
    events = await answer(engine, user(corner(closer=True), corner(closer=True)), SamplingParams(max_tokens=1))
    assert end_of(events).usage.input_image == 64 * 4
    with pytest.raises(ContextLengthExceeded):
        await answer(engine, user(*shades(num_pictures), Image(pixels=corner().pixels, detail="high")), WARM)


def test_the_oldest_picture_yields_first():
    messages = tuple(user(corner(closer=True), "a", corner(closer=True)) + user(corner(closer=True)))
    yielded = []
    while (fewer := seen_less_closely(messages)) is not None:
        messages = fewer
        yielded.append([part.closer for message in messages for part in message.parts if isinstance(part, Image)])
    assert yielded == [[False, True, True], [False, False, True], [False, False, False]]


async def test_a_film_and_a_clip_leave_room_for_an_answer_too(engine: OmniEngine):
    for shown in (FILM, Audio(waveform=np.zeros(16_000 * 34, np.float32), sample_rate_hz=16_000)):
        events = await answer(engine, user(shown, " two" * 10), SamplingParams(temperature=1.0, seed=4))
        assert end_of(events).usage.input_tokens <= 512 - LEAST_ANSWER


async def test_words_of_a_picture_leave_room_for_an_answer(engine: OmniEngine):
    """A prompt that just fits is answered, though its pictures have room for next to no words."""
    room = NUM_FREE - SEEN_TOKENS - LEAST_ANSWER
    events = await answer(engine, user(PICTURE, "a " * (room // 2)), SamplingParams(max_tokens=1))
    assert end_of(events).usage.output_tokens <= 1


async def test_the_longest_prompt_still_gets_an_answer(engine: OmniEngine):
    tokens = len(engine._release.text.encode(" two"))
    padding = " two" * ((512 - 20) // tokens)
    events = await answer(engine, user(padding), SamplingParams(temperature=1.0))
    assert end_of(events).reason == "length"
    usage = end_of(events).usage
    assert usage.input_tokens + usage.output_tokens <= 512
    clip = Audio(waveform=np.zeros(465 * 1280, np.float32), sample_rate_hz=16_000)
    events = await answer(engine, user(clip), WARM)
    assert end_of(events).usage.input_tokens < 512
