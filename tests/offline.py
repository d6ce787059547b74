"""The scores that a model gives to events without any service: what live scores must equal.

Two independent ways: step by step in batches of any size, as a worker does it, and each account's events as one
sequence, as training does it.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.artifact import TrainedDetector
from models.checks import sequence_scores
from models.events import Events
from models.scoring import Scorer
from tests.deployment import Deployment

#: (partition, offset)
Place = tuple[int, int]
STORED_COLUMNS = "source_partition, source_offset, event_id, occurred_at, account_id, merchant_id, amount, score"
OPTIONAL_TEXTS = ("channel", "country", "category", "memo")


def live_scores(deployment: Deployment) -> dict[Place, float]:
    rows = deployment.sql("SELECT source_partition, source_offset, score FROM predictions")
    return {(partition, offset): score for partition, offset, score in rows}


def stored_events(deployment: Deployment) -> Events:
    """From v_predictions, in offset order."""
    rows = deployment.sql(
        f"SELECT {STORED_COLUMNS}, {', '.join(OPTIONAL_TEXTS)} FROM v_predictions ORDER BY source_offset"
    )
    return _events([{**row._mapping, "occurred_at": row.occurred_at.timestamp() * 1000} for row in rows])


def scores_of_stored_events(deployment: Deployment, model: bytes, batch: int = 777) -> dict[Place, float]:
    """All partitions through one scorer, in offset order."""
    events = stored_events(deployment)
    scorer = Scorer(TrainedDetector.from_bytes(model))
    found = [
        scorer.score(events.take(np.arange(first, min(first + batch, len(events))))).score
        for first in range(0, len(events), batch)
    ]
    return dict(zip(_places(events), np.concatenate(found).tolist(), strict=True))


def scores_of_sent_events(model: bytes, messages: Mapping[Place, Mapping[str, Any]]) -> dict[Place, float]:
    """From the good messages of the log, repeats among them: each account's events as one sequence. The first of an
    id has a score, a repeat has none."""
    detector = TrainedDetector.from_bytes(model)
    result: dict[Place, float] = {}
    for wanted in {partition for partition, _ in messages}:
        places = sorted(place for place in messages if place[0] == wanted)
        rows = [{**messages[place], "source_partition": place[0], "source_offset": place[1]} for place in places]
        first_of_id = {row["event_id"]: place for row, place in zip(reversed(rows), reversed(places), strict=True)}
        scores = sequence_scores(detector, _events(rows)).tolist()
        result |= dict(zip(sorted(first_of_id.values()), scores, strict=True))
    return result


def good_messages(deployment: Deployment) -> dict[Place, dict[str, Any]]:
    """The transactions topic's messages that are JSON objects with an event_id."""
    found = {}
    for record in deployment.records("transactions"):
        try:
            fields = json.loads(record.value or b"")
        except ValueError:
            continue
        if isinstance(fields, dict) and "event_id" in fields:
            found[record.partition, record.offset] = fields
    return found


def greatest_difference(live: Mapping[Place, float], offline: Mapping[Place, float]) -> float:
    """Over the same places; fails where these differ."""
    assert live.keys() == offline.keys()
    return max(abs(live[place] - offline[place]) for place in live)


def _events(rows: Sequence[Mapping[str, Any]]) -> Events:
    columns = {
        "partition": [row["source_partition"] for row in rows],
        "offset": [row["source_offset"] for row in rows],
        "occurred_at": [round(row["occurred_at"]) for row in rows],
        "amount": [float(row["amount"]) for row in rows],
    }
    for name in ("event_id", "account_id", "merchant_id", *OPTIONAL_TEXTS):
        columns[name] = [row.get(name) for row in rows]
    return Events.from_columns(columns)


def _places(events: Events) -> list[Place]:
    return list(zip(events.partition.tolist(), events.offset.tolist(), strict=True))
