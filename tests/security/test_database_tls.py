"""PostgreSQL over TLS: whoever is not the server that the address names gets neither a session nor a password."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.engine import make_url
from structlog.testing import capture_logs

from ops import settings as settings_module
from ops import worker
from ops.doctor import Check, check_database
from ops.service import Service
from ops.settings import Settings, SettingsError, read_settings
from storage.database import DatabaseUnavailable, open_database, upgrade
from storage.exclusive import exclusively
from streams.health import FlowMetrics
from tests.certificates import Authority
from tests.secured_stores import PASSWORD, as_text, over_tls, secured_postgres

USER = "headgate"


@dataclass(frozen=True, slots=True)
class Place:
    """One authority that clients trust and one that they do not, and servers by what is wrong with them."""

    trusted: Authority
    strange: Authority
    good: Service
    elsewhere: Service
    expired: Service
    stranger: Service


@pytest.fixture(scope="module")
def place(services_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("certificates")
    trusted, strange = Authority(folder / "trusted", "trusted"), Authority(folder / "strange", "strange")
    shown = {
        "good": trusted.issue("server"),
        "elsewhere": trusted.issue("elsewhere", ["db.example.com"]),
        "expired": trusted.issue("expired", lifetime=timedelta(days=-1)),
        "stranger": strange.issue("stranger", ["localhost", "127.0.0.1", "db.example.com"]),
    }
    with ExitStack() as cleanup:
        servers = {}
        for name, certificate in shown.items():
            own = services_folder / f"tls-{name}"
            own.mkdir()
            servers[name] = cleanup.enter_context(secured_postgres(own, certificate, trusted.file))
            make_user(servers[name].url)
        yield Place(trusted, strange, **servers)


def make_user(administrator: str) -> None:
    plain = as_text(make_url(administrator).set(drivername="postgresql"))
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE headgate LOGIN PASSWORD {}").format(PASSWORD))
        connection.execute("CREATE ROLE certified LOGIN")
        connection.execute("CREATE DATABASE headgate OWNER headgate")


@pytest.fixture(autouse=True)
def no_settings_of_the_developer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("HEADGATE_", "PG"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_every_way_to_the_database_is_encrypted(place: Place) -> None:
    """Migrations, sessions of the pool, COPY by the driver, and the connection that holds a lock."""
    url = over_tls(place.good, place.trusted.file, USER, "headgate")
    upgrade(url)
    database = open_database(url)
    try:
        with exclusively(database, "test"), database.begin() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            with driver.cursor().copy("COPY (SELECT * FROM duplicates) TO STDOUT") as copy:
                assert list(copy) == []
            found = connection.execute(
                text(
                    "SELECT ssl, count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) "
                    "WHERE application_name = 'headgate' GROUP BY ssl"
                )
            )
            assert [tuple(row) for row in found] == [(True, 2)]
    finally:
        database.engine.dispose()


def test_a_certificate_of_ones_own_takes_the_place_of_a_password(place: Place, tmp_path: Path) -> None:
    own = Authority(tmp_path, "unknown").issue("certified")
    ours = place.trusted.issue("certified")
    for issued in (own, ours):
        issued.key.chmod(0o600)

    def who(certificate: Path, key: Path) -> str:
        query = {"sslcert": str(certificate), "sslkey": str(key)}
        url = make_url(over_tls(place.good, place.trusted.file, "certified", "postgres", **query)).set(password=None)
        database = open_database(as_text(url))
        try:
            with database.reading() as connection:
                return str(connection.execute(text("SELECT current_user")).scalar_one())
        finally:
            database.engine.dispose()

    assert who(ours.certificate, ours.key) == "certified"
    with pytest.raises(DatabaseUnavailable):
        who(own.certificate, own.key)


REFUSED: dict[str, tuple[Callable[[Place], str], str, str]] = {
    "another authority": (
        lambda place: over_tls(place.good, place.strange.file, USER, "headgate"),
        "tls",
        "certificate verify failed",
    ),
    "another host": (
        lambda place: over_tls(place.elsewhere, place.trusted.file, USER, "headgate"),
        "tls",
        'does not match host name "127.0.0.1"',
    ),
    "an expired certificate": (
        lambda place: over_tls(place.expired, place.trusted.file, USER, "headgate"),
        "tls",
        "certificate verify failed",
    ),
    "no certificate of an authority": (
        lambda place: over_tls(place.good, Path("/nowhere/ca.pem"), USER, "headgate"),
        "tls",
        'root certificate file "/nowhere/ca.pem" does not exist',
    ),
    "a wrong password": (
        lambda place: as_text(
            make_url(over_tls(place.good, place.trusted.file, USER, "headgate")).set(password=f"{PASSWORD}-not")
        ),
        "authentication",
        "password authentication failed",
    ),
    "no TLS, to a server that asks for it": (
        lambda place: over_tls(place.good, place.trusted.file, USER, "headgate", sslmode="disable"),
        "authentication",
        "no pg_hba.conf entry",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_database_that_is_not_what_the_address_says_is_refused_in_one_line(place: Place, case: str) -> None:
    url_of, reason, says = REFUSED[case]
    check_refusal(url_of(place), reason, says)


def test_a_server_without_tls_is_refused_in_one_line(place: Place, postgres_server: Service) -> None:
    url = over_tls(postgres_server, place.trusted.file, "postgres", "postgres")
    check_refusal(url, "tls", "server does not support SSL, but SSL was required")


def check_refusal(url: str, reason: str, says: str) -> None:
    """By the doctor and by a worker that waits: the same line, with the setting, without the password; and counted."""
    settings = Settings(database=SecretStr(url))
    (check,) = check_database(settings)
    assert isinstance(check, Check)
    assert (check.name, check.status) == ("database", "fail")
    assert says in check.found
    assert "HEADGATE_DATABASE" in check.remedy
    metrics, stopping = FlowMetrics(), threading.Event()

    def look() -> None:
        stopping.set()
        open_database(url).check()

    with capture_logs() as logs:
        assert not worker._wait_for("HEADGATE_DATABASE", look, metrics, stopping)
    (entry,) = logs
    assert (entry["setting"], entry["problem"]) == ("HEADGATE_DATABASE", check.found)
    labels = {"store": "database", "reason": reason}
    assert metrics.registry.get_sample_value("headgate_store_refusals_total", labels) == 1
    for line in (check.found, check.remedy, str(logs)):
        assert PASSWORD not in line
        assert "\n" not in line


def take_the_databases_place(place: Place, monkeypatch: pytest.MonkeyPatch) -> str:
    """The attack: whoever is on the way answers for db.example.com, with a certificate of his own making; the address
    asks for encryption, and not for proof. Returns what he tells."""
    address = f"db.example.com:{place.stranger.port}/headgate?hostaddr=127.0.0.1&sslmode=require"
    monkeypatch.setenv("HEADGATE_DATABASE", f"postgresql://{USER}:{PASSWORD}@{address}")
    database = open_database(read_settings(None).database.get_secret_value())
    try:
        with database.reading() as connection:
            return str(connection.execute(text("SELECT current_user || ' was let in'")).scalar_one())
    finally:
        database.engine.dispose()


def test_to_take_the_databases_place_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="without knowing who answers") as caught:
        take_the_databases_place(place, monkeypatch)
    assert PASSWORD not in str(caught.value)


def test_without_the_check_of_addresses_taking_the_databases_place_goes_through(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings_module, "check_database_address", lambda url, hosts: None)
    assert take_the_databases_place(place, monkeypatch) == f"{USER} was let in"


def test_what_the_settings_ask_for_instead_does_not_let_him_in(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    verified = f"sslmode=verify-full&sslrootcert={place.trusted.file}"
    address = f"db.example.com:{place.stranger.port}/headgate?hostaddr=127.0.0.1&{verified}"
    monkeypatch.setenv("HEADGATE_DATABASE", f"postgresql://{USER}:{PASSWORD}@{address}")
    check_refusal(read_settings(None).database.get_secret_value(), "tls", "certificate verify failed")
