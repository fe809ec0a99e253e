"""Calls go as their transcripts say: `python -m tests.server.transcripts` writes those again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.server.transcripts import FOLDER, play, read


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.jsonl")), ids=lambda path: path.stem)
def test_a_call_goes_as_it_was_written_down(path: Path):
    lines = read(path)
    assert play(lines) == lines
