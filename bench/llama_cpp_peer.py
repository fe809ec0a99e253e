"""llama.cpp, timed from outside: writes a Llama with random weights as GGUF and decodes with it when it is told to.

    python bench/llama_cpp_peer.py '{"layers": 6, "width": 192, ..., "types": ["F32", "BF16", "Q8_0"]}'

A process of its own, since llama.cpp must be built for the machine, and need not be installed where ours is: it
imports nothing of ours and no torch. It prints one line of JSON when it is ready. Every line `TYPE TOKENS` that it then
reads asks for so many tokens behind a prompt, and is answered by the time that those took.
"""

from __future__ import annotations

import ctypes
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    import llama_cpp  # pyright: ignore[reportMissingImports]

    shape = json.loads(sys.argv[1])
    llama_cpp.llama_backend_init()
    decoders: dict[str, Callable[[int], tuple[float, float]]] = {}
    num_parameters = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in shape["types"]:
            path = Path(folder) / f"{name}.gguf"
            num_parameters = write_model(path, shape, name)
            decoders[name] = decoder(path, shape)
    print(json.dumps({"version": llama_cpp.__version__, "parameters": num_parameters}), flush=True)
    for line in sys.stdin:
        name, count = line.split()
        wall_s, cpu_s = decoders[name](int(count))
        print(json.dumps({"wall_s": wall_s, "cpu_s": cpu_s}), flush=True)


def write_model(path: Path, shape: dict[str, Any], type_name: str) -> int:
    """A Llama without a vocabulary of words: ids go in and come out. Returns its number of parameters."""
    import gguf  # pyright: ignore[reportMissingImports]

    layers, width, heads, inner = shape["layers"], shape["width"], shape["heads"], shape["inner"]
    quantization = gguf.GGMLQuantizationType[type_name]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(layers)
    writer.add_context_length(shape["context"])
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(width // heads)
    writer.add_vocab_size(shape["vocabulary"])
    writer.add_tokenizer_model("none")
    rng, num_parameters = np.random.default_rng(0), 0

    def add(name: str, *size: int) -> None:
        nonlocal num_parameters
        num_parameters += int(np.prod(size))
        if len(size) == 1:  # norms are never quantized
            writer.add_tensor(name, np.ones(size, np.float32))
        else:
            weights = gguf.quantize(rng.normal(scale=0.05, size=size).astype(np.float32), quantization)
            writer.add_tensor(name, weights, raw_dtype=quantization)

    add("token_embd.weight", shape["vocabulary"], width)
    for layer in range(layers):
        block = f"blk.{layer}"
        for name in ("attn_norm", "ffn_norm"):
            add(f"{block}.{name}.weight", width)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"{block}.{name}.weight", width, width)
        for name in ("ffn_gate", "ffn_up"):
            add(f"{block}.{name}.weight", inner, width)
        add(f"{block}.ffn_down.weight", width, inner)
    add("output_norm.weight", width)
    add("output.weight", shape["vocabulary"], width)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return num_parameters


def decoder(path: Path, shape: dict[str, Any]) -> Callable[[int], tuple[float, float]]:
    """Writes so many tokens behind a prompt, greedily, by llama.cpp's own sampler, and the seconds it took,
    by the clock and of the processor.

    The prompt is read before, token by token: with AMX, llama.cpp 0.3.36 ends in a fault where it reads several at once
    in 8 bits. That time doesn't count.
    """
    import llama_cpp  # pyright: ignore[reportMissingImports]

    silent = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
    settings = llama_cpp.llama_context_default_params()
    settings.n_ctx = shape["context"]
    settings.n_threads = settings.n_threads_batch = shape["threads"]
    context = model and llama_cpp.llama_init_from_model(model, settings)
    if not context:
        raise SystemExit(f"llama.cpp does not load {path.name}")
    greedy = llama_cpp.llama_sampler_init_greedy()
    token = (llama_cpp.llama_token * 1)()

    def read(id: int) -> None:
        token[0] = id
        if status := llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(token, 1)):
            raise SystemExit(f"llama_decode: {status}")

    def write(num_tokens: int) -> tuple[float, float]:
        assert silent  # the library calls it as long as it lives
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), False)
        for id in range(shape["prompt"]):
            read(id)
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        for _ in range(num_tokens):
            read(llama_cpp.llama_sampler_sample(greedy, context, -1))
        return time.perf_counter() - wall_s, time.process_time() - cpu_s

    return write


if __name__ == "__main__":
    main()
