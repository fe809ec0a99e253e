"""What all turns of a document share: who speaks, in which voice it is answered, and how words become sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from sensorium.data.generators.dialogues import SKILLS, Exchange, a, exchange, pick, typed
from sensorium.data.generators.speech import (
    PRESETS,
    PhonemeTime,
    Speaker,
    Split,
    Synthesizer,
    Utterance,
    in_room,
    phoneme_times,
    random_speaker,
    with_pauses,
    with_silence,
)
from sensorium.data.generators.styles import Style, speak
from sensorium.data.generators.surroundings import (
    Background,
    VoiceHeight,
    one_after_another,
    voice_height,
    with_background,
)
from sensorium.data.generators.translations import Language, speaking
from sensorium.data.generators.wordings import DRAW, SYSTEM_PROMPTS
from sensorium.messages import Audio, Image, Message, Part, Text

_DRAWN_SKILLS = (*SKILLS, "sum", "sum", "switch", "repeat")  # the widest ones need more examples


@dataclass(kw_only=True)
class Writer:
    """Writes one document: what all its turns share (who speaks, in which voice it is answered), and the turns."""

    rng: np.random.Generator
    split: Split
    speaker_split: Split
    speaker: Speaker
    voice: str
    messages: list[Message] = field(default_factory=list)
    phonemes: list[tuple[PhonemeTime, ...]] = field(default_factory=list)

    def heard(
        self,
        text: str,
        *,
        style: Style | None = None,
        language: Language = "english",
    ) -> Audio:
        """The text as the user says it into a microphone."""
        return self._recorded(_said(text, speaking(self.speaker, language), style))

    def heard_pausing(self, text: str, *, pauses: int, open_ms: tuple[float, float] = (300.0, 1600.0)) -> Audio:
        """The text with pauses; the microphone mostly stays on behind it, and the line may be a quiet one.

        In a call it always stays on: were it to stay on less often or for less time than a pause takes, a network would
        learn that whoever is silent for long goes on.
        """
        utterance = with_pauses(_said(text, self.speaker, None), self.rng, pauses=pauses)
        if self.rng.random() < 0.85:
            utterance = with_silence(utterance, before_ms=0.0, after_ms=self.rng.uniform(*open_ms))
        return self._recorded(utterance, quiet=self.rng.random() < 0.5)

    def heard_before(self, text: str, background: Background | None) -> Audio:
        """The text as the user says it where something else is to be heard, or nothing."""
        utterance = in_room(_said(text, self.speaker, None), self.rng, level=0.5 * self.rng.random())
        utterance = with_background(utterance, self.rng, background)
        self.phonemes.append(utterance.phonemes)
        return utterance.audio

    def heard_people(self, texts: Sequence[str], *, people: int) -> tuple[Audio, list[VoiceHeight | None]]:
        """The texts one after another, the first by the user; so many people take a run of them each. And how high the
        voice of each text is, None for the same voice as before."""
        others = [random_speaker(self.rng, split=self.speaker_split) for _ in range(people - 1)]
        turns = np.sort(np.append(np.arange(people), self.rng.integers(people, size=len(texts) - people)))
        speakers = [(self.speaker, *others)[turn] for turn in turns]
        spoken = [_SYNTHESIZER.speak(text, speaker) for text, speaker in zip(texts, speakers, strict=True)]
        is_new = np.diff(turns, prepend=-1) > 0
        heights: list[VoiceHeight | None] = [
            voice_height(said) if new else None for said, new in zip(spoken, is_new, strict=True)
        ]
        return self._recorded(one_after_another(spoken, self.rng)), heights

    def sound_track(self, text: str, *, least_ms: float) -> Audio:
        """The text somewhere in the sound of a film that goes on for so long, if the text does not take longer."""
        utterance = _said(text, self.speaker, None)
        spare_ms = max(0.0, least_ms - utterance.audio.duration_ms)
        before_ms = spare_ms * self.rng.random()
        return self._recorded(with_silence(utterance, before_ms=before_ms, after_ms=spare_ms - before_ms))

    def _recorded(self, utterance: Utterance, *, quiet: bool = False) -> Audio:
        utterance = in_room(utterance, self.rng, level=self.rng.random(), quiet=quiet)
        self.phonemes.append(utterance.phonemes)
        return utterance.audio

    def spoken(self, text: str, style: Style | None = None, language: Language = "english") -> Audio:
        """The text in the voice of the assistant."""
        utterance = _said(text, speaking(PRESETS[self.voice], language), style)
        self.phonemes.append(utterance.phonemes)
        return utterance.audio

    def begun(self, text: str) -> Audio:
        """The text in the voice of the assistant until the user breaks in, somewhere in it: the words begun by then."""
        whole = self.spoken(text)
        words = whole.words
        cut_ms = self.rng.uniform(words[0].start_ms + 150.0, words[-1].start_ms)
        said = tuple(word for word in words if word.start_ms < cut_ms)
        waveform = whole.waveform[: round(cut_ms * whole.sample_rate_hz / 1000)]
        starts = [(time.phoneme, time.start_ms) for time in self.phonemes[-1] if time.start_ms < cut_ms]
        self.phonemes[-1] = phoneme_times(starts, 1000 * len(waveform) / whole.sample_rate_hz)
        return replace(whole, waveform=waveform, transcript=text[: said[-1].end_char], words=said, cut=True)

    def typed(self, text: str) -> Text:
        return Text(text=typed(text, self.rng))

    def heard_or_typed(self, text: str, *, heard: float) -> Part:
        return self.heard(text) if self.rng.random() < heard else self.typed(text)

    def exchange(self) -> Exchange:
        return exchange(self.rng, pick(self.rng, _DRAWN_SKILLS), split=self.split)

    @property
    def sound_ms(self) -> float:
        """Of all that was heard and said so far."""
        parts = [part for message in self.messages for part in message.parts]
        return sum(part.duration_ms for part in parts if isinstance(part, Audio))

    def num_turns(self) -> int:
        return int(self.rng.integers(2, 4)) if self.rng.random() < 0.15 else 1

    def maybe_system(self) -> None:
        """Some clients always send a system message; it must not disturb."""
        if self.rng.random() < 0.1:
            self.messages.append(Message(role="system", parts=(Text(text=pick(self.rng, SYSTEM_PROMPTS)),)))

    def user(self, *parts: Part) -> None:
        self.messages.append(Message(role="user", parts=parts))

    def about(self, media: Part | Sequence[Part], question: Part) -> None:
        """A user's turn of a clip, picture or film, or of pictures, and a question about it, in either order."""
        parts = media if isinstance(media, Sequence) else (media,)
        self.user(*((*parts, question) if self.rng.random() < 0.5 else (question, *parts)))

    def named(self, pixels: np.ndarray, name: str, questions: Sequence[str]) -> None:
        """A picture of one thing, and what it is called."""
        shown = Image(pixels=pixels, caption=Text(text=a(name)))
        self.about(shown, self.heard_or_typed(pick(self.rng, questions), heard=0.1))
        self.assistant(Text(text=a(name)))

    def drawn(self, wanted: str, pixels: np.ndarray, *, heard: float = 0.2) -> None:
        """An order to draw something, and the drawing."""
        self.user(self.heard_or_typed(pick(self.rng, DRAW).format(x=wanted), heard=heard))
        self.assistant(Image(pixels=pixels))

    def assistant(self, *parts: Part) -> None:
        self.messages.append(Message(role="assistant", parts=parts))


def _said(text: str, speaker: Speaker, style: Style | None) -> Utterance:
    return speak(_SYNTHESIZER, text, speaker, style) if style else _SYNTHESIZER.speak(text, speaker)


_SYNTHESIZER = Synthesizer()
