"""A PostgreSQL and a Redis that speak TLS and ask who one is, for tests; and the rights that docs/security.md gives to
users of Redis."""

import os
import pwd
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import redis
from sqlalchemy.engine import URL, make_url

from ops.documentation import DOCS
from ops.local_services import start_postgres, start_redis
from ops.service import LOOPBACK, Service, free_port
from tests.certificates import Issued
from tests.conftest import local

PASSWORD = "pass-word-of-a-test"
#: The test's own administrator needs no password, at one database; everybody else does, and TLS.
RULES = """
host postgres postgres 127.0.0.1/32 trust
hostssl all certified 127.0.0.1/32 cert
hostssl all all 127.0.0.1/32 scram-sha-256
"""


@contextmanager
def secured_postgres(folder: Path, server: Issued, authority: Path) -> Iterator[Service]:
    """Shows `server`, and lets the user `certified` in who has a certificate of this authority."""
    files = {"ssl_cert_file": server.certificate, "ssl_key_file": server.key, "ssl_ca_file": authority}
    options = {name: str(_for_postgres(file, folder)) for name, file in files.items()}
    rules = folder / "rules.conf"
    rules.write_text(RULES)
    with local(
        lambda: start_postgres(folder, fsync=False, options={"ssl": "on", "hba_file": str(rules), **options})
    ) as service:
        yield service


def _for_postgres(file: Path, folder: Path) -> Path:
    """A copy that the server's user may read, and nobody else."""
    copy = Path(shutil.copy(file, folder / file.name))
    copy.chmod(0o600)
    if os.geteuid() == 0:
        account = pwd.getpwnam("postgres")
        os.chown(copy, account.pw_uid, account.pw_gid)
    return copy


def over_tls(service: Service, authority: Path, user: str, database: str, **parameters: str) -> str:
    """The URL of a user with PASSWORD, verified in full unless told otherwise."""
    query = {"sslmode": "verify-full", "sslrootcert": str(authority), **parameters}
    return as_text(make_url(service.url).set(username=user, password=PASSWORD, database=database, query=query))


def as_text(url: URL) -> str:
    return url.render_as_string(hide_password=False)


@contextmanager
def secured_redis(folder: Path, server: Issued, authority: Path) -> Iterator[tuple[Service, int]]:
    """The service, whose URL is the administrator's, and its port with TLS."""
    port = free_port()
    files = {"cert-file": server.certificate, "key-file": server.key, "ca-cert-file": authority}
    more = ["--tls-port", str(port), "--tls-auth-clients", "no"]
    for name, file in files.items():
        more += [f"--tls-{name}", str(file)]
    with local(lambda: start_redis(folder, more=more)) as service:
        yield service, port


def redis_url(port: int, authority: Path, user: str, password: str = PASSWORD, host: str = LOOPBACK) -> str:
    return f"rediss://{user}:{password}@{host}:{port}/0?ssl_ca_certs={authority}"


def documented_users() -> Mapping[str, list[str]]:
    """User -> the rules that docs/security.md gives him."""
    lines = (DOCS / "security.md").read_text().splitlines()
    return {line.split()[1]: line.split()[2:] for line in lines if line.startswith("user headgate-")}


def refused_by_redis(administrator: redis.Redis) -> list[object]:
    """What users were refused, but for the name that the client gives itself from Redis 7.2 on."""
    refused = [entry["object"] for entry in administrator.acl_log()]
    return [what for what in refused if not str(what).startswith("client|")]


def make_redis_users(administrator: str, prefix: str) -> None:
    """As the page says, with PASSWORD and another prefix for keys and channels than the default."""
    with redis.Redis.from_url(administrator) as client:
        for user, rules in documented_users().items():
            own = [rule.replace(">PASSWORD", f">{PASSWORD}").replace("headgate:", prefix) for rule in rules]
            client.execute_command("ACL SETUSER", user, "reset", *own)
