"""Which symbols may come next: a finite-state machine over what the network writes.

    transcript   T.. <|/audio|>         of a clip;  T.. <|/image|> of a picture
                 T.. <|caption|> T.. <|/video|>     of a film
    live         A T.. A T.. A .. <|turn|> T.. <|/audio|>     frames are heard, not written; <|listen|> passes
    answer       one form or several, then <|end|>
      write      <|write|> T..
      speak      <|speak|> <|voice|> T T T A A T A .. T <|tend|> A .. <|/speak|>
      draw       <|image|> I x 64 <|/image|>
      call       <|call|> T.. <|/call|>

The softmax picks the modality; the machine only takes away what no stream could mean. It also bounds what could go on
for ever: a transcript, sound that has lost its text, text that has no sound, parts in one answer. Where the text of a
part must keep to a schema (`Rules`), that decides which text may come, and when the part may end.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from sensorium.engine.constraint import Constraint
from sensorium.engine.request import Modality, ToolChoice
from sensorium.tokenizers import vocab
from sensorium.tokenizers.vocab import NUM_SPECIALS, VOICES, Vocabulary

MAX_PARTS = 8  # forms in one answer
MAX_TEXT_RUN = 64  # text tokens in a row before some sound of them
MAX_FRAME_RUN = 38  # frames in a row without text, before the text is complete: 3 s
FRAMES_PER_TOKEN = 12  # sound may take so long for each token of its text (speech needs 2 to 4), and ..
SPARE_FRAMES = 25  # .. this long besides
MAX_LIVE_RUN = 8  # transcript tokens in a row behind one heard frame: those of a word come together
SPARE_TRANSCRIPT_TOKENS = 8  # a clip's transcript may have as many tokens as the clip has frames, and these
MAX_CAPTION_TOKENS = 48
MAX_STORY_TOKENS = 96  # what happens in a film
MAX_NOTE_TOKENS = 40  # what a frame of it shows, and what has happened since the one before
NOTE_TOKENS = 14  # of each of a film's notes, so much room is kept


class State(Enum):
    TRANSCRIPT = auto()
    LISTEN = auto()  # behind a heard frame: more of the transcript, or nothing yet, or the user has finished
    OPEN = auto()  # the first form of an answer is chosen
    WRITE = auto()
    VOICE = auto()
    SPEAK = auto()
    DRAW = auto()
    CALL = auto()
    CLOSED = auto()  # a form is complete: another one, or the end
    DONE = auto()


class Kind(Enum):
    """What a symbol belongs to. A position's legal symbols may be of two kinds only where speech is interleaved."""

    LANGUAGE = auto()  # text and specials
    AUDIO = auto()
    IMAGE = auto()


class Span(NamedTuple):
    """The legal symbols of one kind. If one of them is `given`, it stands for the kind: no other may come."""

    kind: Kind
    start: int
    legal: np.ndarray  # (N,) bool, of symbols start .. start + N
    given: int | None = None


@dataclass(frozen=True, kw_only=True)
class Alphabet:
    """The symbols a model has, and the sets of them that the machine speaks of."""

    vocabulary: Vocabulary
    num_text_tokens: int  # the tokenizer may leave some of the table's ids unused
    num_patches: int
    first_tokens: int  # so many text tokens come before any sound

    @cached_property
    def _text(self) -> np.ndarray:
        legal = np.zeros(self.vocabulary.audio_start, dtype=bool)
        legal[NUM_SPECIALS : NUM_SPECIALS + self.num_text_tokens] = True
        return legal

    @lru_cache(maxsize=64)  # noqa: B019 - an alphabet lives as long as its model
    def spans(self, *specials: int, text: bool = False, audio: bool = False, image: bool = False) -> tuple[Span, ...]:
        table = self.vocabulary
        spans: list[Span] = []
        if specials or text:
            legal = self._text.copy() if text else np.zeros_like(self._text)
            legal[list(specials)] = True
            spans.append(Span(Kind.LANGUAGE, 0, legal))
        if audio:
            spans.append(Span(Kind.AUDIO, table.audio_start, np.ones(table.audio_codes, dtype=bool)))
        if image:
            spans.append(Span(Kind.IMAGE, table.image_start, np.ones(table.image_codes, dtype=bool)))
        return tuple(spans)


@dataclass(kw_only=True)
class Script:
    """The text symbols of what is spoken, and then the symbol that comes behind them. Until that is known, these are
    only the first ones."""

    symbols: list[int] = field(default_factory=list)
    end: int | None = None


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What an answer must keep to besides. `document` is for what is written, `call` for each call, `script` the text
    symbols of what is spoken, `given` the codes of those patches of a picture that are not the network's to choose."""

    tool_choice: ToolChoice = "auto"
    max_calls: int = MAX_PARTS
    document: Constraint | None = None
    call: Constraint | None = None
    script: tuple[int, ...] = ()
    given: Mapping[int, np.ndarray] = field(default_factory=dict)  # patch -> (1 + R,)


_OPENED_BY = {
    vocab.WRITE: State.WRITE,
    vocab.SPEAK: State.VOICE,
    vocab.IMAGE: State.DRAW,
    vocab.CALL: State.CALL,
    vocab.END: State.DONE,
}


_CLOSED_BY = {
    vocab.BOS: (),
    vocab.END: (),
    vocab.AUDIO: (vocab.TURN, vocab.END_AUDIO, vocab.END),
    vocab.LISTEN: (vocab.TURN, vocab.END_AUDIO, vocab.END),
    vocab.TURN: (vocab.END_AUDIO, vocab.END),
    vocab.SPEAK: (vocab.TEXT_END, vocab.END_SPEAK, vocab.END),
    **{vocab.voice_id(voice): (vocab.TEXT_END, vocab.END_SPEAK, vocab.END) for voice in VOICES},
    vocab.TEXT_END: (vocab.END_SPEAK, vocab.END),
    vocab.IMAGE: (vocab.END_IMAGE, vocab.END),
    vocab.CAPTION: (vocab.END_IMAGE, vocab.END),
    vocab.VIDEO: (vocab.END_VIDEO, vocab.END),
    vocab.CALL: (vocab.END_CALL, vocab.END),
}


def closing(symbols: Sequence[int], *, cuts: bool) -> tuple[int, ...]:
    """What ends the last message of a stream, if it was left open: an answer cut short, a turn just heard. With `cuts`,
    speech that was cut short ends otherwise than speech that was over."""
    last = next(symbol for symbol in reversed(symbols) if symbol < NUM_SPECIALS)
    if last in (vocab.TURN, vocab.CAPTION):  # of a film as of a clip or a picture
        opened = (symbol for symbol in reversed(symbols) if symbol in (vocab.AUDIO, vocab.IMAGE, vocab.VIDEO))
        last = vocab.VIDEO if next(opened, None) == vocab.VIDEO else last
    closed_by = _CLOSED_BY.get(last, (vocab.END,))
    return (vocab.CUT, vocab.END) if cuts and vocab.END_SPEAK in closed_by else closed_by


class Grammar:
    """`legal()` says what may come, `push(symbol)` what came."""

    def __init__(
        self,
        alphabet: Alphabet,
        state: State,
        *,
        words: int | None = vocab.WRITE,
        voice: int = 0,
        rules: Rules = Rules(),
        max_transcript: int = 0,
        until: int = vocab.END_AUDIO,
    ) -> None:
        self.state = state
        self.words = words  # the symbol that opens words, <|write|> or <|speak|>; None: the answer is one picture
        self.vocabulary = alphabet.vocabulary
        self._alphabet = alphabet
        self._rules = rules
        self._voice = voice
        self._num_calls = 0
        self._room: int | None = None  # positions left for the answer
        self._max_transcript = max_transcript
        self._until = until
        self._num_parts = 0
        self._script = Script(symbols=list(rules.script), end=vocab.END) if rules.script else None
        self._follows: int | None = None  # must come behind what was spoken
        self._open()

    @classmethod
    def transcript(cls, alphabet: Alphabet, *, max_tokens: int, until: int = vocab.END_AUDIO) -> Grammar:
        """What a clip says or, until <|/image|>, a picture shows. In a film <|caption|> ends what is said."""
        return cls(alphabet, State.TRANSCRIPT, max_transcript=max_tokens, until=until)

    @classmethod
    def listening(cls, alphabet: Alphabet) -> Grammar:
        """A turn that is heard live: `push` takes the heard frames too, `allow` comes before anything is written."""
        return cls(alphabet, State.LISTEN)

    @classmethod
    def answer(
        cls,
        alphabet: Alphabet,
        *,
        modality: Modality,
        voice: str,
        rules: Rules = Rules(),
    ) -> Grammar:
        """Raises ValueError for an unknown voice, and for a document that should not be written."""
        if rules.document is not None and modality != "text":
            raise ValueError("a document is written, not spoken or drawn")
        words = {"text": vocab.WRITE, "audio": vocab.SPEAK, "image": None}[modality]
        return cls(alphabet, State.OPEN, words=words, voice=vocab.voice_id(voice), rules=rules)

    def twin(self) -> Grammar:
        """One that goes its own way from here, up to the end of the part: the part's constraint is shared."""
        return copy.copy(self)

    @property
    def done(self) -> bool:
        return self.state is State.DONE

    @property
    def patch(self) -> int | None:
        """Which patch of a picture comes next; None if none does."""
        drawing = self.state is State.DRAW and self._num_codes < self._alphabet.num_patches
        return self._num_codes if drawing else None

    @property
    def given(self) -> np.ndarray | None:
        """(1 + R,) the codes of the next patch, if they are given."""
        return None if self.patch is None else self._rules.given.get(self.patch)

    @property
    def forms(self) -> tuple[int, ...]:
        """The symbols that may open the first form of the answer; words of either kind count as one."""
        if self.words is None:
            return (vocab.IMAGE,)
        if self._rules.script:
            return (vocab.SPEAK,)
        if self._rules.tool_choice == "required":
            return (vocab.CALL,)
        return (vocab.WRITE, vocab.SPEAK, *self._image, *self._call)

    @property
    def is_open(self) -> bool:
        """An answer that is free in its words is about to begin."""
        return self.state is State.OPEN and not self._rules.script

    @property
    def _image(self) -> tuple[int, ...]:
        """A picture is not begun where there is no room to finish it."""
        has_room = self._room is None or self._room >= self._alphabet.num_patches + 2
        return (vocab.IMAGE,) if has_room and not self._rules.document else ()

    @property
    def _call(self) -> tuple[int, ...]:
        may_call = self._rules.tool_choice != "none" and self._num_calls < self._rules.max_calls
        return (vocab.CALL,) if may_call else ()

    def limit(self, room: int) -> None:
        """The answer may take so many positions: a document or a call is brought to its end before, and a picture that
        would have none is not begun."""
        self._room = room

    def follow(self, script: Script) -> None:
        """What is spoken next is this. It must be known a symbol ahead."""
        self._script = script

    def allow(self, room: int) -> None:
        """A live transcript may take so many more positions, and no more than frames heard so far can say."""
        self._max_transcript = min(self._num_codes + SPARE_TRANSCRIPT_TOKENS, self._num_text + room)

    def legal(self) -> tuple[Span, ...]:
        spans = self._alphabet.spans
        match self.state:
            case State.TRANSCRIPT:
                return spans(self._until, text=self._num_text < self._max_transcript)
            case State.LISTEN:
                more = self._num_text < self._max_transcript and self._text_run < MAX_LIVE_RUN
                return spans(vocab.LISTEN, vocab.TURN, text=more)
            case State.OPEN:
                return spans(*self.forms)
            case State.WRITE:
                if self._rule:
                    return self._legal_by_rule(self._rule, vocab.END)
                return spans(*((vocab.END, *self._image, *self._call) if self._num_text else ()), text=True)
            case State.VOICE:
                return spans(self._voice)
            case State.SPEAK:
                return self._legal_in_speech()
            case State.DRAW:
                if self.patch is None:
                    return spans(vocab.END_IMAGE)
                return spans(image=True) if self.given is None else (self._given_span(self.given),)
            case State.CALL:
                if self._rule:
                    return self._legal_by_rule(self._rule, vocab.END_CALL)
                return spans(*((vocab.END_CALL,) if self._num_text else ()), text=True)
            case State.CLOSED:
                if self._follows == vocab.IMAGE:
                    return spans(vocab.IMAGE)
                over = self.words is None or self._num_parts >= MAX_PARTS or self._rules.script
                more = () if over else (self.words, *self._image, *self._call)
                return spans(vocab.END, *more)
            case State.DONE:
                return ()

    def push(self, symbol: int) -> None:
        table = self.vocabulary
        if self._room is not None:
            self._room -= 1
        if table.is_text(symbol):
            if self._rule:
                self._rule.push(symbol - table.text_start)
            self._num_text += 1
            self._text_run += 1
            self._frame_run = 0
        elif table.is_audio(symbol):
            self._num_codes += 1
            self._frame_run += 1
            self._text_run = 0
        elif table.is_image(symbol):
            self._num_codes += 1
        elif symbol == vocab.TEXT_END:
            self._text_complete = True
        elif symbol == vocab.TURN:
            self.state = State.TRANSCRIPT
        elif self.state is State.TRANSCRIPT:
            assert symbol == self._until, symbol
            self.state = State.DONE
        elif self.state is State.VOICE:
            self.state = State.SPEAK
        elif symbol in _OPENED_BY:
            self.state = _OPENED_BY[symbol]
            self._num_parts += 1
            self._num_calls += symbol == vocab.CALL
            self._open()
        else:
            assert symbol in (vocab.END_IMAGE, vocab.END_SPEAK, vocab.END_CALL), symbol
            self.state = State.CLOSED
            self._follows, self._script = self._script.end if self._script else None, None

    def _open(self) -> None:
        self._num_text = 0
        self._num_codes = 0  # frames or patches
        self._text_run = 0
        self._frame_run = 0
        self._text_complete = False
        part = {State.WRITE: self._rules.document, State.CALL: self._rules.call}.get(self.state)
        self._rule = part.fresh() if part else None

    def _legal_by_rule(self, rule: Constraint, end: int) -> tuple[Span, ...]:
        legal = np.zeros(self.vocabulary.audio_start, dtype=bool)
        room = None if self._room is None else self._room - 1  # the end takes one
        legal[NUM_SPECIALS : NUM_SPECIALS + self._alphabet.num_text_tokens] = rule.legal(room)
        legal[end] = rule.complete
        return (Span(Kind.LANGUAGE, 0, legal),)

    def _given_span(self, codes: np.ndarray) -> Span:
        (span,) = self._alphabet.spans(image=True)
        return span._replace(given=span.start + int(codes[0]))

    def _legal_in_speech(self) -> tuple[Span, ...]:
        spans = self._alphabet.spans
        exhausted = self._num_codes >= SPARE_FRAMES + FRAMES_PER_TOKEN * self._num_text
        if self._text_complete:
            end = (vocab.END_SPEAK,) if self._num_codes else ()
            return spans(*end, audio=not (end and exhausted))
        if self._script:
            return self._legal_by_script(self._script, exhausted=exhausted)
        end = (vocab.TEXT_END,) if self._num_text else ()
        if self._num_text < self._alphabet.first_tokens:
            return spans(*end, text=True)
        if exhausted or self._frame_run >= MAX_FRAME_RUN:
            return spans(*end, text=True)
        return spans(*end, text=self._text_run < MAX_TEXT_RUN, audio=True)

    def _legal_by_script(self, script: Script, *, exhausted: bool) -> tuple[Span, ...]:
        """Whether text comes next or sound is the network's choice; which text, is not."""
        if self._num_text == len(script.symbols):
            assert script.end is not None
            return self._alphabet.spans(vocab.TEXT_END)
        must_write = self._num_text < self._alphabet.first_tokens or exhausted or self._frame_run >= MAX_FRAME_RUN
        text = must_write or self._text_run < MAX_TEXT_RUN
        given = script.symbols[self._num_text]
        return tuple(
            span._replace(given=given) if span.kind is Kind.LANGUAGE else span
            for span in self._alphabet.spans(text=text, audio=not must_write)
        )
