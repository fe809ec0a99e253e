"""POST /v1/completions on the wire."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types import Completion
from pydantic import TypeAdapter

from tests.server.live import Live, envelope, live

ADAPTER = TypeAdapter(Completion)


def complete(server: Live, prompt: Any = "hi", *, status: int = 200, **fields: Any) -> Any:
    response = server.http.post("/v1/completions", json={"model": "gpt-4o", "prompt": prompt, **fields})
    assert response.status_code == status, response.text
    if status != 200:
        return envelope(response)
    if fields.get("stream"):
        lines = response.text.removesuffix("\n\n").split("\n\n")
        assert lines.pop() == "data: [DONE]"
        chunks = [json.loads(line.removeprefix("data: ")) for line in lines]
        for chunk in chunks:
            final = [choice for choice in chunk["choices"] if choice["finish_reason"]]
            if final:  # the type has no room for a choice that goes on, which every server sends
                ADAPTER.validate_python(chunk, strict=True)
        return chunks
    ADAPTER.validate_json(response.content, strict=True)
    return response.json()


def texts(body: Any) -> list[str]:
    return [choice["text"] for choice in body["choices"]]


def test_a_text_in_and_a_text_out(server: Live):
    body = complete(server, "hi")
    assert body["id"].startswith("cmpl-")
    assert (body["object"], body["model"]) == ("text_completion", "sensorium-fake")
    assert body["choices"] == [{"index": 0, "text": 'You said "hi".', "logprobs": None, "finish_reason": "stop"}]
    assert body["usage"] == {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}
    assert server.engine.requests[-1].params.max_tokens == 16
    assert complete(server, "word " * 30)["choices"][0]["finish_reason"] == "length"


def test_several_prompts_and_choices(server: Live):
    body = complete(server, ["a", "b c"], n=2, seed=3, temperature=0)
    assert texts(body) == ['You said "a".', 'You said "a".', 'You said "b c".', 'You said "b c".']
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2, 3]
    assert body["usage"]["prompt_tokens"] == 3  # each prompt once
    assert texts(complete(server, ["a", "b"], echo=True)) == ['aYou said "a".', 'bYou said "b".']


@pytest.mark.parametrize("echo", [False, True])
def test_a_stream_says_the_same(server: Live, echo: bool):
    chunks = complete(server, ["a", "b"], stream=True, echo=echo, stream_options={"include_usage": True})
    said = ["", ""]
    for chunk in chunks[:-1]:
        (choice,) = chunk["choices"]
        said[choice["index"]] += choice["text"]
        assert chunk["usage"] is None
    whole = complete(server, ["a", "b"], echo=echo)
    assert said == texts(whole)
    assert (chunks[-1]["choices"], chunks[-1]["usage"]) == ([], whole["usage"])
    assert "usage" not in complete(server, stream=True)[0]


def test_settings_reach_the_engine(server: Live):
    complete(server, "hi", stop=["x"], temperature=0.5, top_p=0.9, presence_penalty=1, frequency_penalty=-1, seed=7)
    params = server.engine.requests[-1].params
    assert (params.stop, params.temperature, params.top_p, params.seed) == (("x",), 0.5, 0.9, 7)
    assert (params.presence_penalty, params.frequency_penalty, params.tool_choice) == (1, -1, "none")


def test_a_drawing_is_in_the_text(server: Live):
    assert texts(complete(server, "draw a square"))[0].startswith("![drawing](data:image/png;base64,")


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"prompt": None}, "prompt", "invalid_type"),
        ({"prompt": []}, "prompt", "empty_array"),
        ({"prompt": [1, 2]}, "prompt[0]", "invalid_type"),
        ({"suffix": "x"}, "suffix", "unsupported_value"),
        ({"logprobs": 2}, "logprobs", "unsupported_value"),
        ({"best_of": 2}, "best_of", "unsupported_value"),
        ({"n": 9}, "n", "integer_above_max_value"),
        ({"prompt": ["a"] * 9}, "prompt", "integer_above_max_value"),
        ({"stop": ""}, "stop", "invalid_value"),
        ({"stream_options": {}}, "stream_options", "invalid_value"),
        ({"messages": []}, "messages", "unknown_parameter"),
        ({"prompt": ["a", "word " * 5000]}, "prompt[1]", "context_length_exceeded"),
        ({"prompt": "word " * 5000, "stream": True}, "prompt", "context_length_exceeded"),
    ],
)
def test_refusals_by_name(server: Live, fields: dict[str, Any], param: str, code: str):
    assert complete(server, **{"prompt": "hi", **fields}, status=400) == (param, code)


def test_a_failure_in_mid_stream_is_told():
    with live() as server:
        server.engine.error, server.engine.error_after = RuntimeError("secret"), 2
        text = server.http.post("/v1/completions", json={"model": "gpt-4o", "prompt": "hi", "stream": True}).text
        assert '"server_error"' in text.split("\n\n")[-2]
        assert "secret" not in text
