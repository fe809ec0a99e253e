"""Byte-level BPE: any text in, the same text out, small enough (2-8 k tokens) that tables do not swamp a small network.

Training and merging are Hugging Face `tokenizers`; what is ours is the recipe (digits apart, no word prefix space) and
a decoder that gives text as it becomes valid UTF-8.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer


class TextToken(NamedTuple):
    id: int  # 0-based; the vocabulary table shifts it
    start_char: int


class TextTokenizer:
    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        characters = {character: byte for byte, character in enumerate(_byte_characters())}
        vocabulary = tokenizer.get_vocab()
        self._bytes = [b""] * len(vocabulary)
        for token, index in vocabulary.items():
            self._bytes[index] = bytes(characters[character] for character in token)
        self._byte_ids = [vocabulary[character] for character in characters]

    @classmethod
    def train(cls, texts: Iterable[str], *, num_tokens: int) -> TextTokenizer:
        """Learns merges from `texts`; every byte is a token, so nothing is ever unknown."""
        tokenizer = Tokenizer(BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # pyright: ignore[reportAttributeAccessIssue]
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
        trainer = BpeTrainer(
            vocab_size=num_tokens, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer)

    @classmethod
    def load(cls, path: Path) -> TextTokenizer:
        return cls(Tokenizer.from_str(path.read_text("utf-8")))

    def save(self, path: Path) -> None:
        beside = path.with_suffix(".part")
        beside.write_text(json.dumps(json.loads(self._tokenizer.to_str()), ensure_ascii=False, indent=0), "utf-8")
        beside.replace(path)  # whole or not at all: a run that is killed here goes on

    @property
    def num_tokens(self) -> int:
        return len(self._bytes)

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text).ids

    def spell(self, text: str) -> list[int]:
        """The text in single bytes: no merge hides a letter."""
        return [self._byte_ids[byte] for byte in text.encode()]

    def encode_with_offsets(self, text: str) -> list[TextToken]:
        """Tokens with the character at which each begins (its leading space skipped), for word timings."""
        encoding = self._tokenizer.encode(text)
        return [
            TextToken(index, min(start + (text[start : start + 1] == " "), max(len(text) - 1, 0)))
            for index, (start, _) in zip(encoding.ids, encoding.offsets, strict=True)
        ]

    def token_bytes(self, index: int) -> bytes:
        return self._bytes[index]

    def decode(self, ids: Iterable[int]) -> str:
        return b"".join(self._bytes[index] for index in ids).decode("utf-8", errors="replace")


class TextDecoderStream:
    """Text as tokens arrive: characters split over tokens are held back until they are whole."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, index: int) -> str:
        return self._decoder.decode(self._tokenizer.token_bytes(index))

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)


def _byte_characters() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes, in byte order."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("\xa1"), ord("\xac") + 1), *range(ord("\xae"), 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]
