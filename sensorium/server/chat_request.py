"""What POST /v1/chat/completions may say: strict models of the contract's fields, and what becomes of each.

A field is obeyed, or refused with an error naming it. Ignored are only those that the contract says to accept and
ignore, and that change nothing about the answer itself.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag

from sensorium.engine.request import EngineInfo, ToolChoice
from sensorium.server.audio_out import SpeechFormat
from sensorium.server.config import ServerConfig
from sensorium.server.errors import APIError, invalid, missing, unsupported
from sensorium.server.film_in import MAX_FPS, MIN_FPS
from sensorium.server.wire import BARE, TEXT_OR_PARTS, Metadata, TaggedStr, ToolName, Wire, tagged_by


class TextPart(Wire):
    type: Literal["text"]
    text: str


class RefusalPart(Wire):
    type: Literal["refusal"]
    refusal: str


class ImageURL(Wire):
    url: str
    detail: Literal["auto", "low", "high"] = "auto"


class ImagePart(Wire):
    type: Literal["image_url"]
    image_url: ImageURL
    index: int | None = None  # our own answers number their pictures


class InputAudio(Wire):
    data: str
    format: Literal["wav", "mp3"]


class FileData(Wire):
    """A file that was uploaded before, or its bytes in base64."""

    file_id: str | None = None
    file_data: str | None = None
    filename: str | None = None


class FilePart(Wire):
    type: Literal["file"]
    file: FileData


class AudioPart(Wire):
    type: Literal["input_audio"]
    input_audio: InputAudio


class VideoURL(Wire):
    url: str
    fps: Annotated[float, Field(ge=MIN_FPS, le=MAX_FPS)] | None = None  # frames a second that are looked at


class VideoPart(Wire):
    """A film, as vLLM and Qwen take it: OpenAI's contract has none."""

    type: Literal["video_url"]
    video_url: VideoURL


_Text: TypeAlias = Annotated[TextPart, Tag("<text>")]
_Image: TypeAlias = Annotated[ImagePart, Tag("<image_url>")]
_Audio: TypeAlias = Annotated[AudioPart, Tag("<input_audio>")]
_File: TypeAlias = Annotated[FilePart, Tag("<file>")]
_Video: TypeAlias = Annotated[VideoPart, Tag("<video_url>")]
_Refusal: TypeAlias = Annotated[RefusalPart, Tag("<refusal>")]

UserPart: TypeAlias = Annotated[_Text | _Image | _Audio | _Video | _File, tagged_by("type")]
AssistantPart: TypeAlias = Annotated[_Text | _Refusal, tagged_by("type")]
ContentPart: TypeAlias = TextPart | ImagePart | AudioPart | VideoPart | FilePart | RefusalPart

_TextParts: TypeAlias = Annotated[list[TextPart], Field(min_length=1), Tag("<parts>")]
_UserParts: TypeAlias = Annotated[list[UserPart], Field(min_length=1), Tag("<parts>")]
_AssistantParts: TypeAlias = Annotated[list[AssistantPart], Field(min_length=1), Tag("<parts>")]

TextContent: TypeAlias = Annotated[TaggedStr | _TextParts, TEXT_OR_PARTS]
UserContent: TypeAlias = Annotated[TaggedStr | _UserParts, TEXT_OR_PARTS]
AssistantContent: TypeAlias = Annotated[TaggedStr | _AssistantParts, TEXT_OR_PARTS]


class SystemMessage(Wire):
    role: Literal["system", "developer"]
    content: TextContent
    name: str | None = None


class UserMessage(Wire):
    role: Literal["user"]
    content: UserContent
    name: str | None = None


class FunctionCall(Wire):
    name: str
    arguments: str
    parsed_arguments: Any = None  # the official client's stream helper adds it, and sends it back


class ToolCallIn(Wire):
    index: int | None = None  # left over from the deltas of a stream
    id: str
    type: Literal["function"]
    function: FunctionCall


class AudioReference(Wire):
    """An earlier spoken answer. Clients that send it back whole may: only the id is read, we have the rest."""

    id: str
    data: str | None = None
    transcript: str | None = None
    expires_at: int | None = None


class AssistantMessage(Wire):
    """Also takes what our answers hold beyond the contract of requests: clients send those back as they are."""

    role: Literal["assistant"]
    content: AssistantContent | None = None
    refusal: str | None = None
    name: str | None = None
    audio: AudioReference | None = None
    images: list[ImagePart] | None = None
    tool_calls: list[ToolCallIn] | None = None
    function_call: FunctionCall | None = None
    annotations: list[Any] | None = None
    parsed: Any = None  # from the official client's stream helper, as above


class ToolMessage(Wire):
    role: Literal["tool"]
    content: TextContent
    tool_call_id: str


class FunctionMessage(Wire):
    """The deprecated form of a tool's message."""

    role: Literal["function"]
    content: str
    name: str


RequestMessage: TypeAlias = Annotated[
    Annotated[SystemMessage, Tag("<system>")]
    | Annotated[SystemMessage, Tag("<developer>")]
    | Annotated[UserMessage, Tag("<user>")]
    | Annotated[AssistantMessage, Tag("<assistant>")]
    | Annotated[ToolMessage, Tag("<tool>")]
    | Annotated[FunctionMessage, Tag("<function>")],
    tagged_by("role"),
]


class FunctionDefinition(Wire):
    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Wire):
    type: Literal["function"]
    function: FunctionDefinition


class FunctionName(Wire):
    name: str


class NamedTool(Wire):
    type: Literal["function"]
    function: FunctionName


class AllowedTools(Wire):
    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1)]


class AllowedToolsChoice(Wire):
    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


_Choice: TypeAlias = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag(BARE)]
    | Annotated[NamedTool, Tag("<function>")]
    | Annotated[AllowedToolsChoice, Tag("<allowed_tools>")],
    tagged_by("type", or_text=True),
]
_LegacyChoice: TypeAlias = Annotated[
    Annotated[Literal["none", "auto"], Tag("<mode>")] | Annotated[FunctionName, Tag("<name>")],
    Discriminator(lambda value: "<mode>" if isinstance(value, str) else "<name>"),
]


class AudioOptions(Wire):
    voice: str | dict[str, Any]
    format: SpeechFormat


class StreamOptions(Wire):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class JsonSchemaFormat(Wire):
    name: ToolName
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None  # or not: an answer always keeps to its schema


class ResponseFormat(Wire):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None


class Prediction(Wire):
    type: Literal["content"]
    content: TextContent


ServiceTier: TypeAlias = Literal["auto", "default", "flex", "scale", "priority", "fast"]


def used_tier(asked: str | None) -> Literal["default", "flex"]:
    """The tier by which a request is served: there are those in no hurry and all others."""
    return "flex" if asked == "flex" else "default"


_Bias: TypeAlias = Annotated[float, Field(ge=-100, le=100)]
_Penalty: TypeAlias = Annotated[float, Field(ge=-2, le=2)] | None
_Stops: TypeAlias = Annotated[list[str], Field(max_length=4), Tag("<parts>")]
MAX_INT64 = 2**63 - 1


class ChatRequest(Wire):
    model: str
    messages: Annotated[list[RequestMessage], Field(min_length=1)]

    modalities: Annotated[list[Literal["text", "audio"]], Field(min_length=1)] | None = None
    audio: AudioOptions | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-MAX_INT64, le=MAX_INT64)] | None = None
    stop: Annotated[TaggedStr | _Stops, TEXT_OR_PARTS] | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: _Choice | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[FunctionDefinition], Field(min_length=1, max_length=128)] | None = None  # deprecated
    function_call: _LegacyChoice | None = None  # deprecated
    response_format: ResponseFormat | None = None
    frequency_penalty: _Penalty = None
    presence_penalty: _Penalty = None
    logit_bias: dict[str, _Bias] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    store: bool | None = None
    metadata: Metadata | None = None

    service_tier: ServiceTier | None = None

    # accepted and ignored, as the contract says: none of them changes what a correct answer is
    prediction: Prediction | None = None
    web_search_options: dict[str, Any] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: Literal["in_memory", "in-memory", "24h"] | None = None
    prompt_cache_options: dict[str, Any] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    moderation: dict[str, Any] | None = None

    @property
    def speaks(self) -> bool:
        return "audio" in (self.modalities or ())

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def known_tools(self) -> list[Tool]:
        """The request's tools, in the present form or in the deprecated one."""
        return self.tools or [Tool(type="function", function=function) for function in self.functions or ()]

    @property
    def choice(self) -> ToolChoice | NamedTool | AllowedTools:
        """What the request says about calls, the deprecated form included."""
        if isinstance(self.function_call, FunctionName):
            return NamedTool(type="function", function=self.function_call)
        if isinstance(self.tool_choice, AllowedToolsChoice):
            return self.tool_choice.allowed_tools
        return self.tool_choice or self.function_call or "auto"

    @property
    def call_policy(self) -> ToolChoice:
        """Without tools on offer there is nothing to call."""
        if not self.known_tools:
            return "none"
        match self.choice:
            case NamedTool():
                return "required"
            case AllowedTools(mode=mode):
                return mode
            case policy:
                return policy

    @property
    def offered_tools(self) -> list[Tool]:
        """The tools that the network is told of."""
        return [] if self.call_policy == "none" else self.known_tools

    @property
    def callable_tools(self) -> list[Tool]:
        """Those that it may call."""
        named = {tool.function.name for tool in self.named_tools}
        return [tool for tool in self.offered_tools if not named or tool.function.name in named]

    @property
    def named_tools(self) -> list[NamedTool]:
        """Those that the choice restricts calls to, if it does."""
        match self.choice:
            case NamedTool() as tool:
                return [tool]
            case AllowedTools(tools=tools):
                return tools
            case _:
                return []


def refuse_unsupported(request: ChatRequest, config: ServerConfig) -> None:
    """Raises APIError for the first field that asks for something this server cannot do."""
    if request.n and request.n > config.max_choices:
        message = f"Invalid 'n': at most {config.max_choices} choices are made for one request."
        raise invalid(message, "n", "integer_above_max_value")
    if request.stream_options and not request.stream:
        raise invalid("'stream_options' is only allowed when 'stream' is true.", "stream_options")
    _refuse_tools(request)
    _refuse_audio(request)


def _refuse_tools(request: ChatRequest) -> None:
    if request.tools and request.functions:
        raise invalid("Give 'tools' or the deprecated 'functions', not both.", "functions")
    for field, needed, given in (
        ("tool_choice", "tools", request.tools),
        ("parallel_tool_calls", "tools", request.tools),
        ("function_call", "functions", request.functions),
    ):
        if getattr(request, field) is not None and not given:
            raise invalid(f"'{field}' is only allowed when '{needed}' are given.", field)
    known = {tool.function.name for tool in request.known_tools}
    for tool in request.named_tools:
        if tool.function.name not in known:
            field = "function_call" if request.functions else "tool_choice"
            raise invalid(f"Invalid '{field}': no function '{tool.function.name[:64]}' is offered.", field)


def _refuse_audio(request: ChatRequest) -> None:
    if request.modalities == ["audio"]:
        raise unsupported("modalities", "supported combinations are ['text'] and ['text', 'audio']")
    if request.speaks and request.audio is None:
        raise missing("audio")
    if request.audio and not request.speaks:
        raise invalid("'audio' is only allowed when 'modalities' names audio.", "audio")
    if request.audio and request.stream and request.audio.format != "pcm16":
        raise unsupported("audio.format", "only 'pcm16' can be streamed")
    if request.speaks and request.stop:
        raise unsupported("stop", "stop texts end written answers only, not spoken ones")
    if request.speaks and request.response_format and request.response_format.type != "text":
        raise unsupported("response_format.type", "a document is written, not spoken: leave 'modalities' at text")
    if request.speaks and request.logprobs:
        raise unsupported("logprobs", "log probabilities are of written answers only, not of spoken ones")


def known_voice(voice: object, info: EngineInfo, config: ServerConfig, param: str) -> str:
    """The engine's name of a voice. Raises APIError naming `param` if it has none such."""
    if not isinstance(voice, str):
        raise unsupported(param, "custom voices are not available")
    known = config.voice_aliases.get(voice, voice)
    if known not in info.voices:
        raise invalid(f"Invalid '{param}': supported voices are {', '.join(info.voices)}.", param)
    return known


def check_model(model: str, info: EngineInfo, config: ServerConfig, *, param: str | None = None) -> None:
    """Raises the contract's 404 unless the served model answers to this id."""
    if model != info.model and model not in config.model_aliases:
        message = f"The model '{model[:100]}' does not exist. See GET /v1/models for those that do."
        raise APIError(message, status=404, param=param, code="model_not_found")
