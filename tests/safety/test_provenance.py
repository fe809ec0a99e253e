"""What is made here says so, and what was changed since does not pass."""

from __future__ import annotations

import io
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import soundfile

from sensorium.safety.provenance import (
    CERTIFICATES,
    KEY,
    Credentials,
    Identity,
    NoCredential,
    Tampered,
    read_credential,
)

MEDIA_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}


def picture(format: str) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    PIL.Image.fromarray(pixels).save(file, format)
    return file.getvalue()


@pytest.fixture(scope="module")
def identity() -> Identity:
    return Identity.new()


@pytest.fixture(scope="module")
def credentials(identity: Identity) -> Credentials:
    return Credentials(identity, model="sensorium-nano")


@pytest.mark.parametrize(("format", "media_type"), MEDIA_TYPES.items())
def test_a_picture_says_what_made_it_and_is_the_same_picture(credentials: Credentials, format: str, media_type: str):
    plain = picture(format)
    signed = credentials.sign(plain, media_type)
    assert 1000 < len(signed) - len(plain) < 4096
    shown = [np.asarray(PIL.Image.open(io.BytesIO(file))) for file in (plain, signed)]
    assert (shown[0] == shown[1]).all()
    credential = read_credential(signed, media_type)
    assert credential.generator.startswith("Sensorium ")
    assert (credential.model, credential.source) == ("sensorium-nano", "trainedAlgorithmicMedia")
    assert credential.made_at.startswith("20")
    assert not credential.is_trusted


def test_sound_is_signed_too(credentials: Credentials):
    file = io.BytesIO()
    soundfile.write(file, np.zeros(2400, np.float32), 24_000, format="WAV")
    signed = credentials.sign(file.getvalue(), "audio/wav")
    assert soundfile.info(io.BytesIO(signed)).frames == 2400
    assert read_credential(signed, "audio/wav").model == "sensorium-nano"


def test_what_is_partly_somebody_elses_says_so(credentials: Credentials):
    signed = credentials.sign(picture("PNG"), "image/png", is_composed=True)
    assert read_credential(signed, "image/png").source == "compositeWithTrainedAlgorithmicMedia"


@pytest.mark.parametrize(("format", "media_type"), MEDIA_TYPES.items())
def test_a_changed_picture_does_not_pass(credentials: Credentials, format: str, media_type: str):
    plain = picture(format)
    signed = bytearray(credentials.sign(plain, media_type))
    inside = plain[len(plain) // 2 :][:16]
    signed[signed.index(inside)] ^= 1
    with pytest.raises(Tampered, match="dataHash"):
        read_credential(bytes(signed), media_type)


def test_a_picture_without_a_credential(credentials: Credentials):
    with pytest.raises(NoCredential):
        read_credential(picture("PNG"), "image/png")
    with pytest.raises(Tampered, match="can't be read"):
        read_credential(b"nothing", "image/png")


def test_a_signer_that_was_asked_for(identity: Identity, credentials: Credentials):
    signed = credentials.sign(picture("PNG"), "image/png")
    assert read_credential(signed, "image/png", trusted=identity.certificates).is_trusted
    with pytest.raises(Tampered, match="not signed with"):
        read_credential(signed, "image/png", trusted=Identity.new().certificates)


def test_the_identity_is_kept(tmp_path: Path):
    folder = tmp_path / "credentials"
    first = Identity.kept_in(folder)
    assert folder.stat().st_mode & 0o077 == (folder / KEY).stat().st_mode & 0o077 == 0
    assert Identity.kept_in(folder) == first
    (folder / CERTIFICATES).write_bytes(Identity.new().certificates)  # not of this key
    assert Identity.kept_in(folder) != first
    shutil.rmtree(folder)
    folder.write_text("in the way")
    with pytest.raises(OSError, match="directory"):
        Identity.kept_in(folder)


def test_threads_share_one(credentials: Credentials):
    with ThreadPoolExecutor(4) as threads:
        files = list(threads.map(lambda _: credentials.sign(picture("PNG"), "image/png"), range(16)))
    assert {read_credential(file, "image/png").model for file in files} == {"sensorium-nano"}
