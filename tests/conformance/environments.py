"""Clients in environments of their own: what one of them needs is not what the server or another client needs.

The packages are those of `clients/NAME.txt`, every one at a version. pip fetches them once, into the environment that
runs this: `.venv/clients/NAME`.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LISTS = Path(__file__).parent / "clients"
_UNREACHABLE = re.compile(
    r"No matching distribution|NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|MaxRetryError"
)


class Unreachable(Exception):
    """The packages cannot be fetched from here."""


@contextmanager
def installing(folder: Path) -> Iterator[None]:
    """Tests run in several processes: where one of them installs into a folder, the others wait."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def environment(name: str) -> Path:
    """The Python of a client's environment, made if it is not there. Raises Unreachable."""
    wanted = _LISTS / f"{name}.txt"
    digest = hashlib.sha256(wanted.read_bytes()).hexdigest()
    folder = Path(sys.prefix) / "clients" / name
    python, installed = folder / "bin" / "python", folder / "installed"
    with installing(folder):
        if installed.exists() and installed.read_text() == digest:  # written last: one that was broken off is none
            return python
        subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", folder], check=True)
        pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "--retries", "1"]
        install(*pip, "install", "-q", "--no-deps", "--no-compile", "-r", wanted)
        installed.write_text(digest)
    return python


def install(*command: str | Path) -> None:
    """Runs a command of pip. Raises Unreachable where the index does not answer."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode and _UNREACHABLE.search(done.stderr):
        raise Unreachable(f"pip cannot reach the packages: {' '.join(str(word) for word in command[-2:])}")
    assert done.returncode == 0, done.stderr


def version(name: str, package: str) -> str:
    """The version of a package in the list of an environment."""
    found = re.search(rf"^{re.escape(package)}==(\S+)$", (_LISTS / f"{name}.txt").read_text(), re.M)
    assert found, f"{package} is not in the list of {name}"
    return found[1]
