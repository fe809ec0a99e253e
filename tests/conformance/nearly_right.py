"""Requests nearly right, for every endpoint that takes a body: strategies of hypothesis."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from hypothesis import strategies as st

from sensorium.server.chat_request import ChatRequest
from sensorium.server.responses_compact import CompactRequest
from sensorium.server.responses_request import CountRequest, ResponseRequest
from sensorium.server.wire import Wire
from tests.server.film_samples import film_part, movie
from tests.server.samples import b64, data_url, picture, wav

_FILM = movie(seconds=0.5, fps=2)

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**65), 2**65),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["", "text", "audio", "user", "alloy", "wav", "auto", "http://[", "data:,", "\x00", "\u202e"]),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
ITEMS = st.sampled_from(
    [
        "hi",
        {"role": "user", "content": "hi"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"role": "user", "content": [{"type": "input_image", "image_url": data_url(picture())}]},
        {"role": "user", "content": [{"type": "input_image", "image_url": data_url(picture()), "detail": "high"}]},
        {"role": "user", "content": [{"type": "input_video", "video_url": data_url(_FILM, "video/mp4"), "fps": 2}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "hi", "annotations": []}]},
        {"type": "function_call", "call_id": "c", "name": "add", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "3"},
        {"type": "image_generation_call", "id": "ig_1", "result": "AAAA", "status": "completed"},
        {"type": "compaction", "id": "cmp_1", "encrypted_content": "AAAA"},
        {"type": "item_reference", "id": "msg_1"},
    ]
)
TOOLS = st.sampled_from([{"type": "function", "name": "add"}, {"type": "image_generation"}])
PARTS = st.sampled_from(
    [
        {"type": "text", "text": "hi"},
        {"type": "image_url", "image_url": {"url": data_url(picture())}},
        {"type": "input_audio", "input_audio": {"data": b64(wav(seconds=0.1)), "format": "wav"}},
        film_part(_FILM, fps=1),
        {"type": "file", "file": {"file_data": b64(b"%PDF-1.4"), "filename": "a.pdf"}},
        {"type": "refusal", "refusal": "no"},
    ]
)


@st.composite
def damaged(draw: st.DrawFn, value: Any) -> Any:
    """A value with one thing in it replaced by something else, dropped, or added."""
    if isinstance(value, dict) and value and draw(st.integers(0, 3)):
        key = draw(st.sampled_from(sorted(value)))
        return {**value, key: draw(damaged(value[key]))}
    if isinstance(value, list) and value and draw(st.integers(0, 3)):
        index = draw(st.integers(0, len(value) - 1))
        return [*value[:index], draw(damaged(value[index])), *value[index + 1 :]]
    if isinstance(value, dict) and draw(st.booleans()):
        return {**value, draw(st.text(max_size=6)): draw(JSON)}
    return draw(JSON)


@st.composite
def requests(draw: st.DrawFn) -> Any:
    roles = st.sampled_from(["system", "developer", "user", "assistant", "tool"])
    messages = [
        {"role": draw(roles), "content": draw(st.text(max_size=5) | st.lists(PARTS, max_size=2))}
        for _ in range(draw(st.integers(1, 3)))
    ]
    request: dict[str, Any] = {"model": "gpt-4o", "messages": messages}
    for name in draw(st.lists(st.sampled_from(sorted(ChatRequest.model_fields)), max_size=3)):
        request.setdefault(name, draw(JSON))
    return draw(damaged(request) | st.just(request))


@st.composite
def asked_for_responses(draw: st.DrawFn) -> Any:
    request: dict[str, Any] = {"model": "gpt-4o", "input": draw(st.text(max_size=5) | st.lists(ITEMS, max_size=3))}
    if draw(st.booleans()):
        choices = ["auto", "required", "none", {"type": "function", "name": "add"}]
        request |= {"tools": draw(st.lists(TOOLS, max_size=2)), "tool_choice": draw(st.sampled_from(choices))}
    for name in draw(st.lists(st.sampled_from(sorted(ResponseRequest.model_fields)), max_size=3)):
        request.setdefault(name, draw(JSON))
    return draw(damaged(request) | st.just(request))


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"at": {"type": "string", "format": "date", "allOf": [{"minLength": 1}]}, "n": {"$ref": "#/$defs/n"}},
    "required": ["at", "n"],
    "minProperties": 2,
    "$defs": {"n": {"anyOf": [{"type": "integer", "multipleOf": 3, "minimum": 0}, {"type": "null"}]}},
}
TOOL = {"type": "function", "function": {"name": "f", "parameters": SCHEMA, "strict": True}}
NAMED = {"type": "function", "function": {"name": "f"}}
HELD: dict[str, Any] = {
    "model": "gpt-4o",
    "messages": [{"role": "user", "content": "hi"}],
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}},
    "tools": [TOOL],
    "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NAMED]}},
    "logit_bias": {"3": 1.5},
    "logprobs": True,
    "top_logprobs": 2,
}


class Sent(NamedTuple):
    path: str
    body: bytes
    media_type: str


_SESSION: dict[str, Any] = {
    "type": "realtime",
    "model": "gpt-realtime",
    "output_modalities": ["audio"],
    "instructions": "Be brief.",
    "audio": {
        "input": {"format": {"type": "audio/pcm", "rate": 24000}, "turn_detection": {"type": "server_vad"}},
        "output": {"voice": "alloy", "speed": 1.0},
    },
    "tools": [{"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}],
    "tool_choice": "auto",
    "max_output_tokens": "inf",
}
_FLAT: dict[str, Any] = {
    "model": "gpt-4o-realtime-preview",
    "modalities": ["audio", "text"],
    "voice": "alloy",
    "input_audio_format": "pcm16",
    "turn_detection": {"type": "server_vad", "threshold": 0.5},
    "temperature": 0.8,
    "client_secret": {"expires_after": {"anchor": "created_at", "seconds": 60}},
}
_SAID = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}
_SEEN = {"type": "input_image", "image_url": data_url(picture()), "detail": "low", "time_ms": 40.0}
_CLIP = {"type": "input_audio", "audio": b64(bytes(9600)), "transcript": "hi"}
_ITEM_EVENT: dict[str, Any] = {"type": "conversation.item.create", "previous_item_id": "root", "event_id": "mine"}
_ANSWER: dict[str, Any] = {
    **{"conversation": "none", "output_modalities": ["text"], "instructions": "Be brief.", "max_output_tokens": 9},
    **{"metadata": {"a": "b"}, "tools": _SESSION["tools"], "tool_choice": "auto"},
    "audio": {"output": {"voice": "alloy", "format": {"type": "audio/pcmu"}}},
    "input": [_SAID, {"type": "item_reference", "id": "known"}],
}
# What a client may say in a call, in which there is an item `known`.
CLIENT_EVENTS: list[dict[str, Any]] = [
    {"type": "session.update", "session": _SESSION},
    {"type": "input_audio_buffer.append", "audio": b64(bytes(9600))},
    {"type": "input_audio_buffer.commit"},
    {"type": "input_audio_buffer.clear"},
    {**_ITEM_EVENT, "item": {**_SAID, "id": "own", "status": "completed"}},
    {**_ITEM_EVENT, "item": {**_SAID, "content": [_CLIP, _SEEN]}},
    {**_ITEM_EVENT, "item": {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}},
    {**_ITEM_EVENT, "item": {"type": "function_call_output", "call_id": "c", "output": "3"}},
    {"type": "conversation.item.retrieve", "item_id": "known"},
    {"type": "conversation.item.delete", "item_id": "known"},
    {"type": "conversation.item.truncate", "item_id": "known", "content_index": 0, "audio_end_ms": 0},
    {"type": "response.create", "response": _ANSWER},
    {"type": "response.cancel", "response_id": "resp_1"},
]
# What a client of the retired beta shape says in other words.
BETA_EVENTS: list[dict[str, Any]] = [
    {
        "type": "session.update",
        "session": {
            **{"modalities": ["audio", "text"], "instructions": "Be brief.", "voice": "alloy", "temperature": 0.8},
            **{"input_audio_format": "pcm16", "output_audio_format": "g711_ulaw", "speed": 1.0, "tool_choice": "auto"},
            **{"input_audio_transcription": {"model": "whisper-1"}, "turn_detection": {"threshold": 0.5}},
            **{"tools": [{"name": "f", "parameters": {}}], "max_response_output_tokens": "inf", "tracing": None},
        },
    },
    {**_ITEM_EVENT, "item": {"role": "assistant", "type": "message", "content": [{"type": "text", "text": "hi"}]}},
    {**_ITEM_EVENT, "item": {**_SAID, "content": [_CLIP, {"type": "input_text", "text": "hi"}]}},
    {
        "type": "response.create",
        "response": {
            **{"conversation": "none", "modalities": ["text"], "max_response_output_tokens": 9, "temperature": 0.8},
            **{"voice": "alloy", "output_audio_format": "pcm16", "metadata": {"a": "b"}, "input": [_SAID]},
        },
    },
]
_HEARD: dict[str, Any] = {
    "input_audio_format": "pcm16",
    "input_audio_transcription": {"model": "gpt-4o-transcribe", "language": "en"},
    "turn_detection": {"type": "server_vad", "silence_duration_ms": 500},
}
_COMPLETION: dict[str, Any] = {
    "model": "gpt-3.5-turbo-instruct",
    "prompt": ["hi", "ho"],
    "n": 2,
    "stop": ["."],
    "logit_bias": {"3": 1},
    "max_tokens": 8,
    "stream": False,
}
_EMBEDDING: dict[str, Any] = {
    "model": "text-embedding-3-small",
    "input": ["hi", "ho"],
    "dimensions": 8,
    "encoding_format": "float",
}
_DRAWING: dict[str, Any] = {
    "model": "gpt-image-1",
    "prompt": "a square",
    "n": 1,
    "size": "64x64",
    "quality": "low",
    "output_format": "webp",
    "output_compression": 50,
    "background": "auto",
    "stream": False,
    "partial_images": 0,
}
_CHANGE: dict[str, Any] = {
    **_DRAWING,
    "images": [{"image_url": data_url(picture())}, {"file_id": "file-abc"}],
    "mask": {"image_url": data_url(picture(mode="RGBA", color=(0, 0, 0, 0)))},
    "input_fidelity": "high",
}
_SPEECH: dict[str, Any] = {
    "model": "tts-1",
    "input": "hi",
    "voice": "alloy",
    "instructions": "whisper",
    "response_format": "pcm",
    "speed": 1.5,
    "stream_format": "sse",
}
_LABELS: dict[str, Any] = {"metadata": {"a": "b"}}
_CONVERSATION: dict[str, Any] = {"items": [{"type": "message", "role": "user", "content": "hi"}], "metadata": {}}
_ACCOUNT: dict[str, Any] = {"name": "a", "expires_in_seconds": 60}


@st.composite
def less_of_responses(draw: st.DrawFn, model: type[Wire]) -> Any:
    """Mostly those fields of a request that `model` has."""
    asked = draw(asked_for_responses())
    is_known = isinstance(asked, dict) and draw(st.integers(0, 3))
    return {name: value for name, value in asked.items() if name in model.model_fields} if is_known else asked


_PROJECTS = "/v1/organization/projects"
# What may be sent as JSON to each endpoint: {} stands for an id.
BODIES: Mapping[str, st.SearchStrategy[Any]] = {
    "/v1/chat/completions": requests() | damaged(HELD),
    "/v1/chat/completions/{}": damaged(_LABELS),
    "/v1/responses": asked_for_responses(),
    "/v1/responses/compact": less_of_responses(CompactRequest),
    "/v1/responses/input_tokens": less_of_responses(CountRequest),
    "/v1/responses/{}/cancel": JSON,
    "/v1/conversations": damaged(_CONVERSATION),
    "/v1/conversations/{}": damaged(_LABELS),
    "/v1/conversations/{}/items": damaged({"items": _CONVERSATION["items"]}),
    "/v1/completions": damaged(_COMPLETION),
    "/v1/embeddings": damaged(_EMBEDDING),
    "/v1/images/generations": damaged(_DRAWING),
    "/v1/images/edits": damaged(_CHANGE) | damaged({**_CHANGE, "images": _CHANGE["images"][:1]}),
    "/v1/audio/speech": damaged(_SPEECH),
    "/v1/realtime/client_secrets": damaged({"session": _SESSION, "expires_after": {"seconds": 60}}),
    "/v1/realtime/sessions": damaged(_FLAT),
    "/v1/realtime/transcription_sessions": damaged(_HEARD),
    "/v1/organization/admin_api_keys": damaged(_ACCOUNT),
    _PROJECTS: damaged({"name": "a"}),
    f"{_PROJECTS}/{{}}": damaged({"name": "a"}),
    f"{_PROJECTS}/{{}}/archive": JSON,
    f"{_PROJECTS}/{{}}/api_keys/{{}}": damaged({"name": "a", "scopes": ["api.chat.read"]}),
    f"{_PROJECTS}/{{}}/service_accounts": damaged(_ACCOUNT),
    f"{_PROJECTS}/{{}}/service_accounts/{{}}": damaged({"name": "a", "role": "member"}),
    f"{_PROJECTS}/{{}}/service_accounts/{{}}/api_keys": damaged({"name": "a", "scopes": ["api.chat.read"]}),
}

# What may be sent as a form: texts, and bytes for files.
FORMS: Mapping[str, dict[str, str | bytes]] = {
    "/v1/files": {
        "purpose": "user_data",
        "expires_after[anchor]": "created_at",
        "expires_after[seconds]": "3600",
        "file": b"hi",
    },
    "/v1/images/edits": {
        "prompt": "make it red",
        "n": "2",
        "stream": "false",
        "output_compression": "100",
        "input_fidelity": "low",
        "image[]": picture(size=(16, 16)),
        "mask": picture(size=(16, 16), mode="RGBA", color=(0, 0, 0, 0)),
    },
    "/v1/images/variations": {"model": "dall-e-2", "n": "1", "size": "64x64", "image": picture()},
    "/v1/audio/transcriptions": {
        "model": "whisper-1",
        "language": "en",
        "temperature": "0.2",
        "response_format": "verbose_json",
        "timestamp_granularities[]": "word",
        "chunking_strategy[type]": "server_vad",
        "chunking_strategy[threshold]": "0.4",
        "stream": "false",
        "file": wav(seconds=0.1),
    },
    "/v1/audio/translations": {"model": "whisper-1", "response_format": "srt", "file": wav(seconds=0.1)},
}
FILE_NAMES = st.sampled_from(["a.txt", "", "../a", "a.png", "\u00df", "C:\\a"])
MEDIA_TYPES = st.sampled_from(["text/plain", "image/png", "", ";;"])
BOUNDARY = "frontier"


@st.composite
def sent(draw: st.DrawFn) -> Sent:
    """A request to any endpoint: mostly a body that is nearly right, now and then none at all."""
    template = draw(st.sampled_from(sorted({**BODIES, **FORMS})))
    path = template
    while "{}" in path:
        path = path.replace("{}", draw(st.sampled_from(["0", "abc_123", "%00", "%2e%2e", "\u00df" * 3])), 1)
    if template in FORMS and (template not in BODIES or draw(st.booleans())):
        body = draw(form_bodies(FORMS[template]))
        types = [f"multipart/form-data; boundary={BOUNDARY}"] * 12
        types += ["multipart/form-data", f'multipart/form-data; boundary="{BOUNDARY[:-1]}', "application/json", ""]
    else:
        body = json.dumps(draw(BODIES[template])).encode()
        types = ["application/json"] * 9 + ["application/json; charset=utf-16", "text/plain", ""]
    if not draw(st.integers(0, 19)):
        body = draw(st.binary(max_size=16) | st.just(body[: len(body) // 2]) | st.just(b"[" * 5000))
    return Sent(path, body, draw(st.sampled_from(types)))


@st.composite
def form_bodies(draw: st.DrawFn, fields: Mapping[str, str | bytes]) -> bytes:
    """A form with up to one field replaced, dropped, or added, and file names of all kinds."""
    values = dict(fields)
    change = draw(st.sampled_from(["nothing", "replace", "drop", "add"]))
    if change in ("replace", "drop"):
        del values[draw(st.sampled_from(sorted(fields)))]
    name = draw(
        st.sampled_from(sorted(fields)) | st.text(st.characters(codec="utf-8", exclude_characters='"\r\n'), max_size=8)
    )
    if change in ("replace", "add"):
        values[name] = draw(st.text(max_size=8) | st.binary(max_size=64))
    parts = []
    for name, value in values.items():
        head = f'Content-Disposition: form-data; name="{name}"'
        if isinstance(value, bytes):
            filename, media_type = draw(FILE_NAMES), draw(MEDIA_TYPES)
            head += f'; filename="{filename}"\r\nContent-Type: {media_type}'
        parts.append(
            f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode()
            + (value if isinstance(value, bytes) else value.encode())
            + b"\r\n"
        )
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
