from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from sensorium.engine.fake import FakeEngine
from sensorium.server.app import ServerConfig
from tests.server.live import Live, envelope, eventually, live


def test_keys_are_needed_where_there_are_any():
    with live(api_keys=("sk-one", "sk-two"), host="0.0.0.0") as server:
        for authorization, code in (
            (None, None),
            ("Basic c2s=", None),
            ("Bearer", None),
            ("Bearer sk-three", "invalid_api_key"),
            ("Bearer sk-on", "invalid_api_key"),
            ("Bearer sk-\xfc", "invalid_api_key"),
        ):
            headers = [(b"authorization", authorization.encode("latin-1"))] if authorization else []
            for path in ("/v1/models", "/v1/nothing", "/metrics"):
                response = server.http.get(path, headers=headers)
                assert response.status_code == 401
                assert envelope(response) == (None, code)
        for key in ("sk-one", "sk-two"):
            headers = {"authorization": f"Bearer {key}", "host": "example.com"}
            assert server.http.get("/v1/models", headers=headers).status_code == 200
        assert server.http.get("/healthz").status_code == 200


def test_without_keys_any_key_will_do(server: Live):
    assert server.http.get("/v1/models", headers={"authorization": "Bearer anything"}).status_code == 200


def test_without_keys_the_server_stays_on_this_machine(server: Live):
    with pytest.raises(ValueError, match="open to the network"):
        ServerConfig(host="0.0.0.0")
    for host in ("evil.example", "127.0.0.1.evil.example:8000", "192.168.1.5:8000", "[", ""):
        response = server.http.get("/v1/models", headers={"host": host})
        assert response.status_code in (400, 403)  # uvicorn itself refuses some
    for host in ("localhost", "localhost:8000", "app.localhost", "127.0.0.1:1", "[::1]:8000"):
        assert server.http.get("/v1/models", headers={"host": host}).status_code == 200


def test_pages_of_this_machine_may_call_and_others_may_not(server: Live):
    for origin, allowed in (
        ("http://localhost:3000", True),
        ("http://127.0.0.1:5173", True),
        ("https://evil.example", False),
        ("http://localhost.evil.example", False),
        ("null", False),
    ):
        answer = server.http.get("/v1/models", headers={"origin": origin})
        assert answer.headers.get("access-control-allow-origin") == (origin if allowed else None)
        preflight = server.http.options(
            "/v1/chat/completions",
            headers={
                "origin": origin,
                "access-control-request-method": "POST",
                "access-control-request-headers": "authorization, content-type, x-stainless-os, openai-beta",
            },
        )
        assert preflight.status_code == (200 if allowed else 400)
        if allowed:
            assert "x-stainless-os" in preflight.headers["access-control-allow-headers"]
            assert "X-Request-ID" in answer.headers["access-control-expose-headers"]
    error = server.http.get("/v1/nothing", headers={"origin": "http://localhost:3000"})
    assert error.headers["access-control-allow-origin"] == "http://localhost:3000"


def test_a_named_origin_may_call():
    with live(cors_origins=("https://app.example",)) as server:
        answer = server.http.get("/v1/models", headers={"origin": "https://app.example"})
        assert answer.headers["access-control-allow-origin"] == "https://app.example"


def test_too_many_at_once_are_sent_away_and_the_others_served():
    with live(FakeEngine(), max_concurrent_requests=2) as server, ThreadPoolExecutor() as pool:
        server.engine.delay_ms = 100
        waiting = [pool.submit(server.chat, "hi") for _ in range(2)]
        eventually(lambda: server.engine.num_active == 2)
        response = server.chat("hi")
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert envelope(response) == (None, None)
        assert server.http.get("/healthz").status_code == 200
        assert [future.result().status_code for future in waiting] == [200, 200]
        server.engine.delay_ms = 0
        assert server.chat("hi").status_code == 200


def test_requests_have_ids_of_their_own(server: Live):
    ids = {server.http.get("/healthz").headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3
