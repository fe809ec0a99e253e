"""The terminal chat: an answer becomes text on the screen, a WAV file and a PNG file.

It speaks to any `Engine`. `RemoteEngine` is one that lives behind a running server. The files say what made them, as
those of a server do.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import PIL.Image
import soundfile

from sensorium.engine.request import (
    AudioDelta,
    End,
    Engine,
    EngineInfo,
    Event,
    ImageDelta,
    InputTranscriptDelta,
    SamplingParams,
    TextDelta,
    ToolCallEvent,
    TranscriptDelta,
    Usage,
)
from sensorium.messages import Audio, Image, Message, Part, Text
from sensorium.safety.provenance import Credentials, Identity, media_type_of
from sensorium.safety.watermark import marked

SERVER_RATE_HZ = 24_000  # of `pcm16` on the wire
_ALIAS = "gpt-4o"  # that every Sensorium server answers to


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Where the parts of an answer go that a terminal can't show. Each answer overwrites the one before."""

    audio: Path | None
    image: Path
    identity: Identity  # that they are signed with
    watermark_key: str  # that speech is marked with; empty where it comes marked, from a server


def read_clip(path: Path) -> Audio:
    """Reads a sound file (wav, flac, ogg, mp3), mixed down to mono. Raises ValueError if it is none."""
    try:
        waveform, sample_rate_hz = soundfile.read(path, dtype="float32", always_2d=True)  # (N, channels)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{path} is not a sound file: {error}") from error
    return Audio(waveform=waveform.mean(axis=1), sample_rate_hz=sample_rate_hz)


def read_picture(path: Path) -> Image:
    """Reads a picture file. Raises ValueError if it is none."""
    try:
        with PIL.Image.open(path) as picture:
            return Image(pixels=np.asarray(picture.convert("RGB")))
    except OSError as error:
        raise ValueError(f"{path} is not a picture: {error}") from error


def converse(
    engine: Engine, params: SamplingParams, *, prompt: str | None, attachments: tuple[Part, ...], outputs: Outputs
) -> None:
    """Runs one turn if the first message is complete (a prompt or a clip), else turn after turn until Ctrl-D."""
    is_complete = prompt is not None or any(isinstance(part, Audio) for part in attachments)
    turns = iter([prompt]) if is_complete else _typed_lines()
    history: list[Message] = []
    with asyncio.Runner() as runner:
        try:
            for text in turns:
                typed = (Text(text=text),) if text else ()
                history.append(Message(role="user", parts=(*attachments, *typed)))
                attachments = ()
                history.append(runner.run(answer(engine, history, params, outputs)))
        finally:
            runner.run(engine.close())


async def answer(engine: Engine, history: Sequence[Message], params: SamplingParams, outputs: Outputs) -> Message:
    """Shows one answer while it grows, writes its files, and returns it as the assistant's message."""
    text: list[str] = []
    chunks: list[AudioDelta] = []
    picture: Image | None = None
    async for event in engine.generate(history, params):
        match event:
            case TextDelta() | TranscriptDelta():
                text.append(event.text)
                _show(event.text)
            case InputTranscriptDelta():
                _show(event.text, stream=sys.stderr)
            case AudioDelta():
                chunks.append(event)
            case ImageDelta(final=True):
                picture = Image(pixels=event.pixels)
            case ToolCallEvent():
                _show(f"{event.name}({event.arguments})")
            case End(reason="length"):
                _show(" [cut: the context is full]")
    _show("\n")

    parts: list[Part] = []
    if chunks:
        waveform = np.concatenate([chunk.waveform for chunk in chunks])
        sample_rate_hz = chunks[0].sample_rate_hz
        parts.append(
            Audio(waveform=waveform, sample_rate_hz=sample_rate_hz, transcript="".join(text), voice=params.voice)
        )
        if outputs.audio:
            said = marked(waveform, outputs.watermark_key) if outputs.watermark_key else waveform
            soundfile.write(outputs.audio, said, sample_rate_hz)
            _sign(outputs.audio, outputs.identity, model=engine.info.model)
            _show(f"[{len(waveform) / sample_rate_hz:.1f} s of speech in {outputs.audio}]\n")
    elif text:
        parts.append(Text(text="".join(text)))
    if picture:
        parts.append(picture)
        PIL.Image.fromarray(picture.pixels).save(outputs.image)
        _sign(outputs.image, outputs.identity, model=engine.info.model)
        _show(f"[a picture in {outputs.image}]\n")
    return Message(role="assistant", parts=tuple(parts))


def _sign(path: Path, identity: Identity, *, model: str) -> None:
    """Puts a content credential into a file that has room for one: a PNG, JPEG, WebP or WAV file."""
    data = path.read_bytes()
    try:
        media_type = media_type_of(data)
    except ValueError:
        return
    path.write_bytes(Credentials(identity, model=model).sign(data, media_type))


class RemoteEngine:
    """The `Engine` protocol over the chat completions of a running server. Once that has answered, `info` names its
    network."""

    def __init__(self, url: str, *, api_key: str = "") -> None:
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx2.AsyncClient(base_url=url.rstrip("/") + "/v1/", timeout=60.0, headers=headers)
        self.info = EngineInfo(model=_ALIAS, max_tokens=0, sample_rate_hz=SERVER_RATE_HZ, voices=())

    async def generate(self, messages: Sequence[Message], params: SamplingParams) -> AsyncIterator[Event]:
        request: dict[str, Any] = {
            "model": _ALIAS,
            "messages": [wire_message(message) for message in messages],
            "temperature": params.temperature,
            "top_p": params.top_p,
            "seed": params.seed,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if params.max_tokens is not None:
            request["max_completion_tokens"] = params.max_tokens
        if params.modality == "audio":
            request |= {"modalities": ["text", "audio"], "audio": {"voice": params.voice, "format": "pcm16"}}
        try:
            async with self._client.stream("POST", "chat/completions", json=request) as response:
                if response.is_error:
                    raise ValueError(_error_message(await response.aread()))
                reason, usage = "stop", Usage()
                async for line in response.aiter_lines():
                    if not line.startswith("data: {"):
                        continue
                    chunk = json.loads(line.removeprefix("data: "))
                    if "error" in chunk:
                        raise ValueError(chunk["error"]["message"])
                    self.info = replace(self.info, model=chunk["model"])
                    for choice in chunk["choices"]:
                        reason = choice.get("finish_reason") or reason
                        for event in delta_events(choice["delta"]):
                            yield event
                    if chunk.get("usage"):
                        usage = _usage(chunk["usage"])
                yield End(reason=reason, usage=usage)
        except httpx2.TransportError as error:
            raise ValueError(f"no answer from {self._client.base_url}: {error}") from error

    async def close(self) -> None:
        await self._client.aclose()


def wire_message(message: Message) -> dict[str, Any]:
    """A message in the shape of the chat completions API. An answer goes back as its text: the words it spoke."""
    if message.role != "user":
        spoken = "".join(part.transcript or "" for part in message.parts if isinstance(part, Audio))
        return {"role": message.role, "content": message.text or spoken}
    content: list[dict[str, Any]] = []
    for part in message.parts:
        match part:
            case Text():
                content.append({"type": "text", "text": part.text})
            case Audio():
                clip = io.BytesIO()
                soundfile.write(clip, part.waveform, part.sample_rate_hz, format="WAV", subtype="PCM_16")
                sound = {"data": base64.b64encode(clip.getvalue()).decode(), "format": "wav"}
                content.append({"type": "input_audio", "input_audio": sound})
            case Image():
                png = io.BytesIO()
                PIL.Image.fromarray(part.pixels).save(png, "PNG")
                data_url = "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()
                content.append({"type": "image_url", "image_url": {"url": data_url, "detail": part.detail}})
            case _:
                raise ValueError(f"a {type(part).__name__} can't be sent from the terminal")
    return {"role": message.role, "content": content}


def delta_events(delta: dict[str, Any]) -> Iterator[Event]:
    """What one streamed chunk says."""
    if delta.get("content"):
        yield TextDelta(text=delta["content"])
    audio = delta.get("audio") or {}
    if audio.get("transcript"):
        yield TranscriptDelta(text=audio["transcript"])
    if audio.get("data"):
        pcm = np.frombuffer(base64.b64decode(audio["data"]), dtype="<i2")  # (N,)
        yield AudioDelta(waveform=pcm.astype(np.float32) / 32768.0, sample_rate_hz=SERVER_RATE_HZ)
    for part in delta.get("images") or []:
        png = base64.b64decode(part["image_url"]["url"].partition(",")[2])
        with PIL.Image.open(io.BytesIO(png)) as picture:
            yield ImageDelta(pixels=np.asarray(picture.convert("RGB")), final=True)


def _usage(usage: dict[str, Any]) -> Usage:
    heard, said = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
    audio_in, image_in = heard.get("audio_tokens", 0), heard.get("image_tokens", 0)
    audio_out = said.get("audio_tokens", 0)
    return Usage(
        input_text=usage["prompt_tokens"] - audio_in - image_in,
        input_audio=audio_in,
        input_image=image_in,
        output_text=usage["completion_tokens"] - audio_out,
        output_audio=audio_out,
        cached=heard.get("cached_tokens", 0),
    )


def _error_message(body: bytes) -> str:
    try:
        return json.loads(body)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return f"the server failed: {body[:200].decode(errors='replace')}"


def _typed_lines() -> Iterator[str]:
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            return
        if line:
            yield line


def _show(text: str, *, stream: Any = None) -> None:
    print(text, end="", flush=True, file=stream or sys.stdout)
