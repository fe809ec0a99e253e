"""POST /v1/audio/transcriptions and /v1/audio/translations: a file is written down while it is decoded.

    bytes -> sound, 5 s at a time -> stretches of speech -> words -> lines    (sound_file, segments, engine, transcript)

None of these runs ahead of the next: what is in memory does not grow with the file, only its transcript does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, TypeVar

import numpy as np
import pydantic_core
import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from sensorium.engine.request import (
    ContextLengthExceeded,
    End,
    InputTranscriptDelta,
    LiveEngine,
    SamplingParams,
    TextDelta,
    Transcribed,
    Usage,
)
from sensorium.messages import Audio, Message, Text
from sensorium.server.answering import Answering, Question
from sensorium.server.body import OpenUpload, read_form, take_file
from sensorium.server.chat_reply import server_sent, until_done
from sensorium.server.chat_request import check_model
from sensorium.server.comfort_noise import with_quiet_edges
from sensorium.server.config import ServerConfig
from sensorium.server.errors import invalid, too_slow, unsupported, validated
from sensorium.server.hangup import EventStream
from sensorium.server.media import bytes_of_data_url
from sensorium.server.metering import Charge, Meter
from sensorium.server.metrics import Metrics
from sensorium.server.segments import RATE_HZ, Cutting, Segment, Segmenter
from sensorium.server.sound_file import SoundFile
from sensorium.server.speakers import Speakers
from sensorium.server.transcript import (
    Json,
    Line,
    diarized_body,
    line_of,
    logprobs_body,
    segment_body,
    segment_id,
    subtitles,
    whole_text,
    words_body,
)
from sensorium.server.transcription_request import (
    LANGUAGES,
    LISTS,
    MAX_TEXT_BYTES,
    TranscriptionForm,
    TranslationForm,
    form_fields,
    refuse_prompt,
    refuse_unsupported,
)

ROUTE = "/v1/audio/transcriptions"
TRANSLATIONS = "/v1/audio/translations"
_TOLD_EVERY_S = 300.0  # of sound: so often the log says how far a long file has come
_SILENCE_TOLD_EVERY_S = 30.0  # of sound: and a stream in which nobody speaks
_REFERENCE_S = (2.0, 10.0)
_TRANSLATE = Message(role="system", parts=(Text(text="translate to english"),))  # as it was taught
_END = object()

T = TypeVar("T")
Form: TypeAlias = TranscriptionForm | TranslationForm
log = structlog.get_logger()


class _Silence:
    """For a while nobody has spoken."""


@dataclass(kw_only=True, eq=False)
class _Job:
    """A request that has been understood, and how far it has come."""

    form: Form
    file: SoundFile
    cutting: Cutting
    charge: Charge
    translates: bool = False
    speakers: Speakers | None = None
    heard_s: float = 0.0
    usage: Usage = field(default_factory=Usage)
    figures: dict[str, Any]

    @property
    def params(self) -> SamplingParams:
        return SamplingParams(temperature=self.form.temperature)


class Transcriptions:
    def __init__(
        self,
        engine: LiveEngine,
        answering: Answering,
        config: ServerConfig,
        metrics: Metrics,
        meter: Meter,
        decoders: Executor,
    ) -> None:
        """Files are decoded on `decoders`."""
        self._engine = engine
        self._answering = answering
        self._config = config
        self._metrics = metrics
        self._meter = meter
        self._decoders = decoders

    def routes(self) -> APIRouter:
        router = APIRouter()
        router.post(ROUTE)(self.transcribe)
        router.post(TRANSLATIONS)(self.translate)
        return router

    async def transcribe(self, http: Request) -> Response:
        with ExitStack() as held:
            fields, upload = await self._fields(http, held)
            form = validated(TranscriptionForm, fields)
            check_model(form.model, self._engine.info, self._config, param="model")
            refuse_unsupported(form, set(fields), self._engine.info)
            job = await self._job(http, form, upload, form.cutting)
            if form.stream:
                events = until_done(self._events(job, form))
                first = await anext(events)
                held.pop_all()  # whoever reads the events closes the file
                return EventStream(first, events)
            lines = await self._all(job)
        return self._response(job, lines, form.timestamp_granularities, logprobs="logprobs" in form.include)

    async def translate(self, http: Request) -> Response:
        with ExitStack() as held:
            fields, upload = await self._fields(http, held)
            form = validated(TranslationForm, fields)
            check_model(form.model, self._engine.info, self._config, param="model")
            refuse_prompt(form)
            skills = self._engine.info.skills
            if skills is not None and "translate" not in skills:
                raise unsupported("model", "this model was not taught to translate")
            job = await self._job(http, form, upload, Cutting())
            job.translates = True
            lines = await self._all(job)
        return self._response(job, lines, ["segment"], logprobs=False)

    async def _fields(self, http: Request, held: ExitStack) -> tuple[dict[str, Any], OpenUpload]:
        """The file is left where it lies, and closed with `held`."""
        bounds = {"max_bytes": self._config.max_audio_bytes, "max_text_bytes": MAX_TEXT_BYTES}
        fields = await read_form(http, self._config, **bounds, opens={"file"}, lists=LISTS)
        upload = held.enter_context(take_file(fields, OpenUpload))
        return form_fields(fields), upload

    async def _job(self, http: Request, form: Form, upload: OpenUpload, cutting: Cutting) -> _Job:
        file = await self._in_thread(self._open, upload)
        charge = await self._meter.begin(
            http.state, form.model, tokens=0, kind="audio_transcriptions", audio_s=file.duration_s or 0.0
        )
        return _Job(
            form=form,
            file=file,
            cutting=cutting,
            charge=charge,
            figures=http.state.log,
        )

    def _open(self, upload: OpenUpload) -> SoundFile:
        return SoundFile(upload.file, upload.filename, rate_hz=RATE_HZ, max_s=self._config.max_transcription_s)

    async def _known_speakers(self, form: TranscriptionForm) -> list[tuple[str, np.ndarray]]:
        known: list[tuple[str, np.ndarray]] = []
        for index, (name, url) in enumerate(zip(form.known_speaker_names, form.known_speaker_references, strict=True)):
            param = f"known_speaker_references[{index}]"
            waveform = await self._in_thread(_reference, url, param)
            clip = with_quiet_edges(waveform, RATE_HZ)  # as the stretches that it is compared with are heard
            async for event in self._engine.transcribe(clip.waveform, SamplingParams()):
                if isinstance(event, Transcribed) and event.voice is not None:
                    known.append((name, event.voice))
        return known

    async def _all(self, job: _Job) -> list[Line]:
        lines: list[Line] = []
        async with job.charge, aclosing(self._lines(job)) as heard:
            async for item in heard:
                if isinstance(item, Line):
                    lines.append(item)
        return lines

    async def _lines(self, job: _Job) -> AsyncGenerator[InputTranscriptDelta | Line | _Silence, None]:
        """What is heard, delta by delta, and behind those of each segment its line. Of what was heard until somebody
        leaves, that is paid."""
        if isinstance(job.form, TranscriptionForm) and job.form.response_format == "diarized_json":
            job.speakers = Speakers(await self._known_speakers(job.form))
        try:
            async with aclosing(self._segments(job)) as segments:
                async for segment in segments:
                    if isinstance(segment, _Silence):
                        yield segment
                        continue
                    async with aclosing(self._line(job, segment)) as heard:
                        async for item in heard:
                            yield item
        finally:
            spent = Usage() if job.translates else job.usage  # of translations each answer has been counted
            job.charge.add(spent, heard_s=job.heard_s - (job.file.duration_s or 0.0))
            self._metrics.count_tokens(spent)
            job.figures["audio_s"] = round(job.heard_s, 1)
            job.figures["input_tokens"] = job.usage.input_tokens
            job.figures["output_tokens"] = job.usage.output_tokens

    async def _line(self, job: _Job, segment: Segment) -> AsyncGenerator[InputTranscriptDelta | Line, None]:
        deltas: list[InputTranscriptDelta] = []
        speaker = ""
        try:
            async with asyncio.timeout(self._config.request_timeout_s):
                async with aclosing(self._heard(job, segment)) as events:
                    async for event in events:
                        if isinstance(event, InputTranscriptDelta):
                            deltas.append(event)
                            yield event
                        elif job.speakers is not None and event.voice is not None:
                            speaker = job.speakers.name(event.voice)
        except TimeoutError:
            raise too_slow() from None
        yield line_of(segment, deltas, speaker=speaker)

    async def _segments(self, job: _Job) -> AsyncGenerator[Segment | _Silence, None]:
        told_s = logged_s = 0.0
        with job.file as file:
            pieces, segmenter = file.pieces(), Segmenter(job.cutting)
            while (piece := await self._in_thread(next, pieces, _END)) is not _END:
                assert isinstance(piece, np.ndarray)
                segments = await self._in_thread(_listed, segmenter.push(piece))
                for segment in segments:
                    yield segment
                job.heard_s += len(piece) / RATE_HZ
                job.figures["audio_s"] = round(job.heard_s, 1)
                told_s = job.heard_s if segments else told_s
                if job.heard_s >= told_s + _SILENCE_TOLD_EVERY_S:
                    told_s = job.heard_s
                    yield _Silence()
                if job.heard_s >= logged_s + _TOLD_EVERY_S:
                    logged_s = job.heard_s
                    log.info("transcribing", heard_s=round(job.heard_s, 1), duration_s=job.file.duration_s)
            for segment in segmenter.push(np.zeros(0, np.float32), last=True):
                yield segment

    async def _heard(self, job: _Job, segment: Segment) -> AsyncGenerator[InputTranscriptDelta | Transcribed, None]:
        if job.translates:
            async for event in self._translated(job, segment):
                yield event
            return
        clip = with_quiet_edges(segment.waveform, RATE_HZ)
        try:
            events = self._engine.transcribe(clip.waveform, job.params)
            assert isinstance(events, AsyncGenerator), "an engine's answer must be closeable"
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, Transcribed):
                        job.usage = _sum(job.usage, event.usage)
                        yield event
                    elif isinstance(event, InputTranscriptDelta):
                        yield _in_the_file(event, clip.added_before_ms)
        except ContextLengthExceeded:
            raise invalid("Somebody speaks for longer than this model can hear at once.", "file") from None

    async def _translated(self, job: _Job, segment: Segment) -> AsyncGenerator[InputTranscriptDelta, None]:
        clip = Audio(waveform=with_quiet_edges(segment.waveform, RATE_HZ).waveform, sample_rate_hz=RATE_HZ)
        question = Question(
            route=TRANSLATIONS,
            messages=[_TRANSLATE, Message(role="user", parts=(clip,))],
            prompt_param="file",
            charge=job.charge,
            received_s=time.monotonic(),
            log=job.figures,
        )
        params = replace(job.params, tool_choice="none", guidance_scale=1.0, top_logprobs=0)
        async with aclosing(self._answering.answer(question, params)) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    yield InputTranscriptDelta(clip=0, text=event.text, logprobs=event.logprobs)
                elif isinstance(event, End):
                    job.usage = _sum(job.usage, event.usage)

    async def _events(self, job: _Job, form: TranscriptionForm) -> AsyncGenerator[bytes, None]:
        """`progress` is ours, and so are `words`, which only come to whom asks for them."""
        lines: list[Line] = []
        by_line = form.response_format in ("diarized_json", "verbose_json")
        is_first = True
        async with job.charge, aclosing(self._lines(job)) as heard:
            async for item in heard:
                if isinstance(item, Line):
                    is_first = True
                    if by_line and item.text:
                        words = {"words": words_body([item])} if "word" in form.timestamp_granularities else {}
                        yield server_sent({**diarized_body(len(lines), item), **words})
                    lines.append(item)
                    continue
                if isinstance(item, _Silence):
                    yield server_sent({"type": "transcript.text.delta", "delta": "", "progress": _progress(job)})
                    continue
                space = " " if is_first and any(line.text for line in lines) else ""
                is_first = False
                delta: Json = {"type": "transcript.text.delta", "delta": space + item.text}
                if form.include:
                    delta["logprobs"] = logprobs_body(item.logprobs)
                if by_line:
                    delta["segment_id"] = segment_id(len(lines))
                yield server_sent({**delta, "progress": _progress(job)})
        done: Json = {"type": "transcript.text.done", "text": whole_text(lines), "usage": _tokens_body(job.usage)}
        if form.include:
            done["logprobs"] = logprobs_body(token for line in lines for token in line.logprobs)
        yield server_sent({**done, "progress": _progress(job)})

    def _response(self, job: _Job, lines: list[Line], granularities: Sequence[str], *, logprobs: bool) -> Response:
        text, format = whole_text(lines), job.form.response_format
        if format in ("srt", "vtt"):
            return PlainTextResponse(subtitles(lines, vtt=format == "vtt"))
        if format == "text":
            return PlainTextResponse(text + "\n")
        lasted: Json = {"type": "duration", "seconds": round(job.heard_s, 2)}
        body: Json
        if format == "verbose_json":
            spoken = job.form.spoken_language if isinstance(job.form, TranscriptionForm) else LANGUAGES["en"]
            body = {"task": "translate" if job.translates else "transcribe"}
            body |= {"language": spoken, "duration": round(job.heard_s, 2), "text": text}
            if "word" in granularities:
                body["words"] = words_body(lines)
            if "segment" in granularities:
                temperature, said = job.form.temperature, [line for line in lines if line.text]
                body["segments"] = [segment_body(at, line, temperature) for at, line in enumerate(said)]
            body["usage"] = lasted
        elif format == "diarized_json":
            segments = [diarized_body(at, line) for at, line in enumerate(lines) if line.text]
            body = {"task": "transcribe", "duration": round(job.heard_s, 2), "text": text, "segments": segments}
            body["usage"] = _tokens_body(job.usage)
        else:
            body = {"text": text}
            if logprobs:
                body["logprobs"] = logprobs_body(token for line in lines for token in line.logprobs)
            if not job.translates:
                body["usage"] = lasted if job.form.model.startswith("whisper") else _tokens_body(job.usage)
        return Response(pydantic_core.to_json(body), media_type="application/json")

    async def _in_thread(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._decoders, work, *args)


def _listed(segments: Iterator[Segment]) -> list[Segment]:
    return list(segments)


def _reference(url: str, param: str) -> np.ndarray:
    """The sound of a known speaker, from a data URL."""
    if url[:4].lower() == "http":
        raise unsupported(param, "a reference comes in a data URL")
    data, most_s = bytes_of_data_url(url, param), _REFERENCE_S[1]
    with SoundFile(data, "", rate_hz=RATE_HZ, max_s=most_s, param=param, noun="reference") as file:
        waveform = np.concatenate(list(file.pieces()))
    if len(waveform) < _REFERENCE_S[0] * RATE_HZ:
        raise invalid(f"A reference is {_REFERENCE_S[0]:g} to {_REFERENCE_S[1]:g} s long.", param)
    return waveform


def _progress(job: _Job) -> Json:
    return {"seconds": round(job.heard_s, 2), "total_seconds": job.file.duration_s}


def _in_the_file(delta: InputTranscriptDelta, added_before_ms: float) -> InputTranscriptDelta:
    """What was heard behind so much noise that is not in the file."""
    if delta.end_ms is None:
        return delta
    return replace(delta, end_ms=max(0.0, delta.end_ms - added_before_ms))


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(**{name: value + getattr(other, name) for name, value in vars(one).items()})


def _tokens_body(usage: Usage) -> Json:
    details = {"audio_tokens": usage.input_audio, "text_tokens": usage.input_text}
    return {
        "type": "tokens",
        "input_tokens": usage.input_tokens,
        "input_token_details": details,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
