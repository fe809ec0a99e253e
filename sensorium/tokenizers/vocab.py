"""The one table of symbols: specials, text, audio codes and image codes share one softmax.

    id      0 .. 63                specials (below, in this order; unused ones are reserved)
    id     64 .. 64 + text         byte-level BPE tokens
    then    audio_codes            the semantic code (q0) of an 80 ms audio frame
    then    image_codes            the first code (c0) of an image patch
    padded to a multiple of 64

Residual codes (q1.., c1..) never enter this table: they live in the depth head only.
"""

from __future__ import annotations

from dataclasses import dataclass

NUM_SPECIALS = 64

VOICES = ("alloy", "echo", "sage", "coral", "ash", "ballad", "shimmer", "verse")

_SPECIALS = (
    "<|pad|>",
    "<|bos|>",
    "<|end|>",  # the end of a message
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|tool|>",
    "<|audio|>",  # a heard clip follows: audio frames
    "<|/audio|>",
    "<|image|>",  # a picture follows: image patches
    "<|/image|>",
    "<|video|>",  # a film follows: seconds, each with its frames and its sound
    "<|/video|>",
    "<|sec|>",  # the next second of film begins
    "<|write|>",  # the answer is text
    "<|speak|>",  # the answer is speech: text tokens lead audio frames
    "<|/speak|>",
    "<|tend|>",  # the text of a spoken answer is complete, only frames follow
    "<|listen|>",  # after <|audio|>: the clip is live, write a running transcript; as a label: keep listening
    "<|turn|>",  # the user has finished
    "<|cut|>",  # the assistant was interrupted here
    "<|call|>",  # a tool call: name, a newline, JSON arguments
    "<|/call|>",
    "<|null|>",  # the condition is dropped (classifier-free guidance)
    "<|tts|>",  # task tags, optional
    "<|asr|>",
    "<|draw|>",
    *(f"<|voice:{voice}|>" for voice in VOICES),
    "<|style:plain|>",
    "<|style:whisper|>",
    "<|style:shout|>",
    "<|style:fast|>",
    "<|style:slow|>",
    "<|caption|>",  # what a seen picture shows follows, in words
)

SPECIAL_IDS = {name: index for index, name in enumerate(_SPECIALS)}
assert len(_SPECIALS) <= NUM_SPECIALS

PAD = SPECIAL_IDS["<|pad|>"]
BOS = SPECIAL_IDS["<|bos|>"]
END = SPECIAL_IDS["<|end|>"]
SYSTEM = SPECIAL_IDS["<|system|>"]
USER = SPECIAL_IDS["<|user|>"]
ASSISTANT = SPECIAL_IDS["<|assistant|>"]
TOOL = SPECIAL_IDS["<|tool|>"]
AUDIO = SPECIAL_IDS["<|audio|>"]
END_AUDIO = SPECIAL_IDS["<|/audio|>"]
IMAGE = SPECIAL_IDS["<|image|>"]
END_IMAGE = SPECIAL_IDS["<|/image|>"]
VIDEO = SPECIAL_IDS["<|video|>"]
END_VIDEO = SPECIAL_IDS["<|/video|>"]
SECOND = SPECIAL_IDS["<|sec|>"]
WRITE = SPECIAL_IDS["<|write|>"]
SPEAK = SPECIAL_IDS["<|speak|>"]
END_SPEAK = SPECIAL_IDS["<|/speak|>"]
TEXT_END = SPECIAL_IDS["<|tend|>"]
LISTEN = SPECIAL_IDS["<|listen|>"]
TURN = SPECIAL_IDS["<|turn|>"]
CUT = SPECIAL_IDS["<|cut|>"]
CALL = SPECIAL_IDS["<|call|>"]
END_CALL = SPECIAL_IDS["<|/call|>"]
NULL = SPECIAL_IDS["<|null|>"]
TTS = SPECIAL_IDS["<|tts|>"]
ASR = SPECIAL_IDS["<|asr|>"]
DRAW = SPECIAL_IDS["<|draw|>"]
CAPTION = SPECIAL_IDS["<|caption|>"]

ROLE_IDS = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT, "tool": TOOL}


def voice_id(voice: str) -> int:
    """The symbol of a preset voice. Raises ValueError for an unknown name."""
    if voice not in VOICES:
        raise ValueError(f"unknown voice {voice!r}; this model speaks as {', '.join(VOICES)}")
    return SPECIAL_IDS[f"<|voice:{voice}|>"]


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Where each modality's ids lie. The softmax over `size` ids picks the modality itself."""

    text_tokens: int = 2048
    audio_codes: int = 1000
    image_codes: int = 1000

    @property
    def text_start(self) -> int:
        return NUM_SPECIALS

    @property
    def audio_start(self) -> int:
        return self.text_start + self.text_tokens

    @property
    def image_start(self) -> int:
        return self.audio_start + self.audio_codes

    @property
    def size(self) -> int:
        end = self.image_start + self.image_codes
        return -(-end // 64) * 64

    def is_text(self, symbol: int) -> bool:
        return self.text_start <= symbol < self.audio_start

    def is_audio(self, symbol: int) -> bool:
        return self.audio_start <= symbol < self.image_start

    def is_image(self, symbol: int) -> bool:
        return self.image_start <= symbol < self.image_start + self.image_codes
