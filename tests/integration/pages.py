"""Snippets of a page of documentation, run as they stand: what is shown to users is what is tested."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streams.kafka import topic_configurations
from tests.deployment import CHECKOUT, Deployment, wait_until

#: With the commands of this environment.
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


@dataclass(frozen=True)
class Page:
    """A page by its path in the checkout."""

    path: str

    def snippets(self, language: str, heading: str | None = None) -> list[str]:
        """The code blocks of a language: of the section with this heading, or of the whole page."""
        text = (CHECKOUT / self.path).read_text()
        if heading is not None:
            _, found, rest = text.partition(f"\n{heading}\n")
            assert found, f"{self.path} has no heading {heading!r}"
            text = re.split(r"\n## ", rest)[0]
        return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def addresses(deployment: Deployment) -> dict[str, str]:
    """What a client of the service knows, and nothing else."""
    return {
        "HEADGATE_KAFKA": deployment.kafka,
        "HEADGATE_REDIS": deployment.redis_url,
        "HEADGATE_DATABASE": deployment.database_url,
    }


def run(command: list[str], snippet: str, folder: Path, environment: Mapping[str, str], seconds: float = 60) -> str:
    """A snippet on the standard input of a process of its own; its standard output."""
    result = subprocess.run(
        command,
        input=snippet,
        env={**environment, "PATH": PATH},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert result.returncode == 0, f"{snippet}\n{result.stdout}{result.stderr}"
    return result.stdout


def run_python(deployment: Deployment, snippet: str) -> str:
    return run([sys.executable, "-I", "-"], snippet, deployment.folder, addresses(deployment))


def delete_topics(servers: str) -> None:
    """Those without a prefix, as pages have them."""
    admin = AdminClient({"bootstrap.servers": servers})
    names = set(topic_configurations("", 1_000_000))
    present = names & admin.list_topics(timeout=10).topics.keys()
    for future in admin.delete_topics(sorted(present)).values() if present else ():
        try:
            future.result(15)
        except KafkaException as error:
            raise AssertionError(f"a topic could not be deleted: {error}") from error
    wait_until("the topics are gone", lambda: not names & admin.list_topics(timeout=10).topics.keys())
