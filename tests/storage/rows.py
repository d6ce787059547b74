"""Rows for the tests: everything has a default, a test names what it is about."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from itertools import count
from typing import Any
from zlib import crc32

from sqlalchemy import insert

from storage import tables
from storage.database import Database

NOON = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)
TODAY = date(2026, 3, 14)
LOG_KEY = ("day", "topic_generation", "source_partition", "source_offset")


@dataclass
class RowMaker:
    """Inserts one row each; offsets count up from 0 over all tables."""

    database: Database
    offsets: "count[int]" = field(default_factory=count)

    def insert(self, model: type[tables.Base], values: dict[str, Any]) -> dict[str, Any]:
        with self.database.begin() as connection:
            connection.execute(insert(model), values)
        return values

    def transaction(self, event_id: str, **values: Any) -> dict[str, Any]:
        defaults = {
            **self._log_key(values),
            "event_id": event_id,
            "account_id": "a1",
            "merchant_id": "m1",
            "occurred_at": NOON,
            "recorded_at": NOON,
            "amount_e4": 125_000,
            "currency": "EUR",
        }
        return self.insert(tables.Transaction, defaults | values)

    def prediction(self, event_id: str, **values: Any) -> dict[str, Any]:
        defaults = {
            **self._log_key(values),
            "event_id": event_id,
            "account_id": "a1",
            "occurred_at": NOON,
            "scored_at": NOON,
            "score": 0.25,
            "threshold": 0.5,
            "flagged": False,
            "score_kind": "probability",
            "model": "detector:1",
        }
        return self.insert(tables.Prediction, defaults | values)

    def shadow(self, prediction: dict[str, Any], **values: Any) -> dict[str, Any]:
        """What a shadow said of an event that has a prediction."""
        shared = {name: prediction[name] for name in prediction if name in tables.ShadowPrediction.__table__.c}
        return self.insert(tables.ShadowPrediction, shared | {"model": "detector:9"} | values)

    def scored(self, event_id: str, *, flagged: bool = False, alert_id: str | None = None, **values: Any) -> None:
        """A transaction with its prediction."""
        stored = self.transaction(
            event_id, **{name: value for name, value in values.items() if name in tables.Transaction.__table__.c}
        )
        key = {name: stored[name] for name in LOG_KEY}
        own = {name: value for name, value in values.items() if name in tables.Prediction.__table__.c}
        self.prediction(event_id, **{"flagged": flagged, "alert_id": alert_id} | own | key)

    def alert(self, alert_id: str, event_ids: list[str], **values: Any) -> dict[str, Any]:
        defaults = {
            "alert_id": alert_id,
            "revision": 1,
            "topic_generation": 1,
            "source_partition": 0,
            "sequence": next(self.offsets),
            "source_offset": None,
            "status": "open",
            "event_ids": event_ids,
            "account_id": "a1",
            "occurred_at": NOON,
            "scored_at": NOON,
            "score": 0.9,
            "score_kind": "probability",
            "threshold": 0.5,
            "severity": "high",
            "amount_at_risk": 12.5,
            "model": "detector:1",
            "reasons": [{"feature": "amount", "text": "ten times the usual"}],
            "timeline": [],
        }
        return self.insert(tables.Alert, defaults | values)

    def label(self, feedback_id: str, label: str | None = "fraud", **values: Any) -> dict[str, Any]:
        """Feedback of kind "label", joined unless said otherwise."""
        defaults = {
            **self._log_key(values),
            "feedback_id": feedback_id,
            "given_at": NOON,
            "recorded_at": NOON,
            "kind": "label",
            "label": label,
            "source": "analyst",
            "entity_id": "a1",
            "status": "joined",
        }
        return self.insert(tables.Feedback, defaults | values)

    def engagement(self, event_id: str, action: str = "click", **values: Any) -> dict[str, Any]:
        defaults = {
            **self._log_key(values),
            "event_id": event_id,
            "user_id": "u1",
            "item_id": "i1",
            "occurred_at": NOON,
            "recorded_at": NOON,
            "action": action,
        }
        return self.insert(tables.Engagement, defaults | values)

    def slate(self, recommendation_id: str, item_ids: Sequence[str] = ("i1", "i2"), **values: Any) -> dict[str, Any]:
        """A recommendation of these items, in this order."""
        defaults = {
            **self._log_key(values),
            "recommendation_id": recommendation_id,
            "user_id": "u1",
            "made_at": NOON,
            "occurred_at": NOON,
            "policy": "recommender:1",
            "cause": f"cause of {recommendation_id}",
            "catalogue": "1",
            "floor": 0.05,
            "seed": 7,
            "candidate_hash": 8,
            "candidates": b"",
            "log_weights": b"",
        }
        stored = self.insert(tables.Recommendation, defaults | values)
        shared = {name: stored[name] for name in LOG_KEY} | {"recommendation_id": recommendation_id}
        for position, item_id in enumerate(item_ids, 1):
            chosen = {"position": position, "propensity": 0.5, "prefix_propensity": 0.5**position, "score": -position}
            self.insert(tables.RecommendationItem, shared | chosen | {"item_id": item_id})
        return stored

    def reward(self, feedback_id: str, value: float, **values: Any) -> dict[str, Any]:
        """Feedback of kind "reward" for item i1 of slate r1, joined unless said otherwise."""
        about = {"recommendation_id": "r1", "item_id": "i1"}
        return self.label(feedback_id, None, kind="reward", value=value, entity_id="u1", **(about | values))

    def dead_letter(self, **values: Any) -> dict[str, Any]:
        defaults = {
            **self._log_key(values),
            "topic": "transactions",
            "recorded_at": NOON,
            "error_code": "invalid_json",
            "error_message": "not JSON",
            "record_key": b"a1",
            "payload": b"{",
            "payload_bytes": 1,
            "sha256": "00",
        }
        return self.insert(tables.DeadLetter, defaults | values)

    def item(self, item_id: str, **values: Any) -> dict[str, Any]:
        defaults = {
            "item_id": item_id,
            "item_key": crc32(item_id.encode()),
            "topic_generation": 1,
            "source_partition": 0,
            "source_offset": next(self.offsets),
            "recorded_at": NOON,
            "title": f"title of {item_id}",
            "available": True,
            "deleted": False,
        }
        return self.insert(tables.Item, defaults | values)

    def model(self, name: str, version: int, **values: Any) -> dict[str, Any]:
        defaults = {
            "name": name,
            "version": version,
            "kind": "detector",
            "created_at": NOON,
            "artifact": f"{name}-{version}.safetensors",
            "sha256": "00",
            "size_bytes": 1,
            "feature_schema": 1,
            "metrics": {"average_precision": 0.75, "alerts_per_day": 2},
            "alias": None,
        }
        return self.insert(tables.Model, defaults | values)

    def training_run(self, name: str, version: int, **values: Any) -> dict[str, Any]:
        """One that promoted this version."""
        defaults = {
            "run_id": f"run of {name}:{version}",
            "model_name": name,
            "model_version": version,
            "started_at": NOON,
            "finished_at": NOON,
            "status": "succeeded",
            "config": {},
            "metrics": {},
            "message": "promoted: not worse",
        }
        return self.insert(tables.TrainingRun, defaults | values)

    def drift(self, subject: str, **values: Any) -> dict[str, Any]:
        defaults = {
            "day": TODAY,
            "model": "detector:1",
            "detector": "psi",
            "subject": subject,
            "detected_at": NOON,
            "value": 0.5,
            "bound": 0.25,
            "worker": "w1",
        }
        return self.insert(tables.Drift, defaults | values)

    def _log_key(self, values: dict[str, Any]) -> dict[str, Any]:
        offset = values["source_offset"] if "source_offset" in values else next(self.offsets)
        return {"day": TODAY, "topic_generation": 1, "source_partition": 0, "source_offset": offset}
