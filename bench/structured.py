"""Answers held to random JSON Schemas: how many keep to them, and what a constraint costs.

    python -m bench.structured [--checkpoint DIR] [--schemas 10000] [--results FILE.jsonl] [--tokens 96]

Every schema is made from its number, is told to nobody, and gets one answer of the network at a temperature between 0
and 2: what it says is nonsense, whether it keeps to the schema is the question. `jsonschema` judges. With `--results` a
line is kept for each schema, and a run that was stopped goes on. An answer that was cut short ("length") is told apart:
the contract lets it be unfinished. Costs are processor time: of a schema's compilation, and of a token's mask with what
is spent on looking for the way to a document's end. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import torch

from bench.json_line import json_line
from sensorium.cli import RELEASED
from sensorium.engine.answer import write
from sensorium.engine.network import Network
from sensorium.engine.request import End, SamplingParams, TextDelta
from sensorium.engine.sequence import Sequence
from sensorium.messages import Text
from sensorium.tokenizers.encoded import EncodedMessage
from sensorium.tokenizers.release import Release

TEMPERATURES = (0.0, 0.3, 0.7, 1.0, 1.5, 2.0)
MAX_DEPTH = 3
NAMES = ("name", "age", "tags", "next", "is on", "größe", 'a"b', "x", "y", "kind", "value", "items")
PATTERNS = ("^[a-z]{2,5}$", "^(on|off)$", "^[A-Z][a-z]+( [A-Z][a-z]+)?$", r"^\d{3}-\d{4}$", "^#[0-9a-f]{6}$", "b+")
FORMATS = ("date", "time", "date-time", "uuid", "email", "ipv4", "hostname", "duration")


def random_schema(number: int) -> dict[str, Any]:
    """A satisfiable schema over the supported keywords, the same for the same number."""
    return _Schemas(np.random.default_rng(number)).root()


_FORMAT_CHECKER = jsonschema.Draft202012Validator.FORMAT_CHECKER


class _Schemas:
    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._definitions: list[str] = []

    def root(self) -> dict[str, Any]:
        if self._chance(0.2):
            return self._recursive()
        return self._object(0) if self._chance(0.6) else self.any(0)

    def any(self, depth: int) -> dict[str, Any]:
        kinds = [self._string, self._integer, self._number, self._literal, self._plain]
        if depth < MAX_DEPTH:
            kinds += [self._object, self._object, self._array, self._array, self._union]
        return kinds[int(self._rng.integers(len(kinds)))](depth)

    def _recursive(self) -> dict[str, Any]:
        """A list or a tree of nodes."""
        node = self._object(1)
        link: dict[str, Any] = {"$ref": "#/$defs/node"}
        if self._chance(0.5):
            node["properties"]["next"] = {"anyOf": [{"type": "null"}, link]}
            node.setdefault("required", []).append("next")
        else:
            node["properties"]["children"] = {"type": "array", "items": link, "maxItems": 3}
        node["required"] = sorted(set(node.get("required", [])))
        return {"$ref": "#/$defs/node", "$defs": {"node": node}}

    def _object(self, depth: int) -> dict[str, Any]:
        names = [str(name) for name in self._rng.choice(NAMES, self._rng.integers(0, 5), replace=False)]
        schema: dict[str, Any] = {"type": "object", "properties": {name: self.any(depth + 1) for name in names}}
        required = [name for name in names if self._chance(0.6)]
        if required or self._chance(0.5):
            schema["required"] = required
        if self._chance(0.7):
            schema["additionalProperties"] = False
        elif self._chance(0.5):
            schema["additionalProperties"] = self.any(MAX_DEPTH)
        if required and self._chance(0.1):
            schema["minProperties"] = len(required)
        return schema

    def _array(self, depth: int) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "array", "items": self.any(depth + 1)}
        least = int(self._rng.integers(0, 3))
        if least:
            schema["minItems"] = least
        if self._chance(0.6):
            schema["maxItems"] = least + int(self._rng.integers(0, 3))
        if self._chance(0.2):
            schema["prefixItems"] = [self.any(depth + 1) for _ in range(self._rng.integers(1, 3))]
            if self._chance(0.5):
                schema["items"] = False
                schema.pop("minItems", None)
                schema.pop("maxItems", None)
        return schema

    def _union(self, depth: int) -> dict[str, Any]:
        return {"anyOf": [self.any(depth + 1) for _ in range(self._rng.integers(2, 4))]}

    def _string(self, depth: int) -> dict[str, Any]:
        match self._rng.integers(5):
            case 0:
                return {"type": "string", "pattern": str(self._rng.choice(PATTERNS))}
            case 1:
                return {"type": "string", "format": str(self._rng.choice(FORMATS))}
            case 2:
                least = int(self._rng.integers(0, 6))
                return {"type": "string", "minLength": least, "maxLength": least + int(self._rng.integers(0, 20))}
            case _:
                return {"type": "string"}

    def _integer(self, depth: int) -> dict[str, Any]:
        return {"type": "integer", **self._bounds(whole=True)}

    def _number(self, depth: int) -> dict[str, Any]:
        return {"type": "number", **self._bounds(whole=False)}

    def _bounds(self, *, whole: bool) -> dict[str, Any]:
        low = int(self._rng.integers(-1000, 1000))
        width = int(self._rng.integers(12, 500)) if whole else round(float(self._rng.uniform(0.5, 500)), 2)
        bounds: dict[str, Any] = {}
        if self._chance(0.5):
            bounds["minimum" if self._chance(0.7) else "exclusiveMinimum"] = low
        if self._chance(0.5):
            bounds["maximum" if self._chance(0.7) else "exclusiveMaximum"] = low + width
        if whole and self._chance(0.2):
            bounds["multipleOf"] = int(self._rng.integers(2, 11))
        return bounds

    def _literal(self, depth: int) -> dict[str, Any]:
        values = ["red", "größer", 'say "hi"', "line\nbreak", 3, -1.5, None, True, {"a": [1]}, [], "\\"]
        if self._chance(0.3):
            return {"const": values[int(self._rng.integers(len(values)))]}
        order = self._rng.permutation(len(values))[: self._rng.integers(1, 5)]
        return {"enum": [values[at] for at in order]}

    def _plain(self, depth: int) -> dict[str, Any]:
        plain = [{"type": "boolean"}, {"type": "null"}, {"type": ["string", "null"]}, {"type": ["integer", "boolean"]}]
        return dict(plain[int(self._rng.integers(len(plain)))])

    def _chance(self, share: float) -> bool:
        return bool(self._rng.random() < share)


class Held:
    """A network with a question before it; `answer` holds what it says to a schema."""

    def __init__(self, release: Release) -> None:
        self._network = Network.of(release)
        [piece] = release.renderer.prompt([EncodedMessage(role="user", parts=(Text(text="turn on the light"),))], ())
        self._prompt = Sequence(self._network.runner)
        self._prompt.append(piece.stream)
        self._prompt.hidden()

    def answer(self, number: int, *, max_tokens: int) -> dict[str, Any]:
        """One line of results. `outcome` is valid, invalid, length, or unsupported: schemas that are refused."""
        schema = random_schema(number)
        temperature = TEMPERATURES[number % len(TEMPERATURES)]
        params = SamplingParams(
            temperature=temperature,
            seed=number,
            max_tokens=max_tokens,
            document=json.dumps(schema),
            tool_choice="none",
            guidance_scale=1.0,
        )
        line: dict[str, Any] = {"schema": number, "temperature": temperature}
        started_s = time.thread_time()
        try:
            grammar = self._network.answer_grammar(params)
        except ValueError as error:
            return {**line, "outcome": "unsupported", "why": str(error)}
        compile_us = 1e6 * (time.thread_time() - started_s)
        sequence = self._prompt.fork()
        events = [event for event in write(self._network, sequence, grammar, params) if event is not None]
        text, end = "".join(event.text for event in events if isinstance(event, TextDelta)), events[-1]
        assert isinstance(end, End)
        outcome = "length" if end.reason == "length" else "valid" if is_valid(text, schema) else "invalid"
        masks_us = self._mask_costs_us(params, sequence.stream.ids[len(self._prompt) :])
        figures = {"tokens": len(masks_us), "compile_us": round(compile_us), "masks_us": round(sum(masks_us), 1)}
        figures["mask_us"] = round(statistics.median(masks_us), 1)
        return {**line, "outcome": outcome, **figures, **({"text": text} if outcome == "invalid" else {})}

    def _mask_costs_us(self, params: SamplingParams, symbols: list[int]) -> list[float]:
        """The constraint's share of each step, by doing its part again."""
        assert params.document is not None
        assert params.max_tokens is not None
        constraint, table = self._network.constraints.document(params.document), self._network.alphabet.vocabulary
        costs_us: list[float] = []
        for room, symbol in zip(range(params.max_tokens, 0, -1), filter(table.is_text, symbols), strict=False):
            started_s = time.thread_time()
            constraint.legal(room)
            constraint.push(symbol - table.text_start)
            costs_us.append(1e6 * (time.thread_time() - started_s))
        return costs_us


def is_valid(text: str, schema: dict[str, Any]) -> bool:
    """Formats are judged too, as far as jsonschema can without further packages."""
    try:
        document = json.loads(text)
    except ValueError:
        return False
    return jsonschema.Draft202012Validator(schema, format_checker=_FORMAT_CHECKER).is_valid(document)


def report(lines: list[dict[str, Any]]) -> dict[str, Any]:
    ended = [line for line in lines if "tokens" in line]
    tokens = sum(line["tokens"] for line in ended)
    outcomes = Counter(line["outcome"] for line in lines)
    complete = outcomes["valid"] + outcomes["invalid"]
    return {
        "schemas": len(lines),
        "outcomes": {name: outcomes[name] for name in ("valid", "invalid", "length", "unsupported")},
        "valid_share": round(outcomes["valid"] / complete, 6) if complete else None,
        "tokens": tokens,
        "mask_us_median": round(statistics.median(line["mask_us"] for line in ended), 1) if ended else None,
        "mask_us_mean": round(sum(line["masks_us"] for line in ended) / max(tokens, 1), 1),
        "compile_us_median": round(statistics.median(line["compile_us"] for line in ended)) if ended else None,
    }


def print_table(lines: list[dict[str, Any]]) -> None:
    print(f"\n  {'temperature':<12} {'valid':>7} {'invalid':>8} {'cut short':>10} {'refused':>8} {'tokens':>8}")
    for temperature in TEMPERATURES:
        row = [line for line in lines if line["temperature"] == temperature]
        count = Counter(line["outcome"] for line in row)
        tokens = sum(line.get("tokens", 0) for line in row)
        shown = [count["valid"], count["invalid"], count["length"], count["unsupported"], tokens]
        figures = " ".join(f"{value:{width}}" for value, width in zip(shown, (7, 8, 10, 8, 8), strict=True))
        print(f"  {temperature:<12} {figures}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=RELEASED)
    parser.add_argument("--schemas", type=int, default=10_000)
    parser.add_argument("--tokens", type=int, default=96, help="the longest answer")
    parser.add_argument("--results", type=Path, help="keeps a line for each schema here, and goes on from them")
    options = parser.parse_args()
    torch.set_num_threads(1)
    held = Held(Release.load(options.checkpoint))
    kept = options.results.read_text().splitlines() if options.results and options.results.exists() else []
    lines = [json.loads(line) for line in kept]
    done = {line["schema"] for line in lines}
    for number in range(options.schemas):
        if number not in done:
            lines.append(held.answer(number, max_tokens=options.tokens))
            if options.results:
                with options.results.open("a") as file:
                    file.write(json.dumps(lines[-1]) + "\n")
    print_table(lines)
    print(json_line({"bench": "structured", **report(lines)}))


if __name__ == "__main__":
    main()
