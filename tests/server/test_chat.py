from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import PIL.Image
import pytest
from structlog.testing import capture_logs

from sensorium.engine.fake import FakeEngine
from sensorium.engine.request import End, TokenLogprob, ToolCallDelta, ToolCallEvent, Usage
from sensorium.server.audio_out import encode_speech
from sensorium.server.chat_reply import logprobs_body
from tests.server.live import Live, eventually, live
from tests.server.samples import audio_part, data_url, image_part, picture, wav

PCM = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "pcm16"}}
TOOLS = [{"type": "function", "function": {"name": "add"}}]
USAGE = {"stream": True, "stream_options": {"include_usage": True}}


def chunks_of(text: str) -> list[dict[str, Any]]:
    """The chunks of a stream, and a check of its bytes: bare data lines, LF, one empty line between, a last word."""
    assert "\r" not in text
    *events, done, rest = text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    assert all(event.startswith("data: {") and "\n" not in event for event in events)
    return [json.loads(event.removeprefix("data: ")) for event in events]


def deltas_of(text: str) -> list[dict[str, Any]]:
    return [chunk["choices"][0]["delta"] for chunk in chunks_of(text) if chunk["choices"]]


def test_a_written_answer(server: Live):
    response = server.chat([{"type": "text", "text": "hi"}, audio_part(wav()), image_part(data_url(picture()))])
    body = response.json()
    assert body["id"].startswith("chatcmpl-")
    assert body["system_fingerprint"].startswith("fp_")
    assert {name: body[name] for name in ("object", "model", "service_tier")} == {
        "object": "chat.completion",
        "model": "sensorium-fake",
        "service_tier": "default",
    }
    text = 'You said "hi". I got a clip of 1000 ms and a picture of 8 x 6.'
    message = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
    assert body["choices"] == [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}]
    num_words = len(text.split())
    assert body["usage"] == {  # the clip is heard with quiet edges
        "prompt_tokens": 1 + 13 + 64,
        "completion_tokens": num_words,
        "total_tokens": 78 + num_words,
        "prompt_tokens_details": {
            "cached_tokens": 0,
            "cache_write_tokens": 0,
            "text_tokens": 1,
            "audio_tokens": 13,
            "image_tokens": 64,
            "gpt_4o_image_tokens": 255,
        },
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "text_tokens": num_words,
            "audio_tokens": 0,
            "image_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


@pytest.mark.parametrize(("asked", "used"), [("flex", "flex"), ("priority", "default"), ("auto", "default")])
@pytest.mark.parametrize("stream", [False, True])
def test_the_reply_says_which_tier_served_it(server: Live, asked: str, used: str, stream: bool):
    sent = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "service_tier": asked}
    response = server.http.post("/v1/chat/completions", json={**sent, "stream": stream})
    assert f'"service_tier":"{used}"' in response.text
    assert server.engine.requests[-1].params.flex == (used == "flex")
    body = server.http.post("/v1/responses", json={"model": "gpt-4o", "input": "hi", "service_tier": asked}).json()
    assert body["service_tier"] == used
    assert server.engine.requests[-1].params.flex == (used == "flex")


def test_headers_and_metadata(server: Live):
    response = server.chat(metadata={"run": "7"})
    assert response.json()["metadata"] == {"run": "7"}
    assert response.headers["content-type"] == "application/json"
    assert response.headers["openai-version"] == "2020-10-01"
    assert response.headers["openai-model"] == "sensorium-fake"
    assert int(response.headers["openai-processing-ms"]) >= 0


def test_a_streamed_answer(server: Live):
    response = server.chat(stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    chunks = chunks_of(response.text)
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "You"},
        {"content": " said"},
        {"content": ' "hi".'},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, None, "stop"]
    for name in ("id", "created", "model", "system_fingerprint", "object"):
        assert len({chunk[name] for chunk in chunks}) == 1
    assert chunks[0]["object"] == "chat.completion.chunk"
    assert not any("usage" in chunk or "obfuscation" in chunk for chunk in chunks)


def test_usage_comes_in_a_chunk_of_its_own_when_asked_for(server: Live):
    *chunks, last = chunks_of(server.chat(**USAGE).text)
    assert all(chunk["usage"] is None for chunk in chunks)
    assert last["choices"] == []
    assert (last["usage"]["prompt_tokens"], last["usage"]["completion_tokens"]) == (1, 3)


def test_obfuscation_hides_how_long_a_chunk_is(server: Live):
    text = server.chat(stream=True, stream_options={"include_obfuscation": True}).text
    assert {len(event) % 128 for event in text.split("\n\n")[:-2]} == {len("data: ")}
    assert all("obfuscation" in chunk for chunk in chunks_of(text))


def test_choices_share_their_prompt(server: Live):
    body = server.chat(n=2, temperature=1.0, seed=1).json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1]
    assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (1, 10)
    chunks = chunks_of(server.chat(n=2, temperature=1.0, seed=1, **USAGE).text)
    texts = ["", ""]
    for chunk in chunks:
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["delta"].get("content") or ""
    assert texts == [choice["message"]["content"] for choice in body["choices"]]
    assert chunks[-1]["usage"] == body["usage"]


def test_choices_are_made_at_once():
    """Their chunks come by turns, and each choice ends once."""
    with live(FakeEngine(delay_ms=2)) as server:
        chunks = chunks_of(server.chat(n=3, stream=True).text)
    order = [chunk["choices"][0]["index"] for chunk in chunks]
    assert sorted(set(order)) == [0, 1, 2]
    assert set(order[:4]) != {0}  # the first is not finished before the others begin
    ended = [chunk["choices"][0]["index"] for chunk in chunks if chunk["choices"][0]["finish_reason"]]
    assert sorted(ended) == [0, 1, 2]


@pytest.mark.parametrize("stream", [False, True])
def test_a_hangup_ends_all_choices(stream: bool):
    with live(FakeEngine(), request_timeout_s=0.2) as server:
        server.engine.delay_ms = 10_000
        assert server.refusal(status=503, n=3, stream=stream) == (None, None)
        eventually(lambda: server.engine.num_cancelled == 3)
        assert server.engine.num_active == 0


PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}


def test_a_document_is_the_content(server: Live):
    format = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}
    message = server.chat(response_format=format).json()["choices"][0]["message"]
    assert json.loads(message["content"]) == {"name": "", "age": 0}
    assert message["refusal"] is None
    assert server.chat(response_format={"type": "json_object"}).json()["choices"][0]["message"]["content"] == "{}"


def test_log_probabilities(server: Live):
    plain = server.chat(logprobs=True, top_logprobs=1).json()["choices"][0]["logprobs"]
    assert plain["refusal"] is None
    assert [token["token"] for token in plain["content"]] == ["You", " said", ' "hi".']
    first = plain["content"][0]
    bare = {"token": "You", "logprob": 0.0, "bytes": [89, 111, 117]}
    assert first == {**bare, "top_logprobs": [bare]}
    chunks = chunks_of(server.chat(logprobs=True, stream=True).text)
    streamed = [chunk["choices"][0] for chunk in chunks]
    for choice in streamed:
        assert bool(choice["logprobs"]) == bool(choice["delta"].get("content"))
    tokens = [token for choice in streamed if choice["logprobs"] for token in choice["logprobs"]["content"]]
    assert [(token["token"], token["top_logprobs"]) for token in tokens] == [("You", []), (" said", []), (' "hi".', [])]
    assert server.chat().json()["choices"][0]["logprobs"] is None


def test_a_token_that_is_part_of_a_character():
    torn = TokenLogprob("🙂".encode()[:2], -1.0)
    assert logprobs_body([torn])["content"] == [
        {"token": "bytes:\\xf0\\x9f", "logprob": -1.0, "bytes": [240, 159], "top_logprobs": []}
    ]


def test_a_call_in_the_deprecated_form(server: Live):
    functions = [{"name": "add"}]
    choice = server.chat('call add {"a": 1}', functions=functions).json()["choices"][0]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {"name": "add", "arguments": '{"a": 1}'}
    assert "tool_calls" not in choice["message"]
    chunks = chunks_of(server.chat('call add {"a": 1}', functions=functions, stream=True).text)
    assert [chunk["choices"][0]["delta"] for chunk in chunks[1:]] == [
        {"function_call": {"name": "add", "arguments": ""}},
        {"function_call": {"arguments": '{"a":'}},
        {"function_call": {"arguments": " 1}"}},
        {},
    ]
    assert chunks[-1]["choices"][0]["finish_reason"] == "function_call"
    assert server.chat(functions=functions).json()["choices"][0]["finish_reason"] == "stop"


def test_a_function_that_may_not_be_called_is_not(server: Live):
    tools = [*TOOLS, {"type": "function", "function": {"name": "sub"}}]
    named = {"type": "function", "function": {"name": "sub"}}
    choice = server.chat("hi", tools=tools, tool_choice=named).json()["choices"][0]
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "sub"
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [named]}}
    assert server.chat("call add {}", tools=tools, tool_choice=allowed).json()["choices"][0]["finish_reason"] == "stop"


def test_finish_reasons(server: Live):
    cut = server.chat("a b c", max_tokens=2).json()["choices"][0]
    assert (cut["message"]["content"], cut["finish_reason"]) == ("You said", "length")
    stopped = server.chat("a b c", stop=["b"]).json()["choices"][0]
    assert (stopped["message"]["content"], stopped["finish_reason"]) == ('You said "a ', "stop")


def test_a_spoken_answer(server: Live):
    choice = server.chat(**PCM).json()["choices"][0]
    message = choice["message"]
    assert (message["content"], choice["finish_reason"]) == (None, "stop")
    audio = message["audio"]
    assert set(audio) == {"id", "data", "expires_at", "transcript"}
    assert audio["transcript"] == 'You said "hi".'
    pcm = np.frombuffer(base64.b64decode(audio["data"]), "<i2")
    assert len(pcm) == 3 * 160 * 24
    usage = server.chat(**PCM).json()["usage"]["completion_tokens_details"]
    assert (usage["text_tokens"], usage["audio_tokens"]) == (3, 6)


def test_a_streamed_spoken_answer(server: Live):
    opening, *deltas, closing = deltas_of(server.chat(stream=True, **PCM).text)
    assert (opening, closing) == ({"role": "assistant", "content": None, "refusal": None}, {})
    assert deltas[0]["content"] is None
    audio = [delta["audio"] for delta in deltas]
    assert list(audio[0]) == ["id", "transcript"]
    assert audio[0]["id"].startswith("audio_")
    assert [list(piece) for piece in audio[1:]] == [
        ["transcript"],
        ["data"],
        ["transcript"],
        ["data"],
        ["data"],
        ["data"],  # what the resampler still held
        ["expires_at"],
    ]
    assert "".join(piece.get("transcript", "") for piece in audio) == 'You said "hi".'
    joined = base64.b64decode("".join(piece.get("data", "") for piece in audio), validate=True)
    whole = server.chat(**PCM).json()["choices"][0]["message"]["audio"]["data"]
    assert joined == base64.b64decode(whole)


def test_speech_cut_off_before_its_sound_still_has_its_words(server: Live):
    cut = server.chat(max_tokens=1, **PCM).json()["choices"][0]
    assert (cut["message"]["audio"]["transcript"], cut["finish_reason"]) == ("You", "length")
    assert encode_speech(np.zeros(0, np.float32), 16_000, "pcm16") == b""


def test_a_picture_comes_as_a_data_url(server: Live):
    message = server.chat("draw a square").json()["choices"][0]["message"]
    assert message["content"] == ""
    _, delta, _ = deltas_of(server.chat("draw a square", stream=True).text)
    spoken = server.chat("draw", **PCM).json()["choices"][0]["message"]
    for (image,) in (message["images"], delta["images"], spoken["images"]):
        assert (image["type"], image["index"]) == ("image_url", 0)
        png = base64.b64decode(image["image_url"]["url"].removeprefix("data:image/png;base64,"))
        assert np.asarray(PIL.Image.open(io.BytesIO(png)))[32, 32].tolist() == [255, 0, 0]


def test_a_tool_call(server: Live):
    choice = server.chat('call add {"a": 1}', tools=TOOLS).json()["choices"][0]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
    (call,) = choice["message"]["tool_calls"]
    assert call["id"].startswith("call_")
    assert (call["type"], call["function"]) == ("function", {"name": "add", "arguments": '{"a": 1}'})
    opened, first, second, third, _ = deltas_of(server.chat('call add {"a": 1}', tools=TOOLS, stream=True).text)
    assert opened == {"role": "assistant", "content": None, "refusal": None}
    (opening,) = first["tool_calls"]
    assert opening.pop("id").startswith("call_")
    assert opening == {"index": 0, "type": "function", "function": {"name": "add", "arguments": ""}}
    assert second == {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]}
    assert third == {"tool_calls": [{"index": 0, "function": {"arguments": " 1}"}}]}


class CutCalls(FakeEngine):
    """Calls a function, and then another for which the tokens are too few."""

    async def generate(self, messages, params):
        for name, arguments in (("add", '{"a": 1}'), ("add", '{"a": 2')):
            yield ToolCallDelta(name=name, arguments="")
            yield ToolCallDelta(name=name, arguments=arguments)
            if arguments.endswith("}"):
                yield ToolCallEvent(name=name, arguments=arguments)
        yield End(reason="length", usage=Usage(output_text=6))


def test_a_call_that_is_cut_is_told_as_far_as_it_came():
    """Streamed or whole, with the reason; what is stored has the ids that the stream had."""
    with live(CutCalls()) as server:
        choice = server.chat(tools=TOOLS).json()["choices"][0]
        chunks = chunks_of(server.chat(tools=TOOLS, stream=True, store=True).text)
        stored = server.http.get("/v1/chat/completions").json()["data"][0]["choices"][0]["message"]["tool_calls"]
    streamed: dict[int, list[str]] = {}
    for chunk in chunks:
        for call in chunk["choices"][0]["delta"].get("tool_calls", ()):
            streamed.setdefault(call["index"], []).append(call["function"]["arguments"])
    whole = [call["function"]["arguments"] for call in choice["message"]["tool_calls"]]
    assert whole == ["".join(pieces) for pieces in streamed.values()] == ['{"a": 1}', '{"a": 2']
    assert choice["finish_reason"] == chunks[-1]["choices"][0]["finish_reason"] == "length"
    openings = [delta["tool_calls"][0] for chunk in chunks if "tool_calls" in (delta := chunk["choices"][0]["delta"])]
    assert [call["id"] for call in stored] == [call["id"] for call in openings if "id" in call]


@pytest.mark.parametrize(
    "fields", [{}, {"tools": TOOLS}, {"tools": TOOLS, "tool_choice": "none"}, {"tools": TOOLS, **PCM}]
)
def test_a_call_of_what_was_not_offered_is_left_out(fields: dict[str, Any]):
    """Strict clients look a called function up among those that they offered."""
    called = "add" if fields.get("tool_choice") == "none" or not fields else "secret"
    with capture_logs() as logged, live() as server:
        choice = server.chat(f"call {called} {{}}", **fields).json()["choices"][0]
        assert choice["finish_reason"] == "stop"
        assert choice["message"] == {"role": "assistant", "content": "", "refusal": None, "annotations": []}
        chunks = chunks_of(server.chat(f"call {called} {{}}", stream=True, **fields).text)
        assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, "stop"]
        assert not any("tool_calls" in chunk["choices"][0]["delta"] for chunk in chunks)
        assert "sensorium_unoffered_tool_calls_total 2.0" in server.http.get("/metrics").text
    warnings = [line for line in logged if line["log_level"] == "warning"]
    assert len(warnings) == 2
    assert "secret" not in str(warnings)


class Calls(FakeEngine):
    """Calls three functions in one answer."""

    async def generate(self, messages, params):
        for name in ("secret", "add", "add"):
            yield ToolCallDelta(name=name, arguments="{}")
            yield ToolCallEvent(name=name, arguments="{}")
        yield End(reason="tool_calls", usage=Usage(output_text=6))


@pytest.mark.parametrize(("fields", "num_calls"), [({}, 2), ({"parallel_tool_calls": False}, 1)])
def test_the_calls_beside_one_that_was_not_offered_stay(fields: dict[str, Any], num_calls: int):
    with live(Calls()) as server:
        choice = server.chat(tools=TOOLS, **fields).json()["choices"][0]
    names = [call["function"]["name"] for call in choice["message"]["tool_calls"]]
    assert (names, choice["finish_reason"]) == (["add"] * num_calls, "tool_calls")


@pytest.mark.parametrize("stream", [False, True])
def test_an_engine_that_fails_tells_nothing_of_itself(stream: bool):
    broken = FakeEngine(error=RuntimeError("secret path /etc/x"), error_after=99)
    with capture_logs() as logged, live(broken) as server:
        server.engine.error_after = 0
        assert server.refusal(status=500, stream=stream) == (None, None)
        assert "secret" not in server.chat(stream=stream).text
        server.engine.error = None
        assert server.chat(stream=stream).status_code == 200
    assert [line["exception"] for line in logged if line["event"] == "request failed"] == ["RuntimeError"] * 2
    assert "secret" not in str(logged)


def test_an_error_in_mid_stream_is_told_in_the_stream():
    with live(FakeEngine(error=RuntimeError("secret"), error_after=99)) as server:
        server.engine.error_after = 2
        response = server.chat(stream=True)
        *events, error, rest = response.text.split("\n\n")
        assert (response.status_code, len(events), rest) == (200, 3, "")
        assert json.loads(error.removeprefix("data: "))["error"]["type"] == "server_error"
        assert "secret" not in response.text


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_has_its_time(stream: bool):
    with live(FakeEngine(delay_ms=0), request_timeout_s=0.2) as server:
        server.engine.delay_ms = 10_000
        assert server.refusal(status=503, stream=stream) == (None, None)
        eventually(lambda: server.engine.num_active == 0)
        server.engine.delay_ms = 0
        assert server.chat(stream=stream).status_code == 200


def test_content_stays_out_of_the_log():
    with capture_logs() as logged, live() as server:
        server.chat("my secret wish", user="secret person", metadata={"secret": "secret"})
        server.chat("my secret wish", stream=True)
        server.http.get("/secret/path?secret=1")
    assert "secret" not in str(logged)
    asked = [line for line in logged if line["route"] == "/v1/chat/completions"]
    assert [(line["status"], line["input_tokens"], line["output_tokens"]) for line in asked] == [(200, 3, 5)] * 2
    assert all(line["ttft_ms"] >= 0 and line["request_id"].startswith("req_") for line in asked)
