"""Runs every benchmark, one after the other: `python -m bench`. Each also runs alone, with options of its own."""

from __future__ import annotations

from bench import decode, images, latency, voice

if __name__ == "__main__":
    decode.main()
    latency.main()
    images.main()
    voice.main()
