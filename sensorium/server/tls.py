"""The certificate that HTTPS is served with: an operator's own, or one that this machine signs for itself.

Clients that only speak `wss:` (openai-node) can so be tried on one machine: they are told to trust the file that holds
the certificate. It is made once and lies in a folder that only its owner can enter, so that a client which was told to
trust it still does after a restart.
"""

from __future__ import annotations

import os
import shutil
import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sensorium.server.config import ServerConfig

CERTIFICATE, KEY = "certificate.pem", "key.pem"
_NAMES = ("localhost", "127.0.0.1", "::1")
_LASTS = timedelta(days=365)
_RENEWED_BEFORE = timedelta(days=30)  # of its end: no server outlives the certificate that it began with


class Identity(NamedTuple):
    """What a server shows and what it proves it with, both PEM."""

    certificate: Path
    key: Path

    @classmethod
    def inside(cls, folder: Path) -> Identity:
        return cls(folder / CERTIFICATE, folder / KEY)


def identity(config: ServerConfig) -> Identity | None:
    """What `config` serves HTTPS with; None for plain HTTP. Raises ValueError for files that cannot be used."""
    if config.tls_self_signed:
        folder = state_folder() / "tls"
        try:
            return self_signed(folder)
        except OSError as error:
            raise ValueError(f"no certificate can be kept in {folder}: {error}") from None
    if config.tls_cert is None or config.tls_key is None:
        return None
    own = Identity(config.tls_cert, config.tls_key)
    try:
        # a key with a passphrase is refused, not asked for: nobody may be there to type it
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*own, password=_no_passphrase)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        raise ValueError(f"tls_cert {own.certificate} and tls_key {own.key} cannot be used: {error}") from None
    return own


def state_folder() -> Path:
    """Where this user's Sensorium keeps what outlives a run (the XDG base directories)."""
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".local" / "state") / "sensorium"


def self_signed(folder: Path) -> Identity:
    """The certificate in `folder` for this machine's own names; made anew unless a usable one lies there.

    Raises OSError where none can be kept.
    """
    if _is_usable(folder):
        return Identity.inside(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".tls-", dir=folder.parent))  # of mode 0700
    _write(Identity.inside(made))
    shutil.rmtree(folder, ignore_errors=True)
    try:
        made.rename(folder)  # the pair at once: certificate and key of two servers that start together never mix
    except OSError:
        shutil.rmtree(made)
        if not _is_usable(folder):
            raise
    return Identity.inside(folder)


def _is_usable(folder: Path) -> bool:
    """Whether a pair lies there that lasts for a while, in a folder that is ours alone."""
    pair = Identity.inside(folder)
    try:
        about = folder.lstat()
        certificate = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*pair, password=_no_passphrase)
    except (OSError, ValueError):
        return False
    is_ours = about.st_uid == os.getuid() and not about.st_mode & 0o077
    return is_ours and certificate.not_valid_after_utc - datetime.now(UTC) > _RENEWED_BEFORE


def _no_passphrase() -> str:
    raise ValueError("the key asks for a passphrase")


def _write(pair: Identity) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    with open(os.open(pair.key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
    pair.certificate.write_bytes(_certificate(key).public_bytes(serialization.Encoding.PEM))


def _certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """Signed by its own key, and good for nothing but this machine's names: it can vouch for no other certificate."""
    now = datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Sensorium on this machine")])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (
        (x509.SubjectAlternativeName([_general_name(name) for name in _NAMES]), False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (usage, True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (identifier, False),
        (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), False),
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))  # of a clock that is a little behind
        .not_valid_after(now + _LASTS)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(key, hashes.SHA256())


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
