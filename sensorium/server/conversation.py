"""A call's conversation: its items in order, what was heard and said in them, and how an engine reads them."""

from __future__ import annotations

import asyncio
import base64
import secrets
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from math import inf
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from sensorium.engine.request import InputTranscriptDelta
from sensorium.messages import Audio, Image, Message, Part, Role, Text, ToolCall, Video, WordTime
from sensorium.server.comfort_noise import over_comfort_noise
from sensorium.server.errors import invalid, unsupported
from sensorium.server.media import MediaReader
from sensorium.server.realtime_audio import Playback, WireDecoder, WireFormat, pieces
from sensorium.server.realtime_events import (
    AssistantItem,
    FunctionCallItem,
    FunctionCallOutputItem,
    InputAudioPart,
    InputImagePart,
    InputTextPart,
    ItemReference,
    NewItem,
    ResponseOptions,
)
from sensorium.server.recording import Recording

FRAME_MS = 80  # of an engine's sound, as `Spoken` counts it
_ITEM_BYTES = 4096  # that an item takes besides what is in it
_PIECE_CHARS = 2**20  # of base64 are decoded at once: 4 ms

Json: TypeAlias = dict[str, Any]
Sounds: TypeAlias = Mapping[Recording, np.ndarray]  # of items: what an engine hears
Status: TypeAlias = Literal["completed", "incomplete", "in_progress"]


class Spoken(NamedTuple):
    """A piece of a spoken answer's text, and where in its sound it begins to be said."""

    text: str
    start_ms: float


@dataclass(kw_only=True, eq=False)
class Content:
    """One part of a message. `kind` is its type on the wire; a heard or spoken part has sound."""

    kind: Literal["input_text", "input_audio", "input_image", "output_text", "output_audio"]
    text: str | None = ""  # of sound: its transcript, None where it is not known yet
    sound: Recording | None = None  # at the engine's rate
    image: Image | Video | None = None  # an animated picture is a film
    image_url: str = ""
    time_ms: float | None = None  # of a camera's frame
    spoken: list[Spoken] = field(default_factory=list)
    num_sent: int = 0  # samples of a spoken part that were sent, as they are heard

    @property
    def said(self) -> str:
        """What of a spoken part was begun to be said."""
        return "".join(piece.text for piece in self.spoken)

    @property
    def words(self) -> tuple[WordTime, ...]:
        """When each piece of a spoken part is said: until the next one is."""
        assert self.sound is not None
        times_ms = [*(piece.start_ms for piece in self.spoken), 1000.0 * len(self.sound) / self.sound.rate_hz]
        words: list[WordTime] = []
        at = 0
        for piece, end_ms in zip(self.spoken, times_ms[1:], strict=True):
            begin, at = at + piece.text.startswith(" "), at + len(piece.text)
            words.append(WordTime(min(begin, at - 1), at, piece.start_ms, max(piece.start_ms, end_ms)))
        return tuple(words)

    def keep_begun(self) -> None:
        """The network is not to know of words that were not begun to be said; the client was told of them."""
        assert self.sound is not None
        end_ms = 1000.0 * len(self.sound) / self.sound.rate_hz
        self.spoken = [piece for piece in self.spoken if piece.start_ms < end_ms]

    @property
    def num_picture_bytes(self) -> int:
        match self.image:
            case Image():
                seen = self.image.pixels.nbytes
            case Video():
                seen = sum(frame.pixels.nbytes for frame in self.image.frames)
            case None:
                seen = 0
        return seen + sys.getsizeof(self.image_url)

    def drop_picture(self) -> None:
        """Nobody sees it any more, but that there was one is still known."""
        self.image, self.image_url = None, ""

    @property
    def is_heard(self) -> bool:
        """Whether an engine is given sound."""
        return self.sound is not None and not self.sound.is_gone

    def wire(self) -> Json:
        match self.kind:
            case "input_image":
                timed = {} if self.time_ms is None else {"time_ms": self.time_ms}
                return {"type": self.kind, "image_url": self.image_url, **timed}
            case "input_audio" | "output_audio":
                return {"type": self.kind, "transcript": self.text}
            case _:
                return {"type": self.kind, "text": self.text}


@dataclass(kw_only=True, eq=False)
class Item:
    id: str
    role: Role
    status: Status = "completed"
    content: list[Content] = field(default_factory=list)
    call: ToolCall | None = None
    call_output: str | None = None
    voice: str = ""  # of what the assistant says in it
    speed: float = 1.0  # at which it is heard: an engine's sound of N ms takes N / speed
    revision: int = 0  # how often it was cut short

    @property
    def key(self) -> tuple[str, int]:
        """What an engine has read is still so for as long as this is."""
        return self.id, self.revision

    @property
    def num_bytes(self) -> int:
        """That it takes, without its sound."""
        texts = [part.text for part in self.content] + [self.call_output]
        texts += [self.call.name, self.call.arguments] if self.call is not None else []
        pictures = sum(part.num_picture_bytes for part in self.content)
        return _ITEM_BYTES + pictures + sum(sys.getsizeof(text) for text in texts if text is not None)

    def wire(self) -> Json:
        head: Json = {"id": self.id, "object": "realtime.item"}
        if self.call is not None and self.call_output is None:
            call = {"call_id": self.call.id, "name": self.call.name, "arguments": self.call.arguments}
            return {**head, "type": "function_call", "status": self.status, **call}
        if self.call is not None:
            return {**head, "type": "function_call_output", "call_id": self.call.id, "output": self.call_output}
        content = [part.wire() for part in self.content]
        return {**head, "type": "message", "status": self.status, "role": self.role, "content": content}

    async def with_sound(self, format: WireFormat, playback: Playback) -> Json:
        """As `wire`, with the sound of its parts as it was heard, in base64: the answer to
        `conversation.item.retrieve`. What was said here is marked as it was when it was played."""
        body = self.wire()
        for part, shown in zip(self.content, body.get("content", ()), strict=False):
            if part.sound is not None and not part.sound.is_gone:
                again = partial(playback.again, format=format, speed=self.speed, is_ours=self.role == "assistant")
                data = await asyncio.to_thread(again, await part.sound.load())
                shown["audio"] = base64.b64encode(data).decode()
        return body

    @property
    def sounds(self) -> list[Recording]:
        return [part.sound for part in self.content if part.sound is not None]

    def heard_ms(self, rate_hz: int) -> int:
        """How long a listener hears the sound of a spoken part."""
        sound = self.content[0].sound
        return 0 if sound is None else round(1000 * len(sound) / rate_hz / self.speed)

    def check_truncation(self, content_index: int, audio_end_ms: int, rate_hz: int) -> None:
        """Raises APIError where a client can't have heard so much of it."""
        if self.role != "assistant" or not self.content or self.content[0].kind != "output_audio":
            raise invalid("Only spoken answers of the assistant can be truncated.", "item_id")
        if content_index != 0:
            raise invalid("Only content 0 can be truncated.", "content_index")
        length_ms = self.heard_ms(rate_hz)
        if audio_end_ms > length_ms:
            message = f"Audio content of {length_ms}ms is already shorter than {audio_end_ms}ms"
            raise invalid(message, "audio_end_ms")

    def truncate(self, audio_end_ms: int, rate_hz: int) -> float | None:
        """Keeps what was heard of a spoken part by then: its sound, and the words that had begun to be said. Returns
        how much that is on the clock of the engine's sound, None if nothing went."""
        part = self.content[0]
        assert part.sound is not None
        is_whole, num_samples = self.status == "completed", round(audio_end_ms * self.speed * rate_hz / 1000)
        if num_samples >= len(part.sound) or (is_whole and audio_end_ms >= self.heard_ms(rate_hz)):
            part.text = part.text if is_whole else part.said  # the client was told of words that nobody will say
            return None
        end_ms = 1000.0 * num_samples / rate_hz
        # by the last frame of a whole answer all its words have begun
        last_ms = 1000.0 * len(part.sound) / rate_hz - FRAME_MS if is_whole else inf
        part.sound.cut(num_samples)
        part.spoken = [piece for piece in part.spoken if min(piece.start_ms, last_ms) < end_ms]
        part.text = part.said
        self.status = "incomplete"
        self.revision += 1
        return end_ms

    @property
    def is_unheard(self) -> bool:
        """Whether it is an answer that was cut before any sound of it: for an engine there was none."""
        sound = self.content[0].sound if self.content else None
        return self.role == "assistant" and sound is not None and not len(sound)

    def messages(self, sounds: Sounds) -> list[Message]:
        """What an engine reads of it: one, or none."""
        return [] if self.is_unheard else [self.message(sounds)]

    def message(self, sounds: Sounds) -> Message:
        if self.call is not None and self.call_output is not None:
            return Message(role="tool", parts=(Text(text=self.call_output),), tool_call_id=self.call.id)
        if self.call is not None:
            return Message(role="assistant", parts=(self.call,))
        parts: list[Part] = []
        for is_filmed, run in groupby(self.content, key=lambda part: part.time_ms is not None):
            told = list(run)
            seen = [part for part in told if part.kind != "input_image" or part.image is not None]
            if seen:
                parts += [_filmed(seen)] if is_filmed else [self._part(part, sounds) for part in seen]
        return Message(role=self.role, parts=tuple(parts))

    def _part(self, part: Content, sounds: Sounds) -> Part:
        if part.image is not None:
            return part.image
        if part.sound is not None and not part.sound.is_gone:
            waveform, rate_hz = sounds[part.sound], part.sound.rate_hz
            if part.kind == "input_audio":
                return Audio(waveform=waveform, sample_rate_hz=rate_hz, transcript=part.text)
            return Audio(
                waveform=waveform,
                sample_rate_hz=rate_hz,
                transcript=part.said,
                words=part.words,
                voice=self.voice,
                cut=self.status != "completed",
            )
        return Text(text=part.said or part.text or "")


async def load_sounds(items: Iterable[Item]) -> dict[Recording, np.ndarray]:
    """For `Item.messages`. What is packed is unpacked in a thread: others have their turn."""
    sounds: dict[Recording, np.ndarray] = {}
    for part in (part for item in items for part in item.content):
        if part.sound is not None and not part.sound.is_gone:
            waveform = await part.sound.load()
            sounds[part.sound] = over_comfort_noise(waveform) if part.kind == "input_audio" else waveform
    return sounds


class Transcripts:
    """What an engine writes down of the clips in items whose words are not known yet, in their order."""

    def __init__(self, items: Iterable[Item]) -> None:
        parts = (part for item in items for part in item.content)
        self._parts = [part for part in parts if part.is_heard and part.text is None]
        self._texts = [""] * len(self._parts)

    def add(self, event: InputTranscriptDelta) -> None:
        self._texts[event.clip] += event.text

    def keep(self) -> None:
        """Once heard, a clip need not be heard again."""
        for part, text in zip(self._parts, self._texts, strict=True):
            part.text = text or None


class Conversation:
    """Items by id, in order."""

    def __init__(self, *, max_sound_bytes: int, max_bytes: int) -> None:
        """`max_bytes` of the items without their sound."""
        self.id = new_id("conv")
        self._max_sound_bytes = max_sound_bytes
        self._max_bytes = max_bytes
        self._items: list[Item] = []

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    @property
    def last_id(self) -> str | None:
        return self._items[-1].id if self._items else None

    def find(self, item_id: str) -> Item:
        """Raises APIError naming `item_id` if there is none."""
        for item in self._items:
            if item.id == item_id:
                return item
        raise invalid(f"There is no item '{item_id[:64]}' in the conversation.", "item_id", "item_not_found")

    def add(self, item: Item, *, after: str | None = None, is_clients: bool = False) -> str | None:
        """Appends, or inserts behind item `after` ("root": before all). Returns the id of the item before it. For an
        item of the client's the oldest pictures go, if need be. Raises APIError, and has then changed nothing."""
        if any(known.id == item.id for known in self._items):
            raise invalid(f"An item '{item.id}' is there already.", "item.id", "item_id_taken")
        at = len(self._items)
        if after == "root":
            at = 0
        elif after is not None:
            ids = [known.id for known in self._items]
            if after not in ids:
                raise invalid(
                    f"There is no item '{after[:64]}' in the conversation.", "previous_item_id", "item_not_found"
                )
            at = ids.index(after) + 1
        if is_clients:
            self._make_room(item)
        self._items.insert(at, item)
        return self._items[at - 1].id if at else None

    def before(self, item: Item) -> str | None:
        """The id of the item before this one."""
        at = self._items.index(item) if item in self._items else 0  # the client may have deleted it meanwhile
        return self._items[at - 1].id if at else None

    def remove(self, item: Item) -> None:
        self._items.remove(item)

    @property
    def last_spoken(self) -> Item | None:
        """The newest item that the assistant says."""
        return next((item for item in reversed(self._items) if item.role == "assistant" and item.sounds), None)

    def _make_room(self, item: Item) -> None:
        """For an item that is not added yet. Raises APIError if all pictures do not make enough."""
        pictures = [part for known in self._items for part in known.content if part.image is not None]
        excess = sum(known.num_bytes for known in self._items) + item.num_bytes - self._max_bytes
        if excess > sum(part.num_picture_bytes for part in pictures):
            message = f"The items of the call would hold more than {self._max_bytes} bytes: delete some of them."
            raise invalid(message, "item", "conversation_too_large")
        for part in pictures:
            if excess <= 0:
                return
            excess -= part.num_picture_bytes
            part.drop_picture()

    def cut_short(self, rate_hz: int) -> None:
        """Nobody goes on with what is under way: it stays as far as it was sent, or not at all."""
        for item in [item for item in self._items if item.status == "in_progress"]:
            part = item.content[0] if item.content else None
            if part is not None and part.sound is not None:
                item.truncate(1000 * part.num_sent // rate_hz, rate_hz)
                part.keep_begun()
            item.status = "incomplete"
            if part is None or not (part.sound or part.text):
                self.remove(item)

    @property
    def num_bytes(self) -> int:
        """That all of it takes."""
        return sum(item.num_bytes + sum(sound.num_bytes for sound in item.sounds) for item in self._items)

    async def pack(self, items: Sequence[Item]) -> None:
        """The sound of complete items takes less room from now on. If it is too much all the same, that of the oldest
        items goes: they are their transcripts then."""
        for item in items:
            for sound in item.sounds:
                await sound.pack()
        newest_first = [sound for item in reversed(self._items) for sound in reversed(item.sounds)]
        num_bytes = 0
        for number, sound in enumerate(newest_first):
            num_bytes += sound.num_bytes
            if number and num_bytes > self._max_sound_bytes:
                sound.drop()


def _filmed(frames: Sequence[Content]) -> Video:
    """Frames of a camera in a row: a film that begins with the first of them."""
    times_ms = [frame.time_ms or 0.0 for frame in frames]
    images = [frame.image for frame in frames if isinstance(frame.image, Image)]
    return Video(frames=tuple(images), times_ms=tuple(time_ms - times_ms[0] for time_ms in times_ms))


async def read_prompt(
    options: ResponseOptions, conversation: Conversation, media: MediaReader, *, format: WireFormat, rate_hz: int
) -> list[Item]:
    """What a response is about: the conversation, or items of its own. Raises APIError as `read_item` does."""
    if options.input is None:
        return list(conversation)
    items: list[Item] = []
    for index, new in enumerate(options.input):
        if isinstance(new, ItemReference):
            items.append(conversation.find(new.id))
        else:
            param = f"response.input[{index}]"
            items.append(await read_item(new, media, format=format, rate_hz=rate_hz, param=param))
    return items


async def read_item(new: NewItem, media: MediaReader, *, format: WireFormat, rate_hz: int, param: str) -> Item:
    """An item that the client made, its media decoded. Raises APIError naming the part at fault."""
    item_id = new.id or new_id("item")
    if isinstance(new, FunctionCallItem):
        call = ToolCall(id=new.call_id or new_id("call"), name=new.name, arguments=new.arguments)
        return Item(id=item_id, role="assistant", call=call)
    if isinstance(new, FunctionCallOutputItem):
        call = ToolCall(id=new.call_id, name="", arguments="")
        return Item(id=item_id, role="tool", call=call, call_output=new.output)
    content: list[Content] = []
    for index, part in enumerate(new.content):
        where = f"{param}.content[{index}]"
        match part:
            case InputTextPart():
                content.append(Content(kind="input_text", text=part.text))
            case InputImagePart():
                content.append(await _picture(part, content, media, where))
            case InputAudioPart():
                sound = await _clip(part, format, rate_hz, f"{where}.audio")
                content.append(Content(kind="input_audio", text=part.transcript, sound=sound))
            case _:
                content.append(Content(kind="output_text", text=part.text))
    role: Role = "assistant" if isinstance(new, AssistantItem) else new.role
    return Item(id=item_id, role=role, content=content)


async def _clip(part: InputAudioPart, format: WireFormat, rate_hz: int, where: str) -> Recording:
    decoder, sound = WireDecoder(format, rate_hz), Recording(rate_hz=rate_hz)
    for piece in pieces(await from_base64(part.audio, where), format):
        sound.append(decoder.push(piece))
        await asyncio.sleep(0)
    sound.append(decoder.push(b"", last=True))
    if not len(sound):
        raise invalid("The clip holds no sound.", where)
    return sound


async def _picture(part: InputImagePart, before: Sequence[Content], media: MediaReader, where: str) -> Content:
    url, time_ms = part.image_url, part.time_ms
    if time_ms is None:
        image = await media.image(url, part.detail, f"{where}.image_url")
        return Content(kind="input_image", text=None, image=image, image_url=url)
    if part.detail == "high":
        raise unsupported(f"{where}.detail", "a camera's frames are seen in low detail")
    if before and before[-1].time_ms is not None and before[-1].time_ms > time_ms:
        raise invalid("A camera's frames come in the order of their times.", f"{where}.time_ms")
    frame = await media.frame(url, f"{where}.image_url")
    return Content(kind="input_image", text=None, image=frame, image_url=url, time_ms=time_ms)


async def from_base64(text: str, param: str) -> bytes:
    """Piece by piece: between them everybody else has a turn. Raises APIError."""
    decoded: list[bytes] = []
    for start in range(0, len(text), _PIECE_CHARS):
        piece, is_last = text[start : start + _PIECE_CHARS], start + _PIECE_CHARS >= len(text)
        try:
            decoded.append(base64.b64decode(piece, validate=True))
        except ValueError:
            raise invalid("The sound is not valid base64.", param) from None
        if not is_last and piece.endswith("="):  # padding is only at the end
            raise invalid("The sound is not valid base64.", param)
        if not is_last:
            await asyncio.sleep(0)
    return b"".join(decoded)


def new_id(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(12)}"
