"""Rules and dashboards ask for metrics and labels that there are. promtool, where installed, says more, by hand."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from ops.documentation import DOCS, documented_metrics
from tests.ops.deploy.artefacts import OPS, grafana_dashboards, services

PROMETHEUS = OPS / "prometheus"
METRICS = {metric.name: metric for metric in documented_metrics()}
#: What Prometheus adds to every sample, and the one of a histogram's buckets.
GIVEN = {"job", "instance"}
DASHBOARD = "headgate_dashboard_"
FUNCTIONS = {
    *("absent", "and", "by", "count", "deriv", "histogram_quantile", "increase", "max", "min", "offset", "on", "or"),
    *("rate", "sum", "time", "unless", "vector"),
}


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def jobs() -> dict[str, dict[str, Any]]:
    found = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    return {job["job_name"]: job for job in found}


def targets() -> Iterator[tuple[str, str]]:
    """Expression and legend of every panel."""
    for dashboard in grafana_dashboards().values():
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                yield target["expr"], target["legendFormat"]


ALERTS = {rule["alert"]: rule for rule in rules()}
EXPRESSIONS = sorted({*(rule["expr"] for rule in rules()), *(expression for expression, _ in targets())})


def labels_of(sample: str) -> set[str]:
    """Of a metric, or of one of a histogram's series. Raises KeyError where there is no such metric."""
    if sample == "up":
        return set(GIVEN)
    name = re.sub(r"_(bucket|sum|count)$", "", sample)
    histogram = METRICS.get(name)
    if histogram is not None and histogram.kind == "histogram" and name != sample:
        return {*histogram.labels, *GIVEN, *(["le"] if sample.endswith("_bucket") else [])}
    metric = METRICS[sample]
    assert metric.kind != "histogram", f"{sample} has no series of its own name"
    return {*metric.labels, *GIVEN}


def selectors(expression: str) -> list[tuple[str, str]]:
    """Each metric with what is in its braces."""
    return re.findall(r"\b(headgate_\w+|up)\b(?:\{([^}]*)\})?", re.sub(r'"[^"]*"', "''", expression))


def grouped_metrics(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric that follows a grouping, with the labels of that."""
    bare = re.sub(r'"[^"]*"', "''", expression)
    for found in re.finditer(r"\b(?:by|on) \(([^)]*)\)", bare):
        metric = re.search(r"\b(?:headgate_\w+|up)\b", bare[found.end() :])
        assert metric is not None
        yield metric[0], {label.strip() for label in found[1].split(",")}


def grouping(expression: str) -> set[str]:
    return {label.strip() for found in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression) for label in found.split(",")}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_asks_for_metrics_and_labels_that_exist(expression: str) -> None:
    found = [(name, chosen) for name, chosen in selectors(expression) if not name.startswith(DASHBOARD)]
    assert found
    for name, chosen in found:
        assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", chosen)) <= labels_of(name)
    for name, labels in grouped_metrics(expression):
        assert name.startswith(DASHBOARD) or labels <= labels_of(name)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_is_balanced_and_calls_functions_that_there_are(expression: str) -> None:
    open_ones = []
    for letter in re.sub(r'"[^"]*"', "", expression):
        if letter in "([{":
            open_ones.append(letter)
        elif letter in ")]}":
            assert open_ones
            assert open_ones.pop() + letter in ("()", "[]", "{}")
    assert open_ones == []
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(?:by|on) \([^)]*\)|\boffset \w+', "", expression)
    words = {word for word in re.findall(r"\b[a-z_]\w*", bare) if word != "up" and not word.startswith("headgate_")}
    assert words <= FUNCTIONS


def test_counters_are_looked_at_by_their_increase() -> None:
    """Their totals begin anew with every process."""
    for expression in EXPRESSIONS:
        if " unless " not in expression:
            totals = re.findall(r"headgate_\w+_total(?:\{[^}]*\})?(\[)?", expression)
            assert all(totals), expression


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_what_it_is_and_where_to_read_on(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"
    assert re.fullmatch(r"\d+[mh]", rule["for"])
    given = re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])
    grouped = grouping(rule["expr"])
    assert set(given) <= (grouped or set.intersection(*(labels_of(metric) for metric, _ in selectors(rule["expr"]))))


def test_no_two_alerts_share_a_name_and_every_one_is_in_the_documentation() -> None:
    assert len(ALERTS) == len(rules())
    table = (DOCS / "metrics.md").read_text().partition("## What to alert on")[2]
    assert set(re.findall(r"`(Headgate\w+)`", table)) == set(ALERTS)


def test_every_job_that_is_asked_for_is_scraped_and_its_services_exist() -> None:
    asked = {job for expression in EXPRESSIONS for job in re.findall(r'job="([^"]+)"', expression)}
    assert asked <= set(jobs())
    for job in jobs().values():
        (discovery,) = job["dns_sd_configs"]
        for name in discovery["names"]:
            assert f":{discovery['port']}/" in services()[name]["healthcheck"]["test"][-1]


def test_the_rules_file_is_loaded() -> None:
    configured = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    assert [(PROMETHEUS / name).is_file() for name in configured["rule_files"]] == [True]


def test_every_metric_is_on_a_dashboard() -> None:
    shown = {name for expression, _ in targets() for name, _ in selectors(expression)}
    shown |= {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}

    assert {name for name in METRICS if not name.startswith(DASHBOARD)} - shown == set()


def test_legends_name_labels_that_their_series_have() -> None:
    for expression, legend in targets():
        assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= grouping(expression), expression


@pytest.mark.parametrize("name", grafana_dashboards())
def test_a_dashboard_can_be_provisioned_and_its_panels_do_not_overlap(name: str) -> None:
    dashboard = grafana_dashboards()[name]
    (source,) = yaml.safe_load((OPS / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    used: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & used
        assert max(x for x, _ in cells) < 24
        used |= cells
        assert {target["datasource"]["uid"] for target in panel.get("targets", [])} <= {source["uid"]}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_dashboards_do_not_share_an_id_and_lie_where_grafana_looks() -> None:
    found = grafana_dashboards()
    assert len({dashboard["uid"] for dashboard in found.values()}) == len(found) == 3
    provider = yaml.safe_load((OPS / "grafana/provisioning/dashboards/headgate.yml").read_text())["providers"][0]
    mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in services()["grafana"]["volumes"]}
    assert mounted[provider["options"]["path"]] == "./ops/grafana/dashboards"
    home = services()["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home.rpartition("/")[2] in found
