"""POST /v1/responses/compact: what is left of a conversation, and that a later request goes on from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai.types.responses as sdk
import pytest

from sensorium.engine.fake import FakeEngine
from sensorium.platform.limits import LimitRule
from sensorium.server.responses_items import MAX_SEALED_CHARS
from tests.server.live import Live, envelope, live
from tests.server.samples import data_url, picture
from tests.server.test_organization import first_admin
from tests.server.test_responses import ADD, respond

TALK: list[Any] = [
    {"role": "developer", "content": "Be kind."},
    {"role": "user", "content": "one " * 20},
    {"role": "assistant", "content": "first " * 20},
    {"role": "user", "content": "two"},
    {"type": "function_call", "call_id": "c", "name": "add", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c", "output": "3"},
    {"role": "assistant", "content": "it is three"},
    {"role": "user", "content": [{"type": "input_text", "text": "three"}]},
    {"role": "assistant", "content": "fine"},
]


@pytest.fixture(scope="module")
def short() -> Iterator[Live]:
    """A server whose context of 80 tokens leaves 40 to a compaction."""
    with live(FakeEngine(max_tokens=80)) as running:
        yield running


def compacted(server: Live, input: Any = None, **fields: Any) -> dict[str, Any]:
    asked = {"model": "gpt-4o", **({} if input is None else {"input": input}), **fields}
    response = server.http.post("/v1/responses/compact", json=asked)
    assert response.status_code == 200, response.text
    body = response.json()
    assert set(body) == {"id", "object", "created_at", "output", "usage"}
    assert (body["object"], body["output"][-1]["type"]) == ("response.compaction", "compaction")
    assert [item["role"] for item in body["output"][:-1]] == ["user"] * (len(body["output"]) - 1)
    return body


def refused(server: Live, path: str = "responses/compact", **fields: Any) -> tuple[str | None, str | None]:
    response = server.http.post(f"/v1/{path}", json={"model": "gpt-4o", **fields})
    assert response.status_code == 400, response.text
    return envelope(response)


def read(server: Live, input: Any, **fields: Any) -> list[tuple[str, str]]:
    """What the engine was given to read, in as many words as each message begins with."""
    respond(server, input, **fields)
    messages = server.engine.requests[-1].messages
    return [(message.role, message.text[:11]) for message in messages]


def test_what_is_left_stands_for_the_conversation(server: Live):
    output = compacted(server, TALK)["output"]
    assert [item["type"] for item in output] == ["message"] * 3 + ["compaction"]
    assert "kind" not in json.dumps(output)
    more = {"role": "user", "content": "four"}
    assert read(server, [*output, more]) == read(server, [*TALK, more])


def test_the_oldest_turns_go_and_the_instructions_stay(short: Live):
    output = compacted(short, TALK)["output"]
    assert [item["content"][0]["text"] for item in output[:-1]] == ["two", "three"]
    told = read(short, [*output, {"role": "user", "content": "four"}])
    assert [text for _, text in told] == ["Be kind.", "two", "", "3", "it is three", "three", "fine", "four"]
    again = compacted(short, [*output, {"role": "user", "content": "four " * 40}])["output"]
    assert [item["content"][0]["text"][:4] for item in again[:-1]] == ["four"]  # one compaction, of what is left
    assert [text[:8] for _, text in read(short, again)] == ["Be kind.", "four fou"]


def test_instructions_take_room_and_are_not_kept(short: Live):
    output = compacted(short, TALK, instructions="be " * 30)["output"]
    assert [item["content"][0]["text"] for item in output[:-1]] == ["three"]
    assert ("system", "be be be be") not in read(short, output)


def test_a_result_goes_with_its_call(short: Live):
    call, result = TALK[4:6]
    late = [{"role": "user", "content": "one " * 60}, call, {"role": "user", "content": "two"}, result]
    told = read(short, [*compacted(short, late)["output"], {"role": "user", "content": "three"}])
    assert [text for _, text in told] == ["two", "three"]


def test_a_call_may_be_answered_behind_it(server: Live):
    output = compacted(server, TALK[:5])["output"]
    told = read(server, [*output, TALK[5]], tools=[ADD])
    assert [role for role, _ in told] == ["system", "system", "user", "assistant", "user", "assistant", "tool"]


def test_users_messages_are_the_clients(server: Live):
    *said, compaction = compacted(server, TALK)["output"]
    assert ("user", "two") not in read(server, [said[0], said[2], compaction])
    changed = {**said[1], "content": [{"type": "input_text", "text": "zwei"}]}
    told = read(server, [said[0], changed, said[2], compaction])
    assert told[0] == ("user", "zwei")
    assert ("user", "two") not in told
    yes = {"role": "user", "content": "yes"}
    told = read(server, [yes, *compacted(server, [yes, TALK[2], yes])["output"]])
    assert [text[:5] for _, text in told] == ["yes", "yes", "first", "yes"]  # of the same words, each once


def test_a_thread_is_compacted_and_goes_on(server: Live):
    first = respond(server, "one", instructions="Be brief.")
    second = respond(server, "two", previous_response_id=first["id"])
    output = compacted(server, previous_response_id=second["id"], model=None)["output"]
    third = respond(server, [*output, {"role": "user", "content": "three"}])
    told = read(server, "four", previous_response_id=third["id"])
    assert [text for role, text in told if role == "user"] == ["one", "two", "three", "four"]
    kept = server.http.get(f"/v1/responses/{third['id']}/input_items", params={"order": "asc"}).json()["data"]
    assert kept[:3] == output


def test_pictures_drawn_and_seen_are_in_it(server: Live):
    seen = {"role": "user", "content": [{"type": "input_image", "image_url": data_url(picture())}]}
    drawn = respond(server, [seen, {"role": "user", "content": "draw a square"}])["output"]
    output = compacted(server, [seen, *drawn])["output"]
    told = read(server, [*output, {"role": "user", "content": "what is it"}])
    assert [role for role, _ in told] == ["user", "assistant", "user"]
    parts = [part for message in server.engine.requests[-1].messages for part in message.parts]
    assert [type(part).__name__ for part in parts] == ["Image", "Image", "Text"]


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # the client's type has no messages of users
def test_the_official_client_goes_on_from_it(server: Live):
    client = server.official()
    compact: sdk.CompactedResponse = client.responses.compact(model="gpt-4o", input=TALK)
    assert isinstance(compact.output[-1], sdk.ResponseCompactionItem)
    assert (compact.usage.total_tokens, compact.usage.input_tokens_details.cached_tokens) == (0, 0)
    more: Any = [*compact.output, {"role": "user", "content": "four"}]
    client.responses.create(model="gpt-4o", input=more)
    messages = server.engine.requests[-1].messages
    assert [message.text[:5] for message in messages if message.role == "user"] == ["one o", "two", "three", "four"]
    count = client.responses.input_tokens.count(model="gpt-4o", input=more)
    assert count.input_tokens > 40


def test_conversations_hold_it(server: Live):
    output = compacted(server, TALK)["output"]
    talk = server.http.post("/v1/conversations", json={"items": output}).json()["id"]
    assert ("assistant", "it is three") in read(server, "four", conversation=talk)
    bad = {"type": "compaction", "encrypted_content": output[-1]["encrypted_content"][:-9]}
    where = ("items[1].encrypted_content", "invalid_encrypted_content")
    assert refused(server, "conversations", model=None) == ("model", "unknown_parameter")
    for path in ("conversations", f"conversations/{talk}/items"):
        response = server.http.post(f"/v1/{path}", json={"items": [output[0], bad]})
        assert (response.status_code, envelope(response)) == (400, where)


def test_what_was_changed_is_refused(server: Live):
    (compaction,) = compacted(server, [TALK[2]])["output"]
    content = compaction["encrypted_content"]
    refusal = ("input[1].encrypted_content", "invalid_encrypted_content")
    for changed in ("", "AAAA", "é", content[:-4], content + "A", content.swapcase(), content[4:] + content[:4]):
        item = {"type": "compaction", "encrypted_content": changed}
        for path in ("responses", "responses/compact", "responses/input_tokens"):
            assert refused(server, path, input=[TALK[1], item]) == refusal
    with live() as elsewhere:  # another key
        assert refused(elsewhere, "responses", input=[TALK[1], compaction]) == refusal
    large = {"type": "compaction", "encrypted_content": "A" * (MAX_SEALED_CHARS + 1)}
    assert refused(server, input=[large]) == ("input[0].encrypted_content", "string_above_max_length")


def test_it_opens_for_its_own_project_only(tmp_path: Path):
    admin = first_admin(tmp_path)
    with live(state=tmp_path) as server:

        def key_of(project: str) -> dict[str, str]:
            head = {"authorization": f"Bearer {admin.secret}"}
            path = "/v1/organization/projects"
            id = server.http.post(path, json={"name": project}, headers=head).json()["id"]
            account = server.http.post(f"{path}/{id}/service_accounts", json={"name": "robot"}, headers=head).json()
            return {"authorization": f"Bearer {account['api_key']['value']}"}

        mine, yours = key_of("mine"), key_of("yours")
        asked: dict[str, Any] = {"model": "gpt-4o", "input": TALK}
        asked["input"] = server.http.post("/v1/responses/compact", json=asked, headers=mine).json()["output"]
        assert server.http.post("/v1/responses", json=asked, headers=mine).status_code == 200
        response = server.http.post("/v1/responses", json=asked, headers=yours)
        assert envelope(response) == ("input[3].encrypted_content", "invalid_encrypted_content")


def test_what_is_refused(server: Live):
    for fields, refusal in (
        ({}, ("input", "missing_required_parameter")),
        ({"input": []}, ("input", "invalid_value")),
        ({"input": "hi", "model": "nobody"}, ("model", "model_not_found")),
        ({"input": "hi", "conversation": "conv_1"}, ("conversation", "unknown_parameter")),
        ({"input": "hi", "service_tier": "gold"}, ("service_tier", "invalid_value")),
        ({"input": "hi", "prompt_cache_key": "k" * 65}, ("prompt_cache_key", "string_above_max_length")),
        ({"previous_response_id": "resp_0"}, ("previous_response_id", "previous_response_not_found")),
        ({"input": [TALK[5]]}, ("input[0].call_id", "invalid_value")),
    ):
        response = server.http.post("/v1/responses/compact", json={"model": "gpt-4o", **fields})
        assert response.status_code == (404 if refusal[1] == "model_not_found" else 400)
        assert envelope(response) == refusal
    response = server.http.post("/v1/responses/compact", json={"input": "hi"})
    assert envelope(response) == ("model", "missing_required_parameter")
    ignored = {"prompt_cache_key": "k", "prompt_cache_retention": "24h", "service_tier": "flex"}
    compacted(server, "hi", **ignored, prompt_cache_options={"mode": "implicit"})


def test_it_counts_as_a_request_of_no_tokens():
    with live(limits=(LimitRule(requests_per_minute=2, tokens_per_minute=10),)) as server:
        compacted(server, TALK)
        response = server.http.post("/v1/responses/compact", json={"model": "gpt-4o", "input": TALK})
        assert response.headers["x-ratelimit-remaining-tokens"] == "10"
        assert server.http.post("/v1/responses/compact", json={"model": "gpt-4o", "input": "hi"}).status_code == 429
