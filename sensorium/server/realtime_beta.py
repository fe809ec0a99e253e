"""The retired beta shape of the Realtime API, for clients that ask for it: tables from its words to today's, and back.

A call knows today's shape only. What a beta client says is put into it before it is read, and what the call tells is
put into the beta's words on the way out. As the beta did, it passes over settings that it does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sensorium.server.conversation import Json
from sensorium.server.errors import invalid, unknown

HEADER = "openai-beta"
HEADER_VALUE = "realtime=v1"
SUBPROTOCOL = "openai-beta.realtime-v1"

TEMPERATURE = 0.8  # what the beta tells of a session in which none is set
_GONE = "temperature"  # that only the beta has

# --- values


class _Values(NamedTuple):
    """How a setting's values are told apart. `to_ga` raises ValueError, naming those that there are."""

    to_ga: Callable[[Any], Any]
    from_ga: Callable[[Any], Any]


def _same(value: Any) -> Any:
    return value


_FORMATS: Mapping[str, Json] = {
    "pcm16": {"type": "audio/pcm", "rate": 24_000},
    "g711_ulaw": {"type": "audio/pcmu"},
    "g711_alaw": {"type": "audio/pcma"},
}
_FORMAT_NAMES = {format["type"]: name for name, format in _FORMATS.items()}


def _format(name: Any) -> Json:
    if not isinstance(name, str) or name not in _FORMATS:
        raise ValueError(", ".join(_FORMATS))
    return _FORMATS[name]


def _modalities(names: Any) -> list[str]:
    """Sound always comes with its words: the beta names both."""
    if names not in (["text"], ["audio"], ["text", "audio"], ["audio", "text"]):
        raise ValueError("['text'] and ['audio', 'text']")
    return ["audio"] if "audio" in names else ["text"]


def _with_type(name: str) -> Callable[[Any], Any]:
    """The beta may leave out what kind a setting is of."""

    def typed(value: Any) -> Any:
        if isinstance(value, list):
            return [typed(each) for each in value]
        return {"type": name, **value} if isinstance(value, dict) else value

    return typed


_SAME = _Values(_same, _same)
_FORMAT = _Values(_format, lambda format: _FORMAT_NAMES[format["type"]])
_MODALITIES = _Values(_modalities, lambda names: ["audio", "text"] if names == ["audio"] else names)
_TOOLS = _Values(_with_type("function"), _same)
_TURN_DETECTION = _Values(_with_type("server_vad"), _same)

# --- settings: the beta's are flat


class _Setting(NamedTuple):
    beta: str
    ga: tuple[str, ...]  # the path to it
    values: _Values = _SAME


_SAID = (
    _Setting("modalities", ("output_modalities",), _MODALITIES),
    _Setting("voice", ("audio", "output", "voice")),
    _Setting("output_audio_format", ("audio", "output", "format"), _FORMAT),
    _Setting("instructions", ("instructions",)),
    _Setting("tools", ("tools",), _TOOLS),
    _Setting("tool_choice", ("tool_choice",)),
    _Setting(_GONE, (_GONE,)),
)
_HEARD = (
    _Setting("input_audio_format", ("audio", "input", "format"), _FORMAT),
    _Setting("input_audio_transcription", ("audio", "input", "transcription")),
    _Setting("input_audio_noise_reduction", ("audio", "input", "noise_reduction")),
    _Setting("turn_detection", ("audio", "input", "turn_detection"), _TURN_DETECTION),
    _Setting("include", ("include",)),
)
_SESSION = (
    *_SAID,
    *_HEARD,
    _Setting("model", ("model",)),
    _Setting("speed", ("audio", "output", "speed")),
    _Setting("max_response_output_tokens", ("max_output_tokens",)),
    _Setting("tracing", ("tracing",)),
    _Setting("prompt", ("prompt",)),
)


def _items(items: Any) -> Any:
    return [_item_to_ga(item) for item in items] if isinstance(items, list) else items


_RESPONSE = (
    *_SAID,
    _Setting("max_response_output_tokens", ("max_output_tokens",)),
    _Setting("conversation", ("conversation",)),
    _Setting("metadata", ("metadata",)),
    _Setting("prompt", ("prompt",)),
    _Setting("input", ("input",), _Values(_items, _same)),
)
_TOLD_RESPONSE = (*_SAID, _Setting("max_output_tokens", ("max_output_tokens",)))
_TOLD_AS_IT_IS = {
    "session": ("id", "object", "expires_at"),
    "response": ("id", "object", "status", "status_details", "conversation_id", "usage", "metadata"),
}


def _nested(flat: Any, settings: tuple[_Setting, ...], where: str) -> Any:
    """A beta client's settings as today's. Raises APIError for a value that the beta did not have."""
    if not isinstance(flat, dict):
        return flat  # it is refused where it is read
    nested: Json = {}
    for setting in settings:
        if setting.beta in flat:
            inner = nested
            for step in setting.ga[:-1]:
                inner = inner.setdefault(step, {})
            param = f"{where}.{setting.beta}"
            try:
                inner[setting.ga[-1]] = setting.values.to_ga(flat[setting.beta])
            except ValueError as supported:
                raise invalid(f"Invalid value for '{param}': supported are {supported}.", param) from None
    return nested


def _flat(nested: Json, settings: tuple[_Setting, ...], where: str) -> Json:
    flat = {name: nested[name] for name in _TOLD_AS_IT_IS[where] if name in nested}
    for setting in settings:
        value: Any = nested
        for step in setting.ga:
            if not isinstance(value, dict) or step not in value:
                break
            value = value[step]
        else:
            flat[setting.beta] = setting.values.from_ga(value)
    return flat


# --- items

_PARTS = {"text": "output_text", "audio": "output_audio"}  # of the assistant's
_BETA_PARTS = {ga: beta for beta, ga in _PARTS.items()}


def _with_parts(item: Any, names: Mapping[str, str]) -> Any:
    if not isinstance(item, dict) or not isinstance(item.get("content"), list):
        return item
    parts = [
        {**part, "type": names.get(str(part.get("type")), part.get("type"))} if isinstance(part, dict) else part
        for part in item["content"]
    ]
    return {**item, "content": parts}


def _item_to_ga(item: Any) -> Any:
    return _with_parts(item, _PARTS)


def _item_from_ga(item: Any) -> Any:
    return _with_parts(item, _BETA_PARTS)


# --- what a client says


def realtime_to_ga(session: Any) -> Any:
    nested = _nested(session, _SESSION, "session")
    return {"type": "realtime", **nested} if isinstance(nested, dict) else nested


def transcription_to_ga(session: Any) -> Any:
    nested = _nested(session, _HEARD, "session")
    return {"type": "transcription", **nested} if isinstance(nested, dict) else nested


class _Said(NamedTuple):
    type: str
    field: str
    to_ga: Callable[[Any], Any]


_CLIENT_EVENTS = {
    "session.update": _Said("session.update", "session", realtime_to_ga),
    "transcription_session.update": _Said("session.update", "session", transcription_to_ga),
    "response.create": _Said("response.create", "response", lambda options: _nested(options, _RESPONSE, "response")),
    "conversation.item.create": _Said("conversation.item.create", "item", _item_to_ga),
}


def to_ga(event: Json) -> Json:
    """A beta client's event in today's words. Raises APIError for a value that the beta did not have."""
    said = _CLIENT_EVENTS.get(str(event.get("type")))
    if said is None or said.field not in event:
        return event
    return {**event, "type": said.type, said.field: said.to_ga(event[said.field])}


def refuse_gone(event: Json) -> None:
    """In today's shape there is nothing that only the beta had. Raises APIError."""
    for where in ("session", "response"):
        if isinstance(settings := event.get(where), dict) and _GONE in settings:
            raise unknown(f"{where}.{_GONE}")


# --- what the server tells

_SERVER_EVENTS: Mapping[str, str | None] = {  # None: the beta has no such event
    "conversation.item.added": "conversation.item.created",
    "conversation.item.done": None,
    "input_audio_buffer.timeout_triggered": None,
    "response.output_text.delta": "response.text.delta",
    "response.output_text.done": "response.text.done",
    "response.output_audio.delta": "response.audio.delta",
    "response.output_audio.done": "response.audio.done",
    "response.output_audio_transcript.delta": "response.audio_transcript.delta",
    "response.output_audio_transcript.done": "response.audio_transcript.done",
}
_TRANSCRIPTION_EVENTS = {
    "session.created": "transcription_session.created",
    "session.updated": "transcription_session.updated",
}


def session_from_ga(session: Json) -> Json:
    if session["type"] == "transcription":
        return _flat(session, _HEARD, "session")
    return {_GONE: TEMPERATURE, **_flat(session, _SESSION, "session")}


def _response_from_ga(response: Json) -> Json:
    output = [_item_from_ga(item) for item in response["output"]]
    return {_GONE: TEMPERATURE, **_flat(response, _TOLD_RESPONSE, "response"), "output": output}


_BETA_NAMES = {
    f"{where}.{'.'.join(setting.ga)}": f"{where}.{setting.beta}"
    for where, settings in (("session", _SESSION), ("response", _RESPONSE))
    for setting in settings
}


def error_from_ga(error: Json) -> Json:
    """Its field by the name that the client gave it."""
    message, param = error["message"], error["param"] or ""
    for ga, beta in _BETA_NAMES.items():
        if param == ga or param.startswith((f"{ga}.", f"{ga}[")):
            return {**error, "message": message.replace(ga, beta), "param": beta + param.removeprefix(ga)}
    return error


_FIELDS: Mapping[str, Callable[[Any], Any]] = {
    "session": session_from_ga,
    "response": _response_from_ga,
    "item": _item_from_ga,
    "error": error_from_ga,
}


def from_ga(event: Json) -> Json | None:
    """What a beta client is told instead of an event, if anything."""
    type = _SERVER_EVENTS.get(event["type"], event["type"])
    if type is None:
        return None
    if event.get("session", {}).get("type") == "transcription":
        type = _TRANSCRIPTION_EVENTS[type]
    fields = {name: _FIELDS[name](value) if name in _FIELDS else value for name, value in event.items()}
    return {**fields, "type": type}
