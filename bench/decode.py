"""Tokens a second, ours against transformers and llama.cpp at the same size, turn by turn in one run.

    python -m bench.decode [--preset nano tiny] [--checkpoint DIR] [--threads 1] [--tokens 200] [--rounds 5]
                           [--llama-cpp PYTHON]

The peers are Llamas of the same width, depth, heads and vocabulary, greedy, with their cache; their feed-forward layers
hold as many weights as ours: `generate` of transformers in float32, and llama.cpp in float32, bfloat16 and 8 bits. Ours
counts the whole way: the prompt, grammar, sampling, stream and cache; llama.cpp's prompt is not counted. A peer that
isn't installed is left out: transformers is part of `sensorium[bench]`, llama.cpp of `sensorium[llama-cpp]`, which is
built from source and may be in an environment of its own, whose interpreter is then named. Ours is measured in 8 bits,
as releases are shipped, and with the weights as they are given (random ones: bfloat16). Further rows: the plain module
with its cache, and a spoken frame (network step, depth head, codec). `cpu` is processor time: it tells more than
the clock where the machine is shared, and all contestants use `--threads` threads. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from operator import truediv
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from bench.json_line import json_line
from bench.untrained import in_8_bits, untrained
from sensorium.engine.grammar import Alphabet, State
from sensorium.engine.request import SamplingParams
from sensorium.engine.runner import Runner
from sensorium.engine.sampling import Sampler
from sensorium.engine.sequence import Sequence, Symbol
from sensorium.model.config import HEAD_DIM, ModelConfig
from sensorium.model.embed import text_inputs
from sensorium.tokenizers.audio import AudioDecoderStream
from sensorium.tokenizers.release import Release
from sensorium.tokenizers.stream import Stream

PROMPT_TOKENS = 64
LLAMA_CPP_TYPES = ("F32", "BF16", "Q8_0")
LLAMA_CPP_PEER = Path(__file__).with_name("llama_cpp_peer.py")


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
            residuals = self.runner.residuals([sequence.hidden()], choice, sampler.frame)
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


class Cost(NamedTuple):
    """Of one step."""

    wall_ms: float
    cpu_ms: float


def step_cost(function: Callable[[int], None], count: int) -> Cost:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    function(count)
    return Cost(1000 * (time.perf_counter() - wall_s) / count, 1000 * (time.process_time() - cpu_s) / count)


class Peer(NamedTuple):
    """Somebody else's network, and what a token costs it when it writes so many."""

    parameters: int
    cost: Callable[[int], Cost]


def inner_size(shape: ModelConfig) -> int:
    """Of a feed-forward layer of three matrices that holds as much as ours of two; 8 bits come in blocks of 32."""
    return 32 * round(8 * shape.hidden_size / 3 / 32)


def transformers_peer(shape: ModelConfig) -> Peer:
    """`generate` of a Llama of the same shape. Raises ImportError."""
    from transformers import LlamaConfig, LlamaForCausalLM  # pyright: ignore[reportMissingImports]

    config = LlamaConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=inner_size(shape),
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

    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    return Peer(num_parameters, lambda count: step_cost(generate, count))


@contextmanager
def llama_cpp_peers(shape: ModelConfig, python: str, threads: int) -> Iterator[dict[str, Peer]]:
    """llama.cpp in another process, by type of weights: none, and a line that says why, where it doesn't run."""
    size = {
        "layers": shape.num_layers,
        "width": shape.hidden_size,
        "heads": shape.num_heads,
        "inner": inner_size(shape),
        "vocabulary": shape.vocab_size,
        "context": shape.max_seq_len,
        "prompt": PROMPT_TOKENS,
        "threads": threads,
        "types": LLAMA_CPP_TYPES,
    }
    command = [python, str(LLAMA_CPP_PEER), json.dumps(size)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        to_peer, from_peer = process.stdin, process.stdout

        def cost(name: str, count: int) -> Cost:
            print(name, count, file=to_peer, flush=True)
            spent = json.loads(from_peer.readline())
            return Cost(1000 * spent["wall_s"] / count, 1000 * spent["cpu_s"] / count)

        def peer(name: str, parameters: int) -> Peer:
            return Peer(parameters, lambda count: cost(name, count))

        try:
            if ready := from_peer.readline():
                parameters = json.loads(ready)["parameters"]
                yield {f"llama.cpp {name}": peer(name, parameters) for name in LLAMA_CPP_TYPES}
            else:
                why = (process.stderr.read().strip().splitlines() or ["it ended"])[-1]
                print(f"llama.cpp is left out ({why}): see `python -m bench.decode --help`")
                yield {}
        finally:
            process.kill()


def measure(release: Release, *, num_tokens: int, rounds: int, llama_cpp: str = sys.executable) -> dict:
    with llama_cpp_peers(release.config.model, llama_cpp, torch.get_num_threads()) as peers:
        try:
            peers["transformers"] = transformers_peer(release.config.model)
        except ImportError:
            print("transformers is left out: pip install 'sensorium[bench]'")
        return compare(release, peers, num_tokens=num_tokens, rounds=rounds)


def compare(release: Release, peers: dict[str, Peer], *, num_tokens: int, rounds: int) -> dict:
    shipped, ours = Ours(in_8_bits(release)), Ours(release)
    contestants: dict[str, Callable[[int], Cost]] = {
        name: partial(step_cost, function)
        for name, function in {
            "engine": shipped.write,
            "engine as given": ours.write,
            "module": ours.write_with_module,
            "frame": shipped.speak,
        }.items()
    }
    contestants |= {name: peer.cost for name, peer in peers.items()}
    for cost in contestants.values():
        cost(8)
    costs: dict[str, list[Cost]] = {name: [] for name in contestants}
    for _ in range(rounds):  # turn by turn, so that whatever else the machine does falls on all alike
        for name, cost in contestants.items():
            costs[name].append(cost(num_tokens))
    result: dict = {"model": release.config.name, "parameters": release.model.num_parameters()}
    result["peer_parameters"] = {name: peer.parameters for name, peer in peers.items()}
    for figure in Cost._fields:
        values = {name: [getattr(cost, figure) for cost in rows] for name, rows in costs.items()}
        result[figure] = {name: round(statistics.median(row), 3) for name, row in values.items()}
        result[figure.replace("ms", "ratio")] = {
            name: round(statistics.median(map(truediv, values[name], values["engine"])), 2) for name in peers
        }
    return result


def print_table(result: dict) -> None:
    print(f"\n{result['model']}, {result['parameters'] / 1e6:.1f} M parameters")
    labels = {
        "engine": "engine in 8 bits, text token",
        "engine as given": "engine with weights as given, text token",
        "module": "plain module, text token",
        "frame": "engine in 8 bits, spoken frame of 80 ms",
    }
    labels |= {name: f"{name} {size / 1e6:.1f} M, text token" for name, size in result["peer_parameters"].items()}
    print(f"  {'':<42} {'wall ms':>9} {'cpu ms':>9} {'tokens/s':>9}")
    for name, wall_ms in result["wall_ms"].items():
        print(f"  {labels[name]:<42} {wall_ms:9.2f} {result['cpu_ms'][name]:9.2f} {1000 / wall_ms:9.0f}")
    for name, ratio in result["wall_ratio"].items():
        print(f"  {name} / engine: x {ratio} by the clock, x {result['cpu_ratio'][name]} by processor time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", nargs="*", default=["nano", "tiny"], choices=["nano", "tiny"])
    parser.add_argument("--checkpoint", type=Path, help="a release to measure instead of random weights")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--llama-cpp", default=sys.executable, metavar="PYTHON", help="the interpreter that has it")
    options = parser.parse_args()
    if shutil.which(options.llama_cpp) is None:
        parser.error(f"--llama-cpp: {options.llama_cpp} is no program")
    warnings.filterwarnings("ignore")
    torch.set_num_threads(options.threads)
    results = []
    for preset in options.preset if options.checkpoint is None else ["checkpoint"]:
        release = Release.load(options.checkpoint) if options.checkpoint else untrained(preset)
        shape = {"num_tokens": options.tokens, "rounds": options.rounds}
        results.append(measure(release, **shape, llama_cpp=options.llama_cpp))
        print_table(results[-1])
    print(json_line({"bench": "decode", "threads": options.threads, "results": results}))


if __name__ == "__main__":
    main()
