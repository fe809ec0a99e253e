"""Files left with the server: through the official client, bounded, each project's own, and read by the network."""

from __future__ import annotations

import base64
import io
import re
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx2
import openai
import pytest
from typer.testing import CliRunner

from sensorium.cli import app
from sensorium.engine.fake import FakeEngine
from sensorium.platform.state import State
from sensorium.platform.store import StoredObject
from sensorium.server.config import ServerConfig
from sensorium.server.files import Files
from tests.server.live import Live, envelope, live

PNG = Path("docs/media/scene.png")
WAV = Path("docs/media/question.wav")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[openai.OpenAI]:
    with live(state=tmp_path) as server:
        url = f"{server.url}/v1"
        with openai.OpenAI(base_url=url, api_key="x", max_retries=0, _strict_response_validation=True) as client:
            yield client


def upload(server: Live, data: bytes = b"x", *, name: str = "a.txt", **fields: str) -> httpx2.Response:
    fields = {"purpose": "user_data"} | fields
    return server.http.post("/v1/files", data=fields, files={"file": (name, data)})


def test_the_official_client_leaves_lists_reads_and_deletes(client: openai.OpenAI):
    purposes: list[tuple[str, Literal["user_data", "vision"]]] = [
        ("a", "user_data"),
        ("b", "vision"),
        ("c", "user_data"),
    ]
    kept = [
        client.files.create(file=(f"{name}.txt", name.encode() * 1000), purpose=purpose) for name, purpose in purposes
    ]
    assert [file.bytes for file in kept] == [1000] * 3
    assert [file.filename for file in client.files.list()] == ["c.txt", "b.txt", "a.txt"]
    assert [file.filename for file in client.files.list(purpose="user_data", order="asc")] == ["a.txt", "c.txt"]
    assert [file.id for file in client.files.list(limit=1)] == [file.id for file in reversed(kept)], "page by page"
    assert client.files.retrieve(kept[0].id) == kept[0]
    assert client.files.content(kept[0].id).read() == b"a" * 1000
    assert client.files.delete(kept[0].id).deleted
    for call in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError):
            call(kept[0].id)


def test_a_file_may_have_an_end(client: openai.OpenAI):
    file = client.files.create(
        file=("a.txt", b"x"), purpose="user_data", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert file.expires_at == file.created_at + 3600
    with pytest.raises(openai.BadRequestError) as error:
        client.files.create(
            file=("a.txt", b"x"), purpose="user_data", expires_after={"anchor": "created_at", "seconds": 5}
        )
    assert error.value.param == "expires_after.seconds"


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        (("note.txt", b"the lamp is red"), "note.txt:\nthe lamp is red"),
        (("scene.png", PNG.read_bytes()), "picture"),
        (("question.wav", WAV.read_bytes()), "clip"),
    ],
    ids=["text", "picture", "clip"],
)
@pytest.mark.parametrize("way", ["kept", "sent"])
@pytest.mark.parametrize("endpoint", ["chat", "responses"])
def test_a_file_is_read_by_what_it_holds(server: Live, given: tuple[str, bytes], seen: str, way: str, endpoint: str):
    name, data = given
    if way == "kept":
        file: dict[str, Any] = {"file_id": upload(server, data, name=name).json()["id"]}
    else:
        file = {"file_data": f"data:text/plain;base64,{base64.b64encode(data).decode()}", "filename": name}
    if endpoint == "chat":
        assert server.chat([{"type": "file", "file": file}]).status_code == 200
    else:
        content = [{"type": "input_file", **file}]
        assert server.respond([{"role": "user", "content": content}]).status_code == 200
    [part] = server.engine.requests[-1].messages[-1].parts
    kind = type(part).__name__
    assert {"Image": "picture", "Audio": "clip"}.get(kind) == seen or getattr(part, "text", "").strip() == seen


def test_a_kept_picture_is_seen(server: Live):
    id = upload(server, PNG.read_bytes(), name="a.png", purpose="vision").json()["id"]
    content = [{"type": "input_image", "file_id": id}, {"type": "input_text", "text": "what is it"}]
    assert server.respond([{"role": "user", "content": content}]).status_code == 200
    response = server.respond([{"role": "user", "content": [{"type": "input_image", "file_id": "file-none"}]}])
    assert response.status_code == 404
    assert response.json()["error"]["param"] == "input[0].content[0].file_id"


@pytest.mark.parametrize(
    ("file", "param", "status"),
    [
        ({}, "messages[0].content[0].file", 400),
        ({"file_id": "file-none"}, "messages[0].content[0].file.file_id", 404),
        ({"file_id": "file-none", "file_data": "eA=="}, "messages[0].content[0].file", 400),
        ({"file_data": "!"}, "messages[0].content[0].file.file_data", 400),
        ({"file_data": base64.b64encode(b"%PDF-1.7").decode()}, "messages[0].content[0].file", 400),
        ({"file_data": base64.b64encode(b"\x00\xff\xfe").decode()}, "messages[0].content[0].file", 400),
        ({"file_data": base64.b64encode(b"\x89PNG\r\n").decode()}, "messages[0].content[0].file", 400),
        ({"file_data": base64.b64encode(b"a" * 300_000).decode()}, "messages", 400),
    ],
    ids=["nothing", "unknown", "both", "no base64", "pdf", "no text", "damaged picture", "too long"],
)
def test_what_cannot_be_read_is_refused(server: Live, file: dict[str, str], param: str, status: int):
    assert server.refusal([{"type": "file", "file": file}], status=status)[0] == param


def test_forms_are_refused_by_the_field_at_fault(server: Live):
    def fault(response: httpx2.Response, status: int = 400) -> str | None:
        assert response.status_code == status, response.text
        return envelope(response)[0]

    post = server.http.post
    assert fault(post("/v1/files", data={"purpose": "vision"}, files={"other": b"x"})) == "file"
    assert fault(post("/v1/files", files={"file": b"x"})) == "purpose"
    assert fault(upload(server, purpose="none")) == "purpose"
    assert fault(upload(server, colour="red")) == "colour"
    assert fault(post("/v1/files", json={}), 415) is None
    form = {"content-type": "multipart/form-data; boundary=x"}
    assert fault(post("/v1/files", content=b"--x\r\nnonsense", headers=form)) in (None, "file")
    assert fault(post("/v1/files", content=b"", headers={"content-type": "multipart/form-data"})) is None


def test_another_sites_page_cannot_leave_a_file(server: Live):
    files = {"file": ("a.txt", io.BytesIO(b"x"))}
    for origin, status in (("https://evil.example", 403), ("http://localhost:3000", 200)):
        response = server.http.post("/v1/files", data={"purpose": "user_data"}, files=files, headers={"origin": origin})
        assert response.status_code == status


def test_files_are_bounded_each_and_together():
    with live(FakeEngine(), max_file_bytes=2**20, max_project_bytes=3000) as server:
        response = upload(server, b"x" * (2**21 + 2**20))
        assert response.status_code == 413
        assert upload(server, b"x" * 2000).status_code == 200
        response = upload(server, b"x" * 2000)
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "storage_limit_exceeded"


def test_a_large_file_is_never_in_memory_whole(tmp_path: Path):
    size = 24 * 2**20
    source = tmp_path / "large"
    source.write_bytes(bytes(range(256)) * (size // 256))
    with live(state=tmp_path / "state") as server, source.open("rb") as file:
        tracemalloc.start()
        response = server.http.post("/v1/files", data={"purpose": "user_data"}, files={"file": ("a.bin", file)})
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert response.json()["bytes"] == size
        assert peak < size / 2
        content = server.http.get(f"/v1/files/{response.json()['id']}/content").content
        assert content == source.read_bytes()


def test_a_project_sees_its_own_files_alone(tmp_path: Path):
    keys = []
    for project in ("one", "other"):
        made = CliRunner().invoke(app, ["keys", "create", "k", "--project", project, "--state", str(tmp_path)])
        keys += re.findall(r"sk-[\w-]{20,}", made.output)[:1]
    with live(state=tmp_path) as server:
        mine, theirs = ({"authorization": f"Bearer {key}"} for key in keys)
        form = {"data": {"purpose": "user_data"}, "files": {"file": ("a.txt", b"x")}}
        id = server.http.post("/v1/files", **form, headers=mine).json()["id"]
        for headers, status in ((mine, 200), (theirs, 404)):
            for path in (f"/v1/files/{id}", f"/v1/files/{id}/content"):
                assert server.http.get(path, headers=headers).status_code == status
            asked = {
                "model": "gpt-4o",
                "messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": id}}]}],
            }
            assert server.http.post("/v1/chat/completions", json=asked, headers=headers).status_code == status
        assert server.http.get("/v1/files", headers=theirs).json()["data"] == []
        assert server.http.delete(f"/v1/files/{id}", headers=theirs).status_code == 404
        assert server.http.delete(f"/v1/files/{id}", headers=mine).status_code == 200


async def test_the_bytes_of_what_expires_or_makes_room_go_too(tmp_path: Path):
    """With a database in memory, and one in a folder, which never makes room."""
    for folder in (None, tmp_path):
        state = State.open(folder)
        Files(ServerConfig(), state.store, state.objects)
        for id, expires_at in (("file-old", 1), ("file-new", None)):
            await state.objects.put(f"files/{id}", b"1234")
            kept = StoredObject(kind="file", id=id, project="p", created_at=1, body={}, expires_at=expires_at)
            state.store._next_sweep_s = 0.0
            await state.store.put(kept)
        assert await state.objects.keys("files") == ["files/file-new"]
        if folder is None:
            state.store._max_memory_bytes = 1
            await state.store.put(StoredObject(kind="response", id="r", project="p", created_at=2, body={}))
            assert await state.objects.keys("files") == []
        await state.aclose()
