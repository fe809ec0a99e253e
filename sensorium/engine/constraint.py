"""Text that keeps to a JSON Schema: which text tokens may come next, by llguidance.

llguidance derives a grammar from the schema, and walks a trie of the tokenizer's bytes to tell which may follow
(in Rust, in some ten microseconds). Here are its use with our byte-level BPE, what a call looks like, and the way in
which a document that runs out of room is closed.
"""

from __future__ import annotations

import copy
import json
import re
import string
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any, Protocol, Self

import numpy as np
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from sensorium.engine.request import Function

# One space at most between the tokens of JSON: unbounded whitespace is where a hot sampler never ends.
_COMPILE_OPTIONS = {"whitespace_pattern": " ?", "lenient": False, "coerce_one_of": False}
# Bounds of what a schema costs to compile: at these about a second of one core (5,000 properties took 19 s).
MAX_SCHEMA_BYTES = 64 * 1024
MAX_PROPERTIES = 1000
MAX_DEPTH = 64
MAX_MULTIPLE_OF = 1000  # above the fraction line: a number is told from no multiple by remembering the remainder
_FIRST_TOKENS = 32  # written to see whether llguidance can go on
_MAX_PARSED = 64  # grammars kept: clients send the same schema again and again
_RESERVE_TOKENS = 16  # a text is closed when the room left is what that takes, what a whole new one takes, and so much,
_RESERVE_SHARE = 0.25  # but not before the last part of its room
_LOOK_TOKENS = 256  # with more room than this nobody looks for the way to the end: that takes time of other answers
_PATIENCE = 4  # each token may make the way to the end longer by so much; if not, it is measured again later
# A text is brought to its end by the first of these sets of bytes of which one may come. The two orders take turns:
# what one would repeat for ever (zeros behind a point, letters before an @) the other leaves.
_LETTERS = string.digits.encode() + string.ascii_letters.encode()
_MARKS = bytes(byte for byte in range(0x20, 0x7F) if byte not in _LETTERS + b'"\\')
_CLOSING = (
    (b"}]", b",:", b"n", b"0123456789", b"tf", b"-", b'"', b"[", b"{"),
    (b"}]", b",:", b"n", b"0", b"123456789", b"tf", b"-", b'"', b"[", b"{"),
)
_CLOSING_STRING = ((b'"', _LETTERS, _MARKS), (b'"', b"@.:-/", _MARKS, _LETTERS))
_NAMED = frozenset(("properties", "patternProperties", "$defs", "definitions"))  # keywords that hold schemas by name,
_VALUES = frozenset(("const", "enum", "default", "examples"))  # and those that hold values
_DATE = (
    "[1-9][0-9]{3}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)"
    "|02-(0[1-9]|1[0-9]|2[0-8]))|[1-9][0-9](0[48]|[2468][048]|[13579][26])-02-29"
)
_TIME = r"([01][0-9]|2[0-3])(:[0-5][0-9]){2}([.][0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
_DATES = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"({_DATE})T{_TIME}",
}  # RFC 3339, but for leap seconds and years < 1000
_UNRANKED, _ILLEGAL = 100, 101
_SCATTER = 0x9E3779B1  # Knuth's multiplicative hash
_QUOTE, _BACKSLASH = b'"\\'


class Tokens(Protocol):
    """What this module needs of a text tokenizer."""

    @property
    def num_tokens(self) -> int: ...

    def token_bytes(self, index: int) -> bytes: ...

    def encode(self, text: str) -> list[int]: ...


class Bytes:
    """The plainest tokenizer: a token is a byte."""

    num_tokens = 256

    def token_bytes(self, index: int) -> bytes:
        return bytes((index,))

    def encode(self, text: str) -> list[int]:
        return list(text.encode())


class TokenTable:
    """What the tokens of one tokenizer are to a constraint."""

    def __init__(self, text: Tokens) -> None:
        self.bytes = [text.token_bytes(index) for index in range(text.num_tokens)]
        self.outside = self._ranks(_CLOSING)  # (2, N) of strings
        self.inside = self._ranks(_CLOSING_STRING)  # (2, N)

    def _ranks(self, orders: Sequence[Sequence[bytes]]) -> np.ndarray:
        return np.array([[_rank(token, order) for token in self.bytes] for order in orders])


class Constraint:
    """What the text of one part must keep to. `legal` says what may come, `push` what came.

    Raises RuntimeError where llguidance gives up on a grammar (its limits on time and memory).
    """

    def __init__(self, matcher: LLMatcher, table: TokenTable) -> None:
        self._matcher = matcher
        self._table = table
        self._num_tokens = 0
        self._in_string = False
        self._escaped = False
        self._closing = False
        self._reserve: int | None = None  # tokens; known with the room that there is
        self._unhurried = 0  # so many more tokens may come before the room left is looked at again

    def fresh(self) -> Self:
        """A twin that goes its own way."""
        twin = copy.copy(self)
        twin._matcher = self._matcher.deep_copy()
        return twin

    @property
    def complete(self) -> bool:
        """The text may end here."""
        return self._matcher.is_accepting()

    def legal(self, room: int | None = None) -> np.ndarray:
        """(N,) bool of the text tokens. If there is room for so many only, a short way to the end is taken in time."""
        legal = self._mask()
        if room is not None and not self._closing:
            self._closing = self._is_short(room)
        return self._closer(legal) if self._closing else legal

    def push(self, index: int) -> None:
        if not self._matcher.consume_token(index):
            raise RuntimeError(f"a token broke its constraint: {self._matcher.get_error()}")
        self._num_tokens += 1
        for byte in self._table.bytes[index]:
            if self._escaped:
                self._escaped = False
            elif byte == _QUOTE:
                self._in_string = not self._in_string
            else:
                self._escaped = self._in_string and byte == _BACKSLASH

    def shortest(self, max_tokens: int) -> list[int] | None:
        """Tokens that bring the text to its end by a short way; None if that takes more than `max_tokens`."""
        twin, tokens = self.fresh(), list[int]()
        while not twin.complete:
            if len(tokens) == max_tokens:
                return None
            tokens.append(int(twin._closer(twin._mask()).argmax()))
            twin.push(tokens[-1])
        return tokens

    def _mask(self) -> np.ndarray:
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        legal = np.unpackbits(bits, count=len(self._table.bytes), bitorder="little").view(bool)
        if self._matcher.is_error() or not (self.complete or legal.any()):
            raise RuntimeError(f"a constraint leaves nothing to write: {self._matcher.get_error()}")
        return legal

    def _closer(self, legal: np.ndarray) -> np.ndarray:
        """The one token to take next on a short way to the end. Where several would do, a scattered one, the same each
        time: digits in any simple order might never come to a multiple of three."""
        only = np.zeros_like(legal)
        if self.complete:
            return only
        if forced := self._matcher.compute_ff_bytes():
            tokens = self._table.bytes
            ahead = [index for index in np.flatnonzero(legal) if forced.startswith(tokens[index])]
            only[max(ahead, key=lambda index: len(tokens[index]))] = True
        else:
            orders = self._table.inside if self._in_string else self._table.outside
            ranks = np.where(legal, orders[self._num_tokens % 2], _ILLEGAL)
            best = np.flatnonzero(ranks == ranks.min())
            only[best[(self._num_tokens * _SCATTER >> 16) % len(best)]] = True
        return only

    def _is_short(self, room: int) -> bool:
        if room > _LOOK_TOKENS:
            return False
        if self._unhurried > 0:
            self._unhurried -= 1
            return False
        if self._reserve is None:
            self._reserve = min(_RESERVE_TOKENS + len(self.shortest(room) or ()), int(_RESERVE_SHARE * room))
        end = self.shortest(max(room - self._reserve, 0))
        if end is None:
            return True
        self._unhurried = (room - self._reserve - len(end)) // _PATIENCE
        return self._unhurried == 0


class Constraints:
    """Makes constraints for the tokens of one tokenizer."""

    def __init__(self, text: Tokens) -> None:
        self._tokenizer = _trie(text)
        self._table = TokenTable(text)
        self._parsed = lru_cache(maxsize=_MAX_PARSED)(self._parse)

    def document(self, schema: str) -> Constraint:
        """One JSON document. Raises ValueError for a schema that cannot be kept to, with the reason."""
        return self._parsed(_document_grammar, schema).fresh()

    def call(self, functions: tuple[Function, ...]) -> Constraint:
        """A function's name, a newline, its arguments. Raises ValueError as `document` does."""
        return self._parsed(_call_grammar, functions).fresh()

    def _parse(self, grammar: Callable[[Any], str], what: Any) -> Constraint:
        matcher = LLMatcher(self._tokenizer, grammar(what), log_level=0)
        if matcher.is_error():
            raise ValueError(_reason(matcher.get_error()))
        return Constraint(matcher, self._table)


@cache
def of_bytes() -> Constraints:
    """Constraints for text byte by byte, where no network's tokenizer is at hand."""
    return Constraints(Bytes())


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raises ValueError, with the reason, for a schema that an answer could not be held to. Takes milliseconds."""
    try:
        constraint = of_bytes().document(json.dumps(schema))
    except RecursionError:
        raise ValueError(f"a schema may be nested {MAX_DEPTH} deep") from None
    try:
        constraint.shortest(_FIRST_TOKENS)
    except RuntimeError:
        raise ValueError("no document keeps to this schema, or llguidance's limits are too tight for it") from None


def shortest_document(schema: str, *, max_bytes: int = 4096) -> str:
    """A short JSON document that keeps to a schema. Raises ValueError if none is found in so many bytes."""
    found = of_bytes().document(schema).shortest(max_bytes)
    if found is None:
        raise ValueError(f"no document of up to {max_bytes} bytes was found for this schema")
    return bytes(found).decode()


def _document_grammar(schema: str) -> str:
    return f"start: %json {_with_options(schema)}"


def _call_grammar(functions: Sequence[Function]) -> str:
    """Lark's syntax, as llguidance extends it."""
    rules = [
        f"call{number}: {json.dumps(function.name + chr(10))} %json {_with_options(function.parameters)}"
        for number, function in enumerate(functions)
    ]
    start = " | ".join(f"call{number}" for number in range(len(functions)))
    return "\n".join((f"start: {start}", *rules))


def _with_options(schema: str) -> str:
    """The schema with our options, whatever options of llguidance it came with."""
    if len(schema) > MAX_SCHEMA_BYTES:
        raise ValueError(f"a schema may have {MAX_SCHEMA_BYTES} bytes")
    parsed = json.loads(schema)
    if not isinstance(parsed, dict):
        raise ValueError("a schema is an object")
    if _num_properties(parsed) > MAX_PROPERTIES:
        raise ValueError(f"a schema may have {MAX_PROPERTIES} properties")
    return json.dumps({**_narrowed(parsed), "x-guidance": _COMPILE_OPTIONS})


def _num_properties(schema: Any) -> int:
    if isinstance(schema, list):
        return sum(map(_num_properties, schema))
    if not isinstance(schema, dict):
        return 0
    own = sum(len(schema[key]) for key in ("properties", "required") if isinstance(schema.get(key), dict | list))
    return own + sum(map(_num_properties, schema.values()))


def _narrowed(schema: Any, depth: int = 0) -> Any:
    """A schema of which llguidance keeps what it says. Raises ValueError if there is none.

    llguidance counts the keys that are written. A key written twice is read once, so that a lower bound on keys holds
    only where that many are required by name. Its dates may be the 29th of February of any year, and in the year 0.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"a schema may be nested {MAX_DEPTH} deep")
    if isinstance(schema, list):
        return [_narrowed(item, depth + 1) for item in schema]
    if not isinstance(schema, dict):
        return schema
    least, required = schema.get("minProperties"), schema.get("required")
    if isinstance(least, int) and least > (len(required) if isinstance(required, list) else 0):
        raise ValueError("minProperties is supported only up to the number of required properties")
    factor = schema.get("multipleOf")
    if isinstance(factor, int | float) and abs(Fraction(str(factor)).numerator) > MAX_MULTIPLE_OF:
        raise ValueError(f"multipleOf is supported up to {MAX_MULTIPLE_OF}")
    narrow: dict[str, Any] = {}
    for key, item in schema.items():
        if key in _NAMED and isinstance(item, dict):
            narrow[key] = {name: _narrowed(inner, depth + 1) for name, inner in item.items()}
        else:
            narrow[key] = item if key in _VALUES else _narrowed(item, depth + 1)
    pattern = _DATES.get(schema["format"]) if isinstance(schema.get("format"), str) else None
    others = narrow.get("allOf", [])
    if pattern is None or not isinstance(others, list):
        return narrow
    return {**narrow, "allOf": [*others, {"pattern": f"^({pattern})$"}]}


def _reason(error: str) -> str:
    """llguidance's message without the place in our grammar, and without what it prints of that."""
    return re.sub(r"^at \d+\(\d+\): failed to compile JSON schema: |\n *\d* \|.*", "", error, flags=re.S)[:500].strip()


def _trie(text: Tokens) -> LLTokenizer:
    """All text tokens, and one symbol behind them for the end, which llguidance wants and nobody draws."""

    class Described:
        eos_token_id = text.num_tokens
        bos_token_id = None
        tokens = [*(text.token_bytes(index) for index in range(text.num_tokens)), b"<|end|>"]  # noqa: RUF012
        special_token_ids = [text.num_tokens]  # noqa: RUF012

        def __call__(self, written: bytes | str) -> list[int]:
            return text.encode(written.decode(errors="replace") if isinstance(written, bytes) else written)

    return LLTokenizer(TokenizerWrapper(Described()), n_vocab=text.num_tokens + 1)


def _rank(token: bytes, order: Sequence[bytes]) -> int:
    ranks = [rank for rank, ones in enumerate(order) if len(token) == 1 and token in ones]
    return ranks[0] if ranks else _UNRANKED
