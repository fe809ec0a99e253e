"""What goes into the engine and what comes out of it, as plain values.

A chat reply, a realtime response, an image and an evaluation are all renderings of the same stream of `Event`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, TypeAlias

import numpy as np

from sensorium.messages import Image, Message

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls"]
ToolChoice: TypeAlias = Literal["none", "auto", "required"]
Modality: TypeAlias = Literal["text", "audio", "image"]

ANY_OBJECT = '{"type":"object"}'  # the schema of any JSON object


@dataclass(frozen=True, kw_only=True)
class Function:
    """A function that may be called. `parameters` is the JSON Schema, as text, that the arguments of a call keep to."""

    name: str
    parameters: str = ANY_OBJECT


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Stream positions, by modality. `cached` are prompt positions that were not computed again: sound, pictures, and
    the rest of them text."""

    input_text: int = 0
    input_audio: int = 0
    input_image: int = 0
    output_text: int = 0
    output_audio: int = 0
    output_image: int = 0
    cached: int = 0
    cached_audio: int = 0
    cached_image: int = 0

    @property
    def input_tokens(self) -> int:
        return self.input_text + self.input_audio + self.input_image

    @property
    def output_tokens(self) -> int:
        return self.output_text + self.output_audio + self.output_image


class Tally:
    """What an answer has used so far. It may be asked at any time and from any thread, also of an answer that was given
    up before its end: that has no `End` to say it."""

    def __init__(self) -> None:
        self.count: Callable[[], Usage] | None = None  # set by the engine once the prompt is read

    @property
    def usage(self) -> Usage | None:
        """None: nothing is written yet."""
        return self.count() if self.count is not None else None


@dataclass(frozen=True, kw_only=True, eq=False)
class Canvas:
    """A picture that is drawn into: of it, only what is in the hole is drawn anew."""

    picture: Image
    hole: np.ndarray  # (H, W) bool, as large as the picture


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How to answer. `modality` picks the form of the answer: in words, written or spoken, a picture or a tool call may
    come too; with "image" the answer is one picture and nothing else.

    `temperature` 0 is greedy for text; audio and image codes are always sampled (with their own temperatures),
    since a greedy signal degenerates. The same seed gives the same answer.

    With `document`, a JSON Schema as text, a written answer is one JSON document that keeps to it, and no picture.
    With `functions` only these are called, with arguments that keep to their schemas; without, a call is what the
    network makes it. The penalties (of what the answer already holds, by count and once) and `token_bias` shape text
    tokens, before the temperature does. `top_logprobs` asks for a `TokenLogprob` per written token, with the
    so many likeliest.

    With `script` a spoken answer says this text, word for word; when each word comes, and how it sounds, is the
    network's. What is used is kept count of in `tally`.
    """

    modality: Modality = "text"
    voice: str = "alloy"
    max_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    tool_choice: ToolChoice = "auto"
    functions: tuple[Function, ...] = ()
    max_calls: int | None = None
    document: str | None = None
    script: str | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    token_bias: tuple[tuple[int, float], ...] = ()  # (id of a text token, what is added to its logit)
    top_logprobs: int | None = None  # None: no log probabilities at all
    audio_temperature: float = 0.3
    image_temperature: float = 0.5
    drawings: int = 1  # how often each picture is drawn: the one that the network finds best is kept
    canvas: Canvas | None = field(default=None, compare=False)  # patches outside its hole are given, not chosen
    caption: str | None = None  # what a picture should show, as one would say who sees it: helps to find the best
    guidance_scale: float = 2.0  # how far a drawing is pushed towards its words; 1 is not at all
    partial_images: int = 0  # how often a picture is shown while it grows: each time, all of it is decoded
    flex: bool = False  # computed behind all others: in no hurry
    tally: Tally | None = field(default=None, compare=False)


class TokenLogprob(NamedTuple):
    """A text token and how likely it was: see `Sampler` for among what. `top` are the likeliest, whichever came."""

    bytes: bytes
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TextDelta:
    """More text of a written answer.

    `logprobs`, if they were asked for, are of the tokens whose text begins in this delta.
    """

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()

    def joined(self, next: TextDelta) -> TextDelta:
        return TextDelta(text=self.text + next.text, logprobs=self.logprobs + next.logprobs)


@dataclass(frozen=True, kw_only=True)
class TranscriptDelta:
    """More text of a spoken answer: it runs a bounded lead ahead of its sound.

    `start_ms` is where in the answer's sound it begins to be said, as nearly as the layout of the stream tells.
    """

    text: str
    start_ms: float = 0.0


@dataclass(frozen=True, kw_only=True)
class InputTranscriptDelta:
    """More text of what the network heard in clip number `clip` of the prompt, or of the turns it heard live.

    Of sound heard live, `end_ms` is where in it the word ends that this text belongs to, as nearly as the layout of the
    stream tells; what is written behind the last frame has none. `tokens` and `logprobs` are of the text.
    """

    clip: int
    text: str
    end_ms: float | None = None
    tokens: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Transcribed:
    """The last event of a transcription. `voice` tells who spoke: the smaller its angle to another, the likelier it is
    that both are of one speaker."""

    usage: Usage
    voice: np.ndarray | None  # (V,) float32; None of an engine that doesn't know speakers


@dataclass(frozen=True, kw_only=True, eq=False)
class AudioDelta:
    """More sound of a spoken answer, at the engine's own rate."""

    waveform: np.ndarray  # (N,) float32 in [-1, 1]
    sample_rate_hz: int


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageDelta:
    """A drawn picture, whole (`final`) or, if `partial_images` were asked for, as far as its raster has grown."""

    pixels: np.ndarray  # (H, W, 3) uint8
    final: bool


@dataclass(frozen=True, kw_only=True)
class ToolCallDelta:
    """More of a tool call. The first one of a call comes as soon as its name is whole, maybe with no arguments yet."""

    name: str
    arguments: str  # more of the JSON text

    def joined(self, next: ToolCallDelta) -> ToolCallDelta:
        """`next` is of the same call."""
        return ToolCallDelta(name=self.name, arguments=self.arguments + next.arguments)


@dataclass(frozen=True, kw_only=True)
class ToolCallEvent:
    """A tool call is whole: what its deltas, which came before, add up to."""

    name: str
    arguments: str  # JSON text


@dataclass(frozen=True, kw_only=True)
class End:
    """The last event of every answer."""

    reason: FinishReason
    usage: Usage


Event: TypeAlias = (
    TextDelta
    | TranscriptDelta
    | InputTranscriptDelta
    | Transcribed
    | AudioDelta
    | ImageDelta
    | ToolCallDelta
    | ToolCallEvent
    | End
)


class ContextLengthExceeded(ValueError):
    """The prompt does not fit the network's context, or leaves less than the `answer_tokens` that its answer takes at
    the least. A user can cause this."""

    def __init__(self, prompt_tokens: int, max_tokens: int, answer_tokens: int = 0) -> None:
        answer = f" and its answer at least {answer_tokens}" if answer_tokens else ""
        super().__init__(f"the prompt takes {prompt_tokens} tokens{answer}, this model's context holds {max_tokens}")
        self.prompt_tokens = prompt_tokens
        self.max_tokens = max_tokens
        self.answer_tokens = answer_tokens


class TextTooLong(ContextLengthExceeded):
    """One of several texts does not fit: that of number `index`."""

    def __init__(self, index: int, num_tokens: int, max_tokens: int) -> None:
        super().__init__(num_tokens, max_tokens)
        self.index = index


class Embedding(NamedTuple):
    """A text as a vector, (C,) float32 of length 1, and the positions it took."""

    vector: np.ndarray
    num_tokens: int


@dataclass(frozen=True, kw_only=True)
class EngineInfo:
    """What an edge needs to know of the model it serves.

    `skills` are the tasks that its training names, such as `say-styled`; None if nobody wrote that down.
    `limits` says how many positions of the context media take, without the symbols that frame them: `image_tokens` a
    picture, `frame_tokens` a frame of a film with its note, `audio_tokens_per_s` a second of sound; `framing_tokens`
    are the symbols around a picture, `answer_tokens` what media leave for an answer. `memory_bytes` says what is held
    or may come to be, by what for.
    """

    model: str
    max_tokens: int
    sample_rate_hz: int
    voices: tuple[str, ...]
    num_text_tokens: int = 0  # ids of text tokens are 0 .. num_text_tokens - 1
    embedding_size: int = 0
    created: int = 0
    limits: dict[str, float] = field(default_factory=dict)
    cached_positions: int = 0  # of all streams together, before some have to be computed again
    memory_bytes: dict[str, int] = field(default_factory=dict)
    skills: frozenset[str] | None = None
    knows_speakers: bool = False


class Engine(Protocol):
    """Anything that answers messages with events. Closing the iterator cancels the work at once."""

    info: EngineInfo

    def generate(self, messages: Sequence[Message], params: SamplingParams) -> AsyncIterator[Event]: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A place in a conversation to which it can be taken back. It is void once the conversation was taken further back.

    `heard` is the engine's own: what it knows of a turn under way besides the stream.
    """

    position: int
    heard: object = None


class Conversation(Protocol):
    """A conversation that the network keeps in mind: whatever is said, only what is new is computed.

    One thing at a time: a call while another is under way raises RuntimeError, and so does a call at the wrong moment.
    A call that needs more room than the context has left raises ContextLengthExceeded. It takes nothing in, except that
    `push` takes what fits, as `transcript` shows; the turn can still be finished and answered.
    """

    @property
    def turn_probability(self) -> float:
        """How sure the network is, after what it heard last, that the user has finished."""
        ...

    @property
    def transcript(self) -> str:
        """What was heard in the turn under way or, after `finish`, in the last one."""
        ...

    @property
    def num_free(self) -> int:
        """Positions left in the context."""
        ...

    async def read(self, messages: Sequence[Message], *, in_no_hurry: bool = False) -> list[Event]:
        """Takes in whole messages: instructions, typed turns, results of tools. Returns transcripts of their clips.
        What is in no hurry lets others go first."""
        ...

    async def push(self, samples: np.ndarray) -> list[Event]:
        """Hears more of the user's turn, (N,) float32 at the engine's rate. The first push opens the turn."""
        ...

    async def finish(self) -> list[Event]:
        """The user's turn is over: the rest of its transcript."""
        ...

    def answer(self, params: SamplingParams) -> AsyncIterator[Event]:
        """Answers what was said. Closing the iterator stops the answer, which stays as far as it was given."""
        ...

    async def interrupt(self, after_ms: float) -> None:
        """The last answer was cut off when so much of its sound had been heard: the rest of it is forgotten."""
        ...

    async def mark(self) -> Mark:
        """Notes where the conversation is, in the middle of a turn or between two."""
        ...

    async def fork(self) -> Conversation:
        """A twin that goes its own way from here, in the middle of a turn or between two. Marks hold for both."""
        ...

    async def truncate(self, mark: Mark) -> None:
        """Forgets what came after: a false start, or that the user had finished. Raises ValueError for a void mark."""
        ...


class LiveEngine(Engine, Protocol):
    """An engine that can also give several answers at once, and be talked to."""

    def choices(
        self, messages: Sequence[Message], params: Sequence[SamplingParams]
    ) -> AsyncIterator[tuple[int, Event]]:
        """Several answers at once to the same messages, which are read once; each event has its answer's number."""
        ...

    async def count(self, messages: Sequence[Message]) -> int:
        """Positions that messages take as a prompt, at the least: what is written down of media comes on top."""
        ...

    def text_of(self, tokens: Sequence[int]) -> str:
        """What text tokens spell."""
        ...

    async def embed(self, texts: Sequence[str | Sequence[int]]) -> list[Embedding]:
        """What each text, or list of text tokens, means to the network. Raises TextTooLong before any work."""
        ...

    async def score(self, texts: Sequence[str | Sequence[int]], *, num_top: int) -> list[list[TokenLogprob]]:
        """The tokens of each text, or list of text tokens, with how likely each is as what a user says, and the so many
        likeliest in its place. Raises TextTooLong before any work."""
        ...

    def transcribe(self, waveform: np.ndarray, params: SamplingParams) -> AsyncIterator[Event]:
        """What is said in a stretch of sound, (N,) float32 at the engine's rate: deltas with times, then `Transcribed`.

        Of `params` the temperature, `top_p`, the biases and the seed count. Raises ContextLengthExceeded.
        """
        ...

    def converse(self) -> Conversation:
        """A conversation in which nothing was said yet."""
        ...
