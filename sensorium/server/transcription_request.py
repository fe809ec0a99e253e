"""What the forms of POST /v1/audio/transcriptions and /translations may say, and what becomes of each field."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Discriminator, Field, Tag

from sensorium.engine.request import EngineInfo
from sensorium.server.errors import invalid, unsupported
from sensorium.server.segments import Cutting
from sensorium.server.wire import Wire, truth

LANGUAGES = {"en": "english", "de": "german", "fr": "french", "es": "spanish"}
# Fields that may be there several times, with or without brackets behind their names.
LISTS = frozenset(
    {"languages", "keywords", "include", "timestamp_granularities", "known_speaker_names", "known_speaker_references"}
)

# Besides the file: four speakers' references of ten seconds, as data URLs of 48 kHz in stereo.
MAX_TEXT_BYTES = 12 * 2**20

Format = Literal["json", "text", "srt", "verbose_json", "vtt", "diarized_json"]
_Number: TypeAlias = Annotated[float, Field(strict=False)]  # a form holds texts
_Whole: TypeAlias = Annotated[int, Field(strict=False, ge=0, le=60_000)]
_Truth: TypeAlias = Annotated[bool, BeforeValidator(truth)]


class VadConfig(Wire):
    type: Literal["server_vad"]
    threshold: Annotated[_Number, Field(ge=0.0, le=1.0)] = 0.5
    prefix_padding_ms: _Whole = 300
    silence_duration_ms: _Whole = 200

    @property
    def cutting(self) -> Cutting:
        return Cutting(
            threshold=self.threshold,
            prefix_padding_ms=self.prefix_padding_ms,
            silence_duration_ms=self.silence_duration_ms,
        )


def _json_object(value: Any) -> Any:
    """A form may hold an object as JSON, where the official clients send a field for each of its keys."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            return json.loads(value)
        except ValueError:
            pass
    return value


Chunking: TypeAlias = Annotated[
    Annotated[Literal["auto"], Tag("<text>")] | Annotated[VadConfig, Tag("<parts>")],
    Discriminator(lambda value: "<parts>" if isinstance(value, dict) else "<text>"),
    BeforeValidator(_json_object),
]


class AudioForm(Wire):
    """What the fields of both endpoints have alike."""

    model: str
    prompt: Annotated[str, Field(max_length=4096)] = ""
    temperature: Annotated[_Number, Field(ge=0.0, le=1.0)] = 0.0


class TranslationForm(AudioForm):
    response_format: Literal["json", "text", "srt", "verbose_json", "vtt"] = "json"


class TranscriptionForm(AudioForm):
    response_format: Format = "json"
    language: str | None = None
    languages: Annotated[list[str], Field(min_length=1)] | None = None
    keywords: Annotated[list[str], Field(default_factory=list)]
    include: Annotated[list[Literal["logprobs"]], Field(default_factory=list)]
    timestamp_granularities: tuple[Literal["word", "segment"], ...] = Field(default=("segment",), strict=False)
    stream: _Truth = False
    chunking_strategy: Chunking | None = None
    known_speaker_names: Annotated[list[str], Field(default_factory=list, max_length=4)]
    known_speaker_references: Annotated[list[str], Field(default_factory=list, max_length=4)]

    @property
    def spoken_language(self) -> str:
        """Its name: of what is said to be spoken, else English."""
        told = self.language or (self.languages[0] if self.languages and len(self.languages) == 1 else "en")
        code = language_code(told)
        return LANGUAGES.get(code, code)

    @property
    def cutting(self) -> Cutting:
        """Without a strategy the sound is cut all the same: the network can't hear an hour at once."""
        return self.chunking_strategy.cutting if isinstance(self.chunking_strategy, VadConfig) else Cutting()


def refuse_unsupported(form: TranscriptionForm, given: set[str], info: EngineInfo) -> None:
    """Raises APIError for the first field that asks for something that is not done. `given` are the fields named."""
    for field, languages in (("language", [form.language] if form.language else []), ("languages", form.languages)):
        for language in languages or ():
            check_language(language, info, field)
    refuse_prompt(form)
    if form.keywords:
        raise unsupported("keywords", "this model was not taught to be told words beforehand")
    is_streamed_by_line = form.stream and form.response_format == "diarized_json"
    if "timestamp_granularities" in given and form.response_format != "verbose_json" and not is_streamed_by_line:
        raise invalid(
            "Timestamps come with `response_format` verbose_json, or with a stream of diarized_json.",
            "timestamp_granularities",
        )
    if form.include and form.response_format != "json":
        raise invalid("Log probabilities come with `response_format` json only.", "include")
    if form.stream and form.response_format in ("srt", "vtt"):
        raise unsupported("stream", f"{form.response_format} is not streamed: all other formats are")
    if form.response_format == "diarized_json" and not info.knows_speakers:
        raise unsupported("response_format", "this model can't tell speakers apart")
    if len(form.known_speaker_names) != len(form.known_speaker_references):
        raise invalid("Every known speaker has a name and a reference.", "known_speaker_references")
    if form.known_speaker_names and form.response_format != "diarized_json":
        raise invalid("Known speakers are for `response_format` diarized_json.", "known_speaker_names")


def refuse_prompt(form: AudioForm) -> None:
    if form.prompt:
        raise unsupported("prompt", "this model was not taught to read a prompt before it hears")


def check_language(language: str, info: EngineInfo, param: str) -> None:
    """Raises APIError for a language that the network was not taught."""
    known = ("en", *(("de", "fr", "es") if info.skills is None or "translate" in info.skills else ()))
    if language_code(language) not in (*known, *(LANGUAGES[code] for code in known)):
        raise unsupported(param, f"this model hears {', '.join(known)}")


def language_code(language: str) -> str:
    """Of a code with a region, as "en-US", what is before that."""
    return language.lower().partition("-")[0]


def form_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """A form's fields: of an empty text, as of none."""
    return {name: value for name, value in fields.items() if value != ""}
