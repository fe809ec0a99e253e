"""The shape of the house: which room may import which, what no room may be called, and how long files may grow."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Callable
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "sensorium"

# room -> the other rooms of `sensorium` that it may import. ARCHITECTURE.md prints this table, a test compares them.
MAY_IMPORT: dict[str, set[str]] = {
    "messages": set(),
    "model": set(),
    "tokenizers": {"messages", "model"},
    "data": {"messages", "tokenizers"},
    "training": {"messages", "model", "tokenizers", "data"},
    "engine": {"messages", "model", "tokenizers"},
    "safety": {"messages"},
    "evals": {"messages", "safety"},
    "platform": {"messages", "engine", "safety"},
    "server": {"messages", "engine", "safety", "platform"},
    "playground": set(),
    "checkpoints": set(),
    "chat": {"messages", "engine", "safety"},
}
# The front door: the command line may reach every room, but only from inside a command.
FRONT_DOOR = {"cli": {*MAY_IMPORT, "__init__"}, "__init__": {"messages", "engine"}}

FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "core", "misc"}
FORBIDDEN_ENDINGS = ("_v2", "_legacy", "_old", "_new", "_utils", "_helpers")

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
# path -> why it may be longer
LONG_FILES: dict[str, str] = {}
# path::qualified name -> why it may be longer
LONG_FUNCTIONS: dict[str, str] = {}


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(tree: ast.AST) -> list[tuple[str, int]]:
    """Every room of `sensorium` named by an import anywhere in the tree, with its line: under TYPE_CHECKING and inside
    functions too. The package itself counts as the room `__init__`."""
    rooms: list[tuple[str, int]] = []
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                modules = [alias.name for alias in names]
            case ast.ImportFrom(module="sensorium", level=0, names=names):
                modules = [f"sensorium.{alias.name}" for alias in names]
            case ast.ImportFrom(module=str(module), level=0):
                modules = [module]
            case ast.ImportFrom():
                modules = ["sensorium.relative-import"]
            case _:
                continue
        for module in modules:
            top, _, rest = module.partition(".")
            if top == "sensorium":
                name = rest.split(".")[0]
                is_room = name in MAY_IMPORT or name in FRONT_DOOR or name == "relative-import"
                rooms.append((name if is_room else "__init__", node.lineno))
    return rooms


def forbidden_edges(room: str, source: str) -> list[str]:
    allowed = (MAY_IMPORT | FRONT_DOOR)[room] | {room}
    return [
        f"line {line}: {room} imports {other}"
        for other, line in imported_rooms(ast.parse(source))
        if other not in allowed
    ]


def test_every_file_is_in_a_room_of_the_table():
    rooms = {room_of(path) for path in python_files("sensorium")}
    assert rooms <= set(MAY_IMPORT) | set(FRONT_DOOR), "a new room needs a row in MAY_IMPORT and in ARCHITECTURE.md"


@pytest.mark.parametrize("path", python_files("sensorium"), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_follow_the_table(path: Path):
    assert forbidden_edges(room_of(path), path.read_text()) == []


def test_the_table_has_no_cycle():
    below: dict[str, set[str]] = dict(MAY_IMPORT)
    while below:
        leaves = {room for room, others in below.items() if not others & below.keys()}
        assert leaves, f"a cycle among {sorted(below)}"
        below = {room: others for room, others in below.items() if room not in leaves}


@pytest.mark.parametrize(
    "source",
    [
        "import sensorium.server.app",
        "from sensorium.server.app import build_app",
        "from sensorium import server",
        "from sensorium import Message",
        "from . import transformer",
        "def f():\n    from sensorium.data import loader",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from sensorium.tokenizers.vocab import Vocabulary",
    ],
)
def test_the_check_sees_every_way_to_import(source: str):
    assert forbidden_edges("model", source)


def test_commands_import_inside_themselves():
    tree = ast.parse((PACKAGE / "cli.py").read_text())
    at_top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {node.module or "" for node in at_top if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in at_top if isinstance(node, ast.Import) for alias in node.names}
    assert not {module for module in modules if module.split(".")[0] in {"sensorium", "torch", "uvicorn", "fastapi"}}


# Imported here, and brought along by a declared dependency of which it is the other half, or by one of another name.
BROUGHT_ALONG = {"starlette": "fastapi", "pydantic-core": "pydantic", "llama-cpp": "llama-cpp-python"}


@pytest.mark.parametrize(
    ("folders", "extras"),
    [
        (["sensorium/model", "sensorium/tokenizers", "sensorium/engine", "sensorium/safety"], []),
        (["sensorium/platform", "sensorium/server"], []),
        (["sensorium/data", "sensorium/training", "sensorium/evals", "recipes"], ["train", "quality"]),
        (["bench"], ["bench", "llama-cpp"]),
        (["tests"], ["train", "test"]),
    ],
    ids=["engine", "server", "training", "bench", "tests"],
)
def test_every_import_is_a_declared_dependency(folders: list[str], extras: list[str]):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    declared = {_normal(re.split(r"[\[<>=~! ]", line)[0]) for line in wanted}
    distributions = packages_distributions()
    ours = {"sensorium", "recipes", "bench", "tests"}
    undeclared: dict[str, str] = {}
    for path in python_files(*folders):
        # a driver of a client has what its own environment has: tests/conformance/environments.py
        own = path.with_name(f"{path.stem.removeprefix('with_')}.txt")
        lines = own.read_text().splitlines() if own.is_file() else []
        known = {_normal(line.split("==")[0]) for line in lines} or declared
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for top in {module.split(".")[0] for module in modules} - ours - sys.stdlib_module_names:
                names = {_normal(name) for name in distributions.get(top, [top])}
                if not {BROUGHT_ALONG.get(name, name) for name in names} & known:
                    undeclared[top] = str(path.relative_to(ROOT))
    assert undeclared == {}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_names_say_what_is_inside():
    paths = [path for path in PACKAGE.rglob("*") if "__pycache__" not in path.parts]
    paths += python_files("recipes", "bench", "tests")
    vague = [
        str(path.relative_to(ROOT))
        for path in paths
        if path.stem in FORBIDDEN_NAMES or path.stem.endswith(FORBIDDEN_ENDINGS)
    ]
    assert vague == []


def test_files_stay_short():
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in python_files("sensorium", "recipes", "bench", "tests")
    }
    long = {path: length for path, length in lengths.items() if length > MAX_FILE_LINES}
    assert long.keys() == LONG_FILES.keys(), f"over {MAX_FILE_LINES} lines: {long}; allowed: {sorted(LONG_FILES)}"


def test_functions_stay_short():
    long: dict[str, int] = {}

    def visit(node: ast.AST, name: str) -> None:
        for child in ast.iter_child_nodes(node):
            match child:
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    length = (child.end_lineno or child.lineno) - child.lineno + 1
                    if length > MAX_FUNCTION_LINES:
                        long[f"{name}{child.name}"] = length
                    visit(child, f"{name}{child.name}.")
                case ast.ClassDef():
                    visit(child, f"{name}{child.name}.")
                case _:
                    visit(child, name)

    for path in python_files("sensorium", "recipes", "bench", "tests"):
        visit(ast.parse(path.read_text()), f"{path.relative_to(ROOT)}::")
    assert long.keys() == LONG_FUNCTIONS.keys(), f"over {MAX_FUNCTION_LINES} lines: {long}"


def test_lines_per_package(record_property: Callable[[str, object], None]):
    """Tells the size of every room, so that growth is seen by whoever causes it."""
    lines: Counter[str] = Counter()
    for path in python_files("sensorium"):
        lines[room_of(path)] += len(path.read_text().splitlines())
    for path in (PACKAGE / "playground").rglob("*"):
        if path.suffix in {".js", ".css", ".html"}:
            lines["playground"] += len(path.read_text().splitlines())
    for folder in ("recipes", "bench", "tests"):
        lines[f"({folder})"] = sum(len(path.read_text().splitlines()) for path in python_files(folder))
    record_property("told", "  ".join(f"{room} {count}" for room, count in sorted(lines.items())))
    assert lines["messages"] > 0
