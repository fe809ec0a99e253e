"""The messages of a chat request -> the messages an engine reads: media decoded, tools told, replies recalled."""

from __future__ import annotations

from collections.abc import Sequence

from sensorium.messages import Message, Part, Text, ToolCall, tool_list
from sensorium.server.chat_request import (
    AssistantMessage,
    AudioPart,
    ContentPart,
    FilePart,
    FunctionMessage,
    ImagePart,
    RefusalPart,
    RequestMessage,
    TextPart,
    Tool,
    ToolMessage,
    VideoPart,
)
from sensorium.server.errors import invalid, missing
from sensorium.server.media import GivenFile, MediaReader
from sensorium.server.spoken_replies import SpokenReplies


async def to_messages(
    said: Sequence[RequestMessage], tools: Sequence[Tool], media: MediaReader, replies: SpokenReplies
) -> list[Message]:
    """Raises APIError naming the part at fault."""
    messages = []
    call_ids: set[str] = set()
    media.expect_images(sum(map(_num_images, said)))
    for index, message in enumerate(said):
        param = f"messages[{index}]"
        parts: list[Part] = []
        if not isinstance(message, ToolMessage | FunctionMessage) and message.name:
            parts.append(Text(text=f"{message.name}: "))  # the network knows roles only: a name is told in words
        parts += await _content(message.content, media, f"{param}.content")
        if isinstance(message, AssistantMessage):
            parts += await _assistant_parts(message, media, replies, param)
            call_ids.update(call.id for call in message.tool_calls or ())
        if not isinstance(message, ToolMessage | FunctionMessage):
            role = "system" if message.role == "developer" else message.role
            messages.append(Message(role=role, parts=tuple(parts)))
            continue
        if isinstance(message, FunctionMessage):
            messages.append(Message(role="tool", parts=tuple(parts)))
            continue
        if message.tool_call_id not in call_ids:
            raise invalid("No earlier message calls a tool by this id.", f"{param}.tool_call_id")
        messages.append(Message(role="tool", parts=tuple(parts), tool_call_id=message.tool_call_id))
    return tell_tools(messages, tools)


def _num_images(message: RequestMessage) -> int:
    content = message.content if isinstance(message.content, list) else ()
    drawn = message.images or () if isinstance(message, AssistantMessage) else ()
    return sum(isinstance(part, ImagePart) for part in content) + len(drawn)


async def _content(content: str | Sequence[ContentPart] | None, media: MediaReader, param: str) -> list[Part]:
    if content is None or isinstance(content, str):
        return [Text(text=content)] if content else []
    parts: list[Part] = []
    for index, part in enumerate(content):
        where = f"{param}[{index}]"
        match part:
            case TextPart():
                parts.append(Text(text=part.text))
            case RefusalPart():
                parts.append(Text(text=part.refusal))
            case ImagePart():
                picture = part.image_url
                parts.append(await media.image(picture.url, picture.detail, f"{where}.image_url"))
            case AudioPart():
                sound = part.input_audio
                parts.append(await media.audio(sound.data, sound.format, f"{where}.input_audio"))
            case VideoPart():
                film = part.video_url
                parts.append(await media.film(film.url, film.fps, f"{where}.video_url"))
            case FilePart():
                file = part.file
                given = GivenFile(file.file_id, file.file_data, file.filename)
                parts += await media.file(given, f"{where}.file")
    return parts


async def _assistant_parts(
    message: AssistantMessage, media: MediaReader, replies: SpokenReplies, param: str
) -> list[Part]:
    """What an assistant's message holds besides its content: an earlier reply, sent back by the client."""
    parts: list[Part] = []
    if message.refusal:
        parts.append(Text(text=message.refusal))
    if message.audio:
        audio = await replies.find(message.audio.id)
        if audio is None:
            raise invalid("There is no such spoken reply, or it has expired.", f"{param}.audio.id")
        parts.append(audio)
    for index, drawn in enumerate(message.images or ()):
        parts.append(await media.still(drawn.image_url.url, f"{param}.images[{index}].image_url"))
    for call in message.tool_calls or ():
        parts.append(ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments))
    if called := message.function_call:
        parts.append(ToolCall(id="", name=called.name, arguments=called.arguments))
    if not parts and message.content is None:
        raise missing(f"{param}.content")
    return parts


def tell_tools(messages: Sequence[Message], tools: Sequence[Tool]) -> list[Message]:
    """The messages with the tools on offer told first, in the system's words: a compact JSON object on each line."""
    if not tools:
        return list(messages)
    functions = [tool.function.model_dump(exclude_none=True, exclude={"strict"}) for tool in tools]
    return [Message(role="system", parts=(tool_list(functions),)), *messages]
