"""Other people's clients: each talks, streams, calls a tool, gets an object of a form, and embeds where it can.

Each runs unmodified in a process and an environment of its own (environments.py), by a driver of `clients/`.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.environments import Unreachable, environment
from tests.conformance.test_node import NODE, installed_drivers

CLIENTS = Path(__file__).parent / "clients"
SIZE = 32  # of the fake engine's vectors
CALL = ["add", {"a": 2, "b": 3}]


def environment_of(name: str) -> Path:
    try:
        return environment(name)
    except Unreachable as error:
        pytest.skip(str(error))


def printed(*command: str | Path, **env: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | env, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def drive(name: str, url: str) -> dict[str, Any]:
    driver = CLIENTS / f"with_{name}.py"
    return json.loads(printed(environment_of(name), driver, f"{url}/v1").splitlines()[-1])


@pytest.mark.slow
def test_langchain(fake_server: str):
    seen = drive("langchain", fake_server)
    assert seen["vectors"] == [SIZE, SIZE]
    for way in (seen["chat"], seen["responses"]):
        assert way["said"].startswith('You said "hi".')
        assert way["streamed"].startswith('You said "hi".')
        assert way["pieces"] > 2
        assert way["usage"] > 0
        assert way["streamed usage"] > 0
        assert way["calls"] == [CALL]
        assert way["after the tool"].startswith('You said "5".')
        assert set(way["document"]) == {"drink", "count"}
        assert "I got a picture of 1 x 1." in way["seen"]
        assert len(way["batch"]) == 2


@pytest.mark.slow
def test_litellm(fake_server: str):
    seen = drive("litellm", fake_server)
    for said in (seen["said"], seen["streamed"], seen["response"]):
        assert said.startswith('You said "hi".')
    assert seen["usage"] > 0
    assert seen["pieces"] > 2
    assert seen["calls"] == [CALL]
    assert seen["after the tool"].startswith('You said "5".')
    assert set(seen["document"]) == {"drink", "count"}
    assert seen["vectors"] == [SIZE, SIZE]
    assert seen["first and last event"] == ["response.created", "response.completed"]


@pytest.mark.slow
def test_instructor(fake_server: str):
    seen = drive("instructor", fake_server)
    assert set(seen) == {"tool_call", "tools_strict", "json_schema_mode", "responses_tools"}
    for way in seen.values():
        assert "error" not in way, way
        assert way["order"]["drink"] in ("tea", "coffee")
        assert way["last part"] == way["order"]


@pytest.mark.slow
def test_llm_of_the_command_line(fake_server: str, tmp_path: Path):
    settings = {"model_id": "sensorium", "model_name": "gpt-4o", "api_base": f"{fake_server}/v1"}
    able = {"supports_tools": True, "supports_schema": True, "vision": True}
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps([settings | able]))
    command = environment_of("llm").with_name("llm")

    def ask(*words: str | Path) -> str:
        env = {"LLM_USER_PATH": str(tmp_path), "OPENAI_API_KEY": "sk-x", "LLM_LOAD_PLUGINS": ""}
        return printed(command, "prompt", "-m", "sensorium", *words, **env)

    assert ask("hi").startswith('You said "hi".')
    assert ask("hi", "--no-stream").startswith('You said "hi".')
    assert ask("and then?", "--continue").startswith('You said "and then?".')
    assert set(json.loads(ask("an order", "--schema", "drink, count int"))) == {"drink", "count"}
    added = ask('call add {"a": 2, "b": 3}', "--functions", "def add(a: int, b: int) -> int:\n    return a + b\n")
    assert 'You said "5".' in added


def test_openai_node_on_responses(fake_server: str, request: pytest.FixtureRequest):
    seen = json.loads(printed(NODE, installed_drivers(request) / "responses.mjs", f"{fake_server}/v1"))
    for said in (seen["said"], seen["kept"], seen["streamed"], seen["chat"]):
        assert said.startswith('You said "hi".')
    assert seen["first and last event"] == ["response.created", "response.completed"]
    assert seen["calls"] == [CALL]
    assert seen["after the tool"].startswith('You said "5".')
    assert set(seen["document"]) == {"drink", "count"}
    assert seen["vectors"] == [SIZE, SIZE]
