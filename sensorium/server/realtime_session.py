"""Which of a call's settings this server can obey."""

from __future__ import annotations

from typing import Any

from sensorium.engine.request import EngineInfo
from sensorium.server.config import ServerConfig
from sensorium.server.errors import invalid, unsupported
from sensorium.server.realtime_events import ResponseOptions, ServerVad, SessionConfig


def check_session(session: SessionConfig, info: EngineInfo, config: ServerConfig) -> None:
    """Raises APIError for the first setting that this server cannot obey."""
    heard, said = session.audio.input, session.audio.output
    detection = heard.turn_detection
    refusals = (
        (session.prompt, "prompt", "stored prompts are not available"),
        (session.include, "include", "log probabilities are not available"),
        (heard.noise_reduction, "audio.input.noise_reduction", "sound is heard as it comes"),
        (heard.transcription and heard.transcription.prompt, "audio.input.transcription.prompt", "cannot be steered"),
        (said.speed != 1.0, "audio.output.speed", "only 1.0 is supported"),
        (
            detection is not None and not isinstance(detection, ServerVad),
            "audio.input.turn_detection.type",
            "supported are 'server_vad' and null",
        ),
        (
            isinstance(detection, ServerVad) and detection.idle_timeout_ms,
            "audio.input.turn_detection.idle_timeout_ms",
            "only null is supported",
        ),
        (
            not isinstance(session.truncation, str),
            "truncation",
            "supported are 'auto' and 'disabled'",
        ),
    )
    for asked_for, param, what in refusals:
        if asked_for:
            raise unsupported(f"session.{param}", what)
    if heard.transcription and heard.transcription.language not in (None, "en"):
        raise unsupported("session.audio.input.transcription.language", "only 'en' is understood")
    _known_voice(said.voice, info, config, "session.audio.output.voice")
    _check_tool_choice(session.tool_choice, "session.tool_choice")


def check_response(options: ResponseOptions, info: EngineInfo, config: ServerConfig) -> None:
    """As `check_session`, for one response."""
    if options.prompt is not None:
        raise unsupported("response.prompt", "stored prompts are not available")
    if options.audio is not None:
        if options.audio.output.speed != 1.0:
            raise unsupported("response.audio.output.speed", "only 1.0 is supported")
        _known_voice(options.audio.output.voice, info, config, "response.audio.output.voice")
    if options.tool_choice is not None:
        _check_tool_choice(options.tool_choice, "response.tool_choice")


def _check_tool_choice(choice: str | dict[str, Any], param: str) -> None:
    if isinstance(choice, dict):
        raise unsupported(param, "no single function can be forced, only 'none', 'auto' and 'required'")
    if choice not in ("none", "auto", "required"):
        raise invalid(f"Invalid '{param}': supported values are 'none', 'auto' and 'required'.", param)


def _known_voice(voice: Any, info: EngineInfo, config: ServerConfig, param: str) -> None:
    if not isinstance(voice, str):
        raise unsupported(param, "custom voices are not available")
    if config.voice_aliases.get(voice, voice) not in info.voices:
        raise invalid(f"Invalid '{param}': supported voices are {', '.join(info.voices)}.", param)


def chosen_voice(options: ResponseOptions, session: SessionConfig, config: ServerConfig) -> str:
    audio = options.audio
    chosen = audio.output.voice if audio is not None and "voice" in audio.output.model_fields_set else None
    voice = chosen or session.audio.output.voice
    assert isinstance(voice, str)
    return config.voice_aliases.get(voice, voice)
