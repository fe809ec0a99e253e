"""The official client's own tests of the API, run against this server: who passes, who fails, and why.

The tests are in the client's source package on PyPI (tests/api_resources). Run with the client of `clients/openai.txt`,
which is the version of `constraints.txt`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ElementTree
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from sensorium.server.config import GPT_4O_FAMILY
from tests.conformance.environments import environment, install, version
from tests.conformance.scoreboard.stand_in import StandIn
from tests.server.live import live

INVENTED_MODELS = ("gpt-6-astra", "model")
_AREA = re.compile(r"tests\.api_resources\.((?:\w+\.)*?)test_(\w+)\.")

# What a failure says behind its resource, and what is behind it: the first that fits. A group is a name to be told.
REASONS = (
    (r"404 - Invalid URL|405 - Not allowed", "not built"),
    (r"should be (?:greater|less) than|there is no scope|Without a key", "the test sends a made-up value, 0 as a rule"),
    (r"'starting_after' is only allowed", "the test resumes a stream that it does not ask for"),
    (r"Missing required parameter: '(?:model|input)'", "the test asks for an answer to nothing at all"),
    (r"Unknown parameter: '([^']+)'", "unknown here and refused by name"),
    (r"(?:Unsupported|Invalid) value(?: for)?:? '([^']+)'", "not to be obeyed here and refused by name"),
    (r"The picture is not a|The file is in none of the formats", "the test sends a file that is no picture or sound"),
    (r"File with id 'file_id' not found", "the test asks for a file that it has not uploaded"),
    (r"^chat/completions/messages: ", "the client's type of a kept message knows the assistant's only, not the user's"),
    (r"^embeddings: .*APIResponseValidationError", "a strict client refuses the base64 that it asked for itself"),
)


def run(folder: Path) -> dict[str, Any]:
    """Runs all of them; `folder` takes the tests. Raises Unreachable."""
    python = environment("openai")
    release = version("openai", "openai")
    tests = _source(folder, release)
    with live(around=StandIn, model_aliases=(*GPT_4O_FAMILY, *INVENTED_MODELS)) as server:
        report = folder / "report.xml"
        options = ["-c", os.devnull, "--rootdir", tests, "-o", "asyncio_mode=auto"]
        options += ["-o", "asyncio_default_fixture_loop_scope=session", "-p", "no:cacheprovider", "-p", "sdk_plugin"]
        options += ["-q", "--tb=no", "--disable-warnings", f"--junitxml={report}", "tests/api_resources"]
        subprocess.run(
            [python, "-m", "pytest", *options],
            cwd=tests,
            env=os.environ | {"TEST_API_BASE_URL": f"{server.url}/v1", "PYTHONPATH": str(Path(__file__).parent)},
            stdout=subprocess.DEVNULL,
            check=False,
        )
    return {"client": f"openai {release}", **_counted(report)}


def _source(folder: Path, release: str) -> Path:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--retries", "1"]
    words = ["download", "-q", "--no-deps", "--no-build-isolation", "--no-binary", ":all:", "-d", str(folder)]
    install(*pip, *words, f"openai=={release}")
    with tarfile.open(folder / f"openai-{release}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / f"openai-{release}"


def _counted(report: Path) -> dict[str, Any]:
    by_area: defaultdict[str, Counter[str]] = defaultdict(Counter)
    why: defaultdict[str, Counter[str]] = defaultdict(Counter)
    names: defaultdict[str, set[str]] = defaultdict(set)
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        found = _AREA.match(case.get("classname", "") + ".")
        assert found, case.attrib
        area = (found[1] + found[2]).replace(".", "/")
        failed = case.find("failure") if case.find("failure") is not None else case.find("error")
        if failed is not None:
            by_area[area]["failed"] += 1
            reason, name = _reason(f"{area}: {failed.get('message', '')}")
            why[area][reason] += 1
            names[reason] |= {name} if name else set()
        else:
            by_area[area]["skipped" if case.find("skipped") is not None else "passed"] += 1
    kinds = ("passed", "failed", "skipped")
    areas = {
        area: {**{kind: by_area[area][kind] for kind in kinds}, "why": dict(why[area].most_common())}
        for area in sorted(by_area)
    }
    named = {reason: sorted(found) for reason, found in sorted(names.items()) if found}
    return {**{kind: sum(area[kind] for area in areas.values()) for kind in kinds}, "names": named, "areas": areas}


def _reason(message: str) -> tuple[str, str | None]:
    """What is behind a failure, and the field at fault if that is to be told."""
    for pattern, reason in REASONS:
        if found := re.search(pattern, message):
            return reason, re.sub(r"\[\d+\]", "[]", found[1]) if found.re.groups else None
    return re.sub(r"\s+", " ", message)[:160], None
