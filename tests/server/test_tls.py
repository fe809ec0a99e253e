from __future__ import annotations

import os
import stat
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from sensorium.server import tls
from sensorium.server.config import ServerConfig
from sensorium.server.tls import Identity, identity, self_signed, state_folder
from tests.server.live import live


def test_a_certificate_is_for_this_machine_and_vouches_for_no_other(tmp_path: Path):
    pair = self_signed(tmp_path / "state" / "tls")
    certificate = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert names.get_values_for_type(x509.IPAddress) == [ip_address("127.0.0.1"), ip_address("::1")]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert b"PRIVATE" not in pair.certificate.read_bytes()


def test_the_key_is_for_its_owner_only(tmp_path: Path):
    pair = self_signed(tmp_path / "tls")
    assert stat.S_IMODE(pair.key.stat().st_mode) == 0o600
    assert stat.S_IMODE(pair.key.parent.stat().st_mode) == 0o700
    assert os.listdir(tmp_path) == ["tls"]


def test_it_stays_the_same_for_as_long_as_it_can_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = self_signed(tmp_path / "tls").certificate.read_bytes()
    assert self_signed(tmp_path / "tls").certificate.read_bytes() == first
    monkeypatch.setattr(tls, "_RENEWED_BEFORE", timedelta(days=366))  # a year on
    assert self_signed(tmp_path / "tls").certificate.read_bytes() != first


@pytest.mark.parametrize("spoil", ["open", "no key", "another key", "no certificate"])
def test_a_pair_that_cannot_be_used_is_made_anew(spoil: str, tmp_path: Path):
    pair = self_signed(tmp_path / "tls")
    first = pair.certificate.read_bytes()
    match spoil:
        case "open":
            pair.key.parent.chmod(0o755)
        case "no key":
            pair.key.unlink()
        case "another key":
            pair.key.write_bytes(self_signed(tmp_path / "other").key.read_bytes())
        case _:
            pair.certificate.write_text("nothing")
    assert self_signed(tmp_path / "tls") == pair
    assert pair.certificate.read_bytes() != first
    assert stat.S_IMODE(pair.key.parent.stat().st_mode) == 0o700


def test_an_operators_own_certificate_is_served(tmp_path: Path):
    own = self_signed(tmp_path / "own")
    with live(tls_cert=own.certificate, tls_key=own.key) as server:
        assert server.url.startswith("https://")
        assert server.chat("hi").status_code == 200


def test_files_that_are_no_pair_are_named(tmp_path: Path):
    one, other = self_signed(tmp_path / "one"), self_signed(tmp_path / "other")
    locked = serialization.load_pem_private_key(one.key.read_bytes(), None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    (tmp_path / "locked.pem").write_bytes(locked)
    for pair in (
        Identity(one.certificate, other.key),
        Identity(one.certificate, tmp_path / "none"),
        Identity(one.certificate, tmp_path / "locked.pem"),
    ):
        with pytest.raises(ValueError, match="cannot be used"):
            identity(ServerConfig(tls_cert=pair.certificate, tls_key=pair.key))


def test_plain_http_needs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert identity(ServerConfig()) is None
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert identity(ServerConfig(tls_self_signed=True)) == Identity.inside(tmp_path / "sensorium" / "tls")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(ValueError, match="no certificate can be kept in"):
        identity(ServerConfig(tls_self_signed=True))
    monkeypatch.setenv("XDG_STATE_HOME", "relative")  # which the standard has us ignore
    assert state_folder() == Path.home() / ".local" / "state" / "sensorium"
