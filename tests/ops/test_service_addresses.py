"""Where PostgreSQL and Redis may be: on this machine, behind a verified certificate, or where the user says so."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.service_addresses import (
    UnsafeAddress,
    check_database_address,
    check_redis_address,
    is_this_machine,
    parse_hosts,
)
from ops.settings import SettingsError, read_settings

VERIFIED = "sslmode=verify-full&sslrootcert=/ca.pem"


@pytest.fixture(autouse=True)
def without_variables_of_libpq(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGHOST", "PGHOSTADDR", "PGSSLMODE", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:word@localhost/name",
        "postgresql://user@127.0.0.1:5433/name?sslmode=disable",
        "postgresql://user@[::1]/name",
        "postgresql:///name",
        "postgresql:///name?host=/var/run/postgresql",
        f"postgresql://user:word@db.example.com/name?{VERIFIED}",
        f"postgresql://user:word@/name?host=one.example.com:5432&host=two.example.com:5432&{VERIFIED}",
        "postgresql://user@postgres/name",
    ],
)
def test_a_database_on_this_machine_with_a_verified_certificate_or_at_a_named_host_is_fine(url: str) -> None:
    check_database_address(url, frozenset({"postgres"}))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:secret-word@db.example.com/name",
        "postgresql://user:secret-word@10.0.0.5/name?sslmode=require",
        "postgresql://user:secret-word@db.example.com/name?sslmode=verify-ca&sslrootcert=/ca.pem",
        "postgresql://user:secret-word@localhost/name?hostaddr=10.0.0.5",
        "postgresql://user:secret-word@/name?host=localhost:5432&host=db.example.com:5432",
        "postgresql://user:secret-word@localhost.example.com/name",
    ],
)
def test_a_database_elsewhere_without_verified_tls_is_refused(url: str) -> None:
    with pytest.raises(UnsafeAddress, match="sslmode=verify-full") as caught:
        check_database_address(url, frozenset({"postgres"}))
    assert "secret-word" not in str(caught.value)


def test_what_libpq_reads_from_its_own_variables_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "db.example.com")
    with pytest.raises(UnsafeAddress, match=r"db\.example\.com"):
        check_database_address("postgresql:///name", frozenset())
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    check_database_address("postgresql:///name", frozenset())
    with pytest.raises(UnsafeAddress, match="write the address into the URL"):
        check_database_address("postgresql:///name?service=main", frozenset())


@pytest.mark.parametrize(
    "url",
    [
        "redis://:word@localhost:6379/0",
        "redis://127.0.0.2/0",
        "unix:///run/redis.sock?db=0",
        "rediss://user:word@redis.example.com:6380/0",
        "rediss://redis.example.com/0?ssl_ca_certs=/ca.pem&ssl_cert_reqs=required",
        "redis://redis:6379/0",
    ],
)
def test_a_redis_on_this_machine_with_a_verified_certificate_or_at_a_named_host_is_fine(url: str) -> None:
    check_redis_address(url, frozenset({"redis"}))


@pytest.mark.parametrize(
    "url",
    [
        "redis://:secret-word@redis.example.com/0",
        "redis:///0?host=redis.example.com",
        "rediss://:secret-word@redis.example.com/0?ssl_cert_reqs=none",
        "rediss://:secret-word@redis.example.com/0?ssl_check_hostname=false",
        "redis://:secret-word@10.1.2.3:6379/0",
    ],
)
def test_a_redis_elsewhere_without_verified_tls_is_refused(url: str) -> None:
    with pytest.raises(UnsafeAddress, match="rediss://") as caught:
        check_redis_address(url, frozenset({"redis"}))
    assert "secret-word" not in str(caught.value)


@given(st.from_regex(r"[a-z][a-z0-9-]{0,20}(\.[a-z]{2,5}){1,2}", fullmatch=True))
def test_no_name_but_localhost_is_this_machine(host: str) -> None:
    assert not is_this_machine(host)


@given(st.ip_addresses())
def test_an_address_is_this_machine_only_if_it_is_loopback(address: object) -> None:
    assert is_this_machine(str(address)) == address.is_loopback  # type: ignore[attr-defined]


@given(st.lists(st.from_regex(r"[a-z0-9.-]{1,12}", fullmatch=True)))
def test_named_hosts_are_those_in_the_list(hosts: list[str]) -> None:
    assert parse_hosts(" , ".join(hosts).upper()) == set(hosts)


@pytest.mark.parametrize("name", ["DATABASE", "REDIS"])
def test_the_settings_refuse_a_plain_address_elsewhere_until_its_host_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    scheme = {"DATABASE": "postgresql", "REDIS": "redis"}[name]
    monkeypatch.setenv(f"HEADGATE_{name}", f"{scheme}://user:secret-word@store/0")
    with pytest.raises(SettingsError) as caught:
        read_settings(None)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"HEADGATE_{name}: would be reached at store without knowing who answers; use ")
    assert "HEADGATE_PLAINTEXT_HOSTS" in line
    assert "secret-word" not in line

    monkeypatch.setenv("HEADGATE_PLAINTEXT_HOSTS", "other, store")
    assert "store" in getattr(read_settings(None), name.lower()).get_secret_value()


def test_a_list_of_hosts_with_an_address_in_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_PLAINTEXT_HOSTS", "postgresql://user@store")
    with pytest.raises(SettingsError, match="HEADGATE_PLAINTEXT_HOSTS: must be host names"):
        read_settings(None)
