"""The certificate that HTTPS is served with: an operator's own, or one that this machine signs for itself.

Clients that only speak `wss:` (openai-node) can so be tried on one machine: they are told to trust the file that holds
the certificate. It is made once and lies in a folder that only its owner can enter, so that a client which was told to
trust it still does after a restart.
"""

from __future__ import annotations

import os
import ssl
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sensorium.safety.certificates import certified, is_ours, keep, key_pem, lasts, write_key
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
    keep(folder, lambda made: _write(Identity.inside(made)), _is_usable)
    return Identity.inside(folder)


def _is_usable(folder: Path) -> bool:
    """Whether a pair lies there that lasts for a while, in a folder that is ours alone."""
    pair = Identity.inside(folder)
    try:
        certificate = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*pair, password=_no_passphrase)
        return is_ours(folder) and lasts(certificate, _RENEWED_BEFORE)
    except (OSError, ValueError):
        return False


def _no_passphrase() -> str:
    raise ValueError("the key asks for a passphrase")


def _write(pair: Identity) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    write_key(pair.key, key_pem(key))
    pair.certificate.write_bytes(_certificate(key).public_bytes(serialization.Encoding.PEM))


def _certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """Signed by its own key, and good for nothing but this machine's names: it can vouch for no other certificate."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Sensorium on this machine")])
    names = x509.SubjectAlternativeName([_general_name(name) for name in _NAMES])
    purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    return certified(key, name, issuer=name, signer=key, lasting=_LASTS, extensions=[names, purpose])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
