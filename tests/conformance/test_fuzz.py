"""Requests nearly right: whatever is wrong with them, the server says so in the envelope and stays up."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings

from tests.conformance.nearly_right import HELD, asked_for_responses, damaged, requests
from tests.server.live import Live, envelope


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(damaged(HELD))
def test_no_schema_breaks_the_server(server: Live, request: Any):
    headers = {"content-type": "application/json"}
    response = server.http.post("/v1/chat/completions", content=json.dumps(request), headers=headers)
    assert response.status_code in (200, 400, 404)
    if response.status_code != 200:
        envelope(response)


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(requests())
def test_no_request_breaks_the_server(server: Live, request: Any):
    headers = {"content-type": "application/json"}
    response = server.http.post("/v1/chat/completions", content=json.dumps(request), headers=headers)
    assert response.status_code in (200, 400, 404)
    if response.status_code != 200:
        envelope(response)


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(asked_for_responses())
def test_no_request_for_a_response_breaks_the_server(server: Live, request: Any):
    headers = {"content-type": "application/json"}
    response = server.http.post("/v1/responses", content=json.dumps(request), headers=headers)
    assert response.status_code in (200, 400, 404)
    if response.status_code != 200:
        envelope(response)
