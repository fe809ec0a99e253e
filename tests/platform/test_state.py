"""Where state lies: nowhere, in a folder, or where a URL says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sensorium.platform.state import State
from sensorium.platform.store import StoredObject

STORED = StoredObject(kind="x", id="a", project="p", created_at=1, body={})


async def test_memory_ends_with_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    state = State.open()
    assert not state.outlives_process
    await state.store.put(STORED)
    await state.objects.put("files/a", b"bytes")
    state.close()
    assert os.listdir(tmp_path) == []
    again = State.open()
    assert await again.store.get("x", "a", "p") is None
    again.close()


async def test_a_folder_keeps_both(tmp_path: Path):
    for turn in range(2):
        state = State.open(tmp_path / "new" / "folder")
        assert state.outlives_process
        assert (await state.store.get("x", "a", "p") == STORED) is (turn == 1)
        assert (await state.objects.get("files/a") == b"bytes") is (turn == 1)
        await state.store.put(STORED)
        await state.objects.put("files/a", b"bytes")
        state.close()


async def test_urls_take_the_place_of_the_folder(tmp_path: Path, database_url: str):
    state = State.open(tmp_path / "folder", database=database_url, objects="memory:///")
    await state.store.put(STORED)
    await state.objects.put("files/a", b"bytes")
    state.close()
    assert not (tmp_path / "folder").exists()
    again = State.open(database=database_url)
    assert await again.store.get("x", "a", "p") == STORED
    again.close()


def test_a_folder_that_is_a_file_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="state folder"):
        State.open(tmp_path / "file")
