"""Whether the address of a database or of Redis may be used: this machine's own, one whose server proves by its
certificate who it is, or a host that the user says nobody else is on the way to. Connects to nothing.
"""

import ipaddress
from collections.abc import Collection, Iterable

from redis.connection import SSLConnection, UnixDomainSocketConnection, parse_url

from storage.database import connection_parameters

VARIABLE = "HEADGATE_PLAINTEXT_HOSTS"


class UnsafeAddress(ValueError):
    """An address at which anybody on the way could read and answer; says what to add to it."""


def parse_hosts(listed: str) -> frozenset[str]:
    """The names in a list with commas. Raises ValueError."""
    hosts = frozenset(host.strip().lower() for host in listed.split(",") if host.strip())
    for host in hosts:
        if "/" in host or "@" in host or "*" in host:
            raise ValueError(f"must be host names or addresses with commas; {host!r} is none")
    return hosts


def check_database_address(url: str, plaintext_hosts: Collection[str]) -> None:
    """What libpq will be told counts, its own environment variables included. Raises UnsafeAddress."""
    parameters = connection_parameters(url)
    if parameters.get("service"):
        raise UnsafeAddress("names a service of pg_service.conf; write the address into the URL instead")
    listed = f"{parameters.get('host', '')},{parameters.get('hostaddr', '')}".split(",")
    distant = _distant(listed, plaintext_hosts)
    if distant and parameters.get("sslmode") != "verify-full":
        raise UnsafeAddress(_words(distant, "?sslmode=verify-full&sslrootcert=/path/of/ca.pem"))


def check_redis_address(url: str, plaintext_hosts: Collection[str]) -> None:
    """What the client makes of the URL counts. Raises UnsafeAddress."""
    options = parse_url(url)  # type: ignore[no-untyped-call]
    kind = options.get("connection_class")
    if kind is UnixDomainSocketConnection:
        return
    distant = _distant([str(options.get("host", "localhost"))], plaintext_hosts)
    verified = (
        kind is SSLConnection
        and options.get("ssl_cert_reqs", "required") == "required"
        and options.get("ssl_check_hostname", True)
    )
    if distant and not verified:
        raise UnsafeAddress(_words(distant, "rediss:// and, for a CA of your own, ?ssl_ca_certs=/path/of/ca.pem"))


def is_loopback(host: str) -> bool:
    """Whether what is sent there does not leave this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_this_machine(host: str) -> bool:
    """A loopback address or name, or the path of a socket."""
    return host.startswith(("/", "@")) or host.lower().rstrip(".") == "localhost" or is_loopback(host)


def _distant(hosts: Iterable[str], plaintext_hosts: Collection[str]) -> list[str]:
    return [host for host in hosts if host and not is_this_machine(host) and host.lower() not in plaintext_hosts]


def _words(hosts: list[str], remedy: str) -> str:
    return (
        f"would be reached at {', '.join(hosts)} without knowing who answers; use {remedy}, "
        f"or name the host in {VARIABLE} if nobody else is on the way to it"
    )
