from __future__ import annotations

import json

import pytest
import structlog

from sensorium.server.logs import configure_logging, describe


def test_lines_are_json_on_stderr_with_the_id_of_the_request(capsys: pytest.CaptureFixture[str]):
    before = structlog.get_config()
    structlog.reset_defaults()
    try:
        configure_logging()
        with structlog.contextvars.bound_contextvars(request_id="req_1"):
            structlog.get_logger().info("request", status=200)
        configured = structlog.get_config()["processors"]
        configure_logging()
        assert structlog.get_config()["processors"] is configured  # whoever came first decides
    finally:
        structlog.configure(**before)
    captured = capsys.readouterr()
    line = json.loads(captured.err)
    assert captured.out == ""
    assert {"event": "request", "status": 200, "level": "info", "request_id": "req_1"}.items() <= line.items()
    assert line["timestamp"]


def test_an_exception_is_described_without_its_message():
    try:
        raise ValueError("what somebody said")
    except ValueError as error:
        described = describe(error)
    assert described["exception"] == "ValueError"
    assert "test_logs.py" in str(described["where"])
    assert "somebody" not in str(described)
