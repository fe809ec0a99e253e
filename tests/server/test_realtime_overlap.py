"""What happens at once in a call: answers beside each other, cut, cancelled and asked for again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sensorium.engine.fake import FakeEngine
from sensorium.messages import Audio, Text
from tests.server.calls import Phone, pcm, phone, types
from tests.server.live import Live, eventually, live
from tests.server.test_turns import spoken


def test_one_answer_at_a_time_and_others_beside_the_conversation():
    with live(FakeEngine(delay_ms=20)) as server, phone(server) as call:
        call.user("a rather long sentence to repeat")
        call.say("response.create")
        created = call.next()["response"]
        assert call_error(call, "response.create") == (None, "conversation_already_has_active_response")
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "aside"}]}
        options = {"conversation": "none", "input": [item], "output_modalities": ["text"]}
        call.say("response.create", response=options)
        done: dict[str, dict[str, Any]] = {}
        while len(done) < 2:
            event = call.next()
            if event["type"] == "response.done":
                done[event["response"]["id"]] = event["response"]
        aside = next(response for id, response in done.items() if id != created["id"])
        assert aside["conversation_id"] is None
        assert aside["output"][0]["content"][0]["text"] == 'You said "aside".'
        assert done[created["id"]]["status"] == "completed"


def call_error(call: Phone, type: str) -> tuple[str | None, str | None]:
    call.say(type)
    error = next(event for event in iter(call.next, None) if event["type"] == "error")["error"]
    return error["param"], error["code"]


def test_a_cancelled_answer_ends_what_it_began():
    with live(FakeEngine(delay_ms=20)) as server, phone(server) as call:
        assert call.refused("response.cancel") == (None, "response_cancel_not_active")
        call.user("a rather long sentence to repeat")
        call.say("response.create")
        call.until("response.output_audio.delta")
        call.say("response.cancel")
        events = call.until("response.done")
        assert "response.output_audio.done" in types(events)
        response = events[-1]["response"]
        assert response["status"] == "cancelled"
        assert response["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
        assert response["output"][0]["status"] == "incomplete"
        eventually(lambda: server.engine.num_cancelled == 1)


def test_an_answer_beside_the_conversation_is_cancelled_by_its_id():
    """Contract: without an id, what is cancelled is a response in the default conversation."""

    def refused(call: Phone, **fields: str) -> tuple[str | None, str | None]:
        call.say("response.cancel", **fields)
        error = call.until("error")[-1]["error"]
        return error["param"], error["code"]

    not_active = "response_cancel_not_active"
    with live(FakeEngine(delay_ms=200)) as server, phone(server) as call:
        call.user("one two three four five six seven eight")
        call.say("response.create", response={"conversation": "none", "output_modalities": ["text"]})
        aside = call.until("response.created")[-1]["response"]["id"]
        assert refused(call) == (None, not_active)
        assert refused(call, response_id="resp_0") == ("response_id", not_active)
        call.say("response.create")
        call.until("response.created")
        call.say("response.cancel")
        done = call.until("response.done")[-1]["response"]
        assert (done["id"] != aside, done["status"]) == (True, "cancelled")
        call.say("response.cancel", response_id=aside)
        done = call.until("response.done")[-1]["response"]
        assert (done["id"], done["status"], done["conversation_id"]) == (aside, "cancelled", None)
        assert refused(call, response_id=aside) == ("response_id", not_active)


def test_an_interrupted_answer_is_remembered_as_far_as_it_was_heard(server: Live):
    with phone(server) as call:
        call.user("one two three four five six")
        call.say("response.create")
        item = call.until("response.done")[-1]["response"]["output"][0]
        call.next()
        length_ms = 160 * len(item["content"][0]["transcript"].split())
        assert call.refused("conversation.item.truncate", item_id=item["id"], content_index=0, audio_end_ms=60_000) == (
            "audio_end_ms",
            "invalid_value",
        )
        fields = {"item_id": item["id"], "content_index": 0, "audio_end_ms": length_ms // 2}
        call.ask("conversation.item.truncate", "conversation.item.truncated", **fields)
        call.user("and then")
        call.say("response.create", response={"output_modalities": ["text"]})
        call.until("response.done")
    said = server.engine.requests[-1].messages[1].parts[0]
    assert isinstance(said, Audio)
    assert said.duration_ms == length_ms // 2
    assert said.transcript
    assert item["content"][0]["transcript"].startswith(said.transcript)
    assert 0 < len(said.transcript) < len(item["content"][0]["transcript"])


@pytest.mark.parametrize("max_sound_bytes", [2**20, 1])
def test_of_an_answer_that_was_cut_off_nothing_is_known_that_was_not_said(max_sound_bytes: int):
    """Though all of its sound was heard, and also when that is kept no longer."""
    with live(FakeEngine(delay_ms=30), max_call_sound_bytes=max_sound_bytes) as server, phone(server) as call:
        call.user("one two three four five six seven eight nine ten")
        call.say("response.create")
        item_id = [call.until("response.output_audio.delta") for _ in range(2)][-1][-1]["item_id"]
        call.say("response.cancel")
        call.until("rate_limits.updated")
        heard_ms = len(retrieved(call, item_id)["audio"]) * 3 // 4 // 48
        fields = {"item_id": item_id, "content_index": 0, "audio_end_ms": heard_ms}
        call.ask("conversation.item.truncate", "conversation.item.truncated", **fields)
        told = retrieved(call, item_id)["transcript"]
        assert 160 * len(told.split()) <= heard_ms
        call.say("input_audio_buffer.append", audio=pcm(np.zeros(24 * 400, np.float32)))
        call.say("input_audio_buffer.commit")  # beside this the other is too much
        call.until("conversation.item.done")
        is_kept = max_sound_bytes > 1
        eventually(lambda: ("audio" in retrieved(call, item_id)) == is_kept)
        call.say("response.create", response={"output_modalities": ["text"], "instructions": "be kind"})
        call.until("response.done")
    said = server.engine.requests[-1].messages[2].parts[0]
    assert isinstance(said, Audio | Text)
    assert isinstance(said, Audio) == is_kept
    assert (said.transcript if isinstance(said, Audio) else said.text) == told


def retrieved(call: Phone, item_id: str) -> dict[str, Any]:
    answer = call.ask("conversation.item.retrieve", "conversation.item.retrieved", item_id=item_id)
    return answer["item"]["content"][0]


def test_an_answer_may_be_truncated_to_nothing_twice(server: Live):
    with phone(server) as call:
        call.user("one two three")
        call.say("response.create")
        item = call.until("response.done")[-1]["response"]["output"][0]
        call.next()
        for _ in range(2):
            fields = {"item_id": item["id"], "content_index": 0, "audio_end_ms": 0}
            call.ask("conversation.item.truncate", "conversation.item.truncated", **fields)
        call.user("and then")
        call.say("response.create", response={"output_modalities": ["text"]})
        call.until("response.done")
    assert [message.role for message in server.engine.requests[-1].messages] == ["user", "user"]


def test_an_answer_that_is_truncated_while_it_is_made_ends_there():
    with live(FakeEngine(delay_ms=40)) as server, phone(server) as call:
        for cancels in (True, False):
            call.user("one two three four five six")
            call.say("response.create")
            item_id = [call.until("response.output_audio.delta") for _ in range(3)][-1][-1]["item_id"]
            if cancels:
                call.say("response.cancel")
            call.say("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=160)
            events = call.until("conversation.item.truncated")
            [done] = [event["response"] for event in events if event["type"] == "response.done"]
            assert done["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
        call.user("and then")
        call.say("response.create", response={"output_modalities": ["text"]})
        call.until("response.done")
    for said in (server.engine.requests[-1].messages[at].parts[0] for at in (1, 3)):
        assert isinstance(said, Audio)
        assert said.duration_ms == 160
        assert len((said.transcript or "").split()) == 1


def test_an_answer_can_be_asked_for_as_soon_as_the_last_one_is_done(server: Live):
    with phone(server) as call:
        call.user("hi")
        for _ in range(20):
            call.say("response.create", response={"output_modalities": ["text"]})
            assert "error" not in types(call.until("response.done"))


def test_an_answer_to_nothing_at_all(server: Live):
    with phone(server) as call:
        for options in ({"input": []}, {"input": [], "conversation": "none"}):
            call.say("response.create", response={**options, "output_modalities": ["text"]})
            assert call.until("rate_limits.updated")[-2]["response"]["status"] == "completed"


def test_an_answer_that_is_cancelled_before_it_has_begun_is_over(server: Live):
    with phone(server) as call:
        call.user("hi")
        for _ in range(20):
            call.say("response.create")
            call.say("response.cancel")
            call.until("response.done")


def test_speech_that_comes_all_at_once_is_turns_like_any_other(server: Live):
    with phone(server, session={"type": "realtime", "output_modalities": ["text"]}) as call:
        call.say("input_audio_buffer.append", audio=pcm(np.concatenate([spoken(), spoken(), spoken()])))
        done = [call.until("response.done")[-1]["response"]["status"] for _ in range(3)]
        heard = server.engine.requests[-1].messages
    assert set(done[:2]) <= {"cancelled", "completed"}  # as the next turn comes before or after its end
    assert done[2] == "completed"
    assert sum(message.role == "user" for message in heard) == 3


def test_a_turn_that_began_while_an_answer_was_made_is_listened_to_all_the_same():
    """A microphone that is always open: its next turn begins before the answer to the last one is over."""
    transcription = {"type": "realtime", "audio": {"input": {"turn_detection": None, "transcription": {"model": "x"}}}}
    with live(FakeEngine(delay_ms=20)) as server, phone(server, session=transcription) as call:
        call.user("a rather long sentence to repeat")
        call.say("response.create")
        call.until("response.output_audio.delta")
        sound = spoken(silence_ms=0)
        first, second = np.array_split(sound, 2)
        call.say("input_audio_buffer.append", audio=pcm(first))
        call.until("response.done")
        answered = len(server.engine.requests)
        call.say("input_audio_buffer.append", audio=pcm(second))
        call.say("input_audio_buffer.commit")
        call.until("conversation.item.input_audio_transcription.completed")
        assert len(server.engine.requests) == answered  # a clip that nobody listened to is written down by another
        call.say("response.create", response={"output_modalities": ["text"]})
        call.until("response.done")
    heard = server.engine.requests[-1].messages[-1].parts[0]
    assert isinstance(heard, Audio)
    assert abs(heard.duration_ms - 1000 * len(sound) / 24_000) < 50
