"""Kafka's settings are checked at the start: one line for each thing that is wrong, and none where all is well."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.kafka_settings import kafka_settings
from ops.service_addresses import is_loopback
from ops.settings import Settings, SettingsError, read_settings
from streams.kafka_security import PasswordLogin, Tls
from streams.kafka_tokens import TokenLogin
from tests.certificates import DAY, Authority

SECRET = "hunter2, and more"
LOGIN = {"SASL_MECHANISM": "SCRAM-SHA-512", "USER": "headgate", "PASSWORD": SECRET}
TOKENS = {
    "SASL_MECHANISM": "OAUTHBEARER",
    "OAUTH_TOKEN_URL": "https://login.example.com/token",
    "OAUTH_CLIENT_ID": "headgate",
    "OAUTH_CLIENT_SECRET": SECRET,
}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority", "authority")


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_KAFKA", "broker.example.com:9093")


def read(monkeypatch: pytest.MonkeyPatch, protocol: str, **more: object) -> Settings:
    monkeypatch.setenv("HEADGATE_KAFKA_SECURITY_PROTOCOL", protocol)
    for name, value in more.items():
        monkeypatch.setenv(f"HEADGATE_KAFKA_{name}", str(value))
    return read_settings(None)


def problems(monkeypatch: pytest.MonkeyPatch, protocol: str, **more: object) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read(monkeypatch, protocol, **more)
    assert SECRET not in str(caught.value)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("protocol", "given_settings", "lines"),
    [
        ("SASL_SSL", {}, ["HEADGATE_KAFKA_SASL_MECHANISM: is missing"]),
        (
            "SASL_SSL",
            {"SASL_MECHANISM": "PLAIN"},
            ["HEADGATE_KAFKA_USER: is missing", "HEADGATE_KAFKA_PASSWORD: is missing"],
        ),
        ("SASL_SSL", LOGIN | {"PASSWORD": ""}, ["HEADGATE_KAFKA_PASSWORD: is missing"]),
        ("SASL_SSL", {"SASL_MECHANISM": "GSSAPI"}, ["HEADGATE_KAFKA_SASL_MECHANISM: should be 'PLAIN'"]),
        ("TLS", {}, ["HEADGATE_KAFKA_SECURITY_PROTOCOL: should be 'PLAINTEXT'"]),
        (
            "SASL_PLAINTEXT",
            LOGIN,
            ["HEADGATE_KAFKA_SECURITY_PROTOCOL: SASL_PLAINTEXT would send the login in clear to broker"],
        ),
        (
            "PLAINTEXT",
            LOGIN,
            [
                "HEADGATE_KAFKA_SASL_MECHANISM: is set, but PLAINTEXT logs nobody in",
                "HEADGATE_KAFKA_USER: is set, but PLAINTEXT logs nobody in",
                "HEADGATE_KAFKA_PASSWORD: is set, but PLAINTEXT logs nobody in",
            ],
        ),
        ("PLAINTEXT", {"CA_FILE": __file__}, ["HEADGATE_KAFKA_CA_FILE: is set, but PLAINTEXT is without TLS"]),
        ("SSL", {"CA_FILE": "/no/such/file"}, ["HEADGATE_KAFKA_CA_FILE: cannot read /no/such/file: No such file"]),
        ("SSL", {"CA_FILE": __file__}, [f"HEADGATE_KAFKA_CA_FILE: {__file__} holds no certificate in PEM"]),
        (
            "SSL",
            {"CERTIFICATE_FILE": __file__},
            ["HEADGATE_KAFKA_CERTIFICATE_FILE: a certificate and its key (HEADGATE_KAFKA_KEY_FILE) go together"],
        ),
        (
            "SASL_SSL",
            TOKENS | {"PASSWORD": SECRET},
            ["HEADGATE_KAFKA_PASSWORD: means nothing with the mechanism OAUTH"],
        ),
        (
            "SASL_SSL",
            {"SASL_MECHANISM": "OAUTHBEARER"},
            [
                "HEADGATE_KAFKA_OAUTH_TOKEN_URL: is missing",
                "HEADGATE_KAFKA_OAUTH_CLIENT_ID: is missing",
                "HEADGATE_KAFKA_OAUTH_CLIENT_SECRET: is missing",
            ],
        ),
        (
            "SASL_SSL",
            TOKENS | {"OAUTH_TOKEN_URL": "http://login.example.com/token"},
            ["HEADGATE_KAFKA_OAUTH_TOKEN_URL: must begin with https://"],
        ),
        (
            "SASL_SSL",
            TOKENS | {"OAUTH_TOKEN_URL": "login.example.com"},
            ["HEADGATE_KAFKA_OAUTH_TOKEN_URL: must be a URL"],
        ),
        (
            "SASL_SSL",
            TOKENS | {"OAUTH_TOKEN_URL": f"https://me:{SECRET.replace(' ', '')}@login.example.com/"},
            ["HEADGATE_KAFKA_OAUTH_TOKEN_URL: must hold no user and password"],
        ),
    ],
)
def test_each_thing_that_is_wrong_gives_one_line(
    monkeypatch: pytest.MonkeyPatch, protocol: str, given_settings: dict[str, str], lines: list[str]
) -> None:
    found = problems(monkeypatch, protocol, **given_settings)

    assert len(found) == len(lines)
    for line, begins in zip(found, lines, strict=True):
        assert line.startswith(begins)


def test_a_certificate_that_is_over_is_told_with_its_end(monkeypatch: pytest.MonkeyPatch, authority: Authority) -> None:
    issued = authority.issue("outdated", lifetime=-DAY)

    (line,) = problems(monkeypatch, "SSL", CERTIFICATE_FILE=issued.certificate, KEY_FILE=issued.key)

    assert line.startswith(f"HEADGATE_KAFKA_CERTIFICATE_FILE: {issued.certificate} expired on 20")


def test_a_key_that_does_not_fit_or_open_is_told(monkeypatch: pytest.MonkeyPatch, authority: Authority) -> None:
    own, other = authority.issue("own", password=SECRET), authority.issue("other")
    begins = f"HEADGATE_KAFKA_KEY_FILE: {own.key} is no key in PEM that belongs to {own.certificate} and opens"

    for password in ("wrong", ""):
        given_settings = {"CERTIFICATE_FILE": own.certificate, "KEY_FILE": own.key, "KEY_PASSWORD": password}
        (line,) = problems(monkeypatch, "SSL", **given_settings)
        assert line.startswith(begins)
    (line,) = problems(monkeypatch, "SSL", CERTIFICATE_FILE=own.certificate, KEY_FILE=other.key, KEY_PASSWORD="")
    assert line.startswith(f"HEADGATE_KAFKA_KEY_FILE: {other.key} is no key")


def test_right_settings_become_what_clients_get(monkeypatch: pytest.MonkeyPatch, authority: Authority) -> None:
    own = authority.issue("own", password=SECRET)
    files = {"CA_FILE": authority.file, "CERTIFICATE_FILE": own.certificate, "KEY_FILE": own.key}

    made = kafka_settings(read(monkeypatch, "SASL_SSL", **files, KEY_PASSWORD=SECRET, **LOGIN))

    assert made.servers == "broker.example.com:9093"
    assert made.security.protocol == "SASL_SSL"
    assert made.security.tls == Tls(authority.file, own.certificate, own.key, SECRET)
    assert made.security.login == PasswordLogin("SCRAM-SHA-512", "headgate", SECRET)
    assert SECRET not in repr(made)


def test_tokens_and_a_login_in_clear_on_this_machine_are_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_KAFKA", "localhost:9092,127.0.0.2:9092,[::1]:9092")
    url = "http://127.0.0.1:8443/token"

    made = kafka_settings(read(monkeypatch, "SASL_PLAINTEXT", **TOKENS | {"OAUTH_TOKEN_URL": url}))

    assert made.security.login == TokenLogin(url, "headgate", SECRET)


@given(st.ip_addresses())
def test_an_address_is_on_this_machine_exactly_where_it_says_so(address: object) -> None:
    assert is_loopback(str(address)) == address.is_loopback  # type: ignore[attr-defined]


@pytest.mark.parametrize("host", ["localhost.example.com", "127.0.0.1.example.com", "", "broker"])
def test_a_name_is_not_taken_for_this_machine(host: str) -> None:
    assert not is_loopback(host)


def send_a_password_in_clear(monkeypatch: pytest.MonkeyPatch) -> Settings:
    return read(monkeypatch, "SASL_PLAINTEXT", **LOGIN)


def test_a_password_is_not_sent_in_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="in clear"):
        send_a_password_in_clear(monkeypatch)


def test_without_the_check_a_password_would_be_sent_in_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.kafka_settings.is_loopback", lambda host: True)

    security = kafka_settings(send_a_password_in_clear(monkeypatch)).security

    assert (security.protocol, security.tls) == ("SASL_PLAINTEXT", None)
