"""Requests nearly right: whatever is wrong with them, the server says so in the envelope and stays up."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conformance.nearly_right import (
    BETA_EVENTS,
    BODIES,
    BOUNDARY,
    CLIENT_EVENTS,
    FORMS,
    HELD,
    asked_for_responses,
    damaged,
    form_bodies,
    requests,
)
from tests.server.calls import Phone, phone
from tests.server.live import Live, envelope
from tests.server.test_realtime_beta import beta_phone


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


_EDITS = "/v1/images/edits"


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(BODIES["/v1/images/generations"], BODIES[_EDITS], form_bodies(FORMS[_EDITS]))
def test_no_request_for_a_picture_breaks_the_server(server: Live, drawing: Any, change: Any, form: bytes):
    as_json, as_form = "application/json", f"multipart/form-data; boundary={BOUNDARY}"
    for path, content, media_type in (
        ("/v1/images/generations", json.dumps(drawing), as_json),
        (_EDITS, json.dumps(change), as_json),
        (_EDITS, form, as_form),
    ):
        response = server.http.post(path, content=content, headers={"content-type": media_type})
        assert response.status_code in (200, 400, 404), response.text
        if response.status_code != 200:
            envelope(response)


_OF_NO_PARAMETER = ("invalid_event", "input_audio_buffer_commit_empty", "response_cancel_not_active")


def check_obeyed_or_refused(call: Phone, event: Any, **asked: Any) -> None:
    """It is obeyed, or refused by name; then the call answers as before. `asked` are options of that answer."""
    call.socket.send(json.dumps(event))
    asked |= {"conversation": "none", "tools": [], "tool_choice": "none", "metadata": {"asked": "last"}, "input": []}
    call.say("response.create", response=asked)
    told = [call.next()]
    while told[-1]["type"] != "response.done" or told[-1]["response"]["metadata"] != {"asked": "last"}:
        told.append(call.next())
    assert told[-1]["response"]["status"] == "completed"
    for error in (one["error"] for one in told if one["type"] == "error"):
        assert error["type"] == "invalid_request_error"
        assert error["message"]
        assert error["param"] is not None or error["code"] in _OF_NO_PARAMETER, error


_KNOWN = {"id": "known", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}


@pytest.mark.parametrize("said", CLIENT_EVENTS, ids=lambda event: event["type"])
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_event_breaks_a_call(server: Live, said: dict[str, Any], data: st.DataObject):
    event = data.draw(damaged(said))
    with phone(server) as call:
        call.ask("conversation.item.create", "conversation.item.added", item=_KNOWN)
        call.next()
        check_obeyed_or_refused(call, event, output_modalities=["text"], max_output_tokens="inf")


@pytest.mark.parametrize("said", BETA_EVENTS, ids=lambda event: event["type"])
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_event_breaks_a_call_in_beta(server: Live, said: dict[str, Any], data: st.DataObject):
    event = data.draw(damaged(said))
    with beta_phone(server) as call:
        check_obeyed_or_refused(call, event, modalities=["text"], max_response_output_tokens="inf")
