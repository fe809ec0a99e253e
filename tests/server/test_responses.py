"""POST /v1/responses on the wire: the response, its stream, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import openai.types.responses as sdk
import pytest
from pydantic import TypeAdapter

from sensorium.engine.fake import FakeEngine
from sensorium.messages import Audio, Image, Message, Text, ToolCall
from tests.server.live import Live, envelope, eventually, live
from tests.server.samples import b64, data_url, picture, wav

ADD = {"type": "function", "name": "add", "parameters": {"type": "object", "properties": {}}}
DRAW = {"type": "image_generation"}
EVENT = TypeAdapter(sdk.ResponseStreamEvent)

REQUIRED = {
    "id", "object", "created_at", "error", "incomplete_details", "instructions", "model", "tools", "output",
    "parallel_tool_calls", "metadata", "tool_choice", "temperature", "top_p", "status", "text", "truncation", "usage",
    "store", "previous_response_id", "reasoning", "service_tier", "max_output_tokens", "top_logprobs", "background",
}  # fmt: skip


def respond(server: Live, input: Any = "hi", **fields: Any) -> dict[str, Any]:
    response = server.respond(input, **fields)
    assert response.status_code == 200, response.text
    TypeAdapter(sdk.Response).validate_json(response.content, strict=True)
    return response.json()


def read(server: Live, input: Any, **fields: Any) -> tuple[Message, ...]:
    """What the engine was given to read."""
    respond(server, input, **fields)
    return server.engine.requests[-1].messages


def refusal(server: Live, input: Any = "hi", *, status: int = 400, **fields: Any) -> tuple[str | None, str | None]:
    response = server.respond(input, **fields)
    assert response.status_code == status, response.text
    return envelope(response)


def stream(server: Live, input: Any = "hi", **fields: Any) -> list[dict[str, Any]]:
    """The events of a streamed response, each checked against the client's type, all against the order's rules."""
    response = server.respond(input, stream=True, **fields)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    events = events_of(response.text)
    check_order(events)
    return events


def events_of(text: str) -> list[dict[str, Any]]:
    events = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
        EVENT.validate_python(events[-1], strict=True)
    return events


def check_order(events: list[dict[str, Any]]) -> None:
    """Contract, section 6: one counter, one identity for each item, every item done before the response is."""
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[0]["type"] == "response.created"
    assert len({event["response"]["id"] for event in events if "response" in event}) == 1
    items: dict[int, dict[str, Any]] = {}
    done: dict[int, dict[str, Any]] = {}
    for event in events[:-1]:
        kind = event["type"]
        index: Any = event.get("output_index")
        if kind == "response.output_item.added":
            assert index == len(items) == len(done)  # one after the other, each done before the next
            items[index] = event["item"]
            assert event["item"]["status"] == "in_progress"
            assert not event["item"].get("content")
        elif kind == "response.output_item.done":
            done[index] = event["item"]
            assert (event["item"]["id"], event["item"]["type"]) == (items[index]["id"], items[index]["type"])
        elif index is not None:
            assert index not in done
            assert event["item_id"] == items[index]["id"]
    assert [done[index] for index in range(len(items))] == events[-1]["response"]["output"]


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


# --- the response


def test_a_response_has_every_field(server: Live):
    body = respond(server, "hi", metadata={"a": "b"}, user="u", safety_identifier="s")
    assert body.keys() >= REQUIRED
    assert body["id"].startswith("resp_")
    assert (body["object"], body["status"], body["error"], body["incomplete_details"]) == (
        "response",
        "completed",
        None,
        None,
    )
    (item,) = body["output"]
    assert item["id"].startswith("msg_")
    assert (item["type"], item["role"], item["status"]) == ("message", "assistant", "completed")
    text = {"type": "output_text", "text": 'You said "hi".', "annotations": [], "logprobs": []}
    assert item["content"] == [text]
    assert body["usage"] == {
        "input_tokens": 1,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 4,
    }
    assert (body["metadata"], body["user"], body["safety_identifier"]) == ({"a": "b"}, "u", "s")
    assert (body["temperature"], body["top_p"], body["tool_choice"], body["tools"]) == (0.0, 1.0, "auto", [])


def test_settings_reach_the_engine_and_come_back(server: Live):
    body = respond(server, "hi", temperature=0.5, top_p=0.9, max_output_tokens=20, parallel_tool_calls=False)
    params = server.engine.requests[-1].params
    assert (params.temperature, params.top_p, params.max_tokens, params.modality) == (0.5, 0.9, 20, "text")
    assert [body[name] for name in ("temperature", "top_p", "max_output_tokens", "parallel_tool_calls")] == [
        0.5,
        0.9,
        20,
        False,
    ]
    assert respond(server, "hi", top_p=0.9)["temperature"] == 1.0  # what takes chance gets it


def test_an_answer_cut_by_its_limit_is_incomplete(server: Live):
    body = respond(server, "word " * 30, max_output_tokens=16)
    assert (body["status"], body["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert body["output"][0]["status"] == "incomplete"
    events = stream(server, "word " * 30, max_output_tokens=16)
    assert kinds(events)[-1] == "incomplete"


# --- the stream


def test_the_order_of_a_streamed_text(server: Live):
    events = stream(server, "hi")
    assert kinds(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    deltas = [event for event in events if event["type"] == "response.output_text.delta"]
    assert "".join(event["delta"] for event in deltas) == events[7]["text"] == 'You said "hi".'
    assert all(event["logprobs"] == [] for event in [*deltas, events[7]])
    assert events[0]["response"]["output"] == []
    assert events[0]["response"]["usage"] is None
    assert events[-1]["response"]["usage"]["total_tokens"] == 4


def test_a_stream_ends_with_the_response_that_would_have_come_at_once(server: Live):
    whole, last = respond(server, "hi"), stream(server, "hi")[-1]["response"]
    for body in (whole, last):
        for name in ("id", "created_at", "completed_at"):
            body.pop(name)
        body["output"][0].pop("id")
    assert whole == last


def test_a_streamed_call(server: Live):
    events = stream(server, 'call add {"a": 1}', tools=[ADD])
    assert kinds(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    added, done = events[2]["item"], events[6]["item"]
    assert [event["delta"] for event in events[3:5]] == ['{"a":', " 1}"]
    assert (added["arguments"], done["arguments"], done["name"]) == ("", '{"a": 1}', "add")
    assert added["call_id"] == done["call_id"]
    assert done["call_id"].startswith("call_")
    assert done["id"].startswith("fc_")
    assert (events[5]["name"], events[5]["arguments"]) == ("add", '{"a": 1}')
    assert done["status"] == "completed"


def test_obfuscation_only_where_asked_for(server: Live):
    for asked_for in (True, False):
        events = stream(server, "hi", stream_options={"include_obfuscation": asked_for})
        deltas = [event for event in events if event["type"].endswith("delta")]
        assert all(("obfuscation" in event) == asked_for for event in deltas)
        if asked_for:
            assert len({len(event["delta"]) + len(event["obfuscation"]) for event in deltas}) == 1


def test_a_failure_in_mid_stream_ends_the_response():
    with live() as server:
        server.engine.error, server.engine.error_after = RuntimeError("secret"), 2
        events = events_of(server.respond("hi there", stream=True).text)
        assert kinds(events)[-3:] == ["content_part.done", "output_item.done", "failed"]
        response = events[-1]["response"]
        assert response["status"] == "failed"
        assert response["error"]["code"] == "server_error"
        assert "secret" not in json.dumps(events)
        assert response["output"][0]["status"] == "incomplete"
        assert server.respond("hi there").status_code == 500


def test_a_failure_before_the_stream_is_an_error():
    with live() as server:
        server.engine.error = RuntimeError("secret")
        assert server.respond("hi", stream=True).status_code == 500


def test_hanging_up_stops_the_engine():
    with live(FakeEngine(delay_ms=20)) as server:
        request = {"model": "gpt-4o", "input": "word " * 500, "stream": True}
        with server.http.stream("POST", "/v1/responses", json=request) as response:
            next(response.iter_lines())
        eventually(lambda: server.engine.num_cancelled == 1)


# --- what is read


def test_items_become_messages(server: Live):
    told = read(
        server,
        [
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": "add"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Gladly."}]},
            {"type": "function_call", "call_id": "call_1", "name": "add", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_1", "output": "3"},
            {"role": "assistant", "content": "Three."},
            {"role": "user", "content": [{"type": "input_text", "text": "thanks"}]},
        ],
        instructions="Be brief.",
    )
    assert [(message.role, message.text) for message in told] == [
        ("system", "Be brief."),
        ("system", "Be kind."),
        ("user", "add"),
        ("assistant", "Gladly."),  # with the call behind it
        ("tool", "3"),
        ("assistant", "Three."),
        ("user", "thanks"),
    ]
    assert told[3].parts[1] == ToolCall(id="call_1", name="add", arguments="{}")
    assert told[4].tool_call_id == "call_1"


def test_media_of_a_message(server: Live):
    image = {"type": "input_image", "image_url": data_url(picture()), "detail": "low"}
    clip = {"type": "input_audio", "input_audio": {"data": b64(wav()), "format": "wav"}}
    (message,) = read(server, [{"role": "user", "content": [{"type": "input_text", "text": "look"}, image, clip]}])
    assert [type(part) for part in message.parts] == [Text, Image, Audio]


@pytest.mark.parametrize("question", ["hi", "draw a square", "call add {}"])
def test_an_answer_can_be_sent_back_whole(server: Live, question: str):
    output = respond(server, question, tools=[ADD])["output"]
    told = read(server, [{"role": "user", "content": question}, *output, {"role": "user", "content": "again"}])
    assert [message.role for message in told] == ["user", "assistant", "user"]
    assert [type(part) for part in told[1].parts] == [
        {"hi": Text, "draw a square": Image, "call add {}": ToolCall}[question]
    ]


def test_functions_are_told_first(server: Live):
    told = read(server, "hi", tools=[ADD, DRAW], instructions="Be brief.")
    assert told[0].text == 'tools:\n{"name":"add","parameters":{"type":"object","properties":{}}}'
    assert told[1].text == "Be brief."


@pytest.mark.parametrize(
    ("choice", "policy", "callable"),
    [
        ("auto", "auto", ["add", "sub"]),
        ("required", "required", ["add", "sub"]),
        ("none", "none", []),
        ({"type": "function", "name": "sub"}, "required", ["sub"]),
        ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "add"}]}, "auto", ["add"]),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "sub"}]},
            "required",
            ["sub"],
        ),
    ],
)
def test_tool_choice(server: Live, choice: Any, policy: str, callable: list[str]):
    tools = [ADD, {**ADD, "name": "sub"}]
    body = respond(server, "hi", tools=tools, tool_choice=choice)
    request = server.engine.requests[-1]
    assert request.params.tool_choice == policy
    assert [function.name for function in request.params.functions] == callable
    told = [message.text for message in request.messages if message.role == "system"]
    assert len(told) == (choice != "none")  # of all of them, so that the prompt stays the same
    assert body["tool_choice"] == choice
    assert [tool["name"] for tool in body["tools"]] == ["add", "sub"]
    if policy == "required":
        assert body["output"][0]["name"] == callable[0]


def test_one_call_where_several_are_not_wanted(server: Live):
    respond(server, "hi", tools=[ADD], parallel_tool_calls=False)
    assert server.engine.requests[-1].params.max_calls == 1


def test_answers_keep_to_a_schema(server: Live):
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    format = {"type": "json_schema", "name": "sum", "schema": schema, "strict": True}
    body = respond(server, "hi", text={"format": format})
    assert body["text"]["format"] == format
    document = server.engine.requests[-1].params.document
    assert document is not None
    assert json.loads(document) == schema
    respond(server, "hi", text={"format": {"type": "json_object"}})
    assert server.engine.requests[-1].params.document == '{"type":"object"}'
    arguments = respond(server, "hi", tools=[{**ADD, "strict": True, "parameters": schema}])["tools"][0]
    assert (arguments["strict"], arguments["parameters"]) == (True, schema)


def test_log_probabilities(server: Live):
    asked_for: Any = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    body = respond(server, "hi", **asked_for)
    part = body["output"][0]["content"][0]
    assert part["logprobs"]
    assert all(token["top_logprobs"] for token in part["logprobs"])
    assert server.engine.requests[-1].params.top_logprobs == 2
    assert "".join(token["token"] for token in part["logprobs"]) == part["text"]
    events = stream(server, "hi", **asked_for)
    deltas = [event for event in events if event["type"] == "response.output_text.delta"]
    (done,) = [event for event in events if event["type"] == "response.output_text.done"]
    assert [token for event in deltas for token in event["logprobs"]] == done["logprobs"] == part["logprobs"]


def test_only_what_is_offered_is_called(server: Live):
    choice = {"type": "function", "name": "add"}
    tools = [ADD, {**ADD, "name": "sub"}]
    (item,) = respond(server, "call sub {}", tools=tools, tool_choice=choice)["output"]
    assert (item["type"], item["content"][0]["text"]) == ("message", "")


# --- too long


def test_a_long_conversation_is_refused_or_forgotten():
    with live(FakeEngine(max_tokens=40)) as server:
        said = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "one " * 15},
            {"role": "assistant", "content": "two " * 10},
            {"role": "user", "content": "three " * 12},
            {"role": "assistant", "content": "four"},
            {"role": "user", "content": "five"},
        ]
        assert refusal(server, said) == ("input", "context_length_exceeded")
        assert refusal(server, said, stream=True) == ("input", "context_length_exceeded")
        told = read(server, said, truncation="auto")
        assert [message.text.split()[0] for message in told] == ["Be", "three", "four", "five"]
        assert refusal(server, "word " * 41, truncation="auto") == ("input", "context_length_exceeded")


def test_messages_in_a_row_are_forgotten_one_by_one():
    with live(FakeEngine(max_tokens=40)) as server:
        said = [{"role": "user", "content": f"{word} " * 15} for word in ("one", "two", "three", "four")]
        told = read(server, said, truncation="auto")
        assert [message.text.split()[0] for message in told] == ["three", "four"]


def test_pictures_that_functions_give_are_seen_behind_what_they_say(server: Live):
    image = {"type": "input_image", "image_url": data_url(picture())}
    outputs = [[{"type": "input_text", "text": "a picture"}, image], "done"]
    said = [
        {"role": "user", "content": "look"},
        *({"type": "function_call", "call_id": id, "name": "look", "arguments": "{}"} for id in "ab"),
        *(
            {"type": "function_call_output", "call_id": id, "output": output}
            for id, output in zip("ab", outputs, strict=True)
        ),
    ]
    told = read(server, said)
    assert [message.role for message in told] == ["user", "assistant", "tool", "tool", "user"]
    assert told[2].text == "a picture"
    assert [type(part) for part in told[-1].parts] == [Image]
    told = read(server, [*said, {"role": "user", "content": "and now?"}])
    assert [message.role for message in told][-2:] == ["user", "user"]
    broken = [{"type": "input_text", "text": "x"}, {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}]
    assert refusal(server, [*said[:-1], {**said[-1], "output": broken}])[0] == "input[4].output[1].image_url"


def test_pictures_that_do_not_fit_are_forgotten():
    with live(FakeEngine(max_tokens=200)) as server:
        image = {"type": "input_image", "image_url": data_url(picture())}
        turn = [{"role": "user", "content": [image, image]}, {"role": "assistant", "content": "nice"}]
        said = [{"role": "developer", "content": "Be kind."}, *turn, *turn, {"role": "user", "content": "hi"}]
        assert refusal(server, said) == ("input", "context_length_exceeded")
        told = read(server, said, truncation="auto")
        assert [message.role for message in told] == ["system", "user", "assistant", "user"]
