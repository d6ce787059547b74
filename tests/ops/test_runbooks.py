"""Each alert rule of ops/prometheus/ has its heading on the page of operations, and each such heading its rule."""

import re

from ops.documentation import DOCS

RULES = "".join(path.read_text() for path in sorted((DOCS.parent / "ops" / "prometheus").glob("*.yml")))
PAGE = (DOCS / "operations.md").read_text().partition("\n## Incidents\n")[2]
PARTS = ("- **Symptom.**", "- **Cause.**", "- **Look at**", "- **Do.**")


def alerts() -> list[str]:
    return re.findall(r"^\s*- alert: (\w+)$", RULES, re.MULTILINE)


def incidents() -> dict[str, str]:
    """Heading -> what is below it."""
    headings = re.findall(r"^### (.+)$", PAGE, re.MULTILINE)
    return dict(zip(headings, re.split(r"^### .+$", PAGE, flags=re.MULTILINE)[1:], strict=True))


def test_every_alert_has_its_heading_and_every_heading_its_alert() -> None:
    assert len(alerts()) >= 10
    assert sorted(incidents()) == sorted(alerts())


def test_every_alert_names_the_place_of_its_heading() -> None:
    named = re.findall(r"^\s*runbook(?:_url)?: \"?(\S+?)\"?$", RULES, re.MULTILINE)

    assert named == [f"docs/operations.md#{name.lower()}" for name in alerts()]


def test_every_incident_says_symptom_cause_what_to_look_at_and_what_to_do() -> None:
    assert {name: part for name, text in incidents().items() for part in PARTS if part not in text} == {}
