"""What the client's microphone says: sound becomes turns, and turns become items that the network has heard already.

A turn is listened to while it is said, so that little is left to do when it ends. That is never waited for: while an
answer is being made the turn is only kept, and read as a clip later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any, Protocol

import numpy as np
import structlog
from starlette.websockets import WebSocketDisconnect

from sensorium.engine.request import ContextLengthExceeded, LiveEngine, SamplingParams
from sensorium.messages import Message
from sensorium.server import realtime_tools
from sensorium.server.config import ServerConfig
from sensorium.server.conversation import FRAME_MS, Content, Conversation, Item, from_base64, new_id
from sensorium.server.echo import PLAYED, Loudspeaker
from sensorium.server.errors import APIError, invalid
from sensorium.server.logs import describe
from sensorium.server.realtime_account import Account
from sensorium.server.realtime_audio import Pace, pieces
from sensorium.server.realtime_events import ResponseOptions, SemanticVad, ServerVad, SessionConfig
from sensorium.server.realtime_reply import CancelReason, answer_params
from sensorium.server.realtime_session import chosen_voice, retention
from sensorium.server.realtime_thread import Thread
from sensorium.server.realtime_transcript import Scribe
from sensorium.server.turn_end import LIKELY, PATIENCE
from sensorium.server.turns import InputBuffer, SpeechStarted, SpeechStopped, TurnDetector, TurnEvent

log = structlog.get_logger()

AT_ONCE_MS = 100  # of sound: in more there may be speech for longer than others can wait
MIN_TURN_MS = 100  # the contract's: less sound than this is no turn
SURE_TURN_MS = 200  # of so much a turn will be left, wherever it is taken to end
MAX_APPEND_BYTES = 15 * 2**20
_LATE_S = 0.01  # a timer may be early by the clock's resolution


class Line(Protocol):
    """The call, as far as its microphone needs it."""

    session: SessionConfig
    transcribes: bool
    conversation: Conversation
    thread: Thread
    account: Account
    obeying: asyncio.Lock  # held by whoever does something that the client might have asked for

    async def refuse(self, error: APIError) -> None: ...
    async def send(self, type: str, **fields: Any) -> None: ...
    def head(self) -> list[Message]: ...
    async def interrupt(self, reason: CancelReason) -> None: ...
    async def respond(self, options: ResponseOptions) -> None: ...
    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]: ...


class Microphone:
    def __init__(self, line: Line, engine: LiveEngine, config: ServerConfig, detecting: Executor) -> None:
        self._line = line
        self._config = config
        self._detecting = detecting
        self._rate_hz = engine.info.sample_rate_hz
        self._frame_size = self._rate_hz * FRAME_MS // 1000
        self._buffer = InputBuffer(line.session, self._rate_hz)
        self._pace = Pace(monotonic())
        self.loudspeaker = Loudspeaker()  # whose echo it may hear
        self._scribe = Scribe(engine, line)
        self._silent_since_s: float | None = None  # by the clock: when the last answer had been played
        self._begin_turn()

    @property
    def num_bytes(self) -> int:
        return self._buffer.num_bytes

    def park(self) -> None:
        """Nobody is on line: a turn that has begun will be listened to from its beginning."""
        self._silent_since_s = None
        self.loudspeaker.stop()
        self._buffer.again()
        self._begin_turn()

    def answered(self, played_at_s: float) -> None:
        """The last answer will have been played then (`time.monotonic`): from there on nobody speaks, if the user does
        not already."""
        if self._buffer.turns is not None and self._buffer.turns.speaking:
            return
        self._silent_since_s = played_at_s
        self._line.spawn(self._watch_the_clock())

    def silenced(self) -> None:
        """Of what was sent the client plays no more."""
        self.loudspeaker.stop()
        if self._silent_since_s is not None and self._silent_since_s > (now_s := monotonic()):
            self._silent_since_s = now_s
            self._line.spawn(self._watch_the_clock())

    def answering(self) -> None:
        """An answer begins: nobody waits for the user."""
        self._silent_since_s = None

    def _begin_turn(self) -> None:
        self._listening = False  # to the turn, from its first sample on
        self._deaf = False  # it is only kept
        self._behind = False  # an answer was in the way: it is listened to from its beginning when that is over

    @property
    def _hears(self) -> bool:
        """Whether the turn has been listened to, all of it."""
        return self._listening and not self._deaf and not self._behind and self._line.thread.hears

    @property
    def _writes(self) -> bool:
        """Whether transcripts are told."""
        return self._line.transcribes or self._line.session.audio.input.transcription is not None

    async def append(self, audio: str) -> None:
        """Much at once is taken in piece by piece, as if it came in pieces: other calls have their turn between. While
        it waits nothing more of the call is read, and its client is held back."""
        if len(audio) * 3 // 4 > MAX_APPEND_BYTES:
            raise invalid(f"At most {MAX_APPEND_BYTES} bytes may be appended at once.", "audio", "audio_too_large")
        data = await from_base64(audio, "audio")
        refusals: list[APIError] = []
        for piece in pieces(data, self._buffer.format):
            heard = self._buffer.push(piece)
            await asyncio.sleep(self._pace.wait_s(1000 * len(heard) / self._rate_hz, monotonic()))
            if self._buffer.duration_ms > 1000 * self._config.max_audio_s:
                await self.clear()
                raise invalid("The input audio buffer was full, and has been cleared.", "audio", "audio_too_large")
            refusals += await self._take(heard)
        if refusals:
            raise refusals.pop(0)

    async def _take(self, heard: np.ndarray) -> list[APIError]:
        """What came is followed where it leads to. Returns what of that was refused."""
        if self._buffer.turns is None:
            await self._follow()
            return []
        refusals: list[APIError] = []
        for event in await self._detect(self._buffer.turns, heard):
            try:
                if isinstance(event, SpeechStarted):
                    await self._speech_started(event)
                else:
                    await self._speech_stopped(event)
            except APIError as error:  # the turns after it are turns all the same
                refusals.append(error.with_traceback(None))  # which would hold on to the call
        if self._buffer.turns.speaking:
            await self._follow()
            if self._is_over():
                await self._speech_stopped(self._buffer.turns.stop())
            else:
                await self._draft()
        else:
            await self._look_at_the_clock()
        return refusals

    async def _detect(self, turns: TurnDetector, heard: np.ndarray) -> list[TurnEvent]:
        """In a thread what may take milliseconds; less is done sooner than a thread wakes."""
        in_thread = partial(asyncio.get_running_loop().run_in_executor, self._detecting)
        played = self.loudspeaker.last(len(heard) + PLAYED)
        if 1000 * len(heard) > AT_ONCE_MS * self._rate_hz:
            return await in_thread(turns.push, heard, played)
        windows = turns.hear(heard)
        if played is None or not turns.may_be_echo(windows):
            return turns.follow(windows, played)
        return await in_thread(turns.follow, windows, played)

    async def clear(self) -> None:
        self._scribe.forget(self._buffer.item_id)
        self._buffer = InputBuffer(self._line.session, self._rate_hz, start_ms=self._buffer.end_ms)
        await self._forget_turn()

    async def reshape(self) -> None:
        """The session's settings of the microphone have changed: a turn that has begun begins anew."""
        before, self._buffer = self._buffer, self._buffer.reshaped(self._line.session)
        if self._buffer.item_id != before.item_id:
            self._scribe.forget(before.item_id)
        await self._forget_turn()
        self._line.spawn(self._watch_the_clock())

    async def hear_again(self) -> None:
        """What came before the turn has changed: it is listened to once more, behind that."""
        self._buffer.again()
        await self._forget_turn()

    async def _forget_turn(self) -> None:
        self._begin_turn()
        thread = self._line.thread
        if not thread.lock.locked():
            async with thread.lock:
                await thread.drop_turn()

    async def _follow(self) -> None:
        """Listens to what has come of the turn, if no answer is in the way."""
        if self._behind and not self._line.thread.lock.locked():
            self._begin_turn()
            self._buffer.again()
        await self._listen(self._buffer.fresh(in_pieces_of=self._frame_size))
        await self._tell()

    async def _tell(self) -> None:
        """What was heard of the turn, unless that may yet go: with a turn that proves to be none, or to have ended
        where a draft took it to."""
        thread, buffer = self._line.thread, self._buffer
        is_sure = self._hears and thread.num_drafted is None and buffer.duration_ms >= SURE_TURN_MS
        if not self._writes or not is_sure or not thread.heard:
            return
        buffer.item_id = buffer.item_id or new_id("item")
        await self._scribe.tell(buffer.item_id, thread.heard)

    async def _listen(self, waveform: np.ndarray) -> None:
        thread = self._line.thread
        if not len(waveform) or self._deaf or self._behind:
            return
        if thread.lock.locked() or (self._listening and not thread.hears):  # an answer is on its way, or has been
            self._behind = True
            return
        async with thread.lock:
            try:
                if not self._listening:
                    # where nothing is answered each turn is heard by itself, or the context would soon be full for good
                    items = [] if self._line.transcribes else list(self._line.conversation)
                    await thread.move_on()
                    await thread.catch_up(self._line.head(), items)
                    self._listening = True
                await thread.listen(waveform)
            except ContextLengthExceeded:  # the answer makes room
                self._deaf = True
                await thread.drop_turn()
            except Exception as failure:  # the turn is still there to be read as a clip
                self._deaf = True
                log.error("listening failed", **describe(failure))

    # --- turns

    def _is_over(self) -> bool:
        detection, turns = self._line.session.audio.input.turn_detection, self._buffer.turns
        if not isinstance(detection, SemanticVad) or turns is None or not self._hears:
            return False
        turn_end = self._line.thread.turn_end
        return turn_end.is_over(turns.silence_ms, PATIENCE[detection.eagerness])

    async def _draft(self) -> None:
        """Where the turn may be over, an answer is begun; where it goes on, that is dropped."""
        detection, turns, thread = self._line.session.audio.input.turn_detection, self._buffer.turns, self._line.thread
        if detection is None or not detection.create_response or self._line.transcribes:
            return
        if turns is None or not self._hears or thread.lock.locked():
            return
        eagerness = detection.eagerness if isinstance(detection, SemanticVad) else "auto"
        silent = turns.silence_ms >= PATIENCE[eagerness].silence_ms
        if not silent and thread.num_drafted is not None:
            await thread.drop_draft()
        elif silent and thread.num_drafted is None and thread.turn_end.probability >= LIKELY:
            async with thread.lock:
                await thread.draft(await self._expected())

    async def _expected(self) -> SamplingParams:
        """Of the answer to a turn, for which nothing else is asked."""
        session, options = self._line.session, ResponseOptions()
        calls = await realtime_tools.held(session, options)
        return answer_params(session, options, chosen_voice(options, session, self._config), calls)

    @property
    def _idle_timeout_s(self) -> float | None:
        detection = self._line.session.audio.input.turn_detection
        if not isinstance(detection, ServerVad) or detection.idle_timeout_ms is None:
            return None
        return detection.idle_timeout_ms / 1000

    async def _watch_the_clock(self) -> None:
        """Until the user has been silent for too long, whether or not any sound comes of that."""
        since_s, timeout_s = self._silent_since_s, self._idle_timeout_s
        if since_s is None or timeout_s is None:
            return
        await asyncio.sleep(max(0.0, since_s + timeout_s - monotonic() + _LATE_S))
        with suppress(WebSocketDisconnect):
            async with self._line.obeying:
                try:
                    await self._look_at_the_clock()
                except APIError as error:
                    await self._line.refuse(error)

    async def _look_at_the_clock(self) -> None:
        """Asks for an answer where the user has been silent for too long after the last one."""
        timeout_s, since_s = self._idle_timeout_s, self._silent_since_s
        if timeout_s is None or since_s is None or (silent_s := monotonic() - since_s) < timeout_s:
            return
        if self._buffer.turns is None or self._buffer.turns.speaking:
            return
        self._silent_since_s = None
        self._buffer.item_id = new_id("item")
        self._buffer.forget_before(self._buffer.end_ms - round(1000 * silent_s))
        fields = {"audio_start_ms": self._buffer.start_ms, "audio_end_ms": self._buffer.end_ms}
        await self._line.send("input_audio_buffer.timeout_triggered", **fields, item_id=self._buffer.item_id)
        await self.commit(self._buffer.num_until(self._buffer.end_ms), is_silence=True)
        await self._line.respond(ResponseOptions())

    async def _speech_started(self, event: SpeechStarted) -> None:
        detection = self._line.session.audio.input.turn_detection
        assert detection is not None
        self._silent_since_s = None
        self._buffer.item_id = new_id("item")
        self._buffer.forget_before(event.at_ms)
        self._buffer.again()  # what was heard behind the end of another turn is not in it
        # what another turn took, padding does not reach back into
        fields = {"audio_start_ms": self._buffer.start_ms, "item_id": self._buffer.item_id}
        await self._line.send("input_audio_buffer.speech_started", **fields)
        if detection.interrupt_response:
            await self._line.interrupt("turn_detected")

    async def _speech_stopped(self, event: SpeechStopped) -> None:
        detection = self._line.session.audio.input.turn_detection
        assert detection is not None
        end_ms, end = event.at_ms, self._buffer.num_until(event.at_ms)
        if (drafted := self._line.thread.num_drafted) is not None:  # the turn is what is answered
            end = drafted
            if isinstance(detection, SemanticVad):
                end_ms = self._buffer.start_ms + round(1000 * drafted / self._rate_hz)
        fields = {"audio_end_ms": end_ms, "item_id": self._buffer.item_id}
        await self._line.send("input_audio_buffer.speech_stopped", **fields)
        await self.commit(end)
        if isinstance(detection, ServerVad):
            self._buffer.forget_before(end_ms)  # by the contract, the silence that ended a turn belongs to it
        if detection.create_response and not self._line.transcribes:
            if detection.interrupt_response:
                await self._line.interrupt("turn_detected")
            await self._line.respond(ResponseOptions())  # refused while an answer goes on

    async def commit(self, end: int | None = None, *, is_silence: bool = False) -> None:
        """What came is an item, all of it or so many samples. Of silence too little may have come, or nothing."""
        if end is None:
            await self._line.thread.drop_draft()
        if end is None and self._buffer.turns is not None and self._buffer.turns.speaking:
            self._buffer.turns.stop()  # the client knows better: what is said from here on is the next turn
            fields = {"audio_end_ms": self._buffer.end_ms, "item_id": self._buffer.item_id}
            await self._line.send("input_audio_buffer.speech_stopped", **fields)
        sound, fresh = self._buffer.cut(end)
        if is_silence and (missing := MIN_TURN_MS * self._rate_hz // 1000 - len(sound)) > 0:
            silence = np.zeros(missing, np.float32)
            sound.append(silence)
            fresh = np.concatenate((fresh, silence))
        if sound.duration_ms < MIN_TURN_MS:
            self._scribe.forget(self._buffer.item_id)
            self._buffer.item_id = None
            await self._forget_turn()
            message = f"The input audio buffer holds {sound.duration_ms} ms of sound; a turn needs {MIN_TURN_MS} ms."
            raise invalid(message, None, "input_audio_buffer_commit_empty")
        item_id = self._buffer.item_id or new_id("item")
        self._buffer.item_id = None
        part = Content(kind="input_audio", text=None, sound=sound)
        item = Item(id=item_id, role="user", content=[part])
        await self._hear_out(item, fresh)
        heard = self._line.thread.heard
        transcript, part.text = part.text, None  # an item is told before its transcript is
        before = self._line.conversation.add(item)
        if self._writes:
            self._scribe.owes(item)
        try:
            await self._line.send("input_audio_buffer.committed", previous_item_id=before, item_id=item.id)
            for told in ("added", "done"):
                await self._line.send(f"conversation.item.{told}", previous_item_id=before, item=item.wire())
        finally:
            part.text = transcript
        self._line.spawn(self._line.conversation.pack([item]))  # an answer does not wait for it
        self._make_room()
        if not self._writes:
            return
        if transcript is None:
            self._line.spawn(self._scribe.read(item))
        else:
            await self._scribe.complete(item, heard, apart=self._line.transcribes)

    def _make_room(self) -> None:
        """Where an answer would, and none is made."""
        session = self._line.session
        detection = session.audio.input.turn_detection
        if self._line.transcribes or detection is None or detection.create_response or session.truncation == "disabled":
            return
        items = list(self._line.conversation)
        self._line.spawn(self._line.thread.make_room_ahead(self._line.head(), items, *retention(session)))

    def read_rest(self) -> None:
        """The call goes on on another line: what the last one dropped before it was written down is written down."""
        items = list(self._line.conversation)
        for item in self._scribe.owed:
            if item in items:
                self._line.spawn(self._scribe.read(item))

    async def _hear_out(self, item: Item, rest: np.ndarray) -> None:
        """The end of the turn; after it the transcript is known, if the turn was listened to."""
        thread = self._line.thread
        await self._listen(rest)
        heard = self._hears
        self._begin_turn()
        if heard and not thread.lock.locked():
            async with thread.lock:
                try:
                    await thread.end_turn(item)
                except Exception as failure:
                    log.error("listening failed", **describe(failure))
