"""The page docs/conformance.md, written from the figures in docs/conformance.json and from nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

Json = dict[str, Any]

PEER = (
    "OGX publishes 29 of 146 endpoints, with 91.7 % of their properties "
    "(`docs/docs/api-openai/conformance.mdx` of ogx-ai/ogx)"
)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def summary(board: Json) -> list[tuple[str, str]]:
    """What is measured, and how it stands, in a line each."""
    tests, surface, fuzz = board["official tests"], board["surface"], board["malformed requests"]
    operations = surface["operations"]
    lines = _clients_in_a_line(board["clients"], board["probes"])
    if "skipped because" in tests:
        lines.append(("The official client's own tests", f"not run: {tests['skipped because']}"))
    else:
        built = _built(tests)
        what = f"{built['passed']} of {built['passed'] + built['failed']} of what there is; {tests['passed']} of "
        what += f"{tests['passed'] + tests['failed']} of the whole API"
        lines.append((f"The official client's own tests ({tests['client']})", what))
    lines.append(("Published operations that there are", f"{operations['there']} of {operations['published']}"))
    for operation, found in surface["properties"].items():
        request, response = found["request"], found["response"]
        what = f"request: {len(request['obeyed'])} obeyed, {len(request['ignored'])} ignored, "
        what += f"{len(request['refused by name'])} refused by name"
        if request["refused otherwise"]:
            what += f", {len(request['refused otherwise'])} refused otherwise"
        lines.append((f"`{operation}`", f"{what}; answer: {response['there']} of {response['published']}"))
    schema = board["schema"]
    if "skipped because" in schema:
        lines.append(("Schemathesis", f"not run: {schema['skipped because']}"))
    else:
        what = (
            f"{schema['cases']} cases on {schema['operations']} operations: {schema['server errors']} server errors, "
        )
        what += f"{sum(len(where) for where in schema['open'].values())} breaches, "
        what += f"{sum(len(where) for where in schema['false alarms'].values())} false alarms"
        lines.append((f"Schemathesis ({schema['tool']})", what))
    what = f"{fuzz['requests']} to {fuzz['endpoints']} endpoints: {len(fuzz['failures'])} answers of 500 and more"
    return [*lines, ("Malformed requests", what)]


def _clients_in_a_line(clients: Json, probes: Json) -> list[tuple[str, str]]:
    lines = []
    for what, found, kind in (
        ("Clients, unmodified", clients, "clients"),
        ("Drivers of clients, written elsewhere", probes, "drivers"),
    ):
        if "skipped because" in found:
            lines.append((what, f"not run: {found['skipped because']}"))
            continue
        rows = found[kind]
        right = sum(row["passed"] == row.get("tests", True) for row in rows)
        told = f"{right} of {len(rows)} without a fault"
        if kind == "clients":
            told += f"; {sum(row['passed'] for row in rows)} of {sum(row['tests'] for row in rows)} tests"
        lines.append((what, told))
    return lines


def _built(tests: Json) -> Counter[str]:
    """What there is: areas that have more to them than operations that are not built, less those operations."""
    total: Counter[str] = Counter()
    for area in tests["areas"].values():
        if area["passed"] or _is_partly(area):
            total["passed"] += area["passed"]
            total["failed"] += area["failed"] - area["why"].get("not built", 0)
    return total


def page(board: Json) -> str:
    about = board["about"]
    parts = [
        "# Conformance",
        "How far the server keeps to OpenAI's API, as `make conformance ARGS=--write` measured it on "
        f"{about['date']} with sensorium {about['sensorium']}, revision {about['revision']}, Python {about['python']}, "
        "and scripted answers (`--fake`). This page is written from `docs/conformance.json`.",
        table(("what", "how it stands"), summary(board)).replace("---:", "---"),
        f"For comparison: {PEER}. Its count of endpoints and its way of counting properties are its own.",
        *_clients(board["clients"], board["probes"]),
        *_tests(board["official tests"]),
        *_surface(board["surface"]),
        *_schema(board["schema"]),
        *_fuzz(board["malformed requests"]),
    ]
    return "\n\n".join(parts) + "\n"


def _clients(clients: Json, probes: Json) -> list[str]:
    parts = []
    if "clients" in clients:
        rows = [
            (row["client"], row["version"], f"{row['passed']} of {row['tests']}", "; ".join(row["what"]))
            for row in clients["clients"]
        ]
        parts += [
            "## Clients",
            "Each as its makers publish it, in the tests of `tests/conformance`: of what a client does there, what the "
            "server did right by the client's own types.",
            table(("client", "version", "tests", "what it did"), rows).replace("---:", "---"),
        ]
        wrong = [(case, what) for row in clients["clients"] for case, what in row["not passed"].items()]
        parts += ["\n".join(f"- `{case}`: {what}" for case, what in wrong)] if wrong else []
    if "drivers" in probes:
        rows = [(row["driver"], "yes" if row["passed"] else "no", row["last line"]) for row in probes["drivers"]]
        told = table(("driver", "without a fault", "its last line"), rows).replace("---:", "---")
        parts += ["## Drivers of clients, written elsewhere", told]
    return parts


def _tests(tests: Json) -> list[str]:
    if "skipped because" in tests:
        return []
    built = {area: found for area, found in tests["areas"].items() if found["passed"]}
    others = {area: found for area, found in tests["areas"].items() if not found["passed"]}
    rows = [
        (f"`{area}`", found["passed"], found["failed"], found["skipped"], _sentence(found["why"]) or "-")
        for area, found in {**built, **{area: found for area, found in others.items() if _is_partly(found)}}.items()
    ]
    absent = Counter({area: found["failed"] for area, found in others.items() if not _is_partly(found)})
    parts = [
        "## The official client's own tests",
        f"The {tests['passed'] + tests['failed']} tests that {tests['client']} brings for its resources, less those "
        "that no server has a part in (arguments that the client itself refuses, answers that the test makes up). They "
        "ask for ids that they have made up: a layer of the scoreboard makes something real of the kind for each. The "
        "models they name are aliases of ours.",
        table(("resource", "passed", "failed", "skipped", "why"), rows).replace("---: |\n", "--- |\n", 1),
    ]
    if tests["names"]:
        parts.append(
            "\n".join(f"- {reason.capitalize()}: {_names(names)}." for reason, names in tests["names"].items())
        )
    parts.append(f"Not built, {sum(absent.values())} tests: {_names(sorted(absent))}.")
    return parts


def _is_partly(found: Json) -> bool:
    return set(found["why"]) != {"not built"}


def _surface(surface: Json) -> list[str]:
    areas = surface["operations"]["areas"]
    rows = [(f"`{area}`", there, published) for area, (there, published) in sorted(areas.items()) if there]
    absent = [f"{area} ({published})" for area, (there, published) in sorted(areas.items()) if not there]
    parts = [
        "## Operations and properties",
        f"Counted against {surface['source']}. A request with each property was sent: it was answered, or refused by "
        "an error that names it. Ignored are those that the contract allows to be: they ask for nothing that an answer "
        "could show.",
        table(("operations", "there", "published"), rows),
        f"Without any: {', '.join(absent)}.",
    ]
    for operation, found in surface["properties"].items():
        request, response = found["request"], found["response"]
        lines = [f"`{operation}`"]
        lines += [f"{kind}: {_names(names)}" for kind, names in request.items() if names and kind != "obeyed"]
        if response["missing"]:
            lines.append(f"never in an answer: {_names(response['missing'])}")
        if len(lines) > 1:
            parts.append("\n- ".join(lines[:1] + lines[1:]).replace("\n- ", "\n\n- ", 1))
    return parts


def _schema(schema: Json) -> list[str]:
    if "skipped because" in schema:
        return []
    parts = [
        "## Schemathesis",
        f"{schema['tool']}, {schema['cases']} cases, right ones and wrong ones, on the {schema['operations']} "
        "operations that there are of a corrected description.",
    ]
    if schema["open"]:
        parts.append("\n".join(f"- {what}: {_names(where)}." for what, where in schema["open"].items()))
    reasons = [f"- {reason}: {_names(where)}." for reason, where in schema["false alarms"].items()]
    return [*parts, "False alarms, and why they are that:", "\n".join(reasons)] if reasons else parts


def _fuzz(fuzz: Json) -> list[str]:
    rows = [(status, count) for status, count in fuzz["statuses"].items()]
    parts = [
        "## Malformed requests",
        f"{fuzz['requests']} requests that are nearly right, to all {fuzz['endpoints']} endpoints that take one.",
        table(("status", "answers"), rows),
    ]
    return [*parts, "\n".join(f"- {failure}" for failure in fuzz["failures"])] if fuzz["failures"] else parts


def _sentence(why: Json) -> str:
    return "; ".join(f"{reason} ({count})" for reason, count in why.items())


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
