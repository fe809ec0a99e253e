"""Writes the file tree of ARCHITECTURE.md: one line per file, taken from the file's own first sentence.

    python docs/tree.py            prints the tree
    python docs/tree.py --write    puts it into ARCHITECTURE.md

`tests/test_docs.py` fails when the page and the files differ.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "ARCHITECTURE.md"
REGION = re.compile(r"(<!-- tree:begin -->\n```\n).*?(```\n<!-- tree:end -->)", re.DOTALL)
FOLDERS = ("sensorium", "recipes", "bench")
NOT_PACKAGES = {  # folders without an __init__.py that could speak for them
    "playground": "A page in the browser: plain ES modules, no build step",
    "bench": "Latency, throughput and load, measured",
}
MAX_CHARS = 95  # with the names, a line of the tree stays within 120
SUFFIXES = {".py", ".js", ".css", ".html"}


def first_sentence(path: Path) -> str:
    """What a file says of itself: the first sentence of its docstring, and of a long sentence its first clause."""
    source = path.read_text()
    if path.suffix == ".py":
        text = ast.get_docstring(ast.parse(source)) or ""
    else:
        lines = [line for line in source.splitlines() if not re.match(r"\s*(// @ts-check|<!doctype)", line, re.I)]
        opening = re.match(r"\s*(?:/\*+(.*?)\*/|<!--(.*?)-->|((?:\s*//[^\n]*\n)+))", "\n".join(lines) + "\n", re.DOTALL)
        text = " ".join(group for group in opening.groups() if group) if opening else ""
        text = re.sub(r"^[ \t]*(//+|\*)", "", text, flags=re.MULTILINE)
    paragraph = " ".join(text.strip().split("\n\n")[0].split())
    sentence = re.split(r"(?<!et al)\.(?:\s|$)", paragraph)[0]
    if len(sentence) <= MAX_CHARS:
        return sentence
    clauses = [match.start() for match in re.finditer(r"[:;(]", sentence) if match.start() <= MAX_CHARS]
    return sentence[: clauses[-1]].rstrip() if clauses else sentence


def tree() -> str:
    lines: list[str] = []
    for folder in FOLDERS:
        if (ROOT / folder).is_dir():
            lines += _folder(ROOT / folder, depth=0)
    return "\n".join(lines) + "\n"


def _folder(folder: Path, *, depth: int) -> list[str]:
    files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.name != "__init__.py")
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and path.name != "__pycache__")
    below = [line for child in folders for line in _folder(child, depth=depth + 1)]
    start = folder / "__init__.py"
    if not (files or below or start.exists()):
        return []
    indent = "  " * depth
    said = first_sentence(start) if start.exists() else NOT_PACKAGES.get(folder.name, "")
    own = [f"{indent}  {path.name:<{22 - len(indent)}} {first_sentence(path)}".rstrip() for path in files]
    return [f"{indent}{folder.name + '/':<{24 - len(indent)}} {said}".rstrip(), *own, *below]


def page_with_tree(page: str) -> str:
    return REGION.sub(lambda match: match[1] + tree() + match[2], page)


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        PAGE.write_text(page_with_tree(PAGE.read_text()))
    else:
        print(tree(), end="")
