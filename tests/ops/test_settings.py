"""Settings: read from the environment and a file, checked with one clear line each, never showing a password."""

from pathlib import Path

import pytest

from ops.settings import Settings, SettingsError, read_settings, settings_table


@pytest.fixture(autouse=True)
def no_settings_of_the_developer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable, _, _ in settings_table():
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(f"{variable}_FILE", raising=False)
    monkeypatch.chdir(tmp_path)


def test_the_defaults_are_valid() -> None:
    settings = read_settings()

    assert settings.kafka == "localhost:9092"
    assert settings.record_size_limit == 1_000_000


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("HEADGATE_GROUP=from-file\nHEADGATE_KAFKA=broker:9093\nOTHER=ignored\n")
    monkeypatch.setenv("HEADGATE_GROUP", "from-environment")

    settings = read_settings()

    assert (settings.group, settings.kafka) == ("from-environment", "broker:9093")


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("HEADGATE_KAFKA", "http://broker", "HEADGATE_KAFKA: must be host:port"),
        ("HEADGATE_KAFKA", "broker", "HEADGATE_KAFKA: must be host:port"),
        ("HEADGATE_DATABASE", "mysql://host/name", "HEADGATE_DATABASE: must begin with postgresql:// or sqlite:///"),
        ("HEADGATE_DATABASE", "nonsense", "HEADGATE_DATABASE: is no database URL"),
        ("HEADGATE_REDIS", "localhost:6379", "HEADGATE_REDIS: must begin with redis://"),
        ("HEADGATE_METRICS_PORT", "70000", "HEADGATE_METRICS_PORT: should be less than or equal to 65535"),
        ("HEADGATE_RETENTION_DAYS", "many", "HEADGATE_RETENTION_DAYS: should be a valid integer"),
        ("HEADGATE_START_FROM", "middle", "HEADGATE_START_FROM: should be 'earliest' or 'latest'"),
        ("HEADGATE_TOPIC_PREFIX", "a/b", "HEADGATE_TOPIC_PREFIX: "),
        ("HEADGATE_DEVICE", "gpu", "HEADGATE_DEVICE: "),
        ("HEADGATE_ALERT_RULE", "most", "HEADGATE_ALERT_RULE: must begin with one of budget, precision"),
        ("HEADGATE_ALERT_RULE", "precision", "HEADGATE_ALERT_RULE: needs a number"),
    ],
)
def test_a_wrong_value_gives_one_line_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(SettingsError) as caught:
        read_settings()

    (line,) = str(caught.value).splitlines()
    assert line.startswith(says)


def test_several_wrong_values_give_a_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_LOG_LEVEL", "loud")
    monkeypatch.setenv("HEADGATE_LATENCY_BUDGET_MS", "0")

    with pytest.raises(SettingsError) as caught:
        read_settings()

    assert len(str(caught.value).splitlines()) == 2


def test_a_password_shows_neither_in_the_settings_nor_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_DATABASE", "postgresql://user:secret-word@localhost/name")
    assert "secret-word" not in repr(read_settings())

    monkeypatch.setenv("HEADGATE_DATABASE", "mysql://user:secret-word@host/name")
    with pytest.raises(SettingsError) as caught:
        read_settings()
    assert "secret-word" not in str(caught.value)


def test_every_setting_is_described() -> None:
    rows = settings_table()

    assert len(rows) == len(Settings.model_fields)
    assert all(description.endswith(".") for _, _, description in rows)
