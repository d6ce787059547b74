"""From decoded columns, scores and decisions to the rows of the SQL tables, encoded once for one database.

The only place, with streams/alert_rows.py and streams/items.py, that knows how a message of the contract lies in the
tables. No I/O.
"""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import xxhash

from storage import tables
from storage.bulk import EncodedRows, SharedTexts, encode_parts, encode_rows
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


Value = TypeVar("Value")


@dataclass(frozen=True)
class Shares:
    """Whose rows of a batch are whose: so many rows belong to each claim, one after the other."""

    claims: Sequence[Claim]
    rows: Sequence[int]

    @property
    def partition(self) -> npt.NDArray[np.int32]:
        """int32[n]: of each row."""
        return np.array([claim.partition for claim in self.claims], np.int32)[self.owner]

    @functools.cached_property
    def owner(self) -> npt.NDArray[np.intp]:
        """intp[n]: which claim each row belongs to."""
        return np.repeat(np.arange(len(self.claims)), self.rows)

    def split(self, picked: npt.NDArray[np.intp], values: Sequence[Value]) -> list[list[Value]]:
        """Values of the picked rows (in order), claim by claim."""
        stops = [0, *itertools.accumulate(self.of(picked))]
        return [list(values[start:stop]) for start, stop in itertools.pairwise(stops)]

    def of(self, picked: npt.NDArray[np.intp]) -> list[int]:
        """How many of the picked rows belong to each claim."""
        counts: list[int] = np.bincount(self.owner[picked], minlength=len(self.claims)).tolist()
        return counts


#: The rows of each claim of a batch.
EncodedShares = list[list[EncodedRows]]


class RowEncoder:
    """Rows for one SQL dialect ("postgresql" or "sqlite"): of a whole batch at once, to be sent claim by claim."""

    def __init__(self, dialect: str) -> None:
        self._dialect = dialect

    def transactions(
        self,
        shares: Shares,
        decoded: DecodedTransactions,
        duplicate: npt.NDArray[np.bool_],
        scored: ScoredRows,
        shadow: ShadowRows | None = None,
    ) -> EncodedShares:
        """Rows of `transactions`, `predictions` and `shadow_predictions` for what is new, of `duplicates` for what is
        not."""
        encoded, fresh = self._duplicates(shares, decoded, duplicate, decoded.event_id, decoded.account_id)
        if len(fresh):
            self._applied(encoded, shares, decoded, fresh, scored, shadow)
        return encoded

    def engagements(
        self,
        shares: Shares,
        decoded: DecodedEngagements,
        duplicate: npt.NDArray[np.bool_],
        made: RecommendedRows | None = None,
    ) -> EncodedShares:
        """Rows of `engagements` for what is new, of `duplicates` for what is not, and of the slates in answer."""
        encoded, fresh = self._duplicates(shares, decoded, duplicate, decoded.event_id, decoded.user_id)
        if len(fresh):
            take = _taker(fresh, len(decoded))
            columns = {
                **_key(shares, decoded.recorded_at, decoded.offset, fresh),
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
            self._add(encoded, tables.Engagement, columns, shares.of(fresh))
        if made is not None:
            self.recommendations(encoded, shares, decoded, made)
        return encoded

    def recommendations(
        self, encoded: EncodedShares, shares: Shares, decoded: DecodedEngagements, made: RecommendedRows
    ) -> None:
        """Adds rows of `recommendations` and `recommendation_items`, under the key of the engagement that each
        answers."""
        recommendation_id = SharedTexts(made.recommendation_id)
        slates = {
            **_key(shares, decoded.recorded_at, decoded.offset, made.row),
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
            **_key(shares, decoded.recorded_at, decoded.offset, row),
            "position": place + 1,
            "recommendation_id": [recommendation_id[one] for one in slate.tolist()],
            "item_id": [item for items in made.item_id for item in items],
            "propensity": made.propensity[slate, place],
            "prefix_propensity": made.prefix[slate, place],
            "score": made.score[slate, place].astype(np.float64, copy=False),
        }
        self._add(encoded, tables.Recommendation, slates, shares.of(made.row))
        self._add(encoded, tables.RecommendationItem, items, shares.of(row))

    def _applied(
        self,
        encoded: EncodedShares,
        shares: Shares,
        decoded: DecodedTransactions,
        fresh: npt.NDArray[np.intp],
        scored: ScoredRows,
        shadow: ShadowRows | None,
    ) -> None:
        take, counts = _taker(fresh, len(decoded)), shares.of(fresh)
        key = _key(shares, decoded.recorded_at, decoded.offset, fresh)
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
        self._add(encoded, tables.Transaction, transactions, counts)
        self._add(encoded, tables.Prediction, predictions, counts)
        if shadow is not None:
            self._add(encoded, tables.ShadowPrediction, {**shared, **_said(shadow, fresh)}, counts)

    def dead_letters(self, claim: Claim, dead: Sequence[DeadRecord]) -> list[EncodedRows]:
        if not dead:
            return []
        every = np.arange(len(dead))
        columns = {
            **_key(
                Shares([claim], [len(dead)]),
                np.array([letter.recorded_at for letter in dead], np.int64),
                np.array([letter.offset for letter in dead], np.int64),
                every,
            ),
            "topic": claim.topic,
            "recorded_at": np.array([letter.recorded_at for letter in dead], np.int64),
            "error_code": [letter.code for letter in dead],
            "error_message": [_printable(letter.message) for letter in dead],
            "record_key": [_kept(letter, letter.key) for letter in dead],
            "payload": [_kept(letter, letter.value) for letter in dead],
            "payload_bytes": np.array([letter.size for letter in dead], np.int64),
            "sha256": [letter.digest for letter in dead],
        }
        return [encode_rows(self._dialect, tables.DeadLetter, columns, len(dead))]

    def feedback(self, claim: Claim, decoded: DecodedFeedback, duplicate: npt.NDArray[np.bool_]) -> list[EncodedRows]:
        """Rows of `feedback` (all pending; the join follows in the same transaction) and of `duplicates`."""
        feedback_id = [message.feedback_id for message in decoded.messages]
        shares = Shares([claim], [len(decoded)])
        (encoded,), fresh = self._duplicates(shares, decoded, duplicate, feedback_id, decoded.entity_id)
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
                **_key(shares, decoded.recorded_at, decoded.offset, fresh),
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
        shares: Shares,
        decoded: DecodedTransactions | DecodedEngagements | DecodedFeedback,
        duplicate: npt.NDArray[np.bool_],
        event_id: Sequence[str],
        entity_id: Sequence[str],
    ) -> tuple[EncodedShares, npt.NDArray[np.intp]]:
        """Rows of `duplicates`, if there are any, and which rows of the decoded ones are none."""
        encoded: EncodedShares = [[] for _ in shares.claims]
        if not duplicate.any():
            return encoded, np.arange(len(decoded))
        repeated = np.flatnonzero(duplicate)
        happened = decoded.given_at if isinstance(decoded, DecodedFeedback) else decoded.occurred_at
        columns = {
            **_key(shares, decoded.recorded_at, decoded.offset, repeated),
            "event_id": [event_id[row] for row in repeated.tolist()],
            "entity_id": [entity_id[row] for row in repeated.tolist()],
            "occurred_at": happened[repeated],
            "recorded_at": decoded.recorded_at[repeated],
        }
        self._add(encoded, tables.Duplicate, columns, shares.of(repeated))
        return encoded, np.flatnonzero(~duplicate)

    def _add(
        self, encoded: EncodedShares, table: type[tables.Base], columns: Mapping[str, Any], counts: Sequence[int]
    ) -> None:
        for own, rows in zip(encoded, encode_parts(self._dialect, table, columns, counts), strict=True):
            if rows.rows:
                own.append(rows)


def _key(
    shares: Shares, recorded_at: npt.NDArray[np.int64], offset: npt.NDArray[np.int64], rows: npt.NDArray[np.intp]
) -> dict[str, object]:
    """The log key of some rows of a batch."""
    owner = shares.owner[rows]
    return {
        "day": recorded_at[rows] // MILLISECONDS_A_DAY,
        "topic_generation": np.array([claim.topic_generation for claim in shares.claims], np.int16)[owner],
        "source_partition": np.array([claim.partition for claim in shares.claims], np.int32)[owner],
        "source_offset": offset[rows],
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
