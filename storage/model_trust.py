"""Signatures of registered models (Ed25519): made with the row, demanded of every version that is loaded.

Signed is what the row says of the version: name, number, kind, when it was made, the sha256 and size of its file, the
feature schema and its metrics. So neither the file nor another version's signature can be put in its place by who may
write the rows and the files but has no key. Aliases are not signed: which of the signed versions is in use, the
registry says, and going back to an older one is an ordinary thing.
"""

import json
import math
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

#: Before what is signed, so that no signature made for anything else is one of a model.
PURPOSE = b"headgate model 1\n"
FILE_FORMAT = "safetensors"
KEY_BYTES = 32
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class BadModelKey(ValueError):
    """This text is no key; the message does not repeat it."""


class CannotSign(Exception):
    """Nobody here would load what is registered without a signature that is trusted."""


class NotTrusted(Exception):
    """A version without a signature, or with one that none of the trusted keys made for it."""


class SignedRow(Protocol):
    """What of a row of `models` is signed."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def sha256(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def feature_schema(self) -> int: ...
    @property
    def metrics(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Signature:
    """value: base64; key: the id of the key that made it."""

    value: str
    key: str


@dataclass(frozen=True, slots=True)
class ModelTrust:
    """signer: signs what is registered here; None signs nothing. keys: by id, of those whose signatures are trusted;
    where there is none, no signature is asked for."""

    signer: Ed25519PrivateKey | None = field(default=None, repr=False)
    keys: Mapping[str, Ed25519PublicKey] = field(default_factory=dict, repr=False)

    def refuse_unsigned_registration(self) -> None:
        """Raises CannotSign where what is registered here would be refused wherever the same keys are trusted."""
        if not self.keys:
            return
        if self.signer is None:
            raise CannotSign(
                "models must be signed (HEADGATE_MODEL_VERIFY_KEYS), and there is no key to sign with: "
                "set HEADGATE_MODEL_SIGNING_KEY where models are registered"
            )
        if key_id(self.signer.public_key()) not in self.keys:
            raise CannotSign(
                f"HEADGATE_MODEL_SIGNING_KEY is key {key_id(self.signer.public_key())}, which is not among "
                "HEADGATE_MODEL_VERIFY_KEYS: add its public key there first, wherever models are loaded"
            )

    def sign(self, row: SignedRow) -> Signature | None:
        """None where there is no key to sign with."""
        if self.signer is None:
            return None
        value = b64encode(self.signer.sign(signed_bytes(row))).decode()
        return Signature(value, key_id(self.signer.public_key()))

    def check(self, row: SignedRow, signature: Signature | None) -> None:
        """Raises NotTrusted with what is wrong and what to do."""
        if not self.keys:
            return
        what = f"{row.name}:{row.version}"
        if signature is None:
            raise NotTrusted(f"{what} is not signed, and HEADGATE_MODEL_VERIFY_KEYS is set; {_REMEDY}")
        key = self.keys.get(signature.key)
        if key is None:
            raise NotTrusted(
                f"{what} is signed with key {signature.key[:16]!r}, which is not among HEADGATE_MODEL_VERIFY_KEYS; "
                f"{_REMEDY}"
            )
        try:
            key.verify(b64decode(signature.value, validate=True), signed_bytes(row))
        except (InvalidSignature, ValueError) as error:
            raise NotTrusted(
                f"{what} is not what key {signature.key} signed: its row or its signature was changed; "
                "find out who may write the table `models`, and put a version that you know in its place"
            ) from error


_REMEDY = "if you know where it comes from, sign it with `headgate models sign`"


def signed_bytes(row: SignedRow) -> bytes:
    """The same for the same row whatever the database: moments to the millisecond, metrics as a hash of JSON."""
    manifest = {
        "name": row.name,
        "version": row.version,
        "kind": row.kind,
        "created_at": (row.created_at - _EPOCH) // timedelta(milliseconds=1),
        "format": FILE_FORMAT,
        "sha256": row.sha256,
        "size_bytes": row.size_bytes,
        "feature_schema": row.feature_schema,
        "metrics": sha256(canonical_json(row.metrics)).hexdigest(),
    }
    return PURPOSE + canonical_json(manifest)


def canonical_json(value: Any) -> bytes:
    """Keys sorted, no spaces, numbers as doubles: a database may give 1e+300 back as a whole number of 301 digits."""
    plain = json.loads(json.dumps(value), parse_float=_number, parse_int=_number)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def new_signing_key() -> str:
    """A private key as the settings take it."""
    return b64encode(Ed25519PrivateKey.generate().private_bytes_raw()).decode()


def signing_key_of(text: str) -> Ed25519PrivateKey:
    """Raises BadModelKey."""
    return Ed25519PrivateKey.from_private_bytes(_key_bytes(text, "private"))


def verify_keys_of(text: str) -> dict[str, Ed25519PublicKey]:
    """By id, of public keys with commas between them. Raises BadModelKey."""
    keys = [Ed25519PublicKey.from_public_bytes(_key_bytes(part, "public")) for part in text.split(",") if part.strip()]
    return {key_id(key): key for key in keys}


def public_text(key: Ed25519PrivateKey) -> str:
    """Its public key as the settings take it."""
    return b64encode(key.public_key().public_bytes_raw()).decode()


def key_id(key: Ed25519PublicKey) -> str:
    return sha256(key.public_bytes_raw()).hexdigest()[:16]


def checkpoint_key(signer: Ed25519PrivateKey | None) -> bytes:
    """For what a training leaves to itself (storage/checkpoints.py): who cannot sign models cannot write a checkpoint
    that the next run would go on from, and so have it signed."""
    return b"" if signer is None else sha256(b"headgate checkpoint 1\n" + signer.private_bytes_raw()).digest()


def _key_bytes(text: str, which: str) -> bytes:
    try:
        found = b64decode(text.strip(), validate=True)
    except ValueError:  # no base64, or not even ASCII
        found = b""
    if len(found) != KEY_BYTES:
        raise BadModelKey(f"must be {which} Ed25519 keys in base64, {KEY_BYTES} bytes; see `headgate models keys`")
    return found


def _number(text: str) -> int | float | str:
    value = float(text)
    if math.isinf(value):  # a whole number larger than any double
        return text
    return int(value) if value.is_integer() else value
