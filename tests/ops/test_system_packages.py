"""What is installed from Debian's packages: only what is missing, only where that is allowed."""

import os
from pathlib import Path

import pytest

from ops import system_packages


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No service, no client and no Docker; an apt-get that only writes down how it was called."""
    calls = tmp_path / "calls"
    programs = tmp_path / "bin"
    programs.mkdir()
    apt = programs / "apt-get"
    apt.write_text(f'#!/bin/sh\necho "$@" >> "{calls}"\n')
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    # PostgreSQL's programs are looked for outside the PATH too.
    needs = [
        (variable, present if package != "postgresql" else lambda: False, package)
        for variable, present, package in system_packages.NEEDS
    ]
    monkeypatch.setattr(system_packages, "NEEDS", needs)
    for variable in ("HEADGATE_TEST_DATABASE", "HEADGATE_TEST_REDIS", "HEADGATE_TEST_KAFKA"):
        monkeypatch.delenv(variable, raising=False)
    return calls


def test_root_gets_everything_that_is_missing(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    assert system_packages.main() == 0

    update, install = bare_machine.read_text().splitlines()
    assert update.endswith("update")
    assert install.endswith("postgresql redis-server openjdk-17-jre-headless maven kcat chromium")


def test_a_service_from_elsewhere_needs_no_package(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_TEST_KAFKA", "broker:9092")
    monkeypatch.setenv("HEADGATE_TEST_DATABASE", "postgresql://host/name")

    assert system_packages.missing_packages() == ["redis-server", "kcat", "chromium"]


def test_services_that_docker_runs_need_no_package_but_clients_do(bare_machine: Path) -> None:
    docker = bare_machine.parent / "bin" / "docker"
    docker.write_text("#!/bin/sh\nexit 0\n")
    docker.chmod(0o755)

    assert system_packages.missing_packages() == ["kcat", "chromium"]


def test_without_rights_it_says_what_is_missing_and_goes_on(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert system_packages.main() == 0

    assert not bare_machine.exists()
    assert "postgresql redis-server openjdk-17-jre-headless maven kcat chromium" in capsys.readouterr().err
