"""The parts of docs/ that repeat what the code says: settings, commands, metrics and asyncapi.json, rendered from the
code, and the licences of what is installed.

`python -m ops.documentation` writes them; a test fails while one says something else. A page has its own words around
the generated part, which lies between two comments; asyncapi.json and licences.md are generated whole.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from typer.testing import CliRunner

from ops import asyncapi, licences
from ops.cli import cli
from ops.dashboard.metrics import DashboardMetrics
from ops.health_server import ReadinessMetric
from ops.jobs.retrain_metrics import RetrainingMetrics
from ops.settings import settings_table
from streams.health import FlowMetrics
from streams.recommendation_metrics import RecommendationMetrics
from streams.state_metrics import StateMetrics

DOCS = Path(__file__).parents[1] / "docs"
COMMAND = "python -m ops.documentation"
BEGIN = f"<!-- Generated from the code; to write it again: {COMMAND} -->\n"
END = "<!-- End of the generated part -->\n"
HELP_WIDTH = 110
ASYNCAPI_FILE = "asyncapi.json"
LICENCES_FILE = "licences.md"


@dataclass(frozen=True, slots=True)
class DocumentedMetric:
    """name: as Prometheus shows it, but for a histogram's _bucket, _sum and _count; kind: counter, gauge, histogram."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


def settings() -> str:
    rows = ((f"`{name}`", _code(default), description) for name, default, description in settings_table())
    return _table(("variable", "default", "meaning"), rows)


def commands() -> str:
    """Every command with its help, as a terminal shows it."""
    parts = [f"## {path}\n\n```text\n{_help(path)}\n```\n" for path in command_paths()]
    return "\n".join(parts)


def metrics() -> str:
    return _table(("metric", "type", "labels", "meaning"), _metric_rows())


def asyncapi_document() -> str:
    return asyncapi.document((DOCS / "contract.md").read_text())


def command_paths() -> list[str]:
    """`headgate demo`, `headgate models list` and so on: everything that does something, in the order of the code."""
    return list(_leaves(typer.main.get_command(cli), "headgate"))


#: Page of docs/ -> what renders its generated part.
GENERATED: Mapping[str, Callable[[], str]] = {
    "settings.md": settings,
    "commands.md": commands,
    "metrics.md": metrics,
}


def with_generated_part(page: str, part: str) -> str:
    """The page's text with `part` between its two comments. Raises ValueError where they are missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks the lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n{part}\n{END}{after}"


def main() -> None:
    for name, render in GENERATED.items():
        page = DOCS / name
        page.write_text(with_generated_part(page.read_text(), render()))
        print(f"docs/{name} is up to date")
    (DOCS / ASYNCAPI_FILE).write_text(asyncapi_document())
    print(f"docs/{ASYNCAPI_FILE} is up to date")
    (DOCS / LICENCES_FILE).write_text(licences.page())
    print(f"docs/{LICENCES_FILE} is up to date")


def _leaves(command: Any, path: str) -> Iterator[str]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path
        return
    if command.invoke_without_command:
        yield path
    for name, child in inner.items():
        yield from _leaves(child, f"{path} {name}")


def _help(path: str) -> str:
    program, *arguments = path.split()
    result = CliRunner().invoke(cli, [*arguments, "--help"], prog_name=program, terminal_width=HELP_WIDTH)
    return "\n".join(line.rstrip() for line in result.stdout.strip().splitlines())


def _metric_rows() -> Iterator[tuple[str, str, str, str]]:
    for metric in documented_metrics():
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        yield f"`{metric.name}`", metric.kind, labels, metric.meaning


def documented_metrics() -> Iterator[DocumentedMetric]:
    """Every metric of every process, in the order of the code."""
    registry = CollectorRegistry()
    parts: tuple[object, ...] = (
        ReadinessMetric(registry),
        FlowMetrics(registry),
        RecommendationMetrics(registry),
        StateMetrics(registry),
        DashboardMetrics(registry),
        RetrainingMetrics(registry),
    )
    for metric in [metric for part in parts for metric in vars(part).values()]:
        if isinstance(metric, MetricWrapperBase):
            (described,) = metric.describe()
            name = f"{described.name}_total" if described.type == "counter" else described.name
            yield DocumentedMetric(name, described.type, tuple(metric._labelnames), described.documentation)


def _table(heading: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heading, tuple("---" for _ in heading), *rows]
    return "".join(f"| {' | '.join(_cell(text) for text in line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", r"\|")


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


if __name__ == "__main__":
    main()
