"""The emoji are collected from packages of six sets; every picture must be there."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from recipes import emoji as recipe
from sensorium.data.generators import emoji

KEYS = [tuple(part.strip() for part in row.split("/")) for row in recipe._TABLE.split(";")]


def package(folder: Path, prefix: str, *, without: str = "") -> Path:
    names = [key for row in KEYS for key in (row[3:] if prefix == "fxemoji" else row[2:3])]
    icons: dict[str, Any] = {"prefix": prefix, "width": 36, "height": 36, "icons": {}, "aliases": {}}
    for name in names:
        icons["icons"][f"{name}-drawn"] = {"body": f'<path id="{name}"/>'}
        icons["aliases"][name] = {"parent": f"{name}-drawn"}
    icons["aliases"].pop(without, None)
    about = {"author": {"name": "someone", "url": "https://example.org"}, "license": {"spdx": "MIT"}}
    path = folder / f"{prefix}.tgz"
    with tarfile.open(path, "w:gz") as tar:
        for name, content in (("icons", icons), ("info", about), ("package", {"name": prefix, "version": "1.0"})):
            data = json.dumps(content).encode()
            member = tarfile.TarInfo(f"package/{name}.json")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def test_packages_become_one_file_and_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = [package(tmp_path, prefix) for prefix in recipe.PACKAGES]
    recipe.main(packages, tmp_path / "one.gz")
    recipe.main(packages[::-1], tmp_path / "other.gz")
    assert (tmp_path / "one.gz").read_bytes() == (tmp_path / "other.gz").read_bytes()
    made = recipe.collect(packages)
    assert made["characters"] == emoji.characters(), "what is kept with the code is of this table"
    assert made["looks"]["twemoji"]["svg"]["dog"].startswith("<svg ")
    assert 'viewBox="0 0 36 36"' in made["looks"]["twemoji"]["svg"]["dog"]
    assert "fox" not in made["looks"]["fxemoji"]["svg"], "older than that one"
    assert made["looks"]["blob"]["package"] == "noto-v1@1.0"


def test_a_package_that_is_missing_or_lacks_a_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="missing: blob, emojione, fluent, fxemoji, noto"):
        recipe.collect([package(tmp_path, "twemoji")])
    with pytest.raises(ValueError, match="has no 'dog-face'"):
        recipe.collect([package(tmp_path, "twemoji", without="dog-face")])
    with pytest.raises(ValueError, match="is none of fluent-emoji-flat"):
        recipe.collect([package(tmp_path, "openmoji")])
