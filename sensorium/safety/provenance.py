"""Content credentials: a file says, signed, that a network made it, which one and when (C2PA 2.2).

The certificate is this installation's own. It proves that a file was not changed since, and that two files come from
the same server; who runs the server it does not prove, as nobody vouches for it. Whoever wants to check that too is
given the certificate.
"""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import c2pa
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sensorium.safety.certificates import certified, is_ours, keep, key_pem, lasts, write_key

GENERATOR = "Sensorium"
CERTIFICATES, KEY = "certificates.pem", "key.pem"  # the signer's with that which vouches for it; the signer's key

# https://cv.iptc.org/newscodes/digitalsourcetype
_SOURCES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_MADE, _COMPOSED = _SOURCES + "trainedAlgorithmicMedia", _SOURCES + "compositeWithTrainedAlgorithmicMedia"

_LASTS = timedelta(days=5 * 365)
_RENEWED_BEFORE = timedelta(days=180)  # of its end
_UNKNOWN_SIGNER = "signingCredential.untrusted"
_SETTINGS: Mapping[str, Any] = {
    "builder": {"thumbnail": {"enabled": False}},  # it would be larger than many a picture
    "verify": {"verify_after_sign": False, "remote_manifest_fetch": False, "ocsp_fetch": False},  # no network
}


class NoCredential(ValueError):
    """A file says nothing of where it comes from."""


class Tampered(ValueError):
    """A file is not what was signed, or was not signed as it says."""


class Credential(NamedTuple):
    """What a file says of itself."""

    generator: str
    model: str
    made_at: str  # ISO 8601
    source: str  # the last part of an IPTC digital source type: "trainedAlgorithmicMedia"
    signer: str
    is_trusted: bool  # signed by a certificate that the reader was given


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What is signed with, all PEM."""

    certificates: bytes
    key: bytes

    @classmethod
    def new(cls) -> Identity:
        """A signer, and one who vouches for it and for nobody else: the latter's key is forgotten at once."""
        root, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        vouching_name, signing_name = _name("Sensorium, for itself"), _name("What Sensorium makes")
        # in the profile of the C2PA specification, section 14.5
        by = {"issuer": vouching_name, "signer": root, "lasting": _LASTS}
        vouching = certified(root, vouching_name, **by, vouches=True)
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        signing = certified(own, signing_name, **by, extensions=[purpose])
        pem = serialization.Encoding.PEM
        return cls(certificates=signing.public_bytes(pem) + vouching.public_bytes(pem), key=key_pem(own))

    @classmethod
    def kept_in(cls, folder: Path) -> Identity:
        """What lies in `folder`, which is made, or made anew if what lies there ends soon or is damaged.

        Raises OSError where nothing can be kept.
        """
        keep(folder, lambda made: cls.new()._write(made), lambda made: _found(made) is not None)
        found = _found(folder)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
        return found

    def _write(self, folder: Path) -> None:
        (folder / CERTIFICATES).write_bytes(self.certificates)
        write_key(folder / KEY, self.key)


class Credentials:
    """Signs what the network `model` makes. May be used by several threads at once."""

    def __init__(self, identity: Identity, *, model: str) -> None:
        info = c2pa.C2paSignerInfo(c2pa.C2paSigningAlg.ES256, identity.certificates, identity.key, None)
        self._signer = c2pa.Signer.from_info(info)
        self._context = c2pa.Context(settings=c2pa.Settings.from_dict(dict(_SETTINGS)))
        self._model = model
        self._generator = {"name": GENERATOR, "version": version("sensorium")}

    def sign(self, file: bytes, media_type: str, *, is_composed: bool = False) -> bytes:
        """A PNG, JPEG, WebP or WAV file with its credential in it, about 3 kB. `is_composed`: part of it is not ours.

        Takes one to five milliseconds.
        """
        made = {
            "action": "c2pa.created",
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "digitalSourceType": _COMPOSED if is_composed else _MADE,
            "softwareAgent": {"name": self._model},
        }
        actions = {"label": "c2pa.actions.v2", "data": {"actions": [made]}}
        manifest = {"claim_generator_info": [self._generator], "assertions": [actions]}
        signed = io.BytesIO()
        with c2pa.Builder(manifest, context=self._context) as builder:
            builder.sign(self._signer, media_type, io.BytesIO(file), signed)
        return signed.getvalue()


def media_type_of(file: bytes) -> str:
    """Of a PNG, JPEG, WebP or WAV file, by its first bytes. Raises ValueError for any other."""
    if file.startswith(b"\x89PNG"):
        return "image/png"
    if file.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if file.startswith(b"RIFF") and file[8:12] in (b"WEBP", b"WAVE"):
        return "image/webp" if file[8:12] == b"WEBP" else "audio/wav"
    raise ValueError("it is no PNG, JPEG, WebP or WAV file")


def read_credential(file: bytes, media_type: str, *, trusted: bytes | None = None) -> Credential:
    """What a file says of itself, checked. `trusted` are certificates (PEM) of which one must have signed it.

    Raises NoCredential, and Tampered for a file that was changed after it was signed or was signed by somebody else.
    """
    settings = {**_SETTINGS, **({"trust": {"user_anchors": trusted.decode()}} if trusted else {})}
    try:
        context = c2pa.Context(settings=c2pa.Settings.from_dict(settings))
        with c2pa.Reader(media_type, io.BytesIO(file), context=context) as reader:
            report = json.loads(reader.json())
    except c2pa.C2paError as error:
        if str(error).startswith("ManifestNotFound"):
            raise NoCredential("it has no content credential") from None
        raise Tampered(f"its content credential can't be read: {error}") from None
    faults = [fault["code"] for fault in report.get("validation_status", ())]
    is_trusted = _UNKNOWN_SIGNER not in faults
    if wrong := [fault for fault in faults if fault != _UNKNOWN_SIGNER]:
        raise Tampered(f"it was changed after it was signed ({', '.join(sorted(set(wrong)))})")
    if trusted and not is_trusted:
        raise Tampered("it was not signed with that certificate")
    manifest = report["manifests"][report["active_manifest"]]
    action = _first_action(manifest)
    return Credential(
        generator=" ".join(
            str(each.get(name, "")) for each in manifest["claim_generator_info"][:1] for name in ("name", "version")
        ).strip(),
        model=action.get("softwareAgent", {}).get("name", ""),
        made_at=action.get("when", ""),
        source=str(action.get("digitalSourceType", "")).rpartition("/")[2],
        signer=manifest.get("signature_info", {}).get("common_name", ""),
        is_trusted=is_trusted,
    )


def _first_action(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    actions = [
        action
        for assertion in manifest.get("assertions", ())
        if assertion["label"].startswith("c2pa.actions")
        for action in assertion["data"].get("actions", ())
    ]
    return actions[0] if actions else {}


def _found(folder: Path) -> Identity | None:
    """The pair in a folder that is ours alone, if it lasts for a while."""
    try:
        found = Identity(certificates=(folder / CERTIFICATES).read_bytes(), key=(folder / KEY).read_bytes())
        certificate = x509.load_pem_x509_certificates(found.certificates)[0]
        key = serialization.load_pem_private_key(found.key, password=None)
        is_kept = is_ours(folder) and lasts(certificate, _RENEWED_BEFORE)
    except (OSError, ValueError, TypeError):
        return None
    return found if is_kept and certificate.public_key() == key.public_key() else None


def _name(name: str) -> x509.Name:
    organization = x509.NameAttribute(NameOID.ORGANIZATION_NAME, GENERATOR)
    return x509.Name([organization, x509.NameAttribute(NameOID.COMMON_NAME, name)])
