"""Whatever happens to a call's items, the engine has read what they are now, and nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.engine.engine import OmniEngine
from sensorium.engine.fake import FRAME_SIZE, FakeConversation, FakeEngine
from sensorium.engine.request import (
    AudioDelta,
    ContextLengthExceeded,
    End,
    Event,
    SamplingParams,
    TextDelta,
    TranscriptDelta,
)
from sensorium.messages import Audio, Message, Text
from sensorium.server.conversation import Content, Conversation, Item, Spoken, load_sounds
from sensorium.server.realtime_thread import Thread
from sensorium.server.recording import Recording
from sensorium.tokenizers.stream import Stream
from tests.networks import SENTENCES, random_release
from tests.serving import ROOT

RATE_HZ = 16_000
SPOKEN = SamplingParams(modality="audio")
WRITTEN = SamplingParams()


class Watched(FakeConversation):
    num_read = 0
    idle = asyncio.Event()  # what is in no hurry waits for it
    idle.set()

    async def read(self, messages, *, in_no_hurry=False):
        if in_no_hurry:
            await self.idle.wait()
        self.num_read += len(messages)
        return await super().read(messages, in_no_hurry=in_no_hurry)


class WatchedEngine(FakeEngine):
    def converse(self) -> Watched:
        self.live = Watched(self)
        return self.live


def said(text: str) -> Item:
    return Item(id=text, role="user", content=[Content(kind="input_text", text=text)])


def head(text: str) -> list[Message]:
    return [Message(role="system", parts=(Text(text=text),))] if text else []


def shown(messages: list[Message]) -> list[tuple[str, object]]:
    """All that tells two conversations apart: the network's own sound by the 16 bits that items keep of it."""

    def part(content: object, role: str) -> object:
        if isinstance(content, Audio):
            waveform = content.waveform
            waveform = recorded(waveform).read() if role == "assistant" else waveform
            return waveform.tobytes(), content.transcript, content.cut
        return content

    return [(message.role, tuple(part(content, message.role) for content in message.parts)) for message in messages]


async def told(thread: Thread, params: SamplingParams, stops_after: int | None) -> AsyncGenerator[Event, None]:
    """So many events of an answer, or all."""
    num_events = 0
    async with aclosing(thread.answer(replace(params, seed=1))) as events:
        async for event in events:
            if num_events == stops_after:
                break
            num_events += 1
            yield event


async def spoken_answer(
    thread: Thread, name: str, params: SamplingParams = SPOKEN, *, speed: float = 1.0, stops_after: int | None = None
) -> Item:
    """An answer as `Reply` makes an item of it, stopped after so many events."""
    before = await thread.mark()
    part = Content(kind="output_audio", sound=Recording(rate_hz=RATE_HZ))
    assert part.sound is not None
    item = Item(id=name, role="assistant", status="incomplete", content=[part], voice="alloy", speed=speed)
    async with aclosing(told(thread, params, stops_after)) as events:
        async for event in events:
            match event:
                case TranscriptDelta():
                    part.spoken.append(Spoken(event.text, event.start_ms))
                    part.text = (part.text or "") + event.text
                case AudioDelta():
                    part.sound.append(event.waveform)
                case End(reason="stop"):
                    item.status = "completed"
                case _:
                    pass
    await thread.answered(before, [item], is_over=item.status == "completed")
    if item.status == "incomplete":
        part.keep_begun()
    return item


async def written_answer(
    thread: Thread, name: str, params: SamplingParams = WRITTEN, *, stops_after: int | None = None
) -> Item:
    before = await thread.mark()
    part = Content(kind="output_text", text="")
    item = Item(id=name, role="assistant", status="incomplete", content=[part])
    async with aclosing(told(thread, params, stops_after)) as events:
        async for event in events:
            part.text = f"{part.text}{event.text}" if isinstance(event, TextDelta) else part.text
            item.status = "completed" if isinstance(event, End) and event.reason == "stop" else item.status
    await thread.answered(before, [item], is_over=item.status == "completed")
    return item


def recorded(waveform: np.ndarray) -> Recording:
    return Recording(waveform, rate_hz=RATE_HZ)


async def heard_turn(thread: Thread, name: str, frames: int, drafts: Sequence[int] = ()) -> Item:
    """`drafts` says before which pieces an answer is begun."""
    waveform = recorded(np.full(frames * FRAME_SIZE, 0.1, np.float32)).read()
    for number, piece in enumerate(np.array_split(waveform, 3 + frames)):
        if number in drafts:
            await thread.drop_draft()
            await thread.draft(SPOKEN)
            await asyncio.sleep(0.001 * (number % 3))
        await thread.listen(piece)
    waveform = waveform[: thread.num_drafted]
    item = Item(id=name, role="user", content=[Content(kind="input_audio", text=None, sound=recorded(waveform))])
    await thread.end_turn(item)
    return item


@pytest.mark.parametrize("seed", range(30))
async def test_the_engine_has_read_what_the_items_are_now(seed: int):
    rng = np.random.default_rng(seed)
    engine = WatchedEngine()
    thread, conversation, instructions = Thread(engine), Conversation(max_sound_bytes=2**30, max_bytes=2**30), ""
    for step in range(25):
        items = list(conversation)
        spoken = [item for item in items if item.role == "assistant" and item.sounds]
        match rng.choice(["say", "hear", "answer", "write", "cut", "delete", "insert", "instruct", "cancel"]):
            case "say":
                conversation.add(said(f"words {step}"))
            case "hear":
                await thread.catch_up(head(instructions), items)
                drafts = [at for at in range(1, 6) if rng.random() < 0.2]
                conversation.add(await heard_turn(thread, f"turn {step}", int(rng.integers(1, 9)), drafts))
                if rng.random() < 0.5:  # asked for at once, or never
                    await thread.catch_up(head(instructions), list(conversation))
                    conversation.add(await spoken_answer(thread, f"answer {step}"))
            case "answer" if items:
                await thread.catch_up(head(instructions), items)
                conversation.add(await spoken_answer(thread, f"answer {step}"))
            case "write" if items:
                await thread.catch_up(head(instructions), items)
                conversation.add(await written_answer(thread, f"answer {step}", stops_after=int(rng.integers(1, 6))))
            case "cancel":
                conversation.add(said(f"words {step}"))
                if rng.random() < 0.5:
                    await thread.catch_up(head(instructions), list(conversation))
                    conversation.add(await heard_turn(thread, f"turn {step}", 3, [2]))
                conversation.add(said(f"more words {step}"))
                catching_up = asyncio.create_task(thread.catch_up(head(instructions), list(conversation)))
                for _ in range(int(rng.integers(0, 12))):
                    await asyncio.sleep(0)
                catching_up.cancel()
                await asyncio.wait([catching_up])
            case "cut" if spoken:
                item = spoken[-1]
                sound, known = item.content[0].sound, item.key
                assert sound is not None
                frames = int(rng.integers(0, len(sound) // FRAME_SIZE + 1))
                if (after_ms := item.truncate(80 * frames, RATE_HZ)) is not None:
                    await thread.cut_short(item, known, after_ms)
            case "delete" if items:
                conversation.remove(items[int(rng.integers(len(items)))])
            case "insert" if items:
                conversation.add(said(f"words {step}"), after=items[int(rng.integers(len(items)))].id)
            case "instruct":
                instructions = f"be {step}"
        await thread.catch_up(head(instructions), list(conversation))
        sounds = await load_sounds(conversation)
        wanted = [*head(instructions), *(message for item in conversation for message in item.messages(sounds))]
        assert isinstance(thread._live, FakeConversation)
        given = thread._live.messages
        assert [role for role, _ in shown(given)] == [role for role, _ in shown(wanted)]
        for one, other in zip(given, wanted, strict=True):
            assert shown([one]) == shown([other])


async def test_nothing_is_read_twice():
    engine = WatchedEngine()
    thread, conversation = Thread(engine), Conversation(max_sound_bytes=2**30, max_bytes=2**30)
    conversation.add(said("one"))
    for count in range(2, 8):
        await thread.catch_up(head("be kind"), list(conversation))
        assert engine.live.num_read == count
        conversation.add(said(f"words {count}"))
    await thread.catch_up(head("be kind"), list(conversation))
    conversation.remove(conversation.find("words 7"))
    await thread.catch_up(head("be kind"), list(conversation))
    assert engine.live.num_read == 8  # what went away costs nothing


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set when the engine has nothing more urgent to do."""
    event = asyncio.Event()
    monkeypatch.setattr(Watched, "idle", event)
    return event


def texts(thread: Thread) -> list[str]:
    assert isinstance(thread._live, FakeConversation)
    return [message.text for message in thread._live.messages]


async def test_room_is_made_while_the_call_goes_on(idle: asyncio.Event):
    """A turn is heard and answered with all that was said; the next one behind what remains, none of it read again."""
    engine = WatchedEngine()
    thread, items = Thread(engine), [said(f"words {count}") for count in range(10)]
    await thread.catch_up(head("be kind"), items)
    assert not thread.is_tight(100)
    making = asyncio.create_task(thread.make_room_ahead(head("be kind"), list(items), 0.4, 15))
    await asyncio.sleep(0)
    await thread.make_room_ahead(head("be kind"), items, 0.4, 15)  # one is enough
    await thread.move_on()  # to nothing yet
    items.append(await heard_turn(thread, "turn", 4))
    await thread.catch_up(head("be kind"), items)
    items.append(await spoken_answer(thread, "answer"))
    assert len(texts(thread)) == 13
    idle.set()
    await making
    ahead = engine.live
    assert ahead.num_read == 4, "the instructions and three items of two words, of the six words that remain"
    items.append(await heard_turn(thread, "another turn", 4))
    await thread.catch_up(head("be kind"), items)
    assert len(texts(thread)) == 14, "what was heard is answered from where it was heard"
    items.append(await spoken_answer(thread, "another answer"))
    await thread.move_on()
    await thread.catch_up(head("be kind"), items)
    assert thread._live is ahead
    assert texts(thread)[:4] == ["be kind", "words 7", "words 8", "words 9"]
    assert ahead.num_read == 8
    sounds = await load_sounds(items)
    assert shown(ahead.messages[4:]) == shown([m for item in items[10:] for m in item.messages(sounds)])
    await thread.catch_up(head("be kind"), items)
    assert ahead.num_read == 8


async def test_room_made_ahead_is_for_what_is_read_next():
    """Where turns are typed nobody listens to one: the next item is read behind what remains."""
    engine = WatchedEngine()
    thread, items = Thread(engine), [said(f"words {count}") for count in range(10)]
    await thread.catch_up([], items)
    await thread.make_room_ahead([], items, 0.4, 15)
    items.append(said("and then"))
    del items[8]  # meanwhile
    await thread.catch_up([], items)
    assert texts(thread) == ["words 7", "words 9", "and then"]


async def test_who_is_in_a_greater_hurry_makes_room_first(idle: asyncio.Event):
    engine = WatchedEngine()
    thread, items = Thread(engine), [said(f"words {count}") for count in range(10)]
    await thread.catch_up([], items)
    making = asyncio.create_task(thread.make_room_ahead([], items, 0.4, 15))
    await asyncio.sleep(0)
    assert thread.make_room(items, 0.2, 15)
    idle.set()
    await making
    await thread.catch_up([], items)
    assert texts(thread) == ["words 9"]


async def test_a_draft_is_the_answer_that_is_asked_for():
    engine = WatchedEngine()
    thread = Thread(engine)
    turn = np.full(4 * FRAME_SIZE, 0.1, np.float32)
    await thread.listen(turn)
    await thread.draft(SPOKEN)
    await asyncio.sleep(0.01)
    await thread.listen(turn)
    await thread.drop_draft()  # the user went on
    await thread.draft(SPOKEN)
    await thread.listen(turn)
    assert thread.num_drafted == 2 * len(turn)
    item = Item(id="turn", role="user", content=[Content(kind="input_audio", sound=recorded(np.tile(turn, 2)))])
    await thread.end_turn(item)
    assert engine.num_active == 1  # it is under way
    await spoken_answer(thread, "answer")
    assert len(engine.requests) == 2
    assert engine.num_finished == 1
    assert engine.num_cancelled == 1
    await thread.listen(turn)
    await thread.draft(SPOKEN)
    await thread.end_turn(replace(item, id="another"))
    written = [event async for event in thread.answer(SamplingParams())]  # it was to be spoken
    assert any(isinstance(event, TextDelta) for event in written)
    assert engine.num_cancelled == 2
    await thread.close()


async def test_the_shipped_network_drafts_what_it_would_answer_and_hears_the_same_again():
    engine = OmniEngine.load(ROOT / "sensorium" / "checkpoints" / "nano")
    sound, rate_hz = soundfile.read(ROOT / "docs" / "media" / "question.wav", dtype="float32")
    turn = np.concatenate((soxr.resample(sound, rate_hz, RATE_HZ), np.zeros(RATE_HZ // 2, np.float32)))
    turn = recorded(turn).read()  # as a call's buffer has it
    over, said = len(turn) - 6000, []
    try:
        for drafts in (True, False):
            thread = Thread(engine)
            for piece in np.split(turn[:over], range(320, over, 320)):
                await thread.listen(piece)
            if drafts:
                await thread.draft(replace(SPOKEN, max_tokens=24))
                await thread.listen(turn[over:])  # it goes on listening meanwhile
            kept = recorded(turn[:over])
            await kept.pack()
            item = Item(id="turn", role="user", content=[Content(kind="input_audio", sound=kept)])
            await thread.end_turn(item)
            sounds = [
                e.waveform async for e in thread.answer(replace(SPOKEN, max_tokens=24)) if isinstance(e, AudioDelta)
            ]
            said.append((item.content[0].text, np.concatenate(sounds)))
            again = Thread(engine)
            await again.catch_up([], [item])
            live, read = ([one for _, one in each._live._sequence.stream.heard] for each in (thread, again))  # type: ignore
            np.testing.assert_array_equal(live, read)
    finally:
        await engine.close()
    assert said[0][0] == said[1][0] != ""
    np.testing.assert_array_equal(said[0][1], said[1][1])


async def test_a_failed_draft_leaves_the_turn_to_be_read():
    engine = WatchedEngine()
    thread = Thread(engine)
    await thread.listen(np.full(4 * FRAME_SIZE, 0.1, np.float32))
    engine.error = RuntimeError("broken")
    await thread.draft(SPOKEN)
    item = Item(
        id="turn",
        role="user",
        content=[Content(kind="input_audio", sound=recorded(np.zeros(4 * FRAME_SIZE)))],
    )
    await thread.end_turn(item)
    with pytest.raises(RuntimeError, match="broken"):
        await spoken_answer(thread, "answer")


async def test_an_answer_that_came_to_nothing_is_forgotten():
    engine = WatchedEngine()
    thread = Thread(engine)
    await thread.catch_up([], [said("call light {}")])
    before = await thread.mark()
    async for _ in thread.answer(SamplingParams()):
        pass
    assert len(engine.live.messages) == 2
    await thread.answered(before, [], is_over=True)
    assert len(engine.live.messages) == 1


async def test_a_turn_that_does_not_fit_can_be_dropped():
    engine = WatchedEngine(max_tokens=6)
    thread = Thread(engine)
    await thread.catch_up([], [said("one two")])
    await thread.listen(np.full(2 * FRAME_SIZE, 0.1, np.float32))
    with pytest.raises(ContextLengthExceeded):
        await thread.listen(np.full(3 * FRAME_SIZE, 0.1, np.float32))
    assert thread.hears
    await thread.drop_turn()
    assert not thread.hears
    assert shown(engine.live.messages) == [("user", (Text(text="one two"),))]


async def test_of_a_written_answer_that_was_stopped_the_network_knows_what_was_told():
    engine = OmniEngine(random_release(lookahead_frames=2))
    try:
        thread, again, items = Thread(engine), Thread(engine), [said("what")]
        await thread.catch_up([], items)
        items.append(await written_answer(thread, "answer", WRITTEN, stops_after=3))
        await asyncio.sleep(0.1)  # the network may have been ahead
        for each in (thread, again):
            await each.catch_up([], [*items, said("and then")])
        lived, read = (each._live._sequence.stream.ids for each in (thread, again))  # type: ignore
        assert read == lived
    finally:
        await engine.close()


@pytest.mark.parametrize("delay_ms", [0, 1, 3, 10, 30])
async def test_a_prompt_whose_reading_was_cancelled_is_read_once(delay_ms: int):
    engine = OmniEngine(random_release(lookahead_frames=2))
    try:
        thread, items = Thread(engine), [said(" ".join(SENTENCES)[:600]), said("and then")]
        reading = asyncio.create_task(thread.catch_up([], items))
        await asyncio.sleep(delay_ms / 1000)
        reading.cancel()
        await asyncio.wait([reading])
        again = Thread(engine)
        for each in (thread, again):
            await each.catch_up([], items)
        lived, read = (each._live._sequence.stream.ids for each in (thread, again))  # type: ignore
        assert read == lived
    finally:
        await engine.close()


@pytest.fixture(scope="module")
def taught_cuts() -> OmniEngine:
    """Small and random, but it knows what <|cut|> is."""
    release = random_release(lookahead_frames=2)
    render = replace(release.config.render, cuts=True)
    return OmniEngine(replace(release, config=replace(release.config, render=render)))


def layout(stream: Stream) -> list[int | str]:
    """The symbols of a stream; of frames, that they are there: read again, sound has other codes."""
    frames = {at for at, _ in stream.frames}
    return ["frame" if at in frames else symbol for at, symbol in enumerate(stream.ids)]


ANSWERS = st.lists(
    st.tuples(
        st.sampled_from(SENTENCES),
        st.sampled_from([None, 12, 40]),  # the most tokens
        st.none() | st.integers(0, 12),  # the events after which it is stopped
        st.floats(0.25, 1.5),  # the speed
        st.lists(st.floats(0, 1), max_size=2),  # the shares of it after which it is truncated
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(answers=ANSWERS)
def test_what_was_cut_short_is_read_again_as_it_was_lived(taught_cuts: OmniEngine, answers):
    """Whenever the answers were truncated, and however often: every word is at its frame, and what was cut ends so."""

    async def play() -> tuple[Stream, Stream]:
        thread, items = Thread(taught_cuts), list[Item]()
        for number, (sentence, max_tokens, stops_after, speed, shares) in enumerate(answers):
            items.append(said(f"what {number}"))
            await thread.catch_up(head("be kind"), items)
            params = replace(SPOKEN, script=sentence, max_tokens=max_tokens)
            item = await spoken_answer(thread, f"answer {number}", params, speed=speed, stops_after=stops_after)
            items.append(item)
            for share in shares:
                known = item.key
                if (after_ms := item.truncate(int(share * item.heard_ms(RATE_HZ)), RATE_HZ)) is not None:
                    await thread.cut_short(item, known, after_ms)
        again, last = Thread(taught_cuts), said("and then")
        for each in (thread, again):
            await each.catch_up(head("be kind"), [*items, last])
        return thread._live._sequence.stream, again._live._sequence.stream  # type: ignore

    lived, read = asyncio.run(play())
    assert layout(read) == layout(lived)
