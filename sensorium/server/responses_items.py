"""The items that a conversation of the Responses API is made of: strict models of what a client may send of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag

from sensorium.server.chat_request import InputAudio
from sensorium.server.film_in import MAX_FPS, MIN_FPS
from sensorium.server.wire import TEXT_OR_PARTS, TaggedStr, Wire, tagged_by

MAX_SEALED_CHARS = 20 * 2**20  # of a compaction, by the contract

Status: TypeAlias = Literal["in_progress", "completed", "incomplete"]

ItemId: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")]


class InputText(Wire):
    type: Literal["input_text"]
    text: str
    prompt_cache_breakpoint: Any = None  # where a cache might begin: no answer depends on it


class InputImage(Wire):
    type: Literal["input_image"]
    image_url: str | None = None
    file_id: str | None = None
    detail: Literal["auto", "low", "high", "original"] | None = None  # what cannot be had is refused where it is read
    prompt_cache_breakpoint: Any = None


class InputAudioPart(Wire):
    type: Literal["input_audio"]
    input_audio: InputAudio


class InputVideo(Wire):
    """A film: an addition to OpenAI's contract, in the form of its pictures."""

    type: Literal["input_video"]
    video_url: str | None = None
    file_id: str | None = None
    fps: Annotated[float, Field(ge=MIN_FPS, le=MAX_FPS)] | None = None  # frames a second that are looked at


class InputFile(Wire):
    type: Literal["input_file"]
    file_id: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    filename: str | None = None
    detail: Literal["auto", "low", "high"] | None = None
    prompt_cache_breakpoint: Any = None


class OutputText(Wire):
    type: Literal["output_text"]
    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None
    parsed: Any = None  # the official client's stream helper adds it, and sends it back


class Refusal(Wire):
    type: Literal["refusal"]
    refusal: str


_Text: TypeAlias = Annotated[InputText, Tag("<input_text>")]
_Image: TypeAlias = Annotated[InputImage, Tag("<input_image>")]
_Audio: TypeAlias = Annotated[InputAudioPart, Tag("<input_audio>")]
_File: TypeAlias = Annotated[InputFile, Tag("<input_file>")]
_Video: TypeAlias = Annotated[InputVideo, Tag("<input_video>")]
_Said: TypeAlias = Annotated[OutputText, Tag("<output_text>")]
_Refused: TypeAlias = Annotated[Refusal, Tag("<refusal>")]

UserPart: TypeAlias = Annotated[_Text | _Image | _Audio | _Video | _File, tagged_by("type")]
AssistantPart: TypeAlias = Annotated[_Said | _Refused, tagged_by("type")]
ResultPart: TypeAlias = Annotated[_Text | _Image | _File, tagged_by("type")]
ContentPart: TypeAlias = InputText | InputImage | InputAudioPart | InputVideo | InputFile | OutputText | Refusal

_TextParts: TypeAlias = Annotated[list[InputText], Tag("<parts>")]
_UserParts: TypeAlias = Annotated[list[UserPart], Tag("<parts>")]
_AssistantParts: TypeAlias = Annotated[list[AssistantPart], Tag("<parts>")]
_ResultParts: TypeAlias = Annotated[list[ResultPart], Tag("<parts>")]


class _Message(Wire):
    """What messages of all roles may hold besides their content; `type` may be left out."""

    type: Literal["message"] = "message"
    id: ItemId | None = None
    status: Status | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class SystemMessage(_Message):
    role: Literal["system", "developer"]
    content: Annotated[TaggedStr | _TextParts, TEXT_OR_PARTS]


class UserMessage(_Message):
    role: Literal["user"]
    content: Annotated[TaggedStr | _UserParts, TEXT_OR_PARTS]


class AssistantMessage(_Message):
    role: Literal["assistant"]
    content: Annotated[TaggedStr | _AssistantParts, TEXT_OR_PARTS]


MessageItem: TypeAlias = Annotated[
    Annotated[SystemMessage, Tag("<system>")]
    | Annotated[SystemMessage, Tag("<developer>")]
    | Annotated[UserMessage, Tag("<user>")]
    | Annotated[AssistantMessage, Tag("<assistant>")],
    tagged_by("role"),
]

CallId: TypeAlias = Annotated[str, Field(min_length=1, max_length=64)]


class FunctionCall(Wire):
    type: Literal["function_call"]
    call_id: CallId
    name: str
    arguments: str
    id: ItemId | None = None
    status: Status | None = None
    caller: None = None
    namespace: None = None
    parsed_arguments: Any = None  # from the official client's stream helper, as above


class FunctionCallOutput(Wire):
    type: Literal["function_call_output"]
    call_id: CallId
    output: Annotated[TaggedStr | _ResultParts, TEXT_OR_PARTS]
    id: ItemId | None = None
    status: Status | None = None
    name: str | None = None
    caller: None = None
    namespace: None = None


class ImageGenerationCall(Wire):
    """A picture of an earlier answer. Clients send it back whole: what is read of it is the picture."""

    type: Literal["image_generation_call"]
    id: ItemId
    result: str | None
    status: Literal["in_progress", "completed", "generating", "failed"] | None = None
    action: str | None = None
    background: str | None = None
    output_format: str | None = None
    quality: str | None = None
    revised_prompt: str | None = None
    size: str | None = None


class Compaction(Wire):
    """Stands for a conversation that POST /v1/responses/compact has made shorter."""

    type: Literal["compaction"]
    encrypted_content: Annotated[str, Field(max_length=MAX_SEALED_CHARS)]
    id: ItemId | None = None
    created_by: str | None = None


class ItemReference(Wire):
    """Stands for an item that is kept here, by its id."""

    type: Literal["item_reference"] | None = None
    id: str


def _kind(value: Any) -> str | None:
    """Messages need not say that they are such, nor references."""
    known = value if isinstance(value, dict) else vars(value) if hasattr(value, "__dict__") else {}
    kind = known.get("type")
    if kind is None:
        kind = "item_reference" if "role" not in known and "id" in known else "message"
    return f"<{kind}>" if isinstance(kind, str) else None


_kind.__name__ = "type"

Item: TypeAlias = Annotated[
    Annotated[MessageItem, Tag("<message>")]
    | Annotated[FunctionCall, Tag("<function_call>")]
    | Annotated[FunctionCallOutput, Tag("<function_call_output>")]
    | Annotated[ImageGenerationCall, Tag("<image_generation_call>")]
    | Annotated[Compaction, Tag("<compaction>")]
    | Annotated[ItemReference, Tag("<item_reference>")],
    Discriminator(_kind),
]
Items: TypeAlias = Annotated[list[Item], Tag("<parts>")]
