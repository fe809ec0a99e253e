"""What is kept of responses: threads, retrieval, the background, and conversations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai.types.responses as sdk
import pytest
from openai.types.conversations import Conversation, ConversationItem
from openai.types.responses.response_item_list import ResponseItemList
from pydantic import TypeAdapter

from sensorium.engine.fake import FakeEngine
from tests.server.live import Live, envelope, eventually, live
from tests.server.test_responses import ADD, check_order, events_of, kinds, refusal, respond


@pytest.fixture(scope="module")
def slow() -> Iterator[Live]:
    """A server that takes its time: 20 ms for a word."""
    with live(FakeEngine(delay_ms=20)) as running:
        yield running


def get(server: Live, path: str, status: int = 200, **query: Any) -> dict[str, Any]:
    response = server.http.get(f"/v1/{path}", params=query)
    assert response.status_code == status, response.text
    if status != 200:
        envelope(response)
    return response.json()


def post(server: Live, path: str, status: int = 200, **fields: Any) -> dict[str, Any]:
    response = server.http.post(f"/v1/{path}", json=fields)
    assert response.status_code == status, response.text
    if status != 200:
        envelope(response)
    return response.json()


def read(server: Live) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in server.engine.requests[-1].messages]


def finished(server: Live, id: str) -> dict[str, Any]:
    eventually(lambda: get(server, f"responses/{id}")["status"] not in ("queued", "in_progress"))
    return get(server, f"responses/{id}")


# --- responses


@pytest.mark.parametrize("streamed", [False, True])
def test_a_response_is_kept_and_deleted(server: Live, streamed: bool):
    if streamed:
        body = events_of(server.respond("hi", stream=True, metadata={"a": "b"}).text)[-1]["response"]
    else:
        body = respond(server, "hi", metadata={"a": "b"})
    assert body["store"] is True
    path = f"responses/{body['id']}"
    assert get(server, path) == body
    included: Any = {"include[]": "reasoning.encrypted_content"}
    assert get(server, path, **included) == body
    assert server.http.delete(f"/v1/{path}").json() == {"id": body["id"], "object": "response", "deleted": True}
    get(server, path, 404)
    get(server, f"{path}/input_items", 404)
    assert server.http.delete(f"/v1/{path}").status_code == 404


def test_what_is_not_to_be_kept_is_not(server: Live):
    body = respond(server, "hi", store=False)
    assert body["store"] is False
    get(server, f"responses/{body['id']}", 404)
    assert refusal(server, "again", previous_response_id=body["id"]) == (
        "previous_response_id",
        "previous_response_not_found",
    )


def test_a_thread_goes_on_from_the_response_before(server: Live):
    first = respond(server, "one", instructions="Be brief.")
    second = respond(server, "two", previous_response_id=first["id"])
    respond(server, "three", previous_response_id=second["id"], instructions="Be kind.", store=False)
    assert read(server) == [
        ("system", "Be kind."),  # instructions are those of the request alone
        ("user", "one"),
        ("assistant", 'You said "one".'),
        ("user", "two"),
        ("assistant", 'You said "two".'),
        ("user", "three"),
    ]
    respond(server, "other", previous_response_id=first["id"])  # a thread may fork
    assert [text for _, text in read(server)][-1:] == ["other"]
    assert len(read(server)) == 3


def test_a_thread_with_a_call(server: Live):
    first = respond(server, "call add {}", tools=[ADD])
    (call,) = first["output"]
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "3"}
    respond(server, [result], previous_response_id=first["id"], tools=[ADD])
    assert read(server)[-1] == ("tool", "3")
    assert refusal(server, [result]) == ("input[0].call_id", "invalid_value")


def test_a_thread_with_pictures(server: Live):
    first = respond(server, "draw a square")
    respond(server, "what is it", previous_response_id=first["id"])
    assert [len(message.parts) for message in server.engine.requests[-1].messages] == [1, 1, 1]


def test_what_is_deleted_is_gone_from_its_thread(server: Live):
    first = respond(server, "one")
    second = respond(server, "two", previous_response_id=first["id"])
    server.http.delete(f"/v1/responses/{first['id']}")
    assert refusal(server, "three", previous_response_id=second["id"]) == (
        "previous_response_id",
        "previous_response_not_found",
    )


def test_an_item_is_referred_to_by_its_id(server: Live):
    first = respond(server, "call add {}", tools=[ADD])
    (call,) = first["output"]
    said = [
        {"role": "user", "content": "add"},
        {"type": "item_reference", "id": call["id"]},
        {"type": "function_call_output", "call_id": call["call_id"], "output": "3"},
    ]
    respond(server, said)
    assert [role for role, _ in read(server)] == ["user", "assistant", "tool"]
    respond(server, [{"id": call["id"]}, {"role": "user", "content": "hi"}])  # a reference need not say that it is one
    assert refusal(server, [{"type": "item_reference", "id": "msg_0"}], status=404) == ("input[0].id", None)


def test_input_items_are_paged(server: Live):
    first = respond(server, [{"role": "user", "content": "one"}, {"role": "user", "content": "two", "id": "msg_2"}])
    second = respond(server, "three", previous_response_id=first["id"])
    path = f"responses/{second['id']}/input_items"
    everything = get(server, path, order="asc")
    TypeAdapter(ResponseItemList).validate_python(everything)
    texts = [item["content"][0]["text"] for item in everything["data"]]
    assert texts == ["one", "two", 'You said "two".', "three"]
    assert everything["data"][1]["id"] == "msg_2"
    assert (everything["has_more"], everything["object"]) == (False, "list")
    newest = get(server, path, limit=3)
    assert [item["content"][0]["text"] for item in newest["data"]] == texts[:0:-1]
    assert (newest["has_more"], newest["last_id"]) == (True, "msg_2")
    rest = get(server, path, limit=3, after=newest["last_id"])
    assert [item["content"][0]["text"] for item in rest["data"]] == ["one"]
    assert rest["has_more"] is False


def test_items_of_one_id_are_told_apart(server: Live):
    said = [{"role": "user", "content": "one", "id": "x"}, {"role": "user", "content": "two", "id": "x"}]
    body = respond(server, said)
    ids = [item["id"] for item in get(server, f"responses/{body['id']}/input_items")["data"]]
    assert len(set(ids)) == 2


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"order": "up"}, "order"),
        ({"after": "nothing"}, "after"),
        ({"surprise": 1}, "surprise"),
        ({"include[]": "everything"}, "include[0]"),
    ],
)
def test_queries_are_refused_by_name(server: Live, query: dict[str, Any], param: str):
    body = respond(server, "hi")
    assert get(server, f"responses/{body['id']}/input_items", 400, **query)["error"]["param"] == param


def test_counting_input(server: Live):
    first = respond(server, "one two")
    counted = post(server, "responses/input_tokens", model="gpt-4o", input="three", previous_response_id=first["id"])
    assert counted == {"object": "response.input_tokens", "input_tokens": 7}
    assert post(server, "responses/input_tokens", input="a b", instructions="c", tools=[ADD])["input_tokens"] == 5
    assert post(server, "responses/input_tokens", 400, input="hi", stream=True)["error"]["param"] == "stream"


@pytest.mark.parametrize("id", ["resp_0", "resp_%00", "x" * 600, "%F0%9F%98%80"])
def test_ids_that_nothing_has(server: Live, id: str):
    for path in (f"responses/{id}", f"responses/{id}/input_items", f"conversations/{id}", f"chat/completions/{id}"):
        get(server, path, 404)


# --- in the background


def test_a_background_response_is_polled(slow: Live):
    words = " ".join("abcdef" * 5)  # so many that a busy machine looks in time
    begun = respond(slow, words, background=True, metadata={"a": "b"})
    assert (begun["status"], begun["output"], begun["background"]) == ("queued", [], True)
    eventually(lambda: get(slow, f"responses/{begun['id']}")["status"] == "in_progress")
    assert refusal(slow, "hi", previous_response_id=begun["id"]) == ("previous_response_id", "invalid_value")
    body = finished(slow, begun["id"])
    assert body["status"] == "completed"
    assert body["output"][0]["content"][0]["text"] == f'You said "{words}".'
    TypeAdapter(sdk.Response).validate_python(body, strict=True)
    respond(slow, "hi", previous_response_id=begun["id"])
    assert read(slow)[0] == ("user", words)


def test_a_background_stream_is_resumed(slow: Live):
    request = {"model": "gpt-4o", "input": "a b c d e f", "background": True, "stream": True}
    with slow.http.stream("POST", "/v1/responses", json=request) as response:
        lines = response.iter_lines()
        seen = [next(lines) for _ in range(2)]  # the first event, and then the client is gone
    id = events_of("\n".join(seen) + "\n\n")[0]["response"]["id"]
    rest = events_of(slow.http.get(f"/v1/responses/{id}", params={"stream": "true", "starting_after": 0}).text)
    assert kinds(rest)[:2] == ["queued", "in_progress"]
    assert kinds(rest)[-1] == "completed"
    finished(slow, id)
    whole = events_of(slow.http.get(f"/v1/responses/{id}", params={"stream": "true"}).text)
    check_order(whole)
    assert whole[1:] == rest
    late = slow.http.get(f"/v1/responses/{id}", params={"stream": "true", "starting_after": 10_000})
    assert (late.status_code, late.text) == (200, "")


def test_a_background_response_is_cancelled(slow: Live):
    begun = respond(slow, "word " * 500, background=True)
    eventually(lambda: get(slow, f"responses/{begun['id']}")["status"] == "in_progress")
    cancelled = post(slow, f"responses/{begun['id']}/cancel")
    assert cancelled["status"] == "cancelled"
    assert slow.engine.num_active == 0
    assert get(slow, f"responses/{begun['id']}") == cancelled
    assert post(slow, f"responses/{begun['id']}/cancel") == cancelled
    assert cancelled["output"][0]["status"] == "incomplete"


def test_a_background_response_that_is_deleted_stops(slow: Live):
    begun = respond(slow, "word " * 500, background=True)
    assert slow.http.delete(f"/v1/responses/{begun['id']}").status_code == 200
    get(slow, f"responses/{begun['id']}", 404)
    eventually(lambda: slow.engine.num_active == 0)


def test_a_failure_in_the_background_is_told_by_the_response():
    with live() as server:
        server.engine.error = RuntimeError("secret")
        body = finished(server, respond(server, "hi", background=True)["id"])
        assert (body["status"], body["error"]["code"]) == ("failed", "server_error")
        too_long = finished(server, respond(server, "word " * 5000, background=True)["id"])
        assert too_long["status"] == "failed"
        assert "secret" not in body["error"]["message"]


def test_the_background_has_an_end_to_its_room():
    with live(FakeEngine(delay_ms=20), max_concurrent_requests=2) as server:
        for _ in range(2):
            respond(server, "word " * 200, background=True)
        response = server.respond("hi", background=True)
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"


def test_a_stopped_server_leaves_no_response_under_way(tmp_path):
    with live(FakeEngine(delay_ms=20), state=tmp_path) as server:
        begun = respond(server, "word " * 500, background=True)
        eventually(lambda: get(server, f"responses/{begun['id']}")["status"] == "in_progress")
    with live(state=tmp_path) as server:
        body = get(server, f"responses/{begun['id']}")
        assert (body["status"], body["error"]["message"]) == ("failed", "The server was stopped.")


@pytest.mark.parametrize(
    ("path", "query", "param"),
    [("", {"stream": "true"}, "stream"), ("", {"starting_after": 1}, "starting_after")],
)
def test_only_background_responses_are_streamed_later(server: Live, path: str, query: dict[str, Any], param: str):
    body = respond(server, "hi")
    assert get(server, f"responses/{body['id']}{path}", 400, **query)["error"]["param"] == param
    post(server, f"responses/{body['id']}/cancel", 400)


def test_the_background_needs_the_store(server: Live):
    assert refusal(server, "hi", background=True, store=False) == ("background", "invalid_value")


# --- conversations


def test_a_conversation_is_made_changed_and_deleted(server: Live):
    made = post(server, "conversations", metadata={"a": "b"}, items=[{"role": "user", "content": "hi"}])
    TypeAdapter(Conversation).validate_python(made, strict=True)
    path = f"conversations/{made['id']}"
    assert made["id"].startswith("conv_")
    assert (made["object"], made["metadata"]) == ("conversation", {"a": "b"})
    assert get(server, path) == made
    assert post(server, path, metadata={"c": "d"}) == {**made, "metadata": {"c": "d"}}
    assert post(server, path, metadata=None)["metadata"] == {}
    deleted = server.http.delete(f"/v1/{path}").json()
    assert deleted == {"id": made["id"], "object": "conversation.deleted", "deleted": True}
    get(server, path, 404)
    post(server, path, 404, metadata={})
    get(server, f"{path}/items", 404)


def test_items_of_a_conversation(server: Live):
    id = post(server, "conversations")["id"]
    path = f"conversations/{id}/items"
    said = [{"role": "user", "content": f"{number}"} for number in range(5)]
    added = post(server, path, items=said)
    assert [item["content"][0]["text"] for item in added["data"]] == ["0", "1", "2", "3", "4"]
    for item in added["data"]:
        TypeAdapter(ConversationItem).validate_python(item)
    page = get(server, path, limit=2)
    assert [item["content"][0]["text"] for item in page["data"]] == ["4", "3"]
    page = get(server, path, limit=2, after=page["last_id"])
    assert ([item["content"][0]["text"] for item in page["data"]], page["has_more"]) == (["2", "1"], True)
    first = added["data"][0]
    assert get(server, f"{path}/{first['id']}") == first
    assert server.http.delete(f"/v1/{path}/{first['id']}").json()["id"] == id
    get(server, f"{path}/{first['id']}", 404)
    assert server.http.delete(f"/v1/{path}/{first['id']}").status_code == 404
    assert get(server, path, 400, after=first["id"])["error"]["param"] == "after"


def test_responses_read_from_a_conversation_and_add_to_it(server: Live):
    id = post(server, "conversations", items=[{"role": "developer", "content": "Be brief."}])["id"]
    body = respond(server, "one", conversation=id)
    assert body["conversation"] == {"id": id}
    respond(server, "two", conversation={"id": id})
    assert read(server) == [
        ("system", "Be brief."),
        ("user", "one"),
        ("assistant", 'You said "one".'),
        ("user", "two"),
    ]
    items = get(server, f"conversations/{id}/items", order="asc")["data"]
    assert [item["role"] for item in items] == ["developer", "user", "assistant", "user", "assistant"]
    assert items[2] == body["output"][0]
    own = get(server, f"responses/{body['id']}/input_items")["data"]
    assert [item["content"][0]["text"] for item in own] == ["one"]


def test_a_conversation_takes_an_item_twice_from_responses_only(server: Live):
    said = [{"role": "user", "content": "one", "id": "msg_1"}]
    id = post(server, "conversations", items=said)["id"]
    assert post(server, f"conversations/{id}/items", 400, items=said)["error"]["param"] == "items"
    respond(server, said, conversation=id)
    items = get(server, f"conversations/{id}/items", order="asc")["data"]
    assert len({item["id"] for item in items}) == len(items) == 3


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"items": [{"role": "bogus", "content": "hi"}]}, "items[0].role"),
        ({"items": [{"role": "user", "content": "hi"}] * 21}, "items"),
        ({"items": [{"type": "item_reference", "id": "msg_1"}]}, "items[0].type"),
        ({"items": [{"role": "user", "content": "hi", "id": "a b"}]}, "items[0].id"),
        ({"metadata": {"a": "b" * 513}}, "metadata.a"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_conversations_are_refused_by_name(server: Live, fields: dict[str, Any], param: str):
    assert post(server, "conversations", 400, **fields)["error"]["param"] == param


def test_a_conversation_that_is_not_there(server: Live):
    assert refusal(server, "hi", conversation="conv_0", status=404) == ("conversation", None)
    both: Any = {"conversation": "conv_0", "previous_response_id": "resp_0"}
    assert refusal(server, "hi", **both) == ("previous_response_id", "mutually_exclusive_parameters")
