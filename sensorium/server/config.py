"""Everything about the edge that an operator may set, and the two tables of names it answers to."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

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
    "gpt-audio-mini",
    "gpt-4o-realtime-preview",
    "gpt-4o-realtime-preview-2024-10-01",
    "gpt-4o-realtime-preview-2024-12-17",
    "gpt-4o-realtime-preview-2025-06-03",
    "gpt-4o-mini-realtime-preview",
    "gpt-4o-mini-realtime-preview-2024-12-17",
    "gpt-realtime",
    "gpt-realtime-2025-08-28",
    "gpt-realtime-mini",
    "gpt-4o-transcribe",
    "gpt-4o-mini-transcribe",
    "gpt-4o-transcribe-diarize",
    "whisper-1",
    "gpt-4o-mini-tts",
    "tts-1",
    "tts-1-hd",
    "gpt-image-1",
    "gpt-image-1-mini",
    "omni-moderation-latest",
    "omni-moderation-2024-09-26",
    "computer-use-preview",
    "computer-use-preview-2025-03-11",
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


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """How the edge behaves. Raises ValueError when it would be open to the network without a key."""

    host: str = "127.0.0.1"
    port: int = 8000
    api_keys: tuple[str, ...] = field(default=(), repr=False)  # none: anyone on this machine, no key needed
    cors_origins: tuple[str, ...] = ()  # besides pages served from this machine; "*" for any

    model_aliases: tuple[str, ...] = GPT_4O_FAMILY
    voice_aliases: Mapping[str, str] = field(default_factory=lambda: VOICE_ALIASES)

    max_concurrent_requests: int = 32
    request_timeout_s: float = 600.0
    body_timeout_s: float = 60.0
    max_body_bytes: int = 50 * _MIB
    max_choices: int = 8

    max_images: int = 32
    max_image_bytes: int = 20 * _MIB
    max_image_pixels: int = 40_000_000
    max_audio_bytes: int = 25 * _MIB
    max_audio_s: float = 600.0  # all clips of a request together
    fetch_timeout_s: float = 10.0
    allow_private_urls: bool = False

    spoken_reply_ttl_s: int = 3600
    spoken_reply_bytes: int = 64 * _MIB  # kept for `audio: {id}`, the oldest go first

    playground: Path = PLAYGROUND

    def __post_init__(self) -> None:
        if not self.api_keys and not is_loopback(self.host):
            raise ValueError(f"host {self.host!r} is open to the network: set api_keys, or listen on 127.0.0.1")


def is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
