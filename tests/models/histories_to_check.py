"""An honest history as a data check sees it, to plant one fault at a time in."""

from typing import Any

import numpy as np

from models.data_figures import DataFigures, LabelFile, figures_of
from models.data_profile import DataProfile, Observed
from models.data_quality import DataQuality, quality_of
from models.events import MILLISECONDS_A_DAY as DAY
from models.events import Events

BEGIN = 1_767_225_600_000  # a midnight
COUNT, DAYS, HORIZON = 6_000, 30, 7 * DAY


def columns(seed: int = 0) -> dict[str, Any]:
    """Of COUNT events on DAYS days; 2 % are frauds, of which a label says so three days later."""
    draw = np.random.default_rng(seed)
    fraud = draw.random(COUNT) < 0.02
    time = np.sort(draw.integers(BEGIN, BEGIN + DAYS * DAY, COUNT))
    return {
        "event_id": [f"pay-{number:06d}" for number in range(COUNT)],
        "occurred_at": time,
        "account_id": [f"acct-{number}" for number in draw.integers(0, 300, COUNT).tolist()],
        "merchant_id": [f"shop-{number}" for number in draw.integers(0, 80, COUNT).tolist()],
        "amount": np.round(np.exp(draw.normal(3 + fraud, 1.0)), 2),
        "channel": draw.choice(["online", "card"], COUNT).tolist(),
        "country": draw.choice(["DE", "FR", "PL"], COUNT, p=[0.7, 0.2, 0.1]).tolist(),
        "category": draw.choice([f"c{number}" for number in range(12)], COUNT).tolist(),
        "memo": [f"invoice {number}" if number % 5 == 0 else None for number in range(COUNT)],
        "currency": ["EUR"] * COUNT,
        "known": np.where(fraud, 1, -1).astype(np.int8),
        "given_at": np.where(fraud, time + 3 * DAY, 0),
    }


def observed(values: dict[str, Any]) -> Observed:
    events = Events.from_columns({name: values[name] for name in values if name not in OBSERVED})
    return Observed(events, values["known"], values["given_at"], values["currency"])


OBSERVED = ("known", "given_at", "currency")


def profile(values: dict[str, Any], *, sizes: tuple[int, ...] = (COUNT,)) -> DataProfile:
    """In batches of these sizes, again and again."""
    seen = observed(values)
    found = DataProfile(int(seen.events.occurred_at.max(initial=0)) + 1 - HORIZON)
    first, turn = 0, 0
    while first < len(seen):
        rows = np.arange(first, min(first + sizes[turn % len(sizes)], len(seen)))
        picked = rows.tolist()
        currency = [seen.currency[row] for row in picked]
        found.add(Observed(seen.events.take(rows), seen.known[rows], seen.given_at[rows], currency))
        first, turn = int(rows[-1]) + 1, turn + 1
    return found


def figures(values: dict[str, Any], labels: LabelFile | None = None) -> DataFigures:
    return figures_of(profile(values), labels)


def checked(values: dict[str, Any], labels: LabelFile | None = None) -> DataQuality:
    return quality_of(figures(values, labels))


def frauds(values: dict[str, Any]) -> np.ndarray:
    found: np.ndarray = values["known"] == 1
    return found
