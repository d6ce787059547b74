"""What is deployed, as data: the files of docker-compose.yml, ops/k8s, ops/prometheus and ops/grafana, and what their
commands and variables have to agree with.

No Docker engine and no cluster runs in these tests: docs/deployment.md says what that leaves open.
"""

import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import typer
import yaml

from ops.cli import cli
from ops.documentation import DOCS
from ops.secret_files import FILE_SUFFIX
from ops.settings import secret_names, settings_table, variable

ROOT = DOCS.parent
OPS = ROOT / "ops"
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = OPS / "docker" / "Dockerfile"
MANIFESTS = OPS / "k8s"


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return found


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose()["services"]
    return found


def manifests() -> list[dict[str, Any]]:
    """Everything below ops/k8s but the kustomizations."""
    paths = [path for path in sorted(MANIFESTS.rglob("*.yaml")) if path.name != "kustomization.yaml"]
    return [document for path in paths for document in yaml.safe_load_all(path.read_text())]


def of_kind(*kinds: str) -> list[dict[str, Any]]:
    return [manifest for manifest in manifests() if manifest["kind"] in kinds]


def pod_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """The pod template's content."""
    spec = manifest["spec"]["jobTemplate"]["spec"] if manifest["kind"] == "CronJob" else manifest["spec"]
    template: dict[str, Any] = spec["template"]
    return template


def workloads() -> list[dict[str, Any]]:
    return of_kind("StatefulSet", "Deployment", "Job", "CronJob")


def grafana_dashboards() -> dict[str, dict[str, Any]]:
    folder = OPS / "grafana" / "dashboards"
    return {path.name: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def known_settings() -> set[str]:
    """The variables of settings, those that name a secret's file included."""
    return {name for name, _, _ in settings_table()} | {f"{variable(name)}{FILE_SUFFIX}" for name in secret_names()}


def in_shell(script: str) -> Iterator[list[str]]:
    """The arguments of every `headgate` in a shell script."""
    for found in re.finditer(r"\bheadgate ([^;|&\n]+)", script):
        yield shlex.split(found[1])


def check_command(arguments: list[str]) -> None:
    """Parses as the command line would. Raises click's UsageError, or AssertionError for an unknown command."""
    command: Any = typer.main.get_command(cli)
    words = list(arguments)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    if hasattr(command, "commands"):
        assert command.invoke_without_command, f"headgate {shlex.join(arguments)} is no command"
        assert not words or words[0].startswith("-"), f"headgate {shlex.join(arguments)} is no command"
    command.make_context("headgate", words)
