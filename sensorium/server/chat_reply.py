"""How an answer looks on the wire: the engine's events as one chat completion object, or as the deltas of its chunks.

A picture has no place in OpenAI's chat format. It goes where other servers and LiteLLM put it: in `images`, a list of
`image_url` parts with a PNG data URL.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import numpy as np
import pydantic_core
import structlog

from sensorium.engine.request import (
    AudioDelta,
    End,
    EngineInfo,
    Event,
    FinishReason,
    ImageDelta,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    ToolCallEvent,
    TranscriptDelta,
    Usage,
)
from sensorium.messages import Audio, ToolCall
from sensorium.server.audio_out import OUTPUT_RATE_HZ, Pcm16Stream, SpeechFormat, SpeechWriter
from sensorium.server.chat_request import ChatRequest, used_tier
from sensorium.server.errors import APIError, internal
from sensorium.server.logs import describe
from sensorium.server.picture_out import PictureWriter
from sensorium.server.spoken_replies import SpokenReplies

Json = dict[str, Any]

log = structlog.get_logger()

_OBFUSCATED_BYTES = 128  # chunks are padded to a multiple of this, so that their length tells less


class Answer:
    """Everything one choice said in the voice it was to speak with, and how it ended."""

    def __init__(self, voice: str) -> None:
        self._voice = voice
        self.text = ""
        self.transcript = ""
        self.waveforms: list[np.ndarray] = []  # each (N,) float32
        self.sample_rate_hz = OUTPUT_RATE_HZ
        self.pictures: list[np.ndarray] = []  # each (H, W, 3) uint8
        self.calls: list[ToolCall] = []  # of an answer that was cut short, the last may be too
        self.logprobs: list[TokenLogprob] = []
        self.usage = Usage()
        self._is_calling = False
        self._reason: FinishReason = "stop"

    def add(self, event: Event) -> None:
        match event:
            case TextDelta():
                self.text += event.text
                self.logprobs += event.logprobs
            case TranscriptDelta():
                self.transcript += event.text
            case AudioDelta():
                self.waveforms.append(event.waveform)
                self.sample_rate_hz = event.sample_rate_hz
            case ImageDelta(final=True):
                self.pictures.append(event.pixels)
            case ToolCallDelta():
                if not self._is_calling:
                    self.calls.append(ToolCall(id=f"call_{secrets.token_hex(12)}", name=event.name, arguments=""))
                    self._is_calling = True
                self.calls[-1] = replace(self.calls[-1], arguments=self.calls[-1].arguments + event.arguments)
            case ToolCallEvent():
                self._is_calling = False
            case End():
                self.usage = event.usage
                self._reason = event.reason

    @property
    def finish_reason(self) -> FinishReason:
        """How the answer ended, by what is in it: a call that was left out of it is not what it ended with."""
        if self._reason == "length":
            return self._reason
        return "tool_calls" if self.calls else "stop"

    @property
    def spoken(self) -> Audio | None:
        if not (self.waveforms or self.transcript):
            return None
        waveform = np.concatenate(self.waveforms or [np.zeros(0, np.float32)])
        return Audio(
            waveform=waveform, sample_rate_hz=self.sample_rate_hz, transcript=self.transcript, voice=self._voice
        )


async def message_body(
    answer: Answer,
    format: SpeechFormat | None,
    *,
    replies: SpokenReplies,
    pictures: PictureWriter,
    speech: SpeechWriter,
    legacy: bool = False,
) -> Json:
    """`choices[i].message`. A spoken answer is encoded in `format` and kept in `replies`; with `legacy` a call is told
    in the deprecated form."""
    spoken = answer.spoken if format else None
    written = answer.text or None if spoken or answer.calls else answer.text
    body: Json = {"role": "assistant", "content": written, "refusal": None, "annotations": []}
    if spoken and format:
        id = replies.new_id()
        data = await asyncio.to_thread(speech.file, spoken.waveform, spoken.sample_rate_hz, format)
        body["audio"] = {
            "id": id,
            "data": base64.b64encode(data).decode(),
            "expires_at": await replies.keep(id, spoken),
            "transcript": answer.transcript,
        }
    if answer.calls and legacy:
        body["function_call"] = {"name": answer.calls[0].name, "arguments": answer.calls[0].arguments}
    elif answer.calls:
        body["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in answer.calls
        ]
    if answer.pictures:
        body["images"] = [await _picture_body(pictures, pixels, index) for index, pixels in enumerate(answer.pictures)]
    return body


class DeltaWriter:
    """`choices[i].delta`, event by event. Sound goes out as pcm16, in pieces whose base64 may simply be joined."""

    def __init__(
        self,
        answer: Answer,
        *,
        replies: SpokenReplies,
        pictures: PictureWriter,
        speech: SpeechWriter,
        speaks: bool,
        legacy: bool = False,
    ) -> None:
        self._answer = answer
        self._pictures = pictures
        self._speech = speech
        self._legacy = legacy
        self._speaks = speaks
        self._replies = replies
        self._pcm: Pcm16Stream | None = None
        self._audio_id: str | None = None
        self._num_calls = 0  # that were begun to be told

    def opening(self, first: Event) -> Json:
        written = not self._speaks and not isinstance(first, ToolCallDelta)
        return {"role": "assistant", "content": "" if written else None, "refusal": None}

    async def deltas(self, event: Event) -> list[Json]:
        """The deltas that an event makes, after the answer has taken note of it."""
        match event:
            case TextDelta() if event.text:
                return [{"content": event.text}]
            case TranscriptDelta() if event.text:
                return [self._audio({"transcript": event.text})]
            case AudioDelta():
                self._pcm = self._pcm or self._speech.pcm(event.sample_rate_hz)
                return self._sound(self._pcm.push(event.waveform))
            case ImageDelta(final=True):
                index = len(self._answer.pictures) - 1
                return [{"images": [await _picture_body(self._pictures, event.pixels, index)]}]
            case ToolCallDelta():
                return self._call(event)
            case End() if self._audio_id and (spoken := self._answer.spoken):
                rest = self._sound(self._pcm.flush()) if self._pcm else []
                return [*rest, self._audio({"expires_at": await self._replies.keep(self._audio_id, spoken)})]
        return []

    def _call(self, event: ToolCallDelta) -> list[Json]:
        """The name first, then the arguments as they come."""
        calls = self._answer.calls
        index, told = len(calls) - 1, list[Json]()
        if self._num_calls < len(calls):
            self._num_calls = len(calls)
            named = {"name": event.name, "arguments": ""}
            opening = {"index": index, "id": calls[index].id, "type": "function", "function": named}
            told.append({"function_call": named} if self._legacy else {"tool_calls": [opening]})
        if event.arguments:
            more = {"arguments": event.arguments}
            told.append(
                {"function_call": more} if self._legacy else {"tool_calls": [{"index": index, "function": more}]}
            )
        return told

    def _sound(self, pcm: bytes) -> list[Json]:
        return [self._audio({"data": base64.b64encode(pcm).decode()})] if pcm else []

    def _audio(self, audio: Json) -> Json:
        if self._audio_id is not None:
            return {"audio": audio}
        self._audio_id = self._replies.new_id()  # told once: clients join the texts of all deltas
        return {"content": None, "audio": {"id": self._audio_id, **audio}}


class Envelope:
    """What is the same in every chunk of a completion, and around its choices."""

    def __init__(self, request: ChatRequest, info: EngineInfo) -> None:
        self._head: Json = {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": info.model,
            "service_tier": used_tier(request.service_tier),
            "system_fingerprint": _fingerprint(info),
        }
        self._request = request

    def completion(self, choices: Sequence[Json], usage: Json) -> Json:
        body = {**self._head, "object": "chat.completion", "choices": choices, "usage": usage}
        if self._request.metadata is not None:
            body["metadata"] = self._request.metadata
        return body

    def chunk(self, index: int, delta: Json, finish_reason: str | None = None, logprobs: Json | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        return self._event([choice], None)

    def last_chunk(self, usage: Json) -> bytes:
        return self._event([], usage)

    def _event(self, choices: Sequence[Json], usage: Json | None) -> bytes:
        body = {**self._head, "object": "chat.completion.chunk", "choices": choices}
        options = self._request.stream_options
        if options and options.include_usage:
            body["usage"] = usage
        if options and options.include_obfuscation:
            body["obfuscation"] = ""
            missing = -len(pydantic_core.to_json(body)) % _OBFUSCATED_BYTES
            body["obfuscation"] = secrets.token_urlsafe(_OBFUSCATED_BYTES)[:missing]
        return server_sent(body)


def server_sent(body: Json) -> bytes:
    return b"data: " + pydantic_core.to_json(body) + b"\n\n"


def _failed(error: APIError) -> bytes:
    return server_sent(error.envelope())


async def until_done(
    chunks: AsyncGenerator[bytes, None],
    *,
    ending: bytes = b"data: [DONE]\n\n",
    failed: Callable[[APIError], bytes] = _failed,
) -> AsyncGenerator[bytes, None]:
    """Chunks as a stream that says when it is complete. An error before the first is raised, for there is still time to
    answer by its status; a later one is told in the stream, as `failed` writes it."""
    begun = False
    try:
        async with aclosing(chunks):
            async for chunk in chunks:
                begun = True
                yield chunk
    except Exception as error:
        if not begun:
            raise
        if not isinstance(error, APIError):
            log.error("stream failed", **describe(error))
        yield failed(error if isinstance(error, APIError) else internal())
        return
    yield ending


def choice_body(index: int, message: Json, finish_reason: str, logprobs: Json | None) -> Json:
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish_reason}


def reason_body(reason: FinishReason, *, legacy: bool) -> str:
    return "function_call" if legacy and reason == "tool_calls" else reason


def logprobs_body(tokens: Sequence[TokenLogprob]) -> Json:
    """`choices[i].logprobs`, of written text."""
    content = [
        {**_logprob_body(token), "top_logprobs": [_logprob_body(likely) for likely in token.top]} for token in tokens
    ]
    return {"content": content, "refusal": None}


def _logprob_body(token: TokenLogprob) -> Json:
    return {"token": spelled(token), "logprob": token.logprob, "bytes": list(token.bytes)}


def spelled(token: TokenLogprob) -> str:
    """A token that is no whole text of its own is spelled as OpenAI spells it, `bytes:\\xf0\\x9f`."""
    try:
        return token.bytes.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.bytes)


def usage_body(usages: Sequence[Usage], *, gpt_4o_image_tokens: int = 0) -> Json:
    """The cost of all choices together. They share a prompt, which counts once."""
    prompt = usages[0]
    output = {name: sum(getattr(usage, f"output_{name}") for usage in usages) for name in ("text", "audio", "image")}
    num_output = sum(output.values())
    return {
        "prompt_tokens": prompt.input_tokens,
        "completion_tokens": num_output,
        "total_tokens": prompt.input_tokens + num_output,
        "prompt_tokens_details": {
            "cached_tokens": prompt.cached,
            "cache_write_tokens": 0,
            "text_tokens": prompt.input_text,
            "audio_tokens": prompt.input_audio,
            "image_tokens": prompt.input_image,
            **({"gpt_4o_image_tokens": gpt_4o_image_tokens} if gpt_4o_image_tokens else {}),
        },
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "text_tokens": output["text"],
            "audio_tokens": output["audio"],
            "image_tokens": output["image"],
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _fingerprint(info: EngineInfo) -> str:
    """The same for the same weights: with it and a seed, an answer can be had again."""
    return "fp_" + hashlib.sha256(f"{info.model} {info.created}".encode()).hexdigest()[:12]


async def _picture_body(pictures: PictureWriter, pixels: np.ndarray, index: int) -> Json:
    url = await asyncio.to_thread(pictures.url, pixels)
    return {"type": "image_url", "index": index, "image_url": {"url": url}}
