from __future__ import annotations

import base64
import json

import numpy as np

from sensorium.messages import Audio, Image, Message, Text, ToolCall
from tests.server.live import Live
from tests.server.samples import data_url, image_part, picture

SPOKEN = {"modalities": ["text", "audio"], "audio": {"voice": "sage", "format": "wav"}}


def read(server: Live, *messages: dict, **fields) -> tuple[Message, ...]:
    response = server.chat(messages=list(messages), **fields)
    assert response.status_code == 200, response.text
    return server.engine.requests[-1].messages


def test_roles_and_texts(server: Live):
    told = read(
        server,
        {"role": "developer", "content": "Be brief."},
        {"role": "system", "content": [{"type": "text", "text": "Be kind."}]},
        {"role": "user", "content": "hi", "name": "Ann"},
        {"role": "assistant", "content": "Hello."},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "assistant", "refusal": "Never."},
        {"role": "user", "content": ""},
    )
    assert [(message.role, message.text) for message in told] == [
        ("system", "Be brief."),
        ("system", "Be kind."),
        ("user", "Ann: hi"),
        ("assistant", "Hello."),
        ("assistant", "No."),
        ("assistant", "Never."),
        ("user", ""),
    ]


def test_parts_keep_their_order_and_detail(server: Live):
    parts = [
        image_part(data_url(picture()), detail="low"),
        {"type": "text", "text": "and"},
        image_part(data_url(picture())),
    ]
    (message,) = read(server, {"role": "user", "content": parts})
    assert [type(part) for part in message.parts] == [Image, Text, Image]
    assert [part.detail for part in message.parts if isinstance(part, Image)] == ["low", "auto"]


def test_tool_calls_and_their_results(server: Live):
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    told = read(
        server,
        {"role": "user", "content": "add"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "3", "tool_call_id": "call_1"},
    )
    assert told[1].parts == (ToolCall(id="call_1", name="add", arguments='{"a": 1}'),)
    assert (told[2].role, told[2].text, told[2].tool_call_id) == ("tool", "3", "call_1")


def test_a_call_and_its_result_in_the_deprecated_form(server: Live):
    told = read(
        server,
        {"role": "user", "content": "add"},
        {"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": '{"a": 1}'}},
        {"role": "function", "content": "3", "name": "add"},
    )
    assert told[1].parts == (ToolCall(id="", name="add", arguments='{"a": 1}'),)
    assert (told[2].role, told[2].text) == ("tool", "3")


def test_tools_are_told_first_as_json_lines(server: Live):
    tools = [
        {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}, "strict": False}},
        {"type": "function", "function": {"name": "order", "description": "Orders a ☕."}},
    ]
    messages = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}
    told = read(server, *messages, tools=tools)
    assert [message.role for message in told] == ["system", "system", "user"]
    assert told[0].text == (
        'tools:\n{"name":"add","parameters":{"type":"object"}}\n{"name":"order","description":"Orders a ☕."}'
    )
    assert len(read(server, *messages, tools=tools, tool_choice="none")) == 2


def test_an_answer_can_be_sent_back_whole(server: Live):
    """Clients append the message they got to the ones they send, with all its fields."""
    tools = [{"type": "function", "function": {"name": "add"}}]
    for question in ("hi", "draw a square", "call add {}"):
        answer = server.chat(question, tools=tools).json()["choices"][0]["message"]
        told = read(server, {"role": "user", "content": question}, answer, {"role": "user", "content": "again"})
        kind = {"hi": Text, "draw a square": Image, "call add {}": ToolCall}[question]
        assert [type(part) for part in told[1].parts] == [kind]


def test_a_spoken_answer_is_recalled_by_its_id(server: Live):
    answer = server.chat("hi", **SPOKEN).json()["choices"][0]["message"]
    for sent_back in (answer, {"role": "assistant", "audio": {"id": answer["audio"]["id"]}}):
        (recalled,) = read(server, sent_back, {"role": "user", "content": "again"})[0].parts
        assert isinstance(recalled, Audio)
        assert recalled.transcript == answer["audio"]["transcript"] == 'You said "hi".'
        assert recalled.voice == "sage"
        assert len(recalled.waveform) == 3 * 2560
        assert np.abs(recalled.waveform).max() > 0.2


def test_a_streamed_spoken_answer_is_recalled_too(server: Live):
    fields = {"modalities": ["text", "audio"], "audio": {"voice": "sage", "format": "pcm16"}, "stream": True}
    lines = server.chat("hi", **fields).text.split("\n\n")
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    pieces = [chunk["choices"][0]["delta"].get("audio", {}) for chunk in chunks]
    (id,) = [piece["id"] for piece in pieces if "id" in piece]
    sound = base64.b64decode("".join(piece.get("data", "") for piece in pieces))
    (recalled,) = read(server, {"role": "assistant", "audio": {"id": id}}, {"role": "user", "content": "again"})[
        0
    ].parts
    assert isinstance(recalled, Audio)
    assert len(sound) == 2 * len(recalled.waveform) * 3 // 2
