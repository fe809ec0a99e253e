"""Tokens a second, ours against `generate` of a transformers model of the same size, turn by turn in one run.

    python -m bench.decode [--preset nano tiny] [--checkpoint DIR] [--threads 1] [--tokens 200] [--rounds 5]

The peer is a LlamaForCausalLM of the same width, depth, heads and vocabulary, float32, greedy, with its cache; its
feed-forward layers hold as many weights as ours. Ours counts the whole way: grammar, sampling, stream and cache.
Without `pip install transformers` only ours is measured. Further rows: the plain module with its cache, and a spoken
frame (network step, depth head, codec). `cpu` is processor time: it tells more than the clock where the machine is
shared, and both contestants use `--threads` threads. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from bench.untrained import load_release
from sensorium.engine.grammar import Alphabet, State
from sensorium.engine.request import SamplingParams
from sensorium.engine.runner import Runner
from sensorium.engine.sampling import Sampler
from sensorium.engine.sequence import Sequence, Symbol
from sensorium.model.config import HEAD_DIM
from sensorium.model.embed import text_inputs
from sensorium.tokenizers.audio import AudioDecoderStream
from sensorium.tokenizers.release import Release
from sensorium.tokenizers.stream import Stream

PROMPT_TOKENS = 64


class Ours:
    def __init__(self, release: Release) -> None:
        self.release = release
        self.runner = Runner(release.model)
        self.alphabet = Alphabet(
            vocabulary=release.vocabulary,
            num_text_tokens=release.text.num_tokens,
            num_patches=release.config.image.num_patches,
            first_tokens=release.config.render.first_tokens,
        )

    def prompt(self) -> Sequence:
        stream = Stream()
        start = self.release.vocabulary.text_start
        stream.add_all([start + index for index in range(PROMPT_TOKENS)])
        sequence = Sequence(self.runner)
        sequence.append(stream)
        return sequence

    def write(self, num_tokens: int) -> None:
        """The loop of `Sequence.generate`, with nothing but text legal, so that it does not end early."""
        sequence, sampler = self.prompt(), Sampler(SamplingParams())
        for _ in range(num_tokens):
            choice = sampler.symbol(sequence.logits(), self.alphabet.spans(text=True))
            sequence.append_symbol(Symbol(choice, State.WRITE, None, None))

    def speak(self, num_frames: int) -> None:
        sequence, sampler = self.prompt(), Sampler(SamplingParams())
        sound = AudioDecoderStream(self.release.audio_tokenizer)
        start = self.release.vocabulary.audio_start
        for _ in range(num_frames):
            choice = sampler.symbol(sequence.logits(), self.alphabet.spans(audio=True))
            residuals = self.runner.residuals([sequence.hidden()], choice, sampler.frame_code)
            assert residuals is not None
            sequence.append_symbol(Symbol(choice, State.SPEAK, residuals, None))
            sound.push(torch.from_numpy(np.concatenate(([choice - start], residuals))).unsqueeze(0))

    @torch.inference_mode()
    def write_with_module(self, num_tokens: int) -> None:
        """The network as training sees it, with its cache."""
        model = self.release.model
        cache = model.new_cache()
        ids = torch.arange(PROMPT_TOKENS).unsqueeze(0) + self.release.vocabulary.text_start
        for _ in range(num_tokens):
            hidden = model(text_inputs(ids, model.config), cache)
            ids = model.symbol_head(hidden[:, -1:]).argmax(dim=-1)


def peer(release: Release) -> tuple[Callable[[int], None], int] | None:
    """`generate` of a Llama of the same shape, and its number of parameters."""
    try:
        from transformers import LlamaConfig, LlamaForCausalLM  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    shape = release.config.model
    config = LlamaConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=8 * shape.hidden_size // 3,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_heads,
        head_dim=HEAD_DIM,
        max_position_embeddings=shape.max_seq_len,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config).eval()
    ids = torch.arange(PROMPT_TOKENS).unsqueeze(0)

    def generate(num_tokens: int) -> None:
        with torch.inference_mode():
            model.generate(  # pyright: ignore[reportAttributeAccessIssue]
                ids,
                do_sample=False,
                min_new_tokens=num_tokens,
                max_new_tokens=num_tokens,
                use_cache=True,
                pad_token_id=0,
            )

    return generate, sum(parameter.numel() for parameter in model.parameters())


class Cost(NamedTuple):
    """Of one step."""

    wall_ms: float
    cpu_ms: float


def step_cost(function: Callable[[int], None], count: int) -> Cost:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    function(count)
    return Cost(1000 * (time.perf_counter() - wall_s) / count, 1000 * (time.process_time() - cpu_s) / count)


def measure(release: Release, *, num_tokens: int, rounds: int) -> dict:
    ours, other = Ours(release), peer(release)
    contestants = {"engine": ours.write, "module": ours.write_with_module, "frame": ours.speak}
    if other:
        contestants["transformers"] = other[0]
    for function in contestants.values():
        function(8)
    costs: dict[str, list[Cost]] = {name: [] for name in contestants}
    for _ in range(rounds):  # turn by turn, so that whatever else the machine does falls on all alike
        for name, function in contestants.items():
            costs[name].append(step_cost(function, num_tokens))
    result: dict = {"model": release.config.name, "parameters": release.model.num_parameters()}
    for figure in Cost._fields:
        values = {name: [getattr(cost, figure) for cost in rows] for name, rows in costs.items()}
        result[figure] = {name: round(statistics.median(row), 3) for name, row in values.items()}
        if other:
            ratios = [theirs / ours for theirs, ours in zip(values["transformers"], values["engine"], strict=True)]
            result[figure.replace("ms", "ratio")] = round(statistics.median(ratios), 2)
    if other:
        result["transformers_parameters"] = other[1]
    return result


def print_table(result: dict) -> None:
    print(f"\n{result['model']}, {result['parameters'] / 1e6:.1f} M parameters")
    labels = {
        "engine": "engine, text token",
        "module": "plain module, text token",
        "frame": "engine, spoken frame of 80 ms",
        "transformers": f"transformers {result.get('transformers_parameters', 0) / 1e6:.1f} M, text token",
    }
    print(f"  {'':<36} {'wall ms':>9} {'cpu ms':>9} {'tokens/s':>9}")
    for name, wall_ms in result["wall_ms"].items():
        print(f"  {labels[name]:<36} {wall_ms:9.2f} {result['cpu_ms'][name]:9.2f} {1000 / wall_ms:9.0f}")
    if "wall_ratio" in result:
        print(
            f"  transformers / engine: x {result['wall_ratio']} by the clock, x {result['cpu_ratio']} by processor time"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", nargs="*", default=["nano", "tiny"], choices=["nano", "tiny"])
    parser.add_argument("--checkpoint", type=Path, help="a release to measure instead of random weights")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(options.threads)
    results = []
    for preset in options.preset if options.checkpoint is None else ["checkpoint"]:
        release = load_release(options.checkpoint, preset)
        results.append(measure(release, num_tokens=options.tokens, rounds=options.rounds))
        print_table(results[-1])
    print(json.dumps({"bench": "decode", "threads": options.threads, "results": results}))


if __name__ == "__main__":
    main()
