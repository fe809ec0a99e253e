"""Schemathesis on the operations that there are: no answer of 500 and more, and answers of the published shape.

It needs the published description in the form that validators take (see --spec), all of it, which is not part of this
repository.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

from tests.conformance.environments import environment, version
from tests.conformance.scoreboard.surface import routes
from tests.server.live import live

METHODS = ("get", "post", "put", "patch", "delete")

# What it takes for a breach and is none: by its code, then by the operation, or * for any.
_NULLS = "settings that are off are null, as in the description's own examples; its schemas have objects"
_LEFT_OUT = "null for a field that may be left out is as good as leaving it out"
_SCHEMA_NAMES = "the description takes the names of its schemas for those of the types"
_BETA = "clients of the retired beta send fields of no meaning, which are left unread"
_ONE_MORE = "the limits of a key may be changed here, which the description has no operation for"
FALSE_ALARMS: dict[str, dict[str, str]] = {
    "ST108": {
        "DELETE /responses/{response_id}": "the description has the error here without its envelope",
        "POST /responses/{response_id}/cancel": "the description has the error here without its envelope",
        "GET /chat/completions": "a list of nothing has no first id: it is null",
        "POST /images/generations": "pictures here have sizes of their own",
        "POST /realtime/client_secrets": _NULLS,
        "POST /realtime/sessions": _NULLS,
        "POST /realtime/transcription_sessions": _NULLS,
    },
    "ST204": {"POST /organization/projects/{project_id}/api_keys/{api_key_id}": _ONE_MORE},
    "ST205": {"OPTIONS /organization/projects/{project_id}/api_keys/{api_key_id}": _ONE_MORE},
    "ST105": {"GET /files/{file_id}/content": "a file may be of any type, the description knows JSON"},
    "ST111": {"POST /realtime/client_secrets": _SCHEMA_NAMES, "POST /responses/compact": _SCHEMA_NAMES},
    "ST201": {
        "GET /organization/usage/images": "pictures here have sizes of their own; a filter by another finds none",
        "POST /realtime/sessions": _BETA,
        "POST /realtime/transcription_sessions": _BETA,
        "POST /images/variations": "an empty list, for a text here, is nothing at all in a form",
        "POST /embeddings": _LEFT_OUT,
        "POST /organization/admin_api_keys": _LEFT_OUT,
        "POST /images/generations": _LEFT_OUT,
    },
    "ST202": {
        "*": "the description allows what nobody could obey: a negative limit, a cursor that was never given, "
        "an end before the start, unknown fields, a prompt of nothing"
    },
}


def run(description: Path, folder: Path, *, seconds: int) -> dict[str, Any]:
    """What it found. `folder` takes its report. Raises Unreachable."""
    document = json.loads(description.read_text())
    num_operations = _cut(document)
    described, report = folder / "description.json", folder / "schemathesis.json"
    described.write_text(json.dumps(document))
    tool = environment("schemathesis").with_name("schemathesis")
    with live() as server:
        options = [f"--url={server.url}/v1", "--max-time", str(seconds), "--max-examples=10", "--seed=1"]
        options += ["--phases=examples,coverage,fuzzing", "--continue-on-failure"]
        options += ["--no-shrink", "--suppress-health-check=all", "--report=json", f"--report-json-path={report}"]
        subprocess.run(
            [tool, "run", described, *options],
            stdout=(folder / "schemathesis.txt").open("w"),
            env=os.environ | {"NO_COLOR": "1"},
            cwd=folder,
            timeout=seconds + 120,
            check=False,
        )
    found = json.loads(report.read_text())
    return {
        "tool": f"schemathesis {version('schemathesis', 'schemathesis')}",
        "operations": num_operations,
        "cases": found["test_cases"]["generated"],
        "server errors": sum(failure["count"] for failure in found["failures"] if failure["type"] == "ServerError"),
        **_sorted(found["failures"]),
    }


def _cut(document: dict[str, Any]) -> int:
    """Leaves only the operations that have a route, and says how many.

    Who may ask goes too: a server for its own machine runs without keys, and there nobody is asked for one.
    """
    document.pop("security", None)
    document["components"].pop("securitySchemes", None)
    ours = routes()
    num_operations = 0
    for path in list(document["paths"]):
        item = document["paths"][path]
        bare = re.sub(r"\{[^}]+\}", "{}", path)
        kept = [method for method in METHODS if method in item and f"{method} {bare}" in ours]
        for method in METHODS:
            if method not in kept:
                item.pop(method, None)
        if not kept:
            del document["paths"][path]
        num_operations += len(kept)
    return num_operations


def _sorted(failures: list[dict[str, Any]]) -> dict[str, Any]:
    """False alarms by their reason, and all others: by what is wrong, the operations that it is wrong with."""
    alarms: defaultdict[str, list[str]] = defaultdict(list)
    open_: defaultdict[str, list[str]] = defaultdict(list)
    for failure in failures:
        known = FALSE_ALARMS.get(failure["code"], {})
        for operation in failure["operations"]:
            reason = known.get(operation, known.get("*"))
            where = alarms[reason] if reason else open_[f"{failure['code']} {failure['title']}"]
            where.append(operation)
    return {"false alarms": dict(alarms), "open": dict(open_)}
