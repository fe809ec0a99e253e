"""The conversation that every client of calls has to be able to hold: spoken, with a tool in it, and interrupted.

The user asks. The assistant calls a tool, is told the result and begins to speak. The user breaks in and asks again;
the assistant calls again, and says all of the second result. What the server told is checked here, whoever it told.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from sensorium.engine.fake import FakeEngine
from sensorium.messages import Audio, Message, ToolCall
from tests.server.calls import SERVER_EVENT
from tests.server.live import Live, live
from tests.serving import ROOT

PIECE_BYTES = 4800  # 100 ms
# the first takes long enough to be broken into, the second keeps nobody waiting
RESULTS = (" ".join(["it is warm and dry in the north, but there is some rain in the south,"] * 5), "it is warm")
HEARD_S = 0.3  # of the first result, before the user breaks in
TOOL: dict[str, Any] = {
    "type": "function",
    "name": "weather",
    "description": "Says what the weather is in a town.",
    "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
}
SESSION: dict[str, Any] = {
    "type": "realtime",
    "instructions": "Be brief.",
    "tools": [TOOL],
    "tool_choice": "required",
    "audio": {
        "input": {
            "transcription": {"model": "gpt-4o-mini-transcribe"},
            "turn_detection": {"type": "semantic_vad", "interrupt_response": True},
        },
        "output": {"voice": "echo"},
    },
}


@contextmanager
def slow_server(**options: Any) -> Iterator[Live]:
    """A server whose answers take their time, so that there is some to break into."""
    with live(FakeEngine(delay_ms=25.0), **options) as server:
        yield server


def spoken() -> list[bytes]:
    """A question as somebody says it, and the silence that ends it: PCM at 24 kHz, in pieces of 100 ms."""
    said, rate_hz = soundfile.read(ROOT / "docs" / "media" / "question.wav", dtype="float32")
    sound = np.concatenate((soxr.resample(said, rate_hz, 24_000), np.zeros(24_000, np.float32)))
    data = (sound * 32767).astype("<i2").tobytes()
    return [data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES)]


def write_spoken(folder: Path) -> Path:
    """The same for a client in another process: one file of PCM."""
    file = folder / "question.pcm"
    file.write_bytes(b"".join(spoken()))
    return file


def check(events: list[dict[str, Any]], server: Live) -> None:
    """That the conversation went so, by what the server told and by what the engine was asked at the end of it."""
    for event in events:
        SERVER_EVENT.validate_python(event)
    assert [event for event in events if event["type"] == "error"] == []
    done = [event["response"] for event in events if event["type"] == "response.done"]
    assert [(answer["status"], _forms(answer)) for answer in done] == [
        ("completed", ["function_call"]),
        ("cancelled", ["output_audio"]),
        ("completed", ["function_call"]),
        ("completed", ["output_audio"]),
    ]
    assert done[1]["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
    assert done[3]["output"][0]["content"][0]["transcript"] == f'You said "{RESULTS[1]}".'

    [truncated] = [event for event in events if event["type"] == "conversation.item.truncated"]
    assert truncated["item_id"] == done[1]["output"][0]["id"]
    for name in ("speech_started", "speech_stopped", "committed"):
        assert [event["type"] for event in events].count(f"input_audio_buffer.{name}") == 2
    written = "conversation.item.input_audio_transcription.completed"
    transcripts = [event["transcript"] for event in events if event["type"] == written]
    assert [transcript.startswith("word1 word2 word3") for transcript in transcripts] == [True, True]
    _check_remembered(list(server.engine.requests[-1].messages), truncated["audio_end_ms"])


def _forms(answer: dict[str, Any]) -> list[str]:
    return [item["content"][0]["type"] if item["type"] == "message" else item["type"] for item in answer["output"]]


def _check_remembered(messages: list[Message], heard_ms: int) -> None:
    assert [message.role for message in messages if message.role != "system"] == [
        *("user", "assistant", "tool", "assistant"),
        *("user", "assistant", "tool"),
    ]
    first, call, told, answer, *_ = [message for message in messages if message.role != "system"]
    assert isinstance(first.parts[0], Audio)
    assert isinstance(call.parts[0], ToolCall)
    assert (call.parts[0].name, json.loads(call.parts[0].arguments)) == ("weather", {"town": "word"})
    assert told.text == RESULTS[0]
    said = answer.parts[0]
    assert isinstance(said, Audio)
    assert 0 <= said.duration_ms - heard_ms < 80  # whole frames
    assert said.transcript
    assert f'You said "{RESULTS[0]}".'.startswith(said.transcript)
    assert len(said.transcript) < len(RESULTS[0])
    assert heard_ms >= 1000 * HEARD_S
