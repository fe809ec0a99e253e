"""The items of a conversation -> the messages an engine reads, turn by turn, and the items as they are kept."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, NamedTuple

from sensorium.messages import Message, Part, Text, ToolCall, tool_list
from sensorium.server.errors import APIError, invalid, missing, unsupported
from sensorium.server.media import GivenFile, MediaReader
from sensorium.server.responses_items import (
    AssistantMessage,
    Compaction,
    ContentPart,
    FunctionCall,
    FunctionCallOutput,
    ImageGenerationCall,
    InputAudioPart,
    InputFile,
    InputImage,
    InputText,
    InputVideo,
    Item,
    ItemReference,
    OutputText,
    Refusal,
    UserMessage,
)
from sensorium.server.responses_request import FunctionTool

Json = dict[str, Any]


class Placed(NamedTuple):
    """An item, and what a client knows it by if there is something wrong with it."""

    param: str
    item: Item


class Turn(NamedTuple):
    """What a user says and everything up to when the user speaks again."""

    messages: list[Message]
    items: list[Placed]  # that they were made of


def opening(instructions: str | None, functions: Sequence[FunctionTool]) -> list[Message]:
    """What is told before the conversation: the tools on offer, then the instructions."""
    told: list[Message] = []
    if functions:
        offers = [function.model_dump(exclude_none=True, exclude={"type", "strict"}) for function in functions]
        told.append(Message(role="system", parts=(tool_list(offers),)))
    if instructions:
        told.append(Message(role="system", parts=(Text(text=instructions),)))
    return told


async def read_turns(items: Sequence[Placed], media: MediaReader, *, may_forget: bool) -> list[Turn]:
    """The conversation, oldest turn first. Raises APIError naming the item at fault.

    The newest turn is read first: if the media of older ones are more than the context holds and the client lets us
    forget (`may_forget`), they are left out, and so is all that came before.
    """
    _check_calls(items)
    media.expect_images(sum(_num_images(placed.item) for placed in items))
    turns: list[Turn] = []
    spans = _split(items)
    for index in range(len(spans) - 1, -1, -1):
        try:
            turns.insert(0, Turn(await _messages(spans[index], media), spans[index]))
        except APIError as error:
            is_newest = index == len(spans) - 1
            if not may_forget or is_newest or error.code != "context_length_exceeded":
                raise
            told = [placed for span in spans[: index + 1] for placed in span if _is_told(placed.item)]
            return [Turn(await _messages(told, media), told), *turns]
    return turns


def forget(turns: Sequence[Turn]) -> list[Turn]:
    """The turns without the oldest, of which only what the system said stays."""
    oldest, next = turns[:2]
    told = [message for message in oldest.messages if message.role == "system"]
    told_items = [placed for placed in oldest.items if _is_told(placed.item)]
    return [Turn([*told, *next.messages], [*told_items, *next.items]), *turns[2:]]


def _num_images(item: Item) -> int:
    match item:
        case ImageGenerationCall(result=str()):
            return 1
        case FunctionCallOutput(output=list(parts)) | UserMessage(content=list(parts)):
            return sum(isinstance(part, InputImage) for part in parts)
    return 0


def _check_calls(items: Sequence[Placed]) -> None:
    call_ids: set[str] = set()
    for param, item in items:
        if isinstance(item, FunctionCall):
            call_ids.add(item.call_id)
        if isinstance(item, FunctionCallOutput) and item.call_id not in call_ids:
            raise invalid("No earlier item calls a function by this id.", f"{param}.call_id")


def _is_told(item: Item) -> bool:
    return getattr(item, "role", None) in ("system", "developer")


def _split(items: Sequence[Placed]) -> list[list[Placed]]:
    """A turn begins with each message of a user's: of several in a row, the older may be forgotten alone."""
    spans: list[list[Placed]] = [[]]
    for placed in items:
        if isinstance(placed.item, UserMessage) and any(not _is_told(before.item) for before in spans[-1]):
            spans.append([])
        spans[-1].append(placed)
    return spans


async def _messages(items: Sequence[Placed], media: MediaReader) -> list[Message]:
    """What the assistant says, calls and draws in one go is one message, as the network was taught. Pictures and files
    that functions give are seen behind what they say, as if the user had shown them."""
    messages: list[Message] = []
    own: list[Part] = []
    shown: list[Part] = []
    for param, item in items:
        if shown and not isinstance(item, FunctionCallOutput):
            messages.append(Message(role="user", parts=tuple(shown)))
            shown = []
        if isinstance(item, AssistantMessage | FunctionCall | ImageGenerationCall):
            own += await _own_parts(item, media, param)
            continue
        if own:
            messages.append(Message(role="assistant", parts=tuple(own)))
            own = []
        if isinstance(item, FunctionCallOutput):
            said, more = await _result(item, media, f"{param}.output")
            messages.append(Message(role="tool", parts=tuple(said), tool_call_id=item.call_id))
            shown += more
        else:
            assert not isinstance(item, ItemReference | Compaction), "what an item stands for is looked up before"
            role = "system" if _is_told(item) else "user"
            parts = await _content(item.content, media, f"{param}.content")
            messages.append(Message(role=role, parts=tuple(parts)))
    if shown:
        messages.append(Message(role="user", parts=tuple(shown)))
    if own:
        messages.append(Message(role="assistant", parts=tuple(own)))
    return messages


async def _result(item: FunctionCallOutput, media: MediaReader, param: str) -> tuple[list[Part], list[Part]]:
    """What a function says, and what it shows."""
    if isinstance(item.output, str):
        return await _content(item.output, media, param), []
    said: list[Part] = []
    shown: list[Part] = []
    for index, part in enumerate(item.output):
        parts = await _content([part], media, param, first=index)
        (said if isinstance(part, InputText) else shown).extend(parts)
    return said, shown


async def _own_parts(
    item: AssistantMessage | FunctionCall | ImageGenerationCall, media: MediaReader, param: str
) -> list[Part]:
    match item:
        case FunctionCall():
            return [ToolCall(id=item.call_id, name=item.name, arguments=item.arguments)]
        case ImageGenerationCall(result=str(result)):
            return [await media.still(f"data:image/png;base64,{result}", f"{param}.result")]
        case ImageGenerationCall():
            return []
        case AssistantMessage():
            return await _content(item.content, media, f"{param}.content")


async def _content(
    content: str | Sequence[ContentPart], media: MediaReader, param: str, *, first: int = 0
) -> list[Part]:
    """`first` is the number of the first part."""
    if isinstance(content, str):
        return [Text(text=content)] if content else []
    parts: list[Part] = []
    for index, part in enumerate(content, first):
        where = f"{param}[{index}]"
        match part:
            case InputText() | OutputText():
                parts.append(Text(text=part.text))
            case Refusal():
                parts.append(Text(text=part.refusal))
            case InputImage():
                parts.append(await _image(part, media, where))
            case InputAudioPart():
                sound = part.input_audio
                parts.append(await media.audio(sound.data, sound.format, f"{where}.input_audio"))
            case InputVideo():
                parts.append(await _film(part, media, where))
            case InputFile():
                if part.file_url:
                    raise unsupported(f"{where}.file_url", "send the file in `file_data`, or upload it")
                given = GivenFile(part.file_id, part.file_data, part.filename, part.detail or "auto")
                parts += await media.file(given, where)
    return parts


async def _image(part: InputImage, media: MediaReader, param: str) -> Part:
    detail = part.detail or "auto"
    if detail == "original":
        raise unsupported(f"{param}.detail", "pictures are seen whole ('low'), or by their quarters too ('high')")
    if part.file_id:
        return await media.kept_image(part.file_id, detail, f"{param}.file_id")
    if not part.image_url:
        raise missing(f"{param}.image_url")
    return await media.image(part.image_url, detail, f"{param}.image_url")


async def _film(part: InputVideo, media: MediaReader, param: str) -> Part:
    if part.file_id:
        return await media.kept_film(part.file_id, part.fps, f"{param}.file_id")
    if not part.video_url:
        raise missing(f"{param}.video_url")
    return await media.film(part.video_url, part.fps, f"{param}.video_url")


# --- items as they are kept and shown: each with an id and a status


def resource(item: Item) -> Json:
    match item:
        case FunctionCall():
            kept = {"call_id": item.call_id, "name": item.name, "arguments": item.arguments}
        case FunctionCallOutput():
            output = item.output if isinstance(item.output, str) else [_part(part) for part in item.output]
            kept = {"call_id": item.call_id, "output": output}
        case ImageGenerationCall():
            return {**item.model_dump(exclude_none=True), "result": item.result, "status": item.status or "completed"}
        case Compaction():
            return {"id": item.id or new_id(item.type), **item.model_dump(include={"type", "encrypted_content"})}
        case ItemReference():
            raise AssertionError("references are looked up before")
        case _:
            own = isinstance(item, AssistantMessage)
            kind = "output_text" if own else "input_text"
            text = {"type": kind, "text": item.content, **({"annotations": [], "logprobs": []} if own else {})}
            content = [text] if isinstance(item.content, str) else [_part(part) for part in item.content]
            phase = {"phase": item.phase} if item.phase else {}
            kept = {"role": item.role, "content": content, **phase}
    id = item.id or new_id(item.type)
    return {"id": id, "type": item.type, "status": item.status or "completed", **kept}


def new_id(kind: str) -> str:
    prefixes = {
        "message": "msg",
        "function_call": "fc",
        "function_call_output": "fco",
        "image_generation_call": "ig",
        "compaction": "cmp",
    }
    return f"{prefixes[kind]}_{secrets.token_hex(16)}"


def _part(part: ContentPart) -> Json:
    body = part.model_dump(exclude_none=True, exclude={"parsed", "prompt_cache_breakpoint"})
    match part:
        case InputImage():
            return {"detail": "auto", **body}
        case OutputText():
            return {"annotations": [], "logprobs": [], **body}
    return body
