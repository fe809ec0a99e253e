"""Pictures over HTTP: how long until the first part of one is there, and until it is whole.

    python -m bench.images [--checkpoint DIR] [--threads 1] [--requests 20]

Starts `sensorium serve` in a process of its own and asks it for one picture at a time, streamed with three partial
pictures, counted from the request's last byte: at the network's own size and at 1024 x 1024, guided (medium quality)
and not (low), signed as by default. The last line is JSON.
"""

from __future__ import annotations

import argparse
import http.client
import json
import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from bench.json_line import json_line
from bench.latency import SHIPPED, percentiles, serving

WARM_UP = 2  # requests that are not counted
NATIVE = "64x64"
PROMPTS = ("a big red square", "a small yellow circle", "a green triangle above a blue square", "a star")


class Drawn(NamedTuple):
    first_ms: float  # until the first partial picture
    whole_ms: float
    num_bytes: int  # of the whole one's base64


def ask(connection: http.client.HTTPConnection, prompt: str, *, size: str, quality: str) -> Drawn:
    body = {"model": "gpt-image-1", "prompt": prompt, "size": size, "quality": quality}
    body |= {"stream": True, "partial_images": 3}
    connection.request("POST", "/v1/images/generations", json.dumps(body), {"content-type": "application/json"})
    start = time.perf_counter()  # the last byte is on its way
    response = connection.getresponse()
    if response.status != 200:
        raise SystemExit(f"{response.status}: {response.read().decode()}")
    first_ms = whole_ms = float("nan")
    num_bytes = 0
    for line in response:
        if not line.startswith(b"data: {"):
            continue
        elapsed_ms = 1000 * (time.perf_counter() - start)
        event = json.loads(line[6:])
        if event["type"] == "image_generation.completed":
            whole_ms, num_bytes = elapsed_ms, len(event["b64_json"])
        elif first_ms != first_ms:
            first_ms = elapsed_ms
    return Drawn(first_ms, whole_ms, num_bytes)


def measure(address: str, *, num_requests: int) -> dict[str, dict[str, float]]:
    rows: dict[str, dict[str, float]] = {}
    with closing(http.client.HTTPConnection(address, timeout=120)) as connection:
        for size, quality in ((NATIVE, "medium"), (NATIVE, "low"), ("1024x1024", "medium")):
            drawn = [
                ask(connection, PROMPTS[number % len(PROMPTS)], size=size, quality=quality)
                for number in range(WARM_UP + num_requests)
            ][WARM_UP:]
            rows[f"{size} {quality}"] = {
                **percentiles("first_ms", [each.first_ms for each in drawn]),
                **percentiles("whole_ms", [each.whole_ms for each in drawn]),
                **percentiles("bytes", [each.num_bytes for each in drawn]),
            }
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED, help="the release to measure")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--requests", type=int, default=20)
    options = parser.parse_args()
    with serving(options.checkpoint, threads=options.threads) as address:
        rows = measure(address, num_requests=options.requests)
    figures = ("first_ms_p50", "first_ms_p95", "whole_ms_p50", "whole_ms_p95", "bytes_p50")
    print(f"\n{options.checkpoint}: one picture at a time over HTTP")
    print(f"  {'':<20}" + "".join(f"{figure:>14}" for figure in figures))
    for label, row in rows.items():
        print(f"  {label:<20}" + "".join(f"{row[figure]:14.1f}" for figure in figures))
    print(json_line({"bench": "images", "model": str(options.checkpoint), "threads": options.threads, "results": rows}))


if __name__ == "__main__":
    main()
