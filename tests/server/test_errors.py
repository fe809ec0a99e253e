from __future__ import annotations

import pytest

from sensorium.server.errors import APIError, path
from tests.server.live import Live, envelope


@pytest.mark.parametrize(
    ("location", "text"),
    [
        ((), None),
        (("n",), "n"),
        (
            ("messages", 0, "<user>", "content", "<parts>", 1, "<image_url>", "image_url"),
            "messages[0].content[1].image_url",
        ),
        (("stop", "<parts>", 1), "stop[1]"),
    ],
)
def test_paths_name_fields_not_union_members(location: tuple[str | int, ...], text: str | None):
    assert path(location) == text


@pytest.mark.parametrize("name", ["", "<n>", "colour"])
def test_whatever_an_unknown_parameter_is_called_it_is_named(server: Live, name: str):
    refused = server.chat("hi", **{name: 1}).json()["error"]
    assert (refused["param"], refused["code"]) == (name, "unknown_parameter")
    assert server.refusal([{"type": "text", "text": "hi", name: 1}])[0] == f"messages[0].content[0].{name}"


def test_the_envelope_always_has_its_four_keys():
    error = APIError("No.", status=418, headers={"retry-after": "1"})
    assert error.envelope() == {
        "error": {"message": "No.", "type": "invalid_request_error", "param": None, "code": None}
    }
    assert (error.response().status_code, error.response().headers["retry-after"]) == (418, "1")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("POST", "/v1/nothing", 404),
        ("POST", "/index.html", 405),
        ("PUT", "/v1/chat/completions", 405),
        ("POST", "/v1/models", 405),
        ("POST", "/v1/chat/completions/", 404),  # no redirect: clients would not send their key along
        ("GET", "/..%2f..%2fpyproject.toml", 404),
        ("GET", "/%00", 404),
        ("PROPFIND", "/v1/models", 405),
    ],
)
def test_the_frameworks_own_refusals_wear_the_envelope(server: Live, method: str, path: str, status: int):
    response = server.http.request(method, path)
    assert response.status_code == status
    assert envelope(response) == (None, None)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/chat/completions", "GET, POST"),
        ("PUT", "/v1/chat/completions/chatcmpl-1", "GET, POST, DELETE"),
        ("OPTIONS", "/v1/responses/resp_1", "GET, DELETE"),
        ("POST", "/v1/models", "GET"),
        ("POST", "/index.html", "GET"),
    ],
)
def test_a_refused_method_is_told_all_that_would_do(server: Live, method: str, path: str, allowed: str):
    assert server.http.request(method, path).headers["allow"] == allowed


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        (b"", None, "invalid_json"),
        (b"{", None, "invalid_json"),
        (b'{"model": NaN}', None, "invalid_json"),
        (b'{"model": "\xff"}', None, "invalid_json"),
        (b'{"model": "\\ud800"}', None, "invalid_json"),
        (b"[" * 100_000, None, "invalid_json"),
        (b"3", None, "invalid_type"),
        (b"null", None, "invalid_type"),
        (b"[]", None, "invalid_type"),
        (b'{"n": ' + b"9" * 5000 + b"}", None, "invalid_json"),
    ],
)
def test_bodies_that_are_no_request(server: Live, body: bytes, param: str | None, code: str):
    response = server.http.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert envelope(response) == (param, code)


def test_only_json_is_read(server: Live):
    for headers in ({"content-type": "text/plain"}, {}):
        response = server.http.post("/v1/chat/completions", content=b"{}", headers=headers)
        assert response.status_code == 415
        assert envelope(response) == (None, "unsupported_content_type")
