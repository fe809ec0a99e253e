"""Which of a call's settings this server can obey."""

from __future__ import annotations

from sensorium.engine.request import EngineInfo
from sensorium.server.chat_request import check_model, known_voice
from sensorium.server.config import ServerConfig
from sensorium.server.conversation import Json
from sensorium.server.errors import invalid, unsupported
from sensorium.server.realtime_events import ResponseOptions, SessionConfig
from sensorium.server.realtime_thread import KEPT_SHARE
from sensorium.server.realtime_tools import chosen
from sensorium.server.transcription_request import language_code


def check_session(session: SessionConfig, info: EngineInfo, config: ServerConfig) -> None:
    """Raises APIError for the first setting that this server cannot obey."""
    heard, said = session.audio.input, session.audio.output
    refusals = (
        (session.prompt, "prompt", "stored prompts are not available"),
        (heard.transcription and heard.transcription.prompt, "audio.input.transcription.prompt", "cannot be steered"),
    )
    for asked_for, param, what in refusals:
        if asked_for:
            raise unsupported(f"session.{param}", what)
    asked = heard.transcription
    spoken = {"language": asked.language and [asked.language], "languages": asked.languages} if asked else {}
    for field, languages in spoken.items():
        if languages and "en" not in map(language_code, languages):
            raise unsupported(f"session.audio.input.transcription.{field}", "only 'en' and 'en-..' are understood")
    if session.model is not None:  # every name of the served model is as good: the session keeps the one it began with
        check_model(session.model, info, config, param="session.model")
    known_voice(said.voice, info, config, "session.audio.output.voice")
    chosen(session, ResponseOptions(), "session.tool_choice")


def check_change(before: SessionConfig, after: SessionConfig, *, has_spoken: bool, answers: bool) -> None:
    """Raises APIError for what can't change any more, or not while an answer is made."""
    said_before, said = before.audio.output, after.audio.output
    if has_spoken and said.voice != said_before.voice:
        message = "The voice cannot change once the assistant has spoken."
        raise invalid(message, "session.audio.output.voice", "cannot_update_voice")
    if answers and said.speed != said_before.speed:
        message = "The speed cannot change while a response is in progress."
        raise invalid(message, "session.audio.output.speed", "cannot_update_speed")


def retention(session: SessionConfig) -> tuple[float, int | None]:
    """The share of the positions that items keep where some must go, and how many they may take, if it is said."""
    policy = session.truncation
    if isinstance(policy, str):
        return KEPT_SHARE, None
    return policy.retention_ratio, policy.token_limits.post_instructions if policy.token_limits else None


def session_body(session: SessionConfig, head: Json, *, model: str, transcribes: bool) -> Json:
    """A session as clients are told of it, every setting included. `head` says which one it is, and until when."""
    gone = {"temperature"} if session.temperature is None else set[str]()  # today's shape has none
    body = session.model_dump(exclude={"parallel_tool_calls", "reasoning", *gone})
    asked = body["audio"]["input"]["transcription"]
    if asked is not None and asked["languages"] is None:
        del asked["languages"]  # which only some clients know
    if transcribes:
        settings = {"audio": {"input": body["audio"]["input"]}, "include": body["include"]}
        return {"type": "transcription", "object": "realtime.transcription_session", **head, **settings}
    return {**body, **head, "object": "realtime.session", "model": model}


def check_response(options: ResponseOptions, info: EngineInfo, config: ServerConfig) -> None:
    """As `check_session`, for one response."""
    if options.prompt is not None:
        raise unsupported("response.prompt", "stored prompts are not available")
    if options.audio is not None:
        known_voice(options.audio.output.voice, info, config, "response.audio.output.voice")


def chosen_voice(options: ResponseOptions, session: SessionConfig, config: ServerConfig) -> str:
    audio = options.audio
    chosen = audio.output.voice if audio is not None and "voice" in audio.output.model_fields_set else None
    voice = chosen or session.audio.output.voice
    assert isinstance(voice, str)
    return config.voice_aliases.get(voice, voice)


def chosen_speed(options: ResponseOptions, session: SessionConfig) -> float:
    audio = options.audio
    is_chosen = audio is not None and "speed" in audio.output.model_fields_set
    return audio.output.speed if audio is not None and is_chosen else session.audio.output.speed
