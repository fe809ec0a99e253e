"""When somebody speaks: Silero's voice activity detector, the turns of a call that it makes out, and their sound.

The detector is a model of its own (silero-vad, MIT), run by onnxruntime on one thread: 0.15 ms for each 32 ms of sound.
It decides nothing that is heard or said, only when a turn begins and ends.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import onnxruntime

from sensorium.server.echo import HEARD, PLAYED, EchoCheck
from sensorium.server.noise_reduction import NoiseReduction
from sensorium.server.realtime_audio import WireDecoder, WireFormat
from sensorium.server.realtime_events import SemanticVad, ServerVad, SessionConfig
from sensorium.server.recording import Recording

RATE_HZ = 16_000
WINDOW = 512  # samples the detector looks at: 32 ms
_STEP = WINDOW // 2
_CONTEXT = 64  # samples of the window before, which it wants to see again
_STATE = (2, 1, 128)
KEPT_SILENCE_MS = 5_000  # how much sound before a turn is kept at least: padding reaches back into it
_ONSET_WINDOWS = 2  # so many in a row must hold speech: a click is no turn
_SURE = 0.6  # but one is enough, if its probability is so much of the way from the threshold to 1
_DOUBTFUL_WINDOWS = 4  # so many, where they could be the beginning of an echo
_WINDOW_MS = 1000 * WINDOW // RATE_HZ
_STEP_MS = _WINDOW_MS // 2
_WAITS_MS = {"low": 8_000, "medium": 4_000, "auto": 4_000, "high": 2_000}  # the contract's: at most, of semantic turns
_RELEASE = 0.15  # a turn goes on until the probability falls this far below the threshold, or to half of that
_HIDDEN_WINDOWS = 8  # of speech that was taken for echo at first, how much may be the user's all the same


class SpeechStarted(NamedTuple):
    at_ms: int  # on the clock of all sound pushed, the padding before the speech included


class SpeechStopped(NamedTuple):
    at_ms: int  # where the silence that ended the turn is complete


TurnEvent: TypeAlias = SpeechStarted | SpeechStopped


class Window(NamedTuple):
    probability: float  # of speech
    num_behind: int = 0  # samples that came behind it
    is_between: bool = False  # it has half of each of two others


@cache
def _model() -> onnxruntime.InferenceSession:
    spec = find_spec("silero_vad")
    assert spec is not None, "silero-vad is a dependency of this package"
    assert spec.origin is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    path = Path(spec.origin).parent / "data" / "silero_vad.onnx"
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class VoiceActivity:
    """The probability of speech in each window, all state its own."""

    def __init__(self) -> None:
        self._state = np.zeros(_STATE, np.float32)
        self._seen = np.zeros(_CONTEXT + _STEP, np.float32)  # of the window before
        self._rest = np.zeros(0, np.float32)

    def push(self, waveform: np.ndarray) -> list[float]:
        """(N,) float32 at 16 kHz, in pieces of any size -> one probability for each window that is now complete."""
        return [window.probability for window in self.windows(waveform, between=False)]

    def windows(self, waveform: np.ndarray, *, between: bool) -> list[Window]:
        """The windows that are now complete, those between two of them as well if they are asked for: these change
        nothing of what is found in others."""
        windows: list[Window] = []
        known, waveform = len(self._rest), np.concatenate((self._rest, waveform))
        for end in range(_STEP, len(waveform) + 1, _STEP):
            newest = waveform[(end - 1) // WINDOW * WINDOW : end]
            seen = np.concatenate((self._seen, newest))[-_CONTEXT - WINDOW :]
            if end % WINDOW == 0:
                windows.append(Window(self._probability(seen, keep=True), len(waveform) - end))
                self._seen = newest[-_CONTEXT - _STEP :]
            elif between and end > known:
                windows.append(Window(self._probability(seen, keep=False), len(waveform) - end, is_between=True))
        self._rest = waveform[len(waveform) - len(waveform) % WINDOW :]
        return windows

    def _probability(self, seen: np.ndarray, *, keep: bool) -> float:
        """(64 + 512,): a window, and what was before it."""
        rate = np.array(RATE_HZ, np.int64)
        probability, state = _model().run(None, {"input": seen[None], "state": self._state, "sr": rate})
        self._state = np.asarray(state) if keep else self._state
        return float(np.asarray(probability)[0, 0])


def release_of(threshold: float) -> float:
    """The probability below which nobody speaks any more, of speech that begins at a threshold."""
    return max(threshold - _RELEASE, threshold / 2)


class TurnDetector:
    """Sound in, turns out. `speaking` says whether one is under way, `silence_ms` how long nobody has spoken in it."""

    def __init__(self, config: ServerVad | SemanticVad, *, start_ms: int = 0) -> None:
        if isinstance(config, SemanticVad):  # the same, but for who ends a turn: silence does so only after long
            config = ServerVad(type="server_vad", silence_duration_ms=_WAITS_MS[config.eagerness])
        self._config = config
        self._release = release_of(config.threshold)
        self._sure = config.threshold + _SURE * (1.0 - config.threshold)
        self._activity = VoiceActivity()
        self._start_ms = start_ms  # of the clock
        self._num_windows = 0
        self._echo = EchoCheck()
        self._heard = np.zeros(HEARD + WINDOW, np.float32)  # the newest sound
        self._num_echoes = 0  # windows in a row, up to now, that were taken for echo
        self._run = 0  # windows in a row that speak for a change: speech outside a turn, silence within one
        self._newest = 0.0  # the probability in the newest window outside a turn, or between two
        self.speaking = False

    def push(self, waveform: np.ndarray, played: np.ndarray | None = None) -> list[TurnEvent]:
        """(N,) float32 at 16 kHz, and what the client's loudspeaker played up to its end, (N + echo.PLAYED,), if it
        played anything: its echo is no speech."""
        return self.follow(self.hear(waveform), played)

    def hear(self, waveform: np.ndarray) -> list[Window]:
        """The first half of `push`: the windows that are now complete. Where a turn may begin they overlap: it is found
        up to 16 ms sooner."""
        self._heard = np.concatenate((self._heard, waveform))
        return self._activity.windows(waveform, between=not self.speaking)

    def may_be_echo(self, windows: list[Window]) -> bool:
        """Whether it matters to `follow` what was played. Then it takes milliseconds: call it in a thread."""
        return max((window.probability for window in windows), default=0.0) >= self._release

    def follow(self, windows: list[Window], played: np.ndarray | None = None) -> list[TurnEvent]:
        """The second half of `push`: where turns begin and end in these windows."""
        events: list[TurnEvent] = []
        for window in windows:
            self._num_windows += not window.is_between
            if window.is_between and self.speaking:
                continue
            if played is None:
                self._num_echoes = 0
                events += self._turn(window, window.probability, self._onset_windows(window.probability))
                continue
            end, until = len(self._heard) - window.num_behind, len(played) - window.num_behind
            events += self._turn_beside(window, self._heard[end - HEARD : end], played[until - PLAYED : until])
        self._heard = self._heard[-HEARD - WINDOW :]
        return events

    def _turn_beside(self, window: Window, heard: np.ndarray, played: np.ndarray) -> list[TurnEvent]:
        """A window of what is heard while something is played: (HEARD,) and (PLAYED,), both up to its end."""
        probability, onset_windows = window.probability, _ONSET_WINDOWS
        if window.is_between and not self._echo.is_clear:
            return []  # two that overlap are too little to tell a user from an echo by
        if probability < self._release:
            self._num_echoes = 0
            if not window.is_between:
                self._echo.nothing_heard(played)
        elif self._echo.is_echo(heard, played):
            self._num_echoes += not window.is_between
            probability = 0.0
        elif self._echo.is_doubtful(played):
            onset_windows = _DOUBTFUL_WINDOWS
        elif not self._echo.was_heard:
            onset_windows = self._onset_windows(probability)
        events = self._turn(window, probability, onset_windows)
        if any(isinstance(event, SpeechStarted) for event in events):
            self._echo.turn_began(played)
        return events

    def _onset_windows(self, probability: float) -> int:
        """Of speech, where there is no echo."""
        return 1 if probability >= self._sure else _ONSET_WINDOWS

    def _turn(self, window: Window, probability: float, onset_windows: int) -> list[TurnEvent]:
        if self.speaking:
            return self._silence(probability)
        return self._speech(probability, onset_windows, is_between=window.is_between)

    def _speech(self, probability: float, onset_windows: int, *, is_between: bool) -> list[TurnEvent]:
        """Two windows in a row hold speech if two that overlap do."""
        is_speech, was_speech = probability >= self._config.threshold, self._newest >= self._config.threshold
        self._newest = probability
        if not is_speech:
            self._run = self._run if is_between else 0
            return []
        self._run += not is_between
        if max(self._run + is_between, 1 + was_speech) < onset_windows:
            return []
        step_ms = is_between * _STEP_MS
        spoken_ms = max(self._run * _WINDOW_MS + step_ms, _WINDOW_MS)
        hidden_ms = min(self._num_echoes, _HIDDEN_WINDOWS) * _WINDOW_MS
        begin_ms = self._now_ms + step_ms - spoken_ms - hidden_ms
        self.speaking, self._run, self._num_echoes, self._newest = True, 0, 0, 0.0
        return [SpeechStarted(max(self._start_ms, begin_ms - self._config.prefix_padding_ms))]

    def _silence(self, probability: float) -> list[TurnEvent]:
        self._run = 0 if probability >= self._release else self._run + 1
        if not self._run or self._run * _WINDOW_MS < self._config.silence_duration_ms:
            return []
        return [self.stop()]

    @property
    def silence_ms(self) -> int:
        return self._run * _WINDOW_MS if self.speaking else 0

    def stop(self) -> SpeechStopped:
        """Ends the turn now, since somebody knows that it is over."""
        assert self.speaking
        self.speaking, self._run = False, 0
        return SpeechStopped(self._now_ms)

    @property
    def _now_ms(self) -> int:
        return self._start_ms + self._num_windows * _WINDOW_MS


class InputBuffer:
    """Sound that came in and belongs to no item yet, on the clock of all sound of the call."""

    def __init__(self, session: SessionConfig, rate_hz: int, *, start_ms: int = 0) -> None:
        settings = session.audio.input
        detection = settings.turn_detection
        self._rate_hz = rate_hz
        self._decoder = WireDecoder(settings.format.type, rate_hz)
        asked = settings.noise_reduction
        self._reduction = NoiseReduction(asked.type, rate_hz) if asked is not None else None
        self._start_ms = start_ms
        self._sound = Recording(rate_hz=rate_hz)
        self.turns = TurnDetector(detection, start_ms=start_ms) if detection is not None else None
        self.item_id: str | None = None  # of the turn under way, if one has begun
        self._num_taken = 0  # samples that `fresh` has given

    @property
    def format(self) -> WireFormat:
        return self._decoder.format

    @property
    def duration_ms(self) -> int:
        return self._sound.duration_ms

    @property
    def num_bytes(self) -> int:
        return self._sound.num_bytes

    @property
    def start_ms(self) -> int:
        return self._start_ms

    @property
    def end_ms(self) -> int:
        return self._start_ms + self.duration_ms

    def push(self, data: bytes) -> np.ndarray:
        """What came, decoded, and with less noise if that is asked for."""
        heard = self._decoder.push(data)
        if self._reduction is not None:
            heard = self._reduction.push(heard)
        self._sound.append(heard)
        if self.turns is not None and not self.turns.speaking and self.item_id is None:
            self.forget_before(self.end_ms - KEPT_SILENCE_MS - round(1000 * len(heard) / self._rate_hz))
        return heard

    def forget_before(self, at_ms: int) -> None:
        if at_ms > self._start_ms:
            gone = round((at_ms - self._start_ms) * self._rate_hz / 1000)
            self._sound.forget(gone)
            self._num_taken = max(0, self._num_taken - gone)
            self._start_ms = at_ms

    def fresh(self, *, in_pieces_of: int) -> np.ndarray:
        """What came since the last time, in whole pieces of so many samples: a turn is listened to while it comes."""
        begin, num_fresh = self._num_taken, len(self._sound) - self._num_taken
        self._num_taken += num_fresh - num_fresh % in_pieces_of
        return self._sound.read(begin, self._num_taken)

    def again(self) -> None:
        """All that is here is fresh."""
        self._num_taken = 0

    def num_until(self, at_ms: int) -> int:
        """How many of the samples came until then."""
        return min(len(self._sound), round((at_ms - self._start_ms) * self._rate_hz / 1000))

    def cut(self, end: int | None) -> tuple[Recording, np.ndarray]:
        """Takes out so many samples, or everything: the whole of it, and what of that `fresh` has not given."""
        if end is None:  # the end of the sound is still on its way through the resampler
            rest = self._decoder.push(b"", last=True)
            if self._reduction is not None:
                rest = self._reduction.push(rest, last=True)
            self._sound.append(rest)
            self._decoder = WireDecoder(self._decoder.format, self._rate_hz)
            end = len(self._sound)
        taken, fresh = self._sound.part(0, end), self._sound.read(self._num_taken, end)
        self._sound.forget(end)
        self._num_taken = max(0, self._num_taken - end)
        self._start_ms += round(1000 * len(taken) / self._rate_hz)
        return taken, fresh

    def reshaped(self, session: SessionConfig) -> InputBuffer:
        """The same sound under other settings: a turn that has begun begins anew, and is the same if it is the client
        that ends it."""
        changed = InputBuffer(session, self._rate_hz, start_ms=self.end_ms)
        changed._sound, changed._start_ms = self._sound, self._start_ms
        changed.item_id = self.item_id if self.turns is None and changed.turns is None else None
        return changed
