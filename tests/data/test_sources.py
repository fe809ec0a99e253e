"""Reading sets in the format of the data folder: tiny ones made here, and the real ones where they are at hand."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image as PillowImage

from sensorium.data import sources
from sensorium.data.sources import SAMPLE_RATE_HZ, SOURCE_NAMES, Source, data_root
from sensorium.messages import Audio, Image

REAL_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def clip(rate_hz: int = SAMPLE_RATE_HZ) -> bytes:
    file = io.BytesIO()
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate_hz // 2) / rate_hz)
    soundfile.write(file, tone, rate_hz, format="FLAC")
    return file.getvalue()


def picture(shade: int) -> bytes:
    file = io.BytesIO()
    PillowImage.new("P", (12, 8), shade).save(file, "PNG")
    return file.getvalue()


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> None:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as shard:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            shard.addfile(member, io.BytesIO(data))


def pair(name: str, data: bytes, **fields: Any) -> list[tuple[str, bytes]]:
    return [(name, data), (f"{Path(name).stem}.json", json.dumps(fields).encode())]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of data with a few sets of a few records."""
    for shard in range(2):
        members: list[tuple[str, bytes]] = []
        for i in range(3):
            members += pair(f"g{shard}{i}.png", picture(i), text="Apple", split="train", coarse="Apple")
        write_tar(tmp_path / f"grocery/train-0000{shard}.tar", members)
    write_tar(tmp_path / "grocery/valid-00000.tar", pair("gv.png", picture(9), text="Pear", split="valid"))
    write_tar(
        tmp_path / "digits_open-sa/test-00000.tar",
        pair("d1.flac", clip(8000), text="one", label=1, split="test", language="en", licence="CC-BY-SA-4.0"),
    )
    write_rows(
        tmp_path / "intents/written-00000.jsonl.gz",
        [{"id": f"i{i}", "text": f"licht {i}", "language": "de", "split": ("train", "valid")[i % 2]} for i in range(6)],
    )
    write_rows(tmp_path / "sgd-sa/train-00000.jsonl.gz", [{"id": "s0", "turns": [], "split": "train"}])
    write_rows(tmp_path / "sgd-sa/dev-00000.jsonl.gz", [{"id": "s1", "turns": [], "split": "dev"}])
    write_rows(tmp_path / "sgd-sa/schema.jsonl.gz", [{"service": "Banks_1"}])
    write_rows(tmp_path / "sgd-sa/dev-schema.jsonl.gz", [{"service": "Alarm_1"}])
    shards = sorted((*tmp_path.rglob("*.tar"), *tmp_path.rglob("*.gz")))
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(tmp_path)}\n" for path in shards]
    (tmp_path / "CHECKSUMS.sha256").write_text("".join(lines))
    return tmp_path


def test_pictures_arrive_as_rgb(root: Path) -> None:
    records = list(Source.open("grocery", root).records(purpose="train"))
    assert [record.key for record in records] == ["g00", "g01", "g02", "g10", "g11", "g12"]
    assert all(isinstance(record.media, Image) and record.media.pixels.shape == (8, 12, 3) for record in records)
    first = records[0]
    assert (first.text, first.fields["coarse"], first.split, first.language, first.licence) == (
        "Apple",
        "Apple",
        "train",
        "en",
        "MIT",
    )


def test_clips_arrive_at_16_khz_with_their_words(root: Path) -> None:
    (record,) = Source.open("digits_open-sa", root).records(purpose="test")
    assert isinstance(record.media, Audio)
    assert record.media.sample_rate_hz == SAMPLE_RATE_HZ
    assert record.media.waveform.dtype == np.float32
    assert record.media.duration_ms == pytest.approx(500, abs=1)
    assert record.media.transcript == record.text == "one"


def test_purpose_decides_the_split(root: Path) -> None:
    source = Source.open("intents", root)
    assert [record.key for record in source.records(purpose="train")] == ["i0", "i2", "i4"]
    assert [record.key for record in source.records(purpose="test")] == ["i1", "i3", "i5"]
    assert source.count(purpose="train") == 3
    with pytest.raises(ValueError, match="unknown purpose 'tune'"):
        source.records(purpose="tune")  # pyright: ignore[reportArgumentType]


def test_resumes_without_decoding(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    original = sources._decoded
    monkeypatch.setattr(sources, "_decoded", lambda key, *rest: decoded.append(key) or original(key, *rest))
    source = Source.open("grocery", root)
    assert [record.key for record in source.records(purpose="train", start=4)] == ["g11", "g12"]
    assert decoded == ["g11", "g12"]
    assert list(source.records(purpose="train", start=99)) == []
    with pytest.raises(ValueError, match="start is -1"):
        source.records(purpose="train", start=-1)


def test_a_test_set_refuses_to_train(root: Path) -> None:
    with pytest.raises(ValueError, match="'digits_open-sa' is for testing only"):
        Source.open("digits_open-sa", root).records(purpose="train")


def test_share_alike_trains_only_where_accepted(root: Path) -> None:
    source = Source.open("sgd-sa", root)
    with pytest.raises(ValueError, match="'sgd-sa' is share-alike"):
        source.records(purpose="train")
    assert [record.key for record in source.records(purpose="train", accept_share_alike=True)] == ["s0"]
    assert [record.key for record in source.records(purpose="test")] == ["s1"]
    schema = Source.open("sgd-schema-sa", root)
    with pytest.raises(ValueError, match="share-alike"):
        schema.records(purpose="train")
    assert [record.key for record in schema.records(purpose="test")] == ["Alarm_1"]


def test_missing_things_are_named(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="unknown set 'imagenet'"):
        Source.open("imagenet", root)
    with pytest.raises(ValueError, match="'novels' is not in"):
        Source.open("novels", root)
    (root / "gsm8k").mkdir()
    with pytest.raises(ValueError, match=r"'gsm8k' has no train-\*\.jsonl\.gz"):
        Source.open("gsm8k", root).records(purpose="train")
    with pytest.raises(ValueError, match="'gsm8k' has no records for 'test'"):
        Source.open("gsm8k", root).records(purpose="test")
    monkeypatch.delenv("SENSORIUM_DATA", raising=False)
    with pytest.raises(ValueError, match="set SENSORIUM_DATA"):
        data_root()
    monkeypatch.setenv("SENSORIUM_DATA", str(tmp_path))
    assert data_root() == tmp_path
    with pytest.raises(ValueError, match="does not exist"):
        data_root(tmp_path / "nowhere")


@pytest.mark.parametrize("damage", ["tar", "order", "picture", "text"])
def test_damage_is_a_clear_error(root: Path, damage: str) -> None:
    shard = root / "grocery/valid-00000.tar"
    name = "grocery"
    if damage == "tar":
        shard.write_bytes(shard.read_bytes()[:700])
    elif damage == "order":
        write_tar(shard, [("a.png", picture(0)), ("b.json", b"{}")])
    elif damage == "picture":
        write_tar(shard, pair("a.png", b"not a picture", text="x"))
    else:
        name = "intents"
        path = root / "intents/written-00000.jsonl.gz"
        path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(ValueError, match="is damaged"):
        list(Source.open(name, root).records(purpose="test"))


def test_verify_finds_what_changed(root: Path) -> None:
    source = Source.open("grocery", root)
    assert source.verify() == 3
    shard = root / "grocery/train-00001.tar"
    data = shard.read_bytes()
    shard.write_bytes(data[:-1] + b"x")
    with pytest.raises(ValueError, match=r"train-00001\.tar differs"):
        source.verify()
    shard.unlink()
    with pytest.raises(ValueError, match=r"lacks train-00001\.tar"):
        source.verify()
    shard.write_bytes(data)
    write_tar(root / "grocery/train-00002.tar", [])
    with pytest.raises(ValueError, match=r"train-00002\.tar, which CHECKSUMS\.sha256 does not list"):
        source.verify()
    (root / "CHECKSUMS.sha256").unlink()
    with pytest.raises(ValueError, match="cannot be verified"):
        source.verify()


@pytest.mark.parametrize("name", SOURCE_NAMES)
def test_real_sets(name: str) -> None:
    """The first records of every set, where the sets lie beside the project."""
    if not REAL_DATA.is_dir():
        pytest.skip("the real sets are not beside the project")
    source = Source.open(name, REAL_DATA)
    purpose = "test" if source.may_train == "no" else "train"
    records = source.records(purpose=purpose, accept_share_alike=True)
    for record, _ in zip(records, range(3), strict=False):
        assert record.source == name
        assert record.key
        assert record.licence
        if isinstance(record.media, Audio):
            assert 0.2 < record.media.duration_ms / 1000 < 30
            assert record.media.duration_ms / 1000 == pytest.approx(record.fields["seconds"], abs=0.02)
            assert 0.001 < np.abs(record.media.waveform).max() <= 1
        elif isinstance(record.media, Image):
            assert record.media.pixels.ndim == 3
            assert max(record.media.pixels.shape) <= 400
