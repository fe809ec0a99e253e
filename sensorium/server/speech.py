"""POST /v1/audio/speech: a text, read aloud by the network, as a file or as server-sent events, while it is made."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import Field

from sensorium.engine.request import AudioDelta, End, EngineInfo, SamplingParams, Usage
from sensorium.messages import Message, Text
from sensorium.server import read_aloud
from sensorium.server.answering import Answering, Question
from sensorium.server.audio_out import MEDIA_TYPES, SpeechFormat, SpeechWriter
from sensorium.server.body import read_json
from sensorium.server.chat_reply import server_sent, until_done
from sensorium.server.chat_request import check_model, known_voice
from sensorium.server.config import ServerConfig
from sensorium.server.errors import invalid, unsupported, validated
from sensorium.server.hangup import EventStream
from sensorium.server.joining import Joiner
from sensorium.server.metering import Meter
from sensorium.server.read_aloud import PROMPTS, Manner, Piece
from sensorium.server.stretch import Stretch
from sensorium.server.wire import Wire

ROUTE = "/v1/audio/speech"
MANNER_HEADER = "X-Sensorium-Manner"  # what `instructions` were taken for
MAX_CHARACTERS = 4096
_SPEEDS: dict[Manner, float] = {"fast": 1.4, "slow": 0.7}  # of manners, for a network that was not taught them
_CHARS_PER_TOKEN = 4


def _is_taught(info: EngineInfo) -> bool:
    return info.skills is None or "say-styled" in info.skills


def manners(info: EngineInfo) -> list[Manner]:
    """The manners of speaking that `instructions` may ask of this network for."""
    return [name for name in PROMPTS if name is not None and (_is_taught(info) or name in _SPEEDS)]


class SpeechRequest(Wire):
    model: str
    input: Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]
    voice: str | dict[str, Any]
    instructions: Annotated[str, Field(max_length=MAX_CHARACTERS)] | None = None
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = "mp3"
    speed: Annotated[float, Field(ge=0.25, le=4.0)] = 1.0
    stream_format: Literal["audio", "sse"] = "audio"

    @property
    def asks_for_a_stream(self) -> bool:
        """Whoever says how the sound is to be streamed wants it at once; whoever doesn't may want a file."""
        return "stream_format" in self.model_fields_set

    @property
    def format(self) -> SpeechFormat:
        return "pcm16" if self.response_format == "pcm" else self.response_format


@dataclass(frozen=True, kw_only=True, eq=False)
class _Reading:
    """A request that has been understood."""

    format: SpeechFormat
    pieces: list[Piece]
    manner: Manner | None
    prompt: str
    params: SamplingParams
    speed: float
    question: Question  # without what is asked: every piece is asked for by itself


class Speech:
    def __init__(self, answering: Answering, config: ServerConfig, meter: Meter, writer: SpeechWriter) -> None:
        self._answering = answering
        self._writer = writer
        self._info = answering.info
        self._config = config
        self._meter = meter

    def routes(self) -> APIRouter:
        router = APIRouter()
        router.post(ROUTE)(self.create)
        return router

    async def create(self, http: Request) -> Response:
        body = await read_json(http, self._config)
        received_s = time.monotonic()
        request = validated(SpeechRequest, body)
        reading = await self._understand(http, request, received_s)
        headers = {MANNER_HEADER: reading.manner or "plain"} if request.instructions else {}
        if request.stream_format == "sse":
            events = until_done(self._events(reading, request), ending=b"")
            return EventStream(await anext(events), events, headers=headers)
        # waiting for the first bytes leaves time to answer by a status
        sound = self._file(reading, request)
        return EventStream(await anext(sound), sound, media_type=MEDIA_TYPES[reading.format], headers=headers)

    async def _understand(self, http: Request, request: SpeechRequest, received_s: float) -> _Reading:
        check_model(request.model, self._info, self._config, param="model")
        voice = known_voice(request.voice, self._info, self._config, "voice")
        pieces = await asyncio.to_thread(lambda: list(read_aloud.pieces(request.input)))
        if not pieces:
            raise invalid("There is nothing to say in 'input': it has neither letters nor figures.", "input")
        manner, prompt, speed = self._manner(request.instructions)
        tokens = -(-len(request.input) // _CHARS_PER_TOKEN)
        charge = await self._meter.begin(http.state, request.model, tokens=2 * tokens, kind="audio_speeches")
        question = Question(
            route=ROUTE, messages=(), prompt_param="input", charge=charge, received_s=received_s, log=http.state.log
        )
        return _Reading(
            format=request.format,
            pieces=pieces,
            manner=manner,
            prompt=prompt,
            params=SamplingParams(modality="audio", voice=voice, tool_choice="none", guidance_scale=1.0),
            speed=request.speed * speed,
            question=question,
        )

    def _manner(self, instructions: str | None) -> tuple[Manner | None, str, float]:
        """What is asked for, how the network is asked for it, and how fast what it says is played."""
        try:
            manner = read_aloud.manner(instructions or "")
        except ValueError as error:
            raise unsupported("instructions", str(error)) from None
        if manner is None or _is_taught(self._info):
            return manner, PROMPTS[manner], 1.0
        if manner not in _SPEEDS:
            raise unsupported("instructions", f"this model was not taught to {PROMPTS[manner].partition(':')[0]}")
        return manner, PROMPTS[None], _SPEEDS[manner]

    async def _file(self, reading: _Reading, request: SpeechRequest) -> AsyncGenerator[bytes, None]:
        async with reading.question.charge, aclosing(self._encoded(reading, request, [])) as sound:
            async for data in sound:
                yield data

    async def _events(self, reading: _Reading, request: SpeechRequest) -> AsyncGenerator[bytes, None]:
        spent: list[Usage] = []
        async with reading.question.charge, aclosing(self._encoded(reading, request, spent)) as sound:
            async for data in sound:
                yield server_sent({"type": "speech.audio.delta", "audio": base64.b64encode(data).decode()})
        usage = {
            "input_tokens": sum(each.input_tokens for each in spent),
            "output_tokens": sum(each.output_tokens for each in spent),
        }
        usage["total_tokens"] = sum(usage.values())
        yield server_sent({"type": "speech.audio.done", "usage": usage})

    async def _encoded(
        self, reading: _Reading, request: SpeechRequest, spent: list[Usage]
    ) -> AsyncGenerator[bytes, None]:
        """The file in pieces, or in one if it is signed, which a stream can't be.

        What every piece of the text took is added to `spent`.
        """
        rate_hz = self._info.sample_rate_hz
        async with aclosing(self._played(reading, request, spent)) as sound:
            if self._writer.signs(reading.format) and not request.asks_for_a_stream:
                whole = np.concatenate([waveform async for waveform in sound])
                yield await asyncio.to_thread(self._writer.file, whole, rate_hz, reading.format)
                return
            file = self._writer.stream(rate_hz, reading.format)
            async for waveform in sound:
                if data := file.push(waveform):
                    yield data
        yield file.push(np.zeros(0, np.float32), last=True)

    async def _played(
        self, reading: _Reading, request: SpeechRequest, spent: list[Usage]
    ) -> AsyncGenerator[np.ndarray, None]:
        """What is said, as fast as it is asked for."""
        stretch = Stretch(reading.speed, self._info.sample_rate_hz)
        async with aclosing(self._said(reading, spent)) as sound:
            async for waveform in sound:
                yield stretch.push(waveform)
        reading.question.charge.add(characters=len(request.input))
        yield stretch.push(np.zeros(0, np.float32), last=True)

    async def _said(self, reading: _Reading, spent: list[Usage]) -> AsyncGenerator[np.ndarray, None]:
        """The sound of all pieces at the engine's rate, (N,) float32 at a time."""
        joiner = Joiner(self._info.sample_rate_hz)
        for index, piece in enumerate(reading.pieces):
            asked = Message(role="user", parts=(Text(text=reading.prompt.format(x=piece.words)),))
            question = replace(reading.question, messages=[asked])
            params = replace(reading.params, script=piece.words)
            async with aclosing(self._answering.answer(question, params)) as events:
                async for event in events:
                    if isinstance(event, AudioDelta):
                        yield joiner.push(event.waveform)
                    elif isinstance(event, End):
                        spent.append(event.usage)
            yield joiner.end(piece.pause_ms if index < len(reading.pieces) - 1 else 0)
