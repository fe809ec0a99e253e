"""Many chats at once over HTTP: tokens a second and the wait for the first, against one chat alone.

    python -m bench.load [--clients 1 2 4 8 16 32] [--seconds 10] [--tokens 96] [--preset nano | --checkpoint DIR]

Each client streams one chat after the other: a system message that all share, a question of its own, an answer of
half to one and a half times so many tokens: were all equally long, all clients would ask at the same moment. Weights
are random, of a preset's size: they write until they are told to stop, and as fast as trained ones. The
clients run in a process of their own, on the same cores as the server. `edge` is the same with answers of one token:
what a request costs besides its tokens. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.json_line import json_line
from bench.latency import percentiles, serving
from bench.untrained import TEXT_TOKENS, untrained

SYSTEM = "you are a home assistant. you answer in few words, and never ask back."
WORDS = (
    "what is the time please tell me about a red circle two plus three in the house of my friend green light".split()
)
WARM_UP_S = 1.0


@dataclass(kw_only=True)
class Seen:
    """What the clients of one round have seen."""

    tokens: int = 0
    answers: int = 0
    ttft_ms: list[float] = field(default_factory=list)
    spent_s: float = 0.0


async def chat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, body: dict[str, Any]) -> Any:
    """One streamed answer over a kept connection, read as cheaply as can be: (tokens, ttft_ms)."""
    data = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
    start = time.perf_counter()
    writer.write(head.encode() + b"content-length: %d\r\n\r\n" % len(data) + data)
    status = await reader.readline()
    if b" 200 " not in status:
        raise SystemExit(f"{status!r}: {await reader.read(2000)!r}")
    await reader.readuntil(b"\r\n\r\n")
    ttft_ms, usage = 0.0, b""
    while (size := int(await reader.readline(), 16)) > 0:
        chunk = await reader.readexactly(size + 2)
        if not ttft_ms and b'"content":"' in chunk and b'"content":""' not in chunk:
            ttft_ms = 1000 * (time.perf_counter() - start)
        if b'"completion_tokens":' in chunk:
            usage = chunk
    await reader.readline()
    return int(usage.split(b'"completion_tokens":')[1].split(b",")[0]), ttft_ms


async def client(host: str, seed: int, seen: Seen, *, tokens: int, seconds: float) -> None:
    rng = random.Random(seed)
    reader, writer = await asyncio.open_connection(*host.split(":"))
    begun = time.perf_counter()
    while (now := time.perf_counter() - begun) < WARM_UP_S + seconds:
        question = " ".join(rng.choices(WORDS, k=rng.randint(8, 24)))
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
        length = rng.randint(tokens - tokens // 2, tokens + tokens // 2)
        body = {"model": "gpt-4o", "messages": messages, "stream": True, "max_completion_tokens": length}
        body |= {"temperature": 0.7, "seed": seed, "stream_options": {"include_usage": True}}
        count, ttft_ms = await chat(reader, writer, host, body)
        if now > WARM_UP_S:
            seen.tokens += count
            seen.answers += 1
            seen.ttft_ms += [ttft_ms] if ttft_ms else []
    writer.close()


def clients(host: str, number: int, tokens: int, seconds: float) -> Seen:
    """`number` of them at once, for so long."""
    seen = Seen()

    async def all_of_them() -> None:
        await asyncio.gather(*(client(host, seed, seen, tokens=tokens, seconds=seconds) for seed in range(number)))

    start = time.perf_counter()
    asyncio.run(all_of_them())
    seen.spent_s = time.perf_counter() - start - WARM_UP_S
    return seen


def measure(host: str, *, numbers: list[int], tokens: int, seconds: float) -> dict[int, dict[str, float]]:
    rows: dict[int, dict[str, float]] = {}
    with ProcessPoolExecutor(1) as pool:
        for number in numbers:
            seen = pool.submit(clients, host, number, tokens, seconds).result()
            rows[number] = {"tokens_per_s": round(seen.tokens / seen.spent_s, 1)}
            rows[number]["answers_per_s"] = round(seen.answers / seen.spent_s, 1)
            rows[number] |= percentiles("ttft_ms", seen.ttft_ms)
    first = rows[numbers[0]]
    for row in rows.values():
        row["speedup"] = round(row["tokens_per_s"] / first["tokens_per_s"], 2)
        row["ttft_p95_ratio"] = round(row["ttft_ms_p95"] / first["ttft_ms_p50"], 2)
    return rows


def print_table(name: str, rows: dict[int, dict[str, float]]) -> None:
    print(f"\n{name}")
    print(
        f"  {'clients':>8} {'tokens/s':>9} {'answers/s':>10} {'x one':>6} {'ttft p50':>9} {'p95':>7} {'p95 x idle':>11}"
    )
    for number, row in rows.items():
        print(
            f"  {number:8} {row['tokens_per_s']:9.0f} {row['answers_per_s']:10.1f} {row['speedup']:6.2f}"
            f" {row['ttft_ms_p50']:9.1f} {row['ttft_ms_p95']:7.1f} {row['ttft_p95_ratio']:11.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--tokens", type=int, default=96, help="of an answer, on average")
    parser.add_argument("--preset", choices=list(TEXT_TOKENS), default="nano", help="a size, with random weights")
    parser.add_argument("--checkpoint", type=Path, help="a release to measure instead")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = options.checkpoint or Path(folder)
        if options.checkpoint is None:
            untrained(options.preset).save(checkpoint, int8=True)  # as one is shipped
        with serving(checkpoint, threads=options.threads) as host:
            shape = {"numbers": options.clients, "seconds": options.seconds}
            long, edge = (measure(host, tokens=tokens, **shape) for tokens in (options.tokens, 1))
    print_table(f"answers of about {options.tokens} tokens", long)
    print_table("answers of one token (edge)", edge)
    name = str(options.checkpoint or options.preset)
    print(json_line({"bench": "load", "model": name, "threads": options.threads, "answers": long, "edge": edge}))


if __name__ == "__main__":
    main()
