"""The conformance of the server, measured: `python -m tests.conformance.scoreboard`.

--write docs/conformance.md     writes the page, and its figures beside it as .json
--spec openapi.json             the published description, corrected for validators: for Schemathesis
--probes FOLDER                 drivers of clients that were written elsewhere
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import rich
from rich.table import Table

import sensorium
from tests.conformance.environments import Unreachable
from tests.conformance.scoreboard import clients, malformed, schema, sdk, surface
from tests.conformance.scoreboard.page import page, summary
from tests.serving import ROOT

Json = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance.scoreboard", description="Measures how far the server keeps to OpenAI's API."
    )
    parser.add_argument("--write", type=Path, nargs="?", const=ROOT / "docs" / "conformance.md", metavar="PAGE.md")
    parser.add_argument("--spec", type=Path, help="the published description, corrected (JSON)")
    parser.add_argument("--probes", type=Path, help="a folder of drivers of clients that were written elsewhere")
    parser.add_argument("--requests", type=int, default=10_000, help="malformed requests (%(default)s)")
    parser.add_argument("--seconds", type=int, default=75, help="time for Schemathesis (%(default)s)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.spec is not None and not given.spec.is_file():
            parser.error(f"--spec {given.spec} is no file")
        if given.probes is not None and not given.probes.is_dir():
            parser.error(f"--probes {given.probes} is no folder")
        board = measure(Path(folder), given.spec, given.probes, num_requests=given.requests, seconds=given.seconds)
    shown = Table("what", "how it stands")
    for line in summary(board):
        shown.add_row(*line)
    rich.print(shown)
    print(json.dumps(board))
    if given.write:
        given.write.write_text(page(board))
        given.write.with_suffix(".json").write_text(json.dumps(board, indent=1) + "\n")


def measure(folder: Path, spec: Path | None, probes: Path | None, *, num_requests: int, seconds: int) -> Json:
    def described() -> Json:
        if spec is None:
            return {"skipped because": "it needs the corrected description: --spec FILE"}
        return schema.run(spec, folder, seconds=seconds)

    def driven() -> Json:
        if probes is None:
            return {"skipped because": "they are not part of this repository: --probes FOLDER"}
        return {"drivers": clients.probe(probes, folder)}

    return {
        "about": _about(),
        "official tests": _or_skipped(lambda: sdk.run(folder)),
        "clients": _or_skipped(lambda: {"clients": clients.run(folder)}),
        "probes": _or_skipped(driven),
        "surface": surface.run(),
        "schema": _or_skipped(described),
        "malformed requests": malformed.run(num_requests),
    }


def _or_skipped(measured: Callable[[], Json]) -> Json:
    try:
        return measured()
    except Unreachable as error:
        return {"skipped because": str(error)}


def _about() -> Json:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
    revision = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    today = datetime.now(UTC).date().isoformat()
    return {
        "date": today,
        "sensorium": sensorium.__version__,
        "revision": revision or "unknown",
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    main()
