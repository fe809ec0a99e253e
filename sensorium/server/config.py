"""Everything about the edge that an operator may set, and the two tables of names it answers to."""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from sensorium.platform.limits import LimitRule
from sensorium.platform.usage import PriceList

PLAYGROUND = Path(__file__).parent.parent / "playground"

# Every id of the GPT-4o family, retired ones too: clients have them built in. All are answered by the served model.
GPT_4O_FAMILY = (
    "gpt-4o",
    "gpt-4o-2024-05-13",
    "gpt-4o-2024-08-06",
    "gpt-4o-2024-11-20",
    "chatgpt-4o-latest",
    "gpt-4o-mini",
    "gpt-4o-mini-2024-07-18",
    "gpt-4o-audio-preview",
    "gpt-4o-audio-preview-2024-10-01",
    "gpt-4o-audio-preview-2024-12-17",
    "gpt-4o-audio-preview-2025-06-03",
    "gpt-4o-mini-audio-preview",
    "gpt-4o-mini-audio-preview-2024-12-17",
    "gpt-audio",
    "gpt-audio-1.5",
    "gpt-audio-mini",
    "gpt-audio-mini-2025-10-06",
    "gpt-audio-mini-2025-12-15",
    "gpt-4o-realtime-preview",
    "gpt-4o-realtime-preview-2024-10-01",
    "gpt-4o-realtime-preview-2024-12-17",
    "gpt-4o-realtime-preview-2025-06-03",
    "gpt-4o-mini-realtime-preview",
    "gpt-4o-mini-realtime-preview-2024-12-17",
    "gpt-realtime",
    "gpt-realtime-2025-08-28",
    "gpt-realtime-1.5",
    "gpt-realtime-2",
    "gpt-realtime-2.1",
    "gpt-realtime-2.1-mini",
    "gpt-realtime-mini",
    "gpt-realtime-mini-2025-10-06",
    "gpt-realtime-mini-2025-12-15",
    "gpt-realtime-whisper",
    "gpt-4o-transcribe",
    "gpt-4o-mini-transcribe",
    "gpt-4o-mini-transcribe-2025-12-15",
    "gpt-transcribe",
    "gpt-live-transcribe",
    "gpt-4o-transcribe-diarize",
    "whisper-1",
    "gpt-4o-mini-tts",
    "gpt-4o-mini-tts-2025-12-15",
    "tts-1",
    "tts-1-hd",
    "gpt-image-1",
    "gpt-image-1-mini",
    "gpt-image-1.5",
    "gpt-image-2",
    "gpt-image-2-2026-04-21",
    "gpt-image-2.5-flare",
    "gpt-image-2.5-flare-2026-09-08",
    "gpt-image-2.5-sunburst",
    "gpt-image-2.5-sunburst-2026-09-08",
    "gpt-image-2.6-flare",
    "gpt-image-2.6-sunburst",
    "chatgpt-image-latest",
    "dall-e-2",
    "dall-e-3",
    "omni-moderation-latest",
    "omni-moderation-2024-09-26",
    "computer-use-preview",
    "computer-use-preview-2025-03-11",
    # what clients of the family use beside it
    "text-embedding-3-small",
    "text-embedding-3-large",
    "text-embedding-ada-002",
    "gpt-3.5-turbo-instruct",
)

# OpenAI's voices that the network has no symbol for, and the voice that speaks instead.
VOICE_ALIASES: Mapping[str, str] = {
    "cedar": "ash",
    "fable": "ballad",
    "marin": "coral",
    "nova": "shimmer",
    "onyx": "echo",
}

_MIB = 2**20
_MAX_PORT = 65_535
_MAY_BE_ZERO = (
    *("port", "max_images", "max_audio_s", "max_film_s", "spoken_reply_ttl_s", "spoken_reply_bytes"),
    *("watermark_payload", "kept_call_s"),
)
_MAX_PAYLOAD = 2**16 - 1


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """How the edge behaves. `read_settings` takes the same names from a file.

    Raises ValueError for a number that makes no sense, when the edge would be open to the network without a key, for a
    database whose files would go nowhere, and for settings of TLS that contradict each other.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_keys: tuple[str, ...] = field(default=(), repr=False)  # none: anyone on this machine, no key needed
    tls_cert: Path | None = None  # PEM, the whole chain: HTTPS instead of HTTP, with the key in `tls_key`
    tls_key: Path | None = None
    tls_self_signed: bool = False  # HTTPS with a certificate for this machine's own names
    cors_origins: tuple[str, ...] = ()  # besides pages served from this machine; "*" for any

    state: Path | None = None  # the folder of what is kept; without it nothing outlives the server
    database: str | None = field(default=None, repr=False)  # postgresql://USER:PASSWORD@HOST/NAME; a file in `state`
    objects: str | None = None  # s3://BUCKET/PREFIX, for files and sound; a folder in `state`

    model_aliases: tuple[str, ...] = GPT_4O_FAMILY
    voice_aliases: Mapping[str, str] = field(default_factory=lambda: VOICE_ALIASES)

    max_concurrent_requests: int = 32
    request_timeout_s: float = 600.0
    body_timeout_s: float = 60.0
    send_timeout_s: float = 30.0  # how long a client may leave what it was sent unread
    max_body_bytes: int = 50 * _MIB
    max_file_bytes: int = 100 * _MIB  # of an uploaded file
    max_project_bytes: int = 1024 * _MIB  # of all files that a project keeps
    max_choices: int = 8

    max_concurrent_decodes: int = 2  # of all requests, and as many PDF files: each may take a quarter of a gigabyte
    max_images: int = 500  # of a request; as many as the model's context holds, if those are fewer
    max_image_bytes: int = 20 * _MIB
    max_image_pixels: int = 4096 * 4096  # up to 16 bytes each while they are decoded
    max_photo_pixels: int = 64_000_000  # of a JPEG in one scan, as cameras write it: decoded small, never held whole
    max_document_s: float = 30.0  # of computing, to draw a PDF file: a page of text takes 0.05, a dense map seconds
    max_document_memory_bytes: int = 512 * _MIB  # to draw it, besides the file itself
    max_film_bytes: int = 40 * _MIB
    max_film_pixels: int = 4096 * 2304  # of a frame
    max_film_s: float = 300.0  # all films of a request together; what the model's context holds, if that is less
    max_film_frames: int = 64  # that are seen of a film
    max_audio_bytes: int = 25 * _MIB
    max_audio_s: float = 600.0  # all clips of a request together; what the model's context holds, if that is less
    max_transcription_s: float = 7200.0  # of a file to write down: it is decoded piece by piece
    fetch_timeout_s: float = 10.0
    allow_private_urls: bool = False

    spoken_reply_ttl_s: int = 3600
    spoken_reply_bytes: int = 64 * _MIB  # kept of a project for `audio: {id}`, the oldest go first

    watermark_key: str = field(default="sensorium", repr=False)  # finds the mark in generated speech; empty: none
    watermark_payload: int = 0  # 16 bits that the mark carries

    max_calls: int = 32  # realtime calls at once
    max_call_replies: int = 4  # answers under way in one call, those outside its conversation included
    call_s: float = 3600.0
    max_call_sound_bytes: int = 64 * _MIB  # of a call's items, as FLAC: the sound of the oldest goes first
    max_call_bytes: int = 64 * _MIB  # of a call's items without their sound: the oldest pictures go first
    kept_call_s: float = 300.0  # a call whose socket dropped, until its client comes back; 0: not at all
    max_kept_calls: int = 32
    max_kept_call_bytes: int = 256 * _MIB  # of all of them, the oldest go first
    max_event_bytes: int = 24 * _MIB  # one client event: 15 MiB of sound in base64, and some room

    content_credentials: bool = True  # pictures say, signed, that they were made here (C2PA)

    limits: tuple[LimitRule, ...] = ()  # the first that is for a key and a model holds
    prices: PriceList = field(default_factory=PriceList)  # what /v1/organization/costs works with

    playground: Path = PLAYGROUND

    def __post_init__(self) -> None:
        for name in (setting.name for setting in fields(self) if setting.type in ("int", "float")):
            value = getattr(self, name)
            if not (value > 0 or (value == 0 and name in _MAY_BE_ZERO)):
                raise ValueError(f"{name} is {value}: it must be more than 0")
        if self.port > _MAX_PORT:
            raise ValueError(f"port is {self.port}: ports end at {_MAX_PORT}")
        if self.watermark_payload > _MAX_PAYLOAD:
            raise ValueError(f"watermark_payload is {self.watermark_payload}: it has 16 bits, {_MAX_PAYLOAD} at most")
        # where there is a database, the keys may be there: the server looks when it has opened it
        if not (self.api_keys or self.state or self.database) and not is_loopback(self.host):
            keys = "api_keys (--api-key KEY sets one, or SENSORIUM_API_KEYS in the environment)"
            raise ValueError(f"host {self.host!r} is open to the network: set {keys}, or listen on 127.0.0.1")
        if self.database and not (self.state or self.objects):
            raise ValueError("database holds no files: set state (a folder) or objects (s3://...) too, where they go")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together: set both, or neither")
        if self.tls_self_signed and self.tls_cert is not None:
            raise ValueError("tls_self_signed makes a certificate: it excludes tls_cert and tls_key")
        if self.tls_self_signed and not is_loopback(self.host):
            raise ValueError(f"tls_self_signed is for 127.0.0.1: set tls_cert and tls_key for host {self.host!r}")


def is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def read_settings(file: Path) -> dict[str, Any]:
    """The fields of ServerConfig that a TOML file sets. Paths are relative to the file.

    Raises ValueError naming the key at fault, OSError if the file cannot be read.
    """
    try:
        settings = tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file} is not TOML: {error}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{file} is not a text in UTF-8") from None
    kinds = {setting.name: str(setting.type) for setting in fields(ServerConfig)}
    for key, value in settings.items():
        if key not in kinds:
            raise ValueError(f"{file}: {key!r} is no setting of the server; there are {', '.join(kinds)}")
        settings[key] = _read(value, kinds[key], where=f"{file}: {key!r}", folder=file.parent)
    return settings


# the type of a field, in an operator's words
_KINDS = {
    "str": "a text in quotes",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "tuple[str, ...]": "a list of texts",
    "Mapping[str, str]": "a table of texts",
    "Path": "a path in quotes",
    "Path | None": "a path in quotes",
    "str | None": "a text in quotes",
    "tuple[LimitRule, ...]": "a list of tables, each headed [[limits]]",
    "PriceList": "a table of models and their prices",
}


def _told(read: Callable[[Any], Any], table: Any, where: str) -> Any:
    try:
        return read(table)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _read(value: Any, kind: str, *, where: str, folder: Path) -> Any:
    """A value of the file as the field's type. Raises ValueError, without the value: that may be a key."""
    match kind, value:
        case "bool", bool():
            return value
        case _, bool():
            pass  # no number, though Python takes it for one
        case ("int", int()) | (("str" | "str | None"), str()):
            return value
        case "float", int() | float():
            return float(value)
        case (("Path" | "Path | None"), str()):
            return folder / value
        case "tuple[str, ...]", list() if all(isinstance(item, str) for item in value):
            return tuple(value)
        case "tuple[LimitRule, ...]", list() if all(isinstance(item, dict) for item in value):
            return tuple(_told(LimitRule.read, item, where) for item in value)
        case "PriceList", dict():
            return _told(PriceList.read, value, where)
        case "Mapping[str, str]", dict() if all(isinstance(item, str) for item in value.values()):
            return value
    raise ValueError(f"{where} must be {_KINDS[kind]}")
