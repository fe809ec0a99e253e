"""Certificates that an installation makes for itself, and the folder that a certificate is kept in with its key."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_PKCS8 = serialization.PrivateFormat.PKCS8


def keep(folder: Path, write: Callable[[Path], object], is_usable: Callable[[Path], bool]) -> None:
    """What `write` puts into an empty folder is in `folder` from now on, unless something usable is there already.

    All of it comes at once: certificate and key of two servers that start together never mix. Raises OSError where
    nothing can be kept.
    """
    if is_usable(folder):
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))  # of mode 0700
    write(made)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        made.rename(folder)
    except OSError:
        shutil.rmtree(made)
        if not is_usable(folder):
            raise


def is_ours(folder: Path) -> bool:
    """Whether nobody else can enter a folder. Raises OSError if it is not there."""
    about = folder.lstat()
    return about.st_uid == os.getuid() and not about.st_mode & 0o077


def lasts(certificate: x509.Certificate, least: timedelta) -> bool:
    return certificate.not_valid_after_utc - datetime.now(UTC) > least


def write_key(path: Path, pem: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, _PKCS8, serialization.NoEncryption())


def certified(
    key: ec.EllipticCurvePrivateKey,
    name: x509.Name,
    *,
    issuer: x509.Name,
    signer: ec.EllipticCurvePrivateKey,
    lasting: timedelta,
    extensions: Sequence[x509.ExtensionType] = (),
    vouches: bool = False,
) -> x509.Certificate:
    """A certificate of `key`, signed by `signer`. With `vouches` it is good for signing others, else for nothing but
    what `extensions` say."""
    now = datetime.now(UTC)
    usage = x509.KeyUsage(
        digital_signature=not vouches,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=vouches,
        crl_sign=vouches,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))  # of a clock that is a little behind
        .not_valid_after(now + lasting)
        .add_extension(x509.BasicConstraints(ca=vouches, path_length=0 if vouches else None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(signer, hashes.SHA256())
