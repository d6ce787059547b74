"""Roles of the console's users, and the tokens that grant them. It knows nothing of HTTP: settings are checked here."""

import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum


class Role(IntEnum):
    """Each may do what those before it may."""

    VIEWER = 1
    ANALYST = 2
    OPERATOR = 3

    @property
    def label(self) -> str:
        return self.name.lower()


class DashboardRefused(Exception):
    """The console cannot be started like this; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Access:
    """Hashes of tokens -> the role that each grants. No tokens: everybody is operator."""

    _roles: Mapping[bytes, Role] = field(default_factory=dict, repr=False)

    @staticmethod
    def of(tokens: str) -> "Access":
        """From role=token pairs with commas, as the settings have them. Raises ValueError without showing a token."""
        return Access({_hash(token): role for role, token in parse_tokens(tokens)})

    @property
    def needs_token(self) -> bool:
        return bool(self._roles)

    def role_of(self, authorization: str | None) -> Role | None:
        """The role of who sends this header; None for nobody. How long it takes says nothing of any token."""
        if not self._roles:
            return Role.OPERATOR
        scheme, _, token = (authorization or "").partition(" ")
        given, found = _hash(token.strip()), None
        for known, role in self._roles.items():
            if hmac.compare_digest(given, known):
                found = role
        return found if scheme.lower() == "bearer" else None


def parse_tokens(text: str) -> list[tuple[Role, str]]:
    """Raises ValueError that says what is wrong, without the tokens."""
    found: list[tuple[Role, str]] = []
    for number, part in enumerate((part.strip() for part in text.split(",") if part.strip()), 1):
        name, equals, token = part.partition("=")
        if not equals or name.upper() not in Role.__members__:
            raise ValueError(f"entry {number} must be viewer=, analyst= or operator= with a token behind it")
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise ValueError(f"the token of entry {number} must be printable ASCII without spaces")
        if any(token == other for _, other in found):
            raise ValueError(f"the token of entry {number} is there twice")
        found.append((Role[name.upper()], token))
    return found


def check_host(host: str, access: Access) -> None:
    """Raises DashboardRefused for a console that others could reach without a token."""
    if not access.needs_token and not is_loopback(host):
        raise DashboardRefused(
            f"HEADGATE_DASHBOARD_HOST is {host}, which other machines can reach: set HEADGATE_DASHBOARD_TOKENS, "
            "as in operator=a-long-secret,viewer=another, or listen on 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
