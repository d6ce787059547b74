"""The rule by which a service chooses its threshold. What it gives is live_threshold.py's business.

A rule is written as its name and its number: `budget`, `budget:100`, `precision:0.8`, `anomaly:0.0001`, `registered`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

RuleName = Literal["budget", "precision", "anomaly", "registered"]
#: name -> smallest and largest number.
BOUNDS: Mapping[str, tuple[float, float]] = {
    "budget": (0.0, float("inf")),
    "precision": (0.01, 0.99),
    "anomaly": (1e-9, 0.1),
}


@dataclass(frozen=True, slots=True)
class AlertRule:
    """number: alerts per day (None: those that the model was trained for), the least precision, the share of ordinary
    events that may alert; None for the registered threshold."""

    name: RuleName = "budget"
    number: float | None = None


def parse_rule(text: str) -> AlertRule:
    """Raises ValueError in words."""
    name, colon, number = text.strip().partition(":")
    if name not in get_args(RuleName):
        raise ValueError(f"must begin with one of {', '.join(get_args(RuleName))}; {name!r} does not")
    rule_name: RuleName = name  # type: ignore[assignment]
    if not colon:
        if name in ("precision", "anomaly"):
            raise ValueError(f"needs a number, as in {name}:{0.8 if name == 'precision' else 0.0001}")
        return AlertRule(rule_name)
    if name == "registered":
        raise ValueError("registered takes no number")
    least, most = BOUNDS[name]
    try:
        value = float(number)
    except ValueError:
        raise ValueError(f"{number!r} is no number") from None
    if not least <= value <= most or value == float("inf"):
        raise ValueError(f"{name} must lie between {least:g} and {most:g}, not {number}")
    return AlertRule(rule_name, value)
