"""Secrets from files: what a file says counts as if the variable said it; a file that cannot be used is one line."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from ops.secret_files import MOST_BYTES, SecretFileRefused, read_secret_file
from ops.settings import Settings, SettingsError, read_settings, secret_names, settings_table, variable
from ops.terminal import load_settings

WORD = "secret-word"
DATABASE = f"postgresql://headgate:{WORD}@localhost:5432/headgate"
VALUES = {
    "database": DATABASE,
    "redis": f"redis://:{WORD}@localhost:6379/0",
    "dashboard_tokens": f"operator={WORD}-that-is-long-enough",
}


@pytest.fixture(autouse=True)
def no_settings_of_the_developer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, _, _ in settings_table():
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def secret_file(tmp_path: Path) -> Callable[..., Path]:
    def write(content: str | bytes = DATABASE + "\n", mode: int = 0o400) -> Path:
        path = tmp_path / "secret"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)
        return path

    return write


def problem() -> str:
    with pytest.raises(SettingsError) as caught:
        read_settings()
    (line,) = str(caught.value).splitlines()
    assert WORD not in line
    return line


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_secret_comes_from_a_file_without_the_end_of_its_line(
    monkeypatch: pytest.MonkeyPatch, secret_file: Callable[..., Path], name: str, ending: str
) -> None:
    monkeypatch.setenv(f"{variable(name)}_FILE", str(secret_file(VALUES[name] + ending)))

    settings = read_settings()

    assert getattr(settings, name).get_secret_value() == VALUES[name]
    assert WORD not in repr(settings) + repr(settings._secret_files)


def test_every_secret_setting_may_come_from_a_file_and_the_documentation_says_so() -> None:
    secrets = {variable(name) for name in secret_names()}
    told = {name for name, _, description in settings_table() if f"`{name}_FILE`" in description}

    assert set(VALUES) <= set(secret_names())
    assert told == secrets
    assert all(isinstance(getattr(Settings(), name), SecretStr | None) for name in secret_names())


def test_the_file_may_be_named_in_the_env_file_and_the_environment_may_take_it_back(
    monkeypatch: pytest.MonkeyPatch, secret_file: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(f"HEADGATE_DATABASE_FILE={secret_file()}\n")
    assert read_settings().database.get_secret_value() == DATABASE

    monkeypatch.setenv("HEADGATE_DATABASE_FILE", "")
    monkeypatch.setenv("HEADGATE_DATABASE", "sqlite:///here.sqlite")
    assert read_settings().database.get_secret_value() == "sqlite:///here.sqlite"


def test_a_value_and_a_file_at_once_are_refused(
    monkeypatch: pytest.MonkeyPatch, secret_file: Callable[..., Path]
) -> None:
    monkeypatch.setenv("HEADGATE_DATABASE", DATABASE)
    monkeypatch.setenv("HEADGATE_DATABASE_FILE", str(secret_file()))

    assert problem() == "HEADGATE_DATABASE: is set, and HEADGATE_DATABASE_FILE too; unset one of them"


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [
        ("", 0o400, "is empty"),
        ("\n\r\n", 0o400, "is empty"),
        (b"\xff\xfe", 0o400, "is no text in UTF-8"),
        ("x" * (MOST_BYTES + 1), 0o400, "has more than"),
        (DATABASE, 0o602, "every user of this machine may write"),
        (f"mysql://headgate:{WORD}@localhost/name", 0o400, "must begin with postgresql:// or sqlite:///"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line_with_the_variable_and_without_the_secret(
    monkeypatch: pytest.MonkeyPatch, secret_file: Callable[..., Path], content: str | bytes, mode: int, says: str
) -> None:
    monkeypatch.setenv("HEADGATE_DATABASE_FILE", str(secret_file(content, mode)))

    line = problem()

    assert line.startswith("HEADGATE_DATABASE_FILE: ")
    assert says in line


def test_a_file_that_is_absent_or_no_file_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEADGATE_REDIS_FILE", str(tmp_path / "absent"))
    assert "absent cannot be read: No such file or directory" in problem()

    monkeypatch.setenv("HEADGATE_REDIS_FILE", str(tmp_path))
    assert problem().endswith(f"{tmp_path} is no file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(secret_file: Callable[..., Path]) -> None:
    with pytest.raises(SecretFileRefused, match="Permission denied"):
        read_secret_file(secret_file(mode=0o000))


def test_a_file_that_every_user_may_read_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, secret_file: Callable[..., Path]
) -> None:
    path = secret_file(mode=0o444)
    monkeypatch.setenv("HEADGATE_DATABASE_FILE", str(path))
    monkeypatch.setattr("ops.logging.configure_logging", lambda *_: None)
    with capture_logs() as logs:
        load_settings()
    assert [(entry["log_level"], entry["file"]) for entry in logs] == [("warning", str(path))]

    path.chmod(0o440)
    with capture_logs() as logs:
        load_settings()
    assert logs == []


def test_another_process_is_told_the_file_and_not_what_it_says(
    monkeypatch: pytest.MonkeyPatch, secret_file: Callable[..., Path]
) -> None:
    path = secret_file()
    monkeypatch.setenv("HEADGATE_DATABASE_FILE", path.name)  # the other process may work in another folder
    settings = read_settings()
    passed = settings.environment()

    assert WORD not in str(passed)
    assert passed["HEADGATE_DATABASE_FILE"] == str(path)
    for name, value in passed.items():
        monkeypatch.setenv(name, value)
    assert read_settings() == settings


def test_a_secret_that_was_replaced_is_passed_on_in_place_of_its_file(
    monkeypatch: pytest.MonkeyPatch, secret_file: Callable[..., Path]
) -> None:
    monkeypatch.setenv("HEADGATE_DATABASE_FILE", str(secret_file()))
    replaced = read_settings().model_copy(update={"database": SecretStr("sqlite:///demo.sqlite")})
    for name, value in replaced.environment().items():
        monkeypatch.setenv(name, value)

    assert read_settings().database.get_secret_value() == "sqlite:///demo.sqlite"
