"""What a Realtime client may say, and the session it shapes: strict models of the GA contract's client events.

A field is obeyed, or refused with an error naming it, and then the whole event has no effect. Ignored is only what
changes nothing that a client could notice (`tracing`, and `reasoning` of a network that does none).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import pydantic_core
from pydantic import Field, Tag, TypeAdapter

from sensorium.server.errors import invalid
from sensorium.server.wire import Wire, tagged_by

MAX_OUTPUT_TOKENS = 4096
_QUICK_CHARS = 2**20  # of JSON are parsed in no time, whatever they hold
MAX_LARGE_EVENT_VALUES = 100_000  # of larger ones: sound and pictures are long texts, and few

# --- the session


class PcmFormat(Wire):
    type: Literal["audio/pcm"]
    rate: Literal[24000] = 24000


class MuLawFormat(Wire):
    type: Literal["audio/pcmu"]


class ALawFormat(Wire):
    type: Literal["audio/pcma"]


AudioFormat: TypeAlias = Annotated[
    Annotated[PcmFormat, Tag("<audio/pcm>")]
    | Annotated[MuLawFormat, Tag("<audio/pcmu>")]
    | Annotated[ALawFormat, Tag("<audio/pcma>")],
    tagged_by("type"),
]


class Transcription(Wire):
    model: str | None = None
    language: str | None = None
    languages: Annotated[list[str], Field(min_length=1)] | None = None  # that may be spoken
    prompt: str | None = None


class NoiseReduction(Wire):
    type: Literal["near_field", "far_field"]


class ServerVad(Wire):
    type: Literal["server_vad"]
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    prefix_padding_ms: Annotated[int, Field(ge=0, le=5000)] = 300
    silence_duration_ms: Annotated[int, Field(ge=0, le=10_000)] = 500
    idle_timeout_ms: Annotated[int, Field(ge=5000, le=30_000)] | None = None
    create_response: bool = True
    interrupt_response: bool = True


class SemanticVad(Wire):
    type: Literal["semantic_vad"]
    eagerness: Literal["low", "medium", "high", "auto"] = "auto"
    create_response: bool = True
    interrupt_response: bool = True


TurnDetection: TypeAlias = Annotated[
    Annotated[ServerVad, Tag("<server_vad>")] | Annotated[SemanticVad, Tag("<semantic_vad>")], tagged_by("type")
]


class AudioInput(Wire):
    format: AudioFormat = PcmFormat(type="audio/pcm")
    transcription: Transcription | None = None
    noise_reduction: NoiseReduction | None = None
    turn_detection: TurnDetection | None = ServerVad(type="server_vad")


class Voice(Wire):
    id: str


class AudioOutput(Wire):
    format: AudioFormat = PcmFormat(type="audio/pcm")
    voice: str | Voice = "alloy"
    speed: Annotated[float, Field(ge=0.25, le=1.5)] = 1.0


class SessionAudio(Wire):
    input: AudioInput = AudioInput()
    output: AudioOutput = AudioOutput()

    def format_of(self, role: str) -> Literal["audio/pcm", "audio/pcmu", "audio/pcma"]:
        """That in which a message's sound is on the wire."""
        return (self.input if role == "user" else self.output).format.type


class FunctionTool(Wire):
    type: Literal["function"]
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None


class TokenLimits(Wire):
    post_instructions: Annotated[int, Field(ge=0)] | None = None


class RetentionRatio(Wire):
    type: Literal["retention_ratio"]
    retention_ratio: Annotated[float, Field(ge=0, le=1)]
    token_limits: TokenLimits | None = None


Temperature: TypeAlias = Annotated[float, Field(ge=0.6, le=1.2)]
"""Of the retired beta shape, see `realtime_beta`: without one an answer is made of the likeliest words."""


class Tracing(Wire):
    workflow_name: str | None = None
    group_id: str | None = None
    metadata: dict[str, Any] | None = None


class Reasoning(Wire):
    effort: Literal["minimal", "low", "medium", "high", "xhigh"] | None = None


Modalities: TypeAlias = Annotated[list[Literal["text", "audio"]], Field(min_length=1, max_length=1)]
MaxTokens: TypeAlias = Annotated[int, Field(ge=1, le=MAX_OUTPUT_TOKENS)] | Literal["inf"]
Tools: TypeAlias = Annotated[list[FunctionTool], Field(max_length=128)]


class SessionConfig(Wire):
    """What `session.update` may change. Absent fields stay as they are; the defaults are a new session's."""

    type: Literal["realtime"]
    model: str | None = None
    output_modalities: Modalities = Field(default=["audio"])
    instructions: str = ""
    audio: SessionAudio = SessionAudio()
    tools: Tools = Field(default=[])
    tool_choice: str | dict[str, Any] = "auto"
    parallel_tool_calls: bool | None = None
    max_output_tokens: MaxTokens = "inf"
    temperature: Temperature | None = None
    truncation: Literal["auto", "disabled"] | RetentionRatio = "auto"
    tracing: Literal["auto"] | Tracing | None = None
    reasoning: Reasoning | None = None
    prompt: Any = None
    include: list[Literal["item.input_audio_transcription.logprobs"]] | None = None

    def updated(self, change: SessionConfig) -> SessionConfig:
        """This session with every field that `change` names. Raises ValueError if that makes no session."""
        return type(self).model_validate(_merged(self.model_dump(), change.model_dump(exclude_unset=True)))


class TranscriptionAudio(Wire):
    input: AudioInput = AudioInput()


class TranscriptionConfig(Wire):
    """A session that only writes down what is said."""

    type: Literal["transcription"]
    audio: TranscriptionAudio = TranscriptionAudio()
    include: list[Literal["item.input_audio_transcription.logprobs"]] | None = None

    def as_session(self) -> SessionConfig:
        """The same change of a session that could answer too."""
        change = self.model_dump(exclude_unset=True, exclude={"type"})
        return SessionConfig.model_validate({**change, "type": "realtime"})


SessionKind: TypeAlias = Annotated[
    Annotated[SessionConfig, Tag("<realtime>")] | Annotated[TranscriptionConfig, Tag("<transcription>")],
    tagged_by("type"),
]


def _merged(old: dict[str, Any], new: dict[str, Any], *, inside: tuple[str, ...] = ("audio", "input", "output")) -> Any:
    """Only what holds settings of several kinds is merged; a value with a type of its own is replaced as a whole."""
    deeper = {key: _merged(old[key], value) for key, value in new.items() if key in inside and isinstance(value, dict)}
    return {**old, **new, **deeper}


# --- conversation items


class InputTextPart(Wire):
    type: Literal["input_text"]
    text: str


class InputAudioPart(Wire):
    type: Literal["input_audio"]
    audio: str
    transcript: str | None = None


MAX_TIME_MS = 24 * 3600 * 1000


class InputImagePart(Wire):
    type: Literal["input_image"]
    image_url: str
    detail: Literal["auto", "low", "high"] = "auto"
    time_ms: Annotated[float, Field(ge=0, le=MAX_TIME_MS)] | None = (
        None  # of a camera's frame; not in OpenAI's contract
    )


class OutputTextPart(Wire):
    type: Literal["output_text"]
    text: str


UserContent: TypeAlias = Annotated[
    Annotated[InputTextPart, Tag("<input_text>")]
    | Annotated[InputAudioPart, Tag("<input_audio>")]
    | Annotated[InputImagePart, Tag("<input_image>")],
    tagged_by("type"),
]


class _Item(Wire):
    id: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    object: Literal["realtime.item"] | None = None
    status: Literal["completed", "incomplete", "in_progress"] | None = None


class SystemItem(_Item):
    type: Literal["message"]
    role: Literal["system"]
    content: Annotated[list[InputTextPart], Field(min_length=1)]


class UserItem(_Item):
    type: Literal["message"]
    role: Literal["user"]
    content: Annotated[list[UserContent], Field(min_length=1)]


class AssistantItem(_Item):
    type: Literal["message"]
    role: Literal["assistant"]
    content: Annotated[list[OutputTextPart], Field(min_length=1)]


class FunctionCallItem(_Item):
    type: Literal["function_call"]
    call_id: str | None = None
    name: str
    arguments: str


class FunctionCallOutputItem(_Item):
    type: Literal["function_call_output"]
    call_id: str
    output: str


class ItemReference(Wire):
    type: Literal["item_reference"]
    id: str


MessageItem: TypeAlias = Annotated[
    Annotated[SystemItem, Tag("<system>")]
    | Annotated[UserItem, Tag("<user>")]
    | Annotated[AssistantItem, Tag("<assistant>")],
    tagged_by("role"),
]
_Items: TypeAlias = (
    Annotated[MessageItem, Tag("<message>")]
    | Annotated[FunctionCallItem, Tag("<function_call>")]
    | Annotated[FunctionCallOutputItem, Tag("<function_call_output>")]
)
NewItem: TypeAlias = Annotated[_Items, tagged_by("type")]
ResponseInput: TypeAlias = Annotated[_Items | Annotated[ItemReference, Tag("<item_reference>")], tagged_by("type")]


class ResponseAudio(Wire):
    output: AudioOutput = AudioOutput()


class ResponseOptions(Wire):
    """What one response does differently from its session."""

    output_modalities: Modalities | None = None
    instructions: str | None = None
    audio: ResponseAudio | None = None
    tools: Tools | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: MaxTokens | None = None
    temperature: Temperature | None = None
    conversation: Literal["auto", "none"] = "auto"
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = None
    reasoning: Reasoning | None = None
    prompt: Any = None
    input: list[ResponseInput] | None = None


# --- client events


class _Event(Wire):
    event_id: Annotated[str, Field(max_length=512)] | None = None


class SessionUpdate(_Event):
    type: Literal["session.update"]
    session: SessionKind


class BufferAppend(_Event):
    type: Literal["input_audio_buffer.append"]
    audio: str


class BufferCommit(_Event):
    type: Literal["input_audio_buffer.commit"]


class BufferClear(_Event):
    type: Literal["input_audio_buffer.clear"]


class ItemCreate(_Event):
    type: Literal["conversation.item.create"]
    previous_item_id: str | None = None
    item: NewItem


class ItemRetrieve(_Event):
    type: Literal["conversation.item.retrieve"]
    item_id: str


class ItemDelete(_Event):
    type: Literal["conversation.item.delete"]
    item_id: str


class ItemTruncate(_Event):
    type: Literal["conversation.item.truncate"]
    item_id: str
    content_index: int
    audio_end_ms: Annotated[int, Field(ge=0)]


class ResponseCreate(_Event):
    type: Literal["response.create"]
    response: ResponseOptions = ResponseOptions()


class ResponseCancel(_Event):
    type: Literal["response.cancel"]
    response_id: str | None = None


ClientEvent: TypeAlias = Annotated[
    Annotated[SessionUpdate, Tag("<session.update>")]
    | Annotated[BufferAppend, Tag("<input_audio_buffer.append>")]
    | Annotated[BufferCommit, Tag("<input_audio_buffer.commit>")]
    | Annotated[BufferClear, Tag("<input_audio_buffer.clear>")]
    | Annotated[ItemCreate, Tag("<conversation.item.create>")]
    | Annotated[ItemRetrieve, Tag("<conversation.item.retrieve>")]
    | Annotated[ItemDelete, Tag("<conversation.item.delete>")]
    | Annotated[ItemTruncate, Tag("<conversation.item.truncate>")]
    | Annotated[ResponseCreate, Tag("<response.create>")]
    | Annotated[ResponseCancel, Tag("<response.cancel>")],
    tagged_by("type"),
]
client_event: TypeAdapter[ClientEvent] = TypeAdapter(ClientEvent)


def parsed(text: str | None) -> dict[str, Any]:
    """The object that a frame of the socket holds. Raises APIError."""
    if text is None:
        raise invalid("Events are text frames of JSON.", None, "invalid_event")
    if len(text) > _QUICK_CHARS and sum(map(text.count, "[{,")) > MAX_LARGE_EVENT_VALUES:
        message = f"An event of so many characters may hold at most {MAX_LARGE_EVENT_VALUES} values."
        raise invalid(message, None, "invalid_event")
    try:
        body = pydantic_core.from_json(text, allow_inf_nan=False)
    except ValueError:
        raise invalid("The event is not valid JSON.", None, "invalid_json") from None
    if not isinstance(body, dict):
        raise invalid("An event is a JSON object.", None, "invalid_event")
    return body
