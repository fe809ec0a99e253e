"""One answer of a call on the wire: the engine's events as the Realtime API tells them, begun and ended in order."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from time import monotonic
from typing import Any, Literal, TypeAlias

import numpy as np

from sensorium.engine.request import (
    AudioDelta,
    End,
    Event,
    ImageDelta,
    SamplingParams,
    Tally,
    TextDelta,
    ToolCallDelta,
    ToolCallEvent,
    TranscriptDelta,
    Usage,
)
from sensorium.messages import ToolCall
from sensorium.platform.limits import Allowance, Kind
from sensorium.server.conversation import Content, Conversation, Item, Json, Spoken, new_id
from sensorium.server.errors import APIError
from sensorium.server.picture_out import PictureWriter
from sensorium.server.realtime_audio import Playback, Played, PlayedMessage
from sensorium.server.realtime_events import MaxTokens, ResponseOptions, SessionConfig
from sensorium.server.realtime_tools import Calls
from sensorium.server.recording import Recording

CancelReason: TypeAlias = Literal["turn_detected", "client_cancelled"]


class Reply:
    """`begin`, then `add` for each event, then `close` and `finish`, whatever happened in between."""

    def __init__(
        self,
        session: SessionConfig,
        options: ResponseOptions,
        *,
        send: Callable[..., Awaitable[None]],
        conversation: Conversation | None,
        pictures: PictureWriter,
        playback: Playback,
        voice: str,
        speed: float,
        calls: Calls,
        played: Callable[[np.ndarray], None],
    ) -> None:
        """`played` is given the sound as the client hears it, at the engine's rate."""
        self.id = new_id("resp")
        self.told = asyncio.Event()  # that it is over
        self.stop: Callable[[], object] = lambda: None
        self.cancelled: CancelReason | None = None
        self._tally = Tally()
        self._session = session
        self._options = options
        self._send = send
        self._conversation = conversation
        self._pictures = pictures
        self._playback = playback
        self._rate_hz = playback.rate_hz
        self._voice = voice
        self._speed = speed
        self.calls = calls
        self._played = played
        self._items: list[Item] = []
        self._open: Item | None = None  # the message or the call under way
        self._playing: PlayedMessage | None = None  # its sound
        self._ended: End | None = None
        self._is_closing = False
        self._first_sound_s: float | None = None  # by the clock
        self._num_samples = 0  # of sound

    @property
    def played_at_s(self) -> float:
        """When a client that plays sound as it comes will have played all of it (`time.monotonic`)."""
        now_s = monotonic()
        if self._first_sound_s is None:
            return now_s
        return max(now_s, self._first_sound_s + self._num_samples / self._rate_hz / self._speed)

    @property
    def is_over(self) -> bool:
        """Whether all of it was told."""
        return self._ended is not None and self._ended.reason != "length"

    @property
    def in_conversation(self) -> bool:
        return self._conversation is not None

    @property
    def items(self) -> list[Item]:
        return list(self._items)

    @property
    def usage(self) -> Usage:
        """Of an answer that was given up: what it used until then."""
        if self._ended is not None:
            return self._ended.usage
        return self._tally.usage or Usage()

    @property
    def params(self) -> SamplingParams:
        return replace(answer_params(self._session, self._options, self._voice, self.calls), tally=self._tally)

    def cancel(self, reason: CancelReason) -> None:
        if self.cancelled is None and not self._is_closing:
            self.cancelled = reason
            self.stop()

    async def begin(self) -> None:
        await self._send("response.created", response=self._body("in_progress"))

    async def add(self, event: Event) -> None:
        match event:
            case TextDelta():
                await self._say("output_text", event.text)
            case TranscriptDelta():
                await self._say("output_audio", event.text, start_ms=event.start_ms)
            case AudioDelta():
                await self._sound(event.waveform)
            case ImageDelta(final=True):
                # the contract has no picture among what a call may hold: it comes as Markdown, which clients can show
                url = await asyncio.to_thread(self._pictures.url, event.pixels)
                await self._say("output_text", f"![drawing]({url})")
            case ToolCallDelta():
                if any(tool.name == event.name for tool in self.calls.offered):  # strict clients look the name up
                    await self._call(event)
            case ToolCallEvent() if self._open is not None and self._open.call is not None:
                await self._close("completed")
            case End():
                self._ended = event

    async def close(self) -> None:
        """Ends what is open. From here on it is too late to cancel."""
        self._is_closing = True
        await self._close("completed" if self.is_over else "incomplete")

    async def finish(self, error: APIError | None, allowances: Mapping[Kind, Allowance]) -> None:
        await self._send("response.done", response=self._body(*self._outcome(error)))
        told = {kind: allowances[kind] for kind in ("requests", "tokens") if kind in allowances}
        limits = [
            {"name": kind, "limit": limit, "remaining": remaining, "reset_seconds": round(reset_s, 3)}
            for kind, (limit, remaining, reset_s) in told.items()
        ]
        await self._send("rate_limits.updated", rate_limits=limits)

    def _outcome(self, error: APIError | None) -> tuple[str, Json | None]:
        if error is not None:
            told = {"type": error.type, "code": error.code}
            return "failed", {"type": "failed", "error": told}
        if self.cancelled is not None:
            return "cancelled", {"type": "cancelled", "reason": self.cancelled}
        if self._ended is not None and self._ended.reason == "length":
            return "incomplete", {"type": "incomplete", "reason": "max_output_tokens"}
        return "completed", None

    # --- parts

    async def _say(self, kind: Literal["output_text", "output_audio"], text: str, *, start_ms: float = 0.0) -> None:
        if not text:
            return
        item, part = await self._part(kind)
        if kind == "output_text":
            await self._send("response.output_text.delta", **self._where(item), delta=text)
        else:
            assert part.sound is not None
            before_ms = 1000 * (self._num_samples - len(part.sound)) / self._rate_hz  # in other items
            part.spoken.append(Spoken(text, start_ms - before_ms))
            await self._send("response.output_audio_transcript.delta", **self._where(item), delta=text)
        part.text = (part.text or "") + text

    async def _sound(self, waveform: np.ndarray) -> None:
        item, part = await self._part("output_audio")
        assert part.sound is not None
        assert self._playing is not None
        part.sound.append(waveform)
        self._first_sound_s = self._first_sound_s or monotonic()
        self._num_samples += len(waveform)
        await self._play(item, self._playing.push(waveform))

    async def _play(self, item: Item, sound: Played) -> None:
        if sound.data:
            delta = base64.b64encode(sound.data).decode()
            await self._send("response.output_audio.delta", **self._where(item), delta=delta)
        item.content[-1].num_sent += len(sound.heard)
        self._played(sound.heard)

    async def _part(self, kind: Literal["output_text", "output_audio"]) -> tuple[Item, Content]:
        """The message and its part that goes on; both begun now if need be."""
        if self._open is not None and self._open.content[-1].kind != kind:
            await self._close("completed")
        if self._open is None:
            self._open = Item(
                id=new_id("item"), role="assistant", status="in_progress", voice=self._voice, speed=self._speed
            )
            await self._begin_item(self._open)
            sound = Recording(rate_hz=self._rate_hz) if kind == "output_audio" else None
            self._open.content.append(Content(kind=kind, sound=sound))
            self._playing = self._playback.message(self._format, self._speed)
            part = {"type": "audio", "transcript": ""} if kind == "output_audio" else {"type": "text", "text": ""}
            await self._send("response.content_part.added", **self._where(self._open), part=part)
        return self._open, self._open.content[-1]

    async def _close(self, status: Literal["completed", "incomplete"]) -> None:
        item, self._open = self._open, None
        if item is None:
            return
        if item.call is not None:
            fields = {"name": item.call.name, "arguments": item.call.arguments}
            await self._send("response.function_call_arguments.done", **self._where_called(item), **fields)
            await self._end_item(item, status)
            return
        part, where = item.content[-1], self._where(item)
        if part.kind == "output_audio":
            assert self._playing is not None
            if status == "incomplete":
                part.keep_begun()
            if self.cancelled is None:  # else the user has broken in, and would hear the rest of it behind that
                await self._play(item, self._playing.finish())
            await self._send("response.output_audio.done", **where)
            await self._send("response.output_audio_transcript.done", **where, transcript=part.text)
            told = {"type": "audio", "transcript": part.text}
        else:
            await self._send("response.output_text.done", **where, text=part.text)
            told = {"type": "text", "text": part.text}
        await self._send("response.content_part.done", **where, part=told)
        await self._end_item(item, status)

    async def _call(self, event: ToolCallDelta) -> None:
        if self._open is None or self._open.call is None:
            await self._close("completed")
            call = ToolCall(id=new_id("call"), name=event.name, arguments="")
            self._open = Item(id=new_id("item"), role="assistant", status="in_progress", call=call)
            await self._begin_item(self._open)
        item = self._open
        if event.arguments:
            assert item.call is not None
            item.call = replace(item.call, arguments=item.call.arguments + event.arguments)
            index = self._where_called(item)
            await self._send("response.function_call_arguments.delta", **index, delta=event.arguments)

    async def _begin_item(self, item: Item) -> None:
        self._items.append(item)
        where = {"response_id": self.id, "output_index": len(self._items) - 1}
        await self._send("response.output_item.added", **where, item=item.wire())
        if self._conversation is not None:
            before = self._conversation.add(item)
            await self._send("conversation.item.added", previous_item_id=before, item=item.wire())

    async def _end_item(self, item: Item, status: Literal["completed", "incomplete"]) -> None:
        item.status = status
        if self._conversation is not None:
            before = self._conversation.before(item)
            await self._send("conversation.item.done", previous_item_id=before, item=item.wire())
        where = {"response_id": self.id, "output_index": self._items.index(item)}
        await self._send("response.output_item.done", **where, item=item.wire())

    def _where(self, item: Item) -> Json:
        index = {"output_index": self._items.index(item), "content_index": 0}
        return {"response_id": self.id, "item_id": item.id, **index}

    def _where_called(self, item: Item) -> Json:
        assert item.call is not None
        index = {"output_index": self._items.index(item), "call_id": item.call.id}
        return {"response_id": self.id, "item_id": item.id, **index}

    # --- the response object

    @property
    def _format(self) -> Any:
        audio = self._options.audio
        if audio is not None and "format" in audio.output.model_fields_set:
            return audio.output.format.type
        return self._session.audio.output.format.type

    def _body(self, status: str, details: Json | None = None) -> Json:
        format: Json = {"type": self._format}
        if self._format == "audio/pcm":
            format["rate"] = 24_000
        temperature = chosen_temperature(self._options, self._session)
        return {
            "object": "realtime.response",
            "id": self.id,
            "status": status,
            "status_details": details,
            "output": [item.wire() for item in self._items],
            "conversation_id": self._conversation.id if self._conversation is not None else None,
            "output_modalities": self._options.output_modalities or self._session.output_modalities,
            "max_output_tokens": chosen_limit(self._options, self._session),
            **({} if temperature is None else {"temperature": temperature}),
            "audio": {"output": {"format": format, "voice": self._voice}},
            "usage": usage_body(self.usage) if status != "in_progress" else None,
            "metadata": self._options.metadata,
        }


def chosen_limit(options: ResponseOptions, session: SessionConfig) -> MaxTokens:
    return options.max_output_tokens or session.max_output_tokens


def chosen_temperature(options: ResponseOptions, session: SessionConfig) -> float | None:
    return session.temperature if options.temperature is None else options.temperature


def answer_params(session: SessionConfig, options: ResponseOptions, voice: str, calls: Calls) -> SamplingParams:
    """What the engine is told of an answer."""
    limit = chosen_limit(options, session)
    temperature = chosen_temperature(options, session)
    return SamplingParams(
        temperature=SamplingParams().temperature if temperature is None else temperature,
        modality=(options.output_modalities or session.output_modalities)[0],
        voice=voice,
        max_tokens=None if limit == "inf" else limit,
        seed=secrets.randbits(62),
        tool_choice=calls.policy,
        functions=calls.functions,
        max_calls=calls.max_calls,
    )


def usage_body(usage: Usage) -> Json:
    return {
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "input_token_details": {
            "text_tokens": usage.input_text,
            "audio_tokens": usage.input_audio,
            "image_tokens": usage.input_image,
            "cached_tokens": usage.cached,
            "cached_tokens_details": {
                "text_tokens": usage.cached - usage.cached_audio - usage.cached_image,
                "audio_tokens": usage.cached_audio,
                "image_tokens": usage.cached_image,
            },
        },
        "output_token_details": {
            "text_tokens": usage.output_text + usage.output_image,
            "audio_tokens": usage.output_audio,
        },
    }
