"""Calls beside a call that sends more than it should: what order their work is done in."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import weakref
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from starlette.websockets import WebSocketState
from websockets.exceptions import ConnectionClosed

from sensorium.engine.fake import FakeConversation, FakeEngine
from sensorium.engine.request import Event
from sensorium.messages import Message
from sensorium.server.config import ServerConfig
from sensorium.server.conversation import Content, Conversation, Item, from_base64, read_item
from sensorium.server.errors import APIError
from sensorium.server.media import Decoders, MediaReader
from sensorium.server.metrics import Metrics
from sensorium.server.realtime import Call
from sensorium.server.realtime_audio import LEAD_MS, PIECE_MS, SPEED, Pace, Playback
from sensorium.server.realtime_events import ResponseOptions, SessionConfig, UserItem, parsed
from sensorium.server.realtime_input import MAX_APPEND_BYTES, Microphone
from sensorium.server.realtime_tasks import Threads
from sensorium.server.realtime_thread import Thread
from sensorium.server.recording import Recording
from sensorium.server.turns import TurnDetector
from tests.server.calls import Phone, hum, pcm, phone
from tests.server.live import live
from tests.server.test_turns import spoken

FLOOD_MS = 20_000


class Wire:
    """A call without a socket, whose microphone is at hand."""

    transcribes = False

    def __init__(self, detecting: ThreadPoolExecutor, detection: str | None) -> None:
        engine = FakeEngine()
        audio = {"input": {"turn_detection": detection and {"type": detection}}}
        self.session = SessionConfig.model_validate({"type": "realtime", "audio": audio})
        self.conversation = Conversation(max_sound_bytes=2**20, max_bytes=2**30)
        self.thread = Thread(engine)
        self.obeying = asyncio.Lock()
        self.account: Any = None  # nothing is written down
        self.microphone = Microphone(self, engine, ServerConfig(), detecting)

    async def send(self, type: str, **fields: Any) -> None: ...
    async def refuse(self, error: APIError) -> None: ...
    def head(self) -> list[Message]:
        return []

    async def interrupt(self, reason: str) -> None: ...
    async def respond(self, options: ResponseOptions) -> None: ...
    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.create_task(work)


@pytest.mark.parametrize("detection", ["server_vad", "semantic_vad", None])
async def test_sound_that_comes_all_at_once_lets_other_calls_have_their_turn(
    detection: str | None, monkeypatch: pytest.MonkeyPatch
):
    """The detector's thread, or the engine of a turn that is listened to, gets a piece of it at once."""
    work: list[tuple[object, int]] = []
    begun, loop = asyncio.Event(), asyncio.get_running_loop()
    one, name = (TurnDetector, "push") if detection else (FakeConversation, "push")
    push: Any = getattr(one, name)

    def logged(self: object, waveform: np.ndarray, *more: Any) -> Any:
        work.append((self, len(waveform)))
        loop.call_soon_threadsafe(begun.set)
        return push(self, waveform, *more)

    monkeypatch.setattr(one, name, logged)
    with ThreadPoolExecutor(1) as detecting:
        flooding, other = Wire(detecting, detection), Wire(detecting, detection)
        flood = asyncio.create_task(flooding.microphone.append(pcm(hum(FLOOD_MS))))
        await begun.wait()
        flooder, most = work[0][0], 2 * PIECE_MS // 80 + 2  # frames of two pieces
        for _ in range(5):
            before = len(work)
            await other.microphone.append(pcm(hum(200)))
            assert sum(who is flooder for who, _ in work[before:]) <= (2 if detection else most)
        assert not flood.done()
        await flood
    assert max(size for _, size in work) <= PIECE_MS * 16


@asynccontextmanager
async def turns_of_others() -> AsyncIterator[list[int]]:
    """How often somebody else on the same loop had a turn."""
    turns = [0]

    async def count() -> None:
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(count())
    try:
        yield turns
    finally:
        task.cancel()


async def test_others_have_their_turn_while_a_long_clip_is_read():
    with ThreadPoolExecutor(1) as decoders:
        engine = FakeEngine()
        part = {"type": "input_audio", "audio": pcm(hum(FLOOD_MS))}
        new = UserItem.model_validate({"type": "message", "role": "user", "content": [part]})
        media = MediaReader(ServerConfig(), engine.info, Decoders(decoders, decoders))
        async with turns_of_others() as turns:
            item = await read_item(new, media, format="audio/pcm", rate_hz=16_000, param="item")
        assert turns[0] >= FLOOD_MS // PIECE_MS
    assert item.sounds[0].duration_ms == pytest.approx(FLOOD_MS, abs=1)


async def test_others_have_their_turn_while_a_long_item_is_made_ready_for_retrieval():
    sound = Recording(hum(FLOOD_MS, rate_hz=16_000), rate_hz=16_000)
    await sound.pack()
    item = Item(id="long", role="user", content=[Content(kind="input_audio", sound=sound)])
    playback = Playback(16_000, watermark_key="", watermark_payload=0)
    async with turns_of_others() as turns:
        body = await item.with_sound("audio/pcm", playback)
        assert turns[0] > 0
    assert len(base64.b64decode(body["content"][0]["audio"])) == pytest.approx(FLOOD_MS * 48, abs=100)


@pytest.mark.parametrize("at", [0, 2**20 - 4, 2**20, 2**21])
async def test_base64_is_the_same_in_pieces_and_refused_as_a_whole(at: int):
    data = np.random.default_rng(0).bytes(3 * 2**19 + 1)
    text = base64.b64encode(data).decode()
    assert await from_base64(text, "audio") == data
    for wrong in ("QQ==", "!AAA", "é___"):
        with pytest.raises(APIError):
            await from_base64(text[:at] + wrong + text[at:], "audio")


def test_a_call_is_taken_in_at_most_so_much_faster_than_it_is_said():
    pace, now_s = Pace(100.0), 100.0
    for _ in range(LEAD_MS // 500):
        assert pace.wait_s(500, now_s) == 0.0
    for _ in range(10):
        now_s += (wait_s := pace.wait_s(500, now_s))
        assert wait_s == pytest.approx(0.5 / SPEED)
    for _ in range(200):  # and in real time nothing ever waits
        now_s += 0.1
        assert pace.wait_s(100, now_s) == 0.0
    assert pace.wait_s(LEAD_MS, now_s + LEAD_MS) == 0.0  # long after


class Flood:
    """A socket whose client has sent all its events already."""

    application_state = WebSocketState.CONNECTED
    state = None

    def __init__(self, *events: str) -> None:
        self.told: list[str] = []
        self._events = deque(events)

    async def receive(self) -> dict[str, Any]:
        if not self._events:
            return {"type": "websocket.disconnect"}
        return {"type": "websocket.receive", "text": self._events.popleft()}

    async def send_text(self, text: str) -> None:
        self.told.append(json.loads(text)["type"])


def new_call() -> Call:
    nothing: Any = None
    return Call(
        FakeEngine(), ServerConfig(), Metrics(), Threads(nothing, nothing), nothing, nothing, model="gpt-realtime"
    )


@pytest.mark.parametrize("event", ["{}", '{"type": "input_audio_buffer.clear"}'])
async def test_others_have_their_turn_between_small_events(event: str):
    socket: Any = Flood(*[event] * 100)
    async with turns_of_others() as turns:
        await new_call().run(socket, beta=False)
    assert len(socket.told) == 101  # and the session's beginning
    assert turns[0] >= 100


def test_frames_beyond_what_may_be_appended_are_refused_and_larger_ones_end_their_own_call_alone():
    with live() as server, phone(server) as call, phone(server) as other:
        too_much = "A" * (MAX_APPEND_BYTES * 4 // 3 + 4)
        assert call.refused("input_audio_buffer.append", audio=too_much) == ("audio", "audio_too_large")
        call.user("still there")
        call.say("input_audio_buffer.append", audio="A" * ServerConfig().max_event_bytes)
        with pytest.raises(ConnectionClosed) as closed:
            call.next()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
        other.user("still there")


def test_an_event_of_too_many_values_is_not_even_parsed():
    with pytest.raises(APIError, match="at most 100000 values"):
        parsed('{"x": [' + "[]," * 2**19 + "[]]}")
    assert parsed(json.dumps({"audio": "A" * 2**22})) == {"audio": "A" * 2**22}


# --- a mistake of ours


class Clumsy(FakeConversation):
    """Fails where the text that it reads says so, in a way that nobody has thought of."""

    async def read(self, messages: Sequence[Message], *, in_no_hurry: bool = False) -> list[Event]:
        if any("break" in message.text for message in messages):
            raise RuntimeError("secret")
        return await super().read(messages)


class ClumsyEngine(FakeEngine):
    def converse(self) -> FakeConversation:
        return Clumsy(self)


def ended_by_a_mistake(call: Phone) -> None:
    """It says so, and no more than that."""
    told = call.until("error")[-1]["error"]
    assert told["type"] == "server_error"
    assert "secret" not in json.dumps(told)
    with pytest.raises(ConnectionClosed) as closed:
        call.next()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1011


def test_a_mistake_in_an_event_or_beside_it_ends_that_call_and_no_other(monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> None:
        raise RuntimeError("secret")

    async def broken_beside(*_: object) -> None:
        raise RuntimeError("secret")

    async def late_beside(*_: object) -> None:
        raise TimeoutError("secret")

    with live() as server, phone(server) as other:
        for name, mistake in (("find", broken), ("pack", broken_beside), ("pack", late_beside)):
            with monkeypatch.context() as patch, phone(server) as call:
                patch.setattr(Conversation, name, mistake)
                if name == "find":
                    call.say("conversation.item.retrieve", item_id="x", event_id="mine")
                else:
                    call.say("input_audio_buffer.append", audio=pcm(hum(400)))
                    call.say("input_audio_buffer.commit")
                ended_by_a_mistake(call)
            other.user("still there")
            other.say("response.create")
            assert other.until("rate_limits.updated")[-2]["response"]["status"] == "completed"


def test_an_engine_that_fails_in_one_call_answers_the_other():
    with live(ClumsyEngine()) as server, phone(server) as call, phone(server) as other:
        call.user("break")
        for phone_, status in ((call, "failed"), (other, "completed"), (call, "failed")):
            phone_.say("response.create")
            done = phone_.until("rate_limits.updated")[-2]["response"]
            assert done["status"] == status
            assert "secret" not in json.dumps(done)


async def test_a_refusal_within_a_turn_does_not_hold_on_to_its_call(monkeypatch: pytest.MonkeyPatch):
    async def refuse(*_: object) -> None:
        raise APIError("not now")

    monkeypatch.setattr(Wire, "respond", refuse)
    gc.collect()
    gc.disable()
    try:
        with ThreadPoolExecutor(1) as detecting:
            wire = Wire(detecting, "server_vad")
            held = weakref.ref(wire.microphone)
            try:
                await wire.microphone.append(pcm(spoken()))
                raise AssertionError("nothing was refused")
            except APIError:
                pass
            await asyncio.sleep(0)
            del wire.microphone
            assert held() is None
    finally:
        gc.enable()


async def test_what_a_call_held_goes_when_it_ends_without_the_garbage_collector():
    said = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}
    turn = {"type": "server_vad", "create_response": True}
    session = {"type": "realtime", "audio": {"input": {"turn_detection": turn}}}
    events: list[dict[str, Any]] = [
        {"type": "conversation.item.create", "item": said},
        {"type": "input_audio_buffer.append", "audio": pcm(hum(400))},
        {"type": "input_audio_buffer.append", "audio": "no base64"},
        {"type": "session.update", "session": {"type": "nothing"}},
        {"type": "session.update", "session": session},
        {"type": "input_audio_buffer.commit"},
        {"type": "input_audio_buffer.commit"},
    ]
    gc.collect()
    gc.disable()
    try:
        socket: Any = Flood(*map(json.dumps, events))
        call = new_call()
        held = weakref.ref(call)
        await call.run(socket, beta=False)
        call.close()
        await asyncio.sleep(0)
        assert socket.told.count("error") == 3
        del call
        assert held() is None
    finally:
        gc.enable()


class NeverIdle(FakeEngine):
    """What is in no hurry is never done."""

    def converse(self) -> FakeConversation:
        class Conversation(FakeConversation):
            async def read(self, messages: Sequence[Message], *, in_no_hurry: bool = False) -> list[Event]:
                if in_no_hurry:
                    await asyncio.Event().wait()
                return await super().read(messages)

        return Conversation(self)


def test_a_call_goes_on_while_room_is_made_in_it():
    with live(NeverIdle(max_tokens=128)) as server, phone(server) as call:
        call.ask("session.update", "session.updated", session={"type": "realtime", "output_modalities": ["text"]})
        for _ in range(20):
            call.user("one two three four five")
        for count in (20, 22):
            call.say("response.create")
            *_, done, _ = call.until("rate_limits.updated")
            assert done["response"]["status"] == "completed"
            assert len(server.engine.requests[-1].messages) == count
            call.user("six")
