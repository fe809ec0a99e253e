"""Chat completions that are kept."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types.chat import ChatCompletion
from pydantic import TypeAdapter

from tests.server.live import Live, envelope, live
from tests.server.samples import data_url, image_part, picture


def stored(server: Live, content: Any = "hi", **fields: Any) -> dict[str, Any]:
    response = server.chat(content, store=True, **fields)
    assert response.status_code == 200, response.text
    return response.json()


def get(server: Live, path: str = "", status: int = 200, **query: Any) -> dict[str, Any]:
    response = server.http.get(f"/v1/chat/completions{path}", params=query)
    assert response.status_code == status, response.text
    if status != 200:
        envelope(response)
    return response.json()


def test_a_completion_is_kept_relabelled_and_deleted(server: Live):
    made = stored(server, metadata={"a": "b"})
    path = f"/{made['id']}"
    assert get(server, path) == made
    relabelled = server.http.post(f"/v1/chat/completions{path}", json={"metadata": {"c": "d"}}).json()
    assert relabelled == {**made, "metadata": {"c": "d"}} == get(server, path)
    TypeAdapter(ChatCompletion).validate_python(relabelled, strict=True)
    deleted = server.http.delete(f"/v1/chat/completions{path}").json()
    assert deleted == {"object": "chat.completion.deleted", "id": made["id"], "deleted": True}
    get(server, path, 404)
    get(server, f"{path}/messages", 404)
    assert server.http.delete(f"/v1/chat/completions{path}").status_code == 404
    assert server.http.post(f"/v1/chat/completions{path}", json={"metadata": {}}).status_code == 404


def test_without_store_nothing_is_kept(server: Live):
    get(server, f"/{server.chat('hi').json()['id']}", 404)
    get(server, f"/{server.chat('hi', store=False).json()['id']}", 404)


def test_a_list_is_filtered_and_paged():
    with live() as server:
        made = [
            stored(server, f"{number}", metadata={"kind": "even" if number % 2 == 0 else "odd"}) for number in range(5)
        ]
        ids = [body["id"] for body in made]
        assert [body["id"] for body in get(server)["data"]] == ids
        assert [body["id"] for body in get(server, order="desc", limit=2)["data"]] == ids[:-3:-1]
        even = get(server, **{"metadata[kind]": "even", "limit": 2})
        assert [body["id"] for body in even["data"]] == ids[0:4:2]
        assert (even["has_more"], even["first_id"], even["last_id"]) == (True, ids[0], ids[2])
        rest = get(server, **{"metadata[kind]": "even", "after": ids[2]})
        assert ([body["id"] for body in rest["data"]], rest["has_more"]) == ([ids[4]], False)
        for model, count in (("gpt-4o", 5), ("sensorium-fake", 5), ("other", 0)):
            assert len(get(server, model=model)["data"]) == count
        assert get(server, after="nothing", status=400)["error"]["param"] == "after"
        assert get(server, surprise=1, status=400)["error"]["param"] == "surprise"


def test_the_messages_of_a_completion(server: Live):
    parts = [{"type": "text", "text": "look"}, image_part(data_url(picture()))]
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": parts}]
    made = stored(server, messages=said)
    page = get(server, f"/{made['id']}/messages")
    assert [(message["role"], message["content"]) for message in page["data"]] == [
        ("system", "Be brief."),
        ("user", None),
    ]
    assert page["data"][1]["content_parts"] == parts
    assert page["data"][0]["id"] == page["first_id"] == f"{made['id']}-0"
    page = get(server, f"/{made['id']}/messages", limit=1, order="desc")
    assert ([message["role"] for message in page["data"]], page["has_more"]) == (["user"], True)


@pytest.mark.parametrize(
    "fields",
    [{}, {"n": 2, "seed": 1}, {"modalities": ["text", "audio"], "audio": {"voice": "sage", "format": "pcm16"}}],
)
def test_a_streamed_completion_is_kept_too(server: Live, fields: dict[str, Any]):
    text = server.chat("hi", store=True, stream=True, metadata={"how": "streamed"}, **fields).text
    id = text.split('"id":"')[1].split('"')[0]
    kept = get(server, f"/{id}")
    whole = server.chat("hi", **fields).json()
    assert kept["metadata"] == {"how": "streamed"}
    assert kept["usage"] == whole["usage"]
    for choice, other in zip(kept["choices"], whole["choices"], strict=True):
        assert choice["message"]["content"] == other["message"]["content"]
        if "audio" in other["message"]:
            assert choice["message"]["audio"]["transcript"] == other["message"]["audio"]["transcript"]
