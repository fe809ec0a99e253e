"""A server in a process of its own, as a user starts it."""

from __future__ import annotations

import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent


@contextmanager
def serve(*options: str, timeout_s: float = 60.0) -> Iterator[str]:
    """Runs `sensorium serve` on a free port in a process of its own; gives its URL once it says that it is ready."""
    command = [sys.executable, "-m", "sensorium.cli", "serve", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            deadline = time.monotonic() + timeout_s
            while True:
                ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
                assert ready, f"the server said nothing within {timeout_s} s"
                line = process.stdout.readline()
                assert line, f"the server ended with status {process.wait()}"
                if " is ready at http" in line:
                    yield line.split(" is ready at ")[1].split()[0]
                    return
        finally:
            process.terminate()
            process.wait(timeout=10)
