"""The assistant's own voice, back from a loudspeaker, is nobody who speaks; a user who talks over it is."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from sensorium.data.generators.dialogues import sentence
from sensorium.data.generators.speech import PRESETS, Synthesizer, random_speaker
from sensorium.server.echo import HEARD, PLAYED, EchoCheck, Loudspeaker, explained
from sensorium.server.realtime_events import ServerVad
from sensorium.server.turns import SpeechStarted, TurnDetector, TurnEvent

RATE_HZ = 16_000
ROOMS = {"dry": (0.15, 6.0), "live": (0.3, 3.0), "bare": (0.5, 0.0)}  # reverberation in s, direct sound over it in dB


def speech(seed: int, sentences: int, *, user: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    speaker = random_speaker(rng, split="heldout") if user else PRESETS["coral"]
    said = [Synthesizer().speak(sentence(rng, "heldout"), speaker).audio.waveform for _ in range(sentences)]
    return np.concatenate([np.pad(waveform, (0, 2400)) for waveform in said])


def echo_of(sound: np.ndarray, room: str, *, delay_ms: int, seed: int = 0) -> np.ndarray:
    """What a microphone gets of a loudspeaker that colours its sound, in a room that reverberates."""
    rng = np.random.default_rng(seed)
    reverberation_s, direct_db = ROOMS[room]
    decay = np.arange(int(reverberation_s * RATE_HZ)) / (reverberation_s * RATE_HZ)
    response = rng.standard_normal(len(decay)) * np.exp(-6.9 * decay)
    response *= 10 ** (-direct_db / 20) / np.linalg.norm(response)
    response[0] = 1.0
    colour = rng.standard_normal(24) * np.exp(-np.arange(24) / 6)
    colour[0] += 2.0
    heard = np.convolve(np.convolve(np.pad(sound, (delay_ms * RATE_HZ // 1000, 0)), response), colour)[: len(sound)]
    heard *= 0.06 / np.sqrt(np.mean(heard**2))
    return (heard + 0.001 * rng.standard_normal(len(heard))).astype(np.float32)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def turns(clock: Clock, played: np.ndarray, heard: np.ndarray, *, piece_ms: int = 100) -> list[TurnEvent]:
    """All of `played` is sent at once, as an answer is; the microphone's sound comes as time goes by."""
    loudspeaker, detector = Loudspeaker(), TurnDetector(ServerVad(type="server_vad"))
    loudspeaker.play(played)
    size = piece_ms * RATE_HZ // 1000
    events: list[TurnEvent] = []
    for start in range(0, len(heard), size):
        piece = heard[start : start + size]
        clock.now_s += len(piece) / RATE_HZ
        events += detector.push(piece, loudspeaker.last(len(piece) + PLAYED))
    return events


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("delay_ms", [20, 180, 400])
def test_an_echo_is_no_turn(clock: Clock, room: str, delay_ms: int) -> None:
    played = speech(delay_ms, 3)
    heard = echo_of(played, room, delay_ms=delay_ms)
    assert turns(clock, np.zeros(8, np.float32), heard), "without the check it would be"
    assert turns(clock, played, heard, piece_ms=delay_ms % 70 + 20) == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_user_is_heard_over_an_echo(clock: Clock, room: str) -> None:
    late_ms = []
    for seed in range(4):
        played, said = speech(seed, 3), speech(seed + 50, 2, user=True)
        heard = echo_of(played, room, delay_ms=120, seed=seed)
        at = len(played) // 3
        said = said[: len(heard) - at] * (0.09 / np.sqrt(np.mean(said**2)))  # somewhat louder than the echo
        heard[at : at + len(said)] += said
        first = next(event for event in turns(clock, played, heard) if isinstance(event, SpeechStarted))
        late_ms.append(first.at_ms - 1000 * at / RATE_HZ)
    assert all(-700 < late < 400 for late in late_ms), late_ms


def test_headphones_cost_nothing(clock: Clock) -> None:
    said = np.pad(speech(9, 1, user=True), (RATE_HZ, 0))
    assert turns(clock, speech(3, 3), said) == turns(clock, np.zeros(8, np.float32), said)


def found_ms(clock: Clock, earlier: list[tuple[np.ndarray, np.ndarray]], last: tuple[np.ndarray, np.ndarray]) -> int:
    """How long the sound of the last answer has been coming when a turn is found in it. Of each answer what is played,
    and what is heard meanwhile."""
    loudspeaker, detector = Loudspeaker(), TurnDetector(ServerVad(type="server_vad"))
    for played, heard in (*earlier, last):
        loudspeaker.play(played)
        for start in range(0, len(heard), 320):
            clock.now_s += 0.02
            piece = heard[start : start + 320]
            if detector.push(piece, loudspeaker.last(len(piece) + PLAYED)):
                assert heard is last[1]
                return (start + 320) * 1000 // RATE_HZ
        clock.now_s += 2.0
    raise AssertionError("no turn was found")


def test_who_wears_headphones_interrupts_at_once_what_has_just_begun(clock: Clock) -> None:
    answer = speech(3, 3)
    quiet = np.zeros(len(answer) // 2560 * 2560 + 2560, np.float32)  # whole pieces, and whole windows
    said = np.pad(speech(9, 1, user=True), (RATE_HZ // 4, 0))
    doubted_ms = found_ms(clock, [], (answer, said))  # it could be an echo
    sooner_ms = found_ms(clock, [(answer, quiet)], (answer, said))
    assert doubted_ms - sooner_ms >= 60
    assert sooner_ms - found_ms(clock, [], (np.zeros(8, np.float32), said)) <= 40, "as if nothing were played"
    assert found_ms(clock, [(answer[: RATE_HZ // 2], quiet)], (answer, said)) == doubted_ms, "half a second is little"
    echo = echo_of(np.pad(answer, (0, len(quiet) - len(answer))), "dry", delay_ms=20)
    assert found_ms(clock, [(answer, echo), (answer, quiet)], (answer, said)) >= sooner_ms + 60, "there was one"


def test_turns_that_may_have_been_echoes_make_the_next_doubtful() -> None:
    check, on = EchoCheck(), np.ones(PLAYED, np.float32)
    begun = np.where(np.arange(PLAYED) < PLAYED * 3 // 4, np.float32(0), on)
    for _ in range(100):
        check.nothing_heard(begun)
    assert check.is_doubtful(begun)
    for _ in range(100):
        check.nothing_heard(on)
    check.turn_began(on)
    check.turn_began(begun)
    assert not check.is_doubtful(begun)
    check.turn_began(begun)
    assert check.is_doubtful(begun)
    assert not check.is_doubtful(on)


@pytest.mark.parametrize(
    ("mixed", "low", "high"),
    [
        (lambda echo, user: echo, 0.8, 1.0),
        (lambda echo, user: user, 0.0, 0.2),
        (lambda echo, user: echo + user, 0.2, 0.6),
    ],
    ids=["echo", "user", "both"],
)
def test_the_share_that_is_explained(
    mixed: Callable[[np.ndarray, np.ndarray], np.ndarray], low: float, high: float
) -> None:
    played = speech(1, 3)
    echo, user = echo_of(played, "dry", delay_ms=200), speech(2, 3, user=True)
    end = PLAYED + 9000
    part = slice(end - HEARD, end)
    user = user[part] * np.linalg.norm(echo[part]) / np.linalg.norm(user[part])
    share = explained(mixed(echo[part], user), played[end - PLAYED : end])
    assert low <= share.at_least <= share.at_most <= high


def last(loudspeaker: Loudspeaker, count: int) -> list[float]:
    played = loudspeaker.last(count)
    assert played is not None
    return played.tolist()


def test_a_silent_loudspeaker_explains_nothing(clock: Clock) -> None:
    assert not EchoCheck().is_echo(np.ones(HEARD, np.float32), np.zeros(PLAYED, np.float32))
    loudspeaker = Loudspeaker()
    assert loudspeaker.last(100) is None
    loudspeaker.play(np.ones(RATE_HZ, np.float32))
    clock.now_s += 0.25
    assert last(loudspeaker, 8000) == [0.0] * 4000 + [1.0] * 4000
    loudspeaker.play(np.ones(RATE_HZ, np.float32))  # goes on behind what is being played
    clock.now_s += 1.0
    loudspeaker.stop()
    clock.now_s += 0.1
    assert last(loudspeaker, 3200) == [1.0] * 1600 + [0.0] * 1600
    clock.now_s += 10.0
    assert loudspeaker.last(PLAYED) is None
    loudspeaker.play(np.ones(1600, np.float32))
    clock.now_s += 0.1
    assert last(loudspeaker, 1700) == [0.0] * 100 + [1.0] * 1600
