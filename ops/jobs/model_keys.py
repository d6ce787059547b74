"""`headgate models keys`: a new pair of keys, the private one in a file that nobody else may read."""

import os
from dataclasses import dataclass
from pathlib import Path

from storage.model_trust import key_id, new_signing_key, public_text, signing_key_of


class KeyFileRefused(Exception):
    """The private key cannot be written there."""


@dataclass(frozen=True, slots=True)
class NewKeys:
    """What may be shown of a pair: the id that signatures name, and the public key."""

    id: str
    public: str


def write_new_keys(private: Path) -> NewKeys:
    """Never over a file that is there: it may hold the only copy of a key. Raises KeyFileRefused."""
    text = new_signing_key()
    try:
        handle = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise KeyFileRefused(f"cannot write a private key to {private}: {error.strerror}; name a new file") from error
    with os.fdopen(handle, "w") as file:
        file.write(f"{text}\n")
    key = signing_key_of(text)
    return NewKeys(key_id(key.public_key()), public_text(key))
