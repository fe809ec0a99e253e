"""When a turn is over: by what the network thought of its frames, however they came."""

from __future__ import annotations

import numpy as np
import pytest

from sensorium.engine.fake import FRAME_SIZE, FakeConversation, FakeEngine
from sensorium.server.realtime_thread import Thread
from sensorium.server.turn_end import PATIENCE, TurnEnd

AUTO = PATIENCE["auto"]


def thought(*probabilities: float) -> TurnEnd:
    turn_end = TurnEnd()
    for probability in probabilities:
        turn_end.add(probability)
    return turn_end


def test_one_frame_does_not_end_a_turn_unless_it_is_certain_and_more_of_them_do():
    assert not thought(0.0, 0.955).is_over(96, AUTO)
    assert thought(0.0, 0.955, 0.955).is_over(96, AUTO)
    assert thought(0.0, 1.0).is_over(96, AUTO)
    assert not thought(0.0, 1.0).is_over(200, PATIENCE["low"])
    assert not thought(0.0, 0.955, 0.0, 0.0, 0.955, 0.0, 0.0, 0.955).is_over(96, AUTO)
    assert not thought(0.0, 1.0, 1.0).is_over(0, AUTO)  # somebody speaks


def test_a_long_silence_ends_what_was_likely_over():
    doubtful = thought(0.0, 0.5, 0.5, *[0.0] * 10)
    assert not doubtful.is_over(1248, AUTO)
    assert doubtful.is_over(1280, AUTO)
    assert not doubtful.is_over(1280, PATIENCE["low"])
    assert not thought(*[0.1] * 30).is_over(3000, AUTO)
    assert not thought(1.0, *[0.0] * 16).is_over(1280, AUTO)  # it was another silence


def test_the_eager_wait_less():
    for silence_ms, expected in ((2000, (1, 1, 1, 3)), (200, (1, 2, 2, 3))):
        steps = [
            next(count for count in range(1, 9) if thought(*[0.955] * count).is_over(silence_ms, PATIENCE[name]))
            for name in ("high", "medium", "auto", "low")
        ]
        assert tuple(steps) == expected


@pytest.mark.parametrize("seed", range(5))
async def test_it_does_not_matter_how_the_sound_came(seed: int, monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(seed)
    turn = np.repeat(rng.random(12), FRAME_SIZE).astype(np.float32)

    def loudness(conversation: FakeConversation) -> float:
        return float(np.mean(conversation._turn[-FRAME_SIZE:]))  # type: ignore[index]

    monkeypatch.setattr(FakeConversation, "turn_probability", property(loudness))
    found = []
    for cuts in ([], rng.integers(0, len(turn), 7), range(320, len(turn), 320)):
        thread = Thread(FakeEngine())
        for piece in np.split(turn, np.sort(np.array(cuts, int))):
            await thread.listen(piece)
        found.append(thread.turn_end.probability)
    assert found[0] == found[1] == found[2]
    assert found[0] > 0.02
