"""A release, ready to run: what all answers share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from sensorium.engine.codec import CompiledAudioTokenizer
from sensorium.engine.constraint import Constraints
from sensorium.engine.grammar import MAX_PARTS, Alphabet, Grammar, Rules
from sensorium.engine.request import SamplingParams
from sensorium.engine.runner import Runner
from sensorium.tokenizers.release import Release


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    release: Release
    runner: Runner
    alphabet: Alphabet
    constraints: Constraints

    @classmethod
    def of(cls, release: Release, *, cached_positions: int | None = None, threads: int = 1) -> Self:
        """`cached_positions` and `threads`: see `Runner`."""
        config = release.config
        alphabet = Alphabet(
            vocabulary=config.vocabulary,
            num_text_tokens=release.text.num_tokens,
            num_patches=config.image.num_patches,
            first_tokens=config.render.first_tokens,
        )
        runner = Runner(release.model, cached_positions=cached_positions, threads=threads)
        release = replace(release, audio_tokenizer=CompiledAudioTokenizer(release.audio_tokenizer))
        return cls(release=release, runner=runner, alphabet=alphabet, constraints=Constraints(release.text))

    def answer_grammar(self, params: SamplingParams, given: Mapping[int, np.ndarray] | None = None) -> Grammar:
        """`given` are the codes of the patches that `params.canvas` keeps.

        Takes milliseconds for a schema that was not met before. Raises ValueError for an unknown voice, and for a
        schema that cannot be kept to, a script that cannot be said, or a canvas that was not encoded.
        """
        if params.canvas is not None and given is None:
            raise ValueError("nothing is drawn on a canvas in a live conversation")
        if params.script is not None and (params.modality != "audio" or not params.script.strip()):
            raise ValueError("a script is a text that is spoken")
        script = self.release.text.encode(params.script) if params.script is not None else ()
        calls = params.tool_choice != "none" and params.functions
        rules = Rules(
            tool_choice=params.tool_choice,
            max_calls=MAX_PARTS if params.max_calls is None else params.max_calls,
            document=None if params.document is None else self.constraints.document(params.document),
            script=tuple(self.release.vocabulary.text_start + token for token in script),
            given=given or {},
            call=self.constraints.call(params.functions) if calls else None,
        )
        return Grammar.answer(self.alphabet, modality=params.modality, voice=params.voice, rules=rules)
