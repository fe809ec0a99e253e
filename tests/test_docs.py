"""The documents are true: their examples run, their tables and trees match the code, their links lead somewhere.

Every ```bash and ```python block of README.md and docs/guides/ is executed, in a folder that sees docs/, against a
server on a free port that stands in for 127.0.0.1:8000. A comment before a block changes that:

    <!-- run: timeout 120 -->        it may take this many seconds instead of 60
    <!-- run: fails -->              it shows an error, and ends with one
    <!-- run: skip: the reason -->   it is not run

An answer of 400 or more is an error of the curl that asked for it.
"""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from sensorium.cli import RELEASED
from sensorium.cli import app as command_line
from tests.serving import ROOT
from tests.test_architecture import FRONT_DOOR, MAY_IMPORT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "guides").glob("*.md"))]
BLOCK = re.compile(
    r"(?:^<!-- run: (?P<how>[^\n]*?) -->\n)?^```(?P<language>bash|python)\n(?P<code>.*?)^```$", re.M | re.S
)
PRELUDE = 'curl() { command curl -S --fail-with-body "$@"; }\n'
DOCUMENTED_URL = "http://127.0.0.1:8000"


class Example(NamedTuple):
    name: str
    language: str
    code: str
    skip_reason: str = ""
    timeout_s: float = 60.0
    fails: bool = False


def examples() -> list[Example]:
    found: list[Example] = []
    for page in PAGES:
        text = page.read_text()
        for block in BLOCK.finditer(text):
            line = text[: block.start("code")].count("\n")
            example = Example(f"{page.name}:{line}", block["language"], block["code"])
            match (block["how"] or "").split(maxsplit=1):
                case []:
                    found.append(example)
                case ["timeout", seconds]:
                    found.append(example._replace(timeout_s=float(seconds)))
                case ["fails"]:
                    found.append(example._replace(fails=True))
                case ["skip:", reason]:
                    found.append(example._replace(skip_reason=reason))
                case _:
                    raise ValueError(f"{example.name}: unknown direction {block['how']!r}")
    return found


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_examples_run(example: Example, request: pytest.FixtureRequest, tmp_path: Path):
    if example.skip_reason:
        pytest.skip(example.skip_reason)
    code = example.code
    if DOCUMENTED_URL in code:
        server = "released_server" if RELEASED.is_dir() else "fake_server"
        code = code.replace(DOCUMENTED_URL, request.getfixturevalue(server))
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    shell = ["bash", "-euo", "pipefail", "-c", PRELUDE + code]
    done = subprocess.run(
        shell if example.language == "bash" else [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=example.timeout_s,
        check=False,
    )
    assert (done.returncode != 0) == example.fails, done.stdout + done.stderr
    assert done.stdout.strip(), "an example that shows nothing teaches nothing"


def test_the_tree_is_that_of_the_files():
    page = (ROOT / "ARCHITECTURE.md").read_text()
    written = runpy.run_path(str(ROOT / "docs" / "tree.py"))["page_with_tree"](page)
    assert written == page, "run `make docs`"


def test_every_file_says_what_it_is():
    tree = runpy.run_path(str(ROOT / "docs" / "tree.py"))["tree"]()
    silent = [line.strip() for line in tree.splitlines() if len(line.split()) < 2]
    assert silent == [], "a file without a docstring or an opening comment"


def test_the_import_table_is_the_tested_one():
    page = (ROOT / "ARCHITECTURE.md").read_text()
    section = page.split("## Who may import whom")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\w+) \| ([\w, -]+) \|$", section, re.M)
    printed = {room: set() if others == "-" else set(others.split(", ")) for room, others in rows}
    assert printed == MAY_IMPORT
    assert FRONT_DOOR.keys() == {"cli", "__init__"}


def test_named_files_exist():
    pages = [*PAGES, ROOT / "ARCHITECTURE.md"]
    paths = {
        path
        for page in pages
        for path in re.findall(r"`((?:sensorium|recipes|bench|tests|docs)/[\w./-]*)`", page.read_text())
    }
    assert sorted(path for path in paths if not (ROOT / path).exists()) == []


@pytest.mark.parametrize(
    "page", [*PAGES, *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")], ids=lambda page: page.name
)
def test_links_lead_somewhere(page: Path):
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_command_is_documented():
    text = "\n".join(page.read_text() for page in PAGES)
    names = [
        command.name or command.callback.__name__ for command in command_line.registered_commands if command.callback
    ]
    assert [name for name in names if name != "version" and f"sensorium {name}" not in text] == []


def test_every_make_target_explains_itself():
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.M)
    assert phony
    explained = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.M))
    assert explained == set(phony[1].split())
