from __future__ import annotations

from pathlib import Path

import httpx2
import pytest

from sensorium.engine.fake import FakeEngine
from sensorium.server.app import ServerConfig, build_app
from tests.server.live import Live, live


async def test_healthz_says_when_the_engine_can_serve():
    app = build_app(FakeEngine(), ServerConfig())
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://localhost") as http:
        assert (await http.get("/healthz")).status_code == 503
        async with app.router.lifespan_context(app):
            assert (await http.get("/healthz")).json() == {"status": "ok"}
        assert (await http.get("/healthz")).status_code == 503


async def test_an_engine_that_cannot_answer_does_not_start():
    app = build_app(FakeEngine(error=RuntimeError("no weights")), ServerConfig())
    with pytest.raises(RuntimeError, match="no weights"):
        async with app.router.lifespan_context(app):
            pass


def test_metrics():
    with live() as server:
        spoken = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "pcm16"}, "stream": True}
        server.chat("hi", **spoken)
        server.chat("hi")
        server.http.get("/secret-path-of-a-client")
        text = server.http.get("/metrics").text
    assert 'sensorium_requests_total{method="POST",route="/v1/chat/completions",status="200"} 2.0' in text
    assert 'sensorium_ttft_ms_count{route="/v1/chat/completions"} 2.0' in text
    assert 'sensorium_ttfa_ms_count{route="/v1/chat/completions"} 1.0' in text
    assert 'sensorium_tokens_total{direction="output",modality="audio"} 6.0' in text
    assert "sensorium_requests_in_flight 1.0" in text
    assert "secret" not in text


def test_the_playground_is_served_under_a_strict_policy(tmp_path: Path):
    (tmp_path / "index.html").write_text("<h1>Play</h1>")
    (tmp_path / "app.js").write_text("")
    (tmp_path.parent / "outside.txt").write_text("outside")
    with live(playground=tmp_path) as server:
        page = server.http.get("/")
        assert page.text == "<h1>Play</h1>"
        policy = page.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "img-src 'self' data: blob:" in policy
        assert "media-src 'self' blob:" in policy
        assert "unsafe" not in policy
        assert page.headers["x-content-type-options"] == "nosniff"
        assert "javascript" in server.http.get("/app.js").headers["content-type"]
        for path in ("/../outside.txt", "/%2e%2e/outside.txt", "/nothing"):
            assert server.http.get(path).status_code == 404


def test_without_a_playground_the_api_still_serves(tmp_path: Path):
    with live(playground=tmp_path) as server:
        assert server.http.get("/").status_code == 404
        assert server.chat().status_code == 200


def test_no_page_of_the_framework_is_left(server: Live):
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert server.http.get(path).status_code == 404
