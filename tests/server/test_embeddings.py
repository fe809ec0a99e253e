"""POST /v1/embeddings on the wire, and what its vectors are worth."""

from __future__ import annotations

import base64
import time
from typing import Any

import numpy as np
import openai
import pytest
from openai.types import CreateEmbeddingResponse
from pydantic import TypeAdapter

from sensorium.engine.fake import EMBEDDING_SIZE, FakeEngine
from tests.server.live import Live, envelope, live


def embed(server: Live, input: Any = "hi", *, status: int = 200, **fields: Any) -> Any:
    request = {"model": "text-embedding-3-small", "input": input, **fields}
    response = server.http.post("/v1/embeddings", json=request)
    assert response.status_code == status, response.text
    if status != 200:
        return envelope(response)
    if fields.get("encoding_format") != "base64":
        TypeAdapter(CreateEmbeddingResponse).validate_json(response.content, strict=True)
    return response.json()


def vectors(body: Any) -> np.ndarray:
    return np.array([item["embedding"] for item in body["data"]])


def test_one_text(server: Live):
    body = embed(server, "one two")
    assert (body["object"], body["model"]) == ("list", "sensorium-fake")
    assert body["usage"] == {"prompt_tokens": 2, "total_tokens": 2}
    assert vectors(body).shape == (1, EMBEDDING_SIZE)
    assert np.linalg.norm(vectors(body)) == pytest.approx(1.0, abs=1e-6)


def test_many_texts_keep_their_order(server: Live):
    body = embed(server, ["one", "two", "one"])
    assert [item["index"] for item in body["data"]] == [0, 1, 2]
    first, second, third = vectors(body)
    assert np.array_equal(first, third)
    assert not np.allclose(first, second)


def test_base64_is_float32_little_endian(server: Live):
    plain, packed = embed(server, "hi"), embed(server, "hi", encoding_format="base64")
    unpacked = np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), "<f4")
    assert np.allclose(unpacked, vectors(plain)[0], atol=1e-7)


def test_fewer_dimensions_are_the_first_ones_at_length_one(server: Live):
    whole, cut = vectors(embed(server, "hi"))[0], vectors(embed(server, "hi", dimensions=5))[0]
    assert cut.shape == (5,)
    assert np.allclose(cut, whole[:5] / np.linalg.norm(whole[:5]), atol=1e-6)


def test_token_ids():
    engine = FakeEngine()
    with live(engine) as server:
        num_tokens = engine.info.num_text_tokens
        assert len(embed(server, [1, 2, 3])["data"]) == 1
        assert len(embed(server, [[1, 2], [3]])["data"]) == 2
        assert embed(server, [[1], [num_tokens]], status=400) == ("input[1]", "invalid_value")


@pytest.mark.parametrize(
    ("input", "param", "code"),
    [
        ("", "input", "invalid_value"),
        (["a", ""], "input[1]", "invalid_value"),
        ([], "input", "empty_array"),
        ([[1], []], "input[1]", "empty_array"),
        (["a", 1], "input[1]", "invalid_type"),
        (None, "input", "invalid_type"),
        (["a"] * 2049, "input", "array_above_max_length"),
        (["a", "word " * 5000], "input[1]", "context_length_exceeded"),
        ("word " * 5000, "input", "context_length_exceeded"),
    ],
)
def test_inputs_are_refused_by_name(server: Live, input: Any, param: str, code: str):
    assert embed(server, input, status=400) == (param, code)


@pytest.mark.parametrize(
    ("fields", "param", "status"),
    [
        ({"dimensions": 33}, "dimensions", 400),
        ({"dimensions": 0}, "dimensions", 400),
        ({"encoding_format": "int8"}, "encoding_format", 400),
        ({"surprise": 1}, "surprise", 400),
        ({"model": "nope"}, "model", 404),
    ],
)
def test_fields_are_refused_by_name(server: Live, fields: dict[str, Any], param: str, status: int):
    assert embed(server, status=status, **fields)[0] == param


def test_the_official_client_gets_floats(server: Live):
    """It asks for base64 and unpacks that itself."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="sk-x") as client:
        found = client.embeddings.create(model="text-embedding-3-small", input=["one", "two"])
        assert np.allclose([item.embedding for item in found.data], vectors(embed(server, ["one", "two"])), atol=1e-6)
        assert client.completions.create(model="gpt-3.5-turbo-instruct", prompt="hi").choices[0].text


def test_what_was_used_is_told():
    with live() as server:
        embed(server, ["one two", "three"])
        asked = {"start_time": int(time.time()) - 86_400}
        buckets = server.http.get("/v1/organization/usage/embeddings", params=asked).json()["data"]
        (used,) = [result for bucket in buckets for result in bucket["results"]]
        assert (used["input_tokens"], used["num_model_requests"]) == (3, 1)
