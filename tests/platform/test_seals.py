"""What was sealed opens for the same server and purpose, unchanged, and for nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorium.platform.database import Database
from sensorium.platform.seals import Sealer

SEALER = Sealer(bytes(32))
SEALED = SEALER.seal(b"a secret that nobody reads", about="proj_mine")


def test_all_servers_of_a_database_have_one_key(database_url: str):
    databases = [Database.open(database_url) for _ in range(2)]
    first, second = (Sealer.open(database) for database in databases)
    assert second.unseal(first.seal(b"hi", about="p"), about="p") == b"hi"
    for database in databases:
        database.close()
    elsewhere = Sealer.open(in_memory := Database.open())
    with pytest.raises(ValueError, match="not sealed here"):
        elsewhere.unseal(first.seal(b"hi", about="p"), about="p")
    in_memory.close()


@given(st.binary(max_size=100))
def test_anything_can_be_sealed_and_nothing_of_it_shows(content: bytes):
    sealed = SEALER.seal(content, about="proj_mine")
    assert SEALER.unseal(sealed, about="proj_mine") == content
    assert sealed.replace("-", "").replace("_", "").isalnum()
    assert SEALER.seal(content, about="proj_mine") != sealed
    with pytest.raises(ValueError, match="not sealed here"):
        SEALER.unseal(sealed, about="proj_yours")


@given(st.integers(0, len(SEALED) - 1), st.characters())
def test_no_character_can_be_changed(index: int, char: str):
    changed = SEALED[:index] + char + SEALED[index + 1 :]
    if changed != SEALED:
        with pytest.raises(ValueError, match="not sealed here"):
            SEALER.unseal(changed, about="proj_mine")


@given(st.text() | st.text("ABC-_=", max_size=40) | st.integers(0, len(SEALED) - 1).map(lambda end: SEALED[:end]))
def test_anything_else_is_refused(text: str):
    with pytest.raises(ValueError, match="not sealed here"):
        SEALER.unseal(text, about="proj_mine")
