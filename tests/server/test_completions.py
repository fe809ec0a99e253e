"""POST /v1/completions on the wire."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from openai.types import Completion
from pydantic import TypeAdapter

from sensorium.engine.fake import FakeEngine
from sensorium.engine.request import End, Event, ImageDelta, TextDelta, TokenLogprob, Usage
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


def test_prompts_may_be_tokens(server: Live):
    tokens = list(b"hi")
    assert texts(complete(server, tokens)) == ['You said "hi".']
    assert texts(complete(server, [tokens, "a", [98]], echo=True)) == [
        'hiYou said "hi".',
        'aYou said "a".',
        'bYou said "b".',
    ]


def test_prompts_are_answered_side_by_side():
    with live(FakeEngine(delay_ms=20)) as slow:
        chunks = complete(slow, ["a b c d", "e f g h"], stream=True)
    order = [chunk["choices"][0]["index"] for chunk in chunks]
    assert order.index(1) < len(order) - 1 - order[::-1].index(0), "the second begins before the first is over"


def test_log_probabilities_in_the_old_form(server: Live):
    client = server.official()
    (choice,) = client.completions.create(model="gpt-4o", prompt="hi", logprobs=2).choices
    scored = choice.logprobs
    assert scored is not None
    assert scored.tokens == ["You", " said", ' "hi".']
    assert scored.text_offset == [0, 3, 8]
    assert scored.token_logprobs == [0.0, 0.0, 0.0]
    assert scored.top_logprobs == [{token: 0.0} for token in scored.tokens or ()]
    pieces = list(client.completions.create(model="gpt-4o", prompt="hi", logprobs=0, stream=True))
    told = [piece.choices[0].logprobs for piece in pieces]
    assert [token for one in told if one for token in one.tokens or []] == scored.tokens
    assert [start for one in told if one for start in one.text_offset or []] == scored.text_offset


def test_log_probabilities_are_where_their_text_is():
    class Scored(FakeEngine):
        def _answer(self, messages: Any, params: Any) -> Iterator[Event]:
            halves = [TokenLogprob("ä".encode()[:1], -1.0), TokenLogprob("ä".encode()[1:], -2.0)]
            yield TextDelta(text="ä", logprobs=tuple(halves))
            yield ImageDelta(pixels=np.zeros((8, 8, 3), np.uint8), final=True)
            likely = TokenLogprob(b"c", -0.5)
            yield TextDelta(text="b", logprobs=(TokenLogprob(b"b", -3.0, (likely,)),))
            yield End(reason="stop", usage=Usage())

    with live(Scored()) as server:
        (choice,) = complete(server, "hi", logprobs=1)["choices"]
    scored = choice["logprobs"]
    assert scored["tokens"] == ["bytes:\\xc3", "bytes:\\xa4", "b"]
    assert scored["text_offset"] == [0, 0, len(choice["text"]) - 1]
    assert scored["top_logprobs"][2] == {"c": -0.5, "b": -3.0}


def test_the_likeliest_of_several_is_shown():
    class Ranked(FakeEngine):
        def _answer(self, messages: Any, params: Any) -> Iterator[Event]:
            word = messages[-1].text + str(params.seed)
            likelihood = {0: -3.0, 1: -0.5, 2: -2.0, 3: -1.0}.get(params.seed, 0.0)
            yield TextDelta(text=word, logprobs=(TokenLogprob(word.encode(), likelihood),))
            yield End(reason="stop", usage=Usage(input_text=1, output_text=1))

    with live(Ranked()) as server:
        body = complete(server, ["a", "b"], best_of=4, n=2, seed=0)
        assert texts(body) == ["a1", "a3", "b1", "b3"]
        assert server.engine.requests[-1].params.top_logprobs == 0
        assert [choice["index"] for choice in body["choices"]] == [0, 1, 2, 3]
        assert body["choices"][0]["logprobs"] is None
        assert body["usage"]["completion_tokens"] == 8, "all that were made"


@pytest.mark.parametrize("stream", [False, True])
def test_an_echo_alone(server: Live, stream: bool):
    asked = {"prompt": ["a b", "c"], "echo": True, "max_tokens": 0, "stream": stream}
    before = len(server.engine.requests)
    body = complete(server, **asked)
    chunks = body if stream else [body]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert sorted("".join(c["text"] for c in choices if c["index"] == index) for index in (0, 1)) == ["a b", "c"]
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["length", "length"]
    assert len(server.engine.requests) == before, "the network is not asked"
    if not stream:
        assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3}


@pytest.mark.parametrize("stream", [False, True])
def test_an_echo_with_how_likely_it_is(server: Live, stream: bool):
    said: Any = server.official().completions.create(
        model="gpt-4o", prompt=["a b", "c"], stream=stream, echo=True, logprobs=1, max_tokens=2
    )
    choices = [choice for chunk in (said if stream else [said]) for choice in chunk.choices]
    told = [choice.logprobs for choice in choices if choice.index == 0 and choice.logprobs]
    assert [token for one in told for token in one.tokens or []] == ["a", " b", "You", " said"]
    assert [each for one in told for each in one.token_logprobs or []] == [None, -2.0, 0.0, 0.0]
    tops = [top for one in told for top in one.top_logprobs or []]
    assert tops == [None, {" the": -0.5, " b": -2.0}, {"You": 0.0}, {" said": 0.0}]
    assert [start for one in told for start in one.text_offset or []] == [0, 1, 3, 6]
    assert "".join(choice.text for choice in choices if choice.index == 1) == "cYou said"


def test_a_prompt_is_scored_alone(server: Live):
    before = len(server.engine.requests)
    client = server.official()
    body = client.completions.create(model="gpt-4o", prompt=list(b"hi"), echo=True, logprobs=0, max_tokens=0)
    scored = body.choices[0].logprobs
    assert scored is not None
    assert (scored.tokens, scored.token_logprobs) == (["h", "i"], [None, -2.0])
    assert scored.top_logprobs == [None, {"i": -2.0}]
    assert (body.choices[0].text, body.choices[0].finish_reason) == ("hi", "length")
    assert len(server.engine.requests) == before, "nothing is written"


def test_a_prompt_is_not_what_the_best_is_chosen_by(server: Live):
    (choice,) = complete_loosely(server, "a b", echo=True, logprobs=0, best_of=2, max_tokens=1)["choices"]
    assert choice["logprobs"]["tokens"] == ["a", " b", "You"]


def complete_loosely(server: Live, prompt: str, **fields: Any) -> Any:
    """The official type has no room for the `null` of a first token, which every server sends."""
    return server.http.post("/v1/completions", json={"model": "gpt-4o", "prompt": prompt, **fields}).json()


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
        ({"prompt": [1, "a"]}, "prompt[1]", "invalid_type"),
        ({"prompt": [1, 256]}, "prompt", "invalid_value"),
        ({"prompt": ["a", [256]]}, "prompt[1]", "invalid_value"),
        ({"prompt": ["a", []]}, "prompt[1]", "empty_array"),
        ({"suffix": "x"}, "suffix", "unsupported_value"),
        ({"logprobs": 6}, "logprobs", "integer_above_max_value"),
        ({"best_of": 2, "n": 3}, "best_of", "invalid_value"),
        ({"best_of": 2, "stream": True}, "best_of", "invalid_value"),
        ({"best_of": 9}, "best_of", "integer_above_max_value"),
        ({"prompt": ["a", "word " * 5000], "stream": True}, "prompt[1]", "context_length_exceeded"),
        ({"prompt": "word " * 5000, "max_tokens": 0}, "prompt", "context_length_exceeded"),
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
