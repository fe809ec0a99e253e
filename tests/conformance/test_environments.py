"""What tests install, one of their processes installs at a time."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from tests.conformance.environments import installing


def test_who_would_install_at_the_same_time_waits(tmp_path: Path):
    folder = tmp_path / "clients" / "one"
    with installing(folder), folder.with_name("one.lock").open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with folder.with_name("one.lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
