"""Synthetic speech with exact word and phoneme times, and the room it is heard in.

espeak-ng speaks; its library comes with the `espeakng_loader` package (or from the system). It is a formant
synthesiser with over a hundred voice variants, several hundred times faster than real time, so that speech can be
made while training instead of being stored. Everything here is a function of its arguments: the same text, speaker
and generator state give the same samples.
"""

from __future__ import annotations

import ctypes
import threading
from _ctypes import dlclose
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np
import soxr

from sensorium.messages import Audio, WordTime

SAMPLE_RATE_HZ = 16_000

Split: TypeAlias = Literal["train", "heldout"]


@dataclass(frozen=True, kw_only=True)
class Speaker:
    """A way of speaking. `accent` is an espeak voice, `variant` a voice quality of it ("" for its own)."""

    name: str
    accent: str = "en-us"
    variant: str = ""
    pitch: int = 50  # 0 .. 99, relative to the variant's own
    pitch_range: int = 50  # 0 (monotone) .. 99
    rate_wpm: int = 165
    volume: int = 100  # percent of the usual loudness


class PhonemeTime(NamedTuple):
    """When one phoneme sounds. `phoneme` is a member of `PHONEMES`."""

    phoneme: str
    start_ms: float
    end_ms: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Utterance:
    """Speech at 16 kHz with its transcript and word times (in `audio`), and its phonemes in order, without gaps."""

    audio: Audio
    phonemes: tuple[PhonemeTime, ...]


PRESETS: dict[str, Speaker] = {
    speaker.name: speaker
    for speaker in (
        Speaker(name="alloy", accent="en-us", variant="f2", pitch=40, rate_wpm=165),
        Speaker(name="echo", accent="en-us", variant="m3", pitch=45, rate_wpm=165),
        Speaker(name="sage", accent="en-gb-x-rp", variant="belinda", pitch=50, pitch_range=60, rate_wpm=155),
        Speaker(name="coral", accent="en-us", variant="Annie", pitch=45, pitch_range=65, rate_wpm=175),
        Speaker(name="ash", accent="en-gb-scotland", variant="m7", pitch=40, rate_wpm=160),
        Speaker(name="ballad", accent="en-gb-x-rp", variant="gustave", pitch=60, pitch_range=65, rate_wpm=150),
        Speaker(name="shimmer", accent="en-gb-scotland", variant="steph", pitch=65, pitch_range=80, rate_wpm=165),
        Speaker(name="verse", accent="en-us", variant="adam", pitch=30, pitch_range=60, rate_wpm=170),
    )
}
"""The eight voices the network speaks in."""

TRAIN_ACCENTS = ("en-us", "en", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbcwmd", "en-029", "en-us-nyc")
HELDOUT_ACCENT = "en-gb-x-gbclan"

# Left out are variants that repeat another's spectrum (klatt6, steph2, ..), that are not intelligible or not human
# (robots, whispers, zac), that clip (iven), or that read uninitialised memory and so never repeat (Reed, caleb).
TRAIN_VARIANTS = (
    "",
    *"""
    Alex Alicia Andy Annie Denis Diogo Gene Gene2 Henrique Hugo Jacky Lee Marco Mario Michael Mike Storm adam anika
    aunty belinda benjamin boris croak ed edward f1 f2 f4 grandma grandpa gustave ian iven2 iven3 iven4 john klatt3
    klatt4 klatt5 m1 m2 m3 m4 m5 m6 m7 marcelo max michel miguel mike2 norbert pedro quincy rob robert sandro steph
    travis victor
    """.split(),
)

# None sounds almost like a training variant: the distances of mean log-mel spectrum and pitch to the nearest one are
# 3.4 and more, where variants that only differ by name are 2 and less apart. The first four are women.
HELDOUT_VARIANTS = ("f5", "linda", "shelby", "Andrea", "paul", "pablo", "david", "Nguyen", "m8", "antonio")


def random_speaker(rng: np.random.Generator, *, split: Split) -> Speaker:
    """Someone to listen to. Held-out speakers have a voice quality no training speaker has, one in four also an
    accent none has; a third of the training speakers are `PRESETS`."""
    if split == "train":
        if rng.random() < 1 / 3:
            return PRESETS[str(rng.choice(tuple(PRESETS)))]
        accent, variant = str(rng.choice(TRAIN_ACCENTS)), str(rng.choice(TRAIN_VARIANTS))
    else:
        accent = HELDOUT_ACCENT if rng.random() < 1 / 4 else str(rng.choice(TRAIN_ACCENTS))
        variant = str(rng.choice(HELDOUT_VARIANTS))
    pitch, pitch_range, rate_wpm = int(rng.integers(20, 81)), int(rng.integers(25, 76)), int(rng.integers(120, 211))
    return Speaker(
        name=f"{accent}+{variant}:{pitch}:{pitch_range}:{rate_wpm}",
        accent=accent,
        variant=variant,
        pitch=pitch,
        pitch_range=pitch_range,
        rate_wpm=rate_wpm,
    )


# --- phonemes

SILENCE = "_"
UNKNOWN_PHONEME = "unk"
PHONEMES: tuple[str, ...] = (
    SILENCE,
    UNKNOWN_PHONEME,
    *"p b t d k g ? tS dZ f v T D s z S Z h x m n N l r j w".split(),
    *"i: I i@ E e@ eI a aa A: A@ aI aI@ aU 0 O: O@ OI oU U u: U@ V 3: @ @L".split(),
)
"""What the English accents tell apart, in espeak's letters, without stress. Index 0 is silence."""

_STRESS_MARKS = "',%=|"

# Sounds that only some accents or some places in a word have, by the phoneme they stand for.
_ALLOPHONES = {
    **dict.fromkeys(("_:", "_|", "_!", ""), SILENCE),  # pauses, by length
    **dict.fromkeys(("t#", "t2", "t["), "t"),
    **dict.fromkeys(("I#", "I2"), "I"),
    **dict.fromkeys(("@-", "@2", "@5", "a#"), "@"),
    **dict.fromkeys(("3", "VR", "IR"), "3:"),
    **dict.fromkeys(("aI2", "aI3"), "aI"),
    **{"r-": "r", "n-": "n", "w#": "w", ";": "j", "i": "i:", "i@3": "i@", "O2": "O:", "o@": "O@"},
}


def phoneme_of(mnemonic: str) -> str:
    """The member of `PHONEMES` for espeak's own name of a sound."""
    bare = mnemonic.lstrip(_STRESS_MARKS)
    phoneme = _ALLOPHONES.get(bare, bare)
    return phoneme if phoneme in PHONEMES else UNKNOWN_PHONEME


# --- espeak-ng


class _Event(ctypes.Structure):
    """`espeak_EVENT` of espeak's speak_lib.h."""

    _fields_: ClassVar = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),  # characters, from 1
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # ms
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    ]


_EVENT_END_OF_LIST, _EVENT_WORD, _EVENT_PHONEME = 0, 1, 7
_OUTPUT_SYNCHRONOUS = 2
_PHONEME_EVENTS, _DO_NOT_EXIT = 0x0001, 0x8000
_PARAMETER_RATE, _PARAMETER_PITCH, _PARAMETER_PITCH_RANGE = 1, 3, 4
_CHARACTERS_UTF8 = 1
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class _Marks(NamedTuple):
    """Where words and phonemes begin, in samples at the library's rate."""

    words: list[tuple[int, int]]  # (character, sample)
    phonemes: list[tuple[str, int]]  # (mnemonic, sample)


class Synthesizer:
    """Speaks text as a `Speaker`.

    The library keeps its oscillator phases, flutter and noise in C globals that survive even its own termination, so
    what it says depends on what it said before. Each utterance therefore loads it afresh (0.3 ms) and unloads it; a
    lock keeps threads apart, and processes have their own copies anyway. No other user of the library may live in
    the process, since an image in use is not unloaded.
    """

    _lock = threading.Lock()

    def __init__(self) -> None:
        self._library_path, self._data_path = _find_espeak()

    def overheard(self, text: str, rng: np.random.Generator, *, split: Split) -> Audio:
        """The text by anybody of the split, in any room. Raises ValueError for a text without a sound."""
        return in_room(self.speak(text, random_speaker(rng, split=split)).audio, rng, level=rng.random())

    def speak(self, text: str, speaker: Speaker) -> Utterance:
        """The text as said by `speaker`, without the silence around it (at most 30 ms are left).

        `audio.words` has one time for each word between spaces. Raises ValueError for a text without a sound or a
        speaker whose voice espeak does not have.
        """
        if not text.strip():
            raise ValueError("there is nothing to say: the text is empty")
        with self._lock:
            samples, sample_rate_hz, marks = self._synthesize(text, speaker)
        if not samples.any():
            raise ValueError(f"the text has no sound: {text!r}")
        waveform = samples.astype(np.float32) / 32768.0
        start, end = _sounding(waveform, margin=int(0.03 * sample_rate_hz))

        def ms(sample: int) -> float:
            return 1000.0 * (min(max(sample, start), end) - start) / sample_rate_hz

        duration_ms = ms(end)
        phonemes = phoneme_times([(phoneme_of(name), ms(sample)) for name, sample in marks.phonemes], duration_ms)
        words = _word_times(text, [(char, ms(sample)) for char, sample in marks.words], phonemes, duration_ms)
        waveform = _level(soxr.resample(waveform[start:end], sample_rate_hz, SAMPLE_RATE_HZ), speaker.volume / 100)
        audio = Audio(
            waveform=waveform, sample_rate_hz=SAMPLE_RATE_HZ, transcript=text, words=words, voice=speaker.name
        )
        return Utterance(audio=audio, phonemes=phonemes)

    def _synthesize(self, text: str, speaker: Speaker) -> tuple[np.ndarray, int, _Marks]:
        chunks: list[np.ndarray] = []
        marks = _Marks([], [])

        def receive(wave, num_samples, events) -> int:
            if num_samples:
                chunks.append(np.ctypeslib.as_array(wave, (num_samples,)).copy())
            index = 0
            while (event := events[index]).type != _EVENT_END_OF_LIST:
                if event.type == _EVENT_WORD:
                    marks.words.append((event.text_position - 1, event.sample))
                elif event.type == _EVENT_PHONEME:
                    marks.phonemes.append((event.id.decode(), event.sample))
                index += 1
            return 0

        callback = _CALLBACK(receive)
        library = ctypes.CDLL(self._library_path)
        try:
            sample_rate_hz = library.espeak_Initialize(
                _OUTPUT_SYNCHRONOUS, 0, self._data_path, _PHONEME_EVENTS | _DO_NOT_EXIT
            )
            if sample_rate_hz <= 0:
                raise RuntimeError(f"espeak-ng at {self._library_path} does not start: its data is missing")
            library.espeak_ng_SetRandSeed(ctypes.c_long(1))
            library.espeak_SetSynthCallback(callback)
            voice = f"{speaker.accent}+{speaker.variant}" if speaker.variant else speaker.accent
            if library.espeak_SetVoiceByName(voice.encode()) != 0:
                raise ValueError(f"espeak-ng has no voice {voice!r}")
            library.espeak_SetParameter(_PARAMETER_RATE, speaker.rate_wpm, 0)
            library.espeak_SetParameter(_PARAMETER_PITCH, speaker.pitch, 0)
            library.espeak_SetParameter(_PARAMETER_PITCH_RANGE, speaker.pitch_range, 0)
            data = text.encode()
            library.espeak_Synth(data, len(data) + 1, 0, 0, 0, _CHARACTERS_UTF8, None, None)
            library.espeak_Terminate()
        finally:
            dlclose(library._handle)
        samples = np.concatenate(chunks) if chunks else np.zeros(0, np.int16)
        return samples, sample_rate_hz, marks


def _find_espeak() -> tuple[str, bytes | None]:
    """The paths of the library and of its data (None: where the library was installed)."""
    try:
        import espeakng_loader
    except ImportError:
        return "libespeak-ng.so.1", None
    return espeakng_loader.get_library_path(), espeakng_loader.get_data_path().encode()


def _sounding(waveform: np.ndarray, *, margin: int) -> tuple[int, int]:
    """The samples between the silences around a clip, with `margin` samples of each silence."""
    loud = np.flatnonzero(np.abs(waveform) > 0.01 * np.abs(waveform).max())
    return max(int(loud[0]) - margin, 0), min(int(loud[-1]) + 1 + margin, len(waveform))


def _level(waveform: np.ndarray, volume: float) -> np.ndarray:
    """The same loudness for every variant (theirs differ by 18 dB), as loud as fits where its peaks are high."""
    gain = volume * 0.08 / float(np.sqrt(np.mean(waveform**2)))
    return waveform * min(gain, 0.95 / float(np.abs(waveform).max()))


def phoneme_times(starts: list[tuple[str, float]], duration_ms: float) -> tuple[PhonemeTime, ...]:
    """Phonemes that fill the clip: each ends where the next begins. Those of no length are left out."""
    times: list[PhonemeTime] = []
    starts = [(SILENCE, 0.0), *starts]
    for (phoneme, start_ms), (_, end_ms) in pairwise([*starts, (SILENCE, duration_ms)]):
        if end_ms <= start_ms:
            continue
        if times and phoneme == times[-1].phoneme == SILENCE:
            times[-1] = times[-1]._replace(end_ms=end_ms)
        else:
            times.append(PhonemeTime(phoneme, start_ms, end_ms))
    return tuple(times)


def _word_times(
    text: str, starts: list[tuple[int, float]], phonemes: tuple[PhonemeTime, ...], duration_ms: float
) -> tuple[WordTime, ...]:
    """A time for each word between spaces, from the (character, ms) espeak reports.

    espeak speaks some pairs ("of the") as one word and reports only the first: those share its time by their letters.
    """
    spans: list[tuple[int, int]] = []
    for word in text.split():
        start_char = text.index(word, spans[-1][1] if spans else 0)
        spans.append((start_char, start_char + len(word)))
    begun: dict[int, float] = {}  # word -> ms
    for char, start_ms in starts:
        word = next((index for index, (_, end_char) in enumerate(spans) if char < end_char), len(spans) - 1)
        if word not in begun and start_ms >= max(begun.values(), default=0.0):
            begun[word] = start_ms
    begun = {0: min(begun.values(), default=0.0)} | {word: begun[word] for word in sorted(begun) if word}
    pauses = [time.start_ms for time in phonemes if time.phoneme == SILENCE]
    heads = sorted(begun)
    words: list[WordTime] = []
    for head, tail in zip(heads, [*heads[1:], len(spans)], strict=True):
        start_ms = begun[head]
        end_ms = begun[tail] if tail < len(spans) else duration_ms
        end_ms = min([pause for pause in pauses if start_ms < pause <= end_ms], default=end_ms)
        group = spans[head:tail]
        letters = np.cumsum([0] + [end - start for start, end in group]) / sum(end - start for start, end in group)
        edges = start_ms + (end_ms - start_ms) * letters
        words += [WordTime(*span, float(edges[i]), float(edges[i + 1])) for i, span in enumerate(group)]
    return tuple(words)


# --- hesitation


def with_pauses(utterance: Utterance, rng: np.random.Generator, *, pauses: int) -> Utterance:
    """The same words with silences of 0.2 to 1.2 s between some of them, as someone speaks who thinks meanwhile.

    Where there are fewer gaps between words than pauses, every gap gets one.
    """
    audio, phonemes = utterance.audio, utterance.phonemes
    gaps = [word.start_ms for before, word in pairwise(audio.words) if word.start_ms >= before.end_ms > 0.0]
    chosen = sorted(
        rng.permutation(gaps)[:pauses].tolist(), reverse=True
    )  # from behind: earlier times stay as they are
    rate_hz = audio.sample_rate_hz
    for at_ms in chosen:
        samples = int(rng.uniform(0.2, 1.2) * rate_hz)
        pause_ms, cut = 1000 * samples / rate_hz, round(at_ms * rate_hz / 1000)
        waveform = np.insert(audio.waveform, cut, np.zeros(samples, np.float32))
        words = tuple(_with_pause(word, at_ms, pause_ms) for word in audio.words)
        audio = replace(audio, waveform=waveform, words=words)
        starts = [(time.phoneme, time.start_ms) for time in phonemes if time.start_ms < at_ms]
        ongoing = [(time.phoneme, at_ms + pause_ms) for time in phonemes if time.start_ms < at_ms < time.end_ms]
        after = [(time.phoneme, time.start_ms + pause_ms) for time in phonemes if time.start_ms >= at_ms]
        phonemes = phoneme_times([*starts, (SILENCE, at_ms), *ongoing, *after], audio.duration_ms)
    return Utterance(audio=audio, phonemes=phonemes)


def with_silence(utterance: Utterance, *, before_ms: float, after_ms: float) -> Utterance:
    """The same words with silence around them."""
    audio = utterance.audio
    before, after = (round(audio.sample_rate_hz * silence_ms / 1000) for silence_ms in (before_ms, after_ms))
    lead_ms = 1000 * before / audio.sample_rate_hz
    words = tuple(word._replace(start_ms=word.start_ms + lead_ms, end_ms=word.end_ms + lead_ms) for word in audio.words)
    padded = replace(audio, waveform=np.pad(audio.waveform, (before, after)), words=words)
    starts = [(time.phoneme, time.start_ms + lead_ms) for time in utterance.phonemes]
    starts.append((SILENCE, lead_ms + audio.duration_ms))
    return Utterance(audio=padded, phonemes=phoneme_times(starts, padded.duration_ms))


def _with_pause(word: WordTime, at_ms: float, pause_ms: float) -> WordTime:
    """Its times with a pause at `at_ms`: a word that begins there comes after it."""
    start_ms = word.start_ms + pause_ms if word.start_ms >= at_ms else word.start_ms
    return word._replace(start_ms=start_ms, end_ms=word.end_ms + pause_ms if word.end_ms > at_ms else word.end_ms)


# --- rooms

Sound = TypeVar("Sound", Audio, Utterance)


def in_room(sound: Sound, rng: np.random.Generator, *, level: float = 1.0, quiet: bool = False) -> Sound:
    """What a microphone in a room makes of speech: silence around it, distance, reverberation, noise, a coloured
    frequency response. Words and phonemes keep their times.

    `level` 0 is a good microphone in a quiet room (only loudness and silence vary), 1 a poor one in a noisy room
    (down to 15 dB between speech and noise). With `quiet` hardly any noise comes through, as on lines that mute
    whoever does not speak: 60 to 120 dB below the speech.
    """
    if isinstance(sound, Utterance):
        audio, lead_ms, tail_ms = _hear(sound.audio, rng, level, quiet)
        starts = [(time.phoneme, time.start_ms + lead_ms) for time in sound.phonemes]
        starts.append((SILENCE, audio.duration_ms - tail_ms))
        return Utterance(audio=audio, phonemes=phoneme_times(starts, audio.duration_ms))
    return _hear(sound, rng, level, quiet)[0]


def _hear(audio: Audio, rng: np.random.Generator, level: float, quiet: bool) -> tuple[Audio, float, float]:
    """The heard clip, and the milliseconds of silence before and after the speech."""
    rate_hz = audio.sample_rate_hz
    lead, tail = (int(rng.uniform(0.05, 0.4) * rate_hz) for _ in range(2))
    dry = np.pad(audio.waveform, (lead, tail))
    # Everything happens to the spectrum, so that one transform each way is enough.
    size = -(-(len(dry) + rate_hz // 2) // 4096) * 4096  # room for the reverberation, and a quick transform
    frequencies_hz = np.maximum(np.fft.rfftfreq(size, 1 / rate_hz), 50.0).astype(np.float32)
    spectrum = np.fft.rfft(dry, size)
    if rng.random() < 0.5 * level:
        spectrum *= np.fft.rfft(_room_response(rng, rate_hz), size)
    spectrum *= _microphone_response(rng, frequencies_hz, level)
    snr_db = 60.0 + 60.0 * rng.random() if quiet else 40.0 - 25.0 * level * rng.random()
    noise_rms = float(np.sqrt(np.mean(audio.waveform**2))) * 10 ** (-snr_db / 20)
    spectrum += _noise_spectrum(rng, frequencies_hz) * (noise_rms * size)
    heard = np.fft.irfft(spectrum, size)[: len(dry)] * 10 ** (rng.uniform(-12.0, 4.0) / 20)
    heard = (heard * min(1.0, 0.99 / (np.abs(heard).max() + 1e-12))).astype(np.float32)
    lead_ms, tail_ms = 1000 * lead / rate_hz, 1000 * tail / rate_hz
    words = tuple(word._replace(start_ms=word.start_ms + lead_ms, end_ms=word.end_ms + lead_ms) for word in audio.words)
    return replace(audio, waveform=heard, words=words), lead_ms, tail_ms


def _noise_spectrum(rng: np.random.Generator, frequencies_hz: np.ndarray) -> np.ndarray:
    """Noise between white and a little darker than pink; a signal of root mean square 1 / its length (Parseval)."""
    parts = rng.standard_normal((2, len(frequencies_hz)), dtype=np.float32)
    noise = (parts[0] + 1j * parts[1]) * frequencies_hz ** np.float32(-rng.uniform(0.0, 1.2))
    return noise / np.sqrt(2.0 * np.sum(np.abs(noise) ** 2))


def _room_response(rng: np.random.Generator, rate_hz: int) -> np.ndarray:
    """The direct sound, then noise that decays by 60 dB within 0.1 to 0.4 s."""
    decay_s = rng.uniform(0.1, 0.4)
    time_s = np.arange(int(decay_s * rate_hz)) / rate_hz
    response = rng.standard_normal(len(time_s)) * np.exp(-6.9 * time_s / decay_s)
    response[: int(0.003 * rate_hz)] = 0.0
    response *= 10 ** (rng.uniform(-15.0, -3.0) / 20) / np.sqrt(np.sum(response**2))
    response[0] = 1.0
    return response.astype(np.float32)


def _microphone_response(rng: np.random.Generator, frequencies_hz: np.ndarray, level: float) -> np.ndarray:
    """Gain by frequency: the edges of its band, and a tilt of up to 3 dB per octave around 1 kHz."""
    low_hz, high_hz = rng.uniform(30.0, 30.0 + 170.0 * level), rng.uniform(8000.0 - 4000.0 * level, 8000.0)
    tilt_db = 3.0 * level * rng.uniform(-1.0, 1.0)
    edges = (1.0 + (low_hz / frequencies_hz) ** 2) * (1.0 + (frequencies_hz / high_hz) ** 4)
    return (frequencies_hz / 1000.0) ** (tilt_db / 6.02) / np.sqrt(edges)
