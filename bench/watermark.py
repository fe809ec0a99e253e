"""How often the mark in speech is missed, found where there is none, and how many bits of its payload are wrong.

    python -m bench.watermark [--checkpoint DIR] [--clips 200 60] [--looks 200] [--write]

A network reads sentences aloud that it never heard; of those clips are made, each all in one voice and marked with a
key and a payload of its own. Then something happens to the clip: a codec, a telephone, noise, scissors. Sounds without
a mark are looked at with keys that nobody marked them with: speech, noise, music. `--write` keeps the figures in
docs/watermark.json, and the page made of them in docs/watermark.md. The last line is JSON.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import av
import numpy as np
import soxr
from av.audio.stream import AudioStream

from bench.json_line import json_line
from bench.latency import SHIPPED, serving
from sensorium.data.generators.dialogues import sentence
from sensorium.data.generators.speech import PRESETS, in_room
from sensorium.messages import Audio
from sensorium.safety.watermark import FOUND, PAYLOAD_BITS, RATE_HZ, Found, find, marked
from sensorium.server.audio_out import OUTPUT_RATE_HZ
from sensorium.server.stretch import Stretch

FIGURES, PAGE = Path("docs/watermark.json"), Path("docs/watermark.md")
LENGTHS_S = (4, 12)
_SENTENCES = 20  # that each voice reads; clips are made of them in chance orders
_VOICES = tuple(PRESETS)

Attack = Callable[[np.ndarray, np.random.Generator], np.ndarray]  # (N,) at 16 kHz -> (M,)
Voices = Mapping[str, list[np.ndarray]]  # what each says


# --- what happens to marked sound


def through_codec(codec: str, container: str, rate_hz: int, bits_per_s: int | None = None) -> Attack:
    def attack(sound: np.ndarray, _: np.random.Generator) -> np.ndarray:
        samples = _samples_16_bit(soxr.resample(sound, RATE_HZ, rate_hz))
        file = io.BytesIO()
        with av.open(file, "w", format=container) as out:
            stream = out.add_stream(codec, rate=rate_hz, layout="mono")
            assert isinstance(stream, AudioStream)
            if bits_per_s is not None:
                stream.bit_rate = bits_per_s
            frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
            frame.sample_rate = rate_hz
            out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
        with av.open(io.BytesIO(file.getvalue()), "r") as encoded:
            resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE_HZ)
            frames = [heard for frame in encoded.decode(audio=0) for heard in resampler.resample(frame)]
        return np.concatenate([frame.to_ndarray()[0] for frame in frames])

    return attack


def resampled(rate_hz: int) -> Attack:
    return lambda sound, _: soxr.resample(soxr.resample(sound, RATE_HZ, rate_hz), rate_hz, RATE_HZ)


def louder(by_db: float) -> Attack:
    """What is more than full scale is cut off, as where it is kept in 16 bits."""
    return lambda sound, _: _samples_16_bit(sound * 10 ** (by_db / 20)).astype(np.float32) / 32768


def with_noise(snr_db: float) -> Attack:
    def attack(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        level = np.sqrt(np.mean(sound**2)) * 10 ** (-snr_db / 20)
        return sound + level * rng.standard_normal(len(sound)).astype(np.float32)

    return attack


def trimmed(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    start, end = (int(rng.uniform(0.0, 0.25) * len(sound)) for _ in range(2))
    return sound[start : len(sound) - end]


def recorded(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Played in a room and recorded there."""
    return in_room(Audio(waveform=sound, sample_rate_hz=RATE_HZ), rng).waveform


def stretched(speed: float) -> Attack:
    """Faster or slower at the same pitch."""
    return lambda sound, _: Stretch(speed, RATE_HZ).push(sound, last=True)


def played_faster(speed: float) -> Attack:
    """As a tape: the pitch goes along."""
    return lambda sound, _: soxr.resample(sound, RATE_HZ * speed, RATE_HZ)


ATTACKS: Mapping[str, Attack] = {
    "nothing": lambda sound, _: sound,
    "MP3, 64 kbit/s": through_codec("libmp3lame", "mp3", OUTPUT_RATE_HZ, 64_000),
    "MP3, 32 kbit/s": through_codec("libmp3lame", "mp3", OUTPUT_RATE_HZ, 32_000),
    "Opus, 64 kbit/s": through_codec("libopus", "ogg", OUTPUT_RATE_HZ, 64_000),
    "Opus, 32 kbit/s": through_codec("libopus", "ogg", OUTPUT_RATE_HZ, 32_000),
    "Opus, 16 kbit/s": through_codec("libopus", "ogg", OUTPUT_RATE_HZ, 16_000),
    "AAC, 64 kbit/s": through_codec("aac", "adts", OUTPUT_RATE_HZ, 64_000),
    "AAC, 32 kbit/s": through_codec("aac", "adts", OUTPUT_RATE_HZ, 32_000),
    "resampled to 44.1 kHz and back": resampled(44_100),
    "resampled to 8 kHz and back": resampled(8_000),
    "G.711, mu-law": through_codec("pcm_mulaw", "wav", 8_000),
    "G.711, A-law": through_codec("pcm_alaw", "wav", 8_000),
    "trimmed, up to a quarter at each end": trimmed,
    "20 dB softer, in 16 bits": louder(-20.0),
    "40 dB softer, in 16 bits": louder(-40.0),
    "12 dB louder, cut off": louder(12.0),
    "noise, 30 dB below": with_noise(30.0),
    "noise, 20 dB below": with_noise(20.0),
    "noise, 10 dB below": with_noise(10.0),
    "played in a room and recorded": recorded,
    "1 % faster, same pitch": stretched(1.01),
    "10 % faster, same pitch": stretched(1.1),
    "1 % faster, as a tape": played_faster(1.01),
    "10 % faster, as a tape": played_faster(1.1),
}


def _samples_16_bit(sound: np.ndarray) -> np.ndarray:
    return np.clip(np.round(32768 * sound), -32768, 32767).astype("<i2")


# --- sound without a mark


def noise(rng: np.random.Generator, size: int) -> np.ndarray:
    """White to brown."""
    frequencies = np.maximum(np.fft.rfftfreq(size), 1 / 800)
    spectrum = np.fft.rfft(rng.standard_normal(size)) * frequencies ** -rng.uniform(0.0, 1.0)
    shaped = np.fft.irfft(spectrum, size)
    return (0.3 * shaped / np.abs(shaped).max()).astype(np.float32)


def music(rng: np.random.Generator, size: int) -> np.ndarray:
    """Chords of plucked notes with overtones, and a drum on the beat."""
    sound, beat = np.zeros(size), int(rng.uniform(0.3, 0.7) * RATE_HZ)
    time_s = np.arange(4 * beat) / RATE_HZ
    for start in range(0, size, beat):
        root_hz = 110 * 2 ** (int(rng.integers(0, 24)) / 12)
        played = np.zeros(len(time_s))
        for interval in (0, 4, 7, 12):
            for overtone in range(1, 9):
                pitch_hz = root_hz * 2 ** (interval / 12) * overtone
                if pitch_hz < RATE_HZ / 2:
                    played += np.sin(2 * np.pi * pitch_hz * time_s) * np.exp(-overtone * time_s) / overtone
        drum = rng.standard_normal(len(time_s)) * np.exp(-40 * time_s)
        added = (played + drum)[: size - start]
        sound[start : start + len(added)] += added
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


# --- measuring


class Clip(NamedTuple):
    sound: np.ndarray  # (N,) at 16 kHz, not marked
    key: str
    payload: int


def _unmarked(folder: Path) -> Path:
    """Settings of a server that marks nothing."""
    file = folder / "settings.toml"
    file.write_text('watermark_key = ""\n', "utf-8")
    return file


def read_aloud(checkpoint: Path) -> Voices:
    """What the network of a checkpoint says: held-out sentences, as many in each voice, without a mark."""
    rng = np.random.default_rng(3)
    said: dict[str, list[np.ndarray]] = {}
    with (
        TemporaryDirectory() as folder,
        serving(checkpoint, threads=1, config=_unmarked(Path(folder))) as address,
        closing(HTTPConnection(address, timeout=300)) as connection,
    ):
        for voice in _VOICES:
            for _ in range(_SENTENCES):
                body = {"model": "tts-1", "voice": voice, "response_format": "pcm", "input": sentence(rng, "heldout")}
                connection.request("POST", "/v1/audio/speech", json.dumps(body), {"content-type": "application/json"})
                samples = np.frombuffer(connection.getresponse().read(), "<i2").astype(np.float32) / 32768
                said.setdefault(voice, []).append(soxr.resample(samples, OUTPUT_RATE_HZ, RATE_HZ))
    return said


def clips(voices: Voices, num_clips: int, length_s: int) -> Iterator[Clip]:
    names = tuple(voices)
    for number in range(num_clips):
        rng = np.random.default_rng((length_s, number))
        yield Clip(
            sound=_speech(voices[names[number % len(names)]], rng, length_s * RATE_HZ),
            key=f"key {length_s} {number}",
            payload=int(rng.integers(2**PAYLOAD_BITS)),
        )


def _speech(sentences: list[np.ndarray], rng: np.random.Generator, size: int) -> np.ndarray:
    said: list[np.ndarray] = []
    while sum(map(len, said)) < size:
        said.append(sentences[int(rng.integers(len(sentences)))])
    return np.concatenate(said)[:size]


def outlived(voices: Voices, num_clips: int, length_s: int) -> dict[str, dict[str, float]]:
    """After each attack: the share of clips in which the mark is missed, of payloads told and of those told wrong, and
    of bits that are wrong in clips in which it is found."""
    found: dict[str, list[tuple[Found, int]]] = {name: [] for name in ATTACKS}
    for number, clip in enumerate(clips(voices, num_clips, length_s)):
        sound = marked(clip.sound, clip.key, clip.payload)
        for name, attack in ATTACKS.items():
            attacked = attack(sound, np.random.default_rng((number, 1))).astype(np.float32)
            found[name].append((find(attacked, clip.key), clip.payload))
    return {name: _rates(each) for name, each in found.items()}


def _rates(found: list[tuple[Found, int]]) -> dict[str, float]:
    hits = [(each, payload) for each, payload in found if each.is_marked]
    told = [(each.payload, payload) for each, payload in hits if each.payload is not None]
    wrong_bits = [(bit > 0) != bool(payload >> at & 1) for each, payload in hits for at, bit in enumerate(each.bits)]
    return {
        "missed": round(1 - len(hits) / len(found), 4),
        "payload told": round(len(told) / len(found), 4),
        "payload wrong": round(sum(given != payload for given, payload in told) / len(found), 4),
        "bits wrong": round(float(np.mean(wrong_bits)), 4) if wrong_bits else float("nan"),
    }


def unmarked(voices: Voices, num_looks: int, length_s: int) -> dict[str, dict[str, float]]:
    """Looks at sound of each kind for marks that are not in it, each time for one of another key."""
    names, size = tuple(voices), length_s * RATE_HZ
    as_mp3 = ATTACKS["MP3, 32 kbit/s"]

    def spoken(rng: np.random.Generator) -> np.ndarray:
        return _speech(voices[names[int(rng.integers(len(names)))]], rng, size)

    kinds: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
        "speech of the network": spoken,
        "that as MP3, 32 kbit/s": lambda rng: as_mp3(spoken(rng), rng),
        "speech marked with another key": lambda rng: marked(spoken(rng), "another key", 1),
        "noise": lambda rng: noise(rng, size),
        "music": lambda rng: music(rng, size),
    }
    told: dict[str, dict[str, float]] = {}
    for name, make in kinds.items():
        scores = []
        for number in range(num_looks):
            rng = np.random.default_rng((length_s, number, 2))
            scores.append(find(make(rng).astype(np.float32), f"key {number}").score)
        told[name] = {
            "looks": num_looks,
            "found": sum(score >= FOUND for score in scores),
            "highest score": round(max(scores), 2),
            "mean score": round(float(np.mean(scores)), 2),
        }
    return told


def measured(voices: Voices, num_clips: Sequence[int], num_looks: int) -> dict[str, Any]:
    """`num_clips` are of each of LENGTHS_S."""
    asked = dict(zip(LENGTHS_S, num_clips, strict=True))
    return {
        "threshold": FOUND,
        "clips": {f"{length_s} s": count for length_s, count in asked.items()},
        "marked": {f"{length_s} s": outlived(voices, count, length_s) for length_s, count in asked.items()},
        "unmarked": unmarked(voices, num_looks, LENGTHS_S[0]),
    }


# --- the page


def page(figures: Mapping[str, Any]) -> str:
    """docs/watermark.md, from the figures and nothing else."""
    lengths = tuple(figures["marked"])
    heads = [f"{length}: {column}" for length in lengths for column in ("missed", "payload told", "bits wrong")]
    rows = [
        [name, *(_percent(figures["marked"][length][name][column]) for length in lengths for column in _COLUMNS)]
        for name in figures["marked"][lengths[0]]
    ]
    false = [[name, *row.values()] for name, row in figures["unmarked"].items()]
    looks = sum(row["looks"] for row in figures["unmarked"].values())
    hits = sum(row["found"] for row in figures["unmarked"].values())
    wrong = max(row["payload wrong"] for length in lengths for row in figures["marked"][length].values())
    told = ", ".join(
        f"{count} clips of {length} (standard errors of at most {50 / count**0.5:.1f} points)"
        for length, count in figures["clips"].items()
    )
    bound = f"{hits} of {looks} were found" + ("" if hits else f": with 95 % confidence fewer than {3 / looks:.1e}")
    return f"""# How well the mark in speech is found

Made by `python -m bench.watermark --write` from docs/watermark.json. Of sentences that the network of `{figures["model"]}`
reads aloud and never heard, in {figures["voices"]} voices: {told}. Each is marked with a key
and a payload of its own. What counts as found is {figures["threshold"]} deviations.

## After what happened to it

`missed` is the share of clips in which the mark is not found, `payload told` that in which all {PAYLOAD_BITS} bits of the
payload are certain enough to be told, `bits wrong` the share of wrong bits, told or not, where the mark is found. All in %.
A payload was told wrong in at most {_percent(wrong)} % of a row's clips.

{_table(["what happened", *heads], rows)}

## Where there is none

Sounds of {lengths[0]} without a mark, or with that of another key, looked at with a key each. {bound}.

{_table(["sound", "looks", "found", "highest score", "mean score"], false)}
"""  # noqa: E501


_COLUMNS = ("missed", "payload told", "bits wrong")


def _table(head: list[str], rows: list[list[Any]]) -> str:
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED)
    seconds = " and ".join(map(str, LENGTHS_S))
    parser.add_argument("--clips", type=int, nargs=2, default=(200, 60), help=f"of {seconds} s, that are marked")
    parser.add_argument("--looks", type=int, default=200, help="at unmarked sound of each kind")
    parser.add_argument("--write", action="store_true", help=f"{FIGURES} and {PAGE}")
    options = parser.parse_args()
    voices = read_aloud(options.checkpoint)
    what = {"bench": "watermark", "model": options.checkpoint.name, "voices": len(voices)}
    line = json_line({**what, **measured(voices, options.clips, options.looks)})
    written = page(json.loads(line))
    print(written)
    if options.write:
        FIGURES.write_text(json.dumps(json.loads(line), indent=1) + "\n")
        PAGE.write_text(written)
    print(line)


if __name__ == "__main__":
    main()
