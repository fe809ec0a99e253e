"""Spoken answers that a later request refers to by id: kept in the state, within bytes and time."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sensorium.messages import Audio
from sensorium.platform.state import State
from sensorium.server.spoken_replies import SpokenReplies, let_sound_go
from tests.server.live import Live, live

SPOKEN: dict[str, Any] = {"modalities": ["text", "audio"], "audio": {"voice": "ash", "format": "wav"}}


def again(server: Live, id: str) -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "audio": {"id": id}},
        {"role": "user", "content": "again"},
    ]


def ask_again(server: Live, id: str) -> int:
    return server.http.post("/v1/chat/completions", json={"model": "gpt-4o", "messages": again(server, id)}).status_code


@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_is_known_to_a_server_that_starts_again(tmp_path: Path, stream: bool):
    with live(state=tmp_path) as server:
        audio = {"voice": "ash", "format": "pcm16" if stream else "wav"}
        text = server.chat("hi", **{**SPOKEN, "audio": audio}, stream=stream).text
        (id,) = re.findall(r'"(audio_[0-9a-f]+)"', text)
        assert ask_again(server, id) == 200
        (before,) = server.engine.requests[-1].messages[1].parts
    with live(state=tmp_path) as server:
        assert ask_again(server, id) == 200
        (after,) = server.engine.requests[-1].messages[1].parts
    assert isinstance(before, Audio)
    assert isinstance(after, Audio)
    assert np.array_equal(before.waveform, after.waveform)
    assert (after.transcript, after.voice, after.sample_rate_hz) == ('You said "hi".', "ash", before.sample_rate_hz)


def test_a_reply_is_gone_when_its_time_is_over(tmp_path: Path):
    with live(state=tmp_path, spoken_reply_ttl_s=0) as server:
        id = server.chat("hi", **SPOKEN).json()["choices"][0]["message"]["audio"]["id"]
        assert ask_again(server, id) == 400


async def test_replies_are_kept_within_bytes_and_time(monkeypatch: pytest.MonkeyPatch):
    state = State.open()
    now = [1000.0]
    clock = SimpleNamespace(time=lambda: now[0], monotonic=lambda: now[0])
    monkeypatch.setattr("sensorium.server.spoken_replies.time", clock)
    monkeypatch.setattr("sensorium.platform.store.time", clock)
    let_sound_go(state.store, state.objects)
    bounds: Any = {"ttl_s": 60, "max_bytes": 2 * 400}
    mine, yours = (SpokenReplies(state.store, state.objects, project, **bounds) for project in ("mine", "yours"))
    spoken = Audio(waveform=np.zeros(100, np.float32), sample_rate_hz=16_000)
    assert await yours.keep("y", spoken) == 1060
    assert [await mine.keep(id, spoken) for id in ("a", "b", "c")] == [1060] * 3
    assert [await mine.find(id) is not None for id in ("a", "b", "c", "y")] == [False, True, True, False]
    assert await yours.find("y") is not None, "one project's leave those of another alone"
    assert sorted(await state.objects.keys("replies")) == ["replies/b", "replies/c", "replies/y"]
    now[0] = 1061.0
    assert await mine.find("c") is None
    await mine.keep("d", spoken)
    assert await state.objects.keys("replies") == ["replies/d"], "the sound goes with the replies"
    assert mine.new_id() != mine.new_id()
    state.close()
