"""A call: a conversation over a WebSocket, in the GA shape of OpenAI's Realtime API.

What the client says comes in as events, one after another; an answer is a task of its own, so that the client can go on
speaking, and cut in. Nothing that a client sends ends the call: what cannot be obeyed is answered by an `error` event,
and has no effect. A mistake of ours ends it, and no other. A call whose line drops may go on over another socket.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from typing import Any

import structlog
from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from sensorium.engine.request import (
    AudioDelta,
    ContextLengthExceeded,
    End,
    Event,
    LiveEngine,
)
from sensorium.messages import Message, Text
from sensorium.server import realtime_beta, realtime_tools
from sensorium.server.config import ServerConfig
from sensorium.server.conversation import (
    Conversation,
    Item,
    Json,
    load_sounds,
    new_id,
    read_item,
    read_prompt,
)
from sensorium.server.errors import APIError, from_validation, inside, internal, invalid
from sensorium.server.logs import describe
from sensorium.server.media import MediaReader
from sensorium.server.metering import Charge, Meter
from sensorium.server.metrics import Metrics
from sensorium.server.picture_out import PictureWriter
from sensorium.server.realtime_account import Account
from sensorium.server.realtime_audio import Playback
from sensorium.server.realtime_ending import BROKEN, DROPPED, EXPIRED, HUNG_UP, UNREAD, Ending, is_goodbye
from sensorium.server.realtime_events import (
    BufferAppend,
    BufferClear,
    BufferCommit,
    ClientEvent,
    ItemCreate,
    ItemDelete,
    ItemRetrieve,
    ItemTruncate,
    ResponseCancel,
    ResponseCreate,
    ResponseOptions,
    SessionConfig,
    SessionUpdate,
    TranscriptionConfig,
    client_event,
    parsed,
)
from sensorium.server.realtime_input import Microphone
from sensorium.server.realtime_reply import CancelReason, Reply, chosen_limit
from sensorium.server.realtime_session import (
    check_change,
    check_response,
    check_session,
    chosen_speed,
    chosen_voice,
    retention,
    session_body,
)
from sensorium.server.realtime_tasks import Tasks, Threads, to_the_end
from sensorium.server.realtime_thread import Thread, answer_apart, within
from sensorium.server.realtime_tools import Calls

log = structlog.get_logger()


class Call:
    """A session, its conversation, its sound and its answers."""

    def __init__(
        self,
        engine: LiveEngine,
        config: ServerConfig,
        metrics: Metrics,
        threads: Threads,
        meter: Meter,
        pictures: PictureWriter,
        *,
        model: str,
    ) -> None:
        self._engine = engine
        self._config = config
        self._threads = threads
        self._pictures = pictures
        self._rate_hz = engine.info.sample_rate_hz
        self._playback = Playback(
            self._rate_hz, watermark_key=config.watermark_key, watermark_payload=config.watermark_payload
        )
        self.id = new_id("sess")
        self.model = model
        self.account = Account(meter, metrics, config, model=model, rate_hz=self._rate_hz)
        self.expires_at = time.time() + config.call_s
        self._goes_on = False
        self.session = SessionConfig(type="realtime")
        self.transcribes = False  # only: nothing is answered
        self.conversation = Conversation(max_sound_bytes=config.max_call_sound_bytes, max_bytes=config.max_call_bytes)
        self.thread = Thread(engine)
        self._sending = asyncio.Lock()
        self.obeying = asyncio.Lock()  # one thing after another
        self._replies: dict[str, Reply] = {}  # under way, by id
        self._tasks = Tasks()
        self._microphone = Microphone(self, engine, config, threads.listening)
        self._has_spoken = False

    def begin_as(self, asked: SessionConfig | TranscriptionConfig) -> None:
        """With another session than the contract's defaults, which has been checked."""
        self.transcribes = isinstance(asked, TranscriptionConfig)
        self.session = self.session.updated(asked.as_session() if isinstance(asked, TranscriptionConfig) else asked)
        self._microphone = Microphone(self, self._engine, self._config, self._threads.listening)

    @property
    def num_bytes(self) -> int:
        """Of what a client would have to tell again."""
        return self._microphone.num_bytes + len(self.session.model_dump_json()) + self.conversation.num_bytes

    def park(self) -> None:
        """Nobody is on line: an answer that was under way ends with what was sent of it, and what the engine has read
        is read again when the call goes on."""
        self._goes_on = True
        for reply in list(self._replies.values()):  # whose task was cancelled before its first step
            self._end_reply(reply)
        self.conversation.cut_short(self._rate_hz)
        self.thread = Thread(self._engine)
        self._microphone.park()

    def close(self) -> None:
        """Nobody will go on with it. The microphone knows the call: now both are freed, with all that they hold."""
        del self._microphone

    def end(self, why: Ending) -> None:
        if not self._ended.done():
            self._ended.set_result(why)

    async def run(self, socket: WebSocket, *, beta: bool) -> Ending:
        """Until it is over. `beta`: the client speaks the retired shape."""
        self._socket, self._beta, self._ended = socket, beta, asyncio.get_running_loop().create_future()
        self.account.payer = socket.state
        self._tasks.begin(if_one_fails=self._break)
        self.spawn(self._listen())
        try:
            async with asyncio.timeout(self.expires_at - time.time()):
                return await self._ended
        except TimeoutError:
            with suppress(WebSocketDisconnect):
                await self.refuse(APIError("The session has reached its maximum duration.", code="session_expired"))
            return EXPIRED
        finally:
            await self._tasks.close()
            await self.thread.close()
            del self._socket, self.account.payer

    async def _listen(self) -> None:
        """Obeys the client until it is gone."""
        why = DROPPED
        try:
            with suppress(WebSocketDisconnect):
                await self._tell_session()
                self._microphone.read_rest()
            while (received := await self._socket.receive())["type"] != "websocket.disconnect":
                with suppress(WebSocketDisconnect):  # what was said before is taken in all the same
                    async with self.obeying:
                        await self._take(received)
                await asyncio.sleep(0)  # where events are waiting, nothing else lets other calls have their turn
            why = HUNG_UP if is_goodbye(received) else DROPPED
        finally:
            self.end(why)

    async def _tell_session(self) -> None:
        await self.send("session.created", session=self._session_body())
        if self._goes_on or (self._beta and not self.transcribes):
            conversation: Json = {"id": self.conversation.id, "object": "realtime.conversation"}
            if self._goes_on:
                conversation["items"] = [{"id": item.id, "status": item.status} for item in self.conversation]
            await self.send("conversation.created", conversation=conversation)

    async def send(self, type: str, **fields: Any) -> None:
        """One server event. Waits while the client is slow to read, and gives the call up after a while. Raises
        WebSocketDisconnect if nobody is there."""
        event: Json | None = {"type": type, "event_id": new_id("event"), **fields}
        if self._beta and (event := realtime_beta.from_ga(event)) is None:
            return
        async with self._sending:
            if self._socket.application_state is not WebSocketState.CONNECTED:
                raise WebSocketDisconnect
            try:
                async with asyncio.timeout(self._config.send_timeout_s):
                    await self._socket.send_text(json.dumps(event, ensure_ascii=False))
            except TimeoutError:
                self.end(UNREAD)
                raise WebSocketDisconnect from None

    async def refuse(self, error: APIError, event_id: str | None = None) -> None:
        envelope = error.envelope()["error"]
        await self.send("error", error={**envelope, "event_id": event_id})

    async def _give_up(self, event_id: str | None) -> None:
        """After a mistake of ours: nobody knows what state the call is in."""
        try:
            with suppress(WebSocketDisconnect):
                await self.refuse(internal(), event_id)
        finally:
            self.end(BROKEN)

    def _break(self) -> None:
        if not self._ended.done():
            self.spawn(self._give_up(None))

    # --- what the client says

    async def _take(self, received: Any) -> None:
        event_id: str | None = None
        try:
            body = parsed(received.get("text"))
            if isinstance(named := body.get("event_id"), str):
                event_id = named[:512]
            if self._beta:
                body = realtime_beta.to_ga(body)
            else:
                realtime_beta.refuse_gone(body)
            await self._obey(client_event.validate_python(body))
        except ValidationError as error:
            await self.refuse(from_validation(error), event_id)
        except APIError as error:
            await self.refuse(error, event_id)
        except WebSocketDisconnect:
            raise
        except Exception as error:
            log.error("realtime event failed", **describe(error))
            await self._give_up(event_id)

    async def _obey(self, event: ClientEvent) -> None:
        match event:
            case SessionUpdate():
                await self._update(event.session)
            case BufferAppend():
                await self._microphone.append(event.audio)
            case BufferCommit():
                await self._microphone.commit()
            case BufferClear():
                await self._microphone.clear()
                await self.send("input_audio_buffer.cleared")
            case ItemCreate():
                await self._create_item(event)
            case ItemRetrieve():
                item = self.conversation.find(event.item_id)
                body = await item.with_sound(self.session.audio.format_of(item.role), self._playback)
                await self.send("conversation.item.retrieved", item=body)
            case ItemDelete():
                self.conversation.remove(self.conversation.find(event.item_id))
                await self.send("conversation.item.deleted", item_id=event.item_id)
            case ItemTruncate():
                await self._truncate(event)
            case ResponseCreate():
                await self.respond(event.response)
            case ResponseCancel():
                self._cancel(event.response_id)

    async def _update(self, asked: SessionConfig | TranscriptionConfig) -> None:
        transcribes = isinstance(asked, TranscriptionConfig)
        if transcribes != self.transcribes and len(self.conversation):
            raise invalid("The kind of a session cannot change once something was said.", "session.type")
        change = asked.as_session() if isinstance(asked, TranscriptionConfig) else asked
        try:
            session = self.session.updated(change)
        except ValidationError as error:
            raise inside("session", from_validation(error)) from None
        check_session(session, self._engine.info, self._config)
        check_change(self.session, session, has_spoken=self._has_spoken, answers=bool(self._replies))
        self.transcribes = transcribes
        before, self.session = self.session.audio.input, session
        if session.audio.input != before:
            await self._microphone.reshape()
        await self.send("session.updated", session=self._session_body())

    def _session_body(self) -> Json:
        told = {"id": self.id, "expires_at": int(self.expires_at)}  # a whole number, by the contract
        return session_body(self.session, told, model=self.model, transcribes=self.transcribes)

    async def _create_item(self, event: ItemCreate) -> None:
        media, format = self._media(), self.session.audio.input.format.type
        item = await read_item(event.item, media, format=format, rate_hz=self._rate_hz, param="item")
        before = self.conversation.add(item, after=event.previous_item_id, is_clients=True)
        for told in ("added", "done"):
            await self.send(f"conversation.item.{told}", previous_item_id=before, item=item.wire())
        await self.conversation.pack([item])

    def _media(self) -> MediaReader:
        return MediaReader(self._config, self._engine.info, self._threads.decoders)

    async def _truncate(self, event: ItemTruncate) -> None:
        item = self.conversation.find(event.item_id)
        item.check_truncation(event.content_index, event.audio_end_ms, self._rate_hz)
        for reply in [reply for reply in self._replies.values() if item in reply.items]:
            reply.cancel("client_cancelled")  # what is not heard any more need not be said
            await reply.told.wait()
        if item is self.conversation.last_spoken:
            self._microphone.silenced()
        known = item.key
        after_ms = item.truncate(event.audio_end_ms, self._rate_hz)
        if after_ms is not None and not self.thread.lock.locked():
            await self._microphone.hear_again()
            async with self.thread.lock:
                await self.thread.cut_short(item, known, after_ms)
        fields = {"item_id": item.id, "content_index": 0, "audio_end_ms": event.audio_end_ms}
        await self.send("conversation.item.truncated", **fields)

    # --- answers

    async def respond(self, options: ResponseOptions) -> None:
        if self.transcribes:
            raise invalid("A transcription session has no responses.", None, "response_not_supported")
        check_response(options, self._engine.info, self._config)
        calls = await realtime_tools.held(self.session, options)
        self._check_free(options)
        charge = await self.account.begin_answer(chosen_limit(options, self.session))
        async with AsyncExitStack() as unless_begun:
            await unless_begun.enter_async_context(charge)
            await self._begin_reply(options, calls, charge)
            unless_begun.pop_all()
        await asyncio.sleep(0)  # a task that is cancelled before its first step never tells that it is over

    def _check_free(self, options: ResponseOptions) -> None:
        if options.conversation == "auto" and any(reply.in_conversation for reply in self._replies.values()):
            message = "The conversation has an active response already: wait for it to end, or cancel it."
            raise invalid(message, None, "conversation_already_has_active_response")
        if len(self._replies) >= self._config.max_call_replies:
            raise APIError("Too many responses are under way in this call.", code="too_many_responses")

    async def _begin_reply(self, options: ResponseOptions, calls: Calls, charge: Charge) -> None:
        self._check_free(options)  # meanwhile another may have begun
        media, format = self._media(), self.session.audio.input.format.type
        items = await read_prompt(options, self.conversation, media, format=format, rate_hz=self._rate_hz)
        in_conversation = options.conversation == "auto"
        reply = Reply(
            self.session,
            options,
            send=self.send,
            conversation=self.conversation if in_conversation else None,
            pictures=self._pictures,
            playback=self._playback,
            voice=chosen_voice(options, self.session, self._config),
            speed=chosen_speed(options, self.session),
            calls=calls,
            played=self._microphone.loudspeaker.play,
        )
        self._replies[reply.id] = reply
        if in_conversation:
            self._microphone.answering()
        try:
            await reply.begin()
        except BaseException:  # the line has dropped: the call may go on on another
            self._end_reply(reply)
            raise
        task = self.spawn(self._run_reply(reply, items, options, charge))
        reply.stop = task.cancel

    async def _run_reply(self, reply: Reply, items: Sequence[Item], options: ResponseOptions, charge: Charge) -> None:
        try:
            await self._make_reply(reply, items, options, charge)
        except WebSocketDisconnect:
            pass  # nobody is left to tell
        finally:
            self._end_reply(reply)

    def _end_reply(self, reply: Reply) -> None:
        self._replies.pop(reply.id, None)
        reply.told.set()

    async def _make_reply(self, reply: Reply, items: Sequence[Item], options: ResponseOptions, charge: Charge) -> None:
        """The engine's events, told as they come. However it ends, every part that was begun is told to be done."""
        error: APIError | None = None
        try:
            async with charge:
                try:
                    await self._generate(reply, list(items), options)
                except (asyncio.CancelledError, WebSocketDisconnect):
                    self.account.count_answer(charge, reply.usage, items)  # what it came to before it was given up
                    raise
                self.account.count_answer(charge, reply.usage, items)
        except asyncio.CancelledError:
            if reply.cancelled is None:
                raise  # the call is over: nobody is left to tell
        except ContextLengthExceeded as exceeded:
            error = invalid(f"The conversation is too long: {exceeded}.", None, "context_length_exceeded")
        except WebSocketDisconnect:
            raise
        except Exception as failure:
            log.error("realtime response failed", **describe(failure))
            error = internal()
        await reply.close()
        self._replies.pop(reply.id, None)  # before the client is told: it may ask for the next one at once
        if reply.in_conversation:
            self._microphone.answered(reply.played_at_s)
        await reply.finish(error, charge.allowances())
        if reply.in_conversation:
            self.spawn(self.conversation.pack(reply.items))
            if self.session.truncation != "disabled":
                items = list(self.conversation)
                self.spawn(self.thread.make_room_ahead(self.head(), items, *retention(self.session)))

    async def _generate(self, reply: Reply, items: list[Item], options: ResponseOptions) -> None:
        """Answers from the call's own thread if it is about the conversation as it stands, else from nothing.

        The oldest items are left out for as long as the context cannot hold them all.
        """
        head = self._head(reply.calls, options)
        same_head = [message.text for message in head] == [message.text for message in self.head()]
        own = reply.in_conversation and options.input is None and same_head
        sounds = {} if own else await load_sounds(items)
        kept_share, limit = retention(self.session)
        if not own and options.input is None:
            items = await within(limit, kept_share, items, self._engine, sounds)
        while True:
            try:
                if own:
                    await self._answer(reply, head, items)
                else:
                    await self._tell(reply, answer_apart(self._engine, reply.params, head, items, sounds))
                return
            except ContextLengthExceeded:
                if self.session.truncation == "disabled":
                    raise
                if not (self.thread.make_room(items, kept_share, limit) if own else len(items) > 1):
                    raise
                if not own:
                    del items[0]  # what was said last is what is answered

    async def _answer(self, reply: Reply, head: list[Message], items: Sequence[Item]) -> None:
        kept_share, limit = retention(self.session)
        async with self.thread.lock:
            await self.thread.catch_up(head, items)
            if self.thread.is_over(limit) and self.thread.make_room(items, kept_share, limit):
                await self.thread.catch_up(head, items)
            before = await self.thread.mark()
            try:
                await self._tell(reply, self.thread.answer(reply.params))
            finally:
                await to_the_end(self.thread.answered(before, reply.items, is_over=reply.is_over))

    async def _tell(self, reply: Reply, events: AsyncGenerator[Event, None]) -> None:
        async with aclosing(events):
            async for event in events:
                self._has_spoken |= isinstance(event, AudioDelta)
                await reply.add(event)
                if isinstance(event, End):
                    return

    def head(self) -> list[Message]:
        """What stands before all items."""
        options = ResponseOptions()
        return self._head(realtime_tools.chosen(self.session, options, "session.tool_choice"), options)

    def _head(self, calls: Calls, options: ResponseOptions) -> list[Message]:
        instructions = self.session.instructions if options.instructions is None else options.instructions
        return calls.head + ([Message(role="system", parts=(Text(text=instructions),))] if instructions else [])

    def _cancel(self, response_id: str | None) -> None:
        """Without an id, by the contract, the conversation's own: one outside it goes on until it is named."""
        for reply in self._replies.values():
            if reply.id == response_id or (response_id is None and reply.in_conversation):
                reply.cancel("client_cancelled")
                if reply.in_conversation:  # the other is a thing apart, whose sound nobody may play
                    self._microphone.silenced()
                return
        param = "response_id" if response_id is not None else None
        raise invalid("No response is under way that could be cancelled.", param, "response_cancel_not_active")

    async def interrupt(self, reason: CancelReason) -> None:
        """Ends the conversation's answer, if there is one, and waits until that has been told."""
        for reply in [reply for reply in self._replies.values() if reply.in_conversation]:
            reply.cancel(reason)
            await reply.told.wait()
        self._microphone.silenced()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self._tasks.spawn(work)
