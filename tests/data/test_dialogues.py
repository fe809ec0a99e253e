import json
import re

import numpy as np
import pytest

from sensorium.data.generators.dialogues import (
    SKILLS,
    a,
    exchange,
    free_words,
    is_heldout,
    number_of,
    sentence,
    typed,
)
from sensorium.data.generators.tools import CANNOT, tool_exchange
from sensorium.data.generators.world import TO_TWENTY

SPOKEN = re.compile(r"[a-z']+( [a-z']+)*")


@pytest.mark.parametrize("skill", SKILLS)
@pytest.mark.parametrize("split", ["train", "heldout"])
def test_exchanges_are_plain_words_of_their_split(skill, split):
    rng = np.random.default_rng(0)
    for _ in range(100):
        turn = exchange(rng, skill, split=split)
        assert turn.skill == skill
        assert SPOKEN.fullmatch(turn.question)
        assert SPOKEN.fullmatch(turn.answer)
        assert is_heldout(turn.question) == (split == "heldout")
        if turn.tool_call is not None:
            assert isinstance(json.loads(turn.tool_call.arguments), dict)
            assert ", " not in turn.tool_call.arguments
            assert ": " not in turn.tool_call.arguments


@pytest.mark.parametrize("skill", sorted(set(SKILLS) - {"repeat"}))
def test_a_question_has_one_answer(skill):
    rng = np.random.default_rng(1)
    answers = {}
    for _ in range(3000):
        turn = exchange(rng, skill, split="train")
        assert answers.setdefault(turn.question, turn.answer) == turn.answer


def test_sums_are_right():
    rng = np.random.default_rng(2)
    seen = set()
    for _ in range(3000):
        fact, result = exchange(rng, "sum", split="train").answer.split(" is ")
        first, sign, second = fact.split()
        values = [TO_TWENTY.index(first), TO_TWENTY.index(second)]
        assert TO_TWENTY.index(result) == (sum(values) if sign == "plus" else values[0] - values[1])
        seen.add(fact)
    assert len(seen) == 100 + 55


def test_comparisons_and_counting_are_right():
    rng = np.random.default_rng(3)
    for _ in range(500):
        words = exchange(rng, "bigger", split="train").answer.split()
        winner, _, more, _, loser = [word for word in words if word not in ("a", "an")]
        if more in ("more", "less"):
            assert (TO_TWENTY.index(winner) > TO_TWENTY.index(loser)) == (more == "more")
        numbers = [TO_TWENTY.index(word) for word in exchange(rng, "count", split="train").answer.split()]
        step = numbers[1] - numbers[0]
        assert abs(step) == 1
        assert numbers == list(range(numbers[0], numbers[-1] + step, step))


def test_unknown_skill_is_an_error():
    with pytest.raises(ValueError, match="unknown skill"):
        exchange(np.random.default_rng(0), "juggling", split="train")


def test_the_domain_is_closed():
    words = set(free_words())
    assert 350 < len(words) < 450
    rng = np.random.default_rng(4)
    for split in ("train", "heldout"):
        for _ in range(1000):
            said = sentence(rng, split)
            assert is_heldout(said) == (split == "heldout")
            assert {word for word in said.split() if len(word) > 1} <= words


def test_typed_forms_keep_the_meaning():
    rng = np.random.default_rng(5)
    forms = {typed("what is three plus four", rng) for _ in range(200)}
    assert {"What is 3 + 4?", "what is three plus four", "What is three plus four?"} <= forms
    assert "Set the heating to 21 degrees." in {typed("set the heating to twenty one degrees", rng) for _ in range(200)}
    assert "What is the capital of France?" in {typed("what is the capital of france", rng) for _ in range(50)}
    assert "What color is a pea?" in {typed("what colour is a pea", rng) for _ in range(100)}
    assert any("50%" in typed("dim the lamp to fifty percent", rng) for _ in range(20))
    assert "Pentagon" in {typed("pentagon", rng) for _ in range(20)}


def test_numbers_and_articles():
    assert [number_of(words) for words in ("zero", "twelve", "twenty one", "ninety")] == [0, 12, 21, 90]
    assert a("cow") == "a cow"
    assert a("elephant") == "an elephant"


def test_tool_calls_name_what_is_offered():
    rng = np.random.default_rng(6)
    called, told, refused, other = 0, 0, 0, 0
    for _ in range(1000):
        offer = tool_exchange(rng, "train")
        head, *lines = offer.system.split("\n")
        functions = {function["name"]: function for function in map(json.loads, lines)}
        assert head == "tools:"
        assert 1 <= len(functions) == len(lines) <= 3
        tool_call = offer.exchange.tool_call
        if tool_call is not None:
            parameters = functions[tool_call.name]["parameters"]
            arguments = json.loads(tool_call.arguments)
            assert list(arguments) == parameters["required"]
            for name, value in arguments.items():
                assert isinstance(value, int) == (parameters["properties"][name]["type"] == "integer")
            called += 1
            told += offer.result is not None
        else:
            assert offer.result is None
            refused += offer.exchange.answer == CANNOT
            other += offer.exchange.answer != CANNOT
    assert 650 < called < 850
    assert 200 < told < 400
    assert refused > 50
    assert other > 80
