"""The scoreboard measures what it says, and the page in docs/ is the one that its figures make."""

from __future__ import annotations

import json
import re

import httpx2
import pytest

from sensorium.server.chat_request import ChatRequest
from sensorium.server.completions import CompletionRequest
from sensorium.server.config import GPT_4O_FAMILY
from sensorium.server.responses_request import ResponseRequest
from tests.conformance.nearly_right import BODIES, FORMS
from tests.conformance.scoreboard import clients, malformed, schema, sdk, spec, surface
from tests.conformance.scoreboard.page import page, summary
from tests.conformance.scoreboard.stand_in import StandIn
from tests.server.live import live
from tests.serving import ROOT

DOCUMENT = {
    "paths": {
        f"{path}": {
            "post": {
                "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Asked"}}}},
                "responses": {"200": {"content": {"application/json": {"schema": {"properties": {"a": {}}}}}}},
            },
            "get": {},
        }
        for path in (*spec.DETAILED, "/videos")
    },
    "components": {
        "schemas": {
            "Asked": {"allOf": [{"properties": {"model": {}}}, {"properties": {"input": {}}}]},
        }
    },
}


def test_the_page_is_that_of_its_figures():
    figures = json.loads((ROOT / "docs" / "conformance.json").read_text())
    assert (ROOT / "docs" / "conformance.md").read_text() == page(figures), "run `make conformance ARGS=--write`"


def test_the_published_board_has_no_failure_that_nobody_explained():
    figures = json.loads((ROOT / "docs" / "conformance.json").read_text())
    assert figures["malformed requests"]["requests"] >= 10_000
    assert figures["malformed requests"]["failures"] == []
    assert figures["schema"]["server errors"] == 0
    assert figures["schema"]["open"] == {}
    assert figures["schema"]["operations"] == figures["surface"]["operations"]["there"]
    assert all(row["passed"] == row["tests"] for row in figures["clients"]["clients"])
    assert all(row["passed"] for row in figures["probes"]["drivers"])
    known = {reason for _, reason in sdk.REASONS}
    found = {reason for area in figures["official tests"]["areas"].values() for reason in area["why"]}
    assert found <= known


def test_every_test_with_a_client_is_counted_once():
    files = [f"test_{file}" for file in clients._FILES]
    tests = [
        f"{file}::{name}"
        for file in files
        for name in re.findall(r"^(?:async )?def (test_\w+)", (clients.FOLDER / f"{file}.py").read_text(), re.M)
    ]
    whose = {test: [client.name for client in clients.known() if re.search(client.tests, test)] for test in tests}
    assert all(whose.values())
    assert {names[0] for names in whose.values()} == {client.name for client in clients.known()}


def test_malformed_requests_go_to_every_endpoint():
    posts = {f"/v1{operation.split()[1]}" for operation in surface.routes() if operation.startswith("post ")}
    assert posts == {**BODIES, **FORMS}.keys()


def test_malformed_requests_break_nothing():
    found = malformed.run(300)
    assert found["requests"] == sum(found["statuses"].values()) >= 300
    assert found["failures"] == []
    assert found["statuses"]["400"] > 100


def test_what_models_say_is_ignored():
    assert {"user", "prediction", "moderation"} <= surface.ignored(ChatRequest)
    assert {"model", "store", "metadata"}.isdisjoint(surface.ignored(ChatRequest))
    assert {"reasoning", "user"} <= surface.ignored(ResponseRequest)
    assert surface.ignored(CompletionRequest) == {"user"}


def test_the_surface_is_that_of_the_server():
    found = surface.run()
    assert found["operations"]["areas"]["chat"] == [6, 6]
    assert found["operations"]["areas"]["videos"][0] == 0
    for operation in found["properties"].values():
        assert operation["request"]["refused otherwise"] == []
    chat = found["properties"]["post /chat/completions"]
    assert "messages" in chat["request"]["obeyed"]
    assert "choices[].message.content" not in chat["response"]["missing"]


def test_names_of_a_description():
    names = spec.names_of(DOCUMENT)
    assert "get /videos" in names["operations"]
    assert names["properties"]["post /responses"] == {"request": ["input", "model"], "response": ["a"]}


def test_a_description_is_cut_to_what_there_is():
    document = json.loads(json.dumps(DOCUMENT))
    assert schema._cut(document) == 6  # five that are asked, one list of kept completions
    assert "/videos" not in document["paths"]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("openai.NotFoundError: Error code: 404 - Invalid URL (POST /v1/batches)", ("not built", None)),
        ("Error code: 400 - Unknown parameter: 'tools[0].allowed_callers'.", "tools[].allowed_callers"),
        ("embeddings: APIResponseValidationError", (sdk.REASONS[-1][1], None)),
        ("something else", ("something else", None)),
    ],
)
def test_reasons_of_failures(message: str, expected: object):
    found = sdk._reason(message)
    assert found == expected or found[1] == expected


def test_made_up_ids_stand_for_something():
    with live(around=StandIn, model_aliases=(*GPT_4O_FAMILY, *sdk.INVENTED_MODELS)) as server:

        def status(method: str, path: str) -> int:
            response: httpx2.Response = server.http.request(method, f"/v1{path}")
            return response.status_code

        assert status("GET", "/chat/completions/completion_id") == 200
        assert status("DELETE", "/responses/resp_123") == 200
        assert status("GET", "/conversations/conv_123/items/msg_abc") == 200
        assert status("GET", "/organization/projects/project_id/service_accounts/account_id") == 200
        assert status("GET", "/organization/projects/project_id/api_keys/key_id") == 200
        assert status("GET", "/models/gpt-6-astra") == 200
        assert status("GET", "/files/file_id") == 404


def test_a_summary_says_what_was_not_run():
    figures = json.loads((ROOT / "docs" / "conformance.json").read_text())
    figures["schema"] = {"skipped because": "no file"}
    figures["clients"] = figures["probes"] = {"skipped because": "no network"}
    figures["official tests"] = {"skipped because": "no index"}
    lines = dict(summary(figures))
    assert lines["Schemathesis"] == "not run: no file"
    assert lines["Clients, unmodified"] == "not run: no network"
    assert "not run: no index" in lines.values()
    assert page(figures)
