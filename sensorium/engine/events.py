"""Symbols -> events: text as its characters become whole, sound frame by frame, a picture when it is drawn."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from sensorium.engine.grammar import State
from sensorium.engine.request import (
    AudioDelta,
    Event,
    ImageDelta,
    InputTranscriptDelta,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    ToolCallEvent,
    TranscriptDelta,
)
from sensorium.engine.sampling import Scores
from sensorium.engine.sequence import Symbol
from sensorium.tokenizers import vocab
from sensorium.tokenizers.audio import AudioDecoderStream
from sensorium.tokenizers.release import Release
from sensorium.tokenizers.render import first_frame
from sensorium.tokenizers.text import TextDecoderStream
from sensorium.tokenizers.vocab import NUM_SPECIALS

GREY = 128  # patches not drawn yet


class EventWriter:
    """Takes the symbols of one answer in order. `stopped` says that a stop text was met: nothing more will come."""

    def __init__(self, release: Release, *, stop: tuple[str, ...] = (), partial_images: int = 0) -> None:
        self.stopped = False
        self.num_text = 0
        self.num_frames = 0
        self.num_patches = 0
        self.num_calls = 0
        self._release = release
        self._stop = StopFilter(stop)
        self._shown = shown_after(release.config.image.grid, partial_images)
        self._sound = AudioDecoderStream(release.audio_tokenizer)
        self._scored = ScoredText(release)
        self._open()

    @property
    def num_output(self) -> int:
        """Tokens of the answer so far, all modalities together; the symbols that frame them are not counted."""
        return self.num_text + self.num_frames + self.num_patches

    def push(self, symbol: Symbol) -> Iterator[Event]:
        table = self._release.vocabulary
        if table.is_text(symbol.id):
            self.num_text += 1
            if symbol.state is State.SPEAK:
                self._speak()
            elif symbol.state is State.WRITE:
                self._scored.note(symbol)
            yield from self._say(symbol.state, self._text.push(symbol.id - table.text_start))
        elif table.is_audio(symbol.id):
            self.num_frames += 1
            codes = torch.from_numpy(codes_of(symbol, table.audio_start)).unsqueeze(0)
            yield from self._sounds(self._sound.push(codes))
        elif table.is_image(symbol.id):
            self.num_patches += 1
            self._codes.append(codes_of(symbol, table.image_start))
            if len(self._codes) in self._shown:
                yield picture_of(self._release, self._codes)
        else:
            yield from self._close(symbol)
            self._open()

    def finish(self) -> Iterator[Event]:
        """What is still held back when an answer is cut short."""
        yield from self._written(self._stop.flush())
        yield from self._sounds(self._sound.flush())

    def _open(self) -> None:
        self._text = TextDecoderStream(self._release.text)
        self._call = ""
        self._codes: list[np.ndarray] = []
        self._num_spoken = 0  # tokens of this part
        self._frames_before = self.num_frames  # of the parts before it
        self._last_start = 0  # the frame at which the last token begins
        self._held_start: int | None = None  # and the text that is held back for want of a whole character

    def _speak(self) -> None:
        """Notes where a token of speech begins to be said."""
        frames = self.num_frames - self._frames_before
        start = first_frame(self._num_spoken, frames, self._release.config.render)
        self._last_start = self._frames_before + start
        if self._held_start is None:
            self._held_start = self._last_start
        self._num_spoken += 1

    def _say(self, state: State, text: str) -> Iterator[Event]:
        if not text:
            return
        match state:
            case State.SPEAK:
                # none is held where the last token also held the beginning of a character that never came
                start = self._last_start if self._held_start is None else self._held_start
                yield TranscriptDelta(text=text, start_ms=1000.0 * start / self._release.config.audio.frame_rate_hz)
                self._held_start = None
            case State.CALL:
                yield from self._called(text)
            case _:
                self._scored.num_decoded += len(text)
                yield from self._written(self._stop.push(text))

    def _written(self, text: str) -> Iterator[Event]:
        self.stopped = self._stop.met
        if text:
            yield TextDelta(text=text, logprobs=self._scored.release(len(text)))

    def _called(self, text: str) -> Iterator[ToolCallDelta]:
        """More of a call. Its first line is the name, which is told when it is whole."""
        is_named = "\n" in self._call
        self._call += text
        name, newline, arguments = self._call.partition("\n")
        if newline:
            yield ToolCallDelta(name=name, arguments=text if is_named else arguments)

    def _close(self, symbol: Symbol) -> Iterator[Event]:
        """A symbol that frames a part: what was open before it is complete."""
        yield from self._say(symbol.state, self._text.flush())
        if symbol.state is State.WRITE:
            yield from self._written(self._stop.flush())
        if symbol.id == vocab.END_SPEAK:
            yield from self._sounds(self._sound.flush())
            self._sound = AudioDecoderStream(self._release.audio_tokenizer)
        if symbol.id == vocab.END_CALL:
            self.num_calls += 1
            name, newline, arguments = self._call.partition("\n")
            if not newline:
                yield ToolCallDelta(name=name, arguments="")
            yield ToolCallEvent(name=name, arguments=arguments)

    def _sounds(self, waveform: torch.Tensor) -> Iterator[AudioDelta]:
        if len(waveform):
            sample_rate_hz = self._release.config.audio.sample_rate_hz
            yield AudioDelta(waveform=waveform.clamp(-1.0, 1.0).numpy(), sample_rate_hz=sample_rate_hz)


class ScoredText:
    """Log probabilities of written tokens, kept until their text is let out; those of text that never is are dropped.

    Text may leave later than its tokens: a character is split over several, or it may be the beginning of a stop text.
    """

    def __init__(self, release: Release) -> None:
        self.num_decoded = 0  # characters
        self._release = release
        self._num_released = 0
        self._waiting: deque[tuple[int, TokenLogprob]] = deque()  # (character at which its text begins, ..)

    def note(self, symbol: Symbol) -> None:
        if symbol.scores is not None:
            top = tuple(TokenLogprob(self._bytes(other), logprob) for other, logprob in symbol.scores.top)
            token = TokenLogprob(self._bytes(symbol.id), symbol.scores.logprob, top)
            self._waiting.append((self.num_decoded, token))

    def release(self, num_characters: int) -> tuple[TokenLogprob, ...]:
        """The tokens whose text begins in the next so many characters."""
        self._num_released += num_characters
        released: list[TokenLogprob] = []
        while self._waiting and self._waiting[0][0] < self._num_released:
            released.append(self._waiting.popleft()[1])
        return tuple(released)

    def _bytes(self, symbol: int) -> bytes:
        return self._release.text.token_bytes(symbol - self._release.vocabulary.text_start)


class TranscriptWriter:
    """Takes the symbols of one clip's transcript in order, with their scores if there are any. `text` is what was heard
    so far."""

    def __init__(self, release: Release, *, clip: int) -> None:
        self.text = ""
        self._clip = clip
        self._text_start = release.vocabulary.text_start
        self._decoder = TextDecoderStream(release.text)
        self._bytes_of = release.text.token_bytes
        self._scored: list[tuple[int, TokenLogprob]] = []  # tokens whose text is not whole yet

    def push(self, symbol: int, scores: Scores | None = None) -> Iterator[InputTranscriptDelta]:
        is_over = symbol < NUM_SPECIALS  # <|/audio|>, of a film <|caption|>
        token = symbol - self._text_start
        text = self._decoder.flush() if is_over else self._decoder.push(token)
        if scores is not None and not is_over:
            self._scored.append((token, TokenLogprob(self._bytes_of(token), scores.logprob)))
        if text:
            self.text += text
            tokens, logprobs = tuple(zip(*self._scored, strict=True)) or ((), ())
            self._scored = []
            yield InputTranscriptDelta(clip=self._clip, text=text, tokens=tokens, logprobs=logprobs)


def shown_after(grid: int, partial_images: int) -> set[int]:
    """After how many patches a picture of `grid` rows is shown: evenly spread, at the ends of rows, and when whole."""
    shares = min(partial_images, grid - 1) + 1
    return {grid * (grid * share // shares) for share in range(1, shares + 1)}


def codes_of(symbol: Symbol, start: int) -> np.ndarray:
    """(1 + R,) of a frame or a patch."""
    residuals = () if symbol.residuals is None else symbol.residuals
    return np.array([symbol.id - start, *residuals])


def picture_of(release: Release, codes: Sequence[np.ndarray]) -> ImageDelta:
    """What a picture shows whose first patches, each (1 + R,), are drawn."""
    tokenizer = release.image_tokenizer
    missing = tokenizer.config.num_patches - len(codes)
    every = np.stack([*codes, *[codes[-1]] * missing])
    pixels = tokenizer.decode(torch.from_numpy(every).unsqueeze(0))[0].numpy()
    if missing:
        pixels[len(codes) // tokenizer.config.grid * tokenizer.config.patch_size :] = GREY
    return ImageDelta(pixels=pixels, final=not missing)


class StopFilter:
    """Lets text through up to the first stop text, and holds back what may be the beginning of one."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""
        self.met = False

    def push(self, text: str) -> str:
        if self.met:
            return ""
        text = self._held + text
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.met = True
            self._held = ""
            return text[: min(found)]
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def flush(self) -> str:
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` may begin `stop`."""
    return next(size for size in range(min(len(text), len(stop) - 1), -1, -1) if text.endswith(stop[:size]))
