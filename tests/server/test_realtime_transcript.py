"""What the user says is told while it is said, and what was told stays."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sensorium.engine.fake import FakeConversation, FakeEngine
from sensorium.engine.request import InputTranscriptDelta, TokenLogprob, Usage
from sensorium.messages import Audio
from sensorium.platform.limits import LimitRule, Limits
from sensorium.platform.state import State
from sensorium.platform.usage import PriceList, UsageLog
from sensorium.server.config import ServerConfig
from sensorium.server.conversation import Content, Item
from sensorium.server.metering import Meter
from sensorium.server.metrics import Metrics
from sensorium.server.realtime_account import Account
from sensorium.server.realtime_events import SessionConfig
from sensorium.server.realtime_transcript import Scribe
from sensorium.server.recording import Recording
from tests.server.calls import Phone, hum, pcm, phone
from tests.server.live import Live, live
from tests.server.test_turns import SEMANTIC, perhaps, spoken, stream

WRITTEN = "conversation.item.input_audio_transcription"


def listening(turn_detection: Any, kind: str = "realtime") -> dict[str, Any]:
    return {"type": kind, "audio": {"input": {"turn_detection": turn_detection, "transcription": {"model": "x"}}}}


def told(events: list[dict[str, Any]]) -> list[str]:
    """The deltas, all of one item."""
    deltas = [event for event in events if event["type"] == f"{WRITTEN}.delta"]
    assert len({event["item_id"] for event in deltas}) == 1
    return [event["delta"] for event in deltas]


@pytest.mark.parametrize("kind", ["realtime", "transcription"])
@pytest.mark.parametrize("detection", [{"type": "server_vad"}, SEMANTIC])
def test_words_are_told_while_they_are_said(server: Live, detection: dict[str, str], kind: str):
    with phone(server, session=listening(detection, kind)) as call:
        stream(call, spoken())
        [started, *while_said] = call.until("input_audio_buffer.speech_stopped")
        events = [*while_said, *call.until(f"{WRITTEN}.completed")]
    assert started["type"] == "input_audio_buffer.speech_started"
    assert len(told(while_said)) > 2
    assert events[-1]["item_id"] == while_said[0]["item_id"] == started["item_id"]
    assert "".join(told(events)) == events[-1]["transcript"]
    assert len(set(events[-1]["transcript"].split())) == len(events[-1]["transcript"].split())
    assert not any("logprobs" in event for event in events)


class Line:
    """A call without a socket."""

    def __init__(self, log: UsageLog) -> None:
        limits = Limits((LimitRule(audio_s_per_minute=600),), clock=lambda: 0.0)
        meter = Meter(limits, log, FakeEngine().info)
        self.session = SessionConfig(type="realtime")
        self.account = Account(meter, Metrics(), ServerConfig(), model="gpt-realtime", rate_hz=16_000)
        self.account.payer = SimpleNamespace()
        self.sent: list[dict[str, Any]] = []

    async def send(self, type: str, **fields: Any) -> None:
        self.sent.append({"type": type, **fields})


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    state = State.open()
    yield Line(state.usage)
    await state.aclose()


def tokens(event: dict[str, Any]) -> str:
    assert all(bytes(each["bytes"]).decode() == each["token"] and each["logprob"] <= 0 for each in event["logprobs"])
    return "".join(each["token"] for each in event["logprobs"])


@pytest.mark.parametrize("kind", ["realtime", "transcription"])
@pytest.mark.parametrize("detection", [{"type": "server_vad"}, SEMANTIC])
def test_words_come_with_their_log_probabilities_if_they_are_asked_for(server: Live, detection: Any, kind: str):
    included = ["item.input_audio_transcription.logprobs"]
    with phone(server, session={**listening(detection, kind), "include": included}) as call:
        stream(call, spoken())
        events = [event for event in call.until(f"{WRITTEN}.completed") if event["type"].startswith(WRITTEN)]
    *deltas, completed = events
    assert len(deltas) > 2
    assert all(tokens(event) == event["delta"] for event in deltas)
    assert tokens(completed) == completed["transcript"]


async def test_log_probabilities_are_those_of_the_words_that_were_told(line: Line):
    def heard(*words: tuple[str, float]) -> list[InputTranscriptDelta]:
        return [
            InputTranscriptDelta(clip=0, text=text, logprobs=(TokenLogprob(text.encode(), logprob),))
            for text, logprob in words
        ]

    line.session = line.session.model_copy(update={"include": ["item.input_audio_transcription.logprobs"]})
    scribe = Scribe(FakeEngine(), line)
    sound = Recording(np.zeros(1600, np.float32), rate_hz=16_000)
    item = Item(id="turn", role="user", content=[Content(kind="input_audio", text=None, sound=sound)])
    await scribe.tell("turn", heard(("one", -1.0)))
    await scribe.tell("turn", heard(("won", -2.0), (" two", -3.0)))
    await scribe.complete(item, heard(("won", -4.0), (" too", -5.0), (" three", -6.0)), apart=False)
    told = [[(each["token"], each["logprob"]) for each in event["logprobs"]] for event in line.sent]
    assert told == [
        [("one", -1.0)],
        [(" two", -3.0)],
        [(" three", -6.0)],
        [("one", -1.0), (" two", -3.0), (" three", -6.0)],
    ]


def test_words_are_told_while_a_button_is_held(server: Live):
    with phone(server, session=listening(None)) as call:
        for _ in range(2):
            stream(call, hum(1000))
            first = call.next()
            assert (first["type"], first["delta"]) == (f"{WRITTEN}.delta", "word1")
            call.say("input_audio_buffer.commit")
            events = [first, *call.until(f"{WRITTEN}.completed")]
            assert "".join(told(events)) == events[-1]["transcript"] == "word1 word2 word3 word4"
            assert events[-1]["item_id"] == first["item_id"]
        stream(call, hum(400))
        cleared = call.until(f"{WRITTEN}.delta")[-1]["item_id"]
        call.ask("input_audio_buffer.clear", "input_audio_buffer.cleared")
        stream(call, hum(400))
        begun = call.until(f"{WRITTEN}.delta")[-1]
        assert (begun["item_id"] != cleared, begun["delta"]) == (True, "word1")


def test_what_a_draft_does_not_answer_is_not_told(monkeypatch: pytest.MonkeyPatch):
    """The call listens on while it drafts: the turn may prove to have ended before what it hears then."""
    monkeypatch.setattr(FakeConversation, "turn_probability", property(perhaps))
    session = {**listening(SEMANTIC), "output_modalities": ["text"]}
    quiet = np.zeros(24 * 500, np.float32)
    with live() as server, phone(server, session=session) as call:
        stream(call, np.concatenate((quiet, spoken(silence_ms=0), quiet, spoken(silence_ms=0), *4 * [quiet])))
        transcript = call.until(f"{WRITTEN}.completed")[-1]["transcript"]
        call.until("response.done")
        heard = server.engine.requests[-1].messages[-1].parts[0]
    assert isinstance(heard, Audio)
    assert transcript == heard.transcript


async def test_what_was_told_stays_where_a_turn_is_heard_differently_the_second_time(line: Line):
    def heard(*texts: str) -> list[InputTranscriptDelta]:
        return [InputTranscriptDelta(clip=0, text=text) for text in texts]

    scribe = Scribe(FakeEngine(), line)
    sound = Recording(np.zeros(1600, np.float32), rate_hz=16_000)
    item = Item(id="turn", role="user", content=[Content(kind="input_audio", text=None, sound=sound)])
    for texts in (("one",), ("one", " two"), ("won",), ("won", " too"), ("won", " too", " three"), ("one", " two")):
        await scribe.tell("turn", heard(*texts))
    await scribe.complete(item, heard("won", " too", " three", " four"), apart=False)
    sent = [
        (event["type"].removeprefix(f"{WRITTEN}."), event.get("delta") or event["transcript"]) for event in line.sent
    ]
    assert sent == [
        ("delta", "one"),
        ("delta", " two"),
        ("delta", " three"),
        ("delta", " four"),
        ("completed", "one two three four"),
    ]
    assert item.content[0].text == "one two three four"


# --- what it costs


def written(call: Phone, ms: int) -> list[dict[str, Any]]:
    """What is told of a turn's words."""
    call.say("input_audio_buffer.append", audio=pcm(hum(ms)))
    call.say("input_audio_buffer.commit")
    events = call.until("conversation.item.done")
    while events[-1]["type"] not in (f"{WRITTEN}.completed", f"{WRITTEN}.failed"):
        events.append(call.next())
    return [event for event in events if event["type"].startswith(WRITTEN)]


@pytest.mark.parametrize("model", ["whisper-1", "of my own"])
@pytest.mark.parametrize("kind", ["realtime", "transcription"])
def test_what_is_written_down_is_paid_for(kind: str, model: str):
    session = listening(None, kind)
    session["audio"]["input"]["transcription"]["model"] = model
    name = "whisper-1" if model == "whisper-1" else "gpt-realtime"
    range_s = {"start_time": int(time.time()) - 60}
    prices = PriceList(models={name: {"seconds": 0.5}})
    with live(prices=prices) as server, phone(server, session=session) as call:
        told_s = [written(call, ms)[-1]["usage"]["seconds"] for ms in (1600, 800)]
        call.ask("input_audio_buffer.clear", "input_audio_buffer.cleared")

        def results(what: str, **query: str) -> list[dict[str, Any]]:
            told = server.http.get(f"/v1/organization/{what}", params={**range_s, **query}).json()
            return [result for bucket in told["data"] for result in bucket["results"]]

        [heard] = results("usage/audio_transcriptions", group_by="model")
        assert (heard["model"], heard["num_model_requests"]) == (name, 2)
        assert heard["seconds"] == round(sum(told_s)) == 2
        [cost] = results("costs", line_items=f"{name}, seconds")
        assert cost["amount"]["value"] == pytest.approx(sum(told_s) / 2)
        # an answer will count what was heard, where there is one
        positions = 30 if kind == "transcription" else 0
        assert f'tokens_total{{direction="input",modality="audio"}} {positions}.0' in server.http.get("/metrics").text


@pytest.mark.parametrize("kind", ["realtime", "transcription"])
def test_a_turn_behind_a_limit_is_not_written_down(kind: str):
    with (
        live(limits=(LimitRule(audio_s_per_minute=1),)) as server,
        phone(server, session=listening(None, kind)) as call,
    ):
        assert written(call, 4000)[-1]["type"] == f"{WRITTEN}.completed"
        [failed] = written(call, 1000)
        assert (failed["type"], failed["error"]["code"]) == (f"{WRITTEN}.failed", "rate_limit_exceeded")
        assert "seconds of sound per min" in failed["error"]["message"]
        call.ask("input_audio_buffer.clear", "input_audio_buffer.cleared")


async def test_sound_that_is_written_down_and_answered_counts_once(line: Line):
    item = Item(
        id="turn", role="user", content=[Content(kind="input_audio", sound=Recording(hum(5000), rate_hz=16_000))]
    )
    async with line.account.transcript(item, None) as count:
        count(None)
    async with await line.account.begin_answer("inf") as charge:
        line.account.count_answer(charge, Usage(), [item])
    sound_s = len(item.sounds[0]) / 16_000
    assert charge.allowances()["audio_s"].remaining == int(600 - sound_s)
