"""From decoded columns, scores and decisions to the rows of the SQL tables, encoded once for one database.

The only place, with streams/alert_rows.py and streams/items.py, that knows how a message of the contract lies in the
tables. No I/O.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from storage import tables
from storage.bulk import EncodedRows, SharedTexts, encode_rows
from storage.progress import Claim
from streams.decode import DecodedFeedback, DecodedTransactions
from streams.decode_engagements import DecodedEngagements
from streams.recommended_rows import RecommendedRows
from streams.records import MILLISECONDS_A_DAY, DeadRecord

#: A record above the size limit keeps this much of its key and of its value; every other dead letter is kept whole.
KEPT_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """What the detector said of n transactions. scored_at in epoch milliseconds; unexplained float64[n]: how little the
    account alone explains the amount, 0 to 1."""

    score: npt.NDArray[np.float64]
    unexplained: npt.NDArray[np.float64]
    flagged: npt.NDArray[np.bool_]
    threshold: float
    score_kind: str
    model: str
    scored_at: int
    alert_id: Sequence[str | None]


@dataclass(frozen=True, slots=True)
class ShadowRows:
    """What the model in the champion's shadow said of the same transactions at the same time."""

    score: npt.NDArray[np.float64]
    flagged: npt.NDArray[np.bool_]
    threshold: float
    score_kind: str
    model: str


class RowEncoder:
    """Rows for one SQL dialect ("postgresql" or "sqlite")."""

    def __init__(self, dialect: str) -> None:
        self._dialect = dialect

    def transactions(
        self,
        claim: Claim,
        decoded: DecodedTransactions,
        duplicate: npt.NDArray[np.bool_],
        scored: ScoredRows,
        shadow: ShadowRows | None = None,
    ) -> list[EncodedRows]:
        """Rows of `transactions`, `predictions` and `shadow_predictions` for what is new, of `duplicates` for what is
        not."""
        encoded, fresh = self._duplicates(claim, decoded, duplicate, decoded.event_id, decoded.account_id)
        if len(fresh):
            encoded += self._applied(claim, decoded, fresh, scored, shadow)
        return encoded

    def engagements(
        self, claim: Claim, decoded: DecodedEngagements, duplicate: npt.NDArray[np.bool_]
    ) -> list[EncodedRows]:
        """Rows of `engagements` for what is new, of `duplicates` for what is not."""
        encoded, fresh = self._duplicates(claim, decoded, duplicate, decoded.event_id, decoded.user_id)
        if len(fresh):
            take = _taker(fresh, len(decoded))
            columns = {
                **self._key(claim, decoded.recorded_at[fresh], decoded.offset[fresh]),
                "event_id": take(decoded.event_id),
                "user_id": take(decoded.user_id),
                "item_id": take(decoded.item_id),
                "occurred_at": decoded.occurred_at[fresh],
                "recorded_at": decoded.recorded_at[fresh],
                "action": take(decoded.action),
                "value": [None if value != value else value for value in decoded.value[fresh].tolist()],
                "recommendation_id": take(decoded.recommendation_id),
                "extra": take(decoded.extra),
            }
            encoded.append(encode_rows(self._dialect, tables.Engagement, columns, len(fresh)))
        return encoded

    def recommendations(self, claim: Claim, decoded: DecodedEngagements, made: RecommendedRows) -> list[EncodedRows]:
        """Rows of `recommendations` and `recommendation_items`, under the key of the engagement that each answers."""
        if not len(made):
            return []
        recommendation_id = SharedTexts(made.recommendation_id)
        slates = {
            **self._key(claim, decoded.recorded_at[made.row], decoded.offset[made.row]),
            "recommendation_id": recommendation_id,
            "user_id": [decoded.user_id[row] for row in made.row.tolist()],
            "made_at": made.made_at,
            "occurred_at": decoded.occurred_at[made.row],
            "policy": list(made.policy),
            "cause": [decoded.event_id[row] for row in made.row.tolist()],
            "catalogue": made.catalogue,
            "floor": made.floor,
            "seed": made.seed.astype(np.int64),
            "candidate_hash": _set_hashes(made.candidates, made.present),
            "candidates": _packed(made.candidates.astype("<i8", copy=False), made.present),
            "log_weights": _packed(made.log_weights.astype("<f4", copy=False), made.present),
        }
        sizes = np.array([len(items) for items in made.item_id])
        slate, place = np.nonzero(np.arange(made.propensity.shape[1]) < sizes[:, None])
        row = made.row[slate]
        items = {
            **self._key(claim, decoded.recorded_at[row], decoded.offset[row]),
            "position": place + 1,
            "recommendation_id": [recommendation_id[one] for one in slate.tolist()],
            "item_id": [item for items in made.item_id for item in items],
            "propensity": made.propensity[slate, place],
            "prefix_propensity": made.prefix[slate, place],
            "score": made.score[slate, place].astype(np.float64, copy=False),
        }
        return [
            encode_rows(self._dialect, tables.Recommendation, slates, len(made)),
            encode_rows(self._dialect, tables.RecommendationItem, items, len(slate)),
        ]

    def _applied(
        self,
        claim: Claim,
        decoded: DecodedTransactions,
        fresh: npt.NDArray[np.intp],
        scored: ScoredRows,
        shadow: ShadowRows | None,
    ) -> list[EncodedRows]:
        count = len(fresh)
        take = _taker(fresh, len(decoded))
        key = self._key(claim, decoded.recorded_at[fresh], decoded.offset[fresh])
        event_id, account_id = SharedTexts(take(decoded.event_id)), SharedTexts(take(decoded.account_id))
        occurred_at = decoded.occurred_at[fresh]
        transactions = {
            **key,
            "event_id": event_id,
            "account_id": account_id,
            "merchant_id": take(decoded.merchant_id),
            "occurred_at": occurred_at,
            "recorded_at": decoded.recorded_at[fresh],
            "amount_e4": decoded.amount_e4[fresh],
            "currency": take(decoded.currency),
            "channel": take(decoded.channel),
            "country": take(decoded.country),
            "category": take(decoded.category),
            "memo": take(decoded.memo),
            "extra": take(decoded.extra),
        }
        shared = {
            **key,
            "event_id": event_id,
            "account_id": account_id,
            "occurred_at": occurred_at,
            "scored_at": scored.scored_at,
        }
        predictions = {
            **shared,
            **_said(scored, fresh),
            "alert_id": take(scored.alert_id),
            "unexplained": scored.unexplained[fresh],
        }
        encoded = [
            encode_rows(self._dialect, tables.Transaction, transactions, count),
            encode_rows(self._dialect, tables.Prediction, predictions, count),
        ]
        if shadow is not None:
            beside = {**shared, **_said(shadow, fresh)}
            encoded.append(encode_rows(self._dialect, tables.ShadowPrediction, beside, count))
        return encoded

    def dead_letters(self, claim: Claim, dead: Sequence[DeadRecord]) -> list[EncodedRows]:
        if not dead:
            return []
        columns = {
            **self._key(
                claim,
                np.array([letter.recorded_at for letter in dead], np.int64),
                np.array([letter.offset for letter in dead], np.int64),
            ),
            "topic": claim.topic,
            "recorded_at": np.array([letter.recorded_at for letter in dead], np.int64),
            "error_code": [letter.code for letter in dead],
            "error_message": [_printable(letter.message) for letter in dead],
            "record_key": [_kept(letter, letter.key) for letter in dead],
            "payload": [_kept(letter, letter.value) for letter in dead],
            "payload_bytes": np.array([len(letter.value or b"") for letter in dead], np.int64),
            "sha256": [None if letter.value is None else sha256(letter.value).hexdigest() for letter in dead],
        }
        return [encode_rows(self._dialect, tables.DeadLetter, columns, len(dead))]

    def feedback(self, claim: Claim, decoded: DecodedFeedback, duplicate: npt.NDArray[np.bool_]) -> list[EncodedRows]:
        """Rows of `feedback` (all pending; the join follows in the same transaction) and of `duplicates`."""
        feedback_id = [message.feedback_id for message in decoded.messages]
        encoded, fresh = self._duplicates(claim, decoded, duplicate, feedback_id, decoded.entity_id)
        if len(fresh):
            messages = [decoded.messages[row] for row in fresh]
            names = (
                "feedback_id",
                "kind",
                "event_id",
                "alert_id",
                "recommendation_id",
                "label",
                "item_id",
                "source",
            )
            columns = {
                **self._key(claim, decoded.recorded_at[fresh], decoded.offset[fresh]),
                **{name: [getattr(message, name) for message in messages] for name in names},
                "given_at": decoded.given_at[fresh],
                "recorded_at": decoded.recorded_at[fresh],
                "value": [message.value for message in messages],
                "entity_id": [decoded.entity_id[row] for row in fresh],
                "status": "pending",
                "extra": [decoded.extra[row] for row in fresh],
            }
            encoded.append(encode_rows(self._dialect, tables.Feedback, columns, len(fresh)))
        return encoded

    def _duplicates(
        self,
        claim: Claim,
        decoded: DecodedTransactions | DecodedEngagements | DecodedFeedback,
        duplicate: npt.NDArray[np.bool_],
        event_id: Sequence[str],
        entity_id: Sequence[str],
    ) -> tuple[list[EncodedRows], npt.NDArray[np.intp]]:
        """Rows of `duplicates`, if there are any, and which rows of the decoded ones are none."""
        if not duplicate.any():
            return [], np.arange(len(decoded))
        repeated = np.flatnonzero(duplicate)
        happened = decoded.given_at if isinstance(decoded, DecodedFeedback) else decoded.occurred_at
        columns = {
            **self._key(claim, decoded.recorded_at[repeated], decoded.offset[repeated]),
            "event_id": [event_id[row] for row in repeated.tolist()],
            "entity_id": [entity_id[row] for row in repeated.tolist()],
            "occurred_at": happened[repeated],
            "recorded_at": decoded.recorded_at[repeated],
        }
        return [encode_rows(self._dialect, tables.Duplicate, columns, len(repeated))], np.flatnonzero(~duplicate)

    def _key(
        self, claim: Claim, recorded_at: npt.NDArray[np.int64], offset: npt.NDArray[np.int64]
    ) -> dict[str, object]:
        return {
            "day": recorded_at // MILLISECONDS_A_DAY,
            "topic_generation": claim.topic_generation,
            "source_partition": claim.partition,
            "source_offset": offset,
        }


def _kept(letter: DeadRecord, part: bytes | None) -> bytes | None:
    return part[:KEPT_BYTES] if part and letter.code == "too_large" else part


def _said(scored: ScoredRows | ShadowRows, rows: npt.NDArray[np.intp]) -> dict[str, Any]:
    """The columns that predictions and shadow predictions have in common."""
    return {
        "score": scored.score[rows],
        "threshold": scored.threshold,
        "flagged": scored.flagged[rows],
        "score_kind": scored.score_kind,
        "model": scored.model,
    }


def _packed(values: npt.NDArray[Any], present: npt.NDArray[np.bool_]) -> list[bytes]:
    """The bytes of each row's values, without those that are not present."""
    if present.all():
        return [row.tobytes() for row in values]
    return [row[some].tobytes() for row, some in zip(values, present, strict=True)]


def _set_hashes(keys: npt.NDArray[np.int64], present: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """int64[n]: the same for the same keys in any order."""
    order = np.argsort(keys, axis=1)
    sets = _packed(np.take_along_axis(keys, order, 1).astype("<i8"), np.take_along_axis(present, order, 1))
    return np.array([xxhash.xxh3_64_intdigest(one) for one in sets], np.uint64).astype(np.int64)


def _taker(rows: npt.NDArray[np.intp], total: int) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Picks the rows out of a list column; all of them at no cost."""
    if len(rows) == total:
        return lambda column: column
    return lambda column: [column[row] for row in rows]


def _printable(text: str) -> str:
    """Error messages quote the record; what SQL cannot store in them is replaced."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()[:1000]
