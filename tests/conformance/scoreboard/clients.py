"""Clients that know nothing of this server: each by the conversations that it holds in our tests, and by drivers that
were written elsewhere (see --probes)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from sensorium.server.tls import self_signed
from tests.conformance.environments import environment, install, version
from tests.conformance.test_node import NODE
from tests.server.live import Live, live
from tests.serving import ROOT

FOLDER = Path(__file__).parent.parent
OLDER = ("1.109.1", "2.54.0")  # of the official client: majors that applications still pin
_WITH_THEM = ("httpx==0.28.1", "httpcore==1.0.9", "distro==1.9.0")


class Client(NamedTuple):
    name: str
    version: str
    tests: str  # a pattern of `file::test`


def known() -> tuple[Client, ...]:
    """In the order of the page; a test belongs to the first that it fits."""
    node = json.loads((FOLDER / "node" / "package.json").read_text())["dependencies"]
    ours = {name: metadata.version(name) for name in ("openai", "openai-agents")}
    theirs = {name: version(*packages) for name, packages in _PACKAGES.items()}
    return (
        Client("openai-agents (Python)", ours["openai-agents"], r"test_agents::|test_responses\w*::test_an_agent"),
        Client("openai (Node)", node["openai"], r"::test_openai_node"),
        Client("@openai/agents (Node)", node["@openai/agents"], r"test_node::test_agents_js"),
        *(Client(name, theirs[name], rf"test_thirdparty::test_{name}") for name in _PACKAGES),
        Client("openai (Python)", ours["openai"], r"test_(?:chat|responses|realtime|images|structured|seeing)"),
    )


_PACKAGES = {
    "langchain": ("langchain", "langchain-openai"),
    "litellm": ("litellm", "litellm"),
    "instructor": ("instructor", "instructor"),
    "llm": ("llm", "llm"),
}
_FILES = ("agents", "node", "thirdparty", "chat_completions", "responses", "responses_released", "realtime")
_FILES += ("images", "structured", "seeing")


def run(folder: Path) -> list[dict[str, Any]]:
    """How each client fared. `folder` takes the reports and the older clients. Raises Unreachable."""
    cases = _cases(_pytest(folder / "clients.xml", *_FILES))
    rows = []
    for client in known():
        own = [case for case in cases if re.search(client.tests, case)]
        rows.append(_row(client.name, client.version, {name: cases.pop(name) for name in own}))
    assert not cases, f"tests of no client: {sorted(cases)}"
    for older in OLDER:
        laid_over = folder / f"openai-{older}"
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--retries", "1"]
        install(*pip, "install", "-q", "--no-deps", "--target", laid_over, f"openai=={older}", *_WITH_THEM)
        report = _pytest(folder / f"{older}.xml", "chat_completions", "realtime", PYTHONPATH=str(laid_over))
        rows.append(_row("openai (Python)", older, _cases(report)))
    return rows


def _pytest(report: Path, *files: str, **env: str) -> Path:
    tests = [f"tests/conformance/test_{file}.py" for file in files]
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", f"--junitxml={report}", *tests]
    subprocess.run(command, cwd=ROOT, env=os.environ | env, stdout=subprocess.DEVNULL, check=False)
    return report


def _cases(report: Path) -> dict[str, str]:
    """What became of each test: "passed", or why it was not."""
    found = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        file = case.get("classname", "").rpartition(".")[2]
        bad = next((each for kind in ("failure", "error", "skipped") if (each := case.find(kind)) is not None), None)
        what = "passed" if bad is None else f"{bad.tag}: {bad.get('message', '')[:160]}"
        found[f"{file}::{case.get('name')}"] = what
    return found


def _row(name: str, release: str, cases: dict[str, str]) -> dict[str, Any]:
    done = sorted({_in_words(case) for case, what in cases.items() if what == "passed"})
    return {
        "client": name,
        "version": release,
        "passed": sum(what == "passed" for what in cases.values()),
        "tests": len(cases),
        "what": done,
        "not passed": {case: what for case, what in cases.items() if what != "passed"},
    }


def _in_words(case: str) -> str:
    return case.partition("::test_")[2].partition("[")[0].replace("_", " ")


# --- drivers from elsewhere


class Probe(NamedTuple):
    file: str
    environment: str | None  # of `clients/`; None: that which runs this
    is_call: bool = False  # is told where a call is opened, not where the API is


PROBES = (
    Probe("drive_python.py", None),
    Probe("drive_responses.py", None),
    Probe("drive_agents.py", None, is_call=True),
    Probe("drive_thirdparty.py", "langchain"),
    Probe("drive_thirdparty.py", "litellm"),
    Probe("drive_node.mjs", None),
    Probe("drive_agents.mjs", None, is_call=True),
)
_FAULT = re.compile(r"Traceback|\berror:|\bERR\b|rt error|timeout")


def probe(probes: Path, folder: Path) -> list[dict[str, Any]]:
    """What drivers from elsewhere say, unchanged, of a server with scripted answers. `probes` is where they are, and
    `folder` takes what Node needs. Raises Unreachable."""
    rows, shown = [], self_signed(folder / "tls")
    for driver in PROBES:
        is_node = driver.file.endswith(".mjs")
        is_secret = is_node and not driver.is_call
        tls: dict[str, Any] = {"tls_cert": shown.certificate, "tls_key": shown.key} if is_secret else {}
        with live(**tls) as server:
            where = f"{server.url}/v1"
            if driver.is_call:
                where = f"{where.replace('http', 'ws')}/realtime?model=gpt-4o-realtime-preview"
            python = environment(driver.environment) if driver.environment else Path(sys.executable)
            program = NODE if is_node else python
            script = _beside_packages(probes / driver.file, server) if is_node else probes / driver.file
            env = os.environ | {"NODE_EXTRA_CA_CERTS": str(shown.certificate)}
            done = subprocess.run(
                [program, script, where], cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False
            )
        said = (done.stdout + done.stderr).strip()
        is_right = done.returncode == 0 and not _FAULT.search(said)
        last = said.splitlines()[-1][:200] if said else ""
        name = driver.file + (f" ({driver.environment})" if driver.environment else "")
        rows.append({"driver": name, "passed": is_right, "lines": len(said.splitlines()), "last line": last})
    return rows


def _beside_packages(driver: Path, server: Live) -> Path:
    """Copies a driver of Node to where the tests have installed its packages. A short-lived key in it is made up: it
    gets a real one."""
    folder = ROOT / ".pytest_cache" / "d" / "node-clients"
    assert (folder / "installed").exists(), "the JavaScript clients are not installed: their tests were skipped"
    secret = server.http.post("/v1/realtime/client_secrets", json={}).json()["value"]
    copied = folder / driver.name
    copied.write_text(driver.read_text().replace("ek_x", secret))
    return copied
