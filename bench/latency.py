"""First text token and first sound over HTTP, counted from the request's last byte.

    python -m bench.latency [--checkpoint DIR] [--preset tiny] [--threads 1] [--requests 30]

Starts `sensorium serve` in a process of its own and asks it one request at a time: typed and spoken questions and a
picture, answered in text or in speech. ttft_ms is the first delta with text (of a spoken answer: its transcript),
ttfa_ms the first with sound. It measures the shipped weights, another release with --checkpoint, or random weights of a
size with --preset (of which the transcript of a spoken question runs as long as it may). The last line is JSON.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from bench.json_line import json_line
from bench.untrained import untrained

START_TIMEOUT_S = 180
SHIPPED = Path("sensorium/checkpoints/tiny")
MEDIA = Path("docs/media")
MAX_TOKENS = 16
WARM_UP = 2  # requests that are not counted


@contextmanager
def serving(checkpoint: Path, *, threads: int, config: Path | None = None) -> Iterator[str]:
    """`host:port` of a server that is ready. `config` are its settings, in TOML."""
    command = [sys.executable, "-m", "sensorium.cli", "serve", "--port", "0", "--checkpoint", str(checkpoint)]
    command += ["--config", str(config)] if config is not None else []
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}  # its log is not for this table
    with subprocess.Popen([*command, "--threads", str(threads)], **options) as process:
        assert process.stdout is not None
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                line = process.stdout.readline()
                if not line:
                    break
                if " is ready at http://" in line:
                    yield line.split("http://")[1].split()[0]
                    return
            raise SystemExit(f"the server did not start: {' '.join(command)}")
        finally:
            process.terminate()


def questions() -> dict[str, Any]:
    """Names and content of user messages."""
    clip, picture = (base64.b64encode((MEDIA / name).read_bytes()).decode() for name in ("question.wav", "scene.png"))
    sound = {"data": clip, "format": "wav"}
    url = "data:image/png;base64," + picture
    return {
        "typed": "what is two plus three",
        "spoken": [{"type": "input_audio", "input_audio": sound}],
        "picture": [
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "text", "text": "what is in the picture"},
        ],
    }


def clip_s() -> float:
    return soundfile.info(MEDIA / "question.wav").duration


def ask(connection: http.client.HTTPConnection, content: Any, *, speech: bool) -> tuple[float | None, float | None]:
    """ttft_ms and ttfa_ms of one streamed answer."""
    body: dict[str, Any] = {"messages": [{"role": "user", "content": content}], "max_completion_tokens": MAX_TOKENS}
    body |= {"model": "gpt-4o", "stream": True, "temperature": 0, "seed": 1}
    if speech:
        body |= {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "pcm16"}}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
    start = time.perf_counter()  # the last byte is on its way
    response = connection.getresponse()
    if response.status != 200:
        raise SystemExit(f"{response.status}: {response.read().decode()}")
    ttft_ms = ttfa_ms = None
    for line in response:
        if not line.startswith(b"data: {"):
            continue
        elapsed_ms = 1000 * (time.perf_counter() - start)
        choices = json.loads(line[6:])["choices"]
        delta = choices[0]["delta"] if choices else {}
        audio = delta.get("audio") or {}
        if ttft_ms is None and (delta.get("content") or audio.get("transcript")):
            ttft_ms = elapsed_ms
        if ttfa_ms is None and audio.get("data"):
            ttfa_ms = elapsed_ms
    return ttft_ms, ttfa_ms


def measure(address: str, *, num_requests: int) -> dict[str, dict[str, float]]:
    rows: dict[str, dict[str, float]] = {}
    with closing(http.client.HTTPConnection(address, timeout=60)) as connection:
        for name, content in questions().items():
            for speech in (False, True):
                answers = [ask(connection, content, speech=speech) for _ in range(WARM_UP + num_requests)][WARM_UP:]
                label = f"{name} -> {'speech' if speech else 'text'}"
                rows[label] = {}
                for figure, values in zip(("ttft_ms", "ttfa_ms"), zip(*answers, strict=True), strict=True):
                    rows[label] |= percentiles(figure, [value for value in values if value is not None])
    return rows


def percentiles(figure: str, values: Sequence[float], shares: Sequence[int] = (50, 95)) -> dict[str, float]:
    """None of them if there are no values."""
    return {f"{figure}_p{q}": round(float(np.percentile(values, q)), 1) for q in shares if values}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED, help="the release to measure")
    parser.add_argument("--preset", choices=["nano", "tiny"], help="random weights of this size instead")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--requests", type=int, default=30)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = options.checkpoint
        if options.preset:
            checkpoint = Path(folder)
            untrained(options.preset).save(checkpoint, int8=True)  # as one is shipped
        with serving(checkpoint, threads=options.threads) as address:
            rows = measure(address, num_requests=options.requests)
    name = f"{options.preset}, random weights" if options.preset else str(options.checkpoint)
    figures = ("ttft_ms_p50", "ttft_ms_p95", "ttfa_ms_p50", "ttfa_ms_p95")
    print(f"\n{name}: one request at a time over HTTP, {clip_s():.1f} s clips")
    print(f"  {'':<20}" + "".join(f"{figure:>13}" for figure in figures))
    for label, row in rows.items():
        print(f"  {label:<20}" + "".join(f"{row.get(figure, float('nan')):13.1f}" for figure in figures))
    print(json_line({"bench": "latency", "model": name, "threads": options.threads, "results": rows}))


if __name__ == "__main__":
    main()
