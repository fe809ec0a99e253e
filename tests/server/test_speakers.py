from __future__ import annotations

import numpy as np

from sensorium.server.speakers import Speakers


def test_speakers_get_letters_in_order():
    speakers = Speakers()
    ada, bob, cyd = np.eye(3) + 0.05
    assert [speakers.name(voice) for voice in (ada, bob, ada, 3 * bob, cyd, ada)] == ["A", "B", "A", "B", "C", "A"]


def test_known_speakers_have_their_names():
    ada, bob, cyd = np.eye(3)
    speakers = Speakers([("Ada", ada), ("Bob", bob)])
    assert [speakers.name(voice) for voice in (bob, cyd, ada)] == ["Bob", "A", "Ada"]


def test_there_is_a_letter_for_everybody():
    speakers = Speakers()
    names = [speakers.name(voice) for voice in np.eye(30)]
    assert names[25:] == ["Z", "AA", "AB", "AC", "AD"]
