"""A model's card as lines for a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

COUNTS = ("events", "slates", "users", "frauds")


def card_in_words(card: Mapping[str, Any]) -> Iterator[str]:
    yield f"{card['kind']}, made by Headgate {card['code']}"
    yield "data"
    yield from (f"  {words(name):20} {said(value)}" for name, value in card["data"].items())
    yield "quality (95 % interval)"
    yield from (f"  {line}" for line in quality_lines(card["quality"]))
    if card["calibration"]:
        yield "calibration"
        yield f"  expected error {card['calibration']['expected_error']:.2g}"
        for each in card["calibration"]["bins"]:
            share = f"{each['fraud_share']:.2%} were frauds"
            yield f"  said {each['mean_score']:.2%}, {share} of {each['events']:,} events"
    yield "limits"
    yield from (f"  - {limit}" for limit in card["limits"])
    yield "settings"
    yield "  " + ", ".join(f"{words(name)} {said(value)}" for name, value in card["settings"].items())


def quality_lines(quality: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    width = max((len(name_of(part)) for part in quality), default=0)
    for part in quality:
        counts = ", ".join(f"{part[name]:,} {name}" for name in COUNTS if name in part)
        measures = ", ".join(measure(name, part) for name in part["measures"]) or "too few to measure"
        yield f"{name_of(part):{width}}  " + "; ".join(filter(None, (counts, measures)))


def name_of(part: Mapping[str, Any]) -> str:
    return part["name"] if part["kind"] == "all" else f"{part['kind']} {part['name']}"


def measure(name: str, part: Mapping[str, Any]) -> str:
    bounds = part["intervals"].get(name)
    interval = "" if bounds is None else f" ({bounds[0]:.3f} to {bounds[1]:.3f})"
    return f"{words(name)} {part['measures'][name]:.3f}{interval}"


def words(name: str) -> str:
    return name.replace("_", " ")


def said(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)
