"""Roles of the console's users, and the tokens that grant them. It knows nothing of HTTP: settings are checked here."""

import hashlib
import hmac
import ipaddress
import re
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


@dataclass(frozen=True, slots=True)
class User:
    """Who uses the console. name: as the audit log has it."""

    name: str
    role: Role


#: Whoever reaches a console without tokens.
ANYBODY = User("console:anybody", Role.OPERATOR)
#: As `openssl rand -hex 8` gives; shorter ones can be guessed.
LEAST_TOKEN_LENGTH = 16
_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")


class DashboardRefused(Exception):
    """The console cannot be started like this; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Access:
    """Hashes of tokens -> the user that each stands for. No tokens: everybody is operator."""

    _users: Mapping[bytes, User] = field(default_factory=dict, repr=False)

    @staticmethod
    def of(tokens: str) -> "Access":
        """From role=token or role:name=token with commas, as the settings have them. Raises ValueError without showing
        a token."""
        return Access({_hash(token): user for user, token in parse_tokens(tokens)})

    @property
    def needs_token(self) -> bool:
        return bool(self._users)

    def user_of(self, authorization: str | None) -> User | None:
        """Who sends this header; None for nobody. How long it takes says nothing of any token."""
        if not self._users:
            return ANYBODY
        scheme, _, token = (authorization or "").partition(" ")
        given, found = _hash(token.strip()), None
        for known, user in self._users.items():
            if hmac.compare_digest(given, known):
                found = user
        return found if scheme.lower() == "bearer" else None


def parse_tokens(text: str) -> list[tuple[User, str]]:
    """Raises ValueError that says what is wrong, without the tokens."""
    found: list[tuple[User, str]] = []
    for number, part in enumerate((part.strip() for part in text.split(",") if part.strip()), 1):
        who, equals, token = part.partition("=")
        user = _user_of(who) if equals else None
        if user is None:
            raise ValueError(
                f"entry {number} must be viewer=, analyst= or operator= with a token behind it, or with a name as in "
                "analyst:alice= (letters, digits, . _ @ -)"
            )
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise ValueError(f"the token of entry {number} must be printable ASCII without spaces")
        if len(token) < LEAST_TOKEN_LENGTH:
            raise ValueError(
                f"the token of entry {number} has {len(token)} characters, fewer than {LEAST_TOKEN_LENGTH}, and could "
                "be guessed; `openssl rand -hex 16` makes a better one"
            )
        if any(token == other for _, other in found):
            raise ValueError(f"the token of entry {number} is there twice")
        found.append((user, token))
    return found


def _user_of(who: str) -> User | None:
    """From `analyst` or `analyst:alice`."""
    role, colon, name = who.partition(":")
    if role.upper() not in Role.__members__ or (colon and not _NAME.fullmatch(name)):
        return None
    return User(f"{role.lower()}{colon}{name}", Role[role.upper()])


def check_host(host: str, access: Access) -> None:
    """Raises DashboardRefused for a console that others could reach without a token."""
    if not access.needs_token and not is_loopback(host):
        raise DashboardRefused(
            f"HEADGATE_DASHBOARD_HOST is {host}, which other machines can reach: set HEADGATE_DASHBOARD_TOKENS, "
            "as in operator:anna=SECRET,viewer=ANOTHER, or listen on 127.0.0.1"
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
