"""What a user may import, and what an installed package holds."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

import sensorium
from tests.serving import ROOT

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(sensorium.__path__, "sensorium.")
    if module.name != "sensorium.platform.migrations.env"  # alembic runs it, within a migration
)


def test_public_names_are_these():
    assert sensorium.__all__ == ["Audio", "Event", "Image", "Message", "SamplingParams", "Text", "ToolCall", "Video"]
    for name in sensorium.__all__:
        assert getattr(sensorium, name)


@pytest.mark.parametrize("module", MODULES)
def test_every_module_imports(module: str):
    importlib.import_module(module)


@pytest.mark.parametrize("module", ["sensorium", "sensorium.cli", "sensorium.chat", "sensorium.messages"])
def test_the_front_door_opens_without_torch(module: str):
    code = f"import sys, {module}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_wheel_holds_all_that_runs():
    """The weights, the playground and the type marker travel with the code; tests and recipes do not."""
    files = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    here = {
        str(path.relative_to(ROOT))
        for path in Path(sensorium.__path__[0]).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert here == files
    assert "sensorium/py.typed" in files
    assert "sensorium/playground/index.html" in files


def test_the_released_weights_are_small_enough_for_a_wheel():
    for folder in (ROOT / "sensorium" / "checkpoints").iterdir():
        if folder.is_dir():
            assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 48_000_000
