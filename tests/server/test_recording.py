"""Sound that is kept is the same however it came and however it lies."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.messages import Audio, Image, Text, Video
from sensorium.server.conversation import Content, Conversation, Item, load_sounds
from sensorium.server.errors import APIError
from sensorium.server.realtime_audio import Playback
from sensorium.server.recording import Recording
from tests.server.calls import hum

RATE_HZ = 16_000
STEPS = st.lists(
    st.tuples(st.sampled_from(["append", "forget", "cut", "pack"]), st.integers(0, 500)), min_size=1, max_size=30
)


def tone(ms: int) -> np.ndarray:
    return hum(ms, rate_hz=RATE_HZ)


@settings(deadline=None)
@given(steps=STEPS, seed=st.integers(0, 9))
def test_what_is_read_is_what_was_put_in(steps: Sequence[tuple[str, int]], seed: int):
    rng = np.random.default_rng(seed)

    async def main() -> None:
        sound, plain = Recording(rate_hz=RATE_HZ), np.zeros(0, np.int16)
        for what, count in steps:
            match what:
                case "append":
                    new = rng.integers(-(2**15), 2**15, count).astype(np.int16)
                    sound.append(new.astype(np.float32) / 2**15)
                    plain = np.concatenate((plain, new))
                case "forget":
                    sound.forget(count)
                    plain = plain[count:]
                case "cut":
                    sound.cut(count)
                    plain = plain[:count]
                case _:
                    await sound.pack()
            assert len(sound) == len(plain)
            np.testing.assert_array_equal(sound.read(), plain.astype(np.float32) / 2**15)
            np.testing.assert_array_equal(sound.read(10, 20), plain[10:20].astype(np.float32) / 2**15)
            assert sound.num_bytes <= 8 * len(plain) + 16_000

    asyncio.run(main())


def test_too_loud_is_clipped():
    sound = Recording(np.array([2.0, -2.0, 0.5], np.float32), rate_hz=RATE_HZ)
    assert sound.read().tolist() == [1 - 2**-15, -1.0, 0.5]


async def test_it_takes_a_fraction_when_it_is_packed():
    sound = Recording(tone(2000), rate_hz=RATE_HZ)
    before = sound.read()
    await sound.pack()
    assert sound.num_bytes < before.nbytes / 4
    np.testing.assert_array_equal(sound.read(), before)


async def test_what_is_changed_while_it_is_packed_stays_changed():
    sound = Recording(tone(5000), rate_hz=RATE_HZ)
    packing = asyncio.create_task(sound.pack())
    await asyncio.sleep(0)
    sound.cut(100)
    await packing
    assert len(sound.read()) == 100


async def test_a_piece_takes_as_long_as_it_is():
    """Samples that are copied, not time: twice the sound costs twice, not four times."""
    sound, num_copied, at = Recording(rate_hz=RATE_HZ), 0, None
    for _ in range(1000):
        sound.append(np.zeros(320, np.float32))
        if sound._samples is not at:
            num_copied, at = num_copied + len(sound), sound._samples
    assert num_copied < 3 * len(sound)


# --- a call's conversation


async def test_the_sound_of_the_oldest_items_goes_first():
    conversation = Conversation(max_sound_bytes=20_000, max_bytes=2**30)
    items = []
    for number in range(5):
        noise = np.random.default_rng(number).uniform(-1, 1, 4000).astype(np.float32)  # 8 kB, packed or not
        part = Content(kind="input_audio", text=f"words {number}", sound=Recording(noise, rate_hz=RATE_HZ))
        items.append(Item(id=f"item_{number}", role="user", content=[part]))
        conversation.add(items[-1])
        await conversation.pack([items[-1]])
    assert [item.sounds[0].is_gone for item in items] == [True, True, True, False, False]
    told = [item.message(await load_sounds(items)).parts[0] for item in items]
    assert [type(part) for part in told] == [Text, Text, Text, Audio, Audio]
    assert [part.text for part in told if isinstance(part, Text)] == ["words 0", "words 1", "words 2"]
    playback = Playback(RATE_HZ, watermark_key="", watermark_payload=0)
    shown = [(await item.with_sound("audio/pcm", playback))["content"][0] for item in items]
    assert ["audio" in part for part in shown] == [False, False, False, True, True]
    assert shown[0]["transcript"] == "words 0"


@pytest.mark.parametrize("is_gone", [False, True])
def test_what_was_heard_of_an_answer_is_known_without_its_sound(is_gone: bool):
    sound = Recording(tone(1000), rate_hz=RATE_HZ)
    item = Item(id="item", role="assistant", content=[Content(kind="output_audio", text="hi", sound=sound)])
    if is_gone:
        sound.drop()
    assert item.heard_ms(RATE_HZ) == 1000
    item.truncate(400, RATE_HZ)
    assert (item.heard_ms(RATE_HZ), item.status) == (400, "incomplete")


async def test_the_newest_sound_always_stays():
    conversation = Conversation(max_sound_bytes=1, max_bytes=2**30)
    for id in ("a", "b"):
        sound = Recording(tone(500), rate_hz=RATE_HZ)
        conversation.add(Item(id=id, role="user", content=[Content(kind="input_audio", sound=sound)]))
        await conversation.pack([conversation.find(id)])
    assert [item.sounds[0].is_gone for item in conversation] == [True, False]


# --- pictures and texts


def told(id: str, *content: Content) -> Item:
    return Item(id=id, role="user", content=list(content))


def seen(*, time_ms: float | None = None) -> Content:
    pixels = np.zeros((100, 100, 3), np.uint8)
    return Content(
        kind="input_image", text=None, image=Image(pixels=pixels), image_url="data:" + "A" * 10_000, time_ms=time_ms
    )


def test_the_oldest_pictures_go_first_and_then_items_are_refused():
    conversation = Conversation(max_sound_bytes=1, max_bytes=150_000)
    for number in range(4):  # of 44 kB each: three fit
        item = told(f"item_{number}", Content(kind="input_text", text="look"), seen())
        conversation.add(item, is_clients=True)
    assert [item.content[1].image is None for item in conversation] == [True, False, False, False]
    assert [part["type"] for part in conversation.find("item_0").wire()["content"]] == ["input_text", "input_image"]
    assert conversation.find("item_0").message({}).parts == (Text(text="look"),)
    with pytest.raises(APIError) as refused:
        conversation.add(told("long", Content(kind="input_text", text="a" * 140_000)), is_clients=True)
    assert (refused.value.param, refused.value.code) == ("item", "conversation_too_large")
    shorter = told("shorter", Content(kind="input_text", text="a" * 60_000))
    with pytest.raises(APIError, match="no item 'nowhere'"):
        conversation.add(shorter, after="nowhere", is_clients=True)
    assert [item.content[1].image is None for item in conversation] == [True, False, False, False]  # not in vain
    conversation.add(shorter, is_clients=True)
    assert [item.content[1].image is None for item in list(conversation)[:4]] == [True, True, True, False]


def test_many_small_items_are_bounded_too():
    conversation = Conversation(max_sound_bytes=1, max_bytes=100_000)
    for number in range(20):
        item = told(f"item_{number}", Content(kind="input_text", text=""))
        conversation.add(item, is_clients=True)
    for number in range(10):
        conversation.add(told(f"more_{number}", Content(kind="input_text", text="")))
    with pytest.raises(APIError, match="delete some"):
        conversation.add(told("last", Content(kind="input_text", text="")), is_clients=True)


def test_a_film_whose_first_frames_went_is_the_rest_of_it():
    item = told("film", *(seen(time_ms=100.0 * number) for number in range(3)))
    item.content[0].drop_picture()
    [film] = item.message({}).parts
    assert isinstance(film, Video)
    assert film.times_ms == (0.0, 100.0)
    for part in item.content:
        part.drop_picture()
    assert item.message({}).parts == ()
