from __future__ import annotations

import socket

import pytest

from tests.server.live import Live, envelope, live

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def talk(url: str, sent: bytes) -> bytes:
    """What a server answers to raw bytes, until it closes or has said enough."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(sent)
        return connection.recv(65536)


def test_a_large_body_is_refused_before_it_is_read():
    with live(max_body_bytes=2000) as server:
        answer = talk(server.url, HEAD + b"Content-Length: 2001\r\n\r\n")  # not one byte of it was sent
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b'"code":"request_too_large"' in answer
        assert server.refusal("x" * 3000, status=413) == (None, "request_too_large")
        assert server.chat("next").status_code == 200


def test_a_body_of_unknown_length_is_counted_as_it_comes():
    with live(max_body_bytes=2000) as server:
        chunk = b"400\r\n" + b"x" * 1024 + b"\r\n"
        assert talk(server.url, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 3).startswith(b"HTTP/1.1 413 ")

        def chunks():
            yield from [b" " * 1024] * 3

        response = server.http.post(
            "/v1/chat/completions", content=chunks(), headers={"content-type": "application/json"}
        )
        assert (response.status_code, envelope(response)) == (413, (None, "request_too_large"))


def test_a_body_too_large_to_parse_in_passing_is_read_all_the_same():
    with live() as server:
        assert server.chat("word " * 2**18, max_tokens=3).status_code == 400  # longer than the context
        assert server.chat(" " * 2**19).status_code == 200


JSON_ROUTES = (
    *("chat/completions", "responses", "responses/input_tokens", "responses/compact", "completions", "embeddings"),
    *("images/generations", "images/edits", "audio/speech", "conversations", "realtime/client_secrets"),
    *("realtime/sessions", "realtime/transcription_sessions", "organization/projects", "organization/admin_api_keys"),
)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("[]", "an array"),
        ("3", "a number"),
        ("0.5", "a number"),
        ('"a"', "a string"),
        ("null", "null"),
        ("true", "true"),
    ],
)
def test_a_body_that_is_no_object_is_told_what_it_should_be(server: Live, body: str, kind: str):
    for route in JSON_ROUTES:
        told = server.http.post(f"/v1/{route}", content=body, headers={"content-type": "application/json"})
        assert (told.status_code, envelope(told)) == (400, (None, "invalid_type")), route
        message = told.json()["error"]["message"]
        assert "must be a JSON object" in message
        assert f"not {kind}" in message


def test_a_body_that_never_comes_is_not_waited_for():
    with live(body_timeout_s=0.1) as server:
        assert talk(server.url, HEAD + b"Content-Length: 10\r\n\r\n{").startswith(b"HTTP/1.1 408 ")
        assert server.chat("next").status_code == 200


def test_a_client_that_leaves_in_the_middle_of_its_body_does_no_harm():
    with live() as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(HEAD + b"Content-Length: 10\r\n\r\n{")
        assert server.chat("next").status_code == 200
        assert 'status="500"' not in server.http.get("/metrics").text
