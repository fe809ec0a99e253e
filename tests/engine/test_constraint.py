"""Whatever a network prefers, what it writes under a schema keeps to it."""

from __future__ import annotations

import contextlib
import json
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.structured import Held, is_valid, print_table, random_schema, report
from sensorium.cli import RELEASED
from sensorium.engine.constraint import Constraint, Constraints, check_schema, of_bytes, shortest_document
from sensorium.engine.grammar import Alphabet, Grammar, Rules
from sensorium.engine.request import Function, SamplingParams
from sensorium.engine.runner import Runner
from sensorium.messages import Text
from sensorium.tokenizers import vocab
from sensorium.tokenizers.release import Release
from tests.engine.test_sequence import both, prompt

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 9}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def constraints(release: Release) -> Constraints:
    return Constraints(release.text)


def drawn(release: Release, constraint: Constraint, rng: np.random.Generator, *, max_tokens: int = 120) -> str:
    """A text of random tokens under a constraint: the worst that a network could do."""
    ids: list[int] = []
    while len(ids) < max_tokens:
        legal = np.flatnonzero(constraint.legal(max_tokens - len(ids)))
        if constraint.complete and (not len(legal) or rng.random() < 0.2):
            return release.text.decode(ids)
        ids.append(int(rng.choice(legal)))
        constraint.push(ids[-1])
    raise AssertionError(f"not complete: {release.text.decode(ids)}")


@pytest.mark.parametrize("seed", range(20))
def test_random_tokens_make_a_valid_document(release: Release, constraints: Constraints, seed: int):
    text = drawn(release, constraints.document(json.dumps(PERSON)), np.random.default_rng(seed))
    assert is_valid(text, PERSON), text


@settings(max_examples=60, deadline=None)
@given(number=st.integers(0, 2**32), seed=st.integers(0, 2**32))
def test_random_schemas_are_kept_to(number: int, seed: int):
    schema = random_schema(number)
    jsonschema.Draft202012Validator.check_schema(schema)
    constraint, rng = of_bytes().document(json.dumps(schema)), np.random.default_rng(seed)
    written = bytearray()
    while len(written) < 400:
        legal = np.flatnonzero(constraint.legal(400 - len(written)))
        if not len(legal):
            break
        written.append(int(rng.choice(legal)))
        constraint.push(written[-1])
    if constraint.complete:
        assert is_valid(written.decode(), schema), (schema, written)
    else:
        assert len(written) == 400


def test_the_shipped_network_keeps_to_schemas(tmp_path: Path):
    """`python -m bench.structured` does this ten thousand times: docs/log.md."""
    held = Held(Release.load(RELEASED))
    lines = [held.answer(number, max_tokens=96) for number in range(40)]
    assert [line for line in lines if line["outcome"] in ("invalid", "unsupported")] == []
    told = report(lines)
    assert told["outcomes"]["valid"] > 35
    assert told["valid_share"] == 1.0
    print_table(lines)


@pytest.mark.parametrize("temperature", [0.0, 1.0, 2.0])
def test_the_reference_writes_the_same_document(
    release: Release, runner: Runner, alphabet: Alphabet, constraints: Constraints, temperature: float
):
    params = SamplingParams(temperature=temperature, seed=3, top_logprobs=2, frequency_penalty=0.4)
    found = both(
        release,
        runner,
        prompt(release, Text(text="who is it")),
        (ruled(alphabet, constraints), ruled(alphabet, constraints)),
        params,
    )
    ids = [symbol.id - alphabet.vocabulary.text_start for symbol in found if alphabet.vocabulary.is_text(symbol.id)]
    assert (found[0].id, found[-1].id) == (vocab.WRITE, vocab.END)
    assert is_valid(release.text.decode(ids), PERSON)


def ruled(alphabet: Alphabet, constraints: Constraints) -> Grammar:
    rules = Rules(tool_choice="none", document=constraints.document(json.dumps(PERSON)))
    grammar = Grammar.answer(alphabet, modality="text", voice="alloy", rules=rules)
    grammar.limit(58)
    return grammar


FUNCTIONS = (
    Function(name="add", parameters=json.dumps({**PERSON, "description": "Adds."})),
    Function(name="add-all"),
)


@pytest.mark.parametrize("seed", range(10))
def test_a_call_is_of_what_is_offered(release: Release, constraints: Constraints, seed: int):
    name, _, arguments = drawn(release, constraints.call(FUNCTIONS), np.random.default_rng(seed)).partition("\n")
    assert name in ("add", "add-all")
    assert is_valid(arguments, PERSON if name == "add" else {"type": "object"}), arguments


def test_a_document_is_closed_before_its_room_ends(release: Release, constraints: Constraints):
    """The likeliest token of a network that only writes `a`, or opens what it can."""
    for schema in ({"type": "object"}, {"type": "array", "items": {"type": "string"}}):
        for favourite in (b"a", b"[", b"{", b'"', b" "):
            constraint, ids = constraints.document(json.dumps(schema)), list[int]()
            wanted = [index for index in range(release.text.num_tokens) if release.text.token_bytes(index) == favourite]
            while not constraint.complete:
                legal = constraint.legal(60 - len(ids))
                ids.append(wanted[0] if legal[wanted[0]] else int(legal.argmax()))
                constraint.push(ids[-1])
                assert len(ids) <= 60
            assert is_valid(release.text.decode(ids), schema)


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "null"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize("name", ["date", "time", "date-time"])
@pytest.mark.parametrize("type", ["string", ["string", "null"]])
def test_dates_are_days_that_there_are(release: Release, constraints: Constraints, name: str, type: Any):
    parse = {"date": date, "time": time, "date-time": datetime}[name].fromisoformat
    schema = {"type": "object", "properties": {"at": {"type": type, "format": name}}, "required": ["at"]}
    rng = np.random.default_rng(1)
    for _ in range(60):
        at = json.loads(drawn(release, constraints.document(json.dumps(schema)), rng))["at"]
        assert at is None or parse(at)
    leap, none = b'"2024-02-29"', b'"2023-02-29"'
    for day, is_one in ((leap, True), (none, False), (b'"1900-02-29"', False), (b'"2024-04-31"', False)):
        constraint = of_bytes().document('{"format": "date", "type": "string", "minLength": 3}')
        assert all(constraint.legal()[byte] and constraint.push(byte) is None for byte in day) is is_one


def test_values_and_names_are_not_taken_for_schemas():
    for schema in (
        {"const": {"format": "date", "minProperties": 3}},
        {
            "type": "object",
            "properties": {"format": {"const": "date"}, "const": {"type": "null"}},
            "required": ["format"],
        },
    ):
        assert is_valid(shortest_document(json.dumps(schema)), schema)


def test_far_from_the_end_nothing_is_tried_out(constraints: Constraints, monkeypatch: pytest.MonkeyPatch):
    """The way to the end is looked for on the thread that all answers share: not while there is plenty of room."""
    tried: list[int] = []
    shortest = Constraint.shortest
    monkeypatch.setattr(Constraint, "shortest", lambda self, most: tried.append(most) or shortest(self, most))
    constraint = constraints.document('{"type": "string"}')
    constraint.legal(1000)
    assert tried == []
    for room in range(256, 56, -1):
        index = int(np.flatnonzero(constraint.legal(room))[-1])
        constraint.push(index)
    assert 1 < len(tried) < 20
    assert max(tried) <= 256


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"not": {"type": "string"}}, "not"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
        ({"type": "string", "format": "colour"}, "colour"),
        ({"$ref": "#/$defs/nowhere"}, "nowhere"),
        ({"$ref": "http://127.0.0.1/schema"}, "127.0.0.1"),
        ({"$ref": "#"}, "no document"),
        ({"type": "integer", "minimum": 3, "maximum": 1}, "minimum"),
        ({"type": "word"}, "word"),
        ({"type": "object", "minProperties": 2}, "minProperties"),
        ({"type": "object", "properties": {"a": {"items": [{"minProperties": 1}]}}}, "minProperties"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf"),
        ({"type": "integer", "multipleOf": 999983}, "multipleOf"),
        ({"type": "number", "multipleOf": 1000.001}, "multipleOf"),
        ({"type": "object", "properties": {f"p{number}": {} for number in range(1001)}}, "1000 properties"),
        ({"type": "object", "required": [f"p{number}" for number in range(1001)]}, "1000 properties"),
        ({"type": "object", "properties": {f"p{number}": {} for number in range(900)}}, "limits"),
        ({"enum": ["a" * 70_000]}, "bytes"),
        (nested(70), "deep"),
        (nested(9000), "deep"),
        ({"not": {}, "x-guidance": {"lenient": True}}, "not"),  # our options are not the client's
    ],
)
def test_a_schema_that_cannot_be_kept_to_is_refused(schema: dict[str, Any], why: str):
    with pytest.raises(ValueError, match=why) as refused:
        check_schema(schema)
    assert "start:" not in str(refused.value)  # how we tell llguidance is not the client's business


WORDS = ["object", "string", "integer", "array", "date", "#", "#/$defs/a", "a"]


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            "type properties items enum $ref minLength pattern anyOf required format allOf multipleOf minProperties "
            "const $defs prefixItems minimum".split()
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(WORDS),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
            max_leaves=6,
        ),
    )
)
def test_any_schema_is_taken_or_refused(schema: dict[str, Any]):
    with contextlib.suppress(ValueError):
        check_schema(schema)
        of_bytes().document(json.dumps(schema)).legal()  # and is good for an answer


def test_the_shortest_document():
    assert json.loads(shortest_document(json.dumps(PERSON))) == {"name": "", "age": 0}
    assert shortest_document('{"type": "string", "format": "email"}').count("@") == 1
    with pytest.raises(ValueError, match="was found"):
        shortest_document('{"type": "string", "minLength": 9}', max_bytes=5)
