"""Messages -> the one stream, with loss weights; used alike by training and by the engine.

    system   <|system|> T.. <|end|>
    user     <|user|> T.. <|image|> I x 64 <|caption|> T.. <|/image|> <|audio|> A.. <|turn|> T.. <|/audio|> <|end|>
    film     <|video|> <|sec|> I x 16 A A .. <|sec|> I x 16 A A .. <|turn|> T.. <|caption|> T.. <|/video|>    of a user
    noted    .. <|sec|> I x 16 <|caption|> T.. <|/image|> A A ..      what each frame shows is written behind it
    live     <|audio|> <|listen|> A A A T A A T .. A <|turn|> T.. <|/audio|>     the transcript runs DELAY frames behind
    write    <|assistant|> <|write|> T.. <|end|>
    speak    <|assistant|> <|speak|> <|voice|> T T T A A T A A .. T <|tend|> A A .. <|/speak|> <|end|>
    cut      <|assistant|> <|speak|> <|voice|> T T T A A T A <|cut|> <|end|>     the user broke in
    draw     <|assistant|> <|image|> I x 64 <|/image|> <|end|>
    call     <|assistant|> <|call|> name newline JSON <|/call|> <|end|>
    tool     <|tool|> T.. <|end|>

Text leads: token i of a reply is written just before the frame LEAD frames ahead of its sound, and the first FIRST
tokens before any sound. So any prefix holds the text of all its sound and a bounded look-ahead, which is what makes
exact truncation possible. What the user says and shows becomes text too, before the answer: a picture's words follow
<|caption|>, a clip's transcript <|turn|>, or it runs along with the clip when that is live. A film has both: what was
said in it, if it has a sound track, and then what happens. Its frames and its sound lie in the order of their times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, isqrt
from typing import NamedTuple, TypeAlias

import numpy as np

from sensorium.messages import Role, Text, ToolCall
from sensorium.tokenizers import vocab
from sensorium.tokenizers.encoded import (
    HIDDEN,
    EncodedAudio,
    EncodedFilm,
    EncodedImage,
    EncodedMessage,
    EncodedPart,
    SpelledText,
)
from sensorium.tokenizers.quantize import steps_apart
from sensorium.tokenizers.stream import OwnCodes, Stream
from sensorium.tokenizers.text import TextTokenizer
from sensorium.tokenizers.vocab import Vocabulary

FRAME_MS = 80.0
LEAD_FRAMES = 6
FIRST_TOKENS = 3
DELAY_FRAMES = 6
FRAME_STRIDE = 2  # a film's frame has half the grid: 16 positions for 64, so that a second fits where a picture would


@dataclass(frozen=True, kw_only=True)
class RenderConfig:
    """Loss weights of what a stream holds, and how heard clips are laid out."""

    reply: float = 1.0  # everything the assistant says, and the captions it must write
    heard: float = 2.0  # transcripts: perceived, where the text of a spoken reply is mostly copied or known by heart
    spelled: float = 3.0  # letters read from a picture: few, and each needs a look of its own
    looked: float = 3.0  # written answers once a picture was shown: a word or two against the twenty of its caption
    listened: float = 1.0  # written answers to a typed question about a clip: how it was said, who spoke
    prompt_text: float = 0.1  # typed text of others: a light language-model loss
    listen: float = 0.2  # "nothing to write yet" at a live frame
    waited: float = 0.2  # the same in a pause between two words
    over: float = 0.5  # "the user has finished" at a live frame behind the last word
    kept: float = 1.0  # patches of a drawing that are as in the picture before it: copied, and most of them
    end: float = 2.0  # <|end|>, <|/speak|>, <|tend|>: missing one costs a whole answer
    lead_frames: int = LEAD_FRAMES
    first_tokens: int = FIRST_TOKENS
    delay_frames: int = DELAY_FRAMES
    transcripts: bool = True  # what the user says becomes text before the answer
    captions: bool = True  # and so does what the user shows
    noted_frames: bool = False  # and, if its network was taught that, what each frame of a film shows
    changes_told: bool = False  # what a changed picture will show is written before it is drawn
    cuts: bool = False  # a spoken reply that the user broke into ends in <|cut|>: its network was taught what that is
    interleave: str = "timed"  # timed | proportional | fixed | text_first: how a reply's text is laid among its frames


class Piece(NamedTuple):
    """A stretch of prompt. After it the network itself writes what it heard or saw, up to the symbol `until`."""

    stream: Stream
    until: int | None  # <|/audio|>, <|/image|>; of a film <|caption|>, <|/video|>; None: nothing is to be written here
    is_note: bool = False  # of one frame of a film


class Renderer:
    def __init__(
        self,
        text: TextTokenizer,
        vocabulary: Vocabulary,
        config: RenderConfig | None = None,
        *,
        image_levels: tuple[int, ...] = (8, 5, 5, 5),
    ) -> None:
        if text.num_tokens > vocabulary.text_tokens:
            raise ValueError(f"{text.num_tokens} text tokens do not fit a table of {vocabulary.text_tokens}")
        self.text = text
        self.vocabulary = vocabulary
        self.config = config or RenderConfig()
        self.image_levels = image_levels

    def document(self, messages: Sequence[EncodedMessage], *, live: bool = False) -> Stream:
        """A whole conversation with its loss weights: what training sees."""
        stream = Stream()
        stream.add(vocab.BOS)
        looked, written = False, self.config.reply
        for message in messages:
            self.message(stream, message, live=live, written=written)
            shown = message.parts if message.role == "user" else ()
            looked = looked or any(isinstance(part, EncodedImage | EncodedFilm) for part in shown)
            is_about_sound = {EncodedAudio, Text} <= {type(part) for part in shown}
            written = self.config.looked if looked else self.config.listened if is_about_sound else self.config.reply
        return stream

    def prompt(self, messages: Sequence[EncodedMessage], answer: Sequence[int]) -> list[Piece]:
        """A conversation up to the point where the assistant speaks.

        It is cut after every clip, picture and film whose words are not known, so that the network writes them.
        `answer` holds the symbols that open the reply, e.g. (<|write|>,) or (<|speak|>, <|voice:alloy|>).
        """
        pieces: list[Piece] = []
        stream = Stream()
        stream.add(vocab.BOS)
        for message in messages:
            stream.add(vocab.ROLE_IDS[message.role])
            for part in message.parts:
                asked = self._unwritten(part, message.role)
                start = 0
                for stop in self._medium(stream, part) if asked else ():
                    pieces.append(Piece(stream.part(start, stop), vocab.END_IMAGE, is_note=True))
                    start = stop
                stream = stream.part(start, len(stream)) if start else stream
                for until in asked:
                    pieces.append(Piece(stream, until))
                    stream = Stream()
                if not asked:
                    self.part(stream, part, own=message.role == "assistant", live=False, written=self.config.reply)
            stream.add(vocab.END)
        stream.add(vocab.ASSISTANT)
        stream.add_all(answer)
        return [*pieces, Piece(stream, None)]

    def _unwritten(self, part: EncodedPart, role: Role) -> tuple[int, ...]:
        """The symbols that close what is still to be written of a part, one after the other; none if nothing is."""
        if role != "user":
            return ()
        if isinstance(part, EncodedAudio) and self.config.transcripts and part.transcript is None:
            return (vocab.END_AUDIO,)
        if isinstance(part, EncodedImage) and self.config.captions and part.caption is None:
            return (vocab.END_IMAGE,)
        if isinstance(part, EncodedFilm) and not self._is_described(part):
            words = (self._said(part) is not None, self.config.captions)
            return (vocab.CAPTION, vocab.END_VIDEO) if all(words) else (vocab.END_VIDEO,)
        return ()

    def _medium(self, stream: Stream, part: EncodedPart) -> list[int]:
        """A clip, picture or film up to where its words begin. Returns behind which positions the network has to note
        what a frame shows."""
        notes: list[int] = []
        if isinstance(part, EncodedImage):
            self._patches(stream, part, own=False)
            stream.add(vocab.CAPTION)
        elif isinstance(part, EncodedFilm):
            notes = self._seconds(stream, part, asked=True)
            stream.add(vocab.CAPTION if self._said(part) is None else vocab.TURN)
        elif isinstance(part, EncodedAudio):
            self._clip_frames(stream, part)
            stream.add(vocab.TURN)
        return notes

    def message(self, stream: Stream, message: EncodedMessage, *, live: bool, written: float) -> None:
        """`written` is the loss weight of what the assistant writes."""
        own = message.role == "assistant"
        stream.add(vocab.ROLE_IDS[message.role], weight=self.config.reply if own else 0.0)
        for part in message.parts:
            self.part(stream, part, own=own, live=live, written=written)
        closed = own and stream.ids[-1] != vocab.CUT
        stream.add(vocab.END, weight=self.config.end if closed else 0.0)

    def part(self, stream: Stream, part: EncodedPart, *, own: bool, live: bool, written: float) -> None:
        reply = self.config.reply
        if isinstance(part, Text):
            if own:
                stream.add(vocab.WRITE, weight=reply)
            self._words(stream, part, weight=written if own else self.config.prompt_text)
        elif isinstance(part, ToolCall):
            stream.add(vocab.CALL, weight=reply)
            self._text(stream, f"{part.name}\n{part.arguments}", weight=reply)
            stream.add(vocab.END_CALL, weight=self.config.end)
        elif isinstance(part, EncodedImage):
            self._image(stream, part, own=own)
        elif isinstance(part, EncodedFilm):
            self._film(stream, part)
        elif own:
            self._speech(stream, part)
        else:
            self._clip(stream, part, live=live)

    def _words(self, stream: Stream, text: Text, *, weight: float) -> None:
        if isinstance(text, SpelledText):
            letters = [self.vocabulary.text_start + index for index in self.text.spell(text.text)]
            stream.add_all(letters, weight=weight)
        else:
            self._text(stream, text.text, weight=weight)

    def _text(self, stream: Stream, text: str, *, weight: float) -> None:
        start = self.vocabulary.text_start
        stream.add_all([start + index for index in self.text.encode(text)], weight=weight)

    def _image(self, stream: Stream, image: EncodedImage, *, own: bool) -> None:
        """A drawn picture; or a seen one with its words, if they are known; if not, none are asked for."""
        self._patches(stream, image, own=own)
        caption = None if own or not self.config.captions else image.caption
        if caption is not None:
            stream.add(vocab.CAPTION)
            spelled = isinstance(caption, SpelledText)
            self._words(stream, caption, weight=self.config.spelled if spelled else self.config.reply)
        closing = self.config.reply if own else self.config.end if caption is not None else 0.0
        stream.add(vocab.END_IMAGE, weight=closing)

    def _said(self, film: EncodedFilm) -> EncodedAudio | None:
        """The sound track, if what is said in it becomes text."""
        return film.sound if self.config.transcripts else None

    def _is_described(self, film: EncodedFilm) -> bool:
        """Whether all the words that a film should have are known."""
        said, words = self._said(film), [film.caption] if self.config.captions else []
        words += [frame.caption for frame in film.frames] if self.are_frames_noted else []
        return (said is None or said.transcript is not None) and None not in words

    @property
    def are_frames_noted(self) -> bool:
        """Whether what each frame of a film shows is written behind it."""
        return self.config.noted_frames and self.config.captions

    def _film(self, stream: Stream, film: EncodedFilm) -> None:
        """A film with its words, if all of them are known; if not, none are asked for."""
        self._seconds(stream, film)
        is_described, said = self._is_described(film), self._said(film)
        if is_described and said is not None and said.transcript is not None:
            stream.add(vocab.TURN)
            self._text(stream, said.transcript, weight=self.config.heard)
        if is_described and self.config.captions and film.caption is not None:
            # where the network writes what it heard, it is this symbol that says it is done
            stream.add(vocab.CAPTION, weight=self.config.end if said is not None else 0.0)
            self._words(stream, film.caption, weight=self.config.reply)
        stream.add(vocab.END_VIDEO, weight=self.config.end if is_described else 0.0)

    def _seconds(self, stream: Stream, film: EncodedFilm, *, asked: bool = False) -> list[int]:
        """Second after second: a mark, and what is seen and heard in it in the order in which it begins.

        Returns behind which positions a note is due that is not known, if those are `asked` for.
        """
        due: list[int] = []
        stream.add(vocab.VIDEO)
        num_heard = 0 if film.sound is None else len(film.sound.codes)
        num_seconds = 1 + int(max(film.times_ms[-1], FRAME_MS * (num_heard - 1)) // 1000)
        marks = [(1000.0 * second, 0, second) for second in range(num_seconds)]
        seen = [(time_ms, 1, index) for index, time_ms in enumerate(film.times_ms)]
        heard = [(FRAME_MS * index, 2, index) for index in range(num_heard)]
        for _, kind, index in sorted(marks + seen + heard):
            if kind == 0:
                stream.add(vocab.SECOND)
            elif kind == 1:
                self._grid(stream, film.frames[index], own=False, stride=FRAME_STRIDE)
                note = film.frames[index].caption
                if not self.are_frames_noted or (note is None and not asked):
                    continue
                stream.add(vocab.CAPTION)
                if note is None:
                    due.append(len(stream))
                    continue
                self._words(stream, note, weight=self.config.reply)
                stream.add(vocab.END_IMAGE, weight=self.config.end)
            elif film.sound is not None:
                self._heard_frame(stream, film.sound, index)
        return due

    def _patches(self, stream: Stream, image: EncodedImage, *, own: bool) -> None:
        stream.add(vocab.IMAGE, weight=self.config.reply if own else 0.0)
        self._grid(stream, image, own=own)

    def _grid(self, stream: Stream, image: EncodedImage, *, own: bool, stride: int = 1) -> None:
        """The patches row by row. With a stride each stands for so many in a row and in a column, and where the first
        of them would be."""
        side = isqrt(len(image.codes))
        weights = self._drawn_weights(stream, image) if own else [0.0] * len(image.codes)
        for index, codes in enumerate(image.codes):
            patch = (index // side * side * stride + index % side) * stride
            known = codes[0] >= 0  # hidden now and then, as in a clip
            symbol = self.vocabulary.image_start + int(codes[0]) if known else vocab.NULL
            position = stream.add(symbol, weight=weights[index])
            stream.patches.append((position, patch))
            if known and len(codes) > 1:
                stream.patch_residuals.append((position, codes[1:]))
                if own:
                    stream.drawn.append(OwnCodes(position - 1, codes))
            if image.features is not None:
                stream.seen.append((position, image.features[index]))

    def _drawn_weights(self, before: Stream, image: EncodedImage) -> list[float]:
        """Of a drawing's patches. A step of rounding is no change: a patch's code depends on those around it too."""
        shown = {patch: before.ids[position] - self.vocabulary.image_start for position, patch in before.patches}
        was = np.array([shown.get(patch, HIDDEN) for patch in range(len(image.codes))])
        is_kept = (was >= 0) & (steps_apart(was, image.codes[:, 0], self.image_levels) <= 1)
        return [self.config.kept if kept else self.config.reply for kept in is_kept]

    def _clip(self, stream: Stream, clip: EncodedAudio, *, live: bool) -> None:
        """A heard clip with its transcript, if that is known; if not, no transcript is asked for."""
        heard, start = self.config.heard, self.vocabulary.text_start
        transcript = clip.transcript if self.config.transcripts else None
        if not live or transcript is None:
            self._clip_frames(stream, clip)
            stream.add(vocab.TURN)
            if transcript is not None:
                self._text(stream, transcript, weight=heard)
            stream.add(vocab.END_AUDIO, weight=self.config.end if transcript is not None else 0.0)
            return
        tokens, due = self._token_frames(clip, end=True)
        # Where its words end, a turn is over, however long the clip goes on: what is predicted then is <|turn|>, though
        # it stands at the end only.
        over, waits = _first_silent_frame(clip), _frames_in_pauses(clip)
        stream.add(vocab.AUDIO)
        stream.add(vocab.LISTEN)
        written = 0
        for frame in range(len(clip.codes)):
            target, weight = (vocab.TURN, self.config.over) if frame > over else (vocab.LISTEN, self.config.listen)
            weight = self.config.waited if frame in waits else weight
            self._heard_frame(stream, clip, frame, target=target, weight=weight if frame else 0.0)
            while written < len(tokens) and due[written] + self.config.delay_frames <= frame:
                stream.add(start + tokens[written], weight=heard)
                written += 1
        stream.add(vocab.TURN, weight=self.config.reply)
        stream.add_all([start + token for token in tokens[written:]], weight=heard)
        stream.add(vocab.END_AUDIO, weight=self.config.end)

    def _clip_frames(self, stream: Stream, clip: EncodedAudio) -> None:
        stream.add(vocab.AUDIO)
        for frame in range(len(clip.codes)):
            self._heard_frame(stream, clip, frame)

    def _heard_frame(
        self, stream: Stream, clip: EncodedAudio, frame: int, *, target: int | None = None, weight: float = 0.0
    ) -> None:
        code = int(clip.codes[frame, 0])
        known = code >= 0  # training hides codes now and then, so that features alone must do
        symbol = self.vocabulary.audio_start + code if known else vocab.NULL
        position = stream.add(symbol, weight=weight, target=target)
        if known:
            stream.frames.append((position, clip.codes[frame, 1:]))
        if clip.features is not None:
            stream.heard.append((position, clip.features[frame]))

    def _speech(self, stream: Stream, clip: EncodedAudio) -> None:
        """A spoken reply: text a bounded lead ahead of its sound; where it was cut, of no more words than had begun.

        What was cut is there to be gone on with, not to be learned: its text ends with the words that had begun, and a
        network that learned it would now and then write no more text, and have nothing to say.
        """
        if clip.transcript is None or clip.voice is None:
            raise ValueError("a spoken reply needs its transcript and its voice")
        cut = clip.cut and self.config.cuts
        reply, start = 0.0 if cut else self.config.reply, self.vocabulary.text_start
        stream.add(vocab.SPEAK, weight=reply)
        stream.add(vocab.voice_id(clip.voice), weight=0.0)
        tokens, due = self._token_frames(clip, end=False)
        slots = _SLOTS[self.config.interleave](due, len(clip.codes), self.config)
        written = 0
        for frame in range(len(clip.codes) + 1):
            last = frame == len(clip.codes)
            while written < len(tokens) and (last or slots[written] <= frame):
                stream.add(start + tokens[written], weight=reply)
                written += 1
                if written == len(tokens) and not cut:
                    stream.add(vocab.TEXT_END, weight=self.config.end)
            if not last:
                position = stream.add(self.vocabulary.audio_start + int(clip.codes[frame, 0]), weight=reply)
                stream.frames.append((position, clip.codes[frame, 1:]))
                stream.spoken.append(OwnCodes(position - 1, clip.codes[frame]))
        stream.add(vocab.CUT if cut else vocab.END_SPEAK, weight=0.0 if cut else self.config.end)

    def _token_frames(self, clip: EncodedAudio, *, end: bool) -> tuple[list[int], list[int]]:
        """A transcript's tokens, and the frame at which each begins (or, with `end`, at which its word is complete)."""
        assert clip.transcript is not None
        tokens = self.text.encode_with_offsets(clip.transcript)
        if not clip.words:  # no timings: spread the tokens evenly
            step = len(clip.codes) / max(len(tokens), 1)
            return [token.id for token in tokens], [int((i + end) * step) for i in range(len(tokens))]
        frames: list[int] = []
        word = 0
        for token in tokens:
            while word + 1 < len(clip.words) and clip.words[word + 1].start_char <= token.start_char:
                word += 1
            time = clip.words[word]
            share = (token.start_char - time.start_char) / max(time.end_char - time.start_char, 1)
            start_ms = time.start_ms + min(max(share, 0.0), 1.0) * (time.end_ms - time.start_ms)
            frames.append(int((time.end_ms if end else start_ms) / FRAME_MS))
        return [token.id for token in tokens], frames


def _first_silent_frame(clip: EncodedAudio) -> int:
    """The first frame that lies wholly behind the last word, if anybody knows where that is."""
    return ceil(clip.words[-1].end_ms / FRAME_MS) if clip.words else len(clip.codes)


def _frames_in_pauses(clip: EncodedAudio) -> set[int]:
    """The frames that come behind one that lies wholly in a pause between two words."""
    pauses = ((ceil(one.end_ms / FRAME_MS), int(other.start_ms / FRAME_MS)) for one, other in pairwise(clip.words))
    return {frame for first, last in pauses for frame in range(first + 1, last + 1)}


def first_frame(number: int, frames_before: int, config: RenderConfig) -> int:
    """The frame at which token `number` of a spoken reply begins to be said, if so many frames were there before it.

    It is LEAD frames on. Of the first tokens, which come before any sound, only their order tells: they share the lead.
    """
    if number < config.first_tokens:
        return number * config.lead_frames // max(config.first_tokens, 1)
    return frames_before + config.lead_frames


Slots: TypeAlias = Callable[[Sequence[int], int, RenderConfig], list[int]]


def _timed(due: Sequence[int], num_frames: int, config: RenderConfig) -> list[int]:
    """Each token `lead_frames` before its sound begins; the first few before any sound."""
    return [0 if index < config.first_tokens else max(0, frame - config.lead_frames) for index, frame in enumerate(due)]


def _proportional(due: Sequence[int], num_frames: int, config: RenderConfig) -> list[int]:
    """The same lead, from evenly spread tokens: needs no timings (the ratio rule of Qwen3.5-Omni's ARIA)."""
    even = [int(index * num_frames / max(len(due), 1)) for index in range(len(due))]
    return _timed(even, num_frames, config)


def _fixed(due: Sequence[int], num_frames: int, config: RenderConfig) -> list[int]:
    """5 tokens, 10 frames, 5 tokens, .. (GLM-4-Voice's kind): the lead is unbounded."""
    return [10 * (index // 5) for index in range(len(due))]


def _text_first(due: Sequence[int], num_frames: int, config: RenderConfig) -> list[int]:
    """All text, then all frames."""
    return [0] * len(due)


_SLOTS: dict[str, Slots] = {
    "timed": _timed,
    "proportional": _proportional,
    "fixed": _fixed,
    "text_first": _text_first,
}
